//! Calendars as they should not be, and what is made of them.

mod files;
mod instances;
mod properties;
mod times;
mod zones;

use jiff::{SignedDuration, Timestamp};

use super::super::{Budget, Span, Zone};
use super::*;

/// A calendar with some lines in it.
fn calendar(lines: &str) -> String {
    format!("BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//Example//EN\n{lines}\nEND:VCALENDAR\n")
}

/// An event with some lines in it.
fn event(lines: &str) -> String {
    calendar(&format!("BEGIN:VEVENT\nUID:1\n{lines}\nEND:VEVENT"))
}

fn read(file: &str) -> Result<Vec<CalendarEvent>, CalendarProblem> {
    let berlin = Zone::named("Europe/Berlin").unwrap();
    read_calendar(file.as_bytes(), &berlin)?.events(|_| true)
}

/// Why a file or an event in it cannot be read.
fn refused(file: &str) -> String {
    read(file).unwrap_err().to_string()
}

fn spans_in(file: &str, range: Span) -> Vec<Span> {
    let mut budget = Budget::days(1_000_000);
    let events = read(file).unwrap();
    let series = events.iter().flat_map(|event| &event.series);
    let spans = series.flat_map(|series| series.spans(range, &mut budget).unwrap());
    let mut spans: Vec<Span> = spans.collect();
    spans.sort_unstable();
    spans.dedup();
    spans
}

/// The instances of all events from 2024 to 2026, in UTC: start, and end or length.
fn instances(file: &str) -> Vec<String> {
    let range = Span {
        start: "2024-01-01T00:00Z".parse().unwrap(),
        end: "2027-01-01T00:00Z".parse().unwrap(),
    };
    let shown = |at: Timestamp| at.strftime("%Y-%m-%d %H:%M").to_string();
    let spans = spans_in(file, range).into_iter();
    spans
        .map(|span| {
            let length = span.end.duration_since(span.start);
            match length < SignedDuration::from_hours(24) {
                true => format!("{} {}", shown(span.start), span.end.strftime("%H:%M")),
                false => format!("{} {}", shown(span.start), shown(span.end)),
            }
        })
        .collect()
}
