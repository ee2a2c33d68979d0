use std::sync::Arc;

use serde_json::json;

use super::super::age::Age;
use super::super::evidence::Collected;
use super::super::glob::Glob;
use super::super::people::{Directory, People, Person, Validity};
use super::super::policy::{Enforcement, LabelSelector, NamespaceMatch, Policy, Uncovered};
use super::super::snapshot::Unreadable;
use super::*;

const ADMIN: &str = "admin@example.com";
const GATE: &str = "system:serviceaccount:promotion-gate:promotion-gate";

fn actor(username: &str, groups: &[&str]) -> Actor {
    Actor {
        username: username.to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
    }
}

fn object(kind: &str, spec: Value) -> Value {
    json!({"apiVersion": "promotion-gate.dev/v1alpha1", "kind": kind, "metadata": {"name": "one"}, "spec": spec})
}

fn change(kind: &str, before: Value, after: Value, by: Actor) -> GovernanceChange {
    let operation = match (before.is_null(), after.is_null()) {
        (true, _) => GovernanceOperation::Create,
        (_, true) => GovernanceOperation::Delete,
        _ => GovernanceOperation::Update,
    };
    GovernanceChange {
        id: "u-1".to_owned(),
        operation,
        kind: match kind {
            "Namespace" => GovernedKind::Namespace,
            kind => GovernedKind::of_resource(kind),
        },
        name: "one".to_owned(),
        before,
        after,
        actor: by,
        dry_run: false,
        unreadable: None,
    }
}

/// With one governor, the group `platform`, and alice as the person of a Kubernetes user.
fn snapshot() -> Snapshot {
    let alice = Identity::KubernetesUser("alice@example.com".to_owned());
    let people = People::merge(&[Directory {
        people: vec![Person {
            name: "alice".to_owned(),
            display_name: None,
            identities: vec![alice.try_into().unwrap()],
            validity: Validity::default(),
        }],
        ..Directory::default()
    }]);
    let mut snapshot = Snapshot::default();
    snapshot.world.people = Collected::Known(Arc::new(people.unwrap()));
    snapshot.world.governors = Governors {
        users: [ADMIN.to_owned()].into(),
        groups: ["platform".to_owned()].into(),
    };
    snapshot
}

fn judged_in(snapshot: &Snapshot, change: &GovernanceChange) -> GovernanceVerdict {
    judge_governance(
        change,
        GovernedBy {
            snapshot,
            governors_unknown: None,
            gate: Some(GATE),
            problems: Vec::new(),
            now: "2026-06-01T00:00:00Z".parse().unwrap(),
        },
    )
}

fn reason(kind: &str, before: Value, after: Value, by: Actor) -> &'static str {
    judged_in(&snapshot(), &change(kind, before, after, by)).reason
}

fn each_operation(kind: &str) -> [(Value, Value); 3] {
    let one = || object(kind, json!({"a": 1}));
    let other = || object(kind, json!({"a": 2}));
    [(Value::Null, one()), (one(), other()), (one(), Value::Null)]
}

#[test]
fn only_governors_may_change_what_the_gate_decides_by() {
    let kinds = GovernedKind::KNOWN.iter().map(GovernedKind::name);
    let others = ["Namespace", "EmergencyChangeRecord"];
    for kind in kinds.filter(|kind| !others.contains(kind)).chain(["Later"]) {
        for (before, after) in each_operation(kind) {
            let by = |username: &str, groups: &[&str]| {
                reason(kind, before.clone(), after.clone(), actor(username, groups))
            };
            assert_eq!(by(ADMIN, &[]), "governor", "{kind}");
            assert_eq!(by("bob", &["dev", "platform"]), "governor", "{kind}");
            for (username, group) in [
                ("bob", "dev"),
                // Names are compared as a whole, and users are not groups.
                ("platform", "admin@example.com"),
                ("admin@example.com ", "platforms"),
                ("", ""),
                ("system:admin", "system:masters"),
            ] {
                assert_eq!(
                    by(username, &[group]),
                    "not-a-governor",
                    "{kind} {username}"
                );
            }
        }
    }
}

#[test]
fn nobody_is_refused_while_no_governors_are_configured_and_everybody_is_warned() {
    let mut snapshot = snapshot();
    snapshot.world.governors = Governors::default();
    let policy = object("PromotionPolicy", json!({}));
    let removed = change("PromotionPolicy", policy, Value::Null, actor("bob", &[]));
    let verdict = judged_in(&snapshot, &removed);
    assert_eq!(verdict.reason, "no-governors");
    assert_eq!(verdict.warnings.len(), 1);
    assert_eq!(verdict.loosened, ["PromotionPolicy `one` is deleted"]);
}

#[test]
fn while_it_is_not_known_who_governs_nobody_does() {
    let mut snapshot = snapshot();
    let judged = |snapshot: &Snapshot, by: &str| {
        let policy = object("PromotionPolicy", json!({}));
        let removed = change("PromotionPolicy", policy, Value::Null, actor(by, &[]));
        let by = GovernedBy {
            snapshot,
            governors_unknown: Some("the configuration cannot be read".to_owned()),
            gate: None,
            problems: Vec::new(),
            now: Timestamp::UNIX_EPOCH,
        };
        judge_governance(&removed, by).reason
    };
    assert_eq!(judged(&snapshot, ADMIN), "governor");
    snapshot.world.governors = Governors::default();
    assert_eq!(judged(&snapshot, "bob"), "governors-unknown");
    assert_eq!(
        judged(&snapshot, DELETING_CONTROLLERS[0]),
        "cluster-controller"
    );
}

#[test]
fn what_is_not_valid_is_refused_and_may_be_deleted() {
    let snapshot = snapshot();
    let judged = |before, after| {
        let by = GovernedBy {
            snapshot: &snapshot,
            governors_unknown: None,
            gate: None,
            problems: vec!["spec.isuer: unknown field".to_owned()],
            now: Timestamp::UNIX_EPOCH,
        };
        judge_governance(
            &change("PromotionPolicy", before, after, actor(ADMIN, &[])),
            by,
        )
    };
    let [(_, new), (old, edited), _] = each_operation("PromotionPolicy");
    for (before, after) in [(Value::Null, new), (old.clone(), edited)] {
        let verdict = judged(before, after);
        assert_eq!(
            (verdict.decision, verdict.reason),
            (Decision::Deny, "invalid")
        );
        assert_eq!(verdict.details, ["spec.isuer: unknown field"]);
    }
    assert_eq!(judged(old, Value::Null).reason, "governor");
}

#[test]
fn a_request_that_is_not_understood_is_refused_to_governors_too() {
    let unreadable = GovernanceChange {
        unreadable: Some("the operation `PATCH` is not known".to_owned()),
        ..change(
            "PromotionPolicy",
            Value::Null,
            Value::Null,
            actor(ADMIN, &[]),
        )
    };
    assert_eq!(judged_in(&snapshot(), &unreadable).reason, "not-understood");
}

#[test]
fn the_gate_keeps_evidence_and_changes_nothing_else() {
    let gate = || actor(GATE, &["system:serviceaccounts"]);
    for kind in ["Rejection", "AuthorRecord", "VexRecord"] {
        let [created, updated, deleted] = each_operation(kind);
        for (before, after) in [created, updated] {
            let verdict = judged_in(&snapshot(), &change(kind, before, after, gate()));
            assert_eq!(verdict.reason, "gate", "{kind}");
            assert!(verdict.loosened.is_empty());
        }
        // It collects what no release record needs; a rejection stands until a governor takes it away.
        let collects = if kind == "Rejection" {
            "not-a-governor"
        } else {
            "gate"
        };
        assert_eq!(reason(kind, deleted.0, deleted.1, gate()), collects);
    }
    for kind in [
        "PromotionPolicy",
        "PeopleDirectory",
        "TrustRoot",
        "Revocation",
        "GateConfiguration",
    ] {
        for (before, after) in each_operation(kind) {
            assert_eq!(
                reason(kind, before, after, gate()),
                "not-a-governor",
                "{kind}"
            );
        }
    }
    let empty = object("GateConfiguration", json!({"governors": {"users": []}}));
    assert_eq!(
        reason("GateConfiguration", Value::Null, empty.clone(), gate()),
        "gate"
    );
    assert_eq!(
        reason("GateConfiguration", Value::Null, empty, actor("bob", &[])),
        "not-a-governor"
    );
}

#[test]
fn the_gate_alone_writes_records_of_emergency_changes_and_a_governor_may_delete_one() {
    let kind = "EmergencyChangeRecord";
    let [created, updated, deleted] = each_operation(kind);
    for no_governors in [false, true] {
        let mut snapshot = snapshot();
        if no_governors {
            snapshot.world.governors = Governors::default();
        }
        let reason = |(before, after): &(Value, Value), user: &str| {
            let change = change(kind, before.clone(), after.clone(), actor(user, &[]));
            judged_in(&snapshot, &change).reason
        };
        for write in [&created, &updated] {
            for user in [ADMIN, "bob", "system:kube-controller-manager", ""] {
                assert_eq!(reason(write, user), "not-the-gate", "{user}");
            }
            assert_eq!(reason(write, GATE), "gate");
        }
        assert_eq!(reason(&deleted, GATE), "gate");
        let expected = match no_governors {
            false => ["governor", "not-a-governor"],
            true => ["no-governors"; 2],
        };
        assert_eq!([ADMIN, "bob"].map(|user| reason(&deleted, user)), expected);
    }
    let deleted = change(kind, deleted.0, deleted.1, actor(ADMIN, &[]));
    let loosened = judged_in(&snapshot(), &deleted).loosened;
    assert_eq!(loosened, ["EmergencyChangeRecord `one` is deleted"]);
}

#[test]
fn a_person_rejects_in_their_own_name_and_never_lifts_a_rejection() {
    let alice = || actor("alice@example.com", &[]);
    let of = |person: &str| object("Rejection", json!({"person": person}));
    assert_eq!(
        reason("Rejection", Value::Null, of("alice"), alice()),
        "own-rejection"
    );
    assert_eq!(
        reason("Rejection", Value::Null, of("bob"), alice()),
        "not-a-governor"
    );
    assert_eq!(
        reason("Rejection", Value::Null, of("alice"), actor("bob", &[])),
        "not-a-governor"
    );
    assert_eq!(
        reason("Rejection", of("alice"), Value::Null, alice()),
        "not-a-governor"
    );
    let edited = object(
        "Rejection",
        json!({"person": "alice", "environment": "nowhere"}),
    );
    assert_eq!(
        reason("Rejection", of("alice"), edited, alice()),
        "not-a-governor"
    );
    assert_eq!(
        reason("Revocation", Value::Null, of("alice"), alice()),
        "not-a-governor"
    );
    let closure = |closure: Value| {
        let object = object("Rejection", json!({"person": "alice", "closure": closure}));
        reason("Rejection", Value::Null, object, alice())
    };
    assert_eq!(closure(json!(true)), "not-a-governor");
    assert_eq!(closure(json!(false)), "own-rejection");

    let mut unknown = snapshot();
    unknown.world.people = Snapshot::default().world.people;
    let verdict = judged_in(
        &unknown,
        &change("Rejection", Value::Null, of("alice"), alice()),
    );
    assert_eq!(verdict.reason, "not-a-governor");
    assert!(
        verdict.details[1].contains("cannot be read"),
        "{:?}",
        verdict.details
    );
}

#[test]
fn the_clusters_controllers_delete_what_lost_its_owner_and_change_nothing() {
    for user in DELETING_CONTROLLERS {
        let [created, updated, deleted] = each_operation("PromotionPolicy");
        let by = |(before, after)| reason("PromotionPolicy", before, after, actor(user, &[]));
        assert_eq!(by(deleted), "cluster-controller");
        assert_eq!(by(created), "not-a-governor");
        assert_eq!(by(updated), "not-a-governor");
    }
}

#[test]
fn metadata_decides_nothing_except_an_owner_that_could_take_the_object_with_it() {
    let old = object("PromotionPolicy", json!({"a": 1}));
    let updated = |edit: &dyn Fn(&mut Value)| {
        let mut new = old.clone();
        edit(&mut new);
        change("PromotionPolicy", old.clone(), new, actor("bob", &[])).decides_nothing()
    };
    assert!(updated(&|new| new["metadata"]["labels"] = json!({"a": "b"})));
    assert!(updated(&|new| new["metadata"]["finalizers"] = json!([])));
    assert!(updated(
        &|new| new["apiVersion"] = json!("promotion-gate.dev/v1")
    ));
    assert!(!updated(&|new| new["spec"]["a"] = json!(2)));
    assert!(!updated(&|new| new["data"] = json!(2)));
    assert!(!updated(&|new| *new = Value::Null));
    assert!(!updated(
        &|new| new["metadata"]["ownerReferences"] = json!([{"uid": "1"}])
    ));
}

#[test]
fn an_owner_reference_does_not_let_the_garbage_collector_delete_a_rejection_for_its_person() {
    let mut rejection = object("Rejection", json!({"person": "alice"}));
    rejection["metadata"]["ownerReferences"] = json!([{"kind": "ConfigMap", "uid": "1"}]);
    let by = actor("alice@example.com", &[]);
    assert_eq!(
        reason("Rejection", Value::Null, rejection, by),
        "not-a-governor"
    );
}

fn policy(name: &str, label: &str) -> Policy {
    let selector = LabelSelector {
        match_labels: [("tier".to_owned(), label.to_owned())].into(),
        ..LabelSelector::default()
    };
    let namespaces = NamespaceMatch {
        names: vec![Glob::parse("prod-*").unwrap()],
        selector: Some(selector),
    };
    Policy {
        name: name.to_owned(),
        environment: None,
        enforcement: Enforcement::Enforce,
        namespaces,
        images: None,
        platforms: None,
        allow_unsigned_index: false,
        staleness: Age::HOUR,
        rollback_window: Age::FORTNIGHT,
        requirements: Vec::new(),
        uncovered: Uncovered::Deny,
        injected: Vec::new(),
        emergency: None,
    }
}

#[test]
fn the_labels_of_a_namespace_are_governed_where_they_change_which_policies_match() {
    let mut snapshot = snapshot();
    snapshot.policies = vec![
        policy("production", "production"),
        policy("staging", "staging"),
    ];
    let namespace =
        |name: &str, labels: Value| json!({"metadata": {"name": name, "labels": labels}});
    let relabelled = |name: &str, before: Value, after: Value, by: &str| {
        let (before, after) = (namespace(name, before), namespace(name, after));
        let change = GovernanceChange {
            name: name.to_owned(),
            ..change("Namespace", before, after, actor(by, &[]))
        };
        judged_in(&snapshot, &change)
    };
    let production = || json!({"tier": "production"});
    let staging = || json!({"tier": "staging"});
    let none = || json!({});
    assert_eq!(
        relabelled("shop", production(), none(), "bob").reason,
        "not-a-governor"
    );
    assert_eq!(
        relabelled("shop", none(), production(), "bob").reason,
        "not-a-governor"
    );
    let moved = relabelled("shop", production(), staging(), "bob");
    assert_eq!(
        moved.details[1..],
        [
            "the policy `production` would not govern the namespace any more",
            "the policy `staging` would govern the namespace from then on",
        ]
    );
    let by_governor = relabelled("shop", production(), none(), ADMIN);
    assert_eq!(by_governor.reason, "governor");
    assert_eq!(
        by_governor.loosened,
        ["the policy `production` does not govern the namespace `shop` any more"]
    );
    // A policy that matches by name goes on, whatever the labels are.
    assert_eq!(
        relabelled("prod-eu", production(), none(), "bob").reason,
        "same-policies"
    );
    let other = json!({"tier": "production", "team": "a"});
    assert_eq!(
        relabelled("shop", production(), other, "bob").reason,
        "same-policies"
    );
}

#[test]
fn attack_a11_no_label_takes_a_namespace_from_a_policy_that_cannot_be_read() {
    let mut snapshot = snapshot();
    snapshot.unreadable = vec![Unreadable {
        source: "production".to_owned(),
        why: "spec.requirments: unknown field".to_owned(),
        namespaces: policy("production", "production").namespaces,
    }];
    let labelled = |labels: Value| json!({"metadata": {"name": "shop", "labels": labels}});
    let (production, none) = (labelled(json!({"tier": "production"})), labelled(json!({})));
    let relabelled = |by: &str| {
        let change = GovernanceChange {
            name: "shop".to_owned(),
            ..change(
                "Namespace",
                production.clone(),
                none.clone(),
                actor(by, &[]),
            )
        };
        judged_in(&snapshot, &change)
    };
    let refused = relabelled("bob");
    assert_eq!(refused.reason, "not-a-governor");
    assert_eq!(
        refused.details[1],
        "the policy `production`, which cannot be read, would not govern the namespace any more"
    );
    let by_governor = relabelled(ADMIN);
    assert_eq!(by_governor.reason, "governor");
    assert_eq!(by_governor.loosened.len(), 1);
}

#[test]
fn what_a_change_of_a_policy_may_loosen_is_named() {
    let loosened = |before: Value, after: Value| {
        let objects = [before, after].map(|spec| object("PromotionPolicy", spec));
        let [before, after] = objects;
        let change = change("PromotionPolicy", before, after, actor(ADMIN, &[]));
        judged_in(&snapshot(), &change).loosened
    };
    let pinned = json!({"digestPinned": {}});
    let images = json!({"name": "ours", "allowedImages": {"patterns": ["a/**"]}});
    assert_eq!(
        loosened(
            json!({"requirements": [pinned, images], "match": {"namespaces": {"names": ["a"]}}}),
            json!({"requirements": [pinned], "enforcement": "Warn"}),
        ),
        [
            "`enforcement` goes from `Enforce` to `Warn`",
            "`match` changes",
            "a requirement `allowedImages` is changed or removed",
        ]
    );
    let none: [&str; 0] = [];
    assert_eq!(
        loosened(
            json!({"enforcement": "Audit", "requirements": [pinned]}),
            json!({"enforcement": "Enforce", "requirements": [images, pinned]}),
        ),
        none
    );
}

#[test]
fn who_configures_other_governors_than_themselves_is_warned() {
    let mut snapshot = snapshot();
    snapshot.world.governors = Governors::default();
    let configured = |governors: Value| {
        let after = object("GateConfiguration", json!({"governors": governors}));
        let change = change(
            "GateConfiguration",
            Value::Null,
            after,
            actor(ADMIN, &["ops"]),
        );
        judged_in(&snapshot, &change).warnings.len()
    };
    assert_eq!(configured(json!({"users": ["bob"]})), 2);
    assert_eq!(configured(json!({"users": ["bob"], "groups": ["ops"]})), 1);
    assert_eq!(configured(json!({})), 1);
}
