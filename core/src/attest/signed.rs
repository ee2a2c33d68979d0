//! Signed content in one form for all formats, and its verification (Sigstore client specification, section "Verification").

use std::cmp::Reverse;

use jiff::Timestamp;

use super::anchor::Anchor;
use super::chain::Chain;
use super::content::{Artifact, Content, SubjectDigest};
use super::identity::{CertificateIdentity, Signer};
use super::key::{KeyFingerprint, PublicKey};
use super::log::LogEntry;
use super::signature::{Message, VerifyingKey};
use super::statement::Statement;
use super::timestamp;
use super::trust_root::{Instance, TrustRoot};
use super::unaccepted::{self, UnacceptedReason};
use super::verified::{Origin, TimeSource, Transparency, VerifiedTime};
use crate::gate::Digest;
use crate::reason::Reason;

/// The most log entries, and the most timestamps. Other Sigstore clients have the same limit.
pub(super) const MAXIMUM_ENTRIES: usize = 32;
/// The most certificates in a chain.
pub(super) const MAXIMUM_CERTIFICATES: usize = 16;

/// Signed content with its signature, and the certificate, log entries and timestamps beside it. Not verified yet.
pub(super) struct Signed {
    pub(super) content: Content,
    pub(super) signature: Vec<u8>,
    /// The keys that the evidence names by their hash. Nothing shows that one of them signed.
    pub(super) hints: Vec<KeyFingerprint>,
    /// The signer as named, or why the name cannot be read. An error does not refuse a signature by a key that the policy names.
    pub(super) by: Result<SignedBy, UnacceptedReason>,
    /// The log entries and timestamps, or why they cannot be read. An error does not refuse a signature that needs none.
    pub(super) witnesses: Result<Witnesses, UnacceptedReason>,
}

/// The log entries and timestamps beside a signature.
#[derive(Default)]
pub(super) struct Witnesses {
    pub(super) entries: Vec<LogEntry>,
    pub(super) stamps: Stamps,
    /// One refusal for each log entry of an unknown kind, and for each timestamp that cannot be read.
    pub(super) unknown: Vec<UnacceptedReason>,
    /// One refusal for each log entry that cannot be read.
    pub(super) unreadable_entries: Vec<UnacceptedReason>,
    /// Whether the format requires a signed promise (SET).
    pub(super) needs_set: bool,
}

/// How the evidence names its signer.
pub(super) enum SignedBy {
    /// By a certificate with its chain.
    Certificate(Chain),
    /// By a key, which the verifier must know.
    Key,
}

/// RFC 3161 timestamps.
#[derive(Default)]
pub(super) struct Stamps {
    /// The tokens, in DER.
    pub(super) tokens: Vec<Vec<u8>>,
    /// Other bytes that the timestamps may be of. In the `.att` layout, cosign timestamps the envelope and not the signature.
    pub(super) or_of: Option<Vec<u8>>,
}

/// The result of verification.
pub(super) struct Checked {
    pub(super) signer: Signer,
    pub(super) statement: Option<Statement>,
    pub(super) logs: bool,
    pub(super) transparency: Transparency,
    pub(super) times: Vec<VerifiedTime>,
    pub(super) ignored: Vec<UnacceptedReason>,
}

/// The result of verifying the log entries and timestamps.
#[derive(Default)]
struct VerifiedWitnesses<'s> {
    times: Vec<VerifiedTime>,
    transparency: Transparency,
    /// The entries that a log of the trust root contains. Their content is checked later.
    entries: Vec<&'s LogEntry>,
    ignored: Vec<UnacceptedReason>,
}

impl Checked {
    pub(super) fn into_origin(self, subject: &Digest, anchor: &Anchor) -> Origin {
        Origin {
            signer: self.signer,
            anchor: anchor.id(),
            subject: subject.clone(),
            logs: self.logs,
            transparency: self.transparency,
            times: self.times,
            ignored: self.ignored,
        }
    }
}

impl VerifiedWitnesses<'_> {
    fn has_set(&self) -> bool {
        self.entries.iter().any(|entry| entry.set.is_some())
    }

    /// The refusal for a certificate without a verified time.
    fn refuse_without_time(&self) -> UnacceptedReason {
        let detail = match (self.ignored.first(), self.entries.is_empty()) {
            (Some(why), _) => format!(
                "the log entry does not carry a time, and another log entry or timestamp does not count: {}",
                why.detail
            ),
            (None, false) => "the log entry does not carry a time, and the signature has no timestamp, so the certificate cannot be shown \
                 to have been valid at signing"
                .to_owned(),
            (None, true) => "there is neither a log entry nor a timestamp, so the certificate cannot be shown to have been \
                 valid at signing"
                .to_owned(),
        };
        UnacceptedReason::new(unaccepted::NO_VERIFIED_TIME, detail)
    }

    fn into_checked(self, signer: Signer, statement: Option<Statement>, logs: bool) -> Checked {
        Checked {
            signer,
            statement,
            logs,
            transparency: self.transparency,
            times: self.times,
            ignored: self.ignored,
        }
    }
}

impl Signed {
    /// Verifies the signature with its certificate, log entries and timestamps.
    ///
    /// Four kinds of witness are ignored and reported if another witness is valid: an invalid timestamp, an entry of a log that
    /// the trust root does not name or did not trust at that time, an entry of an unknown kind, and, beside a valid entry, one that
    /// cannot be read. Everything else that is invalid refuses the whole. No clock is read: the rules compare the verified times
    /// with the time of the review.
    ///
    /// # Errors
    /// Why the signature is not accepted.
    pub(super) fn verify(
        &self,
        artifact: Artifact<'_>,
        anchor: &Anchor,
    ) -> Result<Checked, UnacceptedReason> {
        let artifact = SubjectDigest::of(artifact)?;
        match (anchor, &self.by) {
            (Anchor::Root(root), Ok(SignedBy::Certificate(chain))) => {
                let verify = |root: &Instance| self.verify_with_certificate(chain, root, &artifact);
                under_one_root(root, verify, most_public)
            }
            (
                Anchor::Key {
                    key,
                    root: Some(root),
                },
                _,
            ) => {
                let verify = |root: &Instance| self.verify_with_key(key, Some(root), &artifact);
                under_one_root(root, verify, most_public)
            }
            (Anchor::Key { key, root: None }, _) => self.verify_with_key(key, None, &artifact),
            (Anchor::Root(_), Ok(SignedBy::Key)) => Err(UnacceptedReason::new(
                unaccepted::OTHER_KIND_OF_SIGNER,
                "a key signed, not a certificate",
            )),
            (Anchor::Root(_), Err(why)) => Err(why.clone()),
        }
    }

    /// The key among these that made the signature. A key that the evidence names is tried first, and nothing else than the
    /// signature is verified.
    ///
    /// # Errors
    /// If the artifact cannot be signed content.
    pub(super) fn signer_among<'k>(
        &self,
        artifact: Artifact<'_>,
        keys: impl Iterator<Item = &'k PublicKey> + Clone,
    ) -> Result<Option<&'k PublicKey>, UnacceptedReason> {
        let artifact = SubjectDigest::of(artifact)?;
        let message = self.message(&artifact);
        let is_named = |key: &&PublicKey| self.hints.contains(key.fingerprint());
        let named = keys.clone().filter(is_named);
        let others = keys.filter(|key| !is_named(key));
        let signed = |key: &&PublicKey| key.verifying.signed(&message, &self.signature);
        Ok(named.chain(others).find(signed))
    }

    /// What the signature is over.
    fn message<'m>(&'m self, artifact: &SubjectDigest<'m>) -> Message<'m> {
        match (&self.content, artifact.bytes) {
            (Content::Envelope { .. }, _) => Message::of_bytes(self.content.signed_bytes()),
            (Content::Message { .. }, Some(bytes)) => Message::of_bytes(bytes),
            (Content::Message { .. }, None) => Message::of_sha256(&artifact.sha256),
        }
    }

    fn verify_with_certificate(
        &self,
        chain: &Chain,
        root: &Instance,
        artifact: &SubjectDigest<'_>,
    ) -> Result<Checked, UnacceptedReason> {
        // 1. At least one verified time. A certificate is valid for minutes; without a time, a stolen expired key could sign.
        let witnessed = self.verify_log_and_timestamps(root)?;
        if witnessed.times.is_empty() {
            return Err(witnessed.refuse_without_time());
        }
        // 2. An authority of this root issued the certificate, which was valid at each of these times and was logged. A forged or
        //    expired certificate is refused.
        let instants: Vec<_> = witnessed.times.iter().map(|time| time.at).collect();
        root.certify(chain, &instants)?;
        let identity = CertificateIdentity::read(&chain.leaf)?;
        // 3. The certificate's key made the signature, and the content is about the artifact. A signature of other content is
        //    refused.
        let statement = self.verify_signature(&chain.key()?, artifact)?;
        // 4. Every log entry is of this signature by this key. An entry of another signature is refused (CVE-2022-36056).
        for entry in &witnessed.entries {
            entry.check_matches(&self.content, &self.signature, artifact, &chain.leaf)?;
        }
        let signer = Signer::Certificate(Box::new(identity));
        Ok(witnessed.into_checked(signer, statement, root.has_logs()))
    }

    fn verify_with_key(
        &self,
        key: &PublicKey,
        root: Option<&Instance>,
        artifact: &SubjectDigest<'_>,
    ) -> Result<Checked, UnacceptedReason> {
        // 1. The key that the policy names made the signature. A certificate beside it, such as one of a company, does not count.
        let statement = match (self.verify_signature(&key.verifying, artifact), &self.by) {
            (Err(why), Err(unread)) if why.reason == unaccepted::BAD_SIGNATURE => {
                let detail = format!(
                    "it was not signed with this key, and the certificate beside it cannot be read: {}",
                    unread.detail
                );
                return Err(UnacceptedReason::new(
                    unaccepted::OTHER_KIND_OF_SIGNER,
                    detail,
                ));
            }
            (Err(why), Ok(SignedBy::Certificate(_))) if why.reason == unaccepted::BAD_SIGNATURE => {
                return Err(UnacceptedReason::new(
                    unaccepted::OTHER_KIND_OF_SIGNER,
                    "a certificate signed, not this key",
                ));
            }
            (statement, _) => statement,
        };
        // 2. Log entries and timestamps count only under a trust root.
        let witnessed = match root {
            Some(root) => self.verify_log_and_timestamps(root)?,
            None => VerifiedWitnesses::default(),
        };
        let statement = statement?;
        // 3. Every log entry is of this signature by this key; the entry may name a certificate for the same key (CVE-2022-36056).
        for entry in &witnessed.entries {
            entry.check_matches(&self.content, &self.signature, artifact, &key.spki)?;
        }
        let signer = Signer::Key(key.fingerprint().clone());
        Ok(witnessed.into_checked(signer, statement, false))
    }

    /// Verifies log entries and timestamps under the root: the times, and the public record.
    ///
    /// # Errors
    /// Why an entry of a log that the root names is not valid. If no witness is valid, why the first one is not.
    fn verify_log_and_timestamps(
        &self,
        root: &Instance,
    ) -> Result<VerifiedWitnesses<'_>, UnacceptedReason> {
        let found = self.witnesses.as_ref().map_err(UnacceptedReason::clone)?;
        let mut witnessed = VerifiedWitnesses {
            ignored: found.unknown.clone(),
            ..VerifiedWitnesses::default()
        };
        for token in &found.stamps.tokens {
            let of = |stamped| timestamp::verify(token, stamped, &root.timestamp_authorities);
            let seen = match (of(&self.signature), &found.stamps.or_of) {
                (Err(_), Some(other)) => of(other),
                (seen, _) => seen,
            };
            match seen {
                Ok(at) => witnessed.times.push(VerifiedTime {
                    at,
                    by: TimeSource::TimestampAuthority,
                }),
                Err(why) => witnessed.ignored.push(why),
            }
        }
        let stamped: Vec<Timestamp> = witnessed.times.iter().map(|time| time.at).collect();
        for entry in &found.entries {
            let seen = match entry.verify(&root.log_keys, &stamped) {
                Err(why) if why.reason == unaccepted::UNKNOWN_LOG => {
                    witnessed.ignored.push(why);
                    continue;
                }
                seen => seen?,
            };
            witnessed.entries.push(entry);
            witnessed.times.extend(seen.at.map(|at| VerifiedTime {
                at,
                by: TimeSource::Log,
            }));
            witnessed.transparency = witnessed.transparency.min(seen.transparency);
        }
        match found.unreadable_entries.first() {
            Some(why) if witnessed.entries.is_empty() => return Err(why.clone()),
            _ => witnessed
                .ignored
                .extend_from_slice(&found.unreadable_entries),
        }
        match witnessed.ignored.first() {
            Some(why) if witnessed.times.is_empty() && witnessed.entries.is_empty() => {
                let detail = format!("{}; no other log entry or timestamp is valid", why.detail);
                Err(UnacceptedReason::new(why.reason, detail))
            }
            _ if found.needs_set && !witnessed.has_set() => Err(UnacceptedReason::new(
                unaccepted::MALFORMED,
                "a bundle of version 0.1 must carry the signed promise of a log that the trust root names",
            )),
            _ => Ok(witnessed),
        }
    }

    /// Verifies that the key made the signature and that the signed content is about the artifact. Returns the statement, if the
    /// content is one.
    fn verify_signature(
        &self,
        key: &VerifyingKey,
        artifact: &SubjectDigest<'_>,
    ) -> Result<Option<Statement>, UnacceptedReason> {
        let refused = || {
            let mut detail = "this key did not sign this content".to_owned();
            if matches!(self.content, Content::Message { .. }) && artifact.bytes.is_none() {
                detail.push_str(
                    "; only the artifact's SHA-256 digest is known, so a signature over another digest cannot be verified",
                );
            }
            UnacceptedReason::new(unaccepted::BAD_SIGNATURE, detail)
        };
        if let Content::Message { digest } = &self.content {
            if let Some((algorithm, digest)) = digest
                && artifact.digest_by(*algorithm)? != *digest
            {
                let detail = "the digest in the bundle is not the artifact's digest";
                return Err(UnacceptedReason::new(unaccepted::WRONG_SUBJECT, detail));
            }
            if artifact.bytes.is_none() && !key.takes_sha256() {
                let detail = "a signature by this kind of key cannot be verified from a digest";
                let reason = unaccepted::FORMAT_NOT_SUPPORTED;
                return Err(UnacceptedReason::new(reason, detail));
            }
        }
        if !key.signed(&self.message(artifact), &self.signature) {
            return Err(refused());
        }
        let Content::Envelope { payload, .. } = &self.content else {
            return Ok(None);
        };
        let statement = Statement::parse(payload)?;
        statement.annotations_of(&artifact.digest)?;
        Ok(Some(statement))
    }
}

/// Verifies under each root of a file separately. Certificate, log entries and timestamps must be valid under the same root, so
/// that the log of one root cannot confirm a certificate of another. If several roots accept the signature, the result of the highest
/// `rank` counts, in any order of the roots.
pub(super) fn under_one_root<T, K: Ord>(
    file: &TrustRoot,
    verify: impl Fn(&Instance) -> Result<T, UnacceptedReason>,
    rank: impl Fn(&T) -> K,
) -> Result<T, UnacceptedReason> {
    let (held, refused): (Vec<_>, Vec<_>) =
        (file.instances.iter().map(|root| verify(root))).partition(Result::is_ok);
    let best = held.into_iter().flatten().max_by_key(rank);
    best.ok_or_else(|| most_informative(refused.into_iter().filter_map(Result::err).collect()))
}

/// The rank of a result: the strongest public record; on a tie, that of a root without logs, which asks for less by default.
fn most_public(checked: &Checked) -> (Reverse<Transparency>, bool, usize) {
    let Checked {
        transparency,
        logs,
        times,
        ..
    } = checked;
    (Reverse(*transparency), !logs, times.len())
}

/// The refusal that tells the most: that of the root under which verification got furthest. Each step asks whether the root
/// knows what signed: log and timestamp authority, then certificate authority, then certificate log.
fn most_informative(refused: Vec<UnacceptedReason>) -> UnacceptedReason {
    const STEPS: [&[Reason]; 4] = [
        &[
            unaccepted::UNKNOWN_LOG,
            unaccepted::BAD_TIMESTAMP,
            unaccepted::FORMAT_NOT_SUPPORTED,
        ],
        &[unaccepted::NO_VERIFIED_TIME],
        &[unaccepted::UNTRUSTED_CERTIFICATE],
        &[unaccepted::BAD_CERTIFICATE_TIMESTAMP],
    ];
    let step = |why: &UnacceptedReason| {
        let reached = STEPS.iter().position(|step| step.contains(&why.reason));
        reached.unwrap_or(STEPS.len())
    };
    let roots = refused.len();
    // Of several that got as far, the first.
    let telling = refused.into_iter().rev().max_by_key(step);
    match telling {
        Some(why) if roots > 1 && step(&why) < STEPS.len() => {
            let detail = format!(
                "it is not valid under any of the {roots} roots in the trust root's file: {}",
                why.detail
            );
            UnacceptedReason::new(why.reason, detail)
        }
        Some(why) => why,
        None => UnacceptedReason::new(unaccepted::UNTRUSTED_CERTIFICATE, "the trust root is empty"),
    }
}
