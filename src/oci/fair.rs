//! A scarce resource, shared fairly between reviews and between registries: connections, room for answers, processors, threads
//! for DNS. A review that needs little is served while others need much.

use std::collections::HashMap;
use std::hash::Hash;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::meter::{Askers, Meter, NO_REVIEW};

/// How much one review, or one host, may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// At most as much as stays free afterwards, so that the next caller finds something. For resources that are held for long.
    LeaveAsMuch,
    /// Everything, if no other review waits. For resources that are given back soon.
    UseAll,
}

/// A resource of so many units.
pub(crate) struct Fair {
    rule: Sharing,
    /// The most that one host may hold, even if more is free.
    per_host: usize,
    state: Mutex<State>,
}

struct State {
    free: usize,
    /// Units that are held, by review and by host.
    reviews: HashMap<usize, usize>,
    hosts: HashMap<Arc<str>, usize>,
    waiting: Vec<Waiter>,
    /// Counts the grants; `last` holds the count at the last grant to each host.
    granted: u64,
    last: HashMap<Arc<str>, u64>,
}

/// The most hosts in `last`.
const HOSTS: usize = 1024;

/// The waiter with the least rank is served first: units held by the review, bytes spent by it, units held by the host, the
/// host's last grant, order of arrival.
type Rank = (usize, u64, usize, u64, usize);

struct Waiter {
    askers: Askers,
    host: Arc<str>,
    units: usize,
    send: oneshot::Sender<Share>,
}

/// Granted units; dropping this gives them back.
pub(crate) struct Share {
    fair: Arc<Fair>,
    /// The review that holds the units. It is kept so that its id is not reused meanwhile.
    meter: Option<Meter>,
    review: usize,
    host: Arc<str>,
    units: usize,
}

impl Fair {
    pub(crate) fn new(units: usize, rule: Sharing) -> Arc<Fair> {
        Fair::with_most_per_host(units, units, rule)
    }

    pub(crate) fn with_most_per_host(units: usize, per_host: usize, rule: Sharing) -> Arc<Fair> {
        Arc::new(Fair {
            rule,
            per_host: per_host.max(1),
            state: Mutex::new(State {
                free: units.max(1),
                reviews: HashMap::new(),
                hosts: HashMap::new(),
                waiting: Vec::new(),
                granted: 0,
                last: HashMap::new(),
            }),
        })
    }

    /// Waits for units that the running task uses for `host`.
    pub(crate) async fn take(self: &Arc<Fair>, units: usize, host: &str) -> Share {
        loop {
            let askers = Askers::current();
            let (send, receive) = oneshot::channel();
            // Another review may join the work later, and may have precedence over those that began it.
            let mut joined = pin!(askers.joined());
            joined.as_mut().enable();
            self.locked().waiting.push(Waiter {
                askers: askers.clone(),
                host: Arc::from(host),
                units,
                send,
            });
            self.grant();
            let mut receive = pin!(receive);
            loop {
                tokio::select! {
                    granted = receive.as_mut() => match granted {
                        Ok(share) => return share,
                        Err(_) => break,
                    },
                    () = joined.as_mut() => {
                        joined.set(askers.joined());
                        joined.as_mut().enable();
                        self.grant();
                    }
                }
            }
        }
    }

    /// Serves the waiters that can be served, in order.
    fn grant(self: &Arc<Fair>) {
        loop {
            let Some((send, share)) = self.locked().next(self) else {
                return;
            };
            // If the waiter has gone, the share is dropped and given back at once.
            drop(send.send(share));
        }
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn may_hold(&self, state: &State, held: usize, units: usize) -> bool {
        let left = state.free.checked_sub(units);
        match self.rule {
            Sharing::UseAll => left.is_some(),
            Sharing::LeaveAsMuch => left.is_some_and(|left| held == 0 || held + units <= left),
        }
    }
}

impl State {
    /// Chooses the next waiter: of the review that holds least, then of the review that has cost least, then for the host that
    /// holds least, then for the host that was served longest ago, then in order of arrival.
    fn next(&mut self, fair: &Arc<Fair>) -> Option<(oneshot::Sender<Share>, Share)> {
        self.waiting.retain(|waiter| !waiter.send.is_closed());
        let mut best: Option<(Rank, usize, Option<Meter>)> = None;
        for (at, waiter) in self.waiting.iter().enumerate() {
            let by_host = self.hosts.get(&waiter.host).copied().unwrap_or_default();
            let too_many = by_host > 0 && by_host + waiter.units > fair.per_host;
            if too_many || !fair.may_hold(self, by_host, waiter.units) {
                continue;
            }
            let members = waiter.askers.members();
            let standing = |meter: &Meter| (meter.id(), meter.work());
            let reviews = members.iter().map(standing);
            let no_review = members.is_empty().then_some((NO_REVIEW, 0));
            for (member, (review, work)) in reviews.chain(no_review).enumerate() {
                let held = self.reviews.get(&review).copied().unwrap_or_default();
                if !fair.may_hold(self, held, waiter.units) {
                    continue;
                }
                let served = self.last.get(&waiter.host).copied().unwrap_or_default();
                let rank = (held, work, by_host, served, at);
                if best.as_ref().is_none_or(|(least, ..)| rank < *least) {
                    best = Some((rank, review, members.get(member).cloned()));
                }
            }
        }
        let ((_, _, _, _, at), review, meter) = best?;
        let Waiter {
            host, units, send, ..
        } = self.waiting.remove(at);
        self.free -= units;
        self.granted += 1;
        if self.last.len() >= HOSTS {
            self.last.clear();
        }
        self.last.insert(Arc::clone(&host), self.granted);
        *self.reviews.entry(review).or_default() += units;
        *self.hosts.entry(Arc::clone(&host)).or_default() += units;
        let share = Share {
            fair: Arc::clone(fair),
            meter,
            review,
            host,
            units,
        };
        Some((send, share))
    }
}

impl Share {
    /// Charges the review with bytes, so that its later requests are served after those of cheaper reviews.
    pub(crate) fn cost(&self, bytes: usize) {
        if let Some(meter) = &self.meter {
            meter.add_work(u64::try_from(bytes).unwrap_or(u64::MAX));
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut state = self.fair.locked();
        state.free += self.units;
        give_back(&mut state.reviews, &self.review, self.units);
        give_back(&mut state.hosts, &self.host, self.units);
        drop(state);
        self.fair.grant();
    }
}

fn give_back<K: Hash + Eq>(held: &mut HashMap<K, usize>, by: &K, units: usize) {
    let left = held.get(by).map_or(0, |held| held.saturating_sub(units));
    match held.get_mut(by) {
        Some(held) if left > 0 => *held = left,
        _ => {
            held.remove(by);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use futures::future::join_all;

    use super::*;

    /// What `meter` is granted at once.
    async fn at_once(fair: &Arc<Fair>, meter: &Meter, host: &str) -> Option<Share> {
        let askers = Askers::of(Some(meter.clone()));
        askers.count(fair.take(1, host)).now_or_never()
    }

    async fn as_much_as_it_gets(fair: &Arc<Fair>, meter: &Meter, host: &str) -> Vec<Share> {
        let mut held = Vec::new();
        while let Some(share) = at_once(fair, meter, host).await {
            held.push(share);
        }
        held
    }

    #[tokio::test]
    async fn a_review_that_takes_all_it_can_leaves_as_much_for_the_next() {
        let fair = Fair::new(64, Sharing::LeaveAsMuch);
        let mut all = Vec::new();
        let mut held = Vec::new();
        for n in 0..4 {
            let hog = Meter::default();
            let shares = as_much_as_it_gets(&fair, &hog, &format!("host-{n}")).await;
            held.push(shares.len());
            all.push((hog, shares));
        }
        assert_eq!(held, [32, 16, 8, 4]);
        assert!(at_once(&fair, &Meter::default(), "sound").await.is_some());
    }

    #[tokio::test]
    async fn a_host_that_many_reviews_ask_leaves_as_much_for_others() {
        let fair = Fair::new(64, Sharing::LeaveAsMuch);
        let hogs: Vec<_> = (0..100).map(|_| Meter::default()).collect();
        let mut held = Vec::new();
        for hog in &hogs {
            held.extend(at_once(&fair, hog, "hostile").await);
        }
        assert_eq!(held.len(), 32);
        assert!(at_once(&fair, &Meter::default(), "sound").await.is_some());
    }

    #[tokio::test]
    async fn no_host_holds_more_than_its_share_and_waiters_are_served() {
        let fair = Fair::with_most_per_host(64, 2, Sharing::LeaveAsMuch);
        let meter = Meter::default();
        let mut held = as_much_as_it_gets(&fair, &meter, "host").await;
        assert_eq!(held.len(), 2);
        let mut waiting = Box::pin(meter.count(fair.take(1, "host")));
        assert!((&mut waiting).now_or_never().is_none());
        held.pop();
        assert!(waiting.now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_new_review_goes_before_a_costly_one() {
        let fair = Fair::new(1, Sharing::UseAll);
        let (hog, other) = (Meter::default(), Meter::default());
        let running = at_once(&fair, &hog, "hostile").await.unwrap();
        running.cost(1 << 20);
        let queue = |meter: &Meter, host| {
            Box::pin(Askers::of(Some(meter.clone())).count(fair.take(1, host)))
        };
        let mut junk: Vec<_> = (0..100).map(|_| queue(&hog, "hostile")).collect();
        assert!(join_all(junk.iter_mut()).now_or_never().is_none());
        let mut gone = queue(&other, "sound");
        assert!((&mut gone).now_or_never().is_none());
        drop(gone);
        let mut sound = queue(&other, "sound");
        assert!((&mut sound).now_or_never().is_none());
        drop(running);
        assert!(sound.now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_review_that_joins_a_greedy_fetch_keeps_its_own_turn() {
        let fair = Fair::new(8, Sharing::LeaveAsMuch);
        let hog = Meter::default();
        let _held = as_much_as_it_gets(&fair, &hog, "hostile").await;
        let shared = Askers::of(Some(hog));
        let mut fetch = Box::pin(shared.clone().count(fair.take(1, "sound")));
        assert!((&mut fetch).now_or_never().is_none());
        shared.join(Some(Meter::default()));
        assert!(fetch.now_or_never().is_some());
    }

    #[tokio::test]
    async fn what_goes_on_after_its_review_counts_as_one_more_review() {
        let fair = Fair::new(64, Sharing::LeaveAsMuch);
        let mut left = Vec::new();
        for n in 0..8 {
            let answered = Meter::default();
            answered.clone().count(async {}).await;
            left.extend(as_much_as_it_gets(&fair, &answered, &format!("host-{n}")).await);
        }
        assert_eq!(left.len(), 32);
    }
}
