//! Anchors, under which evidence is verified: a trust root, or a key with an optional trust root for its log.

use std::fmt;
use std::sync::Arc;

use super::key::{KeyFingerprint, PublicKey};
use super::trust_root::TrustRoot;

/// The trust root or key under which evidence is verified.
#[derive(Clone, Debug)]
pub enum Anchor {
    /// A trust root: certificate authorities, logs and timestamp authorities.
    Root(Arc<TrustRoot>),
    /// A managed key.
    Key {
        /// The key.
        key: Arc<PublicKey>,
        /// The trust root for log entries and timestamps. Without one, they are not verified and do not count.
        root: Option<Arc<TrustRoot>>,
    },
}

/// The identifier of an anchor: the hashes of its key and trust root.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AnchorId {
    key: Option<KeyFingerprint>,
    root: Option<Arc<str>>,
}

impl Anchor {
    /// The identifier of the anchor, from its content.
    pub fn id(&self) -> AnchorId {
        let (key, root) = match self {
            Anchor::Root(root) => (None, Some(root)),
            Anchor::Key { key, root } => (Some(key), root.as_ref()),
        };
        AnchorId {
            key: key.map(|key| key.fingerprint().clone()),
            root: root.map(|root| Arc::clone(&root.id)),
        }
    }
}

impl AnchorId {
    /// Whether the anchor is a key, and not this one.
    pub fn is_of_another_key(&self, key: &KeyFingerprint) -> bool {
        self.key.as_ref().is_some_and(|own| own != key)
    }

    /// Whether the anchor is a key.
    pub fn is_of_key(&self) -> bool {
        self.key.is_some()
    }

    /// The hash of the trust root; `None` for a key without one.
    pub fn root(&self) -> Option<&str> {
        self.root.as_deref()
    }

    /// Whether this is the identifier of this trust root, with or without a key.
    pub(crate) fn is_under(&self, root: &TrustRoot) -> bool {
        self.root.as_ref() == Some(&root.id)
    }

    /// Whether this is the identifier of exactly this key and trust root; `None` means without one.
    pub(crate) fn is(&self, key: Option<&PublicKey>, root: Option<&TrustRoot>) -> bool {
        self.key.as_ref() == key.map(PublicKey::fingerprint)
            && self.root.as_ref() == root.map(|root| &root.id)
    }
}

impl fmt::Display for AnchorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.key, &self.root) {
            (Some(key), Some(root)) => write!(f, "key:{key}+root:{root}"),
            (Some(key), None) => write!(f, "key:{key}"),
            (None, root) => write!(f, "root:{}", root.as_deref().unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use sigstore_trust_root::SIGSTORE_GITHUB_TRUSTED_ROOT;

    use super::super::chain::public_key_of;
    use super::super::samples::{authorities, pem};
    use super::*;
    use crate::gate::Digest;

    #[test]
    fn an_anchor_is_named_by_its_content_and_shown_by_it() {
        let [certificate, _] = authorities();
        let spki = public_key_of(&certificate).unwrap();
        let pem = pem("PUBLIC KEY", &spki);
        let key = || Arc::new(PublicKey::from_pem(&pem).unwrap());
        let root = || Arc::new(TrustRoot::github().unwrap());
        let of_key = format!("key:{}", Digest::sha256(&spki));
        let bytes = SIGSTORE_GITHUB_TRUSTED_ROOT.as_bytes();
        let of_root = format!("root:{}", Digest::sha256(bytes).hex());
        let alone = Anchor::Key {
            key: key(),
            root: None,
        };
        let both = Anchor::Key {
            key: key(),
            root: Some(root()),
        };
        for (anchor, shown) in [
            (Anchor::Root(root()), of_root.clone()),
            (alone, of_key.clone()),
            (both, format!("{of_key}+{of_root}")),
        ] {
            assert_eq!(anchor.id().to_string(), shown);
        }
    }
}
