//! What runs already as entries of release records, so that it goes on running.

use std::collections::BTreeMap;

use jiff::Timestamp;
use promotion_gate_core::gate::Workload;

use super::entry::{NewEntry, TRIMMED};
use super::live::LiveObject;
use super::memory::Memory;
use super::names::RecordSubject;
use crate::api::{EntryRuns, EntryState, WrittenBy, WrittenEntry, WrittenWorkload};

/// What is adopted, as far as the records have room: one entry serves all objects that run an image, but for what an autoscaler starts
/// from zero.
pub(super) struct Baselines<'o> {
    /// The entries of each record, with their objects.
    pub(super) by_record: Vec<Vec<(Workload, NewEntry)>>,
    /// The objects that get no entry.
    pub(super) without_room: Vec<&'o Workload>,
}

/// The entries of what is adopted.
pub(super) fn baselines<'o>(
    adopted: &'o [(RecordSubject, LiveObject)],
    memory: &Memory,
    gate: &str,
    first: bool,
    now: Timestamp,
) -> Baselines<'o> {
    let mut by_record: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut without_room = Vec::new();
    // What stands at zero is what an autoscaler starts next.
    let (at_zero, others): (Vec<_>, Vec<_>) =
        adopted.iter().partition(|(_, object)| object.is_at_zero);
    for (subject, object) in at_zero.into_iter().chain(others) {
        let name = object.record_of(subject, gate);
        let held = memory.get(&name).map_or(0, |record| record.entries.len());
        let serves = memory.serves(&name, gate);
        let entries = by_record.entry(name).or_default();
        // The rest of the record is for admissions: when it is full, its oldest entries go.
        match held + entries.len() < TRIMMED || !serves && entries.is_empty() {
            true => {
                let entry = baseline(subject, object, first, now);
                entries.push((object.workload.clone(), entry));
            }
            false => without_room.push(&object.workload),
        }
    }
    Baselines {
        by_record: by_record.into_values().collect(),
        without_room,
    }
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
    use super::super::live::startable;
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

    /// How many objects get an entry in each record, and how many do not.
    fn written(adopted: &[(RecordSubject, LiveObject)], memory: &Memory) -> (Vec<usize>, usize) {
        let now = Timestamp::UNIX_EPOCH;
        let found = baselines(adopted, memory, GATE, true, now);
        let counts = found.by_record.iter().map(Vec::len).collect();
        (counts, found.without_room.len())
    }

    #[test]
    fn a_record_takes_only_as_much_of_what_runs_as_it_has_room_for() {
        let adopted: Vec<_> = (1000..1020).map(|name| (image(), object(name))).collect();
        for (held, state, room) in [
            (0, EntryState::Observed, 20),
            (TRIMMED - 5, EntryState::Observed, 5),
            (TRIMMED, EntryState::Observed, 0),
            // Nothing in it serves what runs.
            (TRIMMED, EntryState::Pending, 1),
        ] {
            let memory = memory(held, state);
            let expected = (vec![room], 20 - room);
            assert_eq!(written(&adopted, &memory), expected, "{held}");
        }
        let other = RecordSubject::Digest(Digest::sha256(b"another image"));
        let adopted = [(image(), object(1000)), (other, object(1000))];
        let memory = memory(TRIMMED, EntryState::Observed);
        let (mut counts, left) = written(&adopted, &memory);
        counts.sort_unstable();
        assert_eq!((counts, left), (vec![0, 1], 1));
    }

    #[test]
    fn an_object_is_recorded_with_each_of_its_images() {
        let other = RecordSubject::Digest(Digest::sha256(b"sidecar"));
        let mut object = object(0);
        object.subjects.insert(other.clone());
        let (objects, memory) = ([object], memory(1, EntryState::Observed));
        let missing = startable(&objects, &memory, GATE);
        let missing: Vec<_> = missing.iter().map(|(subject, _)| *subject).collect();
        assert_eq!(missing, [&other]);
    }

    #[test]
    fn what_an_autoscaler_may_start_from_zero_comes_first() {
        let mut adopted: Vec<_> = (1000..1020).map(|name| (image(), object(name))).collect();
        adopted[19].1.is_at_zero = true;
        let memory = memory(TRIMMED - 1, EntryState::Observed);
        let now = Timestamp::UNIX_EPOCH;
        let found = baselines(&adopted, &memory, GATE, true, now);
        let written = found.by_record.iter().flatten().map(|(it, _)| &*it.name);
        assert_eq!(written.collect::<Vec<_>>(), ["web-1019"]);
    }
}
