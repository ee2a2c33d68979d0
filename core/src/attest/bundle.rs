//! Sigstore bundles, v0.1 to v0.3 (Sigstore protobuf specifications, `sigstore_bundle.proto`).

use serde::Deserialize as _;
use serde_json::Value;
use sigstore_types::bundle::{
    KindVersion, Rfc3161Timestamp, TransparencyLogEntry, VerificationMaterialContent,
};
use sigstore_types::{Bundle, MediaType, SignatureContent};

use super::chain::{Chain, is_root};
use super::content::Content;
use super::key::KeyFingerprint;
use super::log::{EntryKind, LogEntry, unknown_kind};
use super::signed::{MAXIMUM_CERTIFICATES, MAXIMUM_ENTRIES, Signed, SignedBy, Stamps, Witnesses};
use super::statement::in_toto;
use super::unaccepted::{self, UnacceptedReason, bounded, strict_of_few_fields};

/// The most fields and items of lists in a bundle. A bundle with its certificates and as many log entries as are read has
/// some hundreds.
const MAXIMUM_FIELDS: usize = 50_000;

/// Parses a bundle. Does not verify it.
///
/// # Errors
/// Why the bytes are not a supported bundle.
pub(super) fn parse(bytes: &[u8]) -> Result<Signed, UnacceptedReason> {
    let text = strict_of_few_fields(bytes, "the bundle", MAXIMUM_FIELDS)?;
    let (bundle, refused, unreadable_signer) = match Bundle::from_json(text) {
        Ok(bundle) => (bundle, Refused::default(), None),
        Err(_) => {
            let mut written = serde_json::from_str(text).map_err(malformed)?;
            let refused = take_unreadable_witnesses(&mut written);
            let unreadable_signer = take_unreadable_signer(&mut written);
            let bundle: Bundle = serde_json::from_value(written).map_err(malformed)?;
            (bundle, refused, unreadable_signer)
        }
    };
    let version = bundle.media_type;
    let material = bundle.verification_material;
    let tokens = material.timestamp_verification_data.rfc3161_timestamps;
    let mut named = Vec::new();
    if let VerificationMaterialContent::PublicKey(key) = &material.content {
        named.push(key.hint.as_str());
    }
    if let SignatureContent::DsseEnvelope(envelope) = &bundle.content {
        named.push(envelope.signature.keyid.as_str());
    }
    let hints = named.into_iter().filter_map(KeyFingerprint::hinted);
    let hints = hints.collect();
    let (content, signature) = content(bundle.content)?;
    Ok(Signed {
        content,
        signature,
        hints,
        by: match unreadable_signer {
            Some(why) => Err(why),
            None => signed_by(material.content, version),
        },
        witnesses: witnesses(material.tlog_entries, tokens, refused, version),
    })
}

/// The refusals of witnesses that were removed from a bundle, as [`Witnesses`] keeps them.
#[derive(Default)]
struct Refused {
    unknown: Vec<UnacceptedReason>,
    unreadable_entries: Vec<UnacceptedReason>,
}

/// Removes the log entries and timestamps that cannot be read from a bundle, and returns a refusal for each. They count as absent
/// if others are valid. The signature does not cover them, so an attacker who can damage an entry can also remove it.
fn take_unreadable_witnesses(bundle: &mut Value) -> Refused {
    let mut refused = Refused::default();
    let Some(material) = bundle.get_mut("verificationMaterial") else {
        return refused;
    };
    if let Some(entries) = material.get_mut("tlogEntries") {
        let odd = take_odd_list(entries, "tlogEntries");
        refused.unreadable_entries.extend(odd);
        retain_items(entries, |entry| match check_entry(entry) {
            Ok(()) => true,
            Err(why) if why.reason == unaccepted::FORMAT_NOT_SUPPORTED => {
                refused.unknown.push(why);
                false
            }
            Err(why) => {
                refused.unreadable_entries.push(why);
                false
            }
        });
    }
    let Some(data) = material.get_mut("timestampVerificationData") else {
        return refused;
    };
    if !data.is_object() && !data.is_null() {
        let why = malformed("`timestampVerificationData` is not an object");
        refused.unknown.push(why);
        *data = Value::Null;
    }
    if let Some(stamps) = data.get_mut("rfc3161Timestamps") {
        let odd = take_odd_list(stamps, "rfc3161Timestamps");
        refused.unknown.extend(odd);
        retain_items(stamps, |stamp| match Rfc3161Timestamp::deserialize(stamp) {
            Ok(_) => true,
            Err(why) => {
                let why = malformed(format!("a timestamp cannot be read: {why}"));
                refused.unknown.push(why);
                false
            }
        });
    }
    refused
}

/// Puts an empty list in the place of a value that is not a list, and returns why. `null` is an empty list (proto3 JSON).
fn take_odd_list(value: &mut Value, name: &str) -> Option<UnacceptedReason> {
    let odd = !value.is_array() && !value.is_null();
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    odd.then(|| malformed(format!("`{name}` is not a list")))
}

fn retain_items(list: &mut Value, readable: impl FnMut(&Value) -> bool) {
    if let Some(items) = list.as_array_mut() {
        items.retain(readable);
    }
}

/// Whether a log entry can be read.
///
/// # Errors
/// Why not: its kind is unknown, or its fields are not those of an entry.
fn check_entry(entry: &Value) -> Result<(), UnacceptedReason> {
    let text = |place| entry.pointer(place).and_then(Value::as_str);
    if let (Some(kind), Some(version)) = (text("/kindVersion/kind"), text("/kindVersion/version"))
        && let Some(written) = entry.get("kindVersion")
        && KindVersion::deserialize(written).is_err()
    {
        return Err(unknown_kind(kind, version));
    }
    let read = TransparencyLogEntry::deserialize(entry);
    read.map(drop)
        .map_err(|why| malformed(format!("a log entry cannot be read: {why}")))
}

/// Puts a public key without a hint in the place of a certificate that cannot be read, and returns why. Under a key, the
/// certificate does not matter; under a trust root, it refuses the bundle.
fn take_unreadable_signer(bundle: &mut Value) -> Option<UnacceptedReason> {
    let material = bundle
        .pointer_mut("/verificationMaterial")?
        .as_object_mut()?;
    for name in ["certificate", "x509CertificateChain"] {
        let Some(written) = material.get(name) else {
            continue;
        };
        let alone = serde_json::json!({ name: written });
        if let Err(why) = VerificationMaterialContent::deserialize(&alone) {
            material.remove(name);
            material.insert("publicKey".to_owned(), serde_json::json!({"hint": ""}));
            return Some(malformed(format!("the certificate cannot be read: {why}")));
        }
    }
    None
}

fn witnesses(
    entries: Vec<TransparencyLogEntry>,
    tokens: Vec<Rfc3161Timestamp>,
    refused: Refused,
    version: MediaType,
) -> Result<Witnesses, UnacceptedReason> {
    let Refused {
        unknown,
        unreadable_entries,
    } = refused;
    let log_entries = entries.len() + unknown.len() + unreadable_entries.len();
    bounded("log entries", log_entries, MAXIMUM_ENTRIES)?;
    bounded("timestamps", tokens.len(), MAXIMUM_ENTRIES)?;
    let entries = entries.into_iter().map(|entry| log_entry(entry, version));
    let tokens = tokens.into_iter();
    Ok(Witnesses {
        entries: entries.collect::<Result<_, _>>()?,
        stamps: Stamps {
            tokens: tokens
                .map(|token| token.signed_timestamp.as_bytes().to_vec())
                .collect(),
            or_of: None,
        },
        unknown,
        unreadable_entries,
        needs_set: version == MediaType::Bundle0_1,
    })
}

fn malformed(why: impl std::fmt::Display) -> UnacceptedReason {
    UnacceptedReason::new(unaccepted::MALFORMED, why.to_string())
}

fn signed_by(
    content: VerificationMaterialContent,
    version: MediaType,
) -> Result<SignedBy, UnacceptedReason> {
    Ok(match content {
        VerificationMaterialContent::PublicKey(_) => SignedBy::Key,
        VerificationMaterialContent::Certificate(certificate) => SignedBy::Certificate(Chain {
            leaf: certificate.raw_bytes.as_bytes().to_vec(),
            intermediates: Vec::new(),
        }),
        VerificationMaterialContent::X509CertificateChain { .. }
            if version == MediaType::Bundle0_3 =>
        {
            return Err(malformed(
                "a bundle of version 0.3 carries one certificate, not a chain",
            ));
        }
        VerificationMaterialContent::X509CertificateChain { certificates } => {
            bounded("certificates", certificates.len(), MAXIMUM_CERTIFICATES)?;
            let mut ders = certificates
                .into_iter()
                .map(|certificate| certificate.raw_bytes.as_bytes().to_vec());
            let leaf = ders
                .next()
                .ok_or_else(|| malformed("the bundle's certificate chain is empty"))?;
            // A root in the bundle is never trusted. Version 0.1 may carry one, which is ignored.
            let (roots, intermediates): (Vec<_>, Vec<_>) = ders.partition(|der| is_root(der));
            if !roots.is_empty() && version != MediaType::Bundle0_1 {
                return Err(malformed(
                    "the bundle's certificate chain contains a root certificate",
                ));
            }
            SignedBy::Certificate(Chain {
                leaf,
                intermediates,
            })
        }
        _ => {
            return Err(malformed(
                "the bundle names its signer in a form that is not supported",
            ));
        }
    })
}

/// The signed content, and the signature.
fn content(content: SignatureContent) -> Result<(Content, Vec<u8>), UnacceptedReason> {
    Ok(match content {
        SignatureContent::MessageSignature(message) => {
            let digest = message
                .message_digest
                .map(|digest| (digest.algorithm, digest.digest.as_bytes().to_vec()));
            (
                Content::Message { digest },
                message.signature.as_bytes().to_vec(),
            )
        }
        SignatureContent::DsseEnvelope(envelope) => (
            Content::Envelope {
                payload_type: in_toto(envelope.payload_type)?,
                payload: envelope.payload.into_bytes(),
                written: None,
            },
            envelope.signature.sig.as_bytes().to_vec(),
        ),
        _ => {
            return Err(malformed(
                "the kind of the bundle's content is not supported",
            ));
        }
    })
}

fn log_entry(
    entry: TransparencyLogEntry,
    version: MediaType,
) -> Result<LogEntry, UnacceptedReason> {
    let (kind, kind_version) = (entry.kind_version.kind(), entry.kind_version.version());
    let kind =
        EntryKind::named(kind, kind_version).ok_or_else(|| unknown_kind(kind, kind_version))?;
    Ok(LogEntry {
        kind,
        log: entry.log_id.key_id.as_bytes().to_vec(),
        index: entry.log_index.get(),
        integrated: entry.integrated_time,
        set: entry
            .inclusion_promise
            .map(|set| set.signed_entry_timestamp.as_bytes().to_vec()),
        proof: entry.inclusion_proof,
        set_suffices: version == MediaType::Bundle0_1,
        body: entry.canonicalized_body.as_bytes().to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    use super::super::samples::authorities;
    use super::*;

    fn read(version: &str, chain: &[&Vec<u8>]) -> Result<SignedBy, UnacceptedReason> {
        let certificates = chain
            .iter()
            .map(|der| json!({"rawBytes": STANDARD.encode(der)}));
        let bundle = json!({
            "mediaType": version,
            "verificationMaterial": {
                "x509CertificateChain": {"certificates": certificates.collect::<Vec<_>>()},
                "tlogEntries": [{
                    "logIndex": "1",
                    "logId": {"keyId": STANDARD.encode([0; 32])},
                    "kindVersion": {"kind": "hashedrekord", "version": "0.0.1"},
                    "integratedTime": "1700000000",
                    "inclusionPromise": {"signedEntryTimestamp": "AA=="},
                    "canonicalizedBody": "AA==",
                }],
            },
            "messageSignature": {"signature": "AA=="},
        });
        parse(bundle.to_string().as_bytes())?.by
    }

    #[test]
    fn a_root_inside_a_bundle_is_never_used() {
        const V0_1: &str = "application/vnd.dev.sigstore.bundle+json;version=0.1";
        const V0_2: &str = "application/vnd.dev.sigstore.bundle+json;version=0.2";
        const V0_3: &str = crate::attest::media_type::BUNDLE;
        let [intermediate, root] = authorities();
        let leaf = super::super::samples::certificate(&[]);
        for (version, chain, refused) in [
            (V0_1, vec![&leaf, &intermediate, &root], None),
            (V0_1, vec![&leaf, &intermediate], None),
            (V0_1, vec![], Some("is empty")),
            (V0_2, vec![&leaf, &intermediate], None),
            (
                V0_2,
                vec![&leaf, &intermediate, &root],
                Some("contains a root certificate"),
            ),
            (V0_3, vec![&leaf], Some("not a chain")),
        ] {
            match (read(version, &chain), refused) {
                (Ok(by), None) => {
                    let SignedBy::Certificate(read) = by else {
                        panic!("{version}: no certificate");
                    };
                    assert_eq!(read.leaf, leaf, "{version}");
                    assert_eq!(
                        read.intermediates,
                        std::slice::from_ref(&intermediate),
                        "{version}"
                    );
                }
                (Err(why), Some(refused)) => assert!(why.detail.contains(refused), "{why}"),
                (read, _) => panic!("{version}: {:?}", read.err()),
            }
        }
    }
}
