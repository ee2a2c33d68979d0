//! What a cluster has beside its API server and controllers: a scheduler, nodes without machines, people; and what happens to it.

use std::net::TcpStream;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::support::program::Program;
use crate::support::{Address, ControlPlane, command, until};

const STAGES: &str = include_str!("stages.yaml");
/// The kinds of Flux's source-controller, which does not run here.
const SOURCES: &str = include_str!("sources.yaml");

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Person {
    /// In `system:masters`.
    Admin,
    /// `alice@example.com` of the group `developers`, who may edit whatever a namespace holds.
    Alice,
    /// `bob@example.com` of the group `operators`: administrator of the cluster, no governor.
    Bob,
    /// `grace@example.com` of the group `platform-team`: administrator of the cluster and a governor.
    Grace,
}

impl Person {
    pub fn token(self) -> &'static str {
        match self {
            Person::Admin => "admin",
            Person::Alice => "alice",
            Person::Bob => "bob",
            Person::Grace => "grace",
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Person::Admin => "admin",
            Person::Alice => "alice@example.com",
            Person::Bob => "bob@example.com",
            Person::Grace => "grace@example.com",
        }
    }
}

impl ControlPlane {
    /// Starts scheduler and nodes, and lets people do what they do.
    pub fn complete(&self, nodes: usize) {
        let kubeconfig = self.kubeconfig("scheduler", Person::Admin.token());
        let port = Address::free();
        let args = [
            &*format!("--kubeconfig={}", kubeconfig.display()),
            &format!("--authentication-kubeconfig={}", kubeconfig.display()),
            &format!("--authorization-kubeconfig={}", kubeconfig.display()),
            "--authentication-skip-lookup=true",
            "--leader-elect=false",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            "--bind-address=127.0.0.1",
            &format!("--secure-port={}", port.port()),
        ];
        self.keep(Program::start("kube-scheduler", &self.folder, args));
        let stages = self.folder.path().join("stages.yaml");
        std::fs::write(&stages, STAGES).unwrap();
        let args = [
            &*format!("--kubeconfig={}", kubeconfig.display()),
            "--manage-all-nodes=true",
            &format!("--config={}", stages.display()),
        ];
        self.keep(Program::start("kwok", &self.folder, args));
        for node in 1..=nodes {
            self.create_node(&format!("node-{node}"));
        }
        for (name, role, whom) in [
            ("edit", "edit", "--group=developers"),
            ("operators", "cluster-admin", "--group=operators"),
            ("platform-team", "cluster-admin", "--group=platform-team"),
        ] {
            let role = format!("--clusterrole={role}");
            self.kubectl(["create", "clusterrolebinding", name, &role, whom])
                .ok();
        }
    }

    /// Starts the controller of Argo Rollouts, as its own manifests install it.
    pub fn start_rollouts(&self) {
        const NAME: &str = "argo-rollouts";
        self.create_namespace_with(NAME, &json!({}));
        let bin = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/real-tools/bin");
        let manifests = bin.join("rollouts-controller.yaml").display().to_string();
        let apply = ["apply", "--server-side", "-n", NAME, "-f", &manifests];
        self.kubectl(apply).ok();
        // It runs here.
        self.kubectl(["delete", "deployment", "--all", "-n", NAME])
            .ok();
        let kubeconfig = self.kubeconfig_of(NAME, NAME);
        let (metrics, health) = (Address::free(), Address::free());
        let args = [
            &*format!("--kubeconfig={}", kubeconfig.display()),
            "--leader-elect=false",
            "--namespace=argo-rollouts",
            &format!("--metricsPort={}", metrics.port()),
            &format!("--healthzPort={}", health.port()),
        ];
        self.keep(Program::start("rollouts-controller", &self.folder, args));
    }

    /// Starts the kustomize-controller of Flux with the rights of an administrator, as Flux installs it.
    pub fn start_flux(&self) {
        const NAME: &str = "kustomize-controller";
        let bin = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/real-tools/bin");
        let definition = bin.join("kustomize-controller.yaml").display().to_string();
        let create = ["create", "-f", &definition];
        self.kubectl(create).ok();
        self.kubectl_by(Person::Admin.token(), ["create", "-f", "-"], SOURCES)
            .ok();
        let wait = ["wait", "--for=condition=Established", "crd", "--all"];
        self.kubectl(wait).ok();
        self.create_namespace_with("flux-system", &json!({}));
        let account = ["create", "serviceaccount", NAME, "-n", "flux-system"];
        self.kubectl(account).ok();
        let whom = format!("--serviceaccount=flux-system:{NAME}");
        let right = ["create", "clusterrolebinding", NAME, &whom];
        let right = right.into_iter().chain(["--clusterrole=cluster-admin"]);
        self.kubectl(right).ok();
        let kubeconfig = self.kubeconfig_of("flux-system", NAME);
        let (metrics, health) = (Address::free(), Address::free());
        let args = [
            format!("--metrics-addr={metrics}"),
            format!("--health-addr={health}"),
        ];
        let mut controller = command(NAME, self.folder.path());
        controller
            .args(args)
            .env("KUBECONFIG", kubeconfig)
            .env("RUNTIME_NAMESPACE", "flux-system");
        let log = self.folder.path().join(format!("{NAME}.log"));
        self.keep(Program::start_logging_to(log, NAME, &mut controller));
    }

    pub fn create_node(&self, name: &str) {
        let labels = json!({"kubernetes.io/hostname": name});
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": labels},
        });
        self.kubectl_by(
            Person::Admin.token(),
            ["create", "-f", "-"],
            &node.to_string(),
        )
        .ok();
    }

    /// Makes a namespace and waits until Pods can be created in it.
    pub fn create_namespace_with(&self, name: &str, labels: &serde_json::Value) {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": labels},
        });
        self.kubectl_by(
            Person::Admin.token(),
            ["create", "-f", "-"],
            &namespace.to_string(),
        )
        .ok();
        let account = ["get", "serviceaccount", "default", "-n", name];
        until("the namespace has its service account", || {
            self.kubectl(account).is_ok().then_some(())
        });
    }

    /// The issuer of the tokens of its service accounts.
    pub fn issuer(&self) -> String {
        format!("https://{}", self.https)
    }

    /// A kubeconfig file with a token of this service account.
    pub fn kubeconfig_of(&self, namespace: &str, account: &str) -> std::path::PathBuf {
        let token = [
            "create",
            "token",
            account,
            "-n",
            namespace,
            "--duration=24h",
        ];
        let token = self.kubectl(token).ok();
        self.kubeconfig(account, &token)
    }

    /// The API server ends without a word, and is started again on its port.
    pub fn restart_api_server(&self) {
        self.kill("kube-apiserver");
        let address = self.https.to_string();
        until("the port is free", || {
            TcpStream::connect(&address).is_err().then_some(())
        });
        self.start_api_server();
    }

    /// Sends a signal to a program: `STOP` stalls it, `CONT` lets it go on.
    pub fn signal(&self, program: &str, signal: Signal) {
        let programs = self.programs.lock().unwrap();
        let running = programs
            .iter()
            .find(|running| running.name == program)
            .unwrap();
        let pid = Pid::from_child(&running.child);
        kill_process(pid, signal).unwrap();
    }
}
