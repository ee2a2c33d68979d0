//! Fetches and verifications that several reviews wait for, each made once.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, WeakShared};

use crate::oci::Meter;
use crate::oci::meter::Askers;

/// Fetches under way. Each is made once, however many reviews wait for it, and is completed even if the review that began it
/// has run out of time.
pub(crate) struct SingleFlight<K, V> {
    underway: Underway<K, (Flight<V>, Askers)>,
}

/// The same for work that is cancelled when no review waits for it any more.
pub(super) struct SharedWork<K, V> {
    underway: Underway<K, (Weakly<V>, Askers)>,
}

type Underway<K, T> = Arc<Mutex<HashMap<K, T>>>;

/// `None` if the fetch panicked.
pub(crate) type Flight<V> = Shared<BoxFuture<'static, Option<V>>>;
type Weakly<V> = WeakShared<BoxFuture<'static, Option<V>>>;

impl<K, V> SingleFlight<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn new() -> SingleFlight<K, V> {
        SingleFlight {
            underway: Arc::default(),
        }
    }

    /// Joins the fetch for `key`; if none is under way, `fetch` begins it.
    pub(crate) fn join(&self, key: K, fetch: impl FnOnce() -> BoxFuture<'static, V>) -> Flight<V> {
        let mut underway = self.underway.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((flight, askers)) = underway.get(&key) {
            askers.join(Meter::current());
            return flight.clone();
        }
        let guard = FlightGuard {
            underway: Arc::clone(&self.underway),
            key: key.clone(),
        };
        // The review that begins a fetch is charged for it.
        let askers = Askers::of(Meter::current());
        let fetch = askers.clone().count(fetch());
        let task = tokio::spawn(async move {
            let _guard = guard;
            fetch.await
        });
        let flight = task.map(Result::ok).boxed().shared();
        underway.insert(key, (flight.clone(), askers));
        flight
    }
}

impl<K, V> SharedWork<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new() -> SharedWork<K, V> {
        SharedWork {
            underway: Arc::default(),
        }
    }

    /// Joins the work for `key`; if none is under way, `work` begins it.
    pub(super) fn join(
        &self,
        key: K,
        work: impl FnOnce() -> BoxFuture<'static, Option<V>>,
    ) -> Flight<V> {
        let mut underway = self.underway.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((share, askers)) = underway.get(&key)
            && let Some(share) = share.upgrade()
        {
            askers.join(Meter::current());
            return share;
        }
        let guard = FlightGuard {
            underway: Arc::clone(&self.underway),
            key: key.clone(),
        };
        let askers = Askers::of(Meter::current());
        let work = askers.clone().count(work());
        let work = async move {
            let _guard = guard;
            work.await
        };
        let share = work.boxed().shared();
        if let Some(weak) = share.downgrade() {
            underway.insert(key, (weak, askers));
        }
        share
    }
}

/// Removes a fetch from the list when it ends, also by a panic.
struct FlightGuard<K: Eq + Hash, T> {
    underway: Underway<K, T>,
    key: K,
}

impl<K: Eq + Hash, T> Drop for FlightGuard<K, T> {
    fn drop(&mut self) {
        self.underway
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.key);
    }
}
