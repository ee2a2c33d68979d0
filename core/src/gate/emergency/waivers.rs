//! The emergency changes of one review: which policies one lets pass, what evidence that needs, and what is still open.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::commands::declare;
use super::decide::{Answer, Denied, can_be_an_emergency};
use super::policy::EmergencyPolicy;
use super::signed::{ChangeAuthors, SignedWords};
use crate::attest::predicate::Predicate;
use crate::expression::Work;
use crate::gate::evidence::{Effect, Evidence, Subject};
use crate::gate::finding::{Finding, Outcome, Target};
use crate::gate::needs::ImageNeeds;
use crate::gate::people::{Lookup, Person};
use crate::gate::policy::Policy;
use crate::gate::promotion::Promotion;
use crate::gate::rules::{AuthorAction, Authors, ImageCheck, NamedRoots, Needs, unread_authors};
use crate::gate::snapshot::{Certainty, Governing};
use crate::gate::verdict::Verdict;
use crate::gate::world::{EvidenceToKeep, World};

/// The rule that findings about emergency changes name.
pub(in crate::gate) const RULE: &str = "emergency";

/// What is known of one review, as far as emergency changes need it.
pub(in crate::gate) struct Waivers<'a> {
    promotion: &'a Promotion,
    evidence: &'a Evidence,
    governing: &'a Governing<'a>,
    /// The subject of each image of the change, if its digest is known; made when something is denied.
    subjects: OnceCell<Vec<Option<Subject>>>,
    /// The authors of the change of each image, once they are needed.
    authors: OnceCell<Vec<ChangeAuthors>>,
}

impl<'a> Waivers<'a> {
    pub(in crate::gate) fn new(
        promotion: &'a Promotion,
        evidence: &'a Evidence,
        governing: &'a Governing<'a>,
    ) -> Waivers<'a> {
        Waivers {
            promotion,
            evidence,
            governing,
            subjects: OnceCell::new(),
            authors: OnceCell::new(),
        }
    }

    fn subjects(&self) -> &[Option<Subject>] {
        self.subjects.get_or_init(|| {
            let images = self.promotion.images();
            images
                .map(|(image, pin)| pin.subject(&image.reference))
                .collect()
        })
    }

    /// Whether an emergency change lets a change pass a policy that denies it because of these findings; `None` where none was
    /// declared, or none can be.
    pub(in crate::gate) fn answer(&self, policy: &Policy, findings: &[&Finding]) -> Option<Answer> {
        if policy.emergency.is_none() || findings.is_empty() {
            return None;
        }
        let images = images_that_need_it(policy, self.promotion, findings);
        let is_declared = images.iter().any(|at| self.is_declared(*at));
        if !is_declared {
            return None;
        }
        self.with_denied(policy, findings, |denied| denied.decide())
    }

    /// The command that declares an emergency change which could waive these findings.
    pub(in crate::gate) fn command(
        &self,
        policy: &Policy,
        findings: &[&Finding],
    ) -> Option<String> {
        self.with_denied(policy, findings, |denied| {
            denied.can_be_waived().ok()?;
            declare(denied)
        })?
    }

    /// The rejections and closures that a policy's emergency changes are denied by and that the cluster does not keep yet.
    pub(in crate::gate) fn to_keep(&self, policy: &Policy) -> EvidenceToKeep {
        let mut kept = EvidenceToKeep::default();
        let world = self.governing.world;
        let (Some(section), Some(people)) = (policy.emergency.as_deref(), world.people.value())
        else {
            return kept;
        };
        if !can_be_an_emergency(self.promotion.kind) {
            return kept;
        }
        let (roots, authors) = (NamedRoots::default(), ChangeAuthors::default());
        for at in images_about(policy, self.promotion) {
            let subject = self.subjects().get(at).and_then(Option::as_ref);
            let (Some(subject), Some(check)) = (subject, self.check(policy, &roots, at)) else {
                continue;
            };
            let Some(evidence) = check.evidence.value().copied() else {
                continue;
            };
            let words = SignedWords {
                section,
                check: &check,
                evidence,
                people,
                authors: &authors,
            };
            let closures = words.closures_to_keep().into_iter();
            let closures = closures.map(|closure| (closure, true));
            let new = words.to_keep().into_iter().chain(closures);
            let new = new.filter(|(rejection, is_timed)| {
                !world.keeps_rejection(&subject.digest, rejection, *is_timed)
            });
            let new = new.map(|(rejection, _)| (subject.digest.clone(), rejection));
            kept.rejections.extend(new);
        }
        kept
    }

    /// Gives what denies a change under a policy that knows emergency changes.
    pub(in crate::gate) fn with_denied<T>(
        &self,
        policy: &Policy,
        findings: &[&Finding],
        use_it: impl FnOnce(&Denied<'_>) -> T,
    ) -> Option<T> {
        if findings.is_empty() {
            return None;
        }
        let images = images_that_need_it(policy, self.promotion, findings);
        self.with_images(policy, findings, images, use_it)
    }

    /// The same whatever the policy decides: if nothing denies the change, with all images that the policy is about.
    pub(super) fn with_section<T>(
        &self,
        policy: &Policy,
        findings: &[&Finding],
        use_it: impl FnOnce(&Denied<'_>) -> T,
    ) -> Option<T> {
        if !findings.is_empty() {
            return self.with_denied(policy, findings, use_it);
        }
        let images = images_about(policy, self.promotion);
        self.with_images(policy, findings, images, use_it)
    }

    fn with_images<T>(
        &self,
        policy: &Policy,
        findings: &[&Finding],
        images: Vec<usize>,
        use_it: impl FnOnce(&Denied<'_>) -> T,
    ) -> Option<T> {
        let section = policy.emergency.as_deref()?;
        if !can_be_an_emergency(self.promotion.kind) {
            return None;
        }
        let names = section.root_names(policy).into_iter();
        // Only the trust roots are asked for, so the keys are left out.
        let needs = Needs::roots(names, &[], &self.governing.world.trust_roots);
        let roots = NamedRoots::from(needs);
        let authors = self.authors.get_or_init(|| self.all_authors());
        let images = images
            .into_iter()
            .filter_map(|at| Some((self.check(policy, &roots, at)?, authors.get(at)?)));
        let denied = Denied {
            policy,
            section,
            promotion: self.promotion,
            world: self.governing.world,
            evidence: self.evidence,
            images: images.collect(),
            findings: findings.to_vec(),
        };
        Some(use_it(&denied))
    }

    /// Whether an emergency change is declared for an image, under whatever trust root.
    fn is_declared(&self, at: usize) -> bool {
        let Some(Some(subject)) = self.subjects().get(at) else {
            return false;
        };
        let evidence = self.evidence.for_effect(subject, Effect::CanHurt);
        let statements = evidence.value().into_iter().flat_map(|it| &it.statements);
        statements
            .map(|(_, statement)| statement.predicate())
            .any(|it| matches!(it, Predicate::EmergencyChange(_)))
    }

    /// One image as the statements about it are read. An emergency change binds the digest that the manifest names, never a
    /// platform of it.
    fn check<'c>(
        &'c self,
        policy: &'c Policy,
        roots: &'c NamedRoots<'c>,
        at: usize,
    ) -> Option<ImageCheck<'c>> {
        let (image, pin) = self.promotion.images().nth(at)?;
        let subject = self.subjects().get(at)?.as_ref();
        let evidence = match subject {
            Some(subject) => self.evidence.for_effect(subject, Effect::CanHurt),
            None => crate::gate::evidence::Collected::Unavailable(
                crate::gate::evidence::Unavailability(
                    "the digest of the image is not known".to_owned(),
                ),
            ),
        };
        Some(ImageCheck {
            promotion: self.promotion,
            policy,
            world: self.governing.world,
            roots,
            image,
            pin,
            records: self.promotion.records_of(at),
            subject,
            evidence,
            last_listed: subject.and_then(|it| self.evidence.last_listed.get(it).copied()),
            parent_index: None,
            work: Work::default(),
        })
    }

    fn all_authors(&self) -> Vec<ChangeAuthors> {
        (0..self.subjects().len())
            .map(|at| self.authors_of(at))
            .collect()
    }

    /// The authors of the change of an image: the union of what every policy accepts about it that governs, or may govern. They are all
    /// known if one policy that governs for certain knows all of them.
    fn authors_of(&self, at: usize) -> ChangeAuthors {
        let mut found = ChangeAuthors::default();
        let (mut is_known, mut unknown) = (false, BTreeSet::new());
        let mut unread = BTreeSet::new();
        let world = self.governing.world;
        let Some(people) = world.people.value() else {
            return found;
        };
        for (policy, certainty) in &self.governing.policies {
            let roots = NamedRoots::default();
            let Some(check) = self.check(policy, &roots, at) else {
                continue;
            };
            if !policy.matches_image(&check.image.reference) {
                continue;
            }
            let Some(evidence) = check.evidence.value().copied() else {
                continue;
            };
            let rules = policy.approvals();
            for rule in rules.filter(|rule| rule.different_from_author) {
                let (authors, why) = Authors::known(rule, &check, evidence, people);
                is_known |= why.is_empty() && *certainty == Certainty::Certain;
                unknown.extend(why);
                unread.extend(unread_authors(rule, &check));
                for (name, did) in authors.people() {
                    let known = found.people.entry(name.to_owned()).or_insert(did);
                    *known = did.min(*known);
                }
            }
        }
        found.unread = unread.into_iter().next();
        let digest = self.subjects().get(at).and_then(Option::as_ref);
        let kept = digest.and_then(|subject| world.authors.get(&subject.digest));
        for identity in kept.into_iter().flat_map(|kept| &kept.identities) {
            if let Lookup::Person(person) | Lookup::Similar(person) = people.person_of(identity) {
                let known = found.people.entry(person.name.clone());
                known.or_insert(AuthorAction::KEPT);
            }
        }
        if !is_known {
            let why = unknown.into_iter().next();
            let why = why.map(|why| format!("it is not known who wrote the change ({why})"));
            let none = || {
                "it is not known who wrote the change: no policy that governs it asks for the authors"
                    .to_owned()
            };
            found.unknown = Some(why.unwrap_or_else(none));
        }
        found
    }
}

/// The images that need an emergency change so that these findings are waived, by their place: those that are denied; all that the
/// policy is about, if the object as a whole is denied.
fn images_that_need_it(
    policy: &Policy,
    promotion: &Promotion,
    findings: &[&Finding],
) -> Vec<usize> {
    let fields: BTreeSet<_> = findings
        .iter()
        .filter_map(|finding| match &finding.target {
            Target::Image(image) => Some(image.field.as_str()),
            Target::Workload | Target::Field(_) => None,
        })
        .collect();
    let is_whole = |finding: &&Finding| !matches!(finding.target, Target::Image(_));
    let whole = match findings.iter().any(is_whole) {
        true => images_about(policy, promotion),
        false => Vec::new(),
    };
    let images = promotion.images().enumerate();
    let needing = images
        .filter(|(at, (image, _))| fields.contains(image.field.as_str()) || whole.contains(at));
    needing.map(|(at, _)| at).collect()
}

/// The images that stand for the object as a whole under a policy, by their place: those that its `match.images` names; all, if it names
/// none of them, since the policy governs such an object too.
fn images_about(policy: &Policy, promotion: &Promotion) -> Vec<usize> {
    let images = promotion.images().enumerate();
    let named = images.filter(|(_, (image, _))| policy.matches_image(&image.reference));
    let named: Vec<_> = named.map(|(at, _)| at).collect();
    match named.is_empty() {
        true => (0..promotion.images().count()).collect(),
        false => named,
    }
}

/// What statements about emergency changes need: the trust roots, with certificates and with the keys of everybody in the people directory,
/// because each of these people may declare an emergency change, and end the one they declared.
fn needs_of(section: &EmergencyPolicy, policy: &Policy, world: &World) -> Needs<'static> {
    let people = world.people.value();
    let each = people.into_iter().flat_map(|people| people.people());
    let keys: Vec<_> = each.flat_map(Person::keys).map(Arc::clone).collect();
    let names = section.root_names(policy).into_iter();
    Needs::roots(names, &keys, &world.trust_roots)
}

impl Governing<'_> {
    /// The evidence that is needed to list what people signed about emergency changes, whatever the verdict: besides what the policies
    /// need, the statements of everybody in the people directory, since anybody of them may review.
    pub fn emergency_listing_needs(&self, promotion: &Promotion) -> BTreeMap<Subject, ImageNeeds> {
        let mut all = self.needs(promotion);
        for (policy, _) in &self.policies {
            let Some(section) = policy.emergency.as_deref() else {
                continue;
            };
            let own = needs_of(section, policy, self.world);
            let about = images_about(policy, promotion);
            for (at, (image, pin)) in promotion.images().enumerate() {
                let reference = &image.reference;
                let is_about = about.contains(&at) && !self.refuses_by_name(reference);
                let subject = pin.subject(reference).filter(|_| is_about);
                let Some(subject) = subject else { continue };
                let needs = all.entry(subject).or_default();
                needs.can_hurt = true;
                needs.heard.get_or_insert_with(|| self.heard([].iter()));
                let anchors = own.anchors.iter();
                needs
                    .anchors
                    .extend(anchors.map(|(id, anchor)| (id.clone(), anchor.clone())));
            }
        }
        all
    }

    /// The evidence that is needed to learn whether an emergency change lets a change pass, as far as it is more than `gathered`: for
    /// each image that needs one, under each policy that could waive everything for which it denies, or does.
    pub fn emergency_needs(
        &self,
        promotion: &Promotion,
        verdict: &Verdict,
        gathered: &BTreeMap<Subject, ImageNeeds>,
    ) -> BTreeMap<Subject, ImageNeeds> {
        let mut more = BTreeMap::new();
        let nothing = Evidence::default();
        let waivers = Waivers::new(promotion, &nothing, self);
        for policy in verdict.policies() {
            let Some(policy_of) = self.policies.iter().find(|it| it.0.name == policy.policy())
            else {
                continue;
            };
            let (policy_of, _) = *policy_of;
            let findings = waived_or_denying(policy.findings());
            let subjects = waivers.with_denied(policy_of, &findings, |denied| {
                let can = denied.can_be_waived().is_ok();
                let images = denied.images.iter().filter(|_| can);
                let known =
                    images.filter(|(check, _)| !self.refuses_by_name(&check.image.reference));
                let subjects = known.filter_map(|(check, _)| check.subject.cloned());
                subjects.collect::<Vec<_>>()
            });
            let subjects = subjects.unwrap_or_default();
            let Some(section) = policy_of
                .emergency
                .as_deref()
                .filter(|_| !subjects.is_empty())
            else {
                continue;
            };
            let own = needs_of(section, policy_of, self.world);
            for subject in subjects {
                let known = gathered.get(&subject);
                let mut needs = more.get(&subject).or(known).cloned().unwrap_or_default();
                let is_known = |needs: &ImageNeeds| {
                    needs.can_hurt && own.anchors.keys().all(|id| needs.anchors.contains_key(id))
                };
                if known.is_some_and(is_known) {
                    continue;
                }
                needs.can_hurt = true;
                needs.heard.get_or_insert_with(|| self.heard([].iter()));
                let anchors = own.anchors.iter();
                needs
                    .anchors
                    .extend(anchors.map(|(id, anchor)| (id.clone(), anchor.clone())));
                more.insert(subject, needs);
            }
        }
        more
    }
}

/// The findings that deny or are waived, without those about emergency changes.
pub(super) fn waived_or_denying(findings: &[Finding]) -> Vec<&Finding> {
    let others = findings.iter().filter(|it| it.rule != RULE);
    let needing = others.filter(|it| it.outcome.denies() || it.outcome == Outcome::Waived);
    needing.collect()
}
