//! The question that an incident check describes: the request for an incident, what authenticates it, and what its answer means.

use std::path::Path as FilePath;

use http::{HeaderName, HeaderValue};
use promotion_gate_core::gate::{Glob, IncidentReading};
use serde_json::Value;
use url::Url;

use super::{PLACEHOLDER, WrittenScheme};

/// The most characters of an incident's id.
const MAXIMUM_ID: usize = 64;

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
    pub(super) url: String,
    /// Headers besides `Accept` and those of the authentication.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What is sent; a request without it is a GET.
    pub(super) body: Option<Value>,
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
pub(super) const SAMPLE: &str = "A1";

fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(encode).collect()
}

pub(super) fn filled(value: &Value, id: &str) -> Value {
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
