//! Requests that change what the gate decides by, and the answers to them.

use std::collections::BTreeMap;

use promotion_gate_core::gate::{
    Actor, Decision, GovernanceChange, GovernanceOperation, GovernanceVerdict, GovernedKind,
};
use serde_json::Value;

use super::change::name_of;
use super::kinds::{HARMLESS_SUBRESOURCES, NAMESPACE_SUBRESOURCES, group_and_kind};
use super::response::{AdmissionResponse, MAXIMUM_LINE, MAXIMUM_LINES, MAXIMUM_WARNING, cut};
use super::understood::{NotOurs, Understood};
use crate::api::GROUP;

/// Kinds of our group that only the gate writes. A `ValidatingAdmissionPolicy` guards them (`deploy/`), so that the webhook need not
/// answer for its own writes.
pub(super) const WRITTEN_BY_THE_GATE: &[&str] = &["ReleaseRecord"];

/// What a request says, as far as governance looks at it.
pub(super) struct Asked<'a> {
    pub(super) group: &'a str,
    pub(super) kind: &'a str,
    pub(super) operation: &'a str,
    pub(super) subresource: &'a str,
    pub(super) name: &'a str,
}

/// The kind, if objects of it are governed.
pub(super) fn governed_kind(group: &str, kind: &str) -> Option<GovernedKind> {
    match (group, kind) {
        ("", "Namespace") => Some(GovernedKind::Namespace),
        (GROUP, kind) => Some(GovernedKind::of_resource(kind)),
        _ => None,
    }
}

/// Understands a request about an object of a governed kind.
pub(super) fn understand(
    (id, kind): (String, GovernedKind),
    asked: &Asked<'_>,
    actor: Actor,
    dry_run: bool,
    [before, after]: [Value; 2],
) -> Understood {
    use GovernanceOperation::{Create, Delete, Update};
    let is_namespace = kind == GovernedKind::Namespace;
    let subresource = match is_namespace && NAMESPACE_SUBRESOURCES.contains(&asked.subresource) {
        true => "",
        false => asked.subresource,
    };
    // 1. What is not governed: status is written by the gate alone, and namespaces come and go freely.
    if WRITTEN_BY_THE_GATE.contains(&kind.name()) {
        return Understood::NotOurs(NotOurs::Record);
    }
    if HARMLESS_SUBRESOURCES.contains(&subresource) {
        return Understood::NotOurs(NotOurs::Subresource);
    }
    let (operation, mut unreadable) = match asked.operation {
        "CREATE" if is_namespace => return Understood::NotOurs(NotOurs::KindWithoutImages),
        "DELETE" if is_namespace => return Understood::NotOurs(NotOurs::Deletion),
        "CONNECT" => return Understood::NotOurs(NotOurs::Connection),
        "CREATE" => (Create, None),
        "UPDATE" => (Update, None),
        "DELETE" => (Delete, None),
        other => (
            Update,
            Some(format!("the operation `{other:.40}` is not known")),
        ),
    };
    // 2. The objects have to be there and of the requested kind: otherwise something else than what is stored would be judged.
    let is_of_kind = |object: &Value| {
        let said = group_and_kind(object);
        said.is_some_and(|said| (said.0.as_str(), said.1.as_str()) == (asked.group, asked.kind))
    };
    let given: &[&Value] = match operation {
        Create => &[&after],
        Update => &[&before, &after],
        Delete => &[&before],
    };
    if !given.iter().all(|object| is_of_kind(object)) {
        let kind = kind.name();
        unreadable.get_or_insert_with(|| {
            format!("the object is not a `{kind:.60}`, which the request names as its kind")
        });
    }
    if !subresource.is_empty() {
        unreadable = Some(format!("the subresource `{subresource:.60}` is not known"));
    }
    let name = match (asked.name, operation) {
        // Of a collection that is deleted, the objects alone have names.
        ("", Delete) => name_of(&before),
        ("", _) => name_of(&after),
        (name, _) => name.to_owned(),
    };
    let change = GovernanceChange {
        id,
        operation,
        kind,
        name,
        before,
        after,
        actor,
        dry_run,
        unreadable,
    };
    // 3. Labels, annotations and finalizers of what stays the same.
    match change.decides_nothing() {
        true => Understood::NotOurs(NotOurs::NothingThatDecides),
        false => Understood::Governance(Box::new(change)),
    }
}

impl AdmissionResponse {
    /// The answer to a change of what the gate decides by. Under `audit_only`, every request is allowed and the decision is only
    /// recorded.
    pub fn governed(
        verdict: &GovernanceVerdict,
        change: &GovernanceChange,
        audit_only: bool,
    ) -> AdmissionResponse {
        let is_denied = verdict.decision == Decision::Deny;
        let mut audit = BTreeMap::from([
            ("decision", verdict.decision.id().to_owned()),
            ("id", change.id.clone()),
            ("governance", verdict.reason.to_owned()),
        ]);
        if !verdict.loosened.is_empty() {
            audit.insert("loosened", cut(&verdict.loosened.join("; "), 1000));
        }
        if audit_only {
            audit.insert("auditOnly", "true".to_owned());
        }
        let warnings = verdict.warnings.iter();
        AdmissionResponse {
            allowed: audit_only || !is_denied,
            message: match is_denied && !audit_only {
                true => denial(verdict, change),
                false => String::new(),
            },
            warnings: warnings.map(|text| cut(text, MAXIMUM_WARNING)).collect(),
            audit,
            emergencies: Vec::new(),
        }
    }
}

/// The message of a denial: what is denied, why, the next step, the id of the decision.
fn denial(verdict: &GovernanceVerdict, change: &GovernanceChange) -> String {
    let done = match change.operation {
        GovernanceOperation::Create => "created",
        GovernanceOperation::Update => "changed",
        GovernanceOperation::Delete => "deleted",
    };
    let (kind, name) = (change.kind.name(), &change.name);
    let mut lines = vec![format!(
        "{kind} {name} may not be {done} [{}]:",
        verdict.reason
    )];
    let room = MAXIMUM_LINES - 4;
    let details = verdict.details.iter().take(room);
    lines.extend(details.map(|detail| format!("- {detail}")));
    let left_out = verdict.details.len().saturating_sub(room);
    if left_out > 0 {
        lines.push(format!("… and {left_out} more"));
    }
    lines.extend(verdict.hint.iter().map(|hint| format!("→ {hint}")));
    lines.push(format!("decision {}", change.id));
    let lines: Vec<_> = lines.iter().map(|line| cut(line, MAXIMUM_LINE)).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests;
