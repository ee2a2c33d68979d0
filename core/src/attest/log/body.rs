//! The content of a log entry: verifies that the entry is of this signature, over this content, by this signer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sigstore_types::{DerPublicKey, HashAlgorithm};

use super::{EntryKind, LogEntry, bad};
use crate::attest::chain::{certificates_of_pem, public_key_of};
use crate::attest::content::{Artifact, Content, SubjectDigest};
use crate::attest::unaccepted::{self, UnacceptedReason, strict};
use crate::strict_json::Fields;

impl LogEntry {
    /// Verifies that the entry is of this signature, over this content, by `verifier` (a certificate or a
    /// `SubjectPublicKeyInfo`, in DER).
    ///
    /// # Errors
    /// The part that differs.
    pub(in crate::attest) fn check_matches(
        &self,
        content: &Content,
        signature: &[u8],
        artifact: &SubjectDigest<'_>,
        verifier: &[u8],
    ) -> Result<(), UnacceptedReason> {
        // 1. The kind inside the signed body: the kind beside it could select another meaning.
        let text = strict(&self.body, "the log entry", Fields::default())?;
        let body: Body = read(text)?;
        let (kind, version) = self.kind.name();
        if (body.kind.as_str(), body.version.as_str()) != (kind, version) {
            return Err(bad(format!(
                "the kind of the log entry is `{} {}`, not `{kind} {version}`",
                body.kind, body.version
            )));
        }
        // 2. The content: an entry of other content proves nothing about this signature.
        let spec = body.spec.to_string();
        let recorded = match (self.kind, content) {
            (EntryKind::HashedRekordV1 | EntryKind::Rekord, Content::Message { .. }) => {
                read::<Rekord>(&spec)?.recorded(artifact)?
            }
            (EntryKind::HashedRekordV2, Content::Message { .. }) => {
                read::<HashedRekordV2>(&spec)?.recorded(artifact)?
            }
            (EntryKind::HashedRekordV2, Content::Envelope { .. }) => {
                let signed = content.signed_bytes();
                let signed = SubjectDigest::of(Artifact::Bytes(&signed))?;
                read::<HashedRekordV2>(&spec)?.recorded(&signed)?
            }
            (EntryKind::Dsse, Content::Envelope { payload, .. }) => {
                read::<Dsse>(&spec)?.recorded(payload)
            }
            (
                EntryKind::IntotoV1,
                Content::Envelope {
                    payload,
                    written: Some(written),
                    ..
                },
            ) => read::<IntotoV1>(&spec)?.recorded(payload, written, signature),
            (
                EntryKind::IntotoV2,
                Content::Envelope {
                    payload_type,
                    payload,
                    ..
                },
            ) => read::<IntotoV2>(&spec)?.recorded(payload_type, payload),
            _ => {
                let detail = format!(
                    "a log entry of the kind `{kind} {version}` cannot be checked for a signature in this form"
                );
                return Err(UnacceptedReason::new(
                    unaccepted::FORMAT_NOT_SUPPORTED,
                    detail,
                ));
            }
        };
        let recorded = recorded.ok_or_else(|| bad("the log entry is of other content"))?;
        // 3. The signature and its signer: an entry of another signature would lend its time to this one.
        if recorded.signature != signature {
            return Err(bad("the log entry is of another signature"));
        }
        if recorded.verifier.is(verifier) {
            Ok(())
        } else {
            Err(bad("the log entry is of another signer"))
        }
    }
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, UnacceptedReason> {
    serde_json::from_str(text)
        .map_err(|error| bad(format!("the log entry cannot be read: {error}")))
}

/// The signature and signer in an entry, after its content was checked.
struct Recorded {
    signature: Vec<u8>,
    verifier: Verifier,
}

/// The certificate or public key in an entry.
enum Verifier {
    Pem(Vec<u8>),
    Certificate(Vec<u8>),
    Key(Vec<u8>),
}

impl Verifier {
    /// Whether it is this certificate or key. A certificate also matches its key.
    fn is(&self, expected: &[u8]) -> bool {
        let named = match self {
            Verifier::Certificate(der) | Verifier::Key(der) => der.clone(),
            Verifier::Pem(pem) => match std::str::from_utf8(pem).ok().and_then(verifier_of_pem) {
                Some(der) => der,
                None => return false,
            },
        };
        named == expected || public_key_of(&named).is_some_and(|key| key == expected)
    }
}

/// The first certificate, or the public key, of a PEM, in DER.
fn verifier_of_pem(pem: &str) -> Option<Vec<u8>> {
    match certificates_of_pem(pem) {
        Some(certificates) => certificates.into_iter().next(),
        None => DerPublicKey::from_pem(pem.trim())
            .ok()
            .map(|key| key.as_bytes().to_vec()),
    }
}

#[derive(Deserialize)]
struct Body {
    kind: String,
    #[serde(rename = "apiVersion")]
    version: String,
    spec: Value,
}

/// `hashedrekord` 0.0.1 and `rekord` 0.0.1: the digest of the content, the signature and its verifier.
#[derive(Deserialize)]
struct Rekord {
    data: RekordData,
    signature: RekordSignature,
}

#[derive(Deserialize)]
struct RekordData {
    hash: Hash,
}

#[derive(Deserialize)]
struct RekordSignature {
    content: Base64,
    #[serde(rename = "publicKey")]
    key: Content64,
    /// Only in a `rekord`; `x509`, or a format that is not supported (PGP, minisign, SSH).
    format: Option<String>,
}

#[derive(Deserialize)]
struct Content64 {
    content: Base64,
}

#[derive(Deserialize)]
struct Hash {
    algorithm: String,
    value: String,
}

impl Hash {
    /// `dsse` and `intoto` always use SHA-256, also for a signer that uses another hash.
    fn is(&self, sha256: &[u8]) -> bool {
        self.algorithm == "sha256" && self.value == hex::encode(sha256)
    }
}

impl Rekord {
    fn recorded(self, content: &SubjectDigest<'_>) -> Result<Option<Recorded>, UnacceptedReason> {
        let Hash { algorithm, value } = self.data.hash;
        let digest =
            content.digest_by(algorithm_named(&algorithm, HashAlgorithm::as_rekor_str)?)?;
        let x509 = self.signature.format.is_none_or(|format| format == "x509");
        Ok((x509 && value == hex::encode(digest)).then_some(Recorded {
            signature: self.signature.content.0,
            verifier: Verifier::Pem(self.signature.key.content.0),
        }))
    }
}

/// The hash algorithm of a `hashedrekord`, by its name. It is that of the signer, such as SHA-384 for P-384. `spelled` gives the
/// spelling in this version of the entry.
fn algorithm_named(
    name: &str,
    spelled: fn(&HashAlgorithm) -> &'static str,
) -> Result<HashAlgorithm, UnacceptedReason> {
    const ALGORITHMS: [HashAlgorithm; 3] = [
        HashAlgorithm::Sha2256,
        HashAlgorithm::Sha2384,
        HashAlgorithm::Sha2512,
    ];
    let known = ALGORITHMS.into_iter();
    known
        .clone()
        .find(|algorithm| spelled(algorithm) == name)
        .ok_or_else(|| {
            let known: Vec<_> = known.map(|algorithm| spelled(&algorithm)).collect();
            let detail = format!(
                "the log entry's hash algorithm `{name}` is not supported; supported are {}",
                known.join(", ")
            );
            UnacceptedReason::new(unaccepted::FORMAT_NOT_SUPPORTED, detail)
        })
}

/// `hashedrekord` 0.0.2, of Rekor v2.
#[derive(Deserialize)]
struct HashedRekordV2 {
    #[serde(rename = "hashedRekordV002")]
    rekord: HashedRekordV2Spec,
}

#[derive(Deserialize)]
struct HashedRekordV2Spec {
    data: DigestData,
    signature: SignatureV2,
}

#[derive(Deserialize)]
struct DigestData {
    algorithm: String,
    digest: Base64,
}

#[derive(Deserialize)]
struct SignatureV2 {
    content: Base64,
    verifier: VerifierV2,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VerifierV2 {
    x509_certificate: Option<RawBytes>,
    public_key: Option<RawBytes>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawBytes {
    raw_bytes: Base64,
}

impl HashedRekordV2 {
    fn recorded(self, content: &SubjectDigest<'_>) -> Result<Option<Recorded>, UnacceptedReason> {
        let HashedRekordV2Spec { data, signature } = self.rekord;
        let algorithm = algorithm_named(&data.algorithm, |algorithm| match algorithm {
            HashAlgorithm::Sha2256 => "SHA2_256",
            HashAlgorithm::Sha2384 => "SHA2_384",
            HashAlgorithm::Sha2512 => "SHA2_512",
            _ => "",
        })?;
        if data.digest.0 != content.digest_by(algorithm)? {
            return Ok(None);
        }
        let verifier = match (
            signature.verifier.x509_certificate,
            signature.verifier.public_key,
        ) {
            (Some(certificate), None) => Verifier::Certificate(certificate.raw_bytes.0),
            (None, Some(key)) => Verifier::Key(key.raw_bytes.0),
            _ => return Ok(None),
        };
        Ok(Some(Recorded {
            signature: signature.content.0,
            verifier,
        }))
    }
}

/// `dsse` 0.0.1. The hash of the envelope is not compared, because it depends on the spelling that was submitted. Payload,
/// signature and signer are.
#[derive(Deserialize)]
struct Dsse {
    #[serde(rename = "payloadHash")]
    payload: Hash,
    signatures: [DsseSignature; 1],
}

#[derive(Deserialize)]
struct DsseSignature {
    signature: Base64,
    verifier: Base64,
}

impl Dsse {
    fn recorded(self, payload: &[u8]) -> Option<Recorded> {
        let [
            DsseSignature {
                signature,
                verifier,
            },
        ] = self.signatures;
        self.payload
            .is(&Sha256::digest(payload))
            .then_some(Recorded {
                signature: signature.0,
                verifier: Verifier::Pem(verifier.0),
            })
    }
}

/// `intoto` 0.0.1. Only the hash of the envelope binds the signature, so the submitted bytes of the envelope are needed.
#[derive(Deserialize)]
struct IntotoV1 {
    content: IntotoV1Content,
    #[serde(rename = "publicKey")]
    key: Base64,
}

#[derive(Deserialize)]
struct IntotoV1Content {
    hash: Hash,
    #[serde(rename = "payloadHash")]
    payload: Option<Hash>,
}

impl IntotoV1 {
    fn recorded(self, payload: &[u8], written: &[u8], signature: &[u8]) -> Option<Recorded> {
        let content = self.content;
        let same = content.hash.is(&Sha256::digest(written))
            && content
                .payload
                .is_none_or(|hash| hash.is(&Sha256::digest(payload)));
        same.then(|| Recorded {
            signature: signature.to_vec(),
            verifier: Verifier::Pem(self.key.0),
        })
    }
}

/// `intoto` 0.0.2: the envelope without its payload. The signature is base64 of base64.
#[derive(Deserialize)]
struct IntotoV2 {
    content: IntotoV2Content,
}

#[derive(Deserialize)]
struct IntotoV2Content {
    envelope: IntotoV2Envelope,
    #[serde(rename = "payloadHash")]
    payload: Hash,
}

#[derive(Deserialize)]
struct IntotoV2Envelope {
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: [IntotoV2Signature; 1],
}

#[derive(Deserialize)]
struct IntotoV2Signature {
    sig: Base64,
    #[serde(rename = "publicKey")]
    key: Base64,
}

impl IntotoV2 {
    fn recorded(self, payload_type: &str, payload: &[u8]) -> Option<Recorded> {
        let IntotoV2Content {
            envelope,
            payload: hash,
        } = self.content;
        let [IntotoV2Signature { sig, key }] = envelope.signatures;
        if envelope.payload_type != payload_type || !hash.is(&Sha256::digest(payload)) {
            return None;
        }
        Some(Recorded {
            signature: STANDARD.decode(sig.0).ok()?,
            verifier: Verifier::Pem(key.0),
        })
    }
}

/// Bytes, written in base64.
struct Base64(Vec<u8>);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Base64, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD
            .decode(text)
            .map(Base64)
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
