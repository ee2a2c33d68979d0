use serde_json::json;

use super::super::request::{VERSION, understand};
use super::*;

fn review(kind: (&str, &str), operation: &str, subresource: &str, objects: [Value; 2]) -> Vec<u8> {
    let [before, after] = objects;
    json!({"apiVersion": VERSION, "kind": "AdmissionReview", "request": {
        "uid": "u-1", "kind": {"group": kind.0, "version": "v1alpha1", "kind": kind.1}, "subResource": subresource,
        "operation": operation, "userInfo": {"username": "alice", "groups": ["dev"]},
        "object": after, "oldObject": before, "dryRun": true,
    }})
    .to_string()
    .into_bytes()
}

fn policy(spec: Value) -> Value {
    json!({"apiVersion": "promotion-gate.dev/v1alpha1", "kind": "PromotionPolicy",
        "metadata": {"name": "production"}, "spec": spec})
}

fn namespace(labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": labels}})
}

const POLICY: (&str, &str) = (GROUP, "PromotionPolicy");
const NAMESPACE: (&str, &str) = ("", "Namespace");

fn understood(
    kind: (&str, &str),
    operation: &str,
    subresource: &str,
    objects: [Value; 2],
) -> Understood {
    let body = review(kind, operation, subresource, objects);
    understand(&body, &[]).unwrap().understood
}

fn governed(kind: (&str, &str), operation: &str, objects: [Value; 2]) -> GovernanceChange {
    match understood(kind, operation, "", objects) {
        Understood::Governance(change) => *change,
        other => panic!("{other:?}"),
    }
}

#[test]
fn creation_change_and_deletion_of_our_kinds_are_governed() {
    let (old, new) = (|| policy(json!({"a": 1})), || policy(json!({"a": 2})));
    let created = governed(POLICY, "CREATE", [Value::Null, new()]);
    assert_eq!(created.operation, GovernanceOperation::Create);
    assert_eq!(created.name, "production");
    assert_eq!(created.actor.username, "alice");
    assert!(created.dry_run);
    assert_eq!(created.contents(), [Value::Null, json!({"spec": {"a": 2}})]);
    let changed = governed(POLICY, "UPDATE", [old(), new()]);
    assert_eq!(
        changed.contents(),
        [json!({"spec": {"a": 1}}), json!({"spec": {"a": 2}})]
    );
    let deleted = governed(POLICY, "DELETE", [old(), Value::Null]);
    assert_eq!(
        (deleted.operation, &*deleted.name),
        (GovernanceOperation::Delete, "production")
    );
    for change in [created, changed, deleted] {
        assert_eq!(change.unreadable, None);
        assert_eq!(change.kind, GovernedKind::PromotionPolicy);
    }
}

#[test]
fn status_metadata_and_release_records_are_not_governed() {
    let (old, mut labelled) = (policy(json!({"a": 1})), policy(json!({"a": 1})));
    labelled["metadata"]["labels"] = json!({"a": "b"});
    labelled["metadata"]["finalizers"] = json!(["a"]);
    let not_ours = |kind, operation, subresource, objects| match understood(
        kind,
        operation,
        subresource,
        objects,
    ) {
        Understood::NotOurs(why) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        not_ours(POLICY, "UPDATE", "", [old.clone(), labelled]),
        NotOurs::NothingThatDecides
    );
    let changed = policy(json!({"a": 2}));
    assert_eq!(
        not_ours(POLICY, "UPDATE", "status", [old, changed]),
        NotOurs::Subresource
    );
    let record = json!({"apiVersion": "promotion-gate.dev/v1alpha1", "kind": "ReleaseRecord"});
    assert_eq!(
        not_ours(
            (GROUP, "ReleaseRecord"),
            "CREATE",
            "",
            [Value::Null, record]
        ),
        NotOurs::Record
    );
}

#[test]
fn namespaces_come_and_go_and_their_other_metadata_is_free() {
    let old = || namespace(json!({"tier": "production"}));
    let mut annotated = old();
    annotated["metadata"]["annotations"] = json!({"a": "b"});
    annotated["metadata"]["ownerReferences"] = json!([{"uid": "1"}]);
    annotated["spec"] = json!({"finalizers": []});
    for (operation, subresource, objects) in [
        ("CREATE", "", [Value::Null, old()]),
        ("DELETE", "", [old(), Value::Null]),
        ("UPDATE", "", [old(), annotated]),
        ("UPDATE", "finalize", [old(), old()]),
        ("UPDATE", "status", [old(), old()]),
    ] {
        let understood = understood(NAMESPACE, operation, subresource, objects);
        assert!(
            matches!(understood, Understood::NotOurs(_)),
            "{operation} {subresource}"
        );
    }
    let relabelled = governed(NAMESPACE, "UPDATE", [old(), namespace(json!({}))]);
    assert_eq!(
        relabelled.contents(),
        [json!({"tier": "production"}), json!({})]
    );
    assert_eq!(relabelled.name, "shop");
}

/// An API server stores the labels of such requests as it stores those of any other.
#[test]
fn attack_a1_the_labels_of_a_namespace_are_governed_through_its_subresources_too() {
    for subresource in ["status", "finalize"] {
        let objects = [
            namespace(json!({"tier": "production"})),
            namespace(json!({})),
        ];
        let Understood::Governance(change) = understood(NAMESPACE, "UPDATE", subresource, objects)
        else {
            panic!("{subresource}")
        };
        assert_eq!(change.unreadable, None);
        assert_eq!(
            change.contents(),
            [json!({"tier": "production"}), json!({})]
        );
        assert_eq!(change.name, "shop");
    }
    let objects = || [namespace(json!({})), namespace(json!({}))];
    let other = understood(NAMESPACE, "UPDATE", "other", objects());
    assert!(
        matches!(&other, Understood::Governance(change) if change.unreadable.is_some()),
        "{other:?}"
    );
}

#[test]
fn what_is_not_understood_is_governed_and_says_why() {
    let (old, new) = (|| policy(json!({"a": 1})), || policy(json!({"a": 2})));
    let pod = || json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}});
    for (operation, subresource, objects, why) in [
        (
            "PATCH",
            "",
            [old(), new()],
            "the operation `PATCH` is not known",
        ),
        (
            "UPDATE",
            "approve-all",
            [old(), new()],
            "the subresource `approve-all` is not known",
        ),
        (
            "CREATE",
            "",
            [Value::Null, pod()],
            "is not a `PromotionPolicy`",
        ),
        (
            "CREATE",
            "",
            [Value::Null, Value::Null],
            "is not a `PromotionPolicy`",
        ),
        ("UPDATE", "", [pod(), new()], "is not a `PromotionPolicy`"),
        (
            "UPDATE",
            "",
            [old(), Value::Null],
            "is not a `PromotionPolicy`",
        ),
        (
            "DELETE",
            "",
            [Value::Null, old()],
            "is not a `PromotionPolicy`",
        ),
    ] {
        let Understood::Governance(change) = understood(POLICY, operation, subresource, objects)
        else {
            panic!("{operation} {subresource}")
        };
        let unreadable = change.unreadable.unwrap();
        assert!(unreadable.contains(why), "{unreadable}");
    }
}

#[test]
fn a_denial_says_what_why_and_what_to_do() {
    let change = governed(POLICY, "DELETE", [policy(json!({})), Value::Null]);
    let verdict = GovernanceVerdict {
        decision: Decision::Deny,
        reason: "not-a-governor",
        details: vec!["no\nforged line".to_owned()],
        hint: Some("ask a governor (users `bob`)".to_owned()),
        warnings: vec!["w".repeat(200)],
        loosened: Vec::new(),
    };
    let answer = AdmissionResponse::governed(&verdict, &change, false);
    assert!(!answer.allowed);
    assert_eq!(
        answer.message,
        "PromotionPolicy production may not be deleted [not-a-governor]:\n- no forged line\n→ ask a governor (users `bob`)\ndecision u-1"
    );
    assert!(answer.warnings[0].chars().count() < 120);
    let recorded = AdmissionResponse::governed(&verdict, &change, true);
    assert!(recorded.allowed && recorded.message.is_empty());
    assert_eq!(recorded.audit["decision"], "deny");
}
