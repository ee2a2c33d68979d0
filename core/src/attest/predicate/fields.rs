//! How the formats of other projects are read: only the fields with a meaning are kept, while the text is read once.
//!
//! A known key that appears twice, or that is written in another case, is refused: another reader could read another value.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use jiff::Timestamp;
use serde::de::{
    self, Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, IgnoredAny, MapAccess,
    SeqAccess, Visitor,
};

use crate::attest::unaccepted::{MALFORMED_PREDICATE, TOO_LARGE, UnacceptedReason};
use crate::strict_json::is_same_key;

/// Begins the error of a list that is longer than its bound.
const TOO_MANY: &str = "more than ";

/// An object of which some fields have a meaning. Its texts can be borrowed from the text that is read.
pub(in crate::attest) trait ReadFields<'de>: Default {
    /// The keys with a meaning; at most 64.
    const NAMES: &'static [&'static str];
    /// The forms of these keys.
    const FORMS: Forms = Forms::of(Self::NAMES);

    /// The place of a key in `NAMES`.
    fn place(key: &str) -> Option<usize> {
        Self::NAMES.iter().position(|name| *name == key)
    }

    /// Reads the value of the key at this place.
    fn read<A: MapAccess<'de>>(&mut self, place: usize, entries: &mut A) -> Result<(), A::Error>;

    /// Skips the value of another key.
    fn skip<A: MapAccess<'de>>(entries: &mut A) -> Result<(), A::Error> {
        entries.next_value::<IgnoredAny>().map(drop)
    }
}

/// The lengths and the first characters of some keys in ASCII, as bits. Most other keys differ in one of them.
#[derive(Clone, Copy)]
pub(in crate::attest) struct Forms {
    /// Lengths of 63 bytes and more share one bit.
    lengths: u64,
    /// A letter has one bit in both cases; everything else shares one bit.
    initials: u32,
}

impl Forms {
    const fn of(mut names: &[&str]) -> Forms {
        let (mut lengths, mut initials) = (0, 0);
        assert!(names.len() <= 64);
        while let [name, others @ ..] = names {
            assert!(name.is_ascii());
            lengths |= Forms::length(name);
            initials |= Forms::initial(name);
            names = others;
        }
        Forms { lengths, initials }
    }

    const fn length(key: &str) -> u64 {
        match key.len() {
            length @ 0..63 => 1 << length,
            _ => 1 << 63,
        }
    }

    const fn initial(key: &str) -> u32 {
        match key.as_bytes() {
            [letter @ b'a'..=b'z', ..] => 1 << (*letter - b'a'),
            [letter @ b'A'..=b'Z', ..] => 1 << (*letter - b'A'),
            _ => 1 << 31,
        }
    }

    /// Whether a key may be one of the keys, or one in another case. Outside of ASCII, U+212A folds to `k` and U+017F to `s`, and both are
    /// longer: so a first character outside of ASCII may be any letter, and the length of such a key says nothing.
    fn may_have(self, key: &str) -> bool {
        let is_begun = self.initials & Forms::initial(key) != 0;
        match key.as_bytes() {
            [first, ..] if first.is_ascii() && !is_begun => false,
            _ => self.lengths & Forms::length(key) != 0 || !key.is_ascii(),
        }
    }
}

/// Declares a struct of which each field is the value of one key. `'de` is the lifetime of the text that is read. With `no lists of`,
/// the value of another key is refused as [`NoListOf`] says.
macro_rules! known_fields {
    ($(#[$of_struct:meta])* $visible:vis struct $name:ident $(<$text:lifetime>)? {
        $($(#[$of_field:meta])* $key:literal => $of:vis $field:ident: $value:ty,)*
    } $(no lists of $elsewhere:ty)?) => {
        $(#[$of_struct])*
        #[derive(Default)]
        $visible struct $name $(<$text>)? {
            $($(#[$of_field])* $of $field: $value,)*
        }

        impl<'de> $crate::attest::predicate::fields::ReadFields<'de> for $name $(<$text>)? {
            const NAMES: &'static [&'static str] = &[$($key),*];

            // The compiler makes a `match` of comparisons that are written out; a search through the names is slower.
            fn place(key: &str) -> Option<usize> {
                let mut places = 0..;
                $(
                    let place = places.next();
                    if key == $key {
                        return place;
                    }
                )*
                None
            }

            fn read<A: serde::de::MapAccess<'de>>(
                &mut self,
                place: usize,
                entries: &mut A,
            ) -> Result<(), A::Error> {
                let mut places = 0..;
                $(
                    if places.next() == Some(place) {
                        self.$field = entries.next_value()?;
                        return Ok(());
                    }
                )*
                Ok(())
            }

            $(
                fn skip<A: serde::de::MapAccess<'de>>(entries: &mut A) -> Result<(), A::Error> {
                    entries
                        .next_value::<$crate::attest::predicate::fields::NoListOf<$elsewhere>>()
                        .map(drop)
                }
            )?
        }
    };
}
pub(super) use known_fields;

/// Reads a predicate from JSON. An error names the field.
pub(super) fn read<T: DeserializeOwned>(text: &str) -> Result<T, UnacceptedReason> {
    if let Ok(read) = serde_json::from_str(text) {
        return Ok(read);
    }
    // The path of the error costs time, so it is only kept for texts with an error.
    let mut reader = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let why = error.into_inner();
        let reason = match why.to_string().starts_with(TOO_MANY) {
            true => TOO_LARGE,
            false => MALFORMED_PREDICATE,
        };
        let detail = format!("the predicate cannot be read: `{path:.120}`: {why}");
        UnacceptedReason::new(reason, detail)
    })
}

/// The error of a list with more than `most` items; `what` is their noun.
pub(super) fn too_many<E: de::Error>(most: usize, what: &str) -> E {
    E::custom(format!("{TOO_MANY}{most} {what}"))
}

/// A value that is read from an object with [`ReadFields`].
#[derive(Default)]
pub(in crate::attest) struct Known<T>(pub(in crate::attest) T);

impl<'de, T: ReadFields<'de>> Deserialize<'de> for Known<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Known<T>, D::Error> {
        from.deserialize_map(Entries(PhantomData)).map(Known)
    }
}

/// The same for a value that counts only if it is an object; what is none is ignored.
#[derive(Default)]
pub(super) struct IfObject<T>(pub(super) Option<T>);

impl<'de, T: ReadFields<'de>> OfAny<'de> for IfObject<T> {
    fn of_object<A: MapAccess<'de>>(mut entries: A) -> Result<IfObject<T>, A::Error> {
        read_entries(&mut entries).map(|read| IfObject(Some(read)))
    }
}

impl<'de, T: ReadFields<'de>> Deserialize<'de> for IfObject<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<IfObject<T>, D::Error> {
        from.deserialize_any(AnyForm(PhantomData))
    }
}

/// An item of a list that is looked at only to see what it is.
pub(super) trait Telling {
    /// Whether it is a finding, by fields that say so only together.
    fn is_finding(&self) -> bool;
}

/// A value that is skipped, unless it is a list with an object that `T` refuses, or with a finding. Only the own keys of the items are
/// looked at; that takes up to half as long again as skipping them does, so it is done for the first `MOST` items.
pub(super) struct NoListOf<T, const MOST: usize = { usize::MAX }>(PhantomData<T>);

impl<T, const MOST: usize> Default for NoListOf<T, MOST> {
    fn default() -> NoListOf<T, MOST> {
        NoListOf(PhantomData)
    }
}

impl<'de, T: ReadFields<'de> + Telling, const MOST: usize> OfAny<'de> for NoListOf<T, MOST> {
    fn of_list<A: SeqAccess<'de>>(mut items: A) -> Result<NoListOf<T, MOST>, A::Error> {
        for _ in 0..MOST {
            match items.next_element::<IfObject<T>>()? {
                None => return Ok(NoListOf::default()),
                Some(IfObject(Some(item))) if item.is_finding() => {
                    return Err(de::Error::custom(NOT_READ));
                }
                Some(IfObject(_)) => {}
            }
        }
        skip_items(items)?;
        Ok(NoListOf::default())
    }
}

impl<'de, T: ReadFields<'de> + Telling, const MOST: usize> Deserialize<'de> for NoListOf<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<NoListOf<T, MOST>, D::Error> {
        from.deserialize_any(AnyForm(PhantomData))
    }
}

const NOT_READ: &str = "findings are not read from this field";

/// Whether a value is an object, a text, or a list with an item.
#[derive(Clone, Copy, Default)]
pub(super) struct HoldsSomething(pub(super) bool);

impl<'de> OfAny<'de> for HoldsSomething {
    fn of_text() -> HoldsSomething {
        HoldsSomething(true)
    }

    fn of_object<A: MapAccess<'de>>(mut entries: A) -> Result<HoldsSomething, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(HoldsSomething(true))
    }

    fn of_list<A: SeqAccess<'de>>(mut items: A) -> Result<HoldsSomething, A::Error> {
        let has_item = items.next_element::<IgnoredAny>()?.is_some();
        skip_items(items)?;
        Ok(HoldsSomething(has_item))
    }
}

impl<'de> Deserialize<'de> for HoldsSomething {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<HoldsSomething, D::Error> {
        from.deserialize_any(AnyForm(PhantomData))
    }
}

/// The value of a key under which findings are not read: it is refused, unless it holds nothing.
#[derive(Default)]
pub(super) struct Misplaced;

impl<'de> Deserialize<'de> for Misplaced {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Misplaced, D::Error> {
        match HoldsSomething::deserialize(from)? {
            HoldsSomething(true) => Err(de::Error::custom(NOT_READ)),
            HoldsSomething(false) => Ok(Misplaced),
        }
    }
}

/// What is made of a value of any form. It is the default, unless a text, an object or a list makes another one.
trait OfAny<'de>: Default {
    fn of_text() -> Self {
        Self::default()
    }

    fn of_object<A: MapAccess<'de>>(mut entries: A) -> Result<Self, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }

    fn of_list<A: SeqAccess<'de>>(items: A) -> Result<Self, A::Error> {
        skip_items(items)?;
        Ok(Self::default())
    }
}

fn skip_items<'de, A: SeqAccess<'de>>(mut items: A) -> Result<(), A::Error> {
    while items.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

struct AnyForm<T>(PhantomData<T>);

impl<'de, T: OfAny<'de>> Visitor<'de> for AnyForm<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<T, A::Error> {
        T::of_object(entries)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<T, A::Error> {
        T::of_list(items)
    }

    fn visit_str<E>(self, _: &str) -> Result<T, E> {
        Ok(T::of_text())
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<T, E> {
        Ok(T::default())
    }
}

struct Entries<T>(PhantomData<T>);

impl<'de, T: ReadFields<'de>> Visitor<'de> for Entries<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<T, A::Error> {
        read_entries(&mut entries)
    }
}

/// Reads the entries of an object.
pub(super) fn read_entries<'de, T: ReadFields<'de>, A: MapAccess<'de>>(
    entries: &mut A,
) -> Result<T, A::Error> {
    let mut read = T::default();
    let mut seen = 0_u64;
    while let Some(place) = entries.next_key_seed(KeyAmong::<T>(PhantomData))? {
        let Some(place) = place else {
            T::skip(entries)?;
            continue;
        };
        let bit = u32::try_from(place).ok();
        let bit = bit.and_then(|place| 1_u64.checked_shl(place));
        let Some(bit) = bit else {
            return Err(de::Error::custom("a key has no place"));
        };
        if seen & bit != 0 {
            let name = T::NAMES.get(place).copied().unwrap_or_default();
            return Err(de::Error::custom(format!("the key `{name}` appears twice")));
        }
        seen |= bit;
        read.read(place, entries)?;
    }
    Ok(read)
}

/// The place of a key among those of an object; `None` for another key.
struct KeyAmong<T>(PhantomData<T>);

impl<'de, T: ReadFields<'de>> DeserializeSeed<'de> for KeyAmong<T> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<usize>, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'de, T: ReadFields<'de>> Visitor<'de> for KeyAmong<T> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<Option<usize>, E> {
        // Most keys are not known: this is nearly all that is done with them.
        if !T::FORMS.may_have(key) {
            return Ok(None);
        }
        if let Some(place) = T::place(key) {
            return Ok(Some(place));
        }
        let is_ascii = key.is_ascii();
        let mut names = T::NAMES.iter();
        let same = names.find(|name| {
            let may_be = !is_ascii || name.len() == key.len();
            may_be && is_same_key(key, name)
        });
        match same {
            Some(name) => Err(E::custom(format!(
                "the key `{}` is `{name}` in another case",
                key.escape_debug()
            ))),
            None => Ok(None),
        }
    }
}

/// What is made of a text.
pub(super) trait OfText: Default {
    fn of(text: &str) -> Self;
}

/// What is made of a text of at most `MOST` bytes. `null` is an empty text, as the scanners write it.
#[derive(Default)]
pub(super) struct Made<T, const MOST: usize>(pub(super) T);

impl<'de, T: OfText, const MOST: usize> Deserialize<'de> for Made<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Made<T, MOST>, D::Error> {
        struct Characters<T, const MOST: usize>(PhantomData<T>);
        impl<T: OfText, const MOST: usize> Visitor<'_> for Characters<T, MOST> {
            type Value = T;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a text of at most {MOST} bytes")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
                match text.len() > MOST {
                    true => Err(E::invalid_length(text.len(), &self)),
                    false => Ok(T::of(text)),
                }
            }
            fn visit_unit<E>(self) -> Result<T, E> {
                Ok(T::of(""))
            }
        }
        from.deserialize_any(Characters::<T, MOST>(PhantomData))
            .map(Made)
    }
}

/// Text of at most `MOST` bytes, on one line.
#[derive(Default)]
pub(super) struct Text<const MOST: usize>(pub(super) Box<str>);

impl<'de, const MOST: usize> Deserialize<'de> for Text<MOST> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Text<MOST>, D::Error> {
        let Made(text) = Made::<Box<str>, MOST>::deserialize(from)?;
        Ok(Text(text))
    }
}

/// Text of at most `MOST` bytes, which is only copied if JSON writes it with escapes. Control characters are kept: they have to be replaced
/// before it is shown.
#[derive(Default)]
pub(super) struct Borrowed<'de, const MOST: usize>(pub(super) Cow<'de, str>);

impl<'de, const MOST: usize> Deserialize<'de> for Borrowed<'de, MOST> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Borrowed<'de, MOST>, D::Error> {
        struct Characters<const MOST: usize>;
        impl<'de, const MOST: usize> Visitor<'de> for Characters<MOST> {
            type Value = Cow<'de, str>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a text of at most {MOST} bytes")
            }
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
                match text.len() > MOST {
                    true => Err(E::invalid_length(text.len(), &self)),
                    false => Ok(Cow::Borrowed(text)),
                }
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Cow<'de, str>, E> {
                match text.len() > MOST {
                    true => Err(E::invalid_length(text.len(), &self)),
                    false => Ok(Cow::Owned(text.to_owned())),
                }
            }
            fn visit_unit<E>(self) -> Result<Cow<'de, str>, E> {
                Ok(Cow::default())
            }
        }
        from.deserialize_any(Characters::<MOST>).map(Borrowed)
    }
}

impl OfText for Box<str> {
    fn of(text: &str) -> Box<str> {
        printable(text).into()
    }
}

/// The text on one line.
fn printable(text: &str) -> Cow<'_, str> {
    // Nearly every text is of printable ASCII characters, which is seen at once.
    let is_plain = |byte| matches!(byte, b' '..=b'~');
    let is_plain = text.bytes().fold(true, |all, byte| all & is_plain(byte));
    match !is_plain && text.contains(char::is_control) {
        true => Cow::Owned(text.replace(char::is_control, "\u{fffd}")),
        false => Cow::Borrowed(text),
    }
}

/// Whether a text with more than white space is there, of any length. `null` is an empty text.
#[derive(Clone, Copy, Default)]
pub(super) struct IsGiven(pub(super) bool);

impl<'de> Deserialize<'de> for IsGiven {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<IsGiven, D::Error> {
        struct Characters;
        impl Visitor<'_> for Characters {
            type Value = IsGiven;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E>(self, text: &str) -> Result<IsGiven, E> {
                Ok(IsGiven(!text.trim().is_empty()))
            }
            fn visit_unit<E>(self) -> Result<IsGiven, E> {
                Ok(IsGiven(false))
            }
        }
        from.deserialize_any(Characters)
    }
}

/// Whether a key is there, with any value.
#[derive(Clone, Copy, Default)]
pub(super) struct IsThere(pub(super) bool);

impl<'de> Deserialize<'de> for IsThere {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<IsThere, D::Error> {
        IgnoredAny::deserialize(from).map(|_| IsThere(true))
    }
}

/// An instant with its offset. An empty text, `null` and the year 1 (Go's zero time) are none.
#[derive(Clone, Copy, Default)]
pub(super) struct Instant(pub(super) Option<Timestamp>);

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Instant, D::Error> {
        let Text(text) = Text::<64>::deserialize(from)?;
        if text.is_empty() || text.starts_with("0001-") {
            return Ok(Instant(None));
        }
        let instant = text.parse().map_err(|_| {
            de::Error::custom(format!(
                "`{text}` is not a time of RFC 3339, such as `2026-12-01T00:00:00Z`"
            ))
        })?;
        Ok(Instant(Some(instant)))
    }
}

/// What is made of the items of a list.
pub(super) trait Gather<'de>: Default {
    type Item: Deserialize<'de>;

    /// Adds an item.
    fn add<E: de::Error>(&mut self, item: Self::Item) -> Result<(), E>;
}

/// A list, of which the items are gathered while it is read. `null` is an empty list, as Go writes it.
#[derive(Default)]
pub(super) struct Gathered<G>(pub(super) G);

impl<'de, G: Gather<'de>> Deserialize<'de> for Gathered<G> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Gathered<G>, D::Error> {
        struct Items<G>(PhantomData<G>);
        impl<'de, G: Gather<'de>> Visitor<'de> for Items<G> {
            type Value = G;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<G, A::Error> {
                gather(items)
            }
            fn visit_unit<E>(self) -> Result<G, E> {
                Ok(G::default())
            }
        }
        from.deserialize_any(Items(PhantomData)).map(Gathered)
    }
}

/// Gathers the items of a list.
pub(super) fn gather<'de, G: Gather<'de>, A: SeqAccess<'de>>(mut items: A) -> Result<G, A::Error> {
    let mut all = G::default();
    while let Some(item) = items.next_element()? {
        all.add(item)?;
    }
    Ok(all)
}

/// At most `MOST` items.
pub(super) struct Most<T, const MOST: usize>(pub(super) Vec<T>);

/// A list of at most `MOST` items.
pub(super) type List<T, const MOST: usize> = Gathered<Most<T, MOST>>;

impl<T, const MOST: usize> Default for Most<T, MOST> {
    fn default() -> Most<T, MOST> {
        Most(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Gather<'de> for Most<T, MOST> {
    type Item = T;

    fn add<E: de::Error>(&mut self, item: T) -> Result<(), E> {
        if self.0.len() == MOST {
            return Err(too_many(MOST, "entries"));
        }
        self.0.push(item);
        Ok(())
    }
}

impl<T, const MOST: usize> IntoIterator for Gathered<Most<T, MOST>> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    known_fields! {
        struct Pair {
            "a" => a: Text<4>,
            "bk" => b: List<Instant, 2>,
        }
    }

    fn refused(text: &str) -> Option<(&'static str, String)> {
        let why = read::<Known<Pair>>(text).err()?;
        Some((why.reason.id, why.detail))
    }

    #[test]
    fn a_field_that_readers_read_differently_is_refused_and_others_are_ignored() {
        let Known(read) = read::<Known<Pair>>(
            r#"{"c": {"A": 1, "A": 2}, "a": "x\ny", "bk": ["", null, ]}"#
                .replace(", ]", "]")
                .as_str(),
        )
        .unwrap_or_default();
        assert_eq!((&*read.a.0, read.b.0.0.len()), ("x\u{fffd}y", 2));
        for (text, place) in [
            (r#"{"a": "x", "a": "y"}"#, "appears twice"),
            (r#"{"A": "x"}"#, "in another case"),
            ("{\"b\u{212a}\": []}", "in another case"),
            (r#"{"a": "12345"}"#, "`a`"),
            (r#"{"a": 7}"#, "`a`"),
            (r#"{"bk": ["yesterday"]}"#, "`bk[0]`"),
            (r#"["a"]"#, "an object"),
        ] {
            let (reason, detail) = refused(text).unwrap_or_default();
            assert_eq!(reason, "malformed-predicate", "{text}");
            assert!(detail.contains(place), "{text}: {detail}");
        }
        let (reason, _) = refused(r#"{"bk": ["", "", ""]}"#).unwrap_or_default();
        assert_eq!(reason, "too-large");
    }

    known_fields! {
        struct Odd {
            "@graph" => graph: IsThere,
            "_type" => kind: IsThere,
            "severity" => severity: IsThere,
            "kind" => kinds: IsThere,
        }
    }

    #[test]
    fn a_key_in_another_case_is_refused_whatever_it_begins_with() {
        for (key, is_refused) in [
            ("\u{17f}everity", true),
            ("\\u017feverity", true),
            ("\u{212a}ind", true),
            ("Kind", true),
            ("@Graph", true),
            ("_Type", true),
            ("severity", false),
            ("@graph", false),
            ("kinds", false),
            ("ſ", false),
            ("$type", false),
            ("", false),
            (&"s".repeat(70), false),
        ] {
            let refused = read::<Known<Odd>>(&format!(r#"{{"{key}": 1}}"#)).is_err();
            assert_eq!(refused, is_refused, "{key}");
        }
    }

    #[test]
    fn the_zero_time_of_go_is_no_time() {
        for (text, is_time) in [
            (r#""2026-11-01T10:00:00.123456789-06:00""#, true),
            (r#""0001-01-01T00:00:00Z""#, false),
            (r#""""#, false),
            ("null", false),
        ] {
            let Ok(Instant(read)) = serde_json::from_str(text) else {
                panic!("{text} is refused");
            };
            assert_eq!(read.is_some(), is_time, "{text}");
        }
    }
}
