//! The short forms of verification summaries, OpenVEX documents and SBOMs → their predicates.

use std::collections::BTreeSet;

use jiff::Timestamp;
use promotion_gate_core::attest::predicate::{
    SummaryPolicy, SummaryResult, SummaryVerifier, VerificationSummary, VexDocument,
};
use promotion_gate_core::gate::{Age, Digest, Repository};
use serde_json::{Value, json};

use super::format::{BillFormat, BillSpec, SummarySpec, VexSpec, VexStatementSpec};
use super::scans::{before, signed_at};

type Expanded = Result<(&'static str, Value), String>;

/// A verification summary. `at` is the time of the case, and `to` are the images that carry the summary.
pub(super) fn summary(
    written: &SummarySpec,
    at: Timestamp,
    to: &[(Repository, Digest)],
) -> Expanded {
    let at = signed_at(&written.how(), at);
    let repositories: BTreeSet<_> = to.iter().map(|(repository, _)| repository).collect();
    if written.resource.is_none() && repositories.len() > 1 {
        return Err("a summary is about one repository, and the case has images of several; name one with `image`, or give `resource`".to_owned());
    }
    let repository = repositories.first().map(|it| it.name().to_owned());
    let running_since = written.ran_for.as_ref();
    let running_since = running_since.map(|ran| Ok::<_, String>(before(at, ran.parse::<Age>()?)));
    let predicate = VerificationSummary {
        verifier: SummaryVerifier {
            id: written.verifier.clone(),
        },
        time_verified: Some(at),
        resource_uri: written.resource.clone().or(repository).unwrap_or_default(),
        policy: SummaryPolicy {
            uri: written.policy.clone(),
            ..SummaryPolicy::default()
        },
        verification_result: match written.failed {
            true => SummaryResult::Failed,
            false => SummaryResult::Passed,
        },
        verified_levels: written.levels.clone(),
        environment: written.environment.clone(),
        cluster: written.cluster.clone(),
        running_since: running_since.transpose()?,
    };
    let predicate = serde_json::to_value(predicate).map_err(|error| error.to_string())?;
    Ok((VerificationSummary::TYPE, predicate))
}

/// An OpenVEX document without products, so that it is about the digest that it is attached to.
pub(super) fn vex(written: &VexSpec, at: Timestamp) -> Expanded {
    let at = signed_at(&written.how(), at);
    let statement = |it: &VexStatementSpec| json!({"vulnerability": {"name": it.id}, "status": it.status, "justification": it.justification});
    let statements: Vec<_> = written.statements.iter().map(statement).collect();
    let document = json!({
        "@context": "https://openvex.dev/ns/v0.2.0",
        "@id": "https://openvex.dev/docs/test",
        "author": written.how().by,
        "timestamp": at,
        "version": 1,
        "statements": statements,
    });
    VexDocument::read(&document.to_string()).map_err(|why| why.detail)?;
    Ok(("https://openvex.dev/ns", document))
}

/// An SBOM that lists packages by their package URLs.
pub(super) fn bill(written: &BillSpec) -> (&'static str, Value) {
    let packages = written.packages.iter();
    match written.format {
        BillFormat::Spdx => {
            let package = |purl: &String| {
                let reference = json!({
                    "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl,
                });
                json!({"name": purl, "externalRefs": [reference]})
            };
            let packages: Vec<_> = packages.map(package).collect();
            let document = json!({"spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT", "packages": packages});
            ("https://spdx.dev/Document", document)
        }
        BillFormat::Cyclonedx => {
            let component = |purl: &String| json!({"type": "library", "name": purl, "purl": purl});
            let components: Vec<_> = packages.map(component).collect();
            let document =
                json!({"bomFormat": "CycloneDX", "specVersion": "1.6", "components": components});
            ("https://cyclonedx.org/bom", document)
        }
    }
}

#[cfg(test)]
mod tests {
    use promotion_gate_core::attest::predicate::{SbomFormat, SoftwareBill};

    use super::*;

    fn at() -> Timestamp {
        "2026-12-01T10:00:00Z".parse().unwrap()
    }

    fn image(name: &str) -> (Repository, Digest) {
        (Repository::named(name), Digest::sha256(b"image"))
    }

    #[test]
    fn a_summary_is_about_the_image_that_carries_it_and_says_how_long_it_ran() {
        let written = json!({
            "by": "staging", "verifier": "https://staging.example/gate", "environment": "staging",
            "cluster": "eu1", "levels": ["SLSA_BUILD_LEVEL_3"], "ranFor": "30h", "ago": "1h",
        });
        let written: SummarySpec = serde_json::from_value(written).unwrap();
        let to = [image("ghcr.io/example/app")];
        let (kind, predicate) = summary(&written, at(), &to).unwrap();
        let read = VerificationSummary::read(&predicate.to_string()).unwrap();
        assert_eq!(kind, VerificationSummary::TYPE);
        assert_eq!(read.resource_uri, "ghcr.io/example/app");
        assert_eq!(
            read.time_verified.unwrap().to_string(),
            "2026-12-01T09:00:00Z"
        );
        assert_eq!(
            read.running_since.unwrap().to_string(),
            "2026-11-30T03:00:00Z"
        );
        assert_eq!(read.verification_result, SummaryResult::Passed);
        assert_eq!(read.environment.as_deref(), Some("staging"));
        let several = [image("ghcr.io/example/app"), image("ghcr.io/example/db")];
        let why = summary(&written, at(), &several).unwrap_err();
        assert!(why.contains("give `resource`"), "{why}");
    }

    #[test]
    fn a_document_and_an_sbom_are_read_as_the_short_forms_say() {
        let written = json!({"by": "security", "statements": [
            {"id": "CVE-1", "status": "not_affected", "justification": "component_not_present"}, {"id": "CVE-2", "status": "affected"},
        ]});
        let (_, document) = vex(&serde_json::from_value(written).unwrap(), at()).unwrap();
        let read = VexDocument::read(&document.to_string()).unwrap();
        assert_eq!(read.statements.len(), 2);
        let unjustified =
            json!({"by": "security", "statements": [{"id": "CVE-1", "status": "not_affected"}]});
        let why = vex(&serde_json::from_value(unjustified).unwrap(), at()).unwrap_err();
        assert!(why.contains("needs a justification"), "{why}");
        assert!(read.statements.iter().all(|it| it.products.is_empty()));
        for (written, format) in [
            ("spdx", SbomFormat::Spdx),
            ("cyclonedx", SbomFormat::CycloneDx),
        ] {
            let written = json!({"by": "release", "format": written, "packages": ["pkg:npm/a@1"]});
            let (kind, document) = bill(&serde_json::from_value(written).unwrap());
            let read = SoftwareBill::read(kind, &document.to_string()).unwrap();
            assert_eq!((read.format, &*read.packages[0]), (format, "pkg:npm/a@1"));
        }
    }
}
