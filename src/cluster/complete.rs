//! Live reads of objects that refer to others.

use std::ops::ControlFlow;

use promotion_gate_core::gate::{Change, ChangedObject, TrustedController, Unavailability};
use serde_json::Value;
use tokio::time::Instant;

use super::{Cluster, ObjectName, PATIENCE};
use crate::admission::{self, NotOurs, Referring};

/// Reads the objects that a change refers to.
///
/// # Errors
/// Why the change is not judged.
pub async fn complete(
    mut referring: Referring,
    cluster: Option<&Cluster>,
    trusted: &[TrustedController],
    deadline: Instant,
) -> Result<Change, NotOurs> {
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
        let read = self.running_object(name, deadline).await?;
        Ok(read.map(|(_, changed)| changed))
    }

    /// The same, together with the object.
    ///
    /// # Errors
    /// Why it could not be read before the deadline.
    pub async fn running_object(
        &self,
        name: &ObjectName,
        deadline: Instant,
    ) -> Result<Option<(Value, ChangedObject)>, Unavailability> {
        let Some(object) = self.read(name, deadline).await? else {
            return Ok(None);
        };
        let mut changed = admission::changed_object(&object);
        if let Some(referred) = admission::referred(&object) {
            let read = self.read(&ObjectName::from(&referred), deadline).await?;
            match read {
                Some(read) => admission::follow(&mut changed, &read),
                None => changed.template = None,
            }
        }
        Ok(Some((object, changed)))
    }

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
