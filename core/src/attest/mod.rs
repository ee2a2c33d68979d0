//! Verification: from bytes and an anchor to verified signatures and statements, or why evidence is not accepted.
//!
//! * [`Material`]: the input, a bundle or a layer in one of cosign's older layouts
//! * `bundle`, `cosign_legacy`: parse each format into the same form
//! * `signed`: verifies that form in numbered steps
//! * `certificate`, `log`, `timestamp`, `signature`: the checks of each step
//! * [`Anchor`]: a key (`key`) or a `trust_root`, under which the checks are made
//! * [`KeyRing`]: many keys, among which the one that signed is found in one pass
//! * `chain`, `content`: certificates and signed content, before they are verified
//! * `identity`, `pipeline`: who signed, and which pipeline that is
//! * `statement`, `predicate`: the content of a verified envelope
//! * [`VerifiedSignature`], [`VerifiedStatement`]: the results, which only this module can make
//!
//! Sizes and counts are limited before anything is verified. No clock is read, so a result stays valid; the rules decide whether
//! its times are acceptable.

mod anchor;
mod bundle;
mod certificate;
mod chain;
mod claim;
mod content;
mod cosign_legacy;
mod identity;
mod key;
mod key_ring;
mod log;
mod material;
mod pipeline;
pub mod predicate;
#[cfg(test)]
mod samples;
mod signature;
mod signed;
mod statement;
mod timestamp;
mod trust_root;
pub mod unaccepted;
mod verified;
mod weight;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use jiff::{SignedDuration, Timestamp};

use crate::gate::Digest;
use chain::Chain;
use signed::Signed;

pub use anchor::{Anchor, AnchorId};
pub use claim::Claim;
pub use content::Artifact;
pub use identity::{CertificateIdentity, Signer, SignerName};
pub use key::{KeyError, KeyFingerprint, PublicKey};
pub use key_ring::KeyRing;
pub use material::Material;
pub use pipeline::Pipeline;
pub(crate) use pipeline::workflow;
pub use trust_root::{TrustRoot, TrustRootError};
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
/// Why the evidence is not accepted. A panic in a verification library is reported as `malformed`.
pub fn verify(
    material: &Material,
    subject: &Digest,
    anchor: &Anchor,
) -> Result<Verified, UnacceptedReason> {
    contained(|| {
        let (signed, artifact) = parse(material, subject)?;
        let Material::SimpleSigning { payload, .. } = material else {
            return statement_or_signature(&signed, subject, anchor);
        };
        let checked = signed.verify(artifact, anchor)?;
        Ok(Verified::Signature(VerifiedSignature {
            annotations: cosign_legacy::simple_signing(payload, subject)?,
            form: SignatureForm::SimpleSigning,
            by: checked.into_origin(subject, anchor),
        }))
    })
}

/// Parses a piece of evidence about `subject`. Returns it with the artifact that it is a signature of.
fn parse<'a>(
    material: &'a Material,
    subject: &'a Digest,
) -> Result<(Signed, Artifact<'a>), UnacceptedReason> {
    Ok(match material {
        Material::Bundle(bytes) => (bundle::parse(bytes)?, Artifact::Digest(subject)),
        Material::Attestation {
            envelope,
            annotations,
        } => (
            cosign_legacy::attestation(envelope, annotations)?,
            Artifact::Digest(subject),
        ),
        Material::SimpleSigning {
            payload,
            annotations,
        } => (
            cosign_legacy::signature(annotations)?,
            Artifact::Bytes(payload),
        ),
    })
}

/// A verified signature of an artifact of any kind.
#[derive(Clone, Debug)]
pub struct ArtifactSignature {
    /// The signer.
    pub signer: Signer,
    /// The public record of the signature.
    pub transparency: Transparency,
    /// The verified times; may be empty.
    pub times: Vec<VerifiedTime>,
    /// Why some log entries and timestamps were ignored.
    pub ignored: Vec<UnacceptedReason>,
    /// Whether the trust root lists logs together with the authority that issued the certificate.
    pub has_logs: bool,
}

/// Verifies a bundle about any artifact. The caller decides whether the public record is sufficient.
///
/// # Errors
/// Why the bundle is not accepted.
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

/// Verifies a signer's certificate by itself, before its key has signed anything: an authority of the root issued it, its issuance
/// was logged if the root names logs of certificates, and it is valid now. `tolerance` is how far the clock that says `now` may be
/// from the authority's. A signature needs verified times besides ([`verify`]).
///
/// # Errors
/// Why the certificate is not accepted.
pub fn verify_certificate(
    der: &[u8],
    root: &TrustRoot,
    now: Timestamp,
    tolerance: SignedDuration,
) -> Result<CertificateIdentity, UnacceptedReason> {
    contained(|| {
        let at = certificate::valid_near(der, now, tolerance)?;
        let chain = Chain {
            leaf: der.to_vec(),
            intermediates: Vec::new(),
        };
        signed::under_one_root(root, |root| root.certify(&chain, &[at]), |()| ())?;
        CertificateIdentity::read(der)
    })
}

/// Functions that only the fuzz targets call directly.
#[cfg(fuzzing)]
pub mod fuzzing {
    use super::{CertificateIdentity, UnacceptedReason};

    /// Reads a certificate that was not verified.
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
            by: checked.into_origin(subject, anchor),
        }));
    };
    if statement.predicate_type == COSIGN_SIGN {
        return Ok(Verified::Signature(VerifiedSignature {
            annotations: statement.annotations_of(subject)?,
            form: SignatureForm::CosignBundle,
            by: checked.into_origin(subject, anchor),
        }));
    }
    Ok(Verified::Statement(VerifiedStatement {
        predicate_type: statement.predicate_type.clone(),
        digest: statement.digest.clone(),
        predicate: statement.into_predicate()?,
        by: checked.into_origin(subject, anchor),
    }))
}

/// Runs `work`, and turns a panic into a refusal.
fn contained<T>(work: impl FnOnce() -> Result<T, UnacceptedReason>) -> Result<T, UnacceptedReason> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(UnacceptedReason::new(
            unaccepted::MALFORMED,
            "the verification library failed on this evidence",
        ))
    })
}
