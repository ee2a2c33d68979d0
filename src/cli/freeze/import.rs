//! `freeze import`: the events of a calendar file as `ChangeFreeze` documents, which somebody can read, edit and review.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use jiff::civil::{DateTime, Time};
use jiff::{SignedDuration, Timestamp};
use promotion_gate_core::calendar::{
    Budget, CalendarEvent, Exclusion, Length, Series, Span, Zone, read_calendar,
};
use promotion_gate_core::gate::{DnsLabel, EventFilter, Glob};

use crate::cli::check::instant;
use crate::files::read_file;
use crate::text;

/// The largest calendar, in bytes.
const MAXIMUM_BYTES: u64 = 8 << 20;
/// The most windows of one document.
const MAXIMUM_WINDOWS: usize = 500;
/// The work of expanding an event, in days that its rules are compared with.
const BUDGET: u64 = 2_000_000;

/// Print the events of a calendar file as change freezes, to be read and edited
///
/// Events that repeat by one rule stay rules. Others are written as single windows, up to `--days` ahead. To follow a calendar that
/// others keep, name it under `calendar` of a `ChangeFreeze` instead.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  promotion-gate freeze import holidays.ics --time-zone Europe/Berlin --environment production > freezes.yaml
  promotion-gate freeze import changes.ics --time-zone UTC --environment production --summary '*freeze*'")]
pub(super) struct Args {
    /// The calendar: a file in the format iCalendar (.ics)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The zone of whole days and of times without a zone, such as `Europe/Berlin`
    #[arg(long, value_name = "ZONE", value_parser = Zone::named)]
    time_zone: Zone,
    /// The environment that is frozen; may be given several times
    #[arg(long = "environment", value_name = "NAME", required = true)]
    environments: Vec<String>,
    /// The name of the freeze
    #[arg(long, value_name = "NAME", default_value = "imported")]
    name: DnsLabel,
    /// Why; the name of the calendar when absent
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only events with this category; may be given several times
    #[arg(long = "category", value_name = "TEXT")]
    categories: Vec<String>,
    /// Only events with such a summary; may be given several times
    #[arg(long = "summary", value_name = "PATTERN", value_parser = pattern)]
    summaries: Vec<Glob>,
    /// Leave out tentative events
    #[arg(long)]
    ignore_tentative: bool,
    /// How many days ahead events are written that cannot stay rules
    #[arg(long, value_name = "DAYS", default_value_t = 366, value_parser = clap::value_parser!(u16).range(1..=3660))]
    days: u16,
    /// The first time that matters: single events that ended before it are left out; now when absent
    #[arg(long, value_name = "TIME", value_parser = instant)]
    at: Option<Timestamp>,
}

fn pattern(text: &str) -> Result<Glob, String> {
    let pattern = text.to_lowercase().replace("**", "*").replace('*', "**");
    Glob::parse(&pattern).map_err(|error| error.to_string())
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let name = args.file.display().to_string();
    let bytes = read_file(&args.file, MAXIMUM_BYTES);
    let bytes = bytes.with_context(|| format!("`{name}` cannot be read"))?;
    let refused = |problem| anyhow!("`{name}` cannot be used: {problem}");
    let calendar = read_calendar(&bytes, &args.time_zone).map_err(refused)?;
    let filter = EventFilter {
        categories: args.categories.clone(),
        summaries: args.summaries.clone(),
        ignore_tentative: args.ignore_tentative,
    };
    let events = calendar.events(|event| filter.matches(event));
    let events = events.map_err(refused)?;
    let start = args.at.unwrap_or_else(Timestamp::now);
    let end = start.saturating_add(SignedDuration::from_hours(24 * i64::from(args.days)));
    let ahead = Span {
        start,
        end: end.unwrap_or(Timestamp::MAX),
    };
    let mut windows = Windows::new(&args.time_zone, ahead);
    for event in &events {
        windows.add(event)?;
    }
    let reason = args.reason.clone().or(calendar.name);
    let reason = reason.unwrap_or_else(|| file_name(&args.file));
    let written = windows.documents(&args.name, &args.environments, &reason)?;
    write_output!("{written}");
    for note in &windows.notes {
        print_error!("note: {note}");
    }
    Ok(ExitCode::SUCCESS)
}

fn file_name(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The windows that were written, by the zone of their document.
struct Windows<'a> {
    zone: &'a Zone,
    ahead: Span,
    by_zone: BTreeMap<String, Vec<String>>,
    notes: Vec<String>,
}

impl Windows<'_> {
    fn new(zone: &Zone, ahead: Span) -> Windows<'_> {
        Windows {
            zone,
            ahead,
            by_zone: BTreeMap::new(),
            notes: Vec::new(),
        }
    }

    fn add(&mut self, event: &CalendarEvent) -> anyhow::Result<()> {
        let summary = text::line(&event.summary);
        let comment = match summary.trim() {
            "" => String::new(),
            summary => format!("   # {summary}"),
        };
        for series in &event.series {
            let is_known = Zone::named(series.zone.name()).is_ok_and(|known| known == series.zone);
            if let Some(rule) = recurrence(series).filter(|_| is_known) {
                self.push(
                    series.zone.name(),
                    format!("  - recurrence: {{{rule}}}{comment}"),
                );
                continue;
            }
            let spans = series.spans(self.ahead, &mut Budget::days(BUDGET));
            let spans = spans.map_err(|error| anyhow!("the event `{summary}`: {error}"))?;
            if !series.rules.is_empty() && spans.iter().any(|span| span.start < span.end) {
                let end = self.ahead.end.strftime("%Y-%m-%d");
                self.notes.push(format!(
                    "the event `{summary}` repeats in a way that cannot be written as one rule: its times are written to {end}"
                ));
            }
            let lasting: Vec<_> = spans.iter().filter(|span| span.start < span.end).collect();
            if lasting.len() < spans.len() {
                self.notes.push(format!(
                    "the event `{summary}` begins and ends at once: it freezes nothing"
                ));
            }
            for span in lasting {
                let span = *span;
                let zone = if is_known { &series.zone } else { self.zone };
                let (from, until) = (with_offset(zone, span.start), with_offset(zone, span.end));
                let window = match whole_days(zone, span) {
                    Some((from, until)) => format!("  - {{from: {from}, until: {until}}}{comment}"),
                    None => format!("  - {{from: \"{from}\", until: \"{until}\"}}{comment}"),
                };
                let zone = zone.name().to_owned();
                self.push(&zone, window);
            }
        }
        Ok(())
    }

    fn push(&mut self, zone: &str, window: String) {
        let of_zone = self.by_zone.entry(zone.to_owned()).or_default();
        if !of_zone.contains(&window) {
            of_zone.push(window);
        }
    }

    /// One document for each zone and each 500 windows.
    fn documents(
        &self,
        name: &DnsLabel,
        environments: &[String],
        reason: &str,
    ) -> anyhow::Result<String> {
        let quoted = |text: &str| serde_json::to_string(text).context("a text cannot be written");
        let environments: Result<Vec<_>, _> =
            environments.iter().map(|name| quoted(name)).collect();
        let environments = environments?.join(", ");
        let reason = quoted(reason)?;
        let chunks = self.by_zone.iter().flat_map(|(zone, windows)| {
            windows
                .chunks(MAXIMUM_WINDOWS)
                .map(move |chunk| (zone, chunk))
        });
        let mut text = String::new();
        for (index, (zone, windows)) in chunks.enumerate() {
            let (separator, suffix) = match index {
                0 => ("", String::new()),
                _ => ("---\n", format!("-{}", index + 1)),
            };
            let windows = windows.join("\n");
            let name = name.clone().into_string();
            write!(
                text,
                "{separator}apiVersion: promotion-gate.dev/v1alpha1\nkind: ChangeFreeze\nmetadata: {{name: {name}{suffix}}}\nspec:\n  environments: [{environments}]\n  reason: {reason}\n  timeZone: {zone}\n  windows:\n{windows}\n"
            )?;
        }
        match text.is_empty() {
            true => bail!(
                "no event of the calendar is a freeze from now on; `--days` looks further ahead, `--at` further back"
            ),
            false => Ok(text),
        }
    }
}

/// The fields of a recurrence that says the same as a series, if one can.
fn recurrence(series: &Series) -> Option<String> {
    let [rule] = series.rules.as_slice() else {
        return None;
    };
    let is_plain = series.from.is_none()
        && series.before.is_none()
        && series.shift == SignedDuration::ZERO
        && series.dates.iter().all(|(_, length)| length.is_none());
    if !is_plain {
        return None;
    }
    let is_day = |local: DateTime| local.time() == Time::midnight();
    let local = |local: DateTime| format!("\"{}\"", local.strftime("%Y-%m-%dT%H:%M:%S"));
    let length = match series.length {
        Length::Civil(length) if length <= SignedDuration::ZERO => return None,
        Length::Duration {
            days: 0,
            seconds: 0,
        } => return None,
        Length::Civil(length) => format!("end: {}", local(series.start.checked_add(length).ok()?)),
        Length::Duration { days, seconds: 0 } => format!("duration: {days}d"),
        Length::Duration { days, seconds } => format!("duration: P{days}DT{seconds}S"),
        Length::ToDayOfYear { .. } => return None,
    };
    let is_of_days =
        is_day(series.start) && matches!(series.length, Length::Duration { seconds: 0, .. });
    let moment = |at: DateTime| match is_of_days && is_day(at) {
        true => at.strftime("%Y-%m-%d").to_string(),
        false => local(at),
    };
    let mut dates: Vec<_> = series.dates.iter().map(|(date, _)| *date).collect();
    // The rule alone does not give a start that does not fit it.
    let alone = Series {
        includes_start: false,
        dates: Vec::new(),
        except: Vec::new(),
        ..series.clone()
    };
    let at = series.zone.first(series.start);
    let range = Span {
        start: at,
        end: at.saturating_add(SignedDuration::from_secs(1)).ok()?,
    };
    let first = alone.spans(range, &mut Budget::days(BUDGET)).ok()?;
    if series.includes_start && !first.iter().any(|span| span.start == at) {
        dates.push(series.start);
    }
    let mut fields = format!(
        "start: {}, {length}, rule: \"{rule}\"",
        moment(series.start)
    );
    if !dates.is_empty() {
        let dates: Vec<_> = dates.into_iter().map(moment).collect();
        write!(fields, ", dates: [{}]", dates.join(", ")).ok()?;
    }
    if !series.except.is_empty() {
        let except = series.except.iter().map(|exclusion| match exclusion {
            Exclusion::Instant(at) => format!("\"{at}\""),
            Exclusion::Date(date) => date.to_string(),
        });
        let except: Vec<_> = except.collect();
        write!(fields, ", exceptDates: [{}]", except.join(", ")).ok()?;
    }
    Some(fields)
}

/// The first and the last day of a span of whole days.
fn whole_days(zone: &Zone, span: Span) -> Option<(String, String)> {
    let (start, end) = (zone.local(span.start), zone.local(span.end));
    let is_midnight =
        |local: DateTime, at| local.time() == Time::midnight() && zone.first(local) == at;
    let is_whole = is_midnight(start, span.start) && is_midnight(end, span.end) && start < end;
    let last = end.date().yesterday().ok()?;
    is_whole.then(|| (start.date().to_string(), last.to_string()))
}

/// An instant with the offset of a zone, which no later change of the zone's law can move.
fn with_offset(zone: &Zone, at: Timestamp) -> String {
    let shown = zone.show(at);
    match shown.split(' ').collect::<Vec<_>>().as_slice() {
        [day, time, offset] => format!("{day}T{time}{offset}"),
        _ => at.to_string(),
    }
}
