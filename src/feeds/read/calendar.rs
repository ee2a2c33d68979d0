//! A calendar: an iCalendar file, or one behind a URL.

use std::sync::Arc;

use bytes::Bytes;
use promotion_gate_core::calendar::{CalendarEvent, Zone, read_calendar};
use promotion_gate_core::gate::{Digest, EventFilter, FeedContent, FeedPlace};
use url::Url;

use super::secrets::{address, file, host, path_of, query_of, secret, without_secrets};
use super::{ClockReading, Problem, Reading, in_background};
use crate::oci::web::{Question, Web};

/// The most bytes of a calendar.
const CALENDAR_BYTES: u64 = 8 << 20;

/// The events of a calendar that are freezes, by the filter.
pub(super) async fn calendar(
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

fn events(bytes: &[u8], zone: &Zone, filter: &EventFilter) -> Result<Vec<CalendarEvent>, String> {
    let calendar = read_calendar(bytes, zone);
    let events = calendar.and_then(|calendar| calendar.events(|event| filter.matches(event)));
    events.map_err(|problem| problem.to_string())
}
