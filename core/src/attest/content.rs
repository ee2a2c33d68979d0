//! What a signature is over, and the artifact that it must be about.

use sha2::{Digest as _, Sha256, Sha384, Sha512};
use sigstore_types::HashAlgorithm;

use super::unaccepted::{self, UnacceptedReason};
use crate::gate::Digest;

/// The signed content.
pub(super) enum Content {
    /// A DSSE envelope with an in-toto statement.
    Envelope {
        payload_type: String,
        payload: Vec<u8>,
        /// The bytes of the envelope, if it was found as bytes. The oldest log entries contain their hash.
        written: Option<Vec<u8>>,
    },
    /// The artifact, with its digest if the bundle names one.
    Message {
        digest: Option<(HashAlgorithm, Vec<u8>)>,
    },
}

/// The artifact that a signature must be about.
#[derive(Clone, Copy, Debug)]
pub enum Artifact<'a> {
    /// Its bytes.
    Bytes(&'a [u8]),
    /// Its SHA-256 digest.
    Digest(&'a Digest),
}

/// The artifact by its digest, with its bytes if they are known.
pub(super) struct SubjectDigest<'a> {
    pub(super) digest: Digest,
    pub(super) sha256: Vec<u8>,
    pub(super) bytes: Option<&'a [u8]>,
}

impl Content {
    /// The signed bytes of an envelope: its pre-authentication encoding (DSSE protocol, "Signature Definition"). Empty for a
    /// message.
    pub(super) fn signed_bytes(&self) -> Vec<u8> {
        match self {
            Content::Envelope {
                payload_type,
                payload,
                ..
            } => {
                let header = format!(
                    "DSSEv1 {} {payload_type} {} ",
                    payload_type.len(),
                    payload.len()
                );
                [header.as_bytes(), payload].concat()
            }
            Content::Message { .. } => Vec::new(),
        }
    }
}

impl<'a> SubjectDigest<'a> {
    /// The digest of the artifact by an algorithm.
    ///
    /// # Errors
    /// If the bytes are needed for this algorithm, but only the SHA-256 digest is known.
    pub(super) fn digest_by(&self, algorithm: HashAlgorithm) -> Result<Vec<u8>, UnacceptedReason> {
        match (algorithm, self.bytes) {
            (HashAlgorithm::Sha2256, _) => Ok(self.sha256.clone()),
            (HashAlgorithm::Sha2384, Some(bytes)) => Ok(Sha384::digest(bytes).to_vec()),
            (HashAlgorithm::Sha2512, Some(bytes)) => Ok(Sha512::digest(bytes).to_vec()),
            _ => {
                let detail = format!(
                    "it names the artifact by its `{algorithm}` digest, but only the artifact's SHA-256 digest is known"
                );
                Err(UnacceptedReason::new(
                    unaccepted::FORMAT_NOT_SUPPORTED,
                    detail,
                ))
            }
        }
    }

    pub(super) fn of(artifact: Artifact<'a>) -> Result<SubjectDigest<'a>, UnacceptedReason> {
        match artifact {
            Artifact::Bytes(bytes) => Ok(SubjectDigest {
                digest: Digest::sha256(bytes),
                sha256: Sha256::digest(bytes).to_vec(),
                bytes: Some(bytes),
            }),
            Artifact::Digest(digest) if digest.algorithm() == "sha256" => Ok(SubjectDigest {
                digest: digest.clone(),
                sha256: hex::decode(digest.hex()).unwrap_or_default(),
                bytes: None,
            }),
            Artifact::Digest(digest) => {
                let algorithm = digest.algorithm();
                let detail = format!("evidence about `{algorithm}` digests is not supported");
                Err(UnacceptedReason::new(
                    unaccepted::FORMAT_NOT_SUPPORTED,
                    detail,
                ))
            }
        }
    }
}
