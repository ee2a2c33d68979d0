//! Arguments → command → exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    promotion_gate::cli::run()
}
