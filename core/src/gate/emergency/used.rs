//! What is recorded and told of an emergency change that let a change pass.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::gate::evidence::Subject;
use crate::gate::image::Digest;

/// An emergency change that waived requirements, so that a change was allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmergencyUse {
    /// The digest of the statement that declares it.
    pub declaration: Digest,
    /// The environment.
    pub environment: String,
    /// The id of the incident.
    pub incident: String,
    /// The address of the incident, as the declaration or the tracker gives it.
    pub incident_url: Option<String>,
    /// What is known of the incident.
    pub incident_state: IncidentState,
    /// Why this image mends the incident, as the declaration says.
    pub reason: String,
    /// The people who signed the declaration, by name in the people directory.
    pub declared_by: BTreeSet<String>,
    /// The other people who agreed.
    pub approved_by: BTreeSet<String>,
    /// The authors of the change, as far as they are known.
    pub authors: BTreeSet<String>,
    /// Whether there may be further authors.
    pub has_unknown_author: bool,
    /// The Kubernetes user who asked for the change, where that is known.
    pub requester: Option<String>,
    /// From when on it does not count any more.
    pub expires: Timestamp,
    /// When its review is due.
    pub review_due: Timestamp,
    /// The policies that it let the change pass.
    pub policies: BTreeSet<String>,
    /// The rules that were waived.
    pub waived: BTreeSet<&'static str>,
    /// The images that needed it.
    pub images: BTreeSet<Subject>,
}

/// What is known of the incident that an emergency change names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IncidentState {
    /// The tracker said that it is open, and that it fits what the policy asks.
    Verified,
    /// No tracker confirmed it, and why.
    Unverified(String),
}

impl IncidentState {
    /// `verified` or `unverified`.
    pub fn id(&self) -> &'static str {
        match self {
            IncidentState::Verified => "verified",
            IncidentState::Unverified(_) => "unverified",
        }
    }
}
