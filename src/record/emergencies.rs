//! The emergency changes by which entries were admitted, and what became of the workloads since.

use promotion_gate_core::gate::{Digest, Unavailability, Workload};
use serde_json::Value;
use tokio::time::Instant;

use super::ReleaseRecords;
use super::looking_up::is_object_name;
use crate::admission;
use crate::api::{WrittenEmergency, WrittenWorkload};
use crate::cluster::ObjectName;

/// One admission by an emergency change.
#[derive(Clone, Debug, PartialEq)]
pub struct EmergencyEntry {
    /// What is recorded of the emergency change.
    pub mark: WrittenEmergency,
    /// The object whose request was admitted.
    pub workload: WrittenWorkload,
    /// The digest of its template.
    pub template: Digest,
    /// The digest of the image, if it is known.
    pub image: Option<Digest>,
    /// The id of the decision.
    pub decision: String,
}

/// A workload as it is now.
pub struct LiveWorkload {
    /// The object.
    pub object: Value,
    /// `metadata.uid`.
    pub uid: Option<String>,
    /// The digest of its template.
    pub template: Option<Digest>,
}

impl ReleaseRecords {
    /// Every admission by an emergency change that the records hold; `None` while not all records are known.
    pub fn emergency_entries(&self) -> Option<Vec<EmergencyEntry>> {
        if self.unknown().is_some() {
            return None;
        }
        let memory = self.memory();
        let mut found = Vec::new();
        for (_, record) in memory.iter() {
            let marked = record.entries.values().filter(|kept| kept.has_emergency);
            for written in marked.filter_map(|kept| Some((kept, kept.parsed()?))) {
                let (kept, written) = written;
                found.extend(written.emergency.into_iter().map(|mark| EmergencyEntry {
                    mark,
                    workload: written.workload.clone(),
                    template: kept.entry.template.clone(),
                    image: kept.entry.digest.clone(),
                    decision: written.decision.clone(),
                }));
            }
        }
        Some(found)
    }

    /// Whether a template of a workload was admitted before an emergency change was.
    pub fn was_admitted_before(
        &self,
        workload: &Workload,
        template: &Digest,
        at: jiff::Timestamp,
    ) -> bool {
        let entries = self.memory().entries_of(workload);
        let mut earlier = entries.iter().filter(|entry| entry.at < at);
        earlier.any(|entry| entry.template == *template)
    }

    /// A workload as it is now; `None` if it does not exist, or if no such object can exist.
    ///
    /// # Errors
    /// Why it could not be read before the deadline.
    pub async fn live_workload(
        &self,
        workload: &Workload,
        deadline: Instant,
    ) -> Result<Option<LiveWorkload>, Unavailability> {
        let Some(name) = object_name(workload) else {
            return Ok(None);
        };
        let read = self.cluster.running_object(&name, deadline).await?;
        Ok(read.map(|(object, changed)| LiveWorkload {
            object,
            uid: changed.uid,
            template: changed.template,
        }))
    }
}

/// How a workload is read; `None` if no such object can exist.
pub fn object_name(workload: &Workload) -> Option<ObjectName> {
    let version = admission::version(&workload.group, &workload.kind)?;
    let mut names = [Some(&workload.name), workload.namespace.as_ref()]
        .into_iter()
        .flatten();
    names.all(|name| is_object_name(name)).then(|| ObjectName {
        version: version.to_owned(),
        ..ObjectName::from(workload)
    })
}
