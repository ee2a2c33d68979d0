//! What was admitted before, as release records say it: the entries that a review looks at, and what follows from them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::evidence::{Collected, Unavailability};
use super::image::Digest;
use super::policy::Policy;
use super::promotion::{Change, Pin, Workload};
use super::world::Revocation;

/// An admission of one image, for one workload and one template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordEntry {
    /// The digest that was admitted; `None` for a reference without a digest that no policy resolved.
    pub digest: Option<Digest>,
    /// The object whose request was the Deploy.
    pub workload: Workload,
    /// The `metadata.uid` of that object, once it is known.
    pub uid: Option<String>,
    /// The digest of the template: of everything that decides what runs.
    pub template: Digest,
    /// Whether the object was seen in the cluster with this template. Before that, a forged request may have made the entry.
    pub observed: bool,
    /// Whether the change let the template run; otherwise it was staged (no replicas, paused, suspended).
    pub running: bool,
    /// The names of the policies that allowed it, none of them by waiver; empty if it did not comply.
    pub complied: BTreeSet<String>,
    /// Why it was admitted.
    pub by: AdmittedBy,
    /// The environments of the policies that allowed it and require approvals.
    pub environments: BTreeSet<String>,
    /// The ages that policies judged that allowed it, as [`ScanAge::judged_by`] writes them.
    pub ages_judged: BTreeSet<String>,
    /// The source that verified provenance names.
    pub source: Option<RecordedSource>,
    /// When it was admitted.
    pub at: Timestamp,
}

/// An age that a policy can bound, and does not ask again of what it admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanAge {
    /// The age of the scan.
    Scan,
    /// The age of the scanner's database.
    Database,
}

impl ScanAge {
    /// The text in a record that says that this policy judged the age.
    pub fn judged_by(self, policy: &str) -> String {
        match self {
            ScanAge::Scan => policy.to_owned(),
            ScanAge::Database => format!("{policy} (database)"),
        }
    }
}

/// Why an image was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdmittedBy {
    /// Policies allowed it.
    Policy,
    /// An emergency change waived a requirement.
    Waiver,
    /// A policy denied it, and did not enforce.
    Audit,
    /// No policy governed it.
    Ungoverned,
    /// It ran before the gate recorded anything.
    Baseline,
    /// An injector added it to a Pod.
    Injected,
}

/// The source of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedSource {
    /// The identifier of the repository that the platform gives, or the repository's URI.
    pub repository: String,
    /// The commit.
    pub commit: String,
}

/// What release records say about the images and the workload of one change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// For each image of the change, in its order.
    pub images: Vec<ImageRecords>,
    /// Every entry of the workload, of all its images.
    pub workload: Vec<Arc<RecordEntry>>,
    /// Whether what ran before the gate came is recorded by now. Until then, an image without an entry may be one of those.
    pub has_baseline: bool,
}

/// What release records say about one image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageRecords {
    /// The entries of its digest or its reference that serve the namespace of the change.
    pub entries: Vec<Arc<RecordEntry>>,
    /// The environments in which its digest was admitted by a policy that requires approvals, complied and ran, in any namespace.
    pub environments: BTreeSet<String>,
    /// The ages of its digest's scans that policies judged, where it complied and ran, in any namespace; as [`ScanAge::judged_by`]
    /// writes them.
    pub ages_judged: BTreeSet<String>,
    /// Every digest with which the reference was admitted in this namespace; a node may still have each of them.
    pub admitted: BTreeSet<Digest>,
}

/// Why there are no records where none are kept.
const NOT_KEPT: &str = "there are no release records here";

impl Records {
    /// The records where none are kept: in a command without a cluster, and in a webhook on files.
    pub fn not_kept() -> Collected<Records> {
        Collected::Unavailable(Unavailability(NOT_KEPT.to_owned()))
    }

    /// Whether records are kept here, although they may be unavailable at present.
    pub fn are_kept(records: &Collected<Records>) -> bool {
        !matches!(records, Collected::Unavailable(why) if why.0 == NOT_KEPT)
    }

    /// Whether every image was admitted in this namespace before, by an admission that was seen in the cluster.
    pub(super) fn serve_upkeep(&self) -> bool {
        self.unrecorded().next().is_none()
    }

    /// The images that no admission serves which was seen in the cluster, by their place in the change.
    pub(super) fn unrecorded(&self) -> impl Iterator<Item = usize> {
        let images = self.images.iter().enumerate();
        let served = |image: &ImageRecords| image.entries.iter().any(|entry| entry.observed);
        images.filter_map(move |(at, image)| (!served(image)).then_some(at))
    }

    /// Whether every image ran in this workload with this template, and complied with the policy.
    pub(super) fn ran(&self, change: &Change, pins: &[Pin], policy: &Policy) -> bool {
        let ran = |(image, pin): (&ImageRecords, &Pin)| {
            let mut entries = image.entries.iter();
            entries
                .any(|entry| entry.ran_in(change) && entry.is_of(pin) && entry.has_complied(policy))
        };
        !pins.is_empty() && self.images.len() == pins.len() && self.images.iter().zip(pins).all(ran)
    }

    /// Whether every image ran in this workload with this template, however it was admitted.
    pub(super) fn has_run(&self, change: &Change) -> bool {
        let ran = |image: &ImageRecords| image.entries.iter().any(|entry| entry.ran_in(change));
        !self.images.is_empty() && self.images.iter().all(ran)
    }

    /// When the template of the change was replaced, if the change goes back to a template of this workload that ran before the
    /// present one, complied with the policy, and was replaced within the policy's rollback window.
    pub(super) fn ran_until(
        &self,
        change: &Change,
        pins: &[Pin],
        policy: &Policy,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let (template, present) = (&change.object.template, &change.object.before);
        let (template, present) = template.as_ref().zip(present.as_ref())?;
        if template == present {
            return None;
        }
        // A request that was never stored replaced nothing.
        let stored = self.workload.iter();
        let stored = stored.filter(|it| it.observed || it.template == *present);
        let (same, others): (Vec<_>, Vec<_>) = stored.partition(|it| it.template == *template);
        let last = same.iter().map(|entry| entry.at).max()?;
        // Where it was admitted last of all, it was replaced by going back, which is later than its own admission.
        let later = others.iter().map(|entry| entry.at).filter(|at| *at > last);
        let replaced = later.min().unwrap_or(last);
        let is_recent = now.duration_since(replaced) <= policy.rollback_window.duration();
        (is_recent && self.ran(change, pins, policy)).then_some(replaced)
    }

    /// The commits of the source after which a change of the workload begins: that of the last admission that complied with the
    /// policy and was seen in the cluster, and those of admissions after it that were not seen yet.
    pub(super) fn commits_before(
        &self,
        policy: &Policy,
        is_source: impl Fn(&RecordedSource) -> bool,
    ) -> BTreeSet<&str> {
        let complied = self.workload.iter().filter(|it| it.has_complied(policy));
        let complied = complied.filter_map(|entry| {
            let source = entry.source.as_ref().filter(|source| is_source(source))?;
            Some((entry, source.commit.as_str()))
        });
        let complied: Vec<_> = complied.collect();
        let seen = complied.iter().filter(|(entry, _)| entry.observed);
        let last = seen.map(|(entry, _)| entry.at).max();
        let since = complied.iter().filter(|(entry, _)| Some(entry.at) >= last);
        since.map(|(_, commit)| *commit).collect()
    }
}

impl ImageRecords {
    /// The digests that were admitted and are revoked, each with its revocation.
    pub(super) fn revoked<'r>(
        &self,
        revocations: &'r BTreeMap<Digest, Revocation>,
    ) -> BTreeMap<&'r Digest, &'r Revocation> {
        let digests = self.entries.iter().filter_map(|it| it.digest.as_ref());
        let digests = digests.chain(&self.admitted);
        digests
            .filter_map(|digest| revocations.get_key_value(digest))
            .collect()
    }
}

impl RecordEntry {
    /// Whether the entry is about the object and the template of the change, and was seen running.
    fn ran_in(&self, change: &Change) -> bool {
        let is_same_object = match (&self.uid, &change.object.uid) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        };
        self.observed
            && self.running
            && is_same_object
            && self.workload.is_same_object(&change.workload)
            && change.object.template.as_ref() == Some(&self.template)
    }

    /// Whether the entry is about the digest that the image has now. A tag that names another digest by now did not run.
    fn is_of(&self, pin: &Pin) -> bool {
        pin.digest()
            .is_none_or(|digest| self.digest.as_ref() == Some(digest))
    }

    fn has_complied(&self, policy: &Policy) -> bool {
        self.by == AdmittedBy::Policy && self.complied.contains(&policy.name)
    }
}

#[cfg(test)]
mod tests {
    use super::super::age::Age;
    use super::super::policy::{Enforcement, NamespaceMatch, Uncovered};
    use super::super::promotion::{ChangeEffect, ChangedObject, Operation};
    use super::*;

    const V1: &[u8] = b"v1";
    const V2: &[u8] = b"v2";

    fn workload() -> Workload {
        Workload {
            group: "apps".to_owned(),
            version: "v1".to_owned(),
            kind: "Deployment".to_owned(),
            namespace: Some("shop".to_owned()),
            name: "web".to_owned(),
        }
    }

    /// The digest of the image of a template.
    fn image(template: &[u8]) -> Digest {
        Digest::sha256(&[template, b" image"].concat())
    }

    fn pins(template: &[u8]) -> Vec<Pin> {
        vec![Pin::Written(image(template))]
    }

    fn entry(template: &[u8], days_ago: i64) -> RecordEntry {
        RecordEntry {
            digest: Some(image(template)),
            workload: workload(),
            uid: Some("1".to_owned()),
            template: Digest::sha256(template),
            observed: true,
            running: true,
            complied: ["p".to_owned()].into(),
            by: AdmittedBy::Policy,
            environments: BTreeSet::new(),
            ages_judged: BTreeSet::new(),
            source: None,
            at: now() - jiff::SignedDuration::from_hours(24 * days_ago),
        }
    }

    fn now() -> Timestamp {
        Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(24 * 365)
    }

    fn change(template: &[u8]) -> Change {
        Change {
            id: "1".to_owned(),
            operation: Operation::Update,
            effect: ChangeEffect::Runs,
            workload: workload(),
            actor: None,
            dry_run: false,
            object: ChangedObject {
                uid: Some("1".to_owned()),
                template: Some(Digest::sha256(template)),
                ..ChangedObject::default()
            },
            images: Vec::new(),
            unreadable: Vec::new(),
        }
    }

    fn policy() -> Policy {
        Policy {
            name: "p".to_owned(),
            environment: None,
            enforcement: Enforcement::Enforce,
            namespaces: NamespaceMatch::default(),
            images: None,
            platforms: None,
            allow_unsigned_index: false,
            staleness: Age::HOUR,
            rollback_window: Age::FORTNIGHT,
            requirements: Vec::new(),
            uncovered: Uncovered::Deny,
            injected: Vec::new(),
            emergency: None,
        }
    }

    /// The records of one image with these entries, the first of which is of the image itself.
    fn records(entries: impl IntoIterator<Item = RecordEntry>) -> Records {
        let workload: Vec<_> = entries.into_iter().map(Arc::new).collect();
        let of_image = ImageRecords {
            entries: workload.iter().take(1).cloned().collect(),
            ..ImageRecords::default()
        };
        Records {
            images: vec![of_image],
            workload,
            has_baseline: true,
        }
    }

    #[test]
    fn what_ran_here_and_complied_may_start_again() {
        let (policy, change) = (policy(), change(V1));
        assert!(records([entry(V1, 1)]).ran(&change, &pins(V1), &policy));
        let differing = [
            RecordEntry {
                observed: false,
                ..entry(V1, 1)
            },
            RecordEntry {
                running: false,
                ..entry(V1, 1)
            },
            RecordEntry {
                complied: BTreeSet::new(),
                ..entry(V1, 1)
            },
            RecordEntry {
                by: AdmittedBy::Waiver,
                ..entry(V1, 1)
            },
            RecordEntry {
                by: AdmittedBy::Audit,
                ..entry(V1, 1)
            },
            RecordEntry {
                by: AdmittedBy::Baseline,
                ..entry(V1, 1)
            },
            RecordEntry {
                uid: Some("2".to_owned()),
                ..entry(V1, 1)
            },
            RecordEntry {
                workload: Workload {
                    name: "other".to_owned(),
                    ..workload()
                },
                ..entry(V1, 1)
            },
            entry(V2, 1),
        ];
        for differing in differing {
            assert!(
                !records([differing.clone()]).ran(&change, &pins(V1), &policy),
                "{differing:?}"
            );
        }
        assert!(!Records::default().ran(&change, &pins(V1), &policy));
    }

    #[test]
    fn a_rollback_goes_back_to_what_was_replaced_within_the_window() {
        let policy = policy();
        let to = |template: &[u8], entries: Vec<RecordEntry>| {
            let mut change = change(template);
            change.object.before = Some(Digest::sha256(if template == V1 { V2 } else { V1 }));
            records(entries).ran_until(&change, &pins(template), &policy, now())
        };
        let back = |entries: [RecordEntry; 2]| to(V1, entries.into());
        assert_eq!(
            back([entry(V1, 300), entry(V2, 13)]),
            Some(entry(V2, 13).at)
        );
        let over = back([entry(V1, 300), entry(V2, 15)]);
        assert_eq!(over, None, "the window is over");
        let forward = back([entry(V1, 1), entry(V2, 2)]);
        assert_eq!(
            forward,
            Some(entry(V1, 1).at),
            "V1, V2, V1, V2, and V1 again"
        );
        let mut present = change(V1);
        present.object.before = Some(Digest::sha256(V1));
        let entries = [entry(V1, 1), entry(V2, 2)];
        let present = records(entries).ran_until(&present, &pins(V1), &policy, now());
        assert_eq!(
            present, None,
            "a change to the present template is not a rollback"
        );
        let moved = RecordEntry {
            digest: Some(image(V2)),
            ..entry(V1, 300)
        };
        let moved = back([moved, entry(V2, 13)]);
        assert_eq!(moved, None, "the tag names another digest by now");
        let audited = RecordEntry {
            by: AdmittedBy::Audit,
            ..entry(V1, 3)
        };
        assert_eq!(back([audited, entry(V2, 2)]), None);
        assert_eq!(to(b"v3", vec![entry(V1, 3), entry(V2, 2)]), None);
        let unknown = records([entry(V1, 3)]);
        let unknown = unknown.ran_until(&change(V1), &pins(V1), &policy, now());
        assert_eq!(unknown, None, "what is replaced is not known");
    }

    #[test]
    fn a_request_that_was_never_stored_changes_no_rollback() {
        let policy = policy();
        let mut back = change(V1);
        back.object.before = Some(Digest::sha256(V2));
        let pending = |template: &[u8], days| RecordEntry {
            observed: false,
            ..entry(template, days)
        };
        let entries = [entry(V1, 300), entry(V2, 2), pending(b"v3", 100)];
        let until = records(entries).ran_until(&back, &pins(V1), &policy, now());
        assert_eq!(until, Some(entry(V2, 2).at), "v3 never replaced V1");
        let entries = [entry(V1, 300), pending(V2, 0)];
        let until = records(entries).ran_until(&back, &pins(V1), &policy, now());
        assert_eq!(until, Some(entry(V2, 0).at), "V2 is present");
    }
}
