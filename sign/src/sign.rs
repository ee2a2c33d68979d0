//! Signing: the services are asked, the bundle is made, and the gate's own verifier reads it before anybody else does.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use promotion_gate_core::attest::media_type::BUNDLE;
use promotion_gate_core::attest::unaccepted::CERTIFICATE_NOT_VALID_AT_SIGNING;
use promotion_gate_core::attest::{
    Anchor, Material, PublicKey, Signer, TimeSource, TrustRoot, Verified, VerifiedStatement,
    verify, verify_certificate,
};
use promotion_gate_core::gate::Digest;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use url::Url;

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
    /// The first time of this very signature, if a log had an entry of it before. A key of Ed25519 always makes the same signature
    /// of the same statement.
    pub recorded_before: Option<Timestamp>,
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
                let certificate = fulcio::certificate(client, authority, token, &ephemeral).await?;
                // A log keeps what it is sent for good, so that nothing is sent to it under a certificate of somebody else.
                check_certificate(&certificate, &ephemeral, token.identity(), root, now)?;
                SigningMaterial {
                    key: &ephemeral,
                    certificate: Some(certificate),
                }
            }
        };
        let anchor = match identity {
            SigningIdentity::Key(key) => Anchor::Key {
                key: Arc::new(public(key)?),
                root: Some(Arc::clone(root)),
            },
            SigningIdentity::Token(_) => Anchor::Root(Arc::clone(root)),
        };
        // 2. The signature and its timestamps. What a log keeps for good is verified before, as far as it can be.
        let mut bundle = UnfinishedBundle::new(&signing, statement)?;
        for authority in &self.timestamp_authorities {
            bundle.add_timestamp(client, authority).await?;
        }
        if !bundle.stamps.is_empty() && !self.logs.is_empty() {
            let json = bundle.finished().to_string();
            let verified = verified(json.as_bytes(), (statement, subject), &anchor)?;
            check_times(&verified, false, now)?;
        }
        // 3. The entries of the logs.
        for (log, version) in &self.logs {
            bundle.add_entry(client, log, *version).await?;
        }
        // 4. Nothing that a service returned is passed on without being verified.
        let json = bundle.finished().to_string().into_bytes();
        let verified = verified(&json, (statement, subject), &anchor)?;
        if self.has_time && verified.times().is_empty() {
            return Err(not_accepted(""));
        }
        check_times(&verified, bundle.is_repeated, now)?;
        let times = verified.times().iter();
        let first = times.map(|time| time.at).min();
        Ok(SignedBundle {
            json,
            recorded_before: first.filter(|_| bundle.is_repeated),
            statement: verified,
        })
    }
}

/// A signed statement, and what the services said about it so far.
struct UnfinishedBundle<'a> {
    signing: &'a SigningMaterial<'a>,
    signature: Vec<u8>,
    envelope: Value,
    /// What is signed.
    encoded: Vec<u8>,
    stamps: Vec<Value>,
    entries: Vec<Value>,
    /// Whether a log had an entry of this very signature before.
    is_repeated: bool,
}

impl<'a> UnfinishedBundle<'a> {
    fn new(
        signing: &'a SigningMaterial<'a>,
        statement: &[u8],
    ) -> Result<UnfinishedBundle<'a>, SignError> {
        let encoded = pre_authentication_encoding(statement);
        let signature = signing.key.sign(&encoded)?;
        let envelope = json!({
            "payload": STANDARD.encode(statement),
            "payloadType": IN_TOTO,
            "signatures": [{"sig": STANDARD.encode(&signature)}],
        });
        Ok(UnfinishedBundle {
            signing,
            signature,
            envelope,
            encoded,
            stamps: Vec::new(),
            entries: Vec::new(),
            is_repeated: false,
        })
    }

    async fn add_timestamp(
        &mut self,
        client: &dyn ServiceClient,
        authority: &Url,
    ) -> Result<(), SignError> {
        let stamp = timestamp::stamp(client, authority, &self.signature).await?;
        let stamp = json!({"signedTimestamp": STANDARD.encode(stamp)});
        self.stamps.push(stamp);
        Ok(())
    }

    async fn add_entry(
        &mut self,
        client: &dyn ServiceClient,
        log: &Url,
        version: LogVersion,
    ) -> Result<(), SignError> {
        let recorded = Recorded {
            envelope: &self.envelope,
            signature: &self.signature,
            key: self.signing.key,
            certificate: self.signing.certificate.as_deref(),
        };
        let entry = match (version, self.signing.key.hashed(&self.encoded)) {
            (LogVersion::V1, _) => {
                let (entry, existed) = rekor::add_v1(client, log, &recorded).await?;
                self.is_repeated |= existed;
                entry
            }
            (LogVersion::V2, Some(hashed)) => {
                rekor::add_v2(client, log, &recorded, &hashed).await?
            }
            (LogVersion::V2, None) => return Ok(()),
        };
        self.entries.push(entry);
        Ok(())
    }

    fn finished(&self) -> Value {
        let mut material = Map::new();
        match &self.signing.certificate {
            Some(der) => material.insert(
                "certificate".to_owned(),
                json!({"rawBytes": STANDARD.encode(der)}),
            ),
            // The hint of cosign: it finds the key among several by it.
            None => {
                let hint = STANDARD.encode(Sha256::digest(self.signing.key.spki()));
                material.insert("publicKey".to_owned(), json!({"hint": hint}))
            }
        };
        if !self.entries.is_empty() {
            material.insert("tlogEntries".to_owned(), json!(self.entries));
        }
        if !self.stamps.is_empty() {
            let stamps = json!({"rfc3161Timestamps": self.stamps});
            material.insert("timestampVerificationData".to_owned(), stamps);
        }
        json!({
            "mediaType": BUNDLE,
            "verificationMaterial": material,
            "dsseEnvelope": self.envelope,
        })
    }
}

/// The trust root accepts every log entry and timestamp, and their clocks agree with the machine's. The entry of a signature that was
/// recorded before has an earlier time.
fn check_times(
    verified: &VerifiedStatement,
    is_repeated: bool,
    now: Timestamp,
) -> Result<(), SignError> {
    let ignored: Vec<_> = verified.ignored().iter().map(ToString::to_string).collect();
    if !ignored.is_empty() {
        return Err(not_accepted(&format!(" ({})", ignored.join("; "))));
    }
    let off = verified.times().iter().find(|time| {
        let is_earlier = is_repeated && time.by == TimeSource::Log && time.at < now;
        !is_earlier && now.duration_since(time.at).abs() > CLOCKS
    });
    match off {
        Some(time) => Err(SignError::NotVerified(format!(
            "the signature's verified time is {:.0}, and this machine's is {now:.0}; set the machine's clock",
            time.at
        ))),
        None => Ok(()),
    }
}

fn not_accepted(why: &str) -> SignError {
    SignError::NotVerified(format!(
        "the trust root does not accept what the log or the timestamp authority returned{why}; give the `--trust-root` that belongs to the `--signing-config`"
    ))
}

/// The statement in a bundle, if it is exactly the one that was to be signed.
fn verified(
    bundle: &[u8],
    (statement, subject): (&[u8], &Digest),
    anchor: &Anchor,
) -> Result<VerifiedStatement, SignError> {
    let verified = verify(&Material::Bundle(bundle.to_vec()), subject, anchor);
    match verified {
        Ok(Verified::Statement(verified)) if *verified.digest() == Digest::sha256(statement) => {
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

/// The certificate is issued by an authority of the trust root, for the key that will sign, to the bearer of the token.
fn check_certificate(
    der: &[u8],
    key: &SigningKey,
    token: &TokenIdentity,
    root: &TrustRoot,
    now: Timestamp,
) -> Result<(), SignError> {
    let refused = |why: String| {
        SignError::NotVerified(format!(
            "the certificate authority returned a certificate that cannot be used: {why}; nothing was signed or sent to a log"
        ))
    };
    let certificate = verify_certificate(der, root, now, CLOCKS).map_err(|why| {
        let hint = match why.reason == CERTIFICATE_NOT_VALID_AT_SIGNING {
            true => "set the machine's clock",
            false => "give the `--trust-root` that belongs to the `--signing-config`",
        };
        refused(format!("{why}; {hint}"))
    })?;
    if certificate.key() != key.public().fingerprint() {
        return Err(refused("it is for another key".to_owned()));
    }
    let is_other = token.is_email && certificate.identity() != token.name
        || certificate.issuer() != Some(&token.issuer);
    if is_other {
        let signer = Signer::Certificate(Box::new(certificate));
        return Err(refused(format!(
            "it was issued to {signer}, and the token is of `{}` (issuer `{}`)",
            token.name, token.issuer
        )));
    }
    Ok(())
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
