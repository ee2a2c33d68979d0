//! The feed of a freeze in its status: the times that one replica has computed, and by which all of them decide. What the feed says
//! otherwise is not stored.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use promotion_gate_core::calendar::Span;
use promotion_gate_core::gate::{
    FeedContent, FeedReading, FeedState, FeedTime, FeedTimes, Freeze, Schedule,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How far ahead times are computed.
const AHEAD: SignedDuration = SignedDuration::from_hours(24 * 90);
/// How far back: clocks of other replicas may be behind.
const BACK: SignedDuration = SignedDuration::from_hours(1);
/// The most times.
const MAXIMUM_TIMES: usize = 500;
/// The most characters of a reason, and of an error.
const MAXIMUM_TEXT: usize = 300;
/// What is written for an end that is not known.
const NO_END: &str = "9999-12-30T00:00:00Z";

/// A feed as the status holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenFeed {
    #[serde(default)]
    windows: Vec<WrittenTime>,
    /// The environments that an endpoint was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    environments: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fetched_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenTime {
    from: Timestamp,
    until: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    environment: Option<String>,
}

/// The feed as the status of its freeze should hold it. What was read before stays while the feed cannot be read.
pub(crate) fn written_feed(freeze: &Freeze, state: &FeedState, status: &Value) -> Option<Value> {
    let before = status.get("feed").cloned();
    let before = before.and_then(|before| serde_json::from_value::<WrittenFeed>(before).ok());
    let cut = |text: &String| text.chars().take(MAXIMUM_TEXT).collect();
    let error = state.problem.as_ref().map(cut);
    let read = state
        .reading
        .as_ref()
        .and_then(|reading| Some((reading, reading.read_at?)));
    let written = match (read, before) {
        (None, None) if error.is_none() => return None,
        (None, before) => WrittenFeed {
            error,
            ..before.unwrap_or_default()
        },
        (Some((reading, at)), _) => match computed(freeze, &reading.content, at) {
            Ok((windows, environments)) => WrittenFeed {
                windows,
                environments,
                fetched_at: Some(whole_seconds(at)),
                error,
            },
            Err(why) => WrittenFeed {
                error: Some(why),
                ..WrittenFeed::default()
            },
        },
    };
    serde_json::to_value(written).ok()
}

/// What is known of a feed by the status of its freeze.
pub(crate) fn feed_state(status: &Value) -> FeedState {
    let unread = |problem: Option<String>| FeedState {
        reading: None,
        problem,
    };
    let Some(feed) = status.get("feed") else {
        return unread(None);
    };
    let feed = match serde_json::from_value::<WrittenFeed>(feed.clone()) {
        Ok(feed) => feed,
        Err(error) => return unread(Some(format!("`status.feed` cannot be read: {error}"))),
    };
    let Some(fetched_at) = feed.fetched_at else {
        return unread(feed.error);
    };
    let no_end: Timestamp = NO_END.parse().unwrap_or(Timestamp::MAX);
    let times = feed.windows.into_iter().map(|window| FeedTime {
        span: Span {
            start: window.from,
            end: if window.until >= no_end {
                Timestamp::MAX
            } else {
                window.until
            },
        },
        what: window.reason.map(Arc::from),
        environment: window.environment,
    });
    let times = FeedTimes {
        times: times.collect(),
        environments: feed.environments.map(|names| names.into_iter().collect()),
        until: moved(fetched_at, AHEAD),
    };
    FeedState {
        reading: Some(FeedReading {
            content: Arc::new(FeedContent::Times(times)),
            read_at: Some(fetched_at),
        }),
        problem: feed.error,
    }
}

type Computed = (Vec<WrittenTime>, Option<Vec<String>>);

/// The times that a feed says, and the environments that an endpoint was asked for.
fn computed(
    freeze: &Freeze,
    content: &Arc<FeedContent>,
    at: Timestamp,
) -> Result<Computed, String> {
    let state = FeedState {
        reading: Some(FeedReading {
            content: Arc::clone(content),
            read_at: None,
        }),
        problem: None,
    };
    let schedule = Schedule::new([(freeze.clone(), Some(state))], at);
    let range = Span {
        start: moved(at, -BACK),
        end: moved(at, AHEAD),
    };
    let mut windows = Vec::new();
    let mut add = |environment: Option<&str>, begins_before: Option<Timestamp>| {
        let found = schedule.occurrences(environment, range);
        let found = found.map_err(|error| error.to_string())?;
        windows.extend(found.into_iter().map(|(_, found)| {
            WrittenTime {
                // What an endpoint said first holds for clocks that are behind too.
                from: match begins_before {
                    Some(first) if found.span.start <= first => moved(first, -BACK),
                    _ => found.span.start,
                },
                until: NO_END
                    .parse()
                    .map_or(found.span.end, |most| found.span.end.min(most)),
                reason: found
                    .what
                    .as_deref()
                    .map(|what| what.chars().take(MAXIMUM_TEXT).collect()),
                environment: environment.map(str::to_owned),
            }
        }));
        Ok::<(), String>(())
    };
    let environments = match &**content {
        FeedContent::Answers(answers) => {
            for (environment, answers) in answers {
                let first = answers.first().map(|first| first.at);
                add(Some(environment), first)?;
            }
            Some(answers.keys().cloned().collect())
        }
        _ => {
            add(None, None)?;
            None
        }
    };
    Ok((bounded(windows, range.end), environments))
}

/// At most so many times. Where there are more, the rest counts as one.
fn bounded(mut windows: Vec<WrittenTime>, end: Timestamp) -> Vec<WrittenTime> {
    windows.sort_by_key(|window| window.from);
    if windows.len() > MAXIMUM_TIMES {
        let rest = windows.split_off(MAXIMUM_TIMES - 1);
        let from = rest.first().map_or(end, |first| first.from);
        let last = rest.iter().map(|window| window.until).max();
        windows.push(WrittenTime {
            from,
            until: last.unwrap_or(end).max(end),
            reason: Some(format!("its feed has more than {MAXIMUM_TIMES} times")),
            environment: None,
        });
    }
    windows
}

fn moved(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(at)
}

/// The second in which an instant is: an answer is never younger than it is.
fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use promotion_gate_core::gate::{
        EndpointAnswer, Feed, FeedKind, FreezeSource, Glob, MayPass, WhenStale,
    };
    use serde_json::json;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn freeze() -> Freeze {
        Freeze {
            name: "change-management".to_owned(),
            environments: vec![Glob::parse("prod").unwrap(), Glob::parse("stage").unwrap()],
            reason: "r".to_owned(),
            owner: None,
            may_pass: MayPass::default(),
            source: FreezeSource::Feed(Feed {
                kind: FeedKind::Endpoint {
                    url: String::new(),
                    token_file: None,
                },
                maximum_age: SignedDuration::from_mins(15),
                when_stale: WhenStale::Frozen,
            }),
        }
    }

    fn read(is_frozen: bool) -> FeedState {
        let answer = |seconds: i64| EndpointAnswer {
            at: moved(
                at("2026-12-01T10:00:00Z"),
                SignedDuration::from_secs(seconds),
            ),
            is_frozen,
            reason: Some("Year end".to_owned()),
            until: None,
        };
        let answers = BTreeMap::from([("prod".to_owned(), vec![answer(0), answer(60)])]);
        FeedState {
            reading: Some(FeedReading {
                content: Arc::new(FeedContent::Answers(answers)),
                read_at: Some(at("2026-12-01T10:00:00.9Z")),
            }),
            problem: None,
        }
    }

    /// What a replica says that sees this status.
    fn frozen(status: &Value, environment: &str, now: &str) -> Vec<String> {
        let schedule = Schedule::new([(freeze(), Some(feed_state(status)))], at(now));
        let frozen = schedule.frozen_at(environment, at(now));
        frozen.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_one_replica_read_decides_for_all_of_them_by_its_age() {
        assert!(frozen(&json!({}), "prod", "2026-12-01T10:00:00Z")[0].contains("never read"));
        let status = json!({"feed": written_feed(&freeze(), &read(true), &json!({})).unwrap()});
        assert_eq!(
            status.pointer("/feed/fetchedAt"),
            Some(&json!("2026-12-01T10:00:00Z"))
        );
        for (now, said) in [
            ("2026-12-01T09:59:50Z", "Year end"),
            ("2026-12-01T10:00:01Z", "Year end"),
            ("2026-12-01T10:14:00Z", "Year end"),
            ("2026-12-01T10:16:00Z", "last read at"),
        ] {
            let found = frozen(&status, "prod", now);
            assert!(found[0].contains(said), "{now}: {found:?}");
        }
        let found = frozen(&status, "stage", "2026-12-01T10:01:00Z");
        assert!(found[0].contains("did not answer for `stage`"), "{found:?}");

        let status = json!({"feed": written_feed(&freeze(), &read(false), &json!({})).unwrap()});
        assert_eq!(frozen(&status, "prod", "2026-12-01T10:10:00Z"), [""; 0]);
    }

    #[test]
    fn while_a_feed_cannot_be_read_its_last_times_stay_and_the_error_is_said() {
        let status = json!({"feed": written_feed(&freeze(), &read(false), &json!({})).unwrap()});
        let failed = FeedState {
            reading: None,
            problem: Some("HTTP 503".to_owned()),
        };
        let status = json!({"feed": written_feed(&freeze(), &failed, &status).unwrap()});
        assert_eq!(frozen(&status, "prod", "2026-12-01T10:10:00Z"), [""; 0]);
        let found = frozen(&status, "prod", "2026-12-01T10:20:00Z");
        assert!(found[0].contains("HTTP 503"), "{found:?}");
    }

    #[test]
    fn more_times_than_a_status_holds_end_as_one_long_one() {
        let end = at("2027-03-01T00:00:00Z");
        let window = |index: i64| WrittenTime {
            from: moved(
                at("2026-12-01T00:00:00Z"),
                SignedDuration::from_hours(2 * index),
            ),
            until: moved(
                at("2026-12-01T01:00:00Z"),
                SignedDuration::from_hours(2 * index),
            ),
            reason: None,
            environment: None,
        };
        let few = bounded((0..500).map(window).collect(), end);
        assert_eq!((few.len(), few[499].reason.clone()), (500, None));
        let many = bounded((0..501).map(window).collect(), end);
        assert_eq!(
            (many.len(), many[499].from, many[499].until),
            (500, window(499).from, end)
        );
    }
}
