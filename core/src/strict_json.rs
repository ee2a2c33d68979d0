//! JSON that every reader reads in the same way: of bounded size, in UTF-8, without duplicate keys, without trailing content, and
//! without keys that equal a known key except for case.
//!
//! Go's `encoding/json` ignores case when it matches keys to fields, with Unicode folding, and takes the last of several matches.
//! Runtimes and registry clients are written in Go. If they read another field than the gate, they run something that the gate
//! has not checked.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};

/// The largest document, in bytes (4 MiB), where the reader does not set another bound.
const MAXIMUM_BYTES: usize = 4 << 20;
/// The deepest nesting.
const MAXIMUM_DEPTH: usize = 64;

/// The field names of a document, for all levels together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fields {
    /// The names with a meaning. A key that differs from one of them only by case is refused.
    pub known: &'static [&'static str],
    /// The known names whose values have keys that the writer chooses. Below them, only duplicate keys are refused.
    pub free: &'static [&'static str],
}

/// Why JSON is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StrictJsonError {
    /// It is larger than this number of bytes.
    #[error("is larger than {0} bytes")]
    TooLarge(usize),
    /// It is not UTF-8.
    #[error("is not UTF-8 text")]
    NotText,
    /// It is not JSON, is nested too deep, or is ambiguous.
    #[error("is not valid JSON: {0}")]
    Malformed(String),
}

/// Checks that at most 4 MiB are unambiguous JSON, and returns them as text.
///
/// # Errors
/// Why they are refused, as the end of a sentence.
pub fn unambiguous(bytes: &[u8], fields: Fields) -> Result<&str, StrictJsonError> {
    unambiguous_within(bytes, fields, MAXIMUM_BYTES)
}

/// The same for at most `most` bytes.
///
/// # Errors
/// Why they are refused, as the end of a sentence.
pub fn unambiguous_within(
    bytes: &[u8],
    fields: Fields,
    most: usize,
) -> Result<&str, StrictJsonError> {
    let text = text_within(bytes, most)?;
    let malformed = |error: serde_json::Error| StrictJsonError::Malformed(error.to_string());
    let mut reader = serde_json::Deserializer::from_str(text);
    Unambiguous {
        depth: 0,
        fields: Some(fields),
    }
    .deserialize(&mut reader)
    .map_err(malformed)?;
    reader.end().map_err(malformed)?;
    Ok(text)
}

/// At most `most` bytes as text.
pub(crate) fn text_within(bytes: &[u8], most: usize) -> Result<&str, StrictJsonError> {
    match bytes.len() > most {
        true => Err(StrictJsonError::TooLarge(most)),
        false => std::str::from_utf8(bytes).map_err(|_| StrictJsonError::NotText),
    }
}

/// The known field that equals `key` except for case.
fn folds_onto(key: &str, known: &'static [&'static str]) -> Option<&'static str> {
    let mut fields = known.iter().copied();
    fields.find(|field| *field != key && is_same_key(key, field))
}

/// Whether Go's `encoding/json` reads a key as a field.
pub(crate) fn is_same_key(key: &str, field: &str) -> bool {
    if key.is_ascii() && field.is_ascii() {
        return key.eq_ignore_ascii_case(field);
    }
    field.chars().map(fold).eq(key.chars().map(fold))
}

/// Folds case. Only two characters outside ASCII fold to an ASCII letter (Go's `unicode.SimpleFold`).
fn fold(character: char) -> char {
    match character {
        '\u{212a}' => 'k',
        '\u{17f}' => 's',
        other => other.to_ascii_lowercase(),
    }
}

/// Visits a JSON value and checks its keys, without building the value.
#[derive(Clone, Copy)]
struct Unambiguous {
    depth: usize,
    /// `None` below a free field.
    fields: Option<Fields>,
}

impl Unambiguous {
    fn below(self, fields: Option<Fields>) -> Unambiguous {
        Unambiguous {
            depth: self.depth + 1,
            fields,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Unambiguous {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.depth > MAXIMUM_DEPTH {
            return Err(de::Error::custom("it is nested too deep"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unambiguous {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(self.below(self.fields))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut keys = Keys::default();
        while let Some(is_free) = entries.next_key_seed(NextKey {
            keys: &mut keys,
            fields: self.fields,
        })? {
            let fields = self.fields.filter(|_| !is_free);
            entries.next_value_seed(self.below(fields))?;
        }
        Ok(())
    }
}

/// The hashes of the keys of one object. Two keys with one hash are refused as one key. The hashes have a random seed, so that an
/// attacker cannot construct two keys with one hash (as labels of an image, which a report lists).
#[derive(Default)]
struct Keys {
    seed: RandomState,
    /// Most objects have few keys, which are compared fastest in order.
    few: Vec<u64>,
    many: BTreeSet<u64>,
}

/// The number of keys that are compared in order.
const FEW: usize = 32;

impl Keys {
    /// Adds a key. Returns whether it is new.
    fn insert(&mut self, key: &str) -> bool {
        let hash = self.seed.hash_one(key);
        if self.few.contains(&hash) {
            return false;
        }
        if self.few.len() < FEW {
            self.few.push(hash);
            return true;
        }
        self.many.insert(hash)
    }
}

/// Checks the next key of an object. The value is whether the values below it have keys that the writer chooses.
struct NextKey<'k> {
    keys: &'k mut Keys,
    fields: Option<Fields>,
}

impl<'de> DeserializeSeed<'de> for NextKey<'_> {
    type Value = bool;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NextKey<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<bool, E> {
        if let Some(field) = self.fields.and_then(|it| folds_onto(key, it.known)) {
            return Err(E::custom(format!(
                "the key `{}` is `{field}` in another case",
                key.escape_debug()
            )));
        }
        if !self.keys.insert(key) {
            return Err(E::custom(format!(
                "the key `{}` appears twice",
                key.escape_debug()
            )));
        }
        Ok(self.fields.is_some_and(|it| it.free.contains(&key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(text: &str) -> Option<&'static str> {
        let why = unambiguous(text.as_bytes(), Fields::default()).err()?;
        Some(match why {
            StrictJsonError::TooLarge(_) => "too-large",
            StrictJsonError::NotText => "not-text",
            StrictJsonError::Malformed(_) => "malformed",
        })
    }

    #[test]
    fn json_keys_that_go_confuses_are_refused_at_every_level() {
        let fields = Fields {
            known: &["mediaType", "digest", "os", "annotations"],
            free: &["annotations"],
        };
        let sound = |text: &str| unambiguous(text.as_bytes(), fields).is_ok();
        assert!(sound(
            r#"{"mediaType": 1, "media_type": 2, "a": [{"digest": 3, "os": {"os": 4}}]}"#
        ));
        for key in [
            "MediaType",
            "MEDIATYPE",
            "Digest",
            "o\u{17f}",
            "O\u{17f}",
            "Annotations",
            "annotation\u{17f}",
        ] {
            for text in [
                format!(r#"{{"{key}": 1}}"#),
                format!(r#"{{"a": [{{"b": {{"{key}": 1}}}}]}}"#),
            ] {
                assert!(!sound(&text), "{text}");
            }
        }
        assert!(!sound(r#"{"\u0044igest": 1}"#));
        assert!(sound(r#"{"annotations": {"Digest": "x", "digest": "y"}}"#));
        assert!(!sound(r#"{"annotations": {"a": "x", "a": "y"}}"#));
        assert!(unambiguous(b"{\"a\": \"\xff\"}", fields).is_err());
        assert!(unambiguous(b"\xef\xbb\xbf{}", fields).is_err());
        assert!(!sound(r#"{"a": "\ud800"}"#));
    }

    #[test]
    fn the_largest_document_is_read_and_one_byte_more_is_not() {
        let largest = format!("7{}", " ".repeat(MAXIMUM_BYTES - 1));
        assert_eq!(reason(&largest), None);
        assert_eq!(reason(&format!("{largest} ")), Some("too-large"));
    }

    #[test]
    fn lists_and_objects_nest_as_deep_as_is_read_and_no_deeper() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let nested = |depth: usize| format!("{}7{}", open.repeat(depth), close.repeat(depth));
            assert_eq!(reason(&nested(MAXIMUM_DEPTH)), None, "{open}");
            assert_eq!(
                reason(&nested(MAXIMUM_DEPTH + 1)),
                Some("malformed"),
                "{open}"
            );
        }
    }

    #[test]
    fn only_a_key_of_the_same_object_stands_there_twice() {
        assert_eq!(
            reason(r#"[{"a": {"a": null}}, {"a": [true, 1, -1, 1.5, "a"]}]"#),
            None
        );
        assert_eq!(reason(r#"{"b": {"a": 1, "\u0061": 2}}"#), Some("malformed"));
    }

    #[test]
    fn nobody_can_choose_labels_that_are_taken_for_one_key() {
        let hashes = [0; 8].map(|_| Keys::default().seed.hash_one("label"));
        assert!(hashes.iter().any(|hash| *hash != hashes[0]));
    }

    #[test]
    fn a_key_that_stands_twice_among_many_is_found() {
        let keys = |count: usize, last: &str| {
            let keys: Vec<_> = (0..count).map(|key| format!(r#""{key}": 1"#)).collect();
            format!("{{{}, \"{last}\": 2}}", keys.join(", "))
        };
        for count in [1, FEW - 1, FEW, FEW + 1, 3 * FEW] {
            assert_eq!(reason(&keys(count, "last")), None, "{count}");
            for twice in [0, count / 2, count - 1] {
                let text = keys(count, &twice.to_string());
                assert_eq!(reason(&text), Some("malformed"), "{count}, {twice}");
            }
        }
    }
}
