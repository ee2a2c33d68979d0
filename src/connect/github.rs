//! GitHub: `compare`, the pull requests of each commit, their commits and reviews, and who pushed to their branches.

use std::collections::BTreeSet;

use promotion_gate_core::attest::predicate::{
    ChangeIdentity, ChangePullRequest, ChangeRole, ChangedRepository, CommitId, GitName, GitText,
    GithubAccount, MAXIMUM_COMMITS,
};
use serde::Deserialize;

use super::{Api, ChangeQuestion, ConnectError, Found, Node, Push, commit, diverged, too_long};

/// The account that commits what people write or merge on the website.
const WEBSITE: &str = "web-flow";
/// The account that deleted accounts are shown as.
const DELETED: &str = "ghost";
/// The account that merges from the merge queue.
const MERGE_QUEUE: &str = "github-merge-queue[bot]";

#[derive(Deserialize)]
struct Repository {
    id: u64,
    full_name: String,
    #[serde(default)]
    default_branch: String,
}

/// An account; a deleted one is `null` or `{}`.
#[derive(Clone, Deserialize)]
struct User {
    login: Option<String>,
    id: Option<u64>,
}

#[derive(Deserialize)]
struct Sha {
    sha: String,
}

#[derive(Deserialize)]
struct Comparison {
    status: String,
    total_commits: usize,
    base_commit: Sha,
    commits: Vec<Commit>,
}

#[derive(Deserialize)]
struct Commit {
    sha: String,
    commit: GitCommit,
    author: Option<User>,
    committer: Option<User>,
    parents: Vec<Sha>,
}

#[derive(Deserialize)]
struct GitCommit {
    author: Option<Signature>,
    verification: Option<Verification>,
}

#[derive(Deserialize)]
struct Signature {
    #[serde(default)]
    name: String,
    #[serde(default)]
    email: String,
}

#[derive(Deserialize)]
struct Verification {
    verified: bool,
}

#[derive(Deserialize)]
struct ListedPull {
    number: u64,
    merged_at: Option<String>,
    base: Side,
}

#[derive(Deserialize)]
struct Side {
    #[serde(rename = "ref")]
    branch: String,
    #[serde(default)]
    sha: String,
    /// `None` for a fork that is deleted.
    repo: Option<Repository>,
}

#[derive(Deserialize)]
struct Pull {
    number: u64,
    html_url: String,
    merged: bool,
    user: Option<User>,
    merged_by: Option<User>,
    commits: usize,
    base: Side,
    head: Side,
}

#[derive(Deserialize)]
struct Review {
    state: String,
    user: Option<User>,
}

#[derive(Deserialize)]
struct Activity {
    before: String,
    after: String,
    #[serde(rename = "ref")]
    branch: String,
    activity_type: String,
    actor: Option<User>,
}

#[derive(Deserialize)]
struct TimelineEvent {
    event: Option<String>,
    actor: Option<User>,
}

struct Reader<'a> {
    api: &'a Api<'a>,
    /// `None` for github.com.
    host: Option<String>,
    owner: String,
    name: String,
    id: u64,
}

pub(super) async fn change(
    api: &Api<'_>,
    question: &ChangeQuestion,
) -> Result<Found, ConnectError> {
    let expected = || {
        let path = &question.path;
        ConnectError(format!(
            "`{path}` is not a repository of GitHub: expected OWNER/NAME"
        ))
    };
    let (owner, name) = question.path.split_once('/').ok_or_else(expected)?;
    let repository: Repository = api.one(&["repos", owner, name], &[]).await?;
    // A renamed repository is read by its present name.
    let (owner, name) = repository.full_name.split_once('/').ok_or_else(expected)?;
    let reader = Reader {
        api,
        host: (question.host != "github.com").then(|| question.host.clone()),
        owner: owner.to_owned(),
        name: name.to_owned(),
        id: repository.id,
    };
    let branch = question.branch.clone().unwrap_or(repository.default_branch);
    let from = reader.resolve(&question.from).await?;
    let commits = reader.compare(&from, &question.to).await?;
    let changed = ChangedRepository {
        uri: format!("https://{}/{}", question.host, repository.full_name),
        id: Some(repository.id.to_string()),
    };
    let mut found = Found::new(changed, from);
    for written in &commits {
        let authors = reader.add_commit(&mut found, written, None);
        found.commits.push(Node {
            sha: commit(&written.sha)?,
            parents: written.parents.iter().map(|it| it.sha.clone()).collect(),
            authors,
        });
    }
    let (pulls, orphans) = reader.pulls_of(&found.commits, &branch).await?;
    let count = pulls.len();
    for (at, number) in pulls.into_iter().enumerate() {
        (api.progress)(&format!("pull request {} of {count}", at + 1));
        reader.add_pull(&mut found, number).await?;
    }
    if !orphans.is_empty() {
        let pushes = reader.pushes(&branch).await?;
        found.add_pushers(&orphans, &branch, &pushes);
    }
    Ok(found)
}

impl Reader<'_> {
    fn parts<'a>(&'a self, rest: &[&'a str]) -> Vec<&'a str> {
        let repository = ["repos", self.owner.as_str(), self.name.as_str()];
        repository.into_iter().chain(rest.iter().copied()).collect()
    }

    /// The commit that is written in full or tagged.
    async fn resolve(&self, written: &str) -> Result<CommitId, ConnectError> {
        if let Ok(sha) = written.parse() {
            return Ok(sha);
        }
        let parts: Vec<_> = ["commits", "tags"]
            .into_iter()
            .chain(written.split('/'))
            .collect();
        let found: Sha = self.api.one(&self.parts(&parts), &[]).await?;
        commit(&found.sha)
    }

    async fn compare(&self, from: &CommitId, to: &CommitId) -> Result<Vec<Commit>, ConnectError> {
        let range = format!("{from}...{to}");
        let mut commits: Vec<Commit> = Vec::new();
        for page in 1.. {
            let page = page.to_string();
            let query = [("per_page", "100"), ("page", page.as_str())];
            let part: Comparison = self
                .api
                .one(&self.parts(&["compare", &range]), &query)
                .await?;
            if part.status != "ahead" || part.base_commit.sha != from.as_str() {
                return Err(diverged(from.as_str(), to));
            }
            if part.total_commits > MAXIMUM_COMMITS {
                return Err(too_long(part.total_commits));
            }
            let ended = part.commits.is_empty();
            commits.extend(part.commits);
            if commits.len() >= part.total_commits || ended {
                let whole = commits.len() == part.total_commits;
                let ends = commits.last().is_some_and(|last| last.sha == to.as_str());
                if whole && ends {
                    break;
                }
                return Err(ConnectError(format!(
                    "GitHub lists {} of {} commits of `{range}`, or other ones; run the command again",
                    commits.len(),
                    part.total_commits
                )));
            }
        }
        Ok(commits)
    }

    /// The merged pull requests of all commits, and the commits that none of them brought to the branch.
    async fn pulls_of(
        &self,
        commits: &[Node],
        branch: &str,
    ) -> Result<(BTreeSet<u64>, BTreeSet<CommitId>), ConnectError> {
        let listed = async |sha: &str| {
            let parts = self.parts(&["commits", sha, "pulls"]);
            self.api.whole(&parts, &[]).await
        };
        let merged = |pull: ListedPull| {
            let is_merged = pull.merged_at.is_some() && self.is_ours(&pull.base);
            is_merged.then_some((pull.number, pull.base.branch))
        };
        self.api.merged(commits, branch, listed, merged).await
    }

    async fn add_pull(&self, found: &mut Found, number: u64) -> Result<(), ConnectError> {
        let text = number.to_string();
        let pull: Pull = self.api.one(&self.parts(&["pulls", &text]), &[]).await?;
        if pull.number != number || !pull.merged || !self.is_ours(&pull.base) {
            return Err(ConnectError(format!(
                "GitHub answers with another pull request than {number}; run the command again"
            )));
        }
        let commits: Vec<Commit> = self
            .api
            .whole(&self.parts(&["pulls", &text, "commits"]), &[])
            .await?;
        let reviews: Vec<Review> = self
            .api
            .whole(&self.parts(&["pulls", &text, "reviews"]), &[])
            .await?;
        for commit in &commits {
            self.add_commit(found, commit, Some(number));
        }
        let opened_by = self.account(pull.user);
        let merged_by = self.account(pull.merged_by);
        found.expect(opened_by.clone(), ChangeRole::Opened, Some(number), || {
            format!("pull request {number} was opened by an account that is deleted")
        });
        found.expect(merged_by.clone(), ChangeRole::Merged, Some(number), || {
            format!("pull request {number} was merged by an account that is deleted")
        });
        if matches!(&merged_by, Some(ChangeIdentity::Github(account)) if account.login == MERGE_QUEUE)
        {
            self.add_queued(found, number).await?;
        }
        if commits.len() != pull.commits {
            found.unknown.insert(format!(
                "GitHub lists {} of {} commits of pull request {number}",
                commits.len(),
                pull.commits
            ));
        }
        if self.is_ours(&pull.head) {
            let pushes = self.pushes(&pull.head.branch).await?;
            let shas = commits.iter().map(|commit| commit.sha.as_str()).collect();
            let pull_request = ("pull request", number);
            found.add_pushers_of(pull_request, &pull.head.sha, &shas, &pushes);
        } else {
            found.unknown.insert(format!(
                "pull request {number} comes from a fork, and GitHub does not say who pushed to it"
            ));
        }
        let approved = reviews
            .into_iter()
            .filter(|review| review.state == "APPROVED");
        let reviewers: BTreeSet<_> = approved
            .filter_map(|review| self.account(review.user))
            .collect();
        found.pull_requests.push(ChangePullRequest {
            number,
            url: pull.html_url,
            opened_by,
            merged_by,
            reviewers: reviewers.into_iter().collect(),
        });
        Ok(())
    }

    /// Adds who put a pull request into the merge queue.
    async fn add_queued(&self, found: &mut Found, number: u64) -> Result<(), ConnectError> {
        let text = number.to_string();
        let parts = self.parts(&["issues", &text, "timeline"]);
        let events: Vec<TimelineEvent> = self.api.whole(&parts, &[]).await?;
        let mut queued = events
            .into_iter()
            .filter(|event| event.event.as_deref() == Some("added_to_merge_queue"))
            .map(|event| self.account(event.actor))
            .peekable();
        let unknown =
            || format!("GitHub does not say who put pull request {number} into the merge queue");
        if queued.peek().is_none() {
            found.unknown.insert(unknown());
        }
        for account in queued {
            found.expect(account, ChangeRole::Merged, Some(number), unknown);
        }
        Ok(())
    }

    /// Adds the accounts that a commit names, and returns them with the name in git if there is no account.
    fn add_commit(
        &self,
        found: &mut Found,
        written: &Commit,
        pull_request: Option<u64>,
    ) -> BTreeSet<ChangeIdentity> {
        let verified = written.commit.verification.as_ref();
        let signed = verified.is_some_and(|it| it.verified);
        let author = self.account(written.author.clone());
        let git = written.commit.author.as_ref().map(|git| {
            ChangeIdentity::Git(GitName {
                name: GitText::cut(&git.name),
                email: GitText::cut(&git.email),
            })
        });
        let committer = written.committer.clone();
        let committer = self.account(committer).filter(
            |it| !matches!(it, ChangeIdentity::Github(account) if account.login == WEBSITE),
        );
        let rows = author
            .or(git)
            .map(|identity| (identity, ChangeRole::Committed))
            .into_iter()
            .chain(committer.map(|identity| match signed {
                true => (identity, ChangeRole::Signed),
                false => (identity, ChangeRole::Committed),
            }));
        let mut authors = BTreeSet::new();
        for (identity, role) in rows {
            authors.insert(identity.clone());
            found.add(identity, role, pull_request);
        }
        authors
    }

    /// The pushes to a branch, the newest first.
    async fn pushes(&self, branch: &str) -> Result<Vec<Push>, ConnectError> {
        let name = format!("refs/heads/{branch}");
        let query = [("ref", name.as_str())];
        let listed = self
            .api
            .all::<Activity>(&self.parts(&["activity"]), &query)
            .await?;
        let is_none = |sha: &str| sha.bytes().all(|byte| byte == b'0');
        let ours = listed
            .items
            .into_iter()
            .filter(|activity| activity.branch == name && !is_none(&activity.after));
        let push = |activity: Activity| Push {
            only_adds: matches!(
                activity.activity_type.as_str(),
                "push" | "pr_merge" | "merge_queue_merge"
            ),
            before: (!is_none(&activity.before)).then_some(activity.before),
            after: activity.after,
            actor: self.account(activity.actor),
        };
        Ok(ours.map(push).collect())
    }

    fn is_ours(&self, side: &Side) -> bool {
        side.repo.as_ref().is_some_and(|repo| repo.id == self.id)
    }

    /// The identity of an account that exists.
    fn account(&self, user: Option<User>) -> Option<ChangeIdentity> {
        let User { login, id } = user?;
        let login = login.filter(|login| login != DELETED)?;
        Some(ChangeIdentity::Github(GithubAccount {
            host: self.host.clone(),
            login,
            id: Some(id?),
        }))
    }
}
