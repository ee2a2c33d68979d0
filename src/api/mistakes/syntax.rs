//! Syntax of other pattern languages.

use promotion_gate_core::documents::Path;
use serde_json::Value;

use super::Mistakes;

impl Mistakes {
    /// Looks for syntax of other pattern languages that is compared literally here: in patterns, and in plain texts that could
    /// also be patterns.
    pub(super) fn patterns(&mut self, value: &Value, here: &Path) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    let here = here.key(key);
                    match (key.as_str(), value) {
                        ("glob", Value::String(pattern)) => self.pattern(pattern, here),
                        ("issuer" | "identity" | "id", Value::String(text)) => {
                            self.text(text, here);
                        }
                        ("claims", Value::Object(claims)) => {
                            for (claim, value) in claims {
                                self.either(value, here.key(claim));
                            }
                        }
                        ("buildTypes" | "sources", Value::Array(items)) => {
                            for (index, item) in items.iter().enumerate() {
                                self.either(item, here.index(index));
                            }
                        }
                        ("annotations" | "inputs", _) => {}
                        _ => self.patterns(value, &here),
                    }
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.patterns(item, &here.index(index));
                }
            }
            _ => {}
        }
    }

    fn either(&mut self, value: &Value, here: Path) {
        match value {
            Value::String(text) => self.text(text, here),
            _ => self.patterns(value, &here),
        }
    }

    pub(super) fn pattern(&mut self, pattern: &str, here: Path) {
        let odd = odd_in_patterns(pattern).or_else(|| {
            pattern
                .contains('?')
                .then_some("`?` is compared literally; write `*`")
        });
        if let Some(message) = odd {
            self.warn(here, message);
        }
    }

    /// In a plain text a `?` is common, and a pattern needs `glob`.
    fn text(&mut self, text: &str, here: Path) {
        if let Some(message) = odd_in_patterns(text) {
            let marked = message.replacen("write `*`", "write `{glob: …}` with `*`", 1);
            self.warn(here, marked);
        }
    }
}

/// A part that probably comes from a regular expression, and what to write instead.
fn odd_in_patterns(text: &str) -> Option<&'static str> {
    let within = |open: char, close: char| {
        let (_, rest) = text.split_once(open)?;
        rest.split_once(close).map(|(inside, _)| inside)
    };
    let holds =
        |inside: Option<&str>, separator| inside.is_some_and(|inside| inside.contains(separator));
    // In `v1.*` and `app.*` the author may mean the dot.
    let dots_for_anything = text.match_indices(".*").any(|(at, _)| {
        let before = text.get(..at).unwrap_or_default();
        let (_, last) = before.rsplit_once('/').unwrap_or(("", before));
        last == "v" || !last.ends_with(|c: char| c.is_alphanumeric() || c == '*')
    });
    if dots_for_anything || text.contains(".+") {
        Some(
            "`.*` and `.+` begin with a dot that is compared literally; write `*` or `**` without it",
        )
    } else if text.contains('|') || holds(within('{', '}'), ',') {
        Some("alternatives are not supported and compared literally; write one entry for each")
    } else if holds(within('[', ']'), '-') {
        Some("character classes are not supported and compared literally; write `*`")
    } else {
        None
    }
}
