//! What a review knows besides the images and what is attached to them. Parts of it change independently; one review sees one state.

use std::collections::BTreeMap;

use super::signer::TrustRoots;

/// What the operators configured, and what is known of the cluster. A part that a rule looks at is a field here, and `Collected`
/// where it can be unknown: a part that was never read is not an empty one.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The trust roots that policies name. A name that is missing here counts for no policy.
    pub trust_roots: TrustRoots,
    /// Labels of the namespaces that are known, by name.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
}
