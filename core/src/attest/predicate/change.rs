//! The predicate `https://promotion-gate.dev/change/v1`: which commits a release adds, who wrote, pushed and merged them, and what
//! was said about the change. An isolated pipeline reads this from the platform and signs it.
//!
//! The record also lists why authors are unknown (`unknownAuthors`). It is then not `complete`, so that a list with a gap does not
//! look complete.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::strict::{self, object, objects, present, present_prose, present_text, text, values};
use crate::attest::unaccepted::{self, UnacceptedReason};
use crate::strict_json::Fields;

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

/// An identity of a person or of automation. JSON holds exactly one of these keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeIdentity {
    /// An account on GitHub.
    #[serde(deserialize_with = "object")]
    Github(GithubAccount),
    /// An account on GitLab.
    #[serde(deserialize_with = "object")]
    Gitlab(GitlabAccount),
    /// The address of a verified signer of a commit.
    #[serde(deserialize_with = "object")]
    Email(EmailAddress),
    /// The subject of a certificate.
    #[serde(deserialize_with = "object")]
    Certificate(CertificateSubject),
    /// A name from git, which is not verified. It can only add an author.
    #[serde(deserialize_with = "object")]
    Git(GitName),
}

/// An account on GitHub.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GithubAccount {
    /// The host; absent for `github.com`.
    #[serde(
        default,
        deserialize_with = "present_text::<_, NAME>",
        skip_serializing_if = "Option::is_none"
    )]
    pub host: Option<String>,
    /// The login.
    #[serde(deserialize_with = "text::<_, NAME>")]
    pub login: String,
    /// The numeric id, which stays when the login changes.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub id: Option<u64>,
}

/// An account on GitLab.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GitlabAccount {
    /// The host, such as `gitlab.com`.
    #[serde(deserialize_with = "text::<_, NAME>")]
    pub host: String,
    /// The user name.
    #[serde(deserialize_with = "text::<_, NAME>")]
    pub login: String,
    /// The numeric id.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub id: Option<u64>,
}

/// An e-mail address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EmailAddress {
    /// The address.
    #[serde(deserialize_with = "text::<_, NAME>")]
    pub address: String,
}

/// The subject of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateSubject {
    /// The OIDC issuer.
    #[serde(deserialize_with = "text::<_, ADDRESS>")]
    pub issuer: String,
    /// The subject alternative name.
    #[serde(deserialize_with = "text::<_, ADDRESS>")]
    pub subject: String,
}

/// A name and an address as git carries them; either may be empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GitName {
    /// The name.
    pub name: GitText,
    /// The address.
    pub email: GitText,
}

/// Text from git, in one line of at most 320 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub struct GitText(String);

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

impl ChangeIdentity {
    /// Whether only git says so, so that the identity can add an author and cannot be the only one.
    pub fn is_claimed(&self) -> bool {
        matches!(self, ChangeIdentity::Git(_))
    }
}

impl fmt::Display for ChangeIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChangeIdentity::Github(account) => match &account.host {
                Some(host) => write!(f, "github:{host}/{}", account.login),
                None => write!(f, "github:{}", account.login),
            },
            ChangeIdentity::Gitlab(account) => {
                write!(f, "gitlab:{}/{}", account.host, account.login)
            }
            ChangeIdentity::Email(email) => f.write_str(&email.address),
            ChangeIdentity::Certificate(subject) => {
                write!(f, "`{}` (issuer `{}`)", subject.subject, subject.issuer)
            }
            ChangeIdentity::Git(git) => write!(f, "{} <{}> (git)", git.name.0, git.email.0),
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

impl GitText {
    /// Text from git on one line, cut to the bound.
    pub fn cut(text: &str) -> GitText {
        let line = text.replace(char::is_control, " ");
        let end = line.floor_char_boundary(NAME);
        GitText(line.get(..end).unwrap_or_default().to_owned())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for GitText {
    type Error = &'static str;

    fn try_from(written: String) -> Result<GitText, &'static str> {
        if written.len() <= NAME && !written.contains(char::is_control) {
            return Ok(GitText(written));
        }
        Err("expected one line of at most 320 bytes")
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
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn sha(digit: char) -> String {
        digit.to_string().repeat(40)
    }

    fn full() -> Value {
        let alice = json!({"github": {"login": "alice", "id": 7}});
        let git = json!({"git": {"name": "", "email": "alice@example.com"}});
        json!({
            "repository": {"uri": "https://github.com/example/app", "id": "99"},
            "from": sha('a'), "to": sha('c'), "complete": false,
            "unknownAuthors": ["pull request 12 comes from a fork"],
            "commits": [{"sha": sha('b'), "authors": [git]}, {"sha": sha('c'), "authors": [alice]}],
            "authors": [
                {"identity": alice, "role": "opened", "pullRequest": 12},
                {"identity": {"gitlab": {"host": "gitlab.com", "login": "bob", "id": 8}}, "role": "merged"},
                {"identity": {"email": {"address": "carol@example.com"}}, "role": "signed"},
                {"identity": {"certificate": {"issuer": "https://accounts.example.com", "subject": "dave@example.com"}}, "role": "added"},
            ],
            "reviewers": [alice],
            "pullRequests": [{"number": 12, "url": "https://github.com/example/app/pull/12", "openedBy": alice, "mergedBy": alice, "reviewers": []}],
            "reason": "a\nb", "securityImpact": "none", "testing": "unit", "backOutPlan": "revert",
        })
    }

    fn with(field: &str, value: Value) -> String {
        let mut written = full();
        *written.pointer_mut(field).unwrap() = value;
        written.to_string()
    }

    #[test]
    fn a_change_is_read_and_written_back_as_it_was() {
        let read = ChangeRecord::read(&full().to_string()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), full());
        assert!(read.commits[0].authors[0].is_claimed());
        assert!(read.bytes() > full().to_string().len());
    }

    #[test]
    fn a_record_that_lacks_an_author_cannot_look_complete() {
        for (field, value) in [("/complete", json!(true)), ("/unknownAuthors", json!([]))] {
            let error = ChangeRecord::read(&with(field, value)).unwrap_err();
            assert_eq!(error.reason, unaccepted::MALFORMED_PREDICATE);
        }
        let mut written = full();
        written.as_object_mut().unwrap().remove("complete");
        assert!(ChangeRecord::read(&written.to_string()).is_err());
    }

    #[test]
    fn a_range_that_contradicts_itself_is_not_read() {
        for (field, value) in [
            ("/from", json!(sha('c'))),
            ("/from", json!(sha('b'))),
            ("/from", json!("a".repeat(64))),
            ("/to", json!(sha('d'))),
            ("/commits", json!([])),
            ("/commits/0/sha", json!(sha('c'))),
        ] {
            assert!(
                ChangeRecord::read(&with(field, value.clone())).is_err(),
                "{field} {value}"
            );
        }
    }

    #[test]
    fn a_field_of_another_form_is_not_read() {
        for (field, value) in [
            ("/to", json!(sha('C'))),
            ("/to", json!("c".repeat(39))),
            ("/to", json!("main")),
            ("/from", Value::Null),
            (
                "/repository",
                json!(["https://github.com/example/app", "99"]),
            ),
            ("/repository/id", json!(99)),
            ("/commits/0", json!([sha('b'), []])),
            (
                "/authors/0",
                json!([{"git": {"name": "a", "email": "b"}}, "opened", 1]),
            ),
            ("/authors/0/role", json!("approved")),
            ("/authors/0/role", json!({"opened": null})),
            ("/authors/0/pullRequest", json!(-1)),
            ("/authors/0/identity", json!({})),
            ("/authors/0/identity", json!("github")),
            (
                "/authors/0/identity",
                json!({"github": ["github.com", "alice", 7]}),
            ),
            (
                "/authors/0/identity",
                json!({"github": {"login": "alice", "id": 7}, "git": {"name": "a", "email": "b"}}),
            ),
            (
                "/authors/0/identity",
                json!({"github": {"login": "", "id": 7}}),
            ),
            (
                "/authors/0/identity",
                json!({"github": {"login": "alice", "id": "7"}}),
            ),
            ("/authors/0/identity", json!({"slack": {"login": "alice"}})),
            (
                "/authors/1/identity/gitlab",
                json!({"login": "bob", "id": 8}),
            ),
            ("/reason", json!("x".repeat(MAXIMUM_PROSE + 1))),
            ("/reason", json!("")),
            ("/unknownAuthors", json!(["a\nb"])),
            ("/unknownAuthors", json!(vec!["a"; MAXIMUM_UNKNOWN + 1])),
        ] {
            assert!(
                ChangeRecord::read(&with(field, value.clone())).is_err(),
                "{field} {value}"
            );
        }
        let mut written = full();
        written["authorsToIgnore"] = json!([]);
        assert!(ChangeRecord::read(&written.to_string()).is_err());
        let twice = full()
            .to_string()
            .replacen('{', r#"{"complete": true, "#, 1);
        assert!(ChangeRecord::read(&twice).is_err());
    }

    #[test]
    fn the_longest_range_is_read_and_a_longer_one_is_not() {
        let of = |count: usize| {
            let commits: Vec<_> = (0..count)
                .map(|at| json!({"sha": format!("{at:040x}"), "authors": []}))
                .collect();
            let mut written = full();
            written["to"] = json!(format!("{:040x}", count - 1));
            written["commits"] = json!(commits);
            ChangeRecord::read(&written.to_string())
        };
        assert!(of(MAXIMUM_COMMITS).is_ok());
        assert!(of(MAXIMUM_COMMITS + 1).is_err());
    }

    #[test]
    fn text_from_git_is_cut_between_characters() {
        let text = GitText::cut(&format!("{}é\n", "x".repeat(NAME - 1)));
        assert_eq!(text.as_str().len(), NAME - 1);
        assert_eq!(GitText::cut("a\nb").as_str(), "a b");
    }
}
