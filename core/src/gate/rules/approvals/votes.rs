//! What people of the directory signed about a digest: their approvals, with why some do not count, and their rejections.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::super::check::{ignored, in_time, listed};
use super::{
    APPROVAL_UNREADABLE, Approvals, Approvers, Authors, ImageCheck, Judgement, REJECTED,
    SCOPE_UNKNOWN, ScopeName, minute,
};
use crate::attest::predicate::{self, ApprovalDecision, Predicate};
use crate::attest::{Signer, VerifiedStatement};
use crate::gate::evidence::{Collected, ImageEvidence};
use crate::gate::people::{Lookup, People, Person};
use crate::gate::signer::RequiredTransparency;

/// The statements about one digest that people signed under an accepted trust root.
pub(super) struct Votes<'a> {
    /// The approvals that count.
    pub(super) approvals: Vec<Approval<'a>>,
    /// Approvals that would count in a cluster whose name the gate does not know.
    unknown_scope: Vec<Approval<'a>>,
    /// For each signer without an approval that counts, why not.
    excuses: BTreeMap<String, Excuse>,
    /// The time of the last rejection, also of one that was lifted.
    pub(super) last_rejection: Option<Timestamp>,
    /// Rejections, and statements that could be one, that were not lifted, each as a sentence.
    blocking: BTreeSet<(Block, String)>,
}

/// An approval that counts.
pub(super) struct Approval<'a> {
    /// The person's name in the directory.
    pub(super) person: &'a str,
    /// The entries of `from` that the person may fill.
    pub(super) seats: BTreeSet<usize>,
    /// The latest verified time.
    pub(super) latest: Timestamp,
}

/// Why an approval does not count. Of several, the one with the greatest step is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Excuse {
    step: Step,
    why: String,
}

/// The steps by which an approval is judged, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
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
enum Block {
    Rejected,
    Unreadable,
    UnknownScope,
}

/// Whether the scopes of a statement include the workload.
enum Scoped {
    Here,
    Elsewhere(String),
    /// The gate does not know its own cluster.
    Unknown(String),
    /// The statement names a scope that this version does not know.
    NotKnown(String),
}

/// A statement by a person of the directory.
struct Vote<'a> {
    person: &'a Person,
    statement: &'a VerifiedStatement,
    word: Word<'a>,
}

/// What a statement says.
enum Word<'a> {
    Said(&'a predicate::Approval),
    Unreadable(String),
}

/// Why a statement under another trust root does not count.
const NOT_ACCEPTED: &str =
    "signed under a trust root that the policy does not accept for approvals";

impl<'a> Votes<'a> {
    pub(super) fn read(
        rule: &'a Approvals,
        check: &ImageCheck<'_>,
        evidence: &'a ImageEvidence,
        people: &'a People,
    ) -> Votes<'a> {
        let roots = rule
            .root_names()
            .filter_map(|name| check.world.trust_roots.get(name));
        let roots: Vec<_> = roots.collect();
        let is_accepted =
            |it: &VerifiedStatement| roots.iter().any(|root| it.anchor().is_under(root));
        let mut votes = Votes {
            approvals: Vec::new(),
            unknown_scope: Vec::new(),
            excuses: BTreeMap::new(),
            last_rejection: None,
            blocking: BTreeSet::new(),
        };
        // 1. Who signed: only people of the directory have a word here, and only under the policy's trust roots.
        // What verifies under an accepted root is not refused for verifying under another one too.
        let under_accepted = LazyCell::new(|| {
            let readable = evidence.statements.iter();
            let readable = readable.filter(|(_, statement)| is_accepted(statement));
            readable.map(|(source, _)| source).collect::<BTreeSet<_>>()
        });
        let mut all = Vec::new();
        for (source, statement) in &evidence.statements {
            let word = match statement.predicate() {
                Predicate::Approval(approval) => Word::Said(approval),
                Predicate::Unreadable(why)
                    if predicate::is_approval(statement.predicate_type()) =>
                {
                    Word::Unreadable(why.to_string())
                }
                _ => continue,
            };
            if !is_accepted(statement) {
                if !under_accepted.contains(source) {
                    let signer = statement.signer().to_string();
                    votes.excuse(signer, Step::Identity, NOT_ACCEPTED.to_owned());
                }
                continue;
            }
            match person(statement.signer(), people) {
                Ok(person) => all.push(Vote {
                    person,
                    statement,
                    word,
                }),
                Err(why) => votes.excuse(statement.signer().to_string(), Step::Identity, why),
            }
        }
        // 2. Rejections, and what could be one; and until when the approvals of each person lift them.
        let mut lifted: BTreeMap<&str, Timestamp> = BTreeMap::new();
        for vote in &all {
            if let Some(before) = vote.lifts_before(rule, check) {
                let known = lifted.entry(&vote.person.name).or_insert(before);
                *known = before.max(*known);
            }
        }
        for vote in &all {
            votes.add_rejection(rule, vote, &lifted, check, people);
        }
        // 3. Approvals.
        for vote in &all {
            let Word::Said(approval) = &vote.word else {
                continue;
            };
            if approval.decision != ApprovalDecision::Approved {
                continue;
            }
            match vote.counts(rule, approval, check, people) {
                Ok(counted) => votes.approvals.push(counted),
                Err((excuse, counted)) => {
                    votes.unknown_scope.extend(counted);
                    votes.excuse(format!("`{}`", vote.person.name), excuse.step, excuse.why);
                }
            }
        }
        for approval in &votes.approvals {
            votes.excuses.remove(&format!("`{}`", approval.person));
        }
        votes
    }

    fn excuse(&mut self, who: String, step: Step, why: String) {
        let excuse = Excuse { step, why };
        let known = self.excuses.entry(who).or_insert_with(|| excuse.clone());
        // Of equal steps the smaller text is told, so that the order of the evidence does not matter.
        if (excuse.step, &known.why) > (known.step, &excuse.why) {
            *known = excuse;
        }
    }

    fn add_rejection(
        &mut self,
        rule: &Approvals,
        vote: &Vote<'_>,
        lifted: &BTreeMap<&str, Timestamp>,
        check: &ImageCheck<'_>,
        people: &People,
    ) {
        let by = &vote.person.name;
        let (block, sentence) = match &vote.word {
            Word::Said(said) if said.decision == ApprovalDecision::Rejected => {
                let here = Some(said.environment.as_str()) == check.policy.environment.as_deref();
                let at = vote
                    .times()
                    .map(|(_, latest)| format!(" on {}", minute(latest)));
                let at = at.unwrap_or_else(|| {
                    " at a time that is not verified, so that no approval lifts it".to_owned()
                });
                let reason = said.reason.as_deref().map(|reason| format!(": {reason}"));
                let sentence = format!(
                    "`{by}` rejected this digest{at}{}",
                    reason.unwrap_or_default()
                );
                match scoped(said, check) {
                    _ if !here => return,
                    Scoped::Elsewhere(_) => return,
                    Scoped::Here | Scoped::NotKnown(_) => (Block::Rejected, sentence),
                    Scoped::Unknown(why) => (Block::UnknownScope, format!("{sentence}; {why}")),
                }
            }
            Word::Said(_) => return,
            Word::Unreadable(why) => (
                Block::Unreadable,
                format!(
                    "`{by}` signed a statement about this digest that cannot be read and could be a rejection: {why}"
                ),
            ),
        };
        // A person who may approve now, or could when the statement was signed.
        let times = vote.times();
        let mut when = vec![check.promotion.at];
        when.extend(
            times
                .into_iter()
                .flat_map(|(earliest, latest)| [earliest, latest]),
        );
        let entitled = |from: &Approvers| {
            when.iter()
                .any(|at| from.is_open_to(vote.person, people, *at))
        };
        if !rule.from.iter().any(entitled) {
            return;
        }
        let latest = times.map(|(_, latest)| latest);
        self.last_rejection = self.last_rejection.max(latest);
        let lifted = lifted.get(by.as_str()).copied();
        if latest.is_none() || lifted <= latest {
            self.blocking.insert((block, sentence));
        }
    }

    /// The denial if a rejection, or a statement that could be one, stands.
    pub(super) fn blocked(&self) -> Option<Judgement> {
        let (block, _) = self.blocking.first()?;
        let same = self.blocking.iter().filter(|(other, _)| other == block);
        let detail = listed(same.map(|(_, sentence)| sentence.clone()), 3);
        Some(match block {
            Block::Rejected => Judgement::fail(REJECTED, detail).hint(
                "talk to that person; the digest stays blocked until the person approves it later, signed with a certificate; or deploy another digest",
            ),
            Block::Unreadable => Judgement::undecided(APPROVAL_UNREADABLE, detail)
                .hint("let that person approve or reject the digest again, or update the gate"),
            Block::UnknownScope => Judgement::undecided(SCOPE_UNKNOWN, detail)
                .hint("set `cluster` in the configuration, or `check --cluster NAME`"),
        })
    }

    /// Who does not count and why, one sentence for each signer.
    pub(super) fn excuses(&self, authors: Option<&Authors>) -> Vec<String> {
        let of_authors = self.approvals.iter().filter_map(|approval| {
            let why = authors?.why(approval.person)?;
            Some((format!("`{}`", approval.person), Step::Seat, why))
        });
        let others = self
            .excuses
            .iter()
            .map(|(who, excuse)| (who.clone(), excuse.step, excuse.why.clone()));
        let mut all: Vec<_> = of_authors.chain(others).collect();
        all.sort_by(|a, b| (b.1, &a.0).cmp(&(a.1, &b.0)));
        all.dedup();
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

/// The person who signed.
///
/// # Errors
/// Why the signer has no word in approvals.
fn person<'a>(signer: &Signer, people: &'a People) -> Result<&'a Person, String> {
    match people.signer(signer) {
        Lookup::Person(person) => Ok(person),
        Lookup::Automation(name) => Err(format!("it is the automation `{name}`, not a person")),
        Lookup::Similar(person) => Err(format!(
            "it is another identity than the directory lists for `{}`",
            person.name
        )),
        Lookup::Unknown => Err("the people directory does not list it as a person's".to_owned()),
    }
}

impl<'a> Vote<'a> {
    /// The earliest and the latest verified time.
    fn times(&self) -> Option<(Timestamp, Timestamp)> {
        let times = self.statement.times().iter().map(|time| time.at);
        Some((times.clone().min()?, times.max()?))
    }

    /// The signature has the log entry or timestamp that a signature needs by default, and a time that is not in the future.
    fn witnessed(
        &self,
        rule: &Approvals,
        check: &ImageCheck<'_>,
    ) -> Result<(Timestamp, Timestamp), String> {
        let (signer, logs) = (self.statement.signer(), self.statement.has_logs());
        let by_default = RequiredTransparency::by_default(signer, logs);
        let required = rule.transparency.unwrap_or(by_default);
        in_time(self.statement, check.promotion.at)?;
        match self.times() {
            Some(times)
                if required.is_met(self.statement.transparency(), self.statement.times()) =>
            {
                Ok(times)
            }
            _ => Err(format!(
                "the signature lacks a log entry or timestamp that proves its time{}",
                ignored([&**self.statement])
            )),
        }
    }

    /// If this is an approval that lifts rejections by the same person: the time before which. Everyone who has a signature by a
    /// key can add a new timestamp to it, so that it proves no order; a certificate is valid for minutes.
    fn lifts_before(&self, rule: &Approvals, check: &ImageCheck<'_>) -> Option<Timestamp> {
        let Word::Said(said) = &self.word else {
            return None;
        };
        let lifts = matches!(self.statement.signer(), Signer::Certificate(_))
            && said.decision == ApprovalDecision::Approved
            && Some(said.environment.as_str()) == check.policy.environment.as_deref()
            && matches!(scoped(said, check), Scoped::Here);
        let (earliest, _) = self.witnessed(rule, check).ok().filter(|_| lifts)?;
        Some(earliest)
    }

    /// Whether this approval counts.
    ///
    /// # Errors
    /// Why not; and the approval as it would count in a cluster whose name is not known.
    fn counts(
        &self,
        rule: &Approvals,
        said: &predicate::Approval,
        check: &ImageCheck<'_>,
        people: &People,
    ) -> Result<Approval<'a>, (Excuse, Option<Approval<'a>>)> {
        let refuse = |step: Step, why: String| Err((Excuse { step, why }, None));
        let now = check.promotion.at;
        // 1. The time of the signature, from a log or a timestamp authority: what the statement says of itself does not count.
        let (earliest, latest) = match self.witnessed(rule, check) {
            Ok(times) => times,
            Err(why) => return refuse(Step::Record, why),
        };
        // 2. What was approved: an approval for another environment or cluster must not be replayed here.
        let environment = check.policy.environment.as_deref().unwrap_or_default();
        if said.environment != environment {
            let why = format!(
                "the approval is for `{}`, not `{environment}`",
                said.environment
            );
            return refuse(Step::Environment, why);
        }
        let unknown = match scoped(said, check) {
            Scoped::Here => None,
            Scoped::Elsewhere(why) | Scoped::NotKnown(why) => return refuse(Step::Scopes, why),
            Scoped::Unknown(why) => Some(why),
        };
        let mut required = rule.require_scopes.iter();
        if let Some(missing) = required.find(|scope| !said.scopes.contains_key(scope.as_str())) {
            let why = format!(
                "the approval does not name the scope `{}`",
                missing.as_str()
            );
            return refuse(Step::Scopes, why);
        }
        if let Some(change) = &rule.change
            && let Err(why) = change.names(said)
        {
            return refuse(Step::Change, why);
        }
        // 3. How long it holds.
        if let Some(until) = said.valid_until.filter(|until| *until <= now) {
            return refuse(
                Step::Age,
                format!("the approval was valid until {}", minute(until)),
            );
        }
        let oldest = rule
            .maximum_age
            .map(|age| (age, earliest.saturating_add(age.duration())));
        if let Some((age, end)) = oldest
            && end.is_ok_and(|end| end < now)
        {
            let why = format!("the approval is of {}, older than {age}", minute(earliest));
            return refuse(Step::Age, why);
        }
        // 4. The person, when the approval was signed and now.
        let person = self.person;
        let when = [earliest, latest, now];
        if !when.iter().all(|at| person.is_active_at(*at)) {
            let why = "the directory does not list the person as active, both at the time of the approval and now";
            return refuse(Step::Person, why.to_owned());
        }
        let seats = rule.from.iter().enumerate().filter(|(_, from)| {
            let mut when = when.iter();
            when.all(|at| from.is_open_to(person, people, *at))
        });
        let seats: BTreeSet<_> = seats.map(|(at, _)| at).collect();
        if seats.is_empty() {
            let why = "the policy does not ask this person, or the person was not in the group at the time of the approval";
            return refuse(Step::Seat, why.to_owned());
        }
        let counted = Approval {
            person: &person.name,
            seats,
            latest,
        };
        match unknown {
            None => Ok(counted),
            Some(why) => Err((
                Excuse {
                    step: Step::UnknownScope,
                    why,
                },
                Some(counted),
            )),
        }
    }
}

/// Whether all scopes of a statement include the workload. One that does not decides, whatever the others are.
fn scoped(said: &predicate::Approval, check: &ImageCheck<'_>) -> Scoped {
    let workload = &check.promotion.change.workload;
    let mut scoped = Scoped::Here;
    for (name, wanted) in &said.scopes {
        let namespace = || Collected::Known(workload.namespace.clone().unwrap_or_default());
        let actual = match ScopeName::parse(name) {
            Some(ScopeName::Namespace) => namespace(),
            Some(ScopeName::Cluster) => check.world.cluster.clone(),
            Some(ScopeName::ClusterUid) => check.world.cluster_uid.clone(),
            None => {
                scoped = Scoped::NotKnown(format!(
                    "the approval is limited to a scope that this version does not know, `{name}`"
                ));
                continue;
            }
        };
        match actual {
            Collected::Known(actual) if actual == *wanted => {}
            Collected::Known(_) => {
                let why = format!("the approval is for the {name} `{wanted}` alone");
                return Scoped::Elsewhere(why);
            }
            Collected::Partial(_, _) | Collected::Unavailable(_) => {
                if matches!(scoped, Scoped::NotKnown(_)) {
                    continue;
                }
                let why = actual.unavailabilities().first();
                let why = why.map(ToString::to_string).unwrap_or_default();
                scoped = Scoped::Unknown(format!(
                    "the approval is for the {name} `{wanted}` alone, and {why}"
                ));
            }
        }
    }
    scoped
}
