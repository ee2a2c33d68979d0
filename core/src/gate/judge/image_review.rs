//! The judgement of one image under one policy.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{
    IMAGE_NOT_MATCHED, INJECTED, NOT_ABOUT_IMAGES, NOT_ASKED, NOT_FOR_THIS_CHANGE, RECORDED,
    REVOKED,
};
use crate::gate::effort::WorkShares;
use crate::gate::evidence::{
    Collected, Effect, Evidence, Subject, SubjectEvidence, Unavailability,
};
use crate::gate::finding::{Finding, ImageTarget, Judgement, Target};
use crate::gate::platforms::{instead_of_index, platforms_of};
use crate::gate::policy::{NamedRequirement, Policy};
use crate::gate::promotion::{ImageUse, Pin, Promotion};
use crate::gate::record::ImageRecords;
use crate::gate::rules::{ImageCheck, ImageRule, NamedRoots, Requirement, Scope};
use crate::gate::snapshot::Governing;
use crate::gate::world::{Governors, World};

/// The detail of a skip on the record.
const ON_RECORD: &str = "the record shows that this image was admitted here before";

/// Image names that templates contain and that an injector replaces with its proxy's image (Istio: `auto`).
const PLACEHOLDERS: &[&str] = &["auto", "placeholder", "injected", "to-be-injected"];

/// One requirement of a policy, with what it needs.
pub(super) struct PolicyEntry<'a> {
    pub(super) policy: &'a Policy,
    pub(super) index: usize,
    pub(super) named: &'a NamedRequirement,
    pub(super) roots: NamedRoots<'a>,
}

impl<'a> PolicyEntry<'a> {
    pub(super) fn all_of(
        policy: &'a Policy,
        world: &'a World,
    ) -> impl Iterator<Item = PolicyEntry<'a>> {
        let entries = policy.requirements.iter().enumerate();
        entries.map(|(index, named)| PolicyEntry {
            policy,
            index,
            named,
            roots: NamedRoots::of(&named.requirement, world),
        })
    }
}

/// The finding of the requirement at `index` of its policy.
pub(super) fn finding_of(
    index: usize,
    named: &NamedRequirement,
    target: Target,
    judgement: Judgement,
) -> Finding {
    Finding {
        requirement: named.name.clone(),
        requirement_index: Some(index),
        ..Finding::of_engine(named.requirement.rule_name(), target, judgement)
    }
}

/// The skip of a requirement that does not apply to this kind of change.
pub(super) fn skip_for(
    requirement: &Requirement,
    promotion: &Promotion,
    policy: &Policy,
) -> Option<Judgement> {
    if promotion.rests_on_record(policy) {
        return Some(Judgement::skip(RECORDED, ON_RECORD));
    }
    let skipped = || {
        Judgement::skip(
            NOT_FOR_THIS_CHANGE,
            "the requirement does not apply to this kind of change",
        )
    };
    (!requirement.applies_to(promotion.kind)).then(skipped)
}

/// One image with the input of its judgement, which is the same for all policies.
pub(super) struct ImageUnderReview<'a> {
    pub(super) promotion: &'a Promotion,
    pub(super) evidence: &'a Evidence,
    pub(super) governing: &'a Governing<'a>,
    pub(super) image: &'a ImageUse,
    pub(super) pin: &'a Pin,
    /// What release records say about the image, where there are any.
    pub(super) records: Option<&'a ImageRecords>,
    /// Whether an injector added the image.
    pub(super) is_injected: bool,
    /// The work that each expression may take.
    pub(super) work: WorkShares,
    pub(super) target: Target,
    /// The evidence of the image itself.
    pub(super) own: SubjectEvidence<'a>,
    /// Whether the name is refused, so that the registry is not asked.
    pub(super) is_refused_by_name: bool,
}

impl<'a> ImageUnderReview<'a> {
    pub(super) fn new(
        promotion: &'a Promotion,
        evidence: &'a Evidence,
        governing: &'a Governing<'a>,
        image: &'a ImageUse,
        pin: &'a Pin,
    ) -> ImageUnderReview<'a> {
        ImageUnderReview {
            promotion,
            evidence,
            governing,
            image,
            pin,
            records: None,
            is_injected: false,
            work: WorkShares::default(),
            target: Target::Image(Arc::new(ImageTarget {
                field: image.field.clone(),
                written: image.reference.as_written().to_owned(),
                digest: pin.digest().cloned(),
            })),
            own: match pin.subject(&image.reference) {
                Some(subject) => evidence.of(subject),
                None => SubjectEvidence::unavailable(pin_unavailability(pin)),
            },
            is_refused_by_name: governing.refuses_by_name(&image.reference),
        }
    }

    /// The findings of a policy's image rules.
    pub(super) fn findings_for(
        &self,
        policy: &Policy,
        entries: &[PolicyEntry<'_>],
    ) -> Vec<Finding> {
        if self.is_injected {
            let judgement = self.judge_injected(policy);
            let target = self.target.clone();
            return vec![Finding::of_engine("injected", target, judgement)];
        }
        if self.promotion.rests_on_record(policy) {
            let judgement = Judgement::skip(RECORDED, ON_RECORD);
            return vec![Finding::of_engine("record", self.target.clone(), judgement)];
        }
        let matched = policy.matches_image(&self.image.reference);
        let findings = entries.iter().filter_map(|entry| {
            let Scope::Image(rule) = entry.named.requirement.scope() else {
                return None;
            };
            let judgement = self.evaluate(entry, rule, matched);
            let judgement = self.explain_placeholder(judgement);
            let target = self.target.clone();
            Some(finding_of(entry.index, entry.named, target, judgement))
        });
        let mut all = Vec::with_capacity(entries.len());
        all.extend(findings);
        if !all.is_empty() {
            return all;
        }
        let detail = "the policy has no requirement about images";
        let judgement = Judgement::skip(NOT_ABOUT_IMAGES, detail);
        vec![Finding::of_engine("object", self.target.clone(), judgement)]
    }

    /// An image that an injector added is judged by the entries of the policy that are about it, and by nothing else.
    fn judge_injected(&self, policy: &Policy) -> Judgement {
        let world = self.governing.world;
        let judgements = policy
            .injected_entries(&self.image.reference)
            .filter_map(|injected| {
                let entry = PolicyEntry {
                    policy,
                    index: 0,
                    named: injected.named(),
                    roots: NamedRoots::of(injected.requirement(), world),
                };
                let Scope::Image(rule) = injected.requirement().scope() else {
                    return None;
                };
                Some(self.on_evidence(&entry, rule))
            });
        let (mut passed, denied): (Vec<_>, Vec<_>) =
            judgements.partition(|judgement| !judgement.outcome.denies());
        let best = passed.pop().or_else(|| denied.into_iter().next());
        best.unwrap_or_else(|| {
            Judgement::skip(
                INJECTED,
                "an `injected` entry of another policy judges the image",
            )
        })
    }

    pub(super) fn evaluate(
        &self,
        entry: &PolicyEntry<'_>,
        rule: &dyn ImageRule,
        matched: bool,
    ) -> Judgement {
        let requirement = &entry.named.requirement;
        // 1. The requirement must apply to this kind of change and to this image.
        if let Some(skipped) = skip_for(requirement, self.promotion, entry.policy) {
            return skipped;
        }
        if requirement.evidence().is_none() {
            return self.check(entry, rule, &self.own);
        }
        if !matched {
            return Judgement::skip(
                IMAGE_NOT_MATCHED,
                "the policy's evidence requirements do not apply to this image",
            );
        }
        // 2. The evidence of an image with a refused name was not fetched, so it must not count as absent.
        if self.is_refused_by_name {
            return Judgement::undecided(
                NOT_ASKED,
                "the evidence was not fetched, because the image is refused by its name".to_owned(),
            );
        }
        self.on_evidence(entry, rule)
    }

    /// The evidence of the image. For an index without evidence, the policy may accept that of the platforms.
    fn on_evidence(&self, entry: &PolicyEntry<'_>, rule: &dyn ImageRule) -> Judgement {
        let on_image = self.check(entry, rule, &self.own);
        match (&self.own.subject, entry.named.requirement.evidence()) {
            (Some(index), Some(on_evidence))
                if on_evidence.per_platform
                    && on_image.outcome.denies()
                    && self.can_be_replaced(on_evidence.effect, rule) =>
            {
                let requirement = &entry.named.requirement;
                let check = |platform: &Subject| {
                    self.check(entry, rule, &self.evidence.of(platform.clone()))
                };
                let judgement =
                    instead_of_index(entry.policy, self.evidence, index, on_image, check);
                requirement.warning_of_index(judgement, &self.input(entry, &self.own))
            }
            _ => on_image,
        }
    }

    /// The platforms whose evidence may stand in for that of the image.
    pub(super) fn judged_platforms(&self, entry: &PolicyEntry<'_>) -> Vec<Subject> {
        let on_evidence = entry.named.requirement.evidence();
        let is_judged = entry.policy.allow_unsigned_index
            && on_evidence.is_some_and(|on_evidence| on_evidence.per_platform);
        let index = self.own.subject.as_ref().filter(|_| is_judged);
        index.map_or_else(Vec::new, |index| {
            platforms_of(entry.policy, self.evidence, index)
        })
    }

    /// Whether the evidence of platforms may stand in for that of the index: always where more evidence only helps; where it
    /// could hurt, only where the index certainly carries none that the rule judges. What others signed does not count, because
    /// everyone who may push can attach it.
    fn can_be_replaced(&self, effect: Effect, rule: &dyn ImageRule) -> bool {
        match effect {
            Effect::OnlyHelps => true,
            Effect::CanHurt => {
                matches!(self.own.for_effect(effect), Collected::Known(own) if !rule.finds_in(own, self.governing.world))
            }
        }
    }

    /// The input of a rule about a subject: the image, or one of its platforms.
    pub(super) fn input<'c>(
        &'c self,
        entry: &'c PolicyEntry<'_>,
        of: &'c SubjectEvidence<'c>,
    ) -> ImageCheck<'c> {
        let own = self.own.subject.as_ref();
        ImageCheck {
            promotion: self.promotion,
            policy: entry.policy,
            world: self.governing.world,
            roots: &entry.roots,
            image: self.image,
            pin: self.pin,
            records: self.records,
            subject: of.subject.as_ref(),
            evidence: of.for_effect(entry.named.requirement.effect()).clone(),
            last_listed: of.last_listed,
            parent_index: own.and_then(|own| self.evidence.within.get(own)),
            work: self.work.of(entry.policy),
        }
    }

    fn check(
        &self,
        entry: &PolicyEntry<'_>,
        rule: &dyn ImageRule,
        of: &SubjectEvidence<'_>,
    ) -> Judgement {
        let requirement = &entry.named.requirement;
        let check = self.input(entry, of);
        let judgement = requirement.unless_unknown(rule.check(&check), &check);
        let earlier = of.earlier(requirement.effect());
        match earlier {
            0 => judgement,
            _ if !judgement.outcome.denies() => judgement,
            _ => Judgement {
                detail: format!(
                    "{}; {earlier} of the statements that count are no longer attached, but were seen by this gate",
                    judgement.detail
                ),
                ..judgement
            },
        }
    }

    /// A denial for each revoked digest: those that the image names or has now, and, of a reference without a digest, those with
    /// which it was admitted before, because a node may still have them.
    pub(super) fn revoked(&self) -> Vec<Finding> {
        let World {
            revocations,
            governors,
            ..
        } = self.governing.world;
        let reference = &self.image.reference;
        if revocations.is_empty() {
            return Vec::new();
        }
        let named: BTreeSet<_> = reference
            .digest()
            .into_iter()
            .chain(self.pin.digest())
            .collect();
        let named = named
            .into_iter()
            .filter_map(|digest| Some((digest, revocations.get(digest)?)));
        let mut revoked: Vec<_> = named.map(|it| (it, "")).collect();
        if let (None, Some(records)) = (reference.digest(), self.records) {
            let recorded = records.revoked(revocations).into_iter();
            let recorded = recorded.filter(|(digest, _)| Some(*digest) != self.pin.digest());
            revoked.extend(
                recorded.map(|it| (it, ", with which this reference was admitted here before")),
            );
        }
        let each = revoked.into_iter().map(|((digest, by), before)| {
            let detail = format!(
                "`{digest}`{before} is revoked (`Revocation` `{}`): {}",
                by.name, by.reason
            );
            let judgement = Judgement::fail(REVOKED, detail).hint(format!(
                "deploy another digest, named by the manifest; {} can lift it with `kubectl delete revocation {}`",
                lifters(governors),
                by.name
            ));
            Finding::of_engine("revocation", self.target.clone(), judgement)
        });
        each.collect()
    }

    /// Replaces the hint of a rule if the image is a placeholder, because the rule's hint is only useful for a real image.
    fn explain_placeholder(&self, judgement: Judgement) -> Judgement {
        let written = self.image.reference.as_written();
        if !judgement.outcome.denies() || !PLACEHOLDERS.contains(&written) {
            return judgement;
        }
        judgement.hint(format!(
            "`{written}` is a placeholder that an injector (such as Istio's) replaces in the Pod, not an image: write the image with its digest, or remove the workload's namespace from the policy"
        ))
    }
}

/// Who may lift a revocation.
fn lifters(governors: &Governors) -> String {
    let users = governors.users.iter().map(|user| format!("`{user}`"));
    let groups = governors.groups.iter();
    let all: Vec<_> = users
        .chain(groups.map(|group| format!("group `{group}`")))
        .collect();
    match all.as_slice() {
        [] => "everybody who may delete it".to_owned(),
        [first] => format!("a governor ({first})"),
        [first, others @ ..] => format!("a governor ({first} and {} more)", others.len()),
    }
}

fn pin_unavailability(pin: &Pin) -> Unavailability {
    match pin {
        Pin::Resolved(Collected::Unavailable(unavailability)) => unavailability.clone(),
        Pin::Resolved(_) | Pin::Written(_) | Pin::NotNeeded => {
            Unavailability("the digest of the image is not known".to_owned())
        }
    }
}
