//! Emergency changes that were used, kept as `EmergencyChangeRecord`s until they were reviewed.
//!
//! One replica writes them while it holds the Lease, from what release records say was admitted, so that nothing is lost when the
//! replica dies that admitted it. It looks for reviews in registries, and for what became of the change in the cluster. Every replica
//! remembers the records that it saw, so that a record which somebody deletes is written again.
//!
//! * `marks` — admissions → what a record says
//! * `status` — what the status of a record says
//! * `reviews` — the look-up of reviews in registries
//! * `outcome` — what became of a change
//! * `watches` — watches of the workloads, which say when to look
//! * `writing` — writes to the cluster
//! * `telling` — alarms, and Events on records
//! * `deleted` — records that are gone: restored, or lifted by a governor

mod deleted;
mod marks;
mod outcome;
mod reviews;
mod status;
mod telling;
#[cfg(test)]
mod tests;
mod watches;
mod writing;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use kube::api::ApiResource;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::api::{
    EmergencyChangeRecordResource, EmergencyChangeRecordSpec, EmergencyChangeRecordStatus,
    EmergencyState, Kind,
};
use crate::cluster::Cluster;
use crate::collect::Collector;
use crate::metrics::Metrics;
use crate::record::ReleaseRecords;
use crate::snapshot::{Resource, Sources, read_emergency_record};
use deleted::{Deleted, Lifting};
use status::Findings;
use watches::Watches;

/// How often records are compared with what was admitted, and with the time.
const TICK: Duration = Duration::from_secs(1);
/// How often it is looked for the review of a record.
const SEARCH: Duration = Duration::from_secs(300);
/// How often it is looked what became of a change of which no watch tells: at first, and from a day after its admission on.
const LOOK: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));
const SETTLED: SignedDuration = SignedDuration::from_hours(24);
/// The most records that are looked for at one time, and in one round.
const AT_ONCE: usize = 4;
const IN_ONE_ROUND: usize = 50;
/// How long a record is kept that owes no review.
const KEPT: SignedDuration = SignedDuration::from_hours(24 * 400);

/// The records of emergency changes.
pub struct Debts {
    cluster: Cluster,
    sources: Arc<Sources>,
    records: Arc<ReleaseRecords>,
    collector: Arc<Collector>,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

/// What this replica remembers.
#[derive(Default)]
struct State {
    /// The records as they were seen last, each with what it says if it can be read.
    known: BTreeMap<String, (Arc<Resource>, Option<Arc<Record>>)>,
    /// Records that are gone from the cluster.
    deleted: BTreeMap<String, Deleted>,
    /// Records whose deletion by a governor this replica admitted.
    lifting: BTreeMap<String, Lifting>,
    /// Records that this replica deleted because nothing needs them.
    collected: BTreeSet<String>,
    /// The statuses of records that were written again, until they have one.
    restored: BTreeMap<String, Value>,
    findings: BTreeMap<String, Findings>,
    /// When a record was looked for last: its review, and what became of the change.
    searched: BTreeMap<String, Instant>,
    looked: BTreeMap<String, Instant>,
    /// The record whose use, and the one whose status could not be written last. The next round begins after it.
    failed_use: Option<String>,
    failed_status: Option<String>,
}

/// A record of the cluster that can be read.
struct Record {
    resource: Arc<Resource>,
    spec: EmergencyChangeRecordSpec,
    status: EmergencyChangeRecordStatus,
}

impl Record {
    fn read(resource: &Arc<Resource>) -> Option<Arc<Record>> {
        let (spec, status) = read_emergency_record(resource).ok()?;
        Some(Arc::new(Record {
            resource: Arc::clone(resource),
            spec,
            status,
        }))
    }

    fn name(&self) -> &str {
        &self.resource.name.name
    }

    fn state(&self, now: Timestamp) -> EmergencyState {
        self.spec.state(&self.status, now)
    }
}

impl Debts {
    /// Nothing is written until [`Debts::keep`].
    pub fn new(
        cluster: Cluster,
        sources: Arc<Sources>,
        records: Arc<ReleaseRecords>,
        collector: Arc<Collector>,
        metrics: Arc<Metrics>,
    ) -> Debts {
        Debts {
            cluster,
            sources,
            records,
            collector,
            metrics,
            state: Mutex::default(),
        }
    }

    /// Keeps the records while this replica has the duties, until the process ends.
    pub async fn keep(self: Arc<Debts>, has_duties: impl Fn() -> bool + Sync) {
        let never = tokio::join!(
            self.keep_records(&has_duties),
            self.keep_reviews(&has_duties),
            self.keep_outcomes(&has_duties),
        );
        match never.0 {}
    }

    async fn keep_records(&self, has_duties: &(impl Fn() -> bool + Sync)) -> Infallible {
        loop {
            sleep(TICK).await;
            // Before everything was read once, nothing is known to be gone.
            let Some(resources) = self.sources.resources(Kind::EmergencyChangeRecord) else {
                continue;
            };
            self.keep_round(resources, has_duties).await;
        }
    }

    /// Takes over which records there are, and writes what has to be written. A replica without the duties only notes which deletions by
    /// governors it admitted.
    async fn keep_round(
        &self,
        resources: Vec<Arc<Resource>>,
        has_duties: &(impl Fn() -> bool + Sync),
    ) {
        self.take_in(resources);
        let records = self.present();
        let now = Timestamp::now();
        self.show(&records, now);
        self.lift_deleted(now).await;
        if !has_duties() {
            self.forget_deleted();
            return;
        }
        self.restore_deleted().await;
        self.write_records(&records, has_duties).await;
        self.write_statuses(&records, now, has_duties).await;
        self.collect(&records, now).await;
    }

    /// Looks for the reviews of records that owe one.
    async fn keep_reviews(&self, has_duties: &(impl Fn() -> bool + Sync)) -> Infallible {
        loop {
            sleep(TICK).await;
            if !has_duties() {
                // The next time, everything is looked for at once.
                self.state().searched.clear();
                continue;
            }
            let owes = |record: &Record| !record.state(Timestamp::now()).is_ended();
            let due = self.due(owes, |state| &state.searched, |_| SEARCH);
            let searches = due.into_iter().map(|record| async move {
                let search = self.search(&record.spec).await;
                let mut state = self.state();
                let name = record.name().to_owned();
                state.searched.insert(name.clone(), Instant::now());
                state.findings.entry(name).or_default().search = Some(search);
            });
            let searches = stream::iter(searches).buffer_unordered(AT_ONCE);
            searches.collect::<()>().await;
        }
    }

    /// Looks what became of the changes of records that owe a review, and of those of which that is not known yet: when a watch says that a
    /// workload has changed, and now and then.
    async fn keep_outcomes(&self, has_duties: &(impl Fn() -> bool + Sync)) -> Infallible {
        let mut watches = Watches::default();
        loop {
            sleep(TICK).await;
            if !has_duties() {
                watches = Watches::default();
                continue;
            }
            let now = Timestamp::now();
            let needs = |record: &Record| {
                !record.state(now).is_ended() || outcome::is_open(&record.spec, &record.status)
            };
            let records = self.present().into_iter();
            let records: Vec<_> = records.filter(|it| needs(it)).collect();
            for name in watches.follow(&self.cluster, &records) {
                self.state().looked.remove(name);
            }
            let due = self.due(
                needs,
                |state| &state.looked,
                |record| match now.duration_since(record.spec.last_admitted) > SETTLED {
                    true => LOOK.1,
                    false => LOOK.0,
                },
            );
            let looks = due.into_iter().map(|record| async move {
                let outcomes = self.outcomes(&record.spec, &record.status, now).await;
                let mut state = self.state();
                let name = record.name().to_owned();
                state.looked.insert(name.clone(), Instant::now());
                state.findings.entry(name).or_default().outcomes = Some(outcomes);
            });
            let looks = stream::iter(looks).buffer_unordered(AT_ONCE);
            looks.collect::<()>().await;
        }
    }

    /// The records that need it and were not looked for within a time: those that were looked for least recently, as many as one round
    /// takes.
    fn due(
        &self,
        needs: impl Fn(&Record) -> bool,
        looked: impl Fn(&State) -> &BTreeMap<String, Instant>,
        every: impl Fn(&Record) -> Duration,
    ) -> Vec<Arc<Record>> {
        let records = self.present().into_iter();
        let state = self.state();
        let due = records.filter(|record| needs(record));
        let mut due: Vec<_> = due
            .filter_map(|record| {
                let at = looked(&state).get(record.name()).copied();
                let is_due = at.is_none_or(|at| at.elapsed() >= every(&record));
                is_due.then_some((at, record))
            })
            .collect();
        drop(state);
        due.sort_by_key(|(at, _)| *at);
        due.truncate(IN_ONE_ROUND);
        due.into_iter().map(|(_, record)| record).collect()
    }

    /// The records that were seen last and can be read. `/readyz` reports those that cannot.
    fn present(&self) -> Vec<Arc<Record>> {
        let state = self.state();
        let records = state.known.values();
        records.filter_map(|(_, record)| record.clone()).collect()
    }

    /// Shows in the metrics how many reviews are owed.
    fn show(&self, records: &[Arc<Record>], now: Timestamp) {
        use EmergencyState::{Due, Open, Overdue};
        for state in [Open, Due, Overdue] {
            let count = records.iter().filter(|it| it.state(now) == state).count();
            self.metrics.show_emergency_reviews(state.id(), count);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn api_resource() -> ApiResource {
    ApiResource::erase::<EmergencyChangeRecordResource>(&())
}
