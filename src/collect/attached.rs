//! A subject → what is attached to it: listed, read and verified, within the deadline and the budget.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use promotion_gate_core::attest::UnacceptedReason;
use promotion_gate_core::attest::media_type::{ENVELOPE, SIMPLE_SIGNING, STATEMENT};
use promotion_gate_core::attest::unaccepted::{
    FORMAT_NOT_SUPPORTED, UNREADABLE, UNSIGNED_STATEMENT,
};
use promotion_gate_core::gate::{
    Collected, EvidenceSource, Form, ImageEvidence, UnacceptedEvidence, Unavailability,
};
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, timeout_at};

use super::budget::{Amounts, Unavailabilities};
use super::cache::{Fact, FactKey, Reading, ReadingKey};
use super::listing::{Freshness, Listing, ListingKey};
use super::registry::{Age, Unread, late};
use super::seen::Seen;
use super::verify::{SubjectReader, annotation_bytes, facts, is_evidence};
use crate::metrics::shed;
use crate::oci::{AttachedManifest, Descriptor, Manifest, ManifestKind, Via};
use crate::text::line;

/// The media type of an empty configuration.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// The most unread layers of one manifest that are reported by name.
const MAXIMUM_UNKNOWN: usize = 4;

/// The most manifests of one image that are read at one time, so that an image with many does not block others.
const MANIFESTS_AT_ONE_TIME: usize = 8;
/// The same for the layers of these manifests.
const LAYERS_AT_ONE_TIME: usize = 8;
/// Waiting layers, and bytes of their annotations. At either limit, no further manifest is read until some layers are done.
const WAITING: (usize, u64) = (256, 1 << 20);
/// The cost of reading one manifest or layer, without its bytes.
const ONE_PIECE: Amounts = Amounts {
    pieces: 1,
    bytes: 0,
    verifications: 0,
};

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
    let mut can_hurt = Vec::new();
    let mut unavailabilities = Unavailabilities::default();
    for part in parts {
        age = age.and(part.age);
        evidence.push(Arc::clone(&part.reading.evidence));
        can_hurt.extend_from_slice(&part.reading.can_hurt);
        unavailabilities.merge(part.unavailabilities);
    }
    let unavailabilities = unavailabilities.into_vec();
    let collected = match unavailabilities.first() {
        None => Collected::Known(union(&evidence)),
        Some(first) if is_empty => Collected::Unavailable(first.clone()),
        Some(_) => Collected::Partial(union(&evidence), unavailabilities),
    };
    let last_listed = match &collected {
        Collected::Partial(_, _) => complete_since.flatten().map(|since| since.elapsed()),
        Collected::Known(_) | Collected::Unavailable(_) => None,
    };
    let earlier = match readers.first() {
        Some(reader) => {
            let seen = &reader.registry.caches.seen;
            seen.together(reader.subject, &collected, &can_hurt, reader.anchors)
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
fn union(parts: &[Arc<ImageEvidence>]) -> Arc<ImageEvidence> {
    let [first, rest @ ..] = parts else {
        return Arc::default();
    };
    if rest.is_empty() {
        return Arc::clone(first);
    }
    let mut all = ImageEvidence::clone(first);
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

/// The place of a layer with evidence. Of the waiting layers, the least is read first: small ones before large ones, so that
/// many large layers do not hide the others.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// The size in units of 64 KiB.
    large: u64,
    manifest: usize,
    layer: usize,
}

/// The result of one step of reading.
enum Step {
    Manifest(usize, EvidenceSource, Result<Layers, Unread>),
    Piece((usize, usize), Piece),
}

/// The layers of an attached manifest.
struct Layers {
    /// The layers with evidence that are read.
    evidence: Vec<Descriptor>,
    /// The number of layers past the limit.
    more: usize,
    /// Layers in forms that are not read.
    unknown: Vec<Piece>,
}

/// A part of an attached manifest.
enum Piece {
    Facts(EvidenceSource, Form, Vec<(FactKey, Fact)>),
    Unusable(UnacceptedEvidence),
    /// Not evidence by its declared type.
    Other(String),
    Unread(Unavailability),
    /// Not read, because the budget of the review is used up.
    Left,
}

impl Piece {
    fn of_unread(unread: Unread, source: EvidenceSource) -> Piece {
        match unread {
            Unread::Unavailability(unavailability) => Piece::Unread(unavailability),
            Unread::Broken(detail) => Piece::Unusable(UnacceptedEvidence {
                source,
                form: Form::Either,
                why: UnacceptedReason::new(UNREADABLE, detail),
            }),
        }
    }
}

/// The state of reading one listing.
struct ListingReading<'a> {
    reader: &'a SubjectReader<'a>,
    listing: &'a Listing,
    /// Manifests to read, each with its place.
    manifests: std::iter::Enumerate<std::slice::Iter<'a, Arc<AttachedManifest>>>,
    /// Layers to read, and the bytes of their annotations.
    waiting: BinaryHeap<Reverse<Place>>,
    layers: BTreeMap<(usize, usize), (EvidenceSource, Descriptor)>,
    annotations: u64,
    open: FuturesUnordered<BoxFuture<'a, Step>>,
    manifests_open: usize,
    layers_open: usize,
    /// Parts that were read, in the order of the listing.
    done: BTreeMap<(usize, usize), Piece>,
    /// The number of parts past the budget.
    left: usize,
    unread: Unavailabilities,
}

impl<'a> ListingReading<'a> {
    fn begin(reader: &'a SubjectReader<'a>, listing: &'a Listing) -> ListingReading<'a> {
        let limit = reader.registry.limits.manifests;
        let (read, cut) = listing
            .attached
            .split_at_checked(limit)
            .unwrap_or((&listing.attached, &[]));
        let mut unread = Unavailabilities::default();
        unread.extend(listing.cut().map(|cut| Unavailability(cut.to_owned())));
        if !cut.is_empty() {
            let (subject, more) = (&reader.at, cut.len());
            unread.add(Unavailability(format!(
                "`{subject}` carries {more} more attached manifests than the {limit} that are read"
            )));
        }
        ListingReading {
            reader,
            listing,
            manifests: read.iter().enumerate(),
            waiting: BinaryHeap::new(),
            layers: BTreeMap::new(),
            annotations: 0,
            open: FuturesUnordered::new(),
            manifests_open: 0,
            layers_open: 0,
            done: BTreeMap::new(),
            left: 0,
            unread,
        }
    }

    /// Reads and verifies within the deadline and the budget. Returns the evidence, what can hurt of it, and what could not be read.
    async fn finish(mut self) -> (ImageEvidence, Vec<Seen>, Unavailabilities) {
        let deadline = self.reader.deadline;
        let is_late = loop {
            consume_budget().await;
            if Instant::now() >= deadline {
                break true;
            }
            self.open_manifests();
            self.open_layers();
            match timeout_at(deadline, self.open.next()).await {
                Ok(Some(step)) => self.take(step),
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        let unread = self.manifests.len() + self.layers.len() + self.open.len();
        if is_late && unread > 0 {
            shed("deadline");
            let subject = &self.reader.at;
            self.unread.add(late(&format!(
                "what is attached to `{subject}` (at least {unread} more pieces)"
            )));
        }
        self.sorted()
    }

    fn open_manifests(&mut self) {
        let reader = self.reader;
        while self.manifests_open < MANIFESTS_AT_ONE_TIME
            && self.waiting.len() < WAITING.0
            && self.annotations < WAITING.1
            && let Some((at, item)) = self.manifests.next()
        {
            if !reader.budget.take(ONE_PIECE) {
                self.left += 1 + self.manifests.len();
                self.manifests = [].iter().enumerate();
                return;
            }
            self.manifests_open += 1;
            self.open.push(attached_manifest(reader, at, item).boxed());
        }
    }

    fn open_layers(&mut self) {
        let reader = self.reader;
        while self.layers_open < LAYERS_AT_ONE_TIME
            && let Some(Reverse(Place {
                manifest, layer, ..
            })) = self.waiting.pop()
        {
            let at = (manifest, layer);
            let Some((source, layer)) = self.layers.remove(&at) else {
                continue;
            };
            self.annotations -= annotation_bytes(&layer);
            self.layers_open += 1;
            let piece = async move { Step::Piece(at, piece(reader, source, layer).await) };
            self.open.push(piece.boxed());
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Manifest(at, source, Ok(layers)) => {
                self.manifests_open -= 1;
                self.wait_for(at, &source, layers);
            }
            Step::Manifest(at, source, Err(unread)) => {
                self.manifests_open -= 1;
                self.done.insert((at, 0), Piece::of_unread(unread, source));
            }
            Step::Piece(at, piece) => {
                self.layers_open -= 1;
                self.done.insert(at, piece);
            }
        }
    }

    fn wait_for(&mut self, manifest: usize, source: &EvidenceSource, layers: Layers) {
        // At the end of the manifest, behind every layer.
        let unknown = layers.unknown.into_iter().enumerate();
        let unknown = unknown.map(|(piece, it)| ((manifest, usize::MAX - piece), it));
        self.done.extend(unknown);
        if layers.more > 0 {
            let (more, limit) = (layers.more, self.reader.registry.limits.layers);
            self.unread.add(Unavailability(format!(
                "{source} has {more} more layers than the {limit} that are read"
            )));
        }
        for (layer, descriptor) in layers.evidence.into_iter().enumerate() {
            self.waiting.push(Reverse(Place {
                large: descriptor.size >> 16,
                manifest,
                layer,
            }));
            self.annotations += annotation_bytes(&descriptor);
            let source = EvidenceSource(format!("{source} layer `{}`", descriptor.digest));
            self.layers.insert((manifest, layer), (source, descriptor));
        }
    }

    /// The evidence, sorted by its form.
    fn sorted(mut self) -> (ImageEvidence, Vec<Seen>, Unavailabilities) {
        let mut can_hurt = Vec::new();
        let [unsupported, without_referrers] = self.listing.unsupported_places();
        let mut evidence = ImageEvidence {
            unsupported,
            without_referrers,
            ..ImageEvidence::default()
        };
        for piece in self.done.into_values() {
            match piece {
                Piece::Facts(source, form, facts) => {
                    can_hurt.extend(seen_in(&source, &facts));
                    add(&mut evidence, &source, form, facts);
                }
                Piece::Unusable(refused) => evidence.unaccepted.push(refused),
                Piece::Other(kind) => *evidence.others.entry(kind).or_default() += 1,
                Piece::Unread(unavailability) => self.unread.add(unavailability),
                Piece::Left => self.left += 1,
            }
        }
        if self.left > 0 {
            shed("review");
            let (subject, left) = (&self.reader.at, self.left);
            self.unread.add(Unavailability(format!(
                "`{subject}` carries {left} more pieces of evidence than one review reads"
            )));
        }
        (evidence, can_hurt, self.unread)
    }
}

/// The layers of a manifest that are evidence, up to `limit`, and its other content. Content that is not evidence (an SBOM, a
/// build cache) is counted by type.
fn layers_of(manifest: &Manifest, source: &EvidenceSource, via: Via, limit: usize) -> Layers {
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

/// The parts of an attached manifest in forms that are not read. A part is refused if its media type or place declares it as
/// evidence; otherwise it is counted by type.
fn unknown(source: &EvidenceSource, via: Via, manifest: &Manifest) -> Vec<Piece> {
    let refused = |form: Form, kind: &str| {
        let detail = format!("`{}` is not a supported form of evidence", printable(kind));
        Piece::Unusable(UnacceptedEvidence {
            source: source.clone(),
            form,
            why: UnacceptedReason::new(FORMAT_NOT_SUPPORTED, detail),
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

/// The form of evidence that the name of an unsupported media type suggests: Notation's signatures, bundles and envelopes under
/// other names, and any type that names signatures or provenance.
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

/// A media type that is safe to print.
fn printable(media_type: &str) -> String {
    line(media_type).chars().take(100).collect()
}

async fn attached_manifest(reader: &SubjectReader<'_>, at: usize, item: &AttachedManifest) -> Step {
    let repository = &reader.at.repository;
    let source = match reader.is_own() {
        true => format!("{} `{}`", item.via, item.digest),
        false => format!("{} `{}` in `{repository}`", item.via, item.digest),
    };
    let source = EvidenceSource(source);
    let limit = reader.registry.limits.layers;
    let evidence = match &item.manifest {
        Some(manifest) => Ok(layers_of(manifest, &source, item.via, limit)),
        None => {
            let read = (reader.registry).manifest(repository, &item.digest, reader.deadline);
            read.await
                .map(|(manifest, _held)| layers_of(&manifest, &source, item.via, limit))
        }
    };
    Step::Manifest(at, source, evidence)
}

async fn piece(reader: &SubjectReader<'_>, source: EvidenceSource, layer: Descriptor) -> Piece {
    if !reader.budget.take(ONE_PIECE) {
        return Piece::Left;
    }
    if layer.media_type == STATEMENT {
        let detail = "an in-toto statement without a signature";
        let why = UnacceptedReason::new(UNSIGNED_STATEMENT, detail);
        return Piece::Unusable(UnacceptedEvidence {
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
        Err(Some(unread)) => Piece::of_unread(unread, source),
        Err(None) => Piece::Left,
    }
}

/// The statements that can hurt.
fn seen_in(source: &EvidenceSource, facts: &[(FactKey, Fact)]) -> impl Iterator<Item = Seen> {
    facts.iter().filter_map(move |(key, fact)| match fact {
        Fact::Statement(statement) if statement.predicate().can_hurt() => Some(Seen {
            key: key.clone(),
            source: source.clone(),
            statement: Arc::clone(statement),
        }),
        _ => None,
    })
}

/// Adds the facts of one piece of evidence. If it is accepted under one anchor, the reasons why others did not accept it are
/// dropped.
fn add(
    evidence: &mut ImageEvidence,
    source: &EvidenceSource,
    form: Form,
    facts: Vec<(FactKey, Fact)>,
) {
    let mut accepted = false;
    let mut refused = BTreeMap::new();
    for (_, fact) in facts {
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
            .extend(refused.into_values().map(|why| UnacceptedEvidence {
                source: source.clone(),
                form,
                why,
            }));
    }
}
