//! `completions`: prints completions of our commands for a shell.

use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  promotion-gate completions bash > /etc/bash_completion.d/promotion-gate
  promotion-gate completions zsh > \"${fpath[1]}/_promotion-gate\"")]
pub(super) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    let mut command = super::Arguments::command();
    clap_complete::generate(args.shell, &mut command, "promotion-gate", &mut text);
    write_output!("{}", String::from_utf8(text)?);
    Ok(ExitCode::SUCCESS)
}
