//! What is said where no scan counts: nothing is attached, it is signed by another signer, cannot be verified, or is the report of
//! a scanner in another form.

use std::fmt;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::scans::SignedScans;
use super::{
    ImageCheck, ImageEvidence, Judgement, NO_SCAN, SCAN_IN_ANOTHER_FORM, SCAN_SIGNER_NOT_ACCEPTED,
    SCAN_UNACCEPTED, Vulnerabilities,
};
use crate::attest::VerifiedStatement;
use crate::attest::predicate::Predicate;
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
            "`trivy image --format cosign-vuln --output scan.json {name}`, then `cosign attest --type vuln --predicate scan.json {name}`"
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
                "`{}`, then `cosign attest --type vuln --predicate scan.json {name}`",
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

/// A scanner whose report is attached as the scanner writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum RawReport {
    Trivy,
    Grype,
}

impl RawReport {
    /// The scanner, if a predicate is its report, by itself or as the text that `cosign attest --type custom` makes of it.
    fn of(text: &str) -> Option<RawReport> {
        #[derive(Deserialize)]
        struct Custom {
            #[serde(rename = "Data")]
            data: String,
        }
        RawReport::with_shape(text).or_else(|| {
            let custom = serde_json::from_str::<Custom>(text).ok()?;
            RawReport::with_shape(&custom.data)
        })
    }

    fn with_shape(text: &str) -> Option<RawReport> {
        #[derive(Deserialize)]
        struct Shape {
            #[serde(rename = "SchemaVersion")]
            schema: Option<IgnoredAny>,
            #[serde(rename = "Results")]
            results: Option<IgnoredAny>,
            #[serde(rename = "ArtifactType")]
            artifact: Option<IgnoredAny>,
            matches: Option<IgnoredAny>,
            descriptor: Option<IgnoredAny>,
        }
        let shape = serde_json::from_str::<Shape>(text).ok()?;
        if shape.schema.is_some() && (shape.results.is_some() || shape.artifact.is_some()) {
            Some(RawReport::Trivy)
        } else if shape.matches.is_some() && shape.descriptor.is_some() {
            Some(RawReport::Grype)
        } else {
            None
        }
    }

    /// The command that makes the predicate of a scan of the report.
    fn conversion(self) -> &'static str {
        match self {
            RawReport::Trivy => "trivy convert --format cosign-vuln --output scan.json report.json",
            RawReport::Grype => {
                r#"jq '{scanner: {uri: "https://github.com/anchore/grype", result: .}, metadata: {scanStartedOn: .descriptor.timestamp, scanFinishedOn: .descriptor.timestamp}}' report.json > scan.json"#
            }
        }
    }
}

impl fmt::Display for RawReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RawReport::Trivy => "Trivy",
            RawReport::Grype => "Grype",
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_report_of_a_scanner_is_recognised_in_another_form() {
        let trivy = json!({"SchemaVersion": 2, "ArtifactType": "container_image"}).to_string();
        let grype = json!({"matches": [], "descriptor": {"name": "grype"}}).to_string();
        for (text, is) in [
            (trivy.clone(), Some(RawReport::Trivy)),
            (grype, Some(RawReport::Grype)),
            (
                json!({"Data": trivy, "Timestamp": ""}).to_string(),
                Some(RawReport::Trivy),
            ),
            (json!({"Data": "text", "Timestamp": ""}).to_string(), None),
            (json!({"matches": []}).to_string(), None),
            ("null".to_owned(), None),
        ] {
            assert_eq!(RawReport::of(&text), is, "{text}");
        }
    }
}
