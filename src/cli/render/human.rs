//! Reviews for people: a block for each denied object, a line for every other one, a summary. Colours on a terminal only.

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use promotion_gate_core::gate::{Decision, EmergencyUse, Enforcement, Outcome};

use super::json::{CheckDecision, CheckReport, PolicyReport};
use crate::admission;
use crate::review::Review;
use crate::text;

pub(in crate::cli) const RED: Style = AnsiColor::Red.on_default().bold();
pub(in crate::cli) const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
pub(in crate::cli) const GREEN: Style = AnsiColor::Green.on_default().bold();

/// A progress line on standard error, such as `3 of 7 objects reviewed`; nothing if standard error is not a terminal.
pub(in crate::cli) fn progress(count: usize, what: &str) -> ProgressBar {
    let bar =
        ProgressBar::with_draw_target(u64::try_from(count).ok(), ProgressDrawTarget::stderr());
    match ProgressStyle::with_template(&format!(
        "{{spinner}} {{pos}} of {{len}} {what}, {{elapsed}}"
    )) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// What follows the number of objects that are allowed: how many of them a policy would deny.
pub(in crate::cli) fn only_unenforced(count: usize) -> String {
    match count {
        0 => String::new(),
        count => format!(" ({count} only because a policy does not enforce)"),
    }
}

/// The word for a decision, in its colour.
pub(in crate::cli) fn word(answer: CheckDecision) -> String {
    let (style, word) = match answer {
        CheckDecision::Allow => (GREEN, "allow"),
        CheckDecision::Undecided => (YELLOW, "undecided"),
        CheckDecision::Deny => (RED, "deny"),
    };
    format!("{style}{word}{style:#}")
}

/// Prints the report of `check`.
pub(in crate::cli) fn check(reviews: &[(String, u64, Review)], report: &CheckReport) {
    for problem in &report.problems {
        print_line!(
            "{RED}unreadable{RED:#} {}\n",
            text::line(&problem.to_string())
        );
    }
    for (file, line, review) in reviews {
        object(file, *line, review);
    }
    let count = |answer| {
        report
            .objects
            .iter()
            .filter(|object| object.decision == answer)
            .count()
    };
    let (allowed, undecided, denied) = (
        count(CheckDecision::Allow),
        count(CheckDecision::Undecided),
        count(CheckDecision::Deny),
    );
    let unenforced = report.objects.iter().filter(|object| {
        object.decision == CheckDecision::Allow && PolicyReport::any_denies(&object.policies)
    });
    let unenforced = unenforced.count();
    let ungoverned = report
        .objects
        .iter()
        .filter(|object| object.policies.is_empty())
        .count();
    print_line!(
        "{} of {}: {allowed} allowed{}, {denied} denied, {undecided} undecided{}{}{}",
        word(report.decision),
        plural(report.objects.len(), "object", "objects"),
        only_unenforced(unenforced),
        if ungoverned > 0 {
            format!(", {ungoverned} governed by no policy")
        } else {
            String::new()
        },
        match report.unknown.len() {
            0 => String::new(),
            unknown => format!(
                "; {} not checked",
                plural(
                    unknown,
                    "object of an unknown kind is",
                    "objects of unknown kinds are"
                )
            ),
        },
        if report.not_ours > 0 {
            format!("; {} without images", report.not_ours)
        } else {
            String::new()
        },
    );
}

fn object(file: &str, line: u64, review: &Review) {
    let answer = CheckDecision::of(&review.verdict);
    let workload = &review.promotion.change.workload;
    let name = match &workload.namespace {
        Some(namespace) => format!("{} {namespace}/{}", workload.kind, workload.name),
        None => format!("{} {}", workload.kind, workload.name),
    };
    let ungoverned = if review.verdict.policies().is_empty() {
        ", governed by no policy"
    } else {
        ""
    };
    print_line!(
        "{} {} ({}:{line}){ungoverned}",
        word(answer),
        text::line(&name),
        text::line(file)
    );
    match review.verdict.decision() {
        Decision::Deny => {
            for text in admission::denial(&review.verdict, &review.promotion)
                .lines()
                .skip(1)
            {
                print_line!("  {text}");
            }
            print_line!("");
        }
        Decision::Allow => {
            let used = review.verdict.emergencies();
            let told: Vec<_> = used.iter().map(EmergencyUse::told).collect();
            for text in &told {
                print_line!("  {YELLOW}emergency{YELLOW:#} {}", text::line(text));
            }
            let mut warnings = review.verdict.warnings();
            warnings.retain(|text| !told.iter().any(|told| told.contains(text)));
            for text in warnings {
                print_line!("  {YELLOW}warning{YELLOW:#} {}", text::line(&text));
            }
            not_enforced(review);
        }
    }
}

/// Prints what policies that do not enforce would deny.
fn not_enforced(review: &Review) {
    for policy in review.verdict.denials() {
        let word = match policy.enforcement() {
            Enforcement::Enforce | Enforcement::Warn => "it would be denied by",
            Enforcement::Audit => "it is recorded against",
        };
        print_line!(
            "  {YELLOW}warning{YELLOW:#} {word} policy `{}`",
            policy.policy()
        );
        for finding in policy
            .findings()
            .iter()
            .filter(|finding| finding.outcome.denies())
        {
            let unsure = if finding.outcome == Outcome::Undecided {
                " (undecided)"
            } else {
                ""
            };
            print_line!(
                "    {}: {}{unsure}",
                finding.rule,
                text::line(&finding.detail)
            );
        }
    }
}

pub(in crate::cli) fn plural(count: usize, one: &str, many: &str) -> String {
    if count == 1 {
        format!("1 {one}")
    } else {
        format!("{count} {many}")
    }
}
