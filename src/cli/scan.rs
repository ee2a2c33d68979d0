//! `scan`: what runs in a cluster, judged as if it were deployed now.

mod inventory;
mod report;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use promotion_gate_core::gate::{
    Actor, AdmittedBy, Change, Collected, DnsLabel, ImageRecords, Parent, Pin, RecordEntry,
    Records, Snapshot,
};
use serde_json::Value;
use tokio::time::Instant;

use super::cluster::{Live, connect};
use super::out::write_json;
use super::render::human;
use super::render::json::CheckDecision;
use super::world;
use crate::admission;
use crate::api::Kind;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::incidents::Incidents;
use crate::review::{GivenRecords, RecordSource, Review, ReviewInputs, review};
use crate::snapshot::Once;
use inventory::{Found, Inventory};
use report::ScanReport;

/// Workloads that are reviewed at a time: a scan must not load registries as deployments do.
const SIDE_BY_SIDE: usize = 4;

/// Judge what already runs in a cluster, as if it were deployed now
///
/// Workloads are judged, and not each of their Pods. Nothing needs to be installed in the cluster, and nothing is changed there:
/// the command lists objects with the rights of the kubeconfig. `--policy` also takes policies that are not applied yet, to see
/// what they would deny. Kinds that make Pods and that this version does not judge are listed.
///
/// Exit codes: 0 every workload would be allowed, 1 wrong usage, or the cluster cannot be read, 2 at least one would be denied, 3
/// none would be denied but at least one could not be decided (for example because a registry does not answer).
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  promotion-gate scan --policy policies/
  promotion-gate scan --policy policies/production.yaml --namespace payments
  promotion-gate scan --policy policies/ --kubeconfig prod.kubeconfig --output json")]
pub(super) struct Args {
    /// Policies: files or folders; may be given several times. Without any, what runs is listed and not judged
    #[arg(long = "policy", value_name = "PATH")]
    policies: Vec<PathBuf>,
    /// A kubeconfig file; as `kubectl` finds it when absent
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig; the present one when absent
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Judge by the resources of the cluster as the webhook does, besides the files that are given
    #[arg(long)]
    from_cluster: bool,
    /// Scan this namespace alone
    #[arg(long, value_name = "NS")]
    namespace: Option<String>,
    /// The configuration: trust roots, registries, credentials, namespaces
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// The name of the cluster; that of the configuration when absent
    #[arg(long, value_name = "NAME")]
    cluster: Option<DnsLabel>,
    /// The time of the reviews, such as 2026-11-23T03:00:00Z; now when absent
    #[arg(long, value_name = "TIME", value_parser = super::check::instant)]
    at: Option<Timestamp>,
    /// Time limit for reading the evidence of all workloads, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86400))]
    timeout: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// Text for people
    Table,
    /// JSON for programs, with a versioned schema
    Json,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = Config::load(args.config.as_deref())?;
    let cluster = connect(args.kubeconfig.as_deref(), args.context.as_deref()).await?;
    let live = match args.from_cluster {
        true => Some(Live::read(cluster.clone(), &Kind::ALL).await?),
        false => None,
    };
    let documents = match (args.policies.as_slice(), &live) {
        ([], None) => None,
        (paths, live) => Some(world::documents(paths, live.as_ref(), &config)?),
    };
    let inventory = take(&cluster, args.namespace.as_deref()).await?;
    let at = args.at.unwrap_or_else(Timestamp::now);
    let incidents = documents.as_ref().map(|documents| {
        Arc::new(documents.incidents(&config, Some(&cluster))) as Arc<dyn Incidents>
    });
    let overdue_reviews = documents.as_ref().map(Once::overdue_reviews);
    let mut snapshot = snapshot(&args, &config, documents, at).await;
    if let Some(overdue_reviews) = overdue_reviews.filter(|_| args.from_cluster) {
        snapshot.world.overdue_reviews = overdue_reviews;
    }
    add_namespaces(&cluster, &mut snapshot).await?;
    let inputs = ReviewInputs {
        records: None,
        snapshot: snapshot.into(),
        collector: world::collector(&config)?,
        incidents,
        deadline: Instant::now() + Duration::from_secs(args.timeout),
        audit_only: false,
    };
    let Inventory { found, rest, .. } = inventory;
    let reviews = review_all(found, &inputs, at).await;
    let report = ScanReport::of(&reviews, rest, &inputs.snapshot, at);
    match args.output {
        Output::Table => report::table(&reviews, &report),
        Output::Json => write_json(&report)?,
    }
    Ok(match report.decision {
        CheckDecision::Deny => ExitCode::from(2),
        CheckDecision::Undecided => ExitCode::from(3),
        CheckDecision::Allow => ExitCode::SUCCESS,
    })
}

async fn snapshot(
    args: &Args,
    config: &Config,
    documents: Option<Once>,
    at: Timestamp,
) -> Snapshot {
    let Some(documents) = documents else {
        return config.snapshot();
    };
    let asking = documents.set().policies.iter();
    let environments = asking.filter_map(|policy| policy.frozen_environment().map(str::to_owned));
    let environments = environments.collect();
    let within = Duration::from_secs(args.timeout.min(60));
    let (mut feeds, freezes) = documents.feeds();
    feeds.extend(world::feeds(&freezes, &environments, config, args.at, within).await);
    let roots = world::repository_roots(&documents, config, within).await;
    let mut snapshot = documents.snapshot(config.snapshot(), &feeds, at);
    snapshot.world.trust_roots.extend(roots);
    if let Some(cluster) = &args.cluster {
        snapshot.world.cluster = Collected::Known(cluster.clone().into_string());
    }
    snapshot
}

/// Adds the labels of the cluster's namespaces, and its UID; what the configuration says goes first.
async fn add_namespaces(cluster: &Cluster, snapshot: &mut Snapshot) -> anyhow::Result<()> {
    let Some(kind) = cluster.served("", "Namespace").await? else {
        return Ok(());
    };
    let mut listed = Vec::new();
    let listing = cluster.each(&kind, None, async |namespace| {
        listed.push(namespace);
        Ok(())
    });
    if let Err(error) = listing.await {
        // Policies that select by label are then undecided, and say it.
        print_error!("warning: the labels of namespaces are not known: {error:#}");
        return Ok(());
    }
    let world = &mut snapshot.world;
    for namespace in listed {
        let text = |pointer: &str| namespace.pointer(pointer).and_then(Value::as_str);
        let Some(name) = text("/metadata/name") else {
            continue;
        };
        let uid = text("/metadata/uid").filter(|_| name == "kube-system");
        if let (Some(uid), Collected::Unavailable(_)) = (uid, &world.cluster_uid) {
            world.cluster_uid = Collected::Known(uid.to_owned());
        }
        let labels = namespace.pointer("/metadata/labels");
        let labels = labels.and_then(Value::as_object).into_iter().flatten();
        let labels =
            labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
        if world.namespaces.get(name).is_none() {
            world.namespaces.insert(name.to_owned(), labels.collect());
        }
    }
    Ok(())
}

/// Lists what runs, owners before what they own.
async fn take(cluster: &Cluster, namespace: Option<&str>) -> anyhow::Result<Inventory> {
    let mut inventory = Inventory::default();
    let mut kinds = admission::running_kinds();
    kinds.sort_by_key(|(_, kind)| inventory::rank(kind));
    let progress = human::progress(kinds.len(), "kinds listed");
    for (group, kind) in kinds {
        progress.inc(1);
        let Some(served) = cluster.served(group, kind).await? else {
            continue;
        };
        let listing = cluster.each(&served, namespace, async |object| {
            let referred = cluster.referred(&object, None).await;
            inventory.add(&object, referred.as_ref());
            Ok(())
        });
        listing.await?;
    }
    progress.finish_and_clear();
    Ok(inventory)
}

/// The review of a Pod to which an injector added all that its owner does not have, as the webhook makes it: the owner's images were
/// admitted, and what was added is judged by the `injected` entries alone. `None` for every other workload.
async fn reviewed_as_injected(
    found: &Found,
    inputs: &ReviewInputs,
    at: Timestamp,
) -> Option<Review> {
    let parent = found.parent.clone()?;
    let mut policies = inputs.snapshot.policies.iter();
    if policies.all(|policy| policy.injected.is_empty()) {
        return None;
    }
    let change = Change {
        actor: Some(Actor::maker_of_pods(&parent.workload)?),
        ..found.change.clone()
    };
    let records = {
        let parent = parent.clone();
        move |change: &Change, _: &[Pin]| records_of(&parent, change, at)
    };
    let inputs = ReviewInputs {
        records: Some(RecordSource::Given(Box::new(GivenRecords {
            about: Arc::new(records),
            parent: Some(parent),
        }))),
        ..inputs.clone()
    };
    let review = review(change, &inputs, at).await;
    review.promotion.injected.is_some().then_some(review)
}

/// Release records in which the images of a Pod's owner are admitted, and nothing else.
fn records_of(parent: &Parent, change: &Change, at: Timestamp) -> Records {
    let entry = Arc::new(RecordEntry {
        digest: None,
        workload: parent.workload.clone(),
        uid: Some(parent.uid.clone()),
        template: parent.template.clone(),
        observed: true,
        running: true,
        complied: BTreeSet::new(),
        by: AdmittedBy::Baseline,
        environments: BTreeSet::new(),
        ages_judged: BTreeSet::new(),
        source: None,
        at,
    });
    let images = change.images.iter().map(|image| {
        let is_of_parent = parent.images.contains(&image.reference.to_string());
        let entries = is_of_parent.then(|| Arc::clone(&entry));
        ImageRecords {
            entries: entries.into_iter().collect(),
            ..ImageRecords::default()
        }
    });
    Records {
        images: images.collect(),
        workload: Vec::new(),
        has_baseline: true,
    }
}

async fn review_all(
    found: Vec<Found>,
    inputs: &ReviewInputs,
    at: Timestamp,
) -> Vec<(Found, Review)> {
    let progress = human::progress(found.len(), "workloads reviewed");
    let reviews = futures::stream::iter(found).map(|found| {
        let progress = &progress;
        async move {
            let review = match reviewed_as_injected(&found, inputs, at).await {
                Some(review) => review,
                None => review(found.change.clone(), inputs, at).await,
            };
            progress.inc(1);
            (found, review)
        }
    });
    let reviews = reviews.buffered(SIDE_BY_SIDE).collect().await;
    progress.finish_and_clear();
    reviews
}
