//! The commands that messages about emergency changes name, complete, as a shell takes them. `ID`, `TEXT` and `VERDICT` stand for what
//! the person says.

use std::collections::BTreeSet;

use super::debt::OverdueReview;
use super::decide::Denied;
use crate::gate::image::Digest;
use crate::gate::rules::command_line;
use crate::gate::world::World;

/// The command that declares an emergency change for every image that needs one.
pub(super) fn declare(denied: &Denied<'_>) -> Option<String> {
    of_images(denied, "declare", &["--incident", "ID", "--reason", "TEXT"])
}

/// The command that agrees to a declaration.
pub(super) fn agree(denied: &Denied<'_>, declaration: &Digest) -> Option<String> {
    of_images(
        denied,
        "approve",
        &["--declaration", &declaration.to_string()],
    )
}

/// The command that reviews an emergency change.
pub(super) fn review(overdue: &OverdueReview, environment: &str, world: &World) -> String {
    let declaration = overdue.declaration.to_string();
    let said = ["--verdict", "VERDICT", "--reason", "TEXT"];
    let about = ["--environment", environment, "--declaration", &declaration];
    let first = ["promotion-gate", "emergency", "review", &overdue.image];
    let arguments = world.approve_arguments.iter().map(String::as_str);
    let words = first.into_iter().chain(about).chain(said);
    command_line(words.chain(arguments))
}

fn of_images(denied: &Denied<'_>, verb: &str, said: &[&str]) -> Option<String> {
    let mut words = ["promotion-gate", "emergency", verb]
        .map(str::to_owned)
        .to_vec();
    // The command is the same whatever the order of the images is.
    let (mut names, mut second) = (BTreeSet::new(), BTreeSet::new());
    for (check, _) in &denied.images {
        // An image without a known digest cannot be named.
        check.subject?;
        names.insert(check.name());
        let evidence = check.evidence.value();
        second.extend(evidence.and_then(|evidence| evidence.second_repository.as_ref()));
    }
    words.extend(names);
    let mut add = |name: &str, value: &str| words.extend([name.to_owned(), value.to_owned()]);
    let environment = denied.policy.environment.as_deref();
    add("--environment", environment.unwrap_or_default());
    if let Some(namespace) = &denied.promotion.change.workload.namespace {
        add("--namespace", namespace);
    }
    words.extend(said.iter().map(|word| (*word).to_owned()));
    if let Some(repository) = second.first() {
        words.extend(["--repository".to_owned(), repository.name().to_owned()]);
    }
    words.extend_from_slice(&denied.world.approve_arguments);
    (!denied.images.is_empty()).then(|| command_line(words.iter().map(String::as_str)))
}
