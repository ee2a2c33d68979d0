//! Gauges of what only the replica with the Lease counts: without it they are 0, since another replica counts then.

use prometheus_client::metrics::gauge::Gauge;

/// Shows a count while this replica has the duties. It gets its last count back when it has them again.
pub(super) struct CountedUnderLease<'g> {
    gauge: &'g Gauge,
    has_duties: bool,
    put_aside: i64,
}

impl<'g> CountedUnderLease<'g> {
    pub(super) fn new(gauge: &'g Gauge) -> CountedUnderLease<'g> {
        CountedUnderLease {
            gauge,
            has_duties: false,
            put_aside: 0,
        }
    }

    /// Shows or hides the count, where this is another answer than before.
    pub(super) fn follow(&mut self, has_duties: bool) {
        if has_duties != self.has_duties {
            self.has_duties = has_duties;
            self.put_aside = self.gauge.set(self.put_aside);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_that_lost_the_lease_shows_zero_and_its_last_count_when_it_has_the_lease_again() {
        let gauge = Gauge::default();
        let mut counted = CountedUnderLease::new(&gauge);
        for (has_duties, shown) in [(false, 0), (true, 0)] {
            counted.follow(has_duties);
            assert_eq!(gauge.get(), shown);
        }
        gauge.set(7);
        for (has_duties, shown) in [(true, 7), (false, 0), (false, 0), (true, 7)] {
            counted.follow(has_duties);
            assert_eq!(gauge.get(), shown);
        }
    }
}
