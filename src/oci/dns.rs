//! Names → addresses, by the system's resolver. It blocks a thread until the name server answers, so it has its own threads,
//! shared fairly: neither verification nor another registry waits for names that do not resolve.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::fair::{Fair, Sharing};
use crate::metrics::shed;

/// The most names that are looked up at one time.
pub(super) const LOOK_UPS: usize = 64;
/// How long a look-up waits for its turn.
const TURN: Duration = Duration::from_secs(2);

/// One for the whole process: a look-up goes on after its client is dropped.
static TURNS: LazyLock<Arc<Fair>> = LazyLock::new(|| Fair::new(LOOK_UPS, Sharing::LeaveAsMuch));

/// The addresses of a host, with port 0.
pub(super) async fn look_up(host: String) -> io::Result<Vec<SocketAddr>> {
    look_up_by(&TURNS, host, |host| {
        (host, 0).to_socket_addrs().map(Iterator::collect)
    })
    .await
}

async fn look_up_by(
    turns: &Arc<Fair>,
    host: String,
    system: impl FnOnce(&str) -> io::Result<Vec<SocketAddr>> + Send + 'static,
) -> io::Result<Vec<SocketAddr>> {
    let Ok(turn) = timeout(TURN, turns.take(1, &host)).await else {
        shed("dns");
        let why = "too many names are looked up at this moment";
        return Err(io::Error::other(why));
    };
    let (send, receive) = oneshot::channel();
    let thread = std::thread::Builder::new().name("dns".to_owned());
    thread.spawn(move || {
        let found = system(&host);
        drop(turn);
        // The caller may have given up.
        let _ = send.send(found);
    })?;
    receive
        .await
        .unwrap_or_else(|_| Err(io::Error::other("the look-up failed")))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::super::meter::Meter;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn names_that_never_resolve_leave_threads_for_others() {
        let turns = Fair::new(8, Sharing::LeaveAsMuch);
        let (release, blocked) = mpsc::channel::<()>();
        let blocked = Arc::new(std::sync::Mutex::new(blocked));
        let hog = Meter::default();
        let stuck: Vec<_> = (0..50)
            .map(|n| {
                let (turns, blocked) = (Arc::clone(&turns), Arc::clone(&blocked));
                let look_up = async move {
                    let system = move |_: &str| {
                        let _ = blocked.lock().map(|blocked| blocked.recv());
                        Ok(Vec::new())
                    };
                    look_up_by(&turns, format!("{n}.hostile.example"), system).await
                };
                tokio::spawn(hog.clone().count(look_up))
            })
            .collect();
        tokio::task::yield_now().await;
        let system = |host: &str| (host, 0).to_socket_addrs().map(Iterator::collect);
        let sound = look_up_by(&turns, "127.0.0.1".to_owned(), system);
        let found = Meter::default().count(sound).await.unwrap();
        assert_eq!(found, ["127.0.0.1:0".parse().unwrap()]);
        drop(release);
        for stuck in stuck {
            let _ = stuck.await;
        }
    }
}
