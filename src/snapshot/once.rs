//! The documents of a command: read once, with the same decision about which version counts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use promotion_gate_core::gate::{Collected, Freeze, OverdueReviews, Snapshot, TrustRoots};

use super::documents::{Documents, Settlement, Version};
use super::owed::{emergency_records, owed_reviews};
use super::parts::feeds_in_statuses;
use super::poll::states_of;
use super::resource::{
    Resource, ResourceName, freezes_by_source, incident_checks, roots_by_source,
};
use super::watches::api_resource;
use super::{report, unreadable};
use crate::api::{FeedStates, Kind, PolicyFiles, PolicySet, SourceFile, TufRepository};
use crate::cluster::{ApiFailure, Cluster};
use crate::config::Config;
use crate::incidents::IncidentChecks;
use crate::metrics::IncidentQuestions;
use crate::tuf::TufRoots;

/// Documents of files and of a cluster.
pub struct Once {
    documents: Documents,
    settled: Settlement,
}

impl Once {
    /// Reads the resources of some kinds.
    ///
    /// # Errors
    /// The first kind that cannot be read, and why.
    pub async fn resources(
        cluster: &Cluster,
        kinds: &[Kind],
    ) -> Result<Vec<Arc<Resource>>, ApiFailure> {
        let mut resources = Vec::new();
        for kind in kinds {
            let Some(definition) = api_resource(*kind) else {
                continue;
            };
            let read = cluster.list(&definition).await;
            let read = read.map_err(|failure| {
                failure.about(&format!(
                    "`{}` cannot be read from the cluster",
                    kind.name()
                ))
            })?;
            let read = read
                .into_iter()
                .map(|object| Arc::new(Resource::of(*kind, object)));
            resources.extend(read);
        }
        Ok(resources)
    }

    /// Decides what counts of some files and resources.
    pub fn of(paths: &[PathBuf], resources: &[Arc<Resource>], config: &Config) -> Once {
        let mut documents = Documents::default();
        documents.files = Arc::new(PolicyFiles::read(paths));
        documents.replace_resources(resources);
        let settled = documents.settle(config, |_| Vec::new());
        Once { documents, settled }
    }

    /// What counts, without resources that cannot be read.
    pub fn set(&self) -> &PolicySet {
        &self.settled.set
    }

    /// Why the files do not count; empty if they do.
    pub fn problems(&self) -> &[String] {
        match self.settled.files {
            Version::Current => &[],
            Version::LastValid | Version::Unreadable => &self.settled.problems,
        }
    }

    /// The line of the file that a problem points into, and a caret below it.
    pub fn excerpt(&self, problem: &str) -> Option<&str> {
        self.settled.excerpts.get(problem).map(String::as_str)
    }

    /// The resources whose current version does not count, one sentence each.
    pub fn refused(&self) -> Vec<String> {
        report::refused(&self.settled.refused)
    }

    /// The documents of the resources that count.
    pub fn counting(&self) -> Vec<SourceFile> {
        self.documents.counting(&self.settled)
    }

    /// The freezes that stand for those that cannot be read.
    pub fn unreadable_freezes(&self) -> Vec<Freeze> {
        let refused = self.settled.refused.iter();
        let freezes = refused.filter_map(|(name, (version, why))| {
            let resource = self.documents.resource(name)?;
            unreadable::freeze(resource, *version, why)
        });
        freezes.collect()
    }

    /// What the statuses of freezes that are resources say of their feeds, and the freezes of files.
    pub fn feeds(&self) -> (FeedStates, Vec<Freeze>) {
        let (of_cluster, of_files) = freezes_by_source(&self.settled.set);
        let statuses: BTreeMap<_, _> = feeds_in_statuses(self.documents.resources());
        (states_of(&of_cluster, &statuses), of_files)
    }

    /// The reviews of emergency changes that are owed by what the cluster keeps.
    pub fn overdue_reviews(&self) -> Collected<Arc<OverdueReviews>> {
        owed_reviews(&emergency_records(self.documents.resources()), None)
    }

    /// The trust roots in the statuses of resources, what is wrong with those, and the repositories of files.
    pub fn roots(
        &self,
        config: &Config,
        now: Timestamp,
    ) -> (TrustRoots, Vec<String>, BTreeMap<String, TufRepository>) {
        let (of_cluster, of_files) = roots_by_source(&self.settled.set);
        let written = TufRoots::new(&config.client_options());
        let names: Vec<_> = of_cluster.keys().cloned().collect();
        written.replace(of_cluster);
        for name in names {
            let name = ResourceName {
                kind: Kind::TrustRoot,
                name,
            };
            if let Some(resource) = self.documents.resource(&name) {
                written.follow(&name.name, &resource.status, now);
            }
        }
        (written.roots(), written.problems(now), of_files)
    }

    /// What can be asked about incidents.
    pub fn incidents(&self, config: &Config, cluster: Option<&Cluster>) -> IncidentChecks {
        let questions = IncidentQuestions::default();
        let checks = IncidentChecks::new(&config.client_options(), cluster.cloned(), questions);
        checks.replace(incident_checks(&self.settled.set, config.folder()));
        checks
    }

    /// The snapshot of what counts, with the rest of another one.
    pub fn snapshot(self, rest: Snapshot, feeds: &FeedStates, now: Timestamp) -> Snapshot {
        unreadable::snapshot(self.settled, &self.documents, rest, feeds, now)
    }
}
