//! People directories: what is read, what is refused and with which places, and what the command `people` answers.

use std::fmt::Write as _;
use std::fs;
use std::sync::Arc;

use jiff::Timestamp;
use promotion_gate::api::{self, FeedStates, PolicySet};
use promotion_gate::config::Config;
use promotion_gate_core::attest::Signer;
use promotion_gate_core::gate::{
    Collected, Digest, Identity, ImageEvidence, Lookup, People, Person, Snapshot,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::run;
use crate::facts::{Attached, FACTS, ISSUER};

const HEAD: &str = "apiVersion: promotion-gate.dev/v1alpha1\nkind: PeopleDirectory\nmetadata: {name: NAME}\nspec:\n";
const POLICY: &str = "{apiVersion: promotion-gate.dev/v1alpha1, kind: PromotionPolicy, metadata: {name: p}, spec: {requirements: [{digestPinned: {}}]}}";
const EXAMPLE: &str = "
  people:
  - name: alice
    displayName: Alice Example
    identities:
    - certificate: {issuer: https://accounts.google.com, email: alice@example.com}
    - github: {login: alice, id: 583231}
    until: 2026-12-31
  - name: bob
    identities: [{gitlab: {login: bob, host: gitlab.example.com}}]
  groups:
  - name: security-team
    members: [alice, {person: bob, from: 2026-01-01, until: 2026-01-31}]
  automation:
  - name: dependabot
    identities: [{github: {login: 'dependabot[bot]', id: 49699333}}]
";

fn document(name: &str, spec: &str) -> String {
    HEAD.replace("NAME", name) + spec
}

/// Reads files with a policy beside them.
fn load(files: &[(&str, String)]) -> PolicySet {
    let own = files
        .iter()
        .map(|(file, text)| ((*file).to_owned(), text.clone().into_bytes()));
    let policy = ("policy.yaml".to_owned(), POLICY.as_bytes().to_vec());
    let sources: Vec<_> = own.chain([policy]).collect();
    api::load(&sources, &FACTS.trust_roots())
}

fn problems(files: &[(&str, String)]) -> Vec<String> {
    let set = load(files);
    set.problems.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn people(files: &[(&str, String)]) -> Arc<People> {
    let set = load(files);
    assert_eq!(set.problems, []);
    set.people.unwrap()
}

fn name_of(found: Lookup<'_>) -> &str {
    match found {
        Lookup::Person(person) => &person.name,
        Lookup::Similar(_) => "similar",
        Lookup::Automation(_) => "automation",
        Lookup::Unknown => "unknown",
    }
}

#[test]
fn directories_and_policies_are_read_from_the_same_files() {
    let both = format!(
        "{}---\n{}",
        document("one", EXAMPLE),
        POLICY.replace("name: p", "name: q")
    );
    let more = document(
        "two",
        "  people: [{name: carol, identities: [{kubernetes: {user: carol}}]}]\n  groups: [{name: security-team, members: [carol]}]\n",
    );
    let set = load(&[("both.yaml", both), ("more.yaml", more)]);
    assert_eq!(set.problems, []);
    assert_eq!(set.policies.len(), 2);
    let people = set.people.clone().unwrap();
    let members: Vec<_> = people
        .members("security-team")
        .map(|(person, _)| &*person.name)
        .collect();
    assert_eq!(members, ["alice", "bob", "carol"]);
    let revision = set.revision.clone();
    assert!(
        revision.starts_with("sha256:") && revision.contains(" people:sha256:"),
        "{revision}"
    );
    let snapshot = set.snapshot(Snapshot::default(), &FeedStates::new(), Timestamp::now());
    assert_eq!(snapshot.world.people, Collected::Known(people));
}

#[test]
fn a_revision_names_the_policies_and_the_people() {
    let revision = |spec: &str| load(&[("people.yaml", document("one", spec))]).revision;
    let parts = |revision: &str| revision.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let [before, after] =
        [EXAMPLE, &EXAMPLE.replace("alice", "anna")].map(|spec| parts(&revision(spec)));
    assert_eq!(before[0], after[0]);
    assert_ne!(before[1], after[1]);
    assert_eq!(parts(&load(&[]).revision), before[..1]);
}

#[test]
fn without_a_directory_nobody_is_known_and_that_is_said() {
    let snapshot = load(&[]).snapshot(Snapshot::default(), &FeedStates::new(), Timestamp::now());
    let Collected::Unavailable(why) = snapshot.world.people else {
        panic!("{:?}", snapshot.world.people)
    };
    assert!(why.to_string().contains("no people directory"), "{why}");
    let nobody = load(&[("people.yaml", document("empty", "  {}"))]).snapshot(
        Snapshot::default(),
        &FeedStates::new(),
        Timestamp::now(),
    );
    assert!(matches!(nobody.world.people, Collected::Known(_)));
}

#[test]
fn all_errors_of_all_directories_have_a_place_and_a_suggestion() {
    let one = document(
        "Bad",
        "  people:
  - {name: alice, nick: a, identities: [{github: {login: '@alice'}}, {gitlab: {logn: alice}}, {}]}
  - {name: carol, identities: [{key: {pem: x}}], from: 2026-02-30}
  - {name: dave, identities: [{kubernetes: {user: dave}}], from: 2026-02-01, until: 2026-01-01}
",
    );
    let two = document(
        "two",
        "  group: []\n  groups: [{name: g, members: [Eve, {person: dave, until: soon}, {from: 2026-01-01}]}]\n",
    );
    let said = problems(&[("one.yaml", one), ("two.yaml", two)]);
    let expected = [
        "one.yaml:3:18: metadata.name: `Bad` is not a name",
        "one.yaml:6:19: spec.people[0].nick: unknown field `nick`",
        "one.yaml:6:41: spec.people[0].identities[0]: `@alice` is not a login",
        "one.yaml:6:79: spec.people[0].identities[1].gitlab: missing field `login`",
        "one.yaml:6:80: spec.people[0].identities[1].gitlab.logn: unknown field `logn`, did you mean `login`?",
        "one.yaml:6:95: spec.people[0].identities[2]: expected exactly one of `certificate`",
        "one.yaml:7:44: spec.people[1].identities[0].key.pem: not a public key",
        "one.yaml:7:56: spec.people[1].from: `2026-02-30` is neither a date",
        "one.yaml:8:85: spec.people[2].until: `from` is not before `until`",
        "two.yaml:5:3: spec.group: unknown field `group`, did you mean `groups`?",
        "two.yaml:6:32: spec.groups[0].members[0]: `Eve` is not a name",
        "two.yaml:6:59: spec.groups[0].members[1].until: `soon` is neither a date",
        "two.yaml:6:66: spec.groups[0].members[2]: missing field `person`",
    ];
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.starts_with(expected), "{said}\n{expected}");
    }
}

#[test]
fn a_directory_edit_that_gives_one_identity_to_two_people_is_refused() {
    let other = |identity: &str| {
        document(
            "two",
            &format!("  people:\n  - name: eve\n    identities: [{identity}]\n"),
        )
    };
    for identity in [
        "{certificate: {issuer: https://accounts.google.com, email: ALICE@example.com}}",
        "{certificate: {issuer: https://accounts.google.com, email: alice+eve@example.com}}",
        "{certificate: {issuer: https://github.com/login/oauth, email: alice@example.com}}",
        "{github: {login: Alice}}",
        "{github: {login: eve, id: 583231}}",
    ] {
        let said = problems(&[
            ("one.yaml", document("one", EXAMPLE)),
            ("two.yaml", other(identity)),
        ]);
        assert_eq!(said.len(), 1, "{said:#?}");
        for part in [
            "two.yaml:7:18: spec.people[0].identities[0]",
            "of `eve`",
            "to `alice` too",
            ": see one.yaml:",
        ] {
            assert!(said[0].contains(part), "{part}: {}", said[0]);
        }
    }
    let robot = "  automation: [{name: robot, identities: [{github: {login: alice}}]}]\n";
    let said = problems(&[
        ("one.yaml", document("one", EXAMPLE)),
        ("two.yaml", document("two", robot)),
    ]);
    assert!(said[0].contains("an identity has one holder"), "{said:#?}");
}

#[test]
fn a_workflow_listed_as_a_person_is_refused() {
    let workflow = "{certificate: {issuer: https://token.actions.githubusercontent.com, uri: 'https://github.com/example/app/.github/workflows/approve.yml@refs/heads/main'}}";
    for identity in [
        workflow,
        "{certificate: {issuer: https://gitlab.com, uri: 'https://gitlab.com/example/app//.gitlab-ci.yml@refs/heads/main'}}",
        "{certificate: {issuer: https://issuer.example, uri: 'spiffe://example.com/ns/ci/sa/builder'}}",
        "{kubernetes: {user: 'system:serviceaccount:argocd:argocd-server'}}",
        "{github: {login: 'dependabot[bot]'}}",
    ] {
        let person = format!("  people: [{{name: alice, identities: [{identity}]}}]\n");
        let said = problems(&[("people.yaml", document("one", &person))]);
        assert!(
            said.len() == 1
                && said[0].starts_with("people.yaml:5:39: spec.people[0].identities[0]"),
            "{said:#?}"
        );
        assert!(said[0].contains("list it under `automation`"), "{said:#?}");
        let robot = format!("  automation: [{{name: robot, identities: [{identity}]}}]\n");
        people(&[("people.yaml", document("one", &robot))]);
    }
}

#[test]
fn a_directory_is_never_skipped_because_it_is_mistyped() {
    for (version, kind) in [
        ("promotion-gate.dev/v1alpha1", "PeopleDirectry"),
        ("promotion-gate.dev/v1", "PeopleDirectory"),
        ("promotiongate.dev/v1alpha1", "PeopleDirectory"),
        ("policy.example/v1", "PeopleDirectories"),
        ("policy.example/v1", "peopleDirectory"),
    ] {
        let text = document("one", EXAMPLE);
        let text = text
            .replace("promotion-gate.dev/v1alpha1", version)
            .replace("PeopleDirectory", kind);
        assert!(
            !problems(&[("people.yaml", text)]).is_empty(),
            "{version} {kind}"
        );
    }
    let twice = problems(&[
        ("a.yaml", document("one", EXAMPLE)),
        ("b.yaml", document("one", EXAMPLE)),
    ]);
    assert!(
        twice[0].contains("another people directory has the name `one` too: a.yaml:3"),
        "{twice:#?}"
    );
}

#[test]
fn problems_of_one_directory_cause_no_more_in_another() {
    let broken = document("one", &EXAMPLE.replace("login: alice", "logn: alice"));
    let group = document(
        "two",
        "  groups: [{name: leads, members: [alice, bob, nobody]}]\n",
    );
    let said = problems(&[("one.yaml", broken), ("two.yaml", group)]);
    assert!(
        said.iter().all(|said| said.starts_with("one.yaml")),
        "{said:#?}"
    );
}

/// The signer of a verified signature, with other claims in the certificate than a pipeline's.
fn signer(by: &str, claims: &[(u64, Option<&str>)]) -> Signer {
    let mut attached = Attached::by(by);
    let claims = claims
        .iter()
        .map(|(arc, value)| (*arc, value.map(str::to_owned)));
    attached.claims = claims.collect();
    let mut evidence = ImageEvidence::default();
    FACTS.add(&mut evidence, &Digest::sha256(b"image"), &attached);
    evidence.signatures[0].1.signer().clone()
}

#[test]
fn a_verified_signer_is_the_person_who_has_the_identity() {
    let uri = "https://people.example/@alice";
    let key = FACTS.key.public_pem().trim_end().replace('\n', "\\n");
    let spec = format!(
        "  people:
  - name: release
    identities: [{{certificate: {{issuer: '{ISSUER}', email: Release@Example.com}}}}]
  - name: build
    identities: [{{certificate: {{issuer: 'https://other.example', email: build@example.com}}}}]
  - name: alice
    identities: [{{certificate: {{issuer: '{ISSUER}', uri: '{uri}'}}}}]
  - name: keeper
    identities: [{{key: {{pem: \"{key}\"}}}}]
"
    );
    let people = people(&[("people.yaml", document("one", &spec))]);
    let none: Vec<_> = [9, 11, 12, 13, 14, 15, 17, 18, 20, 21, 22]
        .map(|arc| (arc, None))
        .into();
    let with = |arc: u64| [none.as_slice(), &[(arc, Some("x"))]].concat();
    assert_eq!(name_of(people.signer(&signer("release", &[]))), "release");
    assert_eq!(name_of(people.signer(&signer("build", &[]))), "similar");
    assert_eq!(name_of(people.signer(&signer("stranger", &[]))), "unknown");
    assert_eq!(name_of(people.signer(&signer("key", &[]))), "keeper");
    assert_eq!(name_of(people.signer(&signer(uri, &none))), "alice");
    assert_eq!(name_of(people.signer(&signer(uri, &with(24)))), "alice");
    // What only a pipeline's certificate carries makes it a workload, whatever it calls itself.
    for arc in [9, 11, 12, 18, 21] {
        assert_eq!(
            name_of(people.signer(&signer(uri, &with(arc)))),
            "unknown",
            "{arc}"
        );
    }
}

/// A directory with this many people, each with three identities, and a group of a tenth of them.
fn many(count: usize) -> String {
    let mut text = document("many", "  people:\n");
    for n in 0..count {
        let _ = writeln!(
            text,
            "  - {{name: p{n}, identities: [{{certificate: {{issuer: 'https://accounts.google.com', email: p{n}@example.com}}}}, {{github: {{login: p{n}, id: {n}}}}}, {{kubernetes: {{user: p{n}@example.com}}}}]}}"
        );
    }
    text.push_str("  groups:\n  - name: leads\n    members:\n");
    (0..count / 10).for_each(|n| {
        let _ = writeln!(text, "    - p{n}");
    });
    text
}

#[test]
fn ten_thousand_people_are_read_and_found() {
    let people = people(&[("people.yaml", many(10_000))]);
    assert_eq!(people.people().len(), 10_000);
    let identity: Identity =
        serde_json::from_value(json!({"github": {"login": "x", "id": 9_999}})).unwrap();
    assert_eq!(name_of(people.person_of(&identity)), "p9999");
    assert_eq!(people.members("leads").count(), 1_000);
}

#[test]
fn hostile_directories_are_refused_within_bounds() {
    let deep = document(
        "deep",
        &format!("  people: {}{}\n", "[".repeat(5_000), "]".repeat(5_000)),
    );
    assert!(!problems(&[("deep.yaml", deep)]).is_empty());
    let identities = "{github: {login: a}}, ".repeat(65);
    let wide = document(
        "wide",
        &format!("  people: [{{name: a, identities: [{identities}]}}]\n"),
    );
    let said = problems(&[("wide.yaml", wide)]);
    assert!(
        said[0].contains("the list has 65 items; expected at most 64"),
        "{said:#?}"
    );
    let strangers: String = (0..20_000).map(|n| format!("s{n}, ")).collect();
    let group = document(
        "group",
        &format!("  groups: [{{name: g, members: [{strangers}]}}]\n"),
    );
    assert_eq!(problems(&[("group.yaml", group)]).len(), 200);
    let bad = "- {name: 'A B', identities: [{kubernetes: {user: ''}}]}\n  ".repeat(20_000);
    let said = problems(&[("bad.yaml", document("bad", &format!("  people:\n  {bad}")))]);
    assert_eq!(said.len(), 200);
    let nobody = document("nobody", "  people: [{name: a, identities: []}]\n");
    assert!(problems(&[("nobody.yaml", nobody)])[0].contains("the list is empty"));
    let aliases = "  people: &a [{name: a, identities: &i [{kubernetes: {user: a}}]}, {name: b, identities: *i}]\n  groups: [{name: g, members: [a]}]\n";
    let said = problems(&[("aliases.yaml", document("aliases", aliases))]);
    assert!(said[0].contains("an identity has one holder"), "{said:#?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_order_of_files_and_entries_never_matters(
        holders in proptest::collection::vec((0..5u8, 0..5u8), 1..6),
        members in proptest::collection::vec(0..5u8, 0..4),
        rotation in 0..6usize,
    ) {
        let person = |(name, identity): &(u8, u8)| format!("{{name: p{name}, identities: [{{github: {{login: u{identity}}}}}]}}");
        let file = |at: usize, entries: &[(u8, u8)], members: &[u8]| {
            let people: Vec<_> = entries.iter().map(person).collect();
            let members: Vec<_> = members.iter().map(|n| format!("p{n}")).collect();
            let spec = format!("  people: [{}]\n  groups: [{{name: g, members: [{}]}}]\n", people.join(", "), members.join(", "));
            (format!("{at}.yaml"), document(&format!("d{at}"), &spec))
        };
        let read = |files: Vec<(String, String)>| {
            let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
            load(&files).people
        };
        let half = holders.len() / 2;
        let straight = read(vec![file(0, &holders[..half], &members), file(1, &holders[half..], &[])]);
        let mut turned = holders;
        let by = rotation % turned.len();
        turned.rotate_left(by);
        turned.reverse();
        let members: Vec<_> = members.into_iter().rev().collect();
        let other = read(vec![file(1, &turned, &[]), file(0, &[], &members)]);
        prop_assert_eq!(straight, other);
    }
}

/// Runs `people` in a folder with the example.
fn asks(args: &[&str]) -> (i32, String) {
    let folder = TempDir::new().unwrap();
    fs::write(
        folder.path().join("people.yaml"),
        document("example", EXAMPLE),
    )
    .unwrap();
    fs::write(folder.path().join("policy.yaml"), POLICY).unwrap();
    fs::write(folder.path().join("key.pub"), FACTS.key.public_pem()).unwrap();
    let ran = run(folder.path(), &[&["people"], args].concat(), "");
    (ran.code, ran.stdout + &ran.stderr)
}

#[test]
fn who_says_whose_an_identity_is_and_what_was_probably_meant() {
    for (written, code, said) in [
        (
            "alice@example.com",
            0,
            "alice (Alice Example)\n  valid:  before 2027-01-01T00:00:00Z",
        ),
        ("github:ALICE", 0, "  groups: security-team\n"),
        ("github:renamed#583231", 0, "alice (Alice Example)"),
        (
            "gitlab:gitlab.example.com/bob",
            0,
            "security-team (from 2026-01-01T00:00:00Z and before 2026-02-01T00:00:00Z), not at this time",
        ),
        ("bob", 0, "`gitlab:gitlab.example.com/bob`"),
        ("github:dependabot[bot]", 0, "dependabot: automation"),
        (
            "alice+x@example.com",
            2,
            "similar to an identity of `alice`; it fills no seat",
        ),
        (
            "alicce@example.com",
            2,
            "not in the directory: `alicce@example.com`, did you mean `alice@example.com`?",
        ),
        ("github:alice#7", 2, "not in the directory"),
        ("kubernetes:alice", 2, "not in the directory"),
        ("key.pub", 2, "not in the directory"),
        ("https://people.example/@alice", 2, "not in the directory"),
        ("people.yaml", 1, "is not a public key"),
        (
            "nobody",
            1,
            "is neither a person of the directory nor an identity",
        ),
        ("github:@alice", 1, "is not a login"),
        ("github:alice#x", 1, "is not a number"),
    ] {
        let (found, text) = asks(&[
            "who",
            written,
            "people.yaml",
            "--at",
            "2026-06-01T00:00:00Z",
        ]);
        assert!(
            found == code && text.contains(said),
            "{written}: {found} {text}"
        );
    }
    let narrow = [
        "who",
        "alice@example.com",
        "--issuer",
        "https://other.example",
        ".",
    ];
    assert_eq!(asks(&narrow).0, 2);
    let (code, text) = asks(&["who", "github:alice", ".", "--output", "json"]);
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (code, &answer["found"], &answer["person"]["name"]),
        (0, &json!("person"), &json!("alice"))
    );
}

#[test]
fn list_shows_people_and_the_members_of_a_group_at_a_time() {
    let (code, text) = asks(&["list", "."]);
    assert_eq!((code, text.lines().count()), (0, 2), "{text}");
    let of = |at: &str| asks(&["list", "--group", "security-team", "--at", at, "."]).1;
    assert_eq!(of("2026-01-15T00:00:00Z").lines().count(), 2);
    assert!(
        of("2026-06-01T00:00:00Z").starts_with("alice")
            && of("2026-06-01T00:00:00Z").lines().count() == 1
    );
    assert_eq!(of("2027-06-01T00:00:00Z"), "");
    let (code, text) = asks(&["list", "--group", "security-taem", "."]);
    assert!(
        code == 1 && text.contains("did you mean `security-team`?"),
        "{text}"
    );
    let (_, text) = asks(&["list", ".", "--output", "json"]);
    let listed: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        listed["people"][1]["groups"][0]["periods"][0],
        json!({"from": "2026-01-01T00:00:00Z", "until": "2026-02-01T00:00:00Z"})
    );
    assert_eq!(listed["automation"], json!(["dependabot"]));
}

#[test]
fn check_counts_what_is_there_or_shows_every_problem() {
    assert_eq!(
        asks(&["check", "."]),
        (0, "people: 2, groups: 1, automation: 1\n".to_owned())
    );
    let (code, text) = asks(&["check", "policy.yaml"]);
    assert!(
        code == 1 && text.contains("policy.yaml: there is no `PeopleDirectory` in it"),
        "{text}"
    );
    let (code, text) = asks(&["check", "policy.yaml", "--output", "json"]);
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, answer["problems"].as_array().unwrap().len()), (1, 1));
    assert_eq!(asks(&["check"]).0, 1);
    assert_eq!(asks(&["check", "missing.yaml"]).0, 1);
}

#[test]
fn the_cluster_is_named_by_the_configuration_or_the_argument() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("gate.yaml");
    let named = |name: &str| {
        fs::write(
            &file,
            format!("{{apiVersion: promotion-gate.dev/v1alpha1, kind: GateConfiguration{name}}}"),
        )
        .unwrap();
        Config::load(Some(&file)).map(|config| config.world.cluster)
    };
    assert_eq!(
        named(", cluster: prod-eu1").unwrap(),
        Collected::Known("prod-eu1".to_owned())
    );
    assert!(matches!(named("").unwrap(), Collected::Unavailable(_)));
    for odd in ["''", "Prod", "a.b", "-a", &"a".repeat(64)] {
        let refused = format!("{:#}", named(&format!(", cluster: {odd}")).unwrap_err());
        assert!(
            refused.contains("gate.yaml:1:") && refused.contains("cluster"),
            "{refused}"
        );
    }
    let ran = run(
        folder.path(),
        &["check", "--policy", ".", "--cluster", "Prod", "."],
        "",
    );
    assert!(
        ran.code == 1 && ran.stderr.contains("`Prod` is not a name"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_person_who_left_is_no_member_though_still_listed() {
    let spec = EXAMPLE.replace("until: 2026-12-31", "until: 2026-03-31");
    let people = people(&[("people.yaml", document("one", &spec))]);
    let alice: &Person = people.person("alice").unwrap();
    for (at, is_member) in [
        ("2026-03-31T23:59:59Z", true),
        ("2026-04-01T00:00:00Z", false),
    ] {
        assert_eq!(
            people.is_member("security-team", alice, at.parse().unwrap()),
            is_member
        );
    }
}

#[test]
fn a_group_that_a_policy_names_and_no_directory_has_is_warned_of() {
    let policy = |from: &str| {
        format!(
            "{{apiVersion: promotion-gate.dev/v1alpha1, kind: PromotionPolicy, metadata: {{name: q}}, spec: {{environment: production, requirements: [{{digestPinned: {{}}}}, {{approvals: {{from: [{from}], differentFromAuthor: false}}}}]}}}}"
        )
    };
    let warnings = |from: &str, directory: bool| {
        let mut files = vec![("q.yaml", policy(from))];
        files.extend(directory.then(|| ("people.yaml", document("one", EXAMPLE))));
        let set = load(&files);
        assert_eq!(set.problems, []);
        let warnings = set.warnings.iter().map(ToString::to_string);
        warnings.collect::<Vec<_>>().join("\n")
    };
    assert_eq!(warnings("{group: security-team}", true), "");
    assert_eq!(warnings("{person: alice}", true), "");
    for (from, directory, says) in [
        (
            "{group: security-tem}",
            true,
            "names the group `security-tem`",
        ),
        ("{person: nemo}", true, "names the person `nemo`"),
        (
            "{group: security-team}",
            false,
            "names the group `security-team`",
        ),
    ] {
        let warnings = warnings(from, directory);
        assert!(warnings.contains(says), "{from}: {warnings}");
        assert!(
            warnings.contains("q.yaml:1:") && warnings.contains("spec.requirements[1].approvals")
        );
    }
}
