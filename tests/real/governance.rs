//! Who may change what the gate decides by, as a real API server asks: the webhook for the gate's resources, and the shipped
//! admission policies for what the webhook is not asked about.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{ControlPlane, Gate, Ran, Serving, User, until};

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy");
const GATE: &str = "system:serviceaccount:promotion-gate:promotion-gate";
const COLLECTOR: &str = "system:serviceaccount:kube-system:generic-garbage-collector";
/// Administrators of the cluster, of whom `gina` is a governor and `eve` is not.
const GINA: &str = "gina@example.com";
const EVE: &str = "eve@example.com";
const INJECTOR: &str = "system:serviceaccount:cert-manager:cert-manager-cainjector";
const GUARDED: &str = "only governors may change the webhook configuration";
const TOGETHER: &str = "together with all others";
const OF_THE_GATE: &str = "only promotion-gate writes release records";

/// A control plane with the definitions of the gate's resources, and these users as administrators.
fn plane(administrators: &[&str]) -> ControlPlane {
    let plane = ControlPlane::start();
    let apply = ["apply", "--server-side", "-f"];
    let crds = format!("{DEPLOY}/crds");
    plane.kubectl(apply.into_iter().chain([&*crds])).ok();
    let kinds = KINDS.map(|(_, plural)| plural).join(",");
    until("the definitions are served", || {
        plane.kubectl(["get", &kinds]).is_ok().then_some(())
    });
    for (at, user) in administrators.iter().enumerate() {
        let (name, user) = (format!("administrator-{at}"), format!("--user={user}"));
        let role = "--clusterrole=cluster-admin";
        plane
            .kubectl(["create", "clusterrolebinding", &name, role, &user])
            .ok();
    }
    plane
}

fn guard(plane: &ControlPlane) {
    let guards = format!("{DEPLOY}/manifests/guards.yaml");
    plane.kubectl(["apply", "-f", &guards]).ok();
}

fn run_as(plane: &ControlPlane, user: &str, args: &[&str], input: &str) -> Ran {
    let user = format!("--as={user}");
    let args = args.iter().copied().chain([&*user]);
    plane.kubectl_as(User::Admin, args, input)
}

fn resource(kind: &str, name: &str, spec: Value) -> String {
    json!({"apiVersion": "promotion-gate.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}).to_string()
}

fn governed_by(user: &str) -> String {
    resource(
        "GateConfiguration",
        "promotion-gate",
        json!({"governors": {"users": [user], "groups": ["governors"]}}),
    )
}

/// A webhook configuration that asks about nothing which these tests touch.
fn webhook(name: &str) -> String {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [{
            "name": "validate.promotion-gate.dev",
            "clientConfig": {"url": "https://127.0.0.1:1/validate"},
            "rules": [{"apiGroups": ["argoproj.io"], "apiVersions": ["v1alpha1"], "operations": ["CREATE"], "resources": ["rollouts"]}],
            "failurePolicy": "Fail", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        }],
    })
    .to_string()
}

#[test]
fn only_governors_change_the_webhook_configuration_and_the_definitions() {
    let users = [EVE, GINA, GATE, INJECTOR];
    let plane = plane(&users);
    for name in ["promotion-gate", "another"] {
        plane
            .kubectl_as(User::Admin, ["apply", "-f", "-"], &webhook(name))
            .ok();
    }
    guard(&plane);
    let mark = |user: &str, name: &str| {
        let args = [
            "annotate",
            "--overwrite",
            "validatingwebhookconfiguration",
            name,
            "changed-by=test",
        ];
        run_as(&plane, user, &args, "")
    };
    // Nobody is refused while there is no configuration, or one that names no governors.
    mark(EVE, "promotion-gate").ok();
    let empty = resource("GateConfiguration", "promotion-gate", json!({}));
    plane
        .kubectl_as(User::Admin, ["apply", "-f", "-"], &empty)
        .ok();
    mark(EVE, "promotion-gate").ok();
    plane
        .kubectl_as(User::Admin, ["apply", "-f", "-"], &governed_by(GINA))
        .ok();
    until("the guard knows the governors", || {
        (!mark(EVE, "promotion-gate").is_ok()).then_some(())
    });

    let refused = |args: &[&str]| {
        let said = run_as(&plane, EVE, args, "").refused();
        assert!(said.contains(GUARDED), "{said}");
    };
    refused(&["delete", "validatingwebhookconfiguration", "promotion-gate"]);
    // The deletion of a collection names no object, and is for nobody.
    for collection in [
        "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    ] {
        for user in [EVE, GINA] {
            let said = run_as(&plane, user, &["delete", "--raw", collection], "").refused();
            assert!(said.contains(TOGETHER), "{said}");
        }
    }
    // Without its definition a kind is gone, with all of its objects, and no webhook is asked about those.
    refused(&[
        "delete",
        "customresourcedefinition",
        "promotionpolicies.promotion-gate.dev",
    ]);
    let patch = r#"{"spec": {"preserveUnknownFields": false, "conversion": {"strategy": "None"}, "names": {"shortNames": ["x"]}}}"#;
    refused(&[
        "patch",
        "customresourcedefinition",
        "changefreezes.promotion-gate.dev",
        "--type=merge",
        "-p",
        patch,
    ]);
    for user in [GINA, GATE] {
        mark(user, "promotion-gate").ok();
    }
    // Where the gate makes its certificates itself, everyone who may create namespaces and tokens can have this account.
    let said = mark(INJECTOR, "promotion-gate").refused();
    assert!(said.contains(GUARDED), "{said}");
    let in_group = [
        "annotate",
        "--overwrite",
        "validatingwebhookconfiguration",
        "promotion-gate",
        "a=b",
        "--as-group=governors",
    ];
    run_as(&plane, EVE, &in_group, "").ok();
    // The collection's other objects were deleted before it was refused.
    plane
        .kubectl_as(User::Admin, ["apply", "-f", "-"], &webhook("another"))
        .ok();
    mark(EVE, "another").ok();

    // The way out of a lock-out, as deploy/README.md describes it.
    run_as(
        &plane,
        EVE,
        &[
            "delete",
            "validatingadmissionpolicybinding",
            "promotion-gate-configuration",
        ],
        "",
    )
    .ok();
    until("the webhook configuration can be deleted", || {
        let delete = ["delete", "validatingwebhookconfiguration", "promotion-gate"];
        run_as(&plane, EVE, &delete, "").is_ok().then_some(())
    });
}

/// As for half a minute after an API server has started, it does not know the kind that names the governors.
#[test]
fn attack_a_window_without_the_kind_of_governors_opens_no_way_and_locks_nobody_out_of_others() {
    let plane = ControlPlane::start();
    for name in ["promotion-gate", "another"] {
        plane
            .kubectl_as(User::Admin, ["apply", "-f", "-"], &webhook(name))
            .ok();
    }
    guard(&plane);
    let kind = "validatingwebhookconfiguration";
    let mark = |name: &str| plane.kubectl(["annotate", "--overwrite", kind, name, "a=b"]);
    until("the guard is there", || {
        (!mark("promotion-gate").is_ok()).then_some(())
    });
    plane.kubectl(["delete", kind, "promotion-gate"]).refused();
    mark("another").ok();
    plane.kubectl(["delete", kind, "another"]).ok();
}

/// Who may change APIServices would answer all questions about the gate's resources from a server of their own.
#[test]
fn attack_the_api_of_the_gates_resources_is_led_to_another_server() {
    let plane = plane(&[EVE, GINA]);
    guard(&plane);
    let (kind, name) = ("apiservice", "v1alpha1.promotion-gate.dev");
    let own = r#"{"metadata": {"labels": {"kube-aggregator.kubernetes.io/automanaged": null}}, "spec": {"service": {"namespace": "default", "name": "own"}, "insecureSkipTLSVerify": true}}"#;
    let lead = |user: &str| {
        let dry = "--dry-run=server";
        let patch = ["patch", kind, name, "--type=merge", "-p", own, dry];
        run_as(&plane, user, &patch, "")
    };
    until("the guard is there", || (!lead(EVE).is_ok()).then_some(()));
    let labels = [
        "label",
        kind,
        name,
        "kube-aggregator.kubernetes.io/automanaged-",
    ];
    let preferred = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1.promotion-gate.dev"},
        "spec": {
            "group": "promotion-gate.dev", "version": "v1", "groupPriorityMinimum": 2000, "versionPriority": 100,
            "service": {"namespace": "default", "name": "own"}, "insecureSkipTLSVerify": true,
        },
    });
    let create = ["create", "-f", "-"];
    for refused in [
        lead(EVE),
        // A governor has no reason to do it either.
        lead(GINA),
        run_as(&plane, EVE, &labels, ""),
        run_as(&plane, EVE, &["delete", kind, name], ""),
        run_as(&plane, EVE, &create, &preferred.to_string()),
    ] {
        let said = refused.refused();
        assert!(said.contains("only the API server itself"), "{said}");
    }
    // Other APIServices are not guarded, and the API server goes on to register the gate's by itself.
    let mut another = preferred;
    another["metadata"]["name"] = json!("v1.another.example");
    another["spec"]["group"] = json!("another.example");
    let dry = [&create[..], &["--dry-run=server"]].concat();
    run_as(&plane, EVE, &dry, &another.to_string()).ok();
    run_as(&plane, EVE, &["annotate", kind, name, "a=b"], "").ok();
    let binding = "promotion-gate-configuration";
    plane
        .kubectl(["delete", "validatingadmissionpolicybinding", binding])
        .ok();
    let definitions = plane.kubectl(["get", "crd", "-o", "name"]).ok();
    let ours = definitions
        .lines()
        .filter(|it| it.ends_with(".promotion-gate.dev"));
    for definition in ours {
        let delete = ["delete", definition];
        until("the definition is deleted", || {
            plane.kubectl(delete).is_ok().then_some(())
        });
    }
    until("its APIService is gone", || {
        (!plane.kubectl(["get", kind, name]).is_ok()).then_some(())
    });
    plane
        .kubectl(["apply", "--server-side", "-f", &format!("{DEPLOY}/crds")])
        .ok();
    until("it is registered again", || {
        plane.kubectl(["get", kind, name]).is_ok().then_some(())
    });
}

#[test]
fn the_namespace_of_the_gate_is_not_deleted_while_a_missing_answer_denies() {
    let plane = plane(&[]);
    plane.create_namespace("promotion-gate");
    plane.create_namespace("shop");
    guard(&plane);
    let apply = |failure_policy: &str| {
        let text = webhook("promotion-gate").replace("Fail", failure_policy);
        let apply = ["apply", "-f", "-"];
        plane.kubectl_as(User::Admin, apply, &text).ok();
    };
    let delete = |name: &str| plane.kubectl(["delete", "namespace", name, "--dry-run=server"]);
    delete("promotion-gate").ok();
    apply("Fail");
    let said = until("the guard is there", || {
        let ran = delete("promotion-gate");
        (!ran.is_ok()).then_some(ran.stderr)
    });
    assert!(
        said.contains("delete the ValidatingWebhookConfiguration `promotion-gate` first"),
        "{said}"
    );
    delete("shop").ok();
    apply("Ignore");
    until("its deletion denies nothing", || {
        delete("promotion-gate").is_ok().then_some(())
    });
    apply("Fail");
    until("the guard counts again", || {
        (!delete("promotion-gate").is_ok()).then_some(())
    });
    plane
        .kubectl(["delete", "validatingwebhookconfiguration", "promotion-gate"])
        .ok();
    until("nothing is denied without the configuration", || {
        delete("promotion-gate").is_ok().then_some(())
    });
}

#[test]
fn webhooks_that_kubectl_applied_before_stay_once_the_field_is_given_up_as_the_page_says() {
    let plane = plane(&[GINA]);
    let apply = ["apply", "-f", "-"];
    plane
        .kubectl_as(User::Admin, apply, &governed_by(GINA))
        .ok();
    guard(&plane);
    let by_gina = |args: &[&str]| run_as(&plane, GINA, args, "");
    let whole = format!("{DEPLOY}/webhook.yaml");
    let empty = format!("{DEPLOY}/manifests/webhook.yaml");
    let kind = "validatingwebhookconfiguration";
    by_gina(&["apply", "--server-side", "-f", &whole]).ok();
    let said = until("the guard is there", || {
        let dry = ["apply", "--server-side", "--dry-run=server", "-f", &empty];
        let ran = by_gina(&dry);
        (!ran.is_ok()).then_some(ran.stderr)
    });
    assert!(said.contains("take all `webhooks` away"), "{said}");
    let page = include_str!("../../deploy/README.md");
    let patch = page.split("--patch='{\"metadata\"").nth(1).unwrap();
    let patch = format!("{{\"metadata\"{}", patch.split('\'').next().unwrap());
    by_gina(&[
        "patch",
        kind,
        "promotion-gate",
        "--type=merge",
        "-p",
        &patch,
    ])
    .ok();
    by_gina(&["apply", "--server-side", "-f", &empty]).ok();
    let names = [
        "get",
        kind,
        "promotion-gate",
        "-o",
        "jsonpath={.webhooks[*].name}",
    ];
    assert_eq!(by_gina(&names).ok().split_whitespace().count(), 2);
}

#[test]
fn only_the_gate_writes_release_records_and_status() {
    let plane = plane(&[GINA, GATE, COLLECTOR]);
    guard(&plane);
    let record = |finalizers: &[&str]| {
        json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "ReleaseRecord",
            "metadata": {"name": "sha256-1", "namespace": "default", "finalizers": finalizers},
            "spec": {"entries": {}},
        })
        .to_string()
    };
    let create = |user: &str, dry: &str| {
        run_as(
            &plane,
            user,
            &["create", "-f", "-", dry],
            &record(&["promotion-gate.dev/test"]),
        )
    };
    until("the guard is there", || {
        let ran = create(GINA, "--dry-run=server");
        ran.stderr.contains(OF_THE_GATE).then_some(())
    });
    create(GATE, "--dry-run=none").ok();

    let patch = |user: &str, what: &str| {
        let args = [
            "patch",
            "releaserecord",
            "sha256-1",
            "--type=merge",
            "-p",
            what,
        ];
        run_as(&plane, user, &args, "")
    };
    // `status` holds last valid versions, and the public keys of records.
    let empty = resource("GateConfiguration", "promotion-gate", json!({}));
    plane
        .kubectl_as(User::Admin, ["apply", "-f", "-"], &empty)
        .ok();
    let status = |user: &str| {
        let forged =
            r#"{"status": {"lastValidSpec": {"governors": {"users": ["eve@example.com"]}}}}"#;
        let of = [
            "gateconfiguration",
            "promotion-gate",
            "--subresource=status",
        ];
        let args = [&["patch"], &of[..], &["--type=merge", "-p", forged]].concat();
        run_as(&plane, user, &args, "")
    };
    let (spec, metadata) = (
        r#"{"spec": {"lastUsed": "2026-11-28T00:00:00Z"}}"#,
        r#"{"metadata": {"labels": {"a": "b"}}}"#,
    );
    let collection = "/apis/promotion-gate.dev/v1alpha1/namespaces/default/releaserecords";
    // A governor is no exception.
    for refused in [
        patch(GINA, spec),
        patch(GINA, metadata),
        status(GINA),
        run_as(
            &plane,
            GINA,
            &["delete", "--wait=false", "releaserecord", "sha256-1"],
            "",
        ),
        run_as(&plane, GINA, &["delete", "--raw", collection], ""),
        patch(COLLECTOR, spec),
        status(COLLECTOR),
    ] {
        let said = refused.refused();
        assert!(said.contains(OF_THE_GATE), "{said}");
    }
    patch(GATE, spec).ok();
    status(GATE).ok();
    // What lost its owner goes away: deleted, and then without its finalizers.
    run_as(
        &plane,
        COLLECTOR,
        &["delete", "--wait=false", "releaserecord", "sha256-1"],
        "",
    )
    .ok();
    patch(COLLECTOR, r#"{"metadata": {"finalizers": null}}"#).ok();
    let left = ["get", "releaserecords", "-o", "name"];
    assert_eq!(plane.kubectl(left).ok(), "");
}

fn emergency_record(name: &str) -> String {
    resource(
        "EmergencyChangeRecord",
        name,
        json!({
            "declaration": digest('e'), "environment": "production", "incident": {"id": "INC1", "state": "verified"},
            "admitted": "2026-11-01T00:00:00Z", "lastAdmitted": "2026-11-01T00:00:00Z",
            "expires": "2026-11-01T04:00:00Z", "reviewDue": "2026-11-03T00:00:00Z",
        }),
    )
}

#[test]
fn only_the_gate_writes_records_of_emergency_changes() {
    let plane = plane(&[GINA, GATE]);
    guard(&plane);
    let create = |user: &str, dry: &str| {
        let create = ["create", "-f", "-", dry];
        run_as(&plane, user, &create, &emergency_record("one"))
    };
    until("the guard is there", || {
        let ran = create(GINA, "--dry-run=server");
        ran.stderr.contains(OF_THE_GATE).then_some(())
    });
    create(GATE, "--dry-run=none").ok();
    let patch = |user: &str, what: &str, more: &[&str]| {
        let patch = [
            "patch",
            "emergencychangerecord",
            "one",
            "--type=merge",
            "-p",
            what,
        ];
        run_as(&plane, user, &[&patch, more].concat(), "")
    };
    let later = r#"{"spec": {"reviewDue": "2100-01-01T00:00:00Z"}}"#;
    let reviewed = r#"{"status": {"state": "reviewed"}}"#;
    // A governor is no exception.
    for refused in [
        patch(GINA, later, &[]),
        patch(GINA, reviewed, &["--subresource=status"]),
    ] {
        let said = refused.refused();
        assert!(said.contains(OF_THE_GATE), "{said}");
    }
    patch(GATE, reviewed, &["--subresource=status"]).ok();
}

#[test]
fn the_webhook_lets_a_governor_delete_the_record_of_an_emergency_change_and_keeps_that_it_was_there()
 {
    let governed = Governed::start();
    let written = emergency_record("one");
    for user in [EVE, GINA] {
        let said = governed.apply(user, &written, "--dry-run=none").refused();
        assert!(said.contains("[not-the-gate]"), "{said}");
    }
    let create = ["create", "-f", "-"];
    let by_the_gate = run_as(&governed.plane, GATE, &create, &written);
    by_the_gate.ok();
    let kind = "emergencychangerecord";
    let record = || -> Option<Value> {
        let found = governed.plane.kubectl(["get", kind, "one", "-o", "json"]);
        serde_json::from_str(&found.stdout).ok()
    };
    until("the gate says that its review is overdue", || {
        (record()?["status"]["state"] == "overdue").then_some(())
    });
    let said = governed.run(EVE, &["delete", kind, "one"]).refused();
    assert!(said.contains("[not-a-governor]"), "{said}");
    governed.run(GINA, &["delete", kind, "one"]).ok();
    let lifted = until("it is written again", || {
        record().filter(|record| record["status"]["state"] == "lifted")
    });
    assert_eq!(lifted["status"]["lifted"]["by"], GINA);
    until("its Events say so", || {
        let described = governed.plane.kubectl(["describe", kind, "one"]).ok();
        let says = |line: &str| line.contains("Lifted") && line.contains(GINA);
        described.lines().any(says).then_some(())
    });
    until("the conditions say so too", || {
        let record = record()?;
        let conditions = record["status"]["conditions"].as_array()?.clone();
        let is = |kind: &str| {
            let mut conditions = conditions.iter();
            conditions.any(|it| it["type"] == kind && it["status"] == "True")
        };
        (is("Ready") && is("Reviewed")).then_some(())
    });
    let log = governed.serving.log();
    assert!(!log.contains("emergency-record-deleted"), "{log}");
}

/// A gate with the shipped rights, and an API server that asks it about the gate's resources and namespaces.
struct Governed {
    plane: ControlPlane,
    serving: Serving,
    _gate: Gate,
}

impl Governed {
    fn start() -> Governed {
        let plane = plane(&[EVE, GINA]);
        plane
            .kubectl(["create", "namespace", "promotion-gate"])
            .ok();
        let rbac = format!("{DEPLOY}/manifests/rbac.yaml");
        plane.kubectl(["apply", "-f", &rbac]).ok();
        plane
            .kubectl_as(User::Admin, ["apply", "-f", "-"], &governed_by(GINA))
            .ok();
        let gate = Gate::configured(&json!({}));
        let kubeconfig = plane
            .kubeconfig("gate", "gate-account")
            .display()
            .to_string();
        let serving = gate.serve_cluster(&kubeconfig, &[]);
        serving.is_ready();
        let mut registration: Value =
            serde_saphyr::from_str(&serving.registration(&serving.ca_bundle)).unwrap();
        // What runs is no matter here.
        let rules = registration["webhooks"][0]["rules"].as_array_mut().unwrap();
        rules.retain(|rule| {
            rule["apiGroups"] == json!(["promotion-gate.dev"])
                || rule["resources"][0] == "namespaces"
        });
        plane
            .kubectl_as(User::Admin, ["apply", "-f", "-"], &registration.to_string())
            .ok();
        let governed = Governed {
            plane,
            serving,
            _gate: gate,
        };
        until("the webhook is asked", || {
            let probe = resource(
                "Revocation",
                "probe",
                json!({"digest": digest('f'), "reason": "probe"}),
            );
            let ran = governed.apply(EVE, &probe, "--dry-run=server");
            ran.stderr.contains("[not-a-governor]").then_some(())
        });
        governed
    }

    fn run(&self, user: &str, args: &[&str]) -> Ran {
        run_as(&self.plane, user, args, "")
    }

    fn apply(&self, user: &str, document: &str, dry: &str) -> Ran {
        run_as(
            &self.plane,
            user,
            &["apply", "--validate=false", "-f", "-", dry],
            document,
        )
    }
}

fn digest(hex: char) -> String {
    format!("sha256:{}", hex.to_string().repeat(64))
}

const KINDS: [(&str, &str); 11] = [
    ("PromotionPolicy", "promotionpolicies"),
    ("PeopleDirectory", "peopledirectories"),
    ("ChangeFreeze", "changefreezes"),
    ("IncidentCheck", "incidentchecks"),
    ("TrustRoot", "trustroots"),
    ("Rejection", "rejections"),
    ("Revocation", "revocations"),
    ("AuthorRecord", "authorrecords"),
    ("VexRecord", "vexrecords"),
    ("EmergencyChangeRecord", "emergencychangerecords"),
    ("GateConfiguration", "gateconfigurations"),
];

/// One valid resource of each kind that one can be written of without files.
fn samples() -> Vec<(&'static str, Value)> {
    let alice =
        json!({"name": "alice", "identities": [{"kubernetes": {"user": "alice@example.com"}}]});
    vec![
        (
            "PeopleDirectory",
            json!({"people": [alice], "groups": [{"name": "leads", "members": ["alice"]}]}),
        ),
        (
            "PromotionPolicy",
            json!({"requirements": [{"digestPinned": {}}], "match": {"namespaces": {"selector": {"matchLabels": {"tier": "production"}}}}}),
        ),
        (
            "ChangeFreeze",
            json!({"environments": ["production"], "reason": "holidays", "windows": [{"from": "2026-12-20T00:00:00Z", "until": "2027-01-02T00:00:00Z"}]}),
        ),
        (
            "IncidentCheck",
            json!({"preset": "PagerDuty", "url": "https://api.pagerduty.com"}),
        ),
        (
            "Rejection",
            json!({"digest": digest('a'), "environment": "production", "person": "alice", "at": "2026-11-01T00:00:00Z"}),
        ),
        (
            "Revocation",
            json!({"digest": digest('b'), "reason": "it leaks"}),
        ),
        (
            "AuthorRecord",
            json!({"digest": digest('c'), "identities": [{"github": {"login": "ada"}}]}),
        ),
        (
            "VexRecord",
            json!({"digest": digest('d'), "signer": {"key": digest('e')}, "statements": [{"vulnerabilities": ["CVE-2026-1"]}]}),
        ),
    ]
}

#[test]
fn a_governor_edits_each_kind_and_another_administrator_does_not() {
    let governed = Governed::start();
    for (kind, spec) in samples() {
        let document = resource(kind, "sample", spec.clone());
        let refused = |ran: Ran| {
            let said = ran.refused();
            assert!(said.contains("[not-a-governor]"), "{kind}: {said}");
        };
        let label =
            |user: &str| governed.run(user, &["label", "--overwrite", kind, "sample", "a=b"]);
        let owned = r#"{"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Namespace", "name": "gone", "uid": "1"}]}}"#;
        refused(governed.apply(EVE, &document, "--dry-run=none"));
        governed.apply(GINA, &document, "--dry-run=none").ok();
        label(EVE).ok();
        refused(governed.run(
            EVE,
            &[
                "patch",
                kind,
                "sample",
                "--type=merge",
                "-p",
                r#"{"spec": {"reason": "none", "enforcement": "Audit"}}"#,
            ],
        ));
        refused(governed.run(EVE, &["patch", kind, "sample", "--type=merge", "-p", owned]));
        refused(governed.run(EVE, &["delete", kind, "sample"]));
        let plural = KINDS.iter().find(|(known, _)| *known == kind).unwrap().1;
        let collection = format!("/apis/promotion-gate.dev/v1alpha1/{plural}");
        refused(governed.run(EVE, &["delete", "--raw", &collection]));
        // A user who may edit it is told what is wrong with it.
        let mut mistyped = spec;
        mistyped["enforcment"] = json!("Audit");
        let typo = resource(kind, "typo", mistyped);
        let said = governed.apply(GINA, &typo, "--dry-run=none").refused();
        assert!(
            said.contains("[invalid]") && said.contains("unknown field `enforcment`"),
            "{kind}: {said}"
        );
    }
    let configuration = [
        "patch",
        "gateconfiguration",
        "promotion-gate",
        "--type=merge",
        "-p",
        r#"{"spec": {"governors": null}}"#,
    ];
    let said = governed.run(EVE, &configuration).refused();
    assert!(said.contains("[not-a-governor]"), "{said}");
    for (kind, _) in samples() {
        governed.run(GINA, &["delete", kind, "sample"]).ok();
    }
    let log = governed.serving.log();
    let loosened = log
        .lines()
        .filter(|line| line.contains("became looser") && line.contains("\"ERROR\""));
    assert!(loosened.count() >= 4, "{log}");
    let recorded = log
        .lines()
        .find(|line| line.contains("\"kind\":\"governance\"") && line.contains("it leaks"));
    assert!(recorded.is_some(), "before and after are recorded: {log}");
}

#[test]
fn a_person_rejects_as_a_kubernetes_user_and_only_a_governor_lifts_it() {
    let governed = Governed::start();
    let alice = "alice@example.com";
    let bind = [
        "create",
        "clusterrolebinding",
        "alice",
        "--clusterrole=promotion-gate-reject",
        "--user=alice@example.com",
    ];
    governed.plane.kubectl(bind).ok();
    let delete = [
        "create",
        "clusterrolebinding",
        "alice-too",
        "--clusterrole=cluster-admin",
        "--user=alice@example.com",
    ];
    governed.plane.kubectl(delete).ok();
    let (_, people) = samples().remove(0);
    governed
        .apply(
            GINA,
            &resource("PeopleDirectory", "example", people),
            "--dry-run=none",
        )
        .ok();
    let rejection = |name: &str, person: &str| {
        resource(
            "Rejection",
            name,
            json!({"digest": digest('a'), "environment": "production", "person": person, "reason": "it leaks"}),
        )
    };
    until("the directory is known", || {
        governed
            .apply(alice, &rejection("mine", "alice"), "--dry-run=none")
            .is_ok()
            .then_some(())
    });
    for refused in [
        governed.apply(alice, &rejection("theirs", "bob"), "--dry-run=none"),
        governed.apply(EVE, &rejection("forged", "alice"), "--dry-run=none"),
        governed.run(alice, &["delete", "rejection", "mine"]),
        governed.run(
            alice,
            &[
                "patch",
                "rejection",
                "mine",
                "--type=merge",
                "-p",
                r#"{"spec": {"environment": "nowhere"}}"#,
            ],
        ),
    ] {
        let said = refused.refused();
        assert!(said.contains("[not-a-governor]"), "{said}");
    }
    governed.run(GINA, &["delete", "rejection", "mine"]).ok();
}

#[test]
fn labels_that_policies_select_by_are_governed_and_a_namespace_goes_away_when_deleted() {
    let governed = Governed::start();
    governed.plane.start_controllers();
    let (_, policy) = samples().remove(1);
    governed
        .apply(
            GINA,
            &resource("PromotionPolicy", "production", policy),
            "--dry-run=none",
        )
        .ok();
    governed.run(EVE, &["create", "namespace", "shop"]).ok();
    let label = |user: &str, label: &str| {
        governed.run(user, &["label", "--overwrite", "namespace", "shop", label])
    };
    label(GINA, "tier=production").ok();
    let said = until("the policy is in force", || {
        let ran = label(EVE, "tier-");
        (!ran.is_ok()).then_some(ran.stderr)
    });
    assert!(
        said.contains("the policy `production` would not govern the namespace any more"),
        "{said}"
    );
    label(EVE, "team=a").ok();
    governed
        .run(EVE, &["annotate", "namespace", "shop", "tier=none"])
        .ok();
    label(GINA, "tier-").ok();
    label(EVE, "tier=production").refused();
    label(GINA, "tier=production").ok();
    governed
        .run(EVE, &["delete", "namespace", "shop", "--timeout=60s"])
        .ok();
}

/// An API server stores the labels of a request to `status` and to `finalize` too.
#[test]
fn attack_a1_labels_are_governed_through_the_subresources_of_a_namespace_too() {
    let governed = Governed::start();
    let (_, policy) = samples().remove(1);
    let policy = resource("PromotionPolicy", "production", policy);
    governed.apply(GINA, &policy, "--dry-run=none").ok();
    governed.run(EVE, &["create", "namespace", "shop"]).ok();
    let label = ["label", "namespace", "shop", "tier=production"];
    governed.run(GINA, &label).ok();
    until("the policy is in force", || {
        let ran = governed.run(EVE, &["label", "namespace", "shop", "tier-"]);
        (!ran.is_ok()).then_some(())
    });
    let labels = |tier: Value| json!({"metadata": {"labels": {"tier": tier, "team": "a"}}});
    let status = |by: &str, tier: Value| {
        let patch = labels(tier).to_string();
        let patch = [
            "patch",
            "namespace",
            "shop",
            "--subresource=status",
            "--type=merge",
            "-p",
            &patch,
        ];
        governed.run(by, &patch)
    };
    let finalize = |by: &str, tier: Value| {
        let mut namespace = labels(tier);
        namespace["apiVersion"] = json!("v1");
        namespace["kind"] = json!("Namespace");
        namespace["metadata"]["name"] = json!("shop");
        namespace["spec"] = json!({"finalizers": ["kubernetes"]});
        let replace = [
            "replace",
            "--raw",
            "/api/v1/namespaces/shop/finalize",
            "-f",
            "-",
        ];
        run_as(&governed.plane, by, &replace, &namespace.to_string())
    };
    let production = || json!("production");
    for refused in [
        status(EVE, Value::Null),
        status(EVE, json!("staging")),
        finalize(EVE, Value::Null),
        finalize(EVE, json!("staging")),
    ] {
        let said = refused.refused();
        assert!(said.contains("would not govern the namespace"), "{said}");
    }
    // What decides nothing passes, and governors go this way too.
    status(EVE, production()).ok();
    finalize(EVE, production()).ok();
    status(GINA, json!("staging")).ok();
    finalize(GINA, production()).ok();
    let tier = [
        "get",
        "namespace",
        "shop",
        "-o",
        "jsonpath={.metadata.labels.tier}",
    ];
    assert_eq!(governed.run(EVE, &tier).ok(), "production");
}

#[test]
fn the_gate_uses_no_right_that_it_does_not_have() {
    let governed = Governed::start();
    for (kind, spec) in samples() {
        governed
            .apply(GINA, &resource(kind, "sample", spec), "--dry-run=none")
            .ok();
    }
    until("the gate has said what it makes of them", || {
        let ready = [
            "get",
            "revocation",
            "sample",
            "-o",
            "jsonpath={.status.conditions[0].type}",
        ];
        (governed.plane.kubectl(ready).ok() == "Ready").then_some(())
    });
    let requests: Vec<Value> = governed
        .plane
        .requests_of(GATE)
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(!requests.is_empty());
    let mut used = BTreeSet::new();
    for request in &requests {
        let object = &request["objectRef"];
        let text = |field: &str| object[field].as_str().unwrap_or_default();
        let verb = request["verb"].as_str().unwrap();
        used.insert(format!(
            "{verb} {}/{} {}",
            text("apiGroup"),
            text("resource"),
            text("subresource")
        ));
        assert_ne!(request["responseStatus"]["code"], 403, "{request}");
    }
    println!(
        "rights that were used:\n  {}",
        Vec::from_iter(used).join("\n  ")
    );
}
