//! `serve`: the admission webhook.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::world;
use crate::cluster::Cluster;
use crate::config::{Config, in_a_pod};
use crate::decision_log::{LogFormat, start_logging};
use crate::serve::{Clients, Options, POLL, serve};
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
  promotion-gate serve --kubeconfig gate.kubeconfig --tls-cert tls.crt --tls-key tls.key")]
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
    #[arg(long, value_name = "FILE")]
    tls_cert: PathBuf,
    /// The private key of that certificate (PEM)
    #[arg(long, value_name = "FILE")]
    tls_key: PathBuf,
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
    let collector = world::collector(&config)?;
    let files = SnapshotFiles {
        policies: args.policies,
        config,
    };
    let options = Options {
        address: args.address,
        probe_address: args.probe_address,
        certificate: args.tls_cert,
        key: args.tls_key,
        clients: args.client_ca.map(|authorities| Clients {
            authorities,
            names: args.client_names,
        }),
        cluster,
        audit_only: args.audit_only,
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
    use super::asks_loopback;

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
