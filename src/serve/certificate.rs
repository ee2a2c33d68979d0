//! The webhook's certificate, and the authorities that its clients are verified by, as their files say now, or the Secret in which the
//! gate keeps certificates of its own. A broken edit leaves the last good ones in use.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use arc_swap::ArcSwapOption;
use jiff::Timestamp;
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

use crate::duties::{CertificateSecret, SelfManaged};
use crate::files::read_file;
use crate::metrics::Metrics;

/// The largest file that is read.
const MAXIMUM_FILE: u64 = 1 << 20;

/// Which clients may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    /// The authorities of their certificates (PEM).
    pub authorities: PathBuf,
    /// The names that certificates may carry, as common name or alternative name; any name where there are none.
    pub names: Vec<String>,
}

/// Where the webhook's certificate comes from.
#[derive(Clone, Debug)]
pub enum CertificateOptions {
    /// Files that somebody else writes (PEM).
    Files {
        /// The certificate chain.
        chain: PathBuf,
        /// Its key.
        key: PathBuf,
    },
    /// A Secret in which the gate keeps certificates that it makes itself.
    SelfManaged(CertificateSecret),
}

/// Where certificate and key are read.
pub(super) enum Source {
    Files { chain: PathBuf, key: PathBuf },
    SelfManaged(Arc<SelfManaged>),
}

/// The webhook's certificate, as it is now.
#[derive(Clone)]
pub(super) struct Certificate(Arc<State>);

struct State {
    source: Source,
    clients: Option<Clients>,
    current: ArcSwapOption<ServerConfig>,
    seen: Mutex<Option<Seen>>,
    problem: Mutex<Option<String>>,
    /// Whether there is a certificate.
    is_served: watch::Sender<bool>,
    replaced: watch::Sender<()>,
}

/// What is served.
struct Identity {
    chain: Vec<u8>,
    key: Vec<u8>,
    /// Where they come from, for messages.
    from: String,
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
    /// Loads the certificate and what clients are verified by. A certificate that the gate makes itself may come later.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn load(
        source: Source,
        clients: Option<Clients>,
        metrics: &Metrics,
    ) -> anyhow::Result<Certificate> {
        let certificate = Certificate(Arc::new(State {
            source,
            clients,
            current: ArcSwapOption::empty(),
            seen: Mutex::new(None),
            problem: Mutex::new(None),
            is_served: watch::channel(false).0,
            replaced: watch::channel(()).0,
        }));
        certificate.look(metrics)?;
        Ok(certificate)
    }

    /// What the next connection uses; `None` where no certificate is there yet.
    pub(super) fn current(&self) -> Option<Tls> {
        // Subscribed first, so that no connection misses a change between the two.
        let replaced = self.0.replaced.subscribe();
        Some(Tls {
            config: self.0.current.load_full()?,
            verifies_clients: self.0.clients.is_some(),
            replaced,
        })
    }

    /// Waits until there is a certificate.
    pub(super) async fn is_there(&self) {
        let mut is_served = self.0.is_served.subscribe();
        // Its sender lives as long as the certificate.
        let _ = is_served.wait_for(|is_served| *is_served).await;
    }

    /// Whether there is a certificate, and what is wrong with it.
    pub(super) fn readiness(&self) -> (bool, Option<String>) {
        let problem = self.0.problem.lock();
        let problem = problem.unwrap_or_else(PoisonError::into_inner).clone();
        let is_served = *self.0.is_served.borrow();
        let waits = || "no certificate is there yet".to_owned();
        (is_served, problem.or_else(|| (!is_served).then(waits)))
    }

    fn look(&self, metrics: &Metrics) -> anyhow::Result<()> {
        let State {
            source, clients, ..
        } = &*self.0;
        let Some(identity) = source.read()? else {
            return Ok(());
        };
        let authorities = match clients {
            Some(clients) => read(&clients.authorities)?,
            None => Vec::new(),
        };
        let now = Seen {
            identity: digest(&[&identity.chain, &identity.key]),
            authorities: digest(&[&authorities]),
        };
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.as_ref() == Some(&now) {
            return Ok(());
        }
        let clients = clients.as_ref().map(|clients| (clients, &*authorities));
        let (config, until) = server_config(&identity, clients)?;
        self.0.current.store(Some(config));
        if let Some(until) = until {
            metrics.show_certificate_expiration("serving", until);
        }
        if let Some(before) = &*seen {
            if before.authorities != now.authorities {
                self.0.replaced.send_replace(());
                tracing::info!("clients are verified by the new authorities");
            }
            metrics.certificate_reloads.inc();
            tracing::info!("the new certificate is in use");
        }
        *seen = Some(now);
        self.0.is_served.send_replace(true);
        Ok(())
    }

    fn report(&self, problem: Option<String>, metrics: &Metrics) {
        metrics.certificate_broken.set(i64::from(problem.is_some()));
        let known = self.0.problem.lock();
        *known.unwrap_or_else(PoisonError::into_inner) = problem;
    }
}

/// Looks at the certificate again and again. Connections that are open keep the one that they began with; those that were
/// verified by authorities that are replaced end.
pub(super) async fn certificate(certificate: Certificate, metrics: Arc<Metrics>, every: Duration) {
    let mut said = String::new();
    let mut changes = match &certificate.0.source {
        Source::Files { .. } => None,
        Source::SelfManaged(managed) => {
            let mut serving = managed.serving();
            // What was read before is looked at at once.
            serving.mark_changed();
            Some(serving)
        }
    };
    loop {
        let changed = async {
            match &mut changes {
                Some(changes) => changes.changed().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            true = changed => {}
            () = tokio::time::sleep(every) => {}
        }
        let broken = match certificate.look(&metrics) {
            Ok(()) => None,
            Err(error) => Some(format!("{error:#}")),
        };
        if let Some(error) = broken.as_ref().filter(|error| **error != said) {
            tracing::error!(
                error,
                "the new certificate cannot be used; the old one stays"
            );
        }
        said = broken.clone().unwrap_or_default();
        // What is wrong with the Secret is logged where it is read.
        let problem = broken.or_else(|| match &certificate.0.source {
            Source::Files { .. } => None,
            Source::SelfManaged(managed) => managed.problem(),
        });
        certificate.report(problem, &metrics);
    }
}

impl Source {
    fn read(&self) -> anyhow::Result<Option<Identity>> {
        match self {
            Source::Files { chain, key } => Ok(Some(Identity {
                chain: read(chain)?,
                key: read(key)?,
                from: format!("`{}` and `{}`", chain.display(), key.display()),
            })),
            Source::SelfManaged(managed) => {
                let serving = managed.serving().borrow().clone();
                Ok(serving.map(|serving| Identity {
                    chain: serving.chain.clone().into_bytes(),
                    key: serving.key.clone().into_bytes(),
                    from: "the Secret".to_owned(),
                }))
            }
        }
    }
}

/// The configuration of TLS, and when the certificate ends.
fn server_config(
    identity: &Identity,
    clients: Option<(&Clients, &[u8])>,
) -> anyhow::Result<(Arc<ServerConfig>, Option<Timestamp>)> {
    let from = &identity.from;
    let private = PrivateKeyDer::from_pem_slice(&identity.key)
        .with_context(|| format!("there is no usable key in {from}"))?;
    let chain = certificates(&identity.chain, from)?;
    let until = chain.first().and_then(|leaf| end(leaf));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .context("TLS cannot be set up")?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some((clients, authorities)) => {
            builder.with_client_cert_verifier(clients.verifier(authorities, provider)?)
        }
    };
    let mut config = builder
        .with_single_cert(chain, private)
        .context("certificate and key do not belong together")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if clients.is_some() {
        // A resumed session would not be verified again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok((Arc::new(config), until))
}

impl Clients {
    fn verifier(
        &self,
        authorities: &[u8],
        provider: Arc<CryptoProvider>,
    ) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
        let from = format!("`{}`", self.authorities.display());
        let mut roots = RootCertStore::empty();
        for authority in certificates(authorities, &from)? {
            roots.add(authority).with_context(|| {
                format!("{from} holds a certificate that cannot be an authority")
            })?;
        }
        let chain = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .context("clients cannot be verified")?;
        let names = self.names.clone();
        Ok(Arc::new(NamedClients { chain, names }))
    }
}

fn certificates(pem: &[u8], from: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .with_context(|| format!("there are no usable certificates in {from}"))?;
    ensure!(
        !certificates.is_empty(),
        "there is no certificate in {from}"
    );
    Ok(certificates)
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = read_file(file, MAXIMUM_FILE);
    bytes.with_context(|| format!("`{}` cannot be read", file.display()))
}

fn digest(parts: &[&[u8]]) -> Vec<u8> {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
        hash.update([0]);
    }
    hash.finalize().to_vec()
}

/// When a certificate ends.
fn end(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let certificate = X509::from_der(certificate).ok()?;
    let end = certificate.tbs_certificate.validity.not_after;
    let seconds = i64::try_from(end.to_unix_duration().as_secs()).ok()?;
    Timestamp::from_second(seconds).ok()
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
