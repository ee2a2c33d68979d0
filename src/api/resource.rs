//! One of our resources as a document: its metadata, the check against the schema, and the conversion of its `spec`.

use promotion_gate_core::documents::{Document, Fault, Path, Problem, Step, check, decode_value};
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A whole document.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "`apiVersion` and `kind` are checked before, and stand here for the schema"
)]
pub(super) struct Resource<S> {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: S,
}

/// Kubernetes' metadata. No decision depends on any field of it other than `name`.
#[derive(Deserialize, JsonSchema)]
struct Metadata {
    name: String,
}

/// Reads one of our resources: its name, and what its `spec` converts into.
///
/// # Errors
/// All problems that the schema finds, put into other words by `explain`, and all faults that the conversion finds elsewhere.
pub(super) fn read_resource<S: DeserializeOwned, T>(
    document: &Document,
    schema: &Schema,
    explain: impl Fn(Problem) -> Problem,
    convert: impl FnOnce(&str, &S) -> Result<T, Vec<Fault>>,
) -> Result<(String, T), Vec<Problem>> {
    let mut problems: Vec<_> = check(document, schema).into_iter().map(explain).collect();
    let mut sound = document.value.clone();
    for problem in &problems {
        remove(&mut sound, &problem.path);
    }
    match decode_value::<Resource<S>>(&sound) {
        Ok(Resource {
            metadata: Metadata { name },
            spec,
            ..
        }) => {
            let mut faults = Vec::new();
            if let Some(message) = refuse_name(&name) {
                faults.push(Fault {
                    path: Path::default().key("metadata").key("name"),
                    message,
                });
            }
            let below = Path::default().key("spec");
            match convert(&name, &spec) {
                Ok(read) if faults.is_empty() && problems.is_empty() => return Ok((name, read)),
                Ok(_) => {}
                Err(more) => faults.extend(more.into_iter().map(|Fault { path, message }| Fault {
                    path: below.join(&path),
                    message,
                })),
            }
            let new = |fault: &Fault| {
                !problems
                    .iter()
                    .any(|problem| related(&problem.path, &fault.path))
            };
            let more: Vec<_> = faults.into_iter().filter(new).collect();
            problems.extend(
                more.into_iter()
                    .map(|Fault { path, message }| document.problem(path, message)),
            );
        }
        // If the schema does not allow the document, that is reported already, and this error is a consequence of it.
        Err(Fault { path, message }) if problems.is_empty() => {
            problems.push(document.problem(path, message))
        }
        Err(_) => {}
    }
    Err(problems)
}

/// A DNS subdomain name, as Kubernetes asks for.
fn refuse_name(name: &str) -> Option<String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let good = !name.is_empty()
        && name.len() <= 253
        && name.chars().all(fits)
        && name.starts_with(ends)
        && name.ends_with(ends);
    let message =
        || format!("`{name:.80}` is not a name: expected lower-case letters, digits, `-` and `.`");
    (!good).then(message)
}

/// Removes a part that has a problem, so that the rest can be checked.
fn remove(value: &mut Value, path: &Path) {
    let Some((Step::Key(key), outside)) = path.steps().split_last() else {
        return;
    };
    let container = outside.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get_mut(key),
        Step::Index(index) => value.get_mut(index),
    });
    if let Some(Value::Object(entries)) = container {
        entries.remove(key);
    }
}

/// Whether one path is a prefix of the other.
fn related(one: &Path, other: &Path) -> bool {
    one.steps()
        .iter()
        .zip(other.steps())
        .all(|(one, other)| one == other)
}
