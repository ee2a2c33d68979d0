//! What a real API server asks the gate about, by the rules and conditions that `webhook-configuration` prints, and what the gate then
//! reads of the cluster.

use serde_json::{Value, json};

use crate::support::{ControlPlane, Gate, User, until};

fn deployment(name: &str, replicas: u8) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "registry.example/app:1"}]},
            },
        },
    })
}

/// The gate is gone and `failurePolicy: Fail` holds, so that exactly what is asked about fails.
#[test]
fn what_is_not_ours_passes_while_no_gate_answers_and_everything_else_waits() {
    let plane = ControlPlane::start();
    plane.create_namespace("shop");
    let kubectl = |args: &[&str]| {
        let args = ["-n", "shop"].iter().chain(args).copied();
        plane.kubectl_as(User::Admin, args, "")
    };
    let apply = |object: &Value| {
        let apply = ["apply", "-f", "-"];
        plane.kubectl_as(User::Admin, apply, &object.to_string())
    };
    apply(&deployment("web", 2)).ok();
    apply(&deployment("staged", 0)).ok();
    kubectl(&["run", "one", "--image=registry.example/app:1"]).ok();
    let gate = Gate::configured(&json!({}));
    let serving = gate.requirements(json!([{"digestPinned": {}}])).serve(&[]);
    plane.register(&serving);
    drop(serving);
    let (web, staged) = ("deployment/web", "deployment/staged");
    let more = "--replicas=3";
    let replicas = |number: u8| json!({"spec": {"replicas": number}}).to_string();
    let (none, some, four) = (replicas(0), replicas(1), replicas(4));
    until("the gate is missed", || {
        let asked = kubectl(&["set", "image", web, "main=registry.example/app:2"]);
        (!asked.is_ok()).then_some(())
    });
    for asked in [
        &["scale", staged, more][..],
        &["patch", staged, "-p", &some],
        &[
            "create",
            "deployment",
            "new",
            "--image=registry.example/app:1",
        ],
        &[
            "debug",
            "one",
            "--image=registry.example/app:1",
            "--attach=false",
        ],
        &[
            "patch",
            "pod/one",
            "-p",
            r#"{"spec": {"activeDeadlineSeconds": 3600}}"#,
        ],
        &["label", "namespace", "shop", "tier=production"],
    ] {
        let missed = kubectl(asked).refused();
        assert!(missed.contains("failed calling webhook"), "{missed}");
    }
    for passes in [
        &["scale", web, more][..],
        &["patch", web, "-p", &four],
        &["scale", web, "--replicas=0"],
        &["patch", staged, "-p", &none],
        &["annotate", web, "a=b"],
        &["label", "pod/one", "a=b"],
        &["annotate", "namespace", "shop", "a=b"],
        &["create", "configmap", "settings"],
        &["delete", web],
        &["delete", "pod/one", "--grace-period=0"],
    ] {
        kubectl(passes).ok();
    }
}

fn rollout(name: &str, replicas: u8, deployment: &str) -> Value {
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "replicas": replicas,
            "workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment},
        },
    })
}

fn rollouts() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "rollouts.argoproj.io"},
        "spec": {
            "group": "argoproj.io", "scope": "Namespaced",
            "names": {"kind": "Rollout", "plural": "rollouts", "singular": "rollout", "listKind": "RolloutList"},
            "versions": [{
                "name": "v1alpha1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
            }],
        },
    })
}

#[test]
fn what_a_request_refers_to_is_read_and_judged() {
    let plane = ControlPlane::start();
    plane.create_namespace("shop");
    let kubectl = |args: &[&str]| {
        let args = ["-n", "shop"].iter().chain(args).copied();
        plane.kubectl_as(User::Admin, args, "")
    };
    let apply = |object: &Value| {
        let apply = ["apply", "-f", "-"];
        plane.kubectl_as(User::Admin, apply, &object.to_string())
    };
    plane.create_namespace("promotion-gate");
    let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/crds");
    plane.kubectl(["apply", "--server-side", "-f", crds]).ok();
    apply(&rollouts()).ok();
    apply(&deployment("app", 0)).ok();
    until("Rollouts are served", || {
        apply(&rollout("web", 0, "app")).is_ok().then_some(())
    });
    let gate = Gate::configured(&json!({}));
    gate.requirements(json!([{"digestPinned": {}}]));
    let serving = gate.serve_cluster(&plane.admin_kubeconfig(), &["--policy", "policies"]);
    serving.is_ready();
    plane.register(&serving);
    let image = "registry.example/app:1 (spec.template.spec.containers[0].image)";
    until("the gate is asked", || {
        let asked = kubectl(&["scale", "deployment/app", "--replicas=1"]);
        (!asked.is_ok() && asked.stderr.contains(image)).then_some(())
    });
    let image =
        "registry.example/app:1 (spec.workloadRef → spec.template.spec.containers[0].image)";
    let status = |status: Value| {
        let status = json!({"status": status}).to_string();
        kubectl(&[
            "patch",
            "rollout/web",
            "--type=merge",
            "--subresource=status",
            "-p",
            &status,
        ])
    };
    for refused in [
        apply(&rollout("other", 1, "app")),
        kubectl(&["scale", "rollout/web", "--replicas=1"]),
        status(json!({"promoteFull": true})),
        status(json!({"currentStepIndex": 2})),
    ] {
        let refusal = refused.refused();
        assert!(refusal.contains(image), "{refusal}");
    }
    status(json!({"abort": true})).ok();
    apply(&rollout("early", 1, "not-there-yet")).ok();
    kubectl(&["annotate", "rollout/web", "a=b"]).ok();
}
