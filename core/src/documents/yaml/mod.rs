//! Reads YAML into documents, from parser events and not through serde, for three reasons: every key and value keeps its place,
//! an invalid document does not hide the next one, and scalars have the values that Kubernetes gives them (`0644` is 420, `no`
//! is a text).
//!
//! `kubectl`, Helm and Argo CD have their own parser for YAML 1.1; the parser here reads YAML 1.2. Text that the two read as
//! different objects is refused, so that the image that is checked is the image that is applied. The stream is cut into
//! documents in the same way as in those programs. `tests/real/manifests.rs` compares both readings.

mod merge;
mod scalar;
mod stream;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::{Map, Value};
use serde_saphyr::granit_parser::{
    Event, Marker, Parser, ScalarStyle, Span, StrInput, StructureStyle, Tag, options,
};

use super::{
    Children, Document, MAXIMUM_DEPTH, MAXIMUM_PROBLEMS, MAXIMUM_VALUES, Mark, Path, Place,
    Problem, Step, shown,
};
use merge::merge;
use scalar::scalar;
use stream::{BAD_SEPARATOR, Part, ambiguous, parts};

/// The most bytes of text that aliases may repeat in one file.
const MAXIMUM_REPEATED_BYTES: usize = 16 << 20;

/// Reads the documents of `text`, which follows the first `line` lines of its file.
pub(super) fn read(file: &Arc<str>, text: &str, line: usize) -> (Vec<Document>, Vec<Problem>) {
    let mut composer = Composer {
        file,
        line,
        documents: Vec::new(),
        problems: Vec::new(),
        frames: Vec::new(),
        anchors: HashMap::new(),
        values: 0,
        repeated_bytes: 0,
        sound: true,
    };
    for part in parts(text) {
        composer.line = line + part.line;
        if composer.part(&part).is_err() {
            break;
        }
    }
    (composer.documents, composer.problems)
}

struct Composer<'a> {
    file: &'a Arc<str>,
    /// The number of lines of the file before the parsed part.
    line: usize,
    documents: Vec<Document>,
    problems: Vec<Problem>,
    /// The open collections, the outermost first.
    frames: Vec<Frame>,
    /// The complete nodes, by anchor.
    anchors: HashMap<usize, Node>,
    values: usize,
    repeated_bytes: usize,
    /// Whether the current document has no problem so far.
    sound: bool,
}

/// A value with its place. `values` and `bytes` are its size, which each alias of it adds again.
#[derive(Clone)]
struct Node {
    value: Value,
    place: Place,
    values: usize,
    bytes: usize,
}

struct Frame {
    at: Mark,
    anchor: usize,
    values: usize,
    bytes: usize,
    /// Whether it is in flow style (brackets or braces), or within such a collection.
    flow: bool,
    inside: Inside,
}

enum Inside {
    List {
        items: Vec<Value>,
        places: Vec<Place>,
    },
    Map {
        entries: Map<String, Value>,
        places: BTreeMap<String, (Mark, Place)>,
        key: Option<Key>,
        /// The keys that only `<<` has set.
        merged: BTreeSet<String>,
    },
}

enum Key {
    Text(String, Mark),
    /// `<<`
    Merge,
    /// An invalid key. Its value is read and dropped.
    Refused,
}

impl Composer<'_> {
    /// Reads one part of the stream.
    ///
    /// # Errors
    /// If the rest of the file must not be read.
    fn part(&mut self, part: &Part<'_>) -> Result<(), Abandon> {
        self.forget();
        if let Some((at, message)) = ambiguous(part.text) {
            let before = part.text.get(..at).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or_default();
            let column = column.chars().count() + 1;
            let line = self.line + line;
            self.problem(Mark { line, column }, message);
        } else {
            let options = options! {
                emit_comments: false,
                emit_unresolved_aliases: true,
                emit_anchor_events: true,
                flow_nesting_limit: MAXIMUM_DEPTH,
                block_nesting_limit: MAXIMUM_DEPTH,
            };
            self.run(&mut Parser::new_from_str_with_options(part.text, options))?;
        }
        if let Some(line) = part.bad_separator {
            self.forget();
            let line = self.line + line + 1;
            self.problem(Mark { line, column: 1 }, BAD_SEPARATOR.to_owned());
        }
        match self.problems.len() < MAXIMUM_PROBLEMS {
            true => Ok(()),
            false => Err(Abandon::File),
        }
    }

    fn run<'input>(
        &mut self,
        parser: &mut Parser<'input, StrInput<'input>>,
    ) -> Result<(), Abandon> {
        while let Some(next) = parser.next_event() {
            let outcome = match next {
                Ok((event, span)) => self.take(event, span),
                Err(error) => {
                    let message = format!("not valid YAML: {}", error.info().trim());
                    self.problem(self.mark(error.marker()), message);
                    Err(Abandon::Document)
                }
            };
            match outcome {
                Ok(()) => {}
                Err(Abandon::Document) if self.problems.len() < MAXIMUM_PROBLEMS => {
                    self.forget();
                    if !matches!(parser.proceed_next_document(), Ok(true)) {
                        return Ok(());
                    }
                }
                Err(_) => return Err(Abandon::File),
            }
        }
        Ok(())
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Abandon> {
        let at = self.mark(&span.start);
        match event {
            Event::DocumentStart(..) => {
                self.forget();
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                if self.expects_key() {
                    self.count(1, at)?;
                    self.refuse_indicator(&text, style, at);
                    if tag.is_some() {
                        self.problem(
                            at,
                            "a key must not have a tag; write the key in quotes".to_owned(),
                        );
                    }
                    return self.key(&text, style, anchor, at);
                }
                self.refuse_indicator(&text, style, at);
                let value = match scalar(&text, style, tag.as_deref()) {
                    Ok(value) => value,
                    Err(message) => {
                        self.problem(at, message);
                        Value::Null
                    }
                };
                let node = Node {
                    value,
                    place: Place {
                        at,
                        children: Children::None,
                    },
                    values: 1,
                    bytes: text.len(),
                };
                self.count(1, at)?;
                self.finish(node, anchor)
            }
            Event::Anchor(_, name) => {
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
                if !name.chars().all(plain) {
                    let message = format!(
                        "not every reader accepts the anchor `&{}`; use only letters, digits, `-` and `_`",
                        shown(&name)
                    );
                    self.problem(at, message);
                }
                Ok(())
            }
            Event::SequenceStart(style, anchor, tag) => {
                let inside = Inside::List {
                    items: Vec::new(),
                    places: Vec::new(),
                };
                self.open(inside, style, anchor, tag.as_deref(), at)
            }
            Event::MappingStart(style, anchor, tag) => {
                let inside = Inside::Map {
                    entries: Map::new(),
                    places: BTreeMap::new(),
                    key: None,
                    merged: BTreeSet::new(),
                };
                self.open(inside, style, anchor, tag.as_deref(), at)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(id) => self.alias(id, at),
            Event::UnresolvedAlias(name) => {
                self.problem(
                    at,
                    format!("the alias `*{}` does not refer to an anchor", shown(&name)),
                );
                Err(Abandon::Document)
            }
            _ => Ok(()),
        }
    }

    /// Refuses `?` and `:` at the beginning of an unquoted text in flow style. YAML 1.1 reads them as indicators: `{?image: x}` has
    /// the key `image` there.
    fn refuse_indicator(&mut self, text: &str, style: ScalarStyle, at: Mark) {
        let flow = self.frames.last().is_some_and(|frame| frame.flow);
        if flow && style == ScalarStyle::Plain && text.starts_with(['?', ':']) {
            let message = format!(
                "`{}` begins with an indicator, and readers interpret it differently; write it in quotes",
                shown(text)
            );
            self.problem(at, message);
        }
    }

    fn expects_key(&self) -> bool {
        matches!(
            self.frames.last(),
            Some(Frame {
                inside: Inside::Map { key: None, .. },
                ..
            })
        )
    }

    fn key(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        at: Mark,
    ) -> Result<(), Abandon> {
        if anchor != 0 {
            let place = Place {
                at,
                children: Children::None,
            };
            let node = Node {
                value: Value::String(text.to_owned()),
                place,
                values: 1,
                bytes: text.len(),
            };
            self.anchors.insert(anchor, node);
        }
        let mut refusal = None;
        let mut duplicate = None;
        if let Some(Frame {
            inside:
                Inside::Map {
                    places,
                    key,
                    merged,
                    ..
                },
            bytes,
            ..
        }) = self.frames.last_mut()
        {
            *bytes += text.len();
            *key = Some(if style == ScalarStyle::Plain && text == "<<" {
                Key::Merge
            } else if style == ScalarStyle::Plain && matches!(text, "" | "~") {
                refusal = Some("a key is missing before `:`".to_owned());
                Key::Refused
            } else if let (false, Some((first, _))) = (merged.remove(text), places.get(text)) {
                duplicate = Some(format!(
                    "duplicate key `{}`, first in line {}",
                    shown(text),
                    first.line
                ));
                Key::Text(text.to_owned(), at)
            } else {
                Key::Text(text.to_owned(), at)
            });
        }
        if let Some(message) = refusal {
            self.problem(at, message);
        }
        if let Some(message) = duplicate {
            // Kubernetes' readers take the last value, so the document is kept together with the problem.
            let sound = self.sound;
            self.problem(at, message);
            self.sound = sound;
        }
        Ok(())
    }

    fn open(
        &mut self,
        inside: Inside,
        style: StructureStyle,
        anchor: usize,
        tag: Option<&Tag>,
        at: Mark,
    ) -> Result<(), Abandon> {
        let kind = match &inside {
            Inside::List { .. } => "seq",
            Inside::Map { .. } => "map",
        };
        let within_flow = self.frames.last().is_some_and(|frame| frame.flow);
        if self.expects_key() {
            self.problem(
                at,
                "a key must be a text, not a list or an object".to_owned(),
            );
            return Err(Abandon::Document);
        }
        if let Some(tag) =
            tag.filter(|tag| !tag.is_yaml_core_schema_tag(kind) && tag.original() != "!")
        {
            self.problem(
                at,
                format!("the tag `{}` is not supported", shown(&tag.original())),
            );
        }
        if self.frames.len() >= MAXIMUM_DEPTH {
            self.problem(at, format!("nested deeper than {MAXIMUM_DEPTH} levels"));
            return Err(Abandon::Document);
        }
        self.count(1, at)?;
        self.frames.push(Frame {
            at,
            anchor,
            values: 1,
            bytes: 0,
            flow: within_flow || style == StructureStyle::Flow,
            inside,
        });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Abandon> {
        let Some(Frame {
            at,
            anchor,
            values,
            bytes,
            inside,
            ..
        }) = self.frames.pop()
        else {
            return Ok(());
        };
        let (value, children) = match inside {
            Inside::List { items, places } => (Value::Array(items), Children::List(places)),
            Inside::Map {
                entries, places, ..
            } => (Value::Object(entries), Children::Map(places)),
        };
        self.finish(
            Node {
                value,
                place: Place { at, children },
                values,
                bytes,
            },
            anchor,
        )
    }

    fn alias(&mut self, id: usize, at: Mark) -> Result<(), Abandon> {
        let Some(node) = self.anchors.get(&id) else {
            self.problem(
                at,
                "the alias refers to the value that contains it".to_owned(),
            );
            return Err(Abandon::Document);
        };
        let (values, bytes) = (node.values, node.bytes);
        self.repeated_bytes = self.repeated_bytes.saturating_add(bytes);
        if self.repeated_bytes > MAXIMUM_REPEATED_BYTES {
            let message = format!(
                "aliases repeat more than {} MiB",
                MAXIMUM_REPEATED_BYTES >> 20
            );
            self.problem(at, message);
            return Err(Abandon::File);
        }
        self.count(values, at)?;
        let Some(node) = self.anchors.get(&id).cloned() else {
            return Ok(());
        };
        if self.expects_key() {
            return match node.value {
                Value::String(text) => self.key(&text, ScalarStyle::DoubleQuoted, 0, at),
                _ => {
                    self.problem(at, "a key must be a text".to_owned());
                    Err(Abandon::Document)
                }
            };
        }
        self.finish(node, 0)
    }

    /// Adds a complete node to the collection around it; without one, the node is the document.
    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), Abandon> {
        if anchor != 0 {
            // An anchor keeps a copy of its node, so nested anchors multiply the size.
            self.count(node.values, node.place.at)?;
            self.anchors.insert(anchor, node.clone());
        }
        let mut wrong = None;
        match self.frames.last_mut() {
            None => {
                if self.sound && !node.value.is_null() {
                    let file = Arc::clone(self.file);
                    self.documents.push(Document {
                        file,
                        value: node.value,
                        place: node.place,
                    });
                }
            }
            Some(frame) => {
                frame.values += node.values;
                frame.bytes += node.bytes;
                match &mut frame.inside {
                    Inside::List { items, places } => {
                        items.push(node.value);
                        places.push(node.place);
                    }
                    Inside::Map {
                        entries,
                        places,
                        key,
                        merged,
                    } => match key.take() {
                        Some(Key::Text(key, key_at)) => {
                            entries.insert(key.clone(), node.value);
                            places.insert(key, (key_at, node.place));
                        }
                        Some(Key::Merge) => {
                            let at = node.place.at;
                            wrong = match (node.value, node.place) {
                                (value @ Value::Object(_), place) => {
                                    merge(vec![(value, place)], entries, places, merged)
                                }
                                (
                                    Value::Array(items),
                                    Place {
                                        children: Children::List(item_places),
                                        ..
                                    },
                                ) if items.iter().all(Value::is_object) => {
                                    let sources = items.into_iter().zip(item_places).collect();
                                    merge(sources, entries, places, merged)
                                }
                                _ => Some(
                                    "expected an object or a list of objects after `<<`".to_owned(),
                                ),
                            }
                            .map(|message| (at, message));
                        }
                        Some(Key::Refused) | None => {}
                    },
                }
            }
        }
        if let Some((at, message)) = wrong {
            self.problem(at, message);
        }
        Ok(())
    }

    fn count(&mut self, values: usize, at: Mark) -> Result<(), Abandon> {
        self.values = self.values.saturating_add(values);
        if self.values > MAXIMUM_VALUES {
            let message = format!(
                "the file has more than {MAXIMUM_VALUES} values, including those that aliases repeat"
            );
            self.problem(at, message);
            return Err(Abandon::File);
        }
        Ok(())
    }

    fn problem(&mut self, at: Mark, message: String) {
        self.sound = false;
        if self.problems.len() < MAXIMUM_PROBLEMS {
            self.problems
                .push(Problem::at(self.file, at, self.path(), message));
        }
    }

    /// The path of the current value.
    fn path(&self) -> Path {
        let steps = self.frames.iter().filter_map(|frame| match &frame.inside {
            Inside::List { items, .. } => Some(Step::Index(items.len())),
            Inside::Map {
                key: Some(Key::Text(key, _)),
                ..
            } => Some(Step::Key(key.clone())),
            Inside::Map {
                key: Some(Key::Merge),
                ..
            } => Some(Step::Key("<<".to_owned())),
            Inside::Map { .. } => None,
        });
        steps.collect()
    }

    fn mark(&self, marker: &Marker) -> Mark {
        Mark {
            line: self.line + marker.line(),
            column: marker.col() + 1,
        }
    }

    fn forget(&mut self) {
        self.frames.clear();
        self.anchors.clear();
        self.sound = true;
    }
}

/// The part of the input that is not read any further.
enum Abandon {
    Document,
    File,
}
