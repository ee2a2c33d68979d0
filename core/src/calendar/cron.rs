//! Freeze periods as a pair of cron expressions: one starts the period, the other ends it (GitLab's `freeze_periods`).

use std::str::FromStr;

use jiff::ToSpan as _;
use jiff::civil::{Date, Time};

use super::{Budget, Exhausted, Span, Zone};

/// How far back the start or the end of a period can lie: 29 February comes after eight years at the latest.
const LOOK_BACK_DAYS: u32 = 3000;

/// A period between the times of two cron expressions: it lasts at an instant if its last start is later than its last end.
#[derive(Clone, Debug, PartialEq)]
pub struct CronPeriod {
    /// When it starts.
    pub starts: Cron,
    /// When it ends.
    pub ends: Cron,
    /// The zone of both.
    pub zone: Zone,
}

/// A cron expression of five fields: minute, hour, day of the month, month, day of the week (`crontab(5)`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether a day has to fit one of the two fields of days and not both: both name days. GitLab counts `*/2` as days that are
    /// named, unlike `cron`.
    either_day: bool,
}

/// Every day of a month.
const EVERY_DAY: u64 = 0xffff_fffe;
const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl FromStr for Cron {
    type Err = String;

    fn from_str(text: &str) -> Result<Cron, String> {
        let fields: Vec<_> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else {
            return Err(format!(
                "`{text:.80}` is not a cron expression of five fields, such as `0 23 * * 5`"
            ));
        };
        let of_month = field("day of the month", days, 1..=31, &[])?;
        let parsed = Cron {
            minutes: field("minute", minutes, 0..=59, &[])?,
            hours: field("hour", hours, 0..=23, &[])?,
            days: of_month,
            months: field("month", months, 1..=12, &MONTHS)?,
            weekdays: field("day of the week", weekdays, 0..=7, &WEEKDAYS)?,
            either_day: of_month != EVERY_DAY && weekdays != "*",
        };
        // Sunday is 0 and 7.
        let sunday = (parsed.weekdays | parsed.weekdays >> 7) & 1;
        Ok(Cron {
            weekdays: parsed.weekdays | sunday,
            ..parsed
        })
    }
}

/// One field as a set of numbers: `*`, numbers, names, ranges and steps, separated by commas.
fn field(
    what: &str,
    text: &str,
    range: std::ops::RangeInclusive<u32>,
    names: &[&str],
) -> Result<u64, String> {
    let wrong = |part: &str| {
        let (least, most) = (range.start(), range.end());
        format!(
            "`{part:.80}` is not a {what} from {least} to {most}, a range such as `{least}-{most}`, or `*`"
        )
    };
    let value = |text: &str| {
        let lower = text.to_ascii_lowercase();
        let named = names.iter().position(|name| *name == lower);
        let number = match named {
            // Months are counted from 1, and weekdays from 0.
            Some(index) => u32::try_from(index).ok().map(|index| index + range.start()),
            None => text.parse().ok(),
        };
        number.filter(|number| range.contains(number))
    };
    let mut set = 0_u64;
    for part in text.split(',') {
        let (span, step) = match part.split_once('/') {
            Some((span, step)) => (span, step.parse().ok().filter(|step| *step > 0)),
            None => (part, Some(1)),
        };
        let step: u32 = step.ok_or_else(|| wrong(part))?;
        let (from, to) = match span.split_once('-') {
            _ if span == "*" => (*range.start(), *range.end()),
            Some((from, to)) => {
                let both = value(from).zip(value(to));
                both.ok_or_else(|| wrong(part))?
            }
            None => {
                let from = value(span).ok_or_else(|| wrong(part))?;
                // `5/10` is `5-59/10`.
                let to = if part.contains('/') {
                    *range.end()
                } else {
                    from
                };
                (from, to)
            }
        };
        // A range can lead over the end, as in `fri-mon`.
        let numbers: Vec<u32> = match from <= to {
            true => (from..=to).collect(),
            false => (from..=*range.end()).chain(*range.start()..=to).collect(),
        };
        let step = usize::try_from(step).unwrap_or(usize::MAX);
        let stepped = numbers.into_iter().step_by(step);
        set = stepped.fold(set, |set, number| set | 1 << number);
    }
    Ok(set)
}

fn has(set: u64, number: impl TryInto<u32>) -> bool {
    number
        .try_into()
        .is_ok_and(|number: u32| set >> number & 1 == 1)
}

impl Cron {
    fn allows(&self, day: Date) -> bool {
        let of_month = has(self.days, day.day());
        let of_week = has(self.weekdays, day.weekday().to_sunday_zero_offset());
        let is_day = match self.either_day {
            true => of_month || of_week,
            false => of_month && of_week,
        };
        is_day && has(self.months, day.month())
    }

    /// The times of a day, in order.
    fn times(&self, day: Date) -> Vec<Time> {
        if !self.allows(day) {
            return Vec::new();
        }
        let hours = (0..24).filter(|hour| has(self.hours, *hour));
        let minutes = |hour| {
            (0..60)
                .filter(|minute| has(self.minutes, *minute))
                .map(move |minute| (hour, minute))
        };
        hours
            .flat_map(minutes)
            .filter_map(|(hour, minute)| Time::new(hour, minute, 0, 0).ok())
            .collect()
    }
}

impl CronPeriod {
    /// The periods that overlap `range`. A period without an end lasts as long as time can be written.
    ///
    /// # Errors
    /// The budget is used up.
    pub fn spans(&self, range: Span, budget: &mut Budget) -> Result<Vec<Span>, Exhausted> {
        let first = self.zone.local(range.start).date();
        let last = self.zone.local(range.end).date().saturating_add(1.day());
        let mut day = self.first_day(first, budget)?;
        let mut started = None;
        let mut spans = Vec::new();
        loop {
            let mut times: Vec<_> = self
                .starts
                .times(day)
                .into_iter()
                .map(|time| (self.zone.first(day.to_datetime(time)), true))
                .collect();
            let ends = self.ends.times(day).into_iter();
            times.extend(ends.map(|time| (self.zone.last(day.to_datetime(time)), false)));
            budget.spend(1 + times.len() as u64 / 8)?;
            // At one instant the end comes last: it counts, as the last start is not later.
            times.sort_unstable_by_key(|(at, is_start)| (*at, !*is_start));
            for (at, is_start) in times {
                match (is_start, started) {
                    (true, None) => started = Some(at),
                    (false, Some(start)) => {
                        spans.push(Span { start, end: at });
                        started = None;
                    }
                    _ => {}
                }
            }
            let is_over = day >= last && started.is_none_or(|start| start >= range.end);
            let is_endless = day > last.saturating_add((LOOK_BACK_DAYS as i32).days());
            match day.tomorrow() {
                Ok(next) if !is_over && !is_endless => day = next,
                _ => break,
            }
        }
        spans.extend(started.map(|start| Span {
            start,
            end: jiff::Timestamp::MAX,
        }));
        spans.retain(|span| span.start < span.end && span.overlaps(&range));
        Ok(spans)
    }

    /// A day from which on the state is known: the last one before `day` on which a period ends, or the first that is looked at.
    fn first_day(&self, day: Date, budget: &mut Budget) -> Result<Date, Exhausted> {
        let mut day = day;
        for _ in 0..LOOK_BACK_DAYS {
            let Ok(before) = day.yesterday() else { break };
            day = before;
            budget.spend(1)?;
            if self.ends.allows(day) {
                break;
            }
        }
        Ok(day)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn periods(starts: &str, ends: &str, zone: &str, range: [&str; 2]) -> Vec<String> {
        let period = CronPeriod {
            starts: starts.parse().unwrap(),
            ends: ends.parse().unwrap(),
            zone: Zone::named(zone).unwrap(),
        };
        let [start, end] = range.map(|at| at.parse::<Timestamp>().unwrap());
        let spans = period.spans(Span { start, end }, &mut Budget::days(100_000));
        let shown = spans.unwrap().into_iter();
        shown
            .map(|span| format!("{} {}", span.start, span.end))
            .collect()
    }

    #[test]
    fn a_period_lasts_from_its_last_start_to_the_next_end() {
        assert_eq!(
            periods(
                "0 23 * * 5",
                "0 8 * * mon",
                "Europe/Berlin",
                ["2026-11-28T12:00:00Z", "2026-12-05T00:00:00Z"]
            ),
            [
                "2026-11-27T22:00:00Z 2026-11-30T07:00:00Z",
                "2026-12-04T22:00:00Z 2026-12-07T07:00:00Z"
            ]
        );
    }

    #[test]
    fn a_period_of_months_is_found_from_inside() {
        assert_eq!(
            periods(
                "0 0 1 12 *",
                "0 0 10 1 *",
                "UTC",
                ["2027-01-05T00:00:00Z", "2027-01-06T00:00:00Z"]
            ),
            ["2026-12-01T00:00:00Z 2027-01-10T00:00:00Z"]
        );
    }

    #[test]
    fn a_period_that_starts_often_is_one_until_its_end() {
        assert_eq!(
            periods(
                "*/10 8-17 * * 1-5",
                "0 18 * * *",
                "UTC",
                ["2026-11-30T00:00:00Z", "2026-12-01T00:00:00Z"]
            ),
            ["2026-11-30T08:00:00Z 2026-11-30T18:00:00Z"]
        );
    }

    #[test]
    fn a_day_fits_one_of_two_fields_that_both_name_days_as_in_gitlab() {
        let wednesday = Date::constant(2026, 12, 2);
        let (thursday, friday) = (Date::constant(2026, 12, 3), Date::constant(2026, 12, 4));
        let monday = Date::constant(2026, 12, 7);
        for (days, allowed) in [
            ("1 * 5", [false, false, true, false]),
            ("* * 5", [false, false, true, false]),
            ("1-31 * 5", [false, false, true, false]),
            ("*/1 * 5", [false, false, true, false]),
            ("3 * *", [false, true, false, false]),
            // Odd days, or Fridays.
            ("*/2 * 5", [false, true, true, true]),
            ("3 * */1", [true, true, true, true]),
        ] {
            let cron: Cron = format!("0 0 {days}").parse().unwrap();
            let found = [wednesday, thursday, friday, monday].map(|day| cron.allows(day));
            assert_eq!(found, allowed, "{days}");
        }
    }

    #[test]
    fn a_start_and_an_end_at_one_instant_freeze_nothing() {
        let none = periods(
            "0 8 * * *",
            "0 8 * * *",
            "UTC",
            ["2026-11-30T00:00:00Z", "2026-12-02T00:00:00Z"],
        );
        assert!(none.is_empty(), "{none:?}");
    }

    #[test]
    fn a_period_without_an_end_lasts() {
        let found = periods(
            "0 0 28 11 *",
            "0 0 30 2 *",
            "UTC",
            ["2027-11-30T00:00:00Z", "2027-12-02T00:00:00Z"],
        );
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].ends_with("9999-12-30T22:00:00.999999999Z"),
            "{found:?}"
        );
    }

    #[test]
    fn a_range_can_lead_over_the_end_and_a_step_can_be_of_any_size() {
        assert_eq!(
            "0 0 * * fri-mon".parse::<Cron>(),
            "0 0 * * 5,6,7,0,1".parse()
        );
        assert_eq!(
            "0 22-2 * * *".parse::<Cron>(),
            "0 22,23,0,1,2 * * *".parse()
        );
        assert_eq!(
            "1-5/4294967295 * * * *".parse::<Cron>(),
            "1 * * * *".parse()
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_cron_expression_or_refused(text in "([0-9*,/a-z-]{1,12} ?){1,6}") {
            let _ = text.parse::<Cron>();
        }
    }

    #[test]
    fn a_mistake_in_a_cron_expression_is_named() {
        for (text, part) in [
            ("0 23 * *", "five fields"),
            ("60 23 * * 5", "`60` is not a minute"),
            ("0 23 * * fry", "`fry` is not a day of the week"),
            ("0 5-30 * * *", "`5-30` is not a hour"),
            ("0 5- * * *", "`5-` is not a hour"),
            ("*/0 * * * *", "`*/0` is not a minute"),
            ("0 23 L * *", "`L` is not a day of the month"),
        ] {
            let refused = text.parse::<Cron>().unwrap_err();
            assert!(refused.contains(part), "{refused}");
        }
    }
}
