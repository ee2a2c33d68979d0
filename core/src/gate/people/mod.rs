//! Who is who: people and automation with their identities, groups, and the times at which they are valid. Evidence names
//! identities; rules compare people.
//!
//! * `identity`: the kinds of identities, and the one rule that compares them
//! * `merge`: directories → [`People`], or what they contradict each other in
//! * `validity`: the period in which a person or a membership is valid

mod identity;
mod merge;
#[cfg(test)]
mod tests;
mod validity;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub use identity::{Account, Identity, PersonalIdentity, SourcePlatform};
pub use merge::{Contradiction, Directory, Group, Member, Place};
pub use validity::{Moment, Validity};

use crate::attest::{PublicKey, Signer};
use identity::{Name, Sameness, is_of_pipeline, same, same_certificate};

/// A name that is a DNS label: of a person, a group, automation or a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct DnsLabel(String);

/// A person of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The name in the directory, which denials and records show.
    pub name: String,
    /// The name for people to read.
    pub display_name: Option<String>,
    /// Sorted and without repetitions once directories are merged.
    pub identities: Vec<PersonalIdentity>,
    /// When the person counts.
    pub validity: Validity,
}

/// A bot or a service account: not a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Automation {
    /// The name in the directory.
    pub name: String,
    /// Sorted and without repetitions once directories are merged.
    pub identities: Vec<Identity>,
}

/// All directories together. Two values are equal if they hold the same, whatever the order in which it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct People {
    /// Sorted by name.
    people: Vec<Person>,
    /// Sorted by name.
    automation: Vec<Automation>,
    /// For each group, the periods of each member, by the member's index.
    groups: BTreeMap<String, BTreeMap<usize, Vec<Validity>>>,
    holders: HashMap<Name<'static>, Holder>,
}

/// The index of the person or automation that an identity belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Person(usize),
    Automation(usize),
}

/// Whose an identity is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// The identity is listed for this person.
    Person(&'a Person),
    /// The identity is listed for the automation of this name.
    Automation(&'a str),
    /// The identity is not listed, but may be this person's: it is another spelling of a listed one, or comes from another
    /// issuer. It proves nothing in favour of the person and may be held against them: as an author they are the same, and the
    /// identity fills no seat.
    Similar(&'a Person),
    /// The identity is not in the directory, or belongs to a pipeline.
    Unknown,
}

impl People {
    /// Whose an identity is.
    pub fn person_of(&self, identity: &Identity) -> Lookup<'_> {
        let is_same = |listed: &Identity| same(listed, identity);
        match identity {
            Identity::Certificate { name, .. } => self.find(Name::of_certificate(name), is_same),
            _ => self.find(identity.names(), is_same),
        }
    }

    /// Whose a verified signature is. A certificate of a pipeline is never a person's, whatever it names. A certificate that does not name
    /// its issuer belongs to no person.
    pub fn signer(&self, signer: &Signer) -> Lookup<'_> {
        let certificate = match signer {
            Signer::Key(key) => return self.person_of(&Identity::Key(key.clone())),
            Signer::Certificate(certificate) => certificate,
        };
        let (name, Some(issuer)) = (certificate.identity(), certificate.issuer()) else {
            return Lookup::Unknown;
        };
        let is_same = |listed: &Identity| same_certificate(listed, issuer, name);
        match self.find(Name::of_certificate(name), is_same) {
            Lookup::Person(_) | Lookup::Similar(_) if is_of_pipeline(certificate) => {
                Lookup::Unknown
            }
            found => found,
        }
    }

    fn find<'n>(
        &self,
        names: impl Iterator<Item = Name<'n>>,
        is_same: impl Fn(&Identity) -> Sameness,
    ) -> Lookup<'_> {
        let holders: &HashMap<Name<'n>, Holder> = &self.holders;
        let mut similar = Lookup::Unknown;
        for name in names {
            let Some(holder) = holders.get(&name) else {
                continue;
            };
            match (self.sameness(*holder, &is_same), holder) {
                (Sameness::Same, Holder::Person(at)) => {
                    return self.people.get(*at).map_or(Lookup::Unknown, Lookup::Person);
                }
                (Sameness::Same, Holder::Automation(at)) => {
                    let found = self.automation.get(*at);
                    return found.map_or(Lookup::Unknown, |found| Lookup::Automation(&found.name));
                }
                (Sameness::Similar, Holder::Person(at)) => {
                    similar = self.people.get(*at).map_or(similar, Lookup::Similar);
                }
                _ => {}
            }
        }
        similar
    }

    fn sameness(&self, holder: Holder, is_same: &impl Fn(&Identity) -> Sameness) -> Sameness {
        let best = |identities: &mut dyn Iterator<Item = &Identity>| {
            let each = identities.map(is_same);
            each.max().unwrap_or(Sameness::Different)
        };
        match holder {
            Holder::Person(at) => {
                let person = self.people.get(at).into_iter();
                best(&mut person.flat_map(Person::identities))
            }
            Holder::Automation(at) => {
                let automation = self.automation.get(at).into_iter();
                best(&mut automation.flat_map(|found| &found.identities))
            }
        }
    }

    /// The people, by name.
    pub fn people(&self) -> &[Person] {
        &self.people
    }

    /// Bots and service accounts, by name.
    pub fn automation(&self) -> &[Automation] {
        &self.automation
    }

    /// The person of this name.
    pub fn person(&self, name: &str) -> Option<&Person> {
        self.people.get(self.index(name)?)
    }

    fn index(&self, name: &str) -> Option<usize> {
        let by_name = |person: &Person| (*person.name).cmp(name);
        self.people.binary_search_by(by_name).ok()
    }

    /// The names of the groups.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.keys().map(String::as_str)
    }

    /// Whether a directory describes this group.
    pub fn group_exists(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }

    /// The members of a group at any time, each with the periods of the membership; empty for a group that does not exist.
    pub fn members(&self, group: &str) -> impl Iterator<Item = (&Person, &[Validity])> {
        let members = self.groups.get(group).into_iter().flatten();
        members.filter_map(|(at, periods)| Some((self.people.get(*at)?, periods.as_slice())))
    }

    /// The groups that somebody is in at any time, each with the periods of the membership.
    pub fn memberships(&self, person: &Person) -> impl Iterator<Item = (&str, &[Validity])> {
        let at = self.index(&person.name);
        self.groups.iter().filter_map(move |(group, members)| {
            Some((group.as_str(), members.get(&at?)?.as_slice()))
        })
    }

    /// For each group, the periods in which a person is in it.
    pub fn periods_of<'p>(&'p self, person: &Person) -> impl Fn(&str) -> &'p [Validity] + use<'p> {
        let at = self.index(&person.name);
        move |group| {
            let members = self.groups.get(group);
            let periods = members.and_then(|members| members.get(&at?));
            periods.map_or(&[], Vec::as_slice)
        }
    }

    /// Whether a person counts and is in a group at a time.
    pub fn is_member(&self, group: &str, person: &Person, at: jiff::Timestamp) -> bool {
        let mut periods = self.periods_of(person)(group).iter();
        person.is_active_at(at) && periods.any(|period| period.holds_at(at))
    }
}

impl Person {
    /// The identities.
    pub fn identities(&self) -> impl Iterator<Item = &Identity> {
        self.identities.iter().map(PersonalIdentity::identity)
    }

    /// The public keys.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<PublicKey>> {
        self.identities.iter().filter_map(PersonalIdentity::key)
    }

    /// Whether the person counts at a time.
    pub fn is_active_at(&self, at: jiff::Timestamp) -> bool {
        self.validity.holds_at(at)
    }
}

impl DnsLabel {
    /// The text.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl std::str::FromStr for DnsLabel {
    type Err = String;

    fn from_str(text: &str) -> Result<DnsLabel, String> {
        let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let fits = text.len() <= 63
            && text.starts_with(ends)
            && text.ends_with(ends)
            && text.chars().all(|c| ends(c) || c == '-');
        match fits {
            true => Ok(DnsLabel(text.to_owned())),
            false => Err(format!(
                "`{text:.80}` is not a name: expected at most 63 lower-case letters, digits and `-`, with a letter or a digit at both ends"
            )),
        }
    }
}

impl TryFrom<String> for DnsLabel {
    type Error = String;

    fn try_from(text: String) -> Result<DnsLabel, String> {
        text.parse()
    }
}

impl schemars::JsonSchema for DnsLabel {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DnsLabel".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "minLength": 1})
    }
}
