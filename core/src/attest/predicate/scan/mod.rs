//! The predicates of vulnerability scans: `https://cosign.sigstore.dev/attestation/vuln/v1`, whose result is the whole report of
//! Trivy or Grype, and `https://in-toto.io/attestation/vulns/v0.1` and `v0.2`, which list vulnerabilities.
//!
//! * this file: the scan, and what makes a predicate one
//! * `report`: a report or list → findings; `trivy`, `grype`: the fields of their reports
//! * `severity`: the words and scores of scanners → severities
//!
//! A report that is not understood is an error, never a scan without findings.

mod grype;
mod report;
mod severity;
#[cfg(test)]
mod tests;
mod trivy;

use jiff::Timestamp;
use serde::de::MapAccess;

use super::fields::{self, Instant, Known, ReadFields, Text};
use crate::attest::unaccepted::{FORMAT_NOT_SUPPORTED, MALFORMED_PREDICATE, UnacceptedReason};
use crate::gate::Digest;
use report::{Report, ScanResult};

pub use severity::VulnerabilitySeverity;

/// The most findings of one scan.
pub const MAXIMUM_FINDINGS: usize = 20_000;
/// cosign's predicate type; the second spelling is that of its oldest versions.
const COSIGN: [&str; 2] = [
    "https://cosign.sigstore.dev/attestation/vuln/v1",
    "cosign.sigstore.dev/attestation/vuln/v1",
];
/// in-toto's predicate types.
const IN_TOTO: [&str; 2] = [
    "https://in-toto.io/attestation/vulns/v0.2",
    "https://in-toto.io/attestation/vulns/v0.1",
];
/// Begins the predicate types of scans in every version.
const PREFIXES: [&str; 3] = [
    "https://cosign.sigstore.dev/attestation/vuln/",
    "cosign.sigstore.dev/attestation/vuln/",
    "https://in-toto.io/attestation/vulns/",
];
/// What Trivy and Grype are called by the addresses of their sources.
const SCANNERS: [(&str, &str); 4] = [
    ("pkg:github/aquasecurity/trivy", "trivy"),
    ("https://github.com/aquasecurity/trivy", "trivy"),
    ("pkg:github/anchore/grype", "grype"),
    ("https://github.com/anchore/grype", "grype"),
];

/// Whether a predicate type is that of vulnerability scans, in any version.
pub fn is_scan(predicate_type: &str) -> bool {
    PREFIXES
        .iter()
        .any(|prefix| predicate_type.starts_with(prefix))
}

/// What a scanner found in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VulnerabilityScan {
    /// `trivy` or `grype`, or the address of another scanner without its version.
    pub scanner: Box<str>,
    /// When the image was scanned, as the predicate says: the earliest time that the predicate or the report gives.
    pub at: Timestamp,
    /// When the scanner's database was updated last; `None` where the format does not say it.
    pub database: Option<Timestamp>,
    /// What was scanned.
    pub scanned: ScannedArtifact,
    /// The findings.
    pub findings: Box<[VulnerabilityFinding]>,
}

/// What was scanned, as far as the report says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScannedArtifact {
    /// The kind of the artifact, where it is neither an image nor an SBOM.
    pub other_kind: Option<Box<str>>,
    /// The digests by which the image is named in registries.
    pub digests: Vec<Digest>,
    /// Whether the scanner found no package to look at.
    pub is_empty: bool,
}

/// A vulnerability that a scanner found in a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VulnerabilityFinding {
    /// The id, such as `CVE-2026-1234`.
    pub id: Box<str>,
    /// Other ids of the same vulnerability.
    pub aliases: Box<[Box<str>]>,
    /// The package URL, or the name and version; empty where the format does not name the package.
    pub package: Box<str>,
    /// How severe it is; `None` where the scanner does not know it.
    pub severity: Option<VulnerabilitySeverity>,
    /// Whether a version with a fix exists; `None` where the format does not say it.
    pub is_fixable: Option<bool>,
    /// Whether the scanner lists it as ignored.
    pub is_suppressed: bool,
}

impl VulnerabilityFinding {
    /// The id and the other ids.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        [&self.id].into_iter().chain(&self.aliases).map(|id| &**id)
    }
}

impl VulnerabilityScan {
    /// Reads a predicate of this type.
    ///
    /// # Errors
    /// Why the predicate is not understood.
    pub fn read(predicate_type: &str, text: &str) -> Result<VulnerabilityScan, UnacceptedReason> {
        let is_cosign = COSIGN.contains(&predicate_type);
        if !is_cosign && !IN_TOTO.contains(&predicate_type) {
            let why = format!("this version does not know the predicate type `{predicate_type}`");
            return Err(UnacceptedReason::new(FORMAT_NOT_SUPPORTED, why));
        }
        let Known(written): Known<WrittenScan> = fields::read(text)?;
        let refused = |why: &str| {
            let why = format!("the predicate cannot be read: {why}");
            UnacceptedReason::new(MALFORMED_PREDICATE, why)
        };
        if written.has_several {
            return Err(refused("`scanners` is not a field of this predicate type"));
        }
        let (Known(scanner), Known(metadata)) = (written.scanner, written.metadata);
        let of_predicate = [metadata.started, metadata.finished].map(|Instant(at)| at);
        let database = scanner
            .database
            .map(|Known(database)| database.last_update.0);
        let scan = match (scanner.result, is_cosign) {
            (ScanResult::Report(report), true) => read_report(*report),
            (ScanResult::List(findings), false) => Ok(ReadScan {
                scanner: without_version(&scanner.uri.0),
                findings,
                ..ReadScan::default()
            }),
            (ScanResult::Missing, true) => Err(
                "`scanner.result` is missing; `cosign attest --type vuln` drops everything that is not in the form of `trivy image --format cosign-vuln`",
            ),
            (ScanResult::Missing, false) => Err("`scanner.result` is missing"),
            (ScanResult::List(_), true) => {
                Err("`scanner.result` is a list, not the report of Trivy or Grype")
            }
            (ScanResult::Report(_), false) => Err(
                "`scanner.result` is not a list; attach the report of a scanner with `cosign attest --type vuln`",
            ),
        };
        let scan = scan.map_err(refused)?;
        if scan.scanner.is_empty() {
            return Err(refused("`scanner.uri` is missing"));
        }
        let at = of_predicate.into_iter().chain([scan.at]).flatten().min();
        let databases = [database.flatten(), scan.database].into_iter();
        Ok(VulnerabilityScan {
            scanner: scan.scanner,
            at: at.ok_or_else(|| refused("`metadata.scanFinishedOn` is missing"))?,
            database: databases.flatten().min(),
            scanned: scan.scanned,
            findings: scan.findings.into(),
        })
    }

    /// The approximate size in memory, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let findings = self.findings.iter().map(|finding| {
            let ids: usize = finding
                .ids()
                .map(|id| id.len() + size_of::<Box<str>>())
                .sum();
            size_of_val(finding) + ids + finding.package.len()
        });
        size_of_val(self) + self.scanner.len() + findings.sum::<usize>()
    }
}

/// What a report says.
#[derive(Default)]
struct ReadScan {
    scanner: Box<str>,
    at: Option<Timestamp>,
    database: Option<Timestamp>,
    scanned: ScannedArtifact,
    findings: Vec<VulnerabilityFinding>,
}

/// Reads a report of Trivy or Grype, which its fields tell apart.
fn read_report(report: Report) -> Result<ReadScan, &'static str> {
    let is_trivy = report.schema.is_some();
    let of_grype = report.descriptor.is_some() || report.matches.is_some();
    match (is_trivy, of_grype || !report.ignored.0.is_empty()) {
        (true, false) => read_trivy(report),
        (false, true) if report.results.is_none() => read_grype(report),
        (false, false) => Err(
            "`scanner.result` is neither a report of Trivy nor one of Grype, which are the reports that this version reads",
        ),
        _ => Err("`scanner.result` has fields of Trivy's reports and of Grype's"),
    }
}

fn read_trivy(report: Report) -> Result<ReadScan, &'static str> {
    if report.schema != Some(2) {
        return Err("`SchemaVersion` is not 2; this version reads reports of Trivy with schema 2");
    }
    let Known(metadata) = report.metadata;
    let results = report.results.unwrap_or_default();
    let kind = report.artifact_type.0;
    let is_known = ["container_image", "cyclonedx", "spdx"].contains(&&*kind);
    Ok(ReadScan {
        scanner: "trivy".into(),
        at: report.created.0,
        database: None,
        scanned: ScannedArtifact {
            other_kind: (!is_known).then_some(kind),
            digests: metadata.digests.0.into_iter().map(|it| it.0).collect(),
            is_empty: results.targets == 0,
        },
        findings: results.findings,
    })
}

fn read_grype(report: Report) -> Result<ReadScan, &'static str> {
    let Some(matches) = report.matches else {
        return Err("`matches` is missing");
    };
    let Some(Known(descriptor)) = report.descriptor else {
        return Err("`descriptor` is missing");
    };
    if &*descriptor.name.0 != "grype" {
        return Err("`descriptor.name` is not `grype`");
    }
    let mut findings = matches.0;
    let ignored = report.ignored.0.into_iter();
    findings.extend(ignored.map(|finding| VulnerabilityFinding {
        is_suppressed: true,
        ..finding
    }));
    if findings.len() > MAXIMUM_FINDINGS {
        return Err("it has more findings than are read");
    }
    let Known(source) = report.source.unwrap_or_default();
    let mut digests: Vec<_> = source.target.digests.0.into_iter().map(|it| it.0).collect();
    if !digests.is_empty() {
        // Of an image that was not read from a registry, Grype computes a manifest that no registry has.
        digests.extend(source.target.manifest.0.parse::<Digest>());
    }
    let database = descriptor.database.map(|Known(database)| {
        let status = database.status.map(|status| status.0.built.0);
        [database.built.0, status.flatten()]
    });
    let is_known = ["image", "unknown", ""].contains(&&*source.kind.0);
    Ok(ReadScan {
        scanner: "grype".into(),
        at: descriptor.timestamp.0,
        database: database.into_iter().flatten().flatten().min(),
        scanned: ScannedArtifact {
            other_kind: (!is_known).then_some(source.kind.0),
            digests,
            is_empty: false,
        },
        findings,
    })
}

/// The name of a scanner, from its address.
fn without_version(uri: &str) -> Box<str> {
    let end = match uri.starts_with("pkg:") {
        true => uri.find(['@', '?', '#']),
        false => None,
    };
    let (address, _) = uri
        .split_at_checked(end.unwrap_or(uri.len()))
        .unwrap_or((uri, ""));
    let address = address.trim_end_matches('/');
    let known = SCANNERS
        .iter()
        .find(|(of, _)| of.eq_ignore_ascii_case(address));
    known.map_or(address, |(_, name)| name).into()
}

#[derive(Default)]
struct WrittenScan {
    scanner: Known<WrittenScanner>,
    metadata: Known<WrittenTimes>,
    /// Whether there is a field `scanners`, which the text of cosign's specification has and no program writes.
    has_several: bool,
}

impl ReadFields for WrittenScan {
    const NAMES: &'static [&'static str] = &["scanner", "scanners", "metadata"];

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        entries: &mut A,
    ) -> Result<(), A::Error> {
        match name {
            "scanner" => self.scanner = entries.next_value()?,
            "metadata" => self.metadata = entries.next_value()?,
            _ => {
                entries.next_value::<serde::de::IgnoredAny>()?;
                self.has_several = true;
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct WrittenScanner {
    uri: Text<2048>,
    database: Option<Known<WrittenDatabase>>,
    result: ScanResult,
}

impl ReadFields for WrittenScanner {
    const NAMES: &'static [&'static str] = &["uri", "db", "result"];

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        entries: &mut A,
    ) -> Result<(), A::Error> {
        match name {
            "uri" => self.uri = entries.next_value()?,
            "db" => self.database = entries.next_value()?,
            _ => self.result = entries.next_value()?,
        }
        Ok(())
    }
}

#[derive(Default)]
struct WrittenDatabase {
    last_update: Instant,
}

impl ReadFields for WrittenDatabase {
    const NAMES: &'static [&'static str] = &["lastUpdate"];

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        _: &'static str,
        entries: &mut A,
    ) -> Result<(), A::Error> {
        self.last_update = entries.next_value()?;
        Ok(())
    }
}

#[derive(Default)]
struct WrittenTimes {
    started: Instant,
    finished: Instant,
}

impl ReadFields for WrittenTimes {
    const NAMES: &'static [&'static str] = &["scanStartedOn", "scanFinishedOn"];

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        entries: &mut A,
    ) -> Result<(), A::Error> {
        match name {
            "scanStartedOn" => self.started = entries.next_value()?,
            _ => self.finished = entries.next_value()?,
        }
        Ok(())
    }
}
