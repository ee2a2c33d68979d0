//! Why something that is present was not accepted.

use sigstore_verify::error::{CertificateError, Error, TimestampError, TransparencyLogError};

/// Why something that is present was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unaccepted {
    /// Stable id of the reason, in kebab case.
    pub reason: &'static str,
    /// The reason in words.
    pub detail: String,
}

impl Unaccepted {
    /// A reason with its words.
    pub fn new(reason: &'static str, detail: impl Into<String>) -> Unaccepted {
        Unaccepted {
            reason,
            detail: detail.into().chars().take(400).collect(),
        }
    }

    pub(super) fn of(error: &Error) -> Unaccepted {
        let reason = match error {
            Error::SignatureInvalid(_) => "bad-signature",
            Error::ArtifactMismatch(_) => "wrong-subject",
            Error::Certificate(
                CertificateError::NotYetValid { .. } | CertificateError::Expired { .. },
            ) => "certificate-not-valid-at-signing",
            Error::Certificate(CertificateError::Malformed(_)) => "malformed",
            Error::Certificate(CertificateError::Sct(_)) => "bad-certificate-timestamp",
            Error::Certificate(_) => "untrusted-certificate",
            Error::TransparencyLog(TransparencyLogError::UnknownLog { .. }) => "unknown-log",
            Error::TransparencyLog(_) => "bad-log-entry",
            Error::Timestamp(TimestampError::NoVerifiedTimestamp(_)) => "no-verified-time",
            Error::Timestamp(_) => "bad-timestamp",
            Error::UnsupportedBundle(_) | Error::UnsupportedArtifact(_) => "format-not-supported",
            _ => "malformed",
        };
        Unaccepted::new(reason, error.to_string())
    }
}

impl std::fmt::Display for Unaccepted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.detail, self.reason)
    }
}
