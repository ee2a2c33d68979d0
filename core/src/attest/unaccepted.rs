//! The reasons for which attached evidence is not accepted.

use crate::reason::{Reason, reasons};
use crate::strict_json::{Fields, StrictJsonError, text_within, unambiguous_within};

/// Why attached evidence is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnacceptedReason {
    /// The reason.
    pub reason: Reason,
    /// The reason in words, cut to 400 characters.
    pub detail: String,
}

impl UnacceptedReason {
    /// A reason with its detail.
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

/// The largest piece of evidence, in bytes (16 MiB): an envelope in base64 of a scan report or an SBOM of 10 MB.
const MAXIMUM_EVIDENCE: usize = 16 << 20;

/// Checks that bytes are strict JSON. `what` is their noun in the error, such as "the statement".
pub(super) fn strict<'a>(
    bytes: &'a [u8],
    what: &str,
    fields: Fields,
) -> Result<&'a str, UnacceptedReason> {
    unambiguous_within(bytes, fields, MAXIMUM_EVIDENCE).map_err(|error| refused(what, &error))
}

/// Checks that bytes are text and not too many.
pub(super) fn text<'a>(bytes: &'a [u8], what: &str) -> Result<&'a str, UnacceptedReason> {
    text_within(bytes, MAXIMUM_EVIDENCE).map_err(|error| refused(what, &error))
}

fn refused(what: &str, error: &StrictJsonError) -> UnacceptedReason {
    let reason = match error {
        StrictJsonError::TooLarge(_) => TOO_LARGE,
        StrictJsonError::NotText | StrictJsonError::Malformed(_) => MALFORMED,
    };
    UnacceptedReason::new(reason, format!("{what} {error}"))
}

/// The same for content of which most is base64, with at most `most` fields and items. Each of them takes more than a hundred
/// times its size while it is read: a few megabytes of them, which need not be signed, would take all memory.
pub(super) fn strict_of_few_fields<'a>(
    bytes: &'a [u8],
    what: &str,
    most: usize,
) -> Result<&'a str, UnacceptedReason> {
    bounded("fields", separators(bytes), most)?;
    strict(bytes, what, Fields::default())
}

/// The number of `:` and `,`. Each chunk of 255 bytes is counted in a `u8`, which cannot overflow, so that the compiler counts many bytes at once.
fn separators(bytes: &[u8]) -> usize {
    let add = |count: u8, byte: &u8| count.wrapping_add(u8::from(matches!(byte, b':' | b',')));
    let chunks = bytes.chunks(usize::from(u8::MAX));
    chunks
        .map(|chunk| usize::from(chunk.iter().fold(0, add)))
        .sum()
}

/// Refuses more than `most` items; `what` is their noun.
pub(super) fn bounded(what: &str, count: usize, most: usize) -> Result<(), UnacceptedReason> {
    if count <= most {
        return Ok(());
    }
    Err(UnacceptedReason::new(
        TOO_LARGE,
        format!("there are more than {most} {what}"),
    ))
}

reasons! {
    /// Every reason for which evidence is not accepted.
    UNACCEPTED:
    BAD_SIGNATURE = "bad-signature",
        "The signature was not made with this key or certificate, or not over this content.",
        "Sign the image again. If a managed key signed the image, check that the policy names this key.";
    WRONG_SUBJECT = "wrong-subject",
        "The evidence is about another digest: evidence of one image was attached to another image.",
        "Sign this digest. To copy images between registries with their evidence, use `cosign copy` or `oras copy`.";
    WRONG_PAYLOAD_TYPE = "wrong-payload-type",
        "The signed content is neither an in-toto statement nor a cosign signature of an image.",
        "Sign with `cosign sign`, attest with `cosign attest`, `gh attestation` or a tool that writes in-toto statements.";
    UNTRUSTED_CERTIFICATE = "untrusted-certificate",
        "No certificate authority of the trust root issued the certificate.",
        "Name the trust root of the Sigstore instance that issued the certificate (`trustRoots`), such as `github` for attestations of private repositories.";
    CERTIFICATE_NOT_VALID_AT_SIGNING = "certificate-not-valid-at-signing",
        "The certificate was not yet valid or no longer valid at a verified time of the signature.",
        "Sign again. A certificate of Fulcio is valid for about ten minutes.";
    BAD_CERTIFICATE_TIMESTAMP = "bad-certificate-timestamp",
        "The certificate does not carry a valid timestamp of a certificate transparency log that the trust root names.",
        "Check that the trust root is that of the Sigstore instance that issued the certificate, and that it lists the instance's `ctlogs`.";
    NO_VERIFIED_TIME = "no-verified-time",
        "No log and no timestamp authority confirms a time of the signature, so the gate cannot know that the certificate was valid then.",
        "Sign with a transparency log of version 1 or with a timestamp authority (`--timestamp-server-url`). cosign 2 uploads to the log only with `--yes`, or after the answer `y`.";
    BAD_TIMESTAMP = "bad-timestamp",
        "A timestamp is not of this signature, or no timestamp authority of the trust root made it.",
        "Name the trust root of the timestamp authority that was used.";
    NO_INCLUSION_PROOF = "no-inclusion-proof",
        "A log entry has neither an inclusion proof nor the log's signed promise (SET) of inclusion.",
        "Sign again with a current client.";
    BAD_LOG_ENTRY = "bad-log-entry",
        "The log entry is of another signature, or its proof of inclusion is not valid.",
        "Sign again. This can be an attempt to reuse the log entry of another signature.";
    UNKNOWN_LOG = "unknown-log",
        "The trust root does not name the transparency log, or the log's key was not valid at that time.",
        "Name the trust root of the Sigstore instance that signed, or update the trust root: logs are replaced about once a year.";
    OTHER_KIND_OF_SIGNER = "other-kind-of-signer",
        "The policy requires a key but a certificate signed, or the other way round.",
        "Use the matching kind of signer in the policy: `keyless` or `key`. `promotion-gate evidence` verifies signatures by keys with `--key FILE` alone.";
    FORMAT_NOT_SUPPORTED = "format-not-supported",
        "This version does not support the format, the kind of log entry or the digest algorithm.",
        "Sign with a current client, or check whether a newer version of promotion-gate supports it.";
    MALFORMED = "malformed",
        "The evidence is incomplete, is not valid JSON, is ambiguous or contradicts itself.",
        "Sign again. The detail names the place.";
    MALFORMED_PREDICATE = "malformed-predicate",
        "The statement has a valid signature, but its predicate does not match its predicate type.",
        "The detail names the field. Check the version of the tool that wrote the statement.";
    TOO_LARGE = "too-large",
        "The evidence is larger than the limit, or has more items than the limit.",
        "Put less into one statement. The limits are in the configuration reference.";
    UNSIGNED_STATEMENT = "unsigned-statement",
        "An in-toto statement without a signature, such as BuildKit attaches. Every user with push access could have written it.",
        "Sign the statement: `cosign attest`, `actions/attest-build-provenance`, or a generator of SLSA provenance.";
    UNREADABLE = "unreadable",
        "The registry lists the evidence, but the listed content cannot be read as evidence.",
        "Push the evidence again, or remove the listing.";
}
