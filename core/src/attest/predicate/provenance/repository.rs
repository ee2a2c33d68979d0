//! Repositories, whoever names them.

use std::fmt;

/// A repository of source code by its address: without `git+`, reference, `.git` and closing slash; scheme and host in lower
/// case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository(String);

impl Repository {
    /// Reads an address as SLSA writes it (SPDX download locations: `git+https://host/path@ref`) or as BuildKit does
    /// (`https://host/path.git#ref`), and the reference in it.
    pub fn parse(uri: &str) -> Option<(Repository, Option<String>)> {
        let (scheme, rest) = uri.strip_prefix("git+").unwrap_or(uri).split_once("://")?;
        let (host, path) = rest.split_once('/')?;
        let (path, git_ref) = match (path.split_once('#'), path.split_once('@')) {
            (Some((path, fragment)), _) => (path, fragment.split(':').next()),
            (None, Some((path, git_ref))) => (path, Some(git_ref)),
            (None, None) => (path, None),
        };
        let path = path.trim_end_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path);
        if path.is_empty() || host.is_empty() {
            return None;
        }
        let (scheme, host) = (scheme.to_ascii_lowercase(), host.to_ascii_lowercase());
        let git_ref = git_ref.filter(|git_ref| !git_ref.is_empty());
        Some((
            Repository(format!("{scheme}://{host}/{path}")),
            git_ref.map(str::to_owned),
        ))
    }

    /// An address that cannot be read, as it stands: no policy can mean it.
    pub(super) fn unread(uri: &str) -> Repository {
        Repository(uri.to_owned())
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `owner/name`, of a repository on GitHub.
    pub(super) fn on_github(&self) -> Option<&str> {
        self.0.strip_prefix("https://github.com/")
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
