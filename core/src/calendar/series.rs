//! An event with its repetitions, as it is written, and the spans of time that it occupies.

use std::collections::HashSet;

use jiff::civil::{Date, DateTime, Time};
use jiff::{SignedDuration, Span as Difference, Timestamp};

use super::{Budget, Exhausted, Recurrence, Span, Zone};

/// An event and its repetitions (RFC 5545 §3.8.5), in local times of one zone.
#[derive(Clone, Debug)]
pub struct Series {
    /// The zone of the local times.
    pub zone: Zone,
    /// The start of the first instance. Rules take the time of day from it, and what else they do not name.
    pub start: DateTime,
    /// Whether `start` is an instance even if no rule gives it, as in RFC 5545. A series without rules always has it.
    pub includes_start: bool,
    /// How long each instance is.
    pub length: Length,
    /// The rules.
    pub rules: Vec<Recurrence>,
    /// Further instances, some with a length of their own (`RDATE`).
    pub dates: Vec<(DateTime, Option<Length>)>,
    /// Instances that do not count (`EXDATE`).
    pub except: Vec<Exclusion>,
    /// Only instances whose start, before `shift`, is at this instant or later count.
    pub from: Option<Timestamp>,
    /// Only instances whose start, before `shift`, is before this instant count.
    pub before: Option<Timestamp>,
    /// How much later than the rules say the instances start, in local time (`RANGE=THISANDFUTURE`).
    pub shift: SignedDuration,
}

/// How long an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// From the local start to the local end. On a day of 23 or 25 hours the clock decides, not the number of hours.
    Civil(SignedDuration),
    /// Days of the calendar, and then an exact number of seconds (RFC 5545 §3.3.6).
    Duration {
        /// Days of the calendar.
        days: i32,
        /// Seconds.
        seconds: i64,
    },
    /// To the next such day of a year and time of day, local, so that a leap year moves nothing.
    ToDayOfYear {
        /// From 1.
        month: i8,
        /// From 1. A day that the year does not have is the last one of its month.
        day: i8,
        /// Minutes of that day, up to its end.
        minutes: i64,
    },
}

/// Which instances do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exclusion {
    /// The instance that starts at this instant.
    Instant(Timestamp),
    /// The instances whose local start is on this day.
    Date(Date),
}

/// The most days that a zone or a gap can move a local time.
const MARGIN: i64 = 3;

impl Series {
    /// One instance without repetitions.
    pub fn once(zone: Zone, start: DateTime, end: DateTime) -> Series {
        Series {
            zone,
            start,
            includes_start: true,
            length: Length::Civil(end.duration_since(start)),
            rules: Vec::new(),
            dates: Vec::new(),
            except: Vec::new(),
            from: None,
            before: None,
            shift: SignedDuration::ZERO,
        }
    }

    /// The instances that overlap `range`, in order and each once.
    ///
    /// # Errors
    /// The budget is used up.
    pub fn spans(&self, range: Span, budget: &mut Budget) -> Result<Vec<Span>, Exhausted> {
        let longest = self.dates.iter().filter_map(|(_, length)| *length);
        let longest = longest.chain([self.length]).map(Length::at_most);
        let longest = longest.max().unwrap_or_default();
        let margin = Difference::new().days(MARGIN);
        let bounds = self.zone.local(range.start)..self.zone.local(range.end);
        let earliest = bounds
            .start
            .saturating_sub(longest.saturating_add(self.shift));
        let earliest = earliest.saturating_sub(margin);
        let latest = bounds.end.saturating_sub(self.shift).saturating_add(margin);
        let mut starts: Vec<(DateTime, Length)> = Vec::new();
        for rule in &self.rules {
            let of_rule = rule.starts(self.start, &self.zone, earliest, latest, budget)?;
            starts.extend(of_rule.into_iter().map(|start| (start, self.length)));
        }
        if self.includes_start || self.rules.is_empty() {
            starts.push((self.start, self.length));
        }
        budget.spend(self.dates.len() as u64)?;
        let dates = self.dates.iter();
        starts.extend(dates.map(|(start, length)| (*start, length.unwrap_or(self.length))));
        budget.spend(self.except.len() as u64)?;
        let except = self.except.iter().copied().collect();
        let counts = |start| earliest <= start && start <= latest && self.counts(start, &except);
        let mut spans: Vec<Span> = starts
            .into_iter()
            .filter(|(start, _)| counts(*start))
            .map(|(start, length)| self.span(start.saturating_add(self.shift), length))
            .filter(|span| span.overlaps(&range))
            .collect();
        spans.sort_unstable();
        spans.dedup();
        Ok(spans)
    }

    /// Whether no exclusion and no bound removes the instance.
    fn counts(&self, start: DateTime, except: &HashSet<Exclusion>) -> bool {
        let at = self.zone.first(start);
        let excluded = except.contains(&Exclusion::Instant(at))
            || except.contains(&Exclusion::Date(start.date()));
        let after_from = self.from.is_none_or(|from| from <= at);
        let before_end = self.before.is_none_or(|before| at < before);
        !excluded && after_from && before_end
    }

    /// The span of an instance. The clock can skip its end or more; what is longer than nothing by the clock stays so.
    fn span(&self, local: DateTime, length: Length) -> Span {
        let start = self.zone.first(local);
        let civil = |length: SignedDuration| {
            let end = self.zone.last(local.saturating_add(length));
            match end <= start {
                true => start.saturating_add(length).unwrap_or(Timestamp::MAX),
                false => end,
            }
        };
        let end = match length {
            Length::Civil(length) => civil(length),
            Length::ToDayOfYear {
                month,
                day,
                minutes,
            } => {
                let of_year = |year| {
                    let first = Date::new(year, month, 1).ok()?;
                    let date = first.with().day(day.min(first.days_in_month())).build();
                    let midnight = date.ok()?.to_datetime(Time::midnight());
                    Some(midnight.saturating_add(SignedDuration::from_mins(minutes)))
                };
                let ends = [local.year(), local.year().saturating_add(1)].into_iter();
                let end = ends.filter_map(of_year).find(|end| *end > local);
                end.map_or(Timestamp::MAX, |end| civil(end.duration_since(local)))
            }
            Length::Duration { days, seconds } => {
                let day = Difference::new().try_days(days).unwrap_or_default();
                let end = match days {
                    0 => start,
                    _ => self.zone.last(local.saturating_add(day)),
                };
                let seconds = SignedDuration::from_secs(seconds);
                end.saturating_add(seconds).unwrap_or(Timestamp::MAX)
            }
        };
        Span { start, end }
    }
}

impl Length {
    /// At least as long as any instance, but for what a zone adds.
    pub(super) fn at_most(self) -> SignedDuration {
        match self {
            Length::Civil(length) => length,
            Length::ToDayOfYear { .. } => SignedDuration::from_hours(24 * 366),
            Length::Duration { days, seconds } => SignedDuration::from_hours(24 * i64::from(days))
                .saturating_add(SignedDuration::from_secs(seconds)),
        }
    }
}
