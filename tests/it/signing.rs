//! What the services of a Sigstore return is verified before it is used: a certificate before a log is asked, and an entry that the log
//! had before.

use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use promotion_gate::sandbox::{SandboxIdentity, Sigstore};
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use serde_json::{Value, json};

use crate::approve::{Bench, ISSUER, document, nothing, said, token};
use crate::server::{Reply, Server};

const ENTRIES: &str = "/api/v1/log/entries";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_certificate_of_somebody_else_never_reaches_the_log() {
    let bench = Bench::new(nothing).await;
    bench.certify_alice();
    let digest = bench.registry.push("app", "v1", "image");
    let image = bench.registry.image("app", &digest);
    let other = Arc::new(Sigstore::create().unwrap());
    type Certify = Box<dyn Fn(&Value) -> Value + Send + Sync>;
    let by = |sigstore: &Arc<Sigstore>, name: &'static str, issuer: &'static str, minutes: i64| {
        let sigstore = Arc::clone(sigstore);
        let certify = move |request: &Value| {
            let identity = SandboxIdentity::new(name, issuer);
            let at = Timestamp::now() + SignedDuration::from_mins(minutes);
            sigstore.certify(request, &identity, at).unwrap()
        };
        Box::new(certify) as Certify
    };
    let alice = "alice@example.com";
    let own = Arc::clone(&bench.sigstore);
    let for_another_key = move |request: &Value| {
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default()
            .serialize_request(&key)
            .unwrap();
        let mut request = request.clone();
        use base64::Engine as _;
        let csr = base64::engine::general_purpose::STANDARD.encode(csr.pem().unwrap());
        request["certificateSigningRequest"] = json!(csr);
        let identity = SandboxIdentity::new(alice, ISSUER);
        own.certify(&request, &identity, Timestamp::now()).unwrap()
    };
    let cases: Vec<(Certify, &str)> = vec![
        (
            by(&bench.sigstore, "mallory@example.com", ISSUER, 0),
            "it was issued to `mallory@example.com`",
        ),
        (
            by(&bench.sigstore, alice, "https://evil.example", 0),
            "(issuer `https://evil.example`), and the token is of",
        ),
        (by(&other, alice, ISSUER, 0), "--trust-root"),
        (
            by(&bench.sigstore, alice, ISSUER, -60),
            "set the machine's clock",
        ),
        (
            by(&bench.sigstore, alice, ISSUER, 60),
            "set the machine's clock",
        ),
        (Box::new(for_another_key), "it is for another key"),
        (
            Box::new(|_| json!({"signedCertificateEmbeddedSct": {"chain": {"certificates": []}}})),
            "without a certificate",
        ),
    ];
    let token = token(Timestamp::now() + SignedDuration::from_mins(10));
    for (certify, words) in cases {
        let server = Server::start(move |seen| {
            let request = serde_json::from_slice(&seen.bytes).unwrap_or_default();
            Reply::new(201, "application/json", certify(&request).to_string())
        })
        .await;
        bench.sign_with(&server);
        let args = [
            "approve",
            &image,
            "--environment",
            "production",
            "--config",
            "gate.yaml",
        ];
        let signer = [
            "--signing-config",
            "signing.json",
            "--identity-token",
            &token,
        ];
        let args = [&args[..], &signer, &["--policy", "policies", "--yes"]].concat();
        said(&bench.run(&args, ""), 1, words);
        assert_eq!(server.asked(), ["POST /api/v2/signingCert"], "{words}");
    }
    assert!(bench.attached("app", &digest).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_signature_by_ed25519_keeps_the_entry_and_the_time_that_the_log_has() {
    let bench = Bench::new(nothing).await;
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    bench.write("alice.key", &key.serialize_pem());
    let people = json!({
        "people": [{"name": "alice", "identities": [{"key": {"pem": key.public_key_pem()}}]}],
        "groups": [{"name": "approvers", "members": ["alice"]}],
    });
    let people = document("PeopleDirectory", "people", &people);
    bench.write("policies/people.yaml", &people);
    let digest = bench.registry.push("app", "v1", "image");
    let image = bench.registry.image("app", &digest);
    let id = "24296fb24b8ad77a".repeat(5);
    let earlier = Timestamp::now() - SignedDuration::from_hours(1);
    // The log recorded the signature an hour ago, and says so behind a proxy that it does not know of.
    let (sigstore, recorded) = (Arc::clone(&bench.sigstore), Mutex::new(None));
    let named = id.clone();
    let log = Server::start(move |seen| {
        if seen.method == "GET" {
            let entry: &Option<Value> = &recorded.lock().unwrap();
            return match (seen.path == format!("{ENTRIES}/{named}"), entry) {
                (true, Some(entry)) => Reply::new(200, "application/json", entry.to_string()),
                _ => Reply::status(404),
            };
        }
        let request = serde_json::from_slice(&seen.bytes).unwrap();
        *recorded.lock().unwrap() = Some(sigstore.record(&request, earlier).unwrap());
        Reply::status(409).with(
            "location",
            format!("https://inside.example{ENTRIES}/{named}"),
        )
    })
    .await;
    bench.sign_with(&log);
    let approved = bench.approve(&[&image, "--yes"]);
    said(
        &approved,
        0,
        &format!("since {earlier:.0}, which is its time"),
    );
    said(&approved, 0, "and read back");
    assert_eq!(
        log.asked(),
        [format!("GET {ENTRIES}/{id}"), format!("POST {ENTRIES}")]
    );
    said(&bench.check(&image), 0, "1 allowed");
    // An entry that the log says is new has the time of now.
    let sigstore = Arc::clone(&bench.sigstore);
    let late = Server::start(move |seen| {
        let request = serde_json::from_slice(&seen.bytes).unwrap();
        let entry = sigstore.record(&request, earlier).unwrap();
        Reply::new(201, "application/json", entry.to_string())
    })
    .await;
    bench.sign_with(&late);
    let refused = bench.approve(&[&image, "--yes", "--reason", "again"]);
    said(&refused, 1, "set the machine's clock");
    // A conflict without the entry is an error that names the log.
    let refusing = Server::start(|_| Reply::status(409)).await;
    bench.sign_with(&refusing);
    let refused = bench.approve(&[&image, "--yes", "--reason", "again"]);
    said(&refused, 1, "the transparency log");
    said(&refused, 1, "409");
    assert_eq!(bench.attached("app", &digest).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_timestamp_that_does_not_verify_keeps_the_signature_out_of_the_log() {
    let bench = Bench::new(nothing).await;
    let digest = bench.registry.push("app", "v1", "image");
    let image = bench.registry.image("app", &digest);
    let old = bench.sigstore.stamp(b"another", Timestamp::now()).unwrap();
    let sigstore = Arc::clone(&bench.sigstore);
    let late = move |query: &[u8]| {
        let hour = SignedDuration::from_hours(1);
        let at = Timestamp::now() - hour;
        sigstore.answer_timestamp_query(query, at).unwrap()
    };
    type Stamp = Box<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;
    let cases: [(Stamp, &str); 2] = [
        (Box::new(move |_| old.clone()), "--trust-root"),
        (Box::new(late), "set the machine's clock"),
    ];
    for (stamp, words) in cases {
        let server = Server::start(move |seen| {
            let stamp = stamp(&seen.bytes);
            Reply::new(200, "application/timestamp-reply", stamp)
        })
        .await;
        let service = |path: &str| json!([{"url": format!("{}{path}", server.url()), "majorApiVersion": 1, "validFor": {"start": "2020-01-01T00:00:00Z"}}]);
        let config = json!({
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "tsaUrls": service("/stamp"),
            "rekorTlogUrls": service(""),
        });
        bench.write("signing.json", &config.to_string());
        said(&bench.approve(&[&image, "--yes"]), 1, words);
        assert_eq!(server.asked(), ["POST /stamp"]);
    }
    assert!(bench.attached("app", &digest).is_empty());
}

/// The words of a command as a POSIX shell reads them.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut is_word, mut is_quoted) =
        (Vec::new(), String::new(), false, false);
    let mut rest = command.chars();
    while let Some(c) = rest.next() {
        match c {
            '\'' => (is_quoted, is_word) = (!is_quoted, true),
            '\\' if !is_quoted => word.extend(rest.next()),
            ' ' if !is_quoted => {
                if is_word {
                    words.push(std::mem::take(&mut word));
                }
                is_word = false;
            }
            c => {
                is_word = true;
                word.push(c);
            }
        }
    }
    if is_word {
        words.push(word);
    }
    words
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_that_a_denial_prints_runs_as_it_is() {
    let bench = Bench::new(nothing).await;
    let digest = bench.registry.push("app", "v1", "image");
    let image = bench.registry.image("app", &digest);
    let host = bench.registry.server.host();
    // Policies in a folder whose name a shell would split, people apart, evidence elsewhere, and an approval for one place alone.
    let folder = "the team's policies";
    let policies = bench.folder.path().join("policies");
    let apart = bench.folder.path().join("people.yaml");
    std::fs::rename(policies.join("people.yaml"), apart).unwrap();
    let scopes = json!(["namespace", "cluster"]);
    let strict = json!({"differentFromAuthor": false, "requireScopes": scopes});
    bench.policy(&json!([]), strict);
    std::fs::rename(policies, bench.folder.path().join(folder)).unwrap();
    let evidence = format!("{host}/approvals/{{repository}}");
    let registries = json!([{"host": host, "plainHttp": true, "evidenceRepository": evidence}]);
    let config = bench.config(json!({"registries": registries}));
    bench.write("gate.yaml", &config);
    let check = || {
        let args = ["check", "--policy", folder, "--people", "people.yaml"];
        let place = ["--config", "gate.yaml", "--cluster", "prod-eu1", "-"];
        let manifest = crate::cli::deployment("shop", &image);
        bench.run(&[&args[..], &place].concat(), &manifest)
    };
    let denied = check();
    said(&denied, 2, "[approvals-missing]");
    let hint = denied
        .stdout
        .lines()
        .find(|line| line.contains("ask them to review"));
    let command = hint.unwrap().split('`').nth(1).unwrap();
    let mut command = words(command);
    assert_eq!(command.remove(0), "promotion-gate");
    // Only who signs is not part of it.
    let signer = [
        "--key",
        "alice.key",
        "--signing-config",
        "signing.json",
        "--yes",
    ];
    let args = command.iter().map(String::as_str).chain(signer);
    let approved = bench.run(&args.collect::<Vec<_>>(), "");
    said(&approved, 0, &format!("in {host}/approvals/app"));
    said(&check(), 0, "1 allowed");
}
