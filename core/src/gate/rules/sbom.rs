//! `sbom`: a signed software bill of materials without a denied package.

use std::collections::BTreeSet;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::check::{
    NOT_TRANSPARENT_ENOUGH, SIGNED_IN_THE_FUTURE, in_time, listed, readable, unless_partial,
};
use super::{
    Class, Effect, Entry, EvidenceUse, ImageCheck, ImageRule, Judgement, Needs, Rule, Scope, World,
};
use crate::attest::VerifiedStatement;
use crate::attest::predicate::{PackageUrl, Predicate, SbomFormat, SoftwareBill, is_sbom};
use crate::attest::unaccepted::TOO_LARGE;
use crate::gate::evidence::{Form, ImageEvidence};
use crate::gate::finding::Outcome;
use crate::gate::glob::Glob;
use crate::gate::signer::{AcceptedSigner, Mismatch};
use crate::reason::{Reason, reasons};

/// **What it requires**: the image carries a software bill of materials (SBOM) by an accepted signer: SPDX 2.2, 2.3 or 3.0, or
/// CycloneDX 1.2 to 1.7, in JSON, as an attestation of this digest (predicate types `https://spdx.dev/Document` and
/// `https://cyclonedx.org/bom`, with or without a version). It lists at least one package, and no package that `denied` matches.
/// Every SBOM by an accepted signer counts, whatever its format.
///
/// A pattern of `denied` is compared with the package URL of each package, decoded, in lower case and without qualifiers. Without
/// `@VERSION` it matches every version. `*` stays within a part of the name, `**` crosses parts. A package without a package URL
/// is not matched.
///
/// An SBOM proves nothing about where an image comes from: require `signature` or `provenance` too. It does not say which packages
/// are vulnerable: `vulnerabilities` does, also with a scan of the SBOM.
///
/// **Why**: when a package turns out to be harmful, an SBOM of everything that runs answers where it is. A package that must never
/// run can be denied by name.
///
/// **Example**:
/// `- sbom: {formats: [spdx, cyclonedx], signedBy: {keyless: {issuer: "https://token.actions.githubusercontent.com", identity: {glob: "https://github.com/example/*/.github/workflows/release.yml@refs/tags/v*"}}}, denied: ["pkg:npm/event-stream@3.3.6", "pkg:maven/log4j/**"]}`
///
/// **How to satisfy it**: `syft IMAGE@DIGEST --output spdx-json=sbom.json`, then
/// `cosign attest --type spdxjson --predicate sbom.json IMAGE@DIGEST`; or `--output cyclonedx-json` and `--type cyclonedx`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sbom {
    /// The signer of the SBOMs.
    #[schemars(extend("x-kubernetes-validations" = [
        {"rule": "has(self.keyless) != has(self.key)", "message": "expected exactly one of `keyless` and `key`"},
    ]))]
    pub signed_by: AcceptedSigner,
    /// Accepted formats; all when absent.
    #[schemars(length(min = 1))]
    pub formats: Option<Vec<SbomFormat>>,
    /// Packages that the image must not contain.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    pub denied: Vec<PackagePattern>,
    /// Accept an SBOM that does not list a package.
    #[serde(default)]
    pub accept_empty: bool,
}

/// The most patterns of one entry.
const MAXIMUM_PATTERNS: usize = 1000;

reasons! {
    OF_THIS_RULE:
    SBOM_PRESENT = "sbom-present", "The image carries an SBOM by an accepted signer, and no package is denied.", "";
    NO_SBOM = "no-sbom",
        "The image does not carry an SBOM.",
        "`syft IMAGE@DIGEST --output spdx-json=sbom.json`, then `cosign attest --type spdxjson --predicate sbom.json IMAGE@DIGEST`. `cosign attach sbom` does not sign, so it does not count.";
    SBOM_UNACCEPTED = "sbom-unaccepted",
        "Something that may be an SBOM is attached to the image, but it could not be verified. The detail says why.",
        "`promotion-gate evidence IMAGE` shows everything attached and why it is not accepted; `promotion-gate explain REASON` explains a reason.";
    SBOM_SIGNER_NOT_ACCEPTED = "sbom-signer-not-accepted",
        "The image carries an SBOM, but the policy does not accept its signer.",
        "Attest the SBOM with an accepted signer, or ask for the signer to be added to the policy.";
    SBOM_UNREADABLE = "sbom-unreadable",
        "An accepted signer has signed an SBOM that this version cannot read. It could list a denied package.",
        "Write the SBOM in a version and format that the documentation of `sbom` names. `cosign attest --type spdx` attests the tag-value form; use `spdxjson`.";
    SBOM_FORMAT_NOT_ACCEPTED = "sbom-format-not-accepted",
        "The image carries an SBOM, but the policy does not accept its format.",
        "Write the SBOM in an accepted format.";
    SBOM_EMPTY = "sbom-empty",
        "The SBOM does not list a package.",
        "Check that the tool supports the image. If the image has no packages, ask for `acceptEmpty: true` in the policy.";
    PACKAGE_DENIED = "package-denied",
        "The image contains a package that the policy denies.",
        "Build the image without the package.";
}

impl Entry for Sbom {
    const REASONS: &'static [Reason] = OF_THIS_RULE;
    const EVIDENCE: Option<EvidenceUse> = Some(EvidenceUse {
        covers: false,
        per_platform: true,
        effect: Effect::CanHurt,
    });

    fn validate(&self) -> Result<(), String> {
        if self.formats.as_ref().is_some_and(Vec::is_empty) {
            return Err("`formats` is empty, so nothing can pass; leave the field out to accept every format".to_owned());
        }
        if self.denied.len() > MAXIMUM_PATTERNS {
            return Err(format!(
                "`denied` has more than {MAXIMUM_PATTERNS} patterns"
            ));
        }
        Ok(())
    }
}

impl Rule for Sbom {
    fn class(&self) -> Class {
        Class::Integrity
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Image(self)
    }

    fn needs(&self, world: &World) -> Needs {
        Needs::under([&self.signed_by].into_iter(), &world.trust_roots)
    }
}

impl ImageRule for Sbom {
    fn check(&self, check: &ImageCheck<'_>) -> Judgement {
        let evidence = match readable(check) {
            Ok(evidence) => evidence,
            Err(undecided) => return undecided,
        };
        let judgement = self.judge(evidence, check);
        match judgement.outcome {
            Outcome::Fail => unless_partial(judgement, check),
            _ => judgement,
        }
    }

    fn finds_in(&self, evidence: &ImageEvidence) -> bool {
        let mut statements = evidence.statements.iter();
        statements.any(|(_, statement)| is_sbom(statement.predicate_type()))
    }
}

impl Sbom {
    fn judge(&self, evidence: &ImageEvidence, check: &ImageCheck<'_>) -> Judgement {
        let statements = evidence.statements.iter().map(|(_, it)| &**it);
        let of_sboms = statements.filter(|it| is_sbom(it.predicate_type()));
        let (mut bills, mut unreadable, mut not_accepted) = (Vec::new(), Vec::new(), Vec::new());
        for statement in of_sboms {
            // 1. The signer: everybody who may push can attach an SBOM.
            if let Err(mismatch) = self.signed_by.signed(statement, &check.world.trust_roots) {
                not_accepted.push((mismatch, statement.signer().to_string()));
                continue;
            }
            // 2. A time in the future means that a clock is wrong.
            if let Err(why) = in_time(statement, check.promotion.at) {
                let detail = format!("SBOM by {}: {why}", statement.signer());
                return Judgement::fail(SIGNED_IN_THE_FUTURE, detail)
                    .hint("check the gate's clock");
            }
            match statement.predicate() {
                Predicate::Sbom(bill) => bills.push((&**bill, statement)),
                Predicate::Unreadable(why) => {
                    unreadable.push(format!("SBOM by {}: {why}", statement.signer()));
                }
                _ => {}
            }
        }
        // 3. A denied package in any of them.
        let found: BTreeSet<String> = bills
            .iter()
            .flat_map(|(bill, _)| self.denied_in(bill))
            .collect();
        if !found.is_empty() {
            let detail = format!("the image contains {}", listed(found, 5));
            return Judgement::fail(PACKAGE_DENIED, detail)
                .hint("build the image without the package");
        }
        // 4. One that cannot be read could list a denied package, or be the only one.
        let unreadable = unreadable.into_iter().min();
        if let Some(why) = unreadable.filter(|_| bills.is_empty() || !self.denied.is_empty()) {
            return Judgement::undecided(SBOM_UNREADABLE, why)
                .hint("write the SBOM as SPDX 2.3 or CycloneDX 1.6 in JSON and attest it again");
        }
        // 5. One of an accepted format that lists something.
        let accepted = bills.iter().filter(|(bill, _)| self.accepts(bill.format));
        let accepted: Vec<_> = accepted.copied().collect();
        let lists = |(bill, _): &&(&SoftwareBill, &VerifiedStatement)| {
            self.accept_empty || !bill.packages.is_empty()
        };
        let usable = accepted.iter().filter(lists);
        let usable =
            usable.min_by_key(|(bill, it)| (bill.format, &bill.version, it.signer().to_string()));
        match (usable, accepted.first(), bills.first()) {
            (Some((bill, statement)), _, _) => Judgement::pass(
                SBOM_PRESENT,
                format!(
                    "{} {} with {} packages, signed by {}",
                    bill.format,
                    bill.version,
                    bill.packages.len(),
                    statement.signer()
                ),
            ),
            (None, Some(_), _) => {
                Judgement::fail(SBOM_EMPTY, "the SBOM does not list a package".to_owned())
                    .hint("check that the tool that wrote it supports the image")
            }
            (None, None, Some(_)) => {
                let formats: BTreeSet<_> = bills
                    .iter()
                    .map(|(bill, _)| bill.format.to_string())
                    .collect();
                let detail = format!("the SBOM is of the format {}", listed(formats, 2));
                let accepted = self.formats.iter().flatten().map(ToString::to_string);
                Judgement::fail(SBOM_FORMAT_NOT_ACCEPTED, detail)
                    .hint(format!("accepted formats: {}", listed(accepted, 2)))
            }
            (None, None, None) => self.explain_absence(evidence, &not_accepted, check),
        }
    }

    fn accepts(&self, format: SbomFormat) -> bool {
        let formats = self.formats.as_ref();
        formats.is_none_or(|formats| formats.contains(&format))
    }

    /// The denied packages of an SBOM, each with the pattern that denies it.
    fn denied_in<'b>(&'b self, bill: &'b SoftwareBill) -> impl Iterator<Item = String> + 'b {
        let packages = match self.denied.is_empty() {
            true => &[][..],
            false => &*bill.packages,
        };
        packages.iter().filter_map(|package| {
            let names = PackageUrl::parse(package)?.names();
            let mut patterns = self.denied.iter();
            let denied = patterns.find(|pattern| pattern.matches(&names))?;
            Some(format!("`{package}`, which `{denied}` denies"))
        })
    }

    fn explain_absence(
        &self,
        evidence: &ImageEvidence,
        not_accepted: &[(Mismatch, String)],
        check: &ImageCheck<'_>,
    ) -> Judgement {
        let name = check.name();
        let attest = format!(
            "`syft {name} --output spdx-json=sbom.json`, then `cosign attest --type spdxjson --predicate sbom.json {name}`"
        );
        match not_accepted.iter().max() {
            Some((Mismatch::Transparency, by)) => {
                let detail = format!(
                    "SBOM by {by}: it lacks the log entry or timestamp that the policy requires"
                );
                return Judgement::fail(NOT_TRANSPARENT_ENOUGH, detail)
                    .hint("attest with a transparency log");
            }
            Some((Mismatch::OtherSigner, by)) => {
                let detail = format!("SBOM by {by}: the policy does not accept this signer");
                return Judgement::fail(SBOM_SIGNER_NOT_ACCEPTED, detail)
                    .hint(format!("accepted signer: {}", self.signed_by));
            }
            None => {}
        }
        match evidence.unaccepted_as(Form::Statement) {
            Some((why, text)) if why.reason == TOO_LARGE => {
                Judgement::undecided(SBOM_UNACCEPTED, text).hint(check.look())
            }
            Some((_, text)) => Judgement::fail(SBOM_UNACCEPTED, text).hint(check.look()),
            None => {
                let detail = check.none_of("signed SBOM", Form::Statement);
                Judgement::fail(NO_SBOM, detail).hint(check.nothing_attached(attest))
            }
        }
    }
}

/// A pattern of package URLs, such as `pkg:npm/event-stream@3.3.6` or `pkg:maven/log4j/**`.
#[derive(Clone, Debug)]
pub struct PackagePattern {
    written: String,
    glob: Glob,
    has_version: bool,
}

impl PackagePattern {
    /// Whether the pattern matches a package, by its names without and with the version.
    fn matches(&self, (name, versioned): &(String, Option<String>)) -> bool {
        match (self.has_version, versioned) {
            (true, Some(versioned)) => self.glob.matches(versioned),
            (true, None) => false,
            (false, _) => self.glob.matches(name),
        }
    }
}

impl std::str::FromStr for PackagePattern {
    type Err = String;

    fn from_str(written: &str) -> Result<PackagePattern, String> {
        let Some(rest) = written.strip_prefix("pkg:") else {
            return Err(format!(
                "`{written:.80}` is not a pattern of package URLs; write `pkg:TYPE/NAME` or `pkg:TYPE/NAME@VERSION`"
            ));
        };
        if rest.contains(['?', '#', '%']) || !rest.contains('/') {
            return Err(format!(
                "`{written:.80}` is not a pattern of package URLs: write it decoded, without qualifiers, as `pkg:TYPE/NAME`"
            ));
        }
        let last = rest.rsplit('/').next().unwrap_or_default();
        let glob = Glob::parse(&written.to_lowercase()).map_err(|why| why.to_string())?;
        Ok(PackagePattern {
            written: written.to_owned(),
            glob,
            has_version: last.char_indices().skip(1).any(|(_, c)| c == '@'),
        })
    }
}

impl fmt::Display for PackagePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl<'de> Deserialize<'de> for PackagePattern {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<PackagePattern, D::Error> {
        let written = String::deserialize(from)?;
        written.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for PackagePattern {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PackagePattern".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A pattern of package URLs, decoded and without qualifiers, such as `pkg:npm/event-stream@3.3.6` or `pkg:maven/log4j/**`.",
            "type": "string",
            "pattern": "^pkg:[^?#%]+/[^?#%]+$"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_package_urls_in_every_spelling() {
        for (pattern, package, matches) in [
            (
                "pkg:npm/event-stream@3.3.6",
                "pkg:npm/event-stream@3.3.6",
                true,
            ),
            (
                "pkg:npm/event-stream@3.3.6",
                "pkg:npm/event-stream@3.3.7",
                false,
            ),
            ("pkg:npm/event-stream@3.3.6", "pkg:npm/event-stream", false),
            (
                "pkg:npm/event-stream",
                "pkg:npm/event-stream@3.3.6?a=b",
                true,
            ),
            (
                "pkg:npm/event-stream@3.*",
                "pkg:npm/event-stream@3.3.6",
                true,
            ),
            ("pkg:npm/event*", "pkg:npm/event-stream@1", true),
            ("pkg:npm/@angular/core", "pkg:npm/%40angular/core@1", true),
            ("pkg:npm/@angular/core@1", "pkg:npm/@angular/core@1", true),
            ("pkg:maven/log4j/**", "pkg:maven/log4j/log4j@1.2.17", true),
            ("pkg:maven/**", "pkg:maven/org.apache/x@1", true),
            ("pkg:PyPI/Evil", "pkg:pypi/eViL@1", true),
            ("pkg:npm/stream", "pkg:npm/event-stream@1", false),
        ] {
            let pattern: PackagePattern = pattern.parse().unwrap();
            let names = PackageUrl::parse(package).unwrap().names();
            assert_eq!(pattern.matches(&names), matches, "{pattern} {package}");
        }
        for pattern in [
            "event-stream",
            "pkg:npm",
            "pkg:npm/a?arch=x",
            "pkg:npm/%40a/b",
        ] {
            assert!(pattern.parse::<PackagePattern>().is_err(), "{pattern}");
        }
    }
}
