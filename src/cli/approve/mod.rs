//! `approve`: shows what is approved, asks, signs, attaches and reads back.
//!
//! * `question`: which images, and what the policies say about them, with the same engine as `check`
//! * `shown`: what the person sees before the question
//! * `signer`: who signs, from a key, a token or a browser
//! * `terminal`: what a person is asked
//! * this file: the arguments, and the order of the steps

pub(super) mod question;
pub(super) mod shown;
pub(super) mod signer;
pub(super) mod terminal;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use jiff::Timestamp;
use promotion_gate_core::attest::predicate::{Approval, ApprovalDecision, ChangeTicket};
use promotion_gate_core::attest::{Anchor, Material, Verified, media_type, verify};
use promotion_gate_core::gate::{Age, ImageReference, Repository};
use promotion_gate_sign::{SignedBundle, SignedWord, SigningPlan};

use super::deciding::{Deciding, Recorded, Sources};
use super::render::human::YELLOW;
use crate::oci::{Attachment, Client, ErrorKind, Pushed, READ_BACK, RegistryError};
use crate::text::line;

use question::{Asked, Judged, Question, QuestionScope};
use signer::Signing;
use terminal::Terminal;

/// The exit code of an approval that was not given: the rules deny, or the answer was no.
const NOT_GIVEN: u8 = 2;

/// Approve images for an environment: shows what is approved, signs the approval, and attaches it to the image
///
/// Shows the digest, its source, authors and change, and what the policies say; asks; signs with a key or with your identity;
/// attaches the approval to the image or to an evidence repository; reads it back and verifies it. Refuses while rules other
/// than `approvals` and `noFreeze` deny. An `expression` counts if manifests are given (`-f`), and if it is not about the
/// requester, the time or the kind of the change; otherwise it is only shown.
///
/// With your identity and the public-good instance of Sigstore, your e-mail address becomes public for good. Use a key
/// (`--key`) or a private Sigstore (`--signing-config`) to avoid that.
///
/// Without a namespace (`--namespace`, or `--scope namespace=`), it is not known where images will run, and every policy of the
/// environment is asked.
///
/// Exit codes: 0 every approval is attached (or would be, with `--dry-run`), 1 wrong usage or a failure, 2 nothing was signed,
/// because the rules deny or the answer was no.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  promotion-gate approve ghcr.io/example/app:v1.2.3 --environment production --policy policies/ --change CHG0030192
  promotion-gate approve -f rendered/ --environment production --from-cluster --valid 3d
  promotion-gate approve ghcr.io/example/app@sha256:… --environment production --policy policies/ \\
      --key alice.key --signing-config signing.json --trust-root root.json --repository ghcr.io/example/approvals
  promotion-gate approve ghcr.io/example/app:v1.2.3 --environment production --policy policies/ \\
      --decision rejected --reason 'The migration is not tested'")]
pub(super) struct Args {
    /// The images; a tag is resolved once, and its digest is approved
    #[arg(value_name = "IMAGE", required_unless_present = "files")]
    images: Vec<ImageReference>,
    /// Rendered manifests whose images are approved: files, folders, or `-`; may be given several times
    #[arg(
        short = 'f',
        long = "filename",
        value_name = "PATH|-",
        conflicts_with = "images"
    )]
    files: Vec<String>,
    /// The environment, as policies name it
    #[arg(long, value_name = "NAME")]
    environment: String,
    /// What you decide; a rejection blocks the digest until you approve it later
    #[arg(long, value_enum, default_value_t = Decision::Approved)]
    decision: Decision,
    /// The id of the change (ticket)
    #[arg(long, value_name = "ID")]
    change: Option<String>,
    /// The address of the change (ticket)
    #[arg(long, value_name = "URL")]
    change_url: Option<String>,
    /// Why, for people
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// How long the approval counts, such as `3d`; without an end when absent
    #[arg(long, value_name = "AGE")]
    valid: Option<Age>,
    /// Where the approval counts, such as `cluster=prod-eu1` or `namespace=payments`; may be given several times
    #[arg(long = "scope", value_name = "NAME=VALUE", value_parser = scope)]
    scopes: Vec<(String, String)>,
    #[command(flatten)]
    deciding: Deciding,
    #[command(flatten)]
    recorded: Recorded,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Show what would be signed, and sign nothing
    #[arg(long)]
    dry_run: bool,
    /// Approve although rules deny; the approval records which
    #[arg(long)]
    anyway: bool,
    #[command(flatten)]
    signer: signer::SignerArgs,
    /// Time limit for reading the evidence, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Decision {
    Approved,
    Rejected,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let said = args.said(Timestamp::now())?;
    let deciding = args.deciding.clone();
    let deciding = match said.scopes.get("namespace") {
        Some(namespace) => deciding.or_in(namespace),
        None => deciding,
    };
    let mut sources = deciding.open_without_policies().await?;
    let client = Arc::clone(&sources.client);
    // 1. The images, each by its digest, and what the policies say about them.
    let judged = Judged::read(&args.question(), &mut sources).await?;
    // Without a terminal no sign-in is begun, for which a pipeline would wait.
    let terminal = match args.yes || args.dry_run {
        true => None,
        false => Some(Terminal::open()?),
    };
    // 2. Who signs, and with what consequences. Nothing is signed yet.
    let roots = judged.approval_roots(&args.environment);
    let roots = (judged.trust_roots(), &roots);
    let mut signing = Signing::prepare(&args.signer, &sources.config, roots, args.yes).await?;
    let approver = signing.approver();
    // 3. What is approved, before the question.
    let asked = judged.asked();
    if asked.is_empty() {
        bail!("no image needs an approval for `{}`", args.environment);
    }
    print_line!(
        "{} for `{}`:\n",
        args.decision.doing(),
        line(&args.environment)
    );
    for asked in &asked {
        shown::asked(asked, &client).await?;
    }
    let outlooks = judged.outlooks(&approver, &said);
    shown::outlooks(&outlooks, judged.has_policies(), args.decision);
    shown::plan(
        signing.plan(),
        signing.origin(),
        args.decision.without_time(),
    );
    let denials = judged.denials();
    let said = match args.decision {
        Decision::Rejected => said,
        Decision::Approved if denials.is_empty() => said,
        Decision::Approved if args.anyway => Approval {
            despite: denials.into_iter().take(64).collect(),
            emergency: None,
            ..said
        },
        Decision::Approved => {
            shown::refusal(&denials);
            return Ok(ExitCode::from(NOT_GIVEN));
        }
    };
    let word = SignedWord::Approval(said);
    let statements = asked.iter().map(|asked| {
        let subject = &asked.subject;
        word.statement(&[(subject.repository.name(), &subject.digest)])
    });
    let statements: Vec<_> = statements.collect::<Result<_, _>>()?;
    if args.dry_run {
        for statement in &statements {
            print_line!("{}", line(&String::from_utf8_lossy(statement)));
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(terminal) = &terminal
        && !confirmed(terminal, &args, signing.plan(), asked.len())?
    {
        print_error!("nothing was signed");
        return Ok(ExitCode::from(NOT_GIVEN));
    }
    // 4. Sign, attach, read back. What was shown is what is signed: no tag is resolved again.
    for (asked, statement) in asked.iter().zip(&statements) {
        let subject = &asked.subject;
        let bundle = signing.sign((statement, &subject.digest)).await?;
        note_repeated(&bundle);
        let anchor = signing.anchor()?;
        let attached = attach_for_gate(&sources, asked, &bundle, &anchor, word.noun()).await?;
        print_line!("{} {subject}: {attached}", args.decision.done());
    }
    Ok(ExitCode::SUCCESS)
}

impl Decision {
    fn doing(self) -> &'static str {
        match self {
            Decision::Approved => "Approving",
            Decision::Rejected => "Rejecting",
        }
    }

    fn without_time(self) -> &'static str {
        match self {
            Decision::Approved => "the approval counts nowhere",
            Decision::Rejected => {
                "no later approval lifts the rejection: it blocks the digest for good"
            }
        }
    }

    fn done(self) -> &'static str {
        match self {
            Decision::Approved => "approved",
            Decision::Rejected => "rejected",
        }
    }
}

impl Args {
    fn question(&self) -> Question<'_> {
        Question {
            images: &self.images,
            files: &self.files,
            environment: &self.environment,
            recorded: &self.recorded,
            timeout: Duration::from_secs(self.timeout),
            scope: QuestionScope::Approvals,
        }
    }

    /// What the statement says, without the rules that deny.
    fn said(&self, now: Timestamp) -> anyhow::Result<Approval> {
        if self.decision == Decision::Rejected && self.valid.is_some() {
            bail!(
                "`--valid` belongs to an approval; a rejection holds until you approve the digest later"
            );
        }
        let until = self.valid.map(|age| {
            let now = Timestamp::from_second(now.as_second())?;
            now.checked_add(age.duration())
        });
        let change = ChangeTicket {
            id: self.change.clone(),
            url: self.change_url.clone(),
        };
        let scopes: BTreeMap<_, _> = self.scopes.iter().cloned().collect();
        if scopes.len() < self.scopes.len() {
            bail!("`--scope` names a scope twice");
        }
        Ok(Approval {
            environment: self.environment.clone(),
            decision: match self.decision {
                Decision::Approved => ApprovalDecision::Approved,
                Decision::Rejected => ApprovalDecision::Rejected,
            },
            change: Some(change).filter(|it| it.id.is_some() || it.url.is_some()),
            reason: self.reason.clone(),
            valid_until: until.transpose().context("`--valid` is too long")?,
            scopes,
            despite: Vec::new(),
            emergency: None,
        })
    }
}

pub(super) fn scope(written: &str) -> Result<(String, String), String> {
    match written.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("expected `name=value`, such as `cluster=prod-eu1`".to_owned()),
    }
}

/// Asks the person at the terminal.
fn confirmed(
    terminal: &Terminal,
    args: &Args,
    plan: &SigningPlan,
    count: usize,
) -> anyhow::Result<bool> {
    if !agrees_to_publish(terminal, plan)? {
        return Ok(false);
    }
    let images = super::render::human::plural(count, "image", "images");
    let verb = match args.decision {
        Decision::Approved => "Approve",
        Decision::Rejected => "Reject",
    };
    terminal.answers_yes(&format!(
        "{verb} {images} for `{}`?",
        line(&args.environment)
    ))
}

/// Asks whether an address may be published for good, if signing does that.
pub(super) fn agrees_to_publish(terminal: &Terminal, plan: &SigningPlan) -> anyhow::Result<bool> {
    let address = plan.publications.iter().find(|it| it.is_public);
    let Some(address) = address.and_then(|it| it.email.as_ref()) else {
        return Ok(true);
    };
    terminal.answers_yes(&format!(
        "Publish `{}` for good, for everybody to read?",
        line(address)
    ))
}

/// Says that a log had an entry of the same signature before.
pub(super) fn note_repeated(bundle: &SignedBundle) {
    if let Some(at) = bundle.recorded_before {
        print_line!(
            "{YELLOW}note{YELLOW:#} the log has held this very signature since {at:.0}, which is its time; to sign anew, say something else (`--reason`)"
        );
    }
}

/// Attaches a bundle to an image, in the repository where the gate reads evidence of it. Returns where, as a sentence.
pub(super) async fn attach_for_gate(
    sources: &Sources,
    asked: &Asked<'_>,
    bundle: &SignedBundle,
    anchor: &Anchor,
    noun: &str,
) -> anyhow::Result<String> {
    let own = &asked.subject.repository;
    let repository = sources.evidence_repository(own);
    let repository = repository.as_ref().unwrap_or(own);
    let pushed = attach(&sources.client, repository, asked, bundle, anchor, noun).await?;
    Ok(format!(
        "attached as {} in {repository} ({}), and read back",
        pushed.manifest, pushed.via
    ))
}

/// Attaches a bundle, reads it back and verifies what was read.
async fn attach(
    client: &Client,
    repository: &Repository,
    asked: &Asked<'_>,
    bundle: &SignedBundle,
    anchor: &Anchor,
    noun: &str,
) -> anyhow::Result<Pushed> {
    let attachment = Attachment {
        subject: &asked.descriptor,
        media_type: media_type::BUNDLE,
        content: bundle.json.clone().into(),
        annotations: [
            (
                "org.opencontainers.image.created",
                format!("{:.0}", Timestamp::now()),
            ),
            ("dev.sigstore.bundle.content", "dsse-envelope".to_owned()),
            (
                "dev.sigstore.bundle.predicateType",
                bundle.statement.predicate_type().to_owned(),
            ),
        ]
        .into(),
    };
    let pushed = client.attach(repository, &attachment, READ_BACK).await;
    let pushed = pushed.map_err(|error| not_pushed(&error, repository, asked, noun))?;
    let read = client.read_back(repository, &attachment, &pushed).await;
    let read = read.with_context(|| {
        format!(
            "the {noun} was pushed to `{repository}`, and does not read back; do not rely on it"
        )
    })?;
    let verified = verify(
        &Material::Bundle(read.to_vec()),
        &asked.subject.digest,
        anchor,
    );
    match verified {
        Ok(Verified::Statement(read)) if read.digest() == bundle.statement.digest() => Ok(pushed),
        _ => bail!(
            "the {noun} in `{repository}` does not verify when it is read back; do not rely on it"
        ),
    }
}

fn not_pushed(
    error: &RegistryError,
    to: &Repository,
    asked: &Asked<'_>,
    noun: &str,
) -> anyhow::Error {
    let may_not_push = matches!(
        error.kind(),
        ErrorKind::Unauthorized | ErrorKind::Denied | ErrorKind::NotFound
    );
    let hint = match (may_not_push, *to == asked.subject.repository) {
        (true, true) => format!(
            "; if you have no right to push to `{to}`, attach the {noun} to a repository for evidence: `--repository HOST/PATH`, which the gate reads if its configuration names it as `evidenceRepository`"
        ),
        (true, false) => format!(
            "; check that your account may push to `{to}`, and `credentials` or `dockerConfig` of `--config`"
        ),
        _ => String::new(),
    };
    anyhow::anyhow!("the {noun} is signed, and was not attached: {error}{hint}")
}

/// How long a person may take to sign in.
const SIGN_IN: Duration = Duration::from_secs(300);
