//! Starting the real programs on free loopback ports, and stopping them with the test.

mod authority;
mod control_plane;
mod cosign;
mod gate;
mod http_server;
mod issuer;
pub mod program;
mod provenance;
mod registry;
mod shared;
mod sigstore;
mod token_server;
mod tuf;

pub use control_plane::{ControlPlane, User};
pub use cosign::{Cosign, Key};
pub use gate::{Certificate, Gate, Serving, deployment};
pub use http_server::HttpServer;
pub use program::{Address, Ran, command, run, until};
pub use provenance::{BUILDER, SOURCE, provenance_of_generator};
pub use registry::{Registry, Tagged};
pub use shared::Shared;
pub use sigstore::LocalSigstore;
pub use token_server::TokenServer;
pub use tuf::TufRepository;
