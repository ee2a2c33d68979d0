use std::sync::Arc;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use promotion_gate_core::attest::predicate::Predicate;
use promotion_gate_core::attest::{self, Anchor, Material, PublicKey, UnacceptedReason, Verified};
use promotion_gate_core::gate::Digest;
use serde_json::{Value, json};

use super::{Tally, folder, read};

const IN_TOTO: &str = "application/vnd.in-toto+json";
const KIND: &str = "https://example.com/document/v1";

/// Documents of all kinds as what is attested: statements as they are, everything else as a predicate. What is signed soundly is
/// read as it is written, what is not is refused, and nothing that is cut or damaged is more than refused.
#[test]
fn documents_of_all_kinds_are_read_as_written_or_refused() {
    let Some(folder) = folder("documents") else {
        return;
    };
    let notary = Notary::new();
    let mut tally = Tally::of("documents");
    let index: Vec<Value> = serde_json::from_slice(&read(&folder, "index.json")).unwrap();
    for document in &index {
        let (file, kind) = (
            document["file"].as_str().unwrap(),
            document["type"].to_string(),
        );
        let bytes = read(&folder, file);
        let Ok(value) = serde_json::from_slice::<Value>(&bytes) else {
            tally.expect(format!("{file} (no JSON)"), notary.predicate(&bytes), None);
            continue;
        };
        if kind.contains("DSSE envelope") {
            let said = notary.envelope(&bytes);
            // Their signers are not at hand.
            tally.expect(
                file,
                said.err().map(|why| why.reason.id),
                Some("bad-signature"),
            );
        } else if kind.contains("in-toto statement") {
            tally.expect(
                file,
                notary.statement(&bytes, &value),
                subject(&value).map(|_| value["predicateType"].clone()),
            );
        } else {
            tally.expect(file, notary.predicate(&bytes), Some(value));
        }
        notary.cut_and_damaged(&bytes);
    }
    tally.close(index.len());
}

struct Notary {
    key: EcdsaKeyPair,
    anchor: Anchor,
    image: Digest,
}

impl Notary {
    fn new() -> Notary {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let spki = STANDARD.encode(key.public_key().as_der().unwrap().as_ref());
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{spki}\n-----END PUBLIC KEY-----\n");
        Notary {
            key,
            anchor: Anchor::Key {
                key: Arc::new(PublicKey::from_pem(&pem).unwrap()),
                root: None,
            },
            image: Digest::sha256(b"image"),
        }
    }

    fn sign(&self, payload: &[u8]) -> Vec<u8> {
        let header = format!("DSSEv1 {} {IN_TOTO} {} ", IN_TOTO.len(), payload.len());
        let encoded = [header.as_bytes(), payload].concat();
        let signature = self.key.sign(&SystemRandom::new(), &encoded).unwrap();
        json!({
            "payload": STANDARD.encode(payload),
            "payloadType": IN_TOTO,
            "signatures": [{"sig": STANDARD.encode(signature.as_ref())}],
        })
        .to_string()
        .into_bytes()
    }

    fn verify(&self, envelope: Vec<u8>, subject: &Digest) -> Result<Verified, UnacceptedReason> {
        let material = Material::Attestation {
            envelope,
            annotations: Default::default(),
        };
        attest::verify(&material, subject, &self.anchor)
    }

    fn envelope(&self, bytes: &[u8]) -> Result<Verified, UnacceptedReason> {
        self.verify(bytes.to_vec(), &self.image)
    }

    /// The type of the predicate, of a statement about something with a digest that is known.
    fn statement(&self, bytes: &[u8], value: &Value) -> Option<Value> {
        let subject = subject(value).unwrap_or_else(|| self.image.clone());
        match self.verify(self.sign(bytes), &subject).ok()? {
            Verified::Statement(statement) => Some(json!(statement.predicate_type())),
            Verified::Signature(_) => None,
        }
    }

    /// What is read of a document that is signed as a predicate.
    fn predicate(&self, bytes: &[u8]) -> Option<Value> {
        let text = String::from_utf8_lossy(bytes);
        let statement = format!(
            r#"{{"_type": "https://in-toto.io/Statement/v1", "subject": [{{"digest": {{"sha256": "{}"}}}}],
                "predicateType": "{KIND}", "predicate": {text}}}"#,
            self.image.hex()
        );
        let verified = self
            .verify(self.sign(statement.as_bytes()), &self.image)
            .ok()?;
        let Verified::Statement(statement) = verified else {
            return None;
        };
        match statement.predicate() {
            Predicate::Other(Some(text)) => serde_json::from_str(text.get()).ok(),
            _ => None,
        }
    }

    fn cut_and_damaged(&self, bytes: &[u8]) {
        let step = bytes.len() / 7 + 1;
        for at in (0..bytes.len()).step_by(step) {
            let _ = self.statement(&bytes[..at], &Value::Null);
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 0x15;
            let _ = self.predicate(&damaged);
        }
    }
}

/// The first subject that is named by a SHA-256 digest.
fn subject(statement: &Value) -> Option<Digest> {
    let subjects = statement["subject"].as_array()?;
    let digest = |subject: &Value| {
        let hex = subject["digest"]["sha256"].as_str()?;
        format!("sha256:{hex}").parse().ok()
    };
    subjects.iter().find_map(digest)
}
