//! Which identities are one, which are refused, and why.

use super::*;

#[test]
fn the_comparison_of_each_kind_of_identity_is_exact_and_documented() {
    let issuer = "https://people.example";
    let uri = |uri: &str| json!({"certificate": {"issuer": issuer, "uri": uri}});
    let username = |name: &str| json!({"certificate": {"issuer": issuer, "username": name}});
    let gitlab = |host: &str, login: &str| json!({"gitlab": {"login": login, "host": host}});
    let kubernetes = |user: &str| json!({"kubernetes": {"user": user}});
    let alice = person(
        "alice",
        &[
            email("Alice@example.com"),
            uri("https://people.example/@alice"),
            username("Alice!example.com"),
            github("Alice", Some(1)),
            github("spare", None),
            gitlab("gitlab.example.com", "alice"),
            kubernetes("alice@example.com"),
            json!({"key": {"pem": KEY}}),
        ],
    );
    let people = People::merge(&[directory(vec![alice])]).unwrap();
    for (seen, expected) in [
        (email("alice@example.com"), "alice"),
        (email("ALICE@EXAMPLE.COM"), "alice"),
        (email("alice+ci@example.com"), "similar to alice"),
        (email("alice@example.com."), "similar to alice"),
        (
            json!({"certificate": {"issuer": "https://github.com/login/oauth", "email": "alice@example.com"}}),
            "similar to alice",
        ),
        (
            json!({"certificate": {"issuer": format!("{GOOGLE}/"), "email": "alice@example.com"}}),
            "similar to alice",
        ),
        (email("alice@example.org"), "unknown"),
        (email("alicia@example.com"), "unknown"),
        (uri("https://people.example/@alice"), "alice"),
        (uri("https://people.example/@Alice"), "similar to alice"),
        (uri("https://people.example/@bob"), "unknown"),
        (username("alice!EXAMPLE.com"), "alice"),
        (username("alice!example.org"), "unknown"),
        (github("alice", None), "alice"),
        (github("ALICE", Some(1)), "alice"),
        (github("renamed", Some(1)), "alice"),
        (github("alice", Some(2)), "unknown"),
        (github("spare", Some(7)), "alice"),
        (github("renamed", None), "unknown"),
        (json!({"gitlab": {"login": "alice"}}), "unknown"),
        (json!({"gitlab": {"login": "alice", "id": 1}}), "unknown"),
        (gitlab("GitLab.Example.com.", "ALICE"), "alice"),
        (
            json!({"github": {"login": "alice", "host": "github.example.com"}}),
            "unknown",
        ),
        (kubernetes("alice@example.com"), "alice"),
        (kubernetes("Alice@example.com"), "unknown"),
        (kubernetes("alice"), "unknown"),
        (json!({"key": {"pem": format!("\n{KEY}\n")}}), "alice"),
    ] {
        assert_eq!(whose(&people, &seen), expected, "{seen}");
    }
}

#[test]
fn an_id_listed_beside_the_same_login_decides_for_both() {
    let alice = person("alice", &[github("alice", None), github("Alice", Some(1))]);
    let people = People::merge(&[directory(vec![alice])]).unwrap();
    assert_eq!(whose(&people, &github("alice", Some(1))), "alice");
    assert_eq!(whose(&people, &github("alice", Some(2))), "unknown");
    assert_eq!(whose(&people, &github("alice", None)), "alice");
}

fn certificate(issuer: &str, uri: &str) -> Value {
    json!({"certificate": {"issuer": issuer, "uri": uri}})
}

/// The identity is refused as a person's, with a remedy that is accepted.
fn assert_automation(written: Value) {
    let refused = PersonalIdentity::try_from(identity(&written)).unwrap_err();
    assert!(refused.contains("list it under `automation`"), "{refused}");
    People::merge(&[Directory {
        automation: vec![bot("robot", &[written])],
        ..Directory::default()
    }])
    .unwrap();
}

#[test]
fn a_certificate_of_a_workload_listed_as_a_person_is_refused() {
    for written in [
        certificate(
            "https://token.actions.githubusercontent.com",
            "https://github.com/example/app/.github/workflows/release.yml@refs/heads/main",
        ),
        certificate(
            "https://token.actions.githubusercontent.com/example",
            "https://github.com/x",
        ),
        certificate(
            "https://ghes.example/_services/token",
            "https://ghes.example/x",
        ),
        certificate(
            "https://unknown.example",
            "https://GitHub.com/example/app/.github/workflows/a@v1",
        ),
        certificate("https://gitlab.com", "https://gitlab.com/alice"),
        certificate(
            "https://gitlab.example.com",
            "https://gitlab.example.com/alice",
        ),
        certificate(
            "https://gitlab.example.com",
            "https://gitlab.example.com/group/app//.gitlab-ci.yml@refs/heads/main",
        ),
        certificate(
            "https://ci.example",
            "https://git.example/group/app//other.yml@refs/tags/v1",
        ),
        certificate("https://ci.example", "https://git.example/group/app/ci.yml"),
        certificate(
            "https://ci.example",
            "https://git.example/group/app/ci.yaml",
        ),
        certificate(
            "https://ci.example",
            "https://git.example/group/app@refs/tags/v1",
        ),
        certificate(
            "https://agent.buildkite.com",
            "https://buildkite.com/example/pipeline",
        ),
        certificate(
            "https://oidc.circleci.com/org/1",
            "https://circleci.com/api/v2/projects/1",
        ),
        certificate(
            "https://oidc.codefresh.io",
            "https://g.codefresh.io/example",
        ),
        certificate(
            "https://oidc.eks.eu-west-1.amazonaws.com/id/1",
            "https://x.example/a",
        ),
        certificate(
            "https://kubernetes.default.svc",
            "https://kubernetes.io/namespaces/ci/serviceaccounts/a",
        ),
        certificate(
            "https://issuer.example",
            "https://kubernetes.io/namespaces/ci/serviceaccounts/a",
        ),
        certificate(
            "https://issuer.example",
            "spiffe://example.com/ns/ci/sa/builder",
        ),
    ] {
        assert_automation(written);
    }
}

#[test]
fn an_account_of_a_workload_or_bot_listed_as_a_person_is_refused() {
    for written in [
        email("builder@project.iam.gserviceaccount.com"),
        email("1-compute@developer.gserviceaccount.com"),
        json!({"kubernetes": {"user": "system:serviceaccount:argocd:argocd-application-controller"}}),
        json!({"kubernetes": {"user": "system:node:a"}}),
        json!({"kubernetes": {"user": "system:admin"}}),
        github("dependabot[bot]", Some(49_699_333)),
        github("renovate[bot]", None),
        json!({"gitlab": {"login": "project_12_bot_ab12"}}),
        json!({"gitlab": {"login": "group_7_bot"}}),
        json!({"gitlab": {"login": "service_account_group_7_ab"}}),
    ] {
        assert_automation(written);
    }
}

#[test]
fn an_identity_of_a_person_is_not_taken_for_a_workload() {
    for written in [
        email("alice@example.com"),
        certificate("https://people.example", "https://people.example/@alice"),
        json!({"certificate": {"issuer": "https://gitlab.com", "email": "alice@example.com"}}),
        github("robot", None),
        json!({"gitlab": {"login": "project_manager"}}),
        json!({"gitlab": {"login": "project_12_lead"}}),
        json!({"gitlab": {"login": "project_12b_bot"}}),
        json!({"gitlab": {"login": "project__bot"}}),
        json!({"certificate": {"issuer": GOOGLE, "username": "alice!example.com"}}),
        json!({"kubernetes": {"user": "alice"}}),
    ] {
        PersonalIdentity::try_from(identity(&written)).unwrap();
    }
}

#[test]
fn an_identity_that_no_evidence_can_show_is_refused() {
    for (written, said) in [
        (json!({}), "exactly one of"),
        (
            json!({"github": {"login": "a"}, "gitlab": {"login": "a"}}),
            "exactly one of",
        ),
        (
            json!({"certificate": {"issuer": GOOGLE}}),
            "exactly one of `email`",
        ),
        (
            json!({"certificate": {"issuer": GOOGLE, "email": "a@b", "uri": "https://a"}}),
            "exactly one of `email`",
        ),
        (
            json!({"certificate": {"issuer": "accounts.google.com", "email": "a@b"}}),
            "is not a URL",
        ),
        (
            json!({"certificate": {"issuer": "", "email": "a@b"}}),
            "`issuer` is empty",
        ),
        (email("alice"), "is not an e-mail address"),
        (email("@example.com"), "is not an e-mail address"),
        (email("*@example.com"), "contains `*`"),
        (email("alice @example.com"), "white space"),
        (
            json!({"certificate": {"issuer": GOOGLE, "uri": "alice"}}),
            "is not a URI",
        ),
        (
            json!({"certificate": {"issuer": GOOGLE, "username": "https://alice.example"}}),
            "is a URI; write it as `uri`",
        ),
        (
            json!({"certificate": {"issuer": GOOGLE, "username": "alice", "email": "a@b"}}),
            "exactly one of `email`",
        ),
        (github("@alice", None), "is not a login"),
        (github("", None), "is not a login"),
        (github("https://github.com/alice", None), "is not a login"),
        (
            json!({"github": {"login": "a", "host": "https://github.com"}}),
            "is not a host",
        ),
        (json!({"github": {"login": "a", "id": -1}}), "invalid value"),
        (
            json!({"github": {"login": "a", "nick": "b"}}),
            "unknown field `nick`",
        ),
        (json!({"kubernetes": {"user": ""}}), "`user` is empty"),
        (json!({"key": {"pem": "x"}}), "not a public key"),
        (
            email(&format!("{}@example.com", "a".repeat(2000))),
            "longer than 1024",
        ),
    ] {
        let refused = serde_json::from_value::<Identity>(written.clone()).unwrap_err();
        assert!(refused.to_string().contains(said), "{written}: {refused}");
    }
}

#[test]
fn texts_of_identities_are_read_up_to_their_bounds() {
    let github = |host: String, login: String| json!({"github": {"login": login, "host": host}});
    let host = || "github.example.com".to_owned();
    let of = |letters: usize| "a".repeat(letters);
    for (written, fits) in [
        (github(host(), of(255)), true),
        (github(host(), of(256)), false),
        (github(host(), of(300)), false),
        (github(of(255), of(1)), true),
        (github(of(256), of(1)), false),
        (github(of(300), of(1)), false),
        (github(String::new(), of(1)), false),
        (github("..".to_owned(), of(1)), false),
        (json!({"kubernetes": {"user": of(1024)}}), true),
        (json!({"kubernetes": {"user": of(1025)}}), false),
    ] {
        let read = serde_json::from_value::<Identity>(written.clone());
        assert_eq!(read.is_ok(), fits, "{written}");
    }
}

#[test]
fn an_identity_of_two_people_is_refused_in_every_spelling() {
    for (one, other) in [
        (email("alice@example.com"), email("alice@example.com")),
        (email("alice@example.com"), email("Alice@Example.com")),
        (email("alice@example.com"), email("alice+2@example.com")),
        (email("a.lice@gmail.com"), email("alice@googlemail.com")),
        (
            email("alice@example.com"),
            json!({"certificate": {"issuer": "https://github.com/login/oauth", "email": "alice@example.com"}}),
        ),
        (github("alice", None), github("Alice", None)),
        (github("alice", Some(1)), github("alice", Some(2))),
        (github("alice", Some(1)), github("bob", Some(1))),
        (github("alice", Some(1)), github("alice", Some(1))),
        (github("alice", None), github("alice", Some(1))),
        (
            json!({"gitlab": {"login": "a", "host": "gitlab.com"}}),
            json!({"gitlab": {"login": "A"}}),
        ),
        (
            json!({"kubernetes": {"user": "a"}}),
            json!({"kubernetes": {"user": "a"}}),
        ),
        (json!({"key": {"pem": KEY}}), json!({"key": {"pem": KEY}})),
    ] {
        let [alice, bob] = [("alice", &one), ("bob", &other)]
            .map(|(name, identity)| person(name, std::slice::from_ref(identity)));
        let robot = Directory {
            automation: vec![bot("robot", std::slice::from_ref(&other))],
            ..Directory::default()
        };
        for directories in [
            vec![directory(vec![alice.clone(), bob.clone()])],
            vec![directory(vec![alice.clone()]), directory(vec![bob.clone()])],
            vec![directory(vec![bob]), directory(vec![alice.clone()])],
            vec![directory(vec![alice.clone()]), robot],
        ] {
            let refused = refusals(&directories);
            assert!(
                matches!(refused.as_slice(), [one] if one.contains("an identity has one holder")),
                "{one} {other}: {refused:?}"
            );
        }
        let both = person("alice", &[one.clone(), other.clone()]);
        assert!(
            People::merge(&[directory(vec![both])]).is_ok(),
            "{one} {other}"
        );
    }
}
