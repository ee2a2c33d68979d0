//! What was admitted before, as release records say it: the entries that a review looks at, and what follows from them.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::image::Digest;
use super::policy::Policy;
use super::promotion::{Change, Workload};

/// An admission of one image, for one workload and one template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordEntry {
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
    /// The environments of the policies that allowed it.
    pub environments: BTreeSet<String>,
    /// The source that verified provenance names.
    pub source: Option<RecordedSource>,
    /// When it was admitted.
    pub at: Timestamp,
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
    /// The environments in which its digest was admitted and complied, in any namespace.
    pub environments: BTreeSet<String>,
}

impl Records {
    /// Whether every image was admitted in this namespace before, by an admission that was seen in the cluster.
    pub(super) fn serve_upkeep(&self) -> bool {
        let is_served = |image: &ImageRecords| image.entries.iter().any(|entry| entry.observed);
        self.images.iter().all(is_served)
    }

    /// Whether every image ran in this workload with this template, and complied with the policy.
    pub(super) fn ran(&self, change: &Change, policy: &Policy) -> bool {
        let ran = |entry: &&Arc<RecordEntry>| entry.ran_in(change) && entry.has_complied(policy);
        !self.images.is_empty()
            && self
                .images
                .iter()
                .all(|image| image.entries.iter().find(ran).is_some())
    }

    /// Whether the change goes back to a template of this workload that ran before the present one, complied with the policy, and
    /// was replaced within the policy's rollback window.
    pub(super) fn roll_back(&self, change: &Change, policy: &Policy, now: Timestamp) -> bool {
        let Some(template) = &change.object.template else {
            return false;
        };
        let before = self.workload.iter().filter(|it| it.template == *template);
        let Some(last) = before.map(|entry| entry.at).max() else {
            return false;
        };
        let later = self.workload.iter().filter(|entry| entry.at > last);
        let Some(replaced) = later.map(|entry| entry.at).min() else {
            return false;
        };
        let is_recent = now.duration_since(replaced) <= policy.rollback_window.duration();
        is_recent && self.ran(change, policy)
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

    fn entry(template: &[u8], days_ago: i64) -> RecordEntry {
        RecordEntry {
            workload: workload(),
            uid: Some("1".to_owned()),
            template: Digest::sha256(template),
            observed: true,
            running: true,
            complied: ["p".to_owned()].into(),
            by: AdmittedBy::Policy,
            environments: BTreeSet::new(),
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
        }
    }

    /// The records of one image with these entries, the first of which is of the image itself.
    fn records(entries: impl IntoIterator<Item = RecordEntry>) -> Records {
        let workload: Vec<_> = entries.into_iter().map(Arc::new).collect();
        let of_image = ImageRecords {
            entries: workload.iter().take(1).cloned().collect(),
            environments: BTreeSet::new(),
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
        assert!(records([entry(V1, 1)]).ran(&change, &policy));
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
                !records([differing.clone()]).ran(&change, &policy),
                "{differing:?}"
            );
        }
        assert!(!Records::default().ran(&change, &policy));
    }

    #[test]
    fn a_rollback_goes_back_to_what_was_replaced_within_the_window() {
        let policy = policy();
        let back =
            |entries: [RecordEntry; 2]| records(entries).roll_back(&change(V1), &policy, now());
        assert!(back([entry(V1, 300), entry(V2, 13)]));
        assert!(!back([entry(V1, 300), entry(V2, 15)]), "the window is over");
        assert!(
            !back([entry(V1, 1), entry(V2, 2)]),
            "the present template is no rollback"
        );
        let audited = RecordEntry {
            by: AdmittedBy::Audit,
            ..entry(V1, 3)
        };
        assert!(!back([audited, entry(V2, 2)]));
        assert!(!records([entry(V1, 3)]).roll_back(&change(V1), &policy, now()));
        assert!(!records([entry(V1, 3), entry(V2, 2)]).roll_back(&change(b"v3"), &policy, now()));
    }
}
