//! Policies and configuration that change under way: files are looked at every second, what is new and sound is taken over,
//! what is broken is said and leaves the last good one in force.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use http::StatusCode;
use promotion_gate_core::gate::{Policy, Snapshot, Ungoverned, Unreadable};

use crate::api::{self, Source};
use crate::collect::Collector;
use crate::config::Config;
use crate::oci::Client;
use crate::telemetry::Metrics;

/// Where policies come from, and what surrounds them.
pub struct PolicySource {
    /// Files and folders.
    pub paths: Vec<PathBuf>,
    /// The configuration, as it was read at first.
    pub config: Config,
}

/// The policies in force, under the configuration in force.
pub(super) struct Policies {
    paths: Vec<PathBuf>,
    config: ArcSwap<Config>,
    collector: Arc<Collector>,
    current: ArcSwap<Snapshot>,
    /// Held by whoever looks at the files, for as long as that takes.
    state: Mutex<State>,
    /// What came of the last look.
    readiness: ArcSwap<(StatusCode, String)>,
}

#[derive(Default)]
struct State {
    configuration: Looks,
    policies: Looks,
    /// The last sound set of policies, as it was read.
    good: Option<Vec<Source>>,
}

/// What was seen of some files.
#[derive(Default)]
struct Looks {
    /// The state that was last taken over or refused.
    seen: Option<String>,
    /// Another state, seen once: a file may just be in the middle of being written.
    candidate: Option<String>,
    /// What is wrong with them.
    problems: Vec<String>,
}

impl Looks {
    /// Whether a state is another one than before, and the same at two looks.
    fn settles(&mut self, now: String) -> bool {
        if self.seen.as_ref() == Some(&now) {
            self.candidate = None;
            return false;
        }
        if self.seen.is_some() && self.candidate.as_ref() != Some(&now) {
            self.candidate = Some(now);
            return false;
        }
        self.seen = Some(now);
        true
    }
}

impl State {
    fn problems(&self) -> impl Iterator<Item = &str> {
        let all = self
            .configuration
            .problems
            .iter()
            .chain(&self.policies.problems);
        all.map(String::as_str)
    }
}

impl Policies {
    pub(super) fn load(
        source: PolicySource,
        collector: Arc<Collector>,
        metrics: &Metrics,
    ) -> Arc<Policies> {
        let policies = Arc::new(Policies {
            current: ArcSwap::from_pointee(source.config.snapshot()),
            paths: source.paths,
            config: ArcSwap::from_pointee(source.config),
            collector,
            state: Mutex::default(),
            readiness: ArcSwap::from_pointee((StatusCode::SERVICE_UNAVAILABLE, String::new())),
        });
        policies.look(metrics);
        policies
    }

    /// The snapshot that a review sees, whatever happens meanwhile.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// What `/readyz` says.
    pub(super) fn readiness(&self) -> (StatusCode, String) {
        (**self.readiness.load()).clone()
    }

    /// Looks at the files, and takes over what is new and sound, and the same at two looks. Neither policies nor configuration
    /// wait for the other to be repaired, but where that could let something in that nobody meant to.
    fn look(&self, metrics: &Metrics) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.look_at_configuration(&mut state, metrics);
        self.look_at_policies(&mut state, metrics);
        let problems = state.problems().collect::<Vec<_>>().join("\n");
        metrics.policies_broken.set(i64::from(!problems.is_empty()));
        let readiness = match (state.good.is_some(), problems.is_empty()) {
            (true, true) => (StatusCode::OK, "ready\n".to_owned()),
            (true, false) => (
                StatusCode::OK,
                format!(
                    "ready, but the policies or the configuration on disk are broken and older ones are in force:\n{problems}\n"
                ),
            ),
            (false, _) => (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("not ready: no usable policies\n{problems}\n"),
            ),
        };
        self.readiness.store(Arc::new(readiness));
    }

    fn look_at_configuration(&self, state: &mut State, metrics: &Metrics) {
        let looks = &mut state.configuration;
        let in_force = self.config.load();
        let changed = in_force.reload().map(|config| {
            let config = config?;
            let client = Client::new(config.client_options());
            let client = client.context("the registries cannot be read as it is configured")?;
            anyhow::Ok((config, client))
        });
        let now = match &changed {
            None => in_force.revision(),
            Some(Ok((config, _))) => config.revision(),
            Some(Err(error)) => format!("{error:#}"),
        };
        if !looks.settles(now) {
            return;
        }
        looks.problems = match changed {
            None => Vec::new(),
            Some(Ok((config, client))) => {
                for warning in &config.warnings {
                    tracing::warn!(warning, "the configuration");
                }
                tracing::info!("the new configuration is in force");
                metrics.configuration_reloads.inc();
                self.keep_policies_under(&config, state.good.as_deref());
                self.collector.replace_registry(Arc::new(client));
                self.config.store(Arc::new(config));
                Vec::new()
            }
            Some(Err(error)) => {
                let error = format!("{error:#}");
                tracing::error!(error, "the configuration on disk is broken");
                vec![error]
            }
        };
    }

    /// Until policies are taken over that were written with it, a new configuration changes the trust roots of those in force,
    /// and makes nothing looser.
    fn keep_policies_under(&self, config: &Config, good: Option<&[Source]>) {
        let mut snapshot = (*self.current.load_full()).clone();
        if config.snapshot().ungoverned == Ungoverned::Deny {
            snapshot.ungoverned = Ungoverned::Deny;
        }
        if let Some(good) = good {
            let set = api::load(good, &config.trust_roots);
            if set.problems.is_empty() {
                snapshot.policies = set.policies;
            } else {
                let problems = set.problems.iter().map(ToString::to_string);
                let problems = problems.collect::<Vec<_>>().join("; ");
                tracing::warn!(problems, "the policies in force keep their old trust roots");
            }
        }
        self.current.store(Arc::new(snapshot));
    }

    fn look_at_policies(&self, state: &mut State, metrics: &Metrics) {
        let config = self.config.load_full();
        let (sources, unread) = api::read_paths(&self.paths);
        let set = api::load(&sources, &config.trust_roots);
        let mut problems: Vec<String> = unread
            .iter()
            .chain(&set.problems)
            .map(ToString::to_string)
            .collect();
        if problems.is_empty() && set.policies.is_empty() {
            problems.push("there are no policies in the files named by --policy".to_owned());
        }
        let by_label = set
            .policies
            .iter()
            .any(|policy| policy.namespaces.selector.is_some());
        if by_label && !state.configuration.problems.is_empty() && state.good.is_some() {
            let why = "policies that select namespaces by label wait for the configuration to be repaired";
            problems.push(why.to_owned());
        }
        let (revision, under) = (&set.revision, config.revision());
        let now = format!("{revision} {under} {}", problems.join("\n"));
        if !state.policies.settles(now) {
            return;
        }
        let gone = names_gone(&self.current.load().policies, &set.policies);
        if problems.is_empty() && !gone.is_empty() {
            tracing::warn!(policies = gone, "policies are gone");
        }
        if problems.is_empty() {
            tracing::info!(
                revision = set.revision,
                policies = set.policies.len(),
                "policies are in force"
            );
            metrics.policy_reloads.inc();
            let snapshot = Snapshot {
                policies: set.policies,
                revision: set.revision,
                ..config.snapshot()
            };
            self.current.store(Arc::new(snapshot));
            state.good = Some(sources);
        } else {
            tracing::error!(
                problems = problems.join("; "),
                kept = state.good.is_some(),
                "the policies on disk are broken"
            );
            if state.good.is_none() {
                let unreadable = problems.iter().take(8).map(|why| Unreadable {
                    source: "policies".to_owned(),
                    why: why.clone(),
                });
                let snapshot = Snapshot {
                    unreadable: unreadable.collect(),
                    ..config.snapshot()
                };
                self.current.store(Arc::new(snapshot));
            }
        }
        state.policies.problems = problems;
    }
}

/// The names of policies that are in force and not among the new ones.
fn names_gone(current: &[Policy], new: &[Policy]) -> String {
    let gone = current
        .iter()
        .filter(|policy| !new.iter().any(|other| other.name == policy.name));
    gone.map(|policy| policy.name.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}

/// Looks at the policies again and again.
pub(super) async fn policies(policies: Arc<Policies>, metrics: Arc<Metrics>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let (policies, metrics) = (Arc::clone(&policies), Arc::clone(&metrics));
        // A panic while reading leaves the last good policies in force.
        let _ = tokio::task::spawn_blocking(move || policies.look(&metrics)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::{CacheSizes, CollectLimits};

    const STRICT: &str = "{apiVersion: promotion-gate.dev/v1alpha1, kind: PromotionPolicy, metadata: {name: strict}, spec: {requirements: [{digestPinned: {}}]}}";
    const CUT: &str = "{apiVersion: promotion-gate.dev/v1alpha1, kind: PromotionPolicy, metadata: {name: cut}, spec: {requirements: [{digestPinned: {}}]}}";

    #[test]
    fn a_state_between_two_good_ones_is_never_taken_over_however_often_it_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy.yaml");
        let metrics = Metrics::new();
        std::fs::write(&file, STRICT).unwrap();
        let config = Config::load(None).unwrap();
        let client = Arc::new(Client::new(config.client_options()).unwrap());
        let (limits, sizes) = (CollectLimits::default(), CacheSizes::default());
        let collector = Arc::new(Collector::new(client, limits, sizes));
        let source = PolicySource {
            paths: vec![file.clone()],
            config,
        };
        let policies = Policies::load(source, collector, &metrics);
        let in_force = || policies.snapshot().policies[0].name.clone();
        for _ in 0..3 {
            std::fs::write(&file, CUT).unwrap();
            policies.look(&metrics);
            assert_eq!(in_force(), "strict");
            std::fs::write(&file, STRICT).unwrap();
            policies.look(&metrics);
            assert_eq!(in_force(), "strict");
        }
        std::fs::write(&file, CUT).unwrap();
        policies.look(&metrics);
        policies.look(&metrics);
        assert_eq!(in_force(), "cut");
    }
}
