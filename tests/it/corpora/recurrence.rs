//! Recurrence rules of dateutil's tests: those that repeat daily or less often, as the state and the next change of a schedule; the
//! others are refused.

use jiff::civil::DateTime;
use jiff::{SignedDuration, Timestamp};
use promotion_gate_core::calendar::{Length, Recurrence, Series, Zone};
use promotion_gate_core::gate::{Freeze, FreezeSource, Glob, MayPass, Schedule};
use serde_json::Value;

use super::{Tally, folder, read};

/// How long each instance lasts.
const LENGTH: SignedDuration = SignedDuration::from_secs(1);

#[test]
fn recurrence_rules_give_the_states_and_changes_that_are_expected() {
    let Some(folder) = folder("recurrence") else {
        return;
    };
    let mut tally = Tally::of("recurrence");
    let text = String::from_utf8(read(&folder, "rrule-cases.jsonl")).unwrap();
    for line in text.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let rule = case["rrule"].as_str().unwrap();
        let name = format!("{} {rule}", case["name"].as_str().unwrap());
        let is_finer = ["HOURLY", "MINUTELY", "SECONDLY"]
            .iter()
            .any(|finer| rule.contains(&format!("FREQ={finer}")));
        if is_finer {
            let refused = rule.parse::<Recurrence>().unwrap_err().to_string();
            let says_so = refused.contains("more often than daily");
            tally.expect(&name, says_so, true);
            continue;
        }
        let expected: Vec<Timestamp> = case["expect"]
            .as_array()
            .unwrap()
            .iter()
            .map(|at| instant(at.as_str().unwrap()))
            .collect();
        let start = case["dtstart"].as_str().unwrap();
        tally.expect(&name, walk(rule, start, expected.len()), Some(expected));
    }
    tally.close(text.lines().count());
}

fn local(text: &str) -> DateTime {
    DateTime::strptime("%Y%m%dT%H%M%S", text).unwrap()
}

fn instant(text: &str) -> Timestamp {
    Zone::utc().first(local(text))
}

/// The starts of all freezes, as a walk along the changes of a schedule finds them: `None` if the states do not fit the changes.
fn walk(rule: &str, start: &str, expected: usize) -> Option<Vec<Timestamp>> {
    let start = local(start);
    let series = Series {
        includes_start: false,
        length: Length::Duration {
            days: 0,
            seconds: LENGTH.as_secs(),
        },
        rules: vec![rule.parse().ok()?],
        ..Series::once(Zone::utc(), start, start)
    };
    let freeze = Freeze {
        name: "case".to_owned(),
        environments: vec![Glob::parse("production").unwrap()],
        reason: "a case".to_owned(),
        owner: None,
        may_pass: MayPass::default(),
        source: FreezeSource::Windows(vec![series]),
    };
    let mut at = Zone::utc().first(start) - SignedDuration::from_secs(1);
    let schedule = Schedule::new([(freeze, None)], at);
    let is_frozen = |at| !schedule.frozen_at("production", at).is_empty();
    let mut starts = Vec::new();
    while let Some(change) = schedule.next_change("production", at) {
        let end = schedule.next_change("production", change)?;
        let second = SignedDuration::from_nanos(1);
        let fits = !is_frozen(change - second)
            && is_frozen(change)
            && is_frozen(end - second)
            && !is_frozen(end);
        if !fits || end.duration_since(change) != LENGTH || starts.len() > expected {
            return None;
        }
        starts.push(change);
        at = end;
    }
    Some(starts)
}
