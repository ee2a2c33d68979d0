//! Reading, as a user meets it: by the messages.

mod checking;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    Document, MAXIMUM_BYTES, MAXIMUM_DEPTH, MAXIMUM_PROBLEMS, MAXIMUM_VALUES, Path, Problem, check,
    read,
};

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
        "f.yaml:8:4: d: the alias `*gone` does not refer to an anchor"
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
        ["f.yaml:1:9: a: expected an object or a list of objects after `<<`"]
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
            .contains("the file has more than 500000 values, including those that aliases repeat")
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
        ["f: the file is larger than 16 MiB; split it"]
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

#[test]
fn numbers_are_those_of_yaml_and_everything_else_is_a_text() {
    for (written, read) in [
        (".5", json!(0.5)),
        ("5.", json!(5.0)),
        ("+1e3", json!(1000.0)),
        ("-1.5E-1", json!(-0.15)),
        ("01.5", json!(1.5)),
        ("0b101", json!(5)),
        ("-0x1f", json!(-31)),
        ("-9223372036854775808", json!(i64::MIN)),
        ("18446744073709551616", json!(18_446_744_073_709_551_616.0)),
        (".", json!(".")),
        ("1e", json!("1e")),
        ("1e+", json!("1e+")),
        ("e1", json!("e1")),
        ("1.2e3.4", json!("1.2e3.4")),
        ("1e999", json!("1e999")),
        ("infinity", json!("infinity")),
        ("--1", json!("--1")),
        ("0x", json!("0x")),
        ("0x+5", json!("0x+5")),
        ("0b2", json!("0b2")),
        ("0o8", json!("0o8")),
    ] {
        assert_eq!(
            value(&format!("a: {written}")),
            json!({ "a": read }),
            "{written}"
        );
    }
}

#[test]
fn a_tag_is_one_that_kubernetes_knows_and_that_fits_its_value() {
    for (written, read) in [
        ("!!null ~", Some(json!(null))),
        ("!!null x", None),
        ("!!bool true", Some(json!(true))),
        ("!!bool 1", None),
        ("!!int -7", Some(json!(-7))),
        ("!!int 18446744073709551615", Some(json!(u64::MAX))),
        ("!!int 1.5", None),
        ("!!float 1", Some(json!(1))),
        ("!!float x", None),
        ("! 12", Some(json!("12"))),
        ("!!str 12", Some(json!("12"))),
        ("!!binary eA==", None),
        ("!!map {b: 1}", Some(json!({"b": 1}))),
        ("!!seq [1]", Some(json!([1]))),
        ("! [1]", Some(json!([1]))),
        ("!!set {b: }", None),
        ("!!map [1]", None),
        ("!custom {b: 1}", None),
    ] {
        let text = format!("a: {written}\n---\nnext: 1\n");
        let (documents, problems) = read_yaml(&text);
        let expected = read.map(|read| json!({ "a": read }));
        assert_eq!(
            problems.is_empty(),
            expected.is_some(),
            "{written}: {problems:?}"
        );
        let next = Some(json!({"next": 1}));
        assert_eq!(
            documents,
            expected.into_iter().chain(next).collect::<Vec<_>>(),
            "{written}"
        );
    }
}

fn read_yaml(text: &str) -> (Vec<Value>, Vec<String>) {
    let (documents, problems) = read("f.yaml", text.as_bytes());
    let values = documents.into_iter().map(|document| document.value);
    (values.collect(), shown(&problems))
}

#[test]
fn keys_can_be_anchors_and_aliases_of_texts() {
    assert_eq!(value("&k a: 1\nb: *k\n"), json!({"a": 1, "b": "a"}));
    assert_eq!(value("a: &k b\n*k : 1\n"), json!({"a": "b", "b": 1}));
    assert_eq!(
        problems("a: &k [1]\n*k : 1\n"),
        ["f.yaml:2:1: a key must be a text"]
    );
}

#[test]
fn only_objects_are_merged() {
    assert_eq!(
        problems("a: {<<: [{b: 1}, 2]}"),
        ["f.yaml:1:9: a: expected an object or a list of objects after `<<`"]
    );
    assert_eq!(value("a: {<<: [], b: 1}"), json!({"a": {"b": 1}}));
}

#[test]
fn as_many_problems_are_said_as_help_and_then_reading_ends() {
    let tags = format!(
        "a: [{}]\n---\nb: 1\n",
        "!x 1, ".repeat(MAXIMUM_PROBLEMS + 1)
    );
    assert_eq!(read_yaml(&tags).1.len(), MAXIMUM_PROBLEMS);
    let documents = format!("{}a: 1\n", "b: [1, }\n---\n".repeat(MAXIMUM_PROBLEMS));
    let (values, problems) = read_yaml(&documents);
    assert_eq!((values, problems.len()), (vec![], MAXIMUM_PROBLEMS));

    let wrong = format!("items: [{}]", "7, ".repeat(MAXIMUM_PROBLEMS + 50));
    assert_eq!(checking::refused(&wrong).len(), MAXIMUM_PROBLEMS);
}

#[test]
fn what_reaches_a_limit_is_read_and_what_exceeds_it_is_not() {
    let accepted = |file: &str, text: &str| {
        let (documents, problems) = read(file, text.as_bytes());
        assert_eq!(documents.len() + problems.len(), 1, "{problems:?}");
        problems.is_empty()
    };
    let spaces = |bytes: usize| format!("{{}}{}", " ".repeat(bytes - 2));
    let nested = |levels: usize| format!("{}7{}", "[".repeat(levels), "]".repeat(levels));
    let in_blocks = |levels: usize| format!("{}7", "- ".repeat(levels));
    let zeros = |values: usize| format!("[{}0]", "0,".repeat(values - 2));
    // Two objects' keys, a list of 1,000 values with its anchor's copy, 497 further copies, and the rest.
    let repeated = |values: usize| {
        let rest = values - 499_003;
        let list = format!("[{}0]", "0,".repeat(998));
        format!(
            "a: &a {list}\nb: [{}{}0]\n",
            "*a ,".repeat(497),
            "0,".repeat(rest - 2)
        )
    };
    for (name, file, limit, text) in [
        (
            "bytes",
            "f.json",
            MAXIMUM_BYTES,
            &spaces as &dyn Fn(usize) -> String,
        ),
        ("depth", "f.json", MAXIMUM_DEPTH, &nested),
        ("depth", "f.yaml", MAXIMUM_DEPTH, &in_blocks),
        ("values", "f.json", MAXIMUM_VALUES, &zeros),
        ("values", "f.yaml", MAXIMUM_VALUES, &repeated),
    ] {
        assert!(accepted(file, &text(limit)), "{name} in {file}");
        assert!(!accepted(file, &text(limit + 1)), "{name} in {file}");
    }
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
        let schema = schemars::schema_for!(checking::Spec);
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
