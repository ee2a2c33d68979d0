//! The folder with material of other projects, where it is present. The tests of single programs read it too.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Once;

/// The folder of a corpus: `None`, and one line to say so, where no corpora are.
pub fn folder(name: &str) -> Option<PathBuf> {
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

pub fn below(corpora: &Path, name: &str) -> Option<PathBuf> {
    let folder = corpora.join(name);
    assert!(
        folder.is_dir() || !corpora.exists(),
        "the corpus `{name}` is missing from {}: it cannot be skipped beside others",
        corpora.display()
    );
    folder.is_dir().then_some(folder)
}

pub fn read(folder: &Path, file: &str) -> Vec<u8> {
    let path = folder.join(file);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
