//! Policies and configurations that are wrong, and what is said about them.

use std::fs;

use promotion_gate::api;
use promotion_gate::config::Config;
use tempfile::TempDir;

use serde_json::{Value, json};

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
    said(&signature("{anyOf: []}"), "no signature can be accepted");
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
        "`*` matches any text",
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
fn an_unreadable_document_of_our_group_or_kind_is_an_error() {
    for (text, expected) in [
        ("", "holds no document"),
        ("kind: PromotionPolicy\n", "expected the fields"),
        ("kind: PromotionPolcy\n", "expected the fields"),
        (
            "apiVersion: promotion-gate.dev/v1alpha1\nspec: {}\n",
            "expected the fields",
        ),
        (
            "apiversion: promotion-gate.dev/v1alpha1\nkind: PromotionPolicy\n",
            "expected the fields",
        ),
        ("apiVersion: promotion-g", "expected the fields"),
        ("apiVersion: [promotion-gate.dev/v1alpha1\n", "p.yaml:"),
        ("kind: promotionpolicy\n  a: b\n", "p.yaml:"),
        (
            "apiVersion: promotion-gate.dev/v9\nkind: PromotionPolicy\nmetadata: {name: p}\n",
            "v1alpha1",
        ),
        (
            "apiVersion: promotiongate.dev/v1alpha1\nkind: Policy\nmetadata: {name: p}\n",
            "expected `promotion-gate.dev/v1alpha1`",
        ),
        (
            "apiVersion: apps/v1\nkind: PromotionPolicy\nmetadata: {name: p}\n",
            "expected `promotion-gate.dev/v1alpha1`",
        ),
        (
            "apiVersion: promotion-gate.dev/v1alpha1\nkind: PromotionPolicies\nmetadata: {name: p}\n",
            "did you mean `PromotionPolicy`?",
        ),
        (
            "apiVersion: v1\nkind: List\nitems: [{apiVersion: promotion-gate.dev/v1alpha1, kind: PromotionPolicy, metadata: {name: p}}]\n",
            "write each as a document of its own",
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
fn a_policy_folder_may_hold_other_things_and_they_are_counted() {
    let folder = TempDir::new().unwrap();
    let policy = format!("{HEAD}  requirements: [{{digestPinned: {{}}}}]\n");
    for (name, text) in [
        ("policy.yaml", policy.as_str()),
        (
            "deployment.yaml",
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n---\napiVersion: policy.example/v1\nkind: PolicySet\n",
        ),
        ("values.yaml", "replicas: 3\n"),
        ("Chart.yaml", "apiVersion: v2\nname: web\n"),
        ("list.yaml", "- a\n- b\n"),
        (
            "template.yaml",
            "{{ if .Values.enabled }}\nkind: Service\n{{ end }}\n",
        ),
        ("kustomization.yaml", "resources: [policy.yaml]\n"),
        (".github/workflows/check.yml", "on: push\njobs: {}\n"),
        (".hidden.yaml", "kind: PromotionPolicy\n"),
        ("..data/policy.yaml", "kind: PromotionPolicy\n"),
        ("notes.md", "# PromotionPolicy\n"),
    ] {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let (_, set) = api::load_paths(&[folder.path().to_owned()], &FACTS.trust_roots());
    assert_eq!(set.problems, []);
    assert_eq!(set.policies.len(), 1);
    assert_eq!(
        set.skipped.to_string(),
        "skipped: 5 documents of other kinds, 2 hidden entries, 1 kustomization file, 1 file that cannot be parsed"
    );
}

#[test]
fn a_policy_is_not_lost_by_the_name_of_its_file_or_in_a_list() {
    let folder = TempDir::new().unwrap();
    let policy = format!("{HEAD}  requirements: [{{digestPinned: {{}}}}]\n");
    for (index, name) in ["a.YAML", "b.Yml", "kustomization.yaml"].iter().enumerate() {
        let text = policy.replace("name: p", &format!("name: p{index}"));
        fs::write(folder.path().join(name), text).unwrap();
    }
    let (_, set) = api::load_paths(&[folder.path().to_owned()], &FACTS.trust_roots());
    assert_eq!(set.problems, []);
    assert_eq!(set.policies.len(), 3);
    let listed = "apiVersion: v1\nkind: List\nitems: [{apiVersion: Promotion-Gate.dev/v1alpha1, kind: PromotionPolicy}]\n";
    assert!(problems(listed)[0].contains("write each as a document of its own"));
    let owned = "apiVersion: v1\nkind: ConfigMap\nmetadata: {ownerReferences: [{apiVersion: promotion-gate.dev/v1alpha1, kind: PromotionPolicy, name: p, uid: x}]}\n";
    assert_eq!(problems(owned), Vec::<String>::new());
}

#[test]
fn a_policy_in_a_file_that_is_too_large_to_be_read_is_not_lost() {
    let folder = TempDir::new().unwrap();
    let policy = format!("{HEAD}  requirements: [{{digestPinned: {{}}}}]\n");
    fs::write(folder.path().join("policy.yaml"), &policy).unwrap();
    let padding = format!("# {}\n", "=".repeat(16 << 20));
    let set = || api::load_paths(&[folder.path().to_owned()], &FACTS.trust_roots()).1;
    let file = folder.path().join("large.yaml");
    for lost in [
        policy.replace("name: p", "name: q"),
        policy.replace("promotion-gate", "promotiongate"),
        policy.replace(
            "promotion-gate.dev/v1alpha1\nkind: Promotion",
            "v1\nkind: Promotoin",
        ),
    ] {
        fs::write(&file, format!("{padding}---\n{lost}")).unwrap();
        let problems: Vec<_> = set().problems.iter().map(ToString::to_string).collect();
        assert!(
            problems.len() == 1 && problems[0].contains("larger than 16 MiB"),
            "{problems:?}"
        );
    }
    fs::rename(&file, folder.path().join("kustomization.yaml")).unwrap();
    assert_eq!(set().problems.len(), 1);
    fs::write(folder.path().join("kustomization.yaml"), padding + "a: b\n").unwrap();
    assert_eq!(set().problems, []);
    assert_eq!(set().skipped.unreadable, 1);
    let endless = fs::File::create(folder.path().join("endless.yaml")).unwrap();
    endless.set_len(65 << 20).unwrap();
    assert!(set().problems[0].message.contains("larger than 64 MiB"));
}

#[test]
fn a_policy_whose_header_is_cut_off_at_any_place_is_never_skipped() {
    let policy = format!("{HEAD}  requirements: [{{digestPinned: {{}}}}]\n");
    let header = HEAD.find("metadata").unwrap();
    for end in 0..header {
        let cut = &policy[..end];
        assert!(!problems(cut).is_empty(), "{cut}");
    }
}

#[test]
fn a_policy_whose_kind_and_group_are_mistyped_is_never_skipped() {
    let policy = format!("{HEAD}  requirements: [{{digestPinned: {{}}}}]\n");
    let remedy = "write `apiVersion: promotion-gate.dev/v1alpha1` and `kind: PromotionPolicy`";
    for (version, kind, expected) in [
        ("policy.example/v1", "PromotionPolcy", remedy),
        ("policy.example/v1", "promotionPolicies", remedy),
        ("policy.example/v1", "Promotion-Policy", remedy),
        ("policy.example/v1", "PromotionPolicy", remedy),
        ("promotion.gate.dev/v1alpha1", "PromotionPolicy", remedy),
        ("promotiongate.dev/v1alpha1", "PromotionPolcy", remedy),
        ("policy.example/v1", "Policy", remedy),
        (
            "[promotion-gate.dev/v1alpha1]",
            "[PromotionPolicy]",
            "expected the fields",
        ),
        (
            "{promotion-gate.dev/v1alpha1: }",
            "5",
            "expected the fields",
        ),
        ("1", "{PromotionPolicy: true}", "expected the fields"),
        (
            "policy.example/v1",
            "[Promotion-Policy]",
            "expected the fields",
        ),
        (
            "\"promotion-gate.dev/v1alpha1 \"",
            "PromotionPolicy",
            remedy,
        ),
    ] {
        let text = policy
            .replacen("promotion-gate.dev/v1alpha1", version, 1)
            .replacen("PromotionPolicy", kind, 1);
        let problems = problems(&text);
        assert!(
            problems.len() == 1 && problems[0].contains(expected),
            "{text}: {problems:?}"
        );
    }
    let headless = policy.split_once("metadata").unwrap().1;
    assert!(!problems(&format!("metadata{headless}")).is_empty());
    for nested in [
        "- kind: PromotionPolicy\n  spec: {}\n",
        "apiVersion: v1\nkind: Template\nobjects: [{apiVersion: promotion-gate.dev/v1alpha1, kind: PromotionPolicy}]\n",
        "manifests:\n  one: {apiVersion: promotion-gate.dev/v1alpha1, kind: PromotionPolicy, spec: {}}\n",
    ] {
        let problems = problems(nested);
        assert!(
            problems[0].contains("write each as a document of its own"),
            "{nested}: {problems:?}"
        );
    }
}

#[test]
fn what_only_resembles_a_policy_from_afar_is_another_tool_s() {
    for text in [
        "{{ if .Values.enabled }}\nkind: NetworkPolicyTest\n",
        "{{ if .Values.enabled }}\nkind: ClusterPromotionPolicy\n",
        "{{ if .Values.enabled }}\nkind: PropagationPolicy\n",
        "{{ if .Values.enabled }}\nname: promotionpolicies.promotion-gate.dev\n",
        "{{ if .Values.enabled }}\nkind: MyGateConfiguration\n",
        "apiVersion: policy.karmada.io/v1alpha1\nkind: PropagationPolicy\n",
        "apiVersion: policy.example/v1\nkind: ClusterPromotionPolicy\n",
        "apiVersion: policy.example/v1\nkind: NetworkPolicyTest\n",
        "apiVersion: [v1]\nkind: {a: b}\n",
        "version: 2\nupdates: [promotion-gate.dev]\n",
        "apiVersion: karpenter.sh/v1\nkind: NodePool\nspec: {requirements: [{key: a, operator: Exists}]}\n",
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: promotionpolicies.promotion-gate.dev}\nspec: {group: promotion-gate.dev, names: {kind: PromotionPolicy, plural: promotionpolicies}}\n",
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\npatches: [{target: {group: promotion-gate.dev, kind: PromotionPolicy}, patch: '[]'}]\n",
    ] {
        assert_eq!(problems(text), Vec::<String>::new(), "{text}");
    }
    let templated = "{{ if .Values.enabled }}\nkind: PromotionPolicy\n";
    assert!(!problems(templated).is_empty());
    let sixteen = HEAD.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let set = api::load(&[("p.yaml".to_owned(), sixteen)], &FACTS.trust_roots());
    assert!(!set.problems.is_empty());
}

#[test]
fn a_list_of_policies_in_a_kustomization_file_is_not_skipped() {
    let folder = tempfile::TempDir::new().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let policy = |name: &str| {
        format!(
            "{{apiVersion: promotion-gate.dev/v1alpha1, kind: PromotionPolicy, metadata: {{name: {name}}}, spec: {{requirements: [{{digestPinned: {{}}}}]}}}}"
        )
    };
    write("a.yaml", &policy("a"));
    let list = format!("{{apiVersion: v1, kind: List, items: [{}]}}", policy("b"));
    write("kustomization.yaml", &list);
    let (_, set) = api::load_paths(&[folder.path().to_owned()], &FACTS.trust_roots());
    assert_eq!(set.problems.len(), 1, "{:?}", set.problems);
    assert!(set.problems[0].file.ends_with("kustomization.yaml"));
}

#[test]
fn values_and_reviews_beside_policies_are_foreign() {
    let policy = "{apiVersion: promotion-gate.dev/v1alpha1, kind: PromotionPolicy, metadata: {name: p}, spec: {requirements: [{digestPinned: {}}]}}";
    let review = format!(
        "{{apiVersion: admission.k8s.io/v1, kind: AdmissionReview, request: {{uid: u, object: {policy}}}}}"
    );
    for foreign in ["version: pro\nreplicas: 2\n", "version: p\n", &review] {
        let source = |name: &str, text: &str| (name.to_owned(), text.as_bytes().to_vec());
        let sources = [source("p.yaml", policy), source("values.yaml", foreign)];
        let set = api::load(&sources, &FACTS.trust_roots());
        assert!(set.problems.is_empty(), "{foreign}: {:?}", set.problems);
        assert_eq!(set.policies.len(), 1);
    }
}

#[test]
fn a_label_that_cannot_match_is_warned_of_where_something_else_can() {
    let load = |matches: Value| {
        let policy = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "PromotionPolicy", "metadata": {"name": "p"},
            "spec": {"match": {"namespaces": matches}, "requirements": [{"digestPinned": {}}]},
        });
        let sources = [("p.yaml".to_owned(), policy.to_string().into_bytes())];
        let set = api::load(&sources, &FACTS.trust_roots());
        (set.problems.len(), set.warnings.len())
    };
    let term = |operator: &str, values: &[&str]| {
        json!({"selector": {"matchExpressions": [
            {"key": "kubernetes.io/metadata.name", "operator": operator, "values": values},
        ]}})
    };
    assert_eq!(load(term("In", &["Shop"])), (1, 0));
    assert_eq!(load(term("In", &["shop", "Shop"])), (0, 1));
    assert_eq!(load(term("NotIn", &["kube_system"])), (0, 1));
    let contradiction = json!({"matchLabels": {"tier": "a"}, "matchExpressions": [
        {"key": "tier", "operator": "NotIn", "values": ["a"]},
    ]});
    assert_eq!(load(json!({"selector": contradiction})), (1, 0));
    assert_eq!(
        load(json!({"names": ["shop"], "selector": contradiction})),
        (0, 1)
    );
}

#[test]
fn a_path_without_a_policy_is_an_error_even_beside_one_that_has_some() {
    let folder = TempDir::new().unwrap();
    let [with, without] = ["with", "without"].map(|name| folder.path().join(name));
    for folder in [&with, &without] {
        fs::create_dir(folder).unwrap();
        fs::write(
            folder.join("service.yaml"),
            "apiVersion: v1\nkind: Service\n",
        )
        .unwrap();
    }
    let policy = format!("{HEAD}  requirements: [{{digestPinned: {{}}}}]\n");
    fs::write(with.join("policy.yaml"), policy).unwrap();
    for paths in [
        vec![with.clone(), without.clone()],
        vec![without.clone()],
        vec![with.clone(), with.join("service.yaml")],
    ] {
        let (_, set) = api::load_paths(&paths, &FACTS.trust_roots());
        let problems: Vec<_> = set.problems.iter().map(ToString::to_string).collect();
        assert!(
            problems.len() == 1 && problems[0].contains("there is no policy in it"),
            "{paths:?}: {problems:?}"
        );
    }
}

#[test]
fn a_pattern_that_can_match_nothing_is_refused_with_the_remedy() {
    let provenance = |fields: &str| {
        format!(
            "  tags: Resolve\n  requirements: [{{provenance: {{builders: [{{id: \"https://b.example\", signedBy: {SIGNER}}}], {fields}}}}}]\n"
        )
    };
    let named = |name: &str| {
        format!(
            "  match: {{namespaces: {{names: [\"{name}\"]}}}}\n  requirements: [{{digestPinned: {{}}}}]\n"
        )
    };
    let selected = |selector: &str| {
        format!(
            "  match: {{namespaces: {{selector: {selector}}}}}\n  requirements: [{{digestPinned: {{}}}}]\n"
        )
    };
    for (spec, remedy) in [
        (
            "  match: {images: [\"r.example/app:*\"]}\n  requirements: [{digestPinned: {}}]\n"
                .to_owned(),
            "write `r.example/app`",
        ),
        (
            "  requirements: [{allowedImages: {patterns: [\"r.example/app:v*\"]}}]\n".to_owned(),
            "write `r.example/app`",
        ),
        (
            "  requirements: [{allowedImages: {patterns: [\"ghcr.io\"]}}]\n".to_owned(),
            "write `ghcr.io/**`",
        ),
        (
            "  requirements: [{allowedImages: {patterns: [\"ghcr.io/Example/*\"]}}]\n".to_owned(),
            "write `ghcr.io/example/*`",
        ),
        (named("prod-.*"), "no namespace matches `prod-.*`"),
        (named("Prod-*"), "no namespace matches `Prod-*`"),
        (named("^prod$"), "is a regular expression"),
        (named("-prod"), "begin and end with a letter"),
        (
            "  match: {namespaces: {selector: {matchLabels: {tier: \"prod*\"}}}}\n  requirements: [{digestPinned: {}}]\n"
                .to_owned(),
            "no label has the value `prod*`",
        ),
        (
            selected("{matchLabels: {tier: a}, matchExpressions: [{key: tier, operator: NotIn, values: [a]}]}"),
            "no value of the label `tier` fulfils every term",
        ),
        (
            selected("{matchExpressions: [{key: tier, operator: In, values: [a]}, {key: tier, operator: NotIn, values: [a]}]}"),
            "list alternatives in one `In`",
        ),
        (
            selected("{matchExpressions: [{key: tier, operator: Exists}, {key: tier, operator: DoesNotExist}]}"),
            "remove the term that excludes them",
        ),
        (
            selected("{matchExpressions: [{key: tier, operator: In, values: [a]}, {key: tier, operator: In, values: [b]}]}"),
            "fulfils every term",
        ),
        (
            selected("{matchLabels: {kubernetes.io/metadata.name: Prod}}"),
            "under `match.namespaces.names`",
        ),
        (
            provenance("anySource: true, branches: [\"main$\"]"),
            "is a regular expression, which is not supported; write `main`;",
        ),
        (
            provenance("anySource: true, tags: [\"^v.*\"]"),
            "write `v**`;",
        ),
        (
            provenance("anySource: true, buildTypes: [\"^https://b/.*$\"]"),
            "write `{glob: \"https://b/**\"}`",
        ),
        (
            provenance("sources: [\"git@github.com:example/app.git\"]"),
            "write `https://github.com/example/app`",
        ),
        (
            provenance("sources: [example/app]"),
            "write `https://github.com/example/app`",
        ),
        (
            provenance("sources: [\"https://github.com/example\"]"),
            "write `https://github.com/example/NAME`, or `{glob: \"https://github.com/example/*\"}`",
        ),
        (
            provenance("sources: [\"https://gitlab.com/example\"]"),
            "write `https://gitlab.com/example/NAME`",
        ),
        (
            provenance("sources: [\"https://github.com/example/app/tree/main\"]"),
            "write `https://github.com/example/app`",
        ),
        (
            provenance("anySource: true, branches: [refs/heads/main]"),
            "write `main`",
        ),
        (
            provenance("anySource: true, tags: [refs/tags/v1]"),
            "write `v1`",
        ),
        (
            provenance("anySource: true, branches: [refs/tags/v1]"),
            "write `main`",
        ),
        (
            provenance("anySource: true, branches: [\"release-[0-9]\"]"),
            "references of git cannot contain `[`",
        ),
        (
            provenance("sources: [{glob: \"https://github.com/example/app.git\"}]"),
            "write `https://github.com/example/app`",
        ),
        (
            provenance("sources: [{glob: \"https://github.com/example/*@refs/heads/main\"}]"),
            "references under `branches` or `tags`",
        ),
        (
            provenance("sources: [{glob: \"https://github.com/*\"}]"),
            "write `https://github.com/**`",
        ),
        (
            provenance("sources: [{glob: \"https://github.com/example\"}]"),
            "write `https://github.com/example/*`",
        ),
        (
            provenance("sources: [{glob: \"^https://github.com/example/.*$\"}]"),
            "is a regular expression",
        ),
        (
            provenance("anySource: true, buildTypes: [\"^https://b$\"]"),
            "is a regular expression",
        ),
    ] {
        said(&spec, remedy);
    }
}

/// That a sound policy is warned of in these words; of nothing where they are empty.
#[track_caller]
fn warned(spec: &str, expected: &str) {
    let sources = [("p.yaml".to_owned(), format!("{HEAD}{spec}").into_bytes())];
    let set = api::load(&sources, &FACTS.trust_roots());
    assert_eq!(set.problems, [], "{spec}");
    let warnings: Vec<_> = set.warnings.iter().map(ToString::to_string).collect();
    match expected {
        "" => assert!(warnings.is_empty(), "{spec}: {warnings:?}"),
        expected => assert!(
            warnings.iter().any(|warning| warning.contains(expected)),
            "{spec}: {warnings:?}"
        ),
    }
}

#[test]
fn seats_that_only_one_signer_can_fill_are_warned_of() {
    let person = |identity: &str| {
        format!(
            "{{keyless: {{issuer: \"https://i.example\", identity: {identity}, trustRoots: [sandbox]}}}}"
        )
    };
    let workflow = |reference: &str| {
        let of = "https://github.com/example/app/.github/workflows/release.yml";
        person(&format!("{{glob: \"{of}@{reference}\"}}"))
    };
    let (alice, bob) = (person("alice@example.com"), person("bob@example.com"));
    let shouted = person("ALICE@example.com");
    let anybody = person("{glob: \"*@example.com\"}");
    let (tags, main) = (workflow("refs/tags/v*"), workflow("refs/heads/main"));
    let key = format!(
        "{{key: {{pem: \"{}\"}}}}",
        FACTS.key.public_pem().replace('\n', "\\n")
    );
    let never = "requirements[0].signature: this can never be met";
    for (signers, expected) in [
        (format!("{{threshold: 2, anyOf: [{tags}]}}"), never),
        (format!("{{threshold: 2, anyOf: [{tags}, {main}]}}"), never),
        (
            format!("{{threshold: 2, anyOf: [{alice}, {shouted}]}}"),
            never,
        ),
        (format!("{{threshold: 2, anyOf: [{key}]}}"), never),
        (format!("{{threshold: 3, anyOf: [{alice}, {bob}]}}"), never),
        (format!("{{allOf: [{alice}, {alice}]}}"), never),
        (format!("{{allOf: [{tags}, {{anyOf: [{main}]}}]}}"), never),
        (
            format!("{{anyOf: [{bob}, {{allOf: [{alice}, {shouted}]}}]}}"),
            never,
        ),
        (
            format!("{{threshold: 2, anyOf: [{anybody}, {tags}]}}"),
            "`threshold: 2` is met by any 2 different signers that `*@example.com` (issuer `https://i.example`) matches",
        ),
        (
            format!("{{allOf: [{bob}, {{threshold: 2, anyOf: [{anybody}]}}]}}"),
            "is met by any 2",
        ),
        (format!("{{anyOf: [{anybody}, {tags}]}}"), ""),
        (format!("{{threshold: 2, anyOf: [{alice}, {bob}]}}"), ""),
        (format!("{{threshold: 2, anyOf: [{alice}, {key}]}}"), ""),
        (format!("{{allOf: [{anybody}, {alice}, {tags}]}}"), ""),
        (
            format!("{{allOf: [{alice}, {{anyOf: [{alice}, {bob}]}}]}}"),
            "",
        ),
        (format!("{{threshold: 1, anyOf: [{tags}]}}"), ""),
    ] {
        let spec = format!("  tags: Resolve\n  requirements: [{{signature: {signers}}}]\n");
        warned(&spec, expected);
    }
}

#[test]
fn what_probably_comes_from_another_tool_is_warned_of() {
    let allowed = |pattern: &str| {
        format!("  requirements: [{{allowedImages: {{patterns: [\"{pattern}\"]}}}}]\n")
    };
    for (pattern, expected) in [
        ("*", "write `**`"),
        ("*/*", "of Docker Hub alone"),
        ("ghcr.io/*", "write `ghcr.io/**`"),
        ("ghcr.io/example*", "write `ghcr.io/example**`"),
        ("registry.example/*", "write `registry.example/**`"),
        ("docker.io/*", ""),
        ("ghcr.io/example/*", ""),
        ("**", ""),
        ("registry.k8s.io/**", ""),
    ] {
        warned(&allowed(pattern), expected);
    }
    let shouted =
        "  match: {images: [\"GHCR.io/example/**\"]}\n  requirements: [{digestPinned: {}}]\n";
    warned(shouted, "write `ghcr.io/example/**`");
    let tagged = "  tags: Resolve\n  match: {images: [\"r.example/app:*\"]}\n  requirements: [{allowedImages: {patterns: [\"r.example/**\"]}}]\n";
    warned(tagged, "write `r.example/app` to match those too");
    let signed = |issuer: &str, identity: &str| {
        format!(
            "  tags: Resolve\n  requirements: [{{signature: {{anyOf: [{{keyless: {{issuer: \"{issuer}\", identity: {identity}, trustRoots: [sandbox]}}}}]}}}}]\n"
        )
    };
    let github = "https://token.actions.githubusercontent.com";
    for (issuer, identity, expected) in [
        (
            github,
            "{glob: \"https://github.com/example/*\"}",
            "`**` crosses parts",
        ),
        (
            github,
            "\"https://github.com/example/app/.github/workflows/release.yml\"",
            "which looks like",
        ),
        (github, "\"release@example.com\"", "which looks like"),
        (github, "{glob: \"https://github.com/example/**\"}", ""),
        (
            github,
            "\"https://github.com/example/app/.github/workflows/release.yml@refs/heads/main\"",
            "",
        ),
        (
            "https://token.actions.githubusercontent.com/",
            "{glob: \"https://github.com/example/**\"}",
            "write `https://token.actions.githubusercontent.com`",
        ),
        (
            "accounts.google.com",
            "\"a@example.com\"",
            "write `https://accounts.google.com`",
        ),
        (
            "https://gitlab.com",
            "{glob: \"https://gitlab.com/group/*\"}",
            "which looks like",
        ),
        (
            "https://gitlab.com",
            "{glob: \"https://gitlab.com/group/*//.gitlab-ci.yml@refs/heads/main\"}",
            "",
        ),
        (
            "https://i.example",
            "{glob: \"https://github.com/.*/x\"}",
            "begin with a dot",
        ),
        (
            "https://i.example",
            "{glob: \"https://github.com/(a|b)/x\"}",
            "one entry for each",
        ),
        (
            "https://i.example",
            "{glob: \"https://github.com/{a,b}/x\"}",
            "one entry for each",
        ),
        (
            "https://i.example",
            "{glob: \"release-[0-9]@example.com\"}",
            "character classes",
        ),
        (
            "https://i.example",
            "\"https://github.com/.+/x\"",
            "write `{glob: …}` with `*`",
        ),
        (
            "https://i.example",
            "\"(a|b)@example.com\"",
            "one entry for each",
        ),
        ("https://i.example", "\"https://ci.example/?job=1\"", ""),
        (
            github,
            "{glob: \"https://github.com/example/app/.github/workflows/*@main\"}",
            "which looks like",
        ),
        (
            github,
            "\"https://github.com/example/app/.github/workflows/release.yml@1111111111111111111111111111111111111111\"",
            "",
        ),
    ] {
        warned(&signed(issuer, identity), expected);
    }
    let claimed = |claims: &str| {
        format!(
            "  tags: Resolve\n  requirements: [{{signature: {{anyOf: [{{keyless: {{issuer: \"https://i.example\", anyIdentity: true, claims: {claims}, trustRoots: [sandbox]}}}}]}}}}]\n"
        )
    };
    for (claims, expected) in [
        (
            "{sourceRepositoryRef: main}",
            "which looks like `refs/heads/main`",
        ),
        (
            "{githubWorkflowRef: {glob: \"v*\"}}",
            "which looks like `refs/heads/main`",
        ),
        (
            "{sourceRepository: example/app}",
            "https://github.com/OWNER/NAME",
        ),
        (
            "{sourceRepositoryUri: {glob: \"https://github.com/*\"}}",
            "OWNER/NAME",
        ),
        (
            "{githubWorkflowRepository: \"https://github.com/example/app\"}",
            "`OWNER/NAME`",
        ),
        ("{runnerEnvironment: (a|b)}", "one entry for each"),
        (
            "{sourceRepositoryRef: {glob: \"refs/tags/v*\"}, sourceRepository: \"https://github.com/example/app\", githubWorkflowRepository: {glob: \"example/*\"}}",
            "",
        ),
    ] {
        warned(&claimed(claims), expected);
    }
    let built = |fields: &str| {
        format!(
            "  tags: Resolve\n  requirements: [{{provenance: {{builders: [{{id: \"https://b.example\", signedBy: {SIGNER}}}], {fields}}}}}]\n"
        )
    };
    for (fields, expected) in [
        (
            "anySource: true, branches: [\"release-.*\"]",
            "write `*` or `**` without it",
        ),
        (
            "anySource: true, branches: [\"(main|master)\"]",
            "one entry for each",
        ),
        (
            "anySource: true, branches: [\"{main,master}\"]",
            "one entry for each",
        ),
        (
            "anySource: true, branches: [\".+\"]",
            "write `*` or `**` without it",
        ),
        ("anySource: true, branches: [heads/main]", "write `main`"),
        (
            "anySource: true, tags: [\"v.*\"]",
            "write `*` or `**` without it",
        ),
        (
            "anySource: true, tags: [\"v1.*\"], branches: [main, \"release/*\"]",
            "",
        ),
        (
            "anySource: true, buildTypes: [\"https://b/.+\"]",
            "write `{glob: …}` with `*`",
        ),
        (
            "sources: [\"http://github.com/example/app\"]",
            "write `https://github.com/example/app`",
        ),
        (
            "sources: [\"ssh://git@github.com/example/app\"]",
            "write `https://github.com/example/app`",
        ),
        (
            "sources: [\"https://www.github.com/example/app\"]",
            "write `https://github.com/example/app`",
        ),
        (
            "sources: [\"https://git.example/app\", \"https://gitlab.com/a/b/c\", {glob: \"https://github.com/example/*\"}]",
            "",
        ),
    ] {
        warned(&built(fields), expected);
    }
}

#[test]
fn fields_of_other_tools_are_refused_with_what_to_use_instead() {
    let signature =
        |body: &str| format!("  tags: Resolve\n  requirements: [{{signature: {body}}}]\n");
    for (spec, expected) in [
        (
            "  authorities: [{}]\n  requirements: [{digestPinned: {}}]\n".to_owned(),
            "use `- signature: {anyOf: […]}` instead",
        ),
        (
            "  requirements: [{attestors: []}]\n".to_owned(),
            "use `- signature: {anyOf: […]}` instead",
        ),
        (
            "  images: []\n  requirements: [{digestPinned: {}}]\n".to_owned(),
            "use `match.images` instead",
        ),
        (
            signature("{anyOf: [{keyless: {issuer: \"https://i.example\", subject: x}}]}"),
            "unknown field `subject`; use `identity` instead",
        ),
        (
            signature("{anyOf: [{keyless: {issuer: \"https://i.example\", subjectRegExp: x}}]}"),
            "use `identity: {glob: …}` instead",
        ),
        (
            signature(
                "{anyOf: [{keyless: {issuer: \"https://i.example\", identity: {regex: x}}}]}",
            ),
            "use `glob` instead",
        ),
        (
            "  rules: []\n  requirements: [{digestPinned: {}}]\n".to_owned(),
            "unknown field `rules`; use `requirements` instead",
        ),
        (
            "  staleness: 90\n  requirements: [{digestPinned: {}}]\n".to_owned(),
            "staleness",
        ),
        (
            "  staleness: soon\n  requirements: [{digestPinned: {}}]\n".to_owned(),
            "spec.staleness: `soon` is not a length of time; write a whole number",
        ),
        (
            "  exclude: {}\n  requirements: [{digestPinned: {}}]\n".to_owned(),
            "unknown field `exclude`; use `match`, which names what is governed, instead",
        ),
        (
            "  keyless: {}\n  requirements: [{digestPinned: {}}]\n".to_owned(),
            "use `- signature: {anyOf: [{keyless: {…}}]}` instead",
        ),
        (
            "  requirements: [{digestPinned: {}}, {keyless: {}}]\n".to_owned(),
            "unknown field `keyless`; use `- signature: {anyOf: [{keyless: {…}}]}` instead",
        ),
        (
            signature(
                "{anyOf: [{keyless: {issuer: \"https://i.example\", certificate-identity: x}}]}",
            ),
            "unknown field `certificate-identity`; use `identity` instead",
        ),
        (
            signature(
                "{anyOf: [{keyless: {issuer: \"https://i.example\", certificateIdentity: x}}]}",
            ),
            "unknown field `certificateIdentity`; use `identity` instead",
        ),
        (
            signature("{attestors: []}"),
            "use `- signature: {anyOf: […]}` instead",
        ),
    ] {
        said(&spec, expected);
    }
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
        (
            "registries:\n- host: r.example\n  evidenceRepository: e.example/x:v1\n",
            "gate.yaml:5:23: registries[0].evidenceRepository: `e.example/x:v1` is not a repository: a repository has neither a tag nor a digest",
        ),
        (
            "registries:\n- host: a.example\n- host: r.example\n  evidenceRepository: r.example/{repository}\n",
            "gate.yaml:6:23: registries[1].evidenceRepository: `r.example/{repository}` is the image's own repository",
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
    let names: Vec<_> = config
        .world
        .trust_roots
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(names, ["github", "ours", "sigstore"]);
}
