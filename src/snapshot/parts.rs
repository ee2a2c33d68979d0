//! All parts of the snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use promotion_gate_core::gate::{
    Collected, Freeze, FreezeSource, NamespaceMatch, OverdueReviews, Snapshot, Unavailability,
    Ungoverned, Unreadable,
};
use serde_json::{Value, json};

use super::documents::{Documents, Settlement, Version};
use super::owed::{emergency_records, owed_reviews};
use super::part::Part;
use super::resource::{Resource, ResourceName};
use super::watches::{LeftOut, Seen};
use super::{Judged, Readiness, report};
use crate::api::Kind;
use crate::config::Config;
use crate::metrics::Metrics;

/// The warning to operators while nothing governs.
const NO_POLICY: &str =
    "no policy is in force: every image is admitted; apply a PromotionPolicy, or give `--policy`";

#[derive(Default)]
pub(super) struct Parts {
    pub(super) configuration: Part,
    /// What the configuration in force says, and the revision of the one that says all of it.
    pub(super) configured: Snapshot,
    pub(super) configured_by: String,
    pub(super) files: Part,
    pub(super) documents: Documents,
    pub(super) seen: Seen,
    /// Count the changes of resources that can change what is decided: of those that are valid only together, and of the others.
    pub(super) changes: u64,
    pub(super) kept_changes: u64,
    /// The resources that do not count as they are.
    pub(super) refused: BTreeMap<ResourceName, (Version, Vec<String>)>,
    /// Problems of resources.
    pub(super) refusals: Vec<String>,
    /// The freezes that are resources.
    pub(super) freezes: Vec<Freeze>,
    /// The feeds in the statuses of freezes.
    pub(super) feeds_of_cluster: BTreeMap<String, Value>,
    /// Whether these have changed since the schedule was made.
    pub(super) has_new_feeds: bool,
    /// What the documents were last settled under, and what came of those that are valid only together.
    pub(super) settled_under: Option<Under>,
    pub(super) settled: Option<Settlement>,
    /// The changes of the other ones that are in force.
    pub(super) kept_in_force: u64,
    /// Policies in force that name trust roots which the configuration in force does not have.
    pub(super) missing_roots: Vec<String>,
    /// The revision of the feeds that the schedule in force was made from.
    pub(super) feeds: u64,
    /// The revision of the trust roots of repositories that are in force.
    pub(super) roots: u64,
    /// The roots whose age the metrics show.
    pub(super) shown_roots: BTreeSet<String>,
    /// Whether nothing governed at the last poll.
    pub(super) governs_nothing: bool,
    /// Which environments were frozen at the last poll.
    pub(super) frozen: BTreeMap<String, bool>,
    /// The reviews of emergency changes that are owed; `None` without a cluster.
    pub(super) owed: Option<Collected<Arc<OverdueReviews>>>,
}

/// What decides, besides the documents themselves, which version of them counts.
#[derive(PartialEq, Eq)]
pub(super) struct Under {
    pub(super) configuration: String,
    pub(super) is_configuration_valid: bool,
    pub(super) are_files_stable: bool,
    pub(super) resources: u64,
    pub(super) is_cluster_read: bool,
    pub(super) left_out: LeftOut,
}

impl Parts {
    pub(super) fn readiness(&self, has_cluster: bool) -> Readiness {
        let parts = [
            ("configuration", &self.configuration),
            ("policies", &self.files),
        ];
        let problems = parts.iter().flat_map(|(_, part)| &part.problems);
        let kept = parts.iter().filter(|(_, part)| !part.problems.is_empty());
        let kept = kept.filter_map(|(name, part)| {
            let since = part.last_valid.as_ref()?.since;
            Some(format!("{name} since {since:.0}"))
        });
        let problems = problems
            .chain(&self.missing_roots)
            .chain(&self.refusals)
            .chain(&self.seen.problems);
        Readiness {
            ready: self.files.last_valid.is_some() && (self.seen.is_complete || !has_cluster),
            kept: kept.collect(),
            problems: problems.cloned().collect(),
            governors_unknown: self.governors_unknown(has_cluster),
        }
    }

    /// Why it is not known who governs: then not everybody does.
    fn governors_unknown(&self, has_cluster: bool) -> Option<String> {
        if has_cluster && !self.seen.is_complete {
            return Some("the resources of the cluster are not read yet".to_owned());
        }
        let mut refused = self.refused.iter();
        let (name, (_, why)) = refused.find(|(name, (version, _))| {
            name.kind == Kind::GateConfiguration && *version == Version::Unreadable
        })?;
        let (name, why) = (&name.name, why.join("; "));
        Some(format!(
            "the GateConfiguration `{name}` cannot be read: {why}"
        ))
    }

    /// Takes over what a configuration says: all of it where the files count under it. Otherwise policies go on that were valid under
    /// an earlier one: trust roots are as configured now, and the rest applies only where it is stricter. Labels decide which
    /// policies govern, and under another name of the cluster other approvals would count.
    pub(super) fn configure(&mut self, config: &Config, files_count: bool) {
        if files_count && !self.files.is_unstable() {
            self.configured = config.snapshot();
            self.configured_by = config.revision();
            return;
        }
        self.configured.world.trust_roots = config.world.trust_roots.clone();
        if config.snapshot().ungoverned == Ungoverned::Deny {
            self.configured.ungoverned = Ungoverned::Deny;
        }
    }

    /// What the watches know: it counts instead of what the configuration says. Until everything was read once, it may govern
    /// anything.
    pub(super) fn show_cluster(&self, snapshot: &mut Snapshot, has_cluster: bool) {
        if has_cluster && !self.seen.is_complete {
            let why = self.seen.problems.first().cloned();
            snapshot.unreadable.push(Unreadable {
                source: "(cluster)".to_owned(),
                why: why
                    .unwrap_or_else(|| "the resources of the cluster are not read yet".to_owned()),
                namespaces: NamespaceMatch::default(),
            });
        }
        if let Some(why) = &self.seen.left_out.other {
            snapshot.unreadable.push(Unreadable {
                source: "(cluster)".to_owned(),
                why: why.clone(),
                namespaces: NamespaceMatch::default(),
            });
        }
        let LeftOut { kept, vex, .. } = self.seen.left_out.clone();
        snapshot.world.kept_partly = kept.map(Unavailability);
        snapshot.world.vex_partly = vex.map(Unavailability);
        if let Some(owed) = &self.owed {
            snapshot.world.overdue_reviews = owed.clone();
        }
        self.show_namespaces(snapshot);
    }

    /// Notes which reviews of emergency changes are owed. A watch that is lost keeps what was read; before everything was read once,
    /// it is not known.
    pub(super) fn note_owed(&mut self) {
        self.owed = Some(match &self.seen.unread_emergencies {
            Some(why) => Collected::Unavailable(Unavailability(why.clone())),
            None => {
                let left_out = self.seen.left_out.emergencies.as_deref();
                owed_reviews(&emergency_records(self.documents.resources()), left_out)
            }
        });
    }

    /// Takes over what the watches read, and warns of kinds of which soon not all resources are read.
    pub(super) fn see(&mut self, seen: Seen, metrics: &Metrics) {
        for kind in seen.many.difference(&self.seen.many) {
            let why = "there are so many resources of a kind that soon not all of them are read; delete those that nobody needs";
            metrics
                .alarms
                .raise("many-resources", &format!("{why}: `{kind}`"));
        }
        self.seen = seen;
    }

    /// The namespaces, and the UID of the cluster.
    pub(super) fn show_namespaces(&self, snapshot: &mut Snapshot) {
        if let Some(labels) = self.seen.labels() {
            snapshot.world.namespaces = labels;
        }
        if let Some(uid) = self.seen.cluster_uid() {
            snapshot.world.cluster_uid = Collected::Known(uid.to_owned());
        }
    }

    /// Notes and logs why documents do not count.
    pub(super) fn report(&mut self, settled: &Settlement, metrics: &Metrics) {
        let problems = &settled.problems;
        if !problems.is_empty() && *problems != self.files.problems {
            let kept = settled.files == Version::LastValid;
            let problems = problems.join("; ");
            tracing::error!(problems, kept, "the policies on disk are broken");
        }
        self.files.problems.clone_from(problems);
        let refusals = report::refused(&settled.refused);
        for problem in refusals.iter().filter(|new| !self.refusals.contains(new)) {
            tracing::error!(problem, "a resource is not valid");
        }
        report::count(&settled.refused, metrics);
        self.refusals = refusals;
    }

    /// Warns where requests are answered and nothing is in force that could deny one, and says so.
    pub(super) fn warn_of_nothing(
        &mut self,
        snapshot: &Snapshot,
        is_ready: bool,
        metrics: &Metrics,
    ) -> Option<String> {
        let policies = i64::try_from(snapshot.policies.len());
        metrics.policies.set(policies.unwrap_or(i64::MAX));
        let governs_nothing = is_ready
            && snapshot.policies.is_empty()
            && snapshot.unreadable.is_empty()
            && snapshot.ungoverned != Ungoverned::Deny;
        let is_news = governs_nothing && !self.governs_nothing;
        self.governs_nothing = governs_nothing;
        if is_news {
            metrics.alarms.raise("no-policy", NO_POLICY);
        }
        governs_nothing.then(|| NO_POLICY.to_owned())
    }

    /// What came of each resource.
    pub(super) fn judged(&self) -> Vec<Judged> {
        let feeds = self.freezes.iter();
        let feeds = feeds.filter(|freeze| matches!(freeze.source, FreezeSource::Feed(_)));
        let feeds: BTreeMap<_, _> = feeds.map(|freeze| (&freeze.name, freeze)).collect();
        let judged = self.documents.resources().map(|resource| {
            let (version, why) = self
                .refused
                .get(&resource.name)
                .cloned()
                .unwrap_or_default();
            let is_freeze = resource.name.kind == Kind::ChangeFreeze;
            let freeze = feeds.get(&resource.name.name).filter(|_| is_freeze);
            Judged {
                resource: resource.clone(),
                version,
                why,
                freeze: freeze.map(|freeze| (*freeze).clone()),
                last_valid: (version == Version::LastValid)
                    .then(|| self.documents.last_valid(&resource.name))
                    .flatten(),
            }
        });
        judged.collect()
    }

    /// Notes what the statuses of freezes say of their feeds.
    pub(super) fn note_feeds(&mut self) {
        let feeds = feeds_in_statuses(self.documents.resources());
        self.has_new_feeds |= self.feeds_of_cluster != feeds;
        self.feeds_of_cluster = feeds;
    }
}

/// The feeds in the statuses of freezes, by name.
pub(super) fn feeds_in_statuses<'a>(
    resources: impl Iterator<Item = &'a Arc<Resource>>,
) -> BTreeMap<String, Value> {
    let freezes = resources.filter(|resource| resource.name.kind == Kind::ChangeFreeze);
    let feeds = freezes.filter_map(|freeze| {
        let feed = freeze.status.get("feed")?;
        Some((freeze.name.name.clone(), json!({"feed": feed})))
    });
    feeds.collect()
}
