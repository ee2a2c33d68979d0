//! What an emergency change would do for a change that is denied, before anybody has signed anything, and what is still missing of those
//! that were declared. For people who declare and agree.

use std::collections::{BTreeMap, BTreeSet};

use super::decide::Denied;
use super::listing::{ListedDeclaration, OwnWord, listed_declaration, own_word};
use super::policy::IncidentRequirement;
use super::waivers::{Waivers, waived_or_denying};
use crate::gate::age::Age;
use crate::gate::evidence::{Evidence, Subject};
use crate::gate::promotion::Promotion;
use crate::gate::rules::{Approver, listed};
use crate::gate::snapshot::Governing;
use crate::gate::verdict::Verdict;

/// What an emergency change does or would do under one policy.
#[derive(Clone, Debug)]
pub struct EmergencyOutlook {
    /// The policy.
    pub policy: String,
    /// Its environment.
    pub environment: String,
    /// Whether the policy denies the change, or would without the emergency change that lets it pass.
    pub denies: bool,
    /// The rules that would be waived.
    pub waives: BTreeSet<&'static str>,
    /// Why no emergency change lets the change pass, whatever people say; `None` if one could.
    pub refused: Option<String>,
    /// The images that one declaration has to be about.
    pub images: BTreeSet<Subject>,
    /// The seats, in words.
    pub seats: String,
    /// The authors of the change, each with what the person did.
    pub authors: BTreeMap<String, String>,
    /// Why there may be further authors, so that at least two people have to agree.
    pub unknown_author: Option<String>,
    /// How long after it is signed a declaration may expire.
    pub maximum_validity: Age,
    /// How soon after the admission the review is due.
    pub review_within: Age,
    /// What the policy asks about the incident.
    pub incident: Option<IncidentRequirement>,
    /// The trust roots under which statements are accepted.
    pub trust_roots: BTreeSet<String>,
    /// What the given person could do by declaring; `None` without a person.
    pub own: Option<OwnWord>,
    /// The declarations that are attached to the images.
    pub declarations: Vec<ListedDeclaration>,
}

/// What an emergency change does or would do, under each policy that has a section `emergency`. `by` is the person who is about to sign.
pub fn emergency_outlook(
    promotion: &Promotion,
    evidence: &Evidence,
    governing: &Governing<'_>,
    verdict: &Verdict,
    by: Option<&Approver>,
) -> Vec<EmergencyOutlook> {
    let waivers = Waivers::new(promotion, evidence, governing);
    let mut outlooks = Vec::new();
    for (policy, _) in &governing.policies {
        let mut verdicts = verdict.policies().iter();
        let Some(own) = verdicts.find(|it| it.policy() == policy.name) else {
            continue;
        };
        let findings = waived_or_denying(own.findings());
        outlooks.extend(waivers.with_section(policy, &findings, |denied| outlook(denied, by)));
    }
    outlooks
}

fn outlook(denied: &Denied<'_>, by: Option<&Approver>) -> EmergencyOutlook {
    let section = denied.section;
    let seats = section.from.iter().map(|it| it.asks_for(it.seats()));
    let authors = denied.images.iter().map(|(_, authors)| *authors);
    let people = authors.clone().flat_map(|it| &it.people);
    let rules = denied.findings.iter().map(|it| it.rule);
    let declarations = denied.declarations().into_iter();
    EmergencyOutlook {
        policy: denied.policy.name.clone(),
        environment: denied.policy.environment.clone().unwrap_or_default(),
        denies: !denied.findings.is_empty(),
        waives: rules.filter(|rule| section.waives_rule(rule)).collect(),
        refused: denied.can_be_waived().err().map(|why| why.detail),
        images: denied
            .images
            .iter()
            .filter_map(|(check, _)| check.subject.cloned())
            .collect(),
        seats: listed(seats, 10),
        authors: people
            .map(|(name, did)| (name.clone(), did.to_string()))
            .collect(),
        unknown_author: authors.clone().find_map(|it| it.unknown.clone()),
        maximum_validity: section.maximum_validity(),
        review_within: section.review_within(),
        incident: section.incident.clone(),
        trust_roots: section
            .root_names(denied.policy)
            .into_iter()
            .map(str::to_owned)
            .collect(),
        own: by.map(|by| own_word(denied, by)),
        declarations: declarations
            .filter_map(|id| listed_declaration(denied, id, by))
            .collect(),
    }
}
