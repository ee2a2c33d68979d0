//! `check`: checks rendered manifests against policies, with the same engine and the same decisions as the webhook.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use clap::ValueEnum;
use futures::StreamExt as _;
use jiff::Timestamp;
use promotion_gate_core::gate::Snapshot;
use tokio::time::Instant;

use super::changes::{Asked, NotAsked, changes};
use super::deciding::{Deciding, Purpose};
use super::out::write_json;
use super::render::json::{CheckDecision, CheckReport, ObjectReport, VERSION};
use super::render::{human, sarif::sarif};
use super::world::{Given, Input, NO_OBJECTS};
use crate::review::{Review, ReviewInputs, review};

/// Objects that are reviewed concurrently.
const SIDE_BY_SIDE: usize = 16;

/// Check manifests against policies
///
/// Exit codes: 0 every object is allowed, 1 wrong usage, unreadable input (no object, or an image that can never be a
/// reference) or a failure of the tool, 2 the whole input was read and at least one object is denied, 3 no object is denied but
/// at least one could not be decided (for example because a registry does not answer).
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  promotion-gate check --policy policies/ deployment.yaml
  helm template . | promotion-gate check --policy policies/ --namespace payments -
  kustomize build overlays/prod | promotion-gate check --policy policies/ --output json -
  promotion-gate check --policy policies/ --output sarif rendered/ > results.sarif
  promotion-gate check --policy policies/ --namespace payments --namespace-labels tier=production rendered/
  promotion-gate check --from-cluster --context production rendered/    with the resources of a cluster")]
pub(super) struct Args {
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    deciding: Deciding,
    /// Output format
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
    /// The time of the review, such as 2026-11-23T03:00:00Z; now when absent
    #[arg(long, value_name = "TIME", value_parser = instant)]
    at: Option<Timestamp>,
    /// Time limit for reading the evidence of all objects, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Text for people
    Human,
    /// JSON for programs, with a versioned schema
    Json,
    /// SARIF 2.1.0 for code scanning: what is not met, and what an emergency change waives as suppressed
    Sarif,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut sources = args.deciding.or_in("default").open().await?;
    let input = Input::read(&args.given.inputs)?;
    let at = args.at.unwrap_or_else(Timestamp::now);
    let referred = sources.referred(&input).await;
    let (asked, not_asked) = changes(&input, &referred, sources.namespace(), sources.actor());
    let named = asked.iter();
    let named = named.filter_map(|asked| asked.change.workload.namespace.clone());
    let purpose = Purpose {
        namespaces: &named.collect(),
        labels: &input.namespaces(),
        at,
        asked_at: args.at,
        environment: None,
        within: Duration::from_secs(args.timeout),
    };
    let snapshot = sources.snapshot(&purpose).await?;
    if input.objects().is_empty() && input.problems().is_empty() && !args.given.allow_empty {
        bail!("{NO_OBJECTS}");
    }
    input.remarks();
    let inputs = ReviewInputs {
        snapshot: snapshot.into(),
        collector: Arc::clone(&sources.collector),
        records: None,
        incidents: sources.incidents(),
        deadline: Instant::now() + Duration::from_secs(args.timeout),
        audit_only: false,
    };
    let reviews = review_all(asked, &inputs, at).await;
    let report = report(&reviews, &input, not_asked, &inputs.snapshot, at);
    match args.output {
        Output::Human => human::check(&reviews, &report),
        Output::Json => write_json(&report)?,
        Output::Sarif => write_json(&sarif(&report))?,
    }
    Ok(exit_code(&report))
}

/// A time that an argument gives.
pub(super) fn instant(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| {
        "expected a time with its offset, such as `2026-11-23T03:00:00Z` or `2026-11-23T04:00:00+01:00`".to_owned()
    })
}

async fn review_all(
    asked: Vec<Asked>,
    inputs: &ReviewInputs,
    at: Timestamp,
) -> Vec<(String, u64, Review)> {
    let progress = human::progress(asked.len(), "objects reviewed");
    let reviews = futures::stream::iter(asked).map(|Asked { file, line, change }| {
        let progress = &progress;
        async move {
            let review = review(change, inputs, at).await;
            progress.inc(1);
            (file, line, review)
        }
    });
    let reviews = reviews.buffered(SIDE_BY_SIDE).collect().await;
    progress.finish_and_clear();
    reviews
}

fn report(
    reviews: &[(String, u64, Review)],
    input: &Input,
    not_asked: NotAsked,
    snapshot: &Snapshot,
    at: Timestamp,
) -> CheckReport {
    let decision = reviews
        .iter()
        .map(|(_, _, review)| CheckDecision::of(&review.verdict))
        .max();
    let unusable = input.unusable();
    let problems = input.problems().iter().chain(&unusable);
    let problems: Vec<String> = problems.map(ToString::to_string).collect();
    CheckReport {
        version: VERSION,
        // Input that could not be read may hold an object that a policy denies.
        decision: match (
            decision.unwrap_or(CheckDecision::Allow),
            problems.as_slice(),
        ) {
            (CheckDecision::Allow, [_, ..]) => CheckDecision::Undecided,
            (decision, _) => decision,
        },
        at,
        policy_revision: snapshot.revision.clone(),
        objects: reviews
            .iter()
            .map(|(file, line, review)| ObjectReport::of(file, *line, review))
            .collect(),
        problems,
        unknown: not_asked.unknown,
        not_ours: not_asked.without_images,
    }
}

fn exit_code(report: &CheckReport) -> ExitCode {
    match report.decision {
        _ if !report.problems.is_empty() => ExitCode::from(super::FAILURE),
        CheckDecision::Deny => ExitCode::from(2),
        CheckDecision::Undecided => ExitCode::from(3),
        CheckDecision::Allow => ExitCode::SUCCESS,
    }
}
