//! In-toto statements, v0.1 and v1 (in-toto attestation framework, `spec/v1/statement.md`).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::unaccepted::{self, UnacceptedReason, strict};
use crate::gate::Digest;
use crate::strict_json::Fields;

/// The payload type of the DSSE envelopes that carry statements.
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// The supported values of `_type`.
const TYPES: [&str; 2] = [
    "https://in-toto.io/Statement/v1",
    "https://in-toto.io/Statement/v0.1",
];
/// The fields of a statement. The values of the free ones have keys that the writer chooses.
const FIELDS: Fields = Fields {
    known: &[
        "_type",
        "subject",
        "predicateType",
        "predicate",
        "digest",
        "annotations",
    ],
    free: &["predicate", "digest", "annotations"],
};
/// The most subjects of a statement.
const MAXIMUM_SUBJECTS: usize = 1024;

/// A statement, with its predicate as it is written.
#[derive(Deserialize)]
pub(super) struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    pub(super) predicate_type: String,
    #[serde(default)]
    pub(super) predicate: Option<Box<RawValue>>,
    /// The SHA-256 digest of the payload.
    #[serde(skip)]
    pub(super) payload: [u8; 32],
}

#[derive(Deserialize)]
struct Subject {
    #[serde(default)]
    digest: BTreeMap<String, String>,
    annotations: Option<BTreeMap<String, Value>>,
}

impl Statement {
    /// Parses the payload of an envelope.
    ///
    /// # Errors
    /// Why the payload is not a supported statement.
    pub(super) fn parse(payload: &[u8]) -> Result<Statement, UnacceptedReason> {
        let text = strict(payload, "the statement", FIELDS)?;
        let mut statement: Statement = serde_json::from_str(text).map_err(|error| {
            let detail = format!("the payload is not an in-toto statement: {error}");
            UnacceptedReason::new(unaccepted::MALFORMED, detail)
        })?;
        if !TYPES.contains(&statement.kind.as_str()) {
            let detail = format!("`{}` is not a supported type of statement", statement.kind);
            return Err(UnacceptedReason::new(
                unaccepted::FORMAT_NOT_SUPPORTED,
                detail,
            ));
        }
        if statement.subject.len() > MAXIMUM_SUBJECTS {
            let detail = format!("the statement has more than {MAXIMUM_SUBJECTS} subjects");
            return Err(UnacceptedReason::new(unaccepted::TOO_LARGE, detail));
        }
        statement.payload = Sha256::digest(payload).into();
        Ok(statement)
    }

    /// The annotations of the subject with this digest.
    ///
    /// # Errors
    /// If the statement does not list the digest as a subject.
    pub(super) fn annotations_of(
        &self,
        digest: &Digest,
    ) -> Result<BTreeMap<String, String>, UnacceptedReason> {
        let names = |subject: &&Subject| {
            let hex = subject.digest.get(digest.algorithm());
            hex.is_some_and(|hex| hex == digest.hex())
        };
        let Some(subject) = self.subject.iter().find(names) else {
            let detail = format!("the statement is not about `{digest}`");
            return Err(UnacceptedReason::new(unaccepted::WRONG_SUBJECT, detail));
        };
        let annotations = subject.annotations.iter().flatten();
        let texts =
            annotations.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
        Ok(texts.collect())
    }
}

/// The payload type, if it is that of a statement. Content of another type could parse as a statement without being one.
pub(super) fn in_toto(payload_type: String) -> Result<String, UnacceptedReason> {
    if payload_type == PAYLOAD_TYPE {
        return Ok(payload_type);
    }
    let detail = format!("the payload type is `{payload_type}`, not `{PAYLOAD_TYPE}`");
    Err(UnacceptedReason::new(
        unaccepted::WRONG_PAYLOAD_TYPE,
        detail,
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn as_many_subjects_as_are_read_and_no_more() {
        let reason = |subjects: usize| {
            let statement = json!({
                "_type": TYPES[0], "predicateType": "x", "subject": vec![json!({}); subjects],
            });
            let read = Statement::parse(statement.to_string().as_bytes());
            read.err().map(|why| why.reason)
        };
        assert_eq!(reason(MAXIMUM_SUBJECTS), None);
        assert_eq!(reason(MAXIMUM_SUBJECTS + 1), Some(unaccepted::TOO_LARGE));
    }
}
