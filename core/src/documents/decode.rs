//! A document → its type. What the schema cannot say (a key that does not parse, a pattern that is none) is said by the
//! types themselves while they are decoded; the path of what was being decoded is followed, so that it has its place.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

use super::{Document, Path, Problem, Step, check};

/// What is wrong with a value, and at which path below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The path below the value.
    pub path: Path,
    /// What is wrong.
    pub message: String,
}

/// Decodes a document that its type's schema allows.
///
/// # Errors
/// Everything that the schema does not allow; or the first thing that the type itself refuses.
pub fn decode<T: DeserializeOwned + JsonSchema>(document: &Document) -> Result<T, Vec<Problem>> {
    let problems = check(document, &schemars::schema_for!(T));
    if !problems.is_empty() {
        return Err(problems);
    }
    decode_value(&document.value).map_err(|fault| vec![document.problem(fault.path, fault.message)])
}

/// Decodes a value.
///
/// # Errors
/// The first thing that the type refuses.
pub fn decode_value<T: DeserializeOwned>(value: &Value) -> Result<T, Fault> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let step = |segment: &Segment| match segment {
            Segment::Seq { index } => Some(Step::Index(*index)),
            Segment::Map { key } | Segment::Enum { variant: key } => Some(Step::Key(key.clone())),
            Segment::Unknown => None,
        };
        Fault {
            path: error.path().iter().filter_map(step).collect(),
            message: error.into_inner().to_string(),
        }
    })
}
