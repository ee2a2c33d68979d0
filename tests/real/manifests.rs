//! Manifests as `kubectl` reads them, with its own library (`k8s.io/cli-runtime`): every image that it finds in an object is
//! seen by the gate as well, or the input is refused.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use promotion_gate::admission;
use serde_json::Value;

use crate::support::{command, run};

/// What `kubectl` would apply of some input, and why its reading ended early.
struct Reading {
    objects: Vec<Value>,
    error: Option<String>,
}

fn read_by_kubectl(inputs: &[Vec<u8>]) -> Vec<Reading> {
    let home = tempfile::tempdir().unwrap();
    let mut asked = Vec::new();
    for input in inputs {
        asked.extend(format!("{}\n", input.len()).into_bytes());
        asked.extend(input);
    }
    let output = run(&mut command("manifests", home.path()), &asked).ok();
    let readings = output.lines().map(|line| {
        let mut answer: Value = serde_json::from_str(line).unwrap();
        let error = answer["error"].as_str().map(str::to_owned);
        let objects = match answer["objects"].take() {
            Value::Array(objects) => objects,
            _ => Vec::new(),
        };
        Reading { objects, error }
    });
    readings.collect()
}

/// The images that `promotion-gate images` lists; `None` where it refuses the input.
fn read_by_us(input: &[u8]) -> Option<BTreeSet<String>> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_promotion-gate"))
        .args(["images", "--output", "json", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A reader that refuses may go away before the end.
    stdin.write_all(input).ok();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let image = |line: &str| {
        let described: Value = serde_json::from_str(line).unwrap();
        described["image"].as_str().unwrap().to_owned()
    };
    (output.status.code() == Some(0)).then(|| text.lines().map(image).collect())
}

fn images(objects: &[Value]) -> BTreeSet<String> {
    let found = objects.iter().filter_map(admission::images);
    found
        .flat_map(|found| found.fields)
        .map(|field| field.written)
        .collect()
}

/// Holds both readings of each input against each other; how many were refused, and how many images were seen.
#[track_caller]
fn hold_against_kubectl(inputs: &[Vec<u8>]) -> (usize, usize) {
    let readings = read_by_kubectl(inputs);
    assert_eq!(readings.len(), inputs.len());
    let (mut refused, mut seen) = (0, 0);
    for (input, reading) in inputs.iter().zip(readings) {
        let Some(ours) = read_by_us(input) else {
            refused += 1;
            continue;
        };
        let theirs = images(&reading.objects);
        seen += theirs.len();
        let unseen: Vec<_> = theirs.difference(&ours).collect();
        assert!(
            unseen.is_empty(),
            "kubectl reads {unseen:?} ({:?}) in\n{}",
            reading.error,
            String::from_utf8_lossy(input)
        );
    }
    (refused, seen)
}

#[test]
fn no_image_that_kubectl_reads_in_odd_manifests_is_missed() {
    let mut inputs = Vec::new();
    let evil = "evil.example/miner";
    let head = "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n";
    let container = format!("{head}spec:\n  containers:\n  - name: a\n    image: good.example/a\n");
    for line_break in [
        "\n", "\r\n", "\r", "\u{85}", "\u{2028}", "\u{2029}", "\u{b}", "\u{c}", "\u{0}", "\t\n",
    ] {
        for before in ["", " #", " # note", "\"", "'", " |", " >", "\\"] {
            inputs.push(format!(
                "{container}  # a{before}{line_break}  - name: b{line_break}    image: {evil}\n"
            ));
            inputs.push(format!("{container}    command: [a]{before}{line_break}  - name: b{line_break}    image: {evil}\n"));
            inputs.push(format!("{container}{before}---{line_break}{head}spec: {{containers: [{{image: {evil}}}]}}\n"));
            inputs.push(format!("{container}    args: [\"{line_break}---\\n{head}spec: {{containers: [{{image: {evil}}}]}}\"]\n"));
        }
    }
    for separator in [
        "---",
        "--- ",
        "---\t",
        "--- # a",
        "---#a",
        "--- a",
        "----",
        "...",
        "... ",
        "%YAML 1.1\n---",
        "%YAML 1.2\n---",
        "---\n---",
        "\u{feff}---",
        " ---",
        "--- |",
        "--- {}",
    ] {
        inputs.push(format!(
            "{container}{separator}\n{head}spec: {{containers: [{{image: {evil}}}]}}\n"
        ));
        inputs.push(format!(
            "{separator}\n{head}spec: {{containers: [{{image: {evil}}}]}}\n"
        ));
        inputs.push(format!("{head}spec:\n  containers:\n  - args:\n    - |\n{separator}\n{head}spec: {{containers: [{{image: {evil}}}]}}\n"));
    }
    for merge in [
        "<<: *x",
        "\"<<\": *x",
        "'<<': *x",
        "!!merge <<: *x",
        "<<: [*x, *y]",
        "<<: [*y, *x]",
        "<<: *x\n    <<: *y",
        "? <<\n    : *x",
    ] {
        for place in ["before", "after"] {
            let (first, last) = match place {
                "before" => (merge, "image: good.example/a"),
                _ => ("image: good.example/a", merge),
            };
            inputs.push(format!(
                "x: &x {{image: {evil}}}\ny: &y {{image: other.example/b}}\n{head}spec:\n  containers:\n  - name: a\n    {first}\n    {last}\n"
            ));
        }
        inputs.push(format!("x: &x {{image: {evil}}}\ny: &y {{image: other.example/b}}\n{head}spec:\n  containers:\n  - name: a\n    {merge}\n"));
    }
    for (kind, version) in [
        ("ConfigMap", "v1"),
        ("List", "v1"),
        ("PodList", "v1"),
        ("Foo", "example.com/v1"),
        ("Deployment", "apps/v1"),
        ("Secret", "v1"),
    ] {
        for items in [
            "items",
            "Items",
            "ITEMS",
            "\"items\"",
            "'items'",
            "? items\n",
        ] {
            let pod = format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: x}}, spec: {{containers: [{{image: {evil}}}]}}}}"
            );
            let bare =
                format!("{{metadata: {{name: x}}, spec: {{containers: [{{image: {evil}}}]}}}}");
            let nested = format!("{{apiVersion: v1, kind: List, items: [{pod}]}}");
            let empty = bare.replacen('{', "{apiVersion: \"\", kind: \"\", ", 1);
            let null = bare.replacen('{', "{apiVersion: null, kind: 1, ", 1);
            for item in [&pod, &bare, &nested, &empty, &null] {
                inputs.push(format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: l}}\n{items}: [{item}]\n"));
            }
        }
    }
    for key in [
        "image",
        "Image",
        "IMAGE",
        "\"image\"",
        "\"im\\u0061ge\"",
        "\"im\\x61ge\"",
        "!!str image",
        "? image\n      ",
        "&a image",
        "?image",
        "imag\u{435}",
    ] {
        inputs.push(format!("{head}spec:\n  containers:\n  - {key}: {evil}\n"));
        inputs.push(format!("{head}spec: {{containers: [{{{key}: {evil}}}]}}\n"));
        inputs.push(format!(
            "{head}spec: {{containers: [{{image: good.example/a, {key}: {evil}}}]}}\n"
        ));
    }
    for image in [
        "!!str evil.example/miner",
        "!!binary ZXZpbC5leGFtcGxlL21pbmVy",
        "\"evil.example/\\x6diner\"",
        "\"evil.example/\\\n      miner\"",
        "|-\n      evil.example/miner",
        ">-\n      evil.example/miner",
        "&a evil.example/miner",
        "*a",
        "!foo evil.example/miner",
        "'evil.example/miner'",
        "yes",
        "on",
        "1_000",
        "0o17",
        "017",
        "0x1f",
        "1:30",
        "~",
        "null",
        ".inf",
        "2001-01-01",
        "=",
        "<<",
    ] {
        inputs.push(format!(
            "a: &a {evil}\n{head}spec:\n  containers:\n  - name: a\n    image: {image}\n"
        ));
    }
    for duplicate in [
        "spec",
        "\"spec\"",
        "Spec",
        "containers",
        "kind",
        "apiVersion",
    ] {
        inputs.push(format!(
            "{container}{duplicate}: {{containers: [{{image: {evil}}}]}}\n"
        ));
    }
    let json = format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{{\"name\":\"x\"}},\"spec\":{{\"containers\":[{{\"image\":\"{evil}\"}}]}}}}"
    );
    for (before, after) in [
        ("", ""),
        ("", "{}"),
        ("{}", ""),
        ("{}\n", ""),
        ("null ", ""),
        ("[]", ""),
        ("// a\n", ""),
        ("{} # a\n", ""),
        ("{}\n---\n", ""),
        ("a: b\n---\n", ""),
        ("\u{feff}", ""),
        ("\u{a0}", ""),
        ("{}{}\n", ""),
        ("", "\n---\na: b\n"),
    ] {
        inputs.push(format!("{before}{json}{after}"));
        inputs.push(format!("{before}{json}{after}{container}"));
        inputs.push(format!("{before}{json}\n{after}\n{container}"));
    }
    inputs.push(format!("[{json}]"));
    let mut bytes: Vec<Vec<u8>> = inputs.into_iter().map(String::into_bytes).collect();
    let wide = |mark: u16, text: &str, encode: fn(u16) -> [u8; 2]| -> Vec<u8> {
        std::iter::once(mark)
            .chain(text.encode_utf16())
            .flat_map(encode)
            .collect()
    };
    let text = format!("{head}spec: {{containers: [{{image: {evil}}}]}}\n");
    bytes.push(wide(0xfeff, &text, u16::to_le_bytes));
    bytes.push(wide(0xfeff, &text, u16::to_be_bytes));
    let (refused, seen) = hold_against_kubectl(&bytes);
    println!(
        "oddities: {} inputs, {refused} refused, {seen} images seen",
        bytes.len()
    );
    assert!(seen > 150 && refused > 50, "the generator gives too little");
}

#[test]
fn no_image_that_kubectl_reads_in_real_manifests_is_missed() {
    let shared = std::env::var_os("PROMOTION_GATE_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    let mut files: Vec<PathBuf> = Vec::new();
    for corpus in ["corpora/manifests/files", "corpora/documents"] {
        let folder = shared.join(corpus);
        if !folder.is_dir() {
            let corpora = shared.join("corpora");
            assert!(!corpora.exists(), "the corpus {corpus} is missing");
            println!(
                "{corpus}: skipped, because {} does not exist",
                corpora.display()
            );
            continue;
        }
        let mut folders = vec![folder];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path
                    .extension()
                    .is_some_and(|e| e == "yaml" || e == "yml" || e == "json")
                {
                    files.push(path);
                }
            }
        }
    }
    files.sort();
    let inputs: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    let inputs: Vec<_> = inputs
        .into_iter()
        .filter(|input| input.len() < 1 << 20)
        .collect();
    let (refused, seen) = hold_against_kubectl(&inputs);
    println!(
        "corpus manifests (kubectl): {} files, {refused} refused, {seen} images seen",
        inputs.len()
    );
}
