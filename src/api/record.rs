//! `ReleaseRecord` as it stands in the cluster. The gate alone writes it, and reads each entry by itself (`crate::record`).

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kube::CustomResource;
use promotion_gate_core::gate::{
    AdmittedBy, Digest, EmergencyUse, RecordEntry, RecordedSource, Workload,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What was admitted of one image in one namespace: of the digest `digest`, or of the reference `reference`, which has no digest.
/// promotion-gate writes records, and lets controllers go on with what is recorded.
#[derive(CustomResource, Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "promotion-gate.dev",
    version = "v1alpha1",
    kind = "ReleaseRecord",
    plural = "releaserecords",
    shortname = "relrec",
    category = "promotion-gate",
    namespaced,
    schema = "disabled",
    printcolumn(name = "Reference", type_ = "string", json_path = ".spec.reference"),
    printcolumn(
        name = "LastUsed",
        type_ = "date",
        json_path = ".spec.lastUsed",
        description = "When the record last let something pass, to the day"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
#[expect(
    clippy::duplicated_attributes,
    reason = "each column has a name and a type"
)]
pub struct ReleaseRecordSpec {
    /// The digest that manifests name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The reference, in its normal form, of an image that manifests name without a digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// When the record last let something pass. It is written at most once a day.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub last_used: Option<Timestamp>,
    /// The admissions, by a hash of the workload, its template and what was allowed.
    #[serde(default)]
    pub entries: BTreeMap<String, WrittenEntry>,
}

/// One admission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WrittenEntry {
    /// The object whose request was admitted.
    pub workload: WrittenWorkload,
    /// The digest of its template: of everything that decides what runs.
    pub template: String,
    /// `Pending` until the object was seen in the cluster with this template.
    pub state: EntryState,
    /// Whether the template was admitted to run, or staged: without replicas, paused or suspended.
    pub runs: EntryRuns,
    /// Why it was admitted.
    pub by: WrittenBy,
    /// The policies that allowed it, none of them by a waiver.
    #[serde(default)]
    pub complied: BTreeSet<String>,
    /// The environments of those of these policies that require approvals.
    #[serde(default)]
    pub environments: BTreeSet<String>,
    /// Those of these policies that bound the age of scans and judged it; with `(database)` behind the name, those that judged the
    /// age of the scanner's database. Entries of older versions do not say it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ages_judged: BTreeSet<String>,
    /// The source that verified provenance names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<WrittenSource>,
    /// The digest to which a policy resolved the reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// When it was admitted.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// When the object was first seen in the cluster with this template. Entries of older versions do not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub observed_at: Option<Timestamp>,
    /// The emergency changes by which it was admitted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub emergency: Vec<WrittenEmergency>,
    /// The id of the decision, as in the log and in the API server's audit log.
    pub decision: String,
    /// The revision of the policies that were applied.
    pub revision: String,
}

/// An emergency change by which an image was admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WrittenEmergency {
    /// The digest of the statement that declares it.
    pub declaration: String,
    /// The environment.
    pub environment: String,
    /// The id of the incident.
    pub incident: String,
    /// The address of the incident.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident_url: Option<String>,
    /// `verified` if the incident's tracker confirmed it, otherwise `unverified`.
    pub incident_state: String,
    /// The account that opened the incident, where a policy asks for `openedByOther` and the people directory does not list the account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident_opened_by: Option<String>,
    /// The people who declared it, by name in the people directory.
    pub declared_by: BTreeSet<String>,
    /// The other people who agreed.
    #[serde(default)]
    pub approved_by: BTreeSet<String>,
    /// The authors of the change, as far as they are known.
    #[serde(default)]
    pub authors: BTreeSet<String>,
    /// Whether there may be further authors.
    #[serde(default)]
    pub unknown_author: bool,
    /// The Kubernetes user who asked for the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requester: Option<String>,
    /// The policies that it let the change pass.
    pub policies: BTreeSet<String>,
    /// The rules that were waived.
    pub waived: BTreeSet<String>,
    /// The images that needed it, each with its digest.
    #[serde(default)]
    pub images: BTreeSet<String>,
    /// When the change was admitted.
    #[schemars(with = "String")]
    pub admitted: Timestamp,
    /// When it ends.
    #[schemars(with = "String")]
    pub expires: Timestamp,
    /// When its review is due.
    #[schemars(with = "String")]
    pub review_due: Timestamp,
}

/// The object whose request was admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WrittenWorkload {
    /// API group; empty for the core group.
    #[serde(default)]
    pub group: String,
    /// API version, such as `v1`.
    pub version: String,
    /// Kind, such as `Deployment`.
    pub kind: String,
    /// Namespace; absent for a cluster-scoped object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// `metadata.uid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

/// Whether the object was seen in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EntryState {
    /// Not yet.
    Pending,
    /// With this template.
    Observed,
}

/// Whether the template was admitted to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EntryRuns {
    /// Without replicas, paused or suspended.
    Staged,
    /// To run.
    Running,
}

/// Why an image was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WrittenBy {
    /// Policies allowed it.
    Policy,
    /// An emergency change waived a requirement.
    Waiver,
    /// A policy denied it, and did not enforce.
    Audit,
    /// No policy governed it.
    Ungoverned,
    /// It ran before the gate recorded anything.
    Baseline,
    /// An injector added it to a Pod.
    Injected,
}

/// The source of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WrittenSource {
    /// The identifier of the repository that the platform gives, or the repository's URI.
    pub repository: String,
    /// The commit.
    pub commit: String,
}

impl WrittenEntry {
    /// The entry as the core reads it; `None` if the template is not a digest. `digest` is that of the record, if it is one of a
    /// digest.
    pub fn parse(&self, digest: Option<&Digest>) -> Option<RecordEntry> {
        let WrittenWorkload {
            group,
            version,
            kind,
            namespace,
            name,
            uid,
        } = self.workload.clone();
        let resolved = || self.digest.as_ref()?.parse().ok();
        Some(RecordEntry {
            digest: digest.cloned().or_else(resolved),
            workload: Workload {
                group,
                version,
                kind,
                namespace,
                name,
            },
            uid,
            template: self.template.parse::<Digest>().ok()?,
            observed: self.state == EntryState::Observed,
            running: self.runs == EntryRuns::Running,
            complied: self.complied.clone(),
            by: self.by.into(),
            environments: self.environments.clone(),
            ages_judged: self.ages_judged.clone(),
            source: self.source.clone().map(|source| RecordedSource {
                repository: source.repository,
                commit: source.commit,
            }),
            at: self.at,
        })
    }
}

impl WrittenEmergency {
    /// What is recorded of an emergency change that let a change pass.
    pub fn new(used: &EmergencyUse, admitted: Timestamp) -> WrittenEmergency {
        WrittenEmergency {
            declaration: used.declaration.to_string(),
            environment: used.environment.clone(),
            incident: used.incident.clone(),
            incident_url: used.incident_url.clone(),
            incident_state: used.incident_state.id().to_owned(),
            incident_opened_by: used.unlisted_opener.clone(),
            declared_by: used.declared_by.clone(),
            approved_by: used.approved_by.clone(),
            authors: used.authors.clone(),
            unknown_author: used.has_unknown_author,
            requester: used.requester.clone(),
            policies: used.policies.clone(),
            waived: used.waived.iter().map(|rule| (*rule).to_owned()).collect(),
            images: used.images.iter().map(ToString::to_string).collect(),
            admitted,
            expires: used.expires,
            review_due: used.review_due,
        }
    }
}

impl WrittenWorkload {
    /// The workload of a request, with its UID.
    pub fn new(workload: &Workload, uid: Option<&String>) -> WrittenWorkload {
        let Workload {
            group,
            version,
            kind,
            namespace,
            name,
        } = workload.clone();
        WrittenWorkload {
            group,
            version,
            kind,
            namespace,
            name,
            uid: uid.cloned(),
        }
    }
}

impl From<WrittenBy> for AdmittedBy {
    fn from(by: WrittenBy) -> AdmittedBy {
        match by {
            WrittenBy::Policy => AdmittedBy::Policy,
            WrittenBy::Waiver => AdmittedBy::Waiver,
            WrittenBy::Audit => AdmittedBy::Audit,
            WrittenBy::Ungoverned => AdmittedBy::Ungoverned,
            WrittenBy::Baseline => AdmittedBy::Baseline,
            WrittenBy::Injected => AdmittedBy::Injected,
        }
    }
}
