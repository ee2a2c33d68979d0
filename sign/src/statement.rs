//! In-toto statements, and the bytes that an envelope's signature is over.

use promotion_gate_core::attest::predicate::Approval;
use promotion_gate_core::gate::Digest;
use serde_json::{Value, json};

use crate::error::SignError;

/// The payload type of in-toto statements.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";

/// A statement (in-toto v1) about an image, named by its repository.
pub fn statement(name: &str, subject: &Digest, predicate_type: &str, predicate: &Value) -> Value {
    let mut about = json!({"digest": {subject.algorithm(): subject.hex()}});
    if let (Some(about), false) = (about.as_object_mut(), name.is_empty()) {
        about.insert("name".to_owned(), json!(name));
    }
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [about],
        "predicateType": predicate_type,
        "predicate": predicate,
    })
}

/// The statement of an approval. What it says is what the gate reads: a predicate that the gate could not read is refused.
///
/// # Errors
/// The field that cannot be said.
pub fn approval_statement(
    name: &str,
    subject: &Digest,
    approval: &Approval,
) -> Result<Vec<u8>, SignError> {
    let refused =
        |why: String| SignError::Unusable(format!("the approval cannot be written: {why}"));
    let predicate = serde_json::to_value(approval).map_err(|error| refused(error.to_string()))?;
    let read = Approval::read(&predicate.to_string()).map_err(|why| refused(why.detail))?;
    match read == *approval {
        true => Ok(statement(name, subject, Approval::TYPE, &predicate)
            .to_string()
            .into_bytes()),
        false => Err(refused("it would be read as another one".to_owned())),
    }
}

/// The bytes that the signature of an envelope with a statement is over (DSSE v1).
pub fn pre_authentication_encoding(payload: &[u8]) -> Vec<u8> {
    let header = format!("DSSEv1 {} {IN_TOTO} {} ", IN_TOTO.len(), payload.len());
    [header.as_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use promotion_gate_core::attest::predicate::ApprovalDecision;

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
        let bytes =
            approval_statement("example.com/app", &digest, &approval("production")).unwrap();
        let said: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(said["subject"][0]["name"], "example.com/app");
        assert_eq!(said["subject"][0]["digest"]["sha256"], digest.hex());
        assert_eq!(said["predicateType"], Approval::TYPE);
        assert_eq!(said["predicate"]["scopes"]["cluster"], "eu1");
        let refused = approval_statement("", &digest, &approval("pro\nduction")).unwrap_err();
        assert!(refused.to_string().contains("environment"), "{refused}");
    }
}
