//! Work for a processor: parsing, hashing and verifying what registries send. It happens beside the threads that answer, in
//! turns that reviews and registries share.

use std::num::NonZero;
use std::sync::{Arc, LazyLock};

use super::fair::{Fair, Sharing};

/// The most work at one time, however many processors there are: each takes memory while it lasts.
const MOST: usize = 4;
/// How many bytes are worked on between two answers: less would cost more to hand over than to do.
const AT_ONCE: usize = 128 << 10;

/// For all clients of the process, as the processors are.
static TURNS: LazyLock<Arc<Fair>> = LazyLock::new(turns);

fn turns() -> Arc<Fair> {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    Fair::new(processors.min(MOST), Sharing::UseAll)
}

#[derive(Clone)]
pub(crate) struct Work(Arc<Fair>);

impl Work {
    /// Turns of its own: one collector never waits for another.
    pub(crate) fn own() -> Work {
        Work(turns())
    }

    /// The turns that all clients share.
    pub(crate) fn shared() -> Work {
        Work(Arc::clone(&TURNS))
    }

    /// Does `job`, which takes as long as so many `bytes` do, when it is its turn; `None` where it came to no end. Whoever
    /// does not wait any longer gives up the turn, unless it has begun.
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

    /// The same, at once where it is little.
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
