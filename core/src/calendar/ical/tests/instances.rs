use super::*;

/// A daily hour at noon from 1 to 4 June 2025, and other descriptions of it, each within `VEVENT`.
fn daily(others: &[&str]) -> String {
    let master = "DTSTART;TZID=Europe/Berlin:20250601T120000\nDURATION:PT1H\nRRULE:FREQ=DAILY;COUNT=4\nSEQUENCE:1\nSUMMARY:Freeze";
    let events = [master].into_iter().chain(others.iter().copied());
    let events = events.map(|lines| format!("BEGIN:VEVENT\nUID:1\n{lines}\nEND:VEVENT"));
    calendar(&events.collect::<Vec<_>>().join("\n"))
}

#[test]
fn an_instance_that_is_described_on_its_own_takes_the_place_of_the_other() {
    for id in [
        "RECURRENCE-ID;TZID=Europe/Berlin:20250602T120000",
        "RECURRENCE-ID:20250602T100000Z",
        "RECURRENCE-ID:20250602T120000",
        "RECURRENCE-ID;VALUE=DATE:20250602",
    ] {
        let file = daily(&[&format!(
            "{id}\nDTSTART:20250602T160000Z\nDTEND:20250602T180000Z\nSUMMARY:Freeze"
        )]);
        assert_eq!(
            instances(&file),
            [
                "2025-06-01 10:00 11:00",
                "2025-06-02 16:00 18:00",
                "2025-06-03 10:00 11:00",
                "2025-06-04 10:00 11:00",
            ],
            "{id}"
        );
        let events = read(&file).unwrap();
        assert_eq!((events.len(), events[0].series.len()), (1, 2));
    }
}

#[test]
fn an_instance_with_another_summary_is_an_event_of_its_own() {
    let file = daily(&[
        "RECURRENCE-ID:20250602T100000Z\nDTSTART:20250602T100000Z\nSUMMARY:No freeze\nSTATUS:TENTATIVE",
    ]);
    let events = read(&file).unwrap();
    let about: Vec<_> = events
        .iter()
        .map(|event| (event.summary.as_str(), event.is_tentative))
        .collect();
    assert_eq!(about, [("Freeze", false), ("No freeze", true)]);
}

#[test]
fn a_cancelled_instance_does_not_take_place() {
    let file = daily(&["RECURRENCE-ID:20250602T100000Z\nSTATUS:CANCELLED"]);
    assert_eq!(instances(&file).len(), 3);
}

#[test]
fn a_cancelled_event_does_not_take_place_and_its_older_instances_do_not_either() {
    let instance = "RECURRENCE-ID:20250602T100000Z\nDTSTART:20250602T160000Z\nSEQUENCE:";
    let file = daily(&["SEQUENCE:3\nSTATUS:CANCELLED", &format!("{instance}2")]);
    assert!(instances(&file).is_empty());
    let file = daily(&["SEQUENCE:3\nSTATUS:CANCELLED", &format!("{instance}3")]);
    assert_eq!(instances(&file), ["2025-06-02 16:00 16:00"]);
    assert!(
        read(&event("STATUS:CANCELLED\nSUMMARY:without a time"))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn an_older_cancellation_does_not_count() {
    assert_eq!(
        instances(&daily(&["SEQUENCE:0\nSTATUS:CANCELLED"])).len(),
        4
    );
    // Nor does one that is as old as the event.
    assert_eq!(
        instances(&daily(&["SEQUENCE:1\nSTATUS:CANCELLED"])).len(),
        4
    );
}

#[test]
fn the_highest_sequence_counts_and_then_the_latest_stamp() {
    let new = ["2025-07-01 10:00 10:00"];
    for newer in [
        "SEQUENCE:2",
        "SEQUENCE:10\nDTSTAMP:20000101T000000Z",
        "SEQUENCE:1\nDTSTAMP:20250101T000000Z",
        "SEQUENCE:1\nLAST-MODIFIED:20250101T000000Z",
    ] {
        assert_eq!(
            instances(&daily(&[&format!("DTSTART:20250701T100000Z\n{newer}")])),
            new,
            "{newer}"
        );
    }
    // Which of two is meant that are equally new is not clear.
    assert_eq!(
        instances(&daily(&["DTSTART:20250701T100000Z\nSEQUENCE:1"])).len(),
        5
    );
    let instance = |at: &str, sequence| {
        format!("RECURRENCE-ID:20250602T100000Z\nDTSTART:{at}\nSEQUENCE:{sequence}")
    };
    let file = daily(&[
        &instance("20250701T100000Z", 5),
        &instance("20250801T100000Z", 4),
    ]);
    assert_eq!(instances(&file).last().unwrap(), new[0]);
}

#[test]
fn an_instance_whose_event_is_absent_stands_alone() {
    let file = event("RECURRENCE-ID:20250602T100000Z\nDTSTART:20250602T160000Z");
    assert_eq!(instances(&file), ["2025-06-02 16:00 16:00"]);
}

#[test]
fn an_instance_that_the_event_does_not_have_is_added() {
    let file = daily(&["RECURRENCE-ID:20250702T100000Z\nDTSTART:20250702T160000Z"]);
    assert_eq!(instances(&file).len(), 5);
}

#[test]
fn a_change_of_all_later_instances_moves_them() {
    let file = daily(&[
        "RECURRENCE-ID;RANGE=THISANDFUTURE:20250602T100000Z\nDTSTART;TZID=Europe/Berlin:20250602T150000\nDURATION:PT2H",
        "RECURRENCE-ID:20250603T100000Z\nSTATUS:CANCELLED",
    ]);
    assert_eq!(
        instances(&file),
        [
            "2025-06-01 10:00 11:00",
            "2025-06-02 13:00 15:00",
            "2025-06-04 13:00 15:00"
        ]
    );
}

#[test]
fn later_changes_follow_earlier_ones() {
    let change = |day: u8, to: u8| {
        format!(
            "RECURRENCE-ID;RANGE=THISANDFUTURE:2025060{day}T100000Z\nDTSTART;TZID=Europe/Berlin:2025060{day}T{to}0000"
        )
    };
    let file = daily(&[&change(4, 20), &change(2, 15)]);
    assert_eq!(
        instances(&file),
        [
            "2025-06-01 10:00 11:00",
            "2025-06-02 13:00 13:00",
            "2025-06-03 13:00 13:00",
            "2025-06-04 18:00 18:00"
        ]
    );
    let cancelled =
        daily(&["RECURRENCE-ID;RANGE=THISANDFUTURE:20250603T100000Z\nSTATUS:CANCELLED"]);
    assert_eq!(
        instances(&cancelled),
        ["2025-06-01 10:00 11:00", "2025-06-02 10:00 11:00"]
    );
}

#[test]
fn events_without_an_identifier_have_nothing_to_do_with_each_other() {
    let one = "BEGIN:VEVENT\nDTSTART:20250601T100000Z\nSEQUENCE:3\nEND:VEVENT";
    let file = calendar(&format!(
        "{one}\n{}",
        one.replace("0601", "0701").replace(":3", ":1")
    ));
    assert_eq!(instances(&file).len(), 2);
}

#[test]
fn an_instance_that_cannot_be_read_takes_nothing_from_the_event() {
    let file = daily(&["RECURRENCE-ID:20250602T100000Z\nDTSTART:never\nSUMMARY:Other"]);
    let calendar = read_calendar(file.as_bytes(), &Zone::utc()).unwrap();
    let events = calendar.events(|event| event.summary == "Freeze").unwrap();
    assert!(events[0].series[0].except.is_empty());
    assert!(calendar.events(|event| event.summary == "Other").is_err());
}

#[test]
fn too_many_changes_of_later_instances_are_refused() {
    let changes: Vec<String> = (0..50)
        .map(|minute| format!("RECURRENCE-ID;RANGE=THISANDFUTURE:20250602T10{minute:02}00Z\nDTSTART:20250602T100000Z\nSUMMARY:Freeze"))
        .collect();
    let changes: Vec<&str> = changes.iter().map(String::as_str).collect();
    assert!(refused(&daily(&changes)).contains("`RANGE=THISANDFUTURE` more than 20 times"));
}

#[test]
fn rules_that_many_changes_repeat_are_bounded_in_all() {
    let rules = "RRULE:FREQ=DAILY\n".repeat(20);
    let mut file = String::from("BEGIN:VCALENDAR\n");
    for uid in 0..900 {
        file += &format!("BEGIN:VEVENT\nUID:{uid}\nDTSTART:20250601T000000Z\n{rules}END:VEVENT\n");
        for day in 1..11 {
            file += &format!(
                "BEGIN:VEVENT\nUID:{uid}\nRECURRENCE-ID;RANGE=THISANDFUTURE:202506{day:02}\nDTSTART:20250601\nRRULE:FREQ=DAILY\nEND:VEVENT\n"
            );
        }
    }
    file += "END:VCALENDAR";
    assert!(file.len() < limit::BYTES);
    assert!(refused(&file).contains("more than 200000 rules and dates"));
}

#[test]
fn an_instance_that_does_not_say_what_it_is_about_is_about_the_same_as_its_event() {
    let file = daily(&[
        "RECURRENCE-ID:20250602T100000Z\nDTSTART:20250602T160000Z",
        "RECURRENCE-ID:20250603T100000Z\nDTSTART:never",
    ]);
    let file = file.replace("SUMMARY:Freeze", "SUMMARY:Freeze\nCATEGORIES:A,B");
    let calendar = read_calendar(file.as_bytes(), &Zone::utc()).unwrap();
    let is_freeze =
        |event: &CalendarEvent| event.summary == "Freeze" && event.categories == ["A", "B"];
    assert!(calendar.events(is_freeze).is_err());
    assert!(
        calendar
            .events(|event| !is_freeze(event))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn an_instance_that_repeats_the_rules_of_its_event_is_one_instance() {
    let file = daily(&[
        "RECURRENCE-ID:20250602T100000Z\nDTSTART:20250602T160000Z\nRRULE:FREQ=DAILY;COUNT=4\nRDATE:20250702T100000Z",
    ]);
    assert_eq!(instances(&file).len(), 4);
    // Without the event it is not clear what its rules say.
    let alone =
        event("RECURRENCE-ID:20250602T100000Z\nDTSTART:20250602T160000Z\nRRULE:FREQ=DAILY;COUNT=4");
    assert_eq!(instances(&alone).len(), 4);
}

#[test]
fn an_instance_that_a_newer_event_leaves_out_does_not_take_place() {
    let file = |sequence: u8| {
        let instance = format!(
            "RECURRENCE-ID:20250602T100000Z\nDTSTART:20250602T160000Z\nSUMMARY:Freeze\nSEQUENCE:{sequence}"
        );
        daily(&[&instance]).replacen("SEQUENCE:1", "SEQUENCE:1\nEXDATE:20250602T100000Z", 1)
    };
    assert_eq!(instances(&file(0)).len(), 3);
    assert_eq!(instances(&file(1)).len(), 4);
}
