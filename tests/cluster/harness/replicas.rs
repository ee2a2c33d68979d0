//! The replicas of the gate: processes that one address leads to, killed and started again at will.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::balancer::{Target, Targets};
use crate::support::program::Program;
use crate::support::{Address, Certificate, Gate};

/// The name by which the API server knows the gate.
pub const SERVICE: &str = "promotion-gate.promotion-gate.svc";
const REPLICAS: usize = 3;
/// How long a Service goes on to lead to a replica that ends.
const PROPAGATION: Duration = Duration::from_secs(1);
/// How many admissions a cost is measured with.
const ASKED: usize = 2000;

/// What an admission costs a replica.
pub struct Cost {
    pub cpu: Duration,
    p50: Duration,
    p99: Duration,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cost { cpu, p50, p99 } = self;
        write!(
            f,
            "{cpu:.1?} of CPU, answered within {p50:.1?} (p50), {p99:.1?} (p99)"
        )
    }
}

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

    pub fn targets(&self) -> Targets {
        let target = |replica: &Replica| Arc::clone(&replica.target);
        Arc::new(Mutex::new(self.replicas.iter().map(target).collect()))
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
        command.arg("--kubeconfig").arg(&self.kubeconfig);
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

    /// One after the other is replaced, and all of them forget what they had in memory.
    pub fn restart_all(&self) {
        for replica in self.numbers() {
            self.stop(replica);
            self.start(replica);
        }
    }

    /// What an admission costs the first replica.
    pub fn cost(&self, review: impl Fn(usize) -> Value) -> Cost {
        let before = self.cpu(0);
        let mut took: Vec<_> = (0..ASKED)
            .map(|number| {
                let review = review(number);
                let began = Instant::now();
                let answer = self.ask(0, &review);
                assert_eq!(answer["response"]["allowed"], true, "{answer}");
                began.elapsed()
            })
            .collect();
        took.sort_unstable();
        Cost {
            cpu: (self.cpu(0) - before) / u32::try_from(ASKED).unwrap(),
            p50: took[ASKED / 2],
            p99: took[ASKED * 99 / 100],
        }
    }

    /// The CPU time of a replica so far (proc(5), `utime` and `stime`, in hundredths of a second).
    fn cpu(&self, replica: usize) -> Duration {
        let running = self.replicas[replica].running.lock().unwrap();
        let process = running.as_ref().unwrap().child.id();
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
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
        resident_mebibytes(running.as_ref().unwrap())
    }
}

/// Resident memory of a process.
pub fn resident_mebibytes(program: &Program) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", program.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() / 1024
}
