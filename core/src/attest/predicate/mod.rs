//! The predicates of verified statements: one file for each predicate type, with one Rust type for all of its versions.

mod provenance;

use serde_json::value::RawValue;

use super::unaccepted::UnacceptedReason;

pub use provenance::{Account, BuildType, NamedSource, Said, SlsaProvenance, SourceRepository};

/// A predicate, parsed if its type is supported.
#[derive(Clone, Debug)]
pub enum Predicate {
    /// SLSA provenance.
    Provenance(Box<SlsaProvenance>),
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
            Predicate::Other(written) => written.as_ref().map_or(0, |text| text.get().len()),
        }
    }
}
