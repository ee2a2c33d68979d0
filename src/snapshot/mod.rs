//! The sources of the snapshot: its parts, each with its last valid state and its problems. Parts are the configuration with its trust
//! roots, the documents (files, and resources of a cluster), the cluster's namespaces, and the feeds of freezes.
//!
//! Files are polled; a cluster is watched. A new and valid state is taken over; an invalid one is reported, and the last valid state
//! stays in force. All changes are taken over as one snapshot.
//!
//! * `parts` — all of them; `part` — one that is read from files
//! * `poll` — what is new in each source; `take_over` — all that is new and valid as one snapshot
//! * `documents` — which version of each document counts
//! * `resource` — a resource of the cluster as a document
//! * `roots` — the trust roots in TUF repositories
//! * `owed` — the reviews of emergency changes that are owed
//! * `once` — the same for a command, which reads its sources once
//! * `watches` — what is watched in the cluster
//! * `report` — messages to operators

mod documents;
mod once;
mod owed;
mod part;
mod parts;
mod poll;
mod report;
mod resource;
mod roots;
mod take_over;
#[cfg(test)]
mod tests;
mod unreadable;
mod watches;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use promotion_gate_core::gate::{Freeze, Snapshot};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::api::Kind;
use crate::collect::Collector;
use crate::config::Config;
use crate::feeds::{ClockReading, Feeds};
use crate::incidents::IncidentChecks;
use crate::metrics::Metrics;
use crate::tuf::TufRoots;
use documents::Documents;
use parts::Parts;
use roots::RepositoryRoots;

pub use documents::Version;
pub use once::Once;
pub(crate) use owed::read as read_emergency_record;
pub use poll::keep_current;
pub(crate) use report::debts_without_cluster;
pub use resource::{Resource, ResourceName};
pub use watches::Watches;
pub(crate) use watches::api_resource;

/// The files that the snapshot is made from.
pub struct SnapshotFiles {
    /// Files and folders with policies.
    pub policies: Vec<PathBuf>,
    /// The configuration as read at the start. It names its own file and the files that it refers to.
    pub config: Config,
}

/// The parts of the snapshot, and the snapshot that they make.
pub struct Sources {
    paths: Vec<PathBuf>,
    config: ArcSwap<Config>,
    collector: Arc<Collector>,
    current: ArcSwap<Snapshot>,
    /// Locked while the sources are read.
    parts: Mutex<Parts>,
    /// The documents in force, for those who cannot wait for that.
    documents: ArcSwap<Documents>,
    /// The feeds of freezes in files, which each process reads for itself.
    feeds: Arc<Feeds>,
    /// The feeds of freezes that are resources, which one replica reads for all.
    cluster_feeds: Arc<Feeds>,
    roots: RepositoryRoots,
    incidents: Arc<IncidentChecks>,
    watches: Option<Arc<Watches>>,
    judged: watch::Sender<Arc<Vec<Judged>>>,
    readiness: ArcSwap<Readiness>,
}

/// A resource, and what came of it.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The resource as it was seen last.
    pub resource: Arc<Resource>,
    /// Which version of it counts.
    pub version: Version,
    /// Why its current version does not.
    pub why: Vec<String>,
    /// The freeze that it describes, if it is one that counts.
    pub freeze: Option<Freeze>,
    /// The `spec` that counts instead of the current one, if there is one.
    pub last_valid: Option<Value>,
}

/// Whether reviews can be answered, and the problems of the parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Whether every part was read, and valid, at least once.
    pub ready: bool,
    /// Problems of the current states of the sources, one sentence each.
    pub problems: Vec<String>,
    /// The parts whose last valid state is in force instead, and since when.
    pub kept: Vec<String>,
    /// Why it is not known who governs, if it is not.
    pub governors_unknown: Option<String>,
}

impl Sources {
    /// Reads the files for the first time. [`Sources::readiness`] reports invalid ones.
    pub fn load(
        files: SnapshotFiles,
        watches: Option<Arc<Watches>>,
        collector: Arc<Collector>,
        metrics: &Metrics,
    ) -> Arc<Sources> {
        let parts = Parts {
            configured: files.config.snapshot(),
            configured_by: files.config.revision(),
            ..Parts::default()
        };
        let options = files.config.client_options();
        let cluster = watches.as_deref().map(Watches::cluster).cloned();
        let incidents = IncidentChecks::new(&options, cluster, metrics.incident_questions.clone());
        let sources = Arc::new(Sources {
            incidents: Arc::new(incidents),
            current: ArcSwap::from_pointee(files.config.snapshot()),
            feeds: Arc::new(Feeds::new(&options)),
            cluster_feeds: Arc::new(Feeds::new(&options)),
            roots: RepositoryRoots::new(&options),
            judged: watch::Sender::new(Arc::default()),
            paths: files.policies,
            config: ArcSwap::from_pointee(files.config),
            collector,
            parts: Mutex::new(parts),
            documents: ArcSwap::default(),
            watches,
            readiness: ArcSwap::default(),
        });
        sources.poll(metrics, Timestamp::now());
        sources
    }

    /// The snapshot for a review. It does not change during the review.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// The snapshot for a review of a workload in a namespace: this one, and the labels of the namespace if they matter and are not
    /// known yet. They are read then.
    pub async fn knowing(
        &self,
        snapshot: Arc<Snapshot>,
        namespace: Option<&str>,
        deadline: Instant,
    ) -> Arc<Snapshot> {
        let (Some(watches), Some(name)) = (&self.watches, namespace) else {
            return snapshot;
        };
        let of_policies = snapshot.policies.iter().map(|policy| &policy.namespaces);
        let of_others = snapshot.unreadable.iter().map(|other| &other.namespaces);
        let mut matches = of_policies.chain(of_others);
        if snapshot.world.namespaces.get(name).is_some()
            || !matches.any(|matched| matched.selector.is_some())
        {
            return snapshot;
        }
        match watches.learn_namespace(name, deadline).await {
            None => snapshot,
            Some(known) => {
                let mut snapshot = Snapshot::clone(&snapshot);
                let namespaces = &mut snapshot.world.namespaces;
                namespaces.insert(name.to_owned(), known.labels);
                Arc::new(snapshot)
            }
        }
    }

    /// The feeds of change freezes, which have to be kept current.
    pub fn feeds(&self) -> Arc<Feeds> {
        Arc::clone(&self.feeds)
    }

    /// The feeds of change freezes that are resources: one replica has to keep them current.
    pub fn cluster_feeds(&self) -> Arc<Feeds> {
        Arc::clone(&self.cluster_feeds)
    }

    /// The incident checks, which are asked while a request waits.
    pub fn incidents(&self) -> Arc<IncidentChecks> {
        Arc::clone(&self.incidents)
    }

    /// The trust roots in TUF repositories, which have to be kept current.
    pub fn roots(&self) -> Arc<TufRoots> {
        Arc::clone(&self.roots.of_files)
    }

    /// The trust roots in TUF repositories that are resources: one replica has to keep them current.
    pub fn cluster_roots(&self) -> Arc<TufRoots> {
        Arc::clone(&self.roots.of_cluster)
    }

    /// What came of each resource.
    pub fn judged(&self) -> watch::Receiver<Arc<Vec<Judged>>> {
        self.judged.subscribe()
    }

    /// The resources of a kind as they were read last; `None` without a cluster, and before they were read once.
    pub fn resources(&self, kind: Kind) -> Option<Vec<Arc<Resource>>> {
        self.watches.as_ref()?.resources(kind)
    }

    /// Asks the feeds and the repositories of trust roots in files for the first time, and waits a while for their answers: a freeze
    /// whose feed was never read counts as lasting, and under a root that was never read nothing is accepted.
    pub async fn ask_feeds(&self, metrics: &Metrics, within: Duration) {
        let start = ClockReading {
            at: Timestamp::now(),
            uptime: Duration::ZERO,
        };
        let (feeds, roots) = (&self.feeds, &self.roots.of_files);
        let ask = async { tokio::join!(feeds.ask_due(start, metrics), roots.ask_due(start)) };
        let _ = timeout(within, ask).await;
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        self.refresh_roots(&mut parts);
        self.refresh_schedule(&mut parts, metrics, Timestamp::now());
    }

    /// The result of the last poll.
    pub fn readiness(&self) -> Arc<Readiness> {
        self.readiness.load_full()
    }

    /// What would be wrong if a resource became this object, alone and together with the other documents in force.
    pub fn problems_with(&self, kind: Kind, name: &str, object: &Value) -> Vec<String> {
        let name = ResourceName {
            kind,
            name: name.to_owned(),
        };
        match kind.stands_alone() {
            true => Vec::new(),
            false => {
                let config = self.config.load_full();
                self.documents.load().problems_with(&name, object, &config)
            }
        }
    }

    /// What the other documents in force would lack without a resource.
    pub fn lacking_without(&self, kind: Kind, name: &str) -> Vec<String> {
        if kind.stands_alone() {
            return Vec::new();
        }
        let name = ResourceName {
            kind,
            name: name.to_owned(),
        };
        let config = self.config.load_full();
        self.documents.load().lacking_without(&name, &config)
    }
}
