//! Paths → suites, or everything that is wrong with the tests in them, each with its place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use promotion_gate_core::documents::{self, Problem};
use promotion_gate_core::gate::{Change, Digest, Snapshot};
use serde_json::Value;

use super::cast::Cast;
use super::format::{ExpectSpec, Form};
use super::resolve::Reading;
use crate::api::{self, Kind};
use crate::cli::world;
use crate::collect::CollectLimits;
use crate::oci::{Layout, Repository};

#[derive(Default)]
pub(super) struct Loaded {
    pub(super) suites: Vec<Suite>,
    pub(super) problems: Vec<Problem>,
    /// What in the tested policies probably does not mean what its author meant.
    pub(super) warnings: BTreeSet<Problem>,
    /// Every file and folder that the result depends on.
    pub(super) read: BTreeSet<PathBuf>,
}

/// One test file, resolved.
pub(super) struct Suite {
    pub(super) file: String,
    pub(super) name: String,
    pub(super) cases: Vec<Case>,
    /// The world as it is configured, with the policies.
    pub(super) real: Snapshot,
    /// The same world with a sandbox in it, for cases in which somebody signs.
    pub(super) staged: Option<(Cast, Snapshot)>,
    pub(super) limits: CollectLimits,
}

/// One case, resolved.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) at: Option<Timestamp>,
    pub(super) changes: Vec<Change>,
    /// Labels of the namespaces that the case speaks of.
    pub(super) namespaces: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) tags: Vec<(Repository, String, Digest)>,
    pub(super) images: Vec<(Repository, Digest)>,
    pub(super) evidence: Vec<Attached>,
    pub(super) expect: ExpectSpec,
}

/// Something attached to some of the case's images.
pub(super) struct Attached {
    pub(super) to: Vec<(Repository, Digest)>,
    pub(super) piece: Piece,
}

pub(super) enum Piece {
    Signed(Fact),
    Bundle(Vec<u8>),
    Layout(Arc<Layout>),
    Unavailable,
}

/// What somebody signs.
pub(super) struct Fact {
    pub(super) by: String,
    pub(super) form: Form,
    pub(super) logged: bool,
    pub(super) stamped: bool,
    pub(super) at: Timestamp,
    /// The digest that it is about; that of the image when absent.
    pub(super) about: Option<Digest>,
    pub(super) what: What,
}

pub(super) enum What {
    Signature(BTreeMap<String, String>),
    /// The type of the predicate, and the predicate.
    Statement(String, Value),
}

impl Case {
    /// Whether anything in it is signed in the sandbox.
    pub(super) fn is_staged(&self) -> bool {
        self.evidence
            .iter()
            .any(|attached| matches!(attached.piece, Piece::Signed(_)))
    }
}

/// Reads every test under `paths`. What cannot be opened is among the problems as well.
pub(super) fn load(paths: &[PathBuf], config: Option<&FilePath>, now: Timestamp) -> Loaded {
    let mut loaded = Loaded::default();
    for path in paths {
        loaded.read.insert(path.clone());
        let mut files = Vec::new();
        if let Err(error) = world::manifests_under(path, 0, &mut files) {
            loaded.refuse(path, format!("{error:#}"));
            continue;
        }
        let before = (loaded.suites.len(), loaded.problems.len());
        for file in files {
            loaded.file(&file, config, now);
        }
        if before == (loaded.suites.len(), loaded.problems.len()) {
            loaded.refuse(
                path,
                "there is no `kind: PolicyTest` in it: nothing would be tested".to_owned(),
            );
        }
    }
    loaded
}

impl Loaded {
    fn refuse(&mut self, file: &FilePath, why: String) {
        let file = file.display().to_string();
        self.problems.push(Problem::with_file(&file, why));
    }

    fn file(&mut self, path: &FilePath, config: Option<&FilePath>, now: Timestamp) {
        let bytes = match std::fs::File::open(path).and_then(world::bounded) {
            Ok(bytes) => bytes,
            Err(error) => return self.refuse(path, format!("cannot be read: {error}")),
        };
        let (documents, problems) = documents::read(&path.display().to_string(), &bytes);
        if !problems.is_empty() && !api::mentions_ours(&bytes) {
            return;
        }
        self.problems.extend(problems);
        for document in documents {
            match Kind::of(&document) {
                Ok(Some(Kind::PolicyTest)) => {
                    let mut reading = Reading::of(&document, path, now);
                    let suite = reading.suite(config);
                    self.read.append(&mut reading.read);
                    self.warnings.append(&mut reading.warnings);
                    // Problems of the policies come before those of the test itself, each in the order of its file.
                    let own = |problem: &Problem| *problem.file == *document.file;
                    reading.problems.sort_by_key(|problem| {
                        (
                            own(problem),
                            own(problem).then_some((problem.line, problem.column)),
                        )
                    });
                    match suite {
                        Some(suite) if reading.problems.is_empty() => self.suites.push(suite),
                        _ => self.problems.append(&mut reading.problems),
                    }
                }
                Ok(_) => {}
                Err(problem) => self.problems.push(problem),
            }
        }
    }
}
