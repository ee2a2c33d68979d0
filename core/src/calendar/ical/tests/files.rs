use super::*;

#[test]
fn an_empty_file_is_not_a_calendar_without_events() {
    for empty in ["", "\n", "\u{feff}", "  \r\n\r\n", "\0"] {
        assert!(read(empty).is_err(), "{empty:?}");
    }
    assert_eq!(
        refused(""),
        "line 1: the file is empty; a calendar begins with `BEGIN:VCALENDAR`"
    );
}

#[test]
fn a_calendar_without_events_is_a_calendar() {
    assert!(read(&calendar("")).unwrap().is_empty());
    assert!(read("BEGIN:VCALENDAR\r\nEND:VCALENDAR").unwrap().is_empty());
}

#[test]
fn an_html_page_is_refused() {
    assert_eq!(
        refused("<!DOCTYPE html>\n<html><body>Sign in</body></html>"),
        "line 1: the file is a web page; check the address that it comes from"
    );
    let behind = format!("{}<html>", calendar(""));
    assert!(refused(&behind).contains("after `END:VCALENDAR` stands `<html>`"));
}

#[test]
fn a_file_that_is_a_secret_is_not_shown() {
    assert_eq!(
        refused("hunter2\n"),
        "line 1: the file does not begin with `BEGIN:VCALENDAR`; check where it comes from"
    );
}

#[test]
fn what_is_not_a_calendar_is_refused() {
    for other in [
        "{\"calendar\": []}",
        "BEGIN:VCARD\nEND:VCARD",
        "BEGIN:VEVENT\nDTSTART:20250101\nEND:VEVENT",
        "VERSION:2.0\nBEGIN:VCALENDAR\nEND:VCALENDAR",
        "END:VCALENDAR",
        "BEGIN:VCALENDAR\nVERSION:1.0\nEND:VCALENDAR",
        "BEGIN:VCALENDAR\nCALSCALE:HEBREW\nEND:VCALENDAR",
        "BEGIN:VCALENDAR\n<html>\nEND:VCALENDAR",
    ] {
        assert!(read(other).is_err(), "{other}");
    }
}

#[test]
fn a_file_that_is_cut_off_is_refused_wherever_the_cut_is() {
    let whole = event("DTSTART:20250101T100000Z\nSUMMARY:Freeze");
    let end = whole.rfind("END:VCALENDAR").unwrap() + "END:VCALENDAR".len();
    for cut in 0..end {
        assert!(read(&whole[..cut]).is_err(), "{}", &whole[..cut]);
    }
    assert!(read(&whole[..end]).is_ok());
    assert_eq!(
        refused("BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART:2025"),
        "line 2: `BEGIN:VEVENT` has no `END:VEVENT`; the file is cut off"
    );
}

#[test]
fn components_that_end_in_the_wrong_order_are_refused() {
    assert_eq!(
        refused("BEGIN:VCALENDAR\nBEGIN:VEVENT\nEND:VCALENDAR\nEND:VEVENT"),
        "line 3: `END:VCALENDAR` stands where `END:VEVENT` is due (begun at line 2)"
    );
}

#[test]
fn an_event_that_stands_in_another_component_is_not_lost() {
    let lines = "BEGIN:X-FOLDER\nBEGIN:VEVENT\nDTSTART:20250101\nEND:VEVENT\nEND:X-FOLDER";
    assert!(refused(&calendar(lines)).contains("`BEGIN:VEVENT` stands inside another component"));
}

#[test]
fn other_components_are_skipped_with_all_that_is_in_them() {
    let lines = "BEGIN:VEVENT\nUID:1\nDTSTART:20250101T100000Z\nBEGIN:VALARM\nTRIGGER:-PT15M\nDURATION:PT9H\nSUMMARY:Alarm\n\
        BEGIN:X-MORE\nDTSTART:20260101\nEND:X-MORE\nno content line\nEND:VALARM\nDURATION:PT1H\nSUMMARY:Event\nEND:VEVENT\n\
        BEGIN:VTODO\nDTSTART:20250202\nEND:VTODO";
    let read = read(&calendar(lines)).unwrap();
    assert_eq!(read[0].summary, "Event");
    assert_eq!(instances(&calendar(lines)), ["2025-01-01 10:00 11:00"]);
}

#[test]
fn a_file_can_hold_several_calendars() {
    let one = event("DTSTART:20250101T100000Z");
    let other = one
        .replace("UID:1", "UID:2")
        .replace("20250101", "20250202");
    let both = format!("{one}\n{other}");
    assert_eq!(
        instances(&both),
        ["2025-01-01 10:00 10:00", "2025-02-02 10:00 10:00"]
    );
}

#[test]
fn lines_are_unfolded_also_within_a_character() {
    let text = "SUMMARY:Änderungs\r\n stopp 🚫 für\r\n\t alle\r\r\n";
    let mut bytes = event(&format!("DTSTART:20250101\n{text}")).into_bytes();
    // A fold within each character of more than one byte.
    let inside: Vec<usize> = (0..bytes.len())
        .filter(|at| bytes[*at] & 0xC0 == 0x80)
        .collect();
    for at in inside.into_iter().rev() {
        bytes.splice(at..at, *b"\r\n ");
    }
    bytes.splice(..0, *b"\xef\xbb\xbf");
    let read = read_calendar(&bytes, &Zone::utc()).unwrap();
    let events = read.events(|_| true).unwrap();
    assert_eq!(events[0].summary, "Änderungsstopp 🚫 für alle");
}

#[test]
fn a_file_in_another_encoding_is_refused() {
    let latin =
        b"BEGIN:VCALENDAR\nBEGIN:VEVENT\nSUMMARY:\xc4nderungsstopp\nEND:VEVENT\nEND:VCALENDAR";
    let problem = read_calendar(latin, &Zone::utc()).unwrap_err();
    assert_eq!(
        problem.to_string(),
        "line 3: the line is not UTF-8; export the calendar in UTF-8"
    );
    let wide: Vec<u8> = calendar("")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    assert!(read_calendar(&wide, &Zone::utc()).is_err());
}

#[test]
fn text_and_parameters_lose_their_escapes() {
    let file = event(
        "DTSTART;X-NOTE=\"a;b:c,d\";X-MORE=x,\"y:z\",^n;TZID=\"Europe/Berlin\":20250601T120000\n\
        SUMMARY;LANGUAGE=en:Freeze\\, all\\; of it\\nand C:\\\\ \\x\nCATEGORIES:Freeze,A\\,B\ncategories:Third,",
    );
    let read = read(&file).unwrap();
    assert_eq!(read[0].summary, "Freeze, all; of it\nand C:\\ \\x");
    assert_eq!(read[0].categories, ["Freeze", "A,B", "Third"]);
    assert_eq!(instances(&file), ["2025-06-01 10:00 10:00"]);
}

#[test]
fn a_line_that_is_none_makes_its_event_unreadable_and_no_other() {
    for (line, why) in [
        (
            "Join the meeting",
            "`Join the meeting` is not a content line: there is no `:` before a value",
        ),
        ("DTSTART;TZID:20250101", "a parameter has no `=`"),
        ("DTEND;B=\"c:d", "a quote is not closed"),
        (": value", "it does not begin with a name"),
        (
            "DTEND;TZID=Europe/Berlin;TZID=Europe/Paris:20250101",
            "it has two values of TZID",
        ),
    ] {
        let lines = format!(
            "BEGIN:VEVENT\nUID:1\nSUMMARY:Broken\nDTSTART:20250101\n{line}\nEND:VEVENT\n\
             BEGIN:VEVENT\nUID:2\nSUMMARY:Freeze\nDTSTART:20250101\nEND:VEVENT"
        );
        let calendar = read_calendar(calendar(&lines).as_bytes(), &Zone::utc()).unwrap();
        let freezes = calendar.events(|event| event.summary == "Freeze").unwrap();
        assert_eq!(freezes.len(), 1);
        let problem = calendar.events(|_| true).unwrap_err();
        assert_eq!(problem.line, 8);
        assert!(
            problem.message.starts_with("event \"Broken\": "),
            "{problem}"
        );
        assert!(problem.message.contains(why), "{problem}");
    }
}

#[test]
fn a_description_with_a_line_break_in_it_harms_nobody() {
    let file = event(
        "DESCRIPTION:Dear all,\n\nplease\n<b>read</b>\nATTENDEE;CN=A\n=B\nSUMMARY:Freeze\nDTSTART;;VALUE=DATE-TIME:20250601T100000Z",
    );
    assert_eq!(instances(&file), ["2025-06-01 10:00 10:00"]);
    // But what can be a part of a date or rule does.
    for lines in [
        "DTSTART:20250601T100000Z\nRDATE:20250602T100000Z,\n20250603T100000Z",
        "DTSTART:20250601T100000Z\nDESCRIPTION:all\nRDATE 20250602T100000Z",
        "plain text\nDTSTART:20250601T100000Z",
        "DTSTART:20250601T100000Z\nBEGIN:VALARM\nEND:VALARM\nplain text",
    ] {
        assert!(read(&event(lines)).is_err(), "{lines}");
    }
}

#[test]
fn the_name_and_the_zone_of_a_calendar_are_read() {
    let file = calendar("X-WR-CALNAME:Freezes\\, all\nX-WR-TIMEZONE:Europe/Berlin");
    let calendar = read_calendar(file.as_bytes(), &Zone::utc()).unwrap();
    assert_eq!(calendar.name.as_deref(), Some("Freezes, all"));
    assert_eq!(calendar.suggested_zone.as_deref(), Some("Europe/Berlin"));
}

#[test]
fn a_file_of_more_than_8_mib_is_refused() {
    let line = format!("X-A:{}\n", "a".repeat(1000));
    let file = calendar(&line.repeat(8 * 1024 * 1024 / line.len() + 1));
    assert!(refused(&file).contains("the file is larger than 8388608 bytes"));
}

#[test]
fn a_file_of_too_many_lines_is_refused() {
    let file = calendar(&"A:\n".repeat(limit::LINES + 1));
    assert!(refused(&file).contains("more than 500000 lines"));
    let folded = calendar(&format!("A:{}", "\n ".repeat(limit::LINES + 1)));
    assert!(refused(&folded).contains("more than 500000 lines"));
}

#[test]
fn an_endless_line_is_refused() {
    for line in ["a".repeat(limit::LINE), "a\n ".repeat(limit::LINE)] {
        let file = calendar(&format!("X-A:{line}"));
        let why = refused(&file);
        assert!(
            why.starts_with("line 4: the unfolded line is longer than"),
            "{why}"
        );
    }
}

#[test]
fn components_nested_too_deep_are_refused() {
    let file = "BEGIN:VCALENDAR\n".to_owned() + &"BEGIN:X-A\n".repeat(100_000);
    assert!(refused(&file).contains("more than 16 components inside each other"));
}

#[test]
fn a_million_events_are_refused() {
    // As many as fit into a file that is read.
    let one = "BEGIN:VEVENT\nEND:VEVENT\n";
    let file = "BEGIN:VCALENDAR\n".to_owned() + &one.repeat(limit::BYTES / one.len() - 10);
    assert!(refused(&file).contains("more than 20000 events"));
}

#[test]
fn too_many_parameters_are_refused() {
    for parameters in [";A=b".repeat(100), format!(";A=b{}", ",c".repeat(100))] {
        let file = event(&format!("DTSTART:20250101\nX-A{parameters}:d"));
        assert!(refused(&file).contains("more than 32 parameters"));
    }
}

#[test]
fn busy_times_in_place_of_events_are_refused() {
    let busy = "BEGIN:VFREEBUSY\nFREEBUSY:20250601T100000Z/PT1H\nEND:VFREEBUSY";
    assert!(refused(&calendar(busy)).contains("busy times in place of events"));
    let beside = format!("{busy}\nBEGIN:VEVENT\nDTSTART:20250601T100000Z\nEND:VEVENT");
    assert!(read(&calendar(&beside)).is_ok());
}

#[test]
fn an_event_whose_summary_cannot_be_read_counts_as_what_everybody_looks_for() {
    for lines in [
        "SUMMARY;LANGUAGE=de Freeze",
        "SUMMARY:Meeting\nabout the freeze",
        "SUMMARY:Meeting\n\nabout\nthe freeze",
        "CATEGORIES:Meeting,\nFreeze",
        "summary Freeze",
        "SUMMARY:Meeting\nSUMMARY:Freeze",
    ] {
        let file = event(&format!("DTSTART:20250601T100000Z\n{lines}"));
        let calendar = read_calendar(file.as_bytes(), &Zone::utc()).unwrap();
        assert!(
            calendar
                .events(|event| event.summary.contains("freeze"))
                .is_err(),
            "{lines}"
        );
    }
    let other = event("SUMMARY:Meeting\nDESCRIPTION:about\nthe freeze\nDTSTART:20250601T100000Z");
    let calendar = read_calendar(other.as_bytes(), &Zone::utc()).unwrap();
    assert!(
        calendar
            .events(|event| event.summary.contains("freeze"))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn an_event_with_an_endless_summary_is_refused() {
    for name in ["SUMMARY", "CATEGORIES", "UID"] {
        let file = event(&format!("DTSTART:20250601\n{name}:{}", "a,".repeat(10_000)));
        let file = file.replacen("UID:1\n", "", usize::from(name == "UID"));
        let calendar = read_calendar(file.as_bytes(), &Zone::utc()).unwrap();
        assert!(
            calendar
                .events(|_| false)
                .unwrap_err()
                .message
                .contains("longer than 4096 bytes")
        );
    }
}

#[test]
fn a_status_that_is_not_clear_is_not_tentative() {
    let file = event("DTSTART:20250601\nSTATUS:TENTATIVE\nSTATUS:CONFIRMED");
    let calendar = read_calendar(file.as_bytes(), &Zone::utc()).unwrap();
    assert!(calendar.events(|event| !event.is_tentative).is_err());
}
