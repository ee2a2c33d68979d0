//! Directories → [`People`]. The order of directories and entries never matters; what contradicts itself is refused, with both
//! places.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::identity::Name;
use super::{Automation, Holder, Identity, People, Person, Validity};
use crate::documents::{Path, Step, nearest};

/// The most contradictions that are reported.
const MAXIMUM_CONTRADICTIONS: usize = 200;
/// The most periods of one membership.
const MAXIMUM_PERIODS: usize = 64;

/// One directory, each list in the order in which it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// People.
    pub people: Vec<Person>,
    /// Groups of people.
    pub groups: Vec<Group>,
    /// Bots and service accounts.
    pub automation: Vec<Automation>,
}

/// A group of people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The name of the group.
    pub name: String,
    /// Its members.
    pub members: Vec<Member>,
}

/// A membership in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The name of the person in the directory.
    pub person: String,
    /// When the person is a member.
    pub validity: Validity,
}

/// The place of an entry in one of several directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The index of the directory.
    pub directory: usize,
    /// The path below `spec`.
    pub path: Path,
}

/// What directories contradict each other, or themselves, in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// Where it was noticed.
    pub at: Place,
    /// The other place, if there are two.
    pub other: Option<Place>,
    /// What is wrong, and what to write.
    pub message: String,
    /// The known name that was probably meant.
    pub suggestion: Option<String>,
}

impl People {
    /// All directories as one.
    ///
    /// # Errors
    /// Everything that they contradict each other in.
    pub fn merge(directories: &[Directory]) -> Result<People, Vec<Contradiction>> {
        let mut merge = Merge::default();
        // 1. Each name is described once, or in the same way each time: otherwise the looser description could count.
        for (at, directory) in directories.iter().enumerate() {
            merge.describe(at, directory);
        }
        // 2. Each identity belongs to one holder: otherwise one human could fill the seats of two people, or hide behind
        // automation.
        let holders = merge.hold(directories);
        // 3. Members are people, and no two entries of one membership disagree: otherwise an end of it could be lost.
        for (at, directory) in directories.iter().enumerate() {
            merge.members(at, directory);
        }
        merge.contradictions.truncate(MAXIMUM_CONTRADICTIONS);
        if !merge.contradictions.is_empty() {
            return Err(merge.contradictions);
        }
        let mut people = People {
            holders,
            ..People::default()
        };
        for (_, described) in merge.described.into_values() {
            match described {
                Described::Person(person) => people.people.push(person),
                Described::Automation(automation) => people.automation.push(automation),
            }
        }
        let groups = merge.groups.into_iter().map(|(group, members)| {
            let members = members.into_iter();
            let by_index = members.filter_map(|(name, it)| Some((people.index(&name)?, it)));
            (group, by_index.collect())
        });
        people.groups = groups.collect();
        Ok(people)
    }
}

/// A person or automation as it is kept: identities sorted, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Described {
    Person(Person),
    Automation(Automation),
}

#[derive(Default)]
struct Merge {
    described: BTreeMap<String, (Place, Described)>,
    groups: BTreeMap<String, BTreeMap<String, Vec<Validity>>>,
    /// The places of the memberships, by group, person and period.
    memberships: HashMap<(String, String), Vec<(Validity, Place)>>,
    contradictions: Vec<Contradiction>,
}

impl Merge {
    fn describe(&mut self, at: usize, directory: &Directory) {
        let people = directory.people.iter().map(|person| {
            let all = person.identities.iter();
            let is_less = |own: &&super::PersonalIdentity| {
                let mut others = person.identities();
                others.any(|other| own.identity().is_less_than(other))
            };
            let identities: BTreeSet<_> = all.filter(|own| !is_less(own)).cloned().collect();
            Described::Person(Person {
                identities: identities.into_iter().collect(),
                ..person.clone()
            })
        });
        let automation = directory.automation.iter().map(|automation| {
            let all = automation.identities.iter();
            let is_less = |own: &&Identity| {
                let mut others = automation.identities.iter();
                others.any(|other| own.is_less_than(other))
            };
            let identities: BTreeSet<_> = all.filter(|own| !is_less(own)).cloned().collect();
            Described::Automation(Automation {
                identities: identities.into_iter().collect(),
                ..automation.clone()
            })
        });
        let people = people.enumerate().map(|entry| ("people", entry));
        let automation = automation.enumerate().map(|entry| ("automation", entry));
        for (list, (index, described)) in people.chain(automation) {
            let name = described.name().to_owned();
            let here = place(at, Path::default().key(list).index(index));
            match self.described.get(&name) {
                Some((_, first)) if *first == described => {}
                Some((other, first)) => {
                    let other = other.key("name");
                    let message = match (first, &described) {
                        (Described::Person(_), Described::Person(_))
                        | (Described::Automation(_), Described::Automation(_)) => format!(
                            "`{name}` is described in another way too; describe it once, with every identity"
                        ),
                        _ => format!("`{name}` names a person and automation; rename one of them"),
                    };
                    self.contradict(here.key("name"), Some(other), message);
                }
                None => {
                    self.described.insert(name, (here, described));
                }
            }
        }
    }

    fn hold(&mut self, directories: &[Directory]) -> HashMap<Name<'static>, Holder> {
        let mut holders: HashMap<Name<'static>, Holder> = HashMap::new();
        let mut listed: HashMap<Name<'_>, (&str, &Place, &Identity)> = HashMap::new();
        let mut contradictions = Vec::new();
        let (mut people, mut automation) = (0, 0);
        for (name, (here, described)) in &self.described {
            let holder = match described {
                Described::Person(_) => {
                    people += 1;
                    Holder::Person(people - 1)
                }
                Described::Automation(_) => {
                    automation += 1;
                    Holder::Automation(automation - 1)
                }
            };
            for identity in described.identities() {
                let mut refused = false;
                for key in identity.names() {
                    let entry = listed.entry(key.clone());
                    let (first, other, same) = *entry.or_insert((name, here, identity));
                    if first == name {
                        holders.insert(key.into_owned(), holder);
                    } else if !refused && contradictions.len() < MAXIMUM_CONTRADICTIONS {
                        refused = true;
                        let message = format!(
                            "{identity} of `{name}` belongs, as it is listed or in another spelling, to `{first}` too; an identity has one holder: remove it from one of them"
                        );
                        contradictions.push(Contradiction {
                            at: here.of(identity, directories),
                            other: Some(other.of(same, directories)),
                            message,
                            suggestion: None,
                        });
                    }
                }
            }
        }
        self.contradictions.append(&mut contradictions);
        holders
    }

    fn members(&mut self, at: usize, directory: &Directory) {
        for (index, group) in directory.groups.iter().enumerate() {
            let here = Path::default().key("groups").index(index).key("members");
            self.groups.entry(group.name.clone()).or_default();
            for (index, member) in group.members.iter().enumerate() {
                let here = place(at, here.index(index));
                self.member(&group.name, member, here);
            }
        }
    }

    fn member(&mut self, group: &str, Member { person, validity }: &Member, here: Place) {
        match self.described.get(person) {
            Some((_, Described::Person(_))) => {}
            Some((place, Described::Automation(_))) => {
                let other = Some(place.key("name"));
                let message = format!("`{person}` is automation, and only people are members");
                return self.contradict(here, other, message);
            }
            None if self.contradictions.len() >= MAXIMUM_CONTRADICTIONS => return,
            None => {
                let message = format!(
                    "no directory describes a person `{person}`; add the person, or remove the member"
                );
                self.contradict(here, None, message);
                let known = self.described.iter().filter_map(|(name, (_, described))| {
                    matches!(described, Described::Person(_)).then_some(name.as_str())
                });
                let suggestion = nearest(person, known);
                if let Some(last) = self.contradictions.last_mut() {
                    last.suggestion = suggestion;
                }
                return;
            }
        }
        let known = self
            .memberships
            .entry((group.to_owned(), person.clone()))
            .or_default();
        if known.iter().any(|(period, _)| period == validity) {
            return;
        }
        let overlap = known.iter().find(|(period, _)| period.overlaps(validity));
        if let Some((period, other)) = overlap {
            let message = format!(
                "the membership of `{person}` in `{group}` ({validity}) overlaps with another entry ({period}); write one entry"
            );
            let other = Some(other.clone());
            return self.contradict(here, other, message);
        }
        if known.len() >= MAXIMUM_PERIODS {
            let message =
                format!("`{person}` has more than {MAXIMUM_PERIODS} entries in `{group}`");
            return self.contradict(here, None, message);
        }
        known.push((*validity, here));
        let members = self.groups.entry(group.to_owned()).or_default();
        let periods = members.entry(person.clone()).or_default();
        periods.push(*validity);
        periods.sort();
    }

    fn contradict(&mut self, at: Place, other: Option<Place>, message: String) {
        if self.contradictions.len() < MAXIMUM_CONTRADICTIONS {
            self.contradictions.push(Contradiction {
                at,
                other,
                message,
                suggestion: None,
            });
        }
    }
}

impl Described {
    fn name(&self) -> &str {
        match self {
            Described::Person(person) => &person.name,
            Described::Automation(automation) => &automation.name,
        }
    }

    fn identities(&self) -> Vec<&Identity> {
        match self {
            Described::Person(person) => person.identities().collect(),
            Described::Automation(automation) => automation.identities.iter().collect(),
        }
    }
}

impl Place {
    fn key(&self, key: &str) -> Place {
        place(self.directory, self.path.key(key))
    }

    /// The place of an identity of the entry at this place.
    fn of(&self, identity: &Identity, directories: &[Directory]) -> Place {
        let find = |directory: &Directory| match self.path.steps() {
            [Step::Key(list), Step::Index(at)] if list == "people" => directory
                .people
                .get(*at)?
                .identities()
                .position(|own| own == identity),
            [_, Step::Index(at)] => {
                let identities = &directory.automation.get(*at)?.identities;
                identities.iter().position(|own| own == identity)
            }
            _ => None,
        };
        let index = directories.get(self.directory).and_then(find);
        let list = self.path.key("identities");
        place(
            self.directory,
            index.map_or(list.clone(), |index| list.index(index)),
        )
    }
}

fn place(directory: usize, path: Path) -> Place {
    Place { directory, path }
}
