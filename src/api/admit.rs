//! One of our resources, as the API server asks about it: the same parse as that of a file, without lines and columns.

use promotion_gate_core::documents::{Document, Problem, read};
use promotion_gate_core::gate::TrustRoots;
use serde_json::Value;

use super::freeze::{freeze_schema, read_freeze};
use super::kinds::Kind;
use super::load::{read_policy, schema};
use super::people::{Directories, people_schema};

/// What is wrong with a resource, one sentence each, in the words of the commands.
pub fn problems_of(object: &Value, roots: &TrustRoots) -> Vec<String> {
    let (documents, problems) = read("object.json", object.to_string().as_bytes());
    let found = documents
        .iter()
        .flat_map(|document| problems_in(document, roots));
    let found = problems.into_iter().chain(found);
    found.map(|problem| without_place(&problem)).collect()
}

fn problems_in(document: &Document, roots: &TrustRoots) -> Vec<Problem> {
    let read = match Kind::of(document) {
        Ok(Some(Kind::PromotionPolicy)) => read_policy(document, &schema(), roots).map(drop),
        Ok(Some(Kind::PeopleDirectory)) => {
            let document = document.clone();
            Directories::default()
                .add(document, &people_schema())
                .map(drop)
        }
        Ok(Some(Kind::ChangeFreeze)) => read_freeze(document, &freeze_schema()).map(drop),
        Ok(_) => Ok(()),
        Err(problem) => Err(vec![problem]),
    };
    read.err().unwrap_or_default()
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
