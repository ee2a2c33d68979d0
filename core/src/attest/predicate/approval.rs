//! The predicate `https://promotion-gate.dev/approval/v1`: the decision of a person about an image in an environment.
//!
//! It does not say who decided or when: the signer of the statement and the verified time of the signature do. A field that this
//! version does not know could restrict the approval, so it makes the predicate unreadable.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};

use super::strict::{
    self, NAME, is_sound, optional_digest, present_instant, present_object, present_prose,
    present_text, scopes, text, values,
};
use crate::attest::unaccepted::UnacceptedReason;
use crate::gate::Digest;
use crate::strict_json::Fields;

/// The most rules that an approval is given despite of.
const DESPITE: usize = 64;

const FIELDS: Fields = Fields {
    known: &[
        "environment",
        "decision",
        "change",
        "id",
        "url",
        "reason",
        "validUntil",
        "scopes",
        "despite",
        "emergency",
    ],
    free: &["scopes"],
};

/// What a person decided.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Approval {
    /// The environment that the decision is about, such as `production`.
    #[serde(deserialize_with = "text::<_, NAME>")]
    pub environment: String,
    /// The decision.
    pub decision: ApprovalDecision,
    /// The change ticket.
    #[serde(
        default,
        deserialize_with = "present_object",
        skip_serializing_if = "Option::is_none"
    )]
    pub change: Option<ChangeTicket>,
    /// Why, for people.
    #[serde(
        default,
        deserialize_with = "present_prose::<_, 4096>",
        skip_serializing_if = "Option::is_none"
    )]
    pub reason: Option<String>,
    /// An approval does not count after this time. A rejection has no end.
    #[serde(
        default,
        deserialize_with = "present_instant",
        skip_serializing_if = "Option::is_none"
    )]
    pub valid_until: Option<Timestamp>,
    /// Where the decision counts: every scope must hold. Unknown names are kept, because a rule must not ignore them.
    #[serde(
        default,
        deserialize_with = "scopes",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub scopes: BTreeMap<String, String>,
    /// The rules that denied when the approval was given anyway, each as `rule: reason`. For people: no rule reads it.
    #[serde(
        default,
        deserialize_with = "despite",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub despite: Vec<String>,
    /// The digest of the statement that declares an emergency change, if the decision is about that. It is then about nothing
    /// else, and does not count as a decision about the digest.
    #[serde(
        default,
        with = "optional_digest",
        skip_serializing_if = "Option::is_none"
    )]
    pub emergency: Option<Digest>,
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", rename_all = "lowercase")]
pub enum ApprovalDecision {
    /// `approved`
    Approved,
    /// `rejected`
    Rejected,
}

/// A change ticket, at least by its id or its address.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeTicket {
    /// The id, such as `CHG0030192`.
    #[serde(
        default,
        deserialize_with = "present_text::<_, NAME>",
        skip_serializing_if = "Option::is_none"
    )]
    pub id: Option<String>,
    /// The address.
    #[serde(
        default,
        deserialize_with = "present_text::<_, 2048>",
        skip_serializing_if = "Option::is_none"
    )]
    pub url: Option<String>,
}

impl Approval {
    /// The type of the predicate.
    pub const TYPE: &str = "https://promotion-gate.dev/approval/v1";

    /// Reads the predicate from JSON.
    ///
    /// # Errors
    /// `malformed-predicate`, with the field.
    pub fn read(text: &str) -> Result<Approval, UnacceptedReason> {
        strict::read(text, FIELDS)
    }

    pub(super) fn bytes(&self) -> usize {
        strict::weight(self)
    }
}

impl TryFrom<String> for ApprovalDecision {
    type Error = &'static str;

    fn try_from(written: String) -> Result<ApprovalDecision, &'static str> {
        match written.as_str() {
            "approved" => Ok(ApprovalDecision::Approved),
            "rejected" => Ok(ApprovalDecision::Rejected),
            _ => Err("expected `approved` or `rejected`"),
        }
    }
}

fn despite<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let rules = values::<D, String, DESPITE>(from)?;
    match !rules.is_empty() && rules.iter().all(is_sound) {
        true => Ok(rules),
        false => Err(de::Error::custom(format!(
            "expected rules, each with 1 to {NAME} printable bytes"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn full() -> Value {
        json!({
            "environment": "production", "decision": "approved",
            "change": {"id": "CHG0030192", "url": "https://itsm.example.com/CHG0030192"},
            "reason": "looks good\nto me", "validUntil": "2026-12-01T00:00:00Z",
            "scopes": {"cluster": "prod-eu1", "moonPhase": "full"},
            "despite": ["provenance: unsigned"],
            "emergency": Digest::sha256(b"declaration").to_string(),
        })
    }

    fn with(field: &str, value: Value) -> String {
        let mut written = full();
        *written.pointer_mut(field).unwrap() = value;
        written.to_string()
    }

    #[test]
    fn an_approval_is_read_and_written_back_as_it_was() {
        let read = Approval::read(&full().to_string()).unwrap();
        assert_eq!(read.decision, ApprovalDecision::Approved);
        assert_eq!(read.scopes["moonPhase"], "full");
        assert_eq!(serde_json::to_value(&read).unwrap(), full());
        let least = r#"{"environment": "production", "decision": "rejected"}"#;
        let read = Approval::read(least).unwrap();
        assert_eq!(read.decision, ApprovalDecision::Rejected);
        assert!(read.bytes() > least.len());
    }

    #[test]
    fn an_approval_that_says_something_unknown_is_not_read() {
        for text in [
            r#"{"environment": "production", "decision": "approved", "onlyIf": "tested"}"#,
            r#"{"environment": "production", "decision": "approved", "Scopes": {}}"#,
            r#"{"environment": "production", "decision": "approved", "decision": "rejected"}"#,
            r#"{"environment": "production", "decision": {"approved": null}}"#,
            r#"{"environment": "production"}"#,
            r#"{"decision": "approved"}"#,
            r#"["production", "approved"]"#,
            "null",
        ] {
            assert!(Approval::read(text).is_err(), "{text}");
        }
        for (field, value) in [
            ("/decision", json!("Approved")),
            ("/decision", json!("approved-with-comments")),
            ("/environment", json!("")),
            ("/environment", json!("production\n")),
            ("/environment", json!("x".repeat(254))),
            ("/reason", json!("x".repeat(4097))),
            ("/reason", Value::Null),
            ("/validUntil", Value::Null),
            ("/scopes", Value::Null),
            ("/despite", Value::Null),
            ("/despite", json!([])),
            ("/despite", json!(["\u{7}"])),
            ("/despite", json!(vec!["x"; 65])),
            ("/emergency", Value::Null),
            ("/emergency", json!("sha256:00")),
            ("/emergency", json!(["x"])),
            ("/scopes/cluster", json!(["prod-eu1"])),
            ("/scopes/cluster", json!("")),
            ("/change", json!(["CHG0030192", "https://itsm.example.com"])),
            ("/change", json!({"number": "CHG0030192"})),
        ] {
            assert!(
                Approval::read(&with(field, value.clone())).is_err(),
                "{field} {value}"
            );
        }
        for (count, is_read) in [(32, true), (33, false)] {
            let many: BTreeMap<_, _> = (0..count).map(|at| (at.to_string(), "x")).collect();
            let read = Approval::read(&with("/scopes", json!(many)));
            assert_eq!(read.is_ok(), is_read, "{count} scopes");
        }
    }

    #[test]
    fn a_time_is_read_in_the_form_of_rfc_3339_alone() {
        for time in [
            "2026-12-01T00:00:00Z",
            "2026-12-01T00:00:00.5Z",
            "2026-12-01T00:00:00.123456789Z",
            "2026-12-01T01:00:00.5+01:00",
            "2026-12-01T00:00:00-01:00",
            "2026-12-01T01:00:00+01:00",
        ] {
            assert!(
                Approval::read(&with("/validUntil", json!(time))).is_ok(),
                "{time}"
            );
        }
        for time in [
            "2026-12-01",
            "2026-12-01T00:00Z",
            "2026-12-01 00:00:00Z",
            "2026-12-01T00:00:00",
            "2026-12-01T00:00:60Z",
            "2026-12-01T00:00:00.Z",
            "2026-12-01T00:00:00.1234567890Z",
            "2026-12-01T00:00:00+0100",
            "2026-12-01T00:00:00Z[Europe/Paris]",
            "2026-02-30T00:00:00Z",
            "20261201T000000Z",
            "\u{662}026-12-01T00:00:00Z",
        ] {
            assert!(
                Approval::read(&with("/validUntil", json!(time))).is_err(),
                "{time}"
            );
        }
    }
}
