//! Reading of this project's own predicates: strict, with bounded texts.

use serde::de::DeserializeOwned;

use crate::attest::unaccepted::{MALFORMED_PREDICATE, UnacceptedReason};

/// The longest text of a predicate, in bytes.
const MAXIMUM_TEXT: usize = 4096;

/// The fields of a predicate; `what` is its noun with an article.
pub(super) fn read<T: DeserializeOwned>(text: &str, what: &str) -> Result<T, UnacceptedReason> {
    serde_json::from_str(text).map_err(|error| malformed(what, error.to_string()))
}

pub(super) fn malformed(what: &str, why: String) -> UnacceptedReason {
    UnacceptedReason::new(
        MALFORMED_PREDICATE,
        format!("the predicate is not {what}: {why}"),
    )
}

/// Refuses a text that is empty, too long, or that contains control characters.
pub(super) fn bounded(field: &str, text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err(format!("`{field}` is empty"));
    }
    if text.len() > MAXIMUM_TEXT {
        return Err(format!("`{field}` is longer than {MAXIMUM_TEXT} bytes"));
    }
    let is_odd = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    if text.contains(is_odd) {
        return Err(format!("`{field}` contains a control character"));
    }
    Ok(())
}
