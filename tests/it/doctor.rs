//! `doctor` with an API server that refuses some reads, or none.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::server::{Reply, Server};

/// What an API server has, by the name of the resource, and the resources that may not be read.
#[derive(Default)]
struct Objects {
    items: Vec<(&'static str, Value)>,
    refused: Vec<&'static str>,
}

impl Objects {
    async fn serve(self) -> Server {
        Server::start(move |seen| {
            let path = seen.path.split('?').next().unwrap();
            let resource = path.rsplit('/').next().unwrap();
            if resource == "version" {
                let version = json!({
                    "major": "1", "minor": "33", "gitVersion": "v1.33.0", "gitCommit": "", "gitTreeState": "", "buildDate": "",
                    "goVersion": "", "compiler": "", "platform": "",
                });
                return Reply::new(200, "application/json", version.to_string());
            }
            if self.refused.contains(&resource) {
                let status = json!({
                    "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "reason": "Forbidden",
                    "message": "not allowed", "code": 403,
                });
                return Reply::new(403, "application/json", status.to_string());
            }
            let items = self.items.iter().filter(|(of, _)| *of == resource);
            let items: Vec<_> = items.map(|(_, item)| item).collect();
            let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": items});
            Reply::new(200, "application/json", list.to_string())
        })
        .await
    }
}

/// Runs `doctor` at an address.
async fn doctor(address: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubeconfig");
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": address}}],
        "users": [{"name": "test", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    });
    std::fs::write(&file, kubeconfig.to_string()).unwrap();
    let run = move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_promotion-gate"));
        let file = folder.path().join("kubeconfig");
        command.args(["doctor", "--output=json", "--kubeconfig"]);
        command.arg(file).output().unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// The ids of what was found, and the whole report.
fn found(output: &Output) -> (Vec<String>, Value) {
    let text = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{output:?}"));
    let findings = report["findings"].as_array().unwrap().iter();
    let ids = findings.map(|finding| finding["id"].as_str().unwrap().to_owned());
    (ids.collect(), report)
}

fn own(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "promotion-gate.dev/v1alpha1", "kind": kind, "metadata": {"name": name, "uid": name, "resourceVersion": "1"},
        "spec": spec,
    })
}

/// Gina is the governor, and may change policies.
fn governed_by_gina() -> Vec<(&'static str, Value)> {
    let governors = json!({"governors": {"users": ["gina"]}});
    let role = json!({
        "metadata": {"name": "policies"},
        "rules": [{"apiGroups": ["promotion-gate.dev"], "resources": ["*"], "verbs": ["*"]}],
    });
    let binding = json!({
        "metadata": {"name": "policies"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "policies"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "gina"}],
    });
    let policy = json!({
        "environment": "production", "match": {}, "requirements": [{"digestPinned": {}}],
    });
    vec![
        (
            "gateconfigurations",
            own("GateConfiguration", "promotion-gate", governors),
        ),
        ("promotionpolicies", own("PromotionPolicy", "all", policy)),
        ("clusterroles", role),
        ("clusterrolebindings", binding),
        ("namespaces", json!({"metadata": {"name": "shop"}})),
    ]
}

const WITHOUT_A_GATE: [&str; 3] = ["webhook-missing", "gate-missing", "guards-missing"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn governors_that_may_not_be_read_are_no_finding_about_people() {
    let readable = Objects {
        items: governed_by_gina(),
        refused: Vec::new(),
    };
    let server = readable.serve().await;
    let (mut ids, report) = found(&doctor(&server.url()).await);
    ids.sort();
    let mut expected = WITHOUT_A_GATE.map(str::to_owned);
    expected.sort();
    assert_eq!(ids, expected, "{report}");
    assert_eq!(report["unchecked"], json!([]));
    // There can be more of them than a command reads.
    let asked = server.asked();
    assert!(
        !asked
            .iter()
            .any(|it| it.contains("authorrecords") || it.contains("vexrecords")),
        "{asked:?}"
    );

    for refused in ["gateconfigurations", "promotionpolicies"] {
        let objects = Objects {
            items: governed_by_gina(),
            refused: vec![refused],
        };
        let server = objects.serve().await;
        let (mut ids, report) = found(&doctor(&server.url()).await);
        ids.sort();
        assert_eq!(ids, expected, "{report}");
        let unchecked: Vec<_> = report["unchecked"].as_array().unwrap().iter().collect();
        let what: Vec<_> = unchecked
            .iter()
            .map(|it| it["what"].as_str().unwrap())
            .collect();
        match refused {
            "gateconfigurations" => assert_eq!(
                what,
                [
                    "resources of the gate (GateConfiguration)",
                    "who holds which rights"
                ]
            ),
            _ => assert_eq!(what, ["resources of the gate (PromotionPolicy)"]),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_cannot_be_reached_is_an_error_and_no_incomplete_report() {
    let server = Objects::default().serve().await;
    let address = server.url();
    drop(server);
    let output = doctor(&address).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the cluster cannot be reached"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn infrastructure_that_only_the_arguments_of_the_gate_name_is_a_warning() {
    let printed = Command::new(env!("CARGO_BIN_EXE_promotion-gate"))
        .args(["webhook-configuration", "--infrastructure-namespace=cilium"])
        .output()
        .unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    let webhook: Value = serde_saphyr::from_str(&printed).unwrap();
    let labels = json!({"app": "gate"});
    let service = json!({
        "metadata": {"name": "promotion-gate", "namespace": "promotion-gate"},
        "spec": {"selector": labels, "ports": [{"port": 443}]},
    });
    let deployment = |arguments: Value| {
        let container = json!({"name": "gate", "args": arguments});
        let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [container]}});
        json!({
            "metadata": {"name": "promotion-gate", "namespace": "promotion-gate"},
            "spec": {"replicas": 3, "selector": {"matchLabels": labels}, "template": template},
            "status": {"readyReplicas": 3},
        })
    };
    for (arguments, id) in [
        (
            json!([
                "--manage-webhook=promotion-gate",
                "--infrastructure-namespace=cilium"
            ]),
            "infrastructure-differs",
        ),
        // Of a gate that does not write the configuration, only the GateConfiguration says what is left out.
        (json!(["serve"]), "webhook-selector"),
    ] {
        let mut items = governed_by_gina();
        items.push(("validatingwebhookconfigurations", webhook.clone()));
        items.push(("services", service.clone()));
        items.push(("deployments", deployment(arguments)));
        let objects = Objects {
            items,
            refused: Vec::new(),
        };
        let server = objects.serve().await;
        let (mut ids, report) = found(&doctor(&server.url()).await);
        ids.sort();
        let mut expected = [id, "guards-missing", "port-open", "webhook-ca-bundle"];
        expected.sort_unstable();
        assert_eq!(ids, expected, "{report}");
    }
}

/// What is found of a cluster with these objects besides those that Gina governs, of which other policies take the place.
async fn found_of(more: Vec<(&'static str, Value)>) -> (Vec<String>, Value) {
    let mut items = governed_by_gina();
    items.retain(|(of, _)| !matches!(*of, "promotionpolicies" | "gateconfigurations"));
    items.extend(more);
    let objects = Objects {
        items,
        refused: Vec::new(),
    };
    let server = objects.serve().await;
    found(&doctor(&server.url()).await)
}

fn governors(governors: Value) -> (&'static str, Value) {
    let spec = json!({"governors": governors});
    let object = own("GateConfiguration", "promotion-gate", spec);
    ("gateconfigurations", object)
}

fn policy(spec: Value) -> (&'static str, Value) {
    ("promotionpolicies", own("PromotionPolicy", "all", spec))
}

/// What a finding is about.
fn about<'r>(report: &'r Value, id: &str) -> &'r Value {
    let mut findings = report["findings"].as_array().unwrap().iter();
    let found = findings.find(|finding| finding["id"] == id);
    &found.unwrap_or_else(|| panic!("{id}: {report}"))["about"]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_that_do_not_do_what_they_seem_to_are_found() {
    let gina = || governors(json!({"users": ["gina"]}));
    let pinned = json!([{"digestPinned": {}}]);
    for (policies, id) in [
        (vec![], "no-policies"),
        (
            vec![policy(
                json!({"enforcment": "Warn", "requirements": pinned}),
            )],
            "document-refused",
        ),
        (
            vec![policy(
                json!({"enforcement": "Audit", "requirements": pinned}),
            )],
            "policy-does-not-enforce",
        ),
    ] {
        let (ids, report) = found_of([vec![gina()], policies].concat()).await;
        assert!(ids.iter().any(|it| it == id), "{id}: {report}");
        for other in ["no-policies", "document-refused", "policy-does-not-enforce"] {
            let is_there = ids.iter().any(|it| it == other);
            assert_eq!(is_there, other == id, "{other}: {report}");
        }
    }
}

/// The webhook refuses such a configuration. One that came in without it does not count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_governor_who_approves_is_found_and_a_group_of_governors_that_may_approve_too() {
    let workflow = json!({
        "issuer": "https://token.actions.githubusercontent.com",
        "identity": {"glob": "https://github.com/example/release-tools/.github/workflows/change.yml@refs/tags/v*"},
    });
    let approvals = json!({
        "from": [{"group": "security-team"}],
        "authorsFrom": [{"provenance": {"builders": [{
            "id": {"glob": "https://github.com/example/*"}, "signedBy": {"keyless": workflow},
        }]}}],
    });
    let approved = || {
        let requirements = json!([{"digestPinned": {}}, {"approvals": approvals}]);
        policy(json!({"environment": "production", "requirements": requirements}))
    };
    let people = || {
        let signs = json!({"issuer": "https://accounts.google.com", "email": "gina@example.com"});
        let identities = json!([{"certificate": signs}, {"kubernetes": {"user": "gina"}}]);
        let gina = json!({"name": "gina", "identities": identities});
        let group = json!({"name": "security-team", "members": ["gina"]});
        let spec = json!({"people": [gina], "groups": [group]});
        ("peopledirectories", own("PeopleDirectory", "example", spec))
    };
    let gina = governors(json!({"users": ["gina"]}));
    let (_, report) = found_of(vec![gina, approved(), people()]).await;
    let refused = about(&report, "document-refused").to_string();
    for said in [
        "GateConfiguration",
        "the governor `gina` is the person `gina`, who approves",
    ] {
        assert!(refused.contains(said), "{refused}");
    }

    let platform = governors(json!({"groups": ["platform"]}));
    let (ids, report) = found_of(vec![platform, approved(), people()]).await;
    let warned = about(&report, "document-warning").to_string();
    assert!(
        warned.contains("whether members of these groups approve cannot be looked up"),
        "{warned}"
    );
    assert!(!ids.iter().any(|id| id == "document-refused"), "{report}");
}
