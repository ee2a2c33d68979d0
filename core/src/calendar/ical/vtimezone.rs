//! A `VTIMEZONE` (RFC 5545 §3.6.5) → a zone, by way of its transitions in the TZif format (RFC 8536).

use std::collections::BTreeMap;

use jiff::civil::{DateTime, date};

use super::super::{Budget, Recurrence, Zone};
use super::component::Component;
use super::line::Line;
use super::value::{Moment, parse_offset};
use super::{CalendarProblem, limit};

/// The years for which rules are expanded. After them, the last offset stays.
const FIRST_YEAR: i16 = 1970;
const LAST_YEAR: i16 = 2100;

/// Reads a definition.
pub(super) fn read(
    definition: &Component<'_>,
    name: &str,
    budget: &mut Budget,
) -> Result<Zone, CalendarProblem> {
    definition.is_readable()?;
    // Seconds since 1970 → the offsets before and after, in seconds.
    let mut transitions: BTreeMap<i64, (i32, i32)> = BTreeMap::new();
    for observance in &definition.children {
        let before = offset(observance, "TZOFFSETFROM")?;
        let after = offset(observance, "TZOFFSETTO")?;
        for start in starts(observance, before, budget)? {
            let epoch = date(1970, 1, 1).at(0, 0, 0, 0);
            let at = start.duration_since(epoch).as_secs() - i64::from(before);
            let other = transitions.insert(at, (before, after));
            if other.is_some_and(|(_, other)| other != after) {
                let why = "two parts of the time zone begin at the same time with different offsets; correct one of them";
                return Err(CalendarProblem::new(observance.line, why));
            }
            if transitions.len() > limit::TRANSITIONS {
                return Err(CalendarProblem::new(observance.line, too_many()));
            }
        }
    }
    let Some((_, (first, _))) = transitions.first_key_value() else {
        let why = "the time zone has no `STANDARD` and no `DAYLIGHT` part; use an IANA name for it";
        return Err(CalendarProblem::new(definition.line, why));
    };
    let after = transitions.iter().map(|(at, (_, after))| (*at, *after));
    let zone = zone(name, *first, after.collect());
    zone.map_err(|why| CalendarProblem::new(definition.line, why))
}

fn too_many() -> String {
    let most = limit::TRANSITIONS;
    format!("the time zone changes its offset more than {most} times; use an IANA name for it")
}

fn required<'l, 'a>(
    observance: &'l Component<'a>,
    name: &str,
) -> Result<&'l Line<'a>, CalendarProblem> {
    observance.only(name)?.ok_or_else(|| {
        let why = format!("this part of the time zone has no {name}; add it");
        CalendarProblem::new(observance.line, why)
    })
}

fn offset(observance: &Component<'_>, name: &str) -> Result<i32, CalendarProblem> {
    let line = required(observance, name)?;
    parse_offset(&line.value).ok_or_else(|| line.problem("write an offset such as `+0100`"))
}

/// The local times at which a part of a zone begins, with the offset before it.
fn starts(
    observance: &Component<'_>,
    before: i32,
    budget: &mut Budget,
) -> Result<Vec<DateTime>, CalendarProblem> {
    observance.is_readable()?;
    let moment = |line: &Line<'_>, text: &str| {
        let moment = Moment::parse(text, false).map_err(|why| line.problem(why))?;
        Ok(moment.written())
    };
    let start = required(observance, "DTSTART")?;
    let first = moment(start, &start.value)?;
    let mut starts = Vec::new();
    for line in observance.all("RDATE") {
        for text in line.value.split(',') {
            starts.push(moment(line, text)?);
            if starts.len() > limit::TRANSITIONS {
                return Err(line.problem(too_many()));
            }
        }
    }
    // The offset matters to `UNTIL` alone.
    let fixed = zone("", before, Vec::new()).map_err(|why| start.problem(why))?;
    for line in observance.all("RRULE") {
        let rule: Recurrence = line
            .value
            .parse()
            .map_err(|why| line.problem(format!("{why}")))?;
        let earliest = date(FIRST_YEAR, 1, 1).at(0, 0, 0, 0);
        let latest = date(LAST_YEAR, 12, 31).at(0, 0, 0, 0);
        let of_rule = rule.starts(first, &fixed, earliest, latest, budget);
        starts.extend(of_rule.map_err(|_| {
            line.problem("the time zones of the file need too much work; use IANA names for them")
        })?);
    }
    // Outlook writes the year 1601, and a day that its rule does not give. A rule says more than that.
    if starts.is_empty() || observance.first("RRULE").is_none() {
        starts.push(first);
    }
    Ok(starts)
}

/// A zone whose offset is `first`, and from each instant on another.
fn zone(name: &str, first: i32, transitions: Vec<(i64, i32)>) -> Result<Zone, String> {
    let mut offsets = vec![first];
    let mut types = Vec::new();
    for (_, offset) in &transitions {
        let at = offsets.iter().position(|known| known == offset);
        let at = at.unwrap_or_else(|| {
            offsets.push(*offset);
            offsets.len() - 1
        });
        let most = "the time zone has more than 256 offsets; use an IANA name for it";
        types.push(u8::try_from(at).map_err(|_| most)?);
    }
    const ABBREVIATION: &[u8] = b"-00\0";
    let header = |transitions: usize, offsets: usize| {
        let counts = [0, 0, 0, transitions, offsets, ABBREVIATION.len()];
        // There are at most `TRANSITIONS`.
        let counts = counts.map(|count| u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
        [b"TZif2".as_slice(), &[0; 15], counts.as_flattened()].concat()
    };
    let described = |offset: &i32| {
        let [a, b, c, d] = offset.to_be_bytes();
        [a, b, c, d, 0, 0]
    };
    // The first block is for readers of 32-bit times, and is not read.
    let mut bytes = header(0, 1);
    bytes.extend(described(&first));
    bytes.extend(ABBREVIATION);
    bytes.extend(header(transitions.len(), offsets.len()));
    bytes.extend(transitions.iter().flat_map(|(at, _)| at.to_be_bytes()));
    bytes.extend(types);
    bytes.extend(offsets.iter().flat_map(described));
    bytes.extend(ABBREVIATION);
    bytes.extend(b"\n\n");
    Zone::from_tzif(name, &bytes)
}
