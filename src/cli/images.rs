//! `images`: every image reference in manifests, as written.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::bail;
use clap::ValueEnum;
use promotion_gate_core::gate::ImageReference;
use serde_json::json;

use super::world::{Given, Input, NO_OBJECTS};
use crate::admission;
use crate::text::line;

/// List every image reference in manifests, as written, each once per file
///
/// Exit codes: 0 everything was read, 1 some of the input could not be read, is not a Kubernetes object, or names an image that
/// can never be a reference.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  promotion-gate images rendered/
  helm template . | promotion-gate images -
  promotion-gate images --output json deployment.yaml")]
pub(super) struct Args {
    #[command(flatten)]
    given: Given,
    /// Output format
    #[arg(long, value_enum, default_value_t = Output::Lines)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// One reference per line
    Lines,
    /// One JSON object per reference: file, line, kind, name, field, image, normalised
    Json,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let input = Input::read(&args.given.inputs)?;
    let mut unreadable = input.problems().to_vec();
    unreadable.extend(input.unusable());
    if input.objects().is_empty() && unreadable.is_empty() && !args.given.allow_empty {
        bail!("{NO_OBJECTS}");
    }
    input.remarks();
    let mut seen = BTreeSet::new();
    for object in input.objects() {
        let Some(images) = admission::images(object.value) else {
            continue;
        };
        for field in images.fields {
            match args.output {
                Output::Lines if seen.insert((object.file.to_owned(), field.written.clone())) => {
                    print_line!("{}", line(&field.written));
                }
                Output::Lines => {}
                Output::Json => {
                    let normalised = field
                        .written
                        .parse::<ImageReference>()
                        .ok()
                        .map(|image| image.to_string());
                    let described = json!({
                        "file": object.file, "line": object.line,
                        "kind": object.value.get("kind"), "name": object.value.pointer("/metadata/name"),
                        "field": field.path, "image": field.written, "normalised": normalised,
                    });
                    write_output!("{described}\n");
                }
            }
        }
    }
    for problem in &unreadable {
        print_error!("{}", line(&problem.to_string()));
    }
    Ok(if unreadable.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(super::FAILURE)
    })
}
