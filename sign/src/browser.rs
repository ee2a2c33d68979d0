//! Signing in with a browser: the authorization code flow with PKCE (RFC 7636) and a redirect to loopback (RFC 8252).

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use url::Url;
use url::form_urlencoded::Serializer;

use crate::ambient::AUDIENCE;
use crate::client::{Asked, ServiceClient, below};
use crate::error::SignError;
use crate::token::IdentityToken;

/// The path that the provider redirects to.
const CALLBACK: &str = "/auth/callback";
/// The longest request of the browser.
const MAXIMUM_REQUEST: usize = 16 << 10;
/// How long one connection may take.
const CONNECTION: Duration = Duration::from_secs(5);

/// A sign-in that waits for the browser.
pub struct BrowserSignIn {
    listener: TcpListener,
    redirect: String,
    issuer: String,
    token_endpoint: Url,
    /// The page that the browser opens.
    page: Url,
    state: String,
    nonce: String,
    verifier: String,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
}

#[derive(Deserialize)]
struct Tokens {
    id_token: String,
}

impl BrowserSignIn {
    /// Asks the provider where people sign in, and listens on loopback for the browser's return.
    ///
    /// # Errors
    /// Why the sign-in failed.
    pub async fn begin(
        client: &dyn ServiceClient,
        provider: &Url,
    ) -> Result<BrowserSignIn, SignError> {
        let asked = Asked {
            client,
            what: "identity provider",
            url: &below(provider, ".well-known/openid-configuration"),
        };
        let discovery: Discovery = asked.json(&asked.get(None).await?)?;
        if discovery.issuer.trim_end_matches('/') != provider.as_str().trim_end_matches('/') {
            return Err(asked.failed("describes another issuer than the one that was asked"));
        }
        let endpoint = |url: &str| {
            let url = Url::parse(url).ok();
            let url = url.filter(|it| it.scheme() == "https" || it.scheme() == provider.scheme());
            url.ok_or_else(|| asked.failed("names an endpoint that is not a URL with TLS"))
        };
        let mut page = endpoint(&discovery.authorization_endpoint)?;
        let token_endpoint = endpoint(&discovery.token_endpoint)?;
        let unusable = |why: &str| SignError::Unusable(why.to_owned());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.map_err(|_| unusable("nothing can listen on loopback"))?;
        let port = listener.local_addr().map(|address| address.port());
        let port = port.map_err(|_| unusable("nothing can listen on loopback"))?;
        let redirect = format!("http://localhost:{port}{CALLBACK}");
        let (state, nonce, verifier) = (secret()?, secret()?, secret()?);
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier));
        page.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", AUDIENCE)
            .append_pair("redirect_uri", &redirect)
            .append_pair("scope", "openid email")
            .append_pair("state", &state)
            .append_pair("nonce", &nonce)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        Ok(BrowserSignIn {
            listener,
            redirect,
            issuer: discovery.issuer,
            token_endpoint,
            page,
            state,
            nonce,
            verifier,
        })
    }

    /// The page that the browser opens.
    pub fn page(&self) -> &Url {
        &self.page
    }

    /// Waits for the browser's return, and gets the token.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn finish(
        self,
        client: &dyn ServiceClient,
        within: Duration,
    ) -> Result<IdentityToken, SignError> {
        let code = timeout(within, self.code()).await.map_err(|_| {
            SignError::Unusable(format!(
                "nobody signed in within {} seconds; repeat the command, or give a token with `--identity-token`",
                within.as_secs()
            ))
        })??;
        let form = Serializer::new(String::new())
            .append_pair("grant_type", "authorization_code")
            .append_pair("code", &code)
            .append_pair("redirect_uri", &self.redirect)
            .append_pair("client_id", AUDIENCE)
            .append_pair("code_verifier", &self.verifier)
            .finish();
        let asked = Asked {
            client,
            what: "identity provider",
            url: &self.token_endpoint,
        };
        let form_type = "application/x-www-form-urlencoded";
        let answer = asked
            .post("application/json", form_type, form.as_bytes())
            .await?;
        let tokens: Tokens = asked.json(&answer)?;
        let token = IdentityToken::parse(&tokens.id_token)?;
        let is = |name: &str, expected: &str| {
            token.claim(name).and_then(Value::as_str) == Some(expected)
        };
        let for_us = match token.claim("aud") {
            Some(Value::String(audience)) => audience == AUDIENCE,
            Some(Value::Array(audiences)) => audiences.iter().any(|it| it == AUDIENCE),
            _ => false,
        };
        // A token of another sign-in must not sign here.
        match is("nonce", &self.nonce) && is("iss", &self.issuer) && for_us {
            true => Ok(token),
            false => Err(asked.failed("gave a token of another sign-in")),
        }
    }

    /// The code with which the browser returns. What does not belong to this sign-in is answered and ignored.
    async fn code(&self) -> Result<String, SignError> {
        loop {
            let Ok((mut stream, _)) = self.listener.accept().await else {
                continue;
            };
            let Ok(Some(path)) = timeout(CONNECTION, request(&mut stream)).await else {
                continue;
            };
            let (status, text, outcome) = match self.returned(&path) {
                None => ("404 Not Found", "This page does not exist.", None),
                Some(Ok(code)) => (
                    "200 OK",
                    "You are signed in. Close this page, and go on in the terminal.",
                    Some(Ok(code)),
                ),
                Some(Err(why)) => (
                    "400 Bad Request",
                    "You are not signed in. The terminal says why.",
                    Some(Err(why)),
                ),
            };
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\r\n{text}",
                text.len()
            );
            // The browser may have gone; the code counts anyway.
            let _ = timeout(CONNECTION, async {
                stream.write_all(answer.as_bytes()).await?;
                stream.shutdown().await
            })
            .await;
            if let Some(outcome) = outcome {
                return outcome;
            }
        }
    }

    /// The code or the refusal in the path of a request; `None` if it does not belong to this sign-in.
    fn returned(&self, path: &str) -> Option<Result<String, SignError>> {
        let (path, query) = path.split_once('?')?;
        let query: HashMap<_, _> = url::form_urlencoded::parse(query.as_bytes()).collect();
        let is_ours = path == CALLBACK && query.get("state").is_some_and(|it| *it == self.state);
        if !is_ours {
            return None;
        }
        Some(match (query.get("code"), query.get("error")) {
            (Some(code), None) => Ok(code.to_string()),
            (_, error) => {
                let error: String = error.map(ToString::to_string).unwrap_or_default();
                Err(SignError::Unusable(format!(
                    "the identity provider refused the sign-in: {}",
                    error.escape_debug().take(200).collect::<String>()
                )))
            }
        })
    }
}

/// The path of a GET request; `None` for anything else.
async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
        if bytes.len() > MAXIMUM_REQUEST || stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let head = std::str::from_utf8(&bytes).ok()?;
    let mut words = head.lines().next()?.split(' ');
    match (words.next(), words.next()) {
        (Some("GET"), Some(path)) => Some(path.to_owned()),
        _ => None,
    }
}

/// 32 random bytes, in characters of a URL.
fn secret() -> Result<String, SignError> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes)
        .map_err(|_| SignError::Unusable("the machine has no randomness".to_owned()))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures::FutureExt as _;
    use futures::future::BoxFuture;
    use serde_json::json;

    use super::*;
    use crate::client::{ServiceAnswer, ServiceRequest};
    use crate::token::tests::token;

    const ISSUER: &str = "https://issuer.example/auth";

    /// An identity provider that gives what a test says.
    struct Provider {
        discovery: Value,
        claims: Value,
        forms: Mutex<Vec<String>>,
    }

    impl Provider {
        fn new() -> Provider {
            let discovery = json!({
                "issuer": ISSUER,
                "authorization_endpoint": format!("{ISSUER}/authorize"),
                "token_endpoint": format!("{ISSUER}/token"),
            });
            Provider {
                discovery,
                claims: Value::Null,
                forms: Mutex::default(),
            }
        }
    }

    impl ServiceClient for Provider {
        fn exchange<'a>(
            &'a self,
            request: ServiceRequest<'a>,
        ) -> BoxFuture<'a, Result<ServiceAnswer, String>> {
            let body = match request.content {
                None => self.discovery.to_string(),
                Some(content) => {
                    let form = String::from_utf8_lossy(content.bytes).into_owned();
                    self.forms.lock().unwrap().push(form);
                    json!({"id_token": token(&self.claims)}).to_string()
                }
            };
            let answer = ServiceAnswer {
                status: 200,
                location: None,
                body: body.into_bytes(),
            };
            async { Ok(answer) }.boxed()
        }
    }

    fn parameter(page: &Url, name: &str) -> String {
        let (_, value) = page.query_pairs().find(|(key, _)| key == name).unwrap();
        value.into_owned()
    }

    async fn visit(redirect: &str, query: &str) -> String {
        let port = Url::parse(redirect).unwrap().port().unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let request = format!("GET {query} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn sign_in(
        change: impl FnOnce(&mut Value),
    ) -> (Result<IdentityToken, SignError>, Vec<String>) {
        let mut provider = Provider::new();
        let issuer = Url::parse(ISSUER).unwrap();
        let begun = BrowserSignIn::begin(&provider, &issuer).await.unwrap();
        let page = begun.page().clone();
        let nonce = parameter(&page, "nonce");
        provider.claims = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "1", "email": "a@b.example",
            "exp": 4_000_000_000_u32, "nonce": nonce});
        change(&mut provider.claims);
        let redirect = parameter(&page, "redirect_uri");
        let state = parameter(&page, "state");
        let finish = begun.finish(&provider, Duration::from_secs(20));
        let browser = async {
            let mut answers = Vec::new();
            for query in [
                "/favicon.ico".to_owned(),
                format!("{CALLBACK}?code=stolen&state=guess"),
                format!("{CALLBACK}?code=good&state={state}"),
            ] {
                answers.push(visit(&redirect, &query).await);
            }
            answers
        };
        let (token, answers) = tokio::join!(finish, browser);
        let forms = provider.forms.lock().unwrap().clone();
        let form = &forms[0];
        assert!(
            form.contains("code=good") && !form.contains("stolen"),
            "{form}"
        );
        let verifier = form.split("code_verifier=").nth(1).unwrap();
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
        assert_eq!(parameter(&page, "code_challenge"), challenge);
        (token, answers)
    }

    #[tokio::test]
    async fn a_person_signs_in_and_requests_of_others_are_ignored() {
        let (token, answers) = sign_in(|_| {}).await;
        assert_eq!(token.unwrap().identity().name, "a@b.example");
        assert!(answers[0].starts_with("HTTP/1.1 404") && answers[1].starts_with("HTTP/1.1 404"));
        assert!(answers[2].starts_with("HTTP/1.1 200") && answers[2].contains("text/plain"));
    }

    #[tokio::test]
    async fn a_token_of_another_sign_in_is_refused() {
        for (claim, value) in [
            ("nonce", json!("other")),
            ("iss", json!("https://other.example")),
            ("aud", json!("other")),
            ("aud", json!(["other"])),
        ] {
            let (token, _) = sign_in(|claims| claims[claim] = value).await;
            let refused = token.err().unwrap().to_string();
            assert!(refused.contains("another sign-in"), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_provider_that_describes_another_issuer_is_refused() {
        let issuer = Url::parse(ISSUER).unwrap();
        for (field, value) in [
            ("issuer", json!("https://other.example")),
            (
                "authorization_endpoint",
                json!("http://issuer.example/authorize"),
            ),
        ] {
            let mut provider = Provider::new();
            provider.discovery[field] = value;
            assert!(BrowserSignIn::begin(&provider, &issuer).await.is_err());
        }
    }
}
