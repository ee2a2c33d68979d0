//! What is cached, and by which key: bytes by digest, listings by the credential that may read them, facts by the material that
//! they were verified from, and the evidence of one listing. Verdicts, findings and infrastructure errors are never cached.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use moka::Expiry;
use moka::future::Cache;
use promotion_gate_core::attest::{
    AnchorId, KeyFingerprint, UnacceptedReason, Verified, VerifiedSignature, VerifiedStatement,
};
use promotion_gate_core::gate::{Digest, ImageEvidence};

use super::keys::{ENTRY, FactKey, SignerKey, weight};
use super::listing::{Listing, ListingKey};
use super::seen::{Seen, SeenStatements};
use crate::oci::{AttachedManifest, Manifest, Repository};

/// How much is cached.
#[derive(Clone, Copy, Debug)]
pub struct CacheSizes {
    /// Bytes of manifests and blobs.
    pub content_bytes: u64,
    /// Bytes of listings of what is attached to an image.
    pub listing_bytes: u64,
    /// Bytes of verified facts, of the reasons why evidence is not accepted, and of which key made a signature.
    pub fact_bytes: u64,
    /// Bytes of the evidence of listings, sorted by image.
    pub reading_bytes: u64,
    /// Bytes of statements that can hurt, of images from which they may have been deleted.
    pub seen_bytes: u64,
    /// The same of scans, SBOMs and VEX documents.
    pub seen_report_bytes: u64,
    /// How long evidence that was not accepted is not verified again. The evidence of a listing with such a piece is cached for
    /// the same time.
    pub unaccepted_age: Duration,
}

impl Default for CacheSizes {
    fn default() -> CacheSizes {
        CacheSizes {
            content_bytes: 64 << 20,
            listing_bytes: 24 << 20,
            fact_bytes: 48 << 20,
            reading_bytes: 48 << 20,
            seen_bytes: 16 << 20,
            seen_report_bytes: 32 << 20,
            unaccepted_age: Duration::from_secs(60),
        }
    }
}

/// The result of verifying one piece of evidence under one anchor.
#[derive(Clone, Debug)]
pub(super) enum Fact {
    Signature(Arc<VerifiedSignature>),
    Statement(Arc<VerifiedStatement>),
    Unaccepted(UnacceptedReason),
}

/// The most characters of a reason that are kept: it may quote text of an attacker.
const MAXIMUM_DETAIL: usize = 500;

impl Fact {
    pub(super) fn of(verified: Result<Verified, UnacceptedReason>) -> Fact {
        match verified {
            Ok(Verified::Signature(signature)) => Fact::Signature(Arc::new(signature)),
            Ok(Verified::Statement(statement)) => Fact::Statement(Arc::new(statement)),
            Err(mut why) => {
                if let Some((end, _)) = why.detail.char_indices().nth(MAXIMUM_DETAIL) {
                    why.detail.truncate(end);
                    why.detail.push('…');
                    why.detail.shrink_to_fit();
                }
                Fact::Unaccepted(why)
            }
        }
    }

    /// The key that made the signature, if it is accepted.
    pub(super) fn signed_by(&self) -> Option<KeyFingerprint> {
        let signer = match self {
            Fact::Signature(signature) => signature.signer(),
            Fact::Statement(statement) => statement.signer(),
            Fact::Unaccepted(_) => return None,
        };
        Some(signer.key().clone())
    }

    fn bytes(&self) -> usize {
        match self {
            Fact::Signature(signature) => signature.bytes(),
            Fact::Statement(statement) => statement.bytes(),
            Fact::Unaccepted(why) => why.detail.len(),
        }
    }
}

/// The evidence of a listing under some anchors. It is used only as long as the image has the same listing.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) attached: Arc<Vec<Arc<AttachedManifest>>>,
    pub(super) evidence: Arc<ImageEvidence>,
    /// The statements in it that can hurt.
    pub(super) can_hurt: Vec<Seen>,
}

/// A listing, and the anchors that it was read under.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ReadingKey {
    pub(super) listing: ListingKey,
    pub(super) anchors: Vec<AnchorId>,
    /// Whether the image's own repository was read: sources in another one name it.
    pub(super) is_own: bool,
}

impl Reading {
    fn bytes(&self) -> usize {
        let evidence = &self.evidence;
        let signatures = evidence.signatures.iter().map(|(_, fact)| fact.bytes());
        let statements = evidence.statements.iter().map(|(_, fact)| fact.bytes());
        let unaccepted = evidence.unaccepted.iter().map(|it| it.why.detail.len());
        let pieces = signatures.chain(statements).chain(unaccepted);
        // Most of the evidence shares its bytes with the listing.
        self.attached.len() * size_of::<AttachedManifest>()
            + pieces.map(|bytes| bytes + ENTRY).sum::<usize>()
    }
}

/// All caches that reviews share.
pub(super) struct Caches {
    /// By repository too, so that a repository with evidence alone never answers for an image.
    pub(super) manifests: Cache<(Repository, Digest), Arc<Manifest>>,
    pub(super) blobs: Cache<Digest, Bytes>,
    pub(super) listings: Cache<ListingKey, Arc<Listing>>,
    pub(super) facts: Cache<FactKey, Fact>,
    /// Which key of a ring made a signature. That never changes, so an entry does not expire.
    pub(super) signers: Cache<SignerKey, Option<KeyFingerprint>>,
    pub(super) readings: Cache<ReadingKey, Arc<Reading>>,
    pub(super) seen: SeenStatements,
}

impl Caches {
    pub(super) fn new(sizes: CacheSizes) -> Caches {
        Caches {
            manifests: Cache::builder()
                .weigher(|_, manifest: &Arc<Manifest>| weight(manifest.weight()))
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
                .max_capacity(sizes.fact_bytes - sizes.fact_bytes / 8)
                .expire_after(UnacceptedExpires(sizes.unaccepted_age))
                .build(),
            signers: Cache::builder()
                .weigher(|_, _| weight(0))
                .max_capacity(sizes.fact_bytes / 8)
                .build(),
            readings: Cache::builder()
                .weigher(|key: &ReadingKey, reading: &Arc<Reading>| {
                    weight(reading.bytes() + size_of_val(key.anchors.as_slice()))
                })
                .max_capacity(sizes.reading_bytes)
                .expire_after(UnacceptedExpires(sizes.unaccepted_age))
                .build(),
            seen: SeenStatements::new(sizes.seen_bytes, sizes.seen_report_bytes),
        }
    }
}

/// A verified fact does not expire: it carries its times, and rules compare them with the time of the review. Evidence that was
/// not accepted is verified again soon.
struct UnacceptedExpires(Duration);

impl Expiry<FactKey, Fact> for UnacceptedExpires {
    fn expire_after_create(
        &self,
        _: &FactKey,
        fact: &Fact,
        _: std::time::Instant,
    ) -> Option<Duration> {
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
        _: std::time::Instant,
    ) -> Option<Duration> {
        (!reading.evidence.unaccepted.is_empty()).then_some(self.0)
    }

    fn expire_after_update(
        &self,
        key: &ReadingKey,
        reading: &Arc<Reading>,
        updated: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(key, reading, updated)
    }
}

#[cfg(test)]
mod tests {
    use promotion_gate_core::attest::unaccepted::MALFORMED;
    use promotion_gate_core::gate::{EvidenceSource, Form, UnacceptedEvidence};

    use super::*;

    fn key(name: &str) -> ListingKey {
        ListingKey {
            repository: Repository::named("registry.example/app"),
            digest: Digest::sha256(name.as_bytes()),
            credential: String::new(),
        }
    }

    fn reading(unaccepted: bool) -> Arc<Reading> {
        let mut evidence = ImageEvidence::default();
        if unaccepted {
            evidence.unaccepted.push(UnacceptedEvidence {
                source: EvidenceSource(String::new()),
                form: Form::Either,
                why: UnacceptedReason::new(MALFORMED, "why"),
            });
        }
        Arc::new(Reading {
            attached: Arc::new(Vec::new()),
            evidence: Arc::new(evidence),
            can_hurt: Vec::new(),
        })
    }

    #[tokio::test]
    async fn a_reading_with_unaccepted_evidence_expires_and_others_stay() {
        let caches = Caches::new(CacheSizes {
            unaccepted_age: Duration::ZERO,
            ..CacheSizes::default()
        });
        let key = |name| ReadingKey {
            listing: key(name),
            anchors: Vec::new(),
            is_own: true,
        };
        caches.readings.insert(key("a"), reading(false)).await;
        caches.readings.insert(key("b"), reading(true)).await;
        // Read again, with another outcome.
        caches.readings.insert(key("c"), reading(false)).await;
        caches.readings.insert(key("c"), reading(true)).await;
        let mut kept = Vec::new();
        for name in ["a", "b", "c"] {
            kept.push(caches.readings.get(&key(name)).await.is_some());
        }
        assert_eq!(kept, [true, false, false]);
    }
}
