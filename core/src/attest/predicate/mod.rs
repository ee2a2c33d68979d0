//! The predicates of verified statements: one file for each predicate type, with one Rust type for all of its versions.

mod approval;
mod change;
mod provenance;
mod strict;

use serde_json::value::RawValue;

use super::unaccepted::UnacceptedReason;

pub use approval::{Approval, ApprovalDecision, ChangeTicket};
pub use change::{
    CertificateSubject, ChangeAuthor, ChangePullRequest, ChangeRecord, ChangedCommit,
    ChangedRepository, CommitId, EmailAddress, GitName, GitText, GithubAccount, GitlabAccount,
    Identity, MAXIMUM_AUTHORS, MAXIMUM_COMMITS, MAXIMUM_PROSE, MAXIMUM_UNKNOWN, Role,
};
pub use provenance::{BuildType, NamedSource, Said, SlsaProvenance, SourceRepository};

/// A predicate, parsed if its type is supported.
#[derive(Clone, Debug)]
pub enum Predicate {
    /// SLSA provenance.
    Provenance(Box<SlsaProvenance>),
    /// The decision of a person.
    Approval(Box<Approval>),
    /// The commits of a release and the people behind them.
    Change(Box<ChangeRecord>),
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
            Approval::TYPE => Approval::read(text).map(|read| Predicate::Approval(Box::new(read))),
            ChangeRecord::TYPE => {
                ChangeRecord::read(text).map(|read| Predicate::Change(Box::new(read)))
            }
            _ => Ok(Predicate::Other(predicate.map(ToOwned::to_owned))),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Predicate::Provenance(provenance) => provenance.bytes(),
            Predicate::Approval(approval) => approval.bytes(),
            Predicate::Change(change) => change.bytes(),
            Predicate::Other(written) => written.as_ref().map_or(0, |text| text.get().len()),
        }
    }
}
