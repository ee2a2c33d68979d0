//! `approvals`: named people who did not write the change have approved the digest.
//!
//! * this file: the policy entry
//! * `judgement`: the steps of the judgement
//! * `seating`: who may fill the seats of the policy, and who fills them
//! * `votes`: what people of the directory signed about the digest; `vote`: one statement, and whether it counts; `excuse`: why not
//! * `kept`: rejections that the cluster keeps
//! * `authors`: who wrote or started the change; `change_record`: one record of that
//! * `listing`: the same statements, as people read them
//! * `place`: whether a statement is about this environment and this workload
//! * `outlook`: what an approval that is not given yet would do
//! * `approving`: the command that gives an approval, for hints

mod approving;
mod authors;
mod change_record;
mod excuse;
mod judgement;
mod kept;
mod listing;
mod outlook;
mod place;
mod seating;
#[cfg(test)]
mod tests;
mod vote;
mod votes;

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Deserialize;

use super::check::TRUST_ROOT_MISSING;
use super::provenance::Builder;
use super::{
    Class, Effect, Entry, EvidenceUse, ImageCheck, ImageRule, Judgement, Needs, Requirement, Rule,
    Scope, World,
};
use crate::attest::predicate;
use crate::gate::age::Age;
use crate::gate::glob::Glob;
use crate::gate::people::People;
use crate::gate::policy::Policy;
use crate::gate::signer::{AcceptedSigner, DEFAULT_TRUST_ROOT, RequiredTransparency};
use crate::gate::world::EvidenceToKeep;
use crate::reason::{Reason, reasons};

pub use approving::command_line;
pub(in crate::gate) use authors::Authors;
pub(in crate::gate) use change_record::AuthorAction;
pub(in crate::gate) use judgement::{kept_unreadable, people_of, unread_authors};
pub(in crate::gate) use kept::{kept_closures, kept_rejections, rejection_to_keep};
pub use listing::{ApprovalEffect, ApprovalListing, ListedApproval, ListedWord};
pub(in crate::gate) use outlook::witnesses;
pub use outlook::{ApprovalOutlook, Approver};
pub(in crate::gate) use place::{Scoped, scopes_include};
pub(in crate::gate) use seating::{Approval, Seating, is_entitled, seats_of, validate_from};
pub(in crate::gate) use vote::{found_person, person, verified_times, witnessed};
use votes::Votes;

/// **What it requires**: people of the `PeopleDirectory` have signed an approval of this digest for the policy's `environment`
/// (predicate type `https://promotion-gate.dev/approval/v1`): as many different people as `from` names, none of whom wrote the
/// change. One person fills one seat, whatever identities and groups the person has. An approval counts if
/// - its signature verifies under one of `trustRoots`, with the log entry or timestamp that a signature needs by default
/// - its signer is a person of the directory, who was active and in the group at the time of the signature and is now;
///   a workload (a pipeline, a service account) never counts
/// - it names this environment; every scope that it names (`cluster`, `clusterUid`, `namespace`) is known and equal; it names
///   every scope of `requireScopes`, and a change that matches `change`
/// - the review is before its `validUntil`, and it is not older than `maximumAge`
///
/// `minimumAge` is a waiting time: it begins when the last seat was filled, and again with every rejection.
///
/// Where the gate keeps release records, `minimumAge` and `maximumAge` are asked of the first admission of a digest to the
/// environment alone. A rollback (to a template that ran in this workload, complied with this policy, and was replaced within
/// `rollbackWindow`) needs no approval again, also while the registry does not answer; rejections still count.
///
/// **Rejections**: a signed `rejected` by a person who may approve blocks the digest, until the same person approves later. The
/// later approval must be signed with a certificate: everyone who has a signature by a key can add a new timestamp to it. A
/// statement by such a person that cannot be read leaves the rule undecided. A rejection that is kept in the cluster (a
/// `Rejection`) blocks in the same way, also after it was deleted from the registry, until a governor deletes it.
///
/// **Authors**: `authorsFrom` lists who may say who wrote the change, and every entry must say it. Their union counts, and no
/// author fills a seat. Every author must be a person or automation of the directory; otherwise the rule is undecided.
/// - `provenance` of an isolated builder names who started the build. slsa-github-generator names them;
///   `actions/attest-build-provenance` does not.
/// - `changeRecord` is a signed `https://promotion-gate.dev/change/v1` statement of the authors of all commits of the release,
///   as `promotion-gate attest change` makes it. Its `to` must be the commit of the provenance, its signer must not be a
///   workflow of the source's repository. Where the gate keeps release records, the last commit of the repository that was
///   admitted to this workload and complied must be its `from` or one of its commits.
/// - The identities of an `AuthorRecord` that is kept in the cluster are authors too, whatever the sources say.
///
/// Approvals bind the digest that the manifest names, never a platform of it. They prove nothing about where an image comes
/// from: require `signature` or `provenance` too.
///
/// **Why**: what was built by the right pipeline is not yet what several people agreed to run. An approval in a pipeline's own
/// settings can be changed by the author of the pipeline.
///
/// **Example**:
/// `- approvals: {from: [{group: security-team, count: 1}, {group: platform-leads, count: 1}], authorsFrom: [{changeRecord: {signedBy: {keyless: {issuer: "https://token.actions.githubusercontent.com", identity: {glob: "https://github.com/example/release-tools/.github/workflows/change.yml@refs/tags/v*"}}}}}]}`
///
/// **How to satisfy it**: `promotion-gate approve IMAGE@DIGEST --environment NAME`, or any signer of in-toto statements, such as
/// `cosign attest --type https://promotion-gate.dev/approval/v1 --predicate FILE IMAGE@DIGEST`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Approvals {
    /// The people who must approve: a number of members of a group, or one person. Each seat needs another person.
    #[schemars(length(min = 1))]
    pub from: Vec<Approvers>,
    /// Whether authors of the change fill no seat; `true` when absent.
    #[serde(default = "yes")]
    pub different_from_author: bool,
    /// Who may say who the authors are. Every entry must say it.
    #[serde(default)]
    pub authors_from: Vec<AuthorSource>,
    /// The trust roots under which approvals are accepted; `[sigstore]` (the public-good instance) when absent.
    #[schemars(length(min = 1))]
    pub trust_roots: Option<Vec<String>>,
    /// The public record that an approval must have; as for `signature` when absent: `Log` for a certificate whose trust root
    /// lists a log, otherwise `Timestamp`. An entry of a public log shows the approver's e-mail address to everyone.
    pub transparency: Option<RequiredTransparency>,
    /// Scopes that every approval must name.
    #[serde(default)]
    pub require_scopes: BTreeSet<ScopeName>,
    /// How long all seats must have been filled.
    pub minimum_age: Option<Age>,
    /// How old an approval may be, from its earliest verified time. It bounds approvals by certificates only: everyone who has a
    /// signature by a key can add a new timestamp to it. Let people who sign with keys set `validUntil`.
    pub maximum_age: Option<Age>,
    /// The change (ticket) that every approval must name.
    pub change: Option<ChangeReference>,
    /// Whether the requester of the deployment counts as an author too, if the directory knows the Kubernetes user.
    #[serde(default)]
    pub deployer_is_author: bool,
    /// Accept a change whose authors are automation alone, such as updates of dependencies.
    #[serde(default)]
    pub automation_may_author: bool,
}

fn yes() -> bool {
    true
}

/// Seats: `count` members of a group, or one person.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.group) != has(self.person)", "message": "expected exactly one of `group` and `person`"},
    {"rule": "!has(self.count) || has(self.group)", "message": "`count` belongs to `group`"},
]))]
pub struct Approvers {
    /// A group of the directory.
    pub group: Option<String>,
    /// A person of the directory, by name.
    pub person: Option<String>,
    /// How many members of the group; 1 when absent.
    #[schemars(range(min = 1, max = 100))]
    pub count: Option<u32>,
}

/// Who may say who the authors of a change are: exactly one of `provenance` and `changeRecord`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.provenance) != has(self.changeRecord)", "message": "expected exactly one of `provenance` and `changeRecord`"},
]))]
pub struct AuthorSource {
    /// Provenance that names who started the build.
    pub provenance: Option<AuthorsOfProvenance>,
    /// A signed record of the change.
    pub change_record: Option<AuthorsOfRecord>,
}

/// The builders whose provenance may name who started the build.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthorsOfProvenance {
    /// Accepted pairs of builder and signer.
    #[schemars(length(min = 1))]
    pub builders: Vec<Builder>,
}

/// The signer of change records, and what they must contain.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthorsOfRecord {
    /// The signer of the records.
    #[schemars(extend("x-kubernetes-validations" = [
        {"rule": "has(self.keyless) != has(self.key)", "message": "expected exactly one of `keyless` and `key`"},
    ]))]
    pub signed_by: AcceptedSigner,
    /// Fields that the record must fill.
    #[serde(default)]
    pub requires: BTreeSet<RecordField>,
}

/// A field of a change record that a policy can require.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RecordField {
    /// Why the change is made.
    Reason,
    /// What the change means for security.
    SecurityImpact,
    /// How the change was tested.
    Testing,
    /// How to return to a secure state.
    BackOutPlan,
    /// Who reviewed the change.
    Reviewers,
}

/// A scope of an approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ScopeName {
    /// The name of the cluster, as the configuration gives it.
    Cluster,
    /// The UID of the cluster's namespace `kube-system`.
    ClusterUid,
    /// The namespace of the workload.
    Namespace,
}

/// The change (ticket) that approvals must name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeReference {
    /// Whether an approval must name a change; `true` when absent.
    #[serde(default = "yes")]
    pub required: bool,
    /// The pattern of the change's id, such as `CHG*`.
    pub pattern: Option<Glob>,
}

reasons! {
    OF_THIS_RULE:
    APPROVED = "approved", "The people that the policy asks for have approved the digest.", "";
    APPROVED_BEFORE = "approved-before",
        "The change is a rollback: what it goes back to ran here, and its approvals counted then.", "";
    APPROVALS_MISSING = "approvals-missing",
        "Not enough people whose approval counts have approved the digest.",
        "Ask the people that the detail names to approve: `promotion-gate approve IMAGE@DIGEST --environment NAME`. The detail says which approvals do not count and why.";
    REJECTED = "rejected",
        "A person who may approve has rejected the digest.",
        "Talk to that person. The digest is blocked until that person approves it, with a certificate; or deploy another digest.";
    APPROVAL_UNREADABLE = "approval-unreadable",
        "A person who may approve has signed a statement about the digest that this version cannot read. It could be a rejection.",
        "Let that person approve or reject again, or update the gate. The detail names the field.";
    APPROVED_TOO_RECENTLY = "approved-too-recently",
        "All seats are filled, but the waiting time of the policy (`minimumAge`) is not over.",
        "Deploy after the time that the detail gives.";
    PEOPLE_UNKNOWN = "people-unknown",
        "No people directory can be read, or it lacks a group or person that the policy names.",
        "Add a `PeopleDirectory` with the group or person to the policy folder. `promotion-gate people check PATH` shows problems.";
    SCOPE_UNKNOWN = "scope-unknown",
        "Approvals are limited to a cluster, and the gate does not know the name of its own cluster.",
        "Set `cluster` in the configuration, or `check --cluster NAME`.";
    KEPT_UNREADABLE = "kept-evidence-unreadable",
        "The cluster keeps a rejection or the authors of the digest in a resource that cannot be read.",
        "Let a governor correct or delete the resource that the detail names.";
    AUTHOR_UNKNOWN = "author-unknown",
        "It is not known who wrote the change, so a seat could be filled by an author.",
        "Attest the authors with `promotion-gate attest change`, and add every author to the people directory. The detail says what is missing.";
}

/// What no emergency change waives: a person has rejected the digest, or it is not known whether one has.
pub(in crate::gate) const UNWAIVABLE: &[Reason] = &[
    REJECTED,
    APPROVAL_UNREADABLE,
    KEPT_UNREADABLE,
    PEOPLE_UNKNOWN,
    SCOPE_UNKNOWN,
    TRUST_ROOT_MISSING,
];

impl Entry for Approvals {
    const REASONS: &'static [Reason] = OF_THIS_RULE;
    const EVIDENCE: Option<EvidenceUse> = Some(EvidenceUse {
        covers: false,
        per_platform: false,
        effect: Effect::CanHurt,
    });

    fn validate(&self) -> Result<(), String> {
        validate_from(&self.from)?;
        if matches!(self.trust_roots.as_deref(), Some([])) {
            return Err("`trustRoots` is empty, so nothing can be accepted; name a trust root or leave the field out".to_owned());
        }
        if self.transparency == Some(RequiredTransparency::None) {
            return Err("`transparency: None` would accept approvals without a verified time; the least is `Timestamp`".to_owned());
        }
        for source in &self.authors_from {
            match (&source.provenance, &source.change_record) {
                (Some(provenance), None) if provenance.builders.is_empty() => {
                    return Err(
                        "`builders` is empty, so no provenance can name an author".to_owned()
                    );
                }
                (Some(_), None) | (None, Some(_)) => {}
                _ => {
                    return Err(
                        "expected exactly one of `provenance` and `changeRecord`".to_owned()
                    );
                }
            }
        }
        match (self.different_from_author, self.authors_from.is_empty()) {
            (true, true) => {
                return Err("who wrote the change must be known: list in `authorsFrom` who may say it, or accept approvals by authors with `differentFromAuthor: false`".to_owned());
            }
            (false, false) => {
                return Err(
                    "`authorsFrom` has no effect with `differentFromAuthor: false`".to_owned(),
                );
            }
            (false, true) if self.deployer_is_author || self.automation_may_author => {
                return Err("`deployerIsAuthor` and `automationMayAuthor` have no effect with `differentFromAuthor: false`".to_owned());
            }
            _ => {}
        }
        match (self.minimum_age, self.maximum_age) {
            (Some(minimum), Some(maximum)) if minimum >= maximum => Err(format!(
                "an approval that has waited for `minimumAge: {minimum}` is already older than `maximumAge: {maximum}`"
            )),
            _ => Ok(()),
        }
    }
}

impl Rule for Approvals {
    fn class(&self) -> Class {
        Class::ChangeControl
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Image(self)
    }

    fn needs(&self, world: &World) -> Needs<'_> {
        let signers = self.authors_from.iter().flat_map(AuthorSource::signers);
        self.needs_of_approvals(world)
            .and(Needs::under(signers, &world.trust_roots))
    }

    fn fits(&self, policy: &Policy) -> Result<(), String> {
        if policy.environment.is_none() {
            return Err("an approval is given for an environment, and this policy does not name one; set `environment` in `spec`".to_owned());
        }
        let mut others = policy.requirements.iter();
        let has_provenance =
            others.any(|named| matches!(named.requirement, Requirement::Provenance(_)));
        if !has_provenance
            && self
                .authors_from
                .iter()
                .any(|source| source.change_record.is_some())
        {
            return Err("a `changeRecord` is compared with the commit of the image's provenance; add the requirement `provenance` to this policy".to_owned());
        }
        Ok(())
    }

    fn missing_people(&self, people: &People) -> Vec<String> {
        let unknown = self.from.iter().filter_map(|from| from.unknown(people));
        let warning = |what| {
            format!(
                "no people directory that was read names the {what}: until one does, every image is undecided"
            )
        };
        unknown.map(warning).collect()
    }

    fn warnings(&self) -> Vec<String> {
        let names_actor = |builder: &Builder| {
            builder
                .id
                .to_string()
                .contains("slsa-framework/slsa-github-generator/")
        };
        let alone = self
            .authors_from
            .iter()
            .all(|source| source.change_record.is_none());
        let mut builders = self.authors_from.iter().flat_map(AuthorSource::builders);
        match builders.find(|builder| alone && !names_actor(builder)) {
            Some(builder) => vec![format!(
                "only provenance says who wrote the change, and only slsa-github-generator is known to name who started a build: for `{}`, every approval can stay undecided; add a `changeRecord` to `authorsFrom`",
                builder.id
            )],
            None => Vec::new(),
        }
    }
}

impl AuthorSource {
    fn builders(&self) -> &[Builder] {
        self.provenance.as_ref().map_or(&[], |it| &it.builders)
    }

    fn signers(&self) -> impl Iterator<Item = &AcceptedSigner> {
        let builders = self.builders().iter().map(|builder| &builder.signed_by);
        builders.chain(self.change_record.as_ref().map(|record| &record.signed_by))
    }
}

impl ImageRule for Approvals {
    fn check(&self, check: &ImageCheck<'_>) -> Judgement {
        let judgement = self.judge(check);
        match &check.world.kept_partly {
            Some(why) if !judgement.outcome.denies() => Judgement::undecided(
                KEPT_UNREADABLE,
                format!("a rejection, or an author, that the cluster keeps may be missing: {why}"),
            ),
            _ => judgement,
        }
    }

    fn keeps(&self, check: &ImageCheck<'_>) -> EvidenceToKeep {
        let mut kept = EvidenceToKeep::default();
        let (Some(subject), Some(evidence)) = (check.subject, check.evidence.value()) else {
            return kept;
        };
        let digest = &subject.digest;
        if let Some(people) = check.world.people.value() {
            let votes = Votes::read(self, check, evidence, people);
            let new = votes.to_keep.into_iter().filter(|(rejection, is_timed)| {
                !check.world.keeps_rejection(digest, rejection, *is_timed)
            });
            let new = new.map(|(rejection, _)| (digest.clone(), rejection));
            kept.rejections.extend(new);
        }
        if self.different_from_author {
            let mut authors = Authors::to_keep(self, check, evidence);
            authors.identities.sort();
            authors.identities.dedup();
            let names_somebody = !authors.identities.is_empty();
            if names_somebody && !check.world.keeps_authors(digest, &authors) {
                kept.authors.insert(digest.clone(), authors);
            }
        }
        kept
    }
}

impl Approvals {
    pub(in crate::gate) fn root_names(&self) -> impl Iterator<Item = &str> {
        let named = self.trust_roots.as_deref();
        let default = named.is_none().then_some(DEFAULT_TRUST_ROOT);
        named
            .into_iter()
            .flatten()
            .map(String::as_str)
            .chain(default)
    }

    /// The anchors under which approvals are accepted: the policy's trust roots, with certificates and with the keys of the
    /// people who may approve.
    fn needs_of_approvals(&self, world: &World) -> Needs<'static> {
        let people = world.people.value();
        let keys = people.map(|people| {
            let each = self.from.iter().flat_map(|from| from.keys(people));
            each.collect::<Vec<_>>()
        });
        Needs::roots(
            self.root_names(),
            &keys.unwrap_or_default(),
            &world.trust_roots,
        )
    }
}

impl ChangeReference {
    /// Checks the change that an approval names.
    fn names(&self, said: &predicate::Approval) -> Result<(), String> {
        let pattern = self.pattern.as_ref();
        match said.change.as_ref().and_then(|change| change.id.as_ref()) {
            Some(id) if pattern.is_none_or(|pattern| pattern.matches(id)) => Ok(()),
            Some(id) => Err(format!(
                "the approval names the change `{id}`, which the policy's pattern does not match"
            )),
            None if self.required => {
                Err("the approval does not name the id of a change".to_owned())
            }
            None => Ok(()),
        }
    }
}

impl RecordField {
    fn as_str(self) -> &'static str {
        match self {
            RecordField::Reason => "reason",
            RecordField::SecurityImpact => "securityImpact",
            RecordField::Testing => "testing",
            RecordField::BackOutPlan => "backOutPlan",
            RecordField::Reviewers => "reviewers",
        }
    }
}

impl ScopeName {
    const ALL: [ScopeName; 3] = [
        ScopeName::Cluster,
        ScopeName::ClusterUid,
        ScopeName::Namespace,
    ];

    fn as_str(self) -> &'static str {
        match self {
            ScopeName::Cluster => "cluster",
            ScopeName::ClusterUid => "clusterUid",
            ScopeName::Namespace => "namespace",
        }
    }

    fn parse(name: &str) -> Option<ScopeName> {
        let mut all = ScopeName::ALL.into_iter();
        all.find(|scope| scope.as_str() == name)
    }
}
