//! Change freezes as a test sets them → the schedule of a case.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use promotion_gate_core::documents::{Fault, Path, nearest};
use promotion_gate_core::gate::{
    EndpointAnswer, FeedContent, FeedReading, FeedState, Freeze, FreezeSource,
};

use super::format::{CaseSpec, FeedAnswer};
use super::resolve::SuiteReader;
use crate::api::{self, FeedStates};

/// The freezes of a case.
pub(super) struct CaseFreezes {
    pub(super) freezes: Vec<Freeze>,
    pub(super) feeds: FeedStates,
}

impl SuiteReader<'_> {
    /// The freezes of a case: its own, or else those of the policy files, with what it says of their feeds.
    pub(super) fn freezes(&mut self, case: &CaseSpec, here: &Path) -> CaseFreezes {
        let freezes = match &case.freezes {
            None => self.freezes.clone(),
            Some(own) => {
                let mut freezes = Vec::new();
                for (index, spec) in own.iter().enumerate() {
                    let name = format!("freeze-{}", index + 1);
                    match api::freeze(&name, spec, self.folder) {
                        Ok(freeze) => freezes.push(freeze),
                        Err(faults) => {
                            for Fault { path, message } in faults {
                                let here = here.key("freezes").index(index).join(&path);
                                self.refuse(here, message);
                            }
                        }
                    }
                }
                freezes
            }
        };
        let is_feed = |freeze: &&Freeze| matches!(freeze.source, FreezeSource::Feed(_));
        let names: Vec<_> = freezes
            .iter()
            .filter(is_feed)
            .map(|freeze| freeze.name.clone())
            .collect();
        for name in case.feeds.keys().filter(|name| !names.contains(name)) {
            let near = nearest(name, names.iter().map(String::as_str));
            let near = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            let why = format!("no change freeze `{name}` of the case has a feed{near}");
            self.refuse(here.key("feeds").key(name), why);
        }
        let feeds = names.into_iter().map(|name| {
            let state = self.feed(case.feeds.get(&name).copied());
            (name, state)
        });
        CaseFreezes {
            feeds: feeds.collect(),
            freezes,
        }
    }

    /// What is known of a feed that gave this answer. A test asks no feed.
    fn feed(&self, answer: Option<FeedAnswer>) -> FeedState {
        let is_frozen = match answer {
            Some(FeedAnswer::Open) => false,
            Some(FeedAnswer::Frozen) => true,
            Some(FeedAnswer::Stale) | None => {
                let why = match answer {
                    Some(_) => "the test says so",
                    None => {
                        "a test does not read feeds; say what it answers under `feeds` of the case"
                    }
                };
                return FeedState {
                    reading: None,
                    problem: Some(why.to_owned()),
                };
            }
        };
        let answer = EndpointAnswer {
            at: Timestamp::MIN,
            is_frozen,
            reason: None,
            until: None,
        };
        let environments = self.environments.iter().cloned();
        let answers: BTreeMap<_, _> = environments
            .map(|name| (name, vec![answer.clone()]))
            .collect();
        FeedState {
            reading: Some(FeedReading {
                content: Arc::new(FeedContent::Answers(answers)),
                read_at: None,
            }),
            problem: None,
        }
    }
}
