//! Change freezes as the operator writes them, and what is read from their feeds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::calendar::{CalendarEvent, CronPeriod, Series, Span, Zone};
use crate::gate::glob::Glob;

/// A change freeze: when changes of some environments must wait.
#[derive(Clone, Debug)]
pub struct Freeze {
    /// The name of the document.
    pub name: String,
    /// Patterns of the environments, which policies name.
    pub environments: Vec<Glob>,
    /// Why.
    pub reason: String,
    /// Who decides about it.
    pub owner: Option<String>,
    /// What it lets through.
    pub may_pass: MayPass,
    /// When.
    pub source: FreezeSource,
}

/// What a freeze lets through besides upkeep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MayPass {
    /// A return to what ran before.
    pub rollback: bool,
    /// An emergency change, if the policy lets it waive `noFreeze`.
    pub emergency: bool,
}

impl Default for MayPass {
    fn default() -> MayPass {
        MayPass {
            rollback: true,
            emergency: true,
        }
    }
}

/// Where the times of a freeze come from.
#[derive(Clone, Debug)]
pub enum FreezeSource {
    /// The document.
    Windows(Vec<Series>),
    /// Another system.
    Feed(Feed),
    /// Not known, because the document cannot be read for this reason: the freeze counts as lasting.
    Unreadable(String),
}

/// A system that is asked for freezes in the background.
#[derive(Clone, Debug, PartialEq)]
pub struct Feed {
    /// What it is, and where.
    pub kind: FeedKind,
    /// How old its last answer may be.
    pub maximum_age: SignedDuration,
    /// What an older answer means.
    pub when_stale: WhenStale,
}

/// What a feed is, and where.
#[derive(Clone, Debug, PartialEq)]
pub enum FeedKind {
    /// An iCalendar file (RFC 5545).
    Calendar {
        /// Where it is.
        place: FeedPlace,
        /// The zone of times without one and of whole days.
        zone: Zone,
        /// Which of its events are freezes.
        events: EventFilter,
    },
    /// An endpoint that answers `GET …?environment=&at=` with `{"freeze_active": true, "reason": "…", "active_until": "…"}`.
    Endpoint {
        /// The URL, without the two parameters.
        url: String,
        /// The file with its bearer token.
        token_file: Option<String>,
    },
    /// The freeze periods of a GitLab project.
    Gitlab {
        /// The URL of the project, such as `https://gitlab.com/example/app`.
        project: String,
        /// The file with an access token.
        token_file: Option<String>,
    },
}

/// Where a calendar is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedPlace {
    /// An HTTPS URL.
    Url(String),
    /// A file that holds an HTTPS URL, since such URLs are often secrets.
    UrlFile(String),
    /// A file that holds the calendar.
    File(String),
}

/// What a feed that was not read for too long means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenStale {
    /// Frozen.
    #[default]
    Frozen,
    /// Open.
    Open,
}

/// Which events of a calendar are freezes: those with one of the categories, or with a summary that matches. Without both, all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Categories, compared without case.
    pub categories: Vec<String>,
    /// Patterns of summaries in lower case.
    pub summaries: Vec<Glob>,
    /// Whether tentative events do not count.
    pub ignore_tentative: bool,
}

impl EventFilter {
    /// Whether an event is a freeze.
    pub fn matches(&self, event: &CalendarEvent) -> bool {
        if self.ignore_tentative && event.is_tentative {
            return false;
        }
        if self.categories.is_empty() && self.summaries.is_empty() {
            return true;
        }
        let has = |wanted: &String| {
            let mut own = event.categories.iter();
            own.any(|own| own.trim().to_lowercase() == wanted.to_lowercase())
        };
        let summary = event.summary.to_lowercase();
        self.categories.iter().any(has) || self.summaries.iter().any(|glob| glob.matches(&summary))
    }
}

/// What is known of a feed.
#[derive(Clone, Debug)]
pub struct FeedState {
    /// The last answer that could be read.
    pub reading: Option<FeedReading>,
    /// Why the last attempt failed; `None` if it did not.
    pub problem: Option<String>,
}

/// An answer of a feed.
#[derive(Clone, Debug)]
pub struct FeedReading {
    /// What it says.
    pub content: Arc<FeedContent>,
    /// When it was asked for. `None` for an answer that does not age: one that a command asked for.
    pub read_at: Option<Timestamp>,
}

/// What a feed says.
#[derive(Clone, Debug)]
pub enum FeedContent {
    /// The events of a calendar.
    Events(Vec<CalendarEvent>),
    /// The answers of an endpoint, by environment.
    Answers(BTreeMap<String, Vec<EndpointAnswer>>),
    /// The freeze periods of a GitLab project.
    Periods(Vec<CronPeriod>),
    /// Times that another process has computed from any of these.
    Times(FeedTimes),
}

/// The times that a feed says, as far as they were computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedTimes {
    /// The times.
    pub times: Vec<FeedTime>,
    /// The environments that an endpoint was asked for; `None` for a feed that says the same for all of them.
    pub environments: Option<BTreeSet<String>>,
    /// What is later was not computed.
    pub until: Timestamp,
}

/// A time at which a feed says that changes are frozen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedTime {
    /// When. The end is `Timestamp::MAX` if it is not known.
    pub span: Span,
    /// The event of the calendar, or the reason that an endpoint gives.
    pub what: Option<Arc<str>>,
    /// The environment, if the feed was asked for each.
    pub environment: Option<String>,
}

/// The answer of an endpoint about one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointAnswer {
    /// The instant that was asked about.
    pub at: Timestamp,
    /// Whether a freeze lasts then.
    pub is_frozen: bool,
    /// Why.
    pub reason: Option<String>,
    /// When it ends, if the endpoint says so.
    pub until: Option<Timestamp>,
}

impl Freeze {
    /// Whether the freeze is about an environment.
    pub fn is_of(&self, environment: &str) -> bool {
        self.environments
            .iter()
            .any(|glob| glob.matches(environment))
    }
}
