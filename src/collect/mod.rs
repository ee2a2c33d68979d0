//! Fills the evidence of a review, exactly as far as its needs go: bounded, concurrent, remembered, under the deadline.
//!
//! * `resolve` — tags → digests, once per review
//! * `statements` — a subject → what is attached to it, verified
//! * `platforms` — an index → its platforms; a digest → the index that holds it
//! * `cache` — what is remembered, and by what key

mod cache;
mod platforms;
mod resolve;
mod statements;

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::future::join_all;
use promotion_gate_core::attest::{Anchor, AnchorId};
use promotion_gate_core::gate::{
    Change, Collected, Digest, Evidence, Governing, ImageEvidence, ImageReference, ImageUse, Pin,
    Promotion, Subject, Trouble, Wanted,
};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::oci::{Manifest, Registry, Repository};
use cache::{Caches, Flights};

pub use cache::CacheSizes;
pub use resolve::tag as resolve_tag;

/// Fetches evidence from registries and remembers it; shared by all reviews.
pub struct Collector {
    registry: ArcSwap<Arc<dyn Registry>>,
    caches: Caches,
    listings: Flights<cache::ListingKey, Arc<statements::Answer>>,
    manifests: Flights<(Repository, Digest), Result<Manifest, statements::Unread>>,
    /// By size too: whoever says another one is answered for himself.
    blobs: Flights<(Repository, Digest, u64), Result<Bytes, statements::Unread>>,
    limits: CollectLimits,
    /// Verifications at one time: they are work, and there are only so many processors.
    verifying: Arc<Semaphore>,
}

/// How much is read about one image.
#[derive(Clone, Copy, Debug)]
pub struct CollectLimits {
    /// Manifests attached to one image that are read; the rest is cut off, and said.
    pub manifests: usize,
    /// Layers of one such manifest that are read.
    pub layers: usize,
    /// Bytes of one piece of evidence.
    pub material_bytes: u64,
    /// How long a listing of what is attached counts as fresh.
    pub listing_age: Duration,
    /// How long an empty listing does.
    pub empty_listing_age: Duration,
}

impl Default for CollectLimits {
    fn default() -> CollectLimits {
        CollectLimits {
            manifests: 128,
            layers: 32,
            material_bytes: 4 << 20,
            listing_age: Duration::from_secs(600),
            empty_listing_age: Duration::from_secs(5),
        }
    }
}

/// Whether a listing from memory will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// A remembered listing will do while it is fresh.
    Remembered,
    /// The registry is asked again, and memory serves only while it cannot be.
    Asked,
}

/// What was learned, and whether any of it came from memory.
#[derive(Debug)]
pub struct Gathered {
    /// The evidence.
    pub learned: Evidence,
    /// Whether a listing came from memory, so that asking again could change it.
    pub remembered: bool,
}

impl Collector {
    /// A collector with empty memory.
    pub fn new(registry: Arc<dyn Registry>, limits: CollectLimits, sizes: CacheSizes) -> Collector {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Collector {
            registry: ArcSwap::from_pointee(registry),
            caches: Caches::new(sizes),
            listings: Flights::new(),
            manifests: Flights::new(),
            blobs: Flights::new(),
            limits,
            verifying: Arc::new(Semaphore::new(processors)),
        }
    }

    /// From now on reads another registry, or the same as it is configured now. What is under way ends with the one that it
    /// began with, and what is remembered stays.
    pub fn replace_registry(&self, registry: Arc<dyn Registry>) {
        self.registry.store(Arc::new(registry));
    }

    fn registry(&self) -> Arc<dyn Registry> {
        Arc::clone(&self.registry.load())
    }

    /// The digest of every image of a change that some requirement asks about, in the change's order.
    pub async fn pin(
        &self,
        change: &Change,
        governing: &Governing<'_>,
        deadline: Instant,
    ) -> Vec<Pin> {
        let mut wanted: BTreeMap<String, &ImageReference> = BTreeMap::new();
        for image in &change.images {
            if image.reference.digest().is_none() && governing.pins(&image.reference) {
                wanted.insert(image.reference.to_string(), &image.reference);
            }
        }
        let resolved = join_all(wanted.into_iter().map(|(normal, reference)| async move {
            (
                normal,
                resolve::tag(&*self.registry(), reference, deadline).await,
            )
        }));
        let resolved: BTreeMap<_, _> = resolved.await.into_iter().collect();
        let pin = |image: &ImageUse| match image.reference.digest() {
            Some(digest) => Pin::Written(digest.clone()),
            None => match resolved.get(&image.reference.to_string()) {
                Some(collected) => Pin::Resolved(collected.clone()),
                None => Pin::NotNeeded,
            },
        };
        change.images.iter().map(pin).collect()
    }

    /// Everything attached to the subjects, verified under their anchors, all of them at once; and the same of their platforms
    /// where that is wanted.
    pub async fn gather(
        &self,
        needs: &BTreeMap<Subject, Wanted>,
        freshness: Freshness,
        deadline: Instant,
    ) -> Gathered {
        let about = needs.iter().map(|(subject, wanted)| async move {
            let own = self.about(subject, &wanted.anchors, freshness, deadline);
            let of_platforms = platforms::of(self, subject, wanted, freshness, deadline);
            let (own, (index, of_platforms)) = futures::join!(own, of_platforms);
            (
                own,
                index.map(|index| (subject.clone(), index)),
                of_platforms,
            )
        });
        let mut learned = Evidence::default();
        let mut remembered = false;
        for (own, index, of_platforms) in join_all(about).await {
            learned.indexes.extend(index);
            for (subject, (collected, from_memory)) in of_platforms.into_iter().chain([own]) {
                remembered |= from_memory;
                learned.images.insert(subject, collected);
            }
        }
        Gathered {
            learned,
            remembered,
        }
    }

    /// Asks once more before a denial: what came from memory is asked of the registry, and of what carries nothing, whether it
    /// is the platform of an index that the reference names beside the digest, or an index whose platforms carry something.
    pub async fn ask_again(
        &self,
        promotion: &Promotion,
        needs: &BTreeMap<Subject, Wanted>,
        gathered: Gathered,
        deadline: Instant,
    ) -> Evidence {
        let within = platforms::holding(self, promotion, &gathered.learned, deadline);
        let asked = async {
            match gathered.remembered {
                true => Some(self.gather(needs, Freshness::Asked, deadline).await.learned),
                false => None,
            }
        };
        let beneath = platforms::beneath(self, needs, &gathered.learned, deadline);
        let (asked, within, beneath) = futures::join!(asked, within, beneath);
        let mut learned = Evidence {
            within,
            ..asked.unwrap_or(gathered.learned)
        };
        for (subject, index, platforms) in beneath {
            learned.indexes.entry(subject).or_insert(index);
            for (platform, (collected, _)) in platforms {
                learned.images.entry(platform).or_insert(collected);
            }
        }
        learned
    }

    async fn about(
        &self,
        subject: &Subject,
        anchors: &Anchors,
        freshness: Freshness,
        deadline: Instant,
    ) -> (Subject, About) {
        let about = statements::about(self, subject, anchors, freshness, deadline).await;
        (subject.clone(), about)
    }
}

/// What is attached to one subject, in whatever state of knowledge, and whether memory alone was asked.
type About = (Collected<Arc<ImageEvidence>>, bool);

/// What evidence is verified under.
type Anchors = BTreeMap<AnchorId, Anchor>;

fn late(what: &str) -> Trouble {
    Trouble(format!(
        "{what} was not answered within the time that the request allows"
    ))
}
