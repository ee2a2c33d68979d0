//! Fills the evidence of a review exactly as far as its needs go: bounded, concurrent, cached, within the deadline. One
//! pipeline lists what is attached, fetches it and verifies it, and does the same for platforms.
//!
//! * `resolve` — tags → digests, once per review
//! * `attached` — a subject → what is attached to it, in all its repositories
//! * `reading`, `layers` — a listing → its evidence; an attached manifest → its layers
//! * `platforms` — an index → its platforms; a digest → the index that holds it
//! * `verify` — one piece of evidence → facts
//! * `registry` — the registry behind the caches: listings, manifests, blobs
//! * `seen` — what can hurt, remembered after it was deleted
//! * `listing`, `cache`, `single_flight` — what is cached, by which key, and what is under way
//! * `budget` — how much one review reads

mod attached;
mod budget;
mod cache;
mod keys;
mod layers;
mod listing;
mod platforms;
mod reading;
mod registry;
mod resolve;
mod seen;
mod single_flight;
mod verify;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use futures::{FutureExt as _, StreamExt as _, stream};
use promotion_gate_core::gate::{
    Change, Collected, Digest, Evidence, ImageEvidence, ImageNeeds, ImageReference, ImageUse,
    Index, Pin, Promotion, Subject, Unavailability,
};
use tokio::time::{Instant, timeout_at};

pub(crate) use single_flight::SingleFlight;

use crate::metrics::shed;
use crate::oci::fair::{Fair, Sharing};
use crate::oci::{Meter, Registry};
use attached::SubjectEvidence;
use budget::{Amounts, Budget};
use registry::{Age, CachedRegistry};
use verify::SubjectReader;

pub use budget::{Allowance, CollectLimits};
pub use cache::CacheSizes;
pub use listing::Freshness;
pub use resolve::tag as resolve_tag;

/// Fetches evidence from registries and caches it; all reviews share it.
pub struct Collector {
    registry: CachedRegistry,
    /// Images that are read at one time.
    images: Arc<Fair>,
}

/// The most hosts that one review reads at one time, and the most images of each.
const AT_ONE_TIME: (usize, usize) = (16, 8);

/// The evidence of a review, and how much of it came from the cache.
#[derive(Debug)]
pub struct Gathered {
    /// The evidence.
    pub evidence: Evidence,
    /// The time of the oldest listing from the cache; `None` if no listing came from it.
    pub from_cache: Option<Instant>,
    /// Whether the registry was asked for any listing.
    pub asked: bool,
}

impl Collector {
    /// A collector with empty caches.
    pub fn new(registry: Arc<dyn Registry>, limits: CollectLimits, sizes: CacheSizes) -> Collector {
        Collector {
            registry: CachedRegistry::new(registry, limits, sizes),
            images: Fair::new(limits.images, Sharing::LeaveAsMuch),
        }
    }

    pub fn limits(&self) -> CollectLimits {
        self.registry.limits
    }

    /// What a review may read that must be answered by `deadline`.
    pub fn allowance(&self, deadline: Instant) -> Allowance {
        Allowance::new(&self.registry.limits, deadline)
    }

    /// Reads another registry, or the same one with another configuration, from now on. Requests under way use the registry
    /// that they began with, and caches are kept.
    pub fn replace_registry(&self, registry: Arc<dyn Registry>) {
        self.registry.replace(registry);
    }

    /// The digest of every image of a change that a requirement applies to, in the order of the change.
    pub async fn pin(
        &self,
        change: &Change,
        is_needed: impl Fn(&ImageReference) -> bool,
        deadline: Instant,
    ) -> Vec<Pin> {
        let mut wanted: BTreeMap<String, &ImageReference> = BTreeMap::new();
        for image in &change.images {
            if image.reference.digest().is_none() && is_needed(&image.reference) {
                wanted.insert(image.reference.to_string(), &image.reference);
            }
        }
        let resolved = join_all(wanted.into_iter().map(|(normal, reference)| async move {
            (
                normal,
                resolve::tag(&*self.registry.registry(), reference, deadline).await,
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

    /// The digest that a tag names now.
    pub async fn resolve(&self, image: &ImageReference, deadline: Instant) -> Collected<Digest> {
        let registry = self.registry.registry();
        let resolved = resolve::tag(&*registry, image, deadline);
        Meter::default().count(resolved).await
    }

    /// Everything attached to the subjects, verified under their anchors; and the same for their platforms where needed. Each
    /// subject gets an equal part of the allowance; a second round gives the rest to subjects that need more.
    pub async fn gather(
        &self,
        needs: &BTreeMap<Subject, ImageNeeds>,
        freshness: Freshness,
        allowance: &mut Allowance,
    ) -> Gathered {
        allowance.left.pieces = self.registry.limits.review_pieces;
        let mut wanted: Vec<_> = needs.iter().collect();
        let mut gathered = Gathered {
            evidence: Evidence::default(),
            from_cache: None,
            asked: false,
        };
        for _round in 0..2 {
            let part = allowance.left.over(wanted.len());
            let read = self
                .read(&wanted, freshness, part, allowance.deadline)
                .await;
            let mut short = Vec::new();
            for ((subject, wanted), read) in wanted.into_iter().zip(read) {
                let is_short = read.budgets.iter().any(Budget::was_short);
                for budget in &read.budgets {
                    let mut spent = budget.spent();
                    if is_short {
                        // The subject is read again from the start.
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

    /// Reads subjects: several hosts at one time, and several images of each, so that a slow host does not block others.
    async fn read(
        &self,
        needs: &[(&Subject, &ImageNeeds)],
        freshness: Freshness,
        part: Amounts,
        deadline: Instant,
    ) -> Vec<Read> {
        let mut hosts: BTreeMap<&str, Vec<(usize, &Subject, &ImageNeeds)>> = BTreeMap::new();
        for (at, (subject, needs)) in needs.iter().enumerate() {
            let host = subject.repository.registry();
            hosts.entry(host).or_default().push((at, subject, needs));
        }
        let mut of_hosts = Vec::new();
        for (host, images) in hosts {
            let mut of_images = Vec::new();
            for (at, subject, needs) in images {
                let read = async move {
                    let seat = timeout_at(deadline, self.images.take(1, host));
                    let read = match seat.await {
                        Ok(_seat) => {
                            let read = self.subject(subject, needs, freshness, part, deadline);
                            read.boxed().await
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

    /// Reads one subject, and its platforms where needed.
    async fn subject(
        &self,
        subject: &Subject,
        needs: &ImageNeeds,
        freshness: Freshness,
        part: Amounts,
        deadline: Instant,
    ) -> Read {
        let recent = Instant::now().checked_sub(self.registry.limits.recent);
        let freshness = match (freshness, recent) {
            (Freshness::FromCache, Some(recent)) if needs.can_hurt => Freshness::Recent(recent),
            _ => freshness,
        };
        let (own, rest) = match needs.platforms {
            true => (part.over(2), part.less(part.over(2))),
            false => (part, Amounts::default()),
        };
        let mut read = Read::default();
        let readers = self.readers(subject, needs, own, deadline);
        read.about(subject, readers, freshness).await;
        if needs.platforms {
            let index = platforms::index(&self.registry, subject, deadline).await;
            let of_platforms = platforms::of(subject, &index);
            let each = rest.over(of_platforms.len());
            let mut about = Vec::new();
            for platform in &of_platforms {
                let readers = self.readers(platform, needs, each, deadline);
                about.push(async move {
                    let mut read = Read::default();
                    read.about(platform, readers, freshness).await;
                    read
                });
            }
            let about = stream::iter(about).buffered(AT_ONE_TIME.1);
            for of_platform in about.collect::<Vec<_>>().await {
                read.about.extend(of_platform.about);
                read.budgets.extend(of_platform.budgets);
            }
            read.index = Some(index);
        }
        read
    }

    fn readers<'a>(
        &'a self,
        subject: &'a Subject,
        needs: &'a ImageNeeds,
        part: Amounts,
        deadline: Instant,
    ) -> Vec<SubjectReader<'a>> {
        SubjectReader::each(&self.registry, subject, needs, part, deadline)
    }

    /// Reads again before a denial: listings from the cache that are older than `since`. To explain the denial, it also looks
    /// up, for images without evidence, whether the digest is a platform of the index that the tag names, and whether platforms
    /// of the image carry evidence. Places that were asked after `since` are not asked again.
    pub async fn revalidate(
        &self,
        promotion: &Promotion,
        needs: &BTreeMap<Subject, ImageNeeds>,
        gathered: Gathered,
        since: Instant,
        allowance: &mut Allowance,
    ) -> Evidence {
        let old = gathered.from_cache.is_some_and(|asked| asked < since);
        if !old && !gathered.asked {
            return gathered.evidence;
        }
        let deadline = allowance.deadline;
        let part = allowance
            .left
            .over(platforms::EXPLAINED * platforms::EXPLAINED_PLATFORMS);
        let within =
            platforms::parent_indexes(&self.registry, promotion, &gathered.evidence, deadline);
        let asked = async {
            match old {
                true => {
                    let freshness = Freshness::AskedSince(since);
                    Some(self.gather(needs, freshness, allowance).await.evidence)
                }
                false => None,
            }
        };
        let on_platforms =
            platforms::platform_evidence(&self.registry, needs, &gathered.evidence, part, deadline);
        let (asked, within, on_platforms) = futures::join!(asked, within, on_platforms);
        let mut evidence = Evidence {
            within,
            ..asked.unwrap_or(gathered.evidence)
        };
        for (subject, index, platforms) in on_platforms {
            evidence.indexes.entry(subject).or_insert(index);
            for (platform, collected) in platforms {
                evidence.images.entry(platform).or_insert(collected);
            }
        }
        evidence
    }
}

impl Gathered {
    fn add(&mut self, subject: &Subject, read: Read) {
        let index = read.index.map(|index| (subject.clone(), index));
        self.evidence.indexes.extend(index);
        for (subject, read) in read.about {
            let SubjectEvidence {
                collected,
                age,
                last_listed,
                with_earlier,
            } = read;
            self.asked |= age.asked;
            self.from_cache = [self.from_cache, age.from_cache]
                .into_iter()
                .flatten()
                .min();
            let before = self.evidence.images.get(&subject).map(pieces);
            // The second of two rounds may have been cut off by the deadline.
            if before.is_none_or(|before| before <= pieces(&collected)) {
                let listed = &mut self.evidence.last_listed;
                listed.remove(&subject);
                listed.extend(last_listed.map(|age| (subject.clone(), age)));
                let earlier = &mut self.evidence.with_earlier;
                earlier.remove(&subject);
                earlier.extend(with_earlier.map(|it| (subject.clone(), it)));
                self.evidence.images.insert(subject, collected);
            }
        }
    }
}

/// The number of pieces that were read.
fn pieces(collected: &Collected<Arc<ImageEvidence>>) -> usize {
    collected.value().map_or(0, |evidence| {
        evidence.signatures.len() + evidence.statements.len() + evidence.unaccepted.len()
    })
}

/// The result of reading one subject, and its platforms.
#[derive(Default)]
struct Read {
    index: Option<Collected<Option<Index>>>,
    about: Vec<(Subject, SubjectEvidence)>,
    budgets: Vec<Budget>,
}

impl Read {
    async fn about(
        &mut self,
        subject: &Subject,
        readers: Vec<SubjectReader<'_>>,
        freshness: Freshness,
    ) {
        let about = attached::collect(&readers, freshness).await;
        self.about.push((subject.clone(), about));
        let budgets = readers.into_iter().map(|reader| reader.budget);
        self.budgets.extend(budgets);
    }

    /// The result without reading: too many images are read at this moment.
    fn shed(subject: &Subject) -> Read {
        shed("images");
        let why =
            format!("too much evidence is read at this moment; `{subject}` was not looked at");
        let about = SubjectEvidence {
            collected: Collected::Unavailable(Unavailability(why)),
            age: Age::default(),
            last_listed: None,
            with_earlier: None,
        };
        Read {
            about: vec![(subject.clone(), about)],
            ..Read::default()
        }
    }
}
