//! The severity of a vulnerability, from the words and scores of scanners.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

use super::cvss;
use crate::attest::predicate::fields::OfText;

/// How severe a vulnerability is, from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
pub enum VulnerabilitySeverity {
    /// No severity: the CVSS score is 0.
    None,
    /// Only Grype uses it.
    Negligible,
    /// A CVSS score from 0.1 to 3.9.
    Low,
    /// A CVSS score from 4.0 to 6.9.
    Medium,
    /// A CVSS score from 7.0 to 8.9.
    High,
    /// A CVSS score of 9.0 or more.
    Critical,
}

/// Parts of the names of methods that measure something else than how severe a vulnerability is: how likely an attack is, whether
/// attacks are known, or one of the metrics from which a score is made. Their words and numbers look like severities.
const OTHER_MEASURES: [&str; 18] = [
    "attack",
    "automatable",
    "availability",
    "complexity",
    "confidence",
    "confidentiality",
    "environmental",
    "epss",
    "exploit",
    "impact",
    "integrity",
    "interaction",
    "kev",
    "likelihood",
    "privilege",
    "probability",
    "ssvc",
    "temporal",
];

impl VulnerabilitySeverity {
    /// The severities, from the least to the most.
    pub const ALL: [VulnerabilitySeverity; 6] = [
        VulnerabilitySeverity::None,
        VulnerabilitySeverity::Negligible,
        VulnerabilitySeverity::Low,
        VulnerabilitySeverity::Medium,
        VulnerabilitySeverity::High,
        VulnerabilitySeverity::Critical,
    ];

    /// The severity that a scanner's word names; `None` for `UNKNOWN` and every other word.
    pub(super) fn named(word: &str) -> Option<VulnerabilitySeverity> {
        let is = |name: &&str| word.eq_ignore_ascii_case(name);
        let named = [
            (VulnerabilitySeverity::None, &["none"][..]),
            (VulnerabilitySeverity::Negligible, &["negligible"]),
            (VulnerabilitySeverity::Low, &["low"]),
            (VulnerabilitySeverity::Medium, &["medium", "moderate"]),
            (VulnerabilitySeverity::High, &["high", "important"]),
            (VulnerabilitySeverity::Critical, &["critical"]),
        ];
        let mut named = named.into_iter();
        named.find_map(|(severity, words)| words.iter().any(is).then_some(severity))
    }

    /// Whether a rating of in-toto's predicate says how severe a vulnerability is. A CVSS score of 0 does not: databases give it to
    /// vulnerabilities that are not rated yet.
    pub(super) fn is_rated(method: &str, score: &str) -> bool {
        let method = method.to_ascii_lowercase();
        let is_zero =
            method.contains("cvss") && score.trim().parse().is_ok_and(|score: f64| score == 0.0);
        !is_zero && !OTHER_MEASURES.iter().any(|other| method.contains(other))
    }

    /// The severity of a rating of in-toto's predicate: a word, a CVSS vector of version 3, or a number of a method that is CVSS by
    /// its name. A number of another method (such as EPSS) and a vector of another version are not understood.
    pub(super) fn rated(method: &str, score: &str) -> Option<VulnerabilitySeverity> {
        let is_cvss = method.to_ascii_lowercase().contains("cvss");
        let score = score.trim();
        let number = || score.parse::<f64>().ok().filter(|_| is_cvss);
        VulnerabilitySeverity::named(score).or_else(|| {
            let score = cvss::base_score(score).or_else(number);
            score.and_then(VulnerabilitySeverity::of_cvss)
        })
    }

    /// The severity of a CVSS score (CVSS 3.1, "Qualitative Severity Rating Scale"); `None` outside 0 to 10.
    fn of_cvss(score: f64) -> Option<VulnerabilitySeverity> {
        match score {
            0.0 => Some(VulnerabilitySeverity::None),
            score if score > 0.0 && score < 4.0 => Some(VulnerabilitySeverity::Low),
            score if (4.0..7.0).contains(&score) => Some(VulnerabilitySeverity::Medium),
            score if (7.0..9.0).contains(&score) => Some(VulnerabilitySeverity::High),
            score if (9.0..=10.0).contains(&score) => Some(VulnerabilitySeverity::Critical),
            _ => None,
        }
    }
}

/// The severity that a scanner's word names.
impl OfText for Option<VulnerabilitySeverity> {
    fn of(word: &str) -> Self {
        VulnerabilitySeverity::named(word)
    }
}

impl fmt::Display for VulnerabilitySeverity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_is_unknown_and_not_harmless() {
        use VulnerabilitySeverity::{Critical, High, Low, Medium, Negligible, None as Zero};
        for (method, score, severity) in [
            ("nvd", "CRITICAL", Some(Critical)),
            ("nvd", "High", Some(High)),
            ("redhat", "Important", Some(High)),
            ("redhat", "moderate", Some(Medium)),
            ("nvd", "low", Some(Low)),
            ("grype", "Negligible", Some(Negligible)),
            ("nvd", "none", Some(Zero)),
            ("nvd", "UNKNOWN", None),
            ("nvd", "", None),
            ("nvd", "severe", None),
            ("cvss_score", "0", Some(Zero)),
            ("cvss_score", "0.1", Some(Low)),
            ("cvss_score", "3.9", Some(Low)),
            ("CVSSv31", "4.0", Some(Medium)),
            ("CVSSv31", "6.9", Some(Medium)),
            ("cvss", "7", Some(High)),
            ("cvss", "8.9", Some(High)),
            ("cvss", "9.0", Some(Critical)),
            ("cvss", "10", Some(Critical)),
            ("cvss", "10.1", None),
            ("cvss", "-1", None),
            ("cvss", "NaN", None),
            ("epss", "0.03", None),
            (
                "CVSSv31",
                "CVSS:3.1/AV:N/AC:H/PR:N/UI:N/S:U/C:N/I:N/A:N",
                Some(Zero),
            ),
            (
                "nvd",
                " CVSS:3.0/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
                Some(Critical),
            ),
            ("CVSSv31", "CVSS:3.1/AV:N", None),
            ("CVSSv2", "AV:N/AC:L/Au:N/C:N/I:N/A:N", None),
            ("cvss_v2", "5.0", Some(Medium)),
            ("CVSSv4", "9.3", Some(Critical)),
        ] {
            assert_eq!(
                VulnerabilitySeverity::rated(method, score),
                severity,
                "{method} {score}"
            );
        }
    }

    #[test]
    fn a_rating_of_something_else_is_no_severity() {
        for (method, score, is_rated) in [
            ("nvd", "none", true),
            ("redhat", "low", true),
            ("CVSSv31", "3.9", true),
            ("cvss", "0.1", true),
            ("other", "0", true),
            ("cvss", "0.0", false),
            ("ssvc-exploitation", "none", false),
            ("attack_complexity", "low", false),
            ("cvss_exploitability", "3.9", false),
            ("CVSSv3_Temporal", "3.9", false),
            ("epss", "0.03", false),
        ] {
            let found = VulnerabilitySeverity::is_rated(method, score);
            assert_eq!(found, is_rated, "{method} {score}");
        }
    }
}
