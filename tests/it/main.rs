//! The library and the binary, from outside. The modules mirror those of `src`.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on fails"
)]

mod absence;
mod api;
mod attest;
mod attestations;
mod check;
mod cli;
mod collect;
mod corpora;
mod decision;
mod dependencies;
mod deploy;
mod evidence;
mod facts;
mod fuzz;
mod gate;
mod judge;
mod layout;
mod oci;
mod pages;
mod pin;
mod platforms;
mod policy_tests;
mod registries;
mod review;
mod rules;
mod serve;
mod server;
mod signers;
