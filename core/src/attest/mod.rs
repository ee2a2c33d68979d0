//! Bytes and an anchor → verified facts, or why something present was not accepted.
//!
//! * [`Material`] — what was found: a bundle, or a layer in one of cosign's older layouts
//! * `bundle`, `cosign_legacy` — each form → one neutral form of something signed
//! * `signed` — the one way in which that is verified, step by step
//! * `certificate`, `log`, `timestamp`, `signature` — what each step asks
//! * `statement`, `predicate` — what a verified envelope says
//! * [`VerifiedSignature`], [`VerifiedStatement`] — the facts, which nothing else can make
//!
//! Sizes and counts are bounded before anything is verified, and no clock is read: a fact stays true, and whether its times
//! are acceptable is for the rules to say.

mod anchor;
mod bundle;
mod certificate;
mod cosign_legacy;
mod identity;
mod log;
mod material;
pub mod predicate;
#[cfg(test)]
mod samples;
mod signature;
mod signed;
mod statement;
mod timestamp;
mod trusted_root;
pub mod unaccepted;
mod verified;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::gate::Digest;
use predicate::Predicate;
use signed::Signed;

pub use anchor::{
    Anchor, AnchorId, KeyError, KeyFingerprint, PublicKey, TrustRoot, TrustRootError,
};
pub use identity::{CertificateIdentity, Claim, Signer};
pub use material::Material;
pub use signed::Artifact;
pub use unaccepted::UnacceptedReason;
pub use verified::{
    Origin, SignatureForm, TimeSource, Transparency, Verified, VerifiedSignature,
    VerifiedStatement, VerifiedTime,
};

/// Media types of layers that carry evidence.
pub mod media_type {
    /// A Sigstore bundle, as it is written since version 0.3; the older ones begin alike ([`BUNDLE_PREFIX`]).
    pub const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
    /// Begins the media types of Sigstore bundles of every version.
    pub const BUNDLE_PREFIX: &str = "application/vnd.dev.sigstore.bundle";
    /// A cosign simplesigning payload.
    pub const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
    /// A DSSE envelope in cosign's `.att` layout.
    pub const ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";
    /// An in-toto statement without a signature, as BuildKit attaches it.
    pub const STATEMENT: &str = "application/vnd.in-toto+json";
}

/// The predicate type of a cosign signature in the bundle format.
pub const COSIGN_SIGN: &str = "https://sigstore.dev/cosign/sign/v1";

/// Verifies one piece of evidence about `subject` under one anchor.
///
/// # Errors
/// Why it is not accepted; a fault of a library counts as such.
pub fn verify(
    material: &Material,
    subject: &Digest,
    anchor: &Anchor,
) -> Result<Verified, UnacceptedReason> {
    contained(|| match material {
        Material::Bundle(bytes) => statement_or_signature(&bundle::parse(bytes)?, subject, anchor),
        Material::Attestation {
            envelope,
            annotations,
        } => statement_or_signature(
            &cosign_legacy::attestation(envelope, annotations)?,
            subject,
            anchor,
        ),
        Material::SimpleSigning {
            payload,
            annotations,
        } => {
            let signed = cosign_legacy::signature(annotations)?;
            let checked = signed.verify(Artifact::Bytes(payload), anchor)?;
            Ok(Verified::Signature(VerifiedSignature {
                annotations: cosign_legacy::simple_signing(payload, subject)?,
                form: SignatureForm::SimpleSigning,
                by: checked.about(subject, anchor),
            }))
        }
    })
}

/// By whom an artifact of any kind was signed, when, and what of it is public, as verified.
#[derive(Clone, Debug)]
pub struct ArtifactSignature {
    /// The signer.
    pub signer: Signer,
    /// What is public about the signature.
    pub transparency: Transparency,
    /// The verified times; empty where there are none.
    pub times: Vec<VerifiedTime>,
    /// Log entries and timestamps that could not be used, and do not count.
    pub ignored: Vec<UnacceptedReason>,
    /// Whether logs stand beside the authority of the certificate in the trust root.
    pub has_logs: bool,
}

/// Verifies a bundle about any artifact. Whether enough of it is public is for the caller to say, as for policies.
///
/// # Errors
/// Why it is not accepted.
pub fn verify_artifact(
    bundle: &[u8],
    artifact: Artifact<'_>,
    anchor: &Anchor,
) -> Result<ArtifactSignature, UnacceptedReason> {
    contained(|| {
        let checked = bundle::parse(bundle)?.verify(artifact, anchor)?;
        Ok(ArtifactSignature {
            signer: checked.signer,
            transparency: checked.transparency,
            times: checked.times,
            ignored: checked.ignored,
            has_logs: checked.logs,
        })
    })
}

/// What only fuzzing reaches directly.
#[cfg(fuzzing)]
pub mod fuzzing {
    use super::{CertificateIdentity, UnacceptedReason};

    /// Reads a certificate that nobody verified.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn certificate(der: &[u8]) -> Result<CertificateIdentity, UnacceptedReason> {
        CertificateIdentity::read(der)
    }
}

fn statement_or_signature(
    signed: &Signed,
    subject: &Digest,
    anchor: &Anchor,
) -> Result<Verified, UnacceptedReason> {
    let mut checked = signed.verify(Artifact::Digest(subject), anchor)?;
    let Some(statement) = checked.statement.take() else {
        return Ok(Verified::Signature(VerifiedSignature {
            annotations: BTreeMap::new(),
            form: SignatureForm::MessageSignature,
            by: checked.about(subject, anchor),
        }));
    };
    if statement.predicate_type == COSIGN_SIGN {
        return Ok(Verified::Signature(VerifiedSignature {
            annotations: statement.about(subject)?,
            form: SignatureForm::CosignBundle,
            by: checked.about(subject, anchor),
        }));
    }
    Ok(Verified::Statement(VerifiedStatement {
        predicate: Predicate::read(&statement.predicate_type, statement.predicate.as_deref())?,
        predicate_type: statement.predicate_type,
        by: checked.about(subject, anchor),
    }))
}

/// Runs `work`; a panic in it is one more reason for not accepting something.
fn contained<T>(work: impl FnOnce() -> Result<T, UnacceptedReason>) -> Result<T, UnacceptedReason> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(UnacceptedReason::new(
            unaccepted::MALFORMED,
            "the verification library failed on it",
        ))
    })
}
