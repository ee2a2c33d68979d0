//! The Pods of the gate, which nodes without machines cannot run: each is a process with the arguments of its container, ready when its
//! readiness probe says so, and ended as a kubelet ends it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::Person;
use super::balancer::{Target, Targets, balance};
use super::load::client_of;
use super::replicas::resident_mebibytes;
use crate::support::program::Program;
use crate::support::{Address, ControlPlane};

/// The namespace of the gate.
pub const NAMESPACE: &str = "promotion-gate";
const OURS: &str = "/api/v1/namespaces/promotion-gate";
/// How often Pods are looked at.
const EVERY: Duration = Duration::from_millis(200);
/// How long a Service goes on to lead to a Pod that ends.
const PROPAGATION: Duration = Duration::from_secs(1);

/// Runs the Pods of the gate until it is dropped.
pub struct Pods {
    node: Arc<Node>,
    worker: Option<JoinHandle<()>>,
}

struct Node {
    plane: Arc<ControlPlane>,
    api: Api,
    /// By the names of their Pods.
    replicas: Mutex<BTreeMap<String, Replica>>,
    targets: Targets,
    /// No process is started.
    held: AtomicBool,
    stopped: AtomicBool,
}

/// What runs for a Pod.
struct Replica {
    https: Address,
    probes: Address,
    target: Arc<Target>,
    program: Option<Program>,
    /// What the status of the Pod says.
    told: Option<bool>,
    /// Since when the Pod is being deleted, and whether the process was told.
    ending: Option<(Instant, bool)>,
}

impl Pods {
    pub fn run(plane: &Arc<ControlPlane>) -> Pods {
        let node = Arc::new(Node {
            plane: Arc::clone(plane),
            api: Api::new(plane),
            replicas: Mutex::default(),
            targets: Targets::default(),
            held: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        });
        let working = Arc::clone(&node);
        let worker = thread::spawn(move || working.work());
        Pods {
            node,
            worker: Some(worker),
        }
    }

    /// All processes end without a word, and none is started before [`Pods::resume`].
    pub fn hold(&self) {
        self.node.held.store(true, Ordering::Relaxed);
        for replica in self.node.replicas.lock().unwrap().values_mut() {
            replica.target.ready.store(false, Ordering::Relaxed);
            replica.program = None;
        }
    }

    pub fn resume(&self) {
        self.node.held.store(false, Ordering::Relaxed);
    }

    /// How many Pods there are.
    pub fn count(&self) -> usize {
        self.node.replicas.lock().unwrap().len()
    }

    /// What each replica that is ready says under `/metrics`.
    pub fn metrics(&self) -> Vec<String> {
        let replicas = self.node.replicas.lock().unwrap();
        let ready = replicas
            .values()
            .filter(|it| it.target.ready.load(Ordering::Relaxed));
        ready
            .filter_map(|it| it.probes.http_get("/metrics"))
            .collect()
    }

    /// How long one more replica takes from its start until it is ready.
    pub fn start_once(&self) -> Duration {
        let pods = self.node.pods().unwrap();
        let replica = Replica::new();
        let command = self.node.command("one-more", &pods["items"][0], &replica);
        let log = self.node.plane.folder.path().join("one-more.log");
        let began = Instant::now();
        let program = Program::start_logging_to(log, "one-more", &mut command.unwrap());
        while replica.probes.http_get("/readyz").is_none() {
            sleep(Duration::from_millis(1));
        }
        let took = began.elapsed();
        drop(program);
        took
    }

    /// Resident memory of each process, in MiB.
    pub fn memory(&self) -> Vec<u64> {
        let replicas = self.node.replicas.lock().unwrap();
        let programs = replicas.values().filter_map(|it| it.program.as_ref());
        programs.map(resident_mebibytes).collect()
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        self.node.stopped.store(true, Ordering::Relaxed);
        if let Some(worker) = self.worker.take() {
            worker.join().ok();
        }
    }
}

impl Node {
    fn work(&self) {
        let mut served = BTreeSet::new();
        while !self.stopped.load(Ordering::Relaxed) {
            self.serve(&mut served);
            self.look();
            sleep(EVERY);
        }
        self.replicas.lock().unwrap().clear();
    }

    /// Leads the address of the Service to the Pods.
    fn serve(&self, served: &mut BTreeSet<String>) {
        let service = self.api.get(&format!("{OURS}/services/promotion-gate"));
        let address = service.and_then(|it| Some(it["spec"]["clusterIP"].as_str()?.to_owned()));
        if let Some(address) = address
            && served.insert(address.clone())
        {
            let address = format!("{address}:443").parse().unwrap();
            balance(address, Arc::clone(&self.targets));
        }
    }

    fn pods(&self) -> Option<Value> {
        let ours = format!("{OURS}/pods?labelSelector=app.kubernetes.io/name=promotion-gate");
        self.api.get(&ours)
    }

    fn look(&self) {
        let Some(pods) = self.pods() else {
            return;
        };
        let pods = pods["items"].as_array().unwrap();
        let mut replicas = self.replicas.lock().unwrap();
        replicas.retain(|name, _| pods.iter().any(|pod| pod["metadata"]["name"] == **name));
        for pod in pods {
            let name = pod["metadata"]["name"].as_str().unwrap();
            let replica = replicas.entry(name.to_owned()).or_insert_with(Replica::new);
            if pod["metadata"]["deletionTimestamp"].is_null() {
                self.keep(name, pod, replica);
            } else {
                self.end(name, pod, replica);
            }
        }
        let targets = replicas.values().map(|it| Arc::clone(&it.target));
        *self.targets.lock().unwrap() = targets.collect();
    }

    fn keep(&self, name: &str, pod: &Value, replica: &mut Replica) {
        if replica.program.as_mut().is_some_and(has_ended) {
            replica.program = None;
        }
        let is_bound = pod["spec"]["nodeName"].is_string();
        if replica.program.is_none() && is_bound && !self.held.load(Ordering::Relaxed) {
            let command = self.command(name, pod, replica);
            replica.program = command.map(|mut command| {
                let log = self.plane.folder.path().join(format!("{name}.log"));
                Program::start_logging_to(log, name, &mut command)
            });
        }
        let is_ready = replica.program.is_some() && replica.probes.http_get("/readyz").is_some();
        replica.target.ready.store(is_ready, Ordering::Relaxed);
        if is_bound && replica.told != Some(is_ready) {
            let told = self.api.patch_status(name, &status(pod, is_ready));
            replica.told = told.map(|_| is_ready);
        }
    }

    /// The process of a container, with the configuration and a token of its Pod.
    fn command(&self, name: &str, pod: &Value, replica: &Replica) -> Option<Command> {
        let configuration = self
            .api
            .get(&format!("{OURS}/configmaps/promotion-gate-configuration"))?;
        let folder = self.plane.folder.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        let file = configuration["data"]["gate.yaml"].as_str().unwrap();
        fs::write(folder.join("gate.yaml"), file).unwrap();
        let account = pod["spec"]["serviceAccountName"].as_str().unwrap();
        let token = ["create", "token", account, "-n", NAMESPACE];
        let token = self
            .plane
            .kubectl(token.into_iter().chain(["--duration=24h"]));
        if !token.is_ok() {
            return None;
        }
        let kubeconfig = self.plane.kubeconfig(name, &token.ok());
        let args = pod["spec"]["containers"][0]["args"].as_array().unwrap();
        let args = args.iter().map(|arg| arg.as_str().unwrap());
        // The addresses of a Pod are not those of this machine.
        let args = args.filter(|arg| !arg.contains("address="));
        let args = args.map(|arg| match arg {
            "--config=/configuration/gate.yaml" => "--config=gate.yaml",
            other => other,
        });
        let mut command = Command::new(env!("CARGO_BIN_EXE_promotion-gate"));
        command
            .args(args)
            .arg(format!("--address={}", replica.https))
            .arg(format!("--probe-address={}", replica.probes))
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .current_dir(folder);
        Some(command)
    }

    /// Ends the process: the Service learns of it, `preStop` passes, the process is told, and the Pod goes when it has ended.
    fn end(&self, name: &str, pod: &Value, replica: &mut Replica) {
        let seconds = |path: &str| {
            let seconds = pod.pointer(path).and_then(Value::as_u64);
            Duration::from_secs(seconds.unwrap_or_default())
        };
        let (since, told) = *replica
            .ending
            .get_or_insert_with(|| (Instant::now(), false));
        if since.elapsed() >= PROPAGATION {
            replica.target.ready.store(false, Ordering::Relaxed);
        }
        let sleeps = seconds("/spec/containers/0/lifecycle/preStop/sleep/seconds");
        let grace = seconds("/metadata/deletionGracePeriodSeconds");
        if let Some(program) = &mut replica.program
            && !has_ended(program)
            && since.elapsed() < grace
        {
            if !told && since.elapsed() >= sleeps {
                kill_process(Pid::from_child(&program.child), Signal::TERM).unwrap();
                replica.ending = Some((since, true));
            }
            return;
        }
        replica.program = None;
        self.api.delete_pod(name);
    }
}

impl Replica {
    fn new() -> Replica {
        let https = Address::free();
        let address = https.to_string().parse().unwrap();
        let ready = AtomicBool::new(false);
        Replica {
            https,
            probes: Address::free(),
            target: Arc::new(Target { address, ready }),
            program: None,
            told: None,
            ending: None,
        }
    }
}

fn has_ended(program: &mut Program) -> bool {
    program.child.try_wait().unwrap().is_some()
}

/// The status of a Pod that runs.
fn status(pod: &Value, is_ready: bool) -> Value {
    let now = Timestamp::now().to_string();
    let condition = |name: &str, is: bool| {
        let is = if is { "True" } else { "False" };
        json!({"type": name, "status": is, "lastTransitionTime": now})
    };
    let container = &pod["spec"]["containers"][0];
    json!({"status": {
        "phase": "Running",
        "startTime": now,
        "conditions": [
            condition("Initialized", true),
            condition("Ready", is_ready),
            condition("ContainersReady", is_ready),
        ],
        "containerStatuses": [{
            "name": container["name"], "image": container["image"], "imageID": "",
            "ready": is_ready, "started": true, "restartCount": 0,
            "state": {"running": {"startedAt": now}},
        }],
    }})
}

/// The API server, as a kubelet uses it.
struct Api {
    client: reqwest::Client,
    runtime: Runtime,
    server: String,
}

impl Api {
    fn new(plane: &ControlPlane) -> Api {
        Api {
            client: client_of(plane),
            runtime: Runtime::new().unwrap(),
            server: format!("https://{}", plane.https),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server)
    }

    fn get(&self, path: &str) -> Option<Value> {
        self.send(self.client.get(self.url(path)))
    }

    fn patch_status(&self, pod: &str, patch: &Value) -> Option<Value> {
        let patch_status = self
            .client
            .patch(self.url(&format!("{OURS}/pods/{pod}/status")))
            .header("Content-Type", "application/strategic-merge-patch+json")
            .body(patch.to_string());
        self.send(patch_status)
    }

    fn delete_pod(&self, pod: &str) {
        let now = format!("{OURS}/pods/{pod}?gracePeriodSeconds=0");
        self.send(self.client.delete(self.url(&now)));
    }

    /// What is answered, unless the API server refuses.
    fn send(&self, request: reqwest::RequestBuilder) -> Option<Value> {
        self.runtime.block_on(async {
            let request = request.bearer_auth(Person::Admin.token());
            let answer = request.send().await.ok()?;
            let is_done = answer.status().is_success();
            let bytes = answer.bytes().await.ok()?;
            serde_json::from_slice(&bytes).ok().filter(|_| is_done)
        })
    }
}
