//! The registries as they are configured at this moment.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use promotion_gate_core::gate::Digest;

use super::{
    Attached, Client, Descriptor, Manifest, Reference, Registry, RegistryError, Repository,
};

/// A client that can be replaced by one that is configured otherwise; what is under way ends with the one that it began with.
pub struct Current(ArcSwap<Client>);

impl Current {
    /// This client, until it is replaced.
    pub fn new(client: Client) -> Current {
        Current(ArcSwap::from_pointee(client))
    }

    /// From now on this client.
    pub fn replace(&self, client: Client) {
        self.0.store(Arc::new(client));
    }
}

impl Registry for Current {
    fn resolve<'a>(
        &'a self,
        repository: &'a Repository,
        reference: &'a Reference,
    ) -> BoxFuture<'a, Result<Descriptor, RegistryError>> {
        let client = self.0.load_full();
        async move { client.resolve(repository, reference).await }.boxed()
    }

    fn manifest<'a>(
        &'a self,
        repository: &'a Repository,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Manifest, RegistryError>> {
        let client = self.0.load_full();
        async move { client.manifest(repository, digest).await }.boxed()
    }

    fn tagged<'a>(
        &'a self,
        repository: &'a Repository,
        tag: &'a str,
    ) -> BoxFuture<'a, Result<Option<Manifest>, RegistryError>> {
        let client = self.0.load_full();
        async move { client.tagged(repository, tag).await }.boxed()
    }

    fn blob<'a>(
        &'a self,
        repository: &'a Repository,
        descriptor: &'a Descriptor,
        limit: u64,
    ) -> BoxFuture<'a, Result<Bytes, RegistryError>> {
        let client = self.0.load_full();
        async move { client.blob(repository, descriptor, limit).await }.boxed()
    }

    fn attached<'a>(
        &'a self,
        repository: &'a Repository,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Attached> {
        let client = self.0.load_full();
        async move { client.attached(repository, digest).await }.boxed()
    }

    fn credential_id(&self, repository: &Repository) -> String {
        self.0.load().credential_id(repository)
    }
}
