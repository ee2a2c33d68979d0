//! Which review closes an emergency change that was used.

use std::collections::BTreeSet;

use promotion_gate_core::gate::{
    EmergencyParticipants, Evidence, Identity, KeptAuthors, Repository, ReviewSearch, Subject,
    UsedEmergency,
};
use serde_json::{Value, json};

use super::{Case, IMAGE, at, declaration, digest_of, signed};
use crate::facts::Attached;

const REVIEW: &str = "https://promotion-gate.dev/emergency-review/v1";

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn review(by: &str, minutes_ago: i64, more: Value) -> Attached {
    let mut predicate = json!({
        "emergency": digest_of(&declaration(json!({}))),
        "verdict": "justified",
        "reason": "the table was locked",
    });
    let fields = more.as_object().cloned().unwrap_or_default();
    predicate.as_object_mut().unwrap().extend(fields);
    signed(by, REVIEW, predicate, minutes_ago)
}

fn subject() -> Subject {
    Subject {
        repository: Repository::named("registry.example/app"),
        digest: IMAGE.clone(),
    }
}

/// Used 5 minutes ago: declared by ben, agreed to by cleo, asked for by dan.
fn used() -> UsedEmergency {
    UsedEmergency {
        declaration: digest_of(&declaration(json!({}))).parse().unwrap(),
        environment: "production".to_owned(),
        policies: names(&["production"]),
        images: [subject()].into(),
        participants: EmergencyParticipants {
            declared_by: names(&["ben"]),
            agreed_by: names(&["cleo"]),
            authors: names(&["ada"]),
            requesters: BTreeSet::new(),
        },
        requesters: names(&["k8s-dan", "system:serviceaccount:ci:deployer"]),
        last_used: at(-5),
    }
}

fn search_in(case: &Case, used: &UsedEmergency) -> ReviewSearch {
    let (snapshot, evidence) = (case.snapshot(), case.evidence());
    let needs = snapshot.emergency_review_needs(used).unwrap();
    assert!(!needs[&subject()].anchors.is_empty());
    snapshot
        .find_emergency_review(used, &evidence, at(0))
        .unwrap()
}

fn search(review: Attached) -> ReviewSearch {
    search_in(&Case::new().and(review), &used())
}

#[track_caller]
fn refused(review: Attached, expected: &str) {
    let found = search(review);
    assert_eq!(found.counted, None);
    let refused = Vec::from_iter(found.refused);
    assert!(
        refused.len() == 1 && refused[0].contains(expected),
        "{expected}: {refused:?}"
    );
}

#[test]
fn a_person_who_had_no_part_in_it_closes_it() {
    let more = json!({"verdict": "unjustified", "followUps": ["add a test"]});
    let found = search(review("eve@example.com", 2, more));
    let counted = found.counted.unwrap();
    assert_eq!(counted.verdict.id(), "unjustified");
    assert_eq!((counted.reviewer.as_str(), counted.at), ("eve", at(-2)));
    assert_eq!(counted.follow_ups, ["add a test"]);
    assert!(found.refused.is_empty() && found.unread.is_empty());
}

#[test]
fn attack_a_review_by_an_approver_s_second_identity_closes_nothing() {
    refused(
        review("cleo@home.example", 2, json!({})),
        "`cleo` agreed to the emergency change",
    );
    refused(
        review("ben@home.example", 2, json!({})),
        "`ben` declared the emergency change",
    );
}

#[test]
fn attack_a_review_by_an_author_or_by_the_requester_closes_nothing() {
    refused(
        review("ada@example.com", 2, json!({})),
        "`ada` is an author",
    );
    refused(
        review("dan@example.com", 2, json!({})),
        "`dan` asked the cluster",
    );
    // Evidence named eve as an author, and was deleted since.
    let case = Case::new()
        .and(review("eve@example.com", 2, json!({})))
        .knowing(|world| {
            let eve = Identity::KubernetesUser("k8s-eve".to_owned());
            let kept = KeptAuthors {
                identities: vec![eve],
                ..KeptAuthors::default()
            };
            world.authors.insert(IMAGE.clone(), kept);
        });
    let found = search_in(&case, &used());
    assert_eq!(found.counted, None);
    assert_eq!(found.refused.len(), 1);
}

#[test]
fn attack_a_review_by_somebody_who_agreed_and_was_not_counted_closes_nothing() {
    let case = Case::new()
        .and(super::agreed("eve@example.com"))
        .and(review("eve@example.com", 2, json!({})));
    let found = search_in(&case, &used());
    assert_eq!(found.counted, None);
    let refused = Vec::from_iter(found.refused);
    assert!(refused[0].contains("`eve` agreed"), "{refused:?}");
}

#[test]
fn attack_a_review_in_advance_closes_nothing() {
    refused(
        review("eve@example.com", 6, json!({})),
        "before it was used last",
    );
}

#[test]
fn attack_a_review_of_another_emergency_change_or_by_a_stranger_closes_nothing() {
    let other = digest_of(&declaration(json!({"incident": {"id": "INC2"}})));
    let found = search(review("eve@example.com", 2, json!({"emergency": other})));
    assert_eq!((found.counted, found.refused.len()), (None, 0));
    refused(
        review("mallory@example.com", 2, json!({})),
        "the people directory does not list it",
    );
}

#[test]
fn a_review_counts_under_the_trust_roots_of_the_policies_alone() {
    let case = Case::new()
        .emergency("trustRoots", json!(["sigstore"]))
        .and(review("eve@example.com", 2, json!({})));
    let snapshot = case.snapshot();
    let found = snapshot.find_emergency_review(&used(), &case.evidence(), at(0));
    let found = found.unwrap();
    assert_eq!(found.counted, None);
    assert_eq!(found.refused.len(), 1);
}

#[test]
fn without_people_or_a_policy_no_review_can_be_verified() {
    let case = Case::new().and(review("eve@example.com", 2, json!({})));
    let mut snapshot = case.snapshot();
    snapshot.policies.clear();
    let why = snapshot.emergency_review_needs(&used()).unwrap_err();
    assert!(why.contains("`production`"), "{why}");
    let find = snapshot.find_emergency_review(&used(), &Evidence::default(), at(0));
    assert!(find.is_err());
}

#[test]
fn a_policy_that_is_gone_leaves_the_others_of_the_environment() {
    let mut used = used();
    used.policies = names(&["gone"]);
    let case = Case::new().and(review("eve@example.com", 2, json!({})));
    assert!(search_in(&case, &used).counted.is_some());
}

#[test]
fn of_several_reviews_the_first_one_counts_and_unread_evidence_is_told() {
    let case = Case::new()
        .and(review(
            "eve@example.com",
            1,
            json!({"verdict": "justified"}),
        ))
        .and(review(
            "eve@home.example",
            3,
            json!({"verdict": "inconclusive"}),
        ));
    let found = search_in(&case, &used());
    assert_eq!(found.counted.unwrap().verdict.id(), "inconclusive");
    let snapshot = case.snapshot();
    let found = snapshot.find_emergency_review(&used(), &Evidence::default(), at(0));
    let found = found.unwrap();
    assert_eq!((found.counted, found.unread.len()), (None, 1));
}
