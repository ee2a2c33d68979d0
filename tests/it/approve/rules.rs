//! What the other rules say before a person approves: it is shown, and a denial refuses the approval.

use jiff::{SignedDuration, Timestamp};
use promotion_gate::sandbox::{SandboxIdentity, SandboxSigner};
use promotion_gate_core::gate::Digest;
use serde_json::{Value, json};

use super::{Bench, ISSUER, nothing, said};
use crate::cli::deployment;

const CI: &str = "ci@example.com";
const VULN: &str = "https://cosign.sigstore.dev/attestation/vuln/v1";

/// Attaches a statement of the pipeline.
fn attest(bench: &Bench, digest: &Digest, kind: &str, predicate: &Value) {
    let identity = SandboxIdentity::new(CI, ISSUER);
    let signing = bench.sigstore.signing();
    let bundle = signing.attest(SandboxSigner::Identity(&identity), digest, kind, predicate);
    bench.registry.attach("app", digest, &bundle.unwrap());
}

/// A scan of some minutes ago that found a vulnerability of this severity.
fn scan(minutes_ago: i64, severity: &str) -> Value {
    let at = Timestamp::now() - SignedDuration::from_mins(minutes_ago);
    let found = json!({"VulnerabilityID": "CVE-2026-7", "PkgName": "zlib", "Severity": severity});
    let report = json!({
        "SchemaVersion": 2, "CreatedAt": at, "ArtifactType": "container_image",
        "Results": [{"Class": "os-pkgs", "Vulnerabilities": [found]}],
    });
    json!({"scanner": {"uri": "pkg:github/aquasecurity/trivy@0.68.0", "result": report}, "metadata": {"scanFinishedOn": at}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_scanners_and_verifiers_say_is_shown_and_a_denial_refuses_the_approval() {
    let bench = Bench::new(nothing).await;
    let by = json!({"keyless": {"issuer": ISSUER, "identity": CI, "trustRoots": ["sandbox"]}});
    let verifier = json!({"id": "https://staging.example/gate", "signedBy": by});
    let requirements = json!([
        {"vulnerabilities": {"maximumSeverity": "Medium", "maximumAge": "1d", "signedBy": by}},
        {"sbom": {"signedBy": by, "denied": ["pkg:npm/event-stream"]}},
        {"attestation": {"predicateType": "https://example.com/tests/v1", "signedBy": by, "expression": "predicate.passed"}},
        {"verificationSummary": {"verifiers": [verifier], "environment": "staging"}},
    ]);
    bench.policy(&requirements, json!({"differentFromAuthor": false}));
    let digest = bench.registry.push("app", "v1", "image");
    let image = bench.registry.image("app", &digest);
    let refused = bench.approve(&[&image, "--yes"]);
    for denial in [
        "attestation: no-attestation",
        "sbom: no-sbom",
        "verificationSummary: no-verification-summary",
        "vulnerabilities: no-scan",
    ] {
        said(&refused, 2, denial);
    }
    let said_before = bench.attached("app", &digest);
    assert!(said_before.is_empty(), "{said_before:?}");

    let package = json!({"type": "library", "name": "musl", "purl": "pkg:apk/alpine/musl@1"});
    let bill = json!({"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [package]});
    let summary = json!({
        "verifier": {"id": "https://staging.example/gate"}, "timeVerified": Timestamp::now(),
        "resourceUri": image, "verificationResult": "PASSED",
        "https://promotion-gate.dev/environment": "staging",
    });
    for (kind, predicate) in [
        (VULN, &scan(20, "LOW")),
        ("https://cyclonedx.org/bom", &bill),
        ("https://example.com/tests/v1", &json!({"passed": true})),
        ("https://slsa.dev/verification_summary/v1", &summary),
    ] {
        attest(&bench, &digest, kind, predicate);
    }
    let shown = bench.approve(&[&image, "--dry-run"]);
    for rule in [
        "attestation",
        "sbom",
        "verificationSummary",
        "vulnerabilities",
    ] {
        said(
            &shown,
            0,
            &format!("pass          {rule} of policy `prod`: "),
        );
    }

    attest(&bench, &digest, VULN, &scan(10, "CRITICAL"));
    let refused = bench.approve(&[&image, "--yes"]);
    said(&refused, 2, "`CVE-2026-7` (Critical) in `zlib`");
    said(
        &refused,
        2,
        "rules deny that no approval changes (vulnerabilities: vulnerable)",
    );
    let anyway = bench.approve(&[&image, "--anyway", "--dry-run"]);
    said(&anyway, 0, r#""despite":["vulnerabilities: vulnerable"]"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expression_about_the_object_refuses_the_approval_of_manifests_and_not_of_an_image_alone()
 {
    let bench = Bench::new(nothing).await;
    let digest = bench.registry.push("app", "v1", "image");
    let image = bench.registry.image("app", &digest);
    let requiring = |rule: &str| {
        let expression = json!([{"expression": {"rule": rule}}]);
        bench.policy(&expression, json!({"differentFromAuthor": false}));
    };
    let object = deployment("shop", &image);
    bench.write("web.yaml", &object);
    let with_file = || bench.approve(&["-f", "web.yaml", "--dry-run"]);

    requiring("'team' in workload.labels");
    let alone = bench.approve(&[&image, "--dry-run"]);
    said(&alone, 0, "open          expression of policy `prod`: ");
    let refused = with_file();
    said(&refused, 2, "fail          expression of policy `prod`: ");
    said(&refused, 2, "(expression: expression-false)");
    let labelled = object.replace(
        "{name: web, namespace",
        "{labels: {team: payments}, name: web, namespace",
    );
    assert_ne!(labelled, object);
    bench.write("web.yaml", &labelled);
    said(
        &with_file(),
        0,
        "pass          expression of policy `prod`: ",
    );

    // Who deploys it, and when, is not known yet.
    for rule in [
        "requester.username == 'deployer'",
        "now < timestamp('2020-01-01T00:00:00Z')",
    ] {
        requiring(rule);
        said(&with_file(), 0, "expression of policy `prod`: ");
    }
}
