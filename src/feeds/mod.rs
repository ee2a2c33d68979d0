//! Feeds of change freezes: calendars, endpoints and freeze periods, read in the background and never while a review waits.
//!
//! Each feed keeps its last answer with the age of that answer; the schedule decides from which age on it does not count. What
//! cannot be read is a [`FeedState`] with its problem, and no error.
//!
//! * `read` — one attempt
//! * `pace` — when the next one is
//! * `status` — what a feed says, in the status of its freeze and back

mod pace;
mod read;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::rand;
use futures::{FutureExt as _, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use promotion_gate_core::gate::{
    Feed, FeedContent, FeedKind, FeedPlace, FeedReading, FeedState, Freeze, FreezeSource, WhenStale,
};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::metrics::Metrics;
use crate::oci::ClientOptions;
use crate::oci::web::Web;
use read::{Answers, Known, PANIC, Problem, ProblemKind};

pub(crate) use pace::{after_failures, jittered};
pub use read::ClockReading;
pub(crate) use status::{feed_state, written_feed};

/// Feeds that are asked at the same time.
const SIDE_BY_SIDE: usize = 16;
/// The longest attempt.
const ATTEMPT: Duration = Duration::from_secs(60);
/// How much later than its next attempt an endpoint is asked about, since that attempt takes time too.
const ALLOWANCE: Duration = Duration::from_secs(15);
/// An age counts as changed when it moved by this part of the maximum.
const STEPS: u32 = 200;
/// How often the ages in the metrics are computed, at least.
const TICK: Duration = Duration::from_secs(10);

/// A feed: the name of its freeze, and the environments that an endpoint is asked for.
pub type NamedFeed = (String, Feed, Vec<String>);

/// The feeds of some freezes. An endpoint is asked for each environment that its freeze names.
pub fn feeds_of(freezes: &[Freeze]) -> Vec<NamedFeed> {
    let named = |freeze: &Freeze| match &freeze.source {
        FreezeSource::Windows(_) | FreezeSource::Unreadable(_) => None,
        FreezeSource::Feed(feed) => {
            let environments = freeze.environments.iter().map(ToString::to_string);
            Some((freeze.name.clone(), feed.clone(), environments.collect()))
        }
    };
    freezes.iter().filter_map(named).collect()
}

/// The freezes with the files that their feeds name below a folder, where those are relative.
pub fn below(folder: &Path, freezes: &[Freeze]) -> Vec<Freeze> {
    let below = |file: &mut String| *file = folder.join(&*file).display().to_string();
    let moved = freezes.iter().cloned().map(|mut freeze| {
        if let FreezeSource::Feed(feed) = &mut freeze.source {
            match &mut feed.kind {
                FeedKind::Calendar { place, .. } => match place {
                    FeedPlace::UrlFile(file) | FeedPlace::File(file) => below(file),
                    FeedPlace::Url(_) => {}
                },
                FeedKind::Endpoint { token_file, .. } | FeedKind::Gitlab { token_file, .. } => {
                    token_file.iter_mut().for_each(below);
                }
            }
        }
        freeze
    });
    moved.collect()
}

/// Reads every feed once, side by side, within a time. `at` is the instant that an endpoint is asked about, or now. These answers do
/// not age.
pub async fn read_once(
    feeds: &[NamedFeed],
    options: &ClientOptions,
    at: Option<Timestamp>,
    within: Duration,
) -> BTreeMap<String, FeedState> {
    let web = web(options);
    let until = Instant::now() + within;
    let now = ClockReading {
        at: at.unwrap_or_else(Timestamp::now),
        uptime: Duration::ZERO,
    };
    let ask = async |(name, feed, environments): &NamedFeed| {
        let known = Known::default();
        let read = read(&web, feed, environments, known, now, None);
        let (known, problem) = timeout_at(until, read).await.unwrap_or_else(|_| {
            let seconds = within.as_secs_f32();
            let why = format!("it was not read within {seconds} seconds");
            let late = Problem::new(ProblemKind::Unavailable, &why);
            (Known::default(), Some(late))
        });
        let content = match known.reading {
            Some(reading) => Some(reading.content),
            None => answers(&known, |_| true),
        };
        let state = FeedState {
            reading: content.map(|content| FeedReading {
                content,
                read_at: None,
            }),
            problem: problem.map(|problem| problem.why),
        };
        (name.clone(), state)
    };
    let states = futures::stream::iter(feeds).map(ask);
    states.buffer_unordered(SIDE_BY_SIDE).collect().await
}

/// The feeds of the webhook, with their last answers.
pub struct Feeds {
    web: ArcSwap<Result<Web, String>>,
    kept: Mutex<AllKept>,
    changed: Notify,
    /// The revision.
    shown: watch::Sender<u64>,
}

#[derive(Default)]
struct AllKept {
    feeds: BTreeMap<String, Kept>,
    revision: u64,
    /// Counts the feeds that were ever entered or changed, so that an attempt to read an earlier one is recognised.
    entries: u64,
}

/// A feed, and what is known of it.
struct Kept {
    entry: u64,
    feed: Feed,
    environments: Vec<String>,
    known: Known,
    problem: Option<String>,
    /// Attempts that failed, since the last that did not.
    failures: u32,
    /// Since when the feed is asked.
    since: Option<ClockReading>,
    /// The uptime at which it is asked again.
    due: Duration,
    is_asked: bool,
    /// The state as others see it.
    state: FeedState,
    logged: Option<Logged>,
}

/// What the log says of a feed. It is said again when it changes.
#[derive(Clone, PartialEq)]
struct Logged {
    problem: Option<String>,
    is_stale: bool,
}

/// One attempt that has to be made.
struct Attempt {
    name: String,
    entry: u64,
    feed: Feed,
    environments: Vec<String>,
    known: Known,
    now: ClockReading,
    /// The wait until the next one, if this one succeeds.
    wait: Duration,
}

impl Feeds {
    /// No feeds yet.
    pub fn new(options: &ClientOptions) -> Feeds {
        Feeds {
            web: ArcSwap::from_pointee(web(options)),
            kept: Mutex::default(),
            changed: Notify::new(),
            shown: watch::Sender::new(0),
        }
    }

    /// Replaces the options, after the configuration changed. Feeds with a problem are asked at once.
    pub fn replace_options(&self, options: &ClientOptions) {
        self.web.store(Arc::new(web(options)));
        let mut kept = self.kept();
        let failed = kept.feeds.values_mut();
        for feed in failed.filter(|feed| feed.problem.is_some()) {
            feed.due = Duration::ZERO;
        }
        drop(kept);
        self.changed.notify_one();
    }

    /// Replaces the set of feeds. A feed that reads the same as before keeps what is known of it.
    pub fn replace(&self, feeds: impl IntoIterator<Item = NamedFeed>) {
        let mut kept = self.kept();
        let mut before = std::mem::take(&mut kept.feeds);
        let names = before.len();
        let mut is_changed = false;
        for (name, feed, environments) in feeds {
            let earlier = before.remove(&name);
            let mut entered = match earlier {
                Some(same) if same.feed == feed && same.environments == environments => {
                    kept.feeds.insert(name, same);
                    continue;
                }
                Some(same) if same.feed.kind == feed.kind => Kept {
                    due: Duration::ZERO,
                    is_asked: false,
                    ..same
                },
                _ => Kept::new(feed.clone()),
            };
            is_changed = true;
            kept.entries += 1;
            entered.entry = kept.entries;
            entered.feed = feed;
            entered.environments = environments;
            kept.feeds.insert(name, entered);
        }
        if is_changed || kept.feeds.len() != names {
            kept.revision += 1;
            self.changed.notify_one();
        }
    }

    /// The state of each feed, by the name of its freeze.
    pub fn states(&self) -> BTreeMap<String, FeedState> {
        let kept = self.kept();
        let feeds = kept.feeds.iter();
        feeds
            .map(|(name, feed)| (name.clone(), feed.state.clone()))
            .collect()
    }

    /// Grows when a state or the set of feeds changes. An answer that says the same again counts as a change once it is so much
    /// younger that its age matters.
    pub fn revision(&self) -> u64 {
        self.kept().revision
    }

    /// Says when a state or the set of feeds changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shown.subscribe()
    }

    /// Asks the feeds when they are due, for ever.
    pub async fn keep_current(self: Arc<Self>, metrics: Arc<Metrics>) -> Infallible {
        let start = Instant::now();
        let clock = move || ClockReading {
            at: Timestamp::now(),
            uptime: start.elapsed(),
        };
        let mut under_way = JoinSet::new();
        let mut shown = ShownAges {
            metrics: &metrics,
            feeds: BTreeSet::new(),
        };
        loop {
            let now = clock();
            let free = SIDE_BY_SIDE.saturating_sub(under_way.len());
            for attempt in self.due(now, free) {
                let (feeds, metrics) = (Arc::clone(&self), Arc::clone(&metrics));
                under_way.spawn(async move { feeds.make(attempt, clock, &metrics).await });
            }
            shown.feeds = self.show_ages(&metrics, now, &shown.feeds);
            self.shown.send_replace(self.revision());
            let next = match under_way.len() < SIDE_BY_SIDE {
                true => self.next_due().saturating_sub(now.uptime).min(TICK),
                false => TICK,
            };
            tokio::select! {
                Some(_) = under_way.join_next() => {}
                () = self.changed.notified() => {}
                () = sleep(next) => {}
            }
        }
    }

    /// Asks the feeds that are due at a moment, and waits for their answers. Where that is given up, the rest stays due.
    pub async fn ask_due(&self, now: ClockReading, metrics: &Metrics) {
        let next = || self.due(now, 1).pop();
        let attempts = futures::stream::iter(std::iter::from_fn(next));
        let made = attempts.map(|attempt| self.make(attempt, move || now, metrics));
        made.buffer_unordered(SIDE_BY_SIDE).collect::<()>().await;
    }

    /// The attempts to make at a moment: at most so many, those that are due for the longest time first.
    fn due(&self, now: ClockReading, most: usize) -> Vec<Attempt> {
        let mut kept = self.kept();
        let feeds = kept.feeds.iter_mut();
        let mut due: Vec<_> = feeds
            .filter(|(_, feed)| !feed.is_asked && feed.due <= now.uptime)
            .collect();
        due.sort_by_key(|(_, feed)| feed.due);
        due.truncate(most);
        let attempts = due.into_iter().map(|(name, feed)| {
            feed.is_asked = true;
            feed.since.get_or_insert(now);
            Attempt {
                name: name.clone(),
                entry: feed.entry,
                feed: feed.feed.clone(),
                environments: feed.environments.clone(),
                known: feed.known.clone(),
                now,
                wait: pace::jittered(pace::interval(&feed.feed), random()),
            }
        });
        attempts.collect()
    }

    /// Makes an attempt, and keeps what it learned.
    async fn make(&self, attempt: Attempt, clock: impl Fn() -> ClockReading, metrics: &Metrics) {
        let web = self.web.load_full();
        let Attempt {
            name,
            entry,
            feed,
            environments,
            known,
            now,
            wait,
        } = attempt;
        let _asked = Asked {
            feeds: self,
            name: &name,
            entry,
        };
        let next = after(now.at, wait + ALLOWANCE);
        let read = read(&web, &feed, &environments, known, now, Some(next));
        let (known, problem) = read.await;
        metrics.count_feed_attempt(
            problem
                .as_ref()
                .map_or("read", |problem| match problem.kind {
                    ProblemKind::Unavailable => "unavailable",
                    ProblemKind::Refused => "refused",
                    ProblemKind::Unreadable => "unreadable",
                }),
        );
        let mut kept = self.kept();
        let AllKept {
            feeds, revision, ..
        } = &mut *kept;
        let Some(feed) = feeds.get_mut(&name).filter(|feed| feed.entry == entry) else {
            return;
        };
        feed.known = known;
        match problem {
            None => {
                feed.failures = 0;
                feed.problem = None;
                feed.due = now.uptime + wait;
            }
            Some(problem) => {
                feed.failures = feed.failures.saturating_add(1);
                let wait = pace::after_failures(feed.failures, pace::interval(&feed.feed));
                let wait = pace::jittered(wait, random()).max(pace::granted(problem.wait));
                feed.problem = Some(problem.why);
                feed.due = clock().uptime + wait;
            }
        }
        if feed.publish(clock()) {
            *revision += 1;
        }
        feed.log(&name, clock());
    }

    /// The earliest uptime at which a feed is due.
    fn next_due(&self) -> Duration {
        let kept = self.kept();
        let waiting = kept.feeds.values().filter(|feed| !feed.is_asked);
        waiting.map(|feed| feed.due).min().unwrap_or(Duration::MAX)
    }

    /// Shows the age of each feed in the metrics, and takes out those in `shown` that are gone.
    fn show_ages(
        &self,
        metrics: &Metrics,
        now: ClockReading,
        shown: &BTreeSet<String>,
    ) -> BTreeSet<String> {
        let kept = self.kept();
        for gone in shown.iter().filter(|name| !kept.feeds.contains_key(*name)) {
            metrics.remove_feed(gone);
        }
        for (name, feed) in &kept.feeds {
            metrics.show_feed_age(name, feed.age(now));
        }
        kept.feeds.keys().cloned().collect()
    }

    fn kept(&self) -> MutexGuard<'_, AllKept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The feeds whose age the metrics show. Where they are not asked any more because the Lease is lost, none is shown: another replica
/// shows them then.
struct ShownAges<'m> {
    metrics: &'m Metrics,
    feeds: BTreeSet<String>,
}

impl Drop for ShownAges<'_> {
    fn drop(&mut self) {
        for feed in &self.feeds {
            self.metrics.remove_feed(feed);
        }
    }
}

/// An attempt that is under way. However it ends, the feed can be asked again.
struct Asked<'a> {
    feeds: &'a Feeds,
    name: &'a str,
    entry: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let mut kept = self.feeds.kept();
        let feed = kept.feeds.get_mut(self.name);
        if let Some(feed) = feed.filter(|feed| feed.entry == self.entry) {
            feed.is_asked = false;
        }
    }
}

impl Kept {
    fn new(feed: Feed) -> Kept {
        Kept {
            entry: 0,
            feed,
            environments: Vec::new(),
            known: Known::default(),
            problem: None,
            failures: 0,
            since: None,
            due: Duration::ZERO,
            is_asked: false,
            state: FeedState {
                reading: None,
                problem: None,
            },
            logged: None,
        }
    }

    /// Shows others the present state, if it differs from what they see. Says whether it does.
    fn publish(&mut self, now: ClockReading) -> bool {
        let reading = self.reading(now);
        let is_same = self.state.problem == self.problem
            && match (&reading, &self.state.reading) {
                (None, None) => true,
                (Some(new), Some(old)) => {
                    says_the_same(&new.content, &old.content)
                        && new.read_at.zip(old.read_at).is_some_and(|(new, old)| {
                            let moved = new.duration_since(old).unsigned_abs();
                            moved < pace::maximum_age(&self.feed) / STEPS
                        })
                }
                _ => false,
            };
        if !is_same {
            self.state = FeedState {
                reading,
                problem: self.problem.clone(),
            };
        }
        !is_same
    }

    fn reading(&self, now: ClockReading) -> Option<FeedReading> {
        if let Some(reading) = &self.known.reading {
            return Some(FeedReading {
                content: Arc::clone(&reading.content),
                read_at: Some(reading.read.by_the_clock_of(now)),
            });
        }
        // An environment without a recent answer is left out, so that it does not make the others stale. Before the next attempt
        // nothing is left out, so this happens a little early; never where a stale answer lets changes pass.
        let most = pace::maximum_age(&self.feed);
        let early = match self.feed.when_stale {
            WhenStale::Frozen => 2 * pace::interval(&self.feed),
            WhenStale::Open => Duration::ZERO,
        };
        let is_recent = |answers: &Answers| answers.read.age(now) + early <= most;
        let has_recent = self.known.answers.values().any(is_recent);
        let counts = |answers: &Answers| !has_recent || is_recent(answers);
        let counting = self
            .known
            .answers
            .values()
            .filter(|answers| counts(answers));
        let read_at = counting
            .map(|answers| answers.read.by_the_clock_of(now))
            .min();
        answers(&self.known, counts).map(|content| FeedReading { content, read_at })
    }

    /// How long ago the feed was read, or since when it was not.
    fn age(&self, now: ClockReading) -> Duration {
        let of_answers = self.known.answers.values().map(|answers| answers.read);
        let read = self.known.reading.iter().map(|reading| reading.read);
        let ages = of_answers.chain(read).map(|read| read.age(now));
        let since = || self.since.map(|since| since.age(now));
        ages.max().or_else(since).unwrap_or_default()
    }

    /// Logs what changed.
    fn log(&mut self, freeze: &str, now: ClockReading) {
        let is_stale =
            self.state.reading.is_none() || self.age(now) > pace::maximum_age(&self.feed);
        let logged = Logged {
            problem: self.problem.clone(),
            is_stale,
        };
        if self.logged.as_ref() == Some(&logged) {
            return;
        }
        match (&logged.problem, is_stale, self.feed.when_stale) {
            (None, true, _) => {}
            (None, false, _) => tracing::info!(freeze, "the feed of a freeze is read"),
            (Some(problem), false, _) => {
                tracing::warn!(
                    freeze,
                    problem,
                    "the feed of a freeze cannot be read; its last answer counts"
                );
            }
            (Some(problem), true, WhenStale::Frozen) => {
                tracing::error!(
                    freeze,
                    problem,
                    "the feed of a freeze is stale; the freeze counts as lasting"
                );
            }
            (Some(problem), true, WhenStale::Open) => {
                tracing::error!(
                    freeze,
                    problem,
                    "the feed of a freeze is stale; the freeze does not count"
                );
            }
        }
        self.logged = Some(logged);
    }
}

/// Makes one attempt, however it ends.
async fn read(
    web: &Result<Web, String>,
    feed: &Feed,
    environments: &[String],
    known: Known,
    now: ClockReading,
    next: Option<Timestamp>,
) -> (Known, Option<Problem>) {
    let failed = |why: &str| Some(Problem::new(ProblemKind::Unavailable, why));
    let web = match web {
        Ok(web) => web,
        Err(why) => return (known, failed(why)),
    };
    let read = read::read(web, feed, environments, known.clone(), now, next);
    // A panic must neither end the loop nor leave the feed unasked.
    match timeout(ATTEMPT, AssertUnwindSafe(read).catch_unwind()).await {
        Ok(Ok(done)) => done,
        Ok(Err(_)) => (known, failed(PANIC)),
        Err(_) => {
            let seconds = ATTEMPT.as_secs();
            (
                known,
                failed(&format!("it was not read within {seconds} seconds")),
            )
        }
    }
}

/// The answers of an endpoint, of the environments that count; `None` if none does.
fn answers(known: &Known, counts: impl Fn(&Answers) -> bool) -> Option<Arc<FeedContent>> {
    let counting = known.answers.iter().filter(|(_, answers)| counts(answers));
    let answers: BTreeMap<_, _> = counting
        .map(|(environment, answers)| (environment.clone(), answers.in_order()))
        .collect();
    (!answers.is_empty()).then(|| Arc::new(FeedContent::Answers(answers)))
}

fn says_the_same(one: &Arc<FeedContent>, other: &Arc<FeedContent>) -> bool {
    match (&**one, &**other) {
        (FeedContent::Answers(one), FeedContent::Answers(other)) => one == other,
        _ => Arc::ptr_eq(one, other),
    }
}

pub(crate) fn web(options: &ClientOptions) -> Result<Web, String> {
    Web::new(options).map_err(|error| error.to_string())
}

fn after(at: Timestamp, wait: Duration) -> Timestamp {
    let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
    let later = at.saturating_add(wait).unwrap_or(Timestamp::MAX);
    Timestamp::from_second(later.as_second()).unwrap_or(later)
}

/// Without randomness the wait is the shortest.
pub(crate) fn random() -> u16 {
    let mut bytes = [0; 2];
    let _ = rand::fill(&mut bytes);
    u16::from_le_bytes(bytes)
}
