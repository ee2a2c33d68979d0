//! Whether an emergency change that was used was reviewed: by a person who had no part in it, with a statement about an image that was
//! admitted, signed after the last use.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::participants::EmergencyParticipants;
use super::policy::EmergencyPolicy;
use super::signed::signed_by;
use crate::attest::VerifiedStatement;
use crate::attest::predicate::{EmergencyReview, Predicate, ReviewVerdict};
use crate::gate::evidence::{Evidence, Subject};
use crate::gate::image::Digest;
use crate::gate::needs::ImageNeeds;
use crate::gate::people::{Lookup, People, Person};
use crate::gate::policy::Policy;
use crate::gate::rules::{Needs, minute, people_of, person, verified_times};
use crate::gate::snapshot::Snapshot;
use crate::gate::world::World;

/// An emergency change that was used, as far as it matters for its review.
#[derive(Clone, Debug)]
pub struct UsedEmergency {
    /// The digest of the statement that declares it.
    pub declaration: Digest,
    /// The environment.
    pub environment: String,
    /// The policies that it let a change pass.
    pub policies: BTreeSet<String>,
    /// The images that were admitted.
    pub images: BTreeSet<Subject>,
    /// The people who had a part in it, as far as that was known when it was used.
    pub participants: EmergencyParticipants,
    /// The Kubernetes users who asked for the changes.
    pub requesters: BTreeSet<String>,
    /// When it was used last: a review that was signed before is not a review of that.
    pub last_used: Timestamp,
}

/// A review that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountedReview {
    /// The result.
    pub verdict: ReviewVerdict,
    /// The person who signed it, by name in the people directory.
    pub reviewer: String,
    /// The earliest verified time of the signature.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
    /// What has to be done now.
    pub follow_ups: Vec<String>,
    /// The digest of the statement.
    pub statement: Digest,
}

/// What is known of the review of an emergency change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReviewSearch {
    /// The first review that counts.
    pub counted: Option<CountedReview>,
    /// Why other reviews do not count, one sentence each.
    pub refused: BTreeSet<String>,
    /// What could not be read.
    pub unread: BTreeSet<String>,
}

impl Snapshot {
    /// The evidence that is needed to find the review of an emergency change: the statements of everybody in the people directory.
    ///
    /// # Errors
    /// Why no review can be verified at present.
    pub fn emergency_review_needs(
        &self,
        used: &UsedEmergency,
    ) -> Result<BTreeMap<Subject, ImageNeeds>, String> {
        let people = people_of(&self.world).map_err(|why| why.detail)?;
        let keys: Vec<_> = people
            .people()
            .iter()
            .flat_map(Person::keys)
            .map(Arc::clone)
            .collect();
        let mut anchors = BTreeMap::new();
        for (policy, section) in self.sections_of(used)? {
            let names = section.root_names(policy).into_iter();
            anchors.extend(Needs::roots(names, &keys, &self.world.trust_roots).anchors);
        }
        if anchors.is_empty() {
            return Err(
                "no trust root is known under which the policies accept reviews".to_owned(),
            );
        }
        let needs = ImageNeeds {
            anchors,
            ..ImageNeeds::default()
        };
        let images = used.images.iter();
        Ok(images.map(|it| (it.clone(), needs.clone())).collect())
    }

    /// The review of an emergency change among the evidence.
    ///
    /// # Errors
    /// Why no review can be verified at present.
    pub fn find_emergency_review(
        &self,
        used: &UsedEmergency,
        evidence: &Evidence,
        now: Timestamp,
    ) -> Result<ReviewSearch, String> {
        let people = people_of(&self.world).map_err(|why| why.detail)?;
        let sections = self.sections_of(used)?;
        let mut search = ReviewSearch::default();
        let mut statements: BTreeMap<_, &Arc<VerifiedStatement>> = BTreeMap::new();
        for image in &used.images {
            let about = evidence.about(image);
            let unread = about.unavailabilities().iter();
            search.unread.extend(unread.map(ToString::to_string));
            for (_, statement) in about.value().into_iter().flat_map(|it| &it.statements) {
                // The same signature is verified under each trust root by itself.
                let key = (
                    statement.digest(),
                    statement.signer().name(),
                    statement.anchor(),
                    verified_times(statement),
                );
                statements.insert(key, statement);
            }
        }
        let statements: Vec<_> = statements.into_values().collect();
        let participants = used.all_participants(&statements, &self.world, people);
        let mut counted = Vec::new();
        for statement in &statements {
            let Predicate::EmergencyReview(said) = statement.predicate() else {
                continue;
            };
            if said.emergency != used.declaration {
                continue;
            }
            let judged = used.judge(statement, said, &participants, &sections, &self.world, now);
            match judged {
                Ok(review) => counted.push(review),
                Err(why) => drop(search.refused.insert(why)),
            }
        }
        counted.sort_by(|a, b| (a.at, &a.statement).cmp(&(b.at, &b.statement)));
        search.counted = counted.into_iter().next();
        Ok(search)
    }

    /// The sections `emergency` of the policies that it let a change pass; of every policy of the environment, where none of these
    /// exists any more.
    fn sections_of(
        &self,
        used: &UsedEmergency,
    ) -> Result<Vec<(&Policy, &EmergencyPolicy)>, String> {
        let policies = self.policies.iter();
        let sections = policies.filter_map(|policy| {
            let is_of = policy.environment.as_ref() == Some(&used.environment);
            Some((policy, policy.emergency.as_deref().filter(|_| is_of)?))
        });
        let all: Vec<_> = sections.collect();
        let own = all
            .iter()
            .filter(|(it, _)| used.policies.contains(&it.name));
        let own: Vec<_> = own.copied().collect();
        match (own.is_empty(), all.is_empty()) {
            (false, _) => Ok(own),
            (true, false) => Ok(all),
            (true, true) => Err(format!(
                "no policy of the environment `{}` has a section `emergency`, which says under which trust roots reviews count",
                used.environment
            )),
        }
    }
}

impl UsedEmergency {
    /// Everybody who had a part in it: as recorded, and by what is attached now.
    fn all_participants(
        &self,
        statements: &[&Arc<VerifiedStatement>],
        world: &World,
        people: &People,
    ) -> EmergencyParticipants {
        let mut all = self.participants.clone();
        for user in &self.requesters {
            all.add_requester(user, people);
        }
        for statement in statements {
            let names = match statement.predicate() {
                Predicate::EmergencyChange(_) if *statement.digest() == self.declaration => {
                    &mut all.declared_by
                }
                Predicate::Approval(said) if said.emergency.as_ref() == Some(&self.declaration) => {
                    &mut all.agreed_by
                }
                _ => continue,
            };
            if let Ok(person) = person(statement.signer(), people) {
                names.insert(person.name.clone());
            }
        }
        let digests = self.images.iter().map(|image| &image.digest);
        let kept = digests.filter_map(|digest| world.authors.get(digest));
        for identity in kept.flat_map(|kept| &kept.identities) {
            if let Lookup::Person(person) | Lookup::Similar(person) = people.person_of(identity) {
                all.authors.insert(person.name.clone());
            }
        }
        all
    }

    /// Whether a review counts under one of the policies.
    fn judge(
        &self,
        statement: &VerifiedStatement,
        said: &EmergencyReview,
        participants: &EmergencyParticipants,
        sections: &[(&Policy, &EmergencyPolicy)],
        world: &World,
        now: Timestamp,
    ) -> Result<CountedReview, String> {
        let people = people_of(world).map_err(|why| why.detail)?;
        let mut refused = Err("it is not signed under a trust root of the policies".to_owned());
        for (policy, section) in sections {
            let roots = section.root_names(policy).into_iter();
            let mut roots = roots.filter_map(|name| world.trust_roots.get(name));
            if !roots.any(|root| statement.anchor().is_under(root)) {
                continue;
            }
            // 1. A person of the directory signed it, at a time that is proven. A second identity is the same person.
            let signed = signed_by(statement, section.transparency(policy), people, now);
            let (person, (at, _)) = match signed {
                Ok(signed) => signed,
                Err(why) => {
                    refused = Err(why);
                    continue;
                }
            };
            // 2. The person had no part in the emergency change.
            if let Some(why) = participants.why_not_reviewer(&person.name) {
                return Err(why);
            }
            // 3. The review is later than the last use. Otherwise an emergency change could be used again after its review.
            if at < self.last_used {
                return Err(format!(
                    "`{}` reviewed it on {}, before it was used last ({})",
                    person.name,
                    minute(at),
                    minute(self.last_used)
                ));
            }
            return Ok(CountedReview {
                verdict: said.verdict,
                reviewer: person.name.clone(),
                at,
                reason: said.reason.clone(),
                follow_ups: said.follow_ups.clone(),
                statement: statement.digest().clone(),
            });
        }
        refused
    }
}
