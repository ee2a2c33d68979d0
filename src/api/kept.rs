//! What is kept about digests, as written: `Revocation`, `Rejection` and `AuthorRecord`; `VexRecord` is in `vex_record`. Each has one
//! conversion into what the core decides by, and the gate writes the last two itself.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kube::CustomResource;
use promotion_gate_core::documents::{Document, Fault, Path};
use promotion_gate_core::gate::{
    Digest, DnsLabel, Identity, KeptAuthors, KeptRejection, Revocation, SourcePlatform,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::faults::Faults;
use super::{API_VERSION, Written};

/// The longest text of an author's identity, in bytes.
const MAXIMUM_TEXT: usize = 1024;

/// A digest that must not run any more. It is refused for every kind of change; running Pods are not stopped.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[expect(
    clippy::duplicated_attributes,
    reason = "each column has a name and a type"
)]
#[kube(
    group = "promotion-gate.dev",
    version = "v1alpha1",
    kind = "Revocation",
    root = "RevocationResource",
    plural = "revocations",
    shortname = "pgrev",
    category = "promotion-gate",
    schema = "disabled",
    printcolumn(name = "Digest", type_ = "string", json_path = ".spec.digest"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".spec.reason"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RevocationSpec {
    /// The digest that manifests name, such as `sha256:…`: of the index, where an image has several platforms.
    #[schemars(length(min = 1, max = 256))]
    pub digest: String,
    /// Why, for people who are refused.
    #[schemars(length(min = 1, max = 500))]
    pub reason: String,
}

/// A rejection by a person, of a digest in an environment or of one emergency change of it. It blocks until that person approves later,
/// or until it is deleted. Or the early end of an emergency change, which blocks it for good.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[expect(
    clippy::duplicated_attributes,
    reason = "each column has a name and a type"
)]
#[kube(
    group = "promotion-gate.dev",
    version = "v1alpha1",
    kind = "Rejection",
    root = "RejectionResource",
    plural = "rejections",
    shortname = "pgrej",
    category = "promotion-gate",
    schema = "disabled",
    printcolumn(
        name = "Environment",
        type_ = "string",
        json_path = ".spec.environment"
    ),
    printcolumn(name = "Person", type_ = "string", json_path = ".spec.person"),
    printcolumn(name = "Digest", type_ = "string", json_path = ".spec.digest"),
    printcolumn(name = "Emergency", type_ = "string", json_path = ".spec.emergency"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RejectionSpec {
    /// The digest that manifests name, such as `sha256:…`.
    #[schemars(length(min = 1, max = 256))]
    pub digest: String,
    /// The environment, as policies name it.
    #[schemars(length(min = 1, max = 253))]
    pub environment: String,
    /// The only namespace that it is about; every namespace of the environment when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// The digest of the declaration, if the rejection is of one emergency change of the digest and of nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub emergency: Option<String>,
    /// Whether the person ended this emergency change early, instead of rejecting it. Nothing but its deletion lifts that. With
    /// `namespace`, it counts in every namespace, under the policies that let this person end the emergency change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closure: Option<bool>,
    /// The name of the person in the people directory.
    pub person: Written<DnsLabel>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2000))]
    pub reason: Option<String>,
    /// When it was given (RFC 3339); the creation of the resource when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub at: Option<String>,
}

/// The authors of a digest whom evidence named that the gate has seen. They stay authors when the evidence is deleted.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[expect(
    clippy::duplicated_attributes,
    reason = "each column has a name and a type"
)]
#[kube(
    group = "promotion-gate.dev",
    version = "v1alpha1",
    kind = "AuthorRecord",
    root = "AuthorRecordResource",
    plural = "authorrecords",
    shortname = "pga",
    category = "promotion-gate",
    schema = "disabled",
    printcolumn(name = "Digest", type_ = "string", json_path = ".spec.digest"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthorRecordSpec {
    /// The digest that manifests name, such as `sha256:…`.
    #[schemars(length(min = 1, max = 256))]
    pub digest: String,
    /// The authors, each with exactly one of `certificate`, `github`, `gitlab` and `kubernetes`.
    #[schemars(length(min = 1, max = MAXIMUM_IDENTITIES))]
    pub identities: Vec<Written<WrittenAuthor>>,
    /// The digests of the statements that named them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAXIMUM_STATEMENTS))]
    pub statements: Vec<String>,
}

/// An identity of an author. Evidence can give less than a people directory asks for: a number alone, or an address alone.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WrittenAuthor {
    /// The subject of a certificate, or an address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<AuthorCertificate>,
    /// An account on GitHub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub github: Option<AuthorAccount>,
    /// An account on GitLab.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gitlab: Option<AuthorAccount>,
    /// A user of Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<AuthorUser>,
}

/// The subject of a certificate: exactly one of `email`, `uri` and `username`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthorCertificate {
    /// The OIDC issuer; absent for an address of which no issuer is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The e-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The URI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// The user name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
}

/// An account: a login, a number, or both.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthorAccount {
    /// The login, without `@`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
    /// The number of the account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// The host of the instance; `github.com` or `gitlab.com` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// A user of Kubernetes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthorUser {
    /// The user name.
    pub user: String,
}

/// The revocation that a resource describes, and its digest.
///
/// # Errors
/// What is wrong with the resource, each with its path below `spec`.
pub fn revocation(name: &str, spec: &RevocationSpec) -> Result<(Digest, Revocation), Vec<Fault>> {
    let mut faults = Faults::default();
    let digest = digest(&spec.digest, "digest", &mut faults);
    let reason = faults.text(&spec.reason, || key("reason"));
    let revocation = reason.map(|reason| Revocation {
        name: name.to_owned(),
        reason,
    });
    faults.finish(digest.zip(revocation))
}

/// The rejection that a resource describes, and its digest. `created` is when the resource was created, if it was.
///
/// # Errors
/// What is wrong with the resource, each with its path below `spec`.
pub fn rejection(
    name: &str,
    spec: &RejectionSpec,
    created: Option<Timestamp>,
) -> Result<(Digest, KeptRejection), Vec<Fault>> {
    let mut faults = Faults::default();
    let about = digest(&spec.digest, "digest", &mut faults);
    let emergency = spec.emergency.as_ref();
    let emergency = emergency.map(|written| digest(written, "emergency", &mut faults));
    let environment = faults.text(&spec.environment, || key("environment"));
    let namespace = spec.namespace.as_ref();
    let namespace = namespace.map(|namespace| faults.text(namespace, || key("namespace")));
    let person = faults.parsed(Some(&spec.person), || key("person"));
    let at = match (&spec.at, created) {
        (Some(written), _) => {
            let at = written.parse().map_err(|_| Fault {
                path: Path::default(),
                message: format!(
                    "`{written:.80}` is not a time; write it as `2026-12-01T10:00:00Z`"
                ),
            });
            faults.kept(at, &key("at"))
        }
        (None, Some(created)) => Some(created),
        (None, None) => {
            let why =
                "`at` is missing: when the rejection was given (a file has no time of creation)";
            faults.add(Path::default(), why);
            None
        }
    };
    let is_closure = spec.closure == Some(true);
    if is_closure && spec.emergency.is_none() {
        faults.add(
            key("closure"),
            "needs `emergency`: which emergency change was ended",
        );
    }
    let read = || {
        let rejection = KeptRejection {
            name: name.to_owned(),
            environment: environment?,
            namespace: match namespace {
                Some(read) => Some(read?),
                None => None,
            },
            emergency: match emergency {
                Some(read) => Some(read?),
                None => None,
            },
            is_closure,
            person: person?.into_string(),
            at: at?,
            reason: spec.reason.clone(),
        };
        Some((about?, rejection))
    };
    let read = read();
    faults.finish(read)
}

/// The authors that a resource describes, and their digest.
///
/// # Errors
/// What is wrong with the resource, each with its path below `spec`.
pub fn author_record(spec: &AuthorRecordSpec) -> Result<(Digest, KeptAuthors), Vec<Fault>> {
    let mut faults = Faults::default();
    let of = digest(&spec.digest, "digest", &mut faults);
    let mut authors = KeptAuthors::default();
    let list = key("identities");
    if spec.identities.is_empty() {
        faults.add(list.clone(), "the list is empty");
    }
    let written = spec.identities.iter().enumerate();
    for (index, written) in written {
        let here = list.index(index);
        let Some(author) = faults.parsed(Some(written), || here.clone()) else {
            continue;
        };
        match author.identity() {
            Ok(identity) => authors.identities.push(identity),
            Err(why) => faults.add(here, why),
        }
    }
    for (index, written) in spec.statements.iter().enumerate() {
        match written.parse() {
            Ok(statement) => drop(authors.statements.insert(statement)),
            Err(error) => faults.add(key("statements").index(index), format!("{error}")),
        }
    }
    faults.finish(of.map(|of| (of, authors)))
}

/// When a resource was created, as the API server says it.
pub(super) fn created(document: &Document) -> Option<Timestamp> {
    document.text("metadata.creationTimestamp")?.parse().ok()
}

/// The resource that keeps a rejection. Its name says what it is about, so that nothing is kept twice.
pub fn rejection_resource(digest: &Digest, rejection: &KeptRejection) -> Value {
    let KeptRejection {
        environment,
        namespace,
        emergency,
        is_closure,
        person,
        at,
        reason,
        ..
    } = rejection;
    let digest = digest.to_string();
    let emergency = emergency.as_ref().map(Digest::to_string);
    // A namespace is never written as a digest is.
    let about: Vec<&str> = [digest.as_str(), environment, person]
        .into_iter()
        .chain(namespace.as_deref())
        .chain(emergency.as_deref())
        .chain(is_closure.then_some("closure"))
        .collect();
    let name = kept_name("rejection", &about);
    let mut spec = json!({
        "digest": digest,
        "environment": environment,
        "person": person,
        "at": at.to_string(),
    });
    let cut: Option<String> = reason
        .as_ref()
        .map(|reason| reason.chars().take(2000).collect());
    let cut = cut.filter(|reason| !reason.is_empty());
    if let Value::Object(fields) = &mut spec {
        fields.extend(cut.map(|reason| ("reason".to_owned(), json!(reason))));
        let namespace = namespace.as_ref();
        fields.extend(namespace.map(|namespace| ("namespace".to_owned(), json!(namespace))));
        fields.extend(emergency.map(|emergency| ("emergency".to_owned(), json!(emergency))));
        fields.extend(is_closure.then(|| ("closure".to_owned(), json!(true))));
    }
    resource("Rejection", &name, spec)
}

/// The most identities and statements of one of them.
pub const MAXIMUM_IDENTITIES: usize = 5000;
pub const MAXIMUM_STATEMENTS: usize = 500;

/// The resource that keeps authors: one for each digest, to which others are added.
pub fn author_record_resource(digest: &Digest, authors: &KeptAuthors) -> Value {
    let statements: Vec<_> = authors.statements.iter().map(Digest::to_string).collect();
    let whole = digest.to_string();
    let identities: BTreeSet<_> = authors.identities.iter().collect();
    let identities: Vec<_> = identities
        .into_iter()
        .filter_map(WrittenAuthor::of)
        .collect();
    let spec = json!({"digest": whole, "identities": identities, "statements": statements});
    resource("AuthorRecord", &kept_name("authors", &[&whole]), spec)
}

pub(super) fn resource(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    })
}

pub(super) fn kept_name(prefix: &str, parts: &[&str]) -> String {
    let whole = Digest::sha256(json!(parts).to_string().as_bytes());
    format!("{prefix}-{}", whole.hex().get(..40).unwrap_or_default())
}

impl WrittenAuthor {
    /// An identity as it is written; `None` for a key, which no evidence of authors gives.
    fn of(identity: &Identity) -> Option<WrittenAuthor> {
        let mut written = WrittenAuthor::default();
        match identity {
            Identity::Certificate { issuer, name } => {
                let mut certificate = AuthorCertificate {
                    issuer: Some(issuer.clone()).filter(|issuer| !issuer.is_empty()),
                    ..AuthorCertificate::default()
                };
                let field = match name {
                    name if name.contains("://") => &mut certificate.uri,
                    name if name.contains('@') => &mut certificate.email,
                    _ => &mut certificate.username,
                };
                *field = Some(name.clone());
                written.certificate = Some(certificate);
            }
            Identity::Account(account) => {
                let platform = account.platform();
                let fields = AuthorAccount {
                    login: Some(account.login().to_owned()).filter(|login| !login.is_empty()),
                    id: account.id(),
                    host: Some(account.host().to_owned())
                        .filter(|host| host != platform.public_host()),
                };
                match platform {
                    SourcePlatform::GitHub => written.github = Some(fields),
                    SourcePlatform::GitLab => written.gitlab = Some(fields),
                }
            }
            Identity::KubernetesUser(user) => {
                written.kubernetes = Some(AuthorUser { user: user.clone() });
            }
            Identity::Key(_) => return None,
        }
        Some(written)
    }

    fn identity(self) -> Result<Identity, String> {
        let WrittenAuthor {
            certificate,
            github,
            gitlab,
            kubernetes,
        } = self;
        match (certificate, github, gitlab, kubernetes) {
            (Some(certificate), None, None, None) => certificate.identity(),
            (None, Some(account), None, None) => account.identity(SourcePlatform::GitHub),
            (None, None, Some(account), None) => account.identity(SourcePlatform::GitLab),
            (None, None, None, Some(AuthorUser { user })) => {
                Ok(Identity::KubernetesUser(bounded(user)?))
            }
            _ => Err(
                "expected exactly one of `certificate`, `github`, `gitlab` and `kubernetes`"
                    .to_owned(),
            ),
        }
    }
}

impl AuthorCertificate {
    fn identity(self) -> Result<Identity, String> {
        let name = match (self.email, self.uri, self.username) {
            (Some(name), None, None) | (None, Some(name), None) | (None, None, Some(name)) => name,
            _ => {
                return Err(
                    "`certificate` needs exactly one of `email`, `uri` and `username`".to_owned(),
                );
            }
        };
        let issuer = self.issuer.map(bounded).transpose()?;
        Ok(Identity::Certificate {
            issuer: issuer.unwrap_or_default(),
            name: bounded(name)?,
        })
    }
}

impl AuthorAccount {
    fn identity(self, platform: SourcePlatform) -> Result<Identity, String> {
        let host = self.host.as_deref();
        match (self.login, self.id) {
            (Some(login), id) => Identity::account(platform, host, &login, id),
            (None, Some(id)) => Identity::account_by_id(platform, host, id),
            (None, None) => Err("an account needs `login` or `id`".to_owned()),
        }
    }
}

fn bounded(text: String) -> Result<String, String> {
    match text.len() {
        0 => Err("the text is empty".to_owned()),
        1..=MAXIMUM_TEXT => Ok(text),
        _ => Err(format!("the text is longer than {MAXIMUM_TEXT} bytes")),
    }
}

pub(super) fn digest(written: &str, field: &str, faults: &mut Faults) -> Option<Digest> {
    match written.parse() {
        Ok(digest) => Some(digest),
        Err(error) => {
            faults.add(key(field), format!("{error}"));
            None
        }
    }
}

pub(super) fn key(name: &str) -> Path {
    Path::default().key(name)
}
