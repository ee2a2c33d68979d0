//! What the tests share.
//!
//! * `facts` — signatures and provenance, signed in the sandbox and verified; policies and promotions to judge them by
//! * `gate` — a review in this process: registry client, caches, decision
//! * `server` — a web server that answers as badly as a test says

pub mod facts;
pub mod gate;
pub mod server;
