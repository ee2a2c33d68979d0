mod kinds_of_change;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn review(operation: &str, subresource: &str, object: Value, old: Value) -> Vec<u8> {
    let kind = object
        .get("kind")
        .or_else(|| old.get("kind"))
        .cloned()
        .unwrap_or_default();
    let group = if kind == "Pod" { "" } else { "apps" };
    json!({"apiVersion": VERSION, "kind": "AdmissionReview", "request": {
        "uid": "u-1", "kind": {"group": group, "version": "v1", "kind": kind}, "subResource": subresource,
        "name": "app", "namespace": "prod", "operation": operation, "userInfo": {"username": "alice", "groups": ["dev"]},
        "object": object, "oldObject": old, "dryRun": true,
    }})
    .to_string()
    .into_bytes()
}

fn deployment(image: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app"}, "spec": {"replicas": 2,
        "template": {"metadata": {}, "spec": {"containers": [{"name": "a", "image": image}]}}}})
}

fn understood(body: &[u8]) -> Understood {
    understand(body, &[]).unwrap().understood
}

#[test]
fn a_creation_is_a_change_with_its_requester() {
    let Understood::Change(change) =
        understood(&review("CREATE", "", deployment("nginx"), Value::Null))
    else {
        panic!("not a change")
    };
    assert_eq!(change.id, "u-1");
    assert_eq!(change.actor.unwrap().username, "alice");
    assert!(change.dry_run);
    assert_eq!(change.images[0].reference.name(), "docker.io/library/nginx");
}

#[test]
fn an_update_is_ours_only_if_it_changes_what_will_run() {
    let old = deployment("nginx");
    let ours = |change: &dyn Fn(&mut Value)| {
        let mut new = old.clone();
        change(&mut new);
        matches!(
            understood(&review("UPDATE", "", new, old.clone())),
            Understood::Change(_)
        )
    };
    let template = "/spec/template";
    assert!(ours(
        &|o| o.pointer_mut(template).unwrap()["spec"]["containers"][0]["image"] = json!("evil")
    ));
    assert!(ours(
        &|o| o.pointer_mut(template).unwrap()["spec"]["containers"][0]["command"] = json!(["sh"])
    ));
    assert!(ours(
        &|o| o.pointer_mut(template).unwrap()["spec"]["hostPID"] = json!(true)
    ));
    assert!(ours(
        &|o| o.pointer_mut(template).unwrap()["metadata"]["annotations"] = json!({"inject": "yes"})
    ));
    assert!(ours(
        &|o| o.pointer_mut(template).unwrap()["metadata"]["labels"] = json!({"inject": "yes"})
    ));
    assert!(!ours(
        &|o| o.pointer_mut(template).unwrap()["metadata"]["labels"] = json!({})
    ));
    assert!(!ours(
        &|o| o.pointer_mut(template).unwrap()["spec"]["tolerations"] = json!([{}])
    ));
    assert!(!ours(
        &|o| o.pointer_mut(template).unwrap()["spec"]["containers"][0]["resources"] =
            json!({"limits": {}})
    ));
    assert!(!ours(&|o| {
        o.pointer_mut(template).unwrap()["metadata"]["annotations"] =
            json!({"kubectl.kubernetes.io/restartedAt": "x"});
    }));
    assert!(!ours(&|o| o["metadata"]["labels"] = json!({"a": "b"})));
    assert!(!ours(&|o| o["spec"]["replicas"] = json!(5)));
}

#[test]
fn a_revision_from_which_a_controller_makes_pods_is_judged() {
    let revision = |data: Value| json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {"name": "app"}, "data": data});
    let template = json!({"spec": {"template": {"$patch": "replace", "spec": {"containers": [{"name": "a", "image": "nginx"}]}}}});
    let images = |data: Value| match understood(&review("CREATE", "", revision(data), Value::Null))
    {
        Understood::Change(change) => (change.images.len(), change.unreadable.len()),
        other => panic!("{other:?}"),
    };
    assert_eq!(images(template.clone()), (1, 0));
    // The revision of another controller can hold anything.
    assert_eq!(images(json!({"spec": {"replicas": 1}})), (0, 0));
    let numbered = |number: u8| {
        let mut revision = revision(template.clone());
        revision["revision"] = json!(number);
        revision
    };
    let renumbered = understood(&review("UPDATE", "", numbered(2), numbered(1)));
    assert!(matches!(renumbered, Understood::NotOurs(_)));
}

/// The effect of an update of one field of an object's specification, or of its pod template's.
fn effect(
    kind: &str,
    group: &str,
    field: &str,
    before: Value,
    after: Value,
) -> Option<ChangeEffect> {
    let updated = |value: Value| {
        let mut object = deployment("nginx");
        object["kind"] = json!(kind);
        object["apiVersion"] = json!(format!("{group}/v1"));
        let template = object["spec"]["template"].clone();
        match kind {
            "CronJob" => object["spec"]["jobTemplate"]["spec"]["template"] = template,
            "Pod" => {
                object["apiVersion"] = json!("v1");
                object["spec"] = template["spec"].clone();
            }
            _ => {}
        }
        match field.strip_prefix("template.") {
            Some(field) => object["spec"]["template"]["spec"][field] = value,
            None => object["spec"][field] = value,
        }
        object
    };
    let body = review("UPDATE", "", updated(after), updated(before));
    let group = format!("\"group\":\"{group}\"");
    let body = String::from_utf8(body).unwrap();
    match understood(body.replace("\"group\":\"apps\"", &group).as_bytes()) {
        Understood::Change(change) => Some(change.effect),
        Understood::Governance(_) | Understood::NotOurs(_) => None,
        Understood::Refers(_) => panic!("nothing is referred to"),
    }
}

#[test]
fn letting_run_what_was_staged_is_a_change_that_starts_it() {
    let partition = |partition: u8| json!({"rollingUpdate": {"partition": partition}});
    let starts = Some(ChangeEffect::Starts);
    for (kind, group, field, staged, running) in [
        ("Deployment", "apps", "replicas", json!(0), json!(1)),
        ("Deployment", "apps", "paused", json!(true), json!(false)),
        ("ReplicaSet", "apps", "replicas", json!(0), Value::Null),
        ("StatefulSet", "apps", "replicas", json!(0), json!(3)),
        (
            "StatefulSet",
            "apps",
            "updateStrategy",
            partition(2),
            partition(1),
        ),
        ("Job", "batch", "suspend", json!(true), json!(false)),
        ("Job", "batch", "parallelism", json!(0), json!(2)),
        ("Job", "batch", "parallelism", json!(0), Value::Null),
        ("CronJob", "batch", "suspend", json!(true), json!(false)),
        (
            "Pod",
            "",
            "schedulingGates",
            json!([{"name": "a"}, {"name": "b"}]),
            json!([{"name": "b"}]),
        ),
        (
            "Deployment",
            "apps",
            "template.schedulingGates",
            json!([{"name": "a"}]),
            Value::Null,
        ),
        ("Rollout", "argoproj.io", "replicas", json!(0), json!(1)),
        ("Rollout", "argoproj.io", "paused", json!(true), Value::Null),
        ("ReplicationController", "", "replicas", json!(0), json!(1)),
        (
            "ScaledJob",
            "keda.sh",
            "maxReplicaCount",
            json!(0),
            Value::Null,
        ),
        (
            "ScaledJob",
            "keda.sh",
            "jobTargetRef",
            json!({"suspend": true}),
            json!({}),
        ),
        (
            "ScaledJob",
            "keda.sh",
            "jobTargetRef",
            json!({"parallelism": 0}),
            json!({"parallelism": 2}),
        ),
    ] {
        let there = effect(kind, group, field, staged.clone(), running.clone());
        assert_eq!(there, starts, "{kind} {field}");
        let back = effect(kind, group, field, running, staged);
        assert_eq!(back, None, "{kind} {field}");
    }
    let paths = json!({"canary": {}});
    let strategy = effect("Rollout", "argoproj.io", "strategy", Value::Null, paths);
    assert_eq!(strategy, Some(ChangeEffect::Runs));
}

#[test]
fn another_schedule_of_a_cron_job_starts_it() {
    let starts = Some(ChangeEffect::Starts);
    for (field, before, after) in [
        ("schedule", json!("0 0 31 2 *"), json!("* * * * *")),
        ("timeZone", Value::Null, json!("Etc/UTC")),
        (
            "jobTemplate",
            json!({"spec": {"suspend": true}}),
            json!({"spec": {}}),
        ),
    ] {
        let changed = effect("CronJob", "batch", field, before, after.clone());
        assert_eq!(changed, starts, "{field}");
        let same = effect("CronJob", "batch", field, after.clone(), after);
        assert_eq!(same, None, "{field}");
    }
    let kept = effect(
        "CronJob",
        "batch",
        "successfulJobsHistoryLimit",
        json!(1),
        json!(2),
    );
    assert_eq!(kept, None);
}

#[test]
fn a_daemon_set_that_selects_other_nodes_starts_there() {
    let effect = |field: &str, before: &Value, after: &Value| {
        let field = format!("template.{field}");
        effect("DaemonSet", "apps", &field, before.clone(), after.clone())
    };
    let zone = |zone: &str| {
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]},
        ]}}})
    };
    for (field, some, others) in [
        ("nodeSelector", json!({"disk": "ssd"}), Value::Null),
        (
            "nodeSelector",
            json!({"disk": "ssd"}),
            json!({"disk": "hdd"}),
        ),
        ("affinity", zone("a"), Value::Null),
        ("affinity", zone("a"), zone("b")),
        ("tolerations", json!([{"operator": "Exists"}]), Value::Null),
        ("nodeName", json!("node-1"), json!("node-2")),
    ] {
        let starts = Some(ChangeEffect::Starts);
        assert_eq!(effect(field, &some, &others), starts, "{field}");
        assert_eq!(effect(field, &others, &some), starts, "{field}");
        assert_eq!(effect(field, &some, &some), None, "{field}");
    }
    let priority = effect("priorityClassName", &json!("a"), &json!("b"));
    assert_eq!(priority, None);
}

#[test]
fn only_a_closed_list_is_not_ours() {
    let not_ours = |operation: &str, subresource: &str| {
        understood(&review(
            operation,
            subresource,
            deployment("a"),
            Value::Null,
        ))
    };
    assert_eq!(
        not_ours("DELETE", ""),
        Understood::NotOurs(NotOurs::Deletion)
    );
    assert_eq!(
        not_ours("CONNECT", "proxy"),
        Understood::NotOurs(NotOurs::Connection)
    );
    assert_eq!(
        not_ours("UPDATE", "status"),
        Understood::NotOurs(NotOurs::Subresource)
    );
    for (operation, subresource) in [
        ("UPDATE", "unheard-of"),
        ("REPLACE", ""),
        // Without the resource that is scaled.
        ("UPDATE", "scale"),
    ] {
        let Understood::Change(change) = not_ours(operation, subresource) else {
            panic!("allowed without work")
        };
        assert!(!change.unreadable.is_empty());
    }
}

#[test]
fn an_ephemeral_container_is_judged_alone() {
    let pod = |ephemeral: Value| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"image": "old"}], "ephemeralContainers": ephemeral}})
    };
    let body = review(
        "UPDATE",
        "ephemeralcontainers",
        pod(json!([{"image": "debug"}])),
        pod(json!([])),
    );
    let Understood::Change(change) = understood(&body) else {
        panic!("not a change")
    };
    assert_eq!(change.images.len(), 1);
    assert_eq!(change.images[0].role, Role::EphemeralContainer);
}

#[test]
fn an_object_of_another_kind_than_requested_is_unreadable() {
    let mut body: Value =
        serde_json::from_slice(&review("CREATE", "", deployment("a"), Value::Null)).unwrap();
    body["request"]["object"]["kind"] = json!("ConfigMap");
    let Understood::Change(change) = understood(body.to_string().as_bytes()) else {
        panic!("allowed without work")
    };
    assert!(!change.unreadable.is_empty());
}

#[test]
fn v1beta1_is_refused_with_a_remedy_and_its_uid() {
    let body = r#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{"uid":"u"}}"#;
    let error = understand(body.as_bytes(), &[]).unwrap_err();
    assert_eq!(error.uid.as_deref(), Some("u"));
    assert!(error.why.contains("admissionReviewVersions"), "{error}");
    assert_eq!(error.version, "admission.k8s.io/v1beta1");
}

#[test]
fn arguments_of_an_analysis_decide_what_runs() {
    let template = |value: &str| {
        json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisTemplate", "metadata": {"name": "t"},
            "spec": {"args": [{"name": "command", "value": value}], "metrics": []},
        })
    };
    let updated = |new: &str| {
        let body = review("UPDATE", "", template(new), template("a"));
        let body = String::from_utf8(body).unwrap();
        understood(body.replace("\"apps\"", "\"argoproj.io\"").as_bytes())
    };
    assert!(matches!(updated("b"), Understood::Change(_)));
    assert!(matches!(updated("a"), Understood::NotOurs(_)));
}

proptest! {
    #[test]
    fn understanding_never_panics(text in "\\PC{0,200}", operation in "CREATE|UPDATE|[A-Z]{0,6}") {
        let _ = understand(text.as_bytes(), &[]);
        let _ = understand(&review(&operation, &text, json!({"kind": "Pod", "apiVersion": "v1", "spec": text}), json!(text)), &[]);
    }
}

#[test]
fn the_status_may_be_of_any_depth_and_what_is_looked_at_may_not() {
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let body = |field: &str| {
        let object = deployment("nginx").to_string();
        let object = object.replacen('{', &format!("{{\"{field}\":{deep},"), 1);
        let review = String::from_utf8(review(
            "CREATE",
            "",
            json!({"kind": "Deployment"}),
            Value::Null,
        ))
        .unwrap();
        review.replace("{\"kind\":\"Deployment\"}", &object)
    };
    let status = understand(body("status").as_bytes(), &[]).unwrap();
    assert!(matches!(status.understood, Understood::Change(_)));
    let refused = understand(body("extra").as_bytes(), &[]).unwrap_err();
    assert_eq!(refused.uid.as_deref(), Some("u-1"));
    assert!(refused.why.contains("not an AdmissionReview"), "{refused}");
}

#[test]
fn a_malformed_request_is_answered_with_its_version_and_uid() {
    let body = |version: &str| {
        json!({"apiVersion": version, "kind": "AdmissionReview", "request": {"uid": "u-1", "kind": 7}}).to_string()
    };
    let refused = understand(body(VERSION).as_bytes(), &[]).unwrap_err();
    assert_eq!(
        (refused.uid.as_deref(), refused.version),
        (Some("u-1"), VERSION)
    );
    assert!(refused.why.contains("not an AdmissionReview"), "{refused}");
    let refused = understand(body(OLD_VERSION).as_bytes(), &[]).unwrap_err();
    assert_eq!(
        (refused.uid.as_deref(), refused.version),
        (Some("u-1"), OLD_VERSION)
    );
    assert!(refused.why.contains("admissionReviewVersions"), "{refused}");
}

/// The gate reads objects by these texts, with its own rights.
#[test]
fn attack_a2_names_that_no_api_server_sends_are_refused() {
    let sent = |field: &str, text: &str| {
        let body = review("CREATE", "", deployment("nginx"), Value::Null);
        let mut body: Value = serde_json::from_slice(&body).unwrap();
        *body["request"].pointer_mut(field).unwrap() = json!(text);
        understand(body.to_string().as_bytes(), &[])
    };
    for (field, text) in [
        ("/name", "x y"),
        ("/name", "../secrets/a"),
        ("/name", "a?watch=true"),
        ("/object/metadata/name", "A"),
        ("/namespace", "prod/pods"),
        ("/namespace", "prod.eu"),
        ("/kind/version", "v 1"),
        ("/kind/version", "v1/namespaces"),
    ] {
        let refused = sent(field, text).unwrap_err();
        assert!(refused.why.contains("not from an API server"), "{refused}");
        assert!(refused.why.contains(text), "{refused}");
        assert_eq!(refused.uid.as_deref(), Some("u-1"));
    }
    for (field, text) in [
        ("/name", "web-5d4f.example.com"),
        ("/name", ""),
        ("/namespace", "prod-1"),
    ] {
        assert!(sent(field, text).is_ok(), "{text}");
    }
    // The names of what is not judged do not matter: those of roles hold colons and blanks.
    let role = json!({"apiVersion": VERSION, "kind": "AdmissionReview", "request": {
        "uid": "u-1", "kind": {"group": "rbac.authorization.k8s.io", "version": "v1", "kind": "ClusterRole"},
        "name": "system: all", "operation": "CREATE", "userInfo": {},
    }});
    let role = understood(role.to_string().as_bytes());
    assert_eq!(role, Understood::NotOurs(NotOurs::KindWithoutImages));
}

#[test]
fn attack_a2_an_owner_that_no_object_can_be_is_not_read() {
    let owned = |api_version: &str, name: &str| {
        let mut object = deployment("nginx");
        object["metadata"]["ownerReferences"] = json!([{
            "apiVersion": api_version, "kind": "ReplicaSet", "name": name, "uid": "1", "controller": true,
        }]);
        changed_object(&object).owner
    };
    assert!(owned("apps/v1", "web-5d4f").is_some());
    for (api_version, name) in [
        ("apps/v1", "x y"),
        ("apps/v1", ".."),
        ("apps/v1/namespaces", "a"),
        ("apps/", "a"),
    ] {
        assert_eq!(owned(api_version, name), None, "{api_version} {name}");
    }
    for name in ["x y", "a/b"] {
        let reference = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": name});
        let rollout = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "spec": {"workloadRef": reference}});
        assert_eq!(crate::admission::referred(&rollout), None);
    }
}
