//! A command that looks again and again, and prints what changed.

use std::process::ExitCode;
use std::time::Duration;

use tokio::time::sleep;

use super::serve::stop_signal;

/// Looks again after each pause until the program is stopped, and prints a report that differs from the one before. Returns the exit
/// code of the last look. A look that fails is reported, and the next one follows.
pub(super) async fn watch<R: PartialEq>(
    pause: Duration,
    (mut report, mut decided): (R, ExitCode),
    mut look: impl AsyncFnMut() -> anyhow::Result<(R, ExitCode)>,
    print: impl Fn(&R) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    let stop = stop_signal(Duration::ZERO)?;
    tokio::pin!(stop);
    loop {
        tokio::select! {
            _ = &mut stop => return Ok(decided),
            () = sleep(pause) => {}
        }
        let looked = tokio::select! {
            _ = &mut stop => return Ok(decided),
            looked = look() => looked,
        };
        match looked {
            Ok((new, code)) => {
                if new != report {
                    print(&new)?;
                }
                (report, decided) = (new, code);
            }
            Err(error) => print_error!("{error:#}; the next attempt follows"),
        }
    }
}
