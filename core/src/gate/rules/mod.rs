//! The rules: one table from which the policy entries, their schema, their names and their documentation derive, and one
//! file per rule.
//!
//! * [`Rule`]: the properties that every rule has, and the evidence it needs
//! * [`ImageRule`], [`WorkloadRule`]: how a rule judges each image, or the object once
//! * `check`: the input of a rule, and the reasons that all rules on evidence share

mod accepted_pair;
mod allowed_images;
mod approvals;
mod attestation;
mod check;
mod condition;
mod digest_pinned;
mod expression;
mod no_freeze;
mod provenance;
mod sbom;
mod signature;
mod verification_summary;
mod vulnerabilities;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::evidence::{Effect, ImageEvidence};
use super::finding::Judgement;
use super::image::ImageReference;
use super::people::People;
use super::policy::Policy;
use super::promotion::ChangeKind;
use super::signer::{AcceptedSigner, TrustRoots};
use super::world::{EvidenceToKeep, World};
use crate::attest::{Anchor, AnchorId, PublicKey};
use crate::expression::ExpressionFault;
use crate::reason::Reason;

pub use allowed_images::AllowedImages;
pub use approvals::{
    ApprovalEffect, ApprovalListing, ApprovalOutlook, Approvals, Approver, Approvers,
    ListedApproval, ListedWord, command_line,
};
pub use attestation::Attestation;
pub use check::{ImageCheck, WorkloadCheck};
pub use digest_pinned::DigestPinned;
pub use expression::ExpressionRule;
pub use no_freeze::NoFreeze;
pub use provenance::{Provenance, proven_source};
pub use sbom::Sbom;
pub use signature::Signature;
pub use verification_summary::VerificationSummaryRule;
pub use vulnerabilities::Vulnerabilities;

pub(super) use allowed_images::IMAGE_NOT_ALLOWED;
pub(super) use approvals::{
    Approval, AuthorAction, Authors, REJECTED, Scoped, Seating, UNWAIVABLE, found_person,
    is_entitled, kept_closures, kept_rejections, kept_unreadable, people_of, person,
    rejection_to_keep, scopes_include, seats_of, unread_authors, validate_from, verified_times,
    witnessed, witnesses,
};
use check::OF_EVIDENCE;
pub(super) use check::{EVIDENCE_UNAVAILABLE, listed, minute, readable, unread_that_could_hurt};
pub(super) use digest_pinned::NOT_PINNED;

/// The properties that every rule has. A rule never fetches: it names the evidence it needs, the shell fetches that evidence,
/// and then the rule judges.
pub trait Rule {
    /// What the rule is about. The class decides to which kinds of change the rule applies.
    fn class(&self) -> Class;

    /// What the rule judges.
    fn scope(&self) -> Scope<'_>;

    /// The anchors under which the rule needs evidence of each image that its policy matches.
    fn needs(&self, _world: &World) -> Needs<'_> {
        Needs::default()
    }

    /// Parts of the policy entry that are valid but probably a mistake, one sentence each.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// How deep the loops of the expression are nested that the rule evaluates; `None` for a rule without an expression.
    fn loops(&self) -> Option<usize> {
        None
    }

    /// Checks the requirement against the rest of its policy.
    ///
    /// # Errors
    /// What the policy lacks, as a sentence.
    fn fits(&self, _policy: &Policy) -> Result<(), String> {
        Ok(())
    }

    /// The groups and people that the policy entry names and the directory lacks, one sentence each.
    fn missing_people(&self, _people: &People) -> Vec<String> {
        Vec::new()
    }

    /// Whether the rule refuses the image by its name alone. The registry of such an image is not asked.
    fn refuses_by_name(&self, _image: &ImageReference) -> bool {
        false
    }
}

/// A rule that judges each image separately.
pub trait ImageRule {
    /// Judges one image.
    fn check(&self, check: &ImageCheck<'_>) -> Judgement;

    /// Whether the evidence of an index says something that the rule judges. If not, the evidence of its platforms may stand in for
    /// it.
    fn finds_in(&self, evidence: &ImageEvidence, _: &World) -> bool {
        !evidence.is_empty()
    }

    /// What the evidence of one image says that has to be kept in the cluster: what would turn a denial if it were deleted.
    fn keeps(&self, _: &ImageCheck<'_>) -> EvidenceToKeep {
        EvidenceToKeep::default()
    }
}

/// A rule that judges the object as a whole, once.
pub trait WorkloadRule {
    /// Judges the object.
    fn check(&self, check: &WorkloadCheck<'_>) -> Judgement;
}

/// What a rule judges.
#[derive(Clone, Copy)]
pub enum Scope<'r> {
    /// Each image that the object runs or mounts.
    Image(&'r dyn ImageRule),
    /// The object as a whole.
    Workload(&'r dyn WorkloadRule),
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// What runs. Such a rule applies to upkeep without a record too: a wrong image is wrong, even if a controller starts it.
    Integrity,
    /// That something changes. Such a rule does not apply to upkeep: rescheduling a Pod changes nothing.
    ChangeControl,
}

impl Class {
    fn applies_to(self, kind: ChangeKind) -> bool {
        match kind {
            ChangeKind::Deploy | ChangeKind::Activation => true,
            ChangeKind::Upkeep { recorded: false } => self == Class::Integrity,
            ChangeKind::Upkeep { recorded: true } | ChangeKind::Governance => false,
        }
    }
}

/// How a rule uses evidence that is attached to images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvidenceUse {
    /// Whether a pass of the rule proves where the image comes from, and so covers the image.
    pub covers: bool,
    /// Whether evidence on every platform may replace evidence on the index, if the policy sets `allowUnsignedIndex`.
    pub per_platform: bool,
    /// How evidence that was not read could change the outcome.
    pub effect: Effect,
}

/// What one rule needs for each image that its policy matches: signatures and statements, verified under these anchors.
#[derive(Clone, Debug, Default)]
pub struct Needs<'r> {
    /// The anchors to verify under.
    pub anchors: BTreeMap<AnchorId, Anchor>,
    /// The signers whose provenance and other statements the rule listens to. Approvals are everyone's in the people directory.
    pub signers: Vec<&'r AcceptedSigner>,
    /// Trust roots that the rule names and the configuration does not have.
    pub missing_roots: BTreeSet<String>,
}

/// The trust roots that a requirement, or the section `emergency` of a policy, names. They are looked up when they are first asked for: by a
/// denial, or by a pass that other evidence could turn. By default none is named.
#[derive(Debug, Default)]
pub struct NamedRoots<'r> {
    /// What names them; `None` if they were looked up before.
    of: Option<(&'r Requirement, &'r World)>,
    /// A named root that the configuration does not have; and whether there is an anchor: a named root that the configuration has, or a key
    /// that counts without one.
    found: OnceCell<(Option<String>, bool)>,
}

impl<'r> NamedRoots<'r> {
    pub(super) fn of(requirement: &'r Requirement, world: &'r World) -> NamedRoots<'r> {
        NamedRoots {
            of: Some((requirement, world)),
            found: OnceCell::new(),
        }
    }

    fn found(&self) -> &(Option<String>, bool) {
        self.found.get_or_init(|| match self.of {
            Some((requirement, world)) => requirement.needs(world).into_roots(),
            None => (None, false),
        })
    }

    /// A trust root that the configuration does not have.
    pub(super) fn missing(&self) -> Option<&str> {
        self.found().0.as_deref()
    }

    /// Whether there is an anchor, so that evidence can be verified.
    pub(super) fn can_verify(&self) -> bool {
        self.found().1
    }
}

impl From<Needs<'_>> for NamedRoots<'_> {
    fn from(needs: Needs<'_>) -> Self {
        NamedRoots {
            of: None,
            found: needs.into_roots().into(),
        }
    }
}

impl<'r> Needs<'r> {
    fn into_roots(mut self) -> (Option<String>, bool) {
        (self.missing_roots.pop_first(), !self.anchors.is_empty())
    }

    /// Evidence under these trust roots, by certificates and by keys.
    pub(super) fn roots<'a>(
        names: impl Iterator<Item = &'a str>,
        keys: &[Arc<PublicKey>],
        roots: &TrustRoots,
    ) -> Needs<'r> {
        let mut needs = Needs::default();
        for name in names {
            let Some(root) = roots.get(name) else {
                needs.missing_roots.insert(name.to_owned());
                continue;
            };
            let of_keys = keys.iter().map(|key| Anchor::Key {
                key: Arc::clone(key),
                root: Some(Arc::clone(root)),
            });
            let anchors = of_keys.chain([Anchor::Root(Arc::clone(root))]);
            needs
                .anchors
                .extend(anchors.map(|anchor| (anchor.id(), anchor)));
        }
        needs
    }

    /// The needs of two rules together.
    fn and(mut self, other: Needs<'r>) -> Needs<'r> {
        self.anchors.extend(other.anchors);
        self.signers.extend(other.signers);
        self.missing_roots.extend(other.missing_roots);
        self
    }

    fn under(signers: impl Iterator<Item = &'r AcceptedSigner>, roots: &TrustRoots) -> Needs<'r> {
        let mut needs = Needs::default();
        for signer in signers {
            needs.signers.push(signer);
            let anchors = signer.anchors(roots);
            needs
                .anchors
                .extend(anchors.map(|anchor| (anchor.id(), anchor)));
            let missing = signer
                .root_names()
                .filter(|name| !roots.contains_key(*name));
            needs.missing_roots.extend(missing.map(str::to_owned));
        }
        needs
    }
}

/// Makes, from one table, the enum of requirements, the policy entry (exactly one of the table's keys, plus an optional
/// `name`), and the names of the rules. Forgetting a rule somewhere is a compile error.
macro_rules! requirements {
    ($($(#[$when:meta])? $field:ident $key:literal $rule:ident,)+) => {
        /// A requirement of a policy: the rule with its parameters.
        #[derive(Clone, Debug)]
        pub enum Requirement {
            $($(#[$when])? #[doc = concat!("`", $key, "`")] $rule($rule),)+
        }

        /// An entry under `requirements`: exactly one requirement, and an optional name for it.
        #[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct RequirementEntry {
            /// A name for this requirement, shown in findings.
            #[serde(default)]
            pub name: Option<String>,
            $(
                $(#[$when])?
                #[doc = concat!("The rule `", $key, "`.")]
                #[serde(default, rename = $key)]
                pub $field: Option<$rule>,
            )+
        }

        impl Requirement {
            /// Every rule that this version knows, by the key of its policy entry.
            pub const NAMES: &'static [&'static str] = &[$($(#[$when])? $key),+];

            /// The keys of the rules that use evidence.
            pub fn names_on_evidence() -> impl Iterator<Item = &'static str> {
                let each = [$($(#[$when])? ($key, <$rule as Entry>::EVIDENCE.is_some())),+];
                each.into_iter().filter(|(_, uses)| *uses).map(|(key, _)| key)
            }

            /// The manual of every rule, in the order of the table.
            pub fn manual() -> Vec<RuleManual> {
                Vec::from([$($(#[$when])? RuleManual::of::<$rule>($key),)+])
            }

            /// The key of the policy entry, such as `signature`.
            pub fn rule_name(&self) -> &'static str {
                match self {
                    $($(#[$when])? Requirement::$rule(_) => $key,)+
                }
            }

            /// How the rule uses evidence that is attached to images; `None` if it does not use any.
            pub fn evidence(&self) -> Option<EvidenceUse> {
                match self {
                    $($(#[$when])? Requirement::$rule(_) => <$rule as Entry>::EVIDENCE,)+
                }
            }

            /// The mistakes in an expression, which is written in a field of the entry of a rule.
            pub fn expression_faults(rule: &str, field: &str, text: &str) -> Vec<ExpressionFault> {
                match rule {
                    $($(#[$when])? $key => <$rule as Entry>::expression_faults(field, text),)+
                    _ => Vec::new(),
                }
            }

            fn rule(&self) -> &dyn Rule {
                match self {
                    $($(#[$when])? Requirement::$rule(rule) => rule,)+
                }
            }
        }

        impl TryFrom<RequirementEntry> for Requirement {
            /// The field below the entry that is wrong (empty for the entry itself), and why.
            type Error = (&'static str, String);

            fn try_from(entry: RequirementEntry) -> Result<Requirement, Self::Error> {
                let mut given: Vec<(&'static str, Result<(), String>, Requirement)> = Vec::new();
                $(
                    $(#[$when])?
                    given.extend(entry.$field.map(|rule| ($key, rule.validate(), Requirement::$rule(rule))));
                )+
                match (given.pop(), given.is_empty()) {
                    (Some((key, valid, rule)), true) => valid.map(|()| rule).map_err(|why| (key, why)),
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
    vulnerabilities "vulnerabilities" Vulnerabilities,
    sbom "sbom" Sbom,
    approvals "approvals" Approvals,
    no_freeze "noFreeze" NoFreeze,
    attestation "attestation" Attestation,
    expression "expression" ExpressionRule,
    verification_summary "verificationSummary" VerificationSummaryRule,
    #[cfg(test)]
    closed "closed" Closed,
    #[cfg(test)]
    unflagged "unflagged" Unflagged,
}

/// Rules for the tests of the contract: one about the workload, and one that unseen evidence could hurt.
#[cfg(test)]
pub use tests::{Closed, Unflagged};

/// A rule as a policy entry; the entry's documentation is the rule's manual page.
trait Entry: Rule + JsonSchema {
    /// The reasons that only this rule gives.
    const REASONS: &'static [Reason];

    /// How the rule uses evidence. A rule that uses evidence can also give the reasons in `OF_EVIDENCE`. A rule with `None`
    /// never receives evidence.
    const EVIDENCE: Option<EvidenceUse>;

    /// Checks what the schema and the types of the fields cannot express.
    fn validate(&self) -> Result<(), String> {
        Ok(())
    }

    /// The mistakes in an expression that a field holds.
    fn expression_faults(_field: &str, _text: &str) -> Vec<ExpressionFault> {
        Vec::new()
    }

    /// The part of the manual page that derives from a table of the rule.
    fn more_manual() -> String {
        String::new()
    }
}

/// The manual page of a rule.
#[derive(Clone, Debug)]
pub struct RuleManual {
    /// The key of the policy entry.
    pub rule: &'static str,
    /// What the rule requires, why, an example, and how to satisfy it; in Markdown.
    pub page: String,
    /// Every reason that the rule can give.
    pub reasons: Vec<Reason>,
}

impl RuleManual {
    fn of<R: Entry>(rule: &'static str) -> RuleManual {
        let schema = schemars::schema_for!(R);
        let page = schema.get("description").and_then(|page| page.as_str());
        let of_evidence = match R::EVIDENCE {
            Some(_) => OF_EVIDENCE,
            None => &[],
        };
        RuleManual {
            rule,
            page: page.unwrap_or_default().to_owned() + &R::more_manual(),
            reasons: [R::REASONS, of_evidence].concat(),
        }
    }
}

impl Requirement {
    /// See `Rule::scope`.
    pub fn scope(&self) -> Scope<'_> {
        self.rule().scope()
    }

    /// Whether the requirement applies to this kind of change.
    pub fn applies_to(&self, kind: ChangeKind) -> bool {
        self.rule().class().applies_to(kind)
    }

    /// How evidence that was not read could change the outcome.
    pub(super) fn effect(&self) -> Effect {
        let evidence = self.evidence();
        evidence.map_or(Effect::OnlyHelps, |evidence| evidence.effect)
    }

    /// Whether a pass proves where the image comes from.
    pub fn covers(&self) -> bool {
        self.evidence().is_some_and(|evidence| evidence.covers)
    }

    /// See `Rule::needs`.
    pub fn needs(&self, world: &World) -> Needs<'_> {
        match self.evidence() {
            Some(_) => self.rule().needs(world),
            None => Needs::default(),
        }
    }

    /// See `Rule::warnings`.
    pub fn warnings(&self) -> Vec<String> {
        self.rule().warnings()
    }

    /// See `Rule::loops`.
    pub fn loops(&self) -> Option<usize> {
        self.rule().loops()
    }

    /// See `Rule::fits`.
    ///
    /// # Errors
    /// What the policy lacks, as a sentence.
    pub fn fits(&self, policy: &Policy) -> Result<(), String> {
        self.rule().fits(policy)
    }

    /// See `Rule::missing_people`.
    pub fn missing_people(&self, people: &People) -> Vec<String> {
        self.rule().missing_people(people)
    }

    /// See `Rule::refuses_by_name`.
    pub fn refuses_by_name(&self, image: &ImageReference) -> bool {
        self.rule().refuses_by_name(image)
    }
}

#[cfg(test)]
mod tests;
