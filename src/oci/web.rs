//! Documents of other systems over HTTP, through the transport that reads registries: the same TLS, address checks, timeouts and
//! byte limits. Addresses of documents are often secrets, so no message holds more of one than its host.

use http::header::{
    CONTENT_ENCODING, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, LOCATION, RETRY_AFTER,
};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use tokio::time::timeout;
use url::Url;

use super::address::authority;
use super::answer::{HttpAnswer, next_page};
use super::client::origin;
use super::error::excerpt;
use super::site::{RateLimit, retry_after};
use super::transport::{Call, Sent, Transport};
use super::{ClientOptions, ErrorKind, RegistryError};

/// How many times longer than for a registry is waited: nobody waits for these answers.
const PATIENCE: u32 = 3;

/// Other systems that are asked for documents.
pub(crate) struct Web {
    transport: Transport,
}

/// One question.
pub(crate) struct Question<'a> {
    pub(crate) url: &'a Url,
    pub(crate) accept: &'static str,
    /// Sent to the origin of `url` alone.
    pub(crate) authorization: Option<&'a HeaderValue>,
    /// Those of the content that is known already.
    pub(crate) validators: Option<&'a Validators>,
    /// The most bytes of the content.
    pub(crate) limit: u64,
}

/// One request of a service.
pub(crate) struct Asked<'a> {
    pub(crate) url: &'a Url,
    pub(crate) accept: &'a str,
    pub(crate) authorization: Option<&'a HeaderValue>,
    /// Further headers.
    pub(crate) headers: &'a [(HeaderName, HeaderValue)],
    /// The media type and the bytes of what is sent.
    pub(crate) content: Option<(&'static str, &'a [u8])>,
    pub(crate) limit: u64,
}

/// What tells whether content changed.
#[derive(Clone, Debug)]
pub(crate) struct Validators {
    /// The URL that gave the content, after redirects: the headers mean nothing to another one.
    url: Url,
    conditions: Vec<(HeaderName, HeaderValue)>,
}

/// What a document holds.
pub(crate) struct Content {
    pub(crate) body: bytes::Bytes,
    pub(crate) validators: Option<Validators>,
    /// The next page of a list.
    pub(crate) next: Option<Url>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) struct WebFailure {
    /// In words that begin with the host.
    pub(crate) why: String,
    pub(crate) is_refusal: bool,
    /// Whether there is no such document. Some storages answer 403 then.
    pub(crate) is_missing: bool,
    /// When to ask again, as the answer says.
    pub(crate) retry: Option<RateLimit>,
}

impl<'a> Question<'a> {
    fn conditions(&self, url: &Url) -> &'a [(HeaderName, HeaderValue)] {
        let known = self.validators.filter(|known| known.url == *url);
        known.map_or(&[], |known| &known.conditions)
    }
}

impl Web {
    pub(crate) fn new(options: &ClientOptions) -> Result<Web, RegistryError> {
        let mut options = options.clone();
        options.timeouts.request *= PATIENCE;
        options.timeouts.total *= PATIENCE;
        let transport = Transport::new(&options)?;
        Ok(Web { transport })
    }

    /// Reads a document; `None` if the content with the given validators is still the present one. Redirects are followed to where the guard lets a request go, never to HTTP without TLS, and never with
    /// the token to another origin.
    pub(crate) async fn get(&self, question: &Question<'_>) -> Result<Option<Content>, WebFailure> {
        let total = self.transport.timeouts.total;
        let answer = timeout(total, self.follow(question)).await;
        let late = |_| failure(question.url, "there was no answer in time");
        let answer = answer.map_err(late).flatten()?;
        let said = |why: &str| failure(&answer.at, why);
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if !question.conditions(&answer.at).is_empty() => {
                return Ok(None);
            }
            status => {
                let hint = hint(status, question.authorization.is_some());
                let retry = answer.header(RETRY_AFTER.as_str()).and_then(retry_after);
                return Err(WebFailure {
                    retry,
                    is_refusal: status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS,
                    is_missing: matches!(status, StatusCode::NOT_FOUND | StatusCode::FORBIDDEN),
                    ..said(&format!("answered {status}{hint}"))
                });
            }
        }
        if answer.is_web_page() {
            let why = "answered with a web page; this is probably a login, or the address of a page and not of the data";
            return Err(said(why));
        }
        if answer.headers.contains_key(CONTENT_ENCODING) {
            return Err(said(
                "answered with compressed content, which was not asked for",
            ));
        }
        let next = next_page(&answer);
        if next
            .as_ref()
            .is_some_and(|next| origin(next) != origin(question.url))
        {
            return Err(said("names a next page on another host"));
        }
        Ok(Some(Content {
            validators: validators(&answer),
            next,
            body: answer.body,
        }))
    }

    /// Makes one request, to a service that the operator names, and follows no redirect. A request without content is a GET.
    pub(crate) async fn exchange(&self, asked: &Asked<'_>) -> Result<HttpAnswer, RegistryError> {
        let refused = |why: &str| {
            let tried = format!("`{}`", host(asked.url));
            RegistryError::new(ErrorKind::Denied, tried, why)
        };
        if !self.may_ask(asked.url) {
            return Err(refused(
                "it is asked over `https` alone; for `http`, list the host under `registries` of the configuration with `plainHttp: true`",
            ));
        }
        let call = Call {
            method: match asked.content {
                Some(_) => Method::POST,
                None => Method::GET,
            },
            url: asked.url,
            accept: asked.accept,
            authorization: asked.authorization,
            headers: asked.headers,
            local: self.transport.is_local(asked.url),
            content: asked.content.map(|(media_type, bytes)| Sent {
                media_type,
                bytes: bytes.to_vec().into(),
            }),
            limit: asked.limit,
        };
        self.transport.exchange(&call).await
    }

    async fn follow(&self, question: &Question<'_>) -> Result<HttpAnswer, WebFailure> {
        let first = question.url;
        let mut url = first.clone();
        for _ in 0..=self.transport.limits.redirects {
            if !self.may_ask(&url) {
                let why = "is asked over `https` alone; for `http`, list the host under `registries` of the configuration with \
                           `plainHttp: true`";
                return Err(refusal(&url, why));
            }
            let call = Call {
                method: Method::GET,
                url: &url,
                accept: question.accept,
                authorization: question.authorization,
                headers: question.conditions(&url),
                local: self.transport.is_local(first),
                content: None,
                limit: question.limit,
            };
            let answer = self
                .transport
                .exchange(&call)
                .await
                .map_err(|error| WebFailure {
                    is_refusal: error.kind() == ErrorKind::Denied,
                    ..failure(&url, error.why())
                })?;
            if !answer.status.is_redirection() || answer.status == StatusCode::NOT_MODIFIED {
                return Ok(answer);
            }
            let location = answer.headers.get(LOCATION).map(HeaderValue::to_str);
            let location = location.and_then(Result::ok);
            let to = location.and_then(|location| url.join(location).ok());
            let to =
                to.ok_or_else(|| failure(&url, "redirects without a usable Location header"))?;
            if question.authorization.is_some() && origin(&to) != origin(first) {
                let why = format!(
                    "redirects to `{}`, where the token is not sent; write the URL that it leads to",
                    host(&to)
                );
                return Err(refusal(&url, &why));
            }
            if url.scheme() == "https" && to.scheme() != "https" {
                let why = format!("redirects to `{}` without TLS", host(&to));
                return Err(refusal(&url, &why));
            }
            url = to;
        }
        Err(failure(first, "redirects too many times"))
    }

    /// Whether the scheme is one that may be asked.
    fn may_ask(&self, url: &Url) -> bool {
        match url.scheme() {
            "https" => true,
            "http" => self.transport.is_plain(&authority(url)),
            _ => false,
        }
    }
}

fn validators(answer: &HttpAnswer) -> Option<Validators> {
    let condition = |from: HeaderName, to: HeaderName| {
        let value = answer.headers.get(from)?.clone();
        Some((to, value))
    };
    let conditions = [
        condition(ETAG, IF_NONE_MATCH),
        condition(LAST_MODIFIED, IF_MODIFIED_SINCE),
    ];
    let conditions: Vec<_> = conditions.into_iter().flatten().collect();
    (!conditions.is_empty()).then(|| Validators {
        url: answer.at.clone(),
        conditions,
    })
}

fn hint(status: StatusCode, with_token: bool) -> &'static str {
    match (status, with_token) {
        (StatusCode::UNAUTHORIZED, true) => "; check the token",
        (StatusCode::UNAUTHORIZED, false) => "; it asks for a token",
        (StatusCode::FORBIDDEN, _) => "; the account lacks a permission",
        (StatusCode::NOT_FOUND, true) => "; the URL is wrong, or the token may not read it",
        (StatusCode::NOT_FOUND, false) => "; the URL is wrong, or it asks for a token",
        (StatusCode::NOT_MODIFIED, _) => ", although that was not asked",
        _ => "",
    }
}

fn refusal(url: &Url, why: &str) -> WebFailure {
    WebFailure {
        is_refusal: true,
        ..failure(url, why)
    }
}

fn failure(url: &Url, why: &str) -> WebFailure {
    WebFailure {
        why: format!("`{}`: {why}", host(url)),
        is_refusal: false,
        is_missing: false,
        retry: None,
    }
}

/// The host and port of a URL, for messages.
fn host(url: &Url) -> String {
    excerpt(authority(url).as_bytes())
}
