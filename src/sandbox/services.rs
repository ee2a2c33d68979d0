//! The answers of a Sigstore's services over HTTP: Fulcio (`v2/signingCert`), Rekor v1 (`log/entries`) and a timestamp authority. The
//! caller says who asks; no token is verified.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use jiff::Timestamp;
use rcgen::CertificateSigningRequestParams;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::loopback::LoopbackServer;
use super::{SandboxError, SandboxIdentity, Sigstore};

/// The timestamp authority of a sandbox, on loopback, until it is dropped (RFC 3161, section 3.4).
pub struct TimestampServer {
    server: LoopbackServer,
}

impl TimestampServer {
    /// Starts on a free port of loopback.
    ///
    /// # Errors
    /// If nothing can listen there.
    pub async fn start(sigstore: Arc<Sigstore>) -> io::Result<TimestampServer> {
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server =
            LoopbackServer::start(anywhere, move |request| timestamp(&sigstore, request)).await?;
        Ok(TimestampServer { server })
    }

    /// Where timestamps are requested.
    pub fn url(&self) -> String {
        format!("http://{}/api/v1/timestamp", self.server.address())
    }
}

fn timestamp(sigstore: &Sigstore, request: &Request<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::default();
    if *request.method() != Method::POST {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        return response;
    }
    match sigstore.answer_timestamp_query(request.body(), Timestamp::now()) {
        Ok(answer) => {
            let media_type = header::HeaderValue::from_static("application/timestamp-reply");
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, media_type);
            *response.body_mut() = Full::from(answer);
        }
        Err(error) => {
            *response.status_mut() = StatusCode::BAD_REQUEST;
            *response.body_mut() = Full::from(error.to_string());
        }
    }
    response
}

impl Sigstore {
    /// The answer to a request for a timestamp (`TimeStampReq` of RFC 3161, DER).
    ///
    /// # Errors
    /// If the request cannot be read, or is not about a SHA-256 digest.
    pub fn answer_timestamp_query(
        &self,
        query: &[u8],
        at: Timestamp,
    ) -> Result<Vec<u8>, SandboxError> {
        self.timestamps.answer(query, at)
    }

    /// The answer to a request for a certificate.
    ///
    /// # Errors
    /// If the request cannot be read.
    pub fn certify(
        &self,
        request: &Value,
        identity: &SandboxIdentity,
        at: Timestamp,
    ) -> Result<Value, SandboxError> {
        let csr = decoded(request, "/certificateSigningRequest")?;
        let csr = String::from_utf8(csr).map_err(SandboxError::of)?;
        let csr = CertificateSigningRequestParams::from_pem(&csr)?;
        let certificate = self.authority.certify(identity, &csr.public_key, at)?;
        Ok(
            json!({"signedCertificateEmbeddedSct": {"chain": {"certificates": [certificate.pem()]}}}),
        )
    }

    /// The answer to a request to record an envelope (`dsse` 0.0.1).
    ///
    /// # Errors
    /// If the request cannot be read.
    pub fn record(&self, request: &Value, at: Timestamp) -> Result<Value, SandboxError> {
        let proposed = text(request, "/spec/proposedContent/envelope")?;
        let envelope: Value = serde_json::from_str(proposed).map_err(SandboxError::of)?;
        let hash = |bytes: &[u8]| json!({"algorithm": "sha256", "value": hex::encode(Sha256::digest(bytes))});
        let spec = json!({
            "envelopeHash": hash(proposed.as_bytes()),
            "payloadHash": hash(&decoded(&envelope, "/payload")?),
            "signatures": [{
                "signature": text(&envelope, "/signatures/0/sig")?,
                "verifier": text(request, "/spec/proposedContent/verifiers/0")?,
            }],
        });
        let entry = self.log.add(("dsse", "0.0.1"), spec, at)?;
        Ok(json!({"24296fb24b8ad77a": entry.in_rekor()?}))
    }
}

fn text<'a>(value: &'a Value, path: &str) -> Result<&'a str, SandboxError> {
    let text = value.pointer(path).and_then(Value::as_str);
    text.ok_or_else(|| SandboxError::of(format!("`{path}` is missing")))
}

fn decoded(value: &Value, path: &str) -> Result<Vec<u8>, SandboxError> {
    STANDARD
        .decode(text(value, path)?)
        .map_err(SandboxError::of)
}
