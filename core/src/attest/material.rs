//! A piece of evidence as it was found: bytes that nothing is known about yet.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

/// A piece of evidence as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Material {
    /// A Sigstore bundle.
    Bundle(Vec<u8>),
    /// A layer of cosign's `.sig` manifest: the payload, and the layer's annotations.
    SimpleSigning {
        /// The payload that was signed.
        payload: Vec<u8>,
        /// The annotations, in which signature, certificate and log entry stand.
        annotations: BTreeMap<String, String>,
    },
    /// A layer of cosign's `.att` manifest: the envelope, and the layer's annotations.
    Attestation {
        /// The DSSE envelope.
        envelope: Vec<u8>,
        /// The annotations, in which certificate and log entry stand.
        annotations: BTreeMap<String, String>,
    },
}

impl Material {
    /// A hash over everything that verification looks at, in hexadecimal digits.
    pub fn hash(&self) -> String {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(bytes);
        };
        let (kind, bytes, annotations): (&[u8], _, _) = match self {
            Material::Bundle(bytes) => (b"bundle", bytes, None),
            Material::SimpleSigning {
                payload,
                annotations,
            } => (b"simplesigning", payload, Some(annotations)),
            Material::Attestation {
                envelope,
                annotations,
            } => (b"attestation", envelope, Some(annotations)),
        };
        part(kind);
        part(bytes);
        for (key, value) in annotations.into_iter().flatten() {
            part(key.as_bytes());
            part(value.as_bytes());
        }
        hex::encode(hash.finalize())
    }
}
