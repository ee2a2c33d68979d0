//! What the tests share.
//!
//! * `facts` — signatures and provenance, signed in the sandbox and verified; policies and promotions to judge them by
//! * `images` — a registry in this process, and signed images in it
//! * `gate` — a review in this process: registry client, caches, decision
//! * `server` — a web server that answers as badly as a test says
//! * `store` — a registry that accepts pushes, and misbehaves as a test says
//! * `terminal` — a program at a terminal: what a person sees and types
//! * [`until`] — waiting for a condition

use std::time::{Duration, Instant};

pub mod facts;
pub mod gate;
pub mod images;
pub mod server;
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
