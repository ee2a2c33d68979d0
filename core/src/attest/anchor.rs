//! Anchors, under which evidence is verified: a trust root, or a key with an optional trust root for its log.

use std::fmt;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use sigstore_trust_root::trusted_root::{CertChain, CertificateAuthority, PublicKey as WrittenKey};
use sigstore_trust_root::{
    SIGSTORE_GITHUB_TRUSTED_ROOT, SIGSTORE_PRODUCTION_TRUSTED_ROOT, TrustedRoot,
};
use sigstore_types::{DerPublicKey, LogId, Sha256Hash, TimeRange, TsaAuthority};
use x509_cert::der::asn1::AnyRef;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::spki::SubjectPublicKeyInfoRef;

use super::certificate::{Authority, names_of};
use super::log::LogKey;
use super::signature::{RSA, VerifyingKey};
use super::trusted_root;
use crate::gate::Digest;

/// The largest `trusted_root.json`, in bytes.
const MAXIMUM_ROOT: usize = 1 << 20;
/// The longest PEM of a key, in bytes.
const MAXIMUM_PEM: usize = 16 << 10;

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
            key: key.map(|key| key.fingerprint.clone()),
            root: root.map(|root| Arc::clone(&root.id)),
        }
    }
}

impl AnchorId {
    /// Whether the anchor is a key, and not this one.
    pub fn is_of_another_key(&self, key: &KeyFingerprint) -> bool {
        self.key.as_ref().is_some_and(|own| own != key)
    }

    /// Whether this is the identifier of exactly this key and trust root; `None` means without one.
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

/// A trust root (`trusted_root.json` of the Sigstore protobuf specifications), or several in one file.
pub struct TrustRoot {
    name: String,
    id: Arc<str>,
    pub(super) instances: Vec<Arc<Instance>>,
}

/// One root of a file. Its logs and timestamp authorities do not count for certificates of another root.
pub(super) struct Instance {
    pub(super) authorities: Vec<Authority>,
    pub(super) certificate_logs: Vec<LogKey>,
    pub(super) log_keys: Vec<LogKey>,
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
    /// Parses one `trusted_root.json`, or several in one file. Evidence must be valid under a single one of them.
    ///
    /// # Errors
    /// Why the file cannot be used.
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
        let roots = trusted_root::read(text).map_err(&refused)?;
        let several = roots.len() > 1;
        let instances = roots.iter().enumerate().map(|(at, root)| {
            let root = Instance::new(root).map(Arc::new);
            root.map_err(|why| match several {
                true => format!("root {} of the file: {why}", at + 1),
                false => why,
            })
        });
        Ok(TrustRoot {
            name: name.to_owned(),
            id: Digest::sha256(json).hex().into(),
            instances: instances.collect::<Result<_, _>>().map_err(&refused)?,
        })
    }

    /// The trust root of Sigstore's public-good instance, from the time when this version was built.
    ///
    /// # Errors
    /// Never for the embedded file, which a test parses.
    pub fn public_good() -> Result<TrustRoot, TrustRootError> {
        TrustRoot::parse("sigstore", SIGSTORE_PRODUCTION_TRUSTED_ROOT.as_bytes())
    }

    /// The trust root of GitHub's own Sigstore instance, from the time when this version was built. It signs attestations of
    /// private repositories, with timestamps and without a log.
    ///
    /// # Errors
    /// Never for the embedded file, which a test parses.
    pub fn github() -> Result<TrustRoot, TrustRootError> {
        TrustRoot::parse("github", SIGSTORE_GITHUB_TRUSTED_ROOT.as_bytes())
    }

    /// The name that policies use.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the trust root lists transparency logs.
    pub fn has_logs(&self) -> bool {
        self.instances.iter().any(|root| root.has_logs())
    }

    /// Whether the trust root lists certificate authorities.
    pub fn has_certificate_authorities(&self) -> bool {
        let mut roots = self.instances.iter();
        roots.any(|root| !root.authorities.is_empty())
    }

    /// Whether the trust root lists timestamp authorities.
    pub fn has_timestamp_authorities(&self) -> bool {
        let mut roots = self.instances.iter();
        roots.any(|root| !root.timestamp_authorities.is_empty())
    }

    /// A trust root that accepts evidence under either of the two, but not under a mixture of them.
    #[must_use]
    pub fn or(&self, other: &TrustRoot) -> TrustRoot {
        let both = format!("{}{}", self.id, other.id);
        let instances = self.instances.iter().chain(&other.instances);
        TrustRoot {
            name: self.name.clone(),
            id: Digest::sha256(both.as_bytes()).hex().into(),
            instances: instances.map(Arc::clone).collect(),
        }
    }
}

impl Instance {
    fn new(root: &TrustedRoot) -> Result<Instance, String> {
        let windows = (root.tlogs.iter().map(|log| log.public_key.valid_for))
            .chain(root.ctlogs.iter().map(|log| log.public_key.valid_for))
            .chain(root.certificate_authorities.iter().map(|ca| ca.valid_for))
            .chain(root.timestamp_authorities.iter().map(|tsa| tsa.valid_for));
        if windows.flatten().any(ends_before_it_starts) {
            return Err("a time of validity ends before it starts".to_owned());
        }
        let tlogs = root.tlogs.iter();
        let tlogs = tlogs.map(|log| (&log.base_url, &log.log_id, &log.public_key));
        let ctlogs = root.ctlogs.iter();
        let ctlogs = ctlogs.map(|log| (&log.base_url, &log.log_id, &log.public_key));
        let authority = |ca: &CertificateAuthority| {
            let chain = ca.cert_chain.certificates.iter();
            let chain: Vec<_> = chain.map(|entry| entry.raw_bytes.as_bytes()).collect();
            Authority::new(&chain, ca.valid_for)
                .map_err(|why| format!("the certificate authority `{}`: {why}", ca.uri))
        };
        let mut timestamp_authorities = Vec::new();
        for tsa in &root.timestamp_authorities {
            check_certificates(&tsa.cert_chain)?;
            timestamp_authorities.extend(timestamp_authority(&tsa.cert_chain, tsa.valid_for));
        }
        let authorities = root.certificate_authorities.iter();
        Ok(Instance {
            authorities: authorities.map(authority).collect::<Result<_, String>>()?,
            certificate_logs: log_keys("ctlogs", ctlogs)?,
            log_keys: log_keys("tlogs", tlogs)?,
            timestamp_authorities,
        })
    }

    /// Whether the root lists transparency logs. Signatures with certificates of its authorities then need a log entry.
    pub(super) fn has_logs(&self) -> bool {
        !self.log_keys.is_empty()
    }
}

/// Parses the keys of a list of logs; `list` is its field, for errors.
fn log_keys<'a>(
    list: &str,
    logs: impl Iterator<Item = (&'a String, &'a LogId, &'a WrittenKey)>,
) -> Result<Vec<LogKey>, String> {
    let key = |(at, (url, id, key)): (usize, (&String, &LogId, &WrittenKey))| {
        let refused = |why: String| format!("the log `{list}[{at}]` (`{url}`): {why}");
        Ok(LogKey {
            id: Sha256Hash::try_from(id.key_id.as_bytes())
                .map_err(|error| refused(format!("the log id is not valid: {error}")))?,
            key: VerifyingKey::of_log(key.raw_bytes.as_bytes()).map_err(|why| {
                refused(format!(
                    "the kind of key is not supported: {why}; supported are ECDSA P-256, P-384 and P-521, RSA 2048 \
                     to 8192, Ed25519 and ML-DSA"
                ))
            })?,
            valid_for: key.valid_for,
        })
    };
    logs.enumerate().map(key).collect()
}

fn ends_before_it_starts(window: TimeRange) -> bool {
    window.end.is_some_and(|end| end < window.start)
}

fn check_certificates(chain: &CertChain) -> Result<(), String> {
    if chain.certificates.is_empty() {
        return Err("a timestamp authority does not have a certificate".to_owned());
    }
    for entry in &chain.certificates {
        let der = CertificateDer::from(entry.raw_bytes.as_bytes());
        webpki::anchor_from_trusted_cert(&der).map_err(|error| {
            format!("the certificate of a timestamp authority cannot be used: {error}")
        })?;
    }
    Ok(())
}

/// The leaf, intermediates and root of a timestamp authority. The leaf did not issue another certificate of the chain, and no
/// other certificate of the chain issued the root. If that does not identify them, the order of the specification counts: the
/// leaf first, the root last.
fn timestamp_authority(chain: &CertChain, valid_for: Option<TimeRange>) -> Option<TsaAuthority> {
    let mut certificates: Vec<_> = chain
        .certificates
        .iter()
        .map(|entry| &entry.raw_bytes)
        .collect();
    let names: Vec<_> = certificates
        .iter()
        .map(|der| names_of(der.as_bytes()))
        .collect::<Option<_>>()
        .unwrap_or_default();
    let at = |found: &dyn Fn(usize) -> bool| {
        let mut places = (0..names.len()).filter(|at| found(*at));
        places.next().filter(|_| places.next().is_none())
    };
    let others = |at: usize| {
        let numbered = names.iter().enumerate();
        numbered.filter(move |(other, _)| *other != at)
    };
    let of = |at: usize| names.get(at);
    let leaf = at(&|at| {
        of(at).is_some_and(|(subject, _)| others(at).all(|(_, (_, issuer))| issuer != subject))
    });
    let root = at(&|at| {
        of(at).is_some_and(|(subject, issuer)| {
            subject == issuer || others(at).all(|(_, (subject, _))| subject != issuer)
        })
    });
    if let (Some(leaf), Some(root)) = (leaf, root)
        && leaf != root
    {
        let rank = |at: usize| match at {
            at if at == leaf => 0,
            at if at == root => 2,
            _ => 1,
        };
        let mut ranked: Vec<_> = certificates.into_iter().enumerate().collect();
        ranked.sort_by_key(|(at, _)| rank(*at));
        certificates = ranked.into_iter().map(|(_, der)| der).collect();
    }
    let (leaf, intermediates, root) = match certificates.as_slice() {
        [] => return None,
        [only] => (only, &[][..], only),
        [leaf, intermediates @ .., root] => (leaf, intermediates, root),
    };
    let intermediates = intermediates.iter().map(|der| (*der).clone()).collect();
    Some(TsaAuthority::new(
        (*leaf).clone(),
        intermediates,
        (*root).clone(),
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

impl fmt::Display for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn the_built_in_roots_can_be_used_and_githubs_lists_no_logs() {
        let sigstore = TrustRoot::public_good().unwrap();
        assert_eq!((sigstore.name(), sigstore.has_logs()), ("sigstore", true));
        let github = TrustRoot::github().unwrap();
        assert_eq!((github.name(), github.has_logs()), ("github", false));
    }

    #[test]
    fn an_unreadable_or_empty_trust_root_is_refused() {
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

    #[test]
    fn a_root_loads_as_proto3_json_may_write_it() {
        let sparse = |root: &mut serde_json::Value| {
            for list in ["tlogs", "ctlogs"] {
                for log in root[list].as_array_mut().unwrap() {
                    let log = log.as_object_mut().unwrap();
                    log.remove("baseUrl");
                    log.insert("hashAlgorithm".to_owned(), serde_json::json!(1));
                    let id = log.remove("logId").unwrap();
                    log.insert("log_id".to_owned(), id);
                    let key = log["publicKey"].as_object_mut().unwrap();
                    key.remove("keyDetails");
                    key.insert("keyDetails".to_owned(), serde_json::json!(5));
                }
            }
            for list in ["certificateAuthorities", "timestampAuthorities"] {
                for authority in root[list].as_array_mut().unwrap() {
                    let authority = authority.as_object_mut().unwrap();
                    authority.remove("uri");
                    authority.insert("subject".to_owned(), serde_json::Value::Null);
                    authority.insert("validFor".to_owned(), serde_json::json!({}));
                }
            }
            root["tlogs"][0]["hashAlgorithm"] = serde_json::Value::Null;
            root["tlogs"][0]["publicKey"]["keyDetails"] = serde_json::Value::Null;
            root["tlogs"][0]["publicKey"]["validFor"]["end"] =
                serde_json::json!("9999-12-31T23:59:59Z");
            root["certificateAuthorities"][0]["validFor"] =
                serde_json::json!({"start": null, "end": "2023-01-01T00:00:00Z"});
            let authorities = root["timestampAuthorities"].take();
            let fields = root.as_object_mut().unwrap();
            fields.remove("timestampAuthorities");
            fields.insert("timestamp_authorities".to_owned(), authorities);
        };
        let (whole, root) = (TrustRoot::public_good().unwrap(), changed(sparse).unwrap());
        let counts = |root: &TrustRoot| {
            let counts = |instance: &Instance| {
                [
                    instance.authorities.len(),
                    instance.log_keys.len(),
                    instance.timestamp_authorities.len(),
                ]
            };
            let roots = root.instances.iter();
            roots.map(|root| counts(root)).collect::<Vec<_>>()
        };
        assert_eq!(counts(&root), counts(&whole));
    }

    #[test]
    fn an_ambiguous_trust_root_is_refused_with_the_place() {
        type Change = fn(&mut serde_json::Value);
        let changes: [(Change, &str); 8] = [
            (
                |root| root["tlogs"][0]["publicKey"]["validFor"] = serde_json::json!({}),
                "`tlogs[0].publicKey.validFor` does not have a `start`",
            ),
            (
                |root| {
                    let end = "2023-01-01T00:00:00Z";
                    root["ctlogs"][0]["publicKey"]["validFor"] = serde_json::json!({"end": end});
                },
                "`ctlogs[0].publicKey.validFor` does not have a `start`",
            ),
            (
                |root| root["certificateAuthorities"][1]["ValidFor"] = serde_json::json!({}),
                "`certificateAuthorities[1].validFor` is spelled `ValidFor`",
            ),
            (
                |root| root["certificateAuthorities"][1]["valid_for"] = serde_json::json!({}),
                "`certificateAuthorities[1].validFor` appears twice",
            ),
            (
                |root| root["tlogs"][0]["publicKey"]["rawBytes"] = serde_json::Value::Null,
                "`tlogs[0].publicKey.rawBytes` is missing",
            ),
            (
                |root| root["tlogs"][0]["hashAlgorithm"] = serde_json::json!(9),
                "`tlogs[0].hashAlgorithm` is `9`",
            ),
            (
                |root| {
                    root["certificateAuthorities"][0]["validFor"]["start"] =
                        serde_json::json!("yesterday");
                },
                "`certificateAuthorities[0].validFor.start` is not a time",
            ),
            (
                |root| root["timestampAuthorities"] = serde_json::json!({}),
                "`timestampAuthorities` is not a list",
            ),
        ];
        for (change, place) in changes {
            let refused = changed(change).unwrap_err().to_string();
            assert!(refused.contains(place), "{refused}");
        }
    }

    /// `gh attestation trusted-root` writes the roots of both of its instances.
    #[test]
    fn several_trust_roots_in_one_file_stay_separate() {
        let line = |root: &str| {
            let root: serde_json::Value = serde_json::from_str(root).unwrap();
            root.to_string()
        };
        let (first, second) = (
            line(SIGSTORE_PRODUCTION_TRUSTED_ROOT),
            line(SIGSTORE_GITHUB_TRUSTED_ROOT),
        );
        let (sigstore, github) = (
            TrustRoot::public_good().unwrap(),
            TrustRoot::github().unwrap(),
        );
        let counts = |instance: &Instance| {
            [
                instance.log_keys.len(),
                instance.authorities.len(),
                instance.timestamp_authorities.len(),
            ]
        };
        for (written, roots) in [
            (format!("{first}\n{second}\n"), [&sigstore, &github]),
            (format!("{second}\r\n\n{first}"), [&github, &sigstore]),
        ] {
            let both = TrustRoot::parse("both", written.as_bytes()).unwrap();
            assert!(both.has_logs());
            let found: Vec<_> = both.instances.iter().map(|root| counts(root)).collect();
            let wanted = roots.map(|root| counts(&root.instances[0]));
            assert_eq!(found, wanted);
        }
        for (written, why) in [
            (
                format!("{first}\n{{}}"),
                "the root on line 2: `mediaType` is missing",
            ),
            (
                format!("{first}\n\n[]"),
                "the root on line 3: it is not an object",
            ),
            (format!("{first}\n{first}x"), "not JSON"),
            (format!("{first}\n").repeat(17), "more than 16"),
        ] {
            let refused = TrustRoot::parse("both", written.as_bytes()).unwrap_err();
            assert!(refused.to_string().contains(why), "{refused}");
        }
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
    fn a_log_whose_key_cannot_be_verified_is_named() {
        let curve = |oid: &str| {
            let oid = x509_cert::der::oid::ObjectIdentifier::new_unwrap(oid);
            let [certificate, _] = super::super::samples::authorities();
            let spki = super::super::certificate::public_key_of(&certificate).unwrap();
            let mut written = SubjectPublicKeyInfoRef::from_der(&spki).unwrap();
            let parameters = oid.to_der().unwrap();
            written.algorithm.parameters = Some(AnyRef::from_der(&parameters).unwrap());
            STANDARD.encode(written.to_der().unwrap())
        };
        let (known, unknown) = (curve("1.3.132.0.35"), curve("1.3.132.0.10"));
        for (list, url) in [("tlogs", "rekor"), ("ctlogs", "ctfe")] {
            let with = |key: &str| {
                changed(|root| {
                    root[list][0]["publicKey"]["rawBytes"] = serde_json::json!(key);
                    root[list][0]["publicKey"]["keyDetails"] = serde_json::json!("OF_LATER");
                })
            };
            with(&known).unwrap();
            let refused = with(&unknown).unwrap_err().to_string();
            assert!(
                refused.contains(&format!("the log `{list}[0]`")),
                "{refused}"
            );
            assert!(refused.contains(url), "{refused}");
            assert!(refused.contains("another curve"), "{refused}");
        }
    }

    #[test]
    fn a_validity_never_ends_before_it_starts() {
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
    fn a_key_is_one_short_pem_without_a_private_key() {
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
