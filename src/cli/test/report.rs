//! The results of all cases, for people and for programs. Within one version, fields are only added.

use schemars::JsonSchema;
use serde::Serialize;

use super::format::ExpectedDecision;
use crate::cli::render::human::{GREEN, RED, plural};
use crate::cli::render::json::{FindingReport, PolicyReport};
use crate::review::Review;
use crate::text;

/// The version of the schema.
pub(super) const VERSION: &str = "promotion-gate.dev/test/v1alpha1";

/// The result of `test`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TestReport {
    /// `promotion-gate.dev/test/v1alpha1`
    pub(super) version: &'static str,
    /// Cases with the expected decision.
    pub(super) passed: usize,
    /// Cases with another decision, or without an expected reason.
    pub(super) failed: usize,
    /// The tests, in the order of the input.
    pub(super) tests: Vec<SuiteReport>,
}

/// One test.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SuiteReport {
    /// The test file.
    pub(super) file: String,
    /// `metadata.name` of the test.
    pub(super) name: String,
    /// The cases, in the order of the file.
    pub(super) cases: Vec<CaseReport>,
    /// How long all cases took, in seconds.
    pub(super) seconds: f64,
}

/// One case.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CaseReport {
    /// The name of the case.
    pub(super) name: String,
    /// The line on which it begins, from 1.
    pub(super) line: usize,
    /// Whether decision and reasons were the expected ones.
    pub(super) passed: bool,
    pub(super) expected: Expected,
    /// The decision of the gate.
    pub(super) decision: ExpectedDecision,
    /// Expected reasons that no finding gave.
    pub(super) missing: Vec<String>,
    /// Every object of the case.
    pub(super) objects: Vec<TestedObject>,
}

/// What a case expects.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Expected {
    pub(super) decision: ExpectedDecision,
    /// The expected findings, as `rule/reason`.
    pub(super) reasons: Vec<String>,
}

/// The result for one object of a case.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TestedObject {
    /// Kind.
    pub(super) kind: String,
    /// Namespace, if the object has one.
    pub(super) namespace: Option<String>,
    /// `metadata.name`, or `metadata.generateName` with a `*`.
    pub(super) name: String,
    /// The result of each governing policy, by name; empty if no policy governs the object.
    pub(super) policies: Vec<PolicyReport>,
}

impl TestedObject {
    pub(super) fn of(review: &Review) -> TestedObject {
        let workload = &review.promotion.change.workload;
        TestedObject {
            kind: workload.kind.clone(),
            namespace: workload.namespace.clone(),
            name: workload.name.clone(),
            policies: PolicyReport::all(&review.verdict),
        }
    }
}

impl TestReport {
    pub(super) fn of(tests: Vec<SuiteReport>) -> TestReport {
        let cases = || tests.iter().flat_map(|test| &test.cases);
        TestReport {
            version: VERSION,
            passed: cases().filter(|case| case.passed).count(),
            failed: cases().filter(|case| !case.passed).count(),
            tests,
        }
    }

    /// Prints the report for people.
    pub(super) fn print(&self) {
        for test in &self.tests {
            print_line!("{} ({})", text::line(&test.name), text::line(&test.file));
            for case in &test.cases {
                match case.passed {
                    true => print_line!("  {GREEN}pass{GREEN:#} {}", text::line(&case.name)),
                    false => {
                        let name = text::line(&case.name);
                        print_line!("  {RED}FAIL{RED:#} {name} (line {})", case.line);
                        for line in case.explanation().lines() {
                            print_line!("       {line}");
                        }
                    }
                }
            }
        }
        let total = plural(self.passed + self.failed, "case", "cases");
        match self.failed {
            0 => print_line!("{GREEN}pass{GREEN:#} {total}"),
            failed => print_line!("{RED}FAIL{RED:#} {failed} of {total}"),
        }
    }
}

impl CaseReport {
    /// The expected and the actual decision, on one line.
    pub(super) fn summary(&self) -> String {
        let Expected { decision, reasons } = &self.expected;
        let expected = match reasons.as_slice() {
            [] => decision.id().to_owned(),
            reasons => format!("{} for {}", decision.id(), reasons.join(", ")),
        };
        let said = match self.missing.as_slice() {
            missing if *decision == self.decision => {
                format!("{}, but not for {}", self.decision.id(), missing.join(", "))
            }
            _ => self.decision.id().to_owned(),
        };
        format!("expected {expected}; the gate said {said}")
    }

    /// The summary, and the findings that explain it.
    pub(super) fn explanation(&self) -> String {
        let mut lines = vec![self.summary()];
        for object in &self.objects {
            let name = match &object.namespace {
                Some(namespace) => format!("{} {namespace}/{}", object.kind, object.name),
                None => format!("{} {}", object.kind, object.name),
            };
            if object.policies.is_empty() {
                lines.push(format!(
                    "{name} is governed by no policy: compare the policies' `match` with the case's `namespace`"
                ));
            }
            for policy in &object.policies {
                let said: Vec<_> = (policy.findings.iter())
                    .filter(|finding| self.is_of_interest(finding))
                    .collect();
                if !said.is_empty() {
                    lines.push(format!(
                        "{name}, policy `{}`: {}",
                        policy.policy, policy.decision
                    ));
                }
                for finding in said {
                    let FindingReport {
                        outcome,
                        rule,
                        reason,
                        detail,
                        ..
                    } = finding;
                    let field = finding.field.as_ref().map(|field| format!("{field}: "));
                    let field = field.unwrap_or_default();
                    lines.push(format!("  {outcome} {rule}/{reason}: {field}{detail}"));
                    let hint = finding.hint.iter().flat_map(|hint| hint.lines());
                    lines.extend(hint.map(|line| format!("    → {line}")));
                }
            }
        }
        lines.join("\n")
    }

    /// Findings that deny explain a denial; findings that pass explain any other decision.
    fn is_of_interest(&self, finding: &FindingReport) -> bool {
        let denies = matches!(finding.outcome, "fail" | "undecided");
        match self.decision {
            ExpectedDecision::Deny | ExpectedDecision::Undecided | ExpectedDecision::Warn => denies,
            ExpectedDecision::Allow | ExpectedDecision::Ungoverned => {
                denies || finding.outcome == "pass"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_schema_is_that_of_the_report() {
        crate::cli::render::assert_documented::<TestReport>("test");
    }
}
