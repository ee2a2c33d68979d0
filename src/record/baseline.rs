//! What runs already as entries of release records, so that it goes on running.

use std::collections::BTreeMap;

use jiff::Timestamp;
use promotion_gate_core::gate::Workload;

use super::entry::{MAXIMUM_ENTRIES, NewEntry};
use super::live::LiveObject;
use super::memory::Memory;
use super::names::RecordSubject;
use crate::api::{EntryRuns, EntryState, WrittenBy, WrittenEntry, WrittenWorkload};

/// The entries of what is adopted, by record, as far as each has room, and how many have none: one entry serves all objects that run an
/// image, but for what an autoscaler starts from zero.
pub(super) fn baselines(
    adopted: &[(RecordSubject, LiveObject)],
    memory: &Memory,
    gate: &str,
    first: bool,
    now: Timestamp,
) -> (Vec<Vec<(Workload, NewEntry)>>, usize) {
    let mut by_record: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut without_room = 0;
    // What stands at zero is what an autoscaler starts next.
    let (at_zero, others): (Vec<_>, Vec<_>) =
        adopted.iter().partition(|(_, object)| object.is_at_zero);
    for (subject, object) in at_zero.into_iter().chain(others) {
        let name = object.record_of(subject, gate);
        let held = memory.get(&name).map_or(0, |record| record.entries.len());
        let serves = memory.serves(&name, gate);
        let entries = by_record.entry(name).or_default();
        match held + entries.len() < MAXIMUM_ENTRIES || !serves && entries.is_empty() {
            true => {
                let entry = baseline(subject, object, first, now);
                entries.push((object.workload.clone(), entry));
            }
            false => without_room += 1,
        }
    }
    (by_record.into_values().collect(), without_room)
}

/// The entry of an object that runs and was never admitted by the gate. It serves upkeep alone. In the first baseline, what has no
/// replicas at that time counts as running: an autoscaler that is trusted may have stopped it, and has to start it again, also during
/// a freeze. A person who starts it is judged, since it complied with no policy.
fn baseline(subject: &RecordSubject, object: &LiveObject, first: bool, now: Timestamp) -> NewEntry {
    let LiveObject {
        workload,
        uid,
        template,
        ..
    } = object;
    NewEntry::new(
        subject.clone(),
        workload.namespace.clone(),
        WrittenEntry {
            workload: WrittenWorkload::new(workload, Some(uid)),
            template: template.to_string(),
            state: EntryState::Observed,
            runs: match object.is_staged && !(first && object.is_at_zero) {
                true => EntryRuns::Staged,
                false => EntryRuns::Running,
            },
            by: WrittenBy::Baseline,
            complied: Default::default(),
            environments: Default::default(),
            ages_judged: Default::default(),
            source: None,
            digest: None,
            emergency: Vec::new(),
            at: now,
            observed_at: Some(now),
            decision: "baseline".to_owned(),
            revision: String::new(),
        },
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use promotion_gate_core::gate::Digest;

    use super::super::entry::{KeptEntry, KeptRecord};
    use super::*;

    const GATE: &str = "promotion-gate";

    fn object(name: usize) -> LiveObject {
        LiveObject {
            workload: Workload {
                group: "apps".to_owned(),
                version: "v1".to_owned(),
                kind: "Deployment".to_owned(),
                namespace: Some("shop".to_owned()),
                name: format!("web-{name}"),
            },
            uid: name.to_string(),
            template: Digest::sha256(name.to_string().as_bytes()),
            is_root: true,
            is_staged: false,
            scales: true,
            is_at_zero: false,
            refers: None,
            created: None,
            subjects: [image()].into(),
        }
    }

    fn image() -> RecordSubject {
        RecordSubject::Digest(Digest::sha256(b"image"))
    }

    /// Memory with one record, which holds so many entries in this state.
    fn memory(held: usize, state: EntryState) -> Memory {
        let entries = (0..held).map(|name| {
            let entry = baseline(&image(), &object(name), true, Timestamp::UNIX_EPOCH).entry;
            let written = WrittenEntry { state, ..entry };
            let kept = KeptEntry {
                entry: Arc::new(written.parse(None).unwrap()),
                digest: None,
                has_emergency: false,
                written: serde_json::to_string(&written).unwrap().into(),
            };
            (name.to_string(), kept)
        });
        let record = KeptRecord {
            subject: image(),
            uid: "1".to_owned(),
            namespace_uid: "1".to_owned(),
            resource_version: "1".to_owned(),
            last_used: None,
            entries: entries.collect(),
        };
        let mut memory = Memory::default();
        memory.apply(object(0).record_of(&image(), GATE), record);
        memory
    }

    #[test]
    fn a_record_takes_only_as_much_of_what_runs_as_it_has_room_for() {
        let adopted: Vec<_> = (1000..1020).map(|name| (image(), object(name))).collect();
        for (held, state, written) in [
            (0, EntryState::Observed, 20),
            (MAXIMUM_ENTRIES - 5, EntryState::Observed, 5),
            (MAXIMUM_ENTRIES, EntryState::Observed, 0),
            // Nothing in it serves what runs.
            (MAXIMUM_ENTRIES, EntryState::Pending, 1),
        ] {
            let memory = memory(held, state);
            let now = Timestamp::UNIX_EPOCH;
            let (by_record, without_room) = baselines(&adopted, &memory, GATE, true, now);
            let counts: Vec<_> = by_record.iter().map(Vec::len).collect();
            assert_eq!(
                (counts, without_room),
                (vec![written], 20 - written),
                "{held}"
            );
        }
    }
}
