//! What is remembered, and by what key: bytes by digest, listings by who may see them, facts by what they were verified
//! from, and what the facts of one listing amount to. No verdict, no finding and no infrastructure error is ever in here.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use moka::Expiry;
use moka::future::Cache;
use promotion_gate_core::attest::{
    AnchorId, Unaccepted, Verified, VerifiedSignature, VerifiedStatement,
};
use promotion_gate_core::gate::{Digest, ImageEvidence, Trouble};

use crate::oci::{AttachedManifest, Manifest, Meter, Repository};

/// How much is remembered.
#[derive(Clone, Copy, Debug)]
pub struct CacheSizes {
    /// Bytes of manifests and blobs.
    pub content_bytes: u64,
    /// Bytes of listings of what is attached to an image.
    pub listing_bytes: u64,
    /// Bytes of verified facts, and of why pieces of evidence were not accepted.
    pub fact_bytes: u64,
    /// Bytes of what was made of the listings: facts, sorted by image.
    pub reading_bytes: u64,
    /// How long a piece of evidence that was not accepted stays so without being verified again; what was made of a listing
    /// with such pieces stays as long.
    pub unaccepted_age: Duration,
}

impl Default for CacheSizes {
    fn default() -> CacheSizes {
        CacheSizes {
            content_bytes: 64 << 20,
            listing_bytes: 24 << 20,
            fact_bytes: 48 << 20,
            reading_bytes: 48 << 20,
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
    /// The look-ups that the registry does not know ([`crate::oci::Attached::unsupported`]).
    pub(super) unsupported: Vec<Trouble>,
}

impl fmt::Display for ListingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}@{}`", self.repository, self.digest)
    }
}

impl Listing {
    /// Each manifest once, in the order in which they are read: what stands in cosign's own places and was given with the
    /// listing, then what is likely to be evidence, then the rest.
    pub(super) fn new(
        asked: Instant,
        attached: impl IntoIterator<Item = AttachedManifest>,
        cut: Option<String>,
    ) -> Listing {
        let mut each: Vec<AttachedManifest> = Vec::new();
        let mut places: HashMap<Digest, usize> = HashMap::new();
        for item in attached {
            let known = places.get(&item.digest).and_then(|at| each.get_mut(*at));
            match known {
                Some(known) => {
                    known.likely |= item.likely;
                    known.manifest = known.manifest.take().or(item.manifest);
                }
                None => {
                    places.insert(item.digest.clone(), each.len());
                    each.push(item);
                }
            }
        }
        each.sort_by_key(|item| (item.manifest.is_none(), !item.likely));
        Listing {
            asked,
            attached: each,
            cut,
            unsupported: Vec::new(),
        }
    }

    /// This one, and what an older one had beyond it.
    pub(super) fn with(&self, older: &Listing) -> Listing {
        let all = self.attached.iter().chain(&older.attached).cloned();
        Listing {
            unsupported: self.unsupported.clone(),
            ..Listing::new(self.asked, all, self.cut.clone())
        }
    }

    fn bytes(&self) -> usize {
        let manifests = self.attached.iter().map(|item| {
            let manifest = item.manifest.as_ref().map_or(0, Manifest::weight);
            size_of_val(item) + item.digest.hex().len() + manifest
        });
        manifests.sum()
    }
}

/// What verifying one piece of evidence under one anchor gave.
#[derive(Clone, Debug)]
pub(super) enum Fact {
    Signature(Arc<VerifiedSignature>),
    Statement(Arc<VerifiedStatement>),
    Unaccepted(Unaccepted),
}

impl Fact {
    pub(super) fn of(verified: Result<Verified, Unaccepted>) -> Fact {
        match verified {
            Ok(Verified::Signature(signature)) => Fact::Signature(Arc::new(signature)),
            Ok(Verified::Statement(statement)) => Fact::Statement(Arc::new(statement)),
            Err(why) => Fact::Unaccepted(why),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Fact::Signature(signature) => signature.bytes(),
            Fact::Statement(statement) => statement.bytes(),
            Fact::Unaccepted(why) => why.detail.len(),
        }
    }
}

/// What was made of a listing under some anchors; of no use once the image has another listing.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) listing: Arc<Listing>,
    pub(super) evidence: Arc<ImageEvidence>,
}

/// Which listing was read under which anchors.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ReadingKey {
    pub(super) listing: ListingKey,
    pub(super) anchors: Vec<AnchorId>,
}

impl Reading {
    fn bytes(&self) -> usize {
        let evidence = &self.evidence;
        let signatures = evidence.signatures.iter().map(|(_, fact)| fact.bytes());
        let statements = evidence.statements.iter().map(|(_, fact)| fact.bytes());
        let unaccepted = evidence.unaccepted.iter().map(|it| it.why.detail.len());
        let pieces = signatures.chain(statements).chain(unaccepted);
        self.listing.bytes() + pieces.map(|bytes| bytes + ENTRY).sum::<usize>()
    }
}

/// What a fact was verified from: the material, the subject, the anchor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct FactKey {
    pub(super) blob: Digest,
    pub(super) media_type: String,
    /// Of the layer's annotations, which are a part of the material in old formats.
    pub(super) annotations: Digest,
    pub(super) subject: Digest,
    pub(super) anchor: AnchorId,
}

/// Everything that is remembered between reviews.
pub(super) struct Caches {
    pub(super) manifests: Cache<Digest, Manifest>,
    pub(super) blobs: Cache<Digest, Bytes>,
    pub(super) listings: Cache<ListingKey, Arc<Listing>>,
    pub(super) facts: Cache<FactKey, Fact>,
    pub(super) readings: Cache<ReadingKey, Arc<Reading>>,
}

impl Caches {
    pub(super) fn new(sizes: CacheSizes) -> Caches {
        Caches {
            manifests: Cache::builder()
                .weigher(|_, manifest: &Manifest| weight(manifest.weight()))
                .max_capacity(sizes.content_bytes / 2)
                .build(),
            blobs: Cache::builder()
                .weigher(|_, bytes: &Bytes| weight(bytes.len()))
                .max_capacity(sizes.content_bytes / 2)
                .build(),
            listings: Cache::builder()
                .weigher(|_, listing: &Arc<Listing>| weight(listing.bytes()))
                .max_capacity(sizes.listing_bytes)
                .build(),
            facts: Cache::builder()
                .weigher(|_, fact: &Fact| weight(fact.bytes()))
                .max_capacity(sizes.fact_bytes)
                .expire_after(UnacceptedExpires(sizes.unaccepted_age))
                .build(),
            readings: Cache::builder()
                .weigher(|key: &ReadingKey, reading: &Arc<Reading>| {
                    weight(reading.bytes() + size_of_val(key.anchors.as_slice()))
                })
                .max_capacity(sizes.reading_bytes)
                .expire_after(UnacceptedExpires(sizes.unaccepted_age))
                .build(),
        }
    }
}

/// What an entry takes besides its value.
const ENTRY: usize = 512;
fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes.saturating_add(ENTRY)).unwrap_or(u32::MAX)
}

/// A verified fact stays one: it carries its times, and rules compare those with the review's. What was not accepted is
/// looked at again soon.
struct UnacceptedExpires(Duration);

impl Expiry<FactKey, Fact> for UnacceptedExpires {
    fn expire_after_create(&self, _: &FactKey, fact: &Fact, _: Instant) -> Option<Duration> {
        match fact {
            Fact::Signature(_) | Fact::Statement(_) => None,
            Fact::Unaccepted(_) => Some(self.0),
        }
    }
}

impl Expiry<ReadingKey, Arc<Reading>> for UnacceptedExpires {
    fn expire_after_create(
        &self,
        _: &ReadingKey,
        reading: &Arc<Reading>,
        _: Instant,
    ) -> Option<Duration> {
        (!reading.evidence.unaccepted.is_empty()).then_some(self.0)
    }

    fn expire_after_update(
        &self,
        key: &ReadingKey,
        reading: &Arc<Reading>,
        updated: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(key, reading, updated)
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

#[cfg(test)]
mod tests {
    use promotion_gate_core::attest::unaccepted::MALFORMED;
    use promotion_gate_core::gate::{Form, NotAccepted, Source};

    use super::*;
    use crate::oci::{ManifestKind, Via};

    fn key(name: &str) -> ListingKey {
        ListingKey {
            repository: Repository::named("registry.example/app"),
            digest: Digest::sha256(name.as_bytes()),
            credential: String::new(),
        }
    }

    fn listing(annotation: usize) -> Listing {
        let manifest = Manifest {
            digest: Digest::sha256(b""),
            media_type: String::new(),
            bytes: Bytes::new(),
            kind: ManifestKind::Index {
                manifests: Vec::new(),
                subject: None,
                artifact_type: None,
                annotations: [("a".to_owned(), "x".repeat(annotation))].into(),
            },
        };
        let attached = AttachedManifest {
            digest: manifest.digest.clone(),
            likely: true,
            via: Via::SigTag,
            manifest: Some(manifest),
        };
        Listing {
            asked: Instant::now(),
            attached: vec![attached],
            cut: None,
            unsupported: Vec::new(),
        }
    }

    fn reading(unaccepted: bool, annotation: usize) -> Arc<Reading> {
        let mut evidence = ImageEvidence::default();
        if unaccepted {
            evidence.unaccepted.push(NotAccepted {
                source: Source(String::new()),
                form: Form::Either,
                why: Unaccepted::new(MALFORMED, "why"),
            });
        }
        Arc::new(Reading {
            listing: Arc::new(listing(annotation)),
            evidence: Arc::new(evidence),
        })
    }

    #[test]
    fn each_manifest_stands_once_in_a_listing_and_what_is_likely_evidence_before_the_rest() {
        let item = |name: &str, likely: bool, given: bool| {
            let manifest = listing(0).attached.remove(0).manifest;
            AttachedManifest {
                digest: Digest::sha256(name.as_bytes()),
                likely,
                via: Via::Referrers,
                manifest: manifest.filter(|_| given),
            }
        };
        let found = [
            item("sbom", false, false),
            item("bundle", true, false),
            item("sig", false, false),
            item("sig", true, true),
        ];
        let listing = Listing::new(Instant::now(), found, None);
        let order = |listing: &Listing| {
            let digests = listing.attached.iter().map(|item| item.digest.clone());
            digests.collect::<Vec<_>>()
        };
        let named = |names: &[&str]| {
            let digests = names.iter().map(|name| Digest::sha256(name.as_bytes()));
            digests.collect::<Vec<_>>()
        };
        assert_eq!(order(&listing), named(&["sig", "bundle", "sbom"]));
        let older = Listing::new(Instant::now(), [item("known", true, false)], None);
        let both = order(&listing.with(&older));
        assert_eq!(both, named(&["sig", "bundle", "known", "sbom"]));
    }

    #[test]
    fn what_a_listing_or_a_reading_holds_counts_against_the_memory_that_there_is() {
        let large = 1 << 20;
        assert!(listing(large).bytes() >= large);
        assert!(reading(false, large).bytes() >= large);
        assert!(listing(0).bytes() < 2_000);
    }

    #[tokio::test]
    async fn a_reading_with_a_piece_that_was_not_accepted_is_forgotten_and_another_stays() {
        let caches = Caches::new(CacheSizes {
            unaccepted_age: Duration::from_millis(20),
            ..CacheSizes::default()
        });
        let key = |name| ReadingKey {
            listing: key(name),
            anchors: Vec::new(),
        };
        caches.readings.insert(key("a"), reading(false, 0)).await;
        caches.readings.insert(key("b"), reading(true, 0)).await;
        // Read again, with another outcome.
        caches.readings.insert(key("c"), reading(false, 0)).await;
        caches.readings.insert(key("c"), reading(true, 0)).await;
        tokio::time::sleep(Duration::from_millis(40)).await;
        let mut kept = Vec::new();
        for name in ["a", "b", "c"] {
            kept.push(caches.readings.get(&key(name)).await.is_some());
        }
        assert_eq!(kept, [true, false, false]);
    }
}
