//! What a review knows besides the images and their evidence. One review sees one state of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::evidence::{Collected, Unavailability};
use super::people::People;
use super::schedule::Schedule;
use super::signer::TrustRoots;

/// The operator's configuration and the state of the cluster, as far as rules and policies use them. A part is `Collected` where
/// it can be unknown: a part that was never read is not an empty one.
#[derive(Clone, Debug)]
pub struct World {
    /// The trust roots by the names that policies use. Evidence under a name that is missing here does not count.
    pub trust_roots: TrustRoots,
    /// The labels of each known namespace, by the namespace's name.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// Who is who, from all people directories together.
    pub people: Collected<Arc<People>>,
    /// When changes have to wait, from all change freezes together.
    pub freezes: Collected<Arc<Schedule>>,
    /// The name of the cluster, which approvals can be limited to.
    pub cluster: Collected<String>,
    /// The UID of the cluster's namespace `kube-system`, which approvals can be limited to.
    pub cluster_uid: Collected<String>,
}

impl Default for World {
    fn default() -> World {
        let missing = |why: &str| Unavailability(why.to_owned());
        World {
            trust_roots: TrustRoots::new(),
            namespaces: BTreeMap::new(),
            people: Collected::Unavailable(missing(
                "no people directory is configured; add a `PeopleDirectory` beside the policies",
            )),
            freezes: Collected::Unavailable(missing("the change freezes were not read")),
            cluster: Collected::Unavailable(missing(
                "the cluster has no name; set `cluster` in the configuration",
            )),
            cluster_uid: Collected::Unavailable(missing(
                "the cluster's UID is not known; set `clusterUid` in the configuration",
            )),
        }
    }
}
