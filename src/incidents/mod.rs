//! Asks incident trackers whether the incident that an emergency change names is open, and how severe it is.

use futures::future::BoxFuture;
use promotion_gate_core::gate::{Collected, Incident};
use tokio::time::Instant;

/// What can be asked about incidents: the incident checks that the operator configured.
pub trait Incidents: Send + Sync {
    /// Asks the incident check of this name about the incident `id`, at most until `deadline`.
    ///
    /// `Known(None)` says that the tracker answered and knows no such incident. A check that does not exist, an id that the check
    /// does not accept, and every trouble on the way is `Unavailable`, with the check, the host and the reason.
    fn ask<'a>(
        &'a self,
        check: &'a str,
        id: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Collected<Option<Incident>>>;
}
