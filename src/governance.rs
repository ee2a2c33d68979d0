//! A change of what the gate decides by: parsed as files are, and logged with what it was before and after.

use std::sync::Arc;

use promotion_gate_core::gate::{
    Digest, GovernanceChange, GovernanceOperation, GovernanceVerdict, GovernedKind,
};
use serde_json::Value;

use crate::api::{self, Kind, RootNames};
use crate::report::Alarms;
use crate::snapshot::Sources;

/// The most bytes of an object that a log line holds. A longer one is named by its digest.
const MAXIMUM_LOGGED: usize = 64 << 10;
/// The most consequences of a deletion that are told.
const MAXIMUM_CONSEQUENCES: usize = 5;

/// What makes an object invalid: alone, in the words of the commands, and together with the other documents in force.
pub async fn problems(change: &GovernanceChange, sources: &Arc<Sources>) -> Vec<String> {
    let is_parsed = change.kind != GovernedKind::Namespace
        && change.operation != GovernanceOperation::Delete
        && change.unreadable.is_none();
    if !is_parsed {
        return Vec::new();
    }
    let (object, name) = (change.after.clone(), change.name.clone());
    let kind = kind_of(change);
    let sources = Arc::clone(sources);
    let parse = move || {
        let roots = RootNames::of(&sources.snapshot().world);
        let alone = api::problems_of(&object, &roots);
        match kind {
            Some(kind) if alone.is_empty() => sources.problems_with(kind, &name, &object),
            _ => alone,
        }
    };
    let parsed = tokio::task::spawn_blocking(parse).await;
    parsed.unwrap_or_else(|_| vec!["the object could not be read: a panic".to_owned()])
}

/// What other documents lack once an object is deleted, one sentence each, at most so many as a person reads.
pub async fn consequences(change: &GovernanceChange, sources: &Arc<Sources>) -> Vec<String> {
    let kind = kind_of(change).filter(|_| change.operation == GovernanceOperation::Delete);
    let Some(kind) = kind else {
        return Vec::new();
    };
    let (name, sources) = (change.name.clone(), Arc::clone(sources));
    let look = move || sources.lacking_without(kind, &name);
    let lacking = tokio::task::spawn_blocking(look).await;
    let lacking = lacking.unwrap_or_default().into_iter();
    let said = lacking.map(|problem| format!("after this deletion: {problem}"));
    said.take(MAXIMUM_CONSEQUENCES).collect()
}

fn kind_of(change: &GovernanceChange) -> Option<Kind> {
    let mut kinds = Kind::ALL.into_iter();
    kinds.find(|kind| kind.name() == change.kind.name())
}

/// Logs one decision about what the gate decides by, and raises an alarm where it becomes looser.
pub fn log(
    verdict: &GovernanceVerdict,
    change: &GovernanceChange,
    revision: &str,
    admitted: bool,
    audit_only: bool,
    alarms: &Alarms,
) {
    let [before, after] = change.contents().map(|content| logged(&content));
    let user = change.actor.username.as_str();
    let (id, object, name) = (&change.id, change.kind.name(), &change.name);
    tracing::info!(
        id,
        kind = "governance",
        object,
        name,
        operation = ?change.operation,
        user,
        user_groups = change.actor.groups.join(","),
        before,
        after,
        revision,
        reason = verdict.reason,
        details = verdict.details.join("; "),
        loosened = verdict.loosened.join("; "),
        decision = verdict.decision.id(),
        admitted,
        audit_only,
        dry_run = change.dry_run,
        "decision"
    );
    if !admitted || change.dry_run {
        return;
    }
    if verdict.reason == "no-governors" {
        tracing::warn!(
            id,
            object,
            name,
            user,
            "what the gate decides by was changed while no governors are configured; set `governors` in the GateConfiguration"
        );
    }
    if !verdict.loosened.is_empty() {
        let loosened = verdict.loosened.join("; ");
        alarms.raise(
            "loosened",
            &format!("what the gate decides by became looser, or may have: `{user}` changed the {object} `{name}` ({loosened}; request `{id}`)"),
        );
    }
}

/// What an object says, as a log line holds it.
fn logged(content: &Value) -> String {
    let text = match content {
        Value::Null => return String::new(),
        content => content.to_string(),
    };
    match text.len() > MAXIMUM_LOGGED {
        true => format!("{} ({} bytes)", Digest::sha256(text.as_bytes()), text.len()),
        false => text,
    }
}
