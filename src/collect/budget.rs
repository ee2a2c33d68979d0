//! How much one review reads: junk evidence of any kind cannot cost more than this.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use promotion_gate_core::gate::Unavailability;
use tokio::time::Instant;

/// How much is read about one image, and by one review.
#[derive(Clone, Copy, Debug)]
pub struct CollectLimits {
    /// Manifests attached to one image that are read; further ones are not read, and that is reported.
    pub manifests: usize,
    /// Layers of one such manifest that are read.
    pub layers: usize,
    /// Bytes of one piece of evidence.
    pub material_bytes: u64,
    /// Manifests and layers that one review reads; further ones are not read, and that is reported.
    pub review_pieces: u64,
    /// Bytes that one review fetches and verifies.
    pub review_bytes: u64,
    /// Verifications of one review: each piece counts once for each trust root, and once for every 16 keys.
    pub review_verifications: u64,
    /// Images that are read at one time, in the whole process. One review or host never holds more of these places than stay
    /// free.
    pub images: usize,
    /// How long a listing is used without asking again where unseen evidence could hurt, and for a denial that only warns or
    /// audits.
    pub recent: Duration,
}

impl Default for CollectLimits {
    fn default() -> CollectLimits {
        CollectLimits {
            manifests: 256,
            layers: 32,
            material_bytes: 16 << 20,
            review_pieces: 8448,
            review_bytes: 256 << 20,
            review_verifications: 8448,
            images: 256,
            recent: Duration::from_secs(60),
        }
    }
}

/// What one review may still read.
#[derive(Debug)]
pub struct Allowance {
    pub(super) deadline: Instant,
    pub(super) left: Amounts,
}

impl Allowance {
    pub(super) fn new(limits: &CollectLimits, deadline: Instant) -> Allowance {
        Allowance {
            deadline,
            left: Amounts {
                pieces: limits.review_pieces,
                bytes: limits.review_bytes,
                verifications: limits.review_verifications,
            },
        }
    }
}

/// The cost of reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amounts {
    /// Manifests and layers that are read.
    pub(super) pieces: u64,
    /// Bytes that are fetched, and bytes that are verified, counted for each anchor.
    pub(super) bytes: u64,
    /// Verifications, counted for each anchor.
    pub(super) verifications: u64,
}

impl Amounts {
    fn each(self, other: Amounts, with: impl Fn(u64, u64) -> Option<u64>) -> Option<Amounts> {
        Some(Amounts {
            pieces: with(self.pieces, other.pieces)?,
            bytes: with(self.bytes, other.bytes)?,
            verifications: with(self.verifications, other.verifications)?,
        })
    }

    pub(super) fn less(self, other: Amounts) -> Amounts {
        let less = self.each(other, |a, b| Some(a.saturating_sub(b)));
        less.unwrap_or_default()
    }

    pub(super) fn over(self, parts: usize) -> Amounts {
        let parts = u64::try_from(parts.max(1)).unwrap_or(u64::MAX);
        let over = self.each(self, |a, _| a.checked_div(parts));
        over.unwrap_or_default()
    }
}

/// The part of one image.
#[derive(Debug)]
pub(super) struct Budget {
    given: Amounts,
    state: Mutex<(Amounts, bool)>,
}

impl Budget {
    pub(super) fn of(given: Amounts) -> Budget {
        Budget {
            given,
            state: Mutex::new((given, false)),
        }
    }

    /// Takes `amounts` if that much is left. Returns whether it was.
    pub(super) fn take(&self, amounts: Amounts) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.0.each(amounts, u64::checked_sub) {
            Some(left) => {
                state.0 = left;
                true
            }
            None => {
                state.1 = true;
                false
            }
        }
    }

    pub(super) fn spent(&self) -> Amounts {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.given.less(state.0)
    }

    /// Whether a request for more was refused.
    pub(super) fn was_short(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

/// The first few unavailabilities in sorted order, and the number of others.
#[derive(Debug, Default)]
pub(super) struct Unavailabilities {
    some: BTreeSet<Unavailability>,
    more: usize,
}

/// The most unavailabilities that are kept.
const MOST: usize = 8;

impl Unavailabilities {
    pub(super) fn add(&mut self, unavailability: Unavailability) {
        self.some.insert(unavailability);
        if self.some.len() > MOST {
            self.some.pop_last();
            self.more += 1;
        }
    }

    pub(super) fn extend(&mut self, unavailabilities: impl IntoIterator<Item = Unavailability>) {
        for unavailability in unavailabilities {
            self.add(unavailability);
        }
    }

    pub(super) fn merge(&mut self, other: Unavailabilities) {
        self.extend(other.some);
        self.more += other.more;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.some.is_empty()
    }

    pub(super) fn into_vec(self) -> Vec<Unavailability> {
        let more = (self.more > 0).then(|| Unavailability(format!("… and {} more", self.more)));
        self.some.into_iter().chain(more).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_thousand_troubles_are_a_few_and_a_count() {
        let mut unavailabilities = Unavailabilities::default();
        unavailabilities.extend(
            (0..4103)
                .rev()
                .map(|n| Unavailability(format!("unavailability {n:04}"))),
        );
        unavailabilities.add(Unavailability("unavailability 0000".to_owned()));
        let said = unavailabilities.into_vec();
        assert_eq!(said.len(), 9);
        assert_eq!(said[0].0, "unavailability 0000");
        assert_eq!(said[8].0, "… and 4095 more");
    }

    #[test]
    fn a_budget_gives_what_is_in_it_and_nothing_in_part() {
        let amounts = |pieces, bytes, verifications| Amounts {
            pieces,
            bytes,
            verifications,
        };
        let budget = Budget::of(amounts(10, 100, 3));
        assert!(budget.take(amounts(1, 60, 2)));
        assert!(!budget.was_short());
        assert!(!budget.take(amounts(1, 60, 1)));
        assert!(budget.was_short());
        assert!(budget.take(amounts(1, 40, 1)));
        assert_eq!(budget.spent(), amounts(2, 100, 3));
        assert_eq!(amounts(9, 10, 1).over(2), amounts(4, 5, 0));
        assert_eq!(amounts(9, 10, 1).less(budget.spent()), amounts(7, 0, 0));
    }
}
