//! The story of one review: what was asked, what governs it, which digests it runs, what is known about them, and what
//! follows from that. The webhook and the CLI call this, and nothing else decides.

use std::sync::Arc;

use futures::FutureExt as _;
use jiff::Timestamp;
use promotion_gate_core::gate::{
    Change, ChangeKind, Decision, Evidence, Promotion, Snapshot, Verdict, judge,
};
use tokio::time::Instant;

use crate::collect::{Collector, Freshness};
use crate::oci::Meter;

/// What a review may look at.
#[derive(Clone)]
pub struct World {
    /// The policies, and what is known of the cluster.
    pub snapshot: Arc<Snapshot>,
    /// Fetches and remembers evidence.
    pub collector: Arc<Collector>,
    /// When the answer must be there; what is still unknown then is said.
    pub deadline: Instant,
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
/// There is no error path on which somebody would have to remember to deny: what could not be learned is part of the
/// evidence, and denies where it matters.
pub async fn review(change: Change, world: &World, now: Timestamp) -> Review {
    let reviewed = reviewed(change, world, now).boxed();
    match Meter::current() {
        Some(_) => reviewed.await,
        // What is scarce is shared between reviews, so each has to be known as one.
        None => Meter::default().count(reviewed).await,
    }
}

async fn reviewed(change: Change, world: &World, now: Timestamp) -> Review {
    let began = Instant::now();
    let governing = world.snapshot.governing(&change);
    let pins = world
        .collector
        .pin(&change, &governing, world.deadline)
        .await;
    let promotion = Promotion {
        kind: classify(&change),
        change,
        at: now,
        pins,
    };
    let needs = governing.needs(&promotion);
    let mut allowance = world.collector.allowance(world.deadline);
    let gathered = world
        .collector
        .gather(&needs, Freshness::Remembered, &mut allowance)
        .await;
    let verdict = judge(&promotion, &gathered.learned, &world.snapshot);
    let Some(since) = fresh_enough(&verdict, world, began) else {
        return Review {
            promotion,
            evidence: gathered.learned,
            verdict,
        };
    };
    // A denial never rests on an older listing from memory: the image may have been signed since.
    let evidence = world
        .collector
        .ask_again(&promotion, &needs, gathered, since, &mut allowance)
        .await;
    let verdict = judge(&promotion, &evidence, &world.snapshot);
    Review {
        promotion,
        evidence,
        verdict,
    }
}

/// Since when the listings have to be asked for that a denial rests on: since the review began, or, where it only warns or
/// audits, at most once a minute. `None` where nothing is denied.
fn fresh_enough(verdict: &Verdict, world: &World, began: Instant) -> Option<Instant> {
    if verdict.decision() == Decision::Deny {
        return Some(began);
    }
    verdict.denials().next()?;
    let recent = world.collector.limits().recent;
    Some(began.checked_sub(recent).unwrap_or(began))
}

/// The kind of a change. No cluster stands behind a review yet, so there is no record of what was admitted, and everything
/// that is ours is judged by all requirements, whoever asks.
fn classify(_change: &Change) -> ChangeKind {
    ChangeKind::Deploy
}
