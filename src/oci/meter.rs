//! Counts requests to registries, so that a log line and a test can say what a review cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

tokio::task_local! {
    static METER: Meter;
}

/// A count of requests.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<AtomicU64>);

impl Meter {
    /// The meter that the running task is under, if any. A spawned task is under none until it is put there with
    /// [`Meter::count`].
    pub fn current() -> Option<Meter> {
        METER.try_with(Meter::clone).ok()
    }

    /// Counts the requests that `work` makes.
    pub async fn count<F: Future>(self, work: F) -> F::Output {
        METER.scope(self, work).await
    }

    /// How many there were so far.
    pub fn requests(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs `work` and counts the requests that it makes.
pub async fn metered<F: Future>(work: F) -> (F::Output, u64) {
    let meter = Meter::default();
    let output = meter.clone().count(work).await;
    (output, meter.requests())
}

/// Notes one request on the meter of the running task.
pub(super) fn note() {
    if let Some(meter) = Meter::current() {
        meter.add();
    }
}
