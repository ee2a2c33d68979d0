//! What a rule says about an image or a workload.

use std::sync::Arc;

use super::image::Digest;

/// One sentence of the explanation of a verdict.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The rule, such as `signature`; the engine's own findings name `coverage`, `governance` or `object`.
    pub rule: &'static str,
    /// The name that the policy gives to the requirement, where it gives one.
    pub requirement: Option<String>,
    /// What it is about.
    pub target: Target,
    /// What the rule says.
    pub outcome: Outcome,
    /// Stable id of the reason, in kebab case.
    pub reason: &'static str,
    /// The reason in words, with the culprit.
    pub detail: String,
    /// What to do next; a command where there is one.
    pub hint: Option<String>,
}

/// What a finding is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The object as a whole.
    Workload,
    /// A field of the object that could not be understood.
    Field(String),
    /// One image of the object.
    Image(Arc<ImageTarget>),
}

/// One image of an object, as findings name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageTarget {
    /// Field path, such as `spec.containers[0].image`.
    pub field: String,
    /// The reference as written.
    pub written: String,
    /// The digest that was judged, where one is known.
    pub digest: Option<Digest>,
}

/// What a rule says. The order is from worst to best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The requirement is not met.
    Fail,
    /// It could not be decided; denies.
    Undecided,
    /// An emergency change lifts the requirement.
    Waived,
    /// The requirement is met.
    Pass,
    /// It does not apply here.
    Skip,
}

impl Outcome {
    /// Whether this outcome denies.
    pub fn denies(self) -> bool {
        match self {
            Outcome::Fail | Outcome::Undecided => true,
            Outcome::Waived | Outcome::Pass | Outcome::Skip => false,
        }
    }

    /// `fail`, `undecided`, `waived`, `pass` or `skip`.
    pub fn id(self) -> &'static str {
        match self {
            Outcome::Fail => "fail",
            Outcome::Undecided => "undecided",
            Outcome::Waived => "waived",
            Outcome::Pass => "pass",
            Outcome::Skip => "skip",
        }
    }
}
