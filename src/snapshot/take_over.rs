//! Taking over what is new and valid, as one snapshot.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use jiff::Timestamp;
use promotion_gate_core::gate::Snapshot;

use super::documents::{Settlement, Version};
use super::parts::{Parts, Under};
use super::report::{self, missing_roots};
use super::resource::{freezes_by_source, incident_checks};
use super::{Sources, unreadable};
use crate::api::PolicySet;
use crate::config::Config;
use crate::feeds::{self, feeds_of};
use crate::metrics::Metrics;
use crate::oci::Client;

impl Sources {
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
    pub(super) fn take_over(
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
