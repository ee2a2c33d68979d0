//! The table of kinds → `matchConditions`, by which an API server does not ask about updates that change nothing that is judged.
//! A condition never looks at who asks, since that decides about trust; it may let through what the code then calls not ours, and
//! never the other way round.

use serde_json::{Value, json};

use super::kinds::{Activation, TABLE, WorkloadKind, partitioned};
use crate::api::GROUP;

/// The conditions of an entry of the webhook configuration. Each is about the updates of one kind, or of one group.
pub(super) fn match_conditions() -> Vec<Value> {
    let kinds = TABLE.iter().map(|kind| {
        let changes = changes_of(kind);
        of_updates(
            kind.plural,
            &format!("request.kind.kind != '{}'", kind.name),
            &changes,
        )
    });
    let (before, after) = (replicas("oldObject"), replicas("object"));
    let partitioned: Vec<_> = partitioned().map(|plural| format!("'{plural}'")).collect();
    let scaled = [
        format!("({before} == 0 && {after} != 0)"),
        // A Scale does not hold the partition.
        format!(
            "(request.resource.resource in [{}] && {before} < {after})",
            partitioned.join(", ")
        ),
    ];
    let labels = changes("/metadata/labels");
    let own = [changes("/spec"), changes("/metadata/ownerReferences")];
    let others = [
        of_updates("scale", "request.kind.kind != 'Scale'", &scaled),
        of_updates("namespaces", "request.kind.kind != 'Namespace'", &[labels]),
        of_updates(GROUP, &format!("request.kind.group != '{GROUP}'"), &own),
    ];
    kinds.chain(others).collect()
}

/// A Scale is written without a number that is 0.
fn replicas(object: &str) -> String {
    format!("{object}{}.orValue(0)", path("/spec/replicas"))
}

fn of_updates(name: &str, others: &str, changes: &[String]) -> Value {
    let changes = changes.join(" || ");
    json!({
        "name": format!("updates-of-{name}"),
        "expression": format!("request.operation != 'UPDATE' || {others} || {changes}"),
    })
}

/// The expressions of which one holds where an update of an object is judged.
fn changes_of(kind: &WorkloadKind) -> Vec<String> {
    let mut fields: Vec<String> = Vec::new();
    let templates = kind.pod_specs.iter().map(|path| {
        let list = path.iter().position(|step| *step == "*");
        // The metadata of a template counts too, but for a Pod, which is its own template.
        let above = if kind.is_pod() {
            path.len()
        } else {
            path.len() - 1
        };
        let steps = path.iter().take(list.unwrap_or(above));
        steps.map(|step| format!("/{step}")).collect()
    });
    let others = kind.runtime_fields.iter().map(|field| (*field).to_owned());
    let activations = || kind.activations.iter().chain(kind.steering);
    let changed = activations().filter(|activation| of_transition(activation).is_none());
    let changed = changed.map(|activation| activation.field().to_owned());
    let is_part = |field: &str, fields: &[String]| {
        let is_of = |whole: &String| field == *whole || field.starts_with(&format!("{whole}/"));
        fields.iter().any(is_of)
    };
    for field in templates.chain(others).chain(changed) {
        if !is_part(&field, &fields) {
            fields.push(field);
        }
    }
    let transitions = activations().filter(|activation| !is_part(activation.field(), &fields));
    let transitions = transitions.filter_map(of_transition);
    let changed = fields.iter().map(|field| changes(field));
    changed.chain(transitions).collect()
}

/// The expression of an activation that is a certain transition of its field, and not any change of it.
fn of_transition(activation: &Activation) -> Option<String> {
    let held = match activation {
        Activation::FromZero(_) => "orValue(1) == 0",
        Activation::Cleared(_) => "orValue(false) == true",
        Activation::Exceeds(field, limit) => {
            let (field, limit) = (path(field), path(limit));
            return Some(format!(
                "(oldObject{field}.orValue(1) <= object{limit}.orValue(0) && object{field}.orValue(1) > object{limit}.orValue(0))"
            ));
        }
        _ => return None,
    };
    let free = held.replace("==", "!=");
    let path = path(activation.field());
    Some(format!("(oldObject{path}.{held} && object{path}.{free})"))
}

fn changes(field: &str) -> String {
    let path = path(field);
    format!("object{path} != oldObject{path}")
}

/// A JSON pointer as selections that do not fail where a field is absent.
fn path(pointer: &str) -> String {
    let is_name = |step: &str| step.chars().all(|c| c.is_ascii_alphanumeric());
    let steps = pointer.split('/').skip(1);
    steps
        .map(|step| match is_name(step) {
            true => format!(".?{step}"),
            false => format!("[?'{}']", step.replace("~1", "/").replace("~0", "~")),
        })
        .collect()
}

#[cfg(test)]
mod tests;
