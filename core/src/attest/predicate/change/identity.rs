//! Who took part in a change: accounts, addresses, subjects of certificates and names from git.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{ADDRESS, NAME};
use crate::attest::predicate::strict::{object, present, present_text, text};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_git_is_cut_between_characters() {
        let text = GitText::cut(&format!("{}é\n", "x".repeat(NAME - 1)));
        assert_eq!(text.as_str().len(), NAME - 1);
        assert_eq!(GitText::cut("a\nb").as_str(), "a b");
    }

    #[test]
    fn text_from_git_is_read_on_one_line_up_to_its_bound() {
        for (text, fits) in [
            (String::new(), true),
            ("x".repeat(NAME), true),
            ("x".repeat(NAME + 1), false),
            ("a\nb".to_owned(), false),
            ("a\u{1b}b".to_owned(), false),
        ] {
            assert_eq!(GitText::try_from(text.clone()).is_ok(), fits, "{text:?}");
        }
    }

    #[test]
    fn a_participant_is_shown_as_the_place_names_it() {
        for (written, shown) in [
            (r#"{"github": {"login": "alice", "id": 7}}"#, "github:alice"),
            (
                r#"{"github": {"login": "alice", "host": "ghes.example"}}"#,
                "github:ghes.example/alice",
            ),
            (
                r#"{"gitlab": {"login": "bob", "host": "gitlab.com"}}"#,
                "gitlab:gitlab.com/bob",
            ),
            (
                r#"{"email": {"address": "carol@example.com"}}"#,
                "carol@example.com",
            ),
            (
                r#"{"certificate": {"issuer": "https://i.example", "subject": "dave"}}"#,
                "`dave` (issuer `https://i.example`)",
            ),
            (
                r#"{"git": {"name": "Eve", "email": "eve@example.com"}}"#,
                "Eve <eve@example.com> (git)",
            ),
        ] {
            let read: ChangeIdentity = serde_json::from_str(written).unwrap();
            assert_eq!(read.to_string(), shown);
        }
    }
}
