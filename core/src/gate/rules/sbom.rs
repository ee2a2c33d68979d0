//! `sbom`: a signed software bill of materials without a denied package.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::check::{
    NOT_TRANSPARENT_ENOUGH, SIGNED_IN_THE_FUTURE, SigningTimes, in_time, is_by_accepted, listed,
    readable, replacing, sentence, unless_partial, unless_too_large,
};
use super::{
    Class, Effect, Entry, EvidenceUse, ImageCheck, ImageRule, Judgement, Needs, Rule, Scope, World,
};
use crate::attest::VerifiedStatement;
use crate::attest::predicate::{
    PackageName, Predicate, SbomFormat, SoftwareBill, is_no_version, is_package_url, is_sbom,
    is_type, is_unseen, name_and_version, usual_name, usual_version,
};
use crate::gate::evidence::{Form, ImageEvidence};
use crate::gate::finding::Outcome;
use crate::gate::glob::Glob;
use crate::gate::signer::{AcceptedSigner, Mismatch};
use crate::reason::{Reason, reasons};

/// **What it requires**: the image carries a software bill of materials (SBOM) by an accepted signer: SPDX 2.2, 2.3 or 3.0, or
/// CycloneDX 1.2 to 1.7, in JSON, as an attestation of this digest (predicate types `https://spdx.dev/Document` and
/// `https://cyclonedx.org/bom`, with or without a version). It lists at least one package besides the image itself, and no package
/// that `denied` matches. Every SBOM by an accepted signer counts, whatever its format.
///
/// A pattern of `denied` is compared with the package URL of each package, decoded, in lower case and without qualifiers. Without
/// `@VERSION` it matches every version. In a name, `*` stays within a part and `**` crosses parts; in a version, both match
/// anything. `-`, `_` and `.` in names of PyPI are the same, and so are versions of Go with and without `v`. The subpath of a Go
/// module is a part of its name: `pkg:golang/github.com/hashicorp/vault` is not the module `github.com/hashicorp/vault/api`. At
/// most 100 patterns may have a `*` in the name. A package without a package URL is not matched.
///
/// The version of a package is that of its package URL, or else the one that the document gives the package: `version`,
/// `versionInfo` or `software_packageVersion`. The rule is undecided if a pattern with a version matches the name of a package
/// without a version (`NOASSERTION`, `NONE` and `UNKNOWN` are none), and if a package URL cannot be read and is of a type that a pattern names. A package URL cannot be read if it
/// has control or invisible characters, white space where a part of the name or the version begins or ends, or a type of other
/// characters than letters, digits, `.`, `+` and `-`. With such a type, it could be of any type.
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
/// `cosign attest --yes --type spdxjson --predicate sbom.json IMAGE@DIGEST`; or `--output cyclonedx-json` and `--type cyclonedx`.
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

/// The most patterns of one entry, and the most with a wildcard in the name, which is compared with the name of every package.
const MAXIMUM_PATTERNS: usize = 1000;
const MAXIMUM_OPEN: usize = 100;

reasons! {
    OF_THIS_RULE:
    SBOM_PRESENT = "sbom-present", "The image carries an SBOM by an accepted signer, and no package is denied.", "";
    NO_SBOM = "no-sbom",
        "The image does not carry an SBOM.",
        "`syft IMAGE@DIGEST --output spdx-json=sbom.json`, then `cosign attest --yes --type spdxjson --predicate sbom.json IMAGE@DIGEST`. `cosign attach sbom` does not sign, so it does not count.";
    SBOM_UNACCEPTED = "sbom-unaccepted",
        "Something that may be an SBOM is attached to the image, but it could not be verified. The detail says why.",
        "`promotion-gate evidence IMAGE` shows everything attached and why it is not accepted; `promotion-gate explain REASON` explains a reason.";
    SBOM_SIGNER_NOT_ACCEPTED = "sbom-signer-not-accepted",
        "The image carries an SBOM, but the policy does not accept its signer.",
        "Attest the SBOM with an accepted signer, or ask for the signer to be added to the policy.";
    SBOM_UNREADABLE = "sbom-unreadable",
        "An accepted signer has signed an SBOM that this version cannot read. It could list a denied package.",
        "Write the SBOM in a version and format that the documentation of `sbom` names, and attest it with the same signer; a later SBOM takes the place of one that cannot be read. `cosign attest --type spdx` attests the tag-value form; use `spdxjson`.";
    SBOM_FORMAT_NOT_ACCEPTED = "sbom-format-not-accepted",
        "The image carries an SBOM, but the policy does not accept its format.",
        "Write the SBOM in an accepted format.";
    SBOM_EMPTY = "sbom-empty",
        "The SBOM does not list a package besides what it describes.",
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
        let open = self.denied.iter().filter(|it| it.name.literal().is_none());
        if open.count() > MAXIMUM_OPEN {
            return Err(format!(
                "`denied` has more than {MAXIMUM_OPEN} patterns with `*` in the name"
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

    fn needs(&self, world: &World) -> Needs<'_> {
        Needs::under([&self.signed_by].into_iter(), &world.trust_roots)
    }
}

impl ImageRule for Sbom {
    fn check(&self, check: &ImageCheck<'_>) -> Judgement {
        let evidence = match readable(check) {
            Ok(evidence) => evidence,
            Err(undecided) => return undecided,
        };
        match self.judge(evidence, check) {
            Ok(passed) => passed,
            Err(denied) if denied.outcome == Outcome::Fail => unless_partial(denied, check),
            Err(undecided) => undecided,
        }
    }

    fn finds_in(&self, evidence: &ImageEvidence, world: &World) -> bool {
        let statements = evidence.statements.iter();
        let mut of_type = statements.filter(|(_, it)| is_sbom(it.predicate_type()));
        of_type.any(|(_, it)| is_by_accepted(&self.signed_by, it, world))
    }
}

/// The SBOMs of an image.
struct SignedBills<'e> {
    /// By accepted signers.
    read: Vec<(&'e SoftwareBill, &'e VerifiedStatement)>,
    /// By accepted signers, and not understood: whether a time is confirmed, and why.
    unreadable: Vec<(bool, String)>,
    /// By other signers: why they do not count.
    not_accepted: Vec<(Mismatch, String)>,
    /// When those by accepted signers were signed.
    times: SigningTimes<'e>,
}

impl<'e> SignedBills<'e> {
    /// # Errors
    /// The denial for an SBOM of the future.
    fn read(
        rule: &Sbom,
        evidence: &'e ImageEvidence,
        check: &ImageCheck<'_>,
    ) -> Result<SignedBills<'e>, Judgement> {
        let statements = evidence.statements.iter().map(|(_, it)| &**it);
        let of_sboms = statements.filter(|it| is_sbom(it.predicate_type()));
        let (mut read, mut unreadable, mut not_accepted) = (Vec::new(), Vec::new(), Vec::new());
        for statement in of_sboms {
            // 1. The signer: everybody who may push can attach an SBOM.
            if let Err(mismatch) = rule.signed_by.signed(statement, &check.world.trust_roots) {
                not_accepted.push((mismatch, statement.signer().to_string()));
                continue;
            }
            // 2. A time in the future means that a clock is wrong.
            if let Err(why) = in_time(statement, check.promotion.at) {
                let detail = format!("SBOM by {}: {why}", statement.signer());
                return Err(
                    Judgement::fail(SIGNED_IN_THE_FUTURE, detail).hint("check the gate's clock")
                );
            }
            match statement.predicate() {
                Predicate::Sbom(bill) => read.push((&**bill, statement)),
                Predicate::Unreadable(why) => unreadable.push((statement, why)),
                _ => {}
            }
        }
        let of_read = read.iter().map(|(_, statement)| *statement);
        let times = SigningTimes::of(of_read.clone().chain(unreadable.iter().map(|(it, _)| *it)));
        // A later SBOM by the same signer takes the place of one that cannot be read.
        unreadable.retain(|(old, _)| !of_read.clone().any(|new| times.is_later(new, old)));
        let unreadable = unreadable.into_iter();
        let unreadable = unreadable.map(|(it, why)| {
            let why = format!("SBOM by {}: {why}", it.signer());
            (times.at(it).is_some(), why)
        });
        Ok(SignedBills {
            unreadable: unreadable.collect(),
            read,
            not_accepted,
            times,
        })
    }
}

impl Sbom {
    /// The judgement by the evidence that was read; a denial is the error.
    fn judge(
        &self,
        evidence: &ImageEvidence,
        check: &ImageCheck<'_>,
    ) -> Result<Judgement, Judgement> {
        let bills = SignedBills::read(self, evidence, check)?;
        // 3. A denied package in any of them.
        let unclear = self.no_denied_package(&bills)?;
        // 4. One that cannot be read could list a denied package, or be the only one.
        let unreadable = bills.unreadable.iter().min();
        let could_hurt = bills.read.is_empty() || !self.denied.is_empty();
        if let Some((is_timed, why)) = unreadable.filter(|_| could_hurt) {
            let hint = "write the SBOM as SPDX 2.3 or CycloneDX 1.6 in JSON and attest it again with the same signer and a verified time";
            return Err(
                Judgement::undecided(SBOM_UNREADABLE, why.clone()).hint(replacing(*is_timed, hint))
            );
        }
        if let Some((is_timed, why)) = unclear {
            let hint = "correct the package URL, or add its version, and attest the SBOM again with the same signer and a verified time";
            return Err(Judgement::undecided(SBOM_UNREADABLE, why).hint(replacing(is_timed, hint)));
        }
        // 5. One of an accepted format that lists something.
        match bills.read.is_empty() {
            true => Err(self.explain_absence(evidence, &bills.not_accepted, check)),
            false => self.usable(&bills.read),
        }
    }

    /// Why it is not known whether an SBOM lists a denied package, if none certainly does; and whether the time of that SBOM is
    /// confirmed.
    ///
    /// # Errors
    /// The denial if one does.
    fn no_denied_package(
        &self,
        bills: &SignedBills<'_>,
    ) -> Result<Option<(bool, String)>, Judgement> {
        if self.denied.is_empty() {
            return Ok(None);
        }
        let denied = DeniedPackages::of(&self.denied);
        let each = bills.read.iter();
        let found: Vec<(&VerifiedStatement, FoundPackages)> = each
            .map(|(bill, it)| (*it, denied.found_in(bill)))
            .collect();
        let names: BTreeSet<String> = found.iter().flat_map(|(_, it)| it.denied.clone()).collect();
        if !names.is_empty() {
            let detail = format!("the image contains {}", listed(names, 5));
            return Err(
                Judgement::fail(PACKAGE_DENIED, detail).hint("build the image without the package")
            );
        }
        let unclear = found.iter().filter_map(|(old, it)| {
            let why = it.unclear.as_ref()?;
            // A later SBOM by the same signer takes the place of one whose packages are not all known.
            let mut others = found.iter();
            let is_replaced =
                others.any(|(new, it)| it.unclear.is_none() && bills.times.is_later(new, old));
            let by = old.signer();
            (!is_replaced).then(|| {
                let why = format!("SBOM by {by}: {why}");
                (bills.times.at(old).is_some(), why)
            })
        });
        Ok(unclear.min())
    }

    /// The pass by an SBOM of an accepted format that lists something.
    ///
    /// # Errors
    /// The denial if there is none.
    fn usable(
        &self,
        bills: &[(&SoftwareBill, &VerifiedStatement)],
    ) -> Result<Judgement, Judgement> {
        let accepted = bills.iter().filter(|(bill, _)| self.accepts(bill.format));
        let usable = accepted
            .clone()
            .filter(|(bill, _)| self.accept_empty || !bill.is_empty);
        let usable =
            usable.min_by_key(|(bill, it)| (bill.format, &bill.version, it.signer().name()));
        if let Some((bill, statement)) = usable {
            let (format, version, count) = (bill.format, &bill.version, bill.packages.len());
            let by = statement.signer();
            let detail = sentence(format_args!(
                "{format} {version} with {count} packages, signed by {by}"
            ));
            return Ok(Judgement::pass(SBOM_PRESENT, detail));
        }
        if accepted.count() > 0 {
            let detail = "the SBOM does not list a package besides what it describes".to_owned();
            return Err(Judgement::fail(SBOM_EMPTY, detail)
                .hint("check that the tool that wrote it supports the image"));
        }
        let formats: BTreeSet<_> = bills
            .iter()
            .map(|(bill, _)| bill.format.to_string())
            .collect();
        let detail = format!("the SBOM is of the format {}", listed(formats, 2));
        let accepted = self.formats.iter().flatten().map(ToString::to_string);
        Err(Judgement::fail(SBOM_FORMAT_NOT_ACCEPTED, detail)
            .hint(format!("accepted formats: {}", listed(accepted, 2))))
    }

    fn accepts(&self, format: SbomFormat) -> bool {
        let formats = self.formats.as_ref();
        formats.is_none_or(|formats| formats.contains(&format))
    }

    fn explain_absence(
        &self,
        evidence: &ImageEvidence,
        not_accepted: &[(Mismatch, String)],
        check: &ImageCheck<'_>,
    ) -> Judgement {
        let failed = self.why_absent(evidence, not_accepted, check);
        unless_too_large(failed, SBOM_UNACCEPTED, evidence, check)
    }

    fn why_absent(
        &self,
        evidence: &ImageEvidence,
        not_accepted: &[(Mismatch, String)],
        check: &ImageCheck<'_>,
    ) -> Judgement {
        let name = check.name();
        let attest = format!(
            "`syft {name} --output spdx-json=sbom.json`, then `cosign attest --yes --type spdxjson --predicate sbom.json {name}`"
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
            Some((_, text)) => Judgement::fail(SBOM_UNACCEPTED, text).hint(check.look()),
            None => {
                let detail = check.none_of("signed SBOM", Form::Statement);
                Judgement::fail(NO_SBOM, detail).hint(check.nothing_attached(attest))
            }
        }
    }
}

/// The patterns of denied packages, arranged so that most packages are compared with few of them.
struct DeniedPackages<'p> {
    /// Those without a wildcard in the name, by the name.
    by_name: BTreeMap<&'p str, Vec<&'p PackagePattern>>,
    /// Those with a wildcard in the name.
    others: Vec<&'p PackagePattern>,
}

/// What an SBOM says about denied packages.
#[derive(Default)]
struct FoundPackages {
    /// The denied packages, each with the pattern that denies it.
    denied: BTreeSet<String>,
    /// Why it is not known of a package whether it is a denied one.
    unclear: Option<String>,
}

impl<'p> DeniedPackages<'p> {
    fn of(patterns: &'p [PackagePattern]) -> DeniedPackages<'p> {
        let (by_name, others): (Vec<_>, Vec<_>) =
            patterns.iter().partition(|it| it.name.literal().is_some());
        let mut denied = DeniedPackages {
            by_name: BTreeMap::new(),
            others,
        };
        for pattern in by_name {
            if let Some(name) = pattern.name.literal() {
                denied.by_name.entry(name).or_default().push(pattern);
            }
        }
        denied
    }

    fn found_in(&self, bill: &SoftwareBill) -> FoundPackages {
        let mut found = FoundPackages::default();
        if self.by_name.is_empty() && self.others.is_empty() {
            return found;
        }
        for written in bill.packages.iter().filter(|it| is_package_url(it)) {
            let Some(mut package) = PackageName::of(written) else {
                if found.unclear.is_none() && self.are_of_type_of(written) {
                    let why = format!(
                        "`{written:.200}` is not a package URL, so it is not known which package it is"
                    );
                    found.unclear = Some(why);
                }
                continue;
            };
            package.version = package.version.filter(|it| !is_no_version(it));
            let Some(pattern) = self.pattern_of(&package) else {
                continue;
            };
            if pattern.version.is_none() || package.version.is_some() {
                let denied = format!("`{written}`, which `{pattern}` denies");
                found.denied.insert(denied);
            } else if found.unclear.is_none() {
                let why = format!(
                    "`{written:.200}` does not have a version, so it is not known whether `{pattern}` denies it"
                );
                found.unclear = Some(why);
            }
        }
        found
    }

    /// Whether a pattern could be of the type of a package URL that cannot be read.
    fn are_of_type_of(&self, url: &str) -> bool {
        let (_, rest) = url.split_once(':').unwrap_or(("", url));
        let kind = rest.trim_start_matches('/').split_once('/');
        let is_same = |pattern: &&PackagePattern| match kind {
            Some((kind, _)) if is_type(kind) && !pattern.kind.contains('*') => {
                pattern.kind.eq_ignore_ascii_case(kind)
            }
            _ => true,
        };
        let mut patterns = self.by_name.values().flatten().chain(&self.others);
        patterns.any(is_same)
    }

    /// The pattern that denies a package, or that could deny one without a version. One without a version certainly denies it.
    fn pattern_of(&self, package: &PackageName) -> Option<&'p PackagePattern> {
        let name = package.name.to_lowercase();
        let version = package.version.as_ref().map(|it| it.to_lowercase());
        let named = self.by_name.get(&*name).into_iter().flatten();
        let others = self.others.iter();
        let others = others.filter(|pattern| pattern.name.matches(&name));
        let of_name = named.chain(others).copied();
        let of_version = of_name.filter(|pattern| pattern.may_be_of_version(version.as_deref()));
        of_version.min_by_key(|pattern| pattern.version.is_some())
    }
}

/// A pattern of package URLs, such as `pkg:npm/event-stream@3.3.6` or `pkg:maven/log4j/**`.
#[derive(Clone, Debug)]
pub struct PackagePattern {
    written: String,
    kind: String,
    /// The type and the name, in the usual spelling of the type and in lower case.
    name: Glob,
    /// The version, in which `*` may stand for every character.
    version: Option<Glob>,
}

impl PackagePattern {
    fn may_be_of_version(&self, version: Option<&str>) -> bool {
        let both = self.version.as_ref().zip(version);
        both.is_none_or(|(pattern, version)| pattern.matches(&in_one_segment(version)))
    }
}

/// A version in which `/` is a character as every other one.
fn in_one_segment(version: &str) -> String {
    version.replace('/', "\u{1}")
}

impl std::str::FromStr for PackagePattern {
    type Err = String;

    fn from_str(written: &str) -> Result<PackagePattern, String> {
        let Some(rest) = written.strip_prefix("pkg:") else {
            return Err(format!(
                "`{written:.80}` is not a pattern of package URLs; write `pkg:TYPE/NAME` or `pkg:TYPE/NAME@VERSION`"
            ));
        };
        if written.contains(|it: char| it.is_whitespace() || is_unseen(it)) {
            return Err(format!(
                "`{written:.80}` has white space or a character that cannot be seen; remove it, or write `*` where it is a part of the name or the version"
            ));
        }
        let rest = rest.to_lowercase();
        let parts = rest.trim_start_matches('/').split_once('/');
        let Some((kind, rest)) = parts.filter(|_| !rest.contains(['?', '#', '%'])) else {
            return Err(format!(
                "`{written:.80}` is not a pattern of package URLs: write it decoded, without qualifiers, as `pkg:TYPE/NAME`"
            ));
        };
        if !is_type(&kind.replace('*', "a")) {
            return Err(format!(
                "`{written:.80}` does not begin with a type of package URLs, such as `npm`; write `pkg:TYPE/NAME`, with letters, digits, `.`, `+` and `-` in the type"
            ));
        }
        let glob = |text: &str| Glob::parse(text).map_err(|why| why.to_string());
        glob(written)?;
        let (name, version) = name_and_version(rest.trim_start_matches('/'));
        let parts = name.split('/').filter(|part| !part.is_empty());
        let name = &parts.collect::<Vec<_>>().join("/");
        if name.is_empty() || version == Some("") {
            return Err(format!(
                "`{written:.80}` has an empty name or version, which no package has"
            ));
        }
        let version = version.map(|it| in_one_segment(usual_version(kind, it)));
        Ok(PackagePattern {
            written: written.to_owned(),
            kind: kind.to_owned(),
            name: glob(&format!("{kind}/{}", usual_name(kind, name)))?,
            version: version.as_deref().map(glob).transpose()?,
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
            ("pkg:npm/event-stream", "PKG:npm/event-stream@1", true),
            ("pkg:npm/event-stream", "pkg:npm/event-stream@1/x", true),
            (
                "pkg:npm/event-stream",
                "pkg:npm/event-stream@git+https://git@host.example/x",
                true,
            ),
            ("pkg:npm/x@git*", "pkg:npm/x@git+https://host/y", true),
            ("pkg:npm/x@1/*", "pkg:npm/x@1/y/z", true),
            ("pkg:pypi/colour_ful", "pkg:pypi/colour-ful@1", true),
            ("pkg:pypi/colour-ful", "pkg:pypi/Colour.Ful@1", true),
            ("pkg:pypi/colour.*", "pkg:pypi/colour_ful", true),
            ("pkg:npm/colour-ful", "pkg:npm/colour_ful@1", false),
            (
                "pkg:golang/github.com/evil/mod/v2",
                "pkg:golang/github.com/evil/mod@v2.0.0#v2",
                true,
            ),
            (
                "pkg:golang/github.com/evil/mod",
                "pkg:golang/github.com/evil/mod@v2.0.0#v2",
                false,
            ),
            (
                "pkg:golang/github.com/hashicorp/vault",
                "pkg:golang/github.com/hashicorp/vault@v1.0.0#api",
                false,
            ),
            (
                "pkg:golang/github.com/evil/**",
                "pkg:golang/github.com/evil/mod@v2.0.0#v2",
                true,
            ),
            (
                "pkg:golang/stdlib@1.21.*",
                "pkg:golang/stdlib@v1.21.0",
                true,
            ),
            (
                "pkg:golang/stdlib@v1.21.0",
                "pkg:golang/stdlib@1.21.0",
                true,
            ),
        ] {
            let patterns: [PackagePattern; 1] = [pattern.parse().unwrap()];
            let package = PackageName::of(package).unwrap();
            let denied = DeniedPackages::of(&patterns);
            let found = denied.pattern_of(&package);
            assert_eq!(found.is_some(), matches, "{pattern} {package:?}");
        }
        for pattern in [
            "event-stream",
            "pkg:npm",
            "pkg:npm/a?arch=x",
            "pkg:npm/%40a/b",
            "pkg:npm/a@",
            "pkg:npm/",
        ] {
            assert!(pattern.parse::<PackagePattern>().is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_with_more_slashes_is_the_same_pattern() {
        let package = PackageName::of("pkg:npm/event-stream@3.3.6").unwrap();
        for pattern in [
            "pkg://npm/event-stream@3.3.6",
            "pkg:/npm/event-stream",
            "pkg:npm//event-stream",
            "pkg:npm/event-stream/",
            "pkg:npm/event-stream/@3.3.6",
            "pkg://*//event-*",
        ] {
            let patterns: [PackagePattern; 1] = [pattern.parse().unwrap()];
            let denied = DeniedPackages::of(&patterns);
            assert!(denied.pattern_of(&package).is_some(), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_that_no_package_url_can_match_is_refused() {
        for (pattern, remedy) in [
            ("pkg: npm/event-stream", "remove it"),
            ("pkg:npm/event-stream @3.3.6", "remove it"),
            ("pkg:npm/event-stream@ 3.3.6", "remove it"),
            ("pkg:npm/event-stream ", "remove it"),
            ("pkg:npm/event-stream\n", "remove it"),
            ("pkg:npm/event-stream\u{feff}", "remove it"),
            ("pkg:npm/event\u{a0}stream", "remove it"),
            ("pkg:@npm/event-stream", "write `pkg:TYPE/NAME`"),
            ("pkg:1npm/event-stream", "write `pkg:TYPE/NAME`"),
            ("pkg:n_m/event-stream", "write `pkg:TYPE/NAME`"),
            ("pkg://npm", "`pkg:TYPE/NAME`"),
            ("pkg:///", "`pkg:TYPE/NAME`"),
            ("pkg:npm//", "empty name"),
        ] {
            let why = pattern.parse::<PackagePattern>().unwrap_err();
            assert!(why.contains(remedy), "{why}");
        }
    }

    #[test]
    fn what_an_odd_package_url_could_be_is_unclear() {
        for (pattern, package, is_denied, is_unclear) in [
            ("pkg:npm/a@1", "pkg:npm/a@1", true, false),
            ("pkg:npm/a@1", "pkg:npm/a", false, true),
            ("pkg:npm/a@1", "pkg:npm/a@", false, true),
            ("pkg:npm/*@1", "pkg:npm/a", false, true),
            ("pkg:npm/a", "pkg:npm/a", true, false),
            ("pkg:npm/a@1", "pkg:npm/b", false, false),
            ("pkg:npm/a@1", "pkg:pypi/a", false, false),
            ("pkg:npm/a", "\u{fffd}pkg:npm/b@1", false, true),
            ("pkg:npm/a", "pkg:npm/b@1\u{fffd}", false, true),
            ("pkg:npm/a", "pkg:pypi/b@1\u{fffd}", false, false),
            ("pkg:npm/a", "pkg:p%79pi/b@1", false, true),
        ] {
            let patterns: [PackagePattern; 1] = [pattern.parse().unwrap()];
            let bill = SoftwareBill {
                format: SbomFormat::Spdx,
                version: "2.3".into(),
                packages: [package.into()].into(),
                is_empty: false,
            };
            let found = DeniedPackages::of(&patterns).found_in(&bill);
            let found = (!found.denied.is_empty(), found.unclear.is_some());
            assert_eq!(found, (is_denied, is_unclear), "{pattern} {package:?}");
        }
    }

    #[test]
    fn a_pattern_without_a_version_denies_a_package_without_one_beside_a_pattern_with_one() {
        let patterns = ["pkg:npm/a@1", "pkg:npm/**"].map(|it| it.parse().unwrap());
        let package = PackageName::of("pkg:npm/a").unwrap();
        let denied = DeniedPackages::of(&patterns);
        let found = denied.pattern_of(&package).unwrap();
        assert_eq!(found.to_string(), "pkg:npm/**");
    }
}
