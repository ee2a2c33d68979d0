//! Statements that can hurt (a rejection, who the authors are, what a scanner found, what an SBOM lists, or what a VEX document takes
//! back) and that this process verified once. They count for their image also after they were deleted from the registry, so that
//! deleting them helps nobody.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use jiff::Timestamp;
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use promotion_gate_core::attest::VerifiedStatement;
use promotion_gate_core::attest::predicate::{self, Predicate, is_sbom, is_scan, is_vex};
use promotion_gate_core::gate::{
    Collected, Digest, EvidenceSource, HeardSigners, ImageEvidence, Subject, Unavailability,
};

use super::keys::{Anchors, ENTRY, FactKey, weight};

/// The room for the statements of one image. Each kind has its own, so that many of one kind do not push out another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Scans,
    Sboms,
    Vex,
    /// Provenance, change records, rejections and ends of emergency changes.
    Others,
    /// Of signers whom the policies of a review do not listen to. A policy or a directory that changes later may, so a few are
    /// remembered; what does not fit changes nothing, since otherwise everyone who may push could make the evidence incomplete.
    Unheard,
}

impl Room {
    fn of(statement: &VerifiedStatement, is_heard: bool) -> Room {
        match statement.predicate_type() {
            _ if !is_heard => Room::Unheard,
            kind if is_scan(kind) => Room::Scans,
            kind if is_sbom(kind) => Room::Sboms,
            kind if is_vex(kind) => Room::Vex,
            _ => Room::Others,
        }
    }

    /// The most statements, and the most bytes of them.
    fn most(self) -> (usize, usize) {
        match self {
            Room::Scans | Room::Sboms => (16, 8 << 20),
            Room::Vex => (64, 4 << 20),
            Room::Others => (64, 1 << 20),
            Room::Unheard => (16, 256 << 10),
        }
    }
}

/// The most statements of one image that did not fit and of which it is known whether they are still attached.
const UNFIT: usize = 512;

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

    /// The part of it that is remembered. What only helps has to be attached.
    fn to_remember(&self) -> Seen {
        match self.statement.only_what_can_hurt() {
            Some(part) => Seen {
                statement: Arc::new(part),
                ..self.clone()
            },
            None => self.clone(),
        }
    }

    /// Whether the other statement need not be remembered beside this one, since it can deny nothing that this one does not deny.
    fn replaces(&self, other: &Seen) -> bool {
        let (new, old) = (&self.statement, &other.statement);
        let is_by_same = self.key.anchor == other.key.anchor
            && new.subject() == old.subject()
            && new.transparency() <= old.transparency()
            && new.signer().is_in_another_run(old.signer());
        if !is_by_same {
            return false;
        }
        if new.digest() == old.digest() && new.times() == old.times() {
            return true;
        }
        let signed = (new.made_at(Timestamp::MAX), old.made_at(Timestamp::MAX));
        let (kind, other_kind) = (new.predicate_type(), old.predicate_type());
        match (new.predicate(), old.predicate()) {
            // Of one scanner, only the newest scan counts. A scan without a verified time counts always.
            (Predicate::Scan(scan), Predicate::Scan(before)) => {
                let made = (new.made_at(scan.at), old.made_at(before.at));
                scan.replaces(before) && is_later(made)
            }
            (Predicate::Sbom(bill), Predicate::Sbom(before)) => {
                signed.0 >= signed.1 && bill.lists_all_of(before)
            }
            (Predicate::Sbom(_), Predicate::Unreadable(_)) => {
                is_sbom(other_kind) && is_later(signed)
            }
            (Predicate::Vex(document), Predicate::Vex(before)) => signed
                .0
                .zip(signed.1)
                .is_some_and(|(new, old)| document.takes_back_all_of(new, before, old)),
            (Predicate::Unreadable(_), Predicate::Unreadable(_)) => {
                let is_report = |kind| is_scan(kind) || is_sbom(kind) || is_vex(kind);
                kind == other_kind && is_report(kind) && is_later(signed)
            }
            _ => false,
        }
    }

    /// Whether the statement is a rejection, the end of an emergency change, or one that cannot be read and could be either.
    fn is_rejection(&self) -> bool {
        let kind = self.statement.predicate_type();
        let by_people = predicate::is_approval(kind) || predicate::is_emergency(kind);
        by_people && self.statement.predicate().can_hurt()
    }
}

/// Whether both times are known, and the first is the later one.
fn is_later(times: (Option<Timestamp>, Option<Timestamp>)) -> bool {
    matches!(times, (Some(new), Some(old)) if new > old)
}

/// The statements of all images. Those of the images that were not read for the longest time are forgotten first.
pub(super) struct SeenStatements {
    of_images: Cache<Subject, Arc<OfImage>>,
    /// Scans, SBOMs and VEX documents: they are large, and must not push out rejections.
    reports: Cache<Subject, Arc<OfImage>>,
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

/// A statement that is remembered.
#[derive(Clone, Debug)]
struct Remembered {
    seen: Seen,
    room: Room,
    bytes: usize,
    /// When it was first seen.
    at: Timestamp,
}

#[derive(Clone, Debug, Default)]
struct OfImage {
    statements: Vec<Remembered>,
    /// The statements that did not fit, of signers whom policies listen to.
    unfit: HashSet<FactKey>,
    /// Whether there were more of these than are known.
    overflows: bool,
}

/// A statement that was read, and whether the policies of the review listen to its signer.
type Read<'r> = (&'r Seen, bool);

impl OfImage {
    fn bytes(&self) -> usize {
        let statements: usize = self.statements.iter().map(|it| it.bytes).sum();
        statements + self.unfit.len() * ENTRY
    }

    /// Whether a statement of this size fits if it takes the place of those that it replaces.
    fn has_room_for(&self, seen: &Seen, room: Room, bytes: usize) -> bool {
        let others = self.in_room(room).filter(|it| !seen.replaces(&it.seen));
        let (count, sum) = others.fold((1, bytes), |(count, sum), it| (count + 1, sum + it.bytes));
        let (most, most_bytes) = room.most();
        count <= most && sum <= most_bytes
    }

    fn in_room(&self, room: Room) -> impl Iterator<Item = &Remembered> {
        self.statements.iter().filter(move |it| it.room == room)
    }

    /// Whether this very statement is remembered, or known not to fit.
    fn has(&self, seen: &Seen) -> bool {
        let mut known = self.statements.iter();
        known.any(|old| old.seen.key == seen.key) || self.unfit.contains(&seen.key)
    }

    fn is_known(&self, seen: &Seen, room: Room) -> bool {
        self.has(seen) || self.in_room(room).any(|old| old.seen.replaces(seen))
    }

    /// Whether remembering a statement would change anything.
    fn is_news(&self, (seen, is_heard): Read<'_>) -> bool {
        let room = Room::of(&seen.statement, is_heard);
        let may_fit = || {
            let part = seen.to_remember();
            self.has_room_for(&part, room, part.bytes())
        };
        !self.is_known(seen, room) && (is_heard && !self.overflows || may_fit())
    }

    fn add(&mut self, (seen, is_heard): Read<'_>, now: Timestamp) {
        let room = Room::of(&seen.statement, is_heard);
        let seen = seen.to_remember();
        let bytes = seen.bytes();
        if !self.has_room_for(&seen, room, bytes) {
            if is_heard && self.unfit.len() < UNFIT {
                self.unfit.insert(seen.key);
            } else {
                self.overflows |= is_heard;
            }
            return;
        }
        self.statements
            .retain(|old| old.room != room || !seen.replaces(&old.seen));
        self.statements.push(Remembered {
            seen,
            room,
            bytes,
            at: now,
        });
    }

    /// Whether a statement that did not fit may have been deleted.
    fn has_lost(&self, read: &[&Seen], anchors: &Anchors) -> bool {
        let is_read = |key: &FactKey| read.iter().any(|seen| seen.key == *key);
        let mut unfit = self.unfit.iter();
        self.overflows || unfit.any(|key| anchors.contains_key(&key.anchor) && !is_read(key))
    }
}

/// The evidence together with what is remembered and was not read now; `None` if that is the same.
fn with_earlier(
    known: [&OfImage; 3],
    subject: &Subject,
    collected: &Collected<Arc<ImageEvidence>>,
    read: &[&Seen],
    anchors: &Anchors,
) -> Option<Earlier> {
    let mut gone: Vec<&Remembered> = Vec::new();
    for old in known.iter().flat_map(|it| &it.statements) {
        let key = &old.seen.key;
        let is_there = read.iter().any(|new| new.key == *key);
        // A rejection is remembered twice.
        let is_listed = gone.iter().any(|it| it.seen.key == *key);
        if anchors.contains_key(&key.anchor) && !is_there && !is_listed {
            gone.push(old);
        }
    }
    let [of_image, reports, _] = known;
    let is_cut = of_image.has_lost(read, anchors) || reports.has_lost(read, anchors);
    if gone.is_empty() && !is_cut {
        return None;
    }
    let mut evidence = ImageEvidence::clone(collected.value()?);
    evidence.statements.extend(gone.into_iter().map(|old| {
        let source = format!(
            "{}, no longer found, seen at {:.0}",
            old.seen.source, old.at
        );
        (EvidenceSource(source), Arc::clone(&old.seen.statement))
    }));
    let mut unavailabilities = collected.unavailabilities().to_vec();
    if is_cut {
        unavailabilities.insert(0, Unavailability(format!(
            "`{subject}` carried more provenance, change records, rejections, scans, SBOMs and VEX documents than are remembered of one image, and some of them are not attached any more; attach them again, or build a new image, or delete what does not belong to this one and restart the gate; limit who may push to `{}`",
            subject.repository
        )));
    }
    let evidence = Arc::new(evidence);
    Some(Earlier {
        collected: match unavailabilities.is_empty() {
            true => Collected::Known(evidence),
            false => Collected::Partial(evidence, unavailabilities),
        },
        is_cut,
    })
}

impl SeenStatements {
    /// Memory of so many bytes, twice for what can reject and once for reports.
    pub(super) fn new(bytes: u64, of_reports: u64) -> SeenStatements {
        SeenStatements {
            of_images: cache(bytes),
            reports: cache(of_reports),
            rejections: cache(bytes),
        }
    }

    /// Remembers the statements that were read now. Returns the evidence together with those of before that were not found now,
    /// under these anchors; `None` if that is the same.
    pub(super) async fn together(
        &self,
        subject: &Subject,
        collected: &Collected<Arc<ImageEvidence>>,
        read: &[&Seen],
        (anchors, heard): (&Anchors, Option<&HeardSigners>),
    ) -> Option<Earlier> {
        let is_heard = |seen: &Seen| heard.is_none_or(|heard| heard.hear(&seen.statement));
        let is_report = |seen: &&Seen| {
            let kind = seen.statement.predicate_type();
            is_scan(kind) || is_sbom(kind) || is_vex(kind)
        };
        let (reports, others): (Vec<&Seen>, Vec<&Seen>) = read.iter().copied().partition(is_report);
        let of_image = remember(&self.of_images, subject, &others, is_heard).await;
        let reports = remember(&self.reports, subject, &reports, is_heard).await;
        let rejections = others.iter().filter(|seen| seen.is_rejection());
        let rejections = rejections.map(|seen| Seen {
            source: EvidenceSource(format!("{} in `{}`", seen.source, subject.repository)),
            ..(*seen).clone()
        });
        let rejections: Vec<_> = rejections.collect();
        let rejections: Vec<_> = rejections.iter().collect();
        let elsewhere = remember(&self.rejections, &subject.digest, &rejections, is_heard).await;
        let known = [&*of_image, &*reports, &*elsewhere];
        with_earlier(known, subject, collected, read, anchors)
    }
}

fn cache<K: Hash + Eq + Send + Sync + 'static>(bytes: u64) -> Cache<K, Arc<OfImage>> {
    Cache::builder()
        .weigher(|_, of_image: &Arc<OfImage>| weight(of_image.bytes()))
        .max_capacity(bytes)
        .eviction_policy(EvictionPolicy::lru())
        .build()
}

/// Adds statements to those that are remembered under a key, and returns all of them.
async fn remember<K: Hash + Eq + Clone + Send + Sync + 'static>(
    cache: &Cache<K, Arc<OfImage>>,
    key: &K,
    read: &[&Seen],
    is_heard: impl Fn(&Seen) -> bool,
) -> Arc<OfImage> {
    let known = cache.get(key).await.unwrap_or_default();
    if read.iter().all(|seen| known.has(seen)) {
        return known;
    }
    let read: Vec<_> = read.iter().map(|seen| (*seen, is_heard(seen))).collect();
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
