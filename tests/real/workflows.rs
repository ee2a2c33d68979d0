//! The workflow of releases and the action, by real actionlint.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
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

#[test]
fn an_sbom_without_the_crates_of_the_program_is_not_released() {
    // The runners of GitHub have it.
    if !Path::new("/usr/bin/jq").exists() {
        return;
    }
    let workflow = fs::read_to_string(Path::new(ROOT).join(".github/workflows/release.yml"));
    let workflow: Value = serde_saphyr::from_str(&workflow.unwrap()).unwrap();
    let steps = workflow["jobs"]["publish"]["steps"].as_array().unwrap();
    let position = |name: &str| steps.iter().position(|it| it["name"] == name).unwrap();
    let made = position("Make the SBOM of each platform");
    assert!(made < position("Push the image"));
    let script = steps[made]["run"].as_str().unwrap();

    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    };
    write("tar", "#!/bin/sh\n");
    // The file that the last argument names.
    write(
        "syft",
        "#!/bin/sh\nfor last; do :; done\ncp made \"${last#*=}\"\n",
    );
    let path = std::env::var("PATH").unwrap();
    let package = |purl: String| json!({"externalRefs": [{"referenceLocator": purl}]});
    let crates = |count: usize| (0..count).map(move |at| format!("pkg:cargo/c{at}@1.0.0"));
    let twice = || (0..200).map(|_| "pkg:cargo/c@1.0.0".to_owned());
    let generic = || (0..200).map(|at| format!("pkg:generic/c{at}@1.0.0"));
    for (purls, is_released) in [
        (crates(100).collect::<Vec<_>>(), true),
        (crates(99).chain(generic()).collect(), false),
        (twice().collect(), false),
        (Vec::new(), false),
    ] {
        let mut packages: Vec<_> = purls.into_iter().map(package).collect();
        // The package of the image has none.
        packages.push(json!({"name": "promotion-gate"}));
        write("made", &json!({"packages": packages}).to_string());
        let ran = Command::new("bash")
            .args(["--noprofile", "--norc", "-e", "-c", script])
            .current_dir(folder.path())
            .env("PATH", format!("{}:{path}", folder.path().display()))
            .env("IMAGE", "ghcr.io/example/promotion-gate")
            .env("GITHUB_REF_NAME", "v0.1.0")
            .output()
            .unwrap();
        let said = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.success(), is_released, "{said}");
        assert_eq!(said.contains("crates"), !is_released, "{said}");
    }
}

#[test]
fn cosign_has_the_options_that_the_page_gives_it_in_another_ci() {
    let page = fs::read_to_string(Path::new(ROOT).join("docs/vulnerabilities.md")).unwrap();
    let mut blocks = page.split("```sh\n").skip(1);
    let block = blocks.find(|block| block.starts_with("# Another CI"));
    let block = block.unwrap().split("```").next().unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut signed_with = Vec::new();
    for line in block.lines() {
        let Some(call) = line.trim_start().strip_prefix("cosign ") else {
            continue;
        };
        let mut words = call.split_whitespace();
        let subcommand = words.next().unwrap();
        let mut cosign = command("cosign3", home.path());
        let help = run(cosign.args([subcommand, "--help"]), b"").ok();
        for option in words.filter(|word| word.starts_with("--")) {
            assert!(help.contains(&format!(" {option}=")), "{line}: {option}");
            if ["--key", "--identity-token"].contains(&option) {
                signed_with.push(option);
            }
        }
    }
    assert_eq!(signed_with, ["--identity-token", "--key"]);
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
