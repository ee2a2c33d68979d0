//! `crds`: prints the custom resource definitions, to apply to a cluster.

use std::process::ExitCode;

use serde_json::Value;

use crate::api::definitions;

/// Print the custom resource definitions, to apply to a cluster
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  promotion-gate crds | kubectl apply --server-side -f -")]
pub(super) struct Args {}

pub(super) fn run(_: Args) -> anyhow::Result<ExitCode> {
    write_output!("{}", yaml()?);
    Ok(ExitCode::SUCCESS)
}

/// Every custom resource definition as a YAML document.
fn yaml() -> anyhow::Result<String> {
    let mut text = String::new();
    for definition in definitions()? {
        text.push_str("---\n");
        write_entries(&definition, 0, &mut text);
    }
    Ok(text)
}

/// Writes the entries of an object or list, one a line, keys sorted. Every value is written correctly; the layout suits what
/// the definitions contain.
fn write_entries(value: &Value, indent: usize, out: &mut String) {
    let margin = " ".repeat(indent);
    match value {
        Value::Object(entries) => {
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            for (key, value) in entries {
                out.push_str(&format!("{margin}{}:", scalar(key)));
                write_value(value, indent, out);
            }
        }
        Value::Array(items) => {
            for item in items {
                match item {
                    Value::Object(entries) if !entries.is_empty() => {
                        let mut below = String::new();
                        write_entries(item, indent + 2, &mut below);
                        out.push_str(&format!("{margin}- {}", below.trim_start()));
                    }
                    _ => {
                        out.push_str(&format!("{margin}-"));
                        write_value(item, indent, out);
                    }
                }
            }
        }
        _ => out.push_str(&format!("{margin}{value}\n")),
    }
}

/// Writes a value after its key or dash.
fn write_value(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            out.push('\n');
            write_entries(value, indent + 2, out);
        }
        // Lists are not indented further than their key, as kubectl prints them.
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            write_entries(value, indent, out);
        }
        Value::String(text)
            if text.contains('\n')
                && !text.contains(['\r', '\t'])
                && !text.starts_with([' ', '\n']) =>
        {
            let margin = " ".repeat(indent + 2);
            out.push_str(if text.ends_with('\n') {
                " |+\n"
            } else {
                " |-\n"
            });
            for line in text.lines() {
                let line = if line.is_empty() {
                    String::new()
                } else {
                    format!("{margin}{line}")
                };
                out.push_str(&line);
                out.push('\n');
            }
        }
        Value::String(text) => out.push_str(&format!(" {}\n", scalar(text))),
        leaf => out.push_str(&format!(" {leaf}\n")),
    }
}

/// A text as YAML. It is quoted as in JSON if an unquoted one could be read as another type.
fn scalar(text: &str) -> String {
    let plain_start = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let plain = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ' ' | '$'));
    let lower = text.to_ascii_lowercase();
    let word =
        ["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&lower.as_str());
    match plain_start && plain && !word && !text.ends_with(' ') {
        true => text.to_owned(),
        false => Value::String(text.to_owned()).to_string(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_definitions_in_deploy_equal_what_the_binary_prints() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/deploy/crds/promotionpolicies.yaml"
        );
        let deployed = std::fs::read_to_string(path).unwrap();
        assert_eq!(
            deployed,
            super::yaml().unwrap(),
            "run `promotion-gate crds > deploy/crds/promotionpolicies.yaml`"
        );
    }
}
