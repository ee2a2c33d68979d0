//! A subject → what is attached to it: listed, read and verified, each step once however many reviews wait for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, stream};
use promotion_gate_core::attest::unaccepted::{
    FORMAT_NOT_SUPPORTED, MALFORMED, UNREADABLE, UNSIGNED_STATEMENT,
};
use promotion_gate_core::attest::{self, Material, Unaccepted};
use promotion_gate_core::gate::{
    Collected, Digest, Form, ImageEvidence, NotAccepted, Source, Subject, Trouble,
};
use tokio::time::{Instant, timeout_at};

use super::cache::{Fact, FactKey, Listing, ListingKey, Reading, ReadingKey};
use super::{About, Anchors, Collector, Freshness, late};
use crate::oci::{
    AttachedManifest, Descriptor, ErrorKind, Manifest, ManifestKind, RegistryError, Repository, Via,
};
use crate::text::line;

/// The media type of a cosign simplesigning payload.
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// Begins the media types of Sigstore bundles, old and new.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
/// The media type of an in-toto statement without a signature, as BuildKit attaches it.
const STATEMENT: &str = "application/vnd.in-toto+json";
/// The media type of a DSSE envelope in cosign's `.att` layout.
const ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";

/// The media type of a configuration that says nothing.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// The most layers of one manifest that are named without being read.
const MAXIMUM_UNKNOWN: usize = 4;

/// How many manifests of one image are read at one time: one with many keeps no other waiting.
const MANIFESTS_AT_ONE_TIME: usize = 8;
/// The same of the layers of a manifest.
const LAYERS_AT_ONE_TIME: usize = 4;

/// Everything attached to `subject`, verified under each of `anchors`.
pub(super) async fn about(
    collector: &Collector,
    subject: &Subject,
    anchors: &Anchors,
    freshness: Freshness,
    deadline: Instant,
) -> About {
    let repository = Repository::named(&subject.name);
    let key = ListingKey {
        credential: collector.registry().credential_id(&repository),
        repository,
        digest: subject.digest.clone(),
    };
    let listed = listing(collector, &key, freshness, deadline).await;
    let Some(listing) = listed.listing else {
        let trouble = listed.troubles.into_iter().next();
        let trouble = trouble.unwrap_or_else(|| late(&format!("`{}`", key.repository)));
        return (Collected::Unavailable(trouble), false);
    };
    let (evidence, mut troubles) = if listed.troubles.is_empty() {
        reading(collector, subject, key, listing, anchors, deadline).await
    } else {
        let (evidence, troubles) = read(collector, subject, &listing, anchors, deadline).await;
        (Arc::new(evidence), troubles)
    };
    troubles.extend(listed.troubles);
    troubles.sort();
    troubles.dedup();
    let collected = if troubles.is_empty() {
        Collected::Known(evidence)
    } else {
        Collected::Partial(evidence, troubles)
    };
    (collected, listed.from_memory)
}

/// What a whole listing amounts to under some anchors: as it was read before, or read now and, where all of it could be,
/// remembered. What the registry lists and does not have may come yet.
async fn reading(
    collector: &Collector,
    subject: &Subject,
    key: ListingKey,
    listing: Arc<Listing>,
    anchors: &Anchors,
    deadline: Instant,
) -> (Arc<ImageEvidence>, Vec<Trouble>) {
    let key = ReadingKey {
        listing: key,
        anchors: anchors.keys().cloned().collect(),
    };
    if let Some(read) = collector.caches.readings.get(&key).await
        && Arc::ptr_eq(&read.listing, &listing)
    {
        return (Arc::clone(&read.evidence), Vec::new());
    }
    let (evidence, troubles) = read(collector, subject, &listing, anchors, deadline).await;
    let evidence = Arc::new(evidence);
    let absent = |piece: &NotAccepted| piece.why.reason == UNREADABLE;
    if troubles.is_empty() && !evidence.unaccepted.iter().any(absent) {
        let read = Reading {
            listing,
            evidence: Arc::clone(&evidence),
        };
        collector.caches.readings.insert(key, Arc::new(read)).await;
    }
    (evidence, troubles)
}

/// Reads and verifies what a listing names; with what could not be read.
async fn read(
    collector: &Collector,
    subject: &Subject,
    listing: &Listing,
    anchors: &Anchors,
    deadline: Instant,
) -> (ImageEvidence, Vec<Trouble>) {
    let repository = Repository::named(&subject.name);
    let mut troubles: Vec<_> = listing.cut.iter().cloned().map(Trouble).collect();
    let limit = collector.limits.manifests;
    if listing.attached.len() > limit {
        let more = listing.attached.len() - limit;
        troubles.push(Trouble(format!(
            "`{subject}` carries {more} more attached manifests than the {limit} that are read"
        )));
    }
    let read = (listing.attached.iter().take(limit))
        .map(|item| pieces(collector, &repository, subject, item, anchors, deadline));
    let read = stream::iter(read.collect::<Vec<_>>()).buffered(MANIFESTS_AT_ONE_TIME);
    let mut evidence = ImageEvidence {
        unsupported: listing.unsupported.clone(),
        ..ImageEvidence::default()
    };
    for piece in read.collect::<Vec<_>>().await.into_iter().flatten() {
        match piece {
            Piece::Facts(source, form, facts) => add(&mut evidence, &source, form, facts),
            Piece::Unusable(refused) => evidence.unaccepted.push(refused),
            Piece::Other(kind) => *evidence.others.entry(kind).or_default() += 1,
            Piece::Unread(trouble) => troubles.push(trouble),
        }
    }
    (evidence, troubles)
}

/// What is attached, and what could not be learned about that.
struct Listed {
    /// `None` when nothing at all is known.
    listing: Option<Arc<Listing>>,
    troubles: Vec<Trouble>,
    /// Whether memory answered without the registry being asked.
    from_memory: bool,
}

/// Lists what is attached: from memory while that is fresh and will do, else from the registry; what the registry does not
/// answer comes from memory, however old, and that is said.
async fn listing(
    collector: &Collector,
    key: &ListingKey,
    freshness: Freshness,
    deadline: Instant,
) -> Listed {
    let remembered = collector.caches.listings.get(key).await;
    if let Some(listing) = &remembered
        && freshness == Freshness::Remembered
        && listing.asked.elapsed() < shelf_life(collector, listing)
    {
        return Listed {
            listing: remembered,
            troubles: Vec::new(),
            from_memory: true,
        };
    }
    let (answered, troubles) = match timeout_at(deadline, ask(collector, key.clone())).await {
        Ok(Some(answer)) => {
            let troubles = answer.trouble.iter();
            let troubles: Vec<_> = troubles.map(|error| Trouble(error.to_string())).collect();
            let nothing_learned = !troubles.is_empty() && answer.listing.attached.is_empty();
            let listing = (!nothing_learned).then(|| Arc::clone(&answer.listing));
            (listing, troubles)
        }
        Ok(None) => {
            let trouble = format!("reading what is attached to {key} failed");
            (None, vec![Trouble(trouble)])
        }
        Err(_) => (None, vec![late(&format!("what is attached to {key}"))]),
    };
    let listing = match (answered, remembered) {
        (Some(answered), Some(remembered)) if !troubles.is_empty() => {
            Some(Arc::new(answered.with(&remembered)))
        }
        (None, remembered) => remembered,
        (answered, _) => answered,
    };
    Listed {
        listing,
        troubles,
        from_memory: false,
    }
}

fn shelf_life(collector: &Collector, listing: &Listing) -> Duration {
    if listing.attached.is_empty() {
        collector.limits.empty_listing_age
    } else {
        collector.limits.listing_age
    }
}

/// What one asking gave.
pub(super) struct Answer {
    listing: Arc<Listing>,
    trouble: Vec<RegistryError>,
}

/// Asks the registry, once for everybody who waits for the same; remembers the answer if nothing stood in its way.
async fn ask(collector: &Collector, key: ListingKey) -> Option<Arc<Answer>> {
    let registry = collector.registry();
    let listings = collector.caches.listings.clone();
    let flight = collector.listings.join(key.clone(), || {
        async move {
            let asked = Clock::now();
            let mut found = registry.attached(&key.repository, &key.digest).await;
            for item in &mut found.listing {
                item.manifest = item.manifest.as_ref().map(Manifest::copied);
            }
            let unsupported = found.unsupported.iter();
            let listing = Arc::new(Listing {
                unsupported: unsupported.map(|it| Trouble(it.to_string())).collect(),
                ..Listing::new(asked, found.listing, found.cut)
            });
            if found.trouble.is_empty() {
                listings.insert(key, Arc::clone(&listing)).await;
            }
            Arc::new(Answer {
                listing,
                trouble: found.trouble,
            })
        }
        .boxed()
    });
    flight.await
}

/// One thing found in an attached manifest.
enum Piece {
    Facts(Source, Form, Vec<Fact>),
    Unusable(NotAccepted),
    /// No evidence, by what it calls itself.
    Other(String),
    Unread(Trouble),
}

/// Reads one attached manifest and verifies every piece of evidence in it. What is not evidence (an SBOM, a build cache) is
/// named by its kind alone.
async fn pieces(
    collector: &Collector,
    repository: &Repository,
    subject: &Subject,
    item: &AttachedManifest,
    anchors: &Anchors,
    deadline: Instant,
) -> Vec<Piece> {
    let source = Source(format!("{} `{}`", item.via, item.digest));
    let manifest = match &item.manifest {
        Some(manifest) => Ok(manifest.clone()),
        None => manifest(collector, repository, &item.digest, deadline).await,
    };
    let manifest = match manifest {
        Ok(manifest) => manifest,
        Err(unread) => return vec![unread.about(source)],
    };
    let mut pieces = unknown(&source, item.via, &manifest);
    let ManifestKind::Image { layers, .. } = &manifest.kind else {
        return pieces;
    };
    let limit = collector.limits.layers;
    let evidence: Vec<_> = layers
        .iter()
        .filter(|layer| is_evidence(&layer.media_type))
        .collect();
    if evidence.len() > limit {
        let more = evidence.len() - limit;
        pieces.push(Piece::Unread(Trouble(format!(
            "{source} has {more} more layers than the {limit} that are read"
        ))));
    }
    let read = evidence.into_iter().take(limit).map(|layer| {
        let source = Source(format!("{source} layer `{}`", layer.digest));
        piece(
            collector, repository, subject, layer, source, anchors, deadline,
        )
    });
    let read = stream::iter(read.collect::<Vec<_>>()).buffered(LAYERS_AT_ONE_TIME);
    pieces.extend(read.collect::<Vec<_>>().await);
    pieces
}

/// What of an attached manifest is in no form that is read: it is refused where its name or place says that it is evidence, and
/// else named.
fn unknown(source: &Source, via: Via, manifest: &Manifest) -> Vec<Piece> {
    let refused = |form: Form, kind: &str| {
        let detail = format!("`{}` is no form of evidence that is read", printable(kind));
        Piece::Unusable(NotAccepted {
            source: source.clone(),
            form,
            why: Unaccepted::new(FORMAT_NOT_SUPPORTED, detail),
        })
    };
    let (artifact_type, config, layers) = match &manifest.kind {
        ManifestKind::Image {
            artifact_type,
            config,
            layers,
            ..
        } => (artifact_type, &config.media_type, layers.as_slice()),
        ManifestKind::Index { artifact_type, .. } => (artifact_type, &manifest.media_type, &[][..]),
    };
    let kinds = layers.iter().map(|layer| layer.media_type.as_str());
    let (read, rest): (Vec<_>, Vec<_>) = kinds.partition(|kind| is_evidence(kind));
    let called: Vec<_> = rest
        .iter()
        .filter_map(|kind| Some(refused(form_by_name(kind)?, kind)))
        .take(MAXIMUM_UNKNOWN)
        .collect();
    if !read.is_empty() || !called.is_empty() {
        return called;
    }
    let kinds = artifact_type.iter().map(String::as_str);
    let kinds = kinds.chain([config.as_str()]).chain(rest);
    let kinds: Vec<_> = kinds.filter(|kind| !kind.is_empty()).collect();
    let by_name = kinds
        .iter()
        .find_map(|kind| Some(refused(form_by_name(kind)?, kind)));
    let kind = kinds.iter().find(|kind| **kind != EMPTY).unwrap_or(&EMPTY);
    let by_place = match via {
        Via::SigTag => Some(Form::Signature),
        Via::AttTag => Some(Form::Statement),
        Via::Referrers | Via::FallbackTag => None,
    };
    let by_place = by_place.map(|form| refused(form, kind));
    vec![
        by_name
            .or(by_place)
            .unwrap_or_else(|| Piece::Other(printable(kind))),
    ]
}

/// What a media type that is not read would be evidence of, by its name: Notation's signatures, bundles and envelopes under
/// other names, and whatever calls itself so.
fn form_by_name(media_type: &str) -> Option<Form> {
    let name = media_type.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| name.contains(word));
    if says(&["sbom", "spdx", "cyclonedx"]) {
        return None;
    }
    if says(&[
        "in-toto",
        "intoto",
        "dsse",
        "slsa",
        "provenance",
        "attestation",
    ]) {
        return Some(Form::Statement);
    }
    if says(&[
        "signature",
        "simplesigning",
        "notary",
        "/jose",
        "/cose",
        "pkcs7",
        "pgp",
    ]) {
        return Some(Form::Signature);
    }
    says(&["sigstore", "cosign", "bundle"]).then_some(Form::Either)
}

/// A media type as it can be shown.
fn printable(media_type: &str) -> String {
    line(media_type).chars().take(100).collect()
}

fn is_evidence(media_type: &str) -> bool {
    media_type.starts_with(BUNDLE) || [SIMPLE_SIGNING, ENVELOPE, STATEMENT].contains(&media_type)
}

async fn piece(
    collector: &Collector,
    repository: &Repository,
    subject: &Subject,
    layer: &Descriptor,
    source: Source,
    anchors: &Anchors,
    deadline: Instant,
) -> Piece {
    if layer.media_type == STATEMENT {
        let detail = "an in-toto statement that nobody signed";
        let why = Unaccepted::new(UNSIGNED_STATEMENT, detail);
        return Piece::Unusable(NotAccepted {
            source,
            form: Form::Statement,
            why,
        });
    }
    let bytes = match blob(collector, repository, layer, deadline).await {
        Ok(bytes) => bytes,
        Err(unread) => return unread.about(source),
    };
    let form = match layer.media_type.as_str() {
        SIMPLE_SIGNING => Form::Signature,
        ENVELOPE => Form::Statement,
        _ => Form::Either,
    };
    let verified = facts(collector, layer, bytes, &subject.digest, anchors);
    match timeout_at(deadline, verified).await {
        Ok(facts) => Piece::Facts(source, form, facts),
        Err(_) => Piece::Unread(late(&format!("the verification of {source}"))),
    }
}

/// Verifies one piece of evidence under every anchor for which it is not yet known. Verification is work: it happens beside
/// the threads that answer, on as many pieces at one time as there are processors.
async fn facts(
    collector: &Collector,
    layer: &Descriptor,
    bytes: Bytes,
    subject: &Digest,
    anchors: &Anchors,
) -> Vec<Fact> {
    let known = &collector.caches.facts;
    let annotations = serde_json::to_vec(&layer.annotations).unwrap_or_default();
    let annotations = Digest::sha256(&annotations);
    let mut facts = Vec::new();
    for (id, anchor) in anchors {
        let key = FactKey {
            blob: layer.digest.clone(),
            media_type: layer.media_type.clone(),
            annotations: annotations.clone(),
            subject: subject.clone(),
            anchor: id.clone(),
        };
        if let Some(fact) = known.get(&key).await {
            facts.push(fact);
            continue;
        }
        let turn = Arc::clone(&collector.verifying).acquire_owned();
        let (layer, bytes) = (layer.clone(), bytes.clone());
        let (subject, anchor) = (subject.clone(), anchor.clone());
        let verified = known.get_with(key, async move {
            // The semaphore is never closed.
            let turn = turn.await;
            let verify = move || {
                let _turn = turn;
                attest::verify(&material(&layer, &bytes), &subject, &anchor)
            };
            let verified = tokio::task::spawn_blocking(verify).await;
            Fact::of(verified.unwrap_or_else(|_| {
                let detail = "its verification came to no end";
                Err(Unaccepted::new(MALFORMED, detail))
            }))
        });
        facts.push(verified.await);
    }
    facts
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

/// Sorts what came of one piece of evidence. Accepted under one anchor, it is a fact, and why it was not accepted under
/// another is of no interest.
fn add(evidence: &mut ImageEvidence, source: &Source, form: Form, facts: Vec<Fact>) {
    let mut accepted = false;
    let mut refused = BTreeMap::new();
    for fact in facts {
        match fact {
            Fact::Signature(signature) => {
                accepted = true;
                evidence.signatures.push((source.clone(), signature));
            }
            Fact::Statement(statement) => {
                accepted = true;
                evidence.statements.push((source.clone(), statement));
            }
            Fact::Unaccepted(unaccepted) => {
                refused.insert(unaccepted.detail.clone(), unaccepted);
            }
        }
    }
    if !accepted {
        evidence
            .unaccepted
            .extend(refused.into_values().map(|why| NotAccepted {
                source: source.clone(),
                form,
                why,
            }));
    }
}

/// Why something that is listed could not be had.
#[derive(Clone)]
pub(super) enum Unread {
    /// Nothing is known about it.
    Trouble(Trouble),
    /// What the registry has can never be evidence.
    Broken(String),
}

impl Unread {
    fn of(error: &RegistryError) -> Unread {
        match error.kind() {
            // What is listed was there. It can be on its way, or lost; either way nothing is known about it.
            ErrorKind::NotFound | ErrorKind::DigestMismatch => {
                Unread::Trouble(Trouble(format!("{error}, though it is listed")))
            }
            _ if error.is_infrastructure() => Unread::Trouble(Trouble(error.to_string())),
            _ => Unread::Broken(error.to_string()),
        }
    }

    fn about(self, source: Source) -> Piece {
        match self {
            Unread::Trouble(trouble) => Piece::Unread(trouble),
            Unread::Broken(detail) => Piece::Unusable(NotAccepted {
                source,
                form: Form::Either,
                why: Unaccepted::new(UNREADABLE, detail),
            }),
        }
    }
}

pub(super) async fn manifest(
    collector: &Collector,
    repository: &Repository,
    digest: &Digest,
    deadline: Instant,
) -> Result<Manifest, Unread> {
    if let Some(manifest) = collector.caches.manifests.get(digest).await {
        return Ok(manifest);
    }
    let key = (repository.clone(), digest.clone());
    let registry = collector.registry();
    let remembered = collector.caches.manifests.clone();
    let flight = collector.manifests.join(key.clone(), || {
        async move {
            let manifest = registry
                .manifest(&key.0, &key.1)
                .await
                .map_err(|error| Unread::of(&error))?;
            let manifest = manifest.copied();
            remembered.insert(key.1, manifest.clone()).await;
            Ok(manifest)
        }
        .boxed()
    });
    landed(timeout_at(deadline, flight).await, || {
        format!("the manifest `{repository}@{digest}`")
    })
}

async fn blob(
    collector: &Collector,
    repository: &Repository,
    layer: &Descriptor,
    deadline: Instant,
) -> Result<Bytes, Unread> {
    if let Some(bytes) = collector.caches.blobs.get(&layer.digest).await {
        return Ok(bytes);
    }
    let limit = collector.limits.material_bytes;
    let key = (repository.clone(), layer.digest.clone(), layer.size);
    let registry = collector.registry();
    let remembered = collector.caches.blobs.clone();
    let descriptor = layer.clone();
    let flight = collector.blobs.join(key.clone(), || {
        async move {
            let bytes = registry
                .blob(&key.0, &descriptor, limit)
                .await
                .map_err(|error| Unread::of(&error))?;
            let copy = Bytes::copy_from_slice(&bytes);
            remembered.insert(key.1, copy).await;
            Ok(bytes)
        }
        .boxed()
    });
    landed(timeout_at(deadline, flight).await, || {
        format!("the blob `{repository}@{}`", layer.digest)
    })
}

fn landed<T>(
    outcome: Result<Option<Result<T, Unread>>, tokio::time::error::Elapsed>,
    what: impl Fn() -> String,
) -> Result<T, Unread> {
    match outcome {
        Ok(Some(read)) => read,
        Ok(None) => Err(Unread::Trouble(Trouble(format!(
            "reading {} failed",
            what()
        )))),
        Err(_) => Err(Unread::Trouble(late(&what()))),
    }
}
