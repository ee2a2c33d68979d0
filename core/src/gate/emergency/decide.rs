//! Whether one declared emergency change lets a change pass a policy that would deny it.

use std::collections::{BTreeMap, BTreeSet};

use super::commands;
use super::debt::OverdueReviews;
use super::incident::{IncidentQuestion, unlisted_opener, verify_incident};
use super::policy::EmergencyPolicy;
use super::reasons::{
    EMERGENCY_CLOSED, EMERGENCY_ELSEWHERE, EMERGENCY_EXPIRED, EMERGENCY_NOT_AGREED,
    EMERGENCY_NOT_WAIVED, EMERGENCY_REVIEW_OVERDUE, EMERGENCY_UNDECIDED,
};
use super::refused::{Refused, Step};
use super::signed::{Agreed, ChangeAuthors, SignedWords, foremost};
use super::used::EmergencyUse;
use crate::gate::evidence::{Collected, Evidence, ImageEvidence};
use crate::gate::finding::Finding;
use crate::gate::image::Digest;
use crate::gate::people::{People, Person};
use crate::gate::policy::Policy;
use crate::gate::promotion::{ChangeKind, Promotion};
use crate::gate::rules::{
    IMAGE_NOT_ALLOWED, ImageCheck, UNWAIVABLE, listed, minute, people_of, readable,
    unread_that_could_hurt,
};
use crate::gate::world::World;
use crate::reason::Reason;

/// A change under a policy that denies it.
pub(in crate::gate) struct Denied<'a> {
    pub(in crate::gate) policy: &'a Policy,
    pub(in crate::gate) section: &'a EmergencyPolicy,
    pub(in crate::gate) promotion: &'a Promotion,
    pub(in crate::gate) world: &'a World,
    pub(in crate::gate) evidence: &'a Evidence,
    /// The images that need the emergency change, each with the authors of its change.
    pub(in crate::gate) images: Vec<(ImageCheck<'a>, &'a ChangeAuthors)>,
    /// The findings that deny.
    pub(in crate::gate) findings: Vec<&'a Finding>,
}

/// What came of the emergency changes that were declared.
pub(in crate::gate) struct Answer {
    /// The one that lets the change pass, or why none does; `None` where none was declared.
    pub(in crate::gate) result: Option<Result<EmergencyUse, Refused>>,
    /// What has to be asked about incidents before that is known.
    pub(in crate::gate) asks: BTreeSet<IncidentQuestion>,
}

impl<'a> Denied<'a> {
    /// Finds the declaration that lets the change pass. Each declaration is judged alone: two of them never add up.
    pub(in crate::gate) fn decide(&self) -> Answer {
        let mut asks = BTreeSet::new();
        let (mut accepted, mut refused) = (Vec::new(), None);
        for id in self.declarations() {
            match self.judge(&id, &mut asks) {
                Ok(used) => accepted.push(used),
                Err(why) => {
                    let why = why.of(&format!("the emergency change `{}`", short(&id)));
                    let why = match self.next_step(&id, &why) {
                        Some(hint) => why.hint(hint),
                        None => why,
                    };
                    refused = Refused::clearest(refused, why);
                }
            }
        }
        // The one that counts longest.
        accepted.sort_by(|a, b| (b.expires, &a.declaration).cmp(&(a.expires, &b.declaration)));
        let used = accepted.into_iter().next().map(Ok);
        Answer {
            result: used.or(refused.map(Err)),
            asks,
        }
    }

    /// The declarations that are attached to the images under trust roots of the policy, as many as are judged.
    pub(in crate::gate) fn declarations(&self) -> Vec<Digest> {
        let nobody = People::default();
        let people = people_of(self.world).unwrap_or(&nobody);
        let mut all = Vec::new();
        for (check, authors) in &self.images {
            let Some(evidence) = check.evidence.value().copied() else {
                continue;
            };
            let words = SignedWords {
                section: self.section,
                check,
                evidence,
                people,
                authors,
            };
            all.extend(words.declarations());
        }
        foremost(all)
    }

    /// Judges one declaration.
    pub(super) fn judge(
        &self,
        id: &Digest,
        asks: &mut BTreeSet<IncidentQuestion>,
    ) -> Result<EmergencyUse, Refused> {
        // 1. Every requirement that is not met can be waived.
        self.can_be_waived()?;
        // 2. Everything that people have to say about every image.
        let agreed = self.agreed(id)?;
        // 3. What is owed for earlier emergency changes.
        self.debt(id)?;
        // 4. The incident, which is asked about last, so that nothing is asked in vain.
        let people: Vec<&Person> = match self.world.people.value() {
            Some(people) => {
                let names = agreed.agreed.iter().chain(&agreed.declared_by);
                names.filter_map(|name| people.person(name)).collect()
            }
            None => Vec::new(),
        };
        let namespace = self.promotion.change.workload.namespace.as_deref();
        let (state, incident) = verify_incident(
            self.section.incident.as_ref(),
            &agreed,
            &people,
            namespace,
            &self.evidence.incidents,
            asks,
        )?;
        let url = incident.and_then(|it| it.url.clone());
        let required = self.section.incident.as_ref();
        let opened = incident.filter(|_| required.is_some_and(|it| it.opened_by_other));
        let opened = opened.zip(self.world.people.value());
        let said = agreed.said;
        let names = |names: &BTreeSet<&str>| names.iter().map(|it| (*it).to_owned()).collect();
        let others = agreed.agreed.difference(&agreed.declared_by);
        let due = self.section.review_within().duration();
        let at = self.promotion.at;
        let authors = self.images.iter().map(|(_, authors)| *authors);
        Ok(EmergencyUse {
            declaration: id.clone(),
            environment: said.environment.clone(),
            incident: said.incident.id.clone(),
            incident_url: said.incident.url.clone().or(url),
            incident_state: state,
            unlisted_opener: opened.and_then(|(it, people)| unlisted_opener(it, people)),
            reason: said.reason.clone(),
            declared_by: names(&agreed.declared_by),
            approved_by: others.map(|it| (*it).to_owned()).collect(),
            authors: authors
                .clone()
                .flat_map(|it| it.people.keys().cloned())
                .collect(),
            has_unknown_author: authors.clone().any(|it| it.unknown.is_some()),
            requester: self
                .promotion
                .change
                .actor
                .as_ref()
                .map(|it| it.username.clone()),
            expires: agreed.ends,
            review_due: at.saturating_add(due).unwrap_or(at),
            policies: BTreeSet::from([self.policy.name.clone()]),
            waived: self.findings.iter().map(|it| it.rule).collect(),
            images: self
                .images
                .iter()
                .filter_map(|(check, _)| check.subject.cloned())
                .collect(),
        })
    }

    /// What people can do about a declaration that does not count, as a command.
    fn next_step(&self, id: &Digest, why: &Refused) -> Option<String> {
        let is = |reason: Reason| why.reason.id == reason.id;
        if is(EMERGENCY_NOT_AGREED) {
            let command = commands::agree(self, id)?;
            return Some(format!("ask them to agree to it: `{command}`"));
        }
        if is(EMERGENCY_EXPIRED) || is(EMERGENCY_CLOSED) {
            let command = commands::declare(self)?;
            return Some(format!(
                "if the incident lasts, declare it again: `{command}`"
            ));
        }
        None
    }

    /// Whether every requirement that is not met can be waived.
    pub(in crate::gate) fn can_be_waived(&self) -> Result<(), Refused> {
        let each = self.findings.iter();
        let not: BTreeSet<_> = each.filter_map(|it| self.why_not_waived(it)).collect();
        match not.is_empty() {
            true => Ok(()),
            false => Err(Refused::failed(
                Step::Waives,
                EMERGENCY_NOT_WAIVED,
                format!("it cannot waive {}", listed(not, 3)),
            )),
        }
    }

    /// Why no emergency change waives a finding under this policy.
    fn why_not_waived(&self, finding: &Finding) -> Option<String> {
        let rule = finding.rule;
        if finding.requirement_index.is_none() {
            return Some(format!("`{rule}` ({})", finding.reason));
        }
        if !self.section.waives_rule(rule) {
            return Some(format!(
                "`{rule}`, which is not in `emergency.waives` of this policy"
            ));
        }
        if rule == "approvals" && UNWAIVABLE.iter().any(|reason| reason.id == finding.reason) {
            return Some(format!(
                "`{rule}` ({}), which it never does",
                finding.reason
            ));
        }
        // The registry of an image that is refused by its name is not asked, so that nothing is known of declarations there.
        if finding.reason == IMAGE_NOT_ALLOWED.id {
            return Some(format!(
                "`{rule}`, because the registry of an image that is refused by its name is not asked"
            ));
        }
        if rule != "noFreeze" {
            return None;
        }
        let Collected::Known(schedule) = &self.world.freezes else {
            return Some("`noFreeze`, because the change freezes are not known".to_owned());
        };
        let environment = self.policy.environment.as_deref().unwrap_or_default();
        let frozen = schedule.frozen_at(environment, self.promotion.at);
        let refusing = frozen.iter().filter(|it| !it.freeze.may_pass.emergency);
        let refusing: BTreeSet<_> = refusing.map(|it| format!("`{}`", it.freeze.name)).collect();
        (!refusing.is_empty()).then(|| {
            format!(
                "`noFreeze`: no emergency change passes the freeze {} (`mayPass`)",
                listed(refusing, 3)
            )
        })
    }

    /// What people said about every image that needs the emergency change.
    pub(in crate::gate) fn agreed(&self, id: &Digest) -> Result<Agreed<'_>, Refused> {
        let unknown = |why: String| Refused::undecided(Step::Evidence, EMERGENCY_UNDECIDED, why);
        let people = people_of(self.world).map_err(|why| unknown(why.detail))?;
        let missing = self.section.from.iter().find_map(|it| it.unknown(people));
        if let Some(what) = missing {
            return Err(unknown(format!(
                "the people directory does not name the {what}"
            )));
        }
        let (mut together, mut refused): (Option<Agreed<'_>>, Vec<Refused>) = Default::default();
        for (check, authors) in &self.images {
            let own = complete(check).map_err(unknown).and_then(|evidence| {
                let words = SignedWords {
                    section: self.section,
                    check,
                    evidence,
                    people,
                    authors,
                };
                words.agreed(id)
            });
            let own = match own {
                Ok(own) => own,
                Err(why) => {
                    refused.push(why);
                    continue;
                }
            };
            together = Some(match together {
                None => own,
                Some(other) => Agreed {
                    said: own.said,
                    declared_by: &other.declared_by | &own.declared_by,
                    agreed: &other.agreed | &own.agreed,
                    declared_at: other.declared_at.min(own.declared_at),
                    ends: other.ends.min(own.ends),
                },
            });
        }
        // Of several images the one that came least far is told, so that their order does not matter.
        if let Some(why) = refused.into_iter().min() {
            return Err(why);
        }
        together.ok_or_else(|| {
            Refused::failed(
                Step::Place,
                EMERGENCY_ELSEWHERE,
                "it is about a digest, and no digest of the workload is known",
            )
        })
    }

    /// Whether another emergency change of the environment blocks this one.
    fn debt(&self, id: &Digest) -> Result<(), Refused> {
        if !self.section.block_on_overdue_review {
            return Ok(());
        }
        let reviews = &self.world.overdue_reviews;
        let environment = self.policy.environment.as_deref().unwrap_or_default();
        let at = self.promotion.at;
        let owed = reviews.value();
        let overdue = owed.and_then(|it| it.first_besides(id, environment, at));
        if let Some(overdue) = overdue {
            let detail = format!(
                "the emergency change `{}` of `{environment}` for the incident `{}` was to be reviewed until {}",
                short(&overdue.declaration),
                overdue.incident,
                minute(overdue.due)
            );
            let refused = Refused::failed(Step::Debt, EMERGENCY_REVIEW_OVERDUE, detail);
            let command = commands::review(overdue, environment, self.world);
            return Err(refused.hint(format!(
                "let somebody review it who had no part in it: `{command}`"
            )));
        }
        match (
            reviews.unavailabilities(),
            OverdueReviews::are_kept(reviews),
        ) {
            ([why, ..], true) => Err(Refused::undecided(
                Step::Debt,
                EMERGENCY_UNDECIDED,
                format!("whether a review is overdue, which would block it, is not known: {why}"),
            )),
            _ => Ok(()),
        }
    }
}

/// The evidence of an image, if all of it was read: a rejection or the end of the emergency change could be in the rest.
fn complete<'a>(check: &ImageCheck<'a>) -> Result<&'a ImageEvidence, String> {
    let evidence = readable(check).map_err(|why| why.detail)?;
    if let Some(root) = check.roots.missing() {
        return Err(format!(
            "the trust root `{root}`, which the policy names, is not known, and what is signed under it could block it"
        ));
    }
    match unread_that_could_hurt(check) {
        Some(why) => Err(format!(
            "some of the attached evidence could not be read: {why}"
        )),
        None => Ok(evidence),
    }
}

/// Whether an emergency change can be about this kind of change: upkeep never needs one.
pub(in crate::gate) fn can_be_an_emergency(kind: ChangeKind) -> bool {
    matches!(kind, ChangeKind::Deploy | ChangeKind::Activation)
}

/// The beginning of a digest, enough to tell declarations apart.
pub(in crate::gate) fn short(digest: &Digest) -> String {
    let hex: String = digest.hex().chars().take(12).collect();
    format!("{}:{hex}…", digest.algorithm())
}

/// Emergency changes that several policies accepted, each once.
pub(in crate::gate) fn together<'u>(
    used: impl Iterator<Item = &'u EmergencyUse>,
) -> Vec<EmergencyUse> {
    let mut all: BTreeMap<&Digest, EmergencyUse> = BTreeMap::new();
    for one in used {
        match all.get_mut(&one.declaration) {
            Some(known) => known.add(one),
            None => drop(all.insert(&one.declaration, one.clone())),
        }
    }
    all.into_values().collect()
}
