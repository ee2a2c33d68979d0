//! The parts of a recurrence rule, as RFC 5545 §3.3.10 writes them.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::Offset;

/// The most entries of a list, such as `BYMONTHDAY`.
const MAXIMUM_LIST: usize = 400;
/// The most times of day: a rule with more repeats as if it were hourly.
const MAXIMUM_TIMES: usize = 24;
/// The longest rule, in bytes.
const MAXIMUM_LENGTH: usize = 2048;
/// The largest `INTERVAL` and `COUNT`.
const MAXIMUM_NUMBER: u32 = 100_000;

/// The parts of a rule.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Parts {
    pub(super) frequency: Frequency,
    pub(super) interval: u32,
    pub(super) count: Option<u32>,
    pub(super) until: Option<Until>,
    pub(super) week_start: Weekday,
    pub(super) months: Vec<i8>,
    pub(super) month_days: Vec<i8>,
    pub(super) year_days: Vec<i16>,
    pub(super) week_numbers: Vec<i8>,
    pub(super) weekdays: Vec<(Option<i8>, Weekday)>,
    pub(super) positions: Vec<i16>,
    /// Days after Easter Sunday: `BYEASTER`, an extension of RFC 5545 that several libraries support.
    pub(super) easter: Vec<i16>,
    hours: Vec<i8>,
    minutes: Vec<i8>,
    seconds: Vec<i8>,
}

/// How often a rule repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frequency {
    Yearly,
    Monthly,
    Weekly,
    Daily,
}

/// The end of a rule, as written; instances at that time count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Until {
    Instant(Timestamp),
    Local(DateTime),
    Day(Date),
}

/// Why a text is not a recurrence rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RecurrenceError(String);

fn error(why: impl Into<String>) -> RecurrenceError {
    RecurrenceError(why.into())
}

impl FromStr for Parts {
    type Err = RecurrenceError;

    fn from_str(text: &str) -> Result<Parts, RecurrenceError> {
        if text.len() > MAXIMUM_LENGTH {
            return Err(error(format!(
                "the rule is longer than {MAXIMUM_LENGTH} bytes"
            )));
        }
        let mut given = BTreeSet::new();
        let mut frequency = None;
        let mut parts = Parts {
            frequency: Frequency::Yearly,
            interval: 1,
            count: None,
            until: None,
            week_start: Weekday::Monday,
            months: Vec::new(),
            month_days: Vec::new(),
            year_days: Vec::new(),
            week_numbers: Vec::new(),
            weekdays: Vec::new(),
            positions: Vec::new(),
            easter: Vec::new(),
            hours: Vec::new(),
            minutes: Vec::new(),
            seconds: Vec::new(),
        };
        let text = text.trim();
        let text = text.strip_prefix("RRULE:").unwrap_or(text);
        for part in text.split(';').filter(|part| !part.trim().is_empty()) {
            let Some((name, value)) = part.split_once('=') else {
                return Err(error(format!(
                    "`{part:.80}` has no `=`; a rule is written as `FREQ=WEEKLY;BYDAY=FR`"
                )));
            };
            let name = name.trim().to_ascii_uppercase();
            let value = value.trim();
            if !given.insert(name.clone()) {
                return Err(error(format!("`{name:.80}` is given twice")));
            }
            match name.as_str() {
                "FREQ" => frequency = Some(value.parse()?),
                "INTERVAL" => parts.interval = number(&name, value, 1, MAXIMUM_NUMBER)?,
                "COUNT" => parts.count = Some(number(&name, value, 1, MAXIMUM_NUMBER)?),
                "UNTIL" => parts.until = Some(value.parse()?),
                "WKST" => parts.week_start = weekday(value)?,
                "BYMONTH" => parts.months = list(&name, value, 1..=12, false)?,
                "BYMONTHDAY" => parts.month_days = list(&name, value, 1..=31, true)?,
                "BYYEARDAY" => parts.year_days = list(&name, value, 1..=366, true)?,
                "BYWEEKNO" => parts.week_numbers = list(&name, value, 1..=53, true)?,
                "BYSETPOS" => parts.positions = list(&name, value, 1..=366, true)?,
                "BYEASTER" => parts.easter = list(&name, value, 0..=366, true)?,
                "BYHOUR" => parts.hours = list(&name, value, 0..=23, false)?,
                "BYMINUTE" => parts.minutes = list(&name, value, 0..=59, false)?,
                "BYSECOND" => parts.seconds = seconds(list(&name, value, 0..=60, false)?),
                "BYDAY" => parts.weekdays = weekdays(value)?,
                "RSCALE" if value.eq_ignore_ascii_case("GREGORIAN") => {}
                "SKIP" if value.eq_ignore_ascii_case("OMIT") => {}
                _ => {
                    return Err(error(format!(
                        "`{name:.80}` is not a part of a recurrence rule that is supported (RFC 5545 §3.3.10)"
                    )));
                }
            }
        }
        parts.frequency = frequency.ok_or_else(|| {
            error("the rule has no `FREQ`; write for example `FREQ=WEEKLY;BYDAY=FR`")
        })?;
        if parts.count.is_some() && parts.until.is_some() {
            return Err(error("`COUNT` and `UNTIL` exclude each other"));
        }
        let times = [&parts.hours, &parts.minutes, &parts.seconds];
        let times: usize = times.iter().map(|list| list.len().max(1)).product();
        if times > MAXIMUM_TIMES {
            return Err(error(format!(
                "`BYHOUR`, `BYMINUTE` and `BYSECOND` give {times} times a day; at most {MAXIMUM_TIMES} are allowed"
            )));
        }
        Ok(parts)
    }
}

impl Parts {
    /// The entries of all lists that a day is compared with.
    pub(super) fn entries(&self) -> u64 {
        let lists = [
            self.months.len(),
            self.month_days.len(),
            self.year_days.len(),
            self.week_numbers.len(),
            self.weekdays.len(),
            self.easter.len(),
        ];
        lists.iter().sum::<usize>() as u64
    }

    /// The times of day, in order; what the rule does not name comes from the start of the series.
    pub(super) fn times_of_day(&self, start: Time) -> Vec<Time> {
        let or = |list: &[i8], own: i8| match list.is_empty() {
            true => vec![own],
            false => list.to_vec(),
        };
        let (hours, minutes) = (
            or(&self.hours, start.hour()),
            or(&self.minutes, start.minute()),
        );
        let seconds = or(&self.seconds, start.second());
        let mut times = BTreeSet::new();
        for hour in hours {
            for minute in &minutes {
                let of_minute = seconds
                    .iter()
                    .filter_map(|second| Time::new(hour, *minute, *second, 0).ok());
                times.extend(of_minute);
            }
        }
        times.into_iter().collect()
    }
}

impl FromStr for Frequency {
    type Err = RecurrenceError;

    fn from_str(text: &str) -> Result<Frequency, RecurrenceError> {
        match text.to_ascii_uppercase().as_str() {
            "YEARLY" => Ok(Frequency::Yearly),
            "MONTHLY" => Ok(Frequency::Monthly),
            "WEEKLY" => Ok(Frequency::Weekly),
            "DAILY" => Ok(Frequency::Daily),
            finer @ ("HOURLY" | "MINUTELY" | "SECONDLY") => Err(error(format!(
                "`FREQ={finer}` repeats more often than daily; use `FREQ=DAILY` with `BYHOUR`, or a longer window"
            ))),
            _ => Err(error(format!(
                "`FREQ={text:.80}` is not known; expected `YEARLY`, `MONTHLY`, `WEEKLY` or `DAILY`"
            ))),
        }
    }
}

impl FromStr for Until {
    type Err = RecurrenceError;

    fn from_str(text: &str) -> Result<Until, RecurrenceError> {
        let wrong = || {
            error(format!(
                "`UNTIL={text:.80}` is not a time; write `20261231T235959Z`, or `20261231` for the whole day"
            ))
        };
        let upper = text.to_ascii_uppercase();
        let (upper, is_utc) = match upper.strip_suffix('Z') {
            Some(local) => (local, true),
            None => (upper.as_str(), false),
        };
        let (day, time) = match upper.split_once('T') {
            Some((day, time)) => (day, Some(time)),
            None => (upper, None),
        };
        let day = digits::<8>(day).ok_or_else(wrong)?;
        let [y0, y1, y2, y3, m0, m1, d0, d1] = day;
        let year = y0 * 1000 + y1 * 100 + y2 * 10 + y3;
        let short = |tens: i16, ones: i16| i8::try_from(tens * 10 + ones).unwrap_or(-1);
        let day = Date::new(year, short(m0, m1), short(d0, d1)).map_err(|_| wrong())?;
        let Some(time) = time else {
            return Ok(Until::Day(day));
        };
        let [h0, h1, m0, m1, s0, s1] = digits::<6>(time).ok_or_else(wrong)?;
        let second = short(s0, s1).min(59);
        let time = Time::new(short(h0, h1), short(m0, m1), second, 0).map_err(|_| wrong())?;
        let local = day.to_datetime(time);
        match is_utc {
            true => Offset::UTC
                .to_timestamp(local)
                .map(Until::Instant)
                .map_err(|_| wrong()),
            false => Ok(Until::Local(local)),
        }
    }
}

impl fmt::Display for Frequency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Frequency::Yearly => "yearly",
            Frequency::Monthly => "monthly",
            Frequency::Weekly => "weekly",
            Frequency::Daily => "daily",
        })
    }
}

/// A text of exactly `N` decimal digits.
fn digits<const N: usize>(text: &str) -> Option<[i16; N]> {
    let digits: Option<Vec<_>> = text
        .bytes()
        .map(|byte| byte.is_ascii_digit().then(|| i16::from(byte - b'0')))
        .collect();
    digits?.try_into().ok()
}

fn number(name: &str, value: &str, least: u32, most: u32) -> Result<u32, RecurrenceError> {
    let parsed: Option<u32> = value.parse().ok();
    parsed
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| {
            error(format!(
                "`{name}={value:.80}` is not a number from {least} to {most}"
            ))
        })
}

/// A list of numbers whose absolute value lies in a range.
fn list<T: TryFrom<i16> + PartialEq>(
    name: &str,
    value: &str,
    range: std::ops::RangeInclusive<i16>,
    negative: bool,
) -> Result<Vec<T>, RecurrenceError> {
    let wrong = |entry: &str| {
        let (least, most) = (range.start(), range.end());
        let or = if negative {
            ", or the same below zero"
        } else {
            ""
        };
        error(format!(
            "`{entry:.80}` in `{name}` is not a number from {least} to {most}{or}"
        ))
    };
    let mut entries = Vec::new();
    for entry in value.split(',') {
        let number: i16 = entry.trim().parse().map_err(|_| wrong(entry))?;
        let is_allowed = range.contains(&number.saturating_abs()) && (negative || number >= 0);
        if !is_allowed || entries.len() >= MAXIMUM_LIST {
            return Err(wrong(entry));
        }
        let number = T::try_from(number).map_err(|_| wrong(entry))?;
        if !entries.contains(&number) {
            entries.push(number);
        }
    }
    Ok(entries)
}

/// A leap second counts as the last one of its minute.
fn seconds(list: Vec<i8>) -> Vec<i8> {
    list.into_iter().map(|second| second.min(59)).collect()
}

fn weekdays(value: &str) -> Result<Vec<(Option<i8>, Weekday)>, RecurrenceError> {
    let mut entries = Vec::new();
    for entry in value.split(',') {
        let entry = entry.trim();
        let split = entry.find(|c: char| c.is_ascii_alphabetic());
        let (number, day) = entry
            .split_at_checked(split.unwrap_or(0))
            .unwrap_or(("", entry));
        let day = weekday(day)?;
        let nth = match number {
            "" => None,
            number => {
                let parsed: Option<i8> = number.parse().ok();
                let nth = parsed.filter(|nth| (1..=53).contains(&nth.saturating_abs()));
                Some(nth.ok_or_else(|| {
                    error(format!("`{entry:.80}` in `BYDAY` is not a weekday, or a number from 1 to 53 (also below zero) and a weekday"))
                })?)
            }
        };
        if entries.len() >= MAXIMUM_LIST {
            return Err(error(format!(
                "`BYDAY` has more than {MAXIMUM_LIST} entries"
            )));
        }
        entries.push((nth, day));
    }
    Ok(entries)
}

fn weekday(text: &str) -> Result<Weekday, RecurrenceError> {
    match text.to_ascii_uppercase().as_str() {
        "MO" => Ok(Weekday::Monday),
        "TU" => Ok(Weekday::Tuesday),
        "WE" => Ok(Weekday::Wednesday),
        "TH" => Ok(Weekday::Thursday),
        "FR" => Ok(Weekday::Friday),
        "SA" => Ok(Weekday::Saturday),
        "SU" => Ok(Weekday::Sunday),
        _ => Err(error(format!(
            "`{text:.80}` is not a weekday; expected `MO`, `TU`, `WE`, `TH`, `FR`, `SA` or `SU`"
        ))),
    }
}

/// Easter Sunday in the Gregorian calendar (J. Meeus, Astronomical Algorithms, chapter 8).
pub(super) fn easter(year: i16) -> Option<Date> {
    let y = i32::from(year);
    let (a, b, c) = (y.rem_euclid(19), y.div_euclid(100), y.rem_euclid(100));
    let (d, e) = (b / 4, b % 4);
    let g = (8 * b + 13) / 25;
    let h = (19 * a + b - d - g + 15) % 30;
    let (i, k) = (c / 4, c % 4);
    let l = (32 + 2 * e + 2 * i - h - k) % 7;
    let m = (a + 11 * h + 19 * l) / 433;
    let month = (h + l - 7 * m + 90) / 25;
    let day = (h + l - 7 * m + 33 * month + 19) % 32;
    Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()
}
