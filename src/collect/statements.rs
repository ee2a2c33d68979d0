//! A subject → what is attached to it: listed, read and verified, each step once however many reviews wait for it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use promotion_gate_core::attest::unaccepted::{
    FORMAT_NOT_SUPPORTED, MALFORMED, UNREADABLE, UNSIGNED_STATEMENT,
};
use promotion_gate_core::attest::{self, Anchor, AnchorId, Material, Unaccepted};
use promotion_gate_core::gate::{
    Collected, Digest, Form, ImageEvidence, NotAccepted, Source, Subject, Trouble,
};
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, timeout_at};

use super::budget::{Amounts, Purse, Troubles};
use super::cache::{Answer, Fact, FactKey, Listing, ListingKey, Reading, ReadingKey};
use super::{About, Anchors, Collector, Freshness, HeldManifest, late};
use crate::oci::{
    AttachedManifest, Descriptor, ErrorKind, Manifest, ManifestKind, RegistryError, Repository, Via,
};
use crate::telemetry::shed;
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
/// The same of the layers of all of them.
const LAYERS_AT_ONE_TIME: usize = 8;
/// Layers that wait, and bytes of their annotations: at this many, no more manifests are read for now.
const WAITING: (usize, u64) = (256, 1 << 20);

/// What is read about one subject, for whom and how far.
pub(super) struct Reader<'a> {
    pub(super) collector: &'a Collector,
    pub(super) subject: &'a Subject,
    pub(super) anchors: &'a Anchors,
    pub(super) purse: Purse,
    pub(super) deadline: Instant,
}

/// Everything attached to the subject, verified under each of the anchors.
pub(super) async fn about(reader: &Reader<'_>, freshness: Freshness) -> About {
    let Reader {
        collector, subject, ..
    } = reader;
    let repository = Repository::named(&subject.name);
    let key = ListingKey {
        credential: collector.registry().credential_id(&repository),
        repository,
        digest: subject.digest.clone(),
    };
    let (listing, age, unanswered) = listing(reader, &key, freshness).await;
    let mut troubles = Troubles::default();
    if unanswered {
        troubles.add(late(&format!("what is attached to {key}")));
    }
    troubles.extend(listing.troubles().map(|why| Trouble(why.to_owned())));
    if listing.attached.is_empty() && !troubles.is_empty() {
        let trouble = troubles.into_vec().into_iter().next().unwrap_or_default();
        return About {
            collected: Collected::Unavailable(trouble),
            age,
        };
    }
    let evidence = reading(reader, key, &listing, &mut troubles).await;
    let collected = match troubles.is_empty() {
        true => Collected::Known(evidence),
        false => Collected::Partial(evidence, troubles.into_vec()),
    };
    About { collected, age }
}

/// How what is known of a listing was come by.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Age {
    /// Since when what came from memory is there; `None` where nothing did.
    pub(super) remembered: Option<Instant>,
    /// Whether anything was asked.
    pub(super) asked: bool,
}

/// Lists what is attached: from memory as far as that will do, else from the registry, of which each place is asked by itself.
/// What does not answer leaves what memory has; with whether a place that had to be asked did not answer in time.
async fn listing(
    reader: &Reader<'_>,
    key: &ListingKey,
    freshness: Freshness,
) -> (Arc<Listing>, Age, bool) {
    let collector = reader.collector;
    let remembered = collector.caches.listings.get(key).await;
    let remembered = remembered.unwrap_or_default();
    let does = |asked: Instant| match freshness {
        Freshness::Remembered => true,
        Freshness::AskedSince(since) => asked >= since,
    };
    let (asked, due): (Vec<_>, Vec<_>) = Via::ALL
        .into_iter()
        .map(|via| (via, remembered.asked(via).filter(|asked| does(*asked))))
        .partition(|(_, asked)| asked.is_some());
    let age = Age {
        remembered: asked.into_iter().filter_map(|(_, asked)| asked).min(),
        asked: !due.is_empty(),
    };
    if freshness == Freshness::Remembered && !remembered.attached.is_empty() {
        // What is known may suffice, so nobody waits for these.
        for via in remembered.failed_places() {
            drop(ask(collector, key, via));
        }
    }
    if due.is_empty() {
        return (remembered, age, false);
    }
    if Instant::now() >= reader.deadline {
        return (remembered, age, true);
    }
    let answers = due.into_iter().map(|(via, _)| {
        let answer = ask(collector, key, via);
        timeout_at(reader.deadline, answer).map(|answer| answer.ok().flatten())
    });
    let answers = join_all(answers).await;
    let unanswered = answers.iter().any(Option::is_none);
    let now = collector.caches.listings.get(key).await;
    let mut listing = now.unwrap_or_else(|| Arc::clone(&remembered));
    // Memory may have been too small for it.
    for answer in answers.into_iter().flatten() {
        if listing.asked(answer.place) < Some(answer.asked) {
            listing = Arc::new(listing.with(&answer));
        }
    }
    if let Some(keeping) = listing.keeping(&remembered) {
        listing = Arc::new(keeping);
        let listings = &collector.caches.listings;
        listings.insert(key.clone(), Arc::clone(&listing)).await;
    }
    (listing, age, unanswered)
}

/// Asks one place, once for everybody who waits for the same, and remembers what came of it.
fn ask(
    collector: &Collector,
    key: &ListingKey,
    place: Via,
) -> impl Future<Output = Option<Arc<Answer>>> + use<> {
    let registry = collector.registry();
    let listings = collector.caches.listings.clone();
    let flight = (key.clone(), place);
    collector.listings.join(flight, || {
        let key = key.clone();
        async move {
            let asked = Instant::now();
            let found = registry.attached_in(&key.repository, &key.digest, place);
            let answer = Arc::new(Answer::new(place, asked, found.await));
            let listing = listings.entry(key).and_upsert_with(|known| {
                let known = known.map(|known| known.into_value()).unwrap_or_default();
                std::future::ready(Arc::new(known.with(&answer)))
            });
            listing.await;
            answer
        }
        .boxed()
    })
}

/// What a listing amounts to under some anchors: as it was read before, or read now and, where all of it could be, remembered.
/// What the registry lists and does not have may come yet.
async fn reading(
    reader: &Reader<'_>,
    key: ListingKey,
    listing: &Listing,
    troubles: &mut Troubles,
) -> Arc<ImageEvidence> {
    let readings = &reader.collector.caches.readings;
    let key = ReadingKey {
        listing: key,
        anchors: reader.anchors.keys().cloned().collect(),
    };
    if let Some(read) = readings.get(&key).await
        && Arc::ptr_eq(&read.attached, &listing.attached)
        && read.evidence.unsupported.iter().eq(listing.unsupported())
    {
        return Arc::clone(&read.evidence);
    }
    let (evidence, unread) = read(reader, listing).await;
    let evidence = Arc::new(evidence);
    let absent = |piece: &NotAccepted| piece.why.reason == UNREADABLE;
    if unread.is_empty() && !evidence.unaccepted.iter().any(absent) {
        let read = Reading {
            attached: Arc::clone(&listing.attached),
            evidence: Arc::clone(&evidence),
        };
        readings.insert(key, Arc::new(read)).await;
    }
    troubles.extend(unread.into_vec());
    evidence
}

/// A layer that is evidence, and where it stands: the first of those that wait are small, and read before large ones, so
/// that a crowd of large ones hides nothing.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// The size, in parts of 64 KiB.
    large: u64,
    manifest: usize,
    layer: usize,
}

/// What was done.
enum Step {
    Manifest(usize, Source, Result<Layers, Unread>),
    Piece((usize, usize), Piece),
}

/// What an attached manifest holds.
struct Layers {
    /// The layers that are evidence, as many as are read.
    evidence: Vec<Descriptor>,
    /// How many more there are.
    more: usize,
    /// What is in no form that is read.
    unknown: Vec<Piece>,
}

/// One thing found in an attached manifest.
enum Piece {
    Facts(Source, Form, Vec<Fact>),
    Unusable(NotAccepted),
    /// No evidence, by what it calls itself.
    Other(String),
    Unread(Trouble),
    /// The review has used up what it may use.
    Left,
}

/// Reads and verifies what a listing names, until the deadline and as far as the purse goes; with what could not be read.
async fn read(reader: &Reader<'_>, listing: &Listing) -> (ImageEvidence, Troubles) {
    let Reader {
        collector,
        subject,
        purse,
        deadline,
        ..
    } = reader;
    let limits = &collector.limits;
    let mut troubles = Troubles::default();
    troubles.extend(listing.cut().map(|cut| Trouble(cut.to_owned())));
    let all = listing.attached.len();
    if all > limits.manifests {
        let (more, limit) = (all - limits.manifests, limits.manifests);
        troubles.add(Trouble(format!(
            "`{subject}` carries {more} more attached manifests than the {limit} that are read"
        )));
    }
    let mut items = listing.attached.iter().take(limits.manifests).enumerate();
    let mut waiting: BinaryHeap<Reverse<Place>> = BinaryHeap::new();
    let mut layers: BTreeMap<(usize, usize), (Source, Descriptor)> = BTreeMap::new();
    let mut annotations = 0;
    let mut open: FuturesUnordered<BoxFuture<'_, Step>> = FuturesUnordered::new();
    let (mut manifests_open, mut layers_open) = (0, 0);
    let mut done: BTreeMap<(usize, usize), Piece> = BTreeMap::new();
    let mut left = 0;
    let late = loop {
        consume_budget().await;
        if Instant::now() >= *deadline {
            break true;
        }
        while manifests_open < MANIFESTS_AT_ONE_TIME
            && waiting.len() < WAITING.0
            && annotations < WAITING.1
            && let Some((at, item)) = items.next()
        {
            let one = Amounts {
                pieces: 1,
                ..Amounts::default()
            };
            if !purse.take(one) {
                left += 1 + items.len();
                items = listing.attached.iter().take(0).enumerate();
                break;
            }
            manifests_open += 1;
            open.push(attached_manifest(reader, at, item).boxed());
        }
        while layers_open < LAYERS_AT_ONE_TIME
            && let Some(Reverse(Place {
                manifest, layer, ..
            })) = waiting.pop()
        {
            let at = (manifest, layer);
            let Some((source, layer)) = layers.remove(&at) else {
                continue;
            };
            annotations -= written_beside(&layer);
            layers_open += 1;
            let piece = async move { Step::Piece(at, piece(reader, source, layer).await) };
            open.push(piece.boxed());
        }
        let step = match timeout_at(*deadline, open.next()).await {
            Ok(Some(step)) => step,
            Ok(None) => break false,
            Err(_) => break true,
        };
        match step {
            Step::Manifest(
                at,
                source,
                Ok(Layers {
                    evidence,
                    more,
                    unknown,
                }),
            ) => {
                manifests_open -= 1;
                // Behind every layer.
                let unknown = unknown.into_iter().enumerate();
                done.extend(unknown.map(|(piece, it)| ((at, usize::MAX - piece), it)));
                if more > 0 {
                    let limit = limits.layers;
                    troubles.add(Trouble(format!(
                        "{source} has {more} more layers than the {limit} that are read"
                    )));
                }
                for (layer, descriptor) in evidence.into_iter().enumerate() {
                    waiting.push(Reverse(Place {
                        large: descriptor.size >> 16,
                        manifest: at,
                        layer,
                    }));
                    annotations += written_beside(&descriptor);
                    let source = Source(format!("{source} layer `{}`", descriptor.digest));
                    layers.insert((at, layer), (source, descriptor));
                }
            }
            Step::Manifest(at, source, Err(unread)) => {
                manifests_open -= 1;
                done.insert((at, 0), unread.about(source));
            }
            Step::Piece(at, piece) => {
                layers_open -= 1;
                done.insert(at, piece);
            }
        }
    };
    let unread = items.len() + layers.len() + open.len();
    drop(open);
    if late && unread > 0 {
        shed("deadline");
        troubles.add(super::late(&format!(
            "what is attached to `{subject}` (at least {unread} more pieces)"
        )));
    }
    let mut evidence = ImageEvidence {
        unsupported: listing.unsupported().cloned().collect(),
        ..ImageEvidence::default()
    };
    for piece in done.into_values() {
        match piece {
            Piece::Facts(source, form, facts) => add(&mut evidence, &source, form, facts),
            Piece::Unusable(refused) => evidence.unaccepted.push(refused),
            Piece::Other(kind) => *evidence.others.entry(kind).or_default() += 1,
            Piece::Unread(trouble) => troubles.add(trouble),
            Piece::Left => left += 1,
        }
    }
    if left > 0 {
        shed("review");
        troubles.add(Trouble(format!(
            "`{subject}` carries {left} more pieces of evidence than one review reads"
        )));
    }
    (evidence, troubles)
}

/// The layers of a manifest that are evidence, so many of them, and what else it holds. What is not evidence (an SBOM, a build
/// cache) is named by its kind alone.
fn layers_of(manifest: &Manifest, source: &Source, via: Via, limit: usize) -> Layers {
    let layers = match &manifest.kind {
        ManifestKind::Image { layers, .. } => layers.as_slice(),
        ManifestKind::Index { .. } => &[],
    };
    let of_evidence = |layer: &&Descriptor| is_evidence(&layer.media_type);
    let evidence: Vec<_> = layers
        .iter()
        .filter(of_evidence)
        .take(limit)
        .cloned()
        .collect();
    Layers {
        more: layers.iter().filter(of_evidence).count() - evidence.len(),
        evidence,
        unknown: unknown(source, via, manifest),
    }
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

/// The bytes of a layer's annotations.
fn written_beside(layer: &Descriptor) -> u64 {
    let each = layer.annotations.iter();
    let bytes = each.map(|(key, value)| key.len() + value.len()).sum();
    length(bytes)
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

async fn attached_manifest(reader: &Reader<'_>, at: usize, item: &AttachedManifest) -> Step {
    let source = Source(format!("{} `{}`", item.via, item.digest));
    let repository = Repository::named(&reader.subject.name);
    let limit = reader.collector.limits.layers;
    let evidence = match &item.manifest {
        Some(manifest) => Ok(layers_of(manifest, &source, item.via, limit)),
        None => {
            let read = manifest(reader.collector, &repository, &item.digest, reader.deadline);
            read.await
                .map(|(manifest, _held)| layers_of(&manifest, &source, item.via, limit))
        }
    };
    Step::Manifest(at, source, evidence)
}

async fn piece(reader: &Reader<'_>, source: Source, layer: Descriptor) -> Piece {
    let one = Amounts {
        pieces: 1,
        ..Amounts::default()
    };
    if !reader.purse.take(one) {
        return Piece::Left;
    }
    if layer.media_type == STATEMENT {
        let detail = "an in-toto statement that nobody signed";
        let why = Unaccepted::new(UNSIGNED_STATEMENT, detail);
        return Piece::Unusable(NotAccepted {
            source,
            form: Form::Statement,
            why,
        });
    }
    let form = match layer.media_type.as_str() {
        SIMPLE_SIGNING => Form::Signature,
        ENVELOPE => Form::Statement,
        _ => Form::Either,
    };
    match facts(reader, &layer).await {
        Ok(facts) => Piece::Facts(source, form, facts),
        Err(Some(unread)) => unread.about(source),
        Err(None) => Piece::Left,
    }
}

/// Verifies one piece of evidence under every anchor for which it is not yet known; where it is known, not even the bytes are
/// asked for.
///
/// # Errors
/// Why it could not be read; nothing where the purse is empty.
async fn facts(reader: &Reader<'_>, layer: &Descriptor) -> Result<Vec<Fact>, Option<Unread>> {
    let Reader {
        collector,
        subject,
        anchors,
        purse,
        deadline,
    } = reader;
    let host = Repository::named(&subject.name).registry().to_owned();
    let unfinished = || Some(Unread::Broken("its verification came to no end".to_owned()));
    let annotations = match layer.media_type.as_str() {
        // A part of the material in old formats alone.
        SIMPLE_SIGNING | ENVELOPE => {
            let annotations = layer.annotations.clone();
            let bytes = usize::try_from(written_beside(layer)).unwrap_or(usize::MAX);
            let hash = move || {
                let written = serde_json::to_vec(&annotations).unwrap_or_default();
                Digest::sha256(&written)
            };
            let hashed = collector.work.done(&host, bytes, hash).await;
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
    let known = &collector.caches.facts;
    let mut facts: BTreeMap<&AnchorId, Fact> = BTreeMap::new();
    let mut missing = Vec::new();
    for (id, anchor) in anchors.iter() {
        let key = key(id);
        match known.get(&key).await {
            Some(fact) => {
                facts.insert(id, fact);
            }
            None => missing.push((id, key, anchor)),
        }
    }
    if missing.is_empty() {
        return Ok(facts.into_values().collect());
    }
    let verifications = length(missing.len());
    let amounts = Amounts {
        pieces: 0,
        bytes: (layer.size.saturating_add(written_beside(layer))).saturating_mul(verifications + 1),
        verifications,
    };
    if !purse.take(amounts) {
        return Err(None);
    }
    let repository = Repository::named(&subject.name);
    let bytes = blob(collector, &repository, layer, *deadline).await?;
    for (id, key, anchor) in missing {
        let verified = verified(collector, &host, key, layer, &bytes, anchor);
        let fact = timeout_at(*deadline, verified).await.map_err(|_| {
            let what = format!("the verification of `{}`", layer.digest);
            Unread::Trouble(late(&what))
        })?;
        facts.insert(id, fact.ok_or_else(unfinished)?);
    }
    Ok(facts.into_values().collect())
}

/// Verifies a piece under one anchor, once for everybody who waits for the same. Verification is work; what nobody waits for
/// any longer is not begun.
fn verified(
    collector: &Collector,
    host: &str,
    key: FactKey,
    layer: &Descriptor,
    bytes: &Bytes,
    anchor: &Anchor,
) -> impl Future<Output = Option<Fact>> + use<> {
    collector.verifications.join(key.clone(), || {
        let (work, known) = (collector.work.clone(), collector.caches.facts.clone());
        let (host, layer, bytes) = (host.to_owned(), layer.clone(), bytes.clone());
        let anchor = anchor.clone();
        async move {
            if let Some(fact) = known.get(&key).await {
                return Some(fact);
            }
            let (size, subject) = (bytes.len(), key.subject.clone());
            let verify = move || attest::verify(&material(&layer, &bytes), &subject, &anchor);
            let verified = work.turn(&host, size, verify).await.unwrap_or_else(|| {
                let detail = "its verification came to no end";
                Err(Unaccepted::new(MALFORMED, detail))
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
) -> Result<HeldManifest, Unread> {
    if let Some(manifest) = collector.caches.manifests.get(digest).await {
        return Ok((manifest, None));
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
            let came = manifest.bytes;
            // With bytes of its own, which take no room.
            let manifest = Arc::new(Manifest {
                bytes: Bytes::copy_from_slice(&came),
                ..manifest
            });
            remembered.insert(key.1, Arc::clone(&manifest)).await;
            Ok((manifest, Some(came)))
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
