//! What a rule says about an image or a workload.

use std::sync::Arc;

use super::image::Digest;
use crate::reason::Reason;

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
    /// Which of the policy's requirements says so, counted from 0; `None` for the engine's own findings.
    pub requirement_index: Option<usize>,
}

impl Finding {
    /// What the engine itself says, whatever the requirements are.
    pub(super) fn of_engine(rule: &'static str, target: Target, judgement: Judgement) -> Finding {
        Finding {
            rule,
            requirement: None,
            target,
            outcome: judgement.outcome,
            reason: judgement.reason.id,
            detail: judgement.detail,
            hint: judgement.hint,
            requirement_index: None,
        }
    }

    /// Whether both say the same: an entry that stands twice in a policy says everything twice.
    pub(super) fn says_the_same(&self, other: &Finding) -> bool {
        let Finding {
            rule,
            requirement,
            target,
            outcome,
            reason,
            detail,
            hint,
            requirement_index: _,
        } = self;
        (rule, requirement, target, outcome)
            == (
                &other.rule,
                &other.requirement,
                &other.target,
                &other.outcome,
            )
            && (reason, detail, hint) == (&other.reason, &other.detail, &other.hint)
    }
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

/// A rule's answer about one image or workload. The engine makes a [`Finding`] of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What the rule says.
    pub outcome: Outcome,
    /// The reason.
    pub reason: Reason,
    /// The reason in words, at most 1,200 characters: it can hold what others wrote.
    pub detail: String,
    /// What to do next.
    pub hint: Option<String>,
}

/// Characters of a detail.
const MAXIMUM_DETAIL: usize = 1200;

impl Judgement {
    /// The requirement is met.
    pub fn pass(reason: Reason, detail: String) -> Judgement {
        Judgement::new(Outcome::Pass, reason, detail)
    }

    /// The requirement is not met.
    pub fn fail(reason: Reason, detail: String) -> Judgement {
        Judgement::new(Outcome::Fail, reason, detail)
    }

    /// It could not be decided.
    pub fn undecided(reason: Reason, detail: String) -> Judgement {
        Judgement::new(Outcome::Undecided, reason, detail)
    }

    /// The requirement is not judged; only the engine decides that.
    pub(super) fn skip(reason: Reason, detail: &str) -> Judgement {
        Judgement::new(Outcome::Skip, reason, detail.to_owned())
    }

    fn new(outcome: Outcome, reason: Reason, detail: String) -> Judgement {
        Judgement {
            outcome,
            reason,
            detail: detail.chars().take(MAXIMUM_DETAIL).collect(),
            hint: None,
        }
    }

    /// With what to do next.
    pub fn hint(self, hint: impl Into<String>) -> Judgement {
        Judgement {
            hint: Some(hint.into()),
            ..self
        }
    }
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
