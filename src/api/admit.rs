//! One of our resources, as the API server asks about it: the same parse as that of a file, without lines and columns.

use promotion_gate_core::documents::{Document, Problem, read};
use promotion_gate_core::gate::TrustRoots;
use serde_json::Value;

use super::item::{item, schema_of};
use super::kinds::Kind;
use super::trust_root::RootNames;

/// The trust roots that every configuration has.
const BUILT_IN: [&str; 2] = ["sigstore", "github"];

/// What is wrong with a resource, one sentence each, in the words of the commands. `roots` are the trust roots that count now, those
/// of resources too.
pub fn problems_of(object: &Value, roots: &TrustRoots) -> Vec<String> {
    let (documents, problems) = read("object.json", object.to_string().as_bytes());
    let mut names = RootNames::new(&BUILT_IN.map(str::to_owned));
    roots.keys().for_each(|name| names.declare(name));
    let found = documents.iter().flat_map(|it| problems_in(it, &names));
    let found = problems.into_iter().chain(found);
    found.map(|problem| without_place(&problem)).collect()
}

fn problems_in(document: &Document, roots: &RootNames) -> Vec<Problem> {
    let read = match Kind::of(document) {
        Ok(Some(kind)) => schema_of(kind).and_then(|schema| item(kind, document, &schema, roots)),
        Ok(None) => None,
        Err(problem) => return vec![problem],
    };
    match read {
        Some(read) => read.err().unwrap_or_default(),
        None => vec![document.problem(Default::default(), "this kind is not a resource")],
    }
}

fn without_place(problem: &Problem) -> String {
    let mut text = problem.message.clone();
    if !problem.path.steps().is_empty() {
        text = format!("{}: {text}", problem.path);
    }
    match &problem.suggestion {
        Some(suggestion) => format!("{text}, did you mean `{suggestion}`?"),
        None => text,
    }
}
