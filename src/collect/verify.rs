//! One piece of evidence → facts, verified under each anchor, once for all reviews that wait for it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use promotion_gate_core::attest::media_type::{BUNDLE_PREFIX, ENVELOPE, SIMPLE_SIGNING, STATEMENT};
use promotion_gate_core::attest::unaccepted::MALFORMED;
use promotion_gate_core::attest::{
    self, Anchor, AnchorId, KeyFingerprint, KeyRing, Material, UnacceptedReason,
};
use promotion_gate_core::gate::{Digest, HeardSigners, ImageNeeds, Subject};
use tokio::time::{Instant, timeout_at};

use super::budget::{Amounts, Budget};
use super::cache::Fact;
use super::keys::{Anchors, FactKey, PieceKey, SignerKey};
use super::registry::{CachedRegistry, Unread, late};
use crate::oci::Descriptor;

/// The budget counts so many keys that are tried as one verification. A certificate's verification, with its chain and log
/// entry, takes as long as some ten of them.
const KEYS_OF_ONE_VERIFICATION: usize = 16;

/// The reading of one subject in one repository: under which anchors, and within which limits.
pub(super) struct SubjectReader<'a> {
    pub(super) registry: &'a CachedRegistry,
    pub(super) subject: &'a Subject,
    /// The digest of the subject in the repository that is read: the image's own, or a second one with evidence alone.
    pub(super) at: Subject,
    pub(super) anchors: &'a Anchors,
    /// Whose statements can hurt; `None` if everyone's may.
    pub(super) heard: Option<&'a HeardSigners>,
    /// The keys of the anchors.
    keys: Arc<KeyRing>,
    pub(super) budget: Budget,
    pub(super) deadline: Instant,
}

impl<'a> SubjectReader<'a> {
    /// A reader for each repository that may hold evidence of the subject, with an equal part of `part`.
    pub(super) fn each(
        registry: &'a CachedRegistry,
        subject: &'a Subject,
        needs: &'a ImageNeeds,
        part: Amounts,
        deadline: Instant,
    ) -> Vec<SubjectReader<'a>> {
        let own = &subject.repository;
        let second = registry.registry().evidence_repository(own);
        let repositories: Vec<_> = [own.clone()].into_iter().chain(second).collect();
        let part = part.over(repositories.len());
        let keys = Arc::new(KeyRing::of(needs.anchors.values()));
        let reader = |repository| SubjectReader {
            registry,
            subject,
            at: Subject {
                repository,
                digest: subject.digest.clone(),
            },
            anchors: &needs.anchors,
            heard: needs.heard.as_deref(),
            keys: Arc::clone(&keys),
            budget: Budget::of(part),
            deadline,
        };
        repositories.into_iter().map(reader).collect()
    }

    /// Whether the image's own repository is read.
    pub(super) fn is_own(&self) -> bool {
        self.at == *self.subject
    }
}

/// Whether a layer of this media type is evidence in a supported form.
pub(super) fn is_evidence(media_type: &str) -> bool {
    media_type.starts_with(BUNDLE_PREFIX)
        || [SIMPLE_SIGNING, ENVELOPE, STATEMENT].contains(&media_type)
}

/// Verifies one piece of evidence under the anchors. If all results are cached, the bytes are not fetched.
///
/// # Errors
/// Why it could not be read; nothing where the budget is empty.
pub(super) async fn facts(
    reader: &SubjectReader<'_>,
    layer: &Descriptor,
) -> Result<Vec<(FactKey, Fact)>, Option<Unread>> {
    let mut piece = Piece {
        reader,
        layer,
        key: piece_key(reader, layer).await?,
        bytes: None,
    };
    let (of_keys, of_roots): (Vec<_>, Vec<_>) =
        (reader.anchors.iter()).partition(|(id, _)| id.is_of_key());
    let mut facts = Vec::new();
    // 1. Under trust roots: most evidence is signed with a certificate.
    for (id, root) in of_roots {
        facts.push(piece.fact(id, root).await?);
    }
    // 2. The key that made the signature, from a fact if one shows it. No other key can have made it, so that many keys cost
    //    one pass over the evidence, and none where a certificate signed.
    let shown = facts.iter().find_map(|(_, fact)| fact.signed_by());
    let signer = match shown {
        None if reader.keys.count() > 1 => piece.signer().await?,
        shown => shown,
    };
    // 3. Under that key. If no key signed, one key of each trust root says why not.
    let mut roots = BTreeSet::new();
    for (id, key) in of_keys {
        let counts = match &signer {
            Some(signer) => !id.is_of_another_key(signer),
            None => roots.insert(id.root()),
        };
        if counts {
            facts.push(piece.fact(id, key).await?);
        }
    }
    facts.sort_by(|(a, _), (b, _)| a.anchor.cmp(&b.anchor));
    Ok(facts)
}

/// What the results of a piece are cached by. Annotations are part of the material only in old formats.
async fn piece_key(
    reader: &SubjectReader<'_>,
    layer: &Descriptor,
) -> Result<PieceKey, Option<Unread>> {
    let annotations = match layer.media_type.as_str() {
        SIMPLE_SIGNING | ENVELOPE => {
            let annotations = layer.annotations.clone();
            let bytes = usize::try_from(annotation_bytes(layer)).unwrap_or(usize::MAX);
            let hash = move || {
                let written = serde_json::to_vec(&annotations).unwrap_or_default();
                Digest::sha256(&written)
            };
            let host = reader.at.repository.registry();
            let hashed = reader.registry.work.done(host, bytes, hash).await;
            hashed.ok_or_else(unfinished)?
        }
        _ => Digest::sha256(b""),
    };
    Ok(PieceKey {
        blob: layer.digest.clone(),
        media_type: layer.media_type.clone(),
        annotations,
        subject: reader.at.digest.clone(),
    })
}

fn unfinished() -> Option<Unread> {
    Some(Unread::Broken(
        "its verification ended without a result".to_owned(),
    ))
}

/// A piece of evidence while it is verified.
struct Piece<'a> {
    reader: &'a SubjectReader<'a>,
    layer: &'a Descriptor,
    key: PieceKey,
    /// `None` as long as every result came from the cache.
    bytes: Option<Bytes>,
}

impl Piece<'_> {
    /// The result under one anchor.
    async fn fact(
        &mut self,
        id: &AnchorId,
        anchor: &Anchor,
    ) -> Result<(FactKey, Fact), Option<Unread>> {
        let key = FactKey {
            piece: self.key.clone(),
            anchor: id.clone(),
        };
        let known = &self.reader.registry.caches.facts;
        if let Some(fact) = known.get(&key).await {
            return Ok((key, fact));
        }
        let bytes = self.charged_bytes(1).await?;
        let verified = verified(self.reader, key.clone(), self.layer, bytes, anchor);
        let fact = self.in_time(verified).await?;
        Ok((key, fact))
    }

    /// Which key made the signature.
    async fn signer(&mut self) -> Result<Option<KeyFingerprint>, Option<Unread>> {
        let keys = &self.reader.keys;
        let key = (self.key.clone(), keys.id().clone());
        if let Some(signer) = self.reader.registry.caches.signers.get(&key).await {
            return Ok(signer);
        }
        let cost = keys.count().div_ceil(KEYS_OF_ONE_VERIFICATION);
        let bytes = self.charged_bytes(length(cost)).await?;
        let signer = signer(self.reader, key, self.layer, bytes, cost);
        self.in_time(signer).await
    }

    /// The bytes, fetched once. The budget pays for the fetch and for verifications of all bytes.
    async fn charged_bytes(&mut self, verifications: u64) -> Result<Bytes, Option<Unread>> {
        let SubjectReader {
            registry,
            at,
            budget,
            deadline,
            ..
        } = self.reader;
        let times = if self.bytes.is_some() { 1 } else { 2 };
        let size = (self.layer.size).saturating_add(annotation_bytes(self.layer));
        let amounts = Amounts {
            pieces: 0,
            bytes: size.saturating_mul(times),
            verifications,
        };
        if !budget.take(amounts) {
            return Err(None);
        }
        if let Some(bytes) = &self.bytes {
            return Ok(bytes.clone());
        }
        let bytes = registry.blob(&at.repository, self.layer, *deadline).await?;
        Ok(self.bytes.insert(bytes).clone())
    }

    async fn in_time<T>(&self, work: impl Future<Output = Option<T>>) -> Result<T, Option<Unread>> {
        let done = timeout_at(self.reader.deadline, work).await.map_err(|_| {
            let what = format!("the verification of `{}`", self.layer.digest);
            Unread::Unavailability(late(&what))
        })?;
        done.ok_or_else(unfinished)
    }
}

/// Verifies a piece under one anchor, once for all reviews that wait for it. If no review waits any more, a verification that
/// has not begun is cancelled.
fn verified(
    reader: &SubjectReader<'_>,
    key: FactKey,
    layer: &Descriptor,
    bytes: Bytes,
    anchor: &Anchor,
) -> impl Future<Output = Option<Fact>> + use<> {
    let registry = reader.registry;
    registry.verifications.join(key.clone(), || {
        let (work, known) = (registry.work.clone(), registry.caches.facts.clone());
        let host = reader.at.repository.registry().to_owned();
        let (layer, anchor) = (layer.clone(), anchor.clone());
        async move {
            if let Some(fact) = known.get(&key).await {
                return Some(fact);
            }
            let (size, subject) = (bytes.len(), key.piece.subject.clone());
            let verify = move || attest::verify(&material(&layer, &bytes), &subject, &anchor);
            let verified = work.turn(&host, size, verify).await.unwrap_or_else(|| {
                let detail = "its verification ended without a result";
                Err(UnacceptedReason::new(MALFORMED, detail))
            });
            let fact = Fact::of(verified);
            known.insert(key, fact.clone()).await;
            Some(fact)
        }
        .boxed()
    })
}

/// Looks for the key that made the signature of a piece, in the same way. It takes as long as `cost` verifications.
fn signer(
    reader: &SubjectReader<'_>,
    key: SignerKey,
    layer: &Descriptor,
    bytes: Bytes,
    cost: usize,
) -> impl Future<Output = Option<Option<KeyFingerprint>>> + use<> {
    let registry = reader.registry;
    registry.signers.join(key.clone(), || {
        let (work, known) = (registry.work.clone(), registry.caches.signers.clone());
        let host = reader.at.repository.registry().to_owned();
        let (layer, keys) = (layer.clone(), Arc::clone(&reader.keys));
        async move {
            if let Some(signer) = known.get(&key).await {
                return Some(signer);
            }
            let (size, subject) = (bytes.len().saturating_mul(cost), key.0.subject.clone());
            let find = move || keys.signer(&material(&layer, &bytes), &subject);
            let signer = work.turn(&host, size, find).await?;
            known.insert(key, signer.clone()).await;
            Some(signer)
        }
        .boxed()
    })
}

fn material(layer: &Descriptor, bytes: &[u8]) -> Material {
    let annotations = layer.annotations.clone();
    match layer.media_type.as_str() {
        SIMPLE_SIGNING => Material::SimpleSigning {
            payload: bytes.to_vec(),
            annotations,
        },
        ENVELOPE => Material::Attestation {
            envelope: bytes.to_vec(),
            annotations,
        },
        _ => Material::Bundle(bytes.to_vec()),
    }
}

/// The bytes of a layer's annotations.
pub(super) fn annotation_bytes(layer: &Descriptor) -> u64 {
    let each = layer.annotations.iter();
    let bytes = each.map(|(key, value)| key.len() + value.len()).sum();
    length(bytes)
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
