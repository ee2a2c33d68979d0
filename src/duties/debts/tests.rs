//! Records that are written, deleted, restored and lifted, at an API server of the test.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use jiff::Timestamp;
use kube::Client;
use kube::client::Body;
use promotion_gate_core::gate::{
    Actor, Digest, GovernanceChange, GovernanceOperation, GovernedKind,
};
use serde_json::{Value, json};

use super::Debts;
use crate::api::Kind;
use crate::cluster::Cluster;
use crate::collect::{CacheSizes, CollectLimits, Collector};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::oci;
use crate::record::ReleaseRecords;
use crate::snapshot::{Resource, SnapshotFiles, Sources};

/// The records of an API server, by name.
#[derive(Clone, Default)]
struct ApiServer {
    stored: Arc<Mutex<BTreeMap<String, Value>>>,
    written: Arc<Mutex<u32>>,
}

impl ApiServer {
    fn put(&self, name: &str, mut object: Value) -> Value {
        let mut written = self.written.lock().unwrap();
        *written += 1;
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = json!(written.to_string());
        if metadata["uid"].is_null() {
            metadata["uid"] = json!(format!("uid-{written}"));
        }
        let mut stored = self.stored.lock().unwrap();
        stored.insert(name.to_owned(), object.clone());
        object
    }

    fn get(&self, name: &str) -> Option<Value> {
        self.stored.lock().unwrap().get(name).cloned()
    }

    fn delete(&self, name: &str) {
        self.stored.lock().unwrap().remove(name);
    }

    fn resources(&self) -> Vec<Arc<Resource>> {
        let stored = self.stored.lock().unwrap();
        let objects = stored.values().cloned();
        let resources = objects.map(|object| {
            let object = serde_json::from_value(object).unwrap();
            Arc::new(Resource::of(Kind::EmergencyChangeRecord, object))
        });
        resources.collect()
    }

    fn answer(&self, method: &Method, path: &str, object: Value) -> (u16, Value) {
        let failure = |code: u16| {
            let reason = match code {
                404 => "NotFound",
                409 => "Conflict",
                _ => "InternalError",
            };
            let status = json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": ""});
            (code, status)
        };
        let (path, is_status) = match path.strip_suffix("/status") {
            Some(path) => (path, true),
            None => (path, false),
        };
        let (_, last) = path.rsplit_once('/').unwrap();
        match (method, self.get(last)) {
            (&Method::GET, Some(found)) => (200, found),
            (&Method::GET, None) if last.starts_with("emergency-") => failure(404),
            (&Method::POST, _) if path.ends_with("emergencychangerecords") => {
                let name = object["metadata"]["name"].as_str().unwrap().to_owned();
                match self.get(&name) {
                    Some(_) => failure(409),
                    None => (201, self.put(&name, object)),
                }
            }
            (&Method::PUT, Some(mut found)) if is_status => {
                let version = &found["metadata"]["resourceVersion"];
                if *version != object["metadata"]["resourceVersion"] {
                    return failure(409);
                }
                found["status"] = object["status"].clone();
                (200, self.put(last, found))
            }
            _ => failure(500),
        }
    }
}

impl tower::Service<Request<Body>> for ApiServer {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let object: Value = serde_json::from_slice(&body).unwrap_or_default();
            let (code, answer) = server.answer(&parts.method, parts.uri.path(), object);
            let answer = Full::new(Bytes::from(answer.to_string()));
            Ok(Response::builder().status(code).body(answer).unwrap())
        })
    }
}

/// A replica of the gate, and the API server.
struct Bench {
    server: ApiServer,
    metrics: Arc<Metrics>,
    debts: Debts,
}

impl Bench {
    fn new() -> Bench {
        let server = ApiServer::default();
        let cluster = Cluster::of(Client::new(server.clone(), "promotion-gate"));
        let metrics = Arc::new(Metrics::new());
        let config = Config::load(None).unwrap();
        let client = Arc::new(oci::Client::new(config.client_options()).unwrap());
        let (limits, sizes) = (CollectLimits::default(), CacheSizes::default());
        let collector = Arc::new(Collector::new(client, limits, sizes));
        let files = SnapshotFiles {
            policies: Vec::new(),
            config,
        };
        let sources = Sources::load(files, None, Arc::clone(&collector), &metrics);
        let (records, tasks) = ReleaseRecords::start(cluster.clone(), Arc::clone(&metrics));
        tasks.into_iter().for_each(|task| task.abort());
        let debts = Debts::new(cluster, sources, records, collector, Arc::clone(&metrics));
        Bench {
            server,
            metrics,
            debts,
        }
    }

    /// One round of the replica that has the duties, after the watch has shown what there is.
    async fn round(&self) {
        self.debts.take_in(self.server.resources());
        let now = Timestamp::now();
        self.debts.lift_deleted(now).await;
        self.debts.restore_deleted().await;
        self.debts.take_in(self.server.resources());
        let present = self.debts.present();
        self.debts.write_statuses(&present, now).await;
    }

    fn status(&self, field: &str) -> Value {
        let found = self.server.get(NAME).unwrap();
        found["status"][field].clone()
    }

    fn alarms(&self, reason: &str) -> bool {
        let counted = format!(r#"alarms_total{{reason="{reason}"}} 1"#);
        self.metrics.text().contains(&counted)
    }
}

const NAME: &str = "emergency-1";

fn record() -> Value {
    json!({
        "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "EmergencyChangeRecord",
        "metadata": {"name": NAME},
        "spec": {
            "declaration": Digest::sha256(b"one").to_string(), "environment": "production",
            "incident": {"id": "INC1", "state": "verified"},
            "admitted": "2026-01-01T00:00:00Z", "lastAdmitted": "2026-01-01T00:00:00Z",
            "expires": "2026-01-01T04:00:00Z", "reviewDue": "2026-01-03T00:00:00Z",
        },
    })
}

fn reviewed() -> Value {
    json!({"state": "reviewed", "review": {
        "verdict": "justified", "reviewer": "eve", "at": "2026-01-02T00:00:00Z", "reason": "x", "statement": "sha256:1",
    }})
}

/// A governor's deletion, as the API server asks about it.
fn deletion(before: &Value) -> GovernanceChange {
    GovernanceChange {
        id: "1".to_owned(),
        operation: GovernanceOperation::Delete,
        kind: GovernedKind::EmergencyChangeRecord,
        name: NAME.to_owned(),
        before: before.clone(),
        after: Value::Null,
        actor: Actor {
            username: "gina".to_owned(),
            groups: Vec::new(),
        },
        dry_run: false,
        unreadable: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_review_that_is_overdue_is_said_and_alarmed_on_once() {
    let bench = Bench::new();
    bench.server.put(NAME, record());
    for _ in 0..3 {
        bench.round().await;
        assert_eq!(bench.status("state"), "overdue");
    }
    assert!(bench.alarms("emergency-review-overdue"));
    assert_eq!(*bench.server.written.lock().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_somebody_deletes_is_written_again_with_its_review() {
    let bench = Bench::new();
    let mut object = record();
    object["status"] = reviewed();
    bench.server.put(NAME, object);
    bench.round().await;
    bench.server.delete(NAME);
    bench.round().await;
    assert_eq!(
        bench.server.get(NAME),
        None,
        "a governor may have deleted it"
    );
    tokio::time::advance(Duration::from_secs(6)).await;
    bench.round().await;
    assert_eq!(bench.status("state"), "reviewed");
    assert_eq!(bench.status("review"), reviewed()["review"]);
    let stored = bench.server.get(NAME).unwrap();
    assert_eq!(stored["spec"], record()["spec"]);
    assert!(bench.alarms("emergency-record-deleted"));
    // Written once, and not again.
    let written = *bench.server.written.lock().unwrap();
    bench.round().await;
    assert_eq!(*bench.server.written.lock().unwrap(), written);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_a_governor_deletes_is_kept_as_lifted() {
    let bench = Bench::new();
    let before = bench.server.put(NAME, record());
    bench.round().await;
    bench.debts.note_deletion(&deletion(&before));
    bench.round().await;
    assert_eq!(bench.status("state"), "overdue", "it is not deleted yet");
    bench.server.delete(NAME);
    bench.round().await;
    assert_eq!(bench.status("state"), "lifted");
    assert_eq!(bench.status("lifted")["by"], "gina");
    assert!(!bench.alarms("emergency-record-deleted"));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_another_replica_admitted_is_lifted_after_the_record_was_restored() {
    let bench = Bench::new();
    let before = bench.server.put(NAME, record());
    bench.round().await;
    bench.server.delete(NAME);
    bench.debts.take_in(bench.server.resources());
    tokio::time::advance(Duration::from_secs(6)).await;
    bench.round().await;
    assert_eq!(bench.status("state"), "overdue");
    bench.debts.note_deletion(&deletion(&before));
    bench.round().await;
    assert_eq!(bench.status("state"), "lifted");
}

#[tokio::test]
async fn a_dry_run_and_the_deletion_of_another_kind_lift_nothing() {
    let bench = Bench::new();
    let before = bench.server.put(NAME, record());
    let dry = GovernanceChange {
        dry_run: true,
        ..deletion(&before)
    };
    let other = GovernanceChange {
        kind: GovernedKind::Rejection,
        ..deletion(&before)
    };
    for change in [dry, other] {
        bench.debts.note_deletion(&change);
    }
    bench.server.delete(NAME);
    bench.debts.lift_deleted(Timestamp::now()).await;
    assert_eq!(bench.server.get(NAME), None);
}
