//! `test`: tests policies with cases. The sandbox signs the evidence that a case describes; it is verified in full, and the
//! webhook's own review judges it.
//!
//! * `format` — a test as written; `load`, `resolve`, `asked`, `evidence` → suites, or all problems of the tests
//! * `signers` — the signers of a test, and what verifies them; `provenance`, `scans`, `statements`, `people` — short
//!   forms → predicates
//! * `emergencies` — emergency changes and incidents → statements, and what incident checks answer
//! * `case` — one case: registry, review, comparison
//! * `report`, `junit` — the results; `watch` — runs the tests again after a change

mod asked;
mod case;
mod emergencies;
mod evidence;
mod format;
mod freezes;
mod junit;
mod kept;
mod load;
mod people;
mod provenance;
mod report;
mod resolve;
mod scans;
mod signers;
mod statements;
mod watch;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, anyhow, bail};
use clap::ValueEnum;
use futures::StreamExt as _;
use jiff::Timestamp;

use super::render::human;
use super::world;
use load::Suite;
use report::{SuiteReport, TestReport};

/// Cases that run concurrently.
const SIDE_BY_SIDE: usize = 4;

/// Test policies with cases
///
/// A test names policies and cases. A case says what is requested, which evidence the images carry, and which decision is
/// expected. Evidence that is described (`signature: {by: release}`) is signed in a sandbox and verified in full, by the same
/// code as in the cluster; recorded evidence (image layouts, bundle files) is verified under the real trust roots. No network
/// is used.
///
/// Exit codes: 0 every case is as expected, 1 wrong usage or a test that cannot be read, 2 a case is not as expected.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A test:
  apiVersion: promotion-gate.dev/v1alpha1
  kind: PolicyTest
  metadata: {name: signed}
  spec:
    policies: [signed.yaml]          # files or folders, relative to this file
    namespace: payments              # of all cases; a case may name another
    signers:
      release: {identity: release@example.com, issuer: https://accounts.google.com}
    cases:
    - name: an image that the release manager signed is let in
      image: ghcr.io/example/app@sha256:0000000000000000000000000000000000000000000000000000000000000001
      evidence:
      - signature: {by: release}
      expect: {decision: allow}
    - name: an unsigned image is not
      image: ghcr.io/example/app@sha256:0000000000000000000000000000000000000000000000000000000000000001
      expect: {decision: deny, reasons: [signature/unsigned]}

All fields: docs/testing-policies.md

Examples:
  promotion-gate test policies/
  promotion-gate test --watch policies/tests/release-workflow.yaml
  promotion-gate test --output junit --output-file report.xml policies/")]
pub(super) struct Args {
    /// Test files, or folders that are searched for tests
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The configuration of tests that do not name one: trust roots, namespaces
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
    /// Write the report to this file, and print the result for people
    #[arg(long, value_name = "FILE")]
    output_file: Option<PathBuf>,
    /// Run again whenever a file changes, until Ctrl-C
    #[arg(long)]
    watch: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Text for people
    Human,
    /// JSON for programs, with a versioned schema
    Json,
    /// JUnit XML for CI systems
    Junit,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.output_file.is_some() && args.output == Output::Human {
        bail!(
            "`--output-file` needs a report for programs: add `--output junit` or `--output json`"
        );
    }
    if args.watch {
        return watch::run(&args).await;
    }
    let (suites, _) = read(&args);
    report(&args, suites).await
}

/// The tests, and every file that they depend on.
fn read(args: &Args) -> (anyhow::Result<Vec<Suite>>, BTreeSet<PathBuf>) {
    let loaded = load::load(&args.paths, args.config.as_deref(), Timestamp::now());
    for warning in &loaded.warnings {
        print_error!("warning: {warning}");
    }
    if !loaded.skipped.is_empty() {
        print_error!("note: {}", loaded.skipped);
    }
    let suites = match loaded.problems.as_slice() {
        [] => Ok(loaded.suites),
        problems => {
            let lines = world::lines(problems);
            Err(anyhow!("the tests cannot be used:\n{lines}"))
        }
    };
    (suites, loaded.read)
}

/// Runs every case once, and writes the report.
async fn report(args: &Args, suites: anyhow::Result<Vec<Suite>>) -> anyhow::Result<ExitCode> {
    let suites = suites?;
    let count = suites.iter().map(|suite| suite.cases.len()).sum();
    let progress = human::progress(count, "cases run");
    let mut reports = Vec::new();
    for suite in &suites {
        let started = Instant::now();
        let cases = futures::stream::iter(&suite.cases).map(|case| async {
            let report = case::run(suite, case).await;
            progress.inc(1);
            report.with_context(|| format!("{}:{}: `{}`", suite.file, case.line, case.name))
        });
        let cases: Vec<_> = cases.buffered(SIDE_BY_SIDE).collect().await;
        reports.push(SuiteReport {
            file: suite.file.clone(),
            name: suite.name.clone(),
            cases: cases.into_iter().collect::<Result<_, _>>()?,
            seconds: started.elapsed().as_secs_f64(),
        });
    }
    progress.finish_and_clear();
    let report = TestReport::of(reports);
    let text = match args.output {
        Output::Human => None,
        Output::Json => {
            let json = serde_json::to_string_pretty(&report)
                .context("the report cannot be written as JSON")?;
            Some(json + "\n")
        }
        Output::Junit => Some(junit::render(&report)),
    };
    match (text, &args.output_file) {
        (Some(text), Some(file)) => {
            std::fs::write(file, text)
                .with_context(|| format!("`{}` cannot be written", file.display()))?;
            report.print();
        }
        (Some(text), None) => write_output!("{text}"),
        (None, _) => report.print(),
    }
    Ok(match report.failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(2),
    })
}
