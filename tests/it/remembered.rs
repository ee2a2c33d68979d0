//! Scans, SBOMs and VEX documents that were seen and are deleted, pushed again without what confirms their time, or too many to remember.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use promotion_gate::oci::{Layer, Memory, Repository, Via};
use promotion_gate_core::gate::Digest;
use serde_json::{Value, json};
use tokio::time::advance;

use crate::facts::{Attached, FACTS, keyless};
use crate::gate::Gate;

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

struct Bench {
    gate: Gate,
    repository: Repository,
    digest: Digest,
}

impl Bench {
    /// A gate with one rule, and an image.
    fn of(rule: &Value) -> Bench {
        let policy = json!({"requirements": [{"digestPinned": {}}, rule], "uncovered": "Allow"});
        Bench {
            gate: Gate::new(FACTS.policy("reports", &policy)),
            repository: Repository::named("registry.example/app"),
            digest: format!("sha256:{}", "1".repeat(64)).parse().unwrap(),
        }
    }

    /// Something by `release`, as cases write it.
    fn attached(&self, attached: Value) -> Layer {
        let mut all = json!({"by": "release", "form": "attestation"});
        let more = attached.as_object().unwrap().clone();
        all.as_object_mut().unwrap().extend(more);
        let attached: Attached = serde_json::from_value(all).unwrap();
        Layer {
            media_type: BUNDLE.to_owned(),
            bytes: FACTS
                .attached(&self.digest, &attached)
                .to_string()
                .into_bytes(),
            annotations: Default::default(),
        }
    }

    /// What the rule says a minute after these layers took the place of all that was attached.
    async fn says(&self, rule: &str, layers: &[&Layer]) -> String {
        let mut memory = Memory::default();
        memory.image(&self.repository, &self.digest);
        for layer in layers {
            let layers = vec![(*layer).clone()];
            let attached = memory.attach(&self.repository, &self.digest, Via::Referrers, layers);
            attached.unwrap();
        }
        self.gate.collector.replace_registry(Arc::new(memory));
        advance(Duration::from_secs(61)).await;
        let image = format!("{}@{}", self.repository, self.digest);
        let (outcome, reason) = self.gate.says(rule, &image).await;
        format!("{outcome} {reason}")
    }

    /// The hint of the rule about what is attached now.
    async fn hint(&self, rule: &str) -> String {
        let image = format!("{}@{}", self.repository, self.digest);
        let review = self.gate.review(&[image]).await;
        let mut findings = review.verdict.policies()[0].findings().iter();
        let finding = findings.find(|it| it.rule == rule).unwrap();
        finding.hint.clone().unwrap_or_default()
    }
}

fn sbom() -> Bench {
    let signed_by = keyless("release@example.com");
    Bench::of(&json!({"sbom": {"signedBy": signed_by, "denied": ["pkg:npm/event-stream"]}}))
}

fn vulnerabilities() -> Bench {
    let signed_by = keyless("release@example.com");
    Bench::of(&json!({"vulnerabilities": {
        "maximumSeverity": "Medium", "signedBy": signed_by, "vex": {"signedBy": signed_by},
    }}))
}

/// An SPDX document with one package.
fn spdx(package: &str, ago: &str) -> Value {
    let purl = json!({"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": package});
    let package = json!({"name": "x", "externalRefs": [purl]});
    json!({"ago": ago, "predicate": {"template": "spdx", "but": {"packages": [package]}}})
}

/// A scan of Trivy with a critical finding.
fn critical() -> Value {
    let found = json!({"VulnerabilityID": "CVE-2026-9", "PkgName": "zlib", "Severity": "CRITICAL"});
    json!({"template": "trivy", "but": {"scanner": {"result": {"Results": [
        {"Class": "os-pkgs", "Vulnerabilities": [found]},
    ]}}}})
}

/// A VEX document with these statements.
fn vex(ago: &str, statements: Value) -> Value {
    json!({"ago": ago, "predicate": {"template": "openvex", "but": {"statements": statements}}})
}

fn affected(id: &str) -> Value {
    json!({"vulnerability": {"name": id}, "status": "affected"})
}

fn not_affected(id: &str) -> Value {
    json!({"vulnerability": {"name": id}, "status": "not_affected", "impact_statement": "not used"})
}

#[tokio::test(start_paused = true)]
async fn deleting_the_sbom_that_lists_a_denied_package_helps_nobody() {
    let bench = sbom();
    let package = json!({"name": "musl", "purl": "pkg:apk/alpine/musl@1.2.5"});
    let clean = json!({"template": "cyclonedx", "but": {"components": [package]}});
    let clean = bench.attached(json!({ "predicate": clean }));
    let denied = bench.attached(spdx("pkg:npm/event-stream@3.3.6", "1h"));
    assert_eq!(bench.says("sbom", &[&clean]).await, "pass sbom-present");
    assert_eq!(
        bench.says("sbom", &[&clean, &denied]).await,
        "fail package-denied"
    );
    assert_eq!(bench.says("sbom", &[&clean]).await, "fail package-denied");
}

#[tokio::test(start_paused = true)]
async fn an_sbom_each_day_is_never_too_many_to_remember() {
    let bench = sbom();
    for day in (1..=40).rev() {
        let today = bench.attached(spdx("pkg:npm/left-pad@1.3.0", &format!("{day}d")));
        assert_eq!(
            bench.says("sbom", &[&today]).await,
            "pass sbom-present",
            "{day}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_later_sbom_repairs_one_that_cannot_be_read_also_after_both_were_seen() {
    let bench = sbom();
    let good = bench.attached(spdx("pkg:npm/left-pad@1.3.0", "3h"));
    let tag_value = bench.attached(
        json!({"ago": "2h", "predicate": {"template": "spdx", "but": {"spdxVersion": "x"}}}),
    );
    let later = bench.attached(spdx("pkg:npm/left-pad@1.3.0", "1h"));
    assert_eq!(
        bench.says("sbom", &[&good, &tag_value]).await,
        "undecided sbom-unreadable"
    );
    assert_eq!(
        bench.says("sbom", &[&good]).await,
        "undecided sbom-unreadable"
    );
    assert_eq!(
        bench.says("sbom", &[&good, &tag_value, &later]).await,
        "pass sbom-present"
    );
    assert_eq!(bench.says("sbom", &[&later]).await, "pass sbom-present");
}

#[tokio::test(start_paused = true)]
async fn deleting_a_scan_without_a_verified_time_helps_nobody() {
    let signed_by = json!({"key": {"pem": FACTS.key.public_pem(), "trustRoots": ["sandbox"], "transparency": "None"}});
    let rule = json!({"vulnerabilities": {"maximumSeverity": "Medium", "signedBy": signed_by}});
    let bench = Bench::of(&rule);
    let untimed = json!({"by": "key", "logged": false, "stamped": false, "predicate": critical()});
    let untimed = bench.attached(untimed);
    let timed = bench.attached(json!({"by": "key", "predicate": {"template": "trivy"}}));
    assert_eq!(
        bench.says("vulnerabilities", &[&timed]).await,
        "pass scanned"
    );
    assert_eq!(
        bench.says("vulnerabilities", &[&timed, &untimed]).await,
        "fail vulnerable"
    );
    assert_eq!(
        bench.says("vulnerabilities", &[&timed]).await,
        "fail vulnerable"
    );
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_scan_without_a_verified_time_is_undecided_until_it_is_deleted_and_the_gate_restarted()
 {
    const RULE: &str = "vulnerabilities";
    let rule = |transparency: &str| {
        let key = json!({"pem": FACTS.key.public_pem(), "trustRoots": ["sandbox"], "transparency": transparency});
        json!({"vulnerabilities": {"maximumSeverity": "Medium", "signedBy": {"key": key}}})
    };
    // Two documents: of the same one by a key, the time of the timestamp counts for the copy without one.
    let broken = |version: &str| json!({"template": "trivy", "but": {"scanner": {"result": null, "version": version}}});
    let bench = Bench::of(&rule("None"));
    let untimed = json!({"by": "key", "logged": false, "stamped": false, "predicate": broken("1")});
    let untimed = bench.attached(untimed);
    let older = bench.attached(json!({"by": "key", "ago": "2h", "predicate": broken("2")}));
    let newer = bench.attached(json!({"by": "key", "predicate": {"template": "trivy"}}));
    // A later scan takes the place of one of which the time is known.
    assert_eq!(
        bench.says(RULE, &[&older]).await,
        "undecided scan-unreadable"
    );
    let hint = bench.hint(RULE).await;
    assert!(hint.contains("scan again"), "{hint}");
    assert_eq!(bench.says(RULE, &[&older, &newer]).await, "pass scanned");
    for layers in [&[&untimed, &newer][..], &[&newer]] {
        assert_eq!(bench.says(RULE, layers).await, "undecided scan-unreadable");
        let hint = bench.hint(RULE).await;
        assert!(
            hint.contains("delete it in the registry and restart the gate"),
            "{hint}"
        );
    }
    let restarted = Bench::of(&rule("None"));
    assert_eq!(restarted.says(RULE, &[&newer]).await, "pass scanned");
    // A policy that asks for a time is not concerned.
    let strict = Bench::of(&rule("Timestamp"));
    assert_eq!(strict.says(RULE, &[&untimed, &newer]).await, "pass scanned");
}

#[tokio::test(start_paused = true)]
async fn a_vex_each_day_is_never_too_many_to_remember() {
    let bench = vulnerabilities();
    let scan = bench.attached(json!({"predicate": {"template": "trivy"}}));
    for day in (1..=80).rev() {
        let today = json!([affected("CVE-2026-1"), not_affected("CVE-2026-9")]);
        let today = bench.attached(vex(&format!("{day}d"), today));
        let said = bench.says("vulnerabilities", &[&scan, &today]).await;
        assert_eq!(said, "pass scanned", "{day}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_scan_each_night_does_not_fill_the_memory() {
    let bench = vulnerabilities();
    let scan = bench.attached(json!({"predicate": {"template": "trivy"}}));
    for day in (1..=80).rev() {
        let broken = json!({"template": "trivy", "but": {"scanner": {"result": null}}});
        let broken = bench.attached(json!({"ago": format!("{day}d"), "predicate": broken}));
        let said = bench.says("vulnerabilities", &[&scan, &broken]).await;
        assert_eq!(said, "pass scanned", "{day}");
    }
}

#[tokio::test(start_paused = true)]
async fn more_documents_than_are_remembered_do_no_harm_while_they_are_attached() {
    let bench = vulnerabilities();
    let scan = bench.attached(json!({"predicate": {"template": "trivy"}}));
    let documents: Vec<_> = (0..70)
        .map(|number| bench.attached(vex("1h", json!([affected(&format!("CVE-2026-{number}"))]))))
        .collect();
    let all: Vec<_> = [&scan].into_iter().chain(&documents).collect();
    assert_eq!(bench.says("vulnerabilities", &all).await, "pass scanned");
    // One of them may be gone, and it could take something back.
    let said = bench.says("vulnerabilities", &[&scan]).await;
    assert_eq!(said, "undecided evidence-partial");
    assert_eq!(bench.says("vulnerabilities", &all).await, "pass scanned");
}

#[tokio::test(start_paused = true)]
async fn what_a_deleted_vex_says_is_harmless_does_not_clear_a_finding() {
    let bench = vulnerabilities();
    let scan = bench.attached(json!({"predicate": critical()}));
    let both = json!([affected("CVE-2026-1"), not_affected("CVE-2026-9")]);
    let both = bench.attached(vex("2h", both));
    assert_eq!(
        bench.says("vulnerabilities", &[&scan, &both]).await,
        "pass scanned"
    );
    let less = bench.attached(vex("1h", json!([affected("CVE-2026-1")])));
    assert_eq!(
        bench.says("vulnerabilities", &[&scan, &less]).await,
        "fail vulnerable"
    );
    assert_eq!(
        bench.says("vulnerabilities", &[&scan]).await,
        "fail vulnerable"
    );
}

#[tokio::test(start_paused = true)]
async fn attack_deleting_the_vex_that_takes_back_another_one_turns_no_denial() {
    let bench = vulnerabilities();
    let scan = bench.attached(json!({"predicate": critical()}));
    let clears = bench.attached(vex("2h", json!([not_affected("CVE-2026-9")])));
    let takes_back = bench.attached(vex("1h", json!([affected("CVE-2026-9")])));
    for (layers, said) in [
        (&[&scan, &clears][..], "pass scanned"),
        (&[&scan, &clears, &takes_back], "fail vulnerable"),
        (&[&scan, &clears], "fail vulnerable"),
    ] {
        assert_eq!(bench.says("vulnerabilities", layers).await, said);
    }
    // A newer one that clears again ends it.
    let again = bench.attached(vex("30m", json!([not_affected("CVE-2026-9")])));
    let said = bench.says("vulnerabilities", &[&scan, &again]).await;
    assert_eq!(said, "pass scanned");
}

#[tokio::test(start_paused = true)]
async fn a_vex_that_is_too_large_is_undecided_beside_one_that_clears() {
    let bench = vulnerabilities();
    let scan = bench.attached(json!({"predicate": critical()}));
    let clears = bench.attached(vex("2h", json!([not_affected("CVE-2026-9")])));
    assert_eq!(
        bench.says("vulnerabilities", &[&scan, &clears]).await,
        "pass scanned"
    );
    let padding = "x".repeat(1000);
    let components = |number: usize| json!([{"@id": format!("pkg:npm/{padding}{number}")}]);
    let many = (0..4300).map(|number| {
        let product = json!({"@id": "pkg:oci/app", "subcomponents": components(number)});
        json!({"vulnerability": {"name": "CVE-2026-9"}, "products": [product], "status": "affected"})
    });
    let large = bench.attached(vex("1h", many.chain([affected("CVE-2026-9")]).collect()));
    assert!(large.bytes.len() > 5 << 20 && large.bytes.len() < 16 << 20);
    let said = bench
        .says("vulnerabilities", &[&scan, &clears, &large])
        .await;
    assert_eq!(said, "undecided vex-unreadable");
}

#[tokio::test(start_paused = true)]
async fn a_pass_warns_of_a_piece_that_is_too_large_to_be_read() {
    let bench = vulnerabilities();
    let scan = bench.attached(json!({"predicate": {"template": "trivy"}}));
    let huge = Layer {
        bytes: vec![b'x'; 17 << 20],
        ..scan.clone()
    };
    assert_eq!(
        bench.says("vulnerabilities", &[&scan, &huge]).await,
        "pass scanned"
    );
    let image = format!("{}@{}", bench.repository, bench.digest);
    let review = bench.gate.review(&[image]).await;
    let mut findings = review.verdict.policies()[0].findings().iter();
    let passed = findings.find(|it| it.rule == "vulnerabilities").unwrap();
    let mut warnings = passed.warnings.iter();
    assert!(
        warnings.any(|it| it.contains("too large to be read")),
        "{passed:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_exception_that_ends_in_more_than_a_week_is_no_warning() {
    let later = Timestamp::now() + SignedDuration::from_hours(8 * 24);
    let exception = json!({"id": "CVE-2026-9", "until": later.to_string(), "reason": "not used"});
    let bench = Bench::of(&json!({"vulnerabilities": {
        "maximumSeverity": "Medium", "maximumAge": "24h", "signedBy": keyless("release@example.com"), "exceptions": [exception],
    }}));
    let scan = bench.attached(json!({"predicate": critical()}));
    let said = bench.says("vulnerabilities", &[&scan]).await;
    assert_eq!(said, "pass scanned");
    let image = format!("{}@{}", bench.repository, bench.digest);
    let review = bench.gate.review(&[image]).await;
    let warnings = review.verdict.warnings();
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pass_warns_of_an_exception_that_ends_soon_and_of_a_piece_that_is_too_large() {
    let soon = Timestamp::now() + SignedDuration::from_hours(48);
    let exception = json!({"id": "CVE-2026-9", "until": soon.to_string(), "reason": "not used"});
    let bench = Bench::of(&json!({"vulnerabilities": {
        "maximumSeverity": "Medium", "signedBy": keyless("release@example.com"), "exceptions": [exception],
    }}));
    let scan = bench.attached(json!({"predicate": critical()}));
    let huge = Layer {
        bytes: vec![b'x'; 17 << 20],
        ..scan.clone()
    };
    let said = bench.says("vulnerabilities", &[&scan, &huge]).await;
    assert_eq!(said, "pass scanned");
    let image = format!("{}@{}", bench.repository, bench.digest);
    let review = bench.gate.review(&[image]).await;
    // Each is a separate text: an answer of the webhook shows 119 characters of each.
    let warnings = review.verdict.warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    for part in ["accepts `CVE-2026-9` only until", "too large to be read"] {
        let mut warnings = warnings.iter();
        assert!(warnings.any(|it| it.contains(part)), "{warnings:?}");
    }
}
