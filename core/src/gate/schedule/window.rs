//! The times of a freeze as documents write them, each one of several forms that all become a [`Series`].

use jiff::civil::{DateTime, Time, Weekday, date};
use jiff::{SignedDuration, ToSpan as _};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::calendar::{
    ClockTime, Exclusion, Length, LocalMoment, Recurrence, Series, WeekTime, WindowLength,
    YearTime, Zone,
};
use crate::documents::{Fault, Path};

/// When a freeze lasts, in exactly one of these forms: `from` with `until`, `daily`, `weekly`, `yearly` or `recurrence`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FreezeWindow {
    /// Once: the first day (the whole of it), local time or instant.
    pub from: Option<LocalMoment>,
    /// Once: the last day (the whole of it), or the local time or instant at which it is over.
    pub until: Option<LocalMoment>,
    /// Every day, or some weekdays.
    pub daily: Option<Daily>,
    /// Every week.
    pub weekly: Option<Weekly>,
    /// Every year.
    pub yearly: Option<Yearly>,
    /// By a recurrence rule.
    pub recurrence: Option<Recurring>,
}

/// A time of every day.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Daily {
    /// When it begins; with `until` absent too, the whole day.
    pub from: Option<ClockTime>,
    /// When it ends; on the next day if that is not later than `from`.
    pub until: Option<ClockTime>,
    /// The weekdays on which it begins; every day when absent.
    #[serde(default)]
    #[schemars(with = "Vec<WeekTime>")]
    pub days: Vec<WeekTime>,
}

/// A time of every week.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Weekly {
    /// When it begins.
    pub from: WeekTime,
    /// When it ends. A weekday without a time belongs to it as a whole.
    pub until: WeekTime,
}

/// A time of every year.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Yearly {
    /// When it begins.
    pub from: YearTime,
    /// When it ends; in the next year if that is not later than `from`. A day without a time belongs to it as a whole.
    pub until: YearTime,
}

/// A time that repeats by a rule.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Recurring {
    /// When the first one can begin. The rule takes the time of day from it, and what else it does not name.
    pub start: LocalMoment,
    /// The rule, such as `FREQ=MONTHLY;BYDAY=-1FR`.
    pub rule: Recurrence,
    /// How long each one lasts. Without `duration` and `end`, where `start` is a day: a day.
    pub duration: Option<WindowLength>,
    /// The end of the one that begins at `start`, in place of `duration`: the others end at the same time by the clock. A day
    /// belongs to it as a whole.
    pub end: Option<LocalMoment>,
    /// Further starts (`RDATE`).
    #[serde(default)]
    #[schemars(length(max = 1000))]
    pub dates: Vec<LocalMoment>,
    /// Starts that do not count (`EXDATE`): a day, or the exact time.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    pub except_dates: Vec<LocalMoment>,
}

/// The most entries of `dates` and `exceptDates`.
const MAXIMUM_DATES: usize = 1000;

impl FreezeWindow {
    /// The window as a series, in the zone of its freeze.
    ///
    /// # Errors
    /// The field below the window that is wrong, and why.
    pub fn series(&self, zone: Option<&Zone>) -> Result<Series, Fault> {
        let FreezeWindow {
            from,
            until,
            daily,
            weekly,
            yearly,
            recurrence,
        } = self;
        let forms = [
            from.is_some() || until.is_some(),
            daily.is_some(),
            weekly.is_some(),
            yearly.is_some(),
            recurrence.is_some(),
        ];
        if forms.iter().filter(|given| **given).count() != 1 {
            return Err(fault(
                &[],
                "expected exactly one of `from` with `until`, `daily`, `weekly`, `yearly` and `recurrence`",
            ));
        }
        if let (Some(from), Some(until)) = (from, until) {
            return once(*from, *until, zone);
        }
        let zone = zone.cloned().ok_or_else(needs_zone);
        match (daily, weekly, yearly, recurrence) {
            (Some(daily), ..) => daily.series(zone?),
            (_, Some(weekly), ..) => weekly.series(zone?),
            (_, _, Some(yearly), _) => yearly.series(zone?),
            (_, _, _, Some(recurrence)) => recurrence.series(zone?),
            _ => Err(match from {
                Some(_) => fault(&[], "`until` is missing"),
                None => fault(&[], "`from` is missing"),
            }),
        }
    }
}

/// A fault at a field below the window; at the window itself without keys.
fn fault(keys: &[&str], message: impl Into<String>) -> Fault {
    let below = |path: Path, key: &&str| path.key(key);
    Fault {
        path: keys.iter().fold(Path::default(), below),
        message: message.into(),
    }
}

fn needs_zone() -> Fault {
    fault(
        &[],
        "the time is local, and the freeze has no `timeZone`; set it in `spec`, such as `timeZone: Europe/Berlin`",
    )
}

fn once(from: LocalMoment, until: LocalMoment, zone: Option<&Zone>) -> Result<Series, Fault> {
    let are_instants = [from, until]
        .iter()
        .all(|moment| matches!(moment, LocalMoment::Instant(_)));
    let zone = match zone {
        Some(zone) => zone.clone(),
        None if are_instants => Zone::utc(),
        None => return Err(needs_zone()),
    };
    let (start, end) = (from.local(&zone), until.local_end(&zone));
    let series = match (from, until) {
        // Instants can be ambiguous local times, so they are kept as they are.
        (LocalMoment::Instant(from), LocalMoment::Instant(until)) => {
            let utc = Zone::utc();
            let (start, end) = (utc.local(from), utc.local(until));
            Series::once(utc, start, end)
        }
        _ => Series::once(zone, start, end),
    };
    match series.length {
        Length::Civil(length) if length > SignedDuration::ZERO => Ok(series),
        _ => Err(fault(
            &["until"],
            "the freeze ends before it begins, or at once",
        )),
    }
}

/// A series by a rule, from a local start that the rule fits.
fn by_rule(zone: Zone, start: DateTime, length: Length, rule: &str) -> Result<Series, Fault> {
    let rule: Recurrence = rule
        .parse()
        .map_err(|error| fault(&[], format!("{error}")))?;
    Ok(Series {
        includes_start: false,
        length,
        rules: vec![rule],
        ..Series::once(zone, start, start)
    })
}

const MINUTES_OF_DAY: i64 = 24 * 60;

/// A length of this many minutes by the clock.
fn by_clock(minutes: i64) -> Length {
    Length::Civil(SignedDuration::from_mins(minutes))
}

/// A Monday at midnight, before every freeze.
fn long_ago() -> DateTime {
    date(1970, 1, 5).to_datetime(Time::midnight())
}

impl Daily {
    fn series(&self, zone: Zone) -> Result<Series, Fault> {
        let at = |key: &str, why: &str| fault(&["daily", key], why);
        let (from, until) = match (self.from, self.until) {
            (Some(from), Some(until)) => (from, until),
            (None, None) => (ClockTime::MIDNIGHT, ClockTime::END),
            (Some(_), None) => return Err(fault(&["daily"], "`until` is missing")),
            (None, Some(_)) => return Err(fault(&["daily"], "`from` is missing")),
        };
        let Some(_) = from.time() else {
            return Err(at(
                "from",
                "a freeze begins at `23:59` at the latest; write `00:00` of the next day",
            ));
        };
        let length = until.minutes() - from.minutes();
        let length = match length {
            0 => {
                return Err(at(
                    "until",
                    "the freeze ends when it begins; leave `from` and `until` out for the whole day",
                ));
            }
            1.. => length,
            _ => length + MINUTES_OF_DAY,
        };
        if self.days.iter().any(|day| day.time.is_some()) {
            return Err(at("days", "expected weekdays without a time"));
        }
        let days: Vec<_> = self.days.iter().map(|day| two_letters(day.day)).collect();
        let rule = match days.is_empty() {
            true => "FREQ=DAILY".to_owned(),
            false => format!("FREQ=WEEKLY;BYDAY={}", days.join(",")),
        };
        let start = long_ago().saturating_add(from.minutes().minutes());
        by_rule(zone, start, by_clock(length), &rule)
    }
}

impl Weekly {
    fn series(&self, zone: Zone) -> Result<Series, Fault> {
        let minutes = |day: Weekday, time: ClockTime| {
            i64::from(day.to_monday_zero_offset()) * MINUTES_OF_DAY + time.minutes()
        };
        let from = minutes(self.from.day, self.from.time.unwrap_or(ClockTime::MIDNIGHT));
        let until = minutes(self.until.day, self.until.time.unwrap_or(ClockTime::END));
        let week = 7 * MINUTES_OF_DAY;
        // `Sunday 24:00` is `Monday 00:00`.
        if from == until || from == until + week {
            let why = "the freeze ends when it begins";
            return Err(fault(&["weekly", "until"], why));
        }
        let length = match until - from {
            length @ 1.. => length,
            length => length + week,
        };
        let start = long_ago().saturating_add(from.minutes());
        by_rule(zone, start, by_clock(length), "FREQ=WEEKLY")
    }
}

impl Yearly {
    fn series(&self, zone: Zone) -> Result<Series, Fault> {
        let YearTime { month, day, time } = self.from;
        if (month, day) == (2, 29) {
            let why = "29 February is not in every year; write `02-28` or `03-01`";
            return Err(fault(&["yearly", "from"], why));
        }
        let time = time.unwrap_or(ClockTime::MIDNIGHT);
        if time == ClockTime::END {
            let why = "a freeze begins at `23:59` at the latest; write `00:00` of the next day";
            return Err(fault(&["yearly", "from"], why));
        }
        let start = date(1972, month, day).to_datetime(Time::midnight());
        let start = start.saturating_add(time.minutes().minutes());
        let until = self.until.time.unwrap_or(ClockTime::END);
        let is_same_day = (month, day) == (self.until.month, self.until.day);
        if is_same_day && time == until {
            let why = "the freeze ends when it begins";
            return Err(fault(&["yearly", "until"], why));
        }
        let length = Length::ToDayOfYear {
            month: self.until.month,
            day: self.until.day,
            minutes: until.minutes(),
        };
        by_rule(zone, start, length, "FREQ=YEARLY")
    }
}

impl Recurring {
    fn series(&self, zone: Zone) -> Result<Series, Fault> {
        let at = |key: &str, why: &str| fault(&["recurrence", key], why);
        let start = self.start.local(&zone);
        let length = match (self.duration, self.start) {
            _ if let Some(end) = self.end => {
                if self.duration.is_some() {
                    return Err(at("end", "`duration` is given too; leave one of them out"));
                }
                let length = end.local_end(&zone).duration_since(start);
                if length <= SignedDuration::ZERO {
                    return Err(at("end", "the freeze ends before it begins, or at once"));
                }
                Length::Civil(length)
            }
            (Some(duration), _) => duration.length(),
            (None, LocalMoment::Day(_)) => Length::Duration {
                days: 1,
                seconds: 0,
            },
            (None, _) => {
                return Err(fault(
                    &["recurrence"],
                    "`duration` is missing: how long each freeze lasts, such as `8h`; or give the first `end`",
                ));
            }
        };
        for (key, list) in [("dates", &self.dates), ("exceptDates", &self.except_dates)] {
            if list.len() > MAXIMUM_DATES {
                return Err(at(key, &format!("more than {MAXIMUM_DATES} entries")));
            }
        }
        let except = self.except_dates.iter().map(|moment| match moment {
            LocalMoment::Day(day) => Exclusion::Date(*day),
            LocalMoment::Local(local) => Exclusion::Instant(zone.first(*local)),
            LocalMoment::Instant(at) => Exclusion::Instant(*at),
        });
        let dates = self.dates.iter().map(|moment| match (moment, self.start) {
            // A day takes its time from the start, as in a rule.
            (LocalMoment::Day(day), LocalMoment::Local(start)) => day.to_datetime(start.time()),
            _ => moment.local(&zone),
        });
        let rule = match self.start {
            LocalMoment::Day(_) => self.rule.clone().of_days(&zone),
            LocalMoment::Local(_) | LocalMoment::Instant(_) => self.rule.clone(),
        };
        Ok(Series {
            includes_start: false,
            length,
            rules: vec![rule],
            dates: dates.map(|date| (date, None)).collect(),
            except: except.collect(),
            ..Series::once(zone, start, start)
        })
    }
}

/// The weekday as RFC 5545 writes it.
fn two_letters(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "MO",
        Weekday::Tuesday => "TU",
        Weekday::Wednesday => "WE",
        Weekday::Thursday => "TH",
        Weekday::Friday => "FR",
        Weekday::Saturday => "SA",
        Weekday::Sunday => "SU",
    }
}
