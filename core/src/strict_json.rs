//! JSON that every reader reads in the same way: of bounded size, in UTF-8, without duplicate keys, without trailing content, and
//! without keys that equal a known key except for case.
//!
//! Go's `encoding/json` ignores case when it matches keys to fields, with Unicode folding, and takes the last of several matches.
//! Runtimes and registry clients are written in Go. If they read another field than the gate, they run something that the gate
//! has not checked.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};

/// The largest document, in bytes (4 MiB).
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
    /// It is larger than 4 MiB.
    #[error("is larger than {MAXIMUM_BYTES} bytes")]
    TooLarge,
    /// It is not UTF-8.
    #[error("is not UTF-8 text")]
    NotText,
    /// It is not JSON, is nested too deep, or is ambiguous.
    #[error("is not valid JSON: {0}")]
    Malformed(String),
}

/// Checks that `bytes` are unambiguous JSON, and returns them as text.
///
/// # Errors
/// Why they are refused, as the end of a sentence.
pub fn unambiguous(bytes: &[u8], fields: Fields) -> Result<&str, StrictJsonError> {
    if bytes.len() > MAXIMUM_BYTES {
        return Err(StrictJsonError::TooLarge);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| StrictJsonError::NotText)?;
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

/// The known field that equals `key` except for case.
fn folds_onto(key: &str, known: &'static [&'static str]) -> Option<&'static str> {
    let mut fields = known.iter().copied();
    fields.find(|field| *field != key && is_same_key(key, field))
}

/// Whether Go's `encoding/json` reads a key as a field.
pub(crate) fn is_same_key(key: &str, field: &str) -> bool {
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
        let mut keys = BTreeSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            if let Some(field) = self.fields.and_then(|it| folds_onto(&key, it.known)) {
                return Err(de::Error::custom(format!(
                    "the key `{}` is `{field}` in another case",
                    key.escape_debug()
                )));
            }
            let fields = self.fields.filter(|it| !it.free.contains(&key.as_str()));
            entries.next_value_seed(self.below(fields))?;
            if keys.contains(&key) {
                return Err(de::Error::custom(format!(
                    "the key `{}` appears twice",
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
