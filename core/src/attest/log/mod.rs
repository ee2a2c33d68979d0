//! Entries of a transparency log (Rekor v1 and v2): verifies that the log contains an entry, and when it was added.

mod body;
#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use sigstore_merkle::{hash_leaf, verify_inclusion_proof};
use sigstore_types::bundle::InclusionProof;

use super::trust_root::LogKey;
use super::unaccepted::{self, UnacceptedReason, bounded};
use super::verified::Transparency;

/// The most signatures of one checkpoint that are verified. Only signatures with the key hint of a known log are.
const MAXIMUM_SIGNATURES: usize = 8;

/// A log entry. Not verified yet.
pub(super) struct LogEntry {
    pub(super) kind: EntryKind,
    /// The log's id: the SHA-256 digest of the `SubjectPublicKeyInfo` of its key.
    pub(super) log: Vec<u8>,
    pub(super) index: u64,
    /// The time at which the log added the entry. Only the promise signs it.
    pub(super) integrated: Option<Timestamp>,
    /// The log's signed promise of inclusion (signed entry timestamp).
    pub(super) set: Option<Vec<u8>>,
    pub(super) proof: Option<InclusionProof>,
    /// Whether the promise is sufficient without an inclusion proof, as in the oldest formats.
    pub(super) set_suffices: bool,
    /// The canonicalised body of the entry.
    pub(super) body: Vec<u8>,
}

macro_rules! kinds {
    ($($name:ident = $kind:literal, $version:literal;)+) => {
        /// A kind of entry, with its version.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum EntryKind {
            $($name,)+
        }

        impl EntryKind {
            pub(super) fn named(kind: &str, version: &str) -> Option<EntryKind> {
                match (kind, version) {
                    $(($kind, $version) => Some(EntryKind::$name),)+
                    _ => None,
                }
            }

            fn name(self) -> (&'static str, &'static str) {
                match self {
                    $(EntryKind::$name => ($kind, $version),)+
                }
            }
        }
    };
}

kinds! {
    HashedRekordV1 = "hashedrekord", "0.0.1";
    HashedRekordV2 = "hashedrekord", "0.0.2";
    Rekord = "rekord", "0.0.1";
    Dsse = "dsse", "0.0.1";
    IntotoV1 = "intoto", "0.0.1";
    IntotoV2 = "intoto", "0.0.2";
}

/// The verified facts about an entry.
pub(super) struct Seen {
    /// The time at which the log added the entry. A log of version 2 does not sign a time.
    pub(super) at: Option<Timestamp>,
    pub(super) transparency: Transparency,
}

fn bad(why: impl Into<String>) -> UnacceptedReason {
    UnacceptedReason::new(unaccepted::BAD_LOG_ENTRY, why)
}

/// The refusal for a log entry of an unknown kind or version. Its content cannot be checked.
pub(super) fn unknown_kind(kind: &str, version: &str) -> UnacceptedReason {
    let detail = format!("log entries of the kind `{kind} {version}` are not supported");
    UnacceptedReason::new(unaccepted::FORMAT_NOT_SUPPORTED, detail)
}

impl LogEntry {
    /// Whether the entry is of a log that the trust root names, by the log's id or by a key hint in the checkpoint. An entry of
    /// another log proves nothing for or against the signature, so it is treated as absent.
    fn check_known_log(&self, keys: &[LogKey]) -> Result<(), UnacceptedReason> {
        let by_id = keys.iter().any(|key| self.log == key.id.as_bytes());
        let checkpoint = self
            .proof
            .as_ref()
            .and_then(|proof| proof.checkpoint.checkpoint());
        let by_checkpoint = checkpoint.is_some_and(|checkpoint| {
            let mut notes = checkpoint.signatures().iter();
            notes.any(|note| keys.iter().any(|key| key.has_hint(&note.key_id)))
        });
        if by_id || by_checkpoint {
            return Ok(());
        }
        Err(self.unknown_log())
    }

    fn unknown_log(&self) -> UnacceptedReason {
        let detail = format!(
            "the trust root does not name a log `{}` that was valid at that time",
            hex::encode(&self.log)
        );
        UnacceptedReason::new(unaccepted::UNKNOWN_LOG, detail)
    }

    /// Verifies that a log of the trust root contains the entry. `stamped` are the times of verified timestamps.
    ///
    /// # Errors
    /// Why the entry is not valid. `unknown-log` means that it counts as absent, because no log that was trusted then made it.
    pub(super) fn verify(
        &self,
        keys: &[LogKey],
        stamped: &[Timestamp],
    ) -> Result<Seen, UnacceptedReason> {
        // 1. A log that the trust root names: every other log could be the attacker's own.
        self.check_known_log(keys)?;
        // 2. A proof or a promise of inclusion: otherwise, the log need not contain the entry.
        if self.proof.is_none() && !(self.set_suffices && self.set.is_some()) {
            return Err(UnacceptedReason::new(
                unaccepted::NO_INCLUSION_PROOF,
                "a log entry does not carry an inclusion proof",
            ));
        }
        if let Some(set) = &self.set {
            self.verify_set(set, keys)?;
        }
        // 3. The time counts only if the promise signs it: otherwise, the sender could choose it.
        let at = self
            .integrated
            .filter(|_| self.set.is_some() && self.kind != EntryKind::HashedRekordV2);
        // 4. The inclusion proof, under a key that was valid at the time of the entry: a retired key could have been stolen.
        let transparency = match &self.proof {
            Some(proof) => {
                self.verify_inclusion(
                    proof,
                    keys,
                    at.as_ref().map_or(stamped, std::slice::from_ref),
                )?;
                Transparency::InclusionProof
            }
            None => Transparency::SignedEntry,
        };
        Ok(Seen { at, transparency })
    }

    /// Verifies the promise of a log of version 1: a signature over the entry and the time at which the log added it (Rekor,
    /// `types.md`, "Signed Entry Timestamp"; canonical JSON, RFC 8785).
    fn verify_set(&self, set: &[u8], keys: &[LogKey]) -> Result<(), UnacceptedReason> {
        let signed = format!(
            r#"{{"body":"{}","integratedTime":{},"logID":"{}","logIndex":{}}}"#,
            STANDARD.encode(&self.body),
            self.integrated.map_or(0, Timestamp::as_second),
            hex::encode(&self.log),
            self.index,
        );
        let named = keys.iter().filter(|key| self.log == key.id.as_bytes());
        let mut kept = named
            .filter(|key| key.signed(signed.as_bytes(), set))
            .peekable();
        if kept.peek().is_none() {
            return Err(bad(
                "the promise is not signed by the named log over this entry",
            ));
        }
        if kept.any(|key| key.valid_at(self.integrated.as_slice())) {
            return Ok(());
        }
        Err(self.unknown_log())
    }

    /// Verifies the inclusion proof against a checkpoint that the log signed (RFC 6962, 2.1.1; C2SP tlog-checkpoint). A proof of
    /// version 1 repeats values of the checkpoint, which must agree; those of version 2 are not used.
    fn verify_inclusion(
        &self,
        proof: &InclusionProof,
        keys: &[LogKey],
        times: &[Timestamp],
    ) -> Result<(), UnacceptedReason> {
        let Some(checkpoint) = proof.checkpoint.checkpoint() else {
            return Err(bad("the inclusion proof does not have a checkpoint"));
        };
        let index = match self.kind {
            EntryKind::HashedRekordV2 => self.index,
            _ => {
                if proof.root_hash != *checkpoint.root_hash()
                    || proof.tree_size != checkpoint.tree_size()
                {
                    return Err(bad(
                        "the inclusion proof and its checkpoint are of different trees",
                    ));
                }
                proof.log_index.get()
            }
        };
        verify_inclusion_proof(
            &hash_leaf(&self.body),
            index,
            checkpoint.tree_size(),
            &proof.hashes,
            checkpoint.root_hash(),
        )
        .map_err(|error| bad(format!("the inclusion proof is not valid: {error}")))?;
        // A checkpoint also has signatures of witnesses, and key hints of four bytes can collide, so every signature with a
        // matching hint is tried.
        let lines = keys.iter().flat_map(|key| {
            let notes = checkpoint.signatures().iter();
            let notes = notes.filter(|note| key.has_hint(&note.key_id));
            notes.map(move |note| (key, note))
        });
        bounded(
            "signatures of one log in a checkpoint",
            lines.clone().count(),
            MAXIMUM_SIGNATURES,
        )?;
        let mut signers = lines
            .filter(|(key, note)| key.signed(checkpoint.signed_data(), note.signature.as_bytes()))
            .map(|(key, _)| key)
            .peekable();
        if signers.peek().is_none() {
            return Err(bad("no log of the trust root signed the checkpoint"));
        }
        if signers.any(|key| key.valid_at(times)) {
            return Ok(());
        }
        let when = match times {
            [] => "has an end of validity, but the time of the entry is not known".to_owned(),
            [time, ..] => format!("was not valid at {time}"),
        };
        let detail = format!("the key of the log that signed the checkpoint {when}");
        Err(UnacceptedReason::new(unaccepted::UNKNOWN_LOG, detail))
    }
}
