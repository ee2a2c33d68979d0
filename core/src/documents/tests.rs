//! Reading, checking and decoding, as a user meets them: by the messages.

use proptest::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

use super::{Document, MAXIMUM_BYTES, MAXIMUM_DEPTH, Path, Problem, check, decode, read};

fn documents(text: &str) -> Vec<Document> {
    let (documents, problems) = read("f.yaml", text.as_bytes());
    assert_eq!(shown(&problems), Vec::<String>::new(), "{text}");
    documents
}

fn value(text: &str) -> Value {
    documents(text).remove(0).value
}

fn problems(text: &str) -> Vec<String> {
    shown(&read("f.yaml", text.as_bytes()).1)
}

fn shown(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn scalars_are_read_as_kubernetes_reads_them() {
    assert_eq!(
        value(
            "{mode: 0644, no: no, yes: on, t: true, n: ~, e: , i: -7, h: 0x1f, o: 0o17, f: 1.5, big: 18446744073709551615, d: 2026-01-01, v: 1.2.3, u: 1_000, z: 089, s: '0644'}"
        ),
        json!({
            "mode": 420, "no": "no", "yes": "on", "t": true, "n": null, "e": null, "i": -7, "h": 31, "o": 15, "f": 1.5,
            "big": 18_446_744_073_709_551_615_u64, "d": "2026-01-01", "v": "1.2.3", "u": "1_000", "z": "089", "s": "0644"
        })
    );
    assert_eq!(
        value("a: !!str 12\nb: !!int '12'\nc: |\n  x\n  y\n"),
        json!({"a": "12", "b": 12, "c": "x\ny\n"})
    );
}

#[test]
fn every_value_has_its_line_and_column() {
    let all = documents(
        "# first\n\n---\n---\nspec:\n  containers:\n  - name: a\n    image: nginx\n  - {name: b,   image: \"x\"}\n---\na.b: {ü: ö, x: 1}\n",
    );
    assert_eq!(all.len(), 2);
    let position = |path| all[0].position(path);
    assert_eq!(position("spec"), Some((6, 3)));
    assert_eq!(position("spec.containers"), Some((7, 5)));
    assert_eq!(position("spec.containers[0].image"), Some((8, 12)));
    assert_eq!(position("spec.containers[1].image"), Some((9, 24)));
    assert_eq!(position("spec.containers[2].image"), None);
    assert_eq!(all[1].position("[\"a.b\"].x"), Some((11, 16)));
    assert_eq!(all[1].line(), 11);
}

#[test]
fn json_keeps_places_and_reads_what_yaml_does_not() {
    let text = format!(
        "{{\n\t\"a\": [1, {{\"b\": \"\\ud83d\\ude00\"}}],\n\t\"{}\": null\n}}\n{{\"second\": 1}}",
        "k".repeat(2000)
    );
    let (all, problems) = read("f.json", text.as_bytes());
    assert_eq!((all.len(), problems), (2, vec![]));
    assert_eq!(all[0].value["a"], json!([1, {"b": "😀"}]));
    assert_eq!(all[0].position("a[1].b"), Some((2, 17)));
    assert_eq!(all[1].position("second"), Some((5, 12)));
}

#[test]
fn json_with_a_mistake_is_refused_with_its_place() {
    let problems = |text: &str| shown(&read("f.json", text.as_bytes()).1);
    assert_eq!(
        problems("{\"a\": 1, \"a\": 2}"),
        ["f.json:1:10: duplicate key `a`"]
    );
    assert_eq!(
        problems("{\"a\":\n  [1, nope]}"),
        ["f.json:2:7: a[1]: not valid JSON: expected a value"]
    );
    assert_eq!(
        problems("{\"a\": 1"),
        ["f.json:1:8: not valid JSON: expected `,`, the file ends"]
    );
    assert_eq!(
        problems("{\"a\": 01}"),
        ["f.json:1:7: a: not valid JSON: `01` is not a number"]
    );
    assert_eq!(
        problems("{\"a\": \"x"),
        ["f.json:1:7: a: not valid JSON: the text is not closed"]
    );
}

#[test]
fn duplicate_keys_are_problems() {
    assert_eq!(
        problems("spec:\n  a: 1\n  b: {x: 1, x: 2}\n  a: 3\n"),
        [
            "f.yaml:3:13: spec.b.x: duplicate key `x`, first in line 3",
            "f.yaml:4:3: spec.a: duplicate key `a`, first in line 2"
        ]
    );
    assert_eq!(
        problems("{\"a\": 1, \"a\": 2}"),
        ["f.yaml:1:10: a: duplicate key `a`, first in line 1"]
    );
}

#[test]
fn one_bad_document_does_not_hide_the_others() {
    let (all, problems) = read(
        "f.yaml",
        b"a: 1\n---\nb: [1, }\n---\nc: 1\nc: 2\n---\nd: *gone\n---\ne: 1\n",
    );
    assert_eq!(
        all.iter()
            .map(|document| document.value.clone())
            .collect::<Vec<_>>(),
        [json!({"a": 1}), json!({"c": 2}), json!({"e": 1})]
    );
    let shown = shown(&problems);
    assert_eq!(shown.len(), 3, "{shown:?}");
    assert!(
        shown[0].starts_with("f.yaml:3:4: b[1]: not valid YAML: "),
        "{shown:?}"
    );
    assert_eq!(
        shown[1],
        "f.yaml:6:1: c: duplicate key `c`, first in line 5"
    );
    assert_eq!(
        shown[2],
        "f.yaml:8:4: d: the alias `*gone` refers to no anchor"
    );
}

#[test]
fn aliases_and_merges_are_expanded() {
    assert_eq!(
        value(
            "base: &base {a: 1, b: 2}\nx: {<<: *base, b: 3}\ny: {<<: [*base, {c: 4}], k: &k text}\nz: *k\n"
        ),
        json!({"base": {"a": 1, "b": 2}, "x": {"a": 1, "b": 3}, "y": {"a": 1, "b": 2, "c": 4, "k": "text"}, "z": "text"})
    );
    assert_eq!(
        problems("a: {<<: 1}"),
        ["f.yaml:1:9: a: `<<` merges objects; found something else"]
    );
    assert_eq!(
        problems("a: &a [*a]"),
        ["f.yaml:1:8: a[0]: the alias refers to the value that contains it"]
    );
}

#[test]
fn a_billion_laughs_are_stopped() {
    let mut bomb = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..12 {
        let items = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    let problems = problems(&bomb);
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0]
            .contains("the file holds more than 500000 values, those that aliases repeat included")
    );
}

#[test]
fn a_long_text_repeated_by_aliases_is_stopped() {
    let bomb = format!(
        "a: &a {}\nb: [{}]\n",
        "x".repeat(1 << 20),
        vec!["*a"; 100].join(", ")
    );
    assert_eq!(
        problems(&bomb),
        ["f.yaml:2:69: b[16]: aliases repeat more than 16 MiB"]
    );
}

#[test]
fn deep_nesting_is_stopped() {
    for text in [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        "{\"a\":".repeat(100_000),
    ] {
        for name in ["f.yaml", "f.json"] {
            let (all, problems) = read(name, text.as_bytes());
            assert_eq!((all.len(), problems.len()), (0, 1), "{name} {}", &text[..4]);
        }
    }
    let deep = format!(
        "{}{}",
        "[".repeat(MAXIMUM_DEPTH - 1),
        "]".repeat(MAXIMUM_DEPTH - 1)
    );
    assert_eq!(documents(&deep).len(), 1);
}

#[test]
fn what_is_no_text_or_too_large_is_refused() {
    assert_eq!(
        shown(&read("f", b"a: 1\nb: \xff").1),
        ["f:2:4: the file is not UTF-8 text"]
    );
    assert_eq!(
        shown(&read("f", &vec![b' '; MAXIMUM_BYTES + 1]).1),
        ["f: the file is larger than 16 MiB"]
    );
}

#[test]
fn what_json_cannot_say_is_refused() {
    assert_eq!(
        problems("a: .inf"),
        ["f.yaml:1:4: a: `.inf` is not a finite number"]
    );
    assert_eq!(
        problems("a: !custom x"),
        ["f.yaml:1:12: a: the tag `!custom` is not supported"]
    );
    assert_eq!(
        problems("? [a]\n: 1"),
        ["f.yaml:1:3: a key must be a text, not a list or an object"]
    );
    assert_eq!(problems(": 1"), ["f.yaml:1:1: a key is missing before `:`"]);
}

#[test]
fn empty_files_hold_no_documents() {
    for text in [
        "",
        "\n",
        "# only a comment\n",
        "---\n---\n",
        "~",
        "\u{feff}",
    ] {
        assert_eq!(documents(text).len(), 0, "{text:?}");
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    mode: Option<Mode>,
    #[schemars(length(min = 1))]
    items: Vec<Item>,
    #[serde(default)]
    by_colour: BTreeMap<String, Item>,
    glob: Option<Even>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Item {
    issuer: String,
    #[schemars(range(min = 1))]
    count: Option<u32>,
}

#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
enum Mode {
    /// Documented variants make another schema than undocumented ones.
    Enforce,
    /// Warn.
    Warn,
}

#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "u32")]
struct Even(u32);

impl TryFrom<u32> for Even {
    type Error = String;

    fn try_from(number: u32) -> Result<Even, String> {
        if number.is_multiple_of(2) {
            Ok(Even(number))
        } else {
            Err(format!("`{number}` is odd"))
        }
    }
}

fn refused(text: &str) -> Vec<String> {
    shown(&decode::<Spec>(&documents(text)[0]).unwrap_err())
}

#[test]
fn everything_that_the_schema_does_not_allow_is_said_at_once() {
    assert_eq!(
        refused(
            "mode: Enfroce\nitems:\n- isuer: x\n- issuer: 1\n  count: 0\n- text\nbyColour: {red: {issuer: a, extra: 1}}\nbyColor: {}\n"
        ),
        [
            "f.yaml:8:1: byColor: unknown field `byColor`, did you mean `byColour`?",
            "f.yaml:7:29: byColour.red.extra: unknown field `extra`; known are `count`, `issuer`",
            "f.yaml:3:3: items[0].isuer: unknown field `isuer`, did you mean `issuer`?",
            "f.yaml:3:3: items[0]: missing field `issuer`",
            "f.yaml:5:10: items[1].count: `0` is too small; the least is 1",
            "f.yaml:4:11: items[1].issuer: expected a text, found a whole number",
            "f.yaml:6:3: items[2]: expected an object, found a text",
            "f.yaml:1:7: mode: unknown value `Enfroce`; expected one of `Enforce`, `Warn`, did you mean `Enforce`?",
        ]
    );
    assert_eq!(
        refused("mode: [a]\nitems: []\n"),
        [
            "f.yaml:2:8: items: the list is empty",
            "f.yaml:1:7: mode: expected a text, found a list"
        ]
    );
}

#[test]
fn what_a_type_itself_refuses_has_its_place_too() {
    assert_eq!(
        refused("items: [{issuer: a}]\nglob: 3\n"),
        ["f.yaml:2:7: glob: `3` is odd"]
    );
    let text = "items: [{issuer: a, count: null}]\nmode: Warn\nglob: 4\n";
    let spec = decode::<Spec>(&documents(text)[0]).unwrap();
    assert_eq!(
        (spec.items[0].issuer.as_str(), spec.items[0].count),
        ("a", None)
    );
    assert_eq!(
        (spec.mode, spec.by_colour.len(), spec.glob),
        (Some(Mode::Warn), 0, Some(Even(4)))
    );
}

#[test]
fn paths_are_read_as_they_are_written() {
    for written in [
        "spec.a[0][1].b",
        "[0].x",
        "a[\"b.c\"].d",
        "metadata.labels[\"a\\\"b\"]",
        "x[\"\"]",
        "",
    ] {
        assert_eq!(written.parse::<Path>().unwrap().to_string(), written);
    }
    for junk in ["a..b", ".a", "a[", "a[x]", "a[\"b", "[0]a"] {
        assert!(junk.parse::<Path>().is_err(), "{junk}");
    }
}

proptest! {
    #[test]
    fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read("f.yaml", &bytes);
    }

    #[test]
    fn reading_what_looks_like_yaml_never_panics(text in "([a-c]|[-:?,*&!|>{}\\[\\]#'\"%@` \n\t0-9.~<]|\\\\u|---\n|<<: |\\*a|&a ){0,60}") {
        let (all, _) = read("f.yaml", text.as_bytes());
        let schema = schemars::schema_for!(Spec);
        for document in all {
            let _ = check(&document, &schema);
        }
        let _ = read("f.json", text.as_bytes());
    }

    #[test]
    fn json_is_read_as_it_was_written(value in arbitrary_json()) {
        let text = serde_json::to_string_pretty(&value).unwrap();
        let (all, problems) = read("f.json", text.as_bytes());
        prop_assert_eq!(problems, vec![]);
        if !value.is_null() {
            prop_assert_eq!(&all[0].value, &value);
        }
    }
}

fn arbitrary_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".*".prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(".*", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}
