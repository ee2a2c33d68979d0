//! The predicates of verified statements: one file for each predicate type, with one Rust type for all of its versions.

mod approval;
mod change;
mod provenance;
mod texts;

use serde_json::value::RawValue;

use super::unaccepted::{FORMAT_NOT_SUPPORTED, UnacceptedReason};

pub use approval::{Approval, ApprovalDecision, NamedChange};
pub use change::{
    ChangeAccount, ChangeAuthor, ChangeIdentity, ChangeRecord, ChangeRole, MAXIMUM_COMMITS,
};
pub use provenance::{BuildActor, BuildType, NamedSource, Said, SlsaProvenance, SourceRepository};

/// The predicate type of approvals.
pub const APPROVAL: &str = "https://promotion-gate.dev/approval/v1";

/// The predicate type of change records.
pub const CHANGE: &str = "https://promotion-gate.dev/change/v1";

/// Whether a predicate type is that of change records, in any version.
pub fn is_change(predicate_type: &str) -> bool {
    predicate_type.starts_with("https://promotion-gate.dev/change/")
}

/// Whether a predicate type is that of approvals, in any version.
pub fn is_approval(predicate_type: &str) -> bool {
    predicate_type.starts_with("https://promotion-gate.dev/approval/")
}

/// A predicate, parsed if its type is supported.
#[derive(Clone, Debug)]
pub enum Predicate {
    /// SLSA provenance.
    Provenance(Box<SlsaProvenance>),
    /// The approval or rejection of a digest.
    Approval(Box<Approval>),
    /// The record of a change.
    Change(Box<ChangeRecord>),
    /// A predicate of a type of this project that cannot be read. The signature is valid, so the signer said something, and it
    /// could be a rejection.
    Unreadable(UnacceptedReason),
    /// A predicate of another type, as JSON; `None` if the statement does not have a predicate.
    Other(Option<Box<RawValue>>),
}

impl Predicate {
    pub(super) fn read(
        predicate_type: &str,
        predicate: Option<&RawValue>,
    ) -> Result<Predicate, UnacceptedReason> {
        let text = predicate.map_or("null", RawValue::get);
        match predicate_type {
            "https://slsa.dev/provenance/v0.2" => SlsaProvenance::v0_2(text),
            "https://slsa.dev/provenance/v1" => SlsaProvenance::v1(text),
            APPROVAL => {
                let read = Approval::read(text).map(|read| Predicate::Approval(Box::new(read)));
                return Ok(read.unwrap_or_else(Predicate::Unreadable));
            }
            CHANGE => {
                let read = ChangeRecord::read(text).map(|read| Predicate::Change(Box::new(read)));
                return Ok(read.unwrap_or_else(Predicate::Unreadable));
            }
            other if is_approval(other) || is_change(other) => {
                let why = format!("this version does not know the predicate type `{other}`");
                let why = UnacceptedReason::new(FORMAT_NOT_SUPPORTED, why);
                return Ok(Predicate::Unreadable(why));
            }
            _ => return Ok(Predicate::Other(predicate.map(ToOwned::to_owned))),
        }
        .map(|provenance| Predicate::Provenance(Box::new(provenance)))
    }

    /// Whether a rule can deny because of it: a rejection, what may be one, and who the authors are.
    pub fn can_hurt(&self) -> bool {
        match self {
            Predicate::Approval(approval) => approval.decision == ApprovalDecision::Rejected,
            Predicate::Provenance(_) | Predicate::Change(_) | Predicate::Unreadable(_) => true,
            Predicate::Other(_) => false,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Predicate::Provenance(provenance) => provenance.bytes(),
            Predicate::Approval(approval) => approval.bytes(),
            Predicate::Change(record) => record.bytes(),
            Predicate::Unreadable(why) => why.detail.len(),
            Predicate::Other(written) => written.as_ref().map_or(0, |text| text.get().len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_and_what_may_be_one_can_hurt_and_an_approval_cannot() {
        let word = |decision: &str| format!(r#"{{"environment": "e", "decision": "{decision}"}}"#);
        for (kind, text, expected) in [
            (APPROVAL, word("approved"), false),
            (APPROVAL, word("rejected"), true),
            (APPROVAL, word("perhaps"), true),
            (APPROVAL, "null".to_owned(), true),
            (
                "https://promotion-gate.dev/approval/v2",
                word("approved"),
                true,
            ),
            (CHANGE, "{}".to_owned(), true),
            ("https://example.com/other/v1", word("rejected"), false),
        ] {
            let raw = RawValue::from_string(text).unwrap();
            let predicate = Predicate::read(kind, Some(&raw)).unwrap();
            assert_eq!(predicate.can_hurt(), expected, "{kind} {raw}");
        }
    }
}
