//! A listing → its evidence: every attached manifest and layer read and verified, within the deadline and the budget.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use promotion_gate_core::attest::UnacceptedReason;
use promotion_gate_core::attest::media_type::{ENVELOPE, SIMPLE_SIGNING, STATEMENT};
use promotion_gate_core::attest::unaccepted::{TOO_LARGE, UNREADABLE, UNSIGNED_STATEMENT};
use promotion_gate_core::gate::{
    EvidenceSource, Form, ImageEvidence, UnacceptedEvidence, Unavailability,
};
use promotion_gate_core::reason::Reason;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, timeout_at};

use super::budget::{Amounts, Unavailabilities};
use super::cache::Fact;
use super::keys::FactKey;
use super::layers::{Layers, Unknown, layers_of};
use super::listing::Listing;
use super::registry::{Unread, late};
use super::seen::Seen;
use super::verify::{SubjectReader, annotation_bytes, facts};
use crate::metrics::shed;
use crate::oci::{AttachedManifest, Descriptor};

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
    fn unusable(source: EvidenceSource, reason: Reason, detail: String) -> Piece {
        Piece::Unusable(UnacceptedEvidence {
            source,
            form: Form::Either,
            why: UnacceptedReason::new(reason, detail),
        })
    }

    fn of_unread(unread: Unread, source: EvidenceSource) -> Piece {
        match unread {
            Unread::Unavailability(unavailability) => Piece::Unread(unavailability),
            Unread::Broken(detail) => Piece::unusable(source, UNREADABLE, detail),
            Unread::TooLarge(detail) => Piece::unusable(source, TOO_LARGE, detail),
        }
    }
}

/// The state of reading one listing.
pub(super) struct ListingReading<'a> {
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
    pub(super) fn begin(reader: &'a SubjectReader<'a>, listing: &'a Listing) -> ListingReading<'a> {
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
                "`{subject}` carries {more} more attached manifests than the {limit} that are read; delete old ones, such as scans, in the registry"
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
    pub(super) async fn finish(mut self) -> (ImageEvidence, Vec<Seen>, Unavailabilities) {
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
        for (piece, unknown) in layers.unknown.into_iter().enumerate() {
            let piece_of = match unknown {
                Unknown::Refused(refused) => Piece::Unusable(refused),
                Unknown::Other(kind) => Piece::Other(kind),
            };
            self.done.insert((manifest, usize::MAX - piece), piece_of);
        }
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
                "`{subject}` carries {left} more pieces of evidence than one review reads; delete old ones, such as scans, in the registry"
            )));
        }
        (evidence, can_hurt, self.unread)
    }
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
