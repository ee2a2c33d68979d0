//! Reading the sources again: what is new in each of them, and what follows from feeds, trust roots and reviews alone.

use std::collections::BTreeMap;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use promotion_gate_core::gate::{Collected, Freeze, Snapshot};
use serde_json::Value;
use tokio::time::timeout;

use super::Sources;
use super::documents::Changed;
use super::parts::Parts;
use super::report::{frozen_environments, missing_roots};
use crate::api::{self, FeedStates, PolicyFiles};
use crate::config::Config;
use crate::feeds::feed_state;
use crate::metrics::Metrics;
use crate::oci::Client;

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

impl Sources {
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

    /// What is known of each feed: what this process read, and what the statuses of freezes say that are resources.
    pub(super) fn feed_states(&self, parts: &Parts) -> FeedStates {
        let mut states = self.feeds.states();
        states.extend(states_of(&parts.freezes, &parts.feeds_of_cluster));
        states
    }

    /// Takes over the trust roots of repositories alone. Which policies are valid depends on their names only.
    pub(super) fn refresh_roots(&self, parts: &mut Parts) {
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
    pub(super) fn refresh_schedule(&self, parts: &mut Parts, metrics: &Metrics, now: Timestamp) {
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

/// What the statuses of freezes that are resources say of their feeds.
pub(super) fn states_of(freezes: &[Freeze], statuses: &BTreeMap<String, Value>) -> FeedStates {
    let state = |freeze: &Freeze| {
        let status = statuses.get(&freeze.name);
        let state = feed_state(status.unwrap_or(&Value::Null));
        (freeze.name.clone(), state)
    };
    freezes.iter().map(state).collect()
}
