//! What a policy says of emergency changes: who has to agree, which incident has to be open, what is waived, and what follows.

use std::collections::BTreeSet;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use crate::gate::age::Age;
use crate::gate::glob::Glob;
use crate::gate::incident::Severity;
use crate::gate::people::People;
use crate::gate::policy::Policy;
use crate::gate::rules::{Approvers, Requirement, validate_from};
use crate::gate::signer::{DEFAULT_TRUST_ROOT, RequiredTransparency};

/// How a change may pass in an emergency although requirements of this policy are not met. Without this section none may.
///
/// **What it requires**: a person declares that this image mends an incident, in a signed statement about the digest (predicate type
/// `https://promotion-gate.dev/emergency-change/v1`), and the people of `from` agree to exactly this declaration: as many different
/// people as `from` names, the declarer included, and no author of the change. Where it is not known who wrote the change, at least
/// two people have to agree. The incident has to be open, if `incident` names a check. The declaration counts from its verified time
/// until its own `expires`, which is at most `maximumValidity` later; it names this environment, and its scopes include the
/// workload. One declaration is about every image of the workload that it is needed for.
///
/// **What it waives**: the requirements in `waives`, and only if every requirement of this policy that is not met is among them. A
/// freeze is passed only if `waives` names `noFreeze` and every freeze that lasts says `mayPass: {emergency: true}`. Nothing passes a
/// revocation or a signed rejection, and an image that no other requirement covers stays uncovered.
///
/// **What follows**: the deployer is warned, the admission is recorded as an emergency, and a review is due within `reviewWithin`.
/// What was admitted runs on, but does not count as a version to roll back to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EmergencyPolicy {
    /// The people who must agree: a number of members of a group, or one person. Each seat needs another person. A person who declares the
    /// emergency change agrees to it.
    #[schemars(length(min = 1))]
    pub from: Vec<Approvers>,
    /// The incident that must be open. When absent, the incident that the declaration names is recorded as `unverified`.
    #[serde(default)]
    pub incident: Option<IncidentRequirement>,
    /// The rules of this policy's requirements that an emergency change waives.
    #[schemars(length(min = 1))]
    pub waives: BTreeSet<WaivableRule>,
    /// How long after its verified time a declaration may expire; `4h` when absent, at most `24h`.
    #[serde(default)]
    pub maximum_validity: Option<Age>,
    /// How soon after the admission it has to be reviewed; `48h` when absent.
    #[serde(default)]
    pub review_within: Option<Age>,
    /// Whether an emergency change of the environment that was not reviewed in time blocks the next one in this cluster; `false` when
    /// absent. It has no effect without a cluster, which keeps what was used.
    #[serde(default)]
    pub block_on_overdue_review: bool,
    /// The trust roots under which declarations and agreements are accepted; those of the policy's `approvals` when absent, and
    /// `[sigstore]` (the public-good instance) in a policy without `approvals`.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub trust_roots: Option<Vec<String>>,
    /// The public record that declarations and agreements must have; as the policy's `approvals` say when absent.
    #[serde(default)]
    pub transparency: Option<RequiredTransparency>,
}

/// What must hold for the incident that a declaration names.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IncidentRequirement {
    /// The name of the `IncidentCheck` that is asked.
    #[schemars(length(min = 1, max = 253))]
    pub check: String,
    /// The least severe incident that is enough, from `P1` (the most severe) to `P5`; any when absent.
    #[serde(default)]
    pub minimum_severity: Option<Severity>,
    /// Whether the incident must have been opened before the emergency change was declared.
    #[serde(default)]
    pub opened_before_declaration: bool,
    /// Whether the incident must have been opened by an account that is none of the declarer's and of those who agreed. An account is
    /// theirs if the directory lists its name for them.
    #[serde(default)]
    pub opened_by_other: bool,
    /// Patterns of the services that the incident may be about; any when absent. `{namespace}` stands for the namespace of the
    /// workload.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub services: Option<Vec<ServicePattern>>,
    /// What happens while the tracker cannot be reached; `Deny` when absent. An answer that cannot be used, and a check that cannot be
    /// asked, deny always.
    #[serde(default)]
    pub when_unreachable: WhenUnreachable,
}

/// What happens while an incident tracker cannot be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum WhenUnreachable {
    /// The emergency change does not count.
    #[default]
    Deny,
    /// It counts, and its incident is recorded as `unverified`.
    Allow,
}

/// A rule that an emergency change can waive, by the key of its requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WaivableRule(&'static str);

/// A pattern of the names of services. `{namespace}` stands for the namespace of the workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePattern(String);

/// The longest time that `maximumValidity` can be.
const MAXIMUM_VALIDITY: Age = Age::DAY;
/// The rule that no emergency change waives, since the registry of an image that it refuses is not asked.
const NEVER_WAIVED: &str = "allowedImages";
/// What stands for the namespace of the workload.
const NAMESPACE: &str = "{namespace}";

impl EmergencyPolicy {
    /// Checks what the schema cannot express.
    ///
    /// # Errors
    /// The field that is wrong, and why.
    pub fn validate(&self, policy: &Policy) -> Result<(), (&'static str, String)> {
        validate_from(&self.from).map_err(|why| ("from", why))?;
        if self.waives.is_empty() {
            let why = "`waives` is empty, so an emergency change would have no effect; name the requirements that it waives, or remove `emergency`";
            return Err(("waives", why.to_owned()));
        }
        if let Some(validity) = self.maximum_validity.filter(|it| *it > MAXIMUM_VALIDITY) {
            let why = format!("`{validity}` is longer than a day; the most is `24h`");
            return Err(("maximumValidity", why));
        }
        if matches!(self.trust_roots.as_deref(), Some([])) {
            let why = "`trustRoots` is empty, so nothing can be accepted; name a trust root or leave the field out";
            return Err(("trustRoots", why.to_owned()));
        }
        if self.transparency == Some(RequiredTransparency::None) {
            let why = "`transparency: None` would accept declarations without a verified time; the least is `Timestamp`";
            return Err(("transparency", why.to_owned()));
        }
        let incident = self.incident.as_ref();
        if incident.is_some_and(|it| matches!(it.services.as_deref(), Some([]))) {
            let why = "`services` is empty, so no incident would be enough; leave it out to accept every service";
            return Err(("incident", why.to_owned()));
        }
        if policy.environment.is_none() {
            let why = "an emergency change is declared for an environment, and this policy does not name one; set `environment` in `spec`";
            return Err(("", why.to_owned()));
        }
        Ok(())
    }

    /// Parts that are valid but probably a mistake, each with its field.
    pub fn warnings(&self, policy: &Policy) -> Vec<(&'static str, String)> {
        let mut warnings = Vec::new();
        let rules = policy.requirements.iter().map(|it| &it.requirement);
        let required: BTreeSet<_> = rules.clone().map(Requirement::rule_name).collect();
        for rule in self.waives.iter().filter(|it| !required.contains(it.0)) {
            let why = format!(
                "`{}` has no effect: this policy does not require it",
                rule.0
            );
            warnings.push(("waives", why));
        }
        if self.waives_rule(NEVER_WAIVED) && required.contains(NEVER_WAIVED) {
            let why = format!(
                "`{NEVER_WAIVED}` has no effect: the registry of an image that is refused by its name is not asked, also not for a declaration"
            );
            warnings.push(("waives", why));
        }
        let mut covering = rules.filter(|it| it.covers()).peekable();
        if covering.peek().is_some() && covering.all(|it| self.waives_rule(it.rule_name())) {
            let why = "every requirement that says where an image comes from is waived here; an image for which all of them are waived stays uncovered, and is denied";
            warnings.push(("waives", why.to_owned()));
        }
        let seats: usize = self.from.iter().map(Approvers::seats).sum();
        if seats == 1 {
            let why = "one person alone can declare an emergency change and fill the only seat; name a second seat";
            warnings.push(("from", why.to_owned()));
        }
        warnings
    }

    /// The groups and people that it names and the directory lacks, one sentence each.
    pub fn missing_people(&self, people: &People) -> Vec<String> {
        let unknown = self.from.iter().filter_map(|from| from.unknown(people));
        let warning = |what| {
            format!(
                "no people directory that was read names the {what}: until one does, no emergency change counts"
            )
        };
        unknown.map(warning).collect()
    }

    /// Whether an emergency change waives the rule of this name.
    pub fn waives_rule(&self, rule: &str) -> bool {
        self.waives.iter().any(|waived| waived.0 == rule)
    }

    /// How long after its verified time a declaration may expire.
    pub fn maximum_validity(&self) -> Age {
        self.maximum_validity.unwrap_or(Age::FOUR_HOURS)
    }

    /// How soon after the admission a review is due.
    pub fn review_within(&self) -> Age {
        self.review_within.unwrap_or(Age::TWO_DAYS)
    }

    /// The names of the trust roots under which declarations and agreements are accepted.
    pub fn root_names<'p>(&'p self, policy: &'p Policy) -> BTreeSet<&'p str> {
        if let Some(own) = &self.trust_roots {
            return own.iter().map(String::as_str).collect();
        }
        let of_approvals: BTreeSet<_> = policy
            .approvals()
            .flat_map(|rule| rule.root_names())
            .collect();
        match of_approvals.is_empty() {
            true => BTreeSet::from([DEFAULT_TRUST_ROOT]),
            false => of_approvals,
        }
    }

    /// The public record that declarations and agreements must have, if a policy says it: the strictest that its `approvals` name.
    pub(in crate::gate) fn transparency(&self, policy: &Policy) -> Option<RequiredTransparency> {
        self.transparency
            .or_else(|| policy.approvals().filter_map(|it| it.transparency).min())
    }
}

impl ServicePattern {
    /// Whether a service matches, for a workload in this namespace.
    pub(super) fn matches(&self, service: &str, namespace: Option<&str>) -> bool {
        let written = match (self.0.contains(NAMESPACE), namespace) {
            (true, None) => return false,
            (_, namespace) => self.0.replace(NAMESPACE, namespace.unwrap_or_default()),
        };
        Glob::parse(&written).is_ok_and(|pattern| pattern.matches(service))
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for ServicePattern {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<ServicePattern, D::Error> {
        let written = String::deserialize(from)?;
        Glob::parse(&written.replace(NAMESPACE, "namespace")).map_err(serde::de::Error::custom)?;
        Ok(ServicePattern(written))
    }
}

impl JsonSchema for ServicePattern {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ServicePattern".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A pattern of the names of services, such as `payments-*` or `{namespace}`.",
            "type": "string",
            "minLength": 1
        })
    }
}

impl WaivableRule {
    /// The key of the requirement.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl<'de> Deserialize<'de> for WaivableRule {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<WaivableRule, D::Error> {
        let written = String::deserialize(from)?;
        let mut known = Requirement::NAMES.iter();
        let found = known.find(|name| **name == written);
        found.map(|name| WaivableRule(name)).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "`{written:.80}` is not a rule; expected one of {}",
                Requirement::NAMES.join(", ")
            ))
        })
    }
}

impl JsonSchema for WaivableRule {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "WaivableRule".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A rule, by the key of its requirement.",
            "type": "string",
            "enum": Requirement::NAMES
        })
    }
}
