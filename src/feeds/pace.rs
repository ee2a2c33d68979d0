//! When a feed is asked again.

use std::time::Duration;

use promotion_gate_core::gate::{Feed, FeedKind, FeedPlace};

/// The first wait after a failure.
const FIRST_WAIT: Duration = Duration::from_secs(30);
/// The longest wait that a system may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);
/// The shortest interval.
const SHORTEST: Duration = Duration::from_secs(10);

/// How often a feed is asked: as is usual for its kind, and often enough that two failures do not make it stale.
pub(super) fn interval(feed: &Feed) -> Duration {
    let usual = match &feed.kind {
        FeedKind::Calendar {
            place: FeedPlace::File(_),
            ..
        } => SHORTEST,
        FeedKind::Calendar { .. } => Duration::from_secs(15 * 60),
        FeedKind::Gitlab { .. } => Duration::from_secs(5 * 60),
        FeedKind::Endpoint { .. } => Duration::from_secs(60),
    };
    usual.min(maximum_age(feed) / 3).max(SHORTEST)
}

/// The wait after so many failures in a row.
pub(crate) fn after_failures(failures: u32, interval: Duration) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1 << failures.saturating_sub(1).min(10));
    doubled.min(interval)
}

/// The wait that a system asks for, as far as it is granted.
pub(super) fn granted(asked: Option<Duration>) -> Duration {
    asked.unwrap_or_default().min(LONGEST_WAIT)
}

/// A wait with up to a tenth more or less, so that many processes do not ask at the same moment.
pub(crate) fn jittered(wait: Duration, random: u16) -> Duration {
    let per_mille = 900 + u32::from(random) * 200 / u32::from(u16::MAX);
    wait * per_mille / 1000
}

pub(super) fn maximum_age(feed: &Feed) -> Duration {
    feed.maximum_age.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use promotion_gate_core::calendar::Zone;
    use promotion_gate_core::gate::{EventFilter, WhenStale};

    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn feed(kind: FeedKind, maximum_age: i64) -> Feed {
        Feed {
            kind,
            maximum_age: SignedDuration::from_secs(maximum_age),
            when_stale: WhenStale::Frozen,
        }
    }

    fn calendar(place: FeedPlace) -> FeedKind {
        FeedKind::Calendar {
            place,
            zone: Zone::utc(),
            events: EventFilter::default(),
        }
    }

    #[test]
    fn each_kind_of_feed_has_its_interval_and_a_short_maximum_age_shortens_it() {
        let endpoint = || FeedKind::Endpoint {
            url: String::new(),
            token_file: None,
        };
        let url = || calendar(FeedPlace::Url(String::new()));
        let file = calendar(FeedPlace::File(String::new()));
        let day = 24 * 3600;
        assert_eq!(interval(&feed(url(), day)), seconds(900));
        assert_eq!(interval(&feed(file, day)), seconds(10));
        assert_eq!(interval(&feed(endpoint(), 900)), seconds(60));
        assert_eq!(interval(&feed(url(), 900)), seconds(300));
        assert_eq!(interval(&feed(endpoint(), 90)), seconds(30));
        assert_eq!(interval(&feed(endpoint(), 0)), seconds(10));
    }

    #[test]
    fn failures_are_retried_soon_and_then_less_often_up_to_the_interval() {
        let waits = |interval| {
            let each = (1..=8).map(|failures| after_failures(failures, seconds(interval)));
            each.map(|wait| wait.as_secs()).collect::<Vec<_>>()
        };
        assert_eq!(waits(900), [30, 60, 120, 240, 480, 900, 900, 900]);
        assert_eq!(waits(60), [30, 60, 60, 60, 60, 60, 60, 60]);
        assert_eq!(waits(10), [10; 8]);
        assert_eq!(after_failures(u32::MAX, seconds(900)), seconds(900));
    }

    #[test]
    fn a_system_that_asks_for_a_pause_gets_it_but_not_for_ever() {
        assert_eq!(granted(None), seconds(0));
        assert_eq!(granted(Some(seconds(120))), seconds(120));
        assert_eq!(granted(Some(seconds(86_400))), seconds(900));
    }

    #[test]
    fn jitter_moves_a_wait_by_a_tenth_at_most() {
        let wait = |random| jittered(seconds(1000), random).as_secs();
        assert_eq!((wait(0), wait(u16::MAX)), (900, 1100));
        assert_eq!(wait(u16::MAX / 2), 999);
        let spread = (0..=u16::MAX).step_by(997).map(wait);
        let spread: std::collections::BTreeSet<_> = spread.collect();
        assert!(spread.len() > 60, "{spread:?}");
    }
}
