//! The webhook: HTTPS with limits in front, one review behind, probes and metrics on a second port.
//!
//! * `webhook` — a body → an answer
//! * `watch` — policies and certificates that change under way

mod connection;
mod probes;
mod watch;
mod webhook;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch as signal};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::collect::Collector;
use crate::telemetry::Metrics;

pub use watch::{Certificate, PolicySource};
pub use webhook::Webhook;

/// How the webhook is served.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where requests come in.
    pub address: SocketAddr,
    /// Where probes and metrics are asked for.
    pub probe_address: SocketAddr,
    /// The certificate chain (PEM).
    pub certificate: PathBuf,
    /// Its key (PEM).
    pub key: PathBuf,
    /// Admit everything, and record what would have been said.
    pub audit_only: bool,
    /// Open connections at most.
    pub connections: usize,
    /// How long requests may go on after the signal to stop.
    pub drain: Duration,
}

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How often files are looked at.
const POLL: Duration = Duration::from_secs(1);

/// Where a running webhook listens.
#[derive(Clone, Copy, Debug)]
pub struct Listening {
    /// HTTPS.
    pub address: SocketAddr,
    /// Probes and metrics.
    pub probe_address: SocketAddr,
}

/// Serves until `stop` resolves; then it is not ready any more, answers for as long as `stop` says, since not everybody
/// knows at once, lets no new connections in, and drains.
///
/// # Errors
/// What keeps it from starting: addresses, certificate, key.
pub async fn serve(
    options: Options,
    source: PolicySource,
    collector: Arc<Collector>,
    started: impl FnOnce(Listening),
    stop: impl Future<Output = Duration>,
) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::new());
    let certificate = Certificate::load(&options.certificate, &options.key)?;
    let policies = watch::Policies::load(source, Arc::clone(&collector), &metrics);
    let listener = listen(options.address).await?;
    let probes = listen(options.probe_address).await?;
    let listening = Listening {
        address: listener.local_addr()?,
        probe_address: probes.local_addr()?,
    };
    let (stopping, stopped) = signal::channel(false);
    let webhook = Arc::new(Webhook::new(
        Arc::clone(&policies),
        collector,
        Arc::clone(&metrics),
        options.audit_only,
    ));
    let background = [
        tokio::spawn(watch::policies(
            Arc::clone(&policies),
            Arc::clone(&metrics),
            POLL,
        )),
        tokio::spawn(watch::certificate(
            certificate.clone(),
            Arc::clone(&metrics),
            POLL,
        )),
        tokio::spawn(probes::serve(
            probes,
            policies,
            Arc::clone(&metrics),
            stopped,
        )),
    ];
    started(listening);
    let door = Door {
        listener,
        certificate,
        webhook,
        metrics,
        room: Arc::new(Semaphore::new(options.connections.max(1))),
        graceful: GracefulShutdown::new(),
    };
    let linger = tokio::select! {
        never = door.admit() => match never {},
        linger = stop => linger,
    };
    tracing::info!("stopping: not ready any more, requests are still answered");
    // Fails only where nobody listens any more.
    let _ = stopping.send(true);
    let _ = timeout(linger, door.admit()).await;
    tracing::info!("no new connections, requests under way are answered");
    drop(door.listener);
    if timeout(options.drain, door.graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("some requests were not answered within the time to drain");
    }
    for task in background {
        task.abort();
    }
    Ok(())
}

/// Where connections come in.
struct Door {
    listener: TcpListener,
    certificate: Certificate,
    webhook: Arc<Webhook>,
    metrics: Arc<Metrics>,
    room: Arc<Semaphore>,
    graceful: GracefulShutdown,
}

impl Door {
    /// Lets connections in for as long as it is waited for.
    async fn admit(&self) -> Infallible {
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Ok(seat) = Arc::clone(&self.room).try_acquire_owned() else {
                self.metrics.connections_refused.inc();
                continue;
            };
            let acceptor = TlsAcceptor::from(self.certificate.current());
            let (webhook, watcher) = (Arc::clone(&self.webhook), self.graceful.watcher());
            let metrics = Arc::clone(&self.metrics);
            tokio::spawn(async move {
                let _seat = seat;
                metrics.connections.inc();
                if let Ok(Ok(tls)) = timeout(HANDSHAKE, acceptor.accept(stream)).await {
                    // A broken connection concerns nobody but its peer.
                    connection::serve(tls, webhook, watcher).await;
                }
                metrics.connections.dec();
            });
        }
    }
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))
}
