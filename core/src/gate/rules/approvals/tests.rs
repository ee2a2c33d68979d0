use serde_json::{Value, json};

use super::super::check::minute;
use super::*;

#[test]
fn a_time_is_shown_in_minutes_and_never_before_it_has_come() {
    for (time, shown) in [
        ("2026-11-28T14:31:59Z", "2026-11-28 14:32 UTC"),
        ("2026-11-28T14:32:00Z", "2026-11-28 14:32 UTC"),
        ("2026-11-28T14:32:01Z", "2026-11-28 14:33 UTC"),
    ] {
        assert_eq!(minute(time.parse().unwrap()), shown);
    }
}

#[test]
fn an_entry_that_could_never_be_met_or_always_is_refused_without_the_schema_too() {
    let validated = |field: &str, value: Value| {
        let mut entry = json!({"from": [{"group": "team"}], "differentFromAuthor": false});
        entry[field] = value;
        serde_json::from_value::<Approvals>(entry)
            .unwrap()
            .validate()
    };
    for (field, value, says) in [
        ("from", json!([]), "`from` is empty"),
        (
            "from",
            json!([{"group": "team", "count": 0}]),
            "the minimum is 1",
        ),
        (
            "from",
            json!([{"group": "team", "count": 101}]),
            "at most 100",
        ),
        (
            "from",
            json!([{"person": "ada", "count": 1}]),
            "`count` belongs to `group`",
        ),
        ("from", json!([{}]), "exactly one of `group` and `person`"),
        ("trustRoots", json!([]), "`trustRoots` is empty"),
        (
            "authorsFrom",
            json!([{"provenance": {"builders": []}}]),
            "`builders` is empty",
        ),
    ] {
        let refused = validated(field, value.clone()).unwrap_err();
        assert!(refused.contains(says), "{field} {value}: {refused}");
    }
    for count in [1, 100] {
        let from = json!([{"group": "team", "count": count}]);
        assert_eq!(validated("from", from), Ok(()), "{count}");
    }
}

#[test]
fn approvals_are_accepted_under_the_trust_roots_that_are_named_and_no_others() {
    let names = |roots: Value| {
        let entry = json!({"from": [{"group": "team"}], "trustRoots": roots});
        let rule: Approvals = serde_json::from_value(entry).unwrap();
        rule.root_names().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names(Value::Null), ["sigstore"]);
    assert_eq!(names(json!(["own"])), ["own"]);
    assert_eq!(names(json!(["own", "other"])), ["own", "other"]);
}
