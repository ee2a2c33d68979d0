//! One connection: HTTP/1.1 or 2 as the handshake chose, closed when nothing comes, and soon where no sound request ever came.
//! API servers keep connections open and reuse them after up to 90 seconds, and do not repeat a request whose connection was
//! closed under it.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use http::header::CONNECTION;
use http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::Service as _;

use super::bodies::BODY;
use super::certificate::Tls;
use super::slots::{ConnectionSlot, Standing};

/// How long a new connection has for the handshake and a first AdmissionReview.
const FIRST: Duration = Duration::from_secs(10);
/// How long a proven connection may be idle between requests.
const IDLE: Duration = Duration::from_secs(120);
/// How long the header of a later request may take, from its first byte (HTTP/1.1).
const HEADER: Duration = Duration::from_secs(5);
/// How long an answer has to leave, once a connection is to end.
const ANSWER: Duration = Duration::from_secs(1);
/// How long a review may go on whose client was verified by authorities that were replaced since.
const LAST: Duration = Duration::from_secs(30);
/// Requests at one time on one connection (HTTP/2).
const STREAMS: u32 = 16;
/// The largest headers of a request, in bytes.
const HEADERS: u32 = 16 << 10;
/// How much of an HTTP/1.1 connection is buffered, in bytes.
const BUFFER: usize = 64 << 10;
/// How much a peer may send before it is read (HTTP/2), in bytes: on a connection, and on each of its streams.
const CONNECTION_WINDOW: u32 = 256 << 10;
const STREAM_WINDOW: u32 = 128 << 10;

/// Serves requests until the peer, the time, another connection that needs the slot, or the end of the program closes it.
///
/// # Errors
/// Why the handshake failed.
pub(super) async fn serve(
    stream: TcpStream,
    slot: ConnectionSlot,
    tls: Tls,
    routes: Router,
    ends: (watch::Receiver<bool>, Watcher),
) -> io::Result<()> {
    let activity = Arc::new(Activity::new(slot));
    let Tls {
        config,
        verifies_clients,
        mut replaced,
    } = tls;
    let served = async {
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        if verifies_clients {
            activity.slot.prove();
        }
        converse(stream, Arc::clone(&activity), routes, ends).await;
        Ok(())
    };
    tokio::select! {
        ended = served => ended,
        () = activity.ended(&mut replaced) => Ok(()),
        () = activity.slot.closed() => Ok(()),
    }
}

async fn converse(
    tls: TlsStream<TcpStream>,
    activity: Arc<Activity>,
    routes: Router,
    (stopped, watcher): (watch::Receiver<bool>, Watcher),
) {
    let is_http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2".as_slice());
    let service = service_fn({
        let activity = Arc::clone(&activity);
        move |mut request: Request<Incoming>| {
            let (mut routes, under_way) = (routes.clone(), Activity::begin(&activity));
            let slot = Arc::clone(&activity.slot);
            let stopped = stopped.clone();
            request.extensions_mut().insert(slot);
            async move {
                let Ok(mut answer) = routes.call(request).await;
                // A client that is told uses another connection; a request on one that is closed meanwhile is lost.
                let is_last = under_way.0.is_replaced() || *stopped.borrow();
                if is_last && !is_http2 {
                    let close = HeaderValue::from_static("close");
                    answer.headers_mut().insert(CONNECTION, close);
                }
                drop(under_way);
                Ok::<_, Infallible>(answer)
            }
        }
    });
    // A broken connection concerns its peer alone.
    if is_http2 {
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(HEADERS)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_stream_window_size(STREAM_WINDOW)
            .keep_alive_interval(FIRST)
            .serve_connection(TokioIo::new(tls), service);
        let _ = watcher.watch(connection).await;
    } else {
        let io = Observed {
            stream: tls,
            activity,
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .max_buf_size(BUFFER)
            .header_read_timeout(IDLE + HEADER)
            .serve_connection(TokioIo::new(io), service);
        let _ = watcher.watch(connection).await;
    }
}

/// What goes on on a connection, and until when it may go on so.
struct Activity {
    slot: Arc<ConnectionSlot>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Requests whose header is there and that are not answered.
    requests: usize,
    /// When the first of them began.
    began: Option<Instant>,
    /// When the header of a request began to arrive.
    header: Option<Instant>,
    /// When the authorities that clients are verified by were replaced.
    replaced: Option<Instant>,
}

impl Activity {
    fn new(slot: ConnectionSlot) -> Activity {
        Activity {
            slot: Arc::new(slot),
            state: Mutex::default(),
        }
    }

    fn begin(activity: &Arc<Activity>) -> UnderWay {
        activity.state(|state| {
            state.began.get_or_insert_with(Instant::now);
            state.header = None;
            state.requests += 1;
        });
        UnderWay(Arc::clone(activity))
    }

    /// Bytes arrived: between requests they begin a header.
    fn received(&self) {
        self.state(|state| {
            if state.requests == 0 {
                state.header.get_or_insert_with(Instant::now);
            }
        });
    }

    fn is_replaced(&self) -> bool {
        self.state(|state| state.replaced.is_some())
    }

    fn state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Until when the connection may stay as it is; `None` while a review is under way, which has a deadline of its own.
    fn until(&self) -> Option<Instant> {
        let (standing, accepted) = (self.slot.standing(), self.slot.accepted());
        self.state(|state| {
            let last = state.replaced.map(|replaced| replaced + LAST);
            let until = match standing {
                Standing::Unproven => Some(accepted + FIRST),
                Standing::Reviewing => None,
                Standing::Idle(since) => Some(match (state.began, state.header) {
                    // A body that arrives, or a request that is not an AdmissionReview.
                    (Some(began), _) => began.max(since) + BODY + ANSWER,
                    (None, _) if let Some(replaced) = state.replaced => {
                        replaced.max(since) + ANSWER
                    }
                    (None, Some(header)) => header + HEADER,
                    (None, None) => since + IDLE,
                }),
            };
            until.into_iter().chain(last).min()
        })
    }

    /// Ends when nothing has come for too long, or what came was no request.
    async fn ended(&self, replaced: &mut watch::Receiver<()>) {
        loop {
            let now = Instant::now();
            let soon = now + Duration::from_secs(1);
            let until = self.until();
            if until.is_some_and(|until| until <= now) {
                return;
            }
            tokio::select! {
                () = sleep_until(until.map_or(soon, |until| until.min(soon))) => {}
                Ok(()) = replaced.changed() => {
                    self.state(|state| state.replaced = Some(Instant::now()));
                }
            }
        }
    }
}

struct UnderWay(Arc<Activity>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.state(|state| {
            state.requests -= 1;
            if state.requests == 0 {
                state.began = None;
            }
        });
    }
}

/// A stream that tells when bytes arrive.
struct Observed<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Observed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.activity.received();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Observed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use prometheus_client::metrics::counter::Counter;

    use super::super::slots::{ConnectionSlots, Peer, Room};
    use super::*;

    fn activity() -> Arc<Activity> {
        let room = Room {
            unproven: 2,
            proven: 2,
        };
        let slots = ConnectionSlots::new("webhook", room, &Counter::default(), &Counter::default());
        let peer = Peer::from(IpAddr::V4(Ipv4Addr::LOCALHOST));
        Arc::new(Activity::new(slots.take(peer).unwrap()))
    }

    /// How long the connection stays open, from now.
    async fn stays(activity: &Activity) -> Duration {
        let (_replace, mut replaced) = watch::channel(());
        let now = Instant::now();
        activity.ended(&mut replaced).await;
        now.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_sound_request_ends_soon() {
        let activity = activity();
        for _ in 0..5 {
            tokio::time::advance(FIRST / 6).await;
            activity.received();
            drop(Activity::begin(&activity));
        }
        let _slow_body = Activity::begin(&activity);
        assert!(stays(&activity).await <= FIRST / 6 + Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_ends_but_not_during_a_review() {
        let activity = activity();
        let request = Activity::begin(&activity);
        let review = activity.slot.review();
        let waited = tokio::time::timeout(IDLE * 3, stays(&activity)).await;
        assert!(waited.is_err(), "closed under a review");
        drop((review, request));
        assert!(stays(&activity).await >= IDLE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_header_or_body_that_trickles_in_ends_the_connection() {
        let activity = activity();
        drop(activity.slot.review());
        activity.received();
        tokio::time::advance(HEADER / 2).await;
        activity.received();
        assert!(stays(&activity).await <= HEADER / 2 + Duration::from_secs(1));

        let _first = Activity::begin(&activity);
        tokio::time::advance(BODY / 2).await;
        let _overlapping = Activity::begin(&activity);
        assert!(stays(&activity).await <= BODY / 2 + ANSWER + Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn connections_end_when_the_authorities_of_clients_are_replaced() {
        for busy in [false, true] {
            let activity = activity();
            activity.slot.prove();
            let review = busy.then(|| activity.slot.review());
            let (replace, mut replaced) = watch::channel(());
            replace.send_replace(());
            let now = Instant::now();
            activity.ended(&mut replaced).await;
            let longest = if busy { LAST } else { ANSWER };
            assert!(now.elapsed() <= longest + Duration::from_secs(1), "{busy}");
            assert!(now.elapsed() >= longest, "{busy}");
            drop(review);
        }
    }
}
