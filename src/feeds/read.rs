//! One attempt to read a feed.
//!
//! What an earlier attempt learned stays if this one fails. An answer counts as a whole or not at all: a page that is missing, an
//! event that is unclear or an answer about one instant alone is a problem.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use http::HeaderValue;
use jiff::{SignedDuration, Timestamp};
use promotion_gate_core::calendar::{CalendarEvent, CronPeriod, Zone, read_calendar};
use promotion_gate_core::gate::{
    Digest, EndpointAnswer, EventFilter, Feed, FeedContent, FeedKind, FeedPlace,
};
use promotion_gate_core::strict_json::{Fields, unambiguous};
use serde::Deserialize;
use url::Url;

use super::pace::maximum_age;
use crate::files::read_regular_file;
use crate::oci::web::{Content, Question, Validators, Web, WebFailure};
use crate::text::line;

/// The most bytes of a calendar.
const CALENDAR_BYTES: u64 = 8 << 20;
/// The most bytes of an endpoint's answer.
const ANSWER_BYTES: u64 = 64 << 10;
/// The most bytes of a page of freeze periods.
const PAGE_BYTES: u64 = 1 << 20;
/// The most pages of freeze periods, of a hundred each.
const PAGES: usize = 20;
/// The most bytes of a file with a URL or a token.
const SECRET_BYTES: u64 = 16 << 10;
/// How many environments an endpoint is asked about at one time.
const SIDE_BY_SIDE: usize = 4;
/// Shorter parts of a URL are no secrets.
const SECRET: usize = 4;
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

/// What an endpoint says about one environment.
#[derive(Clone, PartialEq)]
pub(super) struct Answers {
    pub(super) read: ClockReading,
    /// The answer before, so that an instant between two answers is covered.
    before: Option<EndpointAnswer>,
    now: EndpointAnswer,
    /// About the time of the next attempt.
    next: Option<EndpointAnswer>,
}

impl Answers {
    pub(super) fn in_order(&self) -> Vec<EndpointAnswer> {
        let all = [
            self.before.clone(),
            Some(self.now.clone()),
            self.next.clone(),
        ];
        all.into_iter().flatten().collect()
    }
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

async fn calendar(
    web: &Web,
    place: &FeedPlace,
    zone: &Zone,
    filter: &EventFilter,
    known: Option<&Reading>,
    now: ClockReading,
) -> Result<Reading, Problem> {
    let (bytes, validators, place, url) = match place {
        FeedPlace::File(path) => {
            let bytes = file(path, CALENDAR_BYTES).await?;
            (Bytes::from(bytes), None, format!("the file `{path}`"), None)
        }
        FeedPlace::Url(_) | FeedPlace::UrlFile(_) => {
            let url = match place {
                FeedPlace::UrlFile(path) => {
                    let text = secret(path, "a URL").await?;
                    let no_url =
                        || format!("the file `{path}` does not hold a URL with `https://`");
                    Url::parse(&text).map_err(|_| Problem::unreadable(&no_url()))?
                }
                FeedPlace::Url(text) | FeedPlace::File(text) => {
                    address(text, "the URL of the calendar")?
                }
            };
            let question = Question {
                url: &url,
                accept: "text/calendar, text/plain;q=0.5, */*;q=0.1",
                authorization: None,
                validators: known.and_then(|known| known.validators.as_ref()),
                limit: CALENDAR_BYTES,
            };
            let answer = web.get(&question).await;
            let Some(content) = answer.map_err(|failure| Problem::of(&failure, now.at))? else {
                let unchanged = known.map(|known| Reading {
                    read: now,
                    ..known.clone()
                });
                return unchanged.ok_or_else(|| Problem::unreadable("the answer is empty"));
            };
            (content.body, content.validators, host(&url), Some(url))
        }
    };
    let digest = Digest::sha256(&bytes);
    if let Some(known) = known.filter(|known| known.digest == digest) {
        return Ok(Reading {
            read: now,
            full: now,
            validators,
            ..known.clone()
        });
    }
    let (zone, filter) = (zone.clone(), filter.clone());
    let events = in_background(move || events(&bytes, &zone, &filter)).await;
    let events = events.flatten().map_err(|why| {
        let secrets = url.iter().flat_map(|url| query_of(url).chain(path_of(url)));
        let why = without_secrets(&why, secrets);
        Problem::unreadable(&format!("{place}: the calendar cannot be read: {why}"))
    })?;
    Ok(Reading {
        content: Arc::new(FeedContent::Events(events)),
        read: now,
        full: now,
        digest,
        validators,
    })
}

/// The events of a calendar that are freezes.
fn events(bytes: &[u8], zone: &Zone, filter: &EventFilter) -> Result<Vec<CalendarEvent>, String> {
    let calendar = read_calendar(bytes, zone);
    let events = calendar.and_then(|calendar| calendar.events(|event| filter.matches(event)));
    events.map_err(|problem| problem.to_string())
}

#[derive(Deserialize)]
struct Period {
    freeze_start: String,
    freeze_end: String,
    cron_timezone: String,
}

impl Period {
    fn parse(self) -> Result<CronPeriod, String> {
        let named = |name: &'static str| move |why: String| format!("`{name}`: {why}");
        Ok(CronPeriod {
            starts: self.freeze_start.parse().map_err(named("freeze_start"))?,
            ends: self.freeze_end.parse().map_err(named("freeze_end"))?,
            zone: Zone::named(&self.cron_timezone).map_err(named("cron_timezone"))?,
        })
    }
}

/// The freeze periods of a GitLab project.
async fn periods(
    web: &Web,
    project: &str,
    token_file: Option<&str>,
    known: Option<&Reading>,
    now: ClockReading,
) -> Result<Reading, Problem> {
    let token = authorization(token_file).await?;
    let mut url = address(project, "the URL of the project")?;
    let path = url.path().trim_matches('/').to_owned();
    if path.is_empty() {
        let why =
            "the URL of the project has no path; write it as `https://gitlab.com/example/app`";
        return Err(Problem::unreadable(why));
    }
    if let Ok(mut parts) = url.path_segments_mut() {
        let api = ["api", "v4", "projects", &path, "freeze_periods"];
        parts.clear().extend(api);
    }
    url.set_query(Some("per_page=100"));
    url.set_fragment(None);
    let unreadable = |why: String| {
        let (host, why) = (host(&url), without_secrets(&why, token_of(token.as_ref())));
        Problem::unreadable(&format!("{host}: the freeze periods cannot be read: {why}"))
    };
    let mut page = Some(url.clone());
    let (mut periods, mut bytes) = (Vec::new(), Vec::new());
    for _ in 0..PAGES {
        let Some(at) = page else { break };
        let question = Question {
            url: &at,
            accept: "application/json",
            authorization: token.as_ref(),
            validators: None,
            limit: PAGE_BYTES,
        };
        let answer = web.get(&question).await;
        let answer = answer.map_err(|failure| Problem::of(&failure, now.at))?;
        let Some(Content { body, next, .. }) = answer else {
            return Err(unreadable("the answer is empty".to_owned()));
        };
        let text = unambiguous(&body, Fields::default());
        let text = text.map_err(|error| unreadable(format!("the answer {error}")))?;
        let listed: Vec<Period> = serde_json::from_str(text)
            .map_err(|error| unreadable(format!("the answer is not a list of them: {error}")))?;
        for period in listed {
            periods.push(period.parse().map_err(&unreadable)?);
        }
        bytes.extend_from_slice(&body);
        page = next;
    }
    if page.is_some() {
        return Err(unreadable(format!("there are more than {PAGES} pages")));
    }
    let digest = Digest::sha256(&bytes);
    let content = match known.filter(|known| known.digest == digest) {
        Some(known) => Arc::clone(&known.content),
        None => Arc::new(FeedContent::Periods(periods)),
    };
    Ok(Reading {
        content,
        read: now,
        full: now,
        digest,
        validators: None,
    })
}

struct Endpoint<'a> {
    web: &'a Web,
    url: Url,
    token: Option<HeaderValue>,
}

impl Endpoint<'_> {
    /// What is known after this attempt of each environment, and the first problem.
    async fn answers(
        &self,
        environments: &[String],
        mut known: BTreeMap<String, Answers>,
        now: ClockReading,
        next: Option<Timestamp>,
    ) -> (BTreeMap<String, Answers>, Option<Problem>) {
        known.retain(|environment, _| environments.contains(environment));
        // Systems write whole seconds.
        let at = Timestamp::from_second(now.at.as_second()).unwrap_or(now.at);
        let instants: Vec<_> = [Some(at), next].into_iter().flatten().collect();
        let ask = async |environment: &String| {
            let asked = futures::stream::iter(&instants)
                .then(|at| self.ask(environment, *at, now.at))
                .try_collect::<Vec<_>>();
            (environment.clone(), asked.await)
        };
        let mut asked = futures::stream::iter(environments)
            .map(ask)
            .buffered(SIDE_BY_SIDE);
        let mut problem = None;
        while let Some((environment, answers)) = asked.next().await {
            match answers.map(<[EndpointAnswer; 2]>::try_from) {
                Ok(Ok([answer, following])) => {
                    let before = known.remove(&environment);
                    let answers = Answers::after(before, answer, Some(following), now);
                    known.insert(environment, answers);
                }
                Ok(Err(answers)) => {
                    if let Some(answer) = answers.into_iter().next() {
                        known.insert(environment, Answers::after(None, answer, None, now));
                    }
                }
                Err(other) => {
                    let why = format!("about `{environment}`: {}", other.why);
                    problem.get_or_insert(Problem {
                        wait: other.wait,
                        ..Problem::new(other.kind, &why)
                    });
                }
            }
        }
        (known, problem)
    }

    async fn ask(
        &self,
        environment: &str,
        at: Timestamp,
        now: Timestamp,
    ) -> Result<EndpointAnswer, Problem> {
        let mut url = self.url.clone();
        url.query_pairs_mut()
            .append_pair("environment", environment)
            .append_pair("at", &format!("{at:.0}"));
        let question = Question {
            url: &url,
            accept: "application/json",
            authorization: self.token.as_ref(),
            validators: None,
            limit: ANSWER_BYTES,
        };
        let answer = self.web.get(&question).await;
        let answer = answer.map_err(|failure| Problem::of(&failure, now))?;
        let token = || token_of(self.token.as_ref());
        let unreadable = |why: &str| {
            let secrets = query_of(&self.url).chain(token());
            let (host, why) = (host(&url), without_secrets(why, secrets));
            Problem::unreadable(&format!("{host}: the answer {why}"))
        };
        let Some(Content { body, .. }) = answer else {
            return Err(unreadable("is empty"));
        };
        let answer = EndpointAnswer::read(&body, at).map_err(|why| unreadable(&why))?;
        Ok(EndpointAnswer {
            reason: answer
                .reason
                .map(|reason| line(&without_secrets(&reason, token()))),
            ..answer
        })
    }
}

impl Answers {
    fn after(
        earlier: Option<Answers>,
        now: EndpointAnswer,
        next: Option<EndpointAnswer>,
        read: ClockReading,
    ) -> Answers {
        let before = earlier.map(|earlier| earlier.now);
        let before = before.filter(|before| before.at < now.at);
        Answers {
            read,
            before: before.map(|before| EndpointAnswer {
                // A freeze that was lifted early does not last until the end that was said then.
                until: before.until.map(|until| until.min(now.at)),
                ..before
            }),
            now,
            next,
        }
    }
}

/// A URL in a document, which is not secret.
fn address(text: &str, what: &str) -> Result<Url, Problem> {
    let url = Url::parse(text.trim()).ok().filter(|url| url.has_host());
    let url = url.ok_or_else(|| {
        Problem::unreadable(&format!("{what} is not a URL with `https://` and a host"))
    })?;
    if !url.username().is_empty() || url.password().is_some() {
        let why = format!("{what} holds a user name or a password, which is no place for secrets");
        return Err(Problem::new(ProblemKind::Refused, &why));
    }
    Ok(url)
}

/// The header for the token in a file. A file may also hold the credentials of `Basic` as the whole header.
async fn authorization(token_file: Option<&str>) -> Result<Option<HeaderValue>, Problem> {
    let Some(path) = token_file else {
        return Ok(None);
    };
    let token = secret(path, "a token").await?;
    let header = match token.starts_with("Basic ") {
        true => token,
        false => format!("Bearer {token}"),
    };
    let mut header = HeaderValue::try_from(header).map_err(|_| {
        let why = format!("the file `{path}` has characters that no token has");
        Problem::unreadable(&why)
    })?;
    header.set_sensitive(true);
    Ok(Some(header))
}

/// The text of a file that holds a secret, without white space around it. It is read at each attempt, since secrets are rotated.
async fn secret(path: &str, what: &str) -> Result<String, Problem> {
    let bytes = file(path, SECRET_BYTES).await?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Problem::unreadable(&format!("the file `{path}` is not UTF-8 text")))?;
    match text.trim() {
        "" => Err(Problem::unreadable(&format!(
            "the file `{path}` is empty; expected {what}"
        ))),
        text => Ok(text.to_owned()),
    }
}

async fn file(path: &str, limit: u64) -> Result<Vec<u8>, Problem> {
    let owned = path.to_owned();
    let read = in_background(move || read_regular_file(Path::new(&owned), limit));
    let read: io::Result<_> = read.await.map_err(io::Error::other).flatten();
    read.map_err(|error| {
        let why = format!("the file `{path}` cannot be read: {error}");
        Problem::new(ProblemKind::Unavailable, &why)
    })
}

/// Runs work that takes long, on a thread of its own. A panic is an error.
async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| PANIC.to_owned())
}

pub(super) const PANIC: &str = "the program made a mistake (a panic)";

/// A text that may quote an answer, without the secrets of the question: hosts repeat it in their answers.
fn without_secrets<'a>(text: &str, secrets: impl IntoIterator<Item = Cow<'a, str>>) -> String {
    let secrets = secrets.into_iter();
    let mut secrets: Vec<_> = secrets.filter(|secret| secret.len() >= SECRET).collect();
    secrets.sort_by_key(|secret| Reverse(secret.len()));
    let hide = |text: String, secret: &Cow<'_, str>| text.replace(&**secret, "…");
    secrets.iter().fold(text.to_owned(), hide)
}

/// The parts of a URL that may be secret, besides its path.
fn query_of(url: &Url) -> impl Iterator<Item = Cow<'_, str>> {
    let values = url.query_pairs().map(|(_, value)| value);
    values.chain(url.query().map(Cow::from))
}

/// The path of a URL, and its user.
fn path_of(url: &Url) -> impl Iterator<Item = Cow<'_, str>> {
    let user = [Some(url.username()), url.password()];
    let path = url.path_segments().into_iter().flatten();
    path.chain(user.into_iter().flatten()).map(Cow::from)
}

fn token_of(header: Option<&HeaderValue>) -> impl Iterator<Item = Cow<'_, str>> {
    let header = header.and_then(|header| header.to_str().ok());
    let token = header.and_then(|header| header.split(' ').next_back());
    token.into_iter().map(Cow::from)
}

fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("`{host}:{port}`"),
        None => format!("`{host}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_while_a_feed_is_read_is_a_problem() {
        let panics = in_background(|| -> u8 { panic!("a test") });
        assert_eq!(panics.await, Err(PANIC.to_owned()));
    }

    #[test]
    fn what_a_host_repeats_of_a_secret_is_not_shown() {
        let url = "https://gate:p4ss@calendar.example/ical/pr1vate-7f3a/basic.ics?key=k%2B1&x=ab";
        let url = Url::parse(url).unwrap();
        let token = HeaderValue::from_static("Bearer t0ken");
        let said = "no `/ical/pr1vate-7f3a/basic.ics?key=k%2B1&x=ab` for gate, p4ss, t0ken";
        let secrets = query_of(&url).chain(path_of(&url));
        let shown = without_secrets(said, secrets.chain(token_of(Some(&token))));
        assert_eq!(shown, "no `/…/…/…?…` for …, …, …");
    }

    fn moment(at: &str, uptime: u64) -> ClockReading {
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

    fn answer(at: &str, is_frozen: bool, until: Option<&str>) -> EndpointAnswer {
        EndpointAnswer {
            at: at.parse().unwrap(),
            is_frozen,
            reason: None,
            until: until.map(|until| until.parse().unwrap()),
        }
    }

    #[test]
    fn a_freeze_that_is_lifted_early_ends_with_the_answer_that_says_so() {
        let first = answer("2026-12-24T12:00:00Z", true, Some("2027-01-04T06:00:00Z"));
        let second = answer("2026-12-24T12:01:00Z", false, None);
        let next = answer("2026-12-24T12:02:00Z", false, None);
        let (one, two) = (
            moment("2026-12-24T12:00:00Z", 0),
            moment("2026-12-24T12:01:00Z", 60),
        );
        let earlier = Answers::after(None, first.clone(), Some(second.clone()), one);
        let later = Answers::after(Some(earlier), second.clone(), Some(next.clone()), two);
        let ended = answer("2026-12-24T12:00:00Z", true, Some("2026-12-24T12:01:00Z"));
        assert_eq!(later.in_order(), [ended, second, next]);
    }

    #[test]
    fn an_answer_from_before_the_clock_was_set_back_is_forgotten() {
        let first = answer("2026-12-24T12:00:00Z", true, None);
        let second = answer("2026-12-24T11:01:00Z", false, None);
        let now = moment("2026-12-24T11:01:00Z", 60);
        let earlier = Answers::after(None, first, None, now);
        let later = Answers::after(Some(earlier), second.clone(), None, now);
        assert_eq!(later.in_order(), [second]);
    }
}
