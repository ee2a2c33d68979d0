//! Decodes a document into its type. The types report errors that a schema cannot express (an invalid key, an invalid pattern);
//! the path of the decoded value is tracked, so that such an error has a place.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

use super::{Document, Path, Problem, Step, check};

/// An error in a value, with the path below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The path below the value.
    pub path: Path,
    /// The error, as a sentence.
    pub message: String,
}

/// Checks a document against the schema of its type, and decodes it.
///
/// # Errors
/// All problems that the schema finds; without any, the first error of the type.
pub fn decode<T: DeserializeOwned + JsonSchema>(document: &Document) -> Result<T, Vec<Problem>> {
    let problems = check(document, &schemars::schema_for!(T));
    if !problems.is_empty() {
        return Err(problems);
    }
    decode_value(&document.value).map_err(|fault| vec![document.problem(fault.path, fault.message)])
}

/// Decodes a value, without checking it against a schema.
///
/// # Errors
/// The first error of the type.
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
