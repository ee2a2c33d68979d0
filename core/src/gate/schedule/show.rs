//! Freezes in words.

use std::fmt;

use jiff::Timestamp;

use super::{Cause, Freeze, Frozen, Until};
use crate::calendar::Zone;

impl Freeze {
    /// An instant in the freeze's zone, with the offset that is valid then, and in UTC.
    pub fn show(&self, at: Timestamp) -> String {
        let utc = in_utc(at);
        match self.zone() {
            Some(zone) if zone.name() != "UTC" => {
                format!("{} {} ({utc})", zone.show(at), zone.name())
            }
            _ => utc,
        }
    }

    /// An instant in the freeze's zone, for places with little room.
    pub fn show_short(&self, at: Timestamp) -> String {
        match self.zone() {
            Some(zone) if zone.name() != "UTC" => zone.show(at),
            _ => in_utc(at),
        }
    }
}

fn in_utc(at: Timestamp) -> String {
    let local = Zone::utc().local(at);
    let format = match local.second() {
        0 => "%Y-%m-%d %H:%M UTC",
        _ => "%Y-%m-%d %H:%M:%S UTC",
    };
    local.strftime(format).to_string()
}

impl Frozen<'_> {
    /// When it ends.
    pub fn show_until(&self) -> String {
        match self.until {
            Until::At(end) => format!("until {}", self.freeze.show(end)),
            Until::After(end) => format!("beyond {}", self.freeze.show(end)),
            Until::Unknown => "until when is unknown, asked again every minute".to_owned(),
        }
    }
}

impl fmt::Display for Frozen<'_> {
    /// Its name, why, and until when.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Freeze { name, reason, .. } = self.freeze;
        let until = self.show_until();
        match &self.cause {
            Cause::Window { what: None } => write!(f, "`{name}` ({reason}) {until}"),
            Cause::Window { what: Some(what) } => write!(f, "`{name}` ({reason}: {what}) {until}"),
            Cause::Stale { why } => write!(f, "`{name}` ({reason}): {why}; until when is unknown"),
        }
    }
}
