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
use std::path::Path;

use crate::shared_corpora::{below, folder, read};

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
