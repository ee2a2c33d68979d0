//! Reports of Trivy and Grype, OpenVEX documents and SBOMs: what other projects write is read, and as it is written.

use promotion_gate_core::attest::predicate::{SoftwareBill, VexDocument, VulnerabilityScan};
use serde_json::{Value, json};

use super::{Tally, folder, read};

const VULN: &str = "https://cosign.sigstore.dev/attestation/vuln/v1";

/// Every document of a kind that is read. A report has as many findings as its lists have items, an SBOM has its version and at
/// least its packages, and an OpenVEX document has its statements; what is of another version is refused.
#[test]
fn reports_sboms_and_vex_documents_of_other_projects_are_read_as_written() {
    let Some(folder) = folder("documents") else {
        return;
    };
    let mut tally = Tally::of("reports, SBOMs and VEX documents");
    let index: Vec<Value> = serde_json::from_slice(&read(&folder, "index.json")).unwrap();
    let (mut cases, mut lists) = (0, 0);
    for document in &index {
        let file = document["file"].as_str().unwrap();
        let kind = document["type"].as_str().unwrap_or_default();
        let bytes = read(&folder, file);
        let Ok(value) = serde_json::from_slice::<Value>(&bytes) else {
            continue;
        };
        let text = String::from_utf8(bytes).unwrap();
        cases += 1;
        match kind {
            "Trivy JSON report" | "Grype JSON" => {
                let predicate = json!({
                    "scanner": {"uri": "https://scanner.example", "result": value},
                    "metadata": {"scanFinishedOn": "2026-11-28T10:00:00Z"},
                });
                let scan = VulnerabilityScan::read(VULN, &predicate.to_string());
                let said = scan.map(|scan| scan.findings.len());
                tally.expect(file, said, Ok(findings(&value)));
            }
            _ if kind.starts_with("in-toto statement https://in-toto.io/attestation/vulns/") => {
                let (of_type, predicate) = (&value["predicateType"], &value["predicate"]);
                let scan =
                    VulnerabilityScan::read(of_type.as_str().unwrap(), &predicate.to_string());
                let listed = predicate["scanner"]["result"].as_array().map(Vec::len);
                let said = scan.map(|scan| scan.findings.len()).ok();
                lists += usize::from(listed.is_some());
                // One without a list is refused.
                tally.expect(file, said, listed);
            }
            "cosign vuln predicate" => {
                // Its result is `null`.
                let why = VulnerabilityScan::read(VULN, &text).unwrap_err();
                tally.expect(file, why.detail.contains("scanner.result"), true);
            }
            "OpenVEX" => {
                let said = VexDocument::read(&text).map(|read| read.statements.len());
                let is_0_2 = is_openvex_0_2(&value);
                let statements = value["statements"].as_array().map_or(0, Vec::len);
                tally.expect(file, said.ok(), is_0_2.then_some(statements));
            }
            _ if kind.starts_with("SPDX-") || kind.starts_with("CycloneDX") => {
                let of_type = match kind.starts_with("SPDX-") {
                    true => "https://spdx.dev/Document",
                    false => "https://cyclonedx.org/bom",
                };
                let said = SoftwareBill::read(of_type, &text);
                let said = said.map(|bill| {
                    (
                        bill.version.to_string(),
                        bill.packages.len() >= packages(&value),
                    )
                });
                let version = kind
                    .trim_start_matches("SPDX-")
                    .trim_start_matches("CycloneDX ");
                tally.expect(file, said, Ok((version.to_owned(), true)));
            }
            _ => cases -= 1,
        }
    }
    assert!(cases > 100 && lists > 1, "{cases}, {lists}");
    tally.close(cases);
}

/// What Trivy writes of an image without packages lists the image alone.
#[test]
fn an_spdx_document_that_lists_only_its_image_is_empty() {
    let Some(folder) = folder("documents") else {
        return;
    };
    let mut tally = Tally::of("SPDX documents and what they describe");
    let files = [
        ("trivy/pkg/sbom/spdx/testdata/happy/empty-bom.json", true),
        ("trivy/pkg/sbom/spdx/testdata/happy/bom.json", false),
        // Its packages have no names.
        (
            "guac/internal/testing/testdata/exampledata/small-spdx.json",
            true,
        ),
        (
            "guac/internal/testing/testdata/exampledata/alpine-spdx.json",
            false,
        ),
    ];
    for (file, is_empty) in files {
        let text = String::from_utf8(read(&folder, file)).unwrap();
        let said = SoftwareBill::read("https://spdx.dev/Document", &text);
        tally.expect(file, said.map(|bill| bill.is_empty), Ok(is_empty));
    }
    tally.close(files.len());
}

/// The number of findings, by a walk through the report.
fn findings(report: &Value) -> usize {
    let list = |value: &Value| value.as_array().map_or(0, Vec::len);
    let results = report["Results"].as_array().into_iter().flatten();
    let of_trivy: usize = results.map(|result| list(&result["Vulnerabilities"])).sum();
    of_trivy + list(&report["matches"]) + list(&report["ignoredMatches"])
}

/// The number of named packages at the top of an SBOM.
fn packages(bill: &Value) -> usize {
    let lists = [&bill["packages"], &bill["components"]].into_iter();
    let items = lists.filter_map(Value::as_array).flatten();
    items.filter(|item| item["name"].is_string()).count()
}

/// Whether a document has the shape of OpenVEX 0.2, which some give without the version in `@context`.
fn is_openvex_0_2(document: &Value) -> bool {
    let context = document["@context"].as_str().unwrap_or_default();
    let statements = document["statements"].as_array().into_iter().flatten();
    let mut statements = statements.map(|it| &it["vulnerability"]);
    !context.ends_with("v0.0.1") && statements.all(Value::is_object)
}
