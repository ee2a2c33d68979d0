//! The command `approve`: what is shown is what is signed, and what is signed is attached and read back.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use promotion_gate::sandbox::{SandboxIdentity, SandboxSigner, Sigstore};
use promotion_gate_core::gate::Digest;
use rcgen::KeyPair;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::cli::{Ran, deployment, run};
use crate::server::{Reply, Seen, Server};
use crate::store::{MANIFEST, Pushable, Store};

mod rules;
mod terminal;
mod tokens;

const SOURCE: &str = "https://github.com/example/app";
const BUILDER: &str = "https://builder.example/v1";
pub const ISSUER: &str = "https://issuer.example";
const COMMIT: &str = "1111111111111111111111111111111111111111";

/// A folder with policies, people and a key; a registry; and services that sign.
pub struct Bench {
    pub folder: TempDir,
    pub registry: Pushable,
    pub sigstore: std::sync::Arc<Sigstore>,
    _services: Server,
}

pub fn document(kind: &str, name: &str, spec: &Value) -> String {
    json!({"apiVersion": "promotion-gate.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}).to_string()
}

impl Bench {
    pub async fn new(
        before: impl Fn(&Seen, &mut Store) -> Option<Reply> + Send + Sync + 'static,
    ) -> Bench {
        let sigstore = std::sync::Arc::new(Sigstore::create().unwrap());
        let stamping = std::sync::Arc::clone(&sigstore);
        let services = Server::start(move |seen| {
            let stamp = stamping.answer_timestamp_query(&seen.bytes, Timestamp::now());
            Reply::new(200, "application/timestamp-reply", stamp.unwrap())
        })
        .await;
        let bench = Bench {
            folder: TempDir::new().unwrap(),
            registry: Pushable::start(true, false, before).await,
            sigstore,
            _services: services,
        };
        let key = KeyPair::generate().unwrap();
        bench.write("alice.key", &key.serialize_pem());
        bench.write("root.json", &bench.sigstore.trusted_root().to_string());
        bench.write("gate.yaml", &bench.config(json!({})));
        let tsa = format!("{}/timestamp", bench._services.url());
        bench.write("signing.json", &json!({
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "tsaUrls": [{"url": tsa, "majorApiVersion": 1, "validFor": {"start": "2020-01-01T00:00:00Z"}, "operator": "test"}],
            "tsaConfig": {"selector": "ANY"},
        }).to_string());
        std::fs::create_dir(bench.folder.path().join("policies")).unwrap();
        bench.write("policies/people.yaml", &document("PeopleDirectory", "people", &json!({
            "people": [{"name": "alice", "identities": [{"key": {"pem": key.public_key_pem()}}]}],
            "groups": [{"name": "approvers", "members": ["alice"]}],
        })));
        bench.policy(&json!([]), json!({"differentFromAuthor": false}));
        bench
    }

    pub fn config(&self, more: Value) -> String {
        let mut config = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "GateConfiguration",
            "trustRoots": [{"name": "sandbox", "file": "root.json"}],
        });
        config
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        config.to_string()
    }

    /// Asks one approver, and for `requirements` besides.
    pub fn policy(&self, requirements: &Value, more: Value) {
        let mut approvals = json!({"from": [{"group": "approvers"}], "trustRoots": ["sandbox"]});
        approvals
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let mut all = requirements.as_array().unwrap().clone();
        all.extend([json!({"digestPinned": {}}), json!({"approvals": approvals})]);
        self.write(
            "policies/policy.yaml",
            &document(
                "PromotionPolicy",
                "prod",
                &json!({
                    "environment": "production", "uncovered": "Allow", "requirements": all,
                }),
            ),
        );
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// Alice signs with a certificate, and not with the key.
    pub fn certify_alice(&self) {
        let identity = json!({"certificate": {"issuer": ISSUER, "email": "alice@example.com"}});
        let people = json!({
            "people": [{"name": "alice", "identities": [identity]}],
            "groups": [{"name": "approvers", "members": ["alice"]}],
        });
        let people = document("PeopleDirectory", "people", &people);
        self.write("policies/people.yaml", &people);
    }

    /// Certificates and log entries come from this server.
    pub fn sign_with(&self, server: &Server) {
        let service = json!([{"url": server.url(), "majorApiVersion": 1, "validFor": {"start": "2020-01-01T00:00:00Z"}}]);
        let services = json!({
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": service, "rekorTlogUrls": service,
        });
        self.write("signing.json", &services.to_string());
    }

    pub fn run(&self, args: &[&str], input: &str) -> Ran {
        run(self.folder.path(), args, input)
    }

    pub fn approve(&self, more: &[&str]) -> Ran {
        let mut args = vec![
            "approve",
            "--environment",
            "production",
            "--config",
            "gate.yaml",
        ];
        args.extend(["--policy", "policies", "--key", "alice.key"]);
        args.extend(["--signing-config", "signing.json"]);
        args.extend(more);
        self.run(&args, "")
    }

    pub fn check(&self, image: &str) -> Ran {
        let args = [
            "check",
            "--policy",
            "policies",
            "--config",
            "gate.yaml",
            "-",
        ];
        self.run(&args, &deployment("shop", image))
    }

    /// How many things are attached to an image.
    pub fn attached(&self, repository: &str, digest: &Digest) -> Vec<Value> {
        let store = self.registry.store.lock().unwrap();
        store.attached(repository, &digest.to_string())
    }
}

pub fn nothing(_: &Seen, _: &mut Store) -> Option<Reply> {
    None
}

#[track_caller]
pub fn said(ran: &Ran, code: i32, words: &str) {
    let all = format!("{}{}", ran.stdout, ran.stderr);
    assert_eq!(ran.code, code, "{all}");
    assert!(all.contains(words), "expected {words}: {all}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_that_nothing_judged_is_refused_and_anyway_says_so() {
    let bench = Bench::new(nothing).await;
    let digest = bench.registry.push("app", "v1", "image");
    let image = bench.registry.image("app", &digest);
    let approve = |more: &[&str]| {
        let args = ["approve", "--environment", "production", "--yes"];
        let signer = ["--config", "gate.yaml", "--trust-root", "root.json"];
        let key = ["--key", "alice.key", "--signing-config", "signing.json"];
        let all = [&args[..], &signer[..], &key[..], more, &[image.as_str()]].concat();
        bench.run(&all, "")
    };
    said(&approve(&[]), 2, "(policies): not judged");
    assert!(bench.attached("app", &digest).is_empty());
    let anyway = approve(&["--anyway", "--dry-run"]);
    said(&anyway, 0, r#""despite":["(policies): not judged"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_namespace_is_known_the_policies_that_govern_it_are_asked() {
    let bench = Bench::new(nothing).await;
    let digest = bench.registry.push("app", "v1", "image");
    let image = bench.registry.image("app", &digest);
    let refusing = |name: &str, namespace: &str, more: Value| {
        let mut spec = json!({
            "match": {"namespaces": {"names": [namespace]}},
            "requirements": [{"allowedImages": {"patterns": ["elsewhere.example/**"]}}],
        });
        let fields = more.as_object().unwrap().clone();
        spec.as_object_mut().unwrap().extend(fields);
        let policy = document("PromotionPolicy", name, &spec);
        bench.write(&format!("policies/{name}.yaml"), &policy);
    };
    let dry = |namespace: &str| bench.approve(&[&image, "--dry-run", "--namespace", namespace]);
    refusing("orders", "orders", json!({"environment": "production"}));
    said(&dry("shop"), 0, "production");
    said(&dry("orders"), 2, "allowedImages");
    refusing("level", "shop", json!({}));
    said(&dry("shop"), 2, "allowedImages");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_approves_and_the_gate_counts_it() {
    let bench = Bench::new(nothing).await;
    let digest = bench.registry.push("app", "v1", "image");
    let image = bench.registry.image("app", &digest);
    said(&bench.check(&image), 2, "[approvals-missing]");
    let tagged = format!("{}/app:v1", bench.registry.server.host());
    let dry = bench.approve(&[
        &tagged,
        "--dry-run",
        "--scope",
        "namespace=shop",
        "--valid",
        "3d",
    ]);
    said(&dry, 0, "`alice` fills a seat: 1 of group `approvers`");
    said(&dry, 0, r#""scopes":{"namespace":"shop"}"#);
    assert!(bench.attached("app", &digest).is_empty());
    let asked = bench.approve(&[&tagged]);
    said(&asked, 1, "`--yes` signs without asking");
    assert!(bench.attached("app", &digest).is_empty());
    let approved = bench.approve(&[
        &tagged,
        "--yes",
        "--scope",
        "namespace=shop",
        "--valid",
        "3d",
    ]);
    said(&approved, 0, "and read back");
    assert_eq!(bench.attached("app", &digest).len(), 1);
    said(&bench.check(&image), 0, "1 allowed");
    let again = bench.approve(&[&tagged, "--dry-run", "--scope", "namespace=shop"]);
    said(&again, 0, "`alice` has approved it already");
    let elsewhere = bench.approve(&[
        &tagged,
        "--dry-run",
        "--scope",
        "namespace=x",
        "--namespace",
        "shop",
    ]);
    said(&elsewhere, 0, "the approval is for the namespace `x` alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_image_of_rendered_manifests_is_approved() {
    let bench = Bench::new(nothing).await;
    let [one, two] = ["one", "two"].map(|name| bench.registry.push("app", name, name));
    let images = [&one, &two].map(|digest| bench.registry.image("app", digest));
    let rendered = deployment("shop", &images[0]) + &deployment("shop", &images[1]);
    bench.write("rendered.yaml", &rendered);
    let approved = bench.approve(&["-f", "rendered.yaml", "--yes"]);
    said(&approved, 0, "read back");
    for (digest, image) in [&one, &two].into_iter().zip(&images) {
        assert_eq!(bench.attached("app", digest).len(), 1);
        said(&bench.check(image), 0, "1 allowed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_that_moves_between_showing_and_signing_changes_nothing() {
    let moved = std::sync::Arc::new(AtomicBool::new(false));
    let flag = std::sync::Arc::clone(&moved);
    let bench = Bench::new(move |seen: &Seen, store: &mut Store| {
        // The tag is read once; every later reader gets the other image.
        if seen.path == "/v2/app/manifests/v1" && flag.swap(true, Ordering::SeqCst) {
            let evil = json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": [], "config": {}, "annotations": {"content": "evil"}});
            store.put("app", "v1", MANIFEST, evil.to_string().as_bytes());
        }
        None
    })
    .await;
    let shown = bench.registry.push("app", "v1", "image");
    let tagged = format!("{}/app:v1", bench.registry.server.host());
    let approved = bench.approve(&[&tagged, "--yes"]);
    said(
        &approved,
        0,
        &format!("approved {}/app@{shown}", bench.registry.server.host()),
    );
    assert!(moved.load(Ordering::SeqCst));
    assert_eq!(bench.attached("app", &shown).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_push_images_approves_in_the_evidence_repository() {
    let bench = Bench::new(|seen: &Seen, _: &mut Store| {
        let writes = matches!(seen.method.as_str(), "POST" | "PUT");
        (writes && seen.path.starts_with("/v2/app/")).then(|| Reply::status(403))
    })
    .await;
    let digest = bench.registry.push("app", "v1", "image");
    let image = bench.registry.image("app", &digest);
    let refused = bench.approve(&[&image, "--yes"]);
    said(&refused, 1, "was not attached");
    said(&refused, 1, "`--repository HOST/PATH`");
    let host = bench.registry.server.host();
    let evidence = format!("{host}/approvals/app");
    said(
        &bench.approve(&[&image, "--yes", "--repository", &evidence]),
        0,
        "read back",
    );
    said(&bench.check(&image), 2, "approvals-missing");
    let registries = json!([{"host": host, "plainHttp": true, "evidenceRepository": format!("{host}/approvals/{{repository}}")}]);
    bench.write(
        "gate.yaml",
        &bench.config(json!({"registries": registries})),
    );
    said(&bench.check(&image), 0, "1 allowed");
    // With that configuration it is where approvals go.
    said(
        &bench.approve(&[&image, "--yes", "--reason", "again"]),
        0,
        &format!("in {evidence}"),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_answers_otherwise_on_read_back_is_not_relied_on() {
    let bench = Bench::new(|seen: &Seen, store: &mut Store| {
        let pushed = seen.method == "GET" && seen.path.contains("/blobs/sha256:");
        let _ = store;
        pushed.then(|| Reply::new(200, "application/octet-stream", "x".repeat(4)))
    })
    .await;
    let digest = bench.registry.push("app", "v1", "image");
    let image = bench.registry.image("app", &digest);
    said(&bench.approve(&[&image, "--yes"]), 1, "do not rely on it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_that_deny_refuse_the_approval_and_anyway_is_recorded() {
    let bench = Bench::new(nothing).await;
    let digest = bench.registry.push("app", "v1", "image");
    let image = bench.registry.image("app", &digest);
    let only = json!([{"allowedImages": {"patterns": ["good.example/**"]}}]);
    bench.policy(&only, json!({"differentFromAuthor": false}));
    let refused = bench.approve(&[&image, "--yes"]);
    said(
        &refused,
        2,
        "nothing was signed: rules deny that no approval changes (allowedImages: ",
    );
    assert!(bench.attached("app", &digest).is_empty());
    let anyway = bench.approve(&[&image, "--anyway", "--dry-run"]);
    said(&anyway, 0, r#""despite":["allowedImages: "#);
    said(
        &bench.approve(&[&image, "--anyway", "--yes"]),
        0,
        "read back",
    );
    // A rejection needs no agreement of the rules.
    said(
        &bench.approve(&[&image, "--decision", "rejected", "--yes"]),
        0,
        "rejected",
    );
    said(
        &bench.approve(&[&image, "--decision", "rejected", "--valid", "3d"]),
        1,
        "belongs to an approval",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_could_use_is_refused_before_anything_is_signed() {
    let bench = Bench::new(nothing).await;
    let digest = bench.registry.push("app", "v1", "image");
    let image = bench.registry.image("app", &digest);
    for (args, words) in [
        (
            vec!["--repository", "example.com/a:tag"],
            "neither a tag nor a digest",
        ),
        (vec!["--change", "CHG1\n"], "the approval cannot be written"),
        (
            vec!["--scope", "a=b", "--scope", "a=c"],
            "names a scope twice",
        ),
        (vec!["--identity-token", "x.y.z"], "cannot be used with"),
    ] {
        let ran = bench.approve(&[&[image.as_str(), "--yes"][..], &args].concat());
        said(&ran, 1, words);
    }
    let other = [
        "approve",
        &image,
        "--environment",
        "staging",
        "--policy",
        "policies",
        "--config",
        "gate.yaml",
    ];
    said(
        &bench.run(&other, ""),
        1,
        "no policy is of the environment `staging`; the policies name `production`",
    );
    assert!(bench.attached("app", &digest).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timestamp_of_another_signature_is_not_attached() {
    let bench = Bench::new(nothing).await;
    let digest = bench.registry.push("app", "v1", "image");
    let image = bench.registry.image("app", &digest);
    let old = bench.sigstore.stamp(b"another", Timestamp::now()).unwrap();
    let hour = SignedDuration::from_hours(1);
    let last = std::sync::Arc::new(Mutex::new(Vec::new()));
    for (stamp, words) in [
        (Some(old), "--trust-root"),
        (None, "set the machine's clock"),
    ] {
        let sigstore = std::sync::Arc::clone(&bench.sigstore);
        let last = std::sync::Arc::clone(&last);
        let services = Server::start(move |seen| {
            last.lock().unwrap().push(seen.path.clone());
            let stamp = stamp.clone().unwrap_or_else(|| {
                let late = Timestamp::now().checked_sub(hour).unwrap();
                sigstore.answer_timestamp_query(&seen.bytes, late).unwrap()
            });
            Reply::new(200, "application/timestamp-reply", stamp)
        })
        .await;
        bench.write("signing.json", &json!({
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "tsaUrls": [{"url": services.url(), "majorApiVersion": 1, "validFor": {"start": "2020-01-01T00:00:00Z"}}],
        }).to_string());
        said(&bench.approve(&[&image, "--yes"]), 1, words);
    }
    assert!(bench.attached("app", &digest).is_empty());
}

/// Provenance and a change record of an image, signed by `by`.
fn described(bench: &Bench, digest: &Digest, by: &str, reason: &str) {
    let identity = SandboxIdentity::new(by, ISSUER);
    let provenance = json!({
        "buildDefinition": {
            "buildType": "https://actions.github.io/buildtypes/workflow/v1",
            "externalParameters": {"workflow": {"ref": "refs/heads/main", "repository": SOURCE, "path": ".github/workflows/release.yml"}},
            "resolvedDependencies": [{"uri": format!("git+{SOURCE}@refs/heads/main"), "digest": {"gitCommit": COMMIT}}],
        },
        "runDetails": {"builder": {"id": BUILDER}},
    });
    let record = json!({
        "repository": {"uri": SOURCE}, "to": COMMIT, "complete": true,
        "commits": [{"sha": COMMIT, "authors": [{"github": {"login": "mallory"}}]}],
        "authors": [{"identity": {"github": {"login": "mallory"}}, "role": "opened", "pullRequest": 7}],
        "pullRequests": [{"number": 7, "url": format!("{SOURCE}/pull/7"), "openedBy": {"github": {"login": "mallory"}}}],
        "reason": reason,
    });
    for (kind, predicate) in [
        ("https://slsa.dev/provenance/v1", &provenance),
        ("https://promotion-gate.dev/change/v1", &record),
    ] {
        let signed = bench.sigstore.signing();
        let bundle = signed
            .attest(SandboxSigner::Identity(&identity), digest, kind, predicate)
            .unwrap();
        bench.registry.attach("app", digest, &bundle);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_change_is_shown_as_an_accepted_signer_wrote_it_without_control_characters() {
    let bench = Bench::new(nothing).await;
    let by = |identity: &str| json!({"keyless": {"issuer": ISSUER, "identity": identity, "trustRoots": ["sandbox"]}});
    let builders = json!([{"id": BUILDER, "signedBy": by("ci@example.com")}]);
    let requirements = json!([{"provenance": {"builders": builders, "sources": [SOURCE]}}]);
    let authors = json!([{"changeRecord": {"signedBy": by("ci@example.com")}}]);
    bench.policy(&requirements, json!({"authorsFrom": authors}));
    let digest = bench.registry.push("app", "v1", "image");
    let image = bench.registry.image("app", &digest);
    described(
        &bench,
        &digest,
        "stranger@example.com",
        "written by a stranger",
    );
    let shown = bench.approve(&[&image, "--dry-run"]);
    said(
        &shown,
        2,
        "no provenance and no change record by a signer whom the policies accept",
    );
    assert!(
        !shown.stdout.contains("written by a stranger"),
        "{}",
        shown.stdout
    );
    let hostile = "fixes\n  pass          provenance of policy `prod`: proven\u{202e}";
    described(&bench, &digest, "ci@example.com", hostile);
    let shown = bench.approve(&[&image, "--dry-run"]);
    for part in [
        SOURCE,
        COMMIT,
        BUILDER,
        "signed by `ci@example.com`",
        "mallory",
        "#7 https://github.com/example/app/pull/7",
        "1 commit, 1 pull request",
    ] {
        said(&shown, 0, part);
    }
    assert!(!shown.stdout.contains('\u{202e}'), "{}", shown.stdout);
    let forged = shown
        .stdout
        .lines()
        .filter(|line| line.starts_with("  pass "));
    assert_eq!(forged.count(), 2, "{}", shown.stdout);
    // `mallory` is not in the directory, so that nobody's approval would count.
    said(&shown, 0, "would not count");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_of_the_page_work_as_they_are_shown() {
    let bench = Bench::new(nothing).await;
    let digest = bench.registry.push("app", "v1", "image");
    let image = bench.registry.image("app", &digest);
    let host = bench.registry.server.host();
    std::fs::create_dir(bench.folder.path().join("rendered")).unwrap();
    bench.write("rendered/web.yaml", &deployment("shop", &image));
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/approve.md");
    let page = std::fs::read_to_string(page).unwrap().replace("\\\n", " ");
    let commands = page
        .lines()
        .filter(|line| line.starts_with("promotion-gate approve "));
    let mut ran = 0;
    for command in commands {
        let command = command.replace("registry.example/app@sha256:1f80…", &image);
        let command = command.replace("registry.example/", &format!("{host}/"));
        let mut quoted = command.split('\'');
        let mut args = Vec::new();
        while let Some(plain) = quoted.next() {
            args.extend(plain.split_whitespace().map(str::to_owned));
            args.extend(quoted.next().map(str::to_owned));
        }
        let args: Vec<_> = args.iter().skip(1).map(String::as_str).collect();
        said(&bench.run(&args, ""), 0, "");
        ran += 1;
    }
    assert_eq!(ran, 5);
}

/// Services of a whole Sigstore: every signer is `alice@example.com`.
pub async fn services(sigstore: &std::sync::Arc<Sigstore>, name: &'static str) -> Server {
    let sigstore = std::sync::Arc::clone(sigstore);
    Server::start(move |seen| {
        let now = Timestamp::now();
        let json = || serde_json::from_slice::<Value>(&seen.bytes).unwrap();
        let answer = match seen.path.as_str() {
            "/api/v2/signingCert" => {
                let alice = SandboxIdentity::new(name, ISSUER);
                sigstore.certify(&json(), &alice, now).unwrap()
            }
            "/api/v1/log/entries" => sigstore.record(&json(), now).unwrap(),
            other => panic!("{other}"),
        };
        Reply::new(201, "application/json", answer.to_string())
    })
    .await
}

pub fn token(expires: Timestamp) -> String {
    token_of(
        &json!({"iss": ISSUER, "aud": "sigstore", "sub": "1", "email": "alice@example.com",
        "email_verified": true, "exp": expires.as_second()}),
    )
}

pub fn token_of(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2ln", part(&json!({"alg": "RS256"})), part(claims))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_approves_with_a_certificate_and_an_entry_of_rekor_v1() {
    let bench = Bench::new(nothing).await;
    bench.certify_alice();
    let digest = bench.registry.push("app", "v1", "image");
    let image = bench.registry.image("app", &digest);
    let approve = |token: &str| {
        let mut args = vec![
            "approve",
            &image,
            "--environment",
            "production",
            "--config",
            "gate.yaml",
            "--yes",
        ];
        args.extend([
            "--policy",
            "policies",
            "--signing-config",
            "signing.json",
            "--identity-token",
            token,
        ]);
        bench.run(&args, "")
    };
    let now = Timestamp::now();
    let good = token(now + SignedDuration::from_mins(10));
    let other = services(&bench.sigstore, "mallory@example.com").await;
    bench.sign_with(&other);
    said(&approve(&good), 1, "it was issued to `mallory@example.com`");
    let own = services(&bench.sigstore, "alice@example.com").await;
    bench.sign_with(&own);
    said(&approve(&token(now)), 1, "expired");
    assert!(bench.attached("app", &digest).is_empty());
    // A token can be in a file.
    bench.write("token", &good);
    let approved = approve("token");
    said(&approved, 0, "`alice` fills a seat");
    assert!(!approved.stdout.contains(&good) && !approved.stderr.contains(&good));
    said(&bench.check(&image), 0, "1 allowed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_signs_in_with_a_browser_and_sees_what_the_approval_would_do() {
    let bench = Bench::new(nothing).await;
    let digest = bench.registry.push("app", "v1", "image");
    let image = bench.registry.image("app", &digest);
    let nonce = std::sync::Arc::new(Mutex::new(String::new()));
    let given = std::sync::Arc::clone(&nonce);
    let provider = Server::start(move |seen| {
        let issuer = format!("http://{}", seen.headers["host"]);
        let answer = match seen.path.as_str() {
            "/.well-known/openid-configuration" => json!({
                "issuer": issuer,
                "authorization_endpoint": format!("{issuer}/authorize"),
                "token_endpoint": format!("{issuer}/token"),
            }),
            _ => {
                assert!(seen.body.contains("code=good") && seen.body.contains("code_verifier="));
                let expires = Timestamp::now() + SignedDuration::from_mins(1);
                let claims = json!({"iss": issuer, "aud": "sigstore", "sub": "1", "email": "alice@example.com",
                    "exp": expires.as_second(), "nonce": *given.lock().unwrap()});
                json!({"id_token": token_of(&claims)})
            }
        };
        Reply::new(200, "application/json", answer.to_string())
    })
    .await;
    let service = json!([{"url": provider.url(), "majorApiVersion": 1, "validFor": {"start": "2020-01-01T00:00:00Z"}}]);
    bench.write(
        "signing.json",
        &json!({
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": service, "oidcUrls": service, "tsaUrls": service,
        })
        .to_string(),
    );
    let mut approve = tokio::process::Command::new(env!("CARGO_BIN_EXE_promotion-gate"))
        .args([
            "approve",
            &image,
            "--environment",
            "production",
            "--config",
            "gate.yaml",
        ])
        .args([
            "--policy",
            "policies",
            "--signing-config",
            "signing.json",
            "--dry-run",
        ])
        .current_dir(bench.folder.path())
        .env_remove("SIGSTORE_ID_TOKEN")
        .env_remove("ACTIONS_ID_TOKEN_REQUEST_URL")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(approve.stderr.take().unwrap()).lines();
    let page = loop {
        let line = lines.next_line().await.unwrap().unwrap();
        if let Ok(page) = url::Url::parse(line.trim())
            && page.path() == "/authorize"
        {
            break page;
        }
    };
    let asked = |name: &str| {
        let mut pairs = page.query_pairs();
        pairs.find(|(key, _)| key == name).unwrap().1.into_owned()
    };
    *nonce.lock().unwrap() = asked("nonce");
    let redirect = url::Url::parse(&asked("redirect_uri")).unwrap();
    let mut browser = TcpStream::connect(("127.0.0.1", redirect.port().unwrap()))
        .await
        .unwrap();
    let back = format!(
        "GET {}?code=good&state={} HTTP/1.1\r\n\r\n",
        redirect.path(),
        asked("state")
    );
    browser.write_all(back.as_bytes()).await.unwrap();
    let ended = approve.wait_with_output().await.unwrap();
    let shown = String::from_utf8(ended.stdout).unwrap();
    assert!(
        shown.contains("Signed by `alice@example.com` (issuer `http://127.0.0.1:"),
        "{shown}"
    );
    assert!(
        shown.contains("would not count") && shown.contains("the policy asks for a log entry"),
        "{shown}"
    );
    assert_eq!(ended.status.code(), Some(0));
}
