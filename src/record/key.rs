//! Signatures of entries: Ed25519 over the cluster, the namespace, the record, the key in it and the whole entry, so that an entry
//! that is copied elsewhere does not count.

use std::collections::BTreeMap;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use promotion_gate_core::gate::Digest;
use serde_json::{Map, Value, json};

/// The field of an entry that holds its signature.
const SIGNATURE: &str = "signature";
/// The field of an entry that names the key.
const KEY_ID: &str = "keyId";
/// What a signature is about, so that it never counts for anything else.
const PURPOSE: &str = "promotion-gate.dev/release-record/v1";

/// Where an entry stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// The UID of the namespace `kube-system`.
    pub(super) cluster: &'a str,
    /// The UID of the record's namespace.
    pub(super) namespace: &'a str,
    /// The name of the record.
    pub(super) record: &'a str,
    /// The key of the entry in it.
    pub(super) key: &'a str,
}

/// The key that signs entries.
pub(super) struct SigningKey {
    pair: Ed25519KeyPair,
    id: String,
}

/// Public keys, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PublicKeys(pub(super) BTreeMap<String, Vec<u8>>);

/// Why an entry does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Unsigned,
    UnknownKey,
    BadSignature,
}

impl Refused {
    pub(super) const ALL: [Refused; 3] = [
        Refused::Unsigned,
        Refused::UnknownKey,
        Refused::BadSignature,
    ];
}

impl SigningKey {
    /// A new key; `None` if the machine has no randomness.
    pub(super) fn generate() -> Option<SigningKey> {
        Some(SigningKey::of(Ed25519KeyPair::generate().ok()?))
    }

    /// Reads PKCS #8 in DER; `None` if it holds no Ed25519 key.
    pub(super) fn from_pkcs8(der: &[u8]) -> Option<SigningKey> {
        Some(SigningKey::of(Ed25519KeyPair::from_pkcs8(der).ok()?))
    }

    fn of(pair: Ed25519KeyPair) -> SigningKey {
        let id = key_id(pair.public_key().as_ref());
        SigningKey { pair, id }
    }

    /// The key in PKCS #8.
    pub(super) fn to_pkcs8(&self) -> Option<Vec<u8>> {
        let der = self.pair.to_pkcs8v1().ok()?;
        Some(der.as_ref().to_vec())
    }

    /// The public key, as the status of the configuration lists it.
    pub(super) fn public(&self) -> PublicKeys {
        let key = self.pair.public_key().as_ref().to_vec();
        PublicKeys([(self.id.clone(), key)].into())
    }

    /// Signs an entry: adds the id of the key and the signature.
    pub(super) fn sign(&self, place: Place<'_>, entry: &mut Map<String, Value>) {
        entry.remove(SIGNATURE);
        entry.insert(KEY_ID.to_owned(), json!(self.id));
        let signature = self.pair.sign(&signed_bytes(place, entry));
        entry.insert(SIGNATURE.to_owned(), json!(STANDARD.encode(signature)));
    }
}

impl PublicKeys {
    /// The keys that a status lists. One that cannot be read is left out: nothing is verified by it.
    pub(super) fn of_status(listed: &Value) -> PublicKeys {
        let keys = listed.as_array().into_iter().flatten();
        let keys = keys.filter_map(|key| {
            let key = from_pem(key.get("publicKey")?.as_str()?)?;
            Some((key_id(&key), key))
        });
        PublicKeys(keys.collect())
    }

    /// The keys, as a status lists them.
    pub(super) fn to_status(&self) -> Value {
        let keys = self.0.iter();
        let keys = keys.map(|(id, key)| json!({"id": id, "publicKey": to_pem(key)}));
        keys.collect()
    }

    /// Checks that an entry was signed for this place.
    pub(super) fn verify(
        &self,
        place: Place<'_>,
        entry: &Map<String, Value>,
    ) -> Result<(), Refused> {
        let text = |field: &str| entry.get(field).and_then(Value::as_str);
        let (Some(id), Some(signature)) = (text(KEY_ID), text(SIGNATURE)) else {
            return Err(Refused::Unsigned);
        };
        let key = self.0.get(id).ok_or(Refused::UnknownKey)?;
        let signature = STANDARD
            .decode(signature)
            .map_err(|_| Refused::BadSignature)?;
        let mut unsigned = entry.clone();
        unsigned.remove(SIGNATURE);
        UnparsedPublicKey::new(&ED25519, key)
            .verify(&signed_bytes(place, &unsigned), &signature)
            .map_err(|_| Refused::BadSignature)
    }
}

impl Refused {
    /// Stable id, in kebab case.
    pub(super) fn id(self) -> &'static str {
        match self {
            Refused::Unsigned => "unsigned",
            Refused::UnknownKey => "unknown-key",
            Refused::BadSignature => "bad-signature",
        }
    }
}

/// The beginning of every Ed25519 public key in DER (RFC 8410).
const DER: [u8; 12] = [48, 42, 48, 5, 6, 3, 43, 101, 112, 3, 33, 0];

fn to_pem(key: &[u8]) -> String {
    let der = STANDARD.encode([&DER, key].concat());
    format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n")
}

fn from_pem(pem: &str) -> Option<Vec<u8>> {
    let body = pem.trim().strip_prefix("-----BEGIN PUBLIC KEY-----")?;
    let body = body.strip_suffix("-----END PUBLIC KEY-----")?;
    let body: String = body.split_whitespace().collect();
    let der = STANDARD.decode(body).ok()?;
    let key = der.strip_prefix(&DER)?;
    (key.len() == 32).then(|| key.to_vec())
}

/// The id of a public key: the beginning of its hash.
fn key_id(public: &[u8]) -> String {
    Digest::sha256(public).hex().chars().take(16).collect()
}

/// The keys of JSON objects are sorted, so that equal entries have equal bytes.
fn signed_bytes(place: Place<'_>, entry: &Map<String, Value>) -> Vec<u8> {
    let Place {
        cluster,
        namespace,
        record,
        key,
    } = place;
    let signed = json!([PURPOSE, cluster, namespace, record, key, entry]);
    signed.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'_> = Place {
        cluster: "c",
        namespace: "n",
        record: "sha256-a",
        key: "1",
    };

    fn signed(key: &SigningKey) -> Map<String, Value> {
        let mut entry = Map::new();
        entry.insert("template".to_owned(), json!("sha256:a"));
        entry.insert("by".to_owned(), json!("Policy"));
        key.sign(PLACE, &mut entry);
        entry
    }

    fn keys(key: &SigningKey) -> PublicKeys {
        let mut listed = key.public().to_status();
        let others = [json!({"id": "a", "publicKey": "!"}), json!({})];
        listed.as_array_mut().unwrap().extend(others);
        PublicKeys::of_status(&listed)
    }

    #[test]
    fn an_entry_counts_where_it_was_signed_for_and_nowhere_else() {
        let key = SigningKey::generate().unwrap();
        let (keys, entry) = (keys(&key), signed(&key));
        assert_eq!(keys.0.len(), 1);
        assert_eq!(keys.verify(PLACE, &entry), Ok(()));
        for copied in [
            Place {
                cluster: "other",
                ..PLACE
            },
            Place {
                namespace: "other",
                ..PLACE
            },
            Place {
                record: "sha256-b",
                ..PLACE
            },
            Place { key: "2", ..PLACE },
        ] {
            assert_eq!(keys.verify(copied, &entry), Err(Refused::BadSignature));
        }
    }

    #[test]
    fn an_entry_that_was_changed_does_not_count() {
        let key = SigningKey::generate().unwrap();
        let (keys, entry) = (keys(&key), signed(&key));
        let with = |field: &str, value: Value| {
            let mut changed = entry.clone();
            changed.insert(field.to_owned(), value);
            keys.verify(PLACE, &changed)
        };
        assert_eq!(with("by", json!("Waiver")), Err(Refused::BadSignature));
        assert_eq!(with("added", json!(1)), Err(Refused::BadSignature));
        assert_eq!(with("signature", json!("AAAA")), Err(Refused::BadSignature));
        assert_eq!(with("signature", json!(null)), Err(Refused::Unsigned));
        assert_eq!(with("keyId", json!("0")), Err(Refused::UnknownKey));
        let other = SigningKey::generate().unwrap();
        assert_eq!(
            keys.verify(PLACE, &signed(&other)),
            Err(Refused::UnknownKey)
        );
    }

    #[test]
    fn a_key_is_read_back_from_its_secret() {
        let key = SigningKey::generate().unwrap();
        let read = SigningKey::from_pkcs8(&key.to_pkcs8().unwrap()).unwrap();
        assert_eq!(read.id, key.id);
        assert_eq!(read.public(), key.public());
        assert!(SigningKey::from_pkcs8(b"no key").is_none());
    }
}
