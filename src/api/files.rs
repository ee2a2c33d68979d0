//! Files and folders → the documents in them that are ours. One walk finds policies and tests, by the same rules: other files
//! in a folder are skipped and counted, but a document that names our group or one of our kinds is never skipped.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path as FilePath, PathBuf};

use promotion_gate_core::documents::{Document, Problem, read};

use super::kinds::{Kind, mentions_ours};
use crate::files::{EntryKind, Walk, read_file};

/// The largest file that is read, in bytes. A file larger than a document may be is not parsed, but searched for our names.
pub(super) const MAXIMUM_FILE_BYTES: usize = 64 << 20;
/// The names of kustomize's own file, which lies beside the files that it lists.
const KUSTOMIZATIONS: &[&str] = &["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// A file's name, and its content.
pub type SourceFile = (String, Vec<u8>);

/// What was found besides our documents and was not read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Files and folders whose name begins with a dot.
    pub hidden: usize,
    /// Files of kustomize.
    pub kustomizations: usize,
    /// Documents of other kinds, and documents without a kind.
    pub foreign: usize,
    /// Files that cannot be parsed and do not mention our documents.
    pub unreadable: usize,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (
                self.foreign,
                "document of another kind",
                "documents of other kinds",
            ),
            (self.hidden, "hidden entry", "hidden entries"),
            (
                self.kustomizations,
                "kustomization file",
                "kustomization files",
            ),
            (
                self.unreadable,
                "file that cannot be parsed",
                "files that cannot be parsed",
            ),
        ];
        let parts = parts.iter().filter(|(count, ..)| *count > 0);
        let parts: Vec<_> = parts
            .map(|(count, one, more)| format!("{count} {}", if *count == 1 { one } else { more }))
            .collect();
        write!(f, "skipped: {}", parts.join(", "))
    }
}

impl Skipped {
    /// Whether nothing was skipped.
    pub fn is_empty(&self) -> bool {
        *self == Skipped::default()
    }
}

/// The documents of a file that are ours, each with its kind, and the problems of documents that are meant to be ours.
pub fn documents(
    file: &str,
    bytes: &[u8],
    skipped: &mut Skipped,
) -> (Vec<(Kind, Document)>, Vec<Problem>) {
    let (documents, mut problems) = read(file, bytes);
    if !problems.is_empty() && !mentions_ours(bytes) {
        skipped.unreadable += 1;
        return (Vec::new(), Vec::new());
    }
    let kinds: Vec<_> = documents.iter().map(Kind::of).collect();
    let holds_ours = kinds.iter().any(|kind| !matches!(kind, Ok(None)));
    if is_kustomization(FilePath::new(file)) && problems.is_empty() && !holds_ours {
        skipped.kustomizations += 1;
        return (Vec::new(), Vec::new());
    }
    // A file can be empty for a moment while it is written; if that were no problem, its policies would be lost silently.
    if documents.is_empty() && problems.is_empty() {
        let message = "the file holds no document, only comments or blank lines at most; write a document into it, or remove the file";
        problems.push(Problem::with_file(file, message));
    }
    let mut ours = Vec::new();
    for (document, kind) in documents.into_iter().zip(kinds) {
        match kind {
            Ok(Some(kind)) => ours.push((kind, document)),
            Ok(None) => skipped.foreign += 1,
            Err(problem) => problems.push(problem),
        }
    }
    (ours, problems)
}

/// A walk through files and folders.
#[derive(Default)]
pub struct Files {
    /// Files and folders that cannot be read.
    pub problems: Vec<Problem>,
    /// Files that were skipped.
    pub skipped: Skipped,
    walk: Walk,
}

impl Files {
    /// The file itself, or the files below a folder (`.yaml`, `.yml`, `.json`, in any case) except hidden ones, sorted.
    pub fn below(&mut self, path: &FilePath) -> Vec<PathBuf> {
        let hidden = &mut self.skipped.hidden;
        let (files, refused) = self.walk.below(path, |entry| {
            if !entry.is_named {
                let name = entry.name().to_string_lossy();
                // Kubernetes swaps mounted configuration by such entries; links beside them lead to the same files.
                if is_of_a_mount(&name) {
                    return Ok(false);
                }
                if entry.is_hidden() {
                    *hidden += 1;
                    return Ok(false);
                }
                let is_file = entry.is_manifest() || is_kustomization(entry.path);
                if !is_file && entry.kind != EntryKind::Folder {
                    return Ok(false);
                }
            }
            match entry.kind {
                EntryKind::Special => Err("is neither a file nor a folder".to_owned()),
                _ => Ok(true),
            }
        });
        for (path, why) in refused {
            self.refuse(&path, &why);
        }
        files
    }

    /// The content of a file.
    pub fn read(&mut self, path: &FilePath) -> Option<Vec<u8>> {
        let why = match read_file(path, MAXIMUM_FILE_BYTES as u64) {
            Ok(bytes) => return Some(bytes),
            Err(error) if error.kind() == ErrorKind::FileTooLarge => format!(
                "the file is larger than {} MiB; move it elsewhere if it does not belong to this tool",
                MAXIMUM_FILE_BYTES >> 20
            ),
            Err(error) => format!("cannot be read: {error}"),
        };
        self.refuse(path, &why);
        None
    }

    pub(super) fn refuse(&mut self, path: &FilePath, why: &str) {
        self.problems
            .push(Problem::with_file(&path.display().to_string(), why));
    }
}

/// Whether Kubernetes gives an entry of a mounted volume this name: `..data`, `..data_tmp` and `..YEAR_MONTH_DAY_…`.
fn is_of_a_mount(name: &str) -> bool {
    let own = name.strip_prefix("..").unwrap_or_default();
    let (year, _) = own.split_once('_').unwrap_or_default();
    matches!(own, "data" | "data_tmp")
        || year.len() == 4 && year.bytes().all(|b| b.is_ascii_digit())
}

pub(super) fn is_kustomization(path: &FilePath) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| KUSTOMIZATIONS.contains(&name))
}
