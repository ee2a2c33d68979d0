//! The transparency log, with the protocol of Rekor v1: entries with an inclusion proof, a signed checkpoint and a signed
//! promise.

use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rcgen::{KeyPair, SigningKey as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{SandboxError, spki};

type Hash = [u8; 32];

/// The name in the log's checkpoints.
const ORIGIN: &str = "log.sandbox.invalid";

pub(super) struct Log {
    pub(super) key: KeyPair,
    leaves: Mutex<Vec<Hash>>,
}

/// What the log returns for an entry.
pub(super) struct Entry {
    kind: &'static str,
    version: &'static str,
    body: Vec<u8>,
    index: usize,
    at: Timestamp,
    id: Hash,
    promise: Vec<u8>,
    proof: Value,
}

impl Log {
    pub(super) fn create() -> Result<Log, SandboxError> {
        Ok(Log {
            key: KeyPair::generate()?,
            leaves: Mutex::new(Vec::new()),
        })
    }

    /// Adds an entry of a kind and version.
    pub(super) fn add(
        &self,
        (kind, version): (&'static str, &'static str),
        spec: Value,
        at: Timestamp,
    ) -> Result<Entry, SandboxError> {
        let body = json!({"apiVersion": version, "kind": kind, "spec": spec})
            .to_string()
            .into_bytes();
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        let index = leaves.len();
        leaves.push(hash(0, &[&body]));
        let (root, size) = (root(&leaves), leaves.len());
        let path: Vec<_> = path(index, &leaves)
            .iter()
            .map(|hash| STANDARD.encode(hash))
            .collect();
        drop(leaves);
        let id = Hash::from(Sha256::digest(spki(&self.key)));
        let promised = json!({
            "body": STANDARD.encode(&body),
            "integratedTime": at.as_second(),
            "logID": hex::encode(id),
            "logIndex": index,
        });
        Ok(Entry {
            kind,
            version,
            promise: self.key.sign(promised.to_string().as_bytes())?,
            proof: json!({
                "logIndex": index.to_string(),
                "rootHash": STANDARD.encode(root),
                "treeSize": size.to_string(),
                "hashes": path,
                "checkpoint": {"envelope": self.checkpoint(&root, size, &id)?},
            }),
            body,
            index,
            at,
            id,
        })
    }

    /// A signed note (transparency-dev, `formats/log`).
    fn checkpoint(&self, root: &Hash, size: usize, id: &Hash) -> Result<String, SandboxError> {
        let text = format!("{ORIGIN}\n{size}\n{}\n", STANDARD.encode(root));
        let mut signature: Vec<u8> = id.iter().copied().take(4).collect();
        signature.extend(self.key.sign(text.as_bytes())?);
        Ok(format!(
            "{text}\n\u{2014} {ORIGIN} {}\n",
            STANDARD.encode(signature)
        ))
    }
}

impl Entry {
    /// The entry in the form of a bundle.
    pub(super) fn in_bundle(&self) -> Value {
        json!({
            "logIndex": self.index.to_string(),
            "logId": {"keyId": STANDARD.encode(self.id)},
            "kindVersion": {"kind": self.kind, "version": self.version},
            "integratedTime": self.at.as_second().to_string(),
            "inclusionPromise": {"signedEntryTimestamp": STANDARD.encode(&self.promise)},
            "inclusionProof": self.proof,
            "canonicalizedBody": STANDARD.encode(&self.body),
        })
    }

    /// The entry as Rekor v1 answers with it.
    pub(super) fn in_rekor(&self) -> Result<Value, SandboxError> {
        let proof = |name: &str| {
            self.proof
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let hex_of = |base64: &str| {
            let bytes = STANDARD.decode(base64).map_err(SandboxError::of)?;
            Ok::<_, SandboxError>(hex::encode(bytes))
        };
        let number = |name: &str| proof(name).parse::<u64>().map_err(SandboxError::of);
        let hashes = self.proof.get("hashes").and_then(Value::as_array);
        let hashes = hashes.into_iter().flatten().filter_map(Value::as_str);
        let checkpoint = self.proof.pointer("/checkpoint/envelope");
        Ok(json!({
            "body": STANDARD.encode(&self.body),
            "integratedTime": self.at.as_second(),
            "logID": hex::encode(self.id),
            "logIndex": self.index,
            "verification": {
                "signedEntryTimestamp": STANDARD.encode(&self.promise),
                "inclusionProof": {
                    "checkpoint": checkpoint,
                    "hashes": hashes.map(hex_of).collect::<Result<Vec<_>, _>>()?,
                    "logIndex": number("logIndex")?,
                    "rootHash": hex_of(proof("rootHash"))?,
                    "treeSize": number("treeSize")?,
                },
            },
        }))
    }

    /// The entry in the form of cosign's legacy annotation.
    pub(super) fn in_annotation(&self) -> String {
        json!({
            "SignedEntryTimestamp": STANDARD.encode(&self.promise),
            "Payload": {
                "body": STANDARD.encode(&self.body),
                "integratedTime": self.at.as_second(),
                "logIndex": self.index,
                "logID": hex::encode(self.id),
            },
        })
        .to_string()
    }
}

/// RFC 6962, section 2.1.
fn hash(kind: u8, parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new_with_prefix([kind]);
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

fn root(leaves: &[Hash]) -> Hash {
    match halves(leaves) {
        Some((left, right)) => hash(1, &[&root(left), &root(right)]),
        None => leaves
            .first()
            .copied()
            .unwrap_or_else(|| Sha256::digest([]).into()),
    }
}

/// The inclusion proof of a leaf (RFC 6962, section 2.1.1), from the leaf up.
fn path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    let Some((left, right)) = halves(leaves) else {
        return Vec::new();
    };
    let (mut path, sibling) = match index.checked_sub(left.len()) {
        None => (path(index, left), root(right)),
        Some(index) => (path(index, right), root(left)),
    };
    path.push(sibling);
    path
}

/// Splits the leaves at the largest power of two that is less than their number.
fn halves(leaves: &[Hash]) -> Option<(&[Hash], &[Hash])> {
    (leaves.len() > 1).then(|| leaves.split_at(leaves.len().next_power_of_two() / 2))
}
