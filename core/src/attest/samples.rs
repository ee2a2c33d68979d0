//! Certificates for tests: those of the public-good instance, and copies of them with other extensions.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sigstore_trust_root::SIGSTORE_PRODUCTION_TRUSTED_ROOT;
use x509_cert::Certificate;
use x509_cert::der::asn1::OctetString;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::Extension;

/// An intermediate authority, and the root that issued it; in DER.
pub(super) fn authorities() -> [Vec<u8>; 2] {
    let root: Value = serde_json::from_str(SIGSTORE_PRODUCTION_TRUSTED_ROOT).unwrap();
    let chain = &root["certificateAuthorities"][1]["certChain"]["certificates"];
    [0, 1].map(|at| {
        let der = chain[at]["rawBytes"].as_str().unwrap();
        STANDARD.decode(der).unwrap()
    })
}

/// A certificate with only these extensions. Its signature is not valid.
pub(super) fn certificate(extensions: &[(ObjectIdentifier, &[u8])]) -> Vec<u8> {
    let [intermediate, _] = authorities();
    let mut certificate = Certificate::from_der(&intermediate).unwrap();
    let extensions = extensions.iter().map(|(oid, value)| Extension {
        extn_id: *oid,
        critical: false,
        extn_value: OctetString::new(*value).unwrap(),
    });
    certificate.tbs_certificate.extensions = Some(extensions.collect());
    certificate.to_der().unwrap()
}

pub(super) fn pem(kind: &str, der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    format!("-----BEGIN {kind}-----\n{encoded}\n-----END {kind}-----\n")
}
