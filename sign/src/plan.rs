//! What will happen, before anything is signed.

use std::fmt;

use jiff::Timestamp;
use promotion_gate_core::attest::KeyFingerprint;
use url::Url;

use crate::client::shown;
use crate::error::SignError;
use crate::key::SigningKey;
use crate::services::{LogVersion, SigningServices};
use crate::token::{IdentityToken, TokenIdentity};

/// Who signs.
pub enum SigningIdentity {
    /// The holder of a key.
    Key(Box<SigningKey>),
    /// The bearer of a token, to whom a certificate is issued.
    Token(Box<IdentityToken>),
}

/// What will happen.
#[derive(Clone, Debug)]
pub struct SigningPlan {
    /// Who will have signed.
    pub signer: PlannedSigner,
    /// What becomes public, or is kept by a service, for good.
    pub publications: Vec<Publication>,
    /// Whether the time of the signature will be proven. Without one an approval does not count.
    pub has_time: bool,
    pub(crate) certificate_authority: Option<Url>,
    pub(crate) logs: Vec<(Url, LogVersion)>,
    pub(crate) timestamp_authorities: Vec<Url>,
}

/// Who will have signed, as far as this is known before a certificate is issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlannedSigner {
    /// The holder of this key.
    Key(KeyFingerprint),
    /// The bearer of a token.
    Identity(TokenIdentity),
}

/// What a service keeps for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The service.
    pub service: String,
    /// What it keeps.
    pub what: &'static str,
    /// The e-mail address in it.
    pub email: Option<String>,
    /// Whether it belongs to the public-good instance, which everybody can read.
    pub is_public: bool,
}

impl SigningPlan {
    /// What will happen if this identity signs with these services.
    ///
    /// # Errors
    /// Why it cannot sign.
    pub fn new(
        services: &SigningServices,
        identity: &SigningIdentity,
        now: Timestamp,
    ) -> Result<SigningPlan, SignError> {
        let mut plan = SigningPlan {
            signer: match identity {
                SigningIdentity::Key(key) => PlannedSigner::Key(key.public().fingerprint().clone()),
                SigningIdentity::Token(token) => {
                    token.check(now)?;
                    PlannedSigner::Identity(token.identity().clone())
                }
            },
            publications: Vec::new(),
            has_time: false,
            certificate_authority: None,
            logs: services.logs.clone(),
            timestamp_authorities: services.timestamp_authorities.clone(),
        };
        let email = match identity {
            SigningIdentity::Key(key) => {
                // A log of version 2 takes hashes alone, and Ed25519 signs the message itself.
                let is_hashed = key.hashed(b"").is_some();
                plan.logs
                    .retain(|(_, version)| is_hashed || *version == LogVersion::V1);
                None
            }
            SigningIdentity::Token(token) => {
                let authority = services.certificate_authority.clone();
                let authority = authority.ok_or_else(|| {
                    let origin = &services.origin;
                    SignError::Unusable(format!(
                        "{origin}: no certificate authority can be used now; sign with `--key`, or give another `--signing-config`"
                    ))
                })?;
                let identity = token.identity();
                let email = identity.is_email.then(|| identity.name.clone());
                let what = "a certificate with your identity, which the authority may write to a log of certificates";
                plan.publications
                    .push(Publication::of(&authority, what, email.clone()));
                plan.certificate_authority = Some(authority);
                email
            }
        };
        for (log, _) in &plan.logs {
            let what = match identity {
                SigningIdentity::Key(_) => {
                    "the signature, its public key and the digest of the statement"
                }
                SigningIdentity::Token(_) => {
                    "the signature, its certificate and the digest of the statement"
                }
            };
            plan.publications
                .push(Publication::of(log, what, email.clone()));
        }
        let times = plan
            .logs
            .iter()
            .any(|(_, version)| *version == LogVersion::V1);
        plan.has_time = times || !plan.timestamp_authorities.is_empty();
        if matches!(identity, SigningIdentity::Token(_)) && !plan.has_time {
            return Err(SignError::Unusable(format!(
                "{}: a certificate is valid for minutes, and no timestamp authority (`tsaUrls`) or log of version 1 can prove that it was valid when it signed",
                services.origin
            )));
        }
        Ok(plan)
    }
}

impl SigningPlan {
    /// Whether a log will have an entry of the signature.
    pub fn is_logged(&self) -> bool {
        !self.logs.is_empty()
    }
}

impl Publication {
    fn of(service: &Url, what: &'static str, email: Option<String>) -> Publication {
        let host = service.host_str().unwrap_or_default();
        Publication {
            service: shown(service),
            what,
            email,
            is_public: host == "sigstore.dev" || host.ends_with(".sigstore.dev"),
        }
    }
}

impl fmt::Display for PlannedSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlannedSigner::Key(key) => write!(f, "key `{key}`"),
            PlannedSigner::Identity(identity) => {
                write!(f, "`{}` (issuer `{}`)", identity.name, identity.issuer)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SignatureAlgorithm};
    use serde_json::{Value, json};

    use super::*;
    use crate::token::tests::token;

    fn now() -> Timestamp {
        Timestamp::from_second(1_000_000).unwrap()
    }

    fn services(fields: Value) -> SigningServices {
        let mut written =
            json!({"mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json"});
        for (name, urls) in fields.as_object().unwrap() {
            let urls = urls.as_array().unwrap().iter();
            let urls =
                urls.map(|it| json!({"url": it[0], "majorApiVersion": it[1], "validFor": {}}));
            written[name] = urls.collect();
        }
        SigningServices::parse("file", written.to_string().as_bytes(), now()).unwrap()
    }

    fn key(algorithm: &'static SignatureAlgorithm) -> SigningIdentity {
        let pair = KeyPair::generate_for(algorithm).unwrap();
        let key = SigningKey::from_pem(&pair.serialize_pem(), || Err(String::new()));
        SigningIdentity::Key(Box::new(key.unwrap()))
    }

    fn person(expires: i64) -> SigningIdentity {
        let claims =
            json!({"iss": "https://i", "sub": "1", "email": "a@b.example", "exp": expires});
        SigningIdentity::Token(Box::new(IdentityToken::parse(&token(&claims)).unwrap()))
    }

    #[test]
    fn a_key_without_a_timestamp_authority_gets_no_time_and_the_plan_says_so() {
        let nothing = services(json!({}));
        let stamped = services(json!({"tsaUrls": [["https://tsa.example/", 1]]}));
        let v1 = services(json!({"rekorTlogUrls": [["https://log.example/", 1]]}));
        let v2 = services(json!({"rekorTlogUrls": [["https://log.example/", 2]]}));
        let p256 = key(&PKCS_ECDSA_P256_SHA256);
        for (services, has_time) in [
            (&nothing, false),
            (&v2, false),
            (&stamped, true),
            (&v1, true),
        ] {
            let plan = SigningPlan::new(services, &p256, now()).unwrap();
            assert_eq!(plan.has_time, has_time, "{services:?}");
        }
        let ed25519 = key(&PKCS_ED25519);
        assert!(
            SigningPlan::new(&v2, &ed25519, now())
                .unwrap()
                .logs
                .is_empty()
        );
        assert_eq!(
            SigningPlan::new(&v1, &ed25519, now()).unwrap().logs.len(),
            1
        );
    }

    #[test]
    fn an_address_that_becomes_public_for_good_is_told_before() {
        let at = Timestamp::from_second(1_800_000_000).unwrap();
        let public = SigningServices::public_good(at).unwrap();
        let plan = SigningPlan::new(&public, &person(1_800_000_600), at).unwrap();
        assert_eq!(plan.publications.len(), 2);
        for publication in &plan.publications {
            assert!(publication.is_public);
            assert_eq!(publication.email.as_deref(), Some("a@b.example"));
        }
        let plan = SigningPlan::new(&public, &key(&PKCS_ECDSA_P256_SHA256), at).unwrap();
        assert!(plan.publications.iter().all(|it| it.email.is_none()));
        let private = services(
            json!({"caUrls": [["https://fulcio.sigstore.dev.example/", 1]],
            "tsaUrls": [["https://tsa.example/", 1]]}),
        );
        let plan = SigningPlan::new(&private, &person(2_000_000), now()).unwrap();
        assert!(plan.publications.iter().all(|it| !it.is_public));
    }

    #[test]
    fn a_token_is_not_used_where_it_expired_or_nothing_can_prove_the_time() {
        let ca = json!({"caUrls": [["https://ca.example/", 1]], "tsaUrls": [["https://tsa.example/", 1]]});
        let expired = SigningPlan::new(&services(ca), &person(999_999), now()).unwrap_err();
        assert!(matches!(expired, SignError::Expired(_)));
        let timeless = services(json!({"caUrls": [["https://ca.example/", 1]]}));
        SigningPlan::new(&timeless, &person(2_000_000), now()).unwrap_err();
        let without = services(json!({"tsaUrls": [["https://tsa.example/", 1]]}));
        let refused = SigningPlan::new(&without, &person(2_000_000), now()).unwrap_err();
        assert!(refused.to_string().contains("--key"), "{refused}");
    }
}
