//! Vulnerability scans as a review reads them from a registry: newer ones, deleted ones, many and huge ones.

use std::sync::Arc;
use std::time::Duration;

use promotion_gate::oci::{Layer, Memory, Repository, Via};
use promotion_gate_core::gate::{Age, Digest};
use serde_json::{Value, json};
use tokio::time::advance;

use crate::facts::{FACTS, keyless};
use crate::gate::Gate;

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const VULN: &str = "https://cosign.sigstore.dev/attestation/vuln/v1";

struct Bench {
    gate: Gate,
    repository: Repository,
    digest: Digest,
}

impl Bench {
    fn new() -> Bench {
        Bench::under(&json!({
            "requirements": [
                {"digestPinned": {}},
                {"vulnerabilities": {"maximumSeverity": "Medium", "signedBy": keyless("release@example.com")}},
            ],
            "uncovered": "Allow",
        }))
    }

    fn under(policy: &Value) -> Bench {
        Bench {
            gate: Gate::new(FACTS.policy("scans", policy)),
            repository: Repository::named("registry.example/app"),
            digest: Digest::sha256(b"app"),
        }
    }

    /// Puts these layers in the place of all that is attached.
    fn only(&self, layers: &[Layer]) {
        let mut memory = Memory::default();
        memory.image(&self.repository, &self.digest);
        for layer in layers {
            let layers = vec![layer.clone()];
            memory
                .attach(&self.repository, &self.digest, Via::Referrers, layers)
                .unwrap();
        }
        self.gate.collector.replace_registry(Arc::new(memory));
    }

    fn scan(&self, ago: &str, results: &Value) -> Layer {
        self.scan_of("container_image", ago, results)
    }

    fn scan_of(&self, kind: &str, ago: &str, results: &Value) -> Layer {
        let predicate = report(kind, results);
        let ago: Age = ago.parse().unwrap();
        layer(FACTS.attestation(&self.digest, "release", (VULN, predicate), Some(ago)))
    }

    /// The outcomes of three rules where only this is attached.
    async fn outcomes(&self, attached: &[Layer]) -> Vec<String> {
        self.only(attached);
        advance(Duration::from_secs(61)).await;
        let image = format!("{}@{}", self.repository, self.digest);
        let mut outcomes = Vec::new();
        for rule in ["attestation", "vulnerabilities", "sbom"] {
            outcomes.push(self.gate.says(rule, &image).await.0);
        }
        outcomes
    }

    async fn says(&self, gate: &Gate) -> String {
        let image = format!("{}@{}", self.repository, self.digest);
        let (outcome, reason) = gate.says("vulnerabilities", &image).await;
        format!("{outcome} {reason}")
    }
}

fn layer(bytes: Vec<u8>) -> Layer {
    Layer {
        media_type: BUNDLE.to_owned(),
        bytes,
        annotations: Default::default(),
    }
}

fn report(kind: &str, results: &Value) -> Value {
    json!({
        "scanner": {"uri": "pkg:github/aquasecurity/trivy@0.68.0", "result": {
            "SchemaVersion": 2, "ArtifactType": kind, "Results": results,
        }},
        "metadata": {"scanFinishedOn": "2200-01-01T00:00:00Z"},
    })
}

fn critical() -> Value {
    let found = json!({"VulnerabilityID": "CVE-2026-9", "PkgName": "zlib", "Severity": "CRITICAL"});
    json!([{"Class": "os-pkgs", "Vulnerabilities": [found]}])
}

fn nothing() -> Value {
    json!([{"Class": "os-pkgs"}])
}

#[tokio::test(start_paused = true)]
async fn a_newer_scan_turns_an_allowance_within_a_minute_also_after_it_was_deleted() {
    let bench = Bench::new();
    let clean = bench.scan("3h", &nothing());
    bench.only(std::slice::from_ref(&clean));
    assert_eq!(bench.says(&bench.gate).await, "pass scanned");
    bench.only(&[clean.clone(), bench.scan("1h", &critical())]);
    advance(Duration::from_secs(61)).await;
    assert_eq!(bench.says(&bench.gate).await, "fail vulnerable");
    bench.only(std::slice::from_ref(&clean));
    advance(Duration::from_secs(61)).await;
    assert_eq!(bench.says(&bench.gate).await, "fail vulnerable");
    // A newer scan without the finding ends it.
    let newer = json!([{"Class": "os-pkgs"}, {"Class": "lang-pkgs"}]);
    bench.only(&[clean, bench.scan("30m", &newer)]);
    advance(Duration::from_secs(61)).await;
    assert_eq!(bench.says(&bench.gate).await, "pass scanned");
}

#[tokio::test(start_paused = true)]
async fn deleting_a_scan_of_the_image_does_not_help_beside_a_newer_one_of_an_sbom() {
    let bench = Bench::new();
    let of_sbom = bench.scan_of("cyclonedx", "1h", &nothing());
    bench.only(&[bench.scan("2h", &critical()), of_sbom.clone()]);
    assert_eq!(bench.says(&bench.gate).await, "fail vulnerable");
    bench.only(&[of_sbom]);
    advance(Duration::from_secs(61)).await;
    assert_eq!(bench.says(&bench.gate).await, "fail vulnerable");
}

#[tokio::test(start_paused = true)]
async fn a_scan_each_day_is_never_too_many_to_remember() {
    let bench = Bench::new();
    for day in (1..=40).rev() {
        bench.only(&[bench.scan(&format!("{day}d"), &nothing())]);
        advance(Duration::from_secs(61)).await;
        assert_eq!(bench.says(&bench.gate).await, "pass scanned", "{day}");
    }
}

#[tokio::test]
async fn a_100_mb_report_is_undecided_and_changes_nothing_beside_a_sound_one() {
    let bench = Bench::new();
    let huge = layer(vec![b' '; 100 << 20]);
    bench.only(std::slice::from_ref(&huge));
    assert_eq!(bench.says(&bench.gate).await, "undecided scan-unaccepted");
    let other = Bench::new();
    other.only(&[huge, other.scan("1h", &nothing())]);
    assert_eq!(other.says(&other.gate).await, "pass scanned");
}

/// Everybody who may push can attach it, so it must not stop a deployment. Rules that more evidence can only help pass beside it, and so do
/// rules that it could hurt.
#[tokio::test(start_paused = true)]
async fn an_oversized_blob_that_nobody_signed_makes_no_passing_rule_undecided() {
    const TESTED: &str = "https://example.com/test-result/v1";
    let signer = keyless("release@example.com");
    let only_helps = json!({"attestation": {"predicateType": TESTED, "signedBy": signer}});
    let can_hurt = [
        json!({"vulnerabilities": {"maximumSeverity": "Medium", "signedBy": signer}}),
        json!({"sbom": {"signedBy": signer, "denied": ["pkg:npm/event-stream"]}}),
    ];
    let policy = json!({
        "requirements": [{"digestPinned": {}}, only_helps, can_hurt[0], can_hurt[1]],
        "uncovered": "Allow",
    });
    let bench = Bench::under(&policy);
    let about = |kind: &str, predicate: Value| {
        layer(FACTS.attestation(&bench.digest, "release", (kind, predicate), None))
    };
    let spdx = json!({"spdxVersion": "SPDX-2.3", "packages": [{"name": "zlib"}]});
    let mut attached = vec![
        about(TESTED, json!({})),
        bench.scan("1h", &nothing()),
        about("https://spdx.dev/Document", spdx),
    ];
    let huge = |media_type: &str| Layer {
        media_type: media_type.to_owned(),
        ..layer(vec![b'x'; 17 << 20])
    };
    assert_eq!(bench.outcomes(&attached).await, ["pass"; 3]);
    attached.extend([BUNDLE, "application/vnd.dsse.envelope.v1+json"].map(huge));
    assert_eq!(bench.outcomes(&attached).await, ["pass"; 3]);
    // Alone, it may be the evidence that is missing, also beside what a stranger attached.
    let alone = Bench::under(&policy).outcomes(&attached[3..]).await;
    assert_eq!(alone, ["undecided"; 3]);
    let by_stranger = |kind: &str, predicate: Value| {
        layer(FACTS.attestation(&bench.digest, "stranger", (kind, predicate), None))
    };
    let of_stranger = [
        by_stranger(TESTED, json!({})),
        by_stranger(VULN, report("container_image", &nothing())),
        by_stranger(
            "https://spdx.dev/Document",
            json!({"spdxVersion": "SPDX-2.3"}),
        ),
    ];
    let alone = Bench::under(&policy).outcomes(&of_stranger).await;
    assert_eq!(alone, ["fail"; 3]);
    attached.extend(of_stranger);
    let beside = Bench::under(&policy).outcomes(&attached[3..]).await;
    assert_eq!(beside, ["undecided"; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_predicate_that_is_too_large_for_a_condition_is_undecided() {
    const TESTED: &str = "https://example.com/test-result/v1";
    let signer = keyless("release@example.com");
    let bench = Bench::under(&json!({
        "requirements": [{"digestPinned": {}}, {"attestation": {"predicateType": TESTED, "signedBy": signer}}],
        "uncovered": "Allow",
    }));
    let about = |predicate: Value| {
        layer(FACTS.attestation(&bench.digest, "release", (TESTED, predicate), None))
    };
    let large = about(json!({"log": "x".repeat(5 << 20)}));
    bench.only(std::slice::from_ref(&large));
    let image = format!("{}@{}", bench.repository, bench.digest);
    let (outcome, reason) = bench.gate.says("attestation", &image).await;
    assert_eq!(
        (outcome.as_str(), reason.as_str()),
        ("undecided", "attestation-unaccepted")
    );
    bench.only(&[large, about(json!({}))]);
    advance(Duration::from_secs(61)).await;
    assert_eq!(bench.gate.says("attestation", &image).await.0, "pass");
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_to_be_read_may_be_the_provenance_or_summary_that_is_missing() {
    let signer = keyless("release@example.com");
    let id = "https://example.com/builder";
    let by = json!([{"id": id, "signedBy": signer}]);
    let rules = [
        (
            json!({"provenance": {"builders": by, "sources": ["https://example.com/app"]}}),
            "provenance",
            "provenance-unaccepted",
        ),
        (
            json!({"verificationSummary": {"verifiers": by, "levels": ["SLSA_BUILD_LEVEL_3"]}}),
            "verificationSummary",
            "verification-summary-unaccepted",
        ),
    ];
    for (requirement, rule, reason) in rules {
        let bench = Bench::under(&json!({"requirements": [{"digestPinned": {}}, requirement]}));
        let other = ("https://example.com/log/v1", json!("x".repeat(5 << 20)));
        let large = FACTS.attestation(&bench.digest, "release", other, None);
        bench.only(&[layer(large)]);
        let image = format!("{}@{}", bench.repository, bench.digest);
        let said = bench.gate.says(rule, &image).await;
        assert_eq!(said, ("undecided".to_owned(), reason.to_owned()));
    }
}

#[tokio::test]
async fn attack_a_piece_that_is_too_large_does_not_hide_what_the_accepted_verifier_says() {
    let id = "https://example.com/verifier";
    let by = json!([{"id": id, "signedBy": keyless("release@example.com")}]);
    let rule = json!({"verificationSummary": {"verifiers": by}});
    let bench = Bench::under(&json!({"requirements": [{"digestPinned": {}}, rule]}));
    let summary = json!({
        "verifier": {"id": id}, "timeVerified": "2026-01-01T00:00:00Z", "verificationResult": "FAILED",
        "resourceUri": bench.repository.to_string(), "policy": {"uri": "https://example.com/policy"},
        "verifiedLevels": ["FAILED"],
    });
    let attested = |kind: &str, predicate: Value, by: &str| {
        layer(FACTS.attestation(&bench.digest, by, (kind, predicate), None))
    };
    let failed = attested(
        "https://slsa.dev/verification_summary/v1",
        summary,
        "release",
    );
    let large = attested(
        "https://example.com/log/v1",
        json!("x".repeat(5 << 20)),
        "stranger",
    );
    bench.only(&[failed, large]);
    let image = format!("{}@{}", bench.repository, bench.digest);
    let said = bench.gate.says("verificationSummary", &image).await;
    assert_eq!(said, ("fail".to_owned(), "verification-failed".to_owned()));
}

#[tokio::test]
async fn a_report_of_10_mb_is_read() {
    let bench = Bench::new();
    let found = |index: usize| {
        json!({
            "VulnerabilityID": format!("CVE-2026-{index}"), "PkgName": "zlib", "Severity": "LOW",
            "Description": "x".repeat(1000),
        })
    };
    let results = |last: Value| {
        let found: Vec<_> = (0..9800).map(found).chain([last]).collect();
        json!([{"Class": "os-pkgs", "Vulnerabilities": found}])
    };
    let scan = bench.scan("1h", &results(found(9801)));
    assert!(scan.bytes.len() > 13_000_000, "{}", scan.bytes.len());
    bench.only(&[scan]);
    assert_eq!(bench.says(&bench.gate).await, "pass scanned");
    let last = json!({"VulnerabilityID": "CVE-2026-9", "Severity": "CRITICAL"});
    let other = Bench::new();
    other.only(&[other.scan("1h", &results(last))]);
    assert_eq!(other.says(&other.gate).await, "fail vulnerable");
}

#[tokio::test]
async fn a_large_report_in_another_form_is_undecided_with_the_command_that_makes_the_right_one() {
    let bench = Bench::new();
    let report = json!({"SchemaVersion": 2, "ArtifactName": "x".repeat(5 << 20)});
    let kind = "https://example.com/report/v1";
    let bundle = FACTS.attestation(&bench.digest, "release", (kind, report), None);
    bench.only(&[layer(bundle)]);
    assert_eq!(bench.says(&bench.gate).await, "undecided scan-unaccepted");
    let image = format!("{}@{}", bench.repository, bench.digest);
    let review = bench.gate.review(&[image]).await;
    let mut findings = review.verdict.policies()[0].findings().iter();
    let finding = findings.find(|it| it.rule == "vulnerabilities").unwrap();
    let command = "`trivy convert --format cosign-vuln";
    assert!(finding.detail.contains(command), "{}", finding.detail);
}

#[tokio::test]
async fn an_openvex_document_by_another_signer_does_nothing_and_is_named_in_the_denial() {
    let bench = Bench::new();
    let found = json!({"VulnerabilityID": "CVE-2026-9", "Severity": "CRITICAL"});
    let results = json!([{"Class": "os-pkgs", "Vulnerabilities": [found]}]);
    let vex = ("https://openvex.dev/ns/v0.2.0", json!({}));
    let vex = layer(FACTS.attestation(&bench.digest, "stranger", vex, None));
    bench.only(&[bench.scan("1h", &results), vex]);
    let image = format!("{}@{}", bench.repository, bench.digest);
    let review = bench.gate.review(&[image]).await;
    let mut findings = review.verdict.policies()[0].findings().iter();
    let finding = findings.find(|it| it.rule == "vulnerabilities").unwrap();
    assert_eq!(finding.reason, "vulnerable");
    let named = "; an OpenVEX document by `stranger@example.com`";
    assert!(finding.detail.contains(named), "{}", finding.detail);
}

#[tokio::test]
async fn an_openvex_document_by_the_accepted_signer_that_does_not_count_is_named_with_why() {
    let another = format!("pkg:oci/app@sha256:{}", "3".repeat(64));
    for (place, value, words) in [
        (
            "/statements/0/products/0/@id",
            "pkg:oci/app",
            "about `CVE-2026-9`, because no product of it names an image by digest",
        ),
        (
            "/statements/0/products/0/@id",
            &*another,
            "because its product is the image `sha256:3333",
        ),
        (
            "/statements/0/status",
            "NOT_AFFECTED",
            "`NOT_AFFECTED` is not a status of OpenVEX 0.2",
        ),
        (
            "/statements/0/justification",
            "we_said_so",
            "`not_affected` needs a justification",
        ),
        ("/timestamp", "", "the document has no `timestamp`"),
        (
            "/@context",
            "https://openvex.dev/ns/v0.2",
            "is not that of OpenVEX 0.2",
        ),
    ] {
        let signer = keyless("release@example.com");
        let rule =
            json!({"maximumSeverity": "Medium", "signedBy": signer, "vex": {"signedBy": signer}});
        let bench = Bench::under(&json!({
            "requirements": [{"digestPinned": {}}, {"vulnerabilities": rule}],
            "uncovered": "Allow",
        }));
        let mut document = json!({
            "@context": "https://openvex.dev/ns/v0.2.0",
            "timestamp": "2200-01-01T00:00:00Z",
            "statements": [{
                "vulnerability": {"name": "CVE-2026-9"},
                "products": [{"@id": format!("pkg:oci/app@{}", bench.digest)}],
                "status": "not_affected",
                "justification": "component_not_present",
            }],
        });
        *document.pointer_mut(place).unwrap() = json!(value);
        let vex = ("https://openvex.dev/ns", document);
        let vex = layer(FACTS.attestation(&bench.digest, "release", vex, None));
        bench.only(&[bench.scan("1h", &critical()), vex]);
        let image = format!("{}@{}", bench.repository, bench.digest);
        let review = bench.gate.review(&[image]).await;
        let mut findings = review.verdict.policies()[0].findings().iter();
        let finding = findings.find(|it| it.rule == "vulnerabilities").unwrap();
        assert_eq!(finding.reason, "vulnerable");
        let hint = finding.hint.as_deref().unwrap();
        assert!(hint.contains(words), "{hint}");
    }
}

#[tokio::test]
async fn a_million_findings_are_undecided_with_a_hint_that_helps() {
    let bench = Bench::new();
    let found = vec![json!({"id": "C"}); 1_000_000];
    let predicate = json!({
        "scanner": {"uri": "https://scanner.example", "result": found},
        "metadata": {"scanFinishedOn": "2200-01-01T00:00:00Z"},
    });
    let kind = "https://in-toto.io/attestation/vulns/v0.2";
    let bundle = FACTS.attestation(&bench.digest, "release", (kind, predicate), None);
    assert!(bundle.len() < 16 << 20);
    bench.only(&[layer(bundle)]);
    assert_eq!(bench.says(&bench.gate).await, "undecided scan-unreadable");
    let image = format!("{}@{}", bench.repository, bench.digest);
    let review = bench.gate.review(std::slice::from_ref(&image)).await;
    let mut findings = review.verdict.policies()[0].findings().iter();
    let finding = findings.find(|it| it.rule == "vulnerabilities").unwrap();
    let command = format!(
        "`trivy image --severity UNKNOWN,HIGH,CRITICAL --format cosign-vuln --output scan.json {image}`"
    );
    let hint = finding.hint.as_deref().unwrap();
    assert!(hint.contains(&command), "{hint}");
}

#[tokio::test]
async fn a_statement_with_more_subjects_than_are_read_is_undecided_and_says_why() {
    let report = report("container_image", &nothing());
    for (count, expected) in [(1024, "pass scanned"), (1025, "undecided scan-unaccepted")] {
        let bench = Bench::new();
        let others = (1..count).map(|number: usize| Digest::sha256(&number.to_be_bytes()));
        let subjects: Vec<_> = [bench.digest.clone()].into_iter().chain(others).collect();
        let bundle = FACTS.attestation_of(&subjects, "release", (VULN, &report));
        bench.only(&[layer(bundle)]);
        assert_eq!(bench.says(&bench.gate).await, expected);
        let image = format!("{}@{}", bench.repository, bench.digest);
        let review = bench.gate.review(&[image]).await;
        let mut findings = review.verdict.policies()[0].findings().iter();
        let finding = findings.find(|it| it.rule == "vulnerabilities").unwrap();
        let is_named =
            finding.detail.contains("(too-large)") && finding.detail.contains("subjects");
        assert_eq!(is_named, count > 1024, "{}", finding.detail);
    }
}
