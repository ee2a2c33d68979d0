//! Fills the evidence of a review, exactly as far as its needs go: bounded, concurrent, remembered, under the deadline.
//!
//! * `resolve` — tags → digests, once per review
//! * `statements` — a subject → what is attached to it, verified
//! * `budget` — how much one review reads
//! * `platforms` — an index → its platforms; a digest → the index that holds it
//! * `cache` — what is remembered, and by what key

mod budget;
mod cache;
mod platforms;
mod resolve;
mod statements;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::future::join_all;
use futures::{FutureExt as _, StreamExt as _, stream};
use promotion_gate_core::attest::{Anchor, AnchorId};
use promotion_gate_core::gate::{
    Change, Collected, Digest, Evidence, Governing, ImageEvidence, ImageNeeds, ImageReference,
    ImageUse, Index, Pin, Promotion, Subject, Trouble,
};
use tokio::time::{Instant, timeout_at};

use crate::oci::fair::{Fair, Rule};
use crate::oci::work::Work;
use crate::oci::{Manifest, Registry, Repository, Via};
use crate::telemetry::shed;
use budget::Purse;
use cache::{Caches, Flights, Shares};
use statements::{Age, Reader};

pub use budget::Allowance;
pub use cache::CacheSizes;
pub use resolve::tag as resolve_tag;

/// Fetches evidence from registries and remembers it; shared by all reviews.
pub struct Collector {
    registry: ArcSwap<Arc<dyn Registry>>,
    caches: Caches,
    listings: Flights<(cache::ListingKey, Via), Arc<cache::Answer>>,
    manifests: Flights<(Repository, Digest), Result<HeldManifest, statements::Unread>>,
    /// A different size is a different key, so that one review cannot have another one's blob cut off.
    blobs: Flights<(Repository, Digest, u64), Result<Bytes, statements::Unread>>,
    verifications: Shares<cache::FactKey, cache::Fact>,
    limits: CollectLimits,
    /// Images about which something is read at one time.
    images: Arc<Fair>,
    work: Work,
}

/// How much is read about one image, and by one review.
#[derive(Clone, Copy, Debug)]
pub struct CollectLimits {
    /// Manifests attached to one image that are read; the rest is cut off, and said.
    pub manifests: usize,
    /// Layers of one such manifest that are read.
    pub layers: usize,
    /// Bytes of one piece of evidence.
    pub material_bytes: u64,
    /// Manifests and layers that one review looks at; what is beyond is said.
    pub review_pieces: u64,
    /// Bytes that one review fetches and verifies.
    pub review_bytes: u64,
    /// Pieces that one review verifies, once for each trust root and key.
    pub review_verifications: u64,
    /// Images about which something is read at one time. One review, and one host, never hold more of these places than are
    /// then still free.
    pub images: usize,
    /// How long a listing serves where evidence that was not seen could hurt, and a denial that only warns or audits.
    pub recent: Duration,
}

impl Default for CollectLimits {
    fn default() -> CollectLimits {
        CollectLimits {
            manifests: 128,
            layers: 32,
            material_bytes: 4 << 20,
            review_pieces: 8448,
            review_bytes: 256 << 20,
            review_verifications: 8448,
            images: 256,
            recent: Duration::from_secs(60),
        }
    }
}

/// How many hosts one review reads at one time, and images of each.
const AT_ONE_TIME: (usize, usize) = (16, 8);

/// Which listings from memory will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Of any age: what was verified stays verified.
    Remembered,
    /// Asked since then, whether there was an answer or not.
    AskedSince(Instant),
}

/// What was learned, and whether any of it came from memory.
#[derive(Debug)]
pub struct Gathered {
    /// The evidence.
    pub learned: Evidence,
    /// Since when the oldest listing that came from memory is there; `None` where none did.
    pub remembered: Option<Instant>,
    /// Whether any listing was asked for.
    pub asked: bool,
}

impl Collector {
    /// A collector with empty memory.
    pub fn new(registry: Arc<dyn Registry>, limits: CollectLimits, sizes: CacheSizes) -> Collector {
        Collector {
            registry: ArcSwap::from_pointee(registry),
            caches: Caches::new(sizes),
            listings: Flights::new(),
            manifests: Flights::new(),
            blobs: Flights::new(),
            verifications: Shares::new(),
            limits,
            images: Fair::new(limits.images, Rule::LeaveAsMuch),
            work: Work::own(),
        }
    }

    /// How much is read, and how long it serves.
    pub fn limits(&self) -> CollectLimits {
        self.limits
    }

    /// What a review may use that has to be answered by then.
    pub fn allowance(&self, deadline: Instant) -> Allowance {
        Allowance::new(&self.limits, deadline)
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

    /// Everything attached to the subjects, verified under their anchors; and the same of their platforms where that is wanted.
    /// Each subject has an equal part of what the review may use; what is left over goes to those that need more.
    pub async fn gather(
        &self,
        needs: &BTreeMap<Subject, ImageNeeds>,
        freshness: Freshness,
        allowance: &mut Allowance,
    ) -> Gathered {
        allowance.left.pieces = self.limits.review_pieces;
        let mut wanted: Vec<_> = needs.iter().collect();
        let mut gathered = Gathered {
            learned: Evidence::default(),
            remembered: None,
            asked: false,
        };
        for _round in 0..2 {
            let part = allowance.left.over(wanted.len());
            let read = self
                .read(&wanted, freshness, part, allowance.deadline)
                .await;
            let mut short = Vec::new();
            for ((subject, wanted), read) in wanted.into_iter().zip(read) {
                let is_short = read.purses.iter().any(Purse::was_short);
                for purse in &read.purses {
                    let mut spent = purse.spent();
                    if is_short {
                        // It is looked at anew.
                        spent.pieces = 0;
                    }
                    allowance.left = allowance.left.less(spent);
                }
                if is_short {
                    short.push((subject, wanted));
                }
                gathered.add(subject, read);
            }
            if short.is_empty() || Instant::now() >= allowance.deadline {
                break;
            }
            wanted = short;
        }
        gathered
    }

    /// Reads about subjects: several hosts at one time, and several images of each, so that no host keeps others waiting.
    async fn read(
        &self,
        wanted: &[(&Subject, &ImageNeeds)],
        freshness: Freshness,
        part: budget::Amounts,
        deadline: Instant,
    ) -> Vec<Read> {
        let mut hosts: BTreeMap<&str, Vec<(usize, &Subject, &ImageNeeds)>> = BTreeMap::new();
        for (at, (subject, wanted)) in wanted.iter().enumerate() {
            let host = subject.name.split('/').next().unwrap_or_default();
            hosts.entry(host).or_default().push((at, subject, wanted));
        }
        let mut of_hosts = Vec::new();
        for (host, images) in hosts {
            let mut of_images = Vec::new();
            for (at, subject, wanted) in images {
                let read = async move {
                    let seat = timeout_at(deadline, self.images.take(1, host));
                    let read = match seat.await {
                        Ok(_seat) => {
                            let about = self.about(subject, wanted, freshness, part, deadline);
                            about.boxed().await
                        }
                        Err(_) => Read::shed(subject),
                    };
                    (at, read)
                };
                of_images.push(read);
            }
            let of_images = stream::iter(of_images).buffer_unordered(AT_ONE_TIME.1);
            of_hosts.push(of_images.collect::<Vec<_>>());
        }
        let read = stream::iter(of_hosts).buffer_unordered(AT_ONE_TIME.0);
        let mut read: Vec<_> = read
            .collect::<Vec<_>>()
            .await
            .into_iter()
            .flatten()
            .collect();
        read.sort_by_key(|(at, _)| *at);
        read.into_iter().map(|(_, read)| read).collect()
    }

    /// Reads about one subject, and about its platforms.
    async fn about(
        &self,
        subject: &Subject,
        wanted: &ImageNeeds,
        freshness: Freshness,
        part: budget::Amounts,
        deadline: Instant,
    ) -> Read {
        let recent = Instant::now().checked_sub(self.limits.recent);
        let freshness = match (freshness, recent) {
            (Freshness::Remembered, Some(recent)) if wanted.can_hurt => {
                Freshness::AskedSince(recent)
            }
            _ => freshness,
        };
        let (own, rest) = match wanted.platforms {
            true => (part.over(2), part.less(part.over(2))),
            false => (part, budget::Amounts::default()),
        };
        let mut read = Read::default();
        read.about(self.reader(subject, wanted, own, deadline), freshness)
            .await;
        if wanted.platforms {
            let index = platforms::index(self, subject, deadline).await;
            let of_platforms = platforms::of(subject, &index);
            let each = rest.over(of_platforms.len());
            let mut about = Vec::new();
            for platform in &of_platforms {
                let reader = self.reader(platform, wanted, each, deadline);
                about.push(async move {
                    let mut read = Read::default();
                    read.about(reader, freshness).await;
                    read
                });
            }
            let about = stream::iter(about).buffered(AT_ONE_TIME.1);
            for of_platform in about.collect::<Vec<_>>().await {
                read.about.extend(of_platform.about);
                read.purses.extend(of_platform.purses);
            }
            read.index = Some(index);
        }
        read
    }

    fn reader<'a>(
        &'a self,
        subject: &'a Subject,
        wanted: &'a ImageNeeds,
        part: budget::Amounts,
        deadline: Instant,
    ) -> Reader<'a> {
        Reader {
            collector: self,
            subject,
            anchors: &wanted.anchors,
            purse: Purse::of(part),
            deadline,
        }
    }

    /// Asks once more before a denial: what came from memory and is older than that is asked of the registry, and of what carries
    /// nothing, whether it is the platform of an index that the reference names beside the digest, or an index whose platforms
    /// carry something. What was asked a moment ago is not asked again.
    pub async fn ask_again(
        &self,
        promotion: &Promotion,
        needs: &BTreeMap<Subject, ImageNeeds>,
        gathered: Gathered,
        since: Instant,
        allowance: &mut Allowance,
    ) -> Evidence {
        let old = gathered.remembered.is_some_and(|asked| asked < since);
        if !old && !gathered.asked {
            return gathered.learned;
        }
        let deadline = allowance.deadline;
        let part = allowance
            .left
            .over(platforms::EXPLAINED * platforms::EXPLAINED_PLATFORMS);
        let within = platforms::holding(self, promotion, &gathered.learned, deadline);
        let asked = async {
            match old {
                true => {
                    let freshness = Freshness::AskedSince(since);
                    Some(self.gather(needs, freshness, allowance).await.learned)
                }
                false => None,
            }
        };
        let beneath = platforms::beneath(self, needs, &gathered.learned, part, deadline);
        let (asked, within, beneath) = futures::join!(asked, within, beneath);
        let mut learned = Evidence {
            within,
            ..asked.unwrap_or(gathered.learned)
        };
        for (subject, index, platforms) in beneath {
            learned.indexes.entry(subject).or_insert(index);
            for (platform, collected) in platforms {
                learned.images.entry(platform).or_insert(collected);
            }
        }
        learned
    }
}

impl Gathered {
    fn add(&mut self, subject: &Subject, read: Read) {
        let index = read.index.map(|index| (subject.clone(), index));
        self.learned.indexes.extend(index);
        for (subject, About { collected, age }) in read.about {
            self.asked |= age.asked;
            self.remembered = [self.remembered, age.remembered]
                .into_iter()
                .flatten()
                .min();
            let before = self.learned.images.get(&subject).map(pieces);
            // Of two rounds, the second may have been cut off by the deadline.
            if before.is_none_or(|before| before <= pieces(&collected)) {
                self.learned.images.insert(subject, collected);
            }
        }
    }
}

/// How much was read.
fn pieces(collected: &Collected<Arc<ImageEvidence>>) -> usize {
    collected.value().map_or(0, |evidence| {
        evidence.signatures.len() + evidence.statements.len() + evidence.unaccepted.len()
    })
}

/// What was read about one subject, and about its platforms.
#[derive(Default)]
struct Read {
    index: Option<Collected<Option<Index>>>,
    about: Vec<(Subject, About)>,
    purses: Vec<Purse>,
}

impl Read {
    async fn about(&mut self, reader: Reader<'_>, freshness: Freshness) {
        let about = statements::about(&reader, freshness).await;
        self.about.push((reader.subject.clone(), about));
        self.purses.push(reader.purse);
    }

    /// Nothing, since too much is read already.
    fn shed(subject: &Subject) -> Read {
        shed("images");
        let why =
            format!("too much evidence is read at this moment; `{subject}` was not looked at");
        let about = About {
            collected: Collected::Unavailable(Trouble(why)),
            age: Age::default(),
        };
        Read {
            about: vec![(subject.clone(), about)],
            ..Read::default()
        }
    }
}

/// What is attached to one subject, in whatever state of knowledge.
struct About {
    collected: Collected<Arc<ImageEvidence>>,
    age: Age,
}

/// A manifest, and the bytes that it was read from, which hold the room for both.
type HeldManifest = (Arc<Manifest>, Option<Bytes>);

/// What evidence is verified under.
type Anchors = BTreeMap<AnchorId, Anchor>;

fn late(what: &str) -> Trouble {
    Trouble(format!(
        "{what} was not answered within the time that the request allows"
    ))
}
