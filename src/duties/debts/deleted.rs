//! Records that are gone from the cluster: one that somebody deleted is written again, as it was; one that a governor deleted is
//! written again as lifted, so that it owes no review and the history stays.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use promotion_gate_core::gate::{GovernanceChange, GovernanceOperation, GovernedKind};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::writing::{AFTER_FAILURE, within};
use super::{Debts, Record, status};
use crate::api::{Kind, LiftedReview};
use crate::snapshot::{Resource, read_emergency_record};

/// How long a record is gone before it is written again: the replica that admitted a governor's deletion comes first.
const GRACE: Duration = Duration::from_secs(5);
/// How long a replica that has no duties remembers a deleted record, for the case that it takes over.
const REMEMBER: Duration = Duration::from_secs(120);
/// How long a replica tries to note that a governor deleted a record.
const LIFTING: Duration = Duration::from_secs(600);
/// The most deletions of governors that wait to be noted.
const MAXIMUM_LIFTING: usize = 1000;

/// A record that is gone.
pub(super) struct Deleted {
    resource: Arc<Resource>,
    at: Instant,
}

/// A deletion of a record by a governor, which this replica admitted.
pub(super) struct Lifting {
    resource: Resource,
    by: LiftedReview,
    since: Instant,
}

impl Debts {
    /// Takes over which records there are.
    pub(super) fn take_in(&self, resources: Vec<Arc<Resource>>) {
        let mut state = self.state();
        let mut before = std::mem::take(&mut state.known);
        for resource in resources {
            let name = resource.name.name.clone();
            let known = match before.remove(&name) {
                Some((known, record))
                    if known.uid == resource.uid && known.version == resource.version =>
                {
                    (known, record)
                }
                _ => {
                    let record = Record::read(&resource);
                    (resource, record)
                }
            };
            state.known.insert(name, known);
        }
        for (name, (resource, _)) in before {
            if !state.collected.remove(&name) {
                let at = Instant::now();
                state.deleted.insert(name, Deleted { resource, at });
            }
        }
        let state = &mut *state;
        let known = &state.known;
        state.deleted.retain(|name, _| !known.contains_key(name));
        state.findings.retain(|name, _| known.contains_key(name));
        state.searched.retain(|name, _| known.contains_key(name));
        state.looked.retain(|name, _| known.contains_key(name));
    }

    /// Notes that the deletion of a record was admitted because a governor asked for it.
    pub fn note_deletion(&self, change: &GovernanceChange) {
        let is_deletion = change.kind == GovernedKind::EmergencyChangeRecord
            && change.operation == GovernanceOperation::Delete;
        if !is_deletion || change.dry_run {
            return;
        }
        let Ok(object) = serde_json::from_value(change.before.clone()) else {
            return;
        };
        let resource = Resource::of(Kind::EmergencyChangeRecord, object);
        let by = LiftedReview {
            by: change.actor.username.clone(),
            at: Timestamp::now(),
        };
        let since = Instant::now();
        let mut state = self.state();
        if state.lifting.len() < MAXIMUM_LIFTING {
            let name = resource.name.name.clone();
            let lifting = Lifting {
                resource,
                by,
                since,
            };
            state.lifting.insert(name, lifting);
        }
    }

    /// Writes records again, as lifted, whose deletion by a governor this replica admitted.
    pub(super) async fn lift_deleted(&self, now: Timestamp) {
        let lifting = std::mem::take(&mut self.state().lifting);
        for (name, lifting) in lifting {
            match self.lift(&name, &lifting, now).await {
                Ok(true) => {
                    let by = &lifting.by.by;
                    tracing::warn!(
                        name,
                        by,
                        "a governor deleted the record of an emergency change: no review of it is owed"
                    );
                }
                Ok(false) if lifting.since.elapsed() < LIFTING => {
                    self.state().lifting.entry(name).or_insert(lifting);
                }
                Ok(false) => {
                    tracing::warn!(name, "the deletion of a record was admitted and not made")
                }
                Err(why) if lifting.since.elapsed() < LIFTING => {
                    tracing::warn!(
                        name,
                        why,
                        "it cannot be noted yet that a governor deleted a record"
                    );
                    self.state().lifting.entry(name).or_insert(lifting);
                }
                Err(why) => tracing::error!(
                    name,
                    why,
                    "it could not be noted that a governor deleted a record; its review is still owed"
                ),
            }
        }
    }

    /// Notes that a governor deleted a record. `false` while the record still stands.
    async fn lift(&self, name: &str, lifting: &Lifting, now: Timestamp) -> Result<bool, String> {
        let present = within(self.api().get_opt(name)).await?;
        let present = match present {
            Some(present) => present,
            None => match self.create(name, &lifting.resource.spec).await? {
                Some(created) => created,
                // Another replica has written it again meanwhile.
                None => return Ok(false),
            },
        };
        let present = Resource::of(Kind::EmergencyChangeRecord, present);
        if present.uid == lifting.resource.uid {
            return Ok(false);
        }
        let (spec, _) = read_emergency_record(&present)?;
        let base = match present.status {
            Value::Null => &lifting.resource.status,
            ref status => status,
        };
        let status = status::lifted(&spec, base, lifting.by.clone(), now);
        let is_written = self.write_status(&present, &status).await?;
        if is_written {
            self.tell_lifted(&present, &lifting.by);
        }
        Ok(is_written)
    }

    /// Writes records again that are gone and that this replica did not collect.
    pub(super) async fn restore_deleted(&self) {
        let due: Vec<_> = {
            let state = self.state();
            let due = state.deleted.iter();
            let due = due.filter(|(name, deleted)| {
                deleted.at.elapsed() >= GRACE && !state.lifting.contains_key(*name)
            });
            due.map(|(name, deleted)| (name.clone(), Arc::clone(&deleted.resource)))
                .collect()
        };
        for (name, resource) in due {
            // Its status follows as soon as the watch shows it.
            self.state()
                .restored
                .insert(name.clone(), resource.status.clone());
            match self.create(&name, &resource.spec).await {
                Ok(Some(_)) => {
                    self.state().deleted.remove(&name);
                    let what = format!(
                        "somebody deleted the record of an emergency change; it is written again: `{name}`"
                    );
                    self.metrics.alarms.raise("emergency-record-deleted", &what);
                }
                Ok(None) => drop(self.state().deleted.remove(&name)),
                Err(why) => {
                    tracing::error!(
                        name,
                        why,
                        "a deleted record of an emergency change cannot be written again yet"
                    );
                    sleep(AFTER_FAILURE).await;
                    return;
                }
            }
        }
    }

    pub(super) fn forget_deleted(&self) {
        let mut state = self.state();
        state.deleted.retain(|_, it| it.at.elapsed() < REMEMBER);
        state.restored.clear();
    }
}
