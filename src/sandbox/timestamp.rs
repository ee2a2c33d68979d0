//! The timestamp authority: RFC 3161 tokens.

use std::time::Duration;

use aws_lc_rs::rand;
use cms::cert::IssuerAndSerialNumber;
use cms::content_info::{CmsVersion, ContentInfo};
use cms::signed_data::{
    EncapsulatedContentInfo, SignedData, SignerIdentifier, SignerInfo, SignerInfos,
};
use const_oid::db::rfc5911::{ID_CONTENT_TYPE, ID_MESSAGE_DIGEST, ID_SIGNED_DATA};
use const_oid::db::rfc5912::{ECDSA_WITH_SHA_256, ID_SHA_256};
use der::asn1::{GeneralizedTime, Int, ObjectIdentifier, OctetString, SetOfVec};
use der::{Any, Decode as _, Encode as _, Sequence, Tag};
use jiff::Timestamp;
use rcgen::{
    CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    SigningKey as _,
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use x509_cert::Certificate;
use x509_cert::attr::Attribute;
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::authority::{named, root};
use super::{SandboxError, authority_of, valid_since};

/// `id-ct-TSTInfo`.
const TIMESTAMP_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
/// `id-aa-signingCertificateV2` (RFC 5035).
const SIGNING_CERTIFICATE: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.47");
/// The policy in tokens: that of Sigstore's authorities.
const POLICY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.2");

/// RFC 3161, section 2.4.1.
#[derive(Sequence)]
struct Query {
    version: u8,
    imprint: MessageImprint,
    #[asn1(optional = "true")]
    policy: Option<ObjectIdentifier>,
    #[asn1(optional = "true")]
    nonce: Option<Int>,
    /// Whether the authority's certificate is asked for. Tokens of the sandbox do not hold it: its trust root does.
    #[asn1(default = "Default::default")]
    with_certificate: bool,
}

/// RFC 3161, section 2.4.2.
#[derive(Sequence)]
struct TimestampInfo {
    version: u8,
    policy: ObjectIdentifier,
    imprint: MessageImprint,
    serial: Int,
    time: GeneralizedTime,
    #[asn1(optional = "true")]
    nonce: Option<Int>,
}

#[derive(Sequence)]
struct MessageImprint {
    algorithm: AlgorithmIdentifierOwned,
    hash: OctetString,
}

#[derive(Sequence)]
struct Response {
    status: Status,
    token: ContentInfo,
}

#[derive(Sequence)]
struct Status {
    status: u8,
}

/// RFC 5035, section 3.
#[derive(Sequence)]
struct SigningCertificate {
    certificates: Vec<CertificateId>,
}

#[derive(Sequence)]
struct CertificateId {
    hash: OctetString,
}

pub(super) struct TimestampAuthority {
    root: CertifiedIssuer<'static, KeyPair>,
    key: KeyPair,
    certificate: Vec<u8>,
}

impl TimestampAuthority {
    pub(super) fn create() -> Result<TimestampAuthority, SandboxError> {
        let root = root("timestamp root")?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named("timestamp authority");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::TimeStamping];
        let certificate = params.signed_by(&key, &root)?.der().to_vec();
        Ok(TimestampAuthority {
            root,
            key,
            certificate,
        })
    }

    /// The authority in the form of a trusted root.
    pub(super) fn described(&self, since: Timestamp) -> Value {
        let chain: [&[u8]; 2] = [&self.certificate, self.root.der()];
        authority_of(&chain, "timestamps", valid_since(since))
    }

    /// A timestamp over a signature, by its SHA-256 digest, in the form of an answer.
    pub(super) fn stamp(&self, digest: &[u8], at: Timestamp) -> Result<Vec<u8>, SandboxError> {
        let imprint = MessageImprint {
            algorithm: algorithm(ID_SHA_256),
            hash: OctetString::new(digest)?,
        };
        self.stamped(imprint, None, at)
    }

    /// The answer to a request (`TimeStampReq`, DER).
    pub(super) fn answer(&self, query: &[u8], at: Timestamp) -> Result<Vec<u8>, SandboxError> {
        let query = Query::from_der(query)?;
        let imprint = query.imprint;
        if imprint.algorithm.oid != ID_SHA_256 || imprint.hash.as_bytes().len() != 32 {
            return Err(SandboxError::of("a timestamp is over a SHA-256 digest"));
        }
        self.stamped(imprint, query.nonce, at)
    }

    fn stamped(
        &self,
        imprint: MessageImprint,
        nonce: Option<Int>,
        at: Timestamp,
    ) -> Result<Vec<u8>, SandboxError> {
        let mut serial = [0; 8];
        rand::fill(&mut serial).map_err(SandboxError::of)?;
        // A positive number, in the shortest form of DER.
        serial[0] = serial[0] & 0x3f | 0x40;
        let seconds = u64::try_from(at.as_second()).map_err(SandboxError::of)?;
        let info = TimestampInfo {
            version: 1,
            policy: POLICY,
            imprint,
            serial: Int::new(&serial)?,
            time: GeneralizedTime::from_unix_duration(Duration::from_secs(seconds))?,
            nonce,
        };
        let token = self.sign(&info.to_der()?)?;
        Ok(Response {
            status: Status { status: 0 },
            token,
        }
        .to_der()?)
    }

    /// RFC 5652, section 5, with the attributes that RFC 3161 requires of the signer.
    fn sign(&self, info: &[u8]) -> Result<ContentInfo, SandboxError> {
        let certificate = Certificate::from_der(&self.certificate)?;
        let digest = OctetString::new(Sha256::digest(info).to_vec())?;
        let signer = SigningCertificate {
            certificates: vec![CertificateId {
                hash: OctetString::new(Sha256::digest(&self.certificate).to_vec())?,
            }],
        };
        let mut attributes = SetOfVec::new();
        attributes.insert(attribute(ID_CONTENT_TYPE, &TIMESTAMP_INFO)?)?;
        attributes.insert(attribute(ID_MESSAGE_DIGEST, &digest)?)?;
        attributes.insert(attribute(SIGNING_CERTIFICATE, &signer)?)?;
        let signature = self.key.sign(&attributes.to_der()?)?;
        let signer = SignerInfo {
            version: CmsVersion::V1,
            sid: SignerIdentifier::IssuerAndSerialNumber(IssuerAndSerialNumber {
                issuer: certificate.tbs_certificate.issuer,
                serial_number: certificate.tbs_certificate.serial_number,
            }),
            digest_alg: algorithm(ID_SHA_256),
            signed_attrs: Some(attributes),
            signature_algorithm: algorithm(ECDSA_WITH_SHA_256),
            signature: OctetString::new(signature)?,
            unsigned_attrs: None,
        };
        let content = Any::new(Tag::OctetString, info)?;
        let signed = SignedData {
            version: CmsVersion::V3,
            digest_algorithms: SetOfVec::try_from(vec![algorithm(ID_SHA_256)])?,
            encap_content_info: EncapsulatedContentInfo {
                econtent_type: TIMESTAMP_INFO,
                econtent: Some(content),
            },
            certificates: None,
            crls: None,
            signer_infos: SignerInfos::try_from(vec![signer])?,
        };
        Ok(ContentInfo {
            content_type: ID_SIGNED_DATA,
            content: Any::encode_from(&signed)?,
        })
    }
}

fn algorithm(oid: ObjectIdentifier) -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned {
        oid,
        parameters: None,
    }
}

fn attribute<T: der::EncodeValue + der::Tagged>(
    oid: ObjectIdentifier,
    value: &T,
) -> Result<Attribute, SandboxError> {
    Ok(Attribute {
        oid,
        values: SetOfVec::try_from(vec![Any::encode_from(value)?])?,
    })
}
