//! What a signer makes: bundles and legacy signatures.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use promotion_gate_core::attest::COSIGN_SIGN;
use promotion_gate_core::gate::Digest;
use rcgen::{KeyPair, SigningKey as _};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::authority::{Identity, Issued};
use super::log::Entry;
use super::{SandboxError, Sigstore};

/// The payload type of in-toto statements.
const IN_TOTO: &str = "application/vnd.in-toto+json";

/// A managed key (ECDSA P-256).
pub struct Key(KeyPair);

impl Key {
    /// A new one.
    ///
    /// # Errors
    /// If the machine has no randomness.
    pub fn generate() -> Result<Key, SandboxError> {
        Ok(Key(KeyPair::generate()?))
    }

    /// The public key (PEM).
    pub fn public_pem(&self) -> String {
        self.0.public_key_pem()
    }
}

/// Who signs.
#[derive(Clone, Copy)]
pub enum Signer<'a> {
    /// Somebody whom the certificate authority knows.
    Identity(&'a Identity),
    /// Whoever holds a key.
    Key(&'a Key),
}

/// A signature as cosign's `.sig` and `.att` tags hold it: one layer and its annotations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimpleSignature {
    /// The layer.
    pub payload: Vec<u8>,
    /// Signature, certificate, log entry and timestamp.
    pub annotations: BTreeMap<String, String>,
}

/// How something is signed.
#[derive(Clone, Copy)]
pub struct Signing<'s> {
    sigstore: &'s Sigstore,
    at: Timestamp,
    logged: bool,
    stamped: bool,
}

/// A signature with what was said about it.
struct Signed {
    signature: Vec<u8>,
    /// Certificate or public key, in PEM.
    verifier: String,
    certificate: Option<Issued>,
    stamp: Option<Vec<u8>>,
}

impl<'s> Signing<'s> {
    pub(super) fn new(sigstore: &'s Sigstore) -> Signing<'s> {
        Signing {
            sigstore,
            at: Timestamp::now(),
            logged: true,
            stamped: true,
        }
    }

    /// At another time.
    #[must_use]
    pub fn at(self, at: Timestamp) -> Signing<'s> {
        Signing { at, ..self }
    }

    /// Without an entry in the log.
    #[must_use]
    pub fn unlogged(self) -> Signing<'s> {
        Signing {
            logged: false,
            ..self
        }
    }

    /// Without a timestamp.
    #[must_use]
    pub fn unstamped(self) -> Signing<'s> {
        Signing {
            stamped: false,
            ..self
        }
    }

    /// A signature as cosign 3 makes it (a bundle v0.3).
    ///
    /// # Errors
    /// If the sandbox cannot make it.
    pub fn sign(
        self,
        signer: Signer<'_>,
        subject: &Digest,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Value, SandboxError> {
        let mut about = json!({"digest": {subject.algorithm(): subject.hex()}});
        if let (Some(about), false) = (about.as_object_mut(), annotations.is_empty()) {
            about.insert("annotations".to_owned(), json!(annotations));
        }
        self.envelope(
            signer,
            &json!({
                "_type": "https://in-toto.io/Statement/v1",
                "subject": [about],
                "predicateType": COSIGN_SIGN,
                "predicate": {},
            }),
        )
    }

    /// An attestation (a bundle v0.3).
    ///
    /// # Errors
    /// If the sandbox cannot make it.
    pub fn attest(
        self,
        signer: Signer<'_>,
        subject: &Digest,
        predicate_type: &str,
        predicate: &Value,
    ) -> Result<Value, SandboxError> {
        self.envelope(
            signer,
            &json!({
                "_type": "https://in-toto.io/Statement/v1",
                "subject": [{"digest": {subject.algorithm(): subject.hex()}}],
                "predicateType": predicate_type,
                "predicate": predicate,
            }),
        )
    }

    /// An attestation as cosign 2 makes it: the envelope as a layer. The timestamp is of the whole envelope.
    ///
    /// # Errors
    /// If the sandbox cannot make it.
    pub fn attest_simply(
        self,
        signer: Signer<'_>,
        subject: &Digest,
        predicate_type: &str,
        predicate: &Value,
    ) -> Result<SimpleSignature, SandboxError> {
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v0.1",
            "subject": [{"name": "", "digest": {subject.algorithm(): subject.hex()}}],
            "predicateType": predicate_type,
            "predicate": predicate,
        });
        let (signed, envelope, spec) = self.unstamped().sealed(signer, &statement)?;
        let payload = envelope.to_string().into_bytes();
        let mut carried = BTreeMap::from([
            ("dev.cosignproject.cosign/signature", String::new()),
            ("predicateType", predicate_type.to_owned()),
        ]);
        if signed.certificate.is_some() {
            carried.insert("dev.sigstore.cosign/certificate", signed.verifier);
        }
        if let Some(entry) = self.entry("dsse", spec)? {
            carried.insert("dev.sigstore.cosign/bundle", entry.in_annotation());
        }
        if self.stamped {
            let stamp = self.sigstore.timestamps.stamp(&payload, self.at)?;
            carried.insert(
                "dev.sigstore.cosign/rfc3161timestamp",
                in_annotation(&stamp),
            );
        }
        Ok(SimpleSignature {
            payload,
            annotations: owned(carried),
        })
    }

    /// A signature as cosign 2 makes it.
    ///
    /// # Errors
    /// If the sandbox cannot make it.
    pub fn sign_simply(
        self,
        signer: Signer<'_>,
        subject: &Digest,
        annotations: &BTreeMap<String, String>,
    ) -> Result<SimpleSignature, SandboxError> {
        let payload = json!({
            "critical": {
                "identity": {"docker-reference": ""},
                "image": {"docker-manifest-digest": subject.to_string()},
                "type": "cosign container image signature",
            },
            "optional": annotations,
        })
        .to_string()
        .into_bytes();
        let signed = self.signed(signer, &payload)?;
        let signature = STANDARD.encode(&signed.signature);
        let mut carried =
            BTreeMap::from([("dev.cosignproject.cosign/signature", signature.clone())]);
        if signed.certificate.is_some() {
            carried.insert("dev.sigstore.cosign/certificate", signed.verifier.clone());
        }
        let spec = json!({
            "data": {"hash": {"algorithm": "sha256", "value": hex::encode(Sha256::digest(&payload))}},
            "signature": {
                "content": signature,
                "publicKey": {"content": STANDARD.encode(&signed.verifier)},
            },
        });
        if let Some(entry) = self.entry("hashedrekord", spec)? {
            carried.insert("dev.sigstore.cosign/bundle", entry.in_annotation());
        }
        if let Some(stamp) = &signed.stamp {
            carried.insert("dev.sigstore.cosign/rfc3161timestamp", in_annotation(stamp));
        }
        Ok(SimpleSignature {
            payload,
            annotations: owned(carried),
        })
    }

    fn envelope(self, signer: Signer<'_>, statement: &Value) -> Result<Value, SandboxError> {
        let (signed, envelope, spec) = self.sealed(signer, statement)?;
        let mut material = Map::new();
        match &signed.certificate {
            Some(issued) => {
                let certificate = json!({"rawBytes": STANDARD.encode(&issued.der)});
                material.insert("certificate".to_owned(), certificate)
            }
            None => material.insert("publicKey".to_owned(), json!({"hint": ""})),
        };
        if let Some(entry) = self.entry("dsse", spec)? {
            material.insert("tlogEntries".to_owned(), json!([entry.in_bundle()]));
        }
        if let Some(stamp) = &signed.stamp {
            let stamps =
                json!({"rfc3161Timestamps": [{"signedTimestamp": STANDARD.encode(stamp)}]});
            material.insert("timestampVerificationData".to_owned(), stamps);
        }
        Ok(json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": material,
            "dsseEnvelope": envelope,
        }))
    }

    /// A statement in a signed envelope, and what the log says about that.
    fn sealed(
        self,
        signer: Signer<'_>,
        statement: &Value,
    ) -> Result<(Signed, Value, Value), SandboxError> {
        let payload = statement.to_string();
        // DSSE v1, "pre-authentication encoding".
        let encoded = format!(
            "DSSEv1 {} {IN_TOTO} {} {payload}",
            IN_TOTO.len(),
            payload.len()
        );
        let signed = self.signed(signer, encoded.as_bytes())?;
        let signature = STANDARD.encode(&signed.signature);
        let envelope = json!({
            "payload": STANDARD.encode(&payload),
            "payloadType": IN_TOTO,
            "signatures": [{"sig": signature}],
        });
        let sha256 = |bytes: &str| json!({"algorithm": "sha256", "value": hex::encode(Sha256::digest(bytes))});
        let spec = json!({
            "envelopeHash": sha256(&envelope.to_string()),
            "payloadHash": sha256(&payload),
            "signatures": [{"signature": signature, "verifier": STANDARD.encode(&signed.verifier)}],
        });
        Ok((signed, envelope, spec))
    }

    fn signed(self, signer: Signer<'_>, bytes: &[u8]) -> Result<Signed, SandboxError> {
        let (signature, verifier, certificate) = match signer {
            Signer::Identity(identity) => {
                let issued = self.sigstore.authority.issue(identity, self.at)?;
                (
                    issued.key.sign(bytes)?,
                    issued.pem.replace("\r\n", "\n"),
                    Some(issued),
                )
            }
            Signer::Key(key) => (key.0.sign(bytes)?, key.public_pem(), None),
        };
        let stamp = match self.stamped {
            true => Some(self.sigstore.timestamps.stamp(&signature, self.at)?),
            false => None,
        };
        Ok(Signed {
            signature,
            verifier,
            certificate,
            stamp,
        })
    }

    fn entry(self, kind: &'static str, spec: Value) -> Result<Option<Entry>, SandboxError> {
        match self.logged {
            true => self.sigstore.log.add(kind, spec, self.at).map(Some),
            false => Ok(None),
        }
    }
}

/// A timestamp as cosign keeps it.
fn in_annotation(stamp: &[u8]) -> String {
    json!({"SignedRFC3161Timestamp": STANDARD.encode(stamp)}).to_string()
}

fn owned(annotations: BTreeMap<&str, String>) -> BTreeMap<String, String> {
    let owned = |(key, value): (&str, String)| (key.to_owned(), value);
    annotations.into_iter().map(owned).collect()
}
