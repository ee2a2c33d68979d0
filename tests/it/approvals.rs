//! Properties of the rule `approvals`, over random statements of people; and what it reads from a registry. The statements are
//! signed once, in the sandbox.

mod authors;
mod command;
mod kept;
mod listing;
mod told;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use jiff::{SignedDuration, Timestamp};
use promotion_gate::sandbox::{SandboxRegistry, attach_bundle, push_image, push_index};
use promotion_gate_core::gate::{
    Actor, Collected, Decision, Digest, Directory, Evidence, Finding, Group, ImageEvidence,
    KeptRejection, ListedApprovals, Member, Moment, Outcome, People, Person, Policy,
    UnreadableKept, Validity, list_approvals,
};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::facts::{Attached, FACTS, Form, ISSUER, Provenance, judge, promotion, snapshot};
use crate::gate::Gate;
use crate::images::{by_digest, registry};

/// The people of every world, and their groups. `kim` has a key too; each has a second e-mail address and a GitHub login.
const PEOPLE: [(&str, &[&str]); 5] = [
    ("ada", &["left", "all"]),
    ("ben", &["left", "right", "all"]),
    ("cleo", &["right", "all"]),
    ("dan", &["all"]),
    ("kim", &["left", "all"]),
];
const GROUPS: [&str; 3] = ["left", "right", "all"];
const RELEASE_TOOLS: &str =
    "https://github.com/example/release-tools/.github/workflows/change.yml@refs/tags/v1";
const COMMIT: &str = "1111111111111111111111111111111111111111";

static NOW: LazyLock<Timestamp> =
    LazyLock::new(|| Timestamp::from_second(Timestamp::now().as_second()).unwrap());
static IMAGE: LazyLock<Digest> = LazyLock::new(|| Digest::sha256(b"approved"));
/// All statements of these tests.
static STATEMENTS: LazyLock<Vec<Statement>> = LazyLock::new(statements);

/// A statement about the image, signed and verified.
struct Statement {
    what: What,
    evidence: ImageEvidence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// By a person, at a time, for the policy's environment and without limits.
    Approval(&'static str, Timestamp),
    /// An approval with a limit, or one that never counts.
    OtherApproval,
    /// A rejection, or what could be one.
    Rejection,
    /// Provenance or a change record.
    Authors,
}

fn ago(minutes: i64) -> Timestamp {
    *NOW - SignedDuration::from_mins(minutes)
}

fn signed(by: &str, kind: &str, predicate: Value, minutes: i64) -> Attached {
    Attached {
        form: Form::Attestation,
        statement: Some((kind.to_owned(), predicate)),
        at: Some(ago(minutes)),
        ..Attached::by(by)
    }
}

fn word(by: &str, decision: &str, minutes: i64, more: Value) -> Attached {
    let mut predicate = json!({"environment": "production", "decision": decision});
    let fields = more.as_object().cloned().unwrap_or_default();
    predicate.as_object_mut().unwrap().extend(fields);
    signed(by, "approval", predicate, minutes)
}

/// A record of the change, with the GitHub logins of its authors.
fn record(to: &str, logins: &[&str]) -> Attached {
    let authors = logins
        .iter()
        .map(|login| json!({"identity": {"github": {"login": login}}, "role": "opened"}));
    let predicate = json!({
        "repository": {"uri": "https://github.com/example/app"},
        "to": to, "complete": true,
        "commits": [{"sha": to, "authors": []}],
        "authors": authors.collect::<Vec<_>>(),
    });
    signed(RELEASE_TOOLS, "change", predicate, 210)
}

/// Provenance that names the GitHub login of who started the build.
fn started_by(login: &str) -> Attached {
    let but = json!({"invocation": {"environment": {"github_actor": login}}});
    let template = "generator".to_owned();
    Attached {
        form: Form::Attestation,
        provenance: Some(Provenance { template, but }),
        at: Some(ago(220)),
        ..Attached::by("builder")
    }
}

fn statements() -> Vec<Statement> {
    let mut all = Vec::new();
    for (name, _) in PEOPLE {
        let (work, home) = (
            format!("{name}@example.com"),
            format!("{name}@home.example"),
        );
        for (by, minutes) in [(&work, 200), (&home, 100), (&work, 20)] {
            let approval = What::Approval(name, ago(minutes));
            all.push((approval, word(by, "approved", minutes, json!({}))));
        }
        for (by, minutes) in [(&work, 150), (&home, 50)] {
            all.push((What::Rejection, word(by, "rejected", minutes, json!({}))));
        }
        for more in [
            json!({"environment": "staging"}),
            json!({"scopes": {"namespace": "shop"}}),
            json!({"scopes": {"namespace": "other"}}),
            json!({"scopes": {"cluster": "prod"}}),
            json!({"validUntil": ago(30).to_string()}),
        ] {
            all.push((What::OtherApproval, word(&work, "approved", 90, more)));
        }
        all.push((What::Authors, started_by(name)));
        all.push((What::Authors, record(COMMIT, &[name])));
    }
    let by_key = What::Approval("kim", ago(100));
    all.push((by_key, word("key", "approved", 100, json!({}))));
    all.push((What::Rejection, word("key", "rejected", 150, json!({}))));
    all.push((
        What::Rejection,
        word("ben@example.com", "maybe", 40, json!({})),
    ));
    let unlogged = Attached {
        logged: false,
        ..word("ada@example.com", "approved", 100, json!({}))
    };
    all.push((What::OtherApproval, unlogged));
    let of_stranger = word("eve@example.com", "approved", 100, json!({}));
    all.push((What::OtherApproval, of_stranger));
    all.push((What::Authors, started_by("nobody")));
    all.push((What::Authors, record(COMMIT, &["ada", "cleo"])));
    all.push((What::Authors, record(COMMIT, &["nobody"])));
    all.push((What::Authors, record(&"2".repeat(40), &["ben"])));
    let all = all.into_iter().map(|(what, attached)| {
        let mut evidence = ImageEvidence::default();
        FACTS.add(&mut evidence, &IMAGE, &attached);
        assert!(evidence.unaccepted.is_empty(), "{:?}", evidence.unaccepted);
        Statement { what, evidence }
    });
    all.collect()
}

/// The indexes of the statements of which `is` holds.
fn those(is: impl Fn(What) -> bool) -> Vec<usize> {
    let all = STATEMENTS.iter().enumerate();
    let found = all.filter(|(_, statement)| is(statement.what));
    found.map(|(at, _)| at).collect()
}

fn is_approval(at: usize) -> bool {
    matches!(
        STATEMENTS[at].what,
        What::Approval(_, _) | What::OtherApproval
    )
}

/// Approvals without limits, of these people and at these times.
fn approvals(of: &[(&str, i64)]) -> Vec<usize> {
    let find = |(who, minutes): &(&str, i64)| {
        let found = those(
            |what| matches!(what, What::Approval(name, at) if (name, at) == (*who, ago(*minutes))),
        );
        found[0]
    };
    of.iter().map(find).collect()
}

fn directory(people: &[(&str, Vec<&str>)]) -> Arc<People> {
    directory_of(people, Validity::default(), &[Validity::default()])
}

/// A directory in which every person has the same period, and every membership the same periods.
fn directory_of(
    people: &[(&str, Vec<&str>)],
    of_people: Validity,
    of_members: &[Validity],
) -> Arc<People> {
    let person = |name: &str| {
        let email = |domain: &str| json!({"certificate": {"issuer": ISSUER, "email": format!("{name}@{domain}")}});
        let mut identities = vec![
            email("example.com"),
            email("home.example"),
            json!({"github": {"login": name}}),
        ];
        if name == "kim" {
            identities.push(json!({"key": {"pem": FACTS.key.public_pem()}}));
        }
        Person {
            name: name.to_owned(),
            display_name: None,
            identities: identities
                .into_iter()
                .map(|identity| serde_json::from_value(identity).unwrap())
                .collect(),
            validity: of_people,
        }
    };
    let group = |group: &&str| {
        let members = people.iter().filter(|(_, groups)| groups.contains(group));
        Group {
            name: (*group).to_owned(),
            members: members
                .flat_map(|(name, _)| {
                    of_members.iter().map(|validity| Member {
                        person: (*name).to_owned(),
                        validity: *validity,
                    })
                })
                .collect(),
        }
    };
    let directory = Directory {
        people: people.iter().map(|(name, _)| person(name)).collect(),
        groups: GROUPS.iter().map(group).collect(),
        automation: Vec::new(),
    };
    Arc::new(People::merge(&[directory]).unwrap())
}

fn usual_groups() -> Vec<(&'static str, Vec<&'static str>)> {
    PEOPLE.map(|(name, groups)| (name, groups.to_vec())).into()
}

/// A policy, the people whom it knows, and the statements that are attached to the image.
#[derive(Clone, Debug)]
struct World {
    rule: Value,
    people: Arc<People>,
    attached: Vec<usize>,
    /// Statements of this test alone.
    further: Vec<Attached>,
    /// What the cluster keeps about the image: rejections, and what cannot be read.
    kept: (Vec<KeptRejection>, Vec<UnreadableKept>),
}

impl World {
    /// Without authors.
    fn new(mut rule: Value, attached: Vec<usize>) -> World {
        rule["differentFromAuthor"] = json!(false);
        rule["trustRoots"] = json!(["sandbox"]);
        World {
            rule,
            people: directory(&usual_groups()),
            attached,
            further: Vec::new(),
            kept: Default::default(),
        }
    }

    fn policy(&self) -> Policy {
        let builder =
            "https://github.com/example/builders/.github/workflows/build.yml@refs/tags/v*";
        let builders = json!([{"id": {"glob": builder}, "signedBy": by_workflow(builder)}]);
        let provenance =
            json!({"builders": builders, "sources": ["https://github.com/example/app"]});
        FACTS.policy(
            "approved",
            &json!({
                "environment": "production",
                "requirements": [{"digestPinned": {}}, {"approvals": self.rule}, {"provenance": provenance}],
            }),
        )
    }

    /// What the rule says at several times of several lists of statements.
    fn judged(&self, cases: impl IntoIterator<Item = (Timestamp, Vec<usize>)>) -> Vec<Finding> {
        let judged = self.judged_and_listed(cases).into_iter();
        judged.map(|(finding, _)| finding).collect()
    }

    /// The same, with the statements as people read them.
    fn judged_and_listed(
        &self,
        cases: impl IntoIterator<Item = (Timestamp, Vec<usize>)>,
    ) -> Vec<(Finding, ListedApprovals)> {
        let mut promotion = promotion(&[format!("registry.example/app@{}", *IMAGE)]);
        let (image, pin) = promotion.images().next().unwrap();
        let subject = pin.subject(&image.reference).unwrap();
        let mut snapshot = snapshot(vec![self.policy()]);
        snapshot.world.people = Collected::Known(Arc::clone(&self.people));
        let (rejections, unreadable) = &self.kept;
        let kept = &mut snapshot.world;
        kept.rejections.insert(IMAGE.clone(), rejections.clone());
        kept.unreadable_kept
            .insert(IMAGE.clone(), unreadable.clone());
        let mut further = ImageEvidence::default();
        for attached in &self.further {
            FACTS.add(&mut further, &IMAGE, attached);
        }
        assert!(further.unaccepted.is_empty(), "{:?}", further.unaccepted);
        let finding = |(at, attached): (Timestamp, Vec<usize>)| {
            let mut evidence = further.clone();
            for at in attached {
                let statement = &STATEMENTS[at].evidence;
                evidence.statements.extend(statement.statements.clone());
            }
            let evidence = Evidence {
                images: [(subject.clone(), Collected::Known(Arc::new(evidence)))].into(),
                ..Evidence::default()
            };
            promotion.at = at;
            let verdict = judge(&promotion, &evidence, &snapshot);
            let mut findings = verdict.policies()[0].findings().iter();
            let found = findings.find(|finding| finding.rule == "approvals");
            let governing = snapshot.governing(&promotion.change);
            let listed = list_approvals(&promotion, &evidence, &governing).remove(0);
            (found.unwrap().clone(), listed)
        };
        cases.into_iter().map(finding).collect()
    }

    /// What the rule says now, of several lists of statements.
    fn findings(&self, lists: impl IntoIterator<Item = Vec<usize>>) -> Vec<Finding> {
        self.judged(lists.into_iter().map(|attached| (*NOW, attached)))
    }

    fn finding(&self) -> Finding {
        self.findings([self.attached.clone()]).remove(0)
    }

    /// What the rule says at several times.
    fn findings_at(&self, times: impl IntoIterator<Item = Timestamp>) -> Vec<Finding> {
        self.judged(times.into_iter().map(|at| (at, self.attached.clone())))
    }

    /// The statements without the one at a place.
    fn without(&self, place: usize) -> Vec<usize> {
        let mut attached = self.attached.clone();
        attached.remove(place);
        attached
    }

    /// The statements and one more.
    fn with(&self, one: usize) -> Vec<usize> {
        let attached = self.attached.iter().copied();
        attached.chain([one]).collect()
    }
}

fn by_workflow(glob: &str) -> Value {
    json!({"keyless": {"issuer": ISSUER, "identity": {"glob": glob}, "trustRoots": ["sandbox"]}})
}

fn passes(finding: &Finding) -> bool {
    finding.outcome == Outcome::Pass
}

fn seats() -> impl Strategy<Value = Value> {
    let kinds = vec!["left", "right", "all", "dan"];
    let counts = prop::collection::vec(1_u32..=2, kinds.len());
    (subsequence(kinds, 1..=3), counts).prop_map(|(kinds, counts)| {
        let each = kinds
            .into_iter()
            .zip(counts)
            .map(|(kind, count)| match kind {
                "dan" => json!({"person": kind}),
                group => json!({"group": group, "count": count}),
            });
        each.collect()
    })
}

/// `authorsFrom`; half of the policies have none.
fn sources() -> impl Strategy<Value = Vec<Value>> {
    let builder = "https://github.com/example/builders/.github/workflows/build.yml@refs/tags/v*";
    let builders = json!([{"id": {"glob": builder}, "signedBy": by_workflow(builder)}]);
    let sources = vec![
        json!({"provenance": {"builders": builders}}),
        json!({"changeRecord": {"signedBy": by_workflow("https://github.com/example/release-tools/**")}}),
    ];
    prop_oneof![1 => Just(Vec::new()), 1 => subsequence(sources, 1..=2)]
}

/// Worlds with many approvals, few rejections, and usually one statement of the authors for each source.
fn worlds() -> impl Strategy<Value = World> {
    let approvals = those(|what| matches!(what, What::Approval(_, _)));
    let others = those(|what| what == What::OtherApproval);
    let rejections = those(|what| what == What::Rejection);
    let authors = those(|what| what == What::Authors);
    let attached = (
        subsequence(approvals, 0..=8),
        subsequence(others, 0..=4),
        prop_oneof![1 => Just(Vec::new()), 1 => subsequence(rejections, 1..=2)],
        subsequence(authors, 0..=4),
    );
    let attached = attached.prop_map(|(a, b, c, d)| [a, b, c, d].concat());
    let waits = select(vec![None, Some("30m"), Some("90m")]);
    let ages = select(vec![None, Some("2h")]);
    (seats(), sources(), waits, ages, attached.prop_shuffle()).prop_map(
        |(from, sources, wait, age, attached)| {
            let mut world = World::new(json!({"from": from}), attached);
            if !sources.is_empty() {
                world.rule["authorsFrom"] = json!(sources);
                world.rule["differentFromAuthor"] = json!(true);
            }
            for (name, value) in [("minimumAge", wait), ("maximumAge", age)] {
                if let Some(value) = value {
                    world.rule[name] = json!(value);
                }
            }
            world
        },
    )
}

fn run<T: std::fmt::Debug>(
    cases: u32,
    strategy: impl Strategy<Value = T>,
    property: impl Fn(T) -> Result<(), TestCaseError>,
) {
    let mut runner = TestRunner::new(ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner.run(&strategy, property).unwrap();
}

/// How often something happened. A property that is rarely tried shows nothing.
#[derive(Default)]
struct Often(AtomicUsize);

impl Often {
    fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    #[track_caller]
    fn at_least(self, times: usize) {
        let seen = self.0.into_inner();
        assert!(seen >= times, "{seen} times");
    }
}

#[test]
fn the_order_of_statements_never_matters() {
    let (passed, denied) = (Often::default(), Often::default());
    let worlds = worlds().prop_flat_map(|world| {
        let other = Just(world.attached.clone()).prop_shuffle();
        (Just(world), other)
    });
    run(300, worlds, |(world, shuffled)| {
        let said = world.findings([world.attached.clone(), shuffled]);
        prop_assert_eq!(&said[0], &said[1]);
        match passes(&said[0]) {
            true => passed.count(),
            false => denied.count(),
        }
        Ok(())
    });
    passed.at_least(14);
    denied.at_least(14);
}

#[test]
fn an_approval_that_is_added_never_denies_and_one_that_is_removed_never_allows() {
    let (stays, helps) = (Often::default(), Often::default());
    run(100, worlds(), |world| {
        let before = passes(&world.finding());
        let places = (0..world.attached.len()).filter(|place| is_approval(world.attached[*place]));
        let fewer: Vec<_> = places.map(|place| world.without(place)).collect();
        let new = (0..STATEMENTS.len()).filter(|at| is_approval(*at));
        let more: Vec<_> = new.map(|at| world.with(at)).collect();
        for finding in world.findings(fewer) {
            prop_assert!(before || !passes(&finding), "{}", finding.detail);
        }
        for finding in world.findings(more) {
            prop_assert!(!before || passes(&finding), "{}", finding.detail);
            match before {
                true => stays.count(),
                false if passes(&finding) => helps.count(),
                false => {}
            }
        }
        Ok(())
    });
    stays.at_least(14);
    helps.at_least(14);
}

#[test]
fn only_the_removal_of_a_rejection_or_of_evidence_of_authors_turns_a_denial_into_an_allow() {
    let (rejections, authors) = (Often::default(), Often::default());
    run(600, worlds(), |world| {
        if passes(&world.finding()) {
            return Ok(());
        }
        let places = 0..world.attached.len();
        let said = world.findings(places.map(|place| world.without(place)));
        for (at, finding) in world.attached.iter().zip(said) {
            match STATEMENTS[*at].what {
                _ if !passes(&finding) => {}
                What::Rejection => rejections.count(),
                What::Authors => authors.count(),
                what => prop_assert!(false, "{what:?}"),
            }
        }
        Ok(())
    });
    rejections.at_least(1);
    authors.at_least(1);
}

#[test]
fn an_approval_by_a_person_who_has_a_seat_changes_nothing() {
    let tried = Often::default();
    run(100, worlds(), |mut world| {
        // An approval that is later than the person's rejection lifts it, and a new one lasts longer.
        let is_rejection = |at: &usize| STATEMENTS[*at].what == What::Rejection;
        world.attached.retain(|at| !is_rejection(at));
        world.rule.as_object_mut().unwrap().remove("maximumAge");
        let first = |who: &str| {
            let times = world
                .attached
                .iter()
                .filter_map(|at| match STATEMENTS[*at].what {
                    What::Approval(name, at) if name == who => Some(at),
                    _ => None,
                });
            times.min()
        };
        let seats = each_seat(&world.rule["from"], &usual_groups());
        let again = those(|what| match what {
            What::Approval(name, at) => {
                seats.iter().any(|seat| seat.contains(name))
                    && first(name).is_some_and(|first| first <= at)
            }
            _ => false,
        });
        let before = world.finding();
        for finding in world.findings(again.into_iter().map(|at| world.with(at))) {
            prop_assert_eq!(&finding, &before);
            tried.count();
        }
        Ok(())
    });
    tried.at_least(34);
}

#[test]
fn no_set_of_identities_of_one_person_fills_two_seats() {
    let of_one = select(PEOPLE.to_vec()).prop_flat_map(|(who, _)| {
        let all = those(|what| matches!(what, What::Approval(name, _) if name == who));
        let most = all.len();
        (Just(who), seats(), subsequence(all, 0..=most))
    });
    let filled = Often::default();
    run(400, of_one, |(who, from, attached)| {
        let seats = from.as_array().unwrap().iter();
        let seats: u64 = seats.map(|from| from["count"].as_u64().unwrap_or(1)).sum();
        // With the person in every group, and with the groups of every day.
        let in_every_group = PEOPLE.map(|(name, _)| match name == who {
            true => (name, GROUPS.to_vec()),
            false => (name, Vec::new()),
        });
        let everywhere = directory(&in_every_group);
        for people in [everywhere, directory(&usual_groups())] {
            let mut world = World::new(json!({"from": from}), attached.clone());
            world.people = people;
            let passes = passes(&world.finding());
            prop_assert!(!passes || seats == 1);
            if passes {
                filled.count();
            }
        }
        Ok(())
    });
    filled.at_least(7);
}

/// Whether different people can fill all seats, by trying all assignments.
fn can_fill(seats: &[BTreeSet<&str>], free: &BTreeSet<&str>) -> bool {
    let Some((seat, rest)) = seats.split_first() else {
        return true;
    };
    seat.intersection(free).any(|who| {
        let mut free = free.clone();
        free.remove(who);
        can_fill(rest, &free)
    })
}

/// Each seat that the rule asks for, with the people who may fill it.
fn each_seat<'p>(from: &Value, people: &[(&'p str, Vec<&str>)]) -> Vec<BTreeSet<&'p str>> {
    let mut seats = Vec::new();
    for from in from.as_array().unwrap() {
        let may = people
            .iter()
            .filter(|(name, groups)| match from["group"].as_str() {
                Some(group) => groups.contains(&group),
                None => from["person"] == *name,
            });
        let may: BTreeSet<_> = may.map(|(name, _)| *name).collect();
        let count = from["count"].as_u64().unwrap_or(1);
        seats.extend((0..count).map(|_| may.clone()));
    }
    seats
}

#[test]
fn the_rule_passes_exactly_if_some_assignment_of_different_people_fills_all_seats() {
    let memberships = prop::collection::vec(subsequence(GROUPS.to_vec(), 0..=3), PEOPLE.len());
    let approvers = subsequence(PEOPLE.map(|(name, _)| name).to_vec(), 0..=PEOPLE.len());
    let author = prop::option::of(select(PEOPLE.map(|(name, _)| name).to_vec()));
    let source = sources().prop_filter("one source", |sources| sources.len() == 1);
    let cases = (seats(), memberships, approvers, author, source);
    let (passed, denied) = (Often::default(), Often::default());
    run(
        600,
        cases,
        |(from, memberships, approvers, author, source)| {
            let people = PEOPLE.iter().zip(memberships);
            let people: Vec<_> = people.map(|((name, _), groups)| (*name, groups)).collect();
            let approved: Vec<_> = approvers.iter().map(|name| (*name, 100)).collect();
            let mut world = World::new(json!({"from": from}), approvals(&approved));
            world.people = directory(&people);
            let mut free: BTreeSet<&str> = approvers.into_iter().collect();
            if let Some(author) = author {
                world.rule["authorsFrom"] = json!(source);
                world.rule["differentFromAuthor"] = json!(true);
                free.remove(author);
                let index = PEOPLE.iter().position(|(name, _)| *name == author).unwrap();
                // A build that the author started, and the record of the author's change.
                let of_author = &those(|what| what == What::Authors)[2 * index..][..2];
                world.attached.extend(of_author);
            }
            let finding = world.finding();
            let expected = match can_fill(&each_seat(&from, &people), &free) {
                true => {
                    passed.count();
                    "approved"
                }
                false => {
                    denied.count();
                    "approvals-missing"
                }
            };
            prop_assert_eq!(finding.reason, expected, "{}", finding.detail);
            Ok(())
        },
    );
    passed.at_least(21);
    denied.at_least(21);
}

#[test]
fn a_signature_that_counts_is_not_called_refused_because_another_policy_reads_it_otherwise() {
    // The tests verify what the key signed under three anchors, of which the rule asks for one.
    let seats = json!([{"person": "kim"}, {"person": "dan"}]);
    let mut world = World::new(json!({ "from": seats }), Vec::new());
    world.further = vec![word("key", "approved", 100, json!({}))];
    assert_eq!(world.finding().detail, "missing: `dan`; approved by `kim`");
    world.rule["from"] = json!([{"person": "dan"}]);
    let detail = world.finding().detail;
    let why = "missing: `dan`; `kim` does not count: the policy does not ask this person";
    assert!(detail.starts_with(why), "{detail}");
}

#[test]
fn an_approval_by_the_key_of_a_member_of_the_group_counts() {
    let mut world = World::new(json!({"from": [{"group": "left"}]}), Vec::new());
    world.further = vec![word("key", "approved", 100, json!({}))];
    assert_eq!(world.finding().reason, "approved");
}

#[test]
fn what_is_signed_under_a_root_that_the_policy_does_not_accept_neither_approves_nor_blocks() {
    let rule = json!({"from": [{"group": "left"}]});
    for decision in ["approved", "rejected", "maybe"] {
        let mut world = World::new(rule.clone(), Vec::new());
        world.further = vec![word("ada@example.com", decision, 100, json!({}))];
        world.rule["trustRoots"] = json!(["sigstore"]);
        let finding = world.finding();
        assert_eq!(finding.reason, "approvals-missing", "{decision}");
        let why = "signed under a trust root that the policy does not accept for approvals";
        assert!(finding.detail.contains(why), "{}", finding.detail);
    }
}

#[test]
fn a_rejection_blocks_if_the_person_could_approve_when_it_was_signed_or_can_now() {
    let always = Validity::default();
    let periods = [
        (between(ago(300), ago(140)), "rejected"),
        (between(ago(300), ago(150)), "approvals-missing"),
        (between(ago(60), ago(-60)), "rejected"),
        (between(ago(60), ago(0)), "approvals-missing"),
    ];
    for from in [json!({"group": "left"}), json!({"person": "ada"})] {
        for (period, reason) in periods {
            let mut world = World::new(json!({ "from": [from] }), Vec::new());
            world.further = vec![word("ada@example.com", "rejected", 150, json!({}))];
            world.people = directory_of(&usual_groups(), period, &[always]);
            assert_eq!(world.finding().reason, reason, "{from} {period:?}");
            // A later one that does not block any more does not lift it.
            world
                .further
                .push(word("ada@example.com", "rejected", 130, json!({})));
            assert_eq!(world.finding().reason, reason, "{from} {period:?}");
        }
    }
}

#[test]
fn a_rejection_by_a_person_who_may_fill_one_of_several_seats_blocks() {
    let from = json!([{"group": "left"}, {"group": "right"}, {"person": "dan"}]);
    let mut world = World::new(json!({ "from": from }), Vec::new());
    world.further = vec![word("ada@example.com", "rejected", 150, json!({}))];
    assert_eq!(world.finding().reason, "rejected");
}

const AN_INSTANT: SignedDuration = SignedDuration::from_nanos(1);

/// Checks that each reason begins exactly at its time, and the one before it ends there.
#[track_caller]
fn timeline(world: &World, times: &[(Timestamp, &str)]) {
    let mut expected = Vec::new();
    for (at, reason) in times {
        if let Some((_, before)) = expected.last() {
            expected.push((*at - AN_INSTANT, *before));
        }
        expected.push((*at, *reason));
    }
    let said = world.findings_at(expected.iter().map(|(at, _)| *at));
    for ((at, reason), finding) in expected.iter().zip(said) {
        assert_eq!(finding.reason, *reason, "at {at}: {}", finding.detail);
    }
}

#[test]
fn a_review_waits_then_passes_and_then_finds_approvals_too_old() {
    let rule =
        json!({"from": [{"group": "left", "count": 2}], "minimumAge": "30m", "maximumAge": "3h"});
    let world = World::new(rule, approvals(&[("ada", 200), ("ben", 100)]));
    let times = [
        (ago(300), "approvals-missing"),
        // The gate's clock may be five minutes behind that of the log.
        (ago(105), "approved-too-recently"),
        (ago(70), "approved"),
        // An approval may be as old as the maximum.
        (ago(20) + AN_INSTANT, "approvals-missing"),
    ];
    timeline(&world, &times);
}

#[test]
fn the_waiting_time_begins_again_with_a_rejection_and_not_with_the_approval_that_lifts_it() {
    let rule = json!({"from": [{"group": "left"}], "minimumAge": "90m"});
    let mut world = World::new(rule, approvals(&[("ada", 200), ("ben", 100)]));
    let rejected = |minutes| word("ben@example.com", "rejected", minutes, json!({}));
    world.further = vec![rejected(150), rejected(170)];
    let times = [
        (ago(200), "rejected"),
        (ago(105), "approved-too-recently"),
        (ago(60), "approved"),
    ];
    timeline(&world, &times);
    // What was rejected is not approved by that statement.
    world.attached = approvals(&[("ben", 100)]);
    timeline(
        &world,
        &[(ago(105), "approved-too-recently"), (ago(10), "approved")],
    );
}

#[test]
fn of_several_approvals_of_a_person_the_one_that_came_closest_is_explained() {
    let mut world = World::new(
        json!({"from": [{"group": "left"}], "maximumAge": "1h"}),
        approvals(&[("ada", 100)]),
    );
    let elsewhere = word(
        "ada@example.com",
        "approved",
        20,
        json!({"environment": "staging"}),
    );
    world.further = vec![elsewhere];
    let detail = world.finding().detail;
    assert!(
        detail.contains("`ada` does not count: the approval is of"),
        "{detail}"
    );
}

#[test]
fn an_approval_counts_before_its_valid_until_and_not_at_that_time() {
    let mut world = World::new(json!({"from": [{"group": "left"}]}), Vec::new());
    let until = json!({"validUntil": ago(30).to_string()});
    world.further = vec![word("ada@example.com", "approved", 90, until)];
    let times = [
        (ago(200), "approvals-missing"),
        (ago(95), "approved"),
        (ago(30), "approvals-missing"),
    ];
    timeline(&world, &times);
}

/// A period of which both ends are instants.
fn between(from: Timestamp, until: Timestamp) -> Validity {
    Validity::new(Some(Moment::Instant(from)), Some(Moment::Instant(until))).unwrap()
}

#[test]
fn an_approver_is_active_and_in_the_group_at_the_time_of_the_approval_and_of_the_review() {
    let always = Validity::default();
    let at = ago(100);
    let cases = [
        (between(at, ago(50)), ago(50), true),
        (between(at + AN_INSTANT, ago(50)), ago(50), false),
        (between(ago(300), at), ago(50), false),
    ];
    for (period, end, counts) in cases {
        for (person, member) in [(period, always), (always, period)] {
            let rule = json!({"from": [{"group": "left"}]});
            let mut world = World::new(rule, approvals(&[("ada", 100)]));
            world.people = directory_of(&usual_groups(), person, &[member]);
            let while_active = match counts {
                true => "approved",
                false => "approvals-missing",
            };
            timeline(&world, &[(at, while_active)]);
            timeline(&world, &[(end - AN_INSTANT, while_active)]);
            timeline(&world, &[(end, "approvals-missing")]);
        }
    }
}

#[test]
fn of_several_times_the_earliest_limits_the_age_and_the_latest_begins_the_waiting_time() {
    let rule = json!({"from": [{"person": "kim"}], "minimumAge": "10m", "maximumAge": "3h"});
    let mut world = World::new(rule, Vec::new());
    let approval = word("key", "approved", 200, json!({}));
    world.further = vec![Attached {
        also_stamped: Some(ago(40)),
        ..approval
    }];
    let times = [
        (ago(200), "approvals-missing"),
        (ago(45), "approved-too-recently"),
        (ago(30), "approved"),
        (ago(20) + AN_INSTANT, "approvals-missing"),
    ];
    timeline(&world, &times);
    // The person was not yet in the group at the earliest time.
    world.people = directory_of(
        &usual_groups(),
        Validity::default(),
        &[between(ago(100), ago(-60))],
    );
    world.rule["from"] = json!([{"group": "left"}]);
    timeline(&world, &[(ago(30), "approvals-missing")]);
}

#[test]
fn an_approver_is_in_the_group_at_the_latest_time_of_the_approval_too() {
    let mut world = World::new(json!({"from": [{"group": "left"}]}), Vec::new());
    world.further = vec![Attached {
        also_stamped: Some(ago(40)),
        ..word("key", "approved", 200, json!({}))
    }];
    for (until, from, reason) in [
        (150, 100, "approved"),
        (40, 30, "approvals-missing"),
        (100, 39, "approvals-missing"),
        (100, 40, "approved"),
    ] {
        let periods = [between(ago(300), ago(until)), between(ago(from), ago(-60))];
        world.people = directory_of(&usual_groups(), Validity::default(), &periods);
        assert_eq!(world.finding().reason, reason, "{until} {from}");
    }
}

#[test]
fn a_rejection_is_lifted_only_by_an_approval_here_by_certificate_and_after_its_latest_time() {
    let rejected = |by: &str, minutes| word(by, "rejected", minutes, json!({}));
    let stamped_again = Attached {
        also_stamped: Some(ago(40)),
        ..rejected("key", 200)
    };
    let by_mail = "kim@example.com";
    let limited = |scopes: Value| word(by_mail, "approved", 100, json!({ "scopes": scopes }));
    let approved = |by: &str, minutes| word(by, "approved", minutes, json!({}));
    for (rejection, approval, reason) in [
        (stamped_again.clone(), approved(by_mail, 100), "rejected"),
        (stamped_again, approved(by_mail, 20), "approved"),
        (rejected(by_mail, 100), approved(by_mail, 100), "rejected"),
        (rejected(by_mail, 101), approved(by_mail, 100), "approved"),
        // Everyone who has a signature by a key can add a later timestamp to it.
        (rejected(by_mail, 200), approved("key", 100), "rejected"),
        (
            rejected(by_mail, 200),
            limited(json!({"namespace": "shop"})),
            "approved",
        ),
        (
            rejected(by_mail, 200),
            limited(json!({"namespace": "other"})),
            "rejected",
        ),
        (
            rejected(by_mail, 200),
            limited(json!({"cluster": "prod"})),
            "rejected",
        ),
    ] {
        let mut world = World::new(json!({"from": [{"person": "kim"}]}), Vec::new());
        world.further = vec![rejection, approval.clone()];
        assert_eq!(world.finding().reason, reason, "{approval:?}");
    }
}

#[test]
fn of_several_approvals_by_who_rejected_the_last_one_lifts_the_rejection() {
    let by_ada = |decision: &str, minutes| word("ada@example.com", decision, minutes, json!({}));
    let all = [("approved", 200), ("rejected", 100), ("approved", 50)]
        .map(|(decision, minutes)| by_ada(decision, minutes));
    let reversed: Vec<_> = all.iter().rev().cloned().collect();
    for further in [all.to_vec(), reversed] {
        let mut world = World::new(json!({"from": [{"person": "ada"}]}), Vec::new());
        world.further = further;
        assert_eq!(world.finding().reason, "approved");
    }
}

#[test]
fn an_approval_under_any_of_the_accepted_trust_roots_counts() {
    for roots in [
        json!(["sandbox", "sigstore"]),
        json!(["sigstore", "sandbox"]),
    ] {
        let rule = json!({"from": [{"group": "left"}]});
        let mut world = World::new(rule, approvals(&[("ada", 100)]));
        world.rule["trustRoots"] = roots;
        assert_eq!(world.finding().reason, "approved");
    }
}

#[test]
fn an_approval_for_a_cluster_that_may_be_this_one_is_undecided_also_where_the_author_is_unknown() {
    let limited = || {
        word(
            "ada@example.com",
            "approved",
            90,
            json!({"scopes": {"cluster": "prod"}}),
        )
    };
    let mut world = World::new(json!({"from": [{"group": "left"}]}), Vec::new());
    world.further = vec![limited()];
    assert_eq!(world.finding().reason, "scope-unknown");
    world.rule["differentFromAuthor"] = json!(true);
    let tools = by_workflow("https://github.com/example/release-tools/**");
    world.rule["authorsFrom"] = json!([{"changeRecord": {"signedBy": tools}}]);
    assert_eq!(world.finding().reason, "scope-unknown");
    world.further = vec![limited(), started_by("dan"), record(COMMIT, &["ada"])];
    assert_eq!(world.finding().reason, "approvals-missing");
}

#[test]
fn the_waiting_time_begins_when_some_assignment_first_fills_all_seats() {
    let minutes = |text: &str| text.trim_end_matches('m').parse().unwrap();
    let signed = those(|what| matches!(what, What::Approval(_, _)));
    let cases = (
        seats(),
        select(vec!["10m", "30m", "90m"]),
        select(vec!["100m", "150m"]),
        subsequence(signed, 1..=10),
    );
    let seen: [Often; 3] = Default::default();
    let reasons = ["approvals-missing", "approved-too-recently", "approved"];
    run(150, cases, |(from, wait, age, attached)| {
        let rule = json!({"from": from, "minimumAge": wait, "maximumAge": age});
        let world = World::new(rule, attached);
        let given = world.attached.iter().map(|at| match STATEMENTS[*at].what {
            What::Approval(name, at) => (name, at),
            what => panic!("{what:?}"),
        });
        let given: Vec<_> = given.collect();
        let (wait, age) = (minutes(wait), minutes(age));
        let (wait, age) = (
            SignedDuration::from_mins(wait),
            SignedDuration::from_mins(age),
        );
        let skew = SignedDuration::from_mins(5);
        let turns = given
            .iter()
            .flat_map(|(_, at)| [*at - skew, *at + wait, *at + age + AN_INSTANT]);
        let turns: BTreeSet<_> = turns.flat_map(|turn| [turn - AN_INSTANT, turn]).collect();
        let seats = each_seat(&from, &usual_groups());
        let said = world.findings_at(turns.iter().copied());
        for (now, finding) in turns.into_iter().zip(said) {
            let valid = given
                .iter()
                .filter(|(_, at)| *at <= now + skew && now <= *at + age);
            let valid: Vec<_> = valid.collect();
            let is_full_at = |time: Timestamp| {
                let free = valid.iter().filter(|(_, at)| *at <= time);
                can_fill(&seats, &free.map(|(name, _)| *name).collect())
            };
            let full = valid.iter().map(|(_, at)| *at).filter(|at| is_full_at(*at));
            let expected = match full.min() {
                None => 0,
                Some(full) if now < full + wait => 1,
                Some(_) => 2,
            };
            prop_assert_eq!(
                finding.reason,
                reasons[expected],
                "at {}: {}",
                now,
                finding.detail
            );
            seen[expected].count();
        }
        Ok(())
    });
    for seen in seen {
        seen.at_least(17);
    }
}

#[test]
fn a_change_record_counts_with_every_required_field_and_not_before_it_was_signed() {
    let all = json!({
        "repository": {"uri": "https://github.com/example/app"},
        "to": COMMIT, "complete": true,
        "commits": [{"sha": COMMIT, "authors": []}],
        "authors": [{"identity": {"github": {"login": "dan"}}, "role": "opened"}],
        "reason": "a", "securityImpact": "b", "testing": "c", "backOutPlan": "d",
        "reviewers": [{"github": {"login": "cleo"}}],
    });
    let fields = [
        "reason",
        "securityImpact",
        "testing",
        "backOutPlan",
        "reviewers",
    ];
    let tools = by_workflow("https://github.com/example/release-tools/**");
    let source = json!([{"changeRecord": {"signedBy": tools, "requires": fields}}]);
    let reason = |record: &Value, minutes: i64| {
        let rule = json!({"from": [{"group": "left"}]});
        let mut world = World::new(rule, approvals(&[("ada", 100)]));
        world.rule["authorsFrom"] = source.clone();
        world.rule["differentFromAuthor"] = json!(true);
        let record = signed(RELEASE_TOOLS, "change", record.clone(), minutes);
        world.further = vec![started_by("dan"), record];
        world.finding().reason
    };
    assert_eq!(reason(&all, 100), "approved");
    assert_eq!(reason(&all, -30), "author-unknown");
    for field in fields {
        let mut record = all.clone();
        record.as_object_mut().unwrap().remove(field);
        assert_eq!(reason(&record, 100), "author-unknown", "without `{field}`");
    }
}

#[test]
fn a_record_by_a_signer_that_is_no_workflow_says_why_it_does_not_count() {
    let said = |by: &str, source: &str| {
        let rule = json!({"from": [{"group": "left"}]});
        let mut world = World::new(rule, approvals(&[("ada", 100)]));
        world.rule["authorsFrom"] =
            json!([{"changeRecord": {"signedBy": by_workflow("https://**")}}]);
        world.rule["differentFromAuthor"] = json!(true);
        let record = Attached {
            claims: [(9, None), (12, Some(source.to_owned())), (18, None)].into(),
            by: by.to_owned(),
            ..record(COMMIT, &["dan"])
        };
        world.further = vec![started_by("dan"), record];
        world.finding().detail
    };
    let own = "https://github.com/example/app/.github/workflows/change.yml@refs/heads/main";
    let of_itself = "is a workflow of the repository `https://github.com/example/app` itself";
    let without = "claims a source repository and does not name its workflow";
    for (by, source, why) in [
        (own, "https://github.com/example/app", of_itself),
        (
            "https://ci.example/job/7",
            "https://github.com/example/app",
            without,
        ),
        (
            "https://ci.example/job/7",
            "https://github.com/example/other",
            without,
        ),
        ("https://ci.example/job/7", "unreadable", without),
    ] {
        let detail = said(by, source);
        assert!(detail.contains(why), "{by} of {source}: {detail}");
    }
}

/// A gate that asks for the approval of one member of the group `left`.
fn approving(more: Value) -> Gate {
    let mut spec = json!({
        "environment": "production", "uncovered": "Allow", "tags": "Resolve",
        "requirements": [{"approvals": {
            "from": [{"group": "left"}], "differentFromAuthor": false, "trustRoots": ["sandbox"],
        }}],
    });
    let fields = more.as_object().cloned().unwrap_or_default();
    spec.as_object_mut().unwrap().extend(fields);
    let people = directory(&usual_groups());
    Gate::new(FACTS.policy("approved", &spec)).knowing(Arc::unwrap_or_clone(people))
}

fn attach(registry: &SandboxRegistry, image: &Digest, by: &str, decision: &str) {
    let predicate = json!({"environment": "production", "decision": decision});
    let bundle = FACTS.attestation(image, by, ("approval", predicate), None);
    let bundle = serde_json::from_slice(&bundle).unwrap();
    attach_bundle(registry, "app", image, &bundle).unwrap();
}

#[tokio::test]
async fn a_rejection_hidden_among_ten_thousand_referrers_is_undecided() {
    let registry = registry().await;
    let image = push_image(&registry, "app", "v1", "v1").unwrap();
    attach(&registry, &image, "ada@example.com", "approved");
    let name = by_digest(&registry, &image);
    let gate = approving(json!({}));
    assert_eq!(gate.says("approvals", &name).await.1, "approved");
    for number in 0..10_000 {
        if number == 5_000 {
            attach(&registry, &image, "ben@example.com", "rejected");
        }
        attach_bundle(&registry, "app", &image, &json!({ "junk": number })).unwrap();
    }
    let (outcome, reason) = approving(json!({})).says("approvals", &name).await;
    assert_eq!((&*outcome, &*reason), ("undecided", "evidence-partial"));
}

#[tokio::test]
async fn the_keys_of_people_who_may_approve_are_what_their_approvals_are_verified_with() {
    let registry = registry().await;
    let image = push_image(&registry, "app", "v1", "v1").unwrap();
    attach(&registry, &image, "key", "approved");
    let name = by_digest(&registry, &image);
    for (from, reason) in [
        (json!({"group": "left"}), "approved"),
        (json!({"person": "kim"}), "approved"),
        (json!({"group": "right"}), "approvals-missing"),
        (json!({"person": "dan"}), "approvals-missing"),
    ] {
        let approvals =
            json!({"from": [from], "differentFromAuthor": false, "trustRoots": ["sandbox"]});
        let gate = approving(json!({"requirements": [{ "approvals": approvals }]}));
        assert_eq!(gate.says("approvals", &name).await.1, reason, "{from}");
    }
}

#[tokio::test]
async fn the_signer_of_change_records_is_what_they_are_verified_with() {
    let registry = registry().await;
    let image = push_image(&registry, "app", "v1", "v1").unwrap();
    attach(&registry, &image, "ada@example.com", "approved");
    for attached in [
        started_by("dan"),
        Attached {
            by: "key".to_owned(),
            ..record(COMMIT, &["dan"])
        },
    ] {
        let bundle = FACTS.attached(&image, &attached);
        attach_bundle(&registry, "app", &image, &bundle).unwrap();
    }
    let by_key = json!({"key": {"pem": FACTS.key.public_pem(), "trustRoots": ["sandbox"]}});
    let mut world = World::new(json!({"from": [{"person": "ada"}]}), Vec::new());
    world.rule["authorsFrom"] = json!([{"changeRecord": {"signedBy": by_key}}]);
    world.rule["differentFromAuthor"] = json!(true);
    let people = Arc::unwrap_or_clone(Arc::clone(&world.people));
    let gate = Gate::new(world.policy()).knowing(people);
    let name = by_digest(&registry, &image);
    assert_eq!(gate.says("approvals", &name).await.1, "approved");
}

#[tokio::test]
async fn an_approval_of_a_platform_does_not_count_for_the_index() {
    let registry = registry().await;
    let push = |name: &str| push_image(&registry, "app", name, name).unwrap();
    let (amd64, arm64) = (push("amd64"), push("arm64"));
    let both = [(Some("linux/amd64"), &amd64), (Some("linux/arm64"), &arm64)];
    let index = push_index(&registry, "app", "v1", &both).unwrap();
    attach(&registry, &amd64, "ada@example.com", "approved");
    attach(&registry, &arm64, "ada@example.com", "approved");
    let said = async |image: &Digest| {
        let gate = approving(json!({"allowUnsignedIndex": true}));
        gate.says("approvals", &by_digest(&registry, image)).await.1
    };
    assert_eq!(said(&amd64).await, "approved");
    assert_eq!(said(&index).await, "approvals-missing");
    attach(&registry, &index, "ada@example.com", "approved");
    assert_eq!(said(&index).await, "approved");
    // Neither does an approval of the index count for a platform that the manifest names.
    let other = push("other");
    let more = [(Some("linux/amd64"), &other)];
    let index = push_index(&registry, "app", "v2", &more).unwrap();
    attach(&registry, &index, "ada@example.com", "approved");
    assert_eq!(said(&other).await, "approvals-missing");
}

#[tokio::test]
async fn a_rule_that_asks_nothing_of_registries_causes_no_request() {
    let registry = registry().await;
    let image = push_image(&registry, "app", "v1", "v1").unwrap();
    let patterns = json!({"patterns": [format!("{}/**", registry.host())]});
    let spec = json!({"requirements": [{"digestPinned": {}}, {"allowedImages": patterns}]});
    let gate = Gate::new(FACTS.policy("written", &spec));
    let by_tag = format!("{}/app:v1", registry.host());
    for (image, outcome) in [(by_digest(&registry, &image), "pass"), (by_tag, "fail")] {
        assert_eq!(gate.says("digestPinned", &image).await.0, outcome);
        assert_eq!(gate.says("allowedImages", &image).await.0, "pass");
    }
    // Approvals are not asked of a controller that does what follows from a judged change.
    let approving = approving(json!({}));
    let mut change = promotion(&[by_digest(&registry, &image)]).change;
    change.workload.kind = "ReplicaSet".to_owned();
    change.actor = Some(Actor {
        username: "system:serviceaccount:kube-system:deployment-controller".to_owned(),
        groups: Vec::new(),
    });
    let review = approving.review_of(change).await;
    assert_eq!(review.verdict.decision(), Decision::Allow);
    assert_eq!(registry.take_requests(), Vec::<String>::new());
}
