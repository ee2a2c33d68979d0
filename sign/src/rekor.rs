//! Entries of transparency logs (Rekor v1 and v2), in the form of a bundle.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use crate::client::{Asked, ServiceClient, below};
use crate::error::SignError;
use crate::key::{Hashed, SigningKey};

/// A signature that is recorded.
pub(crate) struct Recorded<'a> {
    pub(crate) envelope: &'a Value,
    pub(crate) signature: &'a [u8],
    pub(crate) key: &'a SigningKey,
    /// In DER.
    pub(crate) certificate: Option<&'a [u8]>,
}

/// Where Rekor v1 keeps its entries.
const ENTRIES: &str = "api/v1/log/entries";

/// An entry of Rekor v1 (`dsse` 0.0.1), and whether the log had it before.
pub(crate) async fn add_v1(
    client: &dyn ServiceClient,
    base: &Url,
    recorded: &Recorded<'_>,
) -> Result<(Value, bool), SignError> {
    let verifier = match recorded.certificate {
        Some(der) => pem("CERTIFICATE", der),
        None => recorded.key.public_pem(),
    };
    let content = json!({
        "apiVersion": "0.0.1",
        "kind": "dsse",
        "spec": {"proposedContent": {
            "envelope": recorded.envelope.to_string(),
            "verifiers": [STANDARD.encode(verifier)],
        }},
    });
    let url = below(base, ENTRIES);
    let asked = asked(client, &url);
    let json = "application/json";
    let answer = asked
        .post(json, json, content.to_string().as_bytes())
        .await?;
    // The log has this very signature already: a signature by Ed25519 is always the same.
    let is_existing = answer.status == 409;
    let entries: BTreeMap<String, EntryV1> = match is_existing {
        true => {
            let id = answer.location.as_deref().and_then(entry_id);
            let id = id.ok_or_else(|| asked.refused(&answer))?;
            let at = below(base, &format!("{ENTRIES}/{id}"));
            let there = self::asked(client, &at);
            there.json(&there.get(None).await?)?
        }
        false => asked.json(&answer)?,
    };
    let mut entries = entries.into_values();
    let (Some(entry), None) = (entries.next(), entries.next()) else {
        return Err(asked.failed("did not answer with one entry"));
    };
    let entry = entry
        .in_bundle()
        .ok_or_else(|| asked.failed("answered with an entry whose hashes cannot be read"))?;
    Ok((entry, is_existing))
}

/// The identifier at the end of the address of an entry. The address itself is not followed: a log behind a proxy names itself
/// otherwise, and another host is not asked.
fn entry_id(location: &str) -> Option<&str> {
    let path = location.split(['?', '#']).next()?;
    let id = path.rsplit('/').next()?;
    let is_id = matches!(id.len(), 64 | 80) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then_some(id)
}

/// An entry of Rekor v2 (`hashedrekord` 0.0.2, over the envelope's pre-authentication encoding).
pub(crate) async fn add_v2(
    client: &dyn ServiceClient,
    base: &Url,
    recorded: &Recorded<'_>,
    hashed: &Hashed,
) -> Result<Value, SignError> {
    let mut verifier = json!({"keyDetails": hashed.key_details});
    if let Some(fields) = verifier.as_object_mut() {
        let (name, der) = match recorded.certificate {
            Some(der) => ("x509Certificate", der.to_vec()),
            None => ("publicKey", recorded.key.spki()),
        };
        fields.insert(name.to_owned(), json!({"rawBytes": STANDARD.encode(der)}));
    }
    let content = json!({"hashedRekordRequestV002": {
        "digest": STANDARD.encode(&hashed.digest),
        "signature": {"content": STANDARD.encode(recorded.signature), "verifier": verifier},
    }});
    let url = below(base, "api/v2/log/entries");
    let asked = asked(client, &url);
    let json = "application/json";
    let answer = asked
        .post(json, json, content.to_string().as_bytes())
        .await?;
    let entry: Value = asked.json(&answer)?;
    match entry.get("canonicalizedBody") {
        Some(_) => Ok(entry),
        None => Err(asked.failed("answered without an entry")),
    }
}

fn asked<'a>(client: &'a dyn ServiceClient, url: &'a Url) -> Asked<'a> {
    Asked {
        client,
        what: "transparency log",
        url,
    }
}

#[derive(Deserialize)]
struct EntryV1 {
    body: String,
    #[serde(rename = "integratedTime")]
    integrated: i64,
    #[serde(rename = "logID")]
    log: String,
    #[serde(rename = "logIndex")]
    index: u64,
    verification: Verification,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Verification {
    inclusion_proof: Proof,
    signed_entry_timestamp: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Proof {
    checkpoint: String,
    hashes: Vec<String>,
    log_index: u64,
    root_hash: String,
    tree_size: u64,
}

impl EntryV1 {
    fn in_bundle(&self) -> Option<Value> {
        let base64 = |text: &String| hex::decode(text).ok().map(|bytes| STANDARD.encode(bytes));
        let proof = &self.verification.inclusion_proof;
        let hashes = proof
            .hashes
            .iter()
            .map(base64)
            .collect::<Option<Vec<_>>>()?;
        Some(json!({
            "logIndex": self.index.to_string(),
            "logId": {"keyId": base64(&self.log)?},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": self.integrated.to_string(),
            "inclusionPromise": {"signedEntryTimestamp": self.verification.signed_entry_timestamp},
            "inclusionProof": {
                "logIndex": proof.log_index.to_string(),
                "rootHash": base64(&proof.root_hash)?,
                "treeSize": proof.tree_size.to_string(),
                "hashes": hashes,
                "checkpoint": {"envelope": proof.checkpoint},
            },
            "canonicalizedBody": self.body,
        }))
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut lines = format!("-----BEGIN {label}-----\n");
    for (at, c) in text.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            lines.push('\n');
        }
        lines.push(c);
    }
    lines + &format!("\n-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_version_1_is_written_as_bundles_carry_it() {
        let entry: EntryV1 = serde_json::from_value(json!({
            "body": "e30=", "integratedTime": 7, "logID": "00ff", "logIndex": 3,
            "verification": {
                "inclusionProof": {"checkpoint": "c", "hashes": ["0a"], "logIndex": 2, "rootHash": "0b", "treeSize": 9},
                "signedEntryTimestamp": "c2V0",
            },
        }))
        .unwrap();
        let written = entry.in_bundle().unwrap();
        assert_eq!(written["logId"]["keyId"], "AP8=");
        assert_eq!(written["inclusionProof"]["hashes"], json!(["Cg=="]));
        assert_eq!(written["inclusionProof"]["logIndex"], "2");
        let odd = EntryV1 {
            log: "x".to_owned(),
            ..entry
        };
        assert_eq!(odd.in_bundle(), None);
    }

    #[test]
    fn an_existing_entry_is_named_by_its_identifier_alone() {
        let (short, long) = ("a1".repeat(32), "0b".repeat(40));
        let at = |location: &str| entry_id(location).map(str::to_owned);
        assert_eq!(
            at(&format!("/api/v1/log/entries/{long}")),
            Some(long.clone())
        );
        let elsewhere = format!("https://other.example/x/{short}?a=/{long}#/b");
        assert_eq!(at(&elsewhere), Some(short.clone()));
        for odd in ["", "/", "/api/v1/log/entries/..", &short[1..], "é"] {
            assert_eq!(at(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_certificate_in_pem_has_lines_of_64() {
        let written = pem("CERTIFICATE", &[7; 60]);
        let lines: Vec<_> = written.lines().map(str::len).collect();
        assert_eq!(lines, [27, 64, 16, 25]);
        assert_eq!(
            crate::key::decoded(&written),
            Some(("CERTIFICATE", vec![7; 60]))
        );
    }
}
