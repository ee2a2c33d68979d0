//! iCalendar files (RFC 5545) → events and their repetitions.
//!
//! What is unclear in a file makes an event longer, or makes the event or the file unreadable with a message. It never makes an
//! event shorter and never drops one, because a freeze may depend on it. The parts, in the order in which a file passes through them:
//!
//! * `line`: bytes → unfolded content lines
//! * `component`: lines → calendars, events and time zones, as they are nested
//! * `value`: dates, times, durations and offsets
//! * `zones`, `windows`, `vtimezone`: a `TZID` → the zone that it names
//! * `event`: one `VEVENT`
//! * `instances`: the `VEVENT`s with one `UID` → its series

mod component;
mod event;
mod instances;
mod line;
mod value;
mod vtimezone;
mod windows;
mod zones;

use super::{CalendarEvent, Zone};
use component::Component;
use event::Event;
use zones::Zones;

/// What a file may hold. Public calendars have far less.
mod limit {
    pub const BYTES: usize = 8 << 20;
    pub const LINES: usize = 500_000;
    /// An unfolded line, in bytes. Attachments can be part of a file.
    pub const LINE: usize = 1 << 20;
    pub const DEPTH: usize = 16;
    pub const EVENTS: usize = 20_000;
    pub const PARAMETERS: usize = 32;
    /// `RRULE`s of one event.
    pub const RULES: usize = 20;
    /// `RDATE`s and `EXDATE`s of one event.
    pub const DATES: usize = 10_000;
    /// Rules and dates of all series, where one `RRULE` counts for each series that takes it over.
    pub const REPETITIONS: usize = 200_000;
    /// Instances from which on one event changes (`RANGE=THISANDFUTURE`).
    pub const CHANGES: usize = 20;
    /// Summary, categories and identifier of one event, in bytes.
    pub const HEADING: usize = 4_096;
    /// `VTIMEZONE`s with their parts.
    pub const ZONES: usize = 2_000;
    /// Different `TZID`s, counted for each calendar.
    pub const ZONE_NAMES: usize = 1_000;
    /// Changes of the offset in one `VTIMEZONE`.
    pub const TRANSITIONS: usize = 2_000;
    /// The work of expanding all `VTIMEZONE`s of a file, in days that rules are compared with.
    pub const ZONE_DAYS: u64 = 5_000_000;
}

/// What a file says.
#[derive(Clone, Debug)]
pub struct Calendar {
    /// The name of the (first) calendar.
    pub name: Option<String>,
    /// The zone that the maker of the (first) calendar suggests for times without one (`X-WR-TIMEZONE`), as it is written.
    pub suggested_zone: Option<String>,
    /// In the order of the file.
    events: Vec<Entry>,
}

/// An event; or of an event that cannot be read all but its series, and why.
#[derive(Clone, Debug)]
struct Entry {
    event: CalendarEvent,
    problem: Option<CalendarProblem>,
    /// Whether even its summary or categories cannot be read.
    is_unclear: bool,
}

impl Calendar {
    /// The events that count, in the order of the file. An event stands there once for all its instances that have the same
    /// summary, categories and status. What `counts` is asked about may not have its series yet.
    ///
    /// # Errors
    /// An event that the filter selects, or may select, cannot be read. Events that the filter leaves out give no error.
    pub fn events(
        &self,
        counts: impl Fn(&CalendarEvent) -> bool,
    ) -> Result<Vec<CalendarEvent>, CalendarProblem> {
        let events = self.events.iter();
        let counting = events.filter(|entry| entry.is_unclear || counts(&entry.event));
        let read = counting.map(|entry| match &entry.problem {
            None => Ok(entry.event.clone()),
            Some(problem) => Err(problem.clone()),
        });
        read.collect()
    }
}

/// Why a file or an event cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct CalendarProblem {
    /// The line, counted from 1, at which the content line or component begins.
    pub line: usize,
    /// What is wrong, and what to do.
    pub message: String,
}

impl CalendarProblem {
    fn new(line: usize, message: impl Into<String>) -> CalendarProblem {
        CalendarProblem {
            line,
            message: message.into(),
        }
    }
}

/// Reads a file. `floating` is the zone of times without one, and of all-day events.
///
/// # Errors
/// The file is not a complete calendar, or is larger than what is read. A calendar without events is a calendar.
pub fn read_calendar(bytes: &[u8], floating: &Zone) -> Result<Calendar, CalendarProblem> {
    let calendars = component::read(bytes)?;
    let first = |names: [&str; 2]| {
        let mut named = names.iter().flat_map(|name| {
            let of_name = |calendar: &Component| calendar.first(name).map(|line| line.text());
            calendars.iter().find_map(of_name)
        });
        named.next().filter(|text| !text.is_empty())
    };
    let mut zones = Zones::new();
    let mut events: Vec<Event> = Vec::new();
    for calendar in &calendars {
        calendar.is_supported()?;
        zones.enter(calendar);
        let components = calendar.children.iter();
        let of_calendar = components.filter(|child| child.kind == component::Kind::Event);
        events.extend(of_calendar.map(|event| Event::read(event, &mut zones, floating)));
    }
    Ok(Calendar {
        events: instances::by_uid(events, floating),
        name: first(["NAME", "X-WR-CALNAME"]),
        suggested_zone: first(["X-WR-TIMEZONE", "TIMEZONE-ID"]),
    })
}

/// The beginning of a text, for a message.
fn shown(text: &str) -> String {
    const CHARACTERS: usize = 60;
    let mut shown: String = text.chars().take(CHARACTERS).collect();
    if text.chars().nth(CHARACTERS).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests;
