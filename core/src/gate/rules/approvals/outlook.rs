//! The effect of an approval that is not signed yet.

use std::collections::BTreeSet;

use super::super::check::readable;
use super::seating::{Approval, Seating};
use super::vote::prospect;
use super::votes::Votes;
use super::{Approvals, Authors, ImageCheck, World, people_of};
use crate::attest::{TrustRoot, predicate};
use crate::gate::people::Identity;
use crate::gate::signer::RequiredTransparency;

/// The signer of an approval that is not signed yet, and the evidence that the signature will carry.
#[derive(Clone)]
pub struct Approver {
    /// Who signs.
    pub identity: Identity,
    /// The trust root under which the signature will verify.
    pub root: std::sync::Arc<TrustRoot>,
    /// Whether a log will have an entry of it.
    pub is_logged: bool,
    /// Whether a log or a timestamp authority will prove its time.
    pub is_timed: bool,
}

/// The effect of an approval that is not signed yet, for one image under one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalOutlook {
    /// The policy.
    pub policy: String,
    /// The image, with its digest.
    pub image: String,
    /// The seat that the approval would fill, in words.
    ///
    /// # Errors
    /// Why it would fill none.
    pub seat: Result<String, String>,
    /// The seats that would be open after it, in words; empty if there are none.
    pub open: String,
}

impl Approvals {
    /// What an approval would do if it were signed now.
    pub(in crate::gate) fn outlook(
        &self,
        check: &ImageCheck<'_>,
        approver: &Approver,
        said: &predicate::Approval,
    ) -> ApprovalOutlook {
        let outlook = |seat, open| ApprovalOutlook {
            policy: check.policy.name.clone(),
            image: check.name(),
            seat,
            open,
        };
        let people = match people_of(check.world) {
            Ok(people) => people,
            Err(unknown) => return outlook(Err(unknown.detail), String::new()),
        };
        let evidence = match readable(check) {
            Ok(evidence) => evidence,
            Err(unknown) => return outlook(Err(unknown.detail), String::new()),
        };
        let votes = Votes::read(self, check, evidence, people);
        let authors = match self.different_from_author {
            true => Authors::find(self, check, evidence, people),
            false => Ok(Authors::default()),
        };
        let is_author = |it: &Approval<'_>| {
            let authors = authors.as_ref();
            authors.is_ok_and(|authors| authors.contains(it.person))
        };
        let given: Vec<_> = votes.approvals.iter().filter(|it| !is_author(it)).collect();
        let before = self.take_seats(&given);
        let roots = self.root_names().collect();
        let new = witnesses(approver, &roots, self.transparency, check.world);
        let new = new.and_then(|()| prospect(self, check, people, &approver.identity, said));
        let new = match new {
            Ok(new) => new,
            Err(why) => return outlook(Err(why), before.open()),
        };
        let author = authors
            .as_ref()
            .ok()
            .and_then(|authors| authors.why(new.person));
        if let Some(why) = author {
            return outlook(Err(format!("`{}` is {why}", new.person)), before.open());
        }
        let after = self.take_seats(&given.iter().copied().chain([&new]).collect::<Vec<_>>());
        let seat = self.seat(&new, &given, [&before, &after]);
        match (authors, seat) {
            (Err(unknown), Ok(_)) => outlook(Err(unknown.detail), before.open()),
            (_, seat) => outlook(seat, after.open()),
        }
    }

    fn seat(
        &self,
        new: &Approval<'_>,
        given: &[&Approval<'_>],
        [before, after]: [&Seating<'_>; 2],
    ) -> Result<String, String> {
        if given.iter().any(|it| it.person == new.person) {
            return Err(format!("`{}` has approved it already", new.person));
        }
        if after.missing() >= before.missing() {
            return Err(format!(
                "every seat that `{}` may fill is filled",
                new.person
            ));
        }
        let names = new.seats.iter().filter_map(|at| self.from.get(*at));
        let names: Vec<_> = names.map(|from| from.asks_for(1)).collect();
        Ok(format!(
            "`{}` fills a seat: {}",
            new.person,
            names.join(" or ")
        ))
    }
}

/// Whether a signature will have the trust root, the record and the time that a policy asks for.
///
/// # Errors
/// What it will lack.
pub(in crate::gate) fn witnesses(
    approver: &Approver,
    accepted: &BTreeSet<&str>,
    transparency: Option<RequiredTransparency>,
    world: &World,
) -> Result<(), String> {
    let mut roots = accepted
        .iter()
        .filter_map(|name| world.trust_roots.get(*name));
    if !roots.any(|root| root.id == approver.root.id) {
        let names: Vec<_> = accepted.iter().map(|name| format!("`{name}`")).collect();
        return Err(format!(
            "the policy accepts approvals under the trust root {} alone, and this one is signed under `{}`",
            names.join(" or "),
            approver.root.name()
        ));
    }
    let is_key = matches!(approver.identity, Identity::Key(_));
    let by_default = match is_key || !approver.root.has_logs() {
        true => RequiredTransparency::Timestamp,
        false => RequiredTransparency::Log,
    };
    let needs_log = match transparency.unwrap_or(by_default) {
        RequiredTransparency::InclusionProof | RequiredTransparency::Log => true,
        RequiredTransparency::Timestamp | RequiredTransparency::None => false,
    };
    match (approver.is_timed, needs_log && !approver.is_logged) {
        (true, false) => Ok(()),
        (true, true) => Err("the policy asks for a log entry, and no log records it".to_owned()),
        (false, _) => Err("nothing proves the time of the signature; sign with a timestamp authority (`tsaUrls` of `--signing-config`)".to_owned()),
    }
}
