//! OpenVEX documents: for which findings the newest statement says that the image is not affected.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{ImageCheck, ImageEvidence, Judgement, VEX_UNREADABLE, listed, sentence};
use crate::attest::VerifiedStatement;
use crate::attest::predicate::{
    PackageUrl, Predicate, VexStatement, VexStatus, VulnerabilityFinding, is_cve, is_vex,
};
use crate::gate::image::Digest;
use crate::gate::rules::check::{SigningTimes, in_time, replacing};
use crate::gate::signer::AcceptedSigner;

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
        let statements = evidence.statements.iter().map(|(_, it)| &**it);
        let others = statements.filter(|it| is_vex(it.predicate_type()) && !is_accepted(it));
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

/// The statements of all documents by accepted signers that are about the image.
#[derive(Default)]
pub(super) struct VexStatements<'e> {
    /// By an id of the vulnerability in lower case, with the time.
    by_id: BTreeMap<String, Vec<(Timestamp, &'e VexStatement)>>,
    /// Documents by accepted signers that are not understood, with the time of the signature.
    unreadable: Vec<(String, Option<Timestamp>)>,
    /// The digest of the image.
    subject: Option<&'e Digest>,
}

impl<'e> VexStatements<'e> {
    /// # Errors
    /// Why a document by an accepted signer is of the future.
    pub(super) fn read(
        documents: Option<&VexDocuments>,
        evidence: &'e ImageEvidence,
        check: &ImageCheck<'_>,
    ) -> Result<VexStatements<'e>, String> {
        let mut all = VexStatements::default();
        let Some(documents) = documents else {
            return Ok(all);
        };
        let statements = evidence.statements.iter().map(|(_, it)| &**it);
        let roots = &check.world.trust_roots;
        let is_accepted = |it: &&VerifiedStatement| {
            is_vex(it.predicate_type()) && documents.signed_by.signed(it, roots).is_ok()
        };
        let statements: Vec<_> = statements.filter(is_accepted).collect();
        let times = SigningTimes::of(statements.iter().copied());
        for statement in statements {
            let signed = times.at(statement);
            let by = statement.signer();
            in_time(statement, check.promotion.at)
                .map_err(|why| format!("VEX document by {by}: {why}"))?;
            all.subject = Some(statement.subject());
            match statement.predicate() {
                Predicate::Vex(document) => {
                    for it in &document.statements {
                        // A document cannot make itself newer than its signature. Without a verified time it could be of any time, also
                        // because a timestamp was taken away: then what harms is the newest, and what is harmless the oldest.
                        let at = match (signed, it.status.is_harmless()) {
                            (Some(signed), _) => signed.min(it.at),
                            (None, true) => Timestamp::MIN,
                            (None, false) => Timestamp::MAX,
                        };
                        let at = at.min(check.promotion.at);
                        for id in &it.ids {
                            let of_id = all.by_id.entry(id.to_ascii_lowercase()).or_default();
                            of_id.push((at, it));
                        }
                    }
                }
                Predicate::Unreadable(why) => {
                    let detail = format!("VEX document by {by}: {why}");
                    all.unreadable.push((detail, signed));
                }
                _ => {}
            }
        }
        Ok(all)
    }

    /// The time of the newest statement about a finding, if that says that the finding does no harm. Of statements of one time,
    /// the worst counts. Of a finding with several CVE ids, each has to do no harm; the earliest of their times is given.
    pub(super) fn harmless_since(&self, finding: &VulnerabilityFinding) -> Option<Timestamp> {
        let package = PackageUrl::parse(&finding.package);
        let about = finding.ids().flat_map(|id| {
            let of_id = self.by_id.get(&id.to_ascii_lowercase());
            of_id.into_iter().flatten()
        });
        let about = about.filter(|(_, it)| self.is_about(it, package.as_ref()));
        let about: Vec<&(Timestamp, &VexStatement)> = about.collect();
        let newest = |cve: Option<&str>| {
            let about = about.iter().filter(|(_, it)| is_about_cve(it, cve));
            let newest: Option<(Timestamp, VexStatus)> =
                about.map(|(at, it)| (*at, it.status)).max();
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
        let unreadable = self.unreadable.iter();
        let unreadable: BTreeSet<_> = unreadable.map(|(why, _)| format!("{why:.250}")).collect();
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
        let of_ids = finding.ids().flat_map(|id| {
            let of_id = self.by_id.get(&id.to_ascii_lowercase());
            of_id.into_iter().flatten()
        });
        let harmless = of_ids.filter(|(_, it)| it.status.is_harmless());
        let package = PackageUrl::parse(&finding.package);
        let others = harmless.filter(|(_, it)| !self.is_about(it, package.as_ref()));
        let misses: BTreeSet<Miss<'_>> = others.filter_map(|(_, it)| self.miss(it)).collect();
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

    /// The judgement if a document that cannot be read could be newer than what makes findings harmless since `oldest`.
    pub(super) fn unreadable(&self, oldest: Option<Timestamp>) -> Option<Judgement> {
        let oldest = oldest?;
        let unreadable = self.unreadable.iter();
        let unreadable = unreadable.filter(|(_, at)| at.is_none_or(|at| at >= oldest));
        let (detail, at) = unreadable.min_by_key(|(detail, at)| (at.is_some(), detail))?;
        let detail = format!("{detail}; it could say that the image is affected");
        Some(Judgement::undecided(VEX_UNREADABLE, detail).hint(replacing(
            at.is_some(),
            "write the document in the form of OpenVEX 0.2 (`vexctl create`) and attest it again, and after it every other document that clears a finding",
        )))
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
        let statements = document.statements.iter().map(|it| (it.at, it));
        let subject = digest("image");
        let unreadable = unreadable.iter().map(|why| ((*why).to_owned(), None));
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
