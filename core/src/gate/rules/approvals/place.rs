//! Whether a statement is about the policy's environment, and about the place of the workload.

use std::collections::BTreeMap;

use super::excuse::{Excuse, Step};
use super::{Approvals, ImageCheck, ScopeName, World};
use crate::attest::predicate::{self, ApprovalDecision};
use crate::gate::evidence::Collected;
use crate::gate::promotion::Promotion;

/// Whether the scopes of a statement include the workload.
pub(in crate::gate) enum Scoped {
    Here,
    Elsewhere(String),
    /// The gate does not know its own cluster.
    Unknown(String),
    /// The statement names a scope that this version does not know.
    NotKnown(String),
}

/// What was approved: an approval for another environment, cluster or change must not be replayed here. Returns an excuse, if
/// the name of the own cluster must be known.
pub(super) fn covers(
    said: &predicate::Approval,
    rule: &Approvals,
    check: &ImageCheck<'_>,
) -> Result<Option<Excuse>, Excuse> {
    if !is_for_this_environment(said, check) {
        return Err(Excuse::new(
            Step::Environment,
            other_environment(said, check),
        ));
    }
    let unknown = match scoped(said, check) {
        Scoped::Here => None,
        Scoped::Elsewhere(why) | Scoped::NotKnown(why) => {
            return Err(Excuse::new(Step::Scopes, why));
        }
        Scoped::Unknown(why) => Some(Excuse::new(Step::UnknownScope, why)),
    };
    let mut required = rule.require_scopes.iter();
    if let Some(missing) = required.find(|scope| !said.scopes.contains_key(scope.as_str())) {
        let missing = missing.as_str();
        let why = format!("the approval does not name the scope `{missing}`");
        return Err(Excuse::new(Step::Scopes, why));
    }
    if let Some(change) = &rule.change {
        let named = change.names(said);
        named.map_err(|why| Excuse::new(Step::Change, why))?;
    }
    Ok(unknown)
}

fn other_environment(said: &predicate::Approval, check: &ImageCheck<'_>) -> String {
    let what = match said.decision {
        ApprovalDecision::Approved => "approval",
        ApprovalDecision::Rejected => "rejection",
    };
    if said.emergency.is_some() {
        return format!("the {what} is of an emergency change, not of the digest");
    }
    format!(
        "the {what} is for `{}`, not `{}`",
        said.environment,
        check.policy.environment.as_deref().unwrap_or_default()
    )
}

/// Whether a rejection is about this environment and place.
///
/// # Errors
/// Why it is not.
pub(super) fn covered(said: &predicate::Approval, check: &ImageCheck<'_>) -> Result<(), String> {
    if !is_for_this_environment(said, check) {
        return Err(other_environment(said, check));
    }
    match scoped(said, check) {
        Scoped::Elsewhere(why) => Err(why.replacen("the approval", "the rejection", 1)),
        Scoped::Here | Scoped::NotKnown(_) | Scoped::Unknown(_) => Ok(()),
    }
}

/// Whether a decision is about the digest in the policy's environment. One about an emergency change is about nothing else.
pub(super) fn is_for_this_environment(said: &predicate::Approval, check: &ImageCheck<'_>) -> bool {
    said.emergency.is_none()
        && Some(said.environment.as_str()) == check.policy.environment.as_deref()
}

/// Whether all scopes of an approval or a rejection include the workload.
pub(super) fn scoped(said: &predicate::Approval, check: &ImageCheck<'_>) -> Scoped {
    scopes_include("approval", &said.scopes, check.promotion, check.world)
}

/// Whether all scopes of a statement include the workload; `what` is the noun for the statement. One that does not decides, whatever
/// the others are.
pub(in crate::gate) fn scopes_include(
    what: &str,
    scopes: &BTreeMap<String, String>,
    promotion: &Promotion,
    world: &World,
) -> Scoped {
    let workload = &promotion.change.workload;
    let mut scoped = Scoped::Here;
    for (name, wanted) in scopes {
        let namespace = || Collected::Known(workload.namespace.clone().unwrap_or_default());
        let actual = match ScopeName::parse(name) {
            Some(ScopeName::Namespace) => namespace(),
            Some(ScopeName::Cluster) => world.cluster.clone(),
            Some(ScopeName::ClusterUid) => world.cluster_uid.clone(),
            None => {
                scoped = Scoped::NotKnown(format!(
                    "the {what} is limited to a scope that this version does not know, `{name}`"
                ));
                continue;
            }
        };
        match actual {
            Collected::Known(actual) if actual == *wanted => {}
            Collected::Known(_) => {
                let why = format!("the {what} is for the {name} `{wanted}` alone");
                return Scoped::Elsewhere(why);
            }
            Collected::Partial(_, _) | Collected::Unavailable(_) => {
                if matches!(scoped, Scoped::NotKnown(_)) {
                    continue;
                }
                let why = actual.unavailabilities().first();
                let why = why.map(ToString::to_string).unwrap_or_default();
                scoped = Scoped::Unknown(format!(
                    "the {what} is for the {name} `{wanted}` alone, and {why}"
                ));
            }
        }
    }
    scoped
}
