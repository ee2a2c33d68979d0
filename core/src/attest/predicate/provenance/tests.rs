use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;

const GENERATOR: &str = "https://github.com/slsa-framework/slsa-github-generator/container@v1";
const DELEGATOR: &str =
    "https://github.com/slsa-framework/slsa-github-generator/delegator-generic@v0";
const CONTAINER_BASED: &str = "https://slsa.dev/container-based-build/v0.1";
const WORKFLOW: &str = "https://actions.github.io/buildtypes/workflow/v1";
const COMMUNITY: &str = "https://slsa-framework.github.io/github-actions-buildtypes/workflow/v1";
const CHAINS: &str = "https://tekton.dev/chains/v2/slsa";
const SOURCE: &str = "git+https://github.com/example/app@refs/heads/main";

fn v0_2(build_type: &str, environment: Value) -> SlsaProvenance {
    let predicate = json!({
        "builder": {"id": "builder"},
        "buildType": build_type,
        "invocation": {"configSource": {"uri": SOURCE}, "environment": environment},
        "materials": [{"uri": SOURCE, "digest": {"sha1": "c0ffee"}}],
    });
    SlsaProvenance::v0_2(&predicate.to_string()).unwrap()
}

fn v1(build_type: &str, external: Value, internal: Value) -> SlsaProvenance {
    let predicate = json!({
        "buildDefinition": {
            "buildType": build_type,
            "externalParameters": external,
            "internalParameters": internal,
            "resolvedDependencies": [{"uri": SOURCE, "digest": {"gitCommit": "c0ffee"}}],
        },
        "runDetails": {"builder": {"id": "builder"}},
    });
    SlsaProvenance::v1(&predicate.to_string()).unwrap()
}

fn said(provenance: &SlsaProvenance, claim: Claim) -> Vec<&str> {
    let of_claim = provenance.said.iter().filter(|said| said.claim == claim);
    of_claim.map(|said| said.value.as_str()).collect()
}

fn commits(provenance: &SlsaProvenance) -> BTreeSet<&str> {
    let commits = provenance.commits.iter();
    commits.map(|(_, commit)| commit.as_str()).collect()
}

fn sources(provenance: &SlsaProvenance) -> Vec<(&str, &str)> {
    let sources = provenance.sources.iter();
    sources
        .map(|source| (source.field, source.repository.as_str()))
        .collect()
}

#[test]
fn a_build_type_is_known_by_its_whole_name_alone() {
    use BuildType as Kind;
    let runner = "https://gitlab.com/gitlab-org/gitlab-runner/-/blob/2147fb44/PROVENANCE.md";
    for (uri, kind) in [
        (GENERATOR, Kind::GithubGenerator),
        (DELEGATOR, Kind::GithubDelegator),
        (CONTAINER_BASED, Kind::ContainerBased),
        (WORKFLOW, Kind::GithubWorkflow),
        (COMMUNITY, Kind::GithubWorkflowOfCommunity),
        (runner, Kind::GitlabRunner),
        (CHAINS, Kind::Tekton),
    ] {
        assert_eq!(Kind::named(uri), kind, "{uri}");
        for other in [format!("{uri}x"), format!("x{uri}")] {
            assert_eq!(Kind::named(&other), Kind::Unknown, "{other}");
        }
    }
}

#[test]
fn a_delegated_build_is_named_by_material_and_workflow() {
    let old = v0_2(DELEGATOR, json!({}));
    assert_eq!(
        sources(&old),
        [
            (
                "invocation.configSource.uri",
                "https://github.com/example/app"
            ),
            ("materials[0].uri", "https://github.com/example/app"),
        ]
    );
    let started = |workflow: &str| {
        let internal = json!({"GITHUB_WORKFLOW_REF": workflow, "GITHUB_EVENT_NAME": "push"});
        v1(DELEGATOR, json!({}), internal)
    };
    let new = started("example/other/.github/workflows/x.yml@refs/heads/main");
    assert_eq!(
        sources(&new),
        [
            (
                "internalParameters.GITHUB_WORKFLOW_REF",
                "https://github.com/example/other"
            ),
            (
                "resolvedDependencies[0].uri",
                "https://github.com/example/app"
            ),
        ]
    );
    for provenance in [&old, &new] {
        assert_eq!(provenance.git_ref.as_deref(), Some("refs/heads/main"));
        assert_eq!(provenance.contradictions, [""; 0]);
    }
    assert_eq!(new.event.as_deref(), Some("push"));
    for (workflow, contradiction) in [
        ("example/app/x.yml", "does not name a reference"),
        (
            "example/app/x.yml@refs/heads/next",
            "two fields name the references",
        ),
    ] {
        let contradictions = started(workflow).contradictions;
        assert!(
            contradictions[0].contains(contradiction),
            "{contradictions:?}"
        );
    }
}

#[test]
fn a_container_based_build_names_its_source_wherever_it_stands() {
    let built = |internal: Value| {
        let external = json!({"source": {"uri": "git+https://github.com/example/lib"}});
        v1(CONTAINER_BASED, external, internal)
    };
    let provenance = built(json!({"GITHUB_REF": "refs/heads/main"}));
    assert_eq!(
        sources(&provenance),
        [
            (
                "externalParameters.source.uri",
                "https://github.com/example/lib"
            ),
            (
                "resolvedDependencies[0].uri",
                "https://github.com/example/app"
            ),
        ]
    );
    assert_eq!(commits(&provenance), ["c0ffee"].into());
    assert_eq!(provenance.contradictions, [""; 0]);
    let other = built(json!({"GITHUB_REF": "refs/heads/next"}));
    assert_eq!(other.contradictions.len(), 1, "{:?}", other.contradictions);
}

#[test]
fn a_reference_is_of_the_kind_that_it_is_said_to_be() {
    for (git_ref, kind, agrees) in [
        ("refs/heads/main", "branch", true),
        ("refs/heads/main", "tag", false),
        ("refs/tags/v1", "tag", true),
        ("refs/tags/v1", "branch", false),
        ("refs/pull/1/merge", "branch", true),
    ] {
        let environment = json!({"github_ref": git_ref, "github_ref_type": kind});
        let predicate = json!({
            "builder": {"id": "builder"},
            "buildType": GENERATOR,
            "invocation": {"environment": environment},
        });
        let provenance = SlsaProvenance::v0_2(&predicate.to_string()).unwrap();
        assert_eq!(provenance.git_ref.as_deref(), Some(git_ref));
        assert_eq!(
            provenance.contradictions.is_empty(),
            agrees,
            "{git_ref} {kind}"
        );
    }
}

#[test]
fn every_build_types_source_is_compared_with_the_certificate() {
    let generator = v0_2(GENERATOR, json!({}));
    assert_eq!(sources(&generator)[0].1, "https://github.com/example/app");
    assert_eq!(
        said(&generator, Claim::SourceRepositoryRef)[0],
        "refs/heads/main"
    );

    let chains = v1(CHAINS, json!({}), json!({}));
    assert_eq!(
        sources(&chains),
        [("resolvedDependencies", "https://github.com/example/app")]
    );
    assert_eq!(
        said(&chains, Claim::SourceRepositoryRef),
        ["refs/heads/main"]
    );
}

#[test]
fn a_repository_is_its_address_without_what_does_not_name_it() {
    for (uri, address) in [
        (
            "git+https://GitHub.com/a/b.git/",
            Some("https://github.com/a/b"),
        ),
        (
            "https://github.com/a/b.git#refs/tags/v1:sub",
            Some("https://github.com/a/b"),
        ),
        ("https://gitlab.com/a/b/c", Some("https://gitlab.com/a/b/c")),
        (
            "https://dev.example/org/My%20Project/_git/app",
            Some("https://dev.example/org/My%20Project/_git/app"),
        ),
        ("https:///a/b", None),
        ("https://github.com/", None),
        ("github.com/a/b", None),
    ] {
        let read = SourceRepository::parse(uri).map(|(repository, _)| repository);
        assert_eq!(
            read.as_ref().map(SourceRepository::as_str),
            address,
            "{uri}"
        );
    }
    for uri in [
        "https://github.com/a/b.git.git",
        "git+git+https://github.com/a/b",
        "https://github.com/a/b@c#d",
        "https://github.com/a/b/.git/.git",
    ] {
        let read = SourceRepository::parse(uri).map(|(repository, _)| repository.is_readable());
        assert_ne!(read, Some(true), "{uri}");
    }
    let on_own_server = SourceRepository::parse("https://git.example/a/b")
        .unwrap()
        .0;
    let beside = on_own_server.beside("c/d").unwrap();
    assert_eq!(beside.as_str(), "https://git.example/c/d");
}

#[test]
fn a_path_that_clients_resolve_elsewhere_is_no_address() {
    for path in [
        "a/../b/c",
        "a/./b",
        "a//b",
        "a/%2e%2e/b/c",
        "a/.%2E/b/c",
        "a/..%2fb/c",
        "a%5c..%5cb/c",
        "a\\..\\b",
        "a/b?c",
        "a/b c",
        "..",
    ] {
        let uri = format!("git+https://github.com/{path}");
        assert_eq!(SourceRepository::parse(&uri), None, "{path}");
        assert!(!SourceRepository::unread(&uri).is_readable(), "{path}");
    }
}

#[test]
fn only_builds_started_by_hand_have_inputs() {
    let built = |kind: &str, event: &str| {
        let external = json!({"inputs": {"level": "debug", "count": 7}});
        v1(kind, external, json!({"github": {"event_name": event}}))
    };
    let inputs = |provenance: &SlsaProvenance| provenance.inputs.clone();
    let by_hand = built(COMMUNITY, "workflow_dispatch");
    let written = BTreeMap::from([("level".to_owned(), "debug".to_owned())]);
    assert_eq!(inputs(&by_hand), Some(written));
    assert_eq!(by_hand.unknown_parameters, [""; 0]);
    assert_eq!(inputs(&built(COMMUNITY, "push")), None);
    let unknown = built(WORKFLOW, "workflow_dispatch");
    assert_eq!(
        (inputs(&unknown), unknown.unknown_parameters),
        (None, vec!["inputs".to_owned()])
    );
}

#[test]
fn internal_parameters_agree_with_the_certificate() {
    let provenance = v0_2(
        GENERATOR,
        json!({
            "github_repository_id": "42", "github_repository_owner_id": "",
            "github_run_id": "7", "github_run_attempt": 2, "github_sha1": "c0ffee",
        }),
    );
    for (claim, values) in [
        (Claim::SourceRepositoryIdentifier, &["42"][..]),
        (Claim::SourceRepositoryOwnerIdentifier, &[]),
        (Claim::SourceRepositoryDigest, &["c0ffee"]),
        (
            Claim::RunInvocationUri,
            &["https://github.com/example/app/actions/runs/7/attempts/2"],
        ),
    ] {
        assert_eq!(said(&provenance, claim), values, "{claim}");
    }
}

#[test]
fn the_branch_of_a_tag_stands_in_environment_or_event() {
    for (environment, branch) in [
        (
            json!({"github_base_ref": "refs/heads/next", "github_event_name": "pull_request"}),
            Some("refs/heads/next"),
        ),
        (
            json!({"github_base_ref": "", "github_event_name": "push", "github_event_payload": {"base_ref": "refs/heads/main"}}),
            Some("refs/heads/main"),
        ),
        (
            json!({"github_event_name": "release", "github_event_payload": {"release": {"target_commitish": "main"}}}),
            None,
        ),
        (
            json!({"github_event_name": "schedule", "github_event_payload": {"base_ref": "refs/heads/main"}}),
            None,
        ),
    ] {
        let provenance = v0_2(GENERATOR, environment.clone());
        assert_eq!(provenance.base_ref.as_deref(), branch, "{environment}");
        let is_release = environment["github_event_name"] == "release";
        let target = is_release.then_some("refs/heads/main");
        assert_eq!(
            provenance.release_target.as_deref(),
            target,
            "{environment}"
        );
    }
}

#[test]
fn the_commit_of_a_source_is_kept_for_every_build_type() {
    for build_type in [
        "https://example.com/anything",
        CHAINS,
        "https://mobyproject.org/buildkit@v1",
    ] {
        let predicate = json!({
            "builder": {"id": "builder"},
            "buildType": build_type,
            "invocation": {"configSource": {"uri": SOURCE, "digest": {"sha1": "c0ffee"}}},
        });
        let provenance = SlsaProvenance::v0_2(&predicate.to_string()).unwrap();
        assert_eq!(commits(&provenance), ["c0ffee"].into(), "{build_type}");
    }
    let google = "https://cloud.google.com/build/gcb-buildtypes/google-worker/v1";
    let external = json!({"buildConfigSource": {"repository": "https://github.com/example/app", "ref": "refs/heads/main"}});
    let provenance = v1(google, external, json!({}));
    assert_eq!(commits(&provenance), ["c0ffee"].into());
    assert_eq!(
        said(&provenance, Claim::SourceRepositoryRef),
        ["refs/heads/main"]
    );
}

#[test]
fn a_commit_counts_under_every_name_of_source_and_digest() {
    let predicate = json!({
        "builder": {"id": "builder"},
        "buildType": GENERATOR,
        "invocation": {"configSource": {"uri": SOURCE}},
        "materials": [
            {"uri": SOURCE, "digest": {"gitCommit": "a", "sha1": "b"}},
            {"uri": "https://github.com/Example/App.git", "digest": {"sha1": "c"}},
            {"uri": "git+https://github.com/example/other", "digest": {"sha1": "d"}},
        ],
    });
    let provenance = SlsaProvenance::v0_2(&predicate.to_string()).unwrap();
    assert_eq!(commits(&provenance), ["a", "b", "c"].into());
}

#[test]
fn provenance_weighs_about_as_much_as_what_is_kept_of_it() {
    type Change<'a> = &'a dyn Fn(&mut SlsaProvenance);
    let long = || "x".repeat(1000);
    let least = v0_2(GENERATOR, json!({}));
    assert!(least.bytes() > size_of::<SlsaProvenance>());
    let changes: [(&str, Change<'_>); 8] = [
        ("builder", &|it| it.builder = long()),
        ("type", &|it| it.build_type = long()),
        ("parameters", &|it| it.unknown_parameters.push(long())),
        ("contradictions", &|it| it.contradictions.push(long())),
        ("commits", &|it| it.commits.push(("x", long()))),
        ("claims", &|it| it.says("x", Claim::BuildTrigger, long())),
        ("sources", &|it| it.source("x", Some(&long()))),
        ("inputs", &|it| {
            it.inputs = Some([("x".to_owned(), long())].into())
        }),
    ];
    for (name, change) in changes {
        let mut provenance = least.clone();
        change(&mut provenance);
        let more = provenance.bytes() - least.bytes();
        assert!((800..2200).contains(&more), "{name}: {more}");
    }
}
