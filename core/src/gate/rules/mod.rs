//! The rules: one table from which the policy entries, their schema, their names and their documentation derive, and one
//! file per rule.

mod allowed_images;
mod digest_pinned;
mod signature;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::attest::Anchor;

use super::evidence::{Collected, ImageEvidence};
use super::finding::Outcome;
use super::image::ImageReference;
use super::promotion::{ChangeKind, ImageUse, Pin, Promotion};
use super::signer::TrustRoots;

pub use allowed_images::AllowedImages;
pub use digest_pinned::DigestPinned;
pub use signature::{Signature, SignatureEntry};

/// What a rule needs to know of an image, and what it says about it.
pub trait Rule {
    /// Whether the rule applies to this kind of change.
    fn applies_to(&self, kind: ChangeKind) -> bool;

    /// What evidence the rule asks for, per image that the policy speaks of; `None` for a rule that looks at the
    /// manifest alone, and then at every image.
    fn need(&self) -> Option<Need>;

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
    /// What is attached to it.
    pub evidence: Collected<&'a ImageEvidence>,
}

/// What a rule asks the shell to collect about an image.
#[derive(Clone, Debug)]
pub struct Need {
    /// The anchors to verify under.
    pub anchors: Vec<Anchor>,
    /// What more evidence can do.
    pub effect: Effect,
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
    /// Stable id of the reason.
    pub reason: &'static str,
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
}

/// How a rule comes out of its policy entry.
trait FromEntry: Sized {
    /// The entry as it is written.
    type Entry;

    /// Checks what a schema cannot, and resolves names.
    fn from_entry(entry: Self::Entry, roots: &TrustRoots) -> Result<Self, String>;
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
    pub fn need(&self) -> Option<Need> {
        self.rule().need()
    }

    /// Judges one image. A need that unseen evidence could hurt is undecided on anything but a complete reading.
    pub fn check(&self, image: &ImageInQuestion<'_>) -> Judgement {
        let judgement = self.rule().check(image);
        let hurt = self
            .need()
            .is_some_and(|need| need.effect == Effect::CanHurt);
        match image.evidence.troubles() {
            [first, ..] if hurt && !judgement.outcome.denies() => Judgement::undecided(
                "evidence-partial",
                format!("not everything attached could be read: {first}"),
            ),
            _ => judgement,
        }
    }
}

impl Judgement {
    /// The requirement is met.
    pub fn pass(reason: &'static str, detail: String) -> Judgement {
        Judgement {
            outcome: Outcome::Pass,
            reason,
            detail,
            hint: None,
        }
    }

    /// The requirement is not met.
    pub fn fail(reason: &'static str, detail: String) -> Judgement {
        Judgement {
            outcome: Outcome::Fail,
            reason,
            detail,
            hint: None,
        }
    }

    /// It could not be decided.
    pub fn undecided(reason: &'static str, detail: String) -> Judgement {
        Judgement {
            outcome: Outcome::Undecided,
            reason,
            detail,
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
