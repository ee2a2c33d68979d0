//! The rules: one table from which the policy entries, their schema, their names and their documentation derive, and one
//! file per rule.
//!
//! * [`Rule`]: the properties that every rule has, and the evidence it needs
//! * [`ImageRule`], [`WorkloadRule`]: how a rule judges each image, or the object once
//! * `check`: the input of a rule, and the reasons that all rules on evidence share

mod allowed_images;
mod approvals;
mod check;
mod digest_pinned;
mod no_freeze;
mod provenance;
mod signature;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::evidence::Effect;
use super::finding::Judgement;
use super::image::ImageReference;
use super::people::People;
use super::policy::Policy;
use super::promotion::ChangeKind;
use super::signer::{AcceptedSigner, TrustRoots};
use super::world::{EvidenceToKeep, World};
use crate::attest::{Anchor, AnchorId, PublicKey};
use crate::reason::Reason;

pub use allowed_images::AllowedImages;
pub use approvals::{
    ApprovalEffect, ApprovalListing, ApprovalOutlook, Approvals, Approver, ListedApproval,
    ListedWord,
};
pub use check::{ImageCheck, WorkloadCheck};
pub use digest_pinned::DigestPinned;
pub use no_freeze::NoFreeze;
pub use provenance::{Provenance, proven_source};
pub use signature::Signature;

pub(super) use allowed_images::IMAGE_NOT_ALLOWED;
pub(super) use approvals::REJECTED;
pub(super) use check::EVIDENCE_UNAVAILABLE;
use check::OF_EVIDENCE;
pub(super) use digest_pinned::NOT_PINNED;

/// The properties that every rule has. A rule never fetches: it names the evidence it needs, the shell fetches that evidence,
/// and then the rule judges.
pub trait Rule {
    /// What the rule is about. The class decides to which kinds of change the rule applies.
    fn class(&self) -> Class;

    /// What the rule judges.
    fn scope(&self) -> Scope<'_>;

    /// The anchors under which the rule needs evidence of each image that its policy matches.
    fn needs(&self, _world: &World) -> Needs {
        Needs::default()
    }

    /// Parts of the policy entry that are valid but probably a mistake, one sentence each.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
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
pub struct Needs {
    /// The anchors to verify under.
    pub anchors: BTreeMap<AnchorId, Anchor>,
    /// The signers whose provenance and other statements the rule listens to. Approvals are everyone's in the people directory.
    pub signers: Vec<AcceptedSigner>,
    /// Trust roots that the rule names and the configuration does not have.
    pub missing_roots: BTreeSet<String>,
}

impl Needs {
    /// Evidence under these trust roots, by certificates and by keys.
    fn roots<'a>(
        names: impl Iterator<Item = &'a str>,
        keys: &[Arc<PublicKey>],
        roots: &TrustRoots,
    ) -> Needs {
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
    fn and(mut self, other: Needs) -> Needs {
        self.anchors.extend(other.anchors);
        self.signers.extend(other.signers);
        self.missing_roots.extend(other.missing_roots);
        self
    }

    fn under<'a>(signers: impl Iterator<Item = &'a AcceptedSigner>, roots: &TrustRoots) -> Needs {
        let mut needs = Needs::default();
        for signer in signers {
            needs.signers.push(signer.clone());
            let anchors = signer.anchors(roots).into_iter();
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
    approvals "approvals" Approvals,
    no_freeze "noFreeze" NoFreeze,
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
            page: page.unwrap_or_default().to_owned(),
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
    pub fn needs(&self, world: &World) -> Needs {
        match self.evidence() {
            Some(_) => self.rule().needs(world),
            None => Needs::default(),
        }
    }

    /// See `Rule::warnings`.
    pub fn warnings(&self) -> Vec<String> {
        self.rule().warnings()
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
mod tests {
    use crate::gate::Records;
    use std::sync::Arc;
    use std::time::Duration;

    use jiff::Timestamp;
    use serde_json::json;

    use super::check::readable;
    use crate::gate::finding::Outcome;
    use crate::gate::{
        Age, Change, ChangeEffect, ChangedObject, Collected, Decision, Digest, Enforcement,
        Evidence, ImageEvidence, ImageUse, Index, NamedRequirement, NamespaceMatch, Operation, Pin,
        PlatformManifest, Promotion, Role, Snapshot, Subject, Unavailability, Uncovered,
        Ungoverned, Unreadable, Workload, judge,
    };
    use crate::reason::reasons;

    use super::*;

    /// Denies every object whose name is not `open`.
    #[derive(Clone, Debug, Deserialize, JsonSchema)]
    pub struct Closed {}

    reasons! {
        OF_THIS_RULE:
        OPEN = "open", "The object is named `open`.", "";
        CLOSED = "closed", "The object has another name than `open`.", "";
    }

    impl Entry for Closed {
        const REASONS: &'static [Reason] = OF_THIS_RULE;
        const EVIDENCE: Option<EvidenceUse> = None;
    }

    impl Rule for Closed {
        fn class(&self) -> Class {
            Class::ChangeControl
        }

        fn scope(&self) -> Scope<'_> {
            Scope::Workload(self)
        }
    }

    impl WorkloadRule for Closed {
        fn check(&self, check: &WorkloadCheck<'_>) -> Judgement {
            match check.promotion.change.workload.name.as_str() {
                "open" => Judgement::pass(OPEN, "open".to_owned()),
                _ => Judgement::fail(CLOSED, "closed".to_owned()),
            }
        }
    }

    /// Fails where an artifact of the kind `flag` is attached.
    #[derive(Clone, Debug, Deserialize, JsonSchema)]
    pub struct Unflagged {
        /// Names of trust roots.
        #[serde(default)]
        roots: BTreeSet<String>,
    }

    impl Entry for Unflagged {
        const REASONS: &'static [Reason] = OF_THIS_RULE;
        const EVIDENCE: Option<EvidenceUse> = Some(EvidenceUse {
            covers: false,
            per_platform: true,
            effect: Effect::CanHurt,
        });
    }

    impl Rule for Unflagged {
        fn class(&self) -> Class {
            Class::Integrity
        }

        fn scope(&self) -> Scope<'_> {
            Scope::Image(self)
        }

        fn needs(&self, world: &World) -> Needs {
            let known = |name: &&String| !world.trust_roots.contains_key(*name);
            Needs {
                missing_roots: self.roots.iter().filter(known).cloned().collect(),
                ..Needs::default()
            }
        }
    }

    impl ImageRule for Unflagged {
        fn check(&self, check: &ImageCheck<'_>) -> Judgement {
            match readable(check) {
                Ok(evidence) if evidence.others.contains_key("flag") => {
                    Judgement::fail(CLOSED, "flagged".to_owned())
                }
                Ok(_) => Judgement::pass(OPEN, "not flagged".to_owned()),
                Err(undecided) => undecided,
            }
        }
    }

    fn policy(requirement: serde_json::Value) -> Policy {
        let entry: RequirementEntry = serde_json::from_value(requirement).unwrap();
        Policy {
            name: "p".to_owned(),
            environment: None,
            enforcement: Enforcement::Enforce,
            namespaces: NamespaceMatch::default(),
            images: None,
            platforms: None,
            allow_unsigned_index: true,
            staleness: Age::HOUR,
            rollback_window: Age::FORTNIGHT,
            requirements: vec![NamedRequirement {
                name: None,
                requirement: entry.try_into().unwrap(),
            }],
            uncovered: Uncovered::Allow,
            injected: Vec::new(),
        }
    }

    fn promotion(kind: ChangeKind, name: &str, images: &[&str]) -> Promotion {
        let image = |written: &&str| ImageUse {
            field: "spec.containers[0].image".to_owned(),
            role: Role::Container,
            reference: written.parse().unwrap(),
        };
        let change = Change {
            id: "1".to_owned(),
            operation: Operation::Create,
            effect: ChangeEffect::Runs,
            workload: Workload {
                group: "apps".to_owned(),
                version: "v1".to_owned(),
                kind: "Deployment".to_owned(),
                namespace: Some("shop".to_owned()),
                name: name.to_owned(),
            },
            actor: None,
            dry_run: false,
            object: ChangedObject::default(),
            images: images.iter().map(image).collect(),
            unreadable: Vec::new(),
        };
        let pins = change.images.iter();
        let pins = pins.map(|image| Pin::Written(image.reference.digest().unwrap().clone()));
        let mut promotion = Promotion::new(
            change.clone(),
            pins.collect(),
            Records::not_kept(),
            &[],
            Timestamp::UNIX_EPOCH,
        );
        promotion.kind = kind;
        promotion
    }

    fn findings(
        policy: Policy,
        promotion: &Promotion,
        evidence: &Evidence,
    ) -> Vec<(Outcome, &'static str)> {
        let snapshot = Snapshot {
            policies: vec![policy],
            ..Snapshot::default()
        };
        let governing = snapshot.governing(&promotion.change);
        let verdict = judge(promotion, evidence, &governing);
        let findings = verdict.policies()[0].findings().iter();
        findings
            .map(|finding| (finding.outcome, finding.reason))
            .collect()
    }

    fn judged(kind: ChangeKind, name: &str) -> Vec<(Outcome, &'static str)> {
        let promotion = promotion(kind, name, &[]);
        findings(
            policy(json!({"closed": {}})),
            &promotion,
            &Evidence::default(),
        )
    }

    #[test]
    fn upkeep_on_the_record_passes_while_a_policy_cannot_be_read_and_the_ungoverned_are_denied() {
        let snapshot = Snapshot {
            unreadable: vec![Unreadable {
                source: "policies".to_owned(),
                why: "broken".to_owned(),
                namespaces: NamespaceMatch::default(),
            }],
            ungoverned: Ungoverned::Deny,
            ..Snapshot::default()
        };
        let kinds = [
            (ChangeKind::Upkeep { recorded: true }, Decision::Allow),
            (ChangeKind::Upkeep { recorded: false }, Decision::Deny),
            (ChangeKind::Activation, Decision::Deny),
            (ChangeKind::Deploy, Decision::Deny),
        ];
        for (kind, decision) in kinds {
            let promotion = promotion(kind, "web", &[INDEX]);
            let governing = snapshot.governing(&promotion.change);
            let verdict = judge(&promotion, &Evidence::default(), &governing);
            assert_eq!(verdict.decision(), decision, "{kind:?}");
        }
    }

    #[test]
    fn upkeep_of_an_ungoverned_namespace_goes_on_without_a_record() {
        let snapshot = Snapshot {
            ungoverned: Ungoverned::Deny,
            ..Snapshot::default()
        };
        let kinds = [
            (ChangeKind::Upkeep { recorded: false }, Decision::Allow),
            (ChangeKind::Activation, Decision::Deny),
            (ChangeKind::Deploy, Decision::Deny),
        ];
        for (kind, decision) in kinds {
            let promotion = promotion(kind, "web", &[INDEX]);
            let governing = snapshot.governing(&promotion.change);
            let verdict = judge(&promotion, &Evidence::default(), &governing);
            assert_eq!(verdict.decision(), decision, "{kind:?}");
        }
    }

    const INDEX: &str = "registry.example/app@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    /// The findings of the rule `unflagged` for an index with the evidence `index`, whose one platform carries no evidence.
    fn of_index(
        requirement: serde_json::Value,
        index: Collected<Arc<ImageEvidence>>,
    ) -> Vec<(Outcome, &'static str)> {
        let promotion = promotion(ChangeKind::Deploy, "web", &[INDEX]);
        let subject = promotion.pins[0].subject(&promotion.change.images[0].reference);
        let subject = subject.unwrap();
        let platform = Subject {
            repository: subject.repository.clone(),
            digest: Digest::sha256(b"platform"),
        };
        let manifests = vec![PlatformManifest {
            platform: None,
            digest: platform.digest.clone(),
        }];
        let clean = Collected::Known(Arc::default());
        let evidence = Evidence {
            images: [(subject.clone(), index), (platform, clean)].into(),
            indexes: [(
                subject,
                Collected::Known(Some(Index {
                    manifests,
                    refused: None,
                })),
            )]
            .into(),
            ..Evidence::default()
        };
        findings(policy(requirement), &promotion, &evidence)
    }

    #[test]
    fn clean_platforms_do_not_hide_what_hurts_the_index() {
        let of = |evidence| of_index(json!({"unflagged": {}}), evidence);
        let flagged = ImageEvidence {
            others: [("flag".to_owned(), 1)].into(),
            ..ImageEvidence::default()
        };
        assert_eq!(
            of(Collected::Known(Arc::new(flagged))),
            [(Outcome::Fail, "closed")]
        );
        let down = || Unavailability("down".to_owned());
        let partial = Collected::Partial(Arc::default(), vec![down()]);
        assert_eq!(of(partial), [(Outcome::Undecided, "evidence-partial")]);
        let unavailable = Collected::Unavailable(down());
        assert_eq!(
            of(unavailable),
            [(Outcome::Undecided, "evidence-unavailable")]
        );
        assert_eq!(
            of(Collected::Known(Arc::default())),
            [(Outcome::Pass, "open")]
        );
    }

    #[test]
    fn a_pass_may_rest_on_a_listing_as_old_as_the_policy_allows() {
        let promotion = promotion(ChangeKind::Deploy, "web", &[INDEX]);
        let subject = promotion.pins[0].subject(&promotion.change.images[0].reference);
        let subject = subject.unwrap();
        let of = |evidence: ImageEvidence, seconds: u64| {
            let down = vec![Unavailability("down".to_owned())];
            let partial = Collected::Partial(Arc::new(evidence), down);
            let evidence = Evidence {
                images: [(subject.clone(), partial)].into(),
                last_listed: [(subject.clone(), Duration::from_secs(seconds))].into(),
                ..Evidence::default()
            };
            findings(policy(json!({"unflagged": {}})), &promotion, &evidence)
        };
        assert_eq!(
            of(ImageEvidence::default(), 3600),
            [(Outcome::Pass, "open")]
        );
        let undecided = [(Outcome::Undecided, "evidence-partial")];
        assert_eq!(of(ImageEvidence::default(), 3601), undecided);
        let unsupported = ImageEvidence {
            unsupported: vec![Unavailability("a web page".to_owned())],
            ..ImageEvidence::default()
        };
        assert_eq!(of(unsupported, 1), undecided);
        // A registry without the referrers API is no trouble: clients attach by tags there.
        let without_referrers = ImageEvidence {
            without_referrers: vec![Unavailability("a web page".to_owned())],
            ..ImageEvidence::default()
        };
        assert_eq!(of(without_referrers, 1), [(Outcome::Pass, "open")]);
    }

    #[test]
    fn a_pass_that_a_missing_trust_root_could_turn_is_undecided() {
        let clean = Collected::Known(Arc::default());
        let requirement = json!({"unflagged": {"roots": ["theirs"]}});
        assert_eq!(
            of_index(requirement, clean),
            [(Outcome::Undecided, "trust-root-missing")]
        );
    }

    #[test]
    fn a_rule_about_the_workload_is_judged_once_also_without_images() {
        let deploy = |name| judged(ChangeKind::Deploy, name);
        assert_eq!(deploy("open"), [(Outcome::Pass, "open")]);
        assert_eq!(deploy("web"), [(Outcome::Fail, "closed")]);
    }

    #[test]
    fn change_control_is_not_judged_for_upkeep() {
        for (recorded, reason) in [(true, "recorded"), (false, "not-for-this-change")] {
            let findings = judged(ChangeKind::Upkeep { recorded }, "web");
            assert_eq!(findings, [(Outcome::Skip, reason)]);
        }
        let activation = judged(ChangeKind::Activation, "web");
        assert_eq!(activation, [(Outcome::Fail, "closed")]);
    }
}
