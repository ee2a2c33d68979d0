//! Identity tokens (OpenID Connect): what they claim, for people to see before they sign. The certificate authority verifies them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use crate::error::SignError;

/// The longest token.
const MAXIMUM_BYTES: usize = 32 << 10;
/// How much sooner than it ends a token is not used: the authority's clock may be ahead.
const MARGIN: SignedDuration = SignedDuration::from_secs(5);

/// An identity token.
pub struct IdentityToken {
    text: String,
    claims: Map<String, Value>,
    identity: TokenIdentity,
    expires: Timestamp,
}

/// Who a token says its bearer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenIdentity {
    /// The e-mail address; of a workload, what its certificate will name; otherwise the subject.
    pub name: String,
    /// The issuer that a certificate will name.
    pub issuer: String,
    /// Whether the name is an e-mail address.
    pub is_email: bool,
}

impl IdentityToken {
    /// Reads a token.
    ///
    /// # Errors
    /// What is wrong with it. The error never holds the token.
    pub fn parse(text: &str) -> Result<IdentityToken, SignError> {
        let refused = |why: &str| {
            SignError::Unusable(format!(
                "the identity token cannot be used: {why}; expected a JWT of an OpenID Connect provider"
            ))
        };
        let text = text.trim();
        let parts: Vec<_> = text.split('.').collect();
        let (true, [_, payload, _]) = (text.len() <= MAXIMUM_BYTES, parts.as_slice()) else {
            return Err(refused("it is not three parts with dots between them"));
        };
        let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('='));
        let payload = payload.map_err(|_| refused("its claims are not base64"))?;
        let claims: Map<String, Value> =
            serde_json::from_slice(&payload).map_err(|_| refused("its claims are not JSON"))?;
        let named = |name: &str| {
            claims
                .get(name)
                .and_then(Value::as_str)
                .filter(|it| !it.is_empty())
        };
        let issuer = named("iss").ok_or_else(|| refused("it names no issuer (`iss`)"))?;
        let federated = claims.get("federated_claims");
        // The authority of the public-good instance names the provider behind it. Other names of connectors are not issuers.
        let federated = federated
            .and_then(|it| it.get("connector_id"))
            .and_then(Value::as_str)
            .filter(|connector| connector.starts_with("https://"));
        let is_verified = claims.get("email_verified") != Some(&Value::Bool(false));
        let email = named("email").filter(|_| is_verified);
        let name = email.map(str::to_owned);
        let name = name.or_else(|| name_of_workload(issuer, &claims));
        let name = name.or_else(|| named("sub").map(str::to_owned));
        let expires = claims.get("exp").and_then(Value::as_i64);
        let expires = expires.and_then(|second| Timestamp::from_second(second).ok());
        Ok(IdentityToken {
            identity: TokenIdentity {
                name: name.ok_or_else(|| refused("it names neither an address nor a subject"))?,
                issuer: federated.unwrap_or(issuer).to_owned(),
                is_email: email.is_some(),
            },
            expires: expires.ok_or_else(|| refused("it does not say when it expires (`exp`)"))?,
            text: text.to_owned(),
            claims,
        })
    }

    /// Who the token says its bearer is.
    pub fn identity(&self) -> &TokenIdentity {
        &self.identity
    }

    /// When it expires.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// Who issued the token itself, which is the issuer that the authority has to know.
    pub(crate) fn claimed_issuer(&self) -> &str {
        let issuer = self.claims.get("iss").and_then(Value::as_str);
        issuer.unwrap_or_default()
    }

    /// For whom the token was made.
    pub(crate) fn audiences(&self) -> Vec<&str> {
        match self.claims.get("aud") {
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(one)) => vec![one.as_str()],
            _ => Vec::new(),
        }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn claim(&self, name: &str) -> Option<&Value> {
        self.claims.get(name)
    }

    /// # Errors
    /// If it expired, with what to do.
    pub(crate) fn check(&self, now: Timestamp) -> Result<(), SignError> {
        let end = self.expires.saturating_sub(MARGIN).unwrap_or(self.expires);
        match now < end {
            true => Ok(()),
            false => Err(SignError::Expired(format!(
                "the identity token expired at {:.0}, before it was used, and nothing was signed; sign in again, or get a new token, and repeat the command",
                self.expires
            ))),
        }
    }
}

/// The name that Fulcio's certificate will carry for a workload (Fulcio, `docs/oidc.md`): the workflow of GitHub Actions, the pipeline of
/// GitLab, or the service account.
fn name_of_workload(issuer: &str, claims: &Map<String, Value>) -> Option<String> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let after = issuer.strip_prefix("https://token.actions.githubusercontent.com");
    if after.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        return text("job_workflow_ref").map(|it| format!("https://github.com/{it}"));
    }
    if let Some(pipeline) = text("ci_config_ref_uri") {
        return Some(format!("https://{pipeline}"));
    }
    let kubernetes = claims.get("kubernetes.io")?;
    let namespace = kubernetes.get("namespace")?.as_str()?;
    let account = kubernetes.pointer("/serviceaccount/name")?.as_str()?;
    Some(format!(
        "https://kubernetes.io/namespaces/{namespace}/serviceaccounts/{account}"
    ))
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// A token without a signature.
    pub(crate) fn token(claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.c2ln", part(&json!({"alg": "RS256"})), part(claims))
    }

    fn identity(claims: Value) -> TokenIdentity {
        IdentityToken::parse(&token(&claims))
            .unwrap()
            .identity()
            .clone()
    }

    #[test]
    fn a_token_names_its_bearer_and_the_issuer_of_the_certificate() {
        let person =
            identity(json!({"iss": "https://i", "sub": "1", "email": "a@b.example", "exp": 9}));
        assert_eq!(
            (person.name.as_str(), person.is_email),
            ("a@b.example", true)
        );
        let through_dex = identity(
            json!({"iss": "https://dex", "sub": "1", "email": "a@b.example", "exp": 9,
            "federated_claims": {"connector_id": "https://github.com/login/oauth"}}),
        );
        assert_eq!(through_dex.issuer, "https://github.com/login/oauth");
        let of_a_private_dex = identity(
            json!({"iss": "https://dex", "sub": "1", "email": "a@b.example", "exp": 9,
            "federated_claims": {"connector_id": "ldap"}}),
        );
        assert_eq!(of_a_private_dex.issuer, "https://dex");
        let workload = identity(json!({"iss": "https://i", "sub": "repo:a/b", "exp": 9}));
        assert_eq!(
            (workload.name.as_str(), workload.is_email),
            ("repo:a/b", false)
        );
        let of = |issuer: &str, claims: Value| {
            let mut all = json!({"iss": issuer, "sub": "x", "exp": 9});
            let fields = all.as_object_mut().unwrap();
            fields.extend(claims.as_object().unwrap().clone());
            identity(all).name
        };
        let workflow = json!({"job_workflow_ref": "a/b/.github/workflows/c.yml@refs/tags/v1"});
        assert_eq!(
            of("https://token.actions.githubusercontent.com", workflow),
            "https://github.com/a/b/.github/workflows/c.yml@refs/tags/v1"
        );
        let pipeline =
            json!({"ci_config_ref_uri": "gitlab.com/a/b//.gitlab-ci.yml@refs/heads/main"});
        assert_eq!(
            of("https://gitlab.com", pipeline),
            "https://gitlab.com/a/b//.gitlab-ci.yml@refs/heads/main"
        );
        let account = json!({"kubernetes.io": {"namespace": "n", "serviceaccount": {"name": "s"}}});
        assert_eq!(
            of("https://cluster.example", account),
            "https://kubernetes.io/namespaces/n/serviceaccounts/s"
        );
        let unverified = identity(
            json!({"iss": "https://i", "sub": "1", "email": "a@b.example", "email_verified": false, "exp": 9}),
        );
        assert_eq!(unverified.name, "1");
    }

    #[test]
    fn a_token_that_cannot_be_used_is_refused_without_being_shown() {
        for text in [
            "secret".to_owned(),
            "secret.secret.secret".to_owned(),
            token(&json!({"sub": "secret", "exp": 9})),
            token(&json!({"iss": "https://i", "exp": 9})),
            token(&json!({"iss": "https://i", "sub": "secret"})),
            "secret".repeat(MAXIMUM_BYTES),
        ] {
            let refused = IdentityToken::parse(&text).err().unwrap().to_string();
            assert!(!refused.contains("secret"), "{refused}");
        }
    }

    #[test]
    fn a_token_that_expires_in_between_says_so() {
        let token = token(&json!({"iss": "https://i", "sub": "1", "exp": 1000}));
        let token = IdentityToken::parse(&token).unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        token.check(at(994)).unwrap();
        let expired = token.check(at(995)).unwrap_err();
        assert!(matches!(expired, SignError::Expired(_)));
        assert!(
            expired.to_string().contains("nothing was signed"),
            "{expired}"
        );
    }
}
