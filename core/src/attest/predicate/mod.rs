//! What a verified statement says, by the type of its predicate: one file per type, its versions folded into one Rust type.

use serde_json::value::RawValue;

use super::unaccepted::Unaccepted;

/// A predicate, read where this version knows its type.
#[derive(Clone, Debug)]
pub enum Predicate {
    /// A predicate of another type, as it is written; `None` where the statement has none.
    Other(Option<Box<RawValue>>),
}

impl Predicate {
    pub(super) fn read(
        _predicate_type: &str,
        predicate: Option<&RawValue>,
    ) -> Result<Predicate, Unaccepted> {
        Ok(Predicate::Other(predicate.map(ToOwned::to_owned)))
    }
}
