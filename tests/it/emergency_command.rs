//! The command `emergency`: what people declare, agree to, end and review with it is what the gate counts, and what would not count is
//! refused before it is signed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use promotion_gate_core::gate::Digest;
use rcgen::KeyPair;
use serde_json::{Value, json};

use crate::approve::{Bench, document, nothing, said};
use crate::cli::{Ran, deployment};
use crate::server::{Reply, Seen, Server};
use crate::store::{MANIFEST, Store};

/// A policy that no approval satisfies yet, and people who may let an emergency change pass it: `ada` (two keys) is on call, `ben` is of
/// the security team, `cleo` had no part in anything.
pub(crate) struct Emergency {
    pub(crate) bench: Bench,
    pub(crate) digest: Digest,
    pub(crate) image: String,
}

const KEYS: [&str; 5] = ["ada", "ada-too", "ben", "cleo", "mallory"];

impl Emergency {
    pub(crate) async fn new() -> Emergency {
        Emergency::before(nothing).await
    }

    async fn before(
        before: impl Fn(&Seen, &mut Store) -> Option<Reply> + Send + Sync + 'static,
    ) -> Emergency {
        let bench = Bench::new(before).await;
        let mut pems = Vec::new();
        for name in KEYS {
            let key = KeyPair::generate().unwrap();
            bench.write(&format!("{name}.key"), &key.serialize_pem());
            pems.push(json!({"key": {"pem": key.public_key_pem()}}));
        }
        let [ada, ada_too, ben, cleo, _] = pems.try_into().unwrap();
        let people = json!({
            "people": [
                {"name": "ada", "identities": [ada, ada_too]},
                {"name": "ben", "identities": [ben, {"github": {"login": "ben"}}]},
                {"name": "cleo", "identities": [cleo, {"kubernetes": {"user": "cleo"}}]},
            ],
            "groups": [
                {"name": "approvers", "members": ["cleo"]},
                {"name": "on-call", "members": ["ada"]},
                {"name": "security", "members": ["ada", "ben"]},
            ],
        });
        let people = document("PeopleDirectory", "people", &people);
        bench.write("policies/people.yaml", &people);
        let digest = bench.registry.push("app", "v1", "image");
        let image = bench.registry.image("app", &digest);
        let emergency = Emergency {
            bench,
            digest,
            image,
        };
        emergency.policy(json!({}));
        emergency
    }

    /// The policy, with fields of its section `emergency`.
    fn policy(&self, more: Value) {
        let mut section = json!({
            "from": [{"group": "on-call"}, {"group": "security"}],
            "waives": ["approvals"], "maximumValidity": "2h",
        });
        let fields = more.as_object().unwrap().clone();
        section.as_object_mut().unwrap().extend(fields);
        let approvals = json!({
            "from": [{"group": "approvers"}], "trustRoots": ["sandbox"], "differentFromAuthor": false,
        });
        let spec = json!({
            "environment": "production", "uncovered": "Allow",
            "requirements": [{"digestPinned": {}}, {"approvals": approvals}],
            "emergency": section,
        });
        self.bench.write(
            "policies/policy.yaml",
            &document("PromotionPolicy", "prod", &spec),
        );
    }

    /// The command by the holder of a key, without a question.
    pub(crate) fn by(&self, who: &str, verb: &str, more: &[&str]) -> Ran {
        let about = [
            "emergency",
            verb,
            &self.image,
            "--environment",
            "production",
        ];
        let policies = ["--policy", "policies", "--config", "gate.yaml"];
        self.sign(&[&about[..], &policies, more].concat(), who)
    }

    fn sign(&self, args: &[&str], who: &str) -> Ran {
        let key = format!("{who}.key");
        let signer = ["--key", &key, "--signing-config", "signing.json", "--yes"];
        self.bench.run(&[args, &signer].concat(), "")
    }

    pub(crate) fn declare(&self, who: &str, more: &[&str]) -> Ran {
        let said = ["--incident", "INC1", "--reason", "reverts the query"];
        self.by(who, "declare", &[&said[..], more].concat())
    }

    fn status(&self) -> (i32, Value) {
        let about = [
            "emergency",
            "status",
            &self.image,
            "--environment",
            "production",
        ];
        let policies = [
            "--policy",
            "policies",
            "--config",
            "gate.yaml",
            "--output",
            "json",
        ];
        let ran = self.bench.run(&[&about[..], &policies].concat(), "");
        let json = serde_json::from_str(&ran.stdout);
        (
            ran.code,
            json.unwrap_or_else(|_| panic!("{}{}", ran.stdout, ran.stderr)),
        )
    }

    /// A hint of a denial that names a command.
    fn hint(&self, command: &str) -> Vec<String> {
        let args = [
            "check",
            "--policy",
            "policies",
            "--config",
            "gate.yaml",
            "--output",
            "json",
            "-",
        ];
        let ran = self.bench.run(&args, &deployment("shop", &self.image));
        let start = ran.stdout.find(&format!("`{command}"));
        let start = start.unwrap_or_else(|| panic!("no `{command}` in {}", ran.stdout));
        let command = ran.stdout[start + 1..].split('`').next().unwrap();
        let words = command.split(' ').skip(1);
        words.map(|word| word.replace('\'', "")).collect()
    }

    fn attached(&self) -> usize {
        self.bench.attached("app", &self.digest).len()
    }
}

pub(crate) fn declared(ran: &Ran) -> String {
    said(ran, 0, "declared as sha256:");
    let line = ran
        .stdout
        .lines()
        .find(|line| line.starts_with("declared as "));
    line.unwrap().replace("declared as ", "")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_that_denials_print_let_an_image_pass_in_an_emergency() {
    let it = Emergency::new().await;
    said(&it.bench.check(&it.image), 2, "[approvals-missing]");
    let run = |command: &str, who: &str| {
        let hint = it.hint(command);
        let words: Vec<_> = hint.iter().map(String::as_str).collect();
        it.sign(&words, who)
    };
    let ran = run("promotion-gate emergency declare", "ada");
    let declaration = declared(&ran);
    said(&ran, 0, "1 of group `security` (by `ben`)");
    said(
        &ran,
        0,
        &format!(
            "promotion-gate emergency approve {} --environment production",
            it.image
        ),
    );
    said(&it.bench.check(&it.image), 2, "[emergency-not-agreed]");
    assert_eq!(it.status().0, 2);
    let ran = run("promotion-gate emergency approve", "ben");
    said(&ran, 0, "`ben` fills a seat: 1 of group `security`");
    let ran = it.bench.check(&it.image);
    said(&ran, 0, "1 allowed");
    let cautions = ran.stdout.matches("is unverified: ").count();
    assert_eq!(cautions, 1, "{}", ran.stdout);
    let (code, status) = it.status();
    assert_eq!(
        (code, &status["decision"]),
        (0, &json!("allow")),
        "{status}"
    );
    let listed = &status["policies"][0]["declarations"][0];
    assert_eq!(listed["declaration"], declaration);
    assert_eq!(
        (&listed["counts"], &listed["incidentState"]),
        (&json!(true), &json!("unverified"))
    );
    let seats: Vec<_> = listed["statements"].as_array().unwrap().iter().collect();
    let seats: Vec<_> = seats
        .iter()
        .map(|it| (&it["kind"], &it["person"], &it["seat"]))
        .collect();
    assert!(
        seats.contains(&(&json!("declared"), &json!("ada"), &json!("on-call"))),
        "{seats:?}"
    );
    assert!(
        seats.contains(&(&json!("agreed"), &json!("ben"), &json!("security"))),
        "{seats:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agreement_that_would_not_count_is_refused_before_it_is_signed() {
    let it = Emergency::new().await;
    declared(&it.declare("ada", &[]));
    // The declarer with a second identity, a person who is not asked, and one who is not known.
    for (who, why) in [
        (
            "ada-too",
            "one person fills one seat, whatever identity signs",
        ),
        ("cleo", "the policy does not ask this person"),
        ("mallory", "the people directory does not list it"),
    ] {
        said(&it.by(who, "approve", &[]), 2, why);
    }
    // An author of the change.
    let author =
        json!({"digest": it.digest.to_string(), "identities": [{"github": {"login": "ben"}}]});
    let author = document("AuthorRecord", "app", &author);
    it.bench.write("policies/author.yaml", &author);
    said(
        &it.by("ben", "approve", &[]),
        2,
        "`ben` is an author of the change",
    );
    assert_eq!(it.attached(), 1);
    said(&it.by("ben", "approve", &["--anyway"]), 0, "read back");
    assert_eq!(it.attached(), 2);
    let (code, status) = it.status();
    assert_eq!(code, 2, "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declaration_that_would_let_nothing_pass_is_refused_before_it_is_signed() {
    let it = Emergency::new().await;
    said(
        &it.declare("mallory", &[]),
        2,
        "the people directory does not list it",
    );
    said(&it.declare("ada", &["--valid", "3h"]), 1, "at most `2h`");
    for (args, field) in [
        (["--incident-url", "https://itsm.example/\u{1b}[2J"], "url"),
        (["--scope", "cluster=\u{7}"], "scopes"),
    ] {
        said(&it.declare("ada", &args), 1, field);
    }
    let id = ["--incident", "INC1\u{1b}]0;x\u{7}", "--reason", "x"];
    said(
        &it.by("ada", "declare", &id),
        1,
        "the declaration cannot be written",
    );
    let dry = it.declare("ada", &["--dry-run", "--scope", "namespace=shop"]);
    said(&dry, 0, r#""incident":{"id":"INC1"}"#);
    said(&dry, 0, "waives        approvals");
    // A requirement that the section does not waive.
    it.policy(json!({"waives": ["noFreeze"]}));
    said(
        &it.declare("ada", &[]),
        2,
        "which is not in `emergency.waives` of this policy",
    );
    // A policy without the section.
    let spec = json!({
        "environment": "production", "uncovered": "Allow",
        "requirements": [{"allowedImages": {"patterns": ["elsewhere.example/**"]}}],
    });
    it.policy(json!({}));
    it.bench.write(
        "policies/other.yaml",
        &document("PromotionPolicy", "other", &spec),
    );
    said(
        &it.declare("ada", &[]),
        2,
        "the policy `other` denies these images",
    );
    assert_eq!(it.attached(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emergency_change_is_ended_by_those_who_may_and_cannot_be_agreed_to_then() {
    let it = Emergency::new().await;
    let first = declared(&it.declare("ada", &[]));
    said(
        &it.by("cleo", "close", &[]),
        2,
        "your closure would not count",
    );
    said(
        &it.by("ben", "close", &["--reason", "mended\notherwise"]),
        0,
        "closure about",
    );
    said(&it.bench.check(&it.image), 2, "[emergency-closed]");
    said(
        &it.by("ben", "approve", &[]),
        1,
        "no emergency change that is meant here is declared",
    );
    said(
        &it.by("ben", "approve", &["--declaration", &first]),
        2,
        "`ben` ended it",
    );
    // One of several that are open must be named.
    let second = declared(&it.declare("ada", &["--valid", "1h"]));
    let third = declared(&it.declare("ada", &["--valid", "30m"]));
    said(
        &it.by("ben", "approve", &[]),
        1,
        "name one with `--declaration`",
    );
    let unknown = format!("sha256:{}", "0".repeat(64));
    said(
        &it.by("ben", "approve", &["--declaration", &unknown]),
        1,
        "is not declared for these images",
    );
    said(
        &it.by("ben", "approve", &["--declaration", &third]),
        0,
        "read back",
    );
    assert_ne!(second, third);
    said(&it.bench.check(&it.image), 0, "1 allowed");
    // A rejection of it blocks it.
    let no = [
        "--declaration",
        &third,
        "--decision",
        "rejected",
        "--reason",
        "of another service",
    ];
    said(&it.by("ben", "approve", &no), 0, "rejection about");
    let (code, status) = it.status();
    assert_eq!(code, 2, "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_review_is_by_a_person_who_had_no_part_in_it() {
    let it = Emergency::new().await;
    let declaration = declared(&it.declare("ada", &[]));
    said(&it.by("ben", "approve", &[]), 0, "read back");
    let review = |who: &str, more: &[&str]| {
        let said = [
            "--verdict",
            "justified",
            "--reason",
            "the table\u{1b}[31m was locked",
        ];
        it.by(
            who,
            "review",
            &[&said[..], &["--follow-up", "add a test"], more].concat(),
        )
    };
    said(
        &review("ada-too", &[]),
        2,
        "`ada` declared the emergency change",
    );
    said(
        &review("ben", &[]),
        2,
        "`ben` agreed to the emergency change",
    );
    said(
        &review("mallory", &[]),
        2,
        "the people directory does not list it",
    );
    said(
        &review("cleo", &["--as", "cleo"]),
        2,
        "`cleo` asked the cluster for the change",
    );
    assert_eq!(it.attached(), 2);
    let ran = review("cleo", &["--declaration", &declaration]);
    said(&ran, 0, "review about");
    assert!(!ran.stdout.contains('\u{1b}'), "{}", ran.stdout);
    let (_, status) = it.status();
    let statements = status["policies"][0]["declarations"][0]["statements"]
        .as_array()
        .unwrap();
    let reviewed = statements
        .iter()
        .find(|it| it["kind"] == "reviewed")
        .unwrap();
    assert_eq!(reviewed["verdict"], "justified");
    assert_eq!(
        (&reviewed["person"], &reviewed["counts"]),
        (&json!("cleo"), &json!(true))
    );
    assert_eq!(reviewed["followUps"], json!(["add a test"]));
    let about = [
        "emergency",
        "status",
        &it.image,
        "--environment",
        "production",
        "--policy",
        "policies",
    ];
    let shown = it
        .bench
        .run(&[&about[..], &["--config", "gate.yaml"]].concat(), "");
    said(&shown, 0, "reviewed: justified");
    assert!(!shown.stdout.contains('\u{1b}'), "{}", shown.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_that_moves_between_showing_and_signing_changes_no_declaration() {
    let moved = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&moved);
    let it = Emergency::before(move |seen: &Seen, store: &mut Store| {
        // The tag is read once; every later reader gets the other image.
        if seen.path == "/v2/app/manifests/v1" && flag.swap(true, Ordering::SeqCst) {
            let evil = json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": [], "config": {}, "annotations": {"content": "evil"}});
            store.put("app", "v1", MANIFEST, evil.to_string().as_bytes());
        }
        None
    })
    .await;
    let tagged = format!("{}/app:v1", it.bench.registry.server.host());
    let about = [
        "emergency",
        "declare",
        &tagged,
        "--environment",
        "production",
    ];
    let policies = ["--policy", "policies", "--config", "gate.yaml"];
    let incident = ["--incident", "INC1", "--reason", "x"];
    let ran = it.sign(&[&about[..], &policies, &incident].concat(), "ada");
    said(&ran, 0, &format!("declaration about {}", it.image));
    assert!(moved.load(Ordering::SeqCst));
    assert_eq!(it.attached(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_declaration_is_about_every_image_of_the_manifests() {
    let it = Emergency::new().await;
    let other = it.bench.registry.push("app", "other", "other image");
    let images = [&it.digest, &other].map(|digest| it.bench.registry.image("app", digest));
    let rendered = deployment("shop", &images[0]) + &deployment("shop", &images[1]);
    it.bench.write("rendered.yaml", &rendered);
    let from_files = |verb: &str, who: &str, more: &[&str]| {
        let about = [
            "emergency",
            verb,
            "-f",
            "rendered.yaml",
            "--environment",
            "production",
        ];
        let policies = ["--policy", "policies", "--config", "gate.yaml"];
        it.sign(&[&about[..], &policies, more].concat(), who)
    };
    let ran = from_files("declare", "ada", &["--incident", "INC1", "--reason", "x"]);
    declared(&ran);
    said(&from_files("approve", "ben", &[]), 0, "read back");
    for (digest, image) in [&it.digest, &other].into_iter().zip(&images) {
        assert_eq!(it.bench.attached("app", digest).len(), 2);
        said(&it.bench.check(image), 0, "1 allowed");
    }
    // A declaration of one of them does not do for both.
    let third = it.bench.registry.push("app", "third", "third image");
    let third = it.bench.registry.image("app", &third);
    it.bench.write(
        "rendered.yaml",
        &(deployment("shop", &images[0]) + &deployment("shop", &third)),
    );
    said(
        &from_files("approve", "ben", &[]),
        2,
        "the emergency change is not declared for",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_incident_that_is_closed_or_not_known_is_told_before_anything_is_signed() {
    let it = Emergency::new().await;
    let is_open = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&is_open);
    let tracker = Server::start(move |seen| {
        if seen.path == "/INC5" {
            return Reply::new(200, "text/html", "<html>log in</html>");
        }
        let (status, body) = match seen.path.as_str() {
            "/INC1" => (200, json!({"open": flag.load(Ordering::SeqCst)})),
            "/INC2" => (200, json!({"open": false})),
            "/INC3" => (200, Value::Null),
            _ => (500, Value::Null),
        };
        Reply::new(status, "application/json", body.to_string())
    })
    .await;
    let spec = json!({
        "request": {"url": format!("{}/{{id}}", tracker.url())},
        "expression": "body == null ? null : {'open': body.open}",
    });
    it.bench.write(
        "policies/check.yaml",
        &document("IncidentCheck", "tracker", &spec),
    );
    it.policy(json!({"incident": {"check": "tracker"}}));
    let declare = |id: &str| it.by("ada", "declare", &["--incident", id, "--reason", "x"]);
    said(&declare("INC2"), 2, "is not open");
    said(&declare("INC3"), 2, "there is no such incident");
    said(&declare("INC5"), 2, "web page");
    assert_eq!(it.attached(), 0);
    // A tracker that cannot be reached from here may be reached by the gate.
    let unreachable = it.by(
        "ada",
        "declare",
        &["--incident", "INC4", "--reason", "x", "--dry-run"],
    );
    said(&unreachable, 0, "not known here incident `INC4`");
    said(&unreachable, 0, "denies without an answer");
    let ran = declare("INC1");
    said(&ran, 0, "open incident `INC1`, by the check `tracker`");
    let ran = it.by("ben", "approve", &["--dry-run"]);
    said(&ran, 0, "open incident `INC1`, by the check `tracker`");
    // Meanwhile it is closed: an agreement would let nothing pass.
    is_open.store(false, Ordering::SeqCst);
    said(&it.by("ben", "approve", &[]), 2, "is not open");
    let rejected = ["--decision", "rejected", "--dry-run"];
    said(&it.by("ben", "approve", &rejected), 0, "is not open");
    is_open.store(true, Ordering::SeqCst);
    said(&it.by("ben", "approve", &[]), 0, "read back");
    let (code, status) = it.status();
    assert_eq!(code, 0, "{status}");
    assert_eq!(
        status["policies"][0]["declarations"][0]["incidentState"],
        "verified"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_emergency_change_waives_is_suppressed_in_sarif() {
    let it = Emergency::new().await;
    it.bench
        .write("web app.yaml", &deployment("shop", &it.image));
    let check = || {
        let args = ["check", "--policy", "policies", "--config", "gate.yaml"];
        let more = ["--output", "sarif", "web app.yaml"];
        let ran = it.bench.run(&[&args[..], &more].concat(), "");
        let sarif: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(sarif["version"], "2.1.0");
        let run = sarif["runs"][0].clone();
        assert_eq!(run["invocations"][0]["executionSuccessful"], true);
        let results = run["results"].as_array().unwrap().clone();
        assert_eq!(results.len(), 1, "{results:#?}");
        // Every result names a rule that is described.
        let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
        let rule = rules.iter().find(|it| it["id"] == results[0]["ruleId"]);
        let text = |at: &str| rule.unwrap().pointer(at).and_then(Value::as_str);
        assert!(text("/shortDescription/text").is_some_and(|text| !text.is_empty()));
        assert!(text("/help/text").is_some_and(|text| !text.is_empty()));
        (ran.code, results[0].clone())
    };
    let (code, denied) = check();
    assert_eq!((code, &denied["level"]), (2, &json!("error")));
    assert_eq!(denied["ruleId"], "approvals/approvals-missing");
    assert_eq!(denied["suppressions"], json!([]), "it is not suppressed");
    let place = &denied["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "web%20app.yaml");
    assert_eq!(place["region"]["startLine"], 1);
    let declaration = declared(&it.declare("ada", &[]));
    said(&it.by("ben", "approve", &[]), 0, "read back");
    let (code, waived) = check();
    assert_eq!(code, 0, "{waived}");
    assert_eq!(waived["properties"]["outcome"], "waived");
    let suppression = &waived["suppressions"][0];
    assert_eq!(suppression["kind"], "external");
    assert_eq!(suppression["status"], "accepted");
    let why = suppression["justification"].as_str().unwrap();
    assert!(why.contains(&declaration) && why.contains("INC1"), "{why}");
    // It is the same finding, although it is waived now.
    assert_eq!(waived["partialFingerprints"], denied["partialFingerprints"]);
}
