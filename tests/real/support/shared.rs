//! Something started once for all tests that use it at the same time. Statics are never dropped,
//! so the last test that holds it stops it.

use std::sync::{Arc, Mutex, PoisonError, Weak};

pub struct Shared<T>(Mutex<Weak<T>>);

impl<T> Shared<T> {
    pub const fn new() -> Shared<T> {
        Shared(Mutex::new(Weak::new()))
    }

    pub fn join(&self, start: impl FnOnce() -> T) -> Arc<T> {
        // A failed start in another test leaves nothing half done in the weak reference.
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        current.upgrade().unwrap_or_else(|| {
            let started = Arc::new(start());
            *current = Arc::downgrade(&started);
            started
        })
    }
}
