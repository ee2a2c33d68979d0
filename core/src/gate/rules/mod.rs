//! The rules: one table from which the policy entries, their schema, their names and their documentation derive, and one
//! file per rule.

mod allowed_images;
mod digest_pinned;
mod provenance;
mod signature;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::attest::{Anchor, Origin};
use crate::reason::{Reason, reasons};

use super::evidence::{Collected, Form, ImageEvidence, Subject};
use super::finding::Outcome;
use super::image::{Digest, ImageReference};
use super::promotion::{ChangeKind, ImageUse, Pin, Promotion};
use super::signer::{AcceptedSigner, TrustRoots};

pub use allowed_images::AllowedImages;
pub use digest_pinned::DigestPinned;
pub use provenance::{Provenance, ProvenanceEntry};
pub use signature::{Signature, SignatureEntry};

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
}

/// What a rule needs to know of an image, and what it says about it.
pub trait Rule {
    /// Whether the rule applies to this kind of change.
    fn applies_to(&self, kind: ChangeKind) -> bool;

    /// What evidence the rule asks for, per image that the policy speaks of; `None` for a rule that looks at the
    /// manifest alone, and then at every image.
    fn need(&self) -> Option<&Need>;

    /// Judges one image.
    fn check(&self, image: &ImageInQuestion<'_>) -> Judgement;

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
    /// The anchors to verify under, each once.
    pub anchors: Vec<Anchor>,
    /// What more evidence can do.
    pub effect: Effect,
}

impl Need {
    fn of<'a>(signers: impl Iterator<Item = &'a AcceptedSigner>, effect: Effect) -> Need {
        let anchors = signers.flat_map(|signer| signer.anchors());
        let each: BTreeMap<_, _> = anchors.map(|anchor| (anchor.id(), anchor)).collect();
        Need {
            anchors: each.into_values().cloned().collect(),
            effect,
        }
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
    ($($field:ident $key:literal $variant:ident($wire:ty => $rule:ty),)+) => {
        /// A requirement of a policy: the rule with its parameters.
        #[derive(Clone, Debug)]
        pub enum Requirement {
            $(#[doc = concat!("`", $key, "`")] $variant($rule),)+
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
                pub $field: Option<$wire>,
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
                    $(Requirement::$variant(_) => $key,)+
                }
            }

            fn rule(&self) -> &dyn Rule {
                match self {
                    $(Requirement::$variant(rule) => rule,)+
                }
            }
        }

        impl RequirementEntry {
            /// Resolves the entry into its rule.
            ///
            /// # Errors
            /// What is wrong, as the field below the entry (may be empty) and a sentence.
            pub fn resolve(self, roots: &TrustRoots) -> Result<Requirement, (&'static str, String)> {
                let mut given: Vec<(&'static str, Result<Requirement, String>)> = Vec::new();
                $(
                    if let Some(wire) = self.$field {
                        given.push(($key, <$rule as FromEntry>::from_entry(wire, roots).map(Requirement::$variant)));
                    }
                )+
                match (given.pop(), given.is_empty()) {
                    (Some((key, resolved)), true) => resolved.map_err(|why| (key, why)),
                    (Some(_), false) => Err(("", "expected one rule per entry; start a new entry with `- `".to_owned())),
                    (None, _) => Err(("", format!("expected one of {}", Requirement::NAMES.join(", ")))),
                }
            }
        }
    };
}

requirements! {
    digest_pinned "digestPinned" DigestPinned(DigestPinned => DigestPinned),
    allowed_images "allowedImages" AllowedImages(AllowedImages => AllowedImages),
    signature "signature" Signature(SignatureEntry => Signature),
    provenance "provenance" Provenance(ProvenanceEntry => Provenance),
}

/// How a rule comes out of its policy entry.
trait FromEntry: Sized {
    /// The entry as it is written; its documentation is the rule's manual page.
    type Entry: JsonSchema;

    /// What the rule may say by itself.
    const REASONS: &'static [Reason];

    /// Whether it looks at evidence, and may say what every such rule may.
    const LOOKS_AT_EVIDENCE: bool;

    /// Checks what a schema cannot, and resolves names.
    fn from_entry(entry: Self::Entry, roots: &TrustRoots) -> Result<Self, String>;
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
    fn of<R: FromEntry>(rule: &'static str) -> RuleManual {
        let schema = schemars::schema_for!(R::Entry);
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
    /// Whether it asks for evidence about images.
    pub fn is_evidence(&self) -> bool {
        self.rule().need().is_some()
    }

    /// See `Rule::applies_to`.
    pub fn applies_to(&self, kind: ChangeKind) -> bool {
        self.rule().applies_to(kind)
    }

    /// See `Rule::refuses_asking`.
    pub fn refuses_asking(&self, image: &ImageReference) -> bool {
        self.rule().refuses_asking(image)
    }

    /// See `Rule::need`.
    pub fn need(&self) -> Option<&Need> {
        self.rule().need()
    }

    /// Judges one image. A need that unseen evidence could hurt is undecided on anything but a complete reading.
    pub fn check(&self, image: &ImageInQuestion<'_>) -> Judgement {
        let judgement = self.rule().check(image);
        let hurt = self
            .need()
            .is_some_and(|need| need.effect == Effect::CanHurt);
        let unsupported = image.evidence.value().map(|evidence| &evidence.unsupported);
        let troubles = image.evidence.troubles().iter();
        match troubles.chain(unsupported.into_iter().flatten()).next() {
            Some(first) if hurt && !judgement.outcome.denies() => Judgement::undecided(
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
