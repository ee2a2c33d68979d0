//! The cluster that the gate guards: the connection to its API server, and reads of single objects.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use promotion_gate_core::gate::Unavailability;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::admission;

/// How long one request to the API server may take where no deadline says less.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to the API server.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    namespace: String,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Cluster");
        shown.field("namespace", &self.namespace);
        shown.finish_non_exhaustive()
    }
}

/// An object of a kind that can be read by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName {
    /// API group; empty for the core group.
    pub group: String,
    /// API version, such as `v1`.
    pub version: String,
    /// Kind, such as `Deployment`.
    pub kind: String,
    /// Namespace; `None` for a cluster-scoped object.
    pub namespace: Option<String>,
    /// `metadata.name`.
    pub name: String,
}

impl Cluster {
    /// Connects with a kubeconfig file; without one as `kubectl` does, or in a Pod with its service account.
    ///
    /// # Errors
    /// The configuration cannot be read. Whether the API server answers is not known yet.
    pub async fn connect(kubeconfig: Option<&Path>) -> anyhow::Result<Cluster> {
        let config = match kubeconfig {
            Some(path) => {
                let read = Kubeconfig::read_from(path);
                let read = read.with_context(|| format!("`{}` cannot be used", path.display()))?;
                Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?
            }
            None => Config::infer().await?,
        };
        Cluster::with(config)
    }

    /// Connects with the service account of the Pod that the process runs in.
    ///
    /// # Errors
    /// There is no token or no address of an API server. Whether the API server answers is not known yet.
    pub fn of_the_pod() -> anyhow::Result<Cluster> {
        let config = Config::incluster();
        Cluster::with(config.context("the service account of the Pod cannot be used")?)
    }

    /// Connects as a configuration says.
    ///
    /// # Errors
    /// The certificates or credentials of the configuration cannot be used.
    pub fn with(mut config: Config) -> anyhow::Result<Cluster> {
        config.connect_timeout = Some(Duration::from_secs(5));
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config).context("the API server cannot be reached")?;
        Ok(Cluster { client, namespace })
    }

    /// The client, for typed requests.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The namespace of the process: that of its Pod, or of the context in the kubeconfig.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Reads an object of a kind that carries images. `None` if it does not exist.
    ///
    /// # Errors
    /// Why it could not be read before the deadline.
    pub async fn read(
        &self,
        object: &ObjectName,
        deadline: Instant,
    ) -> Result<Option<Value>, Unavailability> {
        let ObjectName {
            group,
            version,
            kind,
            name,
            ..
        } = object;
        let shown = || format!("the {kind} `{name}` cannot be read from the cluster");
        let Some(plural) = admission::plural(group, kind) else {
            return Err(Unavailability(format!(
                "{}: the kind is not known",
                shown()
            )));
        };
        let resource =
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        let api: Api<DynamicObject> = match &object.namespace {
            Some(namespace) => Api::namespaced_with(self.client(), namespace, &resource),
            None => Api::all_with(self.client(), &resource),
        };
        let deadline = deadline.min(Instant::now() + PATIENCE);
        let read = timeout_at(deadline, api.get_opt(name)).await;
        let read = read.map_err(|_| Unavailability(format!("{}: no answer in time", shown())))?;
        let read = read.map_err(|error| Unavailability(format!("{}: {error}", shown())))?;
        let value = read.map(serde_json::to_value).transpose();
        value.map_err(|error| Unavailability(format!("{}: {error}", shown())))
    }
}
