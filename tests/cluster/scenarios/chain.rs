//! The promotion chain: what ran in staging is let into production, on the word of staging's verifier alone.

use std::fs;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::scenario;
use crate::harness::{Cluster, Person, Scenario, Shop};
use crate::support::{
    ControlPlane, Gate, LocalSigstore, Ran, Serving, Tagged, User, deployment, until,
};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/promotion-chain.md");
/// The namespace that the page attests.
const OF_PAGE: &str = "stage-shop";
const VERIFIER: &str = "https://staging.example.com/promotion-gate";
const ACCOUNT: &str = "staging-verifier";
/// The extension field of summaries.
const RUNNING_SINCE: &str = "https://promotion-gate.dev/running-since";

pub fn scenarios() -> Vec<Scenario> {
    vec![scenario(
        19,
        "what ran in staging is let into production once staging's verifier has attested it; what another cluster attests is not",
        staging_lets_into_production,
    )]
}

fn staging_lets_into_production(cluster: &Cluster) {
    let staging = Shop::open_with(
        cluster,
        "stage-chain",
        &[],
        &json!({"environment": "staging"}),
    );
    let verifier = Verifier::install(&staging);
    let production = Shop::ungoverned(cluster, "prod-chain");
    let image = staging.push_signed("web").by_digest();
    let deploy = |shop: &Shop<'_>, image: &String| {
        shop.apply(Person::Alice, &shop.deployment("web", image, 1))
    };
    let requires = |more: Value| {
        let pair = json!({"id": VERIFIER, "signedBy": {"key": {"pem": verifier.public, "trustRoots": ["local"], "transparency": "Timestamp"}}});
        let mut rule = json!({"verifiers": [pair], "environment": "staging", "clusters": ["test"]});
        let fields = more.as_object().unwrap().clone();
        rule.as_object_mut().unwrap().extend(fields);
        let requirements = vec![
            json!({"digestPinned": {}}),
            json!({"verificationSummary": rule}),
        ];
        production.govern_by(requirements, &json!({"environment": "production"}));
    };

    // 1. Nothing runs yet, and nothing is attested.
    requires(json!({"minimumAge": "24h"}));
    let refused = |saying: &str, image: &String| {
        let refusal = deploy(&production, image).refused();
        assert!(refusal.contains(saying), "{refusal}");
    };
    refused("[no-verification-summary]", &image);
    verifier.attest(&[]).failed(2, "nothing was signed");

    // 2. It runs in staging. Its controllers bring the gate to see it.
    deploy(&staging, &image).ok();
    staging.runs("web", 1);
    let observed: Timestamp = until("the entry is observed", || {
        let entries = staging.record(&image);
        let at = entries
            .iter()
            .find_map(|entry| entry["observedAt"].as_str());
        at.map(|at| at.parse().unwrap())
    });
    let dry = verifier.attest(&["--dry-run"]).ok();
    let statement: Value = serde_json::from_str(dry.lines().last().unwrap()).unwrap();
    let since: Timestamp =
        serde_json::from_value(statement["predicate"][RUNNING_SINCE].clone()).unwrap();
    assert!(since >= observed, "{since} {observed}");
    refused("[no-verification-summary]", &image);

    // 3. It is attested after it has run for some seconds, which may be enough or not.
    until("it has run for some seconds", || {
        let run_for = Timestamp::now().duration_since(since);
        (run_for > SignedDuration::from_secs(3)).then_some(())
    });
    verifier.attest(&[]).ok();
    refused("[not-run-long-enough]", &image);
    requires(json!({"minimumAge": "2s"}));
    deploy(&production, &image).ok();
    production.runs("web", 1);

    // 4. An image that ran in another cluster alone: attested there by another key, and by staging's own.
    let elsewhere = Elsewhere::start(&cluster.sigstore);
    let other = staging.push_signed("other");
    elsewhere.runs(&other);
    requires(json!({}));
    elsewhere.attest(&verifier, "other.key");
    refused("[verification-summary-unaccepted]", &other.by_digest());
    elsewhere.attest(&verifier, "verifier.key");
    refused("[other-environment]", &other.by_digest());
    for shop in [&staging, &production] {
        shop.upkeep_was_never_denied();
    }
}

/// What the CronJob of the page runs, with a key.
struct Verifier<'a> {
    gate: &'a Gate,
    kubeconfig: String,
    namespace: String,
    /// The arguments of the page's container, but for the namespace, who signs, and the configuration.
    arguments: Vec<String>,
    public: String,
}

impl<'a> Verifier<'a> {
    /// Creates the service account and the rights of the page.
    fn install(staging: &Shop<'a>) -> Verifier<'a> {
        let Cluster {
            plane,
            gates,
            sigstore,
            ..
        } = staging.cluster;
        let page = fs::read_to_string(PAGE).unwrap();
        let blocks = page.split("```yaml\n").skip(1);
        let mut blocks = blocks.filter_map(|rest| rest.split("```").next());
        let block = blocks
            .find(|block| block.contains("kind: CronJob"))
            .unwrap();
        let block = block.replace(OF_PAGE, &staging.name);
        let (documents, problems) = promotion_gate_core::documents::read(PAGE, block.as_bytes());
        assert!(problems.is_empty(), "{problems:?}");
        let mut arguments = Vec::new();
        for document in documents {
            let object = document.value;
            if object["kind"] == "CronJob" {
                let container =
                    &object["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0];
                let given = container["args"].as_array().unwrap().iter();
                arguments = given.map(|it| it.as_str().unwrap().to_owned()).collect();
            } else {
                staging.apply(Person::Bob, &object).ok();
            }
        }
        let given_here = ["--namespace", "--identity-token", "--config"];
        arguments.retain(|it| !given_here.iter().any(|flag| it.starts_with(flag)));
        assert_eq!(arguments.len(), 5, "{arguments:?}");
        let gate = &gates.gate;
        fs::copy(sigstore.signing_config(), gate.path("signing.json")).unwrap();
        let key = |file: &str| {
            let key = rcgen::KeyPair::generate().unwrap();
            gate.write(file, &key.serialize_pem());
            key.public_key_pem()
        };
        key("other.key");
        Verifier {
            gate,
            kubeconfig: plane
                .kubeconfig_of("promotion-gate", ACCOUNT)
                .display()
                .to_string(),
            namespace: staging.name.clone(),
            arguments,
            public: key("verifier.key"),
        }
    }

    /// Runs the command of the page as its service account.
    fn attest(&self, more: &[&str]) -> Ran {
        let place = [
            "--kubeconfig",
            &self.kubeconfig,
            "--namespace",
            &self.namespace,
        ];
        self.run(&[&place[..], &["--key", "verifier.key"], more].concat())
    }

    fn run(&self, more: &[&str]) -> Ran {
        let arguments = self.arguments.iter().map(String::as_str);
        let services = [
            "--signing-config",
            "signing.json",
            "--trust-root",
            "local.json",
            "--config",
            "gate.yaml",
        ];
        let all: Vec<_> = arguments
            .chain(services)
            .chain(more.iter().copied())
            .collect();
        self.gate.run(&all, "")
    }
}

/// Another cluster, with a gate of its own and a namespace of the same name.
struct Elsewhere {
    plane: ControlPlane,
    _gate: Gate,
    serving: Serving,
}

impl Elsewhere {
    fn start(sigstore: &LocalSigstore) -> Elsewhere {
        let plane = ControlPlane::start();
        plane.create_namespace("promotion-gate");
        plane.create_namespace("shop");
        let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/crds");
        plane.kubectl(["apply", "--server-side", "-f", crds]).ok();
        let gate = Gate::new(sigstore);
        let serving = gate.serve_cluster(&plane.kubeconfig_of_gate(), &[]);
        serving.is_ready();
        let elsewhere = Elsewhere {
            plane,
            _gate: gate,
            serving,
        };
        let policy = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "PromotionPolicy",
            "metadata": {"name": "staging"},
            "spec": {
                "environment": "staging", "match": {"namespaces": {"names": ["shop"]}},
                "requirements": [{"allowedImages": {"patterns": ["127.0.0.1:*/**"]}}],
            },
        });
        let configuration = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "GateConfiguration",
            "metadata": {"name": "promotion-gate"}, "spec": {"cluster": "other"},
        });
        for object in [policy, configuration] {
            let apply = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
            elsewhere
                .plane
                .kubectl_as(User::Admin, apply, &object.to_string())
                .ok();
        }
        elsewhere.plane.register(&elsewhere.serving);
        let apply = ["create", "--dry-run=server", "-f", "-"];
        let unwanted = deployment("probe", "registry.example/probe:1");
        until("the gate of the other cluster judges", || {
            let ran = elsewhere.plane.kubectl_as(User::Admin, apply, &unwanted);
            (!ran.is_ok()).then_some(())
        });
        elsewhere.plane.start_controllers();
        elsewhere.plane.complete(1);
        elsewhere
    }

    /// Deploys an image there, and waits until it runs and the gate has seen it.
    fn runs(&self, image: &Tagged) {
        let apply = ["apply", "-f", "-"];
        let named = deployment("web", &image.by_digest());
        self.plane.kubectl_as(User::Admin, apply, &named).ok();
        let name = image.digest.replace(':', "-");
        let record = [
            "releaserecord",
            &name,
            "-o=jsonpath={.spec.entries.*.observedAt}",
        ];
        let ready = ["deployment", "web", "-o=jsonpath={.status.readyReplicas}"];
        for shown in [record, ready] {
            until(&format!("the other cluster shows {shown:?}"), || {
                let get = ["get", "-n=shop"].into_iter().chain(shown);
                let found = self.plane.kubectl(get);
                (found.is_ok() && !found.stdout.is_empty()).then_some(())
            });
        }
    }

    /// The command of the page, run there with this key.
    fn attest(&self, verifier: &Verifier<'_>, key: &str) {
        let kubeconfig = self.plane.admin_kubeconfig();
        let place = ["--kubeconfig", &kubeconfig, "--namespace", "shop"];
        verifier.run(&[&place[..], &["--key", key]].concat()).ok();
    }
}
