//! What a real API server asks the gate about: the rules and conditions that `webhook-configuration` prints.

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
    let serving = Gate::configured(&json!({})).serve(&[]);
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
