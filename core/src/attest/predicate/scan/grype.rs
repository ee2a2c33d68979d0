//! The report of Grype (`grype --output json`).

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::report::{
    IDS, ImageDigest, IntoFinding, NAME, NamedDigest, PURL, REFERENCE, ids, package,
};
use super::severity::VulnerabilitySeverity;
use super::{MAXIMUM_FINDINGS, VulnerabilityFinding};
use crate::attest::predicate::fields::{
    Instant, Known, List, Made, ReadFields, Text, known_fields, read_entries,
};

known_fields! {
    pub(super) struct GrypeMatch {
        "vulnerability" => vulnerability: Known<GrypeVulnerability>,
        "relatedVulnerabilities" => related: List<Known<GrypeVulnerability>, IDS>,
        "artifact" => artifact: Known<GrypeArtifact>,
    }
}

impl IntoFinding for GrypeMatch {
    fn into_finding(self) -> Result<Option<VulnerabilityFinding>, &'static str> {
        let (Known(found), Known(artifact)) = (self.vulnerability, self.artifact);
        if found.id.0.is_empty() {
            return Err("a match does not have a `vulnerability.id`");
        }
        let related = self.related.into_iter().map(|Known(it)| it.id);
        Ok(Some(VulnerabilityFinding {
            id: found.id.0,
            aliases: ids(related),
            package: package(artifact.purl, &artifact.name.0, &artifact.version.0),
            severity: found.severity.0,
            is_fixable: found.fix.0.is_fixable(),
            is_suppressed: false,
        }))
    }
}

/// What Grype ignores unless it is told not to: the vulnerabilities of the Linux kernel in packages with its headers, which do not
/// run. The name of the package, the name of its source and the type of each of its rules, of all versions.
const KERNEL_HEADERS: [[&str; 3]; 6] = [
    ["kernel-headers", "kernel", "rpm"],
    ["linux(-.*)?-headers-.*", "linux.*", "deb"],
    ["linux-headers-.*", "linux", "deb"],
    ["linux-headers-.*", "linux.*", "deb"],
    ["linux-libc-dev", "linux", "deb"],
    ["linux-kbuild-.*", "linux.*", "deb"],
];

/// A match that a rule of Grype's configuration or a VEX document suppressed.
#[derive(Default)]
pub(super) struct GrypeIgnoredMatch {
    found: GrypeMatch,
    rules: List<Known<GrypeIgnoreRule>, IDS>,
}

impl<'de> ReadFields<'de> for GrypeIgnoredMatch {
    const NAMES: &'static [&'static str] = &[
        "vulnerability",
        "relatedVulnerabilities",
        "artifact",
        "appliedIgnoreRules",
    ];

    fn read<A: MapAccess<'de>>(&mut self, place: usize, entries: &mut A) -> Result<(), A::Error> {
        let name = Self::NAMES.get(place);
        match name.and_then(|name| GrypeMatch::place(name)) {
            Some(of_match) => self.found.read(of_match, entries)?,
            None => self.rules = entries.next_value()?,
        }
        Ok(())
    }
}

impl IntoFinding for GrypeIgnoredMatch {
    fn into_finding(self) -> Result<Option<VulnerabilityFinding>, &'static str> {
        let mut rules = self.rules.into_iter();
        if rules.any(|Known(rule)| rule.is_of_kernel_headers()) {
            return Ok(None);
        }
        let found = self.found.into_finding()?;
        Ok(found.map(|finding| VulnerabilityFinding {
            is_suppressed: true,
            ..finding
        }))
    }
}

known_fields! {
    /// A rule that ignores a match which meets all of its conditions.
    struct GrypeIgnoreRule {
        "package" => package: Option<Known<GrypeIgnoredPackage>>,
        "match-type" => match_type: Text<NAME>,
    }
}

impl GrypeIgnoreRule {
    /// Whether it is one of Grype's own. More conditions would only make it narrower.
    fn is_of_kernel_headers(&self) -> bool {
        self.package.as_ref().is_some_and(|Known(package)| {
            let rule = [&*package.name.0, &*package.upstream.0, &*package.kind.0];
            &*self.match_type.0 == "exact-indirect-match" && KERNEL_HEADERS.contains(&rule)
        })
    }
}

known_fields! {
    struct GrypeIgnoredPackage {
        "name" => name: Text<NAME>,
        "upstream-name" => upstream: Text<NAME>,
        "type" => kind: Text<NAME>,
    }
}

known_fields! {
    struct GrypeVulnerability {
        "id" => id: Text<NAME>,
        "severity" => severity: Made<Option<VulnerabilitySeverity>, NAME>,
        "fix" => fix: Known<GrypeFix>,
    }
}

known_fields! {
    struct GrypeFix {
        "state" => state: Text<NAME>,
        "versions" => versions: List<IgnoredAny, MAXIMUM_FINDINGS>,
    }
}

/// The states of a vulnerability without a fixed version. `unknown`, which Grype writes where its database does not say whether a fix
/// exists, is none of them.
const NOT_FIXED: [&str; 2] = ["not-fixed", "wont-fix"];

impl GrypeFix {
    /// Whether a fixed version exists; `None` where the report does not say it.
    fn is_fixable(&self) -> Option<bool> {
        let is = |state: &str| self.state.0.eq_ignore_ascii_case(state);
        if !self.versions.0.0.is_empty() || is("fixed") {
            return Some(true);
        }
        NOT_FIXED.into_iter().any(is).then_some(false)
    }
}

known_fields! {
    struct GrypeArtifact {
        "name" => name: Text<NAME>,
        "version" => version: Text<NAME>,
        "purl" => purl: Text<PURL>,
    }
}

known_fields! {
    pub(super) struct GrypeSource {
        "type" => pub(super) kind: Text<NAME>,
        "target" => pub(super) target: GrypeTarget,
    }
}

known_fields! {
    /// What was scanned: the digests of an image; empty for everything else.
    pub(super) struct GrypeTarget {
        "repoDigests" => pub(super) digests: List<ImageDigest, IDS>,
        "userInput" => pub(super) name: Made<NamedDigest, REFERENCE>,
        "manifestDigest" => pub(super) manifest: Text<NAME>,
    }
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

known_fields! {
    pub(super) struct GrypeDescriptor {
        "name" => pub(super) name: Text<NAME>,
        "timestamp" => pub(super) timestamp: Instant,
        "db" => pub(super) database: Option<Known<GrypeDatabase>>,
    }
}

known_fields! {
    /// When the database was built: at the top (versions before 0.88) or under `status`.
    pub(super) struct GrypeDatabase {
        "built" => pub(super) built: Instant,
        "status" => pub(super) status: Option<Box<Known<GrypeDatabase>>>,
    }
}
