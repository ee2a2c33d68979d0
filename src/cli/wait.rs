//! `wait`: ends when the policies would allow every image of an application, or when that cannot come any more.

mod progress;
mod superseded;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use futures::StreamExt as _;
use jiff::Timestamp;
use promotion_gate_core::gate::{
    Age, Certainty, Change, Decision, ImageReference, Prospect, Snapshot, Workload,
};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::deciding::{Deciding, FEEDS, Purpose, Recorded, Sources, as_source, namespaces_of};
use super::render::Output;
use super::world::Input;
use crate::cluster::ApiFailure;
use crate::review::{Review, ReviewInputs, review};
use progress::{Missing, Progress, State};
use superseded::Before;

/// The first pause between two looks; each later one is twice as long, up to `--interval`.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest time of one look at the registries.
const LOOK: Duration = Duration::from_secs(60);
/// How much later than the time-out a look may end.
const GRACE: Duration = Duration::from_secs(5);
/// The longest time-out. What takes longer is a decision for people, and not for a job that holds a runner.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// Objects that are reviewed at a time.
const SIDE_BY_SIDE: usize = 4;
/// The most images of the command line.
const MAXIMUM_IMAGES: usize = 100;

/// Wait until the policies would allow every image of an application
///
/// Nothing is locked and nothing is changed: run it before the first object is applied. It prints what is missing, again whenever
/// that changes, and a sign of life every five minutes. A registry or cluster that does not answer is asked again.
///
/// With images instead of manifests there is no workload: a Pod of these images in `--namespace` (`default` when absent) is judged,
/// and `--workload` says which other version of it ends the wait. With `--from-cluster`, policies, people, freezes and release records are those of the cluster, and are read again at each look. Do not wait for a
/// rollback: the cluster recognises one by what the API server makes of the manifest, which is not known here.
///
/// Exit codes: 0 everything would be allowed, 1 wrong usage or a failure of the tool, 2 a person has rejected an image, or it cannot
/// be allowed by waiting (an image that the policy does not name, a tag where a digest is required, a revoked digest), or
/// another version of the workload was admitted meanwhile (`--from-cluster` with `-f` or `--workload`), 3 the time is over, 130 or 143 it was stopped by
/// SIGINT or SIGTERM.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  promotion-gate wait --policy policies/ --environment production --timeout 1h -f rendered/
  helm template . | promotion-gate wait --from-cluster --environment production --namespace payments -f -
  promotion-gate wait --from-cluster --environment production --namespace payments ghcr.io/example/app@sha256:…")]
pub(super) struct Args {
    /// Images, if there are no manifests
    #[arg(value_name = "IMAGE", required_unless_present = "inputs")]
    images: Vec<ImageReference>,
    /// Manifests: files, folders, or `-` for standard input; may be given several times
    #[arg(
        short = 'f',
        long = "filename",
        value_name = "PATH|-",
        conflicts_with = "images"
    )]
    inputs: Vec<String>,
    /// The environment to which is deployed: at least one of its policies must govern, so that a wrong namespace is not taken for an
    /// approval. Every other policy that governs must allow it too
    #[arg(long, value_name = "NAME")]
    environment: String,
    #[command(flatten)]
    deciding: Deciding,
    #[command(flatten)]
    recorded: Recorded,
    /// How long to wait at most, such as `30m` or `1h`
    #[arg(long, value_name = "TIME", default_value = "1h")]
    timeout: Age,
    /// The longest pause between two looks, in seconds; the first ones are shorter
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    interval: u64,
    /// The application, for the output
    #[arg(long, value_name = "NAME")]
    application: Option<String>,
    /// The version that waits, for the output
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// Output format; JSON is one line for each change
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
}

/// How a wait ends.
enum End {
    State(State, Option<String>),
    /// SIGINT or SIGTERM, with the number of the signal.
    Signal(u8),
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    // Standard input is read before signals are caught, so that they end a read that never ends.
    let input = Input::read(&args.inputs)?;
    let stopped = signals()?;
    let timeout = args.timeout.duration().unsigned_abs();
    if timeout > LONGEST {
        bail!("`--timeout {}` is longer than 7d", args.timeout);
    }
    if args.images.len() > MAXIMUM_IMAGES {
        bail!("more than {MAXIMUM_IMAGES} images are given; use `-f` with the manifests");
    }
    let mut progress = Progress::new(
        args.output,
        &args.environment,
        args.application.clone(),
        args.version.clone(),
        timeout,
    );
    let end = tokio::select! {
        signal = stopped => End::Signal(signal),
        ended = wait(args, input, timeout, &mut progress) => ended?,
    };
    match end {
        End::Signal(signal) => {
            let name = if signal == 2 { "SIGINT" } else { "SIGTERM" };
            progress.end(State::Stopped, Some(name.to_owned()))?;
            Ok(ExitCode::from(128 + signal))
        }
        End::State(state, why) => {
            progress.end(state, why)?;
            Ok(match state {
                State::Allowed => ExitCode::SUCCESS,
                State::TimedOut | State::Waiting | State::Stopped => ExitCode::from(3),
                State::Rejected | State::Impossible | State::Superseded => ExitCode::from(2),
            })
        }
    }
}

/// Resolves to the number of the signal that stops the program.
fn signals() -> anyhow::Result<impl Future<Output = u8>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => 15,
            _ = interrupt.recv() => 2,
        }
    })
}

async fn wait(
    args: Args,
    input: Input,
    timeout: Duration,
    progress: &mut Progress,
) -> anyhow::Result<End> {
    let end = Instant::now() + timeout;
    let began = Timestamp::now();
    let interval = Duration::from_secs(args.interval);
    let mut waiting = Waiting::open(args, input).await?;
    let mut pause = FIRST_PAUSE.min(interval);
    loop {
        // A look ends at the deadline by itself; reading a cluster that does not answer may not.
        let look = timeout_at(end + GRACE, waiting.look(end));
        let Ok(look) = look.await else {
            return Ok(End::State(State::TimedOut, None));
        };
        match look {
            Ok(Look::Ends(state, missing, why)) => {
                progress.show_last(missing);
                return Ok(End::State(state, why));
            }
            // A look that the end of the time cut short says nothing new.
            Ok(Look::Missing(_)) if Instant::now() >= end && progress.has_shown() => {}
            Ok(Look::Missing(missing)) => progress.show(missing)?,
            // What has never been read and does not become readable by waiting is wrong usage.
            Err(error) if !waiting.has_looked && !may_pass(&error) => return Err(error),
            Err(error) => {
                waiting.unread_since.get_or_insert(began);
                progress.show(vec![Missing::of_trouble(&error)])?;
            }
        }
        let next = Instant::now() + jittered(pause);
        while Instant::now() < next.min(end) {
            sleep_until(next.min(end).min(progress.next_sign())).await;
            progress.sign_of_life();
        }
        if Instant::now() >= end {
            return Ok(End::State(State::TimedOut, None));
        }
        pause = (pause * 2).min(interval);
    }
}

/// Whether the cluster may answer later: it did not answer now, or was overloaded.
fn may_pass(error: &anyhow::Error) -> bool {
    let mut failures = error
        .chain()
        .filter_map(|it| it.downcast_ref::<ApiFailure>());
    failures.any(|failure| failure.is_transient)
}

/// A pause with up to a fifth less, so that many waiting jobs do not ask at the same moment.
fn jittered(pause: Duration) -> Duration {
    let mut random = [0_u8; 1];
    // Without randomness all pauses are of full length.
    let _ = aws_lc_rs::rand::fill(&mut random);
    pause - pause * u32::from(random[0]) / (5 * 255)
}

/// What waits.
struct Waiting {
    environment: String,
    recorded: Recorded,
    sources: Sources,
    images: Vec<ImageReference>,
    input: Input,
    /// The workload that images are for.
    workload: Option<Workload>,
    /// What the records said when the wait began.
    before: Option<Before>,
    /// When the wait began, if something could not be read at first.
    unread_since: Option<Timestamp>,
    /// Whether everything was read once.
    has_looked: bool,
}

/// What one look shows.
enum Look {
    Missing(Vec<Missing>),
    Ends(State, Vec<Missing>, Option<String>),
}

impl Waiting {
    async fn open(args: Args, input: Input) -> anyhow::Result<Waiting> {
        let sources = args.deciding.or_in("default").open().await?;
        let workload = args.recorded.workload(&sources)?;
        if workload.is_some() && args.images.is_empty() {
            bail!("`--workload` belongs to images; manifests say which workloads they are");
        }
        input.remarks();
        Ok(Waiting {
            environment: args.environment,
            recorded: args.recorded,
            sources,
            images: args.images,
            input,
            workload,
            before: None,
            unread_since: None,
            has_looked: false,
        })
    }

    async fn changes(&self) -> anyhow::Result<Vec<Change>> {
        if self.images.is_empty() {
            return self.sources.changes(&self.input).await;
        }
        let mut change = self.sources.pod(&self.images)?;
        if let Some(workload) = &self.workload {
            // What the records say of it counts, such as the commit that it runs.
            change.workload = workload.clone();
        }
        Ok(vec![change])
    }

    async fn look(&mut self, end: Instant) -> anyhow::Result<Look> {
        let now = Timestamp::now();
        // 1. What waits, the policies and the records, as they are now.
        let changes = self.changes().await?;
        let namespaces = namespaces_of(&changes);
        let purpose = Purpose {
            namespaces: &namespaces,
            labels: &self.input.namespaces(),
            at: now,
            asked_at: None,
            environment: None,
            within: FEEDS,
        };
        let snapshot = Arc::new(self.sources.snapshot(&purpose).await?);
        if !self.has_looked {
            self.is_about_something(&changes, &snapshot)?;
        }
        let records = self.recorded.read(&self.sources, &namespaces).await?;
        let workloads: Vec<_> = match self.images.is_empty() {
            true => changes.iter().map(|it| it.workload.clone()).collect(),
            false => self.workload.iter().cloned().collect(),
        };
        // 2. The verdicts of today.
        let inputs = ReviewInputs {
            snapshot,
            collector: Arc::clone(&self.sources.collector),
            records: as_source(records.as_ref()),
            incidents: self.sources.incidents(),
            deadline: end.min(Instant::now() + LOOK),
            audit_only: false,
        };
        let reviews = futures::stream::iter(changes);
        let reviews = reviews.map(|change| review(change, &inputs, now));
        let reviews: Vec<_> = reviews.buffered(SIDE_BY_SIDE).collect().await;
        let missing: Vec<_> = reviews.iter().flat_map(Missing::of).collect();
        self.has_looked = true;
        // 3. A version that came later ends the wait for this one, also if it would be allowed by now.
        if let Some(records) = records {
            let before = match self.before.take() {
                Some(before) => before,
                None => Before::of(&workloads, &records, self.unread_since).await,
            };
            let superseded = before.superseded(&reviews, &records).await;
            self.before = Some(before);
            if let Some(why) = superseded {
                return Ok(Look::Ends(State::Superseded, missing, Some(why)));
            }
        }
        Ok(decided(&reviews, missing))
    }

    /// Whether a policy of the environment governs what waits.
    fn is_about_something(&self, changes: &[Change], snapshot: &Snapshot) -> anyhow::Result<()> {
        let with_images = changes.iter();
        let mut with_images = with_images
            .filter(|change| !change.images.is_empty() || !change.unreadable.is_empty())
            .peekable();
        if with_images.peek().is_none() {
            bail!("the input names no image, so that there is nothing to wait for");
        }
        let mut others = BTreeSet::new();
        for change in with_images {
            let governing = snapshot.governing(change);
            let mut certainties = governing.policies.iter().map(|(_, certainty)| certainty);
            if self.sources.cluster.is_none()
                && certainties.any(|certainty| *certainty == Certainty::LabelsUnknown)
            {
                bail!(
                    "policies select namespaces by label, and the labels of `{}` are not known: give them with `--namespace-labels`, a Namespace object or the configuration",
                    change.workload.namespace.as_deref().unwrap_or_default()
                );
            }
            if !governing.unreadable.is_empty() {
                return Ok(());
            }
            for (policy, _) in governing.policies {
                match &policy.environment {
                    Some(environment) if *environment == self.environment => return Ok(()),
                    Some(environment) => others.insert(format!("`{environment}`")),
                    None => false,
                };
            }
        }
        let others: Vec<_> = others.into_iter().collect();
        let others = match others.as_slice() {
            [] => String::new(),
            others => format!(" (policies of {} do)", others.join(", ")),
        };
        bail!(
            "no policy of the environment `{}` governs what waits{others}: check `--environment` and `--namespace`",
            self.environment
        )
    }
}

fn decided(reviews: &[Review], missing: Vec<Missing>) -> Look {
    let mut verdicts = reviews.iter().map(|review| &review.verdict);
    if verdicts.all(|verdict| verdict.decision() == Decision::Allow) {
        return Look::Ends(State::Allowed, missing, None);
    }
    let prospects = reviews.iter().map(|review| review.verdict.prospect());
    match prospects.max() {
        Some(Prospect::Rejected) => Look::Ends(State::Rejected, missing, None),
        Some(Prospect::Never) => Look::Ends(State::Impossible, missing, None),
        Some(Prospect::Later) | None => Look::Missing(missing),
    }
}
