//! Who may change what the gate decides by.

use std::collections::{BTreeMap, BTreeSet};

use promotion_gate::sandbox::Sigstore;
use serde_json::{Value, json};

use super::scenario;
use crate::harness::{Cluster, Person, Scenario, Shop};
use crate::support::until;

pub fn scenarios() -> Vec<Scenario> {
    vec![
        scenario(
            9,
            "a governor and an administrator who is none edit each of our kinds: only the governor may",
            only_governors_govern,
        ),
        scenario(
            9,
            "a namespace is relabelled so that other policies match: only by a governor",
            a_namespace_is_relabelled,
        ),
        scenario(
            9,
            "a namespace with records is deleted, and vanishes",
            a_namespace_vanishes,
        ),
        Scenario {
            alone: true,
            ..scenario(
                9,
                "the gate asks the API server for nothing that its roles do not allow, whatever it does",
                the_gate_has_the_rights_that_it_uses,
            )
        },
    ]
}

/// One object of each kind, and a change of it.
fn objects() -> Vec<(Value, &'static str, Value)> {
    let object = |kind: &str, spec: Value| {
        json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": kind,
            "metadata": {"name": "governed"}, "spec": spec,
        })
    };
    let digest = format!("sha256:{}", "a".repeat(64));
    let nowhere = json!({"namespaces": {"names": ["nowhere"]}});
    let policy = json!({"match": nowhere, "requirements": [{"digestPinned": {}}]});
    let person =
        json!({"name": "eve", "identities": [{"kubernetes": {"user": "eve@example.com"}}]});
    let window = json!({"from": "2020-01-01T00:00:00Z", "until": "2020-01-02T00:00:00Z"});
    let freeze = json!({"environments": ["nowhere"], "reason": "x", "windows": [window]});
    let author = json!({"github": {"login": "eve"}});
    let root = || Sigstore::create().unwrap().trusted_root();
    let rejection =
        json!({"digest": digest, "environment": "nowhere", "person": "eve", "reason": "x"});
    vec![
        (
            object("PromotionPolicy", policy),
            "/spec/enforcement",
            json!("Audit"),
        ),
        (
            object("PeopleDirectory", json!({"people": [person]})),
            "/spec/people/0/displayName",
            json!("Eve"),
        ),
        (object("ChangeFreeze", freeze), "/spec/reason", json!("y")),
        (
            object(
                "IncidentCheck",
                json!({"preset": "PagerDuty", "url": "https://api.pagerduty.com"}),
            ),
            "/spec/url",
            json!("https://evil.example"),
        ),
        (object("Rejection", rejection), "/spec/reason", json!("y")),
        (
            object("Revocation", json!({"digest": digest, "reason": "x"})),
            "/spec/reason",
            json!("y"),
        ),
        (
            object(
                "AuthorRecord",
                json!({"digest": digest, "identities": [author]}),
            ),
            "/spec/identities/0/github/login",
            json!("mallory"),
        ),
        (
            object(
                "VexRecord",
                json!({"digest": digest, "signer": {"key": digest}, "statements": [{"vulnerabilities": ["CVE-2026-1"]}]}),
            ),
            "/spec/statements/0/vulnerabilities/0",
            json!("CVE-2026-2"),
        ),
        (
            object("TrustRoot", json!({"inline": root()})),
            "/spec/inline",
            root(),
        ),
    ]
}

fn only_governors_govern(cluster: &Cluster) {
    let (bob, grace) = (Person::Bob, Person::Grace);
    let refused = |refusal: String| {
        assert!(refusal.contains("governor"), "{refusal}");
        assert!(refusal.contains("bob@example.com"), "{refusal}");
    };
    for (object, field, value) in objects() {
        refused(cluster.apply(bob, &object).refused());
        cluster.apply(grace, &object).ok();
        let kind = object["kind"].as_str().unwrap();
        let patch = json!([{"op": "add", "path": field, "value": value}]).to_string();
        let edit =
            |by| cluster.kubectl(by, ["patch", kind, "governed", "--type=json", "-p", &patch]);
        refused(edit(bob).refused());
        let label = ["label", kind, "governed", "team=shop"];
        cluster.kubectl(bob, label).ok();
        edit(grace).ok();
        let delete = |by| cluster.kubectl(by, ["delete", kind, "governed"]);
        refused(delete(bob).refused());
        delete(grace).ok();
    }
    // Who decides is governed too, and so is the webhook's own configuration.
    let governors = json!({"spec": {"governors": {"users": [bob.name()]}}}).to_string();
    let configure = |by, patch: &str| {
        let patch = [
            "patch",
            "gateconfiguration",
            "promotion-gate",
            "--type=merge",
            "-p",
            patch,
        ];
        cluster.kubectl(by, patch)
    };
    refused(configure(bob, &governors).refused());
    for namespaces in [json!(["nowhere"]), Value::Null] {
        let edit = json!({"spec": {"infrastructureNamespaces": namespaces}}).to_string();
        refused(configure(bob, &edit).refused());
        configure(grace, &edit).ok();
    }
    let delete = ["delete", "gateconfiguration", "promotion-gate"];
    refused(cluster.kubectl(bob, delete).refused());
    let webhook = ["delete", "validatingwebhookconfiguration", "promotion-gate"];
    refused(cluster.kubectl(bob, webhook).refused());
    let mistyped = json!({
        "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "PromotionPolicy",
        "metadata": {"name": "mistyped"},
        "spec": {"enforcment": "Audit", "requirements": [{"digestPinned": {}}]},
    });
    let create = ["create", "--validate=false", "-f", "-"];
    let refusal = cluster
        .plane
        .kubectl_by(grace.token(), create, &mistyped.to_string())
        .refused();
    assert!(refusal.contains("enforcement"), "{refusal}");
}

fn a_namespace_is_relabelled(cluster: &Cluster) {
    let shop = Shop::ungoverned(cluster, "relabelled");
    let policy = json!({
        "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "PromotionPolicy",
        "metadata": {"name": "by-label"},
        "spec": {
            "match": {"namespaces": {"selector": {"matchLabels": {"tier": "guarded"}}}},
            "requirements": shop.basics(),
        },
    });
    cluster.apply(Person::Grace, &policy).ok();
    let unsigned = shop.unsigned("bad");
    let deploy = |name: &str| shop.apply(Person::Alice, &shop.deployment(name, &unsigned, 1));
    deploy("before").ok();
    let label = |by, label: &str| {
        cluster.kubectl(by, ["label", "--overwrite", "namespace", &shop.name, label])
    };
    let refusal = label(Person::Bob, "tier=guarded").refused();
    assert!(refusal.contains("by-label"), "{refusal}");
    label(Person::Bob, "team=shop").ok();
    label(Person::Grace, "tier=guarded").ok();
    until("every replica knows the label", || {
        let review = shop.review(Person::Alice.name(), &shop.pod("probe", &unsigned));
        let gates = &cluster.gates;
        let denies = |replica| gates.ask(replica, &review)["response"]["allowed"] == false;
        gates.numbers().all(denies).then_some(())
    });
    deploy("after").refused();
    label(Person::Bob, "tier-").refused();
    label(Person::Bob, "tier=other").refused();
    // What runs there goes on.
    shop.replaces_pods("before", 1, "under another policy");
    shop.upkeep_was_never_denied();
    label(Person::Grace, "tier-").ok();
    let policy = ["delete", "promotionpolicy", "by-label"];
    cluster.kubectl(Person::Grace, policy).ok();
}

fn a_namespace_vanishes(cluster: &Cluster) {
    let shop = Shop::open(cluster, "vanishing");
    let image = shop.signed("web");
    shop.apply(Person::Alice, &shop.deployment("web", &image, 2))
        .ok();
    shop.runs("web", 2);
    let delete = ["delete", "namespace", &shop.name, "--timeout=60s"];
    cluster.kubectl(Person::Bob, delete).ok();
}

fn the_gate_has_the_rights_that_it_uses(cluster: &Cluster) {
    let shop = Shop::ungoverned(cluster, "rights");
    let key = json!({"key": {"pem": shop.public_key()}});
    let person = json!({"name": "rejecter", "identities": [key]});
    let people = json!({
        "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "PeopleDirectory",
        "metadata": {"name": "rights"}, "spec": {"people": [person]},
    });
    shop.apply(Person::Grace, &people).ok();
    let approvals = json!({"approvals": {
        "from": [{"person": "rejecter"}], "differentFromAuthor": false,
        "trustRoots": ["local"], "transparency": "Timestamp",
    }});
    shop.govern(&[], &json!({}));
    // 1. Upkeep and a start from zero: the objects of workloads are read.
    let image = shop.signed("web");
    shop.apply(Person::Alice, &shop.deployment("web", &image, 1))
        .ok();
    shop.runs("web", 1);
    for replicas in ["--replicas=0", "--replicas=1"] {
        shop.kubectl(Person::Alice, ["scale", "deployment", "web", replicas])
            .ok();
    }
    shop.runs("web", 1);
    // 2. A denial, of which an Event tells, and a rejection, which is kept.
    shop.govern(&[approvals], &json!({"environment": "rights"}));
    let rejected = shop.push_signed("rejected");
    shop.say(&rejected, "rights", &json!({"decision": "rejected"}));
    let pod = shop.pod("rejected", &rejected.by_digest());
    let refusal = shop.apply(Person::Alice, &pod).refused();
    assert!(refusal.contains("reject"), "{refusal}");
    const GATE: &str = "system:serviceaccount:promotion-gate:promotion-gate";
    // An API server that has just started refuses everybody until it has read the roles: such a right is used again later.
    let used = || {
        let (mut granted, mut refused) = (BTreeSet::new(), BTreeMap::new());
        for line in cluster.plane.requests_of(GATE) {
            let request: Value = serde_json::from_str(&line).unwrap();
            let object = |field: &str| request["objectRef"][field].as_str().unwrap_or_default();
            let verb = request["verb"].as_str().unwrap();
            let right = format!("{verb} {}/{}", object("apiGroup"), object("resource"));
            let used = (right, object("namespace").to_owned());
            if request["responseStatus"]["code"] == 403 {
                refused.insert(used, request);
            } else {
                granted.insert(used);
            }
        }
        refused.retain(|used, _| !granted.contains(used));
        assert!(refused.is_empty(), "{refused:#?}");
        let rights = granted.into_iter().map(|(right, _)| right);
        rights.collect::<BTreeSet<_>>()
    };
    for right in [
        "get apps/deployments",
        "list apps/replicasets",
        "create events.k8s.io/events",
        "create promotion-gate.dev/rejections",
        "create promotion-gate.dev/releaserecords",
        "patch promotion-gate.dev/releaserecords",
    ] {
        until(&format!("the gate uses its right to {right}"), || {
            used().contains(right).then_some(())
        });
    }
}
