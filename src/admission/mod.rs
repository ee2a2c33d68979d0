//! The Kubernetes protocol as a pure codec: what a request or a manifest asks for, and how a verdict is answered.

mod manifest;
mod object;
mod request;
mod response;
mod workload;

pub use manifest::{Manifests, understand_manifest};
pub use request::{Malformed, NotOurs, Request, Understood, VERSION, uid, understand};
pub use response::{Answer, Respond, denial};
pub use workload::{ImageField, Images, container_in, images, is_object, no_object};
