//! The Kubernetes protocol as a pure codec: what a request or a manifest asks for, and how a verdict is answered.

mod request;
mod response;
mod workload;

pub use request::{
    Malformed, Manifests, NotOurs, Request, Understood, VERSION, uid, understand,
    understand_manifest,
};
pub use response::{Answer, denial, respond, respond_in};
pub use workload::{ImageField, Images, NO_OBJECT, images, is_object};
