//! The decision: from a promotion, the evidence and the policies to a verdict. Pure, and it cannot fail.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::evidence::{Collected, Evidence, Subject, Trouble};
use super::finding::{Finding, ImageTarget, Outcome, Target};
use super::image::ImageReference;
use super::platform::{Index, PlatformManifest};
use super::policy::{Enforcement, Policy, Uncovered};
use super::promotion::{ChangeKind, ImageUse, Pin, Promotion};
use super::rules::{EVIDENCE_UNAVAILABLE, Effect, ImageInQuestion, Judgement, Requirement};
use super::signer::TrustRoots;
use super::snapshot::{Certainty, Governing, Snapshot, Ungoverned};
use super::verdict::{PolicyVerdict, Verdict};
use crate::attest::{Anchor, AnchorId};
use crate::reason::{Reason, reasons};

reasons! {
    /// What is said whatever the requirements are.
    OF_THE_ENGINE:
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
    IMAGE_NOT_MATCHED = "image-not-matched",
        "The policy's evidence requirements do not speak of this image (`match.images`).", "";
    NOT_ASKED = "not-asked",
        "The image is refused by its name, so its registry is not even asked.",
        "See the finding of `allowedImages` about the same image.";
    UNCOVERED = "uncovered",
        "The policy requires evidence, but no evidence requirement of a governing policy vouches for this image.",
        "Have the image named by a policy's `match.images`, or have the policy say `uncovered: Allow`.";
    COVERAGE_UNKNOWN = "coverage-unknown",
        "The only evidence requirement that could vouch for the image could not be decided.",
        "See the finding of that requirement: it says what could not be learned. Try again when that is solved.";
    NAMESPACE_LABELS_UNKNOWN = "namespace-labels-unknown",
        "The policy selects namespaces by label, and the labels of this one are not known.",
        "Give them with `--namespace-labels`, a Namespace object in the input, or the configuration.";
    MANIFEST_REFUSED = "manifest-refused",
        "The image's manifest or index cannot be read in one way only, so that runtimes could run something else than what is checked.",
        "Build and push the image again with a current tool. This can be an attempt to have another image run.";
    NO_SUCH_PLATFORM = "no-such-platform",
        "The index carries no evidence itself, and holds none of the platforms that the policy names.",
        "Build the image for one of these platforms, or sign the index.";
}

/// What templates write where an injector fills in the image of its proxy (Istio: `auto`).
const PLACEHOLDERS: &[&str] = &["auto", "placeholder", "injected", "to-be-injected"];

/// Judges a promotion by every policy that governs it, or might.
///
/// Every policy gives its own decision; every image of a governed workload has at least one finding under each. What was
/// not learned denies; what nobody wrote down denies.
pub fn judge(promotion: &Promotion, evidence: &Evidence, snapshot: &Snapshot) -> Verdict {
    let governing = snapshot.governing(&promotion.change);
    let asked = Asked::each(promotion, evidence, &governing);
    let judged: Vec<Judged<'_>> = governing
        .policies
        .iter()
        .map(|(policy, certainty)| Judged {
            policy,
            certainty: *certainty,
            object: of_object(promotion),
            images: asked.iter().map(|asked| asked.under(policy)).collect(),
        })
        .collect();
    let uncovered: Vec<_> = judged
        .iter()
        .map(|own| uncovered(own, promotion.kind, &asked, &judged))
        .collect();
    let mut verdicts: Vec<PolicyVerdict> = Vec::new();
    for (judged, uncovered) in judged.into_iter().zip(uncovered) {
        let mut findings = judged.object;
        findings.extend(judged.images.into_iter().flatten());
        findings.extend(uncovered);
        if judged.certainty == Certainty::LabelsUnknown {
            findings = doubt(findings, promotion);
        }
        verdicts.push(PolicyVerdict::of(
            judged.policy.name.clone(),
            judged.policy.enforcement,
            findings,
        ));
    }
    for policy in governing.unreadable {
        let finding = Finding {
            rule: "governance",
            requirement: None,
            target: Target::Workload,
            outcome: Outcome::Undecided,
            reason: POLICY_UNREADABLE.id,
            detail: format!(
                "a policy that might govern this cannot be read: {}",
                policy.why
            ),
            hint: Some(
                "have the policy repaired; until then nothing that it might govern is let in"
                    .to_owned(),
            ),
        };
        verdicts.push(PolicyVerdict::of(
            policy.source.clone(),
            Enforcement::Enforce,
            vec![finding],
        ));
    }
    if governing.is_empty() && snapshot.ungoverned == Ungoverned::Deny {
        let finding = Finding {
            rule: "governance",
            requirement: None,
            target: Target::Workload,
            outcome: Outcome::Fail,
            reason: UNGOVERNED.id,
            detail: "no policy governs this workload, and the operator denies such workloads"
                .to_owned(),
            hint: Some("have the namespace named by a policy".to_owned()),
        };
        verdicts.push(PolicyVerdict::of(
            "(ungoverned)".to_owned(),
            Enforcement::Enforce,
            vec![finding],
        ));
    }
    Verdict::of(verdicts, snapshot.revision.clone())
}

/// What has to be learned about an image.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The anchors to verify its evidence under.
    pub anchors: BTreeMap<AnchorId, Anchor>,
    /// Whether the same is wanted of each of its platforms, where it is an index.
    pub platforms: bool,
    /// Whether evidence that was not seen could hurt, so that an older listing does not do.
    pub can_hurt: bool,
}

impl Governing<'_> {
    /// Whether the digest of this image has to be known before it can be judged.
    pub fn pins(&self, image: &ImageReference) -> bool {
        let asks = |policy: &Policy| policy.speaks_of(image) && policy.requires_evidence();
        !self.refuses_asking(image) && self.policies.iter().any(|(policy, _)| asks(policy))
    }

    /// What has to be learned about the images of a promotion, each subject once: its evidence under the anchors of every
    /// requirement that speaks of it. Nothing is asked about an image whose registry a policy that enforces refuses.
    pub fn needs(&self, promotion: &Promotion) -> BTreeMap<Subject, Wanted> {
        let asking: Vec<_> = (self.policies.iter())
            .flat_map(|(policy, _)| {
                let requirements = policy.requirements.iter();
                let needs =
                    requirements.filter_map(|named| named.requirement.need(self.trust_roots));
                needs.map(move |need| (*policy, need))
            })
            .collect();
        let mut needs: BTreeMap<Subject, Wanted> = BTreeMap::new();
        for (image, pin) in promotion.images() {
            let image = &image.reference;
            let Some(subject) = pin.subject(image) else {
                continue;
            };
            let asking = asking.iter().filter(|(policy, _)| policy.speaks_of(image));
            let mut asking = asking.peekable();
            if asking.peek().is_none() || self.refuses_asking(image) {
                continue;
            }
            let wanted = needs.entry(subject).or_default();
            for (policy, need) in asking {
                let anchors = need.anchors.iter();
                let anchors = anchors.map(|(id, anchor)| (id.clone(), anchor.clone()));
                wanted.anchors.extend(anchors);
                wanted.platforms |= policy.allow_unsigned_index;
                wanted.can_hurt |= need.effect == Effect::CanHurt;
            }
        }
        needs
    }

    /// Whether a policy that certainly governs and enforces refuses the image by its name, so that a deployer cannot
    /// make the gate talk to registries of his choice.
    fn refuses_asking(&self, image: &ImageReference) -> bool {
        self.policies.iter().any(|(policy, certainty)| {
            *certainty == Certainty::Certain
                && policy.enforcement == Enforcement::Enforce
                && policy
                    .requirements
                    .iter()
                    .any(|named| named.requirement.refuses_asking(image))
        })
    }
}

/// An image, as all policies see it.
struct Asked<'a> {
    promotion: &'a Promotion,
    evidence: &'a Evidence,
    trust_roots: &'a TrustRoots,
    image: &'a ImageUse,
    pin: &'a Pin,
    target: Target,
    /// What evidence about it is about, where its digest is known.
    subject: Option<Subject>,
    /// Whether it is refused by its name, so that its registry is not asked.
    refused: bool,
}

/// What a policy's requirements say: about the object, and about each image in the promotion's order.
struct Judged<'a> {
    policy: &'a Policy,
    certainty: Certainty,
    object: Vec<Finding>,
    images: Vec<Vec<Finding>>,
}

fn of_object(promotion: &Promotion) -> Vec<Finding> {
    let change = &promotion.change;
    if change.unreadable.is_empty() && change.images.is_empty() {
        return vec![Finding {
            rule: "object",
            requirement: None,
            target: Target::Workload,
            outcome: Outcome::Skip,
            reason: NO_IMAGES.id,
            detail: "the object names no images".to_owned(),
            hint: None,
        }];
    }
    let unreadable = change.unreadable.iter().map(|unreadable| Finding {
        rule: "object",
        requirement: None,
        target: Target::Field(unreadable.field.clone()),
        outcome: Outcome::Undecided,
        reason: UNREADABLE_OBJECT.id,
        detail: unreadable.why.clone(),
        hint: Some("correct the field; what cannot be understood is not let in".to_owned()),
    });
    unreadable.collect()
}

impl<'a> Asked<'a> {
    fn each(
        promotion: &'a Promotion,
        evidence: &'a Evidence,
        governing: &Governing<'a>,
    ) -> Vec<Asked<'a>> {
        let each = promotion.images().map(|(image, pin)| Asked {
            promotion,
            evidence,
            trust_roots: governing.trust_roots,
            image,
            pin,
            target: Target::Image(Arc::new(ImageTarget {
                field: image.field.clone(),
                written: image.reference.as_written().to_owned(),
                digest: pin.digest().cloned(),
            })),
            subject: pin.subject(&image.reference),
            refused: governing.refuses_asking(&image.reference),
        });
        each.collect()
    }

    /// What each of a policy's requirements says.
    fn under(&self, policy: &Policy) -> Vec<Finding> {
        let spoken_of = policy.speaks_of(&self.image.reference);
        let said = policy.requirements.iter().map(|named| {
            let judgement = self.judged_by(policy, &named.requirement, spoken_of);
            let judgement = self.explaining_placeholder(judgement);
            Finding {
                rule: named.requirement.rule_name(),
                requirement: named.name.clone(),
                target: self.target.clone(),
                outcome: judgement.outcome,
                reason: judgement.reason.id,
                detail: judgement.detail,
                hint: judgement.hint,
            }
        });
        said.collect()
    }

    /// Replaces the hint for a placeholder: the hint of a rule speaks of an image, and a placeholder is none.
    fn explaining_placeholder(&self, judgement: Judgement) -> Judgement {
        let written = self.image.reference.as_written();
        if !judgement.outcome.denies() || !PLACEHOLDERS.contains(&written) {
            return judgement;
        }
        judgement.hint(format!(
            "`{written}` is a placeholder that an injector (such as Istio's) replaces in the Pod, and no image: write the image with its digest, or leave the workload's namespace out of the policy"
        ))
    }

    fn judged_by(&self, policy: &Policy, requirement: &Requirement, spoken_of: bool) -> Judgement {
        if !requirement.applies_to(self.promotion.kind) {
            return skip(NOT_FOR_THIS_CHANGE, "does not apply to this kind of change");
        }
        let asks = requirement.is_evidence();
        if asks && !spoken_of {
            return skip(
                IMAGE_NOT_MATCHED,
                "the policy's evidence requirements do not speak of this image",
            );
        }
        if asks && self.refused {
            return Judgement::undecided(
                NOT_ASKED,
                "not looked up, because the image is refused by its name and its registry is therefore not asked".to_owned(),
            );
        }
        let on_image = self.check(requirement, self.subject.as_ref());
        match &self.subject {
            Some(index) if asks && policy.allow_unsigned_index && on_image.outcome.denies() => {
                self.instead_on_platforms(policy, requirement, index, on_image)
            }
            Some(index) if asks && on_image.outcome.denies() => {
                self.naming_platforms(requirement, index, on_image)
            }
            _ => on_image,
        }
    }

    fn check(&self, requirement: &Requirement, about: Option<&Subject>) -> Judgement {
        let evidence = match about {
            Some(subject) => self.evidence.about(subject),
            None => Collected::Unavailable(pin_trouble(self.pin)),
        };
        let own = self.subject.as_ref();
        requirement.check(&ImageInQuestion {
            promotion: self.promotion,
            image: self.image,
            pin: self.pin,
            about,
            evidence,
            within: own.and_then(|subject| self.evidence.within.get(subject)),
            trust_roots: self.trust_roots,
        })
    }

    /// A denial of an index says so where its platforms carry what it lacks itself, as far as they were looked at.
    fn naming_platforms(
        &self,
        requirement: &Requirement,
        index: &Subject,
        on_image: Judgement,
    ) -> Judgement {
        let found = self.evidence.index(index);
        let Some(Some(found)) = found.value() else {
            return on_image;
        };
        let passes = |manifest: &&PlatformManifest| {
            let subject = Subject {
                name: index.name.clone(),
                digest: manifest.digest.clone(),
            };
            let judgement = self.check(requirement, Some(&subject));
            judgement.outcome == Outcome::Pass
        };
        let passing = found.manifests.iter().filter(passes).count();
        if passing == 0 {
            return on_image;
        }
        let all = found.manifests.len();
        Judgement {
            detail: format!(
                "{}; it is an index, and {passing} of its {all} platforms meet the requirement, which counts only where the policy says `allowUnsignedIndex: true`",
                on_image.detail
            ),
            hint: Some(format!(
                "provide the evidence for the index itself (`{index}`), or have the policy say `allowUnsignedIndex: true`"
            )),
            ..on_image
        }
    }

    fn instead_on_platforms(
        &self,
        policy: &Policy,
        requirement: &Requirement,
        index: &Subject,
        on_image: Judgement,
    ) -> Judgement {
        match self.evidence.index(index) {
            Collected::Known(None) => on_image,
            Collected::Known(Some(manifests)) => {
                let said = on_platforms(policy, &manifests, |manifest| {
                    let subject = Subject {
                        name: index.name.clone(),
                        digest: manifest.digest.clone(),
                    };
                    self.check(requirement, Some(&subject))
                });
                let own = self.evidence.about(index);
                let carries = own.value().is_some_and(|own| !own.is_empty());
                // What the index carries, or might, is not hidden by what its platforms lack.
                if said.outcome.denies() && (carries || on_image.outcome == Outcome::Undecided) {
                    return Judgement {
                        detail: format!("{}; and {}", on_image.detail, said.detail),
                        ..on_image
                    };
                }
                said
            }
            Collected::Partial(_, troubles) => {
                platforms_unknown(troubles.first().cloned().unwrap_or_default())
            }
            Collected::Unavailable(trouble) => platforms_unknown(trouble),
        }
    }
}

fn skip(reason: Reason, detail: &str) -> Judgement {
    Judgement {
        outcome: Outcome::Skip,
        reason,
        detail: detail.to_owned(),
        hint: None,
    }
}
/// What is said of an index that has no evidence of its own: every entry that a runtime could pick needs its own.
fn on_platforms(
    policy: &Policy,
    index: &Index,
    check: impl Fn(&PlatformManifest) -> Judgement,
) -> Judgement {
    if let Some(why) = &index.refused {
        let detail = format!("its manifest is refused: {why}");
        return Judgement::fail(MANIFEST_REFUSED, detail)
            .hint("build and push the image again with a current tool");
    }
    let spoken_of: Vec<_> = index
        .manifests
        .iter()
        .filter(|manifest| match &policy.platforms {
            Some(patterns) => patterns.iter().any(|pattern| pattern.matches(manifest)),
            None => true,
        })
        .collect();
    let worst = spoken_of
        .iter()
        .map(|manifest| (check(manifest), manifest))
        .min_by(|(a, _), (b, _)| (a.outcome, &a.detail).cmp(&(b.outcome, &b.detail)));
    match worst {
        None => Judgement::fail(
            NO_SUCH_PLATFORM,
            "the index itself carries no evidence that counts, and none of its platforms is one that the policy speaks of".to_owned(),
        ),
        Some((judgement, _)) if !judgement.outcome.denies() => Judgement {
            detail: format!("each of {} platforms: {}", spoken_of.len(), judgement.detail),
            ..judgement
        },
        Some((judgement, manifest)) => Judgement {
            detail: format!("{manifest}: {}", judgement.detail),
            ..judgement
        },
    }
}

fn platforms_unknown(trouble: Trouble) -> Judgement {
    Judgement::undecided(
        EVIDENCE_UNAVAILABLE,
        format!("the index itself carries no evidence that counts, and its platforms could not be read: {trouble}"),
    )
    .hint("this is an infrastructure problem, not missing evidence; try again when it is solved")
}

fn pin_trouble(pin: &Pin) -> Trouble {
    match pin {
        Pin::Resolved(Collected::Unavailable(trouble)) => trouble.clone(),
        Pin::Resolved(_) | Pin::Written(_) | Pin::NotNeeded => {
            Trouble("the digest of the image is not known".to_owned())
        }
    }
}

/// Images that nothing vouches for: under a policy that requires evidence, each image needs an evidence requirement of
/// some governing policy that passed, or was waived.
fn uncovered(
    own: &Judged<'_>,
    kind: ChangeKind,
    asked: &[Asked<'_>],
    judged: &[Judged<'_>],
) -> Vec<Finding> {
    let judges_evidence = match kind {
        ChangeKind::Deploy | ChangeKind::Activation => true,
        ChangeKind::Upkeep | ChangeKind::Governance => false,
    };
    let policy = own.policy;
    if !judges_evidence || !policy.requires_evidence() || policy.uncovered == Uncovered::Allow {
        return Vec::new();
    }
    let each = asked.iter().zip(&own.images).enumerate();
    each.filter_map(|(at, (asked, said))| {
        if said.iter().any(|finding| finding.outcome.denies()) {
            return None;
        }
        let vouching = judged
            .iter()
            .filter(|other| {
                other.certainty == Certainty::Certain || other.policy.name == policy.name
            })
            .filter_map(|other| vouches(other.policy, other.images.get(at)?))
            .max();
        let finding = |outcome, reason: &Reason, detail: &str, hint: &str| Finding {
            rule: "coverage",
            requirement: None,
            target: asked.target.clone(),
            outcome,
            reason: reason.id,
            detail: detail.to_owned(),
            hint: Some(hint.to_owned()),
        };
        match vouching {
            Some(Outcome::Undecided) => Some(finding(
                Outcome::Undecided,
                &COVERAGE_UNKNOWN,
                "whether an evidence requirement of another policy vouches for this image could not be decided",
                "this is no missing evidence; see that policy's finding, and try again when it is solved",
            )),
            Some(_) => None,
            None => Some(finding(
                Outcome::Fail,
                &UNCOVERED,
                "no evidence requirement of a governing policy vouches for this image",
                "have the image named by a policy's `match.images`, or the policy say `uncovered: Allow`",
            )),
        }
    })
    .collect()
}

/// The best outcome by which a policy vouches for an image, or might, in what it says of it.
fn vouches(policy: &Policy, said: &[Finding]) -> Option<Outcome> {
    let by_evidence = policy.requirements.iter().zip(said);
    by_evidence
        .filter(|(named, _)| named.requirement.is_evidence())
        .map(|(_, finding)| finding.outcome)
        .filter(|outcome| {
            matches!(
                outcome,
                Outcome::Pass | Outcome::Waived | Outcome::Undecided
            )
        })
        .max()
}

/// Under a policy that only might govern, nothing is certain: what fails is undecided, and why is said.
fn doubt(findings: Vec<Finding>, promotion: &Promotion) -> Vec<Finding> {
    let mut findings: Vec<Finding> = findings
        .into_iter()
        .map(|finding| match finding.outcome {
            Outcome::Fail => Finding {
                outcome: Outcome::Undecided,
                ..finding
            },
            _ => finding,
        })
        .collect();
    if findings.iter().any(|finding| finding.outcome.denies()) {
        let namespace = promotion
            .change
            .workload
            .namespace
            .as_deref()
            .unwrap_or_default();
        findings.push(Finding {
            rule: "governance",
            requirement: None,
            target: Target::Workload,
            outcome: Outcome::Undecided,
            reason: NAMESPACE_LABELS_UNKNOWN.id,
            detail: format!("the policy selects namespaces by label, and the labels of `{namespace}` are not known"),
            hint: Some("give them with `--namespace-labels`, a Namespace object in the input, or the configuration".to_owned()),
        });
    }
    findings
}
