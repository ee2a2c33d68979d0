//! Calendars in the style of many makers (`tests/fixtures/calendars`): the reader and the expansion say what two other programs say.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::Timestamp;
use promotion_gate_core::calendar::{Budget, Span, Zone, read_calendar};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    zone: String,
    /// Why not both programs are right, if they are not.
    differs: Option<String>,
    instances: BTreeSet<String>,
}

#[test]
fn calendars_of_many_makers_have_the_instances_that_two_other_programs_find() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/calendars");
    let range = Span {
        start: "2025-01-01T00:00Z".parse().unwrap(),
        end: "2027-01-01T00:00Z".parse().unwrap(),
    };
    let (mut agreed, mut others, mut wrong) = (0, 0, Vec::new());
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "ics") {
            continue;
        }
        let expected = std::fs::read(path.with_extension("json")).unwrap();
        let expected: Expected = serde_json::from_slice(&expected).unwrap();
        let zone = Zone::named(&expected.zone).unwrap();
        let file = std::fs::read(&path).unwrap();
        let calendar = read_calendar(&file, &zone).unwrap();
        let events = calendar.events(|_| true);
        let events = events.unwrap_or_else(|problem| panic!("{}: {problem}", path.display()));
        let mut budget = Budget::days(1_000_000);
        let series = events.iter().flat_map(|event| &event.series);
        let spans = series.flat_map(|series| series.spans(range, &mut budget).unwrap());
        let shown = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let instances: BTreeSet<String> = spans
            .map(|span| format!("{}/{}", shown(span.start), shown(span.end)))
            .collect();
        let ours = instances.difference(&expected.instances);
        let theirs = expected.instances.difference(&instances);
        let ours = ours.map(|span| format!("only we: {span}"));
        let different = ours.chain(theirs.map(|span| format!("only they: {span}")));
        wrong.extend(different.map(|span| format!("{}: {span}", path.display())));
        match expected.differs {
            None => agreed += 1,
            Some(_) => others += 1,
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(agreed >= 30, "{agreed} calendars where both agree");
    println!("{agreed} calendars where both programs agree, {others} where another answer stands");
}
