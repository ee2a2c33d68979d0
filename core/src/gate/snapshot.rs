//! The policies and the state of the cluster as one immutable value, so that one review sees one state.

use super::policy::{Match, NamespaceMatch, Policy};
use super::promotion::Change;
use super::world::World;

/// Everything that a review reads from memory. A change of any part replaces the whole snapshot.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The policies, each in its last valid version.
    pub policies: Vec<Policy>,
    /// Policies that could not be read and have no earlier valid version. They deny every object that they may govern.
    pub unreadable: Vec<Unreadable>,
    /// The trust roots and what is known about the cluster.
    pub world: World,
    /// The decision for a workload that no policy governs.
    pub ungoverned: Ungoverned,
    /// The identifier of this state: a digest over the bytes of each of its parts.
    pub revision: String,
}

/// A policy, or a folder of them, that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The file or resource that could not be read.
    pub source: String,
    /// Why it could not be read.
    pub why: String,
    /// The namespaces that it may govern.
    pub namespaces: NamespaceMatch,
}

/// The decision for a workload that no policy governs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ungoverned {
    /// Allow the workload, and record it as ungoverned.
    #[default]
    Allow,
    /// Deny the workload.
    Deny,
}

/// The policies that govern a change.
#[derive(Debug)]
pub struct Governing<'a> {
    /// The policies, each with whether its match is certain.
    pub policies: Vec<(&'a Policy, Certainty)>,
    /// Policies that could not be read, and that may govern the change.
    pub unreadable: Vec<&'a Unreadable>,
    /// The trust roots and what is known about the cluster.
    pub world: &'a World,
    /// The decision if no policy governs the change.
    pub ungoverned: Ungoverned,
    /// The revision of the snapshot.
    pub revision: &'a str,
}

/// Whether a policy is known to govern a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// The policy governs.
    Certain,
    /// The policy selects namespaces by label, and the labels are not known. The policy is applied, and a denial says so.
    LabelsUnknown,
}

impl Snapshot {
    /// The policies that govern or may govern `change`. The result does not depend on fetched data.
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
        let may_govern = |unreadable: &&Unreadable| {
            let matched = unreadable.namespaces.governs(change, labels);
            matched != Match::DoesNotMatch
        };
        Governing {
            policies,
            unreadable: self.unreadable.iter().filter(may_govern).collect(),
            world: &self.world,
            ungoverned: self.ungoverned,
            revision: &self.revision,
        }
    }
}

impl Governing<'_> {
    /// Whether it is certain that no policy governs.
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty() && self.unreadable.is_empty()
    }

    /// Whether some policies might govern, and none certainly does.
    pub(super) fn only_might_govern(&self) -> bool {
        let is_uncertain = |(_, certainty): &(_, Certainty)| *certainty == Certainty::LabelsUnknown;
        self.unreadable.is_empty()
            && !self.policies.is_empty()
            && self.policies.iter().all(is_uncertain)
    }
}
