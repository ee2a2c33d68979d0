//! Who may change what the gate decides by: its own resources, and the labels of namespaces that policies select by.
//!
//! Governors may change all of it, but for the records of emergency changes: the gate alone writes those, and governors may delete
//! them. Three more requesters may change a part: the gate writes the resources in which it keeps evidence, a person rejects a digest in
//! their own name, and the garbage-collection and namespace controllers delete resources. While no governor is configured, every
//! requester may do what governors may.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::people::{Identity, Lookup};
use super::policy::Match;
use super::promotion::Actor;
use super::snapshot::Snapshot;
use super::verdict::Decision;
use super::world::Governors;

/// A change of what the gate decides by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GovernanceChange {
    /// The identifier of the request.
    pub id: String,
    /// What is done with the object.
    pub operation: GovernanceOperation,
    /// The kind of the object.
    pub kind: GovernedKind,
    /// `metadata.name`
    pub name: String,
    /// The object before; `Null` if it did not exist.
    pub before: Value,
    /// The object after; `Null` if it does not exist any more.
    pub after: Value,
    /// The requester.
    pub actor: Actor,
    /// Whether nothing is stored.
    pub dry_run: bool,
    /// Why the request cannot be understood, if it cannot.
    pub unreadable: Option<String>,
}

/// What is done with a governed object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GovernanceOperation {
    /// The object is new.
    Create,
    /// The object exists.
    Update,
    /// The object is removed.
    Delete,
}

/// The kind of a governed object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GovernedKind {
    /// A namespace, of which the labels count.
    Namespace,
    /// `PromotionPolicy`
    PromotionPolicy,
    /// `PeopleDirectory`
    PeopleDirectory,
    /// `ChangeFreeze`
    ChangeFreeze,
    /// `IncidentCheck`
    IncidentCheck,
    /// `TrustRoot`
    TrustRoot,
    /// `Rejection`
    Rejection,
    /// `Revocation`
    Revocation,
    /// `AuthorRecord`
    AuthorRecord,
    /// `VexRecord`
    VexRecord,
    /// `EmergencyChangeRecord`
    EmergencyChangeRecord,
    /// `GateConfiguration`
    GateConfiguration,
    /// A kind of the gate's API group that this version does not know.
    Unknown(String),
}

/// The decision about a [`GovernanceChange`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GovernanceVerdict {
    /// Whether the change may be made.
    pub decision: Decision,
    /// Why, as a stable id in kebab case.
    pub reason: &'static str,
    /// What is wrong, one sentence each; empty for a change that may be made.
    pub details: Vec<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// What the requester should know, one sentence each.
    pub warnings: Vec<String>,
    /// What the change makes looser, or may make looser, one phrase each; empty for a change that may not be made.
    pub loosened: Vec<String>,
}

/// What decides about a [`GovernanceChange`], besides the change.
#[derive(Clone, Debug)]
pub struct GovernedBy<'a> {
    /// The governors, the people and the policies.
    pub snapshot: &'a Snapshot,
    /// Why it is not known who governs, if it is not: then not everybody does.
    pub governors_unknown: Option<String>,
    /// The user name of the gate itself, if it is known.
    pub gate: Option<&'a str>,
    /// What makes the object invalid, one sentence each.
    pub problems: Vec<String>,
    /// The present.
    pub now: Timestamp,
}

/// By which right a change may be made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Right {
    /// The policies that match a namespace stay the same.
    SamePolicies,
    Governor,
    /// The gate keeps evidence.
    Gate,
    /// The requester rejects a digest in their own name.
    OwnRejection,
    /// The garbage-collection or namespace controller deletes.
    ClusterController,
    /// No governors are configured.
    NoGovernors,
}

/// The user names of the garbage-collection and namespace controllers, which delete resources.
const DELETING_CONTROLLERS: &[&str] = &[
    "system:serviceaccount:kube-system:generic-garbage-collector",
    "system:serviceaccount:kube-system:namespace-controller",
    "system:kube-controller-manager",
];

/// Decides about a change of what the gate decides by.
pub fn judge_governance(change: &GovernanceChange, by: GovernedBy<'_>) -> GovernanceVerdict {
    let denied = |reason, details, hint| GovernanceVerdict {
        decision: Decision::Deny,
        reason,
        details,
        hint,
        warnings: Vec::new(),
        loosened: Vec::new(),
    };
    // 1. A request that is not understood could do anything.
    if let Some(why) = &change.unreadable {
        return denied("not-understood", vec![why.clone()], None);
    }
    // 2. The requester needs a right: RBAC alone would let every editor of these resources admit any image.
    let governors = &by.snapshot.world.governors;
    if let (Some(Right::NoGovernors), Some(why)) = (change.right(&by), &by.governors_unknown) {
        let hint = "repair the configuration; the way out of a lock-out is in deploy/README.md";
        let details = vec![format!("it is not known who governs: {why}")];
        return denied("governors-unknown", details, Some(hint.to_owned()));
    }
    let Some(right) = change.right(&by) else {
        if change.is_write_of_a_record() {
            let user = &change.actor.username;
            let details = vec![format!(
                "only promotion-gate writes the records of emergency changes, and `{user}` is not its service account"
            )];
            let hint = "a review closes one: `promotion-gate emergency review`";
            return denied("not-the-gate", details, Some(hint.to_owned()));
        }
        let details = change.refusals(&by);
        return denied("not-a-governor", details, Some(governors.hint()));
    };
    // 3. What is stored has to be valid: an invalid document would have no effect, or the last valid one would go on.
    if change.operation != GovernanceOperation::Delete && !by.problems.is_empty() {
        return denied("invalid", by.problems, None);
    }
    let mut warnings = Vec::new();
    if right == Right::NoGovernors {
        warnings.push(
            "no governors are configured, so that everybody may change what promotion-gate decides by".to_owned(),
        );
    }
    if change.locks_out_its_author() {
        warnings.push(
            "you are not among the governors that this configuration names: you cannot change it again".to_owned(),
        );
    }
    let loosened = match right {
        Right::SamePolicies | Right::Gate | Right::OwnRejection => Vec::new(),
        Right::Governor | Right::ClusterController | Right::NoGovernors => {
            change.loosened(by.snapshot)
        }
    };
    GovernanceVerdict {
        decision: Decision::Allow,
        reason: right.id(),
        details: Vec::new(),
        hint: None,
        warnings,
        loosened,
    }
}

impl Right {
    fn id(self) -> &'static str {
        match self {
            Right::SamePolicies => "same-policies",
            Right::Governor => "governor",
            Right::Gate => "gate",
            Right::OwnRejection => "own-rejection",
            Right::ClusterController => "cluster-controller",
            Right::NoGovernors => "no-governors",
        }
    }
}

impl GovernanceChange {
    /// What the object says before and after, without its metadata: that is all that decides. Of a namespace, its labels.
    pub fn contents(&self) -> [Value; 2] {
        [&self.before, &self.after].map(|object| self.kind.content(object))
    }

    /// Whether the change leaves everything as it is that the gate decides by. An owner reference that is added counts: the
    /// garbage collector deletes an object whose owner does not exist.
    pub fn decides_nothing(&self) -> bool {
        let [before, after] = self.contents();
        let is_understood = self.before.is_object() && self.after.is_object();
        self.operation == GovernanceOperation::Update
            && self.unreadable.is_none()
            && is_understood
            && before == after
            && (self.kind == GovernedKind::Namespace || !self.adds_owner())
    }

    fn adds_owner(&self) -> bool {
        let owners = |object: &Value| {
            let owners = object.pointer("/metadata/ownerReferences");
            owners
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default()
        };
        let before = owners(&self.before);
        owners(&self.after)
            .iter()
            .any(|owner| !before.contains(owner))
    }

    /// By which right the change may be made; `None` if it may not.
    fn right(&self, by: &GovernedBy<'_>) -> Option<Right> {
        let governors = &by.snapshot.world.governors;
        let is_namespace = self.kind == GovernedKind::Namespace;
        if is_namespace && self.changed_policies(by.snapshot).is_empty() {
            return Some(Right::SamePolicies);
        }
        let username = self.actor.username.as_str();
        if self.is_write_of_a_record() {
            return (by.gate == Some(username)).then_some(Right::Gate);
        }
        if governors.include(&self.actor) {
            return Some(Right::Governor);
        }
        let deletes = self.operation == GovernanceOperation::Delete;
        if deletes && DELETING_CONTROLLERS.contains(&username) {
            return Some(Right::ClusterController);
        }
        if by.gate == Some(username) && self.is_written_by_the_gate() {
            return Some(Right::Gate);
        }
        if self.rejects_in_own_name(by) {
            return Some(Right::OwnRejection);
        }
        governors.is_empty().then_some(Right::NoGovernors)
    }

    /// Whether a record of an emergency change is created or changed. A governor who could write one could close it without a review.
    fn is_write_of_a_record(&self) -> bool {
        self.kind == GovernedKind::EmergencyChangeRecord
            && self.operation != GovernanceOperation::Delete
    }

    /// Whether the gate may write this itself: the evidence that it keeps, of which it collects what nothing needs any more, and an
    /// empty configuration that holds its public keys where there is none.
    pub fn is_written_by_the_gate(&self) -> bool {
        let [_, after] = self.contents();
        match self.kind {
            GovernedKind::Rejection => self.operation != GovernanceOperation::Delete,
            GovernedKind::AuthorRecord
            | GovernedKind::VexRecord
            | GovernedKind::EmergencyChangeRecord => true,
            GovernedKind::GateConfiguration => {
                let is_empty = after.pointer("/spec").is_none_or(is_empty);
                self.operation == GovernanceOperation::Create && is_empty
            }
            _ => false,
        }
    }

    /// Whether this is a new rejection by the person whose Kubernetes user the requester is. It may close no emergency change: who may
    /// do that is asked of the signed closure alone.
    fn rejects_in_own_name(&self, by: &GovernedBy<'_>) -> bool {
        let creates = self.operation == GovernanceOperation::Create;
        let Some(people) = by.snapshot.world.people.complete() else {
            return false;
        };
        let user = Identity::KubernetesUser(self.actor.username.clone());
        let Lookup::Person(person) = people.person_of(&user) else {
            return false;
        };
        let named = self.after.pointer("/spec/person").and_then(Value::as_str);
        self.kind == GovernedKind::Rejection
            && creates
            && named == Some(person.name.as_str())
            && !self.closes_an_emergency()
            && person.is_active_at(by.now)
            && !self.adds_owner()
    }

    fn closes_an_emergency(&self) -> bool {
        let closure = self.after.pointer("/spec/closure");
        closure.is_some_and(|it| *it != Value::Bool(false))
    }

    fn refusals(&self, by: &GovernedBy<'_>) -> Vec<String> {
        let user = &self.actor.username;
        let mut refusals = vec![format!(
            "only governors may change what the gate decides by, and `{user}` is not one"
        )];
        if self.kind == GovernedKind::Namespace {
            let changed = self.changed_policies(by.snapshot);
            refusals.extend(changed.iter().map(|(policy, governs)| match governs {
                true => format!("the policy {policy} would govern the namespace from then on"),
                false => format!("the policy {policy} would not govern the namespace any more"),
            }));
        }
        if self.kind == GovernedKind::Rejection && self.operation == GovernanceOperation::Create {
            let why = match by.snapshot.world.people.complete() {
                _ if self.closes_an_emergency() => {
                    "with `closure`, only governors create one; `promotion-gate emergency close` ends an emergency change"
                }
                Some(_) => {
                    "a rejection in your own name needs `spec.person`: the name of the person of whom a people directory lists your Kubernetes user as an identity"
                }
                None => {
                    "whether you are the person whom it names is not known, because the people directories cannot be read"
                }
            };
            refusals.push(why.to_owned());
        }
        refusals
    }

    /// The policies that match the namespace before or after and not both times, each with whether they match after. One that cannot
    /// be read counts by the namespaces that it may govern.
    fn changed_policies(&self, snapshot: &Snapshot) -> Vec<(String, bool)> {
        let [before, after] = self.contents().map(|labels| labels_of(&labels));
        let policies = snapshot.policies.iter();
        let policies = policies.map(|it| (format!("`{}`", it.name), &it.namespaces));
        let unreadable = snapshot.unreadable.iter();
        let unreadable = unreadable.map(|it| {
            let name = format!("`{}`, which cannot be read,", it.source);
            (name, &it.namespaces)
        });
        let changed = policies.chain(unreadable).filter_map(|(name, namespaces)| {
            let matches = |labels| namespaces.covers(&self.name, Some(labels)) == Match::Matches;
            let (before, after) = (matches(&before), matches(&after));
            (before != after).then_some((name, after))
        });
        changed.collect()
    }

    /// What the change makes looser, or may make looser.
    fn loosened(&self, snapshot: &Snapshot) -> Vec<String> {
        use GovernanceOperation::{Create, Delete, Update};
        let [before, after] = self.contents();
        let name = &self.name;
        let deleted = || vec![format!("{} `{name}` is deleted", self.kind.name())];
        match (&self.kind, self.operation) {
            (GovernedKind::Namespace, _) => {
                let changed = self.changed_policies(snapshot).into_iter();
                let gone = changed.filter(|(_, governs)| !governs);
                let gone = gone.map(|(policy, _)| {
                    format!("the policy {policy} does not govern the namespace `{name}` any more")
                });
                gone.collect()
            }
            // One more that denies.
            (
                GovernedKind::PromotionPolicy
                | GovernedKind::ChangeFreeze
                | GovernedKind::Rejection
                | GovernedKind::Revocation
                | GovernedKind::AuthorRecord
                | GovernedKind::VexRecord
                | GovernedKind::EmergencyChangeRecord
                // Until a policy names it, nothing is trusted under it; without it, less is.
                | GovernedKind::TrustRoot
                // Until a policy names it, nobody asks it.
                | GovernedKind::IncidentCheck,
                Create,
            )
            | (GovernedKind::TrustRoot, Delete) => Vec::new(),
            (_, Delete) => deleted(),
            (GovernedKind::PromotionPolicy, Update) => loosened_policy(&before, &after),
            (_, Create | Update) => changed_fields(&before, &after).map(|it| format!("{it} changes")).collect(),
        }
    }

    /// Whether the configuration names governors, and its author is none of them.
    fn locks_out_its_author(&self) -> bool {
        let names = |list: &str| {
            let names = self.after.pointer(&format!("/spec/governors/{list}"));
            let names = names.and_then(Value::as_array).into_iter().flatten();
            let names = names.filter_map(Value::as_str).map(str::to_owned);
            names.collect()
        };
        let named = Governors {
            users: names("users"),
            groups: names("groups"),
        };
        self.kind == GovernedKind::GateConfiguration
            && !named.is_empty()
            && !named.include(&self.actor)
    }
}

/// What an update of a policy makes looser, or may make looser. A requirement that is added and an enforcement that is raised
/// cannot.
fn loosened_policy(before: &Value, after: &Value) -> Vec<String> {
    const ENFORCEMENTS: [&str; 3] = ["Audit", "Warn", "Enforce"];
    let requirements = |content: &Value| {
        let list = content.pointer("/spec/requirements");
        list.and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let enforcement = |content: &Value| {
        let text = content.pointer("/spec/enforcement").and_then(Value::as_str);
        text.unwrap_or("Enforce").to_owned()
    };
    let rank = |name: &str| ENFORCEMENTS.iter().position(|known| *known == name);
    let mut loosened = Vec::new();
    for field in changed_fields(before, after) {
        match field.as_str() {
            "`enforcement`" => {
                let [old, new] = [before, after].map(enforcement);
                if rank(&new) < rank(&old) {
                    loosened.push(format!("`enforcement` goes from `{old}` to `{new}`"));
                }
            }
            "`requirements`" => {
                let kept = requirements(after);
                let old = requirements(before);
                let gone = old.iter().filter(|old| !kept.contains(old));
                loosened.extend(gone.map(|requirement| {
                    let mut rule = requirement.as_object().into_iter().flat_map(Map::keys);
                    let rule = rule.find(|key| *key != "name");
                    let rule = rule.map_or("?", String::as_str);
                    format!("a requirement `{rule:.60}` is changed or removed")
                }));
            }
            other => loosened.push(format!("{other} changes")),
        }
    }
    loosened
}

/// The fields of `spec` that differ; without a `spec`, the whole.
fn changed_fields(before: &Value, after: &Value) -> impl Iterator<Item = String> {
    let fields = |content: &Value| {
        let spec = content.get("spec").and_then(Value::as_object);
        spec.cloned().unwrap_or_default()
    };
    let (before, after) = (fields(before), fields(after));
    let mut names: Vec<_> = before.keys().chain(after.keys()).cloned().collect();
    names.sort();
    names.dedup();
    let differs = move |name: &String| before.get(name) != after.get(name);
    let changed = names.into_iter().filter(differs);
    changed.map(|name| format!("`{name:.60}`"))
}

fn labels_of(labels: &Value) -> BTreeMap<String, String> {
    let labels = labels.as_object().into_iter().flatten();
    let text = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    labels.filter_map(text).collect()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        _ => false,
    }
}

impl GovernedKind {
    /// Every known kind.
    const KNOWN: [GovernedKind; 12] = [
        GovernedKind::Namespace,
        GovernedKind::PromotionPolicy,
        GovernedKind::PeopleDirectory,
        GovernedKind::ChangeFreeze,
        GovernedKind::IncidentCheck,
        GovernedKind::TrustRoot,
        GovernedKind::Rejection,
        GovernedKind::Revocation,
        GovernedKind::AuthorRecord,
        GovernedKind::VexRecord,
        GovernedKind::EmergencyChangeRecord,
        GovernedKind::GateConfiguration,
    ];

    /// A kind of the gate's own API group.
    pub fn of_resource(name: &str) -> GovernedKind {
        let mut known = GovernedKind::KNOWN.into_iter();
        let known = known.find(|kind| *kind != GovernedKind::Namespace && kind.name() == name);
        known.unwrap_or_else(|| GovernedKind::Unknown(name.to_owned()))
    }

    /// The kind as objects write it.
    pub fn name(&self) -> &str {
        match self {
            GovernedKind::Namespace => "Namespace",
            GovernedKind::PromotionPolicy => "PromotionPolicy",
            GovernedKind::PeopleDirectory => "PeopleDirectory",
            GovernedKind::ChangeFreeze => "ChangeFreeze",
            GovernedKind::IncidentCheck => "IncidentCheck",
            GovernedKind::TrustRoot => "TrustRoot",
            GovernedKind::Rejection => "Rejection",
            GovernedKind::Revocation => "Revocation",
            GovernedKind::AuthorRecord => "AuthorRecord",
            GovernedKind::VexRecord => "VexRecord",
            GovernedKind::EmergencyChangeRecord => "EmergencyChangeRecord",
            GovernedKind::GateConfiguration => "GateConfiguration",
            GovernedKind::Unknown(name) => name,
        }
    }

    /// What decides of an object: everything besides its metadata; of a namespace, its labels.
    fn content(&self, object: &Value) -> Value {
        if *self == GovernedKind::Namespace {
            let labels = object.pointer("/metadata/labels").cloned();
            return labels.unwrap_or_else(|| Map::new().into());
        }
        let Some(fields) = object.as_object() else {
            return Value::Null;
        };
        let decides =
            |field: &&String| !["apiVersion", "kind", "metadata"].contains(&field.as_str());
        let fields = fields.iter().filter(|(field, _)| decides(field));
        fields
            .map(|(field, value)| (field.clone(), value.clone()))
            .collect()
    }
}

impl Governors {
    /// Whether no user and no group is configured.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty()
    }

    /// Whether the requester is one of them.
    pub fn include(&self, actor: &Actor) -> bool {
        let mut groups = actor.groups.iter();
        self.users.contains(&actor.username) || groups.any(|group| self.groups.contains(group))
    }

    fn hint(&self) -> String {
        let named = |noun: &str, names: &std::collections::BTreeSet<String>| {
            let shown: Vec<_> = names
                .iter()
                .take(5)
                .map(|name| format!("`{name}`"))
                .collect();
            let more = match names.len().saturating_sub(shown.len()) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            (!names.is_empty()).then(|| format!("{noun} {}{more}", shown.join(", ")))
        };
        let parts = [named("users", &self.users), named("groups", &self.groups)];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        format!("ask a governor ({})", parts.join("; "))
    }
}

#[cfg(test)]
mod tests;
