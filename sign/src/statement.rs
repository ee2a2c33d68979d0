//! In-toto statements, and the bytes that an envelope's signature is over.

use promotion_gate_core::attest::UnacceptedReason;
use promotion_gate_core::attest::predicate::{
    Approval, ApprovalDecision, EmergencyChange, EmergencyClosure, EmergencyReview,
    VerificationSummary,
};
use promotion_gate_core::gate::Digest;
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::SignError;

/// The payload type of in-toto statements.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";

/// A statement (in-toto v1) about images, each named by its repository.
pub fn statement(subjects: &[(&str, &Digest)], predicate_type: &str, predicate: &Value) -> Value {
    let about = subjects.iter().map(|(name, subject)| {
        let mut about = json!({"digest": {subject.algorithm(): subject.hex()}});
        if let (Some(about), false) = (about.as_object_mut(), name.is_empty()) {
            about.insert("name".to_owned(), json!(name));
        }
        about
    });
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": about.collect::<Vec<_>>(),
        "predicateType": predicate_type,
        "predicate": predicate,
    })
}

/// What can be signed about images: by a person, or by the gate of a cluster.
#[derive(Clone, Debug, PartialEq)]
pub enum SignedWord {
    /// An approval or a rejection, also of a declared emergency change.
    Approval(Approval),
    /// The declaration of an emergency change.
    EmergencyChange(EmergencyChange),
    /// The early end of an emergency change.
    EmergencyClosure(EmergencyClosure),
    /// The review of an emergency change.
    EmergencyReview(EmergencyReview),
    /// What a gate knows of an image that runs in its cluster.
    VerificationSummary(VerificationSummary),
}

impl SignedWord {
    /// The statement. What it says is what the gate reads: a predicate that the gate could not read is refused.
    ///
    /// # Errors
    /// The field that cannot be said.
    pub fn statement(&self, subjects: &[(&str, &Digest)]) -> Result<Vec<u8>, SignError> {
        let (kind, predicate) = match self {
            SignedWord::Approval(said) => (Approval::TYPE, readable(said, Approval::read)),
            SignedWord::EmergencyChange(said) => {
                (EmergencyChange::TYPE, readable(said, EmergencyChange::read))
            }
            SignedWord::EmergencyClosure(said) => (
                EmergencyClosure::TYPE,
                readable(said, EmergencyClosure::read),
            ),
            SignedWord::EmergencyReview(said) => {
                (EmergencyReview::TYPE, readable(said, EmergencyReview::read))
            }
            SignedWord::VerificationSummary(said) => (
                VerificationSummary::TYPE,
                readable(said, VerificationSummary::read),
            ),
        };
        let predicate = predicate.map_err(|why| {
            let noun = self.noun();
            SignError::Unusable(format!("the {noun} cannot be written: {why}"))
        })?;
        let statement = statement(subjects, kind, &predicate);
        Ok(statement.to_string().into_bytes())
    }

    /// The noun for it, in messages.
    pub fn noun(&self) -> &'static str {
        match self {
            SignedWord::Approval(said) => match (said.decision, &said.emergency) {
                (ApprovalDecision::Rejected, _) => "rejection",
                (ApprovalDecision::Approved, Some(_)) => "agreement",
                (ApprovalDecision::Approved, None) => "approval",
            },
            SignedWord::EmergencyChange(_) => "declaration",
            SignedWord::EmergencyClosure(_) => "closure",
            SignedWord::EmergencyReview(_) => "review",
            SignedWord::VerificationSummary(_) => "verification summary",
        }
    }
}

/// A predicate as JSON, if it is read as what was said.
fn readable<T: Serialize + PartialEq>(
    said: &T,
    read: impl Fn(&str) -> Result<T, UnacceptedReason>,
) -> Result<Value, String> {
    let predicate = serde_json::to_value(said).map_err(|error| error.to_string())?;
    let read = read(&predicate.to_string()).map_err(|why| why.detail)?;
    match read == *said {
        true => Ok(predicate),
        false => Err("it would be read as another one".to_owned()),
    }
}

/// The bytes that the signature of an envelope with a statement is over (DSSE v1).
pub fn pre_authentication_encoding(payload: &[u8]) -> Vec<u8> {
    let header = format!("DSSEv1 {} {IN_TOTO} {} ", IN_TOTO.len(), payload.len());
    [header.as_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn approval(environment: &str) -> Approval {
        Approval {
            environment: environment.to_owned(),
            decision: ApprovalDecision::Approved,
            change: None,
            reason: None,
            valid_until: None,
            scopes: [("cluster".to_owned(), "eu1".to_owned())].into(),
            despite: Vec::new(),
            emergency: None,
        }
    }

    #[test]
    fn an_approval_is_said_as_the_gate_reads_it() {
        let digest = Digest::sha256(b"image");
        let other = Digest::sha256(b"other");
        let said = SignedWord::Approval(approval("production"));
        let subjects = [("example.com/app", &digest), ("", &other)];
        let bytes = said.statement(&subjects).unwrap();
        let said: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(said["subject"][0]["name"], "example.com/app");
        assert_eq!(said["subject"][0]["digest"]["sha256"], digest.hex());
        assert_eq!(said["predicateType"], Approval::TYPE);
        assert_eq!(said["predicate"]["scopes"]["cluster"], "eu1");
        assert_eq!(
            said["subject"][1],
            json!({"digest": {"sha256": other.hex()}})
        );
        let unreadable = SignedWord::Approval(approval("pro\nduction"));
        let refused = unreadable.statement(&subjects).unwrap_err();
        assert!(refused.to_string().contains("environment"), "{refused}");
    }
}
