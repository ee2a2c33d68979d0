//! What is recorded and told of an emergency change that let a change pass.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::decide::short;
use crate::gate::evidence::Subject;
use crate::gate::image::Digest;
use crate::gate::rules::{listed, minute};

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
    /// The account that opened the incident, if the policy has `openedByOther` and the people directory does not list the account. The
    /// gate cannot tell whether the account belongs to the declarer or to an approver.
    pub unlisted_opener: Option<String>,
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

impl EmergencyUse {
    /// Which one it is, as the end of a sentence.
    pub fn summary(&self) -> String {
        let names = self.declared_by.iter().map(|name| format!("`{name}`"));
        let unverified = match self.incident_state {
            IncidentState::Verified => "",
            IncidentState::Unverified(_) => ", unverified",
        };
        format!(
            "the emergency change `{}` (incident `{}`{unverified}; declared by {})",
            short(&self.declaration),
            self.incident,
            listed(names, 3)
        )
    }

    /// All that people should know of it, as one text.
    pub fn told(&self) -> String {
        let list = |names: &BTreeSet<String>| {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            names.join(", ")
        };
        let mut text = format!(
            "admitted by {}: {}; ",
            self.summary(),
            self.reason.replace(char::is_control, " ")
        );
        if !self.approved_by.is_empty() {
            text.push_str(&format!("agreed: {}; ", list(&self.approved_by)));
        }
        if self.has_unknown_author {
            text.push_str("it is not known who wrote the change; ");
        }
        for caution in self.cautions() {
            text.push_str(&format!("{caution}; "));
        }
        let waived: Vec<_> = self.waived.iter().copied().collect();
        text.push_str(&format!(
            "waived: {}; ends {}; review due {}",
            waived.join(", "),
            minute(self.expires),
            minute(self.review_due)
        ));
        text
    }

    /// What the deployer has to know: that a review is due.
    pub(in crate::gate) fn warning(&self) -> String {
        format!(
            "admitted as an emergency: review due {}; incident {}",
            minute(self.review_due),
            self.incident
        )
    }

    /// Warnings for the deployer about what was not confirmed: an unverified incident, or an incident opened by an unlisted account.
    pub(in crate::gate) fn cautions(&self) -> Vec<String> {
        let incident = &self.incident;
        let unverified = match &self.incident_state {
            IncidentState::Verified => None,
            IncidentState::Unverified(why) => Some(format!(
                "incident {incident} is unverified: {}",
                why.replace(char::is_control, " ")
            )),
        };
        let opened = self.unlisted_opener.as_ref().map(|account| {
            format!(
                "the people directory does not list the account that opened incident {incident}: `{account}`"
            )
        });
        unverified.into_iter().chain(opened).collect()
    }

    /// Adds what another policy says of the same emergency change: what is stricter counts.
    pub(in crate::gate) fn add(&mut self, other: &EmergencyUse) {
        self.policies.extend(other.policies.iter().cloned());
        self.waived.extend(&other.waived);
        self.images.extend(other.images.iter().cloned());
        self.declared_by.extend(other.declared_by.iter().cloned());
        self.approved_by.extend(other.approved_by.iter().cloned());
        self.approved_by.retain(|it| !self.declared_by.contains(it));
        self.authors.extend(other.authors.iter().cloned());
        self.has_unknown_author |= other.has_unknown_author;
        self.expires = self.expires.min(other.expires);
        self.review_due = self.review_due.min(other.review_due);
        if other.incident_state > self.incident_state {
            self.incident_state = other.incident_state.clone();
        }
        if self.incident_url.is_none() {
            self.incident_url.clone_from(&other.incident_url);
        }
        let accounts = self.unlisted_opener.iter().chain(&other.unlisted_opener);
        self.unlisted_opener = accounts.min().cloned();
    }
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
