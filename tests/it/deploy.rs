//! What `deploy/`, `certs/` and `policies/` hold is what the gate understands.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use promotion_gate::admission::{Manifests, Understood, understand_manifest};
use promotion_gate::api;
use promotion_gate::config::Config;
use promotion_gate_core::documents;
use serde_json::{Value, json};

use crate::facts::FACTS;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Folders of `deploy/` that are not installed with the gate; `deployers` tests them.
const OF_DEPLOYERS: [&str; 3] = ["argo-cd", "flux", "helm"];

/// Every document of every YAML file under a folder.
fn manifests(folder: &Path) -> Vec<Value> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if OF_DEPLOYERS.iter().any(|of| path.ends_with(of)) {
            continue;
        }
        if path.is_dir() {
            all.extend(manifests(&path));
        } else if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            let bytes = fs::read(&path).unwrap();
            let (documents, problems) = documents::read(&path.display().to_string(), &bytes);
            assert!(problems.is_empty(), "{problems:?}");
            all.extend(documents.into_iter().map(|document| document.value));
        }
    }
    all
}

fn of_kind(kind: &str) -> Vec<Value> {
    let mut found = manifests(&root().join("deploy"));
    found.retain(|manifest| manifest["kind"] == kind);
    assert!(!found.is_empty(), "{kind}");
    found
}

fn strings(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item.as_str().unwrap())
        .collect()
}

/// Every kind that carries images, with its resource.
const KINDS: [(&str, &str, &str, &str); 16] = [
    ("", "v1", "Pod", "pods"),
    ("", "v1", "PodTemplate", "podtemplates"),
    ("", "v1", "ReplicationController", "replicationcontrollers"),
    ("apps", "v1", "ReplicaSet", "replicasets"),
    ("apps", "v1", "Deployment", "deployments"),
    ("apps", "v1", "StatefulSet", "statefulsets"),
    ("apps", "v1", "DaemonSet", "daemonsets"),
    ("apps", "v1", "ControllerRevision", "controllerrevisions"),
    ("batch", "v1", "Job", "jobs"),
    ("batch", "v1", "CronJob", "cronjobs"),
    ("argoproj.io", "v1alpha1", "Rollout", "rollouts"),
    (
        "argoproj.io",
        "v1alpha1",
        "AnalysisTemplate",
        "analysistemplates",
    ),
    (
        "argoproj.io",
        "v1alpha1",
        "ClusterAnalysisTemplate",
        "clusteranalysistemplates",
    ),
    ("argoproj.io", "v1alpha1", "AnalysisRun", "analysisruns"),
    ("argoproj.io", "v1alpha1", "Experiment", "experiments"),
    ("keda.sh", "v1alpha1", "ScaledJob", "scaledjobs"),
];

/// The operations about which an entry asks of a resource.
fn operations<'a>(webhook: &'a Value, group: &str, version: &str, resource: &str) -> Vec<&'a str> {
    let rules = webhook["rules"].as_array().unwrap().iter();
    let asked = rules.filter(|rule| {
        strings(&rule["apiGroups"]) == [group]
            && strings(&rule["apiVersions"]) == [version]
            && strings(&rule["resources"]).contains(&resource)
    });
    asked
        .flat_map(|rule| strings(&rule["operations"]))
        .collect()
}

#[test]
fn the_webhook_is_registered_for_every_kind_that_carries_images() {
    let mut configurations = of_kind("ValidatingWebhookConfiguration");
    // The chart's own is filled in by the gate.
    configurations.retain(|configuration| configuration.get("webhooks").is_some());
    let [configuration] = &*configurations else {
        panic!("{configurations:?}");
    };
    let webhooks = configuration["webhooks"].as_array().unwrap();
    for webhook in webhooks {
        let is_fallback = webhook["failurePolicy"] == "Ignore";
        for (group, version, kind, resource) in KINDS {
            let asked = operations(webhook, group, version, resource);
            // Objects without a namespace are asked about once.
            match is_fallback && kind == "ClusterAnalysisTemplate" {
                true => assert_eq!(asked, [""; 0], "{resource}"),
                false => assert_eq!(asked, ["CREATE", "UPDATE"], "{resource}"),
            }
            let api_version = match group {
                "" => version.to_owned(),
                group => format!("{group}/{version}"),
            };
            let object =
                json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}});
            let manifests = Manifests::of([&object], "shop");
            let understood = understand_manifest(&object, "shop", None, &manifests);
            assert!(matches!(understood, Understood::Change(_)), "{kind}");
        }
        for (group, version, resource) in [
            ("", "v1", "pods/ephemeralcontainers"),
            ("", "v1", "replicationcontrollers/scale"),
            ("", "v1", "namespaces"),
            ("apps", "v1", "deployments/scale"),
            ("apps", "v1", "statefulsets/scale"),
            ("apps", "v1", "replicasets/scale"),
            ("argoproj.io", "v1alpha1", "rollouts/scale"),
            ("argoproj.io", "v1alpha1", "rollouts/status"),
        ] {
            let asked = operations(webhook, group, version, resource);
            assert_eq!(asked, ["UPDATE"], "{resource}");
        }
        for definition in of_kind("CustomResourceDefinition") {
            let resource = definition["spec"]["names"]["plural"].as_str().unwrap();
            let asked = operations(webhook, "promotion-gate.dev", "v1alpha1", resource);
            match is_fallback || resource == "releaserecords" {
                true => assert_eq!(asked, [""; 0], "{resource}"),
                false => assert_eq!(asked, ["CREATE", "UPDATE", "DELETE"], "{resource}"),
            }
        }
        let rules = webhook["rules"].to_string();
        for never in [
            "*",
            "releaserecords",
            "promotionpolicies/status",
            "deployments/status",
        ] {
            assert!(!rules.contains(never), "{never}: {rules}");
        }
        assert_eq!(webhook["matchPolicy"], "Equivalent");
        assert_eq!(webhook["sideEffects"], "NoneOnDryRun");
        assert_eq!(strings(&webhook["admissionReviewVersions"]), ["v1"]);
        assert!(webhook["timeoutSeconds"].as_u64().unwrap() <= 30);
    }
    let policies: Vec<_> = webhooks
        .iter()
        .map(|webhook| &webhook["failurePolicy"])
        .collect();
    assert_eq!(policies, ["Fail", "Ignore"]);
}

/// A controller is trusted because the objects are judged for which it makes others.
#[test]
fn a_controller_is_trusted_only_while_its_parents_are_judged() {
    use promotion_gate_core::gate::ControllerPreset::{ArgoRollouts, Keda};
    for preset in [ArgoRollouts, Keda] {
        for (group, kind) in preset.parents() {
            let mut judged = KINDS.iter().map(|(group, _, kind, _)| (*group, *kind));
            assert!(judged.any(|it| it == (*group, *kind)), "{preset:?}: {kind}");
        }
    }
}

/// What the gate decides by in the deployment.
fn resources() -> api::PolicySet {
    let file = "deploy/resources.yaml";
    let bytes = fs::read(root().join(file)).unwrap();
    let set = api::load(&[(file.to_owned(), bytes)], &FACTS.trust_roots());
    assert!(set.problems.is_empty(), "{:?}", set.problems);
    assert!(!set.policies.is_empty());
    set
}

#[test]
fn the_configuration_of_the_deployment_is_valid() {
    let folder = tempfile::TempDir::new().unwrap();
    let map = &of_kind("ConfigMap")[0];
    let file = folder.path().join("gate.yaml");
    fs::write(&file, map["data"]["gate.yaml"].as_str().unwrap()).unwrap();
    Config::load(Some(&file)).unwrap();
    resources();
}

#[test]
fn every_example_policy_can_be_used_and_is_listed() {
    let folder = root().join("policies");
    let (sources, set) = api::load_paths(std::slice::from_ref(&folder), &FACTS.trust_roots());
    assert!(set.problems.is_empty(), "{:?}", set.problems);
    assert!(set.warnings.is_empty(), "{:?}", set.warnings);
    let listed = fs::read_to_string(folder.join("README.md")).unwrap();
    let (tests, policies): (Vec<_>, Vec<_>) = sources
        .iter()
        .map(|(file, _)| Path::new(file).strip_prefix(&folder).unwrap())
        .partition(|file| file.starts_with("tests"));
    assert!(set.policies.len() >= policies.len());
    for file in policies {
        let name = file.to_str().unwrap();
        assert!(listed.contains(name), "{name} is not in policies/README.md");
        // A folder is tested as a whole.
        let first = file.iter().next().unwrap();
        let test = Path::new("tests").join(first).with_extension("yaml");
        assert!(tests.contains(&test.as_path()), "{name} has no test");
    }
}

#[test]
fn no_shipped_policy_locks_out_the_cluster_or_the_gate() {
    let (_, set) = api::load_paths(&[root().join("policies")], &FACTS.trust_roots());
    let mut policies = set.policies;
    policies.extend(resources().policies);
    assert!(policies.len() > 10);
    for policy in policies {
        // Labels of namespaces that nobody listed are not known, and the policy would apply there.
        assert!(policy.namespaces.selector.is_none(), "{}", policy.name);
        assert!(!policy.namespaces.names.is_empty(), "{}", policy.name);
        for namespace in [
            "kube-system",
            "kube-public",
            "kube-node-lease",
            "promotion-gate",
            "default",
        ] {
            let mut names = policy.namespaces.names.iter();
            let is_governed = names.any(|name| name.matches(namespace));
            // The gate's own image alone, in its own namespace: where no replica answers, it can start.
            let is_of_gate = policy.name == "gate-image" && namespace == "promotion-gate";
            assert_eq!(is_governed, is_of_gate, "{}", policy.name);
        }
    }
}

#[test]
fn everything_that_is_installed_is_in_the_kustomization() {
    let listed = fs::read_to_string(root().join("deploy/kustomization.yaml")).unwrap();
    let mut listed: Vec<_> = listed
        .lines()
        .filter_map(|line| line.strip_prefix("- "))
        .map(str::to_owned)
        .collect();
    let mut expected = vec!["namespace.yaml".to_owned()];
    for folder in ["crds", "manifests"] {
        for entry in fs::read_dir(root().join("deploy").join(folder)).unwrap() {
            let name = entry.unwrap().file_name();
            expected.push(format!("{folder}/{}", name.to_str().unwrap()));
        }
    }
    // Its addresses have to be edited first.
    expected.retain(|file| file != "manifests/network-policy.yaml");
    expected.sort();
    listed.sort();
    assert_eq!(listed, expected);
}

#[test]
fn the_gate_writes_nothing_to_its_disk_and_has_no_rights_of_the_node() {
    let pod = &of_kind("Deployment")[0]["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    let containers = pod["containers"].as_array().unwrap();
    assert!(!containers.is_empty());
    for container in containers {
        let context = &container["securityContext"];
        assert_eq!(context["readOnlyRootFilesystem"], true, "{container}");
        assert_eq!(context["allowPrivilegeEscalation"], false, "{container}");
        assert_eq!(context["capabilities"]["drop"][0], "ALL", "{container}");
        let mounts = container["volumeMounts"].as_array().unwrap();
        assert!(mounts.iter().all(|it| it["readOnly"] == true), "{mounts:?}");
    }
}

#[test]
fn the_job_that_signs_for_staging_can_run_in_the_namespace_of_the_gate() {
    let page = fs::read_to_string(root().join("docs/promotion-chain.md")).unwrap();
    let mut blocks = page.split("```yaml\n").skip(1);
    let block = blocks.find(|it| it.contains("kind: CronJob")).unwrap();
    let block = block.split("```").next().unwrap();
    let (documents, problems) = documents::read("page", block.as_bytes());
    assert!(problems.is_empty(), "{problems:?}");
    let objects: Vec<_> = documents.into_iter().map(|it| it.value).collect();
    let of_page = |kind: &str| objects.iter().find(|it| it["kind"] == kind).unwrap();
    let job = of_page("CronJob");
    let pod = &job["spec"]["jobTemplate"]["spec"]["template"]["spec"];

    // What the Pod Security Standard `restricted` asks for, which the namespace enforces.
    let namespace = fs::read_to_string(root().join("deploy/namespace.yaml")).unwrap();
    assert!(namespace.contains("pod-security.kubernetes.io/enforce: restricted"));
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    let seccomp = &pod["securityContext"]["seccompProfile"];
    assert_eq!(seccomp, &json!({"type": "RuntimeDefault"}));
    let containers = pod["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1);
    let container = &containers[0];
    let context = &container["securityContext"];
    assert_eq!(context["allowPrivilegeEscalation"], false);
    assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));

    let volumes = pod["volumes"].as_array().unwrap();
    let mounts = container["volumeMounts"].as_array().unwrap();
    let mut of_configuration = None;
    for mount in mounts {
        let mut named = volumes.iter().filter(|it| it["name"] == mount["name"]);
        let volume = named.next().unwrap_or_else(|| panic!("{mount}"));
        assert!(named.next().is_none(), "{mount}");
        if !volume["configMap"].is_null() {
            of_configuration = Some((&mount["mountPath"], &volume["configMap"]["name"]));
        }
    }
    assert_eq!(mounts.len(), volumes.len());
    let (folder, name) = of_configuration.unwrap();
    let mut maps = of_kind("ConfigMap");
    maps.retain(|it| it["metadata"]["name"] == *name);
    assert_eq!(maps.len(), 1, "{name}");
    assert_eq!(
        maps[0]["metadata"]["namespace"],
        job["metadata"]["namespace"]
    );
    let folder = folder.as_str().unwrap();
    let mut args = strings(&container["args"]).into_iter();
    let file = args.find_map(|arg| arg.strip_prefix("--config=")).unwrap();
    let file = file.strip_prefix(&format!("{folder}/")).unwrap();
    assert!(maps[0]["data"][file].is_string(), "{file}");

    assert_eq!(
        pod["serviceAccountName"],
        of_page("ServiceAccount")["metadata"]["name"]
    );
    let role = &of_page("ClusterRoleBinding")["roleRef"]["name"];
    let roles = of_kind("ClusterRole");
    assert!(roles.iter().any(|it| it["metadata"]["name"] == *role));
}

#[test]
fn the_guards_name_the_gates_service_account() {
    let subject = &of_kind("ClusterRoleBinding")[0]["subjects"][0];
    let text = |field: &str| subject[field].as_str().unwrap();
    let user = format!(
        "system:serviceaccount:{}:{}",
        text("namespace"),
        text("name")
    );
    let account = &of_kind("ServiceAccount")[0]["metadata"];
    assert_eq!(
        (account["namespace"].as_str(), account["name"].as_str()),
        (Some(text("namespace")), Some(text("name")))
    );
    let pod = &of_kind("Deployment")[0]["spec"]["template"]["spec"];
    assert_eq!(pod["serviceAccountName"], text("name"));
    let mut guards = of_kind("ValidatingAdmissionPolicy");
    let by_account = ["promotion-gate-configuration", "promotion-gate-records"];
    guards.retain(|guard| {
        by_account
            .iter()
            .any(|name| guard["metadata"]["name"] == *name)
    });
    assert_eq!(guards.len(), by_account.len());
    for guard in guards {
        assert!(
            guard.to_string().contains(&format!("\\\"{user}\\\"")),
            "{guard}"
        );
    }
}

#[test]
fn a_viewer_of_a_namespace_reads_what_was_admitted_there_and_nothing_more_of_the_gate() {
    let mut roles = of_kind("ClusterRole");
    let label = "rbac.authorization.k8s.io/aggregate-to-view";
    roles.retain(|role| role["metadata"]["labels"][label] == "true");
    let rules: Vec<_> = roles.iter().map(|role| &role["rules"]).collect();
    let read = json!([{
        "apiGroups": ["promotion-gate.dev"], "resources": ["releaserecords", "emergencychangerecords"],
        "verbs": ["get", "list", "watch"],
    }]);
    assert_eq!(rules, [&read]);
}

#[test]
fn the_certificate_names_the_webhooks_service() {
    let service = &of_kind("Service")[0]["metadata"];
    let name = format!(
        "{}.{}.svc",
        service["name"].as_str().unwrap(),
        service["namespace"].as_str().unwrap()
    );
    let certificates = manifests(&root().join("certs"));
    assert!(
        certificates
            .iter()
            .any(|manifest| manifest["spec"]["dnsNames"] == json!([name]))
    );
    assert!(
        fs::read_to_string(root().join("certs/self-signed"))
            .unwrap()
            .contains(&format!("name={name}"))
    );
}

#[test]
fn every_action_of_a_workflow_is_pinned_by_a_full_commit_id() {
    let mut pins = 0;
    for entry in fs::read_dir(root().join(".github/workflows")).unwrap() {
        let workflow = fs::read_to_string(entry.unwrap().path()).unwrap();
        let uses = workflow
            .lines()
            .filter_map(|line| line.split_once("uses: "));
        for (_, action) in uses {
            let pin = action.split(' ').next().unwrap();
            let (_, commit) = pin.split_once('@').unwrap_or_else(|| panic!("{action}"));
            let is_id = commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit());
            assert!(is_id, "{action}");
            pins += 1;
        }
    }
    assert!(pins > 3, "{pins}");
}

fn release() -> Value {
    let workflow = fs::read_to_string(root().join(".github/workflows/release.yml")).unwrap();
    serde_saphyr::from_str(&workflow).unwrap()
}

/// Runs a step of the job `build` as GitHub does, in a folder, with the programs of `bin` there before all others: whether it ended well, and
/// what it said.
fn ran_by_the_release(step: &str, folder: &Path, environment: (&str, &str)) -> (bool, String) {
    let workflow = release();
    let steps = workflow["jobs"]["build"]["steps"].as_array().unwrap();
    let step = steps.iter().find(|it| it["name"] == step).unwrap();
    let path = std::env::var("PATH").unwrap();
    let ran = Command::new("bash")
        .args(["--noprofile", "--norc", "-e", "-c"])
        .arg(step["run"].as_str().unwrap())
        .current_dir(folder)
        .env("PATH", format!("{}/bin:{path}", folder.display()))
        .env(environment.0, environment.1)
        .output()
        .unwrap();
    let said = String::from_utf8(ran.stderr).unwrap();
    (ran.status.success(), said)
}

#[test]
fn a_tag_of_another_version_than_that_of_the_program_and_the_chart_is_not_released() {
    let ran = |folder: &Path, tag: &str| {
        let tag = ("GITHUB_REF_NAME", tag);
        ran_by_the_release("Compare the tag with the versions", folder, tag)
    };
    let tag = concat!("v", env!("CARGO_PKG_VERSION"));
    assert_eq!(ran(&root(), tag), (true, String::new()));
    let (is_ok, said) = ran(&root(), "v99.0.0");
    assert!(!is_ok && said.contains("the tag says 99.0.0"), "{said}");

    let chart = "deploy/helm/promotion-gate/Chart.yaml";
    for field in ["version: ", "appVersion: "] {
        let folder = tempfile::TempDir::new().unwrap();
        fs::create_dir_all(folder.path().join(chart).parent().unwrap()).unwrap();
        fs::copy(root().join("Cargo.toml"), folder.path().join("Cargo.toml")).unwrap();
        let text = fs::read_to_string(root().join(chart)).unwrap();
        let version = format!("\n{field}{}", env!("CARGO_PKG_VERSION"));
        let other = text.replace(&version, &format!("\n{field}99.0.0"));
        assert_ne!(other, text);
        fs::write(folder.path().join(chart), other).unwrap();
        let (is_ok, said) = ran(folder.path(), tag);
        assert!(!is_ok && said.contains("99.0.0"), "{field}: {said}");
    }
}

#[test]
fn a_program_that_needs_a_newer_c_library_than_the_pages_say_is_not_released() {
    let workflow = release();
    let minimum = workflow["env"]["GLIBC"].as_str().unwrap();
    for page in ["docs/release.md", "docs/wait.md"] {
        let page = fs::read_to_string(root().join(page)).unwrap();
        assert!(
            page.contains(&format!("glibc {minimum} or later")),
            "{page}"
        );
    }
    let folder = tempfile::TempDir::new().unwrap();
    let bin = folder.path().join("bin");
    fs::create_dir(&bin).unwrap();
    for (needed, is_released) in [
        ("(GLIBC_2.4) (GLIBC_2.34) (GLIBC_2.9)", true),
        ("(GLIBC_2.2.5)", true),
        ("(GLIBC_2.34) (GLIBC_2.38)", false),
        ("(GLIBC_2.100)", false),
        ("(GLIBC_3.0)", false),
        ("", false),
    ] {
        let objdump = bin.join("objdump");
        fs::write(&objdump, format!("#!/bin/sh\necho '{needed}'\n")).unwrap();
        fs::set_permissions(&objdump, fs::Permissions::from_mode(0o755)).unwrap();
        let step = "Look for what an older C library does not have";
        let (is_ok, said) = ran_by_the_release(step, folder.path(), ("GLIBC", minimum));
        assert_eq!(is_ok, is_released, "{needed}: {said}");
    }
}

#[test]
fn a_release_is_built_in_an_image_by_digest_that_has_the_toolchain() {
    let script = fs::read_to_string(root().join("deploy/release/build")).unwrap();
    let image = script.lines().find_map(|line| line.strip_prefix("image="));
    let (image, digest) = image.unwrap().split_once("@sha256:").unwrap();
    assert_eq!(digest.len(), 64, "{digest}");
    let toolchain = fs::read_to_string(root().join("rust-toolchain.toml")).unwrap();
    let version = toolchain.split('"').nth(1).unwrap();
    assert_eq!(image, format!("rust:{version}-bookworm"));
    let page = fs::read_to_string(root().join("docs/release.md")).unwrap();
    assert!(page.contains(&format!("`{image}`")), "{page}");
}

/// Runs the last step of the action with another program in the place of `promotion-gate`: its exit code, what it prints and the output.
fn ran_by_the_action(program: &str, arguments: &str) -> (Option<i32>, String, String) {
    let text = fs::read_to_string(root().join("deploy/github-action/action.yml")).unwrap();
    let action: Value = serde_saphyr::from_str(&text).unwrap();
    let step = action["runs"]["steps"].as_array().unwrap().last().unwrap();
    assert_eq!(step["shell"], "bash");
    let folder = tempfile::TempDir::new().unwrap();
    let output = folder.path().join("output");
    fs::create_dir(folder.path().join("promotion-gate")).unwrap();
    symlink(program, folder.path().join("promotion-gate/promotion-gate")).unwrap();
    // As GitHub runs such a step.
    let ran = Command::new("bash")
        .args(["--noprofile", "--norc", "-e", "-o", "pipefail", "-c"])
        .arg(step["run"].as_str().unwrap())
        .env("RUNNER_TEMP", folder.path())
        .env("GITHUB_OUTPUT", &output)
        .env("ARGUMENTS", arguments)
        .output()
        .unwrap();
    let printed = String::from_utf8(ran.stdout).unwrap();
    let output = fs::read_to_string(output).unwrap();
    (ran.status.code(), printed, output)
}

#[test]
fn the_action_splits_its_arguments_expands_nothing_and_ends_as_the_command_does() {
    let (code, printed, output) = ran_by_the_action("/bin/printf", "'<%s>' 'two words' $HOME *");
    assert_eq!(printed, "<two words><$HOME><*>");
    assert_eq!((code, &*output), (Some(0), "exit-code=0\n"));
    let (code, _, output) = ran_by_the_action("/bin/false", "wait --timeout 1h");
    assert_eq!((code, &*output), (Some(1), "exit-code=1\n"));
}

#[test]
fn the_action_refuses_a_runner_that_the_program_is_not_built_for_and_downloads_nothing() {
    let text = fs::read_to_string(root().join("deploy/github-action/action.yml")).unwrap();
    let action: Value = serde_saphyr::from_str(&text).unwrap();
    let script = action["runs"]["steps"][0]["run"].as_str().unwrap();
    let folder = tempfile::TempDir::new().unwrap();
    for name in ["curl", "sha256sum"] {
        let program = folder.path().join(name);
        // Reads its input, says what it was asked for, and makes the file that `chmod` needs.
        let text = "#!/bin/sh\ncat > /dev/null\necho \"$@\"\n: > \"$RUNNER_TEMP/promotion-gate/promotion-gate\"\n";
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = std::env::var("PATH").unwrap();
    for (system, architecture, program) in [
        ("Linux", "X64", Some("promotion-gate-linux-amd64")),
        ("Linux", "ARM64", Some("promotion-gate-linux-arm64")),
        ("Linux", "ARM", None),
        ("macOS", "ARM64", None),
        ("Windows", "X64", None),
    ] {
        let ran = Command::new("bash")
            .args(["--noprofile", "--norc", "-e", "-o", "pipefail", "-c"])
            .arg(script)
            .env("PATH", format!("{}:{path}", folder.path().display()))
            .env("RUNNER_TEMP", folder.path())
            .env("RUNNER_OS", system)
            .env("RUNNER_ARCH", architecture)
            .env("SHA256", "12")
            .env("VERSION", "v0.1.0")
            .env("REPOSITORY", "example/promotion-gate")
            .output()
            .unwrap();
        let said = String::from_utf8(ran.stdout).unwrap();
        assert_eq!(ran.status.success(), program.is_some(), "{system}: {said}");
        match program {
            Some(program) => assert!(said.contains(program), "{said}"),
            None => assert!(
                said.starts_with("::error::") && !said.contains("https"),
                "{said}"
            ),
        }
    }
}

/// The component with its inputs, as GitLab reads it: inputs are put into the text, which is YAML only then.
fn component(inputs: &[(&str, &str)]) -> Value {
    let file = "deploy/gitlab-component/templates/promotion-gate.yml";
    let text = fs::read_to_string(root().join(file)).unwrap();
    let (header, job) = text.split_once("\n---\n").unwrap();
    let header: Value = serde_saphyr::from_str(header).unwrap();
    let mut job = job.to_owned();
    for (name, input) in header["spec"]["inputs"].as_object().unwrap() {
        let given = inputs.iter().find(|(given, _)| given == name);
        let value = given.map(|(_, value)| *value);
        let value = value.or_else(|| input["default"].as_str());
        let value = value.unwrap_or_else(|| panic!("{name}"));
        job = job.replace(&format!("$[[ inputs.{name} ]]"), value);
    }
    assert!(!job.contains("$[["), "{job}");
    serde_saphyr::from_str(&job).unwrap()
}

#[test]
fn the_component_runs_its_arguments_as_they_are_written() {
    let image = "buildpack-deps:bookworm-curl";
    let of_job = [("image", image), ("version", "v0.1.0"), ("sha256", "12")];
    let script = |arguments: &str, architecture: &str| {
        let more = [("arguments", arguments), ("architecture", architecture)];
        let job = component(&[&of_job[..], &more].concat());
        let lines = job["promotion-gate"]["script"].as_array().unwrap().iter();
        let lines = lines.map(|line| line.as_str().unwrap().trim_end().to_owned());
        lines.collect::<Vec<_>>()
    };
    for arguments in [
        "wait --policy policies/ --timeout 1h -f deploy/",
        "approve --reason \"CHG: fix\" ghcr.io/example/app",
        "freeze now --environment production policies/ #12",
        "wait --reason 'it''s #12: [a, b] {c} & * ! | > % @ `'",
        "wait \"a\\\"b\" -- -f -",
        "check policies/:",
    ] {
        let lines = script(arguments, "amd64");
        assert_eq!(
            lines.last().unwrap(),
            &format!("promotion-gate {arguments}")
        );
        assert_eq!(lines.len(), 4, "{lines:?}");
    }
    assert!(script("check", "arm64")[0].ends_with("/v0.1.0/promotion-gate-linux-arm64\""));
    assert!(script("check", "amd64")[1].starts_with("echo \"12  /usr/local/bin/promotion-gate\""));
}

#[test]
fn the_component_takes_arguments_of_one_line_and_an_architecture_that_is_released() {
    let file = "deploy/gitlab-component/templates/promotion-gate.yml";
    let text = fs::read_to_string(root().join(file)).unwrap();
    let (header, _) = text.split_once("\n---\n").unwrap();
    let header: Value = serde_saphyr::from_str(header).unwrap();
    let inputs = &header["spec"]["inputs"];
    assert_eq!(inputs["arguments"]["regex"], r"^[^\r\n]+$");
    let workflow = release();
    let built = &workflow["jobs"]["build"]["strategy"]["matrix"]["include"];
    let built = built.as_array().unwrap().iter();
    let built: Vec<_> = built.map(|it| &it["architecture"]).collect();
    let options = inputs["architecture"]["options"].as_array().unwrap();
    assert_eq!(options.iter().collect::<Vec<_>>(), built);
}

#[test]
fn the_policy_of_the_gates_image_names_the_workflow_that_releases_it() {
    let policy = fs::read_to_string(root().join("policies/gate-image.yaml")).unwrap();
    let named = policy.split("https://github.com/example/promotion-gate/");
    let workflows: Vec<_> = named.skip(1).filter_map(|it| it.split_once('@')).collect();
    assert_eq!(workflows.len(), 3, "{workflows:?}");
    for (file, reference) in workflows {
        let workflow = fs::read_to_string(root().join(file)).unwrap();
        assert!(reference.starts_with("refs/tags/v*"), "{reference}");
        assert!(workflow.contains("tags: [\"v*\"]"), "{workflow}");
    }
}

#[test]
fn no_private_key_is_in_the_repository() {
    let output = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root())
        .output();
    // Outside of a checkout there is nothing to look at.
    let Some(output) = output.ok().filter(|output| output.status.success()) else {
        return;
    };
    let files = String::from_utf8(output.stdout).unwrap();
    let begin = ["-----BEGIN", "PRIVATE KEY-----"];
    for file in files.split('\0').filter(|file| !file.is_empty()) {
        let bytes = fs::read(root().join(file)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let key = text
            .lines()
            .any(|line| line.starts_with(begin[0]) && line.ends_with(begin[1]));
        assert!(!key, "{file}");
    }
}
