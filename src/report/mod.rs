//! What is told beside the answer to a request.
//!
//! * `events`: Kubernetes Events on the objects that requests are about
//! * `throttle`: how many of them

mod events;
mod throttle;

pub use events::Events;
