//! Policies, people and freezes as resources of a real API server, without files.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Address, ControlPlane, Gate, HttpServer, Ran, Serving, User, deployment, until,
};

const TAGGED: &str = "registry.example/app:v1";

/// A control plane with the definitions, and a gate that reads its resources and is asked.
struct Cluster {
    plane: ControlPlane,
    gate: Gate,
    serving: Serving,
}

impl Cluster {
    fn start() -> Cluster {
        Cluster::configured(&json!({}))
    }

    /// The same, with a configuration of these fields.
    fn configured(fields: &Value) -> Cluster {
        let plane = ControlPlane::start();
        for namespace in ["shop", "promotion-gate"] {
            plane.create_namespace(namespace);
        }
        let gate = Gate::configured(fields);
        let serving = gate.serve_cluster(&plane.admin_kubeconfig(), &[]);
        let said = serving.says("/readyz", "kubectl apply -f deploy/crds");
        assert!(said.starts_with("not ready"), "{said}");
        let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/crds");
        plane.kubectl(["apply", "--server-side", "-f", crds]).ok();
        let said = serving.is_ready();
        assert!(said.contains("no policy is in force"), "{said}");
        plane.register(&serving);
        Cluster {
            plane,
            gate,
            serving,
        }
    }

    fn apply(&self, kind: &str, name: &str, spec: Value) -> Ran {
        let resource = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": name},
            "spec": spec,
        });
        let apply = ["apply", "--validate=false", "-f", "-"];
        self.plane
            .kubectl_as(User::Admin, apply, &resource.to_string())
    }

    /// Applies a resource while the gate is not asked, as one that slipped in.
    fn slip_in(&self, kind: &str, name: &str, spec: Value) {
        let webhook = ["delete", "validatingwebhookconfiguration", "promotion-gate"];
        self.plane.kubectl(webhook).ok();
        // The API server learns of it with a delay.
        until("the gate is not asked", || {
            self.apply(kind, name, spec.clone()).is_ok().then_some(())
        });
        self.plane.register(&self.serving);
    }

    /// A Deployment whose image has a tag alone, which policies of these tests refuse.
    fn deploy(&self, name: &str) -> Ran {
        let apply = ["apply", "--dry-run=server", "-f", "-"];
        self.plane
            .kubectl_as(User::Alice, apply, &deployment(name, TAGGED))
    }

    #[track_caller]
    fn until_refused(&self, saying: &str) {
        until(saying, || {
            let ran = self.deploy("web");
            (!ran.is_ok() && ran.stderr.contains(saying)).then_some(())
        });
    }
}

fn pinned(name: &str) -> Value {
    json!({"match": {"namespaces": {"names": ["shop"]}}, "requirements": [{"name": name, "digestPinned": {}}]})
}

#[test]
fn an_applied_policy_is_in_force_at_once_and_a_mistyped_one_keeps_the_last_valid_one() {
    let cluster = Cluster::start();
    cluster.deploy("web").ok();
    cluster
        .apply("PromotionPolicy", "strict", pinned("first"))
        .ok();
    cluster.until_refused("policy `strict`");

    let mut typo = pinned("second");
    typo["enforcment"] = json!("Audit");
    cluster.slip_in("PromotionPolicy", "strict", typo);
    let said = cluster.serving.says("/readyz", "enforcment");
    assert!(
        said.contains("PromotionPolicy/strict (cluster): its last valid version counts"),
        "{said}"
    );
    cluster.until_refused("policy `strict`");
    cluster
        .serving
        .says("/metrics", "resources_refused{kind=\"PromotionPolicy\"} 1");

    // One that was never valid denies what it might govern, and nothing else.
    let elsewhere = mistyped(json!({"namespaces": {"names": ["elsewhere"]}}));
    cluster.slip_in("PromotionPolicy", "never", elsewhere);
    cluster.serving.says(
        "/readyz",
        "PromotionPolicy/never (cluster): no valid version is known",
    );
    cluster.apply("PromotionPolicy", "strict", json!({"match": {"namespaces": {"names": ["other"]}}, "requirements": [{"digestPinned": {}}]})).ok();
    until("nothing governs it", || {
        cluster.deploy("web").is_ok().then_some(())
    });
    cluster.slip_in("PromotionPolicy", "never", mistyped(json!({})));
    cluster.until_refused("[policy-unreadable]");

    for name in ["never", "strict"] {
        cluster
            .plane
            .kubectl(["delete", "promotionpolicy", name])
            .ok();
    }
    until("deleted ones count for nothing", || {
        cluster.deploy("web").is_ok().then_some(())
    });
    cluster.serving.says("/readyz", "no policy is in force");
}

#[test]
fn a_revocation_with_a_typo_that_slipped_in_revokes_and_says_what_is_wrong() {
    let cluster = Cluster::start();
    let digest = format!("sha256:{}", "a".repeat(64));
    let image = format!("registry.example/app@{digest}");
    let deploy = || {
        let apply = ["apply", "--dry-run=server", "-f", "-"];
        let object = deployment("web", &image);
        cluster.plane.kubectl_as(User::Alice, apply, &object)
    };
    deploy().ok();
    let spec = json!({"digest": digest, "reason": "stolen key", "untill": "2027-01-01"});
    cluster.slip_in("Revocation", "typo", spec);
    until("the digest is revoked", || {
        let ran = deploy();
        (!ran.is_ok() && ran.stderr.contains("stolen key")).then_some(())
    });
    until("the resource says what is wrong", || {
        let shown = "-o=jsonpath={.status.conditions[?(@.type==\"Ready\")]['status','message']}";
        let said = cluster
            .plane
            .kubectl(["get", "revocation", "typo", shown])
            .ok();
        (said.contains("False") && said.contains("untill")).then_some(())
    });
    cluster.plane.kubectl(["delete", "revocation", "typo"]).ok();
    until("nothing is revoked", || deploy().is_ok().then_some(()));
}

/// A policy that the API server stores and that this version cannot read.
fn mistyped(matches: Value) -> Value {
    json!({"match": matches, "requirements": [{"digestPinned": {}}], "enforcment": "Audit"})
}

#[test]
fn files_and_resources_count_together_and_a_name_in_both_is_an_error() {
    let cluster = Cluster::start();
    let (gate, plane) = (&cluster.gate, &cluster.plane);
    let policy = json!({"apiVersion": "promotion-gate.dev/v1alpha1", "kind": "PromotionPolicy",
        "metadata": {"name": "filed"}, "spec": pinned("filed")});
    gate.policy(&policy.to_string());
    let kubeconfig = plane.admin_kubeconfig();
    let serving = gate.serve_cluster(&kubeconfig, &["--policy", "policies"]);
    serving.is_ready();
    plane.register(&serving);
    cluster
        .apply("PromotionPolicy", "applied", pinned("applied"))
        .ok();
    cluster.until_refused("`applied`");
    cluster.until_refused("`filed`");
    cluster.slip_in("PromotionPolicy", "filed", pinned("other"));
    let said = serving.says("/readyz", "another policy has the name `filed` too");
    assert!(said.contains("policies/policy.yaml:1"), "{said}");
    assert!(said.contains("PromotionPolicy/filed (cluster)"), "{said}");
}

#[test]
fn a_deployment_right_after_its_namespace_is_governed_by_the_labels() {
    let cluster = Cluster::start();
    let selector = json!({"matchLabels": {"tier": "production"}});
    cluster.apply("PromotionPolicy", "tiered", json!({"match": {"namespaces": {"selector": selector}}, "requirements": [{"digestPinned": {}}]})).ok();
    let deploy = |namespace: &str| {
        let object = deployment("web", TAGGED).replace("\"shop\"", &format!("{namespace:?}"));
        cluster
            .plane
            .kubectl_as(User::Admin, ["apply", "-f", "-"], &object)
    };
    let namespace = |name: &str, tier: &str| {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"tier": tier}}});
        let create = ["create", "-f", "-"];
        cluster
            .plane
            .kubectl_as(User::Admin, create, &namespace.to_string())
            .ok();
    };
    namespace("first", "production");
    until("the policy counts", || {
        (!deploy("first").is_ok()).then_some(())
    });
    for round in 0..5 {
        let (production, test) = (format!("production-{round}"), format!("test-{round}"));
        namespace(&production, "production");
        assert!(deploy(&production).refused().contains("policy `tiered`"));
        namespace(&test, "test");
        deploy(&test).ok();
    }
    let label = [
        "label",
        "namespace",
        "test-0",
        "tier=production",
        "--overwrite",
    ];
    cluster.plane.kubectl(label).ok();
    until("the new label counts", || {
        let object = deployment("web-2", TAGGED).replace("\"shop\"", "\"test-0\"");
        let ran = cluster
            .plane
            .kubectl_as(User::Admin, ["apply", "-f", "-"], &object);
        (!ran.is_ok()).then_some(())
    });
}

#[test]
fn while_the_api_server_is_gone_what_was_read_counts_and_its_age_is_said() {
    let cluster = Cluster::start();
    cluster
        .apply("PromotionPolicy", "strict", pinned("first"))
        .ok();
    cluster.until_refused("policy `strict`");
    cluster.plane.kill("kube-apiserver");
    let said = cluster
        .serving
        .says("/readyz", "the watch of `PromotionPolicy` was lost");
    assert!(said.starts_with("ready"), "{said}");
    until("the age grows", || {
        let metrics = cluster.serving.probes.http_get("/metrics")?;
        let line = metrics
            .lines()
            .find(|line| line.contains("watch_age_seconds{kind=\"PromotionPolicy\"}"))?;
        (!line.ends_with(" 0")).then_some(())
    });
    cluster.plane.start_api_server();
    cluster.until_refused("policy `strict`");
    cluster
        .apply("PromotionPolicy", "later", pinned("later"))
        .ok();
    cluster.until_refused("`later`");
    cluster.serving.is_ready();
    cluster
        .serving
        .says("/metrics", "watch_age_seconds{kind=\"PromotionPolicy\"} 0");
}

impl Cluster {
    /// A field of a resource.
    fn field(&self, kind: &str, name: &str, path: &str) -> String {
        let path = format!("jsonpath={{{path}}}");
        let get = ["get", kind, name, "-o", &path];
        self.plane.kubectl(get).ok()
    }

    #[track_caller]
    fn until_field(&self, kind: &str, name: &str, path: &str, expected: &str) {
        until(&format!("{path} of {name} is {expected}"), || {
            (self.field(kind, name, path) == expected).then_some(())
        });
    }

    /// Waits until the status of the policy `strict` says why its present spec does not count, and that the first one does.
    #[track_caller]
    fn until_the_first_spec_counts(&self, why: &str) {
        let kind = "promotionpolicy";
        self.until_field(kind, "strict", READY, "False");
        let message = self.field(kind, "strict", MESSAGE);
        assert!(message.contains(why), "{message}");
        let name = ".status.lastValidSpec.requirements[0].name";
        self.until_field(kind, "strict", name, "first");
    }

    /// Stops the gate, and starts another one in its place.
    fn restart(&mut self) {
        let kubeconfig = self.plane.admin_kubeconfig();
        self.serving.stop();
        self.serving = self.gate.serve_cluster(&kubeconfig, &[]);
        self.serving.says("/readyz", "ready,");
        self.plane.register(&self.serving);
    }
}

const READY: &str = ".status.conditions[?(@.type==\"Ready\")].status";
const MESSAGE: &str = ".status.conditions[?(@.type==\"Ready\")].message";

#[test]
fn a_status_says_what_counts_and_the_last_valid_version_survives_a_restart() {
    let mut cluster = Cluster::start();
    let kind = "promotionpolicy";
    cluster
        .apply("PromotionPolicy", "strict", pinned("first"))
        .ok();
    cluster.until_field(kind, "strict", READY, "True");
    cluster.until_field(kind, "strict", ".status.observedGeneration", "1");
    let mut typo = pinned("second");
    typo["enforcment"] = json!("Audit");
    cluster.slip_in("PromotionPolicy", "strict", typo);
    cluster.until_the_first_spec_counts("unknown field `enforcment`, did you mean `enforcement`?");

    cluster.restart();
    cluster.until_refused("policy `strict`");
    let said = cluster.serving.says("/readyz", "enforcment");
    assert!(said.contains("its last valid version counts"), "{said}");

    // Nothing is written while nothing changes.
    let version = || cluster.field(kind, "strict", ".metadata.resourceVersion");
    cluster
        .serving
        .says("/metrics", "\npromotion_gate_holds_lease 1\n");
    let before = version();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(version(), before);

    let fixed = pinned("third");
    cluster.apply("PromotionPolicy", "strict", fixed).ok();
    cluster.until_field(kind, "strict", READY, "True");
    // The `spec` itself is the last valid one now.
    cluster.until_field(kind, "strict", ".status.lastValidSpec", "");
}

/// As after a rollback of the gate: the definitions and the policy are those of a newer version.
#[test]
fn of_a_stored_policy_with_a_rule_of_a_newer_version_a_replica_that_starts_decides_by_the_last_valid_version()
 {
    let mut cluster = Cluster::start();
    let kind = "promotionpolicy";
    cluster
        .apply("PromotionPolicy", "strict", pinned("first"))
        .ok();
    cluster.until_field(kind, "strict", READY, "True");
    let entry =
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/requirements/items";
    let newer = json!([
        {"op": "remove", "path": format!("{entry}/x-kubernetes-validations")},
        {"op": "add", "path": format!("{entry}/properties/ruleOfANewerVersion"), "value": {"type": "object"}},
    ]);
    let newer = newer.to_string();
    let patch = ["patch", "crd", "promotionpolicies.promotion-gate.dev"];
    let patch = patch.into_iter().chain(["--type=json", "-p", &newer]);
    cluster.plane.kubectl(patch).ok();
    let mut spec = pinned("second");
    let requirements = spec["requirements"].as_array_mut().unwrap();
    requirements.push(json!({"ruleOfANewerVersion": {}}));
    let by_gate = "`ruleOfANewerVersion` is not known to this version";
    until(
        "the newer definition takes it, and the gate refuses it",
        || {
            let refused = cluster.apply("PromotionPolicy", "strict", spec.clone());
            refused.stderr.contains(by_gate).then_some(())
        },
    );
    cluster.slip_in("PromotionPolicy", "strict", spec);
    cluster.until_the_first_spec_counts(by_gate);

    cluster.restart();
    cluster.until_refused("policy `strict`");
    let pinned = format!("registry.example/app@sha256:{}", "0".repeat(64));
    let apply = ["apply", "--dry-run=server", "-f", "-"];
    let pinned = deployment("pinned", &pinned);
    cluster.plane.kubectl_as(User::Alice, apply, &pinned).ok();
}

#[test]
fn of_two_gates_one_holds_the_lease_and_reads_feeds_and_both_decide_by_its_status() {
    let endpoint = Address::free();
    let host = json!({"host": endpoint.to_string(), "plainHttp": true});
    let mut cluster = Cluster::configured(&json!({"registries": [host]}));
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let _server = HttpServer::start(endpoint, move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Some(json!({"freeze_active": true, "reason": "Year end"}))
    });
    let feed = format!("{}/freeze", endpoint.url());
    let frozen = json!({"environment": "production", "match": {"namespaces": {"names": ["shop"]}}, "requirements": [{"noFreeze": {}}]});
    cluster.apply("PromotionPolicy", "frozen", frozen).ok();
    let freeze = json!({"environments": ["production"], "reason": "r", "endpoint": {"url": feed}});
    cluster
        .apply("ChangeFreeze", "change-management", freeze)
        .ok();
    let kubeconfig = cluster.plane.admin_kubeconfig();
    let other = cluster.gate.serve_cluster(&kubeconfig, &[]);
    other.is_ready();
    cluster.until_field(
        "changefreeze",
        "change-management",
        ".status.feed.windows[0].reason",
        "Year end",
    );
    cluster.until_refused("Year end");
    cluster.plane.register(&other);
    cluster.until_refused("Year end");
    let holds = |serving: &Serving| {
        let metrics = serving.probes.http_get("/metrics").unwrap();
        metrics.contains("\npromotion_gate_holds_lease 1\n")
    };
    assert!(holds(&cluster.serving) != holds(&other), "one of them");
    assert!(asked.load(Ordering::Relaxed) <= 4, "one of them asks");

    // The other one goes on when the holder ends.
    drop(match holds(&cluster.serving) {
        true => std::mem::replace(&mut cluster.serving, other),
        false => other,
    });
    cluster
        .serving
        .says("/metrics", "\npromotion_gate_holds_lease 1\n");
    cluster.plane.register(&cluster.serving);
    cluster.until_refused("Year end");
}

#[test]
fn commands_read_the_resources_and_the_labels_of_a_cluster() {
    let cluster = Cluster::start();
    let (gate, plane) = (&cluster.gate, &cluster.plane);
    let kubeconfig = plane.admin_kubeconfig();
    let selector = json!({"matchLabels": {"tier": "production"}});
    cluster.apply("PromotionPolicy", "tiered", json!({"match": {"namespaces": {"selector": selector}}, "requirements": [{"digestPinned": {}}]})).ok();
    cluster.apply("ChangeFreeze", "always", json!({"environments": ["production"], "reason": "r", "windows": [{"from": "2020-01-01T00:00:00Z", "until": "2200-01-01T00:00:00Z"}]})).ok();
    cluster.apply("PeopleDirectory", "all", json!({"people": [{"name": "alice", "identities": [{"kubernetes": {"user": "alice"}}]}]})).ok();
    let run = |arguments: &[&str], input: &str| {
        let cluster = ["--from-cluster", "--kubeconfig", &kubeconfig];
        gate.run(&[arguments, &cluster].concat(), input)
    };
    let check = || {
        run(
            &["check", "--namespace", "shop", "-"],
            &deployment("web", TAGGED),
        )
    };
    check().allowed();
    plane
        .kubectl(["label", "namespace", "shop", "tier=production"])
        .ok();
    check().denied("not-pinned");
    let now = run(&["freeze", "now", "--environment", "production"], "");
    assert_eq!(now.code, Some(2), "{now}");
    let who = run(&["people", "who", "alice"], "");
    assert_eq!(who.code, Some(0), "{who}");
    drop(cluster.serving);
    let (plane, gate) = (cluster.plane, cluster.gate);
    plane.kill("kube-apiserver");
    let ran = gate.run(
        &["check", "--from-cluster", "--kubeconfig", &kubeconfig, "-"],
        &deployment("web", TAGGED),
    );
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(
        ran.stderr.contains("cannot be read from the cluster"),
        "{ran}"
    );
}

#[test]
fn a_mistake_in_a_rule_about_evidence_is_refused_at_the_api_server() {
    let cluster = Cluster::start();
    let by = json!({"keyless": {"issuer": "https://accounts.google.com", "identity": "scans@example.com"}});
    let spec = |rule: &Value| {
        json!({
            "match": {"namespaces": {"names": ["shop"]}}, "uncovered": "Allow",
            "requirements": [{"digestPinned": {}}, rule],
        })
    };
    cluster
        .apply("PromotionPolicy", "sound", pinned("sound"))
        .ok();
    cluster.until_refused("policy `sound`");
    let scans = json!({"maximumSeverity": "Medium", "signedBy": by, "maximumAge": "24h", "onlyFixable": true,
        "vex": {"signedBy": by}, "scanners": ["trivy"],
        "exceptions": [{"id": "CVE-2026-1", "until": "2026-12-31", "reason": "not reachable", "owner": "payments"}]});
    let sbom =
        json!({"signedBy": by, "formats": ["spdx"], "denied": ["pkg:npm/event-stream@3.3.6"]});
    let attestation = json!({"predicateType": "https://example.com/tests/v1", "signedBy": by, "expression": "predicate.passed"});
    let expression = json!({"rule": "'team' in workload.labels", "message": "label it"});
    let summary = json!({"verifiers": [{"id": "https://staging.example/gate", "signedBy": by}],
        "environment": "staging", "clusters": ["eu1"], "minimumAge": "24h", "levels": ["SLSA_BUILD_LEVEL_3"]});
    for (rule, sound, mistakes) in [
        (
            "vulnerabilities",
            scans,
            &[
                ("maximumage", json!("24h"), "maximumAge"),
                ("maximumSeverity", json!("Mediun"), "Mediun"),
                ("vex", json!({"signedby": by}), "signedBy"),
                (
                    "exceptions",
                    json!([{"id": "CVE-1", "until": "2026-12-32", "reason": "x"}]),
                    "2026-12-32",
                ),
                (
                    "exceptions",
                    json!([{"id": "CVE-1", "until": "2026-12-31"}]),
                    "reason",
                ),
            ][..],
        ),
        (
            "sbom",
            sbom,
            &[
                ("format", json!(["spdx"]), "formats"),
                ("denied", json!(["event-stream"]), "event-stream"),
            ][..],
        ),
        (
            "attestation",
            attestation,
            &[
                ("predicatetype", json!("x"), "predicateType"),
                ("expression", json!("predicat.passed"), "predicat"),
                ("expression", json!("predicate.passed ="), "expression"),
            ][..],
        ),
        (
            "expression",
            expression,
            &[
                ("rule", json!("'team' in worklaod.labels"), "worklaod"),
                ("mesage", json!("label it"), "message"),
            ][..],
        ),
        (
            "verificationSummary",
            summary,
            &[
                ("minimumage", json!("24h"), "minimumAge"),
                ("minimumAge", json!("a day"), "a day"),
                ("verifiers", json!([]), "verifiers"),
            ][..],
        ),
    ] {
        let apply = |rule: &Value| cluster.apply("PromotionPolicy", "evidence", spec(rule));
        apply(&json!({rule: sound})).ok();
        for (field, value, expected) in mistakes {
            let mut mistaken = sound.clone();
            mistaken[field] = value.clone();
            let said = apply(&json!({rule: mistaken})).refused();
            assert!(said.contains(expected), "{rule}.{field}: {said}");
        }
    }
}
