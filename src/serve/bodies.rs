//! The room for bodies that are read. A body takes room as it arrives, not by its announced length. When there is none left, the
//! body that has been arriving longest gives way, of the address that holds most: slow bodies cannot keep others out.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Body;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use super::slots::Peer;

/// The largest body, in bytes: an object may have 3 MiB, and an update carries two.
const MAXIMUM_BODY: usize = 8 << 20;
/// How much is held at one time, in bytes.
const ROOM: usize = 96 << 20;
/// How long a body may take to arrive.
pub(super) const BODY: Duration = Duration::from_secs(10);
/// How long a body waits until another one has given way.
const WAIT: Duration = Duration::from_secs(2);
/// How much of a body's beginning is kept for an answer to a body that was not read: it names the request.
const BEGINNING: usize = 4 << 10;

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UnreadBody {
    #[error("the body is broken off, or larger than 8 MiB")]
    Broken,
    #[error("too much is being sent at one time, and this body arrives too slowly")]
    NoRoom,
    #[error("the body did not arrive in time")]
    Late,
}

/// All bodies that are held.
pub(super) struct Bodies {
    room: usize,
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Default)]
struct State {
    next: u64,
    held: usize,
    bodies: BTreeMap<u64, Held>,
}

struct Held {
    sender: Sender,
    since: Instant,
    bytes: usize,
    phase: Phase,
    give_way: Arc<Notify>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Arriving,
    /// It gives way: its room is about to be free.
    GivesWay,
    /// It is there as a whole, and is worked on.
    Whole,
}

/// Who sends a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sender {
    pub(super) peer: Peer,
    /// Whether its connection is proven.
    pub(super) proven: bool,
}

/// The room that a body takes, given back when dropped.
pub(super) struct BodyRoom<'a> {
    bodies: &'a Bodies,
    id: u64,
    give_way: Arc<Notify>,
}

/// What came of asking for more room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Growth {
    Granted,
    /// Others give way: ask again when they have.
    Wait,
    Refused,
}

impl Bodies {
    pub(super) fn new() -> Bodies {
        Bodies::with_room(ROOM)
    }

    fn with_room(room: usize) -> Bodies {
        Bodies {
            room,
            state: Mutex::default(),
            freed: Notify::new(),
        }
    }

    /// Reads a body, and puts how it begins into `beginning`, also where it cannot be read as a whole.
    pub(super) async fn read<B>(
        &self,
        body: B,
        sender: Sender,
        beginning: &mut Vec<u8>,
    ) -> Result<(Vec<u8>, BodyRoom<'_>), UnreadBody>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let read = async {
            let mut body = Limited::new(body, MAXIMUM_BODY);
            let mut bytes = Vec::new();
            let place = self.place(sender);
            loop {
                let frame = tokio::select! {
                    frame = body.frame() => frame,
                    () = place.give_way.notified() => return Err(UnreadBody::NoRoom),
                };
                let Some(frame) = frame else {
                    break;
                };
                let Ok(data) = frame.map_err(|_| UnreadBody::Broken)?.into_data() else {
                    continue;
                };
                let left = BEGINNING.saturating_sub(beginning.len());
                beginning.extend(data.iter().take(left));
                let needed = bytes.len() + data.len();
                if needed > bytes.capacity() {
                    // What is allocated counts, not what is filled of it.
                    let capacity = needed.max(bytes.capacity() * 2).min(MAXIMUM_BODY);
                    place.grow(capacity).await?;
                    bytes.reserve_exact(capacity - bytes.len());
                }
                bytes.extend_from_slice(&data);
            }
            place.is_whole();
            Ok((bytes, place))
        };
        timeout(BODY, read).await.unwrap_or(Err(UnreadBody::Late))
    }

    fn place(&self, sender: Sender) -> BodyRoom<'_> {
        let give_way = Arc::new(Notify::new());
        let held = Held {
            sender,
            since: Instant::now(),
            bytes: 0,
            phase: Phase::Arriving,
            give_way: Arc::clone(&give_way),
        };
        let id = self.with(|state| {
            let id = state.next;
            state.next += 1;
            state.bodies.insert(id, held);
            id
        });
        BodyRoom {
            bodies: self,
            id,
            give_way,
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    /// Grows a body to `bytes`, or makes others give way: those of connections that are not proven, or of an address that holds
    /// more than half of the room; of the address that holds most; that have been arriving longest. It may be this one's turn.
    fn grow(&mut self, id: u64, bytes: usize, room: usize) -> Growth {
        let Some(own) = self.bodies.get_mut(&id) else {
            return Growth::Refused;
        };
        if own.phase == Phase::GivesWay {
            return Growth::Refused;
        }
        let more = bytes.saturating_sub(own.bytes);
        let peer = own.sender.peer;
        if self.held + more <= room {
            own.bytes += more;
            self.held += more;
            return Growth::Granted;
        }
        let mut of_peer: BTreeMap<Peer, usize> = BTreeMap::from([(peer, more)]);
        let mut about_to_be_free = 0;
        for held in self.bodies.values() {
            *of_peer.entry(held.sender.peer).or_default() += held.bytes;
            if held.phase == Phase::GivesWay {
                about_to_be_free += held.bytes;
            }
        }
        while self.held + more > room + about_to_be_free {
            let arriving = self.bodies.iter_mut().filter(|(other, held)| {
                held.phase == Phase::Arriving && (held.bytes > 0 || **other == id)
            });
            let next = arriving.min_by_key(|(_, held)| {
                let of_peer = of_peer.get(&held.sender.peer).copied().unwrap_or_default();
                let proven = held.sender.proven && of_peer <= room / 2;
                (proven, Reverse(of_peer), held.since)
            });
            match next {
                Some((next, _)) if *next == id => return Growth::Refused,
                Some((_, held)) => {
                    held.phase = Phase::GivesWay;
                    held.give_way.notify_one();
                    about_to_be_free += held.bytes;
                }
                // What is there as a whole is worked on, and soon done.
                None => break,
            }
        }
        Growth::Wait
    }
}

impl BodyRoom<'_> {
    async fn grow(&self, bytes: usize) -> Result<(), UnreadBody> {
        let until = Instant::now() + WAIT;
        loop {
            let mut freed = pin!(self.bodies.freed.notified());
            freed.as_mut().enable();
            let room = self.bodies.room;
            match self.bodies.with(|state| state.grow(self.id, bytes, room)) {
                Growth::Granted => return Ok(()),
                Growth::Refused => return Err(UnreadBody::NoRoom),
                Growth::Wait => {}
            }
            tokio::select! {
                freed = timeout_at(until, freed) => freed.map_err(|_| UnreadBody::NoRoom)?,
                () = self.give_way.notified() => return Err(UnreadBody::NoRoom),
            }
        }
    }

    fn is_whole(&self) {
        self.bodies.with(|state| {
            if let Some(held) = state.bodies.get_mut(&self.id) {
                held.phase = Phase::Whole;
            }
        });
    }

    /// Keeps room for no more than `bytes`.
    pub(super) fn shrink(&self, bytes: usize) {
        self.bodies.with(|state| {
            if let Some(held) = state.bodies.get_mut(&self.id) {
                let less = held.bytes.saturating_sub(bytes);
                held.bytes -= less;
                state.held -= less;
            }
        });
        self.bodies.freed.notify_waiters();
    }
}

impl Drop for BodyRoom<'_> {
    fn drop(&mut self) {
        self.bodies.with(|state| {
            if let Some(held) = state.bodies.remove(&self.id) {
                state.held -= held.bytes;
            }
        });
        self.bodies.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::net::IpAddr;

    use futures::future::join;
    use futures::stream::{self, FuturesUnordered};
    use futures::{FutureExt as _, StreamExt as _};
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;

    const ROOM: usize = 16 << 10;
    const API_SERVER: [u8; 4] = [10, 0, 0, 1];
    const POD: [u8; 4] = [10, 1, 0, 7];

    fn sender(address: [u8; 4], proven: bool) -> Sender {
        let peer = Peer::from(IpAddr::from(address));
        Sender { peer, proven }
    }

    fn frame(bytes: usize) -> Result<Frame<Bytes>, Infallible> {
        Ok(Frame::data(Bytes::from(vec![b' '; bytes])))
    }

    async fn whole(bodies: &Bodies, bytes: usize, from: Sender) -> Result<usize, UnreadBody> {
        let body = StreamBody::new(stream::iter([frame(bytes)]));
        let read = bodies.read(body, from, &mut Vec::new()).await;
        read.map(|(bytes, _)| bytes.len())
    }

    /// Sends some bytes, and then nothing more.
    async fn stalled(bodies: &Bodies, bytes: usize, from: Sender) -> Result<usize, UnreadBody> {
        let body = StreamBody::new(stream::iter([frame(bytes)]).chain(stream::pending()));
        let read = bodies.read(body, from, &mut Vec::new()).await;
        read.map(|(bytes, _)| bytes.len())
    }

    #[tokio::test(start_paused = true)]
    async fn slow_bodies_that_are_really_sent_keep_no_others_out() {
        for (slow, other) in [
            (sender(POD, false), sender(API_SERVER, false)),
            (sender(POD, true), sender(API_SERVER, false)),
            (sender(POD, false), sender(POD, false)),
            (sender(POD, true), sender(POD, true)),
        ] {
            let bodies = Bodies::with_room(ROOM);
            let slow = (0..4).map(|_| stalled(&bodies, ROOM / 4, slow));
            let mut slow: FuturesUnordered<_> = slow.collect();
            assert!(slow.next().now_or_never().is_none(), "the room is taken");
            let (gave_way, read) = join(slow.next(), whole(&bodies, 1000, other)).await;
            assert_eq!(gave_way, Some(Err(UnreadBody::NoRoom)));
            assert_eq!(read, Ok(1000), "{other:?}");
            drop(slow);
            assert_eq!(bodies.with(|state| state.held), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_holds_most_does_not_displace_others() {
        let bodies = Bodies::with_room(ROOM);
        let api_server = stalled(&bodies, ROOM / 4, sender(API_SERVER, false));
        let mut api_server = std::pin::pin!(api_server);
        assert!(api_server.as_mut().now_or_never().is_none());
        let large = whole(&bodies, ROOM, sender(POD, false)).await;
        assert_eq!(large, Err(UnreadBody::NoRoom));
        assert!(api_server.as_mut().now_or_never().is_none(), "still read");
        assert_eq!(api_server.await, Err(UnreadBody::Late));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_not_read_still_names_its_request() {
        let bodies = Bodies::with_room(ROOM);
        let body = StreamBody::new(stream::iter([frame(ROOM + 1)]));
        let mut beginning = Vec::new();
        let read = bodies.read(body, sender(POD, false), &mut beginning).await;
        assert_eq!(read.map(|(bytes, _)| bytes), Err(UnreadBody::NoRoom));
        assert_eq!(beginning.len(), BEGINNING);
    }
}
