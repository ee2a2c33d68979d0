//! The decision: from a promotion, the evidence and the policies to a verdict. Pure, and it cannot fail.

use std::sync::Arc;

use super::coverage::{OF_COVERAGE, PolicyFindings, uncovered};
use super::evidence::{Collected, Evidence, Subject, Unavailability};
use super::finding::{Finding, ImageTarget, Judgement, Outcome, Target};
use super::platforms::{OF_PLATFORMS, instead_of_index};
use super::policy::{Enforcement, NamedRequirement, Policy};
use super::promotion::{ChangeKind, ImageUse, Pin, Promotion};
use super::rules::{Effect, ImageCheck, ImageRule, Requirement, Scope, WorkloadCheck};
use super::snapshot::{Certainty, Governing, Ungoverned};
use super::verdict::{PolicyVerdict, Verdict};
use crate::reason::{Reason, reasons};

reasons! {
    /// What is said whatever the requirements are.
    OF_JUDGING:
    POLICY_UNREADABLE = "policy-unreadable",
        "A policy that might govern the object cannot be read, and there was no good version of it before.",
        "Have the policy repaired: the log and `/readyz` name the place. Until then, nothing that it might govern is let in.";
    UNGOVERNED = "ungoverned",
        "No policy governs the workload, and the operator denies such workloads (`ungoverned: Deny`).",
        "Have the namespace named by a policy.";
    UNREADABLE_OBJECT = "unreadable-object",
        "A part of the object that names images cannot be understood.",
        "Correct the field. What cannot be understood is not let in.";
    NO_IMAGES = "no-images", "The object names no images.", "";
    NOT_FOR_THIS_CHANGE = "not-for-this-change",
        "The requirement does not apply to this kind of change.", "";
    RECORDED = "recorded",
        "A controller runs what was admitted here before: it passes on the record, whatever the requirements are now.", "";
    IMAGE_NOT_MATCHED = "image-not-matched",
        "The policy's evidence requirements do not speak of this image (`match.images`).", "";
    NOT_ASKED = "not-asked",
        "The image is refused by its name, so its registry is not even asked.",
        "See the finding of `allowedImages` about the same image.";
    NAMESPACE_LABELS_UNKNOWN = "namespace-labels-unknown",
        "The policy selects namespaces by label, and the labels of this one are not known.",
        "Give them with `--namespace-labels`, a Namespace object in the input, or the configuration.";
}

/// Everything that the engine itself may say, whatever the requirements are.
pub fn engine_reasons() -> Vec<Reason> {
    [OF_JUDGING, OF_COVERAGE, OF_PLATFORMS].concat()
}

/// What templates write where an injector fills in the image of its proxy (Istio: `auto`).
const PLACEHOLDERS: &[&str] = &["auto", "placeholder", "injected", "to-be-injected"];

/// Judges a promotion by every policy that governs it, or might.
///
/// Every policy gives its own decision; every image of a governed workload has at least one finding under each. What was
/// not learned denies; what nobody wrote down denies.
pub fn judge(promotion: &Promotion, evidence: &Evidence, governing: &Governing<'_>) -> Verdict {
    // 1. Every requirement of every policy, about every image and about the object as a whole.
    let images: Vec<_> = promotion
        .images()
        .map(|(image, pin)| ImageUnderReview::new(promotion, evidence, governing, image, pin))
        .collect();
    let by_policy: Vec<_> = governing
        .policies
        .iter()
        .map(|(policy, certainty)| PolicyFindings {
            policy,
            certainty: *certainty,
            workload: about_workload(promotion, governing, policy),
            images: images
                .iter()
                .map(|image| image.findings_for(policy))
                .collect(),
        })
        .collect();
    // 2. Coverage, which needs the findings of all policies: one policy's signature covers an image for another.
    let targets: Vec<_> = images.iter().map(|image| image.target.clone()).collect();
    let uncovered: Vec<_> = by_policy
        .iter()
        .map(|own| uncovered(own, promotion.kind, &targets, &by_policy))
        .collect();
    let mut verdicts = Vec::new();
    for (own, uncovered) in by_policy.into_iter().zip(uncovered) {
        let mut findings = own.workload;
        findings.extend(own.images.into_iter().flatten());
        findings.extend(uncovered);
        // 3. A policy that only might govern refuses nothing for certain.
        if own.certainty == Certainty::LabelsUnknown {
            findings = downgrade_to_undecided(findings, promotion);
        }
        let policy = own.policy;
        verdicts.push(PolicyVerdict::of(
            policy.name.clone(),
            policy.enforcement,
            findings,
        ));
    }
    // 4. A policy that exists and cannot be read denies what it might govern.
    for policy in governing.unreadable {
        let why = &policy.why;
        let judgement = Judgement::undecided(
            POLICY_UNREADABLE,
            format!("a policy that might govern this cannot be read: {why}"),
        )
        .hint("have the policy repaired; until then nothing that it might govern is let in");
        verdicts.push(denied_for(policy.source.clone(), judgement));
    }
    // 5. Where nothing governs, the operator decides.
    if governing.is_empty() && governing.ungoverned == Ungoverned::Deny {
        let judgement = Judgement::fail(
            UNGOVERNED,
            "no policy governs this workload, and the operator denies such workloads".to_owned(),
        )
        .hint("have the namespace named by a policy");
        verdicts.push(denied_for("(ungoverned)".to_owned(), judgement));
    }
    Verdict::of(verdicts, governing.revision.to_owned())
}

fn denied_for(policy: String, judgement: Judgement) -> PolicyVerdict {
    let finding = Finding::of_engine("governance", Target::Workload, judgement);
    PolicyVerdict::of(policy, Enforcement::Enforce, vec![finding])
}

/// What is said of the object as a whole: what of it cannot be understood, and the requirements that look at the workload.
fn about_workload(
    promotion: &Promotion,
    governing: &Governing<'_>,
    policy: &Policy,
) -> Vec<Finding> {
    let change = &promotion.change;
    let unreadable = change.unreadable.iter().map(|unreadable| {
        let judgement = Judgement::undecided(UNREADABLE_OBJECT, unreadable.why.clone())
            .hint("correct the field; what cannot be understood is not let in");
        Finding::of_engine("object", Target::Field(unreadable.field.clone()), judgement)
    });
    let check = WorkloadCheck {
        promotion,
        environment: policy.environment.as_deref(),
        world: governing.world,
    };
    let requirements = policy.requirements.iter().enumerate();
    let required = requirements.filter_map(|(index, named)| {
        let Scope::Workload(rule) = named.requirement.scope() else {
            return None;
        };
        let judgement = match not_judged(&named.requirement, promotion.kind) {
            Some(skipped) => skipped,
            None => rule.check(&check),
        };
        Some(of_requirement(index, named, Target::Workload, judgement))
    });
    let mut findings: Vec<_> = unreadable.chain(required).collect();
    if findings.is_empty() && change.images.is_empty() {
        let judgement = Judgement::skip(NO_IMAGES, "the object names no images");
        findings.push(Finding::of_engine("object", Target::Workload, judgement));
    }
    findings
}

/// What the requirement at `index` of its policy says.
fn of_requirement(
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

/// Why a requirement is not judged for this kind of change at all.
fn not_judged(requirement: &Requirement, kind: ChangeKind) -> Option<Judgement> {
    let skipped = || Judgement::skip(NOT_FOR_THIS_CHANGE, "does not apply to this kind of change");
    (!requirement.applies_to(kind)).then(skipped)
}

/// One image, as all policies see it.
struct ImageUnderReview<'a> {
    promotion: &'a Promotion,
    evidence: &'a Evidence,
    governing: &'a Governing<'a>,
    image: &'a ImageUse,
    pin: &'a Pin,
    target: Target,
    /// The image as evidence names it, where its digest is known.
    subject: Option<Subject>,
    /// Whether its name is refused, so that its registry is not asked.
    is_refused_by_name: bool,
}

impl<'a> ImageUnderReview<'a> {
    fn new(
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
            target: Target::Image(Arc::new(ImageTarget {
                field: image.field.clone(),
                written: image.reference.as_written().to_owned(),
                digest: pin.digest().cloned(),
            })),
            subject: pin.subject(&image.reference),
            is_refused_by_name: governing.refuses_by_name(&image.reference),
        }
    }

    /// What each of a policy's requirements about images says.
    fn findings_for(&self, policy: &Policy) -> Vec<Finding> {
        if self.promotion.kind == (ChangeKind::Upkeep { recorded: true }) {
            let judgement = Judgement::skip(RECORDED, "runs here already, as the record says");
            return vec![Finding::of_engine("record", self.target.clone(), judgement)];
        }
        let matched = policy.matches_image(&self.image.reference);
        let requirements = policy.requirements.iter().enumerate();
        let findings = requirements.filter_map(|(index, named)| {
            let Scope::Image(rule) = named.requirement.scope() else {
                return None;
            };
            let judgement = self.evaluate(policy, named, rule, matched);
            let judgement = self.explain_placeholder(judgement);
            let target = self.target.clone();
            Some(of_requirement(index, named, target, judgement))
        });
        findings.collect()
    }

    fn evaluate(
        &self,
        policy: &Policy,
        named: &NamedRequirement,
        rule: &dyn ImageRule,
        matched: bool,
    ) -> Judgement {
        let requirement = &named.requirement;
        // 1. Does the requirement apply to this kind of change, and to this image?
        if let Some(skipped) = not_judged(requirement, self.promotion.kind) {
            return skipped;
        }
        let Some(on_evidence) = requirement.evidence() else {
            return self.check(policy, requirement, rule, self.subject.as_ref());
        };
        if !matched {
            return Judgement::skip(
                IMAGE_NOT_MATCHED,
                "the policy's evidence requirements do not speak of this image",
            );
        }
        // 2. Nothing was asked about an image whose name is refused.
        if self.is_refused_by_name {
            return Judgement::undecided(
                NOT_ASKED,
                "not looked up, because the image is refused by its name and its registry is therefore not asked".to_owned(),
            );
        }
        // 3. The evidence of the image itself; where that is an index without any, perhaps that of its platforms.
        let on_image = self.check(policy, requirement, rule, self.subject.as_ref());
        match &self.subject {
            Some(index)
                if on_evidence.per_platform
                    && on_image.outcome.denies()
                    && self.can_be_replaced(index, on_evidence.effect) =>
            {
                instead_of_index(policy, self.evidence, index, on_image, |platform| {
                    self.check(policy, requirement, rule, Some(platform))
                })
            }
            _ => on_image,
        }
    }

    /// Whether the evidence of platforms may stand in for that of the index: always where more evidence only helps; where it
    /// could hurt, only where the index certainly carries none.
    fn can_be_replaced(&self, index: &Subject, effect: Effect) -> bool {
        match effect {
            Effect::OnlyHelps => true,
            Effect::CanHurt => {
                matches!(self.evidence.about(index), Collected::Known(own) if own.is_empty())
            }
        }
    }

    fn check(
        &self,
        policy: &Policy,
        requirement: &Requirement,
        rule: &dyn ImageRule,
        subject: Option<&Subject>,
    ) -> Judgement {
        let evidence = match subject {
            Some(subject) => self.evidence.about(subject),
            None => Collected::Unavailable(pin_unavailability(self.pin)),
        };
        let own = self.subject.as_ref();
        let check = ImageCheck {
            promotion: self.promotion,
            environment: policy.environment.as_deref(),
            world: self.governing.world,
            image: self.image,
            pin: self.pin,
            subject,
            evidence,
            parent_index: own.and_then(|own| self.evidence.within.get(own)),
        };
        requirement.unless_unknown(rule.check(&check), &check)
    }

    /// Replaces the hint for a placeholder: the hint of a rule speaks of an image, and a placeholder is none.
    fn explain_placeholder(&self, judgement: Judgement) -> Judgement {
        let written = self.image.reference.as_written();
        if !judgement.outcome.denies() || !PLACEHOLDERS.contains(&written) {
            return judgement;
        }
        judgement.hint(format!(
            "`{written}` is a placeholder that an injector (such as Istio's) replaces in the Pod, and no image: write the image with its digest, or leave the workload's namespace out of the policy"
        ))
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

/// Under a policy that only might govern, nothing is certain: what fails is undecided, and why is said.
fn downgrade_to_undecided(mut findings: Vec<Finding>, promotion: &Promotion) -> Vec<Finding> {
    for finding in &mut findings {
        if finding.outcome == Outcome::Fail {
            finding.outcome = Outcome::Undecided;
        }
    }
    if findings.iter().any(|finding| finding.outcome.denies()) {
        let namespace = promotion.change.workload.namespace.as_deref();
        let namespace = namespace.unwrap_or_default();
        let judgement = Judgement::undecided(
            NAMESPACE_LABELS_UNKNOWN,
            format!("the policy selects namespaces by label, and the labels of `{namespace}` are not known"),
        )
        .hint("give them with `--namespace-labels`, a Namespace object in the input, or the configuration");
        findings.push(Finding::of_engine(
            "governance",
            Target::Workload,
            judgement,
        ));
    }
    findings
}
