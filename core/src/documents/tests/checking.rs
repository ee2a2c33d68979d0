//! Checking against a schema and decoding, as a user meets them: by the messages.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{documents, shown};
use crate::documents::{check, decode, mistyped, nearest};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Spec {
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

pub(super) fn refused(text: &str) -> Vec<String> {
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
            "f.yaml:5:10: items[1].count: `0` is too small; the minimum is 1",
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
fn what_was_meant_is_near_for_its_length() {
    let long = "a".repeat(64);
    for (written, known, meant) in [
        ("digstPined", "digestPinned", true),
        ("igestPind", "digestPinned", true),
        ("gstPind", "digestPinned", false),
        ("kye", "key", true),
        ("k", "key", false),
        ("KEY", "key", true),
        (long.as_str(), long.as_str(), true),
    ] {
        assert_eq!(nearest(written, [known]).is_some(), meant, "{written}");
    }
    let longer = "a".repeat(65);
    assert_eq!(nearest(&longer, [longer.as_str()]), None);
    assert_eq!(nearest("kez", ["kex", "key"]).as_deref(), Some("kex"));
}

proptest::proptest! {
    #[test]
    fn words_that_are_told_apart_by_letters_are_far_apart(
        written in "[a-eé]{0,8}",
        known in "[a-eé]{0,8}",
        most in 0..4_usize,
    ) {
        let distance = strsim::damerau_levenshtein(&written, &known);
        let expected = (distance <= most).then_some(distance);
        proptest::prop_assert_eq!(mistyped(&written, &known, most), expected);
    }
}

fn complaints(schema: Value, text: &str) -> Vec<String> {
    let schema = schemars::Schema::try_from(schema).unwrap();
    let problems = check(&documents(&format!("x: {text}"))[0], &schema);
    problems
        .into_iter()
        .map(|problem| problem.message)
        .collect()
}

fn assert_complaints(cases: Vec<(Value, &str, &[&str])>) {
    for (schema, text, said) in cases {
        let schema = json!({"properties": {"x": schema}});
        assert_eq!(complaints(schema.clone(), text), said, "{schema} {text}");
    }
}

#[test]
fn a_value_of_another_type_than_the_schema_says_is_refused() {
    assert_complaints(vec![
        (json!(true), "1", &[]),
        (json!(false), "1", &["nothing is allowed here"]),
        (
            json!({"type": "null"}),
            "1",
            &["expected nothing, found a whole number"],
        ),
        (
            json!({"type": "boolean"}),
            "~",
            &["expected `true` or `false`, found nothing"],
        ),
        (
            json!({"type": "integer"}),
            "1.5",
            &["expected a whole number, found a number"],
        ),
        (
            json!({"type": "number"}),
            "true",
            &["expected a number, found `true`"],
        ),
        (json!({"type": "number"}), "1", &[]),
        (
            json!({"type": ["array", "null"]}),
            "{}",
            &["expected a list, found an object"],
        ),
        (json!({"type": ["array", "null"]}), "~", &[]),
    ]);
}

#[test]
fn a_value_beyond_the_limits_of_the_schema_is_refused() {
    assert_complaints(vec![
        (json!({"minItems": 1}), "[]", &["the list is empty"]),
        (
            json!({"minItems": 2}),
            "[1]",
            &["the list has 1 items; expected at least 2"],
        ),
        (json!({"minItems": 2, "maxItems": 2}), "[1, 2]", &[]),
        (
            json!({"maxItems": 2}),
            "[1, 2, 3]",
            &["the list has 3 items; expected at most 2"],
        ),
        (json!({"minLength": 1}), "''", &["the text is empty"]),
        (
            json!({"minLength": 2}),
            "ü",
            &["the text has 1 characters; expected at least 2"],
        ),
        (json!({"minLength": 2, "maxLength": 2}), "üü", &[]),
        (
            json!({"maxLength": 2}),
            "abc",
            &["the text has 3 characters; expected at most 2"],
        ),
        (
            json!({"minimum": 1}),
            "0.5",
            &["`0.5` is too small; the minimum is 1"],
        ),
        (json!({"minimum": 1, "maximum": 1}), "1", &[]),
        (
            json!({"maximum": 1}),
            "2",
            &["`2` is too large; the maximum is 1"],
        ),
        (json!({"const": "a"}), "b", &["expected `a`, found `b`"]),
        (
            json!({"enum": [1, 2]}),
            "b",
            &["expected a whole number, found a text"],
        ),
    ]);
}

#[test]
fn missing_and_unknown_fields_are_refused() {
    let names: Vec<_> = (0..13).map(|number| format!("field{number}x")).collect();
    let many: serde_json::Map<_, _> = names.iter().map(|name| (name.clone(), json!({}))).collect();
    let closed =
        |properties: Value| json!({"properties": properties, "additionalProperties": false});
    assert_complaints(vec![
        (json!({"required": ["a"]}), "{}", &["missing field `a`"]),
        (
            closed(json!({})),
            "{a: 1}",
            &["unknown field `a`; no fields are expected here"],
        ),
        (
            closed(json!({"abc": {}})),
            "{x: 1}",
            &["unknown field `x`; known are `abc`"],
        ),
        (closed(json!(many)), "{x: 1}", &["unknown field `x`"]),
        (json!({"propertyNames": {"enum": ["a"]}}), "{a: 1}", &[]),
        (
            json!({"propertyNames": {"enum": ["a"]}}),
            "{xyz: 1}",
            &["unknown field `xyz`; known are `a`"],
        ),
    ]);
}

#[test]
fn every_alternative_of_the_schema_is_held_against_the_document() {
    let either = json!({"anyOf": [
        {"type": "object", "required": ["a", "b"]}, {"type": "object", "required": ["a"]},
        {"type": "string"},
    ]});
    assert_complaints(vec![
        (
            json!({"allOf": [{"minLength": 9}, {"maxLength": 1}]}),
            "abc",
            &[
                "the text has 3 characters; expected at least 9",
                "the text has 3 characters; expected at most 1",
            ],
        ),
        (either.clone(), "{}", &["missing field `a`"]),
        (either.clone(), "text", &[]),
        (
            either,
            "1",
            &["expected an object or a text, found a whole number"],
        ),
        (
            json!({"anyOf": [{"type": "object", "required": ["a"]}, {"type": "object", "required": ["b"]}]}),
            "{}",
            &["missing field `a`"],
        ),
        (
            json!({"anyOf": [
                {"anyOf": [{"type": "string"}, {"type": "array"}]}, {"type": "object", "required": ["a"]},
            ]}),
            "{}",
            &["missing field `a`"],
        ),
        (
            json!({"anyOf": [
                {"anyOf": [{"type": "string"}, {"type": "array"}]}, {"type": "object", "required": ["a"]},
            ]}),
            "1",
            &["expected a list or an object or a text, found a whole number"],
        ),
        (
            json!({"anyOf": [{"minimum": 5}]}),
            "1",
            &["`1` is too small; the minimum is 5"],
        ),
        (
            json!({"oneOf": [{"const": 1}, {"type": "null"}]}),
            "x",
            &["expected a whole number, found a text"],
        ),
    ]);
}

#[test]
fn a_schema_that_refers_to_itself_is_followed_to_an_end() {
    for (schema, complained) in [
        (json!({"$ref": "#"}), false),
        (json!({"allOf": [{"$ref": "#"}]}), false),
        (json!({"anyOf": [{"$ref": "#"}]}), false),
        (
            json!({"properties": {"x": {"anyOf": [{"$ref": "#/a"}]}}, "a": {"minimum": 9, "$ref": "#/a"}}),
            true,
        ),
        (json!({"oneOf": [{"anyOf": [{"$ref": "#"}]}]}), false),
        (
            json!({"properties": {"x": {"$ref": "#/a"}}, "a": {"type": "string", "allOf": [{"$ref": "#/a"}]}}),
            true,
        ),
        (
            json!({"properties": {"x": {"anyOf": [{"$ref": "#/a"}]}}, "a": {"anyOf": [{"$ref": "#/a"}, {"type": "string"}]}}),
            false,
        ),
    ] {
        assert_eq!(
            !complaints(schema.clone(), "1").is_empty(),
            complained,
            "{schema}"
        );
    }
}
