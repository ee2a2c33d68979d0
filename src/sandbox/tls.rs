//! The TLS identity of a server on loopback.

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};

use super::SandboxError;
use super::authority::{named, root};

/// A certificate for `127.0.0.1` and `localhost`, its key, and the authority that issued it.
pub struct TlsIdentity {
    /// The certificate authority (PEM); its key is not kept.
    pub authority_pem: String,
    /// The certificate (PEM).
    pub certificate_pem: String,
    /// The private key of the certificate (PEM).
    pub key_pem: String,
}

impl TlsIdentity {
    /// Makes an identity with new keys.
    ///
    /// # Errors
    /// If the machine has no randomness.
    pub fn create() -> Result<TlsIdentity, SandboxError> {
        let authority = root("webhook authority")?;
        let key = KeyPair::generate()?;
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = named("webhook");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &authority)?;
        Ok(TlsIdentity {
            authority_pem: authority.pem(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}
