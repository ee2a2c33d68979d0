//! The report of `scan`: workloads with the same answer together, for people; every workload, as JSON.

use std::collections::BTreeMap;

use jiff::Timestamp;
use promotion_gate_core::gate::{Decision, Snapshot};
use schemars::JsonSchema;
use serde::Serialize;

use super::inventory::{Found, Rest};
use crate::admission;
use crate::cli::render::human::{only_unenforced, plural, word};
use crate::cli::render::json::{CheckDecision, ImageReport, PolicyReport};
use crate::review::Review;
use crate::text;

/// The version of the schema.
const VERSION: &str = "promotion-gate.dev/scan/v1alpha1";
/// The most workloads that are named of those with the same answer.
const NAMED: usize = 10;

/// The result of `scan` for everything that runs.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ScanReport {
    /// `promotion-gate.dev/scan/v1alpha1`
    version: &'static str,
    /// `allow`, `deny`, or `undecided` if only missing information prevents `allow`.
    pub(super) decision: CheckDecision,
    /// The time at which the workloads were judged.
    #[schemars(with = "String")]
    at: Timestamp,
    /// Names the applied policies: a digest over their bytes.
    policy_revision: String,
    /// The workloads without a judged owner.
    workloads: Vec<ScannedWorkload>,
    /// Kinds that own Pods or other workloads, and that this version does not judge. What they make is judged one by one.
    unknown_owners: Vec<UnknownOwner>,
    /// Pods that kubelets made from files of their nodes: they are not judged.
    mirror_pods: usize,
    /// Pods that have ended: they are not judged.
    ended_pods: usize,
}

/// The result for one workload.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ScannedWorkload {
    /// API group; empty for the core group.
    group: String,
    /// Kind, such as `Deployment`.
    kind: String,
    /// Namespace, if the object has one.
    namespace: Option<String>,
    /// `metadata.name`
    name: String,
    /// How many Pods belong to it.
    pods: usize,
    decision: CheckDecision,
    /// Every image, in document order.
    images: Vec<ImageReport>,
    /// The result of each governing policy, by name; empty if no policy governs the workload.
    policies: Vec<PolicyReport>,
}

/// A kind that is not judged.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct UnknownOwner {
    /// API version, such as `tekton.dev/v1`.
    api_version: String,
    /// Kind, such as `TaskRun`.
    kind: String,
    /// The kind of what it owns, such as `Pod`.
    owns: String,
    /// How many owners were found.
    owners: usize,
    /// One of the owned objects.
    example: String,
}

impl ScanReport {
    pub(super) fn of(
        reviews: &[(Found, Review)],
        rest: Rest,
        snapshot: &Snapshot,
        at: Timestamp,
    ) -> ScanReport {
        let workloads: Vec<_> = reviews.iter().map(ScannedWorkload::of).collect();
        let worst = workloads.iter().map(|workload| workload.decision).max();
        ScanReport {
            version: VERSION,
            decision: worst.unwrap_or(CheckDecision::Allow),
            at,
            policy_revision: snapshot.revision.clone(),
            workloads,
            unknown_owners: rest
                .owners
                .into_iter()
                .map(|(kind, owned)| UnknownOwner {
                    api_version: kind.api_version,
                    kind: kind.kind,
                    owns: kind.owns,
                    owners: owned.objects,
                    example: owned.example,
                })
                .collect(),
            mirror_pods: rest.mirrors,
            ended_pods: rest.ended,
        }
    }
}

impl ScannedWorkload {
    fn of((found, review): &(Found, Review)) -> ScannedWorkload {
        let workload = &review.promotion.change.workload;
        let images = review.promotion.images();
        ScannedWorkload {
            group: workload.group.clone(),
            kind: workload.kind.clone(),
            namespace: workload.namespace.clone(),
            name: workload.name.clone(),
            pods: found.pods,
            decision: CheckDecision::of(&review.verdict),
            images: images
                .map(|(image, pin)| ImageReport::of(image, pin))
                .collect(),
            policies: PolicyReport::all(&review.verdict),
        }
    }

    fn name(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{} {namespace}/{}", self.kind, self.name),
            None => format!("{} {}", self.kind, self.name),
        }
    }
}

/// Prints the report for people, the worst first.
pub(super) fn table(reviews: &[(Found, Review)], report: &ScanReport) {
    let mut alike: BTreeMap<_, Vec<&ScannedWorkload>> = BTreeMap::new();
    for ((_, review), workload) in reviews.iter().zip(&report.workloads) {
        let key = (
            workload.decision,
            said(review),
            workload.policies.is_empty(),
        );
        alike.entry(key).or_default().push(workload);
    }
    for ((decision, said, is_ungoverned), workloads) in alike.iter().rev() {
        let pods = workloads.iter().map(|workload| workload.pods).sum();
        print_line!(
            "{} {} with {}{}: {}",
            word(*decision),
            plural(workloads.len(), "workload", "workloads"),
            plural(pods, "Pod", "Pods"),
            match is_ungoverned {
                true => ", governed by no policy",
                false => "",
            },
            text::line(&names(workloads))
        );
        for line in said {
            print_line!("  {line}");
        }
        print_line!("");
    }
    for owner in &report.unknown_owners {
        print_line!(
            "note: {} of {} ({}): this version does not judge that kind; what it makes is judged when it is created, as a deployment, such as {}",
            plural(owner.owners, "owner", "owners"),
            text::line(&format!("kind `{}`", owner.kind)),
            text::line(&owner.api_version),
            text::line(&format!("{} {}", owner.owns, owner.example))
        );
    }
    print_line!("{}", summary(report));
}

fn names(workloads: &[&ScannedWorkload]) -> String {
    let named = workloads.iter().take(NAMED).map(|workload| workload.name());
    let named = named.collect::<Vec<_>>().join(", ");
    match workloads.len().checked_sub(NAMED) {
        Some(more) if more > 0 => format!("{named} and {more} more"),
        _ => named,
    }
}

/// Why a workload would be denied, or what would be said about it; without the object and the decision's id.
fn said(review: &Review) -> Vec<String> {
    let verdict = &review.verdict;
    if verdict.decision() == Decision::Deny {
        let denial = admission::denial(verdict, &review.promotion);
        let lines = denial.lines().skip(1).map(str::to_owned);
        return lines
            .filter(|line| !line.starts_with("decision "))
            .collect();
    }
    let mut lines = Vec::new();
    for policy in verdict.denials() {
        let enforcement = policy.enforcement();
        lines.push(format!(
            "policy `{}` would deny it (`enforcement: {enforcement:?}`):",
            policy.policy()
        ));
        let denying = policy.findings().iter();
        let denying = denying.filter(|finding| finding.outcome.denies());
        lines.extend(denying.map(|finding| {
            let detail = text::line(&finding.detail);
            format!("- {} [{}]: {detail}", finding.rule, finding.reason)
        }));
    }
    lines
}

fn summary(report: &ScanReport) -> String {
    let workloads = &report.workloads;
    let count = |decision| {
        let of = workloads.iter().filter(|it| it.decision == decision);
        of.count()
    };
    let ungoverned = workloads.iter().filter(|it| it.policies.is_empty());
    let unenforced = workloads
        .iter()
        .filter(|it| it.decision == CheckDecision::Allow && PolicyReport::any_denies(&it.policies));
    let rest = [
        (ungoverned.count(), "governed by no policy"),
        (report.mirror_pods, "Pods of files on nodes not judged"),
        (report.ended_pods, "Pods that ended not judged"),
    ];
    let rest = rest.iter().filter(|(count, _)| *count > 0);
    let rest: String = rest
        .map(|(count, what)| format!(", {count} {what}"))
        .collect();
    format!(
        "{} of {}: {} allowed{}, {} denied, {} undecided{rest}",
        word(report.decision),
        plural(workloads.len(), "workload", "workloads"),
        count(CheckDecision::Allow),
        only_unenforced(unenforced.count()),
        count(CheckDecision::Deny),
        count(CheckDecision::Undecided),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_schema_is_that_of_the_report() {
        crate::cli::render::assert_documented::<ScanReport>("scan");
    }
}
