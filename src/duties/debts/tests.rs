//! Records that are written, deleted, restored and lifted, at an API server of the test.

use std::collections::{BTreeMap, BTreeSet};
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

use super::writing::old;
use super::{Debts, IN_ONE_ROUND, SEARCH, TICK};
use crate::admission;
use crate::api::{EmergencyChangeRecordSpec, EmergencyChangeRecordStatus, Kind};
use crate::cluster::Cluster;
use crate::collect::{CacheSizes, CollectLimits, Collector};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::oci;
use crate::record::ReleaseRecords;
use crate::report::Events;
use crate::snapshot::{Resource, SnapshotFiles, Sources};

/// The records of an API server, by name.
#[derive(Clone, Default)]
struct ApiServer {
    stored: Arc<Mutex<BTreeMap<String, Value>>>,
    written: Arc<Mutex<u32>>,
    events: Arc<Mutex<Vec<Value>>>,
    /// The names under which it stores nothing.
    refused: Arc<Mutex<BTreeSet<String>>>,
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
            (&Method::GET, None) => failure(404),
            (&Method::POST, _) if path.ends_with("/namespaces/default/events") => {
                self.events.lock().unwrap().push(object.clone());
                (201, object)
            }
            (&Method::POST, _) if path.ends_with("emergencychangerecords") => {
                let name = object["metadata"]["name"].as_str().unwrap().to_owned();
                let is_refused = self.refused.lock().unwrap().contains(&name);
                match self.get(&name) {
                    _ if is_refused => failure(500),
                    Some(_) => failure(409),
                    None => (201, self.put(&name, object)),
                }
            }
            (&Method::DELETE, Some(found)) => {
                let unchanged = &object["preconditions"];
                let is_unchanged = |field: &str| unchanged[field] == found["metadata"][field];
                if !["uid", "resourceVersion"].into_iter().all(is_unchanged) {
                    return failure(409);
                }
                self.delete(last);
                (200, found)
            }
            (&Method::PUT, Some(_)) if self.refused.lock().unwrap().contains(last) => failure(500),
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
        Events::start(&cluster, Arc::clone(&metrics));
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
        self.debts.write_statuses(&present, now, &|| true).await;
    }

    fn status(&self, field: &str) -> Value {
        let found = self.server.get(NAME).unwrap();
        found["status"][field].clone()
    }

    /// The Events on records, each with the UID of the record, once there are so many.
    async fn events(&self, many: usize) -> Vec<[String; 3]> {
        let events = &self.server.events;
        let all = async {
            while events.lock().unwrap().len() < many {
                tokio::task::yield_now().await;
            }
        };
        let all = tokio::time::timeout(Duration::from_secs(60), all).await;
        let events = events.lock().unwrap();
        assert!(all.is_ok(), "{events:#?}");
        let told = events.iter().map(|event| {
            let regarding = &event["regarding"];
            assert_eq!(regarding["kind"], "EmergencyChangeRecord");
            assert_eq!(regarding["name"], NAME);
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            [&event["type"], &event["reason"], &regarding["uid"]].map(text)
        });
        told.collect()
    }

    fn alarms(&self, reason: &str) -> bool {
        let counted = format!(r#"alarms_total{{reason="{reason}"}} 1"#);
        self.metrics.text().contains(&counted)
    }
}

const NAME: &str = "emergency-1";

pub(super) fn record() -> Value {
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
async fn what_becomes_of_an_emergency_change_is_told_as_events_on_its_record() {
    let bench = Bench::new();
    let mut fresh = record();
    fresh["spec"]["expires"] = json!("2999-01-01T00:00:00Z");
    fresh["spec"]["reviewDue"] = json!("2999-01-02T00:00:00Z");
    bench.server.put(NAME, fresh);
    let told = |kind: &str, reason: &str, uid: &str| [kind, reason, uid].map(str::to_owned);
    let used = told("Warning", "EmergencyChangeUsed", "uid-1");
    for _ in 0..2 {
        bench.round().await;
    }
    assert_eq!(bench.events(1).await, std::slice::from_ref(&used));
    let mut overdue = bench.server.get(NAME).unwrap();
    overdue["spec"]["reviewDue"] = json!("2026-01-03T00:00:00Z");
    let before = bench.server.put(NAME, overdue);
    bench.round().await;
    let overdue = told("Warning", "ReviewOverdue", "uid-1");
    assert_eq!(bench.events(2).await, [used.clone(), overdue.clone()]);
    bench.debts.note_deletion(&deletion(&before));
    bench.server.delete(NAME);
    bench.round().await;
    let uid = bench.server.get(NAME).unwrap()["metadata"]["uid"].clone();
    let lifted = told("Warning", "Lifted", uid.as_str().unwrap());
    assert_eq!(bench.events(3).await, [used, overdue, lifted]);
}

#[tokio::test(start_paused = true)]
async fn a_review_is_told_as_an_event_on_the_record_with_its_verdict() {
    for (verdict, kind) in [
        ("justified", "Normal"),
        ("inconclusive", "Normal"),
        ("unjustified", "Warning"),
    ] {
        let bench = Bench::new();
        let mut object = record();
        object["status"] = reviewed();
        object["status"]["state"] = json!("overdue");
        object["status"]["review"]["verdict"] = json!(verdict);
        bench.server.put(NAME, object);
        bench.round().await;
        let told = [kind, "Reviewed", "uid-1"].map(str::to_owned);
        assert_eq!(bench.events(1).await, [told]);
        let note = bench.server.events.lock().unwrap()[0]["note"].clone();
        assert_eq!(note, json!(format!("`eve` reviewed it: {verdict}: x")));
        assert_eq!(bench.alarms("emergency-unjustified"), kind == "Warning");
    }
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

/// A record that was reviewed on 2026-01-02.
fn closed(bench: &Bench) -> Value {
    let mut object = record();
    object["status"] = reviewed();
    bench.server.put(NAME, object)
}

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

#[tokio::test]
async fn a_record_is_deleted_400_days_after_its_review_and_not_written_again() {
    let bench = Bench::new();
    closed(&bench);
    bench.debts.take_in(bench.server.resources());
    let present = bench.debts.present();
    // 2026-01-02 and 400 days.
    assert!(old(&present, at("2027-02-06T00:00:00Z")).is_empty());
    let old = old(&present, at("2027-02-06T00:00:01Z"));
    assert_eq!(old.len(), 1);
    bench.debts.delete_unneeded(&old, &[]).await;
    assert_eq!(bench.server.get(NAME), None);
    tokio::time::pause();
    for _ in 0..2 {
        bench.round().await;
        tokio::time::advance(Duration::from_secs(6)).await;
    }
    assert_eq!(bench.server.get(NAME), None);
    assert!(!bench.alarms("emergency-record-deleted"));
}

#[tokio::test]
async fn a_record_that_owes_a_review_or_was_used_or_lifted_since_is_not_old() {
    let late = at("2027-06-01T00:00:00Z");
    let lifted = json!({"state": "lifted", "lifted": {"by": "gina", "at": "2027-01-01T00:00:00Z"}});
    let mut used = record();
    used["spec"]["lastAdmitted"] = json!("2026-12-01T00:00:00Z");
    used["status"] = reviewed();
    used["status"]["review"]["at"] = json!("2026-12-02T00:00:00Z");
    let mut of_lifted = record();
    of_lifted["status"] = lifted;
    for (object, after) in [
        (record(), None),
        (used, Some(at("2028-01-07T00:00:00Z"))),
        (of_lifted, Some(at("2028-02-06T00:00:00Z"))),
    ] {
        let bench = Bench::new();
        bench.server.put(NAME, object);
        bench.debts.take_in(bench.server.resources());
        let present = bench.debts.present();
        assert!(old(&present, late).is_empty());
        let much_later = after.unwrap_or(at("2100-01-01T00:00:00Z"));
        assert_eq!(
            old(&present, much_later).len(),
            usize::from(after.is_some())
        );
    }
}

#[tokio::test]
async fn a_record_that_an_admission_needs_or_that_changed_meanwhile_is_not_deleted() {
    let bench = Bench::new();
    let changed = closed(&bench);
    bench.debts.take_in(bench.server.resources());
    let present = bench.debts.present();
    let late = at("2100-01-01T00:00:00Z");
    let old = old(&present, late);
    bench.server.put(NAME, changed);
    bench.debts.delete_unneeded(&old, &[]).await;
    assert!(bench.server.get(NAME).is_some());
    bench.debts.take_in(bench.server.resources());
    // Its deletion by somebody else is still noticed.
    assert!(bench.debts.state().collected.is_empty());
    let needed = super::marks::tests::entry("app", "web", "alice", 12);
    let mut of_admission = record();
    of_admission["spec"]["declaration"] = json!(needed.mark.declaration);
    of_admission["status"] = reviewed();
    let name = super::marks::needed(std::slice::from_ref(&needed));
    let name = name.keys().next().unwrap().clone();
    of_admission["metadata"]["name"] = json!(name);
    bench.server.put(&name, of_admission);
    bench.debts.take_in(bench.server.resources());
    let present = bench.debts.present();
    let old: Vec<_> = super::writing::old(&present, late);
    let old: Vec<_> = old.into_iter().filter(|it| it.name() == name).collect();
    assert_eq!(old.len(), 1);
    bench.debts.delete_unneeded(&old, &[needed]).await;
    assert!(bench.server.get(&name).is_some());
    bench.debts.delete_unneeded(&old, &[]).await;
    assert!(bench.server.get(&name).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_written_keeps_no_other_one_from_being_written() {
    let bench = Bench::new();
    let entries = [b"one", b"two"].map(|declaration| {
        let mut entry = super::marks::tests::entry("app", "web", "alice", 12);
        entry.mark.declaration = Digest::sha256(declaration).to_string();
        entry
    });
    let names: Vec<_> = super::marks::needed(&entries).into_keys().collect();
    let [first, last] = names.as_slice() else {
        panic!("{names:?}");
    };
    bench.server.refused.lock().unwrap().insert(first.clone());
    bench.debts.keep_uses(&[], &entries, &|| true).await;
    assert_eq!(bench.server.get(first), None);
    assert!(bench.server.get(last).is_some());
    assert!(bench.alarms("emergency-not-kept"));
    // As soon as it can be written, it is.
    bench.server.refused.lock().unwrap().clear();
    bench.debts.take_in(bench.server.resources());
    let present = bench.debts.present();
    bench.debts.keep_uses(&present, &entries, &|| true).await;
    assert!(bench.server.get(first).is_some());
    assert_eq!(*bench.server.written.lock().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn after_three_failures_the_others_have_their_turn_in_the_next_round() {
    let bench = Bench::new();
    let entries = [b"1", b"2", b"3", b"4", b"5"].map(|declaration| {
        let mut entry = super::marks::tests::entry("app", "web", "alice", 12);
        entry.mark.declaration = Digest::sha256(declaration).to_string();
        entry
    });
    let names: Vec<_> = super::marks::needed(&entries).into_keys().collect();
    let (refused, others) = names.split_at(3);
    let refused = refused.iter().cloned();
    bench.server.refused.lock().unwrap().extend(refused);
    let are_written = || {
        let mut others = others.iter();
        others.all(|name| bench.server.get(name).is_some())
    };
    bench.debts.keep_uses(&[], &entries, &|| true).await;
    assert!(!are_written());
    bench.debts.keep_uses(&[], &entries, &|| false).await;
    assert!(!are_written(), "another replica has the duties");
    bench.debts.keep_uses(&[], &entries, &|| true).await;
    bench.debts.keep_uses(&[], &entries, &|| true).await;
    assert!(are_written());
}

#[tokio::test(start_paused = true)]
async fn a_status_that_cannot_be_written_keeps_no_other_one_from_being_written() {
    let bench = Bench::new();
    let first = "emergency-0";
    let mut object = record();
    object["metadata"]["name"] = json!(first);
    bench.server.put(first, object);
    bench.server.put(NAME, record());
    bench
        .server
        .refused
        .lock()
        .unwrap()
        .insert(first.to_owned());
    bench.round().await;
    let refused = bench.server.get(first).unwrap();
    assert_eq!(refused["status"], Value::Null);
    assert_eq!(bench.status("state"), "overdue");
}

#[tokio::test(start_paused = true)]
async fn a_replica_without_the_duties_writes_nothing_and_looks_for_nothing() {
    let bench = Bench::new();
    bench.server.put(NAME, record());
    bench.server.put("emergency-2", {
        let mut deleted = record();
        deleted["metadata"]["name"] = json!("emergency-2");
        deleted
    });
    let round = async |has_duties: bool| {
        let resources = bench.server.resources();
        bench.debts.keep_round(resources, &|| has_duties).await;
    };
    round(false).await;
    bench.server.delete("emergency-2");
    for _ in 0..3 {
        round(false).await;
        tokio::time::advance(Duration::from_secs(6)).await;
    }
    let idle = || false;
    tokio::select! {
        never = bench.debts.keep_reviews(&idle) => match never {},
        never = bench.debts.keep_outcomes(&idle) => match never {},
        () = tokio::time::sleep(SEARCH * 2) => {}
    }
    assert_eq!(*bench.server.written.lock().unwrap(), 2);
    assert_eq!(bench.server.get("emergency-2"), None);
    assert!(bench.server.events.lock().unwrap().is_empty());
    assert!(bench.debts.state().searched.is_empty());
    assert!(bench.debts.state().looked.is_empty());
    // The same replica, once it has them: one is written again, and the other one gets its status.
    for _ in 0..2 {
        round(true).await;
    }
    assert!(bench.server.get("emergency-2").is_some());
    assert_eq!(bench.status("state"), "overdue");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_runs_looks_for_a_review_again_after_five_minutes() {
    let bench = Bench::new();
    bench.server.put(NAME, record());
    bench.debts.take_in(bench.server.resources());
    let searched = || bench.debts.state().searched.get(NAME).copied().unwrap();
    let has_duties = || true;
    let looks = async {
        tokio::time::sleep(TICK * 2).await;
        let first = searched();
        tokio::time::sleep(SEARCH - TICK * 3).await;
        assert_eq!(searched(), first, "five minutes have not passed");
        tokio::time::sleep(TICK * 5).await;
        let again = searched().duration_since(first);
        assert!(again >= SEARCH && again < SEARCH + TICK * 3, "{again:?}");
    };
    tokio::select! {
        never = bench.debts.keep_reviews(&has_duties) => match never {},
        () = looks => {}
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_due_is_what_was_never_looked_for_and_then_what_waits_longest() {
    let bench = Bench::new();
    let names: Vec<_> = (0..=IN_ONE_ROUND)
        .map(|number| format!("emergency-{number:02}"))
        .collect();
    for name in &names {
        let mut object = record();
        object["metadata"]["name"] = json!(name);
        bench.server.put(name, object);
    }
    bench.debts.take_in(bench.server.resources());
    let due = || {
        let due = bench
            .debts
            .due(|_| true, |state| &state.searched, |_| SEARCH);
        let names = due.iter().map(|record| record.name().to_owned());
        names.collect::<Vec<_>>()
    };
    let look = |name: &String| {
        let now = tokio::time::Instant::now();
        bench.debts.state().searched.insert(name.clone(), now);
    };
    assert_eq!(due(), names[..IN_ONE_ROUND], "as many as one round takes");
    look(&names[1]);
    tokio::time::advance(TICK).await;
    names.iter().filter(|it| **it != names[1]).for_each(look);
    assert_eq!(due(), Vec::<String>::new());
    tokio::time::advance(SEARCH - TICK).await;
    assert_eq!(due(), names[1..2]);
    tokio::time::advance(TICK).await;
    assert_eq!(due()[..2], [names[1].clone(), names[0].clone()]);
}

/// A CronJob that was admitted by an emergency change on 2026-01-01, and the record of that.
fn cron_job(bench: &Bench) -> (Value, EmergencyChangeRecordSpec) {
    let image = format!("registry.example/app@{}", Digest::sha256(b"app"));
    let containers = json!([{"name": "main", "image": image}]);
    let cron_job = json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": {"name": "nightly", "namespace": "shop", "uid": "cron-1"},
        "spec": {"schedule": "10 3 * * *", "jobTemplate": {"spec": {"template": {"spec": {"containers": containers}}}}},
    });
    let template = admission::changed_object(&cron_job).template.unwrap();
    let mut spec = record()["spec"].clone();
    spec["uses"] = json!([{
        "workload": {"group": "batch", "version": "v1", "kind": "CronJob", "namespace": "shop", "name": "nightly", "uid": "cron-1"},
        "template": template.to_string(), "image": image, "admitted": "2026-01-01T00:00:00Z", "decision": "1",
    }]);
    bench.server.put("nightly", cron_job.clone());
    (cron_job, serde_json::from_value(spec).unwrap())
}

#[tokio::test]
async fn what_becomes_of_a_cron_job_is_what_becomes_of_the_job_that_it_starts() {
    use crate::api::ChangeOutcome::{Failed, NotObserved, Pending, Ready};
    let bench = Bench::new();
    let (mut cron_job, spec) = cron_job(&bench);
    let known = EmergencyChangeRecordStatus::default();
    let outcome = async |now: &str| {
        let found = bench.debts.outcomes(&spec, &known, at(now)).await;
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].workload, "CronJob shop/nightly");
        found[0].outcome
    };
    let (soon, late) = ("2026-01-02T00:00:00Z", "2026-01-09T00:00:01Z");
    assert_eq!(outcome(soon).await, Pending);
    assert_eq!(outcome(late).await, NotObserved, "it never started");
    let scheduled = at("2026-01-01T03:10:00Z");
    cron_job["status"] = json!({"lastScheduleTime": scheduled});
    bench.server.put("nightly", cron_job);
    assert_eq!(outcome(soon).await, Pending);
    let name = format!("nightly-{}", scheduled.as_second() / 60);
    let job = |owner: &str, condition: &str| {
        json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": name, "namespace": "shop", "ownerReferences": [{"kind": "CronJob", "uid": owner}]},
            "spec": {"selector": {"matchLabels": {"job": "1"}}},
            "status": {"conditions": [{"type": condition, "status": "True"}]},
        })
    };
    for (owner, condition, expected) in [
        ("another", "Complete", Pending),
        ("cron-1", "Complete", Ready),
        ("cron-1", "Failed", Failed),
    ] {
        bench.server.put(&name, job(owner, condition));
        assert_eq!(outcome(soon).await, expected, "{owner} {condition}");
    }
    // Its Pods crash again and again, so that it neither completes nor fails.
    bench.server.put(&name, job("cron-1", "Suspended"));
    let crashing = json!({
        "metadata": {"name": "nightly-1"},
        "spec": {"containers": [{"name": "main", "image": spec.uses[0].image}]},
        "status": {"containerStatuses": [{
            "name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 5,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        }]},
    });
    let pods = json!({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": [crashing]});
    bench.server.put("pods", pods);
    assert_eq!(outcome(soon).await, Failed);
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_comes_after_the_review_is_recorded_too() {
    let bench = Bench::new();
    let (_, spec) = cron_job(&bench);
    let mut object = closed(&bench);
    object["spec"] = json!(spec);
    bench.server.put(NAME, object);
    bench.round().await;
    let written = *bench.server.written.lock().unwrap();
    let open = bench.debts.present();
    assert!(super::outcome::is_open(&open[0].spec, &open[0].status));
    let ready = json!([{
        "workload": "CronJob shop/nightly", "template": spec.uses[0].template, "outcome": "ready",
        "at": "2026-01-03T00:00:00Z",
    }]);
    let findings = super::status::Findings {
        outcomes: Some(serde_json::from_value(ready.clone()).unwrap()),
        ..Default::default()
    };
    let known = NAME.to_owned();
    bench.debts.state().findings.insert(known, findings);
    for _ in 0..2 {
        bench.round().await;
        assert_eq!(bench.status("outcomes"), ready);
        assert_eq!(bench.status("outcome"), "ready");
        assert_eq!(bench.status("state"), "reviewed");
    }
    assert_eq!(*bench.server.written.lock().unwrap(), written + 1);
    let known = bench.debts.present();
    assert!(!super::outcome::is_open(&known[0].spec, &known[0].status));
}
