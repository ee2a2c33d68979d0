//! Checks a document against a derived JSON schema, and reports all problems at once, each with its place. Only the keywords that
//! our schemas use are supported; decoding checks the rest.

use std::collections::BTreeSet;

use schemars::Schema;
use serde_json::{Map, Value};

use super::{Document, MAXIMUM_PROBLEMS, Path, Problem, nearest, shown};

/// The most references that are followed for one value. The limit ends a schema that refers to itself.
const MAXIMUM_REFERENCES: usize = 32;

/// All problems of `document` under `schema`.
pub fn check(document: &Document, schema: &Schema) -> Vec<Problem> {
    let root = Root(schema.as_value());
    let mut complaints = Vec::new();
    root.walk(
        &document.value,
        root.0,
        &Path::default(),
        MAXIMUM_REFERENCES,
        &mut complaints,
    );
    let problems = complaints.into_iter().map(
        |Complaint {
             path,
             about_key,
             message,
             suggestion,
         }| {
            let problem = match about_key {
                true => document.problem_with_key(path, message),
                false => document.problem(path, message),
            };
            Problem {
                suggestion,
                ..problem
            }
        },
    );
    problems.collect()
}

/// The whole schema, in which references are resolved.
#[derive(Clone, Copy)]
struct Root<'a>(&'a Value);

/// A problem without line and column.
struct Complaint {
    path: Path,
    about_key: bool,
    message: String,
    suggestion: Option<String>,
}

impl<'a> Root<'a> {
    fn walk(
        self,
        value: &Value,
        schema: &'a Value,
        path: &Path,
        references: usize,
        out: &mut Vec<Complaint>,
    ) {
        let Value::Object(keywords) = schema else {
            if schema == &Value::Bool(false) {
                complain(out, path, "nothing is allowed here".to_owned());
            }
            return;
        };
        if out.len() >= MAXIMUM_PROBLEMS || references == 0 {
            return;
        }
        if let Some(values) = self.values(schema, references) {
            if !values.contains(&value) {
                out.push(unknown_value(value, &values, path));
            }
            return;
        }
        if let Some(target) = self.target(keywords) {
            self.walk(value, target, path, references - 1, out);
        }
        if let Some(types) = own_types(keywords)
            && !types.iter().any(|name| is_of(value, name))
        {
            complain(out, path, expected(&types, value));
            return;
        }
        for all in list(keywords, "allOf") {
            self.walk(value, all, path, references, out);
        }
        for alternatives in ["anyOf", "oneOf"] {
            self.alternatives(value, list(keywords, alternatives), path, references, out);
        }
        match value {
            Value::Object(entries) => self.object(entries, keywords, path, out),
            Value::Array(items) => self.list(items, keywords, path, out),
            Value::String(text) => check_text(text, keywords, path, out),
            Value::Number(number) => {
                check_number(number.as_f64().unwrap_or_default(), keywords, path, out)
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn object(
        self,
        entries: &Map<String, Value>,
        keywords: &'a Map<String, Value>,
        path: &Path,
        out: &mut Vec<Complaint>,
    ) {
        let properties = keywords.get("properties").and_then(Value::as_object);
        let others = keywords.get("additionalProperties");
        for (key, value) in entries {
            let below = path.key(key);
            if let Some(property) = properties.and_then(|properties| properties.get(key)) {
                self.walk(value, property, &below, MAXIMUM_REFERENCES, out);
                continue;
            }
            if let Some(names) = keywords.get("propertyNames") {
                let known = self.values(names, MAXIMUM_REFERENCES);
                if let Some(known) =
                    known.filter(|known| !known.iter().any(|name| name.as_str() == Some(key)))
                {
                    out.push(unknown_field(
                        key,
                        known.iter().filter_map(|name| name.as_str()),
                        below,
                    ));
                    continue;
                }
            }
            match others {
                Some(Value::Bool(false)) => {
                    let known = properties
                        .into_iter()
                        .flat_map(Map::keys)
                        .map(String::as_str);
                    out.push(unknown_field(key, known, below));
                }
                Some(schema) => self.walk(value, schema, &below, MAXIMUM_REFERENCES, out),
                None => {}
            }
        }
        let missing = list(keywords, "required")
            .iter()
            .filter_map(Value::as_str)
            .filter(|key| !entries.contains_key(*key));
        for key in missing {
            complain(out, path, format!("missing field `{key}`"));
        }
    }

    fn list(
        self,
        items: &[Value],
        keywords: &'a Map<String, Value>,
        path: &Path,
        out: &mut Vec<Complaint>,
    ) {
        let length = items.len() as u64;
        if let Some(least) = bound(keywords, "minItems").filter(|least| length < *least) {
            let message = match (length, least) {
                (0, 1) => "the list is empty".to_owned(),
                _ => format!("the list has {length} items; expected at least {least}"),
            };
            complain(out, path, message);
        }
        if let Some(most) = bound(keywords, "maxItems").filter(|most| length > *most) {
            complain(
                out,
                path,
                format!("the list has {length} items; expected at most {most}"),
            );
        }
        if let Some(schema) = keywords.get("items") {
            for (index, item) in items.iter().enumerate() {
                self.walk(item, schema, &path.index(index), MAXIMUM_REFERENCES, out);
            }
        }
    }

    /// One of several schemas must accept the value. If none does, the problems are those of the alternative that accepts the
    /// value's type and has the fewest problems.
    fn alternatives(
        self,
        value: &Value,
        schemas: &'a [Value],
        path: &Path,
        references: usize,
        out: &mut Vec<Complaint>,
    ) {
        if schemas.is_empty() {
            return;
        }
        let mut meant: Option<Vec<Complaint>> = None;
        for schema in schemas {
            let mut complaints = Vec::new();
            self.walk(value, schema, path, references, &mut complaints);
            if complaints.is_empty() {
                return;
            }
            let fits = self
                .types(schema, references)
                .is_none_or(|types| types.iter().any(|name| is_of(value, name)));
            if fits
                && meant
                    .as_ref()
                    .is_none_or(|meant| complaints.len() < meant.len())
            {
                meant = Some(complaints);
            }
        }
        match meant {
            Some(complaints) => out.extend(complaints),
            None => {
                let types: BTreeSet<_> = schemas
                    .iter()
                    .filter_map(|schema| self.types(schema, references))
                    .flatten()
                    .collect();
                complain(
                    out,
                    path,
                    expected(&types.into_iter().collect::<Vec<_>>(), value),
                );
            }
        }
    }

    fn target(self, keywords: &Map<String, Value>) -> Option<&'a Value> {
        self.0
            .pointer(keywords.get("$ref")?.as_str()?.strip_prefix('#')?)
    }

    /// The types that a schema accepts; `None` for every type.
    fn types(self, schema: &'a Value, references: usize) -> Option<Vec<&'a str>> {
        let keywords = schema.as_object()?;
        if references == 0 {
            return None;
        }
        if let Some(types) = own_types(keywords) {
            return Some(types);
        }
        if let Some(target) = self.target(keywords) {
            return self.types(target, references - 1);
        }
        if let Some(values) = self.values(schema, references) {
            return Some(values.into_iter().map(type_of).collect());
        }
        let each: Option<Vec<_>> = alternatives(keywords)
            .map(|schema| self.types(schema, references))
            .collect();
        Some(each?.concat()).filter(|all| !all.is_empty())
    }

    /// The values that a schema accepts, if it lists them.
    fn values(self, schema: &'a Value, references: usize) -> Option<Vec<&'a Value>> {
        let keywords = schema.as_object()?;
        if references == 0 {
            return None;
        }
        if let Some(only) = keywords.get("const") {
            return Some(vec![only]);
        }
        if let Some(values) = keywords.get("enum").and_then(Value::as_array) {
            return Some(values.iter().collect());
        }
        if let Some(target) = self.target(keywords) {
            return self.values(target, references - 1);
        }
        if own_types(keywords).is_some_and(|types| types == ["null"]) {
            return Some(vec![&Value::Null]);
        }
        let each: Option<Vec<_>> = alternatives(keywords)
            .map(|schema| self.values(schema, references))
            .collect();
        Some(each?.concat()).filter(|all| !all.is_empty())
    }
}

fn alternatives(keywords: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    list(keywords, "anyOf")
        .iter()
        .chain(list(keywords, "oneOf"))
}

fn list<'a>(keywords: &'a Map<String, Value>, keyword: &str) -> &'a [Value] {
    keywords
        .get(keyword)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

fn bound(keywords: &Map<String, Value>, keyword: &str) -> Option<u64> {
    keywords.get(keyword)?.as_u64()
}

fn own_types(keywords: &Map<String, Value>) -> Option<Vec<&str>> {
    match keywords.get("type")? {
        Value::String(name) => Some(vec![name]),
        Value::Array(names) => Some(names.iter().filter_map(Value::as_str).collect()),
        _ => None,
    }
}

fn is_of(value: &Value, name: &str) -> bool {
    type_of(value) == name || (name == "number" && value.is_number())
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn in_words(name: &str) -> &'static str {
    match name {
        "null" => "nothing",
        "boolean" => "`true` or `false`",
        "number" => "a number",
        "integer" => "a whole number",
        "string" => "a text",
        "array" => "a list",
        _ => "an object",
    }
}

/// The message `expected a list, found a text`. Leaves `null` out if another type is accepted too.
fn expected(types: &[&str], found: &Value) -> String {
    let mut words: Vec<_> = types
        .iter()
        .filter(|name| **name != "null")
        .map(|name| in_words(name))
        .collect();
    words.dedup();
    let words = if words.is_empty() {
        "nothing".to_owned()
    } else {
        words.join(" or ")
    };
    match found {
        Value::Bool(value) => format!("expected {words}, found `{value}`"),
        _ => format!("expected {words}, found {}", in_words(type_of(found))),
    }
}

fn unknown_field<'a>(
    key: &str,
    known: impl Iterator<Item = &'a str> + Clone,
    path: Path,
) -> Complaint {
    let suggestion = nearest(key, known.clone());
    let mut message = format!("unknown field `{}`", shown(key));
    if suggestion.is_none() {
        let known: Vec<_> = known.map(|known| format!("`{known}`")).collect();
        match known.as_slice() {
            [] => message.push_str("; no fields are expected here"),
            known if known.len() <= 12 => {
                message.push_str("; known are ");
                message.push_str(&known.join(", "));
            }
            _ => {}
        }
    }
    Complaint {
        path,
        about_key: true,
        message,
        suggestion,
    }
}

fn unknown_value(value: &Value, known: &[&Value], path: &Path) -> Complaint {
    let texts: Vec<_> = known.iter().filter_map(|known| known.as_str()).collect();
    let Some(written) = value.as_str().filter(|_| !texts.is_empty()) else {
        let types: BTreeSet<_> = known.iter().map(|known| type_of(known)).collect();
        let message = expected(&types.into_iter().collect::<Vec<_>>(), value);
        return Complaint {
            path: path.clone(),
            about_key: false,
            message,
            suggestion: None,
        };
    };
    let listed: Vec<_> = texts
        .iter()
        .take(24)
        .map(|known| format!("`{known}`"))
        .collect();
    let message = match listed.as_slice() {
        [only] => format!("expected {only}, found `{}`", shown(written)),
        _ => format!(
            "unknown value `{}`; expected one of {}",
            shown(written),
            listed.join(", ")
        ),
    };
    Complaint {
        path: path.clone(),
        about_key: false,
        message,
        suggestion: nearest(written, texts),
    }
}

fn check_text(text: &str, keywords: &Map<String, Value>, path: &Path, out: &mut Vec<Complaint>) {
    let length = text.chars().count() as u64;
    if let Some(least) = bound(keywords, "minLength").filter(|least| length < *least) {
        let message = match (length, least) {
            (0, 1) => "the text is empty".to_owned(),
            _ => format!("the text has {length} characters; expected at least {least}"),
        };
        complain(out, path, message);
    }
    if let Some(most) = bound(keywords, "maxLength").filter(|most| length > *most) {
        complain(
            out,
            path,
            format!("the text has {length} characters; expected at most {most}"),
        );
    }
}

fn check_number(number: f64, keywords: &Map<String, Value>, path: &Path, out: &mut Vec<Complaint>) {
    let bound = |keyword| keywords.get(keyword).and_then(Value::as_f64);
    if let Some(least) = bound("minimum").filter(|least| number < *least) {
        complain(
            out,
            path,
            format!("`{number}` is too small; the minimum is {least}"),
        );
    }
    if let Some(most) = bound("maximum").filter(|most| number > *most) {
        complain(
            out,
            path,
            format!("`{number}` is too large; the maximum is {most}"),
        );
    }
}

fn complain(out: &mut Vec<Complaint>, path: &Path, message: String) {
    out.push(Complaint {
        path: path.clone(),
        about_key: false,
        message,
        suggestion: None,
    });
}
