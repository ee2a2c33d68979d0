//! A real API server over a real etcd, without nodes, with or without the built-in controllers: what is applied is stored,
//! and every request passes admission.

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::authority::Authority;
use super::gate::{Certificate, Serving};
use super::program::{Address, Program, Ran, command, run};

pub struct ControlPlane {
    pub https: Address,
    pub folder: TempDir,
    /// Arguments of the API server: it can be started again on its port.
    arguments: Vec<String>,
    pub programs: Mutex<Vec<Program>>,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub enum User {
    /// In `system:masters`.
    Admin,
    /// `alice@example.com` of the group `developers`, who may edit whatever a namespace holds.
    Alice,
}

impl ControlPlane {
    pub fn start() -> ControlPlane {
        ControlPlane::start_in(TempDir::new().unwrap(), &[])
    }

    /// Starts an API server that presents this certificate to the webhook behind a Service, named by its DNS name.
    pub fn start_presenting(certificate: &Certificate, service: &str) -> ControlPlane {
        let folder = TempDir::new().unwrap();
        let write = |name: &str, content: String| {
            let path = folder.path().join(name);
            fs::write(&path, content).unwrap();
            path
        };
        let identity = json!({
            "client-certificate": write("client.crt", certificate.pem.clone()),
            "client-key": write("client.key", certificate.key.clone()),
        });
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "users": [{"name": service, "user": identity}],
        });
        let webhooks = json!({
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "WebhookAdmissionConfiguration",
            "kubeConfigFile": write("webhooks.kubeconfig", kubeconfig.to_string()),
        });
        let admission = json!({
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "AdmissionConfiguration",
            "plugins": [{"name": "ValidatingAdmissionWebhook", "configuration": webhooks}],
        });
        let admission = write("admission.json", admission.to_string());
        let args = format!("--admission-control-config-file={}", admission.display());
        ControlPlane::start_in(folder, &[args])
    }

    /// Starts an API server with more arguments.
    fn start_in(folder: TempDir, more: &[String]) -> ControlPlane {
        let https = Address::free();
        let (etcd, etcd_url) = start_etcd(&folder);
        let plane = ControlPlane {
            https,
            arguments: api_server_arguments(&folder, https, &etcd_url, more),
            folder,
            programs: Mutex::new(vec![etcd]),
        };
        plane.start_api_server();
        // Without the controller that fills them in, the roles that come with a cluster are empty.
        let resources = "--resource=configmaps,pods,pods/ephemeralcontainers,replicationcontrollers,deployments.apps,deployments.apps/scale,statefulsets.apps,daemonsets.apps,jobs.batch,cronjobs.batch";
        plane
            .kubectl(["create", "clusterrole", "develop", "--verb=*", resources])
            .ok();
        let bind = [
            "create",
            "clusterrolebinding",
            "developers",
            "--clusterrole=develop",
            "--group=developers",
        ];
        plane.kubectl(bind).ok();
        plane
    }

    pub fn start_api_server(&self) {
        let api_server = Program::start("kube-apiserver", &self.folder, &self.arguments);
        let ready = || self.kubectl(["get", "--raw=/readyz"]).is_ok();
        self.keep(api_server.until(ready));
    }

    /// Starts the controllers that make ReplicaSets of Deployments and Pods of ReplicaSets, each with its own service account.
    pub fn start_controllers(&self) {
        let file = self.kubeconfig("controllers", CONTROLLERS);
        let port = Address::free();
        let args = [
            &*format!("--kubeconfig={}", file.display()),
            &format!("--authentication-kubeconfig={}", file.display()),
            &format!("--authorization-kubeconfig={}", file.display()),
            "--authentication-skip-lookup=true",
            "--use-service-account-credentials=true",
            "--service-account-private-key-file=service-accounts.pem",
            "--root-ca-file=certs/apiserver.crt",
            "--leader-elect=false",
            // The nodes, where there are any, belong to nobody who reports their health.
            "--node-monitor-grace-period=1h",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            "--bind-address=127.0.0.1",
            &format!("--secure-port={}", port.port()),
        ];
        self.keep(Program::start(
            "kube-controller-manager",
            &self.folder,
            args,
        ));
    }

    /// Ends a program as a crash does.
    pub fn kill(&self, program: &str) {
        let mut programs = self.programs.lock().unwrap();
        let at = programs
            .iter()
            .position(|running| running.name == program)
            .unwrap();
        drop(programs.remove(at));
    }

    /// Keeps a program running as long as the API server.
    pub fn keep(&self, program: Program) {
        self.programs.lock().unwrap().push(program);
    }

    /// A kubeconfig file of the administrator.
    pub fn admin_kubeconfig(&self) -> String {
        let file = self.kubeconfig("admin", User::Admin.token());
        file.display().to_string()
    }

    /// A file with the API server's address and the credential of a client.
    pub fn kubeconfig(&self, name: &str, token: &str) -> PathBuf {
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {
                "server": format!("https://{}", self.https),
                "certificate-authority": self.folder.path().join("certs/apiserver.crt"),
            }}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "promotion-gate"}}],
            "current-context": "c",
        });
        let file = self.folder.path().join(format!("{name}.kubeconfig"));
        fs::write(&file, kubeconfig.to_string()).unwrap();
        file
    }

    /// The kubeconfig of a gate in the namespace `promotion-gate`.
    pub fn kubeconfig_of_gate(&self) -> String {
        self.kubeconfig("gate", GATE).display().to_string()
    }

    /// The lines of the API server's audit log about this user.
    pub fn requests_of(&self, user: &str) -> Vec<String> {
        let log = fs::read_to_string(self.folder.path().join("audit.log")).unwrap_or_default();
        let of_user = |line: &&str| line.contains(&format!("\"username\":\"{user}\""));
        log.lines().filter(of_user).map(str::to_owned).collect()
    }

    /// Lets the API server ask a webhook, under its own certificate authority.
    pub fn register(&self, serving: &Serving) {
        let registration = serving.registration(&serving.ca_bundle);
        self.kubectl_as(User::Admin, ["apply", "-f", "-"], &registration)
            .ok();
    }

    /// Applies the shipped definitions and rights of the gate, and gives the kubeconfig of its account.
    pub fn give_rights(&self) -> PathBuf {
        self.create_namespace("promotion-gate");
        for shipped in ["crds", "manifests/rbac.yaml"] {
            let shipped = format!("{}/deploy/{shipped}", env!("CARGO_MANIFEST_DIR"));
            self.kubectl(["apply", "--server-side", "-f", &shipped])
                .ok();
        }
        self.kubeconfig("gate", "gate-account")
    }

    /// The `spec` of each cluster-scoped resource of a kind.
    pub fn specs_of(&self, kind: &str) -> Vec<Value> {
        let list = self.kubectl(["get", kind, "-o", "json"]).ok();
        let mut list: Value = serde_json::from_str(&list).unwrap();
        let items = list["items"].as_array_mut().unwrap();
        items.iter_mut().map(|item| item["spec"].take()).collect()
    }

    /// Makes a namespace that Pods can be created in (for which a controller would make the
    /// service account).
    pub fn create_namespace(&self, name: &str) {
        self.kubectl(["create", "namespace", name]).ok();
        self.kubectl(["create", "serviceaccount", "default", "--namespace", name])
            .ok();
    }

    /// Runs kubectl as the administrator.
    pub fn kubectl<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Ran {
        self.kubectl_as(User::Admin, args, "")
    }

    /// Runs kubectl with `input` on its standard input.
    pub fn kubectl_as<'a>(
        &self,
        user: User,
        args: impl IntoIterator<Item = &'a str>,
        input: &str,
    ) -> Ran {
        self.kubectl_by(user.token(), args, input)
    }

    /// Runs kubectl as the client with this token.
    pub fn kubectl_by<'a>(
        &self,
        token: &str,
        args: impl IntoIterator<Item = &'a str>,
        input: &str,
    ) -> Ran {
        let mut kubectl = command("kubectl", self.folder.path());
        kubectl
            .arg(format!("--server=https://{}", self.https))
            .arg("--certificate-authority=certs/apiserver.crt")
            .arg(format!("--token={token}"))
            .args(args);
        run(&mut kubectl, input.as_bytes())
    }
}

impl User {
    fn token(self) -> &'static str {
        match self {
            User::Admin => "admin",
            User::Alice => "alice",
        }
    }
}

/// Token, name, unique id, groups.
const TOKENS: &str = r#"admin,admin,admin,"system:masters"
alice,alice@example.com,alice,"developers"
bob,bob@example.com,bob,"operators"
grace,grace@example.com,grace,"platform-team"
controllers,system:kube-controller-manager,controllers,"system:masters"
gate-account,system:serviceaccount:promotion-gate:promotion-gate,gate-account,"system:serviceaccounts,system:serviceaccounts:promotion-gate"
gate,system:serviceaccount:promotion-gate:promotion-gate,gate,"system:masters"
"#;
/// The token of the gate.
const GATE: &str = "gate";
/// The token of the controller manager.
const CONTROLLERS: &str = "controllers";

/// The names of the API server: for its clients, and within the cluster.
const NAMES: [&str; 4] = [
    "127.0.0.1",
    "127.96.0.1",
    "localhost",
    "kubernetes.default.svc",
];

const AUDIT_POLICY: &str = r#"{
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{ "level": "Metadata" }]
}"#;

fn start_etcd(folder: &TempDir) -> (Program, String) {
    let (client, peer) = (Address::free(), Address::free());
    let args = [
        "--unsafe-no-fsync",
        "--data-dir=etcd",
        &format!("--listen-client-urls={}", client.url()),
        &format!("--advertise-client-urls={}", client.url()),
        &format!("--listen-peer-urls={}", peer.url()),
        &format!("--initial-advertise-peer-urls={}", peer.url()),
        &format!("--initial-cluster=default={}", peer.url()),
    ];
    let etcd = Program::start("etcd", folder, args).until(|| client.http_get("/health").is_some());
    (etcd, client.url())
}

fn api_server_arguments(
    folder: &TempDir,
    https: Address,
    etcd: &str,
    more: &[String],
) -> Vec<String> {
    let service_accounts = rcgen::KeyPair::generate().unwrap();
    let write = |name: &str, content: &str| fs::write(folder.path().join(name), content).unwrap();
    write("service-accounts.pem", &service_accounts.serialize_pem());
    write("service-accounts.pub", &service_accounts.public_key_pem());
    write("tokens.csv", TOKENS);
    write("audit-policy.json", AUDIT_POLICY);
    // Where the API server looks for its certificate before it makes one.
    fs::create_dir(folder.path().join("certs")).unwrap();
    let certificate = Authority::of_api_servers().certify(&NAMES);
    write("certs/apiserver.crt", &certificate.pem);
    write("certs/apiserver.key", &certificate.key);
    let args = [
        &*format!("--etcd-servers={etcd}"),
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        &format!("--secure-port={}", https.port()),
        "--endpoint-reconciler-type=none",
        // In 127.0.0.0/8, so that a test can listen on the address of a Service.
        "--service-cluster-ip-range=127.96.0.0/16",
        // Each cluster has an issuer of its own.
        &format!("--service-account-issuer=https://{https}"),
        "--service-account-key-file=service-accounts.pub",
        "--service-account-signing-key-file=service-accounts.pem",
        "--cert-dir=certs",
        "--token-auth-file=tokens.csv",
        "--authorization-mode=Node,RBAC",
        "--audit-policy-file=audit-policy.json",
        "--audit-log-path=audit.log",
    ];
    let args = args.into_iter().map(str::to_owned);
    args.chain(more.iter().cloned()).collect()
}
