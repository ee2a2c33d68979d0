//! What an emergency change would do for a change that is denied, before anybody has signed anything, and what is still missing of those
//! that were declared. For people who declare and agree.

use std::collections::{BTreeMap, BTreeSet};

use super::decide::Denied;
use super::policy::IncidentRequirement;
use super::signed::SignedWords;
use super::used::EmergencyUse;
use super::waivers::{RULE, Waivers};
use crate::attest::predicate::{EmergencyChange, Predicate};
use crate::gate::age::Age;
use crate::gate::evidence::{Evidence, ImageEvidence, Subject};
use crate::gate::finding::{Finding, Outcome};
use crate::gate::image::Digest;
use crate::gate::promotion::Promotion;
use crate::gate::rules::{Approver, Seating, found_person, listed, people_of, seats_of, witnesses};
use crate::gate::snapshot::Governing;
use crate::gate::verdict::Verdict;

/// What an emergency change would do under one policy that denies, or that an emergency change lets pass.
#[derive(Clone, Debug)]
pub struct EmergencyOutlook {
    /// The policy.
    pub policy: String,
    /// Its environment.
    pub environment: String,
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
    /// The seat that the given person would fill, in words, or why none; `None` without a person.
    pub own_seat: Option<Result<String, String>>,
    /// The declarations that are attached to the images.
    pub declarations: Vec<DeclarationOutlook>,
}

/// What is still missing of a declaration.
#[derive(Clone, Debug)]
pub struct DeclarationOutlook {
    /// The digest of its statement.
    pub declaration: Digest,
    /// What it says.
    pub said: EmergencyChange,
    /// The people whose agreement counts, those who declared it included.
    pub agreed: BTreeSet<String>,
    /// For everybody else who signed something about it, why that does not count.
    pub excuses: BTreeMap<String, String>,
    /// The seats that are open, in words; empty if all are filled.
    pub open_seats: String,
    /// What it is used for, if it counts now.
    ///
    /// # Errors
    /// The id of the reason, and the reason in words.
    pub result: Result<EmergencyUse, (&'static str, String)>,
}

/// What an emergency change would do, under each policy of the environment that denies or that one lets pass. `by` is the person who is
/// about to sign.
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
        let findings = own
            .findings()
            .iter()
            .filter(|it| it.rule != RULE && (it.outcome.denies() || it.outcome == Outcome::Waived));
        let findings: Vec<&Finding> = findings.collect();
        outlooks.extend(waivers.with_denied(policy, &findings, |denied| outlook(denied, by)));
    }
    outlooks
}

fn outlook(denied: &Denied<'_>, by: Option<&Approver>) -> EmergencyOutlook {
    let section = denied.section;
    let seats = section.from.iter().map(|it| it.asks_for(it.seats()));
    let authors = denied.images.iter().map(|(_, authors)| *authors);
    let rules = denied.findings.iter().map(|it| it.rule);
    let declarations = denied.declarations().into_iter();
    EmergencyOutlook {
        policy: denied.policy.name.clone(),
        environment: denied.policy.environment.clone().unwrap_or_default(),
        waives: rules.filter(|rule| section.waives_rule(rule)).collect(),
        refused: denied.can_be_waived().err().map(|why| why.detail),
        images: denied
            .images
            .iter()
            .filter_map(|(check, _)| check.subject.cloned())
            .collect(),
        seats: listed(seats, 10),
        authors: authors.clone().flat_map(|it| it.people.clone()).collect(),
        unknown_author: authors.clone().find_map(|it| it.unknown.clone()),
        maximum_validity: section.maximum_validity(),
        review_within: section.review_within(),
        incident: section.incident.clone(),
        trust_roots: section
            .root_names(denied.policy)
            .into_iter()
            .map(str::to_owned)
            .collect(),
        own_seat: by.map(|by| own_seat(denied, by)),
        declarations: declarations.filter_map(|id| declared(denied, id)).collect(),
    }
}

/// The seat that a person would fill by agreeing now.
fn own_seat(denied: &Denied<'_>, by: &Approver) -> Result<String, String> {
    let section = denied.section;
    let people = people_of(denied.world).map_err(|why| why.detail)?;
    let roots = section.root_names(denied.policy);
    witnesses(
        by,
        &roots,
        section.transparency(denied.policy),
        denied.world,
    )?;
    let person = found_person(people.person_of(&by.identity))?;
    let mut authors = denied.images.iter().map(|(_, authors)| &authors.people);
    if let Some(did) = authors.find_map(|it| it.get(&person.name)) {
        return Err(format!(
            "`{}` is an author of the change ({did})",
            person.name
        ));
    }
    let now = denied.promotion.at;
    let seats = seats_of(person, [now; 3], &section.from, people).map_err(|why| why.why)?;
    let names = seats.iter().filter_map(|at| section.from.get(*at));
    let names: Vec<_> = names.map(|from| from.asks_for(1)).collect();
    Ok(format!(
        "`{}` fills a seat: {}",
        person.name,
        names.join(" or ")
    ))
}

fn declared(denied: &Denied<'_>, id: Digest) -> Option<DeclarationOutlook> {
    let nothing = ImageEvidence::default();
    let people = people_of(denied.world).ok()?;
    let (mut agreed, mut excuses): (Option<BTreeSet<String>>, _) = (None, BTreeMap::new());
    let (mut said, mut open_seats) = (None, String::new());
    for (check, authors) in &denied.images {
        let words = SignedWords {
            section: denied.section,
            check,
            evidence: check.evidence.value().copied().unwrap_or(&nothing),
            people,
            authors,
        };
        said = said.or_else(|| {
            let statement = words.accepted().find(|it| it.digest() == id)?;
            match statement.predicate() {
                Predicate::EmergencyChange(said) => Some(EmergencyChange::clone(said)),
                _ => None,
            }
        });
        let votes = words.votes_of(&id);
        let counted: Vec<_> = votes.counted.iter().collect();
        let seating = Seating::of(&denied.section.from, &counted);
        if open_seats.is_empty() {
            open_seats = seating.open();
        }
        let own: BTreeSet<_> = counted.iter().map(|it| it.person.to_owned()).collect();
        agreed = Some(match agreed {
            None => own,
            Some(others) => &others & &own,
        });
        excuses.extend(votes.excuses);
    }
    let result = denied.judge(&id, &mut BTreeSet::new());
    Some(DeclarationOutlook {
        declaration: id,
        said: said?,
        agreed: agreed.unwrap_or_default(),
        excuses,
        open_seats,
        result: result.map_err(|why| (why.reason.id, why.detail)),
    })
}
