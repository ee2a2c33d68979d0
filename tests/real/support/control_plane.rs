//! A real API server over a real etcd, without nodes, with or without the built-in controllers: what is applied is stored,
//! and every request passes admission.

use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::gate::{Certificate, Serving};
use super::program::{Address, Program, Ran, command, run};

pub struct ControlPlane {
    https: Address,
    folder: TempDir,
    _programs: Vec<Program>,
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

    fn start_in(folder: TempDir, args: &[String]) -> ControlPlane {
        let https = Address::free();
        let (etcd, etcd_url) = start_etcd(&folder);
        let api_server = start_api_server(&folder, https, &etcd_url, args)
            .until(|| kubectl(https, &folder, User::Admin, &["get", "--raw=/readyz"], "").is_ok());
        let plane = ControlPlane {
            https,
            folder,
            _programs: vec![etcd, api_server],
        };
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

    /// Starts the controllers that make ReplicaSets of Deployments and Pods of ReplicaSets, each with its own service account.
    pub fn start_controllers(&mut self) {
        self.kubeconfig("controllers", CONTROLLERS, "default");
        let port = Address::free();
        let args = [
            "--kubeconfig=controllers.kubeconfig",
            "--authentication-kubeconfig=controllers.kubeconfig",
            "--authorization-kubeconfig=controllers.kubeconfig",
            "--authentication-skip-lookup=true",
            "--use-service-account-credentials=true",
            "--service-account-private-key-file=service-accounts.pem",
            "--root-ca-file=certs/apiserver.crt",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            &format!("--secure-port={}", port.port()),
        ];
        let controllers = Program::start("kube-controller-manager", &self.folder, args);
        self._programs.push(controllers);
    }

    /// Writes a kubeconfig with this token and namespace, and returns its path.
    fn kubeconfig(&self, name: &str, token: &str, namespace: &str) -> String {
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {
                "server": format!("https://{}", self.https),
                "certificate-authority": self.folder.path().join("certs/apiserver.crt"),
            }}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": namespace}}],
            "current-context": "c",
        });
        let file = self.folder.path().join(format!("{name}.kubeconfig"));
        fs::write(&file, kubeconfig.to_string()).unwrap();
        file.display().to_string()
    }

    /// The kubeconfig of a gate in the namespace `promotion-gate`.
    pub fn kubeconfig_of_gate(&self) -> String {
        self.kubeconfig("gate", GATE, "promotion-gate")
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
        kubectl(self.https, &self.folder, user, &Vec::from_iter(args), input)
    }
}

fn kubectl(https: Address, folder: &TempDir, user: User, args: &[&str], input: &str) -> Ran {
    let mut kubectl = command("kubectl", folder.path());
    kubectl
        .arg(format!("--server=https://{https}"))
        .arg("--certificate-authority=certs/apiserver.crt")
        .arg(format!("--token={}", user.token()))
        .args(args);
    run(&mut kubectl, input.as_bytes())
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
controllers,system:kube-controller-manager,controllers,"system:masters"
gate,system:serviceaccount:promotion-gate:promotion-gate,gate,"system:masters"
"#;
/// The token of the gate.
const GATE: &str = "gate";
/// The token of the controller manager.
const CONTROLLERS: &str = "controllers";

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

fn start_api_server(folder: &TempDir, https: Address, etcd: &str, more: &[String]) -> Program {
    let service_accounts = rcgen::KeyPair::generate().unwrap();
    let write = |name: &str, content: &str| fs::write(folder.path().join(name), content).unwrap();
    write("service-accounts.pem", &service_accounts.serialize_pem());
    write("service-accounts.pub", &service_accounts.public_key_pem());
    write("tokens.csv", TOKENS);
    write("audit-policy.json", AUDIT_POLICY);
    let args = [
        &*format!("--etcd-servers={etcd}"),
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        &format!("--secure-port={}", https.port()),
        "--endpoint-reconciler-type=none",
        // In 127.0.0.0/8, so that a test can listen on the address of a Service.
        "--service-cluster-ip-range=127.96.0.0/16",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-account-key-file=service-accounts.pub",
        "--service-account-signing-key-file=service-accounts.pem",
        "--cert-dir=certs",
        "--token-auth-file=tokens.csv",
        "--authorization-mode=Node,RBAC",
        "--audit-policy-file=audit-policy.json",
        "--audit-log-path=audit.log",
    ];
    let args = args.into_iter().chain(more.iter().map(String::as_str));
    Program::start("kube-apiserver", folder, args)
}
