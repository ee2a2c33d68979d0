//! Who counts as an author: what provenance and change records establish, what they only add, and what makes neither.

use serde_json::{Value, json};

use super::{COMMIT, RELEASE_TOOLS, World, approvals, by_workflow, record, signed, started_by};
use crate::facts::Attached;

/// A policy for which `ada` approved, with one source of authors. `dan` started the build.
fn approved(source: Value, further: Vec<Attached>) -> World {
    let rule = json!({"from": [{"group": "left"}]});
    let mut world = World::new(rule, approvals(&[("ada", 100)]));
    world.rule["authorsFrom"] = json!([source]);
    world.rule["differentFromAuthor"] = json!(true);
    world.further = further;
    world
}

pub(super) fn recorded(records: Vec<Attached>) -> World {
    let tools = by_workflow("https://github.com/example/release-tools/**");
    let further = [started_by("dan")].into_iter().chain(records);
    let source = json!({"changeRecord": {"signedBy": tools}});
    approved(source, further.collect())
}

/// A record of the commit that was built, with these rows.
pub(super) fn rows(authors: &Value) -> Attached {
    changed(json!({ "authors": authors }))
}

/// The record of a change by `dan`, with other fields.
pub(super) fn changed(fields: Value) -> Attached {
    let mut written = json!({
        "repository": {"uri": "https://github.com/example/app"},
        "to": COMMIT, "complete": true,
        "commits": [{"sha": COMMIT, "authors": []}],
        "authors": [{"identity": github("dan"), "role": "opened"}],
    });
    let fields = fields.as_object().cloned().unwrap_or_default();
    written.as_object_mut().unwrap().extend(fields);
    signed(RELEASE_TOOLS, "change", written, 210)
}

fn github(login: &str) -> Value {
    json!({"github": {"login": login}})
}

fn git(address: &str) -> Value {
    json!({"git": {"name": "Somebody", "email": address}})
}

#[track_caller]
fn assert_unknown(world: &World, why: &str) {
    let finding = world.finding();
    assert_eq!(finding.reason, "author-unknown", "{}", finding.detail);
    assert!(finding.detail.contains(why), "{}", finding.detail);
}

#[track_caller]
fn assert_reason(world: &World, reason: &str) {
    let finding = world.finding();
    assert_eq!(finding.reason, reason, "{}", finding.detail);
}

const VOUCHED: [&str; 5] = ["opened", "pushed", "merged", "triggered", "signed"];
const CLAIMED: [&str; 2] = ["committed", "added"];

#[test]
fn a_record_establishes_authors_only_in_a_role_for_which_the_platform_vouches() {
    let nobody = "does not name an author for whom the platform vouches";
    let by_dan = |identity: Value, role: &str| {
        recorded(vec![rows(&json!([{"identity": identity, "role": role}]))])
    };
    for role in VOUCHED {
        assert_reason(&by_dan(github("dan"), role), "approved");
        assert_unknown(&by_dan(git("dan@example.com"), role), nobody);
    }
    for role in CLAIMED {
        assert_unknown(&by_dan(github("dan"), role), nobody);
    }
    assert_unknown(&recorded(vec![rows(&json!([]))]), nobody);
}

#[test]
fn an_author_who_is_not_in_the_directory_matters_only_where_the_platform_vouches() {
    let beside_dan = |identity: Value, role: &str| {
        let dan = json!({"identity": github("dan"), "role": "opened"});
        recorded(vec![rows(
            &json!([dan, {"identity": identity, "role": role}]),
        )])
    };
    for role in VOUCHED {
        assert_unknown(
            &beside_dan(github("nobody"), role),
            "is not in the people directory",
        );
        assert_reason(
            &beside_dan(git("nobody@elsewhere.example"), role),
            "approved",
        );
        assert_unknown(
            &beside_dan(github("no login"), role),
            "an author of the change record cannot be looked up",
        );
    }
    for role in CLAIMED {
        assert_reason(&beside_dan(github("nobody"), role), "approved");
        assert_reason(&beside_dan(github("no login"), role), "approved");
        assert_reason(&beside_dan(github("ada"), role), "approvals-missing");
    }
}

#[test]
fn a_record_that_does_not_fit_adds_authors_and_establishes_none() {
    let other = "2".repeat(40);
    let beside = |login: &str| recorded(vec![record(COMMIT, &["dan"]), record(&other, &[login])]);
    assert_reason(&beside("ben"), "approved");
    assert_reason(&beside("nobody"), "approved");
    assert_reason(&beside("no login"), "approved");
    assert_reason(&beside("ada"), "approvals-missing");
    assert_unknown(
        &recorded(vec![record(&other, &["dan"])]),
        "no change record by",
    );
}

#[test]
fn of_a_build_of_two_commits_each_needs_its_record() {
    let other = "2".repeat(40);
    let mut build = started_by("dan");
    build.claims = [(13, None)].into();
    let source = "git+https://github.com/example/app@refs/heads/main";
    build.provenance.as_mut().unwrap().but["materials"] =
        json!([{"uri": source, "digest": {"sha1": other}}]);
    let world = |records: &[&str]| {
        let records = records.iter().map(|to| record(to, &["dan"]));
        let mut world = recorded(records.collect());
        world.further[0] = build.clone();
        world
    };
    assert_reason(&world(&[COMMIT, &other]), "approved");
    for one in [COMMIT, &other] {
        assert_unknown(&world(&[one]), "ends with the commit");
    }
}

#[test]
fn a_record_of_a_repository_with_a_ref_does_not_count() {
    let of = |uri: &str| recorded(vec![changed(json!({"repository": {"uri": uri}}))]);
    assert_reason(&of("https://github.com/example/app"), "approved");
    assert_reason(&of("https://GitHub.com/Example/app.git"), "approved");
    for uri in [
        "https://github.com/example/app@refs/heads/main",
        "https://github.com/example/app.git#main",
        "https://github.com/example/../example/app",
        "example/app",
    ] {
        assert_unknown(&of(uri), "is not an address of a repository");
    }
    assert_unknown(
        &of("https://github.com/example/other"),
        "it is about the repository `https://github.com/example/other`",
    );
}

#[test]
fn a_build_that_names_no_repository_is_that_of_no_record() {
    let mut build = started_by("dan");
    let but = &mut build.provenance.as_mut().unwrap().but;
    but["invocation"]["configSource"] = json!({"uri": null});
    but["materials"] = Value::Null;
    let mut world = recorded(vec![record(COMMIT, &["dan"])]);
    world.further[0] = build;
    assert_unknown(
        &world,
        "it is about the repository `https://github.com/example/app`",
    );
}

#[test]
fn provenance_of_several_isolated_builders_names_the_authors_of_all() {
    let by = by_workflow("https://github.com/example/builders/**");
    let id = json!({"glob": "https://github.com/example/builders/**"});
    let source = json!({"provenance": {"builders": [{"id": id, "signedBy": by}]}});
    let world = |logins: &[&str]| {
        let each = logins.iter().map(|login| started_by(login));
        approved(source.clone(), each.collect())
    };
    assert_reason(&world(&["dan", "ben"]), "approved");
    assert_reason(&world(&["dan", "ada"]), "approvals-missing");
    assert_unknown(&world(&["dan", "nobody"]), "is not in the people directory");
}

#[test]
fn an_account_of_provenance_that_cannot_be_looked_up_matters_only_from_an_isolated_builder() {
    let by = by_workflow("https://github.com/example/**");
    let id = json!({"glob": "https://github.com/example/**"});
    let source = json!({"provenance": {"builders": [{"id": id, "signedBy": by}]}});
    let own = |login: &str| {
        let mut own = started_by(login);
        own.by = "own-workflow".to_owned();
        own.claims = [(9, None), (18, None)].into();
        let provenance = own.provenance.as_mut().unwrap();
        let workflow =
            "https://github.com/example/app/.github/workflows/release.yml@refs/heads/evil";
        provenance.but["builder"] = json!({"id": workflow});
        own
    };
    let world = |further: Vec<Attached>| approved(source.clone(), further);
    assert_reason(&world(vec![started_by("dan")]), "approved");
    assert_unknown(
        &world(vec![started_by("no login")]),
        "the provenance names an account that cannot be looked up",
    );
    assert_reason(&world(vec![started_by("dan"), own("no login")]), "approved");
    assert_reason(&world(vec![started_by("dan"), own("nobody")]), "approved");
    assert_reason(
        &world(vec![started_by("dan"), own("ada")]),
        "approvals-missing",
    );
    assert_unknown(
        &world(vec![own("dan")]),
        "no provenance by an accepted and isolated builder",
    );
}
