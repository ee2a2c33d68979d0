//! The gate itself: from a change somebody asked for to one explained verdict.

mod evidence;
mod finding;
mod glob;
mod image;
mod judge;
mod pattern;
mod policy;
mod promotion;
mod rules;
mod signer;
mod snapshot;
mod verdict;

pub use evidence::{Collected, Evidence, ImageEvidence, Source, Subject, Trouble};
pub use finding::{Finding, Outcome, Target};
pub use glob::{Glob, GlobError};
pub use image::{Digest, DigestError, ImageReference, ReferenceError};
pub use judge::judge;
pub use pattern::{ImagePattern, PatternError};
pub use policy::{
    Enforcement, Governs, LabelOperator, LabelSelector, LabelTerm, NamedRequirement,
    NamespaceMatch, Policy, Tags, Uncovered,
};
pub use promotion::{
    Actor, Change, ChangeKind, ImageUse, Operation, Pin, Promotion, Role, UnreadableField, Workload,
};
pub use rules::{Need, Requirement, RequirementEntry};
pub use signer::{DEFAULT_TRUST_ROOT, Matcher, TrustRoots};
pub use snapshot::{Certainty, Governing, Snapshot, Ungoverned, Unreadable};
pub use verdict::{Decision, PolicyVerdict, Verdict};
