//! `quickstart`: runs the gate on this machine alone: a registry with freshly signed images, the real webhook with TLS, and
//! real AdmissionReviews.

mod commands;
mod sample;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::{SignedDuration, Timestamp};
use promotion_gate_core::gate::Digest;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use sample::{Images, RELEASE};

use super::render::human;
use super::render::json::CheckDecision;
use super::world;
use crate::admission::Audited;
use crate::config::Config;
use crate::sandbox::registry::SandboxRegistryOptions;
use crate::sandbox::{SandboxRegistry, Sigstore, TimestampServer, TlsIdentity};
use crate::serve::{CertificateOptions, Listening, Options, serve};
use crate::snapshot::SnapshotFiles;
use crate::text::line;

/// How long production would be frozen, if the freeze were not ended before.
const FREEZE: SignedDuration = SignedDuration::from_hours(1);
/// How often the webhook looks at its files.
const POLL: Duration = Duration::from_millis(50);

/// Run the gate on this machine alone, with sample images
///
/// Starts a registry on loopback and fills it with images that a throwaway certificate authority, transparency log and
/// timestamp authority sign. Then starts the real webhook, sends it real AdmissionReviews, runs the real `approve` and `emergency`, and prints
/// commands to try. Everything runs until it is interrupted.
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

/// Everything that `quickstart` runs, and its files.
struct Environment {
    folder: TempDir,
    registry: SandboxRegistry,
    /// Runs until the end: the printed `approve` commands ask it.
    _timestamps: TimestampServer,
    images: Images,
    listening: Listening,
    client: reqwest::Client,
    webhook: JoinHandle<anyhow::Result<()>>,
    stop: oneshot::Sender<()>,
}

/// A Deployment to create, and the expected answer.
struct Step {
    title: &'static str,
    /// The commands that people run before.
    commands: Vec<Vec<String>>,
    namespace: &'static str,
    image: String,
    /// `None`: allowed; otherwise a part of the message of the denial.
    denied: Option<&'static str>,
    /// Whether the controller of ReplicaSets creates a Pod, and not somebody a Deployment.
    by_controller: bool,
}

impl Step {
    fn new(
        title: &'static str,
        namespace: &'static str,
        image: String,
        denied: Option<&'static str>,
    ) -> Step {
        Step {
            title,
            commands: Vec::new(),
            namespace,
            image,
            denied,
            by_controller: false,
        }
    }
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
        let sigstore = Arc::new(Sigstore::create()?);
        let images = sample::fill(&registry, &sigstore)?;
        let timestamps = TimestampServer::start(Arc::clone(&sigstore))
            .await
            .context("the timestamp authority does not start")?;
        let tls = TlsIdentity::create()?;
        sample::write_files(folder.path(), &registry.host(), &sigstore, &tls)?;
        sample::write_people(folder.path(), &timestamps.url())?;

        let file = |name: &str| folder.path().join(name).display().to_string();
        let mut config = Config::load(Some(&folder.path().join("gate.yaml")))?;
        config.world.approve_arguments = vec![
            "--policy".to_owned(),
            file("policies"),
            "--config".to_owned(),
            file("gate.yaml"),
        ];
        let collector = world::collector(&config)?;
        let files = SnapshotFiles {
            policies: vec![folder.path().join("policies")],
            config,
        };
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let options = Options {
            address: anywhere,
            probe_address: anywhere,
            certificate: CertificateOptions::Files {
                chain: folder.path().join("tls.crt"),
                key: folder.path().join("tls.key"),
            },
            webhook: None,
            clients: None,
            cluster: None,
            audited: Audited::default(),
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
            _timestamps: timestamps,
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
            policies/ (edit them: they are taken over), gate.yaml, keys/ of Alice, Bob, Carol and Dave, manifests/, reviews/

Namespace `shop` wants digests, its own registry, and the signature of
  {RELEASE}
Namespace `prod` wants also provenance, the approval of two people who did not write the change, and no change freeze; an
  emergency change that two of them agree to passes a freeze.
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
        self.run_freeze(&mut steps).await?;
        let tag = format!("{}/app:latest", self.registry.host());
        let step = Step::new(
            "a tag that points to a signed image, where tags are resolved",
            "preview",
            tag.clone(),
            None,
        );
        self.show(&step, &mut steps).await?;
        self.registry
            .tag("app", "latest", &self.images.unsigned.to_string());
        let step = Step::new(
            "the same tag, moved to another image after it was signed",
            "preview",
            tag,
            Some("[unsigned]"),
        );
        self.show(&step, &mut steps).await?;
        self.registry
            .tag("app", "latest", &self.images.signed.to_string());
        self.registry.stop();
        let step = Step::new(
            "the registry is down, but this image was verified before",
            "shop",
            self.pinned(&self.images.signed),
            None,
        );
        self.show(&step, &mut steps).await?;
        let step = Step::new(
            "the registry is down, and nothing is known of this image",
            "shop",
            self.pinned(&Digest::sha256(b"never seen")),
            Some("this is an infrastructure problem, not missing evidence"),
        );
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
        let step = |title, image, denied| Step::new(title, "shop", image, denied);
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
        let steps: [(_, &'static [&'static str], _); 3] = [
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
            let image = self.pinned(&self.images.signed);
            let commands = approvers
                .iter()
                .map(|by| self.approval(by, &self.images.signed));
            let step = Step {
                commands: commands.collect(),
                ..Step::new(title, "prod", image, denied)
            };
            self.show(&step, count).await?;
        }
        Ok(())
    }

    /// The same image while production is frozen. The file is taken over like any other policy file.
    async fn run_freeze(&self, count: &mut Count) -> anyhow::Result<()> {
        let step = |title, denied| {
            let image = self.pinned(&self.images.signed);
            Step::new(title, "prod", image, denied)
        };
        let begins = Timestamp::now();
        let freeze = |ends| self.write("policies/freeze.yaml", &sample::freeze(begins, ends));
        freeze(begins.checked_add(FREEZE)?)?;
        let frozen = step(
            "the same image, while production is frozen",
            Some("[frozen]"),
        );
        self.until(&frozen).await?;
        self.show(&frozen, count).await?;
        let emergency = Step {
            commands: self.emergency(),
            ..step(
                "an emergency change that Bob declares and Carol agrees to",
                None,
            )
        };
        self.show(&emergency, count).await?;
        print_line!("   Dave, who had no part in it, reviews it afterwards:");
        self.run_command(&self.emergency_review()).await?;
        print_line!("");
        let upkeep = Step {
            by_controller: true,
            ..step(
                "a Pod that a controller brings back during the freeze",
                None,
            )
        };
        self.show(&upkeep, count).await?;
        freeze(Timestamp::now())?;
        let over = step("Bob ended the freeze", None);
        self.until(&over).await?;
        self.show(&over, count).await
    }

    /// Asks until the answer is the expected one, without an emergency change, or for long enough.
    async fn until(&self, step: &Step) -> anyhow::Result<()> {
        for _ in 0..1000 {
            let review = sample::review("quickstart-waits", step.namespace, &step.image);
            let answer = self.ask(&review).await?;
            let allowed = answer.pointer("/response/allowed").and_then(Value::as_bool);
            let is_warned = answer.pointer("/response/warnings").is_some();
            if allowed == Some(step.denied.is_none()) && !is_warned {
                break;
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        Ok(())
    }

    fn pinned(&self, digest: &Digest) -> String {
        format!("{}/app@{digest}", self.registry.host())
    }

    async fn show(&self, step: &Step, count: &mut Count) -> anyhow::Result<()> {
        count.run += 1;
        print_line!("{}. {}", count.run, step.title);
        for command in &step.commands {
            self.run_command(command).await?;
        }
        let id = format!("quickstart-{}", count.run);
        let (what, review) = match step.by_controller {
            true => (
                "Pod",
                sample::pod_by_controller(&id, step.namespace, &step.image),
            ),
            false => (
                "Deployment",
                sample::review(&id, step.namespace, &step.image),
            ),
        };
        print_line!("   {what} {}/web, {}", step.namespace, step.image);
        let response = self.ask(&review).await?;
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
        let warnings = response.pointer("/response/warnings");
        let warnings = warnings.and_then(Value::as_array).into_iter().flatten();
        for warning in warnings.filter_map(Value::as_str) {
            print_line!("   warning: {}", line(warning));
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

    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        sample::write(self.folder.path(), name, text)
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
