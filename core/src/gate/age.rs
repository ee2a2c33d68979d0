//! Lengths of time, as policies write them.

use std::fmt;
use std::str::FromStr;

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

/// A length of time: a whole number and one of `s`, `m`, `h`, `d`, such as `10m`, `24h` or `7d`. A day has 24 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age(SignedDuration);

/// The units, with the seconds of each.
const UNITS: [(char, i64); 4] = [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];
/// The longest age, in seconds: about ten years.
const MAXIMUM: i64 = 3660 * 86_400;

impl Age {
    /// One hour.
    pub const HOUR: Age = Age(SignedDuration::from_hours(1));
    /// Four hours.
    pub const FOUR_HOURS: Age = Age(SignedDuration::from_hours(4));
    /// A day.
    pub const DAY: Age = Age(SignedDuration::from_hours(24));
    /// Two days.
    pub const TWO_DAYS: Age = Age(SignedDuration::from_hours(48));
    /// Two weeks.
    pub const FORTNIGHT: Age = Age(SignedDuration::from_hours(14 * 24));

    /// The length.
    pub fn duration(self) -> SignedDuration {
        self.0
    }
}

impl FromStr for Age {
    type Err = String;

    fn from_str(text: &str) -> Result<Age, String> {
        let parsed = UNITS.iter().find_map(|(unit, seconds)| {
            let number = text.strip_suffix(*unit)?;
            let digits = number.bytes().all(|b| b.is_ascii_digit());
            let number: i64 = digits.then(|| number.parse().ok())??;
            number.checked_mul(*seconds)
        });
        match parsed {
            Some(seconds) if (1..=MAXIMUM).contains(&seconds) => {
                Ok(Age(SignedDuration::from_secs(seconds)))
            }
            Some(_) => Err(format!("`{text}` is not between 1 second and 3660 days")),
            None => Err(format!(
                "`{text}` is not a length of time; write a whole number and `s`, `m`, `h` or `d`, such as `10m` or `7d`"
            )),
        }
    }
}

impl fmt::Display for Age {
    /// The largest unit that gives a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let whole = UNITS.iter().find(|(_, unit)| seconds % unit == 0);
        let (unit, of) = whole.copied().unwrap_or(('s', 1));
        write!(f, "{}{unit}", seconds / of)
    }
}

impl<'de> Deserialize<'de> for Age {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Age, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Age {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Age".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A length of time: a whole number and one of `s`, `m`, `h`, `d`, such as `10m` or `7d`.",
            "type": "string",
            "pattern": "^[0-9]+[smhd]$"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_a_whole_number_with_a_unit() {
        for (text, shown, seconds) in [
            ("10m", "10m", 600),
            ("24h", "1d", 86_400),
            ("7d", "7d", 604_800),
            ("90s", "90s", 90),
            ("60s", "1m", 60),
            ("1s", "1s", 1),
            ("3660d", "3660d", 316_224_000),
        ] {
            let age: Age = text.parse().unwrap();
            assert_eq!(age.duration().as_secs(), seconds);
            assert_eq!(age.to_string(), shown);
        }
        for text in [
            "",
            "d",
            "7",
            "7w",
            "1.5h",
            "-1h",
            "+1h",
            " 1h",
            "1h ",
            "1h30m",
            "0s",
            "3661d",
            "316224001s",
            "9223372036854775807d",
            "١h",
        ] {
            assert!(text.parse::<Age>().is_err(), "{text}");
        }
    }
}
