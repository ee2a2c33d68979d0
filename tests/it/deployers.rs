//! What is shipped for deployers: the Job that waits before Argo CD applies, the settings of Argo CD, Flux and Helm, and the snippets of
//! the pages for pipelines.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use promotion_gate_core::documents;
use serde_json::{Value, json};

use crate::cli::run;
use crate::facts::FACTS;
use crate::images::signed;
use crate::wait::{Bench, deployment_in, word};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn documents_of(name: &str, bytes: &[u8]) -> Vec<Value> {
    let (documents, problems) = documents::read(name, bytes);
    assert!(problems.is_empty(), "{problems:?}");
    documents
        .into_iter()
        .map(|document| document.value)
        .collect()
}

fn shipped(file: &str) -> Vec<Value> {
    documents_of(file, &fs::read(root().join(file)).unwrap())
}

fn job() -> Value {
    shipped("deploy/argo-cd/presync-job.yaml").remove(0)
}

#[test]
fn the_job_that_waits_is_admitted_by_its_own_policy_and_no_other_image_is() {
    let check = |manifest: &Value| {
        let args = ["check", "--policy", "deploy/argo-cd/policy.yaml", "-"];
        run(&root(), &args, &manifest.to_string())
    };
    let ran = check(&job());
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let container = "/spec/template/spec/containers/0/image";
    for other in [
        "registry.example/promotion-gate:latest",
        "registry.example/promotion-gate/x@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "registry.example/other@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ] {
        let mut manifest = job();
        *manifest.pointer_mut(container).unwrap() = json!(other);
        assert_eq!(check(&manifest).code, 2, "{other}");
    }
}

#[test]
fn the_job_waits_where_no_freeze_and_no_approval_holds_it_up() {
    let namespace = &job()["metadata"]["namespace"];
    let policies = [
        shipped("deploy/argo-cd/policy.yaml"),
        shipped("deploy/resources.yaml"),
        shipped("policies/production/applications.yaml"),
    ];
    let governing = |policy: &&Value| {
        let names = policy["spec"]["match"]["namespaces"]["names"].as_array();
        names.is_some_and(|names| names.contains(namespace))
    };
    let governing: Vec<_> = policies.iter().flatten().filter(governing).collect();
    assert_eq!(governing.len(), 1);
    let requirements = governing[0]["spec"]["requirements"].to_string();
    assert!(!requirements.contains("noFreeze") && !requirements.contains("approvals"));
}

#[test]
fn the_job_ends_by_itself_before_it_is_killed_and_only_reads() {
    let job = job();
    assert_eq!(job["spec"]["backoffLimit"], 0);
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(pod["restartPolicy"], "Never");
    let args: Vec<_> = pod["containers"][0]["args"]
        .as_array()
        .unwrap()
        .iter()
        .map(|arg| arg.as_str().unwrap())
        .collect();
    assert!(args.contains(&"--timeout=1h"));
    assert!(job["spec"]["activeDeadlineSeconds"].as_u64().unwrap() >= 3600 + 60);
    let hook = &job["metadata"]["annotations"]["argocd.argoproj.io/hook"];
    assert_eq!(hook, "PreSync");
    let of_cluster = shipped("deploy/argo-cd/wait.yaml");
    let named = |kind: &str| {
        let mut found = of_cluster.iter().filter(|it| it["kind"] == kind);
        found.next().unwrap()
    };
    assert_eq!(
        named("Namespace")["metadata"]["name"],
        job["metadata"]["namespace"]
    );
    assert_eq!(
        named("ServiceAccount")["metadata"]["name"],
        pod["serviceAccountName"]
    );
    for rule in named("ClusterRole")["rules"].as_array().unwrap() {
        assert_eq!(rule["verbs"], json!(["get", "list"]));
        assert!(!rule["resources"].to_string().contains("secrets"));
    }
    // The program knows every argument, and fails because it does not reach a cluster.
    let folder = tempfile::TempDir::new().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_promotion-gate"))
        .args(&args)
        .current_dir(folder.path())
        .env("KUBECONFIG", "absent")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the cluster cannot be reached"), "{said}");
}

#[test]
fn the_settings_of_deployers_let_them_try_again() {
    let application = &shipped("deploy/argo-cd/application.yaml")[0];
    let retry = &application["spec"]["syncPolicy"]["retry"];
    assert_eq!(retry["limit"], -1);
    assert_eq!(retry["refresh"], true);
    let options = &application["metadata"]["annotations"]["argocd.argoproj.io/compare-options"];
    assert_eq!(options, "ServerSideDiff=false");
    let kustomization = &shipped("deploy/flux/kustomization-settings.yaml")[0];
    assert_eq!(kustomization["spec"]["retryInterval"], "2m");
    let release = &shipped("deploy/flux/helmrelease-settings.yaml")[0];
    for action in ["install", "upgrade"] {
        let strategy = &release["spec"][action]["strategy"];
        assert_eq!(strategy["name"], "RetryOnFailure");
    }
    // The page quotes what is shipped.
    let page = fs::read_to_string(root().join("docs/deployers.md")).unwrap();
    let quoted = documents_of("page", blocks(&page)[0].as_bytes()).remove(0);
    assert_eq!(quoted["syncPolicy"], application["spec"]["syncPolicy"]);
}

/// The YAML blocks of a page.
fn blocks(page: &str) -> Vec<String> {
    let blocks = page.split("```yaml\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().unwrap().to_owned());
    blocks.collect()
}

/// A folder in which pipelines find policies, manifests of an image, and stand-ins for the tools that deploy, which write down their
/// arguments.
struct Pipeline {
    bench: Bench,
    image: promotion_gate_core::gate::Digest,
}

impl Pipeline {
    async fn new() -> Pipeline {
        let bench = Bench::new().await;
        let image = signed(&bench.registry, "v1", "release");
        bench.govern("prod-payments");
        let root = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1",
            "kind": "TrustRoot",
            "metadata": {"name": "sandbox"},
            "spec": {"inline": FACTS.trusted_root()},
        });
        bench.write("policies/root.yaml", &root.to_string());
        bench.write(
            "deploy/web.yaml",
            &deployment_in("prod-payments", &[bench.image(&image)]),
        );
        let folder = bench.folder.path();
        bench.write("bin/kubectl", "#!/bin/sh\necho kubectl \"$@\" >>deployed\n");
        bench.write(
            "bin/helm",
            "#!/bin/sh\ncase $1 in template) cat deploy/web.yaml;; *) echo helm \"$@\" >>deployed;; esac\n",
        );
        for tool in ["kubectl", "helm"] {
            let tool = folder.join("bin").join(tool);
            fs::set_permissions(tool, fs::Permissions::from_mode(0o755)).unwrap();
        }
        symlink(
            env!("CARGO_BIN_EXE_promotion-gate"),
            folder.join("bin/promotion-gate"),
        )
        .unwrap();
        Pipeline { bench, image }
    }

    /// Runs shell lines, and returns the exit code and what was deployed.
    fn runs(&self, lines: &str) -> (Option<i32>, String) {
        let folder = self.bench.folder.path();
        let path = format!(
            "{}:{}",
            folder.join("bin").display(),
            std::env::var("PATH").unwrap()
        );
        let output = Command::new("sh")
            .args(["-ec", lines])
            .current_dir(folder)
            .env("PATH", path)
            .env(
                "WAIT_OPTIONS",
                "--policy policies/ --timeout 2s --interval 1",
            )
            .output()
            .unwrap();
        let deployed = fs::read_to_string(folder.join("deployed")).unwrap_or_default();
        let _ = fs::remove_file(folder.join("deployed"));
        (output.status.code(), deployed)
    }
}

/// The shell lines of the snippets for GitHub Actions and GitLab CI.
fn snippets() -> [String; 2] {
    let page = fs::read_to_string(root().join("docs/wait.md")).unwrap();
    let blocks = blocks(&page);
    let snippet = |begins: &str| {
        let mut found = blocks.iter().filter(|block| block.starts_with(begins));
        documents_of(begins, found.next().unwrap().as_bytes()).remove(0)
    };
    let lines = |steps: Vec<&Value>| {
        let lines = steps.into_iter().map(|step| step.as_str().unwrap());
        lines
            .collect::<Vec<_>>()
            .join("\n")
            .replace("--timeout 1h", "--timeout 2s --interval 1")
    };
    let github = snippet("name: deploy");
    let steps = github["jobs"]["deploy"]["steps"].as_array().unwrap().iter();
    let gitlab = snippet("deploy:");
    [
        lines(steps.filter_map(|step| step.get("run")).collect()),
        lines(
            gitlab["deploy"]["script"]
                .as_array()
                .unwrap()
                .iter()
                .collect(),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pipelines_of_the_page_deploy_what_is_approved_and_nothing_else() {
    let pipeline = Pipeline::new().await;
    for lines in snippets() {
        assert_eq!(pipeline.runs(&lines), (Some(3), String::new()), "{lines}");
    }
    let bench = &pipeline.bench;
    for person in ["ada", "ben"] {
        bench.approves(&pipeline.image, person);
    }
    let applied = "kubectl apply --namespace prod-payments -f deploy/\n";
    for lines in snippets() {
        assert_eq!(
            pipeline.runs(&lines),
            (Some(0), applied.to_owned()),
            "{lines}"
        );
    }
    bench.says(&pipeline.image, "cleo", &word("rejected"));
    for lines in snippets() {
        assert_eq!(pipeline.runs(&lines), (Some(2), String::new()), "{lines}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_script_for_helm_upgrades_only_what_would_be_allowed() {
    let pipeline = Pipeline::new().await;
    let script = root().join("deploy/helm/deploy");
    let deploy = format!(
        "{} production prod-payments payments ./chart --set a=b",
        script.display()
    );
    assert_eq!(pipeline.runs(&deploy), (Some(3), String::new()));
    for person in ["ada", "ben"] {
        pipeline.bench.approves(&pipeline.image, person);
    }
    let upgraded =
        "helm upgrade --install payments ./chart --namespace prod-payments --atomic --set a=b\n";
    assert_eq!(pipeline.runs(&deploy), (Some(0), upgraded.to_owned()));
    assert_eq!(pipeline.runs(&script.display().to_string()).0, Some(1));
    assert!(Path::new(&script).metadata().unwrap().permissions().mode() & 0o111 != 0);
}
