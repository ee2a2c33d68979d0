//! Entries → the cluster: a record is made, or one key of its map is patched, so that replicas that write at once lose nothing.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use futures::future::join_all;
use jiff::Timestamp;
use kube::Error;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use promotion_gate_core::gate::{Enforcement, Snapshot, Unavailability};
use serde_json::{Map, Value, json};
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::ReleaseRecords;
use super::background::Job;
use super::entry::{
    KeptEntry, KeptRecord, MAXIMUM_ENTRIES, NewEntry, entries, is_known, replacing_known,
};
use super::identity::{said, with_remedy};
use super::key::Place;
use super::memory::RecordName;
use super::names::RecordSubject;
use crate::api::{API_VERSION, WrittenEntry};
use crate::review::Review;

/// How many records are written at once for one request.
const AT_ONCE: usize = 16;
/// The most records of one namespace.
pub(super) const MAXIMUM_RECORDS: usize = 5000;
/// The time before the deadline in which no new attempt begins.
const RESERVE: Duration = Duration::from_secs(1);
/// The longest pause between two attempts, which doubles from a sixteenth of it.
const LONGEST_PAUSE: Duration = Duration::from_millis(800);

/// Why an attempt did not succeed.
pub(super) enum Attempt {
    /// There is such a record by now.
    Exists,
    /// The record is not as it was seen, or was not seen: it has to be read first.
    Changed(String),
    /// There is no such record any more.
    Missing,
    /// The namespace is deleted, or is being deleted: nothing is created in it, so that no upkeep needs the record.
    Unneeded,
    /// It may succeed later.
    Again(String),
    /// It will not succeed.
    Refused(String),
}

/// Why an entry is not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unwritten {
    /// It may succeed later.
    #[error("{0}")]
    Yet(String),
    /// The cluster does not want it.
    #[error("{0}")]
    Refused(String),
}

impl ReleaseRecords {
    /// Records an admitted review before it is answered. What cannot be written in time is tried again in the background, unless
    /// a policy enforces: then the request has to be denied.
    ///
    /// # Errors
    /// Why the admission of a request that a policy enforces on could not be recorded.
    pub async fn record(
        &self,
        review: &Review,
        snapshot: &Snapshot,
        audit_only: bool,
        deadline: Instant,
    ) -> Result<(), Unavailability> {
        let entries = entries(review, snapshot);
        if review.promotion.injected.is_some() {
            // Upkeep waits for no write. Without the record, the next Pod is judged as this one was.
            for entry in entries {
                self.later(Job::Write(Box::new(entry)));
            }
            return Ok(());
        }
        let last_attempt = deadline.checked_sub(RESERVE).unwrap_or(deadline);
        let mut failed = Vec::new();
        for some in entries.chunks(AT_ONCE) {
            let puts = some
                .iter()
                .map(|entry| self.put(entry, last_attempt, deadline));
            let results = join_all(puts).await;
            let errors = some.iter().zip(results);
            failed.extend(errors.filter_map(|(entry, result)| Some((entry, result.err()?))));
        }
        self.confirm_later(&review.promotion.change.workload, &entries);
        let Some((_, why)) = failed.first() else {
            return Ok(());
        };
        let mut policies = review.verdict.policies().iter();
        let enforces = policies.any(|policy| policy.enforcement() == Enforcement::Enforce);
        let why = format!("the admission cannot be recorded: {why}");
        if enforces && !audit_only {
            self.metrics.count_record_write("denied");
            return Err(Unavailability(why));
        }
        let id = &review.promotion.change.id;
        self.metrics.alarms.raise(
            "record-not-written",
            &format!(
                "the request `{id}` is admitted without its record, which is tried again: {why}"
            ),
        );
        for (entry, _) in failed {
            self.later(Job::Write(Box::new(entry.clone())));
        }
        Ok(())
    }

    /// Writes one entry, unless the record says the same already.
    pub(super) async fn put(
        &self,
        new: &NewEntry,
        last_attempt: Instant,
        deadline: Instant,
    ) -> Result<(), Unwritten> {
        let name = self.record_of(new);
        let _turn = match new.entry.emergency.is_empty() {
            true => None,
            false => {
                let turn = timeout_at(last_attempt, self.turn(&name)).await;
                let late = "other writes of the record take too long";
                Some(turn.map_err(|_| Unwritten::Yet(late.to_owned()))?)
            }
        };
        let mut exists = None;
        let mut removed = None::<KeptRecord>;
        let (mut is_stale, mut refused) = (false, None::<String>);
        let mut has_changed = false;
        let mut pause = LONGEST_PAUSE / 16;
        loop {
            if is_stale && self.read_again(&name, refused.as_deref(), deadline).await {
                removed = self.forget(&name).or(removed);
                exists = Some(false);
            }
            let (version, known) = {
                let memory = self.memory();
                let record = memory.get(&name);
                let entry = record.and_then(|record| record.entries.get(&new.key));
                let version = record.map(|record| record.resource_version.clone());
                (version, entry.cloned())
            };
            if is_known(known.as_ref(), new) {
                self.metrics.count_record_write("known");
                return Ok(());
            }
            let attempt = async {
                match exists.unwrap_or(version.is_some()) {
                    true => {
                        let (known, version) = (known.as_ref(), version.as_deref());
                        self.patch(&name, new, known, version).await
                    }
                    false => self.create(&name, new, removed.as_ref()).await,
                }
            };
            let late = || Attempt::Again("the API server did not answer in time".to_owned());
            let result = timeout_at(deadline, attempt).await;
            let result = result.unwrap_or_else(|_| Err(late()));
            is_stale = matches!(result, Err(Attempt::Exists | Attempt::Changed(_)));
            refused = version.filter(|_| matches!(result, Err(Attempt::Changed(_))));
            match result {
                Ok(object) => {
                    self.metrics.count_record_write("written");
                    self.take_in(&object, true).await;
                    self.trim_if_full(&name);
                    return Ok(());
                }
                Err(Attempt::Exists) if exists.is_none() => exists = Some(true),
                Err(Attempt::Changed(_)) if !has_changed => has_changed = true,
                Err(Attempt::Missing) if exists != Some(false) => {
                    removed = self.forget(&name).or(removed);
                    exists = Some(false);
                }
                Err(Attempt::Unneeded) => return Ok(()),
                Err(Attempt::Refused(why)) => return Err(Unwritten::Refused(why)),
                Err(failed) => {
                    let why = match failed {
                        Attempt::Again(why) | Attempt::Changed(why) => why,
                        _ => {
                            exists = None;
                            "the record was made and deleted meanwhile".to_owned()
                        }
                    };
                    let next = Instant::now() + pause.mul_f64(0.5 + random() / 2.0);
                    if next > last_attempt {
                        return Err(Unwritten::Yet(why));
                    }
                    sleep_until(next).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// The turn to add uses of emergency changes to a record. Requests that this replica answers at once would conflict with each other.
    async fn turn(&self, name: &RecordName) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns();
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(name.clone()).or_default())
        };
        turn.lock_owned().await
    }

    /// Forgets a record that somebody deleted, and returns it. What else it held comes back as the watch will find.
    fn forget(&self, name: &RecordName) -> Option<KeptRecord> {
        let deleted = self.memory_mut().remove(name)?;
        self.deleted(name.clone(), deleted.clone());
        Some(deleted)
    }

    /// The record of an entry.
    pub(super) fn record_of(&self, new: &NewEntry) -> RecordName {
        let gate = || self.cluster.namespace().to_owned();
        RecordName {
            namespace: new.namespace.clone().unwrap_or_else(gate),
            name: new.subject.name(),
        }
    }

    /// Makes a record. The uses of emergency changes that one named which was deleted are not lost (`removed`).
    async fn create(
        &self,
        name: &RecordName,
        new: &NewEntry,
        removed: Option<&KeptRecord>,
    ) -> Result<DynamicObject, Attempt> {
        let NewEntry { subject, key, .. } = new;
        let records = self.memory().count(&name.namespace);
        if records >= MAXIMUM_RECORDS {
            return Err(Attempt::Refused(format!(
                "the namespace `{}` holds {records} release records, and no more than {MAXIMUM_RECORDS} are kept; those that no object needs are deleted in time",
                name.namespace
            )));
        }
        // A namespace of this name may have been made again.
        let namespace = self.namespace_uid(&name.namespace, true).await;
        let namespace = namespace.map_err(Attempt::Again)?;
        let namespace = namespace.ok_or(Attempt::Unneeded)?;
        let removed = removed.filter(|removed| removed.namespace_uid == namespace);
        let known = removed.and_then(|removed| removed.entries.get(key));
        let entry = replacing_known(known, new);
        let signed = self.signed(name, key, &entry).await?;
        let (field, image) = match subject {
            RecordSubject::Digest(digest) => ("digest", digest.to_string()),
            RecordSubject::Reference(reference) => ("reference", reference.clone()),
        };
        let entries = json!({key: signed});
        let spec = json!({field: image, "lastUsed": Timestamp::now(), "entries": entries});
        let object = json!({
            "apiVersion": API_VERSION,
            "kind": "ReleaseRecord",
            "metadata": {"name": name.name, "namespace": name.namespace},
            "spec": spec,
        });
        let object = serde_json::from_value(object);
        let object = object.map_err(|error| Attempt::Refused(error.to_string()))?;
        let api = self.api(&name.namespace);
        api.create(&PostParams::default(), &object)
            .await
            .map_err(attempt_of)
    }

    async fn patch(
        &self,
        name: &RecordName,
        new: &NewEntry,
        known: Option<&KeptEntry>,
        version: Option<&str>,
    ) -> Result<DynamicObject, Attempt> {
        let version = version.filter(|version| !version.is_empty());
        let metadata = match (new.entry.emergency.is_empty(), version) {
            (true, _) => None,
            // Of two replicas that write at once, none drops the use of an emergency change that the other one has written.
            (false, Some(version)) => Some(json!({"resourceVersion": version})),
            (false, None) => {
                let unread = "what the record says cannot be read";
                return Err(Attempt::Changed(unread.to_owned()));
            }
        };
        let entry = replacing_known(known, new);
        let signed = self.signed(name, &new.key, &entry).await?;
        let replaced = replacing(signed, known);
        let spec = json!({"lastUsed": Timestamp::now(), "entries": {&new.key: replaced}});
        let patch = match metadata {
            Some(metadata) => json!({"metadata": metadata, "spec": spec}),
            None => json!({"spec": spec}),
        };
        self.merge(name, patch).await
    }

    /// Takes over how a record is now, before it is written again, and says whether it is gone. What cannot be read is tried with what is
    /// known. If the API server has refused a version (`refused`), what it shows then counts, also where an older state was restored.
    async fn read_again(
        &self,
        name: &RecordName,
        refused: Option<&str>,
        deadline: Instant,
    ) -> bool {
        let read = async {
            match self.api(&name.namespace).get_opt(&name.name).await {
                Ok(Some(object)) => {
                    if let Some(refused) = refused {
                        self.memory_mut().distrust(name, refused);
                    }
                    self.take_in(&object, false).await;
                    false
                }
                Ok(None) => true,
                Err(_) => false,
            }
        };
        timeout_at(deadline, read).await.unwrap_or(false)
    }

    /// Applies one merge patch to a record.
    async fn merge(&self, name: &RecordName, patch: Value) -> Result<DynamicObject, Attempt> {
        let (api, patch) = (self.api(&name.namespace), Patch::Merge(patch));
        let patched = api.patch(&name.name, &PatchParams::default(), &patch).await;
        patched.map_err(attempt_of)
    }

    /// The same for what is written in the background and must not overwrite what is newer: the patch names the version that it is
    /// made for.
    pub(super) async fn merge_unchanged(
        &self,
        name: &RecordName,
        resource_version: &str,
        spec: Value,
    ) -> Result<(), String> {
        let patch = json!({"metadata": {"resourceVersion": resource_version}, "spec": spec});
        match self.merge(name, patch).await {
            Ok(object) => {
                self.take_in(&object, true).await;
                Ok(())
            }
            Err(Attempt::Missing | Attempt::Unneeded) => Ok(()),
            Err(Attempt::Exists | Attempt::Changed(_)) => {
                Err("the record has changed meanwhile".to_owned())
            }
            Err(Attempt::Again(why) | Attempt::Refused(why)) => Err(why),
        }
    }

    /// The fields of an entry, signed for its place.
    pub(super) async fn signed(
        &self,
        name: &RecordName,
        key: &str,
        entry: &WrittenEntry,
    ) -> Result<Map<String, Value>, Attempt> {
        let namespace = self.namespace_uid(&name.namespace, false).await;
        let namespace = namespace.map_err(Attempt::Again)?;
        let namespace = namespace.ok_or(Attempt::Unneeded)?;
        let Some(identity) = self.identity.load_full() else {
            let why = self.unknown().unwrap_or_default();
            return Err(match self.problem.load_full() {
                // Only another request ends that.
                Some(problem) if problem.needs_webhook => Attempt::Refused(why),
                _ => Attempt::Again(why),
            });
        };
        let mut fields = match serde_json::to_value(entry) {
            Ok(Value::Object(fields)) => fields,
            _ => {
                return Err(Attempt::Refused(
                    "the entry cannot be written as JSON".to_owned(),
                ));
            }
        };
        let place = Place {
            cluster: &identity.cluster,
            namespace: &namespace,
            record: &name.name,
            key,
        };
        identity.key.sign(place, &mut fields);
        Ok(fields)
    }

    fn trim_if_full(&self, name: &RecordName) {
        let memory = self.memory();
        let record = memory.get(name);
        let is_full = record.is_some_and(|record| record.entries.len() > MAXIMUM_ENTRIES);
        if is_full && self.trimmed().insert(name.clone()) {
            self.later(Job::Trim(name.clone()));
        }
    }
}

/// A patch of one entry that leaves nothing of what it replaces.
pub(super) fn replacing(
    signed: Map<String, Value>,
    known: Option<&KeptEntry>,
) -> Map<String, Value> {
    let optional = ["source", "digest", "emergency", "observedAt", "agesJudged"].map(str::to_owned);
    let before = known.map(KeptEntry::fields).unwrap_or_default();
    let fields = optional
        .into_iter()
        .chain(before.into_iter().map(|(field, _)| field));
    let mut replaced: Map<_, _> = fields.map(|field| (field, Value::Null)).collect();
    replaced.extend(signed);
    replaced
}

fn attempt_of(error: Error) -> Attempt {
    let Error::Api(status) = &error else {
        return Attempt::Again(format!("the API server cannot be reached: {error}"));
    };
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    let is_terminating = causes.any(|cause| cause.reason == "NamespaceTerminating");
    let missing = status.details.as_ref().map(|details| details.kind.as_str());
    match (status.code, status.reason.as_str()) {
        (409, "AlreadyExists") => Attempt::Exists,
        (409, "Conflict") => Attempt::Changed(said(error)),
        (404, _) => match missing {
            Some("releaserecords") => Attempt::Missing,
            Some("namespaces") => Attempt::Unneeded,
            _ => Attempt::Again(with_remedy("ReleaseRecord", error)),
        },
        (403, _) if is_terminating => Attempt::Unneeded,
        (400 | 401 | 403 | 405 | 413 | 422, _) => Attempt::Refused(said(error)),
        _ => Attempt::Again(said(error)),
    }
}

/// From 0 to 1; 0 if the machine has no randomness.
fn random() -> f64 {
    f64::from(random_byte()) / 255.0
}

/// 0 if the machine has no randomness.
pub(super) fn random_byte() -> u8 {
    let mut byte = [0];
    match rand::fill(&mut byte) {
        Ok(()) => byte[0],
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;
    use std::future::{Ready, ready};
    use std::sync::Mutex;
    use std::task::{Context, Poll};

    use futures::future::BoxFuture;
    use http::{Method, Request, Response};
    use http_body_util::{BodyExt as _, Full};
    use hyper::body::Bytes;
    use kube::Client;
    use kube::client::Body;
    use promotion_gate_core::gate::{Digest, Workload};

    use super::super::identity::Identity;
    use super::super::key::SigningKey;
    use super::*;
    use crate::api::{EntryRuns, EntryState, WrittenBy, WrittenEmergency, WrittenWorkload};
    use crate::cluster::Cluster;
    use crate::metrics::Metrics;

    /// An API server that answers nothing but errors.
    struct Broken;

    impl tower::Service<Request<Body>> for Broken {
        type Response = Response<Full<Bytes>>;
        type Error = Infallible;
        type Future = Ready<Result<Self::Response, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            let answer = Response::builder().status(500);
            ready(Ok(answer.body(Full::default()).unwrap()))
        }
    }

    fn entry(namespace: &str) -> NewEntry {
        let workload = Workload {
            group: "apps".to_owned(),
            version: "v1".to_owned(),
            kind: "Deployment".to_owned(),
            namespace: Some(namespace.to_owned()),
            name: "web".to_owned(),
        };
        let entry = WrittenEntry {
            workload: WrittenWorkload::new(&workload, None),
            template: Digest::sha256(b"template").to_string(),
            state: EntryState::Pending,
            runs: EntryRuns::Running,
            by: WrittenBy::Ungoverned,
            complied: Default::default(),
            environments: Default::default(),
            ages_judged: Default::default(),
            source: None,
            digest: None,
            emergency: Vec::new(),
            at: Timestamp::UNIX_EPOCH,
            observed_at: None,
            decision: "1".to_owned(),
            revision: String::new(),
        };
        let subject = RecordSubject::Digest(Digest::sha256(b"image"));
        NewEntry::new(subject, Some(namespace.to_owned()), entry)
    }

    #[tokio::test]
    async fn a_namespace_holds_no_more_records_than_memory_has_room_for() {
        let cluster = Cluster::of(Client::new(Broken, "promotion-gate"));
        let (records, tasks) = ReleaseRecords::start(cluster, Arc::new(Metrics::default()));
        for number in 0..MAXIMUM_RECORDS {
            let subject = RecordSubject::Reference(number.to_string());
            let name = RecordName {
                namespace: "shop".to_owned(),
                name: subject.name(),
            };
            let record = KeptRecord {
                subject,
                uid: number.to_string(),
                namespace_uid: "1".to_owned(),
                resource_version: "1".to_owned(),
                last_used: None,
                entries: BTreeMap::new(),
            };
            records.memory_mut().apply(name, record);
        }
        let now = Instant::now();
        let refused = records.put(&entry("shop"), now, now).await;
        let Err(Unwritten::Refused(why)) = refused else {
            panic!("{refused:?}");
        };
        assert!(why.contains("no more than 5000 are kept"), "{why}");
        // Another namespace has room of its own.
        let another = records.put(&entry("other"), now, now).await;
        assert!(matches!(another, Err(Unwritten::Yet(_))), "{another:?}");
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }

    /// An API server with one record. It refuses a patch for another version than the present one.
    #[derive(Clone, Default)]
    struct Stored(Arc<Mutex<Value>>);

    impl Stored {
        fn answer(&self, method: &Method, patch: &Value) -> (u16, Value) {
            let mut stored = self.0.lock().unwrap();
            let refused = |code: u16, reason: &str| {
                let details = json!({"kind": "releaserecords"});
                let status = json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "", "details": details});
                (code, status)
            };
            match *method {
                Method::POST if stored.is_null() => {
                    *stored = patch.clone();
                    stored["metadata"]["uid"] = json!("2");
                    stored["metadata"]["resourceVersion"] = json!("4");
                    return (201, stored.clone());
                }
                Method::POST => return refused(409, "AlreadyExists"),
                _ if stored.is_null() => return refused(404, "NotFound"),
                Method::PATCH => {}
                _ => return (200, stored.clone()),
            }
            let made_for = &patch["metadata"]["resourceVersion"];
            if !made_for.is_null() && *made_for != stored["metadata"]["resourceVersion"] {
                return refused(409, "Conflict");
            }
            for (key, fields) in patch["spec"]["entries"].as_object().unwrap() {
                let mut fields = fields.as_object().unwrap().clone();
                fields.retain(|_, value| !value.is_null());
                stored["spec"]["entries"][key] = Value::Object(fields);
            }
            stored["metadata"]["resourceVersion"] = json!("3");
            (200, stored.clone())
        }
    }

    impl tower::Service<Request<Body>> for Stored {
        type Response = Response<Full<Bytes>>;
        type Error = Infallible;
        type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Body>) -> Self::Future {
            let stored = self.clone();
            Box::pin(async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let patch: Value = serde_json::from_slice(&body).unwrap_or_default();
                let (code, answer) = match parts.uri.path() {
                    // Only the UID is read.
                    "/api/v1/namespaces/shop" => (
                        200,
                        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "shop", "uid": "n"}}),
                    ),
                    _ => stored.answer(&parts.method, &patch),
                };
                let answer = Full::new(Bytes::from(answer.to_string()));
                Ok(Response::builder().status(code).body(answer).unwrap())
            })
        }
    }

    /// An admission by an emergency change that this user asked for.
    fn used(requester: &str, second: i64) -> NewEntry {
        let at = Timestamp::from_second(second).unwrap();
        let mark = WrittenEmergency {
            declaration: Digest::sha256(b"declaration").to_string(),
            environment: "production".to_owned(),
            incident: "INC1".to_owned(),
            incident_opened_by: None,
            incident_url: None,
            incident_state: "verified".to_owned(),
            declared_by: ["ben".to_owned()].into(),
            approved_by: Default::default(),
            authors: Default::default(),
            unknown_author: false,
            requester: Some(requester.to_owned()),
            policies: Default::default(),
            waived: Default::default(),
            images: Default::default(),
            admitted: at,
            expires: at,
            review_due: at,
        };
        let entry = WrittenEntry {
            at,
            emergency: vec![mark],
            ..entry("shop").entry
        };
        let subject = RecordSubject::Digest(Digest::sha256(b"image"));
        NewEntry::new(subject, Some("shop".to_owned()), entry)
    }

    /// A replica whose memory holds one record, at this version and with a use by `alice`, and the API server, which stores the record.
    async fn replica(version: &str) -> (Stored, Arc<ReleaseRecords>) {
        let server = Stored::default();
        let cluster = Cluster::of(Client::new(server.clone(), "promotion-gate"));
        let (records, tasks) = ReleaseRecords::start(cluster, Arc::new(Metrics::default()));
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
        let key = SigningKey::generate().unwrap();
        let identity = Identity {
            cluster: "c".to_owned(),
            public: key.public(),
            key,
        };
        records.identity.store(Some(Arc::new(identity)));
        records.uids().insert("shop".to_owned(), "n".to_owned());
        let stored = holding(&records, version, &[used("alice", 1)]).await;
        let seen = serde_json::from_value(stored.clone()).unwrap();
        records.take_in(&seen, true).await;
        *server.0.lock().unwrap() = stored;
        (server, records)
    }

    /// The record as it stands in the cluster with an entry of these uses.
    async fn holding(records: &ReleaseRecords, version: &str, uses: &[NewEntry]) -> Value {
        let mut new = uses[0].clone();
        let marks = uses.iter().flat_map(|used| used.entry.emergency.clone());
        new.entry.emergency = marks.collect();
        let name = records.record_of(&new);
        let signed = records.signed(&name, &new.key, &new.entry).await;
        let entries = json!({&new.key: signed.ok().unwrap()});
        json!({
            "apiVersion": API_VERSION,
            "kind": "ReleaseRecord",
            "metadata": {"name": name.name, "namespace": "shop", "uid": "1", "resourceVersion": version},
            "spec": {"digest": Digest::sha256(b"image").to_string(), "entries": entries},
        })
    }

    /// Who used emergency changes, as the record in the cluster says.
    fn requesters(server: &Stored, key: &str) -> Vec<String> {
        let stored = server.0.lock().unwrap();
        let marks = stored["spec"]["entries"][key]["emergency"].as_array();
        let requesters = marks.unwrap().iter().map(|mark| &mark["requester"]);
        requesters
            .map(|requester| requester.as_str().unwrap().to_owned())
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn uses_of_an_emergency_change_that_two_replicas_record_at_once_are_all_kept() {
        let (server, records) = replica("1").await;
        let (alice, bob, carol) = (used("alice", 1), used("bob", 2), used("carol", 3));
        assert_eq!(alice.key, bob.key);
        // Another replica has written since, and the watch has not shown it yet.
        let stored = holding(&records, "2", &[carol, alice]).await;
        *server.0.lock().unwrap() = stored;
        // The first conflict costs no time.
        let now = Instant::now();
        records.put(&bob, now, now + RESERVE).await.unwrap();
        assert_eq!(requesters(&server, &bob.key), ["carol", "bob", "alice"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_use_is_recorded_where_the_cluster_was_restored_and_shows_an_older_version() {
        let (server, records) = replica("9").await;
        let (alice, bob) = (used("alice", 1), used("bob", 2));
        let stored = holding(&records, "2", &[alice]).await;
        *server.0.lock().unwrap() = stored;
        let deadline = Instant::now() + Duration::from_secs(10);
        records.put(&bob, deadline, deadline).await.unwrap();
        assert_eq!(requesters(&server, &bob.key), ["bob", "alice"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_use_is_joined_with_what_a_record_said_that_this_replica_had_not_seen() {
        let (server, records) = replica("1").await;
        let bob = used("bob", 2);
        records.memory_mut().remove(&records.record_of(&bob));
        let deadline = Instant::now() + Duration::from_secs(10);
        records.put(&bob, deadline, deadline).await.unwrap();
        assert_eq!(requesters(&server, &bob.key), ["bob", "alice"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_use_keeps_the_earlier_ones_where_somebody_deleted_the_record() {
        let (server, records) = replica("1").await;
        let bob = used("bob", 2);
        *server.0.lock().unwrap() = Value::Null;
        let deadline = Instant::now() + Duration::from_secs(10);
        records.put(&bob, deadline, deadline).await.unwrap();
        assert_eq!(requesters(&server, &bob.key), ["bob", "alice"]);
    }
}
