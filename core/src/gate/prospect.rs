//! Whether a denial can become an admission without a change of the manifests. The command `wait` ends at once where it cannot.

use super::coverage::UNCOVERED;
use super::finding::{Finding, Outcome};
use super::judge::{REVOKED, UNGOVERNED, UNREADABLE_OBJECT};
use super::policy::Enforcement;
use super::rules::{IMAGE_NOT_ALLOWED, NOT_PINNED, REJECTED};
use super::verdict::Verdict;
use crate::reason::Reason;

/// Whether a denial can turn while one waits, for the same object under the same policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Prospect {
    /// Evidence, approvals, time or a registry that answers again can turn it.
    Later,
    /// It stands until the object or a policy is changed.
    Never,
    /// A person who may approve has rejected a digest.
    Rejected,
}

/// The reasons of denials that stand whatever is attached to the images later.
const LASTING: &[Reason] = &[
    IMAGE_NOT_ALLOWED,
    NOT_PINNED,
    UNREADABLE_OBJECT,
    UNGOVERNED,
    REVOKED,
];

impl Verdict {
    /// Whether waiting can turn the denials of the policies that enforce; the clearest answer of all findings.
    pub fn prospect(&self) -> Prospect {
        let enforcing = self.denials();
        let enforcing = enforcing.filter(|policy| policy.enforcement() == Enforcement::Enforce);
        let denying = enforcing
            .flat_map(|policy| policy.findings())
            .filter(|finding| finding.outcome.denies());
        let prospects = denying.map(|finding| self.prospect_of(finding));
        prospects.max().unwrap_or(Prospect::Later)
    }

    /// Whether waiting can turn one denying finding.
    pub fn prospect_of(&self, finding: &Finding) -> Prospect {
        let is = |reason: &Reason| finding.reason == reason.id;
        let is_certain = finding.outcome == Outcome::Fail || is(&UNREADABLE_OBJECT);
        if !is_certain {
            Prospect::Later
        } else if is(&REJECTED) {
            Prospect::Rejected
        } else if LASTING.iter().any(is) || is(&UNCOVERED) && !self.may_be_covered(finding) {
            Prospect::Never
        } else {
            Prospect::Later
        }
    }

    /// Whether a requirement denies the image that could pass later and then cover it.
    fn may_be_covered(&self, uncovered: &Finding) -> bool {
        let all = self.policies().iter().flat_map(|policy| policy.findings());
        let mut others = all.filter(|it| it.target == uncovered.target && it.outcome.denies());
        others.any(|it| it.requirement_index.is_some())
    }
}
