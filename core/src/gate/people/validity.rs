//! From when until when a person or a membership counts.

use std::fmt;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use schemars::JsonSchema;
use serde::Deserialize;

/// A period: from an instant on, and before another one. Each of the two may be open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Validity {
    from: Option<Timestamp>,
    until: Option<Timestamp>,
}

/// A day, or an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Moment {
    /// A day, in UTC.
    Day(Date),
    /// An instant.
    Instant(Timestamp),
}

impl Validity {
    /// A period from the beginning of `from` until the end of `until`: a day counts as a whole, in UTC.
    ///
    /// # Errors
    /// No instant lies in the period.
    pub fn new(from: Option<Moment>, until: Option<Moment>) -> Result<Validity, String> {
        let validity = Validity {
            from: from.map(Moment::begin).transpose()?,
            until: until.map(Moment::end).transpose()?,
        };
        match validity {
            Validity {
                from: Some(from),
                until: Some(until),
            } if from >= until => Err("`from` is not before `until`".to_owned()),
            _ => Ok(validity),
        }
    }

    /// Whether an instant lies in the period.
    pub fn holds_at(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= at) && self.until.is_none_or(|until| at < until)
    }

    /// The first instant of the period.
    pub fn from(&self) -> Option<Timestamp> {
        self.from
    }

    /// The first instant after the period.
    pub fn until(&self) -> Option<Timestamp> {
        self.until
    }

    /// Whether some instant lies in both periods.
    pub(super) fn overlaps(&self, other: &Validity) -> bool {
        let begins_before_end = |one: &Validity, other: &Validity| match (one.from, other.until) {
            (Some(from), Some(until)) => from < until,
            _ => true,
        };
        begins_before_end(self, other) && begins_before_end(other, self)
    }
}

impl fmt::Display for Validity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.from, self.until) {
            (None, None) => f.write_str("always"),
            (Some(from), None) => write!(f, "from {from}"),
            (None, Some(until)) => write!(f, "before {until}"),
            (Some(from), Some(until)) => write!(f, "from {from} and before {until}"),
        }
    }
}

impl Moment {
    fn begin(self) -> Result<Timestamp, String> {
        match self {
            Moment::Instant(at) => Ok(at),
            Moment::Day(day) => day
                .to_zoned(TimeZone::UTC)
                .map(|begin| begin.timestamp())
                .map_err(|_| format!("`{day}` is out of range")),
        }
    }

    /// The first instant after it.
    pub(in crate::gate) fn end(self) -> Result<Timestamp, String> {
        match self {
            Moment::Instant(at) => Ok(at),
            Moment::Day(day) => {
                let next = day.checked_add(1.day());
                let next = next.map_err(|_| format!("`{day}` is out of range"))?;
                Moment::Day(next).begin()
            }
        }
    }
}

impl TryFrom<String> for Moment {
    type Error = String;

    fn try_from(text: String) -> Result<Moment, String> {
        // A date alone; a longer text without an offset could be any of many instants.
        let day = (text.len() == 10).then(|| text.parse().ok()).flatten();
        let instant = || text.parse().ok().map(Moment::Instant);
        let moment = day.map(Moment::Day).or_else(instant).ok_or_else(|| {
            format!(
                "`{text:.80}` is neither a date such as `2026-12-31` (in UTC) nor a time with its offset such as `2026-12-31T18:00:00Z`"
            )
        })?;
        let end = moment.end();
        end.map_err(|_| format!("`{text}` is out of range: the last day is 9999-12-29"))?;
        Ok(moment)
    }
}

impl JsonSchema for Moment {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Moment".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "minLength": 1})
    }
}
