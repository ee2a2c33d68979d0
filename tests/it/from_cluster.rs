//! Commands that read a cluster: an API server that fails or refuses, and how much of it they read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::{SignedDuration, Timestamp};
use promotion_gate_core::gate::Digest;
use serde_json::{Value, json};

use crate::api_server::ApiServer;
use crate::images::signed;
use crate::server::{Reply, Seen, Server};
use crate::wait::{Bench, deployment_in};

const GROUP: &str = "/apis/promotion-gate.dev/v1alpha1";

fn answer(status: u16, content: &Value) -> Reply {
    Reply::new(status, "application/json", content.to_string())
}

fn refusal(code: u16, message: &str) -> Reply {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "reason": if code == 404 { "NotFound" } else { "Test" }, "message": message, "code": code,
    });
    answer(code, &status)
}

/// A cluster without resources of the gate.
fn empty(seen: &Seen) -> Reply {
    let path = seen.path.split('?').next().unwrap();
    if let Some(name) = path.strip_prefix("/api/v1/namespaces/") {
        let metadata = json!({"name": name, "uid": format!("uid-of-{name}"), "labels": {}});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
        return answer(200, &namespace);
    }
    match path.strip_prefix(GROUP) {
        Some(rest) if rest.contains("gateconfigurations/") => refusal(404, "not found"),
        Some(_) => {
            let list = json!({"apiVersion": "promotion-gate.dev/v1alpha1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": []});
            answer(200, &list)
        }
        None => refusal(404, "not found"),
    }
}

/// A bench with a kubeconfig for this API server, and an approved image.
async fn bench_at(server: &Server) -> (Bench, Digest) {
    let bench = Bench::new().await;
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": server.url()}}],
        "users": [{"name": "test", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    });
    bench.write("kubeconfig", &kubeconfig.to_string());
    let image = signed(&bench.registry, "v1", "release");
    bench.approves(&image, "ada");
    bench.approves(&image, "ben");
    (bench, image)
}

const CLUSTER: [&str; 3] = ["--from-cluster", "--kubeconfig", "kubeconfig"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_fails_at_first_is_asked_again_and_the_failure_is_said() {
    // 429 and 503 are repeated by the client for half a minute before.
    for failure in [500, 502] {
        let has_recovered = Arc::new(AtomicBool::new(false));
        let recovered = Arc::clone(&has_recovered);
        let server = Server::start(move |seen| match recovered.load(Ordering::SeqCst) {
            false => refusal(failure, "the server is overloaded"),
            true => empty(seen),
        })
        .await;
        let (bench, image) = bench_at(&server).await;
        let waiting = bench.starts(&[&CLUSTER[..], &[&bench.image(&image)]].concat(), "");
        let (state, missing) = waiting.says();
        assert_eq!(
            (state.as_str(), missing[0].0.as_str()),
            ("waiting", "not-read")
        );
        assert!(
            missing[0].1.contains("the server is overloaded"),
            "{missing:?}"
        );
        has_recovered.store(true, Ordering::SeqCst);
        assert_eq!(waiting.says().0, "allowed");
        assert_eq!(waiting.code(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_is_down_is_waited_for_until_the_time_is_over() {
    let server = Server::start(empty).await;
    let (bench, image) = bench_at(&server).await;
    drop(server);
    let image = bench.image(&image);
    let waiting = bench.starts(&[&CLUSTER[..], &["--timeout", "2s", &image]].concat(), "");
    assert_eq!(waiting.says().1[0].0, "not-read");
    assert_eq!(waiting.says().0, "timedOut");
    assert_eq!(waiting.code(), Some(3));
}

/// An admission of another version of the Deployment `web` in `shop`, which ran and complied.
fn admitted(at: Timestamp) -> Value {
    json!({
        "workload": {
            "group": "apps", "version": "v1", "kind": "Deployment", "namespace": "shop",
            "name": "web", "uid": "u",
        },
        "template": Digest::sha256(b"template").to_string(),
        "state": "Observed", "runs": "Running", "by": "Policy", "complied": ["production"],
        "environments": ["production"], "at": at.to_string(), "decision": "1", "revision": "1",
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_was_admitted_while_the_api_server_was_down_ends_the_wait() {
    for (minutes_ago, state, code) in [(0, "superseded", 2), (60, "waiting", 3)] {
        let cluster = ApiServer::start().await;
        cluster.fails.store(true, Ordering::SeqCst);
        let bench = Bench::new().await;
        bench.write("kubeconfig", &cluster.kubeconfig());
        let image = signed(&bench.registry, "v1", "release");
        let manifest = deployment_in("shop", &[bench.image(&image)]);
        let waited = if state == "waiting" { "6s" } else { "1h" };
        let more = ["--timeout", waited, "-f", "-"];
        let waiting = bench.starts(&[&CLUSTER[..], &more].concat(), &manifest);
        assert_eq!(waiting.says().1[0].0, "not-read");
        let at = Timestamp::now() - SignedDuration::from_mins(minutes_ago);
        cluster.holds(&Digest::sha256(b"another version"), &[admitted(at)]);
        cluster.fails.store(false, Ordering::SeqCst);
        assert_eq!(waiting.says().0, state);
        if state == "waiting" {
            assert_eq!(waiting.says().0, "timedOut");
        }
        assert_eq!(waiting.code(), Some(code));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_api_server_will_refuse_again_ends_it_with_1() {
    for (code, part, words) in [
        (403, "promotionpolicies", "apply the roles in `deploy`"),
        (404, "promotionpolicies", "kubectl apply -f deploy/crds"),
        (401, "promotionpolicies", "Unauthorized"),
        (403, "/releaserecords", "apply the roles in `deploy`"),
        (
            403,
            "/api/v1/namespaces/shop",
            "the namespace `shop` cannot be read",
        ),
    ] {
        let server = Server::start(move |seen| match seen.path.contains(part) {
            true => refusal(code, "Unauthorized"),
            false => empty(seen),
        })
        .await;
        let (bench, image) = bench_at(&server).await;
        let ran = bench.ends(&[&CLUSTER[..], &[&bench.image(&image)]].concat(), "");
        assert_eq!(ran.code, 1, "{code} {part}: {}{}", ran.stdout, ran.stderr);
        assert!(ran.stderr.contains(words), "{code} {part}: {}", ran.stderr);
    }
}

/// The requests about records and namespaces.
fn about_records(server: &Server) -> Vec<String> {
    let asked = server.asked();
    let about = |path: &&String| path.contains("releaserecords") || path.contains("/namespaces");
    let mut about: Vec<_> = asked.iter().filter(about).cloned().collect();
    about.dedup();
    about
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_records_of_a_large_cluster_only_those_of_the_namespace_and_of_the_images_are_read()
{
    let server = Arc::new(Server::start(empty).await);
    let (bench, image) = bench_at(&server).await;
    let named = format!(
        "GET {GROUP}/releaserecords?&limit=50&fieldSelector=metadata.name%3Dsha256-{}",
        image.hex()
    );
    let needed = [
        "GET /api/v1/namespaces/kube-system".to_owned(),
        "GET /api/v1/namespaces/shop".to_owned(),
        format!("GET {GROUP}/namespaces/shop/releaserecords?&limit=50"),
        named,
    ];
    let manifest = deployment_in("shop", &[bench.image(&image)]);
    let waited = bench.ends(&[&CLUSTER[..], &["-f", "-"]].concat(), &manifest);
    assert_eq!(waited.code, 0, "{}{}", waited.stdout, waited.stderr);
    let asked = about_records(&server);
    assert_eq!(asked.len(), needed.len(), "{asked:?}");
    for needed in &needed {
        let parts: Vec<_> = needed.split(['?', '&']).collect();
        let is_it = |asked: &&String| parts.iter().all(|part| asked.contains(part));
        assert!(asked.iter().any(|it| is_it(&it)), "{needed}: {asked:?}");
    }
    // `approvals` judges with the same records.
    server.forget();
    let image = bench.image(&image);
    let args = [
        "approvals",
        "--policy",
        "policies",
        "--config",
        "gate.yaml",
        "--namespace",
        "shop",
        &image,
    ];
    let listed = crate::cli::run(bench.folder.path(), &[&args[..], &CLUSTER].concat(), "");
    assert_eq!(listed.code, 0, "{}{}", listed.stdout, listed.stderr);
    assert_eq!(about_records(&server), asked);
}
