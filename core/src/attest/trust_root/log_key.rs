//! The keys of the logs that a trust root names.

use jiff::Timestamp;
use sigstore_trust_root::trusted_root::PublicKey as WrittenKey;
use sigstore_types::{KeyHint, LogId, Sha256Hash, TimeRange};

use crate::attest::signature::{Message, VerifyingKey};

/// The key of a log that a trust root names.
pub(in crate::attest) struct LogKey {
    pub(in crate::attest) id: Sha256Hash,
    pub(in crate::attest) key: VerifyingKey,
    pub(in crate::attest) valid_for: Option<TimeRange>,
}

impl LogKey {
    pub(in crate::attest) fn signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        self.key.signed(&Message::of_bytes(bytes), signature)
    }

    pub(in crate::attest) fn has_hint(&self, hint: &KeyHint) -> bool {
        self.id.as_bytes().starts_with(hint.as_bytes())
    }

    /// Whether the key was valid at these times. If no time is known, a key with an end of validity does not count: an attacker
    /// could have stolen it after its retirement.
    pub(in crate::attest) fn valid_at(&self, times: &[Timestamp]) -> bool {
        self.valid_for.is_none_or(|window| match times {
            [] => window.end.is_none(),
            times => times.iter().all(|time| window.contains(*time)),
        })
    }
}

/// Parses the keys of a list of logs; `list` is its field, for errors.
pub(super) fn log_keys<'a>(
    list: &str,
    logs: impl Iterator<Item = (&'a String, &'a LogId, &'a WrittenKey)>,
) -> Result<Vec<LogKey>, String> {
    let key = |(at, (url, id, key)): (usize, (&String, &LogId, &WrittenKey))| {
        let refused = |why: String| format!("the log `{list}[{at}]` (`{url}`): {why}");
        Ok(LogKey {
            id: Sha256Hash::try_from(id.key_id.as_bytes())
                .map_err(|error| refused(format!("the log id is not valid: {error}")))?,
            key: VerifyingKey::of_log(key.raw_bytes.as_bytes()).map_err(|why| {
                refused(format!(
                    "the kind of key is not supported: {why}; supported are ECDSA P-256, P-384 and P-521, RSA 2048 \
                     to 8192, Ed25519 and ML-DSA"
                ))
            })?,
            valid_for: key.valid_for,
        })
    };
    logs.enumerate().map(key).collect()
}
