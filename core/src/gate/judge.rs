//! [`judge`]: from a promotion, the evidence and the policies to a verdict. It is a pure function and cannot fail.

mod image_review;

use std::sync::Arc;

use super::coverage::{OF_COVERAGE, PolicyFindings, uncovered};
use super::effort::WorkShares;
use super::emergency::Waivers;
use super::evidence::Evidence;
use super::finding::{Finding, ImageTarget, Judgement, Outcome, Target};
use super::platforms::OF_PLATFORMS;
use super::policy::{Enforcement, Policy};
use super::promotion::{ChangeKind, Promotion};
use super::rules::{ApprovalListing, Requirement, Scope, WorkloadCheck};
use super::snapshot::{Certainty, Governing, Ungoverned};
use super::verdict::{PolicyVerdict, Verdict};
use super::world::EvidenceToKeep;
use crate::reason::{Reason, reasons};
use image_review::{ImageUnderReview, PolicyEntry, finding_of, skip_for};

reasons! {
    /// The reasons that do not depend on the requirements of a policy.
    OF_JUDGING:
    POLICY_UNREADABLE = "policy-unreadable",
        "A policy that may govern the object cannot be read, and no earlier version of it was valid.",
        "Ask the operator to repair the policy: the log and `/readyz` name the place. Until then, every object that the policy may govern is denied.";
    UNGOVERNED = "ungoverned",
        "No policy governs the workload, and the configuration denies such workloads (`ungoverned: Deny`).",
        "Ask the operator to add the namespace to a policy.";
    UNREADABLE_OBJECT = "unreadable-object",
        "A field of the object that names images cannot be read.",
        "Correct the field. The gate denies every object that it cannot read in full.";
    NO_IMAGES = "no-images", "The object does not name an image.", "";
    NOT_FOR_THIS_CHANGE = "not-for-this-change",
        "The requirement does not apply to this kind of change.", "";
    INJECTED = "injected",
        "An injector added the image to the Pod. An `injected` entry of another policy judges it.", "";
    RECORDED = "recorded",
        "An image starts that was admitted here before: by a controller, or by a person who starts again what ran here and complied. The record of that admission is enough, even if the requirements have changed.", "";
    IMAGE_NOT_MATCHED = "image-not-matched",
        "The policy's evidence requirements do not apply to this image (`match.images`).", "";
    NOT_ABOUT_IMAGES = "not-about-images", "The policy has no requirement about images.", "";
    NOT_ASKED = "not-asked",
        "The image is refused by its name, so the gate does not ask its registry.",
        "See the finding of `allowedImages` for the same image.";
    REVOKED = "revoked",
        "The digest is revoked: a `Revocation` says that it must not run any more. No change passes it, also none that keeps running what runs.",
        "Deploy another digest. A governor can delete the `Revocation` that the detail names.";
    NAMESPACE_LABELS_UNKNOWN = "namespace-labels-unknown",
        "The policy selects namespaces by label, and the labels of this namespace are not known.",
        "Set the labels with `--namespace-labels`, a Namespace object in the input, or the configuration.";
}

/// What to do where the labels of a namespace are not known.
const GIVE_LABELS: &str = "set the labels with `--namespace-labels`, a Namespace object in the input, or the configuration";

/// Every reason that the engine gives, independently of the rules.
pub fn engine_reasons() -> Vec<Reason> {
    [OF_JUDGING, OF_COVERAGE, OF_PLATFORMS].concat()
}

/// Judges a promotion by every policy that governs it, or may govern it.
///
/// Each policy gives its own decision, with at least one finding for each image of the workload. Missing knowledge denies, and
/// so does a case for which no rule is written.
pub fn judge(promotion: &Promotion, evidence: &Evidence, governing: &Governing<'_>) -> Verdict {
    let work = WorkShares::new(promotion, evidence, governing);
    // 1. Every requirement of every policy, for every image and for the object as a whole: nothing is left unjudged.
    let images: Vec<_> = promotion
        .images()
        .enumerate()
        .map(|(at, (image, pin))| ImageUnderReview {
            records: promotion.records_of(at),
            is_injected: promotion.is_injected(at),
            work: work.clone(),
            ..ImageUnderReview::new(promotion, evidence, governing, image, pin)
        })
        .collect();
    let mut by_policy: Vec<_> = governing
        .policies
        .iter()
        .map(|(policy, certainty)| {
            let entries: Vec<_> = PolicyEntry::all_of(policy, governing.world).collect();
            let each = images.iter();
            PolicyFindings {
                policy,
                certainty: *certainty,
                workload: findings_for_workload(promotion, governing, policy, &work),
                images: each
                    .map(|image| image.findings_for(policy, &entries))
                    .collect(),
            }
        })
        .collect();
    // 2. Emergency changes: one declaration waives everything for which a policy denies, or nothing.
    let waivers = Waivers::new(promotion, evidence, governing);
    let emergencies: Vec<_> = by_policy
        .iter_mut()
        .map(|own| own.waive(&waivers))
        .collect();
    // 3. Coverage: an image without evidence is denied. This needs all findings, because a signature that one policy requires
    //    covers the image for the other policies too.
    let targets: Vec<_> = images.iter().map(|image| image.target.clone()).collect();
    let uncovered: Vec<_> = by_policy
        .iter()
        .map(|own| uncovered(own, promotion, &targets, &by_policy))
        .collect();
    let mut verdicts = Vec::new();
    let of_policies = by_policy.into_iter().zip(uncovered).zip(emergencies);
    for ((own, uncovered), emergency) in of_policies {
        let mut findings = own.workload;
        findings.reserve(own.images.iter().map(Vec::len).sum::<usize>() + uncovered.len());
        findings.extend(own.images.into_iter().flatten());
        findings.extend(uncovered);
        // 4. A policy that only may govern gives no certain denial: its failures become undecided.
        if own.certainty == Certainty::LabelsUnknown {
            findings = downgrade_to_undecided(findings, promotion);
        }
        let policy = own.policy;
        let verdict = PolicyVerdict::of(policy.name.clone(), policy.enforcement, findings);
        verdicts.push(verdict.with(emergency));
    }
    // 5. A policy that cannot be read denies every object that it may govern: a broken policy must not open the gate. Upkeep on the
    //    record goes on, here and in step 6: what was admitted must not stop because a document changed.
    let is_recorded_upkeep =
        promotion.kind == ChangeKind::Upkeep { recorded: true } && promotion.injected.is_none();
    if !is_recorded_upkeep {
        verdicts.extend(of_unreadable(governing));
        // 6. If no policy governs the object, the configuration decides.
        verdicts.extend(of_ungoverned(promotion, governing));
    }
    // 7. A revoked digest is refused whatever the kind of change, the policies and their enforcement are.
    let revoked: Vec<_> = images.iter().flat_map(ImageUnderReview::revoked).collect();
    if !revoked.is_empty() {
        let name = "(revocations)".to_owned();
        verdicts.push(PolicyVerdict::of(name, Enforcement::Enforce, revoked));
    }
    Verdict::of(verdicts, governing.revision.to_owned())
}

/// What the evidence says that has to be kept in the cluster and is not yet, under the policies that govern for certain.
pub fn evidence_to_keep(
    promotion: &Promotion,
    evidence: &Evidence,
    governing: &Governing<'_>,
) -> EvidenceToKeep {
    let images = promotion.images();
    let images: Vec<_> = images
        .map(|(image, pin)| ImageUnderReview::new(promotion, evidence, governing, image, pin))
        .collect();
    let mut kept = EvidenceToKeep::default();
    let waivers = Waivers::new(promotion, evidence, governing);
    let certain = governing.policies.iter();
    let certain = certain.filter(|(_, certainty)| *certainty == Certainty::Certain);
    for (policy, _) in certain {
        kept.add(waivers.to_keep(policy));
        for entry in PolicyEntry::all_of(policy, governing.world) {
            let requirement = &entry.named.requirement;
            let Scope::Image(rule) = requirement.scope() else {
                continue;
            };
            if skip_for(requirement, promotion, policy).is_some() {
                continue;
            }
            let matched = images
                .iter()
                .filter(|it| policy.matches_image(&it.image.reference));
            for image in matched {
                kept.add(rule.keeps(&image.input(&entry, &image.own)));
                for platform in image.judged_platforms(&entry) {
                    kept.add(rule.keeps(&image.input(&entry, &evidence.of(platform))));
                }
            }
        }
    }
    kept
}

/// What people said about one image, under one requirement of a policy.
#[derive(Clone, Debug)]
pub struct ListedApprovals {
    /// The name of the policy.
    pub policy: String,
    /// The policy's environment.
    pub environment: String,
    /// The image.
    pub image: Arc<ImageTarget>,
    /// The finding of the requirement.
    pub finding: Finding,
    /// The statements.
    pub listing: ApprovalListing,
}

/// What people said about each image, under each requirement `approvals` of the governing policies.
pub fn list_approvals(
    promotion: &Promotion,
    evidence: &Evidence,
    governing: &Governing<'_>,
) -> Vec<ListedApprovals> {
    let mut listed = Vec::new();
    for (at, (image, pin)) in promotion.images().enumerate() {
        let image = ImageUnderReview {
            records: promotion.records_of(at),
            ..ImageUnderReview::new(promotion, evidence, governing, image, pin)
        };
        for (policy, _) in &governing.policies {
            for entry in PolicyEntry::all_of(policy, governing.world) {
                let Requirement::Approvals(rule) = &entry.named.requirement else {
                    continue;
                };
                let matched = policy.matches_image(&image.image.reference);
                let judgement = image.evaluate(&entry, rule, matched);
                let Target::Image(target) = &image.target else {
                    continue;
                };
                listed.push(ListedApprovals {
                    policy: policy.name.clone(),
                    environment: policy.environment.clone().unwrap_or_default(),
                    image: Arc::clone(target),
                    finding: finding_of(entry.index, entry.named, image.target.clone(), judgement),
                    listing: rule.listing(&image.input(&entry, &image.own)),
                });
            }
        }
    }
    listed
}

/// A denial for each policy that cannot be read and may govern.
fn of_unreadable(governing: &Governing<'_>) -> Vec<PolicyVerdict> {
    let denied = governing.unreadable.iter().map(|policy| {
        let why = &policy.why;
        let judgement = Judgement::undecided(
            POLICY_UNREADABLE,
            format!("a policy that may govern this object cannot be read: {why}"),
        )
        .hint("ask the operator to repair the policy; until then every object that it may govern is denied");
        denied_for(policy.source.clone(), judgement)
    });
    denied.collect()
}

/// The denial of a change that no policy governs, where the configuration denies such. Upkeep goes on, since the objects that it
/// follows from were judged. If policies only might govern, that is not known: labels that are unknown must not allow what known ones
/// would deny.
fn of_ungoverned(promotion: &Promotion, governing: &Governing<'_>) -> Option<PolicyVerdict> {
    if governing.ungoverned != Ungoverned::Deny {
        return None;
    }
    let is_upkeep = matches!(promotion.kind, ChangeKind::Upkeep { .. });
    let judgement = match (governing.is_empty(), governing.only_might_govern()) {
        (true, _) if is_upkeep => return None,
        (true, _) => Judgement::fail(
            UNGOVERNED,
            "no policy governs this workload, and the configuration denies such workloads".to_owned(),
        )
        .hint("ask the operator to add the namespace to a policy"),
        (false, true) => Judgement::undecided(
            NAMESPACE_LABELS_UNKNOWN,
            "whether a policy governs this workload is not known, because policies select namespaces by label, and the configuration denies workloads that no policy governs".to_owned(),
        )
        .hint(GIVE_LABELS),
        (false, false) => return None,
    };
    Some(denied_for("(ungoverned)".to_owned(), judgement))
}

fn denied_for(policy: String, judgement: Judgement) -> PolicyVerdict {
    let finding = Finding::of_engine("governance", Target::Workload, judgement);
    PolicyVerdict::of(policy, Enforcement::Enforce, vec![finding])
}

/// The findings for the object as a whole: one for each field that cannot be read, and those of the workload rules.
fn findings_for_workload(
    promotion: &Promotion,
    governing: &Governing<'_>,
    policy: &Policy,
    work: &WorkShares,
) -> Vec<Finding> {
    let change = &promotion.change;
    let unreadable = change.unreadable.iter().map(|unreadable| {
        let judgement = Judgement::undecided(UNREADABLE_OBJECT, unreadable.why.clone())
            .hint("correct the field; the gate denies every object that it cannot read in full");
        Finding::of_engine("object", Target::Field(unreadable.field.clone()), judgement)
    });
    let check = WorkloadCheck {
        promotion,
        policy,
        world: governing.world,
        work: work.of(policy),
    };
    let requirements = policy.requirements.iter().enumerate();
    let required = requirements.filter_map(|(index, named)| {
        let Scope::Workload(rule) = named.requirement.scope() else {
            return None;
        };
        let judgement = match skip_for(&named.requirement, promotion, policy) {
            Some(skipped) => skipped,
            None => rule.check(&check),
        };
        Some(finding_of(index, named, Target::Workload, judgement))
    });
    let mut findings: Vec<_> = unreadable.chain(required).collect();
    if findings.is_empty() && change.images.is_empty() {
        let judgement = Judgement::skip(NO_IMAGES, "the object does not name an image");
        findings.push(Finding::of_engine("object", Target::Workload, judgement));
    }
    findings
}

/// Makes every failure under a policy that only may govern undecided, and adds a finding that says why.
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
        .hint(GIVE_LABELS);
        findings.push(Finding::of_engine(
            "governance",
            Target::Workload,
            judgement,
        ));
    }
    findings
}
