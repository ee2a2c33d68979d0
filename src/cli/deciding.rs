//! What commands need that judge images for an environment, once or again and again: policies, people, a cluster, registries.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use jiff::Timestamp;
use promotion_gate_core::gate::{Actor, Collected, DnsLabel, Snapshot, TrustRoots};

use super::check::labels_of;
use super::cluster::{FromCluster, Live};
use super::world;
use crate::api::Kind;
use crate::cluster::Cluster;
use crate::collect::Collector;
use crate::config::Config;
use crate::incidents::{IncidentChecks, Incidents};
use crate::oci::{EvidenceRepository, WithEvidence};
use crate::snapshot::Once;

/// How long the feeds of freezes, and repositories of trust roots, may take.
const FEEDS: Duration = Duration::from_secs(30);
/// How old the trust roots of repositories may be, in a command that reads again and again.
const ROOTS: Duration = Duration::from_secs(60);

// Where policies, people and evidence come from.
#[derive(Debug, clap::Args)]
pub(super) struct Deciding {
    /// Policies: files or folders; may be given several times
    #[arg(
        long = "policy",
        value_name = "PATH",
        required_unless_present = "from_cluster"
    )]
    policies: Vec<PathBuf>,
    /// People directories: files or folders, if they are not beside the policies; may be given several times
    #[arg(long = "people", value_name = "PATH")]
    people: Vec<PathBuf>,
    #[command(flatten)]
    from_cluster: FromCluster,
    /// A second repository that holds evidence, as `host/path`; that of the configuration when absent
    #[arg(long, value_name = "REPOSITORY")]
    repository: Option<EvidenceRepository>,
    /// The configuration: trust roots, registries, credentials, namespaces
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Labels of the namespace, for policies that select by label; give all of them
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',')]
    namespace_labels: Vec<String>,
    /// The name of the cluster; that of the configuration when absent
    #[arg(long, value_name = "NAME")]
    cluster: Option<DnsLabel>,
    /// The user who will deploy, for policies that count the deployer as an author
    #[arg(long = "as", value_name = "USER")]
    user: Option<String>,
}

/// The opened sources of a command.
pub(super) struct Sources {
    given: Deciding,
    config: Config,
    pub(super) collector: Arc<Collector>,
    actor: Option<Actor>,
    pub(super) cluster: Option<Cluster>,
    /// What was read of the cluster when it was opened, until it is used.
    live: Option<Live>,
    has_warned: bool,
    /// The trust roots of repositories, and when they were read.
    roots: Option<(Instant, TrustRoots)>,
    /// What was warned of about trust roots.
    told: BTreeSet<String>,
    /// Asks the incident trackers of the documents that were read last.
    incidents: Option<Arc<IncidentChecks>>,
}

impl Deciding {
    pub(super) async fn open(self) -> anyhow::Result<Sources> {
        let config = Config::load(self.config.as_deref())?;
        let registry = world::registry(&config)?;
        let collector = world::collector_of(match self.repository.clone() {
            Some(repository) => Arc::new(WithEvidence::in_repository(registry, repository)),
            None => registry,
        });
        let live = self.from_cluster.read(&Kind::ALL).await?;
        let actor = self.user.clone().map(|username| Actor {
            username,
            groups: Vec::new(),
        });
        Ok(Sources {
            actor,
            given: self,
            config,
            collector,
            cluster: live.as_ref().map(|live| live.cluster.clone()),
            live,
            has_warned: false,
            roots: None,
            told: BTreeSet::new(),
            incidents: None,
        })
    }
}

impl Sources {
    /// Who will deploy, if that is given.
    pub(super) fn actor(&self) -> Option<&Actor> {
        self.actor.as_ref()
    }

    /// What can be asked about incidents, after a snapshot was read.
    pub(super) fn incidents(&self) -> Option<Arc<dyn Incidents>> {
        let incidents = self.incidents.clone();
        incidents.map(|incidents| incidents as Arc<dyn Incidents>)
    }

    /// The policies and the state of the cluster as they are now. `namespaces` are those of the objects, `namespace` is the one of
    /// which labels were given.
    pub(super) async fn snapshot(
        &mut self,
        namespaces: &BTreeSet<String>,
        namespace: Option<&str>,
        at: Timestamp,
    ) -> anyhow::Result<Snapshot> {
        let live = match (self.live.take(), &self.cluster) {
            (Some(live), _) => Some(live),
            (None, Some(cluster)) => Some(Live::read(cluster.clone(), &Kind::ALL).await?),
            (None, None) => None,
        };
        let paths = [&self.given.policies[..], &self.given.people[..]].concat();
        let documents = match self.has_warned {
            false => world::documents(&paths, live.as_ref(), &self.config)?,
            true => world::documents_again(&paths, live.as_ref(), &self.config)?,
        };
        self.has_warned = true;
        let asking = documents.set().policies.iter();
        let environments =
            asking.filter_map(|policy| policy.frozen_environment().map(str::to_owned));
        let environments = environments.collect();
        let (mut feeds, freezes) = documents.feeds();
        feeds.extend(world::feeds(&freezes, &environments, &self.config, None, FEEDS).await);
        let roots = self.repository_roots(&documents).await;
        let incidents = documents.incidents(&self.config, self.cluster.as_ref());
        self.incidents = Some(Arc::new(incidents));
        let mut snapshot = documents.snapshot(self.config.snapshot(), &feeds, at);
        snapshot.world.trust_roots.extend(roots);
        if let Some(cluster) = &self.given.cluster {
            snapshot.world.cluster = Collected::Known(cluster.clone().into_string());
        }
        if !self.given.namespace_labels.is_empty() {
            let Some(namespace) = namespace else {
                bail!("`--namespace-labels` belongs to `--namespace`, which is missing");
            };
            let known = &mut snapshot.world.namespaces;
            let mut labels = known.get(namespace).cloned().unwrap_or_default();
            labels.extend(labels_of(&self.given.namespace_labels)?);
            known.insert(namespace.to_owned(), labels);
        }
        if let Some(live) = &live {
            let named = namespaces.iter().map(String::as_str);
            live.complete(&mut snapshot, named).await?;
        }
        Ok(snapshot)
    }

    /// The trust roots in repositories. Each warning is printed once.
    async fn repository_roots(&mut self, documents: &Once) -> TrustRoots {
        if let Some((at, roots)) = &self.roots
            && at.elapsed() < ROOTS
        {
            return roots.clone();
        }
        let read = world::repository_roots_again(documents, &self.config, FEEDS);
        let (roots, problems) = read.await;
        for problem in problems {
            if self.told.insert(problem.clone()) {
                print_error!("warning: {problem}");
            }
        }
        self.roots = Some((Instant::now(), roots.clone()));
        roots
    }
}
