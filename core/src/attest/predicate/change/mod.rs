//! The predicate `https://promotion-gate.dev/change/v1`: which commits a release adds, who wrote, pushed and merged them, and what
//! was said about the change. An isolated pipeline reads this from the platform and signs it.
//!
//! The record also lists why authors are unknown (`unknownAuthors`). It is then not `complete`, so that a list with a gap does not
//! look complete.

mod identity;

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::strict::{self, object, objects, present, present_prose, present_text, text, values};
use crate::attest::unaccepted::{self, UnacceptedReason};
use crate::strict_json::Fields;

pub use identity::{
    CertificateSubject, ChangeIdentity, EmailAddress, GitName, GitText, GithubAccount,
    GitlabAccount,
};

/// The most commits of a range.
pub const MAXIMUM_COMMITS: usize = 2000;
/// The most rows of authors.
pub const MAXIMUM_AUTHORS: usize = 10_000;
/// The most reasons why authors are unknown.
pub const MAXIMUM_UNKNOWN: usize = 200;
/// The most bytes of a text for people.
pub const MAXIMUM_PROSE: usize = 16 << 10;

const IDENTITIES: usize = 200;
const NAME: usize = 320;
const ADDRESS: usize = 2048;

const FIELDS: Fields = Fields {
    known: &[
        "repository",
        "uri",
        "id",
        "from",
        "to",
        "complete",
        "unknownAuthors",
        "commits",
        "sha",
        "authors",
        "identity",
        "role",
        "pullRequest",
        "reviewers",
        "pullRequests",
        "number",
        "url",
        "openedBy",
        "mergedBy",
        "reason",
        "securityImpact",
        "testing",
        "backOutPlan",
        "github",
        "gitlab",
        "email",
        "certificate",
        "git",
        "host",
        "login",
        "address",
        "issuer",
        "subject",
        "name",
    ],
    free: &[],
};

/// A change: the commits of a release and the people behind them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeRecord {
    /// The repository.
    #[serde(deserialize_with = "object")]
    pub repository: ChangedRepository,
    /// The last commit of the release before, which is not part of the range; absent for a first release.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub from: Option<CommitId>,
    /// The last commit of the range, which was built.
    pub to: CommitId,
    /// Whether every author of every commit is known.
    pub complete: bool,
    /// Why the record is not complete, one sentence each; empty exactly if it is.
    #[serde(default, deserialize_with = "reasons")]
    pub unknown_authors: Vec<String>,
    /// The commits of the range without `from`, the oldest first.
    #[serde(deserialize_with = "objects::<_, _, MAXIMUM_COMMITS>")]
    pub commits: Vec<ChangedCommit>,
    /// Everybody who took part, a row for each role.
    #[serde(deserialize_with = "objects::<_, _, MAXIMUM_AUTHORS>")]
    pub authors: Vec<ChangeAuthor>,
    /// Who approved a pull request on the platform, for people. It is not an approval of a release.
    #[serde(default, deserialize_with = "values::<_, _, MAXIMUM_AUTHORS>")]
    pub reviewers: Vec<ChangeIdentity>,
    /// The merged pull requests (or merge requests) of the range.
    #[serde(default, deserialize_with = "objects::<_, _, MAXIMUM_COMMITS>")]
    pub pull_requests: Vec<ChangePullRequest>,
    /// Why the change is made.
    #[serde(
        default,
        deserialize_with = "present_prose::<_, MAXIMUM_PROSE>",
        skip_serializing_if = "Option::is_none"
    )]
    pub reason: Option<String>,
    /// What it means for security.
    #[serde(
        default,
        deserialize_with = "present_prose::<_, MAXIMUM_PROSE>",
        skip_serializing_if = "Option::is_none"
    )]
    pub security_impact: Option<String>,
    /// How it was tested.
    #[serde(
        default,
        deserialize_with = "present_prose::<_, MAXIMUM_PROSE>",
        skip_serializing_if = "Option::is_none"
    )]
    pub testing: Option<String>,
    /// How it is taken back.
    #[serde(
        default,
        deserialize_with = "present_prose::<_, MAXIMUM_PROSE>",
        skip_serializing_if = "Option::is_none"
    )]
    pub back_out_plan: Option<String>,
}

/// A repository, as the platform names it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ChangedRepository {
    /// The address, such as `https://github.com/example/app`.
    #[serde(deserialize_with = "text::<_, ADDRESS>")]
    pub uri: String,
    /// The platform's id of the repository, which stays when it is renamed.
    #[serde(
        default,
        deserialize_with = "present_text::<_, NAME>",
        skip_serializing_if = "Option::is_none"
    )]
    pub id: Option<String>,
}

/// The name of a commit: 40 or 64 hexadecimal digits in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub struct CommitId(String);

/// A commit, and who is said to have written it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ChangedCommit {
    /// Its name.
    pub sha: CommitId,
    /// Its authors, from the platform and from git.
    #[serde(deserialize_with = "values::<_, _, IDENTITIES>")]
    pub authors: Vec<ChangeIdentity>,
}

/// A participant of the change, with one role.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeAuthor {
    /// Who.
    pub identity: ChangeIdentity,
    /// What that person did.
    pub role: ChangeRole,
    /// The pull request in which.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub pull_request: Option<u64>,
}

/// A merged pull request, or a merge request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangePullRequest {
    /// Its number in the repository.
    pub number: u64,
    /// Its address.
    #[serde(deserialize_with = "text::<_, ADDRESS>")]
    pub url: String,
    /// Who opened it; absent if that account is deleted.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub opened_by: Option<ChangeIdentity>,
    /// Who merged it; absent if that account is deleted.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub merged_by: Option<ChangeIdentity>,
    /// Who approved it.
    #[serde(default, deserialize_with = "values::<_, _, IDENTITIES>")]
    pub reviewers: Vec<ChangeIdentity>,
}

macro_rules! roles {
    ($($(#[$about:meta])* $name:ident = $written:literal,)*) => {
        /// What an author did.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
        #[serde(try_from = "String", rename_all = "lowercase")]
        pub enum ChangeRole {
            $($(#[$about])* $name,)*
        }

        impl TryFrom<String> for ChangeRole {
            type Error = String;

            fn try_from(written: String) -> Result<ChangeRole, String> {
                match written.as_str() {
                    $($written => Ok(ChangeRole::$name),)*
                    _ => Err(format!("expected one of {}", [$(concat!("`", $written, "`")),*].join(", "))),
                }
            }
        }
    };
}

roles! {
    /// Opened the pull request.
    Opened = "opened",
    /// Pushed commits.
    Pushed = "pushed",
    /// Merged the pull request, or put it into the merge queue.
    Merged = "merged",
    /// Started the build.
    Triggered = "triggered",
    /// Is named by a commit as author or committer. The platform finds the account by an address that git carries.
    Committed = "committed",
    /// Signed a commit; the platform verified the signature.
    Signed = "signed",
    /// Was added by hand.
    Added = "added",
}

impl ChangeRecord {
    /// The type of the predicate.
    pub const TYPE: &str = "https://promotion-gate.dev/change/v1";

    /// Reads the predicate from JSON.
    ///
    /// # Errors
    /// `malformed-predicate`, with the field.
    pub fn read(text: &str) -> Result<ChangeRecord, UnacceptedReason> {
        let record: ChangeRecord = strict::read(text, FIELDS)?;
        record.contradiction().map_or(Ok(()), |why| {
            let detail = format!("the predicate contradicts itself: {why}");
            Err(UnacceptedReason::new(
                unaccepted::MALFORMED_PREDICATE,
                detail,
            ))
        })?;
        Ok(record)
    }

    /// Why the fields cannot all be true, if so.
    fn contradiction(&self) -> Option<&'static str> {
        let shas: BTreeSet<_> = self.commits.iter().map(|commit| &commit.sha).collect();
        let length = self.to.0.len();
        let ids = shas.iter().copied().chain(&self.from);
        if self.complete != self.unknown_authors.is_empty() {
            return Some("`complete` is true exactly if `unknownAuthors` is empty");
        }
        if shas.len() != self.commits.len() {
            return Some("`commits` holds a commit twice");
        }
        if ids.into_iter().any(|id| id.0.len() != length) {
            return Some("commits of one repository have names of one length");
        }
        if self
            .from
            .as_ref()
            .is_some_and(|from| *from == self.to || shas.contains(from))
        {
            return Some("`from` is the commit before the range, and not part of it");
        }
        if !shas.contains(&self.to) {
            return Some("`commits` does not hold `to`");
        }
        None
    }

    pub(super) fn bytes(&self) -> usize {
        strict::weight(self)
    }
}

impl ChangeRole {
    /// Whether the platform states this role. Names from git, and rows that were added by hand, can only add authors.
    pub fn is_vouched(self) -> bool {
        match self {
            ChangeRole::Opened
            | ChangeRole::Pushed
            | ChangeRole::Merged
            | ChangeRole::Triggered
            | ChangeRole::Signed => true,
            ChangeRole::Committed | ChangeRole::Added => false,
        }
    }
}

impl CommitId {
    /// The hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for CommitId {
    type Error = &'static str;

    fn try_from(written: String) -> Result<CommitId, &'static str> {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if [40, 64].contains(&written.len()) && written.bytes().all(is_hex) {
            return Ok(CommitId(written));
        }
        Err("expected the full name of a commit: 40 or 64 hexadecimal digits in lower case")
    }
}

impl std::str::FromStr for CommitId {
    type Err = &'static str;

    fn from_str(written: &str) -> Result<CommitId, &'static str> {
        CommitId::try_from(written.to_owned())
    }
}

fn reasons<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let reasons = values::<D, UnknownAuthor, MAXIMUM_UNKNOWN>(from)?;
    Ok(reasons.into_iter().map(|reason| reason.0).collect())
}

/// Why an author is unknown.
#[derive(Deserialize)]
struct UnknownAuthor(#[serde(deserialize_with = "text::<_, ADDRESS>")] String);

#[cfg(test)]
mod tests;
