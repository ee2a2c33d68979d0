//! `check` on input that hides something, and what its arguments change.

use std::fs;
use std::os::unix::fs::symlink;

use insta::assert_snapshot;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::{Bench, Ran, deployment, run};

/// Runs `check` with a policy that allows `good.example` alone; no registry is asked.
fn check(folder: &TempDir, args: &[&str], input: &str) -> Ran {
    fs::write(folder.path().join("policy.yaml"), ALLOWED).unwrap();
    let args: Vec<_> = ["check", "--policy", "policy.yaml"]
        .iter()
        .chain(args)
        .copied()
        .collect();
    run(folder.path(), &args, input)
}

const ALLOWED: &str = "apiVersion: promotion-gate.dev/v1alpha1\nkind: PromotionPolicy\nmetadata: {name: allowed}\nspec:\n  requirements: [{allowedImages: {patterns: [\"good.example/**\"]}}]\n";

fn pod(name: &str, image: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

#[test]
fn every_form_of_a_list_is_taken_apart() {
    let folder = TempDir::new().unwrap();
    let bare = |name: &str| {
        let mut pod = pod(name, "evil.example/a");
        let fields = pod.as_object_mut().unwrap();
        fields.remove("apiVersion");
        fields.remove("kind");
        pod
    };
    let list = |kind: &str, items: Value| json!({"apiVersion": "v1", "kind": kind, "items": items});
    for input in [
        list("List", json!([pod("a", "evil.example/a")])),
        list("PodList", json!([pod("a", "evil.example/a")])),
        list("PodList", json!([bare("a")])),
        list("List", json!([list("PodList", json!([bare("a")]))])),
    ] {
        let ran = check(&folder, &["-"], &input.to_string());
        assert_eq!(ran.code, 2, "{input}\n{}{}", ran.stdout, ran.stderr);
        assert!(
            ran.stdout.starts_with("deny Pod default/a (-:1)"),
            "{}",
            ran.stdout
        );
        let images = run(folder.path(), &["images", "-"], &input.to_string());
        assert_eq!(
            (images.code, images.stdout.as_str()),
            (0, "evil.example/a\n")
        );
    }
    let ran = check(&folder, &["-"], &list("List", json!([])).to_string());
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    let own = json!({"apiVersion": "example.com/v1", "kind": "AllowList", "spec": {}});
    assert_eq!(check(&folder, &["-"], &own.to_string()).code, 0);
}

#[test]
fn one_broken_document_does_not_hide_the_others() {
    let folder = TempDir::new().unwrap();
    let input = format!(
        "{}\n---\na: [\n---\n{}\n",
        pod("a", "good.example/a"),
        pod("b", "evil.example/a")
    );
    let ran = check(&folder, &["-"], &input);
    assert_eq!(ran.code, 1, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("deny Pod default/b"), "{}", ran.stdout);
    assert!(ran.stdout.contains("unreadable -:"), "{}", ran.stdout);
}

#[test]
fn dot_files_are_read_and_links_to_folders_are_reported() {
    let folder = TempDir::new().unwrap();
    let below = folder.path().join("rendered");
    fs::create_dir_all(below.join(".git")).unwrap();
    fs::write(below.join("a.yaml"), pod("a", "good.example/a").to_string()).unwrap();
    fs::write(below.join(".git/b.yaml"), "junk: [").unwrap();
    let ran = check(&folder, &["rendered"], "");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    fs::create_dir(below.join(".more")).unwrap();
    assert_eq!(
        check(&folder, &["rendered"], "").stderr,
        "promotion-gate: note: the hidden folder `rendered/.more` is not read; name it to read it\n"
    );
    fs::write(
        below.join(".evil.yaml"),
        pod("b", "evil.example/a").to_string(),
    )
    .unwrap();
    assert_eq!(check(&folder, &["rendered"], "").code, 2);
    fs::remove_file(below.join(".evil.yaml")).unwrap();
    symlink(folder.path(), below.join("more")).unwrap();
    let ran = check(&folder, &["rendered"], "");
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("`rendered/more` is a link to a folder"),
        "{}",
        ran.stderr
    );
}

#[test]
fn input_without_an_object_is_a_failure_unless_it_is_expected() {
    let folder = TempDir::new().unwrap();
    let ran = check(&folder, &["-"], "# nothing\n");
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("`--allow-empty` accepts that"),
        "{}",
        ran.stderr
    );
    assert_eq!(
        check(&folder, &["--allow-empty", "-"], "# nothing\n").code,
        0
    );
    for command in [&["images"][..], &["pin"], &["pin", "--check"]] {
        let ran = run(folder.path(), &[command, &["-"]].concat(), "# nothing\n");
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{command:?}");
        assert!(
            ran.stderr.contains("`--allow-empty` accepts that"),
            "{}",
            ran.stderr
        );
        let empty = [command, &["--allow-empty", "-"]].concat();
        assert_eq!(run(folder.path(), &empty, "# nothing\n").code, 0);
        assert_eq!(run(folder.path(), &empty, "a: 1\n").code, 1, "{command:?}");
    }
    let ran = run(folder.path(), &["pin", "--allow-empty", "-"], "# nothing\n");
    assert_eq!(ran.stdout, "# nothing\n");
    let ran = run(folder.path(), &["images", "-"], "image: nginx\n");
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert_eq!(
        ran.stderr,
        "promotion-gate: -:1:1: not a Kubernetes object: `apiVersion` or `kind` is missing\n"
    );
}

#[test]
fn what_cannot_be_read_is_never_called_allowed() {
    let folder = TempDir::new().unwrap();
    let input = format!("{}\n---\na: [\n", pod("a", "good.example/a"));
    let ran = check(&folder, &["--output", "json", "-"], &input);
    assert_eq!(ran.code, 1);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["decision"], "undecided");
    assert_eq!(report["objects"][0]["decision"], "allow");
    let ran = check(&folder, &["-"], &input);
    assert!(
        ran.stdout.contains("undecided of 1 object"),
        "{}",
        ran.stdout
    );
}

#[test]
fn a_selector_by_the_name_of_the_namespace_needs_no_labels() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("named.yaml"), ALLOWED.replace("spec:\n", "spec:\n  match: {namespaces: {selector: {matchLabels: {kubernetes.io/metadata.name: payments}}}}\n")).unwrap();
    let check = |args: &[&str]| {
        let args: Vec<_> = ["check", "--policy", "named.yaml"]
            .iter()
            .chain(args)
            .chain(&["-"])
            .copied()
            .collect();
        run(
            folder.path(),
            &args,
            &pod("a", "evil.example/a").to_string(),
        )
        .code
    };
    assert_eq!(check(&["--namespace", "payments"]), 2);
    assert_eq!(
        check(&[
            "--namespace",
            "payments",
            "--namespace-labels",
            "tier=production"
        ]),
        2
    );
    assert_eq!(check(&["--namespace", "shop"]), 0);
}

#[test]
fn every_policy_file_that_is_given_applies() {
    let folder = TempDir::new().unwrap();
    let other = ALLOWED
        .replace("name: allowed", "name: other")
        .replace("good.example", "other.example");
    fs::write(folder.path().join("other.yaml"), other).unwrap();
    let input = pod("a", "good.example/a").to_string();
    assert_eq!(check(&folder, &["-"], &input).code, 0);
    assert_eq!(
        check(&folder, &["--policy", "other.yaml", "-"], &input).code,
        2
    );
}

#[test]
fn a_policy_that_does_not_enforce_warns_and_lets_pass() {
    let folder = TempDir::new().unwrap();
    for (enforcement, said) in [
        ("Warn", "warning it would be denied by policy `lax`"),
        ("Audit", "warning it is recorded against policy `lax`"),
    ] {
        let lax = ALLOWED
            .replace("name: allowed", "name: lax")
            .replace("spec:\n", &format!("spec:\n  enforcement: {enforcement}\n"));
        fs::write(folder.path().join("lax.yaml"), lax).unwrap();
        let ran = run(
            folder.path(),
            &["check", "--policy", "lax.yaml", "-"],
            &pod("a", "evil.example/a").to_string(),
        );
        assert_eq!(ran.code, 0, "{}", ran.stdout);
        assert!(ran.stdout.contains(said), "{}", ran.stdout);
        assert!(
            !ran.stdout.contains('\u{1b}') && ran.stderr.is_empty(),
            "no colour, no progress in a pipe"
        );
    }
}

#[test]
fn check_says_that_overdue_reviews_block_nothing_without_a_cluster() {
    let folder = TempDir::new().unwrap();
    let production = concat!(env!("CARGO_MANIFEST_DIR"), "/policies/production");
    let ran = run(
        folder.path(),
        &["check", "--policy", production, "-"],
        &pod("a", "evil.example/a").to_string(),
    );
    for policy in ["production-applications", "production-registries"] {
        let said =
            format!("the policy `{policy}` says `blockOnOverdueReview`, which has no effect here");
        assert!(ran.stderr.contains(&said), "{policy}: {}", ran.stderr);
    }
}

#[test]
fn an_invalid_time_is_refused_with_the_expected_form() {
    let folder = TempDir::new().unwrap();
    let ran = check(&folder, &["--at", "yesterday", "-"], "");
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr
            .contains("expected a time with its offset, such as `2026-11-23T03:00:00Z`"),
        "{}",
        ran.stderr
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unreadable_outweighs_denied_and_denied_outweighs_undecided() {
    let bench = Bench::new().await;
    let unsigned = deployment("shop", &bench.image(&bench.unsigned));
    let unknown = deployment("shop", &format!("127.0.0.1:1/app@{}", bench.signed));
    let broken = "a: [\n";
    for (input, code) in [
        (format!("{unsigned}{broken}"), 1),
        (format!("{unknown}{broken}"), 1),
        (format!("{unknown}{unsigned}"), 2),
        (unknown, 3),
    ] {
        let ran = bench.check(&[], &input);
        assert_eq!(ran.code, code, "{}", ran.stdout);
    }
}

#[test]
fn an_image_that_only_kubectl_would_read_is_denied_or_refused() {
    let folder = TempDir::new().unwrap();
    let pod = |image: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: x}}\nspec:\n  containers:\n  - name: a\n    image: good.example/app{image}\n"
        )
    };
    for (hidden, input) in [
        (
            "a merge key after the key that it replaces",
            format!(
                "x: &x {{image: evil.example/miner}}\n{}    <<: *x\n",
                pod("")
            ),
        ),
        (
            "a line break of YAML 1.1",
            pod(" # the app\u{2028}  - name: b\u{2028}    image: evil.example/miner"),
        ),
        (
            "another line break of YAML 1.1",
            pod(" # \u{85}  - image: evil.example/miner"),
        ),
        (
            "items of an object that is no list by its kind",
            format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: innocent}}\nitems:\n- {}",
                pod("").replace("good", "evil").replace('\n', "\n  ")
            ),
        ),
        (
            "items of a workload",
            format!(
                "{}items:\n- {{apiVersion: v1, kind: Pod, metadata: {{name: y}}, spec: {{containers: [{{image: evil.example/miner}}]}}}}\n",
                pod("")
            ),
        ),
        (
            "a separator within a text",
            format!(
                "{}    command: [\"\n---\n{}",
                pod(""),
                pod("").replace("good", "evil")
            ),
        ),
    ] {
        let ran = check(&folder, &["-"], &input);
        assert!(
            [1, 2].contains(&ran.code),
            "{hidden}: {}{}",
            ran.stdout,
            ran.stderr
        );
    }
    assert_eq!(check(&folder, &["-"], &pod("")).code, 0);
}

#[test]
fn a_namespace_of_the_input_removes_no_operators_labels() {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write(
        "policy.yaml",
        &ALLOWED.replace(
            "spec:\n",
            "spec:\n  match: {namespaces: {selector: {matchLabels: {tier: production}}}}\n",
        ),
    );
    write(
        "gate.yaml",
        "apiVersion: promotion-gate.dev/v1alpha1\nkind: GateConfiguration\nnamespaces: [{name: payments, labels: {tier: production}}]\n",
    );
    let workload = |namespace: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: x, namespace: {namespace}}}\nspec: {{containers: [{{name: a, image: evil.example/a}}]}}\n---\n"
        )
    };
    let namespace = |name: &str, labels: &str| {
        format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n---\n"
        )
    };
    let policy = ["check", "--policy", "policy.yaml"];
    let configured = [&policy[..], &["--config", "gate.yaml", "-"]].concat();
    let by_flag = [
        &policy[..],
        &[
            "--namespace",
            "default",
            "--namespace-labels",
            "tier=production",
            "-",
        ],
    ]
    .concat();
    for (args, input, code) in [
        (
            &configured,
            workload("payments") + &namespace("payments", ""),
            2,
        ),
        (
            &configured,
            namespace("payments", "tier: test") + &workload("payments"),
            2,
        ),
        (
            &by_flag,
            workload("default") + &namespace("default", "tier: test"),
            2,
        ),
        // It fills gaps, but not with two contradicting objects.
        (
            &configured,
            workload("test") + &namespace("test", "tier: test"),
            0,
        ),
        (
            &configured,
            workload("test") + &namespace("test", "tier: production"),
            2,
        ),
        (
            &configured,
            workload("test")
                + &namespace("test", "tier: test")
                + &namespace("test", "tier: production"),
            3,
        ),
    ] {
        let ran = run(folder.path(), args, &input);
        assert_eq!(ran.code, code, "{input}{}{}", ran.stdout, ran.stderr);
    }
}

#[test]
fn unusable_input_exits_with_1_and_says_what_to_do() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("policy.yaml"), ALLOWED).unwrap();
    let pod = |image: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: x}}\nspec: {{containers: [{{name: a, image: \"{image}\"}}]}}\n"
        )
    };
    let helm = "Pulled: registry.example/charts/web:1.4.2\nDigest: sha256:1f2e\n---\n";
    for (input, said) in [
        (String::new(), "there is no object in the input"),
        ("# nothing\n".to_owned(), "there is no object in the input"),
        (pod("good.example/app:${TAG}"), "it holds a placeholder"),
        (pod("{{ .Values.image }}"), "it holds a placeholder"),
        (pod("ko://example.com/cmd"), "build it first"),
        (
            pod("bad image"),
            "-:4:38: spec.containers[0].image: `bad image`",
        ),
        (
            pod("a").replace("\"a\"", "[a]"),
            "-:4:38: spec.containers[0].image: expected a text",
        ),
        (
            format!("{helm}{}", pod("good.example/app")),
            "lines that Helm prints",
        ),
        ("replicas: 3\n".to_owned(), "not a Kubernetes object"),
    ] {
        for args in [
            &["check", "--policy", "policy.yaml", "-"][..],
            &["images", "-"],
            &["pin", "--check", "-"],
        ] {
            let ran = run(folder.path(), args, &input);
            let shown = format!("{}{}", ran.stdout, ran.stderr);
            assert_eq!(ran.code, 1, "{args:?} {input}: {shown}");
            assert!(shown.contains(said), "{args:?} {input}: {shown}");
        }
    }
}

#[test]
fn containers_of_an_unknown_kind_are_reported_as_unchecked() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("policy.yaml"), ALLOWED).unwrap();
    let object = |version: &str, kind: &str, spec: &str| {
        format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n---\n")
    };
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {image: a, command: b, script: c}\n---\n";
    for (version, kind, spec, field, column) in [
        (
            "serving.knative.dev/v1",
            "Service",
            "{template: {spec: {containers: [{image: evil.example/a}]}}}",
            "spec.template.spec.containers[0]",
            39,
        ),
        (
            "argoproj.io/v1alpha1",
            "Workflow",
            "{templates: [{name: a, script: {image: evil.example/a}}]}",
            "spec.templates[0].script",
            38,
        ),
        (
            "tekton.dev/v1",
            "Task",
            "{steps: [{image: evil.example/a}]}",
            "spec.steps[0]",
            16,
        ),
    ] {
        let input = config.to_owned() + &object(version, kind, spec);
        for args in [
            &["check", "--policy", "policy.yaml", "-"][..],
            &["images", "-"],
            &["pin", "--check", "-"],
        ] {
            let ran = run(folder.path(), args, &input);
            assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
            assert_eq!(
                ran.stderr,
                format!(
                    "promotion-gate: note: -:9:{column}: {field}: the kind `{kind}` of `{version}` is not known to this version, and seems to name an image here: its images are not checked; Pods created from it are judged in the cluster\n"
                ),
                "{args:?}"
            );
        }
        let ran = check(&folder, &["-"], &input);
        assert_eq!(
            ran.stdout,
            "allow of 0 objects: 0 allowed, 0 denied, 0 undecided; 1 object of an unknown kind is not checked; 1 without images\n"
        );
        let ran = check(&folder, &["--output", "json", "-"], &input);
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(report["notOurs"], 1);
        assert_eq!(
            report["unknown"],
            json!([{"file": "-", "line": 6, "apiVersion": version, "kind": kind, "namespace": null, "name": "x", "field": field}])
        );
    }
}

#[test]
fn check_says_that_kubectl_applies_only_the_items() {
    let folder = TempDir::new().unwrap();
    let with_items = |items: Value| {
        let mut object = pod("outer", "evil.example/outer");
        object["items"] = items;
        object.to_string()
    };
    for items in [
        json!([pod("inner", "good.example/inner")]),
        json!([]),
        Value::Null,
    ] {
        let ran = check(&folder, &["-"], &with_items(items));
        assert_eq!(ran.code, 2, "{}", ran.stdout);
        assert!(
            ran.stdout.contains("deny Pod default/outer"),
            "{}",
            ran.stdout
        );
        assert!(
            ran.stderr.contains(": items: `kubectl` takes any object with `items` at its top for a list and applies only these items, and not the `Pod` itself; remove `items`, or write `kind: List`"),
            "{}",
            ran.stderr
        );
    }
    let bare = json!([{"metadata": {"name": "inner"}}]);
    let ran = check(&folder, &["-"], &with_items(bare));
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    assert_eq!(
        ran.stdout.matches("unreadable").count(),
        1,
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout.contains("items[0]: the item of `Pod` has no `apiVersion` or no `kind`; `kubectl` takes any object with `items`"),
        "{}",
        ran.stdout
    );
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [pod("a", "good.example/a")]});
    assert_eq!(check(&folder, &["-"], &list.to_string()).stderr, "");
}

#[test]
fn an_item_or_object_of_an_empty_kind_does_not_go_unseen() {
    let folder = TempDir::new().unwrap();
    let empty = |version: Value, kind: Value| {
        let mut object = pod("a", "evil.example/a");
        object["apiVersion"] = version;
        object["kind"] = kind;
        object
    };
    for (version, kind, code) in [
        (json!(""), json!(""), 2),
        (json!(null), json!(1), 2),
        (json!("v1"), json!(""), 1),
        (json!(""), json!("Pod"), 1),
    ] {
        let object = empty(version, kind);
        let list = json!({"apiVersion": "v1", "kind": "PodList", "items": [object]});
        let ran = check(&folder, &["-"], &list.to_string());
        assert_eq!(ran.code, code, "{list}{}{}", ran.stdout, ran.stderr);
        assert_eq!(check(&folder, &["-"], &object.to_string()).code, 1);
    }
}

#[test]
fn a_rollout_is_not_judged_by_an_impostor_of_its_deployment() {
    let folder = TempDir::new().unwrap();
    let rollout = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": "x"},
        "spec": {"workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}},
    });
    let impostor =
        json!({"apiVersion": "evil.example/v1", "kind": "Deployment", "metadata": {"name": "x"}});
    let ran = check(&folder, &["-"], &format!("{rollout}{impostor}"));
    assert!([2, 3].contains(&ran.code), "{}{}", ran.stdout, ran.stderr);
    assert!(
        ran.stdout.contains("is not part of the input"),
        "{}",
        ran.stdout
    );
}

#[test]
fn a_placeholder_is_told_from_a_mistake() {
    let folder = TempDir::new().unwrap();
    let hint = "it holds a placeholder";
    let images = |image: &str| {
        run(
            folder.path(),
            &["images", "-"],
            &pod("a", image).to_string(),
        )
    };
    for image in [
        "<image>",
        "ghcr.io/<owner>/app:1",
        "app:<tag>",
        "app@sha256:<digest>",
        "app@sha256:…",
        "app@sha256:...",
        "app@DIGEST",
        "REPLACE_ME",
        "REPLACE-ME:1",
        "CHANGEME",
        "CHANGE_ME",
        "ReplaceMe",
        "IMAGE",
        "IMAGE:TAG",
        "MY_IMAGE",
        "YOUR_REGISTRY/app:1",
        "ghcr.io/MY_ORG/app",
        "IMAGE_PLACEHOLDER",
        "ImagePlaceholder",
        "__IMAGE__",
        "__image__",
        "%IMAGE%",
        "#{image}#",
        "[[image]]",
        "((image))",
        "@@image@@",
        "{image}",
        "TODO",
        "$IMAGE",
    ] {
        let ran = images(image);
        assert_eq!(ran.code, 1, "{image}");
        assert!(ran.stderr.contains(hint), "{image}: {}", ran.stderr);
    }
    for image in [
        "NGINX:1.25",
        "ghcr.io/ACME/app:1",
        "ghcr.io/MyOrg/app",
        "registry.example/Image:1",
        "registry.example/my__App",
        "https://ghcr.io/app:1",
        "app:1 ",
        "placeholder/app:v 1",
        "app@sha256:1f2e",
    ] {
        let ran = images(image);
        assert_eq!(ran.code, 1, "{image}");
        assert!(!ran.stderr.contains(hint), "{image}: {}", ran.stderr);
    }
    for image in [
        "placeholder/app:1",
        "PLACEHOLDER/app:1",
        "changeme",
        "app:REPLACE_ME",
        "my__app",
    ] {
        let ran = images(image);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{image}");
    }
}

#[test]
fn blank_images_and_named_placeholders_are_placeholders() {
    let folder = TempDir::new().unwrap();
    let pod = |image: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: x}}\nspec: {{containers: [{{name: a, image: \"{image}\"}}]}}\n"
        )
    };
    for image in ["", " ", "\\t \\n"] {
        let ran = check(&folder, &["-"], &pod(image));
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    }
    let ran = check(&folder, &["-"], &pod("auto"));
    assert_eq!(ran.code, 2);
    assert!(
        ran.stdout
            .contains("`auto` is a placeholder that an injector"),
        "{}",
        ran.stdout
    );
}

#[test]
fn findings_of_several_policies_on_one_image_are_merged() {
    let folder = TempDir::new().unwrap();
    let policy = |name: &str, rest: &str| {
        format!(
            "apiVersion: promotion-gate.dev/v1alpha1\nkind: PromotionPolicy\nmetadata: {{name: {name}}}\nspec:\n{rest}  requirements: [{{digestPinned: {{}}}}, {{allowedImages: {{patterns: [\"good.example/**\"]}}}}]\n---\n"
        )
    };
    let by_label = "  match: {namespaces: {selector: {matchLabels: {tier: production}}}}\n";
    fs::write(
        folder.path().join("policy.yaml"),
        policy("a", "") + &policy("b", ""),
    )
    .unwrap();
    fs::write(
        folder.path().join("labels.yaml"),
        policy("a", by_label) + &policy("b", by_label),
    )
    .unwrap();
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: a, image: evil.example/app}]}\n";
    let ran = run(
        folder.path(),
        &["check", "--policy", "policy.yaml", "-"],
        pod,
    );
    assert_eq!(
        ran.stdout,
        "deny Pod default/x (-:1)
  policies `a`, `b` deny it:
  - evil.example/app (spec.containers[0].image):
    - allowedImages [image-not-allowed]: `evil.example/app` does not match any of the allowed patterns
      → allowed patterns: `good.example/**`
    - digestPinned [not-pinned]: the image is named without a tag and without a digest, which means `latest`
      → write `evil.example/app:latest@sha256:…` with the digest that the pipeline built
  decision check

deny of 1 object: 0 allowed, 1 denied, 0 undecided
"
    );
    let ran = run(
        folder.path(),
        &["check", "--policy", "labels.yaml", "-"],
        pod,
    );
    assert_eq!(ran.code, 3, "{}", ran.stdout);
    assert!(
        ran.stdout.contains("policies `a`, `b` could not decide:"),
        "{}",
        ran.stdout
    );
    assert!(!ran.stdout.contains("denies it"), "{}", ran.stdout);
    assert_eq!(
        ran.stdout.matches("namespace-labels-unknown").count(),
        1,
        "{}",
        ran.stdout
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_reports_its_objects_in_these_words() {
    let bench = Bench::new().await;
    let images = [&bench.signed, &bench.unsigned];
    let input: String = images
        .map(|digest| deployment("shop", &bench.image(digest)))
        .concat();
    let Ran {
        code,
        stdout,
        stderr,
    } = bench.check(&[], &input);
    let told = format!("exit code {code}\n--- stdout\n{stdout}--- stderr\n{stderr}");
    assert_snapshot!(told.replace(&bench.registry.host(), "registry.example"), @r"
    exit code 2
    --- stdout
    allow Deployment shop/web (-:1)
    deny Deployment shop/web (-:6)
      policy `signed` denies it:
      - signature [unsigned]: registry.example/app@sha256:be6429b8afbc61f86efb7b8a82c319bdc5ed4a487a10ca55222f7ec5b8b8cb5b (spec.template.spec.containers[0].image): no signature is attached to the image
        → sign the image with `cosign sign --yes registry.example/app@sha256:be6429b8afbc61f86efb7b8a82c319bdc5ed4a487a10ca55222f7ec5b8b8cb5b` as `release@example.com` (issuer `https://issuer.example`)
      decision check

    deny of 2 objects: 1 allowed, 1 denied, 0 undecided
    --- stderr
    ");
}
