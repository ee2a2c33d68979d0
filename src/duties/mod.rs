//! What one replica does for all of them while it holds the Lease: it writes the statuses of resources, reads the feeds of freezes and
//! the repositories of trust roots that are resources, renews certificates, and keeps the webhook configuration.
//!
//! * `lease` — which replica that is
//! * `debts` — records of emergency changes, and their reviews
//! * `collecting` — deleting what is kept about digests and what nothing needs
//! * `status` — what a status says
//! * `certificates` — the CA and the serving certificate of a gate that makes them itself
//! * `webhook` — the webhook configuration: it goes live, and is kept right

mod certificates;
mod collecting;
mod debts;
mod lease;
pub(crate) mod status;
mod webhook;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::Api;
use kube::api::{DynamicObject, PostParams};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::api::Kind;
use crate::cluster::{Cluster, cause};
use crate::feeds::written_feed;
use crate::metrics::Metrics;
use crate::record::ReleaseRecords;
use crate::snapshot::{Judged, ResourceName, Sources, Version, api_resource};

pub use certificates::{CertificateSecret, CertificateSettings, SelfManaged};
pub use debts::Debts;
pub use lease::Lease;
pub use webhook::ManagedWebhook;
pub(crate) use webhook::{BundleSource, WebhookKeeper};

/// The wait between two writes.
const BETWEEN_WRITES: Duration = Duration::from_millis(20);
/// The wait after a write that failed, before the same resource is tried again.
const AFTER_FAILURE: Duration = Duration::from_secs(10);
/// How long one write may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often statuses are compared, where nothing says that they changed.
const TICK: Duration = Duration::from_secs(10);

/// The duties of this process.
pub struct Duties {
    lease: Arc<Lease>,
    tasks: Vec<JoinHandle<()>>,
}

impl Duties {
    /// Does the duties in the background while this replica holds the Lease, which it tries to take from now on.
    pub fn start(
        lease: Arc<Lease>,
        cluster: Cluster,
        sources: Arc<Sources>,
        metrics: Arc<Metrics>,
    ) -> Duties {
        let kept = Arc::clone(&lease);
        let keeps = tokio::spawn(async move { kept.keep().await });
        let under = Arc::clone(&lease);
        let does = tokio::spawn(async move {
            loop {
                under.held().await;
                do_duties(&under, &cluster, &sources, &metrics).await;
            }
        });
        Duties {
            lease,
            tasks: vec![keeps, does],
        }
    }

    /// Also collects what is kept about digests that no record names, while this replica holds the Lease.
    pub fn collect_kept(
        &mut self,
        cluster: Cluster,
        sources: Arc<Sources>,
        records: Arc<ReleaseRecords>,
    ) {
        let lease = self.lease();
        let collects = tokio::spawn(async move {
            loop {
                lease.held().await;
                tokio::select! {
                    () = lease.lost() => {}
                    never = collecting::collect(&cluster, &sources, &records) => match never {},
                }
            }
        });
        self.tasks.push(collects);
    }

    /// The Lease under which they are done.
    pub fn lease(&self) -> Arc<Lease> {
        Arc::clone(&self.lease)
    }

    /// Ends them, and lets another replica go on at once.
    pub async fn stop(self) {
        for task in self.tasks {
            task.abort();
            // What matters is that it has ended.
            let _ = task.await;
        }
        self.lease.release().await;
    }
}

/// Does the duties until the Lease is lost.
async fn do_duties(lease: &Lease, cluster: &Cluster, sources: &Sources, metrics: &Arc<Metrics>) {
    tracing::info!(
        "this replica holds the Lease: it writes statuses, and reads feeds and trust roots"
    );
    metrics.holds_lease.set(1);
    let feeds = sources.cluster_feeds().keep_current(Arc::clone(metrics));
    let roots = sources.cluster_roots().keep_current();
    tokio::select! {
        () = lease.lost() => {}
        never = write_statuses(cluster, sources) => match never {},
        never = feeds => match never {},
        never = roots => match never {},
    }
    metrics.holds_lease.set(0);
    tracing::info!("this replica does not hold the Lease any more");
}

/// Writes the status of each resource whose status is not what it should be.
async fn write_statuses(cluster: &Cluster, sources: &Sources) -> Infallible {
    let mut changes = sources.judged();
    let mut feeds = sources.cluster_feeds().changes();
    let mut roots = sources.cluster_roots().changes();
    // The version from which a status was written, and when that failed: what was written is seen a little later.
    let mut tried: BTreeMap<ResourceName, (String, Option<Instant>)> = BTreeMap::new();
    loop {
        let judged = Arc::clone(&changes.borrow_and_update());
        feeds.mark_unchanged();
        roots.mark_unchanged();
        let states = sources.cluster_feeds().states();
        tried.retain(|name, _| judged.iter().any(|one| one.resource.name == *name));
        for one in judged.iter() {
            let name = &one.resource.name;
            // There may be very many of them, and the gate writes them itself.
            if name.kind.collected_prefix().is_some() && one.version == Version::Current {
                continue;
            }
            if let Some((version, failed)) = tried.get(name) {
                let is_recent = failed.is_none_or(|at| at.elapsed() < AFTER_FAILURE);
                if *version == one.resource.version && is_recent {
                    continue;
                }
            }
            let feed = one.freeze.as_ref().zip(states.get(&name.name));
            let feed =
                feed.and_then(|(freeze, state)| written_feed(freeze, state, &one.resource.status));
            let is_root = name.kind == Kind::TrustRoot;
            let root = is_root.then(|| sources.cluster_roots().status(&name.name));
            let status = status::status(one, feed, root, Timestamp::now());
            if status == one.resource.status {
                continue;
            }
            let failed = write_status(cluster, one, status).await.err();
            if let Some(error) = &failed {
                let (kind, name) = (name.kind.name(), &name.name);
                tracing::warn!(
                    kind,
                    name,
                    error,
                    "the status of a resource cannot be written"
                );
            }
            let failed = failed.map(|_| Instant::now());
            tried.insert(name.clone(), (one.resource.version.clone(), failed));
            sleep(BETWEEN_WRITES).await;
        }
        tokio::select! {
            _ = changes.changed() => {}
            _ = feeds.changed() => {}
            _ = roots.changed() => {}
            () = sleep(TICK) => {}
        }
    }
}

/// Writes a status, if the resource is still as it was seen.
async fn write_status(
    cluster: &Cluster,
    judged: &Judged,
    status: serde_json::Value,
) -> Result<(), String> {
    let resource = &judged.resource;
    let Some(definition) = api_resource(resource.name.kind) else {
        return Err("the kind has no status".to_owned());
    };
    let api: Api<DynamicObject> = Api::all_with(cluster.client(), &definition);
    let mut object = DynamicObject::new(&resource.name.name, &definition);
    object.metadata.uid = Some(resource.uid.clone());
    object.metadata.resource_version = Some(resource.version.clone());
    object.data = json!({"spec": resource.spec, "status": status});
    let parameters = PostParams::default();
    let write = api.replace_status(&resource.name.name, &parameters, &object);
    match timeout(PATIENCE, write).await {
        Ok(Ok(_)) => Ok(()),
        // It has changed meanwhile, and is judged again.
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(()),
        Ok(Err(error)) => Err(cause(&error)),
        Err(_) => Err("no answer in time".to_owned()),
    }
}
