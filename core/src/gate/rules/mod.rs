//! The rules: one table from which the policy entries, their schema, their names and their documentation derive, and one
//! file per rule.

mod allowed_images;
mod digest_pinned;
mod provenance;
mod signature;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::attest::{Anchor, AnchorId, Origin};
use crate::reason::{Reason, reasons};

use super::evidence::{Collected, Form, ImageEvidence, Subject};
use super::finding::Outcome;
use super::image::{Digest, ImageReference};
use super::promotion::{ChangeKind, ImageUse, Pin, Promotion};
use super::signer::{AcceptedSigner, TrustRoots};

pub use allowed_images::AllowedImages;
pub use digest_pinned::DigestPinned;
pub use provenance::Provenance;
pub use signature::Signature;

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

/// What a rule needs to know of an image, and what it says about it.
pub trait Rule {
    /// Whether the rule applies to this kind of change.
    fn applies_to(&self, kind: ChangeKind) -> bool;

    /// What evidence the rule asks for, per image that the policy speaks of, under the trust roots that there are; `None`
    /// for a rule that looks at the manifest alone, and then at every image.
    fn need(&self, _roots: &TrustRoots) -> Option<Need> {
        None
    }

    /// Judges one image.
    fn check(&self, image: &ImageInQuestion<'_>) -> Judgement;

    /// What in the policy entry probably does not mean what its author meant, each in a sentence.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether the image is refused by its name alone, so that its registry is not even asked.
    fn refuses_asking(&self, _image: &ImageReference) -> bool {
        false
    }
}

/// One image as a rule sees it.
#[derive(Debug)]
pub struct ImageInQuestion<'a> {
    /// The promotion that it is part of.
    pub promotion: &'a Promotion,
    /// Where it stands and how it is written.
    pub image: &'a ImageUse,
    /// Its digest.
    pub pin: &'a Pin,
    /// The digest that the evidence is about: the image's, or that of one of its platforms.
    pub about: Option<&'a Subject>,
    /// What is attached to it.
    pub evidence: Collected<&'a ImageEvidence>,
    /// An index that is known to hold the image as one of its platforms.
    pub within: Option<&'a Digest>,
    /// The trust roots that there are, by the names that policies use.
    pub trust_roots: &'a TrustRoots,
}

impl ImageInQuestion<'_> {
    /// What evidence is about, as a command can name it.
    fn name(&self) -> String {
        match self.about {
            Some(subject) => subject.to_string(),
            None => self.image.reference.to_string(),
        }
    }

    /// What to say where nothing is attached that could be `what`. Absence is said only where everything was read, and only of an
    /// image to which nothing else is attached.
    fn none_of(&self, what: &str, form: Form) -> String {
        let evidence = self.evidence.value();
        let instead = evidence.and_then(|evidence| evidence.instead_of(form));
        let unsupported = evidence.and_then(|evidence| evidence.unsupported.first());
        let mut text = match (instead, self.evidence.troubles()) {
            (Some(instead), _) => format!("what is attached to it is no {what}: {instead}"),
            (None, []) => format!("no {what} is attached to it"),
            (None, _) => format!("no {what} was found"),
        };
        if let Some(trouble) = unsupported {
            text.push_str(&format!(
                "; the registry does not seem to have one of the places where it could be ({trouble})"
            ));
        }
        text
    }

    /// What to do where nothing is attached: `otherwise`, unless the digest is that of a platform.
    fn nothing_attached(&self, otherwise: String) -> String {
        match self.within {
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
fn readable<'a>(question: &ImageInQuestion<'a>) -> Result<&'a ImageEvidence, Judgement> {
    if let Pin::Resolved(Collected::Unavailable(trouble)) = question.pin {
        return Err(Judgement::undecided(
            IMAGE_UNAVAILABLE,
            format!("the tag could not be resolved: {trouble}"),
        )
        .hint("name the image by digest, and see whether the registry answers"));
    }
    match &question.evidence {
        Collected::Known(evidence) | Collected::Partial(evidence, _) => Ok(evidence),
        Collected::Unavailable(trouble) => Err(Judgement::undecided(
            EVIDENCE_UNAVAILABLE,
            format!("could not be verified: {trouble}"),
        )
        .hint(
            "this is an infrastructure problem, not missing evidence; try again when it is solved",
        )),
    }
}

/// A failure is only certain where everything was read.
fn unless_partial(failed: Judgement, question: &ImageInQuestion<'_>) -> Judgement {
    match question.evidence.troubles() {
        [] => failed,
        [trouble, ..] => Judgement::undecided(
            EVIDENCE_PARTIAL,
            format!(
                "{}; but not everything attached could be read: {trouble}",
                failed.detail
            ),
        ),
    }
}

/// Without a trust root that the policy names, what is attached may be accepted or not; only that nothing is attached is
/// certain. What was accepted under other roots stands.
fn unless_root_missing(failed: Judgement, need: &Need, image: &ImageInQuestion<'_>) -> Judgement {
    let Some(name) = need.missing.first() else {
        return failed;
    };
    let nothing_attached =
        matches!(image.evidence, Collected::Known(evidence) if evidence.is_empty());
    let missing = format!("the trust root `{name}`, which the policy names, is not configured");
    let detail = match need.anchors.is_empty() {
        true => missing,
        false if nothing_attached || failed.outcome != Outcome::Fail => return failed,
        false => format!("{}; but {missing}", failed.detail),
    };
    Judgement::undecided(TRUST_ROOT_MISSING, detail).hint(format!(
        "add `{name}` to `trustRoots` of the configuration again, or have the policy name another trust root"
    ))
}

/// Whether no verified time lies after the review.
fn in_time(origin: &Origin, at: jiff::Timestamp) -> Result<(), String> {
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
fn ignored<'o>(origins: impl IntoIterator<Item = &'o Origin>) -> String {
    let mut ignored = origins.into_iter().flat_map(Origin::ignored);
    let first = ignored.next();
    first.map_or_else(String::new, |why| format!("; one was ignored: {why}"))
}

/// Several names in a sentence, not more than `most` of them.
fn listed(names: impl IntoIterator<Item = String>, most: usize) -> String {
    let names: Vec<_> = names.into_iter().collect();
    let shown: Vec<_> = names.iter().take(most).map(String::as_str).collect();
    let more = names.len() - shown.len();
    if more > 0 {
        return format!("{} and {more} more", shown.join(", "));
    }
    shown.join(", ")
}

/// What a rule asks the shell to collect about an image.
#[derive(Clone, Debug)]
pub struct Need {
    /// The anchors to verify under.
    pub anchors: BTreeMap<AnchorId, Anchor>,
    /// Trust roots that the rule names and that are not configured.
    pub missing: BTreeSet<String>,
    /// What more evidence can do.
    pub effect: Effect,
}

impl Need {
    fn of<'a>(
        signers: impl Iterator<Item = &'a AcceptedSigner>,
        roots: &TrustRoots,
        effect: Effect,
    ) -> Need {
        let mut need = Need {
            anchors: BTreeMap::new(),
            missing: BTreeSet::new(),
            effect,
        };
        for signer in signers {
            let anchors = signer.anchors(roots).into_iter();
            need.anchors
                .extend(anchors.map(|anchor| (anchor.id(), anchor)));
            let missing = signer
                .root_names()
                .filter(|name| !roots.contains_key(*name));
            need.missing.extend(missing.map(str::to_owned));
        }
        need
    }
}

/// What evidence that was not seen could do to the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// More evidence can only help: a pass on a partial reading stands.
    OnlyHelps,
    /// Unseen evidence could turn the answer: anything but a complete reading is undecided.
    CanHurt,
}

/// A rule's answer about one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What the rule says.
    pub outcome: Outcome,
    /// The reason.
    pub reason: Reason,
    /// The reason in words.
    pub detail: String,
    /// What to do next.
    pub hint: Option<String>,
}

/// Makes, from one table, the enum of requirements, the policy entry (exactly one of the table's keys, plus an optional
/// `name`), and the names of the rules. Forgetting a rule somewhere is a compile error.
macro_rules! requirements {
    ($($field:ident $key:literal $rule:ident,)+) => {
        /// A requirement of a policy: the rule with its parameters.
        #[derive(Clone, Debug)]
        pub enum Requirement {
            $(#[doc = concat!("`", $key, "`")] $rule($rule),)+
        }

        /// An entry under `requirements`: exactly one requirement, and a name for it where one is wanted.
        #[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct RequirementEntry {
            /// A name for this requirement, shown in findings.
            #[serde(default)]
            pub name: Option<String>,
            $(
                #[doc = concat!("The rule `", $key, "`.")]
                #[serde(default, rename = $key)]
                pub $field: Option<$rule>,
            )+
        }

        impl Requirement {
            /// Every rule that this version knows, by the key of its policy entry.
            pub const NAMES: &'static [&'static str] = &[$($key),+];

            /// The manual of every rule, in the order of the table.
            pub fn manual() -> Vec<RuleManual> {
                vec![$(RuleManual::of::<$rule>($key),)+]
            }

            /// The key of the policy entry, such as `signature`.
            pub fn rule_name(&self) -> &'static str {
                match self {
                    $(Requirement::$rule(_) => $key,)+
                }
            }

            /// Whether it asks for evidence about images.
            pub fn is_evidence(&self) -> bool {
                match self {
                    $(Requirement::$rule(_) => <$rule as Entry>::LOOKS_AT_EVIDENCE,)+
                }
            }

            fn rule(&self) -> &dyn Rule {
                match self {
                    $(Requirement::$rule(rule) => rule,)+
                }
            }
        }

        impl TryFrom<RequirementEntry> for Requirement {
            /// What is wrong, as the field below the entry (may be empty) and a sentence.
            type Error = (&'static str, String);

            fn try_from(entry: RequirementEntry) -> Result<Requirement, Self::Error> {
                let mut given: Vec<(&'static str, Result<(), String>, Requirement)> = Vec::new();
                $(
                    if let Some(rule) = entry.$field {
                        given.push(($key, rule.sound(), Requirement::$rule(rule)));
                    }
                )+
                match (given.pop(), given.is_empty()) {
                    (Some((key, sound, rule)), true) => sound.map(|()| rule).map_err(|why| (key, why)),
                    (Some(_), false) => Err(("", "expected one rule per entry; start a new entry with `- `".to_owned())),
                    (None, _) => Err(("", format!("expected one of {}", Requirement::NAMES.join(", ")))),
                }
            }
        }
    };
}

requirements! {
    digest_pinned "digestPinned" DigestPinned,
    allowed_images "allowedImages" AllowedImages,
    signature "signature" Signature,
    provenance "provenance" Provenance,
}

/// A rule as a policy entry; the entry's documentation is the rule's manual page.
trait Entry: Rule + JsonSchema {
    /// What the rule may say by itself.
    const REASONS: &'static [Reason];

    /// Whether it looks at evidence, and may say what every such rule may.
    const LOOKS_AT_EVIDENCE: bool;

    /// Checks what neither the schema nor the types of the fields can.
    fn sound(&self) -> Result<(), String> {
        Ok(())
    }
}

/// The manual page of a rule.
#[derive(Clone, Debug)]
pub struct RuleManual {
    /// The key of the policy entry.
    pub rule: &'static str,
    /// What it requires, why, an example, how to satisfy it; in Markdown.
    pub page: String,
    /// Everything that it may say.
    pub reasons: Vec<Reason>,
}

impl RuleManual {
    fn of<R: Entry>(rule: &'static str) -> RuleManual {
        let schema = schemars::schema_for!(R);
        let page = schema.get("description").and_then(|page| page.as_str());
        let of_evidence = if R::LOOKS_AT_EVIDENCE {
            OF_EVIDENCE
        } else {
            &[]
        };
        RuleManual {
            rule,
            page: page.unwrap_or_default().to_owned(),
            reasons: [R::REASONS, of_evidence].concat(),
        }
    }
}

impl Requirement {
    /// See `Rule::applies_to`.
    pub fn applies_to(&self, kind: ChangeKind) -> bool {
        self.rule().applies_to(kind)
    }

    /// See `Rule::refuses_asking`.
    pub fn refuses_asking(&self, image: &ImageReference) -> bool {
        self.rule().refuses_asking(image)
    }

    /// See `Rule::warnings`.
    pub fn warnings(&self) -> Vec<String> {
        self.rule().warnings()
    }

    /// See `Rule::need`.
    pub fn need(&self, roots: &TrustRoots) -> Option<Need> {
        self.rule().need(roots)
    }

    /// Judges one image. A need that unseen evidence could hurt is undecided on anything but a complete reading.
    pub fn check(&self, image: &ImageInQuestion<'_>) -> Judgement {
        let judgement = self.rule().check(image);
        let denies = judgement.outcome.denies();
        let unsupported = image.evidence.value().map(|evidence| &evidence.unsupported);
        let troubles = image.evidence.troubles().iter();
        let trouble = troubles.chain(unsupported.into_iter().flatten()).next();
        if !denies && trouble.is_none() {
            return judgement;
        }
        match (self.need(image.trust_roots), trouble) {
            (Some(need), _) if denies => unless_root_missing(judgement, &need, image),
            (Some(need), Some(first)) if need.effect == Effect::CanHurt => Judgement::undecided(
                EVIDENCE_PARTIAL,
                format!("not everything attached could be read: {first}"),
            ),
            _ => judgement,
        }
    }
}

/// Characters of a detail or a hint: both can hold what others wrote.
const MAXIMUM_TEXT: usize = 1200;

impl Judgement {
    /// The requirement is met.
    pub fn pass(reason: Reason, detail: String) -> Judgement {
        Judgement::new(Outcome::Pass, reason, detail)
    }

    /// The requirement is not met.
    pub fn fail(reason: Reason, detail: String) -> Judgement {
        Judgement::new(Outcome::Fail, reason, detail)
    }

    /// It could not be decided.
    pub fn undecided(reason: Reason, detail: String) -> Judgement {
        Judgement::new(Outcome::Undecided, reason, detail)
    }

    fn new(outcome: Outcome, reason: Reason, detail: String) -> Judgement {
        Judgement {
            outcome,
            reason,
            detail: detail.chars().take(MAXIMUM_TEXT).collect(),
            hint: None,
        }
    }

    /// With what to do next.
    pub fn hint(self, hint: impl Into<String>) -> Judgement {
        Judgement {
            hint: Some(hint.into()),
            ..self
        }
    }
}
