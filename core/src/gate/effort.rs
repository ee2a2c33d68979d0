//! How much work the judgement of a change is: how many expressions it evaluates, and whether it can take long.

use super::evidence::{Collected, Evidence};
use super::policy::{Enforcement, NamedRequirement, Policy};
use super::promotion::{ImageUse, Pin, Promotion};
use super::rules::Scope;
use super::snapshot::Governing;
use crate::expression::Work;

/// A judgement with more evaluations of expressions can take long.
const FEW_EVALUATIONS: usize = 16;
/// A judgement that goes through more entries of reports, or of the object, can take long.
const FEW_ENTRIES: usize = 1000;

/// Whether judging a change can take long, so that it must not run where requests are served. The rest takes some milliseconds.
pub fn can_take_long(
    promotion: &Promotion,
    evidence: &Evidence,
    governing: &Governing<'_>,
) -> bool {
    let policies = || governing.policies.iter().map(|(policy, _)| *policy);
    let mut requirements = policies().flat_map(|policy| &policy.requirements);
    requirements.any(|named| named.requirement.loops() > Some(1))
        || evidence.entries().max(of_object(promotion)) > FEW_ENTRIES
        || kept_entries(evidence, governing) > FEW_ENTRIES
        || evaluations(policies(), promotion, evidence) > FEW_EVALUATIONS
}

/// How many entries the cluster keeps of OpenVEX documents about the images.
fn kept_entries(evidence: &Evidence, governing: &Governing<'_>) -> usize {
    let subjects = evidence.images.keys();
    let kept = subjects.filter_map(|subject| governing.world.vex.get(&subject.digest));
    let statements = kept.flatten().flat_map(|kept| &kept.statements);
    let entries = statements.map(|it| 1 + it.vulnerabilities().count() + it.packages().count());
    entries.sum()
}

/// How many entries of the object expressions can go through. 64 bytes of a text are one.
fn of_object(promotion: &Promotion) -> usize {
    let change = &promotion.change;
    let texts = change
        .object
        .labels
        .iter()
        .chain(&change.object.annotations);
    let of_texts = texts.map(|(key, value)| 1 + (key.len() + value.len()) / 64);
    change.images.len() + of_texts.sum::<usize>()
}

/// The work that each expression of a policy may take.
///
/// The shares of policies that enforce are equal, so that the order of policies and images does not matter. The other policies share as
/// much again among themselves, so that a policy that is tried out changes no decision of one that enforces.
#[derive(Clone, Debug, Default)]
pub(super) struct WorkShares {
    enforcing: Work,
    others: Work,
}

impl WorkShares {
    pub(super) fn new(
        promotion: &Promotion,
        evidence: &Evidence,
        governing: &Governing<'_>,
    ) -> WorkShares {
        let share = |enforcing: bool| {
            let policies = governing.policies.iter().map(|(policy, _)| *policy);
            let own = policies.filter(|policy| enforces(policy) == enforcing);
            Work::share_of(evaluations(own, promotion, evidence))
        };
        WorkShares {
            enforcing: share(true),
            others: share(false),
        }
    }

    /// The work that one expression of the policy may take.
    pub(super) fn of(&self, policy: &Policy) -> Work {
        match enforces(policy) {
            true => self.enforcing.clone(),
            false => self.others.clone(),
        }
    }
}

fn enforces(policy: &Policy) -> bool {
    policy.enforcement == Enforcement::Enforce
}

/// How many times the expressions of policies are evaluated at most: each for the object, or for each image and its platforms. The
/// evaluation of one expression over all statements of an image counts once.
fn evaluations<'a>(
    policies: impl Iterator<Item = &'a Policy>,
    promotion: &Promotion,
    evidence: &Evidence,
) -> usize {
    let judged = policies.filter(|policy| !promotion.rests_on_record(policy));
    let of_policies = judged.map(|policy| {
        let requirements = policy.requirements.iter();
        let evaluating = requirements.filter(|named| {
            named.requirement.loops().is_some() && named.requirement.applies_to(promotion.kind)
        });
        let is_of_images =
            |named: &&NamedRequirement| matches!(named.requirement.scope(), Scope::Image(_));
        let all = evaluating.clone().count();
        match evaluating.filter(is_of_images).count() {
            0 => all,
            of_images => all - of_images + of_images * subjects(policy, promotion, evidence),
        }
    });
    of_policies.sum()
}

/// The images that a policy judges by evidence, and the platforms of each that it may judge instead.
fn subjects(policy: &Policy, promotion: &Promotion, evidence: &Evidence) -> usize {
    let images = promotion.images();
    let matched = images.filter(|(image, _)| policy.matches_image(&image.reference));
    let with_platforms = |(image, pin): (&ImageUse, &Pin)| {
        let subject = pin.subject(&image.reference);
        match subject.and_then(|subject| evidence.indexes.get(&subject)) {
            Some(Collected::Known(Some(index)) | Collected::Partial(Some(index), _)) => {
                let platforms = index.manifests.iter();
                1 + platforms.filter(|it| policy.matches_platform(it)).count()
            }
            _ => 1,
        }
    };
    matched.map(with_platforms).sum()
}
