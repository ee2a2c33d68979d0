//! Writes of records to the cluster: new ones, uses that were added, statuses, and the deletion of old ones.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::marks::{joined, needed};
use super::status::desired;
use super::{Debts, KEPT, Record, api_resource};
use crate::api::{API_VERSION, EmergencyChangeRecordSpec};
use crate::cluster::cause;
use crate::record::EmergencyEntry;
use crate::snapshot::Resource;

/// How long one write may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The wait after a write that failed.
pub(super) const AFTER_FAILURE: Duration = Duration::from_secs(10);
/// After how many failures a round of writes ends: while the API server does not answer, each of them takes its time.
const FAILURES: usize = 3;
/// How the gate is named as the writer.
const MANAGER: &str = "promotion-gate";

impl Debts {
    /// Writes a record for each emergency change that was used, and adds what it was used for since.
    pub(super) async fn write_records(
        &self,
        present: &[Arc<Record>],
        has_duties: &(impl Fn() -> bool + Sync),
    ) {
        if let Some(entries) = self.records.emergency_entries() {
            self.keep_uses(present, &entries, has_duties).await;
        }
    }

    /// Lets records say what these admissions need, while this replica has the duties. One that cannot be written keeps no other one from
    /// being written: after several of them, it is the turn of the others in the next round.
    pub(super) async fn keep_uses(
        &self,
        present: &[Arc<Record>],
        entries: &[EmergencyEntry],
        has_duties: &(impl Fn() -> bool + Sync),
    ) {
        let last = self.state().failed_use.take();
        let needed: Vec<_> = needed(entries).into_iter().collect();
        let needed = beginning_after(needed, |(name, _)| name, last.as_deref());
        let mut failed = 0;
        for (name, spec) in needed {
            if failed == FAILURES || !has_duties() {
                break;
            }
            match self.keep_use(present, &name, &spec).await {
                Ok(false) => {}
                Ok(true) => tracing::info!(name, "the use of an emergency change is kept"),
                Err(why) => {
                    failed += 1;
                    let what = format!(
                        "the use of the emergency change `{}` of `{}` cannot be kept yet, so that its review is not asked for: {why}",
                        spec.declaration, spec.environment
                    );
                    self.metrics.alarms.raise("emergency-not-kept", &what);
                    self.state().failed_use = Some(name);
                }
            }
        }
        if failed > 0 {
            sleep(AFTER_FAILURE).await;
        }
    }

    /// Lets one record say what admissions need. `false` if there is nothing to write.
    async fn keep_use(
        &self,
        present: &[Arc<Record>],
        name: &str,
        spec: &EmergencyChangeRecordSpec,
    ) -> Result<bool, String> {
        let (is_deleted, is_known) = {
            let state = self.state();
            (
                state.deleted.contains_key(name),
                state.known.contains_key(name),
            )
        };
        let known = present.iter().find(|record| record.name() == name);
        match known {
            // It is restored as it was.
            _ if is_deleted => Ok(false),
            // `/readyz` reports one that is there and cannot be read.
            None if is_known => Ok(false),
            None => self.create(name, &json!(spec)).await.map(|_| true),
            Some(known) => {
                let joined = joined(&known.spec, spec);
                if joined == known.spec {
                    return Ok(false);
                }
                self.add(&known.resource, &joined).await.map(|()| true)
            }
        }
    }

    /// Writes the status of each record whose status is not what it should be, in the same way.
    pub(super) async fn write_statuses(
        &self,
        present: &[Arc<Record>],
        now: Timestamp,
        has_duties: &(impl Fn() -> bool + Sync),
    ) {
        let last = self.state().failed_status.take();
        let present: Vec<_> = present.iter().collect();
        let present = beginning_after(present, |record| record.name(), last.as_deref());
        let mut failed = 0;
        for record in present {
            if failed == FAILURES || !has_duties() {
                break;
            }
            let (name, state) = (record.name(), record.state(now));
            let (findings, restored) = {
                let state = self.state();
                let findings = state.findings.get(name).cloned();
                (
                    findings.unwrap_or_default(),
                    state.restored.get(name).cloned(),
                )
            };
            let outcomes = findings.outcomes.as_ref();
            let is_known = outcomes.is_none_or(|it| *it == record.status.outcomes);
            if state.is_ended() && record.status.state == Some(state) && is_known {
                continue;
            }
            let has_status = record.status.state.is_some();
            if has_status && restored.is_some() {
                self.state().restored.remove(name);
            }
            let base = restored.filter(|_| !has_status);
            let base = base.as_ref().unwrap_or(&record.resource.status);
            let status = desired(&record.spec, base, &findings, now);
            if status == record.resource.status {
                continue;
            }
            match self.write_status(&record.resource, &status).await {
                Ok(true) => {}
                Ok(false) => continue,
                Err(why) => {
                    tracing::warn!(name, why, "the status of a record cannot be written");
                    failed += 1;
                    self.state().failed_status = Some(name.to_owned());
                    continue;
                }
            }
            self.tell(record, &status);
        }
        if failed > 0 {
            sleep(AFTER_FAILURE).await;
        }
    }

    /// Deletes records that owe no review for a long time, and that no release record would bring about again.
    pub(super) async fn collect(&self, present: &[Arc<Record>], now: Timestamp) {
        let old = old(present, now);
        if old.is_empty() {
            return;
        }
        let Some(entries) = self.records.emergency_entries() else {
            return;
        };
        self.delete_unneeded(&old, &entries).await;
    }

    /// Deletes those of these records that are as they were seen, and that no admission needs.
    pub(super) async fn delete_unneeded(&self, old: &[&Record], entries: &[EmergencyEntry]) {
        let needed = needed(entries);
        for record in old.iter().filter(|it| !needed.contains_key(it.name())) {
            let name = record.name().to_owned();
            self.state().collected.insert(name.clone());
            let unchanged = DeleteParams::default().preconditions(Preconditions {
                uid: Some(record.resource.uid.clone()),
                resource_version: Some(record.resource.version.clone()),
            });
            let api = self.api();
            let deleted = within(api.delete(&name, &unchanged)).await;
            match deleted {
                Ok(_) => tracing::info!(name, "an old record of an emergency change is deleted"),
                Err(why) => {
                    self.state().collected.remove(&name);
                    tracing::warn!(name, why, "an old record cannot be deleted");
                    return;
                }
            }
        }
    }

    pub(super) fn api(&self) -> Api<DynamicObject> {
        Api::all_with(self.cluster.client(), &api_resource())
    }

    /// Creates a record. One that is there already is taken over when the watch shows it.
    pub(super) async fn create(
        &self,
        name: &str,
        spec: &Value,
    ) -> Result<Option<DynamicObject>, String> {
        let object = json!({
            "apiVersion": API_VERSION,
            "kind": "EmergencyChangeRecord",
            "metadata": {"name": name},
            "spec": spec,
        });
        let object = serde_json::from_value(object).map_err(|error| error.to_string())?;
        let how = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        match timeout(PATIENCE, self.api().create(&how, &object)).await {
            Ok(Ok(created)) => Ok(Some(created)),
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(None),
            Ok(Err(error)) => Err(cause(&error)),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    /// Lets a record say more, if it is still as it was seen.
    async fn add(
        &self,
        resource: &Resource,
        spec: &EmergencyChangeRecordSpec,
    ) -> Result<(), String> {
        let how = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(json!({
            "metadata": {"resourceVersion": resource.version},
            "spec": spec,
        }));
        let api = self.api();
        match timeout(PATIENCE, api.patch(&resource.name.name, &how, &patch)).await {
            Ok(Ok(_)) => Ok(()),
            // It has changed meanwhile, and is compared again.
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(()),
            Ok(Err(error)) => Err(cause(&error)),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    /// Writes a status, if the record is still as it was seen; `false` if it is not.
    pub(super) async fn write_status(
        &self,
        resource: &Resource,
        status: &Value,
    ) -> Result<bool, String> {
        let mut object = DynamicObject::new(&resource.name.name, &api_resource());
        object.metadata.uid = Some(resource.uid.clone());
        object.metadata.resource_version = Some(resource.version.clone());
        object.data = json!({"spec": resource.spec, "status": status});
        let api = self.api();
        let parameters = PostParams::default();
        let write = api.replace_status(&resource.name.name, &parameters, &object);
        match timeout(PATIENCE, write).await {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Ok(false),
            Ok(Err(error)) => Err(cause(&error)),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }
}

/// The same in a circle, from the first one on that comes after a name; they are in the order of their names.
fn beginning_after<T>(mut all: Vec<T>, name: impl Fn(&T) -> &str, last: Option<&str>) -> Vec<T> {
    let first = last.and_then(|last| all.iter().position(|it| name(it) > last));
    all.rotate_left(first.unwrap_or_default());
    all
}

/// The records that have owed no review for so long that they need not be kept.
pub(super) fn old(present: &[Arc<Record>], now: Timestamp) -> Vec<&Record> {
    let is_old = |record: &&Record| {
        let status = &record.status;
        let ended = [
            status.review.as_ref().map(|review| review.at),
            status.lifted.as_ref().map(|lifted| lifted.at),
            Some(record.spec.last_admitted),
        ];
        let last = ended.into_iter().flatten().max();
        record.state(now).is_ended() && last.is_some_and(|at| now.duration_since(at) > KEPT)
    };
    let present = present.iter().map(|record| &**record);
    present.filter(is_old).collect()
}

/// The answer to a request, within the time of one.
pub(super) async fn within<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match timeout(PATIENCE, request).await {
        Ok(answer) => answer.map_err(|error| cause(&error)),
        Err(_) => Err("no answer in time".to_owned()),
    }
}
