//! Starting the real programs on free loopback ports, and stopping them with the test.

mod control_plane;
mod cosign;
mod issuer;
mod program;
mod registry;
mod shared;
mod sigstore;

pub use control_plane::{ControlPlane, User};
pub use cosign::{Cosign, Key};
pub use issuer::Issuer;
pub use program::{Address, Program, Ran, run, until};
pub use registry::{Registry, Tagged};
pub use shared::Shared;
pub use sigstore::LocalSigstore;
