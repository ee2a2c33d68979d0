//! The values of scalars.

use serde_json::{Number, Value};
use serde_saphyr::granit_parser::{ScalarStyle, Tag};

use crate::documents::shown;

/// The value of a scalar: the core schema of YAML 1.2, and octal numbers with a leading `0` (file modes in Kubernetes).
pub(super) fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    let string = || Ok(Value::String(text.to_owned()));
    let Some(tag) = tag else {
        return if style == ScalarStyle::Plain {
            plain(text)
        } else {
            string()
        };
    };
    let expected = match tag.core_suffix() {
        Some("str") => return string(),
        Some(expected @ ("null" | "bool" | "int" | "float")) => expected,
        None if tag.original() == "!" => return string(),
        _ => {
            return Err(format!(
                "the tag `{}` is not supported",
                shown(&tag.original())
            ));
        }
    };
    let value = plain(text)?;
    let fits = match expected {
        "null" => value.is_null(),
        "bool" => value.is_boolean(),
        "int" => value.is_i64() || value.is_u64(),
        _ => value.is_number(),
    };
    if fits {
        Ok(value)
    } else {
        Err(format!(
            "`{}` does not fit its tag `{}`",
            shown(text),
            tag.original()
        ))
    }
}

fn plain(text: &str) -> Result<Value, String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(
        unsigned,
        ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN"
    ) {
        return Err(format!("`{text}` is not a finite number"));
    }
    Ok(number(text, unsigned).map_or_else(|| Value::String(text.to_owned()), Value::Number))
}

fn number(text: &str, unsigned: &str) -> Option<Number> {
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let negative = text.starts_with('-');
    let (digits, radix) = match unsigned.as_bytes() {
        [b'0', b'x', ..] => (unsigned.get(2..)?, 16),
        [b'0', b'o', ..] => (unsigned.get(2..)?, 8),
        [b'0', b'b', ..] => (unsigned.get(2..)?, 2),
        [b'0', b'0'..=b'9', ..] if unsigned.bytes().all(|b| b.is_ascii_digit()) => {
            (unsigned.get(1..)?, 8)
        }
        _ => (unsigned, 10),
    };
    if !digits.is_empty()
        && digits.chars().all(|c| c.is_digit(radix))
        && let Ok(magnitude) = u64::from_str_radix(digits, radix)
    {
        return match negative {
            false => Some(Number::from(magnitude)),
            true => i64::try_from(-i128::from(magnitude)).ok().map(Number::from),
        };
    }
    if radix != 10 {
        return None;
    }
    // For texts that begin with a digit or a dot, Rust and YAML accept the same grammar:
    // `( [0-9]+ ( \. [0-9]* )? | \. [0-9]+ ) ( [eE] [-+]? [0-9]+ )?`.
    let value: f64 = text.parse().ok()?;
    Number::from_f64(value)
}
