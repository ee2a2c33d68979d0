//! The gate as its users run it: the binary, policies and a configuration in a folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::program::{Address, Ran, run, until};
use super::sigstore::LocalSigstore;

const BINARY: &str = env!("CARGO_BIN_EXE_promotion-gate");

/// A folder with a configuration and policies.
pub struct Gate {
    folder: TempDir,
}

impl Gate {
    /// With a configuration that knows the local Sigstore as `local`.
    pub fn new(sigstore: &LocalSigstore) -> Gate {
        let roots = serde_json::json!([{"name": "local", "file": "local.json"}]);
        let gate = Gate::configured(&serde_json::json!({"trustRoots": roots}));
        fs::copy(sigstore.trusted_root(), gate.path("local.json")).unwrap();
        gate
    }

    /// A folder with a configuration of these fields, which knows no Sigstore, and without policies.
    pub fn configured(fields: &serde_json::Value) -> Gate {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("policies")).unwrap();
        let mut configuration = serde_json::json!({
            "apiVersion": "promotion-gate.dev/v1alpha1",
            "kind": "GateConfiguration",
        });
        let fields = fields.as_object().unwrap().clone();
        configuration.as_object_mut().unwrap().extend(fields);
        fs::write(folder.path().join("gate.yaml"), configuration.to_string()).unwrap();
        Gate { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// One policy that requires digests and a signature as `signers` says (a JSON list).
    pub fn require(&self, signers: serde_json::Value) -> &Gate {
        self.requirements(serde_json::json!([
            {"digestPinned": {}},
            {"allowedImages": {"patterns": ["127.0.0.1:*/**"]}},
            {"signature": {"anyOf": signers}},
        ]))
    }

    /// One policy with these requirements (a JSON list).
    pub fn requirements(&self, requirements: serde_json::Value) -> &Gate {
        self.spec(requirements, serde_json::json!({}))
    }

    /// One policy with these requirements, and more fields of its `spec`.
    pub fn spec(&self, requirements: serde_json::Value, more: serde_json::Value) -> &Gate {
        let mut spec = more;
        spec.as_object_mut()
            .unwrap()
            .insert("requirements".to_owned(), requirements);
        let policy = serde_json::json!({
            "apiVersion": "promotion-gate.dev/v1alpha1",
            "kind": "PromotionPolicy",
            "metadata": {"name": "signed"},
            "spec": spec,
        });
        self.policy(&policy.to_string())
    }

    pub fn policy(&self, text: &str) -> &Gate {
        fs::write(self.path("policies/policy.yaml"), text).unwrap();
        self
    }

    /// Runs a command in the folder.
    pub fn run(&self, arguments: &[&str], input: &str) -> Ran {
        let mut command = Command::new(BINARY);
        command.args(arguments).current_dir(self.folder.path());
        run(&mut command, input.as_bytes())
    }

    /// Runs a command in the folder with these variables.
    pub fn run_with(&self, arguments: &[&str], input: &str, variables: &[(&str, &str)]) -> Ran {
        let mut command = Command::new(BINARY);
        command.args(arguments).current_dir(self.folder.path());
        command.envs(variables.iter().copied());
        run(&mut command, input.as_bytes())
    }

    /// What `check` says of a Deployment with this image.
    pub fn check(&self, image: &str) -> Ran {
        let mut command = Command::new(BINARY);
        command.arg("check").args([
            "--policy",
            "policies",
            "--config",
            "gate.yaml",
            "--namespace",
            "shop",
            "-",
        ]);
        run(
            command.current_dir(self.folder.path()),
            deployment("web", image).as_bytes(),
        )
    }

    pub fn write(&self, name: &str, text: &str) -> &Gate {
        fs::write(self.path(name), text).unwrap();
        self
    }

    /// Starts the webhook on 127.0.0.1.
    pub fn serve(&self, flags: &[&str]) -> Serving {
        self.serve_as(&Certificate::new("127.0.0.1"), "127.0.0.1", flags)
    }

    /// Starts the webhook with this certificate on an address of loopback.
    pub fn serve_as(&self, certificate: &Certificate, address: &str, flags: &[&str]) -> Serving {
        let flags = [&["--policy", "policies"], flags].concat();
        let serving = self.start(certificate, address, &flags);
        until("the gate is ready", || serving.probes.http_get("/readyz"));
        serving
    }

    /// Starts the webhook on 127.0.0.1 with the resources of a cluster, and does not wait for it.
    pub fn serve_cluster(&self, kubeconfig: &str, flags: &[&str]) -> Serving {
        let flags = [&["--kubeconfig", kubeconfig], flags].concat();
        self.start(&Certificate::new("127.0.0.1"), "127.0.0.1", &flags)
    }

    pub fn start(&self, certificate: &Certificate, address: &str, flags: &[&str]) -> Serving {
        let (https, probes) = (Address::free(), Address::free());
        self.present(certificate);
        let address = format!("{address}:{}", https.port());
        let mut command = self.serve_command(&address, probes);
        let mut serving = self.spawn(command.args(flags), https, probes);
        serving.ca_bundle.clone_from(&certificate.pem);
        serving
    }

    /// Starts the webhook with the resources of a cluster and the policies in this folder on this port of 127.0.0.1, without files of a
    /// certificate, and does not wait for it.
    pub fn serve_without_files(&self, kubeconfig: &str, https: Address, flags: &[&str]) -> Serving {
        let probes = Address::free();
        let mut command = self.bare_command(&https.to_string(), probes);
        command.args(["--kubeconfig", kubeconfig, "--policy", "policies"]);
        self.spawn(command.args(flags), https, probes)
    }

    fn spawn(&self, command: &mut Command, https: Address, probes: Address) -> Serving {
        let log_file = self.path(&format!("gate-{}.log", https.port()));
        let log = fs::File::create(&log_file).unwrap();
        let command = command.stdin(Stdio::null()).stderr(Stdio::from(log));
        Serving {
            child: command.spawn().unwrap(),
            https,
            probes,
            ca_bundle: String::new(),
            log: log_file,
        }
    }

    /// The command `serve`, with what lies in this folder.
    pub fn serve_command(&self, address: &str, probes: Address) -> Command {
        let mut command = self.bare_command(address, probes);
        command.args(["--tls-cert", "tls.crt", "--tls-key", "tls.key"]);
        command
    }

    fn bare_command(&self, address: &str, probes: Address) -> Command {
        let mut command = Command::new(BINARY);
        command
            .args(["serve", "--config", "gate.yaml"])
            .args(["--drain", "2", "--address", address])
            .args(["--probe-address", &probes.to_string()])
            .current_dir(self.folder.path());
        command
    }

    /// Replaces certificate and key.
    pub fn present(&self, certificate: &Certificate) {
        fs::write(self.path("tls.key"), &certificate.key).unwrap();
        fs::write(self.path("tls.crt"), &certificate.pem).unwrap();
    }
}

/// A certificate for servers and clients that is its own authority.
pub struct Certificate {
    pub pem: String,
    pub key: String,
}

impl Certificate {
    pub fn new(name: &str) -> Certificate {
        Certificate::of(rcgen::CertificateParams::new([name.to_owned()]).unwrap())
    }

    /// One whose time is over.
    pub fn ended(name: &str) -> Certificate {
        let mut parameters = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2021, 1, 1);
        Certificate::of(parameters)
    }

    fn of(parameters: rcgen::CertificateParams) -> Certificate {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        Certificate {
            pem: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

/// A running webhook.
pub struct Serving {
    child: Child,
    pub https: Address,
    pub probes: Address,
    pub ca_bundle: String,
    log: PathBuf,
}

impl Serving {
    /// Waits until `/readyz` or `/metrics` says this, and gives the whole text.
    #[track_caller]
    pub fn says(&self, path: &str, text: &str) -> String {
        self.answers(path, text, |answer| answer.contains(text))
    }

    /// Waits until it answers requests, whatever it warns of.
    pub fn is_ready(&self) -> String {
        self.answers("/readyz", "ready", |answer| answer.starts_with("ready"))
    }

    fn answers(&self, path: &str, text: &str, is: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut last = String::new();
        while Instant::now() < deadline {
            let answer = self.probes.http("GET", path, "", b"");
            last = answer.map(|(_, body)| body).unwrap_or_default();
            if is(&last) {
                return last;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{path} never says {text}:\n{last}\n{}", self.log());
    }

    /// Kills it.
    pub fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn log(&self) -> String {
        fs::read_to_string(Path::new(&self.log)).unwrap()
    }

    pub fn port(&self) -> u16 {
        self.https.port().parse().unwrap()
    }

    /// Its authority, as a `caBundle` holds it.
    pub fn encoded_ca_bundle(&self) -> String {
        encode(&self.ca_bundle)
    }

    /// The configuration by which an API server asks this webhook.
    pub fn registration(&self, ca_bundle: &str) -> String {
        let authority = self.log.with_file_name("authority.crt");
        fs::write(&authority, ca_bundle).unwrap();
        let url = format!("--url=https://{}/validate", self.https);
        let mut command = Command::new(BINARY);
        command.args(["webhook-configuration", &url, "--ca-bundle"]);
        run(command.arg(authority), b"").ok()
    }
}

fn encode(pem: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(pem)
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn deployment(name: &str, image: &str) -> String {
    serde_json::json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "main", "image": image}]}}},
    })
    .to_string()
}
