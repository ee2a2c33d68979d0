//! The reports of Trivy and Grype, and the list of in-toto's predicate → findings. The text is read once and not kept.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::severity::VulnerabilitySeverity;
use super::{MAXIMUM_FINDINGS, VulnerabilityFinding};
use crate::attest::predicate::fields::{
    Instant, IsGiven, Known, List, ReadFields, Text, read_entries, too_many,
};
use crate::gate::Digest;

/// The most bytes of an id or a name, and of a package URL.
const NAME: usize = 512;
const PURL: usize = 2048;
/// The most ids of one vulnerability, and the most digests of one image.
const IDS: usize = 256;

/// What a scanner found: the value of `scanner.result`.
#[derive(Default)]
pub(super) enum ScanResult {
    /// `null`, or no such field.
    #[default]
    Missing,
    /// The report of a scanner, as it writes it.
    Report(Box<Report>),
    /// The list of in-toto's predicate.
    List(Vec<VulnerabilityFinding>),
}

/// A report with the fields of Trivy's and those of Grype's.
#[derive(Default)]
pub(super) struct Report {
    pub(super) schema: Option<u64>,
    pub(super) created: Instant,
    pub(super) artifact_type: Text<NAME>,
    pub(super) metadata: Known<TrivyMetadata>,
    pub(super) results: Option<TrivyResults>,
    pub(super) matches: Option<Findings<GrypeMatch>>,
    pub(super) ignored: Findings<GrypeMatch>,
    pub(super) source: Option<Known<GrypeSource>>,
    pub(super) descriptor: Option<Known<GrypeDescriptor>>,
}

impl<'de> Deserialize<'de> for ScanResult {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<ScanResult, D::Error> {
        struct AnyForm;
        impl<'de> Visitor<'de> for AnyForm {
            type Value = ScanResult;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a report or a list of vulnerabilities")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<ScanResult, A::Error> {
                read_entries(&mut entries).map(|report| ScanResult::Report(Box::new(report)))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<ScanResult, A::Error> {
                let mut findings = Vec::new();
                add_findings::<Known<ListedVulnerability>, _>(&mut findings, &mut items)?;
                Ok(ScanResult::List(findings))
            }
            fn visit_unit<E>(self) -> Result<ScanResult, E> {
                Ok(ScanResult::Missing)
            }
        }
        from.deserialize_any(AnyForm)
    }
}

impl ReadFields for Report {
    const NAMES: &'static [&'static str] = &[
        "SchemaVersion",
        "CreatedAt",
        "ArtifactType",
        "Metadata",
        "Results",
        "matches",
        "ignoredMatches",
        "source",
        "descriptor",
    ];

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        entries: &mut A,
    ) -> Result<(), A::Error> {
        match name {
            "SchemaVersion" => self.schema = Some(entries.next_value()?),
            "CreatedAt" => self.created = entries.next_value()?,
            "ArtifactType" => self.artifact_type = entries.next_value()?,
            "Metadata" => self.metadata = entries.next_value()?,
            "Results" => self.results = entries.next_value()?,
            "matches" => self.matches = Some(entries.next_value()?),
            "ignoredMatches" => self.ignored = entries.next_value()?,
            "source" => self.source = entries.next_value()?,
            _ => self.descriptor = entries.next_value()?,
        }
        Ok(())
    }
}

/// A vulnerability in the form of one of the formats.
trait IntoFinding {
    /// The finding; `None` if the item is not about a vulnerability.
    ///
    /// # Errors
    /// Why the item cannot be understood.
    fn into_finding(self) -> Result<Option<VulnerabilityFinding>, &'static str>;
}

/// Adds the findings of a list, as long as there are not more than [`MAXIMUM_FINDINGS`].
fn add_findings<'de, T: Deserialize<'de> + IntoFinding, A: SeqAccess<'de>>(
    findings: &mut Vec<VulnerabilityFinding>,
    items: &mut A,
) -> Result<(), A::Error> {
    while let Some(item) = items.next_element::<T>()? {
        let Some(finding) = item.into_finding().map_err(de::Error::custom)? else {
            continue;
        };
        if findings.len() == MAXIMUM_FINDINGS {
            return Err(too_many(MAXIMUM_FINDINGS, "findings"));
        }
        findings.push(finding);
    }
    Ok(())
}

/// The findings of a list. `null` is an empty list.
pub(super) struct Findings<T>(pub(super) Vec<VulnerabilityFinding>, PhantomData<T>);

impl<T> Default for Findings<T> {
    fn default() -> Findings<T> {
        Findings(Vec::new(), PhantomData)
    }
}

impl<'de, T: Deserialize<'de> + IntoFinding> Deserialize<'de> for Findings<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Findings<T>, D::Error> {
        struct Items<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + IntoFinding> Visitor<'de> for Items<T> {
            type Value = Findings<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of vulnerabilities")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Findings<T>, A::Error> {
                let mut findings = Findings::default();
                add_findings::<T, _>(&mut findings.0, &mut items)?;
                Ok(findings)
            }
            fn visit_unit<E>(self) -> Result<Findings<T>, E> {
                Ok(Findings::default())
            }
        }
        from.deserialize_any(Items(PhantomData))
    }
}

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

/// The digest of a reference such as `registry.example/app@sha256:…`.
pub(super) struct ImageDigest(pub(super) Digest);

impl<'de> Deserialize<'de> for ImageDigest {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<ImageDigest, D::Error> {
        let Text(text) = Text::<PURL>::deserialize(from)?;
        let digest = text.rsplit_once('@').map_or(&*text, |(_, digest)| digest);
        digest.parse().map(ImageDigest).map_err(de::Error::custom)
    }
}

#[derive(Default)]
pub(super) struct GrypeMatch {
    vulnerability: Known<GrypeVulnerability>,
    related: List<Known<GrypeVulnerability>, IDS>,
    artifact: Known<GrypeArtifact>,
}

impl<'de> Deserialize<'de> for GrypeMatch {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<GrypeMatch, D::Error> {
        Known::deserialize(from).map(|Known(it)| it)
    }
}

impl ReadFields for GrypeMatch {
    const NAMES: &'static [&'static str] = &["vulnerability", "relatedVulnerabilities", "artifact"];

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        entries: &mut A,
    ) -> Result<(), A::Error> {
        match name {
            "vulnerability" => self.vulnerability = entries.next_value()?,
            "relatedVulnerabilities" => self.related = entries.next_value()?,
            _ => self.artifact = entries.next_value()?,
        }
        Ok(())
    }
}

impl IntoFinding for GrypeMatch {
    fn into_finding(self) -> Result<Option<VulnerabilityFinding>, &'static str> {
        let (Known(found), Known(artifact)) = (self.vulnerability, self.artifact);
        if found.id.0.is_empty() {
            return Err("a match does not have a `vulnerability.id`");
        }
        let related = self.related.0.into_iter().map(|Known(it)| it.id);
        Ok(Some(VulnerabilityFinding {
            id: found.id.0,
            aliases: ids(List::<_, IDS>(related.collect())),
            package: package(artifact.purl, &artifact.name, &artifact.version),
            severity: VulnerabilitySeverity::named(&found.severity.0),
            is_fixable: Some(found.fix.0.is_fixed()),
            is_suppressed: false,
        }))
    }
}

#[derive(Default)]
struct GrypeVulnerability {
    id: Text<NAME>,
    severity: Text<NAME>,
    fix: Known<GrypeFix>,
}

impl ReadFields for GrypeVulnerability {
    const NAMES: &'static [&'static str] = &["id", "severity", "fix"];

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        entries: &mut A,
    ) -> Result<(), A::Error> {
        match name {
            "id" => self.id = entries.next_value()?,
            "severity" => self.severity = entries.next_value()?,
            _ => self.fix = entries.next_value()?,
        }
        Ok(())
    }
}

#[derive(Default)]
struct GrypeFix {
    state: Text<NAME>,
    has_versions: bool,
}

impl GrypeFix {
    fn is_fixed(&self) -> bool {
        self.has_versions || self.state.0.eq_ignore_ascii_case("fixed")
    }
}

impl ReadFields for GrypeFix {
    const NAMES: &'static [&'static str] = &["state", "versions"];

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        entries: &mut A,
    ) -> Result<(), A::Error> {
        match name {
            "state" => self.state = entries.next_value()?,
            _ => {
                let List(versions) = entries.next_value::<List<IgnoredAny, MAXIMUM_FINDINGS>>()?;
                self.has_versions = !versions.is_empty();
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct GrypeArtifact {
    name: Text<NAME>,
    version: Text<NAME>,
    purl: Text<PURL>,
}

impl ReadFields for GrypeArtifact {
    const NAMES: &'static [&'static str] = &["name", "version", "purl"];

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        entries: &mut A,
    ) -> Result<(), A::Error> {
        match name {
            "name" => self.name = entries.next_value()?,
            "version" => self.version = entries.next_value()?,
            _ => self.purl = entries.next_value()?,
        }
        Ok(())
    }
}

#[derive(Default)]
pub(super) struct GrypeSource {
    pub(super) kind: Text<NAME>,
    pub(super) target: GrypeTarget,
}

impl ReadFields for GrypeSource {
    const NAMES: &'static [&'static str] = &["type", "target"];

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        entries: &mut A,
    ) -> Result<(), A::Error> {
        match name {
            "type" => self.kind = entries.next_value()?,
            _ => self.target = entries.next_value()?,
        }
        Ok(())
    }
}

/// What was scanned: the digests of an image; empty for everything else.
#[derive(Default)]
pub(super) struct GrypeTarget {
    pub(super) digests: List<ImageDigest, IDS>,
    pub(super) manifest: Text<NAME>,
}

impl<'de> Deserialize<'de> for GrypeTarget {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<GrypeTarget, D::Error> {
        struct AnyForm;
        impl<'de> Visitor<'de> for AnyForm {
            type Value = GrypeTarget;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an image or a path")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<GrypeTarget, A::Error> {
                read_entries(&mut entries)
            }
            fn visit_str<E>(self, _: &str) -> Result<GrypeTarget, E> {
                Ok(GrypeTarget::default())
            }
            fn visit_unit<E>(self) -> Result<GrypeTarget, E> {
                Ok(GrypeTarget::default())
            }
        }
        from.deserialize_any(AnyForm)
    }
}

impl ReadFields for GrypeTarget {
    const NAMES: &'static [&'static str] = &["repoDigests", "manifestDigest"];

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        entries: &mut A,
    ) -> Result<(), A::Error> {
        match name {
            "repoDigests" => self.digests = entries.next_value()?,
            _ => self.manifest = entries.next_value()?,
        }
        Ok(())
    }
}

#[derive(Default)]
pub(super) struct GrypeDescriptor {
    pub(super) name: Text<NAME>,
    pub(super) timestamp: Instant,
    pub(super) database: Option<Known<GrypeDatabase>>,
}

impl ReadFields for GrypeDescriptor {
    const NAMES: &'static [&'static str] = &["name", "timestamp", "db"];

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        entries: &mut A,
    ) -> Result<(), A::Error> {
        match name {
            "name" => self.name = entries.next_value()?,
            "timestamp" => self.timestamp = entries.next_value()?,
            _ => self.database = entries.next_value()?,
        }
        Ok(())
    }
}

/// When the database was built: at the top (versions before 0.88) or under `status`.
#[derive(Default)]
pub(super) struct GrypeDatabase {
    pub(super) built: Instant,
    pub(super) status: Option<Box<Known<GrypeDatabase>>>,
}

impl ReadFields for GrypeDatabase {
    const NAMES: &'static [&'static str] = &["built", "status"];

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        entries: &mut A,
    ) -> Result<(), A::Error> {
        match name {
            "built" => self.built = entries.next_value()?,
            _ => self.status = entries.next_value()?,
        }
        Ok(())
    }
}

/// A vulnerability of in-toto's list.
#[derive(Default)]
struct ListedVulnerability {
    id: Text<NAME>,
    ratings: List<Known<Rating>, IDS>,
}

impl ReadFields for ListedVulnerability {
    const NAMES: &'static [&'static str] = &["id", "severity"];

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        entries: &mut A,
    ) -> Result<(), A::Error> {
        match name {
            "id" => self.id = entries.next_value()?,
            _ => self.ratings = entries.next_value()?,
        }
        Ok(())
    }
}

impl IntoFinding for Known<ListedVulnerability> {
    fn into_finding(self) -> Result<Option<VulnerabilityFinding>, &'static str> {
        let Known(it) = self;
        if it.id.0.is_empty() {
            return Err("a vulnerability does not have an `id`");
        }
        // The highest of several ratings. One that is not understood makes the severity unknown: it could be the highest.
        let ratings = it.ratings.0.iter();
        let each = ratings.map(|Known(it)| VulnerabilitySeverity::rated(&it.method.0, &it.score.0));
        let all: Option<Vec<_>> = each.collect();
        Ok(Some(VulnerabilityFinding {
            id: it.id.0,
            aliases: Box::default(),
            package: Box::default(),
            severity: all.and_then(|all| all.into_iter().max()),
            is_fixable: None,
            is_suppressed: false,
        }))
    }
}

#[derive(Default)]
struct Rating {
    method: Text<NAME>,
    score: Score,
}

impl ReadFields for Rating {
    const NAMES: &'static [&'static str] = &["method", "score"];

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        entries: &mut A,
    ) -> Result<(), A::Error> {
        match name {
            "method" => self.method = entries.next_value()?,
            _ => self.score = entries.next_value()?,
        }
        Ok(())
    }
}

/// A score: a text, as the format says, or a number, as some write it.
#[derive(Default)]
struct Score(Box<str>);

impl<'de> Deserialize<'de> for Score {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Score, D::Error> {
        struct AnyForm;
        impl Visitor<'_> for AnyForm {
            type Value = Score;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a score")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Score, E> {
                match text.len() > NAME {
                    true => Err(E::invalid_length(text.len(), &self)),
                    false => Ok(Score(text.into())),
                }
            }
            fn visit_u64<E>(self, number: u64) -> Result<Score, E> {
                Ok(Score(number.to_string().into()))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Score, E> {
                Ok(Score(number.to_string().into()))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Score, E> {
                Ok(Score(number.to_string().into()))
            }
        }
        from.deserialize_any(AnyForm)
    }
}

fn ids<const MOST: usize>(ids: List<Text<NAME>, MOST>) -> Box<[Box<str>]> {
    let ids = ids.0.into_iter().map(|Text(id)| id);
    ids.filter(|id| !id.is_empty()).collect()
}

/// The package URL, or the name with its version.
fn package(purl: Text<PURL>, name: &Text<NAME>, version: &Text<NAME>) -> Box<str> {
    match (purl.0.is_empty(), version.0.is_empty()) {
        (false, _) => purl.0,
        (true, true) => name.0.clone(),
        (true, false) => format!("{}@{}", name.0, version.0).into(),
    }
}
