//! The commands, one file each, and how arguments become a run and an exit code.

#[macro_use]
mod out;

mod approvals;
mod approve;
mod attest;
mod changes;
mod check;
mod cluster;
mod completions;
mod crds;
mod deciding;
mod doctor;
mod emergency;
mod evidence;
mod explain;
mod freeze;
mod images;
mod incident;
mod people;
mod pin;
mod quickstart;
mod record;
mod recover;
mod render;
mod scan;
mod schema;
mod serve;
mod test;
mod verify_bundle;
mod wait;
mod watch;
mod webhook_configuration;
mod world;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

/// The exit code of wrong usage and of a failure of the tool.
const FAILURE: u8 = 1;

const EXAMPLES: &str = "\
Examples:
  promotion-gate quickstart                            run the gate on this machine alone
  promotion-gate check --policy policies/ rendered/    check manifests against policies
  helm template . | promotion-gate check --policy policies/ -
  promotion-gate scan --policy policies/               judge what already runs in a cluster
  promotion-gate doctor                                look for ways past the gate of a cluster
  promotion-gate test policies/                        test policies with cases
  promotion-gate approve ghcr.io/example/app:v1 --environment production --policy policies/
  promotion-gate evidence ghcr.io/example/app:v1       show what is attached to an image
  promotion-gate approvals --policy policies/ --environment production ghcr.io/example/app:v1
  promotion-gate emergency declare ghcr.io/example/app@sha256:… --environment production --policy policies/ \\
      --incident INC1 --reason 'Reverts the query'
  promotion-gate serve --policy policies/ --tls-cert tls.crt --tls-key tls.key";

#[derive(Debug, Parser)]
#[command(name = "promotion-gate", version, about, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Quickstart(quickstart::Args),
    Serve(serve::Args),
    Check(check::Args),
    Scan(scan::Args),
    Doctor(doctor::Args),
    Recover(recover::Args),
    Test(test::Args),
    Evidence(evidence::Args),
    Approve(Box<approve::Args>),
    Approvals(approvals::Args),
    Emergency(emergency::Args),
    Wait(wait::Args),
    Attest(attest::Args),
    Images(images::Args),
    Pin(pin::Args),
    People(people::Args),
    Freeze(freeze::Args),
    Incident(incident::Args),
    Record(record::Args),
    Explain(explain::Args),
    Schema(schema::Args),
    Crds(crds::Args),
    WebhookConfiguration(webhook_configuration::Args),
    Completions(completions::Args),
    VerifyBundle(verify_bundle::Args),
}

/// Runs the command that the arguments name.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let failed = error.use_stderr();
            return match (error.print(), failed) {
                (Ok(()), false) => ExitCode::SUCCESS,
                _ => ExitCode::from(FAILURE),
            };
        }
    };
    match arguments.command.run() {
        Ok(code) => code,
        Err(error) => {
            print_error!("{error:#}");
            ExitCode::from(FAILURE)
        }
    }
}

impl Command {
    fn run(self) -> anyhow::Result<ExitCode> {
        // This fails only if a provider is installed already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        match self {
            Command::Quickstart(args) => block_on(quickstart::run(args)),
            Command::Serve(args) => block_on(serve::run(args)),
            Command::Check(args) => block_on(check::run(args)),
            Command::Scan(args) => block_on(scan::run(args)),
            Command::Doctor(args) => block_on(doctor::run(args)),
            Command::Recover(args) => recover::run(args),
            Command::Test(args) => block_on(test::run(args)),
            Command::Evidence(args) => block_on(evidence::run(args)),
            Command::Approve(args) => block_on(approve::run(*args)),
            Command::Approvals(args) => block_on(approvals::run(args)),
            Command::Emergency(args) => block_on(emergency::run(args)),
            Command::Wait(args) => block_on(wait::run(args)),
            Command::Attest(args) => block_on(attest::run(args)),
            Command::Images(args) => images::run(args),
            Command::Pin(args) => block_on(pin::run(args)),
            Command::People(args) => block_on(people::run(args)),
            Command::Freeze(args) => block_on(freeze::run(args)),
            Command::Incident(args) => block_on(incident::run(args)),
            Command::Record(args) => block_on(record::run(args)),
            Command::Explain(args) => explain::run(args),
            Command::Schema(args) => schema::run(args),
            Command::Crds(args) => crds::run(args),
            Command::WebhookConfiguration(args) => webhook_configuration::run(args),
            Command::Completions(args) => completions::run(args),
            Command::VerifyBundle(args) => verify_bundle::run(args),
        }
    }
}

fn block_on(run: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the asynchronous runtime does not start")?
        .block_on(run)
}

/// The arguments of one command, as a command line gives them.
#[cfg(test)]
fn parsed<A: clap::Args>(line: &[&str]) -> Result<A, clap::Error> {
    let command = A::augment_args(clap::Command::new("promotion-gate"));
    let line = ["promotion-gate"].iter().chain(line);
    A::from_arg_matches(&command.try_get_matches_from(line)?)
}
