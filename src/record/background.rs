//! What is done later: entries of requests that were admitted without, marks that an object was seen, notes of use, and records that
//! became too long. Each is tried until it stands, or until it does not matter any more. What was admitted is looked for in the cluster
//! a little later, so that its entry counts before anything rests on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use promotion_gate_core::gate::{RecordEntry, Workload};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::entry::{KeptEntry, NewEntry, to_drop};
use super::identity::said;
use super::memory::RecordName;
use super::writing::{Unwritten, replacing};
use super::{MAXIMUM_JOBS, ReleaseRecords};
use crate::api::{EntryState, WrittenEntry};

/// How many writes are under way at once.
const AT_ONCE: usize = 16;
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(10);
/// The pauses between attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long after its admission an object is looked for, and how often again.
const STORED: Duration = Duration::from_secs(2);
const LOOKS: u32 = 4;
/// How often a record is trimmed at once while others write to it.
const TRIMS: u32 = 8;
/// After how many attempts something is given up that later requests bring about again.
const PATIENCE: u32 = 8;

/// Something to write.
#[derive(Clone, Debug)]
pub(super) enum Job {
    /// An entry of a request that was admitted without it.
    Write(Box<NewEntry>),
    /// The object of an entry was seen.
    Mark(RecordName, String),
    /// A record let something pass at this time.
    Use(RecordName, Timestamp),
    /// A record holds too many entries.
    Trim(RecordName),
}

/// An object whose admission was recorded, and which may stand in the cluster by now.
#[derive(Clone, Debug)]
pub(super) struct Admitted {
    workload: Workload,
    /// The records and the keys of its entries.
    entries: Vec<(RecordName, String)>,
    /// When it is looked for.
    due: Instant,
    /// How often it was not there.
    looks: u32,
}

/// A job, and how often it was tried.
pub(super) struct Waiting {
    job: Job,
    attempts: u32,
}

impl ReleaseRecords {
    /// Writes something in the background. Where too much waits already, that is an alarm. Notes of use come again, so that they
    /// leave room for the rest.
    pub(super) fn later(&self, job: Job) {
        let is_crowded = self.jobs.capacity() < MAXIMUM_JOBS / 2;
        if is_crowded && matches!(job, Job::Use(..)) {
            return;
        }
        self.wait(Waiting { job, attempts: 0 });
    }

    fn wait(&self, waiting: Waiting) {
        if let Err(error) = self.jobs.try_send(waiting) {
            self.metrics.alarms.raise(
                "record-writes-waiting",
                &format!("too many writes of release records wait; one is given up: {error}"),
            );
        }
    }

    /// Does what was asked for, several at once.
    pub(super) async fn work(self: Arc<ReleaseRecords>, jobs: mpsc::Receiver<Waiting>) {
        let jobs =
            futures::stream::unfold(
                jobs,
                |mut jobs| async move { Some((jobs.recv().await?, jobs)) },
            );
        jobs.for_each_concurrent(AT_ONCE, |waiting| self.attempt(waiting))
            .await;
    }

    async fn attempt(self: &Arc<ReleaseRecords>, waiting: Waiting) {
        let Waiting { job, attempts } = waiting;
        let done = match &job {
            Job::Write(new) => {
                let deadline = Instant::now() + ATTEMPT;
                self.put(new, deadline, deadline).await
            }
            Job::Mark(record, key) => self.write_mark(record, key).await.map_err(Unwritten::Yet),
            Job::Use(record, at) => self.write_use(record, *at).await.map_err(Unwritten::Yet),
            Job::Trim(record) => self.trim(record).await.map_err(Unwritten::Yet),
        };
        let is_write = matches!(job, Job::Write(_));
        let attempts = attempts + 1;
        let is_last = match &done {
            Ok(()) => true,
            Err(Unwritten::Refused(_)) => attempts >= PATIENCE,
            Err(Unwritten::Yet(_)) => !is_write && attempts >= PATIENCE,
        };
        if let (Job::Trim(record), true) = (&job, is_last) {
            self.trimmed().remove(record);
        }
        let Err(why) = done else {
            if is_write {
                tracing::info!(attempts, "a record that was missing is written");
            }
            return;
        };
        let why = why.to_string();
        if is_write {
            let what = format!(
                "a release record cannot be written in the background, {}: {why}",
                if is_last {
                    "and is given up"
                } else {
                    "and is tried again"
                }
            );
            self.metrics.alarms.raise("record-not-written", &what);
        } else {
            tracing::warn!(
                attempts,
                why,
                is_last,
                "a release record cannot be written in the background"
            );
        }
        if !is_last {
            self.try_again(Waiting { job, attempts });
        }
    }

    /// Puts a job back after a pause, in which it holds no place.
    fn try_again(self: &Arc<ReleaseRecords>, waiting: Waiting) {
        let Ok(place) = Arc::clone(&self.retries).try_acquire_owned() else {
            self.metrics.alarms.raise(
                "record-writes-waiting",
                "too many writes of release records are tried again; one is given up",
            );
            return;
        };
        let pause = FIRST_PAUSE * 2_u32.saturating_pow(waiting.attempts.min(16));
        let records = Arc::clone(self);
        tokio::spawn(async move {
            sleep(pause.min(LONGEST_PAUSE)).await;
            drop(place);
            records.wait(waiting);
        });
    }

    async fn write_mark(&self, name: &RecordName, key: &str) -> Result<(), String> {
        let Some((version, Some(kept))) = self.state(name, Some(key)) else {
            return Ok(());
        };
        let Some(written) = kept.parsed().filter(|it| it.state == EntryState::Pending) else {
            return Ok(());
        };
        let entry = WrittenEntry {
            state: EntryState::Observed,
            observed_at: Some(Timestamp::now()),
            ..written
        };
        let signed = self.signed(name, key, &entry).await;
        let signed = signed.map_err(|_| "the entry cannot be signed".to_owned())?;
        let replaced = replacing(signed, Some(&kept));
        let spec = json!({"entries": {key: replaced}});
        self.merge_unchanged(name, &version, spec).await
    }

    pub(super) async fn write_use(&self, name: &RecordName, at: Timestamp) -> Result<(), String> {
        let Some((version, _)) = self.state(name, None) else {
            return Ok(());
        };
        self.merge_unchanged(name, &version, json!({"lastUsed": at}))
            .await
    }

    /// The version of a record as known, and one of its entries.
    fn state(&self, name: &RecordName, key: Option<&str>) -> Option<(String, Option<KeptEntry>)> {
        let memory = self.memory();
        let record = memory.get(name)?;
        let entry = key.and_then(|key| record.entries.get(key).cloned());
        Some((record.resource_version.clone(), entry))
    }

    /// Drops entries of a record that holds too many. Others write to it meanwhile, so that each attempt begins with its present state.
    async fn trim(&self, name: &RecordName) -> Result<(), String> {
        let entries = self.memory().get(name).map(|it| it.entries.clone());
        let gone = self.gone(&entries.unwrap_or_default()).await?;
        let is_gone = |entry: &RecordEntry| {
            gone.iter().any(|(workload, uid)| {
                workload.is_same_object(&entry.workload) && entry.uid == *uid
            })
        };
        let mut conflict = String::new();
        for _ in 0..TRIMS {
            let read = self.api(&name.namespace).get_opt(&name.name).await;
            let Some(object) = read.map_err(said)? else {
                return Ok(());
            };
            self.take_in(&object, false).await;
            let Some((version, entries)) = self.memory().get(name).map(|record| {
                let version = record.resource_version.clone();
                (version, to_drop(&record.entries, is_gone, Timestamp::now()))
            }) else {
                return Ok(());
            };
            if entries.is_empty() {
                return Ok(());
            }
            let nothing: BTreeMap<_, _> =
                entries.into_iter().map(|key| (key, Value::Null)).collect();
            let spec = json!({"entries": nothing});
            match self.merge_unchanged(name, &version, spec).await {
                Ok(()) => return Ok(()),
                Err(why) => conflict = why,
            }
        }
        Err(conflict)
    }

    /// Looks for what was admitted, once the API server has had the time to store it.
    pub(super) fn confirm_later(&self, workload: &Workload, entries: &[NewEntry]) {
        if entries.is_empty() {
            return;
        }
        let records = entries
            .iter()
            .map(|it| (self.record_of(it), it.key.clone()));
        self.look_later(Admitted {
            workload: workload.clone(),
            entries: records.collect(),
            due: Instant::now() + STORED,
            looks: 0,
        });
    }

    /// What finds no place here is found by the next comparison of all objects.
    fn look_later(&self, admitted: Admitted) {
        if let Err(error) = self.admitted.try_send(admitted) {
            tracing::debug!(%error, "an admitted object is not looked for");
        }
    }

    /// Marks the entries of what was admitted, as soon as it is there.
    pub(super) async fn confirm(self: Arc<ReleaseRecords>, mut waiting: mpsc::Receiver<Admitted>) {
        while let Some(admitted) = waiting.recv().await {
            if self.pending_entries(&admitted).is_empty() {
                continue;
            }
            sleep_until(admitted.due).await;
            let deadline = Instant::now() + ATTEMPT;
            let live = self.live(&admitted.workload, deadline).await;
            let live = live.ok().flatten();
            for (record, key, entry) in self.pending_entries(&admitted) {
                let is_there = live.as_ref().is_some_and(|live| live.shows(&entry));
                if is_there && self.memory_mut().mark(&record, &key) {
                    self.later(Job::Mark(record, key));
                }
            }
            if admitted.looks < LOOKS {
                self.look_later(Admitted {
                    due: Instant::now() + STORED,
                    looks: admitted.looks + 1,
                    ..admitted
                });
            }
        }
    }

    fn pending_entries(&self, admitted: &Admitted) -> Vec<(RecordName, String, Arc<RecordEntry>)> {
        let memory = self.memory();
        let entries = admitted.entries.iter().filter_map(|(record, key)| {
            let kept = memory.get(record)?.entries.get(key)?;
            Some((record.clone(), key.clone(), Arc::clone(&kept.entry)))
        });
        entries.filter(|(_, _, entry)| !entry.observed).collect()
    }

    /// The objects of entries that do not exist any more.
    async fn gone(
        &self,
        entries: &BTreeMap<String, KeptEntry>,
    ) -> Result<Vec<(Workload, Option<String>)>, String> {
        let objects = entries.values().map(|kept| {
            let RecordEntry { workload, uid, .. } = &*kept.entry;
            (workload.clone(), uid.clone())
        });
        let objects: BTreeSet<_> = objects.collect();
        let looks = objects.into_iter().map(|(workload, uid)| async {
            let live = self.live(&workload, Instant::now() + ATTEMPT).await;
            let live = live.map_err(|why| why.to_string())?;
            let is_there = live.is_some_and(|live| live.is_it(uid.as_ref()));
            Ok::<_, String>((!is_there).then_some((workload, uid)))
        });
        let looks = futures::stream::iter(looks).buffer_unordered(AT_ONCE);
        let gone: Vec<_> = looks.try_collect().await?;
        Ok(gone.into_iter().flatten().collect())
    }
}
