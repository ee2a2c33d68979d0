//! The live reads that complete a change which refers to other objects.

use std::ops::ControlFlow;

use promotion_gate_core::gate::{Change, World};
use tokio::time::Instant;

use super::{Cluster, ObjectName};
use crate::admission::Referring;

/// Reads the objects that a change refers to.
pub async fn complete(
    mut referring: Referring,
    cluster: Option<&Cluster>,
    world: &World,
    deadline: Instant,
) -> Change {
    let Some(cluster) = cluster else {
        return referring.complete_without_cluster(&world.trusted_controllers);
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
