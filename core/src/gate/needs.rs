//! The evidence that the policies need to judge a promotion. Rules never fetch: they name what they need, and the shell fetches
//! exactly that.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::evidence::{Collected, Effect, Subject};
use super::image::ImageReference;
use super::people::{Lookup, People};
use super::policy::{Enforcement, Policy};
use super::promotion::Promotion;
use super::rules::Needs;
use super::signer::{AcceptedSigner, TrustRoots};
use super::snapshot::{Certainty, Governing};
use crate::attest::{Anchor, AnchorId, VerifiedStatement, predicate};

/// The evidence that all governing policies together need for one image.
#[derive(Clone, Debug, Default)]
pub struct ImageNeeds {
    /// The anchors under which to verify the evidence.
    pub anchors: BTreeMap<AnchorId, Anchor>,
    /// Whether the evidence of each platform is needed too, if the image is an index.
    pub platforms: bool,
    /// Whether more evidence could turn a pass into a denial. A listing from the cache is then not fresh enough.
    pub can_hurt: bool,
    /// Whose statements can; `None` if that is not known, so that everyone's may.
    pub heard: Option<Arc<HeardSigners>>,
}

/// The signers whose statements the policies of a review listen to, as far as they and the people directory say. What others sign
/// changes nothing, however much of it is attached.
#[derive(Clone, Debug)]
pub struct HeardSigners {
    /// The signers that the requirements name, of provenance and change records.
    signers: Vec<AcceptedSigner>,
    trust_roots: TrustRoots,
    /// The people, who can approve and reject; `None` if they are not known.
    people: Option<Arc<People>>,
}

impl HeardSigners {
    /// Whether a statement could count for a requirement.
    pub fn hear(&self, statement: &VerifiedStatement) -> bool {
        let kind = statement.predicate_type();
        if predicate::is_approval(kind) || predicate::is_emergency(kind) {
            let people = self.people.as_ref();
            return people.is_none_or(|it| it.signer(statement.signer()) != Lookup::Unknown);
        }
        let mut signers = self.signers.iter();
        signers.any(|signer| signer.signed(statement, &self.trust_roots).is_ok())
    }
}

impl Governing<'_> {
    /// Whether the digest of this image must be known to judge it.
    pub fn pins(&self, image: &ImageReference) -> bool {
        let asks = |policy: &Policy| policy.matches_image(image) && policy.requires_evidence();
        !self.refuses_by_name(image) && self.policies.iter().any(|(policy, _)| asks(policy))
    }

    /// The evidence that is needed for each image of a promotion, each subject once: under the anchors of every requirement that
    /// applies to the kind of change, in every policy that matches the image. An image with a refused name needs no evidence.
    pub fn needs(&self, promotion: &Promotion) -> BTreeMap<Subject, ImageNeeds> {
        let judging = self.policies.iter();
        let judging = judging.filter(|(policy, _)| !promotion.rests_on_record(policy));
        let asking: Vec<_> = judging
            .flat_map(|(policy, _)| {
                policy
                    .requirements
                    .iter()
                    .map(move |named| (*policy, named))
            })
            .filter(|(_, named)| named.requirement.applies_to(promotion.kind))
            .filter_map(|(policy, named)| {
                let evidence = named.requirement.evidence()?;
                Some((policy, evidence, named.requirement.needs(self.world)))
            })
            .collect();
        let injected = self.needs_of_injected(promotion);
        let of_injected = injected.iter().map(|(_, _, own)| own);
        let signers = asking.iter().map(|(.., own)| own).chain(of_injected);
        let signers = signers.flat_map(|own| own.signers.iter().copied());
        let heard = self.heard(signers);
        let mut needs: BTreeMap<Subject, ImageNeeds> = BTreeMap::new();
        for (image, pin) in promotion.images() {
            let image = &image.reference;
            let Some(subject) = pin.subject(image) else {
                continue;
            };
            let asking = asking
                .iter()
                .filter(|(policy, ..)| policy.matches_image(image));
            let mut asking = asking.peekable();
            if asking.peek().is_none() || self.refuses_by_name(image) {
                continue;
            }
            let of_image = needs.entry(subject).or_default();
            of_image.heard = Some(Arc::clone(&heard));
            for (policy, evidence, own) in asking {
                let anchors = own.anchors.iter();
                let anchors = anchors.map(|(id, anchor)| (id.clone(), anchor.clone()));
                of_image.anchors.extend(anchors);
                of_image.platforms |= policy.allow_unsigned_index && evidence.per_platform;
                of_image.can_hurt |= evidence.effect == Effect::CanHurt;
            }
        }
        for (subject, policy, own) in injected {
            let of_image = needs.entry(subject).or_default();
            of_image.heard = Some(Arc::clone(&heard));
            of_image.anchors.extend(own.anchors);
            of_image.platforms |= policy.allow_unsigned_index;
        }
        needs
    }

    /// The signers whose statements count: these, and people.
    pub(super) fn heard<'s>(
        &self,
        signers: impl Iterator<Item = &'s AcceptedSigner>,
    ) -> Arc<HeardSigners> {
        Arc::new(HeardSigners {
            signers: signers.cloned().collect(),
            trust_roots: self.world.trust_roots.clone(),
            people: match &self.world.people {
                Collected::Known(people) => Some(Arc::clone(people)),
                Collected::Partial(_, _) | Collected::Unavailable(_) => None,
            },
        })
    }

    /// What the entries need that judge images of injectors.
    fn needs_of_injected(&self, promotion: &Promotion) -> Vec<(Subject, &Policy, Needs<'_>)> {
        let images = promotion.images().enumerate();
        let added = images.filter(|(at, _)| promotion.is_injected(*at));
        let added = added.filter_map(|(_, (image, pin))| {
            let image = &image.reference;
            Some((image, pin.subject(image)?))
        });
        let each = added.flat_map(|(image, subject)| {
            let policies = self.policies.iter();
            let entries = policies.flat_map(move |(policy, _)| {
                let entries = policy.injected_entries(image);
                entries.map(move |entry| (*policy, entry))
            });
            entries.map(move |(policy, entry)| {
                let needs = entry.requirement().needs(self.world);
                (subject.clone(), policy, needs)
            })
        });
        each.collect()
    }

    /// Whether a policy that certainly governs, with `enforcement: Enforce`, refuses the image by its name. The gate does not ask
    /// the registry of such an image, so that a deployer cannot make the gate connect to a host of the deployer's choice.
    pub(super) fn refuses_by_name(&self, image: &ImageReference) -> bool {
        self.policies.iter().any(|(policy, certainty)| {
            *certainty == Certainty::Certain
                && policy.enforcement == Enforcement::Enforce
                && policy
                    .requirements
                    .iter()
                    .any(|named| named.requirement.refuses_by_name(image))
        })
    }
}
