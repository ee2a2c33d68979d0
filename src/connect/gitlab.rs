//! GitLab: `compare`, the merge requests of each commit, their approvals, and who pushed to their branches.

use std::collections::BTreeSet;

use promotion_gate_core::attest::predicate::{
    ChangeIdentity, ChangePullRequest, ChangeRole, ChangedRepository, CommitId, GitName, GitText,
    GitlabAccount, MAXIMUM_COMMITS,
};
use serde::Deserialize;

use super::{Api, ChangeQuestion, ConnectError, Found, Node, Push, commit, diverged, too_long};

/// Begins the names that deleted accounts are shown as.
const DELETED: &str = "ghost";

#[derive(Deserialize)]
struct Project {
    id: u64,
    path_with_namespace: String,
    #[serde(default)]
    default_branch: Option<String>,
}

#[derive(Clone, Deserialize)]
struct User {
    username: Option<String>,
    id: Option<u64>,
}

#[derive(Deserialize)]
struct Id {
    id: String,
}

#[derive(Deserialize)]
struct Tag {
    name: String,
    commit: Id,
}

#[derive(Deserialize)]
struct Comparison {
    commits: Vec<Commit>,
    #[serde(default)]
    compare_timeout: bool,
}

#[derive(Deserialize)]
struct Commit {
    id: String,
    #[serde(default)]
    parent_ids: Vec<String>,
    #[serde(default)]
    author_name: String,
    #[serde(default)]
    author_email: String,
    #[serde(default)]
    committer_name: String,
    #[serde(default)]
    committer_email: String,
}

#[derive(Deserialize)]
struct Merge {
    iid: u64,
    state: String,
    #[serde(default)]
    web_url: String,
    target_project_id: u64,
    /// `None` for a fork that is deleted.
    source_project_id: Option<u64>,
    target_branch: String,
    source_branch: String,
    #[serde(default)]
    sha: Option<String>,
    author: Option<User>,
    merge_user: Option<User>,
    /// The older name of `merge_user`.
    merged_by: Option<User>,
}

#[derive(Deserialize)]
struct Approvals {
    #[serde(default)]
    approved_by: Vec<ApprovedBy>,
}

#[derive(Deserialize)]
struct ApprovedBy {
    user: Option<User>,
}

#[derive(Deserialize)]
struct Event {
    author: Option<User>,
    push_data: Option<PushData>,
}

#[derive(Clone, Deserialize)]
struct PushData {
    action: String,
    ref_type: String,
    #[serde(rename = "ref")]
    branch: Option<String>,
    commit_from: Option<String>,
    commit_to: Option<String>,
}

struct Reader<'a> {
    api: &'a Api<'a>,
    host: String,
    id: u64,
    project: String,
    /// All pushes of the project that are listed, the newest first.
    events: Vec<Event>,
}

pub(super) async fn change(
    api: &Api<'_>,
    question: &ChangeQuestion,
) -> Result<Found, ConnectError> {
    let project: Project = api.one(&["projects", &question.path], &[]).await?;
    let id = project.id.to_string();
    let events = api
        .all(&["projects", &id, "events"], &[("action", "pushed")])
        .await?;
    let reader = Reader {
        api,
        host: question.host.clone(),
        id: project.id,
        project: id.clone(),
        events: events.items,
    };
    let branch = question.branch.clone().or(project.default_branch);
    let branch = branch.ok_or_else(|| {
        ConnectError(
            "the project has no default branch; name the branch with `--branch`".to_owned(),
        )
    })?;
    let from = reader.resolve(&question.from).await?;
    let commits = reader.compare(&from, &question.to).await?;
    let changed = ChangedRepository {
        uri: format!("https://{}/{}", question.host, project.path_with_namespace),
        id: Some(id),
    };
    let mut found = Found::new(changed, from);
    for written in &commits {
        let authors = add_commit(&mut found, written, None);
        found.commits.push(Node {
            sha: commit(&written.id)?,
            parents: written.parent_ids.clone(),
            authors,
        });
    }
    let (merges, orphans) = reader.merges_of(&found.commits, &branch).await?;
    let count = merges.len();
    for (at, iid) in merges.into_iter().enumerate() {
        (api.progress)(&format!("merge request {} of {count}", at + 1));
        reader.add_merge(&mut found, iid).await?;
    }
    if !orphans.is_empty() {
        found.add_pushers(&orphans, &branch, &reader.pushes(&branch));
    }
    Ok(found)
}

impl Reader<'_> {
    fn parts<'a>(&'a self, rest: &[&'a str]) -> Vec<&'a str> {
        let project = ["projects", self.project.as_str()];
        project.into_iter().chain(rest.iter().copied()).collect()
    }

    async fn resolve(&self, written: &str) -> Result<CommitId, ConnectError> {
        if let Ok(sha) = written.parse() {
            return Ok(sha);
        }
        let parts = self.parts(&["repository", "tags", written]);
        let tag: Tag = self.api.one(&parts, &[]).await?;
        if tag.name != written {
            return Err(ConnectError(format!(
                "GitLab answers with another tag than `{written}`; give `--from` as a commit"
            )));
        }
        commit(&tag.commit.id)
    }

    async fn compare(&self, from: &CommitId, to: &CommitId) -> Result<Vec<Commit>, ConnectError> {
        let (base, head) = (from.as_str(), to.as_str());
        let refs = [("refs[]", base), ("refs[]", head)];
        let parts = self.parts(&["repository", "merge_base"]);
        let ancestor: Id = self.api.one(&parts, &refs).await?;
        if ancestor.id != base || base == head {
            return Err(diverged(base, to));
        }
        let parts = self.parts(&["repository", "compare"]);
        let query = [("from", base), ("to", head), ("straight", "false")];
        let found: Comparison = self.api.one(&parts, &query).await?;
        if found.commits.len() > MAXIMUM_COMMITS {
            return Err(too_long(found.commits.len()));
        }
        // A list that is cut off would not lead from `to` to `from`.
        let ids: BTreeSet<_> = found.commits.iter().map(|it| it.id.as_str()).collect();
        let parents = || found.commits.iter().flat_map(|it| &it.parent_ids);
        if found.compare_timeout || !ids.contains(head) || !parents().any(|id| id == base) {
            return Err(ConnectError(format!(
                "GitLab does not list all commits of `{base}...{head}`; choose a later `--from`"
            )));
        }
        Ok(found.commits)
    }

    async fn merges_of(
        &self,
        commits: &[Node],
        branch: &str,
    ) -> Result<(BTreeSet<u64>, BTreeSet<CommitId>), ConnectError> {
        let listed = async |sha: &str| {
            let parts = self.parts(&["repository", "commits", sha, "merge_requests"]);
            self.api.whole(&parts, &[]).await
        };
        let merged = |merge: Merge| {
            let is_merged = merge.state == "merged" && merge.target_project_id == self.id;
            is_merged.then_some((merge.iid, merge.target_branch))
        };
        self.api.merged(commits, branch, listed, merged).await
    }

    async fn add_merge(&self, found: &mut Found, iid: u64) -> Result<(), ConnectError> {
        let text = iid.to_string();
        let merge: Merge = self
            .api
            .one(&self.parts(&["merge_requests", &text]), &[])
            .await?;
        if merge.iid != iid || merge.state != "merged" || merge.target_project_id != self.id {
            return Err(ConnectError(format!(
                "GitLab answers with another merge request than {iid}; run the command again"
            )));
        }
        let commits: Vec<Commit> = self
            .api
            .whole(&self.parts(&["merge_requests", &text, "commits"]), &[])
            .await?;
        let approvals: Approvals = self
            .api
            .one(&self.parts(&["merge_requests", &text, "approvals"]), &[])
            .await?;
        for commit in &commits {
            add_commit(found, commit, Some(iid));
        }
        let opened_by = self.account(merge.author);
        let merged_by = self.account(merge.merge_user.or(merge.merged_by));
        found.expect(opened_by.clone(), ChangeRole::Opened, Some(iid), || {
            format!("merge request {iid} was opened by an account that is deleted")
        });
        found.expect(merged_by.clone(), ChangeRole::Merged, Some(iid), || {
            format!("GitLab does not say who merged merge request {iid}")
        });
        if merge.source_project_id == Some(self.id) {
            let pushes = self.pushes(&merge.source_branch);
            let shas = commits.iter().map(|commit| commit.id.as_str()).collect();
            let head = merge.sha.as_deref().unwrap_or_default();
            found.add_pushers_of(("merge request", iid), head, &shas, &pushes);
        } else {
            found.unknown.insert(format!(
                "merge request {iid} comes from a fork, whose pushes are not read"
            ));
        }
        let approved = approvals.approved_by.into_iter();
        let reviewers: BTreeSet<_> = approved.filter_map(|it| self.account(it.user)).collect();
        found.pull_requests.push(ChangePullRequest {
            number: iid,
            url: merge.web_url,
            opened_by,
            merged_by,
            reviewers: reviewers.into_iter().collect(),
        });
        Ok(())
    }

    /// The pushes to a branch, the newest first. GitLab does not say which pushes were forced.
    fn pushes(&self, branch: &str) -> Vec<Push> {
        let push = |event: &Event| {
            let data = event.push_data.clone()?;
            let ours = data.ref_type == "branch" && data.branch.as_deref() == Some(branch);
            let after = data.commit_to.filter(|_| ours)?;
            Some(Push {
                before: data.commit_from.filter(|_| data.action != "created"),
                after,
                actor: self.account(event.author.clone()),
                only_adds: false,
            })
        };
        self.events.iter().filter_map(push).collect()
    }

    fn account(&self, user: Option<User>) -> Option<ChangeIdentity> {
        let User { username, id } = user?;
        let digits = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit());
        let login = username.filter(|name| !name.strip_prefix(DELETED).is_some_and(digits))?;
        Some(ChangeIdentity::Gitlab(GitlabAccount {
            host: self.host.clone(),
            login,
            id: Some(id?),
        }))
    }
}

/// Adds the names that a commit carries. GitLab does not say whose accounts they are.
fn add_commit(
    found: &mut Found,
    written: &Commit,
    pull_request: Option<u64>,
) -> BTreeSet<ChangeIdentity> {
    let names = [
        (&written.author_name, &written.author_email),
        (&written.committer_name, &written.committer_email),
    ];
    let named = names
        .into_iter()
        .filter(|(name, email)| !(name.is_empty() && email.is_empty()));
    let authors: BTreeSet<_> = named
        .map(|(name, email)| {
            ChangeIdentity::Git(GitName {
                name: GitText::cut(name),
                email: GitText::cut(email),
            })
        })
        .collect();
    for identity in &authors {
        found.add(identity.clone(), ChangeRole::Committed, pull_request);
    }
    authors
}
