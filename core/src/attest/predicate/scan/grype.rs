//! The report of Grype (`grype --output json`).

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::report::{IDS, ImageDigest, IntoFinding, NAME, PURL, ids, package};
use super::severity::VulnerabilitySeverity;
use super::{MAXIMUM_FINDINGS, VulnerabilityFinding};
use crate::attest::predicate::fields::{Instant, Known, List, ReadFields, Text, read_entries};

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
