//! What is said where no scan counts: nothing is attached, it is signed by another signer, cannot be verified, or is the report of
//! a scanner in another form.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::scans::SignedScans;
use super::{
    ImageCheck, ImageEvidence, Judgement, NO_SCAN, SCAN_IN_ANOTHER_FORM, SCAN_SIGNER_NOT_ACCEPTED,
    SCAN_UNACCEPTED, Vulnerabilities,
};
use crate::attest::predicate::Predicate;
use crate::attest::unaccepted::TOO_LARGE;
use crate::gate::evidence::Form;
use crate::gate::rules::check::NOT_TRANSPARENT_ENOUGH;
use crate::gate::signer::Mismatch;

impl Vulnerabilities {
    pub(super) fn explain_absence(
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
        let statements = evidence.statements.iter().map(|(_, it)| &**it);
        let raw = statements.filter(|it| match it.predicate() {
            Predicate::Other(Some(text)) => is_report(text.get()),
            _ => false,
        });
        if let Some(kind) = raw.map(|it| it.predicate_type()).min() {
            let detail = format!(
                "the report of a scanner is attached with the predicate type `{kind:.200}`, which is not that of a scan"
            );
            return Judgement::fail(SCAN_IN_ANOTHER_FORM, detail).hint(attest);
        }
        match evidence.unaccepted_as(Form::Statement) {
            Some((why, text)) if why.reason == TOO_LARGE => {
                Judgement::undecided(SCAN_UNACCEPTED, text).hint(check.look())
            }
            Some((_, text)) => Judgement::fail(SCAN_UNACCEPTED, text).hint(check.look()),
            None => {
                let detail = check.none_of("vulnerability scan", Form::Statement);
                Judgement::fail(NO_SCAN, detail).hint(check.nothing_attached(attest))
            }
        }
    }
}

/// Whether a predicate is the report of a scanner, by itself or as the text that `cosign attest --type custom` makes of it.
fn is_report(text: &str) -> bool {
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
    #[derive(Deserialize)]
    struct Custom {
        #[serde(rename = "Data")]
        data: String,
    }
    let has_shape = |text: &str| {
        let shape = serde_json::from_str::<Shape>(text);
        shape.is_ok_and(|it| {
            it.schema.is_some() && (it.results.is_some() || it.artifact.is_some())
                || it.matches.is_some() && it.descriptor.is_some()
        })
    };
    has_shape(text)
        || serde_json::from_str::<Custom>(text).is_ok_and(|custom| has_shape(&custom.data))
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
            (trivy.clone(), true),
            (grype, true),
            (json!({"Data": trivy, "Timestamp": ""}).to_string(), true),
            (json!({"Data": "text", "Timestamp": ""}).to_string(), false),
            (json!({"matches": []}).to_string(), false),
            ("null".to_owned(), false),
        ] {
            assert_eq!(is_report(&text), is, "{text}");
        }
    }
}
