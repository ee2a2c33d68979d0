//! The predicates of verified statements: one file for each predicate type, with one Rust type for all of its versions.

mod approval;
mod change;
mod emergency;
pub(in crate::attest) mod fields;
mod openvex;
mod provenance;
mod purl;
mod sbom;
mod scan;
mod strict;
mod verification_summary;

use serde::de::MapAccess;
use serde_json::value::RawValue;

use super::COSIGN_SIGN;
use super::unaccepted::{FORMAT_NOT_SUPPORTED, UnacceptedReason, bounded};

pub use approval::{Approval, ApprovalDecision, ChangeTicket};
pub use change::{
    CertificateSubject, ChangeAuthor, ChangeIdentity, ChangePullRequest, ChangeRecord, ChangeRole,
    ChangedCommit, ChangedRepository, CommitId, EmailAddress, GitName, GitText, GithubAccount,
    GitlabAccount, MAXIMUM_AUTHORS, MAXIMUM_COMMITS, MAXIMUM_PROSE, MAXIMUM_UNKNOWN,
};
pub use emergency::{
    EmergencyChange, EmergencyClosure, EmergencyReview, IncidentReference, ReviewVerdict,
};
pub use openvex::{VexDocument, VexProduct, VexStatement, VexStatus, is_vex};
pub use provenance::{BuildActor, BuildType, NamedSource, Said, SlsaProvenance, SourceRepository};
pub use purl::{
    PackageName, PackageUrl, is_no_version, is_package_url, is_type, is_unseen, name_and_version,
    usual_name, usual_version,
};
pub use sbom::{MAXIMUM_PACKAGES, SbomFormat, SoftwareBill, is_sbom};
pub(crate) use scan::RawReport;
pub use scan::{
    MAXIMUM_FINDINGS, ScannedArtifact, VulnerabilityFinding, VulnerabilityScan,
    VulnerabilitySeverity, is_cve, is_scan,
};
pub use verification_summary::{
    SummaryPolicy, SummaryResult, SummaryVerifier, VerificationSummary,
};

/// Whether a predicate type is that of approvals, in any version.
pub fn is_approval(predicate_type: &str) -> bool {
    predicate_type.starts_with("https://promotion-gate.dev/approval/")
}

/// Whether a predicate type is that of change records, in any version.
pub fn is_change(predicate_type: &str) -> bool {
    predicate_type.starts_with("https://promotion-gate.dev/change/")
}

/// Whether a predicate type is that of declarations, closures or reviews of emergency changes, in any version.
pub fn is_emergency(predicate_type: &str) -> bool {
    predicate_type.starts_with("https://promotion-gate.dev/emergency-")
}

/// Whether a predicate type is that of closures of emergency changes, in any version.
pub fn is_emergency_closure(predicate_type: &str) -> bool {
    predicate_type.starts_with("https://promotion-gate.dev/emergency-closure/")
}

/// The rule that judges statements of a type, as a message names it; `None` for a type that has no rule of its own.
pub fn rule_of(predicate_type: &str) -> Option<&'static str> {
    let begins = |prefix: &str| predicate_type.starts_with(prefix);
    match predicate_type {
        COSIGN_SIGN => Some("`signature`"),
        VerificationSummary::TYPE => Some("`verificationSummary`"),
        _ if begins("https://slsa.dev/provenance/") => Some("`provenance`"),
        other if is_approval(other) || is_change(other) => Some("`approvals`"),
        other if is_emergency(other) => Some("`emergency` of the policy"),
        other if is_scan(other) || is_vex(other) => Some("`vulnerabilities`"),
        other if is_sbom(other) => Some("`sbom`"),
        _ => None,
    }
}

/// Whether only some fields of a predicate have a meaning. Its reader then checks these itself, and nothing else uses the others.
pub(super) fn is_read_by_known_fields(predicate_type: &str) -> bool {
    is_scan(predicate_type) || is_sbom(predicate_type) || is_vex(predicate_type)
}

/// Whether a predicate of this type could deny something, so that one that cannot be read counts as [`Predicate::Unreadable`].
pub(super) fn could_hurt(predicate_type: &str) -> bool {
    let by_people = is_approval(predicate_type) || is_emergency(predicate_type);
    let of_image = is_scan(predicate_type) || is_sbom(predicate_type) || is_vex(predicate_type);
    by_people || of_image || is_change(predicate_type)
}

/// The most bytes of a predicate of which more than some fields are kept (4 MiB).
const MAXIMUM_BYTES: usize = 4 << 20;

/// A predicate, parsed if its type is supported.
#[derive(Clone, Debug)]
pub enum Predicate {
    /// SLSA provenance.
    Provenance(Box<SlsaProvenance>),
    /// The decision of a person.
    Approval(Box<Approval>),
    /// The commits of a release and the people behind them.
    Change(Box<ChangeRecord>),
    /// The declaration of an emergency change.
    EmergencyChange(Box<EmergencyChange>),
    /// The early end of an emergency change.
    EmergencyClosure(Box<EmergencyClosure>),
    /// The review of an emergency change.
    EmergencyReview(Box<EmergencyReview>),
    /// What a verifier concluded.
    VerificationSummary(Box<VerificationSummary>),
    /// What a scanner found in the image.
    Scan(Box<VulnerabilityScan>),
    /// The packages of the image.
    Sbom(Box<SoftwareBill>),
    /// Which vulnerabilities affect the image.
    Vex(Box<VexDocument>),
    /// A predicate of a type of this project, of a scan, an SBOM or an OpenVEX document, that cannot be read. The signature is valid, so the signer said
    /// something, and it could be a rejection or a finding.
    Unreadable(UnacceptedReason),
    /// A predicate of another type, as JSON; `None` if the statement does not have a predicate.
    Other(Option<Box<RawValue>>),
}

impl Predicate {
    /// Reads the next value of a statement as its predicate, if it is of a type that can be large.
    pub(super) fn next<'de, A: MapAccess<'de>>(
        predicate_type: &str,
        entries: &mut A,
    ) -> Result<Option<Predicate>, A::Error> {
        if is_scan(predicate_type) {
            let read = VulnerabilityScan::of(predicate_type, entries.next_value()?);
            return Ok(Some(readable(read, Predicate::Scan)));
        }
        if is_sbom(predicate_type) {
            let read = SoftwareBill::of(predicate_type, entries.next_value()?);
            return Ok(Some(readable(read, Predicate::Sbom)));
        }
        Ok(None)
    }

    pub(super) fn read(
        predicate_type: &str,
        predicate: Option<&RawValue>,
    ) -> Result<Predicate, UnacceptedReason> {
        let text = predicate.map_or("null", RawValue::get);
        if is_scan(predicate_type) {
            let read = VulnerabilityScan::read(predicate_type, text);
            return Ok(readable(read, Predicate::Scan));
        }
        if is_sbom(predicate_type) {
            let read = SoftwareBill::read(predicate_type, text);
            return Ok(readable(read, Predicate::Sbom));
        }
        match bounded("bytes of the predicate", text.len(), MAXIMUM_BYTES) {
            Err(why) if could_hurt(predicate_type) => return Ok(Predicate::Unreadable(why)),
            within => within.map_err(|why| naming_the_command(why, text))?,
        }
        let provenance = |read: SlsaProvenance| Predicate::Provenance(Box::new(read));
        match predicate_type {
            "https://slsa.dev/provenance/v0.2" => SlsaProvenance::v0_2(text).map(provenance),
            "https://slsa.dev/provenance/v1" => SlsaProvenance::v1(text).map(provenance),
            Approval::TYPE => Ok(readable(Approval::read(text), Predicate::Approval)),
            other if is_vex(other) => Ok(readable(VexDocument::read(text), Predicate::Vex)),
            ChangeRecord::TYPE => Ok(readable(ChangeRecord::read(text), Predicate::Change)),
            EmergencyChange::TYPE => {
                let read = EmergencyChange::read(text);
                Ok(readable(read, Predicate::EmergencyChange))
            }
            EmergencyClosure::TYPE => {
                let read = EmergencyClosure::read(text);
                Ok(readable(read, Predicate::EmergencyClosure))
            }
            EmergencyReview::TYPE => {
                let read = EmergencyReview::read(text);
                Ok(readable(read, Predicate::EmergencyReview))
            }
            VerificationSummary::TYPE => {
                let read = VerificationSummary::read(text);
                read.map(|read| Predicate::VerificationSummary(Box::new(read)))
            }
            other if is_approval(other) || is_change(other) || is_emergency(other) => {
                let why = format!("this version does not know the predicate type `{other}`");
                let why = UnacceptedReason::new(FORMAT_NOT_SUPPORTED, why);
                Ok(Predicate::Unreadable(why))
            }
            _ => Ok(Predicate::Other(predicate.map(ToOwned::to_owned))),
        }
    }

    /// Whether the gate can deny because of it: a rejection, the end of an emergency change, what may be one, who the authors are,
    /// what a scanner found, what a VEX document takes back, and which packages an SBOM lists.
    pub fn can_hurt(&self) -> bool {
        match self {
            Predicate::Approval(approval) => approval.decision == ApprovalDecision::Rejected,
            Predicate::Vex(document) => document.can_hurt(),
            Predicate::Provenance(_)
            | Predicate::Change(_)
            | Predicate::EmergencyClosure(_)
            | Predicate::Scan(_)
            | Predicate::Sbom(_)
            | Predicate::Unreadable(_) => true,
            Predicate::EmergencyChange(_)
            | Predicate::EmergencyReview(_)
            | Predicate::VerificationSummary(_)
            | Predicate::Other(_) => false,
        }
    }

    /// The part of it that can hurt; `None` if that is all of it, or if it is not made of parts.
    pub(super) fn only_what_can_hurt(&self) -> Option<Predicate> {
        match self {
            Predicate::Vex(document) => Some(Predicate::Vex(Box::new(document.harmful()))),
            _ => None,
        }
    }

    /// How many entries a rule goes through that judges it: findings, packages or statements, and of JSON pieces of 64 bytes.
    pub fn entries(&self) -> usize {
        match self {
            Predicate::Scan(scan) => scan.findings.len(),
            Predicate::Sbom(bill) => bill.packages.len(),
            Predicate::Vex(document) => document.statements.len(),
            Predicate::Other(Some(text)) => text.get().len() / 64,
            Predicate::Provenance(_)
            | Predicate::Approval(_)
            | Predicate::Change(_)
            | Predicate::EmergencyChange(_)
            | Predicate::EmergencyClosure(_)
            | Predicate::EmergencyReview(_)
            | Predicate::VerificationSummary(_)
            | Predicate::Unreadable(_)
            | Predicate::Other(None) => 1,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Predicate::Provenance(provenance) => provenance.bytes(),
            Predicate::Approval(approval) => approval.bytes(),
            Predicate::Change(change) => change.bytes(),
            Predicate::EmergencyChange(change) => change.bytes(),
            Predicate::EmergencyClosure(closure) => closure.bytes(),
            Predicate::EmergencyReview(review) => review.bytes(),
            Predicate::VerificationSummary(summary) => summary.bytes(),
            Predicate::Scan(scan) => scan.bytes(),
            Predicate::Sbom(bill) => bill.bytes(),
            Predicate::Vex(document) => document.bytes(),
            Predicate::Unreadable(why) => why.detail.len(),
            Predicate::Other(written) => written.as_ref().map_or(0, |text| text.get().len()),
        }
    }
}

/// A refusal that says how a report of a scanner is attested, if the predicate begins as one.
fn naming_the_command(why: UnacceptedReason, text: &str) -> UnacceptedReason {
    let Some(report) = RawReport::beginning(text) else {
        return why;
    };
    let detail = format!(
        "{}; it begins as a report of {report}, which is a scan only in another form: `{}`",
        why.detail,
        report.conversion()
    );
    UnacceptedReason::new(why.reason, detail)
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
    fn a_report_of_a_scanner_that_is_too_large_is_refused_with_the_command_that_makes_the_right_form()
     {
        let kind = "https://example.com/other/v1";
        let refused = |begin: &str| {
            let padding = "x".repeat(MAXIMUM_BYTES);
            let text = format!(r#"{{{begin}, "padding": "{padding}"}}"#);
            let raw = RawValue::from_string(text).unwrap();
            let why = Predicate::read(kind, Some(&raw)).unwrap_err();
            assert_eq!(why.reason.id, "too-large");
            why.detail
        };
        let trivy = refused(r#""SchemaVersion": 2"#);
        assert!(
            trivy.ends_with(&format!("`{}`", RawReport::Trivy.conversion())),
            "{trivy}"
        );
        let grype = refused(r#""matches": []"#);
        assert!(
            grype.ends_with(&format!("`{}`", RawReport::Grype.conversion())),
            "{grype}"
        );
        let other = refused(r#""a": 1"#);
        assert!(other.ends_with("bytes of the predicate"), "{other}");
    }

    #[test]
    fn a_rejection_and_what_may_be_one_can_hurt_and_an_approval_cannot() {
        let word = |decision: &str| format!(r#"{{"environment": "e", "decision": "{decision}"}}"#);
        let digest = "0".repeat(64);
        let closure = format!(r#"{{"emergency": "sha256:{digest}"}}"#);
        let declaration = r#"{"environment": "e", "incident": {"id": "1"}, "reason": "r", "expires": "2026-12-01T00:00:00Z"}"#;
        let declaration = declaration.to_owned();
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
            (EmergencyClosure::TYPE, closure, true),
            (
                "https://promotion-gate.dev/emergency-closure/v2",
                "{}".to_owned(),
                true,
            ),
            ("https://spdx.dev/Document", "{}".to_owned(), true),
            (
                Approval::TYPE,
                format!("\"{}\"", "x".repeat(MAXIMUM_BYTES)),
                true,
            ),
            (EmergencyChange::TYPE, declaration, false),
            ("https://example.com/other/v1", word("rejected"), false),
        ] {
            let raw = RawValue::from_string(text).unwrap();
            let predicate = Predicate::read(kind, Some(&raw)).unwrap();
            assert_eq!(predicate.can_hurt(), expected, "{kind} {raw}");
        }
    }
}
