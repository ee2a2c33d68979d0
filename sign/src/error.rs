//! Why something could not be signed.

/// Why something could not be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// A key, a token or a `SigningConfig` that cannot be used.
    #[error("{0}")]
    Unusable(String),
    /// The identity token expired before it was used.
    #[error("{0}")]
    Expired(String),
    /// A service did not do what it was asked for.
    #[error("{0}")]
    Service(String),
    /// What the services returned does not verify.
    #[error("{0}")]
    NotVerified(String),
}
