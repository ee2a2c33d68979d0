//! What is known about the manifests attached to a digest. Each place is kept separately: a place that fails does not hide the
//! others, and the others are not asked again.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use promotion_gate_core::gate::{Digest, Unavailability};
use tokio::time::Instant;

use crate::oci::{Attached, AttachedManifest, Manifest, Repository, Via};

/// Which cached listings may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Any listing: verified evidence stays verified.
    FromCache,
    /// A listing that was asked for after this time, even if there was no answer.
    AskedSince(Instant),
    /// The same, without waiting to the deadline where the listing of before was complete: that one may serve.
    Recent(Instant),
}

/// The key of a listing. With another credential, the registry is asked again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ListingKey {
    pub(super) repository: Repository,
    pub(super) digest: Digest,
    pub(super) credential: String,
}

/// What is known about the manifests attached to a digest, by place.
#[derive(Clone, Debug, Default)]
pub(super) struct Listing {
    /// In the order of [`Via::ALL`].
    places: [Place; 4],
    /// Manifests that were known before and are not listed any more. They count until every place has answered.
    gone: Vec<Arc<AttachedManifest>>,
    /// Each manifest once, in reading order.
    pub(super) attached: Arc<Vec<Arc<AttachedManifest>>>,
}

/// What is known about one place.
#[derive(Clone, Debug, Default)]
struct Place {
    attached: Vec<Arc<AttachedManifest>>,
    /// What was left out, if a limit was reached.
    cut: Option<String>,
    /// Whether a registry answered.
    answered: bool,
    /// Look-ups that the registry does not support.
    unsupported: Vec<Unavailability>,
    /// The time of the last look-up.
    asked: Option<Instant>,
    /// The failure of the last look-up.
    failed: Option<Failed>,
    /// The time of the last answer with everything in this place. What was found then is among `attached`.
    complete: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Failed {
    why: String,
    /// The number of failures in a row.
    times: u32,
    /// When the place is asked again even if no review needs it.
    again: Instant,
}

/// The result of asking one place.
#[derive(Debug)]
pub(super) struct PlaceAnswer {
    pub(super) place: Via,
    pub(super) asked: Instant,
    pub(super) attached: Vec<Arc<AttachedManifest>>,
    pub(super) cut: Option<String>,
    /// Whether a registry answered.
    answered: bool,
    /// Look-ups that the registry does not support ([`Attached::unsupported`]).
    unsupported: Vec<Unavailability>,
    pub(super) unavailability: Option<String>,
}

/// The largest manifest that is kept in a listing, by its size in memory; of a larger one, only the digest is kept.
const GIVEN: usize = 64 << 10;
/// The most entries that are kept of a place with a partial answer.
const ENTRIES: usize = 1024;
/// How long a place that failed is not asked again: at first, and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

impl PlaceAnswer {
    pub(super) fn new(place: Via, asked: Instant, found: Attached) -> PlaceAnswer {
        let slim = |mut item: AttachedManifest| {
            let given = item.manifest.filter(|given| given.weight() <= GIVEN);
            item.manifest = given.as_ref().map(Manifest::copied);
            Arc::new(item)
        };
        let unavailability: Vec<_> = found
            .unavailability
            .iter()
            .map(ToString::to_string)
            .collect();
        PlaceAnswer {
            place,
            asked,
            attached: found.listing.into_iter().map(slim).collect(),
            cut: found.cut,
            answered: found.answered,
            unsupported: found
                .unsupported
                .iter()
                .map(|it| Unavailability(it.to_string()))
                .collect(),
            unavailability: (!unavailability.is_empty()).then(|| unavailability.join("; ")),
        }
    }
}

impl Failed {
    fn again(before: Option<&Failed>, why: &str, now: Instant) -> Failed {
        let times = before.map_or(1, |before| before.times.saturating_add(1));
        let (first, most) = BACK_OFF;
        let wait = first
            .saturating_mul(1 << (times - 1).min(16))
            .min(most)
            .as_secs_f64();
        // A random time between half of the wait and all of it, so that places that failed together are not asked together.
        let seed = RandomState::new().hash_one(times) % 1000;
        let part = 0.5 + f64::from(u32::try_from(seed).unwrap_or_default()) / 2000.0;
        Failed {
            why: why.to_owned(),
            times,
            again: now + Duration::from_secs_f64(wait * part),
        }
    }
}

impl fmt::Display for ListingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}@{}`", self.repository, self.digest)
    }
}

impl Listing {
    /// The listing with the answer of a place. A place without an answer keeps its known entries.
    pub(super) fn with(&self, answer: &PlaceAnswer) -> Listing {
        let mut places = self.places.clone();
        let at = Via::ALL.iter().position(|via| *via == answer.place);
        let Some(place) = at.and_then(|at| places.get_mut(at)) else {
            return self.clone();
        };
        let mut attached = answer.attached.clone();
        let mut cut = answer.cut.clone();
        let is_whole = cut.is_none() && answer.unsupported.is_empty();
        let mut complete = is_whole.then_some(answer.asked);
        let failed = answer.unavailability.as_ref().map(|why| {
            attached.extend(place.attached.iter().cloned());
            attached = merged(&attached);
            complete = place.complete.filter(|_| attached.len() <= ENTRIES);
            attached.truncate(ENTRIES);
            cut = cut.take().or(place.cut.take());
            Failed::again(place.failed.as_ref(), why, answer.asked)
        });
        *place = Place {
            attached,
            cut,
            answered: answer.answered,
            unsupported: answer.unsupported.clone(),
            asked: Some(answer.asked),
            failed,
            complete,
        };
        let failed = places.iter().any(|place| place.failed.is_some());
        let gone = if failed {
            self.gone.clone()
        } else {
            Vec::new()
        };
        self.of(places, gone)
    }

    /// The listing with all entries known before; `None` if every place has answered or no entry is missing.
    pub(super) fn keeping(&self, before: &Listing) -> Option<Listing> {
        self.unavailabilities().next()?;
        let listed: HashSet<_> = self.attached.iter().map(|item| &item.digest).collect();
        let before = before.attached.iter();
        let gone = before.filter(|item| !listed.contains(&item.digest));
        let gone: Vec<_> = gone.chain(&self.gone).take(ENTRIES).cloned().collect();
        (gone.len() > self.gone.len()).then(|| self.of(self.places.clone(), gone))
    }

    fn of(&self, places: [Place; 4], gone: Vec<Arc<AttachedManifest>>) -> Listing {
        let all = places.iter().flat_map(|place| &place.attached);
        let all = merged(all.chain(&gone));
        let same = all.len() == self.attached.len()
            && all.iter().zip(&*self.attached).all(|(new, old)| {
                new.digest == old.digest && new.manifest.is_some() == old.manifest.is_some()
            });
        // Readings of the same list stay valid, because they are compared by pointer.
        let attached = match same {
            true => Arc::clone(&self.attached),
            false => Arc::new(all),
        };
        Listing {
            places,
            gone,
            attached,
        }
    }

    /// When a place was last asked.
    pub(super) fn asked(&self, via: Via) -> Option<Instant> {
        self.each().find(|(at, _)| *at == via)?.1.asked
    }

    /// Since when everything is known that was attached then; `None` if a place was never listed in full.
    pub(super) fn complete_since(&self) -> Option<Instant> {
        let each = self.places.iter().map(|place| place.complete);
        each.min().flatten()
    }

    /// The places that failed and may be asked again.
    pub(super) fn failed_places(&self) -> impl Iterator<Item = Via> {
        let now = Instant::now();
        let due = move |place: &Place| place.failed.as_ref().is_some_and(|it| it.again <= now);
        self.each()
            .filter(move |(_, place)| due(place))
            .map(|(via, _)| via)
    }

    /// Why there may be more than is known.
    pub(super) fn unavailabilities(&self) -> impl Iterator<Item = &str> {
        let failed = self.each();
        let failed = failed.filter_map(|(_, place)| Some(place.failed.as_ref()?.why.as_str()));
        // If no look-up was answered by a registry, all answers came from a login page or a portal.
        let answered = self.places.iter().any(|place| place.answered);
        let unsupported = self.unsupported().filter(move |_| !answered);
        failed.chain(unsupported.map(|it| it.0.as_str()))
    }

    /// The look-ups that the registry does not support.
    pub(super) fn unsupported(&self) -> impl Iterator<Item = &Unavailability> {
        self.each().flat_map(|(_, place)| &place.unsupported)
    }

    /// The same by place: those of tags, and that of the referrers API.
    pub(super) fn unsupported_places(&self) -> [Vec<Unavailability>; 2] {
        let of = |wanted: bool| {
            let places = self
                .each()
                .filter(move |(via, _)| (*via == Via::Referrers) == wanted);
            places
                .flat_map(|(_, place)| place.unsupported.clone())
                .collect()
        };
        [of(false), of(true)]
    }

    /// What was left out.
    pub(super) fn cut(&self) -> impl Iterator<Item = &str> {
        self.each().filter_map(|(_, place)| place.cut.as_deref())
    }

    fn each(&self) -> impl Iterator<Item = (Via, &Place)> {
        Via::ALL.into_iter().zip(&self.places)
    }

    pub(super) fn bytes(&self) -> usize {
        let said = self.unavailabilities().chain(self.cut()).map(str::len);
        weight_of(&self.attached) + said.sum::<usize>()
    }
}

/// The approximate size in memory of a list of attached manifests, in bytes.
fn weight_of(attached: &[Arc<AttachedManifest>]) -> usize {
    let each = attached.iter().map(|item| {
        let manifest = item.manifest.as_ref().map_or(0, Manifest::weight);
        size_of::<AttachedManifest>() + ENTRY_OF_LIST + item.digest.hex().len() + manifest
    });
    each.sum()
}

/// The overhead of an entry of a listing: pointers and allocations, in bytes.
const ENTRY_OF_LIST: usize = 64;

/// Each manifest once, in reading order: first manifests in cosign's own places, then manifests that are likely to be evidence,
/// then the rest.
fn merged<'a>(
    attached: impl IntoIterator<Item = &'a Arc<AttachedManifest>>,
) -> Vec<Arc<AttachedManifest>> {
    let rank = |item: &AttachedManifest| {
        let own_place = matches!(item.via, Via::SigTag | Via::AttTag);
        (!own_place, !item.likely, item.manifest.is_none())
    };
    let mut each: Vec<Arc<AttachedManifest>> = Vec::new();
    let mut places: HashMap<&Digest, usize> = HashMap::new();
    for item in attached {
        let known = places.get(&item.digest).and_then(|at| each.get_mut(*at));
        match known {
            Some(known) if rank(item) < rank(known) => *known = Arc::clone(item),
            Some(_) => {}
            None => {
                places.insert(&item.digest, each.len());
                each.push(Arc::clone(item));
            }
        }
    }
    each.sort_by_key(|item| rank(item));
    each
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::oci::{ErrorKind, ManifestKind, RegistryError};

    fn item(name: &str, via: Via, likely: bool, annotation: Option<usize>) -> AttachedManifest {
        let digest = Digest::sha256(name.as_bytes());
        let manifest = annotation.map(|length| Manifest {
            digest: digest.clone(),
            media_type: String::new(),
            bytes: Bytes::new(),
            kind: ManifestKind::Index {
                manifests: Vec::new(),
                subject: None,
                artifact_type: None,
                annotations: [("a".to_owned(), "x".repeat(length))].into(),
            },
        });
        AttachedManifest {
            digest,
            likely,
            via,
            manifest,
        }
    }

    fn answer(place: Via, found: impl IntoIterator<Item = AttachedManifest>) -> PlaceAnswer {
        let found = Attached {
            listing: found.into_iter().collect(),
            ..Attached::default()
        };
        PlaceAnswer::new(place, Instant::now(), found)
    }

    fn no_answer(place: Via) -> PlaceAnswer {
        let error = RegistryError::new(ErrorKind::RateLimited, "it", "too many");
        let found = Attached {
            unavailability: vec![error],
            ..Attached::default()
        };
        PlaceAnswer::new(place, Instant::now(), found)
    }

    fn digests(listing: &Listing) -> Vec<Digest> {
        let digests = listing.attached.iter().map(|item| item.digest.clone());
        digests.collect()
    }

    fn named(names: &[&str]) -> Vec<Digest> {
        let digests = names.iter().map(|name| Digest::sha256(name.as_bytes()));
        digests.collect()
    }

    #[tokio::test]
    async fn a_listing_holds_each_manifest_once_and_evidence_first() {
        let referrers = answer(
            Via::Referrers,
            [
                item("sbom", Via::Referrers, false, None),
                item("bundle", Via::Referrers, true, None),
                item("sig", Via::Referrers, false, None),
            ],
        );
        let sig = answer(Via::SigTag, [item("sig", Via::SigTag, true, Some(0))]);
        let listing = Listing::default().with(&referrers).with(&sig);
        assert_eq!(digests(&listing), named(&["sig", "bundle", "sbom"]));
        let same = listing.with(&sig);
        assert!(Arc::ptr_eq(&listing.attached, &same.attached));
        let without = listing.with(&answer(Via::Referrers, []));
        assert_eq!(digests(&without), named(&["sig"]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_place_keeps_its_listing_and_backs_off() {
        let found = [item("bundle", Via::Referrers, true, None)];
        let mut listing = Listing::default().with(&answer(Via::Referrers, found));
        assert_eq!(listing.unavailabilities().count(), 0);
        let mut waits = Vec::new();
        for _ in 0..9 {
            listing = listing.with(&no_answer(Via::Referrers));
            assert_eq!(listing.failed_places().count(), 0);
            let began = Instant::now();
            while listing.failed_places().next().is_none() {
                tokio::time::advance(Duration::from_millis(100)).await;
            }
            waits.push(began.elapsed());
        }
        assert_eq!(digests(&listing), named(&["bundle"]));
        assert_eq!(
            listing.unavailabilities().collect::<Vec<_>>(),
            ["it: too many"]
        );
        let seconds = |wait: &Duration| wait.as_secs_f64();
        assert!(
            waits
                .iter()
                .map(seconds)
                .all(|wait| (0.5..=60.1).contains(&wait))
        );
        assert!(
            seconds(&waits[0]) <= 1.1 && seconds(&waits[8]) >= 30.0,
            "{waits:?}"
        );
        let listing = listing.with(&answer(Via::Referrers, []));
        assert_eq!(
            (listing.attached.len(), listing.unavailabilities().count()),
            (0, 0)
        );
    }

    #[tokio::test]
    async fn a_listing_counts_its_bytes_and_holds_no_large_manifest() {
        let holding = |length| {
            let sig = item("sig", Via::SigTag, true, Some(length));
            Listing::default().with(&answer(Via::SigTag, [sig]))
        };
        let held = GIVEN - 2000;
        assert!(holding(held).bytes() >= held);
        assert!(holding(0).bytes() < 2_000);
        assert!(holding(GIVEN).bytes() < 2_000);
        assert_eq!(digests(&holding(GIVEN)), named(&["sig"]));
    }
}
