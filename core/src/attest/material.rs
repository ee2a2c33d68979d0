//! A piece of evidence as it was found: bytes that nothing is known about yet.

use std::collections::BTreeMap;

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
