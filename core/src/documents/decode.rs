//! Decodes a document into its type. The types report errors that a schema cannot express (an invalid key, an invalid pattern);
//! the path of the decoded value is tracked, so that such an error has a place.

use std::cell::RefCell;

use schemars::JsonSchema;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess,
    SeqAccess, Visitor,
};
use serde_json::Value;

use super::{Document, Path, Problem, Step, check};

/// An error in a value, with the path below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The path below the value.
    pub path: Path,
    /// The error, as a sentence.
    pub message: String,
}

/// Checks a document against the schema of its type, and decodes it.
///
/// # Errors
/// All problems that the schema finds; without any, the first error of the type.
pub fn decode<T: DeserializeOwned + JsonSchema>(document: &Document) -> Result<T, Vec<Problem>> {
    let problems = check(document, &schemars::schema_for!(T));
    if !problems.is_empty() {
        return Err(problems);
    }
    decode_value(&document.value).map_err(|fault| vec![document.problem(fault.path, fault.message)])
}

/// Decodes a value, without checking it against a schema.
///
/// # Errors
/// The first error of the type.
pub fn decode_value<T: DeserializeOwned>(value: &Value) -> Result<T, Fault> {
    let trail = RefCell::new(None);
    T::deserialize(Tracked {
        value,
        path: &Trail::Root,
        failed: &trail,
    })
    .map_err(|error| Fault {
        path: trail.take().unwrap_or_default(),
        message: error.to_string(),
    })
}

/// A value that records the path of the first error, which is the innermost one.
#[derive(Clone, Copy)]
struct Tracked<'de, 'a> {
    value: &'de Value,
    path: &'a Trail<'a>,
    failed: &'a RefCell<Option<Path>>,
}

/// A path as a linked list on the stack, so that going deeper does not allocate.
enum Trail<'a> {
    Root,
    Key(&'a Trail<'a>, &'a str),
    Index(&'a Trail<'a>, usize),
}

impl Trail<'_> {
    fn steps(&self, out: &mut Vec<Step>) {
        match self {
            Trail::Root => {}
            Trail::Key(outside, key) => {
                outside.steps(out);
                out.push(Step::Key((*key).to_owned()));
            }
            Trail::Index(outside, index) => {
                outside.steps(out);
                out.push(Step::Index(*index));
            }
        }
    }
}

impl Tracked<'_, '_> {
    fn noting<T>(&self, outcome: Result<T, serde_json::Error>) -> Result<T, serde_json::Error> {
        if outcome.is_err() && self.failed.borrow().is_none() {
            let mut steps = Vec::new();
            self.path.steps(&mut steps);
            *self.failed.borrow_mut() = Some(steps.into_iter().collect());
        }
        outcome
    }
}

impl<'de> Deserializer<'de> for Tracked<'de, '_> {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        let Tracked {
            value,
            path,
            failed,
        } = self;
        let outcome = match value {
            Value::Object(entries) => visitor.visit_map(Entries {
                rest: entries.iter(),
                next: None,
                path,
                failed,
            }),
            Value::Array(items) => visitor.visit_seq(Items {
                rest: items.iter().enumerate(),
                path,
                failed,
            }),
            leaf => leaf.deserialize_any(visitor),
        };
        self.noting(outcome)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        let outcome = self.value.deserialize_enum(name, variants, visitor);
        self.noting(outcome)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

struct Entries<'de, 'a> {
    rest: serde_json::map::Iter<'de>,
    next: Option<(&'de str, &'de Value)>,
    path: &'a Trail<'a>,
    failed: &'a RefCell<Option<Path>>,
}

impl<'de> MapAccess<'de> for Entries<'de, '_> {
    type Error = serde_json::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Self::Error> {
        let Some((key, value)) = self.rest.next() else {
            return Ok(None);
        };
        self.next = Some((key, value));
        seed.deserialize(key.as_str().into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, Self::Error> {
        let (key, value) = self
            .next
            .take()
            .ok_or_else(|| serde_json::Error::custom("a value without a key"))?;
        let path = &Trail::Key(self.path, key);
        let tracked = Tracked {
            value,
            path,
            failed: self.failed,
        };
        tracked.noting(seed.deserialize(tracked))
    }
}

struct Items<'de, 'a> {
    rest: std::iter::Enumerate<std::slice::Iter<'de, Value>>,
    path: &'a Trail<'a>,
    failed: &'a RefCell<Option<Path>>,
}

impl<'de> SeqAccess<'de> for Items<'de, '_> {
    type Error = serde_json::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Self::Error> {
        let Some((index, value)) = self.rest.next() else {
            return Ok(None);
        };
        let path = &Trail::Index(self.path, index);
        let tracked = Tracked {
            value,
            path,
            failed: self.failed,
        };
        tracked.noting(seed.deserialize(tracked)).map(Some)
    }
}
