//! Reads JSON into documents. A YAML parser cannot be used, because it does not read all JSON (surrogate pairs, long keys).
//! `serde_json` cannot be used, because it keeps neither places nor duplicate keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Number, Value};

use super::{Children, Document, MAXIMUM_DEPTH, MAXIMUM_VALUES, Mark, Path, Place, Problem, shown};

/// The result of reading a text as JSON.
pub(super) struct Json<'a> {
    pub(super) documents: Vec<Document>,
    /// The number of values that were read, including `null`.
    pub(super) values: usize,
    /// The text after the last value that was read.
    pub(super) rest: &'a str,
    /// Why the rest cannot be read.
    pub(super) problem: Option<Problem>,
}

/// Reads values that are separated by white space, up to the first that is not valid.
pub(super) fn read<'a>(file: &Arc<str>, text: &'a str) -> Json<'a> {
    let mut reader = Reader {
        rest: text,
        line: 1,
        column: 1,
        values: 0,
        path: Path::default(),
    };
    let mut json = Json {
        documents: Vec::new(),
        values: 0,
        rest: text,
        problem: None,
    };
    reader.skip_space();
    while !reader.rest.is_empty() {
        match reader.value(0) {
            Ok((value, place)) => {
                json.values += 1;
                json.rest = reader.rest;
                if !value.is_null() {
                    json.documents.push(Document {
                        file: Arc::clone(file),
                        value,
                        place,
                    });
                }
            }
            Err(Refused { at, message }) => {
                json.problem = Some(Problem::at(file, at, reader.path, message));
                return json;
            }
        }
        reader.skip_space();
    }
    json
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
    column: usize,
    values: usize,
    /// The path of the current value.
    path: Path,
}

struct Refused {
    at: Mark,
    message: String,
}

type Read<T> = Result<T, Refused>;

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Read<(Value, Place)> {
        let at = self.mark();
        self.values += 1;
        if self.values > MAXIMUM_VALUES {
            return Err(self.refuse(format!("the file has more than {MAXIMUM_VALUES} values")));
        }
        if depth > MAXIMUM_DEPTH {
            return Err(self.refuse(format!("nested deeper than {MAXIMUM_DEPTH} levels")));
        }
        let leaf = |value| {
            (
                value,
                Place {
                    at,
                    children: Children::None,
                },
            )
        };
        match self.rest.as_bytes().first() {
            Some(b'{') => self.object(at, depth),
            Some(b'[') => self.list(at, depth),
            Some(b'"') => Ok(leaf(Value::String(self.string()?))),
            Some(b'-' | b'0'..=b'9') => Ok(leaf(Value::Number(self.number()?))),
            _ => {
                for (word, value) in [
                    ("true", Value::Bool(true)),
                    ("false", Value::Bool(false)),
                    ("null", Value::Null),
                ] {
                    if self.rest.starts_with(word) {
                        self.advance(word.len());
                        return Ok(leaf(value));
                    }
                }
                Err(self.refuse("not valid JSON: expected a value".to_owned()))
            }
        }
    }

    fn object(&mut self, at: Mark, depth: usize) -> Read<(Value, Place)> {
        let mut entries = Map::new();
        let mut places = BTreeMap::new();
        self.advance(1);
        self.skip_space();
        if !self.takes('}') {
            loop {
                let key_at = self.mark();
                if !self.rest.starts_with('"') {
                    return Err(
                        self.refuse("not valid JSON: expected a key in double quotes".to_owned())
                    );
                }
                let key = self.string()?;
                if places.contains_key(&key) {
                    return Err(Refused {
                        at: key_at,
                        message: format!("duplicate key `{}`", shown(&key)),
                    });
                }
                self.skip_space();
                self.expect(':')?;
                self.skip_space();
                let outside = std::mem::take(&mut self.path);
                self.path = outside.key(&key);
                let (value, place) = self.value(depth + 1)?;
                self.path = outside;
                entries.insert(key.clone(), value);
                places.insert(key, (key_at, place));
                self.skip_space();
                if self.takes('}') {
                    break;
                }
                self.expect(',')?;
                self.skip_space();
            }
        }
        Ok((
            Value::Object(entries),
            Place {
                at,
                children: Children::Map(places),
            },
        ))
    }

    fn list(&mut self, at: Mark, depth: usize) -> Read<(Value, Place)> {
        let mut items = Vec::new();
        let mut places = Vec::new();
        self.advance(1);
        self.skip_space();
        if !self.takes(']') {
            loop {
                let outside = std::mem::take(&mut self.path);
                self.path = outside.index(items.len());
                let (value, place) = self.value(depth + 1)?;
                self.path = outside;
                items.push(value);
                places.push(place);
                self.skip_space();
                if self.takes(']') {
                    break;
                }
                self.expect(',')?;
                self.skip_space();
            }
        }
        Ok((
            Value::Array(items),
            Place {
                at,
                children: Children::List(places),
            },
        ))
    }

    fn string(&mut self) -> Read<String> {
        let mut escaped = false;
        let end = self.rest.bytes().enumerate().skip(1).find(|(_, byte)| {
            let closes = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            closes
        });
        let Some((end, _)) = end else {
            return Err(self.refuse("not valid JSON: the text is not closed".to_owned()));
        };
        let written = self.rest.get(..=end).unwrap_or_default();
        match serde_json::from_str(written) {
            Ok(text) => {
                self.advance(end + 1);
                Ok(text)
            }
            Err(_) => Err(self.refuse(
                "not valid JSON: the text contains an invalid escape or a control character"
                    .to_owned(),
            )),
        }
    }

    fn number(&mut self) -> Read<Number> {
        let end = self
            .rest
            .find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'));
        let written = self
            .rest
            .get(..end.unwrap_or(self.rest.len()))
            .unwrap_or_default();
        match serde_json::from_str(written) {
            Ok(number) => {
                self.advance(written.len());
                Ok(number)
            }
            Err(_) => Err(self.refuse(format!(
                "not valid JSON: `{}` is not a number",
                shown(written)
            ))),
        }
    }

    fn expect(&mut self, character: char) -> Read<()> {
        if self.takes(character) {
            return Ok(());
        }
        let found = match self.rest.chars().next() {
            Some(found) => format!("found `{}`", found.escape_debug()),
            None => "the file ends".to_owned(),
        };
        Err(self.refuse(format!("not valid JSON: expected `{character}`, {found}")))
    }

    fn takes(&mut self, character: char) -> bool {
        let takes = self.rest.starts_with(character);
        if takes {
            self.advance(character.len_utf8());
        }
        takes
    }

    fn skip_space(&mut self) {
        let space = self.rest.len() - self.rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
        self.advance(space);
    }

    fn advance(&mut self, bytes: usize) {
        let (passed, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        match passed.rsplit_once('\n') {
            Some((before, after)) => {
                self.line += before.matches('\n').count() + 1;
                self.column = after.chars().count() + 1;
            }
            None => self.column += passed.chars().count(),
        }
        self.rest = rest;
    }

    fn mark(&self) -> Mark {
        Mark {
            line: self.line,
            column: self.column,
        }
    }

    fn refuse(&self, message: String) -> Refused {
        Refused {
            at: self.mark(),
            message,
        }
    }
}
