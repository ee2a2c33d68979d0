//! What is watched in the cluster for the snapshot: our resources, and the namespaces.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use kube::api::ApiResource;
use promotion_gate_core::gate::Namespaces;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout};

use super::resource::Resource;
use crate::api::{
    AuthorRecordResource, ChangeFreeze, EmergencyChangeRecordResource, GateConfigurationResource,
    IncidentCheckResource, Kind, PeopleDirectory, PromotionPolicy, RejectionResource,
    RevocationResource, TrustRootResource, VexRecordResource,
};
use crate::cluster::{Cluster, FirstLists, KnownNamespace, Lost, View, Watched, cause};
use crate::metrics::Metrics;

/// The most resources of one kind.
const MAXIMUM_RESOURCES: usize = 20_000;
/// From how many resources of a kind on operators are warned.
const MANY_RESOURCES: usize = MAXIMUM_RESOURCES / 10 * 8;
/// The most namespaces.
const MAXIMUM_NAMESPACES: usize = 50_000;
/// The most namespaces that are read at a time while requests wait.
const MAXIMUM_READS: usize = 16;
/// The longest wait for a namespace that is read while a request waits.
const PATIENCE: Duration = Duration::from_secs(2);
/// The namespace whose UID is that of the cluster.
const OF_THE_CLUSTER: &str = "kube-system";

/// The watches of a cluster.
pub struct Watches {
    cluster: Cluster,
    kinds: Vec<(Kind, ApiResource, Watched<Arc<Resource>>)>,
    namespaces: Watched<KnownNamespace>,
    first: FirstLists,
    changed: Arc<Notify>,
    /// Room for namespaces that are read while requests wait.
    reads: Semaphore,
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
    /// Watches that are lost or were never read, or that leave something out, one sentence each.
    pub(super) problems: Vec<String>,
    /// What was left out because there is too much of it.
    pub(super) left_out: LeftOut,
    /// Why the records of emergency changes were never read, if that is so.
    pub(super) unread_emergencies: Option<String>,
    /// Kinds with nearly as many resources as are read.
    pub(super) many: BTreeSet<&'static str>,
}

/// What was left out because there is too much of it, as a sentence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// Rejections and authors: without all of them, approvals are undecided.
    pub(super) kept: Option<String>,
    /// What OpenVEX documents take back: without all of it, what they clear is undecided.
    pub(super) vex: Option<String>,
    /// Records of emergency changes: without all of them, it is not known which reviews are overdue.
    pub(super) emergencies: Option<String>,
    /// Anything else, which could govern everything.
    pub(super) other: Option<String>,
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
            first: FirstLists::default(),
            changed,
            reads: Semaphore::new(MAXIMUM_READS),
        }
    }

    /// The cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Watches for ever.
    pub async fn keep_current(self: Arc<Self>) {
        let first = &self.first;
        let kinds = self.kinds.iter().map(|(kind, resource, watched)| {
            let keep = |object| Arc::new(Resource::of(*kind, object));
            self.cluster.watch(resource, watched, first, keep)
        });
        let namespaces = self.cluster.watch_namespaces(&self.namespaces, first);
        tokio::join!(join_all(kinds), namespaces);
    }

    /// The resources of a kind as they were read last; `None` before they were read once.
    pub(super) fn resources(&self, kind: Kind) -> Option<Vec<Arc<Resource>>> {
        let mut kinds = self.kinds.iter();
        let (_, _, watched) = kinds.find(|(own, ..)| *own == kind)?;
        let view = watched.view();
        view.is_read
            .then(|| view.objects.values().cloned().collect())
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

    /// What was read first is taken over: the watches go on.
    pub fn go_on(&self) {
        self.first.are_read();
    }

    /// Reads a namespace that the watch does not know yet: its first workload may come before the watch says so.
    pub async fn learn_namespace(&self, name: &str, deadline: Instant) -> Option<KnownNamespace> {
        if let Some(known) = self.namespaces.view().objects.get(name) {
            return Some(known.clone());
        }
        let within = deadline.saturating_duration_since(Instant::now());
        let read = async {
            let _place = self.reads.acquire().await;
            self.cluster.namespace_named(name).await
        };
        let problem = match timeout(within.min(PATIENCE), read).await {
            Ok(Ok(known)) => {
                if let Some(known) = known.clone() {
                    self.namespaces.learn(name.to_owned(), known);
                }
                return known;
            }
            Ok(Err(error)) => cause(&error),
            Err(_) => "no answer in time".to_owned(),
        };
        tracing::warn!(
            namespace = name,
            problem,
            "the labels of a namespace cannot be read"
        );
        None
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
            if *kind == Kind::EmergencyChangeRecord && !view.is_read {
                seen.unread_emergencies = problem(kind.name(), &view);
            }
            if view.objects.len() >= MANY_RESOURCES {
                seen.many.insert(kind.name());
            }
            if view.is_partial {
                let (kind, most) = (*kind, watched.most());
                let name = kind.name();
                let why = format!(
                    "there are more than {most} resources of the kind `{name}`, and only {most} are read; delete some"
                );
                seen.problems.push(why.clone());
                match kind {
                    Kind::Rejection | Kind::AuthorRecord => seen.left_out.kept = Some(why),
                    Kind::VexRecord => seen.left_out.vex = Some(why),
                    Kind::EmergencyChangeRecord => seen.left_out.emergencies = Some(why),
                    _ => seen.left_out.other = Some(why),
                }
            }
        }
        let view = self.namespaces.view();
        seen.problems.extend(problem("Namespace", &view));
        seen.namespaces_revision = view.revision;
        seen.namespaces = view.is_read.then_some(view.objects);
        seen
    }

    /// Shows in the metrics how much was read, and how old it is.
    pub(super) fn show_ages(&self, metrics: &Metrics) {
        let age = |lost: Option<Lost>| lost.map_or(Duration::ZERO, |lost| lost.since.elapsed());
        for (kind, _, watched) in &self.kinds {
            let view = watched.view();
            metrics.show_resources(kind.name(), view.objects.len());
            metrics.show_watch_age(kind.name(), age(view.lost));
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
        Kind::IncidentCheck => Some(ApiResource::erase::<IncidentCheckResource>(&())),
        Kind::GateConfiguration => Some(ApiResource::erase::<GateConfigurationResource>(&())),
        Kind::TrustRoot => Some(ApiResource::erase::<TrustRootResource>(&())),
        Kind::Revocation => Some(ApiResource::erase::<RevocationResource>(&())),
        Kind::Rejection => Some(ApiResource::erase::<RejectionResource>(&())),
        Kind::AuthorRecord => Some(ApiResource::erase::<AuthorRecordResource>(&())),
        Kind::VexRecord => Some(ApiResource::erase::<VexRecordResource>(&())),
        Kind::EmergencyChangeRecord => {
            Some(ApiResource::erase::<EmergencyChangeRecordResource>(&()))
        }
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
