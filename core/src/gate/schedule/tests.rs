//! The schedule against a brute-force walk over days.

use jiff::civil::{Date, DateTime, Weekday, date};
use jiff::tz::Disambiguation;
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use proptest::prelude::*;

use super::*;
use crate::calendar::{CalendarEvent, Length, Series, merge};
use crate::gate::Glob;

const ZONES: [&str; 9] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    // Clocks move at midnight.
    "America/Sao_Paulo",
    // By half an hour.
    "Australia/Lord_Howe",
    // 30 December 2011 did not take place.
    "Pacific/Apia",
    // Back and forth around Ramadan.
    "Africa/Casablanca",
    // The law changed in 2015 and 2018.
    "Asia/Pyongyang",
    "Asia/Kathmandu",
];

#[derive(Clone, Copy, Debug)]
enum Every {
    Days(u32),
    Weeks(u32, [Weekday; 2]),
    Months(u32, i8),
    Years(u32),
}

#[derive(Clone, Copy, Debug)]
enum Ends {
    Never,
    After(u32),
    On(i32),
}

#[derive(Clone, Debug)]
struct Written {
    zone: &'static str,
    start: DateTime,
    minutes: i64,
    every: Every,
    ends: Ends,
}

impl Written {
    fn rule(&self) -> String {
        let every = match self.every {
            Every::Days(n) => format!("FREQ=DAILY;INTERVAL={n}"),
            Every::Weeks(n, days) => {
                let days = days.map(|day| format!("{day:?}")[..2].to_uppercase());
                format!("FREQ=WEEKLY;INTERVAL={n};BYDAY={}", days.join(","))
            }
            Every::Months(n, day) => format!("FREQ=MONTHLY;INTERVAL={n};BYMONTHDAY={day}"),
            Every::Years(n) => format!("FREQ=YEARLY;INTERVAL={n}"),
        };
        match self.ends {
            Ends::Never => every,
            Ends::After(count) => format!("{every};COUNT={count}"),
            Ends::On(days) => {
                let day = self.start.date().saturating_add(days.days());
                format!("{every};UNTIL={}", day.strftime("%Y%m%d"))
            }
        }
    }

    fn series(&self) -> Series {
        let zone = Zone::named(self.zone).unwrap();
        let end = self.start.saturating_add(self.minutes.minutes());
        Series {
            includes_start: false,
            rules: vec![self.rule().parse().unwrap()],
            ..Series::once(zone, self.start, end)
        }
    }

    /// Every span that starts in the 15 years after the start, found by looking at each day.
    fn walk(&self) -> Vec<Span> {
        let zone = jiff::tz::TimeZone::get(self.zone).unwrap();
        let first = self.start.date();
        let monday =
            |day: Date| day.saturating_sub(i32::from(day.weekday().to_monday_zero_offset()).days());
        let mut spans = Vec::new();
        let mut count = 0;
        for number in 0_i32..15 * 366 {
            let day = first.saturating_add(number.days());
            let is_on = match self.every {
                Every::Days(n) => number.unsigned_abs() % n == 0,
                Every::Weeks(n, days) => {
                    let weeks = (monday(day) - monday(first)).get_days().unsigned_abs() / 7;
                    weeks.is_multiple_of(n) && days.contains(&day.weekday())
                }
                Every::Months(n, of) => {
                    let months = (i32::from(day.year()) - i32::from(first.year())) * 12
                        + i32::from(day.month())
                        - i32::from(first.month());
                    let of = match of {
                        1.. => of,
                        _ => day.days_in_month() + of + 1,
                    };
                    months.unsigned_abs().is_multiple_of(n) && day.day() == of
                }
                Every::Years(n) => {
                    let years = day.year() - first.year();
                    years
                        .unsigned_abs()
                        .is_multiple_of(u16::try_from(n).unwrap())
                        && (day.month(), day.day()) == (first.month(), first.day())
                }
            };
            let is_over = match self.ends {
                Ends::Never => false,
                Ends::After(most) => count >= most,
                Ends::On(days) => number > days,
            };
            if !is_on || is_over {
                continue;
            }
            count += 1;
            let local = day.to_datetime(self.start.time());
            let at = |local: DateTime, how| {
                let zoned = zone.to_ambiguous_zoned(local).disambiguate(how);
                zoned.unwrap().timestamp()
            };
            let start = at(local, Disambiguation::Compatible);
            let end = at(
                local.saturating_add(self.minutes.minutes()),
                Disambiguation::Later,
            );
            let end = match end <= start {
                true => start + SignedDuration::from_mins(self.minutes),
                false => end,
            };
            spans.push(Span { start, end });
        }
        spans
    }
}

fn written() -> impl Strategy<Value = Written> {
    let day = (2004_i16..2008, 1_i8..=12, 1_i8..=28);
    let time = prop_oneof![
        Just((2, 30)),
        Just((0, 0)),
        Just((23, 59)),
        (0_i8..24, 0_i8..60)
    ];
    let weekday = || (0_i8..7).prop_map(|day| Weekday::from_monday_zero_offset(day).unwrap());
    let every = prop_oneof![
        (1_u32..40).prop_map(Every::Days),
        (1_u32..9, weekday(), weekday()).prop_map(|(n, a, b)| Every::Weeks(n, [a, b])),
        (1_u32..9, prop_oneof![1_i8..=31, -31_i8..=-1]).prop_map(|(n, day)| Every::Months(n, day)),
        (1_u32..4).prop_map(Every::Years),
    ];
    let ends = prop_oneof![
        3 => Just(Ends::Never),
        1 => (1_u32..60).prop_map(Ends::After),
        1 => (0_i32..2000).prop_map(Ends::On),
    ];
    let minutes = prop_oneof![1_i64..120, 1_i64..5_000, 1_i64..600_000];
    (0..ZONES.len(), day, time, minutes, every, ends).prop_map(
        |(zone, (year, month, day), (hour, minute), minutes, every, ends)| Written {
            zone: ZONES[zone],
            start: date(year, month, day).at(hour, minute, 0, 0),
            minutes,
            every,
            ends,
        },
    )
}

fn freeze(name: &str, windows: Vec<Series>) -> Freeze {
    Freeze {
        name: name.to_owned(),
        environments: vec![Glob::parse("production").unwrap()],
        reason: "a reason".to_owned(),
        owner: None,
        may_pass: MayPass::default(),
        source: FreezeSource::Windows(windows),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn state_and_next_change_equal_a_brute_force_walk(
        all in prop::collection::vec(written(), 1..4),
        offsets in prop::collection::vec((0_i64..10 * 365 * 86_400, 0_usize..1000, -1_i64..=1), 6),
    ) {
        let earliest = all.iter().map(|one| one.start).min().unwrap();
        let known_until = Zone::utc().first(earliest) + SignedDuration::from_hours(24 * 365 * 13);
        let walked = merge(all.iter().flat_map(Written::walk).collect());
        let freezes: Vec<_> = all.iter().enumerate().map(|(index, one)| (freeze(&format!("f{index}"), vec![one.series()]), None)).collect();
        let first = Zone::utc().first(all[0].start);
        for (offset, index, nudge) in offsets {
            // Half of the instants are within a second of an edge.
            let edges: Vec<_> = walked.iter().flat_map(|span| [span.start, span.end]).collect();
            let at = match index % 2 {
                0 if !edges.is_empty() => edges[index % edges.len()] + SignedDuration::from_secs(nudge),
                _ => first + SignedDuration::from_secs(offset),
            };
            if at > known_until {
                continue;
            }
            let holding = walked.iter().find(|span| span.contains(at));
            let next = match holding {
                Some(span) => Some(span.end),
                None => walked.iter().map(|span| span.start).find(|start| *start > at),
            };
            // Once among the computed spans, and once beyond them.
            for around in [at, at - SignedDuration::from_hours(24 * 2_000)] {
                let schedule = Schedule::new(freezes.clone(), around);
                prop_assert_eq!(!schedule.frozen_at("production", at).is_empty(), holding.is_some(), "{} {:?}", at, all);
                if next.is_some_and(|next| next < known_until && next.duration_since(at) < SignedDuration::from_hours(24 * 3_000)) {
                    prop_assert_eq!(schedule.next_change("production", at), next, "{} {:?}", at, all);
                }
            }
        }
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn weekly(zone: &str, start: DateTime, hours: i64) -> Series {
    let zone = Zone::named(zone).unwrap();
    Series {
        includes_start: false,
        rules: vec!["FREQ=WEEKLY".parse().unwrap()],
        ..Series::once(zone, start, start.saturating_add(hours.hours()))
    }
}

#[test]
fn a_window_over_midnight_and_a_weekend_holds_until_its_local_end() {
    // Friday 16:00 to Monday 08:00, over the night in which clocks go back.
    let friday = date(2026, 1, 2).at(16, 0, 0, 0);
    let schedule = Schedule::new(
        [(
            freeze("weekend", vec![weekly("Europe/Berlin", friday, 64)]),
            None,
        )],
        at("2026-10-20T00:00:00Z"),
    );
    let until = schedule.open_from("production", at("2026-10-25T12:00:00Z"));
    assert_eq!(until, Until::At(at("2026-10-26T07:00:00Z")));
    assert!(
        schedule
            .frozen_at("production", at("2026-10-23T13:59:59Z"))
            .is_empty()
    );
    assert_eq!(
        schedule
            .frozen_at("production", at("2026-10-23T14:00:00Z"))
            .len(),
        1
    );
    assert!(
        schedule
            .frozen_at("staging", at("2026-10-25T12:00:00Z"))
            .is_empty()
    );
}

#[test]
fn a_window_inside_a_gap_of_the_clock_is_not_lost() {
    let zone = Zone::named("America/New_York").unwrap();
    for (from, until) in [((2, 0), (3, 0)), ((2, 30), (3, 15)), ((2, 15), (2, 45))] {
        let day = date(2026, 3, 8);
        let window = Series::once(
            zone.clone(),
            day.at(from.0, from.1, 0, 0),
            day.at(until.0, until.1, 0, 0),
        );
        let mut budget = Budget::days(100);
        let range = Span {
            start: at("2026-03-08T00:00:00Z"),
            end: at("2026-03-09T00:00:00Z"),
        };
        let spans = window.spans(range, &mut budget).unwrap();
        assert!(spans[0].start < spans[0].end, "{spans:?}");
    }
}

#[test]
fn freezes_that_follow_each_other_end_together() {
    let zone = Zone::utc();
    let window = |from: i8, until: i8| {
        Series::once(
            zone.clone(),
            date(2026, 12, from).at(0, 0, 0, 0),
            date(2026, 12, until).at(0, 0, 0, 0),
        )
    };
    let schedule = Schedule::new(
        [
            (freeze("first", vec![window(1, 5)]), None),
            (freeze("second", vec![window(4, 9), window(9, 12)]), None),
            (freeze("later", vec![window(13, 14)]), None),
        ],
        at("2026-12-01T00:00:00Z"),
    );
    let in_both = at("2026-12-04T12:00:00Z");
    assert_eq!(schedule.frozen_at("production", in_both).len(), 2);
    assert_eq!(
        schedule.open_from("production", in_both),
        Until::At(at("2026-12-12T00:00:00Z"))
    );
    let next = schedule
        .next_start("production", in_both, SignedDuration::from_hours(24 * 30))
        .unwrap();
    assert_eq!(
        (next.freeze.name.as_str(), next.start),
        ("later", at("2026-12-13T00:00:00Z"))
    );
}

#[test]
fn a_window_of_ten_years_is_found_from_inside_and_ends() {
    let zone = Zone::utc();
    let window = Series::once(
        zone,
        date(2020, 1, 1).at(0, 0, 0, 0),
        date(2030, 1, 1).at(0, 0, 0, 0),
    );
    let schedule = Schedule::new(
        [(freeze("long", vec![window]), None)],
        at("2026-12-01T00:00:00Z"),
    );
    assert_eq!(
        schedule.open_from("production", at("2026-12-01T00:00:00Z")),
        Until::At(at("2030-01-01T00:00:00Z"))
    );
    assert_eq!(
        schedule.open_from("production", at("2020-01-01T00:00:00Z")),
        Until::At(at("2030-01-01T00:00:00Z"))
    );
}

#[test]
fn a_freeze_without_an_end_says_so() {
    let zone = Zone::utc();
    let day = date(2026, 1, 1).at(0, 0, 0, 0);
    let always = Series {
        length: Length::Duration {
            days: 1,
            seconds: 0,
        },
        rules: vec!["FREQ=DAILY".parse().unwrap()],
        ..Series::once(zone, day, day)
    };
    let schedule = Schedule::new(
        [(freeze("always", vec![always]), None)],
        at("2026-12-01T00:00:00Z"),
    );
    let until = schedule.open_from("production", at("2026-12-01T00:00:00Z"));
    assert!(matches!(until, Until::After(_)), "{until:?}");
}

fn feed(kind: FeedKind, when_stale: WhenStale) -> Freeze {
    let source = FreezeSource::Feed(Feed {
        kind,
        maximum_age: SignedDuration::from_mins(15),
        when_stale,
    });
    Freeze {
        source,
        ..freeze("itsm", Vec::new())
    }
}

fn endpoint(when_stale: WhenStale) -> Freeze {
    let kind = FeedKind::Endpoint {
        url: "https://itsm.example.com/check".to_owned(),
        token_file: None,
    };
    feed(kind, when_stale)
}

fn answers(list: &[(&str, bool, Option<&str>)]) -> FeedState {
    let answer = |(about, is_frozen, until): &(&str, bool, Option<&str>)| EndpointAnswer {
        at: at(about),
        is_frozen: *is_frozen,
        reason: Some("year end".to_owned()),
        until: until.map(at),
    };
    let answers = list.iter().map(answer).collect();
    FeedState {
        reading: Some(FeedReading {
            content: FeedContent::Answers([("production".to_owned(), answers)].into()).into(),
            read_at: Some(at("2026-12-01T12:00:00Z")),
        }),
        problem: Some("503".to_owned()),
    }
}

#[test]
fn an_endpoint_counts_for_the_time_between_two_answers() {
    let state = answers(&[
        ("2026-12-01T12:00:00Z", false, None),
        ("2026-12-01T12:01:00Z", true, None),
    ]);
    let schedule = Schedule::new(
        [(endpoint(WhenStale::Frozen), Some(state))],
        at("2026-12-01T12:00:00Z"),
    );
    let frozen = schedule.frozen_at("production", at("2026-12-01T12:00:30Z"));
    assert_eq!(frozen.len(), 1);
    assert_eq!(frozen[0].until, Until::Unknown);
    assert_eq!(
        frozen[0].cause,
        Cause::Window {
            what: Some("year end".to_owned())
        }
    );
}

#[test]
fn an_endpoint_that_says_the_end_is_open_after_it() {
    let state = answers(&[("2026-12-01T12:00:00Z", true, Some("2026-12-01T12:05:00Z"))]);
    let schedule = Schedule::new(
        [(endpoint(WhenStale::Frozen), Some(state))],
        at("2026-12-01T12:00:00Z"),
    );
    assert_eq!(
        schedule.open_from("production", at("2026-12-01T12:04:00Z")),
        Until::At(at("2026-12-01T12:05:00Z"))
    );
    assert!(
        schedule
            .frozen_at("production", at("2026-12-01T12:06:00Z"))
            .is_empty()
    );
}

#[test]
fn a_stale_feed_counts_as_frozen_unless_the_operator_chose_otherwise() {
    let open = answers(&[("2026-12-01T12:00:00Z", false, None)]);
    for (when_stale, frozen) in [(WhenStale::Frozen, 1), (WhenStale::Open, 0)] {
        let schedule = Schedule::new(
            [(endpoint(when_stale), Some(open.clone()))],
            at("2026-12-01T12:00:00Z"),
        );
        assert_eq!(
            schedule
                .frozen_at("production", at("2026-12-01T12:15:00Z"))
                .len(),
            0
        );
        assert_eq!(
            schedule
                .frozen_at("production", at("2026-12-01T12:15:01Z"))
                .len(),
            frozen
        );
        let never = Schedule::new([(endpoint(when_stale), None)], at("2026-12-01T12:00:00Z"));
        assert_eq!(
            never
                .frozen_at("production", at("2026-12-01T12:00:00Z"))
                .len(),
            frozen
        );
    }
    let schedule = Schedule::new(
        [(endpoint(WhenStale::Frozen), Some(open))],
        at("2026-12-01T12:00:00Z"),
    );
    let frozen = schedule.frozen_at("production", at("2026-12-01T13:00:00Z"));
    let Cause::Stale { why } = &frozen[0].cause else {
        panic!("{frozen:?}")
    };
    assert_eq!(why, "its feed was last read at 2026-12-01T12:00:00Z: 503");
}

#[test]
fn an_endpoint_that_was_not_asked_for_an_environment_is_stale_for_it() {
    let state = answers(&[("2026-12-01T12:00:00Z", false, None)]);
    let mut freeze = endpoint(WhenStale::Frozen);
    freeze.environments.push(Glob::parse("staging").unwrap());
    let schedule = Schedule::new([(freeze, Some(state))], at("2026-12-01T12:00:00Z"));
    assert_eq!(
        schedule
            .frozen_at("staging", at("2026-12-01T12:00:00Z"))
            .len(),
        1
    );
    assert_eq!(
        schedule
            .frozen_at("production", at("2026-12-01T12:00:00Z"))
            .len(),
        0
    );
}

#[test]
fn an_endpoint_that_says_frozen_holds_after_the_clock_was_set_back() {
    let state = answers(&[
        ("2026-12-01T12:00:00Z", true, None),
        ("2026-12-01T12:01:00Z", true, None),
    ]);
    let schedule = Schedule::new(
        [(endpoint(WhenStale::Frozen), Some(state))],
        at("2026-12-01T12:00:00Z"),
    );
    let frozen = schedule.frozen_at("production", at("2026-12-01T11:00:30Z"));
    let what = Some("year end".to_owned());
    assert_eq!(frozen[0].cause, Cause::Window { what });
    assert_eq!(frozen[0].until, Until::Unknown);
}

#[test]
fn a_stale_feed_that_counts_as_open_is_named() {
    let open = answers(&[("2026-12-01T12:00:00Z", false, None)]);
    let schedule = |when_stale| {
        Schedule::new(
            [(endpoint(when_stale), Some(open.clone()))],
            at("2026-12-01T12:00:00Z"),
        )
    };
    let ignored = |schedule: &Schedule, time: &str| {
        let ignored = schedule.ignored_at("production", at(time));
        let each = ignored.into_iter();
        each.map(|(freeze, why)| format!("{}: {why}", freeze.name))
            .collect::<Vec<_>>()
    };
    let chosen = schedule(WhenStale::Open);
    assert_eq!(
        ignored(&chosen, "2026-12-01T12:15:01Z"),
        ["itsm: its feed was last read at 2026-12-01T12:00:00Z: 503"]
    );
    assert!(ignored(&chosen, "2026-12-01T12:15:00Z").is_empty());
    let frozen = schedule(WhenStale::Frozen);
    assert!(ignored(&frozen, "2026-12-01T12:15:01Z").is_empty());
}

fn calendar_freeze() -> Freeze {
    let kind = FeedKind::Calendar {
        place: FeedPlace::File("calendar.ics".to_owned()),
        zone: Zone::utc(),
        events: EventFilter::default(),
    };
    Freeze {
        name: "calendar".to_owned(),
        environments: vec![Glob::parse("test").unwrap()],
        ..feed(kind, WhenStale::Frozen)
    }
}

/// A freeze by a calendar with so many events that take place at the same times.
fn calendar(events: usize, series: &Series) -> (Freeze, Option<FeedState>) {
    let event = |number: usize| CalendarEvent {
        uid: number.to_string(),
        summary: format!("event {number:05}"),
        categories: Vec::new(),
        is_tentative: false,
        series: vec![series.clone()],
    };
    let events = (0..events).map(event).collect();
    let state = FeedState {
        reading: Some(FeedReading {
            content: FeedContent::Events(events).into(),
            read_at: None,
        }),
        problem: None,
    };
    (calendar_freeze(), Some(state))
}

/// A calendar whose events need more work than is allowed.
fn too_much() -> (Freeze, Option<FeedState>) {
    let start = date(1700, 1, 1).at(0, 0, 0, 0);
    let rule = "FREQ=DAILY;COUNT=100000;BYMONTH=2;BYMONTHDAY=30";
    let series = Series {
        rules: vec![rule.parse().unwrap()],
        ..Series::once(Zone::utc(), start, start.saturating_add(1.hours()))
    };
    calendar(200, &series)
}

#[test]
fn an_answer_names_some_of_many_events() {
    let start = date(2026, 12, 1).at(0, 0, 0, 0);
    let series = Series::once(Zone::utc(), start, start.saturating_add(48.hours()));
    let named = |events: usize, about: &str| {
        let schedule = Schedule::new([calendar(events, &series)], at("2026-12-01T12:00:00Z"));
        let frozen = schedule.frozen_at("test", at(about));
        match &frozen[0].cause {
            Cause::Window { what: Some(what) } => what.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(named(2, "2026-12-01T12:00:00Z"), "event 00000, event 00001");
    let some = "event 00000, event 00001, event 00002, event 00003, event 00004 and 95 more";
    assert_eq!(named(100, "2026-12-01T12:00:00Z"), some);
}

#[test]
fn a_calendar_that_needs_too_much_work_makes_no_other_freeze_unknown() {
    let friday = date(2026, 1, 2).at(16, 0, 0, 0);
    let weekend = (freeze("weekend", vec![weekly("UTC", friday, 64)]), None);
    let now = at("2026-12-01T12:00:00Z");
    for freezes in [[too_much(), weekend.clone()], [weekend.clone(), too_much()]] {
        let schedule = Schedule::new(freezes, now);
        assert!(schedule.frozen_at("production", now).is_empty());
        let frozen = schedule.frozen_at("test", now);
        let Cause::Stale { why } = &frozen[0].cause else {
            panic!("{frozen:?}")
        };
        assert!(why.contains("too much work"), "{why}");
    }
}

#[test]
fn two_freezes_that_alternate_for_ever_end_nowhere_that_is_known() {
    let daily = |hour: i8| {
        let start = date(2026, 1, 1).at(hour, 0, 0, 0);
        Series {
            rules: vec!["FREQ=DAILY".parse().unwrap()],
            ..Series::once(Zone::utc(), start, start.saturating_add(12.hours()))
        }
    };
    let now = at("2026-12-01T12:00:00Z");
    let schedule = Schedule::new(
        [
            (freeze("day", vec![daily(6)]), None),
            (freeze("night", vec![daily(18)]), None),
        ],
        now,
    );
    let until = schedule.open_from("production", now);
    let Until::After(until) = until else {
        panic!("{until:?}")
    };
    assert!(until > at("2027-12-01T00:00:00Z"), "{until}");
}

#[test]
fn a_year_ahead_is_always_computed() {
    let now = at("2026-12-01T12:00:00Z");
    let schedule = Schedule::new([], now);
    assert!(!schedule.is_outdated(now));
    assert!(!schedule.is_outdated(days_from(now, 7)));
    assert!(schedule.is_outdated(days_from(now, 35)));
    assert!(schedule.is_outdated(days_from(now, -2)));
}
