//! One request: a body → understood → reviewed → answered. A panic on the way is answered with the request's uid.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use jiff::Timestamp;
use promotion_gate_core::gate::Change;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use super::watch::Policies;
use crate::admission::{self, Answer, Understood};
use crate::collect::Collector;
use crate::oci::metered;
use crate::review::{World, review};
use crate::telemetry::{self, Metrics};

/// The largest body: an object may have 3 MiB, and an update carries two.
const MAXIMUM_BODY: usize = 8 << 20;
/// How much of bodies is held at one time, in KiB: whoever sends more waits, and not for long.
const BODIES: u32 = 96 << 10;
/// How long a body may take.
const BODY: Duration = Duration::from_secs(10);
/// How long a request waits for room.
const ROOM: Duration = Duration::from_secs(2);
/// The API server's default time-out.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// The API server's longest time-out.
const MAXIMUM_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a body was not read.
enum Unread {
    /// It broke off, or is too large.
    Broken,
    /// Too much is held already.
    NoRoom,
}

/// Answers the API server.
pub struct Webhook {
    policies: Arc<Policies>,
    collector: Arc<Collector>,
    metrics: Arc<Metrics>,
    audit_only: bool,
    /// Room for bodies, in KiB.
    room: Semaphore,
}

impl Webhook {
    pub(super) fn new(
        policies: Arc<Policies>,
        collector: Arc<Collector>,
        metrics: Arc<Metrics>,
        audit_only: bool,
    ) -> Webhook {
        Webhook {
            policies,
            collector,
            metrics,
            audit_only,
            room: Semaphore::new(usize::try_from(BODIES).unwrap_or_default()),
        }
    }

    pub(super) async fn handle(
        self: Arc<Webhook>,
        request: Request<Incoming>,
    ) -> Response<Full<Bytes>> {
        let began = Instant::now();
        if request.uri().path() != "/validate" {
            return text(StatusCode::NOT_FOUND, "there is nothing here but /validate");
        }
        if request.method() != Method::POST {
            return text(
                StatusCode::METHOD_NOT_ALLOWED,
                "expected POST with an AdmissionReview",
            );
        }
        let deadline = began + time_for_review(request.uri().query().unwrap_or_default());
        let read = timeout(BODY, self.read(request.into_body())).await;
        let (body, _room) = match read {
            Ok(Ok(read)) => read,
            Ok(Err(Unread::Broken)) => {
                return text(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "the body is broken off, or larger than 8 MiB",
                );
            }
            Ok(Err(Unread::NoRoom)) => {
                return text(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "too many large requests at one time",
                );
            }
            Err(_) => {
                return text(
                    StatusCode::REQUEST_TIMEOUT,
                    "the body did not arrive in time",
                );
            }
        };
        let work = AssertUnwindSafe(self.answer(&body, began, deadline)).catch_unwind();
        match work.await {
            Ok(answer) => answer,
            Err(_) => self.panicked(&body),
        }
    }

    /// Reads a body. It takes room as it arrives: what is only announced keeps nobody else out.
    async fn read(&self, body: Incoming) -> Result<(Vec<u8>, SemaphorePermit<'_>), Unread> {
        let mut body = Limited::new(body, MAXIMUM_BODY);
        let mut bytes = Vec::new();
        let mut room = self.take(1).await?;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Unread::Broken)?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let needed = (bytes.len() + data.len()) / 1024 + 1;
            room.merge(self.take(needed.saturating_sub(room.num_permits())).await?);
            bytes.extend_from_slice(&data);
        }
        Ok((bytes, room))
    }

    async fn take(&self, kibibytes: usize) -> Result<SemaphorePermit<'_>, Unread> {
        let kibibytes = u32::try_from(kibibytes).map_err(|_| Unread::Broken)?;
        match timeout(ROOM, self.room.acquire_many(kibibytes)).await {
            Ok(Ok(room)) => Ok(room),
            _ => Err(Unread::NoRoom),
        }
    }

    async fn answer(
        &self,
        body: &[u8],
        began: Instant,
        deadline: Instant,
    ) -> Response<Full<Bytes>> {
        let request = match admission::understand(body) {
            Ok(request) => request,
            Err(malformed) => {
                self.metrics.failures.inc();
                tracing::warn!(
                    uid = malformed.uid,
                    why = malformed.why,
                    "a request was not understood"
                );
                return match malformed.uid {
                    Some(uid) => self.failed(malformed.version, &uid, malformed.why),
                    None => text(StatusCode::BAD_REQUEST, &malformed.why),
                };
            }
        };
        let answer = match request.understood {
            Understood::NotOurs(why) => Answer::not_judged(why.id()),
            Understood::Change(change) => self.judged(*change, began, deadline).await,
        };
        json(&answer.to(admission::VERSION, &request.uid))
    }

    async fn judged(&self, change: Change, began: Instant, deadline: Instant) -> Answer {
        let world = World {
            snapshot: self.policies.snapshot(),
            collector: Arc::clone(&self.collector),
            deadline,
        };
        let (review, requests) = metered(review(change, &world, Timestamp::now())).await;
        let answer = Answer::of(&review.verdict, &review.promotion, self.audit_only);
        telemetry::record(
            &self.metrics,
            &review,
            answer.allowed,
            self.audit_only,
            began.elapsed(),
            requests,
        );
        answer
    }

    fn panicked(&self, body: &[u8]) -> Response<Full<Bytes>> {
        self.metrics.failures.inc();
        let uid = admission::uid(body);
        tracing::error!(
            uid,
            "the review of a request failed; this is a fault of promotion-gate, please report it"
        );
        match uid {
            Some(uid) => self.failed(
                admission::VERSION,
                &uid,
                "promotion-gate failed on this request; see its log".to_owned(),
            ),
            None => text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "promotion-gate failed on this request",
            ),
        }
    }

    /// Denied, or admitted where everything is.
    fn failed(&self, version: &str, uid: &str, message: String) -> Response<Full<Bytes>> {
        let mut answer = Answer::failed(message);
        answer.allowed = self.audit_only;
        json(&answer.to(version, uid))
    }
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

fn json(answer: &admission::Respond<'_>) -> Response<Full<Bytes>> {
    let Ok(body) = serde_json::to_vec(answer) else {
        return text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the answer does not print",
        );
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    response
}

fn text(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{text}\n"))));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

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
