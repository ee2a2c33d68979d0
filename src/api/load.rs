//! Files → policies, people and change freezes. All problems of all files are reported at once, with file, line and column. A set with a problem is
//! not used.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use promotion_gate_core::documents::{Document, Fault, Path, Problem, Step};
use promotion_gate_core::gate::{
    Collected, FeedState, Freeze, FreezeSource, People, Policy, Requirement, Schedule, Snapshot,
    TrustRoots, WhenStale,
};
use schemars::{Schema, schema_for};
use sha2::{Digest, Sha256};

use super::files::{Files, MAXIMUM_FILE_BYTES, Skipped, documents, is_kustomization};
use super::freeze::{freeze_schema, read_freeze};
use super::kinds::Kind;
use super::mistakes::used_here;
use super::people::{Directories, people_schema};
use super::policy::{unknown_requirement, warnings};
use super::resource::{Resource, read_resource};
use super::{PromotionPolicySpec, policy};

/// A file's name, and its content.
pub type SourceFile = (String, Vec<u8>);

/// The most files below the given paths, without those of kustomize.
const MAXIMUM_FILES: usize = 1000;
/// The most bytes of these files together.
const MAXIMUM_TOTAL_BYTES: usize = MAXIMUM_FILE_BYTES;
/// Fields of later versions: they are refused, but no correction of the spelling is suggested.
const LATER_FIELDS: &[&str] = &["spec.emergency", "spec.injected"];

/// The names of the documents in each file that the snapshot is made from.
pub type Held = BTreeMap<String, BTreeSet<(Kind, String)>>;

/// The policies and people of some files.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    /// The policies, in the order of the files, without those that have problems.
    pub policies: Vec<Policy>,
    /// All people directories together; `None` if there is none, or if they have problems.
    pub people: Option<Arc<People>>,
    /// The change freezes, in the order of the files, without those that have problems.
    pub freezes: Vec<Freeze>,
    /// All problems of the files.
    pub problems: Vec<Problem>,
    /// Parts of the policies that probably do not mean what their author meant.
    pub warnings: Vec<Problem>,
    /// Files and documents that were not read.
    pub skipped: Skipped,
    /// Every file that was read, with what is in it.
    pub files: Held,
    /// Names these files: a digest over the names and bytes of those with policies, and one over those of each other kind.
    pub revision: String,
}

/// The people of some files.
#[derive(Clone, Debug, Default)]
pub struct PeopleSet {
    /// All people directories together; `None` if there is none, or if they have problems.
    pub people: Option<Arc<People>>,
    /// All problems of the people directories, and of files that may hold one.
    pub problems: Vec<Problem>,
    /// Files and documents that were not read.
    pub skipped: Skipped,
}

/// The change freezes of some files.
#[derive(Clone, Debug, Default)]
pub struct FreezeSet {
    /// The change freezes, in the order of the files.
    pub freezes: Vec<Freeze>,
    /// All problems of the change freezes, and of files that may hold one.
    pub problems: Vec<Problem>,
    /// Files and documents that were not read.
    pub skipped: Skipped,
}

impl PolicySet {
    /// The snapshot with these policies, people and freezes, and with the rest of another one. `now` is the present.
    pub fn snapshot(self, rest: Snapshot, feeds: &FeedStates, now: Timestamp) -> Snapshot {
        let mut snapshot = Snapshot {
            policies: self.policies,
            revision: self.revision,
            ..rest
        };
        if let Some(people) = self.people {
            snapshot.world.people = Collected::Known(people);
        }
        let schedule = schedule(self.freezes, feeds, now);
        snapshot.world.freezes = Collected::Known(Arc::new(schedule));
        snapshot
    }

    /// Problems of files that held a policy or a people directory before, still exist, and hold none now, where the document is in
    /// no other file either. Such a file may be cut off or overwritten, and its documents would be lost silently.
    pub fn lost(&self, before: &Held) -> Vec<Problem> {
        let faulty: BTreeSet<_> = self.problems.iter().map(|problem| &*problem.file).collect();
        let is_gone = |held: &&(Kind, String)| !self.files.values().any(|now| now.contains(held));
        let lost = before
            .iter()
            .filter(|(file, _)| self.files.get(*file).is_some_and(BTreeSet::is_empty))
            .filter_map(|(file, held)| Some((file, held.iter().find(is_gone)?)))
            .filter(|(file, _)| !faulty.contains(file.as_str()));
        lost.map(|(file, (kind, _))| {
            let noun = kind.noun();
            let message = format!(
                "the file held a {noun} and holds none now; remove the file if the {noun} is to go"
            );
            Problem::with_file(file, message)
        })
        .collect()
    }
}

/// What is known of each feed, by the name of its freeze.
pub type FeedStates = BTreeMap<String, FeedState>;

/// The schedule of some freezes.
pub fn schedule(freezes: Vec<Freeze>, feeds: &FeedStates, now: Timestamp) -> Schedule {
    let with_state = |freeze: Freeze| {
        let state = feeds.get(&freeze.name).cloned();
        (freeze, state)
    };
    Schedule::new(freezes.into_iter().map(with_state), now)
}

/// The schema that policy files are checked against.
pub fn schema() -> Schema {
    schema_for!(Resource<PromotionPolicySpec>)
}

/// Reads the policies and people of some files.
pub fn load(sources: &[SourceFile], roots: &TrustRoots) -> PolicySet {
    let (schema, people_schema, freeze_schema) = (schema(), people_schema(), freeze_schema());
    let mut set = PolicySet::default();
    let mut directories = Directories::default();
    let mut named: BTreeMap<(Kind, String), String> = BTreeMap::new();
    let mut of_policies: BTreeMap<String, Document> = BTreeMap::new();
    let mut of_freezes: Vec<Problem> = Vec::new();
    for (file, bytes) in sources {
        let (documents, problems) = documents(file, bytes, &mut set.skipped);
        let mut held = BTreeSet::new();
        set.problems.extend(problems);
        for (kind, document) in documents {
            let at = document.problem(Path::default().key("metadata").key("name"), "");
            let read = match kind {
                Kind::PromotionPolicy => match read_policy(&document, &schema, roots) {
                    Ok((policy, warnings)) => {
                        set.warnings.extend(warnings);
                        let name = policy.name.clone();
                        of_policies.entry(name.clone()).or_insert(document);
                        set.policies.push(policy);
                        Ok(name)
                    }
                    Err(problems) => Err(problems),
                },
                Kind::PeopleDirectory => directories.add(document, &people_schema),
                Kind::ChangeFreeze => read_freeze(&document, &freeze_schema).map(|freeze| {
                    let name = freeze.name.clone();
                    of_freezes.push(at.clone());
                    set.freezes.push(freeze);
                    name
                }),
                Kind::GateConfiguration | Kind::PolicyTest => continue,
            };
            match read {
                Ok(name) => match named.get(&(kind, name.clone())) {
                    Some(first) => {
                        let noun = kind.noun();
                        let message = format!("another {noun} has the name `{name}` too: {first}");
                        set.problems.push(Problem { message, ..at });
                        match kind {
                            Kind::PromotionPolicy => drop(set.policies.pop()),
                            Kind::ChangeFreeze => drop((set.freezes.pop(), of_freezes.pop())),
                            _ => {}
                        }
                    }
                    None => {
                        held.insert((kind, name.clone()));
                        named.insert((kind, name), format!("{}:{}", at.file, at.line));
                    }
                },
                Err(problems) => set.problems.extend(problems),
            }
        }
        set.files.entry(file.clone()).or_default().append(&mut held);
    }
    match directories.merge() {
        Ok(people) => {
            let nobody = People::default();
            let known = people.as_ref().unwrap_or(&nobody);
            set.warnings
                .extend(missing_people(&set.policies, &of_policies, known));
            set.people = people.map(Arc::new);
        }
        Err(problems) => set.problems.extend(problems),
    }
    set.warnings
        .extend(odd_freezes(&set.freezes, &of_freezes, &set.policies));
    set.revision = revision_by_part(sources, &set.files);
    in_order(sources, &mut set.problems);
    set
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
fn load_freezes(sources: &[SourceFile]) -> FreezeSet {
    let schema = freeze_schema();
    let mut set = FreezeSet::default();
    let mut names = BTreeSet::new();
    for (file, bytes) in sources {
        let (documents, problems) = documents(file, bytes, &mut set.skipped);
        set.problems.extend(problems);
        let ours = documents
            .into_iter()
            .filter(|(kind, _)| *kind == Kind::ChangeFreeze);
        for (_, document) in ours {
            match read_freeze(&document, &schema) {
                Ok(freeze) if names.insert(freeze.name.clone()) => set.freezes.push(freeze),
                Ok(freeze) => {
                    let message =
                        format!("another change freeze has the name `{}` too", freeze.name);
                    let place = Path::default().key("metadata").key("name");
                    set.problems.push(document.problem(place, message));
                }
                Err(problems) => set.problems.extend(problems),
            }
        }
    }
    in_order(sources, &mut set.problems);
    set
}

/// Reads the people of some files, and nothing else of them.
fn load_people(sources: &[SourceFile]) -> PeopleSet {
    let schema = people_schema();
    let mut set = PeopleSet::default();
    let mut directories = Directories::default();
    for (file, bytes) in sources {
        let (documents, problems) = documents(file, bytes, &mut set.skipped);
        set.problems.extend(problems);
        let ours = documents
            .into_iter()
            .filter(|(kind, _)| *kind == Kind::PeopleDirectory);
        for (_, document) in ours {
            let problems = directories.add(document, &schema).err();
            set.problems.extend(problems.into_iter().flatten());
        }
    }
    match directories.merge() {
        Ok(people) => set.people = people.map(Arc::new),
        Err(problems) => set.problems.extend(problems),
    }
    in_order(sources, &mut set.problems);
    set
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

/// Reads the policies below some paths (files, and folders with their content), in the order of the paths. A path without a
/// policy is a problem.
pub fn load_paths(paths: &[PathBuf], roots: &TrustRoots) -> (Vec<SourceFile>, PolicySet) {
    let files = PolicyFiles::read(paths);
    let set = files.load(roots);
    (files.sources, set)
}

/// Files that may hold policies, as they are on disk: read, and not yet parsed.
#[derive(Debug, Default)]
pub struct PolicyFiles {
    sources: Vec<SourceFile>,
    problems: Vec<Problem>,
    skipped: Skipped,
    /// The paths that could be read as a whole, each with its part of `sources`.
    paths: Vec<(PathBuf, Range<usize>)>,
}

impl PolicyFiles {
    /// Reads the files below some paths, within the limits of all files together.
    pub fn read(paths: &[PathBuf]) -> PolicyFiles {
        let mut files = Files::default();
        let mut sources: Vec<SourceFile> = Vec::new();
        let (mut counted, mut bytes) = (0, 0);
        let mut read = Vec::new();
        'paths: for path in paths {
            let before = (sources.len(), files.problems.len());
            for file in files.below(path) {
                let Some(held) = files.read(&file) else {
                    continue;
                };
                counted += usize::from(!is_kustomization(&file));
                bytes += held.len();
                if counted > MAXIMUM_FILES || bytes > MAXIMUM_TOTAL_BYTES {
                    let mebibytes = MAXIMUM_TOTAL_BYTES >> 20;
                    let why = format!(
                        "more than {MAXIMUM_FILES} policy files, or {mebibytes} MiB of them"
                    );
                    files.refuse(&file, &why);
                    // The set is refused: nothing of it needs to be parsed.
                    sources.clear();
                    read.clear();
                    break 'paths;
                }
                sources.push((file.display().to_string(), held));
            }
            if files.problems.len() == before.1 {
                read.push((path.clone(), before.0..sources.len()));
            }
        }
        PolicyFiles {
            sources,
            problems: files.problems,
            skipped: files.skipped,
            paths: read,
        }
    }

    /// Names the state on disk, whatever the files mean.
    pub fn revision(&self) -> String {
        let mut revision = revision(&self.sources);
        for problem in &self.problems {
            revision.push_str(&format!(" {problem}"));
        }
        revision
    }

    /// Parses the change freezes in the files.
    pub fn load_freezes(&self) -> FreezeSet {
        let mut set = load_freezes(&self.sources);
        set.problems.splice(0..0, self.problems.iter().cloned());
        set.skipped.hidden = self.skipped.hidden;
        set
    }

    /// Parses the people directories in the files.
    pub fn load_people(&self) -> PeopleSet {
        let mut set = load_people(&self.sources);
        set.problems.splice(0..0, self.problems.iter().cloned());
        set.skipped.hidden = self.skipped.hidden;
        set
    }

    /// Parses the files.
    pub fn load(&self, roots: &TrustRoots) -> PolicySet {
        self.load_with(&[], roots)
    }

    /// The names of the files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().map(|(name, _)| name.as_str())
    }

    /// Parses the files together with documents from elsewhere.
    pub fn load_with(&self, others: &[SourceFile], roots: &TrustRoots) -> PolicySet {
        let mut set = match others {
            [] => load(&self.sources, roots),
            others => load(&[&self.sources, others].concat(), roots),
        };
        let faulty: BTreeSet<_> = set
            .problems
            .iter()
            .map(|problem| problem.file.to_string())
            .collect();
        let mut problems = self.problems.clone();
        for (path, range) in &self.paths {
            let own = self.sources.get(range.clone()).unwrap_or_default();
            let holds = |(file, _): &SourceFile| {
                let held = set.files.get(file);
                held.is_some_and(|held| !held.is_empty()) || faulty.contains(file)
            };
            if !own.iter().any(holds) {
                let why = "there is no policy in it: nothing would be judged";
                problems.push(Problem::with_file(&path.display().to_string(), why));
            }
        }
        for problem in &problems {
            set.revision = format!("{} {problem}", set.revision);
        }
        set.problems.splice(0..0, problems);
        set.skipped.hidden = self.skipped.hidden;
        set
    }
}

/// Names the state of each part. A file with people directories or freezes alone is no part of the policies.
fn revision_by_part(sources: &[SourceFile], held: &Held) -> String {
    let holds = |(file, _): &&SourceFile, kind: Kind| {
        let mut held = held.get(file).into_iter().flatten();
        held.any(|(other, _)| *other == kind)
    };
    let others = [
        ("people", Kind::PeopleDirectory),
        ("freezes", Kind::ChangeFreeze),
    ];
    let is_of_policies = |source: &&SourceFile| {
        let is_of_another = others.iter().any(|(_, kind)| holds(source, *kind));
        !is_of_another || holds(source, Kind::PromotionPolicy)
    };
    let mut parts = revision(sources.iter().filter(is_of_policies));
    for (name, kind) in others {
        let own: Vec<_> = sources
            .iter()
            .filter(|source| holds(source, kind))
            .collect();
        if !own.is_empty() {
            parts.push_str(&format!(" {name}:{}", revision(own)));
        }
    }
    parts
}

fn revision<'a>(sources: impl IntoIterator<Item = &'a SourceFile>) -> String {
    let mut sorted: Vec<_> = sources.into_iter().collect();
    sorted.sort();
    let mut hash = Sha256::new();
    for (file, bytes) in sorted {
        for part in [file.as_bytes(), bytes] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    format!("sha256:{}", hex::encode(hash.finalize()))
}

pub(super) fn read_policy(
    document: &Document,
    schema: &Schema,
    roots: &TrustRoots,
) -> Result<(Policy, Vec<Problem>), Vec<Problem>> {
    let convert = |name: &str, spec: &PromotionPolicySpec| {
        let policy = policy(name, spec, roots)?;
        let warnings = warnings(spec, &policy);
        Ok((policy, warnings))
    };
    let (_, (policy, warnings)) = read_resource(document, schema, explain, convert)?;
    let below = Path::default().key("spec");
    let warnings = warnings.into_iter();
    let warnings =
        warnings.map(|Fault { path, message }| document.problem(below.join(&path), message));
    Ok((policy, warnings.collect()))
}

/// Replaces the message about a field or requirement that belongs to a later version or to another tool.
fn explain(problem: Problem) -> Problem {
    let is_unknown_field = problem.message.starts_with("unknown field");
    let written = problem.path.to_string();
    let elsewhere = match problem.path.steps().last() {
        // Below `spec`, `images` belongs to another tool; at any other place it is an ordinary mistake.
        Some(Step::Key(name)) if name == "images" && written != "spec.images" => None,
        Some(Step::Key(name)) if is_unknown_field => used_here(name),
        _ => None,
    };
    if let (Some(here), [.., Step::Key(name)]) = (elsewhere, problem.path.steps()) {
        let message = format!("unknown field `{name}`; use {here} instead");
        return Problem {
            message,
            suggestion: None,
            ..problem
        };
    }
    match problem.path.steps() {
        [
            Step::Key(spec),
            Step::Key(list),
            Step::Index(_),
            Step::Key(name),
        ] if is_unknown_field && spec == "spec" && list == "requirements" => {
            let problem = Problem {
                message: unknown_requirement(name),
                suggestion: None,
                ..problem.clone()
            };
            problem.suggesting(name, Requirement::NAMES.iter().copied().chain(["name"]))
        }
        [.., Step::Key(name)] if is_unknown_field && LATER_FIELDS.contains(&written.as_str()) => {
            let message = format!("unknown field `{name}`: this version does not support it yet");
            Problem {
                message,
                suggestion: None,
                ..problem
            }
        }
        _ => problem,
    }
}
