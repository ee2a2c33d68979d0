//! One reading of a repository: what is fetched, within which bounds, and verified.

use std::sync::Arc;

use jiff::Timestamp;
use promotion_gate_core::attest::TrustRoot;
use sigstore_tuf::transport::FetchFuture;
use sigstore_tuf::{Error, Repository, Updater, UpdaterConfig};
use url::Url;

use super::files::{Files, MAXIMUM_COPY, Store, target_file, too_large};
use crate::api::TufRepository;
use crate::oci::web::{Question, Web};
use crate::text;

/// The most bytes of one `root.json`.
const MAXIMUM_ROOT_FILE: u64 = 128 << 10;
/// The most root files that one reading follows.
const MAXIMUM_ROTATIONS: u32 = 200;
/// The most characters of a problem.
const MAXIMUM_PROBLEM: usize = 400;

/// Reads and verifies the trust root of a repository. The store holds what is known: nothing older than that is accepted. What is
/// verified is added to it.
pub(super) async fn read(
    from: impl Repository + 'static,
    name: &str,
    repository: &TufRepository,
    store: &Store,
    now: Timestamp,
) -> Result<TrustRoot, String> {
    let most = MAXIMUM_COPY as u64;
    let mut limits = UpdaterConfig::default();
    limits.root_max_length = MAXIMUM_ROOT_FILE;
    limits.max_root_rotations = MAXIMUM_ROTATIONS;
    limits.snapshot_max_length = most;
    limits.targets_max_length = most;
    limits.target_max_length = most;
    let updater = Updater::new(from, &repository.initial_root).map_err(said)?;
    let mut updater = updater.with_config(limits).with_store(store.clone());
    updater.refresh(now).await.map_err(said)?;
    let json = updater.get_target(&repository.target, now).await;
    let root = TrustRoot::parse(name, &json.map_err(said)?);
    let root = root.map_err(|error| shown(&error.to_string()))?;
    match too_large(&store.files(&repository.target)) {
        None => Ok(root),
        Some(why) => Err(why),
    }
}

/// An error with its causes.
fn said(error: Error) -> String {
    let text = error.to_string();
    let mut text = text
        .strip_prefix("transport error: ")
        .unwrap_or(&text)
        .to_owned();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    shown(&text)
}

/// A problem as others may see it: it can hold what a repository wrote.
pub(super) fn shown(problem: &str) -> String {
    let cut: String = problem.chars().take(MAXIMUM_PROBLEM).collect();
    text::line(&cut)
}

/// A repository that is asked over HTTP.
pub(super) struct WebRepository {
    pub(super) web: Arc<Result<Web, String>>,
    pub(super) url: Url,
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
            // The root files end where there is no next one.
            Err(failure) if failure.is_missing && path.ends_with(".root.json") => Ok(None),
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

/// The copy in a status as a repository. It answers at once.
pub(super) struct CopiedRepository {
    pub(super) files: Files,
    pub(super) target: String,
}

impl Repository for CopiedRepository {
    fn fetch_metadata<'a>(&'a self, name: &'a str, _: u64) -> FetchFuture<'a> {
        let found = match name.ends_with(".root.json") {
            true => self.files.get(&format!("root_history/{name}")),
            // Copies are kept without the version in their names.
            false => {
                let (_, unversioned) = name.split_once('.').unwrap_or_default();
                let found = self.files.get(name);
                found.or_else(|| self.files.get(unversioned))
            }
        };
        let found = found.cloned();
        Box::pin(async move { Ok(found) })
    }

    fn fetch_target<'a>(&'a self, _: &'a str, _: u64) -> FetchFuture<'a> {
        let found = self.files.get(&target_file(&self.target)).cloned();
        Box::pin(async move { Ok(found) })
    }
}
