//! `emergency list`: what a cluster admitted by emergency changes, from records that the gate signed, and whether it was reviewed.

use std::sync::{Arc, Mutex};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use promotion_gate_core::gate::Digest;
use serde_json::{Map, Value, json};

use crate::approve::said;
use crate::cli::Ran;
use crate::emergency_command::{Emergency, declared};
use crate::server::{Reply, Seen, Server};

const GROUP: &str = "/apis/promotion-gate.dev/v1alpha1";
/// The beginning of every Ed25519 public key in DER (RFC 8410).
const DER: [u8; 12] = [48, 42, 48, 5, 6, 3, 43, 101, 112, 3, 33, 0];

/// What an API server holds: the namespace `shop`, with one release record.
struct Cluster {
    key: Ed25519KeyPair,
    record: Arc<Mutex<Value>>,
    _server: Server,
}

impl Cluster {
    async fn start(it: &Emergency) -> Cluster {
        let key = Ed25519KeyPair::generate().unwrap();
        let record: Arc<Mutex<Value>> = Arc::default();
        let der = STANDARD.encode([&DER, key.public_key().as_ref()].concat());
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n");
        let configuration = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "GateConfiguration",
            "metadata": {"name": "promotion-gate"}, "spec": {},
            "status": {"recordKeys": [{"publicKey": pem}]},
        });
        let held = Arc::clone(&record);
        let server =
            Server::start(move |seen| answer(seen, &configuration, &held.lock().unwrap())).await;
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": server.url()}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        it.bench.write("kubeconfig", &kubeconfig.to_string());
        Cluster {
            key,
            record,
            _server: server,
        }
    }

    /// The record holds these entries now, signed as the gate signs them.
    fn holds(&self, it: &Emergency, entries: &[Value]) {
        let name = format!("sha256-{}", it.digest.hex());
        let mut written = Map::new();
        for entry in entries {
            let key = key_of(entry);
            let mut entry = entry.as_object().unwrap().clone();
            let id = Digest::sha256(self.key.public_key().as_ref());
            entry.insert("keyId".to_owned(), json!(id.hex()[..16]));
            let purpose = "promotion-gate.dev/release-record/v1";
            let signed = json!([purpose, "uid-of-kube-system", "uid-of-shop", name, key, entry]);
            let signature = self.key.sign(signed.to_string().as_bytes());
            entry.insert("signature".to_owned(), json!(STANDARD.encode(signature)));
            written.insert(key, Value::Object(entry));
        }
        *self.record.lock().unwrap() = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "ReleaseRecord",
            "metadata": {"name": name, "namespace": "shop", "uid": "1", "resourceVersion": "1"},
            "spec": {"digest": it.digest.to_string(), "entries": written},
        });
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
    let rest = rest.map(|field| &entry[field]);
    let parts = [&[&json!(object)][..], &rest].concat();
    let hash = Digest::sha256(json!(parts).to_string().as_bytes());
    hash.hex()[..32].to_owned()
}

fn answer(seen: &Seen, configuration: &Value, record: &Value) -> Reply {
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
        list(json!([record]))
    } else if path.contains("/gateconfigurations/") {
        configuration.clone()
    } else if path.starts_with(GROUP) {
        list(json!([]))
    } else {
        return Reply::new(404, "application/json", "{}");
    };
    Reply::new(200, "application/json", found.to_string())
}

/// An admission by an emergency change, whose review is due in some hours.
fn entry(it: &Emergency, declaration: &str, hours: i64, requester: &str) -> Value {
    let now = Timestamp::now();
    let repository = it.image.split('@').next().unwrap();
    json!({
        "workload": {
            "group": "apps", "version": "v1", "kind": "Deployment", "namespace": "shop",
            "name": "web", "uid": "u",
        },
        "template": Digest::sha256(b"template").to_string(),
        "state": "Observed", "runs": "Running", "by": "Waiver", "complied": [],
        "environments": [], "at": now.to_string(), "decision": "1", "revision": "1",
        "emergency": [{
            "declaration": declaration, "environment": "production", "incident": "INC1",
            "incidentState": "unverified", "declaredBy": ["ada"], "approvedBy": ["ben"],
            "requester": requester, "policies": ["prod"], "waived": ["approvals"],
            "repositories": [repository], "admitted": now.to_string(), "expires": now.to_string(),
            "reviewDue": (now + SignedDuration::from_hours(hours)).to_string(),
        }],
    })
}

fn list(it: &Emergency, more: &[&str]) -> Ran {
    let args = ["emergency", "list", "--policy", "policies", "--config", "gate.yaml"];
    let cluster = ["--from-cluster", "--kubeconfig", "kubeconfig"];
    it.bench.run(&[&args[..], &cluster, more].concat(), "")
}

fn listed(it: &Emergency) -> (i32, Value) {
    let ran = list(it, &["--output", "json"]);
    let json = serde_json::from_str(&ran.stdout);
    (ran.code, json.unwrap_or_else(|_| panic!("{}{}", ran.stdout, ran.stderr)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_used_is_listed_with_the_state_of_its_review() {
    let it = Emergency::new().await;
    let declaration = declared(&it.declare("ada", &[]));
    said(&it.by("ben", "approve", &[]), 0, "read back");
    let cluster = Cluster::start(&it).await;
    cluster.holds(&it, &[]);
    said(&list(&it, &[]), 0, "no emergency change was used");

    cluster.holds(&it, &[entry(&it, &declaration, 48, "deployer")]);
    let ran = list(&it, &[]);
    for words in [
        &*format!("due {declaration} of `production`"),
        "incident      INC1 (unverified)",
        "Deployment shop/web",
        "declared by   ada; agreed: ben",
        "review due    ",
        &it.image,
    ] {
        said(&ran, 0, words);
    }
    said(&list(&it, &["--environment", "staging"]), 0, "no emergency change was used");

    cluster.holds(&it, &[entry(&it, &declaration, -1, "deployer")]);
    let (code, report) = listed(&it);
    assert_eq!(code, 2, "{report}");
    assert_eq!(report["version"], "promotion-gate.dev/emergencies/v1alpha1");
    assert_eq!(report["emergencies"][0]["state"], "overdue");
    assert_eq!(report["emergencies"][0]["declaration"], declaration.as_str());

    let verdict = ["--verdict", "unjustified", "--reason", "a restart was enough"];
    said(&it.by("cleo", "review", &verdict), 0, "read back");
    let (code, report) = listed(&it);
    assert_eq!(code, 0, "{report}");
    let reviewed = &report["emergencies"][0];
    assert_eq!(reviewed["state"], "reviewed");
    assert_eq!(reviewed["verdict"], "unjustified");
    assert_eq!(reviewed["reviewer"], "cleo");
    said(&list(&it, &[]), 0, "reviewed by   cleo: unjustified");

    // The person who asked the cluster for the change does not review it, whatever identity signs.
    cluster.holds(&it, &[entry(&it, &declaration, -1, "cleo")]);
    let (code, report) = listed(&it);
    assert_eq!((code, &report["emergencies"][0]["state"]), (2, &json!("overdue")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_the_gate_did_not_sign_is_not_listed_and_without_a_cluster_there_is_nothing_to_list()
 {
    let it = Emergency::new().await;
    let declaration = declared(&it.declare("ada", &[]));
    let cluster = Cluster::start(&it).await;
    cluster.holds(&it, &[entry(&it, &declaration, -1, "deployer")]);
    let (code, _) = listed(&it);
    assert_eq!(code, 2);
    // The same with a later due time.
    let later = (Timestamp::now() + SignedDuration::from_hours(48)).to_string();
    {
        let mut record = cluster.record.lock().unwrap();
        let entries = record["spec"]["entries"].as_object_mut().unwrap();
        for entry in entries.values_mut() {
            entry["emergency"][0]["reviewDue"] = json!(later);
        }
    }
    said(&list(&it, &[]), 0, "no emergency change was used");
    let without = it.bench.run(&["emergency", "list", "--policy", "policies"], "");
    said(&without, 1, "give `--from-cluster`");
}
