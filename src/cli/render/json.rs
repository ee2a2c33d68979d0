//! The JSON form of reviews: `check --output json`. Within one version, fields are only added.

use std::collections::BTreeSet;

use jiff::Timestamp;
use promotion_gate_core::documents::Path;
use promotion_gate_core::gate::{
    Decision, EmergencyUse, Finding, ImageUse, Outcome, Pin, PolicyVerdict, Role, Target, Verdict,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::super::world::Object;
use crate::review::Review;

/// The version of the schema.
pub(crate) const VERSION: &str = "promotion-gate.dev/check/v1alpha1";

/// The result of `check` for all objects of its input.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CheckReport {
    /// `promotion-gate.dev/check/v1alpha1`
    pub(crate) version: &'static str,
    /// `allow`, `deny`, or `undecided` if only missing information prevents `allow`.
    pub(crate) decision: CheckDecision,
    /// The time at which the objects were judged.
    #[schemars(with = "String")]
    pub(crate) at: Timestamp,
    /// Names the applied policies: a digest over their bytes.
    pub(crate) policy_revision: String,
    /// The objects, in the order of the input.
    pub(crate) objects: Vec<ObjectReport>,
    /// Input that could not be read.
    pub(crate) problems: Vec<String>,
    /// Objects of kinds that this version does not know and that seem to name an image: their images are not checked.
    pub(crate) unknown: Vec<UnknownReport>,
    /// How many other objects are not judged, because they carry no images.
    pub(crate) not_ours: usize,
}

/// An object of a kind that this version does not know.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UnknownReport {
    /// The file, or `-` for standard input.
    pub(crate) file: String,
    /// The line on which it begins, from 1.
    pub(crate) line: u64,
    /// API version, such as `tekton.dev/v1`.
    pub(crate) api_version: String,
    /// Kind, such as `Task`.
    pub(crate) kind: String,
    /// Namespace, if the object names one.
    pub(crate) namespace: Option<String>,
    /// `metadata.name`; empty when absent.
    pub(crate) name: String,
    /// The field that seems to name an image: the first one.
    pub(crate) field: String,
}

impl UnknownReport {
    pub(crate) fn of(object: &Object<'_>, field: &Path) -> UnknownReport {
        let text = |pointer: &str| object.value.pointer(pointer)?.as_str().map(str::to_owned);
        UnknownReport {
            file: object.file.to_owned(),
            line: object.line,
            api_version: text("/apiVersion").unwrap_or_default(),
            kind: text("/kind").unwrap_or_default(),
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name").unwrap_or_default(),
            field: field.to_string(),
        }
    }
}

/// The decision about one object, or about all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum CheckDecision {
    /// The object is allowed.
    Allow,
    /// Only missing information prevents `allow`.
    Undecided,
    /// The object is denied.
    Deny,
}

impl CheckDecision {
    pub(crate) fn of(verdict: &Verdict) -> CheckDecision {
        match verdict.decision() {
            Decision::Allow => CheckDecision::Allow,
            Decision::Deny if verdict.is_undecided() => CheckDecision::Undecided,
            Decision::Deny => CheckDecision::Deny,
        }
    }
}

/// The result for one object.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ObjectReport {
    /// The file, or `-` for standard input.
    pub(crate) file: String,
    /// The line on which it begins, from 1.
    pub(crate) line: u64,
    /// API group; empty for the core group.
    pub(crate) group: String,
    /// Kind, such as `Deployment`.
    pub(crate) kind: String,
    /// Namespace, if the object has one.
    pub(crate) namespace: Option<String>,
    /// `metadata.name`, or `metadata.generateName` with a `*`.
    pub(crate) name: String,
    pub(crate) decision: CheckDecision,
    /// Every image, in document order.
    pub(crate) images: Vec<ImageReport>,
    /// The result of each governing policy, by name; empty if no policy governs the object.
    pub(crate) policies: Vec<PolicyReport>,
}

impl ObjectReport {
    pub(crate) fn of(file: &str, line: u64, review: &Review) -> ObjectReport {
        let workload = &review.promotion.change.workload;
        ObjectReport {
            file: file.to_owned(),
            line,
            group: workload.group.clone(),
            kind: workload.kind.clone(),
            namespace: workload.namespace.clone(),
            name: workload.name.clone(),
            decision: CheckDecision::of(&review.verdict),
            images: review
                .promotion
                .images()
                .map(|(image, pin)| ImageReport::of(image, pin))
                .collect(),
            policies: PolicyReport::all(&review.verdict),
        }
    }
}

/// One image of an object.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImageReport {
    /// Field path.
    pub(crate) field: String,
    /// `container`, `initContainer`, `ephemeralContainer` or `imageVolume`.
    pub(crate) role: &'static str,
    /// The reference as written.
    pub(crate) image: String,
    /// The reference in its normal form.
    pub(crate) normalised: String,
    /// The digest that was judged, if it is known.
    pub(crate) digest: Option<String>,
}

impl ImageReport {
    pub(crate) fn of(image: &ImageUse, pin: &Pin) -> ImageReport {
        ImageReport {
            field: image.field.clone(),
            role: match image.role {
                Role::Container => "container",
                Role::InitContainer => "initContainer",
                Role::EphemeralContainer => "ephemeralContainer",
                Role::ImageVolume => "imageVolume",
            },
            image: image.reference.as_written().to_owned(),
            normalised: image.reference.to_string(),
            digest: pin.digest().map(ToString::to_string),
        }
    }
}

/// The result of one policy.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PolicyReport {
    pub(crate) policy: String,
    /// `Enforce`, `Warn` or `Audit`.
    pub(crate) enforcement: String,
    /// `allow` or `deny`.
    pub(crate) decision: &'static str,
    /// Every finding, worst first.
    pub(crate) findings: Vec<FindingReport>,
    /// The emergency change by which the policy allows the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) emergency: Option<EmergencyReport>,
}

/// An emergency change by which a policy allows an object.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EmergencyReport {
    /// The digest of the statement that declares it.
    pub(crate) declaration: String,
    pub(crate) environment: String,
    /// The id of the incident.
    pub(crate) incident: String,
    /// `verified` if the incident's tracker confirmed it, otherwise `unverified`.
    pub(crate) incident_state: &'static str,
    /// Why this image mends the incident.
    pub(crate) reason: String,
    /// The people who declared it.
    pub(crate) declared_by: BTreeSet<String>,
    /// The other people who agreed.
    pub(crate) approved_by: BTreeSet<String>,
    /// Whether it is not known who wrote the change.
    pub(crate) unknown_author: bool,
    /// The rules that are waived.
    pub(crate) waived: BTreeSet<&'static str>,
    /// When it ends.
    #[schemars(with = "String")]
    pub(crate) expires: Timestamp,
    /// When its review is due, if the object is admitted now.
    #[schemars(with = "String")]
    pub(crate) review_due: Timestamp,
}

impl EmergencyReport {
    fn of(used: &EmergencyUse) -> EmergencyReport {
        EmergencyReport {
            declaration: used.declaration.to_string(),
            environment: used.environment.clone(),
            incident: used.incident.clone(),
            incident_state: used.incident_state.id(),
            reason: used.reason.clone(),
            declared_by: used.declared_by.clone(),
            approved_by: used.approved_by.clone(),
            unknown_author: used.has_unknown_author,
            waived: used.waived.clone(),
            expires: used.expires,
            review_due: used.review_due,
        }
    }
}

impl PolicyReport {
    pub(crate) fn all(verdict: &Verdict) -> Vec<PolicyReport> {
        verdict.policies().iter().map(PolicyReport::of).collect()
    }

    /// Whether one of them denies, be it only with a warning.
    pub(crate) fn any_denies(policies: &[PolicyReport]) -> bool {
        policies.iter().any(|it| it.decision == Decision::Deny.id())
    }

    fn of(verdict: &PolicyVerdict) -> PolicyReport {
        PolicyReport {
            policy: verdict.policy().to_owned(),
            enforcement: format!("{:?}", verdict.enforcement()),
            decision: verdict.decision().id(),
            findings: verdict.findings().iter().map(FindingReport::of).collect(),
            emergency: verdict.emergency().map(EmergencyReport::of),
        }
    }
}

/// The result of one rule for one image, or for the object.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FindingReport {
    /// The rule, such as `signature`.
    pub(crate) rule: &'static str,
    /// The name that the policy gives to the requirement.
    pub(crate) requirement: Option<String>,
    /// The field that the finding is about; absent for the object as a whole.
    pub(crate) field: Option<String>,
    /// `pass`, `fail`, `undecided`, `skip` or `waived`.
    pub(crate) outcome: &'static str,
    /// Stable id of the reason, such as `unsigned`.
    pub(crate) reason: &'static str,
    /// The reason in words.
    pub(crate) detail: String,
    /// What to do next.
    pub(crate) hint: Option<String>,
    /// What the deployer should know although the requirement is met; several texts are joined with `; `.
    pub(crate) warning: Option<String>,
    /// The digest of the declaration of the emergency change that waives the requirement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) waived_by: Option<String>,
}

impl FindingReport {
    fn of(finding: &Finding) -> FindingReport {
        FindingReport {
            rule: finding.rule,
            requirement: finding.requirement.clone(),
            field: match &finding.target {
                Target::Workload => None,
                Target::Field(field) => Some(field.clone()),
                Target::Image(image) => Some(image.field.clone()),
            },
            outcome: Outcome::id(finding.outcome),
            reason: finding.reason,
            detail: finding.detail.clone(),
            hint: finding.hint.clone(),
            warning: joined(&finding.warnings),
            waived_by: finding.waived_by.as_ref().map(ToString::to_string),
        }
    }
}

fn joined(warnings: &BTreeSet<Box<str>>) -> Option<String> {
    let all: Vec<_> = warnings.iter().map(|it| &**it).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_schema_is_that_of_the_report() {
        super::super::assert_documented::<CheckReport>("check");
    }
}
