//! The challenges of a registry (`WWW-Authenticate`), and the tokens of token servers that answer them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Method};
use http_auth::ChallengeRef;
use http_auth::parser::ChallengeParser;
use serde_json::Value;
use url::Url;

use super::address::{is_loopback, shown};
use super::answer::HttpAnswer;
use super::credentials::{Credentials, Secret};
use super::transport::{Call, FORM, Sent, Transport};
use super::{ErrorKind, RegistryError, Repository};

/// The most tokens that are kept.
const MAXIMUM_TOKENS: usize = 4096;
/// The life of a token without `expires_in` (the distribution project's token specification).
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// How long before its end a token is no longer used.
const MARGIN: Duration = Duration::from_secs(10);
/// The longest life that is accepted.
const MAXIMUM_LIFE: Duration = Duration::from_secs(3600);

/// A challenge of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

/// The most headers that are read, and the most challenges of each.
const MAXIMUM_CHALLENGES: usize = 8;

impl Challenge {
    /// All challenges that can be understood, in the order of the registry.
    pub(super) fn all(answer: &HttpAnswer) -> Vec<Challenge> {
        let headers = answer.headers.get_all(http::header::WWW_AUTHENTICATE);
        headers
            .iter()
            .take(MAXIMUM_CHALLENGES)
            .filter_map(|value| value.to_str().ok())
            .flat_map(Challenge::parse)
            .collect()
    }

    /// Reads one header, which may hold several challenges. Challenges before a syntax error count.
    fn parse(text: &str) -> Vec<Challenge> {
        let text = squeezed(text);
        ChallengeParser::new(&text)
            .map_while(Result::ok)
            .take(MAXIMUM_CHALLENGES)
            .filter_map(|challenge| Challenge::known(&challenge))
            .collect()
    }

    fn known(challenge: &ChallengeRef<'_>) -> Option<Challenge> {
        let parameter = |name: &str| {
            let mut named = challenge.params.iter();
            named
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.to_unescaped())
        };
        if challenge.scheme.eq_ignore_ascii_case("basic") {
            return Some(Challenge::Basic);
        }
        if !challenge.scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        Some(Challenge::Bearer {
            realm: parameter("realm")?,
            service: parameter("service"),
        })
    }
}

/// The text with single spaces outside of quotes: registries are laxer than RFC 7235, and Docker accepts that too.
fn squeezed(text: &str) -> String {
    let mut squeezed = String::with_capacity(text.len());
    let (mut quoted, mut escaped) = (false, false);
    for c in text.trim().chars() {
        let space = !quoted && matches!(c, ' ' | '\t');
        if space && squeezed.ends_with(' ') {
            continue;
        }
        quoted ^= c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
        squeezed.push(if space { ' ' } else { c });
    }
    squeezed
}

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Access {
    Pull,
    Push,
}

/// Tokens, each for one repository and what it allows.
#[derive(Default)]
pub(super) struct Tokens(Mutex<HashMap<(Repository, Access), (HeaderValue, Instant)>>);

impl Tokens {
    pub(super) fn known(&self, repository: &Repository, access: Access) -> Option<HeaderValue> {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens
            .get(&(repository.clone(), access))
            .filter(|(_, until)| *until > Instant::now())
            .map(|(header, _)| header.clone())
    }

    fn remember(&self, key: (Repository, Access), header: &HeaderValue, life: Duration) {
        let now = Instant::now();
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MAXIMUM_TOKENS {
            tokens.retain(|_, (_, until)| *until > now);
            if tokens.len() >= MAXIMUM_TOKENS {
                tokens.clear();
            }
        }
        tokens.insert(key, (header.clone(), now + life.saturating_sub(MARGIN)));
    }
}

/// Answers the challenges of a registry.
pub(super) struct Reply<'a> {
    pub(super) transport: &'a Transport,
    pub(super) tokens: &'a Tokens,
    pub(super) credentials: &'a Credentials,
    pub(super) repository: &'a Repository,
    pub(super) access: Access,
    /// See [`Call::local`].
    pub(super) local: bool,
}

impl Reply<'_> {
    /// The header that answers the first challenge for which there is a credential or token; `None` if there is none.
    pub(super) async fn to(
        &self,
        challenges: &mut std::vec::IntoIter<Challenge>,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let secret = self.credentials.of(self.repository);
        let mut failed = None;
        for challenge in challenges.by_ref() {
            let header = match &challenge {
                Challenge::Basic => secret.and_then(basic),
                Challenge::Bearer { realm, service } => {
                    match self.token(secret, realm, service.as_deref()).await {
                        Ok(header) => Some(header),
                        Err(error) => {
                            failed.get_or_insert(error);
                            None
                        }
                    }
                }
            };
            if header.is_some() {
                return Ok(header);
            }
        }
        failed.map_or(Ok(None), Err)
    }

    async fn token(
        &self,
        secret: Option<&Secret>,
        realm: &str,
        service: Option<&str>,
    ) -> Result<HeaderValue, RegistryError> {
        let Reply {
            transport,
            repository,
            ..
        } = self;
        let malformed = |why: &str| refused(repository, ErrorKind::Malformed, why);
        let mut url = token_server(transport, repository, secret, realm)?;
        let actions = match self.access {
            Access::Pull => "pull",
            Access::Push => "pull,push",
        };
        let scope = format!("repository:{}:{actions}", repository.path());
        let mut content = None;
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
                content = Some(Sent {
                    media_type: FORM,
                    bytes: body.finish().into(),
                });
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
            method: if content.is_some() {
                Method::POST
            } else {
                Method::GET
            },
            url: &url,
            accept: "application/json",
            authorization: authorization.as_ref(),
            headers: &[],
            local: self.local,
            content,
            limit: transport.limits.token_bytes,
        };
        let mut answer = transport.exchange(&call).await?;
        if !answer.status.is_success() {
            answer.credential = self.credentials.words(repository, secret.is_some());
            return Err(answer.failure());
        }
        let given: Value = serde_json::from_slice(&answer.body)
            .map_err(|_| malformed("the token server's answer cannot be understood"))?;
        let token = token_in(&given).ok_or_else(|| malformed("the token server gave no token"))?;
        let header = bearer(token).ok_or_else(|| {
            malformed("the token server gave a token that is not a valid header value")
        })?;
        self.tokens.remember(
            ((*repository).clone(), self.access),
            &header,
            life(given.get("expires_in")),
        );
        Ok(header)
    }
}

/// The token in a token server's answer. Where there are two, Docker and containerd take `access_token`.
fn token_in(given: &Value) -> Option<&str> {
    let named = |name| given.get(name).and_then(Value::as_str);
    [named("access_token"), named("token")]
        .into_iter()
        .flatten()
        .find(|token| !token.is_empty())
}

/// How long a token is used. Servers write numbers with a fraction, in quotes, zero, or negative; a life that cannot be used
/// counts as absent, since a token that ends early costs only another challenge. `issued_at` is ignored for the same reason:
/// clocks differ.
fn life(expires_in: Option<&Value>) -> Duration {
    let seconds = match expires_in {
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse::<f64>().ok(),
        _ => None,
    };
    match seconds {
        Some(seconds) if seconds >= MAXIMUM_LIFE.as_secs_f64() => MAXIMUM_LIFE,
        Some(seconds) if seconds > 0.0 => Duration::from_secs_f64(seconds),
        _ => DEFAULT_LIFE,
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

/// The header with a token for the registry.
pub(super) fn bearer(token: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

fn refused(repository: &Repository, kind: ErrorKind, why: &str) -> RegistryError {
    RegistryError::new(kind, format!("a token for `{repository}`"), why)
}

/// The token server that a registry names, if it may be asked: credentials are sent over https only.
fn token_server(
    transport: &Transport,
    repository: &Repository,
    secret: Option<&Secret>,
    realm: &str,
) -> Result<Url, RegistryError> {
    let url = Url::parse(realm).map_err(|_| {
        let why = "the registry does not name a usable token server";
        refused(repository, ErrorKind::Malformed, why)
    })?;
    let secure = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
    let plain_by_choice = url.scheme() == "http" && transport.is_plain(repository.registry());
    if secure || plain_by_choice && secret.is_none() {
        return Ok(url);
    }
    let why = format!(
        "its token server `{}` does not use https, so no credentials are sent to it",
        shown(&url)
    );
    Err(refused(repository, ErrorKind::Denied, &why))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::{Challenge, DEFAULT_LIFE, MAXIMUM_LIFE, life, token_in};

    fn bearer(realm: &str, service: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
        }
    }

    #[test]
    fn challenges_are_read_in_any_order_and_with_any_spacing() {
        let read = Challenge::parse(
            r#"Bearer  service="s, t",realm="https://a.example/token" , scope="x""#,
        );
        assert_eq!(read, [bearer("https://a.example/token", Some("s, t"))]);
        assert_eq!(Challenge::parse("Basic realm=x"), [Challenge::Basic]);
        assert_eq!(Challenge::parse("BASIC"), [Challenge::Basic]);
        assert_eq!(Challenge::parse("Bearer scope=x"), []);
        assert_eq!(Challenge::parse("Negotiate"), []);
        assert_eq!(Challenge::parse(""), []);
    }

    #[test]
    fn several_challenges_in_one_header_are_all_read() {
        let text = r#"Negotiate, BASIC realm="a, Bearer realm=\"b\"", bearer Realm="https://a.example/t",SERVICE=s, Basic"#;
        let read = Challenge::parse(text);
        let token = bearer("https://a.example/t", Some("s"));
        assert_eq!(read, [Challenge::Basic, token, Challenge::Basic]);
        // What stands before a mistake counts.
        let text = r#"Basic realm="x", Bearer realm="unfinished"#;
        assert_eq!(Challenge::parse(text), [Challenge::Basic]);
    }

    #[test]
    fn an_odd_life_of_a_token_is_no_reason_to_refuse_it() {
        let is = |value: serde_json::Value, seconds: f64| {
            assert_eq!(
                life(Some(&value)),
                Duration::from_secs_f64(seconds),
                "{value}"
            );
        };
        is(json!(300), 300.0);
        is(json!(299.5), 299.5);
        is(json!("300"), 300.0);
        is(json!(1), 1.0);
        for unknown in [
            json!(0),
            json!(-1),
            json!(null),
            json!("soon"),
            json!([300]),
            json!("NaN"),
        ] {
            is(unknown, DEFAULT_LIFE.as_secs_f64());
        }
        for long in [
            json!(1e300),
            json!(u64::MAX),
            json!("1e400"),
            json!(100_000),
        ] {
            is(long, MAXIMUM_LIFE.as_secs_f64());
        }
        assert_eq!(life(None), DEFAULT_LIFE);
    }

    #[test]
    fn a_token_is_found_under_either_name() {
        let found = |value: serde_json::Value| token_in(&value).map(str::to_owned);
        assert_eq!(found(json!({"token": "a"})).as_deref(), Some("a"));
        assert_eq!(found(json!({"access_token": "b"})).as_deref(), Some("b"));
        let both = json!({"token": "a", "access_token": "b"});
        assert_eq!(found(both).as_deref(), Some("b"));
        let one_empty = json!({"token": "a", "access_token": ""});
        assert_eq!(found(one_empty).as_deref(), Some("a"));
        let null = json!({"token": "a", "access_token": null, "issued_at": 5, "expires_in": "x"});
        assert_eq!(found(null).as_deref(), Some("a"));
        assert_eq!(found(json!({"token": 5})), None);
        assert_eq!(found(json!([])), None);
    }
}
