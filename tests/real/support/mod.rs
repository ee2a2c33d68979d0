//! Starting the real programs on free loopback ports, and stopping them with the test.

mod control_plane;
mod cosign;
mod gate;
mod issuer;
mod program;
mod provenance;
mod registry;
mod shared;
mod sigstore;

pub use control_plane::{ControlPlane, User};
pub use cosign::{Cosign, Key};
pub use gate::{Certificate, Gate, deployment};
pub use program::{command, run, until};
pub use provenance::{BUILDER, SOURCE, provenance_of_generator};
pub use registry::{Registry, Tagged};
pub use sigstore::LocalSigstore;
