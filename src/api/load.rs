//! Policy files → policies. Everything that is wrong with any of them is said at once, with file, line and column; a set
//! with a problem is not used.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path as FilePath, PathBuf};
use std::{fmt, fs};

use promotion_gate_core::documents::{
    Document, Fault, MAXIMUM_BYTES, Path, Problem, Step, check, decode_value, read,
    read as documents_of,
};
use promotion_gate_core::gate::{Policy, Requirement, TrustRoots};
use schemars::{JsonSchema, Schema, schema_for};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::kinds::{Kind, mentions_ours};
use super::mistakes::used_here;
use super::policy::{unknown_requirement, warnings};
use super::{PromotionPolicySpec, policy};

/// A file's name, and what is in it.
pub type Source = (String, Vec<u8>);

/// The most files that the given paths may hold.
const MAXIMUM_FILES: usize = 1000;
/// The most bytes that they may hold together.
const MAXIMUM_TOTAL_BYTES: usize = 64 << 20;
/// How deep folders are followed; a link that leads back ends here.
const MAXIMUM_FOLDER_DEPTH: usize = 8;
/// Names of kustomize's own file, which lies beside what it lists.
const KUSTOMIZATIONS: &[&str] = &["kustomization.yaml", "kustomization.yml", "Kustomization"];
/// Fields of later versions: they are refused, but not taken for somebody's mistyping.
const LATER_FIELDS: &[&str] = &["spec.emergency", "spec.injected"];

/// The policies of some files.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    /// The policies, in the order of the files; those with problems are left out.
    pub policies: Vec<Policy>,
    /// Everything that is wrong with the files.
    pub problems: Vec<Problem>,
    /// What in the policies probably does not mean what its author meant.
    pub warnings: Vec<Problem>,
    /// What else the files and folders hold.
    pub skipped: Skipped,
    /// The files that hold a policy.
    holding: BTreeSet<String>,
    /// Names this state: a digest over the files' names and bytes.
    pub revision: String,
}

/// What was found beside policies and not read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Files and folders whose name begins with a dot.
    pub hidden: usize,
    /// Files of kustomize.
    pub kustomizations: usize,
    /// Documents of other kinds, and documents without a kind.
    pub foreign: usize,
    /// Files that are not YAML and do not mention policies.
    pub unreadable: usize,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.foreign, "documents of other kinds"),
            (self.hidden, "hidden entries"),
            (self.kustomizations, "kustomization files"),
            (self.unreadable, "files that are not YAML"),
        ];
        let parts = parts.iter().filter(|(count, _)| *count > 0);
        let parts: Vec<_> = parts
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        write!(f, "skipped beside the policies: {}", parts.join(", "))
    }
}

impl Skipped {
    /// Whether nothing was skipped.
    pub fn is_empty(&self) -> bool {
        *self == Skipped::default()
    }
}

/// The schema that policy files are checked against.
pub fn schema() -> Schema {
    schema_for!(PolicyDocument)
}

/// Reads the policies of some files.
pub fn load(sources: &[Source], roots: &TrustRoots) -> PolicySet {
    let schema = schema();
    let mut set = PolicySet {
        revision: revision(sources),
        ..PolicySet::default()
    };
    let mut named: BTreeMap<String, String> = BTreeMap::new();
    for (file, bytes) in sources {
        let (documents, problems) = read(file, bytes);
        if !problems.is_empty() && !mentions_ours(bytes) {
            set.skipped.unreadable += 1;
            continue;
        }
        // A file that is just being written can be empty for a moment; without it, its policies would silently be gone.
        if documents.is_empty() && problems.is_empty() {
            let message = "the file holds no document; remove it if it is to hold none";
            set.problems.push(Problem::with_file(file, message));
        }
        set.problems.extend(problems);
        for document in documents {
            match Kind::of(&document) {
                Ok(Some(Kind::PromotionPolicy)) => {}
                Ok(Some(_)) => continue,
                Ok(None) => {
                    set.skipped.foreign += 1;
                    continue;
                }
                Err(problem) => {
                    set.problems.push(problem);
                    continue;
                }
            }
            match read_policy(&document, &schema, roots) {
                Ok((policy, warnings)) => {
                    set.warnings.extend(warnings);
                    let path = Path::default().key("metadata").key("name");
                    let problem = document.problem(path, "");
                    let here = format!("{}:{}", problem.file, problem.line);
                    match named.get(&policy.name) {
                        Some(first) => {
                            let message = format!(
                                "another policy has the name `{}` too: {first}",
                                policy.name
                            );
                            set.problems.push(Problem { message, ..problem });
                        }
                        None => {
                            set.holding.insert(file.clone());
                            named.insert(policy.name.clone(), here);
                            set.policies.push(policy);
                        }
                    }
                }
                Err(problems) => set.problems.extend(problems),
            }
        }
    }
    let order: BTreeMap<&str, usize> = sources
        .iter()
        .enumerate()
        .map(|(index, (file, _))| (file.as_str(), index))
        .collect();
    set.problems.sort_by_key(|problem| {
        (
            order.get(&*problem.file).copied(),
            problem.line,
            problem.column,
        )
    });
    set
}

/// Reads the policies that some paths name: files, and folders with what is below them (`.yaml`, `.yml`, `.json`), in the
/// order of the paths, sorted within each. Hidden entries and the files of kustomize are skipped. Each path holds at least
/// one policy.
pub fn load_paths(paths: &[PathBuf], roots: &TrustRoots) -> (Vec<Source>, PolicySet) {
    let mut files = Files::default();
    let mut ranges = Vec::new();
    for path in paths {
        let before = (files.sources.len(), files.problems.len());
        files.path(path, 0);
        ranges.push((
            path,
            before.0..files.sources.len(),
            files.problems.len() > before.1,
        ));
    }
    let mut set = load(&files.sources, roots);
    let faulty: BTreeSet<_> = set
        .problems
        .iter()
        .map(|problem| problem.file.to_string())
        .collect();
    for (path, range, refused) in ranges {
        let own = files.sources.get(range).unwrap_or_default();
        let holds = |(file, _): &Source| set.holding.contains(file) || faulty.contains(file);
        if !refused && !files.full && !own.iter().any(holds) {
            files.refuse(path, "there is no policy in it: nothing would be judged");
        }
    }
    for problem in &files.problems {
        set.revision = format!("{} {problem}", set.revision);
    }
    set.problems.splice(0..0, files.problems);
    set.skipped.hidden = files.skipped.hidden;
    set.skipped.kustomizations = files.skipped.kustomizations;
    (files.sources, set)
}

fn revision(sources: &[Source]) -> String {
    let mut sorted: Vec<_> = sources.iter().collect();
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

/// The whole document.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "`apiVersion` and `kind` are looked at before, and stand here for the schema"
)]
struct PolicyDocument {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: PromotionPolicySpec,
}

/// The rest of Kubernetes' metadata is nothing that is decided by.
#[derive(Deserialize, JsonSchema)]
struct Metadata {
    name: String,
}

fn read_policy(
    document: &Document,
    schema: &Schema,
    roots: &TrustRoots,
) -> Result<(Policy, Vec<Problem>), Vec<Problem>> {
    let mut problems: Vec<_> = check(document, schema).into_iter().map(explain).collect();
    let mut sound = document.value.clone();
    for problem in &problems {
        remove(&mut sound, &problem.path);
    }
    match decode_value::<PolicyDocument>(&sound) {
        Ok(PolicyDocument {
            metadata: Metadata { name },
            spec,
            ..
        }) => {
            let mut faults = Vec::new();
            if let Some(message) = refuse_name(&name) {
                faults.push(Fault {
                    path: Path::default().key("metadata").key("name"),
                    message,
                });
            }
            let read = policy(&name, &spec, roots);
            let below = Path::default().key("spec");
            match read {
                Ok(policy) if faults.is_empty() && problems.is_empty() => {
                    let warnings = warnings(&spec, &policy).into_iter();
                    let warnings = warnings.map(|Fault { path, message }| {
                        document.problem(below.join(&path), message)
                    });
                    return Ok((policy, warnings.collect()));
                }
                Ok(_) => {}
                Err(more) => faults.extend(more.into_iter().map(|Fault { path, message }| Fault {
                    path: below.join(&path),
                    message,
                })),
            }
            let new = |fault: &Fault| {
                !problems
                    .iter()
                    .any(|problem| related(&problem.path, &fault.path))
            };
            let more: Vec<_> = faults.into_iter().filter(new).collect();
            problems.extend(
                more.into_iter()
                    .map(|Fault { path, message }| document.problem(path, message)),
            );
        }
        // What the schema does not allow is known already; only without that is this news.
        Err(Fault { path, message }) if problems.is_empty() => {
            problems.push(document.problem(path, message))
        }
        Err(_) => {}
    }
    Err(problems)
}

/// Says of what belongs to a later version, or to another tool, that it does.
fn explain(problem: Problem) -> Problem {
    let is_unknown_field = problem.message.starts_with("unknown field");
    let written = problem.path.to_string();
    let elsewhere = match problem.path.steps().last() {
        // Below `spec`, `images` is another tool's; elsewhere it is a mistake of another kind.
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

/// A DNS subdomain name, as Kubernetes asks for.
fn refuse_name(name: &str) -> Option<String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let good = !name.is_empty()
        && name.len() <= 253
        && name.chars().all(fits)
        && name.starts_with(ends)
        && name.ends_with(ends);
    let message = || {
        format!(
            "`{}` is not a name: expected lower-case letters, digits, `-` and `.`",
            cut(name)
        )
    };
    (!good).then(message)
}

/// Takes away what was complained about, so that the rest can be looked at.
fn remove(value: &mut Value, path: &Path) {
    let Some((Step::Key(key), outside)) = path.steps().split_last() else {
        return;
    };
    let container = outside.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get_mut(key),
        Step::Index(index) => value.get_mut(index),
    });
    if let Some(Value::Object(entries)) = container {
        entries.remove(key);
    }
}

/// Whether one path leads through the other.
fn related(one: &Path, other: &Path) -> bool {
    one.steps()
        .iter()
        .zip(other.steps())
        .all(|(one, other)| one == other)
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Whether a file of this name holds a document of ours all the same.
fn holds_ours(path: &FilePath) -> bool {
    let mut bytes = Vec::new();
    let most = MAXIMUM_BYTES as u64 + 1;
    let read = fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    if read.is_err() || !mentions_ours(&bytes) {
        return false;
    }
    let (documents, _) = documents_of(&path.display().to_string(), &bytes);
    documents
        .iter()
        .any(|document| !matches!(Kind::of(document), Ok(None)))
}

#[derive(Default)]
struct Files {
    sources: Vec<Source>,
    problems: Vec<Problem>,
    skipped: Skipped,
    bytes: usize,
    /// Whether a limit was reached; that is said once.
    full: bool,
}

impl Files {
    fn path(&mut self, path: &FilePath, depth: usize) {
        if self.full {
            return;
        }
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => self.folder(path, depth),
            Ok(metadata) if metadata.is_file() => self.file(path),
            Ok(_) => self.refuse(path, "neither a file nor a folder"),
            Err(error) => self.refuse(path, &format!("cannot be read: {error}")),
        }
    }

    fn folder(&mut self, folder: &FilePath, depth: usize) {
        if depth >= MAXIMUM_FOLDER_DEPTH {
            return self.refuse(
                folder,
                &format!("folders are nested deeper than {MAXIMUM_FOLDER_DEPTH} levels"),
            );
        }
        let entries =
            match fs::read_dir(folder).and_then(|entries| entries.collect::<Result<Vec<_>, _>>()) {
                Ok(entries) => entries,
                Err(error) => return self.refuse(folder, &format!("cannot be read: {error}")),
            };
        let mut entries: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
        entries.sort();
        for entry in entries {
            let name = entry
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default();
            let lower = name.to_ascii_lowercase();
            let is_policy_file = [".yaml", ".yml", ".json"]
                .iter()
                .any(|ending| lower.ends_with(ending));
            if name.starts_with("..") {
                // How mounted configuration is swapped; the files beside it lead there.
            } else if name.starts_with('.') {
                self.skipped.hidden += 1;
            } else if KUSTOMIZATIONS.contains(&name.as_str()) && !holds_ours(&entry) {
                self.skipped.kustomizations += 1;
            } else if is_policy_file || entry.is_dir() {
                self.path(&entry, depth + 1);
            }
        }
    }

    fn file(&mut self, path: &FilePath) {
        let mut bytes = Vec::new();
        let most = MAXIMUM_BYTES as u64 + 1;
        if let Err(error) =
            fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes))
        {
            return self.refuse(path, &format!("cannot be read: {error}"));
        }
        self.bytes += bytes.len();
        if self.sources.len() >= MAXIMUM_FILES || self.bytes > MAXIMUM_TOTAL_BYTES {
            self.full = true;
            let mebibytes = MAXIMUM_TOTAL_BYTES >> 20;
            return self.refuse(
                path,
                &format!("more than {MAXIMUM_FILES} policy files, or {mebibytes} MiB of them"),
            );
        }
        self.sources.push((path.display().to_string(), bytes));
    }

    fn refuse(&mut self, path: &FilePath, why: &str) {
        self.problems
            .push(Problem::with_file(&path.display().to_string(), why));
    }
}
