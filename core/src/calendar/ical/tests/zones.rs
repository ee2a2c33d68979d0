use super::*;

/// The zone of Berlin, as Outlook writes it, under a name that says nothing.
const CUSTOM: &str = "BEGIN:VTIMEZONE\nTZID:Customized Time Zone\nBEGIN:STANDARD\nDTSTART:16010101T030000\nTZOFFSETFROM:+0200\nTZOFFSETTO:+0100\n\
    RRULE:FREQ=YEARLY;INTERVAL=1;BYDAY=-1SU;BYMONTH=10\nEND:STANDARD\nBEGIN:DAYLIGHT\nDTSTART:16010101T020000\nTZOFFSETFROM:+0100\nTZOFFSETTO:+0200\n\
    RRULE:FREQ=YEARLY;INTERVAL=1;BYDAY=-1SU;BYMONTH=3\nEND:DAYLIGHT\nEND:VTIMEZONE";

/// An event at noon from 2000 on in a zone, every month, after the definition of the zone.
fn monthly(definition: &str, tzid: &str) -> String {
    calendar(&format!(
        "{definition}\nBEGIN:VEVENT\nUID:1\nDTSTART;TZID={tzid}:20000129T120000\nDURATION:PT1H\nRRULE:FREQ=MONTHLY\nEND:VEVENT"
    ))
}

#[test]
fn a_zone_that_the_file_defines_has_the_offsets_of_its_rules() {
    let custom = monthly(CUSTOM, "Customized Time Zone");
    let berlin = monthly("", "Europe/Berlin");
    let range = Span {
        start: "2000-01-01T00:00Z".parse().unwrap(),
        end: "2100-01-01T00:00Z".parse().unwrap(),
    };
    let spans = spans_in(&custom, range);
    assert_eq!(spans.len(), 1125);
    assert_eq!(spans, spans_in(&berlin, range));
}

#[test]
fn bundled_data_come_before_the_definition_of_the_file() {
    let wrong = "BEGIN:VTIMEZONE\nTZID:Europe/Berlin\nBEGIN:STANDARD\nDTSTART:19700101T000000\nTZOFFSETFROM:-0500\nTZOFFSETTO:-0500\nEND:STANDARD\nEND:VTIMEZONE";
    assert_eq!(
        instances(&monthly(wrong, "Europe/Berlin")),
        instances(&monthly("", "Europe/Berlin"))
    );
    // A name of three letters does not say whether there is a summer time.
    let eastern = CUSTOM
        .replace("Customized Time Zone", "EST")
        .replace("+01", "-05")
        .replace("+02", "-04");
    let summer = |file: &str| instances(file)[6].clone();
    assert_eq!(summer(&monthly(&eastern, "EST")), "2024-07-29 16:00 17:00");
    assert_eq!(summer(&monthly("", "EST")), "2024-07-29 17:00 18:00");
}

#[test]
fn a_zone_without_summer_time_and_one_with_single_dates_are_read() {
    let fixed = "BEGIN:VTIMEZONE\nTZID:Here\nBEGIN:STANDARD\nDTSTART:16010101T000000\nTZOFFSETFROM:+0545\nTZOFFSETTO:+0545\nEND:STANDARD\nEND:VTIMEZONE";
    assert_eq!(
        instances(&monthly(fixed, "Here"))[6],
        "2024-07-29 06:15 07:15"
    );
    let dates = "BEGIN:VTIMEZONE\nTZID:Here\nBEGIN:STANDARD\nDTSTART:20231001T020000\nRDATE:20241001T020000,20251001T020000\nTZOFFSETFROM:+0200\nTZOFFSETTO:+0100\nEND:STANDARD\n\
        BEGIN:DAYLIGHT\nDTSTART:20240401T020000\nTZOFFSETFROM:+0100\nTZOFFSETTO:+0200\nEND:DAYLIGHT\nEND:VTIMEZONE";
    let of_dates = instances(&monthly(dates, "Here"));
    assert_eq!(
        of_dates[2..4],
        ["2024-03-29 11:00 12:00", "2024-04-29 10:00 11:00"]
    );
    assert_eq!(of_dates[9], "2024-10-29 11:00 12:00");
}

#[test]
fn a_zone_that_nobody_defines_is_refused() {
    let problem = refused(&monthly("", "Middle Earth"));
    assert!(
        problem.contains("the time zone `Middle Earth` is not known"),
        "{problem}"
    );
    // A definition in another calendar of the file does not count.
    let elsewhere = format!(
        "{}{}",
        calendar(CUSTOM),
        monthly("", "Customized Time Zone")
    );
    assert!(refused(&elsewhere).contains("is not known"));
}

#[test]
fn a_zone_that_nobody_uses_need_not_be_readable() {
    let wrong = CUSTOM.replace("+0100", "CET");
    assert!(read(&monthly(&wrong, "Europe/Berlin")).is_ok());
    assert!(
        refused(&monthly(&wrong, "Customized Time Zone"))
            .contains("write an offset such as `+0100`")
    );
}

#[test]
fn a_zone_with_two_definitions_is_refused_unless_they_are_the_same() {
    let twice = format!("{CUSTOM}\n{CUSTOM}");
    assert!(read(&monthly(&twice, "Customized Time Zone")).is_ok());
    let different = format!("{CUSTOM}\n{}", CUSTOM.replace("+02", "+03"));
    assert!(
        refused(&monthly(&different, "Customized Time Zone"))
            .contains("has two different definitions")
    );
}

#[test]
fn a_vtimezone_that_is_not_clear_is_refused() {
    for (from, to, why) in [
        ("DTSTART:16010101T020000\n", "", "has no DTSTART"),
        (
            "TZOFFSETFROM:+0100",
            "TZOFFSETFROM:+9900",
            "write an offset",
        ),
        ("TZOFFSETFROM:+0100", "TZOFFSETFROM:0100", "write an offset"),
        ("TZOFFSETFROM:+0100", "TZOFFSETFROM:+010", "write an offset"),
        ("BEGIN:STANDARD", "BEGIN:X-A", ""),
        (
            "END:STANDARD",
            "no content line\nEND:STANDARD",
            "is not a content line",
        ),
        ("DTSTART:16010101T020000", "DTSTART:16010101T010000", ""),
    ] {
        let definition = CUSTOM.replace(from, to).replace(
            "END:STANDARD",
            match to {
                "BEGIN:X-A" => "END:X-A",
                _ => "END:STANDARD",
            },
        );
        let file = monthly(&definition, "Customized Time Zone");
        match why {
            "" => assert!(read(&file).is_ok(), "{to}"),
            why => assert!(refused(&file).contains(why), "{to}: {}", refused(&file)),
        }
    }
    let empty = "BEGIN:VTIMEZONE\nTZID:Here\nEND:VTIMEZONE";
    assert!(refused(&monthly(empty, "Here")).contains("has no `STANDARD` and no `DAYLIGHT` part"));
    let both = "BEGIN:STANDARD\nDTSTART:19700101T000000\nTZOFFSETFROM:+0100\nTZOFFSETTO:+0200\nEND:STANDARD";
    let both = format!(
        "BEGIN:VTIMEZONE\nTZID:Here\n{both}\n{}\nEND:VTIMEZONE",
        both.replace("TO:+0200", "TO:+0300")
    );
    assert!(refused(&monthly(&both, "Here")).contains("begin at the same time"));
}

#[test]
fn a_vtimezone_that_loops_is_refused() {
    for (rule, why) in [
        ("FREQ=SECONDLY", "RRULE: "),
        ("FREQ=DAILY", "changes its offset more than 2000 times"),
        (
            "FREQ=DAILY;BYSECOND=0,1,2,3,4,5,6,7,8,9",
            "changes its offset more than 2000 times",
        ),
        ("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30;COUNT=2", ""),
    ] {
        let definition = CUSTOM.replace("FREQ=YEARLY;INTERVAL=1;BYDAY=-1SU;BYMONTH=10", rule);
        let file = monthly(&definition, "Customized Time Zone");
        match why {
            "" => assert!(read(&file).is_ok()),
            why => assert!(refused(&file).contains(why), "{rule}: {}", refused(&file)),
        }
    }
}

#[test]
fn a_vtimezone_with_a_million_observances_is_refused() {
    let observance = "BEGIN:STANDARD\nDTSTART:19700101T000000\nEND:STANDARD\n";
    let definition = format!(
        "BEGIN:VTIMEZONE\nTZID:Here\n{}END:VTIMEZONE",
        observance.repeat(100_000)
    );
    assert!(refused(&monthly(&definition, "Here")).contains("more than 2000 parts of time zones"));
    let dates = format!("RDATE:19700101T000000{}", ",19710101T000000".repeat(50_000));
    let definition = CUSTOM.replace("RRULE:FREQ=YEARLY;INTERVAL=1;BYDAY=-1SU;BYMONTH=10", &dates);
    let problem = refused(&monthly(&definition, "Customized Time Zone"));
    assert!(
        problem.contains("changes its offset more than 2000 times"),
        "{problem}"
    );
}

#[test]
fn many_vtimezones_are_expanded_within_a_bound() {
    let mut lines = String::new();
    for number in 0..400 {
        let tzid = format!("Zone {number}");
        lines += &CUSTOM.replace("Customized Time Zone", &tzid);
        lines += &format!(
            "\nBEGIN:VEVENT\nUID:{number}\nDTSTART;TZID={tzid}:20250101T000000\nEND:VEVENT\n"
        );
    }
    assert!(refused(&calendar(&lines)).contains("the time zones of the file need too much work"));
}

#[test]
fn too_many_names_of_zones_are_refused() {
    let event = |number: usize| {
        format!("BEGIN:VEVENT\nDTSTART;TZID=/{number}/Europe/Berlin:20250101T000000\nEND:VEVENT\n")
    };
    let events: String = (0..1_100).map(event).collect();
    assert!(refused(&calendar(&events)).contains("names more than 1000 time zones"));
    // Nor does a name take long.
    let long = monthly("", &format!("\"{}\"", "a/".repeat(400_000)));
    assert!(refused(&long).contains("is not known"));
}
