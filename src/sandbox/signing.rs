//! Signatures and attestations: bundles and cosign's legacy form.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use promotion_gate_core::attest::COSIGN_SIGN;
use promotion_gate_core::gate::Digest;
use promotion_gate_sign::{IN_TOTO, pre_authentication_encoding};
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512,
    SigningKey as _,
};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::authority::{Issued, SandboxIdentity};
use super::log::Entry;
use super::{SandboxError, Sigstore};

/// The type of statements.
const STATEMENT: &str = "https://in-toto.io/Statement/v1";

/// A managed key (ECDSA). It signs with the hash of its curve, as cosign does since version 2.6.
pub struct SandboxKey(KeyPair);

/// The curve of a managed key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// P-256, with SHA-256.
    P256,
    /// P-384, with SHA-384.
    P384,
    /// P-521, with SHA-512.
    P521,
}

impl SandboxKey {
    /// Makes a key on P-256.
    ///
    /// # Errors
    /// If the machine has no randomness.
    pub fn generate() -> Result<SandboxKey, SandboxError> {
        SandboxKey::generate_on(Curve::P256)
    }

    /// Makes a key on a given curve.
    ///
    /// # Errors
    /// If the machine has no randomness.
    pub fn generate_on(curve: Curve) -> Result<SandboxKey, SandboxError> {
        let algorithm = match curve {
            Curve::P256 => &PKCS_ECDSA_P256_SHA256,
            Curve::P384 => &PKCS_ECDSA_P384_SHA384,
            Curve::P521 => &PKCS_ECDSA_P521_SHA512,
        };
        Ok(SandboxKey(KeyPair::generate_for(algorithm)?))
    }

    /// The digest that the key signs, as a `hashedrekord` entry names it.
    fn hash(&self, bytes: &[u8]) -> Value {
        let algorithm = self.0.algorithm();
        let (algorithm, value) = if algorithm == &PKCS_ECDSA_P384_SHA384 {
            ("sha384", hex::encode(Sha384::digest(bytes)))
        } else if algorithm == &PKCS_ECDSA_P521_SHA512 {
            ("sha512", hex::encode(Sha512::digest(bytes)))
        } else {
            return sha256(bytes);
        };
        json!({"algorithm": algorithm, "value": value})
    }

    /// The private key (PKCS#8, PEM).
    pub fn private_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// The public key (PEM).
    pub fn public_pem(&self) -> String {
        self.0.public_key_pem()
    }
}

/// The signer of a signature.
#[derive(Clone, Copy)]
pub enum SandboxSigner<'a> {
    /// An identity that the certificate authority issues a certificate to.
    Identity(&'a SandboxIdentity),
    /// A managed key, without a certificate.
    Key(&'a SandboxKey),
}

/// A signature in the form of cosign's `.sig` tags: one layer and its annotations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimpleSignature {
    /// The content of the layer.
    pub payload: Vec<u8>,
    /// Annotations with signature, certificate, log entry and timestamp.
    pub annotations: BTreeMap<String, String>,
}

/// The kinds of log entries for envelopes, from old to new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvelopeEntry {
    /// `intoto` 0.0.1.
    IntotoV1,
    /// `intoto` 0.0.2.
    IntotoV2,
    /// `dsse` 0.0.1.
    Dsse,
}

/// How something is signed: when, and with which witnesses.
#[derive(Clone, Copy)]
pub struct Signing<'s> {
    sigstore: &'s Sigstore,
    /// The sandbox whose log and timestamp authority witness the signature.
    witnesses: &'s Sigstore,
    at: Timestamp,
    logged: bool,
    stamped: bool,
}

/// A signature, with the material that verifies it.
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
            witnesses: sigstore,
            at: Timestamp::now(),
            logged: true,
            stamped: true,
        }
    }

    /// Signs at another time.
    #[must_use]
    pub fn at(self, at: Timestamp) -> Signing<'s> {
        Signing { at, ..self }
    }

    /// Signs with a log entry and a timestamp of another sandbox.
    #[must_use]
    pub fn witnessed_by(self, witnesses: &'s Sigstore) -> Signing<'s> {
        Signing { witnesses, ..self }
    }

    /// Signs without a log entry.
    #[must_use]
    pub fn unlogged(self) -> Signing<'s> {
        Signing {
            logged: false,
            ..self
        }
    }

    /// Signs without a timestamp.
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
        signer: SandboxSigner<'_>,
        subject: &Digest,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Value, SandboxError> {
        let mut about = json!({"digest": {subject.algorithm(): subject.hex()}});
        if let (Some(about), false) = (about.as_object_mut(), annotations.is_empty()) {
            about.insert("annotations".to_owned(), json!(annotations));
        }
        let statement = written(STATEMENT, &json!([about]), COSIGN_SIGN, &json!({}));
        self.envelope(signer, &statement)
    }

    /// An attestation (a bundle v0.3).
    ///
    /// # Errors
    /// If the sandbox cannot make it.
    pub fn attest(
        self,
        signer: SandboxSigner<'_>,
        subject: &Digest,
        predicate_type: &str,
        predicate: &Value,
    ) -> Result<Value, SandboxError> {
        self.attest_all(
            signer,
            std::slice::from_ref(subject),
            predicate_type,
            predicate,
        )
    }

    /// The same about several subjects.
    ///
    /// # Errors
    /// If the sandbox cannot make it.
    pub fn attest_all(
        self,
        signer: SandboxSigner<'_>,
        subjects: &[Digest],
        predicate_type: &str,
        predicate: &Value,
    ) -> Result<Value, SandboxError> {
        let statement = statement(STATEMENT, subjects, predicate_type, predicate);
        self.envelope(signer, &statement)
    }

    /// A signature as cosign 2 makes it.
    ///
    /// # Errors
    /// If the sandbox cannot make it.
    pub fn sign_simply(
        self,
        signer: SandboxSigner<'_>,
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
        let spec = json!({
            "data": {"hash": match signer {
                SandboxSigner::Key(key) => key.hash(&payload),
                SandboxSigner::Identity(_) => sha256(&payload),
            }},
            "signature": {
                "content": signature,
                "publicKey": {"content": STANDARD.encode(&signed.verifier)},
            },
        });
        let entry = self.entry(("hashedrekord", "0.0.1"), spec)?;
        Ok(SimpleSignature {
            annotations: annotations_of(signature, &signed, entry),
            payload,
        })
    }

    /// An attestation as cosign 2 makes it: an envelope, and the annotations of its layer.
    ///
    /// # Errors
    /// If the sandbox cannot make it.
    pub fn attest_simply(
        self,
        signer: SandboxSigner<'_>,
        subject: &Digest,
        predicate_type: &str,
        predicate: &Value,
        kind: EnvelopeEntry,
    ) -> Result<SimpleSignature, SandboxError> {
        let statement = statement(
            "https://in-toto.io/Statement/v0.1",
            std::slice::from_ref(subject),
            predicate_type,
            predicate,
        );
        let (envelope, signed) = self.enveloped(signer, &statement)?;
        let entry = self.envelope_entry(kind, &envelope, &signed)?;
        Ok(SimpleSignature {
            annotations: annotations_of(String::new(), &signed, entry),
            payload: envelope.to_string().into_bytes(),
        })
    }

    fn envelope(self, signer: SandboxSigner<'_>, statement: &str) -> Result<Value, SandboxError> {
        let (envelope, signed) = self.enveloped(signer, statement)?;
        let mut material = Map::new();
        match &signed.certificate {
            Some(issued) => {
                let certificate = json!({"rawBytes": STANDARD.encode(&issued.der)});
                material.insert("certificate".to_owned(), certificate)
            }
            None => material.insert("publicKey".to_owned(), json!({"hint": ""})),
        };
        if let Some(entry) = self.envelope_entry(EnvelopeEntry::Dsse, &envelope, &signed)? {
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

    /// DSSE v1: the signature is over the "pre-authentication encoding".
    fn enveloped(
        self,
        signer: SandboxSigner<'_>,
        statement: &str,
    ) -> Result<(Value, Signed), SandboxError> {
        let encoded = pre_authentication_encoding(statement.as_bytes());
        let signed = self.signed(signer, &encoded)?;
        let envelope = json!({
            "payload": STANDARD.encode(statement),
            "payloadType": IN_TOTO,
            "signatures": [{"sig": STANDARD.encode(&signed.signature)}],
        });
        Ok((envelope, signed))
    }

    fn envelope_entry(
        self,
        kind: EnvelopeEntry,
        envelope: &Value,
        signed: &Signed,
    ) -> Result<Option<Entry>, SandboxError> {
        let payload = envelope["payload"].as_str().unwrap_or_default();
        let payload = STANDARD.decode(payload).map_err(SandboxError::of)?;
        let signature = STANDARD.encode(&signed.signature);
        let verifier = STANDARD.encode(&signed.verifier);
        let envelope_hash = sha256(envelope.to_string().as_bytes());
        let (kind, spec) = match kind {
            EnvelopeEntry::Dsse => (
                ("dsse", "0.0.1"),
                json!({
                    "envelopeHash": envelope_hash,
                    "payloadHash": sha256(&payload),
                    "signatures": [{"signature": signature, "verifier": verifier}],
                }),
            ),
            EnvelopeEntry::IntotoV1 => (
                ("intoto", "0.0.1"),
                json!({
                    "content": {"hash": envelope_hash, "payloadHash": sha256(&payload)},
                    "publicKey": verifier,
                }),
            ),
            EnvelopeEntry::IntotoV2 => (
                ("intoto", "0.0.2"),
                json!({
                    "content": {
                        "envelope": {
                            "payloadType": IN_TOTO,
                            "signatures": [{"publicKey": verifier, "sig": STANDARD.encode(&signature)}],
                        },
                        "hash": envelope_hash,
                        "payloadHash": sha256(&payload),
                    },
                }),
            ),
        };
        self.entry(kind, spec)
    }

    fn signed(self, signer: SandboxSigner<'_>, bytes: &[u8]) -> Result<Signed, SandboxError> {
        let (signature, verifier, certificate) = match signer {
            SandboxSigner::Identity(identity) => {
                let issued = self.sigstore.authority.issue(identity, self.at)?;
                (
                    issued.key.sign(bytes)?,
                    issued.pem.replace("\r\n", "\n"),
                    Some(issued),
                )
            }
            SandboxSigner::Key(key) => (key.0.sign(bytes)?, key.public_pem(), None),
        };
        let stamp = match self.stamped {
            true => Some(self.witnesses.stamp(&signature, self.at)?),
            false => None,
        };
        Ok(Signed {
            signature,
            verifier,
            certificate,
            stamp,
        })
    }

    fn entry(
        self,
        kind: (&'static str, &'static str),
        spec: Value,
    ) -> Result<Option<Entry>, SandboxError> {
        match self.logged {
            true => self.witnesses.log.add(kind, spec, self.at).map(Some),
            false => Ok(None),
        }
    }
}

/// The digest of the statement that a signer of the sandbox makes about these subjects.
pub fn statement_digest(subjects: &[Digest], predicate_type: &str, predicate: &Value) -> Digest {
    let statement = statement(STATEMENT, subjects, predicate_type, predicate);
    Digest::sha256(statement.as_bytes())
}

fn statement(kind: &str, subjects: &[Digest], predicate_type: &str, predicate: &Value) -> String {
    let subjects = subjects.iter();
    let subjects = subjects.map(|it| json!({"digest": {it.algorithm(): it.hex()}}));
    let subjects = Value::Array(subjects.collect());
    written(kind, &subjects, predicate_type, predicate)
}

/// A statement with its fields in the order in which the clients write them.
fn written(kind: &str, subject: &Value, predicate_type: &str, predicate: &Value) -> String {
    let (kind, predicate_type) = (json!(kind), json!(predicate_type));
    format!(
        r#"{{"_type":{kind},"subject":{subject},"predicateType":{predicate_type},"predicate":{predicate}}}"#
    )
}

fn sha256(bytes: &[u8]) -> Value {
    json!({"algorithm": "sha256", "value": hex::encode(Sha256::digest(bytes))})
}

/// The annotations that cosign 2 writes to a layer.
fn annotations_of(
    signature: String,
    signed: &Signed,
    entry: Option<Entry>,
) -> BTreeMap<String, String> {
    let mut carried = BTreeMap::from([("dev.cosignproject.cosign/signature", signature)]);
    if signed.certificate.is_some() {
        carried.insert("dev.sigstore.cosign/certificate", signed.verifier.clone());
    }
    if let Some(entry) = entry {
        carried.insert("dev.sigstore.cosign/bundle", entry.in_annotation());
    }
    if let Some(stamp) = &signed.stamp {
        let stamp = json!({"SignedRFC3161Timestamp": STANDARD.encode(stamp)});
        carried.insert("dev.sigstore.cosign/rfc3161timestamp", stamp.to_string());
    }
    let named = carried.into_iter();
    named.map(|(key, value)| (key.to_owned(), value)).collect()
}
