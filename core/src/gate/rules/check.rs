//! The input of a rule, and the reasons and wording that all rules on evidence share.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use jiff::Timestamp;

use super::{NamedRoots, Requirement};
use crate::attest::unaccepted::TOO_LARGE;
use crate::attest::{KeyFingerprint, Origin, Signer, VerifiedStatement};
use crate::expression::Work;
use crate::gate::evidence::{
    Collected, Effect, Form, ImageEvidence, Subject, UnacceptedEvidence, Unavailability,
};
use crate::gate::finding::{Judgement, Outcome};
use crate::gate::image::Digest;
use crate::gate::policy::Policy;
use crate::gate::promotion::{ImageUse, Pin, Promotion};
use crate::gate::record::{ImageRecords, ScanAge};
use crate::gate::signer::{AcceptedSigner, Mismatch};
use crate::gate::world::World;
use crate::reason::{Reason, reasons};

/// A verified time may be this much later than the review, because the clocks of two machines differ.
const CLOCK_SKEW: jiff::SignedDuration = jiff::SignedDuration::from_mins(5);

reasons! {
    /// The reasons that every rule on evidence can give.
    OF_EVIDENCE:
    IMAGE_UNAVAILABLE = "image-unavailable",
        "The tag could not be resolved, so the gate does not know which image it names.",
        "Name the image by digest, and check that the registry answers. Either the registry cannot be reached, or the tag does not exist.";
    EVIDENCE_UNAVAILABLE = "evidence-unavailable",
        "The registry did not say what is attached to the image, and the cache has no earlier answer.",
        "This is an infrastructure problem, not missing evidence. The detail names the registry, its answer and what was tried. Try again when the problem is solved.";
    EVIDENCE_PARTIAL = "evidence-partial",
        "The evidence that was read is not enough, and some evidence could not be read. The missing evidence may be in that part.",
        "The detail says what could not be read. Try again when the registry answers. Trying again does not help in two cases. A manifest was deleted: remove its entry from the tag `sha256-…` of the image too. More is attached than the gate reads: delete old scans, as docs/vulnerabilities.md shows.";
    SIGNED_IN_THE_FUTURE = "signed-in-the-future",
        "A verified time is later than the review, so one of the two clocks is wrong.",
        "Check the gate's clock.";
    NOT_TRANSPARENT_ENOUGH = "not-transparent-enough",
        "An accepted signer signed, but the signature lacks the log entry or timestamp that the policy requires.",
        "Sign with a transparency log, or lower `transparency` in the policy.";
    TRUST_ROOT_MISSING = "trust-root-missing",
        "The policy names a trust root that is not in the configuration, was removed from it, or is in a TUF repository that was never read. Evidence under that trust root does not count.",
        "Add the trust root to `trustRoots` of the configuration, or name another one in the policy. The log and `/readyz` name the policies that need it, and why a repository could not be read.";
}

/// The input of an image rule.
#[derive(Debug)]
pub struct ImageCheck<'a> {
    /// The promotion that the image is part of.
    pub promotion: &'a Promotion,
    /// The policy that the requirement is an entry of.
    pub policy: &'a Policy,
    /// The trust roots and what is known about the cluster.
    pub world: &'a World,
    /// Which of the named trust roots are missing. The evidence below can also hold what is verified under roots that other rules name: a
    /// rule asks each accepted signer, which knows its own, and only an explanation may mention the rest.
    pub roots: &'a NamedRoots<'a>,
    /// The image's field path and its reference as written.
    pub image: &'a ImageUse,
    /// The image's digest, or why it is not known.
    pub pin: &'a Pin,
    /// What release records say about the image, where there are any.
    pub records: Option<&'a ImageRecords>,
    /// The subject of the evidence: the image, or one of its platforms. `None` if the digest is not known.
    pub subject: Option<&'a Subject>,
    /// The evidence that is attached to the subject.
    pub evidence: Collected<&'a ImageEvidence>,
    /// See [`Evidence::last_listed`](crate::gate::Evidence::last_listed).
    pub last_listed: Option<Duration>,
    /// An index that lists the image as one of its platforms, if one is known.
    pub parent_index: Option<&'a Digest>,
    /// The work that an expression of the requirement may take.
    pub work: Work,
}

/// The input of a workload rule.
#[derive(Debug)]
pub struct WorkloadCheck<'a> {
    /// The promotion that is judged.
    pub promotion: &'a Promotion,
    /// The policy that the requirement is an entry of.
    pub policy: &'a Policy,
    /// The trust roots and what is known about the cluster.
    pub world: &'a World,
    /// The work that an expression of the requirement may take.
    pub work: Work,
}

impl ImageCheck<'_> {
    /// The subject of the evidence, in the form that commands accept.
    pub(in crate::gate) fn name(&self) -> String {
        match self.subject {
            Some(subject) => subject.to_string(),
            None => self.image.reference.to_string(),
        }
    }

    /// Whether the digest was admitted to the policy's environment before, in any namespace, and complied with a policy that requires
    /// approvals: what takes time was judged then.
    pub(super) fn was_admitted(&self) -> bool {
        let environment = self.policy.environment.as_ref();
        let records = environment.zip(self.records);
        records.is_some_and(|(environment, records)| records.environments.contains(environment))
    }

    /// Whether this policy judged this age of the digest's scans before: at an earlier admission that complied, in any namespace.
    pub(super) fn has_judged(&self, age: ScanAge) -> bool {
        let judged = self.records.map(|records| &records.ages_judged);
        judged.is_some_and(|judged| judged.contains(&age.judged_by(&self.policy.name)))
    }

    /// The hint that names the command which shows all evidence.
    pub(super) fn look(&self) -> String {
        format!(
            "`promotion-gate evidence {}` shows everything that was found",
            self.name()
        )
    }

    /// The detail for an image without evidence of this form; `what` is the evidence's noun. Says that nothing is attached only
    /// if everything was read and nothing else is attached to the image.
    pub(super) fn none_of(&self, what: &str, form: Form) -> String {
        let evidence = self.evidence.value();
        let instead = evidence.and_then(|evidence| evidence.instead_of(form));
        let unsupported = evidence.and_then(|evidence| evidence.first_unsupported());
        let mut text = match (instead, self.evidence.unavailabilities()) {
            (Some(instead), _) => format!("no {what} was found, only {instead}"),
            (None, []) => format!("no {what} is attached to the image"),
            (None, _) => format!("no {what} was found"),
        };
        if let Some(unavailability) = unsupported {
            text.push_str(&format!(
                "; the registry does not seem to support one of the places where {what} could be ({unavailability})"
            ));
        }
        text
    }

    /// The hint for an image without evidence: `otherwise`, unless the image is one platform of a known index.
    pub(super) fn nothing_attached(&self, otherwise: String) -> String {
        match self.parent_index {
            Some(index) => format!(
                "`{}` is one platform of the index `{index}`; evidence of the index counts only if the manifest names the index: write `@{index}`",
                self.name()
            ),
            None => otherwise,
        }
    }
}

/// The evidence of an image, complete or not.
///
/// # Errors
/// The judgement of a rule that needs evidence, if none could be read.
pub(in crate::gate) fn readable<'a>(
    check: &ImageCheck<'a>,
) -> Result<&'a ImageEvidence, Judgement> {
    if let Pin::Resolved(Collected::Unavailable(unavailability)) = check.pin {
        return Err(Judgement::undecided(
            IMAGE_UNAVAILABLE,
            format!("the tag could not be resolved: {unavailability}"),
        )
        .hint("name the image by digest; check the name and the tag, that the registry answers, and that the gate's credentials may read there"));
    }
    match &check.evidence {
        Collected::Known(evidence) | Collected::Partial(evidence, _) => Ok(evidence),
        Collected::Unavailable(unavailability) => Err(Judgement::undecided(
            EVIDENCE_UNAVAILABLE,
            format!("the evidence could not be verified: {unavailability}"),
        )
        .hint(
            "this is an infrastructure problem, not missing evidence; try again when the problem is solved",
        )),
    }
}

/// Whether a statement is by this signer, with the required log entry or without it.
pub(super) fn is_by_accepted(
    accepted: &AcceptedSigner,
    statement: &VerifiedStatement,
    world: &World,
) -> bool {
    accepted.signed(statement, &world.trust_roots) != Err(Mismatch::OtherSigner)
}

/// The hint about a statement that cannot be read: `otherwise`, if a later statement can take its place. Without a verified time, none
/// is known to be later.
pub(super) fn replacing(is_timed: bool, otherwise: &str) -> &str {
    match is_timed {
        true => otherwise,
        false => {
            "nothing confirms when it was signed, so no later one takes its place: delete it in the registry and restart the gate, or build a new image; then attest with a transparency log or a timestamp authority"
        }
    }
}

/// Makes a failure undecided if some evidence could not be read.
pub(super) fn unless_partial(failed: Judgement, check: &ImageCheck<'_>) -> Judgement {
    match check.evidence.unavailabilities() {
        [] => failed,
        [unavailability, ..] => Judgement::undecided(
            EVIDENCE_PARTIAL,
            format!(
                "{}; but some of the attached evidence could not be read: {unavailability}",
                failed.detail
            ),
        ),
    }
}

/// Makes a denial undecided if a piece is attached that may be what is missing and that is too large to be read: what others attach
/// beside it does not make it known. `unaccepted` is the reason of the rule for what is not accepted; the next step of another denial
/// stays.
pub(super) fn unless_too_large(
    failed: Judgement,
    unaccepted: Reason,
    evidence: &ImageEvidence,
    check: &ImageCheck<'_>,
) -> Judgement {
    let Some(large) = evidence.too_large_as(Form::Statement) else {
        return failed;
    };
    if failed.reason == unaccepted {
        return Judgement::undecided(unaccepted, large).hint(check.look());
    }
    let detail = format!("{}; and {large}", failed.detail);
    // What helps against the denial helps still: the piece may be anything.
    let hints = failed.hint.into_iter().chain([check.look().into()]);
    let mut hints: Vec<_> = hints.collect();
    hints.dedup();
    Judgement::undecided(unaccepted, detail).hint(hints.join("; "))
}

/// A rollback, as findings name it.
pub(super) fn rollback_to(until: jiff::Timestamp) -> String {
    format!("rollback to what ran until {}", minute(until))
}

/// A time, as messages show it: minutes, rounded up.
pub(in crate::gate) fn minute(time: jiff::Timestamp) -> String {
    let up = time.saturating_add(jiff::SignedDuration::from_secs(59));
    let up = up.unwrap_or(time);
    let mut text = String::with_capacity(20);
    let _ = write!(text, "{}", up.strftime("%Y-%m-%d %H:%M UTC"));
    text
}

/// Refuses a verified time that is later than the review, plus [`CLOCK_SKEW`].
///
/// # Errors
/// The time, in a sentence that follows "signed by …, but".
pub(super) fn in_time(origin: &Origin, at: jiff::Timestamp) -> Result<(), String> {
    let latest = at
        .saturating_add(CLOCK_SKEW)
        .unwrap_or(jiff::Timestamp::MAX);
    match origin.times().iter().find(|time| time.at > latest) {
        Some(time) => Err(format!(
            "its verified time {} is later than the time of the review",
            time.at
        )),
        None => Ok(()),
    }
}

/// When statements were signed. The same statement by a key is one statement of its earliest verified time: only some of the anchors may
/// confirm a time, and a key's signature can be timestamped again later. With a certificate, each signature has a time of its own.
pub(super) struct SigningTimes<'s>(BTreeMap<(&'s Digest, &'s KeyFingerprint), Timestamp>);

impl<'s> SigningTimes<'s> {
    pub(super) fn of(statements: impl IntoIterator<Item = &'s VerifiedStatement>) -> Self {
        let mut times = BTreeMap::new();
        for statement in statements {
            if let (Signer::Key(key), Some(at)) =
                (statement.signer(), statement.made_at(Timestamp::MAX))
            {
                let known = times.entry((statement.digest(), key)).or_insert(at);
                *known = at.min(*known);
            }
        }
        SigningTimes(times)
    }

    /// The time of one of these statements; `None` where nothing confirms one.
    pub(super) fn at(&self, statement: &VerifiedStatement) -> Option<Timestamp> {
        match statement.signer() {
            Signer::Key(key) => self.0.get(&(statement.digest(), key)).copied(),
            Signer::Certificate(_) => statement.made_at(Timestamp::MAX),
        }
    }

    /// Whether one of these statements was signed later than another one of them by the same signer, both at verified times.
    pub(super) fn is_later(&self, new: &VerifiedStatement, old: &VerifiedStatement) -> bool {
        let times = self.at(new).zip(self.at(old));
        times.is_some_and(|(new, old)| new > old) && new.signer().is_in_another_run(old.signer())
    }
}

/// Why the first ignored log entry or timestamp does not count, as the end of a sentence that says that one is missing.
pub(super) fn ignored<'o>(origins: impl IntoIterator<Item = &'o Origin>) -> String {
    let mut ignored = origins.into_iter().flat_map(Origin::ignored);
    let first = ignored.next();
    first.map_or_else(String::new, |why| format!("; one was ignored: {why}"))
}

/// Room for most sentences, in bytes, which avoids reallocation.
const SENTENCE: usize = 256;

/// A sentence of a finding.
pub(super) fn sentence(text: fmt::Arguments<'_>) -> String {
    let mut sentence = String::with_capacity(SENTENCE);
    // Writing to a `String` cannot fail.
    let _ = sentence.write_fmt(text);
    sentence
}

/// Joins names with commas: at most `most` of them, then the number of the others.
pub(in crate::gate) fn listed(
    names: impl IntoIterator<Item = impl fmt::Display>,
    most: usize,
) -> String {
    let mut list = String::new();
    let mut names = names.into_iter();
    for (at, name) in names.by_ref().take(most).enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        let _ = write!(list, "{comma}{name}");
    }
    match names.count() {
        0 => list,
        more => format!("{list} and {more} more"),
    }
}

impl Requirement {
    /// Makes a judgement undecided if it rests on incomplete knowledge:
    /// 1. a denial, if a trust root that the policy names is missing: the evidence may be valid under that root;
    /// 2. a pass of a rule with [`Effect::CanHurt`], if some evidence was not read: that evidence could refute the pass. While a
    ///    registry does not answer, its last complete listing counts up to the policy's staleness. What a rollback passes on the
    ///    record does not rest on evidence.
    pub(in crate::gate) fn unless_unknown(
        &self,
        judgement: Judgement,
        check: &ImageCheck<'_>,
    ) -> Judgement {
        let Some(evidence) = self.evidence() else {
            return judgement;
        };
        if judgement.outcome.denies() {
            return unless_root_missing(judgement, check);
        }
        let is_on_record =
            matches!(self, Requirement::Approvals(_)) && check.promotion.is_rollback(check.policy);
        if evidence.effect == Effect::OnlyHelps || is_on_record {
            return judgement;
        }
        // What is signed under a trust root that is gone could turn a pass as well as what was not read.
        if let Some(name) = check.roots.missing() {
            let missing = why_missing(name, check);
            let detail = format!(
                "the trust root `{name}`, which the policy names, {missing}, and what is signed under it could turn the answer"
            );
            return root_missing(name, detail, check);
        }
        let judgement = naming_what_is_too_large(judgement, check);
        match unread_that_could_hurt(check) {
            None if check.evidence.unavailabilities().is_empty() => judgement,
            None => Judgement {
                detail: format!(
                    "{}, by what was attached when the registry last answered",
                    judgement.detail
                ),
                ..judgement
            },
            Some(first) => Judgement::undecided(
                EVIDENCE_PARTIAL,
                format!("some of the attached evidence could not be read: {first}"),
            ),
        }
    }

    /// A pass by the platforms of an index, with a warning if something that is attached to the index itself (`check`) could refute it
    /// and is too large to be read.
    pub(in crate::gate) fn warning_of_index(
        &self,
        judgement: Judgement,
        check: &ImageCheck<'_>,
    ) -> Judgement {
        match self.effect() {
            Effect::CanHurt if judgement.outcome == Outcome::Pass => {
                naming_what_is_too_large(judgement, check)
            }
            _ => judgement,
        }
    }
}

/// A pass with a warning if something that is attached is too large to be read. It changes nothing else, since everyone who may push can
/// attach such a piece.
fn naming_what_is_too_large(judgement: Judgement, check: &ImageCheck<'_>) -> Judgement {
    let evidence = check.evidence.value();
    let unaccepted = evidence.into_iter().flat_map(|it| &it.unaccepted);
    let is_large =
        |it: &&UnacceptedEvidence| it.why.reason == TOO_LARGE && it.form != Form::Signature;
    let Some(large) = unaccepted.filter(is_large).min() else {
        return judgement;
    };
    let large = format!(
        "what is too large to be read does not count: {}: {}",
        large.source, large.why.detail
    );
    judgement.warning(large)
}

/// Why some of the evidence was not read, if that could turn a pass. While a registry does not answer, its last complete listing
/// counts up to the policy's staleness.
pub(in crate::gate) fn unread_that_could_hurt<'c>(
    check: &'c ImageCheck<'_>,
) -> Option<&'c Unavailability> {
    let allowed = check.policy.staleness.duration().unsigned_abs();
    let serves = check.last_listed.is_some_and(|age| age <= allowed);
    let unread = check.evidence.unavailabilities().iter().min();
    let unsupported = check.evidence.value();
    let unsupported = unsupported.and_then(|evidence| evidence.unsupported.iter().min());
    match (unread, unsupported) {
        (Some(_), None) if serves => None,
        (unread, unsupported) => unread.or(unsupported),
    }
}

/// Makes a denial undecided if a trust root that the policy names is missing, because the evidence may be valid under that
/// root. A denial stands if nothing is attached to the image and the policy names other roots as well.
fn unless_root_missing(failed: Judgement, check: &ImageCheck<'_>) -> Judgement {
    let Some(name) = check.roots.missing() else {
        return failed;
    };
    let nothing_attached =
        matches!(check.evidence, Collected::Known(evidence) if evidence.is_empty());
    let missing = why_missing(name, check);
    let missing = format!("the policy names the trust root `{name}`, which {missing}");
    let detail = match check.roots.can_verify() {
        false => missing,
        true if nothing_attached || failed.outcome != Outcome::Fail => return failed,
        true => format!("{}; but {missing}", failed.detail),
    };
    root_missing(name, detail, check)
}

/// Why a trust root that the policy names is missing, as the end of a sentence.
fn why_missing(name: &str, check: &ImageCheck<'_>) -> &'static str {
    match check.world.declared_roots.contains(name) {
        true => "was not read from its repository yet",
        false => "is not configured",
    }
}

fn root_missing(name: &str, detail: String, check: &ImageCheck<'_>) -> Judgement {
    let hint = match check.world.declared_roots.contains(name) {
        true => format!(
            "`status.error` of the `TrustRoot` `{name}`, the log of the gate or a warning of this command says why"
        ),
        false => format!(
            "add `{name}` to `trustRoots` of the configuration, or name another trust root in the policy"
        ),
    };
    Judgement::undecided(TRUST_ROOT_MISSING, detail).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_in_minutes_and_never_before_it_has_come() {
        for (time, shown) in [
            ("2026-11-28T14:31:59Z", "2026-11-28 14:32 UTC"),
            ("2026-11-28T14:32:00Z", "2026-11-28 14:32 UTC"),
            ("2026-11-28T14:32:01Z", "2026-11-28 14:33 UTC"),
        ] {
            assert_eq!(minute(time.parse().unwrap()), shown);
        }
    }
}
