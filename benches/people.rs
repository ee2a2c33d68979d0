//! What a large people directory costs: the time to load it, the memory that it holds, and the time of a look-up, beside a small
//! one.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark that cannot go on fails; it prints what it found"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::time::Instant;

use promotion_gate::api;
use promotion_gate_core::gate::{Identity, Lookup, SourcePlatform};

const LOOKUPS: u32 = 100_000;
const ISSUER: &str = "https://accounts.google.com";

fn main() {
    for count in [100, 10_000] {
        measure(count);
    }
}

fn measure(count: usize) {
    let sources = [("people.yaml".to_owned(), directory(count).into_bytes())];
    let before = resident();
    let begun = Instant::now();
    let set = api::load(&sources, &BTreeMap::new());
    let loaded = begun.elapsed();
    assert!(set.problems.is_empty(), "{:?}", set.problems);
    let peak = resident();
    let people = set.people.unwrap();
    // A copy holds as much as the original. The first ones use the memory that reading left behind.
    let copies = |count: usize| (0..count).map(|_| (*people).clone()).collect::<Vec<_>>();
    let first = copies(40);
    let filled = resident();
    let second = copies(20);
    let held = resident().saturating_sub(filled) / second.len();
    drop((first, second));
    let asked: Vec<_> = (0..count)
        .flat_map(|n| {
            let name = format!("P{n}@example.com");
            let issuer = ISSUER.to_owned();
            let account = Identity::account(SourcePlatform::GitHub, None, &format!("p{n}"), None);
            [Identity::Certificate { issuer, name }, account.unwrap()]
        })
        .collect();
    let begun = Instant::now();
    for identity in asked.iter().cycle().take(LOOKUPS as usize) {
        let found = black_box(&people).person_of(black_box(identity));
        assert!(matches!(found, Lookup::Person(_)));
    }
    println!(
        "{count} people: loaded in {loaded:.0?} (+{} KiB while reading), {held} KiB held, {:?} a look-up",
        peak.saturating_sub(before),
        begun.elapsed() / LOOKUPS
    );
}

/// A directory of people with three identities each, in ten groups.
fn directory(count: usize) -> String {
    let mut text = "apiVersion: promotion-gate.dev/v1alpha1\nkind: PeopleDirectory\nmetadata: {name: all}\nspec:\n  people:\n".to_owned();
    for n in 0..count {
        writeln!(text, "  - name: p{n}\n    identities:\n    - certificate: {{issuer: '{ISSUER}', email: p{n}@example.com}}\n    - github: {{login: p{n}, id: {n}}}\n    - kubernetes: {{user: p{n}@example.com}}").unwrap();
    }
    text.push_str("  groups:\n");
    for group in 0..10 {
        writeln!(text, "  - name: g{group}\n    members:").unwrap();
        for n in (group..count).step_by(10) {
            writeln!(text, "    - p{n}").unwrap();
        }
    }
    text
}

/// The memory that the process holds, in KiB.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}
