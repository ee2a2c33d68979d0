//! The answer of a rule about an image or a workload, and why.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::emergency::EmergencyUse;
use super::image::Digest;
use crate::reason::Reason;

/// The answer of one rule about one target, as part of the explanation of a verdict.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The rule, such as `signature`; the engine's own findings name `coverage`, `emergency`, `governance` or `object`.
    pub rule: &'static str,
    /// The name of the requirement in the policy, if it has one.
    pub requirement: Option<String>,
    /// The image, field or object that was judged.
    pub target: Target,
    /// Whether the requirement is met.
    pub outcome: Outcome,
    /// Stable id of the reason, in kebab case.
    pub reason: &'static str,
    /// The reason in words, with the values that caused it.
    pub detail: String,
    /// What the deployer can do next; a command if there is one.
    pub hint: Option<String>,
    /// What the deployer should know although the requirement is met.
    pub warnings: BTreeSet<Box<str>>,
    /// The index of the requirement in the policy, from 0; `None` for the engine's own findings.
    pub requirement_index: Option<usize>,
    /// The digest of the declaration of the emergency change that waives the requirement.
    pub waived_by: Option<Digest>,
}

impl Finding {
    /// A finding that does not come from a requirement.
    pub(super) fn of_engine(rule: &'static str, target: Target, judgement: Judgement) -> Finding {
        Finding {
            rule,
            requirement: None,
            target,
            outcome: judgement.outcome,
            reason: judgement.reason.id,
            detail: judgement.detail,
            hint: judgement.hint.map(String::from),
            warnings: judgement.warnings,
            requirement_index: None,
            waived_by: None,
        }
    }

    /// Waives the requirement. The reason stays that of its rule: it says what is not met.
    pub(super) fn waive(&mut self, used: &EmergencyUse) {
        self.outcome = Outcome::Waived;
        self.detail
            .push_str(&format!("; waived by {}", used.summary()));
        self.hint = None;
        self.warnings = BTreeSet::from([used.warning().into()]);
        self.waived_by = Some(used.declaration.clone());
    }

    /// Whether two findings differ only in the index of the requirement. An entry that a policy contains twice makes such pairs.
    pub(super) fn is_duplicate_of(&self, other: &Finding) -> bool {
        let Finding {
            rule,
            requirement,
            target,
            outcome,
            reason,
            detail,
            hint,
            warnings,
            requirement_index: _,
            waived_by,
        } = self;
        (rule, requirement, target, outcome)
            == (
                &other.rule,
                &other.requirement,
                &other.target,
                &other.outcome,
            )
            && (reason, detail, hint, warnings)
                == (&other.reason, &other.detail, &other.hint, &other.warnings)
            && *waived_by == other.waived_by
    }
}

/// The subject of a finding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The object as a whole.
    Workload,
    /// A field of the object that could not be read, by its path.
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
    /// The digest that was judged, if it is known.
    pub digest: Option<Digest>,
}

/// A rule's answer about one image or workload. The engine makes a [`Finding`] of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Whether the requirement is met.
    pub outcome: Outcome,
    /// The reason.
    pub reason: Reason,
    /// The reason in words, cut to 1,200 characters because it can quote text of any length from a registry or a signer.
    pub detail: String,
    /// What the deployer can do next.
    pub hint: Option<Box<str>>,
    /// What the deployer should know although the requirement is met. An answer of the webhook shows 119 characters of each.
    pub warnings: BTreeSet<Box<str>>,
}

/// The length of a detail, in characters.
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

    /// The rule could not decide.
    pub fn undecided(reason: Reason, detail: String) -> Judgement {
        Judgement::new(Outcome::Undecided, reason, detail)
    }

    /// The requirement is not judged; only the engine decides that.
    pub(super) fn skip(reason: Reason, detail: &str) -> Judgement {
        Judgement::new(Outcome::Skip, reason, detail.to_owned())
    }

    fn new(outcome: Outcome, reason: Reason, mut detail: String) -> Judgement {
        if let Some((end, _)) = detail.char_indices().nth(MAXIMUM_DETAIL) {
            detail.truncate(end);
        }
        Judgement {
            outcome,
            reason,
            detail,
            hint: None,
            warnings: BTreeSet::new(),
        }
    }

    /// The same judgement with a hint: what the deployer can do next.
    pub fn hint(self, hint: impl Into<Box<str>>) -> Judgement {
        Judgement {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// The same judgement with one more warning.
    pub fn warning(mut self, warning: impl Into<Box<str>>) -> Judgement {
        self.warnings.insert(warning.into());
        self
    }
}

/// The result of a rule, ordered from worst to best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The requirement is not met.
    Fail,
    /// The rule could not decide. This denies.
    Undecided,
    /// An emergency change lifts the requirement.
    Waived,
    /// The requirement is met.
    Pass,
    /// The requirement does not apply.
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
