//! Sigstore bundles: the library verifies, what it leaves open is closed here.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use sigstore_crypto::{KeyAlgorithm, SigningScheme, verify_signature, verify_signature_prehashed};
use sigstore_types::bundle::VerificationMaterialContent;
use sigstore_types::{Bundle, HashAlgorithm, MediaType, Sha256Hash, SignatureContent};
use sigstore_verify::{
    Policy, PublicKeyVerificationPolicy, VerificationPolicy, VerificationResult, Verifier,
};

use super::anchor::{Anchor, PublicKey};
use super::identity::{CertificateIdentity, Signer};
use super::unaccepted::Unaccepted;
use super::verified::{
    Provenance, SignatureForm, TimeSource, Transparency, Verified, VerifiedSignature,
    VerifiedStatement, VerifiedTime,
};
use super::{COSIGN_SIGN, contained};
use crate::gate::Digest;

/// The largest bundle, in bytes.
const MAXIMUM_BYTES: usize = 4 << 20;
/// The most log entries, and the most timestamps (as other clients).
const MAXIMUM_ENTRIES: usize = 32;
/// The most certificates of a chain.
const MAXIMUM_CERTIFICATES: usize = 16;
/// The most subjects of a statement.
const MAXIMUM_SUBJECTS: usize = 1024;
/// The deepest nesting of JSON.
const MAXIMUM_DEPTH: usize = 64;
/// The payload type of in-toto statements.
const IN_TOTO: &str = "application/vnd.in-toto+json";

/// What a bundle is verified against.
#[derive(Clone, Copy, Debug)]
pub enum Artifact<'a> {
    /// Its bytes.
    Bytes(&'a [u8]),
    /// Its SHA-256 digest.
    Digest(&'a Digest),
}

/// Verifies a bundle about any artifact, and says who signed it.
///
/// # Errors
/// Why it is not accepted.
pub fn verify_artifact(
    bundle: &[u8],
    artifact: Artifact<'_>,
    anchor: &Anchor,
) -> Result<Signer, Unaccepted> {
    contained(|| {
        let bundle = parse(bundle)?;
        Ok(check(&bundle, artifact, anchor)?.signer)
    })
}

pub(super) fn verify(
    bytes: &[u8],
    subject: &Digest,
    anchor: &Anchor,
) -> Result<Verified, Unaccepted> {
    let bundle = parse(bytes)?;
    let checked = check(&bundle, Artifact::Digest(subject), anchor)?;
    let by = checked.about(subject, anchor);
    let envelope = match &bundle.content {
        SignatureContent::DsseEnvelope(envelope) => envelope,
        _ => {
            let form = SignatureForm::MessageSignature;
            return Ok(Verified::Signature(VerifiedSignature {
                by,
                form,
                annotations: BTreeMap::new(),
            }));
        }
    };
    let statement = Statement::parse(envelope.payload.as_bytes())?;
    let about = statement.subject.iter().find(|named| named.names(subject));
    let Some(about) = about else {
        return Err(Unaccepted::new(
            "wrong-subject",
            format!("the statement is not about `{subject}`"),
        ));
    };
    if statement.predicate_type == COSIGN_SIGN {
        let annotations = about.annotations.clone().unwrap_or_default();
        let annotations = annotations
            .into_iter()
            .filter_map(|(key, value)| Some((key, value.as_str()?.to_owned())));
        let form = SignatureForm::CosignBundle;
        return Ok(Verified::Signature(VerifiedSignature {
            by,
            form,
            annotations: annotations.collect(),
        }));
    }
    let Statement {
        predicate_type,
        predicate,
        ..
    } = statement;
    Ok(Verified::Statement(VerifiedStatement {
        by,
        predicate_type,
        predicate,
    }))
}

/// What the checks gave.
pub(super) struct Checked {
    pub(super) signer: Signer,
    transparency: Transparency,
    times: Vec<VerifiedTime>,
}

impl Checked {
    pub(super) fn about(self, subject: &Digest, anchor: &Anchor) -> Provenance {
        Provenance {
            signer: self.signer,
            anchor: anchor.id(),
            subject: subject.clone(),
            transparency: self.transparency,
            times: self.times,
        }
    }
}

fn sha256(digest: &Digest) -> Result<Sha256Hash, Unaccepted> {
    if digest.algorithm() != "sha256" {
        let detail = format!(
            "evidence about `{}` digests is not supported",
            digest.algorithm()
        );
        return Err(Unaccepted::new("format-not-supported", detail));
    }
    Sha256Hash::from_hex(digest.hex())
        .map_err(|error| Unaccepted::new("malformed", error.to_string()))
}

fn parse(bytes: &[u8]) -> Result<Bundle, Unaccepted> {
    let text = unambiguous(bytes, "the bundle")?;
    let bundle =
        Bundle::from_json(text).map_err(|error| Unaccepted::new("malformed", error.to_string()))?;
    let material = &bundle.verification_material;
    let too_many = |what: &str, most: usize| {
        Err(Unaccepted::new(
            "too-large",
            format!("the bundle has more than {most} {what}"),
        ))
    };
    if material.tlog_entries.len() > MAXIMUM_ENTRIES {
        return too_many("log entries", MAXIMUM_ENTRIES);
    }
    if material
        .timestamp_verification_data
        .rfc3161_timestamps
        .len()
        > MAXIMUM_ENTRIES
    {
        return too_many("timestamps", MAXIMUM_ENTRIES);
    }
    if let VerificationMaterialContent::X509CertificateChain { certificates } = &material.content
        && certificates.len() > MAXIMUM_CERTIFICATES
    {
        return too_many("certificates", MAXIMUM_CERTIFICATES);
    }
    if let SignatureContent::DsseEnvelope(envelope) = &bundle.content
        && envelope.payload_type != IN_TOTO
    {
        let detail = format!(
            "the payload type is `{}`, not `{IN_TOTO}`",
            envelope.payload_type
        );
        return Err(Unaccepted::new("wrong-payload-type", detail));
    }
    Ok(bundle)
}

/// Verifies a bundle under an anchor.
pub(super) fn check(
    bundle: &Bundle,
    artifact: Artifact<'_>,
    anchor: &Anchor,
) -> Result<Checked, Unaccepted> {
    // A log entry without proof or promise would count for nothing, and the library would let it pass.
    for entry in &bundle.verification_material.tlog_entries {
        let promised =
            entry.inclusion_promise.is_some() && bundle.media_type == MediaType::Bundle0_1;
        if entry.inclusion_proof.is_none()
            && !promised
            && !matches!(anchor, Anchor::Key { root: None, .. })
        {
            let detail = "a log entry carries no inclusion proof";
            return Err(Unaccepted::new("no-inclusion-proof", detail));
        }
    }
    match anchor {
        Anchor::Root(root) => {
            let Some(certificate) = bundle.signing_certificate() else {
                let detail = "it was signed with a key, not with a certificate";
                return Err(Unaccepted::new("other-kind-of-signer", detail));
            };
            let material = &bundle.verification_material;
            if material.tlog_entries.is_empty()
                && material
                    .timestamp_verification_data
                    .rfc3161_timestamps
                    .is_empty()
            {
                let detail = "it carries neither a log entry nor a timestamp, so nobody vouches that the \
                              certificate was valid when it was made";
                return Err(Unaccepted::new("no-verified-time", detail));
            }
            // The identity is decided by policies, from the verified fact.
            let mut policy = VerificationPolicy::any_identity();
            if bundle.verification_material.tlog_entries.is_empty() {
                policy = policy.skip_tlog_unsafe();
            }
            if !root.has_certificate_logs {
                policy = policy.skip_sct();
            }
            let result = verified_by(&root.verifier, artifact, bundle, &policy)?;
            let stamps = bundle
                .verification_material
                .timestamp_verification_data
                .rfc3161_timestamps
                .len();
            let times = result
                .verified_timestamps()
                .iter()
                .enumerate()
                .map(|(index, at)| VerifiedTime {
                    at: *at,
                    by: if index < stamps {
                        TimeSource::TimestampAuthority
                    } else {
                        TimeSource::Log
                    },
                });
            let times: Vec<_> = times.collect();
            let identity =
                CertificateIdentity::read(certificate.as_bytes(), root.has_certificate_logs)?;
            Ok(Checked {
                signer: Signer::Certificate(Box::new(identity)),
                transparency: transparency(bundle),
                times,
            })
        }
        Anchor::Key { key, root } => {
            let VerificationMaterialContent::PublicKey(_) = &bundle.verification_material.content
            else {
                let detail = "it was signed with a certificate, not with a key";
                return Err(Unaccepted::new("other-kind-of-signer", detail));
            };
            let signer = Signer::Key(key.fingerprint().clone());
            let material = &bundle.verification_material;
            let logged = !material.tlog_entries.is_empty();
            let stamped = !material
                .timestamp_verification_data
                .rfc3161_timestamps
                .is_empty();
            let root = match root {
                Some(root) if logged || stamped => root,
                _ => {
                    verify_with_key_alone(bundle, artifact, key)?;
                    return Ok(Checked {
                        signer,
                        transparency: Transparency::Absent,
                        times: Vec::new(),
                    });
                }
            };
            let policy = PublicKeyVerificationPolicy::new(key.spki.clone());
            let policy = if logged {
                policy
            } else {
                policy.skip_tlog_unsafe()
            };
            let result = verified_by(&root.verifier, artifact, bundle, &policy)?;
            let stamps = bundle
                .verification_material
                .timestamp_verification_data
                .rfc3161_timestamps
                .len();
            let from_log = result.verified_timestamps().len().saturating_sub(stamps);
            let times = result
                .verified_timestamps()
                .iter()
                .enumerate()
                .map(|(index, at)| VerifiedTime {
                    at: *at,
                    by: if index < from_log {
                        TimeSource::Log
                    } else {
                        TimeSource::TimestampAuthority
                    },
                });
            Ok(Checked {
                signer,
                transparency: transparency(bundle),
                times: times.collect(),
            })
        }
    }
}

fn verified_by(
    verifier: &Verifier,
    artifact: Artifact<'_>,
    bundle: &Bundle,
    policy: &(impl Policy + ?Sized),
) -> Result<VerificationResult, Unaccepted> {
    let result = match artifact {
        Artifact::Bytes(bytes) => verifier.verify(bytes, bundle, policy),
        Artifact::Digest(digest) => verifier.verify(sha256(digest)?, bundle, policy),
    };
    result.map_err(|error| Unaccepted::of(&error))
}

/// The signature by the key, and nothing else: what a log or a timestamp authority says is not looked at.
fn verify_with_key_alone(
    bundle: &Bundle,
    artifact: Artifact<'_>,
    key: &PublicKey,
) -> Result<(), Unaccepted> {
    let default =
        KeyAlgorithm::from_spki(&key.spki).map(|algorithm| algorithm.default_signing_scheme());
    let default = default.map_err(|error| Unaccepted::new("malformed", error.to_string()))?;
    // cosign up to version 2 signs with SHA-256, whatever the curve.
    let schemes = match default {
        SigningScheme::EcdsaP384Sha384 => vec![
            SigningScheme::EcdsaP384Sha384,
            SigningScheme::EcdsaP384Sha256,
        ],
        other => vec![other],
    };
    let signed = schemes
        .into_iter()
        .any(|scheme| match (&bundle.content, artifact) {
            (SignatureContent::DsseEnvelope(envelope), _) => {
                verify_signature(&key.spki, &envelope.pae(), &envelope.signature.sig, scheme)
                    .is_ok()
            }
            (SignatureContent::MessageSignature(message), Artifact::Bytes(bytes)) => {
                verify_signature(&key.spki, bytes, &message.signature, scheme).is_ok()
            }
            (SignatureContent::MessageSignature(message), Artifact::Digest(digest)) => {
                let bytes = hex::decode(digest.hex()).unwrap_or_default();
                scheme.hash_algorithm() == Some(HashAlgorithm::Sha2256)
                    && verify_signature_prehashed(&key.spki, &bytes, &message.signature, scheme)
                        .is_ok()
            }
            _ => false,
        });
    if !signed {
        return Err(Unaccepted::new(
            "bad-signature",
            "the signature was not made with this key",
        ));
    }
    if let SignatureContent::DsseEnvelope(envelope) = &bundle.content {
        let statement = Statement::parse(envelope.payload.as_bytes())?;
        let digest = match artifact {
            Artifact::Bytes(bytes) => &Digest::sha256(bytes),
            Artifact::Digest(digest) => digest,
        };
        if !statement.is_about(digest) {
            return Err(Unaccepted::new(
                "wrong-subject",
                format!("the statement is not about `{digest}`"),
            ));
        }
    }
    Ok(())
}

/// What is public about a bundle whose log entries were all verified.
fn transparency(bundle: &Bundle) -> Transparency {
    let entries = &bundle.verification_material.tlog_entries;
    if entries.is_empty() {
        Transparency::Absent
    } else if entries.iter().any(|entry| entry.inclusion_proof.is_some()) {
        Transparency::InclusionProof
    } else {
        Transparency::SignedEntry
    }
}

/// An in-toto statement, v0.1 or v1.
#[derive(Deserialize)]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<StatementSubject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    #[serde(default)]
    predicate: Value,
}

#[derive(Deserialize)]
struct StatementSubject {
    #[serde(default)]
    digest: BTreeMap<String, String>,
    annotations: Option<BTreeMap<String, Value>>,
}

impl StatementSubject {
    fn names(&self, digest: &Digest) -> bool {
        self.digest
            .get(digest.algorithm())
            .is_some_and(|hex| hex == digest.hex())
    }
}

impl Statement {
    fn is_about(&self, digest: &Digest) -> bool {
        self.subject.iter().any(|named| named.names(digest))
    }

    fn parse(payload: &[u8]) -> Result<Statement, Unaccepted> {
        let text = unambiguous(payload, "the statement")?;
        let statement: Statement = serde_json::from_str(text).map_err(|error| {
            Unaccepted::new(
                "malformed",
                format!("the payload is not an in-toto statement: {error}"),
            )
        })?;
        if !matches!(
            statement.kind.as_str(),
            "https://in-toto.io/Statement/v1" | "https://in-toto.io/Statement/v0.1"
        ) {
            let detail = format!("`{}` is not a known type of statement", statement.kind);
            return Err(Unaccepted::new("format-not-supported", detail));
        }
        if statement.subject.len() > MAXIMUM_SUBJECTS {
            let detail = format!("the statement has more than {MAXIMUM_SUBJECTS} subjects");
            return Err(Unaccepted::new("too-large", detail));
        }
        Ok(statement)
    }
}

/// JSON that every reader understands in the same way: bounded, UTF-8, no key twice, nothing after it.
pub(super) fn unambiguous<'a>(bytes: &'a [u8], what: &str) -> Result<&'a str, Unaccepted> {
    if bytes.len() > MAXIMUM_BYTES {
        return Err(Unaccepted::new(
            "too-large",
            format!("{what} is larger than {MAXIMUM_BYTES} bytes"),
        ));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|_| Unaccepted::new("malformed", format!("{what} is not UTF-8 text")))?;
    let malformed = |error: serde_json::Error| {
        Unaccepted::new("malformed", format!("{what} is not sound JSON: {error}"))
    };
    let mut reader = serde_json::Deserializer::from_str(text);
    Sound { depth: 0 }
        .deserialize(&mut reader)
        .map_err(malformed)?;
    reader.end().map_err(malformed)?;
    Ok(text)
}

/// Walks JSON and keeps nothing of it.
#[derive(Clone, Copy)]
struct Sound {
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Sound {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.depth > MAXIMUM_DEPTH {
            return Err(de::Error::custom("it nests too deep"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Sound {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items
            .next_element_seed(Sound {
                depth: self.depth + 1,
            })?
            .is_some()
        {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut keys = std::collections::BTreeSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            entries.next_value_seed(Sound {
                depth: self.depth + 1,
            })?;
            if keys.contains(&key) {
                return Err(de::Error::custom(format!(
                    "the key `{key}` stands there twice"
                )));
            }
            keys.insert(key);
        }
        Ok(())
    }
}
