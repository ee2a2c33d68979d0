//! What people of the directory signed about a digest: their approvals, with why some do not count, and their rejections.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::super::check::{ignored, in_time, listed, minute};
use super::place::{Scoped, covers, is_for_this_environment, scoped};
use super::{
    APPROVAL_UNREADABLE, Age, Approvals, Approvers, Authors, ImageCheck, Judgement, REJECTED,
    SCOPE_UNKNOWN, ScopeName,
};
use crate::attest::predicate::{self, ApprovalDecision, Predicate};
use crate::attest::{Signer, VerifiedStatement};
use crate::gate::evidence::{EvidenceSource, ImageEvidence};
use crate::gate::people::{Identity, Lookup, People, Person};
use crate::gate::signer::RequiredTransparency;
use crate::gate::world::KeptRejection;

/// The statements about one digest that people signed under an accepted trust root.
#[derive(Default)]
pub(super) struct Votes<'a> {
    /// The approvals that count.
    pub(super) approvals: Vec<Approval<'a>>,
    /// Approvals that would count in a cluster whose name the gate does not know.
    unknown_scope: Vec<Approval<'a>>,
    /// For each signer of an approval that does not count, why not.
    excuses: BTreeMap<String, Excuse>,
    /// The time of the last rejection, also of one that was lifted.
    pub(super) last_rejection: Option<Timestamp>,
    /// Rejections that were not lifted and hold in the whole cluster, each with whether its time is verified.
    pub(super) to_keep: Vec<(KeptRejection, bool)>,
    /// Rejections, and statements that could be one, that were not lifted, each as a sentence.
    blocking: BTreeSet<(Block, String)>,
    /// The names of the `Rejection` resources among them.
    kept: BTreeSet<&'a str>,
}

/// An approval that counts.
pub(in crate::gate) struct Approval<'a> {
    /// The person's name in the directory.
    pub(in crate::gate) person: &'a str,
    /// The entries of `from` that the person may fill.
    pub(in crate::gate) seats: Vec<usize>,
    /// The latest verified time.
    pub(in crate::gate) latest: Timestamp,
}

/// Why an approval does not count. Of several, the one with the greatest step is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::gate) struct Excuse {
    step: Step,
    pub(in crate::gate) why: String,
}

/// The steps by which an approval is judged, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::gate) enum Step {
    Identity,
    Record,
    Environment,
    Scopes,
    UnknownScope,
    Change,
    Age,
    Person,
    Seat,
}

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

impl<'a> Votes<'a> {
    pub(super) fn read(
        rule: &'a Approvals,
        check: &ImageCheck<'a>,
        evidence: &'a ImageEvidence,
        people: &'a People,
    ) -> Votes<'a> {
        let mut votes = Votes::default();
        // 1. Who signed: only people of the directory have a word here, and only under the policy's trust roots.
        let all = votes.by_people(rule, check, evidence, people);
        // 2. Rejections, and what could be one; and until when the approvals of each person lift them.
        let lifted = LazyCell::new(|| lifted_before(&all, rule, check));
        for vote in &all {
            let Some(blocks) = vote.blocks(rule, check, people) else {
                continue;
            };
            let latest = vote.times.map(|(_, latest)| latest);
            votes.last_rejection = votes.last_rejection.max(latest);
            let lifted = lifted.get(&*vote.person.name).copied();
            if stands(latest, lifted) {
                let is_rejection = blocks.0 == Block::Rejected;
                let kept = vote.to_keep(check).filter(|_| is_rejection);
                votes.to_keep.extend(kept);
                votes.blocking.insert(blocks);
            }
        }
        // 3. Rejections that are kept in the cluster: deleting them in the registry lifts nothing.
        for (kept, person) in kept_of_digest(check, people) {
            if !is_entitled(person, [kept.at, check.promotion.at], &rule.from, people) {
                continue;
            }
            votes.last_rejection = votes.last_rejection.max(Some(kept.at));
            if stands(Some(kept.at), lifted.get(&*person.name).copied()) {
                let sentence = rejection(person, Some(kept.at), kept.reason.as_deref());
                votes.blocking.insert((Block::Rejected, sentence));
                votes.kept.insert(&kept.name);
            }
        }
        // 4. Approvals.
        for vote in &all {
            let Some(said) = vote.approval() else {
                continue;
            };
            let excuse = match vote.counts(said, rule, check, people) {
                Ok((counted, None)) => {
                    votes.approvals.push(counted);
                    continue;
                }
                Ok((counted, Some(excuse))) => {
                    votes.unknown_scope.push(counted);
                    excuse
                }
                Err(excuse) => excuse,
            };
            votes.excuse(format!("`{}`", vote.person.name), excuse);
        }
        votes
    }

    /// The statements by people of the directory under the policy's trust roots. The others get an excuse.
    fn by_people(
        &mut self,
        rule: &Approvals,
        check: &ImageCheck<'_>,
        evidence: &'a ImageEvidence,
        people: &'a People,
    ) -> Vec<Vote<'a>> {
        let mut votes = Vec::new();
        for SignedWord {
            statement,
            word,
            by,
            ..
        } in statements(rule, check, evidence, people)
        {
            match by {
                Ok(person) => votes.push(Vote::new(person, statement, word)),
                Err(why) => {
                    let signer = statement.signer().to_string();
                    self.excuse(signer, Excuse::new(Step::Identity, why));
                }
            }
        }
        votes
    }

    fn excuse(&mut self, who: String, excuse: Excuse) {
        let known = self.excuses.entry(who).or_insert_with(|| excuse.clone());
        // Of equal steps the smaller text is told, so that the order of the evidence does not matter.
        if (excuse.step, &known.why) > (known.step, &excuse.why) {
            *known = excuse;
        }
    }

    /// The denial if a rejection, or a statement that could be one, stands.
    pub(super) fn blocked(&self) -> Option<Judgement> {
        let (block, _) = self.blocking.first()?;
        let same = self.blocking.iter().filter(|(other, _)| other == block);
        let detail = listed(same.map(|(_, sentence)| sentence.clone()), 3);
        Some(match block {
            Block::Rejected => Judgement::fail(REJECTED, detail).hint(self.next_step()),
            Block::Unreadable => Judgement::undecided(APPROVAL_UNREADABLE, detail)
                .hint("let that person approve or reject the digest again, or update the gate"),
            Block::UnknownScope => Judgement::undecided(SCOPE_UNKNOWN, detail)
                .hint("set `cluster` in the configuration, or `check --cluster NAME`"),
        })
    }

    fn next_step(&self) -> String {
        let kept = self.kept.iter().map(|name| format!("`{name}`"));
        let or_deleted = match self.kept.is_empty() {
            true => String::new(),
            false => format!(
                ", or a governor deletes the `Rejection` {}",
                listed(kept, 3)
            ),
        };
        format!(
            "talk to that person; the digest stays blocked until the person approves it later, signed with a certificate{or_deleted}; or deploy another digest"
        )
    }

    /// Who does not count and why, one sentence for each signer.
    pub(super) fn excuses(&self, authors: Option<&Authors>) -> Vec<String> {
        let counted = self.approvals.iter();
        let counted = counted.map(|it| (format!("`{}`", it.person), it.person));
        let counted: BTreeMap<_, _> = counted.collect();
        let of_authors = counted.iter().filter_map(|(who, person)| {
            let why = authors?.why(person)?;
            Some((who.clone(), Step::Seat, why))
        });
        let others = self.excuses.iter();
        let others = others.filter(|(who, _)| !counted.contains_key(*who));
        let others = others.map(|(who, excuse)| (who.clone(), excuse.step, excuse.why.clone()));
        let mut all: Vec<_> = of_authors.chain(others).collect();
        all.sort_by(|a, b| (b.1, &a.0).cmp(&(a.1, &b.0)));
        let each = all.into_iter();
        each.map(|(who, _, why)| format!("{who} does not count: {why}"))
            .collect()
    }

    /// The approvals that count, and those that would in a cluster whose name is not known.
    pub(super) fn of_unknown_scope(&self, authors: Option<&Authors>) -> Vec<&Approval<'a>> {
        if self.unknown_scope.is_empty() {
            return Vec::new();
        }
        let all = self.approvals.iter().chain(&self.unknown_scope);
        let others = all.filter(|it| authors.is_none_or(|authors| !authors.contains(it.person)));
        others.collect()
    }
}

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

/// Until when the approvals of each person lift the person's rejections.
pub(super) fn lifted_before<'a>(
    all: &[Vote<'a>],
    rule: &Approvals,
    check: &ImageCheck<'_>,
) -> BTreeMap<&'a str, Timestamp> {
    let mut lifted: BTreeMap<&str, Timestamp> = BTreeMap::new();
    for vote in all {
        if let Some(before) = vote.lifts_before(rule, check) {
            let known = lifted.entry(&vote.person.name).or_insert(before);
            *known = before.max(*known);
        }
    }
    lifted
}

/// Whether a rejection of a time was not lifted. One without a verified time never is.
pub(in crate::gate) fn stands(
    rejected: Option<Timestamp>,
    lifted_before: Option<Timestamp>,
) -> bool {
    rejected.is_none() || lifted_before <= rejected
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

impl Excuse {
    pub(super) fn new(step: Step, why: impl Into<String>) -> Excuse {
        let why = why.into();
        Excuse { step, why }
    }
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
    fn lifts_before(&self, rule: &Approvals, check: &ImageCheck<'_>) -> Option<Timestamp> {
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

    fn to_keep(&self, check: &ImageCheck<'_>) -> Option<(KeptRejection, bool)> {
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
        // 1. The time of the signature, from a log or a timestamp authority: what the statement says of itself does not count.
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

/// A rejection as the cluster keeps it, with the namespace that it is limited to, and whether its time is verified. One with an unknown
/// scope is not kept.
pub(in crate::gate) fn rejection_to_keep(
    said: &predicate::Approval,
    person: &Person,
    latest: Option<Timestamp>,
    check: &ImageCheck<'_>,
) -> Option<(KeptRejection, bool)> {
    let scopes = said.scopes.iter();
    let mut scopes = scopes.map(|(name, value)| (ScopeName::parse(name), value));
    let namespace = scopes
        .clone()
        .find(|(scope, _)| *scope == Some(ScopeName::Namespace));
    let kept = KeptRejection {
        name: String::new(),
        environment: said.environment.clone(),
        namespace: namespace.map(|(_, namespace)| namespace.clone()),
        emergency: said.emergency.clone(),
        is_closure: false,
        person: person.name.clone(),
        at: latest.unwrap_or(check.promotion.at),
        reason: said.reason.clone(),
    };
    scopes
        .all(|(scope, _)| scope.is_some())
        .then_some((kept, latest.is_some()))
}

/// The rejections of the digest, and of emergency changes of it, for the policy's environment that are kept in the cluster, by people
/// of the directory.
pub(in crate::gate) fn kept_rejections<'a>(
    check: &ImageCheck<'a>,
    people: &'a People,
) -> impl Iterator<Item = (&'a KeptRejection, &'a Person)> {
    let rejections = kept_here(check).filter(|kept| !kept.is_closure);
    rejections.filter_map(|kept| Some((kept, people.person(&kept.person)?)))
}

/// The closures of a declared emergency change of the digest that are kept in the cluster. Only the gate and governors write them, so
/// that who may close it is not asked again: a signature that gave the right to close it can be deleted in the registry.
pub(in crate::gate) fn kept_closures<'a>(
    check: &ImageCheck<'a>,
    id: &Digest,
) -> impl Iterator<Item = &'a KeptRejection> {
    kept_here(check).filter(move |kept| kept.is_closure && kept.emergency.as_ref() == Some(id))
}

/// What the cluster keeps about the digest for the policy's environment.
fn kept_here<'a>(check: &ImageCheck<'a>) -> impl Iterator<Item = &'a KeptRejection> {
    let digest = check.subject.map(|subject| &subject.digest);
    let kept = digest.and_then(|digest| check.world.rejections.get(digest));
    let environment = check.policy.environment.as_ref();
    let namespace = check.promotion.change.workload.namespace.as_ref();
    kept.into_iter().flatten().filter(move |kept| {
        let is_here = kept.namespace.is_none() || kept.namespace.as_ref() == namespace;
        is_here && Some(&kept.environment) == environment
    })
}

/// Those of the digest in general.
pub(super) fn kept_of_digest<'a>(
    check: &ImageCheck<'a>,
    people: &'a People,
) -> impl Iterator<Item = (&'a KeptRejection, &'a Person)> {
    kept_rejections(check, people).filter(|(kept, _)| kept.emergency.is_none())
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

/// A rejection as a sentence.
fn rejection(person: &Person, at: Option<Timestamp>, reason: Option<&str>) -> String {
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
