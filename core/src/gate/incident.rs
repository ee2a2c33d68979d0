//! An incident as an incident tracker reports it, and how severe it is.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How severe an incident is, from `P1` (the most severe) to `P5`. Each preset of an `IncidentCheck` maps its tracker's words
/// to these.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum Severity {
    /// The most severe.
    P1,
    /// Severe.
    P2,
    /// Moderate.
    P3,
    /// Minor.
    P4,
    /// The least severe.
    P5,
}

impl Severity {
    /// Whether an incident of this severity is at least as severe as `minimum`.
    pub fn reaches(self, minimum: Severity) -> bool {
        self <= minimum
    }

    /// The severity with this name; `None` if there is none.
    pub fn parse(name: &str) -> Option<Severity> {
        use Severity::{P1, P2, P3, P4, P5};
        let mut all = [P1, P2, P3, P4, P5].into_iter();
        all.find(|severity| severity.to_string() == name)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What an incident tracker answered about one incident. A field that the tracker did not give is `None`, and a policy that asks
/// for it is not satisfied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// The incident's identifier, as the declaration of the emergency change names it.
    pub id: String,
    /// Whether the incident is open now. One that was resolved, closed or merged into another is not.
    pub open: bool,
    /// How severe it is.
    pub severity: Option<Severity>,
    /// Where people read about it.
    pub url: Option<String>,
    /// When it was opened.
    pub created_at: Option<Timestamp>,
    /// Who opened it: the tracker's name of the account.
    pub created_by: Option<String>,
    /// The service that it is about, as the tracker names it.
    pub service: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_severity_reaches_itself_and_every_less_severe_one() {
        assert!(Severity::P1.reaches(Severity::P2));
        assert!(Severity::P2.reaches(Severity::P2));
        assert!(!Severity::P3.reaches(Severity::P2));
        assert_eq!(Severity::parse("P5"), Some(Severity::P5));
        assert_eq!(Severity::parse("p1"), None);
    }
}
