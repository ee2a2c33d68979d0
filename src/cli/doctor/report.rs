//! What `doctor` found, for people and as JSON.

use schemars::JsonSchema;
use serde::Serialize;

use super::checks::{Check, Severity};
use crate::cli::render::human::{GREEN, RED, YELLOW, plural};
use crate::text::line;

/// The version of the schema.
const VERSION: &str = "promotion-gate.dev/doctor/v1alpha1";
/// The most things that are named of one finding, for people.
const NAMED: usize = 12;

/// The result of `doctor`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DoctorReport {
    /// `promotion-gate.dev/doctor/v1alpha1`
    version: &'static str,
    /// What was found, the worst first.
    findings: Vec<Finding>,
    /// What could not be looked at, and why.
    unchecked: Vec<Unchecked>,
}

/// Something that weakens the gate.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Finding {
    /// `critical`, `warning` or `note`.
    pub(super) severity: Severity,
    /// The stable id of the check, such as `no-governors`.
    pub(super) id: &'static str,
    /// What was found.
    title: &'static str,
    /// Where, or who.
    pub(super) about: Vec<String>,
    /// Why it matters.
    why: &'static str,
    /// What to do about it.
    remedy: &'static str,
}

/// Something that could not be looked at.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Unchecked {
    /// What.
    what: String,
    /// Why not.
    why: String,
}

impl DoctorReport {
    pub(super) fn new() -> DoctorReport {
        DoctorReport {
            version: VERSION,
            findings: Vec::new(),
            unchecked: Vec::new(),
        }
    }

    /// Adds a finding.
    pub(super) fn find(&mut self, check: &Check, about: impl IntoIterator<Item = String>) {
        self.find_as(check.severity, check, about);
    }

    /// Adds a finding that is worse than usual.
    pub(super) fn find_as(
        &mut self,
        severity: Severity,
        check: &Check,
        about: impl IntoIterator<Item = String>,
    ) {
        self.findings.push(Finding {
            severity,
            id: check.id,
            title: check.title,
            about: about.into_iter().collect(),
            why: check.why,
            remedy: check.remedy,
        });
    }

    /// Adds a finding about these, if there are any.
    pub(super) fn find_any(&mut self, check: &Check, about: Vec<String>) {
        if !about.is_empty() {
            self.find(check, about);
        }
    }

    /// Says that something could not be looked at.
    pub(super) fn cannot_check(&mut self, what: &str, why: impl ToString) {
        let (what, why) = (what.to_owned(), why.to_string());
        self.unchecked.push(Unchecked { what, why });
    }

    pub(super) fn sort(&mut self) {
        self.findings
            .sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    }

    /// Whether something of this severity or a higher one was found.
    pub(super) fn has(&self, severity: Severity) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.severity >= severity)
    }

    /// Whether everything was looked at.
    pub(super) fn is_complete(&self) -> bool {
        self.unchecked.is_empty()
    }

    #[cfg(test)]
    pub(super) fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Prints it for people.
    pub(super) fn print(&self) {
        for finding in &self.findings {
            let (style, word) = match finding.severity {
                Severity::Critical => (RED, "critical"),
                Severity::Warning => (YELLOW, "warning"),
                Severity::Note => (GREEN, "note"),
            };
            print_line!("{style}{word}{style:#} {}: {}", finding.id, finding.title);
            for about in finding.about.iter().take(NAMED) {
                print_line!("  - {}", line(about));
            }
            if let Some(more @ 1..) = finding.about.len().checked_sub(NAMED) {
                print_line!("  - and {more} more (`--output json` has all)");
            }
            print_line!("  {}", finding.why);
            print_line!("  → {}\n", finding.remedy);
        }
        for unchecked in &self.unchecked {
            print_line!(
                "{YELLOW}not checked{YELLOW:#} {}: {}\n",
                unchecked.what,
                line(&unchecked.why)
            );
        }
        let count = |severity| {
            let findings = self.findings.iter();
            findings.filter(|it| it.severity == severity).count()
        };
        print_line!(
            "{} critical, {}, {}{}",
            count(Severity::Critical),
            plural(count(Severity::Warning), "warning", "warnings"),
            plural(count(Severity::Note), "note", "notes"),
            match self.unchecked.len() {
                0 => String::new(),
                some => format!(", {} not checked", plural(some, "thing", "things")),
            }
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_that_of_the_documentation() {
        crate::cli::render::assert_documented::<DoctorReport>("doctor");
    }
}
