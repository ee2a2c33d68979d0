//! The certificate authorities of a trust root, and the path from a signer's certificate to one of them (RFC 5280).

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use sigstore_crypto::WEBPKI_VERIFICATION_ALGS;
use sigstore_types::TimeRange;
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Any, Decode as _, Encode as _, Tag};
use x509_cert::ext::pkix::BasicConstraints;
use x509_cert::{Certificate, TbsCertificate, Version};

use crate::attest::chain::Chain;
use crate::attest::unaccepted::{self, UnacceptedReason};

/// `id-kp-codeSigning`
pub(in crate::attest) const CODE_SIGNING: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");

/// A certificate authority, and the time in which it issued certificates.
pub(in crate::attest) struct Authority {
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

/// Verifies the path from a certificate to one of the authorities at one time. Returns the issuer's `SubjectPublicKeyInfo`. Each
/// authority is tried only with its own validity and intermediate certificates.
pub(in crate::attest) fn issuer_at(
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attest::samples::{authorities, certificate};

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
}
