//! Approvals and rejections: `https://promotion-gate.dev/approval/v1`.
//!
//! Who approved and when is not read from here: the verified signer and the verified times say that. An unknown field is an
//! error, because a field of a later version could restrict what was approved.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use super::texts::{self, bounded};
use crate::attest::unaccepted::UnacceptedReason;

/// The most scopes of an approval.
const MAXIMUM_SCOPES: usize = 16;

/// The word of one person about one digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// The environment that the word is about, such as `production`.
    pub environment: String,
    /// Yes or no.
    pub decision: ApprovalDecision,
    /// The change (ticket) that the word belongs to.
    pub change: Option<NamedChange>,
    /// Why, in the person's words.
    pub reason: Option<String>,
    /// When an approval ends.
    pub valid_until: Option<Timestamp>,
    /// What the word is limited to, such as `cluster`. All of them must hold. A name can be unknown to this version.
    pub scopes: BTreeMap<String, String>,
}

/// What a person decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ApprovalDecision {
    /// The digest may run.
    Approved,
    /// The digest must not run.
    Rejected,
}

/// A change (ticket) that a statement names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedChange {
    /// The id, such as `CHG0030192`.
    pub id: String,
    /// Where it can be read.
    pub url: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ApprovalFields {
    environment: String,
    decision: ApprovalDecision,
    change: Option<NamedChange>,
    reason: Option<String>,
    valid_until: Option<String>,
    #[serde(default)]
    scopes: BTreeMap<String, String>,
}

impl Approval {
    pub(super) fn read(text: &str) -> Result<Approval, UnacceptedReason> {
        let fields: ApprovalFields = texts::read(text, "an approval")?;
        Approval::of(fields).map_err(|why| texts::malformed("an approval", why))
    }

    fn of(fields: ApprovalFields) -> Result<Approval, String> {
        let ApprovalFields {
            environment,
            decision,
            change,
            reason,
            valid_until,
            scopes,
        } = fields;
        bounded("environment", &environment)?;
        if let Some(change) = &change {
            bounded("change.id", &change.id)?;
            change
                .url
                .iter()
                .try_for_each(|url| bounded("change.url", url))?;
        }
        reason
            .iter()
            .try_for_each(|reason| bounded("reason", reason))?;
        let valid_until = valid_until
            .map(|until| {
                let why = |_| {
                    format!("`validUntil` is not a time such as `2026-12-01T00:00:00Z`: `{until}`")
                };
                until.parse().map_err(why)
            })
            .transpose()?;
        if scopes.len() > MAXIMUM_SCOPES {
            return Err(format!("`scopes` has more than {MAXIMUM_SCOPES} entries"));
        }
        for (name, value) in &scopes {
            bounded("scopes", name)?;
            bounded("scopes", value)?;
        }
        Ok(Approval {
            environment,
            decision,
            change,
            reason,
            valid_until,
            scopes,
        })
    }

    pub(super) fn bytes(&self) -> usize {
        let change = self.change.iter();
        let change = change.map(|it| it.id.len() + it.url.as_ref().map_or(0, String::len));
        let reason = self.reason.as_ref().map_or(0, String::len);
        let texts = self.environment.len() + reason + change.sum::<usize>();
        size_of_val(self) + texts + crate::attest::verified::bytes_of(&self.scopes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Approval, String> {
        Approval::read(text).map_err(|why| why.detail)
    }

    #[test]
    fn an_approval_is_read_with_all_of_its_fields() {
        let approval = read(
            r#"{"environment": "production", "decision": "approved",
                "change": {"id": "CHG0030192", "url": "https://itsm.example/CHG0030192"}, "reason": "reviewed",
                "validUntil": "2026-12-01T00:00:00Z", "scopes": {"cluster": "prod-eu1", "namespace": "payments"}}"#,
        )
        .unwrap();
        assert_eq!(approval.decision, ApprovalDecision::Approved);
        assert_eq!(approval.change.unwrap().id, "CHG0030192");
        assert_eq!(
            approval.valid_until.unwrap().to_string(),
            "2026-12-01T00:00:00Z"
        );
        assert_eq!(approval.scopes["cluster"], "prod-eu1");
        let least = read(r#"{"environment": "production", "decision": "rejected"}"#).unwrap();
        assert_eq!(least.decision, ApprovalDecision::Rejected);
    }

    #[test]
    fn what_could_be_read_otherwise_is_refused() {
        for (text, says) in [
            ("null", "an approval"),
            ("{}", "environment"),
            (r#"{"environment": "production"}"#, "decision"),
            (
                r#"{"environment": "", "decision": "approved"}"#,
                "`environment` is empty",
            ),
            (
                r#"{"environment": "production", "decision": "Approved"}"#,
                "unknown variant",
            ),
            (
                r#"{"environment": "production", "decision": "approved", "until": 1}"#,
                "unknown field",
            ),
            (
                r#"{"environment": "production", "decision": "approved", "validUntil": "2026-12-01"}"#,
                "validUntil",
            ),
            (
                r#"{"environment": "production", "decision": "approved", "scopes": {"cluster": ""}}"#,
                "`scopes` is empty",
            ),
            (
                r#"{"environment": "production", "decision": "approved", "scopes": {"cluster": 7}}"#,
                "invalid type",
            ),
            (
                r#"{"environment": "production", "decision": "approved", "decision": "rejected"}"#,
                "duplicate",
            ),
        ] {
            let why = read(text).unwrap_err();
            assert!(why.contains(says), "{text}: {why}");
        }
        let long = format!(
            r#"{{"environment": "{}", "decision": "approved"}}"#,
            "e".repeat(5000)
        );
        assert!(read(&long).unwrap_err().contains("longer than"));
        let many: BTreeMap<String, String> =
            (0..17).map(|at| (at.to_string(), "x".to_owned())).collect();
        let many = serde_json::json!({"environment": "e", "decision": "approved", "scopes": many});
        assert!(
            read(&many.to_string())
                .unwrap_err()
                .contains("more than 16")
        );
    }
}
