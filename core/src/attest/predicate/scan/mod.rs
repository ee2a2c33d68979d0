//! The predicates of vulnerability scans: `https://cosign.sigstore.dev/attestation/vuln/v1`, whose result is the whole report of
//! Trivy or Grype, and `https://in-toto.io/attestation/vulns/v0.1` and `v0.2`, which list vulnerabilities.
//!
//! * this file: the scan, and what makes a predicate one
//! * `report`: a report or list → findings; `trivy`, `grype`: the fields of their reports
//! * `raw`: reports that are attached as the scanners write them
//! * `severity`: the words and scores of scanners → severities; `cvss`: a vector → its score
//!
//! A report that is not understood is an error, never a scan without findings.

mod cvss;
mod grype;
mod raw;
mod report;
mod severity;
#[cfg(test)]
mod tests;
mod trivy;

use jiff::Timestamp;

use super::fields::{
    self, Gathered, HoldsSomething, Instant, IsThere, Known, Misplaced, Telling, Text, known_fields,
};
use crate::attest::unaccepted::{
    FORMAT_NOT_SUPPORTED, MALFORMED_PREDICATE, TOO_LARGE, UnacceptedReason,
};
use crate::gate::Digest;
use report::{NamedDigest, Report, ScanResult};

pub(crate) use raw::RawReport;
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
    /// Whether it was an SBOM, so that the scanner did not see the image itself.
    pub is_sbom: bool,
    /// The kind of the artifact, where it is neither an image nor an SBOM.
    pub other_kind: Option<Box<str>>,
    /// The digests by which the image is named in registries; where there are none, the digest in the name that the scanner was given.
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

    /// The CVE ids of the vulnerabilities in the finding, which an advisory can have several of. An id that is a CVE id is about that
    /// one alone.
    pub fn cves(&self) -> Vec<&str> {
        match is_cve(&self.id) {
            true => vec![&*self.id],
            false => self
                .aliases
                .iter()
                .map(|id| &**id)
                .filter(|id| is_cve(id))
                .collect(),
        }
    }
}

/// Whether an id names one vulnerability in the list of CVE.
pub fn is_cve(id: &str) -> bool {
    let prefix = id.trim_start().get(..4);
    prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case("CVE-"))
}

impl VulnerabilityScan {
    /// Whether a newer scan like this one takes the place of an older one: it is by the same scanner, and looked at the image if the
    /// older one did.
    pub fn replaces(&self, older: &VulnerabilityScan) -> bool {
        let sees_as_much = older.scanned.is_sbom || !self.scanned.is_sbom;
        self.scanner == older.scanner && sees_as_much
    }

    /// Reads a predicate of this type.
    ///
    /// # Errors
    /// Why the predicate is not understood.
    pub fn read(predicate_type: &str, text: &str) -> Result<VulnerabilityScan, UnacceptedReason> {
        check_version(predicate_type)?;
        VulnerabilityScan::of(predicate_type, fields::read(text)?)
    }

    /// Checks the fields of a predicate of this type and makes a scan from them.
    pub(super) fn of(
        predicate_type: &str,
        Known(written): Known<WrittenScan>,
    ) -> Result<VulnerabilityScan, UnacceptedReason> {
        check_version(predicate_type)?;
        let is_cosign = COSIGN.contains(&predicate_type);
        let refused = |why: &str| {
            let why = format!("the predicate cannot be read: {why}");
            UnacceptedReason::new(MALFORMED_PREDICATE, why)
        };
        if let Some(report) = written.raw() {
            return Err(refused(&format!(
                "it is a report as {report} writes it, which is a scan only in the form of cosign"
            )));
        }
        if let Some(name) = written.first_misplaced() {
            let why = format!("`{name}` is not a field of this predicate type");
            return Err(refused(&why));
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
                "`scanner.result` is missing; `cosign attest --type vuln` drops everything that is not in its form of a scan, such as a report as Trivy or Grype writes it",
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
        if scan.findings.len() > MAXIMUM_FINDINGS {
            let why =
                format!("the predicate cannot be read: more than {MAXIMUM_FINDINGS} findings");
            return Err(UnacceptedReason::new(TOO_LARGE, why));
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

fn check_version(predicate_type: &str) -> Result<(), UnacceptedReason> {
    if COSIGN.contains(&predicate_type) || IN_TOTO.contains(&predicate_type) {
        return Ok(());
    }
    let why = format!("this version does not know the predicate type `{predicate_type}`");
    Err(UnacceptedReason::new(FORMAT_NOT_SUPPORTED, why))
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
    let is_misplaced = report.vulnerabilities.0 || report.listed.0 || report.resources.0;
    match (is_trivy, of_grype || !report.ignored.0.0.is_empty()) {
        (true, _) | (_, true) if is_misplaced => Err(
            "`scanner.result` has `Vulnerabilities` or `Resources`, from which no findings are read in a report of an image",
        ),
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
    let Gathered(results) = report.results.unwrap_or_default();
    let mut digests: Vec<_> = metadata.digests.into_iter().map(|it| it.0).collect();
    if digests.is_empty() {
        let names = [report.name.0, metadata.reference.0];
        digests.extend(names.into_iter().filter_map(|NamedDigest(digest)| digest));
    }
    let kind = report.artifact_type.0;
    let is_known = ["container_image", "cyclonedx", "spdx"].contains(&&*kind);
    Ok(ReadScan {
        scanner: "trivy".into(),
        at: report.created.0,
        database: None,
        scanned: ScannedArtifact {
            is_sbom: is_known && &*kind != "container_image",
            other_kind: (!is_known).then_some(kind),
            digests,
            is_empty: results.targets == 0,
        },
        findings: results.findings,
    })
}

fn read_grype(report: Report) -> Result<ReadScan, &'static str> {
    let Some(Gathered(matches)) = report.matches else {
        return Err("`matches` is missing");
    };
    let Some(Known(descriptor)) = report.descriptor else {
        return Err("`descriptor` is missing");
    };
    if &*descriptor.name.0 != "grype" {
        return Err("`descriptor.name` is not `grype`");
    }
    let mut findings = matches.0;
    findings.extend(report.ignored.0.0);
    let Some(Known(source)) = report.source else {
        return Err("`source` is missing");
    };
    let mut digests: Vec<_> = source.target.digests.into_iter().map(|it| it.0).collect();
    if digests.is_empty() {
        let NamedDigest(named) = source.target.name.0;
        digests.extend(named);
    }
    if !digests.is_empty() {
        // Of an image that was not read from a registry, Grype computes a manifest that no registry has.
        digests.extend(source.target.manifest.0.parse::<Digest>());
    }
    let database = descriptor.database.map(|Known(database)| {
        let status = database.status.map(|status| status.0.built.0);
        [database.built.0, status.flatten()]
    });
    // An SBOM by another program than Syft is an `sbom-file`, or `unknown`. Of one by Syft, Grype takes over the source: it is an
    // `image` with its digests, as of a scan of the image itself, and nothing else in the report tells the two apart.
    let is_sbom = ["sbom-file", "unknown", ""].contains(&&*source.kind.0);
    let is_known = is_sbom || &*source.kind.0 == "image";
    Ok(ReadScan {
        scanner: "grype".into(),
        at: descriptor.timestamp.0,
        database: database.into_iter().flatten().flatten().min(),
        scanned: ScannedArtifact {
            is_sbom,
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

known_fields! {
    pub(super) struct WrittenScan {
        "scanner" => scanner: Known<WrittenScanner>,
        "metadata" => metadata: Known<WrittenTimes>,
        /// The text of cosign's specification has this field, and no program writes it.
        "scanners" => several: IsThere,
        "Metadata" => of_trivy: HoldsSomething,
        "Results" => of_results: HoldsSomething,
        "matches" => matches: HoldsSomething,
        "ignoredMatches" => ignored: HoldsSomething,
        "result" => result: HoldsSomething,
        "results" => results: HoldsSomething,
        "findings" => findings: HoldsSomething,
        "vulnerabilities" => vulnerabilities: HoldsSomething,
        "Vulnerabilities" => capital: HoldsSomething,
    } no lists of AnotherFinding
}

impl WrittenScan {
    /// The scanner, if it is a report as the scanner writes it.
    fn raw(&self) -> Option<RawReport> {
        let Known(scanner) = &self.scanner;
        if !scanner.uri.0.is_empty() || !matches!(scanner.result, ScanResult::Missing) {
            None
        } else if self.of_trivy.0 {
            Some(RawReport::Trivy)
        } else {
            self.matches.0.then_some(RawReport::Grype)
        }
    }

    /// The first key that a scan does not have, and under which another format has findings or metadata.
    fn first_misplaced(&self) -> Option<&'static str> {
        let all = [
            ("Metadata", self.of_trivy),
            ("Results", self.of_results),
            ("matches", self.matches),
            ("ignoredMatches", self.ignored),
            ("result", self.result),
            ("results", self.results),
            ("findings", self.findings),
            ("vulnerabilities", self.vulnerabilities),
            ("Vulnerabilities", self.capital),
        ];
        let mut all = all.into_iter();
        let several = self.several.0.then_some("scanners");
        several.or_else(|| all.find_map(|(name, HoldsSomething(it))| it.then_some(name)))
    }
}

known_fields! {
    /// Keys by which an item is a finding in one of the formats.
    struct AnotherFinding {
        "VulnerabilityID" => _of_trivy: Misplaced,
        "vulnerability" => _of_grype: Misplaced,
        /// The last two are a finding of in-toto together.
        "id" => id: HoldsSomething,
        "severity" => severity: HoldsSomething,
    }
}

impl Telling for AnotherFinding {
    fn is_finding(&self) -> bool {
        self.id.0 && self.severity.0
    }
}

known_fields! {
    struct WrittenScanner {
        "uri" => uri: Text<2048>,
        "db" => database: Option<Known<WrittenDatabase>>,
        "result" => result: ScanResult,
        "results" => _results: Misplaced,
        "findings" => _findings: Misplaced,
        "vulnerabilities" => _vulnerabilities: Misplaced,
        "matches" => _matches: Misplaced,
    } no lists of AnotherFinding
}

known_fields! {
    struct WrittenDatabase {
        "lastUpdate" => last_update: Instant,
    }
}

known_fields! {
    struct WrittenTimes {
        "scanStartedOn" => started: Instant,
        "scanFinishedOn" => finished: Instant,
    }
}
