//! What something is verified under: a trust root, named by its content, or a key, with or without a root for its log.

use std::fmt;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use sigstore_crypto::{Keyring, VerificationKey};
use sigstore_trust_root::trusted_root::{CertChain, CertificateEntry};
use sigstore_trust_root::{
    SIGSTORE_GITHUB_TRUSTED_ROOT, SIGSTORE_PRODUCTION_TRUSTED_ROOT, TrustedRoot,
};
use sigstore_types::{DerPublicKey, TimeRange, TsaAuthority};
use x509_cert::der::asn1::AnyRef;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::spki::SubjectPublicKeyInfoRef;

use super::certificate::{Authority, CertificateLogs, LOG_SCHEMES};
use super::signature::{RSA, VerifyingKey};
use crate::gate::Digest;

/// The largest `trusted_root.json` that is read, in bytes.
const MAXIMUM_ROOT: usize = 1 << 20;
/// The longest PEM that is read, in bytes.
const MAXIMUM_PEM: usize = 16 << 10;

/// What something is verified under.
#[derive(Clone, Debug)]
pub enum Anchor {
    /// A trust root: certificate authorities, logs and timestamp authorities.
    Root(Arc<TrustRoot>),
    /// A managed key.
    Key {
        /// The key.
        key: Arc<PublicKey>,
        /// Whose log entries and timestamps count; without one, nothing but the key does.
        root: Option<Arc<TrustRoot>>,
    },
}

/// Names an anchor by its content.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AnchorId {
    key: Option<KeyFingerprint>,
    root: Option<Arc<str>>,
}

impl Anchor {
    /// Names the anchor by its content.
    pub fn id(&self) -> AnchorId {
        let (key, root) = match self {
            Anchor::Root(root) => (None, Some(root)),
            Anchor::Key { key, root } => (Some(key), root.as_ref()),
        };
        AnchorId {
            key: key.map(|key| key.fingerprint.clone()),
            root: root.map(|root| Arc::clone(&root.id)),
        }
    }
}

impl AnchorId {
    /// Whether it names this key, or none, under this trust root, or none.
    pub(crate) fn is(&self, key: Option<&PublicKey>, root: Option<&TrustRoot>) -> bool {
        self.key.as_ref() == key.map(|key| &key.fingerprint)
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

/// A trust root (`trusted_root.json` of the Sigstore protobuf specifications).
pub struct TrustRoot {
    name: String,
    id: Arc<str>,
    has_logs: bool,
    pub(super) authorities: Vec<Authority>,
    pub(super) has_certificate_logs: bool,
    pub(super) certificate_logs: CertificateLogs,
    pub(super) log_keys: Keyring,
    pub(super) timestamp_authorities: Vec<TsaAuthority>,
}

/// Why a trust root cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the trust root `{name}` cannot be used: {why}")]
pub struct TrustRootError {
    name: String,
    why: String,
}

impl TrustRoot {
    /// Parses a `trusted_root.json`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(name: &str, json: &[u8]) -> Result<TrustRoot, TrustRootError> {
        let refused = |why: String| TrustRootError {
            name: name.to_owned(),
            why,
        };
        if json.len() > MAXIMUM_ROOT {
            return Err(refused(format!("it is larger than {MAXIMUM_ROOT} bytes")));
        }
        let text =
            std::str::from_utf8(json).map_err(|_| refused("it is not UTF-8 text".to_owned()))?;
        let root = TrustedRoot::from_json(text).map_err(|error| refused(error.to_string()))?;
        if root.certificate_authorities.is_empty()
            && root.tlogs.is_empty()
            && root.timestamp_authorities.is_empty()
        {
            return Err(refused(
                "it trusts nobody: no certificate authority, log or timestamp authority".to_owned(),
            ));
        }
        let windows = (root.tlogs.iter().map(|log| log.public_key.valid_for))
            .chain(root.ctlogs.iter().map(|log| log.public_key.valid_for))
            .chain(root.certificate_authorities.iter().map(|ca| ca.valid_for))
            .chain(root.timestamp_authorities.iter().map(|tsa| tsa.valid_for));
        if windows.flatten().any(ends_before_it_starts) {
            return Err(refused(
                "a time of validity ends before it starts".to_owned(),
            ));
        }
        for log in &root.tlogs {
            VerificationKey::from_spki(&log.public_key.raw_bytes)
                .map_err(|error| refused(format!("the key of a log: {error}")))?;
        }
        let certificate_logs = LOG_SCHEMES.into_iter().map(|scheme| {
            let keys = root.ctfe_keys(scheme)?;
            Ok((scheme, keys))
        });
        let certificate_logs: CertificateLogs = certificate_logs
            .collect::<Result<_, sigstore_trust_root::Error>>()
            .map_err(|error| refused(error.to_string()))?;
        let known = |log: &sigstore_types::LogId| {
            certificate_logs.iter().any(|(_, keys)| {
                sigstore_types::Sha256Hash::try_from(log.key_id.as_bytes())
                    .is_ok_and(|id| keys.key(&id).is_some())
            })
        };
        if !root.ctlogs.iter().all(|log| known(&log.log_id)) {
            return Err(refused(
                "the key of a log of certificates is of no kind that is known".to_owned(),
            ));
        }
        let mut authorities = Vec::new();
        for ca in &root.certificate_authorities {
            for anchor in trust_anchors(&ca.cert_chain).map_err(&refused)? {
                authorities.push((anchor, ca.valid_for));
            }
        }
        let mut timestamp_authorities = Vec::new();
        for tsa in &root.timestamp_authorities {
            trust_anchors(&tsa.cert_chain).map_err(&refused)?;
            timestamp_authorities.extend(timestamp_authority(&tsa.cert_chain, tsa.valid_for));
        }
        Ok(TrustRoot {
            name: name.to_owned(),
            id: Digest::sha256(json).hex().into(),
            has_logs: !root.tlogs.is_empty(),
            authorities,
            has_certificate_logs: !root.ctlogs.is_empty(),
            certificate_logs,
            log_keys: root
                .rekor_keys()
                .map_err(|error| refused(error.to_string()))?,
            timestamp_authorities,
        })
    }

    /// The public-good instance of Sigstore, as it was when this version was built.
    ///
    /// # Errors
    /// None that depends on anything outside this program.
    pub fn public_good() -> Result<TrustRoot, TrustRootError> {
        TrustRoot::parse("sigstore", SIGSTORE_PRODUCTION_TRUSTED_ROOT.as_bytes())
    }

    /// GitHub's own instance, which signs what private repositories attest; it lists no logs, so that timestamps stand
    /// alone. As it was when this version was built.
    ///
    /// # Errors
    /// None that depends on anything outside this program.
    pub fn github() -> Result<TrustRoot, TrustRootError> {
        TrustRoot::parse("github", SIGSTORE_GITHUB_TRUSTED_ROOT.as_bytes())
    }

    /// The name that policies use.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it lists transparency logs.
    pub fn has_logs(&self) -> bool {
        self.has_logs
    }
}

fn ends_before_it_starts(window: TimeRange) -> bool {
    window.end.is_some_and(|end| end < window.start)
}

/// Every certificate of an authority's chain can end a path, so that intermediates need not travel with what was signed.
fn trust_anchors(chain: &CertChain) -> Result<Vec<rustls_pki_types::TrustAnchor<'static>>, String> {
    if chain.certificates.is_empty() {
        return Err("an authority has no certificate".to_owned());
    }
    let anchor = |entry: &CertificateEntry| {
        let der = CertificateDer::from(entry.raw_bytes.as_bytes());
        webpki::anchor_from_trusted_cert(&der)
            .map(|anchor| anchor.to_owned())
            .map_err(|error| format!("the certificate of an authority: {error}"))
    };
    chain.certificates.iter().map(anchor).collect()
}

fn timestamp_authority(chain: &CertChain, valid_for: Option<TimeRange>) -> Option<TsaAuthority> {
    let (leaf, intermediates, root) = match chain.certificates.as_slice() {
        [] => return None,
        [only] => (only, &[][..], only),
        [leaf, intermediates @ .., root] => (leaf, intermediates, root),
    };
    let intermediates = intermediates
        .iter()
        .map(|entry| entry.raw_bytes.clone())
        .collect();
    Some(TsaAuthority::new(
        leaf.raw_bytes.clone(),
        intermediates,
        root.raw_bytes.clone(),
        valid_for,
    ))
}

impl fmt::Debug for TrustRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustRoot({}, {})", self.name, self.id)
    }
}

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
    #[error("this is not a public key in PEM (`-----BEGIN PUBLIC KEY-----`): {0}")]
    NotPem(String),
    /// Another algorithm or size.
    #[error(
        "a key of this kind is not accepted: {0}; accepted are ECDSA P-256, P-384 and P-521, RSA 2048 to 4096, Ed25519"
    )]
    NotAccepted(String),
}

impl PublicKey {
    /// Parses a public key in PEM.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_pem(pem: &str) -> Result<PublicKey, KeyError> {
        if pem.len() > MAXIMUM_PEM || pem.matches("-----BEGIN").count() > 1 {
            return Err(KeyError::NotPem("expected one key".to_owned()));
        }
        if pem.contains("PRIVATE KEY") {
            return Err(KeyError::NotPem(
                "this is a private key; it belongs nowhere near a policy".to_owned(),
            ));
        }
        let spki = DerPublicKey::from_pem(pem.trim())
            .map_err(|error| KeyError::NotPem(error.to_string()))?;
        let spki = spki.as_bytes().to_vec();
        Ok(PublicKey {
            verifying: VerifyingKey::from_spki(&spki).map_err(KeyError::NotAccepted)?,
            fingerprint: KeyFingerprint::of(&spki),
            spki,
        })
    }

    /// Names the key.
    pub fn fingerprint(&self) -> &KeyFingerprint {
        &self.fingerprint
    }
}

impl KeyFingerprint {
    /// Of a `SubjectPublicKeyInfo` in DER.
    pub(super) fn of(spki: &[u8]) -> KeyFingerprint {
        let written = with_rsa_parameters(spki);
        let spki = written.as_deref().unwrap_or(spki);
        KeyFingerprint(Digest::sha256(spki).to_string().into())
    }
}

/// RSA keys are written with NULL parameters (RFC 3279, 2.3.1), and by some tools without any: that is one key, and one
/// signer.
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

impl fmt::Display for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_roots_can_be_used_and_githubs_lists_no_logs() {
        let sigstore = TrustRoot::public_good().unwrap();
        assert_eq!((sigstore.name(), sigstore.has_logs()), ("sigstore", true));
        let github = TrustRoot::github().unwrap();
        assert_eq!((github.name(), github.has_logs()), ("github", false));
    }

    #[test]
    fn a_root_that_trusts_nobody_or_cannot_be_read_is_refused() {
        let empty = r#"{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}"#;
        for json in [empty, "", "[]", "{\"tlogs\": 7}"] {
            let error = TrustRoot::parse("ours", json.as_bytes()).unwrap_err();
            assert!(error.to_string().contains("`ours`"), "{error}");
        }
        TrustRoot::parse("ours", &vec![b' '; MAXIMUM_ROOT + 1]).unwrap_err();
    }

    #[test]
    fn a_root_as_large_as_is_read_can_be_used_and_a_larger_one_not() {
        let mut json = SIGSTORE_PRODUCTION_TRUSTED_ROOT.as_bytes().to_vec();
        json.resize(MAXIMUM_ROOT, b' ');
        TrustRoot::parse("ours", &json).unwrap();
        json.push(b' ');
        let refused = TrustRoot::parse("ours", &json).unwrap_err();
        assert!(refused.to_string().contains("larger"), "{refused}");
    }

    fn changed(change: impl FnOnce(&mut serde_json::Value)) -> Result<TrustRoot, TrustRootError> {
        let mut root = serde_json::from_str(SIGSTORE_PRODUCTION_TRUSTED_ROOT).unwrap();
        change(&mut root);
        TrustRoot::parse("ours", root.to_string().as_bytes())
    }

    #[test]
    fn a_root_that_trusts_one_kind_of_authority_can_be_used() {
        const KINDS: [&str; 3] = ["tlogs", "certificateAuthorities", "timestampAuthorities"];
        for kept in KINDS {
            let root = changed(|root| {
                for kind in KINDS.iter().filter(|kind| **kind != kept) {
                    root[kind] = serde_json::json!([]);
                }
            });
            assert_eq!(root.unwrap().has_logs(), kept == "tlogs", "{kept}");
        }
    }

    #[test]
    fn a_time_of_validity_may_last_a_moment_and_never_ends_before_it_starts() {
        let start = "2024-01-01T00:00:01Z";
        for (end, usable) in [
            ("2024-01-01T00:00:00Z", false),
            (start, true),
            ("2024-01-01T00:00:02Z", true),
        ] {
            let window = serde_json::json!({"start": start, "end": end});
            let log = changed(|root| root["tlogs"][0]["publicKey"]["validFor"] = window.clone());
            let authority = changed(|root| root["certificateAuthorities"][0]["validFor"] = window);
            assert_eq!([log.is_ok(), authority.is_ok()], [usable; 2], "{end}");
        }
    }

    #[test]
    fn a_key_is_one_pem_that_is_not_too_long_and_holds_no_private_key() {
        let [certificate, _] = super::super::samples::authorities();
        let spki = super::super::certificate::public_key_of(&certificate).unwrap();
        let pem = super::super::samples::pem("PUBLIC KEY", &spki);
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
        let [certificate, _] = super::super::samples::authorities();
        let spki = super::super::certificate::public_key_of(&certificate).unwrap();
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

    #[test]
    fn an_anchor_is_named_by_its_content_and_shown_by_it() {
        let [certificate, _] = super::super::samples::authorities();
        let spki = super::super::certificate::public_key_of(&certificate).unwrap();
        let pem = super::super::samples::pem("PUBLIC KEY", &spki);
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
