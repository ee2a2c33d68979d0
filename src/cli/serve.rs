//! `serve`: the admission webhook.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;

use super::world;
use crate::config::{Config, in_a_pod};
use crate::decision_log::{LogFormat, start_logging};
use crate::serve::{Clients, Options, POLL, serve};
use crate::snapshot::SnapshotFiles;

/// Serve the admission webhook.
///
/// Policies, the configuration with every file that it names, and the certificate are taken over when their files change; a
/// broken edit leaves the last good one in force, and the log, `/readyz` and a metric say so.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  promotion-gate serve --policy policies/ --tls-cert tls.crt --tls-key tls.key
  promotion-gate serve --policy policies/ --tls-cert tls.crt --tls-key tls.key --audit-only --log-format text")]
pub(super) struct Args {
    /// Policies: files or folders; may be given several times
    #[arg(long = "policy", value_name = "PATH", required = true)]
    policies: Vec<PathBuf>,
    /// The configuration: trust roots, registries, credentials, namespaces
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The certificate chain (PEM)
    #[arg(long, value_name = "FILE")]
    tls_cert: PathBuf,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE")]
    tls_key: PathBuf,
    /// The authorities of client certificates (PEM): the API server has to present one, others are refused in the handshake
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,
    /// A name that the client's certificate has to carry, as common name or alternative name; may be given several times
    #[arg(long = "client-name", value_name = "NAME", requires = "client_ca")]
    client_names: Vec<String>,
    /// Where requests come in
    #[arg(long, default_value = "0.0.0.0:8443")]
    address: SocketAddr,
    /// Where /livez, /readyz and /metrics are
    #[arg(long, default_value = "0.0.0.0:8080")]
    probe_address: SocketAddr,
    /// Admit everything, and record what would have been said
    #[arg(long)]
    audit_only: bool,
    /// How log lines are written, on standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Json)]
    log_format: LogFormat,
    /// Open connections at most; at the limit the one that has been idle longest is closed. A quarter is for those on which no
    /// AdmissionReview came so far
    #[arg(long, default_value_t = 1000)]
    connections: usize,
    /// How long new requests are still answered after SIGTERM, in seconds, while `/readyz` says no: not everybody knows at once
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    shutdown_delay: u64,
    /// How long requests that are under way may go on after that, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 25)]
    drain: u64,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    start_logging(args.log_format);
    let mut config = Config::load(args.config.as_deref())?;
    config.loopback = asks_loopback(in_a_pod(), args.address);
    for warning in &config.warnings {
        tracing::warn!(warning, "the configuration");
    }
    raise_open_files(args.connections, &config);
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

/// Whether images may name registries on loopback. In a cluster deployers choose the images, and loopback is what else runs in
/// the gate's Pod; a webhook that listens on loopback alone serves nobody but this machine.
fn asks_loopback(in_a_pod: bool, address: SocketAddr) -> bool {
    !in_a_pod || address.ip().is_loopback()
}

/// Lets the process open as many files as it may. What fails leaves it at what it was given, and is said.
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

/// Ends with SIGTERM, and `shutdown_delay`; or with Ctrl-C, after which nobody waits.
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
