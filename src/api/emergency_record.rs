//! `EmergencyChangeRecord` as it stands in the cluster: an emergency change that was used, and whether it was reviewed. The gate alone
//! writes it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kube::CustomResource;
use promotion_gate_core::documents::{Fault, Path};
use promotion_gate_core::gate::{Digest, OverdueReview};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::WrittenWorkload;
use super::faults::Faults;
use super::kept::kept_name;

/// The most uses of one record.
pub const MAXIMUM_USES: usize = 100;
/// The most names of people, users or policies in one list.
pub const MAXIMUM_NAMES: usize = 500;

/// An emergency change by which something was admitted in this cluster. promotion-gate writes it, looks for its review, and blocks the
/// next emergency change of the environment where a policy says so. One for each declaration and environment.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    clippy::duplicated_attributes,
    reason = "each column has a name and a type"
)]
#[kube(
    group = "promotion-gate.dev",
    version = "v1alpha1",
    kind = "EmergencyChangeRecord",
    root = "EmergencyChangeRecordResource",
    plural = "emergencychangerecords",
    shortname = "pgecr",
    category = "promotion-gate",
    schema = "disabled",
    printcolumn(
        name = "Environment",
        type_ = "string",
        json_path = ".spec.environment"
    ),
    printcolumn(name = "Incident", type_ = "string", json_path = ".spec.incident.id"),
    printcolumn(name = "Due", type_ = "string", json_path = ".spec.reviewDue"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(
        name = "Verdict",
        type_ = "string",
        json_path = ".status.review.verdict"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EmergencyChangeRecordSpec {
    /// The digest of the statement that declares the emergency change.
    #[schemars(length(min = 1, max = 256))]
    pub declaration: String,
    /// The environment, as policies name it.
    #[schemars(length(min = 1, max = 253))]
    pub environment: String,
    /// The incident.
    pub incident: RecordedIncident,
    /// The people who declared it, by name in the people directory.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(length(max = MAXIMUM_NAMES))]
    pub declared_by: BTreeSet<String>,
    /// The other people who agreed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(length(max = MAXIMUM_NAMES))]
    pub approved_by: BTreeSet<String>,
    /// The authors of the change, as far as they are known.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(length(max = MAXIMUM_NAMES))]
    pub authors: BTreeSet<String>,
    /// Whether there may be further authors.
    #[serde(default)]
    pub unknown_author: bool,
    /// The Kubernetes users who asked for the changes.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(length(max = MAXIMUM_NAMES))]
    pub requesters: BTreeSet<String>,
    /// The policies that it let a change pass.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(length(max = MAXIMUM_NAMES))]
    pub policies: BTreeSet<String>,
    /// The rules that were waived.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(length(max = MAXIMUM_NAMES))]
    pub waived: BTreeSet<String>,
    /// When it was used first.
    #[schemars(with = "String", length(min = 1, max = 64))]
    pub admitted: Timestamp,
    /// When it was used last.
    #[schemars(with = "String", length(min = 1, max = 64))]
    pub last_admitted: Timestamp,
    /// When it ends.
    #[schemars(with = "String", length(min = 1, max = 64))]
    pub expires: Timestamp,
    /// When the review of the first use is due. A use after a review or after a governor's deletion has as much time, from `lastAdmitted` on.
    #[schemars(with = "String", length(min = 1, max = 64))]
    pub review_due: Timestamp,
    /// What was admitted: each image of each workload, the first ones if there are more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAXIMUM_USES))]
    pub uses: Vec<EmergencyAdmission>,
    /// Whether there were more uses, people, users or policies than are listed.
    #[serde(default)]
    pub cut: bool,
}

/// An incident, as the declaration names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecordedIncident {
    /// The id.
    #[schemars(length(min = 1, max = 253))]
    pub id: String,
    /// The address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub url: Option<String>,
    /// `verified` if the incident's tracker confirmed it, otherwise `unverified`.
    #[schemars(length(min = 1, max = 64))]
    pub state: String,
}

/// One image of a workload that was admitted by an emergency change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EmergencyAdmission {
    /// The object whose request was admitted.
    pub workload: WrittenWorkload,
    /// The digest of its template: of everything that decides what runs.
    #[schemars(length(min = 1, max = 256))]
    pub template: String,
    /// The image, as commands accept it: a name with its digest.
    #[schemars(length(min = 1, max = 1024))]
    pub image: String,
    /// When it was admitted first.
    #[schemars(with = "String", length(min = 1, max = 64))]
    pub admitted: Timestamp,
    /// The id of the decision, as in the log and in the API server's audit log.
    #[schemars(length(max = 256))]
    pub decision: String,
}

/// What the gate found out about an emergency change that was used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EmergencyChangeRecordStatus {
    /// The state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<EmergencyState>,
    /// The last review that counted. After a later use it is still the earlier one, until that use is reviewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<RecordedReview>,
    /// The governor's deletion that ended it without a review.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifted: Option<LiftedReview>,
    /// Why reviews that are attached do not count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused_reviews: Vec<String>,
    /// What keeps the gate from finding the review.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What became of the change: the least favourable of `outcomes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<ChangeOutcome>,
    /// What became of each workload.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outcomes: Vec<WorkloadOutcome>,
}

/// The state of an emergency change that was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EmergencyState {
    /// It still lets changes pass; its review is not due yet.
    Open,
    /// It has ended; its review is due.
    Due,
    /// Its review was not made in time.
    Overdue,
    /// It was reviewed.
    Reviewed,
    /// A governor ended it without a review.
    Lifted,
}

/// A review that counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedReview {
    /// `justified`, `unjustified` or `inconclusive`.
    pub verdict: String,
    /// The person who reviewed it, by name in the people directory.
    pub reviewer: String,
    /// The earliest verified time of the signature.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
    /// What has to be done now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub follow_ups: Vec<String>,
    /// The digest of the statement.
    pub statement: String,
}

/// A governor's deletion of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LiftedReview {
    /// The Kubernetes user.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// What became of a workload that was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ChangeOutcome {
    /// It became ready.
    Ready,
    /// It is not ready yet.
    Pending,
    /// It was neither ready nor failed while it was looked at, or nothing shows what became of such an object.
    NotObserved,
    /// Another template runs now, which was admitted later.
    Replaced,
    /// The object does not exist any more.
    Gone,
    /// A template runs again that ran before.
    RolledBack,
    /// Its Pods crash or cannot start, or it did not become ready in time.
    Failed,
}

/// What became of one workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadOutcome {
    /// The workload, as `KIND NAMESPACE/NAME`.
    pub workload: String,
    /// The template that was admitted.
    pub template: String,
    /// What became of it.
    pub outcome: ChangeOutcome,
    /// Since when.
    pub at: Timestamp,
    /// Why, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Checks what the schema of a record cannot express.
///
/// # Errors
/// What is wrong with the resource, each with its path below `spec`.
pub fn emergency_record(spec: &EmergencyChangeRecordSpec) -> Result<(), Vec<Fault>> {
    let mut faults = Faults::default();
    let of = spec.declaration.parse::<Digest>();
    if let Err(error) = &of {
        let path = Path::default().key("declaration");
        faults.add(path, format!("{error}"));
    }
    faults.finish(of.ok().map(drop))
}

impl EmergencyChangeRecordSpec {
    /// The name of the resource: it says what the record is about, so that there is one for each declaration and environment.
    pub fn name(&self) -> String {
        kept_name("emergency", &[&self.declaration, &self.environment])
    }

    /// The state at an instant. A use after the review or after the governor's deletion needs another review.
    pub fn state(&self, status: &EmergencyChangeRecordStatus, now: Timestamp) -> EmergencyState {
        let reviewed = status.review.as_ref().map(|review| review.at);
        let lifted = status.lifted.as_ref().map(|lifted| lifted.at);
        let ends = |at: Option<Timestamp>| at.is_some_and(|at| at >= self.last_admitted);
        match (ends(reviewed), ends(lifted)) {
            (true, _) => EmergencyState::Reviewed,
            (false, true) => EmergencyState::Lifted,
            _ if now >= self.due(status) => EmergencyState::Overdue,
            _ if now >= self.expires => EmergencyState::Due,
            _ => EmergencyState::Open,
        }
    }

    /// When the review is due. A use after a review, or after the governor's deletion, has as much time as the first use.
    pub fn due(&self, status: &EmergencyChangeRecordStatus) -> Timestamp {
        let reviewed = status.review.as_ref().map(|review| review.at);
        let lifted = status.lifted.as_ref().map(|lifted| lifted.at);
        let mut ended = reviewed.into_iter().chain(lifted);
        if !ended.any(|at| self.admitted <= at && at < self.last_admitted) {
            return self.review_due;
        }
        let time = self.review_due.duration_since(self.admitted);
        let due = self.last_admitted.saturating_add(time);
        due.unwrap_or(self.review_due)
    }

    /// The review that is owed, if one is. `None` too for a declaration that is not a digest.
    pub fn owed(&self, status: &EmergencyChangeRecordStatus) -> Option<OverdueReview> {
        let is_owed = !self.state(status, self.review_due).is_ended();
        let due = self.due(status);
        let image = self.uses.first().map(|used| used.image.clone());
        Some(OverdueReview {
            due,
            declaration: self.declaration.parse().ok().filter(|_| is_owed)?,
            incident: self.incident.id.clone(),
            image: image.unwrap_or_else(|| "IMAGE".to_owned()),
        })
    }
}

impl EmergencyState {
    /// Whether no review is owed any more.
    pub fn is_ended(self) -> bool {
        matches!(self, EmergencyState::Reviewed | EmergencyState::Lifted)
    }

    /// The state as the status writes it.
    pub fn id(self) -> &'static str {
        match self {
            EmergencyState::Open => "open",
            EmergencyState::Due => "due",
            EmergencyState::Overdue => "overdue",
            EmergencyState::Reviewed => "reviewed",
            EmergencyState::Lifted => "lifted",
        }
    }
}

impl ChangeOutcome {
    /// The outcome as the status writes it.
    pub fn id(self) -> &'static str {
        match self {
            ChangeOutcome::Ready => "ready",
            ChangeOutcome::Pending => "pending",
            ChangeOutcome::NotObserved => "notObserved",
            ChangeOutcome::Replaced => "replaced",
            ChangeOutcome::Gone => "gone",
            ChangeOutcome::RolledBack => "rolledBack",
            ChangeOutcome::Failed => "failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(60 * minute).unwrap()
    }

    fn spec() -> EmergencyChangeRecordSpec {
        let spec = serde_json::json!({
            "declaration": Digest::sha256(b"one").to_string(), "environment": "production",
            "incident": {"id": "INC1", "state": "verified"},
            "admitted": at(10), "lastAdmitted": at(20), "expires": at(60), "reviewDue": at(100),
        });
        serde_json::from_value(spec).unwrap()
    }

    fn reviewed(minute: i64) -> EmergencyChangeRecordStatus {
        let review = serde_json::json!({"review": {
            "verdict": "justified", "reviewer": "eve", "at": at(minute), "reason": "x", "statement": "sha256:1",
        }});
        serde_json::from_value(review).unwrap()
    }

    #[test]
    fn the_state_follows_from_the_times_and_from_the_review() {
        let (spec, none) = (spec(), EmergencyChangeRecordStatus::default());
        let states = [20, 59, 60, 99, 100].map(|now| spec.state(&none, at(now)).id());
        assert_eq!(states, ["open", "open", "due", "due", "overdue"]);
        assert_eq!(spec.state(&reviewed(30), at(500)).id(), "reviewed");
        assert_eq!(spec.owed(&none).unwrap().due, at(100));
        assert_eq!(spec.owed(&reviewed(30)), None);
        let lifted = EmergencyChangeRecordStatus {
            lifted: Some(LiftedReview {
                by: "admin".to_owned(),
                at: at(30),
            }),
            ..none
        };
        assert_eq!(spec.state(&lifted, at(500)).id(), "lifted");
        assert_eq!(spec.owed(&lifted), None);
    }

    #[test]
    fn a_use_after_the_review_needs_another_review() {
        assert_eq!(spec().state(&reviewed(19), at(30)).id(), "open");
        // It has as much time as the first use, even if that was over.
        assert_eq!(spec().owed(&reviewed(19)).unwrap().due, at(110));
        let states = [109, 110].map(|now| spec().state(&reviewed(19), at(now)).id());
        assert_eq!(states, ["due", "overdue"]);
        assert_eq!(
            spec().owed(&reviewed(9)).unwrap().due,
            at(100),
            "no use was reviewed"
        );
        assert!(spec().owed(&reviewed(19)).is_some());
        assert!(spec().owed(&reviewed(20)).is_none());
    }

    #[test]
    fn each_declaration_has_one_record_in_each_environment() {
        let (one, mut other) = (spec(), spec());
        assert_eq!(one.name(), other.name());
        other.environment = "staging".to_owned();
        assert_ne!(one.name(), other.name());
        assert!(one.name().starts_with("emergency-") && one.name().len() == 50);
    }
}
