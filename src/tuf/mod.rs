//! Trust roots in TUF repositories, read in the background and never while a review waits.
//!
//! `sigstore-tuf` verifies what is fetched: the chain of root files from the one that the resource holds, thresholds, versions that
//! never go back, expiry, sizes and hashes. What was verified last goes on while a repository cannot be read.
//!
//! One replica reads the repositories of resources and writes what it read, signatures and all, into their statuses. Every replica
//! verifies that copy as of its own time and decides by it. Who can write a status can at most put back an earlier copy, and only
//! before a replica has seen a later one, or make a copy look younger, as far as its metadata had not expired then.
//!
//! * `read` — one reading
//! * `files` — files that were verified

mod files;
mod read;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::{FutureExt as _, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use promotion_gate_core::attest::TrustRoot;
use promotion_gate_core::gate::TrustRoots;
use serde_json::{Map, Value};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::api::TufRepository;
use crate::feeds::{ClockReading, after_failures, jittered, random, web};
use crate::oci::ClientOptions;
use crate::oci::web::Web;
use files::{Copy, Files, Store, too_large};
use read::{CopiedRepository, WebRepository, read, shown};

pub(crate) use files::FIELDS;

/// Repositories that are asked at the same time.
const SIDE_BY_SIDE: usize = 4;
/// The longest attempt.
const ATTEMPT: Duration = Duration::from_secs(120);
/// The longest wait after a failure.
const LONGEST_WAIT: Duration = Duration::from_secs(30 * 60);
/// The longest pause between two looks at what is due.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// After so many times of `refresh` without a reading, nobody reads a repository any more.
const OVERDUE: i32 = 3;

/// The trust roots of some repositories.
pub struct TufRoots {
    web: ArcSwap<Result<Web, String>>,
    kept: Mutex<BTreeMap<String, Kept>>,
    changed: Notify,
    /// Grows with each change.
    revision: watch::Sender<u64>,
}

/// What is known of a trust root in a repository.
#[derive(Clone, Debug, Default)]
pub struct TufState {
    /// The last one that was verified.
    pub root: Option<Arc<TrustRoot>>,
    /// When the repository was read last.
    pub fetched_at: Option<Timestamp>,
    /// Why it could not be read since.
    pub problem: Option<String>,
}

struct Kept {
    repository: TufRepository,
    state: TufState,
    /// The files that `state.root` was verified by.
    files: Files,
    /// These, and what attempts verified since that failed in the end: nothing older is accepted.
    floor: Files,
    /// What the status said when it was looked at last.
    copy: Copy,
    failures: u32,
    /// The uptime at which the repository is asked again.
    due: Duration,
}

impl TufRoots {
    /// No repositories yet.
    pub fn new(options: &ClientOptions) -> TufRoots {
        TufRoots {
            web: ArcSwap::from_pointee(web(options)),
            kept: Mutex::default(),
            changed: Notify::new(),
            revision: watch::Sender::new(0),
        }
    }

    /// Replaces the options, after the configuration changed. Repositories with a problem are asked at once.
    pub fn replace_options(&self, options: &ClientOptions) {
        self.web.store(Arc::new(web(options)));
        let mut kept = self.kept();
        let failed = kept.values_mut();
        for root in failed.filter(|root| root.state.problem.is_some()) {
            root.due = Duration::ZERO;
        }
        drop(kept);
        self.changed.notify_one();
    }

    /// Replaces the set of repositories. One with the same address, target and initial root keeps what is known of it.
    pub fn replace(&self, repositories: BTreeMap<String, TufRepository>) {
        let mut kept = self.kept();
        let mut before = std::mem::take(&mut *kept);
        for (name, repository) in repositories {
            let earlier = before.remove(&name);
            let earlier = earlier.filter(|earlier| earlier.repository.is_same_source(&repository));
            let entered = match earlier {
                Some(same) if same.repository == repository => same,
                Some(same) => Kept {
                    repository,
                    due: Duration::ZERO,
                    ..same
                },
                None => Kept::new(repository),
            };
            kept.insert(name, entered);
        }
        drop(kept);
        self.note_change();
        self.changed.notify_one();
    }

    /// Takes over what a status says that another replica may have written: its copy, unless that goes back behind what is known, and
    /// why the repository could not be read since.
    pub fn follow(&self, name: &str, status: &Value, now: Timestamp) {
        let mut kept = self.kept();
        let Some(root) = kept.get_mut(name) else {
            return;
        };
        if root.note(status) {
            root.state.problem.clone_from(&root.copy.problem);
            // Clocks differ: another copy counts although this one's says that it is earlier.
            let is_other = root.copy.files != root.files;
            let at = root
                .copied_at(now)
                .filter(|at| is_other || root.is_later(*at));
            if let Some(Err(why)) = at.map(|at| root.restore(name, at)) {
                root.state.problem = Some(why);
            }
            drop(kept);
            self.note_change();
        }
    }

    /// Takes over the copy in a status, if that is a later one than is known.
    pub fn restore(&self, name: &str, status: &Value, now: Timestamp) {
        let mut kept = self.kept();
        let Some(root) = kept.get_mut(name) else {
            return;
        };
        if root.note(status) {
            let at = root.copied_at(now).filter(|at| root.is_later(*at));
            if at.is_some_and(|at| root.restore(name, at).is_ok()) {
                drop(kept);
                self.note_change();
            }
        }
    }

    /// What a status says of a trust root; empty for one that is in no repository.
    pub fn status(&self, name: &str) -> Map<String, Value> {
        let kept = self.kept();
        let written = kept
            .get(name)
            .map(|root| files::written(&root.files, &root.state, &root.repository.target));
        written.unwrap_or_default()
    }

    /// The state of each trust root, by its name.
    pub fn states(&self) -> BTreeMap<String, TufState> {
        let kept = self.kept();
        let roots = kept.iter();
        roots
            .map(|(name, root)| (name.clone(), root.state.clone()))
            .collect()
    }

    /// The trust roots that are known.
    pub fn roots(&self) -> TrustRoots {
        let states = self.states().into_iter();
        states
            .filter_map(|(name, state)| Some((name, state.root?)))
            .collect()
    }

    /// The roots that are not as their repositories have them now, one sentence each with the age of what is known.
    pub fn problems(&self, now: Timestamp) -> Vec<String> {
        let kept = self.kept();
        let told = kept.iter().filter_map(|(name, root)| {
            let why = root.problem(now)?;
            Some(match root.state.fetched_at {
                Some(at) => format!("the trust root `{name}` is as of {at}: {why}"),
                None => format!("the trust root `{name}` is not known yet: {why}"),
            })
        });
        told.collect()
    }

    /// Grows when a root or the set of repositories changes.
    pub fn revision(&self) -> u64 {
        *self.revision.borrow()
    }

    /// Says when that happens.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Asks the repositories when they are due, for ever.
    pub async fn keep_current(self: Arc<Self>) -> Infallible {
        let start = Instant::now();
        loop {
            let now = ClockReading {
                at: Timestamp::now(),
                uptime: start.elapsed(),
            };
            self.ask_due(now).await;
            let due = self.kept().values().map(|root| root.due).min();
            let pause = due.unwrap_or(LONGEST_PAUSE).saturating_sub(start.elapsed());
            tokio::select! {
                () = self.changed.notified() => {}
                () = sleep(pause.min(LONGEST_PAUSE)) => {}
            }
        }
    }

    /// Asks the repositories that are due at a moment, and waits for their answers.
    pub async fn ask_due(&self, now: ClockReading) {
        let due: Vec<_> = {
            let kept = self.kept();
            let due = kept.iter().filter(|(_, root)| root.due <= now.uptime);
            due.map(|(name, root)| {
                (
                    name.clone(),
                    root.repository.clone(),
                    Store::of(&root.floor),
                )
            })
            .collect()
        };
        let asked = futures::stream::iter(due).map(async |(name, repository, store)| {
            let web = WebRepository {
                web: self.web.load_full(),
                url: repository.url.clone(),
            };
            let read = AssertUnwindSafe(read(web, &name, &repository, &store, now.at));
            let read = match timeout(ATTEMPT, read.catch_unwind()).await {
                Ok(Ok(read)) => read,
                Ok(Err(_)) => Err("it cannot be verified: a panic".to_owned()),
                Err(_) => Err(format!("it was not read within {} s", ATTEMPT.as_secs())),
            };
            self.keep(&name, &repository, read, &store, now);
        });
        asked.buffer_unordered(SIDE_BY_SIDE).collect::<()>().await;
    }

    /// Keeps what an attempt learned, unless the repository was replaced meanwhile.
    fn keep(
        &self,
        name: &str,
        of: &TufRepository,
        read: Result<TrustRoot, String>,
        store: &Store,
        now: ClockReading,
    ) {
        let mut kept = self.kept();
        let Some(root) = kept.get_mut(name).filter(|root| root.repository == *of) else {
            return;
        };
        let refresh = of.refresh.unsigned_abs();
        match read {
            Ok(read) => {
                root.succeed(name, read, store, now.at);
                root.failures = 0;
                root.due = now.uptime + jittered(refresh, random());
            }
            Err(problem) => {
                if root.state.problem.as_ref() != Some(&problem) {
                    let since = root.state.fetched_at.map(|at| at.to_string());
                    tracing::error!(name, problem, since, "a trust root cannot be read");
                }
                let floor = store.files(&of.target);
                if too_large(&floor).is_none() {
                    root.floor = floor;
                }
                root.state.problem = Some(problem);
                root.failures = root.failures.saturating_add(1);
                let wait = after_failures(root.failures, refresh.min(LONGEST_WAIT));
                root.due = now.uptime + jittered(wait, random());
            }
        }
        drop(kept);
        self.note_change();
    }

    fn note_change(&self) {
        self.revision.send_modify(|revision| *revision += 1);
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<String, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn new(repository: TufRepository) -> Kept {
        Kept {
            repository,
            state: TufState::default(),
            files: Files::new(),
            floor: Files::new(),
            copy: Copy::default(),
            failures: 0,
            due: Duration::ZERO,
        }
    }

    /// Keeps a root that was verified.
    fn succeed(&mut self, name: &str, read: TrustRoot, store: &Store, at: Timestamp) {
        let before = self.state.root.as_deref().map(TrustRoot::id);
        if before != Some(read.id()) {
            tracing::info!(name, id = read.id(), "a trust root is in force");
            self.state.root = Some(Arc::new(read));
        }
        self.files = store.files(&self.repository.target);
        self.floor.clone_from(&self.files);
        self.state.fetched_at = Some(whole_seconds(at));
        self.state.problem = None;
    }

    /// Notes what a status says. Says whether that is new.
    fn note(&mut self, status: &Value) -> bool {
        let copy = Copy::of(status, &self.repository.target);
        let is_new = copy != self.copy;
        self.copy = copy;
        is_new
    }

    /// When the copy that was noted was read. A clock that is ahead of this one makes it no younger.
    fn copied_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.copy.fetched_at.map(|at| at.min(now))
    }

    fn is_later(&self, at: Timestamp) -> bool {
        self.state.fetched_at.is_none_or(|known| known < at)
    }

    /// Keeps the copy that was noted, if it is valid.
    fn restore(&mut self, name: &str, at: Timestamp) -> Result<(), String> {
        // It is whole by itself, and goes back behind nothing that is known.
        let store = Store::of(&self.floor);
        let read = self
            .read_copy(name, &Store::default(), at)
            .and_then(|_| self.read_copy(name, &store, at));
        match read {
            Ok(read) => {
                let problem = self.state.problem.take();
                self.succeed(name, read, &store, at);
                self.state.problem = problem;
                Ok(())
            }
            Err(why) => {
                let why = shown(&format!("the copy in its `status` does not count: {why}"));
                tracing::warn!(name, why, "the status of a trust root does not count");
                Err(why)
            }
        }
    }

    fn read_copy(&self, name: &str, store: &Store, at: Timestamp) -> Result<TrustRoot, String> {
        let from = CopiedRepository {
            files: self.copy.files.clone(),
            target: self.repository.target.clone(),
        };
        let read = AssertUnwindSafe(read(from, name, &self.repository, store, at));
        let read = read.catch_unwind().now_or_never().and_then(Result::ok);
        read.unwrap_or_else(|| Err("a panic".to_owned()))
    }

    /// Why the root is not as the repository has it now.
    fn problem(&self, now: Timestamp) -> Option<String> {
        let state = &self.state;
        let is_overdue = state.fetched_at.is_some_and(|at| {
            let most = self.repository.refresh.saturating_mul(OVERDUE);
            now.duration_since(at) > most.max(SignedDuration::from_mins(5))
        });
        let overdue = || "its repository was not read since".to_owned();
        let problem = state.problem.clone();
        problem.or_else(|| is_overdue.then(overdue))
    }
}

/// The second in which an instant is: a root is never younger than it is.
fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// Reads repositories once, within a time: the roots, and why the rest could not be read.
pub async fn read_once(
    repositories: BTreeMap<String, TufRepository>,
    options: &ClientOptions,
    within: Duration,
) -> (TrustRoots, BTreeMap<String, String>) {
    let roots = TufRoots::new(options);
    roots.replace(repositories);
    let now = ClockReading {
        at: Timestamp::now(),
        uptime: Duration::ZERO,
    };
    let _ = timeout(within, roots.ask_due(now)).await;
    let unread = roots
        .states()
        .into_iter()
        .filter(|(_, it)| it.root.is_none());
    let unread = unread.map(|(name, state)| {
        let late = || format!("it was not read within {} s", within.as_secs_f32());
        (name, state.problem.unwrap_or_else(late))
    });
    (roots.roots(), unread.collect())
}
