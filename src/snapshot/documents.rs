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
use sha2::{Digest as _, Sha256};

use super::resource::{Resource, ResourceName, shown};
use crate::api::{
    GateSettings, Held, Item, Kind, PolicyFiles, PolicySet, RootNames, SourceFile, UNKNOWN_ROOT,
    load_alone,
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
    /// The same of incident checks.
    former_checks: BTreeSet<String>,
    /// The settings of the configuration under which the files in force were valid.
    settings: GateSettings,
}

#[derive(Clone)]
struct Kept {
    resource: Arc<Resource>,
    current: Arc<Source>,
    in_force: Option<Arc<Source>>,
}

/// A version of a resource.
struct Source {
    document: SourceFile,
    /// What it says, where it contradicts no other document: it is read once.
    alone: Option<Result<Item, Vec<String>>>,
}

/// What of the resources has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// Documents that are valid only together.
    pub(super) joint: bool,
    /// Documents that contradict no others.
    pub(super) alone: bool,
}

/// What counts, and why the rest does not.
#[derive(Clone)]
pub(super) struct Settlement {
    /// What the versions that count say. It has no problems.
    pub(super) set: PolicySet,
    pub(super) files: Version,
    /// Why the files on disk do not count.
    pub(super) problems: Vec<String>,
    /// The resources whose current version does not count, with why.
    pub(super) refused: BTreeMap<ResourceName, (Version, Vec<String>)>,
    /// The places within texts that problems point to, by problem.
    pub(super) excerpts: BTreeMap<String, String>,
}

type Versions = BTreeMap<Unit, Version>;

impl Documents {
    /// Replaces the resources. One that was created anew has nothing to do with the earlier one of its name. Says what has changed.
    pub(super) fn replace_resources(&mut self, now: &[Arc<Resource>]) -> Changed {
        let mut before = std::mem::take(&mut self.resources);
        let mut changed = Changed::default();
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
                    changed.note(name.kind);
                    let read = |document| Arc::new(Source::new(name.kind, document));
                    Kept {
                        current: read(resource.document()),
                        in_force: match earlier {
                            Some(earlier) => earlier.in_force,
                            None => resource.last_valid().map(read),
                        },
                        resource: Arc::clone(resource),
                    }
                }
            };
            self.resources.insert(name, kept);
        }
        before.keys().for_each(|gone| changed.note(gone.kind));
        changed
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
                    None => Some(&kept.current),
                    Some((Version::LastValid, _)) => kept.in_force.as_ref(),
                    Some(_) => None,
                });
        counting.map(|source| source.document.clone()).collect()
    }

    /// The `spec` that was last valid of a resource.
    pub(super) fn last_valid(&self, name: &ResourceName) -> Option<Value> {
        let kept = self.resources.get(name)?;
        let (_, bytes) = &kept.in_force.as_ref()?.document;
        let mut document: Value = serde_json::from_slice(bytes).ok()?;
        document.get_mut("spec").map(Value::take)
    }

    /// Decides which version of each document counts under a configuration. `refuse_files` are reasons why the files on disk do not
    /// count, besides their own problems.
    pub(super) fn settle(
        &self,
        config: &Config,
        refuse_files: impl Fn(&PolicySet) -> Vec<String>,
    ) -> Settlement {
        self.with_kept(self.settle_joint(config, refuse_files))
    }

    /// Adds the documents that contradict no others.
    pub(super) fn with_kept(&self, mut settled: Settlement) -> Settlement {
        let mut hash = Sha256::new();
        let alone = self.resources.iter();
        let alone = alone.filter(|(name, _)| name.kind.stands_alone());
        for (name, kept) in alone {
            let counting = match kept.current.item() {
                Ok(_) => Some(&kept.current),
                Err(why) => {
                    let last = kept.in_force.as_ref().filter(|last| last.item().is_ok());
                    let version = match last {
                        Some(_) => Version::LastValid,
                        None => Version::Unreadable,
                    };
                    settled
                        .refused
                        .insert(name.clone(), (version, why.to_vec()));
                    last
                }
            };
            if let Some(source) = counting {
                if let Ok(Some(item)) = source.item() {
                    settled.set.keep(item.clone());
                }
                for part in [source.document.0.as_bytes(), &source.document.1] {
                    hash.update((part.len() as u64).to_be_bytes());
                    hash.update(part);
                }
            }
        }
        if self.resources.keys().any(|name| name.kind.stands_alone()) {
            let digest = hex::encode(hash.finalize());
            settled
                .set
                .revision
                .push_str(&format!(" kept:sha256:{digest}"));
        }
        settled
    }

    /// Decides which version of each document counts, without those that contradict no others.
    pub(super) fn settle_joint(
        &self,
        config: &Config,
        refuse_files: impl Fn(&PolicySet) -> Vec<String>,
    ) -> Settlement {
        let mut versions = Versions::new();
        let mut reasons: BTreeMap<Unit, Vec<String>> = BTreeMap::new();
        let mut excerpts = BTreeMap::new();
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
            excerpts.extend(set.excerpts.clone());
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
                let settled = self.settlement(set, versions, reasons);
                return Settlement {
                    excerpts,
                    ..settled
                };
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
        let checks = settled.set.incident_checks.keys();
        self.former_checks.extend(checks.cloned());
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
                kept.in_force = Some(Arc::clone(&kept.current));
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
        others.push((name.document(), next.to_string().into_bytes()));
        let after = problems(&others);
        if after.is_empty() {
            return Vec::new();
        }
        others.pop();
        let before = problems(&others);
        let own = format!("{}: ", name.document());
        let new = after.difference(&before);
        new.map(|problem| problem.strip_prefix(&own).unwrap_or(problem).to_owned())
            .collect()
    }

    /// What the other documents in force lack without a resource: the problems and warnings that they do not have with it.
    pub(super) fn lacking_without(&self, name: &ResourceName, config: &Config) -> Vec<String> {
        let others = self.in_force_besides(name);
        let own = self.resources.get(name);
        let own = own.and_then(|kept| kept.in_force.as_ref());
        let own = own.map(|source| source.document.clone());
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

    /// The resources in force besides this one, of those that are valid only together.
    fn in_force_besides(&self, name: &ResourceName) -> Vec<SourceFile> {
        let others = self.joint().filter(|(other, _)| *other != name);
        let others = others.filter_map(|(_, kept)| kept.in_force.as_ref());
        others.map(|source| source.document.clone()).collect()
    }

    /// What the files in force and these resources say together.
    fn in_force_with(&self, resources: &[SourceFile], config: &Config) -> PolicySet {
        let none = Arc::default();
        let files = self.files_in_force.as_ref().unwrap_or(&none);
        let names = RootNames::new(config.world.trust_roots.keys());
        files.load_with(resources, names).under(&config.settings)
    }

    /// The resources that are valid only together.
    fn joint(&self) -> impl Iterator<Item = (&ResourceName, &Kept)> {
        let resources = self.resources.iter();
        resources.filter(|(name, _)| !name.kind.stands_alone())
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
            // An incident check that is gone gives no answer.
            self.former_checks
                .iter()
                .for_each(|name| names.declare_check(name));
        }
        let none = Arc::default();
        let files = match version_of(versions, &Unit::Files) {
            Version::Current => &self.files,
            Version::LastValid => self.files_in_force.as_ref().unwrap_or(&none),
            Version::Unreadable => &none,
        };
        let resources = self.joint().filter_map(|(name, kept)| {
            match version_of(versions, &Unit::Resource(name.clone())) {
                Version::Current => Some(&kept.current),
                Version::LastValid => kept.in_force.as_ref(),
                Version::Unreadable => None,
            }
        });
        let resources = Vec::from_iter(resources.map(|source| source.document.clone()));
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
            .chain(self.joint().map(|(name, _)| Unit::Resource(name.clone())))
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
                kept.is_some_and(|kept| {
                    let in_force = kept.in_force.as_ref().map(|source| &source.document);
                    in_force != Some(&kept.current.document)
                })
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
            excerpts: BTreeMap::new(),
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

impl Changed {
    fn note(&mut self, kind: Kind) {
        match kind.stands_alone() {
            true => self.alone = true,
            false => self.joint = true,
        }
    }
}

impl Source {
    fn new(kind: Kind, document: SourceFile) -> Source {
        let read = kind.stands_alone().then(|| load_alone(kind, &document));
        let why = |problems: Vec<Problem>| problems.iter().map(shown).collect();
        Source {
            alone: read.map(|read| read.map_err(why)),
            document,
        }
    }

    /// What it says, if it contradicts no other document.
    fn item(&self) -> Result<Option<&Item>, &[String]> {
        match &self.alone {
            None => Ok(None),
            Some(Ok(item)) => Ok(Some(item)),
            Some(Err(why)) => Err(why),
        }
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
                Kind::TrustRoot | Kind::IncidentCheck => 0,
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
