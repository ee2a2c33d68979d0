//! Public keys, and the signature schemes that are accepted for each kind of key: ECDSA over P-256, P-384 and P-521, RSA
//! (PKCS#1 v1.5 and PSS) of 2048 to 4096 bits, Ed25519. The key of a log may also be RSA of up to 8192 bits, or ML-DSA.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::ops::RangeInclusive;

use aws_lc_rs::digest::{self, Digest, SHA256, SHA384, SHA512};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA384_ASN1,
    ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_FIXED,
    ECDSA_P521_SHA256_ASN1, ECDSA_P521_SHA384_ASN1, ECDSA_P521_SHA512_ASN1,
    ECDSA_P521_SHA512_FIXED, ED25519, ML_DSA_44, ML_DSA_65, ML_DSA_87, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, UnparsedPublicKey, VerificationAlgorithm,
};
use x509_cert::der::asn1::UintRef;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode as _, Reader as _, SliceReader};
use x509_cert::spki::SubjectPublicKeyInfoRef;

const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
pub(super) const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ED25519_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const ML_DSA_44_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.17");
const ML_DSA_65_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.18");
const ML_DSA_87_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.19");
/// The sizes of the RSA keys of signers, in bits.
const RSA_BITS: RangeInclusive<usize> = 2048..=4096;
/// The sizes of the RSA keys of logs, in bits.
const LOG_RSA_BITS: RangeInclusive<usize> = 2048..=8192;

/// A kind of key. Several schemes are tried for it: cosign up to version 2 signs with SHA-256 on every curve, and the formats do
/// not name the padding of an RSA signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    P256,
    P384,
    P521,
    Rsa,
    Ed25519,
    MlDsa44,
    MlDsa65,
    MlDsa87,
}

/// A scheme, and the hash of the message that it verifies; `None` if it verifies the message itself.
type Scheme = (&'static dyn VerificationAlgorithm, Option<Hash>);

/// The hash functions of the schemes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Algorithm {
    fn schemes(self) -> &'static [Scheme] {
        const SHA_256: Option<Hash> = Some(Hash::Sha256);
        const SHA_384: Option<Hash> = Some(Hash::Sha384);
        const SHA_512: Option<Hash> = Some(Hash::Sha512);
        match self {
            // After DER the form of IEEE P1363 (the two numbers alone), in which some verifiers publish their summaries.
            Algorithm::P256 => &[
                (&ECDSA_P256_SHA256_ASN1, SHA_256),
                (&ECDSA_P256_SHA256_FIXED, SHA_256),
                (&ECDSA_P256_SHA384_ASN1, SHA_384),
            ],
            Algorithm::P384 => &[
                (&ECDSA_P384_SHA384_ASN1, SHA_384),
                (&ECDSA_P384_SHA384_FIXED, SHA_384),
                (&ECDSA_P384_SHA256_ASN1, SHA_256),
            ],
            Algorithm::P521 => &[
                (&ECDSA_P521_SHA512_ASN1, SHA_512),
                (&ECDSA_P521_SHA512_FIXED, SHA_512),
                (&ECDSA_P521_SHA256_ASN1, SHA_256),
                (&ECDSA_P521_SHA384_ASN1, SHA_384),
            ],
            Algorithm::Rsa => &[
                (&RSA_PKCS1_2048_8192_SHA256, SHA_256),
                (&RSA_PSS_2048_8192_SHA256, SHA_256),
                (&RSA_PKCS1_2048_8192_SHA512, SHA_512),
                (&RSA_PSS_2048_8192_SHA512, SHA_512),
                (&RSA_PKCS1_2048_8192_SHA384, SHA_384),
                (&RSA_PSS_2048_8192_SHA384, SHA_384),
            ],
            Algorithm::Ed25519 => &[(&ED25519, None)],
            Algorithm::MlDsa44 => &[(&ML_DSA_44, None)],
            Algorithm::MlDsa65 => &[(&ML_DSA_65, None)],
            Algorithm::MlDsa87 => &[(&ML_DSA_87, None)],
        }
    }
}

/// A public key, parsed for verification.
#[derive(Clone, Debug)]
pub(super) struct VerifyingKey {
    algorithm: Algorithm,
    /// `subjectPublicKey`.
    bytes: Vec<u8>,
}

/// A signed message. Each of its digests is computed once, however many keys are tried.
#[derive(Debug)]
pub(super) struct Message<'a> {
    /// `None` if only the SHA-256 digest is known.
    bytes: Option<Cow<'a, [u8]>>,
    sha256: OnceCell<Option<Digest>>,
    sha384: OnceCell<Option<Digest>>,
    sha512: OnceCell<Option<Digest>>,
}

impl<'a> Message<'a> {
    pub(super) fn of_bytes(bytes: impl Into<Cow<'a, [u8]>>) -> Message<'a> {
        Message {
            bytes: Some(bytes.into()),
            sha256: OnceCell::new(),
            sha384: OnceCell::new(),
            sha512: OnceCell::new(),
        }
    }

    /// A message of which only the SHA-256 digest is known.
    pub(super) fn of_sha256(digest: &[u8]) -> Message<'a> {
        let digest = Digest::import_less_safe(digest, &SHA256).ok();
        Message {
            bytes: None,
            sha256: OnceCell::from(digest),
            sha384: OnceCell::new(),
            sha512: OnceCell::new(),
        }
    }

    fn digest(&self, hash: Hash) -> Option<&Digest> {
        let (known, algorithm) = match hash {
            Hash::Sha256 => (&self.sha256, &SHA256),
            Hash::Sha384 => (&self.sha384, &SHA384),
            Hash::Sha512 => (&self.sha512, &SHA512),
        };
        let of = |bytes: &Cow<'_, [u8]>| digest::digest(algorithm, bytes);
        known.get_or_init(|| self.bytes.as_ref().map(of)).as_ref()
    }
}

impl VerifyingKey {
    /// The key of a signer, from its `SubjectPublicKeyInfo` in DER.
    ///
    /// # Errors
    /// Why the key is not accepted.
    pub(super) fn from_spki(der: &[u8]) -> Result<VerifyingKey, String> {
        let key = VerifyingKey::read(der)?;
        match key.algorithm {
            Algorithm::MlDsa44 | Algorithm::MlDsa65 | Algorithm::MlDsa87 => {
                Err("the algorithm is ML-DSA".to_owned())
            }
            _ => key.check_rsa_bits(RSA_BITS),
        }
    }

    /// The key of a log in a trust root: a `SubjectPublicKeyInfo` or a bare `RSAPublicKey`, in DER.
    ///
    /// # Errors
    /// Why the key is not supported.
    pub(super) fn of_log(der: &[u8]) -> Result<VerifyingKey, String> {
        let key = match modulus_bits(der) {
            Ok(_) => VerifyingKey {
                algorithm: Algorithm::Rsa,
                bytes: der.to_vec(),
            },
            Err(_) => VerifyingKey::read(der)?,
        };
        key.check_rsa_bits(LOG_RSA_BITS)
    }

    /// Refuses an RSA key of another size.
    fn check_rsa_bits(self, accepted: RangeInclusive<usize>) -> Result<VerifyingKey, String> {
        if self.algorithm == Algorithm::Rsa {
            let bits = modulus_bits(&self.bytes).map_err(|error| error.to_string())?;
            if !accepted.contains(&bits) {
                return Err(format!("the key is RSA of {bits} bits"));
            }
        }
        Ok(self)
    }

    /// Reads a `SubjectPublicKeyInfo` (RFC 5280, 4.1.2.7).
    fn read(der: &[u8]) -> Result<VerifyingKey, String> {
        let spki = SubjectPublicKeyInfoRef::from_der(der).map_err(|error| error.to_string())?;
        let bytes = spki
            .subject_public_key
            .as_bytes()
            .ok_or("the key is not a whole number of bytes")?;
        let parameters = spki.algorithm.parameters;
        let algorithm = match spki.algorithm.oid {
            EC => match spki.algorithm.parameters_oid() {
                Ok(P256) => Algorithm::P256,
                Ok(P384) => Algorithm::P384,
                Ok(P521) => Algorithm::P521,
                _ => return Err("the key is on another curve".to_owned()),
            },
            RSA if parameters.is_none_or(|parameters| parameters.is_null()) => Algorithm::Rsa,
            ED25519_KEY if parameters.is_none() => Algorithm::Ed25519,
            ML_DSA_44_KEY if parameters.is_none() => Algorithm::MlDsa44,
            ML_DSA_65_KEY if parameters.is_none() => Algorithm::MlDsa65,
            ML_DSA_87_KEY if parameters.is_none() => Algorithm::MlDsa87,
            other => return Err(format!("the algorithm is `{other}`")),
        };
        match algorithm {
            // Only uncompressed points are accepted (SEC 1, 2.3.3), as in certificates.
            Algorithm::P256 | Algorithm::P384 | Algorithm::P521 if bytes.first() != Some(&4) => {
                Err("the point is compressed".to_owned())
            }
            _ => Ok(VerifyingKey {
                algorithm,
                bytes: bytes.to_vec(),
            }),
        }
    }

    /// Whether the holder of the key signed the message.
    pub(super) fn signed(&self, message: &Message<'_>, signature: &[u8]) -> bool {
        let verifies = |(scheme, hash): &Scheme| {
            let key = UnparsedPublicKey::new(*scheme, &self.bytes);
            match (hash, &message.bytes) {
                (Some(hash), _) => (message.digest(*hash))
                    .is_some_and(|digest| key.verify_digest(digest, signature).is_ok()),
                (None, Some(bytes)) => key.verify(bytes, signature).is_ok(),
                (None, None) => false,
            }
        };
        self.algorithm.schemes().iter().any(verifies)
    }

    /// Whether a signature can be verified without the message, from its SHA-256 digest.
    pub(super) fn takes_sha256(&self) -> bool {
        let mut schemes = self.algorithm.schemes().iter();
        schemes.any(|(_, hash)| *hash == Some(Hash::Sha256))
    }
}

/// The size of an `RSAPublicKey` in bits (RFC 8017, A.1.1).
fn modulus_bits(bytes: &[u8]) -> x509_cert::der::Result<usize> {
    let mut reader = SliceReader::new(bytes)?;
    let bits = reader.sequence(|reader| {
        let modulus = UintRef::decode(reader)?;
        UintRef::decode(reader)?;
        let leading = modulus
            .as_bytes()
            .first()
            .map_or(0, |byte| byte.leading_zeros());
        Ok(modulus.as_bytes().len() * 8 - usize::try_from(leading).unwrap_or_default())
    })?;
    reader.finish(bits)
}

#[cfg(test)]
mod tests {
    use x509_cert::der::asn1::BitStringRef;
    use x509_cert::der::{AnyRef, Encode as _};
    use x509_cert::spki::AlgorithmIdentifierRef;

    use super::*;

    fn spki(oid: ObjectIdentifier, parameters: Option<&[u8]>, key: &[u8]) -> Vec<u8> {
        let parameters = parameters.map(|der| AnyRef::from_der(der).unwrap());
        let spki = SubjectPublicKeyInfoRef {
            algorithm: AlgorithmIdentifierRef { oid, parameters },
            subject_public_key: BitStringRef::from_bytes(key).unwrap(),
        };
        spki.to_der().unwrap()
    }

    /// An `RSAPublicKey` whose modulus has so many bits.
    fn rsa(bits: usize) -> Vec<u8> {
        let mut modulus = vec![0xff; bits.div_ceil(8)];
        modulus[0] = 0xff >> (modulus.len() * 8 - bits);
        let integers = [&modulus[..], &[1, 0, 1]].map(|bytes| UintRef::new(bytes).unwrap());
        integers.to_vec().to_der().unwrap()
    }

    #[test]
    fn log_keys_of_every_kind_verify_in_both_spellings() {
        const NULL: Option<&[u8]> = Some(&[5, 0]);
        let (p521, k256) = (P521, ObjectIdentifier::new_unwrap("1.3.132.0.10"));
        let [p521, k256] = [p521, k256].map(|curve| curve.to_der().unwrap());
        let point = [&[4], &[7; 132][..]].concat();
        for (name, der, refused, of_signer) in [
            ("P-521", spki(EC, Some(&p521), &point), None, true),
            ("RSA", spki(RSA, NULL, &rsa(2048)), None, true),
            ("PKCS#1", rsa(2048), None, false),
            ("long RSA", spki(RSA, NULL, &rsa(8192)), None, false),
            ("ML-DSA", spki(ML_DSA_65_KEY, None, &[7; 1952]), None, false),
            ("short PKCS#1", rsa(1024), Some("1024 bits"), false),
            (
                "too long RSA",
                spki(RSA, NULL, &rsa(8193)),
                Some("8193"),
                false,
            ),
            (
                "another curve",
                spki(EC, Some(&k256), &point),
                Some("another curve"),
                false,
            ),
        ] {
            let read = VerifyingKey::of_log(&der).err();
            match refused {
                Some(why) => assert!(read.is_some_and(|said| said.contains(why)), "{name}"),
                None => assert_eq!(read, None, "{name}"),
            }
            assert_eq!(VerifyingKey::from_spki(&der).is_ok(), of_signer, "{name}");
        }
    }

    #[test]
    fn keys_are_of_the_kinds_and_sizes_that_are_accepted() {
        const NULL: Option<&[u8]> = Some(&[5, 0]);
        let curve = P256.to_der().unwrap();
        let point = |first: u8| [&[first], &[7; 64][..]].concat();
        for (name, spki, refused) in [
            ("RSA", spki(RSA, NULL, &rsa(2048)), None),
            ("RSA", spki(RSA, None, &rsa(4096)), None),
            ("RSA", spki(RSA, NULL, &rsa(2047)), Some("2047 bits")),
            ("RSA", spki(RSA, NULL, &rsa(4097)), Some("4097 bits")),
            (
                "other RSA",
                spki(RSA, Some(&curve), &rsa(2048)),
                Some("algorithm"),
            ),
            ("Ed25519", spki(ED25519_KEY, None, &[7; 32]), None),
            (
                "other Ed25519",
                spki(ED25519_KEY, NULL, &[7; 32]),
                Some("algorithm"),
            ),
            ("P-256", spki(EC, Some(&curve), &point(4)), None),
            (
                "compressed",
                spki(EC, Some(&curve), &point(2)),
                Some("compressed"),
            ),
            ("no curve", spki(EC, None, &point(4)), Some("another curve")),
        ] {
            let read = VerifyingKey::from_spki(&spki);
            match refused {
                Some(why) => assert!(read.is_err_and(|said| said.contains(why)), "{name}"),
                None => assert!(read.is_ok(), "{name}"),
            }
        }
    }

    /// Some verifiers publish summaries with signatures of two numbers alone (IEEE P1363), and not in DER.
    #[test]
    fn an_ecdsa_signature_counts_in_der_and_as_two_numbers() {
        use aws_lc_rs::encoding::AsDer as _;
        use aws_lc_rs::rand::SystemRandom;
        use aws_lc_rs::signature::{
            ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING,
            ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
            ECDSA_P521_SHA512_ASN1_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair,
            KeyPair as _,
        };
        let random = SystemRandom::new();
        for (der, fixed) in [
            (
                &ECDSA_P256_SHA256_ASN1_SIGNING,
                &ECDSA_P256_SHA256_FIXED_SIGNING,
            ),
            (
                &ECDSA_P384_SHA384_ASN1_SIGNING,
                &ECDSA_P384_SHA384_FIXED_SIGNING,
            ),
            (
                &ECDSA_P521_SHA512_ASN1_SIGNING,
                &ECDSA_P521_SHA512_FIXED_SIGNING,
            ),
        ] {
            let private = EcdsaKeyPair::generate_pkcs8(der, &random).unwrap();
            let of = |form| EcdsaKeyPair::from_pkcs8(form, private.as_ref()).unwrap();
            let spki = of(der).public_key().as_der().unwrap();
            let key = VerifyingKey::from_spki(spki.as_ref()).unwrap();
            for form in [der, fixed] {
                let signature = of(form).sign(&random, b"message").unwrap();
                assert!(key.signed(&Message::of_bytes(&b"message"[..]), signature.as_ref()));
                assert!(!key.signed(&Message::of_bytes(&b"another"[..]), signature.as_ref()));
                let mut forged = signature.as_ref().to_vec();
                if let Some(last) = forged.last_mut() {
                    *last ^= 1;
                }
                assert!(!key.signed(&Message::of_bytes(&b"message"[..]), &forged));
                assert!(!key.signed(
                    &Message::of_bytes(&b"message"[..]),
                    &vec![0; signature.as_ref().len()]
                ));
            }
        }
    }
}
