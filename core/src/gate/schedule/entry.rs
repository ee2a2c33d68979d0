//! One freeze with the spans that were computed for it.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::freeze::{FeedContent, FeedState, FeedTimes, Freeze, FreezeSource, WhenStale};
use super::{BUDGET, COVERED_DAYS, Cause, FURTHEST_END_DAYS, Frozen, STEPS, Until, days_from};
use crate::calendar::{Budget, Exhausted, Series, Span, merge};

/// One span of a freeze.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occurrence {
    /// When. The end is `Timestamp::MAX` if it is not known.
    pub span: Span,
    /// The event of the calendar, or the reason that an endpoint gives.
    pub what: Option<Arc<str>>,
}

/// A freeze, and its spans.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) freeze: Freeze,
    pub(super) state: Option<FeedState>,
    /// The events of the calendar that are freezes.
    events: Vec<(Arc<str>, Vec<Series>)>,
    covered: Span,
    /// The union of the spans that overlap `covered`; `None` where the environments differ, or they could not be computed.
    spans: Option<Vec<Span>>,
    /// When the last of `spans` ends, if that is after `covered`.
    last_end: Option<Until>,
    /// The spans of a calendar's events that overlap `covered`, in order of their starts; empty if there are too many.
    named: Vec<Occurrence>,
    /// Why the times are not known, if that is so.
    unknown: Option<String>,
}

/// The most spans that are kept with the names of their events.
const MAXIMUM_NAMED: usize = 50_000;
/// The most characters of a summary that an answer shows.
const MAXIMUM_SUMMARY: usize = 100;
/// The most events that an answer names.
const MAXIMUM_SHOWN: usize = 5;

impl Entry {
    pub(super) fn new(freeze: Freeze, state: Option<FeedState>, covered: Span) -> Entry {
        let mut entry = Entry {
            events: events(&freeze, state.as_ref()),
            freeze,
            state,
            covered,
            spans: None,
            last_end: None,
            named: Vec::new(),
            unknown: None,
        };
        if entry.is_of_endpoint() {
            return entry;
        }
        if let FreezeSource::Unreadable(why) = &entry.freeze.source {
            entry.unknown = Some(format!("it cannot be read: {why}"));
            return entry;
        }
        match entry.occurrences(None, covered, &mut Budget::days(BUDGET)) {
            Ok(mut found) => {
                let spans = union(&found);
                let last = spans.last().filter(|last| last.end >= covered.end);
                entry.last_end = last.map(|last| {
                    let inside = last.start.max(covered.start);
                    entry.end_after("", inside, last.end)
                });
                entry.spans = Some(spans);
                found.retain(|found| found.what.is_some());
                if found.len() <= MAXIMUM_NAMED {
                    found.sort_by_key(|found| found.span);
                    entry.named = found;
                }
            }
            Err(exhausted) => entry.unknown = Some(exhausted.to_string()),
        }
        entry
    }

    /// Whether the freeze lasts at an instant.
    pub(super) fn frozen_at(&self, environment: &str, at: Timestamp) -> Option<Frozen<'_>> {
        let (unknown, until) = self.lasts(environment, at, at)?;
        let cause = match unknown {
            Some(why) => Cause::Stale { why },
            None => Cause::Window {
                what: self.what_at(environment, at),
            },
        };
        Some(Frozen {
            freeze: &self.freeze,
            cause,
            until,
        })
    }

    /// Until when the freeze lasts, if it does at an instant, as far as is known at the instant `now`; and why it is not known whether
    /// it does, if that is so.
    pub(super) fn lasts(
        &self,
        environment: &str,
        at: Timestamp,
        now: Timestamp,
    ) -> Option<(Option<String>, Until)> {
        let stale = self.staleness(environment, now);
        match stale.or_else(|| self.not_computed(at)) {
            Some((_, WhenStale::Open)) => return None,
            Some((why, WhenStale::Frozen)) => return Some((Some(why), Until::Unknown)),
            None => {}
        }
        let at = self.since_asked(environment, at);
        let span = match self.span_at(environment, at) {
            Ok(span) => span?,
            Err(exhausted) => return Some((Some(exhausted.to_string()), Until::Unknown)),
        };
        let until = match span.end {
            end if end == Timestamp::MAX && self.is_of_endpoint() => Until::Unknown,
            end => self.end_of(environment, at, end),
        };
        Some((None, until))
    }

    /// Why the freeze does not count although its feed is stale: `whenStale` is `Open`.
    pub(super) fn why_ignored(&self, environment: &str, now: Timestamp) -> Option<String> {
        let (why, when_stale) = self.staleness(environment, now)?;
        (when_stale == WhenStale::Open).then_some(why)
    }

    /// The instant, but not one before the first that an endpoint was asked about: the clock was set back since, and what was said
    /// first holds for it too.
    fn since_asked(&self, environment: &str, at: Timestamp) -> Timestamp {
        let Some(FeedContent::Answers(answers)) = self.content() else {
            return at;
        };
        let first = answers.get(environment).and_then(|answers| answers.first());
        first.map_or(at, |first| first.at.max(at))
    }

    /// The first start after an instant of a span that does not continue an earlier one, and not later than `last`.
    pub(super) fn next_start(
        &self,
        environment: &str,
        after: Timestamp,
        last: Timestamp,
    ) -> Option<Timestamp> {
        let first_in = |spans: &[Span]| {
            let index = spans.partition_point(|span| span.start <= after);
            spans.get(index).map(|span| span.start)
        };
        if let Some(spans) = self.spans_at(after) {
            let first = first_in(spans).filter(|start| *start < self.covered.end);
            if first.is_some() || last < self.covered.end {
                return first.filter(|start| *start <= last);
            }
        }
        for days in STEPS {
            let end = days_from(after, days).min(last);
            let range = Span { start: after, end };
            let found = self.occurrences(Some(environment), range, &mut Budget::days(BUDGET));
            let first = first_in(&union(&found.ok()?));
            if first.is_some() || end >= last {
                return first.filter(|start| *start <= last);
            }
        }
        None
    }

    /// The spans that overlap `range`, in any order; of an endpoint only those of `environment`.
    pub(super) fn occurrences(
        &self,
        environment: Option<&str>,
        range: Span,
        budget: &mut Budget,
    ) -> Result<Vec<Occurrence>, Exhausted> {
        let mut found = Vec::new();
        let mut add = |spans: Vec<Span>, what: Option<&Arc<str>>| {
            let each = spans.into_iter().filter(|span| span.start < span.end);
            found.extend(each.map(|span| Occurrence {
                span,
                what: what.cloned(),
            }));
        };
        if let FreezeSource::Windows(windows) = &self.freeze.source {
            for series in windows {
                add(series.spans(range, budget)?, None);
            }
        }
        for (summary, series) in &self.events {
            for series in series {
                add(series.spans(range, budget)?, Some(summary));
            }
        }
        match self.content() {
            Some(FeedContent::Periods(periods)) => {
                for period in periods {
                    add(period.spans(range, budget)?, None);
                }
            }
            Some(FeedContent::Answers(answers)) => {
                let asked = answers
                    .iter()
                    .filter(|(name, _)| environment.is_none_or(|asked| asked == *name));
                for (_, answers) in asked {
                    for (index, answer) in answers
                        .iter()
                        .enumerate()
                        .filter(|(_, answer)| answer.is_frozen)
                    {
                        // What the next answer says can be so at any time before it.
                        let before = index.checked_sub(1).and_then(|before| answers.get(before));
                        let start = before.map_or(answer.at, |before| before.at);
                        let next = answers.get(index + 1).map(|next| next.at);
                        let end = answer.until.or(next).unwrap_or(Timestamp::MAX);
                        let span = Span { start, end };
                        let what = answer.reason.as_deref().map(Arc::from);
                        add(
                            Vec::from_iter(span.overlaps(&range).then_some(span)),
                            what.as_ref(),
                        );
                    }
                }
            }
            Some(FeedContent::Times(FeedTimes { times, .. })) => {
                let own = times.iter().filter(|time| {
                    let pair = environment.zip(time.environment.as_deref());
                    pair.is_none_or(|(asked, own)| asked == own)
                });
                for time in own.filter(|time| time.span.overlaps(&range)) {
                    add(vec![time.span], time.what.as_ref());
                }
            }
            Some(FeedContent::Events(_)) | None => {}
        }
        Ok(found)
    }

    /// Why it is not known whether the freeze lasts at an instant: another process has not computed that far.
    fn not_computed(&self, at: Timestamp) -> Option<(String, WhenStale)> {
        let (FreezeSource::Feed(feed), Some(FeedContent::Times(times))) =
            (&self.freeze.source, self.content())
        else {
            return None;
        };
        let why = format!("its times are computed until {:.0} only", times.until);
        (at >= times.until).then_some((why, feed.when_stale))
    }

    /// Why the feed's last answer does not count, and what that means.
    fn staleness(&self, environment: &str, now: Timestamp) -> Option<(String, WhenStale)> {
        let FreezeSource::Feed(feed) = &self.freeze.source else {
            let unknown = self.unknown.clone();
            return unknown.map(|why| (why, WhenStale::Frozen));
        };
        let why = self.why_stale(environment, now, feed.maximum_age)?;
        Some((why, feed.when_stale))
    }

    fn why_stale(&self, environment: &str, now: Timestamp, most: SignedDuration) -> Option<String> {
        let state = self.state.as_ref();
        let problem = state.and_then(|state| state.problem.as_deref());
        let because = problem.map_or_else(String::new, |problem| format!(": {problem}"));
        let Some(reading) = state.and_then(|state| state.reading.as_ref()) else {
            return Some(format!("its feed was never read{because}"));
        };
        if let Some(why) = &self.unknown {
            return Some(why.clone());
        }
        let has_answer = match &*reading.content {
            FeedContent::Answers(answers) => answers.contains_key(environment),
            FeedContent::Times(times) => {
                let environments = times.environments.as_ref();
                environments.is_none_or(|asked| asked.contains(environment))
            }
            FeedContent::Events(_) | FeedContent::Periods(_) => true,
        };
        if !has_answer {
            return Some(format!(
                "its feed did not answer for `{environment}`{because}"
            ));
        }
        let read_at = reading.read_at?;
        (now.duration_since(read_at) > most)
            .then(|| format!("its feed was last read at {read_at:.0}{because}"))
    }

    /// The span, joined from those that overlap or touch, that holds an instant.
    fn span_at(&self, environment: &str, at: Timestamp) -> Result<Option<Span>, Exhausted> {
        let holding = |spans: &[Span]| {
            let index = spans.partition_point(|span| span.start <= at);
            let last = index.checked_sub(1).and_then(|index| spans.get(index));
            last.copied().filter(|span| span.contains(at))
        };
        if let Some(spans) = self.spans_at(at) {
            return Ok(holding(spans));
        }
        let end = at
            .saturating_add(SignedDuration::from_nanos(1))
            .unwrap_or(at);
        let range = Span { start: at, end };
        let found = self.occurrences(Some(environment), range, &mut Budget::days(BUDGET))?;
        Ok(holding(&union(&found)))
    }

    /// The end of the span that holds `at`, of which `end` is known.
    fn end_of(&self, environment: &str, at: Timestamp, end: Timestamp) -> Until {
        // A span that ends among the computed ones is complete.
        match self.spans_at(at) {
            Some(_) if end < self.covered.end => Until::At(end),
            Some(_) => self.last_end.unwrap_or(Until::After(end)),
            None => self.end_after(environment, at, end),
        }
    }

    /// The same, computed.
    fn end_after(&self, environment: &str, at: Timestamp, end: Timestamp) -> Until {
        for days in [COVERED_DAYS, 3 * COVERED_DAYS, FURTHEST_END_DAYS] {
            let range = Span {
                start: at,
                end: days_from(at, days),
            };
            let Ok(found) = self.occurrences(Some(environment), range, &mut Budget::days(BUDGET))
            else {
                return Until::After(end);
            };
            let holding = union(&found).into_iter().find(|span| span.contains(at));
            if let Some(complete) = holding.filter(|span| span.end < range.end) {
                return Until::At(complete.end);
            }
        }
        Until::After(days_from(at, FURTHEST_END_DAYS))
    }

    /// The events, or the reasons of the endpoint, that hold at an instant.
    fn what_at(&self, environment: &str, at: Timestamp) -> Option<String> {
        let at = self.since_asked(environment, at);
        let mut names: Vec<_> = match (self.content()?, self.spans_at(at)) {
            (FeedContent::Periods(_), _) => return None,
            (FeedContent::Events(_) | FeedContent::Times(_), Some(_)) => {
                let begun = self.named.partition_point(|found| found.span.start <= at);
                let begun = self.named.iter().take(begun);
                let lasting = begun.filter(|found| found.span.contains(at));
                lasting.filter_map(|found| found.what.clone()).collect()
            }
            (FeedContent::Answers(_), _)
            | (FeedContent::Events(_) | FeedContent::Times(_), None) => {
                let end = at
                    .saturating_add(SignedDuration::from_nanos(1))
                    .unwrap_or(at);
                let range = Span { start: at, end };
                let found = self.occurrences(Some(environment), range, &mut Budget::days(BUDGET));
                found
                    .ok()?
                    .into_iter()
                    .filter_map(|found| found.what)
                    .collect()
            }
        };
        names.sort_unstable();
        names.dedup();
        names.retain(|name| !name.trim().is_empty());
        let more = names.len().saturating_sub(MAXIMUM_SHOWN);
        names.truncate(MAXIMUM_SHOWN);
        let shown = (!names.is_empty()).then(|| names.join(", "))?;
        Some(match more {
            0 => shown,
            more => format!("{shown} and {more} more"),
        })
    }

    /// The computed spans, if they hold the answer about an instant.
    fn spans_at(&self, at: Timestamp) -> Option<&[Span]> {
        self.spans.as_deref().filter(|_| self.covered.contains(at))
    }

    fn content(&self) -> Option<&FeedContent> {
        let reading = self.state.as_ref()?.reading.as_ref()?;
        Some(&reading.content)
    }

    fn is_of_endpoint(&self) -> bool {
        match self.content() {
            Some(FeedContent::Answers(_)) => true,
            Some(FeedContent::Times(times)) => times.environments.is_some(),
            _ => false,
        }
    }
}

/// The events of a freeze's calendar that are freezes.
fn events(freeze: &Freeze, state: Option<&FeedState>) -> Vec<(Arc<str>, Vec<Series>)> {
    let FreezeSource::Feed(feed) = &freeze.source else {
        return Vec::new();
    };
    let super::FeedKind::Calendar { events: filter, .. } = &feed.kind else {
        return Vec::new();
    };
    let reading = state.and_then(|state| state.reading.as_ref());
    let Some(FeedContent::Events(events)) = reading.map(|reading| &*reading.content) else {
        return Vec::new();
    };
    let freezes = events.iter().filter(|event| filter.matches(event));
    freezes
        .map(|event| (shown(&event.summary), event.series.clone()))
        .collect()
}

/// A summary as answers show it: one line of bounded length.
fn shown(summary: &str) -> Arc<str> {
    let characters = summary.chars().take(MAXIMUM_SUMMARY);
    let shown: String = characters
        .map(|character| match character.is_control() {
            true => ' ',
            false => character,
        })
        .collect();
    shown.trim().into()
}

fn union(found: &[Occurrence]) -> Vec<Span> {
    merge(found.iter().map(|found| found.span).collect())
}
