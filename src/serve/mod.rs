//! The webhook: HTTPS with limits in front, one review behind, probes and metrics on a second port.
//!
//! * `webhook` — a body → an answer
//! * `slots`, `connection` — which connections may be open, and for how long
//! * `bodies` — the room for what is sent
//! * `certificate` — the certificate, which changes under way

mod bodies;
mod certificate;
mod connection;
mod probes;
mod slots;
mod webhook;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::Router;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::watch as signal;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::admission::Audited;
use crate::cluster::Cluster;
use crate::collect::Collector;
use crate::duties::{
    BundleSource, Debts, Duties, Lease, ManagedWebhook, SelfManaged, WebhookKeeper,
};
use crate::metrics::Metrics;
use crate::record::ReleaseRecords;
use crate::snapshot::{SnapshotFiles, Sources, Watches, keep_current};

use certificate::{Certificate, Source};
use probes::Ready;
use slots::{ConnectionSlots, Room, WarningInterval};

pub use certificate::{CertificateOptions, Clients};
pub use webhook::Webhook;

/// How the webhook is served.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where requests come in.
    pub address: SocketAddr,
    /// Where probes and metrics are asked for.
    pub probe_address: SocketAddr,
    /// The webhook's certificate.
    pub certificate: CertificateOptions,
    /// The webhook configuration that is kept; `None` where somebody else keeps it. It needs a cluster.
    pub webhook: Option<ManagedWebhook>,
    /// Which clients may connect; all where that is not said.
    pub clients: Option<Clients>,
    /// The cluster that is guarded; `None` where files alone count.
    pub cluster: Option<Cluster>,
    /// Where everything is admitted, and what would have been said is recorded.
    pub audited: Audited,
    /// Open connections at most; a quarter of them is for those on which no AdmissionReview came so far.
    pub connections: usize,
    /// How long requests may go on after the signal to stop.
    pub drain: Duration,
    /// How often files are looked at; [`POLL`] outside of tests.
    pub poll: Duration,
}

/// Open connections for probes and metrics at most.
const PROBE_CONNECTIONS: usize = 256;
/// How long the start waits for the first answers of feeds.
const FIRST_ANSWERS: Duration = Duration::from_secs(5);
/// How often files are looked at.
pub const POLL: Duration = Duration::from_secs(1);

/// Where a running webhook listens.
#[derive(Clone, Copy, Debug)]
pub struct Listening {
    /// HTTPS.
    pub address: SocketAddr,
    /// Probes and metrics.
    pub probe_address: SocketAddr,
}

impl Listening {
    fn of(webhook: &TcpListener, probes: &TcpListener) -> std::io::Result<Listening> {
        Ok(Listening {
            address: webhook.local_addr()?,
            probe_address: probes.local_addr()?,
        })
    }
}

/// Serves until `stop` resolves; then it is not ready any more, answers for as long as `stop` says, since not every API server
/// knows at once, lets no new connections in, and drains.
///
/// # Errors
/// What keeps it from starting: addresses, certificate, key.
pub async fn serve(
    options: Options,
    files: SnapshotFiles,
    collector: Arc<Collector>,
    started: impl FnOnce(Listening),
    stop: impl Future<Output = Duration>,
) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::new());
    let cluster = options.cluster.as_ref();

    // 1. The certificate that it shows, and what it decides by. All of it is read at the same time.
    let (source, managed) = certificate_source(options.certificate, cluster, &metrics)?;
    let certificate = Certificate::load(source, options.clients, &metrics)?;
    let lease = cluster.map(|cluster| Arc::new(Lease::new(cluster)));
    let renewing = managed.clone().zip(lease.clone());
    let renewing = renewing.map(|(managed, lease)| {
        let keep = managed.keep(lease);
        tokio::spawn(async { match keep.await {} })
    });
    let records =
        cluster.map(|cluster| ReleaseRecords::start(cluster.clone(), Arc::clone(&metrics)));
    let (sources, watching) = read_sources(files, cluster, &collector, &metrics).await;

    // 2. Its ports.
    let listener = listen(options.address).await?;
    let probes = listen(options.probe_address).await?;
    let listening = Listening::of(&listener, &probes)?;

    // 3. What it does in the background.
    let (stopping, stopped) = signal::channel(false);
    let mut duties = cluster.zip(lease).map(|(cluster, lease)| {
        let (sources, metrics) = (Arc::clone(&sources), Arc::clone(&metrics));
        Duties::start(lease, cluster.clone(), sources, metrics)
    });
    let (kept, mut background) = match (cluster, &mut duties, records) {
        (Some(cluster), Some(duties), Some((records, mut tasks))) => {
            let audited = options.audited.clone();
            let (debts, more) = keep_records(
                cluster, duties, audited, &records, &sources, &collector, &metrics,
            );
            tasks.extend(more);
            (Some((records, debts)), tasks)
        }
        _ => (None, Vec::new()),
    };
    let keeper = cluster.zip(options.webhook).map(|(cluster, webhook)| {
        let keeper = webhook_keeper(cluster, webhook, managed.as_deref(), &metrics);
        Arc::new(keeper)
    });
    let ready = Ready {
        sources: Arc::clone(&sources),
        records: kept.as_ref().map(|(records, _)| Arc::clone(records)),
        certificate: certificate.clone(),
        webhook: keeper.clone(),
    };
    if let Some((duties, keeper)) = duties.as_ref().zip(keeper) {
        let ready = ready.clone();
        let keep = keeper.keep(duties.lease(), move || ready.look().ready);
        background.push(tokio::spawn(async { match keep.await {} }));
    }
    background.extend(keep_read(&sources, &certificate, &metrics, options.poll));
    background.push(tokio::spawn(probes::serve(
        probes,
        slots("probes", 0, PROBE_CONNECTIONS, &metrics),
        ready,
        Arc::clone(&metrics),
        stopped.clone(),
    )));

    // 4. Requests, until the signal to stop.
    let webhook = Arc::new(Webhook::new(
        sources,
        collector,
        options.cluster,
        kept,
        Arc::clone(&metrics),
        options.audited,
    ));
    started(listening);
    let unproven = (options.connections / 4).max(1);
    let proven = options.connections.saturating_sub(unproven).max(1);
    let incoming = Listener {
        listener,
        certificate,
        routes: webhook.routes(),
        slots: slots("webhook", proven, unproven, &metrics),
        metrics,
        stopped,
        graceful: GracefulShutdown::new(),
        refusals: Arc::default(),
    };
    let shutdown_delay = tokio::select! {
        never = incoming.accept_connections() => match never {},
        shutdown_delay = stop => shutdown_delay,
    };

    // 5. The end. The Lease is released first, so that another replica takes over at once.
    tracing::info!("stopping: not ready any more, requests are still answered");
    // Fails only where the probes have ended.
    let _ = stopping.send(true);
    if let Some(duties) = duties {
        duties.stop().await;
    }
    let _ = timeout(shutdown_delay, incoming.accept_connections()).await;
    incoming.drain(options.drain).await;
    for task in background.into_iter().chain(watching).chain(renewing) {
        task.abort();
    }
    Ok(())
}

/// Where the certificate is read, and the certificates that the gate makes itself, if it does.
fn certificate_source(
    certificate: CertificateOptions,
    cluster: Option<&Cluster>,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<(Source, Option<Arc<SelfManaged>>)> {
    match (certificate, cluster) {
        (CertificateOptions::Files { chain, key }, _) => Ok((Source::Files { chain, key }, None)),
        (CertificateOptions::SelfManaged(secret), Some(cluster)) => {
            let managed = SelfManaged::new(cluster.clone(), secret, Arc::clone(metrics));
            let managed = Arc::new(managed);
            Ok((Source::SelfManaged(Arc::clone(&managed)), Some(managed)))
        }
        (CertificateOptions::SelfManaged(_), None) => {
            bail!("there is no cluster in which certificates could be kept")
        }
    }
}

/// Files, resources and feeds as far as they answer in time, and the task that watches the cluster.
async fn read_sources(
    files: SnapshotFiles,
    cluster: Option<&Cluster>,
    collector: &Arc<Collector>,
    metrics: &Metrics,
) -> (Arc<Sources>, Option<JoinHandle<()>>) {
    let watches = cluster.map(|cluster| Arc::new(Watches::new(cluster.clone())));
    let watching = watches
        .clone()
        .map(|watches| tokio::spawn(watches.keep_current()));
    if let Some(watches) = &watches {
        watches.first_read(FIRST_ANSWERS).await;
    }
    let sources = Sources::load(files, watches.clone(), Arc::clone(collector), metrics);
    if let Some(watches) = &watches {
        watches.go_on();
    }
    sources.ask_feeds(metrics, FIRST_ANSWERS).await;
    (sources, watching)
}

/// What keeps the webhook configuration.
fn webhook_keeper(
    cluster: &Cluster,
    webhook: ManagedWebhook,
    managed: Option<&SelfManaged>,
    metrics: &Arc<Metrics>,
) -> WebhookKeeper {
    let bundle = match (managed, webhook.authorities.clone()) {
        (Some(managed), _) => BundleSource::SelfManaged(managed.bundle()),
        (None, Some(file)) => BundleSource::File(file),
        (None, None) => BundleSource::Foreign,
    };
    WebhookKeeper::new(cluster.clone(), webhook, bundle, Arc::clone(metrics))
}

/// The tasks that read files, feeds and trust roots again.
fn keep_read(
    sources: &Arc<Sources>,
    certificate: &Certificate,
    metrics: &Arc<Metrics>,
    poll: Duration,
) -> [JoinHandle<()>; 4] {
    let polled = keep_current(Arc::clone(sources), Arc::clone(metrics), poll);
    let certificate = certificate::certificate(certificate.clone(), Arc::clone(metrics), poll);
    let feeds = sources.feeds().keep_current(Arc::clone(metrics));
    let roots = sources.roots().keep_current();
    [
        tokio::spawn(polled),
        tokio::spawn(certificate),
        tokio::spawn(async { match feeds.await {} }),
        tokio::spawn(async { match roots.await {} }),
    ]
}

/// The release records of the cluster, the records of emergency changes, and the tasks that keep them current.
fn keep_records(
    cluster: &Cluster,
    duties: &mut Duties,
    audited: Audited,
    records: &Arc<ReleaseRecords>,
    sources: &Arc<Sources>,
    collector: &Arc<Collector>,
    metrics: &Arc<Metrics>,
) -> (Arc<Debts>, [JoinHandle<()>; 3]) {
    let debts = Debts::new(
        cluster.clone(),
        Arc::clone(sources),
        Arc::clone(records),
        Arc::clone(collector),
        Arc::clone(metrics),
    );
    let debts = Arc::new(debts);
    let (keep, lease) = (Arc::clone(&debts), duties.lease());
    let reviewed = tokio::spawn(keep.keep(move || lease.is_held()));
    duties.collect_kept(cluster.clone(), Arc::clone(sources), Arc::clone(records));
    let (snapshots, lease) = (Arc::clone(sources), duties.lease());
    let compare = Arc::clone(records);
    let compare = compare.duties(
        move || lease.is_held(),
        move || snapshots.snapshot(),
        audited,
    );
    let (tags, lease) = (Arc::clone(records), duties.lease());
    let tags = tags.watch_tags(move || lease.is_held(), Arc::clone(collector));
    (debts, [reviewed, tokio::spawn(compare), tokio::spawn(tags)])
}

/// Where connections come in.
struct Listener {
    listener: TcpListener,
    certificate: Certificate,
    routes: Router,
    metrics: Arc<Metrics>,
    slots: Arc<ConnectionSlots>,
    stopped: signal::Receiver<bool>,
    graceful: GracefulShutdown,
    refusals: Arc<WarningInterval>,
}

impl Listener {
    /// Lets no new connections in, and waits for the requests under way.
    async fn drain(self, within: Duration) {
        tracing::info!("no new connections, requests under way are answered");
        drop(self.listener);
        if timeout(within, self.graceful.shutdown()).await.is_err() {
            tracing::warn!("some requests were not answered within the time to drain");
        }
    }

    /// Lets connections in for as long as it is waited for.
    async fn accept_connections(&self) -> Infallible {
        self.certificate.is_there().await;
        loop {
            let (stream, slot) = self.slots.accept(&self.listener).await;
            let Some(tls) = self.certificate.current() else {
                continue;
            };
            let (routes, watcher) = (self.routes.clone(), self.graceful.watcher());
            let metrics = Arc::clone(&self.metrics);
            let refusals = Arc::clone(&self.refusals);
            let stopped = self.stopped.clone();
            tokio::spawn(async move {
                let (peer, verifies_clients) = (slot.peer(), tls.verifies_clients);
                metrics.connections.inc();
                let served = connection::serve(stream, slot, tls, routes, (stopped, watcher)).await;
                metrics.connections.dec();
                if let Err(error) = served {
                    metrics.handshakes_failed.inc();
                    if verifies_clients && refusals.is_due() {
                        tracing::warn!(%peer, %error, "a client was refused in the handshake");
                    }
                }
            });
        }
    }
}

fn slots(
    port: &'static str,
    proven: usize,
    unproven: usize,
    metrics: &Metrics,
) -> Arc<ConnectionSlots> {
    let room = Room { unproven, proven };
    ConnectionSlots::new(
        port,
        room,
        &metrics.connections_closed,
        &metrics.connections_refused,
    )
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))
}
