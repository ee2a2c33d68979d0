//! Release records: what was admitted, where, and why. Upkeep and what starts again rest on them, whatever became of registries and
//! policies since.
//!
//! * `names`: which record an image belongs to, and the keys of its entries
//! * `entry`: a review → the entries that record it; a stored record → the entries that count
//! * `key`: signatures of entries
//! * `memory`: all records in memory, and what they say about a change
//! * `identity`: the signing key in its Secret, and the public keys in the status of the configuration
//! * `watching`: the records of the cluster → memory
//! * `parent`: the object for which a controller creates a Pod
//! * `looking_up`: what the records say about a change; pending entries are confirmed by live reads
//! * `writing`: entries → the cluster, before the request is answered
//! * `background`: what is written later, until it stands
//! * `live`: what runs
//! * `reading`: records for people, and the request to adopt what runs
//! * `emergencies`: the emergency changes by which entries were admitted
//! * `once`: records for a command that judges, as far as its reviews need them
//! * `tags`: recorded tags that were moved
//! * `unverified`: entries that no known key verifies
//! * `duties`: what one replica does for all: baseline, restoring, collecting

mod background;
mod baseline;
mod counted;
mod duties;
mod emergencies;
mod entry;
mod identity;
mod key;
mod live;
mod looking_up;
mod memory;
mod names;
mod once;
mod parent;
mod reading;
mod running;
mod tags;
mod unverified;
mod watching;
mod writing;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use arc_swap::{ArcSwap, ArcSwapOption};
use kube::api::{Api, ApiResource, DynamicObject};
use promotion_gate_core::gate::{Digest, Workload};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinHandle;

use crate::api::ReleaseRecord;
use crate::cluster::{Cluster, Lost};
use crate::metrics::Metrics;

use background::{Admitted, Waiting};
use duties::Deleted;
use identity::{GateState, Identity};
use memory::{Memory, RecordName};
use names::RecordSubject;

pub use emergencies::{EmergencyEntry, LiveWorkload, object_name};
pub use once::{Admission, RecordsOnce};
pub use reading::{
    AskedAdoption, ReadRecord, Unrecorded, adopted, ask_to_adopt, read_records, read_unrecorded,
};
pub use running::{RunningImage, RunningWorkload, running_images};
pub use tags::{CheckedTags, RecordedTags, check_tags};

/// The most writes, and the most admissions to confirm, that wait in the background.
const MAXIMUM_JOBS: usize = 1000;

/// A turn that one task has at a time.
type Turn = Arc<tokio::sync::Mutex<()>>;

/// The release records of a cluster.
pub struct ReleaseRecords {
    cluster: Cluster,
    metrics: Arc<Metrics>,
    memory: RwLock<Memory>,
    /// What entries are signed with and checked by, once it is known.
    identity: ArcSwapOption<Identity>,
    /// What the configuration resource says about records.
    gate: ArcSwap<GateState>,
    /// Notified when other public keys are known, so that all records are read again.
    keys_changed: Notify,
    /// Notified when an entry names a key that is not known.
    unknown_key: Notify,
    /// Since when the watch is lost, and why.
    lost: ArcSwapOption<Lost>,
    /// The UIDs of namespaces, as last read.
    namespace_uids: Mutex<HashMap<String, String>>,
    /// Whether all records were listed at least once.
    listed: AtomicBool,
    /// Why records are not known or cannot be signed at present.
    problem: ArcSwapOption<Problem>,
    /// Whether a request was looked up: the webhook answers.
    asked: AtomicBool,
    /// Records that are gone, for the replica with the duties to restore.
    deleted: Mutex<Vec<Deleted>>,
    /// Records that this replica deletes because nothing needs them.
    collected: Mutex<HashSet<RecordName>>,
    /// Records that wait to be trimmed.
    trimmed: Mutex<HashSet<RecordName>>,
    /// Whose turn it is to add uses of emergency changes to a record.
    turns: Mutex<HashMap<RecordName, Turn>>,
    jobs: mpsc::Sender<Waiting>,
    /// Room for jobs that are tried again after a pause.
    retries: Arc<Semaphore>,
    admitted: mpsc::Sender<Admitted>,
}

/// Why records are not known or cannot be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Problem {
    why: String,
    /// Whether requests have to be answered before it can end: the remedy is a request that the webhook admits.
    needs_webhook: bool,
}

impl ReleaseRecords {
    /// The records of a cluster, and the tasks that keep them current.
    pub fn start(
        cluster: Cluster,
        metrics: Arc<Metrics>,
    ) -> (Arc<ReleaseRecords>, Vec<JoinHandle<()>>) {
        let (jobs, waiting) = mpsc::channel(MAXIMUM_JOBS);
        let (admitted, unconfirmed) = mpsc::channel(MAXIMUM_JOBS);
        let records = Arc::new(ReleaseRecords {
            cluster,
            metrics,
            memory: RwLock::default(),
            identity: ArcSwapOption::empty(),
            gate: ArcSwap::default(),
            keys_changed: Notify::new(),
            unknown_key: Notify::new(),
            lost: ArcSwapOption::empty(),
            namespace_uids: Mutex::default(),
            listed: AtomicBool::new(false),
            problem: ArcSwapOption::empty(),
            asked: AtomicBool::new(false),
            deleted: Mutex::default(),
            collected: Mutex::default(),
            trimmed: Mutex::default(),
            turns: Mutex::default(),
            jobs,
            retries: Arc::new(Semaphore::new(MAXIMUM_JOBS)),
            admitted,
        });
        let tasks = vec![
            tokio::spawn(Arc::clone(&records).keep_identity()),
            tokio::spawn(Arc::clone(&records).watch()),
            tokio::spawn(Arc::clone(&records).work(waiting)),
            tokio::spawn(Arc::clone(&records).confirm(unconfirmed)),
        ];
        (records, tasks)
    }

    /// Whether requests can be answered, and what is wrong with the records. Where only an admitted request can repair them,
    /// requests are answered: upkeep by the rules of class `Integrity`, and what has to be recorded is denied.
    pub fn readiness(&self) -> (bool, Option<String>) {
        let problem = self.problem.load_full();
        let needs_webhook = problem.as_ref().is_some_and(|it| it.needs_webhook);
        let unknown = self.unknown();
        let is_ready = unknown.is_none() || needs_webhook;
        let lost = || {
            let lost = self.lost.load_full()?;
            let seconds = lost.since.elapsed().as_secs();
            let why = &lost.why;
            Some(format!(
                "the watch was lost {seconds} s ago, and what was read before counts: {why}"
            ))
        };
        let problem = unknown.or_else(|| Some(problem?.why.clone()));
        (is_ready, problem.or_else(lost))
    }

    /// Shows in the metrics how old what was read is.
    fn show_age(&self) {
        let lost = self.lost.load();
        let age = lost.as_ref().map(|lost| lost.since.elapsed());
        let age = age.unwrap_or_default();
        self.metrics.show_watch_age("ReleaseRecord", age);
    }

    /// The digests that records name, in any namespace; `None` while not all of them are known.
    pub fn named_digests(&self) -> Option<HashSet<Digest>> {
        if self.unknown().is_some() || self.lost.load().is_some() {
            return None;
        }
        let memory = self.memory();
        let mut named = HashSet::new();
        for (_, record) in memory.iter() {
            if let RecordSubject::Digest(digest) = &record.subject {
                named.insert(digest.clone());
            }
            let entries = record.entries.values();
            named.extend(entries.filter_map(|kept| kept.digest.clone()));
        }
        Some(named)
    }

    /// Whether a template of the object may be staged: the records say so, or what they say is not known.
    pub fn may_hold_staged(&self, workload: &Workload) -> bool {
        self.unknown().is_some()
            || self.lost.load().is_some()
            || self.memory().holds_staged(workload)
    }

    /// Why it is not known what the records say; `None` once all records were listed and the public keys are known.
    fn unknown(&self) -> Option<String> {
        if self.listed.load(Ordering::Relaxed) && self.identity.load().is_some() {
            return None;
        }
        let problem = self.problem.load_full();
        let waiting = || "they are being read for the first time".to_owned();
        Some(problem.map_or_else(waiting, |problem| problem.why.clone()))
    }

    /// All namespaces.
    fn everywhere(&self) -> Api<DynamicObject> {
        Api::all_with(self.cluster.client(), &resource())
    }

    /// The records of a namespace.
    fn api(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.cluster.client(), namespace, &resource())
    }

    fn memory(&self) -> RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory_mut(&self) -> RwLockWriteGuard<'_, Memory> {
        self.memory.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn deleted_records(&self) -> MutexGuard<'_, Vec<Deleted>> {
        self.deleted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn collected(&self) -> MutexGuard<'_, HashSet<RecordName>> {
        let collected = self.collected.lock();
        collected.unwrap_or_else(PoisonError::into_inner)
    }

    fn trimmed(&self) -> MutexGuard<'_, HashSet<RecordName>> {
        self.trimmed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turns(&self) -> MutexGuard<'_, HashMap<RecordName, Turn>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn uids(&self) -> MutexGuard<'_, HashMap<String, String>> {
        let uids = self.namespace_uids.lock();
        uids.unwrap_or_else(PoisonError::into_inner)
    }
}

fn resource() -> ApiResource {
    ApiResource::erase::<ReleaseRecord>(&())
}
