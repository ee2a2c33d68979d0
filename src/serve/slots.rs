//! The open connections of a port, bounded. At the limit a new connection replaces the one that has been idle longest of the
//! address that holds most, so that open connections cannot hold the port shut.
//!
//! A connection is *proven* once it carried an AdmissionReview that was understood, or presented an accepted client certificate.
//! Proven connections have room of their own: however many others are opened, they do not displace API servers.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::Instant;

/// How often it is logged that connections are closed at the limit, or that a client is refused.
const WARN: Duration = Duration::from_secs(60);

/// Keeps a warning that others can cause at will to one in a minute.
#[derive(Default)]
pub(super) struct WarningInterval(Mutex<Option<Instant>>);

impl WarningInterval {
    /// Whether the warning may be logged now; then not again for a minute.
    pub(super) fn is_due(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let due = last.is_none_or(|last| now >= last + WARN);
        if due {
            *last = Some(now);
        }
        due
    }
}

/// Where a connection comes from: an IPv4 address, or a network of 64 bits, within which an IPv6 host chooses its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Peer(IpAddr);

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Peer {
        Peer(match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (!0 << 64))),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The connections of a port.
pub(super) struct ConnectionSlots {
    port: &'static str,
    /// How many may be open that are not proven, and that are.
    room: Room,
    closed: Counter,
    refused: Counter,
    state: Mutex<State>,
}

/// How many connections may be open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) unproven: usize,
    pub(super) proven: usize,
}

#[derive(Default)]
struct State {
    next: u64,
    taken: BTreeMap<u64, Taken>,
    full: WarningInterval,
}

struct Taken {
    peer: Peer,
    proven: bool,
    /// Whether it counts against the room for proven connections. A proven one that finds no room there keeps its first place.
    among_proven: bool,
    /// Reviews under way.
    reviews: usize,
    /// When it was accepted, or its last review ended: neither a handshake nor a part of a request is progress.
    idle_since: Instant,
    close: Arc<Notify>,
}

/// One connection's slot, given up when dropped.
pub(super) struct ConnectionSlot {
    slots: Arc<ConnectionSlots>,
    id: u64,
    peer: Peer,
    accepted: Instant,
    close: Arc<Notify>,
}

/// How long a connection has been without a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// None was understood so far.
    Unproven,
    /// The last one ended then.
    Idle(Instant),
    /// One is under way.
    Reviewing,
}

impl ConnectionSlots {
    pub(super) fn new(
        port: &'static str,
        room: Room,
        closed: &Counter,
        refused: &Counter,
    ) -> Arc<ConnectionSlots> {
        Arc::new(ConnectionSlots {
            port,
            room,
            closed: closed.clone(),
            refused: refused.clone(),
            state: Mutex::default(),
        })
    }

    /// Waits for a connection that gets a slot.
    pub(super) async fn accept(
        self: &Arc<ConnectionSlots>,
        listener: &TcpListener,
    ) -> (TcpStream, ConnectionSlot) {
        loop {
            match listener.accept().await {
                Ok((stream, from)) => {
                    if let Some(slot) = self.take(Peer::from(from.ip())) {
                        return (stream, slot);
                    }
                    self.refused.inc();
                }
                Err(error) => {
                    tracing::warn!(%error, port = self.port, "a connection could not be accepted");
                    if is_out_of_descriptors(&error) {
                        self.close_longest_idle();
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// A slot for a new connection; `None` where every connection is at work on a review, and its peer holds most of them.
    pub(super) fn take(self: &Arc<ConnectionSlots>, peer: Peer) -> Option<ConnectionSlot> {
        let now = Instant::now();
        let close = Arc::new(Notify::new());
        let id = self.with(|state| {
            if !state.make_room(false, self.room.unproven, peer, self) {
                return None;
            }
            let id = state.next;
            state.next += 1;
            let taken = Taken {
                peer,
                proven: false,
                among_proven: false,
                reviews: 0,
                idle_since: now,
                close: Arc::clone(&close),
            };
            state.taken.insert(id, taken);
            Some(id)
        })?;
        Some(ConnectionSlot {
            slots: Arc::clone(self),
            id,
            peer,
            accepted: now,
            close,
        })
    }

    fn close_longest_idle(&self) {
        self.with(|state| {
            let idle = state.taken.iter().filter(|(_, taken)| taken.reviews == 0);
            let longest = idle.min_by_key(|(_, taken)| taken.idle_since);
            if let Some(id) = longest.map(|(id, _)| *id) {
                state.close(id, &self.closed);
            }
        });
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    /// Makes room for one more connection of `peer`: closes the one that has been idle longest, of the peer that holds most.
    /// Where all are at work on reviews, one is closed only for a peer that holds fewer, so that a burst of one API server ends
    /// none of its own reviews.
    fn make_room(
        &mut self,
        proven: bool,
        room: usize,
        peer: Peer,
        slots: &ConnectionSlots,
    ) -> bool {
        let in_room = |taken: &Taken| taken.among_proven == proven;
        let mut held: BTreeMap<Peer, usize> = BTreeMap::from([(peer, 1)]);
        let mut full = 0;
        for taken in self.taken.values().filter(|taken| in_room(taken)) {
            *held.entry(taken.peer).or_default() += 1;
            full += 1;
        }
        if full < room.max(1) {
            return true;
        }
        let holds = |taken: &Taken| held.get(&taken.peer).copied().unwrap_or_default();
        let own = held.get(&peer).copied().unwrap_or_default();
        let victim = (self.taken.iter())
            .filter(|(_, taken)| in_room(taken) && (taken.reviews == 0 || holds(taken) > own))
            .min_by_key(|(_, taken)| {
                let reviews = taken.reviews > 0;
                (reviews, Reverse(holds(taken)), taken.idle_since)
            })
            .map(|(id, _)| *id);
        if self.full.is_due() {
            let most = held.iter().max_by_key(|(_, count)| **count);
            tracing::warn!(
                port = slots.port,
                open = full,
                address = most.map(|(peer, _)| peer.to_string()),
                of_this_address = most.map(|(_, count)| *count),
                "the limit of connections is reached: the longest idle are closed"
            );
        }
        let found = victim.is_some();
        if let Some(id) = victim {
            self.close(id, &slots.closed);
        }
        found
    }

    fn close(&mut self, id: u64, closed: &Counter) {
        if let Some(taken) = self.taken.remove(&id) {
            taken.close.notify_one();
            closed.inc();
        }
    }
}

impl ConnectionSlot {
    pub(super) fn peer(&self) -> Peer {
        self.peer
    }

    pub(super) fn accepted(&self) -> Instant {
        self.accepted
    }

    pub(super) fn is_proven(&self) -> bool {
        self.standing() != Standing::Unproven
    }

    pub(super) fn standing(&self) -> Standing {
        self.slots.with(|state| match state.taken.get(&self.id) {
            Some(taken) if taken.reviews > 0 => Standing::Reviewing,
            Some(taken) if taken.proven => Standing::Idle(taken.idle_since),
            Some(_) | None => Standing::Unproven,
        })
    }

    /// The peer presented an accepted certificate, or sent an AdmissionReview that was understood.
    pub(super) fn prove(&self) {
        self.slots.with(|state| {
            let already = |taken: &Taken| taken.among_proven;
            if state.taken.get(&self.id).is_none_or(already) {
                return;
            }
            let moves = state.make_room(true, self.slots.room.proven, self.peer, &self.slots);
            if let Some(taken) = state.taken.get_mut(&self.id) {
                if !taken.proven {
                    taken.idle_since = Instant::now();
                }
                taken.proven = true;
                taken.among_proven = moves;
            }
        });
    }

    /// An AdmissionReview was understood, and is under way until what is returned is dropped.
    pub(super) fn review(&self) -> UnderReview<'_> {
        self.count_reviews(|reviews| reviews + 1);
        self.prove();
        UnderReview(self)
    }

    fn count_reviews(&self, change: impl FnOnce(usize) -> usize) {
        self.slots.with(|state| {
            if let Some(taken) = state.taken.get_mut(&self.id) {
                taken.reviews = change(taken.reviews);
                taken.idle_since = Instant::now();
            }
        });
    }

    /// Waits until the slot is needed for another connection.
    pub(super) async fn closed(&self) {
        self.close.notified().await;
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.slots.with(|state| state.taken.remove(&self.id));
    }
}

pub(super) struct UnderReview<'a>(&'a ConnectionSlot);

impl Drop for UnderReview<'_> {
    fn drop(&mut self) {
        self.0.count_reviews(|reviews| reviews.saturating_sub(1));
    }
}

/// Whether the process, or the machine, has no file descriptor left.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    const API_SERVER: Peer = Peer(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)));
    const POD: Peer = Peer(IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 0, 7)));

    fn slots(unproven: usize, proven: usize) -> Arc<ConnectionSlots> {
        let room = Room { unproven, proven };
        ConnectionSlots::new("webhook", room, &Counter::default(), &Counter::default())
    }

    fn is_open(slot: &ConnectionSlot) -> bool {
        slot.slots.with(|state| state.taken.contains_key(&slot.id))
    }

    async fn later() {
        tokio::time::advance(Duration::from_millis(10)).await;
    }

    /// Connections that follow each other, oldest first.
    async fn open(slots: &Arc<ConnectionSlots>, peer: Peer, count: usize) -> Vec<ConnectionSlot> {
        let mut opened = Vec::new();
        for _ in 0..count {
            opened.push(slots.take(peer).unwrap());
            later().await;
        }
        opened
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_limit_the_longest_idle_connection_ends() {
        let slots = slots(3, 1);
        let held = open(&slots, POD, 3).await;
        let newest = slots.take(POD).unwrap();
        held[0].closed().await;
        assert!(!is_open(&held[0]) && is_open(&held[1]) && is_open(&newest));
        assert_eq!(slots.closed.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn connections_that_never_asked_do_not_displace_those_that_did() {
        let slots = slots(2, 2);
        let api_server = slots.take(API_SERVER).unwrap();
        drop(api_server.review());
        let flood = open(&slots, POD, 50).await;
        assert!(is_open(&api_server));
        assert_eq!(flood.iter().filter(|slot| is_open(slot)).count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_holds_most_gives_way_however_busy_it_looks() {
        let slots = slots(8, 4);
        let api_server = slots.take(API_SERVER).unwrap();
        drop(api_server.review());
        later().await;
        // Sound reviews of images whose registry never answers keep every other slot at work.
        let busy = open(&slots, POD, 3).await;
        let reviews: Vec<_> = busy.iter().map(ConnectionSlot::review).collect();
        let more = open(&slots, API_SERVER, 2).await;
        let _under_way = more[0].review();
        assert!(!is_open(&api_server), "an idle one goes first");
        let _another = more[1].review();
        assert!(!is_open(&busy[0]) && is_open(&more[0]) && is_open(&more[1]));
        drop(reviews);
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_of_one_api_server_ends_none_of_its_own_reviews() {
        let slots = slots(2, 2);
        let first = open(&slots, API_SERVER, 2).await;
        let _first: Vec<_> = first.iter().map(ConnectionSlot::review).collect();
        let second = open(&slots, API_SERVER, 2).await;
        let _second: Vec<_> = second.iter().map(ConnectionSlot::review).collect();
        assert!(slots.take(API_SERVER).is_none(), "nothing is idle");
        assert!(first.iter().chain(&second).all(is_open));
        assert!(slots.take(POD).is_some(), "another address is served");
    }

    #[tokio::test(start_paused = true)]
    async fn a_warning_that_clients_can_cause_is_logged_once_a_minute() {
        let interval = WarningInterval::default();
        assert!(interval.is_due());
        assert!(!interval.is_due());
        tokio::time::advance(WARN).await;
        assert!(interval.is_due());
    }

    #[test]
    fn an_ipv6_host_that_changes_its_address_stays_one_peer() {
        let peer = |address: &str| Peer::from(address.parse::<IpAddr>().unwrap());
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:2"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_eq!(peer("::ffff:10.0.0.1"), peer("10.0.0.1"));
        assert_ne!(peer("10.0.0.1"), peer("10.0.0.2"));
    }
}
