//! All release records of the cluster in memory, and the look-up of what they say about one change.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use promotion_gate_core::gate::{
    AdmittedBy, Change, Digest, ImageRecords, Pin, RecordEntry, Records, Workload,
};

use super::entry::{KeptEntry, KeptRecord};
use super::names::RecordSubject;

/// The name of a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct RecordName {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// Records by name, with the indexes that look-ups need.
#[derive(Default)]
pub(super) struct Memory {
    records: HashMap<Arc<RecordName>, KeptRecord>,
    /// The records that hold entries of an object.
    by_workload: HashMap<ObjectKey, HashSet<Arc<RecordName>>>,
    /// What was judged of a digest, with the number of entries that say so; by the name of the record.
    judged: HashMap<String, BTreeMap<Judged, usize>>,
    /// How many records a namespace holds.
    counts: HashMap<String, usize>,
    /// While all records are listed: those that were seen or written meanwhile.
    seen: Option<HashSet<RecordName>>,
}

/// What an admission that complied has judged of a digest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Judged {
    /// Approvals of an environment.
    ApprovalsOf(String),
    /// The ages of scans, by a policy.
    AgesBy(String),
}

/// Group, kind, namespace and name.
type ObjectKey = (String, String, Option<String>, String);

/// An entry that was looked up.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) record: Arc<RecordName>,
    pub(super) key: String,
    pub(super) entry: Arc<RecordEntry>,
}

/// What the records say about an image.
#[derive(Clone, Debug, Default)]
pub(super) struct FoundImage {
    pub(super) entries: Vec<Found>,
    /// The environments in which its digest complied.
    pub(super) environments: BTreeSet<String>,
    /// The policies that found its scans recent enough.
    pub(super) ages_judged: BTreeSet<String>,
    /// Every digest with which its reference was admitted.
    pub(super) admitted: BTreeSet<Digest>,
}

/// What the records say about a change.
#[derive(Clone, Debug, Default)]
pub(super) struct LookedUp {
    /// For each image.
    pub(super) images: Vec<FoundImage>,
    pub(super) workload: Vec<Arc<RecordEntry>>,
}

impl LookedUp {
    /// The records as rules read them.
    pub(super) fn records(self, has_baseline: bool) -> Records {
        let images = self.images.into_iter();
        Records {
            images: images
                .map(|image| ImageRecords {
                    entries: image.entries.into_iter().map(|it| it.entry).collect(),
                    environments: image.environments,
                    ages_judged: image.ages_judged,
                    admitted: image.admitted,
                })
                .collect(),
            workload: self.workload,
            has_baseline,
        }
    }

    /// The same, as if the objects of these entries had been seen.
    pub(super) fn assuming_seen(&self, is_seen: impl Fn(&Found) -> bool) -> LookedUp {
        let mut assumed = self.clone();
        let found = assumed.images.iter_mut().flat_map(|it| &mut it.entries);
        for found in found.filter(|found| is_seen(found)) {
            let seen = RecordEntry {
                observed: true,
                ..RecordEntry::clone(&found.entry)
            };
            found.entry = Arc::new(seen);
        }
        assumed
    }
}

impl Memory {
    pub(super) fn get(&self, name: &RecordName) -> Option<&KeptRecord> {
        self.records.get(name)
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<RecordName>, &KeptRecord)> {
        self.records.iter()
    }

    /// All records will be listed now.
    pub(super) fn begin_listing(&mut self) {
        self.seen = Some(HashSet::new());
    }

    /// All records were listed: forgets those that were not.
    pub(super) fn end_listing(&mut self) -> Vec<(RecordName, KeptRecord)> {
        let seen = self.seen.take().unwrap_or_default();
        let names = self.records.keys();
        let gone: Vec<_> = names
            .filter(|name| !seen.contains(name.as_ref()))
            .cloned()
            .collect();
        let removed = gone.iter().filter_map(|name| {
            let record = self.remove(name)?;
            Some((RecordName::clone(name), record))
        });
        removed.collect()
    }

    /// Takes over a state of a record, unless a newer one is known.
    pub(super) fn apply(&mut self, name: RecordName, record: KeptRecord) {
        if let Some(seen) = &mut self.seen {
            seen.insert(name.clone());
        }
        let known = self.records.get(&name);
        if known.is_some_and(|known| is_newer(&known.resource_version, &record.resource_version)) {
            return;
        }
        self.remove(&name);
        *self.counts.entry(name.namespace.clone()).or_default() += 1;
        let name = Arc::new(name);
        for kept in record.entries.values() {
            let workload = object_key(&kept.entry.workload);
            let records = self.by_workload.entry(workload).or_default();
            records.insert(Arc::clone(&name));
            self.add_judged(&name.name, &kept.entry);
        }
        self.records.insert(name, record);
    }

    /// Lets the next state of a record count, whatever its version is, since the API server has refused this one: after a backup of etcd was
    /// restored, what it shows has a lower version.
    pub(super) fn distrust(&mut self, name: &RecordName, resource_version: &str) {
        if let Some(record) = self.records.get_mut(name)
            && record.resource_version == resource_version
        {
            record.resource_version.clear();
        }
    }

    fn add_judged(&mut self, name: &str, entry: &RecordEntry) {
        for judged in judged(entry) {
            let of_digest = self.judged.entry(name.to_owned()).or_default();
            *of_digest.entry(judged).or_default() += 1;
        }
    }

    /// How many records a namespace holds.
    pub(super) fn count(&self, namespace: &str) -> usize {
        self.counts.get(namespace).copied().unwrap_or_default()
    }

    /// Forgets a record that was deleted at a version, unless a newer one is known.
    pub(super) fn remove_deleted(
        &mut self,
        name: &RecordName,
        resource_version: &str,
    ) -> Option<KeptRecord> {
        let known = self.records.get(name)?;
        match is_newer(&known.resource_version, resource_version) {
            true => None,
            false => self.remove(name),
        }
    }

    /// Forgets a record.
    pub(super) fn remove(&mut self, name: &RecordName) -> Option<KeptRecord> {
        let record = self.records.remove(name)?;
        if let Some(count) = self.counts.get_mut(&name.namespace) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.counts.remove(&name.namespace);
            }
        }
        for kept in record.entries.values() {
            let workload = object_key(&kept.entry.workload);
            if let Some(records) = self.by_workload.get_mut(&workload) {
                records.remove(name);
                if records.is_empty() {
                    self.by_workload.remove(&workload);
                }
            }
            let Some(of_digest) = self.judged.get_mut(&name.name) else {
                continue;
            };
            for judged in judged(&kept.entry) {
                if let Some(count) = of_digest.get_mut(&judged) {
                    *count = count.saturating_sub(1);
                }
            }
            of_digest.retain(|_, count| *count > 0);
            if of_digest.is_empty() {
                self.judged.remove(&name.name);
            }
        }
        Some(record)
    }

    /// Marks an entry as seen, until the record says so itself. Returns whether that is new.
    pub(super) fn mark(&mut self, name: &RecordName, key: &str) -> bool {
        let record = self.records.get_mut(name);
        let Some(kept) = record.and_then(|record| record.entries.get_mut(key)) else {
            return false;
        };
        if kept.entry.observed {
            return false;
        }
        let seen = Arc::new(RecordEntry {
            observed: true,
            ..RecordEntry::clone(&kept.entry)
        });
        kept.entry = Arc::clone(&seen);
        self.add_judged(&name.name, &seen);
        true
    }

    /// Notes that a record was used.
    pub(super) fn use_at(&mut self, name: &RecordName, at: jiff::Timestamp) {
        if let Some(record) = self.records.get_mut(name) {
            record.last_used = Some(at);
        }
    }

    /// What the records say about a change with these pins. Records in the gate's own namespace serve every namespace with what they
    /// hold of cluster-scoped objects.
    pub(super) fn look_up(&self, change: &Change, pins: &[Pin], gate: &str) -> LookedUp {
        let namespace = change.workload.namespace.as_deref().unwrap_or(gate);
        let of_image = |(image, pin)| {
            let subjects = RecordSubject::of_image(image, pin);
            let mut image = FoundImage::default();
            for subject in subjects {
                let name = subject.name();
                let is_reference = matches!(subject, RecordSubject::Reference(_));
                let names_another = |kept: &KeptEntry| {
                    let (known, resolved) = (kept.digest.as_ref(), pin.digest());
                    is_reference && known.zip(resolved).is_some_and(|(known, now)| known != now)
                };
                let of_digest = self.judged.get(&name).filter(|_| !is_reference);
                for judged in of_digest.into_iter().flat_map(BTreeMap::keys).cloned() {
                    match judged {
                        Judged::ApprovalsOf(environment) => image.environments.insert(environment),
                        Judged::AgesBy(policy) => image.ages_judged.insert(policy),
                    };
                }
                let is_cluster_scoped = |kept: &KeptEntry| kept.entry.workload.namespace.is_none();
                let own = self.found(namespace, &name, |kept| !names_another(kept));
                image.entries.extend(own);
                let all = self.found(namespace, &name, |_| is_reference);
                let admitted = all.iter().filter_map(|it| it.entry.digest.clone());
                image.admitted.extend(admitted);
                if namespace != gate {
                    image.entries.extend(self.found(gate, &name, |kept| {
                        is_cluster_scoped(kept) && !names_another(kept)
                    }));
                }
            }
            image
        };
        LookedUp {
            images: change.images.iter().zip(pins).map(of_image).collect(),
            workload: self.entries_of(&change.workload),
        }
    }

    fn found(
        &self,
        namespace: &str,
        name: &str,
        serves: impl Fn(&KeptEntry) -> bool,
    ) -> Vec<Found> {
        let name = RecordName {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let Some((name, record)) = self.records.get_key_value(&name) else {
            return Vec::new();
        };
        let entries = record.entries.iter().filter(|(_, kept)| serves(kept));
        let found = entries.map(|(key, kept)| Found {
            record: Arc::clone(name),
            key: key.clone(),
            entry: Arc::clone(&kept.entry),
        });
        found.collect()
    }

    /// Whether a record has an entry of an object with this template. What an injector added does not change the object.
    pub(super) fn holds(&self, name: &RecordName, workload: &Workload, template: &Digest) -> bool {
        let record = self.get(name);
        let mut entries = record.into_iter().flat_map(|it| it.entries.values());
        entries.any(|kept| {
            let entry = &kept.entry;
            entry.by != AdmittedBy::Injected
                && entry.workload.is_same_object(workload)
                && entry.template == *template
        })
    }

    /// Whether an entry of an object says that a template was staged.
    pub(super) fn holds_staged(&self, workload: &Workload) -> bool {
        let mut entries = self.entries_of(workload).into_iter();
        entries.any(|entry| !entry.running)
    }

    /// Every entry of an object, of all its images.
    pub(super) fn entries_of(&self, workload: &Workload) -> Vec<Arc<RecordEntry>> {
        let records = self.by_workload.get(&object_key(workload));
        let records = records.into_iter().flatten();
        let records = records.filter_map(|name| self.records.get(name));
        let entries = records.flat_map(|record| record.entries.values());
        let own = entries.filter(|kept| {
            // What an injector added does not change the object.
            kept.entry.by != AdmittedBy::Injected && kept.entry.workload.is_same_object(workload)
        });
        own.map(|kept| Arc::clone(&kept.entry)).collect()
    }
}

/// What was judged at an admission that complied, once its object was seen.
fn judged(entry: &RecordEntry) -> impl Iterator<Item = Judged> {
    let complied = entry.by == AdmittedBy::Policy && !entry.complied.is_empty() && entry.observed;
    let approvals = entry.environments.iter().cloned();
    let ages = entry.ages_judged.iter().cloned();
    let judged = approvals.map(Judged::ApprovalsOf);
    let judged = judged.chain(ages.map(Judged::AgesBy));
    judged.filter(move |_| complied)
}

fn object_key(workload: &Workload) -> ObjectKey {
    let Workload {
        group,
        version: _,
        kind,
        namespace,
        name,
    } = workload;
    (group.clone(), kind.clone(), namespace.clone(), name.clone())
}

/// Whether one resource version is newer than another. They are numbers that grow; any others are not compared.
fn is_newer(one: &str, other: &str) -> bool {
    match (one.parse::<u128>(), other.parse::<u128>()) {
        (Ok(one), Ok(other)) => one > other,
        _ => false,
    }
}
