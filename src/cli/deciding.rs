//! What commands need that judge images for an environment, once or again and again: policies, people, a cluster, registries.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use promotion_gate_core::gate::{
    Actor, Change, Collected, DnsLabel, ImageReference, Repository, Snapshot, TrustRoots, Workload,
};
use serde_json::{Value, json};

use super::changes::changes;
use super::cluster::{FromCluster, Live};
use super::world::{self, Input, NO_OBJECTS};
use crate::admission::{self, Manifests, Understood};
use crate::api::Kind;
use crate::cluster::Cluster;
use crate::collect::Collector;
use crate::config::Config;
use crate::incidents::{IncidentChecks, Incidents};
use crate::oci::{Client, EvidenceRepository, Registry, WithEvidence};
use crate::record::RecordsOnce;
use crate::review::RecordSource;
use crate::snapshot::Once;

/// How long the feeds of freezes, and repositories of trust roots, may take.
pub(super) const FEEDS: Duration = Duration::from_secs(30);
/// How old the trust roots of repositories may be, in a command that reads again and again.
const ROOTS: Duration = Duration::from_secs(60);

// Where policies, people and evidence come from, and for which place is judged.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Deciding {
    /// Policies: files or folders; may be given several times
    #[arg(long = "policy", value_name = "PATH")]
    policies: Vec<PathBuf>,
    /// People directories that are not beside the policies: files or folders; may be given several times
    #[arg(long, value_name = "PATH")]
    people: Vec<PathBuf>,
    #[command(flatten)]
    from_cluster: FromCluster,
    /// The configuration: trust roots, registries, credentials, namespaces
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The repository for evidence, as `host/path`, besides the image's own; `evidenceRepository` of the configuration when absent
    ///
    /// It is read besides the image's own, and `approve` attaches there. `{repository}` in the path stands for the path of the
    /// image's repository.
    #[arg(long, value_name = "REPOSITORY")]
    pub(super) repository: Option<EvidenceRepository>,
    /// The namespace of objects that do not name one, and of images
    #[arg(long, value_name = "NS")]
    pub(super) namespace: Option<String>,
    /// Labels of that namespace, for policies that select by label; give all of them, since a label that is not given counts as
    /// absent
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',')]
    namespace_labels: Vec<String>,
    /// The name of the cluster; that of the configuration when absent
    #[arg(long, value_name = "NAME")]
    cluster: Option<DnsLabel>,
    /// The user who deploys
    #[arg(long = "as", value_name = "USER")]
    user: Option<String>,
    /// A group of that user; may be given several times
    #[arg(long = "as-group", value_name = "GROUP", requires = "user")]
    groups: Vec<String>,
}

// Which release records of the cluster count.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Recorded {
    /// With images: the workload in `--namespace` that they are for, such as `Deployment/web`; what the cluster has recorded of it
    /// counts then
    #[arg(long, value_name = "KIND/NAME", requires = "from_cluster")]
    workload: Option<String>,
    /// The namespace of the gate, which holds the records of cluster-scoped objects
    #[arg(long, value_name = "NAME", default_value = "promotion-gate")]
    gate_namespace: String,
}

/// The opened sources of a command.
pub(super) struct Sources {
    given: Deciding,
    pub(super) config: Config,
    pub(super) client: Arc<Client>,
    pub(super) collector: Arc<Collector>,
    actor: Option<Actor>,
    pub(super) cluster: Option<Cluster>,
    /// The incident checks among the documents, once they were read.
    incidents: Option<Arc<IncidentChecks>>,
    has_warned: bool,
    /// The trust roots of repositories, and when they were read.
    roots: Option<(Instant, TrustRoots)>,
    /// What was warned of about trust roots.
    told: BTreeSet<String>,
}

/// For what policies and the state of the cluster are read.
pub(super) struct Purpose<'a> {
    /// The namespaces of the objects.
    pub(super) namespaces: &'a BTreeSet<String>,
    /// The labels of the Namespace objects among the manifests.
    pub(super) labels: &'a BTreeMap<String, BTreeMap<String, String>>,
    pub(super) at: Timestamp,
    /// The instant that endpoints of freezes are asked about; now when absent.
    pub(super) asked_at: Option<Timestamp>,
    /// The only environment of which freezes are asked for.
    pub(super) environment: Option<&'a str>,
    /// How long feeds and repositories of trust roots may take.
    pub(super) within: Duration,
}

impl Deciding {
    /// Opens the sources. What the cluster holds is read later.
    ///
    /// # Errors
    /// Among others if neither policies nor a cluster are given.
    pub(super) async fn open(self) -> anyhow::Result<Sources> {
        if !self.names_policies() {
            bail!("nothing says what is judged: give `--policy PATH` or `--from-cluster`");
        }
        self.open_without_policies().await
    }

    /// The same, also if nothing can be judged.
    pub(super) async fn open_without_policies(self) -> anyhow::Result<Sources> {
        if !self.names_policies() && !self.people.is_empty() {
            bail!("`--people` has no effect without policies: give `--policy` or `--from-cluster`");
        }
        let config = Config::load(self.config.as_deref())?;
        let client = Client::new(config.client_options());
        let client = Arc::new(client.context("the registry client does not start")?);
        let registry: Arc<dyn Registry> = Arc::<Client>::clone(&client);
        let collector = world::collector_of(match self.repository.clone() {
            Some(repository) => Arc::new(WithEvidence::in_repository(registry, repository)),
            None => registry,
        });
        let cluster = self.from_cluster.connect().await?;
        let actor = self.user.clone().map(|username| Actor {
            username,
            groups: self.groups.clone(),
        });
        Ok(Sources {
            actor,
            given: self,
            config,
            client,
            collector,
            cluster,
            incidents: None,
            has_warned: false,
            roots: None,
            told: BTreeSet::new(),
        })
    }

    /// The same, for a namespace that is known if none was given.
    pub(super) fn or_in(mut self, namespace: &str) -> Deciding {
        self.namespace.get_or_insert_with(|| namespace.to_owned());
        self
    }

    fn names_policies(&self) -> bool {
        !self.policies.is_empty() || self.from_cluster.from_cluster
    }

    /// The arguments with which another command judges by the same.
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        let mut add = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        for path in &self.policies {
            add("--policy", path.display().to_string());
        }
        for path in &self.people {
            add("--people", path.display().to_string());
        }
        if let Some(file) = &self.config {
            add("--config", file.display().to_string());
        }
        if !self.namespace_labels.is_empty() {
            add("--namespace-labels", self.namespace_labels.join(","));
        }
        if let Some(cluster) = &self.cluster {
            add("--cluster", cluster.clone().into_string());
        }
        [self.from_cluster.arguments(), arguments].concat()
    }
}

impl Recorded {
    /// Whether a workload is named.
    pub(super) fn names_workload(&self) -> bool {
        self.workload.is_some()
    }

    /// The workload that images are for, if one is named.
    pub(super) fn workload(&self, sources: &Sources) -> anyhow::Result<Option<Workload>> {
        let Some(written) = &self.workload else {
            return Ok(None);
        };
        let named = written.split_once('/').and_then(|(kind, name)| {
            let kinds = admission::running_kinds();
            let (group, kind) = kinds.into_iter().find(|(_, known)| *known == kind)?;
            Some((group, kind, name))
        });
        let Some((group, kind, name)) = named.filter(|(.., name)| !name.is_empty()) else {
            bail!("`--workload {written}`: expected a kind and a name, such as `Deployment/web`");
        };
        let namespace = sources.place();
        let namespace =
            namespace.context("`--workload` belongs to `--namespace`, which is missing")?;
        Ok(Some(Workload {
            group: group.to_owned(),
            version: String::new(),
            kind: kind.to_owned(),
            namespace: Some(namespace.to_owned()),
            name: name.to_owned(),
        }))
    }

    /// The records of the cluster; `None` without one.
    pub(super) async fn read(
        &self,
        sources: &Sources,
        namespaces: &BTreeSet<String>,
    ) -> anyhow::Result<Option<Arc<RecordsOnce>>> {
        let Some(cluster) = &sources.cluster else {
            return Ok(None);
        };
        let read = RecordsOnce::read(cluster, &self.gate_namespace, namespaces).await?;
        Ok(Some(Arc::new(read)))
    }
}

/// Records as a review takes them.
pub(super) fn as_source(records: Option<&Arc<RecordsOnce>>) -> Option<RecordSource> {
    records.map(|records| RecordSource::Read(Arc::clone(records)))
}

impl Sources {
    /// Whether something says what is judged.
    pub(super) fn has_policies(&self) -> bool {
        self.given.names_policies()
    }

    /// The namespace of objects that do not name one.
    pub(super) fn namespace(&self) -> &str {
        self.given.namespace.as_deref().unwrap_or("default")
    }

    /// The namespace that was given.
    pub(super) fn place(&self) -> Option<&str> {
        self.given.namespace.as_deref()
    }

    /// The changes that manifests ask for.
    ///
    /// # Errors
    /// If they cannot be used, or hold nothing.
    pub(super) async fn changes(&self, input: &Input) -> anyhow::Result<Vec<Change>> {
        let unusable = input.unusable();
        let problems: Vec<_> = input.problems().iter().chain(&unusable).cloned().collect();
        if !problems.is_empty() {
            bail!("the manifests cannot be used:\n{}", world::lines(&problems));
        }
        if input.objects().is_empty() {
            bail!("{NO_OBJECTS}");
        }
        let referred = self.referred(input).await;
        let (asked, _) = changes(input, &referred, self.namespace(), self.actor());
        Ok(asked.into_iter().map(|asked| asked.change).collect())
    }

    /// What manifests refer to and the cluster holds.
    pub(super) async fn referred(&self, input: &Input) -> Vec<Value> {
        let mut referred = Vec::new();
        if let Some(cluster) = &self.cluster {
            for object in input.objects() {
                let namespace = Some(self.namespace());
                referred.extend(cluster.referred(object.value, namespace).await);
            }
        }
        referred
    }

    /// The request to create a Pod of some images in the namespace that was given. Without one, every policy governs it.
    pub(super) fn pod(&self, images: &[ImageReference]) -> anyhow::Result<Change> {
        if self.given.namespace.is_none() && !self.given.namespace_labels.is_empty() {
            bail!("`--namespace-labels` belongs to `--namespace`, which is missing");
        }
        let containers = images.iter().enumerate();
        let containers = containers
            .map(|(at, image)| json!({"name": format!("image-{at}"), "image": image.as_written()}));
        let manifest = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "image", "namespace": self.namespace()},
            "spec": {"containers": containers.collect::<Vec<_>>()},
        });
        let manifests = Manifests::default();
        let understood =
            admission::understand_manifest(&manifest, self.namespace(), self.actor(), &manifests);
        let Understood::Change(mut change) = understood else {
            bail!("a Pod of the image cannot be judged")
        };
        change.workload.namespace = self.given.namespace.clone();
        Ok(*change)
    }

    /// What asks incident trackers, once the policies were read.
    pub(super) fn incidents(&self) -> Option<Arc<dyn Incidents>> {
        let checks = self.incidents.as_ref()?;
        Some(Arc::<IncidentChecks>::clone(checks))
    }

    /// The second repository for evidence of the images of a repository, if there is one.
    pub(super) fn evidence_repository(&self, own: &Repository) -> Option<Repository> {
        match &self.given.repository {
            Some(repository) => repository.of(own),
            None => self.client.evidence_repository(own),
        }
    }

    /// The repository for evidence that was given, as it was written.
    pub(super) fn given_repository(&self) -> Option<String> {
        self.given.repository.as_ref().map(ToString::to_string)
    }

    /// Who deploys, if that is given.
    pub(super) fn actor(&self) -> Option<&Actor> {
        self.actor.as_ref()
    }

    /// The policies and the state of the cluster as they are now.
    pub(super) async fn snapshot(&mut self, purpose: &Purpose<'_>) -> anyhow::Result<Snapshot> {
        let live = match &self.cluster {
            Some(cluster) => Some(Live::read(cluster.clone(), &Kind::ALL).await?),
            None => None,
        };
        let paths = [&self.given.policies[..], &self.given.people[..]].concat();
        let documents = match self.has_warned {
            false => world::documents(&paths, live.as_ref(), &self.config)?,
            true => world::documents_again(&paths, live.as_ref(), &self.config)?,
        };
        self.has_warned = true;
        let checks = documents.incidents(&self.config, self.cluster.as_ref());
        self.incidents = Some(Arc::new(checks));
        let asking = documents.set().policies.iter();
        let environments = asking.filter_map(|policy| policy.frozen_environment());
        let environments = environments
            .filter(|of| purpose.environment.is_none_or(|only| only == *of))
            .map(str::to_owned)
            .collect();
        let (mut feeds, freezes) = documents.feeds();
        let (asked_at, within) = (purpose.asked_at, purpose.within);
        feeds.extend(world::feeds(&freezes, &environments, &self.config, asked_at, within).await);
        let roots = self.repository_roots(&documents, within).await;
        let overdue_reviews = live.as_ref().map(|_| documents.overdue_reviews());
        let mut snapshot = documents.snapshot(self.config.snapshot(), &feeds, purpose.at);
        if let Some(overdue_reviews) = overdue_reviews {
            snapshot.world.overdue_reviews = overdue_reviews;
        }
        snapshot.world.trust_roots.extend(roots);
        snapshot.world.approve_arguments = self.given.arguments();
        if let Some(cluster) = &self.given.cluster {
            snapshot.world.cluster = Collected::Known(cluster.clone().into_string());
        }
        if !self.given.namespace_labels.is_empty() {
            let namespace = self.namespace();
            let known = &mut snapshot.world.namespaces;
            let mut labels = known.get(namespace).cloned().unwrap_or_default();
            labels.extend(labels_of(&self.given.namespace_labels)?);
            known.insert(namespace.to_owned(), labels);
        }
        if let Some(live) = &live {
            let named = purpose.namespaces.iter().map(String::as_str);
            live.complete(&mut snapshot, named).await?;
        }
        // The author of a change writes the manifests: they never replace what the operator or the cluster says.
        for (name, labels) in purpose.labels {
            let known = &mut snapshot.world.namespaces;
            if known.get(name).is_none() {
                known.insert(name.clone(), labels.clone());
            }
        }
        Ok(snapshot)
    }

    /// The trust roots in repositories. Each warning is printed once.
    async fn repository_roots(&mut self, documents: &Once, within: Duration) -> TrustRoots {
        if let Some((at, roots)) = &self.roots
            && at.elapsed() < ROOTS
        {
            return roots.clone();
        }
        let read = world::repository_roots_again(documents, &self.config, within);
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

fn labels_of(given: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    let pair = |label: &String| match label.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => bail!("`--namespace-labels {label}`: expected `key=value`"),
    };
    given.iter().map(pair).collect()
}

/// The namespaces of some changes.
pub(super) fn namespaces_of(changes: &[Change]) -> BTreeSet<String> {
    let named = changes.iter();
    let named = named.filter_map(|change| change.workload.namespace.clone());
    named.collect()
}
