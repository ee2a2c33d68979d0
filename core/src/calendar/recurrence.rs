//! Recurrence rules (RFC 5545 §3.3.10) that repeat daily or less often, and the local times that they give.
//!
//! A rule is expanded period by period (year, month, week or day, as its frequency says): the days of the period that every part
//! of the rule allows, times the hours, minutes and seconds. A rule without `COUNT` begins at the period that is asked for, so its
//! age costs nothing.

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::{Span as Difference, ToSpan as _};

use super::parts::{Frequency, Parts, Until, easter};
use super::{Budget, Exhausted, Zone};

pub use super::parts::RecurrenceError;

/// A recurrence rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Recurrence {
    written: Box<str>,
    parts: Parts,
}

impl std::fmt::Display for Recurrence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.written)
    }
}

impl std::str::FromStr for Recurrence {
    type Err = RecurrenceError;

    /// Parses the value of an `RRULE`, such as `FREQ=MONTHLY;BYDAY=-1FR`.
    fn from_str(text: &str) -> Result<Recurrence, RecurrenceError> {
        Ok(Recurrence {
            parts: text.parse()?,
            written: text.trim().into(),
        })
    }
}

impl Recurrence {
    /// The same rule for a series of whole days of a zone: an `UNTIL` that is an instant counts as its day. Whether its day in the
    /// zone or in UTC is meant is not clear, so the later one counts.
    pub fn of_days(mut self, zone: &Zone) -> Recurrence {
        if let Some(Until::Instant(instant)) = self.parts.until {
            let day = |zone: &Zone| zone.local(instant).date();
            self.parts.until = Some(Until::Day(day(zone).max(day(&Zone::utc()))));
        }
        self
    }

    /// The local times between `earliest` and `latest`, in order, of a series that begins at `start`. Other times can be among
    /// them at both ends.
    pub(super) fn starts(
        &self,
        start: DateTime,
        zone: &Zone,
        earliest: DateTime,
        latest: DateTime,
        budget: &mut Budget,
    ) -> Result<Vec<DateTime>, Exhausted> {
        let rule = Rule::new(&self.parts, start);
        // What a rule with `COUNT` gives depends on all that came before.
        let from = match self.parts.count {
            Some(_) => start,
            None => earliest.max(start),
        };
        let mut left = self.parts.count.unwrap_or(u32::MAX);
        let mut found = Vec::new();
        let mut period = rule.period_of(from.date());
        while let Some((first, days)) = rule.period(period) {
            if first > latest.date() {
                break;
            }
            budget.spend((1 + u64::from(days)) * rule.cost)?;
            let times = rule.times_in(first, days);
            budget.spend(INSTANCE_COST * times.len() as u64)?;
            for time in times {
                if time < start {
                    continue;
                }
                if left == 0
                    || self
                        .parts
                        .until
                        .is_some_and(|until| is_past(until, time, zone))
                {
                    return Ok(found);
                }
                left -= 1;
                if time >= earliest {
                    found.push(time);
                }
            }
            period += 1;
        }
        Ok(found)
    }
}

/// Whether `UNTIL` ends the series before this time. An `UNTIL` of another kind than `DTSTART` is common; it is read so that no
/// instance is lost.
fn is_past(until: Until, time: DateTime, zone: &Zone) -> bool {
    match until {
        Until::Instant(instant) => zone.first(time) > instant,
        Until::Local(last) => time > last,
        Until::Day(day) => time.date() > day,
    }
}

/// The work of one instance, in days that a rule is compared with.
const INSTANCE_COST: u64 = 4;
/// The entries of lists that are compared with a day in the time that the rest of the rule takes.
const ENTRIES_AT_ONCE: u64 = 8;

/// A rule with what it takes from the start of its series.
struct Rule<'r> {
    parts: &'r Parts,
    start: Date,
    /// Times of day, in order.
    times: Vec<Time>,
    /// The days that the rule takes from the start, if it does not name any.
    month: Option<i8>,
    day: Option<i8>,
    weekday: Option<Weekday>,
    /// The work of one day.
    cost: u64,
}

impl<'r> Rule<'r> {
    fn new(parts: &'r Parts, start: DateTime) -> Rule<'r> {
        let names_days = !(parts.week_numbers.is_empty()
            && parts.year_days.is_empty()
            && parts.month_days.is_empty()
            && parts.weekdays.is_empty()
            && parts.easter.is_empty());
        let (month, day, weekday) = match parts.frequency {
            _ if names_days => (None, None, None),
            Frequency::Yearly => {
                let month = parts.months.is_empty().then(|| start.month());
                (month, Some(start.day()), None)
            }
            Frequency::Monthly => (None, Some(start.day()), None),
            Frequency::Weekly => (None, None, Some(start.weekday())),
            Frequency::Daily => (None, None, None),
        };
        Rule {
            parts,
            start: start.date(),
            times: parts.times_of_day(start.time()),
            month,
            day,
            weekday,
            cost: 1 + parts.entries() / ENTRIES_AT_ONCE,
        }
    }

    /// The number of the period that holds a day; the period of the start is 0. Periods that `INTERVAL` skips are not numbered:
    /// a day in one gives the period before it.
    fn period_of(&self, day: Date) -> i64 {
        let since = |from: Date, to: Date| i64::from((to - from).get_days());
        let units = match self.parts.frequency {
            Frequency::Yearly => i64::from(day.year()) - i64::from(self.start.year()),
            Frequency::Monthly => months(day) - months(self.start),
            Frequency::Weekly => {
                let first = week_start(self.start, self.parts.week_start);
                first.map_or(0, |first| since(first, day).div_euclid(7))
            }
            Frequency::Daily => since(self.start, day),
        };
        units.div_euclid(i64::from(self.parts.interval)).max(0)
    }

    /// The first day of a period, and its number of days. `None` beyond the year 9999.
    fn period(&self, number: i64) -> Option<(Date, u16)> {
        let units = number.checked_mul(i64::from(self.parts.interval))?;
        let (first, next) = match self.parts.frequency {
            Frequency::Yearly => {
                let year = i64::from(self.start.year()).checked_add(units)?;
                let first = Date::new(i16::try_from(year).ok()?, 1, 1).ok()?;
                (first, first.last_of_year())
            }
            Frequency::Monthly => {
                let month = months(self.start).checked_add(units)?;
                let year = i16::try_from(month.div_euclid(12)).ok()?;
                let month = i8::try_from(month.rem_euclid(12) + 1).ok()?;
                let first = Date::new(year, month, 1).ok()?;
                (first, first.last_of_month())
            }
            Frequency::Weekly => {
                let weeks = Difference::new().try_weeks(units).ok()?;
                let first = week_start(self.start, self.parts.week_start)?;
                let first = first.checked_add(weeks).ok()?;
                (first, first.saturating_add(6.days()))
            }
            Frequency::Daily => {
                let days = Difference::new().try_days(units).ok()?;
                let first = self.start.checked_add(days).ok()?;
                (first, first)
            }
        };
        let days = (next - first).get_days() + 1;
        Some((first, u16::try_from(days).ok()?))
    }

    /// The times in a period, in order.
    fn times_in(&self, first: Date, days: u16) -> Vec<DateTime> {
        let mut times = Vec::new();
        let mut day = Some(first);
        for _ in 0..days {
            let Some(today) = day else { break };
            if self.allows(today) {
                times.extend(self.times.iter().map(|time| today.to_datetime(*time)));
            }
            day = today.tomorrow().ok();
        }
        if self.parts.positions.is_empty() {
            return times;
        }
        let at = |position: &i16| {
            let index = match position {
                1.. => usize::try_from(*position).ok()?.checked_sub(1)?,
                _ => times
                    .len()
                    .checked_sub(usize::from(position.unsigned_abs()))?,
            };
            times.get(index).copied()
        };
        let mut chosen: Vec<_> = self.parts.positions.iter().filter_map(at).collect();
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    }

    /// Whether every part of the rule allows a day.
    fn allows(&self, day: Date) -> bool {
        let parts = self.parts;
        let month_is = |month: &i8| *month == day.month();
        let day_is = |number: &i8| {
            is_nth(
                i16::from(*number),
                day.day().into(),
                day.days_in_month().into(),
            )
        };
        let year_day_is = |number: &i16| is_nth(*number, day.day_of_year(), day.days_in_year());
        let weekday_is = |(nth, weekday): &(Option<i8>, Weekday)| {
            *weekday == day.weekday() && nth.is_none_or(|nth| self.is_nth_weekday(nth, day))
        };
        any_or_none(&parts.months, month_is)
            && self.month.iter().all(month_is)
            && any_or_none(&parts.month_days, day_is)
            && self.day.iter().all(|number| *number == day.day())
            && any_or_none(&parts.weekdays, weekday_is)
            && self.weekday.iter().all(|weekday| *weekday == day.weekday())
            && any_or_none(&parts.year_days, year_day_is)
            && (parts.week_numbers.is_empty() || self.is_in_week(day))
            && (parts.easter.is_empty() || {
                let after = easter(day.year()).map(|easter| (day - easter).get_days());
                let mut offsets = parts.easter.iter();
                offsets.any(|offset| Some(i32::from(*offset)) == after)
            })
    }

    /// Whether a day is the nth of its weekday. It is counted within the month, or within the year if a yearly rule has no `BYMONTH`.
    fn is_nth_weekday(&self, nth: i8, day: Date) -> bool {
        let of_year = self.parts.frequency == Frequency::Yearly && self.parts.months.is_empty();
        let (number, of) = match (self.parts.frequency, of_year) {
            (Frequency::Yearly, true) => (day.day_of_year(), day.days_in_year()),
            (Frequency::Yearly | Frequency::Monthly, _) => {
                (day.day().into(), day.days_in_month().into())
            }
            // RFC 5545 allows no number here; the weekday counts.
            (Frequency::Weekly | Frequency::Daily, _) => return true,
        };
        let from_start = (number - 1) / 7 + 1;
        let from_end = (of - number) / 7 + 1;
        i16::from(nth) == from_start || i16::from(nth) == -from_end
    }

    /// Whether a day lies in one of the weeks of the year that the rule names. Week 1 is the first with four days in the year.
    fn is_in_week(&self, day: Date) -> bool {
        let Some(first) = week_start(day, self.parts.week_start) else {
            return false;
        };
        let (Ok(fourth), wkst) = (first.checked_add(3.days()), self.parts.week_start) else {
            return false;
        };
        let number = (fourth.day_of_year() - 1) / 7 + 1;
        let of = weeks_in(fourth.year(), wkst);
        let is = |wanted: &i8| is_nth(i16::from(*wanted), number, of);
        self.parts.week_numbers.iter().any(is)
    }
}

/// Whether an empty list allows everything, or one of its entries this.
fn any_or_none<T>(list: &[T], matches: impl Fn(&T) -> bool) -> bool {
    list.is_empty() || list.iter().any(matches)
}

/// Whether the wanted number, counted from the end if it is negative, is `number` of `of`.
fn is_nth(wanted: i16, number: i16, of: i16) -> bool {
    wanted == number || (wanted < 0 && of + wanted + 1 == number)
}

fn months(day: Date) -> i64 {
    i64::from(day.year()) * 12 + i64::from(day.month()) - 1
}

/// The first day of the week that holds a day.
fn week_start(day: Date, week_start: Weekday) -> Option<Date> {
    let back = i32::from(day.weekday().since(week_start));
    day.checked_sub(back.days()).ok()
}

/// The number of weeks of a year: 53 if its first week leaves four days for a 53rd.
fn weeks_in(year: i16, wkst: Weekday) -> i16 {
    let last = Date::new(year, 12, 31).ok();
    let week = last.and_then(|last| Some((last, week_start(last, wkst)?)));
    match week {
        // The last day's week belongs to this year if its fourth day does.
        Some((last, first)) if (last - first).get_days() >= 3 => {
            let fourth = first.saturating_add(3.days());
            (fourth.day_of_year() - 1) / 7 + 1
        }
        _ => 52,
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn starts(rule: &str, start: DateTime, days: i32) -> Vec<String> {
        let rule: Recurrence = rule.parse().unwrap();
        let latest = start.checked_add(days.days()).unwrap();
        let starts = rule.starts(
            start,
            &Zone::utc(),
            start,
            latest,
            &mut Budget::days(100_000),
        );
        let starts = starts.unwrap().into_iter().filter(|time| *time <= latest);
        starts
            .map(|time| time.strftime("%Y-%m-%dT%H:%M").to_string())
            .collect()
    }

    #[test]
    fn a_rule_takes_from_the_start_what_it_does_not_name() {
        let start = date(2026, 1, 30).at(22, 0, 0, 0);
        assert_eq!(
            starts("FREQ=MONTHLY", start, 90),
            ["2026-01-30T22:00", "2026-03-30T22:00", "2026-04-30T22:00"]
        );
        assert_eq!(
            starts("FREQ=WEEKLY;INTERVAL=2", start, 30),
            ["2026-01-30T22:00", "2026-02-13T22:00", "2026-02-27T22:00"]
        );
        assert_eq!(
            starts("FREQ=YEARLY;BYMONTH=2", start, 800),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_list_of_weekdays_joins_plain_and_numbered_ones() {
        let start = date(2026, 6, 1).at(0, 0, 0, 0);
        assert_eq!(
            starts("FREQ=MONTHLY;BYDAY=2TU,FR", start, 27),
            [
                "2026-06-05T00:00",
                "2026-06-09T00:00",
                "2026-06-12T00:00",
                "2026-06-19T00:00",
                "2026-06-26T00:00"
            ]
        );
    }

    #[test]
    fn an_end_of_another_kind_than_the_start_loses_no_instance() {
        let start = date(2026, 1, 1).at(12, 0, 0, 0);
        for (until, last) in [
            ("20260103", "2026-01-03T12:00"),
            ("20260103T120000Z", "2026-01-03T12:00"),
            ("20260103T115959Z", "2026-01-02T12:00"),
            ("20260103T120000", "2026-01-03T12:00"),
        ] {
            let found = starts(&format!("FREQ=DAILY;UNTIL={until}"), start, 30);
            assert_eq!(found.last().unwrap(), last, "{until}");
        }
    }

    #[test]
    fn the_end_of_a_series_of_days_is_the_later_day_of_both_readings() {
        for (zone, until, last) in [
            // Midnight in Berlin of the last day.
            ("Europe/Berlin", "20261231T230000Z", "2027-01-01"),
            ("Europe/Berlin", "20261231T120000Z", "2026-12-31"),
            ("America/New_York", "20270101T000000Z", "2027-01-01"),
            ("Pacific/Auckland", "20261231T110000Z", "2027-01-01"),
        ] {
            let rule: Recurrence = format!("FREQ=DAILY;UNTIL={until}").parse().unwrap();
            let zone = Zone::named(zone).unwrap();
            let start = date(2026, 12, 20).at(0, 0, 0, 0);
            let latest = start.checked_add(30.days()).unwrap();
            let rule = rule.of_days(&zone);
            let found = rule.starts(start, &zone, start, latest, &mut Budget::days(1000));
            let found = found.unwrap();
            assert_eq!(found.last().unwrap().date().to_string(), last, "{until}");
        }
    }

    #[test]
    fn a_rule_with_long_lists_costs_more() {
        let list = |numbers: std::ops::RangeInclusive<i32>| {
            let numbers: Vec<_> = numbers.map(|number| number.to_string()).collect();
            numbers.join(",")
        };
        let start = date(2026, 1, 1).at(0, 0, 0, 0);
        let latest = date(2036, 1, 1).at(0, 0, 0, 0);
        for rule in [
            format!("FREQ=DAILY;BYEASTER={};BYMONTHDAY=31", list(0..=366)),
            format!("FREQ=YEARLY;BYYEARDAY={};BYMONTHDAY=31", list(1..=366)),
        ] {
            let rule: Recurrence = rule.parse().unwrap();
            let with = |budget| {
                let mut budget = Budget::days(budget);
                rule.starts(start, &Zone::utc(), start, latest, &mut budget)
            };
            assert_eq!(with(50_000), Err(Exhausted));
            assert!(with(1_000_000).is_ok());
        }
    }

    #[test]
    fn a_rule_is_expanded_from_the_period_that_is_asked_for() {
        let rule: Recurrence = "FREQ=WEEKLY;INTERVAL=3;BYDAY=MO,SA".parse().unwrap();
        let start = date(2001, 5, 5).at(8, 0, 0, 0);
        let latest = date(2026, 12, 31).at(0, 0, 0, 0);
        let utc = Zone::utc();
        let all = rule.starts(start, &utc, start, latest, &mut Budget::days(100_000));
        let mut budget = Budget::days(200);
        let earliest = date(2026, 9, 1).at(0, 0, 0, 0);
        let some = rule
            .starts(start, &utc, earliest, latest, &mut budget)
            .unwrap();
        let all: Vec<_> = all
            .unwrap()
            .into_iter()
            .filter(|time| *time >= earliest)
            .collect();
        assert!(!some.is_empty());
        assert_eq!(some, all);
    }

    #[test]
    fn a_rule_that_repeats_below_daily_is_refused() {
        for finer in ["HOURLY", "MINUTELY", "SECONDLY"] {
            let refused = format!("FREQ={finer};INTERVAL=48").parse::<Recurrence>();
            assert!(
                refused
                    .unwrap_err()
                    .to_string()
                    .contains("more often than daily")
            );
        }
        let many = "FREQ=DAILY;BYHOUR=1,2,3,4,5;BYMINUTE=0,10,20,30,40".parse::<Recurrence>();
        assert!(many.unwrap_err().to_string().contains("25 times a day"));
    }

    #[test]
    fn a_mistake_in_a_rule_is_named() {
        for (rule, part) in [
            ("", "no `FREQ`"),
            ("FREQ=WEEKLY;BYDAY=FRI", "`FRI` is not a weekday"),
            ("FREQ=WEEKLY;COUNT=3;UNTIL=20260101", "exclude each other"),
            ("FREQ=WEEKLY;FREQ=DAILY", "given twice"),
            ("FREQ=MONTHLY;BYMONTHDAY=0", "`0` in `BYMONTHDAY`"),
            ("FREQ=MONTHLY;BYMONTHDAY=32", "`32` in `BYMONTHDAY`"),
            ("FREQ=YEARLY;BYMONTH=-1", "`-1` in `BYMONTH`"),
            ("FREQ=WEEKLY;INTERVAL=0", "`INTERVAL=0`"),
            ("FREQ=WEEKLY;UNTIL=tomorrow", "is not a time"),
            ("FREQ=WEEKLY;BYFOO=1", "`BYFOO` is not a part"),
            ("WEEKLY", "has no `=`"),
        ] {
            let refused = rule.parse::<Recurrence>().unwrap_err().to_string();
            assert!(refused.contains(part), "{rule}: {refused}");
        }
    }

    #[test]
    fn a_rule_that_never_gives_a_time_ends() {
        let start = date(2026, 1, 1).at(0, 0, 0, 0);
        assert!(starts("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", start, 36_000).is_empty());
        assert!(starts("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", start, 36_000).is_empty());
    }
}
