//! The pages that are made from the program itself say what it says.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use promotion_gate::api;
use promotion_gate::sandbox::TlsIdentity;

use crate::cli::{Bench, deployment, run};
use crate::facts::FACTS;

#[test]
fn the_reference_pages_are_as_the_program_prints_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (page, args) in [
        ("docs/rules.md", &["explain", "--output", "markdown"][..]),
        (
            "docs/promotion-policy.md",
            &["schema", "PromotionPolicy", "--output", "markdown"],
        ),
        (
            "docs/people-directory.md",
            &["schema", "PeopleDirectory", "--output", "markdown"],
        ),
        (
            "docs/change-freeze.md",
            &["schema", "ChangeFreeze", "--output", "markdown"],
        ),
        (
            "docs/incident-check.md",
            &["schema", "IncidentCheck", "--output", "markdown"],
        ),
        (
            "docs/trust-root.md",
            &["schema", "TrustRoot", "--output", "markdown"],
        ),
        (
            "docs/revocation.md",
            &["schema", "Revocation", "--output", "markdown"],
        ),
        (
            "docs/rejection.md",
            &["schema", "Rejection", "--output", "markdown"],
        ),
        (
            "docs/author-record.md",
            &["schema", "AuthorRecord", "--output", "markdown"],
        ),
        (
            "docs/vex-record.md",
            &["schema", "VexRecord", "--output", "markdown"],
        ),
        (
            "docs/emergency-change-record.md",
            &["schema", "EmergencyChangeRecord", "--output", "markdown"],
        ),
        (
            "docs/gate-configuration.md",
            &["schema", "GateConfiguration", "--output", "markdown"],
        ),
    ] {
        let ran = run(root, args, "");
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let written = std::fs::read_to_string(root.join(page)).unwrap_or_default();
        assert!(
            written == ran.stdout,
            "{page} is stale: promotion-gate {} > {page}",
            args.join(" ")
        );
    }
}

/// Every page that people read.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["", "docs", "policies", "deploy", "certs"].map(|folder| root.join(folder));
    let files = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap());
    let pages = files.map(|file| file.unwrap().path());
    let is_page = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md");
    pages.filter(is_page).collect()
}

#[test]
fn the_files_and_tests_that_a_page_names_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let is_source = |word: &str| {
        let mut folders = ["src/", "core/src/", "tests/"].iter();
        folders.any(|folder| word.starts_with(folder))
            && word.ends_with(".rs")
            && !word.contains('<')
    };
    let is_test = |word: &str| {
        word.matches('_').count() > 2 && word.chars().all(|c| c == '_' || c.is_ascii_lowercase())
    };
    let mut tests = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for line in text.lines() {
            let mut source = None;
            for word in line.split('`').skip(1).step_by(2) {
                if is_source(word) {
                    let read = fs::read_to_string(root.join(word));
                    source = Some(read.unwrap_or_else(|_| panic!("{}: {line}", page.display())));
                } else if let Some(source) = source.as_ref().filter(|_| is_test(word)) {
                    let name = format!("fn {word}(");
                    assert!(source.contains(&name), "{}: {line}", page.display());
                    tests += 1;
                }
            }
        }
    }
    assert!(tests >= 15, "{tests}");
}

#[test]
fn the_policy_that_the_readme_explains_can_be_used() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let explained = readme.split("## A policy, explained").nth(1).unwrap();
    let policy = explained.split("```").nth(1).unwrap();
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("policy.yaml");
    fs::write(file, policy.strip_prefix("yaml").unwrap()).unwrap();
    let pod = deployment("prod-shop", "docker.io/library/nginx:1");
    let ran = run(
        folder.path(),
        &["check", "--policy", "policy.yaml", "-"],
        &pod,
    );
    assert_eq!(ran.code, 2, "{}{}", ran.stdout, ran.stderr);
    assert!(
        ran.stdout.contains("policy `production` denies it"),
        "{}",
        ran.stdout
    );
}

/// The requirements of a policy that a page shows: the blocks that begin with them, or with an entry to add to `digestPinned`.
fn requirements_of(page: &str) -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = fs::read_to_string(page).unwrap();
    let blocks = text.split("```yaml\n").skip(1);
    let blocks = blocks.filter_map(|rest| rest.split("```").next());
    let policies = blocks.filter_map(|block| match block.trim_start() {
        it if it.starts_with("requirements:") => Some(block.to_owned()),
        it if it.starts_with("- ") => {
            Some(format!("  requirements:\n  - digestPinned: {{}}\n{block}"))
        }
        _ => None,
    });
    policies.collect()
}

#[test]
fn the_policies_of_the_pages_about_evidence_can_be_used() {
    for (page, entries) in [
        ("docs/vulnerabilities.md", &[3_usize][..]),
        ("docs/promotion-chain.md", &[2]),
    ] {
        let mut found = Vec::new();
        for requirements in requirements_of(page) {
            let policy = format!(
                "apiVersion: promotion-gate.dev/v1alpha1\nkind: PromotionPolicy\nmetadata: {{name: page}}\nspec:\n{requirements}"
            );
            let source = (page.to_owned(), policy.into_bytes());
            let set = api::load(&[source], &FACTS.trust_roots());
            assert!(set.problems.is_empty(), "{:?}", set.problems);
            found.extend(set.policies.iter().map(|it| it.requirements.len()));
        }
        assert_eq!(found, entries, "{page}");
    }
}

#[test]
fn the_page_about_approvals_explains_every_reason_and_quotes_the_denials() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/approvals.md")).unwrap();
    let rules = fs::read_to_string(root.join("docs/rules.md")).unwrap();
    let rule = rules.split("\n## ").find(|it| it.starts_with("approvals"));
    let reasons = rule.unwrap().lines().filter(|line| line.starts_with("| `"));
    // The reasons of all rules about evidence begin with `image-unavailable`.
    let ids = reasons.filter_map(|line| line.split('`').nth(1));
    let own: Vec<_> = ids.take_while(|id| *id != "image-unavailable").collect();
    assert!(own.contains(&"author-unknown"), "{own:?}");
    for id in own.into_iter().filter(|id| *id != "approved") {
        assert!(
            page.contains(&format!("| `{id}`")) || page.contains(&format!(", `{id}` |")),
            "{id}"
        );
    }
    let rules = root.join("core/src/gate/rules");
    let sources = [
        "check.rs",
        "../evidence.rs",
        "approvals/mod.rs",
        "approvals/judgement.rs",
        "approvals/place.rs",
        "approvals/vote.rs",
        "approvals/seating.rs",
        "approvals/votes.rs",
        "approvals/authors.rs",
    ];
    let sources = sources.map(|file| fs::read_to_string(rules.join(file)).unwrap());
    let table = page.split("| The denial says |").nth(1).unwrap();
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let mut quoted = 0;
    for cell in rows.filter_map(|row| row.split('|').nth(1)) {
        for quote in cell.split('`').skip(1).step_by(2) {
            for part in quote.split('…').map(str::trim) {
                assert!(sources.iter().any(|source| source.contains(part)), "{part}");
            }
            quoted += 1;
        }
    }
    assert!(quoted >= 15, "{quoted}");
}

#[test]
fn the_page_for_people_on_call_fits_on_a_page_and_explains_every_reason_of_emergency_changes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/emergency.md")).unwrap();
    assert!(page.lines().count() <= 50, "it is longer than a page");
    let rules = fs::read_to_string(root.join("docs/rules.md")).unwrap();
    let ids = |text: &str, row: &str| {
        let rows = text.lines().filter(|line| line.starts_with(row));
        let ids = rows.flat_map(|line| line.split('|').nth(1).unwrap_or_default().split('`'));
        let ids = ids.filter(|id| id.starts_with("emergency-"));
        ids.map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let of_program = ids(&rules, "| `emergency-");
    assert!(of_program.len() > 10, "{of_program:?}");
    assert_eq!(ids(&page, "| `emergency-"), of_program);
}

/// The lines of the code blocks of a page.
fn shown(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).unwrap().replace("\\\n", "");
    let mut blocks = text.split("```").enumerate();
    let blocks = blocks.by_ref().filter(|(at, _)| at % 2 == 1);
    let lines = blocks.flat_map(|(_, block)| block.lines().skip(1));
    lines.map(|line| line.trim().to_owned()).collect()
}

/// A folder in which the pages' commands find what they speak of: policies, people, manifests, a configuration, a certificate, an
/// image, and the tools that render manifests.
struct Stage {
    bench: Bench,
}

impl Stage {
    async fn new() -> Stage {
        let bench = Bench::new().await;
        let folder = bench.folder.path();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let policies = root.join("policies");
        let copied = Command::new("cp")
            .arg("-R")
            .args([policies.as_path(), folder])
            .status();
        assert!(copied.unwrap().success());
        let people = fs::read_to_string(root.join("docs/people.md")).unwrap();
        let example = people.split("```yaml\n").nth(1).unwrap();
        bench.write("people.yaml", example.split("```").next().unwrap());
        let manifest = deployment(
            "prod-payments",
            &format!("{}/app:signed", bench.registry.host()),
        );
        fs::create_dir(folder.join("deploy")).unwrap();
        bench.write("deploy/web.yaml", &manifest);
        bench.write("deployment.yaml", &manifest);
        let tls = TlsIdentity::create().unwrap();
        bench.write("tls.crt", &tls.certificate_pem);
        bench.write("tls.key", &tls.key_pem);
        fs::create_dir(folder.join("bin")).unwrap();
        for renderer in ["helm", "kustomize"] {
            bench.write(
                &format!("bin/{renderer}"),
                "#!/bin/sh\ncat deployment.yaml\n",
            );
            let file = folder.join("bin").join(renderer);
            fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let program = env!("CARGO_BIN_EXE_promotion-gate");
        symlink(program, folder.join("bin/promotion-gate")).unwrap();
        Stage { bench }
    }

    fn shell(&self, line: &str) -> Command {
        let folder = self.bench.folder.path();
        let path = format!(
            "{}:{}",
            folder.join("bin").display(),
            std::env::var("PATH").unwrap()
        );
        let mut shell = Command::new("sh");
        shell
            .args(["-c", line])
            .current_dir(folder)
            .env("PATH", path);
        shell
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        shell
    }

    /// Runs a line to its end.
    fn ends(&self, line: &str) -> (i32, String) {
        let output = self.shell(line).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap(),
            String::from_utf8(said).unwrap(),
        )
    }

    /// Runs a line that goes on for ever, until it says something with `expected` in it.
    fn goes_on(&self, line: &str, expected: &str) {
        let mut child = self.shell(&format!("exec {line} 2>&1")).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let (tell, hear) = mpsc::channel();
        let expecting = expected.to_owned();
        std::thread::spawn(move || {
            let mut lines = said.lines().map_while(Result::ok);
            let _ = tell.send(lines.any(|line| line.contains(&expecting)));
        });
        let found = hear.recv_timeout(Duration::from_secs(60));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, Ok(true), "`{line}` never says {expected}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_that_the_pages_show_do_what_the_pages_say() {
    let stage = Stage::new().await;
    let image = stage.bench.image(&stage.bench.signed);
    let mut ran = 0;
    for page in pages() {
        for shown in shown(&page) {
            let shown = shown.strip_prefix("- run: ").unwrap_or(&shown);
            if !(shown.starts_with("promotion-gate ") || shown.contains("| promotion-gate ")) {
                continue;
            }
            // `approve` runs these: they need services that sign.
            if shown.starts_with("promotion-gate approve ") {
                continue;
            }
            // They need a cluster: `tests/real` runs them.
            let of_a_cluster = [
                "promotion-gate scan ",
                "promotion-gate record ",
                "promotion-gate doctor",
            ];
            let is_of_a_cluster = of_a_cluster.iter().any(|it| shown.starts_with(it));
            if is_of_a_cluster || shown.contains(" --from-cluster ") {
                continue;
            }
            ran += 1;
            let line = shown.replace("registry.example/app@sha256:1f80…", &image);
            if line.starts_with("promotion-gate serve ") {
                let free = "--address 127.0.0.1:0 --probe-address 127.0.0.1:0";
                stage.goes_on(&format!("{line} {free}"), "\"serving\"");
                continue;
            }
            if line.contains(" --watch ") {
                stage.goes_on(&line, "pass");
                continue;
            }
            let (code, said) = stage.ends(&line);
            // The policies that the pages show accept nothing of a registry on loopback.
            let calls = |command: &str| line.contains(&format!("promotion-gate {command} "));
            let expected = match () {
                () if calls("check") || calls("wait") => 2,
                // The registry of an image that is refused by its name is not asked for approvals.
                () if calls("approvals") => 3,
                () => 0,
            };
            assert_eq!(code, expected, "{}: `{shown}`: {said}", page.display());
        }
    }
    assert!(ran >= 12, "{ran} commands were found");
    let pinned = fs::read_to_string(stage.bench.folder.path().join("deploy/web.yaml")).unwrap();
    assert!(
        pinned.contains(&format!("app:signed@{}", stage.bench.signed)),
        "{pinned}"
    );
}

#[test]
fn the_commands_and_options_that_the_pages_name_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut named = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for call in text.split("`promotion-gate ").skip(1) {
            let call = call.split(['`', '|', '>']).next().unwrap();
            let mut words = call.split_whitespace().peekable();
            let mut command = vec![words.next().unwrap()];
            let has_commands = |help: &str| help.contains("\nCommands:");
            if has_commands(&run(root, &[command[0], "--help"], "").stdout) {
                command.extend(words.next_if(|word| !word.starts_with('-')));
            }
            let help = run(root, &[&command[..], &["--help"]].concat(), "");
            assert_eq!(help.code, 0, "{}: `{call}`", page.display());
            for option in words.filter(|word| word.starts_with("--")) {
                let mut known = help.stdout.split([' ', ',', '\n', '=', '<']);
                let known = known.any(|word| word == option);
                assert!(known, "{}: `{call}`: {option}", page.display());
            }
            named += 1;
        }
    }
    assert!(named >= 20, "{named} commands were found");
}
