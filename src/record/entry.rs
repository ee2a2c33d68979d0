//! From a review to the entries that record it, and from a stored record to the entries that count. Both are pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use kube::api::DynamicObject;
use promotion_gate_core::gate::{
    ChangeKind, Decision, Digest, Injected, Outcome, Policy, PolicyVerdict, Promotion, RecordEntry,
    Snapshot, Verdict, proven_source,
};
use serde_json::{Map, Value};

use super::key::{Place, PublicKeys};
use super::names::{RecordSubject, entry_key};
use crate::api::{
    EntryRuns, EntryState, WrittenBy, WrittenEmergency, WrittenEntry, WrittenSource,
    WrittenWorkload,
};
use crate::review::Review;

/// The most entries of one record.
pub(super) const MAXIMUM_ENTRIES: usize = 100;
/// The most uses of emergency changes that one entry names, the newest first.
const MAXIMUM_EMERGENCIES: usize = 16;
/// How many are left of a record that holds more.
pub(super) const TRIMMED: usize = 90;
/// How many entries that were not seen yet stay as long as what runs.
const NEWEST: usize = 10;
/// The most entries that are read of one record.
const MAXIMUM_READ: usize = 1000;
/// How long an entry waits for its object to be seen before it is among the first to go, in seconds.
const PENDING: i64 = 300;

/// An admission that is to be recorded, in one record.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct NewEntry {
    pub(super) subject: RecordSubject,
    /// The namespace of the record; `None` for that of the gate.
    pub(super) namespace: Option<String>,
    pub(super) key: String,
    pub(super) entry: WrittenEntry,
    /// Whether the workload leaves another template for this one: it has not run without a break, even if the record knows it.
    pub(super) leaves_another: bool,
}

impl NewEntry {
    pub(super) fn new(
        subject: RecordSubject,
        namespace: Option<String>,
        entry: WrittenEntry,
    ) -> NewEntry {
        NewEntry {
            key: entry_key(&entry),
            subject,
            namespace,
            entry,
            leaves_another: false,
        }
    }
}

/// A record as it is kept in memory.
#[derive(Clone, Debug)]
pub(super) struct KeptRecord {
    pub(super) subject: RecordSubject,
    /// `metadata.uid` of the record.
    pub(super) uid: String,
    /// The UID of its namespace.
    pub(super) namespace_uid: String,
    pub(super) resource_version: String,
    pub(super) last_used: Option<Timestamp>,
    pub(super) entries: BTreeMap<String, KeptEntry>,
}

/// An entry that counts.
#[derive(Clone, Debug)]
pub(super) struct KeptEntry {
    pub(super) entry: Arc<RecordEntry>,
    /// The digest to which a policy resolved the reference.
    pub(super) digest: Option<Digest>,
    /// Whether it names an emergency change.
    pub(super) has_emergency: bool,
    /// The entry as it stands in the record, as JSON.
    pub(super) written: Arc<str>,
}

impl KeptEntry {
    /// The fields of the entry as it stands in the record.
    pub(super) fn fields(&self) -> Map<String, Value> {
        serde_json::from_str(&self.written).unwrap_or_default()
    }

    /// The entry as it stands in the record.
    pub(super) fn parsed(&self) -> Option<WrittenEntry> {
        serde_json::from_str(&self.written).ok()
    }
}

/// What is to be recorded of an admitted change: one entry for each record of each image. Empty for what is not recorded: upkeep,
/// dry runs, and what starts on the record alone.
pub(super) fn entries(review: &Review, snapshot: &Snapshot) -> Vec<NewEntry> {
    let Review {
        promotion,
        evidence,
        verdict,
    } = review;
    let change = &promotion.change;
    if let Some(injected) = &promotion.injected {
        return injected_entries(review, injected);
    }
    let Some(template) = change.object.template.as_ref() else {
        return Vec::new();
    };
    if change.dry_run || !is_recorded(promotion, verdict, snapshot) {
        return Vec::new();
    }
    let governing = snapshot.governing(change);
    let complied = complied(verdict);
    let ages = ages_judged(&complied, &snapshot.policies, promotion);
    let environments = environments(&complied, &snapshot.policies);
    let uid = change.object.uid.as_ref();
    let emergencies = verdict.emergencies();
    let entry = WrittenEntry {
        workload: WrittenWorkload::new(&change.workload, uid),
        template: template.to_string(),
        state: EntryState::Pending,
        runs: match change.object.is_staged {
            true => EntryRuns::Staged,
            false => EntryRuns::Running,
        },
        by: admitted_by(verdict, &complied),
        complied,
        environments,
        ages_judged: BTreeSet::new(),
        source: None,
        digest: None,
        emergency: emergencies
            .iter()
            .map(|used| WrittenEmergency::new(used, promotion.at))
            .collect(),
        at: promotion.at,
        observed_at: None,
        decision: change.id.clone(),
        revision: verdict.revision().to_owned(),
    };
    let mut entries: Vec<NewEntry> = Vec::new();
    for (index, (image, pin)) in promotion.images().enumerate() {
        let source = proven_source(promotion, evidence, &governing, index);
        let source = source.map(|source| WrittenSource {
            repository: source.repository,
            commit: source.commit,
        });
        for subject in RecordSubject::of_image(image, pin) {
            if entries.iter().any(|entry| entry.subject == subject) {
                continue;
            }
            let digest = match &subject {
                RecordSubject::Digest(_) => None,
                RecordSubject::Reference(_) => pin.digest().map(Digest::to_string),
            };
            let of_image = ages
                .iter()
                .filter(|policy| policy.matches_image(&image.reference));
            let entry = WrittenEntry {
                ages_judged: of_image.flat_map(|it| it.bounded_scan_ages()).collect(),
                source: source.clone(),
                digest,
                ..entry.clone()
            };
            let namespace = change.workload.namespace.clone();
            let before = change.object.before.as_ref();
            entries.push(NewEntry {
                leaves_another: before.is_some_and(|before| before != template),
                ..NewEntry::new(subject, namespace, entry)
            });
        }
    }
    entries
}

/// What injectors added to a Pod, recorded for the object for which the Pod is created.
fn injected_entries(review: &Review, injected: &Injected) -> Vec<NewEntry> {
    let (promotion, verdict) = (&review.promotion, &review.verdict);
    let change = &promotion.change;
    if change.dry_run {
        return Vec::new();
    }
    let Injected { parent, .. } = injected;
    let entry = WrittenEntry {
        workload: WrittenWorkload::new(&parent.workload, Some(&parent.uid)),
        template: parent.template.to_string(),
        // The review has read it.
        state: EntryState::Observed,
        runs: EntryRuns::Running,
        by: match verdict.denials().next() {
            None => WrittenBy::Injected,
            Some(_) => WrittenBy::Audit,
        },
        complied: BTreeSet::new(),
        environments: BTreeSet::new(),
        ages_judged: BTreeSet::new(),
        source: None,
        digest: None,
        emergency: Vec::new(),
        at: promotion.at,
        observed_at: Some(promotion.at),
        decision: change.id.clone(),
        revision: verdict.revision().to_owned(),
    };
    let images = promotion.images().enumerate();
    let added = images.filter(|(at, _)| promotion.is_injected(*at));
    let subjects: BTreeMap<_, _> = added
        .flat_map(|(_, (image, pin))| {
            let subjects = RecordSubject::of_image(image, pin).into_iter();
            subjects.map(move |subject| (subject, pin))
        })
        .collect();
    let entries = subjects.into_iter().map(|(subject, pin)| {
        let digest = match &subject {
            RecordSubject::Digest(_) => None,
            RecordSubject::Reference(_) => pin.digest().map(Digest::to_string),
        };
        let entry = WrittenEntry {
            digest,
            ..entry.clone()
        };
        NewEntry::new(subject, change.workload.namespace.clone(), entry)
    });
    entries.collect()
}

fn is_recorded(promotion: &Promotion, verdict: &Verdict, snapshot: &Snapshot) -> bool {
    match promotion.kind {
        ChangeKind::Deploy => true,
        ChangeKind::Activation => {
            let judges = |name: &str| {
                let policy = snapshot.policies.iter().find(|policy| policy.name == name);
                policy.is_none_or(|policy| !promotion.rests_on_record(policy))
            };
            let mut policies = verdict.policies().iter();
            policies.len() == 0 || policies.any(|policy| judges(policy.policy()))
        }
        ChangeKind::Upkeep { .. } | ChangeKind::Governance => false,
    }
}

/// The policies that allowed a change and asked for the ages of its scans. Of a rollback, they did not ask.
fn ages_judged<'p>(
    complied: &BTreeSet<String>,
    policies: &'p [Policy],
    promotion: &Promotion,
) -> Vec<&'p Policy> {
    let complied = policies.iter().filter(|it| complied.contains(&it.name));
    complied
        .filter(|policy| !promotion.is_rollback(policy))
        .collect()
}

/// The environments of policies that allowed a change and require approvals: what takes time was judged there, and ages of
/// approvals are not asked for again.
fn environments(complied: &BTreeSet<String>, policies: &[Policy]) -> BTreeSet<String> {
    let complied = policies.iter().filter(|it| complied.contains(&it.name));
    let timed = complied.filter(|policy| policy.requires_approvals());
    timed
        .filter_map(|policy| policy.environment.clone())
        .collect()
}

/// The policies that allowed the change, none of them by a waiver.
fn complied(verdict: &Verdict) -> BTreeSet<String> {
    let policies = verdict.policies().iter();
    let allowed = policies.filter(|it| it.decision() == Decision::Allow && !is_waived(it));
    allowed.map(|it| it.policy().to_owned()).collect()
}

fn is_waived(policy: &PolicyVerdict) -> bool {
    let mut findings = policy.findings().iter();
    findings.any(|finding| finding.outcome == Outcome::Waived)
}

fn admitted_by(verdict: &Verdict, complied: &BTreeSet<String>) -> WrittenBy {
    let policies = verdict.policies();
    let by_waiver = |it: &PolicyVerdict| it.decision() == Decision::Allow && is_waived(it);
    if policies.iter().any(by_waiver) {
        WrittenBy::Waiver
    } else if !complied.is_empty() {
        WrittenBy::Policy
    } else if policies.is_empty() {
        WrittenBy::Ungoverned
    } else {
        WrittenBy::Audit
    }
}

/// Whether a record says already what a new entry says. What was not seen in the cluster gives way to another Pod of its template,
/// which may come to be seen. Each use of an emergency change is recorded, since the last one says who may review it and from when on; so
/// are ages that were judged, and the return from another template, since the image has not run in between.
pub(super) fn is_known(known: Option<&KeptEntry>, new: &NewEntry) -> bool {
    let NewEntry {
        entry: new,
        leaves_another,
        ..
    } = new;
    known.is_some_and(|known| {
        let RecordEntry { workload, uid, .. } = &*known.entry;
        let is_of_object = new.workload == WrittenWorkload::new(workload, uid.as_ref());
        let is_judged = new.ages_judged.is_subset(&known.entry.ages_judged);
        let parsed = || known.parsed();
        let marked = || parsed().map(|it| it.emergency).unwrap_or_default();
        let returned = || parsed().and_then(|it| it.observed_at) < Some(new.at);
        let is_return = *leaves_another && known.entry.observed && is_of_object;
        (known.entry.observed || is_of_object)
            && is_judged
            && !(is_return && returned())
            && (new.emergency.is_empty() || are_marked(&marked(), &new.emergency))
    })
}

/// Whether an entry names all of these uses of emergency changes already, or later ones by the same requesters.
fn are_marked(known: &[WrittenEmergency], new: &[WrittenEmergency]) -> bool {
    let is_known = |new: &WrittenEmergency| {
        let mut known = known.iter();
        known.any(|it| is_by_same(it, new) && it.admitted >= new.admitted)
    };
    new.iter().all(is_known)
}

/// Whether two uses are of the same emergency change by the same requester, with the incident in the same state. Each requester is kept out
/// of the review, and the tracker may have confirmed the incident for one use and not for another.
fn is_by_same(one: &WrittenEmergency, other: &WrittenEmergency) -> bool {
    one.declaration == other.declaration
        && one.environment == other.environment
        && one.requester == other.requester
        && one.incident_state == other.incident_state
}

/// The uses that two states of an entry name, the newest first, and of several by the same requester the newest.
fn joined_marks(new: Vec<WrittenEmergency>, known: Vec<WrittenEmergency>) -> Vec<WrittenEmergency> {
    let mut joined: Vec<WrittenEmergency> = Vec::new();
    for mark in new.into_iter().chain(known) {
        let same = joined.iter().position(|it| is_by_same(it, &mark));
        let mark = match same.map(|at| joined.swap_remove(at)) {
            Some(other) if other.admitted < mark.admitted => joined_mark(mark, other),
            Some(other) => joined_mark(other, mark),
            None => mark,
        };
        joined.push(mark);
    }
    joined.sort_by_key(|it| Reverse(it.admitted));
    let dropped = joined.split_off(joined.len().min(MAXIMUM_EMERGENCIES));
    for mark in dropped {
        fold_into(&mut joined, mark);
    }
    joined
}

/// Adds the people and the earlier review of a use for which there is no room to the oldest use of the same emergency change.
fn fold_into(kept: &mut [WrittenEmergency], mark: WrittenEmergency) {
    let mut oldest_first = kept.iter_mut().rev();
    let same = oldest_first
        .find(|it| it.declaration == mark.declaration && it.environment == mark.environment);
    if let Some(same) = same {
        *same = joined_mark(same.clone(), mark);
    }
}

/// The newer of two uses of one emergency change, with everybody who declared, agreed to or wrote either of them, and the earlier time of
/// review: the older use may not be kept elsewhere yet. Of two requesters, only the newer one stays.
fn joined_mark(newer: WrittenEmergency, older: WrittenEmergency) -> WrittenEmergency {
    let mut mark = newer;
    mark.declared_by.extend(older.declared_by);
    mark.approved_by.extend(older.approved_by);
    mark.authors.extend(older.authors);
    mark.unknown_author |= older.unknown_author;
    mark.incident_opened_by = mark.incident_opened_by.or(older.incident_opened_by);
    mark.policies.extend(older.policies);
    mark.waived.extend(older.waived);
    mark.images.extend(older.images);
    mark.review_due = mark.review_due.min(older.review_due);
    mark
}

/// The entry to write in place of a known one of the same key: the uses of emergency changes and the judged ages of both are kept, and that
/// the object was seen; if the workload returns from another template, from now on.
pub(super) fn replacing_known(known: Option<&KeptEntry>, new: &NewEntry) -> WrittenEntry {
    let mut entry = new.entry.clone();
    let Some(known) = known.and_then(KeptEntry::parsed) else {
        return entry;
    };
    entry.emergency = joined_marks(entry.emergency, known.emergency);
    entry.ages_judged.extend(known.ages_judged);
    if known.state == EntryState::Observed && known.workload == entry.workload {
        entry.state = EntryState::Observed;
        entry.observed_at = known.observed_at;
        if new.leaves_another {
            entry.observed_at = Some(entry.at);
            // Until when it ran before, which limits rollbacks, stays as it was.
            entry.at = known.at;
        }
    }
    entry
}

/// The keys of entries to drop from a record that holds too many: first those of objects that are gone, then those that were not
/// seen within five minutes, then those that were not seen yet but for the newest ten, and the oldest first among each. What runs
/// goes last.
pub(super) fn to_drop(
    entries: &BTreeMap<String, KeptEntry>,
    is_gone: impl Fn(&RecordEntry) -> bool,
    now: Timestamp,
) -> Vec<String> {
    if entries.len() <= MAXIMUM_ENTRIES {
        return Vec::new();
    }
    let excess = entries.len().saturating_sub(TRIMMED);
    let pending = entries.values().filter(|kept| !kept.entry.observed);
    let mut newest: Vec<_> = pending.map(|kept| kept.entry.at).collect();
    newest.sort_unstable_by(|a, b| b.cmp(a));
    let newest = newest.get(NEWEST).copied();
    let rank = |entry: &RecordEntry| {
        let waits = now.as_second().saturating_sub(entry.at.as_second()) > PENDING;
        // What was just admitted may not be stored yet.
        match (is_gone(entry), entry.observed) {
            (_, false) if !waits && newest.is_none_or(|newest| entry.at > newest) => 3,
            (_, false) if !waits => 2,
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => 3,
        }
    };
    let mut order: Vec<_> = entries
        .iter()
        .map(|(key, kept)| (rank(&kept.entry), kept.entry.at, key))
        .collect();
    order.sort();
    let first = order.into_iter().take(excess);
    first.map(|(_, _, key)| key.clone()).collect()
}

/// The entries of a stored record that count, and why others do not. `None` if the record as a whole is not one of ours.
pub(super) fn read_record(
    object: &DynamicObject,
    keys: &PublicKeys,
    cluster: &str,
    namespace_uid: &str,
    known: Option<&KeptRecord>,
) -> Option<(KeptRecord, Vec<(String, &'static str)>)> {
    let name = object.metadata.name.as_deref()?;
    let namespace = object.metadata.namespace.as_deref()?;
    let spec = object.data.get("spec")?;
    let text = |field: &str| spec.get(field).and_then(Value::as_str);
    let digest: Option<Digest> = text("digest").and_then(|digest| digest.parse().ok());
    let reference = || text("reference").map(str::to_owned);
    let subject = digest
        .clone()
        .map(RecordSubject::Digest)
        .or_else(|| reference().map(RecordSubject::Reference))
        .filter(|subject| subject.name() == name)?;
    let (mut entries, mut refused) = (BTreeMap::new(), Vec::new());
    let stored = spec.get("entries").and_then(Value::as_object);
    for (key, value) in stored.into_iter().flatten() {
        let place = Place {
            cluster,
            namespace: namespace_uid,
            record: name,
            key,
        };
        let kept = known.and_then(|known| known.entries.get(key));
        let read = match kept {
            // What was verified in this place is not verified again.
            Some(kept) if *kept.written == *value.to_string() => Ok(kept.clone()),
            _ if entries.len() < MAXIMUM_READ => {
                read_entry(value, keys, place, namespace, digest.as_ref())
            }
            _ => Err("too-many"),
        };
        match read {
            Ok(entry) => {
                entries.insert(key.clone(), entry);
            }
            Err(why) => refused.push((key.clone(), why)),
        }
    }
    let record = KeptRecord {
        subject,
        uid: object.metadata.uid.clone().unwrap_or_default(),
        namespace_uid: namespace_uid.to_owned(),
        resource_version: object.metadata.resource_version.clone().unwrap_or_default(),
        last_used: text("lastUsed").and_then(|time| time.parse().ok()),
        entries,
    };
    Some((record, refused))
}

fn read_entry(
    value: &Value,
    keys: &PublicKeys,
    place: Place<'_>,
    namespace: &str,
    digest: Option<&Digest>,
) -> Result<KeptEntry, &'static str> {
    let fields = value.as_object().ok_or("not-an-entry")?;
    keys.verify(place, fields).map_err(|why| why.id())?;
    let written: WrittenEntry =
        serde_json::from_value(value.clone()).map_err(|_| "not-an-entry")?;
    let entry = written.parse(digest).ok_or("not-an-entry")?;
    let is_elsewhere = |of: &String| of != namespace;
    if entry_key(&written) != place.key
        || entry.workload.namespace.as_ref().is_some_and(is_elsewhere)
    {
        return Err("another-place");
    }
    Ok(KeptEntry {
        entry: Arc::new(entry),
        has_emergency: !written.emergency.is_empty(),
        digest: written.digest.and_then(|digest| digest.parse().ok()),
        written: value.to_string().into(),
    })
}

#[cfg(test)]
mod tests;
