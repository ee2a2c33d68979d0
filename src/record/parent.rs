//! The object for which a trusted controller creates a Pod.

use promotion_gate_core::gate::{Change, Parent, Unavailability};
use tokio::time::Instant;

use super::ReleaseRecords;
use crate::admission;
use crate::cluster::ObjectName;

impl ReleaseRecords {
    /// The owner that the request names, as the cluster has it. `None` if there is no such object, if it was made anew, or if it is of
    /// a kind without images.
    ///
    /// # Errors
    /// Why it could not be read before the deadline.
    pub async fn parent(
        &self,
        change: &Change,
        deadline: Instant,
    ) -> Result<Option<Parent>, Unavailability> {
        let owner = change.object.owner.as_ref();
        // The version is that of the table: a request could name one that is not served.
        let version = owner.and_then(|owner| admission::version(&owner.group, &owner.kind));
        let (Some(owner), Some(version)) = (owner, version) else {
            return Ok(None);
        };
        let name = ObjectName {
            group: owner.group.clone(),
            version: version.to_owned(),
            kind: owner.kind.clone(),
            namespace: change.workload.namespace.clone(),
            name: owner.name.clone(),
        };
        let object = self.cluster.read(&name, deadline).await?;
        let parent = object.as_ref().and_then(admission::parent);
        Ok(parent.filter(|parent| parent.uid == owner.uid))
    }
}
