//! Live reads of objects that refer to others.

use std::ops::ControlFlow;

use promotion_gate_core::gate::{Change, ChangedObject, TrustedController, Unavailability};
use tokio::time::Instant;

use super::{Cluster, ObjectName};
use crate::admission::{self, Referring};

/// Reads the objects that a change refers to.
pub async fn complete(
    mut referring: Referring,
    cluster: Option<&Cluster>,
    trusted: &[TrustedController],
    deadline: Instant,
) -> Change {
    let Some(cluster) = cluster else {
        return referring.complete_without_cluster(trusted);
    };
    loop {
        let object = ObjectName::from(referring.object());
        let read = cluster.read(&object, deadline).await;
        referring = match referring.complete(read) {
            ControlFlow::Break(change) => return change,
            ControlFlow::Continue(next) => next,
        };
    }
}

impl Cluster {
    /// What an object runs now, with the template that it refers to. `None` if it does not exist.
    ///
    /// # Errors
    /// Why it could not be read before the deadline.
    pub async fn changed_object(
        &self,
        name: &ObjectName,
        deadline: Instant,
    ) -> Result<Option<ChangedObject>, Unavailability> {
        let Some(object) = self.read(name, deadline).await? else {
            return Ok(None);
        };
        let mut changed = admission::changed_object(&object);
        if let Some(referred) = admission::referred(&object) {
            let read = self.read(&ObjectName::from(&referred), deadline).await?;
            changed.template = read.and_then(|read| admission::changed_object(&read).template);
        }
        Ok(Some(changed))
    }
}
