//! Indexes as container runtimes read them: what containerd's and CRI-O's own code picks, over generated indexes, never goes
//! unchecked under `match.platforms`.

use promotion_gate::oci::{Manifest, ManifestKind};
use promotion_gate_core::gate::{Digest, Platform, PlatformManifest, PlatformPattern};
use serde_json::{Value, json};

use crate::support::{command, run};

const NODES: [&str; 12] = [
    "linux/amd64",
    "linux/amd64/v2",
    "linux/amd64/v3",
    "linux/386",
    "linux/arm64",
    "linux/arm64/v8",
    "linux/arm/v5",
    "linux/arm/v6",
    "linux/arm/v7",
    "linux/arm/v8",
    "linux/s390x",
    "windows/amd64",
];
const SYSTEMS: [&str; 8] = [
    "linux", "Linux", "LINUX", "", "windows", "macos", "unknown", "linux ",
];
const ARCHITECTURES: [&str; 22] = [
    "amd64", "AMD64", "x86_64", "x86-64", "X86_64", "386", "i386", "i686", "arm", "ARM", "armhf",
    "armel", "armv7l", "arm64", "aarch64", "AArch64", "s390x", "ppc64le", "riscv64", "unknown", "",
    "amd64 ",
];
const VARIANTS: [Option<&str>; 14] = [
    None,
    Some(""),
    Some("v1"),
    Some("v2"),
    Some("v3"),
    Some("v5"),
    Some("v6"),
    Some("v7"),
    Some("7"),
    Some("v8"),
    Some("8"),
    Some("V8"),
    Some("v8.1"),
    Some("v9"),
];
/// What a hostile author could write beside an entry's fields: `OTHER` is another digest.
const ADDITIONS: [&str; 8] = [
    ",\"Digest\":\"OTHER\"",
    ",\"digest\":\"OTHER\"",
    ",\"dige\u{17f}t\":\"OTHER\"",
    ",\"\\u0044igest\":\"OTHER\"",
    ",\"Platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}",
    ",\"platform\":null",
    ",\"annotations\":{\"Digest\":\"OTHER\"}",
    ",\"unknown\":{\"a\":[1,2,{\"b\":null}]}",
];

/// A fixed sequence of numbers, so that a failure can be repeated (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound).unwrap()).unwrap()
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        *choices.get(self.below(choices.len())).unwrap()
    }
}

fn digest(number: usize) -> String {
    format!("sha256:{number:064x}")
}

fn index(numbers: &mut Numbers) -> String {
    let entries: Vec<String> = (0..1 + numbers.below(5))
        .map(|entry| {
            let platform = match numbers.below(40) {
                0..4 => String::new(),
                4 => ",\"platform\":{}".to_owned(),
                5 => ",\"platform\":{\"os\":\"linux\",\"architecture\":\"s390x\",\"Architecture\":\"amd64\"}".to_owned(),
                _ => {
                    let mut platform = json!({
                        "os": numbers.one_of(&SYSTEMS),
                        "architecture": numbers.one_of(&ARCHITECTURES),
                    });
                    if let Some(variant) = numbers.one_of(&VARIANTS) {
                        platform["variant"] = variant.into();
                    }
                    format!(",\"platform\":{platform}")
                }
            };
            let addition = match numbers.below(10) {
                0 => numbers.one_of(&ADDITIONS),
                _ => "",
            };
            let addition = addition.replace("OTHER", &digest(100 + entry));
            format!(
                "{{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"{}\",\"size\":1{platform}{addition}}}",
                digest(entry)
            )
        })
        .collect();
    format!(
        "{{\"schemaVersion\":2,\"manifests\":[{}]}}",
        entries.join(",")
    )
}

/// The digests of all entries, and of those that are checked for a node; `None` where the index is refused.
fn read(text: &str, node: &str) -> Option<(Vec<String>, Vec<String>)> {
    let bytes = text.as_bytes().to_vec();
    let manifest = Manifest::parse(Digest::sha256(&bytes), None, bytes.into()).ok()?;
    let ManifestKind::Index { manifests, .. } = manifest.kind else {
        return None;
    };
    let node: PlatformPattern = node.parse().unwrap();
    let checked = manifests.iter().filter(|entry| {
        let platform = entry.platform.as_ref().map(|platform| Platform {
            os: platform.os.clone(),
            architecture: platform.architecture.clone(),
            variant: platform.variant.clone(),
        });
        node.matches(&PlatformManifest {
            platform,
            digest: entry.digest.clone(),
        })
    });
    let checked = checked.map(|entry| entry.digest.to_string()).collect();
    let all = manifests.iter().map(|entry| entry.digest.to_string());
    Some((all.collect(), checked))
}

#[test]
fn no_entry_that_containerd_or_crio_picks_goes_unchecked() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let asked: Vec<(&str, String)> = (0..4000)
        .map(|_| (numbers.one_of(&NODES), index(&mut numbers)))
        .collect();
    let input: String = asked
        .iter()
        .map(|(node, index)| format!("{}\n", json!({"node": node, "index": index})))
        .collect();
    let home = tempfile::tempdir().unwrap();
    let output = run(&mut command("platforms", home.path()), input.as_bytes()).ok();
    assert_eq!(output.lines().count(), asked.len());
    let (mut refused, mut picked, mut passed_over) = (0, 0, 0);
    for ((node, index), line) in asked.iter().zip(output.lines()) {
        let said: Value = serde_json::from_str(line).unwrap();
        let Some((all, checked)) = read(index, node) else {
            refused += 1;
            continue;
        };
        assert_eq!(said["error"], Value::Null, "only we read {index}");
        assert_eq!(
            said["entries"],
            json!(all),
            "Go reads another index: {index}"
        );
        passed_over += all.len() - checked.len();
        for runtime in ["containerd", "crio"] {
            for entry in said[runtime].as_array().unwrap() {
                picked += 1;
                assert!(
                    checked.iter().any(|checked| entry == checked),
                    "{runtime} on {node} picks {entry}, which is not checked: {index}"
                );
            }
        }
    }
    assert!(
        refused > 500 && picked > 1000 && passed_over > 1000,
        "the generator gives too little: {refused} refused, {picked} picked, {passed_over} passed over"
    );
}
