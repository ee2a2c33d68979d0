//! In-toto statements, v0.1 and v1 (in-toto attestation framework, `spec/v1/statement.md`).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::unaccepted::{self, UnacceptedReason, bounded, strict};
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
/// The most subjects of a statement, and the most bytes of all of them.
const MAXIMUM_SUBJECTS: (usize, usize) = (1024, 1 << 20);

/// A statement, with its predicate as it is written.
pub(super) struct Statement {
    subject: Vec<Subject>,
    pub(super) predicate_type: String,
    pub(super) predicate: Option<Box<RawValue>>,
    /// The SHA-256 digest of the payload.
    pub(super) payload: [u8; 32],
}

#[derive(Deserialize)]
struct Written<'p> {
    #[serde(rename = "_type")]
    kind: String,
    #[serde(borrow)]
    subject: &'p RawValue,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    #[serde(default)]
    predicate: Option<Box<RawValue>>,
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
        let malformed = |error: serde_json::Error| {
            let detail = format!("the payload is not an in-toto statement: {error}");
            UnacceptedReason::new(unaccepted::MALFORMED, detail)
        };
        let written: Written<'_> = serde_json::from_str(text).map_err(malformed)?;
        if !TYPES.contains(&written.kind.as_str()) {
            let detail = format!("`{}` is not a supported type of statement", written.kind);
            return Err(UnacceptedReason::new(
                unaccepted::FORMAT_NOT_SUPPORTED,
                detail,
            ));
        }
        let (most, bytes) = MAXIMUM_SUBJECTS;
        let subject = written.subject.get();
        bounded("bytes of subjects", subject.len(), bytes)?;
        let subject: Vec<Subject> = serde_json::from_str(subject).map_err(malformed)?;
        bounded("subjects", subject.len(), most)?;
        Ok(Statement {
            subject,
            predicate_type: written.predicate_type,
            predicate: written.predicate,
            payload: Sha256::digest(payload).into(),
        })
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
        let (most, bytes) = MAXIMUM_SUBJECTS;
        assert_eq!(reason(most), None);
        assert_eq!(reason(most + 1), Some(unaccepted::TOO_LARGE));
        let statement = json!({
            "_type": TYPES[0], "predicateType": "x", "subject": [{"name": "x".repeat(bytes)}],
        });
        let read = Statement::parse(statement.to_string().as_bytes());
        assert_eq!(
            read.err().map(|why| why.reason),
            Some(unaccepted::TOO_LARGE)
        );
    }
}
