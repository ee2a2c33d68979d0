//! What is remembered, and by what key: bytes by digest, listings by who may see them, facts by what they were verified
//! from. No verdict, no finding and no infrastructure error is ever in here.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use moka::Expiry;
use moka::future::Cache;
use promotion_gate_core::attest::{AnchorId, Unaccepted, Verified};
use promotion_gate_core::gate::Digest;

use crate::oci::{AttachedManifest, Manifest, Meter, Repository};

/// How much is remembered.
#[derive(Clone, Copy, Debug)]
pub struct CacheSizes {
    /// Bytes of manifests and blobs.
    pub content_bytes: u64,
    /// Listings of what is attached to an image.
    pub listings: u64,
    /// Verified facts, and pieces of evidence that were not accepted.
    pub facts: u64,
    /// How long a piece of evidence that was not accepted stays so without being verified again.
    pub unaccepted_age: Duration,
}

impl Default for CacheSizes {
    fn default() -> CacheSizes {
        CacheSizes {
            content_bytes: 64 << 20,
            listings: 20_000,
            facts: 50_000,
            unaccepted_age: Duration::from_secs(60),
        }
    }
}

/// Who asked for what is attached to which digest. Another credential has to ask for itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ListingKey {
    pub(super) repository: Repository,
    pub(super) digest: Digest,
    pub(super) credential: String,
}

/// What a registry said is attached to a digest, free of infrastructure errors.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) asked: Instant,
    pub(super) attached: Vec<AttachedManifest>,
    /// What was cut off, where the limits were reached.
    pub(super) cut: Option<String>,
}

/// What verifying one piece of evidence under one anchor gave.
pub(super) type Fact = Result<Verified, Unaccepted>;

/// What a fact was verified from: the material's hash, the subject, the anchor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct FactKey {
    pub(super) material: String,
    pub(super) subject: Digest,
    pub(super) anchor: AnchorId,
}

/// Everything that is remembered between reviews.
pub(super) struct Caches {
    pub(super) manifests: Cache<Digest, Manifest>,
    pub(super) blobs: Cache<Digest, Bytes>,
    pub(super) listings: Cache<ListingKey, Arc<Listing>>,
    pub(super) facts: Cache<FactKey, Arc<Fact>>,
}

impl Caches {
    pub(super) fn new(sizes: CacheSizes) -> Caches {
        let weight = |length: usize| u32::try_from(length.saturating_add(256)).unwrap_or(u32::MAX);
        Caches {
            manifests: Cache::builder()
                .weigher(move |_, manifest: &Manifest| {
                    weight(manifest.bytes.len().saturating_mul(2))
                })
                .max_capacity(sizes.content_bytes / 2)
                .build(),
            blobs: Cache::builder()
                .weigher(move |_, bytes: &Bytes| weight(bytes.len()))
                .max_capacity(sizes.content_bytes / 2)
                .build(),
            listings: Cache::builder().max_capacity(sizes.listings).build(),
            facts: Cache::builder()
                .max_capacity(sizes.facts)
                .expire_after(UnacceptedExpires(sizes.unaccepted_age))
                .build(),
        }
    }
}

/// A verified fact stays one: it carries its times, and rules compare those with the review's. What was not accepted is
/// looked at again soon.
struct UnacceptedExpires(Duration);

impl Expiry<FactKey, Arc<Fact>> for UnacceptedExpires {
    fn expire_after_create(&self, _: &FactKey, fact: &Arc<Fact>, _: Instant) -> Option<Duration> {
        match &**fact {
            Ok(_) => None,
            Err(_) => Some(self.0),
        }
    }
}

/// Fetches that are under way, each made once however many reviews wait for it, and brought to its end even when the
/// request that began it has run out of time.
pub(super) struct Flights<K, V> {
    underway: Arc<Mutex<HashMap<K, Flight<V>>>>,
}

/// `None` when the fetch ended without an answer (a panic in it).
type Flight<V> = Shared<BoxFuture<'static, Option<V>>>;

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new() -> Flights<K, V> {
        Flights {
            underway: Arc::new(Mutex::new(HashMap::new())),
        }
    }

    /// Joins the fetch for `key`, beginning it with `fetch` where none is under way.
    pub(super) fn join(&self, key: K, fetch: impl FnOnce() -> BoxFuture<'static, V>) -> Flight<V> {
        let mut underway = self.underway.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = underway.get(&key) {
            return flight.clone();
        }
        let landed = Landed {
            underway: Arc::clone(&self.underway),
            key: key.clone(),
        };
        // Whoever begins a fetch is charged for it.
        let fetch = match Meter::current() {
            Some(meter) => meter.count(fetch()).boxed(),
            None => fetch(),
        };
        let task = tokio::spawn(async move {
            let _landed = landed;
            fetch.await
        });
        let flight = task.map(Result::ok).boxed().shared();
        underway.insert(key, flight.clone());
        flight
    }
}

/// Takes a fetch off the list when it ends, in whatever way.
struct Landed<K: Eq + Hash, V> {
    underway: Arc<Mutex<HashMap<K, Flight<V>>>>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for Landed<K, V> {
    fn drop(&mut self) {
        self.underway
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.key);
    }
}
