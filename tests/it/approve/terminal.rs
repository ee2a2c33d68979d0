//! What `approve` asks at a terminal, and what each answer does.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{BUILDER, Bench, ISSUER, SOURCE, described, nothing, token};
use crate::terminal::Terminal;

/// Ctrl-D: the end of the input.
const END: &str = "\u{4}";
const NOTHING: &str = "nothing was signed";

fn approve(bench: &Bench, image: &str, more: &[&str]) -> Terminal {
    let args = ["approve", image, "--environment", "production"];
    let judged = ["--config", "gate.yaml", "--policy", "policies"];
    let args = [&args[..], &judged, more].concat();
    Terminal::run(bench.folder.path(), &args)
}

const WITH_KEY: [&str; 4] = ["--key", "alice.key", "--signing-config", "signing.json"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_yes_signs() {
    let bench = Bench::new(nothing).await;
    let digest = bench.registry.push("app", "v1", "image");
    let image = bench.registry.image("app", &digest);
    for answer in ["n\n", "\n", END, "no\n", "yes please\n", "Approve\n"] {
        let mut terminal = approve(&bench, &image, &WITH_KEY);
        // What is approved and what it would do is shown before the question.
        terminal.sees(&image);
        terminal.sees("`alice` fills a seat");
        terminal.sees("Signed by key `");
        terminal.sees("Approve 1 image for `production`? [y/N] ");
        terminal.types(answer);
        let (code, screen) = terminal.ends();
        assert_eq!(code, Some(2), "{answer:?}: {screen}");
        assert!(screen.contains(NOTHING), "{answer:?}: {screen}");
        assert!(bench.attached("app", &digest).is_empty(), "{answer:?}");
    }
    for (given, answer) in ["y\n", "Y\n", "yes\n"].into_iter().enumerate() {
        let mut terminal = approve(&bench, &image, &WITH_KEY);
        terminal.sees("[y/N] ");
        terminal.types(answer);
        let (code, screen) = terminal.ends();
        assert_eq!(code, Some(0), "{answer:?}: {screen}");
        assert_eq!(
            bench.attached("app", &digest).len(),
            given + 1,
            "{answer:?}"
        );
    }
    let mut terminal = approve(
        &bench,
        &image,
        &[&WITH_KEY[..], &["--decision", "rejected"]].concat(),
    );
    terminal.sees("Reject 1 image for `production`? [y/N] ");
    terminal.types("n\n");
    assert_eq!(terminal.ends().0, Some(2));
    assert_eq!(bench.attached("app", &digest).len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_an_address_becomes_public_for_good_the_person_is_asked() {
    let bench = Bench::new(nothing).await;
    let digest = bench.registry.push("app", "v1", "image");
    let image = bench.registry.image("app", &digest);
    let token = token(Timestamp::now() + SignedDuration::from_mins(10));
    // Without `--signing-config`: the public-good instance. Nothing is sent to it before both answers.
    let keyless = ["--identity-token", token.as_str()];
    let asked = |answers: &[&str]| {
        let mut terminal = approve(&bench, &image, &keyless);
        terminal.sees("everybody can read");
        terminal.sees("Publish `alice@example.com` for good, for everybody to read? [y/N] ");
        terminal.types(answers[0]);
        if let Some(answer) = answers.get(1) {
            terminal.sees("Approve 1 image for `production`? [y/N] ");
            terminal.types(answer);
        }
        let (code, screen) = terminal.ends();
        assert_eq!(code, Some(2), "{answers:?}: {screen}");
        assert!(screen.contains(NOTHING), "{answers:?}: {screen}");
        assert!(!screen.contains(&token), "{screen}");
        screen
    };
    for answer in ["n\n", "\n", END] {
        let screen = asked(&[answer]);
        assert!(!screen.contains("Approve 1 image"), "{answer:?}: {screen}");
    }
    asked(&["y\n", "n\n"]);
    asked(&["y\n", END]);
    assert!(bench.attached("app", &digest).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_record_with_control_characters_does_not_steer_the_terminal() {
    let bench = Bench::new(nothing).await;
    let by = |identity: &str| json!({"keyless": {"issuer": ISSUER, "identity": identity, "trustRoots": ["sandbox"]}});
    let builders = json!([{"id": BUILDER, "signedBy": by("ci@example.com")}]);
    let requirements = json!([{"provenance": {"builders": builders, "sources": [SOURCE]}}]);
    let authors = json!([{"changeRecord": {"signedBy": by("ci@example.com")}}]);
    bench.policy(&requirements, json!({"authorsFrom": authors}));
    let digest = bench.registry.push("app", "v1", "image");
    let image = bench.registry.image("app", &digest);
    // It clears the screen, writes into the title of the window, goes up a line, and hides what follows.
    let hostile = "Fix\u{1b}[2J\u{1b}]0;owned\u{7}\u{1b}[1A\u{9b}2K\r  counts for everything\u{8}\u{202e}\n  pass";
    described(&bench, &digest, "ci@example.com", hostile);
    let mut terminal = approve(&bench, &image, &WITH_KEY);
    terminal.sees("reason");
    terminal.sees("[y/N] ");
    terminal.types("n\n");
    let (code, screen) = terminal.ends();
    assert_eq!(code, Some(2), "{screen}");
    // Colours are the only sequences, and lines end as a terminal ends them.
    let mut rest = screen.as_str();
    while let Some(at) = rest.find('\u{1b}') {
        rest = &rest[at + 1..];
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && !"[;".contains(c))
            .unwrap();
        assert!(
            rest.starts_with('[') && rest[end..].starts_with('m'),
            "{screen:?}"
        );
    }
    let lines = screen.replace("\r\n", "\n").replace('\u{1b}', "");
    let steers = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!lines.contains(steers), "{screen:?}");
    let shown: Vec<_> = lines
        .lines()
        .filter(|line| line.contains("counts for everything"))
        .collect();
    assert_eq!(shown.len(), 1, "{screen:?}");
    assert!(shown[0].starts_with("  reason"), "{screen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_typed_before_the_question_is_no_answer() {
    let bench = Bench::new(nothing).await;
    let digest = bench.registry.push("app", "v1", "image");
    let image = bench.registry.image("app", &digest);
    let mut terminal = approve(&bench, &image, &WITH_KEY);
    terminal.types("y\n");
    terminal.sees("[y/N] ");
    terminal.types("n\n");
    let (code, screen) = terminal.ends();
    assert_eq!(code, Some(2), "{screen}");
    assert!(screen.contains(NOTHING), "{screen}");
    assert!(bench.attached("app", &digest).is_empty());
}

/// A script at a terminal of its own, which is `/dev/tty` for what it runs.
fn script(bench: &Bench, script: &str) -> Terminal {
    let program = env!("CARGO_BIN_EXE_promotion-gate");
    bench.write(
        "script.sh",
        &script.replace("GATE", &format!("'{program}'")),
    );
    let folder = bench.folder.path().display();
    Terminal::shell(&format!(
        "cd '{folder}' && unset COSIGN_PASSWORD && exec setsid --wait --ctty sh script.sh"
    ))
}

const JUDGED: &str =
    "--environment production --config gate.yaml --policy policies --signing-config signing.json";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_question_is_asked_at_the_terminal_where_standard_input_holds_the_manifests() {
    let bench = Bench::new(nothing).await;
    let digest = bench.registry.push("app", "v1", "image");
    let image = bench.registry.image("app", &digest);
    bench.write("rendered.yaml", &crate::cli::deployment("shop", &image));
    let command =
        format!("GATE approve -f - {JUDGED} --key alice.key <rendered.yaml\necho \"code $?\"\n");
    for (answer, code, attached) in [("n\n", "code 2", 0), ("y\n", "code 0", 1)] {
        let mut terminal = script(&bench, &command);
        terminal.sees("Approve 1 image for `production`? [y/N] ");
        terminal.types(answer);
        terminal.sees(code);
        assert_eq!(terminal.ends().0, Some(0));
        assert_eq!(bench.attached("app", &digest).len(), attached);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupt_at_the_password_ends_the_command_and_leaves_the_terminal_as_it_was() {
    let bench = Bench::new(nothing).await;
    let digest = bench.registry.push("app", "v1", "image");
    let image = bench.registry.image("app", &digest);
    bench.write(
        "encrypted.key",
        "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\ne30=\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n",
    );
    let command = format!(
        "GATE approve {image} {JUDGED} --key encrypted.key\necho \"code $?\"\nstty -a\necho end\n"
    );
    let mut terminal = script(&bench, &command);
    terminal.sees("Password of the key: ");
    terminal.types("hunter2\u{3}");
    terminal.sees("its password was not given");
    terminal.sees("code 1");
    terminal.sees("end");
    let (code, screen) = terminal.ends();
    assert_eq!(code, Some(0), "{screen}");
    assert!(!screen.contains("hunter2"), "{screen}");
    let modes: Vec<_> = screen.split_whitespace().collect();
    for mode in ["isig", "icanon", "echo"] {
        assert!(modes.contains(&mode), "{mode}: {screen}");
    }
    assert!(bench.attached("app", &digest).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_terminal_nothing_is_asked_and_nothing_is_signed() {
    let bench = Bench::new(nothing).await;
    let digest = bench.registry.push("app", "v1", "image");
    let image = bench.registry.image("app", &digest);
    let args = ["approve", &image, "--environment", "production"];
    let judged = ["--config", "gate.yaml", "--policy", "policies"];
    let ran = bench.run(&[&args[..], &judged, &WITH_KEY].concat(), "y\n");
    super::said(
        &ran,
        1,
        "there is no terminal; `--yes` signs without asking",
    );
    assert!(bench.attached("app", &digest).is_empty());
}
