//! `schema`: prints JSON schemas of our documents, for editors, and reference pages of their fields.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::ValueEnum;
use serde_json::{Value, json};

use crate::api::{self, Kind};
use crate::config;

/// Print the JSON schemas of our documents, for editors
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
    #[arg(value_parser = kind_of)]
    kind: Option<Kind>,
    /// Output format
    #[arg(long, value_enum, default_value_t = Output::Json)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// JSON schema
    Json,
    /// A table of every field
    Markdown,
}

/// The kinds that have a schema, in the order of the reference. Tests have one of their own.
fn kinds() -> impl Iterator<Item = Kind> {
    let kinds = Kind::ALL.into_iter();
    kinds.filter(|kind| *kind != Kind::PolicyTest)
}

/// The schemas of a kind, with constants for `apiVersion` and `kind`, each with where such a document stands. A configuration is
/// a file of the process, or a resource.
fn schemas(kind: Kind) -> Vec<(&'static str, Value)> {
    let resource = api::schema_of(kind).map(|schema| ("resource", schema));
    let file = (kind == Kind::GateConfiguration).then(|| ("file", config::schema()));
    let each = file.into_iter().chain(resource);
    each.map(|(place, schema)| (place, with_constants(schema.to_value(), kind)))
        .collect()
}

fn with_constants(mut schema: Value, kind: Kind) -> Value {
    for (field, value) in [("apiVersion", api::API_VERSION), ("kind", kind.name())] {
        if let Some(place) = schema.pointer_mut(&format!("/properties/{field}")) {
            *place = json!({"const": value});
        }
    }
    schema
}

fn kind_of(written: &str) -> Result<Kind, String> {
    let found = kinds().find(|kind| kind.name() == written);
    found.ok_or_else(|| {
        let names: Vec<_> = kinds().map(Kind::name).collect();
        format!("expected one of {}", names.join(", "))
    })
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let kinds = args
        .kind
        .map_or_else(|| kinds().collect(), |kind| vec![kind]);
    match args.output {
        Output::Json => {
            let schema = match kinds.as_slice() {
                [only] if *only != Kind::GateConfiguration => {
                    let schemas = schemas(*only).into_iter().next();
                    schemas.map(|(_, schema)| schema).unwrap_or_default()
                }
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
        let schemas = schemas(*kind);
        let is_one = schemas.len() == 1;
        for (place, mut schema) in schemas {
            let inner = schema
                .as_object_mut()
                .and_then(|schema| schema.remove("$defs"));
            for (name, definition) in inner.iter().filter_map(Value::as_object).flatten() {
                definitions.insert(name.clone(), definition.clone());
            }
            let (name, is_resource) = match (is_one, place) {
                (true, _) => (kind.name().to_owned(), json!(true)),
                (false, "resource") => {
                    let name = format!("{}.resource", kind.name());
                    (name, json!({"required": ["spec"]}))
                }
                (false, _) => {
                    let name = format!("{}.file", kind.name());
                    (name, json!({"not": {"required": ["spec"]}}))
                }
            };
            definitions.insert(name.clone(), schema);
            cases.push(json!({
                "if": {
                    "properties": {"kind": {"const": kind.name()}},
                    "required": ["kind"],
                    "allOf": [is_resource],
                },
                "then": {"$ref": format!("#/$defs/{name}")},
            }));
        }
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
    let mut text = format!(
        "# {}\n\nGenerated from the types: `promotion-gate schema {} --output markdown`.\n",
        kind.name(),
        kind.name()
    );
    let schemas = schemas(kind);
    let is_one = schemas.len() == 1;
    for (place, schema) in schemas {
        text.push('\n');
        if !is_one {
            let _ = write!(text, "## As a {place}\n\n");
        }
        text.push_str("| Field | Type | What it is |\n|---|---|---|\n");
        rows(&schema, &schema, "", &mut Vec::new(), &mut text);
    }
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
        _ if is_of_two_types(schema) => "object or text".to_owned(),
        _ if schema.get("anyOf").is_some() => "text or `{glob: …}`".to_owned(),
        _ => String::new(),
    }
}

/// Whether a schema accepts an object of any kind, or a text.
fn is_of_two_types(schema: &Value) -> bool {
    let alternatives = schema.get("anyOf").and_then(Value::as_array);
    let mut alternatives = alternatives.into_iter().flatten();
    alternatives.any(|one| *one == json!({"type": "object"}) || is_of_two_types(one))
}
