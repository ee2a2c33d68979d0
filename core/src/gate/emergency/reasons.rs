//! Why a declared emergency change does not let a change pass, and the manual page of the section `emergency`.

use schemars::schema_for;

use super::policy::EmergencyPolicy;
use crate::gate::rules::RuleManual;
use crate::reason::reasons;

reasons! {
    /// The reasons why a declared emergency change does not let a change pass. What is waived keeps the reason of its rule.
    OF_EMERGENCIES:
    EMERGENCY_NOT_ACCEPTED = "emergency-not-accepted",
        "A declaration of an emergency change does not count: it is not signed by a person of the directory with a verified time, or it would count for too long.",
        "The detail says what is wrong with it. Declare the emergency change again, as a person of the people directory, for at most the policy's `maximumValidity`.";
    EMERGENCY_ELSEWHERE = "emergency-elsewhere",
        "The emergency change was declared for another environment, cluster or namespace, or not for every image of the workload that needs it.",
        "Declare one emergency change for this environment and for every image that the detail names.";
    EMERGENCY_NOT_AGREED = "emergency-not-agreed",
        "Not enough people whose agreement counts have agreed to the emergency change.",
        "Ask the people that the detail names to agree to exactly this declaration. The detail says whose agreement does not count and why.";
    EMERGENCY_REJECTED = "emergency-rejected",
        "A person who may agree to the emergency change has rejected it, or the digest.",
        "Talk to that person. The emergency change stays blocked until that person agrees to it, with a certificate.";
    EMERGENCY_EXPIRED = "emergency-expired",
        "The emergency change has expired.",
        "If the incident still lasts, declare it again; the people have to agree to the new declaration.";
    EMERGENCY_CLOSED = "emergency-closed",
        "The emergency change was ended early.",
        "If the incident still lasts, declare it again; the people have to agree to the new declaration.";
    EMERGENCY_NOT_WAIVED = "emergency-does-not-waive",
        "A requirement is not met that no emergency change passes under this policy: it is not in `waives`, a freeze does not let emergency changes pass, or a person rejected the digest.",
        "Meet that requirement. Nothing is waived as long as one remains that cannot be.";
    EMERGENCY_INCIDENT = "emergency-incident",
        "The incident that the emergency change names is not open, or is not what the policy asks for.",
        "The detail says what the tracker answered. Name the right incident in a new declaration.";
    EMERGENCY_INCIDENT_UNKNOWN = "emergency-incident-unknown",
        "Whether the incident that the emergency change names is open is not known.",
        "The detail says what was asked and what went wrong. Try again; `whenUnreachable: Allow` in the policy accepts the risk instead.";
    EMERGENCY_REVIEW_OVERDUE = "emergency-review-overdue",
        "An earlier emergency change of the environment was not reviewed in time, and the policy blocks the next one until it is.",
        "Let somebody review the emergency change that the detail names who neither declared it, agreed to it, wrote the change nor asked for it.";
    EMERGENCY_UNDECIDED = "emergency-undecided",
        "Whether the emergency change counts is not known.",
        "The detail says what could not be read. Try again when the problem is solved.";
}

/// The manual page of the section `emergency` of a policy, and the reasons why an emergency change does not count.
pub fn emergency_manual() -> RuleManual {
    let schema = schema_for!(EmergencyPolicy);
    let page = schema.get("description").and_then(|page| page.as_str());
    RuleManual {
        rule: "emergency",
        page: page.unwrap_or_default().to_owned(),
        reasons: OF_EMERGENCIES.to_vec(),
    }
}
