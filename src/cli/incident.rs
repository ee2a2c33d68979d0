//! `incident`: asks an incident check about an incident, so that a check is tried before it is needed.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use promotion_gate_core::gate::Incident;
use serde_json::json;
use tokio::time::Instant;

use super::cluster::FromCluster;
use super::out::write_json;
use super::render::Output;
use super::render::human::{GREEN, RED, YELLOW};
use crate::api::Kind;
use crate::config::Config;
use crate::incidents::Told;
use crate::snapshot::Once;
use crate::text::line;

/// The version of the JSON output.
const VERSION: &str = "promotion-gate.dev/incident/v1alpha1";
/// The incident is not open, or there is none.
const NOT_OPEN: u8 = 2;
/// The tracker gave no answer that can be used.
const UNKNOWN: u8 = 3;

/// Ask an incident check about an incident, as the gate asks it for an emergency change
///
/// Exit codes: 0 the incident is open, 1 wrong usage, a document that cannot be read or a failure of the tool, 2 the incident is not
/// open or there is none with this id, 3 the tracker gave no answer that can be used.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  promotion-gate incident servicenow INC0010001 --policy policies/
  promotion-gate incident pagerduty PT4KHLK --from-cluster")]
pub(super) struct Args {
    /// The name of the `IncidentCheck`
    #[arg(value_name = "CHECK")]
    check: String,
    /// The id of the incident
    #[arg(value_name = "ID")]
    id: String,
    /// Files or folders with incident checks, which may hold policies too; may be given several times
    #[arg(
        long = "policy",
        value_name = "PATH",
        required_unless_present = "from_cluster"
    )]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    from_cluster: FromCluster,
    /// The configuration, for hosts with their own certificate authority
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Seconds until the tracker must have answered
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=60))]
    timeout: u64,
    /// Output format
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = Config::load(args.config.as_deref())?;
    let live = args.from_cluster.read(&[Kind::IncidentCheck]).await?;
    let resources = live.as_ref().map(|live| live.resources.as_slice());
    let once = Once::of(&args.paths, resources.unwrap_or_default(), &config);
    if !once.problems().is_empty() {
        bail!(
            "the documents cannot be used:\n  {}",
            once.problems().join("\n  ")
        );
    }
    for refused in once.refused() {
        print_error!("warning: {refused}");
    }
    if !once.set().incident_checks.contains_key(&args.check) {
        let known = once.set().incident_checks.keys();
        let known: Vec<_> = known.map(|name| format!("`{name}`")).collect();
        match known.is_empty() {
            true => bail!("there is no `IncidentCheck` in what was read"),
            false => bail!(
                "there is no incident check `{}`; known are {}",
                args.check,
                known.join(", ")
            ),
        }
    }
    let cluster = live.as_ref().map(|live| &live.cluster);
    let checks = once.incidents(&config, cluster);
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    let told = checks.tell(&args.check, &args.id, deadline).await;
    match args.output {
        Output::Json => write_json(&document(&args, &told))?,
        Output::Human => show(&args, &told),
    }
    Ok(match &told {
        Err(_) => ExitCode::from(UNKNOWN),
        Ok(told) => match &told.answer.incident {
            Some(Incident { open: true, .. }) => ExitCode::SUCCESS,
            _ => ExitCode::from(NOT_OPEN),
        },
    })
}

fn document(args: &Args, told: &Result<Told, String>) -> serde_json::Value {
    let mut document = json!({"version": VERSION, "check": args.check, "id": args.id});
    let rest = match told {
        Err(why) => json!({"state": "unknown", "why": why}),
        Ok(Told { answer, absent }) => match &answer.incident {
            None => json!({"state": "absent", "why": absent}),
            Some(incident) => json!({
                "state": state(incident), "severity": incident.severity, "url": incident.url,
                "createdAt": incident.created_at, "createdBy": incident.created_by,
                "service": incident.service, "notes": answer.notes,
            }),
        },
    };
    if let (Some(document), serde_json::Value::Object(rest)) = (document.as_object_mut(), rest) {
        document.extend(rest);
    }
    document
}

fn state(incident: &Incident) -> &'static str {
    match incident.open {
        true => "open",
        false => "not-open",
    }
}

fn show(args: &Args, told: &Result<Told, String>) {
    let id = line(&args.id);
    match told {
        Err(why) => print_line!("{YELLOW}unknown{YELLOW:#} {id}\n  {}", line(why)),
        Ok(Told { answer, absent }) => match &answer.incident {
            None => {
                print_line!("{RED}absent{RED:#} {id}");
                let why = absent
                    .as_deref()
                    .unwrap_or("the tracker answered, and has no incident with this id");
                print_line!("  {}", line(why));
            }
            Some(incident) => {
                let style = match incident.open {
                    true => GREEN,
                    false => RED,
                };
                print_line!("{style}{}{style:#} {id}", state(incident));
                show_fields(incident);
                for note in &answer.notes {
                    print_line!("  note: {}", line(note));
                }
            }
        },
    }
}

fn show_fields(incident: &Incident) {
    let fields = [
        ("severity", incident.severity.map(|it| it.to_string())),
        ("created at", incident.created_at.map(|it| it.to_string())),
        ("created by", incident.created_by.clone()),
        ("service", incident.service.clone()),
        ("url", incident.url.clone()),
    ];
    for (name, value) in fields {
        let value = value.map_or_else(|| "not known".to_owned(), |value| line(&value));
        print_line!("  {name}: {value}");
    }
}
