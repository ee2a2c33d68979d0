use serde_json::{Value, json};

use super::*;

fn sha(digit: char) -> String {
    digit.to_string().repeat(40)
}

fn full() -> Value {
    let alice = json!({"github": {"login": "alice", "id": 7}});
    let git = json!({"git": {"name": "", "email": "alice@example.com"}});
    json!({
        "repository": {"uri": "https://github.com/example/app", "id": "99"},
        "from": sha('a'), "to": sha('c'), "complete": false,
        "unknownAuthors": ["pull request 12 comes from a fork"],
        "commits": [{"sha": sha('b'), "authors": [git]}, {"sha": sha('c'), "authors": [alice]}],
        "authors": [
            {"identity": alice, "role": "opened", "pullRequest": 12},
            {"identity": {"gitlab": {"host": "gitlab.com", "login": "bob", "id": 8}}, "role": "merged"},
            {"identity": {"email": {"address": "carol@example.com"}}, "role": "signed"},
            {"identity": {"certificate": {"issuer": "https://accounts.example.com", "subject": "dave@example.com"}}, "role": "added"},
        ],
        "reviewers": [alice],
        "pullRequests": [{"number": 12, "url": "https://github.com/example/app/pull/12", "openedBy": alice, "mergedBy": alice, "reviewers": []}],
        "reason": "a\nb", "securityImpact": "none", "testing": "unit", "backOutPlan": "revert",
    })
}

fn with(field: &str, value: Value) -> String {
    let mut written = full();
    *written.pointer_mut(field).unwrap() = value;
    written.to_string()
}

#[test]
fn a_change_is_read_and_written_back_as_it_was() {
    let read = ChangeRecord::read(&full().to_string()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), full());
    assert!(read.commits[0].authors[0].is_claimed());
    assert!(read.bytes() > full().to_string().len());
}

#[test]
fn a_record_that_lacks_an_author_cannot_look_complete() {
    for (field, value) in [("/complete", json!(true)), ("/unknownAuthors", json!([]))] {
        let error = ChangeRecord::read(&with(field, value)).unwrap_err();
        assert_eq!(error.reason, unaccepted::MALFORMED_PREDICATE);
    }
    let mut written = full();
    written.as_object_mut().unwrap().remove("complete");
    assert!(ChangeRecord::read(&written.to_string()).is_err());
}

#[test]
fn a_range_that_contradicts_itself_is_not_read() {
    for (field, value) in [
        ("/from", json!(sha('c'))),
        ("/from", json!(sha('b'))),
        ("/from", json!("a".repeat(64))),
        ("/to", json!(sha('d'))),
        ("/commits", json!([])),
        ("/commits/0/sha", json!(sha('c'))),
    ] {
        assert!(
            ChangeRecord::read(&with(field, value.clone())).is_err(),
            "{field} {value}"
        );
    }
}

#[test]
fn a_field_of_another_form_is_not_read() {
    for (field, value) in [
        ("/to", json!(sha('C'))),
        ("/to", json!("c".repeat(39))),
        ("/to", json!("main")),
        ("/from", Value::Null),
        (
            "/repository",
            json!(["https://github.com/example/app", "99"]),
        ),
        ("/repository/id", json!(99)),
        ("/commits/0", json!([sha('b'), []])),
        (
            "/authors/0",
            json!([{"git": {"name": "a", "email": "b"}}, "opened", 1]),
        ),
        ("/authors/0/role", json!("approved")),
        ("/authors/0/role", json!({"opened": null})),
        ("/authors/0/pullRequest", json!(-1)),
        ("/authors/0/identity", json!({})),
        ("/authors/0/identity", json!("github")),
        (
            "/authors/0/identity",
            json!({"github": ["github.com", "alice", 7]}),
        ),
        (
            "/authors/0/identity",
            json!({"github": {"login": "alice", "id": 7}, "git": {"name": "a", "email": "b"}}),
        ),
        (
            "/authors/0/identity",
            json!({"github": {"login": "", "id": 7}}),
        ),
        (
            "/authors/0/identity",
            json!({"github": {"login": "alice", "id": "7"}}),
        ),
        ("/authors/0/identity", json!({"slack": {"login": "alice"}})),
        (
            "/authors/1/identity/gitlab",
            json!({"login": "bob", "id": 8}),
        ),
        ("/reason", json!("x".repeat(MAXIMUM_PROSE + 1))),
        ("/reason", json!("")),
        ("/unknownAuthors", json!(["a\nb"])),
        ("/unknownAuthors", json!(vec!["a"; MAXIMUM_UNKNOWN + 1])),
    ] {
        assert!(
            ChangeRecord::read(&with(field, value.clone())).is_err(),
            "{field} {value}"
        );
    }
    let mut written = full();
    written["authorsToIgnore"] = json!([]);
    assert!(ChangeRecord::read(&written.to_string()).is_err());
    let twice = full()
        .to_string()
        .replacen('{', r#"{"complete": true, "#, 1);
    assert!(ChangeRecord::read(&twice).is_err());
}

#[test]
fn a_commit_has_its_full_name() {
    for (name, fits) in [
        ("0123456789abcdef".repeat(4), true),
        ("c".repeat(40), true),
        ("c".repeat(39), false),
        ("c".repeat(41), false),
        ("c".repeat(65), false),
        ("g".repeat(40), false),
        ("cg".repeat(20), false),
        ("C".repeat(64), false),
        (String::new(), false),
    ] {
        assert_eq!(name.parse::<CommitId>().is_ok(), fits, "{name}");
    }
}

#[test]
fn the_longest_range_is_read_and_a_longer_one_is_not() {
    let of = |count: usize| {
        let commits: Vec<_> = (0..count)
            .map(|at| json!({"sha": format!("{at:040x}"), "authors": []}))
            .collect();
        let mut written = full();
        written["to"] = json!(format!("{:040x}", count - 1));
        written["commits"] = json!(commits);
        ChangeRecord::read(&written.to_string())
    };
    assert!(of(MAXIMUM_COMMITS).is_ok());
    assert!(of(MAXIMUM_COMMITS + 1).is_err());
}
