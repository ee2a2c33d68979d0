//! Release records for a command that judges: read once from the cluster, and only those that its reviews need.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kube::api::{DynamicObject, ListParams};
use promotion_gate_core::gate::{
    AdmittedBy, Change, Collected, Digest, Pin, Records, Unavailability, Workload,
};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::entry::read_record;
use super::identity::{CONFIGURATION, configurations, listed_keys};
use super::key::PublicKeys;
use super::memory::Memory;
use super::names::RecordSubject;
use super::reading::shown;
use super::resource;
use super::watching::name_of;
use crate::cluster::{ApiFailure, Cluster, in_time};

/// How many records, of up to 100 entries each, are listed at once.
const PAGE: u32 = 50;
/// The namespace whose UID is that of the cluster.
const OF_THE_CLUSTER: &str = "kube-system";

/// The release records of a cluster as they are now, as far as reviews need them: those of the namespaces of the workloads, and those
/// of the digests anywhere. Each is read once.
pub struct RecordsOnce {
    cluster: Cluster,
    /// The namespace of the gate.
    gate: String,
    keys: PublicKeys,
    uid: String,
    read: Mutex<Read>,
}

/// What was read.
#[derive(Default)]
struct Read {
    memory: Memory,
    /// The UIDs of namespaces; `None` for one that does not exist.
    namespaces: BTreeMap<String, Option<String>>,
    /// The namespaces whose records were all read.
    listed: BTreeSet<String>,
    /// The names of records that were read outside of these namespaces.
    named: BTreeSet<String>,
}

/// A complied admission of a workload: the digest or reference, the template, and when.
pub type Admission = (String, Digest, Timestamp);

impl RecordsOnce {
    /// Reads what entries are verified with, and all records of some namespaces. `gate` is the namespace of the gate.
    ///
    /// # Errors
    /// What could not be read.
    pub async fn read(
        cluster: &Cluster,
        gate: &str,
        namespaces: impl IntoIterator<Item = &String>,
    ) -> Result<RecordsOnce, ApiFailure> {
        let configurations = configurations(cluster.client());
        let configuration = in_time(configurations.get_opt(CONFIGURATION)).await;
        let configuration = configuration.map_err(|failure| {
            failure.about("the public keys of release records cannot be read from the cluster")
        })?;
        let mut read = Read::default();
        let uid = read.uid_of(cluster, OF_THE_CLUSTER).await?;
        let records = RecordsOnce {
            cluster: cluster.clone(),
            gate: gate.to_owned(),
            keys: configuration.as_ref().map(listed_keys).unwrap_or_default(),
            uid: uid.unwrap_or_default(),
            read: Mutex::default(),
        };
        for namespace in namespaces {
            records.take_namespace(&mut read, namespace).await?;
        }
        Ok(RecordsOnce {
            read: Mutex::new(read),
            ..records
        })
    }

    /// What the records say about a change with these pins.
    pub async fn about(
        &self,
        change: &Change,
        pins: &[Pin],
        deadline: Instant,
    ) -> Collected<Records> {
        let unknown = |why: String| Collected::Unavailable(Unavailability(why));
        match timeout_at(deadline, self.read_about(change, pins)).await {
            Ok(Ok(records)) => Collected::Known(records),
            Ok(Err(failure)) => unknown(failure.why),
            Err(_) => unknown("the release records were not read in time".to_owned()),
        }
    }

    async fn read_about(&self, change: &Change, pins: &[Pin]) -> Result<Records, ApiFailure> {
        let mut read = self.read.lock().await;
        // 1. What was admitted for the workload.
        let namespace = change.workload.namespace.as_deref();
        self.take_namespace(&mut read, namespace.unwrap_or(&self.gate))
            .await?;
        // 2. Where else the digests were admitted, and what the gate's namespace holds of cluster-scoped objects.
        let images = change.images.iter().zip(pins);
        for subject in images.flat_map(|(image, pin)| RecordSubject::of_image(image, pin)) {
            self.take_named(&mut read, &subject).await?;
        }
        Ok(read.memory.look_up(change, pins, &self.gate).records(true))
    }

    /// Reads all records of a namespace.
    async fn take_namespace(&self, read: &mut Read, namespace: &str) -> Result<(), ApiFailure> {
        if read.listed.contains(namespace) {
            return Ok(());
        }
        let page = ListParams::default().limit(PAGE);
        let listed = self.list(Some(namespace), page).await?;
        for object in listed {
            self.take(read, &object).await?;
        }
        read.listed.insert(namespace.to_owned());
        Ok(())
    }

    /// Reads the records of a digest in all namespaces, or of a reference in the gate's.
    async fn take_named(&self, read: &mut Read, subject: &RecordSubject) -> Result<(), ApiFailure> {
        let name = subject.name();
        if read.named.contains(&name) {
            return Ok(());
        }
        let namespace = match subject {
            RecordSubject::Digest(_) => None,
            RecordSubject::Reference(_) => Some(self.gate.as_str()),
        };
        let page = ListParams::default().limit(PAGE);
        let page = page.fields(&format!("metadata.name={name}"));
        for object in self.list(namespace, page).await? {
            self.take(read, &object).await?;
        }
        read.named.insert(name);
        Ok(())
    }

    async fn list(
        &self,
        namespace: Option<&str>,
        page: ListParams,
    ) -> Result<Vec<DynamicObject>, ApiFailure> {
        let listed = self.cluster.list_in(&resource(), namespace, page).await;
        listed
            .map_err(|failure| failure.about("the release records cannot be read from the cluster"))
    }

    /// Keeps the entries of a record that count.
    async fn take(&self, read: &mut Read, object: &DynamicObject) -> Result<(), ApiFailure> {
        let Some(name) = name_of(object) else {
            return Ok(());
        };
        let Some(uid) = read.uid_of(&self.cluster, &name.namespace).await? else {
            return Ok(());
        };
        if let Some((record, _)) = read_record(object, &self.keys, &self.uid, &uid, None) {
            read.memory.apply(name, record);
        }
        Ok(())
    }

    /// The admissions of a workload, in a namespace that was read, by policies that it complied with; of those `seen` in the cluster
    /// alone, if that is asked.
    pub async fn complied(&self, workload: &Workload, seen: bool) -> BTreeSet<Admission> {
        let read = self.read.lock().await;
        let records = read.memory.iter();
        let entries = records.flat_map(|(_, record)| {
            let image = shown(&record.subject);
            let entries = record.entries.values();
            entries.map(move |kept| (image.clone(), &kept.entry))
        });
        let own = entries.filter(|(_, entry)| {
            entry.workload.is_same_object(workload)
                && entry.by == AdmittedBy::Policy
                && !entry.complied.is_empty()
                && (entry.observed || !seen)
        });
        own.map(|(image, entry)| (image, entry.template.clone(), entry.at))
            .collect()
    }
}

impl Read {
    /// The UID of a namespace; `None` if it does not exist.
    async fn uid_of(
        &mut self,
        cluster: &Cluster,
        name: &str,
    ) -> Result<Option<String>, ApiFailure> {
        if let Some(known) = self.namespaces.get(name) {
            return Ok(known.clone());
        }
        let read = in_time(cluster.namespace_named(name)).await;
        let read = read.map_err(|failure| {
            failure.about(&format!(
                "the namespace `{name}` cannot be read from the cluster"
            ))
        })?;
        let uid = read.map(|known| known.uid);
        self.namespaces.insert(name.to_owned(), uid.clone());
        Ok(uid)
    }
}
