//! `attest`: writes what a pipeline signs about an image (`change`), and signs what a gate knows of it (`vsa`).

mod before;
mod vsa;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::{Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use promotion_gate_core::attest::predicate::{
    ChangeAuthor, ChangeIdentity, ChangeRecord, ChangeRole, ChangedCommit, ChangedRepository,
    CommitId, EmailAddress, GithubAccount, GitlabAccount,
};
use promotion_gate_core::gate::ImageReference;

use crate::config::Config;
use crate::connect::{self, ChangeQuestion, ConnectedPlatform};
use crate::files::read_file;
use crate::text::line;

/// The largest token, in bytes.
const MAXIMUM_TOKEN: u64 = 16 << 10;

/// Write what a pipeline signs about an image, or sign what the gate of this cluster knows of it
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Change(Box<ChangeArgs>),
    Vsa(Box<vsa::VsaArgs>),
}

/// Write who wrote, pushed and merged the commits of a release
///
/// Reads the range of commits, its pull requests and their pushers from the API of GitHub or GitLab, and writes the predicate
/// `https://promotion-gate.dev/change/v1`. Sign it with the command that is printed. The record is incomplete where the platform
/// does not name an author, and says why. Run this in a pipeline that the authors of the change cannot edit.
///
/// Exit codes: 0 the record is written and complete, 1 wrong usage or the change cannot be read, 3 the record is written and
/// incomplete.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  promotion-gate attest change ghcr.io/example/app@sha256:… --repository github.com/example/app \\
      --from v1.2.0 --to 8f0c… --token-file token --reason 'Adds invoices' --output change.json
  promotion-gate attest change registry.example.com/app@sha256:… --repository gitlab.example.com/team/app \\
      --from 51ab… --to 8f0c… --token-file token --output change.json
  promotion-gate attest change registry.example.com/app@sha256:… --repository git.example.com/app --platform none \\
      --to 8f0c… --author email:alice@example.com --output change.json")]
struct ChangeArgs {
    /// The image, with its digest
    image: ImageReference,
    /// The source repository, HOST/OWNER/NAME
    #[arg(long, value_name = "HOST/PATH")]
    repository: String,
    /// The platform; known for github.com, gitlab.com and hosts that begin with `gitlab.`
    #[arg(long, value_enum)]
    platform: Option<PlatformArg>,
    /// The commit of the release before, or its tag
    #[arg(long, value_name = "COMMIT|TAG")]
    from: Option<String>,
    /// The commit that was built
    #[arg(long, value_name = "COMMIT")]
    to: CommitId,
    /// The branch that the commits are on; the default branch when absent
    #[arg(long, value_name = "NAME")]
    branch: Option<String>,
    /// A file with a token that may read the repository; sent to `api.github.com` or the host of `--repository` alone
    ///
    /// For github.com, the token is sent to `api.github.com`; for every other host, to the host of `--repository`. A redirect to
    /// another host is refused. It is sent over TLS, except to a host on loopback, or with `plainHttp` in the configuration.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Another author, added by hand: `github:LOGIN`, `gitlab:HOST/LOGIN` or `email:ADDRESS`
    #[arg(long, value_name = "IDENTITY", value_parser = author)]
    author: Vec<ChangeIdentity>,
    /// Why the change is made
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// What the change means for security
    #[arg(long, value_name = "TEXT")]
    security_impact: Option<String>,
    /// How the change was tested
    #[arg(long, value_name = "TEXT")]
    testing: Option<String>,
    /// How the change is taken back
    #[arg(long, value_name = "TEXT")]
    back_out_plan: Option<String>,
    /// The file that the predicate is written to
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// The configuration: certificate authorities of the platform's host (`registries`)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Time limit for everything, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=7200))]
    timeout: u64,
    /// Time that rate limits are waited for, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(0..=7200))]
    wait: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PlatformArg {
    Github,
    Gitlab,
    /// No platform is asked; the record names the authors that are added by hand and is incomplete
    None,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let args = match args.what {
        What::Change(args) => args,
        What::Vsa(args) => return vsa::run(*args).await,
    };
    if args.image.digest().is_none() {
        bail!(
            "`{}` has no digest, and a tag can move before the record is signed; name the image as `name@sha256:…`",
            args.image.as_written()
        );
    }
    let (host, path) = args.repository.split_once('/').with_context(|| {
        let written = &args.repository;
        format!("`--repository {written}`: expected HOST/PATH, such as `github.com/example/app`")
    })?;
    let host = host.to_ascii_lowercase();
    let mut record = match args.platform.or_else(|| known(&host)) {
        Some(PlatformArg::Github) => args.ask(ConnectedPlatform::Github, &host, path).await?,
        Some(PlatformArg::Gitlab) => args.ask(ConnectedPlatform::Gitlab, &host, path).await?,
        Some(PlatformArg::None) => args.by_hand(&host, path)?,
        None => bail!(
            "the platform of `{host}` is not known; name it with `--platform github|gitlab|none`"
        ),
    };
    record
        .authors
        .extend(args.author.iter().map(|identity| ChangeAuthor {
            identity: identity.clone(),
            role: ChangeRole::Added,
            pull_request: None,
        }));
    record.authors.sort();
    record.authors.dedup();
    record.reason = args.reason.clone();
    record.security_impact = args.security_impact.clone();
    record.testing = args.testing.clone();
    record.back_out_plan = args.back_out_plan.clone();
    let json = serde_json::to_string_pretty(&record)? + "\n";
    // What is written is what the gate can read.
    ChangeRecord::read(&json)
        .map_err(|why| anyhow!("the record cannot be written: {}", why.detail))?;
    let output = args.output.display().to_string();
    std::fs::write(&args.output, json).with_context(|| format!("`{output}` cannot be written"))?;
    print_error!(
        "{} commits, {} pull requests; sign the record with:",
        record.commits.len(),
        record.pull_requests.len()
    );
    print_error!(
        "  cosign attest --yes --type {} --predicate {output} {}",
        ChangeRecord::TYPE,
        args.image.as_written()
    );
    if record.complete {
        return Ok(ExitCode::SUCCESS);
    }
    print_error!(
        "the record is incomplete, so a policy that needs the authors will not accept it:"
    );
    for why in &record.unknown_authors {
        print_error!("  {}", line(why));
    }
    Ok(ExitCode::from(3))
}

impl ChangeArgs {
    async fn ask(
        &self,
        platform: ConnectedPlatform,
        host: &str,
        path: &str,
    ) -> anyhow::Result<ChangeRecord> {
        let from = self
            .from
            .clone()
            .context("`--from` is missing: name the commit or the tag of the release before")?;
        let token = self.token_file.as_ref().map(|file| {
            let shown = file.display();
            let bytes = read_file(file, MAXIMUM_TOKEN);
            let bytes = bytes.with_context(|| format!("`{shown}` cannot be read"))?;
            let token =
                String::from_utf8(bytes).with_context(|| format!("`{shown}` is not UTF-8 text"))?;
            match token.trim() {
                "" => bail!("`{shown}` is empty"),
                token => Ok(token.to_owned()),
            }
        });
        let question = ChangeQuestion {
            platform,
            host: host.to_owned(),
            path: path.to_owned(),
            from,
            to: self.to.clone(),
            branch: self.branch.clone(),
            token: token.transpose()?,
            patience: Duration::from_secs(self.wait),
        };
        let options = Config::load(self.config.as_deref())?.client_options();
        let bar = ProgressBar::no_length();
        bar.set_style(ProgressStyle::with_template("{msg}")?);
        let reading = connect::change(&question, &options, |message| {
            bar.set_message(line(message));
            bar.tick();
        });
        let read = tokio::time::timeout(Duration::from_secs(self.timeout), reading).await;
        bar.finish_and_clear();
        let seconds = self.timeout;
        Ok(read.with_context(|| {
            format!("the change was not read within {seconds} seconds; raise `--timeout`, or choose a later `--from`")
        })??)
    }

    fn by_hand(&self, host: &str, path: &str) -> anyhow::Result<ChangeRecord> {
        let from = self.from.as_ref().map(|from| {
            from.parse::<CommitId>()
                .map_err(|why| anyhow!("`--from {from}`: {why}"))
        });
        Ok(ChangeRecord {
            repository: ChangedRepository {
                uri: format!("https://{host}/{path}"),
                id: None,
            },
            from: from.transpose()?,
            to: self.to.clone(),
            complete: false,
            unknown_authors: vec!["no platform was asked who the authors are".to_owned()],
            commits: vec![ChangedCommit {
                sha: self.to.clone(),
                authors: Vec::new(),
            }],
            authors: Vec::new(),
            reviewers: Vec::new(),
            pull_requests: Vec::new(),
            reason: None,
            security_impact: None,
            testing: None,
            back_out_plan: None,
        })
    }
}

fn known(host: &str) -> Option<PlatformArg> {
    match host {
        "github.com" => Some(PlatformArg::Github),
        "gitlab.com" => Some(PlatformArg::Gitlab),
        _ if host.starts_with("gitlab.") => Some(PlatformArg::Gitlab),
        _ => None,
    }
}

fn author(written: &str) -> Result<ChangeIdentity, String> {
    match written.split_once(':') {
        Some(("github", login)) if !login.is_empty() => {
            let (host, login) = match login.split_once('/') {
                Some((host, login)) => (Some(host.to_owned()), login),
                None => (None, login),
            };
            Ok(ChangeIdentity::Github(GithubAccount {
                host: host.filter(|host| host != "github.com"),
                login: login.to_owned(),
                id: None,
            }))
        }
        Some(("gitlab", account)) if let Some((host, login)) = account.split_once('/') => {
            Ok(ChangeIdentity::Gitlab(GitlabAccount {
                host: host.to_owned(),
                login: login.to_owned(),
                id: None,
            }))
        }
        Some(("email", address)) if address.contains('@') => {
            Ok(ChangeIdentity::Email(EmailAddress {
                address: address.to_owned(),
            }))
        }
        _ => Err("expected `github:LOGIN`, `gitlab:HOST/LOGIN` or `email:ADDRESS`".to_owned()),
    }
}
