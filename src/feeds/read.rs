//! One attempt to read a feed.
//!
//! What an earlier attempt learned stays if this one fails. An answer counts as a whole or not at all: a page that is missing, an
//! event that is unclear or an answer about one instant alone is a problem.
//!
//! * `calendar`, `gitlab`, `endpoint` — each kind of feed
//! * `secrets` — the URLs and tokens in files, and problems without them

mod calendar;
mod endpoint;
mod gitlab;
mod secrets;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use promotion_gate_core::gate::{Digest, Feed, FeedContent, FeedKind};

use super::pace::maximum_age;
use crate::oci::web::{Validators, Web, WebFailure};
use crate::text::line;
use calendar::calendar;
pub(super) use endpoint::Answers;
use endpoint::Endpoint;
use gitlab::periods;
use secrets::{address, authorization};

/// The most characters of a problem.
const PROBLEM: usize = 400;

/// A point in time, by the clock and by a time that nobody sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// The time of day.
    pub at: Timestamp,
    /// How long the process has been watching.
    pub uptime: Duration,
}

impl ClockReading {
    /// The time of day of this moment, by the clock of the moment `now`. Where the clock was set meanwhile, the earlier time counts.
    pub(super) fn by_the_clock_of(self, now: ClockReading) -> Timestamp {
        let passed = now.uptime.saturating_sub(self.uptime);
        let passed = SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX);
        let then = now.at.saturating_sub(passed).unwrap_or(Timestamp::MIN);
        then.min(self.at)
    }

    pub(super) fn age(self, now: ClockReading) -> Duration {
        now.at
            .duration_since(self.by_the_clock_of(now))
            .unsigned_abs()
    }
}

/// What is known of a feed.
#[derive(Clone, Default)]
pub(super) struct Known {
    /// Of a calendar and of freeze periods.
    pub(super) reading: Option<Reading>,
    /// Of an endpoint, by environment.
    pub(super) answers: BTreeMap<String, Answers>,
}

/// Content that could be read.
#[derive(Clone)]
pub(super) struct Reading {
    pub(super) content: Arc<FeedContent>,
    pub(super) read: ClockReading,
    /// When it was read in full.
    full: ClockReading,
    digest: Digest,
    validators: Option<Validators>,
}

/// Why an attempt failed.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) kind: ProblemKind,
    pub(super) why: String,
    /// How long the system asks to wait.
    pub(super) wait: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProblemKind {
    /// There is no answer.
    Unavailable,
    /// The system refuses, or this program does not ask it.
    Refused,
    /// The answer, or a file, is not in the expected form.
    Unreadable,
}

impl Problem {
    pub(super) fn new(kind: ProblemKind, why: &str) -> Problem {
        Problem {
            kind,
            why: line(why).chars().take(PROBLEM).collect(),
            wait: None,
        }
    }

    fn unreadable(why: &str) -> Problem {
        Problem::new(ProblemKind::Unreadable, why)
    }

    fn of(failure: &WebFailure, now: Timestamp) -> Problem {
        let kind = match failure.is_refusal {
            true => ProblemKind::Refused,
            false => ProblemKind::Unavailable,
        };
        Problem {
            wait: failure.retry.and_then(|retry| retry.wait(now)),
            ..Problem::new(kind, &failure.why)
        }
    }
}

/// Reads a feed. `next` is when an endpoint will be asked again.
pub(super) async fn read(
    web: &Web,
    feed: &Feed,
    environments: &[String],
    known: Known,
    now: ClockReading,
    next: Option<Timestamp>,
) -> (Known, Option<Problem>) {
    let Known {
        mut reading,
        answers,
    } = known;
    // A cache between that calls everything unchanged is not believed for ever.
    if let Some(reading) = &mut reading
        && reading.full.age(now) >= maximum_age(feed)
    {
        reading.validators = None;
    }
    let read = match &feed.kind {
        FeedKind::Calendar {
            place,
            zone,
            events,
        } => calendar(web, place, zone, events, reading.as_ref(), now).await,
        FeedKind::Gitlab {
            project,
            token_file,
        } => periods(web, project, token_file.as_deref(), reading.as_ref(), now).await,
        FeedKind::Endpoint { url, token_file } => {
            let question = async {
                let url = address(url, "the URL of the endpoint")?;
                Ok((url, authorization(token_file.as_deref()).await?))
            };
            let (answers, problem) = match question.await {
                Ok((url, token)) => {
                    let asked = Endpoint { web, url, token };
                    asked.answers(environments, answers, now, next).await
                }
                Err(problem) => (answers, Some(problem)),
            };
            let known = Known {
                reading: None,
                answers,
            };
            return (known, problem);
        }
    };
    let (reading, problem) = match read {
        Ok(reading) => (Some(reading), None),
        Err(problem) => (reading, Some(problem)),
    };
    let known = Known {
        reading,
        answers: BTreeMap::new(),
    };
    (known, problem)
}

/// Runs work that takes long, on a thread of its own. A panic is an error.
async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| PANIC.to_owned())
}

pub(super) const PANIC: &str = "the program made a mistake (a panic)";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_while_a_feed_is_read_is_a_problem() {
        let panics = in_background(|| -> u8 { panic!("a test") });
        assert_eq!(panics.await, Err(PANIC.to_owned()));
    }

    pub(super) fn moment(at: &str, uptime: u64) -> ClockReading {
        ClockReading {
            at: at.parse().unwrap(),
            uptime: Duration::from_secs(uptime),
        }
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_answer_younger() {
        let read = moment("2026-12-24T12:00:00Z", 1000);
        for (now, age) in [
            (moment("2026-12-24T12:05:00Z", 1300), 300),
            // Set back by an hour.
            (moment("2026-12-24T11:05:00Z", 1300), 300),
            // Set forward by an hour, or the machine slept.
            (moment("2026-12-24T13:05:00Z", 1300), 3900),
        ] {
            assert_eq!(read.age(now), Duration::from_secs(age), "{now:?}");
        }
    }
}
