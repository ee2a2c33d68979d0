//! Change freezes → whether an environment is frozen at an instant, why, and until when.
//!
//! The spans of the next 400 days are computed once, when the schedule is made; an instant among them is found by binary search,
//! however old the rules are. Other instants are computed when they are asked for, with the same answer.

mod answer;
mod entry;
mod freeze;
mod show;
#[cfg(test)]
mod tests;
mod window;

use jiff::{SignedDuration, Timestamp};

use crate::calendar::{Budget, Exhausted, Span, Zone};
use entry::Entry;

pub use entry::Occurrence;
pub use freeze::{
    EndpointAnswer, EventFilter, Feed, FeedContent, FeedKind, FeedPlace, FeedReading, FeedState,
    FeedTime, FeedTimes, Freeze, FreezeSource, MayPass, WhenStale,
};
pub use window::{Daily, FreezeWindow, Recurring, Weekly, Yearly};

/// How far ahead the spans are computed at once, in days.
const COVERED_DAYS: i64 = 400;
/// How far ahead a start is looked for, in days: 400 years, after which the calendar repeats.
const FURTHEST_START_DAYS: i64 = 146_097;
/// The same, in growing steps.
const STEPS: [i64; 4] = [COVERED_DAYS, 4_000, 40_000, FURTHEST_START_DAYS];
/// How far ahead an end is looked for, in days.
const FURTHEST_END_DAYS: i64 = 3_700;
/// The most freezes that follow each other without a break and are looked through for the end.
const MAXIMUM_CHAIN: usize = 2_000;
/// The same where the spans are not computed yet.
const MAXIMUM_CHAIN_BEYOND: usize = 20;
/// How much longer than a year, in days, the computed spans reach: a review looks a year ahead.
const SPARE_DAYS: i64 = 10;
/// The work of computing the spans of one freeze, in days that rules are compared with. Each freeze has its own, so that a
/// calendar that takes too much makes no other freeze unknown.
const BUDGET: u64 = 4_000_000;

/// All change freezes together.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    entries: Vec<Entry>,
    covered: Option<Span>,
}

/// A freeze that lasts at some instant.
#[derive(Clone, Debug)]
pub struct Frozen<'s> {
    /// The freeze.
    pub freeze: &'s Freeze,
    /// Why it counts.
    pub cause: Cause,
    /// When it ends.
    pub until: Until,
}

/// Why a freeze counts at some instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// One of its times.
    Window {
        /// The event of the calendar, or the reason that an endpoint gives.
        what: Option<String>,
    },
    /// Its feed was not read for too long, or never.
    Stale {
        /// Since when, and why.
        why: String,
    },
}

/// When a freeze ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// At this instant.
    At(Timestamp),
    /// After this instant: the end is further away than is looked.
    After(Timestamp),
    /// The end is not known.
    Unknown,
}

/// A freeze that begins.
#[derive(Clone, Debug)]
pub struct Upcoming<'s> {
    /// The freeze.
    pub freeze: &'s Freeze,
    /// When.
    pub start: Timestamp,
}

impl Schedule {
    /// The schedule of some freezes, each with the state of its feed if it has one. `around` is the present.
    pub fn new(
        freezes: impl IntoIterator<Item = (Freeze, Option<FeedState>)>,
        around: Timestamp,
    ) -> Schedule {
        let covered = Span {
            start: days_from(around, -1),
            end: days_from(around, COVERED_DAYS),
        };
        let entries = freezes.into_iter();
        let mut entries: Vec<_> = entries
            .map(|(freeze, state)| Entry::new(freeze, state, covered))
            .collect();
        entries.sort_by(|one, other| one.freeze.name.cmp(&other.freeze.name));
        Schedule {
            entries,
            covered: Some(covered),
        }
    }

    /// Whether the computed spans end too soon after `now`, so that the schedule should be made again.
    pub fn is_outdated(&self, now: Timestamp) -> bool {
        let covered = self.covered.as_ref();
        covered.is_some_and(|covered| {
            now < covered.start || days_from(now, 366 + SPARE_DAYS) > covered.end
        })
    }

    /// The freezes, with the state of each feed.
    pub fn freezes(&self) -> impl Iterator<Item = (&Freeze, Option<&FeedState>)> {
        self.entries
            .iter()
            .map(|entry| (&entry.freeze, entry.state.as_ref()))
    }

    /// The freezes of an environment at an instant. None: changes may pass.
    pub fn frozen_at<'s>(&'s self, environment: &str, at: Timestamp) -> Vec<Frozen<'s>> {
        let entries = self.of(environment);
        let frozen = entries.filter_map(|entry| entry.frozen_at(environment, at));
        frozen.collect()
    }

    /// The freezes of an environment that do not count at an instant because nobody knows whether they last and their `whenStale`
    /// is `Open`, each with why it is not known.
    pub fn ignored_at(&self, environment: &str, at: Timestamp) -> Vec<(&Freeze, String)> {
        let ignored = self.of(environment).filter_map(|entry| {
            let why = entry.why_ignored(environment, at)?;
            Some((&entry.freeze, why))
        });
        ignored.collect()
    }

    /// The end of the freezes of an environment that last at an instant, one after another: from then on, none does.
    pub fn open_from(&self, environment: &str, at: Timestamp) -> Until {
        let (mut reached, mut beyond) = (at, 0);
        for _ in 0..MAXIMUM_CHAIN {
            let is_computed = self
                .covered
                .is_some_and(|covered| covered.contains(reached));
            beyond += usize::from(!is_computed);
            if beyond > MAXIMUM_CHAIN_BEYOND {
                break;
            }
            let mut latest = None;
            for entry in self.of(environment) {
                match entry.lasts(environment, reached, at) {
                    None => {}
                    Some((_, Until::At(end))) => latest = latest.max(Some(end)),
                    Some((_, other)) => return other,
                }
            }
            match latest {
                Some(end) if end > reached => reached = end,
                _ => return Until::At(reached),
            }
        }
        Until::After(reached)
    }

    /// The freeze of an environment that begins first after an instant, within a length of time.
    pub fn next_start<'s>(
        &'s self,
        environment: &str,
        after: Timestamp,
        within: SignedDuration,
    ) -> Option<Upcoming<'s>> {
        let last = after.saturating_add(within).unwrap_or(Timestamp::MAX);
        let starts = self.of(environment).filter_map(|entry| {
            let start = entry.next_start(environment, after, last)?;
            Some(Upcoming {
                freeze: &entry.freeze,
                start,
            })
        });
        starts.min_by_key(|upcoming| upcoming.start)
    }

    /// The next instant after `after` at which an environment becomes frozen or open. `None` if none is found within 400 years.
    pub fn next_change(&self, environment: &str, after: Timestamp) -> Option<Timestamp> {
        let frozen = self.frozen_at(environment, after);
        match frozen.is_empty() {
            true => {
                let within = SignedDuration::from_hours(24 * FURTHEST_START_DAYS);
                let next = self.next_start(environment, after, within);
                next.map(|next| next.start)
            }
            false => match self.open_from(environment, after) {
                Until::At(end) => Some(end),
                Until::After(_) | Until::Unknown => None,
            },
        }
    }

    /// Every span of the freezes of an environment (of all of them for `None`) that overlaps `range`, in order of their starts.
    ///
    /// # Errors
    /// A freeze needs too much work.
    pub fn occurrences(
        &self,
        environment: Option<&str>,
        range: Span,
    ) -> Result<Vec<(&Freeze, Occurrence)>, Exhausted> {
        let is_asked = |entry: &&Entry| environment.is_none_or(|name| entry.freeze.is_of(name));
        let mut all = Vec::new();
        for entry in self.entries.iter().filter(is_asked) {
            let own = entry.occurrences(environment, range, &mut Budget::days(BUDGET))?;
            all.extend(own.into_iter().map(|own| (&entry.freeze, own)));
        }
        all.sort_by(|(one, a), (other, b)| (a.span, &one.name).cmp(&(b.span, &other.name)));
        Ok(all)
    }

    fn of<'s, 'e>(&'s self, environment: &'e str) -> impl Iterator<Item = &'s Entry> + use<'s, 'e> {
        let is_of = move |entry: &&Entry| entry.freeze.is_of(environment);
        self.entries.iter().filter(is_of)
    }
}

impl Freeze {
    /// Whether the times of the document can still be computed in a hundred years.
    ///
    /// # Errors
    /// The rules need too much work: those with `COUNT` are followed from their start.
    pub fn check_work(&self) -> Result<(), Exhausted> {
        let FreezeSource::Windows(windows) = &self.source else {
            return Ok(());
        };
        let start = Zone::utc().first(jiff::civil::date(2126, 1, 1).at(0, 0, 0, 0));
        let range = Span {
            start,
            end: days_from(start, COVERED_DAYS),
        };
        let mut budget = Budget::days(BUDGET);
        let mut windows = windows.iter();
        windows.try_for_each(|series| series.spans(range, &mut budget).map(drop))
    }

    /// The zone in which its times are written, for showing them.
    pub fn zone(&self) -> Option<&Zone> {
        match &self.source {
            FreezeSource::Windows(series) => series.first().map(|series| &series.zone),
            FreezeSource::Feed(feed) => match &feed.kind {
                FeedKind::Calendar { zone, .. } => Some(zone),
                FeedKind::Endpoint { .. } | FeedKind::Gitlab { .. } => None,
            },
            FreezeSource::Unreadable(_) => None,
        }
    }
}

fn days_from(at: Timestamp, days: i64) -> Timestamp {
    let moved = at.saturating_add(SignedDuration::from_hours(24 * days));
    moved.unwrap_or(at)
}
