//! Who had a part in an emergency change, and so may not review it.

use std::collections::BTreeSet;

use crate::gate::people::{Identity, Lookup, People};

/// The people who had a part in an emergency change, by name in the people directory, so that a second identity of a person is the same
/// person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EmergencyParticipants {
    /// Who signed the declaration.
    pub declared_by: BTreeSet<String>,
    /// Who signed an agreement to it, also one that did not count.
    pub agreed_by: BTreeSet<String>,
    /// Who wrote the change, as far as that is known.
    pub authors: BTreeSet<String>,
    /// Who asked the cluster for the change.
    pub requesters: BTreeSet<String>,
}

impl EmergencyParticipants {
    /// Adds the Kubernetes user who asked for the change, if the directory lists the user for a person.
    pub fn add_requester(&mut self, user: &str, people: &People) {
        let identity = Identity::KubernetesUser(user.to_owned());
        if let Lookup::Person(person) | Lookup::Similar(person) = people.person_of(&identity) {
            self.requesters.insert(person.name.clone());
        }
    }

    /// Why a review by this person does not count; `None` if the person had no part in the emergency change.
    pub fn why_not_reviewer(&self, person: &str) -> Option<String> {
        let parts = [
            (&self.declared_by, "declared the emergency change"),
            (&self.agreed_by, "agreed to the emergency change"),
            (&self.authors, "is an author of the change"),
            (&self.requesters, "asked the cluster for the change"),
        ];
        let part = parts.iter().find(|(names, _)| names.contains(person));
        part.map(|(_, did)| {
            format!("`{person}` {did}, and a review is by a person who had no part in it")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reviewer_had_no_part_in_the_emergency_change() {
        let names = |name: &str| BTreeSet::from([name.to_owned()]);
        let participants = EmergencyParticipants {
            declared_by: names("ada"),
            agreed_by: names("ben"),
            authors: names("cleo"),
            requesters: names("dora"),
        };
        for (name, did) in [
            ("ada", "declared"),
            ("ben", "agreed"),
            ("cleo", "author"),
            ("dora", "asked"),
        ] {
            let why = participants.why_not_reviewer(name).unwrap();
            assert!(why.contains(did), "{why}");
        }
        assert_eq!(participants.why_not_reviewer("eve"), None);
    }
}
