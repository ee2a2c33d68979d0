//! Work for a processor: parsing, hashing and verifying what registries send. It runs outside of the threads that serve
//! requests, in turns that reviews and registries share.

use std::num::NonZero;
use std::sync::{Arc, LazyLock};

use super::fair::{Fair, Sharing};

/// The most jobs at one time, however many processors there are: each job takes memory.
const MOST: usize = 4;
/// Jobs up to this many bytes run at once: handing them over would cost more than doing them.
const AT_ONCE: usize = 128 << 10;

/// One for all clients of the process, since they share its processors.
static TURNS: LazyLock<Arc<Fair>> = LazyLock::new(turns);

fn turns() -> Arc<Fair> {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    Fair::new(processors.min(MOST), Sharing::UseAll)
}

#[derive(Clone)]
pub(crate) struct Work(Arc<Fair>);

impl Work {
    /// Separate turns: one collector never waits for another.
    pub(crate) fn own() -> Work {
        Work(turns())
    }

    /// The turns that all clients share.
    pub(crate) fn shared() -> Work {
        Work(Arc::clone(&TURNS))
    }

    /// Runs `job` when it is its turn, and charges the caller with `bytes`; `None` if the job panicked. A caller that stops
    /// waiting gives up the turn, unless the job has begun.
    pub(crate) async fn turn<T: Send + 'static>(
        &self,
        host: &str,
        bytes: usize,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let turn = self.0.take(1, host).await;
        turn.cost(bytes);
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            job()
        });
        done.await.ok()
    }

    /// The same; a small job runs at once.
    pub(crate) async fn done<T: Send + 'static>(
        &self,
        host: &str,
        bytes: usize,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        if bytes <= AT_ONCE {
            return Some(job());
        }
        self.turn(host, bytes, job).await
    }
}
