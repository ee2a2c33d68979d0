//! The path of a value within a document: `spec.requirements[0].signature`.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

/// A path from the root of a document; empty for the document as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    steps: Vec<Step>,
    /// Line and column within the text at the path, both from 1. It is not shown.
    within: Option<Box<(usize, usize)>>,
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A field of an object.
    Key(String),
    /// An item of a list.
    Index(usize),
}

/// Why a string is not a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a field path")]
pub struct PathError(String);

impl Path {
    /// The steps from the root.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// A place within the text at this path: line and column, both from 1.
    #[must_use]
    pub fn at(&self, line: usize, column: usize) -> Path {
        Path {
            within: Some(Box::new((line, column))),
            ..self.clone()
        }
    }

    /// The place within the text at this path, if it is about one.
    pub fn within(&self) -> Option<(usize, usize)> {
        self.within.as_deref().copied()
    }

    /// This path with a field appended.
    #[must_use]
    pub fn key(&self, key: &str) -> Path {
        self.then(Step::Key(key.to_owned()))
    }

    /// This path with an item appended.
    #[must_use]
    pub fn index(&self, index: usize) -> Path {
        self.then(Step::Index(index))
    }

    /// This path with another one appended.
    #[must_use]
    pub fn join(&self, below: &Path) -> Path {
        Path {
            steps: self.steps.iter().chain(&below.steps).cloned().collect(),
            within: below.within.clone(),
        }
    }

    /// The part of `value` at this path.
    pub fn find<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        self.steps.iter().try_fold(value, |value, step| match step {
            Step::Key(key) => value.get(key),
            Step::Index(index) => value.get(index),
        })
    }

    fn then(&self, step: Step) -> Path {
        self.steps.iter().cloned().chain([step]).collect()
    }
}

impl FromIterator<Step> for Path {
    fn from_iter<I: IntoIterator<Item = Step>>(steps: I) -> Path {
        Path {
            steps: steps.into_iter().collect(),
            within: None,
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.steps.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) if !is_plain(key) => write!(f, "[\"{}\"]", key.escape_debug())?,
                Step::Key(key) if at == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

fn is_plain(key: &str) -> bool {
    !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/' | '$'))
}

/// Parses the output of [`Display`](fmt::Display). Within quotes, only the escapes `\"` and `\\` are supported.
impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Path, PathError> {
        let refused = || PathError(super::shown(text));
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(quoted) = rest.strip_prefix("[\"") {
                let (key, after) = unquote(quoted).ok_or_else(refused)?;
                steps.push(Step::Key(key));
                rest = after;
            } else if let Some(index) = rest.strip_prefix('[') {
                let (index, after) = index.split_once(']').ok_or_else(refused)?;
                steps.push(Step::Index(index.parse().map_err(|_| refused())?));
                rest = after;
            } else {
                let key = if steps.is_empty() {
                    rest
                } else {
                    rest.strip_prefix('.').ok_or_else(refused)?
                };
                let end = key.find(['.', '[']).unwrap_or(key.len());
                let (key, after) = key.split_at(end);
                if key.is_empty() {
                    return Err(refused());
                }
                steps.push(Step::Key(key.to_owned()));
                rest = after;
            }
        }
        Ok(steps.into_iter().collect())
    }
}

fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut key = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => key.push(characters.next()?.1),
            '"' => return Some((key, quoted.get(at..)?.strip_prefix("\"]")?)),
            other => key.push(other),
        }
    }
    None
}
