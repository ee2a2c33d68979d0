//! An API server with the namespace `shop` and one release record in it, whose entries are signed as the gate signs them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use promotion_gate_core::gate::Digest;
use serde_json::{Map, Value, json};

use super::server::{Reply, Seen, Server};

const GROUP: &str = "/apis/promotion-gate.dev/v1alpha1";
/// The beginning of every Ed25519 public key in DER (RFC 8410).
const DER: [u8; 12] = [48, 42, 48, 5, 6, 3, 43, 101, 112, 3, 33, 0];

pub struct ApiServer {
    key: Ed25519KeyPair,
    pub record: Arc<Mutex<Option<Value>>>,
    /// Whether it answers nothing but errors.
    pub fails: Arc<AtomicBool>,
    server: Server,
}

impl ApiServer {
    pub async fn start() -> ApiServer {
        let key = Ed25519KeyPair::generate().unwrap();
        let der = STANDARD.encode([&DER, key.public_key().as_ref()].concat());
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n");
        let configuration = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "GateConfiguration",
            "metadata": {"name": "promotion-gate"}, "spec": {},
            "status": {"recordKeys": [{"publicKey": pem}]},
        });
        let record: Arc<Mutex<Option<Value>>> = Arc::default();
        let fails: Arc<AtomicBool> = Arc::default();
        let (held, failing) = (Arc::clone(&record), Arc::clone(&fails));
        let server = Server::start(move |seen| match failing.load(Ordering::SeqCst) {
            true => status(500, "the server is overloaded"),
            false => answer(seen, &configuration, held.lock().unwrap().as_ref()),
        });
        ApiServer {
            key,
            record,
            fails,
            server: server.await,
        }
    }

    pub fn kubeconfig(&self) -> String {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.server.url()}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        })
        .to_string()
    }

    /// The record is about this digest, and holds these entries.
    pub fn holds(&self, digest: &Digest, entries: &[Value]) {
        let name = format!("sha256-{}", digest.hex());
        let mut written = Map::new();
        for entry in entries {
            let key = key_of(entry);
            let mut entry = entry.as_object().unwrap().clone();
            let id = Digest::sha256(self.key.public_key().as_ref());
            entry.insert("keyId".to_owned(), json!(id.hex()[..16]));
            let purpose = "promotion-gate.dev/release-record/v1";
            let signed = json!([
                purpose,
                "uid-of-kube-system",
                "uid-of-shop",
                name,
                key,
                entry
            ]);
            let signature = self.key.sign(signed.to_string().as_bytes());
            entry.insert("signature".to_owned(), json!(STANDARD.encode(signature)));
            written.insert(key, Value::Object(entry));
        }
        *self.record.lock().unwrap() = Some(json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "ReleaseRecord",
            "metadata": {"name": name, "namespace": "shop", "uid": "1", "resourceVersion": "1"},
            "spec": {"digest": digest.to_string(), "entries": written},
        }));
    }
}

/// The key of an entry: a hash of what it lets pass.
fn key_of(entry: &Value) -> String {
    let workload = &entry["workload"];
    let object = ["group", "kind", "namespace", "name", "uid"].map(|field| &workload[field]);
    let rest = [
        "template",
        "runs",
        "by",
        "complied",
        "environments",
        "source",
        "digest",
    ];
    let rest = rest.map(|field| entry[field].clone());
    let parts = [&[json!(object)][..], &rest].concat();
    let hash = Digest::sha256(json!(parts).to_string().as_bytes());
    hash.hex()[..32].to_owned()
}

fn status(code: u16, message: &str) -> Reply {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "reason": "Test", "message": message, "code": code,
    });
    Reply::new(code, "application/json", status.to_string())
}

fn answer(seen: &Seen, configuration: &Value, record: Option<&Value>) -> Reply {
    let path = seen.path.split('?').next().unwrap();
    let namespace = |name: &str| {
        let metadata = json!({"name": name, "uid": format!("uid-of-{name}"), "labels": {}});
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    };
    let list = |items: Value| json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": items});
    let found = if let Some(name) = path.strip_prefix("/api/v1/namespaces/") {
        namespace(name)
    } else if path == "/api/v1/namespaces" {
        list(json!(["kube-system", "shop"].map(namespace)))
    } else if path.ends_with("/releaserecords") {
        // A record of another name is not selected.
        let selected = seen.path.split("metadata.name%3D").nth(1);
        let selected = selected.and_then(|rest| rest.split('&').next());
        let is_selected =
            |record: &&Value| selected.is_none_or(|name| record["metadata"]["name"] == name);
        let records: Vec<_> = record.into_iter().filter(is_selected).collect();
        list(json!(records))
    } else if path.contains("/gateconfigurations/") {
        configuration.clone()
    } else if path.starts_with(GROUP) {
        list(json!([]))
    } else {
        return status(404, "not found");
    };
    Reply::new(200, "application/json", found.to_string())
}
