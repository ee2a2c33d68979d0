//! Trust roots in TUF repositories, read in the background and never while a review waits.
//!
//! `sigstore-tuf` verifies what is fetched here: the chain of root files from the one that the resource holds, thresholds, versions
//! that never go back, expiry, sizes and hashes. What was verified last goes on while a repository cannot be read.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use promotion_gate_core::attest::TrustRoot;
use promotion_gate_core::gate::TrustRoots;
use serde_json::{Map, Value, json};
use sigstore_tuf::transport::FetchFuture;
use sigstore_tuf::{Error, MetadataStore, Repository, Updater, UpdaterConfig};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use url::Url;

use crate::api::TufRepository;
use crate::feeds::{ClockReading, after_failures, jittered, random, web};
use crate::oci::ClientOptions;
use crate::oci::web::{Question, Web};

/// Repositories that are asked at the same time.
const SIDE_BY_SIDE: usize = 4;
/// The longest attempt.
const ATTEMPT: Duration = Duration::from_secs(120);
/// The longest pause between two looks at what is due.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The largest trust root, in bytes.
const MAXIMUM_ROOT: u64 = 1 << 20;
/// The most bytes of metadata in a status.
const MAXIMUM_STATUS: usize = 512 << 10;
/// The most characters of a problem.
const MAXIMUM_PROBLEM: usize = 400;

/// The trust roots of some repositories.
pub struct TufRoots {
    web: ArcSwap<Result<Web, String>>,
    kept: Mutex<AllKept>,
    changed: Notify,
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

#[derive(Default)]
struct AllKept {
    roots: BTreeMap<String, Kept>,
    /// Grows with each change.
    revision: u64,
}

struct Kept {
    repository: TufRepository,
    files: VerifiedFiles,
    state: TufState,
    failures: u32,
    /// The uptime at which it is asked again.
    due: Duration,
}

/// Files that were verified, by the names that the library gives them.
#[derive(Clone, Default)]
struct VerifiedFiles(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl TufRoots {
    /// No repositories yet.
    pub fn new(options: &ClientOptions) -> TufRoots {
        TufRoots {
            web: ArcSwap::from_pointee(web(options)),
            kept: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Replaces the options, after the configuration changed. Repositories with a problem are asked at once.
    pub fn replace_options(&self, options: &ClientOptions) {
        self.web.store(Arc::new(web(options)));
        let mut kept = self.kept();
        let failed = kept.roots.values_mut();
        for root in failed.filter(|root| root.state.problem.is_some()) {
            root.due = Duration::ZERO;
        }
        drop(kept);
        self.changed.notify_one();
    }

    /// Replaces the set of repositories. One with the same address, target and initial root keeps what is known of it.
    pub fn replace(&self, repositories: BTreeMap<String, TufRepository>) {
        let mut kept = self.kept();
        let mut before = std::mem::take(&mut kept.roots);
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
                None => Kept {
                    repository,
                    files: VerifiedFiles::default(),
                    state: TufState::default(),
                    failures: 0,
                    due: Duration::ZERO,
                },
            };
            kept.roots.insert(name, entered);
        }
        kept.revision += 1;
        drop(kept);
        self.changed.notify_one();
    }

    /// Takes over what the status of a resource says, if nothing is known yet. It is verified as it was when it was fetched.
    pub fn restore(&self, name: &str, status: &Value, now: Timestamp) {
        let mut kept = self.kept();
        let Some(root) = kept.roots.get_mut(name) else {
            return;
        };
        let written = status.get("fetchedAt").and_then(Value::as_str);
        let fetched_at: Option<Timestamp> = written.and_then(|at| at.parse().ok());
        let Some(fetched_at) = fetched_at.filter(|at| *at <= now && root.state.root.is_none())
        else {
            return;
        };
        let files = VerifiedFiles::of_status(status, &root.repository);
        let saved = SavedRepository(files.clone(), root.repository.target.clone());
        let read = read(saved, name, &root.repository, &files, fetched_at).now_or_never();
        match read {
            Some(Ok(read)) => {
                root.files = files;
                root.state.root = Some(Arc::new(read));
                root.state.fetched_at = Some(fetched_at);
                kept.revision += 1;
            }
            Some(Err(why)) => {
                tracing::warn!(
                    name,
                    why,
                    "the trust root in the status of a resource does not count"
                );
            }
            None => {}
        }
    }

    /// What a status says of a trust root; empty for one that is in no repository.
    pub fn status(&self, name: &str) -> Map<String, Value> {
        let kept = self.kept();
        let Some(root) = kept.roots.get(name) else {
            return Map::new();
        };
        let mut status = Map::new();
        if let Some(at) = root.state.fetched_at {
            status.extend(root.files.status(&root.repository));
            status.insert("fetchedAt".to_owned(), json!(format!("{at:.0}")));
        }
        if let Some(problem) = &root.state.problem {
            status.insert("error".to_owned(), json!(problem));
        }
        status
    }

    /// The state of each trust root, by its name.
    pub fn states(&self) -> BTreeMap<String, TufState> {
        let kept = self.kept();
        let roots = kept.roots.iter();
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

    /// Roots whose repository cannot be read, one phrase each with the age of what is known.
    pub fn kept_since(&self) -> Vec<String> {
        let states = self.states().into_iter();
        let told = states.filter_map(|(name, state)| {
            let problem = state.problem?;
            Some(match state.fetched_at {
                Some(at) => format!("trust root `{name}` since {at:.0} ({problem})"),
                None => format!("no trust root `{name}` yet ({problem})"),
            })
        });
        told.collect()
    }

    /// Grows when a root or the set of repositories changes.
    pub fn revision(&self) -> u64 {
        self.kept().revision
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
            let due = self.kept().roots.values().map(|root| root.due).min();
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
            let due = kept.roots.iter().filter(|(_, root)| root.due <= now.uptime);
            due.map(|(name, root)| (name.clone(), root.repository.clone(), root.files.clone()))
                .collect()
        };
        let asked = futures::stream::iter(due).map(async |(name, repository, files)| {
            let web = WebRepository {
                web: self.web.load_full(),
                url: repository.url.clone(),
            };
            let read = AssertUnwindSafe(read(web, &name, &repository, &files, now.at));
            let read = match timeout(ATTEMPT, read.catch_unwind()).await {
                Ok(Ok(read)) => read,
                Ok(Err(_)) => Err("it cannot be verified: a panic".to_owned()),
                Err(_) => Err(format!("it was not read within {} s", ATTEMPT.as_secs())),
            };
            self.keep(&name, &repository, read, now);
        });
        asked.buffer_unordered(SIDE_BY_SIDE).collect::<()>().await;
    }

    /// Keeps what an attempt learned, unless the repository was replaced meanwhile.
    fn keep(
        &self,
        name: &str,
        of: &TufRepository,
        read: Result<TrustRoot, String>,
        now: ClockReading,
    ) {
        let mut kept = self.kept();
        let AllKept { roots, revision } = &mut *kept;
        let Some(root) = roots.get_mut(name).filter(|root| root.repository == *of) else {
            return;
        };
        let refresh = of.refresh.unsigned_abs();
        match read {
            Ok(read) => {
                let id = |root: &TrustRoot| root.id().to_owned();
                let is_new = root.state.root.as_deref().map(id) != Some(id(&read));
                if is_new {
                    tracing::info!(name, id = read.id(), "a trust root is in force");
                    root.state.root = Some(Arc::new(read));
                }
                root.state.fetched_at = Some(now.at);
                root.state.problem = None;
                root.failures = 0;
                root.due = now.uptime + jittered(refresh, random());
            }
            Err(problem) => {
                let problem: String = problem.chars().take(MAXIMUM_PROBLEM).collect();
                if root.state.problem.as_ref() != Some(&problem) {
                    let since = root.state.fetched_at.map(|at| format!("{at:.0}"));
                    tracing::error!(name, problem, since, "a trust root cannot be read");
                }
                root.state.problem = Some(problem);
                root.failures = root.failures.saturating_add(1);
                root.due = now.uptime + jittered(after_failures(root.failures, refresh), random());
            }
        }
        *revision += 1;
    }

    fn kept(&self) -> MutexGuard<'_, AllKept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        let late = || format!("it was not read within {} s", within.as_secs());
        (name, state.problem.unwrap_or_else(late))
    });
    (roots.roots(), unread.collect())
}

/// Reads and verifies the trust root of a repository.
async fn read(
    from: impl Repository + 'static,
    name: &str,
    repository: &TufRepository,
    files: &VerifiedFiles,
    now: Timestamp,
) -> Result<TrustRoot, String> {
    let mut limits = UpdaterConfig::default();
    limits.target_max_length = MAXIMUM_ROOT;
    let updater = Updater::new(from, &repository.initial_root).map_err(said)?;
    let mut updater = updater.with_config(limits).with_store(files.clone());
    updater.refresh(now).await.map_err(said)?;
    let json = updater.get_target(&repository.target, now).await;
    let root = TrustRoot::parse(name, &json.map_err(said)?);
    root.map_err(|error| error.to_string())
}

/// An error with its causes.
fn said(error: Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// A repository that is asked over HTTP.
struct WebRepository {
    web: Arc<Result<Web, String>>,
    url: Url,
}

impl WebRepository {
    async fn get(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let web = self.web.as_ref().as_ref();
        let web = web.map_err(|why| Error::transport(why.clone()))?;
        let url = self.url.join(path);
        let url = url.map_err(|_| Error::transport(format!("`{path:.80}` is no path")))?;
        let question = Question {
            url: &url,
            accept: "application/json, */*;q=0.5",
            authorization: None,
            validators: None,
            limit,
        };
        match web.get(&question).await {
            Ok(content) => Ok(content.map(|content| content.body.to_vec())),
            Err(failure) if failure.is_missing => Ok(None),
            Err(failure) => Err(Error::transport(failure.why)),
        }
    }
}

impl Repository for WebRepository {
    fn fetch_metadata<'a>(&'a self, name: &'a str, max_length: u64) -> FetchFuture<'a> {
        Box::pin(self.get(name, max_length))
    }

    fn fetch_target<'a>(&'a self, path: &'a str, max_length: u64) -> FetchFuture<'a> {
        Box::pin(async move { self.get(&format!("targets/{path}"), max_length).await })
    }
}

/// The files of a status as a repository, and the name of its target.
struct SavedRepository(VerifiedFiles, String);

impl Repository for SavedRepository {
    fn fetch_metadata<'a>(&'a self, name: &'a str, _: u64) -> FetchFuture<'a> {
        let (_, unversioned) = name.split_once('.').unwrap_or_default();
        let root = format!("root_history/{name}");
        let names = match name.ends_with(".root.json") {
            true => vec![root.as_str()],
            false => vec![name, unversioned],
        };
        let found = names.into_iter().find_map(|name| self.0.get(name));
        Box::pin(async move { Ok(found) })
    }

    fn fetch_target<'a>(&'a self, _: &'a str, _: u64) -> FetchFuture<'a> {
        let found = self.0.get(&target_file(&self.1));
        Box::pin(async move { Ok(found) })
    }
}

fn target_file(target: &str) -> String {
    format!("targets/{target}")
}

impl VerifiedFiles {
    fn get(&self, name: &str) -> Option<Vec<u8>> {
        self.files().get(name).cloned()
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fields of a status that hold the files; without the metadata if that is too large.
    fn status(&self, repository: &TufRepository) -> Map<String, Value> {
        let target = target_file(&repository.target);
        let mut files = self.files().clone();
        files.remove("root.json");
        let root = files.remove(&target).unwrap_or_default();
        let size: usize = files.values().map(Vec::len).sum();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).map(Value::String).ok();
        let metadata = files
            .into_iter()
            .filter_map(|(name, bytes)| Some((name, text(bytes)?)));
        let mut status = Map::new();
        if size <= MAXIMUM_STATUS {
            status.insert("metadata".to_owned(), Value::Object(metadata.collect()));
            status.extend(text(root).map(|root| ("lastValidRoot".to_owned(), root)));
        }
        status
    }

    fn of_status(status: &Value, repository: &TufRepository) -> VerifiedFiles {
        let metadata = status.get("metadata").and_then(Value::as_object);
        let metadata = metadata.into_iter().flatten();
        let root = status.get("lastValidRoot");
        let target = root.map(|root| (target_file(&repository.target), root));
        let all = metadata
            .map(|(name, text)| (name.clone(), text))
            .chain(target);
        let files = all.filter_map(|(name, text)| Some((name, text.as_str()?.into())));
        VerifiedFiles(Arc::new(Mutex::new(files.collect())))
    }
}

impl MetadataStore for VerifiedFiles {
    fn load(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.get(name))
    }

    fn store(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.files().insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }
}
