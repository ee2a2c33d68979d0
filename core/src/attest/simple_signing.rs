//! cosign's `.sig` layout: a simplesigning payload, with signature, certificate, log entry and timestamp in the annotations
//! of its layer. It is put into the form of a bundle and verified as one.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use sigstore_types::Bundle;

use super::anchor::Anchor;
use super::bundle::{Artifact, check, unambiguous};
use super::unaccepted::Unaccepted;
use super::verified::{SignatureForm, Verified, VerifiedSignature};
use crate::gate::Digest;

/// The `critical.type` of a cosign signature.
const TYPE: &str = "cosign container image signature";
/// The largest annotation, in bytes.
const MAXIMUM_ANNOTATION: usize = 1 << 20;
/// The most certificates of a chain.
const MAXIMUM_CERTIFICATES: usize = 16;

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const CHAIN: &str = "dev.sigstore.cosign/chain";
const LOG_ENTRY: &str = "dev.sigstore.cosign/bundle";
const TIMESTAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";

/// The payload (containers/image, `signature/docs/containers-signature.5.md`).
#[derive(Deserialize)]
struct Payload {
    critical: Critical,
    optional: Option<BTreeMap<String, Value>>,
}

#[derive(Deserialize)]
struct Critical {
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// A log entry as cosign writes it.
#[derive(Deserialize)]
struct LogEntry {
    #[serde(rename = "SignedEntryTimestamp")]
    promise: String,
    #[serde(rename = "Payload")]
    payload: LogPayload,
}

#[derive(Deserialize)]
struct LogPayload {
    body: String,
    #[serde(rename = "integratedTime")]
    integrated_time: i64,
    #[serde(rename = "logIndex")]
    log_index: i64,
    #[serde(rename = "logID")]
    log_id: String,
}

#[derive(Deserialize)]
struct EntryKind {
    kind: String,
    #[serde(rename = "apiVersion")]
    version: String,
}

#[derive(Deserialize)]
struct StampedBy {
    #[serde(rename = "SignedRFC3161Timestamp")]
    token: String,
}

pub(super) fn verify(
    payload: &[u8],
    annotations: &BTreeMap<String, String>,
    subject: &Digest,
    anchor: &Anchor,
) -> Result<Verified, Unaccepted> {
    let bundle = as_bundle(payload, annotations)?;
    let checked = check(&bundle, Artifact::Bytes(payload), anchor)?;
    // Only now is the payload worth reading.
    let text = unambiguous(payload, "the payload")?;
    let read: Payload = serde_json::from_str(text).map_err(|error| {
        Unaccepted::new(
            "malformed",
            format!("the payload is not simplesigning: {error}"),
        )
    })?;
    if read.critical.kind != TYPE {
        let detail = format!(
            "the payload's type is `{}`, not `{TYPE}`",
            read.critical.kind
        );
        return Err(Unaccepted::new("wrong-payload-type", detail));
    }
    if read.critical.image.digest != subject.to_string() {
        let detail = format!(
            "the signature is about `{}`, not `{subject}`",
            read.critical.image.digest
        );
        return Err(Unaccepted::new("wrong-subject", detail));
    }
    let optional = read.optional.unwrap_or_default().into_iter();
    Ok(Verified::Signature(VerifiedSignature {
        by: checked.about(subject, anchor),
        form: SignatureForm::SimpleSigning,
        annotations: optional
            .filter_map(|(key, value)| Some((key, value.as_str()?.to_owned())))
            .collect(),
    }))
}

fn as_bundle(payload: &[u8], annotations: &BTreeMap<String, String>) -> Result<Bundle, Unaccepted> {
    let malformed = |what: &str| {
        Unaccepted::new(
            "malformed",
            format!("the annotation `{what}` cannot be understood"),
        )
    };
    if annotations
        .values()
        .any(|value| value.len() > MAXIMUM_ANNOTATION)
    {
        return Err(Unaccepted::new(
            "too-large",
            format!("an annotation is larger than {MAXIMUM_ANNOTATION} bytes"),
        ));
    }
    let given = |name: &str| {
        annotations
            .get(name)
            .map(|value| value.trim())
            .filter(|value| !value.is_empty())
    };
    let Some(signature) = given(SIGNATURE) else {
        return Err(Unaccepted::new(
            "malformed",
            format!("the layer has no annotation `{SIGNATURE}`"),
        ));
    };
    let signature = STANDARD
        .decode(signature)
        .map_err(|_| malformed(SIGNATURE))?;
    let entry = match given(LOG_ENTRY).filter(|entry| *entry != "null") {
        Some(entry) => Some(log_entry(entry)?.ok_or_else(|| malformed(LOG_ENTRY))?),
        None => None,
    };
    let mut material = match given(CERTIFICATE) {
        None => Map::from_iter([("publicKey".to_owned(), json!({"hint": ""}))]),
        Some(leaf) => {
            let mut certificates = certificates(leaf).ok_or_else(|| malformed(CERTIFICATE))?;
            if certificates.len() != 1 {
                return Err(malformed(CERTIFICATE));
            }
            certificates
                .extend(certificates_or_none(given(CHAIN)).ok_or_else(|| malformed(CHAIN))?);
            if certificates.len() > MAXIMUM_CERTIFICATES {
                let detail = format!("the chain has more than {MAXIMUM_CERTIFICATES} certificates");
                return Err(Unaccepted::new("too-large", detail));
            }
            let mut certificates = certificates
                .iter()
                .map(|der| json!({"rawBytes": STANDARD.encode(der)}));
            let (name, content) = match entry {
                Some(_) => (
                    "x509CertificateChain",
                    json!({"certificates": certificates.collect::<Vec<_>>()}),
                ),
                None => ("certificate", json!(certificates.next())),
            };
            Map::from_iter([(name.to_owned(), content)])
        }
    };
    // Version 0.1 is the one with promises instead of proofs; it must have one.
    let version = if entry.is_some() { "0.1" } else { "0.3" };
    if let Some(entry) = entry {
        material.insert("tlogEntries".to_owned(), json!([entry]));
    }
    if let Some(stamp) = given(TIMESTAMP).filter(|stamp| *stamp != "null") {
        let stamp: StampedBy =
            serde_json::from_str(unambiguous(stamp.as_bytes(), "the timestamp")?)
                .map_err(|_| malformed(TIMESTAMP))?;
        let stamps = json!({"rfc3161Timestamps": [{"signedTimestamp": stamp.token}]});
        material.insert("timestampVerificationData".to_owned(), stamps);
    }
    let bundle = json!({
        "mediaType": format!("application/vnd.dev.sigstore.bundle+json;version={version}"),
        "verificationMaterial": material,
        "messageSignature": {
            // cosign up to version 2 signs with SHA-256, whatever the curve.
            "messageDigest": {"algorithm": "SHA2_256", "digest": STANDARD.encode(Sha256::digest(payload))},
            "signature": STANDARD.encode(signature),
        },
    });
    Bundle::from_json(&bundle.to_string())
        .map_err(|error| Unaccepted::new("malformed", error.to_string()))
}

fn certificates_or_none(pem: Option<&str>) -> Option<Vec<Vec<u8>>> {
    match pem {
        Some(pem) => certificates(pem),
        None => Some(Vec::new()),
    }
}

/// The certificates of a PEM, in DER.
fn certificates(pem: &str) -> Option<Vec<Vec<u8>>> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let mut certificates = Vec::new();
    for block in pem.split(BEGIN).skip(1) {
        let (body, _) = block.split_once(END)?;
        let body: String = body.split_whitespace().collect();
        certificates.push(STANDARD.decode(body).ok()?);
    }
    (!certificates.is_empty()).then_some(certificates)
}

/// `None` where it cannot be understood.
fn log_entry(text: &str) -> Result<Option<Value>, Unaccepted> {
    let text = unambiguous(text.as_bytes(), "the log entry")?;
    let Ok(entry) = serde_json::from_str::<LogEntry>(text) else {
        return Ok(None);
    };
    let Ok(log_id) = hex::decode(&entry.payload.log_id) else {
        return Ok(None);
    };
    let Ok(body) = STANDARD.decode(&entry.payload.body) else {
        return Ok(None);
    };
    let Ok(kind) = serde_json::from_slice::<EntryKind>(&body) else {
        return Ok(None);
    };
    if (kind.kind.as_str(), kind.version.as_str()) != ("hashedrekord", "0.0.1") {
        let detail = format!(
            "log entries of kind `{} {}` are not supported by this version",
            kind.kind, kind.version
        );
        return Err(Unaccepted::new("format-not-supported", detail));
    }
    Ok(Some(json!({
        "logIndex": entry.payload.log_index.to_string(),
        "logId": {"keyId": STANDARD.encode(log_id)},
        "kindVersion": {"kind": kind.kind, "version": kind.version},
        "integratedTime": entry.payload.integrated_time.to_string(),
        "inclusionPromise": {"signedEntryTimestamp": entry.promise},
        "canonicalizedBody": entry.payload.body,
    })))
}
