//! Certificates of signers: verifies that an authority of a trust root issued them, that they were valid at the times of the
//! signature, and that their issuance was logged (RFC 5280, RFC 6962).

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};
use x509_cert::Certificate;
use x509_cert::der::asn1::OctetString;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::pkix::ExtendedKeyUsage;

use super::chain::Chain;
use super::trust_root::{CODE_SIGNING, Instance, LogKey, issuer_at};
use super::unaccepted::{self, UnacceptedReason};

/// The extension with the certificate timestamps (RFC 6962, 3.3).
const CERTIFICATE_TIMESTAMPS: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.3.6.1.4.1.11129.2.4.2");

impl Instance {
    /// Verifies a certificate of a signer, for these times:
    /// 1. it is for signing, so that a server's certificate cannot sign an image;
    /// 2. an authority of this root issued it, and it was valid, at *every* time, so that one backdated time cannot make an
    ///    expired certificate count;
    /// 3. its issuance was logged, if this root names certificate logs, so that a secretly issued certificate does not count.
    ///
    /// # Errors
    /// Why the certificate is not accepted.
    pub(super) fn certify(
        &self,
        chain: &Chain,
        times: &[Timestamp],
    ) -> Result<(), UnacceptedReason> {
        for_signing(&chain.leaf)?;
        let mut issued = None;
        for time in times {
            issued = Some(issuer_at(chain, *time, &self.authorities)?);
        }
        match issued {
            Some(_) if self.certificate_logs.is_empty() => Ok(()),
            Some(issuer) => check_logged(&chain.leaf, &issuer, &self.certificate_logs),
            None => Err(UnacceptedReason::new(
                unaccepted::NO_VERIFIED_TIME,
                "neither a log nor a timestamp authority confirms when the signature was made",
            )),
        }
    }
}

/// The time within the certificate's validity that is nearest to `now`.
///
/// # Errors
/// If it is further away than `tolerance`.
pub(super) fn valid_near(
    leaf: &[u8],
    now: Timestamp,
    tolerance: SignedDuration,
) -> Result<Timestamp, UnacceptedReason> {
    let malformed = |why: &str| {
        let detail = format!("the certificate does not parse: {why}");
        UnacceptedReason::new(unaccepted::MALFORMED, detail)
    };
    let certificate = Certificate::from_der(leaf).map_err(|error| malformed(&error.to_string()))?;
    let at = |time: &x509_cert::time::Time| {
        let second = i64::try_from(time.to_unix_duration().as_secs()).ok();
        let time = second.and_then(|second| Timestamp::from_second(second).ok());
        time.ok_or_else(|| malformed("its validity cannot be read"))
    };
    let validity = &certificate.tbs_certificate.validity;
    let (from, until) = (at(&validity.not_before)?, at(&validity.not_after)?);
    let nearest = now.max(from).min(until);
    match from <= until && now.duration_since(nearest).abs() <= tolerance {
        true => Ok(nearest),
        false => Err(UnacceptedReason::new(
            unaccepted::CERTIFICATE_NOT_VALID_AT_SIGNING,
            format!(
                "it is valid from {from:.0} to {until:.0}, and this machine's time is {now:.0}"
            ),
        )),
    }
}

/// Checks that the certificate has the extended key usage `codeSigning`.
fn for_signing(leaf: &[u8]) -> Result<(), UnacceptedReason> {
    let malformed = |error| {
        let detail = format!("the certificate does not parse: {error}");
        UnacceptedReason::new(unaccepted::MALFORMED, detail)
    };
    let certificate = Certificate::from_der(leaf).map_err(malformed)?;
    let usage = certificate.tbs_certificate.get::<ExtendedKeyUsage>();
    match usage.map_err(malformed)? {
        Some((_, usage)) if usage.0.contains(&CODE_SIGNING) => Ok(()),
        _ => Err(UnacceptedReason::new(
            unaccepted::UNTRUSTED_CERTIFICATE,
            "the certificate is not for signing (extended key usage `codeSigning`)",
        )),
    }
}

/// Verifies the certificate's timestamp by a certificate transparency log (RFC 6962, 3.2). Exactly one is accepted, because a
/// second one would not be verified.
fn check_logged(leaf: &[u8], issuer: &[u8], logs: &[LogKey]) -> Result<(), UnacceptedReason> {
    let refused = |why: &str| UnacceptedReason::new(unaccepted::BAD_CERTIFICATE_TIMESTAMP, why);
    let malformed = || refused("the certificate's timestamp cannot be read");
    let mut certificate = Certificate::from_der(leaf).map_err(|_| malformed())?;
    let extensions = certificate
        .tbs_certificate
        .extensions
        .take()
        .unwrap_or_default();
    let (timestamps, others): (Vec<_>, Vec<_>) = extensions
        .into_iter()
        .partition(|extension| extension.extn_id == CERTIFICATE_TIMESTAMPS);
    certificate.tbs_certificate.extensions = Some(others);
    let list = match timestamps.as_slice() {
        [] => {
            return Err(refused(
                "the certificate does not carry a signed certificate timestamp",
            ));
        }
        [only] => OctetString::from_der(only.extn_value.as_bytes()).map_err(|_| malformed())?,
        _ => return Err(malformed()),
    };
    let timestamp = match entries(list.as_bytes()).ok_or_else(malformed)?.as_slice() {
        [only] => CertificateTimestamp::read(only).ok_or_else(malformed)?,
        _ => {
            return Err(refused(
                "the certificate carries several signed certificate timestamps; expected exactly one",
            ));
        }
    };
    let unlogged = certificate
        .tbs_certificate
        .to_der()
        .map_err(|_| malformed())?;
    let signed = timestamp.signed(issuer, &unlogged).ok_or_else(malformed)?;
    let at = i64::try_from(timestamp.milliseconds)
        .ok()
        .and_then(|milliseconds| Timestamp::from_millisecond(milliseconds).ok())
        .ok_or_else(malformed)?;
    let mut known = logs
        .iter()
        .filter(|log| log.id.as_bytes() == timestamp.log && log.valid_at(&[at]))
        .peekable();
    if known.peek().is_none() {
        return Err(refused(
            "the trust root does not name the log of the certificate's timestamp, or the log's key was not valid then",
        ));
    }
    if known.any(|log| log.signed(&signed, timestamp.signature)) {
        return Ok(());
    }
    Err(refused(
        "the certificate's timestamp is not signed by the log that it names",
    ))
}

/// A signed certificate timestamp (RFC 6962, 3.2).
struct CertificateTimestamp<'a> {
    log: &'a [u8],
    milliseconds: u64,
    extensions: &'a [u8],
    signature: &'a [u8],
}

impl<'a> CertificateTimestamp<'a> {
    fn read(bytes: &'a [u8]) -> Option<CertificateTimestamp<'a>> {
        let (&version, rest) = bytes.split_first()?;
        let (log, rest) = rest.split_at_checked(32)?;
        let (milliseconds, rest) = rest.split_first_chunk::<8>()?;
        let (extensions, rest) = prefixed(rest)?;
        // The algorithm is ignored: the kind of the log's key decides it.
        let (_, rest) = rest.split_first_chunk::<2>()?;
        let (signature, rest) = prefixed(rest)?;
        (version == 0 && rest.is_empty()).then_some(CertificateTimestamp {
            log,
            milliseconds: u64::from_be_bytes(*milliseconds),
            extensions,
            signature,
        })
    }

    /// The bytes that the log signed: the certificate without its timestamp.
    fn signed(&self, issuer: &[u8], unlogged: &[u8]) -> Option<Vec<u8>> {
        let length = u32::try_from(unlogged.len()).ok()?.to_be_bytes();
        let [0, length @ ..] = length else {
            return None;
        };
        let extensions = u16::try_from(self.extensions.len()).ok()?;
        // version (v1) and signature type (certificate_timestamp); after the time, the entry type (precert_entry).
        let mut signed = vec![0, 0];
        signed.extend(self.milliseconds.to_be_bytes());
        signed.extend([0, 1]);
        signed.extend(Sha256::digest(issuer));
        signed.extend(length);
        signed.extend(unlogged);
        signed.extend(extensions.to_be_bytes());
        signed.extend(self.extensions);
        Some(signed)
    }
}

/// The entries of a list in TLS encoding: the list and each entry follow their length of two bytes.
fn entries(list: &[u8]) -> Option<Vec<&[u8]>> {
    let (mut entries, after) = prefixed(list)?;
    if !after.is_empty() {
        return None;
    }
    let mut found = Vec::new();
    while !entries.is_empty() {
        let (entry, rest) = prefixed(entries)?;
        found.push(entry);
        entries = rest;
    }
    Some(found)
}

/// Splits bytes that begin with a length of two bytes into the content of that length and the rest.
fn prefixed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

#[cfg(test)]
mod tests {
    use super::super::samples::certificate;
    use super::*;

    #[test]
    fn a_certificate_for_something_else_than_signing_is_rejected() {
        let usage = |purpose: ObjectIdentifier| ExtendedKeyUsage(vec![purpose]).to_der().unwrap();
        const OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
        const SERVER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
        for (extensions, signs) in [
            (&[(OID, &usage(CODE_SIGNING)[..])][..], true),
            (&[(OID, &usage(SERVER)[..])], false),
            (&[], false),
        ] {
            assert_eq!(for_signing(&certificate(extensions)).is_ok(), signs);
        }
    }

    #[test]
    fn a_certificate_without_a_timestamp_is_called_that() {
        let refused = check_logged(&certificate(&[]), b"", &[]).unwrap_err();
        assert_eq!(refused.reason, unaccepted::BAD_CERTIFICATE_TIMESTAMP);
        assert!(refused.detail.contains("does not carry"), "{refused}");
    }

    fn timestamp(version: u8, after: &[u8]) -> Vec<u8> {
        let log = [7; 32];
        let (milliseconds, extensions, signature) = ([0; 8], [0, 1, 9], [0, 2, 5, 6]);
        [
            &[version],
            &log[..],
            &milliseconds,
            &extensions,
            &[4, 3],
            &signature,
            after,
        ]
        .concat()
    }

    #[test]
    fn a_certificate_timestamp_is_version_1_without_a_rest() {
        let sound = timestamp(0, &[]);
        let read = CertificateTimestamp::read(&sound).unwrap();
        assert_eq!((read.extensions, read.signature), (&[9][..], &[5, 6][..]));
        for other in [
            timestamp(1, &[]),
            timestamp(0, &[0]),
            sound[..sound.len() - 1].to_vec(),
        ] {
            assert!(CertificateTimestamp::read(&other).is_none());
        }
    }
}
