//! One connection: HTTP/1.1 or 2 as the handshake chose, closed when nothing comes. API servers keep connections open and
//! reuse them after up to 90 seconds, and do not repeat a request whose connection was closed under it.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::server::TlsStream;

use super::webhook::Webhook;

/// How long the first request may take to arrive.
const FIRST: Duration = Duration::from_secs(10);
/// How long a connection may be idle between requests.
const IDLE: Duration = Duration::from_secs(120);
/// Requests at one time on one connection (HTTP/2).
const STREAMS: u32 = 16;
/// The largest headers of a request, in bytes.
const HEADERS: u32 = 16 << 10;

/// Serves requests until the peer, the time or the end of the program closes the connection.
pub(super) async fn serve(tls: TlsStream<TcpStream>, webhook: Arc<Webhook>, watcher: Watcher) {
    let is_http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2".as_slice());
    let activity = Arc::new(Activity::new());
    let service = service_fn({
        let activity = Arc::clone(&activity);
        move |request| {
            let (webhook, under_way) = (Arc::clone(&webhook), Activity::begin(&activity));
            async move {
                let answer = webhook.handle(request).await;
                drop(under_way);
                Ok::<_, Infallible>(answer)
            }
        }
    });
    let io = TokioIo::new(tls);
    let served = async {
        if is_http2 {
            let connection = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS)
                .max_header_list_size(HEADERS)
                .keep_alive_interval(FIRST)
                .serve_connection(io, service);
            let _ = watcher.watch(connection).await;
        } else {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(IDLE)
                .serve_connection(io, service);
            let _ = watcher.watch(connection).await;
        }
    };
    tokio::select! {
        () = served => {}
        () = activity.ended() => {}
    }
}

/// How many requests are under way, and until when nothing may come.
struct Activity(Mutex<State>);

struct State {
    under_way: usize,
    until: Instant,
}

impl Activity {
    fn new() -> Activity {
        Activity(Mutex::new(State {
            under_way: 0,
            until: Instant::now() + FIRST,
        }))
    }

    fn begin(activity: &Arc<Activity>) -> UnderWay {
        activity.state(|state| state.under_way += 1);
        UnderWay(Arc::clone(activity))
    }

    fn state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends when nothing has come for too long.
    async fn ended(&self) {
        loop {
            let (under_way, until) = self.state(|state| (state.under_way, state.until));
            if under_way == 0 && until <= Instant::now() {
                return;
            }
            sleep_until(until.max(Instant::now() + Duration::from_secs(1))).await;
        }
    }
}

struct UnderWay(Arc<Activity>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.state(|state| {
            state.under_way -= 1;
            state.until = Instant::now() + IDLE;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_when_nothing_comes_but_not_while_a_request_is_under_way() {
        let activity = Arc::new(Activity::new());
        let began = Instant::now();
        activity.ended().await;
        assert!(began.elapsed() >= FIRST && began.elapsed() < IDLE);

        let activity = Arc::new(Activity::new());
        let under_way = Activity::begin(&activity);
        let waited = tokio::time::timeout(FIRST * 20, activity.ended()).await;
        assert!(waited.is_err(), "closed under a request");
        drop(under_way);
        let began = Instant::now();
        activity.ended().await;
        assert!(began.elapsed() >= IDLE);
    }
}
