//! The second port: `/livez`, `/readyz`, `/metrics`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use super::slots::ConnectionSlots;
use crate::metrics::Metrics;
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
    metrics: Arc<Metrics>,
    stopping: watch::Receiver<bool>,
) {
    loop {
        let (stream, slot) = slots.accept(&listener).await;
        let (sources, metrics, stopping) =
            (Arc::clone(&sources), Arc::clone(&metrics), stopping.clone());
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let answer = answer(request.uri().path(), &sources, &metrics, *stopping.borrow());
                async move { Ok::<_, Infallible>(answer) }
            });
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

fn answer(
    path: &str,
    sources: &Sources,
    metrics: &Metrics,
    stopping: bool,
) -> Response<Full<Bytes>> {
    let (status, text) = match path {
        "/livez" => (StatusCode::OK, "alive\n".to_owned()),
        "/readyz" if stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned()),
        "/readyz" => readiness(&sources.readiness()),
        "/metrics" => (StatusCode::OK, metrics.text()),
        _ => (
            StatusCode::NOT_FOUND,
            "there are /livez, /readyz and /metrics\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}

fn readiness(readiness: &Readiness) -> (StatusCode, String) {
    let problems = readiness.problems.join("\n");
    match (readiness.ready, problems.is_empty()) {
        (true, true) => (StatusCode::OK, "ready\n".to_owned()),
        (true, false) => {
            let kept = match readiness.kept.as_slice() {
                [] => String::new(),
                kept => format!("in force instead: {}\n", kept.join(", ")),
            };
            let text = format!(
                "ready, but the policies or the configuration on disk are broken and older ones are in force:\n{problems}\n{kept}"
            );
            (StatusCode::OK, text)
        }
        (false, _) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: no usable policies\n{problems}\n"),
        ),
    }
}
