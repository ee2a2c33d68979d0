//! `scan` against a real API server in which nothing of the gate is installed, and the Events of a webhook that is.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{ControlPlane, Gate, Ran, User, deployment, run, until};

const GOOD: &str =
    "ok.example/app@sha256:1111111111111111111111111111111111111111111111111111111111111111";
const BAD: &str =
    "bad.example/app@sha256:2222222222222222222222222222222222222222222222222222222222222222";

fn gate() -> Gate {
    let gate = Gate::configured(&json!({}));
    gate.requirements(
        json!([{"digestPinned": {}}, {"allowedImages": {"patterns": ["ok.example/**"]}}]),
    );
    gate
}

fn scan(gate: &Gate, plane: &ControlPlane, args: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_promotion-gate"));
    command
        .args(["scan", "--policy", "policies", "--config", "gate.yaml"])
        .arg("--kubeconfig")
        .arg(plane.kubeconfig("admin", "admin"))
        .args(args);
    run(command.current_dir(gate.path("")), b"")
}

fn pod(name: &str, owner: Option<(&str, &str, &str)>, image: &str) -> String {
    let owners = owner.map(|(api_version, kind, uid)| {
        json!([{"apiVersion": api_version, "kind": kind, "name": "owner", "uid": uid, "controller": true}])
    });
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "ownerReferences": owners},
        "spec": {"containers": [{"name": "main", "image": image}]},
    })
    .to_string()
}

#[test]
fn what_runs_is_judged_by_owner_where_nothing_is_installed() {
    let (gate, plane) = (gate(), ControlPlane::start());
    plane.create_namespace("shop");
    plane.create_namespace("other");
    let apply = |object: &str| {
        plane
            .kubectl_as(User::Admin, ["apply", "-f", "-"], object)
            .ok();
    };
    apply(&deployment("good", GOOD));
    apply(&deployment("bad", BAD));
    let uid = |name: &str| {
        let path = "-o=jsonpath={.metadata.uid}";
        plane
            .kubectl(["get", "deployment", name, "-n=shop", path])
            .ok()
    };
    let (good, bad) = (uid("good"), uid("bad"));
    apply(&pod("good-1", Some(("apps/v1", "Deployment", &good)), GOOD));
    apply(&pod("bad-1", Some(("apps/v1", "Deployment", &bad)), BAD));
    apply(&pod("bad-2", Some(("apps/v1", "Deployment", &bad)), BAD));
    apply(&pod("forged", Some(("apps/v1", "Deployment", &good)), BAD));
    apply(&pod(
        "task-1",
        Some(("tekton.dev/v1", "TaskRun", "7")),
        GOOD,
    ));
    apply(&pod(
        "task-2",
        Some(("tekton.dev/v1", "TaskRun", "7")),
        GOOD,
    ));

    let json = scan(&gate, &plane, &["--output", "json"]);
    assert_eq!(json.code, Some(2), "{json}");
    let report: Value = serde_json::from_str(&json.stdout).unwrap();
    let workloads = report["workloads"].as_array().unwrap().iter();
    let said = |workload: &Value| {
        let text = |field: &str| workload[field].as_str().unwrap().to_owned();
        let pods = &workload["pods"];
        format!(
            "{} {} {pods}: {}",
            text("kind"),
            text("name"),
            text("decision")
        )
    };
    let mut workloads: Vec<_> = workloads.map(said).collect();
    workloads.sort();
    assert_eq!(
        workloads,
        [
            "Deployment bad 2: deny",
            "Deployment good 1: allow",
            "Pod forged 1: deny",
            "Pod task-1 2: allow",
        ]
    );
    let owner = &report["unknownOwners"][0];
    assert_eq!(
        (&owner["kind"], &owner["owners"]),
        (&json!("TaskRun"), &json!(1))
    );

    let table = scan(&gate, &plane, &[]);
    assert_eq!(table.code, Some(2), "{table}");
    for part in [
        "deny 1 workload with 2 Pods: Deployment shop/bad",
        "allowedImages [image-not-allowed]",
        "kind `TaskRun` (tekton.dev/v1)",
        "deny of 4 workloads: 2 allowed, 2 denied, 0 undecided",
    ] {
        assert!(table.stdout.contains(part), "{part} is not in {table}");
    }
    let other = scan(&gate, &plane, &["--namespace", "other"]);
    assert_eq!(other.code, Some(0), "{other}");
    assert!(other.stdout.contains("allow of 0 workloads"), "{other}");
}

#[test]
fn a_scan_reads_a_large_cluster_page_by_page() {
    let (gate, plane) = (gate(), ControlPlane::start());
    plane.create_namespace("shop");
    let items: Vec<Value> = (0..600)
        .map(|number| serde_json::from_str(&pod(&format!("pod-{number}"), None, GOOD)).unwrap())
        .collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    plane
        .kubectl_as(User::Admin, ["create", "-f", "-"], &list.to_string())
        .ok();
    let table = scan(&gate, &plane, &[]);
    assert!(
        table.stdout.contains("allow of 600 workloads: 600 allowed"),
        "{table}"
    );
    let lists = plane.requests_of("admin");
    let pages = lists
        .iter()
        .filter(|line| line.contains("/pods?") && line.contains("limit=250"));
    assert!(pages.count() >= 3, "{}", lists.join("\n"));
}

#[test]
fn a_cluster_that_cannot_be_read_is_no_success() {
    let gate = gate();
    let plane = ControlPlane::start();
    let mut command = Command::new(env!("CARGO_BIN_EXE_promotion-gate"));
    command
        .args(["scan", "--policy", "policies", "--kubeconfig"])
        .arg(plane.kubeconfig("nobody", "nobody"));
    let refused = run(command.current_dir(gate.path("")), b"");
    assert_eq!(refused.code, Some(1), "{refused}");
}

#[test]
fn a_denial_is_an_event_on_the_object_and_a_dry_run_leaves_none() {
    let (gate, plane) = (gate(), ControlPlane::start());
    plane.create_namespace("shop");
    let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/crds");
    plane.kubectl(["apply", "--server-side", "-f", crds]).ok();
    plane.create_namespace("promotion-gate");
    let kubeconfig = plane.kubeconfig("admin", "admin");
    let serving = gate.serve(&["--kubeconfig", kubeconfig.to_str().unwrap()]);
    plane.register(&serving);
    let apply = |name: &str, more: &[&str]| {
        let args = ["apply", "-f", "-"].iter().chain(more).copied();
        plane.kubectl_as(User::Admin, args, &deployment(name, BAD))
    };
    until("the webhook is asked", || {
        (!apply("dry", &["--dry-run=server"]).is_ok()).then_some(())
    });
    apply("web", &[]).refused();
    let events = |name: &str| {
        let field = format!("--field-selector=involvedObject.name={name}");
        let shown = "-o=jsonpath={range .items[*]}{.reason}: {.message}{end}";
        plane
            .kubectl(["get", "events", "-n=shop", &field, shown])
            .ok()
    };
    let event = until("the Event is written", || {
        Some(events("web")).filter(|events| !events.is_empty())
    });
    assert!(event.starts_with("PromotionDenied: "), "{event}");
    assert!(event.contains("image-not-allowed"), "{event}");
    assert_eq!(events("dry"), "");
    let metrics = serving.probes.http_get("/metrics").unwrap();
    for line in [
        "promotion_gate_events_total{outcome=\"written\"} 1",
        "promotion_gate_changes_total{kind=\"deploy\",by=\"other\",admitted=\"false\"}",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
}
