//! The accepted signers of a policy, and whether one of them made a verified signature or statement.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::attest::{
    Anchor, CertificateIdentity, Claim, Origin, PublicKey, Signer, SignerName, Transparency,
    TrustRoot, VerifiedTime,
};

use super::distinct::canonical;
use super::glob::{Glob, is_regular_expression, refuse_regular_expression};

/// The trust roots that policies may name.
pub type TrustRoots = BTreeMap<String, Arc<TrustRoot>>;

/// The trust root of a signer that does not name one.
pub const DEFAULT_TRUST_ROOT: &str = "sigstore";

/// A text that must be equal, or match a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matcher {
    /// Equal to this text.
    Exact(String),
    /// Matches this pattern.
    Glob(Glob),
}

impl Matcher {
    /// Whether `text` is accepted.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Matcher::Exact(exact) => exact == text,
            Matcher::Glob(glob) => glob.matches(text),
        }
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Matcher::Exact(exact) => f.write_str(exact),
            Matcher::Glob(glob) => write!(f, "{glob}"),
        }
    }
}

impl<'de> Deserialize<'de> for Matcher {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Matcher, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Wire {
            Exact(String),
            Glob(GlobOnly),
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct GlobOnly {
            glob: String,
        }
        use serde::de::Error;
        match Wire::deserialize(deserializer) {
            Ok(Wire::Exact(exact)) if exact.is_empty() => {
                Err(D::Error::custom("the text is empty"))
            }
            Ok(Wire::Exact(exact)) if is_regular_expression(&exact) => {
                Err(D::Error::custom(refuse_regular_expression(&exact, true)))
            }
            Ok(Wire::Exact(exact)) if exact.contains('*') => Err(D::Error::custom(format!(
                "`{exact}` contains `*` but is compared literally; write `{{glob: \"{exact}\"}}` for a pattern"
            ))),
            Ok(Wire::Exact(exact)) => Ok(Matcher::Exact(exact)),
            Ok(Wire::Glob(GlobOnly { glob })) => Glob::parse(&glob)
                .map(Matcher::Glob)
                .map_err(D::Error::custom),
            Err(_) => Err(D::Error::custom("expected a text or `{glob: \"…\"}`")),
        }
    }
}

impl JsonSchema for Matcher {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Matcher".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let glob = generator.subschema_for::<Glob>();
        schemars::json_schema!({
            "description": "An exact text, or `{glob: pattern}` where `*` stays within a path segment and `**` crosses them.",
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "object", "properties": {"glob": glob}, "required": ["glob"], "additionalProperties": false}
            ]
        })
    }
}

/// An accepted signer: exactly one of `keyless` and `key`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(try_from = "SignerFields")]
#[schemars(with = "SignerFields")]
pub enum AcceptedSigner {
    /// A certificate identity issued by Fulcio.
    Keyless(Arc<KeylessSigner>),
    /// A managed key.
    Key(Arc<KeySigner>),
}

/// The fields of an accepted signer, before validation.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SignerFields {
    /// A certificate identity issued by Fulcio.
    keyless: Option<KeylessSigner>,
    /// A managed key.
    key: Option<KeySigner>,
}

/// A certificate identity, and the issuer that authenticated it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeylessSigner {
    /// The OIDC issuer, such as `https://token.actions.githubusercontent.com`.
    pub issuer: Matcher,
    /// The certificate's subject alternative name: an e-mail address or the URI of a workflow.
    pub identity: Option<Matcher>,
    /// Accept every identity of the issuer. Every user and every workflow that can log in there is then a signer.
    #[serde(default)]
    pub any_identity: bool,
    /// Claims of the certificate that must match too (Fulcio's OIDs), such as `sourceRepository`.
    #[serde(default)]
    pub claims: BTreeMap<Claim, Matcher>,
    /// The trust roots under which the certificate is accepted; `[sigstore]` (the public-good instance) when absent.
    pub trust_roots: Option<Vec<String>>,
    /// The public record that the signature must have; `Log` when absent (`Timestamp` if the trust root does not list a log).
    pub transparency: Option<RequiredTransparency>,
}

/// A managed key.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeySigner {
    /// The public key: PEM, `PUBLIC KEY`; ECDSA P-256, P-384 or P-521, RSA 2048 to 4096, Ed25519.
    pub pem: Pem,
    /// The trust roots whose logs and timestamp authorities are accepted; `[sigstore]` when absent.
    pub trust_roots: Option<Vec<String>>,
    /// The public record that the signature must have; `Timestamp` when absent: a log entry or a timestamp.
    pub transparency: Option<RequiredTransparency>,
}

/// The public record that a signature must have, from strict to lax.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
pub enum RequiredTransparency {
    /// A log entry with an inclusion proof.
    InclusionProof,
    /// A log entry. In the oldest formats, the log's signed promise (SET) is enough.
    Log,
    /// A log entry or a signed timestamp.
    Timestamp,
    /// No log entry and no timestamp. Only for keys.
    None,
}

impl RequiredTransparency {
    /// The requirement of a policy that does not set `transparency`. A certificate needs a log entry if its trust root lists a
    /// log; otherwise a certificate needs a timestamp, and so does a key (a log entry counts as one).
    pub fn by_default(signer: &Signer, has_logs: bool) -> RequiredTransparency {
        match (signer, has_logs) {
            (Signer::Certificate(_), true) => RequiredTransparency::Log,
            (Signer::Certificate(_), false) | (Signer::Key(_), _) => {
                RequiredTransparency::Timestamp
            }
        }
    }

    /// Whether a signature meets the requirement.
    pub fn is_met(self, transparency: Transparency, times: &[VerifiedTime]) -> bool {
        match self {
            RequiredTransparency::InclusionProof => transparency == Transparency::InclusionProof,
            RequiredTransparency::Log => transparency != Transparency::Absent,
            RequiredTransparency::Timestamp => {
                transparency != Transparency::Absent || !times.is_empty()
            }
            RequiredTransparency::None => true,
        }
    }
}

/// A public key in PEM form.
#[derive(Clone, Debug)]
pub struct Pem(pub Arc<PublicKey>);

impl<'de> Deserialize<'de> for Pem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pem, D::Error> {
        let text = String::deserialize(deserializer)?;
        PublicKey::from_pem(&text)
            .map(|key| Pem(Arc::new(key)))
            .map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Pem {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PublicKey".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "minLength": 1})
    }
}

/// Why a verified signature does not count for an accepted signer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mismatch {
    /// Another signer signed.
    OtherSigner,
    /// The accepted signer signed, but without the required log entry or timestamp.
    Transparency,
}

impl TryFrom<SignerFields> for AcceptedSigner {
    type Error = String;

    fn try_from(fields: SignerFields) -> Result<AcceptedSigner, String> {
        AcceptedSigner::one_of(fields.keyless, fields.key)
    }
}

impl AcceptedSigner {
    /// The signer from its fields, of which exactly one must be given.
    ///
    /// # Errors
    /// Why the fields are invalid, as a sentence.
    pub(super) fn one_of(
        keyless: Option<KeylessSigner>,
        key: Option<KeySigner>,
    ) -> Result<AcceptedSigner, String> {
        let signer = match (keyless, key) {
            (Some(keyless), None) => {
                keyless.validate()?;
                AcceptedSigner::Keyless(Arc::new(keyless))
            }
            (None, Some(key)) => AcceptedSigner::Key(Arc::new(key)),
            _ => return Err("expected exactly one of `keyless` and `key`".to_owned()),
        };
        match signer.named_roots() {
            Some([]) => Err(
                "`trustRoots` is empty, so nothing can be accepted; name a trust root or leave the field out"
                    .to_owned(),
            ),
            _ => Ok(signer),
        }
    }

    fn named_roots(&self) -> Option<&[String]> {
        match self {
            AcceptedSigner::Keyless(keyless) => keyless.trust_roots.as_deref(),
            AcceptedSigner::Key(key) => key.trust_roots.as_deref(),
        }
    }

    /// The names of the trust roots under which the signer's signatures are accepted.
    pub fn root_names(&self) -> impl Iterator<Item = &str> {
        let named = self.named_roots();
        let default = named.is_none().then_some(DEFAULT_TRUST_ROOT);
        let named = named.into_iter().flatten().map(String::as_str);
        named.chain(default)
    }

    /// The canonical name of the signer; `None` for a pattern that several signers can match.
    pub(super) fn only(&self) -> Option<String> {
        let identity = match self {
            AcceptedSigner::Key(key) => return Some(format!("key {}", key.pem.0.fingerprint())),
            AcceptedSigner::Keyless(keyless) => keyless.identity.as_ref()?,
        };
        let canonical = canonical(&identity.to_string());
        let many = matches!(identity, Matcher::Glob(_)) && canonical.contains('*');
        (!many).then(|| format!("identity {canonical}"))
    }

    /// The anchors under which this signer's signatures are verified. A trust root that is missing in `roots` gives no anchor.
    pub fn anchors(&self, roots: &TrustRoots) -> impl Iterator<Item = Anchor> {
        let named = self.root_names().filter_map(|name| roots.get(name));
        let under = named.map(move |root| match self {
            AcceptedSigner::Keyless(_) => Anchor::Root(Arc::clone(root)),
            AcceptedSigner::Key(key) => Anchor::Key {
                key: Arc::clone(&key.pem.0),
                root: Some(Arc::clone(root)),
            },
        });
        let alone = match self {
            AcceptedSigner::Key(key) if key.counts_alone() => Some(Anchor::Key {
                key: Arc::clone(&key.pem.0),
                root: None,
            }),
            AcceptedSigner::Keyless(_) | AcceptedSigner::Key(_) => None,
        };
        under.chain(alone)
    }

    /// Whether this may be a signer who is known by name alone: what a name does not say (claims, trust root, public record) counts as
    /// met.
    pub(super) fn may_be(&self, signer: SignerName<'_>) -> bool {
        match (self, signer) {
            (AcceptedSigner::Keyless(keyless), SignerName::Certificate(identity, issuer)) => {
                keyless.names_identity(identity, issuer)
            }
            (AcceptedSigner::Key(key), SignerName::Key(fingerprint)) => {
                key.pem.0.fingerprint() == fingerprint
            }
            _ => false,
        }
    }

    /// Whether this signer made a verified signature, under one of its anchors, with the required log entry or timestamp.
    ///
    /// # Errors
    /// Why the signature does not count for this signer.
    pub fn signed(&self, signature: &Origin, roots: &TrustRoots) -> Result<(), Mismatch> {
        let mut named = self.root_names().filter_map(|name| roots.get(name));
        let anchor = signature.anchor();
        let required = match (self, signature.signer()) {
            (AcceptedSigner::Keyless(keyless), Signer::Certificate(certificate)) => {
                let under = named.any(|root| anchor.is(None, Some(root)));
                if !under || !keyless.names(certificate) {
                    return Err(Mismatch::OtherSigner);
                }
                let by_default =
                    RequiredTransparency::by_default(signature.signer(), signature.has_logs());
                keyless.transparency.unwrap_or(by_default)
            }
            (AcceptedSigner::Key(key), Signer::Key(fingerprint)) => {
                let pem = &key.pem.0;
                let under = named.any(|root| anchor.is(Some(pem), Some(root)))
                    || key.counts_alone() && anchor.is(Some(pem), None);
                if !under || pem.fingerprint() != fingerprint {
                    return Err(Mismatch::OtherSigner);
                }
                key.required()
            }
            _ => return Err(Mismatch::OtherSigner),
        };
        if required.is_met(signature.transparency(), signature.times()) {
            Ok(())
        } else {
            Err(Mismatch::Transparency)
        }
    }
}

impl KeySigner {
    fn required(&self) -> RequiredTransparency {
        self.transparency.unwrap_or(RequiredTransparency::Timestamp)
    }

    /// Whether the key's signatures count without a log entry or timestamp, and so without a trust root.
    fn counts_alone(&self) -> bool {
        self.required() == RequiredTransparency::None
    }
}

impl KeylessSigner {
    fn validate(&self) -> Result<(), String> {
        if self.identity.is_some() == self.any_identity {
            return Err("expected either `identity` or `anyIdentity: true`".to_owned());
        }
        if self.transparency == Some(RequiredTransparency::None) {
            return Err("`transparency: None` is only for keys: without a verified time, a certificate cannot be checked".to_owned());
        }
        Ok(())
    }

    fn names_identity(&self, actual: &str, issuer: Option<&str>) -> bool {
        let identity = self.identity.as_ref();
        issuer.is_some_and(|issuer| self.issuer.matches(issuer))
            && identity.is_none_or(|identity| identity.matches(actual))
    }

    fn names(&self, certificate: &CertificateIdentity) -> bool {
        self.names_identity(certificate.identity(), certificate.issuer())
            && self.claims.iter().all(|(claim, expected)| {
                certificate
                    .claims()
                    .get(claim)
                    .is_some_and(|actual| expected.matches(actual))
            })
    }
}

impl fmt::Display for AcceptedSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AcceptedSigner::Keyless(keyless) => match (&keyless.identity, &keyless.issuer) {
                (Some(identity), issuer) => write!(f, "`{identity}` (issuer `{issuer}`)"),
                (None, issuer) => write!(f, "any identity (issuer `{issuer}`)"),
            },
            AcceptedSigner::Key(key) => write!(f, "key `{}`", key.pem.0.fingerprint()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAELAnTv/BxOPr49JiXj5gMZoWFQj2M
c7nP8rz7VZ6SE8a7D7xRZ8xLDz1rqJ5c4eG3sCkq4nVQvP2d8xTQW6Nq2Q==
-----END PUBLIC KEY-----";

    fn parsed(signer: Value) -> AcceptedSigner {
        serde_json::from_value(signer).unwrap()
    }

    #[test]
    fn a_text_is_compared_literally_and_a_pattern_is_called_that() {
        for (json, matcher) in [
            (json!("a"), Some(Matcher::Exact("a".to_owned()))),
            (
                json!({"glob": "a*"}),
                Some(Matcher::Glob(Glob::parse("a*").unwrap())),
            ),
            (json!(""), None),
            (json!("a*"), None),
            (json!({"glob": ""}), None),
            (json!({"glob": "a", "exact": "a"}), None),
            (json!(7), None),
        ] {
            assert_eq!(serde_json::from_value(json).ok(), matcher);
        }
    }

    #[test]
    fn a_signer_is_shown_by_what_is_compared() {
        let issuer = "https://issuer.example";
        for (keyless, shown) in [
            (
                json!({"issuer": issuer, "identity": "a@b.example"}),
                "`a@b.example` (issuer `https://issuer.example`)",
            ),
            (
                json!({"issuer": {"glob": "https://**"}, "identity": {"glob": "*@b.example"}}),
                "`*@b.example` (issuer `https://**`)",
            ),
            (
                json!({"issuer": issuer, "anyIdentity": true}),
                "any identity (issuer `https://issuer.example`)",
            ),
        ] {
            assert_eq!(parsed(json!({"keyless": keyless})).to_string(), shown);
        }
        let shown = parsed(json!({"key": {"pem": KEY}})).to_string();
        assert!(shown.starts_with("key `sha256:"), "{shown}");
    }

    #[test]
    fn a_key_counts_alone_only_where_nothing_has_to_be_public() {
        for (transparency, alone) in [
            (json!(null), false),
            (json!("InclusionProof"), false),
            (json!("Log"), false),
            (json!("Timestamp"), false),
            (json!("None"), true),
        ] {
            let key = json!({"pem": KEY, "transparency": transparency});
            let signer = parsed(json!({ "key": key }));
            let root = Arc::new(TrustRoot::public_good().unwrap());
            let roots = BTreeMap::from([(DEFAULT_TRUST_ROOT.to_owned(), root)]);
            for (roots, under) in [(roots, 1), (TrustRoots::new(), 0)] {
                let anchors: Vec<_> = signer.anchors(&roots).collect();
                let without = |anchor: &&Anchor| matches!(anchor, Anchor::Key { root: None, .. });
                let found = anchors.iter().filter(without).count();
                assert_eq!(found, usize::from(alone), "{transparency}");
                assert_eq!(anchors.len() - found, under, "{transparency}");
            }
        }
    }
}
