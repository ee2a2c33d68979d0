//! Files → policies and everything else that decides. All problems of all files are reported at once, with file, line and column. A
//! set with a problem is not used.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use promotion_gate_core::documents::{Document, Path, Problem};
use promotion_gate_core::gate::{Freeze, FreezeSource, People, Policy, TrustRoots, WhenStale};
use schemars::Schema;

use super::RootNames;
use super::files::{Skipped, SourceFile, documents};
use super::incident_check::unmet;
use super::item::{Item, item, name_of_resource, schema_of};
use super::kinds::Kind;
use super::people::Directories;
use super::revision::revision_by_part;
use super::set::{FreezeSet, PeopleSet, PolicySet};

/// Reads all documents of some files: policies, people, freezes, trust roots, settings, and what is kept about digests.
/// `roots` are the built-in and configured trust roots.
pub fn load(sources: &[SourceFile], roots: &TrustRoots) -> PolicySet {
    load_knowing(sources, RootNames::new(roots.keys()))
}

/// Reads one document of a kind that contradicts no others.
///
/// # Errors
/// All problems of the document.
pub fn load_alone(kind: Kind, source: &SourceFile) -> Result<Item, Vec<Problem>> {
    static SCHEMAS: LazyLock<BTreeMap<Kind, Schema>> = LazyLock::new(|| {
        let alone = Kind::ALL.into_iter().filter(|kind| kind.stands_alone());
        alone
            .filter_map(|kind| Some((kind, schema_of(kind)?)))
            .collect()
    });
    let (file, bytes) = source;
    let (found, problems) = documents(file, bytes, &mut Skipped::default());
    let own = found.iter().find(|(found, _)| *found == kind);
    let read = own.zip(SCHEMAS.get(&kind));
    let read = read.and_then(|((_, document), schema)| {
        counted(kind);
        item(kind, document, schema, &RootNames::default())
    });
    match read {
        Some(Ok((_, item))) if problems.is_empty() => Ok(item),
        Some(Err(problems)) => Err(problems),
        _ if problems.is_empty() => Err(vec![Problem::with_file(file, "it cannot be read")]),
        _ => Err(problems),
    }
}

/// Counts a document that is read, for tests.
fn counted(_kind: Kind) {
    #[cfg(test)]
    READ.with_borrow_mut(|read| *read.entry(_kind).or_default() += 1);
}

#[cfg(test)]
thread_local! {
    /// How many documents of each kind this thread has read.
    pub(crate) static READ: std::cell::RefCell<BTreeMap<Kind, usize>> = const { std::cell::RefCell::new(BTreeMap::new()) };
}

/// Reads all documents of some files. `names` are the trust roots that policies may name besides those in the documents.
pub(super) fn load_knowing(sources: &[SourceFile], mut names: RootNames) -> PolicySet {
    let mut loading = Loading::default();
    let mut found = Vec::new();
    for (file, bytes) in sources {
        let (documents, problems) = documents(file, bytes, &mut loading.set.skipped);
        loading.set.problems.extend(problems);
        loading.set.files.entry(file.clone()).or_default();
        for (kind, document) in documents {
            match (kind, document.text("metadata.name")) {
                (Kind::TrustRoot, Some(name)) => names.declare(name),
                (Kind::IncidentCheck, Some(name)) => names.declare_check(name),
                _ => {}
            }
            found.push((kind, document));
        }
    }
    let mut schemas = BTreeMap::new();
    for (kind, document) in found {
        let schema = schemas.entry(kind).or_insert_with(|| schema_of(kind));
        let Some(schema) = schema else {
            continue;
        };
        counted(kind);
        match item(kind, &document, schema, &names) {
            Some(Ok((name, read))) => loading.add(kind, name, read, document),
            Some(Err(problems)) => loading.refuse(kind, problems),
            None => {}
        }
    }
    loading.refuse_missing_checks(&names);
    let mut set = loading.finish();
    set.revision = revision_by_part(sources, &set.files);
    for problem in &mut set.problems {
        let of_file = sources.iter().find(|(file, _)| **file == *problem.file);
        let text = of_file.and_then(|(_, bytes)| std::str::from_utf8(bytes).ok());
        let excerpt = problem.locate(text.unwrap_or_default());
        let excerpt = excerpt.map(|excerpt| (problem.to_string(), excerpt));
        set.excerpts.extend(excerpt);
    }
    in_order(sources, &mut set.problems);
    set
}

/// A set while its documents are read.
#[derive(Default)]
struct Loading {
    set: PolicySet,
    directories: Directories,
    /// The place of each name.
    named: BTreeMap<(Kind, String), String>,
    of_policies: BTreeMap<String, Document>,
    of_freezes: Vec<Problem>,
}

impl Loading {
    fn add(&mut self, kind: Kind, name: String, item: Item, document: Document) {
        let at = document.problem(name_of_resource(), "");
        if let Some(first) = self.named.get(&(kind, name.clone())) {
            let noun = kind.noun();
            let message = format!("another {noun} has the name `{name}` too: {first}");
            self.refuse(kind, vec![Problem { message, ..at }]);
            return;
        }
        let place = format!("{}:{}", at.file, at.line);
        self.named.insert((kind, name.clone()), place);
        let held = self.set.files.entry(at.file.to_string()).or_default();
        held.insert((kind, name.clone()));
        let set = &mut self.set;
        match item {
            Item::Policy(policy, warnings) => {
                set.warnings.extend(warnings);
                set.policies.push(*policy);
                self.of_policies.insert(name, document);
            }
            Item::Directory(directory) => self.directories.add(document, directory),
            Item::Freeze(freeze) => {
                set.freezes.push(freeze);
                self.of_freezes.push(at);
            }
            Item::IncidentCheck(check) => drop(set.incident_checks.insert(name, check)),
            Item::TrustRoot(source) => drop(set.trust_roots.insert(name, source)),
            Item::Configuration(settings) => set.settings = settings,
            kept => set.keep(kept),
        }
    }

    fn refuse(&mut self, kind: Kind, problems: Vec<Problem>) {
        if kind == Kind::PeopleDirectory {
            self.directories.miss_one();
        }
        self.set.problems.extend(problems);
    }

    /// Refuses policies that name an incident check which no document describes.
    fn refuse_missing_checks(&mut self, names: &RootNames) {
        let (known, documents) = (names.checks(), &self.of_policies);
        let problem = |policy: &Policy| {
            let check = &policy.emergency.as_ref()?.incident.as_ref()?.check;
            let document = documents
                .get(&policy.name)
                .filter(|_| !known.contains(check))?;
            let here = ["spec", "emergency", "incident", "check"].into_iter();
            let here = here.fold(Path::default(), |path, key| path.key(key));
            let why = format!(
                "there is no `IncidentCheck` with the name `{check:.80}`; write one beside the policy"
            );
            let problem = document.problem(here, why);
            Some(problem.suggesting(check, known.iter().map(String::as_str)))
        };
        let problems = &mut self.set.problems;
        self.set.policies.retain(|policy| match problem(policy) {
            None => true,
            Some(problem) => {
                problems.push(problem);
                false
            }
        });
    }

    fn finish(self) -> PolicySet {
        let mut set = self.set;
        match self.directories.merge() {
            Ok(people) => {
                let nobody = People::default();
                let known = people.as_ref().unwrap_or(&nobody);
                set.warnings
                    .extend(missing_people(&set.policies, &self.of_policies, known));
                set.people = people.map(Arc::new);
            }
            Err(problems) => set.problems.extend(problems),
        }
        set.warnings
            .extend(odd_freezes(&set.freezes, &self.of_freezes, &set.policies));
        let unmet = unmet(&set.policies, &self.of_policies, &set.incident_checks);
        set.warnings.extend(unmet);
        set
    }
}

/// Warnings of groups and people that policies name and no directory has, at the requirement that names them.
fn missing_people(
    policies: &[Policy],
    documents: &BTreeMap<String, Document>,
    people: &People,
) -> Vec<Problem> {
    let mut warnings = Vec::new();
    for policy in policies {
        let Some(document) = documents.get(&policy.name) else {
            continue;
        };
        for (index, named) in policy.requirements.iter().enumerate() {
            let requirement = &named.requirement;
            let here = Path::default().key("spec").key("requirements").index(index);
            let here = here.key(requirement.rule_name());
            let missing = requirement.missing_people(people).into_iter();
            warnings.extend(missing.map(|why| document.problem(here.clone(), why)));
        }
        if let Some(emergency) = &policy.emergency {
            let here = Path::default().key("spec").key("emergency").key("from");
            let missing = emergency.missing_people(people).into_iter();
            warnings.extend(missing.map(|why| document.problem(here.clone(), why)));
        }
    }
    warnings
}

/// Warnings of freezes that have no effect, or that are lost while their feed cannot be read. `places` holds the place of each.
fn odd_freezes(freezes: &[Freeze], places: &[Problem], policies: &[Policy]) -> Vec<Problem> {
    let frozen = policies.iter().filter_map(Policy::frozen_environment);
    let frozen: Vec<_> = frozen.collect();
    let mut warnings = Vec::new();
    for (freeze, at) in freezes.iter().zip(places) {
        let name = &freeze.name;
        let mut warn = |message: String| {
            warnings.push(Problem {
                message,
                ..at.clone()
            })
        };
        if !policies.is_empty() && !frozen.iter().any(|environment| freeze.is_of(environment)) {
            warn(format!(
                "the freeze `{name}` has no effect: no policy of its environments requires `noFreeze`"
            ));
        }
        for written in freeze.environments.iter().map(ToString::to_string) {
            let is_near =
                |name: &&&str| name.to_lowercase() == written.to_lowercase() && !freeze.is_of(name);
            if let Some(near) = frozen.iter().find(is_near) {
                warn(format!(
                    "the freeze `{name}` is not about the environment `{near}` of the policies: it names `{written}`"
                ));
            }
        }
        if let FreezeSource::Feed(feed) = &freeze.source
            && feed.when_stale == WhenStale::Open
        {
            warn(format!(
                "the freeze `{name}` is ignored while its feed cannot be read, because `whenStale` is `Open`"
            ));
        }
    }
    warnings
}

/// Reads the change freezes of some files, and nothing else of them.
pub(super) fn load_freezes(sources: &[SourceFile]) -> FreezeSet {
    let mut loading = load_kind(sources, Kind::ChangeFreeze);
    in_order(sources, &mut loading.set.problems);
    FreezeSet {
        freezes: loading.set.freezes,
        problems: loading.set.problems,
        skipped: loading.set.skipped,
    }
}

/// Reads the people of some files, and nothing else of them.
pub(super) fn load_people(sources: &[SourceFile]) -> PeopleSet {
    let mut set = load_kind(sources, Kind::PeopleDirectory).finish();
    in_order(sources, &mut set.problems);
    PeopleSet {
        people: set.people,
        problems: set.problems,
        skipped: set.skipped,
    }
}

/// Reads the documents of one kind.
fn load_kind(sources: &[SourceFile], only: Kind) -> Loading {
    let mut loading = Loading::default();
    let schema = schema_of(only);
    for (file, bytes) in sources {
        let (documents, problems) = documents(file, bytes, &mut loading.set.skipped);
        loading.set.problems.extend(problems);
        let ours = documents.into_iter().filter(|(kind, _)| *kind == only);
        for (kind, document) in ours {
            let read = schema
                .as_ref()
                .and_then(|schema| item(kind, &document, schema, &RootNames::default()));
            match read {
                Some(Ok((name, read))) => loading.add(kind, name, read, document),
                Some(Err(problems)) => loading.refuse(kind, problems),
                None => {}
            }
        }
    }
    loading
}

/// Sorts problems by file, in the order of the files, and by line and column.
fn in_order(sources: &[SourceFile], problems: &mut [Problem]) {
    let order: BTreeMap<&str, usize> = sources
        .iter()
        .enumerate()
        .map(|(index, (file, _))| (file.as_str(), index))
        .collect();
    problems.sort_by_key(|problem| {
        (
            order.get(&*problem.file).copied(),
            problem.line,
            problem.column,
        )
    });
}
