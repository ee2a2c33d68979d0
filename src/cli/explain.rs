//! `explain`: the manual page of a rule, or of a reason that a denial gave.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::bail;
use clap::ValueEnum;
use promotion_gate_core::attest::unaccepted::UNACCEPTED;
use promotion_gate_core::documents::nearest;
use promotion_gate_core::gate::{Requirement, emergency_manual, engine_reasons};
use promotion_gate_core::reason::Reason;

/// Explain a rule of policies, or a reason that a denial gives
///
/// A denial names each reason as `rule [reason]`: `explain reason` prints what it means and what to do. Without a name, all
/// rules and reasons are listed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  promotion-gate explain                       every rule, and every reason
  promotion-gate explain provenance            the manual page of a rule
  promotion-gate explain signer-not-accepted   what a reason means, and what to do
  promotion-gate explain signature/unsigned    the same, as reports write it")]
pub(super) struct Args {
    /// A rule, such as `signature`, or a reason, such as `unsigned`
    #[arg(value_name = "RULE|REASON")]
    name: Option<String>,
    /// Output format
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Text for people
    Human,
    /// A Markdown page of all rules and reasons; a given name is ignored
    Markdown,
}

/// A rule, or another source of reasons: its page and its reasons.
struct Chapter {
    name: &'static str,
    page: String,
    reasons: Vec<Reason>,
}

/// What a reason means, and what to do.
pub(super) fn meaning(id: &str) -> Option<(&'static str, &'static str)> {
    let all = manual().into_iter().flat_map(|chapter| chapter.reasons);
    let mut of_id = all.filter(|reason| reason.id == id);
    of_id.next().map(|reason| (reason.means, reason.remedy))
}

/// The rules, then the reasons of the engine itself, then the reasons why evidence is not accepted.
fn manual() -> Vec<Chapter> {
    let mut chapters: Vec<_> = Requirement::manual()
        .into_iter()
        .map(|manual| Chapter {
            name: manual.rule,
            page: manual.page,
            reasons: manual.reasons,
        })
        .collect();
    let emergencies = emergency_manual();
    chapters.push(Chapter {
        name: emergencies.rule,
        page: emergencies.page,
        reasons: emergencies.reasons,
    });
    chapters.push(Chapter {
        name: "object, coverage, governance",
        page: "Reasons that do not depend on the requirements of a policy.".to_owned(),
        reasons: engine_reasons(),
    });
    chapters.push(Chapter {
        name: "evidence",
        page: "Reasons why something that is attached to an image is not accepted. The details of denials and `promotion-gate evidence` name them."
            .to_owned(),
        reasons: UNACCEPTED.to_vec(),
    });
    chapters
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let text = match (args.output, &args.name) {
        (Output::Markdown, _) => markdown(),
        (Output::Human, None) => overview(),
        (Output::Human, Some(name)) => page(name)?,
    };
    write_output!("{text}");
    Ok(ExitCode::SUCCESS)
}

fn overview() -> String {
    let mut text = String::new();
    for chapter in manual() {
        let _ = writeln!(
            text,
            "{}\n  {}\n",
            chapter.name,
            first_sentence(&chapter.page)
        );
        for reason in chapter.reasons {
            let _ = writeln!(text, "  {:34}{}", reason.id, reason.means);
        }
        text.push('\n');
    }
    text
}

fn page(name: &str) -> anyhow::Result<String> {
    let chapters = manual();
    if let Some(chapter) = chapters.iter().find(|chapter| chapter.name == name) {
        let mut text = format!("{}\n\n{}\n\nReasons\n", chapter.name, plain(&chapter.page));
        for reason in &chapter.reasons {
            let _ = writeln!(text, "  {:34}{}", reason.id, reason.means);
        }
        return Ok(text);
    }
    let id = name.rsplit('/').next().unwrap_or(name);
    let found = |chapter: &Chapter| {
        chapter
            .reasons
            .iter()
            .find(|reason| reason.id == id)
            .copied()
    };
    let given: Vec<_> = chapters
        .iter()
        .filter_map(|chapter| Some((chapter.name, found(chapter)?)))
        .collect();
    let Some((_, reason)) = given.first() else {
        let rules = chapters.iter().map(|chapter| chapter.name);
        let reasons = chapters.iter().flat_map(|chapter| &chapter.reasons);
        let known = rules.chain(reasons.map(|reason| reason.id));
        match nearest(id, known) {
            Some(near) => bail!("`{name}` is neither a rule nor a reason; did you mean `{near}`?"),
            None => bail!(
                "`{name}` is neither a rule nor a reason; `promotion-gate explain` lists them"
            ),
        }
    };
    let by: Vec<_> = given.iter().map(|(rule, _)| *rule).collect();
    let mut text = format!("{}\n\n{}\n", reason.id, reason.means);
    if !reason.remedy.is_empty() {
        let _ = write!(text, "\nWhat to do\n{}\n", reason.remedy);
    }
    let _ = writeln!(text, "\nGiven by {}", by.join(", "));
    Ok(text)
}

/// The page without Markdown emphasis.
fn plain(markdown: &str) -> String {
    markdown
        .replace("**", "")
        .replace("*as a signature*", "as a signature")
}

fn first_sentence(page: &str) -> String {
    let text = plain(page.split("\n\n").next().unwrap_or_default());
    let text = text.strip_prefix("What it requires: ").unwrap_or(&text);
    let end = text.find(". ").map_or(text.len(), |at| at + 1);
    text.get(..end).unwrap_or(text).replace('\n', " ")
}

/// The text of `docs/rules.md`.
fn markdown() -> String {
    let mut text = "# Rules and reasons\n\n\
        Generated from the documentation of the rules: `promotion-gate explain --output markdown > docs/rules.md`.\n\
        A denial names each finding as `rule [reason]`.\n"
        .to_owned();
    for chapter in manual() {
        let _ = write!(text, "\n## {}\n\n{}\n\n", chapter.name, chapter.page);
        text.push_str("| Reason | What it means | What to do |\n|---|---|---|\n");
        for Reason { id, means, remedy } in chapter.reasons {
            let _ = writeln!(text, "| `{id}` | {means} | {remedy} |");
        }
    }
    text
}
