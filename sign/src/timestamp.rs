//! Timestamps (RFC 3161).

use aws_lc_rs::rand;
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::client::{Asked, ServiceClient};
use crate::error::SignError;

/// A timestamp over some bytes: the whole answer of the authority, as bundles carry it. It is not verified here.
pub(crate) async fn stamp(
    client: &dyn ServiceClient,
    url: &Url,
    bytes: &[u8],
) -> Result<Vec<u8>, SignError> {
    let asked = Asked {
        client,
        what: "timestamp authority",
        url,
    };
    let answer = asked
        .post(
            "application/timestamp-reply",
            "application/timestamp-query",
            &query(bytes)?,
        )
        .await?;
    match answer.status {
        200 | 201 => Ok(answer.body),
        _ => Err(asked.refused(&answer)),
    }
}

/// `TimeStampReq` in DER (RFC 3161, section 2.4.1): SHA-256, a nonce, and the authority's certificate asked for.
fn query(bytes: &[u8]) -> Result<Vec<u8>, SignError> {
    let mut nonce = [0; 8];
    rand::fill(&mut nonce)
        .map_err(|_| SignError::Unusable("the machine has no randomness".to_owned()))?;
    // A positive number, in the shortest form of DER.
    nonce[0] = nonce[0] & 0x3f | 0x40;
    let imprint: &[u8] = &[
        0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01,
        0x05, 0x00, 0x04, 0x20,
    ];
    let digest = Sha256::digest(bytes);
    Ok([
        &[0x30, 0x43, 0x02, 0x01, 0x01],
        imprint,
        &digest,
        &[0x02, 0x08],
        &nonce,
        &[0x01, 0x01, 0xff],
    ]
    .concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_as_long_as_it_says_and_never_the_same() {
        let [one, other] = [query(b"x").unwrap(), query(b"x").unwrap()];
        assert_eq!(usize::from(one[1]) + 2, one.len());
        assert_ne!(one, other);
        let at = one.len() - 13 - 32;
        assert_eq!(one[at..at + 32], Sha256::digest(b"x")[..]);
    }
}
