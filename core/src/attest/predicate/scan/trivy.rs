//! The report of Trivy (`trivy image --format json`, schema 2).

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::report::{Findings, IDS, ImageDigest, IntoFinding, NAME, PURL, ids, package};
use super::severity::VulnerabilitySeverity;
use super::{MAXIMUM_FINDINGS, VulnerabilityFinding};
use crate::attest::predicate::fields::{IsGiven, Known, List, ReadFields, Text, too_many};

/// All findings of Trivy's `Results`, and the number of these.
#[derive(Default)]
pub(super) struct TrivyResults {
    pub(super) findings: Vec<VulnerabilityFinding>,
    pub(super) targets: usize,
}

impl<'de> Deserialize<'de> for TrivyResults {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<TrivyResults, D::Error> {
        struct Results;
        impl<'de> Visitor<'de> for Results {
            type Value = TrivyResults;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of results")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<TrivyResults, A::Error> {
                let mut all = TrivyResults::default();
                while let Some(Known(result)) = items.next_element::<Known<TrivyResult>>()? {
                    all.targets += 1;
                    all.findings.extend(result.vulnerabilities.0);
                    let modified = result.modified.0.into_iter();
                    all.findings
                        .extend(modified.map(|finding| VulnerabilityFinding {
                            is_suppressed: true,
                            ..finding
                        }));
                    if all.findings.len() > MAXIMUM_FINDINGS {
                        return Err(too_many(MAXIMUM_FINDINGS, "findings"));
                    }
                }
                Ok(all)
            }
        }
        from.deserialize_any(Results)
    }
}

#[derive(Default)]
struct TrivyResult {
    vulnerabilities: Findings<Known<TrivyVulnerability>>,
    modified: Findings<Known<TrivyModified>>,
}

impl ReadFields for TrivyResult {
    const NAMES: &'static [&'static str] = &["Vulnerabilities", "ExperimentalModifiedFindings"];

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        entries: &mut A,
    ) -> Result<(), A::Error> {
        match name {
            "Vulnerabilities" => self.vulnerabilities = entries.next_value()?,
            _ => self.modified = entries.next_value()?,
        }
        Ok(())
    }
}

#[derive(Default)]
struct TrivyVulnerability {
    id: Text<NAME>,
    vendor_ids: List<Text<NAME>, IDS>,
    package: Text<NAME>,
    identifier: Known<TrivyIdentifier>,
    installed: Text<NAME>,
    fixed: IsGiven,
    status: Text<NAME>,
    severity: Text<NAME>,
}

impl ReadFields for TrivyVulnerability {
    const NAMES: &'static [&'static str] = &[
        "VulnerabilityID",
        "VendorIDs",
        "PkgName",
        "PkgIdentifier",
        "InstalledVersion",
        "FixedVersion",
        "Status",
        "Severity",
    ];

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        entries: &mut A,
    ) -> Result<(), A::Error> {
        match name {
            "VulnerabilityID" => self.id = entries.next_value()?,
            "VendorIDs" => self.vendor_ids = entries.next_value()?,
            "PkgName" => self.package = entries.next_value()?,
            "PkgIdentifier" => self.identifier = entries.next_value()?,
            "InstalledVersion" => self.installed = entries.next_value()?,
            "FixedVersion" => self.fixed = entries.next_value()?,
            "Status" => self.status = entries.next_value()?,
            _ => self.severity = entries.next_value()?,
        }
        Ok(())
    }
}

impl IntoFinding for Known<TrivyVulnerability> {
    fn into_finding(self) -> Result<Option<VulnerabilityFinding>, &'static str> {
        let Known(it) = self;
        if it.id.0.is_empty() {
            return Err("a vulnerability does not have a `VulnerabilityID`");
        }
        let is_fixed = it.fixed.0 || it.status.0.eq_ignore_ascii_case("fixed");
        Ok(Some(VulnerabilityFinding {
            id: it.id.0,
            aliases: ids(it.vendor_ids),
            package: package(it.identifier.0.purl, &it.package, &it.installed),
            severity: VulnerabilitySeverity::named(&it.severity.0),
            is_fixable: Some(is_fixed),
            is_suppressed: false,
        }))
    }
}

#[derive(Default)]
struct TrivyIdentifier {
    purl: Text<PURL>,
}

impl ReadFields for TrivyIdentifier {
    const NAMES: &'static [&'static str] = &["PURL"];

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        _: &'static str,
        entries: &mut A,
    ) -> Result<(), A::Error> {
        self.purl = entries.next_value()?;
        Ok(())
    }
}

/// A finding that a VEX document or an ignore file of the scanner suppressed: of a vulnerability, or of something else.
#[derive(Default)]
struct TrivyModified {
    finding: Option<Known<TrivyVulnerability>>,
}

impl ReadFields for TrivyModified {
    const NAMES: &'static [&'static str] = &["Finding"];

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        _: &'static str,
        entries: &mut A,
    ) -> Result<(), A::Error> {
        self.finding = entries.next_value()?;
        Ok(())
    }
}

impl IntoFinding for Known<TrivyModified> {
    fn into_finding(self) -> Result<Option<VulnerabilityFinding>, &'static str> {
        match self.0.finding {
            Some(finding) if !finding.0.id.0.is_empty() => finding.into_finding(),
            _ => Ok(None),
        }
    }
}

#[derive(Default)]
pub(super) struct TrivyMetadata {
    pub(super) digests: List<ImageDigest, IDS>,
}

impl ReadFields for TrivyMetadata {
    const NAMES: &'static [&'static str] = &["RepoDigests"];

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        _: &'static str,
        entries: &mut A,
    ) -> Result<(), A::Error> {
        self.digests = entries.next_value()?;
        Ok(())
    }
}
