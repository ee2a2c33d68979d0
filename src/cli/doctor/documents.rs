//! Do the documents of the cluster do what they seem to?

use std::collections::{BTreeMap, BTreeSet};

use promotion_gate_core::gate::{
    Collected, Enforcement, Match, NamespaceMatch, Policy, Snapshot, Ungoverned,
};

use super::checks;
use super::report::DoctorReport;
use crate::snapshot::Once;

type Labels = BTreeMap<String, String>;

/// What was read of the resources: mistakes and warnings.
pub(super) fn check_mistakes(once: &Once, report: &mut DoctorReport) {
    report.find_any(&checks::DOCUMENT_REFUSED, once.refused());
    let warnings = once.set().warnings.iter().map(ToString::to_string);
    report.find_any(&checks::DOCUMENT_WARNING, warnings.collect());
}

/// What policies and freezes do in a cluster with these namespaces, of which `exempt` are of the infrastructure.
pub(super) fn check(
    snapshot: &Snapshot,
    namespaces: &BTreeMap<String, Labels>,
    exempt: &BTreeSet<&str>,
    report: &mut DoctorReport,
) {
    let world = &snapshot.world;
    if world.governors.is_empty() {
        report.find(&checks::NO_GOVERNORS, []);
    }
    if snapshot.policies.is_empty() && snapshot.unreadable.is_empty() {
        report.find(&checks::NO_POLICIES, []);
    }
    let policies = snapshot.policies.iter();
    let shown = |policy: &Policy| format!("PromotionPolicy `{}`", policy.name);
    let idle = policies
        .clone()
        .filter(|policy| !matches_any(policy, namespaces));
    report.find_any(&checks::POLICY_WITHOUT_EFFECT, idle.map(shown).collect());
    let lenient = policies
        .clone()
        .filter(|it| it.enforcement != Enforcement::Enforce);
    let lenient = lenient.map(|policy| format!("{}: `{:?}`", shown(policy), policy.enforcement));
    report.find_any(&checks::POLICY_DOES_NOT_ENFORCE, lenient.collect());

    match &world.freezes {
        Collected::Known(schedule) | Collected::Partial(schedule, _) => {
            let environments: Vec<_> = policies.filter_map(Policy::frozen_environment).collect();
            let idle = schedule.freezes().filter(|(freeze, _)| {
                let mut environments = environments.iter();
                !environments.any(|environment| freeze.is_of(environment))
            });
            let idle = idle.map(|(freeze, _)| format!("ChangeFreeze `{}`", freeze.name));
            report.find_any(&checks::FREEZE_WITHOUT_EFFECT, idle.collect());
        }
        Collected::Unavailable(why) => report.cannot_check("change freezes", &why.0),
    }
    if snapshot.ungoverned == Ungoverned::Allow {
        let policies = snapshot.policies.iter().map(|policy| &policy.namespaces);
        let unreadable = snapshot.unreadable.iter().map(|it| &it.namespaces);
        let governing: Vec<_> = policies.chain(unreadable).collect();
        let ungoverned = namespaces.iter().filter(|(name, labels)| {
            let covers = |it: &&NamespaceMatch| it.covers(name, Some(labels)) == Match::Matches;
            !exempt.contains(name.as_str()) && !governing.iter().any(covers)
        });
        let ungoverned = ungoverned.map(|(name, _)| format!("`{name}`"));
        report.find_any(&checks::NAMESPACE_UNGOVERNED, ungoverned.collect());
    }
}

fn matches_any(policy: &Policy, namespaces: &BTreeMap<String, Labels>) -> bool {
    let mut namespaces = namespaces.iter();
    namespaces.any(|(name, labels)| policy.namespaces.covers(name, Some(labels)) == Match::Matches)
}
