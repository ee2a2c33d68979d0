//! Which version of each document counts: of the files of `--policy` together, and of each resource of the cluster by itself.
//!
//! All current versions are read together. Where that has problems, the change that made it invalid is refused: its last valid
//! version goes on, and without one it is unreadable. A change that is refused blocks no other one.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use promotion_gate_core::documents::Problem;
use serde_json::Value;

use super::resource::{Resource, ResourceName, shown};
use crate::api::{
    GateSettings, Held, Kind, PolicyFiles, PolicySet, RootNames, SourceFile, UNKNOWN_ROOT,
};
use crate::config::Config;

/// Documents that are taken over or refused together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    /// The files of `--policy`.
    Files,
    /// One resource of the cluster.
    Resource(ResourceName),
}

/// Which version of a unit counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// The current one.
    #[default]
    Current,
    /// The last one that was valid.
    LastValid,
    /// None: the current one is not valid, and no earlier one is known.
    Unreadable,
}

/// All documents, with those that were valid last.
#[derive(Clone, Default)]
pub(super) struct Documents {
    /// The files as they are on disk.
    pub(super) files: Arc<PolicyFiles>,
    files_in_force: Option<Arc<PolicyFiles>>,
    /// What the files in force hold.
    held: Held,
    resources: BTreeMap<ResourceName, Kept>,
    /// The names of trust roots that there were: a policy that was valid names them, although they are gone.
    former_roots: BTreeSet<String>,
    /// The settings of the configuration under which the files in force were valid.
    settings: GateSettings,
}

#[derive(Clone)]
struct Kept {
    resource: Arc<Resource>,
    current: SourceFile,
    in_force: Option<SourceFile>,
}

/// What counts, and why the rest does not.
pub(super) struct Settlement {
    /// What the versions that count say. It has no problems.
    pub(super) set: PolicySet,
    pub(super) files: Version,
    /// Why the files on disk do not count.
    pub(super) problems: Vec<String>,
    /// The resources whose current version does not count, with why.
    pub(super) refused: BTreeMap<ResourceName, (Version, Vec<String>)>,
}

type Versions = BTreeMap<Unit, Version>;

impl Documents {
    /// Replaces the resources. One that was created anew has nothing to do with the earlier one of its name. Says whether a document
    /// has changed.
    pub(super) fn replace_resources(&mut self, now: &[Arc<Resource>]) -> bool {
        let mut before = std::mem::take(&mut self.resources);
        let mut is_changed = false;
        for resource in now {
            let name = resource.name.clone();
            let earlier = before.remove(&name);
            let earlier = earlier.filter(|earlier| earlier.resource.uid == resource.uid);
            let kept = match earlier {
                Some(same) if same.resource.generation == resource.generation => Kept {
                    resource: Arc::clone(resource),
                    ..same
                },
                earlier => {
                    is_changed = true;
                    Kept {
                        current: resource.document(),
                        in_force: match earlier {
                            Some(earlier) => earlier.in_force,
                            None => resource.last_valid(),
                        },
                        resource: Arc::clone(resource),
                    }
                }
            };
            self.resources.insert(name, kept);
        }
        is_changed || !before.is_empty()
    }

    /// The resources.
    pub(super) fn resources(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values().map(|kept| &kept.resource)
    }

    /// A resource.
    pub(super) fn resource(&self, name: &ResourceName) -> Option<&Resource> {
        self.resources.get(name).map(|kept| &*kept.resource)
    }

    /// What the files in force hold.
    pub(super) fn held(&self) -> &Held {
        &self.held
    }

    /// The versions of resources that count.
    pub(super) fn counting(&self, settled: &Settlement) -> Vec<SourceFile> {
        let counting =
            self.resources
                .iter()
                .filter_map(|(name, kept)| match settled.refused.get(name) {
                    None => Some(kept.current.clone()),
                    Some((Version::LastValid, _)) => kept.in_force.clone(),
                    Some(_) => None,
                });
        counting.collect()
    }

    /// Decides which version of each document counts under a configuration. `refuse_files` are reasons why the files on disk do not
    /// count, besides their own problems.
    pub(super) fn settle(
        &self,
        config: &Config,
        refuse_files: impl Fn(&PolicySet) -> Vec<String>,
    ) -> Settlement {
        let mut versions = Versions::new();
        let mut reasons: BTreeMap<Unit, Vec<String>> = BTreeMap::new();
        loop {
            let set = self.load(&versions, config);
            let mut problems: Vec<_> = set
                .problems
                .iter()
                .map(|found| (self.unit(found), found.clone()))
                .collect();
            let lost = set.lost(&self.held).into_iter();
            let files = version_of(&versions, &Unit::Files);
            problems.extend(
                lost.filter(|_| files == Version::Current)
                    .map(|found| (Unit::Files, found)),
            );
            let mut refused = self.refused(&problems, &versions);
            for (unit, problem) in &problems {
                let whys = reasons.entry(unit.clone()).or_default();
                whys.push(shown(problem));
            }
            if files == Version::Current && problems.is_empty() {
                let whys = refuse_files(&set);
                if !whys.is_empty() {
                    refused.insert(Unit::Files);
                    reasons.entry(Unit::Files).or_default().extend(whys);
                }
            }
            if refused.is_empty() {
                return self.settlement(set, versions, reasons);
            }
            let before = versions.clone();
            for unit in refused {
                // A culprit that no problem is named after gets those that it causes.
                let causes = || problems.iter().map(|(_, found)| shown(found)).collect();
                reasons.entry(unit.clone()).or_insert_with(causes);
                let next = match version_of(&versions, &unit) {
                    Version::Current if self.has_last_valid(&unit) => Version::LastValid,
                    _ => Version::Unreadable,
                };
                versions.insert(unit, next);
            }
            if versions == before {
                // A problem that no document can be blamed for.
                return self.settlement(PolicySet::default(), versions, reasons);
            }
        }
    }

    /// Remembers what counts now as the last valid versions.
    pub(super) fn accept(&mut self, settled: &Settlement, config: &Config) {
        let configured = config.world.trust_roots.keys();
        let roots = configured.chain(settled.set.trust_roots.keys());
        self.former_roots.extend(roots.cloned());
        if settled.files == Version::Current {
            self.files_in_force = Some(Arc::clone(&self.files));
            self.settings = config.settings.clone();
            let is_file = |(file, _): &(&String, _)| ResourceName::of(file).is_none();
            let held = settled.set.files.iter().filter(is_file);
            self.held = held
                .map(|(file, held)| (file.clone(), held.clone()))
                .collect();
        }
        for (name, kept) in &mut self.resources {
            if !settled.refused.contains_key(name) {
                kept.in_force = Some(kept.current.clone());
            }
        }
    }

    /// What would be wrong if a resource became this document: the problems that the documents in force do not have without it.
    pub(super) fn problems_with(
        &self,
        name: &ResourceName,
        next: &Value,
        config: &Config,
    ) -> Vec<String> {
        let mut others = self.in_force_besides(name);
        let problems = |others: &[SourceFile]| -> BTreeSet<String> {
            let set = self.in_force_with(others, config);
            set.problems.iter().map(shown).collect()
        };
        let before = problems(&others);
        others.push((name.document(), next.to_string().into_bytes()));
        let after = problems(&others);
        let own = format!("{}: ", name.document());
        let new = after.difference(&before);
        new.map(|problem| problem.strip_prefix(&own).unwrap_or(problem).to_owned())
            .collect()
    }

    /// What the other documents in force lack without a resource: the problems and warnings that they do not have with it.
    pub(super) fn lacking_without(&self, name: &ResourceName, config: &Config) -> Vec<String> {
        let others = self.in_force_besides(name);
        let own = self.resources.get(name);
        let own = own.and_then(|kept| kept.in_force.clone());
        let all: Vec<_> = others.iter().cloned().chain(own).collect();
        let said = |documents: &[SourceFile]| -> BTreeSet<String> {
            let set = self.in_force_with(documents, config);
            set.problems
                .iter()
                .chain(&set.warnings)
                .map(shown)
                .collect()
        };
        let before = said(&all);
        let after = said(&others);
        after.difference(&before).cloned().collect()
    }

    /// The resources in force besides this one.
    fn in_force_besides(&self, name: &ResourceName) -> Vec<SourceFile> {
        let others = self.resources.iter();
        let others = others.filter(|(other, _)| *other != name);
        others
            .filter_map(|(_, kept)| kept.in_force.clone())
            .collect()
    }

    /// What the files in force and these resources say together.
    fn in_force_with(&self, resources: &[SourceFile], config: &Config) -> PolicySet {
        let none = Arc::default();
        let files = self.files_in_force.as_ref().unwrap_or(&none);
        let names = RootNames::new(config.world.trust_roots.keys());
        files.load_with(resources, names).under(&config.settings)
    }

    fn load(&self, versions: &Versions, config: &Config) -> PolicySet {
        let mut names = RootNames::new(config.world.trust_roots.keys());
        let names_roots = |unit: &Unit| match unit {
            Unit::Files => true,
            Unit::Resource(name) => name.kind == Kind::PromotionPolicy,
        };
        if versions.keys().any(names_roots) {
            // What was valid once may name a trust root that is gone: nothing is accepted under it.
            self.former_roots
                .iter()
                .for_each(|name| names.declare(name));
        }
        let none = Arc::default();
        let files = match version_of(versions, &Unit::Files) {
            Version::Current => &self.files,
            Version::LastValid => self.files_in_force.as_ref().unwrap_or(&none),
            Version::Unreadable => &none,
        };
        let resources = self.resources.iter().filter_map(|(name, kept)| {
            match version_of(versions, &Unit::Resource(name.clone())) {
                Version::Current => Some(kept.current.clone()),
                Version::LastValid => kept.in_force.clone(),
                Version::Unreadable => None,
            }
        });
        let resources = Vec::from_iter(resources);
        // What the files on disk contradict in the configuration does not count with them.
        let settings = match version_of(versions, &Unit::Files) {
            Version::Current => &config.settings,
            Version::LastValid | Version::Unreadable => &self.settings,
        };
        files.load_with(&resources, names).under(settings)
    }

    /// The unit that a problem is in.
    fn unit(&self, problem: &Problem) -> Unit {
        let name = ResourceName::of(&problem.file);
        let name = name.filter(|name| self.resources.contains_key(name));
        name.map_or(Unit::Files, Unit::Resource)
    }

    /// The units to refuse because of some problems: the changes that caused them.
    fn refused(&self, problems: &[(Unit, Problem)], versions: &Versions) -> BTreeSet<Unit> {
        if problems.is_empty() {
            return BTreeSet::new();
        }
        let is_new =
            |unit: &&Unit| version_of(versions, unit) == Version::Current && self.is_new(unit);
        let named: BTreeSet<_> = problems.iter().map(|(unit, _)| unit.clone()).collect();
        // 1. A change that is named is at fault, and may make documents that rest on it invalid too.
        let changed: Vec<_> = named.iter().filter(is_new).collect();
        if !changed.is_empty() {
            return first_of_all(changed);
        }
        // 2. A trust root that a policy names is gone: no change of another document is at fault.
        let is_gone = |(_, problem): &&(Unit, Problem)| problem.message.starts_with(UNKNOWN_ROOT);
        let rootless: BTreeSet<_> = problems
            .iter()
            .filter(is_gone)
            .map(|(unit, _)| unit.clone())
            .collect();
        if !rootless.is_empty() {
            return rootless;
        }
        // 3. Documents that were valid before contradict a change.
        let all: Vec<_> = std::iter::once(Unit::Files)
            .chain(self.resources.keys().cloned().map(Unit::Resource))
            .collect();
        let changed: Vec<_> = all.iter().filter(is_new).collect();
        let is_mentioned = |unit: &&&Unit| {
            problems
                .iter()
                .any(|(_, problem)| self.is_mentioned(unit, &problem.message))
        };
        let mentioned: BTreeSet<_> = changed
            .iter()
            .filter(is_mentioned)
            .map(|unit| (*unit).clone())
            .collect();
        if !mentioned.is_empty() {
            return mentioned;
        }
        let joint: BTreeSet<_> = changed
            .into_iter()
            .filter(|unit| unit.is_joint())
            .cloned()
            .collect();
        if !joint.is_empty() {
            return joint;
        }
        // 4. Something else that they rest on is gone.
        first_of_all(named.iter().collect())
    }

    /// Whether the current version is another one than the last valid one.
    fn is_new(&self, unit: &Unit) -> bool {
        match unit {
            Unit::Files => {
                let in_force = self.files_in_force.as_ref();
                in_force.map(|files| files.revision()) != Some(self.files.revision())
            }
            Unit::Resource(name) => {
                let kept = self.resources.get(name);
                kept.is_some_and(|kept| kept.in_force.as_ref() != Some(&kept.current))
            }
        }
    }

    fn has_last_valid(&self, unit: &Unit) -> bool {
        match unit {
            Unit::Files => self.files_in_force.is_some(),
            Unit::Resource(name) => {
                let kept = self.resources.get(name);
                kept.is_some_and(|kept| kept.in_force.is_some())
            }
        }
    }

    fn is_mentioned(&self, unit: &Unit, message: &str) -> bool {
        match unit {
            Unit::Files => self.files.names().any(|name| message.contains(name)),
            Unit::Resource(name) => {
                let policy = format!("the policy `{}`", name.name);
                message.contains(&name.document())
                    || name.kind == Kind::PromotionPolicy && message.contains(&policy)
            }
        }
    }

    fn settlement(
        &self,
        set: PolicySet,
        versions: Versions,
        mut reasons: BTreeMap<Unit, Vec<String>>,
    ) -> Settlement {
        let mut settled = Settlement {
            set,
            files: Version::Current,
            problems: Vec::new(),
            refused: BTreeMap::new(),
        };
        for (unit, version) in versions {
            let mut why = reasons.remove(&unit).unwrap_or_default();
            why.dedup();
            match unit {
                Unit::Files => (settled.files, settled.problems) = (version, why),
                Unit::Resource(name) => {
                    settled.refused.insert(name, (version, why));
                }
            }
        }
        settled
    }
}

fn version_of(versions: &Versions, unit: &Unit) -> Version {
    versions.get(unit).copied().unwrap_or_default()
}

/// Those on which others rest, before these.
fn first_of_all(units: Vec<&Unit>) -> BTreeSet<Unit> {
    let first = units.iter().map(|unit| unit.rank()).min();
    let first = units.into_iter().filter(|unit| Some(unit.rank()) == first);
    first.cloned().collect()
}

impl Unit {
    /// The order in which documents rest on each other.
    fn rank(&self) -> u8 {
        match self {
            Unit::Resource(ResourceName { kind, .. }) => match kind {
                Kind::TrustRoot => 0,
                Kind::GateConfiguration => 1,
                Kind::PeopleDirectory => 2,
                _ => 3,
            },
            Unit::Files => 3,
        }
    }

    /// Whether it can make documents of others invalid.
    fn is_joint(&self) -> bool {
        matches!(self.rank(), 1 | 2) || *self == Unit::Files
    }
}
