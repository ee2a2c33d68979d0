//! The values of properties (RFC 5545 §3.3): dates, times, durations, periods and offsets.

use std::cmp::Ordering;

use jiff::civil::{Date, DateTime, Time};
use jiff::{SignedDuration, Timestamp, ToSpan as _};

use super::super::{Length, Zone};
use super::shown;

/// A date or a time, as it is written.
#[derive(Clone, Debug)]
pub(super) enum Moment {
    Date(Date),
    /// Without a zone: "floating".
    Local(DateTime),
    Zoned(DateTime, Zone),
}

impl Moment {
    /// Parses a `DATE` or `DATE-TIME`, without regard to a `TZID`. `is_date`: the file says that it is a date.
    pub fn parse(text: &str, is_date: bool) -> Result<Moment, String> {
        let text = text.trim();
        let wrong = || {
            let text = shown(text);
            format!(
                "`{text}` is not a date such as `20271224`, or a time such as `20271224T180000Z`"
            )
        };
        let (text, is_utc) = match text.strip_suffix(['Z', 'z']) {
            Some(local) => (local, true),
            None => (text, false),
        };
        let Some((date, time)) = text.split_once(['T', 't']) else {
            return parse_date(text).map(Moment::Date).ok_or_else(wrong);
        };
        let date = parse_date(date).ok_or_else(wrong)?;
        let time = parse_time(time).ok_or_else(wrong)?;
        let local = date.to_datetime(time);
        Ok(match is_utc {
            _ if is_date && time == Time::midnight() => Moment::Date(date),
            true => Moment::Zoned(local, Zone::utc()),
            false => Moment::Local(local),
        })
    }

    /// The local time as it is written; of a date, its beginning.
    pub fn written(&self) -> DateTime {
        match self {
            Moment::Date(date) => date.to_datetime(Time::midnight()),
            Moment::Local(local) | Moment::Zoned(local, _) => *local,
        }
    }

    /// The zone in which it is meant.
    pub fn zone<'z>(&'z self, floating: &'z Zone) -> &'z Zone {
        match self {
            Moment::Date(_) | Moment::Local(_) => floating,
            Moment::Zoned(_, zone) => zone,
        }
    }

    pub fn instant(&self, floating: &Zone) -> Timestamp {
        self.zone(floating).first(self.written())
    }

    /// The local time in a zone. A time without a zone, or in the same one, is taken as it is written.
    pub fn local_in(&self, zone: &Zone) -> DateTime {
        match self {
            Moment::Zoned(local, own) if own != zone => zone.local(own.first(*local)),
            _ => self.written(),
        }
    }
}

/// Parses a `DURATION`, such as `P1DT12H`.
pub(super) fn parse_duration(text: &str) -> Result<Length, String> {
    let text = text.trim();
    let wrong = || {
        let text = shown(text);
        format!("`{text}` is not a duration such as `P1DT12H`")
    };
    let digits = text.strip_prefix('+').unwrap_or(text);
    let digits = digits.strip_prefix('P').ok_or_else(wrong)?;
    let (mut days, mut seconds, mut is_time, mut number) = (0_i64, 0_i64, false, None::<i64>);
    for character in digits.chars() {
        let (of_days, of_seconds) = match (is_time, character) {
            (_, '0'..='9') => {
                let digit = i64::from(character.to_digit(10).unwrap_or(0));
                let more = number.unwrap_or(0).checked_mul(10);
                number = Some(
                    more.and_then(|more| more.checked_add(digit))
                        .ok_or_else(wrong)?,
                );
                continue;
            }
            (false, 'T') if number.is_none() => {
                is_time = true;
                continue;
            }
            (false, 'W') => (7, 0),
            (false, 'D') => (1, 0),
            (true, 'H') => (0, 3600),
            (true, 'M') => (0, 60),
            (true, 'S') => (0, 1),
            _ => return Err(wrong()),
        };
        let number = number.take().ok_or_else(wrong)?;
        let add = |to: i64, unit: i64| to.checked_add(number.checked_mul(unit)?);
        days = add(days, of_days).ok_or_else(wrong)?;
        seconds = add(seconds, of_seconds).ok_or_else(wrong)?;
    }
    match number {
        None if !digits.is_empty() && !digits.ends_with('T') => Ok(Length::Duration {
            days: i32::try_from(days).map_err(|_| wrong())?,
            seconds,
        }),
        _ => Err(wrong()),
    }
}

/// The length of an event from its start to its end.
pub(super) fn length_between(
    start: &Moment,
    end: &Moment,
    floating: &Zone,
) -> Result<Length, String> {
    let wrong = || Err("the end is before the start; correct the event".to_owned());
    let civil = |from: DateTime, to: DateTime| match to.cmp(&from) {
        Ordering::Less => wrong(),
        Ordering::Equal => Ok(NO_LENGTH),
        Ordering::Greater => Ok(Length::Civil(to.duration_since(from))),
    };
    match (start, end) {
        // Some makers write the last day in place of the day after it.
        (Moment::Date(first), Moment::Date(last)) if first == last => Ok(whole_day()),
        (Moment::Date(_), Moment::Date(_)) => civil(start.written(), end.written()),
        // Whether the day of the end belongs to the event is not clear, so it does.
        (_, Moment::Date(last)) => civil(
            start.written(),
            last.saturating_add(1.day()).to_datetime(Time::midnight()),
        ),
        _ if start.zone(floating) == end.zone(floating) => civil(start.written(), end.written()),
        _ => {
            let (start, end) = (start.instant(floating), end.instant(floating));
            match end < start {
                true => wrong(),
                false => Ok(Length::Duration {
                    days: 0,
                    seconds: end.duration_since(start).as_secs(),
                }),
            }
        }
    }
}

/// The length of a moment. As a difference of local times it would be an hour where a local time occurs twice.
pub(super) const NO_LENGTH: Length = Length::Duration {
    days: 0,
    seconds: 0,
};

/// The length of an all-day event that does not give one.
pub(super) fn whole_day() -> Length {
    Length::Civil(SignedDuration::from_hours(24))
}

/// Parses an offset, such as `+0100`, to seconds.
pub(super) fn parse_offset(text: &str) -> Option<i32> {
    let text = text.trim();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+')?),
    };
    let number = |at: std::ops::Range<usize>| parse_number(digits.get(at)?).map(i32::from);
    let seconds = match digits.len() {
        4 => 0,
        6 => number(4..6)?,
        _ => return None,
    };
    let (hours, minutes) = (number(0..2)?, number(2..4)?);
    let is_offset = hours < 24 && minutes < 60 && seconds < 60;
    is_offset.then_some(sign * (hours * 3600 + minutes * 60 + seconds))
}

pub(super) fn parse_date(text: &str) -> Option<Date> {
    let number = |at| parse_number(text.get(at)?);
    let (month, day) = (number(4..6)?, number(6..8)?);
    let date = Date::new(
        number(0..4)?,
        i8::try_from(month).ok()?,
        i8::try_from(day).ok()?,
    );
    date.ok().filter(|_| text.len() == 8)
}

fn parse_time(text: &str) -> Option<Time> {
    let number = |at| i8::try_from(parse_number(text.get(at)?)?).ok();
    // A leap second is the last second of its minute.
    let second = match number(4..6)? {
        60 => 59,
        second => second,
    };
    let time = Time::new(number(0..2)?, number(2..4)?, second, 0);
    time.ok().filter(|_| text.len() == 6)
}

fn parse_number(digits: &str) -> Option<i16> {
    let is_number = digits.bytes().all(|digit| digit.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}
