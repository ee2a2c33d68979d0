//! One kind of document that decides: the current state of its source, and its last valid state.

use jiff::Timestamp;

/// A part of the snapshot.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// The last valid state; `None` if no state was valid yet.
    pub(super) last_valid: Option<LastValid>,
    /// Problems of the current state of the source; empty if it is valid.
    pub(super) problems: Vec<String>,
    /// The state that was last taken over or refused.
    observed: Option<String>,
    /// A new state that was seen once: the file may still be being written.
    pending: Option<String>,
}

/// A valid state, and when it came into force.
#[derive(Debug)]
pub(super) struct LastValid {
    pub(super) revision: String,
    pub(super) since: Timestamp,
}

impl Part {
    /// Whether a state is new and was the same at two polls. The first state counts at once.
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

    /// Whether a new state was seen once, and may still change.
    pub(super) fn is_unstable(&self) -> bool {
        self.pending.is_some()
    }

    /// Takes over a valid state. Returns whether it is new.
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
