//! Something signed, in whatever form it was found, and the one way in which it is verified (Sigstore client
//! specification, section "Verification").

use std::cmp::Reverse;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use sigstore_types::HashAlgorithm;

use super::anchor::{Anchor, Instance, PublicKey, TrustRoot};
use super::certificate::Chain;
use super::identity::{CertificateIdentity, Signer};
use super::log::LogEntry;
use super::signature::{Message, VerifyingKey};
use super::statement::Statement;
use super::timestamp;
use super::unaccepted::{self, UnacceptedReason};
use super::verified::{Origin, TimeSource, Transparency, VerifiedTime};
use crate::gate::Digest;
use crate::reason::Reason;

/// The most log entries, and the most timestamps (as other clients).
pub(super) const MAXIMUM_ENTRIES: usize = 32;
/// The most certificates of a chain.
pub(super) const MAXIMUM_CERTIFICATES: usize = 16;

/// Something signed, with everything that was found to vouch for it.
pub(super) struct Signed {
    pub(super) content: Content,
    pub(super) signature: Vec<u8>,
    /// Or why that cannot be read, which says nothing about the signature of a key that is known.
    pub(super) by: Result<SignedBy, UnacceptedReason>,
    /// Or why they cannot be read, which says nothing about a signature that needs none.
    pub(super) witnesses: Result<Witnesses, UnacceptedReason>,
}

/// Everything that was found to vouch for a signature.
#[derive(Default)]
pub(super) struct Witnesses {
    pub(super) entries: Vec<LogEntry>,
    pub(super) stamps: Stamps,
    /// What is there, and of a kind that is not known.
    pub(super) unknown: Vec<UnacceptedReason>,
    /// Whether the format asks for the promise of a log.
    pub(super) needs_set: bool,
}

/// What was signed.
pub(super) enum Content {
    /// A DSSE envelope with an in-toto statement.
    Envelope {
        payload_type: String,
        payload: Vec<u8>,
        /// The envelope as it was found, where it was found as bytes: what the oldest log entries are of.
        written: Option<Vec<u8>>,
    },
    /// The artifact itself; its digest where that is written down.
    Message {
        digest: Option<(HashAlgorithm, Vec<u8>)>,
    },
}

/// How the signer is named.
pub(super) enum SignedBy {
    /// By a certificate, with those that lead to an authority.
    Certificate(Chain),
    /// Not at all: whoever verifies has to know the key.
    Key,
}

/// RFC 3161 timestamps.
#[derive(Default)]
pub(super) struct Stamps {
    /// The tokens, in DER.
    pub(super) tokens: Vec<Vec<u8>>,
    /// What else than the signature they may be of: cosign stamps the envelope of an attestation in its `.att` layout.
    pub(super) or_of: Option<Vec<u8>>,
}

/// What something was signed for.
#[derive(Clone, Copy, Debug)]
pub enum Artifact<'a> {
    /// Its bytes.
    Bytes(&'a [u8]),
    /// Its SHA-256 digest.
    Digest(&'a Digest),
}

/// What the checks gave.
pub(super) struct Checked {
    pub(super) signer: Signer,
    pub(super) statement: Option<Statement>,
    pub(super) logs: bool,
    pub(super) transparency: Transparency,
    pub(super) times: Vec<VerifiedTime>,
    pub(super) ignored: Vec<UnacceptedReason>,
}

/// What the log entries and timestamps that hold say, and which others there are.
#[derive(Default)]
struct VerifiedWitnesses<'s> {
    times: Vec<VerifiedTime>,
    transparency: Transparency,
    /// The entries that a log of the trust root has; of what, is still to be verified.
    entries: Vec<&'s LogEntry>,
    ignored: Vec<UnacceptedReason>,
}

impl Checked {
    pub(super) fn about(self, subject: &Digest, anchor: &Anchor) -> Origin {
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

    /// Why there is no verified time.
    fn no_time(&self) -> UnacceptedReason {
        let detail = match (self.ignored.first(), self.entries.is_empty()) {
            (Some(why), _) => format!(
                "its log entry carries no time of its own, and what stands beside it does not count: {}",
                why.detail
            ),
            (None, false) => "its log entry carries no time of its own and no timestamp stands beside it, so nobody vouches \
                 that the certificate was valid when it was made"
                .to_owned(),
            (None, true) => "it carries neither a log entry nor a timestamp, so nobody vouches that the certificate was \
                 valid when it was made"
                .to_owned(),
        };
        UnacceptedReason::new(unaccepted::NO_VERIFIED_TIME, detail)
    }

    fn vouch_for(self, signer: Signer, statement: Option<Statement>, logs: bool) -> Checked {
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
    /// Verifies everything that is there. A timestamp that does not hold, an entry of a log that the trust root does not know or
    /// of a time at which it was not trusted, and an entry of an unknown kind are as good as absent beside others that hold: they
    /// are reported, and count for nothing. Everything else that is present and does not hold counts against the whole.
    /// No clock is read: whether a verified time lies in the future is for whoever knows the time of the review.
    ///
    /// # Errors
    /// Why it is not accepted.
    pub(super) fn verify(
        &self,
        artifact: Artifact<'_>,
        anchor: &Anchor,
    ) -> Result<Checked, UnacceptedReason> {
        let artifact = SubjectDigest::of(artifact)?;
        match (anchor, &self.by) {
            (Anchor::Root(root), Ok(SignedBy::Certificate(chain))) => {
                wholly_under_one(root, |root| {
                    self.verify_with_certificate(chain, root, &artifact)
                })
            }
            (
                Anchor::Key {
                    key,
                    root: Some(root),
                },
                _,
            ) => wholly_under_one(root, |root| {
                self.verify_with_key(key, Some(root), &artifact)
            }),
            (Anchor::Key { key, root: None }, _) => self.verify_with_key(key, None, &artifact),
            (Anchor::Root(_), Ok(SignedBy::Key)) => Err(UnacceptedReason::new(
                unaccepted::OTHER_KIND_OF_SIGNER,
                "it was signed with a key, not with a certificate",
            )),
            (Anchor::Root(_), Err(why)) => Err(why.clone()),
        }
    }

    fn verify_with_certificate(
        &self,
        chain: &Chain,
        root: &Instance,
        artifact: &SubjectDigest<'_>,
    ) -> Result<Checked, UnacceptedReason> {
        // 1. A certificate lives for minutes: without a verified time, nobody knows that its key was the holder's.
        let witnessed = self.verify_log_and_timestamps(root)?;
        if witnessed.times.is_empty() {
            return Err(witnessed.no_time());
        }
        // 2. The certificate leads to an authority of this root at each of these times, and was logged.
        let instants: Vec<_> = witnessed.times.iter().map(|time| time.at).collect();
        root.certify(chain, &instants)?;
        let identity = CertificateIdentity::read(&chain.leaf)?;
        // 3. The key of this certificate made this signature.
        let statement = self.signed_by(&chain.key()?, artifact)?;
        // 4. Every log entry is of this signature by this key, not of another one (CVE-2022-36056).
        for entry in &witnessed.entries {
            entry.check_matches(self, artifact, &chain.leaf)?;
        }
        let signer = Signer::Certificate(Box::new(identity));
        Ok(witnessed.vouch_for(signer, statement, root.has_logs()))
    }

    fn verify_with_key(
        &self,
        key: &PublicKey,
        root: Option<&Instance>,
        artifact: &SubjectDigest<'_>,
    ) -> Result<Checked, UnacceptedReason> {
        // A company's certificate can stand beside a key's signature: what counts is the key that the policy names.
        let statement = match (self.signed_by(&key.verifying, artifact), &self.by) {
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
                    "it was signed with a certificate, and not with this key",
                ));
            }
            (statement, _) => statement,
        };
        // Under a key alone, what logs and timestamp authorities say is not looked at.
        let witnessed = match root {
            Some(root) => self.verify_log_and_timestamps(root)?,
            None => VerifiedWitnesses::default(),
        };
        let statement = statement?;
        for entry in &witnessed.entries {
            entry.check_matches(self, artifact, &key.spki)?;
        }
        let signer = Signer::Key(key.fingerprint().clone());
        Ok(witnessed.vouch_for(signer, statement, false))
    }

    /// What logs and timestamp authorities of the root say: verified times, and how public it is.
    ///
    /// # Errors
    /// Why an entry of a log that the root knows does not hold; or, where nothing holds, why the first witness does not.
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
        match witnessed.ignored.first() {
            Some(why) if witnessed.times.is_empty() && witnessed.entries.is_empty() => {
                let detail = format!("{}; no other log entry or timestamp verifies", why.detail);
                Err(UnacceptedReason::new(why.reason, detail))
            }
            _ if found.needs_set && !witnessed.has_set() => Err(UnacceptedReason::new(
                unaccepted::MALFORMED,
                "a bundle of version 0.1 carries the promise of a log, and of one that the trust root names",
            )),
            _ => Ok(witnessed),
        }
    }

    /// The signature is the key's, and what it signs is about the artifact; the statement, where that is what was signed.
    fn signed_by(
        &self,
        key: &VerifyingKey,
        artifact: &SubjectDigest<'_>,
    ) -> Result<Option<Statement>, UnacceptedReason> {
        let refused = || {
            let mut detail =
                "the signature was not made with this key over this content".to_owned();
            if matches!(self.content, Content::Message { .. }) && artifact.bytes.is_none() {
                detail.push_str(
                    "; only the artifact's SHA-256 digest is known, so a signature with another hash cannot be verified",
                );
            }
            UnacceptedReason::new(unaccepted::BAD_SIGNATURE, detail)
        };
        match &self.content {
            Content::Envelope { payload, .. } => {
                let encoded = self.signed_bytes();
                if !key.signed(Message::Bytes(&encoded), &self.signature) {
                    return Err(refused());
                }
                let statement = Statement::parse(payload)?;
                statement.about(&artifact.digest)?;
                Ok(Some(statement))
            }
            Content::Message { digest } => {
                if let Some((algorithm, digest)) = digest
                    && artifact.digest_by(*algorithm)? != *digest
                {
                    let detail = "the digest in it is not that of the artifact";
                    return Err(UnacceptedReason::new(unaccepted::WRONG_SUBJECT, detail));
                }
                let message = match artifact.bytes {
                    Some(bytes) => Message::Bytes(bytes),
                    None if key.takes_sha256() => Message::Sha256(&artifact.sha256),
                    None => {
                        let detail =
                            "a signature by a key of this kind cannot be verified from a digest";
                        return Err(UnacceptedReason::new(
                            unaccepted::FORMAT_NOT_SUPPORTED,
                            detail,
                        ));
                    }
                };
                if key.signed(message, &self.signature) {
                    Ok(None)
                } else {
                    Err(refused())
                }
            }
        }
    }

    /// What the signature is over, where that is not the artifact: the pre-authentication encoding of the envelope (DSSE
    /// protocol, "Signature Definition").
    pub(super) fn signed_bytes(&self) -> Vec<u8> {
        match &self.content {
            Content::Envelope {
                payload_type,
                payload,
                ..
            } => {
                let header = format!(
                    "DSSEv1 {} {payload_type} {} ",
                    payload_type.len(),
                    payload.len()
                );
                [header.as_bytes(), payload].concat()
            }
            Content::Message { .. } => Vec::new(),
        }
    }
}

/// Verifies under each root of a file. Certificate, log entries and timestamps have to verify under the same one: otherwise the
/// log of one root could vouch for a certificate of another. Where several roots accept it, the result that is the most public
/// counts, whatever their order; on a tie, that of a root without logs, which asks for less by default.
fn wholly_under_one(
    file: &TrustRoot,
    verify: impl Fn(&Instance) -> Result<Checked, UnacceptedReason>,
) -> Result<Checked, UnacceptedReason> {
    let (held, refused): (Vec<_>, Vec<_>) =
        (file.instances.iter().map(|root| verify(root))).partition(Result::is_ok);
    let most_public = |checked: &Checked| {
        let Checked {
            transparency,
            logs,
            times,
            ..
        } = checked;
        (Reverse(*transparency), !logs, times.len())
    };
    let best = held.into_iter().flatten().max_by_key(most_public);
    best.ok_or_else(|| refusal(refused.into_iter().filter_map(Result::err).collect()))
}

/// The refusal that tells the most: that of the root under which verification got furthest. Each step asks whether the root
/// knows what signed: log and timestamp authority, then certificate authority, then certificate log.
fn refusal(refused: Vec<UnacceptedReason>) -> UnacceptedReason {
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
                "it verifies wholly under none of the {roots} roots in the trust root's file: {}",
                why.detail
            );
            UnacceptedReason::new(why.reason, detail)
        }
        Some(why) => why,
        None => UnacceptedReason::new(unaccepted::UNTRUSTED_CERTIFICATE, "the trust root is empty"),
    }
}

/// The artifact by its digest, with its bytes where they are at hand.
pub(super) struct SubjectDigest<'a> {
    digest: Digest,
    sha256: Vec<u8>,
    bytes: Option<&'a [u8]>,
}

impl<'a> SubjectDigest<'a> {
    /// # Errors
    /// If it takes the artifact's bytes, which are not at hand.
    pub(super) fn digest_by(&self, algorithm: HashAlgorithm) -> Result<Vec<u8>, UnacceptedReason> {
        match (algorithm, self.bytes) {
            (HashAlgorithm::Sha2256, _) => Ok(self.sha256.clone()),
            (HashAlgorithm::Sha2384, Some(bytes)) => Ok(Sha384::digest(bytes).to_vec()),
            (HashAlgorithm::Sha2512, Some(bytes)) => Ok(Sha512::digest(bytes).to_vec()),
            _ => {
                let detail = format!(
                    "it names the artifact by a digest of the algorithm `{algorithm}`, which cannot be compared with the \
                     artifact's SHA-256 digest"
                );
                Err(UnacceptedReason::new(
                    unaccepted::FORMAT_NOT_SUPPORTED,
                    detail,
                ))
            }
        }
    }

    pub(super) fn of(artifact: Artifact<'a>) -> Result<SubjectDigest<'a>, UnacceptedReason> {
        match artifact {
            Artifact::Bytes(bytes) => Ok(SubjectDigest {
                digest: Digest::sha256(bytes),
                sha256: Sha256::digest(bytes).to_vec(),
                bytes: Some(bytes),
            }),
            Artifact::Digest(digest) if digest.algorithm() == "sha256" => Ok(SubjectDigest {
                digest: digest.clone(),
                sha256: hex::decode(digest.hex()).unwrap_or_default(),
                bytes: None,
            }),
            Artifact::Digest(digest) => {
                let algorithm = digest.algorithm();
                let detail = format!("evidence about `{algorithm}` digests is not supported");
                Err(UnacceptedReason::new(
                    unaccepted::FORMAT_NOT_SUPPORTED,
                    detail,
                ))
            }
        }
    }
}
