//! The signer: a certificate's identity with its claims, or a key.

use std::collections::BTreeMap;
use std::fmt;

use x509_cert::Certificate;
use x509_cert::der::asn1::Utf8StringRef;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode as _, Encode as _, oid::AssociatedOid as _};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::claim::Claim;
use super::key::KeyFingerprint;
use super::pipeline::Pipeline;
use super::unaccepted::{self, UnacceptedReason};

/// The signer of a verified signature or statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The holder of a short-lived certificate.
    Certificate(Box<CertificateIdentity>),
    /// The holder of a key.
    Key(KeyFingerprint),
}

/// Who signed, without what differs between the certificates of one identity: what a signer is shown as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SignerName<'s> {
    /// The identity and the issuer of a certificate.
    Certificate(&'s str, Option<&'s str>),
    /// The fingerprint of a key.
    Key(&'s KeyFingerprint),
}

impl Signer {
    /// Who signed.
    pub fn name(&self) -> SignerName<'_> {
        match self {
            Signer::Certificate(certificate) => {
                SignerName::Certificate(certificate.identity(), certificate.issuer())
            }
            Signer::Key(fingerprint) => SignerName::Key(fingerprint),
        }
    }

    /// The fingerprint of the key that made the signature.
    pub fn key(&self) -> &KeyFingerprint {
        match self {
            Signer::Certificate(certificate) => &certificate.key,
            Signer::Key(fingerprint) => fingerprint,
        }
    }

    /// Whether this is the same key, or a certificate of the same identity with the same claims, except for what differs between two
    /// runs of one pipeline: its key, its commit and its run.
    pub fn is_in_another_run(&self, other: &Signer) -> bool {
        const OF_A_RUN: [Claim; 5] = [
            Claim::BuildSignerDigest,
            Claim::SourceRepositoryDigest,
            Claim::BuildConfigDigest,
            Claim::RunInvocationUri,
            Claim::GithubWorkflowSha,
        ];
        fn claims(it: &CertificateIdentity) -> impl Iterator<Item = (&Claim, &String)> {
            let claims = it.claims.iter();
            claims.filter(|(claim, _)| !OF_A_RUN.contains(claim))
        }
        match (self, other) {
            (Signer::Key(one), Signer::Key(other)) => one == other,
            (Signer::Certificate(one), Signer::Certificate(other)) => {
                (&one.identity, &one.issuer) == (&other.identity, &other.issuer)
                    && claims(one).eq(claims(other))
            }
            _ => false,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Signer::Certificate(certificate) => {
                let claims = certificate.claims.values().chain(&certificate.issuer);
                let claims = claims.map(|text| text.len() + size_of::<(Claim, String)>());
                size_of_val(&**certificate)
                    + certificate.identity.len()
                    + claims.sum::<usize>()
                    + certificate.pipeline.bytes()
            }
            Signer::Key(_) => 0,
        }
    }
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name().fmt(f)
    }
}

impl fmt::Display for SignerName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SignerName::Certificate(identity, Some(issuer)) => {
                write!(f, "`{identity}` (issuer `{issuer}`)")
            }
            SignerName::Certificate(identity, None) => write!(f, "`{identity}` (no issuer)"),
            SignerName::Key(fingerprint) => write!(f, "key `{fingerprint}`"),
        }
    }
}

/// The identity and claims in a Fulcio certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateIdentity {
    identity: String,
    issuer: Option<String>,
    claims: BTreeMap<Claim, String>,
    key: KeyFingerprint,
    pipeline: Pipeline,
}

const FULCIO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1");
/// The type of a subject alternative name that is a user name (private Fulcio instances).
const USER_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.7");
const ISSUER_V1: u32 = 1;
const ISSUER_V2: u32 = 8;

impl CertificateIdentity {
    /// The subject alternative name: an e-mail address, a URI or a user name.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The OIDC issuer that authenticated the identity. Certificates of 2021 do not name one.
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// The claims other than the issuer.
    pub fn claims(&self) -> &BTreeMap<Claim, String> {
        &self.claims
    }

    /// The pipeline that the certificate was issued to.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// The fingerprint of the certificate's key.
    pub fn key(&self) -> &KeyFingerprint {
        &self.key
    }

    /// Reads a certificate. Does not verify it. The deprecated claims (`.1` to `.6`) must agree with the current ones.
    pub(super) fn read(der: &[u8]) -> Result<CertificateIdentity, UnacceptedReason> {
        let malformed = |why: &str| {
            UnacceptedReason::new(unaccepted::MALFORMED, format!("the certificate {why}"))
        };
        let certificate = Certificate::from_der(der).map_err(|_| malformed("does not parse"))?;
        let mut texts: BTreeMap<u32, String> = BTreeMap::new();
        let mut names = Vec::new();
        for extension in certificate.tbs_certificate.extensions.iter().flatten() {
            let value = extension.extn_value.as_bytes();
            if extension.extn_id == SubjectAltName::OID {
                let parsed = SubjectAltName::from_der(value)
                    .map_err(|_| malformed("has a subject alternative name that cannot be read"))?;
                names.extend(parsed.0);
            } else if extension.extn_id.parent() == Some(FULCIO) {
                let Some(number) = extension.extn_id.arcs().last() else {
                    continue;
                };
                let text = if number < 7 {
                    std::str::from_utf8(value)
                        .map_err(|_| malformed("has a claim that is not UTF-8"))?
                } else if number == 7 {
                    continue;
                } else {
                    Utf8StringRef::from_der(value)
                        .map_err(|_| malformed("has a claim that cannot be read"))?
                        .as_str()
                };
                if texts.insert(number, text.to_owned()).is_some() {
                    return Err(malformed("has the same claim twice"));
                }
            }
        }
        let identity = match names.as_slice() {
            [GeneralName::Rfc822Name(email)] => email.as_str().to_owned(),
            [GeneralName::UniformResourceIdentifier(uri)] => uri.as_str().to_owned(),
            [GeneralName::OtherName(name)] if name.type_id == USER_NAME => name
                .value
                .decode_as::<Utf8StringRef<'_>>()
                .map_err(|_| malformed("has a subject alternative name that cannot be read"))?
                .as_str()
                .to_owned(),
            _ => {
                return Err(malformed(
                    "does not have exactly one subject alternative name",
                ));
            }
        };
        let issuer = match (texts.remove(&ISSUER_V2), texts.remove(&ISSUER_V1)) {
            (Some(new), Some(old)) if new != old => {
                return Err(malformed("names two different issuers"));
            }
            (Some(issuer), _) | (None, Some(issuer)) => Some(issuer),
            (None, None) => None,
        };
        // Trigger, commit and ref, each deprecated and current. Name and repository have another form in the current claims.
        for (old, new) in [(2, 20), (3, 13), (6, 14)] {
            if let (Some(old), Some(new)) = (texts.get(&old), texts.get(&new))
                && old != new
            {
                return Err(malformed("has claims that contradict each other"));
            }
        }
        let claims: BTreeMap<_, _> = texts
            .into_iter()
            .filter_map(|(number, text)| Some((Claim::numbered(number)?, text)))
            .collect();
        let spki = certificate.tbs_certificate.subject_public_key_info.to_der();
        let spki = spki.map_err(|_| malformed("has a key that cannot be read"))?;
        Ok(CertificateIdentity {
            pipeline: Pipeline::named_by(&identity, &claims),
            identity,
            issuer,
            claims,
            key: KeyFingerprint::of(&spki),
        })
    }
}

#[cfg(test)]
mod tests {
    use x509_cert::der::Any;
    use x509_cert::der::asn1::{Ia5String, Utf8StringRef};
    use x509_cert::ext::pkix::name::OtherName;

    use super::super::samples::certificate;
    use super::*;

    fn claim(number: u32, text: &str) -> (ObjectIdentifier, Vec<u8>) {
        let value = match number {
            ..7 => text.as_bytes().to_vec(),
            _ => Utf8StringRef::new(text).unwrap().to_der().unwrap(),
        };
        (FULCIO.push_arc(number).unwrap(), value)
    }

    fn named(name: GeneralName) -> (ObjectIdentifier, Vec<u8>) {
        (
            SubjectAltName::OID,
            SubjectAltName(vec![name]).to_der().unwrap(),
        )
    }

    fn mail() -> (ObjectIdentifier, Vec<u8>) {
        named(GeneralName::Rfc822Name(
            Ia5String::new("a@b.example").unwrap(),
        ))
    }

    fn other(type_id: ObjectIdentifier) -> (ObjectIdentifier, Vec<u8>) {
        let value = Any::encode_from(&Utf8StringRef::new("alice").unwrap()).unwrap();
        named(GeneralName::OtherName(OtherName { type_id, value }))
    }

    fn read(
        extensions: &[(ObjectIdentifier, Vec<u8>)],
    ) -> Result<CertificateIdentity, UnacceptedReason> {
        let extensions: Vec<_> = extensions
            .iter()
            .map(|(oid, value)| (*oid, value.as_slice()))
            .collect();
        CertificateIdentity::read(&certificate(&extensions))
    }

    #[test]
    fn a_certificate_has_one_mail_address_uri_or_user_name() {
        let uri = GeneralName::UniformResourceIdentifier(Ia5String::new("https://a/b").unwrap());
        let unknown = FULCIO.push_arc(70).unwrap();
        for (extensions, name) in [
            (vec![mail()], Some("a@b.example")),
            (vec![named(uri)], Some("https://a/b")),
            (vec![other(USER_NAME)], Some("alice")),
            (vec![other(unknown)], None),
            (vec![], None),
            (vec![mail(), other(USER_NAME)], None),
        ] {
            let read = read(&extensions).ok();
            assert_eq!(read.as_ref().map(CertificateIdentity::identity), name);
        }
    }

    #[test]
    fn claims_of_old_and_new_must_agree() {
        for (old, new) in [(ISSUER_V1, ISSUER_V2), (2, 20), (3, 13), (6, 14)] {
            let agreed = [mail(), claim(old, "x"), claim(new, "x")];
            read(&agreed).unwrap();
            let contradicting = [mail(), claim(old, "x"), claim(new, "y")];
            let refused = read(&contradicting).unwrap_err();
            assert_eq!(refused.reason, unaccepted::MALFORMED, "{old} {new}");
        }
        read(&[mail(), claim(9, "x"), claim(9, "x")]).unwrap_err();
    }

    #[test]
    fn either_form_of_the_issuer_names_it() {
        for (claims, issuer) in [
            (vec![claim(ISSUER_V1, "old")], Some("old")),
            (vec![claim(ISSUER_V2, "new")], Some("new")),
            (vec![], None),
        ] {
            let identity = read(&[vec![mail()], claims].concat()).unwrap();
            assert_eq!(identity.issuer(), issuer);
            assert!(identity.claims().is_empty());
        }
    }

    #[test]
    fn the_oid_of_a_name_type_is_no_claim() {
        let odd = (USER_NAME, vec![0xff]);
        assert!(read(&[mail(), odd]).unwrap().claims().is_empty());
    }

    #[test]
    fn a_signer_weighs_about_as_much_as_what_is_known_of_it() {
        let weight = |extensions: &[(ObjectIdentifier, Vec<u8>)]| {
            Signer::Certificate(Box::new(read(extensions).unwrap())).bytes()
        };
        let long = "x".repeat(1000);
        let least = weight(&[mail()]);
        assert!(least > "a@b.example".len());
        for claims in [
            vec![claim(ISSUER_V2, &long)],
            vec![claim(9, &long)],
            vec![claim(9, &long), claim(10, &long)],
        ] {
            let texts = claims.len() * long.len();
            let more = weight(&[vec![mail()], claims].concat()) - least;
            assert!((texts..texts + 200).contains(&more), "{more}");
        }
        let name = Ia5String::new(&long).unwrap();
        let named = weight(&[named(GeneralName::Rfc822Name(name))]) - least;
        assert!((900..1100).contains(&named), "{named}");
    }
}
