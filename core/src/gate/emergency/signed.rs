//! What people signed about emergency changes of one image: declarations, agreements, rejections and closures, and who wrote the
//! change.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::policy::EmergencyPolicy;
use super::reasons::{
    EMERGENCY_CLOSED, EMERGENCY_ELSEWHERE, EMERGENCY_EXPIRED, EMERGENCY_NOT_ACCEPTED,
    EMERGENCY_NOT_AGREED, EMERGENCY_REJECTED, EMERGENCY_UNDECIDED,
};
use super::refused::{Refused, Step};
use crate::attest::predicate::{self, ApprovalDecision, EmergencyChange, Predicate};
use crate::attest::{Signer, VerifiedStatement};
use crate::gate::evidence::ImageEvidence;
use crate::gate::image::Digest;
use crate::gate::people::{Identity, Lookup, People, Person};
use crate::gate::rules::{
    Approval, AuthorAction, ImageCheck, Scoped, Seating, is_entitled, kept_closures,
    kept_rejections, kept_unreadable, listed, minute, person, rejection_to_keep, scopes_include,
    seats_of, verified_times, witnessed,
};
use crate::gate::signer::RequiredTransparency;
use crate::gate::world::{KeptRejection, World};

/// How much later than allowed a declaration may expire, because the clock of the signer and that of the log differ.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);
/// What lifts a rejection.
const TALK: &str =
    "talk to that person: who rejected has to agree later, signed with a certificate";
/// The most declarations that are judged under one policy.
const DECLARATIONS: usize = 64;
/// How many people must agree where it is not known who wrote the change.
pub(super) const WITH_UNKNOWN_AUTHOR: usize = 2;

/// The statements about one image that are accepted under a policy.
pub(super) struct SignedWords<'a> {
    pub(super) section: &'a EmergencyPolicy,
    pub(super) check: &'a ImageCheck<'a>,
    pub(super) evidence: &'a ImageEvidence,
    pub(super) people: &'a People,
    pub(super) authors: &'a ChangeAuthors,
}

/// The authors of the change of one image, by what every governing policy accepts about it.
#[derive(Clone, Debug, Default)]
pub(in crate::gate) struct ChangeAuthors {
    /// The people, each with what they did.
    pub(in crate::gate) people: BTreeMap<String, AuthorAction>,
    /// Why there may be others.
    pub(in crate::gate) unknown: Option<String>,
    /// Why a part of what names the authors could not be read. An author in that part could fill a seat.
    pub(in crate::gate) unread: Option<String>,
}

/// A declaration that has everything which people have to give.
#[derive(Clone, Debug)]
pub(in crate::gate) struct Agreed<'a> {
    pub(in crate::gate) said: &'a EmergencyChange,
    pub(in crate::gate) declared_by: BTreeSet<&'a str>,
    /// Everybody who agreed, those who declared it included.
    pub(in crate::gate) agreed: BTreeSet<&'a str>,
    /// When it was declared: the earliest verified time.
    pub(in crate::gate) declared_at: Timestamp,
    /// From when on it does not count.
    pub(in crate::gate) ends: Timestamp,
}

/// A person who signed a declaration, with the earliest and the latest verified time.
#[derive(Clone, Copy)]
pub(super) struct Declarer<'a> {
    person: &'a Person,
    times: (Timestamp, Timestamp),
    ends: Timestamp,
}

/// What people said of one declaration.
pub(in crate::gate) struct Votes<'a> {
    /// Whose agreement counts, without authors.
    pub(in crate::gate) counted: Vec<Approval<'a>>,
    /// For each signer whose agreement does not count, why not.
    pub(in crate::gate) excuses: BTreeMap<String, String>,
}

/// How early a declaration is judged; the greatest first.
pub(super) type Rank = (bool, bool, Option<Timestamp>);

/// A person, with the earliest and the latest verified time of the signature.
pub(super) type SignedBy<'a> = (&'a Person, (Timestamp, Timestamp));

impl<'a> SignedWords<'a> {
    /// The statements that verified under a trust root which the policy accepts.
    pub(super) fn accepted(&self) -> impl Iterator<Item = &'a VerifiedStatement> {
        let names = self.section.root_names(self.check.policy).into_iter();
        let roots: Vec<_> = names
            .filter_map(|name| self.check.world.trust_roots.get(name))
            .collect();
        let statements = self.evidence.statements.iter();
        let statements = statements.map(|(_, statement)| &**statement);
        statements.filter(move |it| roots.iter().any(|root| it.anchor().is_under(root)))
    }

    /// The digests of the declarations, each with its rank: whether a person who may agree signed it or agreed to it, whether a person
    /// signed it, and when.
    pub(super) fn declarations(&self) -> impl Iterator<Item = (Digest, Rank)> {
        let agreed = self.agreed_to();
        let declarations = self
            .accepted()
            .filter(|it| matches!(it.predicate(), Predicate::EmergencyChange(_)));
        declarations.map(move |it| {
            let id = it.digest().clone();
            let latest = verified_times(it).map(|(_, latest)| latest);
            let by = person(it.signer(), self.people).ok();
            let is_agreed = by.is_some_and(|by| self.is_entitled(by, None)) || agreed.contains(&id);
            (id, (is_agreed, by.is_some(), latest))
        })
    }

    /// The declarations that a person who may agree has agreed to, whether or not that is enough.
    fn agreed_to(&self) -> BTreeSet<&'a Digest> {
        let mut agreed = BTreeSet::new();
        for statement in self.accepted() {
            let Predicate::Approval(said) = statement.predicate() else {
                continue;
            };
            let named = said.emergency.as_ref();
            let Some(id) = named.filter(|_| said.decision == ApprovalDecision::Approved) else {
                continue;
            };
            let by = person(statement.signer(), self.people);
            if by.is_ok_and(|by| self.is_entitled(by, None)) {
                agreed.insert(id);
            }
        }
        agreed
    }

    /// A declaration that people agreed to as the policy asks.
    ///
    /// # Errors
    /// Why it does not count.
    pub(super) fn agreed(&self, id: &Digest) -> Result<Agreed<'a>, Refused> {
        // 1. Who declared it, when, for which place, and whether it still counts: an old declaration or one for another place must
        //    not be replayed here.
        let (said, declarers) = self.declared(id)?;
        // 2. Nothing ends or blocks it.
        self.not_closed(id)?;
        self.not_rejected(id)?;
        if let Some(why) = &self.authors.unread {
            return Err(Refused::undecided(
                Step::Evidence,
                EMERGENCY_UNDECIDED,
                why.as_str(),
            ));
        }
        // 3. The people. One person fills one seat, whatever identities the person has, and no author fills any.
        let votes = self.votes(id, &declarers);
        let counted: Vec<_> = votes.counted.iter().collect();
        let seating = Seating::of(&self.section.from, &counted);
        let agreed: BTreeSet<_> = counted.iter().map(|it| it.person).collect();
        let too_few = match &self.authors.unknown {
            Some(why) if agreed.len() < WITH_UNKNOWN_AUTHOR => Some(format!(
                "at least {WITH_UNKNOWN_AUTHOR} people of `emergency.from` must agree, because {why}"
            )),
            _ => None,
        };
        let missing = match (seating.missing(), too_few) {
            (0, None) => None,
            (0, too_few) => too_few,
            (_, _) => Some(format!("missing: {}", seating.open())),
        };
        if let Some(mut detail) = missing {
            let seated = seating.seated();
            if !seated.is_empty() {
                detail.push_str(&format!("; agreed: {seated}"));
            }
            let excuses = votes.excuses.iter();
            let excuses = excuses.map(|(who, why)| format!("{who} does not count: {why}"));
            let excuses = listed(excuses, 4);
            if !excuses.is_empty() {
                detail.push_str(&format!("; {excuses}"));
            }
            return Err(Refused::failed(
                Step::Agreement,
                EMERGENCY_NOT_AGREED,
                detail,
            ));
        }
        // Others who sign the same text agree to it.
        let first = declarers.iter().map(|it| (it.times.0, &*it.person.name));
        let (declared_at, declared_by) = first.min().unwrap_or((self.check.promotion.at, ""));
        let ends = declarers.iter().map(|it| it.ends);
        Ok(Agreed {
            said,
            declared_by: BTreeSet::from([declared_by]),
            agreed,
            declared_at,
            ends: ends.max().unwrap_or(said.expires),
        })
    }

    /// The declaration, and everybody whose signature of it counts.
    pub(super) fn declared(
        &self,
        id: &Digest,
    ) -> Result<(&'a EmergencyChange, Vec<Declarer<'a>>), Refused> {
        let mut declarers = Vec::new();
        let mut refused = None;
        let mut found = None;
        for statement in self.accepted().filter(|it| it.digest() == id) {
            let Predicate::EmergencyChange(said) = statement.predicate() else {
                continue;
            };
            found = Some(&**said);
            match self.declarer(statement, said) {
                Ok(declarer) => declarers.push(declarer),
                Err(why) => refused = Refused::clearest(refused, why),
            }
        }
        match (found, declarers.is_empty(), refused) {
            (Some(said), false, _) => Ok((said, declarers)),
            (_, _, Some(refused)) => Err(refused),
            (_, _, None) => Err(Refused::failed(
                Step::Place,
                EMERGENCY_ELSEWHERE,
                format!(
                    "it is not about {}; one declaration has to be about every image that needs it",
                    self.check.name()
                ),
            )),
        }
    }

    pub(super) fn declarer(
        &self,
        statement: &'a VerifiedStatement,
        said: &EmergencyChange,
    ) -> Result<Declarer<'a>, Refused> {
        let now = self.check.promotion.at;
        let no = |step, reason, detail| Err(Refused::failed(step, reason, detail));
        let (person, times) = self
            .signer(statement)
            .map_err(|why| Refused::failed(Step::Signer, EMERGENCY_NOT_ACCEPTED, why))?;
        let environment = self.check.policy.environment.as_deref();
        if Some(said.environment.as_str()) != environment {
            let detail = format!(
                "it is for `{}`, not `{}`",
                said.environment,
                environment.unwrap_or_default()
            );
            return no(Step::Place, EMERGENCY_ELSEWHERE, detail);
        }
        let (promotion, world) = (self.check.promotion, self.check.world);
        match scopes_include("declaration", &said.scopes, promotion, world) {
            Scoped::Here => {}
            Scoped::Elsewhere(why) | Scoped::NotKnown(why) => {
                return no(Step::Place, EMERGENCY_ELSEWHERE, why);
            }
            Scoped::Unknown(why) => {
                let unknown = Refused::undecided(Step::Place, EMERGENCY_UNDECIDED, why);
                return Err(
                    unknown.hint("set `cluster` in the configuration, or `check --cluster NAME`")
                );
            }
        }
        // The time that the declaration gives itself is bounded from its verified time. A signature by a key can get a new
        // timestamp, but no other end.
        let most = self.section.maximum_validity();
        let until = times.0.saturating_add(most.duration()).unwrap_or(times.0);
        let ends = said.expires.min(until);
        if ends <= now {
            let detail = format!("it expired on {}", minute(ends));
            return no(Step::Time, EMERGENCY_EXPIRED, detail);
        }
        if said.expires > until.saturating_add(CLOCK_SKEW).unwrap_or(until) {
            let detail = format!(
                "it expires on {}, and the policy accepts at most {most} from {}",
                minute(said.expires),
                minute(times.0)
            );
            return no(Step::Time, EMERGENCY_NOT_ACCEPTED, detail);
        }
        Ok(Declarer {
            person,
            times,
            ends,
        })
    }

    /// The person who signed, and the verified times, if the signature counts.
    pub(super) fn signer(&self, statement: &'a VerifiedStatement) -> Result<SignedBy<'a>, String> {
        let transparency = self.section.transparency(self.check.policy);
        signed_by(
            statement,
            transparency,
            self.people,
            self.check.promotion.at,
        )
    }

    /// Refuses a declaration that was ended by a person who may end it, also where the cluster alone still says so.
    pub(super) fn not_closed(&self, id: &Digest) -> Result<(), Refused> {
        let mut refused = Vec::new();
        for statement in self.accepted() {
            let (is_unreadable, reason) = match statement.predicate() {
                Predicate::EmergencyClosure(said) if said.emergency == *id => {
                    (false, said.reason.as_deref())
                }
                Predicate::Unreadable(why)
                    if predicate::is_emergency_closure(statement.predicate_type()) =>
                {
                    (true, Some(why.detail.as_str()))
                }
                _ => continue,
            };
            let Ok(by) = person(statement.signer(), self.people) else {
                continue;
            };
            if !self.may_close(by, Some(statement), id) {
                continue;
            }
            let at = verified_times(statement).map(|(_, latest)| format!(" on {}", minute(latest)));
            let at = at.unwrap_or_default();
            let reason = reason
                .map(|reason| format!(": {reason}"))
                .unwrap_or_default();
            refused.push(match is_unreadable {
                false => Refused::failed(
                    Step::Ended,
                    EMERGENCY_CLOSED,
                    format!("`{}` ended it{at}{reason}", by.name),
                ),
                true => Refused::undecided(
                    Step::Ended,
                    EMERGENCY_UNDECIDED,
                    format!(
                        "`{}` signed a statement{at} that cannot be read and could end it{reason}",
                        by.name
                    ),
                ),
            });
        }
        let kept = kept_closures(self.check, id).filter(|kept| self.is_ended_by(kept, id));
        refused.extend(kept.map(|kept| {
            let reason = kept.reason.as_ref().map(|reason| format!(": {reason}"));
            let detail = format!(
                "`{}` ended it on {}{}; the cluster keeps that as the `Rejection` `{}`",
                kept.person,
                minute(kept.at),
                reason.unwrap_or_default(),
                kept.name
            );
            Refused::failed(Step::Ended, EMERGENCY_CLOSED, detail)
        }));
        least(refused)
    }

    /// Whether a closure that the cluster keeps ends a declaration. Without a namespace, the right of the person depended on no
    /// policy, and can rest on a signature that was deleted since. With one, the right rests on `from` and is asked again. The directory
    /// may not list the person whom a governor named: that closure counts in its namespace.
    fn is_ended_by(&self, kept: &KeptRejection, id: &Digest) -> bool {
        let Some(namespace) = &kept.namespace else {
            return true;
        };
        let promotion = self.check.promotion;
        let when = [kept.at, promotion.at];
        match self.people.person(&kept.person) {
            Some(by) => {
                self.has_declared(by, id)
                    || self.is_governor(by)
                    || is_entitled(by, when, &self.section.from, self.people)
            }
            None => promotion.change.workload.namespace.as_ref() == Some(namespace),
        }
    }

    /// Whether a person may end a declaration: the first who signed it, one whom `from` names, or a governor. `statement` is what the
    /// person signed, if that was signed before now.
    pub(super) fn may_close(
        &self,
        by: &Person,
        statement: Option<&VerifiedStatement>,
        id: &Digest,
    ) -> bool {
        self.has_declared(by, id) || self.is_entitled(by, statement) || self.is_governor(by)
    }

    /// Whether a person is the first who signed a declaration.
    fn has_declared(&self, by: &Person, id: &Digest) -> bool {
        self.first_declarer(id) == Some(&*by.name)
    }

    /// The name of the first who signed a declaration.
    fn first_declarer(&self, id: &Digest) -> Option<&'a str> {
        // Everybody can sign the same text again, so the one who signed it first has declared it.
        let signed = self.accepted().filter(|it| {
            it.digest() == id && matches!(it.predicate(), Predicate::EmergencyChange(_))
        });
        let first = signed
            .filter_map(|it| {
                let by = person(it.signer(), self.people).ok()?;
                Some((verified_times(it)?.0, &*by.name))
            })
            .min();
        first.map(|(_, name)| name)
    }

    /// Refuses a declaration if a person who may agree has rejected it or the digest. A rejection stands until the same person says the opposite
    /// of the same, later and with a certificate.
    fn not_rejected(&self, id: &Digest) -> Result<(), Refused> {
        let lifted = self.lifted(id);
        let mut refused = Vec::new();
        for statement in self.accepted() {
            let (what, said) = match statement.predicate() {
                Predicate::Approval(said) if said.decision == ApprovalDecision::Rejected => {
                    (self.about(said, id), Some(&**said))
                }
                Predicate::Unreadable(_) if predicate::is_approval(statement.predicate_type()) => {
                    (Some(About::Unknown), None)
                }
                _ => continue,
            };
            let Ok(by) = person(statement.signer(), self.people) else {
                continue;
            };
            let Some(what) = what.filter(|_| self.is_entitled(by, Some(statement))) else {
                continue;
            };
            let latest = verified_times(statement).map(|(_, latest)| latest);
            let lifted = lifted.get(&(&*by.name, what)).copied();
            if latest.is_some() && lifted > latest {
                continue;
            }
            let at = latest
                .map(|at| format!(" on {}", minute(at)))
                .unwrap_or_default();
            refused.push(match said {
                Some(said) => {
                    let reason = said.reason.as_ref().map(|reason| format!(": {reason}"));
                    rejected(by, what, &at, &reason.unwrap_or_default())
                }
                None => Refused::undecided(
                    Step::Rejected,
                    EMERGENCY_UNDECIDED,
                    format!(
                        "`{}` signed a statement{at} that cannot be read and could be a rejection",
                        by.name
                    ),
                ),
            });
        }
        for (kept, by) in kept_rejections(self.check, self.people) {
            let what = match &kept.emergency {
                None => About::Digest,
                Some(named) if named == id => About::Declaration,
                Some(_) => continue,
            };
            let when = [kept.at, self.check.promotion.at];
            let lifted = lifted.get(&(&*by.name, what)).copied();
            if lifted <= Some(kept.at) && is_entitled(by, when, &self.section.from, self.people) {
                let reason = kept.reason.as_ref().map(|reason| format!(": {reason}"));
                let at = format!(" on {}", minute(kept.at));
                let why = rejected(by, what, &at, &reason.unwrap_or_default());
                refused.push(why.hint(format!(
                    "{TALK}, or a governor deletes the `Rejection` `{}`",
                    kept.name
                )));
            }
        }
        refused.extend(
            kept_unreadable(self.check)
                .map(|why| Refused::undecided(Step::Rejected, EMERGENCY_UNDECIDED, why)),
        );
        least(refused)
    }

    /// The rejections that deny emergency changes of the image and that the cluster has to keep, each with whether its time is
    /// verified: those of the digest, and those of a declaration that is attached too. Others cannot fill the cluster with rejections
    /// of declarations that do not exist.
    pub(super) fn to_keep(&self) -> Vec<(KeptRejection, bool)> {
        let mut kept = Vec::new();
        let declared: LazyCell<BTreeSet<_>, _> =
            LazyCell::new(|| self.declarations().map(|(id, _)| id).collect());
        for statement in self.accepted() {
            let Predicate::Approval(said) = statement.predicate() else {
                continue;
            };
            let is_declared = |id: &Digest| declared.contains(id);
            if said.decision != ApprovalDecision::Rejected
                || !said.emergency.as_ref().is_none_or(is_declared)
            {
                continue;
            }
            let by = person(statement.signer(), self.people).ok();
            let Some(by) = by.filter(|by| self.is_entitled(by, Some(statement))) else {
                continue;
            };
            let (promotion, world) = (self.check.promotion, self.check.world);
            let own = statement.digest();
            let id = said.emergency.as_ref().unwrap_or(own);
            // One for a cluster is kept where it is known that this is the cluster.
            let scoped = scopes_include("decision", &said.scopes, promotion, world);
            let what = self.about(said, id);
            let Some(what) = what.filter(|_| matches!(scoped, Scoped::Here)) else {
                continue;
            };
            let latest = verified_times(statement).map(|(_, latest)| latest);
            let lifted = self.lifted(id).get(&(&*by.name, what)).copied();
            if latest.is_some() && lifted > latest {
                continue;
            }
            let new = rejection_to_keep(said, by, latest, self.check);
            kept.extend(new.map(|(new, is_timed)| {
                let environment = self.check.policy.environment.clone();
                let environment = environment.unwrap_or_default();
                (KeptRejection { environment, ..new }, is_timed)
            }));
        }
        kept
    }

    /// The closures of emergency changes of the image that the cluster has to keep: one for each declaration that is judged and that
    /// could be in force without the closure.
    ///
    /// A declarer may end their declaration without being named in `from`. Such a closure is kept only under two conditions:
    ///
    /// * A person in `from` agreed to the declaration. Without this condition, one person could fill the cluster by declaring and ending
    ///   many emergency changes.
    /// * All evidence was read. Otherwise the unread part could hold an earlier signature of the same declaration.
    pub(super) fn closures_to_keep(&self) -> Vec<KeptRejection> {
        let mut kept: BTreeMap<&Digest, KeptRejection> = BTreeMap::new();
        let judged: LazyCell<Vec<_>, _> = LazyCell::new(|| foremost(self.declarations()));
        let is_complete = self.check.evidence.complete().is_some();
        // However many closures name a declaration, it is looked at once.
        let (mut in_force, mut declarers) = (BTreeMap::new(), BTreeMap::new());
        for statement in self.accepted() {
            let Predicate::EmergencyClosure(said) = statement.predicate() else {
                continue;
            };
            let id = &said.emergency;
            let Ok(by) = person(statement.signer(), self.people) else {
                continue;
            };
            let is_in_force = || judged.contains(id) && self.declared(id).is_ok();
            if !*in_force.entry(id).or_insert_with(is_in_force) {
                continue;
            }
            let declarer = || {
                let first = self.first_declarer(id).filter(|_| is_complete);
                first.filter(|_| !self.votes_of(id).counted.is_empty())
            };
            let declarer = *declarers.entry(id).or_insert_with(declarer);
            // The right of these does not depend on the policy.
            let namespace = match self.is_governor(by) || declarer == Some(&*by.name) {
                true => None,
                false if self.is_entitled(by, Some(statement)) => {
                    self.check.promotion.change.workload.namespace.clone()
                }
                false => continue,
            };
            let latest = verified_times(statement).map(|(_, latest)| latest);
            let new = KeptRejection {
                name: String::new(),
                environment: self.check.policy.environment.clone().unwrap_or_default(),
                namespace,
                emergency: Some(id.clone()),
                is_closure: true,
                person: by.name.clone(),
                at: latest.unwrap_or(self.check.promotion.at),
                reason: said.reason.clone(),
            };
            // Of several the first, so that the order of the statements does not matter; before it, one that counts under every policy.
            let order = |it: &KeptRejection| {
                let is_limited = it.namespace.is_some();
                (is_limited, it.at, it.person.clone(), it.reason.clone())
            };
            let known = kept.entry(id).or_insert_with(|| new.clone());
            if order(&new) < order(&*known) {
                *known = new;
            }
        }
        kept.into_values().collect()
    }

    /// Until when each person's certificates say yes to the declaration, and to the digest.
    pub(super) fn lifted(&self, id: &Digest) -> BTreeMap<(&'a str, About), Timestamp> {
        let mut lifted = BTreeMap::new();
        for statement in self.accepted() {
            let Predicate::Approval(said) = statement.predicate() else {
                continue;
            };
            let (promotion, world) = (self.check.promotion, self.check.world);
            let scoped = scopes_include("approval", &said.scopes, promotion, world);
            let is_yes = said.decision == ApprovalDecision::Approved
                && matches!(statement.signer(), Signer::Certificate(_))
                && Some(said.environment.as_str()) == self.check.policy.environment.as_deref()
                && matches!(scoped, Scoped::Here);
            let about = self.about(said, id).filter(|_| is_yes);
            let (Some(about), Ok((by, (earliest, _)))) = (about, self.signer(statement)) else {
                continue;
            };
            let known = lifted.entry((&*by.name, about)).or_insert(earliest);
            *known = earliest.max(*known);
        }
        lifted
    }

    /// What a decision is about, if it is about this declaration or about the digest in this place.
    pub(super) fn about(&self, said: &predicate::Approval, id: &Digest) -> Option<About> {
        let is_here = || {
            let (promotion, world) = (self.check.promotion, self.check.world);
            let scoped = scopes_include("decision", &said.scopes, promotion, world);
            !matches!(scoped, Scoped::Elsewhere(_))
        };
        let environment = self.check.policy.environment.as_deref();
        match &said.emergency {
            Some(named) => (named == id && is_here()).then_some(About::Declaration),
            None => {
                let is_ours = Some(said.environment.as_str()) == environment;
                (is_ours && is_here()).then_some(About::Digest)
            }
        }
    }

    /// Whose agreement to a declaration counts, although it may not count itself.
    pub(super) fn votes_of(&self, id: &Digest) -> Votes<'a> {
        let declarers = self.declared(id).map(|(_, declarers)| declarers);
        self.votes(id, &declarers.unwrap_or_default())
    }

    /// The agreements to a declaration that count. A signature of the declaration is one.
    fn votes(&self, id: &Digest, declarers: &[Declarer<'a>]) -> Votes<'a> {
        let mut votes = Votes {
            counted: Vec::new(),
            excuses: BTreeMap::new(),
        };
        let now = self.check.promotion.at;
        for Declarer { person, times, .. } in declarers {
            votes.add(self, person, [times.0, times.1, now]);
        }
        for statement in self.accepted() {
            let Predicate::Approval(said) = statement.predicate() else {
                continue;
            };
            if said.decision != ApprovalDecision::Approved || said.emergency.as_ref() != Some(id) {
                continue;
            }
            match self.agreement(statement, said) {
                Ok((person, times)) => votes.add(self, person, [times.0, times.1, now]),
                Err((who, why)) => votes.excuse(who, why),
            }
        }
        // One statement of a person is enough.
        let counted = votes.counted.iter().map(|it| format!("`{}`", it.person));
        for who in counted.collect::<Vec<_>>() {
            votes.excuses.remove(&who);
        }
        votes
    }

    /// The person who agreed, with the verified times.
    ///
    /// # Errors
    /// The signer, and why the agreement does not count.
    pub(super) fn agreement(
        &self,
        statement: &'a VerifiedStatement,
        said: &predicate::Approval,
    ) -> Result<SignedBy<'a>, (String, String)> {
        let signer = statement.signer();
        let known = person(signer, self.people);
        let who = known.as_ref().map_or_else(
            |_| signer.to_string(),
            |person| format!("`{}`", person.name),
        );
        let no = |why: String| Err((who.clone(), why));
        let (person, times) = match (known, self.signer(statement)) {
            (Err(why), _) | (Ok(_), Err(why)) => return no(why),
            (Ok(_), Ok(signed)) => signed,
        };
        let environment = self.check.policy.environment.as_deref();
        if Some(said.environment.as_str()) != environment {
            return no(format!("the agreement is for `{}`", said.environment));
        }
        let (promotion, world) = (self.check.promotion, self.check.world);
        match scopes_include("agreement", &said.scopes, promotion, world) {
            Scoped::Here => {}
            Scoped::Elsewhere(why) | Scoped::NotKnown(why) | Scoped::Unknown(why) => {
                return no(why);
            }
        }
        match said.valid_until.filter(|until| *until <= promotion.at) {
            Some(until) => no(format!("the agreement was valid until {}", minute(until))),
            None => Ok((person, times)),
        }
    }

    /// Whether a person may fill a seat now, or could when a statement was signed.
    pub(super) fn is_entitled(&self, by: &Person, statement: Option<&VerifiedStatement>) -> bool {
        let signed = statement.and_then(verified_times).into_iter();
        let when = signed.flat_map(|it| [it.0, it.1]);
        let when = when.chain([self.check.promotion.at]);
        is_entitled(by, when, &self.section.from, self.people)
    }

    fn is_governor(&self, by: &Person) -> bool {
        let mut governors = governors(self.check.world, self.people);
        governors.any(|governor| governor.name == by.name)
    }
}

/// The person who signed a statement, and the verified times, if the signature counts.
///
/// # Errors
/// Why it does not count.
pub(super) fn signed_by<'a>(
    statement: &VerifiedStatement,
    transparency: Option<RequiredTransparency>,
    people: &'a People,
    now: Timestamp,
) -> Result<SignedBy<'a>, String> {
    let signer = statement.signer();
    let person = person(signer, people).map_err(|why| format!("signed by {signer}: {why}"))?;
    let times = witnessed(statement, transparency, now)
        .map_err(|why| format!("signed by `{}`: {why}", person.name))?;
    let is_active = [times.0, times.1, now]
        .into_iter()
        .all(|at| person.is_active_at(at));
    match is_active {
        true => Ok((person, times)),
        false => Err(format!(
            "the directory does not list `{}` as active, both at the time of the signature and now",
            person.name
        )),
    }
}

impl<'a> Votes<'a> {
    fn add(&mut self, words: &SignedWords<'a>, person: &'a Person, when: [Timestamp; 3]) {
        let who = format!("`{}`", person.name);
        if let Some(did) = words.authors.people.get(&person.name) {
            let why = format!("an author of the change ({did})");
            self.excuse(who, why);
            return;
        }
        match seats_of(person, when, &words.section.from, words.people) {
            Ok(seats) => self.counted.push(Approval {
                person: &person.name,
                seats,
                latest: when[1],
            }),
            Err(excuse) => self.excuse(who, excuse.why),
        }
    }

    /// Of several excuses the smaller text is told, so that the order of the statements does not matter.
    fn excuse(&mut self, who: String, why: String) {
        let known = self.excuses.entry(who).or_insert_with(|| why.clone());
        if why < *known {
            *known = why;
        }
    }
}

/// The declarations that are judged: those that a person who may agree has signed or agreed to come first, then those of other people, and
/// of each the newest, so that people who may not agree cannot hide one behind many others.
pub(super) fn foremost(declarations: impl IntoIterator<Item = (Digest, Rank)>) -> Vec<Digest> {
    let mut all: BTreeMap<Digest, Rank> = BTreeMap::new();
    for (digest, rank) in declarations {
        let known = all.entry(digest).or_insert(rank);
        *known = rank.max(*known);
    }
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort_by(|(a, of_a), (b, of_b)| (of_b, a).cmp(&(of_a, b)));
    all.truncate(DECLARATIONS);
    all.into_iter().map(|(digest, _)| digest).collect()
}

/// Refuses for the reason that came least far, so that the order of the statements does not matter.
fn least(refused: Vec<Refused>) -> Result<(), Refused> {
    refused.into_iter().min().map_or(Ok(()), Err)
}

/// The governors whom the people directory lists, by their users.
fn governors<'p>(world: &World, people: &'p People) -> impl Iterator<Item = &'p Person> {
    let users = world.governors.users.iter().cloned();
    users.filter_map(
        move |user| match people.person_of(&Identity::KubernetesUser(user)) {
            Lookup::Person(person) => Some(person),
            _ => None,
        },
    )
}

/// What a decision is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum About {
    /// A declaration of an emergency change.
    Declaration,
    /// The digest in general.
    Digest,
    /// Not known, because the statement cannot be read.
    Unknown,
}

fn rejected(by: &Person, about: About, at: &str, reason: &str) -> Refused {
    let what = match about {
        About::Declaration => "it",
        About::Digest | About::Unknown => "this digest",
    };
    let detail = format!("`{}` rejected {what}{at}{reason}", by.name);
    Refused::failed(Step::Rejected, EMERGENCY_REJECTED, detail).hint(TALK)
}
