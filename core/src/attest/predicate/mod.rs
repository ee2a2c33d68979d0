//! The predicates of verified statements: one file for each predicate type, with one Rust type for all of its versions.

mod approval;
mod change;
mod provenance;
mod strict;

use serde_json::value::RawValue;

use super::unaccepted::{FORMAT_NOT_SUPPORTED, UnacceptedReason};

pub use approval::{Approval, ApprovalDecision, ChangeTicket};
pub use change::{
    CertificateSubject, ChangeAuthor, ChangeIdentity, ChangePullRequest, ChangeRecord, ChangeRole,
    ChangedCommit, ChangedRepository, CommitId, EmailAddress, GitName, GitText, GithubAccount,
    GitlabAccount, MAXIMUM_AUTHORS, MAXIMUM_COMMITS, MAXIMUM_PROSE, MAXIMUM_UNKNOWN,
};
pub use provenance::{BuildActor, BuildType, NamedSource, Said, SlsaProvenance, SourceRepository};

/// Whether a predicate type is that of approvals, in any version.
pub fn is_approval(predicate_type: &str) -> bool {
    predicate_type.starts_with("https://promotion-gate.dev/approval/")
}

/// Whether a predicate type is that of change records, in any version.
pub fn is_change(predicate_type: &str) -> bool {
    predicate_type.starts_with("https://promotion-gate.dev/change/")
}

/// A predicate, parsed if its type is supported.
#[derive(Clone, Debug)]
pub enum Predicate {
    /// SLSA provenance.
    Provenance(Box<SlsaProvenance>),
    /// The decision of a person.
    Approval(Box<Approval>),
    /// The commits of a release and the people behind them.
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
        let provenance = |read: SlsaProvenance| Predicate::Provenance(Box::new(read));
        match predicate_type {
            "https://slsa.dev/provenance/v0.2" => SlsaProvenance::v0_2(text).map(provenance),
            "https://slsa.dev/provenance/v1" => SlsaProvenance::v1(text).map(provenance),
            Approval::TYPE => Ok(readable(Approval::read(text), Predicate::Approval)),
            ChangeRecord::TYPE => Ok(readable(ChangeRecord::read(text), Predicate::Change)),
            other if is_approval(other) || is_change(other) => {
                let why = format!("this version does not know the predicate type `{other}`");
                let why = UnacceptedReason::new(FORMAT_NOT_SUPPORTED, why);
                Ok(Predicate::Unreadable(why))
            }
            _ => Ok(Predicate::Other(predicate.map(ToOwned::to_owned))),
        }
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
            Predicate::Change(change) => change.bytes(),
            Predicate::Unreadable(why) => why.detail.len(),
            Predicate::Other(written) => written.as_ref().map_or(0, |text| text.get().len()),
        }
    }
}

fn readable<T>(
    read: Result<T, UnacceptedReason>,
    of: impl FnOnce(Box<T>) -> Predicate,
) -> Predicate {
    match read {
        Ok(read) => of(Box::new(read)),
        Err(why) => Predicate::Unreadable(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_and_what_may_be_one_can_hurt_and_an_approval_cannot() {
        let word = |decision: &str| format!(r#"{{"environment": "e", "decision": "{decision}"}}"#);
        for (kind, text, expected) in [
            (Approval::TYPE, word("approved"), false),
            (Approval::TYPE, word("rejected"), true),
            (Approval::TYPE, word("perhaps"), true),
            (Approval::TYPE, "null".to_owned(), true),
            (
                "https://promotion-gate.dev/approval/v2",
                word("approved"),
                true,
            ),
            (ChangeRecord::TYPE, "{}".to_owned(), true),
            ("https://example.com/other/v1", word("rejected"), false),
        ] {
            let raw = RawValue::from_string(text).unwrap();
            let predicate = Predicate::read(kind, Some(&raw)).unwrap();
            assert_eq!(predicate.can_hurt(), expected, "{kind} {raw}");
        }
    }
}
