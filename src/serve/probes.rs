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
use tokio::sync::{Semaphore, watch};

use super::watch::Policies;
use crate::telemetry::Metrics;

/// Connections at the same time.
const CONNECTIONS: usize = 64;

pub(super) async fn serve(
    listener: TcpListener,
    policies: Arc<Policies>,
    metrics: Arc<Metrics>,
    stopping: watch::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(seat) = Arc::clone(&room).try_acquire_owned() else {
            continue;
        };
        let (policies, metrics, stopping) = (
            Arc::clone(&policies),
            Arc::clone(&metrics),
            stopping.clone(),
        );
        tokio::spawn(async move {
            let _seat = seat;
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let answer = answer(
                    request.uri().path(),
                    &policies,
                    &metrics,
                    *stopping.borrow(),
                );
                async move { Ok::<_, Infallible>(answer) }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(5));
            // A broken connection concerns nobody but its peer.
            let _ = builder
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn answer(
    path: &str,
    policies: &Policies,
    metrics: &Metrics,
    stopping: bool,
) -> Response<Full<Bytes>> {
    let (status, text) = match path {
        "/livez" => (StatusCode::OK, "alive\n".to_owned()),
        "/readyz" if stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned()),
        "/readyz" => policies.readiness(),
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
