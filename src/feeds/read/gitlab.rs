//! The freeze periods of a GitLab project.

use std::sync::Arc;

use promotion_gate_core::calendar::{CronPeriod, Zone};
use promotion_gate_core::gate::{Digest, FeedContent};
use promotion_gate_core::strict_json::{Fields, unambiguous};
use serde::Deserialize;

use super::secrets::{address, authorization, host, token_of, without_secrets};
use super::{ClockReading, Problem, Reading};
use crate::oci::web::{Content, Question, Web};

/// The most bytes of a page of freeze periods.
const PAGE_BYTES: u64 = 1 << 20;
/// The most pages of freeze periods, of a hundred each.
const PAGES: usize = 20;

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
pub(super) async fn periods(
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
