//! Bytes and an anchor → verified facts, or why something present was not accepted.
//!
//! The signature, log, timestamp and certificate checks of the Sigstore client specification are the verification
//! library's; what it leaves open is closed here: sizes and counts, inclusion proofs, payload types, subjects, the number of
//! signatures and of certificate timestamps, JSON that two readers could understand in two ways.

mod anchor;
mod bundle;
mod identity;
mod material;
mod simple_signing;
mod unaccepted;
mod verified;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::gate::Digest;

pub use anchor::{
    Anchor, AnchorId, KeyError, KeyFingerprint, PublicKey, TrustRoot, TrustRootError,
};
pub use bundle::{Artifact, verify_artifact};
pub use identity::{CertificateIdentity, Claim, Signer};
pub use material::Material;
pub use unaccepted::Unaccepted;
pub use verified::{
    SignatureForm, TimeSource, Transparency, Verified, VerifiedSignature, VerifiedStatement,
    VerifiedTime,
};

/// The predicate type of a cosign signature in the bundle format.
pub const COSIGN_SIGN: &str = "https://sigstore.dev/cosign/sign/v1";

/// Verifies one piece of evidence about `subject` under one anchor.
///
/// # Errors
/// Why it is not accepted; a fault of the verification library counts as such.
pub fn verify(
    material: &Material,
    subject: &Digest,
    anchor: &Anchor,
) -> Result<Verified, Unaccepted> {
    contained(|| match material {
        Material::Bundle(bytes) => bundle::verify(bytes, subject, anchor),
        Material::SimpleSigning {
            payload,
            annotations,
        } => simple_signing::verify(payload, annotations, subject, anchor),
    })
}

/// Runs `work`; a panic in it is one more reason for not accepting something.
fn contained<T>(work: impl FnOnce() -> Result<T, Unaccepted>) -> Result<T, Unaccepted> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Unaccepted::new(
            "malformed",
            "the verification library failed on it",
        ))
    })
}
