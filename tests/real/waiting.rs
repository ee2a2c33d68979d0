//! `wait` at a real API server, with the rights of `deploy/argo-cd/wait.yaml`: approvals by cosign and by `approve` end it, and so does
//! another version of the workload. The Job that waits before Argo CD applies is admitted in a freeze.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use promotion_gate_core::documents;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::running::Running;
use crate::support::{
    ControlPlane, Cosign, Gate, LocalSigstore, Ran, Registry, Serving, Tagged, User, command,
    deployment, run, until,
};

const CI: &str = "ci@example.com";
const APPROVAL: &str = "https://promotion-gate.dev/approval/v1";
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A cluster that asks a gate, and whose resources say that one of each of two groups approves what runs in `shop`.
struct Bed {
    plane: ControlPlane,
    gate: Gate,
    sigstore: Arc<LocalSigstore>,
    _serving: Serving,
}

impl Bed {
    fn start() -> Bed {
        let sigstore = LocalSigstore::shared();
        let plane = ControlPlane::start();
        for namespace in ["shop", "promotion-gate"] {
            plane.create_namespace(namespace);
        }
        let crds = format!("{ROOT}/deploy/crds");
        plane.kubectl(["apply", "--server-side", "-f", &crds]).ok();
        for file in ["wait.yaml", "policy.yaml"] {
            let file = format!("{ROOT}/deploy/argo-cd/{file}");
            plane
                .kubectl(["apply", "--validate=false", "-f", &file])
                .ok();
        }
        let gate = Gate::new(&sigstore);
        let serving = gate.serve_cluster(&plane.kubeconfig_of_gate(), &[]);
        let bed = Bed {
            plane,
            gate,
            sigstore,
            _serving: serving,
        };
        bed.resource("PeopleDirectory", "example", bed.people());
        bed.resource("PromotionPolicy", "production", bed.policy());
        bed._serving.is_ready();
        bed.plane.register(&bed._serving);
        until("the policy is in force", || {
            let probe = deployment("probe", "registry.example/probe:v1");
            let dry = ["create", "--dry-run=server", "-f", "-"];
            let ran = bed.plane.kubectl_as(User::Alice, dry, &probe);
            ran.stderr.contains("policy `production`").then_some(())
        });
        bed
    }

    fn resource(&self, kind: &str, name: &str, spec: Value) {
        let resource = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": name},
            "spec": spec,
        });
        let apply = ["apply", "--validate=false", "-f", "-"];
        let ran = self
            .plane
            .kubectl_as(User::Admin, apply, &resource.to_string());
        ran.ok();
    }

    fn people(&self) -> Value {
        let person = |name: &str| {
            let email = format!("{name}@example.com");
            json!({"name": name, "identities": [{"certificate": {"issuer": self.sigstore.issuer.url(), "email": email}}]})
        };
        json!({
            "people": [person("bob"), person("carol")],
            "groups": [
                {"name": "security-team", "members": ["bob"]},
                {"name": "platform-leads", "members": ["carol"]},
            ],
        })
    }

    fn policy(&self) -> Value {
        let signer = json!([{"keyless": {"issuer": self.sigstore.issuer.url(), "identity": CI, "trustRoots": ["local"]}}]);
        json!({
            "environment": "production",
            "match": {"namespaces": {"names": ["shop"]}},
            "requirements": [
                {"digestPinned": {}},
                {"signature": {"anyOf": signer}},
                {"noFreeze": {}},
                {"approvals": {
                    "from": [{"group": "security-team"}, {"group": "platform-leads"}],
                    "differentFromAuthor": false,
                    "trustRoots": ["local"],
                    "transparency": "Timestamp",
                }},
            ],
        })
    }

    fn signed(&self, registry: &Registry, tag: &str) -> Tagged {
        let image = registry.push("app", tag, tag);
        Cosign::v3().sign_keyless(&image, CI, &self.sigstore).ok();
        image
    }

    /// Approves with cosign.
    fn approves(&self, image: &Tagged, person: &str) {
        let word = json!({"environment": "production", "decision": "approved"});
        let email = format!("{person}@example.com");
        Cosign::v3()
            .attest_keyless(image, APPROVAL, &word, &email, &self.sigstore)
            .ok();
    }

    /// Approves with `approve`, by the policies and people of the cluster.
    fn approves_by_command(&self, image: &Tagged, person: &str) -> String {
        let token = format!("{person}@example.com");
        let token = self.sigstore.issuer.token(&token);
        let kubeconfig = self.kubeconfig();
        let services = self.sigstore.signing_config();
        let args = [
            "approve",
            &image.by_digest(),
            "--environment",
            "production",
            "--from-cluster",
            "--kubeconfig",
            kubeconfig.to_str().unwrap(),
            "--config",
            "gate.yaml",
            "--signing-config",
            services.to_str().unwrap(),
            "--identity-token",
            &token,
            "--yes",
        ];
        self.gate.run(&args, "").ok()
    }

    fn apply(&self, image: &Tagged) -> Ran {
        let apply = ["apply", "-f", "-"];
        let manifest = deployment("web", &image.by_digest());
        self.plane.kubectl_as(User::Alice, apply, &manifest)
    }

    /// The rights of the Job that waits: everything that decides can be read, and nothing else.
    fn kubeconfig(&self) -> PathBuf {
        let account = "promotion-gate-wait";
        let create = ["create", "token", account, "-n", account];
        let token = self.plane.kubectl(create).ok();
        self.plane.kubeconfig("wait", token.trim())
    }

    /// Starts `wait` as the service account of the Job.
    fn waits(&self, more: &[&str], input: &str) -> Waiting {
        let mut command = Command::new(env!("CARGO_BIN_EXE_promotion-gate"));
        command
            .args(["wait", "--from-cluster", "--kubeconfig"])
            .arg(self.kubeconfig())
            .args([
                "--config",
                "gate.yaml",
                "--environment",
                "production",
                "--namespace",
                "shop",
            ])
            .args(["--interval", "2", "--timeout", "5m", "--output", "json"])
            .args(more)
            .current_dir(self.gate.path(""));
        Waiting(Running::start(&mut command, input))
    }
}

struct Waiting(Running);

impl Waiting {
    fn says(&self) -> Value {
        self.0.line()
    }

    /// Reads to the last line, and returns it and the exit code.
    fn ends(self) -> (Value, Option<i32>) {
        let mut line = self.says();
        while line["state"] == "waiting" {
            line = self.says();
        }
        (line, self.0.code())
    }
}

#[test]
fn what_is_denied_is_waited_for_approved_with_cosign_and_with_approve_and_admitted() {
    let bed = Bed::start();
    for (registry, tag) in Registry::both().iter().zip(["v1", "v2"]) {
        let image = bed.signed(registry, tag);
        let said = bed.apply(&image).refused();
        assert!(said.contains("[approvals-missing]"), "{said}");
        let waiting = bed.waits(&["-f", "-"], &deployment("web", &image.by_digest()));
        let first = waiting.says();
        assert_eq!(first["state"], "waiting", "{first}");
        assert_eq!(
            first["missing"][0]["reason"], "approvals-missing",
            "{first}"
        );
        bed.approves(&image, "bob");
        let second = waiting.says();
        let detail = second["missing"][0]["detail"].as_str().unwrap();
        assert!(detail.contains("approved by `bob`"), "{second}");
        let said = bed.apply(&image).refused();
        assert!(said.contains("1 of group `platform-leads`"), "{said}");
        let approved = bed.approves_by_command(&image, "carol");
        assert!(
            approved.contains("`carol` fills a seat: 1 of group `platform-leads`")
                && approved.contains("every seat is filled then"),
            "{approved}"
        );
        let (last, code) = waiting.ends();
        assert_eq!(
            (&last["state"], code),
            (&json!("allowed"), Some(0)),
            "{last}"
        );
        bed.apply(&image).ok();
    }
}

#[test]
fn a_version_that_is_admitted_meanwhile_supersedes_the_one_that_waits() {
    let bed = Bed::start();
    let registry = Registry::distribution();
    let (late, other) = (bed.signed(&registry, "v2"), bed.signed(&registry, "v3"));
    let manifest = deployment("web", &late.by_digest());
    let by_manifest = bed.waits(&["-f", "-"], &manifest);
    let image = late.by_digest();
    let by_image = bed.waits(&["--workload", "Deployment/web", &image], "");
    let of_another = bed.waits(&["--workload", "Deployment/other", &image], "");
    for waiting in [&by_manifest, &by_image, &of_another] {
        assert_eq!(waiting.says()["state"], "waiting");
    }
    for person in ["bob", "carol"] {
        bed.approves(&other, person);
    }
    bed.apply(&other).ok();
    for waiting in [by_manifest, by_image] {
        let (last, code) = waiting.ends();
        assert_eq!(
            (&last["state"], code),
            (&json!("superseded"), Some(2)),
            "{last}"
        );
        assert!(
            last["why"].as_str().unwrap().contains(&other.digest),
            "{last}"
        );
    }
    // A Deployment of another name is not that workload: the wait for it goes on until it is approved.
    for person in ["bob", "carol"] {
        bed.approves(&late, person);
    }
    let (last, code) = of_another.ends();
    assert_eq!(
        (&last["state"], code),
        (&json!("allowed"), Some(0)),
        "{last}"
    );
}

#[test]
fn the_job_that_waits_is_admitted_in_a_freeze_and_no_other_image_in_its_place() {
    let bed = Bed::start();
    bed.resource(
        "ChangeFreeze",
        "always",
        json!({
            "environments": ["*"],
            "reason": "test",
            "owner": "ops@example.com",
            "timeZone": "UTC",
            "windows": [{"from": "2020-01-01T00:00", "until": "2099-01-01T00:00"}],
        }),
    );
    until("the freeze lasts", || {
        let probe = deployment("probe", "registry.example/probe:v1");
        let dry = ["create", "--dry-run=server", "-f", "-"];
        let ran = bed.plane.kubectl_as(User::Alice, dry, &probe);
        ran.stderr.contains("frozen").then_some(())
    });
    let job = std::fs::read_to_string(format!("{ROOT}/deploy/argo-cd/presync-job.yaml")).unwrap();
    let create = |manifest: &str| {
        let dry = ["create", "--dry-run=server", "-f", "-"];
        bed.plane.kubectl_as(User::Alice, dry, manifest)
    };
    create(&job).ok();
    let other = job.replace(
        "image: registry.example/promotion-gate@",
        "image: registry.example/other@",
    );
    let said = create(&other).refused();
    assert!(said.contains("image-not-allowed"), "{said}");
}

/// The block of YAML in `docs/wait.md` that begins so.
fn snippet(begins: &str) -> String {
    let page = std::fs::read_to_string(format!("{ROOT}/docs/wait.md")).unwrap();
    let blocks = page.split("```yaml\n").skip(1);
    let mut blocks = blocks.map(|block| block.split("```").next().unwrap());
    let block = blocks.find(|block| block.starts_with(begins));
    block.unwrap().to_owned()
}

fn job_in(rendered: &str) -> Value {
    let (documents, problems) = documents::read("rendered", rendered.as_bytes());
    assert!(problems.is_empty(), "{problems:?}");
    let mut values = documents.into_iter().map(|document| document.value);
    values.find(|value| value["kind"] == "Job").unwrap()
}

#[test]
fn the_snippets_of_the_page_fill_in_the_job_with_kustomize_and_helm() {
    const ARGS: &str = "/spec/template/spec/containers/0/args";
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let shipped =
        std::fs::read_to_string(format!("{ROOT}/deploy/argo-cd/presync-job.yaml")).unwrap();
    let digest = format!("sha256:{}", "ab".repeat(32));
    let image = format!("ghcr.io/example/payments@{digest}");
    let mut expected = job_in(&shipped).pointer(ARGS).unwrap().clone();
    *expected.as_array_mut().unwrap().last_mut().unwrap() = json!(image);

    write("job.yaml", &shipped);
    write("payments.yaml", &deployment("payments", &image));
    let kustomization = "resources: [job.yaml, payments.yaml]\n".to_owned();
    write(
        "kustomization.yaml",
        &(kustomization + &snippet("replacements:")),
    );
    let kustomize = ["kustomize", "."];
    let rendered = run(command("kubectl", folder.path()).args(kustomize), b"").ok();
    assert_eq!(job_in(&rendered).pointer(ARGS), Some(&expected));

    let (before, rest) = shipped.split_once("        args:\n").unwrap();
    let (_, after) = rest.split_once("        resources:\n").unwrap();
    let template = format!(
        "{before}{}        resources:\n{after}",
        snippet("        args:")
    );
    write("payments/templates/job.yaml", &template);
    let chart =
        json!({"apiVersion": "v2", "name": "payments", "version": "0.1.0", "appVersion": "v1.2.3"});
    write("payments/Chart.yaml", &chart.to_string());
    let values = format!("image.repository=ghcr.io/example/payments,image.digest={digest}");
    let mut helm = command("helm", folder.path());
    helm.args(["template", "payments", "payments", "-n", "prod-payments"]);
    let rendered = run(helm.args(["--set", &values]), b"").ok();
    assert_eq!(job_in(&rendered).pointer(ARGS), Some(&expected));
}
