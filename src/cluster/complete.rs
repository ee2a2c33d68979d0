//! The live reads that complete a change which refers to other objects.

use std::ops::ControlFlow;

use promotion_gate_core::gate::{Change, World};
use serde_json::Value;
use tokio::time::Instant;

use super::{Cluster, ObjectName, PATIENCE};
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

impl Cluster {
    /// The workload that a Rollout refers to; `namespace` is that of an object that names none. `None` if it cannot be read: a review
    /// says so.
    pub async fn referred(&self, object: &Value, namespace: Option<&str>) -> Option<Value> {
        let reference = object
            .pointer("/spec/workloadRef")
            .filter(|it| it.is_object())?;
        let text = |value: &Value, field: &str| value.pointer(field)?.as_str().map(str::to_owned);
        let version = text(reference, "/apiVersion")?;
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        let own = text(object, "/metadata/namespace");
        let name = ObjectName {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: text(reference, "/kind")?,
            namespace: own.or_else(|| namespace.map(str::to_owned)),
            name: text(reference, "/name")?,
        };
        let deadline = Instant::now() + PATIENCE;
        self.read(&name, deadline).await.ok().flatten()
    }
}
