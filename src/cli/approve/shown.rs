//! What a person sees before the question. Everything that others wrote is shown on one line, without control characters.

use std::collections::BTreeSet;

use promotion_gate_core::attest::VerifiedStatement;
use promotion_gate_core::attest::predicate::{ChangeRecord, Predicate, SlsaProvenance};
use promotion_gate_core::gate::{ApprovalOutlook, Enforcement, Outcome};
use promotion_gate_sign::SigningPlan;

use super::Decision;
use super::question::{Asked, PolicyFinding};
use crate::cli::render::human::{GREEN, RED, YELLOW, plural};
use crate::oci::{Client, Registry as _};
use crate::text::line;

/// The most rows of one list.
const ROWS: usize = 20;

pub(in crate::cli) async fn asked(asked: &Asked<'_>, client: &Client) -> anyhow::Result<()> {
    print_line!("{}", asked.subject);
    for written in &asked.written {
        row("written as", written);
    }
    let manifest = client
        .manifest(&asked.subject.repository, &asked.subject.digest)
        .await?;
    if let Some(index) = manifest.index() {
        let platforms = index.manifests.iter().map(ToString::to_string);
        row("platforms", &platforms.collect::<Vec<_>>().join(", "));
    }
    for statement in &asked.statements {
        match statement.predicate() {
            Predicate::Provenance(said) => provenance(said, statement),
            Predicate::Change(said) => change(said, statement),
            _ => {}
        }
    }
    if asked.statements.is_empty() {
        row(
            "source",
            "no provenance and no change record by a signer whom the policies accept",
        );
    }
    for it in &asked.findings {
        finding(it);
    }
    print_line!("");
    Ok(())
}

fn row(name: &str, text: &str) {
    print_line!("  {name:<13} {}", line(text));
}

fn rows(name: &str, texts: impl ExactSizeIterator<Item = String>) {
    let more = texts.len().saturating_sub(ROWS);
    for text in texts.take(ROWS) {
        row(name, &text);
    }
    if more > 0 {
        row(name, &format!("and {more} more"));
    }
}

fn provenance(said: &SlsaProvenance, statement: &VerifiedStatement) {
    let sources = said.sources.iter().map(|it| it.repository.to_string());
    let commits = said.commits.iter().map(|(_, commit)| commit.clone());
    rows("source", sources.collect::<BTreeSet<_>>().into_iter());
    rows("commit", commits.collect::<BTreeSet<_>>().into_iter());
    row(
        "builder",
        &format!("{}, signed by {}", said.builder, statement.signer()),
    );
}

fn change(said: &ChangeRecord, statement: &VerifiedStatement) {
    let from = said.from.as_ref().map(|from| format!("{from}.."));
    row(
        "change",
        &format!(
            "{}{} of {}: {}, {}; signed by {}",
            from.unwrap_or_default(),
            said.to,
            said.repository.uri,
            plural(said.commits.len(), "commit", "commits"),
            plural(said.pull_requests.len(), "pull request", "pull requests"),
            statement.signer()
        ),
    );
    let mut authors: Vec<_> = said
        .authors
        .iter()
        .map(|it| it.identity.to_string())
        .collect();
    authors.sort();
    authors.dedup();
    rows("author", authors.into_iter());
    for why in said.unknown_authors.iter().take(ROWS) {
        row("unknown", why);
    }
    rows(
        "commit",
        said.commits.iter().map(|commit| commit.sha.to_string()),
    );
    let by = |who: &Option<_>, did: &str| {
        let who: &Option<promotion_gate_core::attest::predicate::ChangeIdentity> = who;
        who.as_ref()
            .map_or(String::new(), |who| format!(", {did} by {who}"))
    };
    rows(
        "pull request",
        said.pull_requests.iter().map(|it| {
            let (opened, merged) = (by(&it.opened_by, "opened"), by(&it.merged_by, "merged"));
            format!("#{} {}{opened}{merged}", it.number, it.url)
        }),
    );
    let texts = [
        ("reason", &said.reason),
        ("security", &said.security_impact),
        ("testing", &said.testing),
        ("back-out", &said.back_out_plan),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            row(name, text);
        }
    }
}

fn finding(said: &PolicyFinding<'_>) {
    let PolicyFinding {
        policy,
        enforcement,
        finding,
        is_objective,
    } = said;
    let (style, word) = match finding.outcome {
        Outcome::Pass | Outcome::Waived | Outcome::Skip => (GREEN, finding.outcome.id()),
        Outcome::Undecided => (YELLOW, "undecided"),
        Outcome::Fail if *is_objective => (RED, "fail"),
        Outcome::Fail => (YELLOW, "open"),
    };
    let lax = match enforcement {
        Enforcement::Enforce => "",
        Enforcement::Warn | Enforcement::Audit => " (does not deny)",
    };
    print_line!(
        "  {style}{word:<13}{style:#} {} of policy `{}`{lax}: {}",
        line(finding.rule),
        line(policy),
        line(&finding.detail)
    );
}

/// What the approval would do.
pub(super) fn outlooks(outlooks: &[ApprovalOutlook], has_policies: bool, decision: Decision) {
    if !has_policies {
        print_line!(
            "{YELLOW}not judged{YELLOW:#}: no policy was given (`--policy`, `--from-cluster`), so it is not known what the rules say and whether your word counts\n"
        );
        return;
    }
    for outlook in outlooks {
        let image = format!("{} under policy `{}`", outlook.image, outlook.policy);
        match (&outlook.seat, decision) {
            (Ok(seat), Decision::Approved) => {
                print_line!(
                    "{GREEN}counts{GREEN:#} for {}: {}",
                    line(&image),
                    line(seat)
                );
            }
            (Err(why), Decision::Approved) => {
                print_line!(
                    "{YELLOW}would not count{YELLOW:#} for {}: {}",
                    line(&image),
                    line(why)
                );
            }
            (_, Decision::Rejected) => continue,
        }
        let open = match outlook.open.as_str() {
            "" => "every seat is filled then",
            open => &format!("open then: {open}"),
        };
        print_line!("  {}", line(open));
    }
    if decision == Decision::Rejected {
        print_line!(
            "A rejection by a person who may approve blocks the digest until that person approves it later, with a certificate."
        );
    }
    print_line!("");
}

/// What signing has as its consequence.
/// `without_time` is what follows if nothing proves the time of the signature.
pub(in crate::cli) fn plan(plan: &SigningPlan, origin: &str, without_time: &str) {
    print_line!(
        "Signed by {} with {}",
        line(&plan.signer.to_string()),
        line(origin)
    );
    for kept in &plan.publications {
        let address = kept.email.as_deref().map(|it| format!(" `{}`", line(it)));
        let public = kept.is_public.then(|| {
            let what = address.unwrap_or_default();
            format!("; {RED}everybody can read{RED:#}{what} there, for good")
        });
        print_line!(
            "  {} keeps {}{}",
            line(&kept.service),
            kept.what,
            public.unwrap_or_default()
        );
    }
    if !plan.has_time {
        print_line!(
            "  {YELLOW}warning{YELLOW:#} nothing proves the time of the signature, so {without_time}; name a timestamp authority (`tsaUrls`) in `--signing-config`"
        );
    }
    print_line!("");
}

pub(super) fn refusal(denials: &[String]) {
    print_error!(
        "nothing was signed: rules deny that no approval changes ({}); correct them first (`--policy` or `--from-cluster` say what is judged), or approve with `--anyway`, which the approval records",
        line(&denials.join("; "))
    );
}
