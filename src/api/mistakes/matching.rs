//! What a policy matches: namespaces by name and label, and images.

use promotion_gate_core::documents::Path;
use promotion_gate_core::gate::{LabelSelector, NAME_LABEL};
use serde::Deserialize as _;
use serde_json::Value;

use super::images::images;
use super::{Mistakes, texts};

impl Mistakes {
    pub(super) fn matches(&mut self, spec: &Value, pinned: bool) {
        let here = Path::default().key("match");
        for (path, name) in texts(
            spec,
            "/match/namespaces/names",
            &here.key("namespaces").key("names"),
        ) {
            let is_odd = |c: &char| *c != '*' && is_odd_in_namespaces(*c);
            if let Some(odd) = name.chars().find(is_odd) {
                let message = format!(
                    "no namespace matches `{name}`: names of namespaces cannot contain `{}`; write lower-case letters, digits, `-`, and `*` for anything",
                    odd.escape_default()
                );
                self.refuse(path, message);
            } else if name.starts_with('-')
                || name.ends_with('-')
                || !name.contains('*') && name.len() > 63
            {
                let message = format!(
                    "no namespace matches `{name}`: names of namespaces begin and end with a letter or a digit, and have at most 63 characters"
                );
                self.refuse(path, message);
            }
        }
        self.labels(spec, &here.key("namespaces").key("selector"));
        for (path, pattern, written) in images(spec, "/match/images", &here.key("images")) {
            self.image(&path, &pattern, &written);
            match pattern.without_tag() {
                Some(name) if pinned => self.refuse(
                    path,
                    format!(
                        "`{written}` matches no image that `digestPinned` lets pass: a pattern with a tag matches only images that are named without a digest; write `{name}`"
                    ),
                ),
                Some(name) => self.warn(
                    path,
                    format!(
                        "`{written}` matches no image that is named by digest, because it has a tag; write `{name}` to match those too"
                    ),
                ),
                None => {}
            }
        }
    }

    /// Refuses labels that no namespace can have (Kubernetes, "Labels and Selectors").
    fn labels(&mut self, spec: &Value, here: &Path) {
        let selector = spec.pointer("/match/namespaces/selector");
        let equal = selector.and_then(|selector| selector.get("matchLabels"));
        for (key, value) in equal.and_then(Value::as_object).into_iter().flatten() {
            let path = here.key("matchLabels").key(key);
            self.label(&path, key, value.as_str().into_iter(), true);
        }
        let terms = selector.and_then(|selector| selector.get("matchExpressions"));
        for (index, term) in terms
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .enumerate()
        {
            let path = here.key("matchExpressions").index(index);
            let key = term.get("key").and_then(Value::as_str).unwrap_or_default();
            let values = term.get("values").and_then(Value::as_array);
            let is_in = term.get("operator").and_then(Value::as_str) == Some("In");
            self.label(
                &path,
                key,
                values.into_iter().flatten().filter_map(Value::as_str),
                is_in,
            );
        }
        let selector = selector.and_then(|selector| LabelSelector::deserialize(selector).ok());
        if let Some(key) = selector.as_ref().and_then(LabelSelector::contradiction) {
            let message = format!(
                "no namespace is selected: no value of the label `{key}` fulfils every term about it; list alternatives in one `In`, and remove the term that excludes them"
            );
            // Names and selector are alternatives.
            match spec.pointer("/match/namespaces/names") {
                Some(Value::Array(names)) if !names.is_empty() => self.warn(here.clone(), message),
                _ => self.refuse(here.clone(), message),
            }
        }
    }

    /// Values that no label has: refused where one of the values has to be there and none can be, else warned of.
    fn label<'v>(
        &mut self,
        path: &Path,
        key: &str,
        values: impl Iterator<Item = &'v str>,
        is_required: bool,
    ) {
        let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
        if name.is_empty() || !is_label(name) {
            let message =
                format!("no namespace has the label `{key}`: that is not a name of a label");
            self.refuse(path.clone(), message);
        }
        let is_odd = |value: &&str| key == NAME_LABEL && value.contains(is_odd_in_namespaces);
        let values: Vec<_> = values.collect();
        let is_possible = |value: &&str| !is_odd(value) && is_label(value);
        let is_refused = is_required && !values.iter().any(is_possible);
        let (odd, values): (Vec<_>, Vec<_>) = values.into_iter().partition(is_odd);
        for value in odd {
            let message = format!(
                "no namespace has the name `{value}`; write names and patterns under `match.namespaces.names`"
            );
            self.say(is_refused, path.clone(), message);
        }
        for value in values.into_iter().filter(|value| !is_label(value)) {
            let message = format!(
                "no label has the value `{value}`: values are compared exactly, and hold letters, digits, `-`, `_` and `.` alone; list each value with `matchExpressions` and `In`"
            );
            self.say(is_refused, path.clone(), message);
        }
    }
}

/// Whether a text can be the value or the name of a label.
fn is_label(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    text.is_empty()
        || text.len() <= 63
            && text.starts_with(edge)
            && text.ends_with(edge)
            && text.chars().all(|c| edge(c) || "-_.".contains(c))
}

/// Characters that names of namespaces cannot contain.
fn is_odd_in_namespaces(character: char) -> bool {
    !(character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-')
}
