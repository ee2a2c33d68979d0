//! How registries are reached: options, limits and timeouts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::EvidenceRepository;
use super::credentials::{CredentialEntry, IgnoredCredential};

/// How registries are reached.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Options of single registries.
    pub registries: Vec<RegistryOptions>,
    pub credentials: Vec<CredentialEntry>,
    /// Credentials in the configuration that are not used.
    pub ignored_credentials: Vec<IgnoredCredential>,
    pub limits: Limits,
    pub timeouts: Timeouts,
    /// The `User-Agent` header.
    pub user_agent: String,
    /// Whether images may name registries on loopback without an entry under `registries`. Redirects and token realms may lead
    /// to loopback only from such a registry.
    pub loopback: bool,
    /// Names with known addresses, which take precedence over DNS.
    pub hosts: BTreeMap<String, Vec<IpAddr>>,
}

impl Default for ClientOptions {
    fn default() -> ClientOptions {
        ClientOptions {
            registries: Vec::new(),
            credentials: Vec::new(),
            ignored_credentials: Vec::new(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            user_agent: concat!("promotion-gate/", env!("CARGO_PKG_VERSION")).to_owned(),
            loopback: true,
            hosts: BTreeMap::new(),
        }
    }
}

/// Options of a registry.
#[derive(Clone, Debug, Default)]
pub struct RegistryOptions {
    /// Host and port as images name them; `*` stands for any characters within a part of the name.
    pub host: String,
    /// Whether it is reached without TLS. A registry on loopback is, unless an entry for exactly that host says otherwise.
    pub plain_http: bool,
    /// The certificate authorities (PEM) of the registry, instead of the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// A second repository with evidence of the images of this registry.
    pub evidence_repository: Option<EvidenceRepository>,
}

/// Limits of what is read.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a manifest, and of one page of a listing.
    pub manifest_bytes: u64,
    /// Bytes of all pages of a listing.
    pub listing_bytes: u64,
    /// Pages of a listing.
    pub listing_pages: usize,
    /// Entries of a listing.
    pub listing_entries: usize,
    /// Bytes of a token server's answer.
    pub token_bytes: u64,
    /// Redirects of one request.
    pub redirects: usize,
    /// Requests to one host at a time.
    pub concurrency: usize,
    /// Requests to all hosts at a time, each on its own connection. One review or host never holds more of them than stay free.
    pub requests: usize,
    /// Bytes of answers in memory at one time, unparsed and parsed, until the last reference is dropped. One review or host
    /// never holds more of them than stay free.
    pub held_bytes: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            manifest_bytes: 4 << 20,
            listing_bytes: 8 << 20,
            listing_pages: 16,
            listing_entries: 1024,
            token_bytes: 256 << 10,
            redirects: 5,
            concurrency: 16,
            requests: 256,
            held_bytes: 64 << 20,
        }
    }
}

impl Limits {
    /// The most file descriptors that the client needs: for requests, kept connections, and name look-ups.
    pub fn open_files(&self) -> usize {
        self.requests + super::connections::MOST + 2 * super::dns::LOOK_UPS
    }
}

/// How long the client waits.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// For one request and its answer.
    pub request: Duration,
    /// For all requests of one question: tokens, redirects, pages and a second attempt.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(3),
            request: Duration::from_secs(10),
            total: Duration::from_secs(20),
        }
    }
}
