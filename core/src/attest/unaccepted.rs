//! Why something that is present was not accepted.

use crate::reason::{Reason, reasons};
use crate::strict_json::{Fields, StrictJsonError, unambiguous};

/// Why something that is present was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnacceptedReason {
    /// The reason.
    pub reason: Reason,
    /// The reason in words.
    pub detail: String,
}

impl UnacceptedReason {
    /// A reason with its words.
    pub fn new(reason: Reason, detail: impl Into<String>) -> UnacceptedReason {
        UnacceptedReason {
            reason,
            detail: detail.into().chars().take(400).collect(),
        }
    }
}

impl std::fmt::Display for UnacceptedReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.detail, self.reason)
    }
}

/// Reads bytes as strict JSON; `what` names them.
pub(super) fn strict<'a>(
    bytes: &'a [u8],
    what: &str,
    fields: Fields,
) -> Result<&'a str, UnacceptedReason> {
    unambiguous(bytes, fields).map_err(|error| {
        let reason = match error {
            StrictJsonError::TooLarge => TOO_LARGE,
            StrictJsonError::NotText | StrictJsonError::Malformed(_) => MALFORMED,
        };
        UnacceptedReason::new(reason, format!("{what} {error}"))
    })
}

reasons! {
    /// Every reason for which a piece of evidence is not accepted.
    UNACCEPTED:
    BAD_SIGNATURE = "bad-signature",
        "The signature was not made with the key or certificate that it claims, or not over this content.",
        "Sign the image again. If a managed key signed it, see whether the policy names that key.";
    WRONG_SUBJECT = "wrong-subject",
        "What is signed is about another digest: evidence of one image was attached to another one.",
        "Sign this digest. Copying images between registries with `cosign copy` or `oras copy` keeps their evidence right.";
    WRONG_PAYLOAD_TYPE = "wrong-payload-type",
        "What is signed is not an in-toto statement, or not a cosign signature of an image.",
        "Sign with `cosign sign`, attest with `cosign attest`, `gh attestation` or a tool that writes in-toto statements.";
    UNTRUSTED_CERTIFICATE = "untrusted-certificate",
        "The certificate leads to no certificate authority of the trust root.",
        "Name the trust root of the instance that signed (`trustRoots`), such as `github` for what private repositories attest.";
    CERTIFICATE_NOT_VALID_AT_SIGNING = "certificate-not-valid-at-signing",
        "At a verified time of the signature, the certificate was not yet or no longer valid.",
        "Sign again; a certificate of Fulcio is good for about ten minutes.";
    BAD_CERTIFICATE_TIMESTAMP = "bad-certificate-timestamp",
        "The certificate lacks the timestamp of a certificate transparency log that the trust root names, or carries a wrong one.",
        "See whether the trust root is that of the instance that signed, with its `ctlogs`.";
    NO_VERIFIED_TIME = "no-verified-time",
        "Nobody vouches for a time at which the signature existed, so nobody knows that the certificate was valid then.",
        "Sign with a transparency log of version 1 or with a timestamp authority (`--timestamp-server-url`).";
    BAD_TIMESTAMP = "bad-timestamp",
        "A timestamp in it is of something else, or no timestamp authority of the trust root made it.",
        "Name the trust root whose timestamp authority was used.";
    NO_INCLUSION_PROOF = "no-inclusion-proof",
        "A log entry shows neither that the log has it nor that the log promised to take it up.",
        "Sign again with a current client.";
    BAD_LOG_ENTRY = "bad-log-entry",
        "The entry of the transparency log is of another signature, or what should prove that the log has it does not.",
        "Sign again. This can be an attempt to pass off somebody else's log entry.";
    UNKNOWN_LOG = "unknown-log",
        "The transparency log is none that the trust root names, or its key was not valid then.",
        "Name the trust root of the instance that signed, or update it: logs are replaced about once a year.";
    OTHER_KIND_OF_SIGNER = "other-kind-of-signer",
        "It was signed with a certificate where a key is asked for, or the other way round.",
        "Name the signer in the policy as it signs: `keyless` or `key`.";
    FORMAT_NOT_SUPPORTED = "format-not-supported",
        "Its format, log entry or digest algorithm is none that this version reads.",
        "Sign with a current client, or see whether a newer version of promotion-gate reads it.";
    MALFORMED = "malformed",
        "It cannot be read without ambiguity: it is cut, no sound JSON, or contradicts itself.",
        "Sign again; see the detail for the place.";
    MALFORMED_PREDICATE = "malformed-predicate",
        "The statement is signed soundly, but its predicate is not what its type says.",
        "See the detail for the field, and the version of the tool that wrote it.";
    TOO_LARGE = "too-large",
        "It is larger, or holds more of something, than is read.",
        "Attest less in one statement. The limits are in the configuration reference.";
    UNSIGNED_STATEMENT = "unsigned-statement",
        "An in-toto statement without any signature, as BuildKit attaches it: anybody who can push could have written it.",
        "Sign it: `cosign attest`, `actions/attest-build-provenance`, or a generator of SLSA provenance.";
    UNREADABLE = "unreadable",
        "The registry lists it, but what it has in its place is nothing that can be read as evidence.",
        "Push the evidence again, or remove the listing.";
}
