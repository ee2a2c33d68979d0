//! Lists of the cluster's objects, page by page, so that a large cluster is never held as a whole.

use anyhow::Context as _;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, TypeMeta};
use kube::discovery::{ApiCapabilities, Scope, oneshot};
use serde_json::Value;

use super::Cluster;

/// The most objects of a page.
const PAGE: u32 = 250;
/// The most pages of one kind.
const MAXIMUM_PAGES: usize = 4000;

/// A kind that the API server serves.
#[derive(Clone, Debug)]
pub struct ServedKind {
    resource: ApiResource,
    is_namespaced: bool,
}

impl Cluster {
    /// The kind of an API group, in the version that the server prefers; `None` if it does not serve it.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn served(&self, group: &str, kind: &str) -> anyhow::Result<Option<ServedKind>> {
        let found = match oneshot::group(&self.client, group).await {
            Ok(found) => found,
            Err(kube::Error::Discovery(_)) => return Ok(None),
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
            Err(error) => {
                return Err(error).context("the API server cannot be asked what it serves");
            }
        };
        let served = found.recommended_kind(kind);
        Ok(
            served.map(|(resource, ApiCapabilities { scope, .. })| ServedKind {
                resource,
                is_namespaced: scope == Scope::Namespaced,
            }),
        )
    }

    /// Hands every object of a kind to `each`: those of a namespace, or of all.
    ///
    /// # Errors
    /// A page cannot be read.
    pub async fn each(
        &self,
        kind: &ServedKind,
        namespace: Option<&str>,
        mut each: impl AsyncFnMut(Value) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let ServedKind {
            resource,
            is_namespaced,
        } = kind;
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) if *is_namespaced => {
                Api::namespaced_with(self.client(), namespace, resource)
            }
            _ => Api::all_with(self.client(), resource),
        };
        let mut page = ListParams::default().limit(PAGE);
        for _ in 0..MAXIMUM_PAGES {
            let list = api.list(&page).await;
            let list = list.with_context(|| format!("`{}` cannot be listed", resource.plural))?;
            for mut object in list.items {
                // The items of a list do not say their kind.
                object.types = Some(TypeMeta {
                    api_version: resource.api_version.clone(),
                    kind: resource.kind.clone(),
                });
                each(serde_json::to_value(object)?).await?;
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(()),
            }
        }
        anyhow::bail!("there are too many `{}`", resource.plural)
    }
}
