//! What is reported besides the answer to a request.
//!
//! * `alarms`: what an operator has to look at
//! * `events`: Kubernetes Events on the objects that requests are about
//! * `throttle`: how many of them

mod alarms;
mod events;
mod throttle;

pub use alarms::Alarms;
pub use events::Events;
