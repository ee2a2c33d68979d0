//! A change of what the gate decides by: parsed as files are, and logged with what it was before and after.

use std::sync::Arc;

use promotion_gate_core::gate::{
    Digest, GovernanceChange, GovernanceOperation, GovernanceVerdict, GovernedKind,
};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use crate::api::{self, Kind, RootNames};
use crate::report::Alarms;
use crate::snapshot::Sources;

/// The most bytes of an object that a log line holds. A longer one is named by its digest.
const MAXIMUM_LOGGED: usize = 64 << 10;
/// The most consequences of a deletion that a warning names.
const MAXIMUM_CONSEQUENCES: usize = 5;

/// How documents are read for requests of governors: few at a time, and not past a deadline.
pub struct Reading<'a> {
    /// The documents in force.
    pub sources: &'a Arc<Sources>,
    /// Room for those that are read.
    pub room: &'a Arc<Semaphore>,
    /// When the answer is due.
    pub deadline: Instant,
}

impl Reading<'_> {
    /// What some work on the documents gives.
    ///
    /// # Errors
    /// Why it gives nothing.
    async fn of<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Sources) -> T + Send + 'static,
    ) -> Result<T, &'static str> {
        let (sources, room) = (Arc::clone(self.sources), Arc::clone(self.room));
        let read = async {
            let place = room.acquire_owned().await;
            spawn_blocking(move || {
                // The place is released when the work is done, also after its requester gave up.
                let _place = place;
                work(&sources)
            })
            .await
        };
        match timeout_at(self.deadline, read).await {
            Ok(read) => read.map_err(|_| "the object could not be read: a panic"),
            Err(_) => Err(
                "the object could not be read in time, together with the other documents: try again",
            ),
        }
    }
}

/// What makes an object invalid: alone, in the words of the commands, and together with the other documents in force. What was not
/// read by the deadline is not known to be valid.
pub async fn problems(change: &GovernanceChange, reading: &Reading<'_>) -> Vec<String> {
    let is_parsed = change.kind != GovernedKind::Namespace
        && change.operation != GovernanceOperation::Delete
        && change.unreadable.is_none();
    if !is_parsed {
        return Vec::new();
    }
    let (object, name) = (change.after.clone(), change.name.clone());
    let kind = kind_of(change);
    let parse = move |sources: &Sources| {
        let roots = RootNames::of(&sources.snapshot().world);
        let alone = api::problems_of(&object, &roots);
        match kind {
            Some(kind) if alone.is_empty() => sources.problems_with(kind, &name, &object),
            _ => alone,
        }
    };
    let parsed = reading.of(parse).await;
    parsed.unwrap_or_else(|why| vec![why.to_owned()])
}

/// What other documents lack once an object is deleted, one sentence each, at most so many as a person reads.
pub async fn consequences(change: &GovernanceChange, reading: &Reading<'_>) -> Vec<String> {
    let kind = kind_of(change).filter(|_| change.operation == GovernanceOperation::Delete);
    let Some(kind) = kind else {
        return Vec::new();
    };
    let name = change.name.clone();
    let look = move |sources: &Sources| sources.lacking_without(kind, &name);
    // A deletion does not wait for what it only warns of.
    let lacking = reading.of(look).await.unwrap_or_default().into_iter();
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use promotion_gate_core::gate::Actor;
    use serde_json::json;

    use super::*;
    use crate::collect::{CacheSizes, CollectLimits, Collector};
    use crate::config::Config;
    use crate::metrics::Metrics;
    use crate::oci::Client;
    use crate::snapshot::SnapshotFiles;

    #[tokio::test(start_paused = true)]
    async fn a_document_that_finds_no_room_to_be_read_in_time_is_not_stored() {
        let config = Config::load(None).unwrap();
        let client = Arc::new(Client::new(config.client_options()).unwrap());
        let (limits, sizes) = (CollectLimits::default(), CacheSizes::default());
        let collector = Arc::new(Collector::new(client, limits, sizes));
        let files = SnapshotFiles {
            policies: Vec::new(),
            config,
        };
        let sources = Sources::load(files, None, collector, &Metrics::new());
        let change = GovernanceChange {
            id: "1".to_owned(),
            operation: GovernanceOperation::Create,
            kind: GovernedKind::PromotionPolicy,
            name: "a".to_owned(),
            before: Value::Null,
            after: json!({}),
            actor: Actor {
                username: "alice".to_owned(),
                groups: Vec::new(),
            },
            dry_run: false,
            unreadable: None,
        };
        let (room, began) = (Arc::new(Semaphore::new(0)), Instant::now());
        let reading = Reading {
            sources: &sources,
            room: &room,
            deadline: began + Duration::from_secs(8),
        };
        assert!(problems(&change, &reading).await[0].contains("in time"));
        assert_eq!(began.elapsed(), Duration::from_secs(8));
    }
}
