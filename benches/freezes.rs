//! What change freezes cost: the state at an instant over 200 of them, whose rules are one or twenty years old; the same beyond the
//! spans that are computed at once; and the making of the schedule.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on fails")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use jiff::{SignedDuration, Timestamp};
use promotion_gate::api::{self, FeedStates};
use promotion_gate_core::gate::{Freeze, Schedule};

const RULES: [&str; 5] = [
    "FREQ=WEEKLY;BYDAY=FR",
    "FREQ=MONTHLY;BYDAY=-1FR",
    "FREQ=YEARLY;BYMONTH=12;BYMONTHDAY=20",
    "FREQ=DAILY;INTERVAL=3",
    "FREQ=MONTHLY;BYMONTHDAY=1,15",
];

/// Freezes of one environment by rules that begin in a year.
fn freezes(count: usize, since: u16) -> Vec<Freeze> {
    let freeze = |(n, rule): (usize, &str)| {
        let (hour, length) = (n % 24, 1 + n % 60);
        let text = format!(
            "environments: [production]\nreason: r\ntimeZone: Europe/Berlin\nwindows: [{{recurrence: {{start: {since}-01-02T{hour:02}:00, rule: '{rule}', duration: {length}h}}}}]\n"
        );
        let (mut documents, problems) =
            promotion_gate_core::documents::read("freeze", text.as_bytes());
        assert!(problems.is_empty(), "{problems:?}");
        let spec = serde_json::from_value(documents.remove(0).value).unwrap();
        api::freeze(&format!("freeze-{n}"), &spec, std::path::Path::new("")).unwrap()
    };
    let rules = RULES.into_iter().cycle();
    (0..count).zip(rules).map(freeze).collect()
}

fn state(criterion: &mut Criterion) {
    let now: Timestamp = "2026-11-28T12:00:00Z".parse().unwrap();
    let mut group = criterion.benchmark_group("200 freezes");
    for since in [2025, 2006] {
        let freezes = freezes(200, since);
        let schedule = api::schedule(freezes.clone(), &FeedStates::new(), now);
        let ask = |schedule: &Schedule, at: Timestamp| {
            schedule.frozen_at(black_box("production"), at).len()
        };
        group.bench_function(format!("state, rules since {since}"), |bencher| {
            let mut at = now;
            bencher.iter(|| {
                at += SignedDuration::from_secs(61);
                if at > now + SignedDuration::from_hours(24 * 300) {
                    at = now;
                }
                ask(&schedule, at)
            });
        });
        group.bench_function(
            format!("state beyond the computed spans, rules since {since}"),
            |bencher| {
                let far = now + SignedDuration::from_hours(24 * 3_000);
                bencher.iter(|| ask(&schedule, black_box(far)));
            },
        );
        group.bench_function(format!("made, rules since {since}"), |bencher| {
            bencher.iter(|| api::schedule(freezes.clone(), &FeedStates::new(), now));
        });
    }
    group.finish();
}

criterion_group!(benches, state);
criterion_main!(benches);
