//! The sources of the snapshot: its parts (policies with people directories and change freezes, configuration with trust roots), each with its last valid state and its
//! problems. Files are polled. A new and valid state is taken over; an invalid one is reported, and the last valid state stays
//! in force.
//!
//! * `part` — one part, as its source shows it

mod part;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use jiff::Timestamp;
use promotion_gate_core::gate::{
    Collected, Enforcement, Policy, Schedule, Snapshot, TrustRoots, Unavailability, Ungoverned,
    Unreadable,
};
use tokio::time::timeout;

use crate::api::{self, Held, PolicyFiles, PolicySet};
use crate::collect::Collector;
use crate::config::Config;
use crate::feeds::{ClockReading, Feeds, feeds_of};
use crate::metrics::Metrics;
use crate::oci::Client;
use part::Part;

/// The files that the snapshot is made from.
pub struct SnapshotFiles {
    /// Files and folders with policies.
    pub policies: Vec<PathBuf>,
    /// The configuration as read at the start. It names its own file and the files that it refers to.
    pub config: Config,
}

/// The parts of the snapshot, and the snapshot that they make.
pub struct Sources {
    policies: Vec<PathBuf>,
    config: ArcSwap<Config>,
    collector: Arc<Collector>,
    current: ArcSwap<Snapshot>,
    /// Locked while the files are read.
    parts: Mutex<Parts>,
    feeds: Arc<Feeds>,
    readiness: ArcSwap<Readiness>,
}

/// Whether reviews can be answered, and the problems of the parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Whether every part was valid at least once.
    pub ready: bool,
    /// Problems of the current states of the sources, one sentence each.
    pub problems: Vec<String>,
    /// The parts whose last valid state is in force instead, and since when.
    pub kept: Vec<String>,
}

#[derive(Default)]
struct Parts {
    configuration: Part,
    policies: Part,
    /// The configuration under which the policies on disk were last read, and whether it was valid itself.
    policies_read_under: Option<(String, bool)>,
    /// The files of the policies and people in force, each with what is in it.
    policy_files: Held,
    /// The trust roots in the documents in force.
    document_roots: TrustRoots,
    /// Policies in force that name trust roots which the configuration in force does not have.
    missing_roots: Vec<String>,
    /// The revision of the feeds that the schedule in force was made from.
    feeds: u64,
    /// Which environments were frozen at the last poll.
    frozen: BTreeMap<String, bool>,
}

impl Parts {
    fn readiness(&self) -> Readiness {
        let parts = [
            ("configuration", &self.configuration),
            ("policies", &self.policies),
        ];
        let problems = parts.iter().flat_map(|(_, part)| &part.problems);
        let kept = parts.iter().filter(|(_, part)| !part.problems.is_empty());
        let kept = kept.filter_map(|(name, part)| {
            let since = part.last_valid.as_ref()?.since;
            Some(format!("{name} since {since:.0}"))
        });
        Readiness {
            ready: self.policies.last_valid.is_some(),
            kept: kept.collect(),
            problems: problems.chain(&self.missing_roots).cloned().collect(),
        }
    }
}

impl Sources {
    /// Reads the files for the first time. [`Sources::readiness`] reports invalid ones.
    pub fn load(
        files: SnapshotFiles,
        collector: Arc<Collector>,
        metrics: &Metrics,
    ) -> Arc<Sources> {
        let sources = Arc::new(Sources {
            current: ArcSwap::from_pointee(files.config.snapshot()),
            feeds: Arc::new(Feeds::new(&files.config.client_options())),
            policies: files.policies,
            config: ArcSwap::from_pointee(files.config),
            collector,
            parts: Mutex::default(),
            readiness: ArcSwap::default(),
        });
        sources.poll(metrics, Timestamp::now());
        sources
    }

    /// The snapshot for a review. It does not change during the review.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// The feeds of change freezes, which have to be kept current.
    pub fn feeds(&self) -> Arc<Feeds> {
        Arc::clone(&self.feeds)
    }

    /// Asks the feeds for the first time, and waits a while for their answers: a freeze whose feed was never read counts as lasting.
    pub async fn ask_feeds(&self, metrics: &Metrics, within: Duration) {
        let start = ClockReading {
            at: Timestamp::now(),
            uptime: Duration::ZERO,
        };
        let _ = timeout(within, self.feeds.ask_due(start, metrics)).await;
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        self.refresh_schedule(&mut parts, metrics, Timestamp::now());
    }

    /// The result of the last poll.
    pub fn readiness(&self) -> Arc<Readiness> {
        self.readiness.load_full()
    }

    /// Reads the files, and takes over a state that is new, valid, and the same at two polls. Policies and configuration do not
    /// wait for each other to be repaired, except where that could allow something by accident.
    fn poll(&self, metrics: &Metrics, now: Timestamp) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        // 1. The configuration comes first, since its trust roots decide whether policies are valid.
        let (configured, configuration_changed) = self.poll_configuration(&mut parts);
        let in_force = self.config.load_full();
        let config = configured.as_ref().map_or(&*in_force, |(config, _)| config);
        // 2. The policies, under the configuration that will be in force.
        let (policies, policies_changed) = self.poll_policies(&mut parts, config);
        // 3. One swap for all changes of one poll, so that no review sees new policies under an old configuration, or the
        // reverse.
        if configuration_changed || policies_changed {
            let take_over = || self.take_over(&mut parts, configured, policies, metrics, now);
            if catch_unwind(AssertUnwindSafe(take_over)).is_err() {
                let why = "what was read could not be taken over: a panic";
                tracing::error!(why);
                parts.policies.problems.push(why.to_owned());
            }
        }
        // 4. The schedule of freezes, if a feed says something new, or if what was computed ends soon.
        self.refresh_schedule(&mut parts, metrics, now);
        // 5. Report the problems to `/readyz` and the metrics.
        let readiness = parts.readiness();
        metrics
            .policies_broken
            .set(i64::from(!readiness.problems.is_empty()));
        self.readiness.store(Arc::new(readiness));
    }

    /// The configuration to take over, if any; and whether the state on disk has changed, valid or not.
    fn poll_configuration(&self, parts: &mut Parts) -> (Option<(Config, Client)>, bool) {
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
            return (None, false);
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
        (configured, true)
    }

    /// The policies to take over under this configuration, if any; and whether the state on disk has changed, valid or not.
    fn poll_policies(&self, parts: &mut Parts, config: &Config) -> (Option<PolicySet>, bool) {
        // A panic is reported as a problem: the last valid policies stay in force, and the configuration does not wait.
        let read = AssertUnwindSafe(|| PolicyFiles::read(&self.policies));
        let files = catch_unwind(read).unwrap_or_default();
        let changed = parts.policies.is_new_and_stable(files.revision());
        let under = (config.revision(), parts.configuration.problems.is_empty());
        let is_read = !changed && parts.policies_read_under.as_ref() == Some(&under);
        // The file may still be being written, so it waits for the next poll, even if the configuration has changed.
        if parts.policies.is_unstable() || is_read {
            return (None, false);
        }
        let load = || {
            files
                .load(&config.world.trust_roots)
                .under(&config.settings)
        };
        let load = AssertUnwindSafe(load);
        let (set, failed) = match catch_unwind(load) {
            Ok(set) => (set, None),
            Err(_) => (
                PolicySet::default(),
                Some("they could not be read: a panic".to_owned()),
            ),
        };
        let mut problems: Vec<_> = failed.into_iter().collect();
        problems.extend(set.problems.iter().map(ToString::to_string));
        problems.extend(
            set.lost(&parts.policy_files)
                .iter()
                .map(ToString::to_string),
        );
        if problems.is_empty() && set.policies.is_empty() {
            problems.push("there are no policies in the files named by `--policy`".to_owned());
        }
        parts.policies_read_under = Some(under);
        let mut policies = set.policies.iter();
        let by_label = policies.any(|policy| policy.namespaces.selector.is_some());
        let kept = parts.policies.last_valid.is_some();
        if by_label && !parts.configuration.problems.is_empty() && kept {
            let why = "policies that select namespaces by label wait for the configuration to be repaired";
            problems.push(why.to_owned());
        }
        if !problems.is_empty() && problems != parts.policies.problems {
            let problems = problems.join("; ");
            tracing::error!(problems, kept, "the policies on disk are broken");
        }
        let valid = problems.is_empty();
        parts.policies.problems = problems;
        (valid.then_some(set), true)
    }

    /// Makes the schedule of freezes again where feeds or the time have changed it, and shows which environments are frozen.
    fn refresh_schedule(&self, parts: &mut Parts, metrics: &Metrics, now: Timestamp) {
        let current = self.current.load_full();
        let Collected::Known(schedule) = &current.world.freezes else {
            return;
        };
        let revision = self.feeds.revision();
        let schedule = match revision != parts.feeds || schedule.is_outdated(now) {
            false => Arc::clone(schedule),
            true => {
                let freezes = schedule.freezes().map(|(freeze, _)| freeze.clone());
                let (freezes, states) = (freezes.collect(), self.feeds.states());
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

    /// Takes over new states as one snapshot.
    fn take_over(
        &self,
        parts: &mut Parts,
        configured: Option<(Config, Client)>,
        policies: Option<PolicySet>,
        metrics: &Metrics,
        now: Timestamp,
    ) {
        let reconfigured = configured.is_some();
        if let Some((config, client)) = configured {
            for warning in &config.warnings {
                tracing::warn!(warning, "a problem in the configuration");
            }
            self.collector.replace_registry(Arc::new(client));
            self.feeds.replace_options(&config.client_options());
            self.config.store(Arc::new(config));
        }
        let config = self.config.load();
        if parts.configuration.problems.is_empty() {
            parts.configuration.accept(config.revision(), now);
        }
        let current = self.current.load_full();
        let mut reloaded = None;
        let snapshot = match policies {
            Some(set) => {
                let revision = format!("{} {}", set.revision, config.revision());
                if parts.policies.accept(revision, now) {
                    announce(&parts.policy_files, &set);
                    let people = set
                        .people
                        .as_ref()
                        .map_or(0, |people| people.people().len());
                    reloaded = Some((set.revision.clone(), set.policies.len(), people));
                }
                parts.policy_files = set.files.clone();
                parts.document_roots = set.inline_roots();
                self.feeds.replace(feeds_of(&set.freezes));
                parts.feeds = self.feeds.revision();
                set.snapshot(config.snapshot(), &self.feeds.states(), now)
            }
            None if parts.policies.last_valid.is_none() => unreadable(&parts.policies, &config),
            None => under_last_valid(&current, &config, &parts.document_roots),
        };
        let missing_roots = missing_roots(&snapshot);
        self.current.store(Arc::new(snapshot));
        if !missing_roots.is_empty() && missing_roots != parts.missing_roots {
            tracing::error!(
                policies = missing_roots.join("; "),
                "trust roots that policies in force name are not configured"
            );
        }
        parts.missing_roots = missing_roots;
        if reconfigured {
            tracing::info!("the new configuration is in force");
            metrics.configuration_reloads.inc();
        }
        if let Some((revision, policies, people)) = reloaded {
            tracing::info!(revision, policies, people, "policies are in force");
            metrics.policy_reloads.inc();
        }
    }
}

/// Whether each environment is frozen in which a policy asks for that.
fn frozen_environments(
    policies: &[Policy],
    schedule: &Schedule,
    now: Timestamp,
) -> BTreeMap<String, bool> {
    let environments = policies.iter().filter_map(Policy::frozen_environment);
    environments
        .map(|name| {
            let is_frozen = !schedule.frozen_at(name, now).is_empty();
            (name.to_owned(), is_frozen)
        })
        .collect()
}

/// The snapshot while no policies were ever valid: everything that they might govern is denied.
fn unreadable(policies: &Part, config: &Config) -> Snapshot {
    let unreadable = policies.problems.iter().take(8).map(|why| Unreadable {
        source: "policies".to_owned(),
        why: why.clone(),
    });
    let mut snapshot = Snapshot {
        unreadable: unreadable.collect(),
        ..config.snapshot()
    };
    let why = policies.problems.first().cloned().unwrap_or_default();
    snapshot.world.freezes = Collected::Unavailable(Unavailability(format!(
        "the policies and change freezes could not be read: {why}"
    )));
    snapshot.world.people = Collected::Unavailable(Unavailability(format!(
        "the policies and people directories could not be read: {why}"
    )));
    snapshot
}

/// The snapshot while no policies are valid under the configuration in force: the last valid policies stay, under its trust
/// roots. The rest of the configuration applies only where it is stricter.
fn under_last_valid(current: &Snapshot, config: &Config, of_documents: &TrustRoots) -> Snapshot {
    let mut snapshot = current.clone();
    // Trust roots of the configuration are as configured now. The rest stays as it was: labels decide which policies govern, people belong to the
    // policies, and under another name of the cluster other approvals would count.
    let mut trust_roots = of_documents.clone();
    trust_roots.extend(config.world.trust_roots.clone());
    snapshot.world.trust_roots = trust_roots;
    if config.snapshot().ungoverned == Ungoverned::Deny {
        snapshot.ungoverned = Ungoverned::Deny;
    }
    snapshot
}

/// Logs what operators should know about policies that come into force.
fn announce(before: &Held, set: &PolicySet) {
    for warning in gone(before, set)
        .into_iter()
        .chain(lock_outs(&set.policies))
    {
        tracing::warn!("{warning}");
    }
    for warning in &set.warnings {
        tracing::warn!(%warning, "a policy probably does not mean what is written");
    }
    if !set.skipped.is_empty() {
        tracing::info!("{}", set.skipped);
    }
}

/// Policies of a snapshot that name trust roots which it does not have, one line each.
fn missing_roots(snapshot: &Snapshot) -> Vec<String> {
    let each = snapshot.policies.iter().flat_map(|policy| {
        let requirements = policy.requirements.iter();
        let needs = requirements.map(|named| named.requirement.needs(&snapshot.world));
        let missing: BTreeSet<_> = needs.flat_map(|needs| needs.missing_roots).collect();
        missing.into_iter().map(|root| {
            let name = &policy.name;
            format!("the policy `{name}` in force names the trust root `{root}`, which is not configured: no signature is accepted under it")
        })
    });
    each.collect()
}

/// Enforcing policies that also govern the cluster's own workloads, one line each.
fn lock_outs(policies: &[Policy]) -> Vec<String> {
    let enforcing = policies
        .iter()
        .filter(|policy| policy.enforcement == Enforcement::Enforce);
    let warning = |policy: &Policy| {
        let name = &policy.name;
        let namespaces = &policy.namespaces;
        if namespaces.names.is_empty() && namespaces.selector.is_none() {
            return Some(format!(
                "the policy `{name}` governs every namespace, `kube-system` and the gate's own among them, and denies what the cluster itself runs where it does not comply; name the namespaces with `match.namespaces`"
            ));
        }
        namespaces.selector.as_ref().map(|_| format!("the policy `{name}` selects namespaces by label, and labels are known from the configuration alone: in a namespace that it does not list, what the policy would deny is denied too; list the namespaces under `namespaces`, or select by name"))
    };
    enforcing.filter_map(warning).collect()
}

/// Policies and people directories that no file holds any more, one line for each file that held them.
fn gone(before: &Held, set: &PolicySet) -> Vec<String> {
    let held_now: BTreeSet<_> = set.files.values().flatten().collect();
    let lines = before.iter().filter_map(|(file, held)| {
        let gone = held.iter().filter(|document| !held_now.contains(document));
        let gone: Vec<_> = gone.map(|(_, name)| format!("`{name}`")).collect();
        let rest = match set.files.get(file) {
            Some(left) => format!("it holds {} of {} documents now", left.len(), held.len()),
            None => "the file does not exist any more".to_owned(),
        };
        (!gone.is_empty()).then(|| {
            let gone = gone.join(", ");
            format!("`{file}` held documents that are gone: {gone}; {rest}")
        })
    });
    lines.collect()
}

/// Polls the files at an interval.
pub async fn keep_current(sources: Arc<Sources>, metrics: Arc<Metrics>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let (sources, metrics) = (Arc::clone(&sources), Arc::clone(&metrics));
        // If reading panics, the last valid state stays in force.
        let poll = move || sources.poll(&metrics, Timestamp::now());
        let _ = tokio::task::spawn_blocking(poll).await;
    }
}
