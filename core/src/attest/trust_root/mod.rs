//! Trust roots: the certificate authorities, logs and timestamp authorities under which evidence is verified.

mod authority;
mod log_key;
#[cfg(test)]
mod tests;
mod timestamp_authority;
mod written;

use std::fmt;
use std::sync::Arc;

use sigstore_trust_root::trusted_root::CertificateAuthority;
use sigstore_trust_root::{
    SIGSTORE_GITHUB_TRUSTED_ROOT, SIGSTORE_PRODUCTION_TRUSTED_ROOT, TrustedRoot,
};
use sigstore_types::{TimeRange, TsaAuthority};

use crate::gate::Digest;
use log_key::log_keys;
use timestamp_authority::{check_certificates, timestamp_authority};

pub(super) use authority::{Authority, CODE_SIGNING, issuer_at};
pub(super) use log_key::LogKey;

/// The largest `trusted_root.json`, in bytes.
const MAXIMUM_ROOT: usize = 1 << 20;

/// A trust root (`trusted_root.json` of the Sigstore protobuf specifications), or several in one file.
pub struct TrustRoot {
    name: String,
    pub(crate) id: Arc<str>,
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
        let roots = written::read(text).map_err(&refused)?;
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

    /// The SHA-256 digest of its file, in hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
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

fn ends_before_it_starts(window: TimeRange) -> bool {
    window.end.is_some_and(|end| end < window.start)
}

impl fmt::Debug for TrustRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustRoot({}, {})", self.name, self.id)
    }
}
