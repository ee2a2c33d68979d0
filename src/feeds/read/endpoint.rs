//! An endpoint of the change management, which is asked whether an environment is frozen at an instant.

use std::collections::BTreeMap;

use futures::{StreamExt as _, TryStreamExt as _};
use http::HeaderValue;
use jiff::Timestamp;
use promotion_gate_core::gate::EndpointAnswer;
use url::Url;

use super::secrets::{host, query_of, token_of, without_secrets};
use super::{ClockReading, Problem};
use crate::oci::web::{Content, Question, Web};
use crate::text::line;

/// The most bytes of an endpoint's answer.
const ANSWER_BYTES: u64 = 64 << 10;
/// How many environments an endpoint is asked about at one time.
const SIDE_BY_SIDE: usize = 4;

pub(super) struct Endpoint<'a> {
    pub(super) web: &'a Web,
    pub(super) url: Url,
    pub(super) token: Option<HeaderValue>,
}

impl Endpoint<'_> {
    /// What is known after this attempt of each environment, and the first problem.
    pub(super) async fn answers(
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

/// What an endpoint says about one environment.
#[derive(Clone, PartialEq)]
pub(in crate::feeds) struct Answers {
    pub(in crate::feeds) read: ClockReading,
    /// The answer before, so that an instant between two answers is covered.
    before: Option<EndpointAnswer>,
    now: EndpointAnswer,
    /// About the time of the next attempt.
    next: Option<EndpointAnswer>,
}

impl Answers {
    pub(in crate::feeds) fn in_order(&self) -> Vec<EndpointAnswer> {
        let all = [
            self.before.clone(),
            Some(self.now.clone()),
            self.next.clone(),
        ];
        all.into_iter().flatten().collect()
    }

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

#[cfg(test)]
mod tests {
    use super::super::tests::moment;
    use super::*;

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
