//! A subject → what is attached to it in all repositories that may hold its evidence.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use promotion_gate_core::attest::unaccepted::UNREADABLE;
use promotion_gate_core::gate::{
    Collected, ImageEvidence, Repository, UnacceptedEvidence, Unavailability,
};
use tokio::time::Instant;

use super::budget::Unavailabilities;
use super::cache::{Reading, ReadingKey};
use super::listing::{Freshness, Listing, ListingKey};
use super::reading::ListingReading;
use super::registry::{Age, late};
use super::verify::SubjectReader;

/// What is attached to one subject, as far as it is known.
pub(super) struct SubjectEvidence {
    pub(super) collected: Collected<Arc<ImageEvidence>>,
    pub(super) age: Age,
    /// How long ago all of it was listed, if nothing but the listing failed.
    pub(super) last_listed: Option<Duration>,
    /// The same together with statements that can hurt and are not attached any more; `None` if there is none.
    pub(super) with_earlier: Option<Collected<Arc<ImageEvidence>>>,
}

/// What one repository says is attached to a subject.
struct Part {
    reading: Arc<Reading>,
    age: Age,
    is_empty: bool,
    /// Since when everything is known that was listed then.
    complete_since: Option<Instant>,
    unavailabilities: Unavailabilities,
}

/// Everything that is attached to one subject in the repositories of the readers, verified under each of the anchors.
pub(super) async fn collect(
    readers: &[SubjectReader<'_>],
    freshness: Freshness,
) -> SubjectEvidence {
    let parts = join_all(readers.iter().map(|reader| part(reader, freshness))).await;
    let is_empty = parts.iter().all(|part| part.is_empty);
    let complete_since = parts.iter().map(|part| part.complete_since).min();
    let mut age = Age::default();
    let mut evidence = Vec::new();
    let mut readings = Vec::new();
    let mut unavailabilities = Unavailabilities::default();
    for part in parts {
        age = age.and(part.age);
        evidence.push(Arc::clone(&part.reading.evidence));
        readings.push(part.reading);
        unavailabilities.merge(part.unavailabilities);
    }
    let unavailabilities = unavailabilities.into_vec();
    let second = readers.get(1).map(|reader| &reader.at.repository);
    let collected = match unavailabilities.first() {
        None => Collected::Known(union(&evidence, second)),
        Some(first) if is_empty => Collected::Unavailable(first.clone()),
        Some(_) => Collected::Partial(union(&evidence, second), unavailabilities),
    };
    let last_listed = match &collected {
        Collected::Partial(_, _) => complete_since.flatten().map(|since| since.elapsed()),
        Collected::Known(_) | Collected::Unavailable(_) => None,
    };
    let earlier = match readers.first() {
        Some(reader) => {
            let seen = &reader.registry.caches.seen;
            let review = (reader.anchors, reader.heard);
            let can_hurt: Vec<_> = readings.iter().flat_map(|it| &it.can_hurt).collect();
            seen.together(reader.subject, &collected, &can_hurt, review)
                .await
        }
        None => None,
    };
    SubjectEvidence {
        collected,
        age,
        last_listed: last_listed.filter(|_| !earlier.as_ref().is_some_and(|it| it.is_cut)),
        with_earlier: earlier.map(|earlier| earlier.collected),
    }
}

/// The evidence of several repositories together.
fn union(parts: &[Arc<ImageEvidence>], second: Option<&Repository>) -> Arc<ImageEvidence> {
    let [first, rest @ ..] = parts else {
        return Arc::default();
    };
    if rest.is_empty() {
        return Arc::clone(first);
    }
    let mut all = ImageEvidence::clone(first);
    all.second_repository = second.cloned();
    for part in rest {
        all.signatures.extend_from_slice(&part.signatures);
        all.statements.extend_from_slice(&part.statements);
        all.unaccepted.extend_from_slice(&part.unaccepted);
        all.unsupported.extend_from_slice(&part.unsupported);
        all.without_referrers
            .extend_from_slice(&part.without_referrers);
        for (kind, count) in &part.others {
            *all.others.entry(kind.clone()).or_default() += count;
        }
    }
    Arc::new(all)
}

async fn part(reader: &SubjectReader<'_>, freshness: Freshness) -> Part {
    let SubjectReader {
        registry,
        at,
        deadline,
        ..
    } = reader;
    let key = ListingKey {
        credential: registry.registry().credential_id(&at.repository),
        repository: at.repository.clone(),
        digest: at.digest.clone(),
    };
    let (listing, age, unanswered) = registry.list(&key, freshness, *deadline).await;
    let mut unavailabilities = Unavailabilities::default();
    if unanswered {
        unavailabilities.add(late(&format!("what is attached to {key}")));
    }
    unavailabilities.extend(
        listing
            .unavailabilities()
            .map(|why| Unavailability(why.to_owned())),
    );
    let (reading, unread) = evidence_in(reader, key, &listing).await;
    let complete_since = listing.complete_since().filter(|_| unread.is_empty());
    unavailabilities.merge(unread);
    Part {
        reading,
        age,
        is_empty: listing.attached.is_empty(),
        complete_since,
        unavailabilities,
    }
}

/// The evidence in a listing under some anchors, and what could not be read: from the cache, or read now and cached if all of it
/// could be read. A manifest that is listed but absent may still arrive, so such a result is not cached.
async fn evidence_in(
    reader: &SubjectReader<'_>,
    key: ListingKey,
    listing: &Listing,
) -> (Arc<Reading>, Unavailabilities) {
    let readings = &reader.registry.caches.readings;
    let key = ReadingKey {
        listing: key,
        anchors: reader.anchors.keys().cloned().collect(),
        is_own: reader.is_own(),
    };
    if let Some(read) = readings.get(&key).await
        && Arc::ptr_eq(&read.attached, &listing.attached)
        && listing.unsupported_places()
            == [&read.evidence.unsupported, &read.evidence.without_referrers].map(Vec::clone)
        && listing.cut().next().is_none()
    {
        return (read, Unavailabilities::default());
    }
    let (evidence, can_hurt, unread) = ListingReading::begin(reader, listing).finish().await;
    let absent = |piece: &UnacceptedEvidence| piece.why.reason == UNREADABLE;
    let is_whole = unread.is_empty() && !evidence.unaccepted.iter().any(absent);
    let read = Arc::new(Reading {
        attached: Arc::clone(&listing.attached),
        evidence: Arc::new(evidence),
        can_hurt,
    });
    if is_whole {
        readings.insert(key, Arc::clone(&read)).await;
    }
    (read, unread)
}
