//! What a request asks for, as understood.

use promotion_gate_core::gate::{Change, GovernanceChange, Workload};

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Understood {
    /// A change that is judged.
    Change(Box<Change>),
    /// A change of what the gate decides by.
    Governance(Box<GovernanceChange>),
    /// A change that is judged with another object, which has to be read.
    Refers(Box<Referring>),
    /// The request is not judged.
    NotOurs(NotOurs),
}

/// Why a request is not judged. The list is complete: a request for any other reason is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOurs {
    /// An object is deleted.
    Deletion,
    /// A connection to an object (`exec`, `port-forward`, a proxy).
    Connection,
    /// The kind does not carry images.
    KindWithoutImages,
    /// The subresource does not carry images: status, finalizers, binding, eviction, resources.
    Subresource,
    /// The update does not change what runs.
    NothingThatRuns,
    /// The update does not change what the gate decides by.
    NothingThatDecides,
    /// A release record, which only the gate writes.
    Record,
    /// A trusted controller says what came of an object that was judged, or keeps a copy of it.
    TrustedController,
    /// A kubelet shows a Pod that it runs from a file of its node, whatever is answered.
    MirrorPod,
}

impl NotOurs {
    /// Stable id, in kebab case.
    pub fn id(self) -> &'static str {
        match self {
            NotOurs::Deletion => "deletion",
            NotOurs::Connection => "connection",
            NotOurs::KindWithoutImages => "kind-without-images",
            NotOurs::Subresource => "subresource",
            NotOurs::NothingThatRuns => "nothing-that-runs",
            NotOurs::NothingThatDecides => "nothing-that-decides",
            NotOurs::Record => "record",
            NotOurs::TrustedController => "trusted-controller",
            NotOurs::MirrorPod => "mirror-pod",
        }
    }
}

/// A change that refers to another object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referring {
    pub(super) change: Box<Change>,
    pub(super) referred: Referred,
}

/// The object that a change refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Referred {
    /// The object that is scaled, and its numbers of replicas before and after.
    Scaled(Workload, i64, i64),
    /// The object whose template is run.
    Template(Workload),
}
