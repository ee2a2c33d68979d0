//! The short form of a vulnerability scan → the predicate with the report of the scanner.

use jiff::Timestamp;
use promotion_gate_core::gate::Age;
use serde_json::{Value, json};

use super::format::{FindingSpec, HowSpec, ScanSpec, Scanner};

/// The predicate type, and the predicate. `at` is the time of the case.
pub(super) fn expand(written: &ScanSpec, at: Timestamp) -> Result<(&'static str, Value), String> {
    let at = signed_at(&written.how(), at);
    let (uri, report) = match (written.scanner, &written.database_ago) {
        (Scanner::Trivy, Some(_)) => {
            return Err("reports of Trivy do not say when its database was updated, so `databaseAgo` needs `scanner: grype`".to_owned());
        }
        (Scanner::Trivy, None) => (
            "pkg:github/aquasecurity/trivy@0.68.0",
            trivy(&written.findings, at),
        ),
        (Scanner::Grype, ago) => {
            let built = ago
                .as_ref()
                .map(|ago| Ok::<_, String>(before(at, ago.parse()?)));
            let built = built.transpose()?;
            (
                "https://github.com/anchore/grype",
                grype(&written.findings, at, built),
            )
        }
    };
    let predicate = json!({
        "invocation": {"parameters": null, "uri": "", "event_id": "", "builder.id": ""},
        "scanner": {"uri": uri, "version": "", "db": {"uri": "", "version": ""}, "result": report},
        "metadata": {"scanStartedOn": at, "scanFinishedOn": at},
    });
    Ok(("https://cosign.sigstore.dev/attestation/vuln/v1", predicate))
}

/// When the scan is signed, and made. What is wrong with the times is said where they are signed.
pub(super) fn signed_at(how: &HowSpec<'_>, at: Timestamp) -> Timestamp {
    let given = how.at.and_then(|at| at.parse().ok());
    let ago = how.ago.and_then(|ago| ago.parse().ok());
    given.or(ago.map(|ago| before(at, ago))).unwrap_or(at)
}

pub(super) fn before(at: Timestamp, ago: Age) -> Timestamp {
    at.saturating_sub(ago.duration()).unwrap_or(at)
}

/// A report as `trivy image --format json` writes it.
fn trivy(findings: &[FindingSpec], at: Timestamp) -> Value {
    let vulnerability = |finding: &FindingSpec| {
        let severity = finding.severity.map(|it| it.to_string().to_uppercase());
        json!({
            "VulnerabilityID": finding.id,
            "PkgName": finding.package,
            "PkgIdentifier": {"PURL": finding.package},
            "FixedVersion": finding.fixed,
            "Severity": severity.unwrap_or("UNKNOWN".to_owned()),
        })
    };
    let vulnerabilities: Vec<_> = findings.iter().map(vulnerability).collect();
    json!({
        "SchemaVersion": 2,
        "CreatedAt": at,
        "ArtifactType": "container_image",
        "Results": [{"Class": "os-pkgs", "Vulnerabilities": vulnerabilities}],
    })
}

/// A report as `grype --output json` writes it.
fn grype(findings: &[FindingSpec], at: Timestamp, built: Option<Timestamp>) -> Value {
    let found = |finding: &FindingSpec| {
        let severity = finding.severity.map(|it| it.to_string());
        let (versions, state) = match &finding.fixed {
            Some(version) => (vec![version], "fixed"),
            None => (Vec::new(), "not-fixed"),
        };
        json!({
            "vulnerability": {
                "id": finding.id,
                "severity": severity.unwrap_or("Unknown".to_owned()),
                "fix": {"versions": versions, "state": state},
            },
            "artifact": {"name": finding.package, "purl": finding.package},
        })
    };
    let matches: Vec<_> = findings.iter().map(found).collect();
    json!({
        "matches": matches,
        "source": {"type": "image", "target": {"repoDigests": []}},
        "descriptor": {"name": "grype", "timestamp": at, "db": {"status": {"built": built}}},
    })
}

#[cfg(test)]
mod tests {
    use promotion_gate_core::attest::predicate::VulnerabilityScan;

    use super::*;

    #[test]
    fn what_a_scanner_writes_is_read_as_the_short_form_says() {
        let at: Timestamp = "2026-11-28T10:00:00Z".parse().unwrap();
        for scanner in ["trivy", "grype"] {
            let written = json!({
                "by": "scan", "scanner": scanner, "ago": "2h",
                "findings": [{"id": "CVE-1", "severity": "High", "package": "pkg:npm/a@1"}, {"id": "CVE-2", "fixed": "2"}],
            });
            let (kind, predicate) = expand(&serde_json::from_value(written).unwrap(), at).unwrap();
            let scan = VulnerabilityScan::read(kind, &predicate.to_string()).unwrap();
            assert_eq!(&*scan.scanner, scanner);
            assert_eq!(scan.at.to_string(), "2026-11-28T08:00:00Z");
            let fixable: Vec<_> = scan.findings.iter().map(|it| it.is_fixable).collect();
            assert_eq!(fixable, [Some(false), Some(true)]);
            assert_eq!(&*scan.findings[0].package, "pkg:npm/a@1");
            assert!(scan.findings[1].severity.is_none());
        }
        let written = json!({"by": "scan", "databaseAgo": "1d"});
        assert!(expand(&serde_json::from_value(written).unwrap(), at).is_err());
        let written = json!({"by": "scan", "scanner": "grype", "databaseAgo": "1d"});
        let (kind, predicate) = expand(&serde_json::from_value(written).unwrap(), at).unwrap();
        let scan = VulnerabilityScan::read(kind, &predicate.to_string()).unwrap();
        assert_eq!(scan.database.unwrap().to_string(), "2026-11-27T10:00:00Z");
    }
}
