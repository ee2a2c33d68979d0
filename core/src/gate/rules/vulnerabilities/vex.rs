//! OpenVEX documents: for which findings the newest statement says that the image is not affected.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{ImageCheck, ImageEvidence, Judgement, VEX_UNREADABLE};
use crate::attest::VerifiedStatement;
use crate::attest::predicate::{
    PackageUrl, Predicate, VexStatement, VexStatus, VulnerabilityFinding, is_vex,
};
use crate::gate::image::Digest;
use crate::gate::rules::check::in_time;
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
        for statement in statements.filter(is_accepted) {
            let by = statement.signer();
            in_time(statement, check.promotion.at)
                .map_err(|why| format!("VEX document by {by}: {why}"))?;
            all.subject = Some(statement.subject());
            match statement.predicate() {
                Predicate::Vex(document) => {
                    for it in &document.statements {
                        // A document cannot make itself newer than its signature.
                        let at = statement.made_at(it.at).unwrap_or(it.at);
                        let at = at.min(check.promotion.at);
                        for id in &it.ids {
                            let of_id = all.by_id.entry(id.to_ascii_lowercase()).or_default();
                            of_id.push((at, it));
                        }
                    }
                }
                Predicate::Unreadable(why) => {
                    let detail = format!("VEX document by {by}: {why}");
                    all.unreadable
                        .push((detail, statement.made_at(Timestamp::MAX)));
                }
                _ => {}
            }
        }
        Ok(all)
    }

    /// The time of the newest statement about a finding, if that says that the finding does no harm. Of statements of one time,
    /// the worst counts.
    pub(super) fn harmless_since(&self, finding: &VulnerabilityFinding) -> Option<Timestamp> {
        let package = PackageUrl::parse(&finding.package);
        let about = finding.ids().flat_map(|id| {
            let of_id = self.by_id.get(&id.to_ascii_lowercase());
            of_id.into_iter().flatten()
        });
        let about = about.filter(|(_, it)| self.is_about(it, package.as_ref()));
        let newest: Option<(Timestamp, VexStatus)> = about.map(|(at, it)| (*at, it.status)).max();
        newest.and_then(|(at, status)| status.is_harmless().then_some(at))
    }

    /// Whether a statement is about this image and this package of it.
    fn is_about(&self, statement: &VexStatement, package: Option<&PackageUrl>) -> bool {
        // Where it is not known which package is meant, what may harm is about each of them, and what is harmless about none.
        let is_component = |component: &Option<PackageUrl>| match component.as_ref().zip(package) {
            Some((component, package)) => component.includes(package),
            None => !statement.status.is_harmless(),
        };
        statement.products.is_empty()
            || statement.products.iter().any(|product| {
                let is_image = !product.digests.is_empty()
                    && product
                        .digests
                        .iter()
                        .all(|digest| Some(digest) == self.subject);
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
        let detail = unreadable.map(|(detail, _)| detail).min()?;
        let detail = format!("{detail}; it could say that the image is affected");
        Some(Judgement::undecided(VEX_UNREADABLE, detail).hint(
            "write the document in the form of OpenVEX 0.2 (`vexctl create`) and attest it again",
        ))
    }
}
