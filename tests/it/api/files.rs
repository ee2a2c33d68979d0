//! Files and documents: which are policies, which belong to other tools, and none that is lost.

use std::fs;

use promotion_gate::api;
use tempfile::TempDir;

use super::{HEAD, problems};
use crate::facts::FACTS;

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
fn a_policy_with_a_truncated_header_is_never_skipped() {
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
fn a_path_without_a_policy_is_an_error() {
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
