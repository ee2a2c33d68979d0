//! A piece of evidence as it was fetched, before it is parsed or verified.

use std::collections::BTreeMap;

/// A piece of evidence as it was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Material {
    /// A Sigstore bundle.
    Bundle(Vec<u8>),
    /// A layer of cosign's `.sig` manifest.
    SimpleSigning {
        /// The signed payload.
        payload: Vec<u8>,
        /// The annotations of the layer, with signature, certificate and log entry.
        annotations: BTreeMap<String, String>,
    },
    /// A layer of cosign's `.att` manifest.
    Attestation {
        /// The DSSE envelope.
        envelope: Vec<u8>,
        /// The annotations of the layer, with certificate and log entry.
        annotations: BTreeMap<String, String>,
    },
}
