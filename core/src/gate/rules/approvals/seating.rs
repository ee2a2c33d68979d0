//! The seats of the policy's `from`: who may fill them, and who fills them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::slice;
use std::sync::Arc;

use jiff::Timestamp;

use super::super::check::listed;
use super::excuse::{Excuse, Step};
use super::{Approvals, Approvers};
use crate::attest::PublicKey;
use crate::gate::people::{People, Person, Validity};
use crate::gate::seats::{Seats, fill};

/// An approval that counts.
pub(in crate::gate) struct Approval<'a> {
    /// The person's name in the directory.
    pub(in crate::gate) person: &'a str,
    /// The entries of `from` that the person may fill.
    pub(in crate::gate) seats: Vec<usize>,
    /// The latest verified time.
    pub(in crate::gate) latest: Timestamp,
}

/// Who fills the seats of each entry of `from`.
pub(in crate::gate) struct Seating<'a>(Vec<(&'a Approvers, Vec<&'a str>)>);

impl Seating<'_> {
    pub(in crate::gate) fn missing(&self) -> usize {
        let open = self
            .0
            .iter()
            .map(|(from, filled)| from.seats() - filled.len());
        open.sum()
    }

    /// The seat of each person who fills one: the group, or the person's own name.
    pub(in crate::gate) fn seats(&self) -> BTreeMap<String, String> {
        let each = self.0.iter().flat_map(|(from, filled)| {
            filled.iter().map(|name| {
                let seat = from.group.as_deref().unwrap_or(name);
                ((*name).to_owned(), seat.to_owned())
            })
        });
        each.collect()
    }

    /// The seats that are open, such as ``1 of group `security-team` ``.
    pub(in crate::gate) fn open(&self) -> String {
        let open = self
            .0
            .iter()
            .filter(|(from, filled)| filled.len() < from.seats());
        let open = open.map(|(from, filled)| from.asks_for(from.seats() - filled.len()));
        listed(open, 4)
    }

    pub(super) fn some_seated(&self) -> Option<String> {
        let any = self.0.iter().any(|(_, filled)| !filled.is_empty());
        any.then(|| self.seated())
    }

    /// The people who fill seats, each with the group, such as `` `alice` (security-team)``.
    pub(in crate::gate) fn seated(&self) -> String {
        let seated = self.0.iter().flat_map(|(from, filled)| {
            filled.iter().map(move |name| {
                fmt::from_fn(move |f| match &from.group {
                    Some(group) => write!(f, "`{name}` ({group})"),
                    None => write!(f, "`{name}`"),
                })
            })
        });
        listed(seated, 6)
    }
}

impl Approvals {
    /// Fills as many seats as possible.
    pub(super) fn take_seats<'a>(&'a self, approvals: &[&Approval<'a>]) -> Seating<'a> {
        Seating::of(&self.from, approvals)
    }
}

impl<'a> Seating<'a> {
    /// Fills as many seats as possible.
    pub(in crate::gate) fn of(from: &'a [Approvers], approvals: &[&Approval<'a>]) -> Seating<'a> {
        let mut names: Vec<_> = approvals.iter().map(|approval| approval.person).collect();
        names.sort_unstable();
        names.dedup();
        let seats = from.iter().map(|from| Seats {
            count: from.seats(),
            open_to: BTreeSet::new(),
        });
        let mut seats: Vec<_> = seats.collect();
        for approval in approvals {
            let number = names.partition_point(|name| *name < approval.person);
            for at in &approval.seats {
                if let Some(seats) = seats.get_mut(*at) {
                    seats.open_to.insert(number);
                }
            }
        }
        let filled = fill(&seats).into_iter().map(|filled| {
            let names = filled
                .into_iter()
                .filter_map(|number| names.get(number).copied());
            names.collect()
        });
        Seating(from.iter().zip(filled).collect())
    }
}

/// Checks what the schema of the seats cannot express.
///
/// # Errors
/// What is wrong, as a sentence.
pub(in crate::gate) fn validate_from(all: &[Approvers]) -> Result<(), String> {
    if all.is_empty() {
        return Err("`from` is empty, so nobody would have to approve".to_owned());
    }
    let mut seen = BTreeSet::new();
    for from in all {
        let name = match (&from.group, &from.person, from.count) {
            (Some(_), None, Some(0)) => {
                return Err("`count: 0` asks for nobody; the minimum is 1".to_owned());
            }
            (Some(_), None, Some(101..)) => {
                return Err("`count` is at most 100".to_owned());
            }
            (Some(group), None, _) => ("group", group),
            (None, Some(person), None) => ("person", person),
            (None, Some(_), Some(_)) => {
                return Err("`count` belongs to `group`; a person fills one seat".to_owned());
            }
            _ => return Err("expected exactly one of `group` and `person`".to_owned()),
        };
        if !seen.insert(name) {
            let (what, name) = name;
            return Err(format!(
                "`from` names the {what} `{name}` twice; write one entry"
            ));
        }
    }
    Ok(())
}

impl Approvers {
    /// When a person with these memberships may fill a seat.
    pub(in crate::gate) fn open_to<'p>(
        &self,
        person: &'p Person,
        periods_in: &impl Fn(&str) -> &'p [Validity],
    ) -> impl Fn(Timestamp) -> bool {
        let periods = match &self.group {
            Some(group) => periods_in(group),
            None if self.person.as_ref() == Some(&person.name) => slice::from_ref(&person.validity),
            None => &[],
        };
        move |at| person.is_active_at(at) && periods.iter().any(|period| period.holds_at(at))
    }

    /// The keys of everyone who may fill a seat at any time.
    pub(in crate::gate) fn keys(&self, people: &People) -> Vec<Arc<PublicKey>> {
        let members = self.group.iter().flat_map(|group| people.members(group));
        let members = members.map(|(person, _)| person);
        let named = self.person.as_deref().and_then(|name| people.person(name));
        members
            .chain(named)
            .flat_map(Person::keys)
            .map(Arc::clone)
            .collect()
    }

    /// The group or person, if the directory does not have it.
    pub(in crate::gate) fn unknown(&self, people: &People) -> Option<String> {
        match (&self.group, &self.person) {
            (Some(group), _) if !people.group_exists(group) => Some(format!("group `{group}`")),
            (None, Some(person)) if people.person(person).is_none() => {
                Some(format!("person `{person}`"))
            }
            _ => None,
        }
    }

    /// How many seats there are.
    pub(in crate::gate) fn seats(&self) -> usize {
        usize::try_from(self.count.unwrap_or(1)).unwrap_or(usize::MAX)
    }

    pub(in crate::gate) fn asks_for(&self, count: usize) -> String {
        match (&self.group, &self.person) {
            (Some(group), _) => format!("{count} of group `{group}`"),
            (None, person) => format!("`{}`", person.as_deref().unwrap_or_default()),
        }
    }
}

/// Whether a person may fill a seat at one of these times.
pub(in crate::gate) fn is_entitled(
    person: &Person,
    when: impl IntoIterator<Item = Timestamp>,
    from: &[Approvers],
    people: &People,
) -> bool {
    let when: Vec<_> = when.into_iter().collect();
    let periods_in = people.periods_of(person);
    let mut open = from.iter().map(|from| from.open_to(person, &periods_in));
    open.any(|is_open_at| when.iter().any(|at| is_open_at(*at)))
}

/// The entries of `from` that a person may fill at all of these times.
pub(in crate::gate) fn seats_of(
    person: &Person,
    when: [Timestamp; 3],
    from: &[Approvers],
    people: &People,
) -> Result<Vec<usize>, Excuse> {
    if !when.iter().all(|at| person.is_active_at(*at)) {
        let why = "the directory does not list the person as active, both at the time of the approval and now";
        return Err(Excuse::new(Step::Person, why));
    }
    let periods_in = people.periods_of(person);
    let entries = from.iter().enumerate();
    let open = entries.filter(|(_, from)| when.into_iter().all(from.open_to(person, &periods_in)));
    let seats: Vec<_> = open.map(|(at, _)| at).collect();
    if seats.is_empty() {
        let why = "the policy does not ask this person, or the person was not in the group at the time of the approval";
        return Err(Excuse::new(Step::Seat, why));
    }
    Ok(seats)
}
