//! The admissions by emergency changes that release records hold → one record for each emergency change. Records only grow.

use std::collections::{BTreeMap, BTreeSet};

use promotion_gate_core::gate::{Digest, ImageReference};

use crate::api::{
    EmergencyAdmission, EmergencyChangeRecordSpec, MAXIMUM_NAMES, MAXIMUM_USES, RecordedIncident,
};
use crate::record::EmergencyEntry;

/// The most characters of an address.
const MAXIMUM_ADDRESS: usize = 4096;
/// The most characters of the id of a decision.
const MAXIMUM_ID: usize = 256;

/// The records that these admissions need, by name.
pub(super) fn needed(entries: &[EmergencyEntry]) -> BTreeMap<String, EmergencyChangeRecordSpec> {
    let mut needed: BTreeMap<String, EmergencyChangeRecordSpec> = BTreeMap::new();
    for entry in entries {
        let spec = spec_of(entry);
        let name = spec.name();
        let joined = match needed.get(&name) {
            Some(known) => joined(known, &spec),
            None => spec,
        };
        needed.insert(name, joined);
    }
    needed
}

/// A record of one admission.
fn spec_of(entry: &EmergencyEntry) -> EmergencyChangeRecordSpec {
    let mark = &entry.mark;
    let uses = images_of(entry).map(|image| EmergencyAdmission {
        workload: entry.workload.clone(),
        template: entry.template.to_string(),
        image,
        admitted: mark.admitted,
        decision: cut(&entry.decision, MAXIMUM_ID),
    });
    EmergencyChangeRecordSpec {
        declaration: mark.declaration.clone(),
        environment: mark.environment.clone(),
        incident: RecordedIncident {
            id: mark.incident.clone(),
            url: mark
                .incident_url
                .as_ref()
                .map(|url| cut(url, MAXIMUM_ADDRESS)),
            state: mark.incident_state.clone(),
        },
        declared_by: mark.declared_by.clone(),
        approved_by: mark.approved_by.clone(),
        authors: mark.authors.clone(),
        unknown_author: mark.unknown_author,
        requesters: mark.requester.iter().cloned().collect(),
        policies: mark.policies.clone(),
        waived: mark.waived.clone(),
        admitted: mark.admitted,
        last_admitted: mark.admitted,
        expires: mark.expires,
        review_due: mark.review_due,
        uses: uses.collect(),
        cut: false,
    }
}

/// The images that needed the emergency change and are of the digest that the entry is about.
fn images_of(entry: &EmergencyEntry) -> impl Iterator<Item = String> {
    let images = entry.mark.images.iter();
    let own = images.filter(|image| digest_of(image) == entry.image);
    own.cloned()
}

fn digest_of(image: &str) -> Option<Digest> {
    image.parse::<ImageReference>().ok()?.digest().cloned()
}

/// What two states of one record say together: everything that one of them says, and the stricter of two times.
pub(super) fn joined(
    one: &EmergencyChangeRecordSpec,
    other: &EmergencyChangeRecordSpec,
) -> EmergencyChangeRecordSpec {
    let mut joined = one.clone();
    joined.cut |= other.cut;
    let lists = [
        (&mut joined.declared_by, &other.declared_by),
        (&mut joined.approved_by, &other.approved_by),
        (&mut joined.authors, &other.authors),
        (&mut joined.requesters, &other.requesters),
        (&mut joined.policies, &other.policies),
        (&mut joined.waived, &other.waived),
    ];
    for (names, others) in lists {
        joined.cut |= add(names, others);
    }
    joined.unknown_author |= other.unknown_author;
    if other.incident.state != joined.incident.state {
        joined.incident.state = "unverified".to_owned();
    }
    if joined.incident.url.is_none() {
        joined.incident.url.clone_from(&other.incident.url);
    }
    joined.admitted = joined.admitted.min(other.admitted);
    joined.last_admitted = joined.last_admitted.max(other.last_admitted);
    joined.expires = joined.expires.max(other.expires);
    joined.review_due = joined.review_due.min(other.review_due);
    for used in &other.uses {
        let mut known = joined.uses.iter_mut();
        match known.find(|known| is_same(known, used)) {
            Some(known) if used.admitted < known.admitted => *known = used.clone(),
            Some(_) => {}
            None => joined.uses.push(used.clone()),
        }
    }
    joined.uses.sort_by_cached_key(|used| {
        let workload = &used.workload;
        let named = (workload.namespace.clone(), workload.name.clone());
        let kind = workload.kind.clone();
        (
            used.admitted,
            named,
            kind,
            used.template.clone(),
            used.image.clone(),
        )
    });
    if joined.uses.len() > MAXIMUM_USES {
        joined.uses.truncate(MAXIMUM_USES);
        joined.cut = true;
    }
    joined
}

/// Whether two uses are of the same image in the same template of the same object.
fn is_same(one: &EmergencyAdmission, other: &EmergencyAdmission) -> bool {
    let of = |it: &EmergencyAdmission| {
        let workload = &it.workload;
        let object = (
            workload.group.clone(),
            workload.kind.clone(),
            workload.uid.clone(),
        );
        (object, workload.namespace.clone(), workload.name.clone())
    };
    (&one.template, &one.image) == (&other.template, &other.image) && of(one) == of(other)
}

/// Adds names, as far as there is room. Says whether some found none.
fn add(names: &mut BTreeSet<String>, others: &BTreeSet<String>) -> bool {
    let mut is_cut = false;
    for name in others {
        if names.len() < MAXIMUM_NAMES {
            names.insert(name.clone());
        } else {
            is_cut |= !names.contains(name);
        }
    }
    is_cut
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::api::{WrittenEmergency, WrittenWorkload};

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(60 * minute).unwrap()
    }

    fn image(of: &str) -> String {
        let digest = Digest::sha256(of.as_bytes());
        format!("registry.example/{of}@{digest}")
    }

    /// The admission of an image in a workload, by one emergency change.
    pub(in crate::duties::debts) fn entry(
        of: &str,
        workload: &str,
        requester: &str,
        minute: i64,
    ) -> EmergencyEntry {
        EmergencyEntry {
            mark: WrittenEmergency {
                declaration: Digest::sha256(b"declaration").to_string(),
                environment: "production".to_owned(),
                incident: "INC1".to_owned(),
                incident_url: None,
                incident_state: "verified".to_owned(),
                incident_opened_by: None,
                declared_by: ["ben".to_owned()].into(),
                approved_by: ["cleo".to_owned()].into(),
                authors: BTreeSet::new(),
                unknown_author: false,
                requester: Some(requester.to_owned()),
                policies: ["strict".to_owned()].into(),
                waived: ["noFreeze".to_owned()].into(),
                images: [image("app"), image("sidecar")].into(),
                admitted: at(minute),
                expires: at(60),
                review_due: at(minute + 100),
            },
            workload: WrittenWorkload {
                group: "apps".to_owned(),
                version: "v1".to_owned(),
                kind: "Deployment".to_owned(),
                namespace: Some("shop".to_owned()),
                name: workload.to_owned(),
                uid: None,
            },
            template: Digest::sha256(b"template"),
            image: Some(Digest::sha256(of.as_bytes())),
            decision: "1".to_owned(),
        }
    }

    #[test]
    fn one_emergency_change_has_one_record_of_everything_that_it_let_pass() {
        let entries = [
            entry("sidecar", "web", "alice", 12),
            entry("app", "web", "alice", 12),
            entry("app", "worker", "bob", 20),
            // An image of the workload that complied by itself.
            entry("proxy", "web", "alice", 12),
        ];
        let needed = needed(&entries);
        assert_eq!(needed.len(), 1);
        let (name, spec) = needed.first_key_value().unwrap();
        assert_eq!(*name, spec.name());
        let uses: Vec<_> = spec
            .uses
            .iter()
            .map(|used| (used.workload.name.as_str(), used.image.clone()))
            .collect();
        let (app, sidecar) = (image("app"), image("sidecar"));
        assert_eq!(
            uses,
            [("web", app.clone()), ("web", sidecar), ("worker", app)]
        );
        assert_eq!((spec.admitted, spec.last_admitted), (at(12), at(20)));
        assert_eq!(spec.review_due, at(112), "the first review that is due");
        assert_eq!(spec.requesters, ["alice", "bob"].map(str::to_owned).into());
        assert!(!spec.cut);
    }

    #[test]
    fn a_record_never_says_less_than_before_and_is_joined_in_any_order() {
        let of = |entries: &[EmergencyEntry]| needed(entries).into_values().next().unwrap();
        let mut unverified = entry("app", "worker", "bob", 20);
        unverified.mark.incident_state = "unverified".to_owned();
        let (one, other) = (of(&[entry("app", "web", "alice", 12)]), of(&[unverified]));
        let both = joined(&one, &other);
        assert_eq!(both, joined(&other, &one));
        assert_eq!(both, joined(&both, &one), "what was written stays");
        assert_eq!(both.incident.state, "unverified");
        let other_environment = EmergencyEntry {
            mark: WrittenEmergency {
                environment: "staging".to_owned(),
                ..entry("app", "web", "alice", 12).mark
            },
            ..entry("app", "web", "alice", 12)
        };
        let entries = [entry("app", "web", "alice", 12), other_environment];
        assert_eq!(needed(&entries).len(), 2);
    }

    #[test]
    fn several_uses_that_one_entry_names_are_one_use_of_all_who_asked_for_it() {
        let first = entry("app", "web", "alice", 12);
        let mut second = entry("app", "web", "bob", 20);
        second.mark.incident_state = "unverified".to_owned();
        for entries in [
            [second.clone(), first.clone()],
            [first.clone(), second.clone()],
        ] {
            let needed = needed(&entries);
            assert_eq!(needed.len(), 1);
            let spec = needed.into_values().next().unwrap();
            assert_eq!(spec.requesters, ["alice", "bob"].map(str::to_owned).into());
            assert_eq!((spec.admitted, spec.last_admitted), (at(12), at(20)));
            assert_eq!(spec.review_due, at(112));
            assert_eq!(spec.incident.state, "unverified");
            let uses: Vec<_> = spec.uses.iter().map(|used| used.admitted).collect();
            assert_eq!(uses, [at(12)], "the image in the workload is listed once");
        }
    }

    #[test]
    fn of_more_uses_than_a_record_holds_the_first_ones_are_listed_and_that_is_said() {
        let many: Vec<_> = (0..120)
            .map(|at| entry("app", &format!("web-{at:03}"), "alice", at))
            .collect();
        let spec = needed(&many).into_values().next().unwrap();
        assert_eq!((spec.uses.len(), spec.cut), (MAXIMUM_USES, true));
        assert_eq!(spec.uses[0].workload.name, "web-000");
        assert_eq!(spec.last_admitted, at(119));
        let again = needed(&many).into_values().next().unwrap();
        assert_eq!(
            joined(&spec, &again),
            spec,
            "it is not written again and again"
        );
    }
}
