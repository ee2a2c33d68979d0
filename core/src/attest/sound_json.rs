//! JSON that every reader understands in the same way: bounded, UTF-8, no key twice, nothing after it.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};

use super::unaccepted::{self, Unaccepted};

/// The largest document, in bytes.
const MAXIMUM_BYTES: usize = 4 << 20;
/// The deepest nesting.
const MAXIMUM_DEPTH: usize = 64;

/// Checks that `bytes` are such JSON.
///
/// # Errors
/// What is wrong with them; `what` names them.
pub(super) fn unambiguous<'a>(bytes: &'a [u8], what: &str) -> Result<&'a str, Unaccepted> {
    if bytes.len() > MAXIMUM_BYTES {
        return Err(Unaccepted::new(
            unaccepted::TOO_LARGE,
            format!("{what} is larger than {MAXIMUM_BYTES} bytes"),
        ));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|_| Unaccepted::new(unaccepted::MALFORMED, format!("{what} is not UTF-8 text")))?;
    let malformed = |error: serde_json::Error| {
        Unaccepted::new(
            unaccepted::MALFORMED,
            format!("{what} is not sound JSON: {error}"),
        )
    };
    let mut reader = serde_json::Deserializer::from_str(text);
    Sound { depth: 0 }
        .deserialize(&mut reader)
        .map_err(malformed)?;
    reader.end().map_err(malformed)?;
    Ok(text)
}

/// Walks JSON and keeps nothing of it.
#[derive(Clone, Copy)]
struct Sound {
    depth: usize,
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
        while items
            .next_element_seed(Sound {
                depth: self.depth + 1,
            })?
            .is_some()
        {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut keys = BTreeSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            entries.next_value_seed(Sound {
                depth: self.depth + 1,
            })?;
            if keys.contains(&key) {
                return Err(de::Error::custom(format!(
                    "the key `{key}` stands there twice"
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
        unambiguous(text.as_bytes(), "it")
            .err()
            .map(|why| why.reason.id)
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
