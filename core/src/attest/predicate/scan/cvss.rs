//! The base score of a CVSS vector of version 3.0 or 3.1 (CVSS 3.1 specification, sections 7.1 and 7.4, appendix A).

use std::collections::BTreeMap;

/// The values of a metric, with the weight of each.
type Weights = &'static [(&'static str, f64)];

const ATTACK_VECTOR: Weights = &[("N", 0.85), ("A", 0.62), ("L", 0.55), ("P", 0.2)];
const ATTACK_COMPLEXITY: Weights = &[("L", 0.77), ("H", 0.44)];
const PRIVILEGES: Weights = &[("N", 0.85), ("L", 0.62), ("H", 0.27)];
const PRIVILEGES_OF_CHANGED_SCOPE: Weights = &[("N", 0.85), ("L", 0.68), ("H", 0.5)];
const USER_INTERACTION: Weights = &[("N", 0.85), ("R", 0.62)];
const IMPACT: Weights = &[("H", 0.56), ("L", 0.22), ("N", 0.0)];
/// The metrics that are not of the base group and can only make a score lower.
const TEMPORAL: [&str; 3] = ["E", "RL", "RC"];

/// The base score; `None` for another version, a metric that is missing, has no such value or is there twice, and for a metric of
/// the environment, which could make the score higher.
pub(super) fn base_score(vector: &str) -> Option<f64> {
    let versions = ["CVSS:3.1/", "CVSS:3.0/"].into_iter();
    let metrics = versions.filter_map(|version| vector.strip_prefix(version));
    let mut written = BTreeMap::new();
    for metric in metrics.flat_map(|metrics| metrics.split('/')) {
        let (name, value) = metric.split_once(':')?;
        if written.insert(name, value).is_some() {
            return None;
        }
    }
    let is_changed = match written.remove("S")? {
        "U" => false,
        "C" => true,
        _ => return None,
    };
    let mut weight = |name: &str, weights: Weights| {
        let value = written.remove(name)?;
        let mut weights = weights.iter();
        weights.find_map(|(of, weight)| (*of == value).then_some(*weight))
    };
    let privileges = match is_changed {
        true => PRIVILEGES_OF_CHANGED_SCOPE,
        false => PRIVILEGES,
    };
    let exploitability = 8.22
        * weight("AV", ATTACK_VECTOR)?
        * weight("AC", ATTACK_COMPLEXITY)?
        * weight("PR", privileges)?
        * weight("UI", USER_INTERACTION)?;
    let kept =
        (1.0 - weight("C", IMPACT)?) * (1.0 - weight("I", IMPACT)?) * (1.0 - weight("A", IMPACT)?);
    let lost = 1.0 - kept;
    if written.keys().any(|name| !TEMPORAL.contains(name)) {
        return None;
    }
    let impact = match is_changed {
        true => 7.52 * (lost - 0.029) - 3.25 * (lost - 0.02).powi(15),
        false => 6.42 * lost,
    };
    let score = match is_changed {
        _ if impact <= 0.0 => 0.0,
        true => 1.08 * (impact + exploitability),
        false => impact + exploitability,
    };
    Some(rounded_up(score.min(10.0)))
}

/// The smallest number with one decimal place that is not less (appendix A, "Floating Point Rounding").
fn rounded_up(score: f64) -> f64 {
    let units = (score * 100_000.0).round();
    match units % 10_000.0 == 0.0 {
        true => units / 100_000.0,
        false => ((units / 10_000.0).floor() + 1.0) / 10.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores that NVD publishes, and the examples of the specification.
    #[test]
    fn the_score_of_a_vector_is_that_of_the_specification() {
        for (vector, score) in [
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H", 10.0),
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", 9.8),
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H", 7.5),
            ("CVSS:3.0/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", 6.1),
            ("CVSS:3.1/AV:N/AC:L/PR:L/UI:N/S:C/C:L/I:L/A:N", 6.4),
            ("CVSS:3.0/AV:N/AC:H/PR:N/UI:R/S:U/C:L/I:N/A:N", 3.1),
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:L/I:N/A:N", 5.3),
            ("CVSS:3.1/AV:N/AC:H/PR:N/UI:N/S:U/C:L/I:L/A:N", 4.8),
            ("CVSS:3.1/AV:L/AC:L/PR:H/UI:N/S:U/C:L/I:L/A:L", 4.2),
            ("CVSS:3.1/AV:P/AC:H/PR:L/UI:R/S:U/C:L/I:H/A:H", 5.8),
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N", 0.0),
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:N/I:N/A:N", 0.0),
            (
                "CVSS:3.1/A:H/I:H/C:H/S:U/UI:N/PR:N/AC:L/AV:N/E:U/RL:O/RC:U",
                9.8,
            ),
        ] {
            assert_eq!(base_score(vector), Some(score), "{vector}");
        }
    }

    #[test]
    fn a_vector_that_lacks_a_metric_is_not_harmless() {
        const WHOLE: &str = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H";
        assert!(base_score(WHOLE).is_some());
        for metric in WHOLE.split('/') {
            let cut = WHOLE.replacen(metric, "", 1).replace("//", "/");
            let cut = cut.trim_end_matches('/');
            assert_eq!(base_score(cut), None, "{cut}");
        }
        for vector in [
            "",
            "CVSS:3.1/",
            "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H/",
            "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H/C:N",
            "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:X",
            "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:X/C:H/I:H/A:H",
            "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N/MC:H",
            "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N/CR:H",
            "cvss:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
            "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:H/SI:H/SA:H",
            "AV:N/AC:L/Au:N/C:P/I:N/A:N",
        ] {
            assert_eq!(base_score(vector), None, "{vector}");
        }
    }
}
