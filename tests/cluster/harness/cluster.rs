//! One cluster for all scenarios, with what `deploy/` ships.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use super::balancer::balance;
use super::replicas::Replicas;
use super::shop::{review, template};
use super::{Installed, Person};
use crate::support::{ControlPlane, Gate, LocalSigstore, Ran, until};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const GATE: &str = "promotion-gate";
const NODES: usize = 3;
/// A namespace in which a Deployment `old` ran before the gate came.
pub const BEFORE: &str = "before";

pub struct Cluster {
    pub plane: ControlPlane,
    pub gates: Replicas,
    pub sigstore: Arc<LocalSigstore>,
    /// Whether no scenario is left out.
    pub runs_all: bool,
    installed: OnceLock<Installed>,
}

impl Cluster {
    pub fn start(runs_all: bool) -> Cluster {
        let plane = ControlPlane::start();
        plane.start_controllers();
        plane.complete(NODES);
        plane.start_rollouts();
        run_before_the_gate(&plane);
        plane.create_namespace_with(GATE, &json!({}));
        install(&plane);
        let service = service_address();
        // The replicas are processes of this machine.
        for mut object in shipped("deploy/manifests/service.yaml") {
            object["spec"]["clusterIP"] = json!(service);
            apply(&plane, &object);
        }
        let kubeconfig = plane.kubeconfig_of(GATE, GATE);
        let sigstore = LocalSigstore::shared();
        let gate = Gate::new(&sigstore);
        let gates = Replicas::new(gate, kubeconfig, plane.folder.path());
        gates.start_all();
        balance(format!("{service}:443").parse().unwrap(), gates.targets());
        let cluster = Cluster {
            plane,
            gates,
            sigstore,
            runs_all,
            installed: OnceLock::new(),
        };
        cluster.register();
        // What ran before is recorded once any replica was asked. Until then, nothing is known to be new.
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe", "namespace": BEFORE},
            "spec": {"containers": [{"name": "main", "image": "probe:1"}]},
        });
        until("what ran before is recorded", || {
            let mut probe = review(Person::Alice.name(), &pod);
            probe["request"]["dryRun"] = json!(true);
            cluster.gates.ask(0, &probe);
            let configuration = cluster.get(["gateconfiguration", GATE]);
            configuration
                .pointer("/status/recordBaseline/at")
                .map(|_| ())
        });
        cluster
    }

    /// The cluster in which Helm installs the gate, started when it is first wanted.
    pub fn installed(&self) -> &Installed {
        self.installed.get_or_init(Installed::new)
    }

    /// Lets the API server ask the gate, as `deploy/webhook.yaml` says.
    pub fn register(&self) {
        for object in shipped("deploy/manifests/guards.yaml") {
            apply(&self.plane, &object);
        }
        for mut object in shipped("deploy/webhook.yaml") {
            for webhook in object["webhooks"].as_array_mut().unwrap() {
                webhook["clientConfig"]["caBundle"] = json!(encoded(&self.gates.certificate.pem));
            }
            apply(&self.plane, &object);
        }
    }

    /// The way out of a lock-out (README), which every administrator can go: first the binding of the policy that guards the
    /// webhook configuration, then the configuration.
    pub fn unregister(&self) {
        let guard = "validatingadmissionpolicybinding/promotion-gate-configuration";
        self.kubectl(Person::Bob, ["delete", guard]).ok();
        let webhook = "validatingwebhookconfiguration/promotion-gate";
        until("the webhook configuration can be deleted", || {
            let deleted = self.kubectl(Person::Bob, ["delete", webhook]);
            deleted.is_ok().then_some(())
        });
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
        copy_logs(self.plane.folder.path(), &kept);
        if let Some(installed) = self.installed.get() {
            let kept = kept.join("installed");
            fs::create_dir_all(&kept).unwrap();
            copy_logs(installed.plane.folder.path(), &kept);
        }
        kept
    }
}

fn copy_logs(folder: &Path, kept: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "log") {
            fs::copy(&path, kept.join(path.file_name().unwrap())).unwrap();
        }
    }
}

/// What ran before the gate came: its images are in no registry.
fn run_before_the_gate(plane: &ControlPlane) {
    plane.create_namespace_with(BEFORE, &json!({}));
    let image = format!("127.0.0.1:1/before@sha256:{}", "b".repeat(64));
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "old", "namespace": BEFORE},
        "spec": {"selector": {"matchLabels": {"app": "old"}}, "template": template("old", &image)},
    });
    apply(plane, &deployment);
}

/// What `deploy/` ships beside the Deployment: definitions and rights; and a configuration that names a governor.
fn install(plane: &ControlPlane) {
    let folder = format!("{ROOT}/deploy/crds");
    let definitions = ["apply", "--server-side", "-f", &folder];
    plane.kubectl(definitions).ok();
    let wait = ["wait", "--for=condition=Established", "crd", "--all"];
    plane.kubectl(wait).ok();
    for object in shipped("deploy/manifests/rbac.yaml") {
        apply(plane, &object);
    }
    let account = json!({"namespace": "argo-rollouts", "name": "argo-rollouts"});
    let keda = json!({"namespace": "keda", "name": "keda-operator"});
    let configuration = json!({
        "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "GateConfiguration",
        "metadata": {"name": GATE},
        "spec": {
            "cluster": "test",
            "governors": {"users": [Person::Grace.name()]},
            "trustedControllers": [
                {"preset": "ArgoRollouts", "serviceAccount": account},
                {"preset": "Keda", "serviceAccount": keda},
            ],
        },
    });
    apply(plane, &configuration);
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
pub fn shipped(file: &str) -> Vec<Value> {
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

/// A failure outside of a scenario, such as one of the start, leaves logs too.
impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("  logs: {}", self.keep_logs(0).display());
        }
    }
}
