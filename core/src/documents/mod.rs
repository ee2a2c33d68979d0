//! Reads YAML and JSON into values that know their line and column. Reports all errors of a file at once, each with its place and
//! a suggestion.
//!
//! Policies, manifests and the configuration are read in the same three steps: [`read`] bytes into [`Document`]s, [`check`] a
//! document against a derived JSON schema, [`decode`] it into its type. Limits on bytes, depth, values and expanded aliases
//! protect against hostile input. Duplicate keys are refused.

mod decode;
mod excerpt;
mod json;
mod path;
mod schema;
#[cfg(test)]
mod tests;
mod yaml;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

pub use decode::{Fault, decode, decode_value};
pub use path::{Path, Step};
pub use schema::check;

/// The largest file, in bytes (16 MiB).
pub const MAXIMUM_BYTES: usize = 16 << 20;
/// The deepest nesting, in levels.
pub const MAXIMUM_DEPTH: usize = 100;
/// The most values in one file, including those that aliases repeat.
pub const MAXIMUM_VALUES: usize = 500_000;
/// The most problems that are reported for one file.
const MAXIMUM_PROBLEMS: usize = 200;

/// One document of a file: its value, and the line and column of every part of it.
#[derive(Clone, Debug)]
pub struct Document {
    /// The file's name, as problems show it.
    pub file: Arc<str>,
    /// The value.
    pub value: Value,
    place: Place,
}

/// An error in a file, with its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file's name.
    pub file: Arc<str>,
    /// The line, from 1; 0 when the problem is about the file as a whole.
    pub line: usize,
    /// The column in characters, from 1; 0 when the problem is about the file as a whole.
    pub column: usize,
    /// The field; empty for the document as a whole.
    pub path: Path,
    /// The error, as a sentence.
    pub message: String,
    /// The known name that was probably meant.
    pub suggestion: Option<String>,
}

/// Reads the documents of a file: YAML (any number of documents), or JSON (one value or several after another).
///
/// Empty documents are skipped. A document with a problem is left out, except one with a duplicate YAML key, which is kept with the
/// last value. The other documents are still read. A caller must treat any problem as a failure of the file.
pub fn read(file: &str, bytes: &[u8]) -> (Vec<Document>, Vec<Problem>) {
    let file: Arc<str> = file.into();
    let refused = |line, column, message: String| {
        (
            Vec::new(),
            vec![Problem::at(
                &file,
                Mark { line, column },
                Path::default(),
                message,
            )],
        )
    };
    if bytes.len() > MAXIMUM_BYTES {
        return refused(
            0,
            0,
            format!(
                "the file is larger than {} MiB; split it",
                MAXIMUM_BYTES >> 20
            ),
        );
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let before = bytes
                .get(..error.valid_up_to())
                .and_then(|valid| std::str::from_utf8(valid).ok());
            let before = before.unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let column = before
                .rsplit('\n')
                .next()
                .unwrap_or_default()
                .chars()
                .count()
                + 1;
            return refused(line, column, "the file is not UTF-8 text".to_owned());
        }
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let is_json = file.ends_with(".json");
    let begins = text.trim_start();
    if begins.starts_with('{') && begins != text.trim_start_matches([' ', '\t', '\r', '\n']) {
        return refused(
            1,
            1,
            "the white space before `{` is not ASCII, and not every reader skips it; remove it"
                .to_owned(),
        );
    }
    if is_json || begins.starts_with(['{', '[']) {
        let json = json::read(&file, text);
        let Some(problem) = json.problem else {
            return (json.documents, Vec::new());
        };
        // The same reading as in `kubectl`: `{a: b}` is valid YAML but not JSON; YAML may follow one JSON value, but only JSON may
        // follow several. A file with the ending `.json` must be JSON.
        let first_line = json.rest.lines().next().unwrap_or_default().trim();
        match json.values {
            0 if !is_json => {}
            1 if !is_json && (first_line.is_empty() || first_line.starts_with('#')) => {
                let (_, rest) = json.rest.split_once('\n').unwrap_or_default();
                let before = text.len() - rest.len();
                let line = text.get(..before).unwrap_or_default().matches('\n').count();
                let (documents, problems) = yaml::read(&file, rest, line);
                return (
                    json.documents.into_iter().chain(documents).collect(),
                    problems,
                );
            }
            _ => return (json.documents, vec![problem]),
        }
    }
    yaml::read(&file, text, 0)
}

impl Document {
    /// Line and column, both from 1, of the value at `path` (such as `spec.containers[0].image`); `None` if the document has no value at that path.
    pub fn position(&self, path: &str) -> Option<(usize, usize)> {
        let path: Path = path.parse().ok()?;
        let place = path
            .steps()
            .iter()
            .try_fold(&self.place, |place, step| place.child(step))?;
        Some((place.at.line, place.at.column))
    }

    /// The first line of the document, from 1.
    pub fn line(&self) -> usize {
        self.place.at.line
    }

    /// The string at `path` (such as `metadata.name`); `None` if the document has no string at that path.
    pub fn text(&self, path: &str) -> Option<&str> {
        let path: Path = path.parse().ok()?;
        path.find(&self.value)?.as_str()
    }

    /// A problem with the value at `path`. Without such a value, the place is that of the nearest value that contains it.
    pub fn problem(&self, path: Path, message: impl Into<String>) -> Problem {
        Problem::at(&self.file, self.nearest(&path), path, message.into())
    }

    /// A problem with the key at `path`, not with its value.
    pub fn problem_with_key(&self, path: Path, message: impl Into<String>) -> Problem {
        let mut at = self.nearest(&path);
        if let Some((Step::Key(key), container)) = path.steps().split_last() {
            let container = container
                .iter()
                .try_fold(&self.place, |place, step| place.child(step));
            if let Some(Place {
                children: Children::Map(entries),
                ..
            }) = container
            {
                at = entries.get(key).map_or(at, |(key_at, _)| *key_at);
            }
        }
        Problem::at(&self.file, at, path, message.into())
    }

    fn nearest(&self, path: &Path) -> Mark {
        let mut place = &self.place;
        for step in path.steps() {
            match place.child(step) {
                Some(child) => place = child,
                None => break,
            }
        }
        place.at
    }
}

impl Problem {
    /// A problem with a file as a whole.
    pub fn with_file(file: &str, message: impl Into<String>) -> Problem {
        let whole = Mark { line: 0, column: 0 };
        Problem::at(&file.into(), whole, Path::default(), message.into())
    }

    fn at(file: &Arc<str>, at: Mark, path: Path, message: String) -> Problem {
        Problem {
            file: Arc::clone(file),
            line: at.line,
            column: at.column,
            path,
            message,
            suggestion: None,
        }
    }

    /// Adds the suggestion: the name in `known` that is similar to `written`, if there is one.
    #[must_use]
    pub fn suggesting<'a>(
        self,
        written: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Problem {
        Problem {
            suggestion: nearest(written, known),
            ..self
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.path.steps().is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, ", did you mean `{suggestion}`?"),
            None => Ok(()),
        }
    }
}

/// The name in `known` that is similar to `written` (by edit distance), if there is one.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    if written.chars().count() > 64 {
        return None;
    }
    let lower = written.to_lowercase();
    known
        .into_iter()
        .filter_map(|known| {
            let most = (known.chars().count() / 3).max(1);
            Some((mistyped(&lower, &known.to_lowercase(), most)?, known))
        })
        .min()
        .map(|(_, known)| known.to_owned())
}

/// Whether a text equals a known one except for case and at most `mistypes` mistyped characters.
pub fn resembles(written: &str, known: &str, mistypes: usize) -> bool {
    written.len().abs_diff(known.len()) <= mistypes
        && mistyped(&written.to_lowercase(), &known.to_lowercase(), mistypes).is_some()
}

/// How many characters of a text are mistyped, if at most `most` are. The edit distance is slow on the words of a large file,
/// and most of them differ from `known` in more letters than `most` mistypes can change: two by each.
fn mistyped(written: &str, known: &str, most: usize) -> Option<usize> {
    let mut surplus = [0_i64; 128];
    for (text, one) in [(written, 1), (known, -1)] {
        for byte in text.bytes() {
            if let Some(count) = surplus.get_mut(usize::from(byte)) {
                *count += one;
            }
        }
    }
    let differing: u64 = surplus.iter().map(|count| count.unsigned_abs()).sum();
    if differing > 2 * most as u64 {
        return None;
    }
    let distance = strsim::damerau_levenshtein(written, known);
    (distance <= most).then_some(distance)
}

/// Cuts user input for a message, to 80 characters.
fn shown(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The place of a value and of its parts.
#[derive(Clone, Debug)]
struct Place {
    at: Mark,
    children: Children,
}

#[derive(Clone, Debug)]
enum Children {
    None,
    List(Vec<Place>),
    /// For each key, the place of the key and of its value.
    Map(BTreeMap<String, (Mark, Place)>),
}

/// A line and a column, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    line: usize,
    column: usize,
}

impl Place {
    fn child(&self, step: &Step) -> Option<&Place> {
        match (&self.children, step) {
            (Children::List(items), Step::Index(index)) => items.get(*index),
            (Children::Map(entries), Step::Key(key)) => entries.get(key).map(|(_, place)| place),
            _ => None,
        }
    }
}
