//! Why something could not be read from a registry, and whether that says anything about the content itself.

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
    /// The registry does not have the content.
    NotFound,
    /// The registry requires credentials, and there are none or it does not accept them.
    Unauthorized,
    /// The registry knows the caller and refuses the request, or this program does not allow the request.
    Denied,
    /// The registry limits the rate of requests.
    RateLimited,
    /// The registry cannot be reached, or fails.
    Unavailable,
    /// The registry did not answer in time.
    TimedOut,
    /// The content is larger than the limit.
    TooLarge,
    /// The content is not in the expected form.
    Malformed,
    /// The content does not have its digest.
    DigestMismatch,
}

impl ErrorKind {
    /// The class, as metrics name it.
    pub(crate) fn id(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "not-found",
            ErrorKind::Unauthorized => "unauthorized",
            ErrorKind::Denied => "denied",
            ErrorKind::RateLimited => "rate-limited",
            ErrorKind::Unavailable => "unavailable",
            ErrorKind::TimedOut => "timed-out",
            ErrorKind::TooLarge => "too-large",
            ErrorKind::Malformed => "malformed",
            ErrorKind::DigestMismatch => "digest-mismatch",
        }
    }
}

impl RegistryError {
    /// `tried` names the request or the file; `why` says what happened. Both may quote a registry, so they are shortened and
    /// made printable.
    pub fn new(kind: ErrorKind, tried: impl Into<String>, why: impl Into<String>) -> RegistryError {
        let bounded = |text: String, most| line(&text).chars().take(most).collect();
        RegistryError {
            kind,
            tried: bounded(tried.into(), MAXIMUM_TRIED),
            why: bounded(why.into(), MAXIMUM_WHY),
        }
    }

    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What happened, without the request.
    pub(super) fn why(&self) -> &str {
        &self.why
    }

    /// Whether the error says nothing about the content itself, so that another attempt may succeed.
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

/// The most characters of `tried`.
const MAXIMUM_TRIED: usize = 300;
/// The most characters of `why`.
const MAXIMUM_WHY: usize = 600;

/// A text from a registry, as at most 200 printable characters.
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
