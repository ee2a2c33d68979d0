//! What a registry asks for before it answers (`WWW-Authenticate`), and the token that a token server gives for it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Method};
use serde::Deserialize;
use url::Url;

use super::credentials::Secret;
use super::transport::{Answer, Call, Transport, is_loopback, shown};
use super::{ErrorKind, RegistryError, Repository};

/// Tokens that are remembered at the same time.
const MAXIMUM_TOKENS: usize = 4096;
/// How long a token is good for when the server does not say (the distribution project's token specification).
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// How long before its end a token is no longer used.
const MARGIN: Duration = Duration::from_secs(10);
/// The longest life that is believed.
const MAXIMUM_LIFE: Duration = Duration::from_secs(3600);

/// What a registry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

impl Challenge {
    /// Reads the header; the first scheme that is known counts.
    pub(super) fn of(answer: &Answer) -> Option<Challenge> {
        let headers = answer.headers.get_all(http::header::WWW_AUTHENTICATE);
        headers
            .iter()
            .take(8)
            .filter_map(|value| value.to_str().ok())
            .find_map(Challenge::parse)
    }

    fn parse(text: &str) -> Option<Challenge> {
        let (scheme, parameters) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Challenge::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let parameters = parameters_of(parameters);
        Some(Challenge::Bearer {
            realm: parameters.get("realm")?.clone(),
            service: parameters.get("service").cloned(),
        })
    }
}

/// `key="value"` pairs, separated by commas.
fn parameters_of(text: &str) -> HashMap<String, String> {
    let mut parameters = HashMap::new();
    let mut rest = text.trim();
    while let Some((key, after)) = rest.split_once('=') {
        let key = key.trim_matches([' ', ',']).to_ascii_lowercase();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        parameters
            .entry(key)
            .or_insert_with(|| value.trim().to_owned());
        rest = after.trim_start_matches([' ', ',']);
    }
    parameters
}

/// Tokens, each for one repository.
#[derive(Default)]
pub(super) struct Tokens(Mutex<HashMap<Repository, (HeaderValue, Instant)>>);

impl Tokens {
    pub(super) fn known(&self, repository: &Repository) -> Option<HeaderValue> {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens
            .get(repository)
            .filter(|(_, until)| *until > Instant::now())
            .map(|(header, _)| header.clone())
    }

    fn remember(&self, repository: &Repository, header: &HeaderValue, life: Duration) {
        let now = Instant::now();
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MAXIMUM_TOKENS {
            tokens.retain(|_, (_, until)| *until > now);
            if tokens.len() >= MAXIMUM_TOKENS {
                tokens.clear();
            }
        }
        tokens.insert(
            repository.clone(),
            (header.clone(), now + life.saturating_sub(MARGIN)),
        );
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// The header that answers a challenge; `None` where there is nothing to answer it with.
pub(super) async fn answer(
    transport: &Transport,
    tokens: &Tokens,
    repository: &Repository,
    secret: Option<&Secret>,
    challenge: &Challenge,
) -> Result<Option<HeaderValue>, RegistryError> {
    match challenge {
        Challenge::Basic => Ok(secret.and_then(basic)),
        Challenge::Bearer { realm, service } => {
            let header = token(
                transport,
                tokens,
                repository,
                secret,
                realm,
                service.as_deref(),
            )
            .await?;
            Ok(Some(header))
        }
    }
}

fn basic(secret: &Secret) -> Option<HeaderValue> {
    let Secret::Password { username, password } = secret else {
        return None;
    };
    let mut header = HeaderValue::from_str(&format!(
        "Basic {}",
        STANDARD.encode(format!("{username}:{password}"))
    ))
    .ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// A token as the registry takes it.
pub(super) fn bearer(token: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

fn refused(repository: &Repository, kind: ErrorKind, why: &str) -> RegistryError {
    RegistryError::new(kind, format!("a token for `{repository}`"), why)
}

/// The token server that a registry names, where it may be asked at all: credentials go there by https alone.
fn token_server(
    transport: &Transport,
    repository: &Repository,
    secret: Option<&Secret>,
    realm: &str,
) -> Result<Url, RegistryError> {
    let url = Url::parse(realm).map_err(|_| {
        let why = "the registry names no usable token server";
        refused(repository, ErrorKind::Malformed, why)
    })?;
    let secure = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
    let plain_by_choice = url.scheme() == "http" && transport.is_plain(repository.registry());
    if secure || plain_by_choice && secret.is_none() {
        return Ok(url);
    }
    let why = format!(
        "its token server `{}` is not reached by https, so no credentials go there",
        shown(&url)
    );
    Err(refused(repository, ErrorKind::Denied, &why))
}

async fn token(
    transport: &Transport,
    tokens: &Tokens,
    repository: &Repository,
    secret: Option<&Secret>,
    realm: &str,
    service: Option<&str>,
) -> Result<HeaderValue, RegistryError> {
    let malformed = |why: &str| refused(repository, ErrorKind::Malformed, why);
    let mut url = token_server(transport, repository, secret, realm)?;
    let scope = format!("repository:{}:pull", repository.repository());
    let mut form = None;
    let mut authorization = None;
    match secret {
        Some(Secret::RefreshToken(refresh)) => {
            let mut body = url::form_urlencoded::Serializer::new(String::new());
            body.append_pair("grant_type", "refresh_token")
                .append_pair("client_id", "promotion-gate");
            body.append_pair("scope", &scope)
                .append_pair("refresh_token", refresh);
            if let Some(service) = service {
                body.append_pair("service", service);
            }
            form = Some(body.finish());
        }
        other => {
            authorization = other.and_then(basic);
            let mut query = url.query_pairs_mut();
            query.append_pair("scope", &scope);
            if let Some(service) = service {
                query.append_pair("service", service);
            }
        }
    }
    let call = Call {
        method: if form.is_some() {
            Method::POST
        } else {
            Method::GET
        },
        url: &url,
        accept: "application/json",
        authorization: authorization.as_ref(),
        form,
        limit: transport.limits.token_bytes,
    };
    let answer = transport.exchange(&call).await?;
    if !answer.status.is_success() {
        return Err(super::client::failure(&answer));
    }
    let given: TokenAnswer = serde_json::from_slice(&answer.body)
        .map_err(|_| malformed("the token server's answer cannot be understood"))?;
    let header = given
        .token
        .or(given.access_token)
        .filter(|token| !token.is_empty())
        .and_then(|token| bearer(&token));
    let header = header.ok_or_else(|| malformed("the token server gave no token"))?;
    let life = given
        .expires_in
        .map_or(DEFAULT_LIFE, Duration::from_secs)
        .min(MAXIMUM_LIFE);
    tokens.remember(repository, &header, life);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::Challenge;

    #[test]
    fn challenges_are_read_in_any_order_and_with_any_spacing() {
        let bearer = Challenge::parse(
            r#"Bearer service="s, t",realm="https://a.example/token" , scope="x""#,
        );
        let realm = "https://a.example/token".to_owned();
        assert_eq!(
            bearer,
            Some(Challenge::Bearer {
                realm,
                service: Some("s, t".to_owned())
            })
        );
        assert_eq!(Challenge::parse("Basic realm=x"), Some(Challenge::Basic));
        assert_eq!(Challenge::parse("Bearer scope=x"), None);
        assert_eq!(Challenge::parse("Negotiate"), None);
    }
}
