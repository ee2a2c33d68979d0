//! The decision with its findings. Only [`judge`](super::judge) makes a [`Verdict`], and a verdict cannot be deserialised:
//!
//! ```compile_fail,E0277
//! fn deserialises<T: serde::de::DeserializeOwned>() {}
//! deserialises::<promotion_gate_core::gate::Verdict>();
//! ```
//! ```compile_fail,E0624
//! promotion_gate_core::gate::Verdict::of(Vec::new(), String::new());
//! ```
//! ```compile_fail,E0624
//! use promotion_gate_core::gate::{Enforcement, PolicyVerdict};
//! PolicyVerdict::of(String::new(), Enforcement::Enforce, Vec::new());
//! ```

use std::collections::BTreeSet;

use super::emergency::{EmergencyUse, IncidentQuestion, together};
use super::finding::{Finding, Outcome};
use super::policy::Enforcement;

/// The decisions of all governing policies about one promotion. Only [`judge`](super::judge) makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    policies: Vec<PolicyVerdict>,
    revision: String,
}

/// The decision of one policy, with every finding that led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyVerdict {
    policy: String,
    enforcement: Enforcement,
    decision: Decision,
    findings: Vec<Finding>,
    emergency: PolicyEmergency,
}

/// What emergency changes mean for the decision of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PolicyEmergency {
    /// The one that waives what denied.
    pub(super) used: Option<Box<EmergencyUse>>,
    /// What has to be asked about incidents before it is known whether one does.
    pub(super) asks: BTreeSet<IncidentQuestion>,
}

/// Whether a promotion is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The promotion is allowed.
    Allow,
    /// The promotion is denied.
    Deny,
}

impl Decision {
    /// `allow` or `deny`.
    pub fn id(self) -> &'static str {
        match self {
            Decision::Allow => "allow",
            Decision::Deny => "deny",
        }
    }
}

impl Verdict {
    /// The only constructor. Sorts the policies by name, so that the answer does not depend on the order of the input.
    pub(super) fn of(mut policies: Vec<PolicyVerdict>, revision: String) -> Verdict {
        policies.sort_by(|a, b| a.policy.cmp(&b.policy));
        Verdict { policies, revision }
    }

    /// Deny if at least one policy with `enforcement: Enforce` denies.
    pub fn decision(&self) -> Decision {
        let denied = self
            .denials()
            .any(|policy| policy.enforcement == Enforcement::Enforce);
        if denied {
            Decision::Deny
        } else {
            Decision::Allow
        }
    }

    /// Whether every finding that denies the promotion is undecided.
    pub fn is_undecided(&self) -> bool {
        let mut denying = self
            .denials()
            .filter(|policy| policy.enforcement == Enforcement::Enforce)
            .flat_map(|policy| {
                policy
                    .findings
                    .iter()
                    .filter(|finding| finding.outcome.denies())
            })
            .peekable();
        denying.peek().is_some() && denying.all(|finding| finding.outcome == Outcome::Undecided)
    }

    /// The decisions of the governing policies, by name; empty when no policy governs the object.
    pub fn policies(&self) -> &[PolicyVerdict] {
        &self.policies
    }

    /// The policies that deny, with any enforcement.
    pub fn denials(&self) -> impl Iterator<Item = &PolicyVerdict> {
        self.policies
            .iter()
            .filter(|policy| policy.decision == Decision::Deny)
    }

    /// What the deployer should know although the change passes, each text once; without what is only audited.
    pub fn warnings(&self) -> BTreeSet<String> {
        let policies = self.policies.iter();
        let told = policies.filter(|policy| policy.enforcement != Enforcement::Audit);
        let findings = told.clone().flat_map(|policy| &policy.findings);
        let of_findings = findings.flat_map(|finding| &finding.warnings);
        let used = together(told.filter_map(PolicyVerdict::emergency));
        let cautions = used.iter().flat_map(EmergencyUse::cautions);
        of_findings
            .map(ToString::to_string)
            .chain(cautions)
            .collect()
    }

    /// The emergency changes by which policies allow the change, each once.
    pub fn emergencies(&self) -> Vec<EmergencyUse> {
        together(self.policies.iter().filter_map(PolicyVerdict::emergency))
    }

    /// What has to be asked about incidents before it is known whether an emergency change lets the change pass.
    pub fn incident_questions(&self) -> BTreeSet<IncidentQuestion> {
        let asks = self.policies.iter().flat_map(|it| &it.emergency.asks);
        asks.cloned().collect()
    }

    /// The revision of the policies that were applied.
    pub fn revision(&self) -> &str {
        &self.revision
    }
}

impl PolicyVerdict {
    /// The only constructor. The policy denies if one of its findings denies, or if it has no finding. Findings are sorted, worst first.
    pub(super) fn of(
        policy: String,
        enforcement: Enforcement,
        mut findings: Vec<Finding>,
    ) -> PolicyVerdict {
        findings.sort_by(|a, b| (a.outcome, a).cmp(&(b.outcome, b)));
        findings.dedup_by(|later, earlier| later.is_duplicate_of(earlier));
        let denied = findings.is_empty() || findings.iter().any(|finding| finding.outcome.denies());
        let decision = if denied {
            Decision::Deny
        } else {
            Decision::Allow
        };
        PolicyVerdict {
            policy,
            enforcement,
            decision,
            findings,
            emergency: PolicyEmergency::default(),
        }
    }

    /// The same with what emergency changes mean for it.
    pub(super) fn with(self, emergency: PolicyEmergency) -> PolicyVerdict {
        PolicyVerdict { emergency, ..self }
    }

    /// The emergency change by which this policy allows the change, if it does by one.
    pub fn emergency(&self) -> Option<&EmergencyUse> {
        let used = self.emergency.used.as_deref();
        used.filter(|_| self.decision == Decision::Allow)
    }

    /// The name of the policy, or the file of a policy that could not be read.
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// What a denial of this policy causes.
    pub fn enforcement(&self) -> Enforcement {
        self.enforcement
    }

    /// The decision of this policy.
    pub fn decision(&self) -> Decision {
        self.decision
    }

    /// Every finding, worst first.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }
}
