//! `freeze`: whether changes may pass now, when that changes, and what is planned.

mod import;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use jiff::civil::{Date, Weekday};
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use promotion_gate_core::calendar::{Span, Zone};
use promotion_gate_core::documents::nearest;
use promotion_gate_core::gate::{Cause, Freeze, Frozen, Schedule, Until};
use serde_json::{Value, json};

use super::check::instant;
use super::cluster::FromCluster;
use super::out::write_json;
use super::render::Output;
use super::render::human::{GREEN, RED, YELLOW};
use super::world;
use crate::api::{self, Kind, PolicyFiles};
use crate::config::Config;
use crate::snapshot::Once;

/// The version of the JSON output.
const VERSION: &str = "promotion-gate.dev/freezes/v1alpha1";
/// An environment is frozen.
const FROZEN: u8 = 2;
/// Whether an environment is frozen is not known, which counts as frozen.
const UNKNOWN: u8 = 3;
/// How far ahead the next freeze is looked for, in days.
const AHEAD_DAYS: i64 = 3660;

/// Look at change freezes: may changes pass now, when does that change, what is planned
///
/// Exit codes of `now`: 0 every environment is open, 1 wrong usage, a freeze that cannot be read or a failure of the tool, 2 an
/// environment is frozen, 3 an environment is not known to be open (a calendar or endpoint does not answer), which counts as frozen.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  promotion-gate freeze now --environment production policies/    a step of a pipeline
  promotion-gate freeze now --at 2026-12-24T18:00:00Z policies/
  promotion-gate freeze next policies/
  promotion-gate freeze list --days 90 policies/
  promotion-gate freeze now --from-cluster --environment production
  promotion-gate freeze month --month 2026-12 policies/
  promotion-gate freeze import holidays.ics --time-zone Europe/Berlin --environment production")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say whether changes may pass, and until when
    Now {
        #[command(flatten)]
        given: Given,
    },
    /// Say when that changes next
    Next {
        #[command(flatten)]
        given: Given,
    },
    /// List the freezes that come
    List {
        #[command(flatten)]
        given: Given,
        /// How many days ahead
        #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=3660))]
        days: u16,
    },
    Import(import::Args),
    /// Show the days of a month on which an environment is frozen
    Month {
        #[command(flatten)]
        given: Given,
        /// The month, such as `2026-12`; this month when absent
        #[arg(long, value_name = "MONTH", value_parser = month_of)]
        month: Option<Date>,
    },
}

// The freezes that a command reads, and what it is asked about them.
#[derive(Debug, clap::Args)]
struct Given {
    /// Change freezes: files or folders, which may hold policies too
    #[arg(required_unless_present = "from_cluster", value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    from_cluster: FromCluster,
    /// The environment; may be given several times; every environment that a freeze names when absent
    #[arg(long = "environment", value_name = "NAME")]
    environments: Vec<String>,
    /// The time that is asked about; now when absent
    #[arg(long, value_name = "TIME", value_parser = instant)]
    at: Option<Timestamp>,
    /// Configuration file, for hosts with their own certificate authority
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Seconds until calendars and endpoints must have answered
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
    /// Output format
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
}

fn month_of(text: &str) -> Result<Date, String> {
    let first = format!("{text}-01").parse();
    first.map_err(|_| "expected a year and a month, such as `2026-12`".to_owned())
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Now { given } => now(&Asked::of(&given).await?),
        Command::Next { given } => next(&Asked::of(&given).await?),
        Command::List { given, days } => list(&Asked::of(&given).await?, days),
        Command::Import(args) => import::run(&args),
        Command::Month { given, month } => {
            let asked = Asked::of(&given).await?;
            let month =
                month.unwrap_or_else(|| Zone::utc().local(asked.at).date().first_of_month());
            show_month(&asked, month)
        }
    }
}

/// The freezes that were read, and what is asked about them.
struct Asked {
    schedule: Schedule,
    environments: BTreeSet<String>,
    at: Timestamp,
    output: Output,
}

impl Asked {
    async fn of(given: &Given) -> anyhow::Result<Asked> {
        let config = Config::load(given.config.as_deref())?;
        let live = given.from_cluster.read(&[Kind::ChangeFreeze]).await?;
        let resources = live.map(|live| live.resources).unwrap_or_default();
        let of_cluster = Once::of(&[], &resources, &config);
        for refused in of_cluster.refused() {
            print_error!("warning: {refused}");
        }
        let files = PolicyFiles::read(&given.paths);
        let mut set = files.load_freezes(&of_cluster.counting());
        if !set.problems.is_empty() {
            bail!(
                "the change freezes cannot be used:\n{}",
                world::lines(&set.problems)
            );
        }
        set.freezes.extend(of_cluster.unreadable_freezes());
        let environments = match given.environments.is_empty() {
            false => given.environments.iter().cloned().collect(),
            true => named(&set.freezes)?,
        };
        let at = given.at.unwrap_or_else(Timestamp::now);
        let within = Duration::from_secs(given.timeout);
        let (mut feeds, _) = of_cluster.feeds();
        let is_of_files = |freeze: &&Freeze| !feeds.contains_key(&freeze.name);
        let of_files: Vec<_> = set.freezes.iter().filter(is_of_files).cloned().collect();
        feeds.extend(world::feeds(&of_files, &environments, &config, given.at, within).await);
        if !set.skipped.is_empty() {
            print_error!("note: {}", set.skipped);
        }
        let asked = Asked {
            schedule: api::schedule(set.freezes, &feeds, at),
            environments,
            at,
            output: given.output,
        };
        asked.warn();
        Ok(asked)
    }

    /// Says what makes an environment look more open than it may be.
    fn warn(&self) {
        let freezes = self.schedule.freezes().map(|(freeze, _)| freeze);
        let freezes: Vec<_> = freezes.collect();
        if freezes.is_empty() {
            print_error!("warning: there is no `ChangeFreeze`, so nothing is frozen");
        }
        let named = freezes.iter().flat_map(|freeze| &freeze.environments);
        let named: BTreeSet<_> = named.map(ToString::to_string).collect();
        for environment in &self.environments {
            let is_known = freezes.iter().any(|freeze| freeze.is_of(environment));
            let near = nearest(environment, named.iter().map(String::as_str));
            if let (false, Some(near)) = (is_known, near) {
                print_error!(
                    "warning: no freeze is about the environment `{environment}`; did you mean `{near}`?"
                );
            }
            for (Freeze { name, .. }, why) in self.schedule.ignored_at(environment, self.at) {
                print_error!(
                    "warning: the freeze `{name}` does not count for `{environment}`, because its `whenStale` is `Open`: {why}"
                );
            }
        }
    }

    /// The freezes of which nobody knows whether they last.
    fn show_unknown(&self) {
        for environment in &self.environments {
            for frozen in self.schedule.frozen_at(environment, self.at) {
                if matches!(frozen.cause, Cause::Stale { .. }) {
                    print_line!("{YELLOW}unknown{YELLOW:#} {environment}: {frozen}");
                }
            }
        }
    }
}

/// The environments that freezes name without a pattern.
fn named(freezes: &[Freeze]) -> anyhow::Result<BTreeSet<String>> {
    let all = freezes.iter().flat_map(|freeze| &freeze.environments);
    let names: BTreeSet<_> = all
        .map(ToString::to_string)
        .filter(|name| !name.contains('*'))
        .collect();
    match (freezes.is_empty(), names.is_empty()) {
        (true, _) => {
            bail!("there is no `ChangeFreeze`; `--environment` asks nevertheless")
        }
        (false, true) => {
            bail!("the freezes name environments by patterns alone; name one with `--environment`")
        }
        (false, false) => Ok(names),
    }
}

/// What holds for one environment.
struct State<'a> {
    environment: &'a str,
    frozen: Vec<Frozen<'a>>,
    open_from: Until,
    /// The freeze that begins next after the environment is open.
    next: Option<(&'a Freeze, Timestamp)>,
}

impl<'a> State<'a> {
    fn of(asked: &'a Asked, environment: &'a str) -> State<'a> {
        let schedule = &asked.schedule;
        let frozen = schedule.frozen_at(environment, asked.at);
        let open_from = match frozen.is_empty() {
            true => Until::At(asked.at),
            false => schedule.open_from(environment, asked.at),
        };
        let ahead = SignedDuration::from_hours(24 * AHEAD_DAYS);
        let next = match open_from {
            Until::At(open) => schedule.next_start(environment, open, ahead),
            Until::After(_) | Until::Unknown => None,
        };
        State {
            environment,
            frozen,
            open_from,
            next: next.map(|next| (next.freeze, next.start)),
        }
    }

    /// `open`, `frozen` or `unknown`.
    fn id(&self) -> &'static str {
        let is_stale = |frozen: &Frozen<'_>| matches!(frozen.cause, Cause::Stale { .. });
        match self.frozen.is_empty() {
            true => "open",
            false if self.frozen.iter().all(is_stale) => "unknown",
            false => "frozen",
        }
    }

    fn coloured(&self) -> String {
        let id = self.id();
        let style = match id {
            "open" => GREEN,
            "frozen" => RED,
            _ => YELLOW,
        };
        format!("{style}{id}{style:#}")
    }

    fn json(&self) -> Value {
        let freezes: Vec<_> = self.frozen.iter().map(frozen_json).collect();
        let next = self
            .next
            .map(|(freeze, start)| json!({"name": freeze.name, "start": start}));
        let open_from = match self.open_from {
            Until::At(at) => Some(at),
            Until::After(_) | Until::Unknown => None,
        };
        json!({
            "environment": self.environment, "state": self.id(), "freezes": freezes,
            "openFrom": open_from, "next": next,
        })
    }
}

fn frozen_json(frozen: &Frozen<'_>) -> Value {
    let freeze = frozen.freeze;
    let until = match frozen.until {
        Until::At(at) => Some(at),
        Until::After(_) | Until::Unknown => None,
    };
    let (what, stale) = match &frozen.cause {
        Cause::Window { what } => (what.as_deref(), None),
        Cause::Stale { why } => (None, Some(why.as_str())),
    };
    json!({
        "name": freeze.name, "reason": freeze.reason, "event": what, "stale": stale,
        "owner": freeze.owner, "until": until,
        "mayPass": {"rollback": freeze.may_pass.rollback, "emergency": freeze.may_pass.emergency},
    })
}

fn document(asked: &Asked, content: Value) -> Value {
    let mut document = json!({
        "version": VERSION, "at": asked.at, "timeZoneData": Zone::data_version(),
    });
    if let (Some(document), Value::Object(content)) = (document.as_object_mut(), content) {
        document.extend(content);
    }
    document
}

fn states(asked: &Asked) -> Vec<State<'_>> {
    let environments = asked.environments.iter();
    environments
        .map(|environment| State::of(asked, environment))
        .collect()
}

fn now(asked: &Asked) -> anyhow::Result<ExitCode> {
    let states = states(asked);
    match asked.output {
        Output::Json => {
            let environments: Vec<_> = states.iter().map(State::json).collect();
            write_json(&document(asked, json!({"environments": environments})))?;
        }
        Output::Human => states.iter().for_each(show),
    }
    let any = |id: &str| states.iter().any(|state| state.id() == id);
    Ok(match (any("frozen"), any("unknown")) {
        (true, _) => ExitCode::from(FROZEN),
        (false, true) => ExitCode::from(UNKNOWN),
        (false, false) => ExitCode::SUCCESS,
    })
}

fn show(state: &State<'_>) {
    print_line!("{} {}", state.coloured(), state.environment);
    for frozen in &state.frozen {
        let Freeze {
            owner, may_pass, ..
        } = frozen.freeze;
        print_line!("  {frozen}");
        let mut passes = vec!["upkeep"];
        passes.extend(may_pass.rollback.then_some("rollback"));
        passes.extend(may_pass.emergency.then_some("emergency"));
        let owner = owner
            .as_ref()
            .map_or_else(String::new, |owner| format!("owner: {owner}; "));
        print_line!("    {owner}may pass: {}", passes.join(", "));
    }
    if let (Until::At(open), Some(frozen)) = (state.open_from, state.frozen.first()) {
        print_line!("  open from {}", frozen.freeze.show(open));
    }
    match &state.next {
        Some((freeze, start)) => {
            let (name, start) = (&freeze.name, freeze.show(*start));
            print_line!("  the next freeze, `{name}`, begins {start}");
        }
        None if state.frozen.is_empty() => print_line!("  no freeze is planned"),
        None => {}
    }
}

fn next(asked: &Asked) -> anyhow::Result<ExitCode> {
    let changes: Vec<_> = states(asked)
        .into_iter()
        .map(|state| {
            let change = match (state.frozen.first(), state.open_from) {
                (None, _) => state.next.map(|(freeze, start)| ("frozen", freeze, start)),
                (Some(frozen), Until::At(open)) => Some(("open", frozen.freeze, open)),
                (Some(_), _) => None,
            };
            (state, change)
        })
        .collect();
    match asked.output {
        Output::Json => {
            let each = changes.iter().map(|(state, change)| {
                let change = change
                    .map(|(to, freeze, at)| json!({"to": to, "freeze": freeze.name, "at": at}));
                json!({"environment": state.environment, "state": state.id(), "change": change})
            });
            let each: Vec<_> = each.collect();
            write_json(&document(asked, json!({"environments": each})))?;
        }
        Output::Human => {
            for (state, change) in &changes {
                let (environment, is) = (state.environment, state.coloured());
                match change {
                    Some((to, freeze, at)) => {
                        let by = match *to {
                            "frozen" => format!(", by `{}`", freeze.name),
                            _ => String::new(),
                        };
                        print_line!("{environment}: {is}, {to} from {}{by}", freeze.show(*at));
                    }
                    None if state.frozen.is_empty() => {
                        print_line!("{environment}: {is}, no freeze is planned")
                    }
                    None => print_line!("{environment}: {is}, until when is unknown"),
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(asked: &Asked, days: u16) -> anyhow::Result<ExitCode> {
    let end = asked
        .at
        .saturating_add(SignedDuration::from_hours(24 * i64::from(days)));
    let range = Span {
        start: asked.at,
        end: end.unwrap_or(Timestamp::MAX),
    };
    let mut all = Vec::new();
    for environment in &asked.environments {
        all.extend(asked.schedule.occurrences(Some(environment), range)?);
    }
    all.sort_by_key(|(freeze, found)| (found.span, freeze.name.clone(), found.what.clone()));
    all.dedup_by(|(one, a), (other, b)| one.name == other.name && a == b);
    let has_end = |at: Timestamp| at < Timestamp::MAX;
    match asked.output {
        Output::Json => {
            let each = all.iter().map(|(freeze, found)| {
                let environments: Vec<_> = freeze
                    .environments
                    .iter()
                    .map(ToString::to_string)
                    .collect();
                json!({
                    "name": freeze.name, "reason": freeze.reason, "event": found.what,
                    "environments": environments, "start": found.span.start,
                    "end": has_end(found.span.end).then_some(found.span.end),
                })
            });
            let each: Vec<_> = each.collect();
            write_json(&document(
                asked,
                json!({"until": range.end, "freezes": each}),
            ))?;
        }
        Output::Human => {
            for (freeze, found) in &all {
                let end = match has_end(found.span.end) {
                    true => freeze.show_short(found.span.end),
                    false => "unknown".to_owned(),
                };
                let what = found.what.as_deref().filter(|what| !what.is_empty());
                print_line!(
                    "{} to {end}  {}: {}",
                    freeze.show_short(found.span.start),
                    freeze.name,
                    what.unwrap_or(&freeze.reason)
                );
            }
            asked.show_unknown();
            if all.is_empty() {
                print_line!("no freeze is planned in the next {days} days");
            }
            print_line!("(time zone data {})", Zone::data_version());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A month as a grid for each environment: `*` after a day marks one that is frozen, `+` one that is frozen in part.
fn show_month(asked: &Asked, month: Date) -> anyhow::Result<ExitCode> {
    if asked.output == Output::Json {
        bail!("`month` is for people; `list --output json` is for programs");
    }
    for environment in &asked.environments {
        let zone = zone_of(&asked.schedule, environment)?;
        print_line!(
            "{environment}, {} ({})",
            month.strftime("%B %Y"),
            zone.name()
        );
        print_line!("  Mon  Tue  Wed  Thu  Fri  Sat  Sun");
        let mut line = "     ".repeat(usize::from(
            month.weekday().to_monday_zero_offset().unsigned_abs(),
        ));
        let mut day = month;
        while day.month() == month.month() {
            let mark = mark(&asked.schedule, environment, day, &zone)?;
            line.push_str(&format!("  {:>2}{mark}", day.day()));
            if day.weekday() == Weekday::Sunday || day == month.last_of_month() {
                print_line!("{}", line.trim_end());
                line.clear();
            }
            day = day.tomorrow().context("the month is not in the calendar")?;
        }
        print_line!("  * frozen, + frozen for a part of the day\n");
    }
    asked.show_unknown();
    Ok(ExitCode::SUCCESS)
}

/// The zone of the first freeze of an environment that has one.
fn zone_of(schedule: &Schedule, environment: &str) -> anyhow::Result<Zone> {
    let mut freezes = schedule.freezes().map(|(freeze, _)| freeze);
    let zone = freezes.find_map(|freeze| match freeze.is_of(environment) {
        true => freeze.zone().cloned(),
        false => None,
    });
    Ok(zone.unwrap_or_else(Zone::utc))
}

fn mark(schedule: &Schedule, environment: &str, day: Date, zone: &Zone) -> anyhow::Result<char> {
    let midnight = |day: Date| zone.first(day.to_datetime(jiff::civil::Time::midnight()));
    let range = Span {
        start: midnight(day),
        end: midnight(day.saturating_add(1.day())),
    };
    let found = schedule.occurrences(Some(environment), range)?;
    let spans = found.iter().map(|(_, found)| found.span).collect();
    let merged = promotion_gate_core::calendar::merge(spans);
    let is_whole = merged
        .iter()
        .any(|span| span.start <= range.start && range.end <= span.end);
    Ok(match (merged.is_empty(), is_whole) {
        (true, _) => ' ',
        (false, true) => '*',
        (false, false) => '+',
    })
}
