//! Everything that people signed about a declared emergency change, and whether it counts, for people who declare, agree, end and review.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::decide::Denied;
use super::participants::EmergencyParticipants;
use super::reasons::{EMERGENCY_CLOSED, EMERGENCY_EXPIRED};
use super::signed::{About, SignedWords, WITH_UNKNOWN_AUTHOR};
use super::used::EmergencyUse;
use crate::attest::VerifiedStatement;
use crate::attest::predicate::{
    self, ApprovalDecision, EmergencyChange, EmergencyReview, Predicate, ReviewVerdict,
};
use crate::gate::evidence::{ImageEvidence, Subject};
use crate::gate::image::Digest;
use crate::gate::people::{Identity, People, Person};
use crate::gate::rules::{
    Approval, Approver, AuthorAction, Seating, found_person, people_of, person, seats_of,
    verified_times, witnesses,
};

/// The most people that are named for the open seats.
const NAMED: usize = 20;

/// A declaration of an emergency change under one policy.
#[derive(Clone, Debug)]
pub struct ListedDeclaration {
    /// The digest of its statement.
    pub declaration: Digest,
    /// What it says.
    pub said: EmergencyChange,
    /// The images that it is attached to.
    pub images: BTreeSet<Subject>,
    /// Why it counts no longer, if it expired or was closed.
    pub ended: Option<String>,
    /// Everything that was signed about it, oldest first.
    pub statements: Vec<EmergencyStatement>,
    /// Who still has to agree.
    pub open: OpenSeats,
    /// Who had a part in it.
    pub participants: EmergencyParticipants,
    /// What it is used for, if it lets the change pass now.
    ///
    /// # Errors
    /// The id of the reason, and the reason in words.
    pub result: Result<EmergencyUse, (&'static str, String)>,
    /// What the person who is about to sign could do.
    pub own: Option<OwnWord>,
}

/// A statement about a declared emergency change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmergencyStatement {
    /// What it says.
    pub word: EmergencyWord,
    /// The person in the people directory.
    pub person: Option<String>,
    /// The certificate's identity, or the key.
    pub signer: String,
    /// The latest verified time of the signature.
    pub at: Option<Timestamp>,
    /// The earliest verified time of the signature: a review that was signed before the last use is not a review of that.
    pub earliest: Option<Timestamp>,
    /// Why, for people.
    pub reason: Option<String>,
    /// The seat that the person fills, if it counts and fills one.
    ///
    /// # Errors
    /// Why it does not count.
    pub counts: Result<Option<String>, String>,
}

/// What a statement says about an emergency change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EmergencyWord {
    /// It declares it.
    Declared,
    /// It agrees to it.
    Agreed,
    /// It rejects it.
    Rejected,
    /// It ends it.
    Closed,
    /// It reviews it, with the things that have to be done.
    Reviewed(ReviewVerdict, Vec<String>),
}

/// The seats that are not filled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenSeats {
    /// In words; empty if all are filled.
    pub open: String,
    /// The people who may fill one, by name in the people directory.
    pub may_agree: Vec<String>,
}

/// What a person could do about an emergency change by signing now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnWord {
    /// The person in the people directory.
    ///
    /// # Errors
    /// Why no signature of this signer counts.
    pub person: Result<String, String>,
    /// The seat that the person would fill, in words.
    ///
    /// # Errors
    /// Why none.
    pub seat: Result<String, String>,
    /// The seats that would be open then.
    pub open: OpenSeats,
    /// Whether the person may end it.
    pub may_close: bool,
}

/// The seats of a policy, and who may fill them.
struct SeatsOf<'a> {
    denied: &'a Denied<'a>,
    people: &'a People,
    authors: BTreeMap<&'a str, AuthorAction>,
    has_unknown_author: bool,
}

/// What the person who is about to sign could do, where nothing was declared yet.
pub(super) fn own_word(denied: &Denied<'_>, by: &Approver) -> OwnWord {
    SeatsOf::new(denied).map_or_else(
        |why| OwnWord {
            person: Err(why.clone()),
            seat: Err(why),
            open: OpenSeats::default(),
            may_close: false,
        },
        |seats| seats.own(by, &[]),
    )
}

/// Everything that was signed about a declaration.
pub(super) fn listed_declaration(
    denied: &Denied<'_>,
    id: Digest,
    by: Option<&Approver>,
) -> Option<ListedDeclaration> {
    let seats = SeatsOf::new(denied).ok()?;
    let nothing = ImageEvidence::default();
    let words: Vec<_> = denied
        .images
        .iter()
        .map(|(check, authors)| SignedWords {
            section: denied.section,
            check,
            evidence: check.evidence.value().copied().unwrap_or(&nothing),
            people: seats.people,
            authors,
        })
        .collect();
    let said = words.iter().find_map(|words| words.said(&id))?.clone();
    // Only who agreed for every image counts.
    let votes: Vec<_> = words.iter().map(|words| words.votes_of(&id)).collect();
    let is_everywhere = |name: &str| {
        let mut each = votes.iter();
        each.all(|votes| votes.counted.iter().any(|it| it.person == name))
    };
    let first = votes.first().into_iter().flat_map(|votes| &votes.counted);
    let counted: Vec<_> = first.filter(|it| is_everywhere(it.person)).collect();
    let seated = Seating::of(&denied.section.from, &counted).seats();
    let excuses: BTreeMap<_, _> = votes.iter().flat_map(|votes| &votes.excuses).collect();
    let mut participants = EmergencyParticipants {
        authors: seats.authors.keys().map(|it| (*it).to_owned()).collect(),
        ..EmergencyParticipants::default()
    };
    if let Some(actor) = &denied.promotion.change.actor {
        participants.add_requester(&actor.username, seats.people);
    }
    let found = Found::of(&words, &id);
    for (statement, said) in &found.statements {
        let Ok(person) = person(statement.signer(), seats.people) else {
            continue;
        };
        let names = match said {
            Said::Declared(_) => &mut participants.declared_by,
            Said::Agreed(_) => &mut participants.agreed_by,
            _ => continue,
        };
        names.insert(person.name.clone());
    }
    let mut statements: Vec<_> = found
        .statements
        .iter()
        .filter_map(|(statement, said)| {
            let words = words
                .iter()
                .find(|it| it.accepted().any(|it| it.digest() == statement.digest()))?;
            let seat = |person: &str| seated.get(person).cloned();
            let excuse = |person: &str| excuses.get(&format!("`{person}`")).map(|it| (*it).clone());
            Some(listed_statement(
                words,
                (statement, said),
                &id,
                &participants,
                (&seat, &excuse),
            ))
        })
        .collect();
    statements.sort_by(|a, b| (a.at, &a.signer).cmp(&(b.at, &b.signer)));
    statements.dedup();
    let ended = words.iter().find_map(|words| words.ended(&id));
    let result = denied.judge(&id, &mut BTreeSet::new());
    Some(ListedDeclaration {
        open: seats.open(&counted),
        own: by.map(|by| OwnWord {
            may_close: words.iter().any(|it| it.may_close_now(&id, &by.identity)),
            ..seats.own(by, &counted)
        }),
        declaration: id,
        said,
        images: found.images,
        ended,
        statements,
        participants,
        result: result.map_err(|why| (why.reason.id, why.detail)),
    })
}

/// What a statement about a declaration says.
enum Said<'a> {
    Declared(&'a EmergencyChange),
    Agreed(&'a predicate::Approval),
    Rejected(&'a predicate::Approval),
    Closed(Option<&'a str>),
    Reviewed(&'a EmergencyReview),
}

/// The statements about a declaration.
struct Found<'a> {
    statements: Vec<(&'a VerifiedStatement, Said<'a>)>,
    images: BTreeSet<Subject>,
}

impl<'a> Found<'a> {
    fn of(all: &[SignedWords<'a>], id: &Digest) -> Found<'a> {
        let mut found = Found {
            statements: Vec::new(),
            images: BTreeSet::new(),
        };
        let mut seen = BTreeSet::new();
        for words in all {
            for statement in words.accepted() {
                let said = match statement.predicate() {
                    Predicate::EmergencyChange(said) if statement.digest() == id => {
                        found.images.extend(words.check.subject.cloned());
                        Said::Declared(said)
                    }
                    Predicate::Approval(said) if said.emergency.as_ref() == Some(id) => {
                        match said.decision {
                            ApprovalDecision::Approved => Said::Agreed(said),
                            ApprovalDecision::Rejected => Said::Rejected(said),
                        }
                    }
                    Predicate::EmergencyClosure(said) if said.emergency == *id => {
                        Said::Closed(said.reason.as_deref())
                    }
                    Predicate::EmergencyReview(said) if said.emergency == *id => {
                        Said::Reviewed(said)
                    }
                    _ => continue,
                };
                // One signature that is attached to several images is one statement.
                if seen.insert((statement.digest(), statement.signer().name())) {
                    found.statements.push((statement, said));
                }
            }
        }
        found
    }
}

/// The name of a person → what there is to say of that person.
type OfPerson<'a> = &'a dyn Fn(&str) -> Option<String>;

fn listed_statement(
    words: &SignedWords<'_>,
    (statement, said): (&VerifiedStatement, &Said<'_>),
    id: &Digest,
    participants: &EmergencyParticipants,
    (seat, excuse): (OfPerson<'_>, OfPerson<'_>),
) -> EmergencyStatement {
    let by = person(statement.signer(), words.people);
    let name = by.as_ref().ok().map(|person| person.name.clone());
    let counted = |counts: Result<(), String>| counts.map(|()| name.as_deref().and_then(seat));
    let (word, reason, counts) = match said {
        Said::Declared(said) => {
            let counts = words.why_not_declarer(statement, said).map_or(Ok(()), Err);
            (
                EmergencyWord::Declared,
                Some(said.reason.clone()),
                counted(counts),
            )
        }
        Said::Agreed(said) => {
            let counts = words.why_not_agreed(statement, said);
            let excuse = name
                .as_deref()
                .filter(|name| seat(name).is_none())
                .and_then(excuse);
            let counts = counts.or(excuse).map_or(Ok(()), Err);
            (EmergencyWord::Agreed, said.reason.clone(), counted(counts))
        }
        Said::Rejected(said) => {
            let counts = words
                .why_not_rejected(statement, said, id)
                .map_or(Ok(None), Err);
            (EmergencyWord::Rejected, said.reason.clone(), counts)
        }
        Said::Closed(reason) => {
            let counts = match &by {
                Err(why) => Err(why.clone()),
                Ok(by) if words.may_close(by, Some(statement), id) => Ok(None),
                Ok(_) => Err("it is ended by who declared it, by people of `emergency.from`, or by a governor".to_owned()),
            };
            (EmergencyWord::Closed, reason.map(str::to_owned), counts)
        }
        Said::Reviewed(said) => {
            let signed = words.signer(statement).map(|(person, _)| person);
            let counts = signed.and_then(|person| {
                let why = participants.why_not_reviewer(&person.name);
                why.map_or(Ok(None), Err)
            });
            let word = EmergencyWord::Reviewed(said.verdict, said.follow_ups.clone());
            (word, Some(said.reason.clone()), counts)
        }
    };
    let times = verified_times(statement);
    EmergencyStatement {
        word,
        person: name,
        signer: statement.signer().to_string(),
        at: times.map(|(_, latest)| latest),
        earliest: times.map(|(earliest, _)| earliest),
        reason,
        counts,
    }
}

impl<'a> SignedWords<'a> {
    fn said(&self, id: &Digest) -> Option<&'a EmergencyChange> {
        let mut declared = self.accepted().filter(|it| it.digest() == id);
        declared.find_map(|it| match it.predicate() {
            Predicate::EmergencyChange(said) => Some(&**said),
            _ => None,
        })
    }

    /// Why a declaration counts no longer, if it expired or was closed.
    fn ended(&self, id: &Digest) -> Option<String> {
        let closed = self.not_closed(id).err();
        let closed = closed.filter(|it| it.reason.id == EMERGENCY_CLOSED.id);
        let expired = || {
            let why = self.declared(id).err()?;
            (why.reason.id == EMERGENCY_EXPIRED.id).then_some(why)
        };
        closed.or_else(expired).map(|why| why.detail)
    }

    fn why_not_declarer(
        &self,
        statement: &'a VerifiedStatement,
        said: &EmergencyChange,
    ) -> Option<String> {
        self.declarer(statement, said).err().map(|why| why.detail)
    }

    fn why_not_agreed(
        &self,
        statement: &'a VerifiedStatement,
        said: &predicate::Approval,
    ) -> Option<String> {
        self.agreement(statement, said).err().map(|(_, why)| why)
    }

    fn why_not_rejected(
        &self,
        statement: &'a VerifiedStatement,
        said: &predicate::Approval,
        id: &Digest,
    ) -> Option<String> {
        let by = match person(statement.signer(), self.people) {
            Ok(by) => by,
            Err(why) => return Some(why),
        };
        if self.about(said, id) != Some(About::Declaration) {
            return Some("it is for another place".to_owned());
        }
        if !self.is_entitled(by, Some(statement)) {
            return Some(
                "the policy does not ask this person, so that the rejection does not block"
                    .to_owned(),
            );
        }
        let lifted = self
            .lifted(id)
            .get(&(&*by.name, About::Declaration))
            .copied();
        let latest = verified_times(statement).map(|(_, latest)| latest);
        (latest.is_some() && lifted > latest)
            .then(|| "the same person agreed later, which lifts the rejection".to_owned())
    }

    fn may_close_now(&self, id: &Digest, by: &Identity) -> bool {
        found_person(self.people.person_of(by)).is_ok_and(|by| self.may_close(by, None, id))
    }
}

impl<'a> SeatsOf<'a> {
    fn new(denied: &'a Denied<'a>) -> Result<SeatsOf<'a>, String> {
        let people = people_of(denied.world).map_err(|why| why.detail)?;
        let all = denied.images.iter().map(|(_, authors)| *authors);
        let authors = all.clone().flat_map(|it| &it.people);
        Ok(SeatsOf {
            denied,
            people,
            authors: authors.map(|(name, did)| (&**name, *did)).collect(),
            has_unknown_author: all.clone().any(|it| it.unknown.is_some()),
        })
    }

    /// The seats that are open if these people agree.
    fn open(&self, counted: &[&Approval<'_>]) -> OpenSeats {
        let open = self.open_words(counted);
        let from = self.denied.section.from.iter();
        let asked = from.flat_map(|from| {
            let members = from
                .group
                .iter()
                .flat_map(|group| self.people.members(group));
            let named = from
                .person
                .as_deref()
                .and_then(|name| self.people.person(name));
            members.map(|(person, _)| person).chain(named)
        });
        let asked: BTreeMap<_, _> = asked.map(|person| (&*person.name, person)).collect();
        let may_agree = match open.is_empty() {
            true => Vec::new(),
            false => {
                let may = asked.values().filter(|it| self.seat(it, counted).is_ok());
                may.take(NAMED).map(|it| it.name.clone()).collect()
            }
        };
        OpenSeats { open, may_agree }
    }

    fn open_words(&self, counted: &[&Approval<'_>]) -> String {
        let open = Seating::of(&self.denied.section.from, counted).open();
        match open.is_empty() && self.lacks_people(counted) {
            true => {
                "one more person of `emergency.from`, because it is not known who wrote the change"
                    .to_owned()
            }
            false => open,
        }
    }

    fn lacks_people(&self, counted: &[&Approval<'_>]) -> bool {
        self.has_unknown_author && counted.len() < WITH_UNKNOWN_AUTHOR
    }

    /// The seat that a person would fill besides those who agreed, in words, and the agreement.
    fn seat<'p>(
        &self,
        person: &'p Person,
        counted: &[&Approval<'_>],
    ) -> Result<(String, Approval<'p>), String> {
        let name = &person.name;
        if counted.iter().any(|it| it.person == *name) {
            return Err(format!(
                "`{name}` has agreed to it already, and one person fills one seat, whatever identity signs"
            ));
        }
        if let Some(did) = self.authors.get(&**name) {
            return Err(format!("`{name}` is an author of the change ({did})"));
        }
        let from = &self.denied.section.from;
        let now = self.denied.promotion.at;
        let seats = seats_of(person, [now; 3], from, self.people).map_err(|why| why.why)?;
        let names = seats.iter().filter_map(|at| from.get(*at));
        let names: Vec<_> = names.map(|from| from.asks_for(1)).collect();
        let new = Approval {
            person: name,
            seats,
            latest: now,
        };
        let with: Vec<_> = counted.iter().copied().chain([&new]).collect();
        let missing = |counted: &[&Approval<'_>]| Seating::of(from, counted).missing();
        if missing(&with) >= missing(counted) && !self.lacks_people(counted) {
            return Err(format!("every seat that `{name}` may fill is filled"));
        }
        Ok((
            format!("`{name}` fills a seat: {}", names.join(" or ")),
            new,
        ))
    }

    fn own(&self, by: &Approver, counted: &[&Approval<'_>]) -> OwnWord {
        let section = self.denied.section;
        let roots = section.root_names(self.denied.policy);
        let transparency = section.transparency(self.denied.policy);
        let known = witnesses(by, &roots, transparency, self.denied.world)
            .and_then(|()| found_person(self.people.person_of(&by.identity)));
        let seat = known.clone().and_then(|person| self.seat(person, counted));
        let new = seat.as_ref().ok().map(|(_, new)| new);
        let with: Vec<_> = counted.iter().copied().chain(new).collect();
        OwnWord {
            open: self.open(&with),
            person: known.map(|person| person.name.clone()),
            seat: seat.map(|(seat, _)| seat),
            may_close: false,
        }
    }
}
