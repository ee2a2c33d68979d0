//! How the lines of a file are nested: calendars, and in them events and time zones. What is of another kind is skipped.

use std::borrow::Cow;

use super::line::{Line, Unfolded};
use super::{CalendarProblem, limit, shown};

/// A component that the reader uses.
#[derive(Debug)]
pub(super) struct Component<'a> {
    pub kind: Kind,
    /// The number of its `BEGIN` line.
    pub line: usize,
    /// The properties that the reader uses, in the order of the file.
    properties: Vec<Line<'a>>,
    pub children: Vec<Component<'a>>,
    /// The first line that is not a content line, and can be a part of a property that the reader uses.
    unreadable: Option<CalendarProblem>,
    /// Whether such a line can be a part of a property that says what an event is about.
    pub is_unclear: bool,
    /// The property before the line that is being read.
    last: String,
}

/// The properties that say what an event is about.
const ABOUT: [&str; 2] = ["SUMMARY", "CATEGORIES"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Calendar,
    Event,
    TimeZone,
    /// `STANDARD` or `DAYLIGHT`.
    Observance,
    /// `VFREEBUSY`.
    BusyTimes,
    Other,
}

impl Kind {
    /// The properties of such a component that the reader uses.
    fn used(self) -> &'static [&'static str] {
        match self {
            Kind::Calendar => &[
                "VERSION",
                "CALSCALE",
                "NAME",
                "X-WR-CALNAME",
                "X-WR-TIMEZONE",
                "TIMEZONE-ID",
            ],
            Kind::Event => &[
                "UID",
                "SUMMARY",
                "CATEGORIES",
                "STATUS",
                "SEQUENCE",
                "DTSTAMP",
                "LAST-MODIFIED",
                "RECURRENCE-ID",
                "DTSTART",
                "DTEND",
                "DURATION",
                "RRULE",
                "RDATE",
                "EXDATE",
            ],
            Kind::TimeZone => &["TZID"],
            Kind::Observance => &["DTSTART", "TZOFFSETFROM", "TZOFFSETTO", "RRULE", "RDATE"],
            Kind::BusyTimes | Kind::Other => &[],
        }
    }
}

/// The calendars of a file. At least one.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Component<'_>>, CalendarProblem> {
    if bytes.len() > limit::BYTES {
        let most = limit::BYTES;
        let message = format!("the file is larger than {most} bytes; export a shorter period");
        return Err(CalendarProblem::new(1, message));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = Reader::default();
    for line in Unfolded::new(bytes) {
        let (number, text) = line?;
        reader.take(number, text)?;
    }
    if let Some((name, open)) = reader.open.last() {
        let message = format!("`BEGIN:{name}` has no `END:{name}`; the file is cut off");
        return Err(CalendarProblem::new(open.line, message));
    }
    if reader.calendars.is_empty() {
        let message = "the file is empty; a calendar begins with `BEGIN:VCALENDAR`";
        return Err(CalendarProblem::new(1, message));
    }
    Ok(reader.calendars)
}

#[derive(Default)]
struct Reader<'a> {
    calendars: Vec<Component<'a>>,
    /// The components that have begun, each within the one before, with their names.
    open: Vec<(String, Component<'a>)>,
    events: usize,
    zones: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, number: usize, text: Cow<'a, str>) -> Result<(), CalendarProblem> {
        let Some((_, open)) = self.open.last_mut() else {
            return self.begin_calendar(number, text);
        };
        let begins_with = |name: &&str| {
            let beginning = text.get(..name.len());
            beginning.is_some_and(|beginning| beginning.eq_ignore_ascii_case(name))
        };
        let last = open.last.as_str();
        let is_of = |names: &[&str]| names.iter().any(begins_with) || names.contains(&last);
        let is_about = is_of(&ABOUT);
        // Many programs write line breaks in descriptions without folding. A description decides nothing, so they are accepted.
        let matters = is_of(open.kind.used()) || matches!(last, "" | "BEGIN");
        let line = match Line::parse(number, text) {
            Ok(line) => line,
            Err(problem) => {
                open.is_unclear |= is_about;
                if matters {
                    open.unreadable.get_or_insert(problem);
                }
                return Ok(());
            }
        };
        open.last.clone_from(&line.name);
        let name = || shown(line.value.trim()).to_ascii_uppercase();
        match line.name.as_str() {
            "BEGIN" => self.begin(number, name()),
            "END" => self.end(number, &name()),
            used if open.kind.used().contains(&used) => {
                open.properties.push(line);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn begin_calendar(&mut self, number: usize, text: Cow<'a, str>) -> Result<(), CalendarProblem> {
        let begin = text.split_once(':').unwrap_or_default();
        let is_begin = |(name, value): (&str, &str)| {
            name.eq_ignore_ascii_case("BEGIN") && value.trim().eq_ignore_ascii_case("VCALENDAR")
        };
        if is_begin(begin) {
            self.open("VCALENDAR".to_owned(), Kind::Calendar, number);
            return Ok(());
        }
        // What is not a calendar can be a secret, and is not shown.
        let message = match (
            self.calendars.is_empty(),
            text.trim_start().starts_with('<'),
        ) {
            (true, true) => {
                "the file is a web page; check the address that it comes from".to_owned()
            }
            (true, false) => {
                "the file does not begin with `BEGIN:VCALENDAR`; check where it comes from"
                    .to_owned()
            }
            (false, _) => format!(
                "after `END:VCALENDAR` stands `{}`, and only another calendar can; export the file again",
                shown(&text)
            ),
        };
        Err(CalendarProblem::new(number, message))
    }

    fn begin(&mut self, number: usize, name: String) -> Result<(), CalendarProblem> {
        let parent = self.open.last().map(|(_, parent)| parent.kind);
        let kind = match (parent, name.as_str()) {
            (Some(Kind::Calendar), "VEVENT") => Kind::Event,
            (_, "VEVENT" | "VCALENDAR") => {
                let message = format!(
                    "`BEGIN:{name}` stands inside another component; end that one before it"
                );
                return Err(CalendarProblem::new(number, message));
            }
            (Some(Kind::Calendar), "VFREEBUSY") => Kind::BusyTimes,
            (Some(Kind::Calendar), "VTIMEZONE") => Kind::TimeZone,
            (Some(Kind::TimeZone), "STANDARD" | "DAYLIGHT") => Kind::Observance,
            _ => Kind::Other,
        };
        self.events += usize::from(kind == Kind::Event);
        self.zones += usize::from(matches!(kind, Kind::TimeZone | Kind::Observance));
        let depth = self.open.len() + 1;
        for (count, most, what) in [
            (self.events, limit::EVENTS, "events"),
            (self.zones, limit::ZONES, "parts of time zones"),
            (depth, limit::DEPTH, "components inside each other"),
        ] {
            if count > most {
                let message =
                    format!("the file has more than {most} {what}; export a shorter period");
                return Err(CalendarProblem::new(number, message));
            }
        }
        self.open(name, kind, number);
        Ok(())
    }

    fn open(&mut self, name: String, kind: Kind, line: usize) {
        let component = Component {
            kind,
            line,
            properties: Vec::new(),
            children: Vec::new(),
            unreadable: None,
            is_unclear: false,
            last: String::new(),
        };
        self.open.push((name, component));
    }

    fn end(&mut self, number: usize, name: &str) -> Result<(), CalendarProblem> {
        let Some((begun, ended)) = self.open.pop() else {
            return Ok(());
        };
        if begun != *name {
            let message = format!(
                "`END:{name}` stands where `END:{begun}` is due (begun at line {})",
                ended.line
            );
            return Err(CalendarProblem::new(number, message));
        }
        match self.open.last_mut() {
            Some(_) if ended.kind == Kind::Other => {}
            Some((_, parent)) => parent.children.push(ended),
            None => self.calendars.push(ended),
        }
        Ok(())
    }
}

impl<'a> Component<'a> {
    /// The first property of a name.
    pub fn first(&self, name: &str) -> Option<&Line<'a>> {
        self.all(name).next()
    }

    /// The properties of a name, in the order of the file.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &Line<'a>> {
        let properties = self.properties.iter();
        properties.filter(move |line| line.name == name)
    }

    /// The property of a name that stands at most once.
    pub fn only(&self, name: &str) -> Result<Option<&Line<'a>>, CalendarProblem> {
        let mut all = self.all(name);
        match (all.next(), all.next()) {
            (_, Some(second)) => Err(second.problem("it stands twice; remove one of them")),
            (first, None) => Ok(first),
        }
    }

    /// # Errors
    /// A line of the component is not a content line.
    pub fn is_readable(&self) -> Result<(), CalendarProblem> {
        self.unreadable.clone().map_or(Ok(()), Err)
    }

    /// # Errors
    /// The calendar is not readable, or of another format.
    pub fn is_supported(&self) -> Result<(), CalendarProblem> {
        self.is_readable()?;
        let mut children = self.children.iter();
        let busy = children.clone().find(|child| child.kind == Kind::BusyTimes);
        if let (Some(busy), false) = (busy, children.any(|child| child.kind == Kind::Event)) {
            let why = "the calendar has busy times in place of events; publish it with its events";
            return Err(CalendarProblem::new(busy.line, why));
        }
        for (name, known) in [("VERSION", "2.0"), ("CALSCALE", "GREGORIAN")] {
            let is_known = |value: &str| value.trim().eq_ignore_ascii_case(known);
            if let Some(other) = self.all(name).find(|line| !is_known(&line.value)) {
                let value = shown(&other.value);
                let why =
                    format!("`{value}` is not supported; export a calendar with `{name}:{known}`");
                return Err(CalendarProblem::new(other.number, why));
            }
        }
        Ok(())
    }
}
