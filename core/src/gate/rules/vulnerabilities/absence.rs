//! What is said where no scan counts: nothing is attached, it is signed by another signer, cannot be verified, or is the report of
//! a scanner in another form.

use super::scans::SignedScans;
use super::{
    ImageCheck, ImageEvidence, Judgement, NO_SCAN, SCAN_IN_ANOTHER_FORM, SCAN_SIGNER_NOT_ACCEPTED,
    SCAN_UNACCEPTED, Vulnerabilities,
};
use crate::attest::VerifiedStatement;
use crate::attest::predicate::{Predicate, RawReport};
use crate::gate::evidence::Form;
use crate::gate::rules::check::{NOT_TRANSPARENT_ENOUGH, unless_too_large};
use crate::gate::signer::Mismatch;

/// The most statements of other types that are searched for the report of a scanner, which costs time.
const MAXIMUM_OTHERS: usize = 8;

impl Vulnerabilities {
    pub(super) fn explain_absence(
        &self,
        evidence: &ImageEvidence,
        signed: &SignedScans<'_>,
        check: &ImageCheck<'_>,
    ) -> Judgement {
        let failed = self.why_absent(evidence, signed, check);
        unless_too_large(failed, SCAN_UNACCEPTED, evidence, check)
    }

    fn why_absent(
        &self,
        evidence: &ImageEvidence,
        signed: &SignedScans<'_>,
        check: &ImageCheck<'_>,
    ) -> Judgement {
        let name = check.name();
        let attest = format!(
            "`trivy image --format cosign-vuln --output scan.json {name}`, then `cosign attest --yes --type vuln --predicate scan.json {name}`"
        );
        match signed.not_accepted.iter().max() {
            Some((Mismatch::Transparency, by)) => {
                let detail = format!(
                    "scan by {by}: it lacks the log entry or timestamp that the policy requires"
                );
                return Judgement::fail(NOT_TRANSPARENT_ENOUGH, detail)
                    .hint("attest with a transparency log");
            }
            Some((Mismatch::OtherSigner, by)) => {
                let detail = format!("scan by {by}: the policy does not accept this signer");
                return Judgement::fail(SCAN_SIGNER_NOT_ACCEPTED, detail)
                    .hint(format!("accepted signer: {}", self.signed_by));
            }
            None => {}
        }
        let statements = self.others_to_search(evidence, check).into_iter();
        let raw = statements.filter_map(|it| match it.predicate() {
            Predicate::Other(Some(text)) => Some((it.predicate_type(), RawReport::of(text.get())?)),
            _ => None,
        });
        if let Some((kind, report)) = raw.min() {
            let detail = format!(
                "a report of {report} is attached with the predicate type `{kind:.200}`, which is not that of a scan"
            );
            return Judgement::fail(SCAN_IN_ANOTHER_FORM, detail).hint(format!(
                "`{}`, then `cosign attest --yes --type vuln --predicate scan.json {name}`",
                report.conversion()
            ));
        }
        match evidence.unaccepted_as(Form::Statement) {
            Some((_, text)) => Judgement::fail(SCAN_UNACCEPTED, text).hint(check.look()),
            None => {
                let detail = check.none_of("vulnerability scan", Form::Statement);
                Judgement::fail(NO_SCAN, detail).hint(check.nothing_attached(attest))
            }
        }
    }
}

impl Vulnerabilities {
    /// Statements of types without a rule by the accepted signer: those of others are not searched, since everyone may attach many.
    fn others_to_search<'e>(
        &self,
        evidence: &'e ImageEvidence,
        check: &ImageCheck<'_>,
    ) -> Vec<&'e VerifiedStatement> {
        let statements = evidence.statements.iter().map(|(_, it)| &**it);
        let roots = &check.world.trust_roots;
        let others = statements.filter(|it| {
            matches!(it.predicate(), Predicate::Other(Some(_)))
                && self.signed_by.signed(it, roots).is_ok()
        });
        let mut others: Vec<_> = others.collect();
        others.sort_by_cached_key(|it| (it.predicate_type(), it.digest()));
        others.dedup_by_key(|it| it.digest());
        others.truncate(MAXIMUM_OTHERS);
        others
    }
}
