//! Who asks: counts what a review costs registries and this process, so that a log line can say it and scarce things are
//! shared fairly between reviews.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

tokio::task_local! {
    static ASKERS: Askers;
}

/// What one review has cost so far.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<Costs>);

#[derive(Debug, Default)]
struct Costs {
    requests: AtomicU64,
    /// Bytes that were parsed, hashed or verified.
    work: AtomicU64,
    /// The review was answered.
    over: AtomicBool,
}

impl Meter {
    /// The meter that the running task is under, if any. A spawned task is under none until it is put there with
    /// [`Meter::count`].
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

    /// How many requests to registries there were so far.
    pub fn requests(&self) -> u64 {
        self.0.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn work(&self) -> u64 {
        self.0.work.load(Ordering::Relaxed)
    }

    pub(crate) fn add_work(&self, bytes: u64) {
        self.0.work.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Tells reviews apart while they last. Everything that goes on after its review was answered counts as one more review.
    pub(crate) fn id(&self) -> usize {
        if self.is_over() {
            return NOBODY;
        }
        Arc::as_ptr(&self.0).addr()
    }

    fn is_over(&self) -> bool {
        self.0.over.load(Ordering::Relaxed)
    }
}

/// The id of who asks on behalf of no review that lasts.
pub(crate) const NOBODY: usize = 0;

/// The reviews that wait for one piece of work: the one that began it, and those that joined.
#[derive(Clone, Debug, Default)]
pub(crate) struct Askers(Arc<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    members: Mutex<Vec<Meter>>,
    joined: Notify,
}

/// Reviews that are remembered as waiting for the same; more of them change nobody's turn.
const MEMBERS: usize = 16;

impl Askers {
    pub(crate) fn of(meter: Option<Meter>) -> Askers {
        let askers = Askers::default();
        askers.members().extend(meter);
        askers
    }

    /// Who waits for the running task.
    pub(crate) fn current() -> Askers {
        ASKERS.try_with(Askers::clone).unwrap_or_default()
    }

    /// Lets `work` be done for them. The first of them is charged for its requests.
    pub(crate) async fn count<F: Future>(self, work: F) -> F::Output {
        ASKERS.scope(self, work).await
    }

    /// One more review waits.
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

    /// Resolves when a review joins after this was called.
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

/// Notes one request on the meter of the running task.
pub(super) fn note() {
    if let Some(meter) = Meter::current() {
        meter.0.requests.fetch_add(1, Ordering::Relaxed);
    }
}
