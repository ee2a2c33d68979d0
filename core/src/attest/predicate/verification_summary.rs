//! SLSA verification summaries (`https://slsa.dev/verification_summary/v1`, SLSA 1.0 to 1.2): what a verifier concluded of an
//! artifact. One environment's gate writes them too, with extension fields of this project, for the next environment.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use super::strict;
use crate::attest::unaccepted::{MALFORMED_PREDICATE, UnacceptedReason};
use crate::strict_json::Fields;

/// The fields that are read. Other ones are extensions, which the specification tells to ignore.
const FIELDS: Fields = Fields {
    known: &[
        "verifier",
        "id",
        "timeVerified",
        "resourceUri",
        "policy",
        "uri",
        "digest",
        "verificationResult",
        "verifiedLevels",
        VerificationSummary::ENVIRONMENT,
        VerificationSummary::CLUSTER,
        VerificationSummary::RUNNING_SINCE,
    ],
    free: &["digest"],
};
/// The most levels.
const LEVELS: usize = 100;
/// The most bytes of a text.
const TEXT: usize = 2048;

/// What a verifier concluded.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VerificationSummary {
    /// Who verified.
    #[serde(deserialize_with = "strict::object")]
    pub verifier: SummaryVerifier,
    /// When, as the verifier says.
    #[serde(
        default,
        deserialize_with = "time",
        skip_serializing_if = "Option::is_none"
    )]
    pub time_verified: Option<Timestamp>,
    /// The artifact, as the verifier names it.
    #[serde(deserialize_with = "strict::text::<_, TEXT>")]
    pub resource_uri: String,
    /// The policy that was applied.
    #[serde(
        default,
        deserialize_with = "policy",
        skip_serializing_if = "SummaryPolicy::is_empty"
    )]
    pub policy: SummaryPolicy,
    /// The result.
    pub verification_result: SummaryResult,
    /// The levels and properties that the artifact reached, such as `SLSA_BUILD_LEVEL_3`.
    #[serde(default, deserialize_with = "levels")]
    pub verified_levels: Vec<String>,
    /// Of a summary by a gate: the environment in which it judged.
    #[serde(
        default,
        rename = "https://promotion-gate.dev/environment",
        deserialize_with = "strict::present_text::<_, TEXT>",
        skip_serializing_if = "Option::is_none"
    )]
    pub environment: Option<String>,
    /// Of a summary by a gate: the name of its cluster.
    #[serde(
        default,
        rename = "https://promotion-gate.dev/cluster",
        deserialize_with = "strict::present_text::<_, TEXT>",
        skip_serializing_if = "Option::is_none"
    )]
    pub cluster: Option<String>,
    /// Of a summary by a gate: since when the artifact has run in that environment without a break.
    #[serde(
        default,
        rename = "https://promotion-gate.dev/running-since",
        deserialize_with = "strict::present_instant",
        skip_serializing_if = "Option::is_none"
    )]
    pub running_since: Option<Timestamp>,
}

/// Who verified.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SummaryVerifier {
    /// The verifier's id, a URI.
    #[serde(deserialize_with = "strict::text::<_, TEXT>")]
    pub id: String,
}

/// The policy that a verifier applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct SummaryPolicy {
    /// Its URI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Its digests, by algorithm.
    #[serde(
        deserialize_with = "digests",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub digest: BTreeMap<String, String>,
}

/// The result of a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum SummaryResult {
    /// `PASSED`
    #[serde(rename = "PASSED")]
    Passed,
    /// `FAILED`
    #[serde(rename = "FAILED")]
    Failed,
}

impl VerificationSummary {
    /// The type of the predicate.
    pub const TYPE: &str = "https://slsa.dev/verification_summary/v1";
    /// The extension field with the environment in which a gate judged.
    pub const ENVIRONMENT: &str = "https://promotion-gate.dev/environment";
    /// The extension field with the name of the gate's cluster.
    pub const CLUSTER: &str = "https://promotion-gate.dev/cluster";
    /// The extension field with the time since which the artifact has run there.
    pub const RUNNING_SINCE: &str = "https://promotion-gate.dev/running-since";

    /// Reads a predicate.
    ///
    /// # Errors
    /// Why it cannot be read as a verification summary.
    pub fn read(text: &str) -> Result<VerificationSummary, UnacceptedReason> {
        let read: VerificationSummary = strict::read(text, FIELDS)?;
        let refused = |why: &str| {
            let detail = format!("the predicate cannot be read: {why}");
            UnacceptedReason::new(MALFORMED_PREDICATE, detail)
        };
        if read.policy.digest.len() > LEVELS {
            return Err(refused("`policy.digest` has too many entries"));
        }
        Ok(read)
    }

    pub(super) fn bytes(&self) -> usize {
        strict::weight(self)
    }
}

impl SummaryPolicy {
    fn is_empty(&self) -> bool {
        self.uri.is_none() && self.digest.is_empty()
    }
}

// Programs in Go write `null` for an empty list, map or time. In fields of this project, `null` is refused.

fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
    #[derive(Deserialize)]
    struct Time(#[serde(deserialize_with = "strict::instant")] Timestamp);
    let time = Option::<Time>::deserialize(from)?;
    Ok(time.map(|Time(at)| at))
}

fn policy<'de, D: Deserializer<'de>>(from: D) -> Result<SummaryPolicy, D::Error> {
    let policy = Option::<strict::Object<SummaryPolicy>>::deserialize(from)?;
    Ok(policy.map(|policy| policy.0).unwrap_or_default())
}

fn digests<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

fn levels<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    struct Levels(#[serde(deserialize_with = "strict::values::<_, _, LEVELS>")] Vec<String>);
    let levels = Option::<Levels>::deserialize(from)?;
    Ok(levels.map(|Levels(levels)| levels).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(predicate: &Value) -> Result<VerificationSummary, String> {
        VerificationSummary::read(&predicate.to_string()).map_err(|why| why.detail)
    }

    /// As SLSA's specification shows it, with fields of later versions.
    fn example() -> Value {
        json!({
            "verifier": {"id": "https://example.com/publication_verifier", "version": {"slsa-verifier-linux-amd64": "v2.3.0"}},
            "timeVerified": "1985-04-12T23:20:50.52Z",
            "resourceUri": "https://example.com/example-1.2.3.tar.gz",
            "policy": {"uri": "https://example.com/example_tarball.policy", "digest": {"sha256": "1234"}},
            "inputAttestations": [{"uri": "https://example.com/provenances/example-1.2.3.tar.gz.intoto.jsonl", "digest": {"sha256": "abcd"}}],
            "verificationResult": "PASSED",
            "verifiedLevels": ["SLSA_BUILD_LEVEL_3"],
            "dependencyLevels": {"SLSA_BUILD_LEVEL_3": 5},
            "slsaVersion": "1.0",
        })
    }

    #[test]
    fn the_example_of_the_specification_is_read_and_written() {
        let summary = read(&example()).unwrap();
        assert_eq!(
            summary.verifier.id,
            "https://example.com/publication_verifier"
        );
        assert_eq!(summary.verification_result, SummaryResult::Passed);
        assert_eq!(summary.verified_levels, ["SLSA_BUILD_LEVEL_3"]);
        assert_eq!(summary.running_since, None);
        let written = serde_json::to_string(&summary).unwrap();
        assert_eq!(VerificationSummary::read(&written), Ok(summary));
    }

    #[test]
    fn what_a_program_in_go_writes_for_empty_fields_is_read() {
        let mut predicate = example();
        predicate["timeVerified"] = json!(null);
        predicate["verifiedLevels"] = json!(null);
        predicate["policy"] = json!({"uri": null, "digest": null});
        let summary = read(&predicate).unwrap();
        assert_eq!(
            (summary.time_verified, summary.policy.is_empty()),
            (None, true)
        );
        assert_eq!(summary.verified_levels, [""; 0]);
        predicate["policy"] = json!(null);
        assert_eq!(read(&predicate), Ok(summary));
        for field in [
            "verifier",
            "resourceUri",
            "verificationResult",
            VerificationSummary::ENVIRONMENT,
            VerificationSummary::CLUSTER,
            VerificationSummary::RUNNING_SINCE,
        ] {
            let mut predicate = example();
            predicate[field] = json!(null);
            assert!(read(&predicate).is_err(), "{field}");
        }
    }

    #[test]
    fn the_fields_of_a_gate_are_read() {
        let mut predicate = example();
        predicate[VerificationSummary::ENVIRONMENT] = json!("staging");
        predicate[VerificationSummary::CLUSTER] = json!("staging-eu1");
        predicate[VerificationSummary::RUNNING_SINCE] = json!("2026-11-28T10:00:00Z");
        let summary = read(&predicate).unwrap();
        assert_eq!(summary.environment.as_deref(), Some("staging"));
        assert_eq!(summary.cluster.as_deref(), Some("staging-eu1"));
        let since = summary.running_since.map(|since| since.to_string());
        assert_eq!(since.as_deref(), Some("2026-11-28T10:00:00Z"));
    }

    #[test]
    fn what_could_be_read_in_two_ways_or_says_nothing_is_refused() {
        let without = |field: &str| {
            let mut predicate = example();
            predicate.as_object_mut().unwrap().remove(field);
            predicate
        };
        let with = |field: &str, value: Value| {
            let mut predicate = example();
            predicate[field] = value;
            predicate
        };
        for predicate in [
            without("verifier"),
            without("verificationResult"),
            without("resourceUri"),
            with("verificationResult", json!("passed")),
            with("VerificationResult", json!("FAILED")),
            with("verifier", json!(["https://example.com/verifier"])),
            with("timeVerified", json!("yesterday")),
            with("verifiedLevels", json!(vec!["a"; LEVELS + 1])),
            with(VerificationSummary::RUNNING_SINCE, json!(1)),
            json!([]),
        ] {
            assert!(read(&predicate).is_err(), "{predicate}");
        }
        let twice = r#"{"verificationResult": "FAILED", "verificationResult": "PASSED"}"#;
        assert!(VerificationSummary::read(twice).is_err());
    }
}
