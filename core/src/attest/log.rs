//! Entries of a transparency log (Rekor v1 and v2): verifies that the log contains an entry, when it was added, and that it is
//! of this signature.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sigstore_merkle::{hash_leaf, verify_inclusion_proof};
use sigstore_types::bundle::InclusionProof;
use sigstore_types::{HashAlgorithm, KeyHint, Sha256Hash, TimeRange};

use super::bundle::bounded;
use super::certificate::{certificates_of_pem, public_key_of};
use super::signature::{Message, VerifyingKey};
use super::signed::{Artifact, Content, Signed, SubjectDigest};
use super::unaccepted::{self, UnacceptedReason, strict};
use super::verified::Transparency;
use crate::strict_json::Fields;

/// The most signatures of one checkpoint that are verified. Only signatures with the key hint of a known log are.
const MAXIMUM_SIGNATURES: usize = 8;

/// The key of a log that a trust root names.
pub(super) struct LogKey {
    pub(super) id: Sha256Hash,
    pub(super) key: VerifyingKey,
    pub(super) valid_for: Option<TimeRange>,
}

impl LogKey {
    pub(super) fn signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        self.key.signed(Message::Bytes(bytes), signature)
    }

    fn has_hint(&self, hint: &KeyHint) -> bool {
        self.id.as_bytes().starts_with(hint.as_bytes())
    }

    /// Whether the key was valid at these times. If no time is known, a key with an end of validity does not count: an attacker
    /// could have stolen it after its retirement.
    pub(super) fn valid_at(&self, times: &[Timestamp]) -> bool {
        self.valid_for.is_none_or(|window| match times {
            [] => window.end.is_none(),
            times => times.iter().all(|time| window.contains(*time)),
        })
    }
}

/// A log entry. Not verified yet.
pub(super) struct LogEntry {
    pub(super) kind: EntryKind,
    /// The log's id: the SHA-256 digest of the `SubjectPublicKeyInfo` of its key.
    pub(super) log: Vec<u8>,
    pub(super) index: u64,
    /// The time at which the log added the entry. Only the promise signs it.
    pub(super) integrated: Option<Timestamp>,
    /// The log's signed promise of inclusion (signed entry timestamp).
    pub(super) set: Option<Vec<u8>>,
    pub(super) proof: Option<InclusionProof>,
    /// Whether the promise is sufficient without an inclusion proof, as in the oldest formats.
    pub(super) set_suffices: bool,
    /// The canonicalised body of the entry.
    pub(super) body: Vec<u8>,
}

macro_rules! kinds {
    ($($name:ident = $kind:literal, $version:literal;)+) => {
        /// A kind of entry, with its version.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum EntryKind {
            $($name,)+
        }

        impl EntryKind {
            pub(super) fn named(kind: &str, version: &str) -> Option<EntryKind> {
                match (kind, version) {
                    $(($kind, $version) => Some(EntryKind::$name),)+
                    _ => None,
                }
            }

            fn name(self) -> (&'static str, &'static str) {
                match self {
                    $(EntryKind::$name => ($kind, $version),)+
                }
            }
        }
    };
}

kinds! {
    HashedRekordV1 = "hashedrekord", "0.0.1";
    HashedRekordV2 = "hashedrekord", "0.0.2";
    Rekord = "rekord", "0.0.1";
    Dsse = "dsse", "0.0.1";
    IntotoV1 = "intoto", "0.0.1";
    IntotoV2 = "intoto", "0.0.2";
}

/// The verified facts about an entry.
pub(super) struct Seen {
    /// The time at which the log added the entry. A log of version 2 does not sign a time.
    pub(super) at: Option<Timestamp>,
    pub(super) transparency: Transparency,
}

fn bad(why: impl Into<String>) -> UnacceptedReason {
    UnacceptedReason::new(unaccepted::BAD_LOG_ENTRY, why)
}

/// The refusal for a log entry of an unknown kind or version. Its content cannot be checked.
pub(super) fn unknown_kind(kind: &str, version: &str) -> UnacceptedReason {
    let detail = format!("log entries of the kind `{kind} {version}` are not supported");
    UnacceptedReason::new(unaccepted::FORMAT_NOT_SUPPORTED, detail)
}

impl LogEntry {
    /// Whether the entry is of a log that the trust root names, by the log's id or by a key hint in the checkpoint. An entry of
    /// another log proves nothing for or against the signature, so it is treated as absent.
    fn check_known_log(&self, keys: &[LogKey]) -> Result<(), UnacceptedReason> {
        let by_id = keys.iter().any(|key| self.log == key.id.as_bytes());
        let checkpoint = self
            .proof
            .as_ref()
            .and_then(|proof| proof.checkpoint.checkpoint());
        let by_checkpoint = checkpoint.is_some_and(|checkpoint| {
            let mut notes = checkpoint.signatures().iter();
            notes.any(|note| keys.iter().any(|key| key.has_hint(&note.key_id)))
        });
        if by_id || by_checkpoint {
            return Ok(());
        }
        Err(self.unknown_log())
    }

    fn unknown_log(&self) -> UnacceptedReason {
        let detail = format!(
            "the trust root does not name a log `{}` that was valid at that time",
            hex::encode(&self.log)
        );
        UnacceptedReason::new(unaccepted::UNKNOWN_LOG, detail)
    }

    /// Verifies that a log of the trust root contains the entry. `stamped` are the times of verified timestamps.
    ///
    /// # Errors
    /// Why the entry is not valid. `unknown-log` means that it counts as absent, because no log that was trusted then made it.
    pub(super) fn verify(
        &self,
        keys: &[LogKey],
        stamped: &[Timestamp],
    ) -> Result<Seen, UnacceptedReason> {
        // 1. A log that the trust root names: every other log could be the attacker's own.
        self.check_known_log(keys)?;
        // 2. A proof or a promise of inclusion: otherwise, the log need not contain the entry.
        if self.proof.is_none() && !(self.set_suffices && self.set.is_some()) {
            return Err(UnacceptedReason::new(
                unaccepted::NO_INCLUSION_PROOF,
                "a log entry does not carry an inclusion proof",
            ));
        }
        if let Some(set) = &self.set {
            self.verify_set(set, keys)?;
        }
        // 3. The time counts only if the promise signs it: otherwise, the sender could choose it.
        let at = self
            .integrated
            .filter(|_| self.set.is_some() && self.kind != EntryKind::HashedRekordV2);
        // 4. The inclusion proof, under a key that was valid at the time of the entry: a retired key could have been stolen.
        let transparency = match &self.proof {
            Some(proof) => {
                self.verify_inclusion(
                    proof,
                    keys,
                    at.as_ref().map_or(stamped, std::slice::from_ref),
                )?;
                Transparency::InclusionProof
            }
            None => Transparency::SignedEntry,
        };
        Ok(Seen { at, transparency })
    }

    /// Verifies the promise of a log of version 1: a signature over the entry and the time at which the log added it (Rekor,
    /// `types.md`, "Signed Entry Timestamp"; canonical JSON, RFC 8785).
    fn verify_set(&self, set: &[u8], keys: &[LogKey]) -> Result<(), UnacceptedReason> {
        let signed = format!(
            r#"{{"body":"{}","integratedTime":{},"logID":"{}","logIndex":{}}}"#,
            STANDARD.encode(&self.body),
            self.integrated.map_or(0, Timestamp::as_second),
            hex::encode(&self.log),
            self.index,
        );
        let named = keys.iter().filter(|key| self.log == key.id.as_bytes());
        let mut kept = named
            .filter(|key| key.signed(signed.as_bytes(), set))
            .peekable();
        if kept.peek().is_none() {
            return Err(bad(
                "the promise is not signed by the named log over this entry",
            ));
        }
        if kept.any(|key| key.valid_at(self.integrated.as_slice())) {
            return Ok(());
        }
        Err(self.unknown_log())
    }

    /// Verifies the inclusion proof against a checkpoint that the log signed (RFC 6962, 2.1.1; C2SP tlog-checkpoint). A proof of
    /// version 1 repeats values of the checkpoint, which must agree; those of version 2 are not used.
    fn verify_inclusion(
        &self,
        proof: &InclusionProof,
        keys: &[LogKey],
        times: &[Timestamp],
    ) -> Result<(), UnacceptedReason> {
        let Some(checkpoint) = proof.checkpoint.checkpoint() else {
            return Err(bad("the inclusion proof does not have a checkpoint"));
        };
        let index = match self.kind {
            EntryKind::HashedRekordV2 => self.index,
            _ => {
                if proof.root_hash != *checkpoint.root_hash()
                    || proof.tree_size != checkpoint.tree_size()
                {
                    return Err(bad(
                        "the inclusion proof and its checkpoint are of different trees",
                    ));
                }
                proof.log_index.get()
            }
        };
        verify_inclusion_proof(
            &hash_leaf(&self.body),
            index,
            checkpoint.tree_size(),
            &proof.hashes,
            checkpoint.root_hash(),
        )
        .map_err(|error| bad(format!("the inclusion proof is not valid: {error}")))?;
        // A checkpoint also has signatures of witnesses, and key hints of four bytes can collide, so every signature with a
        // matching hint is tried.
        let lines = keys.iter().flat_map(|key| {
            let notes = checkpoint.signatures().iter();
            let notes = notes.filter(|note| key.has_hint(&note.key_id));
            notes.map(move |note| (key, note))
        });
        bounded(
            "signatures of one log in a checkpoint",
            lines.clone().count(),
            MAXIMUM_SIGNATURES,
        )?;
        let mut signers = lines
            .filter(|(key, note)| key.signed(checkpoint.signed_data(), note.signature.as_bytes()))
            .map(|(key, _)| key)
            .peekable();
        if signers.peek().is_none() {
            return Err(bad("no log of the trust root signed the checkpoint"));
        }
        if signers.any(|key| key.valid_at(times)) {
            return Ok(());
        }
        let when = match times {
            [] => "has an end of validity, but the time of the entry is not known".to_owned(),
            [time, ..] => format!("was not valid at {time}"),
        };
        let detail = format!("the key of the log that signed the checkpoint {when}");
        Err(UnacceptedReason::new(unaccepted::UNKNOWN_LOG, detail))
    }

    /// Verifies that the entry is of this signature, over this content, by `verifier` (a certificate or a
    /// `SubjectPublicKeyInfo`, in DER).
    ///
    /// # Errors
    /// The part that differs.
    pub(super) fn check_matches(
        &self,
        signed: &Signed,
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
        let recorded = match (self.kind, &signed.content) {
            (EntryKind::HashedRekordV1 | EntryKind::Rekord, Content::Message { .. }) => {
                read::<Rekord>(&spec)?.recorded(artifact)?
            }
            (EntryKind::HashedRekordV2, Content::Message { .. }) => {
                read::<HashedRekordV2>(&spec)?.recorded(artifact)?
            }
            (EntryKind::HashedRekordV2, Content::Envelope { .. }) => {
                let signed = signed.signed_bytes();
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
            ) => read::<IntotoV1>(&spec)?.recorded(payload, written, &signed.signature),
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
        if recorded.signature != signed.signature {
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
        None => sigstore_types::DerPublicKey::from_pem(pem.trim())
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
