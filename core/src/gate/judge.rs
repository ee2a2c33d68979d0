//! The decision: from a promotion, the evidence and the policies to a verdict. Pure, and it cannot fail.

use std::collections::BTreeMap;

use super::evidence::{Collected, Evidence, ImageEvidence, Subject, Trouble};
use super::finding::{Finding, Outcome, Target};
use super::image::ImageReference;
use super::platform::{Index, PlatformManifest};
use super::policy::{Enforcement, NamedRequirement, Policy, Uncovered};
use super::promotion::{ChangeKind, ImageUse, Pin, Promotion};
use super::rules::{EVIDENCE_UNAVAILABLE, ImageInQuestion, Judgement, Need};
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
    NO_SUCH_PLATFORM = "no-such-platform",
        "The index carries no evidence itself, and holds none of the platforms that the policy names.",
        "Build the image for one of these platforms, or sign the index.";
}

/// Judges a promotion by every policy that governs it, or might.
///
/// Every policy gives its own decision; every image of a governed workload has at least one finding under each. What was
/// not learned denies; what nobody wrote down denies.
pub fn judge(promotion: &Promotion, evidence: &Evidence, snapshot: &Snapshot) -> Verdict {
    let governing = snapshot.governing(&promotion.change);
    let mut verdicts: Vec<PolicyVerdict> = Vec::new();
    let judged: Vec<_> = governing
        .policies
        .iter()
        .map(|(policy, certainty)| {
            (
                *policy,
                *certainty,
                findings(policy, promotion, evidence, &governing),
            )
        })
        .collect();
    for (policy, certainty, mut findings) in judged.clone() {
        findings.extend(uncovered(policy, promotion, &findings, &judged));
        if certainty == Certainty::LabelsUnknown {
            findings = doubt(findings, promotion);
        }
        verdicts.push(PolicyVerdict::of(
            policy.name.clone(),
            policy.enforcement,
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
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The anchors to verify its evidence under.
    pub anchors: Vec<Anchor>,
    /// Whether the same is wanted of each of its platforms, where it is an index.
    pub platforms: bool,
}

impl Governing<'_> {
    /// Whether the digest of this image has to be known before it can be judged.
    pub fn pins(&self, image: &ImageReference) -> bool {
        self.anchors(image).is_some()
    }

    /// The anchors under which evidence of this image is wanted: those of every requirement that speaks of it. `None`
    /// when no requirement asks, or when a policy that enforces refuses to have its registry asked at all.
    pub fn anchors(&self, image: &ImageReference) -> Option<Vec<Anchor>> {
        if self.refuses_asking(image) {
            return None;
        }
        let needs: Vec<Need> = self
            .policies
            .iter()
            .filter(|(policy, _)| policy.speaks_of(image))
            .flat_map(|(policy, _)| {
                policy
                    .requirements
                    .iter()
                    .filter_map(|named| named.requirement.need())
            })
            .collect();
        if needs.is_empty() {
            return None;
        }
        let anchors = needs
            .into_iter()
            .flat_map(|need| need.anchors)
            .map(|anchor| (anchor.id(), anchor));
        Some(anchors.collect::<BTreeMap<_, _>>().into_values().collect())
    }

    /// What has to be learned about the images of a promotion, each subject once.
    pub fn needs(&self, promotion: &Promotion) -> BTreeMap<Subject, Wanted> {
        let mut needs: BTreeMap<Subject, (BTreeMap<AnchorId, Anchor>, bool)> = BTreeMap::new();
        for (image, pin) in promotion.images() {
            let (Some(subject), Some(anchors)) = (
                pin.subject(&image.reference),
                self.anchors(&image.reference),
            ) else {
                continue;
            };
            let (wanted, platforms) = needs.entry(subject).or_default();
            wanted.extend(anchors.into_iter().map(|anchor| (anchor.id(), anchor)));
            *platforms |= self.policies.iter().any(|(policy, _)| {
                policy.allow_unsigned_index
                    && policy.requires_evidence()
                    && policy.speaks_of(&image.reference)
            });
        }
        needs
            .into_iter()
            .map(|(subject, (anchors, platforms))| {
                let anchors = anchors.into_values().collect();
                (subject, Wanted { anchors, platforms })
            })
            .collect()
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

fn findings(
    policy: &Policy,
    promotion: &Promotion,
    evidence: &Evidence,
    governing: &Governing<'_>,
) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for unreadable in &promotion.change.unreadable {
        findings.push(Finding {
            rule: "object",
            requirement: None,
            target: Target::Field(unreadable.field.clone()),
            outcome: Outcome::Undecided,
            reason: UNREADABLE_OBJECT.id,
            detail: unreadable.why.clone(),
            hint: Some("correct the field; what cannot be understood is not let in".to_owned()),
        });
    }
    if findings.is_empty() && promotion.change.images.is_empty() {
        findings.push(Finding {
            rule: "object",
            requirement: None,
            target: Target::Workload,
            outcome: Outcome::Skip,
            reason: NO_IMAGES.id,
            detail: "the object names no images".to_owned(),
            hint: None,
        });
    }
    for (image, pin) in promotion.images() {
        let refused = governing.refuses_asking(&image.reference);
        for named in &policy.requirements {
            let judgement = judge_image(policy, named, promotion, image, pin, evidence, refused);
            findings.push(Finding {
                rule: named.requirement.rule_name(),
                requirement: named.name.clone(),
                target: target(image, pin),
                outcome: judgement.outcome,
                reason: judgement.reason.id,
                detail: judgement.detail,
                hint: judgement.hint,
            });
        }
    }
    findings
}

fn judge_image(
    policy: &Policy,
    named: &NamedRequirement,
    promotion: &Promotion,
    image: &ImageUse,
    pin: &Pin,
    evidence: &Evidence,
    refused: bool,
) -> Judgement {
    let skip = |reason: Reason, detail: &str| Judgement {
        outcome: Outcome::Skip,
        reason,
        detail: detail.to_owned(),
        hint: None,
    };
    if !named.requirement.applies_to(promotion.kind) {
        return skip(NOT_FOR_THIS_CHANGE, "does not apply to this kind of change");
    }
    let asks = named.requirement.is_evidence();
    if asks && !policy.speaks_of(&image.reference) {
        return skip(
            IMAGE_NOT_MATCHED,
            "the policy's evidence requirements do not speak of this image",
        );
    }
    if asks && refused {
        return Judgement::undecided(
            NOT_ASKED,
            "not looked up, because the image is refused by its name and its registry is therefore not asked".to_owned(),
        );
    }
    let about = pin.subject(&image.reference);
    let learned = match &about {
        Some(subject) => evidence.about(subject),
        None => Collected::Unavailable(pin_trouble(pin)),
    };
    let within = about
        .as_ref()
        .and_then(|subject| evidence.within.get(subject));
    let check = |about, learned: Collected<&ImageEvidence>| {
        named.requirement.check(&ImageInQuestion {
            promotion,
            image,
            pin,
            about,
            evidence: learned,
            within,
        })
    };
    let on_image = check(about.clone(), learned);
    match about {
        Some(subject) if asks && policy.allow_unsigned_index && on_image.outcome.denies() => {
            let on_platform = |manifest: &PlatformManifest| {
                let subject = Subject {
                    name: subject.name.clone(),
                    digest: manifest.digest.clone(),
                };
                check(Some(subject.clone()), evidence.about(&subject))
            };
            match evidence.index(&subject) {
                Collected::Known(None) => on_image,
                Collected::Known(Some(index)) => on_platforms(policy, &index, on_platform),
                Collected::Partial(_, troubles) => {
                    platforms_unknown(troubles.first().cloned().unwrap_or_default())
                }
                Collected::Unavailable(trouble) => platforms_unknown(trouble),
            }
        }
        _ => on_image,
    }
}

/// What is said of an index that has no evidence of its own: every entry that a runtime could pick needs its own.
fn on_platforms(
    policy: &Policy,
    index: &Index,
    check: impl Fn(&PlatformManifest) -> Judgement,
) -> Judgement {
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
    policy: &Policy,
    promotion: &Promotion,
    own: &[Finding],
    judged: &[(&Policy, Certainty, Vec<Finding>)],
) -> Vec<Finding> {
    let judges_evidence = match promotion.kind {
        ChangeKind::Deploy | ChangeKind::Activation => true,
        ChangeKind::Upkeep | ChangeKind::Governance => false,
    };
    if !judges_evidence || !policy.requires_evidence() || policy.uncovered == Uncovered::Allow {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (image, pin) in promotion.images() {
        let target = target(image, pin);
        let already_denied = own
            .iter()
            .any(|finding| finding.target == target && finding.outcome.denies());
        if already_denied {
            continue;
        }
        let vouching = judged
            .iter()
            .filter(|(other, certainty, _)| {
                *certainty == Certainty::Certain || other.name == policy.name
            })
            .filter_map(|(other, _, findings)| vouches(other, findings, &target))
            .max();
        let finding = |outcome, reason: &Reason, detail: &str, hint: &str| Finding {
            rule: "coverage",
            requirement: None,
            target: target.clone(),
            outcome,
            reason: reason.id,
            detail: detail.to_owned(),
            hint: Some(hint.to_owned()),
        };
        findings.extend(match vouching {
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
        });
    }
    findings
}

/// The best outcome by which a policy vouches for an image, or might.
fn vouches(policy: &Policy, findings: &[Finding], target: &Target) -> Option<Outcome> {
    let of_evidence = |finding: &&Finding| {
        finding.target == *target
            && policy.requirements.iter().any(|named| {
                named.requirement.is_evidence() && named.requirement.rule_name() == finding.rule
            })
    };
    findings
        .iter()
        .filter(of_evidence)
        .map(|finding| finding.outcome)
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

fn target(image: &ImageUse, pin: &Pin) -> Target {
    Target::Image {
        field: image.field.clone(),
        written: image.reference.as_written().to_owned(),
        digest: pin.digest().cloned(),
    }
}
