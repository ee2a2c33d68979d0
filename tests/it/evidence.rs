//! `evidence`: what hangs on the platforms of an index, and what is kept in another repository.

use promotion_gate::sandbox::{attach_bundle, push_image, push_index};
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::run;
use crate::facts::FACTS;
use crate::images::registry;

const CONFIGURATION: &str = "apiVersion: promotion-gate.dev/v1alpha1\nkind: GateConfiguration\ntrustRoots: [{name: sandbox, file: root.json}]\n";

fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("root.json"), FACTS.trusted_root()).unwrap();
    std::fs::write(folder.path().join("gate.yaml"), CONFIGURATION).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tree_shows_the_index_its_platforms_and_what_hangs_where() {
    let registry = registry().await;
    let amd64 = push_image(&registry, "app", "amd64", "amd64").unwrap();
    let arm64 = push_image(&registry, "app", "arm64", "arm64").unwrap();
    let platforms = [(Some("linux/amd64"), &amd64), (Some("linux/arm64"), &arm64)];
    push_index(&registry, "app", "v1", &platforms).unwrap();
    attach_bundle(&registry, "app", &arm64, &FACTS.bundle(&arm64, "release")).unwrap();

    let folder = folder();
    let image = format!("{}/app:v1", registry.host());
    let args = ["evidence", "--config", "gate.yaml", "--tree", &image];
    let ran = run(folder.path(), &args, "");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let lines: Vec<_> = ran.stdout.lines().collect();
    assert_eq!(lines.len(), 7, "{}", ran.stdout);
    assert_eq!(lines[2], "└─ nothing is attached to it");
    assert_eq!(lines[3], format!("└─ linux/amd64 {amd64}"));
    assert_eq!(lines[4], "   └─ nothing is attached to it");
    assert_eq!(lines[5], format!("└─ linux/arm64 {arm64}"));
    assert!(
        lines[6].contains("accepted signature by release@example.com"),
        "{}",
        ran.stdout
    );

    let args = [&args[..], &["--output", "json"]].concat();
    let ran = run(folder.path(), &args, "");
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(report["accepted"].as_array().unwrap().is_empty());
    let arm64 = &report["platforms"][1];
    assert_eq!(arm64["platform"], "linux/arm64");
    assert_eq!(arm64["accepted"][0]["signer"], "release@example.com");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_in_another_repository_is_read_from_there_alone() {
    let registry = registry().await;
    let image = push_image(&registry, "app", "v1", "v1").unwrap();
    push_image(&registry, "signatures", "v1", "v1").unwrap();
    let bundle = FACTS.bundle(&image, "release");
    attach_bundle(&registry, "signatures", &image, &bundle).unwrap();

    let folder = folder();
    let named = format!("{}/app:v1", registry.host());
    let elsewhere = format!("{}/signatures", registry.host());
    let accepted = |more: &[&str]| {
        let args = ["evidence", "--config", "gate.yaml", "--output", "json"];
        let args = [&args[..], more, &[&named]].concat();
        let ran = run(folder.path(), &args, "");
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        report["accepted"].as_array().unwrap().len()
    };
    assert_eq!(accepted(&[]), 0);
    assert_eq!(accepted(&["--repository", &elsewhere]), 1);

    let tagged = format!("{elsewhere}:v1");
    let ran = run(
        folder.path(),
        &["evidence", "--repository", &tagged, &named],
        "",
    );
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("neither a tag nor a digest"),
        "{}",
        ran.stderr
    );
}
