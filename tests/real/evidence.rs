//! Reports of Trivy and Grype, OpenVEX documents and SBOMs of Syft and Trivy, as these programs wrote them: attested with cosign, read
//! from a registry and judged. The documents are those of the corpora; without them these tests are skipped, and one line says so.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::shared_corpora::{folder, read};
use crate::support::{
    ControlPlane, Cosign, Gate, LocalSigstore, Ran, Registry, Tagged, User, deployment, run, until,
};

/// The workflow that scans, the security team, and a stranger.
const SCANS: &str = "scans@example.com";
const SECURITY: &str = "security@example.com";
const STRANGER: &str = "mallory@example.com";
/// How long after its push a newer scan counts at the latest.
const WITHIN: Duration = Duration::from_secs(60);
/// A report of an image with two findings of the severity Medium.
const TRIVY: &str = "trivy/integration/testdata/alpine-39-ignore-cveids.json.golden";
/// A report of an image with a finding of the severity Critical, `CVE-1999-0002`.
const GRYPE: &str = "grype/grype/presenter/json/testdata/snapshot/TestJsonImgsPresenter.golden";

/// A document of the corpora.
fn document(file: &str) -> Option<Value> {
    let bytes = read(&folder("documents")?, file);
    Some(serde_json::from_slice(&bytes).unwrap())
}

/// What `trivy image --format cosign-vuln` writes around a report.
fn of_trivy(report: &Value) -> Value {
    let now = jiff::Timestamp::now();
    json!({
        "invocation": {"parameters": null, "uri": "", "event_id": "", "builder.id": ""},
        "scanner": {"uri": "pkg:github/aquasecurity/trivy@0.74.0", "version": "0.74.0", "db": {"uri": "", "version": ""}, "result": report},
        "metadata": {"scanStartedOn": now, "scanFinishedOn": now},
    })
}

/// The report of Grype with a time, which the test data of Grype leave out.
fn grype() -> Option<Value> {
    let mut report = document(GRYPE)?;
    report["descriptor"]["timestamp"] = json!(jiff::Timestamp::now());
    Some(report)
}

/// Where `jq` is, if it is installed.
const JQ: &str = "/usr/bin/jq";

/// A report of Grype in the form of cosign, made by a command. Without `jq`, the same is made here.
fn of_grype(report: &Value, command: &str) -> Value {
    let folder = tempfile::TempDir::new().unwrap();
    fs::write(folder.path().join("report.json"), report.to_string()).unwrap();
    if !Path::new(JQ).exists() {
        let at = &report["descriptor"]["timestamp"];
        return json!({
            "scanner": {"uri": "https://github.com/anchore/grype", "result": report},
            "metadata": {"scanStartedOn": at, "scanFinishedOn": at},
        });
    }
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(folder.path());
    run(&mut shell, b"").ok();
    let made = fs::read(folder.path().join("scan.json")).unwrap();
    serde_json::from_slice(&made).unwrap()
}

/// The command of the page.
fn command_of_page() -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/vulnerabilities.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once("\njq '").unwrap();
    let (command, _) = rest.split_once(" scan.json\n").unwrap();
    format!("jq '{command} scan.json")
}

struct Bench {
    sigstore: std::sync::Arc<LocalSigstore>,
    gate: Gate,
    registry: Registry,
    cosign: Cosign,
}

impl Bench {
    fn new(registry: Registry, cosign: Cosign) -> Bench {
        let sigstore = LocalSigstore::shared();
        Bench {
            gate: Gate::new(&sigstore),
            sigstore,
            registry,
            cosign,
        }
    }

    fn signer(&self, identity: &str) -> Value {
        json!({"keyless": {
            "issuer": self.sigstore.issuer.url(), "identity": identity, "trustRoots": ["local"], "transparency": "Timestamp",
        }})
    }

    /// A policy with the rule `vulnerabilities`, and these fields of it.
    fn requires_scans(&self, more: Value) {
        let mut rule = json!({"maximumSeverity": "Medium", "signedBy": self.signer(SCANS)});
        let fields = more.as_object().unwrap().clone();
        rule.as_object_mut().unwrap().extend(fields);
        self.requires(json!({"vulnerabilities": rule}));
    }

    fn requires(&self, rule: Value) {
        let requirements = json!([{"digestPinned": {}}, rule]);
        self.gate.spec(requirements, json!({"uncovered": "Allow"}));
    }

    fn push(&self, name: &str) -> Tagged {
        self.registry.push("app", name, name)
    }

    fn attest(&self, image: &Tagged, kind: &str, predicate: &Value, by: &str) {
        self.cosign
            .attest_keyless(image, kind, predicate, by, &self.sigstore)
            .ok();
    }

    fn check(&self, image: &Tagged) -> Ran {
        self.gate.check(&image.by_digest())
    }

    /// `check` cannot decide, and says why and all of these commands.
    fn undecided(&self, image: &Tagged, why: &str, commands: &[String]) {
        let ran = self.check(image);
        assert_eq!(ran.code, Some(3), "{ran}");
        for words in commands.iter().map(String::as_str).chain([why]) {
            assert!(ran.stdout.contains(words), "expected {words}: {ran}");
        }
    }

    /// What `check` says of the image at another time.
    fn check_at(&self, image: &Tagged, at: &str) -> Ran {
        let args = ["check", "--policy", "policies", "--config", "gate.yaml"];
        let args = [&args[..], &["--namespace", "shop", "--at", at, "-"]].concat();
        self.gate.run(&args, &deployment("web", &image.by_digest()))
    }
}

/// Both kinds of registries, with both versions of cosign.
fn benches() -> [Bench; 2] {
    [
        Bench::new(Registry::distribution(), Cosign::v2()),
        Bench::new(Registry::with_referrers(), Cosign::v3()),
    ]
}

#[test]
fn a_second_scanner_finds_more_and_an_exception_passes_until_its_last_day() {
    let (Some(trivy), Some(grype)) = (document(TRIVY), grype()) else {
        return;
    };
    for bench in benches() {
        let image = bench.push("scanned");
        bench.requires_scans(json!({}));
        bench.check(&image).denied("[no-scan]");
        bench.attest(&image, "vuln", &of_trivy(&trivy), SCANS);
        bench.check(&image).allowed();
        bench.requires_scans(json!({"maximumSeverity": "Low"}));
        bench.check(&image).denied("`CVE-2019-1551` (Medium)");
        bench.requires_scans(json!({"maximumAge": "24h"}));
        bench.check(&image).denied("[scan-too-old]");

        bench.requires_scans(json!({}));
        let scan = of_grype(&grype, &command_of_page());
        bench.attest(&image, "vuln", &scan, SCANS);
        let critical = "`CVE-1999-0002` (Critical) in `pkg:deb/package-2@2.2.2`";
        bench.check(&image).denied(critical);
        bench.requires_scans(json!({"scanners": ["trivy", "grype"], "exceptions": [
            {"id": "CVE-1999-0002", "until": "2099-12-31", "reason": "not reachable", "owner": "payments"},
        ]}));
        bench.check(&image).allowed();
        bench
            .check_at(&image, "2100-01-01T00:00:00Z")
            .denied("whose exception of `payments` ended at 2100-01-01 00:00 UTC");
    }
}

#[test]
fn a_vex_document_by_the_wrong_signer_or_for_another_product_does_nothing() {
    let (Some(vex), Some(grype)) = (
        document("openvex-vexctl/examples/openvex/document1.vex.json"),
        grype(),
    ) else {
        return;
    };
    let of = |product: &str, status: &str| {
        let mut document = vex.clone();
        let statement = &mut document["statements"][0];
        statement["vulnerability"]["name"] = json!("CVE-1999-0002");
        statement["products"][0]["@id"] = json!(product);
        statement["status"] = json!(status);
        if status == "not_affected" {
            statement["justification"] = json!("vulnerable_code_not_in_execute_path");
        }
        document
    };
    for bench in benches() {
        let image = bench.push("cleared");
        let product = format!("pkg:oci/app@{}", image.digest.replace(':', "%3A"));
        bench.requires_scans(json!({"vex": {"signedBy": bench.signer(SECURITY)}}));
        bench.attest(&image, "vuln", &of_grype(&grype, &command_of_page()), SCANS);
        let is_vulnerable = || bench.check(&image).denied("[vulnerable]");
        is_vulnerable();
        let clears = of(&product, "not_affected");
        bench.attest(&image, "openvex", &clears, STRANGER);
        is_vulnerable();
        bench.attest(&image, "openvex", &clears, SCANS);
        is_vulnerable();
        let other = format!("pkg:oci/app@sha256%3A{}", "a".repeat(64));
        bench.attest(&image, "openvex", &of(&other, "not_affected"), SECURITY);
        is_vulnerable();
        // As `vexctl` wrote it, about another vulnerability.
        bench.attest(&image, "openvex", &vex, SECURITY);
        is_vulnerable();
        bench.attest(&image, "openvex", &clears, SECURITY);
        bench.check(&image).allowed();
        // A newer statement takes it back.
        let mut taken_back = of(&product, "affected");
        taken_back["statements"][0]["timestamp"] = json!("2024-01-01T00:00:00Z");
        bench.attest(&image, "openvex", &taken_back, SECURITY);
        is_vulnerable();
    }
}

#[test]
fn a_report_of_another_image_or_of_something_else_is_refused() {
    let named = "grype/grype/presenter/explain/testdata/chainguard-ruby-test.json";
    let (Some(of_ruby), Some(of_repository)) = (
        document(named),
        document("trivy/integration/testdata/gradle.json.golden"),
    ) else {
        return;
    };
    let bench = Bench::new(Registry::with_referrers(), Cosign::v3());
    bench.requires_scans(json!({"maximumSeverity": "Critical"}));
    for (name, scan, expected) in [
        (
            "ruby",
            of_grype(&of_ruby, &command_of_page()),
            "the report is of the image `sha256:3c9afb4f188827ea1062ec3b8acea32893236a0d7df31e0498df93486cff0978`",
        ),
        (
            "gradle",
            of_trivy(&of_repository),
            "the report is of a `repository`, not of an image",
        ),
    ] {
        let image = bench.push(name);
        bench.attest(&image, "vuln", &scan, SCANS);
        bench.check(&image).denied(expected);
    }
}

#[test]
fn a_raw_report_is_refused_with_the_command_that_makes_the_right_form() {
    let (Some(trivy), Some(grype)) = (document(TRIVY), grype()) else {
        return;
    };
    if !Path::new(JQ).exists() {
        println!("without jq, the command for the reports of Grype is not run");
    }
    for bench in benches() {
        bench.requires_scans(json!({"maximumSeverity": "Critical"}));
        let image = bench.push("raw");
        // cosign drops what is not in its form of a scan.
        bench.attest(&image, "vuln", &trivy, SCANS);
        let commands = |image: &Tagged| {
            let name = image.by_digest();
            [
                "`trivy image --format cosign-vuln --output scan.json IMAGE`".to_owned(),
                "`grype IMAGE --output json > report.json`".to_owned(),
                format!("`{}`", command_of_page()),
                format!("`cosign attest --yes --type vuln --predicate scan.json {name}`"),
            ]
        };
        let dropped = "drops everything that is not in its form of a scan";
        bench.undecided(&image, dropped, &commands(&image));
        for (scanner, report) in [("Trivy", &trivy), ("Grype", &grype)] {
            let image = bench.push(&format!("raw-{scanner}-as-a-scan").to_lowercase());
            let kind = "https://in-toto.io/attestation/vulns/v0.2";
            bench.attest(&image, kind, report, SCANS);
            let raw = format!("it is a report as {scanner} writes it");
            bench.undecided(&image, &raw, &commands(&image));
        }
        let image = bench.push("raw-trivy");
        bench.attest(&image, "https://example.com/trivy/v1", &trivy, SCANS);
        bench
            .check(&image)
            .denied("`trivy convert --format cosign-vuln --output scan.json report.json`, then");
        let image = bench.push("raw-grype");
        bench.attest(&image, "custom", &grype, SCANS);
        let denied = bench.check(&image);
        let (_, command) = denied.stdout.split_once("→ `").unwrap();
        let (command, then) = command.split_once("`, then `").unwrap();
        let attest = format!(
            "cosign attest --yes --type vuln --predicate scan.json {}`",
            image.by_digest()
        );
        assert!(then.starts_with(&attest), "{denied}");
        assert_eq!(command, command_of_page());
        bench.attest(&image, "vuln", &of_grype(&grype, command), SCANS);
        bench.check(&image).allowed();
    }
}

#[test]
fn sboms_of_syft_and_trivy_are_read_and_a_denied_package_denies() {
    let files = [
        (
            "spdxjson",
            "guac/internal/testing/testdata/exampledata/alpine-spdx.json",
            "pkg:alpine/alpine-baselayout",
        ),
        (
            "cyclonedx",
            "trivy/integration/testdata/npm-cyclonedx.json.golden",
            "pkg:npm/jquery",
        ),
        (
            "cyclonedx",
            "trivy/integration/testdata/fixtures/sbom/centos-7-cyclonedx.json",
            "pkg:rpm/centos/bash",
        ),
        (
            "spdxjson",
            "trivy/integration/testdata/conda-spdx.json.golden",
            "pkg:conda/openssl@1.1.1q",
        ),
    ];
    for bench in benches() {
        for (number, (kind, file, denied)) in files.iter().enumerate() {
            let Some(bill) = document(file) else { return };
            let image = bench.push(&format!("sbom-{number}"));
            let signer = bench.signer(SCANS);
            bench.requires(json!({"sbom": {"signedBy": signer}}));
            bench.check(&image).denied("[no-sbom]");
            bench.attest(&image, kind, &bill, STRANGER);
            bench.check(&image).denied("[sbom-signer-not-accepted]");
            bench.attest(&image, kind, &bill, SCANS);
            bench.check(&image).allowed();
            let rule = json!({"sbom": {"signedBy": signer, "denied": [denied]}});
            bench.requires(rule);
            bench.check(&image).denied("[package-denied]");
        }
    }
}

#[test]
fn a_newer_scan_turns_an_allowance_at_the_api_server() {
    let Some(trivy) = document(TRIVY) else {
        return;
    };
    let scan = |minutes_ago: i64, severity: &str| {
        let mut report = trivy.clone();
        let at = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(minutes_ago);
        report["CreatedAt"] = json!(at);
        report["Results"][0]["Vulnerabilities"][0]["Severity"] = json!(severity);
        of_trivy(&report)
    };
    let bench = Bench::new(Registry::with_referrers(), Cosign::v3());
    bench.requires_scans(json!({"maximumAge": "24h"}));
    let image = bench.push("turned");
    bench.attest(&image, "vuln", &scan(20, "MEDIUM"), SCANS);
    let serving = bench.gate.serve(&[]);
    let plane = ControlPlane::start();
    plane.create_namespace("shop");
    plane.register(&serving);
    let apply = |image: &str| {
        let args = ["create", "--dry-run=server", "-f", "-"];
        plane.kubectl_as(User::Alice, args, &deployment("web", image))
    };
    let unscanned = bench.push("unscanned").by_digest();
    until("the webhook is asked", || {
        (!apply(&unscanned).is_ok()).then_some(())
    });
    apply(&image.by_digest()).ok();
    bench.attest(&image, "vuln", &scan(10, "CRITICAL"), SCANS);
    let pushed = Instant::now();
    let refusal = until("the newer scan counts", || {
        let asked = pushed.elapsed();
        let ran = apply(&image.by_digest());
        let is_refused = !ran.is_ok();
        assert!(
            is_refused || asked < WITHIN,
            "allowed {asked:.0?} after the newer scan was pushed"
        );
        is_refused.then_some(ran.stderr)
    });
    println!("the newer scan counted after {:.0?}", pushed.elapsed());
    assert!(refusal.contains("`CVE-2019-1551` (Critical)"), "{refusal}");
    // One after that which finds less allows it at once: before a denial, the registry is asked again.
    bench.attest(&image, "vuln", &scan(5, "LOW"), SCANS);
    apply(&image.by_digest()).ok();
}
