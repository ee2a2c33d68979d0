//! What the records say about a change. Entries that nobody saw in the cluster count only after a live read of the object, so that a
//! forged AdmissionReview buys nothing.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use promotion_gate_core::gate::{
    Change, ChangeEffect, ChangeKind, Collected, Digest, Pin, Promotion, RecordEntry, Records,
    TrustedController, Unavailability, Workload,
};
use tokio::time::{Instant, timeout_at};

use super::ReleaseRecords;
use super::background::Job;
use super::identity::said;
use super::memory::{Found, FoundImage, LookedUp};
use super::names::{RecordSubject, written_pins};
use super::writing::random_byte;
use crate::admission;
use crate::cluster::ObjectName;

/// The most objects that are read for one change.
const MAXIMUM_READS: usize = 8;
/// How long a record goes without a note that it was used, in seconds.
const DAY: i64 = 24 * 3600;

/// An object as it is in the cluster now.
pub(super) struct Live {
    workload: Workload,
    uid: String,
    template: Digest,
    is_staged: bool,
}

/// The pending entries that the cluster confirms.
struct Seen {
    roots: Vec<Found>,
    by_owner: Vec<Found>,
}

impl ReleaseRecords {
    /// What the records say about a change, by the digests and references that it names itself.
    pub async fn as_written(
        &self,
        change: &Change,
        trusted: &[TrustedController],
        now: Timestamp,
        deadline: Instant,
    ) -> (Vec<Pin>, Collected<Records>) {
        let pins = written_pins(&change.images);
        let records = self.look_up(change, &pins, trusted, now, deadline).await;
        (pins, records)
    }

    /// What the records say about a change with these pins.
    pub async fn look_up(
        &self,
        change: &Change,
        pins: &[Pin],
        trusted: &[TrustedController],
        now: Timestamp,
        deadline: Instant,
    ) -> Collected<Records> {
        self.asked.store(true, Ordering::Relaxed);
        if let Some(why) = self.unknown() {
            return Collected::Unavailable(Unavailability(format!(
                "release records are not known: {why}"
            )));
        }
        let classifier = Classifier { trusted, pins, now };
        let found = match self.found(change, &classifier, deadline).await {
            Ok(found) => found,
            Err(why) => return Collected::Unavailable(why),
        };
        self.note_use(&found, change, now);
        let has_baseline = self.gate.load().baseline.is_some();
        Collected::Known(found.records(has_baseline))
    }

    async fn found(
        &self,
        change: &Change,
        classifier: &Classifier<'_>,
        deadline: Instant,
    ) -> Result<LookedUp, Unavailability> {
        // 1. What this replica knows.
        let found = self.confirmed(change, classifier, deadline).await?;
        if !classifier.miss(change, &found) {
            return Ok(found);
        }
        // 2. Another replica may have written a record that the watch has not brought yet.
        if !self
            .read_missing(change, classifier, &found, deadline)
            .await?
        {
            return Ok(found);
        }
        self.confirmed(change, classifier, deadline).await
    }

    /// What memory holds, after pending entries on which the change depends were compared with the cluster.
    async fn confirmed(
        &self,
        change: &Change,
        classifier: &Classifier<'_>,
        deadline: Instant,
    ) -> Result<LookedUp, Unavailability> {
        let gate = self.cluster.namespace();
        let found = self.memory().look_up(change, classifier.pins, gate);
        let pending = pending(&found, change);
        if pending.is_empty() || !classifier.would_matter(change, &found) {
            return Ok(found);
        }
        // 1. The entries whose object the cluster shows with this template now.
        let seen = self.seen(change, &pending, classifier, deadline).await?;
        // 2. Those of the objects themselves count at once, here and for every later request; the record says it soon.
        for of in &seen.roots {
            if self.memory_mut().mark(&of.record, &of.key) && !change.dry_run {
                self.later(Job::Mark(of.record.as_ref().clone(), of.key.clone()));
            }
        }
        // 3. Those that an owner runs for count for this request alone.
        let found = self.memory().look_up(change, classifier.pins, gate);
        let is_owned = |of: &Found| {
            let mut owned = seen.by_owner.iter();
            owned.any(|owned| (&owned.record, &owned.key) == (&of.record, &of.key))
        };
        Ok(found.assuming_seen(is_owned))
    }

    /// Reads the records of images that nothing serves. Returns whether there is one.
    async fn read_missing(
        &self,
        change: &Change,
        classifier: &Classifier<'_>,
        found: &LookedUp,
        deadline: Instant,
    ) -> Result<bool, Unavailability> {
        let gate = self.cluster.namespace();
        let namespace = change.workload.namespace.as_deref().unwrap_or(gate);
        let images = change.images.iter().zip(classifier.pins).zip(&found.images);
        let missing = images.filter(|(_, image)| !is_served(&image.entries, change));
        let names: BTreeSet<_> = missing
            .flat_map(|((image, pin), _)| RecordSubject::of_image(image, pin))
            .map(|subject| subject.name())
            .collect();
        let mut exists = false;
        for name in some_of(names, random_byte()) {
            let api = self.api(namespace);
            let read = timeout_at(deadline, api.get_opt(&name)).await;
            let read = match read {
                Ok(read) => read.map_err(said),
                Err(_) => Err("the API server did not answer in time".to_owned()),
            };
            let unknown = |why| Unavailability(format!("the ReleaseRecord `{name}`: {why}"));
            if let Some(object) = read.map_err(unknown)? {
                self.take_in(&object, false).await;
                exists = true;
            }
        }
        Ok(exists)
    }

    /// The pending entries whose object has their template in the cluster, and those of the owner that a trusted controller names.
    async fn seen(
        &self,
        change: &Change,
        pending: &[Found],
        classifier: &Classifier<'_>,
        deadline: Instant,
    ) -> Result<Seen, Unavailability> {
        // 1. The owner, which the record knows or has made.
        let owner = change.object.owner.as_ref();
        let owner = owner.filter(|_| classifier.trusts(change));
        let mut owned = None;
        if let Some(owner) = owner {
            let name = Workload {
                group: owner.group.clone(),
                version: String::new(),
                kind: owner.kind.clone(),
                namespace: change.workload.namespace.clone(),
                name: owner.name.clone(),
            };
            let read = self.live(&name, deadline).await?;
            owned = read.filter(|read| read.uid == owner.uid);
        }
        let by_owner = pending.iter();
        let by_owner = by_owner.filter(|of| owned.as_ref().is_some_and(|it| it.runs(&of.entry)));
        let by_owner: Vec<_> = by_owner.cloned().collect();
        // 2. Where the owner does not serve them, the objects of the entries themselves.
        let mut live: Vec<_> = owned.into_iter().collect();
        let is_shown = |of: &Found, live: &[Live]| live.iter().any(|live| live.shows(&of.entry));
        let keys: BTreeSet<_> = by_owner.iter().map(|of| (&of.record, &of.key)).collect();
        let missing = pending
            .iter()
            .filter(|of| !keys.contains(&(&of.record, &of.key)) && !is_shown(of, &live));
        let roots: BTreeSet<_> = missing.map(|of| of.entry.workload.clone()).collect();
        for root in some_of(roots, random_byte()) {
            live.extend(self.live(&root, deadline).await?);
        }
        let roots = pending.iter().filter(|of| is_shown(of, &live));
        Ok(Seen {
            roots: roots.cloned().collect(),
            by_owner,
        })
    }

    /// An object as it is in the cluster now, if there is one. Its version is that of the table: a record or a request could name one
    /// that is not served.
    pub(super) async fn live(
        &self,
        workload: &Workload,
        deadline: Instant,
    ) -> Result<Option<Live>, Unavailability> {
        let Some(version) = admission::version(&workload.group, &workload.kind) else {
            return Ok(None);
        };
        let is_name = |name: &String| is_object_name(name);
        if !is_name(&workload.name) || !workload.namespace.as_ref().is_none_or(is_name) {
            return Ok(None);
        }
        let name = ObjectName {
            version: version.to_owned(),
            ..ObjectName::from(workload)
        };
        let read = self.cluster.changed_object(&name, deadline).await?;
        Ok(read.and_then(|object| {
            Some(Live {
                workload: workload.clone(),
                uid: object.uid?,
                template: object.template?,
                is_staged: object.is_staged,
            })
        }))
    }

    /// Notes in the background that records are used, at most once a day.
    fn note_use(&self, found: &LookedUp, change: &Change, now: Timestamp) {
        if change.dry_run {
            return;
        }
        let entries = found.images.iter().flat_map(|image| &image.entries);
        let names: BTreeSet<_> = entries.map(|found| &found.record).collect();
        for name in names {
            let last_used = self.memory().get(name).map(|record| record.last_used);
            let is_old = |used: Timestamp| now.as_second() - used.as_second() > DAY;
            if last_used.is_some_and(|used| used.is_none_or(is_old)) {
                self.memory_mut().use_at(name, now);
                self.later(Job::Use(name.as_ref().clone(), now));
            }
        }
    }
}

impl Live {
    /// Whether the object is that of an entry, and runs its template or holds it staged, as the entry says.
    pub(super) fn shows(&self, entry: &RecordEntry) -> bool {
        self.workload.is_same_object(&entry.workload)
            && self.is_it(entry.uid.as_ref())
            && self.runs(entry)
    }

    /// Whether the object has this UID, if one is known.
    pub(super) fn is_it(&self, uid: Option<&String>) -> bool {
        uid.is_none_or(|uid| *uid == self.uid)
    }

    fn runs(&self, entry: &RecordEntry) -> bool {
        self.template == entry.template && !(entry.running && self.is_staged)
    }
}

/// What decides the kind of a change, besides the change and the records.
struct Classifier<'a> {
    trusted: &'a [TrustedController],
    pins: &'a [Pin],
    now: Timestamp,
}

impl Classifier<'_> {
    fn kind(&self, change: &Change, records: Collected<Records>) -> ChangeKind {
        let pins = self.pins.to_vec();
        Promotion::new(change.clone(), pins, records, self.trusted, self.now).kind
    }

    fn kind_by(&self, change: &Change, found: LookedUp) -> ChangeKind {
        self.kind(change, Collected::Known(found.records(true)))
    }

    /// Whether the requester is a controller that is trusted for the object.
    fn trusts(&self, change: &Change) -> bool {
        let actor = change.actor.as_ref();
        actor.is_some_and(|actor| actor.is_trusted_for(&change.workload, self.trusted))
    }

    /// Whether the kind of the change, or what it rests on, depends on entries that are pending.
    fn would_matter(&self, change: &Change, found: &LookedUp) -> bool {
        match self.kind_by(change, found.assuming_seen(|_| true)) {
            ChangeKind::Activation => true,
            assumed => assumed == RECORDED && self.kind_by(change, found.clone()) != RECORDED,
        }
    }

    /// Whether an entry that is not known here could make the change upkeep, or let it start.
    fn miss(&self, change: &Change, found: &LookedUp) -> bool {
        let unknown = Collected::Unavailable(Unavailability(String::new()));
        match self.kind(change, unknown) {
            ChangeKind::Deploy | ChangeKind::Governance => false,
            ChangeKind::Upkeep { .. } => self.kind_by(change, found.clone()) != RECORDED,
            ChangeKind::Activation => {
                let mut images = found.images.iter();
                images.any(|image| !is_served(&image.entries, change))
            }
        }
    }
}

/// As many of these as are read for one change, from a place on that is drawn: those that come late in the order are read for some of
/// the requests too.
fn some_of<T>(all: BTreeSet<T>, from: u8) -> impl Iterator<Item = T> {
    let mut all: Vec<_> = all.into_iter().collect();
    if all.len() > MAXIMUM_READS {
        let from = usize::from(from) % all.len();
        all.rotate_left(from);
    }
    all.into_iter().take(MAXIMUM_READS)
}

/// Whether an API server takes this for the name of an object (RFC 1123 subdomain).
pub(super) fn is_object_name(name: &str) -> bool {
    let is_of_names = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    (1..=253).contains(&name.len()) && name.chars().all(is_of_names)
}

const RECORDED: ChangeKind = ChangeKind::Upkeep { recorded: true };

/// Whether entries serve what the change starts: for an object that starts, its own admission; else any.
fn is_served(entries: &[Found], change: &Change) -> bool {
    let starts = change.effect == ChangeEffect::Starts;
    let mut seen = entries.iter().filter(|found| found.entry.observed);
    seen.any(|found| !starts || is_own(&found.entry, change))
}

/// Whether an entry is about the object and the template of the change.
fn is_own(entry: &RecordEntry, change: &Change) -> bool {
    entry.workload.is_same_object(&change.workload)
        && change.object.template.as_ref() == Some(&entry.template)
}

/// The entries that would serve the change if their objects had been seen, as far as no other entry serves already.
fn pending(found: &LookedUp, change: &Change) -> Vec<Found> {
    let mut pending = Vec::new();
    for FoundImage { entries, .. } in &found.images {
        let is_served = entries.iter().any(|found| found.entry.observed);
        let waiting = entries.iter().filter(|found| !found.entry.observed);
        let waiting = waiting.filter(|found| !is_served || is_own(&found.entry, change));
        pending.extend(waiting.cloned());
    }
    pending
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use promotion_gate_core::gate::{Actor, AdmittedBy, ChangedObject, Operation};

    use super::*;

    fn entry(uid: Option<&str>, template: &[u8]) -> RecordEntry {
        RecordEntry {
            digest: None,
            workload: workload("web"),
            uid: uid.map(str::to_owned),
            template: Digest::sha256(template),
            observed: false,
            running: true,
            complied: BTreeSet::new(),
            by: AdmittedBy::Policy,
            environments: BTreeSet::new(),
            ages_judged: BTreeSet::new(),
            source: None,
            at: Timestamp::UNIX_EPOCH,
        }
    }

    fn workload(name: &str) -> Workload {
        Workload {
            group: "apps".to_owned(),
            version: "v1".to_owned(),
            kind: "Deployment".to_owned(),
            namespace: Some("shop".to_owned()),
            name: name.to_owned(),
        }
    }

    fn live(name: &str, uid: &str, template: &[u8]) -> Live {
        Live {
            workload: workload(name),
            uid: uid.to_owned(),
            template: Digest::sha256(template),
            is_staged: false,
        }
    }

    #[test]
    fn an_entry_is_seen_by_its_object_with_its_template_alone() {
        let pending = entry(Some("1"), b"v1");
        assert!(live("web", "1", b"v1").shows(&pending));
        assert!(live("web", "1", b"v1").shows(&entry(None, b"v1")));
        assert!(!live("web", "1", b"v2").shows(&pending));
        assert!(!live("web", "2", b"v1").shows(&pending), "made again");
        assert!(!live("other", "1", b"v1").shows(&pending));
    }

    #[test]
    fn an_entry_that_says_running_is_not_seen_by_an_object_that_is_staged() {
        let staged = Live {
            is_staged: true,
            ..live("web", "1", b"v1")
        };
        let running = entry(Some("1"), b"v1");
        assert!(!staged.shows(&running));
        let said = RecordEntry {
            running: false,
            ..running
        };
        assert!(staged.shows(&said));
    }

    #[test]
    fn what_cannot_be_the_name_of_an_object_is_not_asked_for() {
        assert!(is_object_name("web-5d4f.example"));
        for name in ["", "x y", "a/b", "..%2f", "Web", &"a".repeat(254)] {
            assert!(!is_object_name(name), "{name}");
        }
    }

    #[test]
    fn of_many_objects_each_is_read_for_some_request() {
        let read =
            |count: usize, from: u8| -> Vec<_> { some_of((0..count).collect(), from).collect() };
        assert_eq!(read(8, 200), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(read(3, 1), [0, 1, 2]);
        assert_eq!(read(9, 8), [8, 0, 1, 2, 3, 4, 5, 6]);
        let all: BTreeSet<_> = (0..=255).flat_map(|from| read(100, from)).collect();
        assert_eq!(all.len(), 100);
    }

    #[test]
    fn only_entries_that_could_serve_are_read_live() {
        let found = |entry: RecordEntry| Found {
            record: Arc::new(super::super::memory::RecordName {
                namespace: "shop".to_owned(),
                name: "sha256-a".to_owned(),
            }),
            key: "1".to_owned(),
            entry: Arc::new(entry),
        };
        let seen = RecordEntry {
            observed: true,
            ..entry(Some("9"), b"other")
        };
        let change = |template: &[u8]| Change {
            id: "1".to_owned(),
            operation: Operation::Update,
            effect: ChangeEffect::Starts,
            workload: workload("web"),
            actor: None,
            dry_run: false,
            object: ChangedObject {
                template: Some(Digest::sha256(template)),
                ..ChangedObject::default()
            },
            images: Vec::new(),
            unreadable: Vec::new(),
        };
        let pending_of = |entries: Vec<RecordEntry>, change: &Change| {
            let entries = entries.into_iter().map(found).collect();
            let looked_up = LookedUp {
                images: vec![FoundImage {
                    entries,
                    ..FoundImage::default()
                }],
                workload: Vec::new(),
            };
            pending(&looked_up, change).len()
        };
        let own = entry(Some("1"), b"v1");
        assert_eq!(pending_of(vec![own.clone()], &change(b"v2")), 1);
        assert_eq!(
            pending_of(vec![own.clone(), seen.clone()], &change(b"v2")),
            0
        );
        assert_eq!(pending_of(vec![own, seen], &change(b"v1")), 1);
    }

    #[test]
    fn a_record_that_another_replica_wrote_is_read_before_upkeep_is_judged() {
        let by = |name: &str| Change {
            id: "1".to_owned(),
            operation: Operation::Create,
            effect: ChangeEffect::Runs,
            workload: Workload {
                kind: "ReplicaSet".to_owned(),
                ..workload("web-5d4f")
            },
            actor: Some(Actor {
                username: format!("system:serviceaccount:kube-system:{name}"),
                groups: Vec::new(),
            }),
            dry_run: false,
            object: ChangedObject {
                template: Some(Digest::sha256(b"v1")),
                ..ChangedObject::default()
            },
            images: Vec::new(),
            unreadable: Vec::new(),
        };
        let starts = Change {
            effect: ChangeEffect::Starts,
            workload: workload("web"),
            operation: Operation::Update,
            ..by("somebody")
        };
        let classifier = Classifier {
            trusted: &[],
            pins: &[],
            now: Timestamp::UNIX_EPOCH,
        };
        let misses = |change: &Change, entry: Option<RecordEntry>| {
            let found = entry.map(|entry| Found {
                record: Arc::new(super::super::memory::RecordName {
                    namespace: "shop".to_owned(),
                    name: "sha256-a".to_owned(),
                }),
                key: "1".to_owned(),
                entry: Arc::new(entry),
            });
            let found = LookedUp {
                images: vec![FoundImage {
                    entries: found.into_iter().collect(),
                    ..FoundImage::default()
                }],
                workload: Vec::new(),
            };
            classifier.miss(change, &found)
        };
        let seen = |template: &[u8]| {
            Some(RecordEntry {
                observed: true,
                ..entry(Some("1"), template)
            })
        };
        assert!(misses(&by("deployment-controller"), None));
        assert!(misses(
            &by("deployment-controller"),
            Some(entry(Some("1"), b"v1"))
        ));
        assert!(!misses(&by("deployment-controller"), seen(b"v1")));
        assert!(!misses(&by("somebody"), None), "a Deploy needs no record");
        assert!(misses(&starts, None));
        assert!(
            misses(&starts, seen(b"v2")),
            "it started with another template"
        );
        assert!(!misses(&starts, seen(b"v1")));
    }
}
