//! The value of `scanner.result` → findings: a report of Trivy or Grype, or the list of in-toto's predicate. The text is read once
//! and not kept.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::grype::{GrypeDescriptor, GrypeMatch, GrypeSource};
use super::severity::VulnerabilitySeverity;
use super::trivy::{TrivyMetadata, TrivyResults};
use super::{MAXIMUM_FINDINGS, VulnerabilityFinding};
use crate::attest::predicate::fields::{
    Instant, Known, List, ReadFields, Text, read_entries, too_many,
};
use crate::gate::Digest;

/// The most bytes of an id or a name, and of a package URL.
pub(super) const NAME: usize = 512;
pub(super) const PURL: usize = 2048;
/// The most ids of one vulnerability, and the most digests of one image.
pub(super) const IDS: usize = 256;

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
pub(super) trait IntoFinding {
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

/// The digest of a reference such as `registry.example/app@sha256:…`.
pub(super) struct ImageDigest(pub(super) Digest);

impl<'de> Deserialize<'de> for ImageDigest {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<ImageDigest, D::Error> {
        let Text(text) = Text::<PURL>::deserialize(from)?;
        let digest = text.rsplit_once('@').map_or(&*text, |(_, digest)| digest);
        digest.parse().map(ImageDigest).map_err(de::Error::custom)
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

pub(super) fn ids<const MOST: usize>(ids: List<Text<NAME>, MOST>) -> Box<[Box<str>]> {
    let ids = ids.0.into_iter().map(|Text(id)| id);
    ids.filter(|id| !id.is_empty()).collect()
}

/// The package URL, or the name with its version.
pub(super) fn package(purl: Text<PURL>, name: &Text<NAME>, version: &Text<NAME>) -> Box<str> {
    match (purl.0.is_empty(), version.0.is_empty()) {
        (false, _) => purl.0,
        (true, true) => name.0.clone(),
        (true, false) => format!("{}@{}", name.0, version.0).into(),
    }
}
