//! OpenVEX documents: for which findings the newest statement says that the image is not affected.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{ImageCheck, ImageEvidence, Judgement, VEX_UNREADABLE, listed};
use crate::attest::VerifiedStatement;
use crate::attest::predicate::{
    PackageUrl, Predicate, VexStatement, VexStatus, VulnerabilityFinding, is_cve, is_vex,
};
use crate::gate::image::Digest;
use crate::gate::rules::check::{SigningTimes, in_time, replacing};
use crate::gate::signer::AcceptedSigner;

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

/// Whether a statement that names a finding is about this vulnerability of it. Two vulnerabilities can have the same advisory, so what
/// is harmless and names CVE ids has to name this one.
fn is_about_cve(statement: &VexStatement, cve: Option<&str>) -> bool {
    let is_named = |cve: &str| {
        let mut cves = statement.ids.iter().filter(|id| is_cve(id)).peekable();
        cves.peek().is_none() || cves.any(|id| id.eq_ignore_ascii_case(cve))
    };
    !statement.status.is_harmless() || cve.is_none_or(is_named)
}
