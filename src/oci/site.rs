//! The API of a platform over HTTP, through the transport that reads registries: the same TLS, address checks, timeouts and byte
//! limits.

use http::header::RETRY_AFTER;
use http::{HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use tokio::time::{Duration, timeout};
use url::Url;

use super::answer::{HttpAnswer, next_page, redirected};
use super::client::origin;
use super::error::excerpt;
use super::transport::{Call, Transport};
use super::{ClientOptions, ErrorKind, RegistryError};

/// A platform's API. The token is sent to this one origin alone.
pub(crate) struct Site {
    transport: Transport,
    base: Url,
    token: Option<HeaderValue>,
}

/// An answer with success.
pub(crate) struct SiteAnswer {
    pub(crate) body: bytes::Bytes,
    /// The next page.
    pub(crate) next: Option<Url>,
    /// The request, for messages.
    pub(crate) tried: String,
}

/// Why there is no answer.
pub(crate) enum SiteFailure {
    /// The platform limits the rate of requests.
    Limited(RateLimit),
    /// Anything else.
    Other(RegistryError),
}

/// When a rate limit ends, as the platform says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RateLimit {
    In(Duration),
    /// Seconds since 1970.
    At(i64),
    Unsaid,
}

impl RateLimit {
    /// How long the limit lasts from `now` on; `None` if the platform does not say it.
    pub(crate) fn wait(self, now: Timestamp) -> Option<Duration> {
        match self {
            RateLimit::In(wait) => Some(wait),
            RateLimit::At(second) => {
                let wait = second.saturating_sub(now.as_second());
                Some(Duration::from_secs(u64::try_from(wait).unwrap_or(0) + 1))
            }
            RateLimit::Unsaid => None,
        }
    }
}

impl Site {
    /// `host` serves the API below `path`. A host on loopback is reached without TLS, like a registry there.
    pub(crate) fn new(
        options: &ClientOptions,
        host: &str,
        path: &str,
        token: Option<&str>,
    ) -> Result<Site, RegistryError> {
        let transport = Transport::new(options)?;
        let refused = |why: &str| {
            RegistryError::new(ErrorKind::Malformed, format!("`{host}`"), why.to_owned())
        };
        let scheme = match transport.is_plain(host) {
            true => "http",
            false => "https",
        };
        let base = Url::parse(&format!("{scheme}://{host}{path}"));
        let base = base.map_err(|_| refused("this is not the name of a host"))?;
        let token = token.map(|token| {
            let mut header = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| refused("the token has characters that no header may carry"))?;
            header.set_sensitive(true);
            Ok(header)
        });
        Ok(Site {
            transport,
            base,
            token: token.transpose()?,
        })
    }

    /// The URL of a path below the API, each part of it encoded.
    pub(crate) fn url(&self, parts: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(parts);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// Reads one page. Redirects are followed within the origin: another host must neither get the token nor answer for this one.
    pub(crate) async fn get(&self, url: &Url, limit: u64) -> Result<SiteAnswer, SiteFailure> {
        let total = self.transport.timeouts.total;
        let late = |_| {
            let tried = format!("`GET {url}`");
            let why = "there was no answer in time";
            RegistryError::new(ErrorKind::TimedOut, tried, why)
        };
        let answer = timeout(total, self.follow(url, limit)).await.map_err(late);
        let answer = answer.flatten().map_err(SiteFailure::Other)?;
        if let Some(limit) = rate_limit(&answer) {
            return Err(SiteFailure::Limited(limit));
        }
        if !answer.status.is_success() {
            return Err(SiteFailure::Other(failure(&answer)));
        }
        let refused = |why: &str| {
            let error = RegistryError::new(ErrorKind::Malformed, answer.tried.clone(), why);
            SiteFailure::Other(error)
        };
        if answer.is_web_page() {
            return Err(refused("the answer is a web page, not JSON"));
        }
        let next = next_page(&answer);
        if next.as_ref().is_some_and(|next| !self.is_ours(next)) {
            return Err(refused("the next page is on another host"));
        }
        Ok(SiteAnswer {
            next,
            tried: answer.tried,
            body: answer.body,
        })
    }

    async fn follow(&self, url: &Url, limit: u64) -> Result<HttpAnswer, RegistryError> {
        let mut url = url.clone();
        for _ in 0..=self.transport.limits.redirects {
            let call = Call {
                method: Method::GET,
                url: &url,
                accept: "application/json",
                authorization: self.token.as_ref(),
                headers: &[],
                local: self.transport.is_local(&self.base),
                content: None,
                limit,
            };
            let answer = self.transport.exchange(&call).await?;
            if !answer.status.is_redirection() {
                return Ok(answer);
            }
            url = redirected(&url, &answer)?;
            if !self.is_ours(&url) {
                let why = "the redirect leads to another host; name the repository by its present address";
                return Err(RegistryError::new(ErrorKind::Denied, answer.tried, why));
            }
        }
        let why = "there are too many redirects";
        Err(RegistryError::new(
            ErrorKind::Unavailable,
            format!("`GET {url}`"),
            why,
        ))
    }

    fn is_ours(&self, url: &Url) -> bool {
        origin(url) == origin(&self.base) && url.path().starts_with(self.base.path())
    }
}

fn failure(answer: &HttpAnswer) -> RegistryError {
    let (kind, hint) = match answer.status {
        StatusCode::UNAUTHORIZED => (ErrorKind::Unauthorized, "; check the token"),
        StatusCode::FORBIDDEN => (ErrorKind::Denied, "; the token lacks a permission"),
        StatusCode::NOT_FOUND => (
            ErrorKind::NotFound,
            "; it does not exist, or the token may not read it",
        ),
        _ => (ErrorKind::Unavailable, ""),
    };
    let said = match answer.is_web_page() {
        true => "a web page".to_owned(),
        false => excerpt(&answer.body),
    };
    let why = format!("the platform answered {} ({said}){hint}", answer.status);
    RegistryError::new(kind, answer.tried.clone(), why)
}

/// The rate limit, if that is why the request is refused: 429, or 403 with the headers of a limit.
pub(crate) fn rate_limit(answer: &HttpAnswer) -> Option<RateLimit> {
    let number = |name: &str| {
        answer
            .header(name)
            .and_then(|text| text.trim().parse().ok())
    };
    let spent = ["x-ratelimit-remaining", "ratelimit-remaining"]
        .iter()
        .any(|name| number(name) == Some(0));
    let retry = answer.header(RETRY_AFTER.as_str());
    let is_limit = match answer.status {
        StatusCode::TOO_MANY_REQUESTS => true,
        StatusCode::FORBIDDEN => spent || retry.is_some(),
        _ => false,
    };
    let said = || {
        if let Some(retry) = retry {
            return retry_after(retry);
        }
        let reset = number("x-ratelimit-reset").or_else(|| number("ratelimit-reset"));
        reset.filter(|_| spent).map(RateLimit::At)
    };
    is_limit.then(|| said().unwrap_or(RateLimit::Unsaid))
}

/// The header `Retry-After`: seconds, or a date.
pub(super) fn retry_after(text: &str) -> Option<RateLimit> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(RateLimit::In(Duration::from_secs(seconds)));
    }
    let date = jiff::fmt::rfc2822::parse(text.trim()).ok()?;
    Some(RateLimit::At(date.timestamp().as_second()))
}
