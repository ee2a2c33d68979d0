//! One piece of evidence → facts, verified under each anchor, once for all reviews that wait for it.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::FutureExt as _;
use promotion_gate_core::attest::media_type::{BUNDLE_PREFIX, ENVELOPE, SIMPLE_SIGNING, STATEMENT};
use promotion_gate_core::attest::unaccepted::MALFORMED;
use promotion_gate_core::attest::{
    self, Anchor, AnchorId, KeyFingerprint, Material, UnacceptedReason,
};
use promotion_gate_core::gate::{Digest, Subject};
use tokio::time::{Instant, timeout_at};

use super::budget::{Amounts, Budget};
use super::cache::{Fact, FactKey};
use super::registry::{CachedRegistry, Unread, late};
use crate::oci::Descriptor;

/// What evidence is verified under.
pub(super) type Anchors = BTreeMap<AnchorId, Anchor>;

/// The reading of one subject in one repository: under which anchors, and within which limits.
pub(super) struct SubjectReader<'a> {
    pub(super) registry: &'a CachedRegistry,
    pub(super) subject: &'a Subject,
    /// The digest of the subject in the repository that is read: the image's own, or a second one with evidence alone.
    pub(super) at: Subject,
    pub(super) anchors: &'a Anchors,
    pub(super) budget: Budget,
    pub(super) deadline: Instant,
}

impl<'a> SubjectReader<'a> {
    /// A reader for each repository that may hold evidence of the subject, with an equal part of `part`.
    pub(super) fn each(
        registry: &'a CachedRegistry,
        subject: &'a Subject,
        anchors: &'a Anchors,
        part: Amounts,
        deadline: Instant,
    ) -> Vec<SubjectReader<'a>> {
        let own = &subject.repository;
        let second = registry.registry().evidence_repository(own);
        let repositories: Vec<_> = [own.clone()].into_iter().chain(second).collect();
        let part = part.over(repositories.len());
        let reader = |repository| SubjectReader {
            registry,
            subject,
            at: Subject {
                repository,
                digest: subject.digest.clone(),
            },
            anchors,
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

/// Verifies one piece of evidence under every anchor without a cached result. If all results are cached, the bytes are not
/// fetched.
///
/// # Errors
/// Why it could not be read; nothing where the budget is empty.
pub(super) async fn facts(
    reader: &SubjectReader<'_>,
    layer: &Descriptor,
) -> Result<Vec<(FactKey, Fact)>, Option<Unread>> {
    let SubjectReader {
        registry,
        at: subject,
        anchors,
        budget,
        deadline,
        ..
    } = reader;
    let host = subject.repository.registry().to_owned();
    let unfinished = || {
        Some(Unread::Broken(
            "its verification ended without a result".to_owned(),
        ))
    };
    let annotations = match layer.media_type.as_str() {
        // Annotations are part of the material only in old formats.
        SIMPLE_SIGNING | ENVELOPE => {
            let annotations = layer.annotations.clone();
            let bytes = usize::try_from(annotation_bytes(layer)).unwrap_or(usize::MAX);
            let hash = move || {
                let written = serde_json::to_vec(&annotations).unwrap_or_default();
                Digest::sha256(&written)
            };
            let hashed = registry.work.done(&host, bytes, hash).await;
            hashed.ok_or_else(unfinished)?
        }
        _ => Digest::sha256(b""),
    };
    let key = |id: &AnchorId| FactKey {
        blob: layer.digest.clone(),
        media_type: layer.media_type.clone(),
        annotations: annotations.clone(),
        subject: subject.digest.clone(),
        anchor: id.clone(),
    };
    let known = &registry.caches.facts;
    let mut facts: Vec<(FactKey, Fact)> = Vec::new();
    let mut missing = Vec::new();
    // The key that made the signature, once a fact shows it. No other key can have, so that a directory of many keys costs one
    // verification where a certificate signed: trust roots come first in the order of the anchors.
    let mut signed_by: Option<KeyFingerprint> = None;
    let is_moot = |id: &AnchorId, signed_by: &Option<KeyFingerprint>| {
        let by = signed_by.as_ref();
        by.is_some_and(|by| id.is_of_another_key(by))
    };
    for (id, anchor) in anchors.iter() {
        if is_moot(id, &signed_by) {
            continue;
        }
        let key = key(id);
        match known.get(&key).await {
            Some(fact) => {
                signed_by = signed_by.or_else(|| fact.signed_by());
                facts.push((key, fact));
            }
            None => missing.push((key, anchor)),
        }
    }
    missing.retain(|(key, _)| !is_moot(&key.anchor, &signed_by));
    if missing.is_empty() {
        return Ok(facts);
    }
    let size = layer.size.saturating_add(annotation_bytes(layer));
    let take = |times: u64| {
        let amounts = Amounts {
            pieces: 0,
            bytes: size.saturating_mul(times),
            verifications: 1,
        };
        budget.take(amounts).then_some(()).ok_or(None)
    };
    // The bytes are fetched, and verified once.
    take(2)?;
    let bytes = registry.blob(&subject.repository, layer, *deadline).await?;
    for (at, (key, anchor)) in missing.into_iter().enumerate() {
        if is_moot(&key.anchor, &signed_by) {
            continue;
        }
        if at > 0 {
            take(1)?;
        }
        let verified = verified(registry, &host, key.clone(), layer, &bytes, anchor);
        let fact = timeout_at(*deadline, verified).await.map_err(|_| {
            let what = format!("the verification of `{}`", layer.digest);
            Unread::Unavailability(late(&what))
        })?;
        let fact = fact.ok_or_else(unfinished)?;
        signed_by = signed_by.or_else(|| fact.signed_by());
        facts.push((key, fact));
    }
    // In the order of the anchors, whatever was known before.
    facts.sort_by(|(a, _), (b, _)| a.anchor.cmp(&b.anchor));
    Ok(facts)
}

/// Verifies a piece under one anchor, once for all reviews that wait for it. If no review waits any more, a verification that
/// has not begun is cancelled.
fn verified(
    registry: &CachedRegistry,
    host: &str,
    key: FactKey,
    layer: &Descriptor,
    bytes: &Bytes,
    anchor: &Anchor,
) -> impl Future<Output = Option<Fact>> + use<> {
    registry.verifications.join(key.clone(), || {
        let (work, known) = (registry.work.clone(), registry.caches.facts.clone());
        let (host, layer, bytes) = (host.to_owned(), layer.clone(), bytes.clone());
        let anchor = anchor.clone();
        async move {
            if let Some(fact) = known.get(&key).await {
                return Some(fact);
            }
            let (size, subject) = (bytes.len(), key.subject.clone());
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
