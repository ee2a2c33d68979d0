//! The story of one review: what was asked, what governs it, which digests it runs, what is known about them, and what
//! follows from that. The webhook and the CLI call this, and nothing else decides.

use std::sync::Arc;

use futures::FutureExt as _;
use jiff::Timestamp;
use promotion_gate_core::gate::{
    Change, Collected, Decision, Evidence, Promotion, Snapshot, Unavailability, Verdict, judge,
};
use tokio::time::Instant;

use crate::collect::{Collector, Freshness};
use crate::oci::Meter;

/// What a review may look at.
#[derive(Clone)]
pub struct ReviewInputs {
    /// The policies, and what is known of the cluster.
    pub snapshot: Arc<Snapshot>,
    /// Fetches and remembers evidence.
    pub collector: Arc<Collector>,
    /// When the answer must be there; what is still unknown then is said.
    pub deadline: Instant,
    /// Whether denials are only recorded (`--audit-only`), whatever the policies' enforcement.
    pub audit_only: bool,
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
    // 2. Pin: a tag becomes the digest that it names now, so that everything below is about one image.
    let pins = collector.pin(&change, &governing, inputs.deadline).await;
    let records = Collected::Unavailable(Unavailability(
        "release records are not read yet".to_owned(),
    ));
    // 3. Classify: what kind of change it is decides which requirements apply.
    let trusted = &snapshot.world.trusted_controllers;
    let promotion = Promotion::new(change, pins, records, trusted, now);
    // 4. Ask and gather: exactly what the requirements need, at first from memory.
    let needs = governing.needs(&promotion);
    let mut allowance = collector.allowance(inputs.deadline);
    let gathered = collector
        .gather(&needs, Freshness::FromCache, &mut allowance)
        .await;
    // 5. Judge.
    let verdict = judge(&promotion, &gathered.evidence, &governing);
    let Some(since) = revalidate_since(&verdict, inputs, began) else {
        return Review {
            promotion,
            evidence: gathered.evidence,
            verdict,
        };
    };
    // 6. Revalidate: a denial never rests on an older listing from memory, since the image may have been signed meanwhile.
    let evidence = collector
        .revalidate(&promotion, &needs, gathered, since, &mut allowance)
        .await;
    let verdict = judge(&promotion, &evidence, &governing);
    Review {
        promotion,
        evidence,
        verdict,
    }
}

/// Since when the listings have to be asked for that a denial rests on: since the review began, or, where it only warns or
/// audits, at most once a minute. `None` where nothing is denied.
fn revalidate_since(verdict: &Verdict, inputs: &ReviewInputs, began: Instant) -> Option<Instant> {
    if verdict.decision() == Decision::Deny && !inputs.audit_only {
        return Some(began);
    }
    verdict.denials().next()?;
    let recent = inputs.collector.limits().recent;
    Some(began.checked_sub(recent).unwrap_or(began))
}
