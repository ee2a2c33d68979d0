//! The value of `scanner.result` → findings: a report of Trivy or Grype, or the list of in-toto's predicate. The text is read once
//! and not kept.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::grype::{GrypeDescriptor, GrypeIgnoredMatch, GrypeMatch, GrypeSource};
use super::severity::VulnerabilitySeverity;
use super::trivy::{TrivyMetadata, TrivyResults};
use super::{MAXIMUM_FINDINGS, VulnerabilityFinding};
use crate::attest::predicate::fields::{
    Gather, Gathered, HoldsSomething, IfObject, Instant, Known, List, Made, Misplaced, OfText,
    ReadFields, Telling, Text, gather, known_fields, read_entries, too_many,
};
use crate::gate::Digest;

/// The most bytes of an id or a name, and of a package URL.
pub(super) const NAME: usize = 512;
pub(super) const PURL: usize = 2048;
/// The most bytes of the name of what was scanned, which can be a path.
pub(super) const REFERENCE: usize = 4096;
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

known_fields! {
    /// A report with the fields of Trivy's and those of Grype's.
    pub(super) struct Report {
        "SchemaVersion" => pub(super) schema: Option<u64>,
        "CreatedAt" => pub(super) created: Instant,
        "ArtifactName" => pub(super) name: Made<NamedDigest, REFERENCE>,
        "ArtifactType" => pub(super) artifact_type: Text<NAME>,
        "Metadata" => pub(super) metadata: Known<TrivyMetadata>,
        "Results" => pub(super) results: Option<Gathered<TrivyResults>>,
        "matches" => pub(super) matches: Option<Gathered<Findings<GrypeMatch>>>,
        "ignoredMatches" => pub(super) ignored: Gathered<Findings<GrypeIgnoredMatch>>,
        "source" => pub(super) source: Option<Known<GrypeSource>>,
        "descriptor" => pub(super) descriptor: Option<Known<GrypeDescriptor>>,
        "Vulnerabilities" => pub(super) vulnerabilities: HoldsSomething,
        "vulnerabilities" => pub(super) listed: HoldsSomething,
        /// Trivy's report of a cluster has this field.
        "Resources" => pub(super) resources: HoldsSomething,
    } no lists of AnotherList
}

known_fields! {
    /// Keys by which an item is a finding of Trivy or Grype, or holds a list of them.
    pub(super) struct AnotherList {
        "VulnerabilityID" => _of_trivy: Misplaced,
        "vulnerability" => _of_grype: Misplaced,
        "Vulnerabilities" => _list: Misplaced,
        "Results" => _results: Misplaced,
    }
}

impl Telling for AnotherList {
    fn is_finding(&self) -> bool {
        false
    }
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
            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<ScanResult, A::Error> {
                let Findings(findings, _) = gather::<Findings<ListedItem>, _>(items)?;
                Ok(ScanResult::List(findings))
            }
            fn visit_unit<E>(self) -> Result<ScanResult, E> {
                Ok(ScanResult::Missing)
            }
        }
        from.deserialize_any(AnyForm)
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

/// The findings of a list.
pub(super) struct Findings<T>(pub(super) Vec<VulnerabilityFinding>, PhantomData<T>);

impl<T> Default for Findings<T> {
    fn default() -> Findings<T> {
        Findings(Vec::new(), PhantomData)
    }
}

impl<'de, T: ReadFields<'de> + IntoFinding> Gather<'de> for Findings<T> {
    type Item = Known<T>;

    fn add<E: de::Error>(&mut self, Known(item): Known<T>) -> Result<(), E> {
        let Some(finding) = item.into_finding().map_err(E::custom)? else {
            return Ok(());
        };
        if self.0.len() == MAXIMUM_FINDINGS {
            return Err(too_many(MAXIMUM_FINDINGS, "findings"));
        }
        self.0.push(finding);
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

/// The digest in the name of an image, if the name has one.
#[derive(Default)]
pub(super) struct NamedDigest(pub(super) Option<Digest>);

impl OfText for NamedDigest {
    fn of(name: &str) -> NamedDigest {
        let digest = name.rsplit_once('@').map(|(_, digest)| digest.parse());
        NamedDigest(digest.and_then(Result::ok))
    }
}

/// An item of in-toto's list. It is a vulnerability, or an object whose field `vulnerability` holds one. In the specification of version
/// 0.1, the list of fields has the second form, and the example has the first. A `vulnerability` that is not an object is ignored.
#[derive(Default)]
struct ListedItem {
    own: ListedVulnerability,
    nested: IfObject<ListedVulnerability>,
}

impl<'de> ReadFields<'de> for ListedItem {
    const NAMES: &'static [&'static str] = &["id", "severity", "vulnerability"];

    fn read<A: MapAccess<'de>>(&mut self, place: usize, entries: &mut A) -> Result<(), A::Error> {
        let name = Self::NAMES.get(place);
        match name.and_then(|name| ListedVulnerability::place(name)) {
            Some(of_own) => self.own.read(of_own, entries)?,
            None => self.nested = entries.next_value()?,
        }
        Ok(())
    }
}

impl IntoFinding for ListedItem {
    fn into_finding(self) -> Result<Option<VulnerabilityFinding>, &'static str> {
        match self.nested.0 {
            None => self.own.into_finding(),
            Some(nested) if self.own.is_empty() => nested.into_finding(),
            Some(_) => Err("a vulnerability has `id` or `severity` beside `vulnerability`"),
        }
    }
}

known_fields! {
    /// A vulnerability of in-toto's list.
    struct ListedVulnerability {
        "id" => id: Text<NAME>,
        "severity" => ratings: List<Known<Rating>, IDS>,
    }
}

impl ListedVulnerability {
    fn is_empty(&self) -> bool {
        self.id.0.is_empty() && self.ratings.0.0.is_empty()
    }
}

impl IntoFinding for ListedVulnerability {
    fn into_finding(self) -> Result<Option<VulnerabilityFinding>, &'static str> {
        if self.id.0.is_empty() {
            return Err("a vulnerability does not have an `id`");
        }
        // The highest of several ratings. One that is not understood makes the severity unknown: it could be the highest.
        let is_rated =
            |Known(it): &Known<Rating>| VulnerabilitySeverity::is_rated(&it.method.0, &it.score.0);
        let ratings = self.ratings.into_iter().filter(is_rated);
        let each = ratings.map(|Known(it)| VulnerabilitySeverity::rated(&it.method.0, &it.score.0));
        let all: Option<Vec<_>> = each.collect();
        Ok(Some(VulnerabilityFinding {
            id: self.id.0,
            aliases: Box::default(),
            package: Box::default(),
            severity: all.and_then(|all| all.into_iter().max()),
            is_fixable: None,
            is_suppressed: false,
        }))
    }
}

known_fields! {
    struct Rating {
        "method" => method: Text<NAME>,
        "score" => score: Score,
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

pub(super) fn ids(ids: impl IntoIterator<Item = Text<NAME>>) -> Box<[Box<str>]> {
    let ids = ids.into_iter().map(|Text(id)| id);
    ids.filter(|id| !id.is_empty()).collect()
}

/// The package URL, or the name with its version.
pub(super) fn package(purl: Text<PURL>, name: &str, version: &str) -> Box<str> {
    match (purl.0.is_empty(), version.is_empty()) {
        (false, _) => purl.0,
        (true, true) => OfText::of(name),
        (true, false) => OfText::of(&format!("{name}@{version}")),
    }
}
