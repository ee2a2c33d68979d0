//! What the tests share.
//!
//! * `facts` — signatures and provenance, signed in the sandbox and verified; policies and promotions to judge them by
//! * `api_server` — an API server with a release record
//! * `images` — a registry in this process, and signed images in it
//! * `gate` — a review in this process: registry client, caches, decision
//! * `shared_corpora` — the folder with material of other projects
//! * `server` — a web server that answers as badly as a test says
//! * `store` — a registry that accepts pushes, and misbehaves as a test says
//! * `terminal` — a program at a terminal: what a person sees and types
//! * [`until`] — waiting for a condition

use std::process::Command;
use std::time::{Duration, Instant};

use running::Running;

pub mod api_server;
pub mod facts;
pub mod gate;
pub mod images;
pub mod running;
pub mod server;
pub mod shared_corpora;
pub mod store;
pub mod terminal;
pub mod tuf_site;

/// Waits until a condition holds, and fails after a time that no machine needs.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < patience, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Running {
    /// Sends it a signal, such as `-TERM`.
    pub fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status();
        assert!(sent.unwrap().success());
    }
}
