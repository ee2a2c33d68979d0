//! From the policies that govern a promotion to what has to be learned about its images. Rules never fetch: they say what they
//! need, and the shell fetches exactly that.

use std::collections::BTreeMap;

use super::evidence::Subject;
use super::image::ImageReference;
use super::policy::{Enforcement, Policy};
use super::promotion::Promotion;
use super::rules::Effect;
use super::snapshot::{Certainty, Governing};
use crate::attest::{Anchor, AnchorId};

/// What all governing policies together need of one image.
#[derive(Clone, Debug, Default)]
pub struct ImageNeeds {
    /// The anchors to verify its evidence under.
    pub anchors: BTreeMap<AnchorId, Anchor>,
    /// Whether the same is needed of each of its platforms, where it is an index.
    pub platforms: bool,
    /// Whether evidence that was not seen could hurt, so that an older listing does not do.
    pub can_hurt: bool,
}

impl Governing<'_> {
    /// Whether the digest of this image has to be known before it can be judged.
    pub fn pins(&self, image: &ImageReference) -> bool {
        let asks = |policy: &Policy| policy.matches_image(image) && policy.requires_evidence();
        !self.refuses_by_name(image) && self.policies.iter().any(|(policy, _)| asks(policy))
    }

    /// What has to be learned about the images of a promotion, each subject once: its evidence under the anchors of every
    /// requirement that applies to the kind of change, in every policy that matches the image. Nothing is asked about an image
    /// whose name is refused.
    pub fn needs(&self, promotion: &Promotion) -> BTreeMap<Subject, ImageNeeds> {
        let asking: Vec<_> = (self.policies.iter())
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
            for (policy, evidence, own) in asking {
                let anchors = own.anchors.iter();
                let anchors = anchors.map(|(id, anchor)| (id.clone(), anchor.clone()));
                of_image.anchors.extend(anchors);
                of_image.platforms |= policy.allow_unsigned_index && evidence.per_platform;
                of_image.can_hurt |= evidence.effect == Effect::CanHurt;
            }
        }
        needs
    }

    /// Whether a policy that certainly governs and enforces refuses the image by its name, so that a deployer cannot
    /// make the gate talk to registries of his choice.
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
