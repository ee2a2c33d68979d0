//! `IncidentCheck` as written, and the one conversion into the question that the gate asks an incident tracker.

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
use super::incident_presets::{self, Preset};

/// The placeholder of the incident's id in a request.
pub const PLACEHOLDER: &str = "{id}";
/// The Secret in the gate's namespace whose keys hold the credentials of checks. The gate may read this one, and no Secret with keys
/// of its own.
pub const CREDENTIALS_SECRET: &str = "promotion-gate-incident-checks";
/// The most characters of an incident's id.
const MAXIMUM_ID: usize = 64;
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

/// What the gate asks a tracker, and how it reads the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncidentCheck {
    /// The name of the document.
    pub name: String,
    /// The request.
    pub request: IncidentRequest,
    /// The media types that the tracker is asked for.
    pub accept: String,
    /// What the ids of incidents look like; empty for any.
    pub ids: Vec<Glob>,
    /// How the gate authenticates.
    pub authentication: Option<IncidentAuthentication>,
    /// What an answer means.
    pub reading: IncidentReading,
    /// Names what the document says: an answer counts for the revision that it was asked by.
    pub revision: String,
}

/// A request, with a placeholder for the incident's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncidentRequest {
    url: String,
    /// Headers besides `Accept` and those of the authentication.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What is sent; a request without it is a GET.
    body: Option<Value>,
}

/// How the gate authenticates to a tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncidentAuthentication {
    /// Where the credential is.
    pub credential: CredentialPlace,
    /// How it is sent.
    pub form: CredentialForm,
}

/// Where a credential is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialPlace {
    /// A file.
    File(String),
    /// A key of the Secret for the credentials of checks.
    SecretKey(String),
}

/// How a credential is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialForm {
    /// In `Authorization`.
    Scheme(WrittenScheme),
    /// Alone, in a header of its own.
    Header(HeaderName),
}

impl IncidentRequest {
    /// The address for an incident. The id is percent-encoded, except for characters without a meaning in URLs.
    ///
    /// # Errors
    /// The address is not one of the host that the document names.
    pub fn url(&self, id: &str) -> Result<Url, &'static str> {
        const CHANGES: &str = "the id changes more of the address than its own place";
        let url = Url::parse(&self.url.replace(PLACEHOLDER, &percent_encoded(id)));
        let url = url.map_err(|_| CHANGES)?;
        let sample = Url::parse(&self.url.replace(PLACEHOLDER, SAMPLE)).map_err(|_| CHANGES)?;
        let shape = |url: &Url| {
            let segments = url.path_segments().map(Iterator::count);
            (url.origin(), segments, url.query_pairs().count())
        };
        match shape(&url) == shape(&sample) {
            true => Ok(url),
            false => Err(CHANGES),
        }
    }

    /// The JSON for an incident. The id stands in texts, which are escaped when they are written.
    pub fn body(&self, id: &str) -> Option<Vec<u8>> {
        let body = self.body.as_ref()?;
        Some(filled(body, id).to_string().into_bytes())
    }
}

/// An id, for the check of addresses.
const SAMPLE: &str = "A1";

fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(encode).collect()
}

fn filled(value: &Value, id: &str) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace(PLACEHOLDER, id)),
        Value::Array(items) => items.iter().map(|item| filled(item, id)).collect(),
        Value::Object(fields) => {
            let fields = fields.iter();
            fields
                .map(|(key, value)| (key.clone(), filled(value, id)))
                .collect()
        }
        other => other.clone(),
    }
}

impl IncidentCheck {
    /// Why the check is not asked about an id; `None` if it is.
    pub fn refuse_id(&self, id: &str) -> Option<String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let is_id = id.len() <= MAXIMUM_ID
            && id.starts_with(|c: char| c.is_ascii_alphanumeric())
            && id.chars().all(fits);
        if !is_id {
            return Some(format!(
                "this is no id of an incident: expected at most {MAXIMUM_ID} letters, digits, `.`, `_` and `-`, and a letter or digit at the beginning"
            ));
        }
        let patterns = &self.ids;
        let matches = patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(id));
        let listed = || {
            let listed: Vec<_> = patterns.iter().map(|it| format!("`{it}`")).collect();
            format!(
                "the check `{}` has ids such as {}",
                self.name,
                listed.join(" and ")
            )
        };
        (!matches).then(listed)
    }

    /// The check with its file below a folder, if that is relative.
    pub fn below(&self, folder: &FilePath) -> IncidentCheck {
        let mut check = self.clone();
        if let Some(IncidentAuthentication {
            credential: CredentialPlace::File(file),
            ..
        }) = &mut check.authentication
        {
            *file = folder.join(&*file).display().to_string();
        }
        check
    }

    /// The host that is asked, for messages.
    pub fn host(&self) -> String {
        let url = Url::parse(&self.request.url.replace(PLACEHOLDER, SAMPLE)).ok();
        let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
        match url.as_ref().and_then(Url::port) {
            Some(port) => format!("`{host}:{port}`"),
            None => format!("`{host}`"),
        }
    }
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

/// Faults of the file that a check of a cluster names. Whoever may write a check must not make the gate send a file of their choice:
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
    let is_base = |url: &Url| url.query().is_none() && url.fragment().is_none();
    if !address(base).as_ref().is_some_and(is_base) || base.contains(PLACEHOLDER) {
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
    } = incident_presets::preset(tracker, base);
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
    if !sample.as_ref().is_some_and(|url| url.fragment().is_none()) || changes_origin(url) {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(spec: Value) -> Result<IncidentCheck, Vec<String>> {
        let spec: IncidentCheckSpec = serde_json::from_value(spec).unwrap();
        let read = incident_check("tracker", &spec, FilePath::new("/etc/gate"));
        let shown = |fault: &Fault| match fault.path.steps() {
            [] => fault.message.clone(),
            _ => format!("{}: {}", fault.path, fault.message),
        };
        read.map_err(|faults| faults.iter().map(shown).collect())
    }

    fn own(request: Value) -> Value {
        json!({"request": request, "expression": "{'open': body.open}"})
    }

    #[test]
    fn an_id_that_injects_is_encoded_for_its_place() {
        let check = check(own(json!({
            "method": "POST",
            "url": "https://tracker.example/incidents/{id}/x?query=number%3D{id}&limit=1",
            "body": {"query": "number={id}", "list": [{"id": "{id}"}], "count": 1},
        })));
        let request = check.unwrap().request;
        let url = |id: &str| request.url(id).map(|url| url.to_string());
        assert_eq!(
            url("INC-1_a.b").unwrap(),
            "https://tracker.example/incidents/INC-1_a.b/x?query=number%3DINC-1_a.b&limit=1"
        );
        assert_eq!(
            url("1^ORactive=true&limit=9#x?/ä").unwrap(),
            "https://tracker.example/incidents/1%5EORactive%3Dtrue%26limit%3D9%23x%3F%2F%C3%A4/x?query=number%3D1%5EORactive%3Dtrue%26limit%3D9%23x%3F%2F%C3%A4&limit=1"
        );
        // Segments with dots would be resolved.
        for id in ["..", ".", ""] {
            assert!(
                url(id).is_err() || url(id).unwrap().contains("/incidents/"),
                "{id}"
            );
        }
        url("..").unwrap_err();
        let body = request.body(r#"1", "admin": "yes\"#).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            body,
            json!({"query": r#"number=1", "admin": "yes\"#, "list": [{"id": r#"1", "admin": "yes\"#}], "count": 1})
        );
    }

    #[test]
    fn an_id_that_is_none_is_not_asked_for() {
        let any = check(own(json!({"url": "https://tracker.example/{id}"}))).unwrap();
        for id in ["INC0010001", "OPS-7", "PT4KHLK", "1", "a.b_c-d"] {
            assert_eq!(any.refuse_id(id), None, "{id}");
        }
        let long = "a".repeat(65);
        for id in [
            "", ".", "..", "-1", "a b", "a/b", "a^b", "a%2fb", "a\"b", "a{id}", "ä", "a\n", &long,
        ] {
            assert!(any.refuse_id(id).is_some(), "{id}");
        }
        let preset =
            check(json!({"preset": "ServiceNow", "url": "https://example.service-now.com/"}));
        let preset = preset.unwrap();
        assert_eq!(preset.refuse_id("INC0010001"), None);
        assert_eq!(
            preset.refuse_id("CHG0030192").unwrap(),
            "the check `tracker` has ids such as `INC*`"
        );
    }

    #[test]
    fn a_check_says_all_that_is_wrong_with_it() {
        for (spec, expected) in [
            (
                json!({}),
                vec!["expected `preset` and `url`, or `request` and `expression`"],
            ),
            (
                json!({"preset": "PagerDuty"}),
                vec![
                    "`url` is missing: the address of the tracker, such as `https://example.service-now.com`",
                ],
            ),
            (
                json!({"preset": "PagerDuty", "url": "https://user:password@api.pagerduty.com", "expression": "null"}),
                vec![
                    "expression: a check with a `preset` has the request and the expression of the preset: remove this, or the `preset`",
                    "url: expected the address of the tracker, such as `https://example.service-now.com`, without a user name or a query",
                ],
            ),
            (
                json!({"request": {"url": "https://{id}.example/", "headers": {"Authorization": "Bearer x", "X-A": "{id}", "a b": "c"}}, "expression": "bodi.open",
                       "auth": {"scheme": "Basic", "header": "X-Key"}}),
                vec![
                    "request.url: expected an address with `https://`, a host and no user name; `{id}` may stand in its path and in its query",
                    "request.headers.Authorization: the gate sets this header by itself; what authenticates belongs to `auth`",
                    "request.headers.X-A: `{id}` may not stand in a header",
                    "request.headers[\"a b\"]: this is no HTTP header",
                    "auth: expected at most one of `scheme` and `header`",
                    "auth: expected exactly one of `file` and `secretKey`",
                    "expression: in the expression, line 1, column 1: there is no variable `bodi`, did you mean `body`?; known are `status`, `body`, `id`",
                ],
            ),
            (
                own(json!({"method": "POST", "url": "https://tracker.example/x#{id}"})),
                vec![
                    "request.url: expected an address with `https://`, a host and no user name; `{id}` may stand in its path and in its query",
                    "request: `POST` needs a `body`",
                ],
            ),
            (
                own(json!({"url": "https://tracker.example/", "body": {"a": "{id}"}})),
                vec!["request.body: a body is sent with `method: POST` only"],
            ),
            (
                own(json!({"url": "https://tracker.example/incident"})),
                vec![
                    "request: `{id}` is missing: without it every incident would have the same answer",
                ],
            ),
        ] {
            assert_eq!(check(spec.clone()).unwrap_err(), expected, "{spec}");
        }
    }

    #[test]
    fn an_answer_counts_for_the_revision_that_it_was_asked_by() {
        let revision = |url: &str| check(own(json!({"url": url}))).unwrap().revision;
        assert_eq!(
            revision("https://a.example/{id}"),
            revision("https://a.example/{id}")
        );
        assert_ne!(
            revision("https://a.example/{id}"),
            revision("https://b.example/{id}")
        );
    }

    #[test]
    fn a_check_of_the_cluster_sends_no_file_of_its_choice() {
        let elsewhere = |file: &str| {
            let spec = json!({"auth": {"file": file}});
            let spec: IncidentCheckSpec = serde_json::from_value(spec).unwrap();
            file_elsewhere(&spec).is_some()
        };
        assert!(!elsewhere("incidents/token"));
        for file in [
            "/var/run/secrets/kubernetes.io/serviceaccount/token",
            "../tls.key",
            "a/../../b",
        ] {
            assert!(elsewhere(file), "{file}");
        }
    }
}
