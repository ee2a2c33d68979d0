//! RFC 3161 timestamps, under the timestamp authorities of a trust root.

use jiff::Timestamp;
use sigstore_tsa::{Error, verify_timestamp_for_authority};
use sigstore_types::{SignatureBytes, TimestampToken, TsaAuthority};

use super::unaccepted::{self, UnacceptedReason};

/// Verifies a timestamp over `stamped`, and returns its time. The authority that signed the timestamp must have been valid at
/// that time; the validity of another authority does not count.
///
/// # Errors
/// Why the timestamp is not valid.
pub(super) fn verify(
    token: &[u8],
    stamped: &[u8],
    authorities: &[TsaAuthority],
) -> Result<Timestamp, UnacceptedReason> {
    let refused = |why: String| UnacceptedReason::new(unaccepted::BAD_TIMESTAMP, why);
    let token = TimestampToken::new(token.to_vec());
    let stamped = SignatureBytes::new(stamped.to_vec());
    let mut why = "the trust root does not name a timestamp authority".to_owned();
    for authority in authorities {
        match verify_timestamp_for_authority(&token, &stamped, authority) {
            Ok(time) => return Ok(time),
            Err(Error::TimestampOutsideValidity { time }) => {
                why = format!("the timestamp authority was not valid at {time}");
            }
            Err(error) => why = format!("the timestamp is not valid: {error}"),
        }
    }
    Err(refused(why))
}
