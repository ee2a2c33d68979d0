//! The pages that are made from the program itself say what it says.

use std::path::Path;

use crate::cli::run;

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

/// Every line of a code block that calls the program names a command and options that it has.
#[test]
fn the_commands_that_the_pages_show_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages: Vec<_> = [
        "README.md",
        "SECURITY.md",
        "policies/README.md",
        "deploy/README.md",
    ]
    .iter()
    .map(|page| root.join(page))
    .collect();
    pages.extend(
        std::fs::read_dir(root.join("docs"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "md")),
    );
    let mut shown = 0;
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        let mut in_block = false;
        for line in text.lines() {
            in_block ^= line.trim_start().starts_with("```");
            let Some((_, call)) = line.split_once("promotion-gate ") else {
                continue;
            };
            let starts = line.trim_start().trim_start_matches("- run: ");
            let piped = line.contains("| promotion-gate ");
            if !in_block || !(starts.starts_with("promotion-gate ") || piped) {
                continue;
            }
            let mut words = call.split_whitespace();
            let command = words.next().unwrap();
            let help = run(root, &[command, "--help"], "");
            assert_eq!(help.code, 0, "{}: `{line}`", page.display());
            for option in words.take_while(|word| *word != "|" && *word != ">") {
                if option.starts_with("--") {
                    assert!(
                        help.stdout.contains(option),
                        "{}: `{line}`: {option}",
                        page.display()
                    );
                }
            }
            shown += 1;
        }
    }
    assert!(shown >= 5, "{shown} commands were found");
}
