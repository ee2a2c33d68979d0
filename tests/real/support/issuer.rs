//! An OpenID Connect issuer in the test's own process, which says whatever a test wants it to.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::http_server::HttpServer;
use super::program::Address;

pub struct Issuer {
    address: Address,
    key: TokenKey,
    _server: HttpServer,
}

/// A key that signs tokens (JWT).
pub struct TokenKey(RsaKeyPair);

impl Issuer {
    pub fn start() -> Issuer {
        let address = Address::free();
        let key = TokenKey::generate();
        let (discovery, keys) = (discovery(&address.url()), key.jwks());
        let server = HttpServer::start(address, move |path| match path {
            "/.well-known/openid-configuration" => Some(discovery.clone()),
            "/keys" => Some(keys.clone()),
            _ => None,
        });
        Issuer {
            address,
            key,
            _server: server,
        }
    }

    pub fn url(&self) -> String {
        self.address.url()
    }

    /// A token that signs its bearer in to Fulcio as `email` for ten minutes.
    pub fn token(&self, email: &str) -> String {
        self.token_for(email, 600)
    }

    /// A token that is valid for so many seconds.
    pub fn token_for(&self, email: &str, seconds: u64) -> String {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        self.key.sign(&json!({
            "iss": self.url(),
            "aud": "sigstore",
            "sub": email,
            "email": email,
            "email_verified": true,
            "iat": now,
            "exp": now + seconds,
        }))
    }
}

impl TokenKey {
    pub fn generate() -> TokenKey {
        TokenKey(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        let header = json!({ "alg": "RS256", "kid": KEY_ID, "typ": "JWT" });
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                signed.as_bytes(),
                &mut signature,
            )
            .unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The public key, as those who verify tokens read it.
    pub fn jwks(&self) -> Value {
        let key = self.0.public_key();
        let (modulus, exponent) = (key.modulus(), key.exponent());
        json!({ "keys": [{
            "kty": "RSA", "alg": "RS256", "use": "sig", "kid": KEY_ID,
            "n": URL_SAFE_NO_PAD.encode(modulus.big_endian_without_leading_zero()),
            "e": URL_SAFE_NO_PAD.encode(exponent.big_endian_without_leading_zero()),
        }] })
    }
}

const KEY_ID: &str = "test";

fn discovery(url: &str) -> Value {
    json!({
        "issuer": url,
        "jwks_uri": format!("{url}/keys"),
        "authorization_endpoint": format!("{url}/authorize"),
        "token_endpoint": format!("{url}/token"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    })
}

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}
