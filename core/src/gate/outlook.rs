//! What an approver sees before signing: the statements of accepted signers about the images, and the effect of the approval.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::evidence::{Effect, Evidence, Subject};
use super::promotion::Promotion;
use super::rules::{ApprovalOutlook, Approver, ImageCheck, NamedRoots, Requirement};
use super::signer::AcceptedSigner;
use super::snapshot::Governing;
use crate::attest::VerifiedStatement;
use crate::attest::predicate::{self, Predicate};
use crate::expression::Work;

/// The effect of an approval that is not signed yet, for each image for which a policy of the environment requires approvals.
pub fn approval_outlook(
    promotion: &Promotion,
    evidence: &Evidence,
    governing: &Governing<'_>,
    approver: &Approver,
    said: &predicate::Approval,
) -> Vec<ApprovalOutlook> {
    let mut outlooks = Vec::new();
    for (policy, _) in &governing.policies {
        if policy.environment.as_deref() != Some(&said.environment) {
            continue;
        }
        for named in &policy.requirements {
            let Requirement::Approvals(rule) = &named.requirement else {
                continue;
            };
            let roots = NamedRoots::of(&named.requirement, governing.world);
            let images = promotion.images().enumerate();
            let matched = images.filter(|(_, (image, _))| policy.matches_image(&image.reference));
            for (at, (image, pin)) in matched {
                let Some(subject) = pin.subject(&image.reference) else {
                    continue;
                };
                let check = ImageCheck {
                    promotion,
                    policy,
                    world: governing.world,
                    roots: &roots,
                    image,
                    pin,
                    records: promotion.records_of(at),
                    subject: Some(&subject),
                    evidence: evidence.for_effect(&subject, Effect::CanHurt),
                    last_listed: None,
                    parent_index: None,
                    work: Work::default(),
                };
                outlooks.push(rule.outlook(&check, approver, said));
            }
        }
    }
    outlooks
}

/// The provenance and the change records of an image that a signer made whom a governing policy accepts for that.
pub fn accepted_statements(
    subject: &Subject,
    evidence: &Evidence,
    governing: &Governing<'_>,
) -> Vec<Arc<VerifiedStatement>> {
    let (mut builders, mut recorders) = (Vec::new(), Vec::new());
    for (policy, _) in &governing.policies {
        for named in &policy.requirements {
            match &named.requirement {
                Requirement::Provenance(rule) => {
                    builders.extend(rule.builders.iter().map(|builder| &builder.signed_by));
                }
                Requirement::Approvals(rule) => {
                    for source in &rule.authors_from {
                        let of_builds = source.provenance.iter().flat_map(|it| &it.builders);
                        builders.extend(of_builds.map(|builder| &builder.signed_by));
                        recorders.extend(source.change_record.iter().map(|it| &it.signed_by));
                    }
                }
                _ => {}
            }
        }
    }
    let by = |signers: &[&AcceptedSigner], statement: &VerifiedStatement| {
        let roots = &governing.world.trust_roots;
        signers
            .iter()
            .any(|signer| signer.signed(statement, roots).is_ok())
    };
    let attached = evidence.for_effect(subject, Effect::CanHurt);
    let statements = attached.value().into_iter().flat_map(|it| &it.statements);
    let accepted = statements.filter(|(_, statement)| match statement.predicate() {
        Predicate::Provenance(_) => by(&builders, statement),
        Predicate::Change(_) => by(&recorders, statement),
        _ => false,
    });
    let mut seen = BTreeSet::new();
    let each = accepted.filter(|(_, statement)| seen.insert(statement.digest()));
    each.map(|(_, statement)| Arc::clone(statement)).collect()
}

/// The names of the trust roots under which the policies of an environment accept approvals.
pub fn approval_roots(governing: &Governing<'_>, environment: &str) -> BTreeSet<String> {
    let policies = governing.policies.iter().map(|(policy, _)| policy);
    let policies = policies.filter(|policy| policy.environment.as_deref() == Some(environment));
    let requirements = policies.flat_map(|policy| &policy.requirements);
    let roots = requirements.flat_map(|named| match &named.requirement {
        Requirement::Approvals(rule) => rule.root_names().map(str::to_owned).collect(),
        _ => Vec::new(),
    });
    roots.collect()
}
