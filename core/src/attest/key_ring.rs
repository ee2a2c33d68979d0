//! The keys of many anchors: which of them signed is found in one pass over the evidence, parsed and hashed once.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use super::anchor::Anchor;
use super::key::{KeyFingerprint, PublicKey};
use super::material::Material;
use super::{contained, parse};
use crate::gate::Digest;

/// Keys that evidence may be signed with, each once.
#[derive(Clone, Debug)]
pub struct KeyRing {
    keys: Vec<Arc<PublicKey>>,
    id: OnceLock<Digest>,
}

impl KeyRing {
    /// The keys of these anchors, in the order of their fingerprints.
    pub fn of<'a>(anchors: impl Iterator<Item = &'a Anchor>) -> KeyRing {
        let keys = anchors.filter_map(|anchor| match anchor {
            Anchor::Key { key, .. } => Some((key.fingerprint(), key)),
            Anchor::Root(_) => None,
        });
        let keys: BTreeMap<_, _> = keys.collect();
        KeyRing {
            keys: keys.into_values().map(Arc::clone).collect(),
            id: OnceLock::new(),
        }
    }

    /// The identifier of the ring: the hash of its keys.
    pub fn id(&self) -> &Digest {
        self.id.get_or_init(|| {
            let mut written = String::new();
            for key in &self.keys {
                // Writing to a text does not fail.
                let _ = writeln!(written, "{}", key.fingerprint());
            }
            Digest::sha256(written.as_bytes())
        })
    }

    /// The number of keys.
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// The key that made the signature of this evidence about `subject`. A key that the evidence names is tried first; a wrong
    /// name hides nothing. Nothing else is verified, so only [`verify`](super::verify) under the key says whether the evidence
    /// is accepted. `None` also if the evidence cannot be read.
    pub fn signer(&self, material: &Material, subject: &Digest) -> Option<KeyFingerprint> {
        let signer = contained(|| {
            let (signed, artifact) = parse(material, subject)?;
            let keys = self.keys.iter().map(Arc::as_ref);
            signed.signer_among(artifact, keys)
        });
        Some(signer.ok()??.fingerprint().clone())
    }
}
