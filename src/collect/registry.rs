//! The registry behind the caches: each request is made once, however many reviews wait for it, and its result is cached.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::join_all;
use promotion_gate_core::attest::KeyFingerprint;
use promotion_gate_core::gate::{Digest, Unavailability};
use tokio::time::{Instant, timeout_at};

use super::budget::CollectLimits;
use super::cache::{CacheSizes, Caches, Fact};
use super::keys::{FactKey, SignerKey};
use super::listing::{Freshness, Listing, ListingKey, PlaceAnswer};
use super::single_flight::{SharedWork, SingleFlight};
use crate::oci::work::Work;
use crate::oci::{Descriptor, ErrorKind, Manifest, Registry, RegistryError, Repository, Via};

/// The registry, its caches, and the requests under way.
pub(super) struct CachedRegistry {
    registry: ArcSwap<Arc<dyn Registry>>,
    pub(super) caches: Caches,
    listings: SingleFlight<(ListingKey, Via), Arc<PlaceAnswer>>,
    manifests: SingleFlight<(Repository, Digest), Result<HeldManifest, Unread>>,
    /// A different size is a different key, so one review cannot cut off another one's blob.
    blobs: SingleFlight<(Repository, Digest, u64), Result<Bytes, Unread>>,
    pub(super) verifications: SharedWork<FactKey, Fact>,
    pub(super) signers: SharedWork<SignerKey, Option<KeyFingerprint>>,
    pub(super) limits: CollectLimits,
    pub(super) work: Work,
}

/// A manifest, and the bytes that it was parsed from, which hold the reserved room for both.
type HeldManifest = (Arc<Manifest>, Option<Bytes>);

/// How old a listing is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Age {
    /// The oldest look-up that came from the cache; `None` if all were made now.
    pub(super) from_cache: Option<Instant>,
    /// Whether any look-up was made now.
    pub(super) asked: bool,
}

impl Age {
    pub(super) fn and(self, other: Age) -> Age {
        let both = [self.from_cache, other.from_cache];
        Age {
            from_cache: both.into_iter().flatten().min(),
            asked: self.asked || other.asked,
        }
    }
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
            signers: SharedWork::new(),
            limits,
            work: Work::own(),
        }
    }

    /// Reads another registry from now on. Requests under way use the registry that they began with.
    pub(super) fn replace(&self, registry: Arc<dyn Registry>) {
        self.registry.store(Arc::new(registry));
    }

    pub(super) fn registry(&self) -> Arc<dyn Registry> {
        Arc::clone(&self.registry.load())
    }

    /// Lists what is attached. Places whose cached answer is fresh enough are not asked; the others are asked independently. A
    /// place without an answer keeps its cached entries. The flag says whether a place did not answer in time.
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
            Freshness::AskedSince(since) | Freshness::Recent(since) => asked >= since,
        };
        let (asked, due): (Vec<_>, Vec<_>) = Via::ALL
            .into_iter()
            .map(|via| (via, remembered.asked(via).filter(|asked| does(*asked))))
            .partition(|(_, asked)| asked.is_some());
        let age = Age {
            from_cache: asked.into_iter().filter_map(|(_, asked)| asked).min(),
            asked: !due.is_empty(),
        };
        if !remembered.attached.is_empty() {
            // The cached entries may suffice, so the review does not wait for these places.
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
        let patience = match (freshness, remembered.complete_since()) {
            (Freshness::Recent(_), Some(_)) => {
                deadline - deadline.saturating_duration_since(Instant::now()) / 2
            }
            _ => deadline,
        };
        let answers = due.into_iter().map(|(via, _)| {
            let answer = self.ask(key, via);
            timeout_at(patience, answer).map(|answer| answer.ok().flatten())
        });
        let answers = join_all(answers).await;
        let unanswered = answers.iter().any(Option::is_none);
        let now = self.caches.listings.get(key).await;
        let mut listing = now.unwrap_or_else(|| Arc::clone(&remembered));
        // The cache may have been too small to hold the answers.
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

    /// Asks one place, once for all reviews that wait for it, and caches the answer.
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
        let key = (repository.clone(), digest.clone());
        if let Some(manifest) = self.caches.manifests.get(&key).await {
            return Ok((manifest, None));
        }
        let registry = self.registry();
        let remembered = self.caches.manifests.clone();
        let flight = self.manifests.join(key.clone(), || {
            async move {
                let manifest = registry
                    .manifest(&key.0, &key.1)
                    .await
                    .map_err(|error| Unread::of(&error))?;
                let came = manifest.bytes;
                // A copy with its own bytes, so that the cache holds no reserved room.
                let manifest = Arc::new(Manifest {
                    bytes: Bytes::copy_from_slice(&came),
                    ..manifest
                });
                remembered.insert(key, Arc::clone(&manifest)).await;
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

/// Why something listed could not be read.
#[derive(Clone)]
pub(super) enum Unread {
    /// Nothing is known about it.
    Unavailability(Unavailability),
    /// The registry's content can never be evidence.
    Broken(String),
    /// It is larger than what is read.
    TooLarge(String),
}

impl Unread {
    pub(super) fn of(error: &RegistryError) -> Unread {
        match error.kind() {
            // It was listed, so it existed. It may not have arrived yet, or is lost; in both cases nothing is known about it.
            ErrorKind::NotFound | ErrorKind::DigestMismatch => {
                Unread::Unavailability(Unavailability(format!("{error}, though it is listed")))
            }
            ErrorKind::TooLarge => Unread::TooLarge(error.to_string()),
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

/// The unavailability of something that did not arrive in time.
pub(super) fn late(what: &str) -> Unavailability {
    Unavailability(format!(
        "{what}: no answer within the time that the request allows"
    ))
}
