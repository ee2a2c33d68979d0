//! Which credential belongs to which repository. Docker's configuration file is read; its credential helpers are not run.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::collections::BTreeMap;

use promotion_gate_core::gate::Digest;

use super::Repository;
use super::error::excerpt;

/// A credential, and the registry or repository that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialEntry {
    /// The registry's host (and port, if images name one); `*` stands for any characters within a part of the name.
    pub registry: String,
    /// The repository, or a path prefix of repositories; `None` for the whole registry.
    pub repository: Option<String>,
    pub secret: Secret,
    /// Where it is configured, for messages.
    pub source: String,
}

/// A credential in the configuration that is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoredCredential {
    /// The registry that it belongs to; `None` if that is not known.
    pub registry: Option<String>,
    /// What it is, and why it is not used.
    pub why: String,
}

/// The secret of a credential.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// A user name and its password, for Basic authentication and for token servers.
    Password { username: String, password: String },
    /// A refresh token (Docker's `identitytoken`), for token servers.
    RefreshToken(String),
    /// A token that is sent to the registry itself.
    Bearer(String),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Secret::Password { .. } => "Password(hidden)",
            Secret::RefreshToken(_) => "RefreshToken(hidden)",
            Secret::Bearer(_) => "Bearer(hidden)",
        })
    }
}

/// The credentials in a Docker configuration file (`config.json`, `.dockerconfigjson`).
#[derive(Clone, Debug, Default)]
pub struct DockerConfig {
    pub entries: Vec<CredentialEntry>,
    /// What the file configures and this program does not do.
    pub warnings: Vec<String>,
    /// The same, and entries without a secret: for messages about the registries that they belong to.
    pub ignored: Vec<IgnoredCredential>,
}

/// Why a Docker configuration file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// The file is too large.
    #[error("the file is larger than {DOCKER_CONFIG_BYTES} bytes")]
    TooLarge,
    /// The file is not JSON of the expected form.
    #[error("the file is not a Docker configuration file (line {line}, column {column})")]
    Malformed {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// An entry cannot be understood.
    #[error("`auths.{registry}` {why}")]
    Entry {
        /// The key of the entry.
        registry: String,
        /// What is wrong with the entry.
        why: &'static str,
    },
}

const DOCKER_CONFIG_BYTES: usize = 1 << 20;
/// The most other credentials that a message names.
const OTHERS: usize = 3;

impl DockerConfig {
    /// Reads a Docker configuration file.
    pub fn parse(bytes: &[u8]) -> Result<DockerConfig, CredentialsError> {
        if bytes.len() > DOCKER_CONFIG_BYTES {
            return Err(CredentialsError::TooLarge);
        }
        // The message of the JSON error could quote a password, so only its place is reported.
        let written: Written =
            serde_json::from_slice(bytes).map_err(|error| CredentialsError::Malformed {
                line: error.line(),
                column: error.column(),
            })?;
        let mut config = DockerConfig::default();
        let helper = |name: &str, registry| IgnoredCredential {
            registry,
            why: format!(
                "`{name}` is ignored, because credential helpers are not run; write the credentials to `auths`"
            ),
        };
        if written.creds_store.is_some_and(|store| !store.is_empty()) {
            config.ignored.push(helper("credsStore", None));
        }
        for key in written.cred_helpers.unwrap_or_default().keys() {
            let name = format!("credHelpers.{}", excerpt(key.as_bytes()));
            config.ignored.push(helper(&name, Some(place(key).0)));
        }
        let warnings = config.ignored.iter();
        config.warnings = warnings.map(|ignored| ignored.why.clone()).collect();
        for (key, entry) in written.auths.unwrap_or_default() {
            let (registry, repository) = place(&key);
            let source = format!("`auths.{}`", excerpt(key.as_bytes()));
            match entry.secret(&key)? {
                Some(secret) => config.entries.push(CredentialEntry {
                    registry,
                    repository,
                    secret,
                    source,
                }),
                None => config.ignored.push(IgnoredCredential {
                    registry: Some(registry),
                    why: format!("{source} holds no secret"),
                }),
            }
        }
        Ok(config)
    }
}

/// The credentials of all registries.
#[derive(Debug)]
pub(super) struct Credentials {
    entries: Vec<CredentialEntry>,
    ignored: Vec<IgnoredCredential>,
}

impl Credentials {
    pub(super) fn new(
        mut entries: Vec<CredentialEntry>,
        ignored: Vec<IgnoredCredential>,
    ) -> Credentials {
        for entry in &mut entries {
            entry.registry = canonical(&entry.registry);
            entry.repository = entry.repository.take().filter(|path| !path.is_empty());
        }
        Credentials { entries, ignored }
    }

    pub(super) fn of(&self, repository: &Repository) -> Option<&Secret> {
        self.entry(repository).map(|entry| &entry.secret)
    }

    /// For a message about an answer that refuses: whether the request carried a credential, where that is configured, and
    /// which credentials were not used.
    pub(super) fn words(&self, repository: &Repository, sent: bool) -> String {
        let mut words = match self.entry(repository) {
            Some(entry) if sent => format!("it was asked with the credential of {}", entry.source),
            Some(entry) => format!(
                "the credential of {} was not sent, because the registry did not ask for one of its kind",
                entry.source
            ),
            None => {
                let others = self.entries.iter().map(|entry| match &entry.repository {
                    Some(path) => format!("`{}/{}`", entry.registry, path.trim_matches('/')),
                    None => format!("`{}`", entry.registry),
                });
                let others: std::collections::BTreeSet<_> = others.collect();
                let some = others.iter().take(OTHERS).cloned().collect::<Vec<_>>();
                let others = match some.is_empty() {
                    true => String::new(),
                    false => format!(" (there are some for {})", some.join(", ")),
                };
                format!(
                    "it was asked without a credential: none is configured for `{repository}`{others}"
                )
            }
        };
        let registry = canonical(repository.registry());
        let ignored = self.ignored.iter().filter(|ignored| {
            let of = ignored.registry.as_deref();
            of.is_none_or(|of| canonical(of) == registry)
        });
        for ignored in ignored.take(OTHERS) {
            words.push_str("; ");
            words.push_str(&ignored.why);
        }
        words
    }

    /// The credential for a repository: the longest path wins, then a registry's name over a pattern, then the first entry.
    fn entry(&self, repository: &Repository) -> Option<&CredentialEntry> {
        let registry = canonical(repository.registry());
        let fits = |entry: &&CredentialEntry| {
            matches(&entry.registry, &registry)
                && entry
                    .repository
                    .as_deref()
                    .is_none_or(|path| is_within(repository.path(), path))
        };
        let rank = |entry: &&CredentialEntry| {
            let path = entry
                .repository
                .as_deref()
                .map_or(0, |path| path.trim_matches('/').len());
            (path, entry.registry == registry)
        };
        // `max_by_key` returns the last of equal items.
        self.entries.iter().rev().filter(fits).max_by_key(rank)
    }

    pub(super) fn id(&self, repository: &Repository) -> String {
        let parts: [&str; 3] = match self.of(repository) {
            None => return "anonymous".to_owned(),
            Some(Secret::Password { username, password }) => ["password", username, password],
            Some(Secret::RefreshToken(token)) => ["refresh token", token, ""],
            Some(Secret::Bearer(token)) => ["bearer", token, ""],
        };
        let mut preimage = Vec::new();
        for part in [repository.registry()].into_iter().chain(parts) {
            preimage.extend_from_slice(&part.len().to_be_bytes());
            preimage.extend_from_slice(part.as_bytes());
        }
        Digest::sha256(&preimage).hex().to_owned()
    }
}

/// Whether a host matches a pattern, in which `*` stands for any characters but `.` and `:`.
pub(super) fn matches(pattern: &str, host: &str) -> bool {
    fn labels(text: &str) -> Vec<&str> {
        text.split(['.', ':']).collect()
    }
    if !pattern.contains('*') {
        return pattern == host;
    }
    let (patterns, hosts) = (labels(pattern), labels(host));
    patterns.len() == hosts.len()
        && pattern.contains(':') == host.contains(':')
        && patterns
            .iter()
            .zip(hosts)
            .all(|(pattern, host)| label_matches(pattern, host))
}

fn label_matches(pattern: &str, label: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| label.strip_prefix(first)) else {
        return false;
    };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

fn is_within(repository: &str, path: &str) -> bool {
    let path = path.trim_matches('/');
    repository
        .strip_prefix(path)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The registry and path in a key of `auths`, such as `https://index.docker.io/v1/` or `registry.example/team`.
fn place(key: &str) -> (String, Option<String>) {
    let bare = key.split_once("://").map_or(key, |(_, rest)| rest);
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let path = path.trim_matches('/');
    let path = Some(path).filter(|path| !matches!(*path, "" | "v1" | "v2"));
    (canonical(host), path.map(str::to_owned))
}

/// The name of a registry in image references.
pub(super) fn canonical(host: &str) -> String {
    let host = host.trim().to_ascii_lowercase();
    match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        _ => host,
    }
}

#[derive(Deserialize)]
struct Written {
    auths: Option<BTreeMap<String, WrittenEntry>>,
    #[serde(rename = "credsStore")]
    creds_store: Option<String>,
    #[serde(rename = "credHelpers")]
    cred_helpers: Option<BTreeMap<String, serde::de::IgnoredAny>>,
}

#[derive(Deserialize)]
struct WrittenEntry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    #[serde(rename = "identitytoken")]
    identity_token: Option<String>,
    #[serde(rename = "registrytoken")]
    registry_token: Option<String>,
}

impl WrittenEntry {
    fn secret(self, key: &str) -> Result<Option<Secret>, CredentialsError> {
        let refused = |why| CredentialsError::Entry {
            registry: excerpt(key.as_bytes()),
            why,
        };
        let some = |text: Option<String>| text.filter(|text| !text.is_empty());
        if let Some(token) = some(self.identity_token) {
            return Ok(Some(Secret::RefreshToken(token)));
        }
        if let Some(token) = some(self.registry_token) {
            return Ok(Some(Secret::Bearer(token)));
        }
        if let Some(auth) = some(self.auth) {
            let decoded = STANDARD
                .decode(auth.trim())
                .map_err(|_| refused("has an `auth` that is not base64"))?;
            let decoded = String::from_utf8(decoded)
                .map_err(|_| refused("has an `auth` that is not UTF-8"))?;
            let (username, password) = decoded
                .split_once(':')
                .ok_or_else(|| refused("has an `auth` without a colon"))?;
            let password = password.trim_matches('\0').to_owned();
            return Ok(Some(Secret::Password {
                username: username.to_owned(),
                password,
            }));
        }
        match (some(self.username), self.password) {
            (Some(username), Some(password)) => Ok(Some(Secret::Password { username, password })),
            (None, None) => Ok(None),
            (None, Some(password)) if password.is_empty() => Ok(None),
            _ => Err(refused(
                "has one of `username` and `password` without the other",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CredentialEntry, Credentials, DockerConfig, Secret, matches};
    use crate::oci::Repository;

    fn password(username: &str) -> Secret {
        Secret::Password {
            username: username.to_owned(),
            password: "p".to_owned(),
        }
    }

    fn entry(registry: &str, repository: Option<&str>, username: &str) -> CredentialEntry {
        let (registry, repository) = (registry.to_owned(), repository.map(str::to_owned));
        CredentialEntry {
            registry,
            repository,
            secret: password(username),
            source: "a test".to_owned(),
        }
    }

    #[test]
    fn the_credential_of_the_longest_path_wins() {
        let credentials = Credentials::new(
            vec![
                entry("*.example", None, "pattern"),
                entry("r.example", None, "registry"),
                entry("r.example", Some("team"), "team"),
                entry("r.example", Some("team/app"), "app"),
            ],
            vec![],
        );
        let of = |registry: &str, name: &str| match credentials.of(&Repository::new(registry, name))
        {
            Some(Secret::Password { username, .. }) => username.clone(),
            _ => "none".to_owned(),
        };
        assert_eq!(of("r.example", "team/app"), "app");
        assert_eq!(of("r.example", "team/application"), "team");
        assert_eq!(of("r.example", "teams/app"), "registry");
        assert_eq!(of("s.example", "team/app"), "pattern");
        assert_eq!(of("r.example:5000", "team/app"), "none");
        assert_eq!(of("r.example.evil", "team/app"), "none");
        assert_eq!(of("a.b.example", "x"), "none");
    }

    #[test]
    fn a_pattern_stays_within_a_part_of_a_host_name() {
        assert!(matches(
            "*.dkr.ecr.*.amazonaws.com",
            "1.dkr.ecr.eu-1.amazonaws.com"
        ));
        assert!(matches("reg-*-x.example", "reg-a-x.example"));
        assert!(!matches("*.example", "a.example:443"));
        assert!(!matches("*", "a.example"));
        assert!(!matches("ab*b.example", "ab.example"));
    }

    #[test]
    fn a_docker_configuration_file_is_read() {
        let config = DockerConfig::parse(
            br#"{"auths":{
                "https://index.docker.io/v1/":{"auth":"dTpwOnE="},
                "r.example/team":{"username":"n","password":"s"},
                "azure.example":{"auth":"MDowOg==","identitytoken":"refresh"},
                "helper.example":{}},
              "credsStore":"osxkeychain","credHelpers":{"gcr.io":"gcloud"}}"#,
        )
        .unwrap();
        assert_eq!(config.entries.len(), 3);
        assert_eq!(config.warnings.len(), 2);
        let credentials = Credentials::new(config.entries, config.ignored);
        let hub = Secret::Password {
            username: "u".to_owned(),
            password: "p:q".to_owned(),
        };
        assert_eq!(
            credentials.of(&Repository::new("docker.io", "library/nginx")),
            Some(&hub)
        );
        let azure = Repository::new("azure.example", "x");
        assert_eq!(
            credentials.of(&azure),
            Some(&Secret::RefreshToken("refresh".to_owned()))
        );
        assert_eq!(credentials.of(&Repository::new("r.example", "other")), None);
    }

    #[test]
    fn a_refused_login_names_the_credential_and_what_was_ignored() {
        let config = DockerConfig::parse(
            br#"{"auths":{"r.example/team":{"username":"n","password":"hunter2"},"empty.example":{}},
                 "credHelpers":{"gcr.example":"gcloud"}}"#,
        )
        .unwrap();
        let credentials = Credentials::new(config.entries, config.ignored);
        let words = |registry: &str, name: &str, sent: bool| {
            credentials.words(&Repository::new(registry, name), sent)
        };
        assert_eq!(
            words("r.example", "team/app", true),
            "it was asked with the credential of `auths.r.example/team`"
        );
        assert!(words("r.example", "team/app", false).contains("was not sent"));
        assert_eq!(
            words("r.example", "other", false),
            "it was asked without a credential: none is configured for `r.example/other` (there are some for `r.example/team`)"
        );
        let helper = words("gcr.example", "app", false);
        assert!(
            helper.contains("`credHelpers.gcr.example` is ignored"),
            "{helper}"
        );
        let empty = words("empty.example", "app", false);
        assert!(
            empty.contains("`auths.empty.example` holds no secret"),
            "{empty}"
        );
        assert!(!empty.contains("gcr.example` is ignored"), "{empty}");
    }

    #[test]
    fn an_error_does_not_quote_a_password() {
        let error = DockerConfig::parse(br#"{"auths":{"r":"hunter2"}}"#).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        let error = DockerConfig::parse(br#"{"auths":{"r":{"auth":"hunter2!"}}}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`auths.r` has an `auth` that is not base64"
        );
        assert!(!format!("{:?}", password("hunter2")).contains("hunter2"));
    }

    #[test]
    fn a_credential_is_identified_without_being_disclosed() {
        let credentials = Credentials::new(vec![entry("r.example", Some("a"), "hunter2")], vec![]);
        let id = credentials.id(&Repository::new("r.example", "a"));
        assert!(id.len() == 64 && !id.contains("hunter2"));
        assert_eq!(
            credentials.id(&Repository::new("r.example", "b")),
            "anonymous"
        );
    }
}
