//! The seeds of the fuzz targets, replayed: what fuzzing does with them must not fail here either.
//! All but `certificate`, whose target needs a view of certificates that only fuzzing builds have.

#[path = "../../fuzz/src/lib.rs"]
#[expect(dead_code, clippy::expect_used, reason = "it is built on its own too")]
mod targets;

use std::path::Path;

type Target = (&'static str, fn(&[u8]));

#[test]
fn every_seed_of_every_fuzz_target_is_taken_without_a_panic() {
    let targets: [Target; 7] = [
        ("bundle", targets::bundle),
        ("attestation", targets::attestation),
        ("simple_signing", targets::simple_signing),
        ("statement", targets::statement),
        ("image_reference", targets::image_reference),
        ("document", targets::document),
        ("policy", targets::policy),
    ];
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for (name, target) in targets {
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
