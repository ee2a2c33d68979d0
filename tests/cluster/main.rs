//! The gate in a real cluster: API server, controllers, scheduler and nodes, Argo Rollouts, and three replicas of the gate behind
//! one Service, from what `deploy/` ships. The programs are built by `tests/real/tools/build`.
//!
//!   cargo test --features cluster --test cluster -- [--long] [FILTER…]
//!
//! A filter is a part of a scenario's line, such as `scenario 3:`. With `--long`, the scenarios that take minutes run too.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and tells how it went"
)]

mod harness;
mod scenarios;
#[path = "../real/support/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    reason = "shared with the tests of single programs"
)]
mod support;

fn main() -> std::process::ExitCode {
    harness::run(&scenarios::all())
}
