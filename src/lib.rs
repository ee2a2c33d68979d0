//! promotion-gate: the last check between a green build and production.
//!
//! The pure engine is `promotion_gate_core`; this crate is the shell that fetches, serves and prints.

pub mod admission;
pub mod api;
pub mod cli;
pub mod oci;
pub mod sandbox;
pub mod serve;
