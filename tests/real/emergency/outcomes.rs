//! What became of emergency changes, at a real API server.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{declare, emergency, gate_with_emergencies};
use crate::approve::build;
use crate::support::{
    ControlPlane, Gate, LocalSigstore, Registry, Serving, User, deployment, until,
};

const RECORDS: &str = "emergencychangerecords";

/// A cluster whose gate lets one image pass by an emergency change.
struct Bed {
    plane: ControlPlane,
    image: String,
    _registry: Registry,
    _gate: Gate,
    _serving: Serving,
}

impl Bed {
    fn start(repository: &str) -> Bed {
        let sigstore = LocalSigstore::shared();
        let gate = gate_with_emergencies(&sigstore);
        let registry = Registry::distribution();
        let image = build(&registry, repository, &sigstore);
        declare(&gate, &image, &sigstore);
        let carol = sigstore.issuer.token("carol@example.com");
        emergency(&gate, "approve", &image, &carol, &[]).ok();
        let plane = ControlPlane::start();
        plane.create_namespace("shop");
        plane.create_namespace("promotion-gate");
        let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/crds");
        plane.kubectl(["apply", "--server-side", "-f", crds]).ok();
        // The gate has the rights that it is shipped with.
        let rights = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/manifests/rbac.yaml");
        plane.kubectl(["apply", "-f", rights]).ok();
        let kubeconfig = plane.kubeconfig("gate", "gate-account");
        let serving = gate.serve(&["--kubeconfig", &kubeconfig.display().to_string()]);
        plane.register(&serving);
        Bed {
            plane,
            image: image.by_digest(),
            _registry: registry,
            _gate: gate,
            _serving: serving,
        }
    }

    /// Applies an object, which the emergency change lets pass.
    fn apply(&self, object: &str) {
        until("the emergency change lets it pass", || {
            let apply = ["apply", "-f", "-"];
            let applied = self.plane.kubectl_as(User::Alice, apply, object);
            applied.is_ok().then_some(())
        });
    }

    fn get(&self, kind: &str, selector: &str) -> Vec<Value> {
        let get = ["get", kind, "-n", "shop", "-l", selector, "-o", "json"];
        let list = self.plane.kubectl(get).ok();
        let list: Value = serde_json::from_str(&list).unwrap();
        list["items"].as_array().unwrap().clone()
    }

    fn patch_status(&self, kind: &str, name: &str, status: Value) {
        let patch = json!({"status": status}).to_string();
        let how = ["--subresource=status", "--type=merge", "-p", &patch];
        let what = ["patch", kind, name, "-n", "shop"];
        self.plane.kubectl([&what[..], &how].concat()).ok();
    }

    /// The record of a declaration, or the only one, once it says this outcome.
    fn record(&self, declaration: Option<&str>, outcome: &str) -> Value {
        until(&format!("the outcome {outcome} is recorded"), || {
            let list = self.plane.kubectl(["get", RECORDS, "-o", "json"]).ok();
            let list: Value = serde_json::from_str(&list).unwrap();
            let mut records = list["items"].as_array().unwrap().iter();
            let found = records.find(|record| {
                declaration.is_none_or(|id| record["spec"]["declaration"] == id)
                    && record["status"]["outcome"] == outcome
            });
            found.cloned()
        })
    }
}

/// Two days after the use, it is looked every ten minutes what became of it, which is longer than this test waits.
#[test]
fn what_becomes_of_an_emergency_change_is_recorded_when_the_watch_of_its_workload_tells_of_it() {
    let bed = Bed::start("watched");
    bed.apply(&deployment("web", &bed.image));
    let fresh = bed.record(None, "pending");
    let before = Timestamp::now() - SignedDuration::from_hours(48);
    let declaration = format!("sha256:{:064}", 1);
    let mut spec = fresh["spec"].clone();
    spec["declaration"] = json!(declaration);
    for time in ["admitted", "lastAdmitted"] {
        spec[time] = json!(before);
    }
    spec["uses"][0]["admitted"] = json!(before);
    let old = json!({
        "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "EmergencyChangeRecord",
        "metadata": {"name": "emergency-two-days-ago"}, "spec": spec,
    });
    // The gate alone may write records.
    let create = ["create", "-f", "-"];
    bed.plane.kubectl_by("gate", create, &old.to_string()).ok();
    bed.record(Some(&declaration), "pending");

    let ready = json!({
        "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1,
    });
    bed.patch_status("deployment", "web", ready);
    let record = bed.record(Some(&declaration), "ready");
    let outcome = &record["status"]["outcomes"][0];
    assert_eq!(outcome["workload"], "Deployment shop/web");
}

#[test]
fn what_becomes_of_a_cron_job_is_what_becomes_of_the_job_that_the_controller_starts() {
    let bed = Bed::start("nightly");
    bed.plane.start_controllers();
    let labels = json!({"app": "nightly"});
    let containers = json!([{"name": "main", "image": bed.image}]);
    let cron_job = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly", "namespace": "shop"},
        "spec": {
            "schedule": "* * * * *", "concurrencyPolicy": "Forbid",
            "jobTemplate": {"spec": {"template": {
                "metadata": {"labels": labels},
                "spec": {"restartPolicy": "OnFailure", "containers": containers},
            }}},
        },
    });
    bed.apply(&cron_job.to_string());
    let record = bed.record(None, "pending");
    assert_eq!(record["spec"]["uses"][0]["workload"]["kind"], "CronJob");
    // The controllers make the Job at the next minute, and its Pod, which no node runs.
    let pod = until("the Job has a Pod", || {
        bed.get("pods", "app=nightly").first().cloned()
    });
    let pod = pod["metadata"]["name"].as_str().unwrap();
    let container = |state: Value| json!([{"name": "main", "image": bed.image, "imageID": "", "ready": false, "restartCount": 5, "state": state}]);
    let crashes = container(json!({"waiting": {"reason": "CrashLoopBackOff"}}));
    bed.patch_status(
        "pod",
        pod,
        json!({"phase": "Running", "containerStatuses": crashes}),
    );
    let record = bed.record(None, "failed");
    let why = record["status"]["outcomes"][0]["why"].as_str().unwrap();
    assert!(why.contains("`main`") && why.contains(pod), "{why}");
    // At last it succeeds.
    let ended = container(json!({"terminated": {"exitCode": 0, "reason": "Completed"}}));
    bed.patch_status(
        "pod",
        pod,
        json!({"phase": "Succeeded", "containerStatuses": ended}),
    );
    let record = bed.record(None, "ready");
    let outcome = &record["status"]["outcomes"][0];
    assert_eq!(outcome["workload"], "CronJob shop/nightly");
}
