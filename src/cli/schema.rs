//! `schema`: prints JSON schemas of our documents, for editors, and reference pages of their fields.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::ValueEnum;
use serde_json::{Value, json};

use crate::api;
use crate::config;

/// Print the JSON schema of policies, people directories, change freezes and configurations, for editors
///
/// A YAML language server completes and checks a file that begins with
/// `# yaml-language-server: $schema=promotion-gate.schema.json`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  promotion-gate schema > promotion-gate.schema.json        every kind of document
  promotion-gate schema PromotionPolicy                     one kind
  promotion-gate schema GateConfiguration --output markdown its reference")]
pub(super) struct Args {
    /// The kind of document; all of them when absent
    #[arg(value_enum)]
    kind: Option<Kind>,
    /// Output format
    #[arg(long, value_enum, default_value_t = Output::Json)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
enum Kind {
    PromotionPolicy,
    PeopleDirectory,
    ChangeFreeze,
    GateConfiguration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// JSON schema
    Json,
    /// A table of every field
    Markdown,
}

const KINDS: [Kind; 4] = [
    Kind::PromotionPolicy,
    Kind::PeopleDirectory,
    Kind::ChangeFreeze,
    Kind::GateConfiguration,
];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::PromotionPolicy => "PromotionPolicy",
            Kind::PeopleDirectory => "PeopleDirectory",
            Kind::ChangeFreeze => "ChangeFreeze",
            Kind::GateConfiguration => "GateConfiguration",
        }
    }

    /// The schema, with constants for `apiVersion` and `kind`.
    fn schema(self) -> Value {
        let schema = match self {
            Kind::PromotionPolicy => api::schema(),
            Kind::PeopleDirectory => api::people_schema(),
            Kind::ChangeFreeze => api::freeze_schema(),
            Kind::GateConfiguration => config::schema(),
        };
        let mut schema = schema.to_value();
        for (field, value) in [("apiVersion", api::API_VERSION), ("kind", self.name())] {
            if let Some(place) = schema.pointer_mut(&format!("/properties/{field}")) {
                *place = json!({"const": value});
            }
        }
        schema
    }
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let kinds = args.kind.map_or_else(|| KINDS.to_vec(), |kind| vec![kind]);
    match args.output {
        Output::Json => {
            let schema = match kinds.as_slice() {
                [only] => only.schema(),
                several => one_of(several),
            };
            let text = serde_json::to_string_pretty(&schema)
                .context("the schema cannot be written as JSON")?;
            write_output!("{text}\n");
        }
        Output::Markdown => {
            for kind in kinds {
                write_output!("{}", markdown(kind));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One schema for files of any of the kinds. The `kind` of a file selects the schema that applies, so that an editor shows only
/// the faults of that one.
fn one_of(kinds: &[Kind]) -> Value {
    let mut definitions = serde_json::Map::new();
    let mut cases = Vec::new();
    for kind in kinds {
        let mut schema = kind.schema();
        let inner = schema
            .as_object_mut()
            .and_then(|schema| schema.remove("$defs"));
        for (name, definition) in inner.iter().filter_map(Value::as_object).flatten() {
            definitions.insert(name.clone(), definition.clone());
        }
        definitions.insert(kind.name().to_owned(), schema);
        cases.push(json!({
            "if": {"properties": {"kind": {"const": kind.name()}}, "required": ["kind"]},
            "then": {"$ref": format!("#/$defs/{}", kind.name())},
        }));
    }
    let names: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "promotion-gate",
        "type": "object",
        "required": ["apiVersion", "kind"],
        "properties": {"apiVersion": {"const": api::API_VERSION}, "kind": {"enum": names}},
        "allOf": cases,
        "$defs": definitions,
    })
}

fn markdown(kind: Kind) -> String {
    let schema = kind.schema();
    let mut text = format!(
        "# {}\n\nGenerated from the types: `promotion-gate schema {} --output markdown`.\n\n\
         | Field | Type | What it is |\n|---|---|---|\n",
        kind.name(),
        kind.name()
    );
    rows(&schema, &schema, "", &mut Vec::new(), &mut text);
    text
}

/// Writes a row for each field, and below it the rows of the type that it refers to. A type that contains itself is not entered
/// again.
fn rows<'a>(
    schema: &'a Value,
    whole: &'a Value,
    path: &str,
    above: &mut Vec<&'a str>,
    text: &mut String,
) {
    let Some(fields) = schema.get("properties").and_then(Value::as_object) else {
        return;
    };
    let required: Vec<_> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .collect();
    for (name, field) in fields {
        let needed = required.iter().any(|required| *required == name);
        let (names, inner, suffix) = resolve(field, whole);
        let path = format!("{path}{name}{suffix}");
        let described = field
            .get("description")
            .or_else(|| inner.get("description"));
        let about = described.and_then(Value::as_str).unwrap_or_default();
        let about = about
            .split("\n\n")
            .next()
            .unwrap_or_default()
            .replace(['\n', '|'], " ");
        let _ = writeln!(
            text,
            "| `{path}`{} | {} | {about} |",
            if needed { " *" } else { "" },
            type_of(inner)
        );
        let followed = names.iter().any(|name| above.contains(name));
        if !followed {
            let depth = above.len();
            above.extend(names);
            rows(inner, whole, &format!("{path}."), above, text);
            above.truncate(depth);
        }
    }
}

/// Follows the references of a field: the names of the definitions, the last schema, and a suffix for items (`[]`) and entries
/// (`.*`).
fn resolve<'a>(field: &'a Value, whole: &'a Value) -> (Vec<&'a str>, &'a Value, String) {
    let mut names = Vec::new();
    let mut suffix = String::new();
    let mut here = field;
    for _ in 0..16 {
        let alternative = here
            .get("anyOf")
            .and_then(Value::as_array)
            .and_then(|any| any.iter().find(|one| one.get("$ref").is_some()));
        let next = here.get("$ref").or_else(|| alternative?.get("$ref"));
        if let Some(name) = next
            .and_then(Value::as_str)
            .and_then(|path| path.strip_prefix("#/$defs/"))
        {
            names.push(name);
            let Some(definition) = whole.get("$defs").and_then(|defs| defs.get(name)) else {
                break;
            };
            here = definition;
        } else if let Some(items) = here.get("items") {
            suffix.push_str("[]");
            here = items;
        } else if let Some(values) = here
            .get("additionalProperties")
            .filter(|values| values.is_object())
        {
            suffix.push_str(".*");
            here = values;
        } else {
            break;
        }
    }
    (names, here, suffix)
}

fn type_of(schema: &Value) -> String {
    let values = |list: &Value| {
        let values = list
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        values
            .map(|value| format!("`{value}`"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    if let Some(list) = schema.get("enum") {
        return values(list);
    }
    let constants: Vec<_> = schema
        .get("oneOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|one| Some(format!("`{}`", one.get("const")?.as_str()?)))
        .collect();
    if !constants.is_empty() {
        return constants.join(", ");
    }
    match schema.get("type") {
        Some(Value::String(name)) => name.clone(),
        Some(Value::Array(names)) => {
            let named = names
                .iter()
                .filter_map(Value::as_str)
                .find(|name| *name != "null");
            named.unwrap_or_default().to_owned()
        }
        _ if schema.get("const").is_some() => {
            format!("`{}`", schema["const"].as_str().unwrap_or_default())
        }
        _ if schema.get("anyOf").is_some() => "text or `{glob: …}`".to_owned(),
        _ => String::new(),
    }
}
