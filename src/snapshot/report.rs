//! Messages to operators about the state of the sources.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use promotion_gate_core::gate::{Enforcement, Policy, Schedule, Snapshot};

use super::documents::Version;
use super::resource::{ResourceName, shown};
use crate::api::{Held, Kind, PolicySet};
use crate::metrics::Metrics;

/// The resources that do not count as they are, one sentence each.
pub(super) fn refused(refused: &BTreeMap<ResourceName, (Version, Vec<String>)>) -> Vec<String> {
    let sentence = |(name, (version, why)): (&ResourceName, &(Version, Vec<String>))| {
        let instead = match version {
            Version::LastValid => "its last valid version counts",
            Version::Current | Version::Unreadable => "no valid version is known",
        };
        format!("{}: {instead}: {}", name.document(), why.join("; "))
    };
    refused.iter().map(sentence).collect()
}

/// Shows in the metrics how many resources of each kind do not count as they are.
pub(super) fn count(refused: &BTreeMap<ResourceName, (Version, Vec<String>)>, metrics: &Metrics) {
    for kind in Kind::ALL {
        let of_kind = refused.keys().filter(|name| name.kind == kind);
        metrics.show_refused(kind.name(), of_kind.count());
    }
}

/// Whether each environment is frozen in which a policy asks for that.
pub(super) fn frozen_environments(
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

/// Logs what operators should know about policies that come into force.
pub(super) fn announce(before: &Held, set: &PolicySet, has_cluster: bool) {
    let unkept = match has_cluster {
        true => Vec::new(),
        false => debts_without_cluster(&set.policies),
    };
    for warning in gone(before, set)
        .into_iter()
        .chain(lock_outs(&set.policies, has_cluster))
        .chain(unkept)
    {
        tracing::warn!("{warning}");
    }
    for warning in &set.warnings {
        let warning = shown(warning);
        tracing::warn!(warning, "a policy probably does not mean what is written");
    }
    if !set.skipped.is_empty() {
        tracing::info!("{}", set.skipped);
    }
}

/// Policies of a snapshot that name trust roots which it does not have, one line each.
pub(super) fn missing_roots(snapshot: &Snapshot) -> Vec<String> {
    let each = snapshot.policies.iter().flat_map(|policy| {
        let requirements = policy.requirements.iter();
        let needs = requirements.map(|named| named.requirement.needs(&snapshot.world));
        let missing: BTreeSet<_> = needs.flat_map(|needs| needs.missing_roots).collect();
        missing.into_iter().map(|root| {
            let name = &policy.name;
            let why = match snapshot.world.declared_roots.contains(&root) {
                true => "was not read from its repository yet",
                false => "is not configured",
            };
            format!("the policy `{name}` in force names the trust root `{root}`, which {why}: no signature is accepted under it")
        })
    });
    each.collect()
}

/// Enforcing policies that also govern the cluster's own workloads, one line each.
fn lock_outs(policies: &[Policy], has_cluster: bool) -> Vec<String> {
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
        namespaces.selector.as_ref().filter(|_| !has_cluster).map(|_| format!("the policy `{name}` selects namespaces by label, and labels are known from the configuration alone: in a namespace that it does not list, what the policy would deny is denied too; list the namespaces under `namespaces`, or select by name"))
    };
    enforcing.filter_map(warning).collect()
}

/// Policies that ask for something which only a cluster keeps, one line each.
pub(crate) fn debts_without_cluster(policies: &[Policy]) -> Vec<String> {
    let blocking = policies.iter().filter(|policy| {
        let section = policy.emergency.as_deref();
        section.is_some_and(|section| section.block_on_overdue_review)
    });
    let warning = |policy: &Policy| {
        format!(
            "the policy `{}` says `blockOnOverdueReview`, which has no effect here: which reviews of emergency changes are overdue is kept in a cluster alone",
            policy.name
        )
    };
    blocking.map(warning).collect()
}

/// Policies and people directories that no file holds any more, one line for each file that held them.
pub(super) fn gone(before: &Held, set: &PolicySet) -> Vec<String> {
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
