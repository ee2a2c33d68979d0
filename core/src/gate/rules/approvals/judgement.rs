//! The judgement about the approvals of one image.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::super::check::{listed, minute, readable, rollback_to, sentence, unless_partial};
use super::seating::{Approval, Seating};
use super::votes::Votes;
use super::{
    APPROVALS_MISSING, APPROVED, APPROVED_BEFORE, APPROVED_TOO_RECENTLY, Approvals, AuthorSource,
    Authors, ImageCheck, Judgement, KEPT_UNREADABLE, Needs, PEOPLE_UNKNOWN, SCOPE_UNKNOWN, World,
    approving,
};
use crate::gate::evidence::{Collected, ImageEvidence};
use crate::gate::people::People;
use crate::gate::policy::Policy;
use crate::gate::world::{MayBe, UnreadableKept};

impl Approvals {
    /// The judgement by what is known.
    pub(super) fn judge(&self, check: &ImageCheck<'_>) -> Judgement {
        let evidence = readable(check);
        let rollback = check.promotion.rolls_back_to(check.policy);
        // 1. The directory: without it, the gate cannot tell approvers from authors. A rollback needs no approvals.
        let people = match (people_of(check.world), rollback) {
            (Ok(people), Some(_)) => Ok(people),
            (Ok(people), None) => self.all_in(people),
            (Err(undecided), _) => Err(undecided),
        };
        let people = match people {
            Ok(people) => people,
            Err(undecided) => return evidence.err().unwrap_or(undecided),
        };
        // 2. What people said about this digest, there and in the cluster. A rejection blocks whatever else there is.
        let nothing = ImageEvidence::default();
        let read = evidence.as_ref().copied().unwrap_or(&nothing);
        let votes = Votes::read(self, check, read, people);
        if let Some(blocked) = votes.blocked() {
            return blocked;
        }
        let unreadable = |is_about: fn(&MayBe, &Policy) -> bool| unreadable(check, is_about);
        if let Some(undecided) = unreadable(may_reject) {
            return undecided;
        }
        // 3. What ran here and complied was approved, and is not asked again by a rollback, also while the registry is silent.
        if let (Some(until), Some(_)) = (rollback, check.subject) {
            let detail = format!("{}, which was approved", rollback_to(until));
            return Judgement::pass(APPROVED_BEFORE, detail);
        }
        let evidence = match evidence {
            Ok(evidence) => evidence,
            Err(undecided) => return undecided,
        };
        // 4. The authors, none of whom fills a seat.
        let authors = match (self.different_from_author, unreadable(may_name_authors)) {
            (true, Some(undecided)) => Err(undecided),
            (true, None) => Authors::find(self, check, evidence, people),
            (false, _) => Ok(Authors::default()),
        };
        let is_author = |approval: &Approval<'_>| {
            let authors = authors.as_ref();
            authors.is_ok_and(|authors| authors.contains(approval.person))
        };
        let approvals = votes.approvals.iter().filter(|it| !is_author(it));
        let approvals: Vec<_> = approvals.collect();
        // 5. The seats. A missing approval is the clearer answer, also where the authors are not known.
        let seating = self.take_seats(&approvals);
        if seating.missing() > 0 {
            let known = authors.as_ref().ok();
            let missing = self.explain_missing(evidence, &votes, &seating, known, check);
            return unless_partial(missing, check);
        }
        // 6. As long as one author is unknown, every seat could be filled by an author.
        let approved = match authors {
            Ok(authors) => seating.seated() + &authors.covered(),
            Err(undecided) => return undecided,
        };
        // 7. The waiting time.
        self.wait(&approvals, &votes, &approved, check)
    }

    /// The directory, if it has every group and person that the policy names.
    fn all_in<'w>(&self, people: &'w People) -> Result<&'w People, Judgement> {
        let unknown = self.from.iter().find_map(|from| from.unknown(people));
        match unknown {
            Some(what) => Err(people_unknown(format!(
                "the people directory does not name the {what}"
            ))),
            None => Ok(people),
        }
    }

    /// Passes once the waiting time is over.
    ///
    /// It begins at the earliest time at which the approvals that are still valid filled all seats, or with a later rejection.
    fn wait(
        &self,
        approvals: &[&Approval<'_>],
        votes: &Votes<'_>,
        approved: &str,
        check: &ImageCheck<'_>,
    ) -> Judgement {
        let pass = || Judgement::pass(APPROVED, sentence(format_args!("approved by {approved}")));
        let Some(minimum) = self.minimum_age.filter(|_| !check.was_admitted()) else {
            return pass();
        };
        let times: BTreeSet<Timestamp> = approvals.iter().map(|it| it.latest).collect();
        let mut before: Vec<_> = times.into_iter().collect();
        // At the last time all seats are filled.
        let last = before.pop();
        let is_open_at = |time: &Timestamp| {
            let until = approvals.iter().copied().filter(|it| it.latest <= *time);
            self.take_seats(&until.collect::<Vec<_>>()).missing() > 0
        };
        let full = before.get(before.partition_point(is_open_at)).copied();
        let since = full.or(last).max(votes.last_rejection);
        let from = since.map(|since| since.saturating_add(minimum.duration()));
        match from {
            Some(Ok(from)) if from <= check.promotion.at => pass(),
            Some(Ok(from)) => {
                let from = minute(from);
                Judgement::fail(
                    APPROVED_TOO_RECENTLY,
                    format!(
                        "approved by {approved}, but the policy has a waiting time of {minimum}: from {from} on"
                    ),
                )
                .hint(format!("deploy from {from} on"))
            }
            Some(Err(_)) | None => Judgement::undecided(
                APPROVED_TOO_RECENTLY,
                "the end of the waiting time cannot be computed".to_owned(),
            ),
        }
    }

    fn explain_missing(
        &self,
        evidence: &ImageEvidence,
        votes: &Votes<'_>,
        seating: &Seating<'_>,
        authors: Option<&Authors>,
        check: &ImageCheck<'_>,
    ) -> Judgement {
        let mut detail = format!("missing: {}", seating.open());
        if let Some(seated) = seating.some_seated() {
            detail.push_str(&format!("; approved by {seated}"));
        }
        detail.push_str(&evidence.also_attached());
        let excuses = votes.excuses(authors);
        if !excuses.is_empty() {
            detail.push_str(&format!("; {}", listed(excuses, 4)));
        }
        // Approvals that could count if the gate knew its own cluster are not missing for certain.
        let unknown: Vec<_> = votes.of_unknown_scope(authors);
        if !unknown.is_empty() && self.take_seats(&unknown).missing() == 0 {
            return Judgement::undecided(SCOPE_UNKNOWN, detail)
                .hint("set `cluster` in the configuration, or `check --cluster NAME`");
        }
        Judgement::fail(APPROVALS_MISSING, detail).hint(format!(
            "ask them to review and approve: `{}`",
            approving::command(self, check)
        ))
    }
}

/// The directory.
pub(in crate::gate) fn people_of(world: &World) -> Result<&People, Judgement> {
    match &world.people {
        Collected::Known(people) => Ok(people),
        Collected::Partial(_, _) | Collected::Unavailable(_) => {
            let why = world.people.unavailabilities().first();
            let why = why.map(ToString::to_string).unwrap_or_default();
            Err(people_unknown(format!(
                "the people directory is not known: {why}"
            )))
        }
    }
}

fn may_reject(may_be: &MayBe, policy: &Policy) -> bool {
    match may_be {
        MayBe::Rejection(Some(environment)) => Some(environment) == policy.environment.as_ref(),
        MayBe::Rejection(None) => true,
        MayBe::Authors | MayBe::Vex(_) => false,
    }
}

fn may_name_authors(may_be: &MayBe, _: &Policy) -> bool {
    *may_be == MayBe::Authors
}

/// What the cluster keeps about the digest and cannot be read may deny.
fn unreadable(check: &ImageCheck<'_>, is_about: fn(&MayBe, &Policy) -> bool) -> Option<Judgement> {
    let kept = check.world.unreadable_kept.get(&check.subject?.digest)?;
    let mut kept = kept.iter();
    let UnreadableKept { resource, why, .. } =
        kept.find(|kept| is_about(&kept.may_be, check.policy))?;
    let detail = format!("{resource} is about this digest and cannot be read: {why}");
    let undecided = Judgement::undecided(KEPT_UNREADABLE, detail);
    Some(undecided.hint(format!("ask a governor to correct or to delete {resource}")))
}

/// Why not every author is known whom evidence names: a trust root that the policy names is missing, or the cluster keeps authors in a
/// resource that cannot be read.
pub(in crate::gate) fn unread_authors(rule: &Approvals, check: &ImageCheck<'_>) -> Option<String> {
    let signers = rule.authors_from.iter().flat_map(AuthorSource::signers);
    let needs = Needs::under(signers, &check.world.trust_roots);
    let missing = needs.missing_roots.first().map(|root| {
        format!(
            "the trust root `{root}`, which the policy `{}` names, is not known, and what is signed under it could name an author",
            check.policy.name
        )
    });
    missing.or_else(|| unreadable(check, may_name_authors).map(|it| it.detail))
}

/// Why a rejection of the digest that the cluster keeps may not be known.
pub(in crate::gate) fn kept_unreadable(check: &ImageCheck<'_>) -> Option<String> {
    if let Some(why) = &check.world.kept_partly {
        return Some(format!(
            "a rejection that the cluster keeps may be missing: {why}"
        ));
    }
    unreadable(check, may_reject).map(|it| it.detail)
}

fn people_unknown(detail: String) -> Judgement {
    Judgement::undecided(PEOPLE_UNKNOWN, detail)
        .hint("add it to a `PeopleDirectory` in the policy folder; `promotion-gate people check PATH` shows problems")
}
