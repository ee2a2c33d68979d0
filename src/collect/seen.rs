//! Statements that can hurt (a rejection, who the authors are, what a scanner found or a VEX document takes back) and that this process verified once. They
//! count for their image also after they were deleted from the registry, so that deleting them helps nobody.

use std::hash::Hash;
use std::sync::Arc;

use jiff::Timestamp;
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use promotion_gate_core::attest::VerifiedStatement;
use promotion_gate_core::attest::predicate::{self, Predicate};
use promotion_gate_core::gate::{
    Collected, Digest, EvidenceSource, HeardSigners, ImageEvidence, Subject, Unavailability,
};

use super::keys::{Anchors, ENTRY, FactKey, weight};

/// The most statements of one image that are remembered, and the most bytes of them. What does not fit makes the image's
/// evidence incomplete: it never takes the place of another statement.
const OF_ONE_IMAGE: (usize, usize) = (64, 1 << 20);
/// The same of signers whom the policies of a review do not listen to. A policy or a directory that changes later may, so a few are
/// remembered; what does not fit changes nothing, since otherwise everyone who may push could make the evidence incomplete.
const OF_OTHERS: (usize, usize) = (16, 256 << 10);

/// The same of vulnerability scans. Of one scanner and signer, only the newest scan is remembered, since only the newest counts.
const OF_SCANS: (usize, usize) = (16, 8 << 20);

/// A statement that can hurt.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) key: FactKey,
    pub(super) source: EvidenceSource,
    pub(super) statement: Arc<VerifiedStatement>,
}

impl Seen {
    fn bytes(&self) -> usize {
        self.statement.bytes() + self.source.0.len() + ENTRY
    }

    /// Whether the statement is a scan that is newer than the other one, by the same scanner and signer.
    fn replaces(&self, other: &Seen) -> bool {
        let (new, old) = (&self.statement, &other.statement);
        let (Predicate::Scan(scan), Predicate::Scan(before)) = (new.predicate(), old.predicate())
        else {
            return false;
        };
        let is_later = new.made_at(scan.at) > old.made_at(before.at);
        is_later
            && scan.scanner == before.scanner
            && self.key.anchor == other.key.anchor
            && new.signer().is_in_another_run(old.signer())
    }

    /// Whether the statement is a rejection, the end of an emergency change, or one that cannot be read and could be either.
    fn is_rejection(&self) -> bool {
        let kind = self.statement.predicate_type();
        let by_people = predicate::is_approval(kind) || predicate::is_emergency(kind);
        by_people && self.statement.predicate().can_hurt()
    }
}

/// The statements of all images. Those of the images that were not read for the longest time are forgotten first.
pub(super) struct SeenStatements {
    of_images: Cache<Subject, Arc<OfImage>>,
    /// Rejections by the digest that they are about: an image that is copied to another repository without a rejection is still
    /// rejected.
    rejections: Cache<Digest, Arc<OfImage>>,
}

/// The evidence of an image together with statements that are not attached any more.
pub(super) struct Earlier {
    pub(super) collected: Collected<Arc<ImageEvidence>>,
    /// Whether there may have been more.
    pub(super) is_cut: bool,
}

#[derive(Clone, Debug, Default)]
struct OfImage {
    /// Each with when it was first seen.
    statements: Vec<(Seen, Timestamp)>,
    /// The numbers and bytes of the statements: of signers whom policies listen to, and of others.
    heard: (usize, usize),
    others: (usize, usize),
    /// Those of the scans of signers whom policies listen to.
    scans: (usize, usize),
    /// Whether some statement of a signer whom policies listen to did not fit.
    overflows: bool,
}

/// A statement that was read, and whether the policies of the review listen to its signer.
type Read<'r> = (&'r Seen, bool);

impl OfImage {
    fn bytes(&self) -> usize {
        self.heard.1 + self.others.1 + self.scans.1
    }

    /// The number and bytes of the statements of the same kind if it remembered this one too, in place of those that it replaces;
    /// `None` if it does not fit.
    fn room_for(&self, (seen, is_heard): Read<'_>) -> Option<(usize, usize)> {
        let ((count, bytes), (most, most_bytes)) = match (is_heard, seen.statement.predicate()) {
            (true, Predicate::Scan(_)) => (self.scans, OF_SCANS),
            (true, _) => (self.heard, OF_ONE_IMAGE),
            (false, _) => (self.others, OF_OTHERS),
        };
        let gone = self.statements.iter().filter(|(old, _)| seen.replaces(old));
        let (count, bytes) = gone.fold((count, bytes), |(count, bytes), (old, _)| {
            (count.saturating_sub(1), bytes.saturating_sub(old.bytes()))
        });
        let with = (count + 1, bytes + seen.bytes());
        (with.0 <= most && with.1 <= most_bytes).then_some(with)
    }

    /// Whether remembering a statement would change anything.
    fn is_news(&self, read: Read<'_>) -> bool {
        let (seen, is_heard) = read;
        let mut known = self.statements.iter();
        let is_known = known.any(|(old, _)| old.key == seen.key || old.replaces(seen));
        !is_known && (self.room_for(read).is_some() || is_heard && !self.overflows)
    }

    fn add(&mut self, read: Read<'_>, now: Timestamp) {
        let (seen, is_heard) = read;
        let Some(with) = self.room_for(read) else {
            self.overflows |= is_heard;
            return;
        };
        let amount = match (is_heard, seen.statement.predicate()) {
            (true, Predicate::Scan(_)) => &mut self.scans,
            (true, _) => &mut self.heard,
            (false, _) => &mut self.others,
        };
        *amount = with;
        self.statements.retain(|(old, _)| !seen.replaces(old));
        self.statements.push((seen.clone(), now));
    }

    fn together(
        &self,
        elsewhere: &OfImage,
        subject: &Subject,
        collected: &Collected<Arc<ImageEvidence>>,
        read: &[Seen],
        anchors: &Anchors,
    ) -> Option<Earlier> {
        let own = |seen: &Seen| self.statements.iter().any(|(own, _)| own.key == seen.key);
        let elsewhere = elsewhere.statements.iter().filter(|(seen, _)| !own(seen));
        let gone = self.statements.iter().chain(elsewhere).filter(|(old, _)| {
            anchors.contains_key(&old.key.anchor) && !read.iter().any(|new| new.key == old.key)
        });
        let gone = gone.map(|(old, at)| {
            let source = format!("{}, no longer found, seen at {at:.0}", old.source);
            (EvidenceSource(source), Arc::clone(&old.statement))
        });
        let gone: Vec<_> = gone.collect();
        if gone.is_empty() && !self.overflows {
            return None;
        }
        let mut evidence = ImageEvidence::clone(collected.value()?);
        evidence.statements.extend(gone);
        let mut unavailabilities = collected.unavailabilities().to_vec();
        if self.overflows {
            let (most, bytes) = OF_ONE_IMAGE;
            unavailabilities.insert(0, Unavailability(format!(
                "`{subject}` carried more provenance, change records, scans and rejections than the {most} statements ({} KiB) and {} scans ({} MiB) that are remembered of one image, and some of them may have been deleted; build a new image, or delete what does not belong to this one and restart the gate; limit who may push to `{}`",
                bytes >> 10,
                OF_SCANS.0,
                OF_SCANS.1 >> 20,
                subject.repository
            )));
        }
        let evidence = Arc::new(evidence);
        Some(Earlier {
            collected: match unavailabilities.is_empty() {
                true => Collected::Known(evidence),
                false => Collected::Partial(evidence, unavailabilities),
            },
            is_cut: self.overflows,
        })
    }
}

impl SeenStatements {
    pub(super) fn new(bytes: u64) -> SeenStatements {
        let cache = Cache::builder()
            .weigher(|_, of_image: &Arc<OfImage>| weight(of_image.bytes()))
            .max_capacity(bytes)
            .eviction_policy(EvictionPolicy::lru());
        let rejections = Cache::builder()
            .weigher(|_, of_digest: &Arc<OfImage>| weight(of_digest.bytes()))
            .max_capacity(bytes)
            .eviction_policy(EvictionPolicy::lru());
        SeenStatements {
            of_images: cache.build(),
            rejections: rejections.build(),
        }
    }

    /// Remembers the statements that were read now. Returns the evidence together with those of before that were not found now,
    /// under these anchors; `None` if that is the same.
    pub(super) async fn together(
        &self,
        subject: &Subject,
        collected: &Collected<Arc<ImageEvidence>>,
        read: &[Seen],
        (anchors, heard): (&Anchors, Option<&HeardSigners>),
    ) -> Option<Earlier> {
        let is_heard = |seen: &Seen| heard.is_none_or(|heard| heard.hear(&seen.statement));
        let known = remember(&self.of_images, subject, read, is_heard).await;
        let rejections = read.iter().filter(|seen| seen.is_rejection());
        let rejections = rejections.map(|seen| Seen {
            source: EvidenceSource(format!("{} in `{}`", seen.source, subject.repository)),
            ..seen.clone()
        });
        let rejections: Vec<_> = rejections.collect();
        let elsewhere = remember(&self.rejections, &subject.digest, &rejections, is_heard).await;
        known.together(&elsewhere, subject, collected, read, anchors)
    }
}

/// Adds statements to those that are remembered under a key, and returns all of them.
async fn remember<K: Hash + Eq + Clone + Send + Sync + 'static>(
    cache: &Cache<K, Arc<OfImage>>,
    key: &K,
    read: &[Seen],
    is_heard: impl Fn(&Seen) -> bool,
) -> Arc<OfImage> {
    let known = cache.get(key).await.unwrap_or_default();
    let read: Vec<_> = read.iter().map(|seen| (seen, is_heard(seen))).collect();
    if !read.iter().any(|read| known.is_news(*read)) {
        return known;
    }
    let now = Timestamp::now();
    let entry = cache.entry(key.clone()).and_upsert_with(|known| {
        let known = known.map(|known| known.into_value()).unwrap_or_default();
        let mut all = OfImage::clone(&known);
        for read in read {
            if all.is_news(read) {
                all.add(read, now);
            }
        }
        std::future::ready(Arc::new(all))
    });
    entry.await.into_value()
}
