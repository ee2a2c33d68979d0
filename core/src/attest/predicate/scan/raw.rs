//! The reports of scanners as the scanners write them, which are not predicates of scans.

use std::fmt;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// How many characters of a text are looked at to recognise a report by its beginning.
const BEGINNING: usize = 256;

/// A scanner whose report is attached as the scanner writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RawReport {
    Trivy,
    Grype,
}

impl RawReport {
    /// The scanner, if a predicate is its report, by itself or as the text that `cosign attest --type custom` makes of it.
    pub(crate) fn of(text: &str) -> Option<RawReport> {
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

    /// The scanner, if a text begins as its report does. Keys are in the order of the scanner, or sorted.
    pub(crate) fn beginning(text: &str) -> Option<RawReport> {
        let begin: String = text.chars().take(BEGINNING).collect();
        // `cosign attest --type custom` makes a text of it, in which quotes and line breaks are escaped.
        let begin = begin.replace("\\n", "").replace("\\t", "");
        let begin = begin.replace(|it: char| it.is_whitespace() || it == '\\', "");
        let report = begin.strip_prefix("{\"Data\":\"").unwrap_or(&begin);
        let key = report.strip_prefix("{\"")?;
        let begins = |keys: &[&str]| keys.iter().any(|it| key.starts_with(it));
        if begins(&["SchemaVersion\":", "ArtifactID\":", "ArtifactName\":"]) {
            Some(RawReport::Trivy)
        } else if begins(&["matches\":[", "descriptor\":{"]) {
            Some(RawReport::Grype)
        } else {
            None
        }
    }

    /// The command that makes the predicate of a scan of the report.
    pub(crate) fn conversion(self) -> &'static str {
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
    fn the_report_of_a_scanner_is_recognised_by_its_beginning() {
        let trivy = r#"{ "SchemaVersion": 2, "Results": ["#;
        for (text, is) in [
            (trivy.to_owned(), Some(RawReport::Trivy)),
            (
                r#"{"ArtifactName":"app","ArtifactType":"container_image""#.to_owned(),
                Some(RawReport::Trivy),
            ),
            ("{\n \"matches\": [\n  {".to_owned(), Some(RawReport::Grype)),
            (
                r#"{"descriptor":{"configuration":"#.to_owned(),
                Some(RawReport::Grype),
            ),
            (
                json!({"Data": trivy, "Timestamp": ""}).to_string(),
                Some(RawReport::Trivy),
            ),
            (
                json!({"Data": "{\n\t\"matches\": [", "Timestamp": ""}).to_string(),
                Some(RawReport::Grype),
            ),
            (format!("{}{trivy}", " ".repeat(BEGINNING)), None),
            (r#"{"a":1,"SchemaVersion":2"#.to_owned(), None),
            (r#"{"matches":1"#.to_owned(), None),
            ("[]".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(RawReport::beginning(&text), is, "{text}");
        }
    }

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
