//! The registry behind what is remembered: each thing is asked once however many reviews wait for it, and remembered.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::join_all;
use promotion_gate_core::gate::{Digest, Unavailability};
use tokio::time::{Instant, timeout_at};

use super::budget::CollectLimits;
use super::cache::{CacheSizes, Caches, Fact, FactKey};
use super::listing::{Freshness, Listing, ListingKey, PlaceAnswer};
use super::single_flight::{SharedWork, SingleFlight};
use crate::oci::work::Work;
use crate::oci::{Descriptor, ErrorKind, Manifest, Registry, RegistryError, Repository, Via};

/// The registry, what is remembered of it, and what is under way.
pub(super) struct CachedRegistry {
    registry: ArcSwap<Arc<dyn Registry>>,
    pub(super) caches: Caches,
    listings: SingleFlight<(ListingKey, Via), Arc<PlaceAnswer>>,
    manifests: SingleFlight<(Repository, Digest), Result<HeldManifest, Unread>>,
    /// A different size is a different key, so that one review cannot have another one's blob cut off.
    blobs: SingleFlight<(Repository, Digest, u64), Result<Bytes, Unread>>,
    pub(super) verifications: SharedWork<FactKey, Fact>,
    pub(super) limits: CollectLimits,
    pub(super) work: Work,
}

/// A manifest, and the bytes that it was read from, which hold the room for both.
type HeldManifest = (Arc<Manifest>, Option<Bytes>);

/// How what is known of a listing was come by.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Age {
    /// Since when what came from memory is there; `None` where nothing did.
    pub(super) from_cache: Option<Instant>,
    /// Whether anything was asked.
    pub(super) asked: bool,
}

impl CachedRegistry {
    pub(super) fn new(
        registry: Arc<dyn Registry>,
        limits: CollectLimits,
        sizes: CacheSizes,
    ) -> CachedRegistry {
        CachedRegistry {
            registry: ArcSwap::from_pointee(registry),
            caches: Caches::new(sizes),
            listings: SingleFlight::new(),
            manifests: SingleFlight::new(),
            blobs: SingleFlight::new(),
            verifications: SharedWork::new(),
            limits,
            work: Work::own(),
        }
    }

    /// From now on reads another registry. What is under way ends with the one that it began with.
    pub(super) fn replace(&self, registry: Arc<dyn Registry>) {
        self.registry.store(Arc::new(registry));
    }

    pub(super) fn registry(&self) -> Arc<dyn Registry> {
        Arc::clone(&self.registry.load())
    }

    /// Lists what is attached: from memory as far as that will do, else from the registry, of which each place is asked by itself.
    /// What does not answer leaves what memory has; with whether a place that had to be asked did not answer in time.
    pub(super) async fn list(
        &self,
        key: &ListingKey,
        freshness: Freshness,
        deadline: Instant,
    ) -> (Arc<Listing>, Age, bool) {
        let remembered = self.caches.listings.get(key).await;
        let remembered = remembered.unwrap_or_default();
        let does = |asked: Instant| match freshness {
            Freshness::FromCache => true,
            Freshness::AskedSince(since) => asked >= since,
        };
        let (asked, due): (Vec<_>, Vec<_>) = Via::ALL
            .into_iter()
            .map(|via| (via, remembered.asked(via).filter(|asked| does(*asked))))
            .partition(|(_, asked)| asked.is_some());
        let age = Age {
            from_cache: asked.into_iter().filter_map(|(_, asked)| asked).min(),
            asked: !due.is_empty(),
        };
        if freshness == Freshness::FromCache && !remembered.attached.is_empty() {
            // What is known may suffice, so nobody waits for these.
            for via in remembered.failed_places() {
                drop(self.ask(key, via));
            }
        }
        if due.is_empty() {
            return (remembered, age, false);
        }
        if Instant::now() >= deadline {
            return (remembered, age, true);
        }
        let answers = due.into_iter().map(|(via, _)| {
            let answer = self.ask(key, via);
            timeout_at(deadline, answer).map(|answer| answer.ok().flatten())
        });
        let answers = join_all(answers).await;
        let unanswered = answers.iter().any(Option::is_none);
        let now = self.caches.listings.get(key).await;
        let mut listing = now.unwrap_or_else(|| Arc::clone(&remembered));
        // Memory may have been too small for it.
        for answer in answers.into_iter().flatten() {
            if listing.asked(answer.place) < Some(answer.asked) {
                listing = Arc::new(listing.with(&answer));
            }
        }
        if let Some(keeping) = listing.keeping(&remembered) {
            listing = Arc::new(keeping);
            let listings = &self.caches.listings;
            listings.insert(key.clone(), Arc::clone(&listing)).await;
        }
        (listing, age, unanswered)
    }

    /// Asks one place, once for everybody who waits for the same, and remembers what came of it.
    fn ask(
        &self,
        key: &ListingKey,
        place: Via,
    ) -> impl Future<Output = Option<Arc<PlaceAnswer>>> + use<> {
        let registry = self.registry();
        let listings = self.caches.listings.clone();
        let flight = (key.clone(), place);
        self.listings.join(flight, || {
            let key = key.clone();
            async move {
                let asked = Instant::now();
                let found = registry.attached_in(&key.repository, &key.digest, place);
                let answer = Arc::new(PlaceAnswer::new(place, asked, found.await));
                let listing = listings.entry(key).and_upsert_with(|known| {
                    let known = known.map(|known| known.into_value()).unwrap_or_default();
                    std::future::ready(Arc::new(known.with(&answer)))
                });
                listing.await;
                answer
            }
            .boxed()
        })
    }

    pub(super) async fn manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
        deadline: Instant,
    ) -> Result<HeldManifest, Unread> {
        if let Some(manifest) = self.caches.manifests.get(digest).await {
            return Ok((manifest, None));
        }
        let key = (repository.clone(), digest.clone());
        let registry = self.registry();
        let remembered = self.caches.manifests.clone();
        let flight = self.manifests.join(key.clone(), || {
            async move {
                let manifest = registry
                    .manifest(&key.0, &key.1)
                    .await
                    .map_err(|error| Unread::of(&error))?;
                let came = manifest.bytes;
                // With bytes of its own, which take no room.
                let manifest = Arc::new(Manifest {
                    bytes: Bytes::copy_from_slice(&came),
                    ..manifest
                });
                remembered.insert(key.1, Arc::clone(&manifest)).await;
                Ok((manifest, Some(came)))
            }
            .boxed()
        });
        finished(timeout_at(deadline, flight).await, || {
            format!("the manifest `{repository}@{digest}`")
        })
    }

    pub(super) async fn blob(
        &self,
        repository: &Repository,
        layer: &Descriptor,
        deadline: Instant,
    ) -> Result<Bytes, Unread> {
        if let Some(bytes) = self.caches.blobs.get(&layer.digest).await {
            return Ok(bytes);
        }
        let limit = self.limits.material_bytes;
        let key = (repository.clone(), layer.digest.clone(), layer.size);
        let registry = self.registry();
        let remembered = self.caches.blobs.clone();
        let descriptor = layer.clone();
        let flight = self.blobs.join(key.clone(), || {
            async move {
                let bytes = registry
                    .blob(&key.0, &descriptor, limit)
                    .await
                    .map_err(|error| Unread::of(&error))?;
                let copy = Bytes::copy_from_slice(&bytes);
                remembered.insert(key.1, copy).await;
                Ok(bytes)
            }
            .boxed()
        });
        finished(timeout_at(deadline, flight).await, || {
            format!("the blob `{repository}@{}`", layer.digest)
        })
    }
}

/// Why something that is listed could not be had.
#[derive(Clone)]
pub(super) enum Unread {
    /// Nothing is known about it.
    Unavailability(Unavailability),
    /// What the registry has can never be evidence.
    Broken(String),
}

impl Unread {
    pub(super) fn of(error: &RegistryError) -> Unread {
        match error.kind() {
            // What is listed was there. It can be on its way, or lost; either way nothing is known about it.
            ErrorKind::NotFound | ErrorKind::DigestMismatch => {
                Unread::Unavailability(Unavailability(format!("{error}, though it is listed")))
            }
            _ if error.is_infrastructure() => {
                Unread::Unavailability(Unavailability(error.to_string()))
            }
            _ => Unread::Broken(error.to_string()),
        }
    }
}

fn finished<T>(
    outcome: Result<Option<Result<T, Unread>>, tokio::time::error::Elapsed>,
    what: impl Fn() -> String,
) -> Result<T, Unread> {
    match outcome {
        Ok(Some(read)) => read,
        Ok(None) => Err(Unread::Unavailability(Unavailability(format!(
            "reading {} failed",
            what()
        )))),
        Err(_) => Err(Unread::Unavailability(late(&what()))),
    }
}

/// What is said of something that did not answer in time.
pub(super) fn late(what: &str) -> Unavailability {
    Unavailability(format!(
        "{what} was not answered within the time that the request allows"
    ))
}
