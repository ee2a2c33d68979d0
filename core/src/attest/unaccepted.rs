//! Why something that is present was not accepted.

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
}

impl std::fmt::Display for Unaccepted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.detail, self.reason)
    }
}
