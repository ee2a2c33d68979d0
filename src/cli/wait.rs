//! `wait`: ends when the policies would allow every image of an application, or when that cannot come any more.

mod progress;
mod superseded;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use futures::StreamExt as _;
use jiff::Timestamp;
use promotion_gate_core::gate::{
    Age, Certainty, Change, Decision, ImageReference, Pin, Prospect, Snapshot, Workload,
};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::approvals::pod;
use super::check::changes;
use super::deciding::{Deciding, Sources};
use super::render::Output;
use super::world::{Input, NO_OBJECTS};
use crate::record::RecordsOnce;
use crate::review::{RecordSource, Review, ReviewInputs, review};
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
/// With images instead of manifests there is no workload: a Pod of these images in `--namespace` is judged. With `--from-cluster`,
/// policies, people, freezes and release records are those of the cluster, and are read again at each look. Do not wait for a
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
    /// The namespace of objects that do not name one, and of images
    #[arg(long, value_name = "NS", default_value = "default")]
    namespace: String,
    /// With images: the workload that they are for, such as `Deployment/web` in `--namespace`, to end when another version of it is
    /// admitted
    #[arg(
        long,
        value_name = "KIND/NAME",
        conflicts_with = "inputs",
        requires = "from_cluster"
    )]
    workload: Option<String>,
    #[command(flatten)]
    deciding: Deciding,
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
    /// The namespace of the gate, which holds the records of cluster-scoped objects
    #[arg(long, value_name = "NAME", default_value = "promotion-gate")]
    gate_namespace: String,
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
    let interval = Duration::from_secs(args.interval);
    let mut waiting = Waiting::open(args, input).await?;
    let mut pause = FIRST_PAUSE.min(interval);
    let mut is_first = true;
    loop {
        // A look ends at the deadline by itself; reading a cluster that does not answer may not.
        let look = timeout_at(end + GRACE, waiting.look(end, is_first));
        let Ok(look) = look.await else {
            return Ok(End::State(State::TimedOut, None));
        };
        match look {
            Ok(Look::Ends(state, missing, why)) => {
                progress.show_last(missing);
                return Ok(End::State(state, why));
            }
            Ok(Look::Missing(missing)) => progress.show(missing)?,
            Err(error) if is_first => return Err(error),
            Err(error) => progress.show(vec![Missing::of_trouble(&error)])?,
        }
        is_first = false;
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
    namespace: String,
    gate_namespace: String,
    sources: Sources,
    changes: Vec<Change>,
    namespaces: BTreeSet<String>,
    /// The workloads of which another version ends the wait.
    workloads: Vec<Workload>,
    /// The labels of the Namespace objects among the manifests.
    labels: BTreeMap<String, BTreeMap<String, String>>,
    /// What the records said when the wait began.
    before: Option<Before>,
}

/// What one look shows.
enum Look {
    Missing(Vec<Missing>),
    Ends(State, Vec<Missing>, Option<String>),
}

impl Waiting {
    async fn open(args: Args, input: Input) -> anyhow::Result<Waiting> {
        let Args {
            images,
            environment,
            namespace,
            deciding,
            gate_namespace,
            workload,
            ..
        } = args;
        let named = workload.map(|written| superseded::workload(&written, &namespace));
        let named = named.transpose()?;
        let sources = deciding.open().await?;
        let changes = match images.as_slice() {
            [] => of_input(&input, &namespace, &sources).await?,
            images => {
                let mut change = pod(images, &namespace, sources.actor())?;
                if let Some(workload) = &named {
                    // What the records say of it counts, such as the commit that it runs.
                    change.workload = workload.clone();
                }
                vec![change]
            }
        };
        let workloads = match images.as_slice() {
            [] => changes.iter().map(|it| it.workload.clone()).collect(),
            _ => named.into_iter().collect(),
        };
        let namespaces = changes.iter();
        let namespaces = namespaces.filter_map(|change| change.workload.namespace.clone());
        Ok(Waiting {
            namespaces: namespaces.collect(),
            workloads,
            labels: input.namespaces(),
            environment,
            namespace,
            gate_namespace,
            sources,
            changes,
            before: None,
        })
    }

    async fn look(&mut self, end: Instant, is_first: bool) -> anyhow::Result<Look> {
        let now = Timestamp::now();
        // 1. The policies and the records, as they are now.
        let namespace = Some(self.namespace.as_str());
        let snapshot = self.sources.snapshot(&self.namespaces, namespace, now);
        let mut snapshot = snapshot.await?;
        // The author of the change writes the manifests: they never replace what the operator or the cluster says.
        for (name, labels) in &self.labels {
            if snapshot.world.namespaces.get(name).is_none() {
                let namespaces = &mut snapshot.world.namespaces;
                namespaces.insert(name.clone(), labels.clone());
            }
        }
        let snapshot = Arc::new(snapshot);
        if is_first {
            self.is_about_something(&snapshot)?;
        }
        let records = match &self.sources.cluster {
            Some(cluster) => Some(Arc::new(
                RecordsOnce::read(cluster, &self.gate_namespace).await?,
            )),
            None => None,
        };
        // 2. The verdicts of today.
        let inputs = ReviewInputs {
            snapshot,
            collector: Arc::clone(&self.sources.collector),
            records: records.clone().map(|records| {
                let about = move |change: &Change, pins: &[Pin]| records.about(change, pins);
                RecordSource::Given(Arc::new(about))
            }),
            incidents: None,
            deadline: end.min(Instant::now() + LOOK),
            audit_only: false,
        };
        let reviews = futures::stream::iter(self.changes.clone());
        let reviews = reviews.map(|change| review(change, &inputs, now));
        let reviews: Vec<_> = reviews.buffered(SIDE_BY_SIDE).collect().await;
        let missing: Vec<_> = reviews.iter().flat_map(Missing::of).collect();
        // 3. A version that came later ends the wait for this one, also if it would be allowed by now.
        if let Some(records) = records {
            let before = self
                .before
                .get_or_insert_with(|| Before::of(&self.workloads, &records));
            if let Some(why) = before.superseded(&reviews, &records) {
                return Ok(Look::Ends(State::Superseded, missing, Some(why)));
            }
        }
        Ok(decided(&reviews, missing))
    }

    /// Whether a policy of the environment governs what waits.
    fn is_about_something(&self, snapshot: &Snapshot) -> anyhow::Result<()> {
        let with_images = self.changes.iter();
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

/// The objects of manifests that are judged.
async fn of_input(
    input: &Input,
    namespace: &str,
    sources: &Sources,
) -> anyhow::Result<Vec<Change>> {
    let unusable = input.unusable();
    let problems: Vec<_> = input.problems().iter().chain(&unusable).collect();
    if !problems.is_empty() {
        let lines: Vec<_> = problems.iter().map(|it| format!("  {it}")).collect();
        bail!("the manifests cannot be used:\n{}", lines.join("\n"));
    }
    if input.objects().is_empty() {
        bail!("{NO_OBJECTS}");
    }
    input.remarks();
    let mut referred = Vec::new();
    if let Some(cluster) = &sources.cluster {
        for object in input.objects() {
            referred.extend(cluster.referred(object.value, Some(namespace)).await);
        }
    }
    let (asked, _) = changes(input, &referred, namespace, sources.actor());
    Ok(asked.into_iter().map(|asked| asked.change).collect())
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
