//! One structured log line per decision, and the format of log lines.

use std::collections::BTreeSet;
use std::time::Duration;

use promotion_gate_core::gate::{Finding, Promotion, Target, Verdict};
use tracing_subscriber::EnvFilter;

use crate::review::Review;

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Text for people.
    Text,
}

/// Starts logging on standard error.
pub fn start_logging(format: LogFormat) {
    // The client of the API server logs each failure by itself; what matters of them is among the problems.
    let filter = EnvFilter::new("info,kube_client=off,kube_runtime=off");
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    // This fails only if logging was started already.
    let _ = match format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.try_init(),
    };
}

/// Logs one decision.
pub fn log(review: &Review, admitted: bool, audit_only: bool, took: Duration, requests: u64) {
    let change = &review.promotion.change;
    let verdict = &review.verdict;
    let actor = change.actor.as_ref();
    let groups = actor.map_or(&[][..], |actor| &actor.groups);
    tracing::info!(
        id = change.id,
        kind = change.workload.kind,
        group = change.workload.group,
        namespace = change.workload.namespace.as_deref().unwrap_or_default(),
        name = change.workload.name,
        operation = ?change.operation,
        change = review.promotion.kind.id(),
        user = actor.map(|actor| actor.username.as_str()).unwrap_or_default(),
        user_groups = groups.join(","),
        images = images(&review.promotion),
        policies = policies(verdict),
        revision = verdict.revision(),
        findings = findings(review),
        emergency = emergencies(verdict),
        decision = verdict.decision().id(),
        admitted,
        audit_only,
        dry_run = change.dry_run,
        milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        registry_requests = requests,
        "decision"
    );
}

/// The images: field, name and digest of each.
fn images(promotion: &Promotion) -> String {
    let mut line = String::new();
    for (image, pin) in promotion.images() {
        let (field, reference) = (image.field.as_str(), &image.reference);
        match pin.digest() {
            Some(digest) => {
                push(&mut line, " ", [field, "=", reference.name(), "@"]);
                line.extend([digest.algorithm(), ":", digest.hex()]);
            }
            None => push(&mut line, " ", [field, "=", &reference.to_string()]),
        }
    }
    line
}

/// The policies: name, enforcement and decision of each.
fn policies(verdict: &Verdict) -> String {
    let mut line = String::new();
    for policy in verdict.policies() {
        let (name, decision) = (policy.policy(), policy.decision().id());
        let enforcement = format!("{:?}", policy.enforcement());
        push(&mut line, " ", [name, ":", &enforcement, ":", decision]);
    }
    line
}

/// The emergency changes by which the change is allowed; empty if there is none.
fn emergencies(verdict: &Verdict) -> String {
    let used = verdict.emergencies().into_iter().map(|used| {
        let people: Vec<_> = used.declared_by.iter().chain(&used.approved_by).collect();
        let people: Vec<_> = people.into_iter().map(String::as_str).collect();
        let opener = used.unlisted_opener.as_ref();
        let opener = opener.map(|account| format!(" openedByUnlisted={account:?}"));
        format!(
            "{} environment={} incident={:?}:{}{} people={} reviewDue={:.0}",
            used.declaration,
            used.environment,
            used.incident,
            used.incident_state.id(),
            opener.unwrap_or_default(),
            people.join(","),
            used.review_due
        )
    });
    used.collect::<Vec<_>>().join("; ")
}

/// The findings: policy, rule, outcome and reason, and the fields that they are about; `*` stands for every image.
pub fn findings(review: &Review) -> String {
    let images = review.promotion.change.images.len();
    let alike = |a: &Finding, b: &Finding| {
        (a.rule, a.outcome, a.reason) == (b.rule, b.outcome, b.reason)
            && a.requirement == b.requirement
    };
    let mut line = String::new();
    for policy in review.verdict.policies() {
        for alike in policy.findings().chunk_by(alike) {
            let Some(first) = alike.first() else {
                continue;
            };
            let outcome = first.outcome.id();
            let parts = [
                policy.policy(),
                "/",
                first.rule,
                ":",
                outcome,
                ":",
                first.reason,
            ];
            push(&mut line, "; ", parts);
            let about: BTreeSet<_> = alike.iter().map(|finding| &finding.target).collect();
            let of_images = about.iter().filter(|it| matches!(it, Target::Image(_)));
            if images > 1 && of_images.count() == images {
                line.push_str(" *");
                continue;
            }
            for target in about {
                match target {
                    Target::Workload => {}
                    Target::Field(field) => line.extend([" ", field]),
                    Target::Image(image) => line.extend([" ", &image.field]),
                }
            }
        }
    }
    line
}

fn push<const N: usize>(line: &mut String, separator: &str, parts: [&str; N]) {
    if !line.is_empty() {
        line.push_str(separator);
    }
    line.extend(parts);
}
