//! Coverage: under a policy that requires evidence, every image needs a requirement that says where it comes from, of any
//! governing policy, that passed or was waived.

use super::finding::{Finding, Judgement, Outcome, Target};
use super::policy::{Policy, Uncovered};
use super::promotion::ChangeKind;
use super::snapshot::Certainty;
use crate::reason::reasons;

reasons! {
    /// What is said of images that nothing covers.
    OF_COVERAGE:
    UNCOVERED = "uncovered",
        "The policy requires evidence, but no evidence requirement of a governing policy vouches for this image.",
        "Have the image named by a policy's `match.images`, or have the policy say `uncovered: Allow`.";
    COVERAGE_UNKNOWN = "coverage-unknown",
        "The only evidence requirement that could vouch for the image could not be decided.",
        "See the finding of that requirement: it says what could not be learned. Try again when that is solved.";
}

/// What the requirements of one policy say.
pub(super) struct PolicyFindings<'a> {
    pub(super) policy: &'a Policy,
    pub(super) certainty: Certainty,
    /// About the object as a whole.
    pub(super) workload: Vec<Finding>,
    /// About each image, in the promotion's order.
    pub(super) images: Vec<Vec<Finding>>,
}

/// A finding for each image that `own` must not let in because nothing covers it; `targets` are the images in order, `all` the
/// findings of every governing policy, `own` among them.
pub(super) fn uncovered(
    own: &PolicyFindings<'_>,
    kind: ChangeKind,
    targets: &[Target],
    all: &[PolicyFindings<'_>],
) -> Vec<Finding> {
    let judges_evidence = match kind {
        ChangeKind::Deploy | ChangeKind::Activation | ChangeKind::Upkeep { recorded: false } => {
            true
        }
        ChangeKind::Upkeep { recorded: true } | ChangeKind::Governance => false,
    };
    let policy = own.policy;
    if !judges_evidence || !policy.requires_evidence() || policy.uncovered == Uncovered::Allow {
        return Vec::new();
    }
    let each = targets.iter().zip(&own.images).enumerate();
    each.filter_map(|(at, (target, findings))| {
        if findings.iter().any(|finding| finding.outcome.denies()) {
            return None;
        }
        // A policy that only might govern covers nothing for the others.
        let covering = all
            .iter()
            .filter(|other| {
                other.certainty == Certainty::Certain || other.policy.name == policy.name
            })
            .filter_map(|other| coverage_outcome(other.policy, other.images.get(at)?));
        let judgement = match covering.max() {
            Some(Outcome::Undecided) => Judgement::undecided(
                COVERAGE_UNKNOWN,
                "whether an evidence requirement of another policy vouches for this image could not be decided".to_owned(),
            )
            .hint("this is no missing evidence; see that policy's finding, and try again when it is solved"),
            Some(_) => return None,
            None => Judgement::fail(
                UNCOVERED,
                "no evidence requirement of a governing policy vouches for this image".to_owned(),
            )
            .hint("have the image named by a policy's `match.images`, or the policy say `uncovered: Allow`"),
        };
        Some(Finding::of_engine("coverage", target.clone(), judgement))
    })
    .collect()
}

/// The best outcome by which a policy covers an image, or might, in its findings about it.
fn coverage_outcome(policy: &Policy, findings: &[Finding]) -> Option<Outcome> {
    let covers = |finding: &&Finding| {
        let named = finding
            .requirement_index
            .and_then(|at| policy.requirements.get(at));
        named.is_some_and(|named| named.requirement.covers())
    };
    findings
        .iter()
        .filter(covers)
        .map(|finding| finding.outcome)
        .filter(|outcome| {
            matches!(
                outcome,
                Outcome::Pass | Outcome::Waived | Outcome::Undecided
            )
        })
        .max()
}
