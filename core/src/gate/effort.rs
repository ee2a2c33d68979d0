//! How much work the judgement of a change is: how many expressions it evaluates, and whether it can take long.

use super::evidence::{Collected, Evidence};
use super::policy::{NamedRequirement, Policy};
use super::promotion::{ImageUse, Pin, Promotion};
use super::rules::Scope;
use super::snapshot::Governing;

/// A judgement with more evaluations of expressions can take long.
const FEW_EVALUATIONS: usize = 16;
/// A judgement that goes through more entries of reports can take long.
const FEW_ENTRIES: usize = 1000;

/// Whether judging a change can take longer than a few milliseconds, so that it must not run where requests are served.
pub fn can_take_long(
    promotion: &Promotion,
    evidence: &Evidence,
    governing: &Governing<'_>,
) -> bool {
    let policies = governing.policies.iter();
    let mut requirements = policies.flat_map(|(policy, _)| &policy.requirements);
    requirements.any(|named| named.requirement.loops() > Some(1))
        || evidence.entries() > FEW_ENTRIES
        || evaluations(promotion, evidence, governing) > FEW_EVALUATIONS
}

/// How many times the expressions of policies are evaluated at most: each for the object, or for each image and its platforms. The
/// evaluation of one expression over all statements of an image counts once.
pub(super) fn evaluations(
    promotion: &Promotion,
    evidence: &Evidence,
    governing: &Governing<'_>,
) -> usize {
    let policies = governing.policies.iter();
    let of_policies = policies.map(|(policy, _)| {
        let requirements = policy.requirements.iter();
        let evaluating = requirements.filter(|named| named.requirement.loops().is_some());
        let (of_images, of_object): (Vec<&NamedRequirement>, Vec<&NamedRequirement>) =
            evaluating.partition(|named| matches!(named.requirement.scope(), Scope::Image(_)));
        match of_images.len() {
            0 => of_object.len(),
            count => of_object.len() + count * subjects(policy, promotion, evidence),
        }
    });
    of_policies.sum()
}

/// The images that a policy judges by evidence, and their platforms.
fn subjects(policy: &Policy, promotion: &Promotion, evidence: &Evidence) -> usize {
    let images = promotion.images();
    let matched = images.filter(|(image, _)| policy.matches_image(&image.reference));
    let with_platforms = |(image, pin): (&ImageUse, &Pin)| {
        let subject = pin.subject(&image.reference);
        match subject.and_then(|subject| evidence.indexes.get(&subject)) {
            Some(Collected::Known(Some(index)) | Collected::Partial(Some(index), _)) => {
                1 + index.manifests.len()
            }
            _ => 1,
        }
    };
    matched.map(with_platforms).sum()
}
