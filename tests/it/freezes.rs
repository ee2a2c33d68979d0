//! Change freezes: what is read, what is refused and with which places, what a denial says, and what the command `freeze` answers.

use std::fs;
use std::process::Command;

use promotion_gate::api::{self, FeedStates, PolicySet};
use promotion_gate_core::calendar::{Budget, Span, Zone, merge, read_calendar};
use promotion_gate_core::gate::Schedule;
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::{Ran, run};
use crate::facts::FACTS;

const POLICY: &str = "{apiVersion: promotion-gate.dev/v1alpha1, kind: PromotionPolicy, metadata: {name: NAME}, spec: {environment: ENVIRONMENT, match: {namespaces: {names: [NAMESPACE]}}, requirements: [{noFreeze: {warnBefore: 24h}}]}}";
const YEAR_END: &str = "environments: [production], reason: Year-end close, owner: release-management, timeZone: Europe/Berlin, windows: [{from: 2026-12-20, until: 2027-01-02}]";

fn policy(name: &str, environment: &str, namespace: &str) -> String {
    POLICY
        .replace("NAME\"", "NAME")
        .replace("NAMESPACE", namespace)
        .replace("NAME", name)
        .replace("ENVIRONMENT", environment)
}

fn freeze(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: promotion-gate.dev/v1alpha1, kind: ChangeFreeze, metadata: {{name: {name}}}, spec: {{{spec}}}}}"
    )
}

fn load(files: &[(&str, String)]) -> PolicySet {
    let sources: Vec<_> = files
        .iter()
        .map(|(file, text)| ((*file).to_owned(), text.clone().into_bytes()))
        .collect();
    api::load(&sources, &FACTS.trust_roots())
}

/// The problems of one freeze, without its place.
fn problems(spec: &str) -> Vec<String> {
    let set = load(&[
        ("freeze.yaml", freeze("one", spec)),
        ("policy.yaml", policy("p", "production", "shop")),
    ]);
    set.problems
        .iter()
        .map(|problem| problem.to_string().split_once(": ").unwrap().1.to_owned())
        .collect()
}

fn at(text: &str) -> jiff::Timestamp {
    text.parse().unwrap()
}

fn schedule(spec: &str, around: &str) -> Schedule {
    let set = load(&[
        ("freeze.yaml", freeze("one", spec)),
        ("policy.yaml", policy("p", "production", "shop")),
    ]);
    assert_eq!(set.problems, []);
    api::schedule(set.freezes, &FeedStates::new(), at(around))
}

/// The spans of a window in `Europe/Berlin` that overlap a range.
fn spans(window: &str, from: &str, until: &str) -> Vec<String> {
    let spec = format!(
        "environments: [production], reason: r, timeZone: Europe/Berlin, windows: [{window}]"
    );
    let range = Span {
        start: at(from),
        end: at(until),
    };
    let schedule = schedule(&spec, from);
    let found = schedule.occurrences(Some("production"), range).unwrap();
    found
        .iter()
        .map(|(_, found)| format!("{} {}", found.span.start, found.span.end))
        .collect()
}

#[test]
fn every_form_of_a_window_means_what_it_says() {
    let year = ("2027-01-01T00:00:00Z", "2028-12-31T00:00:00Z");
    for (window, (from, until), expected) in [
        (
            "{from: 2027-03-01, until: 2027-03-02}",
            year,
            vec!["2027-02-28T23:00:00Z 2027-03-02T23:00:00Z"],
        ),
        (
            "{from: 2027-03-01T16:00, until: 2027-03-02}",
            year,
            vec!["2027-03-01T15:00:00Z 2027-03-02T23:00:00Z"],
        ),
        (
            "{from: '2027-03-01T16:00:00Z', until: '2027-03-01T17:00:00+01:00'}",
            year,
            vec![],
        ),
        (
            "{from: '2027-03-01T16:00:00Z', until: '2027-03-01T18:00:00+01:00'}",
            year,
            vec!["2027-03-01T16:00:00Z 2027-03-01T17:00:00Z"],
        ),
        (
            "{yearly: {from: 12-24 18:00, until: 12-26}}",
            year,
            vec![
                "2027-12-24T17:00:00Z 2027-12-26T23:00:00Z",
                "2028-12-24T17:00:00Z 2028-12-26T23:00:00Z",
            ],
        ),
        // A leap year moves no end.
        (
            "{yearly: {from: 02-20, until: 03-05}}",
            year,
            vec![
                "2027-02-19T23:00:00Z 2027-03-05T23:00:00Z",
                "2028-02-19T23:00:00Z 2028-03-05T23:00:00Z",
            ],
        ),
        (
            "{yearly: {from: 02-27, until: 02-29}}",
            year,
            vec![
                "2027-02-26T23:00:00Z 2027-02-28T23:00:00Z",
                "2028-02-26T23:00:00Z 2028-02-29T23:00:00Z",
            ],
        ),
        (
            "{yearly: {from: 02-28, until: 02-28}}",
            year,
            vec![
                "2027-02-27T23:00:00Z 2027-02-28T23:00:00Z",
                "2028-02-27T23:00:00Z 2028-02-28T23:00:00Z",
            ],
        ),
        (
            "{yearly: {from: 12-30, until: 01-02 12:00}}",
            year,
            vec![
                "2026-12-29T23:00:00Z 2027-01-02T11:00:00Z",
                "2027-12-29T23:00:00Z 2028-01-02T11:00:00Z",
                "2028-12-29T23:00:00Z 2029-01-02T11:00:00Z",
            ],
        ),
        (
            "{weekly: {from: Saturday, until: Sunday}}",
            ("2027-03-24T00:00:00Z", "2027-03-30T00:00:00Z"),
            vec!["2027-03-26T23:00:00Z 2027-03-28T22:00:00Z"],
        ),
        (
            "{weekly: {from: Sunday 22:00, until: Monday 02:00}}",
            ("2027-03-24T00:00:00Z", "2027-03-30T00:00:00Z"),
            vec!["2027-03-28T20:00:00Z 2027-03-29T00:00:00Z"],
        ),
        (
            "{weekly: {from: Wed 10:00, until: Wed 09:00}}",
            ("2027-03-24T09:30:00Z", "2027-03-24T10:00:00Z"),
            vec!["2027-03-24T09:00:00Z 2027-03-31T07:00:00Z"],
        ),
        // Days without hours are whole days.
        (
            "{daily: {days: [Saturday, Sunday]}}",
            ("2027-03-24T00:00:00Z", "2027-03-30T00:00:00Z"),
            vec![
                "2027-03-26T23:00:00Z 2027-03-27T23:00:00Z",
                "2027-03-27T23:00:00Z 2027-03-28T22:00:00Z",
            ],
        ),
        (
            "{daily: {from: 22:00, until: 06:00}}",
            ("2027-07-01T12:00:00Z", "2027-07-02T12:00:00Z"),
            vec!["2027-07-01T20:00:00Z 2027-07-02T04:00:00Z"],
        ),
        (
            "{daily: {from: 00:00, until: 24:00, days: [Thu]}}",
            ("2027-07-01T12:00:00Z", "2027-07-02T12:00:00Z"),
            vec!["2027-06-30T22:00:00Z 2027-07-01T22:00:00Z"],
        ),
        (
            "{recurrence: {start: 2026-01-01T22:00, rule: FREQ=MONTHLY;BYDAY=-1FR, duration: 8h, exceptDates: [2027-02-26], dates: [2027-02-10]}}",
            ("2027-01-01T00:00:00Z", "2027-04-01T00:00:00Z"),
            vec![
                "2027-01-29T21:00:00Z 2027-01-30T05:00:00Z",
                "2027-02-10T21:00:00Z 2027-02-11T05:00:00Z",
                "2027-03-26T21:00:00Z 2027-03-27T05:00:00Z",
            ],
        ),
        // Exact hours over the night in which clocks go forward, and days of the calendar.
        (
            "{recurrence: {start: 2027-03-27T20:00, rule: FREQ=DAILY;COUNT=1, duration: 24h}}",
            year,
            vec!["2027-03-27T19:00:00Z 2027-03-28T19:00:00Z"],
        ),
        (
            "{recurrence: {start: 2027-03-27T20:00, rule: FREQ=DAILY;COUNT=1, duration: 1d}}",
            year,
            vec!["2027-03-27T19:00:00Z 2027-03-28T18:00:00Z"],
        ),
        (
            "{recurrence: {start: 2027-03-01, rule: FREQ=DAILY;UNTIL=20270302T000000Z}}",
            year,
            vec![
                "2027-02-28T23:00:00Z 2027-03-01T23:00:00Z",
                "2027-03-01T23:00:00Z 2027-03-02T23:00:00Z",
            ],
        ),
    ] {
        if expected.is_empty() {
            let spec = format!(
                "environments: [production], reason: r, timeZone: Europe/Berlin, windows: [{window}]"
            );
            assert_eq!(problems(&spec).len(), 1, "{window}");
            continue;
        }
        assert_eq!(spans(window, from, until), expected, "{window}");
    }
}

#[test]
fn a_weekly_freeze_is_evaluated_in_its_zone_across_the_date_line() {
    let spec = "environments: [production], reason: r, timeZone: Pacific/Auckland, windows: [{weekly: {from: Monday, until: Monday}}]";
    let schedule = schedule(spec, "2026-11-28T00:00:00Z");
    // In Auckland it is Monday, in UTC still Sunday.
    assert_eq!(
        schedule
            .frozen_at("production", at("2026-11-29T12:00:00Z"))
            .len(),
        1
    );
    assert_eq!(
        schedule
            .frozen_at("production", at("2026-11-30T12:00:00Z"))
            .len(),
        0
    );
}

#[test]
fn every_mistake_in_a_freeze_is_named_with_its_place() {
    let windows = |window: &str| {
        format!("environments: [production], reason: r, timeZone: UTC, windows: [{window}]")
    };
    for (spec, expected) in [
        ("environments: [production], reason: r, windows: [{weekly: {from: Friday, until: Monday}}]".to_owned(), "spec.windows[0]: the time is local, and the freeze has no `timeZone`"),
        ("environments: [production], reason: r, windows: [{from: 2026-12-01, until: 2026-12-02}]".to_owned(), "spec.windows[0]: the time is local, and the freeze has no `timeZone`"),
        ("environments: [production], reason: r, timeZone: CET-1, windows: [{from: 2026-12-01, until: 2026-12-02}]".to_owned(), "spec.timeZone: `CET-1` is not a time zone that is known"),
        ("environments: [production], reason: r".to_owned(), "spec: expected exactly one of `windows`, `calendar`, `endpoint` and `gitlab`"),
        ("environments: [production], reason: r, timeZone: UTC, windows: []".to_owned(), "spec.windows"),
        ("environments: [], reason: r, timeZone: UTC, windows: [{from: 2026-12-01, until: 2026-12-02}]".to_owned(), "spec.environments"),
        ("environments: [production], timeZone: UTC, windows: [{from: 2026-12-01, until: 2026-12-02}]".to_owned(), "reason"),
        ("environments: [production], reason: ' ', timeZone: UTC, windows: [{from: 2026-12-01, until: 2026-12-02}]".to_owned(), "spec.reason: the text is empty"),
        (windows("{from: 2026-12-02, until: 2026-12-01}"), "spec.windows[0].until: the freeze ends before it begins, or at once"),
        (windows("{from: 2026-12-02T10:00, until: 2026-12-02T10:00}"), "spec.windows[0].until: the freeze ends before it begins, or at once"),
        (windows("{from: 2026-12-02}"), "spec.windows[0]: `until` is missing"),
        (windows("{until: 2026-12-02}"), "spec.windows[0]: `from` is missing"),
        (windows("{}"), "spec.windows[0]: expected exactly one of"),
        (windows("{daily: {}, weekly: {from: Friday, until: Monday}}"), "spec.windows[0]: expected exactly one of"),
        (windows("{daily: {from: 25:00, until: 06:00}}"), "spec.windows[0].daily.from: `25:00` is not a time of day"),
        (windows("{daily: {from: 22:00}}"), "spec.windows[0].daily: `until` is missing"),
        (windows("{daily: {from: 22:00, until: 22:00}}"), "spec.windows[0].daily.until: the freeze ends when it begins"),
        (windows("{daily: {from: 24:00, until: 06:00}}"), "spec.windows[0].daily.from: a freeze begins at `23:59` at the latest"),
        (windows("{weekly: {from: Friday 16:00, until: Friday 16:00}}"), "spec.windows[0].weekly.until: the freeze ends when it begins"),
        (windows("{weekly: {from: 'Sunday 24:00', until: 'Monday 00:00'}}"), "spec.windows[0].weekly.until: the freeze ends when it begins"),
        (windows("{yearly: {from: 02-28 24:00, until: 03-01}}"), "spec.windows[0].yearly.from: a freeze begins at `23:59` at the latest"),
        (windows("{yearly: {from: 02-29, until: 03-01}}"), "spec.windows[0].yearly.from: 29 February is not in every year"),
        (windows("{yearly: {from: 24-12, until: 26-12}}"), "spec.windows[0].yearly.from: `24-12` is not a day of a year"),
        (windows("{recurrence: {start: 2026-01-01T00:00, rule: FREQ=HOURLY, duration: 5m}}"), "spec.windows[0].recurrence.rule: `FREQ=HOURLY` repeats more often than daily"),
        (windows("{recurrence: {start: 2026-01-01T00:00, rule: FREQ=DAILY}}"), "spec.windows[0].recurrence: `duration` is missing"),
        (windows("{recurrence: {start: 2026-01-01T00:00, rule: FREQ=DAILY, duration: 4000d}}"), "spec.windows[0].recurrence.duration: `4000d` is not a length"),
        (windows("{form: 2026-12-01, until: 2026-12-02}"), "did you mean `from`?"),
        ("environments: ['prod-*'], reason: r, endpoint: {url: 'https://itsm.example/check'}".to_owned(), "spec.environments[0]: an endpoint is asked for each environment by name"),
        ("environments: [production], reason: r, endpoint: {url: 'https://itsm.example/check', maximumAge: 5s}".to_owned(), "spec.endpoint.maximumAge: a feed is asked every 10 seconds at most"),
        ("environments: [production], reason: r, endpoint: {url: 'itsm.example/check'}".to_owned(), "spec.endpoint.url: expected an address such as"),
        ("environments: [production], reason: r, endpoint: {url: 'https://user:secret@itsm.example/check'}".to_owned(), "spec.endpoint.url: expected an address such as"),
        ("environments: [production], reason: r, calendar: {url: 'https://calendar.example/a.ics'}".to_owned(), "spec: `timeZone` is missing"),
        ("environments: [production], reason: r, timeZone: UTC, calendar: {url: 'https://calendar.example/a.ics', file: a.ics}".to_owned(), "spec.calendar: expected exactly one of `url`, `urlFile` and `file`"),
    ] {
        let found = problems(&spec);
        assert!(
            found.iter().any(|problem| problem.contains(expected)),
            "{spec}: {found:?}"
        );
    }
}

#[test]
fn rules_that_need_too_much_work_are_refused_when_they_are_read() {
    let window =
        "{recurrence: {start: 2026-01-01T00:00, rule: FREQ=DAILY;COUNT=100000, duration: 1h}}";
    let windows = |count| {
        let windows = vec![window; count].join(", ");
        format!("environments: [production], reason: r, timeZone: UTC, windows: [{windows}]")
    };
    assert_eq!(problems(&windows(5)), [""; 0]);
    let refused = problems(&windows(200));
    assert!(
        refused[0].contains("spec.windows: the recurrences need too much work"),
        "{refused:?}"
    );
}

#[test]
fn two_freezes_of_one_name_are_refused() {
    let set = load(&[
        ("a.yaml", freeze("year-end", YEAR_END)),
        ("b.yaml", freeze("year-end", YEAR_END)),
        ("policy.yaml", policy("p", "production", "shop")),
    ]);
    let problems: Vec<_> = set.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].contains("another change freeze has the name `year-end` too: a.yaml:1"),
        "{problems:?}"
    );
}

#[test]
fn a_freeze_that_no_policy_asks_for_is_reported() {
    let set = load(&[
        (
            "a.yaml",
            freeze("year-end", &YEAR_END.replace("[production]", "[prodction]")),
        ),
        ("policy.yaml", policy("p", "production", "shop")),
    ]);
    let warnings: Vec<_> = set.warnings.iter().map(ToString::to_string).collect();
    assert!(
        warnings[0].contains("the freeze `year-end` has no effect"),
        "{warnings:?}"
    );
}

#[test]
fn an_environment_that_differs_from_that_of_a_policy_by_case_is_reported() {
    let spec = YEAR_END.replace("[production]", "[staging, Production]");
    let set = load(&[
        ("a.yaml", freeze("year-end", &spec)),
        ("production.yaml", policy("p", "production", "shop")),
        ("staging.yaml", policy("s", "staging", "stage")),
    ]);
    let warnings: Vec<_> = set.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains(
            "the freeze `year-end` is not about the environment `production` of the policies: it names `Production`"
        ),
        "{warnings:?}"
    );
}

#[test]
fn a_policy_without_an_environment_cannot_ask_for_freezes() {
    let set = load(&[(
        "policy.yaml",
        policy("p", "production", "shop").replace("environment: production, ", ""),
    )]);
    let problem = set.problems[0].to_string();
    assert!(
        problem.contains("a freeze is about an environment, and this policy does not name one"),
        "{problem}"
    );
}

#[test]
fn a_revision_names_the_freezes() {
    let revision = |spec: &str| {
        load(&[
            ("a.yaml", freeze("year-end", spec)),
            ("policy.yaml", policy("p", "production", "shop")),
        ])
        .revision
    };
    let [before, after] = [YEAR_END, &YEAR_END.replace("2027-01-02", "2027-01-03")].map(revision);
    let parts =
        |revision: &str| -> Vec<String> { revision.split(' ').map(str::to_owned).collect() };
    let (before, after) = (parts(&before), parts(&after));
    assert_eq!(before[0], after[0]);
    assert!(before[1].starts_with("freezes:sha256:"), "{before:?}");
    assert_ne!(before[1], after[1]);
}

/// A folder with policies for two environments, and the freezes of one.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    let write = |file: &str, text: &str| {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(
        "policies/production.yaml",
        &policy("production", "production", "prod"),
    );
    write(
        "policies/staging.yaml",
        &policy("staging", "staging", "stage"),
    );
    write("policies/year-end.yaml", &freeze("year-end", YEAR_END));
    write(
        "policies/weekends.yaml",
        &freeze(
            "weekends",
            "environments: ['prod*'], reason: Nobody is at work, timeZone: Europe/Berlin, windows: [{weekly: {from: Friday 16:00, until: Monday 08:00}}]",
        ),
    );
    let pod = |namespace: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: web, namespace: {namespace}}}, spec: {{containers: [{{name: web, image: 'registry.example/app@sha256:{}'}}]}}}}",
            "1".repeat(64)
        )
    };
    write(
        "pods.yaml",
        &format!("{}\n---\n{}\n", pod("prod"), pod("stage")),
    );
    folder
}

fn check(folder: &TempDir, at: &str) -> Ran {
    run(
        folder.path(),
        &["check", "--policy", "policies", "--at", at, "pods.yaml"],
        "",
    )
}

#[test]
fn a_frozen_and_an_open_environment_in_one_apply_are_judged_each_by_its_own() {
    let folder = folder();
    let ran = check(&folder, "2026-12-21T06:59:59Z");
    insta::assert_snapshot!(format!("exit {}\n{}{}", ran.code, ran.stdout, ran.stderr), @r#"
exit 2
deny Pod prod/web (pods.yaml:1)
  policy `production` denies it:
  - noFreeze [frozen]: `production` is frozen by `weekends` (Nobody is at work) until 2026-12-21 08:00 +01:00 Europe/Berlin (2026-12-21 07:00 UTC); and by `year-end` (Year-end close) until 2027-01-03 00:00 +01:00 Europe/Berlin (2027-01-02 23:00 UTC); changes may pass from 2027-01-04 08:00 +01:00 Europe/Berlin (2027-01-04 07:00 UTC); the next freeze, `weekends`, begins 2027-01-08 16:00 +01:00 Europe/Berlin (2027-01-08 15:00 UTC)
    → wait until the freeze ends, or ask `release-management`; what runs is kept running; a rollback may pass where there are release records (there are none here); the freeze lets emergency changes pass, and the policy does not (`emergency.waives`)
  decision check

allow Pod stage/web (pods.yaml:3)
deny of 2 objects: 1 allowed, 1 denied, 0 undecided
"#);
}

#[test]
fn a_freeze_whose_feed_cannot_be_read_is_not_said_to_last() {
    let folder = folder();
    let calendar = "environments: [staging], reason: Change calendar, owner: itsm, timeZone: UTC, calendar: {file: ./missing.ics}";
    let file = folder.path().join("policies/calendar.yaml");
    fs::write(file, freeze("calendar", calendar)).unwrap();
    let ran = check(&folder, "2026-12-01T12:00:00Z");
    assert_eq!(ran.code, 3, "{}{}", ran.stdout, ran.stderr);
    for said in [
        "policy `staging` could not decide",
        "`staging` may be frozen: `calendar` (Change calendar): its feed was never read: ",
        "→ wait until the feed is read again, or ask `itsm`; what runs is kept running",
    ] {
        assert!(ran.stdout.contains(said), "{said}: {}", ran.stdout);
    }
}

#[test]
fn a_deployer_is_warned_of_a_freeze_that_is_near() {
    let folder = folder();
    let ran = check(&folder, "2026-12-18T14:59:59Z");
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    insta::assert_snapshot!(ran.stdout, @r#"
allow Pod prod/web (pods.yaml:1)
  warning `production` is frozen from 2026-12-18 16:00 +01:00 (`weekends`)
allow Pod stage/web (pods.yaml:3)
allow of 2 objects: 2 allowed, 0 denied, 0 undecided
"#);
}

fn asked(folder: &TempDir, args: &[&str]) -> Ran {
    run(
        folder.path(),
        &[&["freeze"], args, &["policies"]].concat(),
        "",
    )
}

#[test]
fn freeze_now_answers_a_pipeline_by_its_exit_code() {
    let folder = folder();
    let now = |at: &str| asked(&folder, &["now", "--environment", "production", "--at", at]);
    let open = now("2026-12-01T10:00:00Z");
    let frozen = now("2026-12-24T10:00:00Z");
    assert_eq!((open.code, frozen.code), (0, 2));
    insta::assert_snapshot!(format!("{}{}", open.stdout, frozen.stdout), @r#"
open production
  the next freeze, `weekends`, begins 2026-12-04 16:00 +01:00 Europe/Berlin (2026-12-04 15:00 UTC)
frozen production
  `year-end` (Year-end close) until 2027-01-03 00:00 +01:00 Europe/Berlin (2027-01-02 23:00 UTC)
    owner: release-management; may pass: upkeep, rollback, emergency
  open from 2027-01-04 08:00 +01:00 Europe/Berlin (2027-01-04 07:00 UTC)
  the next freeze, `weekends`, begins 2027-01-08 16:00 +01:00 Europe/Berlin (2027-01-08 15:00 UTC)
"#);
    fs::write(
        folder.path().join("policies/itsm.yaml"),
        freeze("itsm", "environments: [production], reason: Change calendar, timeZone: UTC, calendar: {file: missing.ics}"),
    )
    .unwrap();
    assert_eq!(now("2026-12-01T10:00:00Z").code, 3);
    assert_eq!(now("2026-12-24T10:00:00Z").code, 2);
    fs::write(
        folder.path().join("policies/broken.yaml"),
        freeze("broken", "environments: [production]"),
    )
    .unwrap();
    let broken = now("2026-12-01T10:00:00Z");
    assert_eq!(broken.code, 1);
    assert!(
        broken.stderr.contains("broken.yaml:1:"),
        "{}",
        broken.stderr
    );
}

#[test]
fn what_makes_an_environment_look_more_open_than_it_may_be_is_said() {
    let folder = folder();
    let write = |when_stale: &str| {
        let spec = format!(
            "environments: [production], reason: Change calendar, timeZone: UTC, calendar: {{file: missing.ics, whenStale: {when_stale}}}"
        );
        fs::write(
            folder.path().join("policies/itsm.yaml"),
            freeze("itsm", &spec),
        )
        .unwrap();
    };
    let at = ["--at", "2026-12-01T10:00:00Z", "--environment"];
    let ask =
        |args: &[&str], environment: &str| asked(&folder, &[args, &at, &[environment]].concat());
    write("Open");
    let open = ask(&["now"], "production");
    let why = "warning: the freeze `itsm` does not count for `production`, because its `whenStale` is `Open`: its feed was never read";
    assert_eq!(open.code, 0);
    assert!(open.stderr.contains(why), "{}", open.stderr);
    let checked = check(&folder, "2026-12-01T10:00:00Z");
    let warning = "warning the change freeze `itsm` does not count (`whenStale: Open`): its feed was never read";
    assert_eq!(checked.code, 0, "{}{}", checked.stdout, checked.stderr);
    assert!(checked.stdout.contains(warning), "{}", checked.stdout);
    write("Frozen");
    for shows in [&["list"][..], &["month", "--month", "2026-12"]] {
        let shown = ask(shows, "production");
        let unknown = "unknown production: `itsm` (Change calendar): its feed was never read";
        assert!(shown.stdout.contains(unknown), "{}", shown.stdout);
    }
    let other = ask(&["now"], "Production");
    let near =
        "warning: no freeze is about the environment `Production`; did you mean `production`?";
    assert_eq!(other.code, 0);
    assert!(other.stderr.contains(near), "{}", other.stderr);
    let known = ask(&["now"], "staging");
    assert_eq!((known.code, known.stderr.as_str()), (0, ""));
}

#[test]
fn a_list_that_would_not_be_complete_is_an_error() {
    let folder = TempDir::new().unwrap();
    let hours: Vec<_> = (0..24).map(|hour| hour.to_string()).collect();
    let rule = format!("FREQ=DAILY;BYHOUR={}", hours.join(","));
    let window =
        format!("{{recurrence: {{start: 2026-01-01T00:00, rule: '{rule}', duration: 10m}}}}");
    let windows = vec![window; 20].join(", ");
    let spec =
        format!("environments: [production], reason: r, timeZone: UTC, windows: [{windows}]");
    fs::write(folder.path().join("freeze.yaml"), freeze("busy", &spec)).unwrap();
    let list = |days: &str| {
        let at = "2026-12-01T10:00:00Z";
        let args = ["freeze", "list", "--at", at, "--days", days, "freeze.yaml"];
        run(folder.path(), &args, "")
    };
    assert_eq!(list("2").code, 0);
    let long = list("3660");
    assert_eq!(long.code, 1, "{}", long.stdout);
    assert!(long.stderr.contains("too much work"), "{}", long.stderr);
}

#[test]
fn freeze_next_and_list_and_month_show_what_comes() {
    let folder = folder();
    let next = asked(
        &folder,
        &[
            "next",
            "--environment",
            "production",
            "--environment",
            "staging",
            "--at",
            "2026-12-24T10:00:00Z",
        ],
    );
    let list = asked(
        &folder,
        &["list", "--days", "14", "--at", "2026-12-14T10:00:00Z"],
    );
    let month = asked(&folder, &["month", "--month", "2026-12"]);
    let list_text = list
        .stdout
        .lines()
        .filter(|line| !line.contains("time zone data"))
        .collect::<Vec<_>>()
        .join("\n");
    insta::assert_snapshot!(format!("{}\n{list_text}\n\n{}", next.stdout, month.stdout), @r#"
production: frozen, open from 2027-01-04 08:00 +01:00 Europe/Berlin (2027-01-04 07:00 UTC)
staging: open, no freeze is planned

2026-12-18 16:00 +01:00 to 2026-12-21 08:00 +01:00  weekends: Nobody is at work
2026-12-20 00:00 +01:00 to 2027-01-03 00:00 +01:00  year-end: Year-end close
2026-12-25 16:00 +01:00 to 2026-12-28 08:00 +01:00  weekends: Nobody is at work

production, December 2026 (Europe/Berlin)
  Mon  Tue  Wed  Thu  Fri  Sat  Sun
        1    2    3    4+   5*   6*
   7+   8    9   10   11+  12*  13*
  14+  15   16   17   18+  19*  20*
  21*  22*  23*  24*  25*  26*  27*
  28*  29*  30*  31*
  * frozen, + frozen for a part of the day
"#);
}

#[test]
fn freeze_answers_in_json() {
    let folder = folder();
    let now = asked(
        &folder,
        &["now", "--output", "json", "--at", "2026-12-24T10:00:00Z"],
    );
    let said: Value = serde_json::from_str(&now.stdout).unwrap();
    let production = &said["environments"][0];
    assert_eq!(production["state"], "frozen");
    assert_eq!(production["freezes"][0]["name"], "year-end");
    assert_eq!(production["freezes"][0]["until"], "2027-01-02T23:00:00Z");
    assert_eq!(production["freezes"][0]["mayPass"]["emergency"], true);
    assert_eq!(production["openFrom"], "2027-01-04T07:00:00Z");
    assert_eq!(production["next"]["name"], "weekends");
    assert!(said["timeZoneData"].as_str().unwrap().starts_with("20"));
    let list = asked(
        &folder,
        &["list", "--output", "json", "--at", "2026-12-24T10:00:00Z"],
    );
    let said: Value = serde_json::from_str(&list.stdout).unwrap();
    assert_eq!(said["freezes"][0]["end"], "2027-01-02T23:00:00Z");
}

#[test]
fn the_zone_of_the_host_does_not_matter() {
    let folder = folder();
    let answers: Vec<_> = ["UTC", "America/Los_Angeles", "Pacific/Auckland"]
        .iter()
        .map(|zone| {
            let output = Command::new(env!("CARGO_BIN_EXE_promotion-gate"))
                .args([
                    "freeze",
                    "list",
                    "--days",
                    "400",
                    "--at",
                    "2026-11-28T00:00:00Z",
                    "policies",
                ])
                .current_dir(folder.path())
                .env("TZ", zone)
                .env("TZDIR", "/nowhere")
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap()
        })
        .collect();
    assert!(answers[0].contains("weekends"), "{answers:?}");
    // The offset is the one that is valid then, and not that of today.
    assert!(
        answers[0].contains("2027-07-02 16:00 +02:00"),
        "{answers:?}"
    );
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
}

#[test]
fn an_imported_calendar_freezes_what_the_calendar_freezes() {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/calendars");
    let range = Span {
        start: at("2025-01-01T00:00:00Z"),
        end: at("2027-01-01T00:00:00Z"),
    };
    let clipped = |spans: Vec<Span>| {
        let clip = |span: Span| Span {
            start: span.start.max(range.start),
            end: span.end.min(range.end),
        };
        merge(spans.into_iter().map(clip).collect())
    };
    let folder = TempDir::new().unwrap();
    let (mut compared, mut rules) = (0, 0);
    for entry in fs::read_dir(fixtures).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "ics") {
            continue;
        }
        let described = fs::read_to_string(path.with_extension("json")).unwrap();
        let described: Value = serde_json::from_str(&described).unwrap();
        let zone = described["zone"].as_str().unwrap();
        let args = [
            "freeze",
            "import",
            path.to_str().unwrap(),
            "--time-zone",
            zone,
            "--environment",
            "production",
            "--at",
            "2025-01-01T00:00:00Z",
            "--days",
            "730",
        ];
        let calendar =
            read_calendar(&fs::read(&path).unwrap(), &Zone::named(zone).unwrap()).unwrap();
        let events = calendar.events(|_| true).unwrap();
        let series = events.iter().flat_map(|event| &event.series);
        let expected =
            series.flat_map(|series| series.spans(range, &mut Budget::days(1_000_000)).unwrap());
        let expected = clipped(expected.collect());
        let ran = run(folder.path(), &args, "");
        if expected.is_empty() && ran.code == 1 {
            assert!(
                ran.stderr.contains("no event of the calendar is a freeze"),
                "{}",
                ran.stderr
            );
            continue;
        }
        assert_eq!(ran.code, 0, "{}: {}", path.display(), ran.stderr);
        let set = load(&[
            ("imported.yaml", ran.stdout.clone()),
            ("policy.yaml", policy("p", "production", "shop")),
        ]);
        assert_eq!(set.problems, [], "{}: {}", path.display(), ran.stdout);
        let schedule = api::schedule(set.freezes, &FeedStates::new(), range.start);
        let found = schedule.occurrences(Some("production"), range).unwrap();
        let found = clipped(found.into_iter().map(|(_, found)| found.span).collect());
        assert_eq!(found, expected, "{}: {}", path.display(), ran.stdout);
        compared += 1;
        rules += usize::from(ran.stdout.contains("recurrence:"));
    }
    assert!(compared >= 30 && rules >= 15, "{compared}, {rules}");
}
