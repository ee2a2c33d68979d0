//! Something scarce, shared fairly between the reviews that ask for it and the registries that they ask for: connections,
//! room for answers, processors, threads for DNS. Whoever asks for little is served while others ask for much.

use std::collections::HashMap;
use std::hash::Hash;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::meter::{Askers, Meter, NOBODY};

/// How much one review, or one host, may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// No more than is then still free, so that something is left for whoever comes next. For what is held for long.
    LeaveAsMuch,
    /// Everything, if nobody else waits. For what is given back soon.
    UseAll,
}

/// So many units of something.
pub(crate) struct Fair {
    rule: Sharing,
    /// The most that one host may hold, whatever is free.
    per_host: usize,
    state: Mutex<State>,
}

struct State {
    free: usize,
    /// What is held, by review and by host.
    reviews: HashMap<usize, usize>,
    hosts: HashMap<Arc<str>, usize>,
    waiting: Vec<Waiter>,
    /// Counts what was granted, and when each host was last.
    granted: u64,
    last: HashMap<Arc<str>, u64>,
}

/// Hosts of which it is remembered when they were served.
const HOSTS: usize = 1024;

/// Who is served first, the least one: held and spent by the review, held by the host and when it was served, arrival.
type Rank = (usize, u64, usize, u64, usize);

struct Waiter {
    askers: Askers,
    host: Arc<str>,
    units: usize,
    send: oneshot::Sender<Share>,
}

/// What was granted; it is given back when this is dropped.
pub(crate) struct Share {
    fair: Arc<Fair>,
    /// The review that holds it; kept, so that its number is not given to another one meanwhile.
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

    /// Waits for so many units, for whoever the running task works for, to be used for `host`.
    pub(crate) async fn take(self: &Arc<Fair>, units: usize, host: &str) -> Share {
        loop {
            let askers = Askers::current();
            let (send, receive) = oneshot::channel();
            // One that joins meanwhile may be served before those that began.
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

    /// Serves whoever can be, in turn.
    fn grant(self: &Arc<Fair>) {
        loop {
            let Some((send, share)) = self.locked().next(self) else {
                return;
            };
            // One that has gone gives it back at once.
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
    /// Who is served next: the review that holds least, then that which has cost least, then the host that holds least and
    /// was not served for longest; then who came first.
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
            let nobody = members.is_empty().then_some((NOBODY, 0));
            for (member, (review, work)) in reviews.chain(nobody).enumerate() {
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
    /// Notes what the holder cost, which counts when it asks again.
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
