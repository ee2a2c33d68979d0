//! Files → policies and everything else that decides. All problems of all files are reported at once, with file, line and column. A set with a problem is
//! not used.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use promotion_gate_core::documents::{Document, Path, Problem};
use promotion_gate_core::gate::{
    Collected, Digest, FeedState, Freeze, FreezeSource, KeptAuthors, KeptRejection, People, Policy,
    Revocation, Schedule, Snapshot, TrustRoots, WhenStale,
};
use schemars::Schema;
use sha2::{Digest as _, Sha256};

use super::files::{Files, MAXIMUM_FILE_BYTES, Skipped, documents, is_kustomization};
use super::incident_check::unmet;
use super::item::{Item, item, name_of_resource, schema_of};
use super::kinds::Kind;
use super::people::Directories;
use super::{GateSettings, IncidentCheck, RootNames, TrustRootSource, TufRepository};

/// A file's name, and its content.
pub type SourceFile = (String, Vec<u8>);

/// The most files below the given paths, without those of kustomize.
const MAXIMUM_FILES: usize = 1000;
/// The most bytes of these files together.
const MAXIMUM_TOTAL_BYTES: usize = MAXIMUM_FILE_BYTES;

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
    /// The incident checks, by name.
    pub incident_checks: BTreeMap<String, Arc<IncidentCheck>>,
    /// The trust roots, by name.
    pub trust_roots: BTreeMap<String, TrustRootSource>,
    /// What the `GateConfiguration` among the files sets.
    pub settings: GateSettings,
    /// Digests that must not run any more.
    pub revocations: BTreeMap<Digest, Revocation>,
    /// Rejections, by digest.
    pub rejections: BTreeMap<Digest, Vec<KeptRejection>>,
    /// Authors, by digest.
    pub authors: BTreeMap<Digest, KeptAuthors>,
    /// All problems of the files.
    pub problems: Vec<Problem>,
    /// For problems within a text, by their text: the line of the file, and a caret below it.
    pub excerpts: BTreeMap<String, String>,
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
    /// The set together with the settings of the configuration file: adds the problems that appear only together.
    #[must_use]
    pub fn under(mut self, configured: &GateSettings) -> PolicySet {
        self.problems.extend(self.settings.clashes(configured));
        for settings in [&self.settings, configured] {
            let Some(governors) = &settings.governors else {
                continue;
            };
            let here = Path::default().key("governors");
            let people = self.people.as_deref();
            let approving = people.map(|people| governors.who_approve(&self.policies, people));
            for found in approving.into_iter().flatten() {
                let message = format!(
                    "the governor `{}` is the person `{}`, who approves {} for the policy `{}`; whoever can change what the gate decides by must not approve: remove one of the two",
                    found.user, found.person, found.seat, found.policy
                );
                let at = settings.place_of(&here.key("users"), &found.user);
                self.problems.push(settings.problem(&at, message));
            }
            let asks_people =
                |policy: &Policy| policy.requires_approvals() || policy.emergency.is_some();
            if !governors.groups.is_empty() && self.policies.iter().any(asks_people) {
                let message = "whether members of these groups approve cannot be looked up; make sure that none of them is in a group that `approvals` or `emergency` name";
                self.warnings
                    .push(settings.problem(&here.key("groups"), message));
            }
        }
        self
    }

    /// Adds what is kept about a digest.
    pub(crate) fn keep(&mut self, item: Item) {
        match item {
            Item::Revocation(digest, revocation) => {
                self.revocations.entry(digest).or_insert(revocation);
            }
            Item::Rejection(digest, rejection) => {
                self.rejections.entry(digest).or_default().push(rejection);
            }
            Item::Authors(digest, authors) => self.authors.entry(digest).or_default().add(authors),
            _ => {}
        }
    }

    /// The trust roots that are in the documents themselves.
    pub fn inline_roots(&self) -> TrustRoots {
        let each = self.trust_roots.iter();
        let each = each.filter_map(|(name, source)| match source {
            TrustRootSource::Inline(root) => Some((name.clone(), Arc::clone(root))),
            TrustRootSource::Tuf(_) => None,
        });
        each.collect()
    }

    /// The repositories that hold the other trust roots.
    pub fn tuf_repositories(&self) -> BTreeMap<String, TufRepository> {
        let each = self.trust_roots.iter();
        let each = each.filter_map(|(name, source)| match source {
            TrustRootSource::Inline(_) => None,
            TrustRootSource::Tuf(repository) => Some((name.clone(), repository.clone())),
        });
        each.collect()
    }

    /// The snapshot with these policies, people and freezes, and with the rest of another one. `now` is the present.
    pub fn snapshot(self, rest: Snapshot, feeds: &FeedStates, now: Timestamp) -> Snapshot {
        let roots = self.inline_roots();
        let mut snapshot = Snapshot {
            policies: self.policies,
            revision: self.revision,
            ..rest
        };
        self.settings.apply(&mut snapshot);
        let world = &mut snapshot.world;
        world.trust_roots.extend(roots);
        world.declared_roots = self.trust_roots.into_keys().collect();
        world.revocations = self.revocations;
        world.rejections = self.rejections;
        world.authors = self.authors;
        if let Some(people) = self.people {
            world.people = Collected::Known(people);
        }
        let schedule = schedule(self.freezes, feeds, now);
        world.freezes = Collected::Known(Arc::new(schedule));
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
fn load_knowing(sources: &[SourceFile], mut names: RootNames) -> PolicySet {
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
fn load_freezes(sources: &[SourceFile]) -> FreezeSet {
    let mut loading = load_kind(sources, Kind::ChangeFreeze);
    in_order(sources, &mut loading.set.problems);
    FreezeSet {
        freezes: loading.set.freezes,
        problems: loading.set.problems,
        skipped: loading.set.skipped,
    }
}

/// Reads the people of some files, and nothing else of them.
fn load_people(sources: &[SourceFile]) -> PeopleSet {
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

    /// Parses the change freezes in the files, and in documents from elsewhere.
    pub fn load_freezes(&self, others: &[SourceFile]) -> FreezeSet {
        let mut set = load_freezes(&[&self.sources, others].concat());
        set.problems.splice(0..0, self.problems.iter().cloned());
        set.skipped.hidden = self.skipped.hidden;
        set
    }

    /// Parses the people directories in the files, and in documents from elsewhere.
    pub fn load_people(&self, others: &[SourceFile]) -> PeopleSet {
        let mut set = load_people(&[&self.sources, others].concat());
        set.problems.splice(0..0, self.problems.iter().cloned());
        set.skipped.hidden = self.skipped.hidden;
        set
    }

    /// Parses the files.
    pub fn load(&self, roots: &TrustRoots) -> PolicySet {
        self.load_with(&[], RootNames::new(roots.keys()))
    }

    /// The names of the files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().map(|(name, _)| name.as_str())
    }

    /// Parses the files together with documents from elsewhere.
    pub fn load_with(&self, others: &[SourceFile], names: RootNames) -> PolicySet {
        let mut set = match others {
            [] => load_knowing(&self.sources, names),
            others => load_knowing(&[&self.sources, others].concat(), names),
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
    let holds = |(file, _): &&SourceFile, kinds: &[Kind]| {
        let mut held = held.get(file).into_iter().flatten();
        held.any(|(other, _)| kinds.contains(other))
    };
    let others: [(&str, &[Kind]); 5] = [
        ("people", &[Kind::PeopleDirectory]),
        ("freezes", &[Kind::ChangeFreeze]),
        ("incidents", &[Kind::IncidentCheck]),
        ("settings", &[Kind::GateConfiguration, Kind::TrustRoot]),
        (
            "kept",
            &[Kind::Revocation, Kind::Rejection, Kind::AuthorRecord],
        ),
    ];
    let is_of_policies = |source: &&SourceFile| {
        let is_of_another = others.iter().any(|(_, kinds)| holds(source, kinds));
        !is_of_another || holds(source, &[Kind::PromotionPolicy])
    };
    let mut parts = revision(sources.iter().filter(is_of_policies));
    for (name, kinds) in others {
        let own: Vec<_> = sources
            .iter()
            .filter(|source| holds(source, kinds))
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
