use super::*;

#[test]
fn a_date_without_an_end_is_a_day_of_the_floating_zone() {
    assert_eq!(
        instances(&event("DTSTART;VALUE=DATE:20250601")),
        ["2025-05-31 22:00 2025-06-01 22:00"]
    );
    assert_eq!(
        instances(&event("DTSTART:20250601")),
        ["2025-05-31 22:00 2025-06-01 22:00"]
    );
    // 23 hours.
    assert_eq!(
        instances(&event("DTSTART:20250330")),
        ["2025-03-29 23:00 22:00"]
    );
    assert_eq!(
        instances(&event("DTSTART:20251026")),
        ["2025-10-25 22:00 2025-10-26 23:00"]
    );
}

#[test]
fn a_time_without_an_end_has_no_length() {
    assert_eq!(
        instances(&event("DTSTART:20250601T120000")),
        ["2025-06-01 10:00 10:00"]
    );
}

#[test]
fn an_end_does_not_belong_to_the_event() {
    let file = event("DTSTART;VALUE=DATE:20251224\nDTEND;VALUE=DATE:20251227");
    assert_eq!(instances(&file), ["2025-12-23 23:00 2025-12-26 23:00"]);
    let file = event(
        "DTSTART;TZID=America/New_York:20250701T090000\nDTEND;TZID=Europe/Berlin:20250701T170000",
    );
    assert_eq!(instances(&file), ["2025-07-01 13:00 15:00"]);
}

#[test]
fn an_all_day_event_that_ends_on_its_first_day_is_a_day() {
    let day = ["2025-05-31 22:00 2025-06-01 22:00"];
    for end in [
        "DTEND;VALUE=DATE:20250601",
        "DURATION:P0D",
        "DURATION:PT0S",
        "DTEND;VALUE=DATE:20250602",
        "DURATION:P1D",
    ] {
        let file = event(&format!("DTSTART;VALUE=DATE:20250601\n{end}"));
        assert_eq!(instances(&file), day, "{end}");
    }
}

#[test]
fn an_end_that_is_a_date_includes_its_day() {
    let file = event("DTSTART:20250601T120000Z\nDTEND;VALUE=DATE:20250602");
    assert_eq!(instances(&file), ["2025-06-01 12:00 2025-06-03 00:00"]);
}

#[test]
fn a_date_that_is_written_as_a_midnight_is_a_date() {
    let file = event("DTSTART;VALUE=DATE:20250601T000000\nDTEND;VALUE=DATE:20250603T000000");
    assert_eq!(instances(&file), ["2025-05-31 22:00 2025-06-02 22:00"]);
}

#[test]
fn durations_count_days_by_the_calendar_and_hours_by_the_clock() {
    for (duration, end) in [
        ("PT24H", "2025-03-30 11:00:00"),
        ("P1D", "2025-03-30 10:00:00"),
        ("P1DT1H", "2025-03-30 11:00:00"),
        ("P1W", "2025-04-05 10:00:00"),
        ("+P2DT0H30M15S", "2025-03-31 10:30:15"),
    ] {
        let file = event(&format!(
            "DTSTART;TZID=Europe/Berlin:20250329T120000\nDURATION:{duration}"
        ));
        let range = Span {
            start: "2025-01-01T00:00Z".parse().unwrap(),
            end: "2026-01-01T00:00Z".parse().unwrap(),
        };
        let until = spans_in(&file, range)[0].end;
        assert_eq!(until.strftime("%F %T").to_string(), end, "{duration}");
    }
    for wrong in [
        "",
        "P",
        "PT",
        "-PT1H",
        "P1H",
        "PT1D",
        "1D",
        "P1",
        "PT1H5",
        "P99999999999999999999D",
        "P9999999999W",
        "p1d",
    ] {
        let file = event(&format!("DTSTART:20250601T000000Z\nDURATION:{wrong}"));
        assert!(read(&file).is_err(), "{wrong}");
    }
}

#[test]
fn an_event_that_is_not_clear_is_refused() {
    for (lines, why) in [
        ("SUMMARY:x", "event \"x\": it has no DTSTART; add it"),
        (
            "DTSTART:20250601T120000Z\nDTSTART:20250701T120000Z",
            "DTSTART: it stands twice",
        ),
        (
            "DTSTART:20250601T120000Z\nDTEND:20250601T110000Z",
            "DTEND: the end is before the start",
        ),
        (
            "DTSTART:20250602\nDTEND:20250601",
            "DTEND: the end is before the start",
        ),
        ("DTSTART:20250230", "`20250230` is not a date"),
        ("DTSTART:2025-06-01", "is not a date"),
        ("DTSTART:20250601T1200", "is not a date"),
        ("DTSTART:+2025601T120000", "is not a date"),
        ("DTSTART:２０２５０６０１", "is not a date"),
        ("DTSTART:20250601T250000", "is not a date"),
        (
            "DTSTART:20250601T120000\nSEQUENCE:new",
            "SEQUENCE: write a number",
        ),
        (
            "DTSTART:20250601T120000\nRDATE:tomorrow",
            "RDATE: `tomorrow` is not a date",
        ),
        (
            "DTSTART:20250601T120000\nEXDATE:tomorrow",
            "EXDATE: `tomorrow` is not a date",
        ),
        ("DTSTART:20250601T120000\nRRULE:FREQ=SOMETIMES", "RRULE: "),
        (
            "DTSTART:20250601T120000\nRECURRENCE-ID;RANGE=THISANDPRIOR:20250601T120000",
            "RANGE=THISANDFUTURE",
        ),
    ] {
        let problem = refused(&event(lines));
        assert!(problem.contains(why), "{lines}: {problem}");
        assert!(problem.starts_with("line "), "{problem}");
    }
}

#[test]
fn a_rule_below_daily_is_refused_and_its_event_named() {
    for frequency in ["HOURLY", "MINUTELY", "SECONDLY"] {
        let file = event(&format!(
            "SUMMARY:Freeze\nDTSTART:20250601T120000\nRRULE:FREQ={frequency}"
        ));
        let problem = refused(&file);
        assert!(
            problem.starts_with("line 8: event \"Freeze\": RRULE: "),
            "{problem}"
        );
    }
}

#[test]
fn an_event_of_the_year_9999_is_read() {
    for lines in [
        "DTSTART:99991231T235959Z\nDTEND:99991231T235959Z",
        "DTSTART;VALUE=DATE:99991231",
        "DTSTART;TZID=America/New_York:99991231T235959\nDURATION:P9999D",
        "DTSTART;TZID=Pacific/Kiritimati:00000101T000000\nRRULE:FREQ=YEARLY\nEXDATE:99991231",
        "DTSTART;VALUE=DATE:20250101\nDTEND;VALUE=DATE:99991231",
    ] {
        let everything = Span {
            start: Timestamp::MIN,
            end: Timestamp::MAX,
        };
        let file = event(lines);
        let mut budget = Budget::days(10_000_000);
        for series in &read(&file).unwrap()[0].series {
            assert!(series.spans(everything, &mut budget).is_ok(), "{lines}");
        }
    }
    // The last instant that there is.
    let long = event("DTSTART;VALUE=DATE:20250101\nDTEND;VALUE=DATE:99991231");
    assert_eq!(instances(&long), ["2024-12-31 23:00 9999-12-30 22:00"]);
}

#[test]
fn a_weekly_freeze_keeps_its_weekday_and_its_hours_in_its_zone() {
    let file = event(
        "DTSTART;TZID=Australia/Sydney:20250328T160000\nDTEND;TZID=Australia/Sydney:20250331T080000\n\
        RRULE:FREQ=WEEKLY;BYDAY=FR;COUNT=3",
    );
    assert_eq!(
        instances(&file),
        [
            "2025-03-28 05:00 2025-03-30 21:00",
            "2025-04-04 05:00 2025-04-06 22:00",
            "2025-04-11 06:00 2025-04-13 22:00",
        ]
    );
}

#[test]
fn an_until_of_another_kind_than_the_start_loses_no_instance() {
    for (start, until, number) in [
        (
            "DTSTART;TZID=Europe/Berlin:20250601T120000",
            "20250603T100000Z",
            3,
        ),
        (
            "DTSTART;TZID=Europe/Berlin:20250601T120000",
            "20250603T095959Z",
            2,
        ),
        (
            "DTSTART;TZID=Europe/Berlin:20250601T120000",
            "20250603T120000",
            3,
        ),
        ("DTSTART;TZID=Europe/Berlin:20250601T120000", "20250603", 3),
        (
            "DTSTART;TZID=America/New_York:20250601T200000",
            "20250603",
            3,
        ),
        ("DTSTART:20250601T120000", "20250603T100000Z", 3),
        ("DTSTART:20250601T120000", "20250603T120000Z", 3),
        ("DTSTART;VALUE=DATE:20250601", "20250603", 3),
        // The midnight of the last day in Berlin, and in UTC.
        ("DTSTART;VALUE=DATE:20250601", "20250602T220000Z", 3),
        ("DTSTART;VALUE=DATE:20250601", "20250603T000000Z", 3),
        ("DTSTART;VALUE=DATE:20250601", "20250603T000000", 3),
    ] {
        let file = event(&format!("{start}\nRRULE:FREQ=DAILY;UNTIL={until}"));
        assert_eq!(instances(&file).len(), number, "{start} {until}");
    }
}

#[test]
fn several_rules_and_further_dates_add_up() {
    let file = event(
        "DTSTART;TZID=Europe/Berlin:20250601T120000\nDURATION:PT1H\nRRULE:FREQ=DAILY;COUNT=2\nRRULE:FREQ=WEEKLY;COUNT=2\n\
        RDATE:20250610T100000Z,20250611T100000Z\nRDATE;TZID=America/New_York:20250612T060000\n\
        RDATE;VALUE=PERIOD;TZID=Europe/Berlin:20250613T120000/PT2H,20250614T120000/20250614T150000\n\
        RDATE;VALUE=PERIOD:20250615T100000Z/20250615T140000Z\nEXRULE:FREQ=DAILY",
    );
    assert_eq!(
        instances(&file),
        [
            "2025-06-01 10:00 11:00",
            "2025-06-02 10:00 11:00",
            "2025-06-08 10:00 11:00",
            "2025-06-10 10:00 11:00",
            "2025-06-11 10:00 11:00",
            "2025-06-12 10:00 11:00",
            "2025-06-13 10:00 12:00",
            "2025-06-14 10:00 13:00",
            "2025-06-15 10:00 14:00",
        ]
    );
}

#[test]
fn a_further_date_without_a_time_is_the_event_and_the_whole_day() {
    let file = event(
        "DTSTART;TZID=Europe/Berlin:20250601T230000\nDURATION:PT2H\nRDATE;VALUE=DATE:20250610",
    );
    assert_eq!(
        instances(&file),
        [
            "2025-06-01 21:00 23:00",
            "2025-06-09 22:00 2025-06-10 22:00",
            "2025-06-10 21:00 23:00",
        ]
    );
    let file = event("DTSTART;VALUE=DATE:20250601\nRDATE;TZID=America/New_York:20250610T000000");
    assert_eq!(
        instances(&file).last().unwrap(),
        "2025-06-09 22:00 2025-06-10 22:00"
    );
}

#[test]
fn an_excluded_date_matches_by_instant_or_by_its_date() {
    let zoned = "DTSTART;TZID=America/New_York:20250601T210000";
    let days = "DTSTART;VALUE=DATE:20250601";
    for (start, exclusion, left) in [
        (zoned, "EXDATE:20250603T010000Z", "1,3"),
        (zoned, "EXDATE;TZID=Europe/Berlin:20250603T030000", "1,3"),
        (zoned, "EXDATE;TZID=America/New_York:20250602T210000", "1,3"),
        (zoned, "EXDATE:20250602T210000", "1,3"),
        (zoned, "EXDATE;VALUE=DATE:20250602", "1,3"),
        (zoned, "EXDATE:20250602T210000Z", "1,2,3"),
        (
            zoned,
            "EXDATE;TZID=America/New_York:20250602T200000",
            "1,2,3",
        ),
        (days, "EXDATE;VALUE=DATE:20250602", "1,3"),
        (days, "EXDATE:20250602", "1,3"),
        (days, "EXDATE;TZID=America/New_York:20250602T000000", "1,3"),
        (
            days,
            "EXDATE;TZID=Pacific Standard Time:20250602T000000",
            "1,3",
        ),
        (days, "EXDATE:20250602T000000", "1,3"),
        (days, "EXDATE:20250602T000000Z", "1,3"),
        (days, "EXDATE:20250601T220000Z", "1,3"),
        (days, "EXDATE:20250602T220000Z", "1,2"),
        (days, "EXDATE:20250602T120000Z", "1,2,3"),
        (days, "EXDATE:20250601,20250602,20250603", ""),
        (days, "EXDATE:20250601,\nEXDATE:20250603", "2"),
    ] {
        let file = event(&format!("{start}\n{exclusion}\nRRULE:FREQ=DAILY;COUNT=3"));
        let zone = match start == zoned {
            true => Zone::named("America/New_York").unwrap(),
            false => Zone::named("Europe/Berlin").unwrap(),
        };
        let range = Span {
            start: "2025-01-01T00:00Z".parse().unwrap(),
            end: "2026-01-01T00:00Z".parse().unwrap(),
        };
        let spans = spans_in(&file, range);
        let days = spans
            .iter()
            .map(|span| zone.local(span.start).day().to_string());
        assert_eq!(
            days.collect::<Vec<_>>().join(","),
            left,
            "{start} {exclusion}"
        );
    }
}

#[test]
fn too_many_rules_and_dates_of_an_event_are_refused() {
    let rules = "RRULE:FREQ=DAILY\n".repeat(100);
    let why = refused(&event(&format!("DTSTART:20250101\n{rules}X-A:b")));
    assert!(why.contains("an event can have 20 rules"), "{why}");
    for name in ["RDATE", "EXDATE"] {
        let dates = format!("{name}:20250101{}", ",20250101".repeat(20_000));
        let why = refused(&event(&format!("DTSTART:20250101\n{dates}")));
        assert!(why.contains("an event can have 10000 dates"), "{why}");
    }
}

#[test]
fn an_event_with_an_end_and_a_duration_is_as_long_as_the_longer_one() {
    for (duration, end) in [("PT1H", "12:00"), ("PT3H", "13:00")] {
        let lines =
            format!("DTSTART:20250601T100000Z\nDTEND:20250601T120000Z\nDURATION:{duration}");
        assert_eq!(
            instances(&event(&lines)),
            [format!("2025-06-01 10:00 {end}")]
        );
    }
}

#[test]
fn a_moment_has_no_length_also_where_a_local_time_occurs_twice() {
    for end in ["", "\nDTEND;TZID=Europe/Berlin:20251026T023000"] {
        let file = event(&format!("DTSTART;TZID=Europe/Berlin:20251026T023000{end}"));
        assert_eq!(instances(&file), ["2025-10-26 00:30 00:30"]);
    }
}

#[test]
fn a_rule_that_is_empty_and_a_date_with_the_letter_of_utc_are_read() {
    // The first is written by makers of holiday calendars, the second by Google for birthdays.
    let file = event("DTSTART:20250601\nRRULE:\nRDATE;VALUE=DATE:20250603Z");
    assert_eq!(
        instances(&file),
        [
            "2025-05-31 22:00 2025-06-01 22:00",
            "2025-06-02 22:00 2025-06-03 22:00"
        ]
    );
}
