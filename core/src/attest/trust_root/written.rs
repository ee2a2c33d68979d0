//! Parses files with trust roots (`sigstore_trustroot.proto` of the Sigstore protobuf specifications, in proto3 JSON). A file may
//! have several roots, one a line, as `gh attestation trusted-root` writes them.
//!
//! proto3 JSON allows several spellings: an empty field is absent or `null`, a field has two names (`validFor`, `valid_for`),
//! base64 has two alphabets, and an enumeration is a name or a number. They are normalised to one spelling.

use jiff::Timestamp;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sigstore_trust_root::TrustedRoot;

use crate::strict_json::{Fields, unambiguous};

/// The most roots in one file.
const MAXIMUM_ROOTS: usize = 16;

/// The type of a field.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Bytes,
    Time,
    /// An enumeration, with the names of its first numbers.
    Enumeration(&'static [&'static str]),
    Message(&'static [Field]),
    List(&'static [Field]),
    /// A time of validity; `from` is whether its start is required.
    Window {
        from: bool,
    },
}

/// A field: its name in JSON, its type, and its value if it is absent.
type Field = (&'static str, Kind, Absent);

#[derive(Clone, Copy)]
enum Absent {
    Fine,
    Missing,
    Default(&'static str),
}

use Absent::{Default, Fine, Missing};

const ROOT: &[Field] = &[
    ("mediaType", Kind::Text, Missing),
    ("tlogs", Kind::List(LOG), Fine),
    ("certificateAuthorities", Kind::List(AUTHORITY), Fine),
    ("ctlogs", Kind::List(LOG), Fine),
    ("timestampAuthorities", Kind::List(AUTHORITY), Fine),
];
const LOG: &[Field] = &[
    ("baseUrl", Kind::Text, Default("")),
    // RFC 6962 has only SHA-256.
    (
        "hashAlgorithm",
        Kind::Enumeration(&["SHA2_256", "SHA2_256", "SHA2_384", "SHA2_512"]),
        Default("SHA2_256"),
    ),
    ("publicKey", Kind::Message(PUBLIC_KEY), Missing),
    ("logId", Kind::Message(LOG_ID), Missing),
];
const PUBLIC_KEY: &[Field] = &[
    ("rawBytes", Kind::Bytes, Missing),
    // Not used: the key itself contains its kind.
    (
        "keyDetails",
        Kind::Enumeration(&[]),
        Default("PUBLIC_KEY_DETAILS_UNSPECIFIED"),
    ),
    ("validFor", Kind::Window { from: true }, Fine),
];
const LOG_ID: &[Field] = &[("keyId", Kind::Bytes, Missing)];
const AUTHORITY: &[Field] = &[
    ("subject", Kind::Message(SUBJECT), Fine),
    ("uri", Kind::Text, Default("")),
    ("certChain", Kind::Message(CHAIN), Missing),
    ("validFor", Kind::Window { from: false }, Fine),
];
const SUBJECT: &[Field] = &[
    ("organization", Kind::Text, Fine),
    ("commonName", Kind::Text, Fine),
];
const CHAIN: &[Field] = &[("certificates", Kind::List(CERTIFICATE), Missing)];
const CERTIFICATE: &[Field] = &[("rawBytes", Kind::Bytes, Missing)];
const WINDOW: &[Field] = &[("start", Kind::Time, Fine), ("end", Kind::Time, Fine)];

/// Reads the roots of a file.
///
/// # Errors
/// Why a root cannot be read, with its line or field.
pub(super) fn read(text: &str) -> Result<Vec<TrustedRoot>, String> {
    let mut documents = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    let mut found = Vec::new();
    while let Some(document) = documents.next() {
        let document = document.map_err(|error| format!("it is not JSON: {error}"))?;
        let start = documents.byte_offset().saturating_sub(document.get().len());
        let lines = text.bytes().take(start).filter(|byte| *byte == b'\n');
        found.push((lines.count() + 1, document.get()));
        if found.len() > MAXIMUM_ROOTS {
            return Err(format!("it has more than {MAXIMUM_ROOTS} roots"));
        }
    }
    if found.is_empty() {
        return Err("it is empty".to_owned());
    }
    let several = found.len() > 1;
    let one = |(line, document): (usize, &str)| {
        parse(document).map_err(|why| match several {
            true => format!("the root on line {line}: {why}"),
            false => why,
        })
    };
    found.into_iter().map(one).collect()
}

fn parse(text: &str) -> Result<TrustedRoot, String> {
    unambiguous(text.as_bytes(), Fields::default()).map_err(|error| format!("it {error}"))?;
    let written = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let root = message(written, "", ROOT)?;
    let root: TrustedRoot = serde_json::from_value(root).map_err(|error| error.to_string())?;
    if root.certificate_authorities.is_empty()
        && root.tlogs.is_empty()
        && root.timestamp_authorities.is_empty()
    {
        let why = "it has neither a certificate authority nor a log nor a timestamp authority";
        return Err(why.to_owned());
    }
    Ok(root)
}

fn message(written: Value, place: &str, fields: &[Field]) -> Result<Value, String> {
    let Value::Object(written) = written else {
        return Err(match place {
            "" => "it is not an object".to_owned(),
            place => format!("`{place}` is not an object"),
        });
    };
    let at = |name: &str| match place {
        "" => name.to_owned(),
        place => format!("{place}.{name}"),
    };
    let mut read = Map::new();
    for (key, value) in written {
        let folded = |name: &str| name.replace(['_', '-'], "").to_lowercase();
        let same = |(name, _, _): &&Field| folded(name) == folded(&key);
        // Fields that this version does not know are ignored, as in protobuf.
        let Some((name, _, _)) = fields.iter().find(same) else {
            continue;
        };
        if key != *name && key != proto_name(name) {
            let (key, place) = (key.escape_debug(), at(name));
            return Err(format!("`{place}` is spelled `{key}`; write `{name}`"));
        }
        if read.contains_key(*name) {
            return Err(format!("`{}` appears twice", at(name)));
        }
        read.insert((*name).to_owned(), value);
    }
    read.retain(|_, value| !value.is_null());
    for (name, kind, absent) in fields {
        let value = match (read.remove(*name), absent) {
            (Some(value), _) => field(value, &at(name), *kind)?,
            (None, Fine) => None,
            (None, Default(text)) => Some(Value::from(*text)),
            (None, Missing) => return Err(format!("`{}` is missing", at(name))),
        };
        read.extend(value.map(|value| ((*name).to_owned(), value)));
    }
    Ok(Value::Object(read))
}

/// The one spelling of a field's value; nothing, where it says nothing.
fn field(value: Value, place: &str, kind: Kind) -> Result<Option<Value>, String> {
    let text = |value: Value| match value {
        Value::String(text) => Ok(text),
        _ => Err(format!("`{place}` is not a text")),
    };
    Ok(Some(match kind {
        Kind::Text => text(value)?.into(),
        Kind::Bytes => {
            let text = text(value)?.replace('-', "+").replace('_', "/");
            let text = text.trim_end_matches('=');
            if text.is_empty() {
                return Err(format!("`{place}` is empty"));
            }
            let padding = "=".repeat(text.len().next_multiple_of(4) - text.len());
            format!("{text}{padding}").into()
        }
        Kind::Time => {
            let text = text(value)?;
            // The last days of protobuf's range are later than the last time that `Timestamp` can hold.
            if place.ends_with(".end") && text.starts_with("9999-12-3") {
                return Ok(None);
            }
            let time = text
                .parse::<Timestamp>()
                .map_err(|_| format!("`{place}` is not a time such as `2024-01-31T00:00:00Z`"))?;
            time.to_string().into()
        }
        Kind::Enumeration(names) => match value {
            Value::String(name) if name.ends_with("_UNSPECIFIED") => {
                names.first().copied().unwrap_or(&name).into()
            }
            Value::String(name) => name.into(),
            Value::Number(number) => {
                let name = number
                    .as_u64()
                    .and_then(|number| names.get(usize::try_from(number).ok()?));
                match name {
                    Some(name) => (*name).into(),
                    None if names.is_empty() => number.to_string().into(),
                    None => return Err(format!("`{place}` is `{number}`, which is not known")),
                }
            }
            _ => return Err(format!("`{place}` is neither a name nor a number")),
        },
        Kind::Message(fields) => message(value, place, fields)?,
        Kind::List(fields) => {
            let Value::Array(items) = value else {
                return Err(format!("`{place}` is not a list"));
            };
            let item = |(at, item)| message(item, &format!("{place}[{at}]"), fields);
            let items: Result<Vec<_>, _> = items.into_iter().enumerate().map(item).collect();
            items?.into()
        }
        Kind::Window { from } => {
            let mut window = message(value, place, WINDOW)?;
            match (window.get("start").is_some(), from) {
                (true, _) => {}
                // Without a start, the key would count for entries from before the log was trusted.
                (false, true) => {
                    return Err(format!(
                        "`{place}` does not have a `start`; write the time from which the key of the log is valid"
                    ));
                }
                (false, false) if window.get("end").is_none() => return Ok(None),
                (false, false) => {
                    if let Some(fields) = window.as_object_mut() {
                        fields.insert("start".to_owned(), "0001-01-01T00:00:00Z".into());
                    }
                }
            }
            window
        }
    }))
}

/// The name of a field in the specification: `validFor` is `valid_for`.
fn proto_name(name: &str) -> String {
    let mut written = String::new();
    for character in name.chars() {
        if character.is_ascii_uppercase() {
            written.push('_');
        }
        written.push(character.to_ascii_lowercase());
    }
    written
}
