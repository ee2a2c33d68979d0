//! Verified signatures and statements. Only [`verify`](super::verify) makes them, and they cannot be deserialised:
//!
//! ```
//! fn deserialises<T: serde::de::DeserializeOwned>() {}
//! deserialises::<promotion_gate_core::gate::RequirementEntry>();
//! ```
//! ```compile_fail,E0277
//! fn deserialises<T: serde::de::DeserializeOwned>() {}
//! deserialises::<promotion_gate_core::attest::VerifiedSignature>();
//! ```
//! ```compile_fail,E0277
//! fn deserialises<T: serde::de::DeserializeOwned>() {}
//! deserialises::<promotion_gate_core::attest::VerifiedStatement>();
//! ```
//! ```compile_fail,E0451
//! use promotion_gate_core::attest::VerifiedSignature;
//! fn forge(other: VerifiedSignature) -> VerifiedSignature {
//!     VerifiedSignature { form: promotion_gate_core::attest::SignatureForm::CosignBundle, ..other }
//! }
//! ```

use std::collections::BTreeMap;
use std::ops::Deref;

use jiff::Timestamp;

use super::anchor::AnchorId;
use super::identity::Signer;
use super::predicate::Predicate;
use super::unaccepted::UnacceptedReason;
use super::weight::bytes_of;
use crate::gate::Digest;

/// A verified piece of evidence.
#[derive(Clone, Debug)]
pub enum Verified {
    /// A signature of the image.
    Signature(VerifiedSignature),
    /// A statement about the image.
    Statement(VerifiedStatement),
}

/// The verified signer, times and public record of a signature or statement.
#[derive(Clone, Debug)]
pub struct Origin {
    pub(super) signer: Signer,
    pub(super) anchor: AnchorId,
    pub(super) subject: Digest,
    pub(super) logs: bool,
    pub(super) transparency: Transparency,
    pub(super) times: Vec<VerifiedTime>,
    pub(super) ignored: Vec<UnacceptedReason>,
}

/// A verified signature of an image.
#[derive(Clone, Debug)]
pub struct VerifiedSignature {
    pub(super) by: Origin,
    pub(super) form: SignatureForm,
    pub(super) annotations: BTreeMap<String, String>,
}

/// A verified in-toto statement about an image.
#[derive(Clone, Debug)]
pub struct VerifiedStatement {
    pub(super) by: Origin,
    pub(super) predicate_type: String,
    pub(super) predicate: Predicate,
    pub(super) digest: Digest,
}

/// The form of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureForm {
    /// A bundle with the predicate type of `cosign sign`.
    CosignBundle,
    /// A simplesigning payload.
    SimpleSigning,
    /// A bare signature over the manifest, without a statement.
    MessageSignature,
}

/// The public record of a signature, the strongest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transparency {
    /// A log entry with a verified inclusion proof.
    InclusionProof,
    /// A log entry with only the log's signed promise (SET).
    SignedEntry,
    /// No log entry.
    #[default]
    Absent,
}

/// A time at which the signature is proven to have existed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedTime {
    /// The time of the log entry or timestamp.
    pub at: Timestamp,
    /// The source that signed the time.
    pub by: TimeSource,
}

/// The source of a verified time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeSource {
    /// A transparency log (Rekor v1).
    Log,
    /// A timestamp authority (RFC 3161).
    TimestampAuthority,
}

impl Origin {
    /// The signer.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// The anchor under which it was verified.
    pub fn anchor(&self) -> &AnchorId {
        &self.anchor
    }

    /// The digest of the image that was signed.
    pub fn subject(&self) -> &Digest {
        &self.subject
    }

    /// Whether the trust root lists transparency logs together with the authority that issued the signer's certificate.
    pub fn has_logs(&self) -> bool {
        self.logs
    }

    /// The public record.
    pub fn transparency(&self) -> Transparency {
        self.transparency
    }

    /// The verified times; empty if neither a log nor a timestamp authority confirms one.
    pub fn times(&self) -> &[VerifiedTime] {
        &self.times
    }

    /// Why some log entries and timestamps were ignored: the trust root does not name their log or authority, or they are not of
    /// this signature.
    pub fn ignored(&self) -> &[UnacceptedReason] {
        &self.ignored
    }

    /// The approximate size in memory, in bytes.
    fn bytes(&self) -> usize {
        let ignored = self.ignored.iter().map(|why| why.detail.len());
        size_of_val(self)
            + self.signer.bytes()
            + size_of_val(self.times.as_slice())
            + size_of_val(self.ignored.as_slice())
            + ignored.sum::<usize>()
    }
}

impl Deref for VerifiedSignature {
    type Target = Origin;

    fn deref(&self) -> &Origin {
        &self.by
    }
}

impl Deref for VerifiedStatement {
    type Target = Origin;

    fn deref(&self) -> &Origin {
        &self.by
    }
}

impl VerifiedSignature {
    /// The form of the signature.
    pub fn form(&self) -> SignatureForm {
        self.form
    }

    /// The signed annotations.
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.annotations
    }

    /// The approximate size in memory, in bytes.
    pub fn bytes(&self) -> usize {
        self.by.bytes() + bytes_of(&self.annotations)
    }
}

impl VerifiedStatement {
    /// The type of the predicate, a URI.
    pub fn predicate_type(&self) -> &str {
        &self.predicate_type
    }

    /// The predicate.
    pub fn predicate(&self) -> &Predicate {
        &self.predicate
    }

    /// When the statement was made: the earlier of `said`, the time in its content, and its earliest verified time. A timestamp can
    /// be added to a signature later, so a verified time alone could make an old statement look new. `None` without a verified time,
    /// because the signer can write any time into the content.
    pub fn made_at(&self, said: Timestamp) -> Option<Timestamp> {
        let verified = self.by.times.iter().map(|time| time.at).min();
        verified.map(|verified| verified.min(said))
    }

    /// The statement with the part of its predicate that can hurt alone; `None` if that is all of it.
    pub fn only_what_can_hurt(&self) -> Option<VerifiedStatement> {
        let predicate = self.predicate.only_what_can_hurt()?;
        Some(VerifiedStatement {
            predicate,
            ..self.clone()
        })
    }

    /// The digest of the statement. Two signers of one statement give the same digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The approximate size in memory, in bytes.
    pub fn bytes(&self) -> usize {
        self.by.bytes()
            + self.predicate_type.len()
            + self.predicate.bytes()
            + self.digest.hex().len()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::super::anchor::Anchor;
    use super::super::chain::public_key_of;
    use super::super::key::PublicKey;
    use super::super::samples::{authorities, pem};
    use super::super::trust_root::TrustRoot;
    use super::*;

    fn origin(times: usize) -> Origin {
        let [certificate, _] = authorities();
        let pem = pem("PUBLIC KEY", &public_key_of(&certificate).unwrap());
        let key = PublicKey::from_pem(&pem).unwrap();
        let time = VerifiedTime {
            at: Timestamp::UNIX_EPOCH,
            by: TimeSource::Log,
        };
        Origin {
            signer: Signer::Key(key.fingerprint().clone()),
            anchor: Anchor::Root(TrustRoot::github().unwrap().into()).id(),
            subject: Digest::sha256(b""),
            logs: false,
            transparency: Transparency::Absent,
            times: vec![time; times],
            ignored: Vec::new(),
        }
    }

    fn signature(times: usize, annotations: &[(&str, usize)]) -> usize {
        let annotations = annotations.iter();
        let signature = VerifiedSignature {
            by: origin(times),
            form: SignatureForm::CosignBundle,
            annotations: annotations
                .map(|(key, length)| ((*key).to_owned(), "x".repeat(*length)))
                .collect(),
        };
        signature.bytes()
    }

    fn statement(kind: usize, predicate: usize) -> usize {
        let written = format!("\"{}\"", "x".repeat(predicate));
        let statement = VerifiedStatement {
            by: origin(1),
            predicate_type: "x".repeat(kind),
            predicate: Predicate::Other(RawValue::from_string(written).ok()),
            digest: Digest::sha256(b""),
        };
        statement.bytes()
    }

    #[test]
    fn a_fact_weighs_about_as_much_as_what_is_kept_of_it() {
        for (least, more, texts) in [
            (0, signature(0, &[]), 100),
            (
                signature(0, &[]),
                signature(100, &[]),
                100 * size_of::<VerifiedTime>(),
            ),
            (signature(1, &[]), signature(1, &[("a", 1000)]), 1000),
            (
                signature(1, &[]),
                signature(1, &[("a", 1000), ("b", 1000)]),
                2000,
            ),
            (0, statement(0, 0), 100),
            (statement(1, 1), statement(1000, 1), 1000),
            (statement(1, 1), statement(1, 1000), 1000),
            (statement(1, 1), statement(1000, 1000), 2000),
        ] {
            let weight = more - least;
            assert!(
                (texts - 2..texts + 400).contains(&weight),
                "{texts}: {weight}"
            );
        }
    }
}
