//! The Kubernetes protocol as a pure codec: a request or a manifest → a change; a verdict → the answer.
//!
//! * `kinds` — one table of the kinds that are judged, and of their fields
//! * `images` — an object → its images
//! * `update` — an update → its effect on what runs
//! * `revision` — what a ControllerRevision could hide
//! * `request`, `manifest` — a request or a manifest → a change, by `change`; or, by the closed list in `understood`, why it is not judged
//! * `parent` — an object → the parent of the Pods that a controller creates for it
//! * `names` — the names by which objects are read
//! * `referring` — a change and the object that it refers to → the whole change
//! * `response` — a verdict → the answer
//! * `registration`, `conditions` — what an API server asks about
//! * `governance` — changes of what the gate decides by, and the answers to them

mod change;
mod conditions;
mod governance;
mod images;
mod kinds;
mod manifest;
mod names;
mod object;
mod parent;
mod referring;
mod registration;
mod request;
mod response;
mod revision;
mod understood;
mod update;

pub use change::changed_object;
pub use images::{ImageField, Images, image_in, images, is_object, no_object};
pub use kinds::{KindOfTable, kinds, plural, running_kinds, version};
pub use manifest::{Manifests, understand_manifest};
pub use parent::parent;
pub use referring::{follow, referred};
pub use registration::{Audited, Endpoint, Registration};
pub use request::{Malformed, Request, VERSION, uid, understand};
pub use response::{AdmissionResponse, Respond, denial};
pub use understood::{NotOurs, Referring, Understood};
