//! Policy files → policies. Everything that is wrong with any of them is said at once, with file, line and column; a set
//! with a problem is not used.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path as FilePath, PathBuf};

use promotion_gate_core::documents::{
    Document, Fault, MAXIMUM_BYTES, Path, Problem, Step, check, decode_value, read,
};
use promotion_gate_core::gate::{Policy, Requirement, TrustRoots};
use schemars::{JsonSchema, Schema, schema_for};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::policy::unknown_requirement;
use super::{API_VERSION, GROUP, PromotionPolicySpec, policy};

/// A file's name, and what is in it.
pub type Source = (String, Vec<u8>);

/// The most files that the given paths may hold.
const MAXIMUM_FILES: usize = 1000;
/// The most bytes that they may hold together.
const MAXIMUM_TOTAL_BYTES: usize = 64 << 20;
/// How deep folders are followed; a link that leads back ends here.
const MAXIMUM_FOLDER_DEPTH: usize = 8;
/// Other kinds that may lie beside policies, and are not read here.
const OTHER_KINDS: &[&str] = &["GateConfiguration", "PolicyTest"];
/// Fields of later versions: they are refused, but not taken for somebody's mistyping.
const LATER_FIELDS: &[&str] = &["spec.emergency", "spec.injected"];

/// The policies of some files.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    /// The policies, in the order of the files; those with problems are left out.
    pub policies: Vec<Policy>,
    /// Everything that is wrong with the files.
    pub problems: Vec<Problem>,
    /// Names this state: a digest over the files' names and bytes.
    pub revision: String,
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
        // A file that is just being written can be empty for a moment; without it, its policies would silently be gone.
        if documents.is_empty() && problems.is_empty() {
            let message = "the file holds no document; remove it if it is to hold none";
            set.problems.push(Problem::with_file(file, message));
        }
        set.problems.extend(problems);
        for document in documents {
            match read_policy(&document, &schema, roots) {
                Ok(None) => {}
                Ok(Some(policy)) => {
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

/// Reads the policy files that some paths name: files, and folders with what is below them (`.yaml`, `.yml`, `.json`),
/// in the order of the paths, sorted within each. Names that begin with `..` are skipped: they are how mounted
/// configuration is swapped, and the files beside them lead there.
pub fn read_paths(paths: &[PathBuf]) -> (Vec<Source>, Vec<Problem>) {
    let mut files = Files {
        sources: Vec::new(),
        problems: Vec::new(),
        bytes: 0,
        full: false,
    };
    for path in paths {
        let before = (files.sources.len(), files.problems.len());
        files.path(path, 0);
        if before == (files.sources.len(), files.problems.len()) && !files.full {
            files.refuse(
                path,
                "the folder holds no policy files (`.yaml`, `.yml`, `.json`)",
            );
        }
    }
    (files.sources, files.problems)
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
) -> Result<Option<Policy>, Vec<Problem>> {
    if !is_policy(document)? {
        return Ok(None);
    }
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
                Ok(policy) if faults.is_empty() && problems.is_empty() => return Ok(Some(policy)),
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

/// Whether a document is a policy; what is neither that nor known otherwise is refused by its kind.
fn is_policy(document: &Document) -> Result<bool, Vec<Problem>> {
    let at = |key: &str| Path::default().key(key);
    let refuse = |problem: Problem| Err(vec![problem]);
    let (Some(version), Some(kind)) = (document.text("apiVersion"), document.text("kind")) else {
        let message =
            format!("expected a policy: `apiVersion: {API_VERSION}` and `kind: PromotionPolicy`");
        return refuse(document.problem(Path::default(), message));
    };
    let group = version.split_once('/').map_or("", |(group, _)| group);
    if group != GROUP {
        let problem = match kind {
            "PromotionPolicy" => document
                .problem(
                    at("apiVersion"),
                    format!("expected `{API_VERSION}`, found `{}`", cut(version)),
                )
                .suggesting(version, [API_VERSION]),
            _ => document.problem(
                at("kind"),
                format!(
                    "`{}` is not a policy; expected `PromotionPolicy`",
                    cut(kind)
                ),
            ),
        };
        return refuse(problem);
    }
    if version != API_VERSION {
        let message = format!(
            "`{}` is not known to this version; expected `{API_VERSION}`",
            cut(version)
        );
        return refuse(document.problem(at("apiVersion"), message));
    }
    match kind {
        "PromotionPolicy" => Ok(true),
        other if OTHER_KINDS.contains(&other) => Ok(false),
        other => {
            let message = format!("kind `{}` is not known to this version", cut(other));
            let known = OTHER_KINDS.iter().copied().chain(["PromotionPolicy"]);
            refuse(
                document
                    .problem(at("kind"), message)
                    .suggesting(other, known),
            )
        }
    }
}

/// Says of what belongs to a later version that it does.
fn explain(problem: Problem) -> Problem {
    let is_unknown_field = problem.message.starts_with("unknown field");
    let written = problem.path.to_string();
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

struct Files {
    sources: Vec<Source>,
    problems: Vec<Problem>,
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
            let is_policy_file = [".yaml", ".yml", ".json"]
                .iter()
                .any(|ending| name.ends_with(ending));
            if !name.starts_with("..") && (is_policy_file || entry.is_dir()) {
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
