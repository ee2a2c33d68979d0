//! Records of a change: `https://promotion-gate.dev/change/v1`. A pipeline that is isolated from the authors reads from the
//! platform who wrote the commits of a release, and signs it. An unknown field is an error.

use serde::Deserialize;

use super::provenance::SourceRepository;
use super::texts::{self, bounded};
use crate::attest::unaccepted::UnacceptedReason;

/// The most commits of a record.
pub const MAXIMUM_COMMITS: usize = 2000;
/// The most accounts, names and pull requests of a record, each.
const MAXIMUM_ENTRIES: usize = 10_000;

/// What changed between two commits, and who changed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeRecord {
    /// The source repository.
    pub repository: SourceRepository,
    /// The commit before the change, which is not part of it; absent for a first release.
    pub from: Option<String>,
    /// The last commit of the change.
    pub to: String,
    /// Every commit of the change, `to` included.
    pub commits: Vec<String>,
    /// Who wrote, pushed, opened, merged or started something of the change.
    pub authors: Vec<ChangeAuthor>,
    /// What is not known about authors, one sentence each. One entry makes the authors unknown.
    pub unknown_authors: Vec<String>,
    /// Who reviewed the change.
    pub reviewers: Vec<ChangeIdentity>,
    /// Why the change is made.
    pub reason: Option<String>,
    /// What the change means for security.
    pub security_impact: Option<String>,
    /// How the change was tested.
    pub testing: Option<String>,
    /// How to return to a secure state.
    pub back_out_plan: Option<String>,
}

/// Someone who took part in a change.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeAuthor {
    /// Who it is.
    pub identity: ChangeIdentity,
    /// What they did.
    pub did: ChangeRole,
    /// The number of the pull request or merge request in which they did it.
    pub pull_request: Option<u64>,
}

/// What an author did. The platform vouches for all of them except the last two, which git or the recorder says: these only add
/// authors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ChangeRole {
    /// Opened the pull request.
    Opened,
    /// Pushed commits.
    Pushed,
    /// Merged the pull request.
    Merged,
    /// Started the run or the release.
    Started,
    /// Signed a commit, and the platform verified the signature.
    Signed,
    /// Is named as author or committer of a commit.
    Committed,
    /// Was added by hand.
    Added,
}

impl ChangeRole {
    /// Whether the platform vouches for it.
    pub fn is_vouched(self) -> bool {
        match self {
            ChangeRole::Opened
            | ChangeRole::Pushed
            | ChangeRole::Merged
            | ChangeRole::Started
            | ChangeRole::Signed => true,
            ChangeRole::Committed | ChangeRole::Added => false,
        }
    }

    /// What was done, as the middle of a sentence.
    pub fn verb(self) -> &'static str {
        match self {
            ChangeRole::Opened => "opened",
            ChangeRole::Pushed => "pushed to",
            ChangeRole::Merged => "merged",
            ChangeRole::Started => "started",
            ChangeRole::Signed => "signed a commit of",
            ChangeRole::Committed => "is named by a commit of",
            ChangeRole::Added => "was added to",
        }
    }
}

/// Someone in a record: exactly one kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum ChangeIdentity {
    /// An account on GitHub.
    Github(ChangeAccount),
    /// An account on GitLab.
    Gitlab(ChangeAccount),
    /// An e-mail address, as git names it. It is not verified.
    Email(String),
}

/// An account on a platform.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeAccount {
    /// The host; the platform's public one when absent.
    pub host: Option<String>,
    /// The login.
    pub login: String,
    /// The number of the account.
    pub id: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ChangeFields {
    repository: String,
    from: Option<String>,
    to: String,
    commits: Vec<String>,
    authors: Vec<ChangeAuthor>,
    #[serde(default)]
    unknown_authors: Vec<String>,
    #[serde(default)]
    reviewers: Vec<ChangeIdentity>,
    #[serde(default)]
    pull_requests: Vec<PullRequest>,
    reason: Option<String>,
    security_impact: Option<String>,
    testing: Option<String>,
    back_out_plan: Option<String>,
}

/// A pull request of the change. It is kept for people who read the record; its authors and reviewers stand in their own lists.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PullRequest {
    #[expect(dead_code, reason = "for people who read the record")]
    number: u64,
    url: Option<String>,
    title: Option<String>,
}

impl ChangeRecord {
    pub(super) fn read(text: &str) -> Result<ChangeRecord, UnacceptedReason> {
        let fields: ChangeFields = texts::read(text, "a change record")?;
        ChangeRecord::of(fields).map_err(|why| texts::malformed("a change record", why))
    }

    fn of(fields: ChangeFields) -> Result<ChangeRecord, String> {
        let (repository, git_ref) = SourceRepository::parse(&fields.repository)
            .ok_or("`repository` is not the address of a repository, such as `https://github.com/example/app`")?;
        if git_ref.is_some() {
            return Err("`repository` names a reference too".to_owned());
        }
        // 1. The range: bounded, and in full commits, so that `to` can be compared with provenance.
        for (field, commits) in [
            ("from", fields.from.as_slice()),
            ("to", std::slice::from_ref(&fields.to)),
            ("commits", &fields.commits),
        ] {
            if let Some(odd) = commits.iter().find(|commit| !is_commit(commit)) {
                let odd: String = odd.chars().take(80).collect();
                return Err(format!(
                    "`{field}` is not a full commit in lower case: `{odd}`"
                ));
            }
        }
        if fields.commits.len() > MAXIMUM_COMMITS {
            return Err(format!("`commits` has more than {MAXIMUM_COMMITS} entries"));
        }
        if !fields.commits.contains(&fields.to) {
            return Err("`commits` does not contain `to`".to_owned());
        }
        // 2. Everything else: bounded.
        let lengths = [
            ("authors", fields.authors.len()),
            ("unknownAuthors", fields.unknown_authors.len()),
            ("reviewers", fields.reviewers.len()),
            ("pullRequests", fields.pull_requests.len()),
        ];
        if let Some((field, _)) = lengths.iter().find(|(_, length)| *length > MAXIMUM_ENTRIES) {
            return Err(format!("`{field}` has more than {MAXIMUM_ENTRIES} entries"));
        }
        let authors = fields.authors.iter().map(|author| &author.identity);
        for identity in authors.chain(&fields.reviewers) {
            identity.check()?;
        }
        let requests = fields.pull_requests.iter();
        let requests = requests.flat_map(|request| [&request.url, &request.title]);
        let requests = requests.map(|text| ("pullRequests", text.as_ref()));
        let unknown = fields.unknown_authors.iter();
        let unknown = unknown.map(|text| ("unknownAuthors", Some(text)));
        let texts = [
            ("reason", fields.reason.as_ref()),
            ("securityImpact", fields.security_impact.as_ref()),
            ("testing", fields.testing.as_ref()),
            ("backOutPlan", fields.back_out_plan.as_ref()),
        ];
        for (field, text) in requests.chain(unknown).chain(texts) {
            text.map_or(Ok(()), |text| bounded(field, text))?;
        }
        Ok(ChangeRecord {
            repository,
            from: fields.from,
            to: fields.to,
            commits: fields.commits,
            authors: fields.authors,
            unknown_authors: fields.unknown_authors,
            reviewers: fields.reviewers,
            reason: fields.reason,
            security_impact: fields.security_impact,
            testing: fields.testing,
            back_out_plan: fields.back_out_plan,
        })
    }

    pub(super) fn bytes(&self) -> usize {
        let commits: usize = self
            .commits
            .iter()
            .map(|it| it.len() + size_of::<String>())
            .sum();
        let authors = self.authors.len() * (size_of::<ChangeAuthor>() + 64);
        let reviewers = self.reviewers.len() * (size_of::<ChangeIdentity>() + 64);
        let texts = [
            &self.reason,
            &self.security_impact,
            &self.testing,
            &self.back_out_plan,
        ];
        let texts = texts.into_iter().flatten().chain(&self.unknown_authors);
        let texts: usize = texts.map(|text| text.len() + size_of::<String>()).sum();
        size_of_val(self) + commits + authors + reviewers + texts
    }
}

impl ChangeIdentity {
    fn check(&self) -> Result<(), String> {
        match self {
            ChangeIdentity::Github(account) | ChangeIdentity::Gitlab(account) => {
                bounded("login", &account.login)?;
                account
                    .host
                    .iter()
                    .try_for_each(|host| bounded("host", host))
            }
            ChangeIdentity::Email(email) => bounded("email", email),
        }
    }
}

/// A full commit (SHA-1 or SHA-256) in lower-case hexadecimal.
fn is_commit(text: &str) -> bool {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    matches!(text.len(), 40 | 64) && text.bytes().all(hex)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn record() -> Value {
        json!({
            "repository": "https://github.com/example/app",
            "from": "0".repeat(40),
            "to": "1".repeat(40),
            "commits": ["2".repeat(40), "1".repeat(40)],
            "authors": [
                {"identity": {"github": {"login": "octocat", "id": 583231}}, "did": "opened", "pullRequest": 12},
                {"identity": {"email": "octocat@example.com"}, "did": "committed"},
            ],
            "reviewers": [{"github": {"login": "hubot"}}],
            "pullRequests": [{"number": 12, "url": "https://github.com/example/app/pull/12"}],
            "reason": "a feature",
        })
    }

    fn read(record: &Value) -> Result<ChangeRecord, String> {
        ChangeRecord::read(&record.to_string()).map_err(|why| why.detail)
    }

    #[test]
    fn a_change_record_is_read_with_all_of_its_fields() {
        let read = read(&record()).unwrap();
        assert_eq!(read.authors.len(), 2);
        assert_eq!(read.authors[0].pull_request, Some(12));
        assert!(read.authors[0].did.is_vouched() && !read.authors[1].did.is_vouched());
        assert_eq!(read.repository.as_str(), "https://github.com/example/app");
    }

    #[test]
    fn a_record_that_is_incomplete_or_unknown_in_part_is_refused() {
        let mut deep = record();
        deep["authors"][0]["identity"]["gitlab"] = json!({"login": "x"});
        assert!(read(&deep).is_err());
        for (field, value, says) in [
            ("repository", json!("example/app"), "`repository`"),
            (
                "repository",
                json!("git+https://github.com/example/app@main"),
                "reference",
            ),
            ("to", json!("1".repeat(39)), "full commit"),
            ("to", json!("A".repeat(40)), "full commit"),
            ("to", json!("3".repeat(40)), "does not contain `to`"),
            ("from", json!("main"), "`from`"),
            ("commits", json!([]), "does not contain"),
            (
                "commits",
                json!(vec!["1".repeat(40); 2001]),
                "more than 2000",
            ),
            (
                "authors",
                json!([{"identity": {"github": {"login": ""}}, "did": "opened"}]),
                "empty",
            ),
            (
                "authors",
                json!([{"identity": {"github": {"login": "a"}}, "did": "wrote"}]),
                "unknown variant",
            ),
            (
                "authors",
                json!([{"identity": {}, "did": "opened"}]),
                "change record",
            ),
            ("reason", json!(""), "`reason` is empty"),
            ("summary", json!("x"), "unknown field"),
        ] {
            let mut record = record();
            record[field] = value;
            let why = read(&record).unwrap_err();
            assert!(why.contains(says), "{field}: {why}");
        }
        let mut without = record();
        without.as_object_mut().unwrap().remove("authors");
        assert!(
            read(&without)
                .unwrap_err()
                .contains("missing field `authors`")
        );
    }
}
