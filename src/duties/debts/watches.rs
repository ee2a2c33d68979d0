//! Watches of the workloads that emergency changes let pass, which say when it has to be looked what became of one.
//!
//! Each watch is of one object, so that it costs nothing that few emergency changes need. Where there is no room for one, and for what
//! the status of a workload does not tell, such as Pods that crash, it is looked now and then all the same.

use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use futures::FutureExt as _;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::Record;
use super::outcome::{is_observed, workload_of};
use crate::cluster::{Cluster, ObjectName};
use crate::record::object_name;

/// The most workloads that are watched.
const MAXIMUM_WATCHES: usize = 32;

/// The watches of workloads. They end when they are dropped.
#[derive(Default)]
pub(super) struct Watches {
    each: BTreeMap<ObjectName, Watch>,
}

struct Watch {
    changed: Arc<Notify>,
    task: JoinHandle<Infallible>,
}

impl Watches {
    /// Watches the workloads of these records, as far as there is room, and no others. Returns the names of the records of which a workload
    /// has changed, or is watched from now on.
    pub(super) fn follow<'r>(
        &mut self,
        cluster: &Cluster,
        records: &'r [Arc<Record>],
    ) -> BTreeSet<&'r str> {
        let watched = watched(records);
        self.each
            .retain(|workload, _| watched.contains_key(workload));
        let mut changed = BTreeSet::new();
        for (workload, of_records) in watched {
            let watch = match self.each.entry(workload) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => match Watch::start(cluster, new.key()) {
                    Some(watch) => new.insert(watch),
                    None => continue,
                },
            };
            if watch.changed.notified().now_or_never().is_some() {
                changed.extend(of_records);
            }
        }
        changed
    }
}

impl Watch {
    fn start(cluster: &Cluster, workload: &ObjectName) -> Option<Watch> {
        let api = cluster.api_of(workload)?;
        let changed = Arc::new(Notify::new());
        let (cluster, name, told) = (cluster.clone(), workload.name.clone(), Arc::clone(&changed));
        let watch = async move { cluster.notify_changes(api, &name, &told).await };
        Some(Watch {
            changed,
            task: tokio::spawn(watch),
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The workloads to watch, each with the names of its records: those of the records that were used last, and of a record all or none, so
/// that a change makes it necessary to look at few workloads.
fn watched(records: &[Arc<Record>]) -> BTreeMap<ObjectName, BTreeSet<&str>> {
    let mut latest: Vec<_> = records.iter().collect();
    latest.sort_by_key(|record| Reverse(record.spec.last_admitted));
    let mut watched: BTreeMap<ObjectName, BTreeSet<&str>> = BTreeMap::new();
    for record in latest {
        let uses = record.spec.uses.iter();
        let observed = uses.filter(|it| is_observed(&it.workload.kind));
        let mut workloads = BTreeSet::new();
        for workload in observed.filter_map(|it| object_name(&workload_of(&it.workload))) {
            workloads.insert(workload);
            if workloads.len() > MAXIMUM_WATCHES {
                break;
            }
        }
        let new = workloads.iter().filter(|it| !watched.contains_key(*it));
        if watched.len() + new.count() > MAXIMUM_WATCHES {
            continue;
        }
        for workload in workloads {
            watched.entry(workload).or_default().insert(record.name());
        }
    }
    watched
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::record;
    use super::*;
    use crate::api::Kind;
    use crate::snapshot::Resource;

    /// A record of workloads of a kind of the group `apps`, used last on this day.
    fn of(name: &str, day: usize, kind: &str, workloads: &[String]) -> Arc<Record> {
        let uses = workloads.iter().map(|workload| {
            json!({
                "workload": {"group": "apps", "version": "v1", "kind": kind, "namespace": "shop", "name": workload},
                "template": "sha256:1", "image": "registry.example/app", "admitted": "2026-01-01T00:00:00Z", "decision": "1",
            })
        });
        let mut object = record();
        object["metadata"]["name"] = json!(name);
        object["spec"]["lastAdmitted"] = json!(format!("2026-01-{day:02}T00:00:00Z"));
        object["spec"]["uses"] = uses.collect();
        let object = serde_json::from_value(object).unwrap();
        let resource = Arc::new(Resource::of(Kind::EmergencyChangeRecord, object));
        Record::read(&resource).unwrap()
    }

    fn names(prefix: &str, many: usize) -> Vec<String> {
        (0..many).map(|index| format!("{prefix}-{index}")).collect()
    }

    fn shown(records: &[Arc<Record>]) -> Vec<String> {
        let watched = watched(records);
        assert!(watched.len() <= MAXIMUM_WATCHES);
        let each = watched.iter().map(|(workload, records)| {
            let records: Vec<_> = records.iter().copied().collect();
            format!("{} {}", workload.name, records.join(","))
        });
        each.collect()
    }

    #[test]
    fn a_workload_of_two_records_is_watched_once() {
        let web = ["web".to_owned()];
        let both = [
            of("one", 1, "Deployment", &web),
            of("two", 2, "Deployment", &web),
        ];
        assert_eq!(shown(&both), ["web one,two"]);
    }

    #[test]
    fn where_there_is_no_room_the_workloads_of_the_latest_records_are_watched() {
        let records = [
            of("first", 1, "Deployment", &names("a", 20)),
            of("second", 2, "Deployment", &names("b", 20)),
            of("third", 3, "Deployment", &["c".to_owned()]),
            of("huge", 4, "Deployment", &names("d", 33)),
            of("last", 1, "Deployment", &names("e", 11)),
        ];
        let shown = shown(&records);
        let of = |record: &str| shown.iter().filter(|it| it.ends_with(record)).count();
        let each = ["first", "second", "third", "huge", "last"].map(of);
        assert_eq!(each, [0, 20, 1, 0, 11]);
    }

    #[test]
    fn what_shows_no_outcome_or_cannot_exist_is_not_watched() {
        let web = ["web".to_owned()];
        let records = [
            of("revision", 1, "ControllerRevision", &web),
            of(
                "fields",
                1,
                "Deployment",
                &["web,metadata.namespace=other".to_owned()],
            ),
        ];
        assert_eq!(shown(&records), Vec::<String>::new());
    }
}
