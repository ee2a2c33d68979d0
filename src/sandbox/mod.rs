//! A throwaway Sigstore (certificate authority, transparency log, timestamp authority), and a registry with images. Everything
//! that it makes is verified in full, by the same code as real evidence. For `quickstart` and the tests.

mod authority;
mod image;
mod log;
mod loopback;
pub mod registry;
mod review;
mod services;
mod signing;
mod timestamp;
mod tls;

pub use authority::SandboxIdentity;
pub use image::{attach_attestations, attach_bundle, attach_signatures, push_image, push_index};
pub use registry::SandboxRegistry;
pub use review::admission_review;
pub use services::TimestampServer;
pub use signing::{
    Curve, EnvelopeEntry, SandboxKey, SandboxSigner, Signing, SimpleSignature, statement_digest,
};
pub use tls::TlsIdentity;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use rcgen::{KeyPair, PublicKeyData as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use authority::SandboxAuthority;
use log::Log;
use timestamp::TimestampAuthority;

/// How long before its creation a sandbox counts as trusted, so that tests can sign in the past.
const PAST: SignedDuration = SignedDuration::from_hours(24 * 365);

/// The sandbox could not make something.
#[derive(Debug, thiserror::Error)]
#[error("the sandbox could not make it: {0}")]
pub struct SandboxError(String);

impl SandboxError {
    fn of(error: impl std::fmt::Display) -> SandboxError {
        SandboxError(error.to_string())
    }
}

impl From<rcgen::Error> for SandboxError {
    fn from(error: rcgen::Error) -> SandboxError {
        SandboxError::of(error)
    }
}

impl From<der::Error> for SandboxError {
    fn from(error: der::Error) -> SandboxError {
        SandboxError::of(error)
    }
}

/// Everything that keyless signing needs. Only trust roots of this sandbox accept its signatures.
pub struct Sigstore {
    authority: SandboxAuthority,
    log: Log,
    timestamps: TimestampAuthority,
    created: Timestamp,
}

impl Sigstore {
    /// Makes a sandbox whose keys exist in memory only.
    ///
    /// # Errors
    /// If the machine has no randomness.
    pub fn create() -> Result<Sigstore, SandboxError> {
        Ok(Sigstore {
            authority: SandboxAuthority::create()?,
            log: Log::create()?,
            timestamps: TimestampAuthority::create()?,
            created: Timestamp::now(),
        })
    }

    /// The trust root that accepts what is signed here: a `trusted_root.json` of the Sigstore protobuf specifications.
    pub fn trusted_root(&self) -> Value {
        self.trusted_root_since(self.created.saturating_sub(PAST).unwrap_or(self.created))
    }

    /// The same trust root, valid since another time.
    pub fn trusted_root_since(&self, since: Timestamp) -> Value {
        json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log_key(&self.log.key, "log", since)],
            "certificateAuthorities": [self.authority.described(since)],
            "ctlogs": [self.authority.certificate_log(since)],
            "timestampAuthorities": [self.timestamps.described(since)],
        })
    }

    /// The certificate (DER) that issues, as if its validity had ended at a time.
    ///
    /// # Errors
    /// If the sandbox cannot make it.
    pub fn intermediate_until(&self, end: Timestamp) -> Result<Vec<u8>, SandboxError> {
        self.authority.ended(end)
    }

    /// The certificate (DER) that is trusted, as if its validity had ended at a time.
    ///
    /// # Errors
    /// If the sandbox cannot make it.
    pub fn root_until(&self, end: Timestamp) -> Result<Vec<u8>, SandboxError> {
        self.authority.root_ended(end)
    }

    /// The certificate (DER) that is trusted, with a path length of `most`.
    ///
    /// # Errors
    /// If the sandbox cannot make it.
    pub fn root_above(&self, most: u8) -> Result<Vec<u8>, SandboxError> {
        self.authority.root_above(most)
    }

    /// A timestamp token over some bytes (RFC 3161).
    ///
    /// # Errors
    /// If the sandbox cannot make it.
    pub fn stamp(&self, bytes: &[u8], at: Timestamp) -> Result<Vec<u8>, SandboxError> {
        self.timestamps.stamp(&Sha256::digest(bytes), at)
    }

    /// Signs now, with a log entry and a timestamp.
    pub fn signing(&self) -> Signing<'_> {
        Signing::new(self)
    }
}

fn valid_since(since: Timestamp) -> Value {
    json!({"start": format!("{since:.0}")})
}

/// A log in the form of a trusted root.
fn log_key(key: &KeyPair, what: &str, since: Timestamp) -> Value {
    json!({
        "baseUrl": format!("https://{what}.sandbox.invalid"),
        "hashAlgorithm": "SHA2_256",
        "publicKey": {
            "rawBytes": STANDARD.encode(spki(key)),
            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
            "validFor": valid_since(since),
        },
        "logId": {"keyId": STANDARD.encode(Sha256::digest(spki(key)))},
    })
}

/// An authority in the form of a trusted root.
fn authority_of(chain: &[&[u8]], what: &str, valid_for: Value) -> Value {
    let certificates: Vec<_> = chain
        .iter()
        .map(|der| json!({"rawBytes": STANDARD.encode(der)}))
        .collect();
    json!({
        "subject": {"organization": "promotion-gate sandbox", "commonName": what},
        "uri": format!("https://{what}.sandbox.invalid"),
        "certChain": {"certificates": certificates},
        "validFor": valid_for,
    })
}

/// The public key (DER, `SubjectPublicKeyInfo`).
fn spki(key: &KeyPair) -> Vec<u8> {
    key.subject_public_key_info()
}
