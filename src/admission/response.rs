//! Verdict × enforcement → `AdmissionReview` answer: a message of at most one screen, warnings, audit annotations. It never
//! holds a patch.

use std::collections::BTreeMap;

use promotion_gate_core::gate::{
    Decision, EmergencyUse, Enforcement, Finding, Outcome, PolicyVerdict, Promotion, Target,
    Verdict,
};
use serde::Serialize;

use crate::text::line;

/// The most lines of a message: one screen.
pub(super) const MAXIMUM_LINES: usize = 24;
/// The most characters of a line.
pub(super) const MAXIMUM_LINE: usize = 600;
/// The most characters of a warning: Kubernetes cuts longer ones.
pub(super) const MAXIMUM_WARNING: usize = 119;
/// The most warnings.
const MAXIMUM_WARNINGS: usize = 8;

/// The answer to the API server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdmissionResponse {
    /// Whether the request is allowed.
    pub allowed: bool,
    /// The message of a denial.
    pub message: String,
    /// Warnings for the deployer, under 120 characters each.
    pub warnings: Vec<String>,
    /// Annotations for the API server's audit log.
    pub audit: BTreeMap<&'static str, String>,
    /// The emergency changes by which the request is admitted, each in one text.
    pub emergencies: Vec<String>,
}

impl AdmissionResponse {
    /// The answer to a judged request. Under `audit_only`, every request is allowed and the decision is only recorded.
    pub fn of(verdict: &Verdict, promotion: &Promotion, audit_only: bool) -> AdmissionResponse {
        let denied = verdict.decision() == Decision::Deny;
        let policies: Vec<_> = verdict
            .policies()
            .iter()
            .map(|policy| format!("{}={}", policy.policy(), policy.decision().id()))
            .collect();
        let mut audit = BTreeMap::from([
            ("decision", verdict.decision().id().to_owned()),
            ("id", promotion.change.id.clone()),
            ("policies", cut(&policies.join(","), 1000)),
            ("revision", verdict.revision().to_owned()),
        ]);
        let used = verdict.emergencies();
        if !used.is_empty() {
            let each = used.iter();
            let each = each.map(|used| format!("{}={}", used.incident, used.declaration));
            let each = each.collect::<Vec<_>>().join(",");
            audit.insert("emergency", cut(&each, 1000));
        }
        let emergencies = match denied && !audit_only {
            true => Vec::new(),
            false => used.iter().map(EmergencyUse::told).collect(),
        };
        if audit_only {
            audit.insert("auditOnly", "true".to_owned());
            return AdmissionResponse {
                allowed: true,
                audit,
                emergencies,
                ..AdmissionResponse::default()
            };
        }
        let warnings = verdict
            .denials()
            .filter(|policy| policy.enforcement() == Enforcement::Warn)
            .flat_map(warnings);
        let noted = verdict
            .warnings()
            .into_iter()
            .map(|text| cut(&text, MAXIMUM_WARNING));
        // What policies that only warn would deny comes first: notes must not take its place.
        let warnings = warnings.chain(noted).collect();
        AdmissionResponse {
            allowed: !denied,
            message: if denied {
                denial(verdict, promotion)
            } else {
                String::new()
            },
            warnings: at_most(MAXIMUM_WARNINGS, warnings),
            audit,
            emergencies,
        }
    }

    /// The answer to a request that is not judged: allowed.
    pub fn not_judged(why: &str) -> AdmissionResponse {
        AdmissionResponse {
            allowed: true,
            audit: BTreeMap::from([("decision", format!("not ours: {why}"))]),
            ..AdmissionResponse::default()
        }
    }

    /// The answer to a request without a verdict: denied.
    pub fn failed(message: String) -> AdmissionResponse {
        let audit = BTreeMap::from([("decision", "deny".to_owned())]);
        AdmissionResponse {
            allowed: false,
            message,
            audit,
            ..AdmissionResponse::default()
        }
    }
}

/// The first warnings, and how many there are besides.
fn at_most(most: usize, mut warnings: Vec<String>) -> Vec<String> {
    if warnings.len() > most {
        let more = warnings.split_off(most - 1).len();
        warnings.push(format!(
            "{more} more warnings: `promotion-gate check` shows all of them"
        ));
    }
    warnings
}

/// The `AdmissionReview` with the answer, in the version of the request.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Respond<'a> {
    api_version: &'a str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
    audit_annotations: &'a BTreeMap<&'static str, String>,
}

/// `metav1.Status`
#[derive(Serialize)]
struct Status<'a> {
    status: &'static str,
    reason: &'static str,
    code: u16,
    message: &'a str,
}

impl AdmissionResponse {
    /// The answer to the request `uid`, as the API server reads it.
    pub fn to<'a>(&'a self, version: &'a str, uid: &'a str) -> Respond<'a> {
        let status = Status {
            status: "Failure",
            reason: "Forbidden",
            code: 403,
            message: &self.message,
        };
        Respond {
            api_version: version,
            kind: "AdmissionReview",
            response: Response {
                uid,
                allowed: self.allowed,
                status: (!self.allowed).then_some(status),
                warnings: &self.warnings,
                audit_annotations: &self.audit,
            },
        }
    }
}

/// The message of a denial, in this order: what is denied, and by which policies; for each image and failing requirement, the
/// reason, the culprit and the next step; the id of the decision.
pub fn denial(verdict: &Verdict, promotion: &Promotion) -> String {
    let workload = &promotion.change.workload;
    let namespace = workload
        .namespace
        .as_deref()
        .map(|namespace| format!("{namespace}/"))
        .unwrap_or_default();
    let mut lines = vec![format!(
        "{} {namespace}{} may not be deployed",
        workload.kind, workload.name
    )];
    let denying: Vec<_> = verdict
        .denials()
        .filter(|policy| policy.enforcement() == Enforcement::Enforce)
        .collect();
    lines.extend(who_denies(&denying));
    let mut left_out = 0;
    for part in parts(&denying) {
        if lines.len() + part.len() > MAXIMUM_LINES - 2 {
            left_out += 1;
        } else {
            lines.extend(part);
        }
    }
    if left_out > 0 {
        lines.push(format!(
            "… and {left_out} more; `promotion-gate check` shows all"
        ));
    }
    lines.push(format!("decision {}", promotion.change.id));
    lines
        .iter()
        .map(|line| cut(line, MAXIMUM_LINE))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The policies that deny, and the policies that could not decide.
fn who_denies(denying: &[&PolicyVerdict]) -> Vec<String> {
    let fails = |policy: &&&PolicyVerdict| {
        let mut findings = policy.findings().iter();
        findings.any(|finding| finding.outcome == Outcome::Fail)
    };
    let (denied, undecided): (Vec<&PolicyVerdict>, Vec<&PolicyVerdict>) =
        denying.iter().copied().partition(|policy| fails(&policy));
    let named = |policies: &[&PolicyVerdict], one: &str, several: &str| {
        let names = policies
            .iter()
            .map(|policy| format!("`{}`", policy.policy()));
        let names = names.collect::<Vec<_>>().join(", ");
        match policies.len() {
            0 => None,
            1 => Some(format!("policy {names} {one}:")),
            _ => Some(format!("policies {names} {several}:")),
        }
    };
    let lines = [
        named(&denied, "denies it", "deny it"),
        named(&undecided, "could not decide", "could not decide"),
    ];
    lines.into_iter().flatten().collect()
}

/// A statement, the policies that make it, and what it is about.
struct Said<'a> {
    finding: &'a Finding,
    policies: Vec<&'a str>,
    abouts: Vec<String>,
}

/// Each different statement once, for any number of policies and images; statements about one image are grouped under the name
/// of that image.
fn parts(denying: &[&PolicyVerdict]) -> Vec<Vec<String>> {
    let mut each: Vec<Said<'_>> = Vec::new();
    for policy in denying {
        for finding in policy.findings() {
            if !finding.outcome.denies() {
                continue;
            }
            let same = |said: &&mut Said<'_>| {
                said.finding.rule == finding.rule && said.finding.detail == finding.detail
            };
            let about = about(finding);
            match each.iter_mut().find(same) {
                Some(said) => {
                    said.abouts
                        .extend(about.filter(|about| !said.abouts.contains(about)));
                    if !said.policies.contains(&policy.policy()) {
                        said.policies.push(policy.policy());
                    }
                }
                None => each.push(Said {
                    finding,
                    policies: vec![policy.policy()],
                    abouts: about.into_iter().collect(),
                }),
            }
        }
    }
    let mut groups: Vec<(Vec<String>, Vec<Said<'_>>)> = Vec::new();
    for said in each {
        match groups.iter_mut().find(|(abouts, _)| *abouts == said.abouts) {
            Some((_, group)) => group.push(said),
            None => groups.push((said.abouts.clone(), vec![said])),
        }
    }
    let several = denying.len() > 1;
    let mut parts = Vec::new();
    for (abouts, group) in groups {
        let shown: Vec<_> = abouts.iter().take(3).cloned().collect();
        let more = match abouts.len().saturating_sub(shown.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let name = match shown.is_empty() {
            true => String::new(),
            false => format!(" {}{more}:", shown.join(", ")),
        };
        let nested = group.len() > 1 && !name.is_empty();
        let mut lines = Vec::new();
        if nested {
            lines.push(format!("-{name}"));
        }
        let (begin, about) = match nested {
            true => ("  - ", ""),
            false => ("- ", name.as_str()),
        };
        for Said {
            finding, policies, ..
        } in &group
        {
            let by = match several && policies.len() < denying.len() {
                true => format!(" (policy {})", policies.join(", ")),
                false => String::new(),
            };
            lines.push(format!(
                "{begin}{} [{}]{by}:{about} {}",
                finding.rule, finding.reason, finding.detail
            ));
            if let Some(hint) = &finding.hint {
                let indent = begin.replace('-', " ");
                lines.push(format!("{indent}→ {hint}"));
            }
        }
        parts.push(lines);
    }
    parts
}

fn about(finding: &Finding) -> Option<String> {
    match &finding.target {
        Target::Workload => None,
        Target::Field(field) if field.is_empty() => Some("the object".to_owned()),
        Target::Field(field) => Some(field.clone()),
        Target::Image(image) => Some(format!("{} ({})", image.written, image.field)),
    }
}

fn warnings(policy: &PolicyVerdict) -> Vec<String> {
    let denying = policy
        .findings()
        .iter()
        .filter(|finding| finding.outcome.denies());
    let mut warnings: Vec<_> = denying
        .map(|finding| {
            let image = match &finding.target {
                Target::Image(image) => format!(" {}", image.written),
                Target::Workload | Target::Field(_) => String::new(),
            };
            cut(
                &format!(
                    "policy {}: {} {}{image}",
                    policy.policy(),
                    finding.rule,
                    finding.reason
                ),
                MAXIMUM_WARNING,
            )
        })
        .collect();
    warnings.dedup();
    warnings
}

/// The text on one line and at most `length` long, so that it cannot forge a line of its own.
pub(super) fn cut(text: &str, length: usize) -> String {
    let text = line(text);
    if text.chars().count() <= length {
        return text;
    }
    format!("{text:.0$}…", length.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_how_many_warnings_it_leaves_out() {
        let all = |count| (0..count).map(|n: usize| n.to_string()).collect::<Vec<_>>();
        assert_eq!(at_most(8, all(8)), all(8));
        let shown = at_most(8, all(9));
        assert_eq!((shown.len(), &shown[..7]), (8, &all(7)[..]));
        assert!(shown[7].starts_with("2 more warnings"), "{shown:?}");
    }
}
