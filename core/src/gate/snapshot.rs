//! The policies, and what is known of the cluster, as one immutable value: one review sees one world.

use super::policy::{Match, Policy};
use super::promotion::Change;
use super::world::World;

/// Everything that a review looks up instead of fetching. Swapped as a whole when something changes.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The policies, as last understood.
    pub policies: Vec<Policy>,
    /// Policies that exist but could not be read, with no good version before: they deny what they might govern.
    pub unreadable: Vec<Unreadable>,
    /// What is known besides the images.
    pub world: World,
    /// What becomes of a workload that no policy governs.
    pub ungoverned: Ungoverned,
    /// Names this state: a digest over the policies' bytes.
    pub revision: String,
}

/// A policy, or a folder of them, that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Where it stands.
    pub source: String,
    /// What is wrong with it.
    pub why: String,
}

/// What becomes of a workload that no policy governs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ungoverned {
    /// It is allowed, and recorded as ungoverned.
    #[default]
    Allow,
    /// It is denied.
    Deny,
}

/// The policies that govern a change.
#[derive(Debug)]
pub struct Governing<'a> {
    /// The policies, each with whether its match is certain.
    pub policies: Vec<(&'a Policy, Certainty)>,
    /// Policies that could not be read, and so might govern it.
    pub unreadable: &'a [Unreadable],
    /// What is known besides the images.
    pub world: &'a World,
    /// What becomes of the change where nothing governs it.
    pub ungoverned: Ungoverned,
    /// The revision of the snapshot that this is from.
    pub revision: &'a str,
}

/// Whether a policy is known to govern a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// It governs.
    Certain,
    /// It selects namespaces by labels, and the labels are not known: it is applied, and its denial says so.
    LabelsUnknown,
}

impl Snapshot {
    /// The policies that govern, or might govern, `change`. Never depends on fetched data.
    pub fn governing(&self, change: &Change) -> Governing<'_> {
        let labels = change
            .workload
            .namespace
            .as_ref()
            .and_then(|namespace| self.world.namespaces.get(namespace));
        let policies = self
            .policies
            .iter()
            .filter_map(|policy| match policy.governs(change, labels) {
                Match::Matches => Some((policy, Certainty::Certain)),
                Match::Unknown => Some((policy, Certainty::LabelsUnknown)),
                Match::DoesNotMatch => None,
            })
            .collect();
        Governing {
            policies,
            unreadable: &self.unreadable,
            world: &self.world,
            ungoverned: self.ungoverned,
            revision: &self.revision,
        }
    }
}

impl Governing<'_> {
    /// Whether nothing governs, for certain.
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty() && self.unreadable.is_empty()
    }
}
