//! Trust roots, settings of the gate, and what is kept about digests, as documents.

use std::collections::BTreeSet;
use std::fs;

use promotion_gate::api::{
    self, FeedStates, PolicySet, TrustRootSource, author_record_resource, rejection_resource,
    vex_record_resources,
};
use promotion_gate::config::Config;
use promotion_gate_core::attest::predicate::PackageName;
use promotion_gate_core::gate::{
    Collected, ControllerPreset, Digest, Identity, KeptAuthors, KeptRejection, KeptSigner,
    KeptVexStatement, SourcePlatform, TakenBack, Ungoverned,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::cli::run;
use crate::facts::{FACTS, ISSUER};
use crate::tuf_site::TufSite;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn document(kind: &str, name: &str, spec: &Value) -> String {
    let document = json!({
        "apiVersion": "promotion-gate.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    });
    format!("{document}\n")
}

/// A policy whose only signer is under this trust root.
fn policy_under(root: &str) -> String {
    let signer =
        json!({"keyless": {"issuer": ISSUER, "identity": "a@example.com", "trustRoots": [root]}});
    let requirements = json!([{"digestPinned": {}}, {"signature": {"anyOf": [signer]}}]);
    document(
        "PromotionPolicy",
        "production",
        &json!({"requirements": requirements}),
    )
}

fn policy_with_approvals() -> String {
    let approvals = json!({
        "from": [{"group": "security-team", "count": 1}],
        "differentFromAuthor": false,
        "trustRoots": ["sandbox"],
    });
    let spec = json!({
        "environment": "production",
        "requirements": [{"digestPinned": {}}, {"approvals": approvals}],
    });
    document("PromotionPolicy", "production", &spec)
}

fn people() -> String {
    let spec = json!({
        "people": [
            {"name": "alice", "identities": [{"kubernetes": {"user": "alice@example.com"}}]},
            {"name": "bob", "identities": [{"kubernetes": {"user": "bob@example.com"}}]},
        ],
        "groups": [{"name": "security-team", "members": ["alice"]}],
    });
    document("PeopleDirectory", "people", &spec)
}

fn root() -> Value {
    serde_json::from_str(&FACTS.trusted_root()).unwrap()
}

/// Reads texts as files `0.json`, `1.json` ….
fn load(texts: &[String]) -> PolicySet {
    let named = texts.iter().enumerate();
    let sources: Vec<_> = named
        .map(|(at, text)| (format!("{at}.json"), text.clone().into_bytes()))
        .collect();
    api::load(&sources, &FACTS.trust_roots())
}

fn problems(set: &PolicySet) -> Vec<String> {
    set.problems.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn refused(kind: &str, spec: &Value, expected: &str) {
    let said = problems(&load(&[document(kind, "promotion-gate", spec)]));
    assert!(
        said.iter().any(|said| said.contains(expected)),
        "{kind} {spec}: expected {expected}: {said:#?}"
    );
}

#[test]
fn resources_of_every_kind_make_one_snapshot_in_whatever_order() {
    let at = "2026-11-28T10:00:00Z";
    let mut texts = [
        policy_under("ours"),
        document("TrustRoot", "ours", &json!({"inline": root()})),
        document(
            "Revocation",
            "stolen",
            &json!({"digest": DIGEST, "reason": "a stolen key"}),
        ),
        document(
            "Rejection",
            "no",
            &json!({"digest": DIGEST, "environment": "production", "person": "alice", "reason": "not now", "at": at}),
        ),
        document(
            "AuthorRecord",
            "one",
            &json!({"digest": DIGEST, "identities": [{"github": {"login": "alice", "id": 7}}], "statements": [DIGEST]}),
        ),
        document(
            "AuthorRecord",
            "two",
            &json!({"digest": DIGEST, "identities": [{"github": {"login": "alice", "id": 7}}, {"gitlab": {"id": 8}}]}),
        ),
        document(
            "GateConfiguration",
            "promotion-gate",
            &json!({
                "governors": {"users": ["root@example.com"], "groups": ["admins"]},
                "trustedControllers": [{"preset": "ArgoRollouts", "serviceAccount": {"namespace": "argo-rollouts", "name": "argo-rollouts"}}],
                "cluster": "prod-eu1",
                "clusterUid": "1-2-3",
                "ungoverned": "Deny",
                "infrastructureNamespaces": ["cert-manager"],
            }),
        ),
    ];
    for _ in 0..texts.len() {
        texts.rotate_left(1);
        let set = load(&texts);
        assert_eq!(problems(&set), Vec::<String>::new());
        assert_eq!(set.files.len(), texts.len());
        let rest = Config::load(None).unwrap().snapshot();
        let snapshot = set.snapshot(rest, &FeedStates::new(), at.parse().unwrap());
        let world = &snapshot.world;
        assert!(world.trust_roots.contains_key("ours"));
        assert!(world.trust_roots.contains_key("sigstore"));
        assert_eq!(snapshot.ungoverned, Ungoverned::Deny);
        let digest: Digest = DIGEST.parse().unwrap();
        assert_eq!(world.revocations[&digest].reason, "a stolen key");
        let [rejection] = world.rejections[&digest].as_slice() else {
            panic!("{:?}", world.rejections);
        };
        assert_eq!(
            (rejection.person.as_str(), rejection.environment.as_str()),
            ("alice", "production")
        );
        assert_eq!(rejection.at, at.parse().unwrap());
        let authors = &world.authors[&digest];
        assert_eq!(authors.identities.len(), 2, "{authors:?}");
        assert!(authors.statements.contains(&digest));
        assert!(world.governors.users.contains("root@example.com"));
        assert!(world.governors.groups.contains("admins"));
        let [controller] = world.trusted_controllers.as_slice() else {
            panic!("{:?}", world.trusted_controllers);
        };
        assert_eq!(controller.preset, ControllerPreset::ArgoRollouts);
        assert_eq!(
            controller.username,
            "system:serviceaccount:argo-rollouts:argo-rollouts"
        );
        assert!(matches!(&world.cluster, Collected::Known(name) if name == "prod-eu1"));
        assert!(matches!(&world.cluster_uid, Collected::Known(uid) if uid == "1-2-3"));
        assert!(world.infrastructure_namespaces.contains("cert-manager"));
    }
}

#[test]
fn a_trust_root_is_written_as_an_object_or_as_text() {
    for inline in [root(), json!(root().to_string())] {
        let set = load(&[document("TrustRoot", "ours", &json!({"inline": inline}))]);
        assert_eq!(problems(&set), Vec::<String>::new());
        assert_eq!(set.inline_roots().len(), 1);
    }
    for (spec, expected) in [
        (
            json!({}),
            "spec: expected exactly one of `inline` and `tuf`",
        ),
        (
            json!({"inline": root(), "tuf": {"url": "https://tuf.example", "initialRoot": {}}}),
            "expected exactly one of `inline` and `tuf`",
        ),
        (
            json!({"inline": {"mediaType": "?"}}),
            "spec.inline: the trust root `promotion-gate` cannot be used",
        ),
        (json!({"inline": "{]"}), "spec.inline: the trust root"),
        (json!({"inlin": root()}), "did you mean `inline`?"),
        (
            json!({"tuf": {"url": "ftp://tuf.example", "initialRoot": {}}}),
            "spec.tuf.url: expected the address of a folder",
        ),
        (
            json!({"tuf": {"url": "https://tuf.example", "initialRoot": {}, "refresh": "10s"}}),
            "spec.tuf.refresh: a repository is asked once a minute at most",
        ),
        (
            json!({"tuf": {"url": "https://tuf.example", "initialRoot": {}, "target": "../x"}}),
            "spec.tuf.target: expected the name of a target",
        ),
        (
            json!({"tuf": {"url": "https://tuf.example", "initialRoot": {"signed": {}}}}),
            "spec.tuf.initialRoot: it is not a `root.json` that its own keys sign",
        ),
        (
            json!({"tuf": {"url": "https://tuf.example"}}),
            "missing field `initialRoot`",
        ),
    ] {
        refused("TrustRoot", &spec, expected);
    }
}

#[test]
fn a_trust_root_takes_no_name_that_stands_for_another_one() {
    for (name, expected) in [
        (
            "sigstore",
            "the name `sigstore` is taken by a built-in trust root",
        ),
        (
            "github",
            "the name `github` is taken by a built-in trust root",
        ),
        (
            "sandbox",
            "the name `sandbox` is taken by the configuration",
        ),
    ] {
        let set = load(&[document("TrustRoot", name, &json!({"inline": root()}))]);
        let said = problems(&set);
        assert!(said[0].contains(expected), "{said:?}");
        assert!(set.inline_roots().is_empty());
    }
    let twice = document("TrustRoot", "ours", &json!({"inline": root()}));
    let said = problems(&load(&[twice.clone(), twice]));
    assert!(
        said[0].contains("another trust root has the name `ours` too: 0.json:1"),
        "{said:?}"
    );
}

#[test]
fn a_policy_may_name_a_trust_root_whose_repository_was_never_read_and_one_that_is_broken_is_reported_once()
 {
    let initial_root = TufSite::new().initial_root();
    let tuf = json!({"tuf": {"url": "https://tuf.example/repo/", "initialRoot": initial_root}});
    let set = load(&[policy_under("ours"), document("TrustRoot", "ours", &tuf)]);
    assert_eq!(problems(&set), Vec::<String>::new());
    let TrustRootSource::Tuf(repository) = &set.trust_roots["ours"] else {
        panic!("{:?}", set.trust_roots);
    };
    assert_eq!(repository.url.as_str(), "https://tuf.example/repo/");
    assert_eq!(repository.target, "trusted_root.json");
    assert!(set.inline_roots().is_empty());

    let broken = document("TrustRoot", "ours", &json!({"inline": "{"}));
    let said = problems(&load(&[policy_under("ours"), broken]));
    assert_eq!(said.len(), 1, "{said:?}");
    let said = problems(&load(&[policy_under("gone")]));
    assert!(said[0].contains("unknown trust root `gone`"), "{said:?}");
}

#[test]
fn settings_that_name_nobody_or_everybody_are_refused() {
    let account = |namespace: &str, name: &str| json!({"trustedControllers": [{"preset": "Keda", "serviceAccount": {"namespace": namespace, "name": name}}]});
    for (spec, expected) in [
        (
            json!({"governors": {"users": [" "]}}),
            "spec.governors.users[0]: the text is empty",
        ),
        (
            json!({"governors": {"users": ["*@example.com"]}}),
            "names are compared exactly",
        ),
        (
            json!({"governors": {"groups": ["a", "a"]}}),
            "spec.governors.groups[1]: `a` is listed twice",
        ),
        (
            json!({"governors": {"groups": ["system:authenticated"]}}),
            "holds users whom nobody named",
        ),
        (json!({"governors": ["a"]}), "spec.governors"),
        (account("Keda", "keda"), "serviceAccount.namespace"),
        (
            account("keda", "system:x"),
            "is not the name of a service account",
        ),
        (
            json!({"trustedControllers": [{"preset": "Flagger", "serviceAccount": {"namespace": "a", "name": "b"}}]}),
            "preset",
        ),
        (json!({"cluster": "Prod EU"}), "spec.cluster"),
        (json!({"ungoverned": "deny"}), "spec.ungoverned"),
        (
            json!({"infrastructureNamespaces": ["*"]}),
            "spec.infrastructureNamespaces[0]",
        ),
        (json!({"registries": []}), "unknown field `registries`"),
    ] {
        refused("GateConfiguration", &spec, expected);
    }
    let named = document("GateConfiguration", "other", &json!({}));
    let said = problems(&load(&[named]));
    assert!(
        said[0].contains("metadata.name: the one configuration is named `promotion-gate`"),
        "{said:?}"
    );
}

/// A configuration file of a process.
fn configuration(text: &str) -> anyhow::Result<Config> {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("gate.yaml");
    let head = "apiVersion: promotion-gate.dev/v1alpha1\nkind: GateConfiguration\n";
    fs::write(&file, format!("{head}{text}")).unwrap();
    Config::load(Some(&file))
}

#[test]
fn a_setting_in_the_file_and_in_the_resource_is_an_error_that_names_both_places() {
    let config = configuration("cluster: prod\ngovernors: {users: [root@example.com]}\n").unwrap();
    let resource = |spec: Value| {
        let resource = document("GateConfiguration", "promotion-gate", &spec);
        load(&[resource]).under(&config.settings)
    };
    let set = resource(json!({"cluster": "prod", "governors": {}, "ungoverned": "Deny"}));
    let said = problems(&set);
    assert_eq!(said.len(), 2, "{said:?}");
    for field in ["governors", "cluster"] {
        let named = said.iter().find(|said| {
            said.starts_with("0.json:1:")
                && said.contains(&format!("spec.{field}: `{field}` is set in "))
                && said.contains("gate.yaml:")
        });
        assert!(named.is_some(), "{field}: {said:#?}");
    }
    let set = resource(json!({"ungoverned": "Deny"}));
    assert_eq!(problems(&set), Vec::<String>::new());
    let now = "2026-11-28T10:00:00Z".parse().unwrap();
    let snapshot = set.snapshot(config.snapshot(), &FeedStates::new(), now);
    assert_eq!(snapshot.ungoverned, Ungoverned::Deny);
    assert!(matches!(&snapshot.world.cluster, Collected::Known(name) if name == "prod"));
    assert!(snapshot.world.governors.users.contains("root@example.com"));
}

#[test]
fn a_resource_as_the_configuration_file_is_refused_and_a_file_among_the_policies_is_skipped() {
    let error = configuration("metadata: {name: promotion-gate}\nspec: {cluster: prod}\n");
    let error = format!("{:#}", error.unwrap_err());
    assert!(
        error.contains("gate.yaml:4:7: spec: a configuration with `spec` is a resource"),
        "{error}"
    );
    let error = format!(
        "{:#}",
        configuration("governors: {users: ['']}\n").unwrap_err()
    );
    assert!(
        error.contains("governors.users[0]: the text is empty"),
        "{error}"
    );
    let file = json!({"apiVersion": "promotion-gate.dev/v1alpha1", "kind": "GateConfiguration", "cluster": "x"});
    let set = load(&[file.to_string(), policy_under("sandbox")]);
    assert_eq!(problems(&set), Vec::<String>::new());
    assert_eq!(set.settings.cluster, None);
}

#[test]
fn a_governor_who_could_approve_is_an_error_wherever_the_governors_are_named() {
    let governors = |user: &str| json!({"governors": {"users": ["x", user], "groups": ["admins"]}});
    let resource = |user: &str| {
        let resource = document("GateConfiguration", "promotion-gate", &governors(user));
        load(&[policy_with_approvals(), people(), resource]).under(&Default::default())
    };
    let said = problems(&resource("alice@example.com"));
    assert_eq!(said.len(), 1, "{said:?}");
    for part in [
        "2.json:1:",
        "spec.governors.users[1]: the governor `alice@example.com` is the person `alice`",
        "who approves in the group `security-team` for the policy `production`",
    ] {
        assert!(said[0].contains(part), "{part}: {said:?}");
    }
    let set = resource("bob@example.com");
    assert_eq!(problems(&set), Vec::<String>::new());
    let warnings: Vec<_> = set.warnings.iter().map(ToString::to_string).collect();
    let about_groups =
        "spec.governors.groups: whether members of these groups approve cannot be looked up";
    assert!(
        warnings.iter().any(|said| said.contains(about_groups)),
        "{warnings:?}"
    );

    let config = configuration("governors: {users: [alice@example.com]}\n").unwrap();
    let set = load(&[policy_with_approvals(), people()]).under(&config.settings);
    let said = problems(&set);
    assert!(
        said[0].contains("gate.yaml:3:21: governors.users[0]: the governor"),
        "{said:?}"
    );
}

#[test]
fn what_is_kept_about_a_digest_is_refused_where_it_says_too_little() {
    for (kind, spec, expected) in [
        (
            "Revocation",
            json!({"digest": "sha256:abc", "reason": "r"}),
            "spec.digest: `sha256:abc` is not a digest",
        ),
        (
            "Revocation",
            json!({"digest": DIGEST}),
            "missing field `reason`",
        ),
        (
            "Revocation",
            json!({"digest": DIGEST, "reason": " "}),
            "spec.reason: the text is empty",
        ),
        (
            "Rejection",
            json!({"digest": DIGEST, "environment": "production", "person": "Alice"}),
            "spec.person",
        ),
        (
            "Rejection",
            json!({"digest": DIGEST, "environment": "production", "person": "alice"}),
            "spec: `at` is missing",
        ),
        (
            "Rejection",
            json!({"digest": DIGEST, "environment": "production", "person": "alice", "at": "yesterday"}),
            "spec.at: `yesterday` is not a time",
        ),
        (
            "AuthorRecord",
            json!({"digest": DIGEST, "identities": []}),
            "spec.identities: the list is empty",
        ),
        (
            "AuthorRecord",
            json!({"digest": DIGEST, "identities": [{"github": {"login": "a"}, "gitlab": {"login": "a"}}]}),
            "spec.identities[0]: expected exactly one of",
        ),
        (
            "AuthorRecord",
            json!({"digest": DIGEST, "identities": [{"github": {}}]}),
            "spec.identities[0]: an account needs `login` or `id`",
        ),
        (
            "AuthorRecord",
            json!({"digest": DIGEST, "identities": [{"github": {"id": 1}}], "statements": ["x"]}),
            "spec.statements[0]: `x` is not a digest",
        ),
        (
            "VexRecord",
            vex_record(json!({"key": DIGEST}), json!([])),
            "spec.statements: the list is empty",
        ),
        (
            "VexRecord",
            vex_record(json!({}), json!([{}])),
            "spec.signer: expected exactly one of",
        ),
        (
            "VexRecord",
            vex_record(
                json!({"key": DIGEST, "keyless": {"issuer": "a", "identity": "b"}}),
                json!([{}]),
            ),
            "spec.signer: expected exactly one of",
        ),
        (
            "VexRecord",
            vex_record(
                json!({"keyless": {"issuer": "", "identity": "b"}}),
                json!([{}]),
            ),
            "spec.signer: `issuer` or `identity` is empty",
        ),
        (
            "VexRecord",
            vex_record(json!({"key": "x"}), json!([{}])),
            "spec.signer: `key`: `x` is not a digest",
        ),
        (
            "VexRecord",
            vex_record(json!({"key": DIGEST}), json!([{}, {"at": "yesterday"}])),
            "spec.statements[1].at: `yesterday` is not a time",
        ),
        (
            "VexRecord",
            vex_record(json!({"key": DIGEST}), json!([{"document": "x"}])),
            "spec.statements[0].document: `x` is not a digest",
        ),
        (
            "VexRecord",
            vex_record(json!({"key": DIGEST}), json!([{"vulnerabilities": [" "]}])),
            "spec.statements[0].vulnerabilities[0]: the text is empty",
        ),
        (
            "VexRecord",
            vex_record(
                json!({"key": DIGEST}),
                json!([{"vulnerabilities": ["CVE-1"], "packages": ["zlib"]}]),
            ),
            "spec.statements[0].packages[0]: `zlib` is not a package URL",
        ),
        (
            "VexRecord",
            vex_record(json!({"key": DIGEST}), json!([{"packages": ["pkg:npm/a"]}])),
            "spec.statements[0].packages: needs `vulnerabilities`",
        ),
    ] {
        refused(kind, &spec, expected);
    }
}

fn vex_record(signer: Value, statements: Value) -> Value {
    json!({"digest": DIGEST, "signer": signer, "statements": statements})
}

#[test]
fn what_the_gate_writes_of_openvex_documents_is_read_back_as_it_was() {
    let digest: Digest = DIGEST.parse().unwrap();
    let at = "2026-11-28T10:00:00Z".parse().unwrap();
    let package = |url: &str| PackageName::of(url).unwrap();
    let ids = |count: usize| (0..count).map(|number| format!("CVE-2026-{number}"));
    let mut taken_back = TakenBack::default();
    for statement in [
        KeptVexStatement::new(ids(2500), [], Some(at), None),
        KeptVexStatement::new(
            ["GHSA-a".to_owned()],
            [package("pkg:npm/%40a/b@1.0+x"), package("pkg:pypi/a_b")],
            None,
            Some(digest.clone()),
        ),
        KeptVexStatement::new([], [], Some(at), Some(digest.clone())),
    ] {
        taken_back.add(&statement);
    }
    let keyless = KeptSigner::Keyless {
        issuer: "https://issuer.example".to_owned(),
        identity: "vex@example.com".to_owned(),
    };
    let key = KeptSigner::Key(DIGEST.parse().unwrap());
    let written = [&keyless, &key].map(|signer| {
        let written = vex_record_resources(&digest, signer, &taken_back);
        assert_eq!(written.len(), 1);
        written.into_iter().next().unwrap()
    });
    assert_ne!(
        written[0]["metadata"]["name"],
        written[1]["metadata"]["name"]
    );
    let set = load(&written.each_ref().map(Value::to_string));
    assert_eq!(problems(&set), Vec::<String>::new());
    let [of_identity, of_key] = &set.vex[&digest][..] else {
        panic!("{:?}", set.vex);
    };
    assert_eq!(written[0]["metadata"]["name"], of_identity.name.as_str());
    for (kept, signer) in [(of_identity, keyless), (of_key, key)] {
        assert_eq!(kept.signer, signer);
        // No statement of more than 1,000 vulnerabilities.
        assert_eq!(kept.statements.len(), 5);
        assert_eq!(kept.statements.iter().collect::<TakenBack>(), taken_back);
    }
}

#[test]
fn a_rejection_without_a_time_counts_from_the_creation_of_its_resource() {
    let rejection = json!({
        "apiVersion": "promotion-gate.dev/v1alpha1",
        "kind": "Rejection",
        "metadata": {"name": "no", "creationTimestamp": "2026-11-01T00:00:00Z"},
        "spec": {"digest": DIGEST, "environment": "production", "person": "alice"},
    });
    let set = load(&[rejection.to_string()]);
    assert_eq!(problems(&set), Vec::<String>::new());
    let kept = &set.rejections[&DIGEST.parse::<Digest>().unwrap()];
    assert_eq!(kept[0].at, "2026-11-01T00:00:00Z".parse().unwrap());
}

#[test]
fn what_the_gate_writes_about_a_digest_is_read_back_as_it_was() {
    let digest: Digest = DIGEST.parse().unwrap();
    let certificate = |issuer: &str, name: &str| Identity::Certificate {
        issuer: issuer.to_owned(),
        name: name.to_owned(),
    };
    let account =
        |platform, host, login: &str, id| Identity::account(platform, host, login, id).unwrap();
    let authors = KeptAuthors {
        identities: vec![
            certificate("https://accounts.google.com", "alice@example.com"),
            certificate("", "odd * name@example.com"),
            certificate("https://issuer.example", "https://example.com/x"),
            certificate("https://issuer.example", "alice"),
            account(SourcePlatform::GitHub, None, "alice", Some(7)),
            account(
                SourcePlatform::GitLab,
                Some("gitlab.example.com"),
                "bob",
                None,
            ),
            Identity::account_by_id(SourcePlatform::GitHub, None, 9).unwrap(),
            Identity::KubernetesUser("carol".to_owned()),
        ],
        statements: [digest.clone()].into(),
    };
    let rejection = KeptRejection {
        name: String::new(),
        environment: "production".to_owned(),
        namespace: None,
        emergency: None,
        is_closure: false,
        person: "alice".to_owned(),
        at: "2026-11-28T10:00:00Z".parse().unwrap(),
        reason: Some("x".repeat(5000)),
    };
    let of_emergency = KeptRejection {
        emergency: Some(Digest::sha256(b"declaration")),
        ..rejection.clone()
    };
    let closure = KeptRejection {
        is_closure: true,
        ..of_emergency.clone()
    };
    let written = author_record_resource(&digest, &authors);
    let again = rejection_resource(&digest, &rejection);
    let third = rejection_resource(&digest, &of_emergency);
    let fourth = rejection_resource(&digest, &closure);
    let names: BTreeSet<_> = [&written, &again, &third, &fourth]
        .map(|it| it["metadata"]["name"].as_str().unwrap())
        .into();
    assert_eq!(names.len(), 4);
    let set = load(&[&written, &again, &third, &fourth].map(Value::to_string));
    assert_eq!(problems(&set), Vec::<String>::new());
    let mut expected = authors.identities.clone();
    expected.sort();
    assert_eq!(set.authors[&digest].identities, expected);
    assert_eq!(set.authors[&digest].statements, authors.statements);
    let read = &set.rejections[&digest][0];
    assert_eq!(again["metadata"]["name"], read.name.as_str());
    assert_eq!((&read.person, read.at), (&rejection.person, rejection.at));
    assert_eq!(read.reason, Some("x".repeat(2000)));
    let read: Vec<_> = set.rejections[&digest]
        .iter()
        .map(|it| (&it.emergency, it.is_closure))
        .collect();
    let emergency = &of_emergency.emergency;
    assert_eq!(
        read,
        [(&None, false), (emergency, false), (emergency, true)]
    );
    let mut of_nothing = fourth;
    of_nothing["spec"]
        .as_object_mut()
        .unwrap()
        .remove("emergency");
    let found = problems(&load(&[of_nothing.to_string()]));
    assert!(found[0].contains("spec.closure"), "{found:?}");
    let mut wrong = third;
    wrong["spec"]["emergency"] = json!("sha256:1");
    let problems = problems(&load(&[wrong.to_string()]));
    assert!(problems[0].contains("spec.emergency"), "{problems:?}");
}

#[test]
fn kinds_whose_names_other_tools_use_are_ours_only_in_our_group() {
    for text in [
        "apiVersion: policy.sigstore.dev/v1alpha1\nkind: TrustRoot\nmetadata: {name: x}\nspec: {}\n",
        "apiVersion: pki.example/v1\nkind: Revocation\nmetadata: {name: x}\n",
        "{{ Revocation of a Rejection: TrustRoot",
    ] {
        let set = load(&[text.to_owned(), policy_under("sandbox")]);
        let sources = [("x.yaml".to_owned(), text.as_bytes().to_vec())];
        let set_of_yaml = api::load(&sources, &FACTS.trust_roots());
        assert_eq!(problems(&set_of_yaml), Vec::<String>::new(), "{text}");
        assert_eq!(set.policies.len(), 1);
    }
    for (text, expected) in [
        (
            "apiVersion: promotion-gate.dev/v1alpha1\nkind: Revokation\nmetadata: {name: x}\n",
            "did you mean `Revocation`?",
        ),
        (
            "kind: Revocation\nmetadata: {name: x}\n",
            "expected the fields `apiVersion: promotion-gate.dev/v1alpha1`",
        ),
    ] {
        let sources = [("x.yaml".to_owned(), text.as_bytes().to_vec())];
        let said = problems(&api::load(&sources, &FACTS.trust_roots()));
        assert!(said[0].contains(expected), "{said:?}");
    }
}

#[test]
fn a_file_of_the_configuration_and_a_resource_have_one_schema_for_editors() {
    let folder = TempDir::new().unwrap();
    let ran = run(folder.path(), &["schema", "GateConfiguration"], "");
    let schema: Value = serde_json::from_str(&ran.stdout).unwrap();
    for (place, field) in [("file", "registries"), ("resource", "spec")] {
        let field = format!("/$defs/GateConfiguration.{place}/properties/{field}");
        assert!(schema.pointer(&field).is_some(), "{field}: {schema:#}");
    }
    let ran = run(folder.path(), &["schema", "PolicyTest"], "");
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("AuthorRecord"), "{}", ran.stderr);
}

#[test]
fn the_examples_of_the_page_about_resources_are_valid() {
    let page = include_str!("../../../docs/cluster-resources.md");
    let examples = page.split("```yaml\n").skip(1);
    let examples = examples.map(|rest| rest.split("```").next().unwrap());
    let text = examples.collect::<Vec<_>>().join("---\n");
    let sources = [("page.yaml".to_owned(), text.into_bytes())];
    let set = api::load(&sources, &FACTS.trust_roots()).under(&Default::default());
    assert_eq!(problems(&set), Vec::<String>::new());
    assert!(set.settings.governors.is_some());
    assert!(!set.revocations.is_empty() && !set.rejections.is_empty() && !set.authors.is_empty());
    assert!(!set.vex.is_empty());
}
