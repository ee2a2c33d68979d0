//! In-toto statements, v0.1 and v1 (in-toto attestation framework, `spec/v1/statement.md`).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{Error as _, MapAccess};
use serde_json::Value;
use serde_json::value::RawValue;

use super::predicate::fields::{Known, ReadFields};
use super::predicate::{Predicate, could_hurt, is_read_by_known_fields};
use super::unaccepted::{self, UnacceptedReason, bounded, strict, text};
use crate::gate::Digest;
use crate::strict_json::Fields;

/// The payload type of the DSSE envelopes that carry statements.
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// The supported values of `_type`.
const TYPES: [&str; 2] = [
    "https://in-toto.io/Statement/v1",
    "https://in-toto.io/Statement/v0.1",
];
/// The fields of a subject. The values of the free ones have keys that the writer chooses.
const SUBJECT_FIELDS: Fields = Fields {
    known: &["digest", "annotations"],
    free: &["digest", "annotations"],
};
/// The most subjects of a statement, and the most bytes of all of them.
const MAXIMUM_SUBJECTS: (usize, usize) = (1024, 1 << 20);

/// A statement.
pub(super) struct Statement {
    subject: Vec<Subject>,
    pub(super) predicate_type: String,
    predicate: Content,
    /// The digest of the payload.
    pub(super) digest: Digest,
}

/// The predicate of a statement.
enum Content {
    /// As it is written.
    Written(Option<Box<RawValue>>),
    /// Read together with the statement.
    Read(Predicate),
}

impl Default for Content {
    fn default() -> Content {
        Content::Written(None)
    }
}

/// The fields of a statement. With `AT_ONCE`, a predicate that can be large is read in the same pass, where its type is before it.
#[derive(Default)]
struct Written<const AT_ONCE: bool> {
    kind: Option<String>,
    subject: Option<Box<RawValue>>,
    predicate_type: Option<String>,
    predicate: Content,
}

impl<'de, const AT_ONCE: bool> ReadFields<'de> for Written<AT_ONCE> {
    const NAMES: &'static [&'static str] = &["_type", "subject", "predicateType", "predicate"];

    fn read<A: MapAccess<'de>>(&mut self, place: usize, entries: &mut A) -> Result<(), A::Error> {
        match place {
            0 => self.kind = Some(entries.next_value()?),
            1 => self.subject = Some(entries.next_value()?),
            2 => self.predicate_type = Some(entries.next_value()?),
            _ => {
                let kind = self.predicate_type.as_deref().filter(|_| AT_ONCE);
                let read = match kind {
                    Some(kind) => Predicate::next(kind, entries)?,
                    None => None,
                };
                self.predicate = match read {
                    Some(read) => Content::Read(read),
                    None => Content::Written(entries.next_value()?),
                };
            }
        }
        Ok(())
    }
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
        let text = text(payload, "the statement")?;
        if let Ok(Known(written)) = serde_json::from_str(text) {
            return Written::<true>::check(written, payload);
        }
        // The reader of the predicate says which field is wrong, so it gets the text.
        let Known(written) = serde_json::from_str(text).map_err(malformed)?;
        Written::<false>::check(written, payload)
    }

    /// The predicate.
    ///
    /// # Errors
    /// Why it is not what its type says.
    pub(super) fn into_predicate(self) -> Result<Predicate, UnacceptedReason> {
        match self.predicate {
            Content::Read(predicate) => Ok(predicate),
            Content::Written(text) => Predicate::read(&self.predicate_type, text.as_deref()),
        }
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

impl<const AT_ONCE: bool> Written<AT_ONCE> {
    fn check(self, payload: &[u8]) -> Result<Statement, UnacceptedReason> {
        let missing =
            |name: &'static str| move || malformed(serde_json::Error::missing_field(name));
        let kind = self.kind.ok_or_else(missing("_type"))?;
        let subject = self.subject.ok_or_else(missing("subject"))?;
        let predicate_type = self.predicate_type.ok_or_else(missing("predicateType"))?;
        if !TYPES.contains(&kind.as_str()) {
            let detail = format!("`{kind}` is not a supported type of statement");
            return Err(UnacceptedReason::new(
                unaccepted::FORMAT_NOT_SUPPORTED,
                detail,
            ));
        }
        let (most, bytes) = MAXIMUM_SUBJECTS;
        bounded("bytes of subjects", subject.get().len(), bytes)?;
        let subject = strict(subject.get().as_bytes(), "the statement", SUBJECT_FIELDS)?;
        let subject: Vec<Subject> = serde_json::from_str(subject).map_err(malformed)?;
        bounded("subjects", subject.len(), most)?;
        let mut predicate = self.predicate;
        if let Content::Written(Some(written)) = &predicate
            && !is_read_by_known_fields(&predicate_type)
        {
            // A rule can use any of its fields.
            let written = written.get().as_bytes();
            match strict(written, "the statement", Fields::default()) {
                Ok(_) => {}
                // A rejection with a key that appears twice was still signed.
                Err(why) if could_hurt(&predicate_type) => {
                    predicate = Content::Read(Predicate::Unreadable(why));
                }
                Err(why) => return Err(why),
            }
        }
        Ok(Statement {
            subject,
            predicate_type,
            predicate,
            digest: Digest::sha256(payload),
        })
    }
}

fn malformed(error: serde_json::Error) -> UnacceptedReason {
    let detail = format!("the payload is not an in-toto statement: {error}");
    UnacceptedReason::new(unaccepted::MALFORMED, detail)
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
    fn what_could_deny_something_is_kept_although_readers_read_it_differently() {
        let refused = |kind: &str| {
            let predicate = r#"{"decision": "rejected", "decision": "approved"}"#;
            let text = format!(
                r#"{{"_type": "{}", "subject": [], "predicateType": "{kind}", "predicate": {predicate}}}"#,
                TYPES[0]
            );
            let read = Statement::parse(text.as_bytes());
            let read = read.and_then(Statement::into_predicate);
            read.map(|predicate| match predicate {
                Predicate::Unreadable(why) => Some(why.reason),
                _ => None,
            })
            .map_err(|why| why.reason)
        };
        for kind in [
            "https://promotion-gate.dev/approval/v1",
            "https://promotion-gate.dev/change/v1",
            "https://promotion-gate.dev/emergency-closure/v1",
        ] {
            assert_eq!(refused(kind), Ok(Some(unaccepted::MALFORMED)), "{kind}");
        }
        for kind in ["https://slsa.dev/provenance/v1", "https://example.com/v1"] {
            assert_eq!(refused(kind), Err(unaccepted::MALFORMED), "{kind}");
        }
    }

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

    const SCAN: &str = "https://in-toto.io/attestation/vulns/v0.2";
    const REPORT: &str = r#"{"scanner":{"uri":"x","result":[{"id":"CVE-1","severity":[{"method":"nvd","score":"high"}]}]},"metadata":{"scanFinishedOn":"2026-11-28T10:00:00Z"}}"#;

    /// A statement with these fields in this order.
    fn written(fields: &[(&str, &str)]) -> String {
        let fields = fields.iter();
        let fields: Vec<_> = fields
            .map(|(name, value)| format!("\"{name}\":{value}"))
            .collect();
        format!("{{{}}}", fields.join(","))
    }

    /// How the predicate of a statement is read: `scan`, `other`, or the reason why it is not.
    fn read(text: &str) -> &'static str {
        let statement = Statement::parse(text.as_bytes());
        match statement.and_then(Statement::into_predicate) {
            Ok(Predicate::Scan(scan)) if scan.findings.len() == 1 => "scan",
            Ok(Predicate::Unreadable(why)) => why.reason.id,
            Ok(_) => "other",
            Err(why) => why.reason.id,
        }
    }

    #[test]
    fn a_report_is_read_alike_whether_its_type_is_before_or_after_it() {
        let kind = format!("\"{}\"", TYPES[0]);
        let (scan, other) = (format!("\"{SCAN}\""), "\"https://example.com/v1\"");
        let kind = ("_type", kind.as_str());
        let subject = ("subject", "[]");
        for (predicate, of_scan, of_other) in [
            (REPORT.to_owned(), "scan", "other"),
            // A key that no rule reads.
            (
                REPORT.replace("\"uri\":\"x\"", "\"uri\":\"x\",\"version\":1,\"version\":2"),
                "scan",
                "malformed",
            ),
            (
                REPORT.replace("\"id\":\"CVE-1\"", "\"id\":\"CVE-1\",\"id\":\"CVE-2\""),
                "malformed-predicate",
                "malformed",
            ),
            (
                REPORT.replace("\"severity\":", "\"Severity\":[],\"severity\":"),
                "malformed-predicate",
                "other",
            ),
            ("[]".to_owned(), "malformed-predicate", "other"),
            ("null".to_owned(), "malformed-predicate", "other"),
            (format!("{REPORT}]"), "malformed", "malformed"),
            (
                REPORT.replace("\"x\"", "\"\\ud800\""),
                "malformed-predicate",
                "malformed",
            ),
        ] {
            let predicate = ("predicate", predicate.as_str());
            for (kind_of, expected) in [(scan.as_str(), of_scan), (other, of_other)] {
                let kind_of = ("predicateType", kind_of);
                for fields in [
                    [kind, subject, kind_of, predicate],
                    [kind, predicate, kind_of, subject],
                ] {
                    let text = written(&fields);
                    assert_eq!(read(&text), expected, "{text}");
                }
            }
        }
    }

    #[test]
    fn a_field_of_the_statement_that_readers_read_differently_is_refused() {
        let kind = format!("\"{}\"", TYPES[0]);
        let scan = format!("\"{SCAN}\"");
        let fields = [
            ("_type", kind.as_str()),
            ("subject", "[]"),
            ("predicateType", scan.as_str()),
            ("predicate", REPORT),
        ];
        assert_eq!(read(&written(&fields)), "scan");
        assert_eq!(read(&format!("{} x", written(&fields))), "malformed");
        for (at, (name, value)) in fields.into_iter().enumerate() {
            let mut without = fields.to_vec();
            without.remove(at);
            let expected = match name {
                "predicate" => "malformed-predicate",
                _ => "malformed",
            };
            assert_eq!(read(&written(&without)), expected, "without {name}");
            for (again, other) in [
                (name.to_owned(), value),
                (name.to_owned(), "\"https://example.com/v1\""),
                (name.to_owned(), "null"),
                (name.to_uppercase(), value),
            ] {
                let more = [(again.as_str(), other)];
                for fields in [[&fields[..], &more[..]], [&more[..], &fields[..]]] {
                    let text = written(&fields.concat());
                    assert_eq!(read(&text), "malformed", "{text}");
                }
            }
        }
    }
}
