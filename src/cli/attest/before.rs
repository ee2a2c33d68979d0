//! The summaries that a verifier attached to an image before. A run that comes every hour signs another one only where it says more, since
//! the gate reads a limited number of what is attached.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use promotion_gate_core::attest::Anchor;
use promotion_gate_core::attest::predicate::{Predicate, VerificationSummary};
use promotion_gate_core::gate::{Identity, ImageNeeds, Subject};
use tokio::time::Instant;

use crate::cli::deciding::Sources;
use crate::collect::Freshness;
use crate::text::line;

/// The longest time between two summaries that differ in their times alone.
const LONGEST: SignedDuration = SignedDuration::from_hours(10 * 24);
/// The time between two summaries of an image whose records do not show since when it has run.
const UNKNOWN: SignedDuration = SignedDuration::from_hours(24);

/// The newest summary of this signer that is attached to an image.
pub(super) async fn newest(
    sources: &Sources,
    subject: &Subject,
    (anchor, signer): (&Anchor, &Identity),
    deadline: Instant,
) -> Option<VerificationSummary> {
    let needs = ImageNeeds {
        anchors: [(anchor.id(), anchor.clone())].into(),
        ..ImageNeeds::default()
    };
    let needs = BTreeMap::from([(subject.clone(), needs)]);
    let collector = &sources.collector;
    let mut allowance = collector.allowance(deadline);
    let gathering = collector.gather(&needs, Freshness::FromCache, &mut allowance);
    let gathered = gathering.await;
    let evidence = gathered.evidence.about(subject);
    if let Some(unread) = evidence.unavailabilities().first() {
        print_error!(
            "note: not everything that is attached to `{subject}` was read, so that a summary that is attached already may be signed again: {}",
            line(&unread.to_string())
        );
    }
    let statements = evidence.value().into_iter().flat_map(|it| &it.statements);
    let own = statements.filter(|(_, it)| Identity::of(it.signer()).as_ref() == Some(signer));
    let own = own.filter_map(|(_, statement)| match statement.predicate() {
        Predicate::VerificationSummary(summary) => Some((**summary).clone()),
        _ => None,
    });
    own.max_by_key(|summary| summary.time_verified)
}

/// When the next summary is due, if it is not due yet. Another one is due at once if it says something else; otherwise after a fifth of the
/// time that the last one says, so that the number of summaries grows with the logarithm of the time, and after ten days at the latest.
pub(super) fn due(
    before: &VerificationSummary,
    next: &VerificationSummary,
    is_since_known: bool,
) -> Option<Timestamp> {
    let without_times = |it: &VerificationSummary| VerificationSummary {
        time_verified: None,
        running_since: None,
        ..it.clone()
    };
    let made = before.time_verified?;
    let began = before.running_since?;
    if without_times(before) != without_times(next) {
        return None;
    }
    let wait = match is_since_known {
        true if next.running_since == Some(began) => (made.duration_since(began) / 5).min(LONGEST),
        true => return None,
        false => UNKNOWN,
    };
    let due = made.checked_add(wait).ok()?;
    next.time_verified
        .is_some_and(|now| now < due)
        .then_some(due)
}

#[cfg(test)]
mod tests {
    use promotion_gate_core::attest::predicate::{SummaryPolicy, SummaryResult, SummaryVerifier};

    use super::*;

    const HOUR: i64 = 3600;

    fn summary(made: i64, since: i64) -> VerificationSummary {
        let at = |second| Some(Timestamp::from_second(second).unwrap());
        VerificationSummary {
            verifier: SummaryVerifier {
                id: "https://staging.example/gate".to_owned(),
            },
            time_verified: at(made),
            resource_uri: "registry.example/app".to_owned(),
            policy: SummaryPolicy {
                uri: None,
                digest: BTreeMap::new(),
            },
            verification_result: SummaryResult::Passed,
            verified_levels: Vec::new(),
            environment: Some("staging".to_owned()),
            cluster: None,
            running_since: at(since),
        }
    }

    #[test]
    fn an_hourly_run_signs_fewer_summaries_of_an_image_in_two_years_than_the_gate_reads() {
        let (mut last, mut signed, mut longest) = (summary(0, 0), 1, 0);
        for hour in 1..2 * 365 * 24 {
            let next = summary(hour * HOUR, 0);
            if due(&last, &next, true).is_none() {
                longest = longest.max(
                    next.time_verified.unwrap().as_second()
                        - last.time_verified.unwrap().as_second(),
                );
                (last, signed) = (next, signed + 1);
            }
            // A day of staging is never shown later than a fifth of it, and one run, afterwards.
            if hour == 30 {
                assert!(last.time_verified.unwrap().as_second() >= 24 * HOUR);
            }
        }
        assert!((30..128).contains(&signed), "{signed}");
        assert_eq!(longest, 10 * 24 * HOUR);
    }

    #[test]
    fn what_says_something_else_is_signed_at_once() {
        let before = summary(100 * HOUR, 0);
        let next = summary(101 * HOUR, 0);
        let at = Timestamp::from_second(120 * HOUR).unwrap();
        assert_eq!(due(&before, &next, true), Some(at));
        let level = VerificationSummary {
            verified_levels: vec!["SLSA_BUILD_LEVEL_3".to_owned()],
            ..next.clone()
        };
        assert_eq!(due(&before, &level, true), None);
        let anew = summary(101 * HOUR, 90 * HOUR);
        assert_eq!(
            due(&before, &anew, true),
            None,
            "it has run since another time"
        );
    }

    #[test]
    fn what_counts_from_now_is_signed_once_a_day() {
        let before = summary(100 * HOUR, 100 * HOUR);
        let after = |hours: i64| summary((100 + hours) * HOUR, (100 + hours) * HOUR);
        assert!(due(&before, &after(23), false).is_some());
        assert_eq!(due(&before, &after(24), false), None);
    }
}
