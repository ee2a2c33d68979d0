//! What people of the directory signed about a digest: their approvals, with why some do not count, and their rejections.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::super::check::listed;
use super::excuse::{Excuse, Step};
use super::kept::kept_of_digest;
use super::seating::{Approval, is_entitled};
use super::vote::{Block, SignedWord, Vote, rejection, statements};
use super::{
    APPROVAL_UNREADABLE, Approvals, Authors, ImageCheck, Judgement, REJECTED, SCOPE_UNKNOWN,
};
use crate::gate::evidence::ImageEvidence;
use crate::gate::people::People;
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
        // Of equal steps the smaller text is reported, so that the order of the evidence does not matter.
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
