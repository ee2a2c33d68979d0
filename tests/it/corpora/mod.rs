//! Material of other projects. Without the folder `corpora`, one line says that it is skipped; with it, every corpus has to be there, and
//! every case of it is run.

mod admission_reviews;
mod conformance;
mod connaisseur;
mod cosign_inline;
mod documents;
mod image_references;
mod merkle;
mod objective;
mod policy_controller;
mod recurrence;

use std::fmt::Display;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Once;

/// The folder of a corpus: `None`, and one line to say so, where no corpora are.
fn folder(name: &str) -> Option<PathBuf> {
    static SAY_SO: Once = Once::new();
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared");
    let shared = std::env::var_os("PROMOTION_GATE_SHARED").unwrap_or_else(|| beside.into());
    let corpora = Path::new(&shared).join("corpora");
    let folder = below(&corpora, name);
    if folder.is_none() {
        // Not by `println!`, which is captured from tests that pass.
        let line = format!(
            "corpora: skipped, because {} does not exist\n",
            corpora.display()
        );
        SAY_SO.call_once(|| io::stderr().write_all(line.as_bytes()).unwrap());
    }
    folder
}

fn below(corpora: &Path, name: &str) -> Option<PathBuf> {
    let folder = corpora.join(name);
    assert!(
        folder.is_dir() || !corpora.exists(),
        "the corpus `{name}` is missing from {}: it cannot be skipped beside others",
        corpora.display()
    );
    folder.is_dir().then_some(folder)
}

#[test]
fn a_corpus_is_skipped_only_where_there_are_none() {
    let shared = tempfile::TempDir::new().unwrap();
    let corpora = shared.path().join("corpora");
    assert_eq!(below(&corpora, "merkle"), None);
    fs::create_dir_all(corpora.join("merkle")).unwrap();
    assert_eq!(below(&corpora, "merkle"), Some(corpora.join("merkle")));
    let missing = std::panic::catch_unwind(|| below(&corpora, "documents")).unwrap_err();
    let message = missing.downcast_ref::<String>().unwrap();
    assert!(message.contains("`documents` is missing"), "{message}");
}

fn read(folder: &Path, file: &str) -> Vec<u8> {
    let path = folder.join(file);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files below a folder with this ending, sorted.
fn files_below(folder: &Path, ending: &str) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(below) = folders.pop() {
        for entry in fs::read_dir(&below).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == ending) {
                let relative = path.strip_prefix(folder).unwrap();
                files.push(relative.to_str().unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

/// What came of the cases of a corpus.
struct Tally {
    corpus: &'static str,
    passed: usize,
    failures: Vec<String>,
}

impl Tally {
    fn of(corpus: &'static str) -> Tally {
        Tally {
            corpus,
            passed: 0,
            failures: Vec::new(),
        }
    }

    fn expect<T: PartialEq + std::fmt::Debug>(&mut self, case: impl Display, said: T, wanted: T) {
        if said == wanted {
            self.passed += 1;
        } else {
            self.failures
                .push(format!("{case}: {said:?}, expected {wanted:?}"));
        }
    }

    /// Prints the result, and fails where a case did.
    fn close(self, cases: usize) {
        let Tally {
            corpus,
            passed,
            failures,
        } = self;
        let failed = failures.len();
        println!("corpus {corpus}: {passed} passed, {failed} failed");
        assert!(failures.is_empty(), "{failures:#?}");
        assert_eq!(passed, cases, "{corpus}: not every case was run");
    }
}
