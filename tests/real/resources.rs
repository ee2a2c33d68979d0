//! Policies, people and freezes as resources of a real API server, without files.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{ControlPlane, Gate, Ran, Serving, User, deployment, until};

const TAGGED: &str = "registry.example/app:v1";

/// A control plane with the definitions, and a gate that reads its resources and is asked.
struct Cluster {
    plane: ControlPlane,
    gate: Gate,
    serving: Serving,
}

impl Cluster {
    fn start() -> Cluster {
        let plane = ControlPlane::start();
        plane.create_namespace("shop");
        let gate = Gate::configured(&json!({}));
        let serving = gate.serve_cluster(&plane.admin_kubeconfig(), &[]);
        let said = serving.says("/readyz", "kubectl apply -f deploy/crds");
        assert!(said.starts_with("not ready"), "{said}");
        let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/crds");
        plane.kubectl(["apply", "--server-side", "-f", crds]).ok();
        serving.says("/readyz", "ready\n");
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
    let applied = Instant::now();
    cluster.until_refused("policy `strict`");
    assert!(
        applied.elapsed() < Duration::from_secs(3),
        "{:?}",
        applied.elapsed()
    );

    let mut typo = pinned("second");
    typo["enforcment"] = json!("Audit");
    cluster.apply("PromotionPolicy", "strict", typo).ok();
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
    let elsewhere = json!({"match": {"namespaces": {"names": ["elsewhere"]}}, "requirments": []});
    cluster
        .apply("PromotionPolicy", "never", elsewhere.clone())
        .ok();
    cluster.serving.says(
        "/readyz",
        "PromotionPolicy/never (cluster): no valid version is known",
    );
    cluster.apply("PromotionPolicy", "strict", json!({"match": {"namespaces": {"names": ["other"]}}, "requirements": [{"digestPinned": {}}]})).ok();
    until("nothing governs it", || {
        cluster.deploy("web").is_ok().then_some(())
    });
    cluster
        .apply("PromotionPolicy", "never", json!({"requirments": []}))
        .ok();
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
    assert_eq!(cluster.serving.says("/readyz", "ready"), "ready\n");
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
    serving.says("/readyz", "ready\n");
    plane.register(&serving);
    cluster
        .apply("PromotionPolicy", "applied", pinned("applied"))
        .ok();
    cluster.until_refused("policy `applied`");
    cluster.until_refused("policy `filed`");
    cluster
        .apply("PromotionPolicy", "filed", pinned("other"))
        .ok();
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
    cluster.until_refused("policy `later`");
    assert_eq!(cluster.serving.says("/readyz", "ready\n"), "ready\n");
    cluster
        .serving
        .says("/metrics", "watch_age_seconds{kind=\"PromotionPolicy\"} 0");
}
