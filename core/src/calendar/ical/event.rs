//! One `VEVENT`: what it is about, which event or instance of an event it is, and its times.

use jiff::Timestamp;
use jiff::civil::{DateTime, Time};

use super::super::{Exclusion, Length, Recurrence, Series, Zone};
use super::component::Component;
use super::line::Line;
use super::value::{Moment, NO_LENGTH, length_between, parse_duration, whole_day};
use super::zones::Zones;
use super::{CalendarProblem, limit, shown};

/// A `VEVENT`.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub heading: Heading,
    /// Whether the heading can be another one.
    pub is_unclear: bool,
    pub content: Result<Content, CalendarProblem>,
}

/// What an event is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Heading {
    pub uid: String,
    pub summary: String,
    pub categories: Vec<String>,
    pub is_tentative: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Content {
    /// Where it begins.
    pub line: usize,
    pub version: Version,
    /// The one instance that it describes, if it does not describe a whole event.
    pub instance: Option<Instance>,
    /// `None`: it is cancelled.
    pub times: Option<Times>,
}

/// Which of two descriptions of an event is newer: the one with the higher sequence, then the one that was written last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    pub sequence: u64,
    stamped: Timestamp,
    modified: Timestamp,
}

/// `RECURRENCE-ID`.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    pub moment: Moment,
    /// Whether all later instances are meant too.
    pub and_future: bool,
}

/// When an event takes place.
#[derive(Clone, Debug)]
pub(super) struct Times {
    pub start: Moment,
    pub length: Length,
    rules: Vec<Recurrence>,
    dates: Vec<(DateTime, Option<Length>)>,
    pub except: Vec<Exclusion>,
}

impl Event {
    pub fn read(component: &Component<'_>, zones: &mut Zones<'_>, floating: &Zone) -> Event {
        let text = |name: &str| component.first(name).map(Line::text).unwrap_or_default();
        let status = component.only("STATUS").ok().flatten();
        let is_status =
            |is: &str| status.is_some_and(|line| line.value.trim().eq_ignore_ascii_case(is));
        let categories = component.all("CATEGORIES").flat_map(Line::texts);
        let heading = Heading {
            uid: text("UID"),
            summary: text("SUMMARY"),
            categories: categories.filter(|category| !category.is_empty()).collect(),
            is_tentative: is_status("TENTATIVE"),
        };
        let texts = [&heading.uid, &heading.summary]
            .into_iter()
            .chain(&heading.categories);
        if texts.map(|text| text.len() + 1).sum::<usize>() > limit::HEADING {
            let most = limit::HEADING;
            let why = format!(
                "UID, SUMMARY and CATEGORIES of an event are longer than {most} bytes; shorten them"
            );
            return Event {
                heading: Heading::default(),
                is_unclear: true,
                content: Err(CalendarProblem::new(component.line, why)),
            };
        }
        let reader = EventReader {
            component,
            zones,
            floating,
        };
        let content = reader.content(is_status("CANCELLED")).map_err(|problem| {
            let name = match (heading.summary.as_str(), heading.uid.as_str()) {
                ("", "") => "without a summary".to_owned(),
                ("", name) | (name, _) => format!("\"{}\"", shown(name)),
            };
            CalendarProblem {
                message: format!("event {name}: {}", problem.message),
                ..problem
            }
        });
        Event {
            heading,
            is_unclear: component.is_unclear || component.only("SUMMARY").is_err(),
            content,
        }
    }
}

struct EventReader<'e, 'a, 'c> {
    component: &'e Component<'a>,
    zones: &'e mut Zones<'c>,
    floating: &'e Zone,
}

impl EventReader<'_, '_, '_> {
    fn content(mut self, is_cancelled: bool) -> Result<Content, CalendarProblem> {
        self.component.is_readable()?;
        for name in ["UID", "SUMMARY", "STATUS"] {
            self.component.only(name)?;
        }
        let instance = match self.component.only("RECURRENCE-ID")? {
            Some(line) => Some(Instance {
                moment: self.moment(line)?,
                and_future: match line.parameter("RANGE") {
                    None => false,
                    Some(range) if range.eq_ignore_ascii_case("THISANDFUTURE") => true,
                    Some(_) => return Err(line.problem("only `RANGE=THISANDFUTURE` is supported")),
                },
            }),
            None => None,
        };
        Ok(Content {
            line: self.component.line,
            version: self.version()?,
            instance,
            times: match is_cancelled {
                true => None,
                false => Some(self.times()?),
            },
        })
    }

    fn version(&self) -> Result<Version, CalendarProblem> {
        let sequence = match self.component.only("SEQUENCE")? {
            Some(line) => line
                .value
                .trim()
                .parse()
                .map_err(|_| line.problem("write a number"))?,
            None => 0,
        };
        let latest = |name| {
            let written = self.component.all(name).filter_map(|line| {
                let moment = Moment::parse(&line.value, false).ok()?;
                Some(moment.instant(self.floating))
            });
            written.max().unwrap_or(Timestamp::MIN)
        };
        Ok(Version {
            sequence,
            stamped: latest("DTSTAMP"),
            modified: latest("LAST-MODIFIED"),
        })
    }

    fn times(&mut self) -> Result<Times, CalendarProblem> {
        let Some(line) = self.component.only("DTSTART")? else {
            let why = "it has no DTSTART; add it";
            return Err(CalendarProblem::new(self.component.line, why));
        };
        let start = self.moment(line)?;
        let length = self.length(&start)?;
        // `EXRULE`, which RFC 5545 has abolished, could only remove instances, and is ignored.
        let mut rules = Vec::new();
        let given = self.component.all("RRULE");
        for line in given.filter(|line| !line.value.trim().is_empty()) {
            let rule = until_at_its_latest(&line.value, &start, self.floating);
            rules.push(rule.parse().map_err(|why| line.problem(format!("{why}")))?);
            if rules.len() > limit::RULES {
                let most = limit::RULES;
                return Err(line.problem(format!("an event can have {most} rules; split it")));
            }
        }
        let (mut dates, mut except) = (Vec::new(), Vec::new());
        for name in ["RDATE", "EXDATE"] {
            for line in self.component.all(name) {
                for text in line.value.split(',').filter(|text| !text.trim().is_empty()) {
                    match name {
                        "RDATE" => dates.extend(self.addition(line, text, &start)?),
                        _ => except.extend(exclusions(
                            &self.parse(line, text)?,
                            &start,
                            self.floating,
                        )),
                    }
                    if dates.len() + except.len() > limit::DATES {
                        let most = limit::DATES;
                        return Err(
                            line.problem(format!("an event can have {most} dates; split it"))
                        );
                    }
                }
            }
        }
        Ok(Times {
            start,
            length,
            rules,
            dates,
            except,
        })
    }

    /// The length. An event with both an end and a duration is as long as the longer one.
    fn length(&mut self, start: &Moment) -> Result<Length, CalendarProblem> {
        let mut lengths = Vec::new();
        if let Some(line) = self.component.only("DTEND")? {
            let end = self.moment(line)?;
            let length = length_between(start, &end, self.floating);
            lengths.push(length.map_err(|why| line.problem(why))?);
        }
        if let Some(line) = self.component.only("DURATION")? {
            let length = parse_duration(&line.value);
            lengths.push(length.map_err(|why| line.problem(why))?);
        }
        let longest = lengths.into_iter().max_by_key(|length| length.at_most());
        let longest = longest.unwrap_or(NO_LENGTH);
        Ok(match start {
            Moment::Date(_) if longest == NO_LENGTH => whole_day(),
            _ => longest,
        })
    }

    /// The instances that an `RDATE` adds.
    fn addition(
        &mut self,
        line: &Line<'_>,
        text: &str,
        start: &Moment,
    ) -> Result<Vec<(DateTime, Option<Length>)>, CalendarProblem> {
        let zone = start.zone(self.floating).clone();
        let (text, end) = match text.split_once('/') {
            Some((text, end)) => (text, Some(end)),
            None => (text, None),
        };
        let moment = self.parse(line, text)?;
        let length = match end {
            Some(end) if end.trim_start().starts_with(['P', '+', '-']) => {
                Some(parse_duration(end).map_err(|why| line.problem(why))?)
            }
            Some(end) => {
                let end = self.parse(line, end)?;
                let length = length_between(&moment, &end, self.floating);
                Some(length.map_err(|why| line.problem(why))?)
            }
            None => None,
        };
        let midnight = Time::midnight();
        Ok(match (start, &moment) {
            // Whether the whole day is meant, or the time of the event on this day, is not clear, so both are.
            (Moment::Local(of) | Moment::Zoned(of, _), Moment::Date(date)) => vec![
                (date.to_datetime(of.time()), length),
                (date.to_datetime(midnight), Some(whole_day())),
            ],
            (Moment::Date(_), _) if moment.written().time() == midnight => {
                vec![(moment.written(), length)]
            }
            _ => vec![(moment.local_in(&zone), length)],
        })
    }

    fn moment(&mut self, line: &Line<'_>) -> Result<Moment, CalendarProblem> {
        self.parse(line, &line.value)
    }

    /// A date or time in a line, with the zone of the line.
    fn parse(&mut self, line: &Line<'_>, text: &str) -> Result<Moment, CalendarProblem> {
        let is_date = line
            .parameter("VALUE")
            .is_some_and(|value| value.eq_ignore_ascii_case("DATE"));
        let moment = Moment::parse(text, is_date).map_err(|why| line.problem(why))?;
        match (moment, line.parameter("TZID")) {
            (Moment::Local(local), Some(tzid)) => {
                let zone = self.zones.named(tzid).map_err(|why| line.problem(why))?;
                Ok(Moment::Zoned(local, zone))
            }
            (moment, _) => Ok(moment),
        }
    }
}

impl Times {
    /// Only the first instance.
    pub fn once(&self, floating: &Zone) -> Series {
        let (zone, start) = (self.start.zone(floating).clone(), self.start.written());
        Series {
            length: self.length,
            ..Series::once(zone, start, start)
        }
    }

    /// The series of these times, before anything is known of single instances that are described elsewhere.
    pub fn series(&self, floating: &Zone) -> Series {
        Series {
            rules: self.rules.clone(),
            dates: self.dates.clone(),
            except: self.except.clone(),
            ..self.once(floating)
        }
    }
}

/// What an `EXDATE` or `RECURRENCE-ID` takes from an event that begins at `start`.
pub(super) fn exclusions(moment: &Moment, start: &Moment, floating: &Zone) -> Vec<Exclusion> {
    let instant = Exclusion::Instant(moment.instant(start.zone(floating)));
    let date = Exclusion::Date(moment.written().date());
    match (start, moment) {
        (_, Moment::Date(_)) => vec![date],
        // The midnight of the event's day in its zone, or in UTC.
        (Moment::Date(_), Moment::Zoned(local, zone)) if *zone == Zone::utc() => {
            match local.time() == Time::midnight() {
                true => vec![date, instant],
                false => vec![instant],
            }
        }
        // Exchange writes days of all-day events as midnights of a zone, which need not be the zone in which they are read.
        (Moment::Date(_), _) => vec![date],
        _ => vec![instant],
    }
}

/// A rule whose `UNTIL` is an instant, of an event that has no zone: it is not clear in which zone the last local time is meant. The
/// later reading counts.
fn until_at_its_latest(rule: &str, start: &Moment, floating: &Zone) -> String {
    let parts = rule.trim().split(';').map(|part| {
        let until = part.split_once('=').filter(|(name, value)| {
            name.trim().eq_ignore_ascii_case("UNTIL") && value.trim_end().ends_with(['Z', 'z'])
        });
        let until = until.and_then(|(_, value)| Moment::parse(value, false).ok());
        let latest = until.map(|until| until.written().max(until.local_in(floating)));
        match (start, latest) {
            (Moment::Date(_), Some(latest)) => format!("UNTIL={}", latest.strftime("%Y%m%d")),
            (Moment::Local(_), Some(latest)) => {
                format!("UNTIL={}", latest.strftime("%Y%m%dT%H%M%S"))
            }
            _ => part.to_owned(),
        }
    });
    parts.collect::<Vec<_>>().join(";")
}
