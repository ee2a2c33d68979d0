//! The state of emergency changes as programs read it: `emergency status --output json`. Within one version, fields are only added.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use promotion_gate_core::gate::{
    Decision, EmergencyStatement, EmergencyWord, ListedDeclaration, Outcome,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::about::{Case, Outlook};

/// The version of the JSON schema.
const VERSION: &str = "promotion-gate.dev/emergency/v1alpha1";

/// The emergency changes of images.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct EmergencyStatus {
    /// `promotion-gate.dev/emergency/v1alpha1`
    version: &'static str,
    environment: String,
    /// The images, each with its digest.
    images: BTreeSet<String>,
    /// `allow`, `deny`, or `undecided` if what denies is not known for certain.
    pub(super) decision: &'static str,
    /// Why no emergency change lets the images pass, whatever is declared.
    denied_for_good: BTreeSet<String>,
    /// One entry for each object under each policy with a section `emergency`.
    policies: Vec<PolicyEmergencies>,
}

/// The emergency changes of one object under one policy.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct PolicyEmergencies {
    policy: String,
    object: String,
    /// Whether the policy denies the object, or would without an emergency change.
    denies: bool,
    /// The rules that an emergency change waives here.
    waives: BTreeSet<&'static str>,
    /// Why no emergency change passes this policy.
    refused: Option<String>,
    /// The people who must agree.
    seats: String,
    /// The authors of the change, each with what the person did.
    authors: BTreeMap<String, String>,
    /// Why there may be further authors.
    unknown_author: Option<String>,
    /// How long a declaration may count.
    maximum_validity: String,
    /// How soon after the deployment the review is due.
    review_within: String,
    declarations: Vec<Declaration>,
}

/// A declared emergency change.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Declaration {
    /// The digest of its statement.
    declaration: String,
    /// The id of the incident.
    incident: String,
    incident_url: Option<String>,
    /// `verified` or `unverified`, once everything else is there.
    incident_state: Option<&'static str>,
    reason: String,
    #[schemars(with = "String")]
    expires: Timestamp,
    scopes: BTreeMap<String, String>,
    /// The images that it is attached to.
    images: BTreeSet<String>,
    /// Whether it lets the object pass this policy now.
    counts: bool,
    /// The stable id of the reason why it does not count, such as `emergency-not-agreed`.
    reason_id: Option<&'static str>,
    /// The reason in words.
    detail: Option<String>,
    /// Why it counts no longer, if it expired or was closed.
    ended: Option<String>,
    /// The open seats; empty if all are filled.
    open_seats: String,
    /// The people who may fill them, at most 20.
    may_agree: Vec<String>,
    /// Everything that was signed about it, oldest first.
    statements: Vec<Statement>,
}

/// A statement about an emergency change.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Statement {
    /// `declared`, `agreed`, `rejected`, `closed` or `reviewed`.
    kind: &'static str,
    /// The person in the people directory.
    person: Option<String>,
    /// The certificate's identity, or the key.
    signer: String,
    /// The latest verified time of the signature.
    #[schemars(with = "Option<String>")]
    at: Option<Timestamp>,
    reason: Option<String>,
    /// The result of a review: `justified`, `unjustified` or `inconclusive`.
    verdict: Option<&'static str>,
    /// What has to be done, by a review.
    follow_ups: Vec<String>,
    counts: bool,
    /// The seat that the person fills.
    seat: Option<String>,
    /// Why it does not count.
    why: Option<String>,
}

impl EmergencyStatus {
    pub(super) fn environment(&self) -> &str {
        &self.environment
    }

    pub(super) fn images(&self) -> &BTreeSet<String> {
        &self.images
    }

    pub(super) fn denied_for_good(&self) -> &BTreeSet<String> {
        &self.denied_for_good
    }

    pub(super) fn of(case: &Case, environment: &str, outlooks: &[Outlook]) -> EmergencyStatus {
        EmergencyStatus {
            version: VERSION,
            environment: environment.to_owned(),
            images: case.judged.subjects().map(ToString::to_string).collect(),
            decision: decision(case),
            denied_for_good: case.denied_for_good(),
            policies: outlooks.iter().map(PolicyEmergencies::of).collect(),
        }
    }
}

/// The decision about everything together.
fn decision(case: &Case) -> &'static str {
    let verdicts = case.judged.reviews.iter().map(|review| &review.verdict);
    let mut denying = verdicts
        .filter(|verdict| verdict.decision() == Decision::Deny)
        .peekable();
    if denying.peek().is_none() {
        return "allow";
    }
    let findings = denying
        .flat_map(|verdict| verdict.denials())
        .flat_map(|it| it.findings());
    let mut denying = findings.filter(|it| it.outcome.denies());
    match denying.all(|it| it.outcome == Outcome::Undecided) {
        true => "undecided",
        false => "deny",
    }
}

impl PolicyEmergencies {
    fn of(it: &Outlook) -> PolicyEmergencies {
        let outlook = &it.outlook;
        PolicyEmergencies {
            policy: outlook.policy.clone(),
            object: it.object.clone(),
            denies: outlook.denies,
            waives: outlook.waives.clone(),
            refused: outlook.refused.clone(),
            seats: outlook.seats.clone(),
            authors: outlook.authors.clone(),
            unknown_author: outlook.unknown_author.clone(),
            maximum_validity: outlook.maximum_validity.to_string(),
            review_within: outlook.review_within.to_string(),
            declarations: outlook.declarations.iter().map(Declaration::of).collect(),
        }
    }
}

impl Declaration {
    fn of(declared: &ListedDeclaration) -> Declaration {
        let said = &declared.said;
        let used = declared.result.as_ref();
        Declaration {
            declaration: declared.declaration.to_string(),
            incident: said.incident.id.clone(),
            incident_url: said.incident.url.clone(),
            incident_state: used.ok().map(|used| used.incident_state.id()),
            reason: said.reason.clone(),
            expires: said.expires,
            scopes: said.scopes.clone(),
            images: declared.images.iter().map(ToString::to_string).collect(),
            counts: used.is_ok(),
            reason_id: used.err().map(|(id, _)| *id),
            detail: used.err().map(|(_, detail)| detail.clone()),
            ended: declared.ended.clone(),
            open_seats: declared.open.open.clone(),
            may_agree: declared.open.may_agree.clone(),
            statements: declared.statements.iter().map(Statement::of).collect(),
        }
    }
}

impl Statement {
    fn of(statement: &EmergencyStatement) -> Statement {
        let (kind, verdict, follow_ups) = match &statement.word {
            EmergencyWord::Declared => ("declared", None, Vec::new()),
            EmergencyWord::Agreed => ("agreed", None, Vec::new()),
            EmergencyWord::Rejected => ("rejected", None, Vec::new()),
            EmergencyWord::Closed => ("closed", None, Vec::new()),
            EmergencyWord::Reviewed(verdict, follow_ups) => {
                ("reviewed", Some(verdict.id()), follow_ups.clone())
            }
        };
        Statement {
            kind,
            person: statement.person.clone(),
            signer: statement.signer.clone(),
            at: statement.at,
            reason: statement.reason.clone(),
            verdict,
            follow_ups,
            counts: statement.counts.is_ok(),
            seat: statement.counts.as_ref().ok().cloned().flatten(),
            why: statement.counts.as_ref().err().cloned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_schema_is_that_of_the_report() {
        crate::cli::render::assert_documented::<EmergencyStatus>("emergency");
    }
}
