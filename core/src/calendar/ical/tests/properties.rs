use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

const PIECES: &[&str] = &[
    "BEGIN:",
    "END:",
    "VCALENDAR",
    "VEVENT",
    "VTIMEZONE",
    "STANDARD",
    "DTSTART",
    "DTEND",
    "RRULE:",
    "RDATE",
    "EXDATE",
    "RECURRENCE-ID",
    "DURATION:",
    "UID:1",
    "SEQUENCE:",
    "STATUS:CANCELLED",
    ";TZID=",
    ";VALUE=DATE:",
    ";RANGE=THISANDFUTURE",
    "Europe/Berlin",
    "Zone",
    "TZID:Zone",
    "TZOFFSETFROM:",
    "TZOFFSETTO:",
    "+0100",
    "-2359",
    "FREQ=DAILY;COUNT=3",
    "FREQ=YEARLY",
    ";UNTIL=",
    "20250101",
    "T100000",
    "T240000",
    "Z",
    "99991231",
    "00000101",
    "P1D",
    "PT1H",
    "P99999999W",
    ":",
    ";",
    ",",
    "\"",
    "\\",
    "^",
    "/",
    "\n",
    "\r\n",
    "\n ",
    "\n\t",
    "\u{feff}",
    "ä",
    "\0",
    "-",
    "99999999999999999999",
];

/// A calendar with all that a calendar can have.
const FULL: &str = include_str!("full.ics");

/// Reads, and expands what is read; neither may panic.
fn exercise(bytes: &[u8]) {
    let berlin = Zone::named("Europe/Berlin").unwrap();
    let Ok(calendar) = read_calendar(bytes, &berlin) else {
        return;
    };
    for entry in &calendar.events {
        assert!(entry.problem.is_some() || !entry.event.series.is_empty());
        for series in &entry.event.series {
            let range = Span {
                start: "2024-01-01T00:00Z".parse().unwrap(),
                end: "2027-01-01T00:00Z".parse().unwrap(),
            };
            let spans = series
                .spans(range, &mut Budget::days(10_000))
                .unwrap_or_default();
            assert!(spans.iter().all(|span| span.start <= span.end), "{spans:?}");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..300)) {
        exercise(&bytes);
    }

    #[test]
    fn any_lines_of_an_event_are_read_or_refused(pieces in vec(select(PIECES), 0..40)) {
        exercise(pieces.concat().as_bytes());
        exercise(event(&pieces.concat()).as_bytes());
        exercise(calendar(&pieces.concat()).as_bytes());
    }

    #[test]
    fn a_calendar_with_changed_bytes_is_read_or_refused(
        changes in vec((any::<prop::sample::Index>(), 0..4_u8, select(PIECES)), 1..6)
    ) {
        let mut bytes = FULL.as_bytes().to_vec();
        for (at, kind, piece) in changes {
            let at = at.index(bytes.len());
            let end = bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |end| at + end);
            match kind {
                0 => bytes.truncate(at.max(1)),
                1 => bytes[at] = piece.as_bytes()[0],
                2 => drop(bytes.splice(at..end, piece.bytes())),
                _ => drop(bytes.splice(at..at, piece.bytes())),
            }
        }
        exercise(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Nor does the order of the components.
    #[test]
    fn components_in_any_order_say_the_same(order in Just((0..6).collect::<Vec<usize>>()).prop_shuffle()) {
        let (head, rest) = FULL.split_once("BEGIN:VTIMEZONE").unwrap();
        let blocks: Vec<&str> = rest.split("\nBEGIN:VEVENT").collect();
        let last = blocks[5].trim_end().strip_suffix("END:VCALENDAR").unwrap();
        let block = |at: usize| match at {
            0 => format!("BEGIN:VTIMEZONE{}", blocks[0]),
            5 => format!("BEGIN:VEVENT{}", last.trim_end()),
            _ => format!("BEGIN:VEVENT{}", blocks[at]),
        };
        let blocks: Vec<String> = order.into_iter().map(block).collect();
        let shuffled = format!("{head}{}\nEND:VCALENDAR\n", blocks.join("\n"));
        prop_assert_eq!(instances(&shuffled), instances(FULL));
    }

    /// Line ends and folds say nothing.
    #[test]
    fn a_calendar_that_is_folded_anywhere_says_the_same(width in 1_usize..80, crlf in any::<bool>(), tab in any::<bool>()) {
        let fold = match (crlf, tab) {
            (true, true) => "\r\n\t",
            (true, false) => "\r\n ",
            (false, true) => "\n\t",
            (false, false) => "\n ",
        };
        let mut folded = Vec::new();
        for line in FULL.lines() {
            let pieces: Vec<&[u8]> = line.as_bytes().chunks(width).collect();
            folded.extend(pieces.join(fold.as_bytes()));
            folded.extend(b"\r\n");
        }
        let told = |bytes: &[u8]| {
            let calendar = read_calendar(bytes, &Zone::utc()).unwrap();
            let events = calendar.events(|_| true).unwrap();
            format!("{events:?}")
        };
        prop_assert_eq!(told(&folded), told(FULL.as_bytes()));
    }
}

#[test]
fn the_full_calendar_is_read() {
    assert!(instances(FULL).len() > 10);
}
