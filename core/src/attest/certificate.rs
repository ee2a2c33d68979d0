//! Certificates of signers: verifies that an authority of a trust root issued them, that they were valid at the times of the
//! signature, and that their issuance was logged (RFC 5280, RFC 6962).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use sigstore_crypto::WEBPKI_VERIFICATION_ALGS;
use sigstore_types::TimeRange;
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};
use x509_cert::der::asn1::OctetString;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Any, Decode as _, Encode as _, Tag};
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage};
use x509_cert::name::Name;
use x509_cert::{Certificate, TbsCertificate, Version};

use sha2::{Digest as _, Sha256};

use super::anchor::Instance;
use super::log::LogKey;
use super::signature::VerifyingKey;
use super::unaccepted::{self, UnacceptedReason};

/// `id-kp-codeSigning`
const CODE_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");
/// The extension with the certificate timestamps (RFC 6962, 3.3).
const CERTIFICATE_TIMESTAMPS: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.3.6.1.4.1.11129.2.4.2");

/// A certificate, with the intermediate certificates beside it.
pub(super) struct Chain {
    pub(super) leaf: Vec<u8>,
    pub(super) intermediates: Vec<Vec<u8>>,
}

/// A certificate authority, and the time in which it issued certificates.
pub(super) struct Authority {
    /// The topmost certificates: no other certificate of the chain issued them.
    roots: Vec<RootCertificate>,
    /// The other certificates of the chain. A signature need not carry them.
    intermediates: Vec<CertificateDer<'static>>,
    valid_for: Option<TimeRange>,
}

struct RootCertificate {
    anchor: TrustAnchor<'static>,
    valid: TimeRange,
    /// The most intermediate certificates between this one and the signer's; `None` for any number.
    path_length: Option<u8>,
}

impl Authority {
    /// An authority from its certificates, in any order.
    ///
    /// # Errors
    /// Why the chain cannot be used.
    pub(super) fn new(chain: &[&[u8]], valid_for: Option<TimeRange>) -> Result<Authority, String> {
        let parsed: Vec<_> = chain
            .iter()
            .map(|der| Ok((*der, Certificate::from_der(der)?)))
            .collect::<Result<_, x509_cert::der::Error>>()
            .map_err(|error| format!("a certificate does not parse: {error}"))?;
        let is_top = |certificate: &Certificate| {
            let TbsCertificate {
                issuer, subject, ..
            } = &certificate.tbs_certificate;
            issuer == subject
                || !(parsed.iter()).any(|(_, other)| other.tbs_certificate.subject == *issuer)
        };
        let mut roots = Vec::new();
        let mut intermediates = Vec::new();
        for (der, certificate) in &parsed {
            if is_top(certificate) {
                roots.push(RootCertificate::read(der, certificate)?);
            } else {
                intermediates.push(CertificateDer::from(der.to_vec()));
            }
        }
        if roots.is_empty() {
            return Err("the chain does not have a topmost certificate".to_owned());
        }
        Ok(Authority {
            roots,
            intermediates,
            valid_for,
        })
    }

    /// Verifies the path from a certificate to a root of this authority at one time. Returns the issuer's `SubjectPublicKeyInfo`.
    fn issuer_at(&self, chain: &Chain, time: Timestamp) -> Result<Vec<u8>, UnacceptedReason> {
        let untrusted = |why: String| UnacceptedReason::new(unaccepted::UNTRUSTED_CERTIFICATE, why);
        let invalid = || {
            let detail =
                format!("the certificate or an intermediate certificate was not valid at {time}");
            UnacceptedReason::new(unaccepted::CERTIFICATE_NOT_VALID_AT_SIGNING, detail)
        };
        let leaf = CertificateDer::from(chain.leaf.as_slice());
        let leaf = EndEntityCert::try_from(&leaf).map_err(|error| {
            UnacceptedReason::new(unaccepted::MALFORMED, format!("the certificate: {error}"))
        })?;
        let carried = chain.intermediates.iter().map(Vec::as_slice);
        let intermediates: Vec<_> = (self.intermediates.iter().map(AsRef::as_ref))
            .chain(carried)
            .map(CertificateDer::from)
            .collect();
        let seconds = u64::try_from(time.as_second()).map_err(|_| {
            UnacceptedReason::new(unaccepted::BAD_TIMESTAMP, "the time is before 1970")
        })?;
        let mut refused = None;
        for root in &self.roots {
            if !root.valid.contains(time) {
                let why = format!("the certificate of the authority was not valid at {time}");
                refused.get_or_insert(untrusted(why));
                continue;
            }
            let anchors = std::slice::from_ref(&root.anchor);
            let path = leaf.verify_for_usage(
                WEBPKI_VERIFICATION_ALGS,
                anchors,
                &intermediates,
                UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)),
                // An authority need not have this usage; `certify` checks that the signer's certificate does.
                KeyUsage::required_if_present(CODE_SIGNING.as_bytes()),
                None,
                Some(&|path: &VerifiedPath<'_>| {
                    let between = path.intermediate_certificates().count();
                    match root.path_length {
                        Some(most) if between > usize::from(most) => {
                            Err(webpki::Error::PathLenConstraintViolated)
                        }
                        _ => Ok(()),
                    }
                }),
            );
            match path {
                Ok(path) => return issuer_of(&path),
                Err(webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. }) => {
                    refused = Some(invalid());
                }
                Err(error) => {
                    let why =
                        format!("no authority of the trust root issued the certificate: {error}");
                    refused.get_or_insert(untrusted(why));
                }
            }
        }
        Err(refused
            .unwrap_or_else(|| untrusted("the authority does not have a certificate".to_owned())))
    }
}

impl RootCertificate {
    fn read(der: &[u8], certificate: &Certificate) -> Result<RootCertificate, String> {
        let body = &certificate.tbs_certificate;
        let constraints = body
            .get::<BasicConstraints>()
            .map_err(|error| format!("a certificate does not parse: {error}"))?;
        let path_length = match constraints {
            Some((_, constraints)) if constraints.ca => constraints.path_len_constraint,
            None if body.version == Version::V1 => None,
            _ => {
                return Err(format!(
                    "the certificate `{}` is not that of an authority (basic constraints, `CA:TRUE`)",
                    body.subject
                ));
            }
        };
        let at = |time: &x509_cert::time::Time| {
            let seconds = time.to_unix_duration().as_secs();
            let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
            Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
        };
        let der = CertificateDer::from(der);
        Ok(RootCertificate {
            anchor: webpki::anchor_from_trusted_cert(&der)
                .map_err(|error| format!("a certificate does not parse: {error}"))?
                .to_owned(),
            valid: TimeRange::new(
                at(&body.validity.not_before),
                Some(at(&body.validity.not_after)),
            ),
            path_length,
        })
    }
}

impl Chain {
    /// The public key of the certificate.
    pub(super) fn key(&self) -> Result<VerifyingKey, UnacceptedReason> {
        let unreadable =
            || UnacceptedReason::new(unaccepted::MALFORMED, "the certificate does not parse");
        let spki = public_key_of(&self.leaf).ok_or_else(unreadable)?;
        VerifyingKey::from_spki(&spki).map_err(|why| {
            let detail = format!("the kind of the certificate's key is not supported: {why}");
            UnacceptedReason::new(unaccepted::FORMAT_NOT_SUPPORTED, detail)
        })
    }
}

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

/// Verifies the path from a certificate to one of the authorities at one time. Returns the issuer's `SubjectPublicKeyInfo`. Each
/// authority is tried only with its own validity and intermediate certificates.
fn issuer_at(
    chain: &Chain,
    time: Timestamp,
    authorities: &[Authority],
) -> Result<Vec<u8>, UnacceptedReason> {
    let mut refused = None;
    for authority in authorities {
        // The validity in the trust root counts in addition to that of the authority's certificate.
        let valid = authority.valid_for;
        if !valid.is_none_or(|window| window.contains(time)) {
            continue;
        }
        match authority.issuer_at(chain, time) {
            Ok(issuer) => return Ok(issuer),
            Err(why) if why.reason == unaccepted::CERTIFICATE_NOT_VALID_AT_SIGNING => {
                refused = Some(why);
            }
            Err(why) => {
                refused.get_or_insert(why);
            }
        }
    }
    Err(refused.unwrap_or_else(|| {
        let detail = format!("no certificate authority of the trust root was valid at {time}");
        UnacceptedReason::new(unaccepted::UNTRUSTED_CERTIFICATE, detail)
    }))
}

fn issuer_of(path: &VerifiedPath<'_>) -> Result<Vec<u8>, UnacceptedReason> {
    match path.intermediate_certificates().next() {
        Some(issuer) => Ok(issuer.subject_public_key_info().as_ref().to_vec()),
        // The anchor holds the content of the sequence without its header.
        None => Any::new(
            Tag::Sequence,
            path.anchor().subject_public_key_info.as_ref(),
        )
        .and_then(|any| any.to_der())
        .map_err(|error| {
            UnacceptedReason::new(unaccepted::UNTRUSTED_CERTIFICATE, error.to_string())
        }),
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

/// The `SubjectPublicKeyInfo` of a certificate, in DER.
pub(super) fn public_key_of(certificate: &[u8]) -> Option<Vec<u8>> {
    let certificate = Certificate::from_der(certificate).ok()?;
    certificate
        .tbs_certificate
        .subject_public_key_info
        .to_der()
        .ok()
}

/// Subject and issuer of a certificate.
pub(super) fn names_of(certificate: &[u8]) -> Option<(Name, Name)> {
    let body = Certificate::from_der(certificate).ok()?.tbs_certificate;
    Some((body.subject, body.issuer))
}

/// Whether a certificate names itself as its issuer.
pub(super) fn is_root(certificate: &[u8]) -> bool {
    Certificate::from_der(certificate)
        .is_ok_and(|parsed| parsed.tbs_certificate.issuer == parsed.tbs_certificate.subject)
}

/// The certificates of a PEM, in DER.
pub(super) fn certificates_of_pem(pem: &str) -> Option<Vec<Vec<u8>>> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let mut certificates = Vec::new();
    for block in pem.split(BEGIN).skip(1) {
        let (body, _) = block.split_once(END)?;
        let body: String = body.split_whitespace().collect();
        certificates.push(STANDARD.decode(body).ok()?);
    }
    (!certificates.is_empty()).then_some(certificates)
}

#[cfg(test)]
mod tests {
    use super::super::samples::{authorities, certificate, pem};
    use super::*;

    #[test]
    fn an_authoritys_certificates_may_come_in_any_order() {
        let [intermediate, root] = authorities();
        let new = |chain: &[&[u8]]| Authority::new(chain, None);
        for (chain, roots, intermediates) in [
            (vec![&intermediate[..], &root], 1, 1),
            (vec![&root, &intermediate], 1, 1),
            (vec![&root], 1, 0),
            (vec![&intermediate], 1, 0),
        ] {
            let authority = new(&chain).unwrap();
            let counts = (authority.roots.len(), authority.intermediates.len());
            assert_eq!(counts, (roots, intermediates));
        }
        let signer = certificate(&[]);
        for (chain, why) in [
            (vec![], "topmost certificate"),
            (vec![&b"nothing"[..]], "does not parse"),
            (vec![&signer[..]], "CA:TRUE"),
        ] {
            let refused = new(&chain).err().unwrap();
            assert!(refused.contains(why), "{refused}");
        }
    }

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
    fn a_root_is_what_issued_itself() {
        let [intermediate, root] = authorities();
        let said = [&root, &intermediate, &b"no certificate".to_vec()].map(|der| is_root(der));
        assert_eq!(said, [true, false, false]);
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

    #[test]
    fn a_pem_without_a_whole_certificate_has_none() {
        let [intermediate, root] = authorities();
        let one = pem("CERTIFICATE", &intermediate);
        let both = format!("{one}{}", pem("CERTIFICATE", &root));
        assert_eq!(certificates_of_pem(&both), Some(vec![intermediate, root]));
        for text in [
            "",
            "-----BEGIN CERTIFICATE-----\nAA==",
            &one.replace('M', "!"),
        ] {
            assert_eq!(certificates_of_pem(text), None, "{text}");
        }
    }
}
