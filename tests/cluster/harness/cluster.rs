//! One cluster for all scenarios, with what `deploy/` ships.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Person;
use super::balancer::balance;
use super::replicas::Replicas;
use crate::support::{ControlPlane, Gate, Ran};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const GATE: &str = "promotion-gate";
const NODES: usize = 3;
/// Without a policy the gate does not start.
const NOTHING: &str = "\
apiVersion: promotion-gate.dev/v1alpha1
kind: PromotionPolicy
metadata: {name: nothing}
spec: {match: {namespaces: {names: [nothing]}}, requirements: [{digestPinned: {}}]}
";

pub struct Cluster {
    pub plane: ControlPlane,
    pub gates: Replicas,
}

impl Cluster {
    pub fn start() -> Cluster {
        let plane = ControlPlane::start();
        plane.start_controllers();
        plane.complete(NODES);
        plane.start_rollouts();
        plane.create_namespace_with(GATE, &json!({}));
        let service = service_address();
        for mut object in shipped("deploy/deployment.yaml") {
            match object["kind"].as_str().unwrap() {
                // The replicas are processes of this machine.
                "Deployment" => continue,
                "Service" => object["spec"]["clusterIP"] = json!(service),
                _ => {}
            }
            apply(&plane, &object);
        }
        let kubeconfig = plane.kubeconfig_of(GATE, GATE);
        let gate = Gate::configured(&json!({}));
        gate.write("policies/nothing.yaml", NOTHING);
        let gates = Replicas::new(gate, kubeconfig, plane.folder.path());
        gates.start_all();
        balance(format!("{service}:443").parse().unwrap(), gates.targets());
        let cluster = Cluster { plane, gates };
        cluster.register();
        cluster
    }

    /// Lets the API server ask the gate, as `deploy/webhook.yaml` says.
    pub fn register(&self) {
        for mut object in shipped("deploy/webhook.yaml") {
            for webhook in object["webhooks"].as_array_mut().unwrap() {
                webhook["clientConfig"]["caBundle"] = json!(encoded(&self.gates.certificate.pem));
            }
            apply(&self.plane, &object);
        }
    }

    /// The way out of a lock-out (README): the API server does not ask any more.
    pub fn unregister(&self) {
        let webhook = "validatingwebhookconfiguration/promotion-gate";
        self.kubectl(Person::Admin, ["delete", webhook]).ok();
    }

    /// Runs kubectl.
    pub fn kubectl<'a>(&self, by: Person, args: impl IntoIterator<Item = &'a str>) -> Ran {
        self.plane.kubectl_by(by.token(), args, "")
    }

    /// Applies an object.
    pub fn apply(&self, by: Person, object: &Value) -> Ran {
        let apply = ["apply", "-f", "-"];
        self.plane
            .kubectl_by(by.token(), apply, &object.to_string())
    }

    /// An object, or a list of them, as the API server has it.
    pub fn get<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Value {
        let get = ["get", "-o", "json"].into_iter().chain(args);
        let found = self.kubectl(Person::Admin, get).ok();
        serde_json::from_str(&found).unwrap()
    }

    /// Keeps the logs of every program so far.
    pub fn keep_logs(&self, scenario: u8) -> PathBuf {
        let kept = Path::new(ROOT).join(format!("target/cluster-logs/scenario-{scenario}"));
        fs::create_dir_all(&kept).unwrap();
        for entry in fs::read_dir(self.plane.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "log") {
                fs::copy(&path, kept.join(path.file_name().unwrap())).unwrap();
            }
        }
        kept
    }
}

/// An address of a Service that no other test run on this machine uses.
fn service_address() -> String {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    format!("127.96.{}.{}", 100 + high % 100, low.max(1))
}

fn apply(plane: &ControlPlane, object: &Value) {
    let apply = ["apply", "--server-side", "-f", "-"];
    plane
        .kubectl_by(Person::Admin.token(), apply, &object.to_string())
        .ok();
}

/// The documents of a file of the repository.
fn shipped(file: &str) -> Vec<Value> {
    let bytes = fs::read(Path::new(ROOT).join(file)).unwrap();
    let (documents, problems) = promotion_gate_core::documents::read(file, &bytes);
    assert!(problems.is_empty(), "{problems:?}");
    let values = documents.into_iter().map(|document| document.value);
    values.collect()
}

fn encoded(pem: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(pem)
}
