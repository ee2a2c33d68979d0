//! The identities of people and automation, and [`same`]: the one rule that decides whether two identities belong to the same
//! holder.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::iter;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::distinct::canonical;
use super::super::signer::Pem;
use crate::attest::{CertificateIdentity, Claim, KeyFingerprint, PublicKey, Signer};

/// The longest text of an identity, in bytes.
const MAXIMUM_TEXT: usize = 1024;

/// An identity, as evidence shows it and as a directory lists it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(try_from = "IdentityFields")]
#[schemars(with = "IdentityFields")]
pub enum Identity {
    /// The subject of a Fulcio certificate, and the issuer that authenticated it.
    Certificate {
        /// The OIDC issuer.
        issuer: String,
        /// The subject alternative name: an e-mail address, a URI or a user name.
        name: String,
    },
    /// An account on a source-code platform.
    Account(Account),
    /// The user name that the API server authenticated.
    KubernetesUser(String),
    /// A public key.
    Key(KeyFingerprint),
}

/// An account on a source-code platform.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Account {
    platform: SourcePlatform,
    host: Cow<'static, str>,
    login: String,
    id: Option<u64>,
}

impl Account {
    /// The platform.
    pub fn platform(&self) -> SourcePlatform {
        self.platform
    }

    /// The host of the platform, in lower case.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The login; empty if only the number is known.
    pub fn login(&self) -> &str {
        &self.login
    }

    /// The number of the account.
    pub fn id(&self) -> Option<u64> {
        self.id
    }
}

/// A source-code platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourcePlatform {
    /// GitHub, GitHub Enterprise Server.
    GitHub,
    /// GitLab.
    GitLab,
}

/// Whether two identities belong to the same holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sameness {
    /// They may not be the same.
    Different,
    /// They may be the same, and are not proven to be: another spelling of the address, or another issuer.
    Similar,
    /// They are the same.
    Same,
}

/// Whether an identity that evidence shows is the one that a directory lists. This and [`same_certificate`] are the only places that
/// decide it:
///
/// * A certificate: the issuer is equal, and the name is equal; the case of ASCII letters is ignored in names that are not URIs.
///   Another issuer, or another spelling that may lead to the same mailbox (the rule by which signatures have distinct signers),
///   is `Similar`.
/// * An account: platform and host are equal, and so is the numeric id; where one side has no id, the login, with the case of
///   ASCII letters ignored. An id that differs is another account, which took over the login.
/// * A Kubernetes user name is equal. A key has the same fingerprint.
pub(super) fn same(listed: &Identity, seen: &Identity) -> Sameness {
    let proven = match (listed, seen) {
        (Identity::Certificate { .. }, Identity::Certificate { issuer, name }) => {
            return same_certificate(listed, issuer, name);
        }
        (Identity::Account(account), Identity::Account(other)) => {
            let equal = match (account.id, other.id) {
                (Some(id), Some(other)) => id == other,
                _ => account.login.eq_ignore_ascii_case(&other.login),
            };
            equal && (account.platform, &account.host) == (other.platform, &other.host)
        }
        (Identity::KubernetesUser(user), Identity::KubernetesUser(other)) => user == other,
        (Identity::Key(key), Identity::Key(other)) => key == other,
        _ => false,
    };
    match proven {
        true => Sameness::Same,
        false => Sameness::Different,
    }
}

/// [`same`] for the identity in a certificate that was seen.
pub(super) fn same_certificate(listed: &Identity, issuer: &str, name: &str) -> Sameness {
    let Identity::Certificate {
        issuer: listed_issuer,
        name: listed,
    } = listed
    else {
        return Sameness::Different;
    };
    let equal = listed == name || !listed.contains("://") && listed.eq_ignore_ascii_case(name);
    if equal && listed_issuer == issuer {
        Sameness::Same
    } else if canonical(listed) == canonical(name) {
        Sameness::Similar
    } else {
        Sameness::Different
    }
}

/// What identities are found by. Two that are not [`Sameness::Different`] share a name, and two holders may not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Name<'n> {
    Certificate(Cow<'n, str>),
    Login(SourcePlatform, Cow<'n, str>, Cow<'n, str>),
    Id(SourcePlatform, Cow<'n, str>, u64),
    KubernetesUser(Cow<'n, str>),
    Key(KeyFingerprint),
}

impl<'n> Name<'n> {
    /// The names of a certificate's identity: as it is written, and then the canonical one, which is only computed if the first does not
    /// decide.
    pub(super) fn of_certificate(name: &'n str) -> impl Iterator<Item = Name<'n>> {
        let canonical = iter::once_with(move || Cow::Owned(canonical(name)));
        let names = iter::once(Cow::Borrowed(name)).chain(canonical);
        names.map(Name::Certificate)
    }

    pub(super) fn into_owned(self) -> Name<'static> {
        let owned = |text: Cow<'n, str>| Cow::Owned(text.into_owned());
        match self {
            Name::Certificate(name) => Name::Certificate(owned(name)),
            Name::Login(platform, host, login) => Name::Login(platform, owned(host), owned(login)),
            Name::Id(platform, host, id) => Name::Id(platform, owned(host), id),
            Name::KubernetesUser(user) => Name::KubernetesUser(owned(user)),
            Name::Key(key) => Name::Key(key),
        }
    }
}

/// The text with ASCII letters in lower case.
fn lower(text: &str) -> Cow<'_, str> {
    match text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(text.to_ascii_lowercase()),
        false => Cow::Borrowed(text),
    }
}

impl Identity {
    /// The identity that made a verified signature; `None` for a certificate that does not name its issuer.
    pub fn of(signer: &Signer) -> Option<Identity> {
        Some(match signer {
            Signer::Key(fingerprint) => Identity::Key(fingerprint.clone()),
            Signer::Certificate(certificate) => Identity::Certificate {
                issuer: certificate.issuer()?.to_owned(),
                name: certificate.identity().to_owned(),
            },
        })
    }

    /// An account on GitHub or GitLab; the public instance if no host is given.
    ///
    /// # Errors
    /// Why the host or the login is not valid.
    pub fn account(
        platform: SourcePlatform,
        host: Option<&str>,
        login: &str,
        id: Option<u64>,
    ) -> Result<Identity, String> {
        let host = host_of(platform, host)?;
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let stem = login.strip_suffix(BOT).unwrap_or(login);
        if stem.is_empty() || login.len() > 255 || !stem.chars().all(fits) {
            return Err(format!(
                "`{login:.80}` is not a login: expected letters, digits, `-`, `_` and `.`, without `@`"
            ));
        }
        Ok(Identity::Account(Account {
            platform,
            host,
            login: login.to_owned(),
            id,
        }))
    }

    /// An account of which evidence gives the number alone. It is found where a directory lists the number.
    ///
    /// # Errors
    /// Why the host or the login is not valid.
    pub fn account_by_id(
        platform: SourcePlatform,
        host: Option<&str>,
        id: u64,
    ) -> Result<Identity, String> {
        Ok(Identity::Account(Account {
            platform,
            host: host_of(platform, host)?,
            login: String::new(),
            id: Some(id),
        }))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = Name<'_>> {
        let (first, second) = match self {
            Identity::Certificate { name, .. } => (Name::Certificate(canonical(name).into()), None),
            Identity::Account(Account {
                platform,
                host,
                login,
                id,
            }) => (
                Name::Login(*platform, Cow::Borrowed(host), lower(login)),
                id.map(|id| Name::Id(*platform, Cow::Borrowed(host), id)),
            ),
            Identity::KubernetesUser(user) => (Name::KubernetesUser(Cow::Borrowed(user)), None),
            Identity::Key(key) => (Name::Key(key.clone()), None),
        };
        // An id is looked up first: it decides over a login.
        second.into_iter().chain([first])
    }

    /// Whether this identity has no id and the other one is the same account with an id, so that it adds nothing.
    pub(super) fn is_less_than(&self, other: &Identity) -> bool {
        let (Identity::Account(own), Identity::Account(account)) = (self, other) else {
            return false;
        };
        own.id.is_none() && account.id.is_some() && same(self, other) == Sameness::Same
    }

    /// The kind of workload that this identity belongs to; `None` if it can belong to a person.
    fn workload(&self) -> Option<&'static str> {
        match self {
            Identity::Certificate { issuer, name } => {
                workload_of(&issuer.to_ascii_lowercase(), &name.to_ascii_lowercase())
            }
            Identity::Account(account) => {
                let login = account.login.to_ascii_lowercase();
                let project = |prefix: &str| {
                    let rest = login.strip_prefix(prefix)?;
                    let (number, rest) = rest.split_once('_')?;
                    let numbered = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
                    (numbered && rest.starts_with("bot")).then_some(())
                };
                let of_gitlab = account.platform == SourcePlatform::GitLab
                    && (project("project_").is_some()
                        || project("group_").is_some()
                        || login.starts_with("service_account_"));
                (login.ends_with(BOT) || of_gitlab).then_some("a bot")
            }
            Identity::KubernetesUser(user) => match user.starts_with("system:serviceaccount:") {
                true => Some("a service account of Kubernetes"),
                false => user
                    .starts_with("system:")
                    .then_some("a component of Kubernetes"),
            },
            Identity::Key(_) => None,
        }
    }
}

/// A host in the form that is compared; the platform's public one if none is given.
fn host_of(platform: SourcePlatform, host: Option<&str>) -> Result<Cow<'static, str>, String> {
    let public = platform.public_host();
    let Some(host) = host.filter(|host| *host != public) else {
        return Ok(Cow::Borrowed(public));
    };
    let named = host.trim_end_matches('.').to_ascii_lowercase();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':');
    if named.is_empty() || named.len() > 255 || !named.chars().all(fits) {
        return Err(format!(
            "`{host:.80}` is not a host; write it without scheme and path, such as `{public}`"
        ));
    }
    Ok(Cow::Owned(named))
}

/// The end of a GitHub app's login.
const BOT: &str = "[bot]";

/// Issuers that authenticate workloads alone (Fulcio, "OIDC usage"): the beginning, and the end of the host.
const WORKLOAD_ISSUERS: &[(&str, &str)] = &[
    ("https://token.actions.", ""),
    ("https://agent.buildkite.com", ""),
    ("https://oidc.circleci.com", ""),
    ("https://oidc.codefresh.io", ""),
    ("https://container.googleapis.com/", ""),
    ("https://kubernetes.default.svc", ""),
    ("https://oidc.eks.", ".amazonaws.com"),
    ("https://oidc-eks.", ".api.aws"),
    ("https://app.terraform.io", ""),
    ("https://vstoken.dev.azure.com", ""),
    ("https://", ".oic.prod-aks.azure.com"),
];

/// What kind of workload a certificate's issuer and name belong to; both in lower case.
fn workload_of(issuer: &str, name: &str) -> Option<&'static str> {
    let host = |issuer: &str| {
        let host = issuer.split("://").nth(1).unwrap_or_default();
        host.split(['/', ':']).next().unwrap_or_default().to_owned()
    };
    let is_ci = WORKLOAD_ISSUERS
        .iter()
        .any(|(begin, end)| issuer.starts_with(begin) && host(issuer).ends_with(end))
        // GitHub Enterprise Server.
        || issuer.contains("/_services/token");
    let address = name.split_once("://").map(|(_, address)| address);
    let is_pipeline = address.is_some_and(|address| {
        // GitLab writes `//` before the file of a pipeline, GitHub `/.github/workflows/`.
        issuer == "https://gitlab.com"
            || issuer.starts_with("https://gitlab.")
            || address.contains("//")
            || address.contains("/.github/workflows/")
            || [".yml", ".yaml", "@refs/"]
                .iter()
                .any(|mark| address.contains(mark))
    });
    if is_ci || is_pipeline {
        Some("a pipeline or another workload")
    } else if name.starts_with("spiffe://") {
        Some("a SPIFFE workload")
    } else if name.contains("/serviceaccounts/") || name.contains("system:serviceaccount:") {
        Some("a service account of Kubernetes")
    } else if name.ends_with("gserviceaccount.com") {
        Some("a service account of Google Cloud")
    } else {
        None
    }
}

/// Whether a certificate was issued to a pipeline: only those carry claims beside the subject of the token.
pub(super) fn is_of_pipeline(certificate: &CertificateIdentity) -> bool {
    let mut claims = certificate.claims().keys();
    claims.any(|claim| *claim != Claim::TokenSubject)
}

/// An identity that can belong to a person: not that of a pipeline, a bot or a service account.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(try_from = "IdentityFields")]
#[schemars(with = "IdentityFields")]
pub struct PersonalIdentity {
    identity: Identity,
    /// The key itself, if a document lists one: a fingerprint alone verifies nothing.
    key: Option<Arc<PublicKey>>,
}

impl PersonalIdentity {
    /// The identity.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(super) fn key(&self) -> Option<&Arc<PublicKey>> {
        self.key.as_ref()
    }
}

impl PartialEq for PersonalIdentity {
    fn eq(&self, other: &PersonalIdentity) -> bool {
        self.identity == other.identity
    }
}

impl Eq for PersonalIdentity {}

impl PartialOrd for PersonalIdentity {
    fn partial_cmp(&self, other: &PersonalIdentity) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PersonalIdentity {
    fn cmp(&self, other: &PersonalIdentity) -> Ordering {
        self.identity.cmp(&other.identity)
    }
}

impl TryFrom<IdentityFields> for PersonalIdentity {
    type Error = String;

    fn try_from(fields: IdentityFields) -> Result<PersonalIdentity, String> {
        let key = fields.key.as_ref().map(|key| Arc::clone(&key.pem.0));
        let listed = PersonalIdentity::try_from(Identity::try_from(fields)?)?;
        Ok(PersonalIdentity { key, ..listed })
    }
}

impl TryFrom<Identity> for PersonalIdentity {
    type Error = String;

    fn try_from(identity: Identity) -> Result<PersonalIdentity, String> {
        match identity.workload() {
            Some(kind) => Err(format!(
                "{identity} belongs to {kind}, not to a person; list it under `automation`"
            )),
            None => Ok(PersonalIdentity {
                identity,
                key: None,
            }),
        }
    }
}

/// Exactly one kind of identity.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct IdentityFields {
    /// A certificate identity issued by Fulcio.
    certificate: Option<CertificateFields>,
    /// An account on GitHub.
    github: Option<AccountFields>,
    /// An account on GitLab.
    gitlab: Option<AccountFields>,
    /// A user of Kubernetes, as the API server authenticates it.
    kubernetes: Option<KubernetesFields>,
    /// A managed key.
    key: Option<KeyFields>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CertificateFields {
    /// The OIDC issuer, such as `https://accounts.google.com`; compared exactly.
    issuer: String,
    /// The e-mail address in the certificate; the case of letters is ignored.
    email: Option<String>,
    /// The URI in the certificate; compared exactly.
    uri: Option<String>,
    /// The user name in the certificate, such as `alice!example.com` (private Fulcio instances); the case of letters is ignored.
    username: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AccountFields {
    /// The login, without `@`; the case of letters is ignored.
    login: String,
    /// The number of the account. It decides where evidence has one, because a login can be given to another account.
    id: Option<u64>,
    /// The host of the instance; `github.com` or `gitlab.com` when absent.
    host: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct KubernetesFields {
    /// The user name; compared exactly.
    user: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct KeyFields {
    /// The public key: PEM, `PUBLIC KEY`; compared by its fingerprint.
    pem: Pem,
}

impl TryFrom<IdentityFields> for Identity {
    type Error = String;

    fn try_from(fields: IdentityFields) -> Result<Identity, String> {
        let IdentityFields {
            certificate,
            github,
            gitlab,
            kubernetes,
            key,
        } = fields;
        let account = |platform, AccountFields { login, id, host }| {
            Identity::account(platform, host.as_deref(), &login, id)
        };
        match (certificate, github, gitlab, kubernetes, key) {
            (Some(certificate), None, None, None, None) => certificate.identity(),
            (None, Some(fields), None, None, None) => account(SourcePlatform::GitHub, fields),
            (None, None, Some(fields), None, None) => account(SourcePlatform::GitLab, fields),
            (None, None, None, Some(KubernetesFields { user }), None) => {
                literal("user", &user)?;
                Ok(Identity::KubernetesUser(user))
            }
            (None, None, None, None, Some(KeyFields { pem })) => {
                Ok(Identity::Key(pem.0.fingerprint().clone()))
            }
            _ => Err(
                "expected exactly one of `certificate`, `github`, `gitlab`, `kubernetes` and `key`; list each identity as an entry of its own".to_owned(),
            ),
        }
    }
}

impl CertificateFields {
    fn identity(self) -> Result<Identity, String> {
        let CertificateFields {
            issuer,
            email,
            uri,
            username,
        } = self;
        literal("issuer", &issuer)?;
        if !issuer.contains("://") {
            return Err(format!(
                "the issuer `{issuer:.80}` is not a URL; write it as certificates do, such as `https://accounts.google.com`"
            ));
        }
        let name = match (email, uri, username) {
            (Some(email), None, None) => {
                literal("email", &email)?;
                let is_address = |(user, domain): (&str, &str)| {
                    !user.is_empty() && !domain.is_empty() && !user.contains("://")
                };
                if !email.rsplit_once('@').is_some_and(is_address) {
                    return Err(format!("`{email:.80}` is not an e-mail address"));
                }
                email
            }
            (None, Some(uri), None) => {
                literal("uri", &uri)?;
                if !uri.contains("://") {
                    return Err(format!("`{uri:.80}` is not a URI with a scheme"));
                }
                uri
            }
            (None, None, Some(username)) => {
                literal("username", &username)?;
                if username.contains("://") {
                    return Err(format!("`{username:.80}` is a URI; write it as `uri`"));
                }
                username
            }
            _ => {
                return Err(
                    "`certificate` needs exactly one of `email`, `uri` and `username`".to_owned(),
                );
            }
        };
        Ok(Identity::Certificate { issuer, name })
    }
}

/// Refuses a text that no evidence can show, or that is meant as a pattern.
fn literal(field: &str, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err(format!("`{field}` is empty"));
    }
    if text.len() > MAXIMUM_TEXT {
        return Err(format!("`{field}` is longer than {MAXIMUM_TEXT} bytes"));
    }
    if text.contains('*') {
        return Err(format!(
            "`{text:.80}` contains `*`, and identities are compared exactly; list each one"
        ));
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) && field != "user" {
        return Err(format!("`{text:.80}` contains white space"));
    }
    Ok(())
}

impl SourcePlatform {
    /// The host of the public instance.
    pub fn public_host(self) -> &'static str {
        match self {
            SourcePlatform::GitHub => "github.com",
            SourcePlatform::GitLab => "gitlab.com",
        }
    }
}

impl fmt::Display for SourcePlatform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SourcePlatform::GitHub => "github",
            SourcePlatform::GitLab => "gitlab",
        })
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Account {
            platform,
            host,
            login,
            id,
        } = self;
        match host == platform.public_host() {
            true => write!(f, "{platform}:{login}")?,
            false => write!(f, "{platform}:{host}/{login}")?,
        }
        match id {
            Some(id) => write!(f, "#{id}"),
            None => Ok(()),
        }
    }
}

/// As evidence is searched: `alice@example.com`, `github:alice#1`, `kubernetes:alice`, `sha256:…`.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Certificate { issuer, name } => write!(f, "`{name}` (issuer `{issuer}`)"),
            Identity::Account(account) => write!(f, "`{account}`"),
            Identity::KubernetesUser(user) => write!(f, "`kubernetes:{user}`"),
            Identity::Key(fingerprint) => write!(f, "key `{fingerprint}`"),
        }
    }
}
