//! The predicates of emergency changes: their declaration (`https://promotion-gate.dev/emergency-change/v1`), their early end
//! (`emergency-closure/v1`) and their later review (`emergency-review/v1`).
//!
//! None of them says who signed or when: the signer of the statement and the verified time of the signature do. People agree to a
//! declaration with an `approval/v1` statement that names the digest of the declaration's statement.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};

use super::strict::{
    self, NAME, instant, object, present_prose, present_text, prose, scopes, text, values,
};
use crate::attest::unaccepted::UnacceptedReason;
use crate::gate::Digest;
use crate::strict_json::Fields;

/// The most bytes of a reason.
const REASON: usize = 4096;
/// The most bytes of an address or a follow-up.
const LINE: usize = 2048;
/// The most follow-ups of a review.
const FOLLOW_UPS: usize = 32;

/// The declaration of an emergency change: this image mends this incident.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EmergencyChange {
    /// The environment in which the image is to run, such as `production`.
    #[serde(deserialize_with = "text::<_, NAME>")]
    pub environment: String,
    /// The incident.
    #[serde(deserialize_with = "object")]
    pub incident: IncidentReference,
    /// Why exactly this image mends the incident.
    #[serde(deserialize_with = "prose::<_, REASON>")]
    pub reason: String,
    /// The emergency change does not count from this time on.
    #[serde(deserialize_with = "instant")]
    pub expires: Timestamp,
    /// Where it counts: every scope must hold. Unknown names are kept, because a rule must not ignore them.
    #[serde(
        default,
        deserialize_with = "scopes",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub scopes: BTreeMap<String, String>,
}

/// An incident, as its tracker names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IncidentReference {
    /// The id, such as `INC0010023`.
    #[serde(deserialize_with = "text::<_, NAME>")]
    pub id: String,
    /// The address.
    #[serde(
        default,
        deserialize_with = "present_text::<_, LINE>",
        skip_serializing_if = "Option::is_none"
    )]
    pub url: Option<String>,
}

/// The early end of an emergency change.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EmergencyClosure {
    /// The digest of the statement that declares the emergency change.
    #[serde(with = "strict::digest")]
    pub emergency: Digest,
    /// Why, for people.
    #[serde(
        default,
        deserialize_with = "present_prose::<_, REASON>",
        skip_serializing_if = "Option::is_none"
    )]
    pub reason: Option<String>,
}

/// The review of an emergency change after it was used.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EmergencyReview {
    /// The digest of the statement that declares the emergency change.
    #[serde(with = "strict::digest")]
    pub emergency: Digest,
    /// The result.
    pub verdict: ReviewVerdict,
    /// Why.
    #[serde(deserialize_with = "prose::<_, REASON>")]
    pub reason: String,
    /// What has to be done now, one line each.
    #[serde(
        default,
        deserialize_with = "follow_ups",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub follow_ups: Vec<String>,
}

/// The result of a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", rename_all = "lowercase")]
pub enum ReviewVerdict {
    /// `justified`
    Justified,
    /// `unjustified`
    Unjustified,
    /// `inconclusive`
    Inconclusive,
}

impl EmergencyChange {
    /// The type of the predicate.
    pub const TYPE: &str = "https://promotion-gate.dev/emergency-change/v1";

    /// Reads the predicate from JSON.
    ///
    /// # Errors
    /// `malformed-predicate`, with the field.
    pub fn read(written: &str) -> Result<EmergencyChange, UnacceptedReason> {
        const FIELDS: Fields = Fields {
            known: &[
                "environment",
                "incident",
                "id",
                "url",
                "reason",
                "expires",
                "scopes",
            ],
            free: &["scopes"],
        };
        strict::read(written, FIELDS)
    }

    pub(super) fn bytes(&self) -> usize {
        strict::weight(self)
    }
}

impl EmergencyClosure {
    /// The type of the predicate.
    pub const TYPE: &str = "https://promotion-gate.dev/emergency-closure/v1";

    /// Reads the predicate from JSON.
    ///
    /// # Errors
    /// `malformed-predicate`, with the field.
    pub fn read(written: &str) -> Result<EmergencyClosure, UnacceptedReason> {
        const FIELDS: Fields = Fields {
            known: &["emergency", "reason"],
            free: &[],
        };
        strict::read(written, FIELDS)
    }

    pub(super) fn bytes(&self) -> usize {
        strict::weight(self)
    }
}

impl EmergencyReview {
    /// The type of the predicate.
    pub const TYPE: &str = "https://promotion-gate.dev/emergency-review/v1";

    /// Reads the predicate from JSON.
    ///
    /// # Errors
    /// `malformed-predicate`, with the field.
    pub fn read(written: &str) -> Result<EmergencyReview, UnacceptedReason> {
        const FIELDS: Fields = Fields {
            known: &["emergency", "verdict", "reason", "followUps"],
            free: &[],
        };
        strict::read(written, FIELDS)
    }

    pub(super) fn bytes(&self) -> usize {
        strict::weight(self)
    }
}

impl ReviewVerdict {
    /// `justified`, `unjustified` or `inconclusive`.
    pub fn id(self) -> &'static str {
        match self {
            ReviewVerdict::Justified => "justified",
            ReviewVerdict::Unjustified => "unjustified",
            ReviewVerdict::Inconclusive => "inconclusive",
        }
    }
}

impl TryFrom<String> for ReviewVerdict {
    type Error = &'static str;

    fn try_from(written: String) -> Result<ReviewVerdict, &'static str> {
        let all = [
            ReviewVerdict::Justified,
            ReviewVerdict::Unjustified,
            ReviewVerdict::Inconclusive,
        ];
        let found = all.into_iter().find(|verdict| verdict.id() == written);
        found.ok_or("expected `justified`, `unjustified` or `inconclusive`")
    }
}

fn follow_ups<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let lines = values::<D, String, FOLLOW_UPS>(from)?;
    let is_sound = |line: &String| {
        (1..=LINE).contains(&line.len()) && !line.contains(char::is_control) && line.trim() == line
    };
    match !lines.is_empty() && lines.iter().all(is_sound) {
        true => Ok(lines),
        false => Err(de::Error::custom(format!(
            "expected lines of 1 to {LINE} printable bytes"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn declaration() -> Value {
        json!({
            "environment": "production",
            "incident": {"id": "INC0010023", "url": "https://itsm.example.com/INC0010023"},
            "reason": "reverts the query that locks the orders table\nsee the incident",
            "expires": "2026-11-29T07:00:00Z",
            "scopes": {"cluster": "prod-eu1", "moonPhase": "full"},
        })
    }

    fn review() -> Value {
        json!({
            "emergency": Digest::sha256(b"declaration").to_string(),
            "verdict": "justified",
            "reason": "the table was locked, and the revert freed it",
            "followUps": ["add a test for the lock"],
        })
    }

    fn closure() -> Value {
        json!({"emergency": Digest::sha256(b"declaration").to_string(), "reason": "mended"})
    }

    #[test]
    fn the_predicates_are_read_and_written_back_as_they_were() {
        let read = EmergencyChange::read(&declaration().to_string()).unwrap();
        assert_eq!(read.scopes["moonPhase"], "full");
        assert_eq!(serde_json::to_value(&read).unwrap(), declaration());
        let read = EmergencyReview::read(&review().to_string()).unwrap();
        assert_eq!(read.verdict, ReviewVerdict::Justified);
        assert_eq!(serde_json::to_value(&read).unwrap(), review());
        let read = EmergencyClosure::read(&closure().to_string()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), closure());
        let least = json!({"emergency": Digest::sha256(b"x").to_string()}).to_string();
        assert!(EmergencyClosure::read(&least).is_ok());
    }

    #[test]
    fn a_predicate_with_a_field_that_is_missing_unknown_or_out_of_bounds_is_not_read() {
        type Read = fn(&str) -> bool;
        let kinds: [(Value, Read); 3] = [
            (declaration(), |it| EmergencyChange::read(it).is_ok()),
            (review(), |it| EmergencyReview::read(it).is_ok()),
            (closure(), |it| EmergencyClosure::read(it).is_ok()),
        ];
        for (full, is_read) in &kinds {
            assert!(is_read(&full.to_string()));
            let with = |field: &str, value: Value| {
                let mut written = full.clone();
                written[field] = value;
                written.to_string()
            };
            assert!(!is_read(&with("onlyIf", json!("tested"))));
            assert!(!is_read(&with("Reason", json!("x"))));
            for field in full.as_object().unwrap().keys() {
                for wrong in [json!(null), json!(""), json!([]), json!(7), json!("x\u{7}")] {
                    // A reason may have several lines; the others may not.
                    if !(field == "reason" && wrong == json!("x\u{7}")) {
                        assert!(!is_read(&with(field, wrong.clone())), "{field} {wrong}");
                    }
                }
                let mut without = full.clone();
                without.as_object_mut().unwrap().remove(field);
                let is_optional = field == "scopes"
                    || field == "followUps"
                    || field == "reason"
                        && without.get("verdict").is_none()
                        && without.get("incident").is_none();
                assert_eq!(is_read(&without.to_string()), is_optional, "{field}");
            }
            assert!(!is_read(&with("reason", json!("x".repeat(REASON + 1)))));
        }
    }

    #[test]
    fn an_incident_a_verdict_and_a_digest_are_read_in_their_form_alone() {
        for (pointer, value) in [
            ("/incident", json!(["INC1"])),
            ("/incident", json!({"url": "https://itsm.example.com"})),
            ("/incident", json!({"id": "INC1", "state": "open"})),
            ("/incident/id", json!("INC1\n")),
            ("/incident/id", json!("x".repeat(NAME + 1))),
            ("/incident/url", json!("x".repeat(LINE + 1))),
            ("/expires", json!("2026-11-29")),
            ("/scopes", json!({"cluster": ""})),
        ] {
            let mut written = declaration();
            *written.pointer_mut(pointer).unwrap() = value.clone();
            let read = EmergencyChange::read(&written.to_string());
            assert!(read.is_err(), "{pointer} {value}");
        }
        for (field, value) in [
            ("verdict", json!("Justified")),
            ("emergency", json!(format!("sha512:{}", "0".repeat(128)))),
            ("emergency", json!("0".repeat(64))),
            ("followUps", json!(vec!["x"; FOLLOW_UPS + 1])),
            ("followUps", json!(["x\ny"])),
        ] {
            let mut written = review();
            written[field] = value.clone();
            let read = EmergencyReview::read(&written.to_string());
            assert!(read.is_err(), "{field} {value}");
        }
    }
}
