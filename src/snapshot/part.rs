//! One kind of document that decides: what its source shows now, and the last valid state of it.

use jiff::Timestamp;

/// A part of the snapshot, as its source shows it.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// The last valid state; `None` while there never was one.
    pub(super) last_valid: Option<LastValid>,
    /// What is wrong with what the source shows now; empty where that is valid.
    pub(super) problems: Vec<String>,
    /// The state that was last taken over or refused.
    observed: Option<String>,
    /// Another state, seen once: a file may just be in the middle of being written.
    pending: Option<String>,
}

/// A valid state, and since when it is in force.
#[derive(Debug)]
pub(super) struct LastValid {
    pub(super) revision: String,
    pub(super) since: Timestamp,
}

impl Part {
    /// Whether a state is another one than before, and the same at two polls. The first one counts at once.
    pub(super) fn is_new_and_stable(&mut self, now: String) -> bool {
        if self.observed.as_ref() == Some(&now) {
            self.pending = None;
            return false;
        }
        if self.observed.is_some() && self.pending.as_ref() != Some(&now) {
            self.pending = Some(now);
            return false;
        }
        self.observed = Some(now);
        self.pending = None;
        true
    }

    /// Whether a new state was seen once, and may still be changing.
    pub(super) fn is_unstable(&self) -> bool {
        self.pending.is_some()
    }

    /// Takes a valid state over. Returns whether it is another one than before.
    pub(super) fn accept(&mut self, revision: String, now: Timestamp) -> bool {
        let is_new = (self.last_valid.as_ref()).is_none_or(|valid| valid.revision != revision);
        if is_new {
            self.last_valid = Some(LastValid {
                revision,
                since: now,
            });
        }
        is_new
    }
}
