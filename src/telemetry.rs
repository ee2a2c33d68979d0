//! Logs and metrics: one structured line per decision, and the numbers behind `/metrics`.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use promotion_gate_core::gate::{Finding, Promotion, Target, Verdict};

use crate::review::Review;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    decision: &'static str,
    admitted: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FindingLabels {
    rule: &'static str,
    outcome: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShedLabels {
    limit: &'static str,
}

/// What was not learned because a limit was reached, of the whole process: limits are kept where no review is known.
static SHED: LazyLock<Family<ShedLabels, Counter>> = LazyLock::new(Family::default);

/// Counts that something was not read because of a limit.
pub(crate) fn shed(limit: &'static str) {
    SHED.get_or_create(&ShedLabels { limit }).inc();
}

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    decisions: Family<DecisionLabels, Counter>,
    findings: Family<FindingLabels, Counter>,
    duration: Histogram,
    registry_requests: Counter,
    /// Requests that could not be understood or whose review failed.
    pub failures: Counter,
    /// Policy sets that were taken over.
    pub policy_reloads: Counter,
    /// Whether the policies on disk are broken, so that older ones are in force.
    pub policies_broken: Gauge,
    /// Configurations that were taken over.
    pub configuration_reloads: Counter,
    /// Certificates that were taken over.
    pub certificate_reloads: Counter,
    /// Whether the certificate on disk cannot be used, so that an older one is in use.
    pub certificate_broken: Gauge,
    /// Open connections.
    pub connections: Gauge<i64>,
    /// Connections that were closed at the limit, to make room for new ones.
    pub connections_closed: Counter,
    /// Connections that were refused at the limit.
    pub connections_refused: Counter,
    /// Handshakes that failed.
    pub handshakes_failed: Counter,
    /// Bodies that broke off, were too large or too slow, or found no room.
    pub bodies_unread: Counter,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Metrics {
        let metrics = Metrics {
            registry: Registry::with_prefix("promotion_gate"),
            decisions: Family::default(),
            findings: Family::default(),
            duration: Histogram::new([0.001, 0.005, 0.02, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]),
            registry_requests: Counter::default(),
            failures: Counter::default(),
            policy_reloads: Counter::default(),
            policies_broken: Gauge::default(),
            configuration_reloads: Counter::default(),
            certificate_reloads: Counter::default(),
            certificate_broken: Gauge::default(),
            connections: Gauge::default(),
            connections_closed: Counter::default(),
            connections_refused: Counter::default(),
            handshakes_failed: Counter::default(),
            bodies_unread: Counter::default(),
        };
        metrics.registered()
    }

    fn registered(mut self) -> Metrics {
        let r = &mut self.registry;
        r.register(
            "decisions",
            "Decisions by verdict and by whether the request was admitted",
            self.decisions.clone(),
        );
        r.register(
            "findings",
            "Findings by rule, outcome and reason",
            self.findings.clone(),
        );
        r.register(
            "review_duration_seconds",
            "How long a review took",
            self.duration.clone(),
        );
        r.register(
            "registry_requests",
            "Requests made to registries",
            self.registry_requests.clone(),
        );
        r.register(
            "failures",
            "Requests that were not understood or whose review failed",
            self.failures.clone(),
        );
        r.register(
            "policy_reloads",
            "Policy sets taken over",
            self.policy_reloads.clone(),
        );
        r.register(
            "policies_broken",
            "1 while the policies or the configuration on disk are broken",
            self.policies_broken.clone(),
        );
        r.register(
            "configuration_reloads",
            "Configurations taken over",
            self.configuration_reloads.clone(),
        );
        r.register(
            "certificate_reloads",
            "Certificates taken over",
            self.certificate_reloads.clone(),
        );
        r.register(
            "certificate_broken",
            "1 while the certificate on disk cannot be used",
            self.certificate_broken.clone(),
        );
        r.register(
            "shed",
            "What was not read from registries because a limit was reached, by limit",
            SHED.clone(),
        );
        r.register("connections", "Open connections", self.connections.clone());
        r.register(
            "connections_closed",
            "Idle connections closed at the limit, to make room for new ones",
            self.connections_closed.clone(),
        );
        r.register(
            "connections_refused",
            "Connections refused at the limit",
            self.connections_refused.clone(),
        );
        r.register(
            "handshakes_failed",
            "TLS handshakes that failed",
            self.handshakes_failed.clone(),
        );
        r.register(
            "bodies_unread",
            "Bodies that broke off, were too large or too slow, or found no room",
            self.bodies_unread.clone(),
        );
        self
    }

    /// The text that Prometheus reads.
    pub fn text(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(_) => String::new(),
        }
    }

    fn count(&self, review: &Review, admitted: bool, took: Duration, requests: u64) {
        let decision = review.verdict.decision().id();
        let admitted = if admitted { "true" } else { "false" };
        self.decisions
            .get_or_create(&DecisionLabels { decision, admitted })
            .inc();
        for finding in review
            .verdict
            .policies()
            .iter()
            .flat_map(|policy| policy.findings())
        {
            let labels = FindingLabels {
                rule: finding.rule,
                outcome: finding.outcome.id(),
                reason: finding.reason,
            };
            self.findings.get_or_create(&labels).inc();
        }
        self.duration.observe(took.as_secs_f64());
        self.registry_requests.inc_by(requests);
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

/// Starts logging on standard error.
pub fn start_logging(format: LogFormat) {
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_target(false);
    // Fails only where logging was started already.
    let _ = match format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.try_init(),
    };
}

/// Writes down one decision: a log line, and the counts.
pub fn record(
    metrics: &Metrics,
    review: &Review,
    admitted: bool,
    audit_only: bool,
    took: Duration,
    requests: u64,
) {
    metrics.count(review, admitted, took, requests);
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
        user = actor.map(|actor| actor.username.as_str()).unwrap_or_default(),
        user_groups = groups.join(","),
        images = images(&review.promotion),
        policies = policies(verdict),
        revision = verdict.revision(),
        findings = findings(review),
        decision = verdict.decision().id(),
        admitted,
        audit_only,
        dry_run = change.dry_run,
        milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        registry_requests = requests,
        "decision"
    );
}

/// The images: field, name and digest.
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

/// The policies: name, enforcement and decision.
fn policies(verdict: &Verdict) -> String {
    let mut line = String::new();
    for policy in verdict.policies() {
        let (name, decision) = (policy.policy(), policy.decision().id());
        let enforcement = format!("{:?}", policy.enforcement());
        push(&mut line, " ", [name, ":", &enforcement, ":", decision]);
    }
    line
}

/// The findings: policy, rule, outcome and reason, and the fields that they are about; `*` where it is every image.
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
