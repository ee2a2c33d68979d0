//! The report of Trivy (`trivy image --format json`, schema 2).

use serde::de;

use super::report::{
    AnotherList, Findings, IDS, ImageDigest, IntoFinding, NAME, NamedDigest, PURL, REFERENCE, ids,
    package,
};
use super::severity::VulnerabilitySeverity;
use super::{MAXIMUM_FINDINGS, VulnerabilityFinding};
use crate::attest::predicate::fields::{
    Borrowed, Gather, Gathered, IsGiven, Known, List, Made, Misplaced, NoListOf, OfText, Text,
    known_fields, too_many,
};

/// All findings of Trivy's `Results`, and the number of those of packages.
#[derive(Default)]
pub(super) struct TrivyResults {
    pub(super) findings: Vec<VulnerabilityFinding>,
    pub(super) targets: usize,
}

impl<'de> Gather<'de> for TrivyResults {
    type Item = Known<TrivyResult<'de>>;

    fn add<E: de::Error>(&mut self, Known(result): Known<TrivyResult<'de>>) -> Result<(), E> {
        self.targets += usize::from(result.is_of_packages());
        let found = result.vulnerabilities.0.0;
        match self.findings.is_empty() {
            // Most of the findings are of one target: they are not copied.
            true => self.findings = found,
            false => self.findings.extend(found),
        }
        let modified = result.modified.0.0.into_iter();
        self.findings
            .extend(modified.map(|finding| VulnerabilityFinding {
                is_suppressed: true,
                ..finding
            }));
        match self.findings.len() > MAXIMUM_FINDINGS {
            true => Err(too_many(MAXIMUM_FINDINGS, "findings")),
            false => Ok(()),
        }
    }
}

/// The most packages of which it is checked that they hold no findings. Trivy lists all packages that it looked at, which can be the
/// larger part of a report.
pub(super) const PACKAGES: usize = 256;

known_fields! {
    pub(super) struct TrivyResult<'de> {
        "Class" => class: Text<NAME>,
        "Vulnerabilities" => vulnerabilities: Gathered<Findings<TrivyVulnerability<'de>>>,
        "ExperimentalModifiedFindings" => modified: Gathered<Findings<TrivyModified<'de>>>,
        "Results" => _results: Misplaced,
        "Packages" => _packages: NoListOf<AnotherList, PACKAGES>,
    } no lists of AnotherList
}

impl TrivyResult<'_> {
    /// Whether packages were looked at: the class is `os-pkgs` or `lang-pkgs`. Others are of secrets, licences and misconfigurations.
    fn is_of_packages(&self) -> bool {
        self.class.0.is_empty() || self.class.0.ends_with("-pkgs")
    }
}

known_fields! {
    struct TrivyVulnerability<'de> {
        "VulnerabilityID" => id: Text<NAME>,
        "VendorIDs" => vendor_ids: List<Text<NAME>, IDS>,
        "PkgName" => package: Borrowed<'de, NAME>,
        "PkgIdentifier" => identifier: Known<TrivyIdentifier>,
        "InstalledVersion" => installed: Borrowed<'de, NAME>,
        "FixedVersion" => fixed: IsGiven,
        "Status" => status: Made<IsFixed, NAME>,
        "Severity" => severity: Made<Option<VulnerabilitySeverity>, NAME>,
    }
}

/// Whether the status of a vulnerability is `fixed`.
#[derive(Default)]
struct IsFixed(bool);

impl OfText for IsFixed {
    fn of(status: &str) -> IsFixed {
        IsFixed(status.eq_ignore_ascii_case("fixed"))
    }
}

impl IntoFinding for TrivyVulnerability<'_> {
    fn into_finding(self) -> Result<Option<VulnerabilityFinding>, &'static str> {
        if self.id.0.is_empty() {
            return Err("a vulnerability does not have a `VulnerabilityID`");
        }
        let Made(IsFixed(is_fixed)) = self.status;
        Ok(Some(VulnerabilityFinding {
            id: self.id.0,
            aliases: ids(self.vendor_ids),
            package: package(self.identifier.0.purl, &self.package.0, &self.installed.0),
            severity: self.severity.0,
            is_fixable: Some(is_fixed || self.fixed.0),
            is_suppressed: false,
        }))
    }
}

known_fields! {
    struct TrivyIdentifier {
        "PURL" => purl: Text<PURL>,
    }
}

known_fields! {
    /// A finding that a VEX document or an ignore file of the scanner suppressed: of a vulnerability, or of something else.
    struct TrivyModified<'de> {
        "Finding" => finding: Option<Known<TrivyVulnerability<'de>>>,
    }
}

impl IntoFinding for TrivyModified<'_> {
    fn into_finding(self) -> Result<Option<VulnerabilityFinding>, &'static str> {
        match self.finding {
            Some(Known(finding)) if !finding.id.0.is_empty() => finding.into_finding(),
            _ => Ok(None),
        }
    }
}

known_fields! {
    pub(super) struct TrivyMetadata {
        "RepoDigests" => pub(super) digests: List<ImageDigest, IDS>,
        "Reference" => pub(super) reference: Made<NamedDigest, REFERENCE>,
    }
}
