//! The cluster that the gate guards: the connection to its API server, and reads of single objects.

mod complete;
mod listing;
mod watch;

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use promotion_gate_core::gate::{Unavailability, Workload};
use serde_json::Value;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout, timeout_at};

use crate::admission;

pub use complete::complete;
pub use listing::ServedKind;
pub use watch::{FirstLists, KnownNamespace, Lost, View, Watched};

/// The most objects of a kind that a command reads.
const MAXIMUM_LISTED: usize = 20_000;
/// How long a connection may be silent: longer than a watch without events, which ends after a minute.
const SILENCE: Duration = Duration::from_secs(90);
/// How long one request to the API server may take where no deadline says less.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to the API server.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    namespace: String,
    /// The user as whom the API server authenticates this process, once it was asked.
    user: Arc<OnceCell<String>>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Cluster");
        shown.field("namespace", &self.namespace);
        shown.finish_non_exhaustive()
    }
}

/// An object of a kind that can be read by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

impl From<&Workload> for ObjectName {
    fn from(workload: &Workload) -> ObjectName {
        ObjectName {
            group: workload.group.clone(),
            version: workload.version.clone(),
            kind: workload.kind.clone(),
            namespace: workload.namespace.clone(),
            name: workload.name.clone(),
        }
    }
}

impl Cluster {
    /// Connects with a kubeconfig file; without one as `kubectl` does, or in a Pod with its service account.
    ///
    /// # Errors
    /// The configuration cannot be read. Whether the API server answers is not known yet.
    pub async fn connect(kubeconfig: Option<&Path>) -> anyhow::Result<Cluster> {
        Cluster::connect_in(kubeconfig, None).await
    }

    /// The same, in a context of the kubeconfig; without one in its present context.
    ///
    /// # Errors
    /// As [`Cluster::connect`].
    pub async fn connect_in(
        kubeconfig: Option<&Path>,
        context: Option<&str>,
    ) -> anyhow::Result<Cluster> {
        let options = KubeConfigOptions {
            context: context.map(str::to_owned),
            ..KubeConfigOptions::default()
        };
        let config = match (kubeconfig, context) {
            (Some(path), _) => {
                let read = Kubeconfig::read_from(path);
                let read = read.with_context(|| format!("`{}` cannot be used", path.display()))?;
                Config::from_custom_kubeconfig(read, &options).await?
            }
            (None, Some(_)) => Config::from_kubeconfig(&options).await?,
            (None, None) => Config::infer().await?,
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
        config.read_timeout = Some(SILENCE);
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config).context("the API server cannot be reached")?;
        Ok(Cluster {
            client,
            namespace,
            user: Arc::default(),
        })
    }

    /// Asks what a test puts in the place of an API server.
    #[cfg(test)]
    pub(crate) fn of(client: Client) -> Cluster {
        Cluster {
            client,
            namespace: "promotion-gate".to_owned(),
            user: Arc::default(),
        }
    }

    /// The client, for typed requests.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The user as whom the API server authenticates this process.
    ///
    /// # Errors
    /// Why it could not be learned before the deadline.
    pub async fn user(&self, deadline: Instant) -> Result<&str, Unavailability> {
        let ask = async {
            let api: Api<SelfSubjectReview> = Api::all(self.client());
            let (how, asked) = (PostParams::default(), SelfSubjectReview::default());
            let answer = api.create(&how, &asked).await;
            let answer = answer.map_err(|error| error.to_string())?;
            let user = answer.status.and_then(|status| status.user_info);
            let name = user.and_then(|user| user.username);
            name.ok_or_else(|| "the answer names no user".to_owned())
        };
        let asked = timeout_at(deadline, self.user.get_or_try_init(|| ask)).await;
        let why = |why| Unavailability(format!("the gate's own user is not known: {why}"));
        let asked = asked.map_err(|_| why("no answer in time".to_owned()))?;
        asked.map(String::as_str).map_err(why)
    }

    /// The time by the clock of the API server.
    ///
    /// # Errors
    /// Why it could not be learned.
    pub(crate) async fn time(&self) -> Result<Timestamp, String> {
        let api: Api<SelfSubjectReview> = Api::all(self.client());
        let (how, asked) = (PostParams::default(), SelfSubjectReview::default());
        let answer = in_time(api.create(&how, &asked)).await;
        let created = answer.map_err(|error| error.why)?.metadata;
        let created = created.creation_timestamp.map(|time| time.0);
        created.ok_or_else(|| "the answer has no time".to_owned())
    }

    /// The namespace of the process: that of its Pod, or of the context in the kubeconfig.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Reads all objects of a kind.
    ///
    /// # Errors
    /// Why they cannot be read.
    pub(crate) async fn list(
        &self,
        resource: &ApiResource,
    ) -> Result<Vec<DynamicObject>, ApiFailure> {
        self.list_in(resource, None, ListParams::default().limit(500))
            .await
    }

    /// Reads the objects of a kind that `parameters` select: those of a namespace, or of all.
    ///
    /// # Errors
    /// Why they cannot be read.
    pub(crate) async fn list_in(
        &self,
        resource: &ApiResource,
        namespace: Option<&str>,
        mut parameters: ListParams,
    ) -> Result<Vec<DynamicObject>, ApiFailure> {
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(self.client(), namespace, resource),
            None => Api::all_with(self.client(), resource),
        };
        let mut objects = Vec::new();
        loop {
            let page = in_time(api.list(&parameters)).await?;
            objects.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) if objects.len() < MAXIMUM_LISTED => {
                    parameters.continue_token = Some(token)
                }
                Some(_) => {
                    return Err(ApiFailure {
                        why: format!("there are more than {MAXIMUM_LISTED}"),
                        is_transient: false,
                    });
                }
                None => return Ok(objects),
            }
        }
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
        let ObjectName { kind, name, .. } = object;
        let shown = || format!("the {kind} `{name}` cannot be read from the cluster");
        let Some(api) = self.api_of(object) else {
            return Err(Unavailability(format!(
                "{}: the kind is not known",
                shown()
            )));
        };
        let deadline = deadline.min(Instant::now() + PATIENCE);
        let read = timeout_at(deadline, api.get_opt(name)).await;
        let read = read.map_err(|_| Unavailability(format!("{}: no answer in time", shown())))?;
        let read = read.map_err(|error| Unavailability(format!("{}: {error}", shown())))?;
        let value = read.map(serde_json::to_value).transpose();
        value.map_err(|error| Unavailability(format!("{}: {error}", shown())))
    }

    /// Where an object of a kind that carries images is read; `None` if the kind is not known.
    pub(crate) fn api_of(&self, object: &ObjectName) -> Option<Api<DynamicObject>> {
        let ObjectName {
            group,
            version,
            kind,
            ..
        } = object;
        let plural = admission::plural(group, kind)?;
        let resource =
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        Some(match &object.namespace {
            Some(namespace) => Api::namespaced_with(self.client(), namespace, &resource),
            None => Api::all_with(self.client(), &resource),
        })
    }
}

/// Why the API server did not give what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct ApiFailure {
    /// In words, with the remedy where it is known.
    pub why: String,
    /// Whether the same request may succeed later: there was no answer, or the API server was overloaded or failed itself.
    pub is_transient: bool,
}

impl ApiFailure {
    /// The same, about something.
    pub(crate) fn about(self, what: &str) -> ApiFailure {
        ApiFailure {
            why: format!("{what}: {}", self.why),
            ..self
        }
    }
}

impl From<kube::Error> for ApiFailure {
    fn from(error: kube::Error) -> ApiFailure {
        let is_transient = match &error {
            // 409 and 410 tell of an object or a list that changed while it was read.
            kube::Error::Api(status) => {
                matches!(status.code, 408 | 409 | 410 | 425 | 429) || status.code >= 500
            }
            kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => {
                true
            }
            _ => false,
        };
        ApiFailure {
            why: explain(&error),
            is_transient,
        }
    }
}

/// The answer to a request, within the time of one.
pub(crate) async fn in_time<T>(
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, ApiFailure> {
    match timeout(PATIENCE, request).await {
        Ok(answer) => answer.map_err(ApiFailure::from),
        // The client repeats what is answered with 429, 503 or 504.
        Err(_) => Err(ApiFailure {
            why: "no answer in time, or none but 429, 503 or 504".to_owned(),
            is_transient: true,
        }),
    }
}

/// Why a request failed: what the API server says, or the innermost cause.
pub(crate) fn cause(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return status.message.clone();
    }
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    match innermost.to_string() {
        inner if inner.is_empty() => error.to_string(),
        inner => inner,
    }
}

/// Why a request for one of our kinds failed, with the remedy where it is known.
fn explain(error: &kube::Error) -> String {
    match error {
        // Without the definition, the answer is not a `Status`.
        kube::Error::Api(status) if status.code == 404 => {
            "the API server does not know the kind; apply the definitions: `kubectl apply -f deploy/crds`".to_owned()
        }
        kube::Error::Api(status) if status.code == 403 => {
            format!("reading it is not allowed: {}; apply the roles in `deploy`", status.message)
        }
        error => cause(error),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn what_may_succeed_later_is_told_from_what_does_not() {
        let status = |code| kube::Error::Api(Box::new(Status::failure("", "").with_code(code)));
        for code in [408, 409, 410, 429, 500, 502, 503, 504] {
            assert!(ApiFailure::from(status(code)).is_transient, "{code}");
        }
        for code in [400, 401, 403, 404, 405, 422] {
            assert!(!ApiFailure::from(status(code)).is_transient, "{code}");
        }
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert!(ApiFailure::from(kube::Error::Service(refused.into())).is_transient);
    }
}
