//! OpenVEX documents: for which findings the newest statement says that the image is not affected.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    ImageCheck, ImageEvidence, Judgement, VEX_RECORD_UNREADABLE, VEX_UNREADABLE, listed, minute,
    sentence,
};
use crate::attest::VerifiedStatement;
use crate::attest::predicate::{
    PackageName, PackageUrl, Predicate, VexProduct, VexStatement, VexStatus, VulnerabilityFinding,
    is_cve, is_vex,
};
use crate::gate::image::Digest;
use crate::gate::kept_vex::{KeptSigner, KeptVex, KeptVexStatement, TakenBack};
use crate::gate::rules::check::{SigningTimes, in_time};
use crate::gate::signer::AcceptedSigner;
use crate::gate::world::{EvidenceToKeep, MayBe, UnreadableKept};

/// The most documents, and the most statements, without effect that a denial names.
const NAMED: usize = 2;
/// The most findings for which statements without effect are searched, which costs time.
const SEARCHED: usize = 100;

/// The signer of OpenVEX documents.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VexDocuments {
    /// The signer of the documents.
    #[schemars(extend("x-kubernetes-validations" = [
        {"rule": "has(self.keyless) != has(self.key)", "message": "expected exactly one of `keyless` and `key`"},
    ]))]
    pub signed_by: AcceptedSigner,
}

impl VexDocuments {
    /// That documents of other signers are attached and do not count, as the end of a sentence; empty if there are none.
    pub(super) fn of_others(
        documents: Option<&VexDocuments>,
        evidence: &ImageEvidence,
        check: &ImageCheck<'_>,
    ) -> String {
        let roots = &check.world.trust_roots;
        let is_accepted = |it: &VerifiedStatement| {
            documents.is_some_and(|documents| documents.signed_by.signed(it, roots).is_ok())
        };
        let others = vex_documents(evidence).filter(|it| !is_accepted(it));
        let signers: BTreeSet<_> = others.map(|it| it.signer().to_string()).collect();
        match signers.is_empty() {
            true => String::new(),
            false => format!(
                "; an OpenVEX document by {} does not count, because the policy does not accept that signer under `vex`",
                listed(signers, 2)
            ),
        }
    }
}

/// The statements of all documents by accepted signers that are about the image, and those that the cluster keeps of such documents.
#[derive(Default)]
pub(super) struct VexStatements<'e> {
    /// By an id of the vulnerability in lower case.
    by_id: BTreeMap<String, Vec<Said<'e>>>,
    /// Documents by accepted signers that are not understood.
    unreadable: Vec<UnreadableDocument<'e>>,
    /// The digest of the image.
    subject: Option<&'e Digest>,
}

/// A statement, and when it was made.
struct Said<'e> {
    at: Timestamp,
    statement: &'e VexStatement,
    /// What keeps it; `None` for one that is attached.
    kept: Option<&'e KeptVex>,
}

/// A document that is not understood.
struct UnreadableDocument<'e> {
    /// Whose it is, and why it is not understood.
    detail: String,
    /// When it was signed; `None` where nothing confirms a time.
    at: Option<Timestamp>,
    /// What keeps that it was there; `None` for one that is attached.
    kept: Option<&'e KeptVex>,
}

impl<'e> VexStatements<'e> {
    /// # Errors
    /// Why a document by an accepted signer is of the future.
    pub(super) fn read(
        documents: Option<&VexDocuments>,
        evidence: &'e ImageEvidence,
        check: &ImageCheck<'e>,
    ) -> Result<VexStatements<'e>, String> {
        let mut all = VexStatements::default();
        let Some(documents) = documents else {
            return Ok(all);
        };
        let attached = documents.accepted(evidence, check);
        for (statement, _) in &attached {
            in_time(statement, check.promotion.at)
                .map_err(|why| format!("VEX document by {}: {why}", statement.signer()))?;
        }
        for &(statement, signed) in &attached {
            all.subject = Some(statement.subject());
            match statement.predicate() {
                Predicate::Vex(document) => {
                    for it in &document.statements {
                        let at = time_of(it, signed);
                        all.add(it, at.min(check.promotion.at), None);
                    }
                }
                Predicate::Unreadable(why) => all.unreadable.push(UnreadableDocument {
                    detail: format!("VEX document by {}: {why}", statement.signer()),
                    at: signed,
                    kept: None,
                }),
                _ => {}
            }
        }
        all.add_kept(documents, &attached, check);
        Ok(all)
    }

    fn add(&mut self, statement: &'e VexStatement, at: Timestamp, kept: Option<&'e KeptVex>) {
        for id in &statement.ids {
            let of_id = self.by_id.entry(id.to_ascii_lowercase()).or_default();
            let said = Said {
                at,
                statement,
                kept,
            };
            of_id.push(said);
        }
    }

    /// Adds what the cluster keeps of documents by signers who may be accepted, except of those that are still attached, which speak for
    /// themselves.
    fn add_kept(
        &mut self,
        documents: &VexDocuments,
        attached: &[Attached<'e>],
        check: &ImageCheck<'e>,
    ) {
        let digest = check.subject.map(|subject| &subject.digest);
        let kept = digest.and_then(|digest| check.world.vex.get(digest));
        let kept = kept.into_iter().flatten();
        for kept in kept.filter(|kept| documents.signed_by.may_be(kept.signer.name())) {
            let is_gone =
                |said: &&KeptVexStatement| !attached.iter().any(|it| says(it, kept, said));
            for it in kept.statements.iter().filter(is_gone) {
                if it.is_unreadable() {
                    let by = kept.signer.name();
                    self.unreadable.push(UnreadableDocument {
                        detail: format!(
                            "`VexRecord` `{}`: a VEX document by {by}, which is not attached any more, could not be read",
                            kept.name
                        ),
                        at: it.at(),
                        kept: Some(kept),
                    });
                }
                self.add(&it.said, it.said.at.min(check.promotion.at), Some(kept));
            }
        }
    }

    /// The time of the newest statement about a finding, if that says that the finding does no harm. Of statements of one time,
    /// the worst counts. Of a finding with several CVE ids, each has to do no harm; the earliest of their times is given.
    pub(super) fn harmless_since(&self, finding: &VulnerabilityFinding) -> Option<Timestamp> {
        harmless_since(finding, &self.about(finding))
    }

    /// The statements about a finding.
    fn about(&self, finding: &VulnerabilityFinding) -> Vec<&Said<'e>> {
        let package = PackageUrl::parse(&finding.package);
        let about = self.of_ids(finding);
        about
            .filter(|it| self.is_about(it.statement, package.as_ref()))
            .collect()
    }

    /// The statements that name a finding, whatever image and package they are about.
    fn of_ids(&self, finding: &VulnerabilityFinding) -> impl Iterator<Item = &Said<'e>> {
        finding.ids().flat_map(|id| {
            let of_id = self.by_id.get(&id.to_ascii_lowercase());
            of_id.into_iter().flatten()
        })
    }

    /// The statements that the cluster keeps and that alone let findings count: the end of a detail, and the end of a hint. Empty if there
    /// are none.
    pub(super) fn taken_back<'f>(
        &self,
        findings: impl Iterator<Item = &'f VulnerabilityFinding>,
    ) -> (String, String) {
        let mut records = BTreeMap::new();
        for finding in findings.take(SEARCHED) {
            let mut about = self.about(finding);
            let kept: Vec<_> = about.iter().filter_map(|it| it.kept).collect();
            about.retain(|it| it.kept.is_none());
            if !kept.is_empty() && harmless_since(finding, &about).is_some() {
                records.extend(kept.into_iter().map(|it| (&it.name, it.signer.name())));
            }
        }
        if records.is_empty() {
            return Default::default();
        }
        let names = records.keys().map(|name| format!("`{name}`"));
        let names = listed(names, NAMED);
        let signers: BTreeSet<_> = records.values().collect();
        (
            format!(
                "; OpenVEX documents clear some of these, but newer ones by {}, which are not attached any more, take that back: the cluster keeps what they say (`VexRecord` {names})",
                listed(signers, NAMED)
            ),
            format!(
                "; or attest an OpenVEX document whose statements are newer; or ask a governor to delete the `VexRecord` {names}"
            ),
        )
    }

    /// Whether a statement is about this image and this package of it.
    fn is_about(&self, statement: &VexStatement, package: Option<&PackageUrl>) -> bool {
        // Where it is not known which image or package is meant, what may harm is about each of them, and what is harmless about none.
        let is_component = |component: &Option<PackageUrl>| match component.as_ref().zip(package) {
            Some((component, package)) if statement.status.is_harmless() => {
                component.includes(package)
            }
            Some((component, package)) => component.may_be(package),
            None => !statement.status.is_harmless(),
        };
        statement.products.is_empty()
            || statement.products.iter().any(|product| {
                let mut digests = product.digests.iter();
                let is_subject = |digest: &Digest| Some(digest) == self.subject;
                let is_image = match (statement.status.is_harmless(), product.digests.is_empty()) {
                    (is_harmless, true) => !is_harmless,
                    (true, false) => digests.all(is_subject),
                    (false, false) => digests.any(is_subject),
                };
                is_image
                    && (product.components.is_empty()
                        || product.components.iter().any(is_component))
            })
    }

    /// What accepted signers say without effect, as the end of the hint about findings that count; empty if there is nothing. An answer
    /// of the webhook cuts long lines, and the detail is the longest.
    pub(super) fn without_effect<'f>(
        &self,
        findings: impl Iterator<Item = &'f VulnerabilityFinding>,
    ) -> String {
        let unreadable = self.unreadable.iter().filter(|it| it.kept.is_none());
        let unreadable: BTreeSet<_> = unreadable.map(|it| format!("{:.250}", it.detail)).collect();
        let mut statements = BTreeSet::new();
        for finding in findings.take(SEARCHED) {
            if statements.len() > NAMED {
                break;
            }
            statements.extend(self.missing(finding));
        }
        let mut all = Vec::new();
        for said in [unreadable, statements] {
            let more = said.len() > NAMED;
            all.extend(said.into_iter().take(NAMED));
            all.extend(more.then(|| "and more".to_owned()));
        }
        match all.is_empty() {
            true => String::new(),
            false => format!(
                "; or correct the OpenVEX documents: these parts do not count: {}",
                all.join("; ")
            ),
        }
    }

    /// Why statements that would make a finding harmless are not about this image or package.
    fn missing(&self, finding: &VulnerabilityFinding) -> BTreeSet<String> {
        let statements = self.of_ids(finding).map(|it| it.statement);
        let harmless = statements.filter(|it| it.status.is_harmless());
        let package = PackageUrl::parse(&finding.package);
        let others = harmless.filter(|it| !self.is_about(it, package.as_ref()));
        let misses: BTreeSet<Miss<'_>> = others.filter_map(|it| self.miss(it)).collect();
        let misses = misses.into_iter().take(NAMED + 1);
        misses
            .map(|miss| {
                let why = match miss {
                    Miss::NoDigest => {
                        "no product of it names an image by digest, such as `pkg:oci/app@sha256:…`"
                            .to_owned()
                    }
                    Miss::AnotherImage(digest) => format!("its product is the image `{digest}`"),
                    Miss::AnotherPackage if package.is_none() => {
                        "it names subcomponents, and the scan does not give a package URL"
                            .to_owned()
                    }
                    Miss::AnotherPackage => {
                        format!("no subcomponent of it is `{:.200}`", finding.package)
                    }
                };
                sentence(format_args!(
                    "the statement about `{:.100}`, because {why}",
                    finding.id
                ))
            })
            .collect()
    }

    /// How near a statement with products comes to being about this image.
    fn miss<'s>(&self, statement: &'s VexStatement) -> Option<Miss<'s>> {
        let each = statement.products.iter().map(|product| {
            let mut digests = product.digests.iter();
            match digests.find(|digest| Some(*digest) != self.subject) {
                _ if product.digests.is_empty() => Miss::NoDigest,
                Some(other) => Miss::AnotherImage(other),
                None => Miss::AnotherPackage,
            }
        });
        each.max()
    }

    /// The judgement if a document that cannot be read, or what the cluster keeps and cannot be read, could be newer than what makes
    /// findings harmless since `oldest`.
    pub(super) fn unreadable(
        &self,
        documents: Option<&VexDocuments>,
        oldest: Option<Timestamp>,
        check: &ImageCheck<'_>,
    ) -> Option<Judgement> {
        let oldest = oldest?;
        let unreadable = self.unreadable.iter();
        let unreadable = unreadable.filter(|it| it.at.is_none_or(|at| at >= oldest));
        let order =
            |it: &&UnreadableDocument<'_>| (it.at.is_some(), it.kept.is_some(), it.detail.clone());
        let Some(unreadable) = unreadable.min_by_key(order) else {
            return documents?.unreadable_records(check);
        };
        let detail = format!(
            "{}; it could say that the image is affected",
            unreadable.detail
        );
        let hint = match (unreadable.at, unreadable.kept) {
            (Some(_), None) => WRITE_AGAIN.to_owned(),
            (Some(at), Some(kept)) => format!(
                "attest every document that clears a finding again, with statements that are newer than {}; or ask a governor to delete the `VexRecord` `{}`",
                minute(at),
                kept.name
            ),
            (None, Some(kept)) => format!(
                "{NONE_IS_LATER}: ask a governor to delete the `VexRecord` `{}`, or build a new image",
                kept.name
            ),
            (None, None) => format!(
                "{NONE_IS_LATER}: build a new image; or delete it in the registry, restart the gate, and ask a governor to delete the `VexRecord` of its signer; then attest with a transparency log or a timestamp authority"
            ),
        };
        Some(Judgement::undecided(VEX_UNREADABLE, detail).hint(hint))
    }
}

/// What to do about a document that cannot be read.
const WRITE_AGAIN: &str = "write the document in the form of OpenVEX 0.2 (`vexctl create`) and attest it again, and after it every other document that clears a finding";

/// That nothing takes the place of a document without a verified time.
const NONE_IS_LATER: &str = "nothing confirms when it was signed, so no later one takes its place";

impl VexDocuments {
    /// The documents by accepted signers.
    fn accepted<'e>(
        &self,
        evidence: &'e ImageEvidence,
        check: &ImageCheck<'_>,
    ) -> Vec<Attached<'e>> {
        let roots = &check.world.trust_roots;
        let statements = vex_documents(evidence);
        let accepted = statements.filter(|it| self.signed_by.signed(it, roots).is_ok());
        let accepted: Vec<_> = accepted.collect();
        let times = SigningTimes::of(accepted.iter().copied());
        let each = accepted.into_iter();
        each.map(|it| (it, times.at(it))).collect()
    }

    /// What the documents take back by accepted signers, and the cluster does not keep yet.
    pub(super) fn to_keep(
        &self,
        digest: &Digest,
        evidence: &ImageEvidence,
        check: &ImageCheck<'_>,
    ) -> EvidenceToKeep {
        let mut by_signer: BTreeMap<_, TakenBack> = BTreeMap::new();
        let accepted = self.accepted(evidence, check).into_iter();
        for (statement, signed) in
            accepted.filter(|(it, _)| in_time(it, check.promotion.at).is_ok())
        {
            let Some(signer) = KeptSigner::of(statement.signer()) else {
                continue;
            };
            let document = Some(statement.digest().clone());
            let taken_back = by_signer.entry(signer).or_default();
            match statement.predicate() {
                Predicate::Vex(read) => {
                    let harmful = read.statements.iter().filter(|it| !it.status.is_harmless());
                    for it in harmful {
                        let ids = it.ids.iter().map(|id| id.clone().into_string());
                        let at = signed.map(|_| time_of(it, signed));
                        let said = match packages_of(it, digest) {
                            Packages::OfAnotherImage => continue,
                            Packages::These(packages) => {
                                KeptVexStatement::new(ids, packages, at, document.clone())
                            }
                            // The attached document says less.
                            Packages::NotWritable => KeptVexStatement::new(ids, [], at, None),
                        };
                        taken_back.add(&said);
                    }
                }
                Predicate::Unreadable(_) => {
                    taken_back.add(&KeptVexStatement::new([], [], signed, document));
                }
                _ => {}
            }
        }
        let new = by_signer.into_iter().filter_map(|(signer, taken_back)| {
            let new = taken_back.without(&check.world.taken_back(digest, &signer));
            (!new.is_empty()).then(|| ((digest.clone(), signer), new))
        });
        EvidenceToKeep {
            vex: new.collect(),
            ..EvidenceToKeep::default()
        }
    }

    /// The judgement if the cluster keeps what such documents take back, and not all of it can be read.
    fn unreadable_records(&self, check: &ImageCheck<'_>) -> Option<Judgement> {
        let world = check.world;
        let unreadable = check
            .subject
            .and_then(|it| world.unreadable_kept.get(&it.digest));
        let is_about = |kept: &&UnreadableKept| match &kept.may_be {
            MayBe::Vex(signer) => {
                let mut signer = signer.iter();
                signer.all(|signer| self.signed_by.may_be(signer.name()))
            }
            MayBe::Rejection(_) | MayBe::Authors => false,
        };
        let unreadable = unreadable.and_then(|kept| kept.iter().find(is_about));
        if let Some(UnreadableKept { resource, why, .. }) = unreadable {
            let detail = format!(
                "{resource} is about this digest and cannot be read: {why}; it could say that the image is affected"
            );
            let undecided = Judgement::undecided(VEX_RECORD_UNREADABLE, detail);
            return Some(
                undecided.hint(format!("ask a governor to correct or to delete {resource}")),
            );
        }
        let why = world.vex_partly.as_ref()?;
        let detail = format!(
            "a `VexRecord` that the cluster keeps, and that says that the image is affected, may be missing: {why}"
        );
        Some(
            Judgement::undecided(VEX_RECORD_UNREADABLE, detail)
                .hint("ask a governor to delete `VexRecord`s of digests that do not run any more"),
        )
    }
}

/// The OpenVEX documents of everybody that are attached, or were before.
fn vex_documents(evidence: &ImageEvidence) -> impl Iterator<Item = &VerifiedStatement> {
    let statements = evidence.statements.iter().map(|(_, it)| &**it);
    statements.filter(|it| is_vex(it.predicate_type()))
}

/// When a statement was made. A document cannot make itself newer than its signature. Without a verified time it could be of any time,
/// also because a timestamp was taken away: then what harms is the newest, and what is harmless the oldest.
fn time_of(statement: &VexStatement, signed: Option<Timestamp>) -> Timestamp {
    match (signed, statement.status.is_harmless()) {
        (Some(signed), _) => signed.min(statement.at),
        (None, true) => Timestamp::MIN,
        (None, false) => Timestamp::MAX,
    }
}

/// The packages of the image that a harmful statement is about.
enum Packages {
    OfAnotherImage,
    /// None for every package.
    These(Vec<PackageName>),
    /// One of them cannot be written as it is.
    NotWritable,
}

fn packages_of(statement: &VexStatement, subject: &Digest) -> Packages {
    let is_meant =
        |product: &&VexProduct| product.digests.is_empty() || product.digests.contains(subject);
    let products: Vec<_> = statement.products.iter().filter(is_meant).collect();
    if products.is_empty() && !statement.products.is_empty() {
        return Packages::OfAnotherImage;
    }
    if products.iter().any(|it| it.components.is_empty()) {
        return Packages::These(Vec::new());
    }
    let components = products.into_iter().flat_map(|it| &it.components);
    // A component that is not a package URL may be any package.
    let packages: Option<Vec<_>> = components
        .map(|it| it.as_ref().map(|it| it.package().clone()))
        .collect();
    let packages = packages.unwrap_or_default();
    let is_written = |it: &PackageName| PackageName::of(&it.to_string()).as_ref() == Some(it);
    match packages.iter().all(is_written) {
        true => Packages::These(packages),
        false => Packages::NotWritable,
    }
}

/// The document of an accepted signer that is attached, with the time of its signature, if that is known.
type Attached<'e> = (&'e VerifiedStatement, Option<Timestamp>);

/// Whether the attached document is the one that said this, and says it at the same time or later: where no time of it is known, it takes
/// back whatever is older than the review.
fn says((document, signed): &Attached<'_>, kept: &KeptVex, said: &KeptVexStatement) -> bool {
    said.document.as_ref() == Some(document.digest())
        && kept.signer.name() == document.signer().name()
        && signed.is_none_or(|at| said.at() <= Some(at))
}

/// The time of the newest of the statements about a finding, if that says that the finding does no harm.
fn harmless_since(finding: &VulnerabilityFinding, about: &[&Said<'_>]) -> Option<Timestamp> {
    let newest = |cve: Option<&str>| {
        let about = about.iter().filter(|it| is_about_cve(it.statement, cve));
        let newest: Option<(Timestamp, VexStatus)> =
            about.map(|it| (it.at, it.statement.status)).max();
        newest.and_then(|(at, status)| status.is_harmless().then_some(at))
    };
    match finding.cves().as_slice() {
        [] => newest(None),
        cves => {
            let each = cves.iter().map(|cve| newest(Some(cve)));
            each.min().flatten()
        }
    }
}

/// Why a statement is not about an image or a package of it: the last of these comes the nearest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Miss<'s> {
    NoDigest,
    AnotherImage(&'s Digest),
    AnotherPackage,
}

/// Whether a statement that names a finding is about this vulnerability of it. Two vulnerabilities can have the same advisory, so what
/// is harmless and names CVE ids has to name this one.
fn is_about_cve(statement: &VexStatement, cve: Option<&str>) -> bool {
    let is_named = |cve: &str| {
        let mut cves = statement.ids.iter().filter(|id| is_cve(id)).peekable();
        cves.peek().is_none() || cves.any(|id| id.eq_ignore_ascii_case(cve))
    };
    !statement.status.is_harmless() || cve.is_none_or(is_named)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::attest::predicate::VexDocument;

    fn digest(name: &str) -> Digest {
        Digest::sha256(name.as_bytes())
    }

    fn finding(package: &str) -> VulnerabilityFinding {
        VulnerabilityFinding {
            id: "CVE-2026-9".into(),
            aliases: ["GHSA-9".into()].into(),
            package: package.into(),
            severity: None,
            is_fixable: None,
            is_suppressed: false,
        }
    }

    /// The end of the hint about one finding in a package, where OpenVEX statements name these products.
    fn said(package: &str, status: &str, products: &[Value], unreadable: &[&str]) -> String {
        let of = |product: &Value| json!({"vulnerability": {"name": "ghsa-9"}, "products": [product], "status": status, "impact_statement": "x"});
        let document = json!({
            "@context": "https://openvex.dev/ns/v0.2.0", "timestamp": "2026-11-01T00:00:00Z",
            "statements": products.iter().map(of).collect::<Vec<_>>(),
        });
        let document = VexDocument::read(&document.to_string()).unwrap();
        let statements = document.statements.iter().map(|statement| Said {
            at: statement.at,
            statement,
            kept: None,
        });
        let subject = digest("image");
        let unreadable = unreadable.iter().map(|why| UnreadableDocument {
            detail: (*why).to_owned(),
            at: None,
            kept: None,
        });
        let all = VexStatements {
            by_id: BTreeMap::from([("ghsa-9".to_owned(), statements.collect())]),
            unreadable: unreadable.collect(),
            subject: Some(&subject),
        };
        all.without_effect([&finding(package)].into_iter())
    }

    #[test]
    fn a_statement_about_something_else_is_named_with_why() {
        let image = |name: &str| json!({"@id": format!("pkg:oci/app@{}", digest(name))});
        let component = |purl: &str| {
            let mut product = image("image");
            product["subcomponents"] = json!([{"@id": purl}]);
            product
        };
        let zlib = "pkg:apk/alpine/zlib@1.3";
        let other = format!("its product is the image `{}`", digest("other"));
        for (package, product, why) in [
            (
                zlib,
                json!({"@id": "pkg:oci/app"}),
                "no product of it names an image by digest",
            ),
            (zlib, image("other"), other.as_str()),
            (
                zlib,
                component("pkg:apk/alpine/musl"),
                "no subcomponent of it is `pkg:apk/alpine/zlib@1.3`",
            ),
            (
                "zlib@1.3",
                component(zlib),
                "the scan does not give a package URL",
            ),
        ] {
            let said = said(package, "not_affected", &[product], &[]);
            let about = "do not count: the statement about `CVE-2026-9`, because ";
            assert!(said.contains(about) && said.contains(why), "{said}");
        }
        for (status, product) in [
            ("not_affected", image("image")),
            ("affected", image("other")),
        ] {
            assert_eq!(said(zlib, status, &[product], &[]), "");
        }
    }

    #[test]
    fn what_is_named_is_limited() {
        let images =
            (0..9).map(|n: u8| json!({"@id": format!("pkg:oci/app@{}", digest(&n.to_string()))}));
        let images: Vec<_> = images.collect();
        let text = said("", "fixed", &images, &["b", "a", "c", "a"]);
        let unreadable = "do not count: a; b; and more; the statement";
        assert!(text.contains(unreadable), "{text}");
        assert_eq!(text.matches("the statement about").count(), NAMED);
        assert!(text.ends_with("; and more"), "{text}");
    }
}
