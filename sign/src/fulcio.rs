//! Short-lived certificates (Fulcio, `v2/signingCert`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DistinguishedName};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use crate::ambient::AUDIENCE;
use crate::client::{Asked, ServiceClient, below};
use crate::error::SignError;
use crate::key::{SigningKey, decoded};
use crate::token::IdentityToken;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Issued {
    signed_certificate_embedded_sct: Option<WithChain>,
    signed_certificate_detached_sct: Option<WithChain>,
}

#[derive(Deserialize)]
struct WithChain {
    chain: Chain,
}

#[derive(Deserialize)]
struct Chain {
    certificates: Vec<String>,
}

/// A certificate (DER) for a key and the bearer of a token. It is not verified here.
pub(crate) async fn certificate(
    client: &dyn ServiceClient,
    base: &Url,
    token: &IdentityToken,
    key: &SigningKey,
) -> Result<Vec<u8>, SignError> {
    let unusable = |error: rcgen::Error| {
        SignError::Unusable(format!("no certificate can be asked for: {error}"))
    };
    let mut params = CertificateParams::default();
    // The authority takes the name from the token.
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(key.pair()).map_err(unusable)?;
    let request = request.pem().map_err(unusable)?;
    let content = json!({
        "credentials": {"oidcIdentityToken": token.text()},
        "certificateSigningRequest": STANDARD.encode(request),
    });
    let asked = Asked {
        client,
        what: "certificate authority",
        url: &below(base, "api/v2/signingCert"),
    };
    let json = "application/json";
    let answer = asked
        .post(json, json, content.to_string().as_bytes())
        .await?;
    let issued: Issued = asked.json(&answer).map_err(|why| match answer.status {
        // Fulcio does not say what is wrong with a token.
        400 | 401 | 403 => SignError::Service(format!("{why}; {}", about(token))),
        _ => why,
    })?;
    let with_chain = issued
        .signed_certificate_embedded_sct
        .or(issued.signed_certificate_detached_sct);
    let first = with_chain.and_then(|it| it.chain.certificates.into_iter().next());
    let der = first.as_deref().and_then(decoded);
    match der {
        Some(("CERTIFICATE", der)) => Ok(der),
        _ => Err(asked.failed("answered without a certificate")),
    }
}

/// What an authority may have against a token, and who can change it.
fn about(token: &IdentityToken) -> String {
    let audiences = token.audiences();
    let made_for = match audiences.is_empty() {
        true => "no audience".to_owned(),
        false => format!("the audience `{}`", audiences.join("`, `")),
    };
    let hint = match audiences.contains(&AUDIENCE) {
        true => "the authority has to be configured for this issuer, and to reach it",
        false => "an authority normally asks for the audience `sigstore`: get a token for it",
    };
    let issuer = token.claimed_issuer();
    format!("the identity token is by `{issuer}` for {made_for}: {hint}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::token::tests::token;

    #[test]
    fn of_a_token_that_is_refused_its_issuer_and_its_audience_are_named() {
        let asks = "an authority normally asks for the audience `sigstore`: get a token for it";
        let configure = "the authority has to be configured for this issuer, and to reach it";
        for (audience, expected) in [
            (json!("vault"), format!("for the audience `vault`: {asks}")),
            (
                json!(["a", "b"]),
                format!("for the audience `a`, `b`: {asks}"),
            ),
            (json!(null), format!("for no audience: {asks}")),
            (
                json!("sigstore"),
                format!("for the audience `sigstore`: {configure}"),
            ),
            (
                json!(["a", "sigstore"]),
                format!("for the audience `a`, `sigstore`: {configure}"),
            ),
        ] {
            let claims = json!({"iss": "https://i", "sub": "1", "aud": audience, "exp": 9,
                "federated_claims": {"connector_id": "https://behind"}});
            let token = IdentityToken::parse(&token(&claims)).unwrap();
            let expected = format!("the identity token is by `https://i` {expected}");
            assert_eq!(about(&token), expected);
        }
    }
}
