//! The token server of a registry (the distribution project's token specification): it says who may push where. Everybody may pull.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use url::form_urlencoded;

use super::http_server::HttpServer;
use super::issuer::TokenKey;
use super::program::Address;

const SERVICE: &str = "registry";
const ISSUER: &str = "token server of a test";
/// How long clients are told that they can use a token, in seconds.
const LIFE: u64 = 11;

pub struct TokenServer {
    pub address: Address,
    rights: Arc<Rights>,
    _server: HttpServer,
}

struct Rights {
    key: TokenKey,
    /// The folder of the repositories that can be pushed to.
    pushes_under: &'static str,
    /// How many tokens were asked for that allow pushing.
    asked: AtomicUsize,
}

impl TokenServer {
    /// Only repositories in this folder can be pushed to.
    pub fn start(pushes_under: &'static str) -> TokenServer {
        let rights = Arc::new(Rights {
            key: TokenKey::generate(),
            pushes_under,
            asked: AtomicUsize::new(0),
        });
        let address = Address::free();
        let of_server = Arc::clone(&rights);
        let server = HttpServer::start(address, move |path| Some(of_server.token(path)));
        TokenServer {
            address,
            rights,
            _server: server,
        }
    }

    /// How many tokens were asked for that allow pushing.
    pub fn asked(&self) -> usize {
        self.rights.asked.load(Ordering::SeqCst)
    }

    pub fn jwks(&self) -> Value {
        self.rights.key.jwks()
    }

    /// What the configuration of a registry says about this server (distribution).
    pub fn configuration(&self, jwks: &str) -> Value {
        let realm = format!("{}/token", self.address.url());
        json!({"token": {"realm": realm, "service": SERVICE, "issuer": ISSUER, "jwks": jwks}})
    }
}

impl Rights {
    /// A token for what is asked for, as far as it is allowed.
    fn token(&self, path: &str) -> Value {
        let query = path.split_once('?').map_or("", |(_, query)| query);
        let pairs = form_urlencoded::parse(query.as_bytes());
        let scopes = pairs.filter(|(name, _)| name == "scope");
        let mut access = Vec::new();
        for (_, scope) in scopes {
            let Some((name, actions)) = scope
                .strip_prefix("repository:")
                .and_then(|scope| scope.rsplit_once(':'))
            else {
                continue;
            };
            let mut granted = vec!["pull"];
            if actions.contains("push") {
                self.asked.fetch_add(1, Ordering::SeqCst);
                if name.starts_with(self.pushes_under) {
                    granted.push("push");
                }
            }
            access.push(json!({"type": "repository", "name": name, "actions": granted}));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = now.as_secs();
        let token = self.key.sign(&json!({
            "iss": ISSUER, "aud": SERVICE, "sub": "somebody", "jti": now.to_string(),
            "iat": now, "nbf": now, "exp": now + 300, "access": access,
        }));
        json!({"token": token, "expires_in": LIFE})
    }
}
