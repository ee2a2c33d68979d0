//! One of our resources, as the API server asks about it: the same parse as that of a file, without lines and columns.

use promotion_gate_core::documents::{Document, Problem, read};
use serde_json::Value;

use super::item::{item, schema_of};
use super::kinds::Kind;
use super::{FROM_CLUSTER, RootNames};

/// What is wrong with a resource, one sentence each, in the words of the commands.
pub fn problems_of(object: &Value, roots: &RootNames) -> Vec<String> {
    let (documents, problems) = read(
        &format!("object{FROM_CLUSTER}"),
        object.to_string().as_bytes(),
    );
    let found = documents
        .iter()
        .flat_map(|document| problems_in(document, roots));
    let found = problems.into_iter().chain(found);
    found.map(|problem| without_place(&problem)).collect()
}

fn problems_in(document: &Document, roots: &RootNames) -> Vec<Problem> {
    let kind = match Kind::of(document) {
        Ok(Some(kind)) => kind,
        Ok(None) => return Vec::new(),
        Err(problem) => return vec![problem],
    };
    let read = schema_of(kind).and_then(|schema| item(kind, document, &schema, roots));
    read.and_then(Result::err).unwrap_or_default()
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
