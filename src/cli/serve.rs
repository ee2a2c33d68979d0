//! `serve`: the admission webhook.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use promotion_gate_core::gate::Age;
use url::Url;

use super::webhook_configuration::namespace;
use super::world;
use crate::admission::{Audited, Endpoint};
use crate::cluster::Cluster;
use crate::config::{Config, in_a_pod};
use crate::decision_log::{LogFormat, start_logging};
use crate::duties::{CertificateSecret, CertificateSettings, ManagedWebhook};
use crate::serve::{CertificateOptions, Clients, Options, POLL, serve};
use crate::snapshot::SnapshotFiles;

/// Serve the admission webhook
///
/// Policies, the certificate, the configuration and every file that it names are reloaded when they change. If a change is not
/// valid, the last valid state stays in force, and the log, `/readyz` and a metric report it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  promotion-gate serve --policy policies/ --tls-cert tls.crt --tls-key tls.key
  promotion-gate serve --policy policies/ --tls-cert tls.crt --tls-key tls.key --audit-only --log-format text
  promotion-gate serve --kubeconfig gate.kubeconfig --tls-cert tls.crt --tls-key tls.key
  promotion-gate serve --certificates-secret promotion-gate-certificates --manage-webhook promotion-gate")]
pub(super) struct Args {
    /// Policies: files or folders; may be given several times. Optional where there is a cluster, whose resources count besides
    #[arg(long = "policy", value_name = "PATH")]
    policies: Vec<PathBuf>,
    /// A kubeconfig file for the cluster, outside of a Pod; in a Pod, its service account is used
    #[arg(long, value_name = "FILE", conflicts_with = "without_cluster")]
    kubeconfig: Option<PathBuf>,
    /// Ask no API server, also in a Pod: what counts is in the files of `--policy` and `--config`
    #[arg(long, requires = "policies")]
    without_cluster: bool,
    /// The configuration: trust roots, registries, credentials, namespaces
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The certificate chain of the webhook (PEM)
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_key",
        required_unless_present = "certificates_secret"
    )]
    tls_cert: Option<PathBuf>,
    /// The private key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    #[command(flatten)]
    registered: RegisteredArgs,
    /// Certificate authorities (PEM) of client certificates: the API server must present one, and other clients are refused in
    /// the handshake
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,
    /// A name that the client's certificate must carry, as common name or alternative name; may be given several times
    #[arg(long = "client-name", value_name = "NAME", requires = "client_ca")]
    client_names: Vec<String>,
    /// Address for admission requests
    #[arg(long, default_value = "0.0.0.0:8443")]
    address: SocketAddr,
    /// Address for /livez, /readyz and /metrics
    #[arg(long, default_value = "0.0.0.0:8080")]
    probe_address: SocketAddr,
    /// Admit every request, and record what the decision would have been
    #[arg(long)]
    audit_only: bool,
    /// A namespace in which every workload is admitted, as with `--audit-only`; may be given several times
    #[arg(long = "audit-namespace", value_name = "NAMESPACE", value_parser = namespace)]
    audit_namespaces: Vec<String>,
    /// Format of log lines, on standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Json)]
    log_format: LogFormat,
    /// Maximum number of open connections; at the limit, the connection that has been idle longest is closed. At most a quarter
    /// may be connections that have not carried an AdmissionReview yet
    #[arg(long, default_value_t = 1000)]
    connections: usize,
    /// How long new requests are still answered after SIGTERM, in seconds, while `/readyz` fails: the API server learns of it
    /// with a delay
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    shutdown_delay: u64,
    /// How long requests under way may take after that, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 25)]
    drain: u64,
}

/// Certificates that the gate makes itself, and the webhook configuration that it keeps.
#[derive(Debug, clap::Args)]
struct RegisteredArgs {
    /// Make and renew a CA and the certificate of the webhook, and keep them in this Secret; by default in the gate's own namespace
    #[arg(
        long, value_name = "[NAMESPACE/]NAME", value_parser = secret,
        requires = "manage_webhook", conflicts_with_all = ["tls_cert", "without_cluster"]
    )]
    certificates_secret: Option<SecretName>,
    /// A name of the webhook's Service, as NAME.NAMESPACE.svc; may be given several times. The certificate that the gate makes carries
    /// all of them, and the API server uses the first one. By default `promotion-gate` in the gate's own namespace
    #[arg(long = "serving-name", value_name = "DNS")]
    serving_names: Vec<String>,
    /// How long the certificate that the gate makes is valid; it is renewed after two thirds of that
    #[arg(long, value_name = "AGE", default_value = "90d")]
    certificate_validity: Age,
    /// How long the CA that the gate makes is valid; after two thirds of that, another one is trusted beside it
    #[arg(long, value_name = "AGE", default_value = "730d")]
    ca_validity: Age,
    /// How long a new CA is in `caBundle` before a certificate that it issued is served
    #[arg(long, value_name = "AGE", default_value = "10m")]
    ca_overlap: Age,
    /// Keep the `webhooks` of this ValidatingWebhookConfiguration as `promotion-gate webhook-configuration` prints them, once this
    /// replica is ready and holds the Lease. The configuration is never created
    #[arg(long, value_name = "NAME", conflicts_with = "without_cluster")]
    manage_webhook: Option<String>,
    /// The CAs of the certificate of `--tls-cert` (PEM), for `caBundle`; without them, `caBundle` is left to cert-manager
    #[arg(
        long,
        value_name = "FILE",
        requires = "manage_webhook",
        conflicts_with = "certificates_secret"
    )]
    webhook_ca_file: Option<PathBuf>,
    /// The address of a gate without a Service, with the path `/validate`
    #[arg(
        long,
        value_name = "URL",
        requires = "manage_webhook",
        conflicts_with = "serving_names"
    )]
    webhook_url: Option<Url>,
    /// A namespace that nodes or the gate need in order to start: no answer lets in there, as in kube-system and the gate's own; may be
    /// given several times
    #[arg(
        long = "infrastructure-namespace",
        value_name = "NAMESPACE",
        value_parser = namespace,
        requires = "manage_webhook"
    )]
    infrastructure_namespaces: Vec<String>,
}

/// A Secret, and its namespace where it is said.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SecretName {
    namespace: Option<String>,
    name: String,
}

fn secret(text: &str) -> Result<SecretName, String> {
    let (namespace, name) = match text.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, text),
    };
    let is_name = |text: &str| {
        let is_allowed = |letter: char| {
            letter.is_ascii_lowercase() || letter.is_ascii_digit() || matches!(letter, '-' | '.')
        };
        !text.is_empty() && text.len() <= 253 && text.chars().all(is_allowed)
    };
    if !is_name(name) || namespace.is_some_and(|it| !is_name(it)) {
        return Err("expected a name, such as `promotion-gate-certificates`, or a namespace and a name with `/` between".to_owned());
    }
    Ok(SecretName {
        namespace: namespace.map(str::to_owned),
        name: name.to_owned(),
    })
}

impl RegisteredArgs {
    /// The webhook configuration to keep, and the certificates to make, of a gate in this namespace.
    fn options(
        self,
        namespace: &str,
        audited: &Audited,
    ) -> anyhow::Result<(Option<ManagedWebhook>, Option<CertificateSecret>)> {
        let Some(name) = self.manage_webhook else {
            return Ok((None, None));
        };
        let mut names = self.serving_names;
        let endpoint = match &self.webhook_url {
            Some(url) => {
                let host = url.host_str().context("`--webhook-url` names no host")?;
                names.push(host.trim_matches(['[', ']']).to_owned());
                Endpoint::Url(url.to_string())
            }
            None => {
                if names.is_empty() {
                    names.push(format!("promotion-gate.{namespace}.svc"));
                }
                names.first().and_then(|name| service(name)).context(
                    "the first `--serving-name` is not the name of a Service, such as `promotion-gate.promotion-gate.svc`",
                )?
            }
        };
        let mut infrastructure: BTreeSet<_> = self.infrastructure_namespaces.into_iter().collect();
        infrastructure.extend(["kube-system".to_owned(), namespace.to_owned()]);
        let settings = CertificateSettings {
            names,
            ca_validity: self.ca_validity.duration(),
            validity: self.certificate_validity.duration(),
            overlap: self.ca_overlap.duration(),
        };
        if self.certificates_secret.is_some()
            && let Some(problem) = settings.problem()
        {
            bail!("the certificates cannot be made: {problem}");
        }
        let certificates = self.certificates_secret.map(|secret| CertificateSecret {
            namespace: secret.namespace,
            name: secret.name,
            settings,
            webhook: name.clone(),
        });
        let webhook = ManagedWebhook {
            name,
            endpoint,
            infrastructure,
            audited: audited.clone(),
            authorities: self.webhook_ca_file,
        };
        Ok((Some(webhook), certificates))
    }
}

/// The Service of a DNS name.
fn service(name: &str) -> Option<Endpoint> {
    let mut parts = name.split('.');
    let (service, namespace) = (parts.next()?, parts.next()?);
    (parts.next() == Some("svc")).then(|| Endpoint::Service {
        namespace: namespace.to_owned(),
        name: service.to_owned(),
    })
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    start_logging(args.log_format);
    let mut config = Config::load(args.config.as_deref())?;
    config.loopback = asks_loopback(in_a_pod(), args.address);
    for warning in &config.warnings {
        tracing::warn!(warning, "a problem in the configuration");
    }
    raise_open_files(args.connections, &config);
    let cluster = cluster(&args).await?;
    if cluster.is_some() {
        config.world.approve_arguments = vec!["--from-cluster".to_owned()];
    }
    let namespace = cluster.as_ref().map(Cluster::namespace);
    if args.registered.manage_webhook.is_some() && namespace.is_none() {
        bail!("`--manage-webhook` needs the cluster: name it with `--kubeconfig FILE`");
    }
    let audited = Audited {
        everywhere: args.audit_only,
        namespaces: args.audit_namespaces.into_iter().collect(),
    };
    let registered = (args.registered).options(namespace.unwrap_or_default(), &audited);
    let (webhook, secret) = registered?;
    let certificate = match (secret, args.tls_cert, args.tls_key) {
        (Some(secret), _, _) => CertificateOptions::SelfManaged(secret),
        (None, Some(chain), Some(key)) => CertificateOptions::Files { chain, key },
        (None, _, _) => bail!("give `--tls-cert FILE` and `--tls-key FILE`"),
    };
    let collector = world::collector(&config)?;
    let files = SnapshotFiles {
        policies: args.policies,
        config,
    };
    let options = Options {
        address: args.address,
        probe_address: args.probe_address,
        certificate,
        webhook,
        clients: args.client_ca.map(|authorities| Clients {
            authorities,
            names: args.client_names,
        }),
        cluster,
        audited,
        connections: args.connections,
        drain: Duration::from_secs(args.drain),
        poll: POLL,
    };
    let started = |at: crate::serve::Listening| {
        tracing::info!(address = %at.address, probe_address = %at.probe_address, "serving");
    };
    let stop = stop_signal(Duration::from_secs(args.shutdown_delay))?;
    serve(options, files, collector, started, stop).await?;
    Ok(ExitCode::SUCCESS)
}

/// The cluster whose resources count: the one that is named, or the one that the process runs in.
async fn cluster(args: &Args) -> anyhow::Result<Option<Cluster>> {
    match &args.kubeconfig {
        Some(file) => Cluster::connect(Some(file)).await.map(Some),
        None if in_a_pod() && !args.without_cluster => Cluster::of_the_pod()
            .context("mount the token of the service account, or give `--without-cluster`")
            .map(Some),
        None if args.policies.is_empty() => bail!(
            "there is nothing to decide by: give `--policy PATH`, or the cluster with `--kubeconfig FILE`"
        ),
        None => Ok(None),
    }
}

/// Whether images may name registries on loopback. In a cluster, deployers choose the images, and loopback reaches whatever
/// else runs in the gate's Pod. A webhook that listens on loopback alone serves this machine only.
fn asks_loopback(in_a_pod: bool, address: SocketAddr) -> bool {
    !in_a_pod || address.ip().is_loopback()
}

/// Raises the limit of open files to its maximum. A failure is logged, and the old limit stays.
fn raise_open_files(connections: usize, config: &Config) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let given = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: given.maximum,
        maximum: given.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let outgoing = config.client_options().limits.open_files();
    let needed = connections.saturating_add(outgoing);
    let needed = u64::try_from(needed).unwrap_or(u64::MAX);
    if files < needed {
        tracing::warn!(
            files,
            needed,
            "the limit of open files is low: connections may fail; raise it, or lower `--connections`"
        );
    } else {
        tracing::info!(files, needed, "open files");
    }
}

/// Resolves after SIGTERM with `shutdown_delay`, and after Ctrl-C with zero: an interactive user does not wait.
pub(super) fn stop_signal(
    shutdown_delay: Duration,
) -> anyhow::Result<impl Future<Output = Duration>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("signals cannot be received")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signals cannot be received")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => shutdown_delay,
            _ = interrupt.recv() => Duration::ZERO,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Args, clap::Error> {
        crate::cli::parsed(args)
    }

    #[test]
    fn certificates_come_from_files_or_from_a_secret_and_never_from_both() {
        let files = ["--tls-cert=tls.crt", "--tls-key=tls.key"];
        let secret = ["--certificates-secret=tls", "--manage-webhook=gate"];
        assert!(parsed(&files).is_ok());
        assert!(parsed(&secret).is_ok());
        assert!(parsed(&[]).is_err());
        assert!(parsed(&["--tls-cert=tls.crt"]).is_err());
        assert!(parsed(&[&files[..], &secret].concat()).is_err());
        // Nobody would write the CA into `caBundle`.
        assert!(parsed(&["--certificates-secret=tls"]).is_err());
        for name in ["", "/tls", "tls/", "a/b/c", "Tls"] {
            let flag = format!("--certificates-secret={name}");
            assert!(parsed(&[&flag, secret[1]]).is_err(), "{name}");
        }
    }

    #[test]
    fn each_option_names_one_namespace_in_full() {
        let webhook = [
            "--certificates-secret=tls",
            "--manage-webhook=promotion-gate",
        ];
        for option in ["--audit-namespace", "--infrastructure-namespace"] {
            let with = |value: &str| {
                let option = format!("{option}={value}");
                parsed(&[&webhook[..], &[&*option]].concat())
            };
            assert!(with("lab").is_ok());
            for value in ["", "lab,sandbox", "team-*"] {
                let told = with(value).unwrap_err().to_string();
                assert!(told.contains("once for each namespace"), "{value}: {told}");
            }
        }
    }

    #[test]
    fn the_service_is_that_of_the_first_name_and_the_gate_s_own_namespace_is_of_the_infrastructure()
    {
        let options = |more: &[&str]| {
            let secret = ["--certificates-secret=tls", "--manage-webhook=gate"];
            let args = parsed(&[&secret[..], more].concat()).unwrap();
            (args.registered).options("gate-system", &Audited::default())
        };
        let (webhook, secret) = options(&[]).unwrap();
        let (webhook, secret) = (webhook.unwrap(), secret.unwrap());
        let Endpoint::Service { namespace, name } = webhook.endpoint else {
            panic!("{webhook:?}");
        };
        assert_eq!((&*namespace, &*name), ("gate-system", "promotion-gate"));
        assert_eq!(
            Vec::from_iter(webhook.infrastructure),
            ["gate-system", "kube-system"]
        );
        assert_eq!(secret.settings.names, ["promotion-gate.gate-system.svc"]);
        let (webhook, _) = options(&["--serving-name=gate.prod.svc"]).unwrap();
        let Some(Endpoint::Service { namespace, name }) = webhook.map(|it| it.endpoint) else {
            panic!();
        };
        assert_eq!((&*namespace, &*name), ("prod", "gate"));
        assert!(options(&["--serving-name=gate.example"]).is_err());
        assert!(options(&["--ca-overlap=40d"]).is_err());
        let (_, secret) = options(&["--webhook-url=https://[::1]:8443/validate"]).unwrap();
        assert_eq!(secret.unwrap().settings.names, ["::1"]);
    }

    #[test]
    fn a_gate_in_a_pod_asks_no_loopback_registry() {
        let asks = |in_a_pod, address: &str| asks_loopback(in_a_pod, address.parse().unwrap());
        assert!(!asks(true, "0.0.0.0:8443"));
        assert!(!asks(true, "[::]:8443"));
        assert!(!asks(true, "10.0.0.5:8443"));
        assert!(asks(true, "127.0.0.1:8443"));
        assert!(asks(false, "0.0.0.0:8443"));
    }
}
