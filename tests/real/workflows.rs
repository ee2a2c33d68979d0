//! The workflow of releases and the action, by real actionlint.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::support::{Ran, command, run};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const ACTION: &str = "deploy/github-action";

#[test]
fn actionlint_finds_nothing_in_the_workflow_of_releases() {
    let repository = Repository::new();
    let workflow = Path::new(ROOT).join(".github/workflows/release.yml");
    let workflow = fs::read_to_string(workflow).unwrap();
    repository.lint(&workflow).ok();
    let broken = workflow.replacen("${{ github.", "${{ gihtub.", 1);
    assert_ne!(broken, workflow);
    repository.lint(&broken).refused();
}

#[test]
fn actionlint_finds_nothing_in_the_steps_with_the_action_that_the_pages_show() {
    let repository = Repository::new();
    let workflow = workflow_of(&documented_steps());
    repository.lint(&workflow).ok();
    let without_a_pin = workflow.replacen("sha256: ", "sha265: ", 1);
    assert_ne!(without_a_pin, workflow);
    repository.lint(&without_a_pin).refused();
}

/// The steps of `docs/wait.md`, with the action of this repository.
fn documented_steps() -> String {
    let page = fs::read_to_string(Path::new(ROOT).join("docs/wait.md")).unwrap();
    let mut blocks = page.split("```yaml\n").skip(1);
    let block = blocks.find(|block| block.starts_with("# GitHub")).unwrap();
    let block = block.split("```").next().unwrap();
    let pinned =
        format!("example/promotion-gate/{ACTION}@0123456789abcdef0123456789abcdef01234567");
    assert_eq!(block.matches(&pinned).count(), 3, "{block}");
    block.replace(&pinned, &format!("./{ACTION}"))
}

fn workflow_of(steps: &str) -> String {
    let steps = steps.lines().map(|line| format!("    {line}\n"));
    let steps: String = steps.collect();
    format!("on: push\njobs:\n  gate:\n    runs-on: ubuntu-latest\n    steps:\n{steps}")
}

/// A repository with the action and one workflow.
struct Repository(TempDir);

impl Repository {
    fn new() -> Repository {
        let folder = tempfile::tempdir().unwrap();
        for made in [".git", ".github/workflows", ACTION] {
            fs::create_dir_all(folder.path().join(made)).unwrap();
        }
        let action = format!("{ACTION}/action.yml");
        fs::copy(Path::new(ROOT).join(&action), folder.path().join(&action)).unwrap();
        Repository(folder)
    }

    fn lint(&self, workflow: &str) -> Ran {
        let file = self.0.path().join(".github/workflows/workflow.yml");
        fs::write(file, workflow).unwrap();
        let mut lint = command("actionlint", self.0.path());
        run(lint.args(["-shellcheck=", "-pyflakes="]), b"")
    }
}
