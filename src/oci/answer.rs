//! The answer of a registry, and what it means.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LINK, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use promotion_gate_core::gate::Digest;
use serde::Deserialize;
use url::Url;

use super::address::shown;
use super::error::excerpt;
use super::{ErrorKind, Manifest, Reference, RegistryError};
use crate::metrics::failed_to_read;

/// The header with the digest of the content.
pub(super) const CONTENT_DIGEST: &str = "docker-content-digest";
/// The most fields of a manifest, counted by their colons: each field takes many times its length in memory.
const MAXIMUM_FIELDS: usize = 100_000;

/// The answer to a request.
#[derive(Clone)]
pub(crate) struct HttpAnswer {
    pub(crate) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The request, for messages.
    pub(super) tried: String,
    /// The URL that answered.
    pub(super) at: Url,
    /// If the request was refused: whether it carried a credential, in words.
    pub(super) credential: String,
}

impl HttpAnswer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether it is a web page, with any status: from a login, a proxy, a portal.
    pub(crate) fn is_web_page(&self) -> bool {
        let media_type = self.header(CONTENT_TYPE.as_str()).unwrap_or_default();
        let media_type = media_type.trim().to_ascii_lowercase();
        let text = self.body.trim_ascii_start();
        let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
        let named = ["text/html", "application/xhtml"];
        named.iter().any(|name| media_type.starts_with(name)) || text.starts_with(b"<")
    }

    /// The error of an answer without success.
    pub(super) fn failure(&self) -> RegistryError {
        let kind = match self.status {
            StatusCode::NOT_FOUND => ErrorKind::NotFound,
            StatusCode::UNAUTHORIZED => ErrorKind::Unauthorized,
            StatusCode::FORBIDDEN => ErrorKind::Denied,
            StatusCode::TOO_MANY_REQUESTS => ErrorKind::RateLimited,
            _ => ErrorKind::Unavailable,
        };
        failed_to_read(kind.id());
        let mut why = format!("the registry answered {}", self.status);
        let said = if self.is_web_page() {
            "with a web page".to_owned()
        } else {
            said(&self.body)
        };
        if !said.is_empty() {
            why = format!("{why}: {said}");
        }
        if matches!(kind, ErrorKind::Unauthorized | ErrorKind::Denied)
            && !self.credential.is_empty()
        {
            why = format!("{why}; {}", self.credential);
        }
        RegistryError::new(kind, self.tried.clone(), why)
    }
}

/// The message of a failure: the first error in the body, or the body itself.
fn said(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Said>,
    }
    #[derive(Deserialize)]
    struct Said {
        code: Option<String>,
        message: Option<String>,
    }
    let errors = serde_json::from_slice::<Errors>(body).ok();
    let first = errors.and_then(|errors| errors.errors.into_iter().next());
    let text = first.map(|first| {
        let parts = [first.code, first.message].into_iter().flatten();
        parts.collect::<Vec<_>>().join(": ")
    });
    match text {
        Some(text) if !text.is_empty() => excerpt(text.as_bytes()),
        _ => excerpt(body),
    }
}

/// Whether something other than a registry answered: a web page, or a place that the registry redirects to and that is not an
/// endpoint of the distribution API (GHCR redirects requests for referrers to a page of github.com, which limits the rate). A
/// server that fails or limits the rate itself is an unavailable registry, and `404 Not Found` means the same in any form.
pub(super) fn not_from_a_registry(answer: &HttpAnswer, path: &str) -> Option<RegistryError> {
    let asked = answer.at.path().replace("%3A", ":").replace("%3a", ":");
    let is_api = asked.contains("/v2/") && asked.ends_with(&format!("/{path}"));
    let tells = answer.status.is_server_error()
        || [StatusCode::TOO_MANY_REQUESTS, StatusCode::NOT_FOUND].contains(&answer.status);
    let why = if !is_api && !answer.status.is_success() {
        format!(
            "the registry redirects to something other than a registry, which answered {}",
            answer.status
        )
    } else if answer.is_web_page() && !tells {
        format!(
            "the answer is a web page ({}), not a registry's answer",
            answer.status
        )
    } else if answer.status.is_success() && !is_json(&answer.body) {
        format!(
            "the answer ({}) does not come from a registry: it is not JSON",
            answer.status
        )
    } else {
        return None;
    };
    let tried = answer.tried.clone();
    Some(RegistryError::new(ErrorKind::Unavailable, tried, why))
}

/// Whether the body begins as JSON does. An empty body was cut off.
fn is_json(body: &[u8]) -> bool {
    let text = body.trim_ascii_start();
    text.is_empty() || text.starts_with(b"{")
}

/// The error for content that does not have its digest.
pub(super) fn mismatch(answer: &HttpAnswer, digest: &Digest) -> RegistryError {
    if answer.is_web_page() {
        return web_page(answer);
    }
    let why = format!("the content does not have the digest `{digest}`");
    RegistryError::new(ErrorKind::DigestMismatch, answer.tried.clone(), why)
}

fn web_page(answer: &HttpAnswer) -> RegistryError {
    let why = "the answer is a web page, not a registry's answer";
    RegistryError::new(ErrorKind::Unavailable, answer.tried.clone(), why)
}

pub(super) fn read_manifest(
    answer: &HttpAnswer,
    reference: &Reference,
) -> Result<Manifest, RegistryError> {
    if !answer.status.is_success() {
        return Err(answer.failure());
    }
    let said = answer
        .header(CONTENT_DIGEST)
        .and_then(|digest| digest.parse::<Digest>().ok());
    let digest = match (reference, said) {
        (Reference::Digest(digest), _) => digest.clone(),
        (Reference::Tag(_), Some(digest)) => digest,
        (Reference::Tag(_), None) => Digest::sha256(&answer.body),
    };
    if !digest.verifies(&answer.body) {
        return Err(mismatch(answer, &digest));
    }
    let fields = answer.body.iter().filter(|byte| **byte == b':').count();
    if fields > MAXIMUM_FIELDS {
        let why = format!("it has more than {MAXIMUM_FIELDS} fields");
        return Err(RegistryError::new(
            ErrorKind::TooLarge,
            answer.tried.clone(),
            why,
        ));
    }
    Manifest::parse(
        digest,
        answer.header(CONTENT_TYPE.as_str()),
        answer.body.clone(),
    )
    .map_err(|why| {
        if answer.is_web_page() {
            return web_page(answer);
        }
        RegistryError::new(ErrorKind::Malformed, answer.tried.clone(), why)
    })
}

pub(super) fn redirected(from: &Url, answer: &HttpAnswer) -> Result<Url, RegistryError> {
    let refused = |why: String| RegistryError::new(ErrorKind::Denied, answer.tried.clone(), why);
    let location = answer
        .headers
        .get(LOCATION)
        .map(HeaderValue::to_str)
        .and_then(Result::ok);
    let to = location.and_then(|location| from.join(location).ok());
    let to = to.ok_or_else(|| refused("the redirect has no usable Location header".to_owned()))?;
    match (from.scheme(), to.scheme()) {
        (_, "https") | ("http", "http") => Ok(to),
        _ => Err(refused(format!(
            "the redirect leads to `{}`, without TLS",
            shown(&to)
        ))),
    }
}

/// `Link: <…>; rel="next"`
pub(super) fn next_page(answer: &HttpAnswer) -> Option<Url> {
    let links = answer
        .headers
        .get_all(LINK)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let next = links.flat_map(|value| value.split(',')).find(|link| {
        link.split(';')
            .skip(1)
            .any(|part| matches!(part.trim(), "rel=\"next\"" | "rel=next"))
    })?;
    let target = next
        .split(';')
        .next()?
        .trim()
        .strip_prefix('<')?
        .strip_suffix('>')?;
    answer.at.join(target).ok()
}
