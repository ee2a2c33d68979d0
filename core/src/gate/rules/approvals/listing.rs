//! Every statement about an approval of a digest as people read it: who, what, when, and whether it counts. It is read by the steps of
//! the judgement.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::authors::Authors;
use super::kept::kept_of_digest;
use super::place;
use super::seating::{Approval, Seating, is_entitled};
use super::vote::{Block, SignedWord, Vote, Word, statements};
use super::votes::{Votes, lifted_before, stands};
use super::{Approvals, ImageCheck, people_of};
use crate::attest::predicate::{self, ApprovalDecision};
use crate::gate::evidence::ImageEvidence;
use crate::gate::people::People;

/// The statements about approvals of one image, under one requirement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApprovalListing {
    /// The seats that are open, such as ``1 of group `security-team` ``; empty if all are filled, or if the people are not known.
    pub open_seats: String,
    /// The statements, oldest first.
    pub statements: Vec<ListedApproval>,
}

/// An approval or a rejection, with its signer and its effect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListedApproval {
    /// The earliest and the latest verified time.
    pub times: Option<(Timestamp, Timestamp)>,
    /// The name of the person in the people directory, if it lists the signer as a person's.
    pub person: Option<String>,
    /// Who signed; `None` for a rejection that the cluster keeps.
    pub signer: Option<String>,
    /// Where it was found: attached to the image, or the name of a `Rejection`.
    pub source: String,
    /// What it says.
    pub word: ListedWord,
    /// What follows from it here.
    pub effect: ApprovalEffect,
}

/// What a statement says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListedWord {
    /// A decision.
    Decision {
        /// Yes or no.
        is_approval: bool,
        /// The environment that it is about.
        environment: String,
        /// What the person wrote.
        reason: Option<String>,
        /// The id of the change (ticket).
        change: Option<String>,
        /// Until when it counts.
        valid_until: Option<Timestamp>,
        /// Where it counts.
        scopes: BTreeMap<String, String>,
        /// The rules that denied the image when the person approved it all the same.
        despite: Vec<String>,
    },
    /// This version cannot read it.
    Unreadable(String),
}

/// What follows from a statement about an approval.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ApprovalEffect {
    /// It counts, and the person fills a seat: the group, or the person's own name.
    FillsSeat(String),
    /// It counts, and other people fill the seats that the person could fill.
    Counts,
    /// It blocks the digest, or could.
    Blocks,
    /// It does not count, and why.
    DoesNotCount(String),
}

impl Approvals {
    /// What people said about an image.
    pub(in crate::gate) fn listing(&self, check: &ImageCheck<'_>) -> ApprovalListing {
        let nothing = ImageEvidence::default();
        let evidence = check.evidence.value().copied().unwrap_or(&nothing);
        let people = match people_of(check.world) {
            Ok(people) => people,
            Err(unknown) => return self.without_people(check, evidence, &unknown.detail),
        };
        let counted = Counted::of(self, check, evidence, people);
        let words = statements(self, check, evidence, people);
        let votes: Vec<_> = words.iter().filter_map(vote).collect();
        let lifted = lifted_before(&votes, self, check);
        let of_word = |word: &SignedWord<'_>| {
            let effect = match vote(word) {
                Some(vote) => self.effect(&vote, check, people, &counted, &lifted),
                None => ApprovalEffect::DoesNotCount(word.by.clone().err().unwrap_or_default()),
            };
            ListedApproval::of(word, effect)
        };
        let signed = words.iter().map(of_word);
        let kept = kept_of_digest(check, people).map(|(kept, person)| {
            let is_lifted = !stands(Some(kept.at), lifted.get(&*person.name).copied());
            let may = is_entitled(person, [kept.at, check.promotion.at], &self.from, people);
            ListedApproval {
                times: Some((kept.at, kept.at)),
                person: Some(person.name.clone()),
                signer: None,
                source: format!("Rejection `{}`", kept.name),
                word: ListedWord::Decision {
                    is_approval: false,
                    environment: kept.environment.clone(),
                    reason: kept.reason.clone(),
                    change: None,
                    valid_until: None,
                    scopes: BTreeMap::new(),
                    despite: Vec::new(),
                },
                effect: rejected(may, is_lifted),
            }
        });
        // One bundle can verify under several anchors.
        let statements: BTreeSet<_> = signed.chain(kept).collect();
        ApprovalListing {
            open_seats: counted.open,
            statements: statements.into_iter().collect(),
        }
    }

    /// The statements without their people, where the people directories cannot be read.
    fn without_people(
        &self,
        check: &ImageCheck<'_>,
        evidence: &ImageEvidence,
        why: &str,
    ) -> ApprovalListing {
        let no_people = People::default();
        let words = statements(self, check, evidence, &no_people);
        let listed = words.iter().map(|word| {
            let effect = ApprovalEffect::DoesNotCount(why.to_owned());
            ListedApproval::of(word, effect)
        });
        let statements: BTreeSet<_> = listed.collect();
        ApprovalListing {
            open_seats: String::new(),
            statements: statements.into_iter().collect(),
        }
    }

    fn effect(
        &self,
        vote: &Vote<'_>,
        check: &ImageCheck<'_>,
        people: &People,
        counted: &Counted,
        lifted: &BTreeMap<&str, Timestamp>,
    ) -> ApprovalEffect {
        let name = &vote.person.name;
        let no = ApprovalEffect::DoesNotCount;
        // 1. An approval: whether it counts, and which seat the person fills.
        if let Some(said) = vote.approval() {
            return match vote.counts(said, self, check, people) {
                Ok((_, Some(excuse))) | Err(excuse) => no(excuse.why),
                Ok((_, None)) => match (counted.authors.get(name), counted.seats.get(name)) {
                    (Some(why), _) => no(why.clone()),
                    (None, Some(seat)) => ApprovalEffect::FillsSeat(seat.clone()),
                    (None, None) => ApprovalEffect::Counts,
                },
            };
        }
        // 2. A rejection, or what could be one.
        let latest = vote.times.map(|(_, latest)| latest);
        let is_lifted = !stands(latest, lifted.get(&**name).copied());
        match vote.blocks(self, check, people) {
            Some((Block::Rejected | Block::Unreadable | Block::UnknownScope, _)) => {
                rejected(true, is_lifted)
            }
            None => match vote.elsewhere(check) {
                Some(why) => no(why),
                None => rejected(false, is_lifted),
            },
        }
    }
}

/// The statement as a vote, if a person signed it.
fn vote<'a>(word: &SignedWord<'a>) -> Option<Vote<'a>> {
    let person = word.by.as_ref().ok()?;
    Some(Vote::new(person, word.statement, word.word.clone()))
}

fn rejected(may_approve: bool, is_lifted: bool) -> ApprovalEffect {
    match (may_approve, is_lifted) {
        (true, false) => ApprovalEffect::Blocks,
        (true, true) => ApprovalEffect::DoesNotCount(
            "the same person approved later, which lifts the rejection".to_owned(),
        ),
        (false, _) => ApprovalEffect::DoesNotCount(
            "the policy does not ask this person, so that the rejection does not block".to_owned(),
        ),
    }
}

/// Which approvals count for the judgement.
struct Counted {
    /// The seat of each person who fills one.
    seats: BTreeMap<String, String>,
    /// The people whose approval would count if they had not written the change, each with why.
    authors: BTreeMap<String, String>,
    open: String,
}

impl Counted {
    fn of(
        rule: &Approvals,
        check: &ImageCheck<'_>,
        evidence: &ImageEvidence,
        people: &People,
    ) -> Counted {
        let votes = Votes::read(rule, check, evidence, people);
        let authors = match rule.different_from_author {
            true => Authors::find(rule, check, evidence, people).unwrap_or_default(),
            false => Authors::default(),
        };
        let of_authors = votes.approvals.iter().filter_map(|approval| {
            let why = authors.why(approval.person)?;
            Some((approval.person.to_owned(), why))
        });
        let of_authors: BTreeMap<_, _> = of_authors.collect();
        let others = votes.approvals.iter();
        let others = others.filter(|it| !authors.contains(it.person));
        let others: Vec<&Approval<'_>> = others.collect();
        let seating: Seating<'_> = rule.take_seats(&others);
        Counted {
            seats: seating.seats(),
            authors: of_authors,
            open: seating.open(),
        }
    }
}

impl ListedApproval {
    fn of(signed: &SignedWord<'_>, effect: ApprovalEffect) -> ListedApproval {
        let times = signed.statement.times().iter().map(|time| time.at);
        ListedApproval {
            times: times.clone().min().zip(times.max()),
            person: signed.by.as_ref().ok().map(|person| person.name.clone()),
            signer: Some(signed.statement.signer().to_string()),
            source: signed.source.to_string(),
            word: match &signed.word {
                Word::Said(said) => ListedWord::of(said),
                Word::Unreadable(why) => ListedWord::Unreadable(why.clone()),
            },
            effect,
        }
    }
}

impl ListedWord {
    fn of(said: &predicate::Approval) -> ListedWord {
        let predicate::Approval {
            environment,
            decision,
            change,
            reason,
            valid_until,
            scopes,
            despite,
            emergency: _,
        } = said.clone();
        ListedWord::Decision {
            is_approval: decision == ApprovalDecision::Approved,
            environment,
            reason,
            change: change.and_then(|change| change.id.or(change.url)),
            valid_until,
            scopes,
            despite,
        }
    }
}

impl Vote<'_> {
    /// Why a rejection is not about this environment or place; `None` if it is.
    fn elsewhere(&self, check: &ImageCheck<'_>) -> Option<String> {
        self.said()
            .and_then(|said| place::covered(said, check).err())
    }
}
