//! A second cluster, in which real Helm installs the gate, and the Deployment of the chart replaces its replicas.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use super::pods::{NAMESPACE, Pods};
use super::shop::pod;
use super::{Image, Load, Person};
use crate::support::{ControlPlane, Cosign, Key, Ran, Registry, command, run, until};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const NODES: usize = 3;
const REPLICAS: usize = 3;
/// The rate that is wanted; less where the machine does not sustain it.
const PER_SECOND: u32 = 200;
/// The namespace that a policy governs.
pub const SHOP: &str = "shop";
/// An argument of every replica.
pub const OVERLAP: &str = "--ca-overlap=2s";
const WEBHOOK: &str = "validatingwebhookconfiguration/promotion-gate";

pub struct Installed {
    // Dropped before what it asks.
    pub pods: Pods,
    pub plane: Arc<ControlPlane>,
    pub signed: Image,
    pub unsigned: Image,
    /// Admissions per second without the gate.
    pub sustained: u32,
    key: Key,
    _registry: Registry,
}

impl Installed {
    /// The cluster, before anything is installed.
    pub fn new() -> Installed {
        let plane = Arc::new(ControlPlane::start());
        plane.start_controllers();
        plane.complete(NODES);
        plane.create_namespace_with(SHOP, &json!({}));
        let (registry, key) = (Registry::distribution(), Key::generate());
        let signed = registry.push("app", "signed", "signed");
        Cosign::v2().sign_with_key(&signed, &key, &[]).ok();
        let unsigned = registry.push("app", "unsigned", "unsigned").by_digest();
        let mut installed = Installed {
            pods: Pods::run(&plane),
            plane,
            signed: signed.by_digest(),
            unsigned,
            sustained: PER_SECOND,
            key,
            _registry: registry,
        };
        let both = [(&*installed.signed, true), (&*installed.unsigned, true)];
        let plain = Load::of(&installed.plane, SHOP, both);
        plain.during(PER_SECOND, || sleep(Duration::from_secs(1)));
        let plain = plain.during(PER_SECOND, || sleep(Duration::from_secs(3)));
        println!("  without the gate: {plain}");
        installed.sustained = PER_SECOND.min(plain.per_second());
        installed
    }

    /// Admissions of an image that the policy admits and of one that it denies.
    pub fn load(&self) -> Load {
        let both = [(&*self.signed, true), (&*self.unsigned, false)];
        Load::of(&self.plane, SHOP, both)
    }

    /// Installs the chart as `docs/install.md` says, and waits until it denies. Nothing is done where it is installed.
    pub fn install(&self) {
        // A scenario that failed may have left them held.
        self.pods.resume();
        if self.kubectl(["get", WEBHOOK]).is_ok() {
            return;
        }
        if !self.kubectl(["get", "namespace", NAMESPACE]).is_ok() {
            let restricted = json!({"pod-security.kubernetes.io/enforce": "restricted"});
            self.plane.create_namespace_with(NAMESPACE, &restricted);
        }
        let values = self.plane.folder.path().join("values.yaml");
        let image = json!({
            "repository": "ghcr.io/example/promotion-gate",
            "digest": format!("sha256:{}", "c".repeat(64)),
        });
        // A test does not wait ten minutes for a new CA.
        let values_of_test = json!({"image": image, "extraArgs": [OVERLAP]});
        fs::write(&values, values_of_test.to_string()).unwrap();
        let values = values.display().to_string();
        let chart = chart();
        let install = ["install", NAMESPACE, &chart, "--values", &values];
        self.helm(Person::Grace, &install).ok();
        self.is_rolled_out();
        let configuration = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "GateConfiguration",
            "metadata": {"name": NAMESPACE},
            "spec": {"cluster": "installed", "governors": {"users": [Person::Grace.name()]}},
        });
        self.apply(Person::Grace, &configuration).ok();
        self.apply(Person::Grace, &self.policy(&[SHOP])).ok();
        self.denies();
        until("what ran before is recorded", || {
            let configuration = self.get(["gateconfiguration", NAMESPACE])?;
            configuration
                .pointer("/status/recordBaseline/at")
                .map(|_| ())
        });
    }

    /// A policy that requires signed images in these namespaces.
    pub fn policy(&self, namespaces: &[&str]) -> Value {
        let key = json!({"pem": self.key.public_pem(), "transparency": "None"});
        json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "PromotionPolicy",
            "metadata": {"name": "signed"},
            "spec": {
                "match": {"namespaces": {"names": namespaces}},
                "requirements": [{"digestPinned": {}}, {"signature": {"anyOf": [{"key": key}]}}],
            },
        })
    }

    /// Waits until every replica that there should be is ready, and no other one is left.
    pub fn is_settled(&self) {
        until("the replicas that were replaced have ended", || {
            (self.pods.count() == REPLICAS && self.pods.metrics().len() == REPLICAS).then_some(())
        });
    }

    /// Waits until the Deployment has replaced its replicas.
    pub fn is_rolled_out(&self) {
        let status = ["rollout", "status", "deployment/promotion-gate", "-n"];
        let status = status.into_iter().chain([NAMESPACE, "--timeout=180s"]);
        self.kubectl(status).ok();
    }

    /// Waits until the API server asks, and every replica judges by the policy.
    pub fn denies(&self) {
        until("the gate denies", || {
            let asked = self.dry_run(&self.unsigned);
            let knows = |metrics: &String| !metrics.contains("\npromotion_gate_policies 0\n");
            let replicas = self.pods.metrics();
            (asked.stderr.contains("[unsigned]") && replicas.iter().all(knows)).then_some(())
        });
    }

    /// Alice creates a Pod, as a dry run.
    pub fn dry_run(&self, image: &Image) -> Ran {
        let create = ["create", "--dry-run=server", "-f", "-"];
        let pod = pod(SHOP, "probe", image).to_string();
        self.plane.kubectl_by(Person::Alice.token(), create, &pod)
    }

    pub fn uninstall(&self) {
        self.helm(Person::Grace, &["uninstall", NAMESPACE]).ok();
    }

    /// Deletes the policies, the records and the namespace too, as `docs/install.md` says.
    pub fn uninstall_for_good(&self) {
        if self.kubectl(["get", WEBHOOK]).is_ok() {
            self.uninstall();
        }
        for definition in self.definitions() {
            let delete = ["delete", &definition, "--timeout=60s"];
            // The API server forgets the guards a moment after they are deleted.
            until("the guards are gone, and the definition too", || {
                self.kubectl(delete).is_ok().then_some(())
            });
        }
        let delete = ["delete", "namespace", NAMESPACE, "--ignore-not-found"];
        let delete = delete.into_iter().chain(["--timeout=90s"]);
        self.kubectl(delete).ok();
    }

    /// The resource definitions of the gate.
    pub fn definitions(&self) -> Vec<String> {
        let all = self
            .kubectl(["get", "customresourcedefinitions", "-o", "name"])
            .ok();
        let ours = all.lines().filter(|it| it.ends_with(".promotion-gate.dev"));
        ours.map(str::to_owned).collect()
    }

    /// `helm upgrade` with these values, beside those of the installation.
    pub fn upgrade(&self, values: &[&str]) {
        let chart = chart();
        let upgrade = ["upgrade", NAMESPACE, &chart, "--reuse-values"];
        self.helm(Person::Grace, &[&upgrade[..], values].concat())
            .ok();
    }

    pub fn helm(&self, by: Person, args: &[&str]) -> Ran {
        let kubeconfig = self.kubeconfig(by);
        let mut helm = command("helm", self.plane.folder.path());
        helm.args(["--kubeconfig", &kubeconfig, "--namespace", NAMESPACE]);
        run(helm.args(args), b"")
    }

    pub fn kubeconfig(&self, of: Person) -> String {
        let file = self.plane.kubeconfig(of.token(), of.token());
        file.display().to_string()
    }

    pub fn kubectl<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Ran {
        self.plane.kubectl(args)
    }

    pub fn apply(&self, by: Person, object: &Value) -> Ran {
        let apply = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        self.plane
            .kubectl_by(by.token(), apply, &object.to_string())
    }

    /// An object, if it is there.
    pub fn get<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Option<Value> {
        let get = ["get", "-o", "json"].into_iter().chain(args);
        let found = self.kubectl(get);
        found
            .is_ok()
            .then(|| serde_json::from_str(&found.stdout).unwrap())
    }

    /// Runs command lines as somebody reads them on a page.
    pub fn shell(&self, by: Person, line: &str) -> Ran {
        let gate = Path::new(env!("CARGO_BIN_EXE_promotion-gate"));
        let gate = gate.parent().unwrap().display();
        let path = format!("{ROOT}/target/real-tools/bin:{gate}:/usr/bin:/bin");
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-ec", line])
            .current_dir(self.plane.folder.path())
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.plane.folder.path())
            .env("KUBECONFIG", self.kubeconfig(by));
        run(&mut shell, b"")
    }
}

fn chart() -> String {
    format!("{ROOT}/deploy/helm/promotion-gate")
}
