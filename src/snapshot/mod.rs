//! The sources of the snapshot: its parts, each with its last valid state and its problems. Parts are the configuration with its trust
//! roots, the documents (files, and resources of a cluster), the cluster's namespaces, and the feeds of freezes.
//!
//! Files are polled; a cluster is watched. A new and valid state is taken over; an invalid one is reported, and the last valid state
//! stays in force. All changes are taken over as one snapshot.
//!
//! * `parts` — all of them; `part` — one that is read from files
//! * `documents` — which version of each document counts
//! * `resource` — a resource of the cluster as a document
//! * `roots` — the trust roots in TUF repositories
//! * `owed` — the reviews of emergency changes that are owed
//! * `once` — the same for a command, which reads its sources once
//! * `watches` — what is watched in the cluster
//! * `report` — what operators are told

mod documents;
mod once;
mod owed;
mod part;
mod parts;
mod report;
mod resource;
mod roots;
#[cfg(test)]
mod tests;
mod unreadable;
mod watches;

use std::collections::BTreeMap;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use jiff::Timestamp;
use promotion_gate_core::gate::{Collected, Freeze, Snapshot};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::api::{self, FeedStates, Kind, PolicyFiles, PolicySet};
use crate::collect::Collector;
use crate::config::Config;
use crate::duties::feed;
use crate::feeds::{self, ClockReading, Feeds, feeds_of};
use crate::incidents::IncidentChecks;
use crate::metrics::Metrics;
use crate::oci::Client;
use crate::tuf::TufRoots;
use documents::{Changed, Documents, Settlement};
use parts::{Parts, Under};
use report::{frozen_environments, missing_roots};
use resource::{freezes_by_source, incident_checks};
use roots::RepositoryRoots;

pub use documents::Version;
pub use once::Once;
pub(crate) use owed::read as read_emergency_record;
pub(crate) use report::debts_without_cluster;
pub use resource::{Resource, ResourceName};
pub use watches::Watches;
pub(crate) use watches::api_resource;

/// The files that the snapshot is made from.
pub struct SnapshotFiles {
    /// Files and folders with policies.
    pub policies: Vec<PathBuf>,
    /// The configuration as read at the start. It names its own file and the files that it refers to.
    pub config: Config,
}

/// The parts of the snapshot, and the snapshot that they make.
pub struct Sources {
    paths: Vec<PathBuf>,
    config: ArcSwap<Config>,
    collector: Arc<Collector>,
    current: ArcSwap<Snapshot>,
    /// Locked while the sources are read.
    parts: Mutex<Parts>,
    /// The documents in force, for those who cannot wait for that.
    documents: ArcSwap<Documents>,
    /// The feeds of freezes in files, which each process reads for itself.
    feeds: Arc<Feeds>,
    /// The feeds of freezes that are resources, which one replica reads for all.
    cluster_feeds: Arc<Feeds>,
    roots: RepositoryRoots,
    incidents: Arc<IncidentChecks>,
    watches: Option<Arc<Watches>>,
    judged: watch::Sender<Arc<Vec<Judged>>>,
    readiness: ArcSwap<Readiness>,
}

/// A resource, and what came of it.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The resource as it was seen last.
    pub resource: Arc<Resource>,
    /// Which version of it counts.
    pub version: Version,
    /// Why its current version does not.
    pub why: Vec<String>,
    /// The freeze that it describes, if it is one that counts.
    pub freeze: Option<Freeze>,
    /// The `spec` that counts instead of the current one, if there is one.
    pub last_valid: Option<Value>,
}

/// Whether reviews can be answered, and the problems of the parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Whether every part was read, and valid, at least once.
    pub ready: bool,
    /// Problems of the current states of the sources, one sentence each.
    pub problems: Vec<String>,
    /// The parts whose last valid state is in force instead, and since when.
    pub kept: Vec<String>,
    /// Why it is not known who governs, if it is not.
    pub governors_unknown: Option<String>,
}

impl Sources {
    /// Reads the files for the first time. [`Sources::readiness`] reports invalid ones.
    pub fn load(
        files: SnapshotFiles,
        watches: Option<Arc<Watches>>,
        collector: Arc<Collector>,
        metrics: &Metrics,
    ) -> Arc<Sources> {
        let parts = Parts {
            configured: files.config.snapshot(),
            configured_by: files.config.revision(),
            ..Parts::default()
        };
        let options = files.config.client_options();
        let cluster = watches.as_deref().map(Watches::cluster).cloned();
        let incidents = IncidentChecks::new(&options, cluster, metrics.incident_questions.clone());
        let sources = Arc::new(Sources {
            incidents: Arc::new(incidents),
            current: ArcSwap::from_pointee(files.config.snapshot()),
            feeds: Arc::new(Feeds::new(&options)),
            cluster_feeds: Arc::new(Feeds::new(&options)),
            roots: RepositoryRoots::new(&options),
            judged: watch::Sender::new(Arc::default()),
            paths: files.policies,
            config: ArcSwap::from_pointee(files.config),
            collector,
            parts: Mutex::new(parts),
            documents: ArcSwap::default(),
            watches,
            readiness: ArcSwap::default(),
        });
        sources.poll(metrics, Timestamp::now());
        sources
    }

    /// The snapshot for a review. It does not change during the review.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// The snapshot for a review of a workload in a namespace: this one, and the labels of the namespace if they matter and are not
    /// known yet. They are read then.
    pub async fn knowing(
        &self,
        snapshot: Arc<Snapshot>,
        namespace: Option<&str>,
        deadline: Instant,
    ) -> Arc<Snapshot> {
        let (Some(watches), Some(name)) = (&self.watches, namespace) else {
            return snapshot;
        };
        let of_policies = snapshot.policies.iter().map(|policy| &policy.namespaces);
        let of_others = snapshot.unreadable.iter().map(|other| &other.namespaces);
        let mut matches = of_policies.chain(of_others);
        if snapshot.world.namespaces.get(name).is_some()
            || !matches.any(|matched| matched.selector.is_some())
        {
            return snapshot;
        }
        match watches.learn_namespace(name, deadline).await {
            None => snapshot,
            Some(known) => {
                let mut snapshot = Snapshot::clone(&snapshot);
                let namespaces = &mut snapshot.world.namespaces;
                namespaces.insert(name.to_owned(), known.labels);
                Arc::new(snapshot)
            }
        }
    }

    /// The feeds of change freezes, which have to be kept current.
    pub fn feeds(&self) -> Arc<Feeds> {
        Arc::clone(&self.feeds)
    }

    /// The feeds of change freezes that are resources: one replica has to keep them current.
    pub fn cluster_feeds(&self) -> Arc<Feeds> {
        Arc::clone(&self.cluster_feeds)
    }

    /// The incident checks, which are asked while a request waits.
    pub fn incidents(&self) -> Arc<IncidentChecks> {
        Arc::clone(&self.incidents)
    }

    /// The trust roots in TUF repositories, which have to be kept current.
    pub fn roots(&self) -> Arc<TufRoots> {
        Arc::clone(&self.roots.of_files)
    }

    /// The trust roots in TUF repositories that are resources: one replica has to keep them current.
    pub fn cluster_roots(&self) -> Arc<TufRoots> {
        Arc::clone(&self.roots.of_cluster)
    }

    /// What came of each resource.
    pub fn judged(&self) -> watch::Receiver<Arc<Vec<Judged>>> {
        self.judged.subscribe()
    }

    /// The resources of a kind as they were read last; `None` without a cluster, and before they were read once.
    pub fn resources(&self, kind: Kind) -> Option<Vec<Arc<Resource>>> {
        self.watches.as_ref()?.resources(kind)
    }

    /// Asks the feeds and the repositories of trust roots in files for the first time, and waits a while for their answers: a freeze
    /// whose feed was never read counts as lasting, and under a root that was never read nothing is accepted.
    pub async fn ask_feeds(&self, metrics: &Metrics, within: Duration) {
        let start = ClockReading {
            at: Timestamp::now(),
            uptime: Duration::ZERO,
        };
        let (feeds, roots) = (&self.feeds, &self.roots.of_files);
        let ask = async { tokio::join!(feeds.ask_due(start, metrics), roots.ask_due(start)) };
        let _ = timeout(within, ask).await;
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        self.refresh_roots(&mut parts);
        self.refresh_schedule(&mut parts, metrics, Timestamp::now());
    }

    /// The result of the last poll.
    pub fn readiness(&self) -> Arc<Readiness> {
        self.readiness.load_full()
    }

    /// What would be wrong if a resource became this object, alone and together with the other documents in force.
    pub fn problems_with(&self, kind: Kind, name: &str, object: &Value) -> Vec<String> {
        let name = ResourceName {
            kind,
            name: name.to_owned(),
        };
        match kind.stands_alone() {
            true => Vec::new(),
            false => {
                let config = self.config.load_full();
                self.documents.load().problems_with(&name, object, &config)
            }
        }
    }

    /// What the other documents in force would lack without a resource.
    pub fn lacking_without(&self, kind: Kind, name: &str) -> Vec<String> {
        if kind.stands_alone() {
            return Vec::new();
        }
        let name = ResourceName {
            kind,
            name: name.to_owned(),
        };
        let config = self.config.load_full();
        self.documents.load().lacking_without(&name, &config)
    }

    /// Reads the sources, and takes over a state that is new, valid, and, for files, the same at two polls. Parts do not wait for
    /// each other to be repaired, except where that could allow something by accident.
    pub(crate) fn poll(&self, metrics: &Metrics, now: Timestamp) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        // 1. The configuration comes first, since its trust roots decide whether policies are valid.
        let configured = self.poll_configuration(&mut parts);
        // 2. The files as they are on disk, and the resources as the cluster has them.
        self.poll_files(&mut parts);
        let namespaces_changed = self.poll_cluster(&mut parts, metrics, now);
        // 3. One swap for all changes of one poll, so that no review sees new policies under an old configuration, or the
        // reverse.
        let take_over = || self.take_over(&mut parts, configured, namespaces_changed, metrics, now);
        if catch_unwind(AssertUnwindSafe(take_over)).is_err() {
            let why = "what was read could not be taken over: a panic";
            tracing::error!(why);
            parts.files.problems.push(why.to_owned());
        }
        // 4. The schedule of freezes, if a feed says something new, or if what was computed ends soon.
        self.refresh_schedule(&mut parts, metrics, now);
        // 5. The trust roots of repositories, if one says something new.
        self.refresh_roots(&mut parts);
        // 6. The reviews of emergency changes that are owed.
        self.refresh_owed(&parts);
        // 7. Report the problems to `/readyz` and the metrics.
        let mut readiness = parts.readiness(self.watches.is_some());
        metrics
            .policies_broken
            .set(i64::from(!readiness.problems.is_empty()));
        readiness.problems.extend(self.roots.problems(now));
        let nothing = parts.warn_of_nothing(&self.current.load(), readiness.ready, metrics);
        readiness.problems.extend(nothing);
        parts.shown_roots = self.roots.show_ages(metrics, now, &parts.shown_roots);
        self.readiness.store(Arc::new(readiness));
    }

    /// The configuration to take over, if any.
    fn poll_configuration(&self, parts: &mut Parts) -> Option<(Config, Client)> {
        let part = &mut parts.configuration;
        let in_force = self.config.load();
        let changed = in_force.reload().map(|config| {
            let config = config?;
            let client = Client::new(config.client_options());
            let client = client.context("the registries cannot be read with this configuration")?;
            anyhow::Ok((config, client))
        });
        let now = match &changed {
            None => in_force.revision(),
            Some(Ok((config, _))) => config.revision(),
            Some(Err(error)) => format!("{error:#}"),
        };
        if !part.is_new_and_stable(now) {
            return None;
        }
        let (configured, problems) = match changed {
            None => (None, Vec::new()),
            Some(Ok(configured)) => (Some(configured), Vec::new()),
            Some(Err(error)) => {
                let error = format!("{error:#}");
                tracing::error!(error, "the configuration on disk is broken");
                (None, vec![error])
            }
        };
        part.problems = problems;
        configured
    }

    /// Reads the files, and notes them where they are new and stable.
    fn poll_files(&self, parts: &mut Parts) {
        // A panic is reported as a problem: the last valid files stay in force, and the configuration does not wait.
        let read = AssertUnwindSafe(|| PolicyFiles::read(&self.paths));
        let files = catch_unwind(read).unwrap_or_default();
        if parts.files.is_new_and_stable(files.revision()) {
            parts.documents.files = Arc::new(files);
            parts.settled_under = None;
        }
    }

    /// Notes what the cluster has now. Says whether namespaces have changed.
    fn poll_cluster(&self, parts: &mut Parts, metrics: &Metrics, now: Timestamp) -> bool {
        let Some(watches) = &self.watches else {
            return false;
        };
        watches.show_ages(metrics);
        let seen = watches.seen();
        let is_same = seen.namespaces_revision == parts.seen.namespaces_revision;
        let is_new = seen.resources_revision != parts.seen.resources_revision;
        if is_new {
            let changed = parts.documents.replace_resources(&seen.resources);
            parts.changes += u64::from(changed.joint);
            parts.kept_changes += u64::from(changed.alone);
            parts.note_feeds();
            self.roots.follow(parts.documents.resources(), now);
            if changed == Changed::default() {
                self.judged.send_replace(Arc::new(parts.judged()));
            }
        }
        parts.see(seen, metrics);
        if is_new || parts.owed.is_none() {
            parts.note_owed();
        }
        !is_same
    }

    /// Decides which version counts under a configuration of each document that is valid only with others.
    fn settle(&self, parts: &Parts, config: &Config) -> Settlement {
        let kept = parts.files.last_valid.is_some();
        let is_configuration_broken = !parts.configuration.problems.is_empty();
        parts.documents.settle_joint(config, |set| {
            let mut problems = Vec::new();
            if set.policies.is_empty() && self.watches.is_none() {
                problems.push("there are no policies in the files named by `--policy`".to_owned());
            }
            let mut policies = set.policies.iter();
            let by_label = policies.any(|policy| policy.namespaces.selector.is_some());
            if by_label && is_configuration_broken && kept && self.watches.is_none() {
                let why = "policies that select namespaces by label wait for the configuration to be repaired";
                problems.push(why.to_owned());
            }
            problems
        })
    }

    /// Takes over new states as one snapshot.
    fn take_over(
        &self,
        parts: &mut Parts,
        configured: Option<(Config, Client)>,
        namespaces_changed: bool,
        metrics: &Metrics,
        now: Timestamp,
    ) {
        let in_force = self.config.load_full();
        let config = configured.as_ref().map_or(&*in_force, |(config, _)| config);
        let under = Under {
            configuration: config.revision(),
            is_configuration_valid: parts.configuration.problems.is_empty(),
            are_files_stable: !parts.files.is_unstable(),
            resources: parts.changes,
            is_cluster_read: parts.seen.is_complete,
            left_out: parts.seen.left_out.clone(),
        };
        let is_same = parts.settled_under.as_ref() == Some(&under);
        if is_same && parts.kept_in_force == parts.kept_changes {
            if namespaces_changed {
                let mut snapshot = Snapshot::clone(&self.current.load());
                parts.show_namespaces(&mut snapshot);
                self.current.store(Arc::new(snapshot));
            }
            return;
        }
        // What is kept about digests changes often, and nothing else has to be read again for it.
        let joint = parts.settled.take().filter(|_| is_same);
        let settle = AssertUnwindSafe(|| {
            let joint = joint.unwrap_or_else(|| self.settle(parts, config));
            (parts.documents.with_kept(joint.clone()), joint)
        });
        let (settled, joint) = catch_unwind(settle).map_or_else(
            |_| (unsettled(), None),
            |(settled, joint)| (settled, Some(joint)),
        );
        parts.settled = joint;
        parts.settled_under = Some(under);
        parts.kept_in_force = parts.kept_changes;
        let reconfigured = configured.is_some();
        if let Some((config, client)) = configured {
            self.reconfigure(config, client);
        }
        let config = self.config.load_full();
        parts.configure(&config, settled.files == Version::Current);
        if parts.configuration.problems.is_empty() {
            parts.configuration.accept(config.revision(), now);
        }
        parts.report(&settled, metrics);
        let is_usable = settled.files != Version::Unreadable;
        let revision = format!("{} {}", settled.set.revision, parts.configured_by);
        let is_new = is_usable && parts.files.accept(revision, now);
        if is_new {
            report::announce(parts.documents.held(), &settled.set, self.watches.is_some());
            let people = settled.set.people.as_ref();
            let people = people.map_or(0, |people| people.people().len());
            let (revision, policies) = (&settled.set.revision, settled.set.policies.len());
            tracing::info!(revision, policies, people, "policies are in force");
            metrics.policy_reloads.inc();
        }
        parts.documents.accept(&settled, &config);
        self.documents.store(Arc::new(parts.documents.clone()));
        self.store(parts, settled, now);
        if reconfigured {
            tracing::info!("the new configuration is in force");
            metrics.configuration_reloads.inc();
        }
    }

    fn reconfigure(&self, config: Config, client: Client) {
        for warning in &config.warnings {
            tracing::warn!(warning, "a problem in the configuration");
        }
        self.collector.replace_registry(Arc::new(client));
        let options = config.client_options();
        for feeds in [&self.feeds, &self.cluster_feeds] {
            feeds.replace_options(&options);
        }
        self.roots.replace_options(&options);
        self.incidents.replace_options(&options);
        self.config.store(Arc::new(config));
    }

    /// Makes the snapshot of what counts, and swaps it in.
    fn store(&self, parts: &mut Parts, settled: Settlement, now: Timestamp) {
        let (of_cluster, of_files) = freezes_by_source(&settled.set);
        self.feeds.replace(feeds_of(&of_files));
        let checks = incident_checks(&settled.set, self.config.load().folder());
        self.incidents.replace(checks);
        let of_cluster = feeds::below(self.config.load().folder(), &of_cluster);
        self.cluster_feeds.replace(feeds_of(&of_cluster));
        parts.freezes = of_cluster;
        parts.feeds = self.feeds.revision();
        parts.refused.clone_from(&settled.refused);
        self.roots.replace(&settled.set);
        self.roots.follow(parts.documents.resources(), now);
        let (configured, states) = (parts.configured.clone(), self.feed_states(parts));
        let mut snapshot =
            unreadable::snapshot(settled, &parts.documents, configured, &states, now);
        parts.show_cluster(&mut snapshot, self.watches.is_some());
        parts.roots = self.roots.revision();
        snapshot.world.trust_roots.extend(self.roots.roots());
        let missing_roots = missing_roots(&snapshot);
        self.current.store(Arc::new(snapshot));
        if !missing_roots.is_empty() && missing_roots != parts.missing_roots {
            tracing::error!(
                policies = missing_roots.join("; "),
                "trust roots that policies in force name are not configured"
            );
        }
        parts.missing_roots = missing_roots;
        self.judged.send_replace(Arc::new(parts.judged()));
    }

    /// What is known of each feed: what this process read, and what the statuses of freezes say that are resources.
    fn feed_states(&self, parts: &Parts) -> FeedStates {
        let mut states = self.feeds.states();
        states.extend(states_of(&parts.freezes, &parts.feeds_of_cluster));
        states
    }

    /// Takes over the trust roots of repositories alone. Which policies are valid depends on their names only.
    fn refresh_roots(&self, parts: &mut Parts) {
        let revision = self.roots.revision();
        if revision == parts.roots {
            return;
        }
        parts.roots = revision;
        let mut snapshot = Snapshot::clone(&self.current.load());
        snapshot.world.trust_roots.extend(self.roots.roots());
        parts.missing_roots = missing_roots(&snapshot);
        self.current.store(Arc::new(snapshot));
    }

    /// Takes over which reviews of emergency changes are owed.
    fn refresh_owed(&self, parts: &Parts) {
        let Some(owed) = &parts.owed else {
            return;
        };
        if self.current.load().world.overdue_reviews != *owed {
            let mut snapshot = Snapshot::clone(&self.current.load());
            snapshot.world.overdue_reviews = owed.clone();
            self.current.store(Arc::new(snapshot));
        }
    }

    /// Makes the schedule of freezes again where feeds or the time have changed it, and shows which environments are frozen.
    fn refresh_schedule(&self, parts: &mut Parts, metrics: &Metrics, now: Timestamp) {
        let current = self.current.load_full();
        let Collected::Known(schedule) = &current.world.freezes else {
            return;
        };
        let revision = self.feeds.revision();
        let is_new = revision != parts.feeds || std::mem::take(&mut parts.has_new_feeds);
        let schedule = match is_new || schedule.is_outdated(now) {
            false => Arc::clone(schedule),
            true => {
                let freezes = schedule.freezes().map(|(freeze, _)| freeze.clone());
                let (freezes, states) = (freezes.collect(), self.feed_states(parts));
                let make = AssertUnwindSafe(|| api::schedule(freezes, &states, now));
                // What was computed before goes on, and is tried again when a feed says something new.
                parts.feeds = revision;
                let Ok(made) = catch_unwind(make) else {
                    tracing::error!("the change freezes cannot be computed: a panic");
                    return;
                };
                let made = Arc::new(made);
                let mut snapshot = Snapshot::clone(&current);
                snapshot.world.freezes = Collected::Known(Arc::clone(&made));
                self.current.store(Arc::new(snapshot));
                made
            }
        };
        let frozen = frozen_environments(&current.policies, &schedule, now);
        for (environment, is_frozen) in &frozen {
            metrics.show_frozen(environment, Some(*is_frozen));
            let before = parts.frozen.get(environment);
            if before.is_some_and(|before| before != is_frozen) || (before.is_none() && *is_frozen)
            {
                tracing::info!(
                    environment,
                    frozen = is_frozen,
                    "a change freeze begins or ends"
                );
            }
        }
        let gone = parts
            .frozen
            .keys()
            .filter(|name| !frozen.contains_key(*name));
        gone.for_each(|name| metrics.show_frozen(name, None));
        parts.frozen = frozen;
    }
}

/// What counts where the documents cannot be settled.
fn unsettled() -> Settlement {
    Settlement {
        set: PolicySet::default(),
        files: Version::Unreadable,
        problems: vec!["the documents could not be read: a panic".to_owned()],
        refused: BTreeMap::new(),
        excerpts: Default::default(),
    }
}

/// What the statuses of freezes that are resources say of their feeds.
fn states_of(freezes: &[Freeze], statuses: &BTreeMap<String, Value>) -> FeedStates {
    let state = |freeze: &Freeze| {
        let status = statuses.get(&freeze.name);
        let state = feed::state(status.unwrap_or(&Value::Null));
        (freeze.name.clone(), state)
    };
    freezes.iter().map(state).collect()
}

/// Keeps the snapshot current: files at an interval, the cluster when something changes there.
pub async fn keep_current(sources: Arc<Sources>, metrics: Arc<Metrics>, every: Duration) {
    loop {
        let changed = async {
            match &sources.watches {
                Some(watches) => watches.changed().await,
                None => pending().await,
            }
        };
        // Whether it waited to the end is of no importance.
        let _ = timeout(every, changed).await;
        let (sources, metrics) = (Arc::clone(&sources), Arc::clone(&metrics));
        // If reading panics, the last valid state stays in force.
        let poll = move || sources.poll(&metrics, Timestamp::now());
        let _ = tokio::task::spawn_blocking(poll).await;
    }
}
