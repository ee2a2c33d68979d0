//! `doctor` on a real API server: an installation as shipped has no hole, and each hole that is opened is found. `recover`: its commands
//! lead back in when no gate answers.

use std::process::Command;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::{Certificate, ControlPlane, Ran, User, run, until};

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy");
const BINARY: &str = env!("CARGO_BIN_EXE_promotion-gate");

/// As whom nobody else asks here, so that the audit log shows what `doctor` alone does.
const DOCTOR: (&str, &str) = ("controllers", "system:kube-controller-manager");

fn doctor(plane: &ControlPlane, args: &[&str]) -> Ran {
    doctor_by(plane, DOCTOR.0, args)
}

/// With the rights of the client with this token.
fn doctor_by(plane: &ControlPlane, token: &str, args: &[&str]) -> Ran {
    let kubeconfig = plane.kubeconfig("doctor", token);
    let mut command = Command::new(BINARY);
    command.args(["doctor", "--kubeconfig"]).arg(kubeconfig);
    run(command.args(args), b"")
}

/// The findings that are at least warnings, with what they are about.
fn found(plane: &ControlPlane) -> Vec<(String, String)> {
    let ran = doctor(plane, &["--output=json", "--fail-on=warning"]);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran}"));
    assert_eq!(report["unchecked"], json!([]), "{ran}");
    let findings = report["findings"].as_array().unwrap().iter();
    let worse = findings.filter(|finding| finding["severity"] != "note");
    let found: Vec<_> = worse
        .map(|it| {
            (
                it["id"].as_str().unwrap().to_owned(),
                it["about"].to_string(),
            )
        })
        .collect();
    assert_eq!(
        ran.code,
        Some(if found.is_empty() { 0 } else { 2 }),
        "{ran}"
    );
    found
}

fn apply(plane: &ControlPlane, object: &Value) {
    let args = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    plane
        .kubectl_as(User::Admin, args, &object.to_string())
        .ok();
}

fn own(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "promotion-gate.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn configuration(governors: Value) -> Value {
    own(
        "GateConfiguration",
        "promotion-gate",
        json!({"governors": governors}),
    )
}

fn policy(matches: Value, requirements: Value) -> Value {
    own(
        "PromotionPolicy",
        "all",
        json!({"environment": "production", "match": matches, "requirements": requirements}),
    )
}

fn webhook(plane: &ControlPlane) {
    let authority = plane.folder.path().join("authority.crt");
    std::fs::write(&authority, Certificate::new("promotion-gate").pem).unwrap();
    let mut command = Command::new(BINARY);
    command
        .args(["webhook-configuration", "--ca-bundle"])
        .arg(authority);
    let printed = run(&mut command, b"").ok();
    plane
        .kubectl_as(User::Admin, ["apply", "-f", "-"], &printed)
        .ok();
}

/// The gate's objects as `deploy/` has them, with three replicas that say they are ready; its resources; and last the webhook.
fn install(plane: &ControlPlane) {
    plane.kubectl(["create", "namespace", "shop"]).ok();
    let crds = format!("{DEPLOY}/crds");
    plane.kubectl(["apply", "--server-side", "-f", &crds]).ok();
    let namespace = format!("{DEPLOY}/namespace.yaml");
    plane.kubectl(["apply", "-f", &namespace]).ok();
    for file in [
        "rbac",
        "service",
        "deployment",
        "availability",
        "network-policy",
    ] {
        apply_shipped(plane, file);
    }
    ready(plane, 3);
    until("the definitions are served", || {
        plane
            .kubectl(["get", "promotionpolicies,gateconfigurations,changefreezes"])
            .is_ok()
            .then_some(())
    });
    apply(
        plane,
        &configuration(json!({"users": ["gina@example.com"]})),
    );
    apply(
        plane,
        &policy(json!({}), json!([{"digestPinned": {}}, {"noFreeze": {}}])),
    );
    apply_shipped(plane, "guards");
    let definition = "crd/promotionpolicies.promotion-gate.dev";
    until("the guards count", || {
        let mark = ["annotate", definition, "seen=yes", "--dry-run=server"];
        (!plane.kubectl(mark).is_ok()).then_some(())
    });
    webhook(plane);
    // May do everything with workloads, in every namespace.
    plane
        .kubectl(["delete", "clusterrolebinding", "developers"])
        .ok();
}

/// A CA whose time is over in five days, as `caBundle` holds it.
fn ending_authority() -> String {
    let mut parameters = rcgen::CertificateParams::new([]).unwrap();
    let end = SystemTime::now() + Duration::from_secs(5 * 24 * 60 * 60);
    parameters.not_after = end.into();
    let key = rcgen::KeyPair::generate().unwrap();
    STANDARD.encode(parameters.self_signed(&key).unwrap().pem())
}

/// What is found while a role with these rules is bound to Eve, sorted.
fn found_while_eve_may(plane: &ControlPlane, rules: Value) -> Vec<String> {
    let group = "rbac.authorization.k8s.io";
    let version = format!("{group}/v1");
    let eve = json!({"apiGroup": group, "kind": "User", "name": "eve@example.com"});
    apply(
        plane,
        &json!({"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": "hole"}, "rules": rules}),
    );
    apply(
        plane,
        &json!({
            "apiVersion": version, "kind": "ClusterRoleBinding", "metadata": {"name": "hole"}, "subjects": [eve],
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "hole"},
        }),
    );
    let found = sorted(ids(plane));
    let delete = ["delete", "clusterrole,clusterrolebinding", "hole"];
    plane.kubectl(delete).ok();
    found
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids
}

/// Changes an object of the gate's namespace.
fn merge(plane: &ControlPlane, object: [&str; 2], more: &[&str], patch: &Value) {
    let patch = patch.to_string();
    let how = ["-n", "promotion-gate", "--type=merge", "-p", &patch];
    let patch = [&["patch"][..], &object, &how, more].concat();
    plane.kubectl(patch).ok();
}

fn ready(plane: &ControlPlane, replicas: u8) {
    let status = json!({"status": {"replicas": 3, "readyReplicas": replicas}});
    let more = ["--subresource=status"];
    merge(plane, ["deployment", "promotion-gate"], &more, &status);
}

fn apply_shipped(plane: &ControlPlane, file: &str) {
    let file = format!("{DEPLOY}/manifests/{file}.yaml");
    plane.kubectl(["apply", "-f", &file]).ok();
}

#[test]
fn each_hole_that_is_opened_in_the_gate_itself_is_found_and_nothing_is_changed() {
    let plane = ControlPlane::start();
    install(&plane);
    assert_eq!(found(&plane), []);

    for (argument, expected) in [
        ("--audit-only", &["audit-only", "webhook-locks-out"][..]),
        (
            "--audit-namespace=lab",
            &["namespaces-audited", "webhook-audited-missing"],
        ),
        (
            "--infrastructure-namespace=cilium",
            &["infrastructure-differs"],
        ),
    ] {
        let add = json!([{
            "op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": argument,
        }]);
        let (add, how) = (add.to_string(), ["--type=json", "-p"]);
        let deployment = ["patch", "deployment", "promotion-gate", "-n=promotion-gate"];
        let patch = [&deployment[..], &how, &[&add]].concat();
        plane.kubectl(patch).ok();
        assert_eq!(sorted(ids(&plane)), expected, "{argument}");
        apply_shipped(&plane, "deployment");
    }
    for (replicas, id) in [(1, "gate-alone"), (0, "gate-down")] {
        ready(&plane, replicas);
        assert_eq!(ids(&plane), [id]);
    }
    ready(&plane, 3);
    let budget = ["poddisruptionbudget", "promotion-gate"];
    merge(&plane, budget, &[], &json!({"spec": {"maxUnavailable": 0}}));
    assert_eq!(ids(&plane), ["drains-blocked"]);
    apply_shipped(&plane, "availability");

    let guard = ["validatingadmissionpolicy", "promotion-gate-records"];
    let lenient = json!({"spec": {"failurePolicy": "Ignore"}});
    merge(&plane, guard, &[], &lenient);
    assert_eq!(ids(&plane), ["guards-changed"]);
    let definitions = json!([{
        "apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": ["update"],
    }]);
    assert_eq!(
        found_while_eve_may(&plane, definitions),
        ["guards-changed", "may-change-definitions"]
    );
    apply_shipped(&plane, "guards");
    let signers = json!([{
        "apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "verbs": ["approve"],
        "resourceNames": ["kubernetes.io/kube-apiserver-client"],
    }]);
    assert_eq!(
        found_while_eve_may(&plane, signers),
        ["may-approve-certificates"]
    );
    assert_eq!(found(&plane), []);

    // Who may read nothing learns that, and not that there is no hole.
    let ran = doctor_by(&plane, "alice", &[]);
    assert_eq!(ran.code, Some(3), "{ran}");

    let requests = plane.requests_of(DOCTOR.1);
    assert!(requests.len() > 100, "{}", requests.len());
    let reads = ["\"verb\":\"get\"", "\"verb\":\"list\""];
    let changes = requests
        .iter()
        .filter(|line| !reads.iter().any(|verb| line.contains(*verb)));
    let changes: Vec<_> = changes.collect();
    assert!(changes.is_empty(), "{changes:#?}");
}

#[test]
fn each_hole_that_is_opened_in_an_installation_as_shipped_is_found() {
    let plane = ControlPlane::start();
    let before: Vec<_> = {
        let ran = doctor(&plane, &["--output=json"]);
        assert_eq!(ran.code, Some(2), "{ran}");
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        let findings = report["findings"].as_array().unwrap().iter();
        findings
            .map(|it| it["id"].as_str().unwrap().to_owned())
            .collect()
    };
    for id in ["webhook-missing", "gate-missing", "guards-missing"] {
        assert!(before.iter().any(|it| it == id), "{before:?}");
    }
    install(&plane);
    assert_eq!(found(&plane), []);
    let text = doctor(&plane, &["--fail-on=note"]).ok();
    insta::assert_snapshot!(text, @"0 critical, 0 warnings, 0 notes");

    // Of the webhook configuration. The API server accepts each of these from an administrator when no governors are asked.
    let binding = [
        "validatingadmissionpolicybinding",
        "promotion-gate-configuration",
    ];
    plane.kubectl(["delete"].into_iter().chain(binding)).ok();
    assert_eq!(ids(&plane), ["guards-missing"]);
    for (path, value, id) in [
        (
            "/webhooks/0/failurePolicy",
            json!("Ignore"),
            "webhook-failure-policy",
        ),
        (
            "/webhooks/0/rules/0/operations",
            json!(["CREATE"]),
            "webhook-rules",
        ),
        (
            "/webhooks/0/objectSelector",
            json!({"matchLabels": {"gated": "yes"}}),
            "webhook-selector",
        ),
        (
            "/webhooks/0/namespaceSelector",
            json!({"matchLabels": {"gated": "yes"}}),
            "webhook-selector",
        ),
        (
            "/webhooks/0/matchConditions",
            json!([{"name": "never", "expression": "false"}]),
            "webhook-conditions",
        ),
        (
            "/webhooks/0/matchPolicy",
            json!("Exact"),
            "webhook-match-policy",
        ),
        ("/webhooks/0/timeoutSeconds", json!(1), "webhook-timeout"),
        (
            "/webhooks/0/clientConfig/caBundle",
            json!(""),
            "webhook-ca-bundle",
        ),
        (
            "/webhooks/0/clientConfig/service/name",
            json!("evil"),
            "webhook-endpoint",
        ),
        (
            "/webhooks/0/clientConfig/caBundle",
            json!(ending_authority()),
            "webhook-ca-expires",
        ),
        (
            "/webhooks/1/rules/0/resources",
            json!(["deployments"]),
            "webhook-infrastructure-missing",
        ),
        (
            "/webhooks/1/clientConfig/caBundle",
            json!(""),
            "webhook-infrastructure-missing",
        ),
        (
            "/webhooks/1/failurePolicy",
            json!("Fail"),
            "webhook-locks-out",
        ),
    ] {
        patched(
            &plane,
            &[json!({"op": "replace", "path": path, "value": value})],
        );
        let ids = ids(&plane);
        assert!(ids.contains(&id.to_owned()), "{path}: {ids:?}");
        plane
            .kubectl(["delete", "validatingwebhookconfiguration", "promotion-gate"])
            .ok();
        webhook(&plane);
    }
    apply_shipped(&plane, "guards");
    assert_eq!(found(&plane), []);

    // Of rights.
    for (rights, ids) in [
        (
            [
                "--verb=delete",
                "--resource=validatingadmissionpolicies.admissionregistration.k8s.io",
            ],
            vec!["may-change-guards"],
        ),
        (
            ["--verb=create", "--resource=pods/exec"],
            vec!["may-change-gate", "may-run-in-exempt-namespaces"],
        ),
        (
            ["--verb=patch", "--resource=daemonsets.apps"],
            vec!["may-run-in-exempt-namespaces"],
        ),
        (
            [
                "--verb=create",
                "--resource=mutatingwebhookconfigurations.admissionregistration.k8s.io",
            ],
            vec!["may-mutate-requests"],
        ),
        (
            [
                "--verb=patch",
                "--resource=apiservices.apiregistration.k8s.io",
            ],
            vec!["may-change-guards"],
        ),
        (
            ["--verb=impersonate", "--resource=users"],
            vec!["may-impersonate"],
        ),
        (
            ["--verb=create", "--resource=serviceaccounts/token"],
            vec!["may-mint-tokens"],
        ),
        (
            ["--verb=create", "--resource=cronjobs.batch"],
            vec!["may-run-in-exempt-namespaces"],
        ),
        (
            [
                "--verb=bind",
                "--resource=clusterroles.rbac.authorization.k8s.io",
            ],
            vec!["may-grant-rights"],
        ),
    ] {
        let create = ["create", "clusterrole", "hole"];
        plane.kubectl(create.into_iter().chain(rights)).ok();
        let bind = ["create", "clusterrolebinding", "hole", "--clusterrole=hole"];
        plane
            .kubectl(bind.into_iter().chain(["--user=eve@example.com"]))
            .ok();
        let found_of_eve = found(&plane);
        let found_ids: Vec<_> = found_of_eve.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(found_ids, ids);
        for (_, about) in &found_of_eve {
            assert!(about.contains("user `eve@example.com`"), "{found_of_eve:?}");
        }
        plane
            .kubectl(["delete", "clusterrole,clusterrolebinding", "hole"])
            .ok();
    }
    let everybody = [
        "--clusterrole=cluster-admin",
        "--group=system:authenticated",
    ];
    let bind = ["create", "clusterrolebinding", "hole"];
    plane.kubectl(bind.into_iter().chain(everybody)).ok();
    let ran = doctor(&plane, &[]);
    ran.denied("critical administrators: they may do everything");
    plane.kubectl(["delete", "clusterrolebinding", "hole"]).ok();
    // A right in another namespace is nothing.
    let elsewhere = [
        "create",
        "rolebinding",
        "hole",
        "--clusterrole=cluster-admin",
        "--user=eve@example.com",
        "-n=shop",
    ];
    plane.kubectl(elsewhere).ok();
    assert_eq!(found(&plane), []);

    // Of the installation.
    plane
        .kubectl([
            "delete",
            "networkpolicy",
            "promotion-gate",
            "-n=promotion-gate",
        ])
        .ok();
    assert_eq!(ids(&plane), ["port-open"]);

    // Of what is served.
    let service = json!({"namespace": "shop", "name": "own"});
    let patch = json!({
        "metadata": {"labels": {"kube-aggregator.kubernetes.io/automanaged": null}},
        "spec": {"service": service, "insecureSkipTLSVerify": true},
    })
    .to_string();
    let lead = || {
        let patch = ["--type=merge", "-p", &patch];
        let api = ["patch", "apiservice", "v1alpha1.promotion-gate.dev"];
        plane.kubectl(api.into_iter().chain(patch))
    };
    lead().refused();
    let binding = [
        "validatingadmissionpolicybinding",
        "promotion-gate-registration",
    ];
    plane.kubectl(["delete"].into_iter().chain(binding)).ok();
    until("the deleted binding counts", || {
        lead().is_ok().then_some(())
    });
    let ran = doctor(&plane, &["--output=json"]);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran}"));
    let findings = report["findings"].as_array().unwrap().iter();
    let about: Vec<_> = findings
        .filter(|finding| finding["id"] == "served-elsewhere")
        .map(|finding| &finding["about"])
        .collect();
    let expected = json!(["APIService `v1alpha1.promotion-gate.dev`: Service `shop/own`"]);
    assert_eq!(about, [&expected], "{ran}");
    plane
        .kubectl(["delete", "apiservice", "v1alpha1.promotion-gate.dev"])
        .ok();
    let resources = "--raw=/apis/promotion-gate.dev/v1alpha1/promotionpolicies";
    until("the API server serves the resources itself", || {
        plane.kubectl(["get", resources]).is_ok().then_some(())
    });
}

#[test]
fn documents_without_an_effect_are_found() {
    let plane = ControlPlane::start();
    install(&plane);
    // No gate answers about its resources.
    let binding = [
        "delete",
        "validatingadmissionpolicybinding",
        "promotion-gate-configuration",
    ];
    plane.kubectl(binding).ok();
    until("the webhook configuration is deleted", || {
        let deleted = plane.kubectl(["delete", "validatingwebhookconfiguration", "promotion-gate"]);
        deleted.is_ok().then_some(())
    });
    let rest = || {
        let ids = ids(&plane).into_iter();
        // Loading warns of the same freeze.
        let expected = ["guards-missing", "webhook-missing", "document-warning"];
        ids.filter(|id| !expected.contains(&id.as_str()))
            .collect::<Vec<_>>()
    };
    assert_eq!(rest(), Vec::<String>::new());

    apply(
        &plane,
        &policy(
            json!({"namespaces": {"names": ["prod-*"]}}),
            json!([{"digestPinned": {}}]),
        ),
    );
    let freeze = json!({"environments": ["production"], "reason": "holidays", "windows": [{"from": "2026-12-20T00:00:00Z", "until": "2027-01-02T00:00:00Z"}]});
    apply(&plane, &own("ChangeFreeze", "holidays", freeze));
    let mut expected = vec![
        "freeze-without-effect",
        "namespace-ungoverned",
        "policy-without-effect",
    ];
    let mut found = rest();
    found.sort();
    assert_eq!(found, expected);

    let nobody = r#"[{"op": "remove", "path": "/spec/governors"}]"#;
    let patch = [
        "patch",
        "gateconfiguration",
        "promotion-gate",
        "--type=json",
        "-p",
        nobody,
    ];
    plane.kubectl(patch).ok();
    apply(
        &plane,
        &policy(
            json!({"namespaces": {"selector": {"matchLabels": {"gated": "yes"}}}}),
            json!([{"digestPinned": {}}]),
        ),
    );
    let create = [
        "create",
        "clusterrole",
        "hole",
        "--verb=update",
        "--resource=namespaces,promotionpolicies.promotion-gate.dev,validatingwebhookconfigurations.admissionregistration.k8s.io",
    ];
    plane.kubectl(create).ok();
    let bind = [
        "create",
        "clusterrolebinding",
        "hole",
        "--clusterrole=hole",
        "--user=eve@example.com",
    ];
    plane.kubectl(bind).ok();
    expected.extend([
        "may-change-resources",
        "may-change-webhook",
        "may-relabel-namespaces",
        "no-governors",
    ]);
    expected.sort_unstable();
    let mut found = rest();
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn policies_that_decide_nothing_a_governor_who_approves_and_replicas_on_one_node_are_found() {
    let plane = ControlPlane::start();
    install(&plane);
    let binding = "validatingadmissionpolicybinding/promotion-gate-configuration";
    plane.kubectl(["delete", binding]).ok();
    until("the webhook configuration is deleted", || {
        let deleted = plane.kubectl(["delete", "validatingwebhookconfiguration", "promotion-gate"]);
        deleted.is_ok().then_some(())
    });
    let about = |id: &str| {
        let ran = doctor(&plane, &["--output=json"]);
        let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran}"));
        let mut findings = report["findings"].as_array().unwrap().iter();
        let finding = findings.find(|finding| finding["id"] == id)?;
        Some(finding["about"].to_string())
    };
    let has = |id: &str| about(id).is_some();
    let holes = [
        "policy-does-not-enforce",
        "document-refused",
        "no-policies",
        "gate-on-one-node",
    ];
    assert!(!holes.into_iter().any(has));

    let mut audits = policy(json!({}), json!([{"digestPinned": {}}]));
    audits["spec"]["enforcement"] = json!("Audit");
    apply(&plane, &audits);
    assert!(has("policy-does-not-enforce"));

    let signs = json!({"issuer": "https://accounts.example", "email": "gina@example.com"});
    let identities = json!([{"certificate": signs}, {"kubernetes": {"user": "gina@example.com"}}]);
    let gina = json!({"name": "gina", "identities": identities});
    apply(
        &plane,
        &own("PeopleDirectory", "example", json!({"people": [gina]})),
    );
    let approvals = json!({"from": [{"person": "gina"}], "differentFromAuthor": false});
    apply(
        &plane,
        &policy(
            json!({}),
            json!([{"digestPinned": {}}, {"approvals": approvals}]),
        ),
    );
    let refused = about("document-refused").unwrap();
    assert!(
        refused.contains("the governor `gina@example.com` is the person `gina`, who approves"),
        "{refused}"
    );

    plane.kubectl(["delete", "promotionpolicy", "all"]).ok();
    assert!(has("no-policies"));

    let deployment = plane.kubectl([
        "get",
        "deployment",
        "promotion-gate",
        "-n",
        "promotion-gate",
        "-o",
        "json",
    ]);
    let deployment: Value = serde_json::from_str(&deployment.ok()).unwrap();
    for name in ["one", "two"] {
        let mut pod = deployment["spec"]["template"].clone();
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        pod["metadata"]["name"] = json!(name);
        pod["metadata"]["namespace"] = json!("promotion-gate");
        pod["spec"]["nodeName"] = json!("node");
        // No controller counts what a quota allows.
        pod["spec"]
            .as_object_mut()
            .unwrap()
            .remove("priorityClassName");
        apply(&plane, &pod);
        let status = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        merge(&plane, ["pod", name], &["--subresource=status"], &status);
    }
    assert!(has("gate-on-one-node"));
}

#[test]
fn the_commands_of_recover_lead_back_in_when_no_gate_answers() {
    let plane = ControlPlane::start();
    install(&plane);
    let pod = json!({
        "apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "new", "namespace": "shop"},
        "template": {"spec": {"containers": [{"name": "main", "image": "registry.example/app"}]}},
    })
    .to_string();
    let create = || plane.kubectl_as(User::Admin, ["create", "--dry-run=server", "-f", "-"], &pod);
    until("the API server asks about the Pod", || {
        create()
            .stderr
            .contains("failed calling webhook")
            .then_some(())
    });

    let printed = run(Command::new(BINARY).arg("recover"), b"").ok();
    let commands = |step: &str| {
        let start = printed.find(step).unwrap();
        let lines = printed[start..]
            .lines()
            .skip_while(|line| line.starts_with('#'));
        lines
            .take_while(|line| !line.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let run_as_administrator = |line: &str| {
        let arguments = line.strip_prefix("kubectl ").unwrap();
        let (arguments, patch) =
            arguments
                .split_once(" --patch=")
                .map_or((arguments, None), |(arguments, patch)| {
                    (
                        arguments,
                        Some(format!("--patch={}", patch.trim_matches('\''))),
                    )
                });
        plane.kubectl(arguments.split(' ').chain(patch.as_deref()))
    };
    // Without an answer of the gate, its own Pods can start all the same.
    let restart = commands("# 1.")
        .into_iter()
        .find(|line| line.contains("rollout restart"))
        .unwrap();
    run_as_administrator(&restart).ok();

    // An administrator who is no governor needs the first command of step 3.
    let [patch] = &commands("# 2.")[..] else {
        panic!("{printed}")
    };
    let said = run_as_administrator(patch).refused();
    assert!(
        said.contains("only governors may change the webhook configuration"),
        "{said}"
    );
    let [binding, webhook] = &commands("# 3.")[..] else {
        panic!("{printed}")
    };
    run_as_administrator(binding).ok();
    until("the deleted binding counts", || {
        run_as_administrator(patch).is_ok().then_some(())
    });
    until("the Pod is admitted without an answer", || {
        create().is_ok().then_some(())
    });
    assert!(ids(&plane).contains(&"webhook-failure-policy".to_owned()));

    run_as_administrator(webhook).ok();
    assert!(ids(&plane).contains(&"webhook-missing".to_owned()));
    let [records] = &commands("# 4.")[..] else {
        panic!("{printed}")
    };
    run_as_administrator(records).ok();
}

fn ids(plane: &ControlPlane) -> Vec<String> {
    found(plane).into_iter().map(|(id, _)| id).collect()
}

fn patched(plane: &ControlPlane, patch: &[Value]) {
    let patch = json!(patch).to_string();
    let args = [
        "patch",
        "validatingwebhookconfiguration",
        "promotion-gate",
        "--type=json",
        "-p",
        &patch,
    ];
    // A deleted binding can take some seconds to count.
    until("the change is admitted", || {
        plane.kubectl(args).is_ok().then_some(())
    });
}
