//! The command `approvals`: who said what and when about an image, and whether it counts.

use std::process::Command;

use promotion_gate::sandbox::attach_bundle;
use serde_json::{Value, json};

use crate::cli::{Ran, run};
use crate::images::signed;
use crate::running::Running;
use crate::wait::{Bench, word};

const ARGS: [&str; 5] = ["approvals", "--policy", "policies", "--config", "gate.yaml"];

fn list(bench: &Bench, more: &[&str]) -> Ran {
    run(bench.folder.path(), &[&ARGS, more].concat(), "")
}

fn json_of(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{}{}", ran.stdout, ran.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_that_cannot_be_verified_is_named_beside_what_is_missing() {
    let bench = Bench::new().await;
    let digest = signed(&bench.registry, "v1", "release");
    let bundle = json!({"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json"});
    attach_bundle(&bench.registry, "app", &digest, &bundle).unwrap();
    let image = format!("{}/app:v1", bench.registry.host());
    let ran = list(&bench, &["--environment", "production", &image]);
    let (missing, attached) = ran.stdout.split_once("; also attached: ").unwrap();
    assert!(missing.contains("missing: 1 of group"), "{missing}");
    assert!(attached.contains("is not accepted: "), "{attached}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_lists_who_said_what_and_when_and_whether_it_counts_and_why() {
    let bench = Bench::new().await;
    let digest = signed(&bench.registry, "v1", "release");
    let image = format!("{}/app:v1", bench.registry.host());
    let production = ["--environment", "production", &image];
    let ran = list(&bench, &production);
    assert_eq!(ran.code, 2, "{}{}", ran.stdout, ran.stderr);
    assert!(
        ran.stdout.contains("no approval or rejection was read"),
        "{}",
        ran.stdout
    );

    let mut of_ada = word("approved");
    of_ada["change"] = json!({"id": "CHG1"});
    of_ada["reason"] = json!("tested");
    bench.says(&digest, "ada", &of_ada);
    bench.approves(&digest, "mallory");
    let mut of_ben = word("approved");
    of_ben["environment"] = json!("staging");
    bench.says(&digest, "ben", &of_ben);
    let report = json_of(&list(
        &bench,
        &[&["--output", "json"], &production[..]].concat(),
    ));
    assert_eq!(report["version"], "promotion-gate.dev/approvals/v1alpha1");
    assert_eq!(report["digest"], digest.to_string());
    let policy = &report["policies"][0];
    let said = |field: &str| policy[field].as_str().unwrap().to_owned();
    assert_eq!(
        (said("policy"), said("environment")),
        ("production".into(), "production".into())
    );
    assert_eq!(
        (said("outcome"), said("reason")),
        ("fail".into(), "approvals-missing".into())
    );
    assert_eq!(said("openSeats"), "1 of group `platform-leads`");
    let by = |who: &str| {
        let statements = policy["statements"].as_array().unwrap().iter();
        let mut of = statements.filter(|it| it["signer"].as_str().unwrap().contains(who));
        of.next().unwrap().clone()
    };
    let ada = by("ada@");
    assert_eq!(ada["person"], "ada");
    assert_eq!(
        (&ada["counts"], &ada["seat"]),
        (&json!(true), &json!("security-team"))
    );
    assert_eq!(
        (&ada["change"], &ada["reason"]),
        (&json!("CHG1"), &json!("tested"))
    );
    assert!(ada["at"].as_str().unwrap().starts_with("20"), "{ada}");
    let mallory = by("mallory@");
    assert_eq!(
        (&mallory["person"], &mallory["counts"]),
        (&Value::Null, &json!(false))
    );
    let ben = by("ben@");
    assert_eq!(
        ben["why"],
        "the approval is for `staging`, not `production`"
    );

    bench.approves(&digest, "ben");
    let ran = list(&bench, &production);
    assert_eq!(ran.code, 0, "{}", ran.stdout);
    let counting = ran
        .stdout
        .lines()
        .filter(|line| line.contains("counts: seat of "))
        .count();
    assert_eq!(counting, 2, "{}", ran.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejection_blocks_attached_or_kept_by_the_cluster() {
    let bench = Bench::new().await;
    let digest = signed(&bench.registry, "v1", "release");
    let image = bench.image(&digest);
    let kept = json!({
        "apiVersion": "promotion-gate.dev/v1alpha1",
        "kind": "Rejection",
        "metadata": {"name": "app-by-cleo"},
        "spec": {"digest": digest.to_string(), "environment": "production", "person": "cleo", "reason": "not \u{202e}yet", "at": "2026-01-01T00:00:00Z"},
    });
    bench.write("policies/rejection.yaml", &kept.to_string());
    bench.says(&digest, "ada", &word("rejected"));
    let ran = list(&bench, &["--environment", "production", &image]);
    assert_eq!(ran.code, 2, "{}{}", ran.stdout, ran.stderr);
    let blocking = ran
        .stdout
        .lines()
        .filter(|line| line.ends_with("blocks"))
        .count();
    assert_eq!(blocking, 2, "{}", ran.stdout);
    assert!(
        ran.stdout
            .contains("2026-01-01T00:00:00Z rejected  cleo  blocks"),
        "{}",
        ran.stdout
    );
    assert!(!ran.stdout.contains('\u{202e}'), "{}", ran.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn approvals_of_another_repository_count_where_it_is_named() {
    let bench = Bench::new().await;
    let digest = signed(&bench.registry, "v1", "release");
    for person in ["ada", "ben"] {
        bench.says_in("approvals", &digest, person, &word("approved"));
    }
    let (image, elsewhere) = (
        bench.image(&digest),
        format!("{}/approvals", bench.registry.host()),
    );
    let args = ["--environment", "production", &image];
    assert_eq!(list(&bench, &args).code, 2);
    let ran = list(
        &bench,
        &[&["--repository", elsewhere.as_str()], &args[..]].concat(),
    );
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_selects_the_policies_that_govern_it() {
    let bench = Bench::new().await;
    let image = bench.image(&signed(&bench.registry, "v1", "release"));
    assert_eq!(list(&bench, &["--namespace", "shop", &image]).code, 2);
    for (args, why) in [
        (
            &["--namespace", "other"][..],
            "no policy that governs the namespace `other` has",
        ),
        (
            &["--environment", "staging"],
            "no policy of the environment `staging` has",
        ),
    ] {
        let ran = list(&bench, &[args, &[image.as_str()]].concat());
        assert_eq!(ran.code, 1);
        assert!(ran.stderr.contains(why), "{}", ran.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_can_stand_apart_from_policies() {
    let bench = Bench::new().await;
    let image = bench.image(&signed(&bench.registry, "v1", "release"));
    let policies = bench.folder.path().join("policies");
    std::fs::rename(
        policies.join("people.yaml"),
        bench.folder.path().join("people.yaml"),
    )
    .unwrap();
    let args = ["--environment", "production", image.as_str()];
    assert_eq!(list(&bench, &args).code, 3);
    let ran = list(&bench, &[&["--people", "people.yaml"], &args[..]].concat());
    assert_eq!(ran.code, 2, "{}{}", ran.stdout, ran.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watching_prints_the_list_again_when_it_changes() {
    let bench = Bench::new().await;
    let digest = signed(&bench.registry, "v1", "release");
    let image = bench.image(&digest);
    let more = [
        "--environment",
        "production",
        "--watch",
        "--interval",
        "1",
        "--output",
        "json",
        &image,
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_promotion-gate"));
    command
        .args([&ARGS[..], &more].concat())
        .current_dir(bench.folder.path());
    let watching = Running::start(&mut command, "");
    let outcome = || {
        let line = watching.line();
        line["policies"][0]["statements"].as_array().unwrap().len()
    };
    assert_eq!(outcome(), 0);
    bench.approves(&digest, "ada");
    assert_eq!(outcome(), 1);
    watching.signal("-INT");
    assert_eq!(watching.code(), Some(2));
}
