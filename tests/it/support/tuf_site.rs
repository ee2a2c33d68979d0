//! A TUF repository whose keys a test holds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use sigstore_tuf::canonical_json::to_canonical_bytes;

use crate::server::{Reply, Seen, Server};

/// Keys, and what is published.
pub struct TufSite {
    /// The keys of `root` that sign, in order of the versions.
    root_key: Ed25519KeyPair,
    /// The key of the other roles.
    online_key: Ed25519KeyPair,
    pub root_version: u64,
    pub version: u64,
    pub expires: String,
    files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    /// What is answered instead of a file, by its name; `*` for all.
    instead: Arc<Mutex<BTreeMap<String, Reply>>>,
}

fn key() -> Ed25519KeyPair {
    Ed25519KeyPair::generate().unwrap()
}

fn public(key: &Ed25519KeyPair) -> String {
    hex::encode(key.public_key().as_ref())
}

fn signed(value: &Value, keys: &[&Ed25519KeyPair]) -> Value {
    let bytes = to_canonical_bytes(value).unwrap();
    let signatures = keys.iter().map(|key| {
        let signature = hex::encode(key.sign(&bytes).as_ref());
        json!({"keyid": public(key), "sig": signature})
    });
    json!({"signatures": signatures.collect::<Vec<_>>(), "signed": value})
}

impl TufSite {
    pub fn new() -> TufSite {
        let site = TufSite {
            root_key: key(),
            online_key: key(),
            root_version: 1,
            version: 0,
            expires: "2030-01-01T00:00:00Z".to_owned(),
            files: Arc::default(),
            instead: Arc::default(),
        };
        let root = site.root(&[]);
        site.put("1.root.json", &root);
        site
    }

    /// The present `root.json`, signed by others too.
    fn root(&self, others: &[&Ed25519KeyPair]) -> Value {
        let keys = [&self.root_key, &self.online_key].map(|key| {
            let entry = json!({"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": public(key)}});
            (public(key), entry)
        });
        let role = |key: &Ed25519KeyPair| json!({"keyids": [public(key)], "threshold": 1});
        let value = json!({
            "_type": "root",
            "spec_version": "1.0.31",
            "version": self.root_version,
            "expires": "2030-01-01T00:00:00Z",
            "consistent_snapshot": true,
            "keys": BTreeMap::from(keys),
            "roles": {
                "root": role(&self.root_key),
                "timestamp": role(&self.online_key),
                "snapshot": role(&self.online_key),
                "targets": role(&self.online_key),
            },
        });
        signed(&value, &[others, &[&self.root_key]].concat())
    }

    /// The root file to trust first.
    pub fn initial_root(&self) -> Value {
        serde_json::from_slice(&self.files.lock().unwrap()["1.root.json"]).unwrap()
    }

    /// Publishes a trust root under the next versions.
    pub fn publish(&mut self, trusted_root: &str) {
        self.version += 1;
        let hash = hex::encode(digest(&SHA256, trusted_root.as_bytes()));
        let target = json!({"length": trusted_root.len(), "hashes": {"sha256": hash}});
        self.put_bytes(
            &format!("targets/{hash}.trusted_root.json"),
            trusted_root.into(),
        );
        let version = self.version;
        self.put_role(
            "targets",
            &format!("{version}.targets.json"),
            json!({"targets": {"trusted_root.json": target}}),
        );
        let pin = json!({"version": version});
        self.put_role(
            "snapshot",
            &format!("{version}.snapshot.json"),
            json!({"meta": {"targets.json": pin}}),
        );
        self.put_role(
            "timestamp",
            "timestamp.json",
            json!({"meta": {"snapshot.json": pin}}),
        );
    }

    fn put_role(&self, role: &str, file: &str, content: Value) {
        let mut value = json!({
            "_type": role,
            "spec_version": "1.0.31",
            "version": self.version,
            "expires": self.expires,
        });
        let fields = content.as_object().unwrap().clone();
        value.as_object_mut().unwrap().extend(fields);
        let value = signed(&value, &[&self.online_key]);
        self.put(file, &value);
    }

    /// Publishes the next root file with new keys, signed by the former root key or not.
    pub fn rotate(&mut self, is_signed_by_former: bool) {
        let former = std::mem::replace(&mut self.root_key, key());
        self.online_key = key();
        self.root_version += 1;
        let root = match is_signed_by_former {
            true => self.root(&[&former]),
            false => self.root(&[]),
        };
        self.put(&format!("{}.root.json", self.root_version), &root);
    }

    pub fn put(&self, file: &str, value: &Value) {
        self.put_bytes(file, value.to_string().into_bytes());
    }

    pub fn put_bytes(&self, file: &str, bytes: Vec<u8>) {
        self.files.lock().unwrap().insert(file.to_owned(), bytes);
    }

    pub fn get(&self, file: &str) -> Vec<u8> {
        self.files.lock().unwrap()[file].clone()
    }

    /// The only target that is published now.
    pub fn spoil_targets(&self) {
        let mut files = self.files.lock().unwrap();
        let targets = files
            .iter_mut()
            .filter(|(name, _)| name.starts_with("targets/"));
        targets.for_each(|(_, bytes)| bytes.iter_mut().for_each(|byte| *byte ^= 1));
    }

    pub async fn serve(&self) -> Server {
        let (files, instead) = (Arc::clone(&self.files), Arc::clone(&self.instead));
        let answer = move |seen: &Seen| {
            let name = seen.path.trim_start_matches('/');
            let instead = instead.lock().unwrap();
            if let Some(reply) = instead.get(name).or_else(|| instead.get("*")) {
                return reply.clone();
            }
            match files.lock().unwrap().get(name) {
                Some(bytes) => Reply::new(200, "application/json", bytes.clone()),
                None => Reply::status(404),
            }
        };
        Server::start(answer).await
    }

    /// Answers this instead of a file; instead of every one if the name is `*`.
    pub fn answer(&self, name: &str, reply: Reply) {
        self.instead.lock().unwrap().insert(name.to_owned(), reply);
    }

    /// Answers with the files again.
    pub fn recover(&self) {
        self.instead.lock().unwrap().clear();
    }
}
