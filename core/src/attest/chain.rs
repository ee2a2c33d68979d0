//! Certificates as the evidence carries them, and what is read of one without verifying it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::name::Name;

use super::signature::VerifyingKey;
use super::unaccepted::{self, UnacceptedReason};

/// A certificate, with the intermediate certificates beside it.
pub(super) struct Chain {
    pub(super) leaf: Vec<u8>,
    pub(super) intermediates: Vec<Vec<u8>>,
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
    use super::super::samples::{authorities, pem};
    use super::*;

    #[test]
    fn a_root_is_what_issued_itself() {
        let [intermediate, root] = authorities();
        let said = [&root, &intermediate, &b"no certificate".to_vec()].map(|der| is_root(der));
        assert_eq!(said, [true, false, false]);
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
