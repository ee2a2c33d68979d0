//! `emergency`: declares an emergency change, agrees to it, shows what is missing, ends it early, and reviews it afterwards.
//!
//! * `about`: which images, and what the policies and people say about them
//! * `declare`, `agree`, `end`: what people sign, and everything that they see before
//! * `status`: what was declared and what is missing; `report` is its form for programs
//! * `incidents`: what trackers say of the incident of a declaration
//! * `list`: what a cluster admitted by emergency changes
//! * `shown`: what a person sees of a declaration
//! * this file: the arguments, and how a statement is signed and attached to every image

mod about;
mod agree;
mod declare;
mod end;
mod incidents;
mod list;
mod report;
mod shown;
mod status;

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use promotion_gate_core::attest::predicate::ReviewVerdict;
use promotion_gate_core::gate::{Age, Approver, Digest, Subject};
use promotion_gate_sign::SignedWord;

use self::about::{About, Case};
use super::approve::signer::{SignerArgs, Signing};
use super::approve::terminal::Terminal;
use super::approve::{self, agrees_to_publish, attach_for_gate, note_repeated, scope};
use super::deciding::{Deciding, Recorded, Sources};
use super::render::Output;
use super::render::human::plural;
use crate::text::line;

/// The exit code when nothing was signed: it would not count, or the answer was no.
const NOT_SIGNED: u8 = 2;

/// Declare an emergency change, agree to it, see what is missing, end it and review it
///
/// An emergency change lets images pass a policy although requirements are not met that the policy itself lists. People who did not
/// write the change agree to one signed declaration of an incident; it ends within hours, and is reviewed afterwards.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Declare(Box<DeclareArgs>),
    Approve(Box<AgreeArgs>),
    Status(Box<StatusArgs>),
    Review(Box<ReviewArgs>),
    Close(Box<CloseArgs>),
    List(Box<ListArgs>),
}

/// Declare that images mend an incident
///
/// Shows the images, what each policy would waive and what it never waives, who has to agree, and what the incident's tracker says;
/// asks; signs one declaration about all images, attaches it to each of them, and reads it back. Prints the command with which the
/// others agree. The declaration of a person is an agreement of that person too.
///
/// Exit codes: 0 the declaration is attached (or would be, with `--dry-run`), 1 wrong usage or a failure, 2 nothing was signed, because
/// it would not count or the answer was no.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  promotion-gate emergency declare ghcr.io/example/app@sha256:… --environment production --from-cluster --namespace payments \\
      --incident INC0010023 --reason 'Reverts the query that locks the orders table'
  promotion-gate emergency declare -f rendered/ --environment production --policy policies/ --incident INC0010023 \\
      --incident-url https://itsm.example.com/INC0010023 --reason 'Reverts the query' --valid 2h --dry-run")]
struct DeclareArgs {
    #[command(flatten)]
    about: About,
    /// The id of the incident, as its tracker names it
    #[arg(long, value_name = "ID")]
    incident: String,
    /// The address of the incident
    #[arg(long, value_name = "URL")]
    incident_url: Option<String>,
    /// Why exactly these images mend the incident
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// How long it counts, such as `2h`; the shortest `maximumValidity` of the policies when absent
    #[arg(long, value_name = "AGE")]
    valid: Option<Age>,
    /// Where it counts, such as `cluster=prod-eu1` or `namespace=payments`; may be given several times
    #[arg(long = "scope", value_name = "NAME=VALUE", value_parser = scope)]
    scopes: Vec<(String, String)>,
    #[command(flatten)]
    signs: SignsArgs,
}

/// Agree to a declared emergency change, or reject it
///
/// Shows the declaration as it was verified, what the incident's tracker says now, and whether your agreement counts, and why not:
/// authors of the change fill no seat, and one person fills one seat, whatever identity signs.
///
/// Exit codes: 0 the agreement is attached (or would be, with `--dry-run`), 1 wrong usage or a failure, 2 nothing was signed, because
/// it would not count or the answer was no.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  promotion-gate emergency approve ghcr.io/example/app@sha256:… --environment production --from-cluster
  promotion-gate emergency approve ghcr.io/example/app@sha256:… --environment production --policy policies/ \\
      --declaration sha256:… --key ben.key --signing-config signing.json
  promotion-gate emergency approve ghcr.io/example/app@sha256:… --environment production --policy policies/ \\
      --decision rejected --reason 'The incident is of another service'")]
struct AgreeArgs {
    #[command(flatten)]
    about: About,
    #[command(flatten)]
    which: WhichArgs,
    /// What you decide; a rejection blocks the emergency change until you agree to it later
    #[arg(long, value_enum, default_value_t = approve::Decision::Approved)]
    decision: approve::Decision,
    /// Why, for people
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    signs: SignsArgs,
}

/// Show the emergency changes of images: who agreed, what is missing, and whether one lets them pass now
///
/// Exit codes: 0 every policy would allow the images now, 1 wrong usage or a failure, 2 something is missing, 3 it could not be decided.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  promotion-gate emergency status ghcr.io/example/app@sha256:… --environment production --from-cluster --namespace payments
  promotion-gate emergency status -f rendered/ --environment production --policy policies/ --watch")]
struct StatusArgs {
    #[command(flatten)]
    about: About,
    /// Go on, and print the state again whenever it changes
    #[arg(long)]
    watch: bool,
    /// How often the registry is asked with `--watch`, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 15, requires = "watch", value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    /// Output format; with `--watch`, JSON is one line for each change
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
}

/// Review an emergency change after it was used
///
/// A review is by a person who neither declared the emergency change, agreed to it, wrote the change nor asked the cluster for it. Name
/// the user who deployed with `--as`, so that a review by the same person is refused here too.
///
/// Exit codes: 0 the review is attached (or would be, with `--dry-run`), 1 wrong usage or a failure, 2 nothing was signed, because it
/// would not count or the answer was no.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  promotion-gate emergency review ghcr.io/example/app@sha256:… --environment production --from-cluster --declaration sha256:… \\
      --verdict justified --reason 'The table was locked, and the revert freed it' --follow-up 'Add a test for the lock'")]
struct ReviewArgs {
    #[command(flatten)]
    about: About,
    #[command(flatten)]
    which: WhichArgs,
    /// The result
    #[arg(long, value_enum)]
    verdict: Verdict,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// What has to be done now, on one line; may be given several times
    #[arg(long = "follow-up", value_name = "TEXT")]
    follow_ups: Vec<String>,
    #[command(flatten)]
    signs: SignsArgs,
}

/// End an emergency change early
///
/// Who declared it, the people whom the policy names for it, and governors may end it. It cannot be opened again: declare another one.
///
/// Exit codes: 0 the closure is attached (or would be, with `--dry-run`), 1 wrong usage or a failure, 2 nothing was signed, because it
/// would not count or the answer was no.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  promotion-gate emergency close ghcr.io/example/app@sha256:… --environment production --from-cluster --reason 'Mended otherwise'")]
struct CloseArgs {
    #[command(flatten)]
    about: About,
    #[command(flatten)]
    which: WhichArgs,
    /// Why, for people
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    signs: SignsArgs,
}

/// List the emergency changes by which a cluster admitted something, and whether they were reviewed
///
/// Reads the release records of the cluster and its records of emergency changes, and looks in the registries for reviews that these do not
/// name yet.
///
/// Exit codes: 0 no review is overdue, 1 wrong usage or a failure, 2 a review is overdue, 3 it could not be decided.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  promotion-gate emergency list --from-cluster
  promotion-gate emergency list --from-cluster --environment production --namespace payments --output json")]
struct ListArgs {
    /// The only environment that is listed
    #[arg(long, value_name = "NAME")]
    environment: Option<String>,
    #[command(flatten)]
    deciding: Deciding,
    #[command(flatten)]
    recorded: Recorded,
    /// Output format
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
    /// Time limit for reading the evidence of one environment, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

// Which declaration is meant.
#[derive(Debug, clap::Args)]
struct WhichArgs {
    /// The digest of the declaration; not needed if there is only one
    #[arg(long, value_name = "DIGEST")]
    declaration: Option<Digest>,
}

// Who signs, and what is asked before.
#[derive(Debug, clap::Args)]
struct SignsArgs {
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Show what would be signed, and sign nothing
    #[arg(long)]
    dry_run: bool,
    /// Sign although it would not count
    #[arg(long)]
    anyway: bool,
    #[command(flatten)]
    signer: SignerArgs,
}

/// The result of a review, as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Verdict {
    Justified,
    Unjustified,
    Inconclusive,
}

impl From<Verdict> for ReviewVerdict {
    fn from(given: Verdict) -> ReviewVerdict {
        match given {
            Verdict::Justified => ReviewVerdict::Justified,
            Verdict::Unjustified => ReviewVerdict::Unjustified,
            Verdict::Inconclusive => ReviewVerdict::Inconclusive,
        }
    }
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Declare(args) => declare::run(*args).await,
        What::Approve(args) => agree::run(*args).await,
        What::Status(args) => status::run(*args).await,
        What::Review(args) => end::review(*args).await,
        What::Close(args) => end::close(*args).await,
        What::List(args) => list::run(*args).await,
    }
}

/// Everything that is there before a person signs.
struct Desk {
    sources: Sources,
    case: Case,
    signing: Signing,
    approver: Approver,
    /// Where the person is asked; `None` if nothing is asked.
    terminal: Option<Terminal>,
}

impl Desk {
    /// Reads what the policies and people say, and who signs. Nothing is signed yet.
    async fn open(
        about: &About,
        scopes: &[(String, String)],
        signs: &SignsArgs,
    ) -> anyhow::Result<Desk> {
        let mut sources = about.open(scopes).await?;
        let case = Case::read(about, &mut sources).await?;
        // Without a terminal no sign-in is begun, for which a pipeline would wait.
        let terminal = match signs.yes || signs.dry_run {
            true => None,
            false => Some(Terminal::open()?),
        };
        let roots = case.trust_roots();
        let known = case.judged.trust_roots();
        let signing =
            Signing::prepare(&signs.signer, &sources.config, (known, &roots), signs.yes).await?;
        Ok(Desk {
            approver: signing.approver(),
            sources,
            case,
            signing,
            terminal,
        })
    }

    /// Shows the images, each with what its registry says of it.
    async fn show_images(&self, images: &BTreeSet<Subject>) -> anyhow::Result<()> {
        for asked in &self.case.images(images) {
            approve::shown::asked(asked, &self.sources.client).await?;
        }
        Ok(())
    }

    /// Shows who signs and what becomes public; `noun` is what counts nowhere without a verified time.
    fn show_plan(&self, noun: &str) {
        let without_time = format!("the {noun} counts nowhere");
        approve::shown::plan(self.signing.plan(), self.signing.origin(), &without_time);
    }

    /// Refuses if the statement would not count; `--anyway` signs it all the same.
    fn refuses(&self, problems: &[String], signs: &SignsArgs) -> bool {
        for problem in problems {
            print_error!("{}", line(problem));
        }
        if problems.is_empty() || signs.anyway {
            return false;
        }
        print_error!("nothing was signed: it would not count; `--anyway` signs it all the same");
        true
    }

    /// Signs one statement about some images, attaches it to each of them, and reads it back. What was shown is what is signed: no tag
    /// is resolved again. Returns the digest of the statement; `None` if nothing was signed.
    async fn sign(
        &mut self,
        word: &SignedWord,
        images: &BTreeSet<Subject>,
        signs: &SignsArgs,
    ) -> anyhow::Result<Option<Digest>> {
        let images = self.case.images(images);
        let subjects = images.iter().map(|asked| &asked.subject);
        let subjects: Vec<_> = subjects
            .map(|subject| (subject.repository.name(), &subject.digest))
            .collect();
        let statement = word.statement(&subjects)?;
        if signs.dry_run {
            print_line!("{}", line(&String::from_utf8_lossy(&statement)));
            return Ok(None);
        }
        if let Some(terminal) = &self.terminal {
            let images = plural(images.len(), "image", "images");
            let question = format!("Sign this {} about {images}?", word.noun());
            let is_agreed = agrees_to_publish(terminal, self.signing.plan())?
                && terminal.answers_yes(&question)?;
            if !is_agreed {
                print_error!("nothing was signed");
                return Ok(None);
            }
        }
        let Some((_, first)) = subjects.first() else {
            return Ok(None);
        };
        let bundle = self.signing.sign((&statement, first)).await?;
        note_repeated(&bundle);
        let anchor = self.signing.anchor()?;
        let noun = word.noun();
        for asked in &images {
            let attached = attach_for_gate(&self.sources, asked, &bundle, &anchor, noun).await?;
            print_line!("{noun} about {}: {attached}", asked.subject);
        }
        Ok(Some(bundle.statement.digest().clone()))
    }
}

/// The exit code after a statement was to be signed.
fn code(signed: Option<&Digest>, signs: &SignsArgs) -> ExitCode {
    match signed.is_some() || signs.dry_run {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(NOT_SIGNED),
    }
}
