//! HTTP on loopback, for the servers of the sandbox.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// The largest body of a request.
const MAXIMUM_BODY: usize = 16 << 20;

/// A server that stops when it is dropped.
pub(super) struct LoopbackServer {
    address: SocketAddr,
    task: JoinHandle<()>,
    /// Whether it answers.
    open: Arc<AtomicBool>,
}

impl LoopbackServer {
    pub(super) async fn start(
        address: SocketAddr,
        answer: impl Fn(&Request<Bytes>) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> io::Result<LoopbackServer> {
        let listener = TcpListener::bind(address).await?;
        let open = Arc::new(AtomicBool::new(true));
        Ok(LoopbackServer {
            address: listener.local_addr()?,
            task: tokio::spawn(accept(listener, Arc::new(answer), Arc::clone(&open))),
            open,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops answering; connections are refused.
    pub(super) fn stop(&self) {
        // The task ends a moment later.
        self.open.store(false, Ordering::SeqCst);
        self.task.abort();
    }

    /// Stops, and waits until the port is released.
    pub(super) async fn end(mut self) {
        self.stop();
        let _ = (&mut self.task).await;
    }
}

impl Drop for LoopbackServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The connections end with this task.
async fn accept<A>(listener: TcpListener, answer: Arc<A>, open: Arc<AtomicBool>)
where
    A: Fn(&Request<Bytes>) -> Response<Full<Bytes>> + Send + Sync + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (answer, open) = (Arc::clone(&answer), Arc::clone(&open));
        connections.spawn(async move {
            let service = service_fn(|request| answered(&*answer, &open, request));
            // A broken connection does not affect other clients.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answered(
    answer: &(impl Fn(&Request<Bytes>) -> Response<Full<Bytes>> + Sync),
    open: &AtomicBool,
    request: Request<Incoming>,
) -> io::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, MAXIMUM_BODY).collect().await;
    if !open.load(Ordering::SeqCst) {
        return Err(io::Error::from(io::ErrorKind::ConnectionAborted));
    }
    Ok(match body {
        Ok(body) => answer(&Request::from_parts(head, body.to_bytes())),
        Err(_) => {
            let mut refused = Response::default();
            *refused.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
            refused
        }
    })
}
