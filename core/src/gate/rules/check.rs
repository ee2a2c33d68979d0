//! What a rule sees, and what every rule that looks at evidence says in the same way.

use super::{Effect, Needs, Requirement};
use crate::attest::Origin;
use crate::gate::evidence::{Collected, Form, ImageEvidence, Subject};
use crate::gate::finding::{Judgement, Outcome};
use crate::gate::image::Digest;
use crate::gate::promotion::{ImageUse, Pin, Promotion};
use crate::gate::world::World;
use crate::reason::reasons;

/// How far a verified time may lie in the future of the review: clocks differ.
const CLOCK_SKEW: jiff::SignedDuration = jiff::SignedDuration::from_mins(5);

reasons! {
    /// What every rule may say that looks at evidence.
    OF_EVIDENCE:
    IMAGE_UNAVAILABLE = "image-unavailable",
        "The tag could not be resolved, so nobody knows which image it is.",
        "Name the image by digest, and see whether the registry answers. This is an infrastructure problem, or a tag that does not exist.";
    EVIDENCE_UNAVAILABLE = "evidence-unavailable",
        "The registry could not be asked what is attached to the image, and nothing is remembered.",
        "This is an infrastructure problem, not missing evidence: the detail names the registry, its answer and what was tried. Try again when it is solved.";
    EVIDENCE_PARTIAL = "evidence-partial",
        "What was found is not enough, and not everything could be read: what is missing may be there.",
        "The detail says what could not be read. Try again when it is solved.";
    SIGNED_IN_THE_FUTURE = "signed-in-the-future",
        "A verified time lies after the review: one of two clocks is wrong.",
        "See whether the gate's clock is right.";
    NOT_TRANSPARENT_ENOUGH = "not-transparent-enough",
        "The right signer signed, but without the log entry or timestamp that the policy asks for.",
        "Sign with a transparency log, or have the policy ask for less with `transparency`.";
    TRUST_ROOT_MISSING = "trust-root-missing",
        "The policy names a trust root that the configuration does not have, or has no more: nothing counts under it.",
        "Add the trust root to `trustRoots` of the configuration again, or name another one in the policy. The log and `/readyz` name the policies that wait for it.";
}

/// One image as a rule sees it.
#[derive(Debug)]
pub struct ImageCheck<'a> {
    /// The promotion that it is part of.
    pub promotion: &'a Promotion,
    /// The environment that the policy is for, where it names one.
    pub environment: Option<&'a str>,
    /// What is known besides images.
    pub world: &'a World,
    /// Where it stands and how it is written.
    pub image: &'a ImageUse,
    /// Its digest.
    pub pin: &'a Pin,
    /// What the evidence is about: the image's digest, or that of one of its platforms.
    pub subject: Option<&'a Subject>,
    /// What is attached to the subject.
    pub evidence: Collected<&'a ImageEvidence>,
    /// An index that is known to hold the image as one of its platforms.
    pub parent_index: Option<&'a Digest>,
}

/// The object as a rule sees it.
#[derive(Debug)]
pub struct WorkloadCheck<'a> {
    /// What was asked.
    pub promotion: &'a Promotion,
    /// The environment that the policy is for, where it names one.
    pub environment: Option<&'a str>,
    /// What is known besides images.
    pub world: &'a World,
}

impl ImageCheck<'_> {
    /// What evidence is about, as a command can name it.
    pub(super) fn name(&self) -> String {
        match self.subject {
            Some(subject) => subject.to_string(),
            None => self.image.reference.to_string(),
        }
    }

    /// What to say where nothing is attached that could be `what`. Absence is said only where everything was read, and only of an
    /// image to which nothing else is attached.
    pub(super) fn none_of(&self, what: &str, form: Form) -> String {
        let evidence = self.evidence.value();
        let instead = evidence.and_then(|evidence| evidence.instead_of(form));
        let unsupported = evidence.and_then(|evidence| evidence.unsupported.first());
        let mut text = match (instead, self.evidence.unavailabilities()) {
            (Some(instead), _) => format!("what is attached to it is no {what}: {instead}"),
            (None, []) => format!("no {what} is attached to it"),
            (None, _) => format!("no {what} was found"),
        };
        if let Some(unavailability) = unsupported {
            text.push_str(&format!(
                "; the registry does not seem to have one of the places where it could be ({unavailability})"
            ));
        }
        text
    }

    /// What to do where nothing is attached: `otherwise`, unless the digest is that of a platform.
    pub(super) fn nothing_attached(&self, otherwise: String) -> String {
        match self.parent_index {
            Some(index) => format!(
                "`{}` is one platform of the index `{index}`; evidence of an index counts for all of its platforms, but only where the index is named: write `@{index}`",
                self.name()
            ),
            None => otherwise,
        }
    }
}

/// What is known about an image.
///
/// # Errors
/// What a rule says that cannot judge without.
pub(super) fn readable<'a>(check: &ImageCheck<'a>) -> Result<&'a ImageEvidence, Judgement> {
    if let Pin::Resolved(Collected::Unavailable(unavailability)) = check.pin {
        return Err(Judgement::undecided(
            IMAGE_UNAVAILABLE,
            format!("the tag could not be resolved: {unavailability}"),
        )
        .hint("name the image by digest, and see whether the registry answers"));
    }
    match &check.evidence {
        Collected::Known(evidence) | Collected::Partial(evidence, _) => Ok(evidence),
        Collected::Unavailable(unavailability) => Err(Judgement::undecided(
            EVIDENCE_UNAVAILABLE,
            format!("could not be verified: {unavailability}"),
        )
        .hint(
            "this is an infrastructure problem, not missing evidence; try again when it is solved",
        )),
    }
}

/// A failure is only certain where everything was read.
pub(super) fn unless_partial(failed: Judgement, check: &ImageCheck<'_>) -> Judgement {
    match check.evidence.unavailabilities() {
        [] => failed,
        [unavailability, ..] => Judgement::undecided(
            EVIDENCE_PARTIAL,
            format!(
                "{}; but not everything attached could be read: {unavailability}",
                failed.detail
            ),
        ),
    }
}

/// Whether no verified time lies after the review.
pub(super) fn in_time(origin: &Origin, at: jiff::Timestamp) -> Result<(), String> {
    let latest = at
        .saturating_add(CLOCK_SKEW)
        .unwrap_or(jiff::Timestamp::MAX);
    match origin.times().iter().find(|time| time.at > latest) {
        Some(time) => Err(format!(
            "its verified time {} lies after the review's",
            time.at
        )),
        None => Ok(()),
    }
}

/// Why log entries or timestamps beside what is verified do not count, to follow a sentence about their lack.
pub(super) fn ignored<'o>(origins: impl IntoIterator<Item = &'o Origin>) -> String {
    let mut ignored = origins.into_iter().flat_map(Origin::ignored);
    let first = ignored.next();
    first.map_or_else(String::new, |why| format!("; one was ignored: {why}"))
}

/// Several names in a sentence, not more than `most` of them.
pub(super) fn listed(names: impl IntoIterator<Item = String>, most: usize) -> String {
    let names: Vec<_> = names.into_iter().collect();
    let shown: Vec<_> = names.iter().take(most).map(String::as_str).collect();
    let more = names.len() - shown.len();
    if more > 0 {
        return format!("{} and {more} more", shown.join(", "));
    }
    shown.join(", ")
}

impl Requirement {
    /// Takes back what the rule could not know: a denial where a trust root is missing, and, where unseen evidence could hurt,
    /// anything on a reading that is not complete.
    pub(in crate::gate) fn unless_unknown(
        &self,
        judgement: Judgement,
        check: &ImageCheck<'_>,
    ) -> Judgement {
        let Some(evidence) = self.evidence() else {
            return judgement;
        };
        if judgement.outcome.denies() {
            return unless_root_missing(judgement, &self.needs(check.world), check);
        }
        if evidence.effect == Effect::OnlyHelps {
            return judgement;
        }
        // What is signed under a trust root that is gone could turn a pass as well as what was not read.
        if let Some(name) = self.needs(check.world).missing_roots.first() {
            return root_missing(
                name,
                format!(
                    "the trust root `{name}`, which the policy names, is not configured, and what is signed under it could turn the answer"
                ),
            );
        }
        let unsupported = check.evidence.value().map(|evidence| &evidence.unsupported);
        let unavailabilities = check.evidence.unavailabilities().iter();
        match unavailabilities
            .chain(unsupported.into_iter().flatten())
            .next()
        {
            Some(first) => Judgement::undecided(
                EVIDENCE_PARTIAL,
                format!("not everything attached could be read: {first}"),
            ),
            None => judgement,
        }
    }
}

/// Without a trust root that the policy names, what is attached may be accepted or not; only that nothing is attached is
/// certain. What was accepted under other roots stands.
fn unless_root_missing(failed: Judgement, needs: &Needs, check: &ImageCheck<'_>) -> Judgement {
    let Some(name) = needs.missing_roots.first() else {
        return failed;
    };
    let nothing_attached =
        matches!(check.evidence, Collected::Known(evidence) if evidence.is_empty());
    let missing = format!("the trust root `{name}`, which the policy names, is not configured");
    let detail = match needs.anchors.is_empty() {
        true => missing,
        false if nothing_attached || failed.outcome != Outcome::Fail => return failed,
        false => format!("{}; but {missing}", failed.detail),
    };
    root_missing(name, detail)
}

fn root_missing(name: &str, detail: String) -> Judgement {
    Judgement::undecided(TRUST_ROOT_MISSING, detail).hint(format!(
        "add `{name}` to `trustRoots` of the configuration again, or have the policy name another trust root"
    ))
}
