//! `quickstart`: runs the gate on this machine alone: a registry with freshly signed images, the real webhook with TLS, and
//! real AdmissionReviews.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use promotion_gate_core::attest::predicate::{Approval, ChangeRecord};
use promotion_gate_core::gate::Digest;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::render::human;
use super::render::json::CheckDecision;
use super::world;
use crate::config::Config;
use crate::sandbox::registry::SandboxRegistryOptions;
use crate::sandbox::{
    SandboxIdentity, SandboxRegistry, SandboxSigner, Sigstore, TlsIdentity, admission_review,
    attach_bundle, attach_signatures, push_image,
};
use crate::serve::{Listening, Options, POLL, serve};
use crate::snapshot::SnapshotFiles;

const ISSUER: &str = "https://token.actions.githubusercontent.com";
const RELEASE: &str =
    "https://github.com/example/app/.github/workflows/release.yml@refs/heads/main";
const STRANGER: &str =
    "https://github.com/stranger/app/.github/workflows/release.yml@refs/heads/main";
const RECORDER: &str =
    "https://github.com/example/release-tools/.github/workflows/change.yml@refs/tags/v1";
const SOURCE: &str = "https://github.com/example/app";
const COMMIT: &str = "5f9c1c0e7d3b4a2f8e6d5c4b3a29181706f5e4d3";
const PEOPLE_ISSUER: &str = "https://accounts.google.com";

/// Run the gate on this machine alone, with sample images
///
/// Starts a registry on loopback and fills it with images that a throwaway certificate authority, transparency log and
/// timestamp authority sign. Then starts the real webhook, sends it real AdmissionReviews, and prints commands to try.
/// Everything runs until it is interrupted.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  promotion-gate quickstart
  promotion-gate quickstart --once     ends with 0 only if every decision was as expected")]
pub(super) struct Args {
    /// Exit after the decisions
    #[arg(long)]
    once: bool,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let environment = Environment::start().await?;
    environment.introduce();
    let expected = environment.run_steps().await?;
    if !args.once {
        environment.print_next_steps();
        super::serve::stop_signal(Duration::ZERO)?.await;
    }
    environment.close().await?;
    Ok(if expected {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(super::FAILURE)
    })
}

/// The images in the sandbox's registry.
struct Images {
    signed: Digest,
    signed_by_cosign_2: Digest,
    unsigned: Digest,
    by_a_stranger: Digest,
}

/// Everything that `quickstart` runs, and its files.
struct Environment {
    folder: TempDir,
    registry: SandboxRegistry,
    sigstore: Sigstore,
    images: Images,
    listening: Listening,
    client: reqwest::Client,
    webhook: JoinHandle<anyhow::Result<()>>,
    stop: oneshot::Sender<()>,
}

/// A Deployment to create, and the expected answer.
struct Step {
    title: &'static str,
    namespace: &'static str,
    image: String,
    /// `None`: allowed; otherwise a part of the message of the denial.
    denied: Option<&'static str>,
}

impl Environment {
    async fn start() -> anyhow::Result<Environment> {
        let folder = tempfile::Builder::new()
            .prefix("promotion-gate-quickstart-")
            .tempdir()
            .context("the temporary folder cannot be created")?;
        let registry = SandboxRegistry::start(SandboxRegistryOptions::default())
            .await
            .context("the registry does not start")?;
        let sigstore = Sigstore::create()?;
        let images = fill(&registry, &sigstore)?;
        let tls = TlsIdentity::create()?;
        write_files(folder.path(), &registry.host(), &sigstore, &tls)?;

        let config = Config::load(Some(&folder.path().join("gate.yaml")))?;
        let collector = world::collector(&config)?;
        let files = SnapshotFiles {
            policies: vec![folder.path().join("policies")],
            config,
        };
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let options = Options {
            address: anywhere,
            probe_address: anywhere,
            certificate: folder.path().join("tls.crt"),
            key: folder.path().join("tls.key"),
            clients: None,
            audit_only: false,
            connections: 100,
            drain: Duration::from_secs(5),
            poll: POLL,
        };
        let (stop, stopped) = oneshot::channel();
        let (started, listening) = oneshot::channel();
        let webhook = tokio::spawn(async move {
            let started = |at: Listening| {
                // This fails only if the command has ended already.
                let _ = started.send(at);
            };
            let stopped = async move {
                let _ = stopped.await;
                Duration::ZERO
            };
            serve(options, files, collector, started, stopped).await
        });
        let Ok(listening) = listening.await else {
            webhook.await.context("the webhook failed")??;
            bail!("the webhook does not start");
        };
        let authority = reqwest::Certificate::from_pem(tls.authority_pem.as_bytes())?;
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([authority])
            .timeout(Duration::from_secs(30))
            .build()
            .context("the client does not start")?;
        let environment = Environment {
            folder,
            registry,
            sigstore,
            images,
            listening,
            client,
            webhook,
            stop,
        };
        environment.write_examples()?;
        Ok(environment)
    }

    fn introduce(&self) {
        print_line!(
            "\
Everything here runs on this machine alone and is thrown away at the end.

  registry  {host}, with images signed a moment ago by a throwaway Sigstore
  webhook   {webhook}
  folder    {folder}
            policies/ (edit them: they are taken over), gate.yaml, manifests/, reviews/

Namespace `shop` wants digests, its own registry, and the signature of
  {RELEASE}
Namespace `prod` wants also provenance, and the approval of two people who did not write the change.
Namespace `preview` wants the same signature, and resolves tags (`tags: Resolve`).
",
            host = self.registry.host(),
            webhook = self.webhook_url(),
            folder = self.folder.path().display(),
        );
    }

    /// Runs every step. Returns whether every answer was the expected one.
    async fn run_steps(&self) -> anyhow::Result<bool> {
        let mut steps = Count::default();
        for step in self.steps() {
            self.show(&step, &mut steps).await?;
        }
        self.run_approvals(&mut steps).await?;
        let tag = format!("{}/app:latest", self.registry.host());
        let step = Step {
            title: "a tag that points to a signed image, where tags are resolved",
            namespace: "preview",
            image: tag.clone(),
            denied: None,
        };
        self.show(&step, &mut steps).await?;
        self.registry
            .tag("app", "latest", &self.images.unsigned.to_string());
        let step = Step {
            title: "the same tag, moved to another image after it was signed",
            namespace: "preview",
            image: tag,
            denied: Some("[unsigned]"),
        };
        self.show(&step, &mut steps).await?;
        self.registry
            .tag("app", "latest", &self.images.signed.to_string());
        self.registry.stop();
        let step = Step {
            title: "the registry is down, but this image was verified before",
            namespace: "shop",
            image: self.pinned(&self.images.signed),
            denied: None,
        };
        self.show(&step, &mut steps).await?;
        let step = Step {
            title: "the registry is down, and nothing is known of this image",
            namespace: "shop",
            image: self.pinned(&Digest::sha256(b"never seen")),
            denied: Some("this is an infrastructure problem, not missing evidence"),
        };
        self.show(&step, &mut steps).await?;
        self.registry
            .resume()
            .await
            .context("the registry does not start again")?;
        print_line!(
            "{} of {} decisions were as expected",
            steps.expected,
            steps.run
        );
        Ok(steps.expected == steps.run)
    }

    fn steps(&self) -> Vec<Step> {
        let images = &self.images;
        let step = |title, image, denied| Step {
            title,
            namespace: "shop",
            image,
            denied,
        };
        let elsewhere = format!("docker.io/library/nginx@{}", images.signed);
        let by_tag = format!("{}/app:v1", self.registry.host());
        vec![
            step(
                "signed by the release workflow",
                self.pinned(&images.signed),
                None,
            ),
            step(
                "signed by the release workflow, with cosign 2",
                self.pinned(&images.signed_by_cosign_2),
                None,
            ),
            step(
                "not signed",
                self.pinned(&images.unsigned),
                Some("[unsigned]"),
            ),
            step(
                "signed, but by a stranger",
                self.pinned(&images.by_a_stranger),
                Some("[signer-not-accepted]"),
            ),
            step(
                "from another registry",
                elsewhere,
                Some("[image-not-allowed]"),
            ),
            step("a tag without a digest", by_tag, Some("[not-pinned]")),
        ]
    }

    /// The same image where people have to approve it. Alice wrote the change; Bob and Carol did not.
    async fn run_approvals(&self, count: &mut Count) -> anyhow::Result<()> {
        let steps: [(_, &[&str], _); 3] = [
            (
                "signed and built by the release workflow, without any approval",
                &[],
                Some("[approvals-missing]"),
            ),
            (
                "approved by Bob, and by Alice, who wrote the change",
                &["alice", "bob"],
                Some("`alice` does not count: an author of the change (opened pull request 12)"),
            ),
            (
                "approved by Bob and Carol, who did not write it",
                &["carol"],
                None,
            ),
        ];
        for (title, approvers, denied) in steps {
            for approver in approvers {
                self.approve(approver)?;
            }
            let step = Step {
                title,
                namespace: "prod",
                image: self.pinned(&self.images.signed),
                denied,
            };
            self.show(&step, count).await?;
        }
        Ok(())
    }

    fn approve(&self, person: &str) -> anyhow::Result<()> {
        attest(
            &self.registry,
            &self.sigstore,
            &self.images.signed,
            &SandboxIdentity::new(format!("{person}@example.com"), PEOPLE_ISSUER),
            Approval::TYPE,
            &json!({"environment": "production", "decision": "approved"}),
        )
    }

    fn pinned(&self, digest: &Digest) -> String {
        format!("{}/app@{digest}", self.registry.host())
    }

    async fn show(&self, step: &Step, count: &mut Count) -> anyhow::Result<()> {
        count.run += 1;
        print_line!("{}. {}", count.run, step.title);
        print_line!("   Deployment {}/web, {}", step.namespace, step.image);
        let id = format!("quickstart-{}", count.run);
        let response = self.ask(&review(&id, step.namespace, &step.image)).await?;
        let text = |at: &str| {
            response
                .pointer(at)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let allowed = response
            .pointer("/response/allowed")
            .and_then(Value::as_bool);
        let message = text("/response/status/message");
        let expected = match (allowed, step.denied) {
            (Some(true), None) => true,
            (Some(false), Some(part)) => message.contains(part),
            _ => false,
        };
        let answer = if allowed == Some(true) {
            CheckDecision::Allow
        } else {
            CheckDecision::Deny
        };
        print_line!("   {}", human::word(answer));
        for line in message.lines() {
            print_line!("   {line}");
        }
        if expected {
            count.expected += 1;
        } else {
            let wanted = step.denied.unwrap_or("allowed");
            print_line!("   unexpected answer; expected: {wanted}");
        }
        print_line!("");
        Ok(())
    }

    async fn ask(&self, review: &Value) -> anyhow::Result<Value> {
        let answer = self
            .client
            .post(self.webhook_url())
            .header("content-type", "application/json")
            .body(review.to_string())
            .send()
            .await
            .context("the webhook does not answer")?;
        let bytes = answer
            .bytes()
            .await
            .context("the webhook does not answer")?;
        serde_json::from_slice(&bytes).context("the webhook's answer is not JSON")
    }

    fn webhook_url(&self) -> String {
        format!("https://{}/validate?timeout=10s", self.listening.address)
    }

    /// Writes the files that the printed commands use.
    fn write_examples(&self) -> anyhow::Result<()> {
        for (name, image) in [
            ("signed", &self.images.signed),
            ("unsigned", &self.images.unsigned),
        ] {
            let review = review(name, "shop", &self.pinned(image));
            self.write(&format!("reviews/{name}.json"), &pretty(&review))?;
            let object = review.pointer("/request/object").unwrap_or(&Value::Null);
            self.write(&format!("manifests/{name}.json"), &pretty(object))?;
        }
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        write(self.folder.path(), name, text)
    }

    fn print_next_steps(&self) {
        let folder = self.folder.path().display();
        let program = std::env::current_exe().unwrap_or_else(|_| "promotion-gate".into());
        let program = program.display();
        print_line!(
            "
Everything stays up until you press Ctrl-C. Try, in another terminal:

  curl -sS --cacert {folder}/ca.crt -H 'content-type: application/json' \\
    --data @{folder}/reviews/unsigned.json '{webhook}'
  {program} check --policy {folder}/policies --config {folder}/gate.yaml {folder}/manifests
  {program} evidence --config {folder}/gate.yaml {signed}
  curl -sS http://{probes}/readyz http://{probes}/metrics",
            webhook = self.webhook_url(),
            signed = self.pinned(&self.images.signed),
            probes = self.listening.probe_address,
        );
    }

    async fn close(self) -> anyhow::Result<()> {
        // This fails only if the webhook has ended already, and then its error is returned below.
        let _ = self.stop.send(());
        self.webhook.await.context("the webhook failed")?
    }
}

#[derive(Default)]
struct Count {
    run: usize,
    expected: usize,
}

fn fill(registry: &SandboxRegistry, sigstore: &Sigstore) -> anyhow::Result<Images> {
    let none = BTreeMap::new();
    let workflow = release_workflow();
    let release = SandboxSigner::Identity(&workflow);
    let signed = push_image(registry, "app", "v1", "signed")?;
    registry.tag("app", "latest", &signed.to_string());
    let bundle = sigstore.signing().sign(release, &signed, &none)?;
    attach_bundle(registry, "app", &signed, &bundle)?;
    let (kind, provenance) = provenance();
    attest(registry, sigstore, &signed, &workflow, kind, &provenance)?;
    let recorder = SandboxIdentity::new(RECORDER, ISSUER);
    let record = change_record();
    attest(
        registry,
        sigstore,
        &signed,
        &recorder,
        ChangeRecord::TYPE,
        &record,
    )?;

    let signed_by_cosign_2 = push_image(registry, "app", "v0", "signed by cosign 2")?;
    let signature = sigstore
        .signing()
        .sign_simply(release, &signed_by_cosign_2, &none)?;
    attach_signatures(registry, "app", &signed_by_cosign_2, &[signature])?;

    let stranger = SandboxIdentity::new(STRANGER, ISSUER);
    let by_a_stranger = push_image(registry, "app", "fork", "by a stranger")?;
    let bundle =
        sigstore
            .signing()
            .sign(SandboxSigner::Identity(&stranger), &by_a_stranger, &none)?;
    attach_bundle(registry, "app", &by_a_stranger, &bundle)?;

    Ok(Images {
        signed,
        signed_by_cosign_2,
        unsigned: push_image(registry, "app", "unsigned", "unsigned")?,
        by_a_stranger,
    })
}

fn attest(
    registry: &SandboxRegistry,
    sigstore: &Sigstore,
    image: &Digest,
    signer: &SandboxIdentity,
    kind: &str,
    predicate: &Value,
) -> anyhow::Result<()> {
    let signer = SandboxSigner::Identity(signer);
    let bundle = sigstore.signing().attest(signer, image, kind, predicate)?;
    attach_bundle(registry, "app", image, &bundle)?;
    Ok(())
}

/// The release workflow, with the claims of its certificate that say what it built: source repository, commit and ref.
fn release_workflow() -> SandboxIdentity {
    SandboxIdentity::new(RELEASE, ISSUER)
        .with_claim(12, SOURCE)
        .with_claim(13, COMMIT)
        .with_claim(14, "refs/heads/main")
}

/// Provenance as `actions/attest-build-provenance` writes it: its type and the predicate.
fn provenance() -> (&'static str, Value) {
    let workflow = json!({"repository": SOURCE, "ref": "refs/heads/main", "path": ".github/workflows/release.yml"});
    let predicate = json!({
        "buildDefinition": {
            "buildType": "https://actions.github.io/buildtypes/workflow/v1",
            "externalParameters": {"workflow": workflow},
            "resolvedDependencies": [
                {"uri": format!("git+{SOURCE}@refs/heads/main"), "digest": {"gitCommit": COMMIT}},
            ],
        },
        "runDetails": {"builder": {"id": RELEASE}},
    });
    ("https://slsa.dev/provenance/v1", predicate)
}

/// The record of a change by Alice, as `attest change` writes it.
fn change_record() -> Value {
    let alice = json!({"github": {"login": "alice-example", "id": 1001}});
    json!({
        "repository": {"uri": SOURCE},
        "to": COMMIT,
        "commits": [{"sha": COMMIT, "authors": [alice]}],
        "complete": true,
        "unknownAuthors": [],
        "authors": [{"identity": alice, "role": "opened", "pullRequest": 12}],
        "reviewers": [],
        "pullRequests": [],
    })
}

fn write_files(
    folder: &Path,
    registry: &str,
    sigstore: &Sigstore,
    tls: &TlsIdentity,
) -> anyhow::Result<()> {
    write(
        folder,
        "trusted_root.json",
        &pretty(&sigstore.trusted_root()),
    )?;
    write(folder, "ca.crt", &tls.authority_pem)?;
    write(folder, "tls.crt", &tls.certificate_pem)?;
    write(folder, "tls.key", &tls.key_pem)?;
    write(folder, "gate.yaml", GATE)?;
    write(
        folder,
        "policies/shop.yaml",
        &SHOP.replace("REGISTRY", registry),
    )?;
    write(folder, "policies/prod.yaml", PROD)?;
    write(folder, "policies/people.yaml", PEOPLE)?;
    write(folder, "policies/preview.yaml", PREVIEW)
}

fn write(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path: PathBuf = folder.join(name);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)
            .with_context(|| format!("`{}` cannot be made", parent.display()))?;
    }
    std::fs::write(&path, text).with_context(|| format!("`{}` cannot be written", path.display()))
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

const GATE: &str = "\
# The configuration of the webhook and the commands: the sandbox's trust root, under a name that policies use.
apiVersion: promotion-gate.dev/v1alpha1
kind: GateConfiguration
trustRoots:
- name: sandbox
  file: trusted_root.json
";

const SHOP: &str = "\
# Images in `shop` are named by digest, come from our registry, and are signed by the release workflow.
apiVersion: promotion-gate.dev/v1alpha1
kind: PromotionPolicy
metadata:
  name: shop
spec:
  enforcement: Enforce
  match:
    namespaces: {names: [shop]}
  requirements:
  - digestPinned: {}
  - allowedImages:
      patterns: [\"REGISTRY/**\"]
  - signature:
      anyOf:
      - keyless:
          issuer: https://token.actions.githubusercontent.com
          identity: {glob: \"https://github.com/example/*/.github/workflows/release.yml@refs/heads/main\"}
          trustRoots: [sandbox]
";

const PROD: &str = "\
# Images in `prod` are signed and built by the release workflow, and two people who did not write the change have approved them.
apiVersion: promotion-gate.dev/v1alpha1
kind: PromotionPolicy
metadata:
  name: prod
spec:
  environment: production
  enforcement: Enforce
  match:
    namespaces: {names: [prod]}
  requirements:
  - digestPinned: {}
  - signature:
      anyOf:
      - keyless: &release
          issuer: https://token.actions.githubusercontent.com
          identity: {glob: \"https://github.com/example/*/.github/workflows/release.yml@refs/heads/main\"}
          trustRoots: [sandbox]
  - provenance:
      builders:
      - id: {glob: \"https://github.com/example/*/.github/workflows/release.yml@refs/heads/main\"}
        signedBy: {keyless: *release}
      sources: [{glob: \"https://github.com/example/*\"}]
  - approvals:
      from: [{group: release-approvers, count: 2}]
      trustRoots: [sandbox]
      authorsFrom:   # who wrote the change: recorded by a workflow that its authors cannot edit
      - changeRecord:
          signedBy:
            keyless:
              issuer: https://token.actions.githubusercontent.com
              identity: {glob: \"https://github.com/example/release-tools/.github/workflows/change.yml@refs/tags/v*\"}
              trustRoots: [sandbox]
";

const PEOPLE: &str = "\
# Who is who: how people sign approvals (certificate) and how they write code (github), and who may approve.
apiVersion: promotion-gate.dev/v1alpha1
kind: PeopleDirectory
metadata:
  name: example
spec:
  people:
  - name: alice
    identities:
    - certificate: {issuer: \"https://accounts.google.com\", email: alice@example.com}
    - github: {login: alice-example, id: 1001}
  - name: bob
    identities:
    - certificate: {issuer: \"https://accounts.google.com\", email: bob@example.com}
  - name: carol
    identities:
    - certificate: {issuer: \"https://accounts.google.com\", email: carol@example.com}
  groups:
  - name: release-approvers
    members: [alice, bob, carol]
";

const PREVIEW: &str = "\
# Images in `preview` may be named by tag: the digest that the tag names at review time is judged.
apiVersion: promotion-gate.dev/v1alpha1
kind: PromotionPolicy
metadata:
  name: preview
spec:
  enforcement: Enforce
  tags: Resolve
  match:
    namespaces: {names: [preview]}
  requirements:
  - signature:
      anyOf:
      - keyless:
          issuer: https://token.actions.githubusercontent.com
          identity: {glob: \"https://github.com/example/*/.github/workflows/release.yml@refs/heads/main\"}
          trustRoots: [sandbox]
";

/// The request that an API server sends when a Deployment is created.
fn review(id: &str, namespace: &str, image: &str) -> Value {
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": image}]},
            },
        },
    });
    admission_review(id, deployment)
}
