//! What `provenance` and `verificationSummary` share. Both accept a statement by a pair, of the id that the statement gives and of its
//! signer; one good statement is enough; and where none is good, a denial explains the one that is nearest to a pass.

use super::check::{
    NOT_TRANSPARENT_ENOUGH, SIGNED_IN_THE_FUTURE, ignored, in_time, listed, unless_too_large,
};
use super::{ImageCheck, Judgement};
use crate::attest::{Signer, VerifiedStatement};
use crate::gate::evidence::ImageEvidence;
use crate::gate::signer::{AcceptedSigner, Matcher, Mismatch};
use crate::reason::Reason;

/// The steps of both rules. Each rule goes through its own in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Pair,
    Transparency,
    Time,
    Agreement,
    Build,
    Source,
    /// The reference that was built, and the inputs.
    Start,
    Resource,
    Policy,
    Environment,
    Result,
    Level,
    Age,
}

/// Why a statement does not count. Of several refusals, a denial explains the one with the greatest step.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Refusal {
    pub(super) step: Step,
    pub(super) reason: Reason,
    pub(super) detail: String,
    pub(super) hint: Option<String>,
}

impl Refusal {
    pub(super) fn new(
        step: Step,
        reason: Reason,
        detail: String,
        hint: impl Into<Option<String>>,
    ) -> Refusal {
        Refusal {
            step,
            reason,
            detail,
            hint: hint.into(),
        }
    }
}

/// Whether the policy accepts the signer of a statement for the id that the statement gives, and the time of the statement. `what` is
/// the noun of the id.
pub(super) fn check_pair<'p>(
    pairs: impl Iterator<Item = (&'p Matcher, &'p AcceptedSigner)> + Clone,
    statement: &VerifiedStatement,
    (what, id): (&str, &str),
    not_accepted: Reason,
    check: &ImageCheck<'_>,
) -> Result<(), Refusal> {
    // 1. The pair: otherwise, every signer could write an accepted id.
    let roots = &check.world.trust_roots;
    let counted = || {
        let of_id = pairs.clone().filter(|(accepted, _)| accepted.matches(id));
        of_id.map(|(_, signed_by)| signed_by.signed(statement, roots))
    };
    if !counted().any(|counted| counted.is_ok()) {
        if counted().any(|counted| counted == Err(Mismatch::Transparency)) {
            return Err(Refusal::new(
                Step::Transparency,
                NOT_TRANSPARENT_ENOUGH,
                format!(
                    "it lacks the log entry or timestamp that the policy requires{}",
                    ignored([&**statement])
                ),
                "attest with a transparency log".to_owned(),
            ));
        }
        let accepted = pairs.map(|(id, signed_by)| format!("`{id}` signed by {signed_by}"));
        return Err(Refusal::new(
            Step::Pair,
            not_accepted,
            format!("the policy does not accept this signer for the {what} `{id}`"),
            format!("accepted {what}s: {}", listed(accepted, 3)),
        ));
    }
    // 2. The time: a verified time in the future means that a clock is wrong.
    in_time(statement, check.promotion.at).map_err(|why| {
        let hint = "check the gate's clock".to_owned();
        Refusal::new(Step::Time, SIGNED_IN_THE_FUTURE, why, hint)
    })
}

/// Chooses one of several results, the same one in every order: the detail of a statement that passed, or else the refusal of the
/// statement that came nearest to a pass. `what` names the kind of statement in the text. Without any statement
/// the result is `Err(None)`.
pub(super) fn best_of<'e>(
    what: &str,
    judged: impl Iterator<Item = (&'e Signer, Result<String, Refusal>)>,
) -> Result<String, Option<Refusal>> {
    let (mut passed, mut furthest): (Option<String>, Option<Refusal>) = (None, None);
    for (by, judged) in judged {
        match judged {
            Ok(detail) => {
                passed = Some(match passed {
                    Some(other) => other.min(detail),
                    None => detail,
                });
            }
            Err(refusal) => {
                furthest = furthest.max(Some(Refusal {
                    detail: format!("{what} by {by}: {}", refusal.detail),
                    ..refusal
                }));
            }
        }
    }
    passed.ok_or(furthest)
}

/// The denial by the refusal that came nearest to a pass, or by the absence of a statement. Without a statement of an accepted signer it is
/// undecided if a piece that is too large to be read may be one; `unaccepted` is the rule's reason for what is not accepted.
pub(super) fn denial(
    refused: Option<Refusal>,
    absence: impl FnOnce() -> Judgement,
    unaccepted: Reason,
    evidence: &ImageEvidence,
    check: &ImageCheck<'_>,
) -> Judgement {
    let is_of_accepted = |it: &Refusal| it.step > Step::Transparency;
    let explains = refused.as_ref().is_some_and(is_of_accepted);
    let failed = match refused {
        Some(refusal) => {
            let hint = refusal.hint.unwrap_or_else(|| check.look());
            Judgement::fail(refusal.reason, refusal.detail).hint(hint)
        }
        None => absence(),
    };
    match explains {
        true => failed,
        false => unless_too_large(failed, unaccepted, evidence, check),
    }
}

/// Refuses a list of a policy entry that is there and empty. Each is given as its name and length.
pub(super) fn none_is_empty(lists: &[(&str, Option<usize>)]) -> Result<(), String> {
    match lists.iter().find(|(_, length)| *length == Some(0)) {
        Some((name, _)) => Err(format!(
            "`{name}` is empty, so nothing can pass; leave the field out to accept every value"
        )),
        None => Ok(()),
    }
}
