//! What a review knows besides the images and their evidence. One review sees one state of it.

use std::collections::BTreeMap;

use super::signer::TrustRoots;

/// The operator's configuration and the state of the cluster, as far as rules and policies use them. A part is `Collected` where
/// it can be unknown: a part that was never read is not an empty one.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The trust roots by the names that policies use. Evidence under a name that is missing here does not count.
    pub trust_roots: TrustRoots,
    /// The labels of each known namespace, by the namespace's name.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
}
