//! The second port: `/livez`, `/readyz`, `/metrics`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::StatusCode;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use super::slots::ConnectionSlots;
use crate::metrics::Metrics;
use crate::record::ReleaseRecords;
use crate::snapshot::{Readiness, Sources};

/// How much of a request is buffered, in bytes.
const BUFFER: usize = 16 << 10;
/// How long a connection may take, for its one request.
const PATIENCE: Duration = Duration::from_secs(3);

/// Answers one request a connection, so that one that is held holds nothing else.
pub(super) async fn serve(
    listener: TcpListener,
    slots: Arc<ConnectionSlots>,
    sources: Arc<Sources>,
    records: Option<Arc<ReleaseRecords>>,
    metrics: Arc<Metrics>,
    stopping: watch::Receiver<bool>,
) {
    let routes = routes(sources, records, metrics, stopping);
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

fn routes(
    sources: Arc<Sources>,
    records: Option<Arc<ReleaseRecords>>,
    metrics: Arc<Metrics>,
    stopping: watch::Receiver<bool>,
) -> Router {
    let readyz = move || {
        let mut parts = Readiness::clone(&sources.readiness());
        if let Some(records) = &records {
            let (is_ready, problem) = records.readiness();
            parts.ready &= is_ready;
            let problem = problem.map(|why| format!("release records: {why}"));
            parts.problems.extend(problem);
        }
        let (status, text) = match *stopping.borrow() {
            true => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned()),
            false => readiness(&parts),
        };
        let answer: Response = (status, text).into_response();
        std::future::ready(answer)
    };
    let metrics = move || std::future::ready(metrics.text());
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
            format!("not ready: what decides is not known yet\n{problems}\n"),
        ),
    }
}
