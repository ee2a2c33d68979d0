//! Times that repeat: zones, recurrence rules and calendars (RFC 5545) → spans of time.
//!
//! * [`Zone`]: time zones from data that is part of the program
//! * [`Recurrence`]: an RFC 5545 rule → local times
//! * [`Series`]: an event with its repetitions → [`Span`]s
//! * [`CronPeriod`]: a pair of cron expressions → [`Span`]s
//! * [`LocalMoment`], [`WeekTime`] and others: times as documents write them
//! * [`CalendarEvent`]: an event of a calendar
//! * [`read_calendar`]: an iCalendar file → [`Calendar`]

mod cron;
mod event;
mod ical;
mod parts;
mod recurrence;
mod series;
mod span;
mod written;
mod zone;

pub use cron::{Cron, CronPeriod};
pub use event::CalendarEvent;
pub use ical::{Calendar, CalendarProblem, read_calendar};
pub use recurrence::{Recurrence, RecurrenceError};
pub use series::{Exclusion, Length, Series};
pub use span::{Span, merge};
pub use written::{ClockTime, LocalMoment, WeekTime, WindowLength, YearTime, parse_duration};
pub use zone::Zone;

/// How much work expanding recurrences may still take. Rules come from calendars that others write.
#[derive(Debug)]
pub struct Budget(u64);

/// A recurrence needs more work than is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the recurrences need too much work; use fewer of them, or rules that repeat less often")]
pub struct Exhausted;

impl Budget {
    /// A budget of this many days that rules are compared with.
    pub fn days(days: u64) -> Budget {
        Budget(days)
    }

    fn spend(&mut self, days: u64) -> Result<(), Exhausted> {
        self.0 = self.0.checked_sub(days).ok_or(Exhausted)?;
        Ok(())
    }
}
