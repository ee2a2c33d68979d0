//! A requested change ([`Change`]), and the same change with pinned images, its kind and the time of the review
//! ([`Promotion`]).

use jiff::Timestamp;

use super::evidence::{Collected, Subject};
use super::image::{Digest, ImageReference};

/// A request that the gate judges, as the API server or the CLI passed it on. Nothing is fetched yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The id of the request: the `uid` of an AdmissionReview, or an id that the CLI makes.
    pub id: String,
    /// Create or update.
    pub operation: Operation,
    /// The effect on the running Pods.
    pub effect: ChangeEffect,
    /// The object that is created or changed.
    pub workload: Workload,
    /// The requester, if known (`check` without `--as` does not know it).
    pub actor: Option<Actor>,
    /// Whether the request is a dry run (`dryRun`), which does not change the cluster.
    pub dry_run: bool,
    /// Every image that the object runs or mounts, in document order.
    pub images: Vec<ImageUse>,
    /// The fields of the object that could not be read. They deny the object under every policy that governs it.
    pub unreadable: Vec<UnreadableField>,
}

/// A field of an object that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableField {
    /// Field path; empty for the object as a whole.
    pub field: String,
    /// Why the field could not be read.
    pub why: String,
}

/// A change with pinned images, its kind and the time of the review.
#[derive(Clone, Debug)]
pub struct Promotion {
    /// The requested change.
    pub change: Change,
    /// The kind of change.
    pub kind: ChangeKind,
    /// The time of the review.
    pub at: Timestamp,
    /// The digest of each image of the change, in the same order.
    pub pins: Vec<Pin>,
}

/// The result of pinning one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// The manifest names the digest.
    Written(Digest),
    /// The registry resolved the tag, or could not be asked.
    Resolved(Collected<Digest>),
    /// No requirement needs the digest.
    NotNeeded,
}

impl Promotion {
    /// Classifies a change. `pins` holds the digest of each image in the order of `change.images`; `at` is the time of the review.
    pub fn new(change: Change, pins: Vec<Pin>, at: Timestamp) -> Promotion {
        Promotion {
            kind: ChangeKind::classify(&change),
            change,
            at,
            pins,
        }
    }

    /// Each image of the change with its pin.
    pub fn images(&self) -> impl Iterator<Item = (&ImageUse, &Pin)> {
        self.change.images.iter().zip(&self.pins)
    }
}

impl Pin {
    /// The digest, if it is known.
    pub fn digest(&self) -> Option<&Digest> {
        match self {
            Pin::Written(digest) => Some(digest),
            Pin::Resolved(collected) => collected.value(),
            Pin::NotNeeded => None,
        }
    }

    /// The subject of the image's evidence, if the digest is known.
    pub fn subject(&self, image: &ImageReference) -> Option<Subject> {
        self.digest().map(|digest| Subject {
            repository: image.repository().clone(),
            digest: digest.clone(),
        })
    }
}

/// The operation of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Create a new object.
    Create,
    /// Change an existing object, or its subresource `pods/ephemeralcontainers`.
    Update,
}

/// The effect of a change on the running Pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeEffect {
    /// The change decides which images will run.
    Runs,
    /// The change starts images that were staged: more than zero replicas, no longer paused or suspended, a lower partition.
    Starts,
}

/// The object that is created or changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Workload {
    /// API group; empty for the core group.
    pub group: String,
    /// API version, such as `v1`.
    pub version: String,
    /// Kind, such as `Deployment`.
    pub kind: String,
    /// Namespace; `None` for a cluster-scoped object.
    pub namespace: Option<String>,
    /// `metadata.name`, or `metadata.generateName` followed by `*`.
    pub name: String,
}

/// An authenticated requester (Kubernetes `UserInfo`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// User name, such as `system:serviceaccount:argocd:argocd-application-controller`.
    pub username: String,
    /// Groups, in the order given.
    pub groups: Vec<String>,
}

/// A field of an object that names an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageUse {
    /// Field path, such as `spec.template.spec.containers[0].image`.
    pub field: String,
    /// What the image is used for.
    pub role: Role,
    /// The image, as written and parsed.
    pub reference: ImageReference,
}

/// What an image is used for in a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// `containers`
    Container,
    /// `initContainers`
    InitContainer,
    /// `ephemeralContainers`
    EphemeralContainer,
    /// `volumes[].image.reference`
    ImageVolume,
}

/// The kind of a change. It depends on the requester and on the release record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// A requester creates or changes what runs. All requirements apply.
    Deploy,
    /// A requester starts images that were staged. All requirements apply.
    Activation,
    /// A trusted controller starts images that were admitted before.
    Upkeep {
        /// Whether a record shows that the images were admitted here. Without a record, the rules of class `Integrity` apply, and
        /// those of class `ChangeControl` do not.
        recorded: bool,
    },
    /// A requester changes the policies or the configuration of the gate.
    Governance,
}

impl ChangeKind {
    /// Records do not exist yet, so all requirements apply to every change, by every requester.
    fn classify(change: &Change) -> ChangeKind {
        match change.effect {
            ChangeEffect::Runs => ChangeKind::Deploy,
            ChangeEffect::Starts => ChangeKind::Activation,
        }
    }
}
