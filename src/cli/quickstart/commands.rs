//! The commands that `quickstart` runs and prints, and the files that they read.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, bail};
use promotion_gate_core::gate::Digest;
use serde_json::Value;
use tokio::process::Command;

use super::{Environment, sample};
use crate::text::line;

/// How the line ends that says what was attached.
const READ_BACK: &str = ", and read back";

impl Environment {
    /// Runs a command that a person would type, and shows it.
    pub(super) async fn run_command(&self, arguments: &[String]) -> anyhow::Result<()> {
        print_line!("   $ promotion-gate {}", shell(arguments));
        let command = Command::new(program())
            .args(arguments)
            .arg("--yes")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let name = arguments.first().map(String::as_str).unwrap_or_default();
        let output = command.await;
        let output = output.with_context(|| format!("`{name}` does not start"))?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            bail!("`{name}` failed: {}", line(&why));
        }
        let said = String::from_utf8_lossy(&output.stdout);
        let attached = said.lines().find(|line| line.ends_with(READ_BACK));
        print_line!("   {}", attached.unwrap_or_default());
        Ok(())
    }

    /// The arguments with which a person approves an image.
    pub(super) fn approval(&self, person: &str, image: &Digest) -> Vec<String> {
        let arguments = vec!["approve".to_owned(), self.pinned(image)];
        self.signing(arguments, person, &[])
    }

    /// The commands with which Bob declares an emergency change for the released image, and Carol agrees to it.
    pub(super) fn emergency(&self) -> Vec<Vec<String>> {
        let incident = [
            "--incident",
            "INC0010023",
            "--reason",
            "Reverts the query that locks the orders table",
        ];
        vec![
            self.of_emergency("declare", "bob", &incident),
            self.of_emergency("approve", "carol", &[]),
        ]
    }

    /// The command with which Dave reviews it.
    pub(super) fn emergency_review(&self) -> Vec<String> {
        let said = [
            "--verdict",
            "justified",
            "--reason",
            "The orders table was locked, and the revert freed it",
            "--follow-up",
            "Add a test for the lock",
        ];
        self.of_emergency("review", "dave", &said)
    }

    fn of_emergency(&self, verb: &str, person: &str, said: &[&str]) -> Vec<String> {
        let image = self.pinned(&self.images.signed);
        let arguments = vec!["emergency".to_owned(), verb.to_owned(), image];
        let said = [&["--namespace", "prod"], said].concat();
        self.signing(arguments, person, &said)
    }

    /// The arguments with which a person signs something for production.
    fn signing(&self, mut arguments: Vec<String>, person: &str, said: &[&str]) -> Vec<String> {
        arguments.extend(["--environment", "production"].map(str::to_owned));
        arguments.extend(said.iter().map(|word| (*word).to_owned()));
        let key = format!("keys/{person}.key");
        let files = [
            ("--policy", "policies"),
            ("--config", "gate.yaml"),
            ("--key", &key),
            ("--signing-config", "signing.json"),
        ];
        for (option, name) in files {
            arguments.extend([option.to_owned(), self.file(name)]);
        }
        arguments
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Writes the files that the printed commands use.
    pub(super) fn write_examples(&self) -> anyhow::Result<()> {
        for (name, namespace, image) in [
            ("signed", "shop", &self.images.signed),
            ("unsigned", "shop", &self.images.unsigned),
            ("next", "prod", &self.images.next),
        ] {
            let review = sample::review(name, namespace, &self.pinned(image));
            self.write(&format!("reviews/{name}.json"), &sample::pretty(&review))?;
            let object = review.pointer("/request/object").unwrap_or(&Value::Null);
            self.write(&format!("manifests/{name}.json"), &sample::pretty(object))?;
        }
        Ok(())
    }

    pub(super) fn print_next_steps(&self) {
        let run = |arguments: &[String]| {
            let program = program().display().to_string();
            shell(&[&[program], arguments].concat())
        };
        let of = |arguments: &[&str]| {
            run(&arguments
                .iter()
                .map(|it| (*it).to_owned())
                .collect::<Vec<_>>())
        };
        let ask = |review: &str| {
            let (authority, review) = (self.file("ca.crt"), format!("@{}", self.file(review)));
            let authority = shell(&[authority]);
            let review = shell(&[review]);
            format!(
                "curl -sS --cacert {authority} -H 'content-type: application/json' \\\n    --data {review} '{}'",
                self.webhook_url()
            )
        };
        let (policies, config) = (self.file("policies"), self.file("gate.yaml"));
        let judged = ["--policy", &policies, "--config", &config];
        let next = self.file("manifests/next.json");
        let wait = ["wait", "--environment", "production", "-f", &next];
        print_line!(
            "
Everything stays up until you press Ctrl-C. The next version of the image waits for two approvals. In another terminal, approve it as
Bob and as Carol:

  {bob}
  {carol}

The webhook denies it until then. `wait` ends when it would be allowed:

  {asked}
  {wait}

Try also:

  {unsigned}
  {check}
  {evidence}
  curl -sS http://{probes}/readyz http://{probes}/metrics",
            bob = run(&self.approval("bob", &self.images.next)),
            carol = run(&self.approval("carol", &self.images.next)),
            asked = ask("reviews/next.json"),
            wait = of(&[&wait[..], &judged].concat()),
            unsigned = ask("reviews/unsigned.json"),
            check = of(&[&["check"], &judged[..], &[&self.file("manifests")]].concat()),
            evidence = of(&["evidence", "--config", &config, &self.pinned(&self.images.signed)]),
            probes = self.listening.probe_address,
        );
    }
}

fn program() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| "promotion-gate".into())
}

/// Words as a shell reads them.
fn shell(words: &[String]) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@=+,%".contains(c);
    let quoted = words.iter().map(|word| match word.chars().all(is_plain) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    });
    quoted.collect::<Vec<_>>().join(" ")
}
