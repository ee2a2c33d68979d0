//! `wait`: when it ends and with which status, what it prints and when, and how often it asks.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::{SignedDuration, Timestamp};
use promotion_gate::sandbox::{SandboxRegistry, attach_bundle, push_image};
use promotion_gate_core::gate::Digest;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::{Ran, run};
use crate::facts::{Attached, FACTS, Form, ISSUER};
use crate::images::{by_digest, registry, signed};
use crate::running::Running;
use crate::server::{Manner, Reply, Seen};
use crate::store::Store;

const GATE: &str = "apiVersion: promotion-gate.dev/v1alpha1\nkind: GateConfiguration\ntrustRoots: [{name: sandbox, file: root.json}]\n";

/// A registry, and a policy that asks one of each of two groups to approve what `release` signed.
pub struct Bench {
    pub folder: TempDir,
    pub registry: SandboxRegistry,
}

impl Bench {
    pub async fn new() -> Bench {
        let bench = Bench {
            folder: TempDir::new().unwrap(),
            registry: registry().await,
        };
        bench.write("root.json", &FACTS.trusted_root());
        bench.write("gate.yaml", GATE);
        bench.write("policies/people.yaml", &people().to_string());
        bench.require(&[]);
        bench
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Writes the policy, with further requirements.
    fn require(&self, more: &[Value]) {
        self.write_policy("shop", more);
    }

    /// Writes the policy for a namespace.
    pub fn govern(&self, namespace: &str) {
        self.write_policy(namespace, &[]);
    }

    fn write_policy(&self, namespace: &str, more: &[Value]) {
        let signer = json!([{"keyless": {"issuer": ISSUER, "identity": "release@example.com", "trustRoots": ["sandbox"]}}]);
        let approvals = json!({
            "from": [{"group": "security-team"}, {"group": "platform-leads"}],
            "differentFromAuthor": false,
            "trustRoots": ["sandbox"],
        });
        let mut requirements = vec![
            json!({"digestPinned": {}}),
            json!({"signature": {"anyOf": signer}}),
            json!({"approvals": approvals}),
        ];
        requirements.extend_from_slice(more);
        let policy = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1",
            "kind": "PromotionPolicy",
            "metadata": {"name": "production"},
            "spec": {
                "environment": "production",
                "match": {"namespaces": {"names": [namespace]}},
                "requirements": requirements,
            },
        });
        self.write("policies/production.yaml", &policy.to_string());
    }

    pub fn image(&self, digest: &Digest) -> String {
        by_digest(&self.registry, digest)
    }

    pub fn says(&self, image: &Digest, person: &str, predicate: &Value) {
        self.says_in("app", image, person, predicate);
    }

    pub fn says_in(&self, repository: &str, image: &Digest, person: &str, predicate: &Value) {
        let attached = Attached {
            form: Form::Attestation,
            statement: Some(("approval".to_owned(), predicate.clone())),
            ..Attached::by(&format!("{person}@example.com"))
        };
        let bundle = FACTS.attached(image, &attached);
        attach_bundle(&self.registry, repository, image, &bundle).unwrap();
    }

    pub fn approves(&self, image: &Digest, person: &str) {
        self.says(image, person, &word("approved"));
    }

    fn args<'a>(&self, more: &[&'a str]) -> Vec<&'a str> {
        let args = [
            "wait",
            "--policy",
            "policies",
            "--config",
            "gate.yaml",
            "--environment",
            "production",
            "--namespace",
            "shop",
            "--interval",
            "1",
        ];
        [&args, more].concat()
    }

    /// Runs `wait` to its end.
    pub fn ends(&self, more: &[&str], input: &str) -> Ran {
        run(self.folder.path(), &self.args(more), input)
    }

    /// Starts `wait` with JSON lines.
    pub fn starts(&self, more: &[&str], input: &str) -> Waiting {
        let args = self.args(&[&["--output", "json"], more].concat());
        let mut command = Command::new(env!("CARGO_BIN_EXE_promotion-gate"));
        command.args(args).current_dir(self.folder.path());
        Waiting(Running::start(&mut command, input))
    }
}

pub struct Waiting(Running);

impl Waiting {
    /// The next line: its state, and the reason and detail of each requirement that is missing.
    pub fn says(&self) -> (String, Vec<(String, String)>) {
        let line = self.0.line();
        assert_eq!(line["version"], "promotion-gate.dev/wait/v1alpha1");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let missing = line["missing"].as_array().unwrap().iter();
        let missing = missing.map(|it| (text(&it["reason"]), text(&it["detail"])));
        (text(&line["state"]), missing.collect())
    }

    /// The exit code, after which there is no further line.
    pub fn code(self) -> Option<i32> {
        self.0.code()
    }
}

pub fn word(decision: &str) -> Value {
    json!({"environment": "production", "decision": decision})
}

fn people() -> Value {
    let person = |name: &str| {
        let certificate = json!({"issuer": ISSUER, "email": format!("{name}@example.com")});
        json!({"name": name, "identities": [{"certificate": certificate}]})
    };
    let people: Vec<_> = ["ada", "ben", "cleo"]
        .iter()
        .map(|name| person(name))
        .collect();
    json!({
        "apiVersion": "promotion-gate.dev/v1alpha1",
        "kind": "PeopleDirectory",
        "metadata": {"name": "example"},
        "spec": {
            "people": people,
            "groups": [
                {"name": "security-team", "members": ["ada", "cleo"]},
                {"name": "platform-leads", "members": ["ben"]},
            ],
        },
    })
}

fn deployment(images: &[String]) -> String {
    deployment_in("shop", images)
}

pub fn deployment_in(namespace: &str, images: &[String]) -> String {
    let containers = images.iter().enumerate();
    let containers: Vec<_> = containers
        .map(|(at, image)| json!({"name": format!("c{at}"), "image": image}))
        .collect();
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"template": {"spec": {"containers": containers}}},
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_allowed_already_ends_at_once() {
    let bench = Bench::new().await;
    let image = signed(&bench.registry, "v1", "release");
    bench.approves(&image, "ada");
    bench.approves(&image, "ben");
    let ran = bench.ends(&["-f", "-"], &deployment(&[bench.image(&image)]));
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(
        ran.stdout
            .starts_with("allowed: the deployment to `production`, after "),
        "{}",
        ran.stdout
    );
    let waiting = bench.starts(&[&bench.image(&image)], "");
    assert_eq!(waiting.says(), ("allowed".to_owned(), Vec::new()));
    assert_eq!(waiting.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_approval_that_arrives_is_one_line_and_the_last_one_ends_it() {
    let bench = Bench::new().await;
    let image = signed(&bench.registry, "v1", "release");
    let waiting = bench.starts(&["-f", "-"], &deployment(&[bench.image(&image)]));
    let missing = |detail: &str| {
        let missing = vec![("approvals-missing".to_owned(), detail.to_owned())];
        ("waiting".to_owned(), missing)
    };
    assert_eq!(
        waiting.says(),
        missing("missing: 1 of group `security-team`, 1 of group `platform-leads`")
    );
    bench.approves(&image, "ada");
    assert_eq!(
        waiting.says(),
        missing("missing: 1 of group `platform-leads`; approved by `ada` (security-team)")
    );
    bench.approves(&image, "ben");
    assert_eq!(waiting.says(), ("allowed".to_owned(), Vec::new()));
    assert_eq!(waiting.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signature_that_arrives_ends_it_too() {
    let bench = Bench::new().await;
    let image = push_image(&bench.registry, "app", "v1", "v1").unwrap();
    bench.approves(&image, "ada");
    bench.approves(&image, "ben");
    let waiting = bench.starts(&[&bench.image(&image)], "");
    let (state, missing) = waiting.says();
    assert_eq!(
        (state.as_str(), missing[0].0.as_str()),
        ("waiting", "not-a-signature")
    );
    attach_bundle(
        &bench.registry,
        "app",
        &image,
        &FACTS.bundle(&image, "release"),
    )
    .unwrap();
    assert_eq!(waiting.says().0, "allowed");
    assert_eq!(waiting.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejection_ends_it_with_2() {
    let bench = Bench::new().await;
    let image = signed(&bench.registry, "v1", "release");
    let waiting = bench.starts(&[&bench.image(&image)], "");
    assert_eq!(waiting.says().0, "waiting");
    let mut no = word("rejected");
    no["reason"] = json!("the migration is not reversible");
    bench.says(&image, "cleo", &no);
    let (state, missing) = waiting.says();
    assert_eq!(
        (state.as_str(), missing[0].0.as_str()),
        ("rejected", "rejected")
    );
    assert!(
        missing[0].1.contains("the migration is not reversible"),
        "{missing:?}"
    );
    assert_eq!(waiting.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waiting_cannot_change_ends_it_at_once_with_2() {
    let bench = Bench::new().await;
    let image = signed(&bench.registry, "v1", "release");
    let by_tag = format!("{}/app:v1", bench.registry.host());
    let ran = bench.ends(&[&by_tag], "");
    assert_eq!(ran.code, 2, "{}{}", ran.stdout, ran.stderr);
    assert!(
        ran.stdout
            .contains("cannot be allowed: the deployment to `production`"),
        "{}",
        ran.stdout
    );
    bench.require(&[json!({"allowedImages": {"patterns": ["ghcr.io/example/**"]}})]);
    let waiting = bench.starts(&[&bench.image(&image)], "");
    let (state, missing) = waiting.says();
    assert_eq!(state, "impossible");
    assert!(
        missing
            .iter()
            .any(|(reason, _)| reason == "image-not-allowed"),
        "{missing:?}"
    );
    assert_eq!(waiting.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_no_requirement_can_cover_is_not_waited_for() {
    let bench = Bench::new().await;
    let signer = json!([{"keyless": {"issuer": ISSUER, "identity": "release@example.com", "trustRoots": ["sandbox"]}}]);
    let policy = |images: &str| {
        json!({
            "apiVersion": "promotion-gate.dev/v1alpha1",
            "kind": "PromotionPolicy",
            "metadata": {"name": "production"},
            "spec": {
                "environment": "production",
                "match": {"namespaces": {"names": ["shop"]}, "images": [images]},
                "requirements": [{"digestPinned": {}}, {"signature": {"anyOf": signer}}],
            },
        })
        .to_string()
    };
    let image = push_image(&bench.registry, "app", "v1", "v1").unwrap();
    let state = |images: &str| {
        bench.write("policies/production.yaml", &policy(images));
        let waiting = bench.starts(&["--timeout", "1s", &bench.image(&image)], "");
        waiting.says().0
    };
    assert_eq!(state("ghcr.io/example/**"), "impossible");
    assert_eq!(state(&format!("{}/**", bench.registry.host())), "waiting");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_time_ends_it_with_3_and_says_what_is_missing_once() {
    let bench = Bench::new().await;
    let image = signed(&bench.registry, "v1", "release");
    let args = [
        "--timeout",
        "4s",
        "--application",
        "shop",
        "--version",
        "v1.2.3",
    ];
    let image = bench.image(&image);
    bench.registry.take_requests();
    let ran = bench.ends(&[&args[..], &[image.as_str()]].concat(), "");
    assert_eq!(ran.code, 3, "{}{}", ran.stdout, ran.stderr);
    let lines: Vec<_> = ran.stdout.lines().collect();
    assert_eq!(
        lines[0],
        "waiting for shop v1.2.3 in `production`, at most 4s"
    );
    assert!(
        lines[1].starts_with("  missing Pod shop/image, policy `production`: approvals of `"),
        "{lines:?}"
    );
    assert!(
        lines[2].starts_with("    next: ask them to review and approve: `promotion-gate approve "),
        "{lines:?}"
    );
    assert_eq!(
        lines[3],
        "timed out: shop v1.2.3 in `production`, after 4s; 1 requirement not met"
    );
    assert_eq!(lines.len(), 4, "{lines:?}");
    // It looked several times, and each look asked once what is attached.
    let asked = bench.registry.take_requests();
    let listed = asked.iter().filter(|it| it.contains("/referrers/")).count();
    assert!((3..=6).contains(&listed), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_is_down_is_asked_again() {
    let bench = Bench::new().await;
    let image = signed(&bench.registry, "v1", "release");
    bench.approves(&image, "ada");
    bench.approves(&image, "ben");
    bench.registry.stop();
    let waiting = bench.starts(&[&bench.image(&image)], "");
    let (state, missing) = waiting.says();
    assert_eq!(state, "waiting");
    assert!(
        missing
            .iter()
            .all(|(reason, _)| reason == "evidence-unavailable"),
        "{missing:?}"
    );
    bench.registry.resume().await.unwrap();
    assert_eq!(waiting.says().0, "allowed");
    assert_eq!(waiting.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_image_of_two_that_is_never_approved_holds_the_whole_application() {
    let bench = Bench::new().await;
    let (one, two) = (
        signed(&bench.registry, "v1", "release"),
        signed(&bench.registry, "v2", "release"),
    );
    for person in ["ada", "ben"] {
        bench.approves(&one, person);
    }
    bench.approves(&two, "ada");
    let images = [bench.image(&one), bench.image(&two)];
    let waiting = bench.starts(&["--timeout", "2s", "-f", "-"], &deployment(&images));
    let (state, missing) = waiting.says();
    assert_eq!((state.as_str(), missing.len()), ("waiting", 1));
    assert!(
        missing[0].1.contains("1 of group `platform-leads`"),
        "{missing:?}"
    );
    assert_eq!(waiting.says().0, "timedOut");
    assert_eq!(waiting.code(), Some(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_freeze_ends_it() {
    let bench = Bench::new().await;
    bench.require(&[json!({"noFreeze": {}})]);
    let image = signed(&bench.registry, "v1", "release");
    bench.approves(&image, "ada");
    bench.approves(&image, "ben");
    let at = |seconds| Timestamp::now() + SignedDuration::from_secs(seconds);
    let local = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%S").to_string();
    let freeze = json!({
        "apiVersion": "promotion-gate.dev/v1alpha1",
        "kind": "ChangeFreeze",
        "metadata": {"name": "short"},
        "spec": {
            "environments": ["production"],
            "reason": "stock taking",
            "owner": "ops@example.com",
            "timeZone": "UTC",
            "windows": [{"from": local(at(-60)), "until": local(at(4))}],
        },
    });
    bench.write("policies/freeze.yaml", &freeze.to_string());
    let waiting = bench.starts(&[&bench.image(&image)], "");
    let (state, missing) = waiting.says();
    assert_eq!(
        (state.as_str(), missing[0].0.as_str()),
        ("waiting", "frozen")
    );
    assert_eq!(waiting.says().0, "allowed");
    assert_eq!(waiting.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_that_break_meanwhile_are_read_again() {
    let bench = Bench::new().await;
    let image = signed(&bench.registry, "v1", "release");
    let waiting = bench.starts(&[&bench.image(&image)], "");
    assert_eq!(waiting.says().1[0].0, "approvals-missing");
    bench.write("policies/production.yaml", "kind: [");
    let (state, missing) = waiting.says();
    assert_eq!(
        (state.as_str(), missing[0].0.as_str()),
        ("waiting", "not-read")
    );
    bench.approves(&image, "ada");
    bench.approves(&image, "ben");
    bench.require(&[]);
    assert_eq!(waiting.says().0, "allowed");
    assert_eq!(waiting.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_namespace_environment_or_input_is_wrong_usage() {
    let bench = Bench::new().await;
    let image = bench.image(&signed(&bench.registry, "v1", "release"));
    let with = |environment: &str, namespace: &str| {
        let args = [
            "wait",
            "--policy",
            "policies",
            "--config",
            "gate.yaml",
            "--environment",
            environment,
            "--namespace",
            namespace,
            &image,
        ];
        run(bench.folder.path(), &args, "")
    };
    let ran = with("production", "elsewhere");
    assert_eq!(ran.code, 1);
    let why = "no policy of the environment `production` governs what waits: check";
    assert!(ran.stderr.contains(why), "{}", ran.stderr);
    let ran = with("staging", "shop");
    assert_eq!(ran.code, 1);
    let why =
        "no policy of the environment `staging` governs what waits (policies of `production` do)";
    assert!(ran.stderr.contains(why), "{}", ran.stderr);
    for (input, why) in [
        ("", "there is no object in the input"),
        ("kind: [", "the manifests cannot be used"),
        (
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}",
            "the input names no image",
        ),
        (
            &deployment(&["$IMAGE".to_owned()]),
            "it holds a placeholder",
        ),
    ] {
        let ran = bench.ends(&["-f", "-"], input);
        assert_eq!(ran.code, 1, "{input}: {}", ran.stdout);
        assert!(ran.stderr.contains(why), "{input}: {}", ran.stderr);
    }
    let mut policy: Value = serde_json::from_str(
        &std::fs::read_to_string(bench.folder.path().join("policies/production.yaml")).unwrap(),
    )
    .unwrap();
    policy["spec"]["match"] =
        json!({"namespaces": {"selector": {"matchLabels": {"tier": "production"}}}});
    bench.write("policies/production.yaml", &policy.to_string());
    let ran = bench.ends(&[&image], "");
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    assert!(
        ran.stderr.contains("the labels of `shop` are not known"),
        "{}",
        ran.stderr
    );
    let labels = ["--namespace-labels", "tier=production", "--timeout", "1s"];
    assert_eq!(
        bench
            .ends(&[&labels[..], &[image.as_str()]].concat(), "")
            .code,
        3
    );
    let ran = bench.ends(&["--timeout", "8d", &image], "");
    assert_eq!((ran.code, ran.stderr.contains("longer than 7d")), (1, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_ends_it_cleanly() {
    let bench = Bench::new().await;
    let image = signed(&bench.registry, "v1", "release");
    for (signal, code) in [("-TERM", 143), ("-INT", 130)] {
        let waiting = bench.starts(&[&bench.image(&image)], "");
        assert_eq!(waiting.says().0, "waiting");
        waiting.0.signal(signal);
        assert_eq!(waiting.says().0, "stopped");
        assert_eq!(waiting.code(), Some(code));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_wrote_does_not_control_the_terminal() {
    let bench = Bench::new().await;
    let image = signed(&bench.registry, "v1", "release");
    let mut no = word("rejected");
    no["reason"] = json!("first\nallowed: everything \u{202e}detcejer");
    bench.says(&image, "cleo", &no);
    let image = bench.image(&image);
    let hostile = [
        "--application",
        "\u{1b}]0;title\u{7}\u{1b}[2Jshop",
        "--version",
        "\u{9b}2J\rv1",
    ];
    let ran = bench.ends(&[&hostile[..], &[image.as_str()]].concat(), "");
    assert_eq!(ran.code, 2, "{}{}", ran.stdout, ran.stderr);
    let control = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
    assert!(!ran.stdout.contains(control), "{:?}", ran.stdout);
    assert!(
        !ran.stdout.lines().any(|line| line.starts_with("allowed")),
        "{}",
        ran.stdout
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_that_the_end_of_the_time_cuts_short_says_nothing_new() {
    let is_silent = Arc::new(AtomicBool::new(false));
    let silent = Arc::clone(&is_silent);
    let bench = crate::approve::Bench::new(move |_: &Seen, _: &mut Store| {
        let is_silent = silent.load(Ordering::SeqCst);
        is_silent.then(|| Reply::status(200).coming(Manner::Silent))
    })
    .await;
    let digest = bench.registry.push("app", "v1", "image");
    let image = bench.registry.image("app", &digest);
    let mut command = Command::new(env!("CARGO_BIN_EXE_promotion-gate"));
    command.args(["wait", &image, "--environment", "production"]);
    command.args(["--policy", "policies", "--config", "gate.yaml"]);
    command.args(["--timeout", "4s", "--interval", "1", "--output", "json"]);
    let command = command.current_dir(bench.folder.path());
    let waiting = Waiting(Running::start(command, ""));
    let (state, missing) = waiting.says();
    assert_eq!((&*state, &*missing[0].0), ("waiting", "approvals-missing"));
    is_silent.store(true, Ordering::SeqCst);
    assert_eq!(waiting.says(), ("timedOut".to_owned(), missing));
    assert_eq!(waiting.code(), Some(3));
}
