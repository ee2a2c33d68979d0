//! Coverage: under a policy that requires evidence, every image needs an evidence requirement that passed. The requirement can be of
//! any governing policy. One that an emergency change waives covers nothing.

use super::emergency::{RULE, Waivers};
use super::finding::{Finding, Judgement, Outcome, Target};
use super::policy::{Policy, Uncovered};
use super::promotion::{ChangeKind, Promotion};
use super::snapshot::Certainty;
use super::verdict::PolicyEmergency;
use crate::reason::reasons;

reasons! {
    /// The reasons for images that no evidence requirement covers.
    OF_COVERAGE:
    UNCOVERED = "uncovered",
        "The policy requires evidence, but no evidence requirement of a governing policy covers this image.",
        "Add the image to a policy's `match.images`, or set `uncovered: Allow` in the policy.";
    COVERAGE_UNKNOWN = "coverage-unknown",
        "The only evidence requirement that could cover the image could not be decided.",
        "See the finding of that requirement: it says what is not known. Try again when the problem is solved.";
}

/// The findings of one policy.
pub(super) struct PolicyFindings<'a> {
    pub(super) policy: &'a Policy,
    pub(super) certainty: Certainty,
    /// The findings for the object as a whole.
    pub(super) workload: Vec<Finding>,
    /// The findings for each image, in the promotion's order.
    pub(super) images: Vec<Vec<Finding>>,
}

impl PolicyFindings<'_> {
    /// Waives what denies, if one emergency change waives all of it. If one was declared and does not count, a finding says why.
    pub(super) fn waive(&mut self, waivers: &Waivers<'_>) -> PolicyEmergency {
        let all = self.workload.iter().chain(self.images.iter().flatten());
        let findings: Vec<_> = all.filter(|it| it.outcome.denies()).collect();
        let Some(answer) = waivers.answer(self.policy, &findings) else {
            let command = waivers.command(self.policy, &findings);
            self.suggest(command);
            return PolicyEmergency::default();
        };
        let mut each = findings.iter();
        let are_undecided = each.all(|it| it.outcome == Outcome::Undecided);
        let mut emergency = PolicyEmergency {
            used: None,
            asks: answer.asks,
        };
        match answer.result {
            Some(Ok(used)) => {
                let images = self.images.iter_mut().flatten();
                let all = self.workload.iter_mut().chain(images);
                for finding in all.filter(|it| it.outcome.denies()) {
                    finding.waive(&used);
                }
                emergency.used = Some(Box::new(used));
            }
            Some(Err(refused)) => {
                let judgement = refused.judgement(are_undecided);
                let finding = Finding::of_engine(RULE, Target::Workload, judgement);
                self.workload.push(finding);
            }
            None => {}
        }
        emergency
    }

    /// Names the command that declares an emergency change.
    fn suggest(&mut self, command: Option<String>) {
        let all = self
            .workload
            .iter_mut()
            .chain(self.images.iter_mut().flatten());
        let denying = all.filter(|it| it.outcome.denies());
        // The greatest one, so that the order of images and requirements does not matter.
        if let (Some(command), Some(finding)) = (command, denying.max()) {
            let hint = finding.hint.take().map(|hint| format!("{hint}; "));
            let hint = hint.unwrap_or_default();
            finding.hint = Some(format!("{hint}in an emergency: `{command}`"));
        }
    }
}

/// A denying finding for each image that `own` must deny because no requirement covers it. `targets` are the images in the
/// promotion's order; `all` are the findings of every governing policy, including `own`.
pub(super) fn uncovered(
    own: &PolicyFindings<'_>,
    promotion: &Promotion,
    targets: &[Target],
    all: &[PolicyFindings<'_>],
) -> Vec<Finding> {
    let policy = own.policy;
    let judges_evidence =
        promotion.kind != ChangeKind::Governance && !promotion.rests_on_record(policy);
    if !judges_evidence || !policy.requires_evidence() || policy.uncovered == Uncovered::Allow {
        return Vec::new();
    }
    let each = targets.iter().zip(&own.images).enumerate();
    each.filter_map(|(at, (target, findings))| {
        if findings.iter().any(|finding| finding.outcome.denies()) {
            return None;
        }
        // A policy that only may govern covers an image for itself, but not for other policies.
        let covering = all
            .iter()
            .filter(|other| {
                other.certainty == Certainty::Certain || other.policy.name == policy.name
            })
            .filter_map(|other| coverage_outcome(other.policy, other.images.get(at)?));
        let judgement = match covering.max() {
            Some(Outcome::Undecided) => Judgement::undecided(
                COVERAGE_UNKNOWN,
                "the evidence requirement of another policy that could cover this image could not be decided".to_owned(),
            )
            .hint("this is not missing evidence; see that policy's finding, and try again when the problem is solved"),
            Some(_) => return None,
            None => Judgement::fail(
                UNCOVERED,
                "no evidence requirement of a governing policy covers this image".to_owned(),
            )
            .hint("add the image to a policy's `match.images`, or set `uncovered: Allow` in the policy"),
        };
        Some(Finding::of_engine("coverage", target.clone(), judgement))
    })
    .collect()
}

/// The best outcome by which a policy covers an image or may cover it, from the policy's findings for the image.
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
        .filter(|outcome| matches!(outcome, Outcome::Pass | Outcome::Undecided))
        .max()
}
