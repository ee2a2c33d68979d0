//! The story of one review: what was asked, what governs it, which digests it runs, what is known about them, and what
//! follows from that. The webhook and the CLI call this, and nothing else decides.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::{Arc, LazyLock};

use futures::FutureExt as _;
use futures::future::join_all;
use jiff::Timestamp;
use promotion_gate_core::gate::{
    Change, ChangeKind, Collected, Decision, Evidence, Governing, ImageNeeds, IncidentQuestion,
    Parent, Pin, Promotion, Records, Snapshot, Subject, Unavailability, Verdict, can_take_long,
    judge,
};
use tokio::time::Instant;

use crate::collect::{Allowance, Collector, Freshness, Gathered};
use crate::incidents::Incidents;
use crate::oci::Meter;
use crate::oci::work::Work;
use crate::record::{RecordsOnce, ReleaseRecords};

/// What a review may look at.
#[derive(Clone)]
pub struct ReviewInputs {
    /// The policies, and what is known of the cluster.
    pub snapshot: Arc<Snapshot>,
    /// Fetches and remembers evidence.
    pub collector: Arc<Collector>,
    /// What was admitted before, where that is recorded: in a webhook with a cluster.
    pub records: Option<RecordSource>,
    /// Asks incident trackers about emergency changes, where some are configured.
    pub incidents: Option<Arc<dyn Incidents>>,
    /// When the answer must be there; what is still unknown then is said.
    pub deadline: Instant,
    /// Whether denials are only recorded (`--audit-only`), whatever the policies' enforcement.
    pub audit_only: bool,
}

/// Where a review learns what was admitted before.
#[derive(Clone)]
pub enum RecordSource {
    /// The records of the cluster.
    Cluster(Arc<ReleaseRecords>),
    /// The records of the cluster, as a command reads them.
    Read(Arc<RecordsOnce>),
    /// What a test says of a change and its digests.
    Given(Box<GivenRecords>),
}

/// What is said of changes without reading the cluster.
#[derive(Clone)]
pub struct GivenRecords {
    /// A change and its digests → what release records say.
    pub about: Arc<AboutChange>,
    /// The object for which a Pod is created.
    pub parent: Option<Parent>,
}

/// A change and its digests → what release records say.
pub type AboutChange = dyn Fn(&Change, &[Pin]) -> Records + Send + Sync;

impl RecordSource {
    /// What a command or a test knows of a change and its digests.
    async fn known(&self, change: &Change, pins: &[Pin], deadline: Instant) -> Collected<Records> {
        match self {
            RecordSource::Read(records) => records.about(change, pins, deadline).await,
            RecordSource::Given(given) => Collected::Known((given.about)(change, pins)),
            RecordSource::Cluster(_) => Records::not_kept(),
        }
    }
}

/// What came of a review: everything that an answer, a log line or a report is made from.
#[derive(Clone, Debug)]
pub struct Review {
    /// What was asked, with the digests that were judged.
    pub promotion: Promotion,
    /// What was learned about them.
    pub evidence: Evidence,
    /// What follows.
    pub verdict: Verdict,
}

/// Reviews one change at one instant.
///
/// There is no error path on which a caller would have to remember to deny: what could not be learned is part of the
/// evidence, and denies where it matters.
pub async fn review(change: Change, inputs: &ReviewInputs, now: Timestamp) -> Review {
    let reviewed = reviewed(change, inputs, now).boxed();
    match Meter::current() {
        Some(_) => reviewed.await,
        // What is scarce is shared between reviews, so each has to be known as one.
        None => Meter::default().count(reviewed).await,
    }
}

async fn reviewed(change: Change, inputs: &ReviewInputs, now: Timestamp) -> Review {
    let (snapshot, collector) = (Arc::clone(&inputs.snapshot), &inputs.collector);
    let began = Instant::now();
    // 1. Govern: which policies match, by what was asked alone. Nothing that is fetched changes the answer.
    let governing = snapshot.governing(&change);
    // 2. Remember, pin and classify: what was admitted before, and which digests it runs now, decide what kind of change it is.
    let promotion = classified(change, &governing, inputs, now).await;
    // 3. Ask and gather: exactly what the requirements need, at first from memory.
    let needs = governing.needs(&promotion);
    let mut allowance = collector.allowance(inputs.deadline);
    let gathered = collector
        .gather(&needs, Freshness::FromCache, &mut allowance)
        .await;
    // 4. Judge.
    let Gathered {
        evidence,
        from_cache,
        asked,
    } = gathered;
    let review = judged(promotion, evidence, &governing, &snapshot).await;
    let Some(since) = revalidate_since(&review.verdict, inputs, began) else {
        return review;
    };
    // 5. Revalidate: a denial never rests on an older listing from memory, since the image may have been signed meanwhile.
    let gathered = Gathered {
        evidence: review.evidence,
        from_cache,
        asked,
    };
    let promotion = review.promotion;
    let evidence = collector
        .revalidate(&promotion, &needs, gathered, since, &mut allowance)
        .await;
    let review = judged(promotion, evidence, &governing, &snapshot).await;
    // 6. Emergency changes: only a denial that one could waive asks for anything more.
    with_emergencies(review, &governing, &needs, since, &mut allowance, inputs).await
}

/// The turns of judgements that can take long.
static LONG_JUDGEMENTS: LazyLock<Work> = LazyLock::new(Work::own);

/// The judgement. One that can take long runs outside of the threads that serve requests, in turns that all reviews share.
async fn judged(
    promotion: Promotion,
    evidence: Evidence,
    governing: &Governing<'_>,
    snapshot: &Arc<Snapshot>,
) -> Review {
    if !can_take_long(&promotion, &evidence, governing) {
        let verdict = judge(&promotion, &evidence, governing);
        return Review {
            promotion,
            evidence,
            verdict,
        };
    }
    let snapshot = Arc::clone(snapshot);
    let job = move || {
        let governing = snapshot.governing(&promotion.change);
        let verdict = judge(&promotion, &evidence, &governing);
        Review {
            promotion,
            evidence,
            verdict,
        }
    };
    let done = LONG_JUDGEMENTS.turn("", 0, job).await;
    // The caller answers a panic of a judgement, wherever it ran.
    done.unwrap_or_else(|| resume_unwind(Box::new("a judgement panicked")))
}

/// Adds everything that people signed about emergency changes of the images, whatever the verdict, for commands that show it. The verdict
/// stays as it is.
pub(crate) async fn add_emergencies(review: &mut Review, inputs: &ReviewInputs, since: Instant) {
    let governing = inputs.snapshot.governing(&review.promotion.change);
    let needs = governing.emergency_listing_needs(&review.promotion);
    let mut allowance = inputs.collector.allowance(inputs.deadline);
    let asked = Freshness::AskedSince(since);
    let gathered = inputs.collector.gather(&needs, asked, &mut allowance).await;
    review.evidence.add(gathered.evidence);
}

/// The review with what is known of emergency changes: their statements, and the incidents that they name.
async fn with_emergencies(
    mut review: Review,
    governing: &Governing<'_>,
    needs: &BTreeMap<Subject, ImageNeeds>,
    since: Instant,
    allowance: &mut Allowance,
    inputs: &ReviewInputs,
) -> Review {
    let snapshot = &inputs.snapshot;
    let more = governing.emergency_needs(&review.promotion, &review.verdict, needs);
    if !more.is_empty() {
        let asked = Freshness::AskedSince(since);
        let gathered = inputs.collector.gather(&more, asked, allowance).await;
        review.evidence.add(gathered.evidence);
        review = judged(review.promotion, review.evidence, governing, snapshot).await;
    }
    // The incidents come last: they are asked about only where nothing else is missing.
    let questions = review.verdict.incident_questions();
    if !questions.is_empty() {
        let asked = questions.into_iter().map(|question| async {
            let answer = match &inputs.incidents {
                Some(incidents) => {
                    let IncidentQuestion { check, id } = &question;
                    incidents.ask(check, id, inputs.deadline).await
                }
                None => {
                    let check = &question.check;
                    let why = format!("the incident check `{check}` cannot be asked here");
                    Collected::Partial(None, vec![Unavailability(why)])
                }
            };
            (question, answer)
        });
        review.evidence.incidents = join_all(asked).await.into_iter().collect();
        review = judged(review.promotion, review.evidence, governing, snapshot).await;
    }
    review
}

/// The change with its digests, what the record says, and its kind, which decides the requirements that apply.
async fn classified(
    change: Change,
    governing: &Governing<'_>,
    inputs: &ReviewInputs,
    now: Timestamp,
) -> Promotion {
    let (collector, deadline) = (&inputs.collector, inputs.deadline);
    let trusted = &governing.world.trusted_controllers;
    let Some(records) = &inputs.records else {
        let pins = collector
            .pin(&change, |it| governing.pins(it), deadline)
            .await;
        return Promotion::new(change, pins, Records::not_kept(), trusted, now);
    };
    let records = match records {
        RecordSource::Cluster(records) => records,
        RecordSource::Read(_) | RecordSource::Given(_) => {
            let pins = collector
                .pin(&change, |it| governing.pins(it), deadline)
                .await;
            let known = records.known(&change, &pins, deadline).await;
            let promotion = Promotion::new(change, pins, known, trusted, now);
            let parent = match records {
                RecordSource::Given(given) => given.parent.clone(),
                _ => None,
            };
            return match parent {
                Some(parent) => promotion.leaving_out_injected(parent, governing),
                None => promotion,
            };
        }
    };
    // 1. Upkeep of what is recorded as it is written asks no registry, not even for the digest of a tag.
    let (written, recorded) = records.as_written(&change, trusted, now, deadline).await;
    let promotion = Promotion::new(change, written, recorded, trusted, now);
    if promotion.kind == (ChangeKind::Upkeep { recorded: true }) {
        return promotion;
    }
    // 2. It is upkeep too if injectors added whatever is not recorded. What they added is all that a registry is asked for.
    let promotion = match promotion.asks_for_parent(governing) {
        true => with_parent(promotion, records, governing, inputs).await,
        false => promotion,
    };
    if promotion.injected.is_some() {
        return promotion;
    }
    // 3. Otherwise a tag becomes the digest that it names now, so that everything below is about one image.
    let change = promotion.change;
    let pins = collector
        .pin(&change, |it| governing.pins(it), deadline)
        .await;
    let recorded = records
        .look_up(&change, &pins, trusted, now, deadline)
        .await;
    Promotion::new(change, pins, recorded, trusted, now)
}

/// The change as upkeep with the digests of what was added, if an injector added whatever is not recorded.
async fn with_parent(
    promotion: Promotion,
    records: &ReleaseRecords,
    governing: &Governing<'_>,
    inputs: &ReviewInputs,
) -> Promotion {
    let parent = records.parent(&promotion.change, inputs.deadline).await;
    let mut promotion = match parent {
        Ok(Some(parent)) => promotion.leaving_out_injected(parent, governing),
        Ok(None) => return promotion,
        Err(why) => {
            tracing::warn!(%why, "which images of a Pod an injector added is not known");
            return promotion;
        }
    };
    let images = promotion.change.images.iter().enumerate();
    let added = images.filter(|(at, _)| promotion.is_injected(*at));
    let added: Vec<_> = added.map(|(_, image)| image.reference.clone()).collect();
    let pins = inputs
        .collector
        .pin(&promotion.change, |it| added.contains(it), inputs.deadline);
    for (at, pin) in pins.await.into_iter().enumerate() {
        if promotion.is_injected(at)
            && let Some(known) = promotion.pins.get_mut(at)
        {
            *known = pin;
        }
    }
    promotion
}

/// Since when the listings have to be asked for that a denial rests on: since the review began, or, where it only warns or
/// audits, at most once a minute. `None` where nothing is denied. What an emergency change lets pass rests on a listing asked for it
/// too: somebody may have ended it meanwhile.
fn revalidate_since(verdict: &Verdict, inputs: &ReviewInputs, began: Instant) -> Option<Instant> {
    let is_denied = verdict.decision() == Decision::Deny && !inputs.audit_only;
    if is_denied || !verdict.emergencies().is_empty() {
        return Some(began);
    }
    verdict.denials().next()?;
    let recent = inputs.collector.limits().recent;
    Some(began.checked_sub(recent).unwrap_or(began))
}
