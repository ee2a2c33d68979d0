//! The certificate authority: short-lived certificates as Fulcio issues them, with the timestamp of a certificate transparency
//! log in each.

use std::collections::BTreeMap;
use std::time::SystemTime;

use der::asn1::{OctetStringRef, Utf8StringRef};
use der::{Decode as _, Encode as _};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
    SigningKey as _,
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use x509_cert::Certificate;

use super::{SandboxError, log_key, spki, valid_since};

/// How long a certificate is valid.
const LIFETIME: SignedDuration = SignedDuration::from_mins(10);
/// The common name of the certificate that issues.
const ISSUING: &str = "certificate authority";
/// The common name of the certificate that is trusted.
const ROOT: &str = "certificate root";
/// Fulcio's arc of object identifiers (fulcio, `docs/oid-info.md`).
const FULCIO: [u64; 8] = [1, 3, 6, 1, 4, 1, 57264, 1];
/// The arc of the issuer.
const ISSUER: u64 = 8;
/// Below this arc, Fulcio writes claims as plain text, not in DER.
const RAW: u64 = 7;
/// The list of certificate timestamps in a certificate (RFC 6962, section 3.3).
const CERTIFICATE_TIMESTAMPS: [u64; 10] = [1, 3, 6, 1, 4, 1, 11129, 2, 4, 2];

/// The subject of a certificate, and the issuer that vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxIdentity {
    subject: String,
    issuer: String,
    claims: BTreeMap<u64, String>,
}

impl SandboxIdentity {
    /// `subject` is an e-mail address, or the address of a workflow (a URI), as `issuer` knows it.
    pub fn new(subject: impl Into<String>, issuer: impl Into<String>) -> SandboxIdentity {
        SandboxIdentity {
            subject: subject.into(),
            issuer: issuer.into(),
            claims: BTreeMap::new(),
        }
    }

    /// Adds a claim of the issuer, by the last arc of Fulcio's object identifiers.
    #[must_use]
    pub fn with_claim(mut self, arc: u64, value: impl Into<String>) -> SandboxIdentity {
        self.claims.insert(arc, value.into());
        self
    }

    /// The subject in the certificate.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The OIDC issuer in the certificate.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }
}

pub(super) struct SandboxAuthority {
    root: CertifiedIssuer<'static, KeyPair>,
    issuer: CertifiedIssuer<'static, KeyPair>,
    certificate_log: KeyPair,
}

/// A certificate and its key.
pub(super) struct Issued {
    pub(super) key: KeyPair,
    pub(super) der: Vec<u8>,
    pub(super) pem: String,
}

/// A self-signed authority with a long validity.
pub(super) fn root(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>, SandboxError> {
    Ok(CertifiedIssuer::self_signed(
        lasting(name),
        KeyPair::generate()?,
    )?)
}

fn lasting(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

pub(super) fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::OrganizationName, "promotion-gate sandbox");
    names.push(DnType::CommonName, name);
    names
}

impl SandboxAuthority {
    pub(super) fn create() -> Result<SandboxAuthority, SandboxError> {
        let root = root(ROOT)?;
        let params = lasting(ISSUING);
        Ok(SandboxAuthority {
            issuer: CertifiedIssuer::signed_by(params, KeyPair::generate()?, &root)?,
            root,
            certificate_log: KeyPair::generate()?,
        })
    }

    pub(super) fn certificate_log(&self, since: Timestamp) -> Value {
        log_key(&self.certificate_log, "certificates", since)
    }

    pub(super) fn issue(
        &self,
        identity: &SandboxIdentity,
        at: Timestamp,
    ) -> Result<Issued, SandboxError> {
        let key = KeyPair::generate()?;
        let certificate = self.certify(identity, &key, at)?;
        Ok(Issued {
            key,
            der: certificate.der().to_vec(),
            pem: certificate.pem(),
        })
    }

    /// A certificate for a key.
    pub(super) fn certify(
        &self,
        identity: &SandboxIdentity,
        key: &impl PublicKeyData,
        at: Timestamp,
    ) -> Result<rcgen::Certificate, SandboxError> {
        let mut params = leaf(identity, at)?;
        // The log signs the certificate without the extension that holds the log's own timestamp.
        let without = params.signed_by(key, &self.issuer)?;
        let to_be_signed = Certificate::from_der(without.der())?
            .tbs_certificate
            .to_der()?;
        let timestamp = self.certificate_timestamp(&to_be_signed, at)?;
        params.custom_extensions.push(timestamp);
        Ok(params.signed_by(key, &self.issuer)?)
    }

    /// A list of one timestamp (RFC 6962, sections 3.2 and 3.3).
    fn certificate_timestamp(
        &self,
        to_be_signed: &[u8],
        at: Timestamp,
    ) -> Result<CustomExtension, SandboxError> {
        let milliseconds = u64::try_from(at.as_millisecond()).map_err(SandboxError::of)?;
        let length = u32::try_from(to_be_signed.len()).map_err(SandboxError::of)?;
        let mut signed = vec![0, 0];
        signed.extend(milliseconds.to_be_bytes());
        signed.extend([0, 1]);
        signed.extend(Sha256::digest(spki(self.issuer.key())));
        signed.extend(length.to_be_bytes().into_iter().skip(1));
        signed.extend(to_be_signed);
        signed.extend([0, 0]);
        let signature = self.certificate_log.sign(&signed)?;

        let mut entry = vec![0];
        entry.extend(Sha256::digest(spki(&self.certificate_log)));
        entry.extend(milliseconds.to_be_bytes());
        entry.extend([0, 0]);
        // ECDSA with SHA-256 (RFC 5246, section 7.4.1.4.1).
        entry.extend([4, 3]);
        entry.extend(prefixed(&signature)?);
        let list = prefixed(&prefixed(&entry)?)?;
        let content = OctetStringRef::new(&list)?.to_der()?;
        Ok(CustomExtension::from_oid_content(
            &CERTIFICATE_TIMESTAMPS,
            content,
        ))
    }
}

fn leaf(identity: &SandboxIdentity, at: Timestamp) -> Result<CertificateParams, SandboxError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = SystemTime::from(at).into();
    params.not_after =
        SystemTime::from(at.saturating_add(LIFETIME).map_err(SandboxError::of)?).into();
    let subject = identity.subject.as_str().try_into()?;
    params.subject_alt_names = vec![if identity.subject.contains("://") {
        SanType::URI(subject)
    } else {
        SanType::Rfc822Name(subject)
    }];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    params.use_authority_key_identifier_extension = true;
    let mut claims = identity.claims.clone();
    claims.insert(ISSUER, identity.issuer.clone());
    for (arc, value) in &claims {
        let oid: Vec<u64> = FULCIO.into_iter().chain([*arc]).collect();
        let content = match *arc < RAW {
            true => value.clone().into_bytes(),
            false => Utf8StringRef::new(value)?.to_der()?,
        };
        params
            .custom_extensions
            .push(CustomExtension::from_oid_content(&oid, content));
    }
    Ok(params)
}

/// The bytes, with their length in two bytes before them.
fn prefixed(bytes: &[u8]) -> Result<Vec<u8>, SandboxError> {
    let length = u16::try_from(bytes.len()).map_err(SandboxError::of)?;
    Ok(length
        .to_be_bytes()
        .into_iter()
        .chain(bytes.iter().copied())
        .collect())
}

impl SandboxAuthority {
    /// The authority in the form of a trusted root.
    pub(super) fn described(&self, since: Timestamp) -> Value {
        let chain: [&[u8]; 2] = [self.issuer.der(), self.root.der()];
        super::authority_of(&chain, "certificates", valid_since(since))
    }

    /// The certificate that issues, as if its validity had ended at a time.
    pub(super) fn ended(&self, at: Timestamp) -> Result<Vec<u8>, SandboxError> {
        let mut params = lasting(ISSUING);
        params.not_after = SystemTime::from(at).into();
        let certificate = params.signed_by(self.issuer.key(), &self.root)?;
        Ok(certificate.der().to_vec())
    }

    /// The certificate that is trusted, as if its validity had ended at a time.
    pub(super) fn root_ended(&self, at: Timestamp) -> Result<Vec<u8>, SandboxError> {
        let mut params = lasting(ROOT);
        params.not_after = SystemTime::from(at).into();
        Ok(params.self_signed(self.root.key())?.der().to_vec())
    }

    /// The certificate that is trusted, with a path length of `most`.
    pub(super) fn root_above(&self, most: u8) -> Result<Vec<u8>, SandboxError> {
        let mut params = lasting(ROOT);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(most));
        Ok(params.self_signed(self.root.key())?.der().to_vec())
    }
}
