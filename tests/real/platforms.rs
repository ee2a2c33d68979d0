//! Indexes as container runtimes read them: what the code of containerd 1, containerd 2 and CRI-O picks, over generated
//! indexes, is never unchecked under `match.platforms`, and what Go decodes is what the gate reads, or is refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use promotion_gate::oci::{Descriptor, Manifest, ManifestKind, media_type};
use promotion_gate_core::gate::{Digest, PlatformPattern};
use serde_json::{Map, Value, json};

use crate::support::{command, run};

const NODES: [&str; 19] = [
    "linux/amd64",
    "linux/amd64/v2",
    "linux/amd64/v3",
    "linux/x86_64",
    "linux/386",
    "linux/arm64",
    "linux/arm64/v8",
    "linux/arm64/v9.2",
    "linux/aarch64",
    "linux/arm",
    "linux/arm/v5",
    "linux/arm/v6",
    "linux/arm/v7",
    "linux/arm/v8",
    "linux/s390x",
    "linux/ppc64le/power9",
    "windows/amd64",
    "freebsd/amd64",
    "darwin/arm64",
];
const SYSTEMS: [&str; 12] = [
    "linux",
    "linux",
    "linux",
    "Linux",
    "LINUX",
    "l\u{130}nux",
    "",
    "windows",
    "freebsd",
    "macos",
    "unknown",
    "linux ",
];
const ARCHITECTURES: [&str; 25] = [
    "amd64", "AMD64", "x86_64", "x86-64", "X86_64", "386", "i386", "i686", "arm", "ARM", "armhf",
    "armel", "armv7l", "arm64", "arm64", "aarch64", "AArch64", "s390x", "ppc64le", "riscv64",
    "unknown", "Unknown", "", "amd64 ", "amd64\0",
];
const VARIANTS: [Option<&str>; 18] = [
    None,
    None,
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
    Some("9.0"),
    Some("POWER9"),
];
const MEDIA_TYPES: [&str; 8] = [
    media_type::OCI_MANIFEST,
    media_type::OCI_MANIFEST,
    media_type::OCI_MANIFEST,
    media_type::DOCKER_MANIFEST,
    media_type::OCI_INDEX,
    media_type::DOCKER_LIST,
    "application/x",
    "",
];
/// What a hostile author could write beside the fields of an object at any level; `OTHER` is another digest.
const ADDITIONS: [&str; 22] = [
    r#""Digest":"OTHER""#,
    r#""digest":"OTHER""#,
    "\"dige\u{17f}t\":\"OTHER\"",
    r#""\u0044igest":"OTHER""#,
    r#""dige\u017ft":"OTHER""#,
    r#""Platform":{"os":"linux","architecture":"amd64"}"#,
    r#""platform":{"architecture":"amd64"}"#,
    r#""platform":null"#,
    r#""os":null"#,
    r#""OS":"linux""#,
    r#""architecture":null"#,
    r#""Architecture":"amd64""#,
    r#""ARCHITECTURE":null"#,
    r#""annotations":{"vnd.docker.reference.type":null}"#,
    r#""Annotations":{"vnd.docker.reference.type":"attestation-manifest"}"#,
    r#""annotations":{"Digest":"OTHER","digest":"OTHER"}"#,
    r#""Manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"OTHER","size":1}]"#,
    "\"manife\u{17f}t\u{17f}\":[]",
    r#""manifests":null"#,
    r#""unknown":{"a":[1,2,{"b":null}]}"#,
    r#""os.features":["sse4"],"os.version":"10.0.17763","features":["x"],"urls":["https://x.example"]"#,
    "\"\u{fffd}\\ud800\":1",
];
const SIZES: [&str; 10] = [
    "1",
    "1",
    "1",
    "1.0",
    "1e0",
    "-0",
    "-1",
    "\"1\"",
    "null",
    "18446744073709551615",
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

    /// One in so many.
    fn rarely(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    /// Fields as an object, now and then with one that a reader could take for another.
    fn object(&mut self, mut fields: Vec<String>) -> String {
        if self.rarely(40) {
            let addition = self.one_of(&ADDITIONS);
            let at = self.below(fields.len() + 1);
            fields.insert(at, addition.replace("OTHER", &digest(100)));
        }
        if self.rarely(60) && !fields.is_empty() {
            let at = self.below(fields.len());
            let field = fields.get_mut(at).unwrap();
            *field = self.respelled(field);
        }
        format!("{{{}}}", fields.join(","))
    }

    /// The field with one character of its key in another case, or written as an escape.
    fn respelled(&mut self, field: &str) -> String {
        let (key, value) = field.split_once("\":").unwrap();
        let key: Vec<char> = key.trim_start_matches('"').chars().collect();
        let at = self.below(key.len());
        let other = |character: char, choice: usize| match (choice, character) {
            (0, 's' | 'S') => "\u{17f}".to_owned(),
            (0, 'k' | 'K') => "\u{212a}".to_owned(),
            (0 | 1, c) if c.is_ascii_lowercase() => c.to_ascii_uppercase().to_string(),
            (0 | 1, c) => c.to_ascii_lowercase().to_string(),
            (_, c) => format!("\\u{:04x}", u32::from(c)),
        };
        let choice = self.below(3);
        let key = key.into_iter().enumerate().map(|(place, c)| {
            if place == at {
                other(c, choice)
            } else {
                c.to_string()
            }
        });
        format!("\"{}\":{value}", key.collect::<String>())
    }

    fn platform(&mut self) -> Option<String> {
        if self.rarely(10) {
            return None;
        }
        let mut fields = Vec::new();
        let buildkits = self.rarely(12);
        let mut named =
            |name: &str, value: &str| fields.push(format!("\"{name}\":{}", json!(value)));
        if buildkits {
            named("os", "unknown");
            named("architecture", "unknown");
        } else {
            if !self.rarely(20) {
                named("os", self.one_of(&SYSTEMS));
            }
            if !self.rarely(20) {
                named("architecture", self.one_of(&ARCHITECTURES));
            }
            if let Some(variant) = self.one_of(&VARIANTS) {
                named("variant", variant);
            }
        }
        Some(self.object(fields))
    }

    fn entry(&mut self, number: usize) -> String {
        let size = if self.rarely(30) {
            self.one_of(&SIZES)
        } else {
            "1"
        };
        let mut fields = vec![
            format!("\"mediaType\":\"{}\"", self.one_of(&MEDIA_TYPES)),
            format!("\"digest\":\"{}\"", digest(number)),
            format!("\"size\":{size}"),
        ];
        fields.extend(
            self.platform()
                .map(|platform| format!("\"platform\":{platform}")),
        );
        if self.rarely(4) {
            let annotation =
                r#""annotations":{"vnd.docker.reference.type":"attestation-manifest"}"#;
            fields.push(annotation.to_owned());
        }
        self.object(fields)
    }

    fn index(&mut self) -> Vec<u8> {
        let entries: Vec<_> = (0..1 + self.below(5))
            .map(|number| self.entry(number))
            .collect();
        let mut fields = vec![
            "\"schemaVersion\":2".to_owned(),
            format!("\"manifests\":[{}]", entries.join(",")),
        ];
        match self.below(3) {
            0 => fields.push(format!("\"mediaType\":\"{}\"", media_type::OCI_INDEX)),
            1 => fields.push(format!("\"mediaType\":\"{}\"", media_type::DOCKER_LIST)),
            _ => {}
        }
        let mut bytes = self.object(fields).into_bytes();
        match self.below(100) {
            0 => bytes.splice(0..0, *b"\xef\xbb\xbf").for_each(drop),
            1 => bytes.extend_from_slice(b" {}"),
            2 => bytes.extend_from_slice(b"\n\t "),
            3 => {
                let at = self.below(bytes.len());
                *bytes.get_mut(at).unwrap() = 0xff;
            }
            _ => {}
        }
        bytes
    }
}

fn digest(number: usize) -> String {
    format!("sha256:{number:064x}")
}

/// An entry as Go writes one.
fn written(entry: &Descriptor) -> Value {
    let mut fields = Map::new();
    let put = |into: &mut Map<String, Value>, key: &str, value: Option<&str>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            into.insert(key.to_owned(), value.into());
        }
    };
    fields.insert("mediaType".to_owned(), entry.media_type.clone().into());
    fields.insert("digest".to_owned(), entry.digest.to_string().into());
    fields.insert("size".to_owned(), entry.size.into());
    put(&mut fields, "artifactType", entry.artifact_type.as_deref());
    if !entry.annotations.is_empty() {
        fields.insert("annotations".to_owned(), json!(entry.annotations));
    }
    if let Some(platform) = &entry.platform {
        let mut of = Map::new();
        of.insert("os".to_owned(), platform.os.clone().into());
        of.insert(
            "architecture".to_owned(),
            platform.architecture.clone().into(),
        );
        put(&mut of, "variant", platform.variant.as_deref());
        put(&mut of, "os.version", platform.os_version.as_deref());
        fields.insert("platform".to_owned(), of.into());
    }
    fields.into()
}

/// What Go decodes, without what the gate does not look at.
fn decoded(entries: &Value) -> Value {
    let mut entries = entries.clone();
    for entry in entries.as_array_mut().unwrap() {
        let entry = entry.as_object_mut().unwrap();
        entry.remove("urls");
        if let Some(platform) = entry.get_mut("platform") {
            platform.as_object_mut().unwrap().remove("os.features");
        }
    }
    entries
}

#[test]
fn no_entry_that_containerd_or_crio_picks_goes_unchecked() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let asked: Vec<(&str, Vec<u8>)> = (0..4000)
        .map(|_| (numbers.one_of(&NODES), numbers.index()))
        .collect();
    let input = asked.iter().map(|(node, index)| {
        let question = json!({"node": node, "index": STANDARD.encode(index)});
        format!("{question}\n")
    });
    let home = tempfile::tempdir().unwrap();
    let input: String = input.collect();
    let output = run(&mut command("platforms", home.path()), input.as_bytes()).ok();
    assert_eq!(output.lines().count(), asked.len());

    let (mut refused, mut undecoded, mut picked, mut passed_over) = (0, 0, 0, 0);
    for ((node, index), line) in asked.iter().zip(output.lines()) {
        let shown = String::from_utf8_lossy(index);
        let said: Value = serde_json::from_str(line).unwrap();
        let read = Manifest::parse(Digest::sha256(index), None, index.clone().into());
        let Ok(manifest) = read else {
            refused += 1;
            continue;
        };
        if said["error"] != Value::Null {
            // Runtimes do not run what they cannot decode.
            undecoded += 1;
            continue;
        }
        let ManifestKind::Index { manifests, .. } = &manifest.kind else {
            panic!("not an index: {shown}");
        };
        let ours: Value = manifests.iter().map(written).collect();
        assert_eq!(
            decoded(&said["entries"]),
            ours,
            "Go reads another index: {shown}"
        );

        let pattern: PlatformPattern = node.parse().unwrap();
        let runnable = manifest.index().unwrap().manifests;
        let checked = runnable.iter().filter(|entry| pattern.matches(entry));
        let checked: Vec<_> = checked.map(|entry| entry.digest.to_string()).collect();
        passed_over += manifests.len() - checked.len();
        for runtime in ["containerd1", "containerd2", "crio"] {
            for entry in said[runtime].as_array().unwrap() {
                picked += 1;
                assert!(
                    checked.iter().any(|checked| entry == checked),
                    "{runtime} on {node} picks {entry}, which is not checked: {shown}"
                );
            }
        }
    }
    println!(
        "{} indexes: {refused} refused, {undecoded} that Go does not decode, {picked} entries picked, {passed_over} passed over",
        asked.len()
    );
    assert!(
        refused > 500 && picked > 1000 && passed_over > 1000,
        "the generator gives too little: {refused} refused, {picked} picked, {passed_over} passed over"
    );
}
