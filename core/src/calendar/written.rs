//! Times as documents write them.

use std::str::FromStr;

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::{Length, Zone};

/// A day, a local time, or an instant: `2026-12-24`, `2026-12-24T18:00` or `2026-12-24T18:00:00+01:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalMoment {
    /// A whole day of the freeze's zone.
    Day(Date),
    /// A local time of the freeze's zone.
    Local(DateTime),
    /// An instant.
    Instant(Timestamp),
}

/// A time of day: `22:00`; `24:00` is the end of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockTime {
    minutes: i64,
}

/// A weekday, or a time on it: `Friday`, or `Friday 16:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeekTime {
    /// The day.
    pub day: Weekday,
    /// The time; the whole day when absent.
    pub time: Option<ClockTime>,
}

/// A day of every year, or a time on it: `12-24`, or `12-24 18:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct YearTime {
    /// From 1.
    pub month: i8,
    /// From 1.
    pub day: i8,
    /// The time; the whole day when absent.
    pub time: Option<ClockTime>,
}

/// How long a window is: `8h`, `90m` or `2d`, or an RFC 5545 duration such as `P1DT12H`. A day is a day of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowLength(Length);

impl LocalMoment {
    /// The local time in a zone; a day is its start.
    pub fn local(self, zone: &Zone) -> DateTime {
        match self {
            LocalMoment::Day(day) => day.to_datetime(Time::midnight()),
            LocalMoment::Local(local) => local,
            LocalMoment::Instant(at) => zone.local(at),
        }
    }

    /// The local time in a zone at which a period ends that is written with this end; a day belongs to it.
    pub fn local_end(self, zone: &Zone) -> DateTime {
        match self {
            LocalMoment::Day(day) => self
                .local(zone)
                .max(day.saturating_add(1.day()).to_datetime(Time::midnight())),
            LocalMoment::Local(_) | LocalMoment::Instant(_) => self.local(zone),
        }
    }
}

impl FromStr for LocalMoment {
    type Err = String;

    fn from_str(text: &str) -> Result<LocalMoment, String> {
        let wrong = || {
            format!(
                "`{text:.80}` is not a time; write a day (`2026-12-24`), a local time (`2026-12-24T18:00`), or an instant (`2026-12-24T18:00:00Z`)"
            )
        };
        let is_day = text.len() == 10;
        if is_day {
            return text.parse().map(LocalMoment::Day).map_err(|_| wrong());
        }
        if let Ok(instant) = text.parse() {
            return Ok(LocalMoment::Instant(instant));
        }
        // A local time that carried an offset or a zone would lose it.
        let has_only_clock = text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b"-:T ".contains(&byte));
        let is_long_enough = text.len() >= "2026-12-24T18:00".len();
        match text.parse() {
            Ok(local) if has_only_clock && is_long_enough => Ok(LocalMoment::Local(local)),
            _ => Err(wrong()),
        }
    }
}

impl ClockTime {
    /// The start of a day.
    pub const MIDNIGHT: ClockTime = ClockTime { minutes: 0 };
    /// The end of a day.
    pub const END: ClockTime = ClockTime { minutes: 24 * 60 };

    /// Minutes since midnight.
    pub fn minutes(self) -> i64 {
        self.minutes
    }

    /// The time of day; `None` for `24:00`, which no time of day is.
    pub fn time(self) -> Option<Time> {
        let hour = i8::try_from(self.minutes / 60).ok()?;
        let minute = i8::try_from(self.minutes % 60).ok()?;
        Time::new(hour, minute, 0, 0).ok()
    }
}

impl FromStr for ClockTime {
    type Err = String;

    fn from_str(text: &str) -> Result<ClockTime, String> {
        let parts = text.split_once(':');
        let number = |text: &str| match text.len() {
            2 if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse::<i64>().ok(),
            _ => None,
        };
        let minutes = parts.and_then(|(hour, minute)| Some((number(hour)?, number(minute)?)));
        match minutes {
            Some((hour @ 0..=23, minute @ 0..=59)) => Ok(ClockTime {
                minutes: hour * 60 + minute,
            }),
            Some((24, 0)) => Ok(ClockTime::END),
            _ => Err(format!(
                "`{text:.80}` is not a time of day; write `22:00`, from `00:00` to `24:00`"
            )),
        }
    }
}

/// A weekday by its English name, or the first two or three letters of it.
pub(super) fn weekday(text: &str) -> Option<Weekday> {
    let lower = text.to_ascii_lowercase();
    (0..7).find_map(|number| {
        let day = Weekday::from_monday_zero_offset(number).ok()?;
        let name = format!("{day:?}").to_ascii_lowercase();
        let is_short = matches!(lower.len(), 2 | 3) && name.starts_with(&lower);
        (lower == name || is_short).then_some(day)
    })
}

impl FromStr for WeekTime {
    type Err = String;

    fn from_str(text: &str) -> Result<WeekTime, String> {
        let (day, time) = split(text);
        let day = weekday(day).ok_or_else(|| {
            format!("`{text:.80}` is not a weekday; write `Friday`, or `Friday 16:00`")
        })?;
        let time = time.map(str::parse).transpose()?;
        Ok(WeekTime { day, time })
    }
}

impl FromStr for YearTime {
    type Err = String;

    fn from_str(text: &str) -> Result<YearTime, String> {
        let (day, time) = split(text);
        let numbers = day.split_once('-').filter(|_| day.len() == 5);
        let numbers =
            numbers.and_then(|(month, day)| Some((month.parse().ok()?, day.parse().ok()?)));
        // In a leap year every day of a year exists.
        let known = numbers.filter(|(month, day)| Date::new(2024, *month, *day).is_ok());
        let (month, day) = known.ok_or_else(|| {
            format!("`{text:.80}` is not a day of a year; write month and day, `12-24`, or `12-24 18:00`")
        })?;
        let time = time.map(str::parse).transpose()?;
        Ok(YearTime { month, day, time })
    }
}

/// A day, and the time behind it.
fn split(text: &str) -> (&str, Option<&str>) {
    match text.trim().split_once(' ') {
        Some((day, time)) => (day, Some(time.trim())),
        None => (text.trim(), None),
    }
}

impl WindowLength {
    /// The length.
    pub fn length(self) -> Length {
        self.0
    }
}

impl FromStr for WindowLength {
    type Err = String;

    fn from_str(text: &str) -> Result<WindowLength, String> {
        let parsed = match text.starts_with(['P', 'p']) {
            true => parse_duration(text),
            false => text.parse::<crate::gate::Age>().ok().map(|age| {
                let seconds = age.duration().as_secs();
                match text.strip_suffix('d') {
                    Some(_) => Length::Duration {
                        days: i32::try_from(seconds / 86_400).unwrap_or(i32::MAX),
                        seconds: 0,
                    },
                    None => Length::Duration { days: 0, seconds },
                }
            }),
        };
        let most = SignedDuration::from_hours(24 * 3660);
        let within = parsed.filter(|length| {
            let longest = length.at_most();
            longest > SignedDuration::ZERO && longest <= most
        });
        within.map(WindowLength).ok_or_else(|| {
            format!(
                "`{text:.80}` is not a length from one second to 3660 days; write `8h`, `90m`, `2d`, or `P1DT12H`"
            )
        })
    }
}

/// The value of an RFC 5545 `DURATION` (§3.3.6), without a sign.
pub fn parse_duration(text: &str) -> Option<Length> {
    let upper = text.trim().to_ascii_uppercase();
    let text = upper
        .strip_prefix('+')
        .unwrap_or(&upper)
        .strip_prefix('P')?;
    let (date, time) = match text.split_once('T') {
        Some((_, "")) => return None,
        Some((date, time)) => (date, time),
        None => (text, ""),
    };
    if date.is_empty() && time.is_empty() {
        return None;
    }
    let days = units(date, &[('W', 7), ('D', 1)])?;
    let seconds = units(time, &[('H', 3600), ('M', 60), ('S', 1)])?;
    Some(Length::Duration {
        days: i32::try_from(days).ok()?,
        seconds,
    })
}

/// Numbers with units, the larger units first, as a number of the smallest.
fn units(text: &str, known: &[(char, i64)]) -> Option<i64> {
    let (mut rest, mut total) = (text, 0_i64);
    for (unit, size) in known {
        if let Some((number, after)) = rest.split_once(*unit) {
            let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            let number: i64 = is_number.then(|| number.parse().ok())??;
            total = total.checked_add(number.checked_mul(*size)?)?;
            rest = after;
        }
    }
    rest.is_empty().then_some(total)
}

macro_rules! written {
    ($($type:ident: $description:literal;)+) => {
        $(
            impl<'de> Deserialize<'de> for $type {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                    let text = String::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                }
            }

            impl JsonSchema for $type {
                fn schema_name() -> std::borrow::Cow<'static, str> {
                    stringify!($type).into()
                }

                fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                    schemars::json_schema!({"description": $description, "type": "string"})
                }
            }
        )+
    };
}

written! {
    LocalMoment: "A day (`2026-12-24`), a local time (`2026-12-24T18:00`), or an instant (`2026-12-24T18:00:00Z`).";
    ClockTime: "A time of day, such as `22:00`; `24:00` is the end of the day.";
    WeekTime: "A weekday (`Friday`), or a time on it (`Friday 16:00`).";
    YearTime: "A day of every year, month first (`12-24`), or a time on it (`12-24 18:00`).";
    WindowLength: "A length: `8h`, `90m`, `2d`, or an RFC 5545 duration such as `P1DT12H`.";
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Zone, D::Error> {
        let name = String::deserialize(deserializer)?;
        Zone::named(&name).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Zone {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Zone".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A time zone by its IANA name, such as `Europe/Berlin`.",
            "type": "string"
        })
    }
}

impl<'de> Deserialize<'de> for super::Recurrence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<super::Recurrence, D::Error> {
        let rule = String::deserialize(deserializer)?;
        rule.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for super::Recurrence {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Recurrence".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A recurrence rule (RFC 5545 §3.3.10), daily or less often, such as `FREQ=MONTHLY;BYDAY=-1FR`.",
            "type": "string"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_day_a_local_time_or_an_instant() {
        let parsed = |text: &str| text.parse::<LocalMoment>();
        assert!(matches!(parsed("2026-12-24"), Ok(LocalMoment::Day(_))));
        for local in ["2026-12-24T18:00", "2026-12-24 18:00:30"] {
            assert!(
                matches!(parsed(local), Ok(LocalMoment::Local(_))),
                "{local}"
            );
        }
        for instant in ["2026-12-24T18:00:00Z", "2026-12-24T18:00+01:00"] {
            assert!(
                matches!(parsed(instant), Ok(LocalMoment::Instant(_))),
                "{instant}"
            );
        }
        for wrong in [
            "",
            "24.12.2026",
            "2026-12-32",
            "2026-12-24T25:00",
            "2026-12-24T18",
            "2026-12-24T18:00[Europe/Berlin]",
        ] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_weekday_has_its_english_name_with_or_without_a_time() {
        for (text, day, time) in [
            ("Friday", Weekday::Friday, None),
            ("fri 16:00", Weekday::Friday, Some(960)),
            ("Thursday", Weekday::Thursday, None),
            ("TU 24:00", Weekday::Tuesday, Some(1440)),
        ] {
            let parsed: WeekTime = text.parse().unwrap();
            assert_eq!(
                (parsed.day, parsed.time.map(ClockTime::minutes)),
                (day, time),
                "{text}"
            );
        }
        for wrong in [
            "",
            "Fryday",
            "Friday 25:00",
            "5",
            "Friday 16",
            "F 16:00",
            "Freitag",
        ] {
            assert!(wrong.parse::<WeekTime>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_length_has_days_of_the_calendar_and_exact_hours() {
        let length = |text: &str| text.parse::<WindowLength>().map(WindowLength::length);
        let duration = |days, seconds| Ok(Length::Duration { days, seconds });
        assert_eq!(length("8h"), duration(0, 28_800));
        assert_eq!(length("2d"), duration(2, 0));
        assert_eq!(length("P1DT12H30M"), duration(1, 45_000));
        assert_eq!(length("P2W"), duration(14, 0));
        for wrong in [
            "",
            "P",
            "PT",
            "0h",
            "P0D",
            "-PT1H",
            "P1H",
            "PT1D",
            "P1DT",
            "P9999999D",
            "1h30m",
            "PT99999999999999999999H",
        ] {
            assert!(length(wrong).is_err(), "{wrong}");
        }
    }
}
