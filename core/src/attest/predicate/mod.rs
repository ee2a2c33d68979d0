//! The predicates of verified statements: one file for each predicate type, with one Rust type for all of its versions.

mod approval;
mod provenance;

use serde_json::value::RawValue;

use super::unaccepted::UnacceptedReason;

pub use approval::{Approval, ApprovalDecision, NamedChange};
pub use provenance::{Account, BuildType, NamedSource, Said, SlsaProvenance, SourceRepository};

/// The predicate type of approvals.
pub const APPROVAL: &str = "https://promotion-gate.dev/approval/v1";

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
            _ => return Ok(Predicate::Other(predicate.map(ToOwned::to_owned))),
        }
        .map(|provenance| Predicate::Provenance(Box::new(provenance)))
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Predicate::Provenance(provenance) => provenance.bytes(),
            Predicate::Approval(approval) => size_of_val(&**approval),
            Predicate::Unreadable(why) => why.detail.len(),
            Predicate::Other(written) => written.as_ref().map_or(0, |text| text.get().len()),
        }
    }
}
