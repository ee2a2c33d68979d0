//! What is watched in the cluster for the snapshot: our resources, and the namespaces.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use kube::api::ApiResource;
use promotion_gate_core::gate::Namespaces;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::resource::Resource;
use crate::api::{
    AuthorRecordResource, ChangeFreeze, GateConfigurationResource, Kind, PeopleDirectory,
    PromotionPolicy, RejectionResource, RevocationResource, TrustRootResource,
};
use crate::cluster::{Cluster, KnownNamespace, Lost, View, Watched};
use crate::metrics::Metrics;

/// The most resources of one kind.
const MAXIMUM_RESOURCES: usize = 20_000;
/// The most namespaces.
const MAXIMUM_NAMESPACES: usize = 50_000;
/// The longest wait for a namespace that is read while a request waits.
const PATIENCE: Duration = Duration::from_secs(2);
/// The namespace whose UID is that of the cluster.
const OF_THE_CLUSTER: &str = "kube-system";

/// The watches of a cluster.
pub struct Watches {
    cluster: Cluster,
    kinds: Vec<(Kind, ApiResource, Watched<Arc<Resource>>)>,
    namespaces: Watched<KnownNamespace>,
    changed: Arc<Notify>,
}

/// What the watches have read.
#[derive(Clone, Default)]
pub(super) struct Seen {
    /// Grows with each change of a resource.
    pub(super) resources_revision: u64,
    pub(super) resources: Vec<Arc<Resource>>,
    /// Grows with each change of a namespace.
    pub(super) namespaces_revision: u64,
    /// The labels of the namespaces; `None` until they are read.
    pub(super) namespaces: Option<Arc<BTreeMap<String, KnownNamespace>>>,
    /// Whether everything was read once.
    pub(super) is_complete: bool,
    /// Watches that are lost or were never read, one sentence each.
    pub(super) problems: Vec<String>,
}

impl Watches {
    /// Nothing is watched until [`Watches::keep_current`].
    pub fn new(cluster: Cluster) -> Watches {
        let changed = Arc::new(Notify::new());
        let kinds = Kind::ALL.into_iter().filter_map(|kind| {
            let watched = Watched::new(MAXIMUM_RESOURCES, Arc::clone(&changed));
            Some((kind, api_resource(kind)?, watched))
        });
        Watches {
            cluster,
            kinds: kinds.collect(),
            namespaces: Watched::new(MAXIMUM_NAMESPACES, Arc::clone(&changed)),
            changed,
        }
    }

    /// The cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Watches for ever.
    pub async fn keep_current(self: Arc<Self>) {
        let kinds = self.kinds.iter().map(|(kind, resource, watched)| {
            let keep = |object| Arc::new(Resource::of(*kind, object));
            self.cluster.watch(resource, watched, keep)
        });
        let namespaces = self.cluster.watch_namespaces(&self.namespaces);
        tokio::join!(join_all(kinds), namespaces);
    }

    /// Waits until something has changed.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Waits until everything was read once, or until the time is over.
    pub async fn first_read(&self, within: Duration) {
        let read = async {
            while !self.is_complete() {
                self.changed().await;
            }
        };
        // What is still missing is among the problems.
        let _ = timeout(within, read).await;
    }

    /// Reads a namespace that the watch does not know yet: its first workload may come before the watch says so.
    pub async fn learn_namespace(&self, name: &str, deadline: Instant) {
        if self.namespaces.view().objects.contains_key(name) {
            return;
        }
        let within = deadline.saturating_duration_since(Instant::now());
        let read = self.cluster.namespace_named(name);
        match timeout(within.min(PATIENCE), read).await {
            Ok(Ok(Some(known))) => self.namespaces.learn(name.to_owned(), known),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                let error = crate::cluster::cause(&error);
                tracing::warn!(
                    namespace = name,
                    error,
                    "the labels of a namespace cannot be read"
                );
            }
            Err(_) => tracing::warn!(
                namespace = name,
                "the labels of a namespace were not read in time"
            ),
        }
    }

    /// What was read.
    pub(super) fn seen(&self) -> Seen {
        let mut seen = Seen {
            is_complete: self.is_complete(),
            ..Seen::default()
        };
        for (kind, _, watched) in &self.kinds {
            let view = watched.view();
            seen.resources_revision += view.revision;
            seen.resources.extend(view.objects.values().cloned());
            seen.problems.extend(problem(kind.name(), &view));
        }
        let view = self.namespaces.view();
        seen.problems.extend(problem("Namespace", &view));
        seen.namespaces_revision = view.revision;
        seen.namespaces = view.is_read.then_some(view.objects);
        seen
    }

    /// Shows in the metrics how old what was read is.
    pub(super) fn show_ages(&self, metrics: &Metrics) {
        let age = |lost: Option<Lost>| lost.map_or(Duration::ZERO, |lost| lost.since.elapsed());
        for (kind, _, watched) in &self.kinds {
            metrics.show_watch_age(kind.name(), age(watched.view().lost));
        }
        metrics.show_watch_age("Namespace", age(self.namespaces.view().lost));
    }

    fn is_complete(&self) -> bool {
        let mut kinds = self.kinds.iter();
        kinds.all(|(_, _, watched)| watched.view().is_read) && self.namespaces.view().is_read
    }
}

impl Seen {
    /// The labels of the namespaces, if they were read.
    pub(super) fn labels(&self) -> Option<Namespaces> {
        let namespaces = self.namespaces.as_ref()?.iter();
        Some(
            namespaces
                .map(|(name, known)| (name.clone(), known.labels.clone()))
                .collect(),
        )
    }

    /// The UID of the cluster.
    pub(super) fn cluster_uid(&self) -> Option<&str> {
        let namespace = self.namespaces.as_ref()?.get(OF_THE_CLUSTER)?;
        Some(&namespace.uid)
    }
}

/// How the API server names a kind; `None` for kinds that are not resources.
pub(crate) fn api_resource(kind: Kind) -> Option<ApiResource> {
    match kind {
        Kind::PromotionPolicy => Some(ApiResource::erase::<PromotionPolicy>(&())),
        Kind::PeopleDirectory => Some(ApiResource::erase::<PeopleDirectory>(&())),
        Kind::ChangeFreeze => Some(ApiResource::erase::<ChangeFreeze>(&())),
        Kind::GateConfiguration => Some(ApiResource::erase::<GateConfigurationResource>(&())),
        Kind::TrustRoot => Some(ApiResource::erase::<TrustRootResource>(&())),
        Kind::Revocation => Some(ApiResource::erase::<RevocationResource>(&())),
        Kind::Rejection => Some(ApiResource::erase::<RejectionResource>(&())),
        Kind::AuthorRecord => Some(ApiResource::erase::<AuthorRecordResource>(&())),
        Kind::PolicyTest => None,
    }
}

fn problem<T>(kind: &str, view: &View<T>) -> Option<String> {
    let Some(Lost { since, why }) = &view.lost else {
        let unread = || format!("`{kind}` is not read from the cluster yet");
        return (!view.is_read).then(unread);
    };
    let seconds = since.elapsed().as_secs();
    Some(match view.is_read {
        true => format!(
            "the watch of `{kind}` was lost {seconds} s ago, and what was read before counts: {why}"
        ),
        false => format!("`{kind}` cannot be read from the cluster: {why}"),
    })
}
