//! Material that nobody here wrote. Where it is not present, its tests say so and pass; where it is, nothing is left out
//! without a reason that is itself tested.

mod admission_reviews;
mod conformance;
mod connaisseur;
mod cosign_inline;
mod documents;
mod image_references;
mod merkle;
mod policy_controller;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Mutex;

/// The folder of a corpus, where it is present. Of one that is missing, one line says so, also where tests are not asked for
/// their output.
fn folder(name: &'static str) -> Option<PathBuf> {
    static MISSING: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared");
    let shared = std::env::var_os("PROMOTION_GATE_SHARED").unwrap_or_else(|| beside.into());
    let folder = PathBuf::from(shared).join("corpora").join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    if MISSING.lock().unwrap().insert(name) {
        let folder = folder.display();
        let line = format!("corpus {name}: skipped, because {folder} does not exist\n");
        io::stderr().write_all(line.as_bytes()).unwrap();
    }
    None
}

fn read(folder: &std::path::Path, file: &str) -> Vec<u8> {
    let path = folder.join(file);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files below a folder with this ending, sorted.
fn files_below(folder: &std::path::Path, ending: &str) -> Vec<String> {
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
    skipped: usize,
    failures: Vec<String>,
}

impl Tally {
    fn of(corpus: &'static str) -> Tally {
        Tally {
            corpus,
            passed: 0,
            skipped: 0,
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
            skipped,
            failures,
        } = self;
        let failed = failures.len();
        println!("corpus {corpus}: {passed} passed, {failed} failed, {skipped} skipped");
        assert!(failures.is_empty(), "{failures:#?}");
        assert_eq!(passed + skipped, cases, "{corpus}: not every case was run");
    }
}
