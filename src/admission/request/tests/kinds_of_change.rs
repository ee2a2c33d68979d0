//! Requests that refer to other objects, and requesters that say what is so already.

use std::ops::ControlFlow;

use promotion_gate_core::gate::Unavailability;

use super::*;
use crate::admission::Referring;

const ALICE: (&str, &[&str]) = ("alice", &["dev"]);
const NODE: (&str, &[&str]) = ("system:node:node-1", &["system:nodes"]);
const AUTOSCALER: (&str, &[&str]) = (
    "system:serviceaccount:kube-system:horizontal-pod-autoscaler",
    &[],
);
const STATEFUL_SETS: (&str, &[&str]) = (
    "system:serviceaccount:kube-system:statefulset-controller",
    &[],
);
const ARGO: (&str, &[&str]) = ("system:serviceaccount:argo-rollouts:argo-rollouts", &[]);
const DEPLOYMENTS: (&str, &str, &str) = ("apps", "v1", "deployments");
const ROLLOUTS: (&str, &str, &str) = ("argoproj.io", "v1alpha1", "rollouts");

fn asked(
    (user, groups): (&str, &[&str]),
    (operation, subresource): (&str, &str),
    (group, version, resource): (&str, &str, &str),
    object: &Value,
    old: &Value,
) -> Understood {
    let (of, kind) = group_and_kind(object).unwrap();
    let body = json!({"apiVersion": VERSION, "kind": "AdmissionReview", "request": {
        "uid": "u-1", "kind": {"group": of, "version": "v1", "kind": kind},
        "resource": {"group": group, "version": version, "resource": resource},
        "subResource": subresource, "name": "web", "namespace": "shop", "operation": operation,
        "userInfo": {"username": user, "groups": groups}, "object": object, "oldObject": old,
    }});
    let argo = TrustedController {
        preset: ControllerPreset::ArgoRollouts,
        username: ARGO.0.to_owned(),
    };
    let understood = understand(body.to_string().as_bytes(), &[argo]);
    understood.unwrap().understood
}

fn scale(replicas: i64) -> Value {
    // As an API server writes it.
    let spec = match replicas {
        0 => json!({}),
        some => json!({"replicas": some}),
    };
    json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": spec})
}

fn scaled(
    by: (&str, &[&str]),
    resource: (&str, &str, &str),
    before: i64,
    after: i64,
) -> Understood {
    asked(
        by,
        ("UPDATE", "scale"),
        resource,
        &scale(after),
        &scale(before),
    )
}

fn referring(understood: Understood) -> Referring {
    match understood {
        Understood::Refers(referring) => *referring,
        other => panic!("nothing is read: {other:?}"),
    }
}

fn completed(referring: Referring, read: Result<Option<Value>, Unavailability>) -> Change {
    match referring.complete(read) {
        ControlFlow::Break(change) => change.unwrap(),
        ControlFlow::Continue(more) => panic!("more is read: {more:?}"),
    }
}

fn written(change: &Change) -> Vec<(&str, &str)> {
    let images = change.images.iter();
    images
        .map(|image| (image.field.as_str(), image.reference.as_written()))
        .collect()
}

fn rollout(spec: Value, status: Value) -> Value {
    json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": "web"},
        "spec": spec, "status": status})
}

fn by_reference() -> Value {
    json!({"replicas": 2, "workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "app"}})
}

#[test]
fn scaling_from_zero_starts_what_the_scaled_object_runs() {
    for (resource, kind) in [
        (DEPLOYMENTS, "Deployment"),
        (("apps", "v1", "statefulsets"), "StatefulSet"),
        (("apps", "v1", "replicasets"), "ReplicaSet"),
        (
            ("", "v1", "replicationcontrollers"),
            "ReplicationController",
        ),
        (ROLLOUTS, "Rollout"),
    ] {
        let referring = referring(scaled(ALICE, resource, 0, 3));
        let object = referring.object().clone();
        let (group, version, _) = resource;
        assert_eq!(
            (object.group.as_str(), object.version.as_str()),
            (group, version)
        );
        assert_eq!((object.kind.as_str(), object.name.as_str()), (kind, "web"));
        assert_eq!(object.namespace.as_deref(), Some("shop"));
        let mut live = deployment("nginx");
        live["kind"] = json!(kind);
        live["apiVersion"] = json!(format!("{group}/{version}").trim_start_matches('/'));
        live["metadata"]["uid"] = json!("live");
        live["spec"]["replicas"] = json!(0);
        let change = completed(referring, Ok(Some(live.clone())));
        assert_eq!(change.effect, ChangeEffect::Starts);
        assert_eq!(change.workload, object);
        assert_eq!(
            written(&change),
            [("spec.template.spec.containers[0].image", "nginx")]
        );
        assert_eq!(change.object.uid.as_deref(), Some("live"));
        assert_eq!(change.object.template, changed_object(&live).template);
        assert!(!change.object.is_staged);
    }
}

#[test]
fn attack_a5_what_is_scaled_while_it_is_held_back_otherwise_is_staged_still() {
    let statefulsets = ("apps", "v1", "statefulsets");
    let partition = json!({"rollingUpdate": {"partition": 2}});
    for (resource, kind, field, value) in [
        (DEPLOYMENTS, "Deployment", "paused", json!(true)),
        (statefulsets, "StatefulSet", "updateStrategy", partition),
    ] {
        let mut live = deployment("nginx");
        live["kind"] = json!(kind);
        live["spec"]["replicas"] = json!(0);
        live["spec"][field] = value;
        let change = completed(referring(scaled(ALICE, resource, 0, 3)), Ok(Some(live)));
        assert!(change.object.is_staged, "{kind}");
    }
    let mut gated = deployment("nginx");
    gated["spec"]["template"]["spec"]["schedulingGates"] = json!([{"name": "a"}]);
    let created = rollout(by_reference(), Value::Null);
    let asked = asked(ALICE, ("CREATE", ""), ROLLOUTS, &created, &Value::Null);
    let change = completed(referring(asked), Ok(Some(gated)));
    assert!(
        change.object.is_staged,
        "by a gate of the template that it refers to"
    );
}

#[test]
fn attack_a5_what_was_held_back_is_started_by_any_way_that_lets_it_run() {
    let object = |(group, version, kind): (&str, &str, &str), spec: Value| {
        let api_version = format!("{group}/{version}");
        json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "web"}, "spec": spec})
    };
    let template = || deployment("nginx")["spec"]["template"].clone();
    let updates = |kind: &str| json!({"template": template(), "updateStrategy": {"type": kind}});
    let job = |field: &str, value: Value| {
        let mut job = json!({"template": template()});
        job[field] = value;
        json!({"jobTemplate": {"spec": job}})
    };
    let experiment = |replicas: Value| json!({"templates": [{"replicas": 1, "template": template()}, {"replicas": replicas, "template": template()}]});
    let scaled_job =
        |minimum: u8| json!({"minReplicaCount": minimum, "jobTargetRef": {"template": template()}});
    let (apps, batch) = (("apps", "v1"), ("batch", "v1"));
    let (argo, keda) = (("argoproj.io", "v1alpha1"), ("keda.sh", "v1alpha1"));
    for ((group, version), kind, resource, before, after) in [
        (
            apps,
            "StatefulSet",
            "statefulsets",
            updates("OnDelete"),
            updates("RollingUpdate"),
        ),
        (
            apps,
            "StatefulSet",
            "statefulsets",
            updates("OnDelete"),
            json!({"template": template()}),
        ),
        (
            apps,
            "DaemonSet",
            "daemonsets",
            updates("OnDelete"),
            updates("RollingUpdate"),
        ),
        (
            batch,
            "CronJob",
            "cronjobs",
            job("completions", json!(0)),
            job("completions", json!(1)),
        ),
        (
            batch,
            "CronJob",
            "cronjobs",
            job("managedBy", json!("example.com/nobody")),
            job("managedBy", Value::Null),
        ),
        (
            argo,
            "Experiment",
            "experiments",
            experiment(json!(0)),
            experiment(json!(2)),
        ),
        (
            argo,
            "Experiment",
            "experiments",
            experiment(json!(0)),
            experiment(Value::Null),
        ),
        (
            keda,
            "ScaledJob",
            "scaledjobs",
            scaled_job(0),
            scaled_job(1),
        ),
    ] {
        let of = |spec: &Value| object((group, version, kind), spec.clone());
        let updated = |before: &Value, after: &Value| {
            asked(
                ALICE,
                ("UPDATE", ""),
                (group, version, resource),
                &of(after),
                &of(before),
            )
        };
        let Understood::Change(change) = updated(&before, &after) else {
            panic!("{before} → {after} is let through")
        };
        assert_eq!(change.effect, ChangeEffect::Starts, "{after}");
        if kind != "ScaledJob" {
            let held = Understood::NotOurs(NotOurs::NothingThatRuns);
            assert_eq!(updated(&after, &before), held, "{before}");
        }
    }
}

#[test]
fn scaling_what_runs_and_scaling_to_zero_are_not_ours() {
    for (before, after) in [(1, 5), (5, 1), (3, 3), (3, 0), (0, 0)] {
        let not_ours = scaled(ALICE, DEPLOYMENTS, before, after);
        assert_eq!(not_ours, Understood::NotOurs(NotOurs::NothingThatRuns));
    }
    let unknown = scaled(ALICE, ("example.com", "v1", "machines"), 0, 1);
    assert_eq!(unknown, Understood::NotOurs(NotOurs::KindWithoutImages));
}

/// The Pods from the partition on are made from the present template, which may never have run.
#[test]
fn attack_a5_a_statefulset_that_grows_beyond_its_partition_starts_the_staged_template() {
    let statefulsets = ("apps", "v1", "statefulsets");
    let live = |partition: Value| {
        let mut live = deployment("nginx");
        live["kind"] = json!("StatefulSet");
        live["spec"]["replicas"] = json!(3);
        live["spec"]["updateStrategy"] = json!({"rollingUpdate": {"partition": partition}});
        live
    };
    for by in [ALICE, AUTOSCALER] {
        let grows = |before, after| referring(scaled(by, statefulsets, before, after));
        assert!(grows(3, 4).needs_staged());
        for (before, after, partition, starts) in [
            (3, 4, json!(3), true),
            (1, 5, json!(3), true),
            (1, 3, json!(3), false),
            (4, 5, json!(3), false),
            (1, 5, json!(0), false),
            (1, 5, Value::Null, false),
        ] {
            let shown = format!("{before} → {after}, partition {partition}");
            let read = Ok(Some(live(partition)));
            match grows(before, after).complete(read) {
                ControlFlow::Break(Ok(change)) => {
                    assert!(starts, "{shown}");
                    assert_eq!(change.effect, ChangeEffect::Starts);
                    assert_eq!(change.images.len(), 1);
                    assert!(change.object.is_staged, "the rest of it is held back still");
                }
                ControlFlow::Break(Err(why)) => {
                    assert!(!starts, "{shown}");
                    assert_eq!(why, NotOurs::NothingThatRuns);
                }
                ControlFlow::Continue(more) => panic!("more is read: {more:?}"),
            }
        }
        // What cannot be read may have a partition.
        let unread = Err(Unavailability("no answer in time".to_owned()));
        let change = completed(grows(3, 4), unread);
        assert_eq!(change.effect, ChangeEffect::Starts);
        assert_eq!(change.unreadable.len(), 1);
        let alone = grows(3, 4).complete_without_cluster(&[]);
        assert_eq!(alone, Err(NotOurs::NothingThatRuns));
    }
    let shrinks = scaled(ALICE, statefulsets, 5, 3);
    assert_eq!(shrinks, Understood::NotOurs(NotOurs::NothingThatRuns));
    assert!(!referring(scaled(ALICE, statefulsets, 0, 3)).needs_staged());
}

#[test]
fn scaling_from_zero_is_unreadable_where_the_scaled_object_is_not_known() {
    let asked = || referring(scaled(ALICE, DEPLOYMENTS, 0, 3));
    let gone = completed(asked(), Ok(None));
    let unread = completed(asked(), Err(Unavailability("no answer in time".to_owned())));
    let alone = asked().complete_without_cluster(&[]).unwrap();
    for (change, why) in [
        (gone, "the Deployment `web` does not exist"),
        (unread, "no answer in time"),
        (alone, "change `spec.replicas` of the object itself"),
    ] {
        let [unreadable] = change.unreadable.as_slice() else {
            panic!("{change:?}")
        };
        assert!(unreadable.why.contains(why), "{unreadable:?}");
    }
}

#[test]
fn an_autoscaler_goes_on_where_no_cluster_can_be_asked() {
    let asked = referring(scaled(AUTOSCALER, DEPLOYMENTS, 0, 3));
    let change = asked.complete_without_cluster(&[]).unwrap();
    assert!(change.unreadable.is_empty(), "{change:?}");
    assert_eq!(change.effect, ChangeEffect::Starts);
}

#[test]
fn a_rollout_is_judged_with_the_template_that_it_refers_to() {
    let created = rollout(by_reference(), Value::Null);
    let asked = || {
        referring(asked(
            ALICE,
            ("CREATE", ""),
            ROLLOUTS,
            &created,
            &Value::Null,
        ))
    };
    assert_eq!(asked().object().kind, "Deployment");
    let live = deployment("nginx");
    let change = completed(asked(), Ok(Some(live.clone())));
    let through = "spec.workloadRef → spec.template.spec.containers[0].image";
    assert_eq!(written(&change), [(through, "nginx")]);
    assert_eq!(change.workload.kind, "Rollout");
    assert_eq!(change.object.template, changed_object(&live).template);
    // It is judged when it is created.
    let absent = completed(asked(), Ok(None));
    assert!(absent.images.is_empty() && absent.unreadable.is_empty());
    let unread = completed(asked(), Err(Unavailability("no answer".to_owned())));
    let alone = asked().complete_without_cluster(&[]).unwrap();
    for change in [unread, alone] {
        assert_eq!(change.unreadable[0].field, "spec.workloadRef");
    }
}

#[test]
fn a_reference_without_a_name_is_unreadable() {
    for reference in [
        json!({}),
        json!("app"),
        json!({"kind": "Deployment", "name": "app"}),
    ] {
        let created = rollout(json!({"workloadRef": reference}), Value::Null);
        let asked = asked(ALICE, ("CREATE", ""), ROLLOUTS, &created, &Value::Null);
        let Understood::Change(change) = asked else {
            panic!("{asked:?}")
        };
        assert_eq!(change.unreadable[0].field, "spec.workloadRef");
    }
}

#[test]
fn a_scaled_rollout_starts_the_template_that_it_refers_to() {
    let asked = referring(scaled(ALICE, ROLLOUTS, 0, 3));
    let live = rollout(by_reference(), Value::Null);
    let ControlFlow::Continue(next) = asked.complete(Ok(Some(live))) else {
        panic!("the template was not asked for")
    };
    assert_eq!(next.object().name, "app");
    let change = completed(next, Ok(Some(deployment("nginx"))));
    assert_eq!(change.images.len(), 1);
    assert_eq!(change.workload.kind, "Rollout");
}

#[test]
fn promoting_a_rollout_by_its_status_starts_what_was_staged() {
    let template = || deployment("nginx")["spec"].clone();
    let steered = |by, before: Value, after: Value| {
        let (new, old) = (rollout(template(), after), rollout(template(), before));
        asked(by, ("UPDATE", "status"), ROLLOUTS, &new, &old)
    };
    let paused =
        || json!({"pauseConditions": [{"reason": "CanaryPauseStep"}], "currentStepIndex": 1});
    for (before, after) in [
        (json!({}), json!({"promoteFull": true})),
        (
            paused(),
            json!({"pauseConditions": null, "currentStepIndex": 1}),
        ),
        (
            paused(),
            json!({"pauseConditions": paused()["pauseConditions"], "currentStepIndex": 2}),
        ),
        (
            json!({"controllerPause": true}),
            json!({"controllerPause": false}),
        ),
        // Attack A4: by these the controller decides whether there are steps left.
        (json!({"stableRS": "v1"}), json!({"stableRS": "v2"})),
        (json!({"stableRS": "v1"}), json!({})),
        (
            json!({"currentPodHash": "v2"}),
            json!({"currentPodHash": "v1"}),
        ),
        (
            json!({"canary": {"currentStepAnalysisRunStatus": {"status": "Running"}}}),
            json!({"canary": {"currentStepAnalysisRunStatus": {"status": "Successful"}}}),
        ),
        (
            json!({}),
            json!({"blueGreen": {"scaleUpPreviewCheckPoint": true}}),
        ),
        (json!({"abort": true}), json!({"abort": false})),
        (json!({"abort": true}), json!({})),
    ] {
        let Understood::Change(change) = steered(ALICE, before.clone(), after.clone()) else {
            panic!("{after} is let through")
        };
        assert_eq!(change.effect, ChangeEffect::Starts);
        assert_eq!(change.images.len(), 1);
        let own = steered(ARGO, before, after);
        assert_eq!(own, Understood::NotOurs(NotOurs::TrustedController));
    }
    for (before, after) in [
        (json!({}), json!({"abort": true})),
        (json!({"abort": false}), json!({"abort": true})),
        (json!({"phase": "Paused"}), json!({"phase": "Healthy"})),
        (json!({"pauseConditions": null}), json!({})),
    ] {
        let harmless = steered(ALICE, before, after);
        assert_eq!(harmless, Understood::NotOurs(NotOurs::NothingThatRuns));
    }
}

/// The record of an update says that its template runs, also where only a part of the Pods has it.
#[test]
fn attack_a3_a_promotion_never_rests_on_a_record() {
    let promoted = |spec: Value| {
        let new = rollout(spec.clone(), json!({"promoteFull": true}));
        asked(
            ALICE,
            ("UPDATE", "status"),
            ROLLOUTS,
            &new,
            &rollout(spec, json!({})),
        )
    };
    let inline = promoted(deployment("nginx")["spec"].clone());
    let Understood::Change(inline) = inline else {
        panic!("{inline:?}")
    };
    let referring = referring(promoted(by_reference()));
    let by_reference = completed(referring, Ok(Some(deployment("nginx"))));
    for change in [*inline, by_reference] {
        assert_eq!(change.object.template, None, "by which a record is found");
        assert_eq!(change.images.len(), 1);
    }
}

#[test]
fn promoting_a_rollout_starts_the_template_that_it_refers_to() {
    let new = rollout(by_reference(), json!({"promoteFull": true}));
    let old = rollout(by_reference(), json!({}));
    let asked = referring(asked(ALICE, ("UPDATE", "status"), ROLLOUTS, &new, &old));
    assert_eq!(asked.change().effect, ChangeEffect::Starts);
    assert_eq!(
        completed(asked, Ok(Some(deployment("nginx")))).images.len(),
        1
    );
}

#[test]
fn a_revision_is_judged_unless_its_controller_keeps_it() {
    let template = json!({"spec": {"template": {"$patch": "replace", "spec": {"containers": [{"image": "nginx"}]}}}});
    let revision = json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {"name": "web-1"}, "data": template});
    let revisions = ("apps", "v1", "controllerrevisions");
    let created = |by| asked(by, ("CREATE", ""), revisions, &revision, &Value::Null);
    let kept = created(STATEFUL_SETS);
    assert_eq!(kept, Understood::NotOurs(NotOurs::TrustedController));
    for other in [ALICE, AUTOSCALER, ARGO] {
        let Understood::Change(change) = created(other) else {
            panic!("{other:?}")
        };
        assert_eq!((change.images.len(), change.unreadable.len()), (1, 0));
    }
}

#[test]
fn a_mirror_pod_of_a_kubelet_is_not_ours_and_everybody_else_is_judged() {
    let pod = |annotations: Value| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "annotations": annotations},
            "spec": {"containers": [{"image": "nginx"}]}})
    };
    let mirror = pod(json!({"kubernetes.io/config.mirror": "0123"}));
    let pods = ("", "v1", "pods");
    let created = |by, pod: &Value| asked(by, ("CREATE", ""), pods, pod, &Value::Null);
    assert_eq!(
        created(NODE, &mirror),
        Understood::NotOurs(NotOurs::MirrorPod)
    );
    for (by, pod) in [
        (ALICE, &mirror),
        (("system:node:node-1", &["dev"][..]), &mirror),
        (("alice", &["system:nodes"][..]), &mirror),
        (NODE, &pod(json!({}))),
    ] {
        assert!(matches!(created(by, pod), Understood::Change(_)), "{by:?}");
    }
    let changed = asked(NODE, ("UPDATE", ""), pods, &mirror, &Value::Null);
    assert!(matches!(changed, Understood::Change(_)));
}

#[test]
fn an_old_replica_set_that_is_scaled_up_is_started() {
    let old = |replicas: u8| {
        let mut object = deployment("nginx:old");
        object["kind"] = json!("ReplicaSet");
        object["spec"]["replicas"] = json!(replicas);
        object
    };
    let sets = ("apps", "v1", "replicasets");
    let asked = asked(ALICE, ("UPDATE", ""), sets, &old(2), &old(0));
    let Understood::Change(change) = asked else {
        panic!("{asked:?}")
    };
    assert_eq!(change.effect, ChangeEffect::Starts);
}

/// Seen in peers: what cannot be judged any more could not be deleted either, and its namespace stayed for ever.
#[test]
fn finalizers_and_deletions_of_objects_whose_image_now_fails_are_not_ours() {
    let pod = |finalizers: Value| {
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "web", "finalizers": finalizers, "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"containers": [{"image": "NOT an image"}]}})
    };
    let pods = ("", "v1", "pods");
    let (kept, gone) = (pod(json!(["example.com/a"])), pod(json!([])));
    let lifted = asked(ALICE, ("UPDATE", ""), pods, &gone, &kept);
    assert_eq!(lifted, Understood::NotOurs(NotOurs::NothingThatRuns));
    let deleted = asked(ALICE, ("DELETE", ""), pods, &gone, &kept);
    assert_eq!(deleted, Understood::NotOurs(NotOurs::Deletion));
}

#[test]
fn whoever_unpauses_a_scaled_job_starts_it() {
    let paused = |by: Option<&str>| {
        let mut job = json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledJob", "metadata": {"annotations": {}},
            "spec": {"jobTargetRef": deployment("nginx")["spec"]}});
        if let Some(by) = by {
            job["metadata"]["annotations"]["autoscaling.keda.sh/paused"] = json!(by);
        }
        job
    };
    let jobs = ("keda.sh", "v1alpha1", "scaledjobs");
    // KEDA pauses for what it does not understand (attack A5).
    for by in ["true", "1", "hold", "yes", ""] {
        let unpaused = asked(
            ALICE,
            ("UPDATE", ""),
            jobs,
            &paused(None),
            &paused(Some(by)),
        );
        assert!(
            matches!(&unpaused, Understood::Change(change) if change.images.len() == 1),
            "{unpaused:?}"
        );
        assert!(changed_object(&paused(Some(by))).is_staged);
        let pauses = asked(
            ALICE,
            ("UPDATE", ""),
            jobs,
            &paused(Some(by)),
            &paused(None),
        );
        assert_eq!(pauses, Understood::NotOurs(NotOurs::NothingThatRuns));
    }
    for by in [None, Some("false"), Some("0")] {
        assert!(!changed_object(&paused(by)).is_staged);
    }
}
