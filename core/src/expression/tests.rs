//! Tests of expressions: what they mean, what is refused, and that what takes much work is stopped.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use super::*;

const VARIABLES: &[(&str, Declared)] = &[
    ("status", Declared::Plain),
    ("body", Declared::Anything),
    ("id", Declared::Plain),
];

fn compiled(source: &str) -> Expression {
    Expression::compile(source, VARIABLES).unwrap_or_else(|faults| panic!("{faults:?}: {source}"))
}

fn faults(source: &str) -> Vec<String> {
    let refused = Expression::compile(source, VARIABLES).expect_err(source);
    refused.iter().map(ToString::to_string).collect()
}

fn evaluated(source: &str, body: &Value) -> Result<Value, NotEvaluated> {
    let (status, id) = (json!(200), json!("INC1"));
    let variables = [("status", &status), ("body", body), ("id", &id)];
    compiled(source).evaluate(&variables.map(|(name, value)| (name, value.into())))
}

fn value(source: &str) -> Value {
    evaluated(source, &body()).unwrap_or_else(|why| panic!("{why}: {source}"))
}

fn failed(source: &str) -> String {
    evaluated(source, &body()).expect_err(source).to_string()
}

fn body() -> Value {
    json!({
        "result": [{"number": "INC0", "priority": "3"}, {"number": "INC1", "priority": "1"}],
        "count": 2, "big": 18_446_744_073_709_551_615_u64, "part": 1.5, "none": null, "open": true,
    })
}

#[test]
fn expressions_mean_what_cel_says() {
    for (source, expected) in [
        ("status == 200 && id == 'INC1'", json!(true)),
        (
            "body.result.filter(r, r.number == id).map(r, r.priority)",
            json!(["1"]),
        ),
        (
            "body.result.map(r, r.number == id, 'P' + r.priority)",
            json!(["P1"]),
        ),
        ("body.result.exists(r, r.number == 'INC0')", json!(true)),
        (
            "body.result.all(r, r.number.startsWith('INC'))",
            json!(true),
        ),
        ("body.result.exists_one(r, r.priority == '1')", json!(true)),
        ("has(body.result) && !has(body.other)", json!(true)),
        ("body.count + 1", json!(3)),
        ("body.count == 2.0", json!(true)),
        ("body.big > 1u", json!(true)),
        ("body.part * 2.0", json!(3.0)),
        (
            "body.none == null ? {'open': body.open, 'list': [1, 'a']} : null",
            json!({"open": true, "list": [1, "a"]}),
        ),
        (
            "size(body.result) == 2 && body.result.size() == 2",
            json!(true),
        ),
        ("type(body.open) == bool", json!(true)),
        ("int('42') + size('äö')", json!(44)),
        ("'6' in ['6', '7']", json!(true)),
        (
            "body.result[1].number.endsWith('1') && 'abc'.contains('b')",
            json!(true),
        ),
        // An operand that decides hides the error of the other one.
        ("body.missing == 1 || true", json!(true)),
        (
            "[1, 2].exists(n, body.result[n - 1].number == 'INC0' || body.result[n].number == '')",
            json!(true),
        ),
        (
            "[[1, 2], [3]].map(l, l.map(n, n * 2))",
            json!([[2, 4], [6]]),
        ),
    ] {
        assert_eq!(value(source), expected, "{source}");
    }
}

#[test]
fn times_and_lengths_of_time_are_compared_added_and_subtracted() {
    let now: Timestamp = "2026-11-28T14:31:00Z".parse().unwrap();
    let holds = |source: &str| {
        let expression = Expression::compile(source, &[("now", Declared::Plain)]).unwrap();
        expression.evaluate(&[("now", Variable::Time(now))])
    };
    for source in [
        "now == timestamp('2026-11-28T15:31:00+01:00')",
        "now > timestamp('2026-11-27T00:00:00Z') && now != timestamp('2026-11-27T00:00:00Z')",
        "now - timestamp('2026-11-28T13:31:00Z') == duration('1h')",
        "now - duration('1d') < now && now + duration('1h30m') > now",
        "duration('1h') + now == now + duration('60m')",
        "duration('7d') - duration('24h') > duration('5d') + duration('12h')",
        "[duration('1s'), duration('2s')].exists(d, d == duration('2s'))",
    ] {
        assert_eq!(holds(source), Ok(json!(true)), "{source}");
    }
    for (source, expected) in [
        (
            "timestamp('yesterday') < now",
            "`timestamp`: expected a time with an offset, such as `2026-11-28T14:31:00Z`",
        ),
        (
            "duration('a while') < now - now",
            "`duration`: expected a length of time, such as `90s`, `24h`, `1h30m` or `7d`",
        ),
        (
            "now + duration('99999999h')",
            "`timestamp`: the result is not between the years 1 and 9999",
        ),
        (
            "now",
            "the result holds a value of the type `timestamp`, which JSON does not have",
        ),
    ] {
        let why = holds(source).expect_err(source).to_string();
        assert_eq!(why, expected, "{source}");
    }
    for source in ["now < 1", "now + now", "now - 1", "1 < duration('1h')"] {
        assert!(holds(source).is_err(), "{source}");
    }
}

#[test]
fn a_pattern_matches_a_part_of_a_text_unless_it_is_anchored() {
    for (source, expected) in [
        ("'INC0042'.matches('C[0-9]+')", true),
        ("'INC0042'.matches('^C[0-9]+')", false),
        ("id.matches('^INC[0-9]+$') && !id.matches('CHG')", true),
        (
            "body.result.all(r, r.number.matches('^INC') && r.priority.matches('^[1-3]$'))",
            true,
        ),
    ] {
        assert_eq!(value(source), json!(expected), "{source}");
    }
    assert_eq!(
        failed("status.matches('2')"),
        "`matches`: expected a text on its left"
    );
    assert_eq!(
        faults("true || 'a'.matches('a' + 'b')"),
        ["line 1, column 25: the pattern of `matches` has to be a text in quotes"]
    );
}

#[test]
fn an_expression_knows_which_variables_it_uses() {
    let expression = compiled("body.result.exists(id, id == status) && 'id'.matches('body')");
    assert!(expression.uses("body") && expression.uses("status"));
    assert!(!expression.uses("id"));
}

#[test]
fn json_with_too_many_values_is_refused_before_it_is_kept() {
    let read =
        |text: String| read_json(&RawValue::from_string(text).unwrap(), &mut Work::default());
    let many = format!("[{}]", vec!["0"; MAXIMUM_VALUES + 1].join(","));
    let nested = format!("{}{}", "[".repeat(100), "]".repeat(100));
    for text in [many, nested] {
        assert!(matches!(read(text), Err(NotEvaluated::TooLarge(_))));
    }
    // Commas and brackets in texts are no values.
    let text = format!("\"{}\\\"[\"", ",[".repeat(MAXIMUM_VALUES));
    assert!(read(text).is_ok());
}

#[test]
fn evaluations_that_belong_together_have_one_limit() {
    let list: Vec<_> = (0..1000).collect();
    let body = json!({ "list": list });
    let burns = compiled("body.list.all(a, body.list.all(b, a + b >= 0))");
    let light = compiled("body.list.size() == 1000");
    let mut work = Work::default();
    let variables = [("body", Variable::from(&body))];
    for _ in 0..3 {
        let result = burns.evaluate_within(&variables, &mut work);
        assert_eq!(result, Err(NotEvaluated::TooMuchWork));
        assert_eq!(
            light.evaluate_within(&variables, &mut work),
            Ok(json!(true))
        );
    }
    assert!(!work.is_spent());
    assert!(burns.evaluate_within(&variables, &mut work).is_err());
    assert!(work.is_spent());
    assert!(light.evaluate_within(&variables, &mut work).is_err());
    let read = read_json(&RawValue::from_string("1".to_owned()).unwrap(), &mut work);
    assert_eq!(read, Err(NotEvaluated::TooMuchWork));
    assert_eq!(light.evaluate(&variables), Ok(json!(true)));
}

/// The library goes through the keys of a map in any order, and two replicas have to give the same answer.
#[test]
fn the_keys_of_a_map_come_in_one_order() {
    let names: Vec<_> = (0..50).map(|index| format!("k{index:02}")).collect();
    let map: serde_json::Map<_, _> = names.iter().map(|it| (it.clone(), json!(1))).collect();
    let body = json!({ "map": map });
    assert_eq!(evaluated("body.map.map(k, k)", &body), Ok(json!(names)));
    assert_eq!(
        evaluated("body.map.filter(k, k != 'k00')[0]", &body),
        Ok(json!("k01"))
    );
    assert_eq!(
        evaluated("{2: 'a', 10: 'b', -1: 'c'}.map(k, k)", &body),
        Ok(json!([-1, 2, 10]))
    );
    assert_eq!(
        evaluated("body.map.all(k, body.map[k] == 1)", &body),
        Ok(json!(true))
    );
}

#[test]
fn values_of_two_types_are_not_equal_and_not_compared() {
    let body = json!({"critical": "1", "none": null});
    for (source, expected) in [
        ("body.critical == 1", false),
        ("body.critical != 1", true),
        ("type(body.critical) == int && body.critical != 1", false),
        ("body.none == 0", false),
        ("1 == 1.0", true),
    ] {
        assert_eq!(evaluated(source, &body), Ok(json!(expected)), "{source}");
    }
    for source in ["body.critical < 1", "body.critical + 1", "body.none < 1"] {
        assert!(evaluated(source, &body).is_err(), "{source}");
    }
}

#[test]
fn an_evaluation_that_fails_says_why() {
    for (source, expected) in [
        (
            "body.missing",
            "there is no field `missing` (line 1, column 5); test it with `has(…)` first",
        ),
        (
            "body.missing == 1 || body.missing == 2",
            "there is no field `missing`; test it with `has(…)` first",
        ),
        (
            "body.result[7]",
            "a list has fewer items than the expression asks for",
        ),
        (
            "body.count == 0 && body.count",
            "`&&` cannot be applied to `bool`, `int`",
        ),
        (
            "'a' + 1",
            "an operator cannot be applied to these types of values",
        ),
        ("1 / 0", "a division by zero"),
        ("9223372036854775807 + 1", "a number is too large"),
        (
            "int('x')",
            "`int`: string parse error: invalid digit found in string",
        ),
        ("body.count.map(x, x)", "expected `iterable`, found `int`"),
        (
            "bytes('a')",
            "the result holds a value of the type `bytes`, which JSON does not have",
        ),
        (
            "1.0 / 0.0",
            "the result holds a number that JSON does not have",
        ),
    ] {
        let expected = match source.starts_with("body.count == 0") {
            // `false && 2` is false; the operator fails only where the left side is true.
            true => continue,
            false => expected,
        };
        assert_eq!(failed(source), expected, "{source}");
    }
}

const DECLARED: &[(&str, Declared)] = &[
    (
        "object",
        Declared::Map(&[("name", Declared::Plain), ("labels", Declared::Labels)]),
    ),
    (
        "images",
        Declared::List(&Declared::Record(&["tag", "digest"])),
    ),
    ("body", Declared::Anything),
    ("change", Declared::Record(&["kind"])),
];

fn compile(source: &str) -> Result<Expression, Vec<ExpressionFault>> {
    Expression::compile(source, DECLARED)
}

/// Asserts that one mistake of each expression is about the field beside it, and that no message follows from another one.
fn assert_no_such_field(cases: &[(&str, &str)]) {
    for (source, field) in cases {
        let refused = compile(source).expect_err(source);
        let message = format!("there is no field `{field}`");
        let [only] = refused.as_slice() else {
            panic!("{source}: {refused:?}");
        };
        assert!(only.message.starts_with(&message), "{source}: {only}");
    }
}

#[test]
fn a_field_that_no_value_has_is_a_mistake_also_where_has_asks_for_it() {
    assert_no_such_field(&[
        ("!has(object.lables)", "lables"),
        ("object['lables'].x == 'y'", "lables"),
        ("!('lables' in object)", "lables"),
        ("!has(object.labels.team.name)", "name"),
        ("!has(object.name.first)", "first"),
        ("images.all(i, !has(i.tagg))", "tagg"),
        ("images[0].tagg == 'x'", "tagg"),
        ("images.map(i, i.tagg) == []", "tagg"),
        (
            "images.filter(i, has(i.tag)).all(i, !has(i.digset))",
            "digset",
        ),
        (
            "object.labels.all(l, images.all(l, !has(l.digset)))",
            "digset",
        ),
        ("object.all(key, !has(key.name))", "name"),
        ("!has((body.ok ? object : object).lables)", "lables"),
        ("images.map(i, i).all(i, !has(i.tagg))", "tagg"),
    ]);
    // Each place is told.
    let twice = compile("!has(object.lables) || object.lables.x == 1");
    assert_eq!(twice.unwrap_err().len(), 2);
    let refused = compile("'prod' in object.name").unwrap_err();
    assert!(
        refused[0].message.contains("`contains` looks in a text"),
        "{refused:?}"
    );
    assert_eq!(
        compile("body.ok &&\n  has(images[0].tga)")
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        [
            "line 2, column 6: there is no field `tga`, did you mean `tag`?; known are `tag`, `digest`"
        ]
    );
    for source in [
        "has(object.labels.any) && object.labels['a/b'] == 'x'",
        "'any' in object.labels && 'labels' in object",
        "images.exists(i, has(i.tag) && i.digest != '')",
        "has(body.any.thing) && body['other'].all(b, b.more)",
        "body.all(object, has(object.any))",
    ] {
        assert!(compile(source).is_ok(), "{source}");
    }
}

#[test]
fn a_misspelt_field_of_what_a_list_literal_holds_is_a_mistake() {
    assert_no_such_field(&[
        ("[object].all(o, !has(o.lables))", "lables"),
        ("[images[0], images[1]].exists(i, !has(i.tagg))", "tagg"),
        ("!has([object][0].lables)", "lables"),
        ("!has([1, object.name][0].tag)", "tag"),
        ("[[object], []].all(l, l.all(o, !has(o.lables)))", "lables"),
        ("[images, [images[0]]].all(l, !has(l[0].tagg))", "tagg"),
        (
            "([object] + [object]).exists(o, !('lables' in o))",
            "lables",
        ),
        ("(images + [images[0]]).all(i, !has(i.tagg))", "tagg"),
        ("(body.ok ? [] : images).all(i, !has(i.tagg))", "tagg"),
        // Neither kind of item has it.
        ("[object, change].all(x, !has(x.lables))", "lables"),
        ("[object, 'text'].all(x, !has(x.lables))", "lables"),
    ]);
    for source in [
        // One kind of item has it, or may have it.
        "[object, change].all(x, has(x.labels) || x.kind == 'deploy')",
        "[object.labels, object].all(x, !has(x.lables))",
        "[body, object].all(x, !has(x.lables))",
        "[body.x, 'text'].all(x, !has(x.lables))",
        "[].all(x, !has(x.lables) && 'a' in x)",
        "[[]].all(x, x.all(y, has(y.a.b)))",
        "'lables' in ['lables']",
        "'lables' in (body.ok ? ['lables'] : object)",
        "'lables' in images.map(i, i.tag)",
    ] {
        assert!(compile(source).is_ok(), "{source}");
    }
}

#[test]
fn a_misspelt_field_of_what_a_map_literal_holds_is_a_mistake() {
    assert_no_such_field(&[
        ("!has({'a': object}.a.lables)", "lables"),
        ("!has({'a': object}['a'].lables)", "lables"),
        ("!has({'a': object}.b)", "b"),
        ("!('b' in {'a': object})", "b"),
        ("!has({}.a)", "a"),
        ("!has({'a': {'b': images}}.a.b[0].tagg)", "tagg"),
        // Whichever entry it is.
        (
            "['a', body.x].all(k, !has({'a': object}[k].lables))",
            "lables",
        ),
        ("!has({object.name: object}.any.lables)", "lables"),
        ("!has({1: object}[1].lables)", "lables"),
        ("{'a': object}.all(k, !has(k.lables))", "lables"),
        (
            "[{'a': object}, {'a': images[0]}].all(m, !has(m.a.lables))",
            "lables",
        ),
    ]);
    for source in [
        "{'a': object}.a.labels.any == 'x' && 'a' in {'a': 1}",
        "{'a': object, 'b': change}[body.x].kind == 'deploy'",
        "{object.name: 1}.any == 1 && has({1: 1}.any)",
        "[{'a': object}, {'b': change}].exists(m, has(m.b) && m.b.kind == 'x' || has(m.a.labels.x))",
        "{'prod': 3, 'dev': 1}[object.name] > 2",
    ] {
        assert!(compile(source).is_ok(), "{source}");
    }
}

#[test]
fn a_misspelt_field_behind_a_macro_or_a_condition_is_a_mistake() {
    assert_no_such_field(&[
        ("images.exists_one(i, !has(i.tagg))", "tagg"),
        ("images.map(i, has(i.tag), i.tagg) == []", "tagg"),
        ("images.map(i, !has(i.tagg), i.tag) == []", "tagg"),
        ("images.map(i, [i, i]).all(l, !has(l[1].tagg))", "tagg"),
        ("images.map(i, {'of': i}).all(m, !has(m.of.tagg))", "tagg"),
        (
            "images.map(i, true, object).all(o, !has(o.lables))",
            "lables",
        ),
        (
            "images.map(i, images.filter(j, j.tag == i.tag)).all(l, l.all(j, !has(j.tagg)))",
            "tagg",
        ),
        // Kinds that differ, of which none has it.
        ("!has((body.ok ? object : images[0]).lables)", "lables"),
        ("!has((body.ok ? object : null).lables)", "lables"),
        ("!has(dyn(object).lables)", "lables"),
        // A loop over a map is one over its keys, which are texts.
        ("object.filter(k, true).all(k, !has(k.lables))", "lables"),
        ("object.map(k, object[k]).all(v, !has(v.lables.x))", "x"),
        // Keys that the expression names elsewhere.
        ("['lables'].all(k, !(k in object))", "lables"),
        ("!((body.ok ? 'lables' : 'lable') in object)", "lables"),
        ("['lables', 'tagg'].exists(k, object[k] == 'x')", "lables"),
        ("object.all(k, k in change)", "name"),
        // A list and the results of functions have no fields.
        ("!has(images.tag) || images.size() == 0", "tag"),
        ("!has(string(body.x).tag)", "tag"),
        ("!has((body.n + 1 > 2).tag)", "tag"),
        ("!has(('a' + 'b').tag)", "tag"),
        ("!has((has(object.labels)).any)", "any"),
        // Nothing follows from what is a mistake already.
        ("(body.ok ? object.lables : object).any == 1", "lables"),
    ]);
    for source in [
        "images.exists_one(i, has(i.tag)) && images.map(i, has(i.tag), i.tag) == []",
        "has((body.ok ? object : images[0]).labels)",
        "has((body.ok ? object.labels : {}).any)",
        "!has((body.ok ? body : object).lables)",
        "has(dyn(body).lables) && has(dyn(object).labels)",
        "images.map(i, body.of[i.tag]).all(x, !has(x.lables))",
        "object.all(k, k in ['name', 'labels'])",
        "['lables', 'labels'].exists(k, k in object)",
        "('lab' + 'els') in object && object['lab' + 'els'].x == 'y'",
        "images.map(i, i.tag).exists(t, t in object.labels)",
        "body.list.map(x, x).all(x, has(x.any.thing))",
        "(body.list + ['a']).all(x, has(x.any.thing))",
        // A list or a map, as well as a text.
        "'any' in (body.ok ? object.labels : 'text')",
        "'any' in (body.ok ? ['x'] : 'text')",
        // What is unknown, as well as a text or a map.
        "[{'a': 'text'}, {'a': body.x}].all(m, 'y' in m.a && m.a in object)",
        "[{'a': object}, {'a': body.x}].all(m, has(m.a.lables) || has(m.a.labels.x.y))",
    ] {
        assert!(compile(source).is_ok(), "{source}: {:?}", compile(source));
    }
}

#[test]
fn a_variable_of_a_loop_hides_one_of_the_same_name_only_within_the_loop() {
    assert_no_such_field(&[
        ("images.all(object, !has(object.labels))", "labels"),
        ("images.all(object, true) && !has(object.tag)", "tag"),
        ("[object].all(object, !has(object.lables))", "lables"),
    ]);
    assert!(compile("images.all(object, has(object.tag)) && has(object.labels)").is_ok());
}

#[test]
fn a_name_that_macros_make_is_not_suggested() {
    let refused = compile("images.all(i, result)").unwrap_err();
    assert_eq!(
        refused[0].message,
        "there is no variable `result`; known are `object`, `images`, `body`, `change`"
    );
}

#[test]
fn why_a_value_has_no_fields_is_said() {
    for (source, why) in [
        (
            "images.tag",
            "there is no field `tag`: this is a list, which has no fields; ask its items: `list.all(name, condition)`, `list[0]`",
        ),
        (
            "object.name.tag",
            "there is no field `tag`: this is a single value, such as a text, which has no fields",
        ),
        (
            "{}.tag",
            "there is no field `tag`: this is a map without fields",
        ),
        (
            "[object, change, object][0].lables",
            "there is no field `lables`, did you mean `labels`?; known are `name`, `labels`, `kind`",
        ),
    ] {
        assert_eq!(compile(source).unwrap_err()[0].message, why, "{source}");
    }
}

/// What is known of a value grows with the literals around it, in each loop anew.
#[test]
fn of_a_value_with_many_parts_nothing_is_known() {
    let map = |keys: usize| {
        let entries: Vec<_> = (0..keys).map(|key| format!("'{key}':x")).collect();
        format!("{{{}}}", entries.join(","))
    };
    let map = map(120);
    let of_large = format!("[object].map(x,{map}).all(x, !has(x.none))");
    assert_eq!(compile(&of_large).err(), None);
    // Of a map of such values, the keys are known. A message names a few of them.
    let of_map = format!("[object].map(x,{map}).map(x,{map}).all(x, !has(x.none))");
    let refused = compile(&of_map).unwrap_err();
    assert!(refused[0].message.ends_with("`18`, `19`"), "{refused:?}");
    let texts: Vec<_> = (0..300).map(|text| format!("'{text}'")).collect();
    let source = format!("[{}].all(k, !(k in object))", texts.join(","));
    assert_eq!(compile(&source).err(), None);
}

#[test]
fn a_mistake_has_its_place_and_a_remedy() {
    for (source, expected) in [
        (
            "status == 200 &&\n  bodi.open",
            vec![
                "line 2, column 3: there is no variable `bodi`, did you mean `body`?; known are `status`, `body`, `id`",
            ],
        ),
        (
            "'ä' == x && y",
            vec![
                "line 1, column 8: there is no variable `x`; known are `status`, `body`, `id`",
                "line 1, column 13: there is no variable `y`; known are `status`, `body`, `id`",
            ],
        ),
        (
            "body.result.map(r, r.number) == q",
            vec!["line 1, column 33: there is no variable `q`; known are `status`, `body`, `id`"],
        ),
        (
            "body.id.startWith('a')",
            vec![
                "line 1, column 18: there is no function `startWith` that is called on a value, did you mean `startsWith`?",
            ],
        ),
        (
            "body.result.exists(r)",
            vec!["line 1, column 19: `exists` is written `list.exists(name, condition)`"],
        ),
        ("", vec!["line 1, column 1: the expression is empty"]),
    ] {
        assert_eq!(faults(source), expected, "{source}");
    }
    for source in [
        "1 +",
        "(",
        "'a",
        "a b",
        "body.result.map(1, 2)",
        "has(body)",
        "Thing{a: 1}",
        "optional.of(1)",
        "body.?a",
        "body[?'a']",
        "matches('a', 'b')",
        "@meter",
        "@charge(1, 2)",
        "id.matches(id)",
        "id.matches('(')",
        "id.matches('(((\\\\pL{99}){99}){99}){99}')",
        "timestamp()",
        "size(1, 2)",
        "body.`a`",
    ] {
        assert!(!faults(source).is_empty(), "{source}");
    }
}

#[test]
fn an_expression_that_is_too_large_is_refused() {
    let nested = |depth: usize| format!("{}1{}", "(".repeat(depth), ")".repeat(depth));
    let sum = vec!["1"; 1000].join("+");
    let selects = format!("body{}", ".a".repeat(1000));
    let loops = "[1].map(a, [1].map(b, [1].map(c, [1].map(d, d))))";
    for source in [
        nested(1000),
        sum,
        selects,
        " ".repeat(5000) + "1",
        loops.to_owned(),
    ] {
        assert_eq!(faults(&source).len(), 1, "{source:.40}");
    }
    compiled("[1].map(a, [1].map(b, [1].map(c, c)))");
}

/// The deepest expressions that pass the limits, on a stack as threads have it.
#[test]
fn no_expression_within_the_limits_overflows_the_stack() {
    let marks = MAXIMUM_MARKS;
    let expressions = [
        format!("{}1{}", "(".repeat(marks), ")".repeat(marks)),
        format!("{}1{}", "[".repeat(marks), "]".repeat(marks)),
        format!("{}true", "!".repeat(marks)),
        format!("{}1", "-".repeat(marks)),
        format!("{}1", "- ".repeat(marks)),
        vec!["1"; marks].join("+"),
        vec!["true"; marks / 2].join("&&"),
        vec!["true ? 1"; marks / 2].join(":") + ": 1",
        format!("{}1{}", "true?".repeat(marks / 2), ":1".repeat(marks / 2)),
        format!("body{}", ".a".repeat(marks)),
        format!("body{}", "[0]".repeat(marks)),
        format!("{}1{}", "{1:".repeat(marks / 2), "}".repeat(marks / 2)),
        format!("id{}", ".size()".repeat(marks / 2)),
        format!("{}1{}", "size(".repeat(marks), ")".repeat(marks)),
        "1 in ".repeat(marks) + "1",
    ];
    for source in expressions {
        let run = move || {
            if let Ok(expression) = Expression::compile(&source, VARIABLES) {
                let _ = expression.evaluate(&[
                    ("body", (&json!({})).into()),
                    ("id", (&json!("")).into()),
                    ("status", (&json!(1)).into()),
                ]);
            }
        };
        let thread = std::thread::Builder::new().stack_size(2 << 20);
        thread.spawn(run).unwrap().join().unwrap();
    }
}

/// Expressions built to burn CPU, each with values as large as they may be.
#[test]
fn an_expression_built_to_burn_cpu_is_stopped() {
    let list: Vec<_> = (0..50_000).collect();
    let texts = vec!["x".repeat(60); 10_000];
    let deep = (0..60).fold(json!([1]), |inner, _| json!([inner]));
    let body = json!({"list": list, "texts": texts, "text": "a".repeat(1 << 20), "deep": deep});
    for source in [
        "body.list.map(a, body.list.map(b, body.list.map(c, a + b + c)))",
        "body.list.exists(a, body.list.exists(b, body.list.exists(c, a + b + c == -1)))",
        "body.list.all(a, body.list.all(b, a + b >= 0))",
        "body.list.exists_one(a, body.list.exists_one(b, a == b))",
        "body.list.filter(a, body.list.filter(b, a == b).size() == 7)",
        // Errors that an operator hides do not help.
        "body.list.exists(a, body.list.map(b, b).size() == 0 || body.none == 1) || true",
        "body.list.all(a, body.list.exists(b, a / 0 == b) && false) || true",
        "body.texts.map(a, body.texts == body.texts)",
        "body.texts.map(a, a in body.texts)",
        "body.texts.map(a, body.text.contains(a))",
        "body.texts.map(a, body.text + a)",
        "body.texts.map(a, [body, body, body])",
        "body.texts.map(a, {'a': body, 'b': body})",
        "body.texts.map(a, body.texts + body.texts)",
        "body.list.map(a, body.deep == body.deep)",
        "body.texts.map(a, size(body.text) + size(body.text + a))",
        "body.texts.map(a, body.text.matches('(a|aa|a.a)*b'))",
        // Where a number is compared with another type, the library copies the other value.
        "body.list.all(a, 1 != body)",
        "body.list.all(a, 1u != body.texts)",
        "body.list.all(a, 1.0 != body.text)",
        "body in body.list",
        "body.texts.exists(a, body.texts in [1, 2.5])",
        // It copies the list into its error about an index with a fraction.
        "body.list.exists(a, body.texts[0.5] == 1 || body.texts[a / 1.0 + 0.5] == 1)",
    ] {
        let result = evaluated(source, &body);
        assert_eq!(result, Err(NotEvaluated::TooMuchWork), "{source}");
    }
}

#[test]
fn values_that_double_in_each_step_are_stopped() {
    let doubled = (0..3).fold("body.list".to_owned(), |inner, _| {
        format!("[{inner}, {inner}].map(x, x + x)")
    });
    let list: Vec<_> = (0..20_000).collect();
    let result = evaluated(&doubled, &json!({"list": list}));
    assert_eq!(result, Err(NotEvaluated::TooMuchWork));
}

#[test]
fn values_that_are_too_large_or_too_deep_are_not_evaluated() {
    let many = json!(vec![0; MAXIMUM_VALUES + 1]);
    let long = json!("x".repeat((MAXIMUM_VALUES + 1) * 64));
    let deep = (0..MAXIMUM_DEPTH + 1).fold(json!(1), |inner, _| json!([inner]));
    for body in [many, long, deep] {
        let result = evaluated("true", &body);
        assert!(
            matches!(result, Err(NotEvaluated::TooLarge(_))),
            "{result:?}"
        );
    }
}

/// JSON as the variable that a rule would make of it.
fn built(value: &Value) -> Variable<'_> {
    match value {
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => Variable::List(items.iter().map(built).collect()),
        Value::Object(fields) => {
            let fields = fields.iter();
            let fields = fields.map(|(key, field)| (key.as_str(), built(field)));
            Variable::Map(fields.collect())
        }
        other => other.into(),
    }
}

#[test]
fn a_variable_counts_and_means_what_the_same_json_does() {
    let long_keys: serde_json::Map<_, _> = (0..120)
        .map(|n| (format!("{n:0>60000}"), json!(1)))
        .collect();
    let deep = |depth| (0..depth).fold(json!("x"), |inner, _| json!([{"a": inner}]));
    for body in [
        body(),
        json!({"texts": ["x".repeat(1000), ""], "map": {}, "list": []}),
        json!(vec!["x"; MAXIMUM_VALUES + 1]),
        json!("x".repeat((MAXIMUM_VALUES + 1) * 64)),
        json!(long_keys),
        deep(MAXIMUM_DEPTH / 2 - 1),
        deep(MAXIMUM_DEPTH / 2),
    ] {
        let as_json = (value::Size::default(), Variable::from(&body));
        let as_built = (value::Size::default(), built(&body));
        let counted = [as_json, as_built].map(|(mut size, variable)| {
            let counted = size.add_variable(&variable, MAXIMUM_VALUES, MAXIMUM_DEPTH);
            let result = compiled("body").evaluate(&[("body", variable)]);
            (counted, size.values(), result)
        });
        let [json, built] = counted;
        assert!(json == built, "{:?}", (json.0, built.0));
    }
    let times = Variable::List(vec![Variable::Time(Timestamp::MIN); MAXIMUM_VALUES]);
    let refused = compiled("true").evaluate(&[("body", times)]);
    assert!(
        matches!(refused, Err(NotEvaluated::TooLarge(_))),
        "{refused:?}"
    );
}

#[test]
fn a_comparison_with_a_short_text_does_not_count_the_other_side() {
    let long = json!({"text": "x".repeat(1 << 20)});
    let spent = |source| {
        SPENT.set(0);
        evaluated(source, &long).unwrap();
        SPENT.get()
    };
    let read = 1 << 14;
    let compared = spent("body.text == 'a'");
    assert_eq!(spent("body.text != 'a'"), compared);
    assert!(spent("body.text.contains('a')") >= compared + read);
    let with_itself = spent("body.text == body.text");
    assert!(with_itself >= compared + 2 * read, "{with_itself}");
}

#[test]
fn an_evaluation_within_the_limits_counts_nothing_twice() {
    // As large as the answer of a tracker gets.
    let row = |index: usize| json!({"number": format!("INC{index}"), "priority": "1", "text": "x".repeat(200)});
    let rows: Vec<_> = (0..1000).map(row).collect();
    let source = "body.result.filter(r, r.number == 'INC999').map(r, 'P' + r.priority)";
    assert_eq!(
        evaluated(source, &json!({"result": rows})),
        Ok(json!(["P1"]))
    );
}

/// Texts that look like expressions: names, operators, brackets and literals in any order.
fn text() -> impl Strategy<Value = String> {
    let words = [
        "body",
        "status",
        "id",
        "x",
        ".",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "?",
        ":",
        ",",
        "+",
        "-",
        "*",
        "/",
        "%",
        "==",
        "!=",
        "<",
        ">=",
        "&&",
        "||",
        "!",
        " in ",
        "1",
        "2.5",
        "7u",
        "'a'",
        "\"b\"",
        "true",
        "null",
        "has(",
        "size(",
        ".map(x,",
        ".exists(x,",
        ".filter(x,",
        "string(",
        "int(",
        ".contains(",
        "'",
        "\\",
        "ä",
        "\n",
        "@",
        "`",
        "9223372036854775807",
        "-9223372036854775808",
    ];
    vec(select(words.to_vec()), 0..30).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn any_text_is_refused_or_evaluated(source in text()) {
        let body = json!({"list": [1, 2, 3], "text": "x", "deep": {"a": [{"b": null}]}});
        if let Ok(expression) = Expression::compile(&source, VARIABLES) {
            let variables = [("status", &json!(200)), ("body", &body), ("id", &json!("A"))];
            let result = expression.evaluate(&variables.map(|(name, value)| (name, value.into())));
            prop_assert!(result.is_ok() || result.is_err_and(|why| !why.to_string().is_empty()));
        }
    }
}
