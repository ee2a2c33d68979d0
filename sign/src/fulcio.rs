//! Short-lived certificates (Fulcio, `v2/signingCert`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DistinguishedName};
use serde::Deserialize;
use serde_json::json;
use url::Url;

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
    let issued: Issued = asked.json(&answer)?;
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
