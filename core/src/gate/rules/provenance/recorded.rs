//! The source of an image, for release records.

use super::super::{ImageCheck, NamedRoots, Requirement};
use crate::attest::predicate;
use crate::attest::{Claim, VerifiedStatement};
use crate::expression::Work;
use crate::gate::evidence::{Collected, Evidence};
use crate::gate::promotion::Promotion;
use crate::gate::record::RecordedSource;
use crate::gate::snapshot::Governing;

/// The source of an image, as provenance says that a requirement of a governing policy accepts: the platform's identifier of the
/// repository, or its address, and the commit. `None` if no policy asks for provenance, or if the provenance of the image does not name a commit.
pub fn proven_source(
    promotion: &Promotion,
    evidence: &Evidence,
    governing: &Governing<'_>,
    index: usize,
) -> Option<RecordedSource> {
    let (image, pin) = promotion.images().nth(index)?;
    let subject = pin.subject(&image.reference)?;
    let attached = evidence.about(&subject);
    let attached = attached.value()?;
    let policies = governing.policies.iter().map(|(policy, _)| *policy);
    let mut requirements = policies.flat_map(|policy| {
        let requirements = policy.requirements.iter();
        requirements.map(move |named| (policy, &named.requirement))
    });
    requirements.find_map(|(policy, requirement)| {
        let Requirement::Provenance(rule) = requirement else {
            return None;
        };
        let check = ImageCheck {
            promotion,
            policy,
            world: governing.world,
            roots: &NamedRoots::of(requirement, governing.world),
            image,
            pin,
            records: None,
            subject: Some(&subject),
            evidence: Collected::Known(attached),
            last_listed: None,
            parent_index: None,
            work: Work::default(),
        };
        rule.accepted(attached, &check).find_map(source_of)
    })
}

fn source_of(
    (_, provenance): (&VerifiedStatement, &predicate::SlsaProvenance),
) -> Option<RecordedSource> {
    let (_, commit) = provenance.commits.first()?;
    let is_id = |said: &&predicate::Said| said.claim == Claim::SourceRepositoryIdentifier;
    let id = provenance.said.iter().find(is_id).map(|said| &said.value);
    let address = || Some(provenance.sources.first()?.repository.as_str().to_owned());
    Some(RecordedSource {
        repository: id.cloned().or_else(address)?,
        commit: commit.clone(),
    })
}
