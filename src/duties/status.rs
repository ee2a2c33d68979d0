//! What the status of a resource says: whether its present `spec` counts, and the last one that did.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::snapshot::{Judged, Version};
use crate::tuf;

/// The most characters of a message.
const MAXIMUM_MESSAGE: usize = 8_000;
/// The condition that says whether the present `spec` counts.
const READY: &str = "Ready";
/// The field with the `spec` that counts while the present one does not.
const LAST_VALID: &str = "lastValidSpec";

/// The status that a resource should have. Fields and conditions that are not about this stay as they are.
pub(crate) fn status(
    judged: &Judged,
    feed: Option<Value>,
    root: Option<Map<String, Value>>,
    now: Timestamp,
) -> Value {
    let resource = &judged.resource;
    let mut status = match &resource.status {
        Value::Object(status) => status.clone(),
        _ => Map::new(),
    };
    status.insert("observedGeneration".to_owned(), json!(resource.generation));
    // Where the present `spec` is the valid one, storing it twice would let a large resource have no status.
    match (judged.version, &judged.last_valid) {
        (Version::Current, _) => drop(status.remove(LAST_VALID)),
        (_, Some(spec)) => drop(status.insert(LAST_VALID.to_owned(), spec.clone())),
        (_, None) => {}
    }
    let conditions = status.get("conditions").and_then(Value::as_array);
    let mut conditions = conditions.cloned().unwrap_or_default();
    let is_ready = |condition: &Value| condition.get("type") == Some(&json!(READY));
    let before = conditions
        .iter()
        .find(|condition| is_ready(condition))
        .cloned();
    conditions.retain(|condition| !is_ready(condition));
    conditions.push(ready(judged, before.as_ref(), now));
    status.insert("conditions".to_owned(), Value::Array(conditions));
    if let Some(feed) = feed {
        status.insert("feed".to_owned(), feed);
    }
    if let Some(root) = root {
        for field in tuf::FIELDS {
            status.remove(field);
        }
        status.extend(root);
    }
    Value::Object(status)
}

/// The condition. Its time is that of the last change between true and false.
fn ready(judged: &Judged, before: Option<&Value>, now: Timestamp) -> Value {
    let (is_ready, reason, message) = match judged.version {
        Version::Current => ("True", "Valid", "it is in force".to_owned()),
        Version::LastValid => {
            let message = format!(
                "the last valid version is in force: {}",
                judged.why.join("; ")
            );
            ("False", "Invalid", message)
        }
        Version::Unreadable => {
            let message = format!("no valid version is known: {}", judged.why.join("; "));
            ("False", "Unreadable", message)
        }
    };
    let message: String = message.chars().take(MAXIMUM_MESSAGE).collect();
    let same = before.filter(|before| before.get("status") == Some(&json!(is_ready)));
    let since = same
        .and_then(|same| same.get("lastTransitionTime"))
        .cloned();
    json!({
        "type": READY,
        "status": is_ready,
        "reason": reason,
        "message": message,
        "observedGeneration": judged.resource.generation,
        "lastTransitionTime": since.unwrap_or_else(|| json!(format!("{now:.0}"))),
    })
}
