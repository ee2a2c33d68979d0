//! Platforms: who wrote, pushed and merged the commits of a range, read from the API of GitHub or GitLab.
//!
//! What an answer lacks is not learned, and never taken for "nobody". An author whom the platform does not name makes the record
//! incomplete, with the reason; a request that fails ends the reading.

mod github;
mod gitlab;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use promotion_gate_core::attest::predicate::{
    ChangeAuthor, ChangeIdentity, ChangePullRequest, ChangeRecord, ChangeRole, ChangedCommit,
    ChangedRepository, CommitId, MAXIMUM_COMMITS, MAXIMUM_UNKNOWN,
};
use serde::de::DeserializeOwned;
use tokio::time::sleep;
use url::Url;

use crate::oci::ClientOptions;
use crate::oci::site::{RateLimit, Site, SiteFailure};

/// The most bytes of one answer.
const ANSWER_BYTES: u64 = 16 << 20;
/// The most bytes of all answers.
const ALL_BYTES: u64 = 256 << 20;
/// The most requests: a few for each commit and each pull request.
const REQUESTS: usize = 20_000;
/// The most pages of a list.
const PAGES: usize = 50;
/// Requests that are under way at the same time. Platforms limit how many they answer side by side.
const SIDE_BY_SIDE: usize = 4;
/// What a limit without a time waits.
const UNSAID_LIMIT: Duration = Duration::from_secs(60);

/// Why a change cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConnectError(String);

/// A platform whose API is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectedPlatform {
    Github,
    Gitlab,
}

/// The range of a repository whose authors are asked for.
#[derive(Clone, Debug)]
pub struct ChangeQuestion {
    pub platform: ConnectedPlatform,
    /// The host of the repository, with a port if it is not the usual one.
    pub host: String,
    /// The path of the repository, such as `example/app`.
    pub path: String,
    /// A full commit or the name of a tag.
    pub from: String,
    pub to: CommitId,
    /// The branch that the commits are on; the default branch when absent.
    pub branch: Option<String>,
    pub token: Option<String>,
    /// How long rate limits are waited for, all together.
    pub patience: Duration,
}

/// Reads a change from its platform. `progress` is called with the numbers of commits and pull requests that are done.
///
/// # Errors
/// Why it cannot be read, with what to do.
pub async fn change(
    question: &ChangeQuestion,
    options: &ClientOptions,
    progress: impl Fn(&str) + Send + Sync,
) -> Result<ChangeRecord, ConnectError> {
    let (host, path) = match question.platform {
        ConnectedPlatform::Github if question.host == "github.com" => ("api.github.com", ""),
        ConnectedPlatform::Github => (question.host.as_str(), "/api/v3"),
        ConnectedPlatform::Gitlab => (question.host.as_str(), "/api/v4"),
    };
    let site = Site::new(options, host, path, question.token.as_deref());
    let api = Api {
        site: site.map_err(|error| ConnectError(error.to_string()))?,
        requests: AtomicUsize::new(0),
        bytes: AtomicU64::new(0),
        patience: tokio::sync::Mutex::new(question.patience),
        progress: &progress,
    };
    let found = match question.platform {
        ConnectedPlatform::Github => github::change(&api, question).await?,
        ConnectedPlatform::Gitlab => gitlab::change(&api, question).await?,
    };
    Ok(found.into_record(question))
}

/// The API of a platform, with what may still be asked of it.
struct Api<'a> {
    site: Site,
    requests: AtomicUsize,
    bytes: AtomicU64,
    /// What is left of the time for rate limits. A request that waits holds it, so that no other one asks meanwhile.
    patience: tokio::sync::Mutex<Duration>,
    progress: &'a (dyn Fn(&str) + Send + Sync),
}

/// A list, and whether it goes on after the last page that was read.
struct List<T> {
    items: Vec<T>,
    cut: bool,
}

impl Api<'_> {
    /// One object.
    async fn one<T: DeserializeOwned>(
        &self,
        parts: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, ConnectError> {
        Ok(self.page(&self.site.url(parts, query)).await?.0)
    }

    /// All pages of a list.
    async fn all<T: DeserializeOwned>(
        &self,
        parts: &[&str],
        query: &[(&str, &str)],
    ) -> Result<List<T>, ConnectError> {
        let query: Vec<_> = query.iter().copied().chain([("per_page", "100")]).collect();
        let mut url = self.site.url(parts, &query);
        let mut items = Vec::new();
        for _ in 0..PAGES {
            let (page, next): (Vec<T>, _) = self.page(&url).await?;
            items.extend(page);
            match next {
                Some(next) => url = next,
                None => return Ok(List { items, cut: false }),
            }
        }
        Ok(List { items, cut: true })
    }

    /// All pages of a list that must be whole.
    async fn whole<T: DeserializeOwned>(
        &self,
        parts: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Vec<T>, ConnectError> {
        let List { items, cut } = self.all(parts, query).await?;
        if cut {
            let url = self.site.url(parts, query);
            return Err(ConnectError(format!(
                "`GET {url}`: the list is longer than {PAGES} pages"
            )));
        }
        Ok(items)
    }

    /// The numbers of the merged pull requests of all commits, and the commits that none of them brought to the branch. `listed`
    /// asks for the pull requests of a commit; `merged` is the number and the target branch of one that is merged.
    async fn merged<T>(
        &self,
        commits: &[Node],
        branch: &str,
        listed: impl AsyncFn(&str) -> Result<Vec<T>, ConnectError>,
        merged: impl Fn(T) -> Option<(u64, String)>,
    ) -> Result<(BTreeSet<u64>, BTreeSet<CommitId>), ConnectError> {
        let listed = &listed;
        let mut asked = futures::stream::iter(commits)
            .map(|node| async move { Ok((node, listed(node.sha.as_str()).await?)) })
            .buffered(SIDE_BY_SIDE);
        let (mut numbers, mut orphans) = (BTreeSet::new(), BTreeSet::new());
        let mut done = 0;
        while let Some((node, pulls)) = asked.try_next().await? {
            done += 1;
            (self.progress)(&format!("commit {done} of {}", commits.len()));
            let merged: Vec<_> = pulls.into_iter().filter_map(&merged).collect();
            if merged.iter().all(|(_, target)| target != branch) {
                orphans.insert(node.sha.clone());
            }
            numbers.extend(merged.into_iter().map(|(number, _)| number));
        }
        Ok((numbers, orphans))
    }

    async fn page<T: DeserializeOwned>(&self, url: &Url) -> Result<(T, Option<Url>), ConnectError> {
        loop {
            drop(self.patience.lock().await);
            if self.requests.fetch_add(1, Ordering::Relaxed) >= REQUESTS {
                return Err(ConnectError(format!(
                    "more than {REQUESTS} requests are needed; choose a shorter range with `--from`"
                )));
            }
            let answer = match self.site.get(url, ANSWER_BYTES).await {
                Ok(answer) => answer,
                Err(SiteFailure::Limited(limit)) => {
                    self.wait(limit, url).await?;
                    continue;
                }
                Err(SiteFailure::Other(error)) => return Err(ConnectError(error.to_string())),
            };
            let length = u64::try_from(answer.body.len()).unwrap_or(u64::MAX);
            if self.bytes.fetch_add(length, Ordering::Relaxed) > ALL_BYTES {
                return Err(ConnectError(format!(
                    "the answers are larger than {ALL_BYTES} bytes; choose a shorter range with `--from`"
                )));
            }
            let read = serde_json::from_slice(&answer.body).map_err(|error| {
                let tried = &answer.tried;
                ConnectError(format!(
                    "{tried}: the answer is not in the expected form: {error}"
                ))
            })?;
            return Ok((read, answer.next));
        }
    }

    /// Waits until a rate limit ends, as far as the patience goes.
    async fn wait(&self, limit: RateLimit, url: &Url) -> Result<(), ConnectError> {
        let mut patience = self.patience.lock().await;
        let wait = limit.wait(Timestamp::now()).unwrap_or(UNSAID_LIMIT);
        // Never at once, so that the patience ends.
        let wait = wait.max(Duration::from_secs(1));
        if wait > *patience {
            let seconds = wait.as_secs();
            return Err(ConnectError(format!(
                "`GET {url}`: the platform limits the rate of requests for another {seconds} seconds; run the command again \
                 then, let it wait with `--wait {seconds}`, or use a token with a higher limit"
            )));
        }
        *patience = patience.saturating_sub(wait);
        (self.progress)(&format!(
            "waiting {} seconds for the platform's rate limit",
            wait.as_secs()
        ));
        sleep(wait).await;
        Ok(())
    }
}

/// A commit, and the commits that it follows.
struct Node {
    sha: CommitId,
    parents: Vec<String>,
    authors: BTreeSet<ChangeIdentity>,
}

/// One push to a branch.
struct Push {
    /// The last commit before; `None` if the branch did not exist.
    before: Option<String>,
    after: String,
    /// `None` if the account is deleted.
    actor: Option<ChangeIdentity>,
    /// Whether the push certainly only added commits.
    only_adds: bool,
}

/// What is learned of a change.
struct Found {
    repository: ChangedRepository,
    from: CommitId,
    commits: Vec<Node>,
    authors: BTreeSet<ChangeAuthor>,
    unknown: BTreeSet<String>,
    pull_requests: Vec<ChangePullRequest>,
}

impl Found {
    fn new(repository: ChangedRepository, from: CommitId) -> Found {
        Found {
            repository,
            from,
            commits: Vec::new(),
            authors: BTreeSet::new(),
            unknown: BTreeSet::new(),
            pull_requests: Vec::new(),
        }
    }

    fn add(&mut self, identity: ChangeIdentity, role: ChangeRole, pull_request: Option<u64>) {
        self.authors.insert(ChangeAuthor {
            identity,
            role,
            pull_request,
        });
    }

    /// Adds somebody whom the platform should name, or why the record is incomplete.
    fn expect(
        &mut self,
        identity: Option<ChangeIdentity>,
        role: ChangeRole,
        pull_request: Option<u64>,
        unknown: impl FnOnce() -> String,
    ) {
        match identity {
            Some(identity) => self.add(identity, role, pull_request),
            None => {
                self.unknown.insert(unknown());
            }
        }
    }

    /// Adds who pushed the commits of the pull request `number`, `pushes` to its branch. `noun` is what the platform calls it.
    fn add_pushers_of(
        &mut self,
        (noun, number): (&str, u64),
        head: &str,
        commits: &BTreeSet<&str>,
        pushes: &[Push],
    ) {
        match pushes_of(head, commits, pushes) {
            Ok(pushes) => {
                for push in pushes {
                    self.expect(push.actor.clone(), ChangeRole::Pushed, Some(number), || {
                        format!("an account that is deleted pushed to {noun} {number}")
                    });
                }
            }
            Err(why) => {
                self.unknown.insert(format!("{noun} {number}: {why}"));
            }
        }
    }

    /// Adds the pushers of commits that came without a pull request.
    fn add_pushers(&mut self, orphans: &BTreeSet<CommitId>, branch: &str, pushes: &[Push]) {
        let parents: BTreeMap<_, _> = self
            .commits
            .iter()
            .map(|node| (node.sha.as_str().to_owned(), node.parents.clone()))
            .collect();
        let mut left: BTreeSet<_> = orphans.iter().map(CommitId::as_str).collect();
        for push in pushes {
            let before = push.before.as_deref();
            let old = before.map_or_else(BTreeSet::new, |before| reach(&parents, before));
            let new = reach(&parents, &push.after);
            let mut brought = new
                .difference(&old)
                .filter(|sha| orphans.iter().any(|it| it.as_str() == **sha))
                .peekable();
            if brought.peek().is_none() {
                continue;
            }
            brought.for_each(|sha| {
                left.remove(*sha);
            });
            self.expect(push.actor.clone(), ChangeRole::Pushed, None, || {
                format!(
                    "`{}` was pushed to `{branch}` by an account that is deleted",
                    push.after
                )
            });
        }
        self.unknown.extend(left.into_iter().map(|sha| {
            format!(
                "commit `{sha}` came without a pull request, and the platform names nobody who pushed it to `{branch}`"
            )
        }));
    }

    fn into_record(self, question: &ChangeQuestion) -> ChangeRecord {
        let mut reasons: Vec<_> = self.unknown.into_iter().collect();
        if reasons.len() > MAXIMUM_UNKNOWN {
            let more = reasons.len() - MAXIMUM_UNKNOWN + 1;
            reasons.truncate(MAXIMUM_UNKNOWN - 1);
            reasons.push(format!("{more} more reasons"));
        }
        let reviewers: BTreeSet<_> = self
            .pull_requests
            .iter()
            .flat_map(|pull| pull.reviewers.iter().cloned())
            .collect();
        ChangeRecord {
            repository: self.repository,
            from: Some(self.from),
            to: question.to.clone(),
            complete: reasons.is_empty(),
            unknown_authors: reasons,
            commits: self
                .commits
                .into_iter()
                .map(|node| ChangedCommit {
                    sha: node.sha,
                    authors: node.authors.into_iter().collect(),
                })
                .collect(),
            authors: self.authors.into_iter().collect(),
            reviewers: reviewers.into_iter().collect(),
            pull_requests: self.pull_requests,
            reason: None,
            security_impact: None,
            testing: None,
            back_out_plan: None,
        }
    }
}

/// The commits of the range that a commit follows, and itself.
fn reach<'a>(parents: &'a BTreeMap<String, Vec<String>>, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&str> = parents
        .get_key_value(from)
        .map(|it| it.0.as_str())
        .into_iter()
        .collect();
    while let Some(sha) = next.pop() {
        let Some((sha, of)) = parents.get_key_value(sha) else {
            continue;
        };
        if reached.insert(sha.as_str()) {
            next.extend(of.iter().map(String::as_str));
        }
    }
    reached
}

/// The pushes that made the commits of a pull request; `pushes` to its branch, the newest first.
///
/// 1. From the push of its last commit back, until a push that added its first commits to others, or the creation of the branch.
///    Before a forced push stand commits that are in the pull request no more, and may have been rewritten into it; then only the
///    creation ends the search.
///    A push that the platform leaves out, such as one of many branches at once on GitLab, leaves a gap.
/// 2. Every other push of one of its commits: the branch may have been deleted and made again.
fn pushes_of<'a>(
    head: &str,
    commits: &BTreeSet<&str>,
    pushes: &'a [Push],
) -> Result<Vec<&'a Push>, &'static str> {
    let last = pushes.iter().position(|push| push.after == head);
    let last = last.ok_or("the platform names nobody who pushed its last commit")?;
    let (_, rest) = pushes.split_at(last);
    let is_first = |push: &Push| match &push.before {
        None => true,
        Some(before) => {
            let contains = |sha: &str| commits.contains(sha);
            push.only_adds && contains(&push.after) && !contains(before)
        }
    };
    let first = rest.iter().position(is_first);
    let first = first.ok_or("the platform does not name everybody who pushed to its branch")?;
    let (chain, _) = rest.split_at((first + 1).min(rest.len()));
    let follows = |(push, older): (&Push, &Push)| push.before.as_ref() == Some(&older.after);
    if !chain.iter().zip(chain.iter().skip(1)).all(follows) {
        return Err("the platform leaves out a push to its branch");
    }
    let others = pushes
        .iter()
        .filter(|push| commits.contains(push.after.as_str()));
    Ok(chain.iter().chain(others).collect())
}

/// The name of a commit in an answer.
fn commit(sha: &str) -> Result<CommitId, ConnectError> {
    sha.parse()
        .map_err(|why| ConnectError(format!("the platform names the commit `{sha}`: {why}")))
}

fn too_long(count: usize) -> ConnectError {
    ConnectError(format!(
        "the range holds {count} commits, and a record at most {MAXIMUM_COMMITS}; make records of shorter ranges, or choose a later `--from`"
    ))
}

fn diverged(from: &str, to: &CommitId) -> ConnectError {
    ConnectError(format!(
        "`{from}` is not an earlier commit of the history of `{to}`; choose for `--from` a commit that `{to}` follows, such as their \
         merge base (`git merge-base`)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(before: Option<&str>, after: &str, only_adds: bool) -> Push {
        Push {
            before: before.map(str::to_owned),
            after: after.to_owned(),
            actor: None,
            only_adds,
        }
    }

    fn found(commits: &[&str], pushes: &[Push]) -> Result<Vec<String>, &'static str> {
        let commits = commits.iter().copied().collect();
        let found = pushes_of("head", &commits, pushes)?;
        let names: BTreeSet<_> = found.iter().map(|push| push.after.clone()).collect();
        Ok(names.into_iter().collect())
    }

    #[test]
    fn a_forced_push_is_followed_back_to_the_creation_of_the_branch_and_another_to_the_first_commit()
     {
        let mut pushes = vec![
            push(Some("head"), "later", true),
            push(Some("one"), "head", true),
            push(Some("base"), "one", true),
            push(Some("x"), "base", true),
        ];
        assert_eq!(found(&["one", "head"], &pushes).unwrap(), ["head", "one"]);
        assert!(found(&["one", "head"], &pushes[..2]).is_err());
        assert!(found(&["one", "head"], &pushes[2..]).is_err());
        pushes[1] = push(Some("old"), "head", false);
        pushes[2] = push(Some("older"), "old", true);
        assert!(found(&["head"], &pushes).is_err());
        pushes[3] = push(None, "older", false);
        assert_eq!(found(&["head"], &pushes).unwrap(), ["head", "old", "older"]);
    }

    #[test]
    fn a_push_that_is_left_out_is_noticed() {
        let pushes = [
            push(Some("two"), "head", false),
            push(Some("one"), "two", false),
            push(None, "one", false),
        ];
        assert!(found(&["one", "two", "head"], &pushes).is_ok());
        let [last, _, created] = pushes;
        assert!(found(&["one", "two", "head"], &[last, created]).is_err());
    }

    #[test]
    fn a_branch_that_was_deleted_and_made_again_keeps_its_first_pushers() {
        let pushes = [
            push(None, "head", false),
            push(Some("one"), "head", true),
            push(None, "one", false),
        ];
        assert_eq!(found(&["one", "head"], &pushes).unwrap(), ["head", "one"]);
        let found = pushes_of("head", &["one", "head"].into(), &pushes).unwrap();
        assert!(
            found
                .iter()
                .any(|push| push.before.as_deref() == Some("one"))
        );
    }
}
