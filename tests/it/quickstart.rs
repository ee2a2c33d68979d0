//! The command `quickstart`, and the commands that it prints: they are copied and run while it runs.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::run;
use crate::terminal::Terminal;

#[test]
fn quickstart_ends_with_0_when_every_decision_was_as_expected() {
    let folder = TempDir::new().unwrap();
    let ran = run(folder.path(), &["quickstart", "--once"], "");
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(
        ran.stdout.contains("17 of 17 decisions were as expected"),
        "{}",
        ran.stdout
    );
    // People approve with the command that others are shown.
    let approved = ran.stdout.matches("   $ promotion-gate approve ").count();
    let in_an_emergency = ran.stdout.matches("   $ promotion-gate emergency ").count();
    let read_back = ran.stdout.matches(", and read back").count();
    let counts = (approved, in_an_emergency, read_back);
    assert_eq!(counts, (3, 3, 6), "{}", ran.stdout);
    // The deployer is told of the emergency change, and what it needs is in the denial before it.
    let warned = "   warning: admitted as an emergency: review due ";
    assert_eq!(ran.stdout.matches(warned).count(), 1, "{}", ran.stdout);
    let declared = "in an emergency: `promotion-gate emergency declare ";
    assert_eq!(ran.stdout.matches(declared).count(), 1, "{}", ran.stdout);
}

/// It runs until this is dropped.
struct Quickstart {
    child: Child,
    said: String,
}

impl Quickstart {
    fn start(temporary: &Path) -> Quickstart {
        let child = Command::new(env!("CARGO_BIN_EXE_promotion-gate"))
            .arg("quickstart")
            .env("TMPDIR", temporary)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut quickstart = Quickstart {
            child,
            said: String::new(),
        };
        let said = quickstart.child.stdout.take().unwrap();
        for line in BufReader::new(said).lines() {
            let line = line.unwrap();
            quickstart.said.push_str(&line);
            quickstart.said.push('\n');
            // The last line.
            if line.ends_with("/metrics") {
                return quickstart;
            }
        }
        panic!("quickstart ended: {}", quickstart.said);
    }

    /// The printed commands that contain these words, each on one line.
    fn commands(&self, words: &str) -> Vec<String> {
        let said = self.said.replace("\\\n   ", "");
        let is_command = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
        let printed = said.lines().filter(is_command);
        let wanted = printed.filter(|line| line.contains(words));
        wanted.map(|line| line.trim().to_owned()).collect()
    }

    /// What the webhook answers to the printed `curl` command that sends this review.
    async fn answers(&self, review: &str) -> Value {
        let curl = self.commands(review).remove(0);
        let words = format!("printf '%s\\n' {curl}");
        let words = Command::new("sh").args(["-c", &words]).output().unwrap();
        let words = String::from_utf8(words.stdout).unwrap();
        let words: Vec<_> = words.lines().collect();
        let after = |option: &str| words[words.iter().position(|it| *it == option).unwrap() + 1];
        let authority = fs::read(after("--cacert")).unwrap();
        let authority = reqwest::Certificate::from_pem(&authority).unwrap();
        let data = fs::read(after("--data").strip_prefix('@').unwrap()).unwrap();
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([authority])
            .build()
            .unwrap();
        let (name, value) = after("-H").split_once(": ").unwrap();
        let asked = client.post(*words.last().unwrap()).header(name, value);
        let answer = asked.body(data).send().await.unwrap();
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }

    /// Ends it as Ctrl-C does.
    fn interrupt(mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Quickstart {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_that_quickstart_prints_approve_what_its_webhook_then_admits() {
    // A folder whose name the printed commands have to quote.
    let folder = TempDir::with_prefix("it's a folder ").unwrap();
    let quickstart = Quickstart::start(folder.path());
    let denied = quickstart.answers("reviews/next.json").await;
    assert_eq!(denied["response"]["allowed"], false, "{denied}");
    let message = denied["response"]["status"]["message"].as_str().unwrap();
    assert!(
        message.contains("missing: 2 of group `release-approvers`"),
        "{message}"
    );
    let wait = quickstart.commands(" wait ").remove(0);
    let mut waiting = Command::new("sh")
        .args(["-c", &format!("exec {wait}")])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let approvals = quickstart.commands(" approve ");
    assert_eq!(approvals.len(), 2, "{}", quickstart.said);
    for (approval, open) in approvals.iter().zip(["1 of group", "every seat is filled"]) {
        let mut terminal = Terminal::shell(approval);
        terminal.sees("counts");
        terminal.sees(open);
        terminal.sees("Approve 1 image for `production`? [y/N] ");
        terminal.types("y\n");
        let (code, screen) = terminal.ends();
        assert_eq!(code, Some(0), "{screen}");
        assert!(screen.contains(", and read back"), "{screen}");
    }
    let admitted = quickstart.answers("reviews/next.json").await;
    assert_eq!(admitted["response"]["allowed"], true, "{admitted}");
    assert_eq!(waiting.wait().unwrap().code(), Some(0));
    // The others are run as they are printed.
    for (words, code) in [(" check ", 2), (" evidence ", 0)] {
        let command = quickstart.commands(words).remove(0);
        let ran = Command::new("sh").args(["-c", &command]).output().unwrap();
        assert_eq!(ran.status.code(), Some(code), "{command}: {ran:?}");
    }
    assert_eq!(quickstart.interrupt(), Some(0));
    let left = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 0, "nothing is left behind");
}
