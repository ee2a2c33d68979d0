//! What is depended upon, held to `deny.toml`.

use std::fs;
use std::path::Path;
use std::process::Command;

/// The strings of the list `name` of a section of `deny.toml`.
fn list(section: &str, name: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml")).unwrap();
    let (_, section) = text.split_once(&format!("[{section}]\n")).unwrap();
    let (_, list) = section.split_once(&format!("\n{name} = [")).unwrap();
    let (list, _) = list.split_once(']').unwrap();
    let quoted = list.split('"').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

/// Name, license and source of every package that is built.
fn packages() -> Vec<(String, String, String)> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--workspace",
            "--all-features",
            "--locked",
            "--offline",
        ])
        .args([
            "--edges",
            "normal,build,dev",
            "--prefix",
            "none",
            "--format",
            "{p}\t{l}\t{r}",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |line: &str| {
        let mut columns = line.trim_end_matches(" (*)").split('\t');
        let package = columns.next()?.to_owned();
        let name = package.split(' ').next()?.to_owned();
        Some((name, columns.next()?.to_owned(), package))
    };
    text.lines()
        .filter(|line| !line.is_empty())
        .filter_map(line)
        .collect()
}

#[test]
fn nothing_is_built_that_is_banned() {
    let banned = list("bans", "deny");
    assert!(banned.iter().any(|name| name == "openssl"));
    let packages = packages();
    assert!(packages.iter().any(|(name, ..)| name == "aws-lc-rs"));
    let found: Vec<_> = packages
        .iter()
        .filter(|(name, ..)| banned.contains(name))
        .collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn every_license_is_one_that_is_allowed() {
    let allowed = list("licenses", "allow");
    let refused: Vec<_> = packages()
        .into_iter()
        .filter(|(_, license, _)| !permitted(license, &allowed))
        .collect();
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
fn everything_comes_from_the_public_registry_or_from_here() {
    let lock =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).unwrap();
    let sources = lock.lines().filter(|line| line.starts_with("source = "));
    for source in sources {
        assert_eq!(
            source,
            r#"source = "registry+https://github.com/rust-lang/crates.io-index""#
        );
    }
    assert!(list("sources", "allow-registry").len() == 1);
}

/// Whether an SPDX expression leaves a choice among what is allowed: each part joined by `AND` has an allowed choice.
fn permitted(license: &str, allowed: &[String]) -> bool {
    let flat = license
        .replace(['(', ')'], "")
        .replace(" / ", " OR ")
        .replace('/', " OR ");
    flat.split(" AND ").all(|part| {
        part.split(" OR ")
            .any(|choice| allowed.iter().any(|name| name == choice.trim()))
    })
}

#[test]
fn a_license_expression_needs_an_allowed_choice_in_every_part() {
    let allowed = ["MIT".to_owned(), "ISC".to_owned()];
    for license in [
        "MIT",
        "GPL-3.0 OR MIT",
        "MIT/Apache-2.0",
        "ISC AND (MIT OR GPL-3.0)",
    ] {
        assert!(permitted(license, &allowed), "{license}");
    }
    for license in ["", "GPL-3.0", "MIT AND GPL-3.0", "MITX"] {
        assert!(!permitted(license, &allowed), "{license}");
    }
}

#[test]
fn nothing_that_decides_depends_on_signing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let core = fs::read_to_string(root.join("core/Cargo.toml")).unwrap();
    assert!(!core.contains("promotion-gate-sign"));
    let mut folders = vec![root.join("src")];
    let mut users = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if fs::read_to_string(&path)
                .is_ok_and(|text| text.contains("promotion_gate_sign"))
            {
                let file = path.strip_prefix(root).unwrap().display().to_string();
                users.push(file);
            }
        }
    }
    assert!(!users.is_empty());
    for user in users {
        let may = [
            "src/cli/approve/",
            "src/cli/attest/",
            "src/cli/emergency/",
            "src/sandbox/",
        ];
        assert!(may.iter().any(|folder| user.starts_with(folder)), "{user}");
    }
}
