//! `--watch`: runs the tests again when a file that they depend on changes. Files are polled, which works on every file system.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use jiff::Zoned;
use sha2::{Digest as _, Sha256};

use super::{Args, read, report};
use crate::files::Walk;

const EVERY: Duration = Duration::from_millis(500);

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
        let (files, refused) =
            Walk::default().below(path, |entry| Ok(entry.is_named || !entry.is_hidden()));
        for file in files {
            hash.update(file.as_os_str().as_encoded_bytes());
            match std::fs::metadata(&file) {
                Ok(about) => hash.update(format!("{} {:?}", about.len(), about.modified().ok())),
                Err(_) => hash.update("absent"),
            }
        }
        for (path, why) in refused {
            hash.update(path.as_os_str().as_encoded_bytes());
            hash.update(why);
        }
    }
    hash.finalize().to_vec()
}
