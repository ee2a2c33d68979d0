//! cosign's layouts with the tags `.sig` and `.att`: a simplesigning payload or a DSSE envelope in a layer, with signature,
//! certificate, log entry and timestamp in the layer's annotations (cosign, `specs/SIGNATURE_SPEC.md`).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::chain::{Chain, certificates_of_pem, is_root};
use super::content::Content;
use super::log::{EntryKind, LogEntry, unknown_kind};
use super::signed::{MAXIMUM_CERTIFICATES, Signed, SignedBy, Stamps, Witnesses};
use super::statement::in_toto;
use super::unaccepted::{self, UnacceptedReason, bounded, strict, strict_of_few_fields};
use crate::gate::Digest;
use crate::strict_json::{Fields, is_same_key};

/// The `critical.type` of a cosign signature, and that of Tekton Chains (format `simplesigning`).
const TYPES: [&str; 2] = [
    "cosign container image signature",
    "Tekton container signature",
];
/// The fields of a simplesigning payload.
const PAYLOAD_FIELDS: Fields = Fields {
    known: &[
        "critical",
        "identity",
        "docker-reference",
        "image",
        "docker-manifest-digest",
        "type",
        "optional",
    ],
    free: &["optional"],
};
/// The spelling of the same fields by Tekton Chains.
const CAPITAL_FIELDS: Fields = Fields {
    known: &["Critical", "Identity", "Image", "Type", "Optional"],
    free: &["Optional"],
};
/// The most fields and items of lists in an envelope. One with a signature has six.
const MAXIMUM_FIELDS: usize = 1000;
/// The largest annotation, in bytes.
const MAXIMUM_ANNOTATION: usize = 1 << 20;

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const CHAIN: &str = "dev.sigstore.cosign/chain";
const LOG_ENTRY: &str = "dev.sigstore.cosign/bundle";
const TIMESTAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";

/// Parses a layer of `.sig`. The blob of the layer is the signed content.
///
/// # Errors
/// Why the layer is not a supported signature.
pub(super) fn signature(
    annotations: &BTreeMap<String, String>,
) -> Result<Signed, UnacceptedReason> {
    let found = Found(annotations);
    found.bounded()?;
    let Some(signature) = found.text(SIGNATURE) else {
        let detail = format!("the layer does not have the annotation `{SIGNATURE}`");
        return Err(UnacceptedReason::new(unaccepted::MALFORMED, detail));
    };
    Ok(Signed {
        content: Content::Message { digest: None },
        signature: STANDARD
            .decode(signature)
            .map_err(|_| unreadable(SIGNATURE))?,
        hints: Vec::new(),
        by: found.signed_by(),
        witnesses: found.witnesses(None),
    })
}

/// Parses a layer of `.att`. The blob of the layer is the envelope, with the signature.
///
/// # Errors
/// Why the layer is not a supported attestation.
pub(super) fn attestation(
    envelope: &[u8],
    annotations: &BTreeMap<String, String>,
) -> Result<Signed, UnacceptedReason> {
    let found = Found(annotations);
    found.bounded()?;
    let text = strict_of_few_fields(envelope, "the envelope", MAXIMUM_FIELDS)?;
    let parsed: Envelope = serde_json::from_str(text).map_err(|error| {
        UnacceptedReason::new(
            unaccepted::MALFORMED,
            format!("the layer is not an envelope: {error}"),
        )
    })?;
    let decode = |text: &str| {
        STANDARD
            .decode(text)
            .or_else(|_| URL_SAFE.decode(text))
            .ok()
    };
    let malformed =
        || UnacceptedReason::new(unaccepted::MALFORMED, "the envelope is not in base64");
    // Only one signature is accepted, because the annotations can name only one signer.
    let [EnvelopeSignature { sig }] = &parsed.signatures;
    Ok(Signed {
        content: Content::Envelope {
            payload_type: in_toto(parsed.payload_type)?,
            payload: decode(&parsed.payload).ok_or_else(malformed)?,
            written: Some(envelope.to_vec()),
        },
        signature: decode(sig).ok_or_else(malformed)?,
        hints: Vec::new(),
        by: found.signed_by(),
        witnesses: found.witnesses(Some(envelope.to_vec())),
    })
}

/// Checks that a simplesigning payload is a signature of `subject` (containers/image, `docs/containers-signature.5.md`), and
/// returns the signed annotations.
///
/// # Errors
/// Why the payload is not a signature of `subject`.
pub(super) fn simple_signing(
    payload: &[u8],
    subject: &Digest,
) -> Result<BTreeMap<String, String>, UnacceptedReason> {
    let capital = strict(payload, "the payload", CAPITAL_FIELDS);
    let text = capital.or_else(|_| strict(payload, "the payload", PAYLOAD_FIELDS))?;
    let payload: Payload = serde_json::from_str(text).map_err(|error| {
        UnacceptedReason::new(
            unaccepted::MALFORMED,
            format!("the payload is not simplesigning: {error}"),
        )
    })?;
    let Critical { kind, image } = payload.critical;
    if !TYPES.contains(&kind.as_str()) {
        let detail = format!(
            "the payload's type is `{kind}`, not `{}`",
            TYPES.join("` or `")
        );
        return Err(UnacceptedReason::new(
            unaccepted::WRONG_PAYLOAD_TYPE,
            detail,
        ));
    }
    let Some(digest) = image.digest() else {
        let detail = "the payload does not name one digest of an image";
        return Err(UnacceptedReason::new(unaccepted::MALFORMED, detail));
    };
    if digest != subject.to_string() {
        let detail = format!("the signature is about `{digest}`, not `{subject}`");
        return Err(UnacceptedReason::new(unaccepted::WRONG_SUBJECT, detail));
    }
    let optional = payload.optional.unwrap_or_default().into_iter();
    let texts = optional.filter_map(|(key, value)| Some((key, value.as_str()?.to_owned())));
    Ok(texts.collect())
}

#[derive(Deserialize)]
struct Payload {
    #[serde(alias = "Critical")]
    critical: Critical,
    #[serde(alias = "Optional")]
    optional: Option<BTreeMap<String, Value>>,
}

#[derive(Deserialize)]
struct Critical {
    #[serde(alias = "Image")]
    image: Image,
    #[serde(rename = "type", alias = "Type")]
    kind: String,
}

#[derive(Deserialize)]
struct Image(BTreeMap<String, Value>);

impl Image {
    /// The digest; `None` without one, or with several keys that Go reads as its key.
    fn digest(&self) -> Option<&str> {
        const LOWER: &str = "docker-manifest-digest";
        const CAPITAL: &str = "Docker-manifest-digest";
        let is_read_as = |key: &str| is_same_key(key, LOWER);
        let mut keys = self.0.iter().filter(|(key, _)| is_read_as(key));
        match (keys.next(), keys.next()) {
            (Some((key, digest)), None) if [LOWER, CAPITAL].contains(&key.as_str()) => {
                digest.as_str()
            }
            _ => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload_type: String,
    payload: String,
    signatures: [EnvelopeSignature; 1],
}

#[derive(Deserialize)]
struct EnvelopeSignature {
    sig: String,
}

/// A log entry in cosign's annotation, with the signed promise of a log of version 1.
#[derive(Deserialize)]
struct Promised {
    #[serde(rename = "SignedEntryTimestamp")]
    set: String,
    #[serde(rename = "Payload")]
    payload: PromisedPayload,
}

#[derive(Deserialize)]
struct PromisedPayload {
    body: String,
    #[serde(rename = "integratedTime")]
    integrated_time: i64,
    #[serde(rename = "logIndex")]
    log_index: u64,
    #[serde(rename = "logID")]
    log_id: String,
}

#[derive(Deserialize)]
struct KindAndVersion {
    kind: String,
    #[serde(rename = "apiVersion")]
    version: String,
}

#[derive(Deserialize)]
struct StampedBy {
    #[serde(rename = "SignedRFC3161Timestamp")]
    token: String,
}

fn unreadable(annotation: &str) -> UnacceptedReason {
    let detail = format!("the annotation `{annotation}` cannot be read");
    UnacceptedReason::new(unaccepted::MALFORMED, detail)
}

/// The annotations of a layer.
struct Found<'a>(&'a BTreeMap<String, String>);

impl Found<'_> {
    fn bounded(&self) -> Result<(), UnacceptedReason> {
        if self
            .0
            .values()
            .all(|value| value.len() <= MAXIMUM_ANNOTATION)
        {
            return Ok(());
        }
        let detail = format!("an annotation is larger than {MAXIMUM_ANNOTATION} bytes");
        Err(UnacceptedReason::new(unaccepted::TOO_LARGE, detail))
    }

    /// The text of an annotation. cosign writes an absent value as an empty text or as `null`.
    fn text(&self, annotation: &str) -> Option<&str> {
        let text = self.0.get(annotation)?.trim();
        (!text.is_empty() && text != "null").then_some(text)
    }

    fn json<T: DeserializeOwned>(&self, annotation: &str) -> Result<Option<T>, UnacceptedReason> {
        let Some(text) = self.text(annotation) else {
            return Ok(None);
        };
        let text = strict(text.as_bytes(), "the annotation", Fields::default())?;
        serde_json::from_str(text)
            .map(Some)
            .map_err(|_| unreadable(annotation))
    }

    fn signed_by(&self) -> Result<SignedBy, UnacceptedReason> {
        let Some(leaf) = self.text(CERTIFICATE) else {
            return Ok(SignedBy::Key);
        };
        let leaf = certificates_of_pem(leaf)
            .and_then(|certificates| <[Vec<u8>; 1]>::try_from(certificates).ok());
        let [leaf] = leaf.ok_or_else(|| unreadable(CERTIFICATE))?;
        let chain = match self.text(CHAIN) {
            Some(chain) => certificates_of_pem(chain).ok_or_else(|| unreadable(CHAIN))?,
            None => Vec::new(),
        };
        bounded("certificates", chain.len(), MAXIMUM_CERTIFICATES)?;
        // cosign writes the root too. A root beside a signature is never trusted.
        let intermediates = chain.into_iter().filter(|der| !is_root(der));
        Ok(SignedBy::Certificate(Chain {
            leaf,
            intermediates: intermediates.collect(),
        }))
    }

    fn witnesses(&self, or_of: Option<Vec<u8>>) -> Result<Witnesses, UnacceptedReason> {
        let mut found = Witnesses::default();
        match self.log_entry() {
            Ok(entry) => found.entries.extend(entry),
            Err(why) if why.reason == unaccepted::FORMAT_NOT_SUPPORTED => found.unknown.push(why),
            Err(why) => found.unreadable_entries.push(why),
        }
        let token = self.timestamp().unwrap_or_else(|why| {
            found.unknown.push(why);
            None
        });
        found.stamps = Stamps {
            tokens: token.into_iter().collect(),
            or_of,
        };
        Ok(found)
    }

    fn log_entry(&self) -> Result<Option<LogEntry>, UnacceptedReason> {
        let Some(Promised { set, payload }) = self.json(LOG_ENTRY)? else {
            return Ok(None);
        };
        let entry = || {
            let body = STANDARD.decode(&payload.body).ok()?;
            let kind: KindAndVersion = serde_json::from_slice(&body).ok()?;
            let integrated = Timestamp::from_second(payload.integrated_time).ok()?;
            let entry = LogEntry {
                kind: EntryKind::HashedRekordV1,
                log: hex::decode(&payload.log_id).ok()?,
                index: payload.log_index,
                integrated: (payload.integrated_time != 0).then_some(integrated),
                set: Some(STANDARD.decode(&set).ok()?),
                proof: None,
                set_suffices: true,
                body,
            };
            Some((kind, entry))
        };
        let (KindAndVersion { kind, version }, entry) =
            entry().ok_or_else(|| unreadable(LOG_ENTRY))?;
        let kind =
            EntryKind::named(&kind, &version).ok_or_else(|| unknown_kind(&kind, &version))?;
        Ok(Some(LogEntry { kind, ..entry }))
    }

    fn timestamp(&self) -> Result<Option<Vec<u8>>, UnacceptedReason> {
        let Some(StampedBy { token }) = self.json(TIMESTAMP)? else {
            return Ok(None);
        };
        STANDARD
            .decode(token)
            .map(Some)
            .map_err(|_| unreadable(TIMESTAMP))
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{authorities, certificate, pem};
    use super::*;

    #[test]
    fn tekton_chains_payloads_are_read_and_never_mixed() {
        let digest = Digest::sha256(b"image");
        let read = |text: &str| {
            let text = text.replace("<digest>", &digest.to_string());
            simple_signing(text.as_bytes(), &digest).map_err(|why| why.reason)
        };
        let tekton = r#"{"Critical":{"Identity":{"docker-reference":"r.example/app"},"Image":{"Docker-manifest-digest":"<digest>"},"Type":"Tekton container signature"},"Optional":{"a":"b"}}"#;
        assert_eq!(read(tekton).unwrap()["a"], "b");
        let lower = r#"{"critical":{"identity":{},"image":{"docker-manifest-digest":"<digest>"},"type":"Tekton container signature"},"optional":null}"#;
        read(lower).unwrap();
        read(&tekton.replace("Docker-m", "docker-m")).unwrap();
        let other = Digest::sha256(b"other").to_string();
        for mixed in [
            tekton.replace(
                "\"Image\":",
                &format!("\"image\":{{\"docker-manifest-digest\":\"{other}\"}},\"Image\":"),
            ),
            tekton.replace(
                "\"Docker-",
                &format!("\"docker-manifest-digest\":\"{other}\",\"Docker-"),
            ),
            tekton.replace(
                "\"Docker-",
                &format!("\"DOCKER-MANIFEST-DIGEST\":\"{other}\",\"Docker-"),
            ),
            tekton.replace(
                "\"Docker-",
                "\"doc\u{212a}er-manifest-digest\":null,\"Docker-",
            ),
            tekton.replace("\"Docker-m", "\"DOCKER-m"),
            lower.replacen("{\"critical\"", "{\"Critical\":null,\"critical\"", 1),
            lower.replace("\"type\"", "\"TYPE\":\"x\",\"type\""),
        ] {
            assert_eq!(read(&mixed), Err(unaccepted::MALFORMED), "{mixed}");
        }
        let elsewhere = tekton.replace("<digest>", &other);
        assert_eq!(read(&elsewhere), Err(unaccepted::WRONG_SUBJECT));
        let unknown = tekton.replace("Tekton container", "another");
        assert_eq!(read(&unknown), Err(unaccepted::WRONG_PAYLOAD_TYPE));
    }

    #[test]
    fn an_annotation_that_is_empty_or_null_is_absent() {
        for (written, read) in [("", None), (" \n", None), ("null", None), ("x", Some("x"))] {
            let annotations = BTreeMap::from([(CHAIN.to_owned(), written.to_owned())]);
            assert_eq!(Found(&annotations).text(CHAIN), read, "{written:?}");
        }
    }

    #[test]
    fn a_root_beside_a_signature_is_never_used() {
        let [intermediate, root] = authorities();
        let leaf = certificate(&[]);
        let chain = [&intermediate, &root]
            .map(|der| pem("CERTIFICATE", der))
            .concat();
        let annotations = BTreeMap::from([
            (CERTIFICATE.to_owned(), pem("CERTIFICATE", &leaf)),
            (CHAIN.to_owned(), chain),
        ]);
        let SignedBy::Certificate(read) = Found(&annotations).signed_by().unwrap() else {
            panic!("no certificate");
        };
        assert_eq!((read.leaf, read.intermediates), (leaf, vec![intermediate]));
    }
}
