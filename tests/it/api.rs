//! Policies and configurations that are wrong, and what is said about them.

use std::fs;

use promotion_gate::api;
use promotion_gate::config::Config;
use tempfile::TempDir;

use crate::facts::FACTS;

const HEAD: &str =
    "apiVersion: promotion-gate.dev/v1alpha1\nkind: PromotionPolicy\nmetadata: {name: p}\nspec:\n";
const SIGNER: &str =
    "{keyless: {issuer: \"https://i.example\", anyIdentity: true, trustRoots: [sandbox]}}";

fn problems(text: &str) -> Vec<String> {
    let sources = [("p.yaml".to_owned(), text.as_bytes().to_vec())];
    let set = api::load(&sources, &FACTS.trust_roots());
    assert!(set.problems.is_empty() || set.policies.is_empty() || text.contains("---"));
    set.problems.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn said(spec: &str, expected: &str) {
    let problems = problems(&format!("{HEAD}{spec}"));
    assert!(
        problems.iter().any(|problem| problem.contains(expected)),
        "{expected}: {problems:#?}"
    );
    assert!(
        problems
            .iter()
            .all(|problem| problem.starts_with("p.yaml:")),
        "{problems:#?}"
    );
}

#[test]
fn a_field_that_nobody_knows_is_refused_with_a_suggestion() {
    said(
        "  requirments: []\n",
        "p.yaml:5:3: spec.requirments: unknown field `requirments`, did you mean `requirements`?",
    );
    said(
        "  requirements: [{digestPinned: {}}]\n  enforcment: Warn\n",
        "did you mean `enforcement`?",
    );
    said(
        "  requirements: [{digestPinned: {}}]\n  enforcement: warn\n",
        "spec.enforcement",
    );
    said(
        "  requirements: [{digestPinned: {strict: true}}]\n",
        "unknown field `strict`",
    );
    said(
        "  requirements: [{signature: {anyOf: [{keyless: {isuer: x}}]}}]\n",
        "unknown field `isuer`, did you mean `issuer`?",
    );
}

#[test]
fn a_requirement_of_a_later_version_is_refused_by_name() {
    for name in ["sbom", "vulnerabilities", "approvals", "freeze"] {
        let expected = format!(
            "requirement `{name}` is not known to this version; known are `digestPinned`, `allowedImages`, `signature`, `provenance`"
        );
        said(&format!("  requirements: [{{{name}: {{}}}}]\n"), &expected);
    }
}

#[test]
fn evidence_about_tags_needs_digests_or_an_explicit_word() {
    let signature = format!("  requirements: [{{signature: {{anyOf: [{SIGNER}]}}}}]\n");
    said(
        &signature,
        "add `- digestPinned: {}`, or accept that race with `tags: Resolve`",
    );
    assert!(problems(&format!("{HEAD}{signature}  tags: Resolve\n")).is_empty());
}

#[test]
fn what_could_never_be_met_or_always_is_refused() {
    let signature =
        |body: &str| format!("  tags: Resolve\n  requirements: [{{signature: {body}}}]\n");
    said("  requirements: []\n", "spec.requirements");
    said(&signature("{anyOf: []}"), "nobody could sign");
    said(
        &signature(&format!("{{anyOf: [{SIGNER}], threshold: 0}}")),
        "threshold",
    );
    said(
        &signature(&format!("{{anyOf: [{SIGNER}], allOf: [{SIGNER}]}}")),
        "exactly one of `anyOf` and `allOf`",
    );
    said(
        &signature("{anyOf: [{}]}"),
        "spec.requirements[0].signature",
    );
    said(
        &signature("{anyOf: [{keyless: {issuer: \"https://i.example\"}}]}"),
        "anyIdentity",
    );
    said(
        &signature("{anyOf: [{keyless: {issuer: \"*\", anyIdentity: true}}]}"),
        "glob",
    );
    said(&signature("{anyOf: [{key: {pem: x}}]}"), "PUBLIC KEY");
    for group in ["anyOf", "allOf"] {
        let group = format!("{{{group}: [{SIGNER}]}}");
        said(
            &signature(&format!("{{threshold: 2, anyOf: [{SIGNER}, {group}]}}")),
            "cannot be combined with groups",
        );
        let once = signature(&format!("{{threshold: 1, anyOf: [{SIGNER}, {group}]}}"));
        assert_eq!(problems(&format!("{HEAD}{once}")), Vec::<String>::new());
        let both = group.replacen('{', "{keyless: {issuer: \"https://i.example\"}, ", 1);
        said(
            &signature(&format!("{{anyOf: [{both}]}}")),
            "a signer is either one of `keyless` and `key`, or a group",
        );
    }
    let twice = signature(&format!("{{threshold: 2, anyOf: [{SIGNER}, {SIGNER}]}}"));
    assert_eq!(problems(&format!("{HEAD}{twice}")), Vec::<String>::new());
    said(
        &signature(
            "{anyOf: [{keyless: {issuer: \"https://i.example\", anyIdentity: true, trustRoots: [gone]}}]}",
        ),
        "p.yaml:6:111: spec.requirements[0].signature.anyOf[0].keyless.trustRoots[0]: unknown trust root `gone`",
    );
    said(
        &signature(&format!(
            "{{allOf: [{SIGNER}, {{anyOf: [{{key: {{pem: \"{}\", trustRoots: [sandbox, gone]}}}}]}}]}}",
            FACTS.key.public_pem().replace('\n', "\\n")
        )),
        "signature.allOf[1].anyOf[0].key.trustRoots[1]: unknown trust root `gone`",
    );
    said(
        "  requirements: [{allowedImages: {patterns: []}}]\n",
        "patterns",
    );
    said(
        "  requirements: [{allowedImages: {patterns: [\"[a-z]*\"]}}]\n",
        "`*` stands for",
    );
    said(
        "  requirements: [{digestPinned: {}}]\n  match: {images: []}\n",
        "spec.match.images",
    );
    said(
        "  requirements: [{digestPinned: {}}]\n  match: {namespaces: {}}\n",
        "leave `namespaces` out",
    );
    said(
        "  requirements: [{digestPinned: {}, allowedImages: {patterns: [x]}}]\n",
        "one rule per entry",
    );
}

#[test]
fn names_are_needed_and_are_unique() {
    let policy = "apiVersion: promotion-gate.dev/v1alpha1\nkind: PromotionPolicy\nmetadata: {name: p}\nspec: {requirements: [{digestPinned: {}}]}\n";
    let twice = problems(&format!("{policy}---\n{policy}"));
    assert!(
        twice[0].contains("another policy has the name `p` too"),
        "{twice:?}"
    );
    let unnamed = problems(&policy.replace("name: p", ""));
    assert!(unnamed[0].contains("metadata"), "{unnamed:?}");
}

#[test]
fn what_is_no_policy_is_said_and_never_skipped() {
    for (text, expected) in [
        ("kind: Nonsense\n", "p.yaml:1"),
        ("a: [1,\n", "p.yaml:"),
        ("- a\n- b\n", "p.yaml:1"),
        (
            "apiVersion: promotion-gate.dev/v9\nkind: PromotionPolicy\nmetadata: {name: p}\n",
            "v1alpha1",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: p}\n",
            "ConfigMap",
        ),
    ] {
        let problems = problems(text);
        assert!(
            problems.iter().any(|problem| problem.contains(expected)),
            "{text}: {problems:?}"
        );
    }
    let duplicate = problems(&format!(
        "{HEAD}  requirements: [{{digestPinned: {{}}}}]\n  requirements: []\n"
    ));
    assert!(
        duplicate[0].contains("duplicate key `requirements`"),
        "{duplicate:?}"
    );
}

#[test]
fn a_configuration_is_held_to_its_schema_and_its_files() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("gate.yaml");
    let load = |body: &str| {
        fs::write(
            &file,
            format!("apiVersion: promotion-gate.dev/v1alpha1\nkind: GateConfiguration\n{body}"),
        )
        .unwrap();
        Config::load(Some(&file))
    };
    load("").unwrap();
    for (body, expected) in [
        ("trustRoot: []\n", "did you mean `trustRoots`?"),
        ("trustRoots: [{name: ours, file: gone.json}]\n", "gone.json"),
        ("trustRoots: [{name: ours, file: gate.yaml}]\n", "ours"),
        (
            "registries: [{host: r.example, plainHTTP: true}]\n",
            "did you mean `plainHttp`?",
        ),
        ("credentials: [{registry: r.example}]\n", "`passwordFile`"),
        ("ungoverned: Maybe\n", "ungoverned"),
        ("dockerConfig: gone.json\n", "gone.json"),
        ("---\nmore: documents\n", "gate.yaml"),
    ] {
        let error = format!("{:#}", load(body).unwrap_err());
        assert!(error.contains(expected), "{body}: {error}");
    }
    fs::write(folder.path().join("root.json"), FACTS.trusted_root()).unwrap();
    let taken = load("trustRoots: [{name: sigstore, file: root.json}]\n").unwrap_err();
    assert!(
        taken.to_string().contains("the name `sigstore` is taken"),
        "{taken}"
    );
    let config = load("trustRoots: [{name: ours, file: root.json}]\n").unwrap();
    let names: Vec<_> = config.trust_roots.keys().map(String::as_str).collect();
    assert_eq!(names, ["github", "ours", "sigstore"]);
}
