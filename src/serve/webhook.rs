//! One request: a body → understood → reviewed → answered. A panic on the way is answered with the request's uid.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use futures::FutureExt as _;
use http::StatusCode;
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use promotion_gate_core::gate::{
    Change, Decision, GovernanceChange, GovernedBy, Promotion, Snapshot, judge_governance,
};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::bodies::{BODY, Bodies, Sender, UnreadBody};
use super::slots::ConnectionSlot;
use crate::admission::{
    self, AdmissionResponse, Audited, Malformed, NotOurs, Referring, Understood,
};
use crate::cluster::{Cluster, complete};
use crate::collect::Collector;
use crate::duties::Debts;
use crate::kept::Keeper;
use crate::oci::metered;
use crate::record::ReleaseRecords;
use crate::report::Events;
use crate::review::{RecordSource, ReviewInputs, review};
use crate::snapshot::Sources;
use crate::{decision_log, governance, metrics::Metrics};

/// The API server's default time-out.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// The most documents of governors that are read at a time, each together with all others.
const PARSES: usize = 2;
/// The API server's longest time-out.
const MAXIMUM_TIMEOUT: Duration = Duration::from_secs(30);

/// Answers the API server.
pub struct Webhook {
    sources: Arc<Sources>,
    collector: Arc<Collector>,
    /// Where objects are read that a request names and does not hold.
    cluster: Option<Cluster>,
    /// Keeps in the cluster what evidence said.
    keeper: Option<Keeper>,
    /// Tells what was answered; only where there is a cluster.
    events: Option<Events>,
    metrics: Arc<Metrics>,
    audited: Audited,
    records: Option<Arc<ReleaseRecords>>,
    /// The records of emergency changes.
    debts: Option<Arc<Debts>>,
    bodies: Bodies,
    /// Room for the documents of governors that are read.
    parses: Arc<Semaphore>,
}

impl Webhook {
    pub(super) fn new(
        sources: Arc<Sources>,
        collector: Arc<Collector>,
        cluster: Option<Cluster>,
        kept: Option<(Arc<ReleaseRecords>, Arc<Debts>)>,
        metrics: Arc<Metrics>,
        audited: Audited,
    ) -> Webhook {
        let (records, debts) = kept.unzip();
        let keeper = cluster.clone();
        let events = cluster.as_ref();
        let events = events.map(|cluster| Events::start(cluster, Arc::clone(&metrics)));
        Webhook {
            sources,
            collector,
            keeper: keeper.map(|cluster| Keeper::start(cluster, Arc::clone(&metrics))),
            cluster,
            events,
            metrics,
            audited,
            records,
            debts,
            bodies: Bodies::new(),
            parses: Arc::new(Semaphore::new(PARSES)),
        }
    }

    /// The routes of the webhook's port. Requests carry the slot of their connection as an extension.
    pub(super) fn routes(self: Arc<Webhook>) -> Router {
        let no_route = || async { text(StatusCode::NOT_FOUND, "the only path is /validate") };
        let no_post = || async {
            let why = "expected POST with an AdmissionReview";
            text(StatusCode::METHOD_NOT_ALLOWED, why)
        };
        let validate =
            |State(webhook): State<Arc<Webhook>>,
             Extension(slot): Extension<Arc<ConnectionSlot>>,
             request: Request| async move { webhook.validate(request, &slot).await };
        Router::new()
            .route("/validate", post(validate).fallback(no_post))
            .fallback(no_route)
            .with_state(self)
    }

    async fn validate(&self, request: Request, slot: &ConnectionSlot) -> Response {
        let began = Instant::now();
        let deadline = began + time_for_review(request.uri().query().unwrap_or_default());
        let sender = Sender {
            peer: slot.peer(),
            proven: slot.is_proven(),
        };
        let (mut body, mut beginning) = (request.into_body(), Vec::new());
        let read = self.bodies.read(&mut body, sender, &mut beginning).await;
        let (bytes, place) = match read {
            Ok(read) => read,
            Err(why) => return self.unread(why, body, &beginning).await,
        };
        let snapshot = self.sources.snapshot();
        let trusted = &snapshot.world.trusted_controllers;
        let understood = AssertUnwindSafe(|| admission::understand(&bytes, trusted));
        let request = match catch_unwind(understood) {
            Ok(Ok(request)) => request,
            Ok(Err(malformed)) => return self.malformed(malformed, &beginning),
            Err(_) => return self.panicked(admission::uid(&bytes), self.audited.everywhere),
        };
        // What is waited for while the review is under way is not the body.
        let _under_review = slot.review();
        let received = bytes.len();
        drop(bytes);
        place.shrink(kept_of(&request, received));
        let uid = request.uid.clone();
        let audit_only = self.audited.includes(namespace_of(&request));
        let work = AssertUnwindSafe(self.answer(request, snapshot, began, deadline)).catch_unwind();
        match work.await {
            Ok(answer) => answer,
            Err(_) => self.panicked(Some(uid), audit_only),
        }
    }

    /// A request whose body was not read. Where everything is admitted, this one is too: its beginning names it.
    async fn unread(&self, why: UnreadBody, mut body: Body, beginning: &[u8]) -> Response {
        self.metrics.bodies_unread.inc();
        match uid_at_the_beginning(beginning) {
            Some(uid) if self.audited.everywhere => {
                // An answer before the end of the request may get lost.
                let rest = async { while let Some(Ok(_)) = body.frame().await {} };
                let _ = timeout(BODY, rest).await;
                failed(admission::VERSION, &uid, why.to_string(), true)
            }
            _ => text(why.status(), &why.to_string()),
        }
    }

    fn malformed(&self, malformed: Malformed, beginning: &[u8]) -> Response {
        self.metrics.failures.inc();
        let Malformed { uid, why, version } = malformed;
        tracing::warn!(uid, why, "a request was not understood");
        let audit_only = self.audited.everywhere;
        let uid = uid.or_else(|| uid_at_the_beginning(beginning).filter(|_| audit_only));
        match uid {
            Some(uid) => failed(version, &uid, why, audit_only),
            None => text(StatusCode::BAD_REQUEST, &why),
        }
    }

    async fn answer(
        &self,
        request: admission::Request,
        snapshot: Arc<Snapshot>,
        began: Instant,
        deadline: Instant,
    ) -> Response {
        let answer = match request.understood {
            Understood::NotOurs(why) => {
                if why == NotOurs::MirrorPod {
                    let uid = &request.uid;
                    tracing::info!(uid, "a Pod from a file of its node is not judged");
                }
                self.not_judged(why)
            }
            Understood::Governance(change) => self.governed(&change, &snapshot, deadline).await,
            Understood::Change(change) => self.judged(*change, snapshot, began, deadline).await,
            Understood::Refers(referring) => {
                match self.complete(*referring, &snapshot, deadline).await {
                    Ok(change) => self.judged(change, snapshot, began, deadline).await,
                    Err(why) => self.not_judged(why),
                }
            }
        };
        json(&answer.to(admission::VERSION, &request.uid))
    }

    fn not_judged(&self, why: NotOurs) -> AdmissionResponse {
        self.metrics.count_not_judged(why.id());
        AdmissionResponse::not_judged(why.id())
    }

    /// A change with the object that it refers to. An object of which nothing is recorded as staged is not read for the sake of
    /// more replicas, so that plain scaling costs no read.
    async fn complete(
        &self,
        referring: Referring,
        snapshot: &Snapshot,
        deadline: Instant,
    ) -> Result<Change, NotOurs> {
        let records = self.records.as_ref();
        let nothing_is_staged = records.is_some_and(|it| !it.may_hold_staged(referring.object()));
        if referring.needs_staged() && nothing_is_staged {
            return Err(NotOurs::NothingThatRuns);
        }
        let trusted = &snapshot.world.trusted_controllers;
        complete(referring, self.cluster.as_ref(), trusted, deadline).await
    }

    async fn governed(
        &self,
        change: &GovernanceChange,
        snapshot: &Snapshot,
        deadline: Instant,
    ) -> AdmissionResponse {
        let gate = match &self.cluster {
            Some(cluster) if change.is_written_by_the_gate() => {
                let user = cluster.user(deadline).await;
                user.inspect_err(
                    |why| tracing::warn!(%why, "a write of the gate is not recognised"),
                )
                .ok()
            }
            _ => None,
        };
        let by = GovernedBy {
            snapshot,
            governors_unknown: self.sources.readiness().governors_unknown.clone(),
            gate,
            problems: Vec::new(),
            now: Timestamp::now(),
        };
        // The right is judged first, so that a requester without one causes no parsing.
        let mut verdict = judge_governance(change, by.clone());
        if verdict.decision == Decision::Allow {
            let reading = governance::Reading {
                sources: &self.sources,
                room: &self.parses,
                deadline,
            };
            let problems = governance::problems(change, &reading).await;
            if !problems.is_empty() {
                verdict = judge_governance(change, GovernedBy { problems, ..by });
            }
            let consequences = governance::consequences(change, &reading).await;
            verdict.warnings.extend(consequences);
        }
        let audit_only = self.audited.everywhere;
        let answer = AdmissionResponse::governed(&verdict, change, audit_only);
        let (admitted, revision) = (answer.allowed, &snapshot.revision);
        self.metrics
            .count_governance(&verdict, admitted, change.dry_run);
        let alarms = &self.metrics.alarms;
        governance::log(&verdict, change, revision, admitted, audit_only, alarms);
        // A deletion that is only recorded, and not allowed, lifts nothing.
        let by_governor = ["governor", "no-governors"].contains(&verdict.reason);
        if let (Some(debts), Decision::Allow, true) = (&self.debts, verdict.decision, by_governor) {
            debts.note_deletion(change);
        }
        answer
    }

    async fn judged(
        &self,
        change: Change,
        snapshot: Arc<Snapshot>,
        began: Instant,
        deadline: Instant,
    ) -> AdmissionResponse {
        let namespace = change.workload.namespace.as_deref();
        let audit_only = self.audited.includes(namespace);
        let snapshot = self.sources.knowing(snapshot, namespace, deadline);
        let inputs = ReviewInputs {
            snapshot: snapshot.await,
            collector: Arc::clone(&self.collector),
            records: self.records.clone().map(RecordSource::Cluster),
            incidents: Some(self.sources.incidents()),
            deadline,
            audit_only,
        };
        let (review, requests) = metered(review(change, &inputs, Timestamp::now())).await;
        let mut answer = AdmissionResponse::of(&review.verdict, &review.promotion, audit_only);
        if let (Some(records), true) = (&self.records, answer.allowed) {
            let recorded = records.record(&review, &inputs.snapshot, audit_only, deadline);
            if let Err(why) = recorded.await {
                answer = AdmissionResponse::failed(format!(
                    "{why}; upkeep rests on the record, so nothing is admitted without it where a policy enforces: try again [record-not-written]"
                ));
            }
        }
        let (admitted, took) = (answer.allowed, began.elapsed());
        self.metrics
            .count(&review.verdict, admitted, took, requests);
        let Promotion { change, kind, .. } = &review.promotion;
        let trusted = &inputs.snapshot.world.trusted_controllers;
        let actor = change.actor.as_ref();
        let by_controller =
            actor.is_some_and(|actor| actor.is_trusted_for(&change.workload, trusted));
        self.metrics.count_change(*kind, by_controller, admitted);
        if admitted && !change.dry_run {
            self.metrics.count_emergencies(&review.verdict);
        }
        if let Some(events) = &self.events {
            events.tell(change, *kind, by_controller, &answer);
        }
        decision_log::log(&review, admitted, audit_only, took, requests);
        if let Some(keeper) = &self.keeper {
            keeper.look_at(&review, &inputs.snapshot);
        }
        answer
    }

    fn panicked(&self, uid: Option<String>, audit_only: bool) -> Response {
        self.metrics.failures.inc();
        tracing::error!(
            uid,
            "the review of a request failed; this is a fault of promotion-gate, please report it"
        );
        match uid {
            Some(uid) => failed(
                admission::VERSION,
                &uid,
                "promotion-gate failed on this request; see its log".to_owned(),
                audit_only,
            ),
            None => text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "promotion-gate failed on this request",
            ),
        }
    }
}

/// Denied, or admitted where everything is.
fn failed(version: &str, uid: &str, message: String, audit_only: bool) -> Response {
    let mut answer = AdmissionResponse::failed(message);
    answer.allowed = audit_only;
    json(&answer.to(version, uid))
}

/// The namespace of the workload that a request is about.
fn namespace_of(request: &admission::Request) -> Option<&str> {
    let change = match &request.understood {
        Understood::Change(change) => change,
        Understood::Refers(referring) => referring.change(),
        Understood::Governance(_) | Understood::NotOurs(_) => return None,
    };
    change.workload.namespace.as_deref()
}

impl UnreadBody {
    fn status(self) -> StatusCode {
        match self {
            UnreadBody::Broken => StatusCode::PAYLOAD_TOO_LARGE,
            UnreadBody::NoRoom => StatusCode::SERVICE_UNAVAILABLE,
            UnreadBody::Late => StatusCode::REQUEST_TIMEOUT,
        }
    }
}

/// How many bytes are kept of a request while it is reviewed, roughly.
fn kept_of(request: &admission::Request, received: usize) -> usize {
    let change = match &request.understood {
        Understood::Change(change) => change,
        Understood::Refers(referring) => referring.change(),
        // The objects before and after are kept.
        Understood::Governance(_) => return received,
        Understood::NotOurs(_) => return 0,
    };
    let images = change.images.iter().map(|image| {
        let name = image.reference.name().len();
        size_of_val(image) + image.field.len() + 2 * name
    });
    let unreadable = change.unreadable.iter().map(|field| {
        let text = field.field.len() + field.why.len();
        size_of_val(field) + text
    });
    let actor = change.actor.iter().flat_map(|actor| &actor.groups);
    let groups = actor.map(|group| size_of_val(group) + group.len());
    images.chain(unreadable).chain(groups).sum()
}

/// The request's `uid` where it stands as API servers write it, before anything long.
fn uid_at_the_beginning(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let (_, request) = text.split_once("\"request\"")?;
    let (_, uid) = request.split_once("\"uid\"")?;
    let uid = uid.trim_start().strip_prefix(':')?.trim_start();
    let (uid, _) = uid.strip_prefix('"')?.split_once('"')?;
    let plain = |character: char| character.is_ascii_alphanumeric() || character == '-';
    (!uid.is_empty() && uid.len() <= 128 && uid.chars().all(plain)).then(|| uid.to_owned())
}

/// The time that `?timeout=10s` leaves, less what the answer needs to travel.
fn time_for_review(query: &str) -> Duration {
    let given = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("timeout="));
    let given = given
        .and_then(seconds)
        .unwrap_or(DEFAULT_TIMEOUT)
        .min(MAXIMUM_TIMEOUT);
    given
        .saturating_sub(given / 10)
        .saturating_sub(Duration::from_millis(100))
}

/// A Go duration of seconds, as the API server writes it.
fn seconds(text: &str) -> Option<Duration> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1),
        None => (text.strip_suffix('s')?, 1000),
    };
    number
        .parse::<u64>()
        .ok()?
        .checked_mul(unit)
        .map(Duration::from_millis)
}

fn json(answer: &admission::Respond<'_>) -> Response {
    Json(answer).into_response()
}

fn text(status: StatusCode, text: &str) -> Response {
    (status, format!("{text}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_named_by_the_beginning_of_its_body() {
        let uid = |body: &str| uid_at_the_beginning(body.as_bytes());
        let written = r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"705ab4f5-6393","kind":{"gro"#;
        assert_eq!(uid(written), Some("705ab4f5-6393".to_owned()));
        assert_eq!(uid(r#"{"request": { "uid" : "a" "#), Some("a".to_owned()));
        assert_eq!(uid(r#"{"request":{"uid":"a"#), None);
        assert_eq!(uid(r#"{"request":{"uid":"a\u0022b""#), None);
        assert_eq!(uid(r#"{"uid":"a"}"#), None);
    }

    #[test]
    fn the_review_ends_before_the_api_server_gives_up() {
        assert_eq!(time_for_review("timeout=10s"), Duration::from_millis(8900));
        assert_eq!(
            time_for_review("a=b&timeout=500ms"),
            Duration::from_millis(350)
        );
        assert_eq!(
            time_for_review("timeout=9000s"),
            Duration::from_millis(26900)
        );
        assert_eq!(time_for_review("timeout=x"), time_for_review(""));
    }
}
