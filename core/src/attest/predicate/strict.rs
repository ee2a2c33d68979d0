//! How the predicates of this project are read. A field that this version does not know could restrict what the statement means,
//! so an unknown field, `null`, a list in place of an object, and text or a list over its bound are refused.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};

use crate::attest::unaccepted::{self, UnacceptedReason};
use crate::strict_json::{Fields, unambiguous};

/// The most scopes of a statement.
const SCOPES: usize = 32;
/// The most bytes of a name.
pub(super) const NAME: usize = 253;

/// Reads a predicate from JSON. An error names the field.
pub(super) fn read<T: DeserializeOwned>(text: &str, fields: Fields) -> Result<T, UnacceptedReason> {
    let refused = |why: String| {
        let detail = format!("the predicate {why}");
        UnacceptedReason::new(unaccepted::MALFORMED_PREDICATE, detail)
    };
    let text = unambiguous(text.as_bytes(), fields).map_err(|error| refused(error.to_string()))?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = serde_path_to_error::deserialize::<_, Object<T>>(&mut reader);
    let Object(value) = read.map_err(|error| {
        let path = error.path().to_string();
        refused(format!("cannot be read: `{path}`: {}", error.into_inner()))
    })?;
    Ok(value)
}

/// An estimate of the memory of a predicate, in bytes: a multiple of its length as JSON.
pub(super) fn weight<T: Serialize>(predicate: &T) -> usize {
    struct Length(usize);
    impl std::io::Write for Length {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut length = Length(0);
    let written = serde_json::to_writer(&mut length, predicate);
    written.map_or(usize::MAX, |()| length.0.saturating_mul(4))
}

/// A value that is read from an object only. Derived readers also accept a list of the values.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Object<T>, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = T;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(entries))
            }
        }
        from.deserialize_map(Entries(PhantomData)).map(Object)
    }
}

pub(super) fn object<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Object::deserialize(from).map(|Object(value)| value)
}

/// For an optional object: where the field is present, it is not `null`.
pub(super) fn present_object<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    object(from).map(Some)
}

/// For an optional value: where the field is present, it is not `null`.
pub(super) fn present<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(from).map(Some)
}

/// A list of at most `MOST` objects.
pub(super) fn objects<'de, D, T, const MOST: usize>(from: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let items = values::<D, Object<T>, MOST>(from)?;
    Ok(items.into_iter().map(|Object(item)| item).collect())
}

/// A list of at most `MOST` values.
pub(super) fn values<'de, D, T, const MOST: usize>(from: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Items<T, const MOST: usize>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Items<T, MOST> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MOST} entries")
        }
        fn visit_seq<A: de::SeqAccess<'de>>(self, mut from: A) -> Result<Vec<T>, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = from.next_element()? {
                if items.len() == MOST {
                    return Err(de::Error::custom(format!("more than {MOST} entries")));
                }
                items.push(item);
            }
            Ok(items)
        }
    }
    from.deserialize_seq(Items::<T, MOST>(PhantomData))
}

/// One line of 1 to `MOST` bytes, without spaces at its ends.
pub(super) fn text<'de, D: Deserializer<'de>, const MOST: usize>(
    from: D,
) -> Result<String, D::Error> {
    let text = prose::<D, MOST>(from)?;
    if text.contains(char::is_control) || text.trim() != text {
        return Err(de::Error::custom(
            "the text has control characters, or spaces at its ends",
        ));
    }
    Ok(text)
}

pub(super) fn present_text<'de, D: Deserializer<'de>, const MOST: usize>(
    from: D,
) -> Result<Option<String>, D::Error> {
    text::<D, MOST>(from).map(Some)
}

/// Text of 1 to `MOST` bytes, of several lines.
pub(super) fn prose<'de, D: Deserializer<'de>, const MOST: usize>(
    from: D,
) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    if text.is_empty() || text.len() > MOST {
        return Err(de::Error::custom(format!(
            "expected text of 1 to {MOST} bytes"
        )));
    }
    Ok(text)
}

pub(super) fn present_prose<'de, D: Deserializer<'de>, const MOST: usize>(
    from: D,
) -> Result<Option<String>, D::Error> {
    prose::<D, MOST>(from).map(Some)
}

/// Whether a text is one line of printable characters that is not longer than a name.
pub(super) fn is_sound(text: &String) -> bool {
    (1..=NAME).contains(&text.len()) && !text.contains(char::is_control) && text.trim() == text
}

pub(super) fn scopes<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let scopes = BTreeMap::<String, String>::deserialize(from)?;
    if scopes.len() > SCOPES || !scopes.iter().flat_map(<[_; 2]>::from).all(is_sound) {
        return Err(de::Error::custom(format!(
            "expected at most {SCOPES} scopes, with names and values of 1 to {NAME} printable bytes"
        )));
    }
    Ok(scopes)
}

/// An instant of RFC 3339 alone: other readers must not see another instant.
pub(super) fn instant<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
    let written = text::<D, 64>(from)?;
    let instant = is_rfc_3339(&written)
        .then(|| written.parse().ok())
        .flatten();
    let expected = "expected a time of RFC 3339, such as `2026-12-01T00:00:00Z`";
    instant.ok_or_else(|| de::Error::custom(expected))
}

pub(super) fn present_instant<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Timestamp>, D::Error> {
    instant(from).map(Some)
}

/// `YYYY-MM-DDTHH:MM:SS`, a fraction if any, and `Z` or `±HH:MM`.
fn is_rfc_3339(written: &str) -> bool {
    let is_like = |text: &str, form: &str| {
        let alike = |(byte, of): (u8, u8)| match of {
            b'0' => byte.is_ascii_digit(),
            other => byte == other,
        };
        text.len() == form.len() && text.bytes().zip(form.bytes()).all(alike)
    };
    let Some((time, rest)) = written.split_at_checked(19) else {
        return false;
    };
    let zone = match rest.strip_prefix('.') {
        None => rest,
        Some(fraction) => {
            let zone = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            if !(1..=9).contains(&(fraction.len() - zone.len())) {
                return false;
            }
            zone
        }
    };
    is_like(time, "0000-00-00T00:00:00")
        && !time.ends_with(":60")
        && (zone == "Z" || is_like(zone, "+00:00") || is_like(zone, "-00:00"))
}

/// The digest of a statement, as text.
pub(super) mod digest {
    use serde::de::Error as _;
    use serde::{Deserializer, Serializer};

    use crate::gate::Digest;

    pub(in crate::attest::predicate) fn serialize<S: Serializer>(
        digest: &Digest,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(digest)
    }

    pub(in crate::attest::predicate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Digest, D::Error> {
        let written = super::text::<D, 71>(from)?;
        let digest: Digest = written.parse().map_err(D::Error::custom)?;
        match digest.algorithm() {
            "sha256" => Ok(digest),
            _ => Err(D::Error::custom("expected a SHA-256 digest")),
        }
    }
}

/// The digest of a statement where there may be none. Where the field is present, it is not `null`.
pub(super) mod optional_digest {
    use serde::{Deserializer, Serializer};

    use crate::gate::Digest;

    pub(in crate::attest::predicate) fn serialize<S: Serializer>(
        digest: &Option<Digest>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match digest {
            Some(digest) => to.collect_str(digest),
            None => to.serialize_none(),
        }
    }

    pub(in crate::attest::predicate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Digest>, D::Error> {
        super::digest::deserialize(from).map(Some)
    }
}
