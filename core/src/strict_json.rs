//! JSON that every reader understands in the same way: bounded, UTF-8, no key twice, nothing after it, and no key that a
//! reader without regard to case would take for another one.
//!
//! Go's `encoding/json` matches keys to fields without regard to case, with Unicode folding, and the last one wins. Runtimes
//! and clients of registries are written in Go; a field that we read in one way and they in another would be checked here
//! and run there.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};

/// The largest document, in bytes.
const MAXIMUM_BYTES: usize = 4 << 20;
/// The deepest nesting.
const MAXIMUM_DEPTH: usize = 64;

/// The field names that readers know, at whatever level.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fields {
    /// Names that mean something. A key that differs from one only by case is refused.
    pub known: &'static [&'static str],
    /// Those of them whose values hold keys of anybody's choice; only repeated keys are refused there.
    pub free: &'static [&'static str],
}

/// Why JSON is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StrictJsonError {
    /// It is larger than 4 MiB.
    #[error("is larger than {MAXIMUM_BYTES} bytes")]
    TooLarge,
    /// It is not UTF-8.
    #[error("is not UTF-8 text")]
    NotText,
    /// It is no JSON, nests too deep, or could be understood in two ways.
    #[error("is not sound JSON: {0}")]
    Malformed(String),
}

/// Checks that `bytes` are such JSON, and gives them as text.
///
/// # Errors
/// What is wrong with them, as the end of a sentence.
pub fn unambiguous(bytes: &[u8], fields: Fields) -> Result<&str, StrictJsonError> {
    if bytes.len() > MAXIMUM_BYTES {
        return Err(StrictJsonError::TooLarge);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| StrictJsonError::NotText)?;
    let malformed = |error: serde_json::Error| StrictJsonError::Malformed(error.to_string());
    let mut reader = serde_json::Deserializer::from_str(text);
    Sound {
        depth: 0,
        fields: Some(fields),
    }
    .deserialize(&mut reader)
    .map_err(malformed)?;
    reader.end().map_err(malformed)?;
    Ok(text)
}

/// The field that a reader without regard to case takes `key` for, where it is written otherwise.
fn folds_onto(key: &str, known: &'static [&'static str]) -> Option<&'static str> {
    let folded = |field: &str| field.chars().map(fold).eq(key.chars().map(fold));
    known
        .iter()
        .copied()
        .find(|field| *field != key && folded(field))
}

/// The characters that Unicode folds onto ASCII letters are these two (Go's `unicode.SimpleFold`).
fn fold(character: char) -> char {
    match character {
        '\u{212a}' => 'k',
        '\u{17f}' => 's',
        other => other.to_ascii_lowercase(),
    }
}

/// Walks JSON and keeps nothing of it.
#[derive(Clone, Copy)]
struct Sound {
    depth: usize,
    /// `None` where keys are of anybody's choice.
    fields: Option<Fields>,
}

impl Sound {
    fn below(self, fields: Option<Fields>) -> Sound {
        Sound {
            depth: self.depth + 1,
            fields,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Sound {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.depth > MAXIMUM_DEPTH {
            return Err(de::Error::custom("it nests too deep"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Sound {
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
        let mut keys = BTreeSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            if let Some(field) = self.fields.and_then(|it| folds_onto(&key, it.known)) {
                return Err(de::Error::custom(format!(
                    "the key `{}` stands for `{field}` in another case",
                    key.escape_debug()
                )));
            }
            let fields = self.fields.filter(|it| !it.free.contains(&key.as_str()));
            entries.next_value_seed(self.below(fields))?;
            if keys.contains(&key) {
                return Err(de::Error::custom(format!(
                    "the key `{}` stands there twice",
                    key.escape_debug()
                )));
            }
            keys.insert(key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(text: &str) -> Option<&'static str> {
        let why = unambiguous(text.as_bytes(), Fields::default()).err()?;
        Some(match why {
            StrictJsonError::TooLarge => "too-large",
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
}
