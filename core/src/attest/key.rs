//! Public keys that policies name, and their fingerprints.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sigstore_types::DerPublicKey;
use x509_cert::der::asn1::AnyRef;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::spki::SubjectPublicKeyInfoRef;

use super::signature::{RSA, VerifyingKey};
use crate::gate::{Digest, DigestError};

/// The longest PEM of a key, in bytes.
const MAXIMUM_PEM: usize = 16 << 10;

/// A public key: ECDSA P-256, P-384 or P-521, RSA 2048 to 4096, Ed25519.
#[derive(Clone)]
pub struct PublicKey {
    /// `SubjectPublicKeyInfo`, in DER.
    pub(super) spki: Vec<u8>,
    pub(super) verifying: VerifyingKey,
    fingerprint: KeyFingerprint,
}

/// The SHA-256 digest of a key's `SubjectPublicKeyInfo` (DER).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyFingerprint(Arc<str>);

/// Why a key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a public key in PEM.
    #[error("not a public key in PEM (`-----BEGIN PUBLIC KEY-----`): {0}")]
    NotPem(String),
    /// Another algorithm or size.
    #[error(
        "the kind of key is not supported: {0}; supported are ECDSA P-256, P-384 and P-521, RSA 2048 to 4096, Ed25519"
    )]
    UnacceptedEvidence(String),
}

impl PublicKey {
    /// Parses a public key in PEM.
    ///
    /// # Errors
    /// Why the key cannot be used.
    pub fn from_pem(pem: &str) -> Result<PublicKey, KeyError> {
        if pem.len() > MAXIMUM_PEM || pem.matches("-----BEGIN").count() > 1 {
            return Err(KeyError::NotPem("expected one key".to_owned()));
        }
        if pem.contains("PRIVATE KEY") {
            return Err(KeyError::NotPem(
                "it is a private key; keep it secret, and write the public key into the policy"
                    .to_owned(),
            ));
        }
        let spki = DerPublicKey::from_pem(pem.trim())
            .map_err(|error| KeyError::NotPem(error.to_string()))?;
        let spki = spki.as_bytes().to_vec();
        Ok(PublicKey {
            verifying: VerifyingKey::from_spki(&spki).map_err(KeyError::UnacceptedEvidence)?,
            fingerprint: KeyFingerprint::of(&spki),
            spki,
        })
    }

    /// The fingerprint, which identifies the key.
    pub fn fingerprint(&self) -> &KeyFingerprint {
        &self.fingerprint
    }
}

impl KeyFingerprint {
    /// The fingerprint of a `SubjectPublicKeyInfo` in DER.
    pub(super) fn of(spki: &[u8]) -> KeyFingerprint {
        let written = with_rsa_parameters(spki);
        let spki = written.as_deref().unwrap_or(spki);
        KeyFingerprint(Digest::sha256(spki).to_string().into())
    }

    /// The key that a hint names by the SHA-256 digest of its `SubjectPublicKeyInfo`: in base64, as cosign writes it, or in hex.
    pub(super) fn hinted(hint: &str) -> Option<KeyFingerprint> {
        let hex = match STANDARD.decode(hint) {
            Ok(digest) if digest.len() == 32 => hex::encode(digest),
            _ => hint.strip_prefix("sha256:").unwrap_or(hint).to_lowercase(),
        };
        let digest: Digest = format!("sha256:{hex}").parse().ok()?;
        Some(KeyFingerprint(digest.to_string().into()))
    }
}

/// Adds NULL parameters to an RSA key without parameters. RFC 3279, 2.3.1 requires them, but some tools leave them out; both forms
/// are one key and must count as one signer.
fn with_rsa_parameters(spki: &[u8]) -> Option<Vec<u8>> {
    let mut parsed = SubjectPublicKeyInfoRef::from_der(spki).ok()?;
    let lacks = parsed.algorithm.oid == RSA && parsed.algorithm.parameters.is_none();
    parsed.algorithm.parameters = Some(AnyRef::NULL);
    lacks.then(|| parsed.to_der().ok())?
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint)
    }
}

impl FromStr for KeyFingerprint {
    type Err = DigestError;

    /// Reads a fingerprint as it is shown: `sha256:` and 64 hexadecimal digits.
    fn from_str(text: &str) -> Result<KeyFingerprint, DigestError> {
        let digest: Digest = text.parse()?;
        match digest.algorithm() {
            "sha256" => Ok(KeyFingerprint(text.into())),
            _ => Err(DigestError(text.to_owned())),
        }
    }
}

impl fmt::Display for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::chain::public_key_of;
    use super::super::samples::{authorities, pem};
    use super::*;

    #[test]
    fn a_key_is_one_short_pem_without_a_private_key() {
        let [certificate, _] = authorities();
        let spki = public_key_of(&certificate).unwrap();
        let pem = pem("PUBLIC KEY", &spki);
        let longest = format!("{pem}{}", " ".repeat(MAXIMUM_PEM - pem.len()));
        assert_eq!(
            PublicKey::from_pem(&longest)
                .unwrap()
                .fingerprint()
                .to_string(),
            Digest::sha256(&spki).to_string()
        );
        for (text, why) in [
            (format!("{longest} "), "one key"),
            (format!("{pem}{pem}"), "one key"),
            (pem.replace("PUBLIC", "PRIVATE"), "private key"),
            (String::new(), "not a public key"),
        ] {
            let refused = PublicKey::from_pem(&text).unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn an_rsa_key_with_null_parameters_and_without_any_is_one_key() {
        let [certificate, _] = authorities();
        let spki = public_key_of(&certificate).unwrap();
        let named = |oid, parameters, key: &[u8]| {
            let mut key_of = SubjectPublicKeyInfoRef::from_der(&spki).unwrap();
            key_of.algorithm.oid = oid;
            key_of.algorithm.parameters = parameters;
            key_of.subject_public_key =
                x509_cert::der::asn1::BitStringRef::from_bytes(key).unwrap();
            KeyFingerprint::of(&key_of.to_der().unwrap())
        };
        let rsa = |parameters, key| named(RSA, parameters, key);
        assert_eq!(rsa(None, b"a"), rsa(Some(AnyRef::NULL), b"a"));
        assert_ne!(rsa(None, b"a"), rsa(None, b"b"));
        let other = x509_cert::der::oid::ObjectIdentifier::new_unwrap("1.3.101.112");
        assert_ne!(
            named(other, None, b"a"),
            named(other, Some(AnyRef::NULL), b"a")
        );
        let written = Digest::sha256(&spki).to_string();
        assert_eq!(KeyFingerprint::of(&spki).to_string(), written);
    }
}
