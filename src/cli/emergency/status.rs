//! `emergency status`: what was declared, who agreed, what is missing, and whether it passes now.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;

use super::about::{About, Case, Outlook};
use super::report::EmergencyStatus;
use super::{StatusArgs, shown};
use crate::cli::deciding::Sources;
use crate::cli::render::Output;
use crate::cli::render::human::{GREEN, RED, YELLOW};
use crate::cli::watch::watch;
use crate::text::line;

/// What one look shows.
struct Look {
    report: EmergencyStatus,
    outlooks: Vec<Outlook>,
}

impl PartialEq for Look {
    fn eq(&self, other: &Look) -> bool {
        self.report == other.report
    }
}

pub(super) async fn run(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let mut sources = args.about.open(&[]).await?;
    let (about, output) = (&args.about, args.output);
    let first = look(about, &mut sources).await?;
    let print = |look: &Look| print(look, output, args.watch);
    print(&first.0)?;
    if !args.watch {
        return Ok(first.1);
    }
    let again = async || look(about, &mut sources).await;
    watch(Duration::from_secs(args.interval), first, again, print).await
}

async fn look(about: &About, sources: &mut Sources) -> anyhow::Result<(Look, ExitCode)> {
    let case = Case::read(about, sources).await?;
    let outlooks = case.outlooks(None);
    let report = EmergencyStatus::of(&case, &about.environment, &outlooks);
    let code = match report.decision {
        "allow" => ExitCode::SUCCESS,
        "undecided" => ExitCode::from(3),
        _ => ExitCode::from(2),
    };
    Ok((Look { report, outlooks }, code))
}

fn print(look: &Look, output: Output, is_one_of_many: bool) -> anyhow::Result<()> {
    let report = &look.report;
    if output == Output::Json {
        let text = match is_one_of_many {
            true => serde_json::to_string(report),
            false => serde_json::to_string_pretty(report),
        };
        let text = text.context("the report cannot be written as JSON")?;
        write_output!("{text}\n");
        return Ok(());
    }
    if is_one_of_many {
        print_line!("{:.0}", Timestamp::now());
    }
    let word = match report.decision {
        "allow" => format!("{GREEN}allowed{GREEN:#} now"),
        "undecided" => format!("{YELLOW}undecided{YELLOW:#}"),
        _ => format!("{RED}denied{RED:#} now"),
    };
    print_line!("{word}, for `{}`:", line(report.environment()));
    for image in report.images() {
        print_line!("  {}", line(image));
    }
    for why in report.denied_for_good() {
        print_line!("{RED}never{RED:#} {}", line(why));
    }
    print_line!("");
    for it in &look.outlooks {
        shown::outlook(it);
        if it.outlook.declarations.is_empty() {
            print_line!("  no emergency change is declared for these images\n");
        }
        for declared in &it.outlook.declarations {
            let word = match (&declared.result, &declared.ended) {
                (Ok(_), _) => format!("{GREEN}counts{GREEN:#}"),
                (Err(_), Some(_)) => format!("{RED}ended{RED:#}"),
                (Err(_), None) => format!("{YELLOW}does not count{YELLOW:#}"),
            };
            print_line!("{word} {}", declared.declaration);
            shown::said(&declared.said);
            for statement in &declared.statements {
                shown::statement(statement);
            }
            match &declared.result {
                Ok(used) => print_line!("  incident      {}", used.incident_state.id()),
                Err((id, why)) => print_line!("  {} [{id}]", line(why)),
            }
            if let (None, Some(open)) = (&declared.ended, shown::open_seats(&declared.open)) {
                print_line!("  still to agree: {}", line(&open));
            }
            print_line!("");
        }
    }
    Ok(())
}
