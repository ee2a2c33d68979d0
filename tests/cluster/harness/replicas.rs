//! The replicas of the gate: processes that one address leads to, killed and started again at will.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::balancer::Target;
use crate::support::program::Program;
use crate::support::{Address, Certificate, Gate};

/// The name by which the API server knows the gate.
pub const SERVICE: &str = "promotion-gate.promotion-gate.svc";
const REPLICAS: usize = 3;
/// How long a Service goes on to lead to a replica that ends.
const PROPAGATION: Duration = Duration::from_secs(1);

pub struct Replicas {
    pub gate: Gate,
    pub certificate: Certificate,
    kubeconfig: PathBuf,
    logs: PathBuf,
    replicas: Vec<Replica>,
    client: reqwest::Client,
    runtime: Runtime,
}

struct Replica {
    https: Address,
    probes: Address,
    target: Arc<Target>,
    running: Mutex<Option<Program>>,
}

impl Replicas {
    /// Nothing runs yet.
    pub fn new(gate: Gate, kubeconfig: PathBuf, logs: &Path) -> Replicas {
        let certificate = Certificate::new(SERVICE);
        gate.present(&certificate);
        let replica = |_| {
            let https = Address::free();
            let address = https.to_string().parse().unwrap();
            let ready = AtomicBool::new(false);
            Replica {
                https,
                probes: Address::free(),
                target: Arc::new(Target { address, ready }),
                running: Mutex::new(None),
            }
        };
        // Fails only where somebody else was first.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let authority = reqwest::Certificate::from_pem(certificate.pem.as_bytes()).unwrap();
        // The port is that of the URL.
        let here = SocketAddr::from(([127, 0, 0, 1], 0));
        let client = reqwest::Client::builder()
            .tls_certs_only([authority])
            .resolve(SERVICE, here)
            .build()
            .unwrap();
        Replicas {
            gate,
            certificate,
            kubeconfig,
            logs: logs.to_owned(),
            replicas: (0..REPLICAS).map(replica).collect(),
            client,
            runtime: Runtime::new().unwrap(),
        }
    }

    pub fn targets(&self) -> Vec<Arc<Target>> {
        let target = |replica: &Replica| Arc::clone(&replica.target);
        self.replicas.iter().map(target).collect()
    }

    pub fn numbers(&self) -> std::ops::Range<usize> {
        0..self.replicas.len()
    }

    fn log_file(&self, replica: usize) -> PathBuf {
        self.logs.join(format!("gate-{replica}.log"))
    }

    pub fn start(&self, replica: usize) {
        let Replica {
            https,
            probes,
            target,
            running,
        } = &self.replicas[replica];
        let mut command = self.gate.serve_command(&https.to_string(), *probes);
        command.args(["--policy", "policies"]);
        command.env("KUBECONFIG", &self.kubeconfig);
        let log = self.log_file(replica);
        let gate = Program::start_logging_to(log, &format!("gate-{replica}"), &mut command);
        let ready = || probes.http_get("/readyz").is_some();
        *running.lock().unwrap() = Some(gate.until(ready));
        target.ready.store(true, Ordering::Relaxed);
    }

    pub fn start_all(&self) {
        std::thread::scope(|scope| {
            for replica in self.numbers() {
                scope.spawn(move || self.start(replica));
            }
        });
    }

    pub fn kill(&self, replica: usize) {
        *self.replicas[replica].running.lock().unwrap() = None;
    }

    /// Ends a replica as a cluster ends a Pod: the Service learns of it a little later.
    pub fn stop(&self, replica: usize) {
        let Replica {
            target, running, ..
        } = &self.replicas[replica];
        let mut running = running.lock().unwrap();
        let program = running.as_mut().unwrap();
        kill_process(Pid::from_child(&program.child), Signal::TERM).unwrap();
        sleep(PROPAGATION);
        target.ready.store(false, Ordering::Relaxed);
        program.child.wait().unwrap();
        *running = None;
    }

    pub fn kill_all(&self) {
        self.numbers().for_each(|replica| self.kill(replica));
    }

    /// The answer of a replica to an AdmissionReview, sent by somebody who is not the API server.
    pub fn ask(&self, replica: usize, review: &Value) -> Value {
        let port = self.replicas[replica].https.port();
        let url = format!("https://{SERVICE}:{port}/validate?timeout=10s");
        let answer = self.client.post(url).body(review.to_string());
        self.runtime.block_on(async {
            let answer = answer.header("Content-Type", "application/json");
            let bytes = answer.send().await.unwrap().bytes().await.unwrap();
            let text = String::from_utf8_lossy(&bytes);
            let read = serde_json::from_slice(&bytes);
            read.unwrap_or_else(|error| panic!("{error}: {text}"))
        })
    }

    /// The lines of all replicas' logs that hold this text.
    pub fn log_lines(&self, with: &str) -> Vec<Value> {
        let logs = self.numbers().map(|replica| self.log_file(replica));
        let logs = logs.map(|file| fs::read_to_string(file).unwrap_or_default());
        let read = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| json!(line));
        logs.flat_map(|log| {
            let lines = log.lines().filter(|line| line.contains(with));
            lines.map(read).collect::<Vec<_>>()
        })
        .collect()
    }

    /// Resident memory of a replica's process, in MiB.
    pub fn memory(&self, replica: usize) -> u64 {
        let running = self.replicas[replica].running.lock().unwrap();
        let pid = running.as_ref().unwrap().child.id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: u64 = line
            .unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap();
        kib / 1024
    }
}
