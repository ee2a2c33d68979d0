//! Keys that sign: ECDSA P-256 and P-384, Ed25519.

use aws_lc_rs::digest::{SHA256, SHA384, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use promotion_gate_core::attest::PublicKey;
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKeyData as _,
    SigningKey as _,
};
use rustls_pki_types::PrivatePkcs8KeyDer;

use crate::encrypted_key;
use crate::error::SignError;

/// The largest key file.
const MAXIMUM_BYTES: usize = 64 << 10;

/// A private key.
pub struct SigningKey {
    pair: KeyPair,
    public: PublicKey,
}

/// What of a message is signed, as a log of version 2 names it.
pub(crate) struct Hashed {
    pub(crate) digest: Vec<u8>,
    pub(crate) key_details: &'static str,
}

impl SigningKey {
    /// Reads a private key in PEM: PKCS#8, or an encrypted key of cosign. `password` is asked for an encrypted key alone.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn from_pem(
        pem: &str,
        password: impl FnOnce() -> Result<String, String>,
    ) -> Result<SigningKey, SignError> {
        let refused = |why: &str| SignError::Unusable(format!("the key cannot be used: {why}"));
        if pem.len() > MAXIMUM_BYTES {
            return Err(refused("the file is too large"));
        }
        let (label, der) = decoded(pem).ok_or_else(|| {
            refused("expected one private key in PEM: `PRIVATE KEY` (PKCS#8), or a key of `cosign generate-key-pair`")
        })?;
        let pkcs8 = match label {
            "PRIVATE KEY" => der,
            "ENCRYPTED SIGSTORE PRIVATE KEY" | "ENCRYPTED COSIGN PRIVATE KEY" => {
                let password = password().map_err(|why| refused(&why))?;
                encrypted_key::decrypt(&der, &password).map_err(|why| refused(&why))?
            }
            "EC PRIVATE KEY" | "RSA PRIVATE KEY" => {
                return Err(refused(
                    "it is not in PKCS#8; convert it: `openssl pkcs8 -topk8 -nocrypt -in FILE -out NEW`",
                ));
            }
            "ENCRYPTED PRIVATE KEY" => {
                return Err(refused(
                    "encrypted PKCS#8 is not read; import it: `cosign import-key-pair --key FILE`",
                ));
            }
            "PUBLIC KEY" => {
                return Err(refused(
                    "it is a public key; name the file with the private key",
                ));
            }
            other => {
                return Err(refused(&format!(
                    "it is `{other:.60}`; expected `PRIVATE KEY` (PKCS#8), or a key of `cosign generate-key-pair`"
                )));
            }
        };
        let pair = KeyPair::try_from(&PrivatePkcs8KeyDer::from(pkcs8.as_slice()));
        let pair = pair.map_err(|error| refused(&format!("it is not a PKCS#8 key ({error})")))?;
        let supported = [
            &PKCS_ECDSA_P256_SHA256,
            &PKCS_ECDSA_P384_SHA384,
            &PKCS_ED25519,
        ];
        match supported.contains(&pair.algorithm()) {
            true => SigningKey::of(pair),
            false => Err(refused(
                "its kind is not supported; supported are ECDSA P-256 and P-384, Ed25519",
            )),
        }
    }

    /// A new key for one signature, on P-256.
    pub(crate) fn ephemeral() -> Result<SigningKey, SignError> {
        let pair = KeyPair::generate();
        let pair = pair.map_err(|_| {
            SignError::Unusable("no key can be made: the machine has no randomness".to_owned())
        })?;
        SigningKey::of(pair)
    }

    fn of(pair: KeyPair) -> Result<SigningKey, SignError> {
        let public = PublicKey::from_pem(&pair.public_key_pem());
        let public =
            public.map_err(|why| SignError::Unusable(format!("the key cannot be used: {why}")))?;
        Ok(SigningKey { pair, public })
    }

    /// The public key.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The public key in PEM.
    pub fn public_pem(&self) -> String {
        self.pair.public_key_pem().replace("\r\n", "\n")
    }

    pub(crate) fn pair(&self) -> &KeyPair {
        &self.pair
    }

    pub(crate) fn spki(&self) -> Vec<u8> {
        self.pair.subject_public_key_info()
    }

    pub(crate) fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, SignError> {
        let signed = self.pair.sign(bytes);
        signed.map_err(|error| SignError::Unusable(format!("the key does not sign: {error}")))
    }

    /// The digest that is signed; `None` for Ed25519, which signs the message itself.
    pub(crate) fn hashed(&self, bytes: &[u8]) -> Option<Hashed> {
        let (algorithm, key_details) = match self.pair.algorithm() {
            it if it == &PKCS_ECDSA_P256_SHA256 => (&SHA256, "PKIX_ECDSA_P256_SHA_256"),
            it if it == &PKCS_ECDSA_P384_SHA384 => (&SHA384, "PKIX_ECDSA_P384_SHA_384"),
            _ => return None,
        };
        Some(Hashed {
            digest: digest(algorithm, bytes).as_ref().to_vec(),
            key_details,
        })
    }
}

/// The label and the content of a PEM that holds exactly one thing.
pub(crate) fn decoded(pem: &str) -> Option<(&str, Vec<u8>)> {
    let (_, rest) = pem.trim().split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (body, rest) = rest.split_once("-----END ")?;
    let after = rest.strip_prefix(label)?.strip_prefix("-----")?;
    let body: String = body.split_ascii_whitespace().collect();
    after.trim().is_empty().then_some(())?;
    Some((label, STANDARD.decode(body).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_password() -> Result<String, String> {
        panic!("no password is needed")
    }

    #[test]
    fn keys_of_every_supported_kind_are_read_from_pkcs8() {
        for (algorithm, is_hashed) in [
            (&PKCS_ECDSA_P256_SHA256, Some(32)),
            (&PKCS_ECDSA_P384_SHA384, Some(48)),
            (&PKCS_ED25519, None),
        ] {
            let pair = KeyPair::generate_for(algorithm).unwrap();
            let key = SigningKey::from_pem(&pair.serialize_pem(), no_password).unwrap();
            assert_eq!(key.spki(), pair.subject_public_key_info());
            assert_eq!(key.hashed(b"x").map(|it| it.digest.len()), is_hashed);
            key.sign(b"x").unwrap();
        }
    }

    #[test]
    fn what_is_no_usable_key_is_refused_with_what_to_do() {
        let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
        let good = KeyPair::generate().unwrap();
        let renamed = |label: &str| good.serialize_pem().replace("PRIVATE KEY", label);
        for (pem, why) in [
            (String::new(), "expected one private key"),
            (other.serialize_pem(), "supported are"),
            (good.public_key_pem(), "public key"),
            (renamed("EC PRIVATE KEY"), "openssl pkcs8"),
            (renamed("ENCRYPTED PRIVATE KEY"), "import-key-pair"),
            (renamed("CERTIFICATE"), "`CERTIFICATE`"),
            (
                format!("{0}{0}", good.serialize_pem()),
                "expected one private key",
            ),
            ("x".repeat(MAXIMUM_BYTES + 1), "too large"),
        ] {
            let refused = SigningKey::from_pem(&pem, no_password)
                .err()
                .unwrap()
                .to_string();
            assert!(refused.contains(why), "{refused}");
        }
    }
}
