//! How many Events are written: none that was written a moment ago, and not more at a time than the API server bears.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// An equal Event is written again after this time.
const REPEATED: Duration = Duration::from_secs(60);
/// Events that are written at once at most.
const BURST: u32 = 50;
/// Events that are written each second after that.
const EACH_SECOND: f64 = 1.0;
/// The most Events that are remembered.
const REMEMBERED: usize = 2000;

/// Why an Event is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// An equal one was written a moment ago.
    Repeated,
    /// Too many were written.
    TooMany,
}

/// What was written, and how many more may be.
pub(super) struct Throttle<K> {
    written: HashMap<K, Instant>,
    left: f64,
    at: Instant,
}

impl<K: Eq + Hash> Throttle<K> {
    pub(super) fn new(now: Instant) -> Throttle<K> {
        Throttle {
            written: HashMap::new(),
            left: f64::from(BURST),
            at: now,
        }
    }

    /// Counts an Event that is to be written now.
    ///
    /// # Errors
    /// It is not to be written.
    pub(super) fn admit(&mut self, key: K, now: Instant) -> Result<(), Refusal> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * EACH_SECOND).min(f64::from(BURST));
        self.at = now;
        let is_recent = |at: &Instant| now.saturating_duration_since(*at) < REPEATED;
        if self.written.get(&key).is_some_and(is_recent) {
            return Err(Refusal::Repeated);
        }
        if self.left < 1.0 {
            return Err(Refusal::TooMany);
        }
        if self.written.len() >= REMEMBERED {
            self.written.retain(|_, at| is_recent(at));
        }
        self.left -= 1.0;
        self.written.insert(key, now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_equal_event_is_written_once_a_minute() {
        let now = Instant::now();
        let mut throttle = Throttle::new(now);
        let after = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(throttle.admit("a", now), Ok(()));
        assert_eq!(throttle.admit("b", after(1)), Ok(()));
        assert_eq!(throttle.admit("a", after(59)), Err(Refusal::Repeated));
        assert_eq!(throttle.admit("a", after(60)), Ok(()));
    }

    #[test]
    fn a_flood_of_different_events_is_written_in_part() {
        let now = Instant::now();
        let mut throttle = Throttle::new(now);
        let written = (0..10_000).filter(|number| throttle.admit(*number, now).is_ok());
        assert_eq!(written.count(), 50);
        let later = now + Duration::from_secs(3);
        let written = (10_000..20_000).filter(|number| throttle.admit(*number, later).is_ok());
        assert_eq!(written.count(), 3);
        let much_later = now + Duration::from_secs(3600);
        let written = (20_000..30_000).filter(|number| throttle.admit(*number, much_later).is_ok());
        assert_eq!(written.count(), 50);
        assert!(throttle.written.len() <= REMEMBERED);
    }
}
