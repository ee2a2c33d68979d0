//! `record`: what was admitted, as the release records of a cluster say it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use jiff::Timestamp;
use promotion_gate_core::gate::{ImageReference, Workload};
use serde_json::{Value, json};

use super::out::write_json;
use crate::api::{EntryRuns, EntryState, WrittenEntry, WrittenWorkload};
use crate::cluster::Cluster;
use crate::record::{ReadRecord, Unrecorded, adopted, ask_to_adopt, read_records, read_unrecorded};

/// The version of the JSON output.
const VERSION: &str = "promotion-gate.dev/records/v1alpha1";
/// The exit code where entries do not count, or something runs without a record.
const FOUND: u8 = 2;

/// Look at release records: what was admitted where, why, and whether it counts
///
/// Exit codes: 0 everything is in order, 1 wrong usage or a failure of the tool, 2 `verify` found entries that do not count, or
/// `list --unrecorded` something that runs without a record.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  promotion-gate record list --namespace shop
  promotion-gate record list --unrecorded                      what runs without a record
  promotion-gate record show ghcr.io/example/app:v1.2.3 --namespace shop
  promotion-gate record show sha256:9f86d081… --output json
  promotion-gate record verify                                 check every signature
  promotion-gate record adopt --namespace shop                 record what runs there as baseline")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List what was admitted
    List {
        #[command(flatten)]
        given: Given,
        /// List instead the objects that run without a record: their upkeep is judged like a deployment
        #[arg(long)]
        unrecorded: bool,
    },
    /// Show everything that is recorded of an image
    Show {
        /// The image, its digest, or the name of a record
        #[arg(value_name = "IMAGE")]
        image: String,
        #[command(flatten)]
        given: Given,
    },
    /// Check the signatures of all entries
    Verify {
        #[command(flatten)]
        given: Given,
    },
    /// Let the gate record what runs now as baseline, which serves its upkeep; for governors
    Adopt {
        /// A namespace; may be given several times
        #[arg(
            long = "namespace",
            value_name = "NAME",
            required_unless_present = "all_namespaces"
        )]
        namespaces: Vec<String>,
        /// Every namespace. If all keys of release records are lost, this also lets a new key be made
        #[arg(long, conflicts_with = "namespaces")]
        all_namespaces: bool,
        /// How long to wait until it is done, in seconds; 0 to ask alone
        #[arg(long, value_name = "SECONDS", default_value_t = 120)]
        wait: u64,
        #[command(flatten)]
        connection: Connection,
    },
}

#[derive(Debug, clap::Args)]
struct Given {
    /// The namespace; every namespace when absent
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Output format
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Args)]
struct Connection {
    /// A kubeconfig file for the cluster; as `kubectl` finds it when absent
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig; the present one when absent
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The namespace of the gate, which holds the records of cluster-scoped objects
    #[arg(long, value_name = "NAME", default_value = "promotion-gate")]
    gate_namespace: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// Text for people.
    Table,
    /// JSON.
    Json,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::List {
            given,
            unrecorded: true,
        } => list_unrecorded(&given).await,
        Command::List { given, .. } => list(&given).await,
        Command::Show { image, given } => show(&image, &given).await,
        Command::Verify { given } => verify(&given).await,
        Command::Adopt {
            namespaces,
            all_namespaces,
            wait,
            connection,
        } => {
            let namespaces = match all_namespaces {
                true => vec!["*".to_owned()],
                false => namespaces,
            };
            adopt(&connection, &namespaces, Duration::from_secs(wait)).await
        }
    }
}

async fn adopt(
    connection: &Connection,
    namespaces: &[String],
    wait: Duration,
) -> anyhow::Result<ExitCode> {
    let cluster = connection.connect().await?;
    // The requester may lack the right to list workloads.
    let left = async || {
        let gate = &connection.gate_namespace;
        let unrecorded = read_unrecorded(&cluster, None, gate).await.ok()?;
        Some(objects_in(&unrecorded, namespaces))
    };
    let before = left().await;
    let now = Timestamp::now();
    let asked = ask_to_adopt(&cluster, namespaces, now).await?;
    let names = named(namespaces);
    if wait.is_zero() {
        print_line!(
            "the gate was asked to record as baseline what was created in {names} before {now:.0}; `promotion-gate record list --unrecorded` shows what is left"
        );
        return Ok(ExitCode::SUCCESS);
    }
    print_error!(
        "the gate was asked; this waits up to {} s until it has recorded what runs in {names}",
        wait.as_secs()
    );
    if !adopted(&cluster, &asked, wait).await? {
        let seconds = wait.as_secs();
        bail!(
            "the gate was asked at {now:.0} to record what runs in {names} as baseline, and has not done so within {seconds} s; it goes on trying: the log of the replica that holds the Lease says what it cannot record, and `promotion-gate record list --unrecorded` shows what is left"
        );
    }
    let counted = before
        .zip(left().await)
        .map_or_else(String::new, |(before, left)| {
            format!(
                ": {} objects, and {left} are left",
                before.saturating_sub(left)
            )
        });
    print_line!("what was created in {names} before {now:.0} is recorded as baseline{counted}");
    Ok(ExitCode::SUCCESS)
}

/// How many objects of these namespaces run without a record.
fn objects_in(unrecorded: &[Unrecorded], namespaces: &[String]) -> usize {
    let is_everywhere = namespaces.iter().any(|name| name == "*");
    let objects = unrecorded.iter().map(|it| &it.workload);
    let objects = objects.filter(|workload| {
        let namespace = workload.namespace.as_ref();
        is_everywhere || namespace.is_some_and(|namespace| namespaces.contains(namespace))
    });
    objects.collect::<BTreeSet<_>>().len()
}

impl Connection {
    async fn connect(&self) -> anyhow::Result<Cluster> {
        let context = self.context.as_deref();
        let cluster = Cluster::connect_in(self.kubeconfig.as_deref(), context).await;
        cluster.context("the cluster cannot be reached; name its kubeconfig with `--kubeconfig`")
    }
}

impl Given {
    async fn read(&self) -> anyhow::Result<Vec<ReadRecord>> {
        let cluster = self.connection.connect().await?;
        read_records(&cluster, self.namespace.as_deref()).await
    }
}

fn named(namespaces: &[String]) -> String {
    match namespaces {
        [all] if all == "*" => "every namespace".to_owned(),
        some => {
            let names: Vec<_> = some.iter().map(|name| format!("`{name}`")).collect();
            names.join(", ")
        }
    }
}

async fn list(given: &Given) -> anyhow::Result<ExitCode> {
    let records = given.read().await?;
    if given.output == Output::Json {
        write_json(&report(&records))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows =
        vec![["NAMESPACE", "IMAGE", "WORKLOAD", "BY", "STATE", "ADMITTED"].map(str::to_owned)];
    for record in &records {
        for entry in record.entries.values() {
            rows.push([
                record.namespace.clone(),
                short(&record.image),
                workload(&entry.workload),
                format!("{:?}", entry.by),
                state(entry).to_owned(),
                format!("{:.0}", entry.at),
            ]);
        }
        if !record.refused.is_empty() {
            let count = record.refused.len();
            rows.push([
                record.namespace.clone(),
                short(&record.image),
                format!("({count} entries do not count)"),
                String::new(),
                String::new(),
                String::new(),
            ]);
        }
    }
    table(&rows);
    Ok(ExitCode::SUCCESS)
}

async fn list_unrecorded(given: &Given) -> anyhow::Result<ExitCode> {
    let connection = &given.connection;
    let cluster = connection.connect().await?;
    let namespace = given.namespace.as_deref();
    let found = read_unrecorded(&cluster, namespace, &connection.gate_namespace).await?;
    if given.output == Output::Json {
        let objects: Vec<_> = found.iter().map(unrecorded_report).collect();
        write_json(&json!({"version": VERSION, "unrecorded": objects}))?;
    } else if found.is_empty() {
        print_line!("everything that runs is recorded");
    } else {
        let mut rows = vec![["NAMESPACE", "WORKLOAD", "IMAGE"].map(str::to_owned)];
        rows.extend(found.iter().map(|unrecorded| {
            let Workload {
                kind,
                namespace,
                name,
                ..
            } = &unrecorded.workload;
            [
                namespace.clone().unwrap_or_default(),
                format!("{kind}/{name}"),
                unrecorded.image.clone(),
            ]
        }));
        table(&rows);
    }
    Ok(match found.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(FOUND),
    })
}

async fn show(image: &str, given: &Given) -> anyhow::Result<ExitCode> {
    let mut records = given.read().await?;
    let reference = image.parse::<ImageReference>().ok();
    let normal = reference.as_ref().map(ImageReference::to_string);
    let digest = reference.as_ref().and_then(ImageReference::digest);
    let digest = digest.map(ToString::to_string);
    records.retain(|record| {
        record.name == image
            || record.image == image
            || normal.as_ref() == Some(&record.image)
            || digest.as_ref() == Some(&record.image)
    });
    if records.is_empty() {
        bail!(
            "nothing is recorded of `{image}`; a record is found by its name, a digest, or a reference as manifests write it"
        );
    }
    if given.output == Output::Json {
        write_json(&report(&records))?;
        return Ok(ExitCode::SUCCESS);
    }
    for record in &records {
        print_line!("{}: {} ({})", record.namespace, record.image, record.name);
        for entry in record.entries.values() {
            show_entry(entry);
        }
        for (key, why) in &record.refused {
            print_line!("  the entry {key} does not count: {why}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show_entry(entry: &WrittenEntry) {
    print_line!(
        "  {} by {:?}, {}, at {:.0}",
        workload(&entry.workload),
        entry.by,
        state(entry),
        entry.at
    );
    let listed = |what: &str, names: Vec<&str>| {
        if !names.is_empty() {
            print_line!("    {what}: {}", names.join(", "));
        }
    };
    listed(
        "complied with",
        entry.complied.iter().map(String::as_str).collect(),
    );
    listed(
        "environments",
        entry.environments.iter().map(String::as_str).collect(),
    );
    listed(
        "resolved to",
        entry.digest.iter().map(String::as_str).collect(),
    );
    if let Some(source) = &entry.source {
        print_line!("    source: {} at {}", source.repository, source.commit);
    }
    print_line!("    decision: {}", entry.decision);
    print_line!("    template: {}", entry.template);
}

async fn verify(given: &Given) -> anyhow::Result<ExitCode> {
    let records = given.read().await?;
    let entries: usize = records.iter().map(|record| record.entries.len()).sum();
    let refused: usize = records.iter().map(|record| record.refused.len()).sum();
    if given.output == Output::Json {
        write_json(&report(&records))?;
    } else {
        for record in &records {
            for (key, why) in &record.refused {
                print_line!(
                    "{} {}: the entry {key} does not count: {why}",
                    record.namespace,
                    record.name
                );
            }
        }
        print_line!(
            "{} records: {entries} entries count, {refused} do not",
            records.len()
        );
    }
    Ok(match refused {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(FOUND),
    })
}

fn report(records: &[ReadRecord]) -> Value {
    let records: Vec<_> = records
        .iter()
        .map(|record| {
            json!({
                "namespace": record.namespace,
                "name": record.name,
                "image": record.image,
                "lastUsed": record.last_used,
                "entries": record.entries,
                "refused": record.refused,
            })
        })
        .collect();
    json!({"version": VERSION, "records": records})
}

fn unrecorded_report(unrecorded: &Unrecorded) -> Value {
    let Unrecorded { workload, image } = unrecorded;
    json!({"workload": WrittenWorkload::new(workload, None), "image": image})
}

fn workload(workload: &WrittenWorkload) -> String {
    format!("{}/{}", workload.kind, workload.name)
}

fn state(entry: &WrittenEntry) -> &'static str {
    match (entry.state, entry.runs) {
        (EntryState::Pending, EntryRuns::Staged) => "staged, not seen yet",
        (EntryState::Pending, EntryRuns::Running) => "not seen yet",
        (EntryState::Observed, EntryRuns::Staged) => "staged",
        (EntryState::Observed, EntryRuns::Running) => "running",
    }
}

/// A digest in a table.
fn short(image: &str) -> String {
    match image.strip_prefix("sha256:") {
        Some(hex) => format!("sha256:{hex:.12}"),
        None => image.to_owned(),
    }
}

fn table<const N: usize>(rows: &[[String; N]]) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    for row in rows {
        let cells = row.iter().enumerate();
        let cells = cells.map(|(column, cell)| format!("{cell:width$}", width = width(column)));
        let line: Vec<_> = cells.collect();
        print_line!("{}", line.join("  ").trim_end());
    }
}
