//! The trust roots in TUF repositories.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use promotion_gate_core::gate::TrustRoots;

use super::resource::{Resource, roots_by_source};
use crate::api::{Kind, PolicySet};
use crate::metrics::Metrics;
use crate::oci::ClientOptions;
use crate::tuf::TufRoots;

/// The trust roots of files and of resources.
pub(super) struct RepositoryRoots {
    /// Those of files, which each process reads for itself.
    pub(super) of_files: Arc<TufRoots>,
    /// Those of resources, which one replica reads for all.
    pub(super) of_cluster: Arc<TufRoots>,
    /// Those of resources, as their statuses say them: every replica decides by these.
    written: TufRoots,
}

impl RepositoryRoots {
    pub(super) fn new(options: &ClientOptions) -> RepositoryRoots {
        RepositoryRoots {
            of_files: Arc::new(TufRoots::new(options)),
            of_cluster: Arc::new(TufRoots::new(options)),
            written: TufRoots::new(options),
        }
    }

    pub(super) fn replace_options(&self, options: &ClientOptions) {
        for roots in [&self.of_files, &self.of_cluster] {
            roots.replace_options(options);
        }
    }

    /// Replaces the repositories.
    pub(super) fn replace(&self, set: &PolicySet) {
        let (of_cluster, of_files) = roots_by_source(set);
        self.of_files.replace(of_files);
        self.of_cluster.replace(of_cluster.clone());
        self.written.replace(of_cluster);
    }

    /// Takes over what statuses say.
    pub(super) fn follow<'a>(
        &self,
        resources: impl Iterator<Item = &'a Arc<Resource>>,
        now: Timestamp,
    ) {
        let is_root = |resource: &&Arc<Resource>| resource.name.kind == Kind::TrustRoot;
        for resource in resources.filter(is_root) {
            let (name, status) = (&resource.name.name, &resource.status);
            self.written.follow(name, status, now);
            self.of_cluster.restore(name, status, now);
        }
    }

    /// Grows when what decides changes.
    pub(super) fn revision(&self) -> u64 {
        self.of_files.revision() + self.written.revision()
    }

    /// The roots by which is decided.
    pub(super) fn roots(&self) -> TrustRoots {
        let mut roots = self.of_files.roots();
        roots.extend(self.written.roots());
        roots
    }

    /// The roots that are not as their repositories have them now, one sentence each.
    pub(super) fn problems(&self, now: Timestamp) -> Vec<String> {
        let mut problems = self.of_files.problems(now);
        problems.extend(self.written.problems(now));
        problems
    }

    /// Shows in the metrics whether the repository of each root was read, and how long ago; takes out those in `shown` that are gone.
    pub(super) fn show_ages(
        &self,
        metrics: &Metrics,
        now: Timestamp,
        shown: &BTreeSet<String>,
    ) -> BTreeSet<String> {
        let mut states = self.of_files.states();
        states.extend(self.written.states());
        let now_shown: BTreeSet<_> = states
            .into_iter()
            .map(|(name, state)| {
                let age = state.fetched_at.map(|at| now.duration_since(at));
                let age = age.map(|age| age.max(jiff::SignedDuration::ZERO).unsigned_abs());
                metrics.show_trust_root(&name, age);
                name
            })
            .collect();
        for gone in shown.difference(&now_shown) {
            metrics.remove_trust_root(gone);
        }
        now_shown
    }
}
