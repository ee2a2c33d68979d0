//! One statement about an approval: who signed it, when, what it says, and whether it counts or blocks.

use std::cell::LazyCell;
use std::collections::BTreeSet;

use jiff::Timestamp;

use super::super::check::{ignored, in_time, minute};
use super::excuse::{Excuse, Step};
use super::kept::rejection_to_keep;
use super::place::{Scoped, covers, is_for_this_environment, scoped};
use super::seating::{Approval, is_entitled, seats_of};
use super::{Age, Approvals, ImageCheck};
use crate::attest::predicate::{self, ApprovalDecision, Predicate};
use crate::attest::{Signer, VerifiedStatement};
use crate::gate::evidence::{EvidenceSource, ImageEvidence};
use crate::gate::people::{Identity, Lookup, People, Person};
use crate::gate::signer::RequiredTransparency;
use crate::gate::world::KeptRejection;

/// Why a statement blocks; the clearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Block {
    Rejected,
    Unreadable,
    UnknownScope,
}

/// A statement about an approval, and who signed it.
pub(super) struct SignedWord<'a> {
    pub(super) source: &'a EvidenceSource,
    pub(super) statement: &'a VerifiedStatement,
    pub(super) word: Word<'a>,
    /// The person, or why the signer has no word in approvals.
    pub(super) by: Result<&'a Person, String>,
}

/// A statement by a person of the directory.
pub(super) struct Vote<'a> {
    pub(super) person: &'a Person,
    statement: &'a VerifiedStatement,
    /// The earliest and the latest verified time.
    pub(super) times: Option<(Timestamp, Timestamp)>,
    word: Word<'a>,
}

/// What a statement says.
#[derive(Clone)]
pub(super) enum Word<'a> {
    Said(&'a predicate::Approval),
    Unreadable(String),
}

/// Why a statement under another trust root does not count.
const NOT_ACCEPTED: &str =
    "signed under a trust root that the policy does not accept for approvals";

/// The statements about approvals that are attached to the image.
pub(super) fn statements<'a>(
    rule: &Approvals,
    check: &ImageCheck<'_>,
    evidence: &'a ImageEvidence,
    people: &'a People,
) -> Vec<SignedWord<'a>> {
    let roots = rule
        .root_names()
        .filter_map(|name| check.world.trust_roots.get(name));
    let roots: Vec<_> = roots.collect();
    let is_accepted = |it: &VerifiedStatement| roots.iter().any(|root| it.anchor().is_under(root));
    // What verifies under an accepted root is not refused for verifying under another one too.
    let under_accepted = LazyCell::new(|| {
        let readable = evidence.statements.iter();
        let readable = readable.filter(|(_, statement)| is_accepted(statement));
        readable.map(|(source, _)| source).collect::<BTreeSet<_>>()
    });
    let mut found = Vec::new();
    for (source, statement) in &evidence.statements {
        let Some(word) = Word::of(statement) else {
            continue;
        };
        let by = match is_accepted(statement) {
            true => person(statement.signer(), people),
            false if under_accepted.contains(source) => continue,
            false => Err(NOT_ACCEPTED.to_owned()),
        };
        found.push(SignedWord {
            source,
            statement,
            word,
            by,
        });
    }
    found
}

/// The person who signed.
///
/// # Errors
/// Why the signer has no word in approvals.
pub(in crate::gate) fn person<'a>(
    signer: &Signer,
    people: &'a People,
) -> Result<&'a Person, String> {
    found_person(people.signer(signer))
}

/// The person of the directory.
///
/// # Errors
/// Why there is none.
pub(in crate::gate) fn found_person(lookup: Lookup<'_>) -> Result<&Person, String> {
    match lookup {
        Lookup::Person(person) => Ok(person),
        Lookup::Automation(name) => Err(format!("it is the automation `{name}`, not a person")),
        Lookup::Similar(person) => Err(format!(
            "it is another identity than the directory lists for `{}`",
            person.name
        )),
        Lookup::Unknown => Err("the people directory does not list it as a person's".to_owned()),
    }
}

/// The approval that is not signed yet, as if it had been signed at the time of the review.
///
/// # Errors
/// Why it would not count.
pub(super) fn prospect<'a>(
    rule: &Approvals,
    check: &ImageCheck<'_>,
    people: &'a People,
    approver: &Identity,
    said: &predicate::Approval,
) -> Result<Approval<'a>, String> {
    let now = check.promotion.at;
    let person = found_person(people.person_of(approver))?;
    let why = |excuse: Excuse| excuse.why;
    if let Some(excuse) = covers(said, rule, check).map_err(why)? {
        return Err(excuse.why);
    }
    holds(said, None, now, now).map_err(why)?;
    let seats = seats_of(person, [now; 3], &rule.from, people).map_err(why)?;
    Ok(Approval {
        person: &person.name,
        seats,
        latest: now,
    })
}

impl<'a> Word<'a> {
    /// `None` if the statement is not about an approval.
    fn of(statement: &'a VerifiedStatement) -> Option<Word<'a>> {
        match statement.predicate() {
            Predicate::Approval(approval) => Some(Word::Said(approval)),
            Predicate::Unreadable(why) if predicate::is_approval(statement.predicate_type()) => {
                Some(Word::Unreadable(why.to_string()))
            }
            _ => None,
        }
    }
}

impl<'a> Vote<'a> {
    pub(super) fn new(
        person: &'a Person,
        statement: &'a VerifiedStatement,
        word: Word<'a>,
    ) -> Vote<'a> {
        Vote {
            person,
            statement,
            times: verified_times(statement),
            word,
        }
    }

    pub(super) fn said(&self) -> Option<&'a predicate::Approval> {
        match self.word {
            Word::Said(said) => Some(said),
            Word::Unreadable(_) => None,
        }
    }

    pub(super) fn approval(&self) -> Option<&'a predicate::Approval> {
        match self.word {
            Word::Said(said) if said.decision == ApprovalDecision::Approved => Some(said),
            _ => None,
        }
    }

    fn witnessed(
        &self,
        rule: &Approvals,
        check: &ImageCheck<'_>,
    ) -> Result<(Timestamp, Timestamp), String> {
        witnessed(self.statement, rule.transparency, check.promotion.at)
    }

    /// If this is an approval that lifts rejections by the same person: the time before which. Everyone who has a signature by a
    /// key can add a new timestamp to it, so that it proves no order; a certificate is valid for minutes.
    pub(super) fn lifts_before(
        &self,
        rule: &Approvals,
        check: &ImageCheck<'_>,
    ) -> Option<Timestamp> {
        let said = self.approval()?;
        let lifts = matches!(self.statement.signer(), Signer::Certificate(_))
            && is_for_this_environment(said, check)
            && matches!(scoped(said, check), Scoped::Here);
        let (earliest, _) = self.witnessed(rule, check).ok().filter(|_| lifts)?;
        Some(earliest)
    }

    /// If this is a rejection, or could be one, by a person who may approve now or could when it was signed: how it blocks, and
    /// a sentence.
    pub(super) fn blocks(
        &self,
        rule: &Approvals,
        check: &ImageCheck<'_>,
        people: &People,
    ) -> Option<(Block, String)> {
        let blocks = match &self.word {
            Word::Said(said) => self.rejects(said, check)?,
            Word::Unreadable(why) => (
                Block::Unreadable,
                format!(
                    "`{}` signed a statement about this digest that cannot be read and could be a rejection: {why}",
                    self.person.name
                ),
            ),
        };
        let signed = self.times.into_iter().flat_map(|it| [it.0, it.1]);
        let when = signed.chain([check.promotion.at]);
        is_entitled(self.person, when, &rule.from, people).then_some(blocks)
    }

    pub(super) fn to_keep(&self, check: &ImageCheck<'_>) -> Option<(KeptRejection, bool)> {
        let Word::Said(said) = &self.word else {
            return None;
        };
        let latest = self.times.map(|(_, latest)| latest);
        rejection_to_keep(said, self.person, latest, check)
    }

    fn rejects(
        &self,
        said: &predicate::Approval,
        check: &ImageCheck<'_>,
    ) -> Option<(Block, String)> {
        if said.decision != ApprovalDecision::Rejected || !is_for_this_environment(said, check) {
            return None;
        }
        let latest = self.times.map(|(_, latest)| latest);
        let sentence = rejection(self.person, latest, said.reason.as_deref());
        match scoped(said, check) {
            Scoped::Elsewhere(_) => None,
            Scoped::Here | Scoped::NotKnown(_) => Some((Block::Rejected, sentence)),
            Scoped::Unknown(why) => Some((Block::UnknownScope, format!("{sentence}; {why}"))),
        }
    }

    /// The approval; with an excuse, if it would count in a cluster whose name is not known.
    ///
    /// # Errors
    /// Why it does not count.
    pub(super) fn counts(
        &self,
        said: &predicate::Approval,
        rule: &Approvals,
        check: &ImageCheck<'_>,
        people: &People,
    ) -> Result<(Approval<'a>, Option<Excuse>), Excuse> {
        let now = check.promotion.at;
        // 1. The time of the signature, from a log or a timestamp authority. A time that the statement itself names does not count.
        let (earliest, latest) = self
            .witnessed(rule, check)
            .map_err(|why| Excuse::new(Step::Record, why))?;
        // 2. What was approved, and how long that holds.
        let unknown = covers(said, rule, check)?;
        let maximum_age = rule.maximum_age.filter(|_| !check.was_admitted());
        holds(said, maximum_age, earliest, now)?;
        // 3. The person, when the approval was signed and now.
        let seats = seats_of(self.person, [earliest, latest, now], &rule.from, people)?;
        let counted = Approval {
            person: &self.person.name,
            seats,
            latest,
        };
        Ok((counted, unknown))
    }
}

/// The earliest and the latest verified time of a signature that has the log entry or timestamp which a signature needs by default,
/// and no time in the future.
///
/// # Errors
/// What it lacks.
pub(in crate::gate) fn witnessed(
    statement: &VerifiedStatement,
    transparency: Option<RequiredTransparency>,
    at: Timestamp,
) -> Result<(Timestamp, Timestamp), String> {
    let by_default = RequiredTransparency::by_default(statement.signer(), statement.has_logs());
    let required = transparency.unwrap_or(by_default);
    in_time(statement, at)?;
    match verified_times(statement) {
        Some(times) if required.is_met(statement.transparency(), statement.times()) => Ok(times),
        _ => Err(format!(
            "the signature lacks a log entry or timestamp that proves its time{}",
            ignored([&**statement])
        )),
    }
}

/// The earliest and the latest verified time.
pub(in crate::gate) fn verified_times(
    statement: &VerifiedStatement,
) -> Option<(Timestamp, Timestamp)> {
    let times = statement.times().iter().map(|time| time.at);
    times.clone().min().zip(times.max())
}

/// A rejection as a sentence.
pub(super) fn rejection(person: &Person, at: Option<Timestamp>, reason: Option<&str>) -> String {
    let at = match at {
        Some(at) => format!(" on {}", minute(at)),
        None => " at a time that is not verified, so that no approval lifts it".to_owned(),
    };
    let reason = reason.map(|reason| format!(": {reason}"));
    format!(
        "`{}` rejected this digest{at}{}",
        person.name,
        reason.unwrap_or_default()
    )
}

/// How long an approval holds.
fn holds(
    said: &predicate::Approval,
    maximum_age: Option<Age>,
    earliest: Timestamp,
    now: Timestamp,
) -> Result<(), Excuse> {
    if let Some(until) = said.valid_until.filter(|until| *until <= now) {
        let why = format!("the approval was valid until {}", minute(until));
        return Err(Excuse::new(Step::Age, why));
    }
    let end = |age: Age| earliest.saturating_add(age.duration());
    match maximum_age {
        Some(age) if end(age).is_ok_and(|end| end < now) => {
            let why = format!("the approval is of {}, older than {age}", minute(earliest));
            Err(Excuse::new(Step::Age, why))
        }
        _ => Ok(()),
    }
}
