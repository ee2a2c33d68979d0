//! The command `attest vsa`: from release records of one cluster to what the next one requires, over an API server that holds records
//! of every kind, and a registry.

use std::sync::{Arc, Mutex};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use promotion_gate::admission;
use promotion_gate_core::gate::Digest;
use serde_json::{Value, json};

use crate::approve::{Bench, ISSUER, document, nothing, said, services, token_of};
use crate::cli::Ran;
use crate::server::{Reply, Seen, Server};

const GROUP: &str = "/apis/promotion-gate.dev/v1alpha1";
const VERIFIER: &str = "https://staging.example/gate";

/// A cluster with one Deployment and the records of it. A test changes what it holds.
struct Cluster {
    key: Ed25519KeyPair,
    deployment: Value,
    policies: Vec<Value>,
    records: Vec<Value>,
}

impl Cluster {
    fn new(image: &str) -> Cluster {
        let policy = |name: &str, environment: &str| {
            let spec = json!({
                "environment": environment, "match": {"namespaces": {"names": ["shop"]}},
                "requirements": [{"allowedImages": {"patterns": ["**"]}}],
            });
            let mut policy: Value =
                serde_json::from_str(&document("PromotionPolicy", name, &spec)).unwrap();
            policy["metadata"]["uid"] = json!(name);
            policy["metadata"]["resourceVersion"] = json!("1");
            policy
        };
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "shop", "uid": "7"},
            "status": {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1},
            "spec": {"template": {"spec": {"containers": [{"name": "web", "image": image}]}}},
        });
        Cluster {
            key: Ed25519KeyPair::generate().unwrap(),
            deployment,
            policies: vec![policy("staging", "staging"), policy("other", "other")],
            records: Vec::new(),
        }
    }

    fn public_key(&self) -> Value {
        let der = [
            &[
                0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
            ][..],
            self.key.public_key().as_ref(),
        ]
        .concat();
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            STANDARD.encode(der)
        );
        json!({"id": self.key_id(), "publicKey": pem})
    }

    fn key_id(&self) -> String {
        let hash = Digest::sha256(self.key.public_key().as_ref());
        hash.hex().chars().take(16).collect()
    }

    /// An entry of the Deployment as it runs now, seen an hour after it was admitted.
    fn entry(&self, admitted: Timestamp) -> Value {
        let template = admission::changed_object(&self.deployment)
            .template
            .unwrap();
        json!({
            "workload": {"group": "apps", "version": "v1", "kind": "Deployment", "namespace": "shop", "name": self.deployment["metadata"]["name"], "uid": "7"},
            "template": template.to_string(), "state": "Observed", "runs": "Running", "by": "Policy",
            "complied": ["staging"], "environments": [], "at": admitted, "observedAt": admitted + SignedDuration::from_hours(1),
            "decision": "1", "revision": format!("sha256:{}", "a".repeat(64)),
        })
    }

    /// Writes a record of a digest with one entry, signed as the gate does.
    fn record(&mut self, digest: &Digest, mut entry: Value) {
        let name = format!("sha256-{}", digest.hex());
        let of = |field: &str| entry.pointer(field).cloned().unwrap_or_default();
        let object = ["group", "kind", "namespace", "name", "uid"];
        let object = object.map(|field| of(&format!("/workload/{field}")));
        let parts = json!([
            object,
            of("/template"),
            of("/runs"),
            of("/by"),
            of("/complied"),
            of("/environments"),
            null,
            null
        ]);
        let key = Digest::sha256(parts.to_string().as_bytes());
        let key: String = key.hex().chars().take(32).collect();
        entry["keyId"] = json!(self.key_id());
        let signed = json!([
            "promotion-gate.dev/release-record/v1",
            "uid-of-kube-system",
            "uid-of-shop",
            name,
            key,
            entry
        ]);
        let signature = self.key.sign(signed.to_string().as_bytes());
        entry["signature"] = json!(STANDARD.encode(signature));
        self.records.push(json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "ReleaseRecord",
            "metadata": {"name": name, "namespace": "shop", "uid": name, "resourceVersion": "1"},
            "spec": {"digest": digest.to_string(), "entries": {key: entry}},
        }));
    }

    fn answer(&self, seen: &Seen) -> Reply {
        let path = seen.path.split('?').next().unwrap();
        let reply = |status: u16, content: Value| {
            Reply::new(status, "application/json", content.to_string())
        };
        let list = |items: Value| {
            reply(
                200,
                json!({"apiVersion": "promotion-gate.dev/v1alpha1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": items}),
            )
        };
        let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "uid": format!("uid-of-{name}"), "labels": {}}});
        let missing = || {
            reply(
                404,
                json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "reason": "NotFound", "message": "not found", "code": 404}),
            )
        };
        if path == "/api/v1/namespaces" {
            let items = ["kube-system", "shop"].map(|name| {
                let mut metadata = namespace(name);
                metadata["apiVersion"] = json!("meta.k8s.io/v1");
                metadata["kind"] = json!("PartialObjectMetadata");
                metadata
            });
            return reply(
                200,
                json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {"resourceVersion": "1"}, "items": items}),
            );
        }
        if let Some(name) = path.strip_prefix("/api/v1/namespaces/") {
            return reply(200, namespace(name));
        }
        if path == "/apis/apps/v1/namespaces/shop/deployments/web" {
            return match self.deployment.is_null() {
                true => missing(),
                false => reply(200, self.deployment.clone()),
            };
        }
        match path.strip_prefix(GROUP) {
            Some("/gateconfigurations/promotion-gate") => reply(
                200,
                json!({
                    "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "GateConfiguration",
                    "metadata": {"name": "promotion-gate", "uid": "c", "resourceVersion": "1"}, "spec": {},
                    "status": {"recordKeys": [self.public_key()]},
                }),
            ),
            Some("/promotionpolicies") => list(json!(self.policies)),
            Some("/namespaces/shop/releaserecords") => list(json!(self.records)),
            Some(_) => list(json!([])),
            None => missing(),
        }
    }
}

/// Staging's cluster, a registry with its image, and a folder with the verifier's key.
struct Staging {
    bench: Bench,
    cluster: Arc<Mutex<Cluster>>,
    digest: Digest,
    image: String,
    _server: Server,
}

impl Staging {
    async fn new() -> Staging {
        let bench = Bench::new(nothing).await;
        let digest = bench.registry.push("app", "v1", "image");
        let image = bench.registry.image("app", &digest);
        let cluster = Arc::new(Mutex::new(Cluster::new(&image)));
        let shared = Arc::clone(&cluster);
        let server = Server::start(move |seen| shared.lock().unwrap().answer(seen)).await;
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": server.url()}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        bench.write("kubeconfig", &kubeconfig.to_string());
        bench.write(
            "gate.yaml",
            &bench.config(json!({"cluster": "staging-eu1"})),
        );
        Staging {
            bench,
            cluster,
            digest,
            image,
            _server: server,
        }
    }

    /// Records that the image was admitted two days ago.
    fn admitted(&self, change: impl FnOnce(&mut Value)) {
        let mut cluster = self.cluster.lock().unwrap();
        let mut entry = cluster.entry(Timestamp::now() - SignedDuration::from_hours(48));
        change(&mut entry);
        cluster.record(&self.digest, entry);
    }

    fn attest(&self, more: &[&str]) -> Ran {
        self.attest_by(&[&["--key", "alice.key"], more].concat())
    }

    fn attest_by(&self, signer: &[&str]) -> Ran {
        let args = [
            "attest",
            "vsa",
            "--from-cluster",
            "--kubeconfig",
            "kubeconfig",
            "--namespace",
            "shop",
            "--environment",
            "staging",
            "--verifier",
            VERIFIER,
            "--config",
            "gate.yaml",
            "--signing-config",
            "signing.json",
            "--trust-root",
            "root.json",
        ];
        self.bench.run(&[&args[..], signer].concat(), "")
    }

    /// What production says of the image.
    fn production(&self, more: Value) -> Ran {
        let people = std::fs::read_to_string(self.bench.folder.path().join("policies/people.yaml"));
        let people: Value = serde_json::from_str(&people.unwrap()).unwrap();
        let pem = &people["spec"]["people"][0]["identities"][0]["key"]["pem"];
        let key = json!({"key": {"pem": pem, "trustRoots": ["sandbox"]}});
        self.production_accepts(key, more)
    }

    fn production_accepts(&self, signer: Value, more: Value) -> Ran {
        let mut rule = json!({"verifiers": [{"id": VERIFIER, "signedBy": signer}]});
        rule.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let spec = json!({"environment": "production", "requirements": [{"digestPinned": {}}, {"verificationSummary": rule}]});
        self.bench.write(
            "policies/policy.yaml",
            &document("PromotionPolicy", "prod", &spec),
        );
        self.bench.check(&self.image)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ran_in_staging_is_let_into_production() {
    let staging = Staging::new().await;
    let chain = json!({"environment": "staging", "clusters": ["staging-eu1"], "minimumAge": "24h"});
    said(
        &staging.production(chain.clone()),
        2,
        "[no-verification-summary]",
    );
    staging.admitted(|_| {});
    let dry = staging.attest(&["--dry-run", "--level", "SLSA_BUILD_LEVEL_3"]);
    said(&dry, 0, r#""verificationResult":"PASSED""#);
    said(
        &dry,
        0,
        r#""uri":"https://promotion-gate.dev/policies/staging""#,
    );
    said(&dry, 0, r#""verifiedLevels":["SLSA_BUILD_LEVEL_3"]"#);
    assert!(staging.bench.attached("app", &staging.digest).is_empty());
    said(&staging.attest(&[]), 0, "and read back");
    assert_eq!(staging.bench.attached("app", &staging.digest).len(), 1);
    said(&staging.production(chain), 0, "");
    // It was seen 47 hours ago, and not when it was admitted.
    said(
        &staging.production(json!({"minimumAge": "48h"})),
        2,
        "[not-run-long-enough]",
    );
    said(
        &staging.production(json!({"clusters": ["prod-eu1"]})),
        2,
        "[other-environment]",
    );
    said(
        &staging.production(json!({"levels": ["SLSA_BUILD_LEVEL_1"]})),
        2,
        "[level-not-reached]",
    );
}

/// What a cluster says of a service account in its token, until then.
fn token_of_account(audience: &str, expires: Timestamp) -> String {
    let account =
        json!({"namespace": "promotion-gate", "serviceaccount": {"name": "verifier", "uid": "1"}});
    token_of(
        &json!({"iss": ISSUER, "aud": [audience], "sub": "system:serviceaccount:promotion-gate:verifier",
            "kubernetes.io": account, "exp": expires.as_second()}),
    )
}

const ACCOUNT: &str = "https://kubernetes.io/namespaces/promotion-gate/serviceaccounts/verifier";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_account_attests_with_the_token_in_its_file() {
    let staging = Staging::new().await;
    staging.admitted(|_| {});
    let services = services(&staging.bench.sigstore, ACCOUNT).await;
    staging.bench.sign_with(&services);
    let token = token_of_account("sigstore", Timestamp::now() + SignedDuration::from_mins(10));
    staging.bench.write("token", &token);
    let attest = || staging.attest_by(&["--identity-token", "token"]);
    said(&attest(), 0, "and read back");
    said(&attest(), 0, "attested before");
    assert_eq!(staging.bench.attached("app", &staging.digest).len(), 1);
    let production = |issuer: &str, identity: &str| {
        let keyless = json!({"issuer": issuer, "identity": identity, "trustRoots": ["sandbox"]});
        let more = json!({"environment": "staging", "minimumAge": "24h"});
        staging.production_accepts(json!({"keyless": keyless}), more)
    };
    said(&production(ISSUER, ACCOUNT), 0, "");
    for (issuer, identity) in [
        (ISSUER, ACCOUNT.replace("promotion-gate", "shop")),
        ("https://other.example", ACCOUNT.to_owned()),
    ] {
        let denied = production(issuer, &identity);
        said(&denied, 2, "[verifier-not-accepted]");
        said(&denied, 2, ACCOUNT);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_signs_nothing_is_named_with_what_to_do() {
    let staging = Staging::new().await;
    staging.admitted(|_| {});
    let refusing = Server::start(|_| {
        let why = json!({"code": 3, "message": "There was an error processing the identity token"});
        Reply::new(400, "application/json", why.to_string())
    })
    .await;
    staging.bench.sign_with(&refusing);
    let folder = staging.bench.folder.path();
    let now = Timestamp::now();
    let later = now + SignedDuration::from_mins(10);
    staging
        .bench
        .write("expired", &token_of_account("sigstore", now));
    staging.bench.write("secret", "not a token");
    std::fs::write(folder.join("binary"), [0xff]).unwrap();
    let missing = folder.join("missing/token").display().to_string();
    for (given, expected) in [
        (
            missing.as_str(),
            vec![
                "the identity token `",
                "missing/token` cannot be read: No such file",
                "a projected volume makes the file: `serviceAccountToken: {audience: sigstore, path: …}`",
            ],
        ),
        ("./token", vec!["`./token` cannot be read: No such file"]),
        (
            "policies",
            vec!["`policies` cannot be read", "name the file in it"],
        ),
        (
            "secret",
            vec!["`secret`: the identity token cannot be used"],
        ),
        ("binary", vec!["`binary`: it is not UTF-8 text"]),
        (
            "expired",
            vec![
                "`expired`: the identity token expired at ",
                "get a new token, and repeat the command",
            ],
        ),
        (
            "token",
            vec![
                "what `--identity-token` gives is not a file that exists",
                "expected a JWT of an OpenID Connect provider",
            ],
        ),
    ] {
        let ran = staging.attest_by(&["--identity-token", given]);
        for words in expected {
            said(&ran, 1, words);
        }
        assert!(!ran.stderr.contains("not a token"), "{}", ran.stderr);
    }
    assert!(refusing.asked().is_empty(), "{:?}", refusing.asked());
    for (audience, expected) in [
        (
            "vault",
            "is by `https://issuer.example` for the audience `vault`: an authority normally asks for the audience `sigstore`",
        ),
        (
            "sigstore",
            "for the audience `sigstore`: the authority has to be configured for this issuer, and to reach it",
        ),
    ] {
        let token = token_of_account(audience, later);
        let ran = staging.attest_by(&["--identity-token", &token]);
        said(&ran, 1, "There was an error processing the identity token");
        said(&ran, 1, expected);
    }
    assert!(staging.bench.attached("app", &staging.digest).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_did_not_comply_or_was_not_seen_is_left_out() {
    for (change, expected) in [
        (
            json!({"state": "Pending"}),
            "has not seen it in the cluster",
        ),
        (json!({"by": "Waiver"}), "by an emergency change"),
        (json!({"by": "Audit"}), "although a policy denied it"),
        (
            json!({"by": "Baseline"}),
            "before the gate recorded anything",
        ),
        (json!({"runs": "Staged"}), "without being started"),
        (json!({"complied": ["other"]}), "not judged by `staging`"),
        (
            json!({"template": format!("sha256:{}", "0".repeat(64))}),
            "another template",
        ),
    ] {
        let staging = Staging::new().await;
        staging.admitted(|entry| {
            entry
                .as_object_mut()
                .unwrap()
                .extend(change.as_object().unwrap().clone());
        });
        let ran = staging.attest(&["--workload", "Deployment/web"]);
        said(&ran, 2, expected);
        assert!(
            staging.bench.attached("app", &staging.digest).is_empty(),
            "{expected}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_record_is_not_attested() {
    let staging = Staging::new().await;
    staging.admitted(|_| {});
    {
        let mut cluster = staging.cluster.lock().unwrap();
        let entries = cluster.records[0]["spec"]["entries"]
            .as_object_mut()
            .unwrap();
        let entry = entries.values_mut().next().unwrap();
        entry["observedAt"] = json!("2020-01-01T00:00:00Z");
    }
    said(
        &staging.attest(&["--workload", "Deployment/web"]),
        2,
        "no release record that counts",
    );
    said(&staging.attest(&[]), 2, "nothing runs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_that_does_not_run_now_is_not_attested() {
    let staging = Staging::new().await;
    staging.admitted(|_| {});
    staging.cluster.lock().unwrap().deployment["spec"]["replicas"] = json!(0);
    said(&staging.attest(&[]), 2, "does not run");
    staging.cluster.lock().unwrap().deployment = Value::Null;
    said(&staging.attest(&[]), 2, "nothing runs");
    said(
        &staging.attest(&["--workload", "Deployment/web"]),
        1,
        "there is no Deployment `web`",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_without_a_ready_pod_is_not_attested() {
    let staging = Staging::new().await;
    staging.admitted(|_| {});
    staging.cluster.lock().unwrap().deployment["status"]["availableReplicas"] = json!(0);
    said(&staging.attest(&[]), 2, "has no Pod that is ready");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_no_policy_of_the_environment_is_about_is_not_attested() {
    let staging = Staging::new().await;
    staging.admitted(|_| {});
    {
        let mut cluster = staging.cluster.lock().unwrap();
        cluster.policies[0]["spec"]["match"]["images"] = json!(["other.example/**"]);
    }
    let ran = staging.attest(&[]);
    said(&ran, 2, "no policy of the environment is about it");
    assert!(staging.bench.attached("app", &staging.digest).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_run_signs_only_what_says_more() {
    let staging = Staging::new().await;
    staging.admitted(|_| {});
    said(&staging.attest(&[]), 0, "and read back");
    said(&staging.attest(&[]), 0, "attested before");
    assert_eq!(staging.bench.attached("app", &staging.digest).len(), 1);
    let level = ["--level", "SLSA_BUILD_LEVEL_3"];
    said(&staging.attest(&level), 0, "and read back");
    assert_eq!(staging.bench.attached("app", &staging.digest).len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_summary_by_another_signer_keeps_nobody_from_signing() {
    let staging = Staging::new().await;
    staging.admitted(|_| {});
    let own = std::fs::read(staging.bench.folder.path().join("alice.key")).unwrap();
    let other = aws_lc_rs::signature::EcdsaKeyPair::generate(
        &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1_SIGNING,
    );
    let other = pem("PRIVATE KEY", other.unwrap().to_pkcs8v1().unwrap().as_ref());
    staging.bench.write("alice.key", &other);
    said(&staging.attest(&[]), 0, "and read back");
    staging
        .bench
        .write("alice.key", std::str::from_utf8(&own).unwrap());
    said(&staging.attest(&[]), 0, "and read back");
    assert_eq!(staging.bench.attached("app", &staging.digest).len(), 2);
}

fn pem(kind: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_another_version_the_time_begins_anew() {
    let staging = Staging::new().await;
    staging.admitted(|_| {});
    {
        let mut cluster = staging.cluster.lock().unwrap();
        let mut other = cluster.entry(Timestamp::now() - SignedDuration::from_hours(2));
        other["template"] = json!(Digest::sha256(b"v2").to_string());
        cluster.record(&Digest::sha256(b"another image"), other);
    }
    let ran = staging.attest(&[]);
    said(&ran, 0, "it counts from now");
    said(
        &staging.production(json!({"minimumAge": "1h"})),
        2,
        "[not-run-long-enough]",
    );
    said(&staging.production(json!({})), 0, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_environment_that_no_policy_of_the_namespace_names_is_an_error() {
    let staging = Staging::new().await;
    staging.admitted(|_| {});
    let args = [
        "attest",
        "vsa",
        "--from-cluster",
        "--kubeconfig",
        "kubeconfig",
        "--namespace",
        "shop",
    ];
    let more = [
        "--environment",
        "production",
        "--verifier",
        VERIFIER,
        "--config",
        "gate.yaml",
        "--dry-run",
    ];
    let ran = staging.bench.run(&[&args[..], &more[..]].concat(), "");
    said(&ran, 1, "no policy of the environment `production` governs");
    let without = [
        "attest",
        "vsa",
        "--environment",
        "staging",
        "--verifier",
        VERIFIER,
        "--policy",
        "policies",
        "--config",
        "gate.yaml",
    ];
    said(&staging.bench.run(&without, ""), 1, "give `--from-cluster`");
    let no_uri = [
        "attest",
        "vsa",
        "--from-cluster",
        "--environment",
        "staging",
        "--verifier",
        "staging",
    ];
    said(&staging.bench.run(&no_uri, ""), 1, "expected a URI");
}
