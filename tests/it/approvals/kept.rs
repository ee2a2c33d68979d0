//! What evidence says that the cluster has to keep, because deleting it in a registry would turn a denial.

use std::sync::Arc;

use promotion_gate_core::gate::{
    self, Collected, Evidence, EvidenceToKeep, Identity, ImageEvidence, KeptRejection, MayBe,
    Outcome, SourcePlatform, Unavailability, UnreadableKept, World as Known, evidence_to_keep,
};
use serde_json::{Value, json};

use super::{
    COMMIT, IMAGE, NOW, World, ago, approvals, by_workflow, record, signed, started_by, word,
};
use crate::facts::{Attached, FACTS, judge, promotion, snapshot};

/// What has to be kept of these statements, where the cluster knows `known`.
fn to_keep(rule: Value, further: Vec<Attached>, known: impl Fn(&mut Known)) -> EvidenceToKeep {
    let is_about_authors = rule.get("authorsFrom").is_some();
    let mut world = World::new(rule, Vec::new());
    world.rule["differentFromAuthor"] = json!(is_about_authors);
    let mut promotion = promotion(&[format!("registry.example/app@{}", *IMAGE)]);
    promotion.at = *NOW;
    let (image, pin) = promotion.images().next().unwrap();
    let subject = pin.subject(&image.reference).unwrap();
    let mut snapshot = snapshot(vec![world.policy()]);
    snapshot.world.people = Collected::Known(Arc::clone(&world.people));
    known(&mut snapshot.world);
    let mut attached = ImageEvidence::default();
    for statement in &further {
        FACTS.add(&mut attached, &IMAGE, statement);
    }
    assert!(attached.unaccepted.is_empty(), "{:?}", attached.unaccepted);
    let evidence = Evidence {
        images: [(subject, Collected::Known(Arc::new(attached)))].into(),
        ..Evidence::default()
    };
    evidence_to_keep(
        &promotion,
        &evidence,
        &snapshot.governing(&promotion.change),
    )
}

fn rejections(further: Vec<Attached>, known: impl Fn(&mut Known)) -> Vec<KeptRejection> {
    let rule = json!({"from": [{"group": "left"}]});
    let kept = to_keep(rule, further, known).rejections.into_iter();
    let about_image = |(digest, rejection)| {
        assert_eq!(digest, *IMAGE);
        rejection
    };
    kept.map(about_image).collect()
}

fn rejected(by: &str, minutes: i64, more: Value) -> Attached {
    word(by, "rejected", minutes, more)
}

#[test]
fn a_rejection_by_who_may_approve_is_kept_with_its_time_and_reason() {
    let reason = json!({"reason": "it leaks"});
    let kept = rejections(vec![rejected("ada@example.com", 50, reason)], |_| {});
    let expected = KeptRejection {
        name: String::new(),
        environment: "production".to_owned(),
        namespace: None,
        emergency: None,
        is_closure: false,
        person: "ada".to_owned(),
        at: ago(50),
        reason: Some("it leaks".to_owned()),
    };
    assert_eq!(kept, [expected]);
}

#[test]
fn what_does_not_block_here_is_not_kept() {
    let scoped = |scopes: Value| rejected("ada@example.com", 50, json!({"scopes": scopes}));
    for further in [
        vec![rejected("eve@example.com", 50, json!({}))],
        // May not approve.
        vec![rejected("dan@example.com", 50, json!({}))],
        vec![rejected(
            "ada@example.com",
            50,
            json!({"environment": "staging"}),
        )],
        vec![word("ada@example.com", "approved", 50, json!({}))],
        vec![scoped(json!({"cluster": "another"}))],
        // Lifted.
        vec![
            rejected("ada@example.com", 50, json!({})),
            word("ada@example.com", "approved", 20, json!({})),
        ],
        vec![scoped(json!({"namespace": "another"}))],
    ] {
        assert_eq!(rejections(further, |_| {}), []);
    }
}

#[test]
fn a_rejection_of_one_namespace_is_kept_for_that_namespace() {
    let further = |more: Value| vec![rejected("ada@example.com", 50, more)];
    let scoped = further(json!({"scopes": {"namespace": "shop"}}));
    let kept = rejections(scoped.clone(), |_| {});
    let namespaces: Vec<_> = kept.iter().map(|it| it.namespace.as_deref()).collect();
    assert_eq!(namespaces, [Some("shop")]);
    let known = |world: &mut Known| {
        world.rejections.insert(IMAGE.clone(), kept.clone());
    };
    assert_eq!(rejections(scoped, known), []);
    // One for all namespaces says more.
    assert_eq!(rejections(further(json!({})), known).len(), 1);
}

#[test]
fn a_rejection_is_kept_again_only_if_it_is_given_again() {
    let given = |minutes| vec![rejected("ada@example.com", minutes, json!({}))];
    let known = |world: &mut Known| {
        let kept = rejections(given(50), |_| {});
        world.rejections.insert(IMAGE.clone(), kept);
    };
    assert_eq!(rejections(given(50), known), []);
    assert_eq!(rejections(given(60), known), []);
    assert_eq!(rejections(given(20), known).len(), 1);
    let by_another = vec![rejected("ben@example.com", 50, json!({}))];
    assert_eq!(rejections(by_another, known).len(), 1);
}

fn from_records() -> Value {
    let tools = by_workflow("https://github.com/example/release-tools/**");
    json!({"from": [{"group": "left"}], "authorsFrom": [{"changeRecord": {"signedBy": tools}}]})
}

fn github(login: &str) -> Identity {
    Identity::account(SourcePlatform::GitHub, None, login, None).unwrap()
}

#[test]
fn authors_are_kept_with_the_statements_that_name_them() {
    let further = || vec![started_by("dan"), record(COMMIT, &["ada", "nobody"])];
    let kept = to_keep(from_records(), further(), |_| {}).authors;
    let authors = &kept[&*IMAGE];
    assert_eq!(
        authors.identities,
        [github("ada"), github("dan"), github("nobody")]
    );
    assert_eq!(authors.statements.len(), 2);

    let known = |world: &mut Known| {
        world.authors.insert(IMAGE.clone(), authors.clone());
    };
    assert!(to_keep(from_records(), further(), known).is_empty());
    let one_more = [further(), vec![record(COMMIT, &["cleo"])]].concat();
    let kept = to_keep(from_records(), one_more, known).authors;
    assert!(kept[&*IMAGE].identities.contains(&github("cleo")));
}

#[test]
fn a_deployer_or_a_signer_of_anything_else_is_not_kept_as_an_author() {
    let mut rule = from_records();
    rule["deployerIsAuthor"] = json!(true);
    let by_stranger = signed(
        "https://github.com/example/app/.github/workflows/ci.yml@refs/heads/main",
        "change",
        json!({
            "repository": {"uri": "https://github.com/example/app"}, "to": COMMIT, "complete": true,
            "commits": [{"sha": COMMIT, "authors": []}],
            "authors": [{"identity": {"github": {"login": "ada"}}, "role": "opened"}],
        }),
        50,
    );
    let kept = to_keep(rule, vec![by_stranger], |_| {});
    assert_eq!(kept, EvidenceToKeep::default());
}

#[test]
fn upkeep_keeps_nothing_anew() {
    let kept = |kind| {
        let mut promotion = promotion(&[format!("registry.example/app@{}", *IMAGE)]);
        promotion.kind = kind;
        promotion.at = *NOW;
        let (image, pin) = promotion.images().next().unwrap();
        let subject = pin.subject(&image.reference).unwrap();
        let world = World::new(json!({"from": [{"group": "left"}]}), Vec::new());
        let mut snapshot = snapshot(vec![world.policy()]);
        snapshot.world.people = Collected::Known(Arc::clone(&world.people));
        let mut attached = ImageEvidence::default();
        FACTS.add(
            &mut attached,
            &IMAGE,
            &rejected("ada@example.com", 50, json!({})),
        );
        let evidence = Evidence {
            images: [(subject, Collected::Known(Arc::new(attached)))].into(),
            ..Evidence::default()
        };
        evidence_to_keep(
            &promotion,
            &evidence,
            &snapshot.governing(&promotion.change),
        )
    };
    assert!(!kept(gate::ChangeKind::Deploy).is_empty());
    assert!(kept(gate::ChangeKind::Upkeep { recorded: false }).is_empty());
}

#[test]
fn approvals_are_undecided_while_more_is_kept_than_is_read() {
    let mut world = World::new(json!({"from": [{"group": "left"}]}), Vec::new());
    world.further = vec![word("ada@example.com", "approved", 100, json!({}))];
    let mut promotion = promotion(&[format!("registry.example/app@{}", *IMAGE)]);
    promotion.at = *NOW;
    let (image, pin) = promotion.images().next().unwrap();
    let subject = pin.subject(&image.reference).unwrap();
    let mut snapshot = snapshot(vec![world.policy()]);
    snapshot.world.people = Collected::Known(Arc::clone(&world.people));
    let mut outcome = |attached: &[Attached], kept_partly: Option<&str>| {
        let mut evidence = ImageEvidence::default();
        for statement in attached {
            FACTS.add(&mut evidence, &IMAGE, statement);
        }
        let evidence = Evidence {
            images: [(subject.clone(), Collected::Known(Arc::new(evidence)))].into(),
            ..Evidence::default()
        };
        snapshot.world.kept_partly = kept_partly.map(|why| Unavailability(why.to_owned()));
        let verdict = judge(&promotion, &evidence, &snapshot);
        let mut findings = verdict.policies()[0].findings().iter();
        let found = findings.find(|finding| finding.rule == "approvals");
        let found = found.unwrap();
        (found.outcome, found.reason)
    };
    let partly = Some("there are more than 20000");
    assert_eq!(outcome(&world.further, None).0, Outcome::Pass);
    let undecided = outcome(&world.further, partly);
    assert_eq!(undecided, (Outcome::Undecided, "kept-evidence-unreadable"));
    // A denial needs nothing of what was not read.
    assert_eq!(outcome(&[], partly), outcome(&[], None));
}

/// A change that `ada` approved, with what the cluster keeps.
fn approved(rejections: Vec<KeptRejection>, unreadable: Vec<UnreadableKept>) -> World {
    let mut world = World::new(
        json!({"from": [{"group": "left"}]}),
        approvals(&[("ada", 100)]),
    );
    world.rule["differentFromAuthor"] = json!(false);
    world.kept = (rejections, unreadable);
    world
}

#[test]
fn a_kept_rejection_of_a_namespace_blocks_there_alone() {
    let rejection = |namespace: Option<&str>| KeptRejection {
        name: "by-ben".to_owned(),
        environment: "production".to_owned(),
        namespace: namespace.map(str::to_owned),
        emergency: None,
        is_closure: false,
        person: "ben".to_owned(),
        at: ago(10),
        reason: None,
    };
    for (namespace, reason) in [
        (None, "rejected"),
        (Some("shop"), "rejected"),
        (Some("another"), "approved"),
    ] {
        let world = approved(vec![rejection(namespace)], Vec::new());
        assert_eq!(world.finding().reason, reason, "{namespace:?}");
    }
}

#[test]
fn what_is_kept_and_cannot_be_read_may_be_a_rejection_or_name_an_author() {
    let unreadable = |may_be| UnreadableKept {
        resource: "the Rejection `typo`".to_owned(),
        may_be,
        why: "unknown field `persn`".to_owned(),
    };
    let elsewhere = MayBe::Rejection(Some("staging".to_owned()));
    let here = MayBe::Rejection(Some("production".to_owned()));
    for (may_be, reason) in [
        (MayBe::Rejection(None), "kept-evidence-unreadable"),
        (here, "kept-evidence-unreadable"),
        (elsewhere, "approved"),
        // The policy accepts approvals by authors.
        (MayBe::Authors, "approved"),
    ] {
        let finding = approved(Vec::new(), vec![unreadable(may_be.clone())]).finding();
        assert_eq!(finding.reason, reason, "{may_be:?} {}", finding.detail);
        let names_it = finding.detail.contains("the Rejection `typo`");
        assert_eq!(names_it, reason != "approved");
    }
    let mut world = super::authors::recorded(vec![record(COMMIT, &["dan"])]);
    assert_eq!(world.finding().reason, "approved");
    world.kept.1.push(unreadable(MayBe::Authors));
    assert_eq!(world.finding().reason, "kept-evidence-unreadable");
}
