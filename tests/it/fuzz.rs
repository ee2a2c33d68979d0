//! The seeds of the fuzz targets, replayed: what fuzzing does with them must not fail here either.
//! All but `certificate`, whose target needs a view of certificates that only fuzzing builds have.

#[path = "../../fuzz/src/lib.rs"]
#[expect(dead_code, clippy::expect_used, reason = "it is built on its own too")]
mod targets;

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 19] = [
    ("bundle", targets::bundle),
    ("attestation", targets::attestation),
    ("simple_signing", targets::simple_signing),
    ("statement", targets::statement),
    ("image_reference", targets::image_reference),
    ("approval", targets::approval),
    ("change", targets::change),
    ("provenance", targets::provenance),
    ("verification_summary", targets::verification_summary),
    ("scan", targets::scan),
    ("vex", targets::vex),
    ("sbom", targets::sbom),
    ("calendar", targets::calendar),
    ("recurrence", targets::recurrence),
    ("freeze_answer", targets::freeze_answer),
    ("emergency", targets::emergency),
    ("incident", targets::incident),
    ("document", targets::document),
    ("policy", targets::policy),
];

/// The targets of which only the seeds are kept so far.
const NOT_GROWN: [&str; 4] = [
    "emergency",
    "incident",
    "provenance",
    "verification_summary",
];

#[test]
fn every_seed_of_every_fuzz_target_is_taken_without_a_panic() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for (name, target) in TARGETS {
        let mut seen = 0;
        for seed in std::fs::read_dir(seeds.join(name)).unwrap() {
            let bytes = std::fs::read(seed.unwrap().path()).unwrap();
            target(&bytes);
            // And what is nearly a seed: cut short, and with a byte changed.
            for at in (0..bytes.len()).step_by(bytes.len() / 64 + 1) {
                target(&bytes[..at]);
                let mut changed = bytes.clone();
                changed[at] ^= 0x20;
                target(&changed);
            }
            seen += 1;
        }
        assert!(seen > 0, "{name} has no seeds");
    }
}

/// A part of what fuzzing has grown from the seeds, a line of base64 for each.
#[test]
fn what_fuzzing_has_grown_is_taken_without_a_panic() {
    let grown = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/grown");
    let is_grown = |(name, _): &Target| !NOT_GROWN.contains(name);
    for (name, target) in TARGETS.into_iter().filter(is_grown) {
        let lines = std::fs::read_to_string(grown.join(format!("{name}.txt"))).unwrap();
        for line in lines.lines() {
            target(&STANDARD.decode(line).unwrap());
        }
        assert!(lines.lines().count() > 50, "{name} has grown little");
    }
}
