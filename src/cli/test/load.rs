//! Paths → suites, or all problems of the tests in them, each with its place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use promotion_gate_core::documents::Problem;
use promotion_gate_core::gate::{Change, Digest, Snapshot};
use serde_json::Value;

use super::emergencies::GivenIncidents;
use super::format::{EvidenceForm, ExpectSpec};
use super::freezes::CaseFreezes;
use super::kept::Kept;
use super::resolve::SuiteReader;
use super::signers::TestSigners;
use crate::api::{self, Files, Kind, Skipped};
use crate::collect::CollectLimits;
use crate::oci::{Layout, Repository};

#[derive(Default)]
pub(super) struct Loaded {
    pub(super) suites: Vec<Suite>,
    pub(super) problems: Vec<Problem>,
    /// Problems of the tested policies that do not prevent their use.
    pub(super) warnings: BTreeSet<Problem>,
    /// Files and documents that were not read.
    pub(super) skipped: Skipped,
    /// Every file and folder that the result depends on.
    pub(super) read: BTreeSet<PathBuf>,
}

/// One test file, resolved.
pub(super) struct Suite {
    pub(super) file: String,
    pub(super) name: String,
    pub(super) cases: Vec<Case>,
    /// The configured snapshot, with the policies.
    pub(super) real: Snapshot,
    /// The same with the sandbox's trust roots and keys, for cases whose evidence is signed here.
    pub(super) sandboxed: Option<(TestSigners, Snapshot)>,
    pub(super) limits: CollectLimits,
}

/// One case, resolved.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) at: Option<Timestamp>,
    pub(super) changes: Vec<Change>,
    /// Labels of the namespaces of the case.
    pub(super) namespaces: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) tags: Vec<(Repository, String, Digest)>,
    pub(super) images: Vec<(Repository, Digest)>,
    pub(super) evidence: Vec<TestAttachment>,
    pub(super) incidents: Arc<GivenIncidents>,
    pub(super) freezes: CaseFreezes,
    pub(super) kept: Arc<Kept>,
    pub(super) expect: ExpectSpec,
}

/// Evidence that is attached to some of the case's images.
pub(super) struct TestAttachment {
    pub(super) to: Vec<(Repository, Digest)>,
    pub(super) piece: Piece,
}

pub(super) enum Piece {
    Signed(TestFact),
    Bundle(Vec<u8>),
    Layout(Arc<Layout>),
    Unavailable,
}

/// A fact that a signer of the sandbox signs.
pub(super) struct TestFact {
    pub(super) by: String,
    pub(super) form: EvidenceForm,
    pub(super) logged: bool,
    pub(super) stamped: bool,
    pub(super) at: Timestamp,
    /// The digest that is signed; that of the image when absent.
    pub(super) about: Option<Digest>,
    pub(super) what: What,
}

pub(super) enum What {
    Signature(BTreeMap<String, String>),
    /// The predicate type, and the predicate.
    Statement(String, Value),
    /// The predicate of a declaration of an emergency change, and everything that it is about.
    Declaration(Value, Vec<Digest>),
}

impl Case {
    /// Whether the sandbox signs any of its evidence, or has the signers of what the cluster keeps.
    pub(super) fn needs_sandbox(&self) -> bool {
        let mut evidence = self.evidence.iter();
        evidence.any(|attached| matches!(attached.piece, Piece::Signed(_)))
            || self.kept.names_signers()
    }
}

/// Reads every test under `paths`. A path that cannot be opened is among the problems.
pub(super) fn load(paths: &[PathBuf], config: Option<&FilePath>, now: Timestamp) -> Loaded {
    let mut loaded = Loaded::default();
    let mut files = Files::default();
    for path in paths {
        loaded.read.insert(path.clone());
        let before = (loaded.suites.len(), loaded.problems.len());
        for file in files.below(path) {
            if let Some(bytes) = files.read(&file) {
                loaded.file(&file, &bytes, config, now);
            }
        }
        loaded.problems.append(&mut files.problems);
        if before == (loaded.suites.len(), loaded.problems.len()) {
            let why = "there is no `kind: PolicyTest` in it: nothing would be tested";
            let path = path.display().to_string();
            loaded.problems.push(Problem::with_file(&path, why));
        }
    }
    loaded.skipped.hidden = files.skipped.hidden;
    loaded
}

impl Loaded {
    fn file(&mut self, path: &FilePath, bytes: &[u8], config: Option<&FilePath>, now: Timestamp) {
        let file = path.display().to_string();
        let (documents, problems) = api::documents(&file, bytes, &mut self.skipped);
        self.problems.extend(problems);
        for (kind, document) in documents {
            if kind != Kind::PolicyTest {
                continue;
            }
            let mut reading = SuiteReader::of(&document, path, now);
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
    }
}
