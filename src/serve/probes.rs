//! The second port: `/livez`, `/readyz`, `/metrics`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::IntoResponse as _;
use axum::routing::get;
use http::StatusCode;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use super::certificate::Certificate;
use super::slots::ConnectionSlots;
use crate::duties::WebhookKeeper;
use crate::metrics::Metrics;
use crate::record::ReleaseRecords;
use crate::snapshot::{Readiness, Sources};

/// How much of a request is buffered, in bytes.
const BUFFER: usize = 16 << 10;
/// How long a connection may take, for its one request.
const PATIENCE: Duration = Duration::from_secs(3);

/// What says whether this replica is ready.
#[derive(Clone)]
pub(super) struct Ready {
    pub(super) sources: Arc<Sources>,
    pub(super) records: Option<Arc<ReleaseRecords>>,
    pub(super) certificate: Certificate,
    pub(super) webhook: Option<Arc<WebhookKeeper>>,
}

impl Ready {
    /// Whether it is ready now, and what is wrong.
    pub(super) fn look(&self) -> Readiness {
        let mut parts = Readiness::clone(&self.sources.readiness());
        if let Some(records) = &self.records {
            let (is_ready, problem) = records.readiness();
            parts.ready &= is_ready;
            let problem = problem.map(|why| format!("release records: {why}"));
            parts.problems.extend(problem);
        }
        let (is_served, problem) = self.certificate.readiness();
        parts.ready &= is_served;
        let problem = problem.map(|why| format!("certificate: {why}"));
        parts.problems.extend(problem);
        let problem = self.webhook.as_ref().and_then(|webhook| webhook.problem());
        parts.problems.extend(problem);
        parts
    }
}

/// Answers one request a connection, so that one that is held holds nothing else.
pub(super) async fn serve(
    listener: TcpListener,
    slots: Arc<ConnectionSlots>,
    ready: Ready,
    metrics: Arc<Metrics>,
    stopping: watch::Receiver<bool>,
) {
    let routes = routes(ready, metrics, stopping);
    loop {
        let (stream, slot) = slots.accept(&listener).await;
        let service = TowerToHyperService::new(routes.clone());
        tokio::spawn(async move {
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .keep_alive(false)
                .max_buf_size(BUFFER)
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                // A broken connection concerns its peer alone.
                _ = timeout(PATIENCE, served) => {}
                () = slot.closed() => {}
            }
        });
    }
}

fn routes(ready: Ready, metrics: Arc<Metrics>, stopping: watch::Receiver<bool>) -> Router {
    let look = move || match *stopping.borrow() {
        true => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned()),
        false => readiness(&ready.look()),
    };
    let readyz = {
        let look = look.clone();
        move || std::future::ready(look().into_response())
    };
    let metrics = move || {
        let (status, _) = look();
        metrics.ready.set(i64::from(status == StatusCode::OK));
        std::future::ready(metrics.text())
    };
    let no_route = || async {
        (
            StatusCode::NOT_FOUND,
            "the paths are /livez, /readyz and /metrics\n",
        )
    };
    Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(no_route)
}

fn readiness(readiness: &Readiness) -> (StatusCode, String) {
    let problems = readiness.problems.join("\n");
    match (readiness.ready, problems.is_empty()) {
        (true, true) => (StatusCode::OK, "ready\n".to_owned()),
        (true, false) => {
            let text = match readiness.kept.as_slice() {
                [] => format!("ready, but with problems:\n{problems}\n"),
                kept => format!(
                    "ready, but the policies or the configuration on disk are broken and older ones are in force:\n{problems}\nin force instead: {}\n",
                    kept.join(", ")
                ),
            };
            (StatusCode::OK, text)
        }
        (false, _) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready:\n{problems}\n"),
        ),
    }
}
