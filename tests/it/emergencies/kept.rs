//! Rejections and closures of emergency changes that the cluster keeps, because deleting them in a registry must not let a change pass.

use promotion_gate_core::gate::{
    Collected, Evidence, KeptRejection, Unavailability, evidence_to_keep,
};
use serde_json::{Value, json};

use super::{CHANGE, CLOSURE, Case, IMAGE, at, declaration, declared, digest_of, signed, word};
use crate::facts::Attached;

/// A statement of `dan`, who may agree to emergency changes and approves nothing, and the usual emergency change.
fn said(decision: &str, minutes_ago: i64, more: Value) -> Attached {
    word("dan@example.com", decision, minutes_ago, more)
}

/// What has to be kept of a case.
fn to_keep(case: &Case) -> Vec<KeptRejection> {
    to_keep_of(case, &case.evidence())
}

/// What has to be kept of a case of which this evidence is read.
fn to_keep_of(case: &Case, evidence: &Evidence) -> Vec<KeptRejection> {
    let (promotion, snapshot) = (case.promotion(), case.snapshot());
    let governing = snapshot.governing(&promotion.change);
    let kept = evidence_to_keep(&promotion, evidence, &governing);
    let kept = kept.rejections.into_iter().map(|(digest, kept)| {
        assert_eq!(digest, *IMAGE);
        kept
    });
    kept.collect()
}

/// The same case in a cluster that keeps these rejections.
fn with_kept(case: Case, kept: Vec<KeptRejection>) -> Case {
    case.knowing(move |world| {
        world.rejections.insert(IMAGE.clone(), kept.clone());
    })
}

/// The rejection of the usual emergency change, three minutes ago, as it has to be kept.
fn of_declaration(person: &str, reason: &str) -> KeptRejection {
    KeptRejection {
        name: String::new(),
        environment: "production".to_owned(),
        namespace: None,
        emergency: Some(digest_of(&declaration(json!({}))).parse().unwrap()),
        is_closure: false,
        person: person.to_owned(),
        at: at(-3),
        reason: Some(reason.to_owned()),
    }
}

/// A rejection as it is in the cluster.
fn named(kept: &KeptRejection) -> KeptRejection {
    KeptRejection {
        name: "rejection-1".to_owned(),
        ..kept.clone()
    }
}

fn of_digest() -> Value {
    json!({"emergency": null, "reason": "a wrong base image"})
}

#[test]
fn a_rejection_of_a_declaration_that_is_deleted_from_the_registry_still_blocks_it() {
    let rejected = Case::new().and(said("rejected", 3, json!({"reason": "no"})));
    rejected.denied("emergency-rejected", "`dan` rejected it");
    let kept = to_keep(&rejected);
    assert_eq!(kept, [of_declaration("dan", "no")]);
    let named = vec![named(&kept[0])];
    let deleted = with_kept(Case::new(), named.clone());
    deleted.denied("emergency-rejected", "`dan` rejected it on ");
    let verdict = deleted.judge();
    let findings = verdict.policies()[0].findings().iter();
    let hints: Vec<_> = findings.filter_map(|it| it.hint.as_deref()).collect();
    let names_it = hints.iter().any(|hint| hint.contains("`rejection-1`"));
    assert!(names_it, "{hints:?}");
    // Kept once, and again only if it is given again.
    assert_eq!(to_keep(&with_kept(rejected, named.clone())), []);
    let again = Case::new().and(said("rejected", 1, json!({})));
    assert_eq!(to_keep(&with_kept(again, named.clone())).len(), 1);
    // The same person lifts it, later and with a certificate.
    let lifted = with_kept(Case::new().and(said("approved", 1, json!({}))), named);
    lifted.passes();
}

#[test]
fn a_rejection_of_a_digest_by_a_person_who_may_only_agree_to_emergency_changes_is_kept() {
    let rejected = Case::new().and(said("rejected", 3, of_digest()));
    let kept = to_keep(&rejected);
    let about: Vec<_> = kept.iter().map(|it| (&*it.person, &it.emergency)).collect();
    assert_eq!(about, [("dan", &None)]);
    let deleted = with_kept(Case::new(), kept);
    deleted.denied("emergency-rejected", "`dan` rejected this digest");
    // It is seen while no emergency change is declared yet.
    let mut early = Case::with(vec![said("rejected", 3, of_digest())]);
    assert_eq!(to_keep(&early).len(), 1);
    early.kind = promotion_gate_core::gate::ChangeKind::Upkeep { recorded: false };
    assert_eq!(to_keep(&early), []);
}

#[test]
fn a_kept_rejection_of_one_declaration_blocks_no_other_one_and_no_approval() {
    let kept = to_keep(&Case::new().and(said("rejected", 3, json!({}))));
    assert_eq!(kept.len(), 1);
    // `cleo` approves for the policy, so that no emergency change is needed.
    let other = KeptRejection {
        person: "cleo".to_owned(),
        ..kept[0].clone()
    };
    let approved = word(
        "cleo@example.com",
        "approved",
        3,
        json!({"emergency": null}),
    );
    let mut case = with_kept(Case::with(vec![approved]), vec![other]);
    let verdict = case.judge();
    assert_eq!(
        verdict.decision(),
        promotion_gate_core::gate::Decision::Allow
    );
    let elsewhere = json!({"reason": "another one"});
    let named = digest_of(&declaration(elsewhere.clone()));
    let agreed = word(
        "cleo@example.com",
        "approved",
        5,
        json!({"emergency": named}),
    );
    case = with_kept(
        Case::with(vec![declared("ben@example.com", elsewhere), agreed]),
        kept,
    );
    case.passes();
}

#[test]
fn attack_rejections_of_declarations_that_nobody_made_or_by_others_fill_no_cluster() {
    let nobody_made = digest_of(&declaration(json!({"reason": "never declared"})));
    let lifted = Case::new().and(said("rejected", 3, json!({})));
    for case in [
        Case::new().and(said("rejected", 3, json!({"emergency": nobody_made}))),
        Case::new().and(word("eve@example.com", "rejected", 3, json!({}))),
        Case::new().and(said(
            "rejected",
            3,
            json!({"scopes": {"cluster": "another"}}),
        )),
        Case::new().and(said(
            "rejected",
            3,
            json!({"scopes": {"moonPhase": "full"}}),
        )),
        Case::new().and(said("approved", 3, json!({}))),
        lifted.and(said("approved", 1, json!({}))),
    ] {
        assert_eq!(to_keep(&case), []);
    }
}

/// The end of the usual emergency change.
fn closed(by: &str, minutes_ago: i64) -> Attached {
    let predicate = json!({"emergency": digest_of(&declaration(json!({}))), "reason": "mended"});
    signed(by, CLOSURE, predicate, minutes_ago)
}

#[test]
fn attack_a_closure_that_is_deleted_from_the_registry_still_ends_the_emergency_change() {
    let closed_twice = Case::new()
        .and(closed("dan@example.com", 2))
        .and(closed("ben@example.com", 3));
    closed_twice.denied("emergency-closed", "ended it on");
    let kept = to_keep(&closed_twice);
    let expected = KeptRejection {
        is_closure: true,
        ..of_declaration("ben", "mended")
    };
    assert_eq!(kept, [expected]);
    let named = vec![named(&kept[0])];
    let deleted = || with_kept(Case::new(), named.clone());
    deleted().denied("emergency-closed", "`ben` ended it on ");
    deleted().denied("emergency-closed", "the `Rejection` `rejection-1`");
    // It is kept once, whoever closes it again, and nobody can agree to it any more.
    assert_eq!(to_keep(&with_kept(closed_twice, named.clone())), []);
    let agrees = |by: &str| deleted().and(word(by, "approved", 1, json!({})));
    for by in ["ben@example.com", "dan@example.com"] {
        agrees(by).denied("emergency-closed", "`ben` ended it on ");
    }
}

#[test]
fn attack_a_signature_that_gave_the_right_to_close_is_deleted_and_the_closure_still_counts() {
    // `eve` may not agree to it, and closes it as the first who signed the declaration.
    let by_eve = declared("eve@example.com", json!({}));
    let mut case = Case::new().and(closed("eve@example.com", 2));
    case.attached.push(Attached {
        at: Some(at(-20)),
        ..by_eve
    });
    case.denied("emergency-closed", "`eve` ended it");
    let kept = to_keep(&case);
    assert_eq!(kept.len(), 1);
    with_kept(Case::new(), kept).denied("emergency-closed", "`eve` ended it");
}

#[test]
fn attack_a_person_whom_one_policy_names_ends_no_emergency_change_under_another_policy() {
    let closed_by_dan = || Case::new().and(closed("dan@example.com", 2));
    let kept = to_keep(&closed_by_dan());
    let about: Vec<_> = kept
        .iter()
        .map(|it| (&*it.person, it.namespace.as_deref()))
        .collect();
    assert_eq!(about, [("dan", Some("shop"))]);
    let mut seen_elsewhere = kept.clone();
    seen_elsewhere[0].namespace = Some("billing".to_owned());
    let other_policy = || Case::new().emergency("from", json!([{"group": "reviewers"}]));
    for kept in [kept.clone(), seen_elsewhere.clone()] {
        // Deleting it revives nothing where `from` names the person, whatever the namespace in which it was seen.
        with_kept(Case::new(), kept.clone()).denied("emergency-closed", "`dan` ended it on ");
        assert_eq!(to_keep(&with_kept(closed_by_dan(), kept.clone())), []);
        with_kept(other_policy(), kept).passes();
    }
    // What another policy's person closed does not count here, so that the closure of this policy's person is kept too.
    let by_another = KeptRejection {
        person: "eve".to_owned(),
        ..kept[0].clone()
    };
    let case = with_kept(closed_by_dan(), vec![by_another]);
    assert_eq!(to_keep(&case), kept);
    // A governor can name a person whom the directory does not list, in one namespace.
    let unlisted = |kept: &[KeptRejection]| {
        let by_zoe = KeptRejection {
            person: "zoe".to_owned(),
            ..kept[0].clone()
        };
        with_kept(Case::new(), vec![by_zoe])
    };
    unlisted(&kept).denied("emergency-closed", "`zoe` ended it on ");
    unlisted(&seen_elsewhere).passes();
}

#[test]
fn attack_declarations_to_which_nobody_agreed_and_their_closures_fill_no_cluster() {
    let own = || declaration(json!({"reason": "written to be closed"}));
    let id = digest_of(&own());
    let case = || {
        let closure = json!({"emergency": id});
        Case::new()
            .and(signed("eve@example.com", CHANGE, own(), 10))
            .and(signed("eve@example.com", CLOSURE, closure, 2))
    };
    assert_eq!(to_keep(&case()), []);
    let agreed = word("cleo@example.com", "approved", 5, json!({"emergency": id}));
    let people: Vec<_> = to_keep(&case().and(agreed))
        .into_iter()
        .map(|it| (it.person, it.namespace))
        .collect();
    assert_eq!(people, [("eve".to_owned(), None)]);
}

#[test]
fn attack_hiding_the_first_signature_of_a_declaration_lets_nobody_else_end_it_for_good() {
    let partly_read = |by: &str| {
        // `eve` signs the text of `ben` again; it is not known whether an earlier signature is among what cannot be read.
        let agreed = word("cleo@example.com", "approved", 5, json!({}));
        let case = Case::with(vec![agreed])
            .and(declared("eve@example.com", json!({})))
            .and(closed(by, 2));
        assert_eq!(to_keep(&case).len(), 1);
        let mut evidence = case.evidence();
        for collected in evidence.images.values_mut() {
            let read = collected.value().unwrap().clone();
            let why = vec![Unavailability("the registry does not answer".to_owned())];
            *collected = Collected::Partial(read, why);
        }
        to_keep_of(&case, &evidence)
    };
    assert_eq!(partly_read("eve@example.com"), []);
    // Whom `from` names needs no signature of the declaration.
    assert_eq!(partly_read("dan@example.com").len(), 1);
}

#[test]
fn a_kept_closure_ends_one_emergency_change_here_and_blocks_no_approval() {
    let kept = to_keep(&Case::new().and(closed("ben@example.com", 3)));
    let mut of_another = kept.clone();
    of_another[0].emergency = Some(promotion_gate_core::gate::Digest::sha256(b"another"));
    let mut of_staging = kept.clone();
    of_staging[0].environment = "staging".to_owned();
    for elsewhere in [of_another, of_staging] {
        with_kept(Case::new(), elsewhere).passes();
    }
    let by_reviewer = KeptRejection {
        person: "cleo".to_owned(),
        ..kept[0].clone()
    };
    let approved = json!({"emergency": null});
    let approved = word("cleo@example.com", "approved", 1, approved);
    let case = with_kept(Case::with(vec![approved]), vec![by_reviewer]);
    let decision = case.judge().decision();
    assert_eq!(decision, promotion_gate_core::gate::Decision::Allow);
}

#[test]
fn attack_closures_of_declarations_that_nobody_made_or_by_others_fill_no_cluster() {
    let nobody_made = digest_of(&declaration(json!({"reason": "never declared"})));
    let expired = json!({"expires": at(-1).to_string()});
    let of = |declaration: String| {
        let predicate = json!({"emergency": declaration});
        signed("ben@example.com", CLOSURE, predicate, 2)
    };
    for case in [
        Case::new().and(of(nobody_made)),
        Case::new().and(closed("eve@example.com", 2)),
        Case::new().and(closed("stranger@example.com", 2)),
        Case::new()
            .and(declared("ben@example.com", expired.clone()))
            .and(of(digest_of(&declaration(expired)))),
    ] {
        assert_eq!(to_keep(&case), []);
    }
}
