//! What somebody asked the cluster for ([`Change`]), and the same with its images pinned, classified, at an instant
//! ([`Promotion`]).

use jiff::Timestamp;

use super::evidence::{Collected, Subject};
use super::image::{Digest, ImageReference};

/// A request that is ours to judge, as it was asked: nothing fetched, nothing decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The id of the request: the `uid` of an AdmissionReview, or one made up by the CLI.
    pub id: String,
    /// Create or update.
    pub operation: Operation,
    /// What it does to what runs.
    pub effect: ChangeEffect,
    /// The object that is created or changed.
    pub workload: Workload,
    /// Who asks, where that is known (`check` without `--as` does not know).
    pub actor: Option<Actor>,
    /// Whether the API server only tries the request out (`dryRun`).
    pub dry_run: bool,
    /// Every image that the object runs or mounts, in document order.
    pub images: Vec<ImageUse>,
    /// What of the object could not be understood; denied wherever a policy governs.
    pub unreadable: Vec<UnreadableField>,
}

/// A part of an object that could not be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableField {
    /// Field path; empty for the object as a whole.
    pub field: String,
    /// What is wrong with it.
    pub why: String,
}

/// A change with its images pinned, classified, at an instant.
#[derive(Clone, Debug)]
pub struct Promotion {
    /// What was asked.
    pub change: Change,
    /// What kind of change it is.
    pub kind: ChangeKind,
    /// When it is judged.
    pub at: Timestamp,
    /// The digest of each image of the change, in the same order.
    pub pins: Vec<Pin>,
}

/// What became of pinning one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// The manifest names the digest.
    Written(Digest),
    /// The registry resolved the tag, or could not be asked.
    Resolved(Collected<Digest>),
    /// No requirement asks for it.
    NotNeeded,
}

impl Promotion {
    /// The change with the digest of each of its images, in the same order, classified, at the instant at which it is judged.
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
    /// The digest, where it is known.
    pub fn digest(&self) -> Option<&Digest> {
        match self {
            Pin::Written(digest) => Some(digest),
            Pin::Resolved(collected) => collected.value(),
            Pin::NotNeeded => None,
        }
    }

    /// What evidence about this image is about, where its digest is known.
    pub fn subject(&self, image: &ImageReference) -> Option<Subject> {
        self.digest().map(|digest| Subject {
            repository: image.repository().clone(),
            digest: digest.clone(),
        })
    }
}

/// What the API server is asked to do with the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new object.
    Create,
    /// A change of an existing object (its `pods/ephemeralcontainers` subresource included).
    Update,
}

/// What a change does to what runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeEffect {
    /// It changes what will run.
    Runs,
    /// It lets run what was staged: replicas from none to some, no longer paused or suspended, a lowered partition.
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

/// One place in an object that names an image.
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

/// The kind of a change, by who asks and what the record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Creates or changes what runs: all requirements apply.
    Deploy,
    /// Lets run what was staged.
    Activation,
    /// A trusted controller runs what was admitted before.
    Upkeep {
        /// Whether the record says that it was admitted here. Where there is no record, rules that speak of the change itself
        /// do not apply, and those that speak of the images do.
        recorded: bool,
    },
    /// Changes what the gate decides by.
    Governance,
}

impl ChangeKind {
    /// Without a record of what was admitted, everything that is ours is judged by all requirements, whoever asks.
    fn classify(change: &Change) -> ChangeKind {
        match change.effect {
            ChangeEffect::Runs => ChangeKind::Deploy,
            ChangeEffect::Starts => ChangeKind::Activation,
        }
    }
}
