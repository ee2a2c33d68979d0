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
