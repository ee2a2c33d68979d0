//! Arguments → command → exit code.

use std::process::ExitCode;

/// Requests allocate and free much that is small, on several threads: this takes a fifth off their whole CPU.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    promotion_gate::cli::run()
}
