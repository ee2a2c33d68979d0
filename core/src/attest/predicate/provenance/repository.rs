//! Source repositories in a normal form, so that those of policies, provenance and certificates can be compared.

use std::fmt;

/// The address of a source repository, without `git+`, reference, `.git` and closing slash, and with scheme and host in lower
/// case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceRepository {
    address: String,
    is_readable: bool,
}

impl SourceRepository {
    /// Parses an address in the form of SLSA (SPDX download location, `git+https://host/path@ref`) or of BuildKit
    /// (`https://host/path.git#ref`), with its reference. A path that clients resolve to another path is refused: the pattern
    /// `https://host/example/**` must not accept `https://host/example/../other/app`.
    pub fn parse(uri: &str) -> Option<(SourceRepository, Option<String>)> {
        let (address, git_ref) = normal(uri)?;
        // Written in normal form, it has to be the same address: `https://host/a.git.git` would lead to another one.
        let is_readable = normal(&address).is_some_and(|again| again == (address.clone(), None));
        let repository = SourceRepository {
            address,
            is_readable,
        };
        Some((repository, git_ref))
    }

    /// An address that cannot be parsed, as written. No policy accepts it.
    pub(super) fn unread(uri: &str) -> SourceRepository {
        SourceRepository {
            address: uri.to_owned(),
            is_readable: false,
        }
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.address
    }

    /// The host, without a user and a port; `None` if the address cannot be parsed.
    pub fn host(&self) -> Option<&str> {
        let (host, _) = self.address.split_once("://")?.1.split_once('/')?;
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        Some(host.split_once(':').map_or(host, |(host, _)| host))
    }

    /// Whether the address can be parsed, so that a policy can accept it.
    pub fn is_readable(&self) -> bool {
        self.is_readable
    }

    /// Whether both addresses name the same repository. Case is ignored, as on GitHub and GitLab.
    pub fn is_same(&self, other: &SourceRepository) -> bool {
        self.address.eq_ignore_ascii_case(&other.address)
    }

    /// The repository on the same server with this path.
    pub fn beside(&self, path: &str) -> Option<SourceRepository> {
        let (scheme, rest) = self.address.split_once("://")?;
        let (host, _) = rest.split_once('/')?;
        Some(SourceRepository::parse(&format!("{scheme}://{host}/{path}"))?.0)
    }
}

/// An address in normal form, with its reference.
fn normal(uri: &str) -> Option<(String, Option<String>)> {
    let (scheme, rest) = uri.strip_prefix("git+").unwrap_or(uri).split_once("://")?;
    let (host, path) = rest.split_once('/')?;
    let (path, git_ref) = match (path.split_once('#'), path.split_once('@')) {
        (Some((path, fragment)), _) => (path, fragment.split(':').next()),
        (None, Some((path, git_ref))) => (path, Some(git_ref)),
        (None, None) => (path, None),
    };
    let path = path.trim_end_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    if host.is_empty() || !path.split('/').all(is_plain) {
        return None;
    }
    let (scheme, host) = (scheme.to_ascii_lowercase(), host.to_ascii_lowercase());
    let git_ref = git_ref.filter(|git_ref| !git_ref.is_empty());
    let address = [&scheme, "://", &host, "/", path].concat();
    Some((address, git_ref.map(str::to_owned)))
}

/// Whether every client and server resolves a part of a path literally.
fn is_plain(part: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '\\');
    let is_step = |part: &str| matches!(part, "" | "." | "..");
    let hides = |part: &str| {
        let lower = part.to_ascii_lowercase();
        is_step(&lower.replace("%2e", "."))
            || ["%2f", "%5c", "%00"].iter().any(|it| lower.contains(it))
    };
    !(part.contains(odd) || is_step(part) || part.contains('%') && hides(part))
}

impl fmt::Display for SourceRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}
