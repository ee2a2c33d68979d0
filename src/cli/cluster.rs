//! The arguments by which commands read the documents of a cluster, and what they read there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use promotion_gate_core::gate::Snapshot;

use crate::api::Kind;
use crate::cluster::{ApiFailure, Cluster, KnownNamespace, in_time};
use crate::snapshot::{Once, Resource};

/// The namespace whose UID is that of the cluster.
const OF_THE_CLUSTER: &str = "kube-system";

// Whether the documents of a cluster count, and which cluster.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct FromCluster {
    /// Read the resources of a cluster as the webhook does, besides the files that are given
    #[arg(long)]
    pub(super) from_cluster: bool,
    /// A kubeconfig file for the cluster; as `kubectl` finds it when absent
    #[arg(long, value_name = "FILE", requires = "from_cluster")]
    kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig; the present one when absent
    #[arg(long, value_name = "NAME", requires = "from_cluster")]
    context: Option<String>,
}

/// What a cluster holds.
pub(super) struct Live {
    pub(super) cluster: Cluster,
    pub(super) resources: Vec<Arc<Resource>>,
}

impl FromCluster {
    /// Connects to the cluster; `None` if none is asked for. Whether its API server answers is not known yet.
    pub(super) async fn connect(&self) -> anyhow::Result<Option<Cluster>> {
        match self.from_cluster {
            true => connect(self.kubeconfig.as_deref(), self.context.as_deref())
                .await
                .map(Some),
            false => Ok(None),
        }
    }

    /// Reads the resources of these kinds; `None` if no cluster is asked for.
    pub(super) async fn read(&self, kinds: &[Kind]) -> anyhow::Result<Option<Live>> {
        match self.connect().await? {
            Some(cluster) => Ok(Some(Live::read(cluster, kinds).await?)),
            None => Ok(None),
        }
    }

    /// The arguments that name the same cluster again; none if no cluster is asked for.
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        if self.from_cluster {
            arguments.push("--from-cluster".to_owned());
        }
        if let Some(file) = &self.kubeconfig {
            arguments.extend(["--kubeconfig".to_owned(), file.display().to_string()]);
        }
        if let Some(context) = &self.context {
            arguments.extend(["--context".to_owned(), context.clone()]);
        }
        arguments
    }
}

/// Connects to a cluster, as `kubectl` finds it where no file is given.
pub(super) async fn connect(
    kubeconfig: Option<&Path>,
    context: Option<&str>,
) -> anyhow::Result<Cluster> {
    let cluster = Cluster::connect_in(kubeconfig, context).await;
    cluster.context("the cluster cannot be reached: name its kubeconfig with `--kubeconfig`")
}

impl Live {
    /// Reads the resources of these kinds.
    pub(super) async fn read(cluster: Cluster, kinds: &[Kind]) -> anyhow::Result<Live> {
        let resources = Once::resources(&cluster, kinds).await?;
        Ok(Live { cluster, resources })
    }

    /// Adds the labels of namespaces that are not known otherwise, and the UID of the cluster.
    pub(super) async fn complete<'a>(
        &self,
        snapshot: &mut Snapshot,
        namespaces: impl IntoIterator<Item = &'a str>,
    ) -> anyhow::Result<()> {
        use promotion_gate_core::gate::Collected;
        if let Collected::Unavailable(_) = snapshot.world.cluster_uid
            && let Some(known) = self.namespace(OF_THE_CLUSTER).await?
        {
            snapshot.world.cluster_uid = Collected::Known(known.uid);
        }
        for name in namespaces {
            if snapshot.world.namespaces.get(name).is_none()
                && let Some(known) = self.namespace(name).await?
            {
                let namespaces = &mut snapshot.world.namespaces;
                namespaces.insert(name.to_owned(), known.labels);
            }
        }
        Ok(())
    }

    async fn namespace(&self, name: &str) -> Result<Option<KnownNamespace>, ApiFailure> {
        let read = in_time(self.cluster.namespace_named(name)).await;
        read.map_err(|failure| {
            failure.about(&format!(
                "the namespace `{name}` cannot be read from the cluster"
            ))
        })
    }
}
