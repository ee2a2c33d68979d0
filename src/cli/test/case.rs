//! Runs one case: puts its evidence into a registry in memory, makes the webhook's review, and compares the result with the
//! expected one.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use promotion_gate_core::attest::media_type::BUNDLE;
use promotion_gate_core::gate::{Change, Collected, Decision, Finding, Outcome, Pin, Snapshot};
use tokio::time::Instant;

use super::format::ExpectedDecision;
use super::freezes::CaseFreezes;
use super::load::{Case, Piece, Suite};
use super::report::{CaseReport, Expected, TestedObject};
use super::signers::TestSigners;
use crate::api;
use crate::collect::{CacheSizes, Collector};
use crate::incidents::Incidents;
use crate::oci::{Layer, Memory, Via};
use crate::review::{GivenRecords, RecordSource, Review, ReviewInputs, review};

/// Time limit of one case; no network is used.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Runs a case.
///
/// # Errors
/// The sandbox cannot make what the case describes.
pub(super) async fn run(suite: &Suite, case: &Case) -> anyhow::Result<CaseReport> {
    let (signers, snapshot) = match &suite.sandboxed {
        Some((signers, snapshot)) if case.needs_sandbox() => (Some(signers), snapshot),
        _ => (None, &suite.real),
    };
    let registry = registry(case, signers)?;
    let mut snapshot: Snapshot = snapshot.clone();
    for (namespace, labels) in &case.namespaces {
        snapshot
            .world
            .namespaces
            .insert(namespace.clone(), labels.clone());
    }
    let at = case.at.unwrap_or_else(Timestamp::now);
    let CaseFreezes { freezes, feeds } = &case.freezes;
    let schedule = api::schedule(freezes.clone(), feeds, at);
    snapshot.world.freezes = Collected::Known(Arc::new(schedule));
    case.kept.add_to(&mut snapshot.world, signers);
    let inputs = ReviewInputs {
        snapshot: Arc::new(snapshot),
        collector: Arc::new(Collector::new(
            Arc::new(registry),
            suite.limits,
            CacheSizes::default(),
        )),
        records: case.kept.has_records().then(|| {
            let kept = Arc::clone(&case.kept);
            let parent = kept.parent.clone();
            let about = move |change: &Change, pins: &[Pin]| kept.records(change, pins, at);
            RecordSource::Given(Box::new(GivenRecords {
                about: Arc::new(about),
                parent,
            }))
        }),
        incidents: Some(Arc::clone(&case.incidents) as Arc<dyn Incidents>),
        deadline: Instant::now() + TIMEOUT,
        audit_only: false,
    };
    let mut reviews = Vec::new();
    for change in &case.changes {
        let mut change = change.clone();
        change.object.before = case.kept.present(&change);
        reviews.push(review(change, &inputs, at).await);
    }
    Ok(compare(case, &reviews))
}

fn registry(case: &Case, signers: Option<&TestSigners>) -> anyhow::Result<Memory> {
    let mut registry = Memory::default();
    for (repository, digest) in &case.images {
        registry.image(repository, digest);
    }
    for (repository, tag, digest) in &case.tags {
        registry.tag(repository, tag, digest);
    }
    for attached in &case.evidence {
        for (repository, digest) in &attached.to {
            let (via, layer) = match (&attached.piece, signers) {
                (Piece::Signed(fact), Some(signers)) => signers.sign(fact, digest)?,
                // A case with evidence to sign has signers.
                (Piece::Signed(_), None) => continue,
                (Piece::Bundle(bytes), _) => {
                    let media_type = BUNDLE.to_owned();
                    let annotations = Default::default();
                    (
                        Via::Referrers,
                        Layer {
                            media_type,
                            bytes: bytes.clone(),
                            annotations,
                        },
                    )
                }
                (Piece::Layout(layout), _) => {
                    registry.add_layout(repository, digest, Arc::clone(layout));
                    continue;
                }
                (Piece::Unavailable, _) => {
                    registry.fail(repository, digest);
                    continue;
                }
            };
            registry.attach(repository, digest, via, vec![layer])?;
        }
    }
    Ok(registry)
}

fn compare(case: &Case, reviews: &[Review]) -> CaseReport {
    let decision = reviews
        .iter()
        .map(answer)
        .max()
        .unwrap_or(ExpectedDecision::Ungoverned);
    let findings = || {
        let policies = reviews.iter().flat_map(|review| review.verdict.policies());
        policies.flat_map(|policy| policy.findings())
    };
    let counts = |finding: &&Finding| match case.expect.decision {
        ExpectedDecision::Allow | ExpectedDecision::Ungoverned => {
            matches!(finding.outcome, Outcome::Pass | Outcome::Waived)
        }
        ExpectedDecision::Warn | ExpectedDecision::Undecided | ExpectedDecision::Deny => {
            finding.outcome.denies()
        }
    };
    let said: Vec<_> = findings()
        .filter(counts)
        .map(|finding| format!("{}/{}", finding.rule, finding.reason))
        .collect();
    let reasons = &case.expect.reasons;
    let missing: Vec<_> = reasons
        .iter()
        .filter(|reason| !said.contains(reason))
        .cloned()
        .collect();
    CaseReport {
        name: case.name.clone(),
        line: case.line,
        passed: decision == case.expect.decision && missing.is_empty(),
        expected: Expected {
            decision: case.expect.decision,
            reasons: reasons.clone(),
        },
        decision,
        missing,
        objects: reviews.iter().map(TestedObject::of).collect(),
    }
}

fn answer(review: &Review) -> ExpectedDecision {
    let verdict = &review.verdict;
    match verdict.decision() {
        Decision::Deny if verdict.is_undecided() => ExpectedDecision::Undecided,
        Decision::Deny => ExpectedDecision::Deny,
        Decision::Allow if verdict.denials().next().is_some() => ExpectedDecision::Warn,
        Decision::Allow if verdict.policies().is_empty() => ExpectedDecision::Ungoverned,
        Decision::Allow => ExpectedDecision::Allow,
    }
}
