//! RFC 3161 timestamps, under the timestamp authorities of a trust root.

use jiff::Timestamp;
use sigstore_tsa::{Error, verify_timestamp_for_authority};
use sigstore_types::{SignatureBytes, TimestampToken, TsaAuthority};

use super::unaccepted::{self, UnacceptedReason};

/// The time at which one of the authorities saw `stamped`. The authority that signed must itself have been valid then: no
/// other one lends it its window.
///
/// # Errors
/// Why the timestamp does not hold.
pub(super) fn verify(
    token: &[u8],
    stamped: &[u8],
    authorities: &[TsaAuthority],
) -> Result<Timestamp, UnacceptedReason> {
    let refused = |why: String| UnacceptedReason::new(unaccepted::BAD_TIMESTAMP, why);
    let token = TimestampToken::new(token.to_vec());
    let stamped = SignatureBytes::new(stamped.to_vec());
    let mut why = "the trust root names no timestamp authority".to_owned();
    for authority in authorities {
        match verify_timestamp_for_authority(&token, &stamped, authority) {
            Ok(time) => return Ok(time),
            Err(Error::TimestampOutsideValidity { time }) => {
                why = format!("the timestamp authority was not valid at {time}");
            }
            Err(error) => why = format!("the timestamp does not hold: {error}"),
        }
    }
    Err(refused(why))
}
