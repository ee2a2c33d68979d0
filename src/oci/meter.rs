//! Counts what a review costs: requests to registries and work of this process. The log shows the count, and scarce resources
//! are shared fairly between reviews by it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

tokio::task_local! {
    static ASKERS: Askers;
}

/// The costs of one review so far.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<Costs>);

#[derive(Debug, Default)]
struct Costs {
    requests: AtomicU64,
    /// Bytes that were parsed, hashed or verified.
    work: AtomicU64,
    /// Whether the review was answered.
    over: AtomicBool,
}

impl Meter {
    /// The meter of the running task, if any. A spawned task has none until it runs under [`Meter::count`].
    pub fn current() -> Option<Meter> {
        Askers::current().members().first().cloned()
    }

    /// Runs a review, and counts the requests that it makes.
    pub async fn count<F: Future>(self, review: F) -> F::Output {
        struct Over(Meter);
        impl Drop for Over {
            fn drop(&mut self) {
                self.0.0.over.store(true, Ordering::Relaxed);
            }
        }
        let _over = Over(self.clone());
        Askers::of(Some(self)).count(review).await
    }

    /// The number of requests to registries so far.
    pub fn requests(&self) -> u64 {
        self.0.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn work(&self) -> u64 {
        self.0.work.load(Ordering::Relaxed)
    }

    pub(crate) fn add_work(&self, bytes: u64) {
        self.0.work.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Identifies a review as long as it lasts. All work that continues after its review was answered shares one id.
    pub(crate) fn id(&self) -> usize {
        if self.is_over() {
            return NO_REVIEW;
        }
        Arc::as_ptr(&self.0).addr()
    }

    fn is_over(&self) -> bool {
        self.0.over.load(Ordering::Relaxed)
    }
}

/// The id of work that no unanswered review waits for.
pub(crate) const NO_REVIEW: usize = 0;

/// The reviews that wait for one piece of work: the review that began it, and those that joined.
#[derive(Clone, Debug, Default)]
pub(crate) struct Askers(Arc<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    members: Mutex<Vec<Meter>>,
    joined: Notify,
}

/// The most reviews that are kept for one piece of work; more of them would not change its turn.
const MEMBERS: usize = 16;

impl Askers {
    pub(crate) fn of(meter: Option<Meter>) -> Askers {
        let askers = Askers::default();
        askers.members().extend(meter);
        askers
    }

    /// The reviews that wait for the running task.
    pub(crate) fn current() -> Askers {
        ASKERS.try_with(Askers::clone).unwrap_or_default()
    }

    /// Runs `work` for these reviews. The first one is charged for its requests.
    pub(crate) async fn count<F: Future>(self, work: F) -> F::Output {
        ASKERS.scope(self, work).await
    }

    /// Adds a review that waits.
    pub(crate) fn join(&self, meter: Option<Meter>) {
        let Some(meter) = meter else { return };
        let mut members = self.members();
        members.retain(|member| !member.is_over());
        if members.len() < MEMBERS && members.iter().all(|member| member.id() != meter.id()) {
            members.push(meter);
            drop(members);
            self.0.joined.notify_waiters();
        }
    }

    /// Resolves when a review joins after this call.
    pub(crate) fn joined(&self) -> Notified<'_> {
        self.0.joined.notified()
    }

    pub(crate) fn members(&self) -> MutexGuard<'_, Vec<Meter>> {
        self.0
            .members
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs `work` and counts the requests that it makes.
pub async fn metered<F: Future>(work: F) -> (F::Output, u64) {
    let meter = Meter::default();
    let output = meter.clone().count(work).await;
    (output, meter.requests())
}

/// Counts one request for the running task.
pub(super) fn note() {
    if let Some(meter) = Meter::current() {
        meter.0.requests.fetch_add(1, Ordering::Relaxed);
    }
}
