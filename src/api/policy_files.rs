//! The files below the paths of `--policy`: read within limits, named by a revision, and parsed.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;

use promotion_gate_core::documents::Problem;
use promotion_gate_core::gate::TrustRoots;

use super::RootNames;
use super::files::{Files, MAXIMUM_FILE_BYTES, Skipped, SourceFile, is_kustomization};
use super::load::{load_freezes, load_knowing, load_people};
use super::revision::revision;
use super::set::{FreezeSet, PeopleSet, PolicySet};

/// The most files below the given paths, without those of kustomize.
const MAXIMUM_FILES: usize = 1000;
/// The most bytes of these files together.
const MAXIMUM_TOTAL_BYTES: usize = MAXIMUM_FILE_BYTES;

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
