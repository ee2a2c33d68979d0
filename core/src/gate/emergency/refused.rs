//! Why a declared emergency change does not let a change pass.

use crate::gate::finding::Judgement;
use crate::reason::Reason;

/// Why a declaration does not count. Of several declarations, the one that came furthest is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::gate) struct Refused {
    step: Step,
    pub(in crate::gate) reason: Reason,
    is_undecided: bool,
    pub(in crate::gate) detail: String,
    hint: Option<String>,
}

/// The steps by which a declaration is judged, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Signer,
    Place,
    Time,
    Ended,
    Rejected,
    Evidence,
    Agreement,
    Debt,
    Incident,
    Waives,
}

impl Refused {
    pub(super) fn failed(step: Step, reason: Reason, detail: impl Into<String>) -> Refused {
        Refused {
            step,
            reason,
            is_undecided: false,
            detail: detail.into(),
            hint: None,
        }
    }

    pub(super) fn undecided(step: Step, reason: Reason, detail: impl Into<String>) -> Refused {
        Refused {
            is_undecided: true,
            ..Refused::failed(step, reason, detail)
        }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Refused {
        Refused {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// The same about one of several declarations.
    pub(super) fn of(self, declaration: &str) -> Refused {
        Refused {
            detail: format!("{declaration} does not count: {}", self.detail),
            ..self
        }
    }

    /// The one that came furthest; of equal ones the smaller text, so that the order does not matter.
    pub(super) fn clearest(known: Option<Refused>, other: Refused) -> Option<Refused> {
        match known {
            Some(known) if (known.step, &other.detail) > (other.step, &known.detail) => Some(known),
            _ => Some(other),
        }
    }

    /// The judgement; undecided too where the requirements are that it would waive.
    pub(in crate::gate) fn judgement(&self, others_are_undecided: bool) -> Judgement {
        let (reason, detail) = (self.reason, self.detail.clone());
        let judgement = match self.is_undecided || others_are_undecided {
            true => Judgement::undecided(reason, detail),
            false => Judgement::fail(reason, detail),
        };
        match &self.hint {
            Some(hint) => judgement.hint(hint.clone()),
            None => judgement,
        }
    }
}
