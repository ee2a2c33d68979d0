//! What `wait` prints: what is missing, when that changes, and how it ended.

use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use promotion_gate_core::gate::{Enforcement, Outcome, Target};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::Instant;

use super::super::render::Output;
use super::super::render::human::{GREEN, RED, YELLOW, plural};
use crate::review::Review;
use crate::text::line;

/// The version of the JSON schema.
const VERSION: &str = "promotion-gate.dev/wait/v1alpha1";
/// How often a sign of life is printed.
const SIGN: Duration = Duration::from_secs(300);
/// Reasons whose detail tells of one attempt, so that it differs from look to look without news.
const OF_ONE_ATTEMPT: &[&str] = &[
    "evidence-unavailable",
    "evidence-partial",
    "image-unavailable",
    "freeze-unknown",
    TROUBLE,
];
/// The reason where the policies or the cluster cannot be read.
const TROUBLE: &str = "not-read";

/// Where a wait stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum State {
    /// Something is missing that may still come.
    Waiting,
    /// The policies would allow every image now.
    Allowed,
    /// A person who may approve has rejected an image.
    Rejected,
    /// Waiting cannot help: the object or a policy has to be changed.
    Impossible,
    /// Another version of the workload was admitted since the wait began.
    Superseded,
    /// The time is over.
    TimedOut,
    /// SIGINT or SIGTERM.
    Stopped,
}

/// One line of `wait --output json`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct WaitLine<'a> {
    /// `promotion-gate.dev/wait/v1alpha1`
    version: &'static str,
    #[schemars(with = "String")]
    at: Timestamp,
    state: State,
    environment: &'a str,
    /// As `--application` names it.
    application: Option<&'a str>,
    /// As `--version` names it.
    release: Option<&'a str>,
    /// Seconds since the wait began.
    waited: u64,
    /// Why it ended, where `missing` does not say it.
    why: Option<&'a str>,
    /// Every requirement that denies an object, under the policies that enforce.
    missing: &'a [Missing],
}

/// A requirement that is not met.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Missing {
    /// Such as `Deployment payments/web`; empty if no object is at fault.
    object: String,
    policy: String,
    rule: String,
    /// The image as written, if the requirement is about one.
    image: Option<String>,
    digest: Option<String>,
    /// `fail`, or `undecided` if only missing information denies.
    outcome: &'static str,
    /// Stable id of the reason, such as `approvals-missing`.
    reason: String,
    /// The reason in words.
    detail: String,
    /// What to do next.
    hint: Option<String>,
}

impl Missing {
    /// What denies an object, under the policies that enforce.
    pub(super) fn of(review: &Review) -> Vec<Missing> {
        let workload = &review.promotion.change.workload;
        let object = match &workload.namespace {
            Some(namespace) => format!("{} {namespace}/{}", workload.kind, workload.name),
            None => format!("{} {}", workload.kind, workload.name),
        };
        let denials = review.verdict.denials();
        let denials = denials.filter(|policy| policy.enforcement() == Enforcement::Enforce);
        let missing = denials.flat_map(|policy| {
            let findings = policy.findings().iter();
            let denying = findings.filter(|finding| finding.outcome.denies());
            denying.map(|finding| {
                let image = match &finding.target {
                    Target::Image(image) => Some(image),
                    Target::Workload | Target::Field(_) => None,
                };
                Missing {
                    object: object.clone(),
                    policy: policy.policy().to_owned(),
                    rule: finding.rule.to_owned(),
                    image: image.map(|image| image.written.clone()),
                    digest: image.and_then(|image| Some(image.digest.as_ref()?.to_string())),
                    outcome: Outcome::id(finding.outcome),
                    reason: finding.reason.to_owned(),
                    detail: finding.detail.clone(),
                    hint: finding.hint.clone(),
                }
            })
        });
        missing.collect()
    }

    /// The policies or the cluster could not be read.
    pub(super) fn of_trouble(error: &anyhow::Error) -> Missing {
        Missing {
            object: String::new(),
            policy: String::new(),
            rule: String::new(),
            image: None,
            digest: None,
            outcome: Outcome::id(Outcome::Undecided),
            reason: TROUBLE.to_owned(),
            detail: format!("{error:#}"),
            hint: None,
        }
    }

    /// Whether both say the same to people.
    fn is_same(&self, other: &Missing) -> bool {
        let told = |missing: &Missing| {
            let of_one_attempt = OF_ONE_ATTEMPT.contains(&&*missing.reason);
            Missing {
                detail: match of_one_attempt {
                    true => String::new(),
                    false => missing.detail.clone(),
                },
                ..missing.clone()
            }
        };
        told(self) == told(other)
    }

    fn print(&self) {
        let word = match self.outcome {
            "fail" => format!("{RED}missing{RED:#}"),
            _ => format!("{YELLOW}unknown{YELLOW:#}"),
        };
        let of = match self.policy.is_empty() {
            true => String::new(),
            false => format!(" {}, policy `{}`: {}", self.object, self.policy, self.rule),
        };
        let image = self.image.as_ref().map(|image| format!(" of `{image}`"));
        print_line!(
            "  {word}{}{}: {}",
            line(&of),
            line(&image.unwrap_or_default()),
            line(&self.detail)
        );
        if let Some(hint) = &self.hint {
            print_line!("    next: {}", line(hint));
        }
    }
}

/// What was printed, and since when it is waited.
pub(super) struct Progress {
    output: Output,
    environment: String,
    application: Option<String>,
    release: Option<String>,
    timeout: Duration,
    began: Instant,
    /// When something was printed last.
    printed: Instant,
    has_printed: bool,
    shown: Option<Vec<Missing>>,
}

impl Progress {
    pub(super) fn new(
        output: Output,
        environment: &str,
        application: Option<String>,
        release: Option<String>,
        timeout: Duration,
    ) -> Progress {
        Progress {
            output,
            environment: environment.to_owned(),
            application,
            release,
            timeout,
            began: Instant::now(),
            printed: Instant::now(),
            has_printed: false,
            shown: None,
        }
    }

    /// Prints what is missing, if that is news.
    pub(super) fn show(&mut self, missing: Vec<Missing>) -> anyhow::Result<()> {
        match (self.take_over(missing), self.output) {
            (false, _) => Ok(()),
            (true, Output::Json) => self.write(State::Waiting, None),
            (true, Output::Human) => {
                self.print();
                Ok(())
            }
        }
    }

    /// Whether it was said once what is missing.
    pub(super) fn has_shown(&self) -> bool {
        self.shown.is_some()
    }

    /// Prints what is missing at the end, if that is news. For programs, the line about the end says it.
    pub(super) fn show_last(&mut self, missing: Vec<Missing>) {
        if self.take_over(missing) && self.output == Output::Human {
            self.print();
        }
    }

    /// Keeps what is missing. Returns whether that is news.
    fn take_over(&mut self, mut missing: Vec<Missing>) -> bool {
        missing.sort();
        missing.dedup();
        let is_same = self.shown.as_ref().is_some_and(|shown| {
            let mut pairs = shown.iter().zip(&missing);
            shown.len() == missing.len() && pairs.all(|(old, new)| old.is_same(new))
        });
        self.shown = Some(missing);
        !is_same && !self.missing().is_empty()
    }

    fn print(&mut self) {
        match self.has_printed {
            false => print_line!(
                "waiting for {}, at most {}",
                self.subject(),
                short(self.timeout)
            ),
            true => print_line!("{:.0}: changed", Timestamp::now()),
        }
        self.missing().iter().for_each(Missing::print);
        self.has_printed = true;
        self.printed = Instant::now();
    }

    /// Prints how the wait ended.
    pub(super) fn end(&mut self, state: State, why: Option<String>) -> anyhow::Result<()> {
        if self.output == Output::Json {
            return self.write(state, why.as_deref());
        }
        let after = short(self.began.elapsed());
        let count = plural(self.missing().len(), "requirement", "requirements");
        let why = why.map(|why| line(&why)).unwrap_or_default();
        let subject = self.subject();
        match state {
            State::Allowed => print_line!("{GREEN}allowed{GREEN:#}: {subject}, after {after}"),
            State::Rejected => print_line!("{RED}rejected{RED:#}: {subject}"),
            State::Impossible => print_line!(
                "{RED}cannot be allowed{RED:#}: {subject}: waiting does not help; change the manifest or the policy"
            ),
            State::Superseded => print_line!("{RED}superseded{RED:#}: {subject}; {why}"),
            State::TimedOut => {
                print_line!(
                    "{YELLOW}timed out{YELLOW:#}: {subject}, after {after}; {count} not met"
                )
            }
            State::Stopped => print_line!(
                "{YELLOW}stopped{YELLOW:#}: {subject}, by {why} after {after}; {count} not met"
            ),
            State::Waiting => {}
        }
        Ok(())
    }

    /// When a sign of life is due, if nothing else is printed.
    pub(super) fn next_sign(&self) -> Instant {
        self.printed + SIGN
    }

    /// Prints that the wait goes on, if that is due. Programs read changes alone.
    pub(super) fn sign_of_life(&mut self) {
        if Instant::now() < self.next_sign() {
            return;
        }
        self.printed = Instant::now();
        if self.output == Output::Human {
            let waited = self.began.elapsed();
            print_line!(
                "{:.0}: still waiting for {}, {} left",
                Timestamp::now(),
                plural(self.missing().len(), "requirement", "requirements"),
                short(self.timeout.saturating_sub(waited))
            );
        }
    }

    fn missing(&self) -> &[Missing] {
        self.shown.as_deref().unwrap_or_default()
    }

    /// What waits, such as `payments v1.2.3 in production`.
    fn subject(&self) -> String {
        let names = [&self.application, &self.release];
        let names: Vec<_> = names.into_iter().flatten().map(|name| line(name)).collect();
        match names.as_slice() {
            [] => format!("the deployment to `{}`", line(&self.environment)),
            names => format!("{} in `{}`", names.join(" "), line(&self.environment)),
        }
    }

    fn write(&self, state: State, why: Option<&str>) -> anyhow::Result<()> {
        let of_line = WaitLine {
            version: VERSION,
            at: Timestamp::now(),
            state,
            environment: &self.environment,
            application: self.application.as_deref(),
            release: self.release.as_deref(),
            waited: self.began.elapsed().as_secs(),
            why,
            missing: self.missing(),
        };
        let text = serde_json::to_string(&of_line);
        let text = text.context("the answer cannot be written as JSON")?;
        write_output!("{text}\n");
        Ok(())
    }
}

/// A length of time in its two largest units, such as `1h 5m`.
fn short(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes, rest) {
        (0, 0, rest) => format!("{rest}s"),
        (0, minutes, 0) => format!("{minutes}m"),
        (0, minutes, rest) => format!("{minutes}m {rest}s"),
        (hours, 0, _) => format!("{hours}h"),
        (hours, minutes, _) => format!("{hours}h {minutes}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_schema_is_that_of_a_line() {
        super::super::super::render::assert_documented::<WaitLine<'_>>("wait");
    }

    #[test]
    fn a_length_of_time_is_shown_in_two_units() {
        for (seconds, shown) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (61, "1m 1s"),
            (3600, "1h"),
            (3660, "1h 1m"),
            (7261, "2h 1m"),
        ] {
            assert_eq!(short(Duration::from_secs(seconds)), shown);
        }
    }

    #[test]
    fn an_attempt_that_fails_in_other_words_is_no_news() {
        let down = |reason: &str, detail: &str| Missing {
            reason: reason.to_owned(),
            ..Missing::of_trouble(&anyhow::anyhow!("{}", detail.to_owned()))
        };
        let (one, two) = ("refused after 1 s", "refused after 2 s");
        let is_same = |reason| down(reason, one).is_same(&down(reason, two));
        assert!(is_same("evidence-unavailable"));
        assert!(is_same("not-read"));
        assert!(!is_same("approvals-missing"));
    }
}
