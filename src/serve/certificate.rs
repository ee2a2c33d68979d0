//! The webhook's certificate, and the authorities that its clients are verified by, as their files say now. A broken edit leaves
//! the last good ones in use.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use x509_cert::Certificate as X509;
use x509_cert::der::asn1::{PrintableStringRef, Utf8StringRef};
use x509_cert::der::oid::db::rfc4519::COMMON_NAME;
use x509_cert::der::{Decode as _, Tag, Tagged as _};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::metrics::Metrics;

/// Which clients may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    /// The authorities of their certificates (PEM).
    pub authorities: PathBuf,
    /// The names that certificates may carry, as common name or alternative name; any name where there are none.
    pub names: Vec<String>,
}

/// The webhook's certificate, as it is now.
#[derive(Clone)]
pub(super) struct Certificate {
    files: SnapshotFiles,
    current: Arc<ArcSwap<ServerConfig>>,
    seen: Arc<Mutex<Seen>>,
    replaced: watch::Sender<()>,
}

#[derive(Clone)]
struct SnapshotFiles {
    chain: PathBuf,
    key: PathBuf,
    clients: Option<Clients>,
}

/// Digests over what was read.
#[derive(PartialEq, Eq)]
struct Seen {
    identity: Vec<u8>,
    authorities: Vec<u8>,
}

/// What a connection begins with.
pub(super) struct Tls {
    pub(super) config: Arc<ServerConfig>,
    /// Whether a client that passes the handshake is known.
    pub(super) verifies_clients: bool,
    /// Changes when the authorities that clients are verified by do.
    pub(super) replaced: watch::Receiver<()>,
}

impl Certificate {
    /// Loads a certificate chain and its key (PEM), and what clients are verified by.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn load(
        chain: &Path,
        key: &Path,
        clients: Option<Clients>,
    ) -> anyhow::Result<Certificate> {
        let files = SnapshotFiles {
            chain: chain.to_owned(),
            key: key.to_owned(),
            clients,
        };
        let seen = files.look()?;
        Ok(Certificate {
            current: Arc::new(ArcSwap::new(files.server_config()?)),
            files,
            seen: Arc::new(Mutex::new(seen)),
            replaced: watch::channel(()).0,
        })
    }

    /// What the next connection uses.
    pub(super) fn current(&self) -> Tls {
        // Subscribed first, so that no connection misses a change between the two.
        let replaced = self.replaced.subscribe();
        Tls {
            config: self.current.load_full(),
            verifies_clients: self.files.clients.is_some(),
            replaced,
        }
    }

    fn look(&self, metrics: &Metrics) -> anyhow::Result<()> {
        let now = self.files.look()?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == now {
            return Ok(());
        }
        self.current.store(self.files.server_config()?);
        if seen.authorities != now.authorities {
            self.replaced.send_replace(());
            tracing::info!("clients are verified by the new authorities");
        }
        *seen = now;
        metrics.certificate_reloads.inc();
        tracing::info!("the new certificate is in use");
        Ok(())
    }
}

/// Looks at the certificate again and again. Connections that are open keep the one that they began with; those that were
/// verified by authorities that are replaced end.
pub(super) async fn certificate(certificate: Certificate, metrics: Arc<Metrics>, every: Duration) {
    let mut said = String::new();
    loop {
        tokio::time::sleep(every).await;
        let looked = certificate.look(&metrics);
        metrics.certificate_broken.set(i64::from(looked.is_err()));
        match looked {
            Ok(()) => said.clear(),
            Err(error) => {
                let error = format!("{error:#}");
                if error != said {
                    tracing::error!(
                        error,
                        "the new certificate cannot be used; the old one stays"
                    );
                    said = error;
                }
            }
        }
    }
}

impl SnapshotFiles {
    fn look(&self) -> anyhow::Result<Seen> {
        let authorities = self.clients.as_ref().map(|clients| &*clients.authorities);
        Ok(Seen {
            identity: digest([&*self.chain, &*self.key])?,
            authorities: digest(authorities)?,
        })
    }

    fn server_config(&self) -> anyhow::Result<Arc<ServerConfig>> {
        let private = PrivateKeyDer::from_pem_file(&self.key)
            .with_context(|| format!("`{}` holds no usable key", self.key.display()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .context("TLS cannot be set up")?;
        let builder = match &self.clients {
            None => builder.with_no_client_auth(),
            Some(clients) => builder.with_client_cert_verifier(clients.verifier(provider)?),
        };
        let mut config = builder
            .with_single_cert(certificates(&self.chain)?, private)
            .context("certificate and key do not belong together")?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if self.clients.is_some() {
            // A resumed session would not be verified again.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Arc::new(config))
    }
}

impl Clients {
    fn verifier(
        &self,
        provider: Arc<CryptoProvider>,
    ) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
        let mut roots = RootCertStore::empty();
        for authority in certificates(&self.authorities)? {
            roots.add(authority).with_context(|| {
                let file = self.authorities.display();
                format!("`{file}` holds a certificate that cannot be an authority")
            })?;
        }
        let chain = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .context("clients cannot be verified")?;
        let names = self.names.clone();
        Ok(Arc::new(NamedClients { chain, names }))
    }
}

fn certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let shown = file.display();
    let certificates: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .with_context(|| format!("`{shown}` holds no usable certificates"))?;
    ensure!(!certificates.is_empty(), "`{shown}` holds no certificate");
    Ok(certificates)
}

fn digest<'a>(files: impl IntoIterator<Item = &'a Path>) -> anyhow::Result<Vec<u8>> {
    let mut hash = Sha256::new();
    for file in files {
        let bytes = std::fs::read(file);
        hash.update(bytes.with_context(|| format!("`{}` cannot be read", file.display()))?);
        hash.update([0]);
    }
    Ok(hash.finalize().to_vec())
}

/// Verifies chains, and that a certificate carries an accepted name.
struct NamedClients {
    chain: Arc<dyn ClientCertVerifier>,
    names: Vec<String>,
}

impl fmt::Debug for NamedClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedClients")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

impl ClientCertVerifier for NamedClients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = (self.chain).verify_client_cert(end_entity, intermediates, now)?;
        let accepted = |name: &String| self.names.contains(name);
        if self.names.is_empty() || names(end_entity).iter().any(accepted) {
            Ok(verified)
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        (self.chain).verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        (self.chain).verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// The common names and the alternative names of a certificate.
fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = X509::from_der(certificate) else {
        return Vec::new();
    };
    let certificate = certificate.tbs_certificate;
    let parts = certificate.subject.0.iter().flat_map(|part| part.0.iter());
    let mut names: Vec<_> = parts
        .filter(|part| part.oid == COMMON_NAME)
        .filter_map(|part| match part.value.tag() {
            Tag::Utf8String => {
                let text = part.value.decode_as::<Utf8StringRef<'_>>().ok()?;
                Some(text.as_str().to_owned())
            }
            Tag::PrintableString => {
                let text = part.value.decode_as::<PrintableStringRef<'_>>().ok()?;
                Some(text.as_str().to_owned())
            }
            _ => None,
        })
        .collect();
    if let Ok(Some((_, SubjectAltName(alternative)))) = certificate.get::<SubjectAltName>() {
        names.extend(alternative.iter().filter_map(|name| match name {
            GeneralName::DnsName(name) | GeneralName::Rfc822Name(name) => Some(name.to_string()),
            GeneralName::UniformResourceIdentifier(name) => Some(name.to_string()),
            _ => None,
        }));
    }
    names
}
