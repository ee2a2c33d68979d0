//! Governors who are also approvers. A governor can change the policies, so a governor must not fill a seat of an approval or of an
//! emergency change.

use std::collections::BTreeSet;

use super::people::{Identity, Lookup, People, Person};
use super::policy::Policy;
use super::rules::{Approvals, Approvers, Requirement};
use super::world::Governors;

/// A governor who could fill a seat of an approval or of an emergency change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApprovingGovernor {
    /// The Kubernetes user, as the governors name it.
    pub user: String,
    /// The name in the people directory.
    pub person: String,
    /// The policy.
    pub policy: String,
    /// The seat: a group, or the person.
    pub seat: String,
}

impl Governors {
    /// The governors who, at any time, could fill a seat of an approval or of an emergency change. Groups of Kubernetes cannot be looked up.
    pub fn who_approve(&self, policies: &[Policy], people: &People) -> Vec<ApprovingGovernor> {
        let mut found = Vec::new();
        for user in &self.users {
            let identity = Identity::KubernetesUser(user.clone());
            let Lookup::Person(person) = people.person_of(&identity) else {
                continue;
            };
            for policy in policies {
                let of_approvals = policy.approvals().map(|rule| rule.from.as_slice());
                let of_emergencies = policy.emergency.iter().map(|it| it.from.as_slice());
                let seats = of_approvals.chain(of_emergencies);
                let seats = seats.filter_map(|from| seat(from, person, people));
                found.extend(seats.map(|seat| ApprovingGovernor {
                    user: user.clone(),
                    person: person.name.clone(),
                    policy: policy.name.clone(),
                    seat,
                }));
            }
        }
        found
    }
}

impl Policy {
    /// Whether the policy requires approvals.
    pub fn requires_approvals(&self) -> bool {
        self.approvals().next().is_some()
    }

    /// Whether the policy judges by OpenVEX documents.
    pub fn reads_vex(&self) -> bool {
        let mut requirements = self.requirements.iter();
        requirements.any(|named| match &named.requirement {
            Requirement::Vulnerabilities(rule) => rule.vex.is_some(),
            _ => false,
        })
    }

    /// The ages of scans that the policy bounds, as records name them.
    pub fn bounded_scan_ages(&self) -> BTreeSet<String> {
        let requirements = self.requirements.iter();
        let bounded = requirements.flat_map(|named| match &named.requirement {
            Requirement::Vulnerabilities(rule) => rule.bounded_ages(),
            _ => Vec::new(),
        });
        bounded.map(|age| age.judged_by(&self.name)).collect()
    }

    /// The requirements `approvals`.
    pub(super) fn approvals(&self) -> impl Iterator<Item = &Approvals> {
        let requirements = self.requirements.iter();
        requirements.filter_map(|named| match &named.requirement {
            Requirement::Approvals(rule) => Some(rule),
            _ => None,
        })
    }
}

/// The first seat that a person could fill.
fn seat(from: &[Approvers], person: &Person, people: &People) -> Option<String> {
    from.iter().find_map(|from| {
        if from.person.as_deref() == Some(&*person.name) {
            return Some("as the person".to_owned());
        }
        let group = from.group.as_deref()?;
        let mut groups = people.memberships(person);
        let is_member = groups.any(|(name, _)| name == group);
        is_member.then(|| format!("in the group `{group}`"))
    })
}
