//! Why something could not be read from a registry, and whether that says anything about the thing itself.

use crate::text::line;

/// Why something could not be read from a registry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{tried}: {why}")]
pub struct RegistryError {
    kind: ErrorKind,
    tried: String,
    why: String,
}

/// The class of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The registry does not have it.
    NotFound,
    /// The registry wants credentials that there are not, or that it does not accept.
    Unauthorized,
    /// The registry knows who asks and refuses, or the request itself is not allowed.
    Denied,
    /// The registry wants fewer requests.
    RateLimited,
    /// The registry cannot be reached, or fails.
    Unavailable,
    /// The registry did not answer in time.
    TimedOut,
    /// It is larger than what is read.
    TooLarge,
    /// It is not what it should be.
    Malformed,
    /// Its bytes are not those that its digest names.
    DigestMismatch,
}

impl RegistryError {
    /// `tried` names the request or the file; `why` what came of it. Both may hold what a registry wrote, so they are cut, and
    /// made printable.
    pub fn new(kind: ErrorKind, tried: impl Into<String>, why: impl Into<String>) -> RegistryError {
        let bounded = |text: String, most| line(&text).chars().take(most).collect();
        RegistryError {
            kind,
            tried: bounded(tried.into(), MAXIMUM_TRIED),
            why: bounded(why.into(), MAXIMUM_WHY),
        }
    }

    /// The class.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether nothing is known about the thing that was asked for, so that asking again may give another answer.
    pub fn is_infrastructure(&self) -> bool {
        match self.kind {
            ErrorKind::Unauthorized
            | ErrorKind::Denied
            | ErrorKind::RateLimited
            | ErrorKind::Unavailable
            | ErrorKind::TimedOut => true,
            ErrorKind::NotFound
            | ErrorKind::TooLarge
            | ErrorKind::Malformed
            | ErrorKind::DigestMismatch => false,
        }
    }
}

/// Characters that name what was tried.
const MAXIMUM_TRIED: usize = 300;
/// Characters that say what came of it.
const MAXIMUM_WHY: usize = 600;

/// What a registry wrote, cut to 200 printable characters.
pub(super) fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes.get(..2048).unwrap_or(bytes)).into_owned();
    let printable: String = line(&text).chars().take(1000).collect();
    let words: Vec<_> = printable.split_whitespace().collect();
    words.join(" ").chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::excerpt;

    #[test]
    fn a_body_is_cut_to_200_printable_characters() {
        assert_eq!(
            excerpt(b"denied:\n\x1b[31m  no  \x00access"),
            "denied: [31m no access"
        );
        assert_eq!(excerpt("a\u{202e}b".as_bytes()), "a b");
        assert_eq!(excerpt(&[b'x'; 5000]).len(), 200);
        assert_eq!(excerpt(&[0xff; 50]), "");
    }
}
