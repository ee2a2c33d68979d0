//! The metrics behind `/metrics`, as one table.

use std::sync::LazyLock;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use promotion_gate_core::gate::{ChangeKind, GovernanceVerdict, Verdict};

use crate::report::Alarms;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    decision: &'static str,
    admitted: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GovernanceLabels {
    decision: &'static str,
    reason: &'static str,
    admitted: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeptLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChangeLabels {
    kind: &'static str,
    by: &'static str,
    admitted: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NotJudgedLabels {
    reason: &'static str,
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabels {
    class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EnvironmentLabels {
    environment: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EmergencyLabels {
    environment: String,
    incident: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FeedLabels {
    freeze: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabels {
    certificate: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RootLabels {
    root: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    outcome: &'static str,
}

/// Reads that were left out at a limit, for the whole process: some limits are applied where the review is not known.
static SHED: LazyLock<Family<ShedLabels, Counter>> = LazyLock::new(Family::default);

/// Counts a read that was left out at a limit.
pub(crate) fn shed(limit: &'static str) {
    SHED.get_or_create(&ShedLabels { limit }).inc();
}

/// Requests to registries that failed, for the whole process, by class.
static REGISTRY_ERRORS: LazyLock<Family<ClassLabels, Counter>> = LazyLock::new(Family::default);

/// Counts a request to a registry that failed.
pub(crate) fn failed_to_read(class: &'static str) {
    REGISTRY_ERRORS.get_or_create(&ClassLabels { class }).inc();
}

/// Counts questions to incident trackers, by outcome.
#[derive(Clone, Debug, Default)]
pub struct IncidentQuestions(Family<AttemptLabels, Counter>);

impl IncidentQuestions {
    pub(crate) fn count(&self, outcome: &'static str) {
        self.0.get_or_create(&AttemptLabels { outcome }).inc();
    }
}

/// All metrics.
pub struct Metrics {
    registry: Registry,
    decisions: Family<DecisionLabels, Counter>,
    findings: Family<FindingLabels, Counter>,
    changes: Family<ChangeLabels, Counter>,
    not_judged: Family<NotJudgedLabels, Counter>,
    events: Family<AttemptLabels, Counter>,
    governance: Family<GovernanceLabels, Counter>,
    loosened: Counter,
    emergencies: Family<EmergencyLabels, Counter>,
    kept: Family<KeptLabels, Counter>,
    duration: Histogram,
    registry_requests: Counter,
    /// Requests that could not be understood, or whose review failed.
    pub failures: Counter,
    /// Policies in force.
    pub policies: Gauge,
    /// Reloads of policies.
    pub policy_reloads: Counter,
    /// Whether the policies or the configuration on disk are broken, so that older ones are in force.
    pub policies_broken: Gauge,
    /// Reloads of the configuration.
    pub configuration_reloads: Counter,
    /// Reloads of the certificate.
    pub certificate_reloads: Counter,
    /// Whether the certificate cannot be used or renewed, so that an older one is in use.
    pub certificate_broken: Gauge,
    certificate_expiration: Family<CertificateLabels, Gauge>,
    /// Open connections.
    pub connections: Gauge<i64>,
    /// Connections that were closed at the limit, to make room for new ones.
    pub connections_closed: Counter,
    /// Connections that were refused at the limit.
    pub connections_refused: Counter,
    pub handshakes_failed: Counter,
    /// Bodies that broke off, were too large or too slow, or found no room.
    pub bodies_unread: Counter,
    /// Whether this replica is ready, as it said last.
    pub ready: Gauge,
    /// Whether this replica holds the Lease.
    pub holds_lease: Gauge,
    watch_age: Family<KindLabels, Gauge>,
    resources: Family<KindLabels, Gauge>,
    resources_refused: Family<KindLabels, Gauge>,
    frozen: Family<EnvironmentLabels, Gauge>,
    feed_age: Family<FeedLabels, Gauge>,
    feed_attempts: Family<AttemptLabels, Counter>,
    /// Questions to incident trackers.
    pub incident_questions: IncidentQuestions,
    trust_root_age: Family<RootLabels, Gauge>,
    trust_root_known: Family<RootLabels, Gauge>,
    /// Release records in memory.
    pub records: Gauge,
    record_writes: Family<AttemptLabels, Counter>,
    record_entries_refused: Family<ReasonLabels, Counter>,
    /// Release records that were deleted and are not written again, since too many were deleted at once.
    pub records_forgotten: Counter,
    /// Objects that run and are in no release record, as last counted.
    pub unrecorded: Gauge,
    /// Tags of running images that name another digest by now, as last counted.
    pub tags_moved: Gauge,
    emergency_reviews: Family<StateLabels, Gauge>,
    /// What an operator has to look at.
    pub alarms: Alarms,
}

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Metrics {
        let metrics = Metrics {
            registry: Registry::with_prefix("promotion_gate"),
            decisions: Family::default(),
            findings: Family::default(),
            changes: Family::default(),
            not_judged: Family::default(),
            events: Family::default(),
            governance: Family::default(),
            loosened: Counter::default(),
            emergencies: Family::default(),
            kept: Family::default(),
            duration: Histogram::new([0.001, 0.005, 0.02, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]),
            registry_requests: Counter::default(),
            failures: Counter::default(),
            policies: Gauge::default(),
            policy_reloads: Counter::default(),
            policies_broken: Gauge::default(),
            configuration_reloads: Counter::default(),
            certificate_reloads: Counter::default(),
            certificate_broken: Gauge::default(),
            certificate_expiration: Family::default(),
            connections: Gauge::default(),
            connections_closed: Counter::default(),
            connections_refused: Counter::default(),
            handshakes_failed: Counter::default(),
            bodies_unread: Counter::default(),
            ready: Gauge::default(),
            holds_lease: Gauge::default(),
            watch_age: Family::default(),
            resources: Family::default(),
            resources_refused: Family::default(),
            frozen: Family::default(),
            feed_age: Family::default(),
            feed_attempts: Family::default(),
            incident_questions: IncidentQuestions::default(),
            trust_root_age: Family::default(),
            trust_root_known: Family::default(),
            records: Gauge::default(),
            record_writes: Family::default(),
            record_entries_refused: Family::default(),
            records_forgotten: Counter::default(),
            unrecorded: Gauge::default(),
            tags_moved: Gauge::default(),
            emergency_reviews: Family::default(),
            alarms: Alarms::default(),
        };
        metrics.registered()
    }

    fn registered(mut self) -> Metrics {
        let mut registry = std::mem::take(&mut self.registry);
        self.register_decisions(&mut registry);
        self.register_process(&mut registry);
        self.register_cluster(&mut registry);
        self.register_records(&mut registry);
        Metrics { registry, ..self }
    }

    fn register_decisions(&self, r: &mut Registry) {
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
            "changes",
            "Judged changes by kind, by who asked and by whether they were admitted",
            self.changes.clone(),
        );
        r.register(
            "not_judged",
            "Requests that are not judged, by reason",
            self.not_judged.clone(),
        );
        r.register(
            "events",
            "Events on objects, by what became of them",
            self.events.clone(),
        );
        r.register(
            "governance_decisions",
            "Decisions about changes of what the gate decides by, by verdict, reason and whether they were admitted",
            self.governance.clone(),
        );
        r.register(
            "loosened",
            "Changes by which what the gate decides by became looser, or may have",
            self.loosened.clone(),
        );
        r.register(
            "emergency_changes",
            "Changes that were admitted by an emergency change, by environment and by whether the incident was verified",
            self.emergencies.clone(),
        );
        r.register(
            "kept_evidence",
            "Rejections, authors and OpenVEX statements that were seen, by whether they are kept in the cluster",
            self.kept.clone(),
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
            "registry_errors",
            "Requests to registries that failed, by class",
            REGISTRY_ERRORS.clone(),
        );
        r.register(
            "failures",
            "Requests that were not understood or whose review failed",
            self.failures.clone(),
        );
    }

    fn register_process(&self, r: &mut Registry) {
        r.register("policies", "Policies in force", self.policies.clone());
        r.register(
            "policy_reloads",
            "Reloads of policies",
            self.policy_reloads.clone(),
        );
        r.register(
            "policies_broken",
            "1 while the policies or the configuration on disk are broken",
            self.policies_broken.clone(),
        );
        r.register(
            "configuration_reloads",
            "Reloads of the configuration",
            self.configuration_reloads.clone(),
        );
        r.register(
            "certificate_reloads",
            "Reloads of the certificate",
            self.certificate_reloads.clone(),
        );
        r.register(
            "certificate_broken",
            "1 while the certificate cannot be used or renewed",
            self.certificate_broken.clone(),
        );
        r.register(
            "certificate_expiration_timestamp_seconds",
            "When the serving certificate ends, and the CA that the gate made: `serving` or `ca`, in seconds since 1970",
            self.certificate_expiration.clone(),
        );
        r.register(
            "shed",
            "Reads from registries that were left out at a limit, by limit",
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
    }

    fn register_cluster(&self, r: &mut Registry) {
        r.register(
            "ready",
            "Whether this replica is ready to answer requests",
            self.ready.clone(),
        );
        r.register(
            "holds_lease",
            "1 while this replica holds the Lease: it writes statuses, renews certificates, keeps the webhook configuration, and reads the feeds of freezes and the repositories of trust roots that are resources",
            self.holds_lease.clone(),
        );
        r.register(
            "watch_age_seconds",
            "How long ago the watch of a kind was lost; 0 while it is current",
            self.watch_age.clone(),
        );
        r.register(
            "resources",
            "Resources of the cluster that were read, by kind",
            self.resources.clone(),
        );
        r.register(
            "resources_refused",
            "Resources of the cluster whose current version is not valid, by kind",
            self.resources_refused.clone(),
        );
        r.register(
            "frozen",
            "Whether an environment is frozen, for those in which a policy requires noFreeze",
            self.frozen.clone(),
        );
        r.register(
            "feed_age_seconds",
            "How long ago the feed of a freeze was read, or since when it was not",
            self.feed_age.clone(),
        );
        r.register(
            "feed_attempts",
            "Attempts to read the feeds of freezes, by outcome",
            self.feed_attempts.clone(),
        );
        r.register(
            "incident_questions",
            "Questions to incident trackers, by outcome",
            self.incident_questions.0.clone(),
        );
        r.register(
            "trust_root_age_seconds",
            "How long ago the repository of a trust root was read and verified",
            self.trust_root_age.clone(),
        );
        r.register(
            "trust_root_known",
            "Whether the repository of a trust root was ever read and verified; without it, nothing is accepted under the root",
            self.trust_root_known.clone(),
        );
    }

    fn register_records(&self, r: &mut Registry) {
        r.register("records", "Release records", self.records.clone());
        r.register(
            "emergency_reviews",
            "Emergency changes that were used and not reviewed, by state",
            self.emergency_reviews.clone(),
        );
        r.register(
            "record_writes",
            "Entries of release records that were to be written before an answer, by outcome",
            self.record_writes.clone(),
        );
        r.register(
            "record_entries_refused",
            "Entries of release records that do not count, by reason",
            self.record_entries_refused.clone(),
        );
        r.register(
            "records_forgotten",
            "Release records that were deleted and are not written again, since too many were deleted at once",
            self.records_forgotten.clone(),
        );
        r.register(
            "unrecorded",
            "Objects that run and are in no release record",
            self.unrecorded.clone(),
        );
        r.register(
            "tags_moved",
            "Tags of running images that were moved to a digest which was not admitted, by the last look",
            self.tags_moved.clone(),
        );
        r.register(
            "alarms",
            "What an operator has to look at, by reason; the log has a line for each",
            self.alarms.raised(),
        );
    }

    /// The text that Prometheus reads.
    pub fn text(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(_) => String::new(),
        }
    }

    /// Shows when a certificate ends: `serving` or `ca`.
    pub(crate) fn show_certificate_expiration(&self, certificate: &'static str, at: Timestamp) {
        let labels = CertificateLabels { certificate };
        let expiration = self.certificate_expiration.get_or_create(&labels);
        expiration.set(at.as_second());
    }

    /// Shows how long ago the watch of a kind was lost.
    pub(crate) fn show_watch_age(&self, kind: &'static str, age: Duration) {
        let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        self.watch_age
            .get_or_create(&KindLabels { kind })
            .set(seconds);
    }

    /// Shows how many resources of a kind were read.
    pub(crate) fn show_resources(&self, kind: &'static str, read: usize) {
        let read = i64::try_from(read).unwrap_or(i64::MAX);
        self.resources.get_or_create(&KindLabels { kind }).set(read);
    }

    /// Shows how many resources of a kind are not valid.
    pub(crate) fn show_refused(&self, kind: &'static str, refused: usize) {
        let refused = i64::try_from(refused).unwrap_or(i64::MAX);
        self.resources_refused
            .get_or_create(&KindLabels { kind })
            .set(refused);
    }

    /// Shows whether an environment is frozen; `None` takes out one that no policy asks about any more.
    pub(crate) fn show_frozen(&self, environment: &str, is_frozen: Option<bool>) {
        let environment = environment.to_owned();
        let labels = EnvironmentLabels { environment };
        match is_frozen {
            Some(is_frozen) => {
                self.frozen.get_or_create(&labels).set(i64::from(is_frozen));
            }
            None => {
                self.frozen.remove(&labels);
            }
        }
    }

    /// Shows how many emergency changes that were not reviewed are in a state.
    pub(crate) fn show_emergency_reviews(&self, state: &'static str, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let labels = StateLabels { state };
        self.emergency_reviews.get_or_create(&labels).set(count);
    }

    /// Counts an attempt to read the feed of a freeze.
    pub(crate) fn count_feed_attempt(&self, outcome: &'static str) {
        let labels = AttemptLabels { outcome };
        self.feed_attempts.get_or_create(&labels).inc();
    }

    /// Counts an entry of a release record that was to be written before an answer.
    pub(crate) fn count_record_write(&self, outcome: &'static str) {
        let labels = AttemptLabels { outcome };
        self.record_writes.get_or_create(&labels).inc();
    }

    /// Counts an entry of a release record that does not count.
    pub(crate) fn refuse_entry(&self, reason: &'static str) {
        let labels = ReasonLabels { reason };
        self.record_entries_refused.get_or_create(&labels).inc();
    }

    /// Shows how long ago the feed of a freeze was read.
    pub(crate) fn show_feed_age(&self, freeze: &str, age: Duration) {
        let labels = FeedLabels {
            freeze: freeze.to_owned(),
        };
        let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        self.feed_age.get_or_create(&labels).set(seconds);
    }

    /// Takes out the age of a feed that is gone.
    pub(crate) fn remove_feed(&self, freeze: &str) {
        let labels = FeedLabels {
            freeze: freeze.to_owned(),
        };
        self.feed_age.remove(&labels);
    }

    /// Shows how long ago the repository of a trust root was read; `None` if it never was.
    pub(crate) fn show_trust_root(&self, root: &str, age: Option<Duration>) {
        let labels = RootLabels {
            root: root.to_owned(),
        };
        let known = i64::from(age.is_some());
        self.trust_root_known.get_or_create(&labels).set(known);
        match age {
            Some(age) => {
                let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
                self.trust_root_age.get_or_create(&labels).set(seconds);
            }
            None => {
                self.trust_root_age.remove(&labels);
            }
        }
    }

    /// Takes out a trust root that is gone.
    pub(crate) fn remove_trust_root(&self, root: &str) {
        let labels = RootLabels {
            root: root.to_owned(),
        };
        self.trust_root_age.remove(&labels);
        self.trust_root_known.remove(&labels);
    }

    /// Counts a rejection or authors that were seen: whether they are kept in the cluster.
    pub(crate) fn count_kept(&self, outcome: &'static str) {
        self.kept.get_or_create(&KeptLabels { outcome }).inc();
    }

    /// Counts one decision about a change of what the gate decides by.
    pub fn count_governance(&self, verdict: &GovernanceVerdict, admitted: bool, dry_run: bool) {
        let labels = GovernanceLabels {
            decision: verdict.decision.id(),
            reason: verdict.reason,
            admitted: if admitted { "true" } else { "false" },
        };
        self.governance.get_or_create(&labels).inc();
        if admitted && !dry_run && !verdict.loosened.is_empty() {
            self.loosened.inc();
        }
    }

    /// Counts a judged change. One of a trusted controller that is not admitted is upkeep that fails, whatever its kind is.
    pub(crate) fn count_change(&self, kind: ChangeKind, by_controller: bool, is_admitted: bool) {
        let labels = ChangeLabels {
            kind: kind.id(),
            by: if by_controller {
                "trusted-controller"
            } else {
                "other"
            },
            admitted: if is_admitted { "true" } else { "false" },
        };
        self.changes.get_or_create(&labels).inc();
    }

    /// Counts the emergency changes by which a request was admitted.
    pub(crate) fn count_emergencies(&self, verdict: &Verdict) {
        for used in verdict.emergencies() {
            let labels = EmergencyLabels {
                environment: used.environment,
                incident: used.incident_state.id(),
            };
            self.emergencies.get_or_create(&labels).inc();
        }
    }

    /// Counts a request that is not judged.
    pub(crate) fn count_not_judged(&self, reason: &'static str) {
        let labels = NotJudgedLabels { reason };
        self.not_judged.get_or_create(&labels).inc();
    }

    /// Counts an Event by what became of it.
    pub(crate) fn count_event(&self, outcome: &'static str) {
        let labels = AttemptLabels { outcome };
        self.events.get_or_create(&labels).inc();
    }

    /// Counts one decision: its verdict, whether the request was admitted, the duration of the review, and its requests to
    /// registries.
    pub fn count(&self, verdict: &Verdict, admitted: bool, took: Duration, requests: u64) {
        let decision = verdict.decision().id();
        let admitted = if admitted { "true" } else { "false" };
        self.decisions
            .get_or_create(&DecisionLabels { decision, admitted })
            .inc();
        let policies = verdict.policies().iter();
        for finding in policies.flat_map(|policy| policy.findings()) {
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
