//! Signing: the services are asked, the bundle is made, and the gate's own verifier reads it before anybody else does.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use promotion_gate_core::attest::media_type::BUNDLE;
use promotion_gate_core::attest::{
    Anchor, Material, PublicKey, Signer, TrustRoot, Verified, VerifiedStatement, verify,
};
use promotion_gate_core::gate::Digest;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::client::ServiceClient;
use crate::error::SignError;
use crate::key::SigningKey;
use crate::plan::{SigningIdentity, SigningPlan};
use crate::rekor::{self, Recorded};
use crate::services::LogVersion;
use crate::statement::{IN_TOTO, pre_authentication_encoding};
use crate::token::TokenIdentity;
use crate::{fulcio, timestamp};

/// How far a verified time may be from the machine's own.
const CLOCKS: SignedDuration = SignedDuration::from_mins(10);

/// A bundle that was verified.
#[derive(Clone, Debug)]
pub struct SignedBundle {
    /// The bundle (v0.3), as JSON.
    pub json: Vec<u8>,
    /// What the gate reads in it.
    pub statement: VerifiedStatement,
}

/// What the signature is made and verified with.
struct SigningMaterial<'a> {
    key: &'a SigningKey,
    certificate: Option<Vec<u8>>,
}

impl SigningPlan {
    /// Signs a statement about an image as planned. `root` is the trust root under which everything that the services return is
    /// verified; `now` is the time at which the signing begins.
    ///
    /// # Errors
    /// Why nothing usable was signed.
    pub async fn sign(
        &self,
        client: &dyn ServiceClient,
        identity: &SigningIdentity,
        (statement, subject): (&[u8], &Digest),
        root: &Arc<TrustRoot>,
        now: Timestamp,
    ) -> Result<SignedBundle, SignError> {
        // 1. The key, and for a token the certificate that binds a new key to its bearer.
        let ephemeral;
        let signing = match identity {
            SigningIdentity::Key(key) => SigningMaterial {
                key,
                certificate: None,
            },
            SigningIdentity::Token(token) => {
                token.check(now)?;
                ephemeral = SigningKey::ephemeral()?;
                let authority = self.certificate_authority.as_ref();
                let authority = authority.ok_or_else(|| {
                    SignError::Unusable("the plan is of a key and not of a token".to_owned())
                })?;
                SigningMaterial {
                    key: &ephemeral,
                    certificate: Some(
                        fulcio::certificate(client, authority, token, &ephemeral).await?,
                    ),
                }
            }
        };
        // 2. The signature and its witnesses.
        let bundle = self.bundle(client, &signing, statement).await?;
        // 3. Nothing that a service returned is passed on without being verified.
        let anchor = match identity {
            SigningIdentity::Key(key) => Anchor::Key {
                key: Arc::new(public(key)?),
                root: Some(Arc::clone(root)),
            },
            SigningIdentity::Token(_) => Anchor::Root(Arc::clone(root)),
        };
        let json = bundle.to_string().into_bytes();
        let verified = verified(&json, (statement, subject), &anchor)?;
        self.check_time(&verified, now)?;
        if let SigningIdentity::Token(token) = identity {
            check_name(&verified, token.identity())?;
        }
        Ok(SignedBundle {
            json,
            statement: verified,
        })
    }

    async fn bundle(
        &self,
        client: &dyn ServiceClient,
        signing: &SigningMaterial<'_>,
        statement: &[u8],
    ) -> Result<Value, SignError> {
        let encoded = pre_authentication_encoding(statement);
        let signature = signing.key.sign(&encoded)?;
        let envelope = json!({
            "payload": STANDARD.encode(statement),
            "payloadType": IN_TOTO,
            "signatures": [{"sig": STANDARD.encode(&signature)}],
        });
        let recorded = Recorded {
            envelope: &envelope,
            signature: &signature,
            key: signing.key,
            certificate: signing.certificate.as_deref(),
        };
        let mut stamps = Vec::new();
        for authority in &self.timestamp_authorities {
            let stamp = timestamp::stamp(client, authority, &signature).await?;
            stamps.push(json!({"signedTimestamp": STANDARD.encode(stamp)}));
        }
        let mut entries = Vec::new();
        for (log, version) in &self.logs {
            entries.push(match (version, signing.key.hashed(&encoded)) {
                (LogVersion::V1, _) => rekor::add_v1(client, log, &recorded).await?,
                (LogVersion::V2, Some(hashed)) => {
                    rekor::add_v2(client, log, &recorded, &hashed).await?
                }
                (LogVersion::V2, None) => continue,
            });
        }
        let mut material = Map::new();
        match &signing.certificate {
            Some(der) => material.insert(
                "certificate".to_owned(),
                json!({"rawBytes": STANDARD.encode(der)}),
            ),
            // The hint of cosign: it finds the key among several by it.
            None => {
                let hint = STANDARD.encode(Sha256::digest(signing.key.spki()));
                material.insert("publicKey".to_owned(), json!({"hint": hint}))
            }
        };
        if !entries.is_empty() {
            material.insert("tlogEntries".to_owned(), json!(entries));
        }
        if !stamps.is_empty() {
            let stamps = json!({"rfc3161Timestamps": stamps});
            material.insert("timestampVerificationData".to_owned(), stamps);
        }
        Ok(json!({
            "mediaType": BUNDLE,
            "verificationMaterial": material,
            "dsseEnvelope": envelope,
        }))
    }

    /// The witnesses that were asked are in the trust root, and their clocks agree with the machine's.
    fn check_time(&self, verified: &VerifiedStatement, now: Timestamp) -> Result<(), SignError> {
        let ignored: Vec<_> = verified.ignored().iter().map(ToString::to_string).collect();
        if self.has_time && verified.times().is_empty() || !ignored.is_empty() {
            return Err(SignError::NotVerified(format!(
                "the trust root does not accept what the log or the timestamp authority returned ({}); give the `--trust-root` that belongs to the `--signing-config`",
                ignored.join("; ")
            )));
        }
        let off = verified
            .times()
            .iter()
            .find(|time| now.duration_since(time.at).abs() > CLOCKS);
        match off {
            Some(time) => Err(SignError::NotVerified(format!(
                "the signature's verified time is {:.0}, and this machine's is {now:.0}; set the machine's clock",
                time.at
            ))),
            None => Ok(()),
        }
    }
}

/// The statement in a bundle, if it is exactly the one that was to be signed.
fn verified(
    bundle: &[u8],
    (statement, subject): (&[u8], &Digest),
    anchor: &Anchor,
) -> Result<VerifiedStatement, SignError> {
    let verified = verify(&Material::Bundle(bundle.to_vec()), subject, anchor);
    match verified {
        Ok(Verified::Statement(verified)) if verified.digest() == Digest::sha256(statement) => {
            Ok(verified)
        }
        Ok(_) => Err(SignError::NotVerified(
            "the bundle holds another statement".to_owned(),
        )),
        Err(why) => Err(SignError::NotVerified(format!(
            "the services signed what the trust root does not accept: {why}; give the `--trust-root` that belongs to the `--signing-config`"
        ))),
    }
}

/// The certificate is of the token's bearer.
fn check_name(verified: &VerifiedStatement, token: &TokenIdentity) -> Result<(), SignError> {
    let Signer::Certificate(certificate) = verified.signer() else {
        return Err(SignError::NotVerified(
            "the signature has no certificate".to_owned(),
        ));
    };
    match !token.is_email || certificate.identity() == token.name {
        true => Ok(()),
        false => Err(SignError::NotVerified(format!(
            "the certificate was issued to {}, and the token is of `{}`",
            verified.signer(),
            token.name
        ))),
    }
}

fn public(key: &SigningKey) -> Result<PublicKey, SignError> {
    PublicKey::from_pem(&key.public_pem())
        .map_err(|why| SignError::Unusable(format!("the key cannot be used: {why}")))
}

#[cfg(test)]
mod tests {
    use futures::future::BoxFuture;
    use serde_json::json;

    use super::*;
    use crate::client::{ServiceAnswer, ServiceRequest};
    use crate::services::SigningServices;
    use crate::token::IdentityToken;
    use crate::token::tests::token;

    /// Services that must not be asked.
    struct Silent;

    impl ServiceClient for Silent {
        fn exchange<'a>(
            &'a self,
            request: ServiceRequest<'a>,
        ) -> BoxFuture<'a, Result<ServiceAnswer, String>> {
            panic!("{} is asked", request.url)
        }
    }

    #[tokio::test]
    async fn a_token_that_expires_after_it_was_shown_signs_nothing() {
        let shown = Timestamp::from_second(1_800_000_000).unwrap();
        let services = SigningServices::public_good(shown).unwrap();
        let claims =
            json!({"iss": "https://i", "sub": "1", "email": "a@b.example", "exp": 1_800_000_060});
        let identity = IdentityToken::parse(&token(&claims)).unwrap();
        let identity = SigningIdentity::Token(Box::new(identity));
        let plan = SigningPlan::new(&services, &identity, shown).unwrap();
        let later = Timestamp::from_second(1_800_000_060).unwrap();
        let root = Arc::new(TrustRoot::public_good().unwrap());
        let what: (&[u8], &Digest) = (b"{}", &Digest::sha256(b"image"));
        let signed = plan.sign(&Silent, &identity, what, &root, later).await;
        assert!(matches!(signed, Err(SignError::Expired(_))));
    }
}
