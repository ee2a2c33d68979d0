//! `IncidentCheck` as written, and the one conversion into the question that the gate asks an incident tracker.
//!
//! * `question` — the question
//! * `presets` — the trackers that are built in
//! * `unmet` — what policies ask for and no answer says

mod presets;
mod question;
#[cfg(test)]
mod tests;
mod unmet;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path as FilePath};

use http::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderName, HeaderValue};
use kube::CustomResource;
use promotion_gate_core::documents::{Fault, Path};
use promotion_gate_core::gate::{Digest, Glob, IncidentReading, Severity};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::Written;
use super::faults::Faults;
use presets::Preset;
use question::{SAMPLE, filled};

pub(super) use unmet::unmet;

pub use question::{
    CredentialForm, CredentialPlace, IncidentAuthentication, IncidentCheck, IncidentRequest,
};

/// The placeholder of the incident's id in a request.
pub const PLACEHOLDER: &str = "{id}";
/// The Secret in the gate's namespace whose keys hold the credentials of checks. The gate may read this one, and no Secret with keys
/// of its own.
pub const CREDENTIALS_SECRET: &str = "promotion-gate-incident-checks";
/// The most bytes of a request's body.
const MAXIMUM_BODY: usize = 16 << 10;
/// Headers that are set otherwise: by `auth`, or by the client.
const RESERVED: [HeaderName; 11] = [
    AUTHORIZATION,
    PROXY_AUTHORIZATION,
    COOKIE,
    HOST,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// How the gate asks an incident tracker whether an incident is open and how severe it is: by a `preset` and the `url` of the tracker,
/// or by a `request` and an `expression` over the answer.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[expect(
    clippy::duplicated_attributes,
    reason = "each column has a name and a type"
)]
#[kube(
    group = "promotion-gate.dev",
    version = "v1alpha1",
    kind = "IncidentCheck",
    root = "IncidentCheckResource",
    plural = "incidentchecks",
    shortname = "pgi",
    category = "promotion-gate",
    schema = "disabled",
    printcolumn(name = "Preset", type_ = "string", json_path = ".spec.preset"),
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.url"),
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
pub struct IncidentCheckSpec {
    /// The tracker: the request and the meaning of its answers are built in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<WrittenTracker>,
    /// With a `preset`: the HTTPS address of the tracker, such as `https://example.service-now.com`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub url: Option<String>,
    /// Without a `preset`: the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<WrittenRequest>,
    /// Without a `preset`: a CEL expression over `status` (the number), `body` (the JSON of the answer) and `id` (the incident's id). It
    /// gives a map `{open, severity, url, createdAt, createdBy, service}`, a list with at most one such map, or `null` where the
    /// tracker has no such incident. `open` is a boolean; the others are texts, and may be absent or `null`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub expression: Option<String>,
    /// What the ids of incidents look like; `*` stands for any characters. An id has at most 64 letters, digits, `.`, `_` and `-`, and
    /// begins with a letter or digit. No other id is asked for. With a preset, its own pattern when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub ids: Vec<Written<Glob>>,
    /// The tracker's words for severities, each with `P1` to `P5`; `P1` is the most severe. They replace those of the preset.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 50))]
    pub severities: BTreeMap<String, Severity>,
    /// How the gate authenticates; not at all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<WrittenAuthentication>,
}

/// A tracker whose answers are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WrittenTracker {
    /// ServiceNow: the table `incident`, by its number.
    ServiceNow,
    /// Jira Service Management: an issue of the type `Incident` or `[System] Incident`, by its key.
    JiraServiceManagement,
    /// PagerDuty: an incident, by its id or number.
    PagerDuty,
}

/// A request to a tracker. `{id}` stands for the incident's id, encoded for its place.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WrittenRequest {
    /// `GET` when absent; `POST` needs a `body`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<WrittenMethod>,
    /// The HTTPS address. `{id}` may stand in its path and in its query.
    #[schemars(length(min = 1, max = 2048))]
    pub url: String,
    /// Headers. What authenticates belongs to `auth`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 20))]
    pub headers: BTreeMap<String, String>,
    /// The JSON that is sent. `{id}` may stand in its texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<JsonBody>,
}

/// The method of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WrittenMethod {
    /// Reads.
    #[serde(rename = "GET")]
    Get,
    /// Sends a question as JSON.
    #[serde(rename = "POST")]
    Post,
}

/// An object that is sent as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JsonBody(Value);

impl JsonSchema for JsonBody {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "JsonBody".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "object"})
    }
}

/// A credential. It is read at each request, from exactly one of `file` and `secretKey`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WrittenAuthentication {
    /// How the credential is sent; that of the preset when absent, and without a preset `Bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<WrittenScheme>,
    /// A header that holds the credential alone, such as `X-Api-Key`, instead of a `scheme`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub header: Option<String>,
    /// A file that holds the credential. Where the check is a resource of the cluster, a path below the folder of the gate's
    /// configuration; else a path that is relative starts at the folder of this document.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub file: Option<String>,
    /// A key of the Secret `promotion-gate-incident-checks` in the gate's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub secret_key: Option<String>,
}

/// How a credential is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WrittenScheme {
    /// `Authorization: Bearer …`: the credential is a token.
    Bearer,
    /// `Authorization: Basic …`: the credential is `user:password`.
    Basic,
    /// `Authorization: Token token=…`: the credential is an API key of PagerDuty.
    Token,
}

/// The check that a document describes. Paths of files that are relative start at `folder`.
///
/// # Errors
/// What is wrong with the document, each with its path below `spec`.
pub fn incident_check(
    name: &str,
    spec: &IncidentCheckSpec,
    folder: &FilePath,
) -> Result<IncidentCheck, Vec<Fault>> {
    let mut faults = Faults::default();
    let ids = faults.list(&spec.ids, &key("ids"));
    for word in spec.severities.keys().filter(|word| word.trim().is_empty()) {
        faults.add(key("severities").key(word), "the word is empty");
    }
    let asked = match spec.preset {
        Some(tracker) => of_preset(tracker, spec, &mut faults),
        None => of_request(spec, &mut faults),
    };
    let default = asked
        .as_ref()
        .map_or(WrittenScheme::Bearer, |asked| asked.scheme);
    let authentication = spec.auth.as_ref();
    let authentication =
        authentication.and_then(|auth| faults.authentication(auth, default, folder));
    let reading = asked.as_ref().and_then(|asked| {
        let severities = match spec.severities.is_empty() {
            true => asked.severities.clone(),
            false => spec.severities.clone(),
        };
        faults.reading(&asked.expression, severities)
    });
    let written = serde_json::to_vec(spec).unwrap_or_default();
    let check = asked.zip(reading).map(|(asked, reading)| IncidentCheck {
        name: name.to_owned(),
        request: asked.request,
        accept: asked.accept,
        ids: match ids.is_empty() {
            true => asked.ids,
            false => ids,
        },
        authentication,
        reading,
        revision: Digest::sha256(&written).to_string(),
    });
    faults.finish(check)
}

/// Faults of the file that a check of a cluster names. The author of a check must not make the gate send a file of their choice:
/// files are below the folder of the configuration.
pub(super) fn file_elsewhere(spec: &IncidentCheckSpec) -> Option<Fault> {
    let file = spec.auth.as_ref()?.file.as_ref()?;
    let mut components = FilePath::new(file).components();
    let is_below = components.all(|component| matches!(component, Component::Normal(_)));
    (!is_below).then(|| Fault {
        path: key("auth").key("file"),
        message: "an incident check in the cluster names a file below the folder of the gate's configuration: expected a relative path without `..`".to_owned(),
    })
}

/// The request and its meaning, from a preset or as written.
struct Asked {
    request: IncidentRequest,
    accept: String,
    expression: String,
    ids: Vec<Glob>,
    severities: BTreeMap<String, Severity>,
    scheme: WrittenScheme,
}

fn of_preset(
    tracker: WrittenTracker,
    spec: &IncidentCheckSpec,
    faults: &mut Faults,
) -> Option<Asked> {
    let given = [
        ("request", spec.request.is_some()),
        ("expression", spec.expression.is_some()),
    ];
    for (field, _) in given.into_iter().filter(|(_, given)| *given) {
        faults.add(key(field), "a check with a `preset` has the request and the expression of the preset: remove this, or the `preset`");
    }
    let Some(url) = &spec.url else {
        faults.add(
            Path::default(),
            "`url` is missing: the address of the tracker, such as `https://example.service-now.com`",
        );
        return None;
    };
    let base = url.trim().trim_end_matches('/');
    let has_more = |url: &Url| url.query().is_some() || url.fragment().is_some();
    if address(base).as_ref().is_none_or(has_more) || base.contains(PLACEHOLDER) {
        faults.add(
            key("url"),
            "expected the address of the tracker, such as `https://example.service-now.com`, without a user name or a query",
        );
        return None;
    }
    let Preset {
        path,
        accept,
        expression,
        ids,
        severities,
        scheme,
    } = presets::preset(tracker, base);
    let ids = ids.iter().filter_map(|pattern| Glob::parse(pattern).ok());
    Some(Asked {
        request: IncidentRequest {
            url: format!("{base}{path}"),
            headers: Vec::new(),
            body: None,
        },
        accept: accept.to_owned(),
        expression,
        ids: ids.collect(),
        severities,
        scheme,
    })
}

fn of_request(spec: &IncidentCheckSpec, faults: &mut Faults) -> Option<Asked> {
    if spec.url.is_some() {
        faults.add(
            key("url"),
            "`url` belongs to a `preset`; write `request: {url: …}`",
        );
    }
    let (Some(request), Some(expression)) = (&spec.request, &spec.expression) else {
        faults.add(
            Path::default(),
            "expected `preset` and `url`, or `request` and `expression`",
        );
        return None;
    };
    let here = key("request");
    let url = request.url.trim();
    let sample = address(&url.replace(PLACEHOLDER, SAMPLE));
    let has_fragment = |url: &Url| url.fragment().is_some();
    if sample.as_ref().is_none_or(has_fragment) || changes_origin(url) {
        faults.add(
            here.key("url"),
            "expected an address with `https://`, a host and no user name; `{id}` may stand in its path and in its query",
        );
    }
    let body = request.body.as_ref().map(|JsonBody(body)| body);
    if request.method == Some(WrittenMethod::Post) && body.is_none() {
        faults.add(here.clone(), "`POST` needs a `body`");
    }
    if request.method != Some(WrittenMethod::Post) && body.is_some() {
        faults.add(here.key("body"), "a body is sent with `method: POST` only");
    }
    if body.is_some_and(|body| body.to_string().len() > MAXIMUM_BODY) {
        faults.add(
            here.key("body"),
            format!("it is larger than {MAXIMUM_BODY} bytes"),
        );
    }
    let is_asked_for =
        url.contains(PLACEHOLDER) || body.is_some_and(|body| filled(body, SAMPLE) != *body);
    if !is_asked_for {
        faults.add(
            here.clone(),
            "`{id}` is missing: without it every incident would have the same answer",
        );
    }
    let (headers, accept) = faults.headers(&request.headers, &here.key("headers"));
    Some(Asked {
        request: IncidentRequest {
            url: url.to_owned(),
            headers,
            body: body.cloned(),
        },
        accept: accept.unwrap_or_else(|| "application/json".to_owned()),
        expression: expression.clone(),
        ids: Vec::new(),
        severities: BTreeMap::new(),
        scheme: WrittenScheme::Bearer,
    })
}

/// An address that may be asked. Whether it is asked without TLS is decided by the client.
fn address(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_web = matches!(url.scheme(), "https" | "http")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none();
    is_web.then_some(url)
}

/// Whether the placeholder stands in the scheme, the host or the port.
fn changes_origin(url: &str) -> bool {
    let with = |id: &str| Url::parse(&url.replace(PLACEHOLDER, id)).map(|url| url.origin());
    let origins: BTreeSet<_> = [SAMPLE, "B2"]
        .into_iter()
        .map(|id| with(id).map(|origin| origin.ascii_serialization()).ok())
        .collect();
    origins.len() != 1
}

fn key(name: &str) -> Path {
    Path::default().key(name)
}

impl Faults {
    fn headers(
        &mut self,
        written: &BTreeMap<String, String>,
        here: &Path,
    ) -> (Vec<(HeaderName, HeaderValue)>, Option<String>) {
        let (mut headers, mut accept) = (Vec::new(), None);
        for (name, value) in written {
            let at = here.key(name);
            let (Ok(known), Ok(text)) = (
                HeaderName::try_from(name),
                HeaderValue::try_from(value.as_str()),
            ) else {
                self.add(at, "this is no HTTP header");
                continue;
            };
            if value.contains(PLACEHOLDER) {
                self.add(at, "`{id}` may not stand in a header");
            } else if RESERVED.contains(&known) {
                let why =
                    "the gate sets this header by itself; what authenticates belongs to `auth`";
                self.add(at, why);
            } else if known == ACCEPT {
                accept = Some(value.clone());
            } else {
                headers.push((known, text));
            }
        }
        (headers, accept)
    }

    fn authentication(
        &mut self,
        written: &WrittenAuthentication,
        default: WrittenScheme,
        folder: &FilePath,
    ) -> Option<IncidentAuthentication> {
        let here = key("auth");
        let form = match (&written.header, written.scheme) {
            (None, scheme) => Some(CredentialForm::Scheme(scheme.unwrap_or(default))),
            (Some(_), Some(_)) => {
                self.add(
                    here.clone(),
                    "expected at most one of `scheme` and `header`",
                );
                None
            }
            (Some(header), None) => {
                let name = HeaderName::try_from(header).ok();
                let name = name.filter(|name| !RESERVED.contains(name) && *name != ACCEPT);
                if name.is_none() {
                    let why = "expected the name of a header such as `X-Api-Key`; for `Authorization` write a `scheme`";
                    self.add(here.key("header"), why);
                }
                name.map(CredentialForm::Header)
            }
        };
        let credential = match (&written.file, &written.secret_key) {
            (Some(file), None) => Some(CredentialPlace::File(
                folder.join(file).display().to_string(),
            )),
            (None, Some(key)) => {
                let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
                if !key.chars().all(fits) {
                    let why = "expected a key of a Secret: letters, digits, `.`, `_` and `-`";
                    self.add(here.key("secretKey"), why);
                }
                Some(CredentialPlace::SecretKey(key.clone()))
            }
            _ => {
                self.add(
                    here.clone(),
                    "expected exactly one of `file` and `secretKey`",
                );
                None
            }
        };
        Some(IncidentAuthentication {
            credential: credential?,
            form: form?,
        })
    }

    fn reading(
        &mut self,
        expression: &str,
        severities: BTreeMap<String, Severity>,
    ) -> Option<IncidentReading> {
        match IncidentReading::new(expression, severities) {
            Ok(reading) => Some(reading),
            Err(faults) => {
                for fault in faults {
                    self.add(key("expression"), format!("in the expression, {fault}"));
                }
                None
            }
        }
    }
}
