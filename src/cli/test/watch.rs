//! `--watch`: runs the tests again when a file that they depend on changes. Files are polled, which works on every file system.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use jiff::Zoned;
use sha2::{Digest as _, Sha256};

use super::{Args, read, report};

const EVERY: Duration = Duration::from_millis(500);
/// Folders that lie deeper are not watched.
const MAXIMUM_DEPTH: usize = 16;

/// Runs the tests until Ctrl-C.
pub(super) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    tokio::select! {
        _ = tokio::signal::ctrl_c() => Ok(ExitCode::SUCCESS),
        () = run_on_changes(args) => Ok(ExitCode::SUCCESS),
    }
}

async fn run_on_changes(args: &Args) {
    loop {
        print_line!("=== {}", Zoned::now().strftime("%H:%M:%S"));
        // The state is taken before the cases run, so that a change during the run is not missed.
        let (read, seen) = {
            let (loaded, read) = read(args);
            let seen = state_of(&read);
            if let Err(error) = report(args, loaded).await {
                print_error!("{error:#}");
            }
            (read, seen)
        };
        print_line!("=== waiting for a change; Ctrl-C ends\n");
        while state_of(&read) == seen {
            tokio::time::sleep(EVERY).await;
        }
    }
}

/// A hash over the names, lengths and times of everything below `paths`.
fn state_of(paths: &BTreeSet<PathBuf>) -> Vec<u8> {
    let mut hash = Sha256::new();
    for path in paths {
        hash_path(path, 0, &mut hash);
    }
    hash.finalize().to_vec()
}

fn hash_path(path: &Path, depth: usize, hash: &mut Sha256) {
    hash.update(path.as_os_str().as_encoded_bytes());
    let Ok(about) = std::fs::metadata(path) else {
        return hash.update(b"absent");
    };
    if !about.is_dir() {
        return hash.update(format!("{} {:?}", about.len(), about.modified().ok()));
    }
    let entries = std::fs::read_dir(path).into_iter().flatten();
    let mut entries: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    entries.sort();
    for entry in entries {
        let hidden = entry
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && depth < MAXIMUM_DEPTH {
            hash_path(&entry, depth + 1, hash);
        }
    }
}
