mod identities;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const GOOGLE: &str = "https://accounts.google.com";
const KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAELAnTv/BxOPr49JiXj5gMZoWFQj2M
c7nP8rz7VZ6SE8a7D7xRZ8xLDz1rqJ5c4eG3sCkq4nVQvP2d8xTQW6Nq2Q==
-----END PUBLIC KEY-----";

fn identity(written: &Value) -> Identity {
    serde_json::from_value(written.clone()).unwrap_or_else(|error| panic!("{written}: {error}"))
}

fn email(address: &str) -> Value {
    json!({"certificate": {"issuer": GOOGLE, "email": address}})
}

fn github(login: &str, id: Option<u64>) -> Value {
    json!({"github": {"login": login, "id": id}})
}

fn person(name: &str, identities: &[Value]) -> Person {
    let personal = |written: &Value| identity(written).try_into().unwrap();
    Person {
        name: name.to_owned(),
        display_name: None,
        identities: identities.iter().map(personal).collect(),
        validity: Validity::default(),
    }
}

fn bot(name: &str, identities: &[Value]) -> Automation {
    Automation {
        name: name.to_owned(),
        identities: identities.iter().map(identity).collect(),
    }
}

fn group(name: &str, members: &[(&str, Validity)]) -> Group {
    let member = |(person, validity): &(&str, Validity)| Member {
        person: (*person).to_owned(),
        validity: *validity,
    };
    Group {
        name: name.to_owned(),
        members: members.iter().map(member).collect(),
    }
}

fn directory(people: Vec<Person>) -> Directory {
    Directory {
        people,
        ..Directory::default()
    }
}

fn moment(text: &str) -> Moment {
    Moment::try_from(text.to_owned()).unwrap()
}

fn period(from: &str, until: &str) -> Validity {
    let moment = |text: &str| (!text.is_empty()).then(|| moment(text));
    Validity::new(moment(from), moment(until)).unwrap()
}

fn refusals(directories: &[Directory]) -> Vec<String> {
    let contradictions = People::merge(directories).err().unwrap_or_default();
    contradictions.into_iter().map(|it| it.message).collect()
}

/// The answer in a word, with the name of the person or automation.
fn whose(people: &People, written: &Value) -> String {
    match people.person_of(&identity(written)) {
        Lookup::Person(person) => person.name.clone(),
        Lookup::Automation(name) => format!("automation {name}"),
        Lookup::Similar(person) => format!("similar to {}", person.name),
        Lookup::Unknown => "unknown".to_owned(),
    }
}

#[test]
fn a_contradiction_names_both_places() {
    let directories = [
        directory(vec![
            person("carol", &[email("carol@example.com")]),
            person("alice", &[email("alice@example.com")]),
        ]),
        directory(vec![person(
            "bob",
            &[email("bob@example.com"), email("alice@example.com")],
        )]),
    ];
    let found = People::merge(&directories).unwrap_err();
    let [
        Contradiction {
            at,
            other: Some(other),
            ..
        },
    ] = found.as_slice()
    else {
        panic!("{found:?}")
    };
    assert_eq!(
        (at.directory, at.path.to_string()),
        (1, "people[0].identities[1]".to_owned())
    );
    assert_eq!(
        (other.directory, other.path.to_string()),
        (0, "people[1].identities[0]".to_owned())
    );
}

#[test]
fn a_contradiction_about_automation_names_both_places_too() {
    let robots = |robots: Vec<Automation>| Directory {
        automation: robots,
        ..Directory::default()
    };
    let [a, b, c] = ["a[bot]", "b[bot]", "c[bot]"].map(|login| github(login, None));
    let directories = [
        directory(vec![person("alice", &[email("alice@example.com")])]),
        robots(vec![
            bot("first", std::slice::from_ref(&a)),
            bot("second", &[b, c.clone()]),
        ]),
        robots(vec![bot("third", &[c, a])]),
    ];
    let found = People::merge(&directories).unwrap_err();
    let places = found.iter().map(|it| {
        let other = it.other.as_ref().unwrap();
        let [at, other] = [&it.at, other].map(|it| format!("{}:{}", it.directory, it.path));
        (at, other)
    });
    let place = |directory: usize, robot: usize, identity: usize| {
        format!("{directory}:automation[{robot}].identities[{identity}]")
    };
    assert_eq!(
        places.collect::<Vec<_>>(),
        [
            (place(2, 0, 1), place(1, 0, 0)),
            (place(2, 0, 0), place(1, 1, 1))
        ]
    );
}

#[test]
fn automation_is_described_in_one_way() {
    let [a, b] = ["a[bot]", "b[bot]"].map(|login| github(login, None));
    let robot = |identities: &[Value]| Directory {
        automation: vec![bot("robot", identities)],
        ..Directory::default()
    };
    let one = robot(&[a.clone(), b.clone()]);
    let reordered = robot(&[b, a.clone(), a.clone()]);
    let people = People::merge(&[one.clone(), reordered]).unwrap();
    assert_eq!(people.automation().len(), 1);
    // A login says nothing beside the same login with its number.
    let numbered = github("a[bot]", Some(1));
    let both = robot(&[a.clone(), github("b[bot]", None), numbered.clone()]);
    let fewer = robot(&[numbered, github("b[bot]", None)]);
    assert!(People::merge(&[both, fewer]).is_ok());
    let refused = refusals(&[one, robot(&[a])]);
    assert!(
        refused[0].contains("described in another way"),
        "{refused:?}"
    );
}

#[test]
fn the_last_contradiction_that_is_reported_keeps_its_own_suggestion() {
    let strangers: Vec<_> = (0..200).map(|n| format!("stranger-{n}")).collect();
    let names = strangers.iter().map(String::as_str).chain(["alcie"]);
    let members: Vec<_> = names.map(|name| (name, Validity::default())).collect();
    let found = People::merge(&[Directory {
        groups: vec![group("leads", &members)],
        ..directory(vec![person("alice", &[email("a@example.com")])])
    }]);
    let found = found.unwrap_err();
    assert_eq!(found.len(), 200);
    assert!(found.iter().all(|it| it.suggestion.is_none()));
}

#[test]
fn a_person_is_described_in_one_way() {
    let alice = || person("alice", &[email("a@example.com"), github("alice", None)]);
    let reordered = person(
        "alice",
        &[
            github("alice", None),
            email("a@example.com"),
            email("a@example.com"),
        ],
    );
    let people = People::merge(&[directory(vec![alice()]), directory(vec![reordered])]).unwrap();
    assert_eq!(people.people().len(), 1);
    let expired = Person {
        validity: period("", "2026-01-01"),
        ..alice()
    };
    let named = Person {
        display_name: Some("Alice".to_owned()),
        ..alice()
    };
    for other in [expired, named, person("alice", &[email("a@example.com")])] {
        let refused = refusals(&[directory(vec![alice()]), directory(vec![other])]);
        assert!(
            refused[0].contains("described in another way"),
            "{refused:?}"
        );
    }
    let robot = Directory {
        automation: vec![bot("alice", &[github("a[bot]", None)])],
        ..Directory::default()
    };
    let refused = refusals(&[directory(vec![alice()]), robot]);
    assert!(
        refused[0].contains("names a person and automation"),
        "{refused:?}"
    );
}

#[test]
fn a_group_of_several_directories_has_the_members_of_all() {
    let people = directory(vec![
        person("alice", &[email("a@example.com")]),
        person("bob", &[email("b@example.com")]),
    ]);
    let of = |members: &[(&str, Validity)]| Directory {
        groups: vec![group("leads", members)],
        ..Directory::default()
    };
    let (always, first, second) = (
        Validity::default(),
        period("2026-01-01", "2026-03-31"),
        period("2026-04-01", ""),
    );
    let merged = People::merge(&[
        people.clone(),
        of(&[("alice", always)]),
        of(&[("alice", always), ("bob", first), ("bob", second)]),
    ])
    .unwrap();
    let bob = merged.person("bob").unwrap();
    for (at, is_member) in [
        ("2025-12-31T23:59:59Z", false),
        ("2026-01-01T00:00:00Z", true),
        ("2026-03-31T23:59:59.999Z", true),
        ("2026-04-01T00:00:00Z", true),
    ] {
        assert_eq!(
            merged.is_member("leads", bob, at.parse().unwrap()),
            is_member,
            "{at}"
        );
    }
    assert!(!merged.is_member("others", bob, "2026-05-01T00:00:00Z".parse().unwrap()));
    assert!(merged.group_exists("leads") && !merged.group_exists("others"));

    let refused = refusals(&[
        people.clone(),
        of(&[("bob", first)]),
        of(&[("bob", always)]),
    ]);
    assert!(refused[0].contains("overlaps"), "{refused:?}");
    let unknown = People::merge(&[people.clone(), of(&[("alcie", always)])]).unwrap_err();
    assert_eq!(unknown[0].suggestion.as_deref(), Some("alice"));
    let robot = Directory {
        automation: vec![bot("robot", &[github("a[bot]", None)])],
        ..of(&[("robot", always)])
    };
    let refused = refusals(&[people, robot]);
    assert!(
        refused[0].contains("only people are members"),
        "{refused:?}"
    );
}

#[test]
fn memberships_that_share_an_instant_are_refused_in_every_order() {
    let alice = directory(vec![person("alice", &[email("a@example.com")])]);
    for (one, other, overlaps) in [
        (
            ("2026-01-01", "2026-03-31"),
            ("2026-03-31", "2026-05-01"),
            true,
        ),
        (
            ("2026-01-01", "2026-03-31"),
            ("2026-04-01", "2026-05-01"),
            false,
        ),
        (
            ("2026-01-01", "2026-03-31"),
            ("2026-06-01", "2026-07-01"),
            false,
        ),
        (
            ("2026-01-01", "2026-12-31"),
            ("2026-03-01", "2026-04-01"),
            true,
        ),
        (("", "2026-03-31"), ("2026-03-31", ""), true),
        (("", "2026-03-31"), ("2026-04-01", ""), false),
        (("", "2026-03-31"), ("", "2026-01-31"), true),
        (("2026-01-01", ""), ("2026-03-01", ""), true),
        (("", ""), ("2026-01-01", "2026-02-01"), true),
    ] {
        let [one, other] = [one, other].map(|(from, until)| period(from, until));
        for periods in [[one, other], [other, one]] {
            let members = periods.map(|period| ("alice", period));
            let groups = Directory {
                groups: vec![group("leads", &members)],
                ..alice.clone()
            };
            let refused = refusals(&[groups]);
            assert_eq!(refused.len(), usize::from(overlaps), "{periods:?}");
        }
    }
}

#[test]
fn a_person_who_left_is_in_no_group_any_more() {
    let alice = Person {
        validity: period("2026-01-01", "2026-06-30"),
        ..person("alice", &[email("a@example.com")])
    };
    let people = People::merge(&[Directory {
        people: vec![alice],
        groups: vec![group("leads", &[("alice", Validity::default())])],
        ..Directory::default()
    }])
    .unwrap();
    let alice = people.person("alice").unwrap();
    for (at, counts) in [
        ("2025-12-31T23:00:00Z", false),
        ("2026-06-30T23:59:00Z", true),
        ("2026-07-01T00:00:00Z", false),
    ] {
        let at = at.parse().unwrap();
        assert_eq!(
            (alice.is_active_at(at), people.is_member("leads", alice, at)),
            (counts, counts)
        );
    }
}

#[test]
fn a_day_counts_as_a_whole_and_a_time_needs_its_offset() {
    let day = period("2026-01-01", "2026-01-01");
    assert_eq!(
        day.to_string(),
        "from 2026-01-01T00:00:00Z and before 2026-01-02T00:00:00Z"
    );
    let hours = period("2026-01-01T09:00:00+01:00", "2026-01-01T18:00:00Z");
    assert_eq!(hours.from().unwrap().to_string(), "2026-01-01T08:00:00Z");
    for text in [
        "",
        "tomorrow",
        "2026-13-01",
        "2026-01-01T00:00:00",
        "2026-1-1",
        "20260101",
        "99999-01-01",
        "9999-12-30",
        "9999-12-31",
    ] {
        assert!(Moment::try_from(text.to_owned()).is_err(), "{text}");
    }
    for (from, until) in [
        ("2026-02-01", "2026-01-01"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
    ] {
        assert!(Validity::new(Some(moment(from)), Some(moment(until))).is_err());
    }
    let last = Validity::new(None, Some(moment("9999-12-29"))).unwrap();
    assert_eq!(last.to_string(), "before 9999-12-30T00:00:00Z");
}

#[test]
fn a_name_is_a_dns_label() {
    for (name, fits) in [
        ("alice", true),
        ("a", true),
        ("a-1", true),
        ("4", true),
        ("", false),
        ("Alice", false),
        ("-a", false),
        ("a-", false),
        ("a.b", false),
        ("a b", false),
        ("é", false),
    ] {
        assert_eq!(name.parse::<DnsLabel>().is_ok(), fits, "{name}");
    }
    assert!(
        "a".repeat(63).parse::<DnsLabel>().is_ok() && "a".repeat(64).parse::<DnsLabel>().is_err()
    );
}

#[test]
fn contradictions_in_huge_numbers_are_bounded() {
    let many = |prefix: &str| {
        (0..1000)
            .map(|n| person(&format!("{prefix}{n}"), &[email("same@example.com")]))
            .collect()
    };
    assert_eq!(refusals(&[directory(many("a"))]).len(), 200);
    let days: Vec<_> = (1..=9)
        .flat_map(|month| (1..=28).map(move |day| format!("2026-0{month}-{day:02}")))
        .collect();
    let periods: Vec<_> = days.iter().map(|day| ("alice", period(day, day))).collect();
    let alice = |periods: &[(&str, Validity)]| Directory {
        groups: vec![group("leads", periods)],
        ..directory(vec![person("alice", &[email("a@example.com")])])
    };
    assert!(refusals(&[alice(&periods)])[0].contains("more than 64 entries"));
    assert_eq!(refusals(&[alice(&periods[..64])]), Vec::<String>::new());
    assert_eq!(refusals(&[alice(&periods[..65])]).len(), 1);
}

/// Directories over few names and identities, so that they contradict each other often.
fn directories() -> impl Strategy<Value = Vec<Directory>> {
    let identity = prop_oneof![
        (0..4u8).prop_map(|n| email(&format!("p{n}@example.com"))),
        (0..4u8).prop_map(|n| email(&format!("P{n}+x@example.com"))),
        (0..4u8, proptest::option::of(0..4u64)).prop_map(|(n, id)| github(&format!("p{n}"), id)),
    ];
    let entry = (0..4u8, proptest::collection::vec(identity, 1..3));
    let validity = prop_oneof![
        Just(Validity::default()),
        Just(period("2026-01-01", "2026-02-01")),
        Just(period("2026-03-01", ""))
    ];
    let member = (0..4u8, validity);
    let one = (
        proptest::collection::vec(entry, 0..3),
        proptest::collection::vec(member, 0..3),
    )
        .prop_map(|(people, members)| {
            let people = people
                .iter()
                .map(|(n, identities)| person(&format!("p{n}"), identities))
                .collect();
            let members: Vec<_> = members
                .iter()
                .map(|(n, validity)| (format!("p{n}"), *validity))
                .collect();
            let members: Vec<_> = members
                .iter()
                .map(|(name, validity)| (name.as_str(), *validity))
                .collect();
            Directory {
                groups: vec![group("g", &members)],
                ..directory(people)
            }
        });
    proptest::collection::vec(one, 0..3)
}

proptest! {
    #[test]
    fn the_order_of_directories_and_entries_never_matters(mut all in directories()) {
        let merged = People::merge(&all).ok();
        all.reverse();
        for directory in &mut all {
            directory.people.reverse();
            for person in &mut directory.people {
                person.identities.reverse();
            }
            for group in &mut directory.groups {
                group.members.reverse();
            }
        }
        prop_assert_eq!(merged, People::merge(&all).ok());
    }

    #[test]
    fn no_identity_counts_for_two_people(all in directories()) {
        let Ok(people) = People::merge(&all) else { return Ok(()) };
        for person in people.people() {
            for identity in person.identities() {
                prop_assert_eq!(people.person_of(identity), Lookup::Person(person));
                for other in people.people().iter().filter(|other| other.name != person.name) {
                    for theirs in other.identities() {
                        prop_assert_eq!(identity::same(identity, theirs), Sameness::Different);
                    }
                }
            }
        }
    }
}
