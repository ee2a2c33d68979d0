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
        let parts = Parts::of(uri)?;
        let address = parts.address();
        // Written in normal form, it has to be the same address: `https://host/a.git.git` would lead to another one. Everything that the
        // normal form leaves out makes it shorter.
        let is_readable = Parts::of(&address).is_some_and(|again| again.length() == address.len());
        let git_ref = parts.git_ref.map(str::to_owned);
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

/// The parts of an address, without what the normal form leaves out.
struct Parts<'u> {
    scheme: &'u str,
    host: &'u str,
    path: &'u str,
    git_ref: Option<&'u str>,
}

impl<'u> Parts<'u> {
    fn of(uri: &'u str) -> Option<Parts<'u>> {
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
        Some(Parts {
            scheme,
            host,
            path,
            git_ref: git_ref.filter(|git_ref| !git_ref.is_empty()),
        })
    }

    /// The length of the address.
    fn length(&self) -> usize {
        self.scheme.len() + "://".len() + self.host.len() + "/".len() + self.path.len()
    }

    /// The address in normal form.
    fn address(&self) -> String {
        let mut address = String::with_capacity(self.length());
        for part in [self.scheme, "://", self.host] {
            address.push_str(part);
        }
        address.make_ascii_lowercase();
        address.push('/');
        address.push_str(self.path);
        address
    }
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
