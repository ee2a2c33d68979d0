//! The answers of a Sigstore's services over HTTP: Fulcio (`v2/signingCert`) and Rekor v1 (`log/entries`). Whoever asks is who the
//! caller says; no token is verified.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rcgen::CertificateSigningRequestParams;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{SandboxError, SandboxIdentity, Sigstore};

impl Sigstore {
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
