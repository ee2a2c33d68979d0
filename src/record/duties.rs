//! What one replica does for all: it compares what runs with what is recorded, restores records that somebody deleted, adopts what
//! ran before, and collects what nothing needs any more.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::Error;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use promotion_gate_core::gate::{Snapshot, Workload};
use serde_json::{Map, json};
use tokio::time::{Instant, sleep, timeout};

use super::ReleaseRecords;
use super::background::Job;
use super::baseline::{Baselines, baselines};
use super::counted::CountedUnderLease;
use super::entry::{KeptEntry, KeptRecord, NewEntry};
use super::identity::{Adoption, CONFIGURATION, GateState, configurations, dropped, said};
use super::live::{LiveObject, live_objects, matches_namespace, shown, startable, unrecorded};
use super::memory::{Memory, RecordName};
use super::names::RecordSubject;
use super::writing::MAXIMUM_RECORDS;
use crate::admission::Audited;
use crate::api::{API_VERSION, WrittenEntry};

/// How often something urgent is looked for: deleted records, and what governors ask.
const TICK: Duration = Duration::from_secs(1);
/// How often what runs is compared with what is recorded.
const COMPARE: Duration = Duration::from_secs(600);
/// How long a replica that has no duties remembers a deleted record, for the case that it takes over.
const REMEMBER: Duration = Duration::from_secs(120);
/// The most deleted records that are remembered: as many as a namespace holds.
const MAXIMUM_DELETED: usize = MAXIMUM_RECORDS;
/// After how many failures the rest of the deleted records waits for the next round.
const FAILURES: usize = 3;
/// How many records are written at once.
const AT_ONCE: usize = 16;
/// How long one write may take.
pub(super) const ATTEMPT: Duration = Duration::from_secs(10);
/// How long an unused record is kept at least, in seconds. Its last use is noted once a day.
pub(super) const KEPT: i64 = 30 * DAY;
pub(super) const DAY: i64 = 24 * 3600;
/// How long a record waits for the first of its objects to be seen, in seconds.
const PENDING: i64 = 600;
/// How long after the first request everything is adopted, in seconds.
pub(super) const EVERYWHERE: i64 = 900;

/// A record that is gone from the cluster.
pub(super) struct Deleted {
    name: RecordName,
    record: KeptRecord,
    at: Instant,
}

/// A record that nothing needs: its name, UID and version.
type Unused = (RecordName, String, String);

/// What a comparison is made for.
struct Comparison {
    /// Whether everything that runs is adopted: once for the cluster, and again until every API server asks, and every replica
    /// records what it admits.
    first: bool,
    /// What governors asked to adopt.
    adoptions: Vec<Adoption>,
    /// The namespaces in which what runs is adopted without a request of a governor; `*` is every namespace.
    adopted_unasked: Vec<String>,
    /// How long an unused record is kept, in seconds.
    kept: i64,
    now: Timestamp,
}

impl ReleaseRecords {
    /// Does the duties while this replica has them, until the process ends. What runs where denials are only recorded (`audited`) is
    /// adopted: while no replica answers, the API server admits there without asking.
    pub async fn duties(
        self: Arc<ReleaseRecords>,
        has_duties: impl Fn() -> bool + Send,
        snapshot: impl Fn() -> Arc<Snapshot> + Send,
        audited: Audited,
    ) {
        let (mut compared, mut adopted) = (None::<Instant>, Vec::new());
        let mut unrecorded = CountedUnderLease::new(&self.metrics.unrecorded);
        loop {
            sleep(TICK).await;
            self.show_age();
            let has_duties = has_duties();
            unrecorded.follow(has_duties);
            if !has_duties || self.unknown().is_some() {
                self.forget_deleted();
                continue;
            }
            self.restore_deleted().await;
            let state = self.gate.load_full();
            // The first baseline comes after the webhook has answered, so that nothing slips in between.
            let first = state.baseline.is_none() && state.asked.is_some();
            let is_due = compared.is_none_or(|at| at.elapsed() >= COMPARE);
            let waiting = state.waiting();
            if !first && !is_due && waiting == adopted {
                continue;
            }
            let comparison = self.comparison(&snapshot(), &state, &audited);
            match self.compare(&comparison).await {
                Ok(()) => {
                    compared = Some(Instant::now());
                    adopted = waiting;
                }
                Err(why) => {
                    tracing::warn!(
                        why,
                        "what runs cannot be compared with the release records; it is tried again"
                    );
                    sleep(TICK * 10).await;
                }
            }
        }
    }

    fn comparison(&self, snapshot: &Snapshot, state: &GateState, audited: &Audited) -> Comparison {
        let now = Timestamp::now();
        let since = state.asked.map(|asked| now.duration_since(asked).as_secs());
        let infrastructure = snapshot.world.infrastructure_namespaces.iter();
        let own = ["kube-system", self.cluster.namespace()].map(str::to_owned);
        let everywhere = audited.everywhere.then(|| "*".to_owned());
        let audited = audited.namespaces.iter().cloned().chain(everywhere);
        let windows = snapshot.policies.iter();
        let windows = windows.map(|policy| policy.rollback_window.duration().as_secs());
        Comparison {
            first: since
                .is_some_and(|since| state.baseline.is_none() || (0..=EVERYWHERE).contains(&since)),
            adoptions: state.waiting(),
            adopted_unasked: infrastructure.cloned().chain(own).chain(audited).collect(),
            kept: windows.max().unwrap_or(KEPT).max(KEPT),
            now,
        }
    }

    async fn compare(&self, comparison: &Comparison) -> Result<(), String> {
        let objects = live_objects(&self.cluster).await?;
        let gate = self.cluster.namespace();
        // 1. Entries whose object runs with their template were observed.
        let seen = self.memory().pending_of(&objects, gate);
        for (name, key) in seen {
            if self.memory_mut().mark(&name, &key) {
                self.later(Job::Mark(name, key));
            }
        }
        // 2. What runs without a record is adopted where nobody decides about it, and counted elsewhere.
        let missing: Vec<_> = {
            let memory = self.memory();
            let missing = unrecorded(&objects, &memory, gate).into_values();
            // What an autoscaler starts from zero has run only if its own entry says so.
            let startable = match comparison.first {
                true => startable(&objects, &memory, gate),
                false => Vec::new(),
            };
            let mut known = HashSet::new();
            let all = missing.chain(startable);
            let all = all.filter(|(subject, object)| known.insert((*subject, &object.uid)));
            all.map(|(subject, object)| (subject.clone(), object.clone()))
                .collect()
        };
        let adoptions = &comparison.adoptions;
        let is_adopted = |object: &LiveObject| {
            let namespace = object.workload.namespace.as_deref();
            let is_asked = adoptions.iter().any(|adoption| {
                adoption.is_of(namespace)
                    && object
                        .created
                        .is_some_and(|at| at <= adoption.created_before)
            });
            comparison.first
                || is_asked
                || matches_namespace(&comparison.adopted_unasked, namespace.or(Some(gate)))
        };
        let (adopted, left): (Vec<_>, Vec<_>) = missing
            .into_iter()
            .partition(|(_, object)| is_adopted(object));
        let removed = self.remove_unverified(adoptions).await;
        self.adopt(&adopted, comparison, removed.is_ok()).await?;
        removed.map_err(|why| format!("entries that no known key verifies are left: {why}"))?;
        self.report_unrecorded(&left);
        // 3. What live objects name is in use; what nothing names is collected in time.
        self.collect(&objects, comparison).await;
        Ok(())
    }

    /// Records what runs as baseline, and that the first baseline was taken. An adoption has ended if `all_done` says so of the rest.
    async fn adopt(
        &self,
        adopted: &[(RecordSubject, LiveObject)],
        comparison: &Comparison,
        all_done: bool,
    ) -> Result<(), String> {
        let Baselines {
            by_record,
            without_room,
        } = {
            let (memory, gate) = (self.memory(), self.cluster.namespace());
            let (first, now) = (comparison.first, comparison.now);
            baselines(adopted, &memory, gate, first, now)
        };
        let writes = by_record.into_iter().map(|of| self.write_baselines(of));
        let writes = futures::stream::iter(writes).buffer_unordered(AT_ONCE);
        let failed = writes.collect::<Vec<_>>().await.concat();
        if let Some((workload, why)) = failed.first() {
            let (count, example) = (failed.len(), shown(workload));
            self.metrics.alarms.raise(
                "record-not-written",
                &format!("what runs cannot be recorded as baseline; its upkeep is judged until it can ({count}, such as {example}): {why}"),
            );
        }
        if let Some(first) = without_room.first() {
            let (count, example) = (without_room.len(), shown(first));
            tracing::warn!(
                count,
                example,
                "objects get no entry of their own, because the release record of their image is full: their upkeep is served, but an autoscaler that starts one from zero is judged"
            );
        }
        let written = adopted.len() - failed.len() - without_room.len();
        if written > 0 {
            let entries = written;
            tracing::info!(
                entries,
                first = comparison.first,
                "what runs was recorded as baseline"
            );
        }
        let mut taken = Map::new();
        if self.gate.load().baseline.is_none() && comparison.first {
            let baseline = json!({"at": comparison.now, "entries": written});
            taken.insert("recordBaseline".to_owned(), baseline);
        }
        if failed.is_empty() && all_done && !comparison.adoptions.is_empty() {
            // Those that the configuration does not hold any more are forgotten.
            let state = self.gate.load_full();
            let done = comparison.adoptions.iter().map(Adoption::id);
            let done: BTreeSet<_> = done.chain(state.adopted.iter().cloned()).collect();
            let held = state.adoptions.iter().map(Adoption::id);
            let held: Vec<_> = held.filter(|id| done.contains(id)).collect();
            taken.insert("adopted".to_owned(), json!(held));
        }
        if taken.is_empty() {
            return Ok(());
        }
        let patch = Patch::Merge(json!({"status": &taken}));
        let api = configurations(self.cluster.client());
        let patched = api
            .patch_status(CONFIGURATION, &PatchParams::default(), &patch)
            .await;
        let patched = patched.map_err(said)?;
        self.take_in_state(&patched);
        let state = self.gate.load();
        match (state.baseline.is_some(), state.adopted.is_empty()) {
            (false, _) if taken.contains_key("recordBaseline") => Err(dropped("recordBaseline")),
            (_, true) if taken.contains_key("adopted") => Err(dropped("adopted")),
            _ => Ok(()),
        }
    }

    /// Writes the entries of one record, one after the other, since each changes the same object. After a failure, the rest is written in
    /// the background. What is not written at once comes back, with why.
    async fn write_baselines(&self, entries: Vec<(Workload, NewEntry)>) -> Vec<(Workload, String)> {
        let (mut failed, mut problem) = (Vec::new(), None::<String>);
        for (workload, entry) in entries {
            if problem.is_none() {
                let deadline = Instant::now() + ATTEMPT;
                let done = self.put(&entry, deadline, deadline).await;
                problem = done.err().map(|why| why.to_string());
            }
            if let Some(why) = &problem {
                failed.push((workload, why.clone()));
                self.later(Job::Write(Box::new(entry)));
            }
        }
        failed
    }

    fn report_unrecorded(&self, left: &[(RecordSubject, LiveObject)]) {
        let objects: HashSet<_> = left.iter().map(|(_, object)| &object.uid).collect();
        let count = i64::try_from(objects.len()).unwrap_or(i64::MAX);
        let is_news = self.metrics.unrecorded.set(count) != count;
        if let (Some((_, first)), true) = (left.first(), is_news) {
            let example = shown(&first.workload);
            tracing::warn!(
                count,
                example,
                "objects run that no release record knows, so that their upkeep is judged: see `promotion-gate record list --unrecorded`"
            );
        }
    }

    async fn collect(&self, objects: &[LiveObject], comparison: &Comparison) {
        let gate = self.cluster.namespace();
        let mut named = HashSet::new();
        for object in objects {
            let subjects = object.subjects.iter();
            named.extend(subjects.map(|subject| object.record_of(subject, gate)));
        }
        let (used, unused) =
            self.memory()
                .to_note_and_collect(&named, comparison.now, comparison.kept);
        let uses = futures::stream::iter(used).map(|name| async move {
            self.memory_mut().use_at(&name, comparison.now);
            if let Err(why) = self.write_use(&name, comparison.now).await {
                let record = &name.name;
                tracing::info!(record, why, "a note of use is written at another time");
            }
        });
        uses.buffer_unordered(AT_ONCE).collect::<()>().await;
        for (name, uid, resource_version) in unused {
            let unchanged = Preconditions {
                uid: Some(uid),
                resource_version: Some(resource_version),
            };
            self.collected().insert(name.clone());
            let delete = DeleteParams::default().preconditions(unchanged);
            match self.api(&name.namespace).delete(&name.name, &delete).await {
                Ok(_) => {
                    tracing::info!(
                        namespace = name.namespace,
                        record = name.name,
                        "an unused release record is deleted"
                    );
                }
                Err(error) => {
                    self.collected().remove(&name);
                    let error = said(error);
                    tracing::warn!(error, "an unused release record cannot be deleted");
                }
            }
        }
    }

    /// A record is gone from the cluster: unless this replica collected it, it is remembered for the replica that has the duties.
    pub(super) fn deleted(&self, name: RecordName, record: KeptRecord) {
        if self.collected().remove(&name) {
            return;
        }
        let mut deleted = self.deleted_records();
        if deleted.len() < MAXIMUM_DELETED {
            deleted.push(Deleted {
                name,
                record,
                at: Instant::now(),
            });
            return;
        }
        drop(deleted);
        if self.metrics.records_forgotten.inc().is_multiple_of(1000) {
            let RecordName { namespace, name } = &name;
            self.metrics.alarms.raise(
                "records-forgotten",
                &format!("more than {MAXIMUM_DELETED} release records were deleted at once; those that are deleted now are not written again, such as `{name}` in `{namespace}` (`promotion_gate_records_forgotten_total` counts them; expected where namespaces with many records are deleted)"),
            );
        }
    }

    fn forget_deleted(&self) {
        self.deleted_records()
            .retain(|deleted| deleted.at.elapsed() < REMEMBER);
    }

    /// Writes records again that somebody deleted. Their entries are as they were, so that their signatures hold.
    async fn restore_deleted(&self) {
        let mut deleted = std::mem::take(&mut *self.deleted_records()).into_iter();
        let mut failed = Vec::new();
        // While the API server does not answer, the other duties go on.
        while failed.len() < FAILURES
            && let Some(Deleted { name, record, at }) = deleted.next()
        {
            let restored = timeout(ATTEMPT, self.restore(&name, &record)).await;
            let late = |_| Err("the API server did not answer in time".to_owned());
            match restored.unwrap_or_else(late) {
                Ok(false) => {}
                Ok(true) => {
                    let RecordName { namespace, name } = &name;
                    self.metrics.alarms.raise(
                        "record-deleted",
                        &format!("somebody deleted a release record; it is written again: `{name}` in `{namespace}`"),
                    );
                }
                Err(why) => {
                    tracing::error!(
                        namespace = name.namespace,
                        record = name.name,
                        why,
                        "a deleted release record cannot be written again yet"
                    );
                    failed.push(Deleted { name, record, at });
                }
            }
        }
        // What failed comes last in the next round.
        self.deleted_records().extend(deleted.chain(failed));
    }

    /// Writes a record again, unless its namespace goes too.
    async fn restore(&self, name: &RecordName, record: &KeptRecord) -> Result<bool, String> {
        let namespaces: Api<Namespace> = Api::all(self.cluster.client());
        let namespace = namespaces
            .get_metadata_opt(&name.namespace)
            .await
            .map_err(said)?;
        let Some(namespace) = namespace.map(|it| it.metadata) else {
            return Ok(false);
        };
        if namespace.deletion_timestamp.is_some()
            || namespace.uid.as_ref() != Some(&record.namespace_uid)
        {
            return Ok(false);
        }
        let entries = record.entries.iter();
        let entries: BTreeMap<_, _> = entries.map(|(key, kept)| (key, kept.fields())).collect();
        if entries.is_empty() {
            return Ok(false);
        }
        let mut spec = Map::new();
        spec.insert("entries".to_owned(), json!(entries));
        spec.insert("lastUsed".to_owned(), json!(record.last_used));
        match &record.subject {
            RecordSubject::Digest(digest) => {
                spec.insert("digest".to_owned(), json!(digest.to_string()))
            }
            RecordSubject::Reference(text) => spec.insert("reference".to_owned(), json!(text)),
        };
        spec.retain(|_, value| !value.is_null());
        let object = json!({
            "apiVersion": API_VERSION,
            "kind": "ReleaseRecord",
            "metadata": {"name": name.name, "namespace": name.namespace},
            "spec": spec,
        });
        let object = serde_json::from_value(object).map_err(|error| error.to_string())?;
        match self
            .api(&name.namespace)
            .create(&PostParams::default(), &object)
            .await
        {
            Ok(object) => {
                self.take_in(&object, true).await;
                Ok(true)
            }
            Err(Error::Api(status)) if status.code == 409 => self.join_deleted(name, record).await,
            Err(error) => Err(said(error)),
        }
    }

    /// Somebody deployed it again meanwhile: what the old record held besides is joined.
    async fn join_deleted(&self, name: &RecordName, record: &KeptRecord) -> Result<bool, String> {
        let present = self.api(&name.namespace).get_opt(&name.name).await;
        let Some(present) = present.map_err(said)? else {
            return Err("the record was made and deleted meanwhile".to_owned());
        };
        self.take_in(&present, false).await;
        let known = {
            let memory = self.memory();
            let known = memory.get(name);
            known.map(|known| (known.resource_version.clone(), known.entries.clone()))
        };
        let (version, known) = known.ok_or("what the record says cannot be read")?;
        let (again, missing): (Vec<_>, Vec<_>) = record
            .entries
            .iter()
            .partition(|(key, _)| known.contains_key(*key));
        // The new entry of the same key may not name the uses of emergency changes that the old one does.
        for (key, kept) in again.into_iter().filter(|(_, kept)| kept.has_emergency) {
            let present = known.get(key).and_then(KeptEntry::parsed);
            let old = kept.parsed().zip(present).map(|(old, present)| {
                let namespace = Some(name.namespace.clone());
                let joined = WrittenEntry {
                    emergency: old.emergency,
                    ..present
                };
                NewEntry::new(record.subject.clone(), namespace, joined)
            });
            if let Some(old) = old {
                self.later(Job::Write(Box::new(old)));
            }
        }
        if missing.is_empty() {
            return Ok(false);
        }
        let missing = missing.into_iter();
        let entries: BTreeMap<_, _> = missing.map(|(key, kept)| (key, kept.fields())).collect();
        let spec = json!({"entries": entries});
        self.merge_unchanged(name, &version, spec).await?;
        Ok(true)
    }
}

impl Memory {
    /// Whether a record has an entry that serves its namespace, of an object that was seen.
    pub(super) fn serves(&self, name: &RecordName, gate: &str) -> bool {
        let has = |name: &RecordName, serves: fn(&Workload) -> bool| {
            let record = self.get(name);
            let mut entries = record
                .into_iter()
                .flat_map(|record| record.entries.values());
            entries.any(|kept| kept.entry.observed && serves(&kept.entry.workload))
        };
        let in_gate = RecordName {
            namespace: gate.to_owned(),
            name: name.name.clone(),
        };
        has(name, |_| true) || has(&in_gate, |workload| workload.namespace.is_none())
    }

    /// The pending entries of live objects with their templates.
    fn pending_of(&self, objects: &[LiveObject], gate: &str) -> Vec<(RecordName, String)> {
        let mut pending = Vec::new();
        for object in objects {
            for subject in &object.subjects {
                let name = object.record_of(subject, gate);
                let record = self.get(&name);
                let entries = record.into_iter().flat_map(|record| &record.entries);
                let shown = entries.filter(|(_, kept)| object.shows(&kept.entry));
                pending.extend(shown.map(|(key, _)| (name.clone(), key.clone())));
            }
        }
        pending
    }

    /// Records in use whose last use is noted more than a day ago; and those that nothing names and that were not used for `kept`
    /// seconds, or whose object was never seen, with UID and version.
    fn to_note_and_collect(
        &self,
        named: &HashSet<RecordName>,
        now: Timestamp,
        kept: i64,
    ) -> (Vec<RecordName>, Vec<Unused>) {
        let resolved = self.resolved_by(named);
        let (mut used, mut unused) = (Vec::new(), Vec::new());
        for (name, record) in self.iter() {
            let admitted = record.entries.values().map(|kept| kept.entry.at).max();
            let last = record.last_used.max(admitted);
            let age = last.map_or(i64::MAX, |last| now.as_second() - last.as_second());
            // What was never seen and nothing names serves nothing.
            let was_seen = record.entries.values().any(|kept| kept.entry.observed);
            let kept = if was_seen { kept } else { PENDING };
            let is_named = named.contains(name.as_ref()) || resolved.contains(name.as_ref());
            if is_named && age > DAY {
                used.push(RecordName::clone(name));
            } else if !is_named && age > kept {
                let record = (record.uid.clone(), record.resource_version.clone());
                unused.push((RecordName::clone(name), record.0, record.1));
            }
        }
        (used, unused)
    }

    /// The records of the digests to which references that live objects name were resolved.
    fn resolved_by(&self, named: &HashSet<RecordName>) -> HashSet<RecordName> {
        let mut resolved = HashSet::new();
        for name in named {
            let record = self.get(name);
            for kept in record
                .into_iter()
                .flat_map(|record| record.entries.values())
            {
                if let Some(digest) = &kept.digest {
                    let of_digest = RecordName {
                        namespace: name.namespace.clone(),
                        name: RecordSubject::Digest(digest.clone()).name(),
                    };
                    resolved.insert(of_digest);
                }
            }
        }
        resolved
    }
}
